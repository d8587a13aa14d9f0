"""The Python bootstrap as a process: signals, threads, forks, children, descriptors, and bytes that come in pieces."""

import json
import os
import signal
import struct
import textwrap

import pytest

import rigs
from transport import PATIENCE, Ended, Instance

PYTHONS = rigs.pythons()


@pytest.fixture(params=list(PYTHONS))
def start(request, tmp_path):
    """Starts the function of a source text; it is ended after the test."""
    instances = []

    def start(source, environment=None, handler="app.handler"):
        (tmp_path / "app.py").write_text(textwrap.dedent(source))
        instance = Instance(rigs.python_command(PYTHONS[request.param]), str(tmp_path), handler, environment)
        instances.append(instance)
        instance.receive_until("R")
        return instance

    yield start
    for instance in instances:
        instance.__exit__()


def test_the_end_of_the_transport_ends_the_process_at_once(start):
    instance = start(
        """
        import atexit, threading, time
        atexit.register(print, "exit handlers do not run", flush=True)
        def handler(event, context):
            threading.Thread(target=time.sleep, args=(1000,)).start()
        """
    )
    assert instance.invoke() == ("A", None)
    assert instance.finish() == (0, "", "")
    assert instance.logs() == []


def test_each_event_s_trace_id_is_in_the_environment_and_in_that_of_programs(start):
    instance = start(
        """
        import os, subprocess, sys
        SAY = "echo $_X_AMZN_TRACE_ID"
        CODE = "import os; os.execv('/bin/sh', ['sh', '-c', '%s'])" % SAY
        def handler(event, context):
            # The shell takes descriptors of one digit only, and the reading must end whatever it does.
            reader, writer = os.pipe()
            os.dup2(writer, 9)
            os.close(writer)
            os.system(SAY + " >&9")
            os.close(9)
            said = os.read(reader, 100).decode().strip()
            os.close(reader)
            return [
                os.environ.get("_X_AMZN_TRACE_ID"),
                os.getenv("_X_AMZN_TRACE_ID"),
                "_X_AMZN_TRACE_ID" in os.environ,
                subprocess.check_output(SAY, shell=True).decode().strip(),
                subprocess.check_output(SAY, shell=True, env=dict(os.environ)).decode().strip(),
                subprocess.check_output([sys.executable, "-c", CODE]).decode().strip(),
                os.popen(SAY).read().strip(),
                said,
            ]
        """
    )
    for trace in ("Root=1", "Root=2"):
        assert instance.invoke(trace=trace) == ("A", [trace, trace, True] + [trace] * 5)
    assert instance.invoke(trace="") == ("A", [None, None, False] + [""] * 5)


def test_a_trace_id_that_the_function_sets_is_its_own(start):
    instance = start(
        """
        import os, subprocess
        def handler(event, context):
            os.environ["_X_AMZN_TRACE_ID"] = "mine"
            return subprocess.check_output("echo $_X_AMZN_TRACE_ID", shell=True).decode().strip()
        """
    )
    assert instance.invoke() == ("A", "mine")


def test_a_transport_cut_inside_an_event_ends_the_process(start):
    instance = start("def handler(event, context): pass")
    instance.write(struct.pack("<BxxxII", ord("I"), 10, 10) + b"half")
    assert instance.finish() == (0, "", "")


def test_a_server_that_is_gone_ends_the_process(start):
    instance = start("import time\ndef handler(event, context):\n    time.sleep(0.1)\n    print('x')\n")
    instance.send(None)
    instance.leave()
    assert instance.process.wait(PATIENCE) == 0


def test_an_event_may_come_in_pieces(start):
    instance = start("def handler(event, context): return [event, context.aws_request_id]")
    meta, body = "idé\n99\narn\ntrace\n\n".encode(), json.dumps("x" * 100).encode()
    frame = struct.pack("<BxxxII", ord("I"), len(meta), len(body)) + meta + body
    for at in range(len(frame)):
        instance.write(frame[at : at + 1])
    kind, _, answer = instance.receive_until("AE")
    assert (kind, json.loads(answer)) == ("A", ["x" * 100, "idé"])


