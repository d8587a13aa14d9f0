"""Function URLs as ordinary HTTP clients see them: payload format 2.0 both ways, CORS, streaming, and the
framework adapters and Powertools that people put behind them.

Source: Lambda developer guide, "Invoking Lambda function URLs" and "Response streaming".
"""

import base64
import concurrent.futures
import json
import re
import subprocess
import time

import pytest
import requests

from harness import aws, packages
from harness.gate import Gate
from harness.processes import wait_until
from harness.rigs import rig
from test_managed_runtimes import node_runtime

#: Answers what the event tells it to: the event itself, or what stands in the query `answer` (JSON).
MIRROR = (
    "import json\n"
    "def handler(event, context):\n"
    "    query = event.get('queryStringParameters') or {}\n"
    "    if 'answer' in query: return json.loads(query['answer'])\n"
    "    if 'fail' in query: raise ValueError('dry')\n"
    "    return event\n"
)


@pytest.fixture(scope="module")
def mirror(deploy):
    return deploy({"app.py": MIRROR}, packages.PYTHON, "app.handler")


@pytest.fixture(scope="module")
def url(mirror):
    return mirror.url()


def answered(url, answer):
    """What the client sees when the function returns `answer`."""
    return requests.get(url, params={"answer": json.dumps(answer)}, timeout=30)


# ---- the request ---------------------------------------------------------------------------------------------


def test_a_request_becomes_an_event_of_format_two(url, server):
    before = time.time() * 1000
    event = requests.post(
        url + "some%20where/pa2%2Fth?q=a+b&q=%C3%BC&flag&empty=",
        data='{"tea": 3}',
        headers={"Content-Type": "application/json", "X-Custom": "Value", "User-Agent": "test/1", "Cookie": "a=1; b=2"},
        timeout=30,
    ).json()
    host = re.match(r"http://([^/]+)/", url)[1]
    domain = host.rpartition(":")[0]
    assert event["version"] == "2.0"
    assert event["routeKey"] == "$default"
    assert event["rawPath"] == "/some where/pa2/th" or event["rawPath"] == "/some%20where/pa2%2Fth"
    assert event["rawQueryString"] == "q=a+b&q=%C3%BC&flag&empty="
    assert event["cookies"] == ["a=1", "b=2"]
    assert event["queryStringParameters"] == {"q": "a b,ü", "flag": "", "empty": ""}
    assert event["body"] == '{"tea": 3}' and event["isBase64Encoded"] is False
    headers = event["headers"]
    assert (headers["x-custom"], headers["content-type"], headers["content-length"]) == (
        "Value",
        "application/json",
        "10",
    )
    assert headers["host"] == host
    assert headers["x-forwarded-proto"] == "http" and headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-port"] == str(server.port)
    assert re.match(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}", headers["x-amzn-trace-id"])
    assert "cookie" not in headers, "cookies stand in their own list"
    context = event["requestContext"]
    assert context["http"] == {
        "method": "POST",
        "path": event["rawPath"],
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "test/1",
    }
    prefix = domain.partition(".")[0]
    assert (context["apiId"], context["domainPrefix"], context["domainName"]) == (prefix, prefix, context["domainName"])
    assert context["domainName"].startswith(domain)
    assert (context["accountId"], context["routeKey"], context["stage"]) == ("anonymous", "$default", "$default")
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", context["time"])
    assert before - 1000 <= context["timeEpoch"] <= time.time() * 1000 + 1000
    assert re.fullmatch(r"[0-9a-f-]{36}", context["requestId"])


def test_a_bare_request_has_no_body_cookies_or_query_members(url):
    event = requests.get(url, timeout=30).json()
    assert event["rawPath"] == "/" and event["rawQueryString"] == ""
    assert not {"body", "cookies", "queryStringParameters"} & set(event)
    assert event["isBase64Encoded"] is False


