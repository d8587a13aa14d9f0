"""A gate: functions ask it by HTTP and stay busy until the test opens it. So tests need no sleeps."""

import http.server
import threading


class Gate:
    """Holds every GET of its `url` until `open()`; counts who waits."""

    def __init__(self, seconds=60):
        self.arrived = threading.Semaphore(0)
        self.opened = threading.Event()
        gate = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                gate.arrived.release()
                gate.opened.wait(seconds)
                self.send_response(200)
                self.send_header("Content-Length", "4")
                self.end_headers()
                self.wfile.write(b"open")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/gate"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait_for(self, count=1, seconds=30):
        """Waits until `count` more requests stand before the gate."""
        for n in range(count):
            assert self.arrived.acquire(timeout=seconds), f"only {n} of {count} came to the gate in {seconds} s"

    def open(self):
        """Lets everyone through, now and later."""
        self.opened.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.opened.set()
        self.server.shutdown()
        self.server.server_close()
