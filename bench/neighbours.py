"""What a function's callers notice of three other functions that take all they can get: the 99th percentile of its
latency with them, against that without, in rounds that alternate.

The load generator and the server's port stand for the network: the former comes before everything else on the
machine, because a caller elsewhere does not have to wait for a processor of this one.
"""

import concurrent.futures
import http.client
import json
import os
import pathlib
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
BOMBS = ["cpu", "fork", "memory", "disk", "log"]
BEFORE = 0.5  # s, from the first call of the bombs to the load


class Bomb:
    """A function that is called again whenever it has ended, until its time is over."""

    def __init__(self, server, name, runtime, package):
        self.server, self.name, self.calls = server, name, 0
        # Its own time ends what it left running.
        server.deploy(name, runtime, "bomb.handler", package, MemorySize=512, Timeout=60)

    def run(self, kind, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.05:
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
            body = json.dumps({"bomb": kind, "seconds": left})
            connection.request("POST", f"/2015-03-31/functions/{self.name}/invocations", body)
            connection.getresponse().read()
            connection.close()
            self.calls += 1


def neighbours(tools, scratch, options, bench):
    """Fills the table; `bench` is the module that knows servers, packages and tables."""
    python = f"python3.{sys.version_info.minor}"
    functions = {
        "Python": (python, "app.handler", bench.package("app.py", HERE / "functions/app.py")),
        "Rust": ("provided.al2023", "bootstrap", bench.package("bootstrap", tools / "function", 0o755)),
    }
    bombs_of = {kind: [kind] * 3 for kind in BOMBS} | {"cpu, memory and log": ["cpu", "memory", "log"]}
    rows, worst = [], {language: 0.0 for language in functions}
    before = os.nice(0)
    with bench.Brooklet(scratch / "neighbours") as server, concurrent.futures.ThreadPoolExecutor(3) as pool:
        package = bench.package("bomb.py", HERE / "functions/bomb.py")
        bombs = [Bomb(server, f"bomb-{n}", python, package) for n in range(3)]
        for language, (runtime, handler, code) in functions.items():
            server.deploy(language.lower(), runtime, handler, code)
        os.setpriority(os.PRIO_PROCESS, 0, -20)  # the load generator inherits it; what was started before does not
        try:
            for name, kinds in bombs_of.items():
                for language, ratio, row in one(server, bench, options, pool, bombs, name, kinds, functions):
                    worst[language] = max(worst[language], ratio)
                    rows.append(row)
        finally:
            os.setpriority(os.PRIO_PROCESS, 0, before)
    print("### A function beside three that take all they can get, one connection\n")
    bench.table(
        ["bombs", "function", "p50 µs alone", "p50 with", "p99 µs alone", "p99 with", "× p99", "req/s with / alone"], rows
    )
    for language, ratio in worst.items():
        bench.goal(f"{language} function beside bombs, × its p99 alone, the worst kind", ratio, "≤", 2)


def one(server, bench, options, pool, bombs, name, kinds, functions):
    """A row of each function for one kind of bombs."""
    alone, beside = (
        {
            language: bench.Target(f"{language}{what}", server.port, f"/2015-03-31/functions/{language.lower()}/invocations")
            for language in functions
        }
        for what in ("", f" beside {name}")
    )
    for target in alone.values():
        target.load(1, 1)
        target.rounds.clear()
    for _ in range(options.rounds):
        for language in functions:
            alone[language].load(1, options.seconds)
            running = [
                pool.submit(bomb.run, kind, BEFORE + options.seconds + 0.2)
                for bomb, kind in zip(bombs, kinds, strict=True)
            ]
            time.sleep(BEFORE)
            beside[language].load(1, options.seconds)
            for one in running:
                one.result()
            retire(server, bombs)
    for language in functions:
        of = lambda targets, figure: targets[language].median(1, figure)  # noqa: B023, E731
        ratio = statistics.median(
            with_["p99"] / without["p99"]
            for with_, without in zip(beside[language].rounds[1], alone[language].rounds[1], strict=True)
        )
        figures = [f"{of(targets, figure):,.0f}" for figure in ("p50", "p99") for targets in (alone, beside)]
        yield language, ratio, [name, language, *figures, f"{ratio:.1f}", f"{of(beside, 'rps') / of(alone, 'rps'):.2f}"]


def retire(server, bombs):
    """Ends what the bombs left running, and waits until it is gone."""
    for bomb in bombs:
        changed = {"Timeout": 60 - bomb.calls % 2}
        bomb.calls += 1
        server.call("PUT", f"/2015-03-31/functions/{bomb.name}/configuration", changed)
    time.sleep(0.5)
