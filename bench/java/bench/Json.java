package bench;

import com.amazonaws.services.lambda.runtime.Context;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.InputStream;
import java.io.OutputStream;
import java.util.List;

/** What functions usually do first: read JSON into objects of theirs with Jackson, and write some. */
public class Json {
    public record Item(String name, int count) {}

    public record Order(String id, List<Item> items) {}

    private static final ObjectMapper MAPPER = new ObjectMapper();

    public void handle(InputStream event, OutputStream answer, Context context) throws java.io.IOException {
        Order order = MAPPER.readValue("{\"id\": \"a\", \"items\": [{\"name\": \"b\", \"count\": 2}]}", Order.class);
        MAPPER.writeValue(answer, order);
    }
}
