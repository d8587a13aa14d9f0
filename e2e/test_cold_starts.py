"""Every cold start tells what it consisted of: in REPORT, in JSON logs, in the meter, in metrics, in `bench coldstart`.
One that failed tells the phases that it reached."""

import concurrent.futures
import json
import os
import re
import signal
import urllib.error
import urllib.request

import pytest

from harness import aws, packages, processes
from harness.processes import wait_until
from harness.server import run

PARTS = re.compile(
    r"Cold Start: queue ([\d.]+) ms, code ([\d.]+) ms, sandbox ([\d.]+) ms, (?:runtime ([\d.]+) ms(?: \((\w+)\))?, )?init ([\d.]+) ms"
)


@pytest.fixture
def own(fresh):
    server = fresh()
    return server, aws.Deployer(aws.client(server), "cold")


def parts(log):
    """The phases in a log, in milliseconds, and the runtime that was made ahead."""
    found = PARTS.search(log)
    assert found, log
    queue, code, sandbox, runtime, used, init = found.groups()
    return [float(ms) for ms in (queue, code, sandbox, runtime or 0, init)], used


def records(server):
    lines = "".join(path.read_text() for path in sorted((server.data_dir / "meter").iterdir()))
    return [json.loads(line) for line in lines.splitlines()]


