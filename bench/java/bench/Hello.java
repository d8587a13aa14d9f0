package bench;

import com.amazonaws.services.lambda.runtime.Context;
import java.io.InputStream;
import java.io.OutputStream;

/** Answers at once. */
public class Hello {
    public void handle(InputStream event, OutputStream answer, Context context) throws java.io.IOException {
        answer.write("\"hello\"".getBytes());
    }
}
