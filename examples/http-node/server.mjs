// A web server as any other: it listens on $PORT, and many requests may come at once.
import { createServer } from "node:http";
import { json } from "node:stream/consumers";

const server = createServer(async (request, response) => {
  const answer = (value) => response.setHeader("content-type", "application/json").end(JSON.stringify(value));
  if (request.method !== "POST") return answer({ message: `Hello from ${request.url}` });
  const event = await json(request); // also how an event of `brooklet invoke` arrives
  return answer({ message: `Hello, ${event.name ?? "world"}!` });
});

server.listen(Number(process.env.PORT), "127.0.0.1");
