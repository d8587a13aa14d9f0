"""The official runtime clients, unmodified: Python, Node, Go, Java and Rust as `provided` bootstraps, Java also
as handler classes; and bootstraps without a client, in shell and in C#.

Each language has the same probe (functions/python/probe.py says what it answers), so one table holds for all.
"""

import base64
import concurrent.futures
import json
import re
import shutil

import pytest
import requests

from harness import aws, packages, rigs
from harness.gate import Gate

CLIENTS = ["awslambdaric", "aws-lambda-ric", "aws-lambda-go", "java-ric", "java17", "lambda_runtime"]

#: What the clients call the error that the probe raises, and whether they send a stack.
ERRORS = {
    "awslambdaric": ("ValueError", "stackTrace"),
    "aws-lambda-ric": ("TypeError", "trace"),
    "aws-lambda-go": ("errorString", None),
    "java-ric": ("java.lang.IllegalArgumentException", "stackTrace"),
    "java17": ("java.lang.IllegalArgumentException", "stackTrace"),
    "lambda_runtime": (None, None),
}


def package(client):
    """(package, runtime, handler) of the probe on a client."""
    return {
        "awslambdaric": lambda: (packages.awslambdaric(), "provided.al2023", "probe.handler"),
        "aws-lambda-ric": lambda: (packages.aws_lambda_ric(), "provided.al2023", "probe.handler"),
        "aws-lambda-go": lambda: (packages.go("probe"), "provided.al2023", "bootstrap"),
        "java-ric": lambda: (packages.java_bootstrap(), "provided.al2023", "example.Probe::handleRequest"),
        "java17": lambda: (packages.java(), "java17", "example.Probe::handleRequest"),
        "lambda_runtime": lambda: (packages.rust("probe"), "provided.al2023", "bootstrap"),
    }[client]()


@pytest.fixture(scope="module")
def probes(deploy):
    """Deploys the probe of a client once."""
    made = {}

    def probe(client):
        if client not in made:
            code, runtime, handler = package(client)
            made[client] = deploy(
                code,
                runtime,
                handler,
                MemorySize=512,
                Timeout=60,
                Environment={"Variables": {"COLOUR": "blue", "EMPTY": ""}},
            )
        return made[client]

    return probe


@pytest.fixture(params=CLIENTS)
def client(request):
    return request.param


@pytest.fixture
def probe(probes, client):
    return probes(client)


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "", "grüße 🌊", [], {"a": [1, {"b": None}]}], ids=json.dumps)
def test_an_event_comes_back_as_it_went(probe, client, value):
    if client.startswith("java") and isinstance(value, dict):
        value = {"a": [1, {"b": "c"}]}  # Java's own serialiser leaves out members that are null
    assert probe({"do": "echo", "value": value}) == value


def test_the_context_says_who_is_called_and_how_long_there_is(probe, client):
    answer = probe.invoke({"do": "context"})
    said = json.loads(answer["Payload"])
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{probe.name}"
    expected = {
        "request_id": answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"],
        "arn": arn,
        "function": probe.name,
        "version": "$LATEST",
        "memory": 512,
        "log_group": f"/aws/lambda/{probe.name}",
    }
    assert {key: said[key] for key in expected} == expected
    assert 0 < said["remaining_ms"] <= 60_000
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", said["log_stream"])
    assert json.loads(probe.invoke({"do": "context"}, Qualifier="$LATEST")["Payload"])["arn"] == arn + ":$LATEST"


def test_client_context_arrives(probe):
    # As the mobile SDKs send it; the Rust client wants every member.
    names = ("installationId", "appTitle", "appVersionName", "appVersionCode", "appPackageName")
    context = {"client": {n: "x" for n in names}, "custom": {"k": "v"}, "environment": {"locale": "en"}, "env": {}}
    given = base64.b64encode(json.dumps(context).encode()).decode()
    assert probe({"do": "context"}, ClientContext=given)["custom"] == {"k": "v"}


