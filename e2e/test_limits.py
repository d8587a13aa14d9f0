"""Limits are enforced and named; scale-out, reuse and scale to zero are real; an update never fails a request."""

import concurrent.futures
import errno
import json
import os
import re
import signal
import threading
import time

import pytest

from harness import aws, holdings, packages
from harness.gate import Gate
from harness.processes import cgroups_of, orphans, threads_of, wait_until
from harness.server import started

RATE = "Rate Exceeded."


@pytest.fixture(scope="module")
def probe(deploy):
    return deploy(packages.python_probe(), packages.PYTHON, "probe.handler", MemorySize=256)


def throttled(function, event=None):
    """(status, message, reason) of an invocation that must be throttled."""
    try:
        answer = function.invoke(event)
    except function.client.exceptions.TooManyRequestsException as error:
        response = error.response
        return (
            response["ResponseMetadata"]["HTTPStatusCode"],
            response["message"] if "message" in response else response["Error"]["Message"],
            response.get("Reason"),
        )
    raise AssertionError(f"expected to be throttled, got {answer}")


# ---- time ----------------------------------------------------------------------------------------------------


def test_a_function_that_takes_too_long_is_stopped_and_the_answer_says_so(deploy):
    function = deploy(packages.python_probe(), packages.PYTHON, "probe.handler", Timeout=1)
    answer, log = function.tail({"do": "sleep", "ms": 60_000})
    request = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"]) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {request} Error: Task timed out after 1.00 seconds",
    }
    assert re.search(rf"^\d{{4}}-\d\d-\d\dT[\d:.]+Z {request} Task timed out after 1.00 seconds$", log, re.M), log
    report = next(line for line in log.splitlines() if line.startswith("REPORT"))
    duration = float(re.search(r"Duration: ([\d.]+) ms", report)[1])
    assert 1000 <= duration < 2000 and "Status: timeout" in report
    assert function({"do": "echo", "value": 1}) == 1


def test_processes_that_a_function_started_do_not_outlive_its_instance(deploy, server):
    function = deploy(packages.python_probe(), packages.PYTHON, "probe.handler", Timeout=2)
    before = set(server.descendants())
    function({"do": "children", "session": True})
    function({"do": "children"})
    # The program and its sandbox's first process may have waited before.
    assert len(set(server.descendants()) - before) >= 2, "its two children"
    function.invoke({"do": "sleep", "ms": 60_000})
    gone = "the timed out instance and its children are gone, those of another session too"
    wait_until(lambda: not set(server.descendants()) - before and not orphans(started), gone)


def test_initialisation_may_take_ten_seconds_whatever_the_timeout(deploy):
    function = deploy(
        packages.python_probe(),
        packages.PYTHON,
        "probe.handler",
        Timeout=2,
        Environment={"Variables": {"PROBE_INIT": "hang"}},
    )
    answer, log = function.tail({})
    error = json.loads(answer["Payload"])
    assert error["errorType"] == "Sandbox.Timedout"
    assert error["errorMessage"].endswith("Error: Task timed out after 10.00 seconds")
    assert "INIT_REPORT Init Duration: 10" in log and "Phase: init\tStatus: timeout" in log


# ---- endings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code, message",
    [
        (1, "Runtime exited with error: exit status 1"),
        (0, "Runtime exited without providing a reason"),
        (255, "Runtime exited with error: exit status 255"),
    ],
)
def test_a_crash_is_an_exit_error_with_its_status(probe, code, message):
    answer, log = probe.tail({"do": "exit", "code": code})
    request = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    assert json.loads(answer["Payload"]) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {request} Error: {message}",
    }
    assert f"RequestId: {request} Error: {message}" in log
    assert "Runtime.ExitError" in log


def test_a_killed_instance_is_an_exit_error_with_its_signal(deploy):
    function = deploy(
        {"app.py": "import os\ndef handler(event, context):\n    os.kill(os.getpid(), event)\n"},
        packages.PYTHON,
        "app.handler",
    )
    assert function.error(9)["errorMessage"].endswith("Error: Runtime exited with error: signal: killed")
    assert function.error(11)["errorMessage"].endswith("Error: Runtime exited with error: signal: segmentation fault")


