package example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;

/** The probe in Java on the official runtime client; probe.py says what it answers. */
public class Probe implements RequestHandler<Map<String, Object>, Object> {
    private static final String INSTANCE = UUID.randomUUID().toString();
    private static int count = 0;

    static {
        String init = System.getenv("PROBE_INIT");
        if ("fail".equals(init)) throw new IllegalStateException("the probe was told to fail");
        if ("exit".equals(init)) Runtime.getRuntime().halt(7);
        if ("hang".equals(init)) pause(600_000);
    }

    @Override
    public Object handleRequest(Map<String, Object> event, Context context) {
        count += 1;
        switch ((String) event.get("do")) {
            case "echo": return event.get("value");
            case "context": return describe(context);
            case "env": return environment(event);
            case "fail": throw new IllegalArgumentException((String) event.get("message"));
            case "make": return "x".repeat((Integer) event.get("bytes"));
            case "measure": return Map.of("length", ((String) event.get("value")).length());
            case "sleep": pause((Integer) event.get("ms")); return Map.of("slept", event.get("ms"), "id", INSTANCE);
            case "hold": return Map.of("id", INSTANCE, "gate", fetch((String) event.get("url")));
            case "exit": Runtime.getRuntime().halt((Integer) event.get("code")); return null;
            case "log": ((List<?>) event.get("lines")).forEach(System.out::println); return null;
            case "count": return counted();
            case "instance": return Map.of("id", INSTANCE, "count", count);
            default: throw new IllegalArgumentException("unknown action " + event.get("do"));
        }
    }

    private static volatile Thread counting;
    private static volatile int counted;

    /** How often its background has run, every 10 ms or so, since this was asked first. */
    private static synchronized int counted() {
        if (counting == null) {
            counting = new Thread(() -> {
                while (true) {
                    counted += 1;
                    pause(10);
                }
            }, "counting");
            counting.setDaemon(true);
            counting.start();
        }
        return counted;
    }

    private static String fetch(String url) {
        try (var answer = URI.create(url).toURL().openStream()) {
            return new String(answer.readAllBytes());
        } catch (IOException broken) {
            throw new UncheckedIOException(broken);
        }
    }

    private static Map<String, Object> describe(Context context) {
        Map<String, Object> said = new HashMap<>();
        said.put("request_id", context.getAwsRequestId());
        said.put("arn", context.getInvokedFunctionArn());
        said.put("function", context.getFunctionName());
        said.put("version", context.getFunctionVersion());
        said.put("memory", context.getMemoryLimitInMB());
        said.put("log_group", context.getLogGroupName());
        said.put("log_stream", context.getLogStreamName());
        said.put("remaining_ms", context.getRemainingTimeInMillis());
        said.put("custom", context.getClientContext() == null ? null : context.getClientContext().getCustom());
        return said;
    }

    private static Map<String, Object> environment(Map<String, Object> event) {
        Map<String, Object> found = new HashMap<>();
        ((List<?>) event.get("names")).forEach(name -> found.put((String) name, System.getenv((String) name)));
        return found;
    }

    private static void pause(int millis) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