@pytest.mark.parametrize(
    "kind, is_text",
    [
        ("text/plain", True),
        ("text/html; charset=utf-8", True),
        ("application/json", True),
        ("application/javascript", True),
        ("application/xml", True),
        ("application/vnd.api+json", True),
        ("image/svg+xml", True),
        ("application/x-www-form-urlencoded", False),
        ("application/octet-stream", False),
        ("image/png", False),
        ("multipart/form-data; boundary=x", False),
        (None, False),
    ],
)
def test_a_body_is_text_or_base64_by_its_content_type(url, kind, is_text):
    event = requests.post(url, data=b"hello", headers={"Content-Type": kind} if kind else {}, timeout=30).json()
    assert event["isBase64Encoded"] is not is_text
    assert event["body"] == ("hello" if is_text else base64.b64encode(b"hello").decode())


def test_a_body_that_is_no_utf8_is_base64_whatever_its_type_says(url):
    event = requests.post(url, data=b"\xff\xfe", headers={"Content-Type": "text/plain"}, timeout=30).json()
    assert event["isBase64Encoded"] is True and base64.b64decode(event["body"]) == b"\xff\xfe"


def test_repeated_headers_are_joined_with_commas(url):
    host = re.match(r"http://([^/]+)/", url)[1]
    from harness import web

    address = ("127.0.0.1", int(host.rpartition(":")[2]))
    raw = web.talk(
        address, f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Two: a\r\nX-Two: b\r\nConnection: close\r\n\r\n".encode()
    )
    assert json.loads(raw.rpartition(b"\r\n\r\n")[2])["headers"]["x-two"] == "a,b"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_reaches_the_function(url, method):
    answer = requests.request(method, url, timeout=30)
    assert answer.status_code == 200
    if method == "HEAD":
        assert answer.content == b""
    else:
        assert answer.json()["requestContext"]["http"]["method"] == method


def test_the_path_style_address_leads_to_the_same_function(mirror, url, server):
    event = requests.get(f"{server.url}/fn/{mirror.name}/some/path?a=1", timeout=30).json()
    assert event["rawPath"] == "/some/path" and event["queryStringParameters"] == {"a": "1"}
    assert requests.get(f"{server.url}/fn/{mirror.name}", timeout=30).json()["rawPath"] == "/"
    assert requests.get(f"{server.url}/fn/not-there/", timeout=30).status_code == 404


def test_an_alias_answers_at_its_own_address(lambda_client, deploy, server):
    function = deploy(
        {"app.py": "def handler(event, context):\n    return context.invoked_function_arn\n"},
        packages.PYTHON,
        "app.handler",
    )
    lambda_client.publish_version(FunctionName=function.name)
    lambda_client.create_alias(FunctionName=function.name, Name="live", FunctionVersion="1")
    assert requests.get(function.url("live"), timeout=30).text.endswith(f":{function.name}:live")
    assert requests.get(f"{server.url}/fn/{function.name}:live/", timeout=30).text.endswith(f":{function.name}:live")


def test_curl_reaches_a_function_url_by_its_name(url):
    done = subprocess.run(["curl", "-sS", "--max-time", "20", url], capture_output=True, text=True, timeout=30)
    assert json.loads(done.stdout)["version"] == "2.0", done.stderr


# ---- the answer ----------------------------------------------------------------------------------------------


def test_a_whole_answer_is_taken_by_its_members(url):
    got = answered(
        url,
        {
            "statusCode": 201,
            "headers": {"Content-Type": "text/plain", "X-One": "1", "x-number": 7},
            "body": "grüße",
            "cookies": ["a=1; Path=/", "b=2"],
        },
    )
    assert (got.status_code, got.content.decode()) == (201, "grüße")
    assert (got.headers["content-type"], got.headers["x-one"], got.headers["x-number"]) == ("text/plain", "1", "7")
    assert got.cookies.get_dict() == {"a": "1", "b": "2"}
    assert re.match(r"Root=1-", got.headers["x-amzn-trace-id"])
    assert re.fullmatch(r"[0-9a-f-]{36}", got.headers["x-amzn-requestid"])


def test_a_base64_answer_is_decoded(url):
    got = answered(
        url,
        {
            "statusCode": 200,
            "isBase64Encoded": True,
            "body": base64.b64encode(bytes(range(256))).decode(),
            "headers": {"content-type": "application/octet-stream"},
        },
    )
    assert got.content == bytes(range(256))