def test_a_function_that_eats_more_than_its_memory_is_ended_for_it(deploy):
    function = deploy(packages.python_probe(), packages.PYTHON, "probe.handler", MemorySize=128)
    assert function({"do": "eat", "mib": 40}) == {"mib": 40}
    answer = function.invoke({"do": "eat", "mib": 2000})
    error = json.loads(answer["Payload"])
    assert answer.get("FunctionError") == "Unhandled", "2000 MiB in a function of 128 MB"
    assert error["errorType"] in ("Runtime.OutOfMemory", "Runtime.ExitError", "MemoryError")
    assert function({"do": "echo", "value": 1}) == 1


def test_the_report_tells_the_memory_that_was_used(probe):
    probe({"do": "eat", "mib": 100})
    _, log = probe.tail({"do": "eat", "mib": 100})
    assert 100 <= int(re.search(r"Max Memory Used: (\d+) MB", log)[1]) <= 256


# ---- the processor --------------------------------------------------------------------------------------------

COMPUTES = """import time
def handler(event, context):
    seconds, in_kernel = event
    end, block = time.monotonic() + seconds, bytearray(1 << 20)
    with open("/dev/zero", "rb", buffering=0) as zeros:
        while time.monotonic() < end:
            in_kernel and zeros.readinto(block)
"""


class Standing:
    """What a server's groups say of how its instances stand."""

    def __init__(self, server):
        self.server = server

    def file(self, pid, *names):
        """A file of the group that a process is in, the first that there is."""
        own = re.findall(r"brooklet-\w+/(\d+)$", cgroups_of(pid), re.M)
        files = [group / number / name for name in names for group in self.server.control_groups() for number in own]
        return next((file for file in files if file.exists()), None)

    def stands_back(self, pid):
        return self.file(pid, "cpu.idle").read_text() == "1\n"

    def has_quota(self, pid):
        """Whether it may use no more than 2 ms in 20 ms."""
        quota = self.file(pid, "cpu.cfs_quota_us", "cpu.max").read_text().split()
        return quota in (["2000"], ["2000", "20000"])

    @staticmethod
    def is_kept_to_the_last_processor(pid):
        """Which is where those with so small a quota run; where the machine has groups for that."""
        ours = os.sched_getaffinity(0)
        return os.sched_getaffinity(pid) == {max(ours)} != ours

    def keeps_the_beat(self):
        """A thread on each processor of the server's."""
        return threads_of(self.server.process.pid).count("beat") == len(os.sched_getaffinity(0))


@pytest.fixture
def neighbours(fresh):
    """A server's groups, a function that answers quickly, one that computes, and the processes of both."""
    server = fresh()
    deployer = aws.Deployer(aws.client(server), "standing")
    standing = Standing(server)
    answers = deployer(packages.python_probe(), packages.PYTHON, "probe.handler", MemorySize=128)
    answers({"do": "echo", "value": 1})
    (quick,) = server.instances()
    if not standing.file(quick, "cpu.idle"):
        pytest.skip("no control groups that share the processors and can be idle")
    computes = deployer({"app.py": COMPUTES}, packages.PYTHON, "app.handler", MemorySize=128, Timeout=60)
    computes([0, False])
    (slow,) = set(server.instances()) - {quick}
    return standing, (answers, quick), (computes, slow)


def test_who_computes_all_the_time_stands_back_until_it_has_rested_and_who_answers_quickly_does_not(neighbours):
    standing, (answers, quick), (computes, slow) = neighbours
    group = standing.file(quick, "cpu.idle").parent.parent
    together = next(file for name in ("cpu.shares", "cpu.weight") if (file := group / name).exists())
    usual = int(together.read_text())
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        computing = pool.submit(computes, [5, False])
        wait_until(lambda: answers({"do": "echo", "value": 1}) and standing.stands_back(slow), "it stands back")
        assert not standing.stands_back(quick)
        wait_until(lambda: int(together.read_text()) < usual / 4, "all functions together give way to the server")
        wait_until(lambda: answers({"do": "echo", "value": 1}) and standing.keeps_the_beat(), "the kernel looks more often")
        assert not standing.has_quota(slow), "it gives way at once, and has what nobody else wants"
        computing.result()
    wait_until(lambda: not standing.stands_back(slow), "it comes first again")
    wait_until(lambda: int(together.read_text()) == usual, "with nobody standing back the server does not come first")
    assert not standing.keeps_the_beat()