@pytest.mark.parametrize("size", [65536 - 200, 65536 - 100, 65536, 70000, 6 * 1024 * 1024])
def test_events_around_the_read_size_arrive_whole(start, size):
    instance = start("def handler(event, context): return [len(event), event[-3:]]")
    assert instance.invoke("x" * size + "end") == ("A", [size + 3, "end"])
    assert instance.invoke("small") == ("A", [5, "all"])


def test_a_large_answer_is_read_slowly(start):
    instance = start("def handler(event, context): return 'ä' * 3000000")
    instance.read_slowly()
    assert instance.invoke() == ("A", "ä" * 3000000)


def test_sigterm_ends_the_process_unless_handled(start):
    instance = start("def handler(event, context): pass")
    instance.process.send_signal(signal.SIGTERM)
    assert instance.wait()[0] == -signal.SIGTERM


def test_a_signal_handler_runs_while_the_function_waits(start):
    instance = start(
        """
        import os, signal
        def bye(*_):
            print("cleaning up")
            os._exit(4)
        signal.signal(signal.SIGTERM, bye)
        def handler(event, context): pass
        """
    )
    assert instance.invoke() == ("A", None)
    instance.process.send_signal(signal.SIGTERM)
    assert instance.wait()[0] == 4
    assert instance.logs() == ["cleaning up"]


def test_a_signal_that_is_handled_does_not_disturb_the_next_event(start):
    instance = start("import signal\nsignal.signal(signal.SIGUSR1, lambda *_: print('hup'))\ndef handler(event, context): return event")
    for n in range(20):
        instance.process.send_signal(signal.SIGUSR1)
        assert instance.invoke(n) == ("A", n)


def test_signal_handlers_and_threads_may_log_at_any_moment(start):
    instance = start(
        """
        import signal, sys, threading
        def say(line): sys.stdout.write(line + "\\n")
        def tick(*_): say("tick" * 10)
        signal.signal(signal.SIGALRM, tick)
        def shout(name):
            for n in range(300): say("%s %d %s" % (name, n, "x" * (n * 7 % 3000)))
        def handler(event, context):
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            threads = [threading.Thread(target=shout, args=(name,)) for name in "abc"]
            for thread in threads: thread.start()
            shout("main")
            for thread in threads: thread.join()
            signal.setitimer(signal.ITIMER_REAL, 0)
            return "done"
        """
    )
    assert instance.invoke() == ("A", "done")
    logs = [line for line in instance.logs() if line != "tick" * 10]
    for name in ["a", "b", "c", "main"]:
        own = [line for line in logs if line.startswith(name + " ")]
        assert own == ["%s %d %s" % (name, n, "x" * (n * 7 % 3000)) for n in range(300)]


def test_a_thread_goes_on_between_events(start):
    instance = start(
        """
        import threading
        go = threading.Event()
        def work():
            go.wait()
            print("between")
        threading.Thread(target=work, daemon=True).start()
        def handler(event, context): threading.Timer(0.01, go.set).start()
        """
    )
    assert instance.invoke() == ("A", None)
    assert instance.receive_until("L")[2] == b"between"


def test_a_forked_child_prints_to_the_pipe_and_does_not_answer(start):
    instance = start(
        """
        import os
        def handler(event, context):
            child = os.fork()
            if child == 0:
                print("from the child")
                return "never"
            print("from the parent")
            return os.waitpid(child, 0)[1]
        """
    )
    assert instance.invoke() == ("A", 0)
    assert instance.invoke() == ("A", 0)
    assert instance.logs() == ["from the parent"] * 2
    assert instance.finish() == (0, "from the child\n" * 2, "")


