"""What functions write is found by function, stream and request id, outlives the server, and is bounded on disk;
and every invocation leaves one meter record."""

import json
import math
import re

import pytest
import requests

from harness import aws, packages, processes, volatile

WRITER = (
    "import os, sys\n"
    "def handler(event, context):\n"
    "    for n in range(event.get('lines', 1)):\n"
    "        print(event['text'], n)\n"
    "    return context.log_stream_name\n"
)


@pytest.fixture(scope="module")
def writer(deploy):
    return deploy({"app.py": WRITER}, packages.PYTHON, "app.handler", MemorySize=256)


def entries(server, name, **filters):
    """A function's log as Brooklet's own API gives it: {timestamp, stream, request_id, message} in order."""
    answer = requests.get(f"{server.url}/_brooklet/v1/functions/{name}/logs", params=filters, timeout=60)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines() if line]


def messages(server, name, **filters):
    return [entry["message"] for entry in entries(server, name, **filters)]


def request_id(answer):
    return answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]


def test_an_invocation_is_found_by_its_request_id_alone(writer, server):
    first, second = writer.invoke({"text": "first"}), writer.invoke({"text": "second"})
    found = messages(server, writer.name, request_id=request_id(first))
    assert found[0] == f"START RequestId: {request_id(first)} Version: $LATEST"
    assert found[1] == "first 0"
    assert found[2] == f"END RequestId: {request_id(first)}"
    assert found[3].startswith(f"REPORT RequestId: {request_id(first)}\tDuration: ")
    assert len(found) == 4
    assert messages(server, writer.name, request_id=request_id(second))[1] == "second 0"


#: What writes a line, and then another, 300 ms after it has answered; with an event it ends after that.
LATE = {
    "python": (
        packages.PYTHON,
        "app.handler",
        {
            "app.py": "import os, threading\n"
            "def late(ends):\n    print('late')\n    print('later', flush=True)\n    ends and os._exit(3)\n"
            "def handler(event, context):\n    threading.Timer(0.3, late, [event['ends']]).start()\n"
        },
    ),
    "node": (
        volatile.node_runtime(),
        "app.handler",
        {
            "app.mjs": "const late = ends => { console.log('late'); console.log('later'); ends && process.exit(3) }\n"
            "export const handler = async event => { setTimeout(late, 300, event.ends) }\n"
        },
    ),
    "an official client's protocol": (
        "provided.al2023",
        "bootstrap",
        {
            "bootstrap": "#!/bin/bash\nnext=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation\n"
            "while head=$(mktemp) && event=$(curl -sD $head $next/next); do\n"
            "  id=$(grep -i runtime-aws-request-id $head | tr -d '\\r' | cut -d' ' -f2)\n"
            "  late() { sleep 0.3; echo late; echo later; [[ $event == *true* ]] && kill -9 $$; }\n"
            "  late & curl -s $next/$id/response -d null\ndone\n"
        },
    ),
}


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("how", LATE)
def test_what_is_written_between_invocations_is_logged_then_and_not_with_the_next(fresh, how, ends):
    server = fresh(config='freeze-after = "never"\n')
    runtime, handler, files = LATE[how]
    function = aws.Deployer(aws.client(server), "late")(files, runtime, handler)
    for _ in range(2):
        function({"ends": False})
    function({"ends": ends})
    late = lambda: [m for m in messages(server, function.name) if m.endswith(("late", "later"))]  # noqa: E731
    processes.wait_until(lambda: len(late()) == 6, lambda: f"three times two lines: {messages(server, function.name)}")
    processes.wait_until(lambda: not ends or not server.instances(), "it has ended")
    assert len(late()) == 6


def test_an_instance_is_found_by_its_stream(writer, server):
    stream = writer({"text": "in the stream"})
    found = entries(server, writer.name, stream=stream)
    assert {entry["stream"] for entry in found} == {stream}
    assert "in the stream 0" in [entry["message"] for entry in found]
    assert entries(server, writer.name, stream="2026/01/01/[$LATEST]" + "0" * 32) == []


def test_a_function_is_found_by_its_arn_too(writer, server):
    answer = writer.invoke({"text": "by ARN"})
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{writer.name}"
    assert "by ARN 0" in messages(server, requests.utils.quote(arn, safe=""), request_id=request_id(answer))


def test_entries_are_in_order_and_timed(writer, server):
    answer = writer.invoke({"text": "counted", "lines": 500})
    found = entries(server, writer.name, request_id=request_id(answer))
    assert [e["message"] for e in found[1:501]] == [f"counted {n}" for n in range(500)]
    times = [e["timestamp"] for e in found]
    assert times == sorted(times)
    later = entries(server, writer.name, since_ms=times[-1] + 60_000)
    assert later == []