def test_who_keeps_the_kernel_busy_gets_its_part_of_it_and_no_more_while_others_want_the_processors(neighbours):
    standing, (answers, quick), (computes, slow) = neighbours
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        computing = pool.submit(computes, [12, True])
        wait_until(lambda: answers({"do": "echo", "value": 1}) and standing.has_quota(slow), "it has a quota")
        kept = standing.file(slow, "cpuset.cpus") is not None and len(os.sched_getaffinity(0)) > 1
        wait_until(lambda: standing.is_kept_to_the_last_processor(slow) == kept, "and elsewhere others do not meet it")
        assert not standing.has_quota(quick) and not standing.is_kept_to_the_last_processor(quick)
        wait_until(lambda: not standing.has_quota(slow), "a second after the last event of others it has none")
        assert standing.stands_back(slow) and not computing.done()
        wait_until(lambda: not standing.is_kept_to_the_last_processor(slow), "it runs on all")
        wait_until(lambda: answers({"do": "echo", "value": 1}) and standing.has_quota(slow), "it has one again")
        computing.result()
    wait_until(lambda: not standing.stands_back(slow), "it comes first again")
    assert not standing.has_quota(slow)


# ---- sizes ---------------------------------------------------------------------------------------------------


def test_a_request_of_six_mebibytes_passes_and_a_larger_one_is_refused(probe):
    overhead = len(json.dumps({"do": "measure", "value": ""}))
    limit = 6 * 1024 * 1024
    assert probe({"do": "measure", "value": "x" * (limit - overhead)})["length"] == limit - overhead
    code, status, message = aws.refusal(
        probe.client.invoke, FunctionName=probe.name, Payload=b'"' + b"x" * limit + b'"'
    )
    assert (code, status) == ("RequestEntityTooLargeException", 413)
    assert message == "Request must be smaller than 6291456 bytes for the InvokeFunction operation"


def test_a_response_that_is_too_large_is_named_and_the_instance_goes_on(probe):
    before = probe({"do": "instance"})
    assert len(probe({"do": "make", "bytes": 6_000_000})) == 6_000_000
    error = probe.error({"do": "make", "bytes": 6_291_556})
    assert error["errorType"] == "Function.ResponseSizeTooLarge"
    # AWS has said it with and without the size.
    words = r"Response payload size (\(6291558 bytes\) )?exceeded maximum allowed payload size \(6291556 bytes\)\."
    assert re.fullmatch(words, error["errorMessage"])
    assert probe({"do": "instance"})["id"] == before["id"]


def test_environment_variables_of_four_kibibytes_pass_and_more_is_refused(lambda_client, deploy):
    fitting = "x" * (4096 - len(json.dumps({"AA": ""}, separators=(",", ":"))))
    function = deploy(
        packages.python_probe(), packages.PYTHON, "probe.handler", Environment={"Variables": {"AA": fitting}}
    )
    assert function({"do": "env", "names": ["AA"]}) == {"AA": fitting}
    code, status, message = aws.refusal(
        lambda_client.update_function_configuration,
        FunctionName=function.name,
        Environment={"Variables": {"AA": fitting + "x" * 10}},
    )
    assert (code, status) == ("InvalidParameterValueException", 400)
    assert message == (
        "Lambda was unable to configure your environment variables because the environment variables you have provided "
        f'exceeded the 4KB limit. String measured: {{"AA":"{fitting + "x" * 10}"}}'
    )


# ---- concurrency ---------------------------------------------------------------------------------------------


def test_reserved_concurrency_is_a_limit_with_its_own_reason(deploy):
    function = deploy(packages.python_probe(), packages.PYTHON, "probe.handler")
    function.client.put_function_concurrency(FunctionName=function.name, ReservedConcurrentExecutions=2)
    with Gate() as gate, concurrent.futures.ThreadPoolExecutor(2) as pool:
        held = [pool.submit(function, {"do": "hold", "url": gate.url}) for _ in range(2)]
        gate.wait_for(2)
        assert throttled(function) == (429, RATE, "ReservedFunctionConcurrentInvocationLimitExceeded")
        gate.open()
        assert len({h.result()["id"] for h in held}) == 2
    assert function({"do": "echo", "value": 1}) == 1, "a freed place can be taken again"
    function.client.put_function_concurrency(FunctionName=function.name, ReservedConcurrentExecutions=0)
    assert throttled(function) == (429, RATE, "ReservedFunctionConcurrentInvocationLimitExceeded")


