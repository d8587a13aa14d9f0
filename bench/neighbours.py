"""What a function's callers notice of three other functions that take all they can get: the 99th percentile of its
latency with them, against that without, of all requests of rounds that alternate.

Its requests come one by one at a steady pace, so that it needs less than its share of the processors: that it can have
more than that while others want it too is nobody's promise. The pace varies by a quarter, always in the same way: many
kernels look every 4 ms who has had his turn, and whoever called in step with that would meet one moment of it only.

The load generator comes before everything else on the machine, because a caller elsewhere does not have to wait for a
processor of this one: by a real-time policy, since a priority among other programs would go to all of this session, the
server included.
"""

import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import socket
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
MIXED = ["cpu", "memory", "log"]
BEFORE = 0.5  # s, from the first call of the bombs to the load
PACE = 1 / 250  # s, between two requests in the mean


class Bomb:
    """A function that is called again whenever it has ended, until its time is over."""

    def __init__(self, server, name, runtime, package):
        self.server, self.name, self.changes = server, name, 0
        server.deploy(name, runtime, "bomb.handler", package, Timeout=60)

    def run(self, kind, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.05:
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
            body = json.dumps({"bomb": kind, "seconds": left})
            connection.request("POST", f"/2015-03-31/functions/{self.name}/invocations", body)
            connection.getresponse().read()
            connection.close()

    def retire(self):
        """Ends what it has left running."""
        self.changes += 1
        changed = {"Timeout": 60 - self.changes % 2}
        self.server.call("PUT", f"/2015-03-31/functions/{self.name}/configuration", changed)


def neighbours(tools, scratch, options, bench):
    """Fills the table; `bench` is the module that knows servers, packages and tables."""
    python = f"python3.{sys.version_info.minor}"
    functions = {
        "Python": (python, "app.handler", bench.package("app.py", HERE / "functions/app.py")),
        "Rust": ("provided.al2023", "bootstrap", bench.package("bootstrap", tools / "function", 0o755)),
    }
    rows, worst = [], dict.fromkeys(functions, 0.0)
    with bench.Brooklet(scratch / "neighbours") as server, concurrent.futures.ThreadPoolExecutor(3) as pool:
        package = bench.package("bomb.py", HERE / "functions/bomb.py")
        bombs = [Bomb(server, f"bomb-{n}", python, package) for n in range(3)]
        for language, (runtime, handler, code) in functions.items():
            server.deploy(language.lower(), runtime, handler, code)
        try:
            # Not for the threads that call the bombs.
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        except OSError:
            print("(not root: the load generator has to share the processors with what it loads)\n")
        try:
            for name in options.bombs.split(","):
                kinds = MIXED if name == "mixed" else [name] * 3
                for language, taken in measure(server, options, pool, bombs, kinds, functions).items():
                    # Of all rounds together: one has too few requests for a 99th percentile that could be compared.
                    (p50, p99), (p50_beside, p99_beside) = map(percentiles, taken)
                    ratio = p99_beside / p99
                    worst[language] = max(worst[language], ratio)
                    figures = [f"{micros:,.0f}" for micros in (p50, p50_beside, p99, p99_beside)]
                    rows.append([" + ".join(kinds) if name == "mixed" else f"3 × {name}", language, *figures, f"{ratio:.1f}"])
        finally:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    print(f"### A function beside three that take all they can get, {1 / PACE:.0f} requests a second\n")
    bench.table(["beside", "function", "p50 µs alone", "p50 with", "p99 µs alone", "p99 with", "× p99"], rows)
    for language, ratio in worst.items():
        bench.goal(f"{language} function beside bombs, × its p99 alone, the worst kind", ratio, "≤", 2)


def measure(server, options, pool, bombs, kinds, functions):
    """Language -> how long each request took, in seconds, alone and beside the bombs."""
    rounds = {language: ([], []) for language in functions}
    for _ in range(options.rounds):
        for language, (alone, beside) in rounds.items():
            load(server.port, function(language), 0.5)  # it is there, and warm
            alone.extend(load(server.port, function(language), options.seconds))
            lasting = BEFORE + options.seconds + 0.2
            running = [pool.submit(bomb.run, kind, lasting) for bomb, kind in zip(bombs, kinds, strict=True)]
            time.sleep(BEFORE)
            beside.extend(load(server.port, function(language), options.seconds))
            for one in running:
                one.result()
            for bomb in bombs:
                bomb.retire()
            time.sleep(0.5)
    return rounds


def function(language):
    """Where it is invoked."""
    return f"/2015-03-31/functions/{language.lower()}/invocations"


def percentiles(taken):
    """The 50th and the 99th of these times, in µs."""
    cuts = statistics.quantiles(taken, n=100)
    return cuts[49] * 1e6, cuts[98] * 1e6


def load(port, path, seconds):
    """Requests over one connection, whether the last one was quick or not; what each took, in seconds, from when it was due."""
    request = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}"
    taken, chance = [], random.Random(1)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        due = answered = time.perf_counter()
        end = due + seconds
        while due < end:
            time.sleep(max(due - time.perf_counter(), 0))
            # Late itself is not the server's doing; late because the last one took long is.
            began = due if answered > due else time.perf_counter()
            sock.sendall(request.encode())
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += sock.recv(65536)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"bench/run: {path} answered {answer[:300]!r}")
            answered = time.perf_counter()
            taken.append(answered - began)
            due += PACE * chance.uniform(0.75, 1.25)
    return taken