@pytest.mark.parametrize(
    "code, expected",
    [
        ("import sys; sys.stdout.write('no end'); sys.stdout.flush()", ["no end"]),
        ("import os; os.write(1, b'\\xff\\xfe bytes\\n')", ["\ufffd\ufffd bytes"]),
        ("print('a\\n\\nb')", ["a", "", "b"]),
        ("print('tab\\tand \\x1b[1mcolour\\x1b[0m')", ["tab\tand \x1b[1mcolour\x1b[0m"]),
        ("import os; os.write(1, b'x' * 300_000 + b'\\n')", None),
        ("import subprocess; subprocess.run(['echo', 'from a child'])", ["from a child"]),
    ],
    ids=[
        "no line end",
        "bytes that are no UTF-8",
        "an empty line",
        "control characters",
        "a very long line",
        "a child",
    ],
)
def test_whatever_is_written_is_kept(deploy, server, code, expected):
    function = deploy({"app.py": f"def handler(event, context):\n    {code}\n"}, packages.PYTHON, "app.handler")
    answer = function.invoke()
    found = messages(server, function.name, request_id=request_id(answer))[1:-2]
    if expected is None:
        assert "".join(found) == "x" * 300_000
    else:
        # Python's own print writes "a\n\nb\n" as one record; a record may keep its lines together.
        assert "\n".join(found) == "\n".join(expected)


def test_what_is_written_during_initialisation_is_in_the_log(deploy, server):
    function = deploy(
        {"app.py": "print('at the start')\ndef handler(event, context): pass\n"}, packages.PYTHON, "app.handler"
    )
    function()
    assert "at the start" in messages(server, function.name)


def test_logs_outlive_the_server_also_when_it_is_killed(fresh, tmp_path):
    one = fresh(data_dir=tmp_path / "data")
    function = aws.Deployer(aws.client(one), "kept")({"app.py": WRITER}, packages.PYTHON, "app.handler")
    first = request_id(function.invoke({"text": "before the stop"}))
    one.stop()
    two = fresh(data_dir=tmp_path / "data")
    again = aws.Function(aws.client(two), function.name)
    second = request_id(again.invoke({"text": "before the kill"}))
    # Reading waits for the disk, so what was read once is there for good.
    assert "before the kill 0" in messages(two, function.name, request_id=second)
    two.kill()
    three = fresh(data_dir=tmp_path / "data")
    assert "before the stop 0" in messages(three, function.name, request_id=first)
    assert "before the kill 0" in messages(three, function.name, request_id=second)


def test_a_log_is_bounded_on_disk_and_the_oldest_goes_first(fresh):
    own = fresh()
    function = aws.Deployer(aws.client(own), "flood")({"app.py": WRITER}, packages.PYTHON, "app.handler", Timeout=60)
    first = request_id(function.invoke({"text": "the very first"}))
    for _ in range(5):
        last = request_id(function.invoke({"text": "x" * 10_000, "lines": 1000}))
    assert messages(own, function.name, request_id=last)[-3] == f"{'x' * 10_000} 999"
    assert messages(own, function.name, request_id=first) == [], "50 MB later the first is gone"
    held = sum(path.stat().st_size for path in (own.data_dir / "logs").rglob("*") if path.is_file())
    assert held <= 33 << 20, f"{held >> 20} MiB on disk; a function's log is kept to 32"


def test_the_log_goes_with_its_function_also_when_the_server_was_killed_in_between(fresh, tmp_path):
    one = fresh(data_dir=tmp_path / "data")
    deploy = aws.Deployer(aws.client(one), "gone")
    gone, stays = (deploy({"app.py": WRITER}, packages.PYTHON, "app.handler") for _ in range(2))
    for function in (gone, stays):
        function({"text": "line"})
        assert messages(one, function.name)
    gone.client.delete_function(FunctionName=gone.name)
    logs = one.data_dir / "logs"
    processes.wait_until(lambda: not (logs / gone.name).exists(), "the log is removed")
    one.kill()
    # As if it had been killed before it came to that.
    (logs / gone.name).mkdir()
    fresh(data_dir=tmp_path / "data")
    processes.wait_until(lambda: not (logs / gone.name).exists(), "the log is removed")
    assert (logs / stays.name).exists()


def test_a_function_that_floods_its_log_holds_no_other_up(deploy):
    flood = deploy({"app.py": WRITER}, packages.PYTHON, "app.handler", Timeout=60, MemorySize=256)
    quiet = deploy({"app.py": WRITER}, packages.PYTHON, "app.handler")
    _, log = flood.tail({"text": "flood", "lines": 100_000})
    assert "flood 99999\n" in log, "the tail is of the end, however much came before"
    _, log = quiet.tail({"text": "quiet"})
    assert "quiet 0\n" in log and "flood" not in log