def test_account_concurrency_is_a_limit_with_its_own_reason_and_reservations_stand_apart(fresh):
    own = fresh(config="account-concurrency = 102\n")
    client = aws.client(own, max_pool_connections=128)
    deploy = aws.Deployer(client, "account")
    # 100 must stay unreserved, so two can be reserved; the other function has the 100.
    reserved = deploy(packages.python_probe(), packages.PYTHON, "probe.handler")
    client.put_function_concurrency(FunctionName=reserved.name, ReservedConcurrentExecutions=2)
    shared = deploy(packages.python_probe(), packages.PYTHON, "probe.handler", Timeout=100)
    with Gate() as gate, concurrent.futures.ThreadPoolExecutor(100) as pool:
        held = [pool.submit(shared, {"do": "hold", "url": gate.url}) for _ in range(100)]
        gate.wait_for(100, seconds=60)
        assert throttled(shared) == (429, RATE, "ConcurrentInvocationLimitExceeded")
        assert reserved({"do": "echo", "value": "mine"}) == "mine"
        gate.open()
        assert len({h.result()["id"] for h in held}) == 100


def hold_a_hundred_at_once(own):
    """A hundred requests that all run before any ends: each has an instance of its own, and each is answered."""
    function = aws.Deployer(aws.client(own, max_pool_connections=128), "burst")(
        packages.python_probe(), packages.PYTHON, "probe.handler", Timeout=100
    )
    with Gate() as gate, concurrent.futures.ThreadPoolExecutor(100) as pool:
        asked = [pool.submit(function, {"do": "hold", "url": gate.url}) for _ in range(100)]
        gate.wait_for(100, seconds=60)
        gate.open()
        assert len({a.result()["id"] for a in asked}) == 100


def test_who_waits_for_a_start_while_the_server_stands_still_is_not_refused_for_want_of_memory(fresh):
    """As behind a machine that is paused, or a control group that is frozen: nobody had memory or a start meanwhile."""
    own = fresh()
    # Each start keeps a processor busy, so that those behind it wait for theirs.
    app = """
import time
end = time.monotonic() + 1
while time.monotonic() < end:
    pass
handler = lambda event, context: time.sleep(event)
"""
    made = aws.Deployer(aws.client(own), "still")({"app.py": app}, packages.PYTHON, "app.handler", Timeout=300)
    with concurrent.futures.ThreadPoolExecutor(8) as callers:
        answers = [callers.submit(made, 1) for _ in range(8)]
        wait_until(lambda: own.instances(), "a start is under way")
        os.kill(own.process.pid, signal.SIGSTOP)
        still = time.monotonic()
        wait_until(lambda: time.monotonic() - still > 8, "it stands still for longer than a request may wait", 20)
        os.kill(own.process.pid, signal.SIGCONT)
        assert [answer.result() for answer in answers] == [None] * 8


def test_a_burst_of_a_hundred_cold_requests_is_answered_whole(fresh):
    own = fresh()
    hold_a_hundred_at_once(own)


def test_the_descriptors_that_a_shell_allows_are_no_limit_of_the_server(fresh):
    # A shell's soft limit is meant for old programs; whoever needs more may raise it to the hard one.
    own = fresh(open_files=(128, 4096))
    hold_a_hundred_at_once(own)


def test_a_machine_that_is_out_of_descriptors_throttles_and_goes_on(fresh):
    own = fresh(open_files=(160, 160))
    client = aws.client(own, max_pool_connections=128)
    deploy = aws.Deployer(client, "files")
    function = deploy(packages.python_probe(), packages.PYTHON, "probe.handler", Timeout=100)

    def ask():
        try:
            return function.invoke({"do": "sleep", "ms": 300})["StatusCode"]
        except client.exceptions.TooManyRequestsException:
            return 429

    with concurrent.futures.ThreadPoolExecutor(60) as pool:
        answers = [a.result() for a in [pool.submit(ask) for _ in range(60)]]
    assert set(answers) <= {200, 429} and 200 in answers
    other = deploy(packages.python_probe(), packages.PYTHON, "probe.handler")
    assert other({"do": "echo", "value": "room was made"}) == "room was made"


