"""A web server as any other: it listens on $PORT, and several requests may come at once."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    request_queue_size = 128


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer({"message": f"Hello from {self.path}"})

    def do_POST(self):  # also how an event of `brooklet invoke` arrives
        event = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        self.answer({"message": f"Hello, {event.get('name', 'world')}!"})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
