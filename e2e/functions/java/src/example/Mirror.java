package example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.ServiceLoader;
import java.util.TimeZone;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;

/** A function that looks at itself, from its initialisation and from its handler. */
public class Mirror implements RequestHandler<Map<String, Object>, Map<String, Object>> {
    private static final Map<String, Object> WHEN_INITIALISED = look();

    @Override
    public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
        if ("random".equals(event.get("do"))) return random();
        if ("eat".equals(event.get("do"))) return Map.of("eaten", eat());
        Map<String, Object> seen = new TreeMap<>(look());
        seen.put("initialised", WHEN_INITIALISED);
        return seen;
    }

    private static Map<String, Object> look() {
        Map<String, Object> seen = new TreeMap<>();
        seen.put("variables", new TreeMap<>(System.getenv()));
        seen.put("a child's", lines("/usr/bin/env"));
        seen.put("a native program's", lines("/bin/sh", "-c", "echo $COLOUR $_HANDLER $TZ"));
        Map<String, String> properties = new TreeMap<>();
        System.getProperties().forEach((name, value) -> properties.put((String) name, (String) value));
        seen.put("properties", properties);
        seen.put("files in /tmp", names("/tmp"));
        seen.put("files open", links("/proc/self/fd"));
        seen.put("folder", Path.of("").toAbsolutePath() + " " + new File("a").getAbsolutePath() + " " + link("/proc/self/cwd"));
        seen.put("time zone", TimeZone.getDefault().getID());
        seen.put("charset", java.nio.charset.Charset.defaultCharset().name());
        seen.put("locale", java.util.Locale.getDefault().toString());
        seen.put("pid", ProcessHandle.current().pid());
        seen.put("user", lines("/usr/bin/id", "-u") + " " + lines("/usr/bin/id", "-g"));
        List<String> threads = new ArrayList<>();
        Thread.getAllStackTraces().keySet().forEach(thread -> threads.add(thread.getName()));
        threads.removeIf(name -> name.contains("process reaper"));
        Collections.sort(threads);
        seen.put("threads", threads);
        seen.put("class loader", Mirror.class.getClassLoader().getClass().getName());
        seen.put("context class loader", Thread.currentThread().getContextClassLoader().getClass().getName());
        seen.put("its parent", Thread.currentThread().getContextClassLoader().getParent().getClass().getName());
        seen.put("a library's class loader", org.joda.time.DateTime.class.getClassLoader().getClass().getName());
        seen.put("code source", Mirror.class.getProtectionDomain().getCodeSource().getLocation().toString());
        seen.put("a library's code source", org.joda.time.DateTime.class.getProtectionDomain().getCodeSource().getLocation().toString());
        seen.put("an event's code source", com.amazonaws.services.lambda.runtime.events.SQSEvent.class.getProtectionDomain().getCodeSource().getLocation().toString());
        seen.put("resource", String.valueOf(Mirror.class.getResource("/words.txt")));
        seen.put("system resource", String.valueOf(ClassLoader.getSystemResource("words.txt")));
        seen.put("resource in a jar", String.valueOf(Thread.currentThread().getContextClassLoader().getResource("in/jar.txt")));
        seen.put("resource in a jar beside", String.valueOf(ClassLoader.getSystemResource("beside/jar.txt")));
        List<String> services = new ArrayList<>();
        ServiceLoader.load(java.util.function.Supplier.class).forEach(one -> services.add((String) one.get()));
        seen.put("services", services);
        seen.put("package", String.valueOf(Mirror.class.getPackage()));
        return seen;
    }

    /** What no two instances may have in common. */
    private static Map<String, Object> random() {
        Map<String, Object> drawn = new TreeMap<>();
        drawn.put("UUID", UUID.randomUUID().toString());
        drawn.put("SecureRandom", new SecureRandom().nextLong());
        drawn.put("Math.random", Math.random());
        drawn.put("Random", new java.util.Random().nextLong());
        drawn.put("ThreadLocalRandom", ThreadLocalRandom.current().nextLong());
        drawn.put("SplittableRandom", new java.util.SplittableRandom().nextLong());
        // A set begins at a place and runs in a direction that each JVM draws when it boots: with this many
        // elements two JVMs that drew for themselves agree once in more than a hundred thousand times.
        List<Integer> elements = new ArrayList<>();
        for (int n = 0; n < 200_000; n++) elements.add(n * 0x9E3779B1);
        var order = java.util.Set.copyOf(elements).iterator();
        drawn.put("order of a set", order.next() + ", " + order.next());
        return drawn;
    }

    private static int eat() {
        List<byte[]> eaten = new ArrayList<>();
        while (true) eaten.add(new byte[1 << 20]);
    }

    private static List<String> lines(String... command) {
        try {
            Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
            process.getOutputStream().close();
            process.getErrorStream().close();
            try (InputStream output = process.getInputStream()) {
                List<String> lines = new ArrayList<>(Arrays.asList(new String(output.readAllBytes()).split("\n")));
                Collections.sort(lines);
                return lines;
            }
        } catch (IOException broken) {
            throw new UncheckedIOException(broken);
        }
    }

    private static List<String> names(String folder) {
        String[] names = new File(folder).list();
        Arrays.sort(names);
        return Arrays.asList(names);
    }

    private static List<String> links(String folder) {
        List<String> links = new ArrayList<>();
        for (String name : names(folder)) links.add(link(folder + "/" + name));
        Collections.sort(links);
        return links;
    }

    private static String link(String path) {
        try {
            return Files.readSymbolicLink(Path.of(path)).toString().replaceAll("\\[[0-9]+\\]", "");
        } catch (IOException gone) {
            return "gone";
        }
    }
}
