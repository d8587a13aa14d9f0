"""A gate: functions ask it by HTTP and stay busy until the test opens it. So tests need no sleeps.

All gates of a test process are behind one address on the loopback, which the servers under test name as an endpoint:
functions reach nothing else there.
"""

import functools
import http.server
import itertools
import threading

gates = {}
numbers = itertools.count(1)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        gate = gates.get(self.path)
        if gate:
            gate.arrived.release()
            gate.opened.wait(gate.seconds)
        self.send_response(200 if gate else 404)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"open" if gate else b"gone")

    def log_message(self, *_):
        pass


class Keeper(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@functools.cache
def address():
    """The address of all gates: http://127.0.0.1:PORT."""
    server = Keeper(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


class Gate:
    """Holds every GET of its `url` until `open()`; counts who waits."""

    def __init__(self, seconds=60):
        self.arrived = threading.Semaphore(0)
        self.opened = threading.Event()
        self.seconds = seconds
        self.path = f"/gate/{next(numbers)}"
        self.url = address() + self.path
        gates[self.path] = self

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
        del gates[self.path]
