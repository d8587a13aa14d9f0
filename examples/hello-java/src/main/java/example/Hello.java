package example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.Map;

/** Answers with a greeting. */
public class Hello implements RequestHandler<Map<String, String>, Map<String, String>> {
    @Override
    public Map<String, String> handleRequest(Map<String, String> event, Context context) {
        String name = event.getOrDefault("name", "world");
        System.out.println("greeting " + name);
        return Map.of("message", "Hello, " + name + "!", "request", context.getAwsRequestId());
    }
}
