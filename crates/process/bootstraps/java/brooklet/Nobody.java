package brooklet;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.util.Map;

/** Functions that are nobody's. */
public final class Nobody implements RequestHandler<Map<String, Object>, Object> {
    /** Whether the next event is the last. */
    static volatile boolean over;

    @Override
    public Object handleRequest(Map<String, Object> event, Context context) {
        end();
        return event;
    }

    /** The client leaves its loop after an error of the JVM. */
    static void end() {
        if (over) throw new InternalError("over");
    }

    /** One that is given bytes. */
    public static final class Stream {
        public void handle(InputStream event, OutputStream answer, Context context) throws IOException {
            end();
            answer.write("null".getBytes());
        }
    }
}