def test_who_finds_all_descriptors_in_use_is_told_so_and_idle_instances_have_given_theirs(fresh):
    # 256: 128 for the server's own files, 16 connections with 2 each, 8 of instances with 2 each, 80 for instances: 7 of
    # Python with 11 each.
    own = fresh(open_files=(256, 256))
    client = aws.client(own, max_pool_connections=16)
    deploy = aws.Deployer(client, "files")
    idle = deploy(packages.python_probe(), packages.PYTHON, "probe.handler", Timeout=100)
    busy = deploy(packages.python_probe(), packages.PYTHON, "probe.handler", Timeout=100)
    with Gate() as gate, concurrent.futures.ThreadPoolExecutor(4) as pool:
        held = [pool.submit(idle, {"do": "hold", "url": gate.url}) for _ in range(4)]
        gate.wait_for(4)
        gate.open()
        assert len({h.result()["id"] for h in held}) == 4
    with Gate() as gate, concurrent.futures.ThreadPoolExecutor(7) as pool:
        held = [pool.submit(busy, {"do": "hold", "url": gate.url}) for _ in range(7)]
        gate.wait_for(7)
        status, message, reason = throttled(busy)
        assert (status, reason) == (429, "ConcurrentInvocationLimitExceeded")
        assert message.startswith(RATE) and "All 80 file descriptors" in message and "ulimit -Hn" in message
        gate.open()
        assert len({h.result()["id"] for h in held}) == 7
    assert idle({"do": "echo", "value": "room was made"}) == "room was made"
    assert "Too many open files" not in own.log()


#: A runtime of its own that registers as many extensions as it can get connections for, and keeps those.
EXTENSIONS = """#!/usr/bin/env python3
import http.client, json, os
def connect(seconds=600):
    return http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"], timeout=seconds)
def call(connection, method, path, body=None):
    connection.request(method, path, body, {"Lambda-Extension-Name": "one"})
    answer = connection.getresponse()
    return answer, answer.read()
runtime, kept = connect(), []
try:
    while len(kept) < 15:
        kept.append(connect(3))
        call(kept[-1], "POST", "/2020-01-01/extension/register", "{}")
    registered = len(kept)
except TimeoutError:
    registered = len(kept) - 1
while True:
    answer, _ = call(runtime, "GET", "/2018-06-01/runtime/invocation/next")
    path = f"/2018-06-01/runtime/invocation/{answer.getheader('Lambda-Runtime-Aws-Request-Id')}/response"
    call(runtime, "POST", path, json.dumps(registered))
"""


def test_connections_to_the_runtime_api_that_one_function_keeps_are_none_that_another_lacks(deploy):
    bootstrap = packages.zip_of({"bootstrap": EXTENSIONS})
    functions = [deploy(bootstrap, "provided.al2023", "any", Timeout=20) for _ in range(4)]
    # Lambda allows ten extensions.
    assert all(function() >= 10 for function in functions)


@pytest.mark.parametrize("hard, expected", [(4096, 1024), (600, 600)])
def test_a_function_may_open_1024_files_or_as_many_as_the_server(fresh, hard, expected):
    code = (
        "import resource\n"
        "def handler(event, context):\n"
        "    files = []\n"
        "    try:\n"
        "        while len(files) < 5000: files.append(open('/dev/null'))\n"
        "    except OSError as error:\n"
        "        return [len(files) + files[0].fileno(), error.errno, *resource.getrlimit(resource.RLIMIT_NOFILE)]\n"
    )
    own = fresh(open_files=(256, hard))
    function = aws.Deployer(aws.client(own), "files")({"app.py": code}, packages.PYTHON, "app.handler")
    assert function() == [expected, errno.EMFILE, expected, expected]


def test_the_most_recently_used_instance_is_used_again(probe):
    with Gate() as gate, concurrent.futures.ThreadPoolExecutor(3) as pool:
        held = [pool.submit(probe, {"do": "hold", "url": gate.url}) for _ in range(3)]
        gate.wait_for(3)
        gate.open()
        [h.result() for h in held]
    assert len({probe({"do": "instance"})["id"] for _ in range(10)}) == 1


# ---- to zero and back ----------------------------------------------------------------------------------------


def test_an_idle_function_costs_no_process_after_its_keep_alive(fresh):
    own = fresh(config='idle-timeout = "1s"\n')
    function = aws.Deployer(aws.client(own), "zero")(packages.python_probe(), packages.PYTHON, "probe.handler")
    resting = set(own.descendants())
    first = function({"do": "instance"})
    assert set(own.descendants()) - resting
    wait_until(lambda: not set(own.descendants()) - resting, "the idle instance is stopped")
    again = function({"do": "instance"})
    assert again["id"] != first["id"] and again["count"] == 1