@pytest.mark.parametrize(
    "answer, body",
    [
        ({"hello": "world"}, b'{"hello": "world"}'),
        ("hello", b"hello"),
        (3, b"3"),
        (3.5, b"3.5"),
        (True, b"true"),
        (["hello", 3], b'["hello", 3]'),
        (None, b"null"),
    ],
    ids=str,
)
def test_anything_else_is_an_ok_with_json(url, answer, body):
    got = answered(url, answer)
    assert (got.status_code, got.headers["content-type"]) == (200, "application/json")
    assert got.content.replace(b" ", b"") == body.replace(b" ", b"")


def test_a_status_without_a_body_is_enough_and_json_is_the_default_type(url):
    got = answered(url, {"statusCode": 404})
    assert (got.status_code, got.content) == (404, b"")
    got = answered(url, {"statusCode": 200, "body": "text"})
    assert got.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "answer", [{"statusCode": 99}, {"statusCode": "abc"}, {"statusCode": 700, "body": "x"}], ids=json.dumps
)
def test_an_answer_that_http_can_not_carry_is_a_bad_gateway(url, answer):
    got = answered(url, answer)
    assert got.status_code == 502


def test_more_headers_than_http_can_carry_are_a_bad_gateway(deploy):
    made = "{f'x-{n}': '' for n in range(40_000)}"
    code = f"def handler(event, context):\n    return {{'statusCode': 200, 'headers': {made}}}\n"
    assert requests.get(deploy({"app.py": code}, packages.PYTHON, "app.handler").url(), timeout=30).status_code == 502


def test_a_function_that_fails_is_a_bad_gateway_and_tells_no_secrets(url):
    got = requests.get(url, params={"fail": "1"}, timeout=30)
    assert got.status_code == 502
    assert got.text == "Internal Server Error"
    assert "dry" not in got.text and "Traceback" not in got.text


