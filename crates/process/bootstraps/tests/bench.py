"""What the bootstraps cost: `python3 bench.py INTERPRETER…` prints, for each, the start-up beside the bare interpreter's
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
    row = "%-34s" + " %9s" * 8
    print("start: ms to the first answer, and CPU ms; bare: the interpreter with an empty script; event: warm, µs")
    print(row % ("", "bare", "CPU", "start", "CPU", "added", "CPU", "event", "CPU"))
    for program in sys.argv[1:]:
        python = "python" in os.path.basename(program)
        for name, source in (("", PYTHON if python else NODE), (" + log", PYTHON_LOG if python else NODE_LOG)):
            with tempfile.TemporaryDirectory() as folder:
                with open(os.path.join(folder, "app.py" if python else "app.js"), "w") as file:
                    file.write(source)
                command = rigs.python_command(program) if python else rigs.node_command(program)
                pairs = [start_bare(program, python) + start_ready(command, folder) for _ in range(ROUNDS)]
                starts = [statistics.median(column) * 1e3 for column in zip(*pairs)]
                starts += [starts[2] - starts[0], starts[3] - starts[1]]
                figures = ["%.1f" % n for n in starts + [n * 1e6 for n in warm(command, folder)]]
            print(row % ("/".join(program.split("/")[-3:]) + name, *figures))


def start_bare(program, python):
    """Seconds that the interpreter takes for nothing, and of CPU."""
    script = os.path.join(os.path.dirname(__file__), "fixtures", "empty.py" if python else "empty.js")
    began = time.perf_counter()
    process = subprocess.Popen([program, "-s", "-B", script] if python else [program, script], env=ENVIRONMENT)
    usage = os.wait4(process.pid, 0)[2]
    process.returncode = 0
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def start_ready(command, folder):
    """Seconds from the start to the first answer, so that what is done late counts too, and of CPU."""
    began = time.perf_counter()
    with Instance(command, folder, "app.handler") as instance:
        instance.receive_until("R")
        instance.invoke(EVENT)
        took = time.perf_counter() - began
        instance.leave()
        usage = os.wait4(instance.process.pid, 0)[2]
        instance.process.returncode = 0
    return took, usage.ru_utime + usage.ru_stime


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
