"""Learned keep-alive: instances that are there before the request, and what `brooklet simulate` says of a log."""

import base64
import json
import re
import uuid

import pytest

from harness import aws, packages
from harness.processes import wait_until
from harness.server import run

LEARNED = 'keep-alive = "learned"\nkeep-alive-bin = "100ms"\nidle-timeout = "1s"\n'


def records(name, idle_ms, count):
    """Meter records of a function that was called again and again after these idle times, in turn."""
    at, lines = 1_800_000_000_000, []
    for number in range(count):
        record = {
            "request_id": str(uuid.uuid4()),
            "function": name,
            "version": "$LATEST",
            "stream": "2027/01/15/[$LATEST]0",
            "started": at,
            "status": "success",
            "duration_us": 2_000,
            "billed_ms": 2,
            "memory": 128,
            "max_memory": 20,
        }
        lines.append(json.dumps(record) + "\n")
        at += 2 + idle_ms[number % len(idle_ms)]
    return "".join(lines)


@pytest.fixture
def learned(fresh, tmp_path):
    """A server that finds records of a function called three to five seconds after its last answer, and that function."""
    meter = tmp_path / "data" / "meter"
    meter.mkdir(parents=True)
    (meter / "2027-01-15.ndjson").write_text(records("learned-f", range(3_000, 5_000, 100), 200))
    own = fresh(data_dir=tmp_path / "data", config=LEARNED)
    wait_until(lambda: "learned from the meter records" in own.log(), "the records are read")
    deployer = aws.Deployer(aws.client(own), "learned")
    function = deployer(packages.python_probe(), packages.PYTHON, "probe.handler", name="learned-f")
    return own, function


def test_an_instance_is_started_before_the_request_that_is_expected_and_serves_it_without_a_cold_start(learned):
    own, function = learned
    first = function({"do": "instance"})
    wait_until(lambda: not own.instances(), "nothing is expected at once, so nothing stays")
    wait_until(lambda: "was started ahead of an expected request" in own.log(), "something is expected now")
    answer = function.client.invoke(FunctionName=function.name, Payload=b'{"do": "instance"}', LogType="Tail")
    again, log = json.load(answer["Payload"]), base64.b64decode(answer["LogResult"]).decode()
    assert again["id"] != first["id"] and again["count"] == 1, "another instance, used for the first time"
    assert "Init Duration" not in log and "REPORT" in log, log


def test_an_instance_that_was_started_ahead_in_vain_is_stopped_again(learned):
    own, function = learned
    function({"do": "instance"})
    wait_until(lambda: "was started ahead of an expected request" in own.log(), "something is expected")
    wait_until(lambda: not own.instances(), "its time has passed")
    lines = run("logs", function.name, env={"BROOKLET_SERVER": own.url}).stdout
    assert re.search(r"INIT_REPORT Init Duration: \d+\.\d\d ms\tPhase: init\tStatus: success\tStarted ahead", lines), lines


def test_the_log_of_a_server_can_be_simulated_while_it_runs(fresh, tmp_path):
    own = fresh()
    function = aws.Deployer(aws.client(own), "log")(packages.python_probe(), packages.PYTHON, "probe.handler")
    for _ in range(25):
        function({"do": "instance"})
    plot = tmp_path / "plot.svg"
    done = run(
        *("simulate", "--data-dir", own.data_dir, "--policy", "fixed:10m", "--policy", "learned:10m"),
        *("--output", "json", "--plot", plot),
    )
    assert done.returncode == 0, done.stderr
    fixed, learned = json.loads(done.stdout)
    assert (fixed["policy"], fixed["invocations"], fixed["functions"], fixed["coldStarts"]) == ("fixed 10m", 25, 1, 1)
    assert learned["coldStarts"] == 1 and fixed["waitMs"]["p50"] == 0 < fixed["waitMs"]["max"]
    assert plot.read_text().startswith("<svg")


def test_what_ran_lately_is_unpacked_at_once_after_a_start_of_the_machine(fresh):
    own = fresh(config='keep-alive = "learned"\n')
    function = aws.Deployer(aws.client(own), "unpacked")(packages.python_probe(), packages.PYTHON, "probe.handler")
    for _ in range(2):
        function({"do": "instance"})
    code = own.data_dir / "code"
    digest = base64.b64decode(function.client.get_function_configuration(FunctionName=function.name)["CodeSha256"]).hex()
    own.kill()
    assert (code / digest).is_dir()
    (code / ".boot").write_text("when the machine ran before")
    own.start()
    wait_until((code / digest / "probe.py").exists, "nobody has asked for it, and it is there")
    assert not own.instances()