def test_environment_variables_are_the_users_and_lambdas(probe, client):
    names = [
        "COLOUR",
        "EMPTY",
        "NOT_SET",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_REGION",
        "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR",
        "AWS_EXECUTION_ENV",
        "AWS_XRAY_DAEMON_ADDRESS",
        "PATH",
        "TZ",
        "HOME_OF_THE_SERVER",
    ]
    managed = client == "java17"
    seen = probe({"do": "env", "names": names})
    assert {name: seen.get(name) for name in names} == {
        "COLOUR": "blue",
        "EMPTY": "",
        "NOT_SET": None,
        "AWS_LAMBDA_FUNCTION_NAME": probe.name,
        "AWS_REGION": "us-east-1",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "AWS_EXECUTION_ENV": "AWS_Lambda_java17" if managed else None,
        "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
        "PATH": ("/var/lang/bin:" if managed else "") + "/usr/local/bin:/usr/bin:/bin:/opt/bin",
        "TZ": ":UTC",
        "HOME_OF_THE_SERVER": None,
    }


def test_an_error_is_told_in_lambdas_shape_and_the_instance_goes_on(probe, client):
    before = probe({"do": "instance"})
    error = probe.error({"do": "fail", "message": "the river is dry"})
    kind, stack = ERRORS[client]
    assert "the river is dry" in error["errorMessage"]
    assert error["errorType"] == kind if kind else error["errorType"]
    if stack:
        assert isinstance(error[stack], list) and error[stack]
    after = probe({"do": "instance"})
    assert after["id"] == before["id"] and after["count"] == before["count"] + 2


def test_five_mebibytes_go_both_ways(probe):
    size = 5 << 20
    assert probe({"do": "measure", "value": "x" * size}) == {"length": size}
    assert probe({"do": "make", "bytes": size}) == "x" * size


def test_requests_at_once_run_in_instances_of_their_own(probe):
    with Gate() as gate, concurrent.futures.ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(probe, {"do": "hold", "url": gate.url}) for _ in range(4)]
        gate.wait_for(4)
        gate.open()
        assert len({a.result()["id"] for a in asked}) == 4


def test_what_is_printed_is_in_the_log(probe):
    _, log = probe.tail({"do": "log", "lines": ["one fish", "two fish"]})
    assert "one fish\n" in log and "two fish\n" in log


def test_a_timeout_is_named_and_the_next_request_gets_a_new_instance(probes, client, deploy):
    code, runtime, handler = package(client)
    slow = deploy(code, runtime, handler, Timeout=3, MemorySize=512)
    before = slow({"do": "instance"})
    answer = slow.invoke({"do": "sleep", "ms": 60_000})
    request = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    assert json.loads(answer["Payload"]) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {request} Error: Task timed out after 3.00 seconds",
    }
    assert slow({"do": "instance"})["id"] != before["id"]


def test_a_crash_is_named_and_the_next_request_gets_a_new_instance(probe):
    before = probe({"do": "instance"})
    answer = probe.invoke({"do": "exit", "code": 3})
    request = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    assert json.loads(answer["Payload"]) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {request} Error: Runtime exited with error: exit status 3",
    }
    assert probe({"do": "instance"})["id"] != before["id"]


@pytest.mark.parametrize("client", ["awslambdaric", "aws-lambda-ric", "java-ric"])
def test_an_initialisation_that_fails_is_told_by_its_own_error(deploy, client):
    code, runtime, handler = package(client)
    broken = deploy(code, runtime, handler, MemorySize=512, Environment={"Variables": {"PROBE_INIT": "fail"}})
    error = broken.error({})
    kinds = {
        "awslambdaric": "ValueError",
        "aws-lambda-ric": "TypeError",
        "java-ric": "java.lang.ExceptionInInitializerError",
    }
    assert error["errorType"] == kinds[client]
    if client != "java-ric":
        assert "the probe was told to fail" in error["errorMessage"]


def test_an_initialisation_that_exits_is_an_exit_error(deploy, client):
    code, runtime, handler = package(client)
    broken = deploy(code, runtime, handler, MemorySize=512, Environment={"Variables": {"PROBE_INIT": "exit"}})
    answer = broken.invoke({})
    request = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    assert json.loads(answer["Payload"]) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {request} Error: Runtime exited with error: exit status 7",
    }