def test_an_unknown_address_is_forbidden(url):
    wrong = re.sub(r"http://[a-z0-9]{32}", "http://" + "z" * 32, url)
    got = requests.get(wrong, timeout=30)
    assert (got.status_code, got.headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
    assert "Message" in got.json()


def test_a_url_that_needs_iam_takes_signed_requests_only(fresh):
    own = fresh(config='[access-keys]\nAKIDEXAMPLE = "wJalrXUtnFEMI"\n')
    client = aws.client(own, keys=("AKIDEXAMPLE", "wJalrXUtnFEMI"))
    function = aws.Deployer(client, "iam")({"app.py": MIRROR}, packages.PYTHON, "app.handler")
    url = client.create_function_url_config(FunctionName=function.name, AuthType="AWS_IAM")["FunctionUrl"]
    refused = requests.get(url, timeout=30)
    assert refused.status_code == 403 and refused.json()["Message"].startswith("Forbidden")
    assert requests.get(url, headers=aws.signed(url, "AKIDEXAMPLE", "no"), timeout=30).status_code == 403
    assert requests.get(url, headers=aws.signed(url, "AKIDEXAMPLE", "wJalrXUtnFEMI"), timeout=30).status_code == 200


def test_a_throttled_url_answers_429(deploy):
    function = deploy({"app.py": MIRROR}, packages.PYTHON, "app.handler")
    url = function.url()
    function.client.put_function_concurrency(FunctionName=function.name, ReservedConcurrentExecutions=0)
    got = requests.get(url, timeout=30)
    assert got.status_code == 429
    assert got.json()["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"


def test_six_mebibytes_come_and_go_and_more_is_refused(deploy):
    function = deploy(
        {
            "app.py": "def handler(event, context):\n    n = int(event['rawQueryString'] or 0)\n    return {'statusCode': 200, 'body': 'x' * n or str(len(event.get('body', '')))}\n"
        },
        packages.PYTHON,
        "app.handler",
        MemorySize=512,
    )
    url = function.url()
    text = {"Content-Type": "text/plain"}
    assert requests.post(url, data=b"x" * (5 << 20), headers=text, timeout=60).text == str(5 << 20)
    assert len(requests.get(f"{url}?{5 << 20}", timeout=60).content) == 5 << 20
    assert requests.post(url, data=b"x" * ((6 << 20) + 1), headers=text, timeout=60).status_code == 413
    assert requests.get(f"{url}?{(6 << 20) + 4096}", timeout=60).status_code == 502


# ---- CORS ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(deploy):
    function = deploy({"app.py": MIRROR}, packages.PYTHON, "app.handler")
    return function.url(
        Cors={
            "AllowOrigins": ["https://app.example", "http://*.dev.example"],
            "AllowMethods": ["GET", "PUT"],
            "AllowHeaders": ["X-One"],
            "ExposeHeaders": ["X-Two"],
            "MaxAge": 600,
            "AllowCredentials": True,
        }
    )


def test_a_preflight_is_answered_without_the_function(shared):
    asked = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "x-one",
    }
    got = requests.options(shared, headers=asked, timeout=30)
    assert got.status_code == 200 and got.content == b""
    allowed = {name.lower(): value for name, value in got.headers.items() if name.lower().startswith("access-control")}
    assert allowed["access-control-allow-origin"] == "https://app.example"
    assert {m.strip() for m in allowed["access-control-allow-methods"].split(",")} == {"GET", "PUT"}
    assert allowed["access-control-allow-headers"].lower() == "x-one"
    assert (allowed["access-control-max-age"], allowed["access-control-allow-credentials"]) == ("600", "true")


def test_an_answer_to_a_known_origin_carries_the_headers(shared):
    got = requests.get(shared, headers={"Origin": "https://app.example"}, timeout=30)
    assert got.headers["access-control-allow-origin"] == "https://app.example"
    assert got.headers["access-control-expose-headers"].lower() == "x-two"
    assert got.headers["access-control-allow-credentials"] == "true"
    assert "origin" in got.headers["vary"].lower()


def test_an_unknown_origin_gets_no_cors_headers(shared):
    for headers in ({"Origin": "https://evil.example"}, {}):
        got = requests.get(shared, headers=headers, timeout=30)
        assert got.status_code == 200
        assert "access-control-allow-origin" not in got.headers


def test_the_configuration_replaces_what_the_function_says(shared):
    got = requests.get(
        shared,
        params={"answer": json.dumps({"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "*"}})},
        headers={"Origin": "https://app.example"},
        timeout=30,
    )
    assert got.headers["access-control-allow-origin"] == "https://app.example"


def test_without_a_configuration_the_function_answers_preflights_itself(url):
    got = requests.options(
        url, headers={"Origin": "https://app.example", "Access-Control-Request-Method": "PUT"}, timeout=30
    )
    assert got.json()["requestContext"]["http"]["method"] == "OPTIONS"


# ---- streaming -----------------------------------------------------------------------------------------------

STREAM = (
    "export const handler = awslambda.streamifyResponse(async (event, stream) => {\n"
    "  stream = awslambda.HttpResponseStream.from(stream, {\n"
    "    statusCode: 202, headers: { 'Content-Type': 'text/event-stream', 'X-Own': 'yes' }, cookies: ['a=1'] })\n"
    "  stream.write('data: first\\n\\n')\n"
    "  await fetch(event.queryStringParameters.gate)\n"
    "  stream.write('data: last\\n\\n')\n"
    "  stream.end()\n})"
)


def test_a_response_stream_is_flushed_as_it_is_written(deploy):
    function = deploy({"index.mjs": STREAM}, node_runtime(), "index.handler")
    url = function.url(InvokeMode="RESPONSE_STREAM")
    with Gate() as gate, requests.get(url, params={"gate": gate.url}, stream=True, timeout=30) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (202, "text/event-stream")
        assert answer.headers["x-own"] == "yes" and answer.cookies["a"] == "1"
        assert answer.headers.get("transfer-encoding") == "chunked"
        chunks = answer.iter_content(None)
        assert next(chunks) == b"data: first\n\n", "the first chunk is here while the function waits"
        gate.wait_for()
        gate.open()
        assert b"".join(chunks) == b"data: last\n\n"


@pytest.mark.parametrize("end", ["process.exit(3)", "new Promise(() => setInterval(() => {}, 1000))"], ids=["exits", "timeout"])
def test_a_function_that_ends_in_the_middle_of_a_stream_does_not_pass_it_off_as_whole(deploy, lambda_client, end):
    code = (
        "export const handler = awslambda.streamifyResponse(async (event, stream) => {\n"
        f"  await new Promise((written) => stream.write('half', written))\n  await {end}\n}})"
    )
    function = deploy({"index.mjs": code}, node_runtime(), "index.handler", Timeout=2)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        assert requests.get(function.url(InvokeMode="RESPONSE_STREAM"), timeout=30).content == b"a whole answer"
    streamed = lambda_client.invoke_with_response_stream(FunctionName=function.name, LogType="Tail")
    events = list(streamed["EventStream"])
    assert b"REPORT RequestId: " in base64.b64decode(events[-1]["InvokeComplete"]["LogResult"])
    kind, message = ("Runtime.ExitError", "exit status 3") if "exit" in end else ("Sandbox.Timedout", "after 2.00 seconds")
    told = json.loads(events[-1]["InvokeComplete"]["ErrorDetails"])
    assert told["errorType"] == kind and told["errorMessage"].endswith(message)
    answer, log = function.tail({})
    assert json.loads(answer["Payload"])["errorType"] == kind and "REPORT RequestId: " in log


def test_the_same_handler_is_answered_whole_in_buffered_mode(deploy):
    function = deploy({"index.mjs": STREAM}, node_runtime(), "index.handler")
    with Gate() as gate:
        gate.open()
        answer = requests.get(function.url(), params={"gate": gate.url}, timeout=30)
    # Buffered: the prelude is not understood, the bytes are the body (Lambda documents no more than that).
    assert b"data: first\n\ndata: last\n\n" in answer.content


def test_a_handler_that_does_not_stream_works_behind_a_streaming_url(deploy):
    function = deploy({"app.py": MIRROR}, packages.PYTHON, "app.handler")
    answer = {"statusCode": 201, "headers": {"x-own": "1"}, "body": "text"}
    got = answered(function.url(InvokeMode="RESPONSE_STREAM"), answer)
    # What does not declare itself an HTTP response is the body, as it is.
    assert (got.status_code, got.json()) == (200, answer)


def test_a_caller_that_leaves_a_stream_costs_no_instance(deploy):
    function = deploy(
        {
            "index.mjs": "const id = Math.random()\n"
            + STREAM.replace("data: first", "${id}").replace("'${id}\\n\\n'", "String(id)")
        },
        node_runtime(),
        "index.handler",
    )
    url = function.url(InvokeMode="RESPONSE_STREAM")
    with Gate() as gate:
        with requests.get(url, params={"gate": gate.url}, stream=True, timeout=30) as answer:
            first = next(answer.iter_content(None))
            gate.wait_for()
        gate.open()

    def ask(gate):
        return requests.get(url, params={"gate": gate.url}, timeout=30).content.partition(b"data")[0]

    # Each time one more at once: the first may have come before that instance was free, to others that are preferred since.
    served = []
    for held in range(1, 9):
        with Gate() as gate, concurrent.futures.ThreadPoolExecutor(held) as pool:
            asked = [pool.submit(ask, gate) for _ in range(held)]
            gate.wait_for(held)
            gate.open()
            served = [one.result() for one in asked]
        if first in served:
            return
    raise AssertionError(f"the instance whose caller left, {first}, does not serve again: {served}")


# ---- frameworks ----------------------------------------------------------------------------------------------


def adapters():
    """(name, deploys the application): the same three routes in each language."""
    yield (
        "Mangum with FastAPI",
        lambda deploy: deploy(
            packages.zip_of({"": rig("bundles") / "web", "web.py": packages.source("python/web.py")}),
            packages.PYTHON,
            "web.handler",
            MemorySize=512,
        ),
    )
    yield (
        "serverless-http with Express",
        lambda deploy: deploy(
            packages.zip_of({"web.cjs": rig("bundled") / "built/web.cjs"}),
            node_runtime(),
            "web.handler",
            MemorySize=256,
        ),
    )
    yield "aws-lambda-go-api-proxy", lambda deploy: deploy(packages.go("adapter"))
    yield "lambda_http with axum", lambda deploy: deploy(packages.rust("web"))


@pytest.fixture(scope="module")
def addresses(deploy):
    """Deploys each framework's application once; gives its address by name."""
    made = {}

    def address(name):
        if name not in made:
            made[name] = dict(adapters())[name](deploy).url()
        return made[name]

    return address


@pytest.fixture(params=[name for name, _ in adapters()])
def application(request, addresses):
    """The address of one framework's application."""
    return addresses(request.param)


def test_a_framework_routes_by_path_and_query(application):
    url = application
    got = requests.get(url + "items/a-7?q=%C3%BC", timeout=60)
    assert got.status_code == 200
    assert got.json() == {"id": "a-7", "q": "ü"}
    assert got.headers["content-type"].startswith("application/json")


def test_a_framework_reads_bodies_and_sets_status_and_cookies(application):
    url = application
    got = requests.post(url + "upper", data="water", headers={"Content-Type": "text/plain"}, timeout=60)
    assert (got.status_code, got.text) == (201, "WATER")
    assert got.cookies["seen"] == "yes"


def test_a_framework_answers_what_it_has_no_route_for(application):
    url = application
    assert requests.get(url + "nowhere", timeout=60).status_code == 404


@pytest.mark.parametrize("name", ["Mangum with FastAPI", "serverless-http with Express"])
def test_a_framework_sends_bytes(addresses, name):
    assert requests.get(addresses(name) + "bytes", timeout=60).content == bytes([0, 255, 1, 254])


# ---- Powertools ----------------------------------------------------------------------------------------------


def records(log):
    """The JSON lines of a log."""
    found = []
    for line in log.splitlines():
        start = line.find("{")
        if start >= 0:
            try:
                found.append(json.loads(line[start:]))
            except ValueError:
                pass
    return found


def powertools(deploy, language):
    if language == "python":
        package = packages.zip_of(
            {"": rig("bundles") / "powertools", "app.py": packages.source("python/powertools.py")}
        )
        return deploy(package, packages.PYTHON, "app.handler", MemorySize=256)
    return deploy(
        packages.zip_of({"app.mjs": rig("bundled") / "built/powertools.mjs"}),
        node_runtime(),
        "app.handler",
        MemorySize=256,
    )


@pytest.mark.parametrize("language", ["python", "typescript"])
def test_powertools_log_with_the_context_and_emit_metrics(deploy, language):
    function = powertools(deploy, language)
    answer, log = function.tail({"order": 7})
    assert json.loads(answer["Payload"])["order"] == 7
    request = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    found = records(log)
    line = next(r for r in found if r.get("message") == "an order came")
    assert (line["function_request_id"], line["function_name"], line["order"], line["cold_start"]) == (
        request,
        function.name,
        7,
        True,
    )
    assert line["function_arn"].endswith(f":{function.name}") and int(line["function_memory_size"]) == 256
    metrics = [r for r in found if "_aws" in r]
    assert any(r.get("orders") in (1, [1], [1.0]) and r["service"] == "orders" for r in metrics)
    _, log = function.tail({"order": 8})
    assert next(r for r in records(log) if r.get("message") == "an order came")["cold_start"] is False


def test_powertools_resolve_function_url_events(deploy):
    package = packages.zip_of({"": rig("bundles") / "powertools", "app.py": packages.source("python/powertools.py")})
    url = deploy(package, packages.PYTHON, "app.url_handler", MemorySize=256).url()
    got = requests.get(url + "orders/7?agent=Ada", timeout=60)
    assert (got.status_code, got.json()) == (200, {"order": "7", "agent": "Ada"})
    assert requests.get(url + "nowhere", timeout=60).status_code == 404
