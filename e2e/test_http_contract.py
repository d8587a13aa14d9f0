"""The HTTP contract: any program that listens on $PORT is a function, for one or many requests at once."""

import base64
import concurrent.futures

import pytest
import requests

from harness import aws, packages
from harness.gate import Gate
from harness.rigs import rig


def flask():
    package = packages.zip_of({"": rig("bundles") / "flask", "app.py": packages.source("python/flask_app.py")})
    return package, f"{packages.PYTHON} app.py"


def express():
    return packages.zip_of({"app.cjs": rig("bundled") / "built/express.cjs"}), "node app.cjs"


APPLICATIONS = {"flask": flask, "express": express}


@pytest.fixture(scope="module")
def create(deploy, server):
    """Creates an HTTP function by the API's JSON itself: boto3 would refuse Brooklet's own member."""

    def make(package, command, **more):
        document = {
            "FunctionName": deploy.name(),
            "Runtime": "http",
            "Handler": command,
            "Role": aws.ROLE,
            "Code": {"ZipFile": base64.b64encode(package).decode()},
            "Timeout": 30,
            "MemorySize": 256,
        } | more
        answer = requests.post(f"{server.url}/2015-03-31/functions", json=document, timeout=60)
        assert answer.status_code == 201, answer.text
        deploy.names.append(document["FunctionName"])
        if own := more.get("Brooklet"):
            assert answer.json()["Brooklet"]["InstanceConcurrency"] == own["InstanceConcurrency"]
        return aws.Function(deploy.client, document["FunctionName"])

    return make


@pytest.fixture(scope="module")
def deploy_http(create):
    """Deploys one of the applications with an instance concurrency."""
    return lambda application, concurrency: create(
        *APPLICATIONS[application](), Brooklet={"InstanceConcurrency": concurrency}
    )


@pytest.fixture(scope="module", params=APPLICATIONS)
def function(request, deploy_http):
    return deploy_http(request.param, 8)


@pytest.fixture(scope="module")
def url(function):
    return function.url(InvokeMode="RESPONSE_STREAM")


def test_a_request_is_passed_through_as_it_is(url):
    got = requests.get(url + "hello", params={"name": "Ada ü"}, timeout=60)
    assert (got.status_code, got.headers["x-query"]) == (200, "Ada ü")
    assert got.text.startswith("hello from ")
    got = requests.post(url + "upper", data="water", headers={"Content-Type": "text/plain"}, timeout=60)
    assert (got.status_code, got.text) == (201, "WATER")


def test_what_the_program_has_no_route_for_is_its_own_404(url):
    assert requests.get(url + "nowhere", timeout=60).status_code == 404


def test_large_bodies_pass(url):
    got = requests.post(url + "measure", data=b"x" * (5 << 20), headers={"Content-Type": "text/plain"}, timeout=60)
    assert got.json() == {"length": 5 << 20}


def test_many_requests_share_one_instance_up_to_its_concurrency(url):
    with Gate() as gate, concurrent.futures.ThreadPoolExecutor(8) as pool:
        requests.get(url + "hello", timeout=60)
        asked = [pool.submit(requests.get, url + "hold", params={"gate": gate.url}, timeout=60) for _ in range(8)]
        gate.wait_for(8)
        gate.open()
        instances = {a.result().json()["instance"] for a in asked}
    assert len(instances) == 1
    assert requests.get(url + "most", timeout=60).json()["most"] == 8


def test_with_a_concurrency_of_one_every_request_has_its_own_instance(deploy_http, server):
    function = deploy_http("flask", 1)
    url = function.url(InvokeMode="RESPONSE_STREAM")
    before = set(server.instances())
    with Gate() as gate, concurrent.futures.ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(requests.get, url + "hold", params={"gate": gate.url}, timeout=60) for _ in range(3)]
        gate.wait_for(3)
        assert len(set(server.instances()) - before) >= 3
        gate.open()
        assert [a.result().status_code for a in asked] == [200] * 3


def test_server_sent_events_are_flushed_as_they_are_written(url):
    with Gate() as gate, requests.get(url + "events", params={"gate": gate.url}, stream=True, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        chunks = answer.iter_content(None)
        assert next(chunks) == b"data: first\n\n"
        gate.wait_for()
        gate.open()
        assert b"".join(chunks) == b"data: last\n\n"


def test_invoke_posts_the_event_to_the_program(function):
    assert function({"a": [1, "ü"]}) == {"event": {"a": [1, "ü"]}}


def test_a_program_that_ends_during_a_request_is_named_and_replaced(function, url):
    before = requests.get(url + "most", timeout=60).json()["instance"]
    assert requests.get(url + "crash", timeout=60).status_code == 502
    assert requests.get(url + "most", timeout=60).json()["instance"] != before


HASTY = packages.source("python/hasty_server.py")


def test_a_program_that_answers_before_it_has_read_the_request_and_closes_is_heard(create):
    function = create(packages.zip_of({"app.py": HASTY}), f"{packages.PYTHON} app.py")
    url = function.url(InvokeMode="RESPONSE_STREAM")
    large = {"large": "x" * (5 << 20)}
    for _ in range(20):
        assert function({"large": "x" * (5 << 20)}) == {"read": "little"}
        got = requests.post(url, json=large, timeout=60)
        assert (got.status_code, got.text) == (413, '{"read": "little"}')


def test_a_program_that_ends_in_the_middle_of_its_answer_does_not_pass_it_off_as_whole(create):
    function = create(packages.zip_of({"app.py": HASTY}), f"{packages.PYTHON} app.py")
    url = function.url(InvokeMode="RESPONSE_STREAM")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        assert requests.get(url + "half", timeout=60).content == b"a whole answer"
    assert function.error({"half": True})["errorType"] == "Runtime.ExitError"


@pytest.mark.parametrize(
    "path, why", [("garbage", "did not answer the request in HTTP"), ("switch", "the program answered 101")]
)
def test_a_program_that_does_not_speak_http_is_a_bad_gateway_that_the_log_explains(create, server, path, why):
    function = create(packages.zip_of({"app.py": HASTY}), f"{packages.PYTHON} app.py")
    got = requests.get(function.url(InvokeMode="RESPONSE_STREAM") + path, timeout=60)
    assert (got.status_code, got.text) == (502, "Internal Server Error")
    told = [line for line in server.log().splitlines() if got.headers["x-amzn-requestid"] in line]
    assert len(told) == 1 and why in told[0] and f"function={function.name}" in told[0]


def test_a_program_that_never_listens_is_an_initialisation_timeout(create):
    function = create(packages.zip_of({"bootstrap": "#!/bin/sh\nexec sleep 600\n"}), "", Timeout=3)
    assert function.error()["errorType"] == "Sandbox.Timedout"


def test_a_program_that_exits_at_the_start_is_an_exit_error(create):
    function = create(packages.zip_of({"bootstrap": "#!/bin/sh\necho no configuration >&2\nexit 5\n"}), "")
    error = function.error()
    assert error["errorType"] == "Runtime.ExitError" and error["errorMessage"].endswith("exit status 5")


def test_the_health_of_the_server_is_not_the_functions(server):
    assert requests.get(server.url + "/healthz", timeout=10).status_code == 200
    assert requests.get(server.url + "/readyz", timeout=10).status_code == 200