def metrics(server):
    """What Prometheus would scrape: {name and labels: value}."""
    with urllib.request.urlopen(server.url + "/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        text = answer.read().decode()
    assert text.endswith("# EOF\n")
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def test_report_tells_the_phases_after_lambdas_own_fields_and_they_add_up(own):
    server, deploy = own
    function = deploy(packages.python_probe(), packages.PYTHON, "probe.handler")
    _, log = function.tail({"do": "instance"})
    report = next(line for line in log.splitlines() if line.startswith("REPORT"))
    fields = [field.partition(":")[0] for field in report.split("\t") if field]
    assert fields == [
        "REPORT RequestId",
        "Duration",
        "Billed Duration",
        "Memory Size",
        "Max Memory Used",
        "Init Duration",
        "Cold Start",
    ]
    init = float(re.search(r"Init Duration: ([\d.]+) ms", report)[1])
    phases, used = parts(report)
    assert sum(phases[2:]) == pytest.approx(init, abs=0.05), "sandbox, runtime and init are all of it"
    assert used is None and phases[3] > 0, "nothing waited yet, so the interpreter had to boot"
    _, log = function.tail({"do": "instance"})
    assert "Cold Start" not in log and "Init Duration" not in log, "a warm one has none"
    cold, warm = records(server)
    assert sum(cold["cold_start"][f"{phase}_us"] for phase in ("sandbox", "runtime", "init")) == pytest.approx(
        cold["init_us"], abs=5
    )
    assert "cold_start" not in warm


def test_a_runtime_that_waited_is_told_as_such(own):
    server, deploy = own
    function = deploy(packages.python_probe(), packages.PYTHON, "probe.handler")

    def start():
        run("bench", "coldstart", function.name, "--count", 1, "--data", '{"do": "instance"}', env=at(server))
        return parts(run("logs", function.name, env=at(server)).stdout.splitlines()[-1])

    used = wait_until(lambda: (got := start())[1] and got, "a runtime was ready for a start")
    assert used[1] in ("waited", "forked") and used[0][3] == 0


@pytest.mark.parametrize(
    "package, runtime, handler",
    [(packages.python_probe(), packages.PYTHON, "probe.handler"), (packages.node_probe(), "nodejs20.x", "probe.handler")],
)
def test_a_runtime_that_ends_before_it_has_heard_of_its_function_costs_nobody_anything(own, package, runtime, handler):
    server, deploy = own
    function = deploy(package, runtime, handler)
    function({"do": "instance"})
    waiting = wait_until(lambda: processes.waiting_runtimes(server.process.pid), "a runtime waits")
    for pid in waiting:
        os.kill(pid, signal.SIGSTOP)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        function.update(Description="new instances")
        answer = pool.submit(function, {"do": "echo", "value": 1})
        told = lambda: [pid for pid in waiting if processes.unread(pid)]  # noqa: E731
        for pid in wait_until(told, "one of them has been told its function"):
            os.kill(pid, signal.SIGKILL)
        assert answer.result() == 1
    _, phases = parts(run("logs", function.name, env=at(server)).stdout.splitlines()[-1])
    assert phases is None, "another was started"


def at(server):
    return {"BROOKLET_SERVER": server.url}


def test_an_official_client_has_no_runtime_phase_because_nothing_tells_it_from_init(own):
    _, deploy = own
    function = deploy(packages.shell())
    _, log = function.tail({})
    assert "runtime" not in log[log.index("Cold Start") :]


def test_json_logs_have_the_telemetry_apis_records_of_an_initialisation(own):
    server, deploy = own
    function = deploy(packages.python_probe(), packages.PYTHON, "probe.handler", LoggingConfig={"LogFormat": "JSON"})
    function({"do": "instance"})
    lines = run("logs", function.name, env=at(server)).stdout.splitlines()
    entries = [json.loads(line[line.index("{") :]) for line in lines if '"type":"platform.' in line]
    kinds = [entry["type"] for entry in entries]
    assert kinds[:4] == ["platform.initStart", "platform.initRuntimeDone", "platform.initReport", "platform.start"]
    start, done, report = (entry["record"] for entry in entries[:3])
    assert start["initializationType"] == "on-demand" and start["phase"] == "init"
    assert (start["functionVersion"], start["runtimeVersion"]) == ("$LATEST", packages.PYTHON)
    assert done == {"initializationType": "on-demand", "phase": "init", "status": "success"}
    assert report["metrics"]["durationMs"] > 0
    assert entries[-1]["type"] == "platform.report"
    assert entries[-1]["record"]["coldStart"] == report["coldStart"]
    assert set(report["coldStart"]) == {"queueMs", "codeMs", "sandboxMs", "runtimeMs", "initMs"}


#: How a start may fail: the function, the type of the error that is told, the phases that it reached.
PYTHON = ["queue", "code", "sandbox", "runtime", "init"]
FAILURES = {
    "an error of the function's": ({"PROBE_INIT": "fail"}, "ValueError", PYTHON),
    "the end of its process": ({"PROBE_INIT": "exit"}, "Runtime.ExitError", PYTHON),
    "no end within the time": ({"PROBE_INIT": "hang"}, "Sandbox.Timedout", PYTHON),
    "too much memory": ({"PROBE_INIT": "eat"}, "Runtime.OutOfMemory", PYTHON),
    "an interpreter that does not boot": ({"PYTHONHOME": "/nowhere"}, "Runtime.ExitError", PYTHON[:-1]),
    "a program that ends": (None, "Runtime.ExitError", ["queue", "code", "sandbox", "init"]),
    "a program that cannot be executed": (b"\x7fELF", "Runtime.InvalidEntrypoint", ["queue", "code", "sandbox"]),
}


@pytest.mark.parametrize("format", ["Text", "JSON"])
@pytest.mark.parametrize("how", FAILURES)
def test_a_start_that_fails_tells_the_phases_that_it_reached(own, how, format):
    server, deploy = own
    what, kind, reached = FAILURES[how]
    more = {"LoggingConfig": {"LogFormat": format}, "Timeout": 3}
    if isinstance(what, dict):
        more["Environment"] = {"Variables": what}
        function = deploy(packages.python_probe(), packages.PYTHON, "probe.handler", **more)
    else:
        function = deploy(packages.zip_of({"bootstrap": what or "#!/bin/sh\nexit 3\n"}), **more)
    assert function.error({"do": "instance"})["errorType"] == kind
    log = run("logs", function.name, env=at(server)).stdout
    (record,) = records(server)
    phases = record["cold_start"]
    assert [phase for phase in PYTHON if f"{phase}_us" in phases] == reached
    assert sum(phases.get(f"{phase}_us", 0) for phase in PYTHON[2:]) == pytest.approx(record["init_us"], abs=5)
    if kind == "Sandbox.Timedout":
        assert phases["init_us"] > 9e6 > phases["sandbox_us"] + phases["runtime_us"], "what hung is what took so long"
    if format == "JSON":
        entries = [json.loads(line[line.index("{") :]) for line in log.splitlines() if '"type":"platform.' in line]
        told = {entry["type"]: entry["record"].get("coldStart") for entry in entries}
        assert told["platform.initReport"] == told["platform.report"]
        assert [phase for phase in PYTHON if f"{phase}Ms" in told["platform.report"]] == reached
    else:
        told = re.findall(r"Cold Start: (.*?) ms(?:\t|$)", log, re.M)
        assert len(told) == 2 and told[0] == told[1], f"in INIT_REPORT and in REPORT: {log}"
        assert [part.split(" ")[0] for part in told[0].split(", ")] == reached
    found = metrics(server)
    for phase in PYTHON:
        assert found[f'brooklet_failed_start_phase_seconds_count{{phase="{phase}"}}'] == (phase in reached)
        assert found[f'brooklet_cold_start_phase_seconds_count{{phase="{phase}"}}'] == 0


def test_text_logs_begin_with_the_initialisation(own):
    server, deploy = own
    function = deploy(packages.python_probe(), packages.PYTHON, "probe.handler")
    function({"do": "instance"})
    lines = run("logs", function.name, env=at(server)).stdout.splitlines()
    assert f"INIT_START Runtime Version: {packages.PYTHON}" in lines[0]
    assert "START RequestId" in lines[1]


def test_metrics_count_invocations_errors_throttles_cold_starts_instances_and_memory(own):
    server, deploy = own
    function = deploy(packages.python_probe(), packages.PYTHON, "probe.handler")
    for _ in range(3):
        function({"do": "instance"})
    function.error({"do": "fail", "message": "as asked"})
    function.client.put_function_concurrency(FunctionName=function.name, ReservedConcurrentExecutions=0)
    with pytest.raises(function.client.exceptions.TooManyRequestsException):
        function.invoke()
    found = metrics(server)
    assert found['brooklet_invocations_total{status="success"}'] == 3
    assert found['brooklet_invocations_total{status="error"}'] == 1
    assert found['brooklet_throttles_total{limit="reserved"}'] == 1
    assert found["brooklet_invocation_duration_seconds_count"] == 4
    for phase in ("queue", "code", "sandbox", "runtime", "init"):
        assert found[f'brooklet_cold_start_phase_seconds_count{{phase="{phase}"}}'] == 1
    assert found['brooklet_instances{state="idle"}'] == 1
    assert 0 < found['brooklet_memory_bytes{of="instances"}'] < found['brooklet_memory_bytes{of="limit"}']
    size = len(found)
    deploy(packages.python_probe(), packages.PYTHON, "probe.handler")({"do": "instance"})
    assert len(metrics(server)) == size, "however many functions there are"


def test_metrics_are_for_whoever_has_a_key_where_there_are_keys(fresh):
    server = fresh(config='[access-keys]\nAKIDEXAMPLE = "secretsecretsecretsecret"\n')
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(server.url + "/metrics")
    assert refused.value.code == 403


def test_prometheus_reads_the_metrics_with_a_token_that_permits_nothing_else(fresh):
    token = "0123456789abcdef0123456789abcdef"
    config = f'metrics-token = "{token}"\n[access-keys]\nAKIDEXAMPLE = "secretsecretsecretsecret"\n'
    server = fresh(config=config)

    def get(path, token):
        request = urllib.request.Request(server.url + path, headers={"Authorization": f"Bearer {token}"})
        return urllib.request.urlopen(request).read().decode()

    assert get("/metrics", token).endswith("# EOF\n")
    for path, wrong in [("/metrics", token[:-1] + "e"), ("/_brooklet/v1/info", token), ("/2015-03-31/functions", token)]:
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(path, wrong)
        assert refused.value.code in (400, 403), path
        assert token not in refused.value.read().decode()
    client = aws.client(server, keys=("AKIDEXAMPLE", "secretsecretsecretsecret"))
    assert client.list_functions()["Functions"] == []
    assert token not in server.log()


def test_bench_coldstart_makes_cold_starts_and_shows_their_phases(own):
    server, deploy = own
    function = deploy(packages.python_probe(), packages.PYTHON, "probe.handler")
    event = ("--data", '{"do": "instance"}')
    done = run("bench", "coldstart", function.name, "--count", 5, *event, "--output", "json", env=at(server))
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["function"], shown["coldStarts"], shown["warm"]) == (function.name, 5, 0)
    assert sum(shown["used"].values()) == 5
    for phase in ("queue", "code", "sandbox", "init", "caller"):
        assert 0 <= shown["ms"][phase]["p50"] <= shown["ms"][phase]["p90"] <= shown["ms"][phase]["max"]
    assert shown["ms"]["caller"]["p50"] > shown["ms"]["sandbox"]["p50"] + shown["ms"]["init"]["p50"] > 0
    table = run("bench", "coldstart", function.name, "--count", 2, *event, env=at(server))
    assert re.search(r"^phase +p50 ms +p90 ms +max ms\nqueue ", table.stdout), table.stdout
    assert "2 cold starts" in table.stderr
    absent = run("bench", "coldstart", "nobody", env=at(server))
    assert absent.returncode == 7 and "brooklet deploy" in absent.stderr
    failing = run("bench", "coldstart", function.name, "--data", '{"do": "fail", "message": "no"}', env=at(server))
    assert failing.returncode == 9 and "no" in failing.stderr
