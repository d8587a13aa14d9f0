"""What the kernel and the interpreter alone take for a burst of Python instances, without a server: how far from that
Brooklet is. `bench/limit.py [COUNT]`, as root, on a machine with cgroup v1 and a C compiler.

Two parts, each with a worker for each processor: sandboxes without a program (`limit.c`), and copies of an interpreter that
has our bootstrap and `socket` imported, without a sandbox, each of which becomes a function and answers an event.
"""

import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent


def sandboxes(count):
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / "limit"
        subprocess.run(["cc", "-O2", "-static", "-o", program, HERE / "limit.c"], check=True)
        for more in ([], ["net"]):
            print("with a network of their own:" if more else "without:", flush=True)
            subprocess.run([program, str(count), *more], check=True)


def processor():
    """Seconds of all processors that were not idle."""
    ticks = pathlib.Path("/proc/stat").read_text().split()
    return sum(int(ticks[n]) for n in (1, 2, 3, 6, 7)) / os.sysconf("SC_CLK_TCK")


def serve(count, ready, variables):
    """A worker: makes `count` copies, each of which answers and tells so."""
    runtime, zygote = sys.modules["_brooklet"], sys.modules["_brooklet.zygote"]
    python = ctypes.pythonapi
    zygote._import(["socket"], "")
    zygote._rehearse()
    zygote._expect_function()
    zygote._fill_holes()
    import gc

    gc.freeze()
    os.write(ready, b".")
    os.kill(os.getpid(), signal.SIGSTOP)
    python.PyOS_BeforeFork()
    for _ in range(count):
        if python.fork() == 0:
            python.PyOS_AfterFork_Child()
            runtime._become(variables)
            runtime._set_path(None)
            handler = runtime._load("app.handler")
            context = runtime.LambdaContext("1", "1", "arn", None, None, None)
            runtime._encode(handler(runtime._decode(b'{"key": 1}'), context))
            os.write(ready, b".")
            signal.pause()
    signal.pause()


def copies(count):
    sys.path.insert(0, str(HERE.parent / "crates/process/bootstraps/python"))
    import _brooklet.zygote  # noqa: F401

    variables = [(f"AWS_VARIABLE_{n}", "value") for n in range(25)]
    variables.append(("LAMBDA_TASK_ROOT", str(HERE / "functions")))
    workers, (told, ready) = os.cpu_count(), os.pipe()
    pids = []
    for _ in range(workers):
        if not (pid := os.fork()):
            os.setpgid(0, 0)
            serve(count // workers, ready, variables)
        pids.append(pid)
    heard = 0
    while heard < workers:
        heard += len(os.read(told, 64))
    time.sleep(0.5)
    began, used, heard = time.perf_counter(), processor(), 0
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    while heard < count // workers * workers:
        heard += len(os.read(told, 64))
    print(f"{heard} copies: {time.perf_counter() - began:.2f} s, {processor() - used:.2f} s of processor")
    for pid in pids:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    sandboxes(many)
    copies(many)
