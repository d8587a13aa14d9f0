package brooklet;

import com.amazonaws.services.lambda.runtime.api.client.AWSLambda;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.Properties;
import java.util.TimeZone;

/** What a start does for the first time, done before: the official client runs for functions that are nobody's. */
final class Rehearsal {
    private static final String[] HANDLERS = {"brooklet.Nobody$Stream::handle", "brooklet.Nobody"};
    private static final String EVENT = "{\"a\":[1,true,null,\"b\"]}";

    /** Of what is left, the client and the JDK know; {@link Stem} has them forget it, as they do here what they have
     * {@code learned} before. */
    static void play(Class<?>... learned) throws Exception {
        PrintStream out = System.out;
        PrintStream err = System.err;
        Thread thread = Thread.currentThread();
        ClassLoader loader = thread.getContextClassLoader();
        Properties before = (Properties) System.getProperties().clone();
        PrintStream nowhere = new PrintStream(new Nowhere());
        System.setOut(nowhere);
        System.setErr(nowhere);
        try (ServerSocket door = new ServerSocket(0, 2, InetAddress.getLoopbackAddress())) {
            Stem.pretend(door.getLocalPort());
            for (Class<?> each : learned) Stem.forget(each);
            for (String handler : HANDLERS) {
                Thread api = new Thread(() -> serve(door), "runtime-api");
                api.start();
                try {
                    AWSLambda.main(new String[] {handler});
                } catch (Throwable over) {
                    throw new IllegalStateException(over);
                }
                api.join();
            }
        } finally {
            System.setOut(out);
            System.setErr(err);
            thread.setContextClassLoader(loader);
            // Which is asked of the variables when it is first needed.
            TimeZone.setDefault(null);
            Properties now = System.getProperties();
            now.keySet().retainAll(before.keySet());
            now.putAll(before);
        }
    }

    /** Where lines go that are nobody's. */
    private static final class Nowhere extends OutputStream {
        @Override
        public void write(int octet) { }

        @Override
        public void write(byte[] bytes, int from, int count) { }
    }

    /** The Runtime API for two events: one that is answered, and one that the function ends with. */
    private static void serve(ServerSocket door) {
        try (Socket client = door.accept()) {
            Nobody.over = false;
            answer(client, event("keep-alive"));
            answer(client, "202 Accepted\r\nContent-Length: 0\r\n\r\n");
            Nobody.over = true;
            // The client never closes a connection by itself.
            answer(client, event("close"));
            try (Socket other = door.accept()) {
                answer(other, "202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            }
        } catch (IOException gone) {
            // The client has.
        }
    }

    private static String event(String connection) {
        return "200 OK\r\nConnection: " + connection + "\r\nLambda-Runtime-Aws-Request-Id: 00000000-0000-0000-0000-000000000000\r\n"
            + "Lambda-Runtime-Deadline-Ms: 1\r\n"
            + "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:nobody\r\n"
            + "Lambda-Runtime-Trace-Id: Root=1-00000000-000000000000000000000000;Parent=0000000000000000;Sampled=0\r\n"
            + "Content-Type: application/json\r\nContent-Length: " + EVENT.length() + "\r\n\r\n" + EVENT;
    }

    /** Reads a request and answers it. */
    private static void answer(Socket client, String answer) throws IOException {
        client.setTcpNoDelay(true);
        InputStream from = client.getInputStream();
        StringBuilder head = new StringBuilder();
        while (head.indexOf("\r\n\r\n") < 0) {
            int read = from.read();
            if (read < 0) return;
            head.append((char) read);
        }
        int at = head.toString().toLowerCase().indexOf("content-length:");
        int left = at < 0 ? 0 : Integer.parseInt(head.substring(at + 15, head.indexOf("\r", at)).trim());
        while (left-- > 0 && from.read() >= 0) { }
        OutputStream to = client.getOutputStream();
        to.write(("HTTP/1.1 " + answer).getBytes(StandardCharsets.US_ASCII));
    }
}