def test_processes_of_the_standard_library_work(start):
    instance = start(
        """
        import multiprocessing, sys
        def work(pipe):
            print("child")
            print("error", file=sys.stderr)
            pipe.send(42)
        def handler(event, context):
            results = []
            for method in ("fork", "spawn"):
                tools = multiprocessing.get_context(method)
                ours, theirs = tools.Pipe()
                child = tools.Process(target=work, args=(theirs,))
                child.start()
                results.append(ours.recv())
                child.join()
                results.append(child.exitcode)
            return results
        """
    )
    assert instance.invoke() == ("A", [42, 0, 42, 0])
    assert instance.finish() == (0, "child\nchild\n", "error\nerror\n")


def test_programs_print_to_the_pipes_and_do_not_get_the_transport(start):
    instance = start(
        """
        import os, subprocess, sys
        def handler(event, context):
            os.write(1, b"raw\\n")
            subprocess.run(["echo", "hello"], stdout=sys.stdout)
            os.system("echo oops >&2; ls /proc/$$/fd")
        """
    )
    assert instance.invoke() == ("A", None)
    assert instance.logs() == []
    status, out, err = instance.finish()
    assert (status, out.split("\n")[:2], err) == (0, ["raw", "hello"], "oops\n")
    assert set(out.split()[2:]) <= {"0", "1", "2", "10"}  # 10: where some shells keep the terminal


def test_the_search_path_is_in_lambda_s_order(start, tmp_path):
    sdk = tmp_path / "sdk"
    sdk.mkdir()
    (sdk / "sdk_only.py").write_text("where = 'sdk'")
    (sdk / "other.py").write_text("where = 'sdk'")
    (tmp_path / "other.py").write_text("where = 'task'")
    instance = start(
        "import other, sdk_only, sys\ndef handler(event, context): return [other.where, sdk_only.where, sys.path]",
        {"BROOKLET_SDK_PATH": str(sdk)},
    )
    _, (other, sdk_only, path) = instance.invoke()
    assert (other, sdk_only) == ("task", "sdk")
    assert path[0] == str(tmp_path)
    assert path[1].startswith("/opt/python/lib/python3.") and path[1].endswith("/site-packages")
    assert path[2] == "/opt/python"
    standard = [at for at, entry in enumerate(path) if entry.endswith("lib-dynload")]
    site = [at for at, entry in enumerate(path) if at > 2 and entry.endswith("-packages")]
    assert standard[0] < path.index(str(sdk)) and all(path.index(str(sdk)) < at for at in site)


def test_nothing_of_the_bootstrap_is_imported_that_costs_time(start):
    instance = start("import sys\ndef handler(event, context): return sorted(sys.modules)")
    _, modules = instance.invoke({"a": [1]})
    bare = {"json", "logging", "traceback", "socket", "struct", "threading", "re", "enum", "decimal"}
    site = set(json.loads(os.popen("%s -s -c 'import sys, json; print(json.dumps(sorted(sys.modules)))'" % instance.process.args[0]).read()))
    assert bare & set(modules) <= site


def test_a_failed_init_says_so_before_the_process_ends(start):
    with pytest.raises(Ended):
        start("print('loading')\nraise ValueError('early')\n")


def test_what_is_freed_after_an_event_logs_before_its_answer(start):
    instance = start(
        """
        class Loud:
            def __del__(self): print("freed")
        def handler(event, context):
            context.keep = Loud()
            return 1
        """
    )
    assert instance.invoke() == ("A", 1)
    assert instance.logs() == ["freed"]


def test_logs_between_events_do_not_stop_a_large_event(start):
    """A full pipe must not make the function and the server wait for each other."""
    instance = start(
        """
        import threading
        def flood():
            for n in range(200): print("x" * 10000)
        def handler(event, context):
            threading.Timer(0.01, flood).start()
            return len(event)
        """
    )
    assert instance.invoke("") == ("A", 0)
    assert instance.invoke("y" * 1000000) == ("A", 1000000)