# ---- streaming -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", ["aws-lambda-go", "lambda_runtime"])
def test_a_function_url_streams_what_the_client_streams(deploy, client):
    program = packages.go("streaming") if client == "aws-lambda-go" else packages.rust("streaming")
    url = deploy(program, MemorySize=256).url(InvokeMode="RESPONSE_STREAM")
    with Gate() as gate, requests.get(url, params={"gate": gate.url}, stream=True, timeout=30) as answer:
        assert answer.status_code == 202
        assert answer.headers["x-probe"] == ("go" if client == "aws-lambda-go" else "rust")
        chunks = answer.iter_content(None)
        assert next(chunks) == b"first\n", "the first chunk comes while the function still waits for the gate"
        gate.wait_for()
        gate.open()
        assert b"".join(chunks) == b"last\n"


def test_the_node_client_streams_by_streamify_response(deploy, lambda_client):
    function = deploy(packages.aws_lambda_ric(), "provided.al2023", "probe.streaming")
    with Gate() as gate:
        event = {"chunks": ["first\n", "last\n"], "gate": gate.url}
        answer = lambda_client.invoke_with_response_stream(
            FunctionName=function.name, Payload=json.dumps(event).encode()
        )
        events = iter(answer["EventStream"])
        assert next(events)["PayloadChunk"]["Payload"] == b"first\n"
        gate.wait_for()
        gate.open()
        rest = list(events)
    assert b"".join(e["PayloadChunk"]["Payload"] for e in rest if "PayloadChunk" in e) == b"last\n"
    assert "ErrorCode" not in rest[-1]["InvokeComplete"]


def test_an_error_in_the_middle_of_a_stream_ends_it_with_the_error(deploy, lambda_client):
    function = deploy(packages.aws_lambda_ric(), "provided.al2023", "probe.streaming")
    event = {"chunks": ["first\n", "never\n"], "fail_after": 1, "message": "the river is dry"}
    answer = lambda_client.invoke_with_response_stream(FunctionName=function.name, Payload=json.dumps(event).encode())
    events = list(answer["EventStream"])
    last = events[-1]["InvokeComplete"]
    assert last["ErrorCode"] and "the river is dry" in last["ErrorDetails"]


# ---- without a client ----------------------------------------------------------------------------------------


def test_a_bootstrap_in_plain_shell_speaks_the_runtime_api(deploy):
    function = deploy(packages.shell(), handler="any.handler")
    answer, log = function.tail({"n": 1})
    request = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    said = json.loads(answer["Payload"])
    assert (said["echo"], said["request_id"], said["handler"]) == ({"n": 1}, request, "any.handler")
    assert said["deadline_ms"] > 1_600_000_000_000
    assert f"handling {request}\n" in log
    assert function.error({"do": "fail"}) == {
        "errorMessage": "told to fail",
        "errorType": "Shell.Failed",
        "stackTrace": ["bootstrap:1"],
    }
    assert function({"n": 2})["echo"] == {"n": 2}


def test_a_shell_bootstrap_reports_its_failed_initialisation(deploy):
    function = deploy(packages.shell(), Environment={"Variables": {"PROBE_INIT": "fail"}})
    error = function.error({})
    assert (error["errorType"], error["errorMessage"]) == ("Shell.NoConfig", "no configuration")


@pytest.mark.parametrize("platform", ["mono", "dotnet"])
def test_a_bootstrap_in_c_sharp_runs_on_mono_and_on_dotnet_core(deploy, platform):
    function = deploy(packages.mono() if platform == "mono" else packages.dotnet(), MemorySize=512)
    answer = function({"n": 1})
    assert answer["echo"] == {"n": 1}
    assert answer["runtime"].startswith({"mono": "4.", "dotnet": "3.1"}[platform])
    assert function.error({"do": "fail"})["errorType"] == "CSharp.Failed"
    assert function("x" * 100_000)["echo"] == "x" * 100_000