def test_a_busy_instance_is_not_stopped_however_short_the_keep_alive(fresh):
    own = fresh(config='idle-timeout = "1s"\n')
    function = aws.Deployer(aws.client(own), "busy")(packages.python_probe(), packages.PYTHON, "probe.handler")
    assert function({"do": "sleep", "ms": 3500})["slept"] == 3500


# ---- updates -------------------------------------------------------------------------------------------------


def versioned(number):
    return packages.zip_of(
        {
            "app.py": (
                "import urllib.request\n"
                "def handler(event, context):\n"
                "    if event: urllib.request.urlopen(event, timeout=60).read()\n"
                f"    return {number}\n"
            )
        }
    )


def test_a_running_request_ends_on_the_code_it_began_with(deploy, server):
    function = deploy(versioned(1), packages.PYTHON, "app.handler")
    before = set(server.instances())
    with Gate() as gate, concurrent.futures.ThreadPoolExecutor(1) as pool:
        held = pool.submit(function, gate.url)
        gate.wait_for()
        old = set(server.instances()) - before
        function.client.update_function_code(FunctionName=function.name, ZipFile=versioned(2))
        assert function() == 2, "new requests get the new code at once"
        gate.open()
        assert held.result() == 1
    wait_until(lambda: not old & set(server.instances()), "the instance of the old code is stopped")


def test_updates_under_load_fail_no_request(deploy):
    function = deploy(versioned(0), packages.PYTHON, "app.handler")
    stop = threading.Event()
    latest = [0]
    seen = []

    def load():
        while not stop.is_set():
            least = latest[0]
            seen.append((least, function()))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load) for _ in range(4)]
        try:
            for number in range(1, 13):
                before = len(seen)
                if number % 3 == 0:
                    function.client.update_function_configuration(FunctionName=function.name, MemorySize=128 + number)
                function.client.update_function_code(FunctionName=function.name, ZipFile=versioned(number))
                latest[0] = number
                # Half of the updates follow each other at once, half meet a function that is warm again.
                if number % 2:
                    wait_until(lambda: len(seen) >= before + 4 or any(one.done() for one in loads), "requests between")
        finally:
            stop.set()
        for one in loads:
            one.result()
    stale = [(least, got) for least, got in seen if got < least]
    assert not stale, f"a request that began after an update was acknowledged ran older code: {stale[:5]}"


def test_a_function_deleted_while_it_runs_ends_its_request(deploy):
    function = deploy(versioned(1), packages.PYTHON, "app.handler")
    with Gate() as gate, concurrent.futures.ThreadPoolExecutor(1) as pool:
        held = pool.submit(function, gate.url)
        gate.wait_for()
        function.client.delete_function(FunctionName=function.name)
        assert aws.refusal(function.client.invoke, FunctionName=function.name)[0] == "ResourceNotFoundException"
        gate.open()
        assert held.result() == 1


def test_a_caller_that_hangs_up_costs_neither_the_instance_nor_the_log(deploy, server):
    from harness import web

    # A function of its own: beside other idle instances, which one was used last would be a matter of luck.
    probe = deploy(packages.python_probe(), packages.PYTHON, "probe.handler")
    before = probe({"do": "instance"})
    with Gate() as gate:
        body = json.dumps({"do": "hold", "url": gate.url}).encode()
        sock = web.connect(server.address)
        sock.sendall(
            f"POST /2015-03-31/functions/{probe.name}/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        gate.wait_for()
        sock.close()
        gate.open()
    wait_until(lambda: probe({"do": "instance"})["id"] == before["id"], "the instance serves again")
    assert probe({"do": "instance"})["count"] >= before["count"] + 2


def test_memory_that_a_load_took_is_given_back_when_it_is_over(fresh):
    own = fresh(config='idle-timeout = "1h"\n')
    deploy = aws.Deployer(aws.client(own), "thrift")
    function = deploy(packages.python_probe(), packages.PYTHON, "probe.handler", MemorySize=256)
    event = {"do": "echo", "value": "x" * (3 << 20)}
    memory = lambda: holdings.of(own, started).memory  # noqa: E731
    assert function({"do": "echo", "value": 1}) == 1
    before, highest = memory(), 0
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for answer in pool.map(function, [event] * 96):
            assert answer == event["value"]
            highest = max(highest, memory())
    assert highest > before + (24 << 10), "the load took something"
    function.client.close()  # a connection that is open has a buffer
    wait_until(lambda: memory() < before + (15 << 10), lambda: f"{before} KiB before, {highest} at most, {memory()} now", 60)
