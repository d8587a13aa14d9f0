"""The official runtime clients as oracles: the same cases run on them, through a Runtime API of the test's own and
the log descriptor that Lambda gives them. `Official` has the interface of `transport.Instance`."""

import base64
import http.server
import json
import os
import queue
import select
import struct
import subprocess
import threading
import time

from transport import ARN, ENVIRONMENT, PATIENCE, Ended


class Official:
    """An official client's process, as frames: what it answers appears as if it had come over our transport."""

    def __init__(self, command, folder, handler, environment=None):
        self.frames = []
        self._events, self._replies = queue.Queue(), queue.Queue()
        self._server = _Server(("127.0.0.1", 0), _Endpoint)
        self._server.official = self
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self._log, writer = os.pipe()
        env = dict(ENVIRONMENT, LAMBDA_TASK_ROOT=str(folder), _HANDLER=handler, **environment or {})
        env["AWS_LAMBDA_RUNTIME_API"] = "127.0.0.1:%d" % self._server.server_address[1]
        env["_LAMBDA_TELEMETRY_LOG_FD"] = str(writer)
        self.process = subprocess.Popen(
            command + [handler],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[writer],
        )
        os.close(writer)
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._events.put(None)
        self._server.shutdown()
        self._server.server_close()
        os.close(self._log)
        self.process.stdout.close()
        self.process.stderr.close()

    def send(self, event, **meta):
        headers = {
            "Lambda-Runtime-Aws-Request-Id": meta.get("id", "id-1"),
            "Lambda-Runtime-Deadline-Ms": str(meta.get("deadline", int(time.time() * 1000) + 30000)),
            "Lambda-Runtime-Invoked-Function-Arn": meta.get("arn", ARN),
            "Lambda-Runtime-Trace-Id": meta.get("trace", "Root=1-5bef4de7"),
        }
        if meta.get("client"):
            headers["Lambda-Runtime-Client-Context"] = meta["client"]
        if meta.get("identity"):
            headers["Lambda-Runtime-Cognito-Identity"] = meta["identity"]
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        self._events.put((headers, body))

    def receive_until(self, kinds):
        deadline = time.monotonic() + PATIENCE
        while True:
            reply = self._replies.get(timeout=max(0.01, deadline - time.monotonic()))
            if reply is None:
                self._replies.put(None)
                raise Ended
            self.frames.append(reply)
            if reply[0] in kinds:
                return reply

    def invoke(self, event=None, **meta):
        self.send(event, **meta)
        kind, _, body = self.receive_until("AE")
        return kind, json.loads(body)

    def logs(self):
        data = b""
        while select.select([self._log], [], [], 0)[0]:
            more = os.read(self._log, 1 << 20)
            if not more:
                break
            data += more
        found = []
        while data:
            size = struct.unpack(">I", data[4:8])[0]
            found.append(data[16 : 16 + size].decode().rstrip("\n"))
            data = data[16 + size :]
        return found

    def wait(self):
        try:
            self.receive_until("")
        except Ended:
            pass
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out.decode(), err.decode()

    def _watch(self):
        self.process.wait()
        self._replies.put(None)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # a client that ends in the middle of a request is part of many tests


class _Endpoint(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        official = self.server.official
        official._replies.put(("R", "", b""))
        event = official._events.get()
        if event is None:
            return
        headers, body = event
        self._answer(200, headers, body)

    def do_POST(self):
        body, trailers = self._body()
        mode = self.headers.get("Lambda-Runtime-Function-Response-Mode")
        put = self.server.official._replies.put
        if self.path.endswith("/init/error"):
            put(("X", "", body))
        elif self.path.endswith("/error"):
            put(("E", "", body))
        elif mode == "streaming":
            put(("S", self.headers["Content-Type"], b""))
            if body:
                put(("C", "", body))
            error = trailers.get("lambda-runtime-function-error-body")
            put(("F", "", base64.b64decode(error)) if error else ("Z", "", b""))
        else:
            put(("A", "", body))
        self._answer(202, {}, b'{"status":"OK"}')

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0)), {}
        body = b""
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            if size == 0:
                break
            body += self.rfile.read(size)
            self.rfile.readline()
        trailers = {}
        for line in iter(self.rfile.readline, b"\r\n"):
            name, _, value = line.decode().partition(":")
            trailers[name.strip().lower()] = value.strip()
        return body, trailers

    def _answer(self, status, headers, body):
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            pass  # the process ended meanwhile

    def log_message(self, *_):
        pass