def test_java_handlers_take_streams_and_the_official_event_classes(deploy):
    stream = deploy(packages.java(), "java17", "example.Stream", MemorySize=512)
    assert stream({"a": [1, 2]}) == {"a": [1, 2]}
    url = deploy(packages.java(), "java17", "example.Url::handleRequest", MemorySize=512).url()
    answer = requests.put(url + "some/path?a=1&a=2", timeout=30)
    assert (answer.status_code, answer.text) == (201, "/some/path?a=1&a=2")
    assert answer.headers["x-method"] == "PUT" and answer.cookies["seen"] == "yes"


def test_java_without_its_client_is_refused_with_the_remedy_and_runs_once_it_is_installed(fresh, tmp_path):
    own = fresh(data_dir=tmp_path / "data")
    deploy = aws.Deployer(aws.client(own), "java")
    handler = "example.Probe::handleRequest"
    with pytest.raises(AssertionError, match="InvalidParameterValueException") as refused:
        deploy(packages.java_without_client(), "java17", handler, MemorySize=512)
    install = f"Run `brooklet runtimes install --data-dir {own.data_dir} java`"
    assert install in str(refused.value)
    assert "com.amazonaws:aws-lambda-java-runtime-interface-client" in str(refused.value)
    installed = own.data_dir / "runtimes/java/lib"
    shutil.copytree(rigs.rig("java") / "lib", installed)
    function = deploy(packages.java_without_client(), "java17", handler, MemorySize=512)
    assert function({"do": "echo", "value": [1]}) == [1]
    shutil.rmtree(installed)
    deploy.client.update_function_configuration(FunctionName=function.name, Description="new instances")
    error = function.error({"do": "echo", "value": [1]})
    assert error["errorType"] == "Runtime.InvalidEntrypoint"
    assert install in error["errorMessage"]


def test_the_functions_own_jvm_options_have_the_last_word(deploy):
    # With a second collector on its command line the JVM would not start.
    options = "-XX:+UseParallelGC -XX:TieredStopAtLevel=4"
    function = deploy(
        packages.java(),
        "java17",
        "example.Probe::handleRequest",
        MemorySize=512,
        Environment={"Variables": {"JAVA_TOOL_OPTIONS": options}},
    )
    assert function({"do": "echo", "value": 1}) == 1


WRAPPERS = {
    "exec": 'exec "$1" -m awslambdaric "$_HANDLER"',
    "a program between": 'exec "$1" -c "import subprocess, sys; '
    "sys.exit(subprocess.call([sys.executable, '-m', 'awslambdaric', '$_HANDLER']))\"",
}


@pytest.mark.parametrize("how", WRAPPERS)
def test_a_wrapper_may_put_the_official_client_in_the_place_of_the_managed_runtime(deploy, how):
    wrapper = f"#!/bin/sh\nexport PYTHONPATH=/var/task COLOUR=blue\n{WRAPPERS[how]}\n"
    code = (
        "import os, sys\nif os.environ['STARTS'] == 'no': raise ValueError('dry')\n"
        "def handler(event, context): return [event, os.environ['COLOUR'], 'awslambdaric' in sys.modules]\n"
    )
    package = packages.zip_of({"": rigs.rig("bundles") / "ric", "app.py": code, "wrapper": wrapper})
    variables = {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrapper", "STARTS": "yes"}
    function = deploy(package, packages.PYTHON, "app.handler", MemorySize=256, Environment={"Variables": variables})
    assert [function(1), function(2)] == [[1, "blue", True], [2, "blue", True]]
    function.update(Environment={"Variables": variables | {"STARTS": "no"}})
    assert function.error({})["errorMessage"] == "dry"


def test_a_package_without_a_bootstrap_is_an_invalid_entrypoint(deploy):
    function = deploy({"readme.txt": "nothing to run"})
    error = function.error({})
    assert error["errorType"] == "Runtime.InvalidEntrypoint"
    assert error["errorMessage"].endswith("Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")