def test_the_tail_of_a_cold_start_has_what_the_function_wrote_while_it_started(deploy):
    function = deploy({"app.py": "print('warming up')\n" + WRITER}, packages.PYTHON, "app.handler")
    _, log = function.tail({"text": "served"})
    assert re.match(r"warming up\nSTART RequestId: \S+ Version: \$LATEST\nserved 0\nEND ", log), log
    _, log = function.tail({"text": "served"})
    assert log.startswith("START "), "the start was another invocation's"


def test_the_start_of_a_cold_start_counts_into_the_4_kib_of_the_tail(deploy):
    code = "for n in range(2000): print('warming', n)\n" + WRITER
    function = deploy({"app.py": code}, packages.PYTHON, "app.handler")
    _, log = function.tail({"text": "served", "lines": 3})
    assert len(log) == 4096 and "warming 1999\nSTART " in log and "served 2\nEND " in log


FAILED_STARTS = {
    "raises": ("raise ValueError('no')", "Runtime.Unknown|ValueError"),
    "exits": ("import os; os._exit(4)", "Runtime.ExitError"),
    "hangs": ("import time; time.sleep(60)", ""),
}


@pytest.mark.parametrize("how", FAILED_STARTS)
def test_a_start_that_failed_tells_what_it_wrote_and_the_memory_it_used(deploy, how):
    end, kind = FAILED_STARTS[how]
    code = f"print('warming up', flush=True)\neaten = b'x' * (60 << 20)\n{end}\n" + WRITER
    function = deploy({"app.py": code}, packages.PYTHON, "app.handler", MemorySize=256, Timeout=1)
    answer, log = function.tail({})
    assert answer["FunctionError"] == "Unhandled"
    assert log.startswith("warming up\n") and "INIT_REPORT " in log
    assert re.search(f"Error Type: ({kind})" if kind else "Status: timeout", log), log
    assert 60 <= int(re.search(r"Max Memory Used: (\d+) MB", log)[1]) <= 256, log


GROWS = """
import os, time
def handler(event, context):
    eaten = b"x" * (event["mib"] << 20)
    if event.get("then") == "exit": os._exit(3)
    if event.get("then") == "hang": time.sleep(60)
"""


@pytest.mark.parametrize("then", ["exit", "hang"])
def test_an_end_that_was_sudden_tells_the_memory_used_up_to_it(deploy, then):
    function = deploy({"app.py": GROWS}, packages.PYTHON, "app.handler", MemorySize=256, Timeout=1)
    for event, least in (({"mib": 1}, 1), ({"mib": 60, "then": then}, 60)):
        _, log = function.tail(event)
        assert least <= int(re.search(r"Max Memory Used: (\d+) MB", log)[1]) <= 60 + least, log


def test_a_bad_filter_is_told(server, writer):
    at = f"{server.url}/_brooklet/v1/functions"
    for query in ("request_id=no", "since_ms=yesterday", "follow=maybe"):
        answer = requests.get(f"{at}/{writer.name}/logs?{query}", timeout=10)
        assert answer.status_code == 400 and query.partition("=")[0] in answer.text
    assert requests.get(f"{at}/not-there/logs", timeout=10).status_code == 404


# ---- the meter -----------------------------------------------------------------------------------------------


def test_every_invocation_leaves_one_meter_record(fresh):
    own = fresh()
    client = aws.client(own)
    function = aws.Deployer(client, "meter")(packages.python_probe(), packages.PYTHON, "probe.handler", Timeout=1)
    asked = {
        request_id(function.invoke(event)): status
        for event, status in [
            ({"do": "echo", "value": 1}, "success"),
            ({"do": "fail", "message": "dry"}, "error"),
            ({"do": "exit", "code": 1}, "crash"),
            ({"do": "sleep", "ms": 60_000}, "timeout"),
            ({"do": "echo", "value": 2}, "success"),
        ]
    }
    client.invoke(FunctionName=function.name, InvocationType="DryRun")
    own.stop()
    lines = [line for path in (own.data_dir / "meter").iterdir() for line in path.read_text().splitlines()]
    records = {record["request_id"]: record for record in map(json.loads, lines)}
    assert len(lines) == len(records) == len(asked), "one each, and none for what never ran"
    assert {key: record["status"] for key, record in records.items()} == asked
    for record in records.values():
        paid = record["duration_us"] + record.get("init_us", 0)
        assert record["billed_ms"] == max(1, math.ceil(paid / 1000))
        assert (record["function"], record["version"], record["memory"]) == (function.name, "$LATEST", 128)
    timeout = next(r for r in records.values() if r["status"] == "timeout")
    assert 1_000_000 <= timeout["duration_us"] < 2_000_000
