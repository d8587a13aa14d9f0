package example;

import java.util.function.Supplier;

/** Found by name in META-INF. */
public class Service implements Supplier<String> {
    @Override
    public String get() {
        return "found";
    }
}
