package bench;

/** The yardstick: what a JVM takes to start, say hello and end. */
public class Bare {
    public static void main(String[] arguments) {
        System.out.println("hello");
    }
}
