// A web server as any other: it listens on $PORT, and many requests may come at once.
import { createServer } from "node:http";

const server = createServer((request, response) => {
  response.setHeader("content-type", "text/plain; charset=utf-8");
  response.end(`Hello from ${request.url}\n`);
});

server.listen(Number(process.env.PORT), "127.0.0.1");
