package brooklet;

import com.amazonaws.services.lambda.runtime.api.client.AWSLambda;
import java.io.File;
import java.util.Arrays;

/**
 * A JVM that is started before anybody knows for which function: it plays through what every start does, waits to be told,
 * and then runs the official runtime client as if it had been started for that function.
 */
public final class Stem {
    /** What client and JDK keep of the variables, or of a function, once they have been initialised. */
    private static final String[] OF_A_FUNCTION = {
        "java.lang.ProcessEnvironment",
        "com.amazonaws.services.lambda.runtime.api.client.LambdaEnvironment",
        "com.amazonaws.services.lambda.runtime.api.client.PojoSerializerLoader",
        "com.amazonaws.services.lambda.runtime.api.client.EventHandlerLoader",
        "com.amazonaws.services.lambda.runtime.api.client.AWSLambda",
    };

    public static void main(String[] arguments) throws Throwable {
        System.load("/var/runtime/jvm.so");
        Class<?>[] learned = new Class<?>[OF_A_FUNCTION.length];
        Rehearsal.play();
        for (int at = 0; at < learned.length; at++) learned[at] = Class.forName(OF_A_FUNCTION[at]);
        if (arguments.length > 0) {
            Rehearsal.play(learned);
            return;
        }
        System.gc();
        String classPath = becomeInstance();
        for (Class<?> each : learned) forget(each);
        ClassLoader loader = ClassLoader.getSystemClassLoader();
        StringBuilder whole = new StringBuilder(System.getProperty("java.class.path"));
        for (String entry : classPath.split(":")) {
            for (String one : entry.endsWith("/*") ? jars(entry.substring(0, entry.length() - 2)) : new String[] {entry}) {
                append(loader, one);
                whole.append(':').append(one);
            }
        }
        System.setProperty("java.class.path", whole.toString());
        AWSLambda.main(new String[] {System.getenv("_HANDLER")});
    }

    private static String[] jars(String folder) {
        String[] names = new File(folder).list();
        if (names == null) return new String[0];
        Arrays.sort(names);
        int count = 0;
        for (String name : names) {
            if (name.endsWith(".jar")) names[count++] = folder + '/' + name;
        }
        return Arrays.copyOf(names, count);
    }

    /** Waits until it is known for which function, and becomes that one's process; its class path. */
    private static native String becomeInstance();

    /** Adds to the class path. */
    private static native void append(ClassLoader loader, String path);

    /** Initialises a class once more. */
    static native void forget(Class<?> initialised);

    /** The only variable from now on is that by which a Runtime API is found, at a port of the loopback. */
    static native void pretend(int port);
}
