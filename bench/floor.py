"""What the kernel alone lets a server's callers notice of three bombs: the rows of `bench/run neighbours`, for a plain server
without Brooklet. `bench/floor.py [KIND ...]`, as root, on a machine with cgroup v1.

The server (`servers/plain.py`, asyncio) has a group of its own that weighs as much as may be; each bomb has one that is idle
for the kernel, which is the furthest behind that it can be put, with the limits of a function. One that has ended is
begun again at once.
"""

import concurrent.futures
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

import neighbours

HERE = pathlib.Path(__file__).resolve().parent
ROOT = pathlib.Path("/sys/fs/cgroup")
LIMITS = {"cpu": {}, "memory": {"memory.limit_in_bytes": 256 << 20}, "pids": {"pids.max": 1024}}
ROUNDS, SECONDS = 3, 2


class Group:
    """A group in each hierarchy, removed in the end with all that is in it."""

    def __init__(self, name, settings):
        self.dirs = [ROOT / controller / f"floor-{os.getpid()}-{name}" for controller in LIMITS]
        for folder, limits in zip(self.dirs, LIMITS.values(), strict=True):
            folder.mkdir()
            for file, value in ({} if name == "server" else limits).items():
                (folder / file).write_text(str(value))
        for file, value in settings.items():
            (self.dirs[0] / file).write_text(str(value))

    def popen(self, *command, **more):
        def join():
            for folder in self.dirs:
                (folder / "tasks").write_text("0")

        return subprocess.Popen(command, preexec_fn=join, **more)

    def empty(self):
        while pids := (self.dirs[2] / "tasks").read_text().split():
            for pid in pids:
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.01)

    def remove(self):
        self.empty()
        for folder in self.dirs:
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError:
                    time.sleep(0.01)


def bomb(group, kind, seconds):
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0.05:
        say = f"import bomb; bomb.handler({{'bomb': {kind!r}, 'seconds': {left}}}, None)"
        one = group.popen(sys.executable, "-c", say, cwd=HERE / "functions", stderr=subprocess.DEVNULL)
        try:
            one.wait(timeout=left)
        except subprocess.TimeoutExpired:
            pass
        group.empty()
        one.wait()


def measure(kind, port, groups, pool):
    """The ratio of the 99th percentiles, and those, in µs: medians of the rounds."""
    rounds = []
    for _ in range(ROUNDS):
        neighbours.load(port, "/", 0.5)
        _, alone = neighbours.percentiles(neighbours.load(port, "/", SECONDS))
        lasting = neighbours.BEFORE + SECONDS + 0.2
        running = [pool.submit(bomb, group, kind, lasting) for group in groups]
        time.sleep(neighbours.BEFORE)
        _, beside = neighbours.percentiles(neighbours.load(port, "/", SECONDS))
        for one in running:
            one.result()
        rounds.append((beside / alone, alone, beside))
        time.sleep(0.5)
    return [statistics.median(round[n] for round in rounds) for n in range(3)]


def main():
    ours = Group("server", {"cpu.shares": 262144})
    groups = [Group(f"bomb-{n}", {"cpu.idle": 1}) for n in range(3)]
    server = ours.popen(sys.executable, HERE / "servers/plain.py", stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline())
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            pool.submit(time.sleep, 0).result()
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
            for kind in sys.argv[1:] or ["cpu", "fork", "memory"]:
                ratio, alone, beside = measure(kind, port, groups, pool)
                print(f"3 × {kind}: p99 {alone:,.0f} µs alone, {beside:,.0f} with, {ratio:.1f} ×", flush=True)
    finally:
        for group in [ours, *groups]:
            group.remove()
        server.wait()


if __name__ == "__main__":
    main()
