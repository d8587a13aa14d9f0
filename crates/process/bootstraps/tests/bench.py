"""What the bootstraps cost: `python3 bench.py INTERPRETER…` prints, for each, the start-up over the bare interpreter
and a warm event's round trip and CPU time. Figures depend on the machine; compare rows of one run."""

import os
import statistics
import subprocess
import sys
import tempfile
import time

import rigs
from transport import ENVIRONMENT, Instance

ROUNDS = 15
EVENTS = 5000
EVENT = {"version": "2.0", "routeKey": "$default", "rawPath": "/", "headers": {"accept": "*/*", "host": "x"}, "n": 1}
PYTHON = "def handler(event, context):\n    return {'statusCode': 200, 'body': 'hello'}\n"
PYTHON_LOG = "def handler(event, context):\n    print('hello')\n    return {'statusCode': 200, 'body': 'hello'}\n"
NODE = "exports.handler = async () => ({statusCode: 200, body: 'hello'})\n"
NODE_LOG = "exports.handler = async () => { console.log('hello'); return {statusCode: 200, body: 'hello'} }\n"


def main():
    row = "%-34s %9s %9s %9s %9s %9s"
    print(row % ("", "bare ms", "ready ms", "added ms", "event µs", "CPU µs"))
    for program in sys.argv[1:]:
        python = "python" in os.path.basename(program)
        bare = median(lambda: start_bare(program, python))
        for name, source in (("", PYTHON if python else NODE), (" + log", PYTHON_LOG if python else NODE_LOG)):
            with tempfile.TemporaryDirectory() as folder:
                with open(os.path.join(folder, "app.py" if python else "app.js"), "w") as file:
                    file.write(source)
                command = rigs.python_command(program) if python else rigs.node_command(program)
                ready = median(lambda: start_ready(command, folder))
                wall, cpu = warm(command, folder)
            figures = ["%.1f" % (bare * 1e3), "%.1f" % (ready * 1e3), "%.1f" % ((ready - bare) * 1e3)]
            label = "/".join(program.split("/")[-3:])
            print(row % (label + name, *figures, "%.1f" % (wall * 1e6), "%.1f" % (cpu * 1e6)))


def median(measure):
    return statistics.median(measure() for _ in range(ROUNDS))


def start_bare(program, python):
    script = os.path.join(os.path.dirname(__file__), "fixtures", "empty.py" if python else "empty.js")
    began = time.perf_counter()
    subprocess.run([program, "-s", "-B", script] if python else [program, script], env=ENVIRONMENT, check=True)
    return time.perf_counter() - began


def start_ready(command, folder):
    """From the start to the first answer, so that what is done late counts too."""
    began = time.perf_counter()
    with Instance(command, folder, "app.handler") as instance:
        instance.receive_until("R")
        instance.invoke(EVENT)
        return time.perf_counter() - began


def warm(command, folder):
    with Instance(command, folder, "app.handler") as instance:
        instance.receive_until("R")
        for _ in range(EVENTS):
            instance.invoke(EVENT)
        instance.frames.clear()
        cpu, began = cpu_of(instance.process.pid), time.perf_counter()
        for _ in range(EVENTS):
            instance.invoke(EVENT)
        wall, cpu = time.perf_counter() - began, cpu_of(instance.process.pid) - cpu
    return wall / EVENTS, cpu / EVENTS


def cpu_of(pid):
    """Seconds of CPU that the process has used."""
    with open("/proc/%d/schedstat" % pid) as file:
        return int(file.read().split()[0]) / 1e9


if __name__ == "__main__":
    main()
