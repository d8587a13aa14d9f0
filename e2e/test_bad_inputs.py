"""A table of bad inputs: what was sent, and the exact error. The texts are AWS's where AWS has one.

None of them may harm the server: after each it answers as before.
"""

import base64
import io
import json
import stat
import zipfile

import pytest
import requests

from harness import aws, packages, web
from harness.processes import wait_until

ECHO = packages.zip_of({"app.py": "def handler(event, context):\n    return event\n"})
INVALID = "InvalidParameterValueException"
FUNCTIONS = "/2015-03-31/functions"
NAME_PATTERN = "Member must satisfy regular expression pattern: "


@pytest.fixture(scope="module")
def echo(deploy):
    return deploy(ECHO, packages.PYTHON, "app.handler")


@pytest.fixture(autouse=True)
def the_server_answers_as_before(server, echo):
    yield
    assert server.process.poll() is None, "the server ended"
    assert echo("still there") == "still there"


def creation(**changes):
    """A CreateFunction document that is right but for the changes; a value of None removes the member."""
    document = {
        "FunctionName": "bad-input",
        "Runtime": packages.PYTHON,
        "Handler": "app.handler",
        "Role": aws.ROLE,
        "Code": {"ZipFile": base64.b64encode(ECHO).decode()},
    } | changes
    return {key: value for key, value in document.items() if value is not None}


def error_of(answer):
    """(error type, status, message) of a raw answer."""
    document = answer.json()
    return (
        answer.headers["x-amzn-errortype"].partition(":")[0],
        answer.status_code,
        document.get("Message") or document.get("message"),
    )


def check(answer, kind, status, message):
    """The error must be exactly this; a message that ends in … may go on."""
    got = error_of(answer)
    assert got[:2] == (kind, status), got
    assert got[2].startswith(message[:-1]) if message.endswith("…") else got[2] == message, got[2]


# ---- CreateFunction ------------------------------------------------------------------------------------------

CREATIONS = [
    (
        "a name that is too long",
        {"FunctionName": "a" * 65},
        INVALID,
        f"1 validation error detected: Value '{'a' * 65}' at 'functionName' failed to satisfy constraint: "
        "Member must have length less than or equal to 64",
    ),
    (
        "a name with a space",
        {"FunctionName": "a b"},
        "ValidationException",
        "1 validation error detected: Value 'a b' at 'functionName' failed to satisfy constraint: "
        + NAME_PATTERN
        + "…",
    ),
    (
        "no name",
        {"FunctionName": None},
        "ValidationException",
        "1 validation error detected: Value null at 'functionName' failed to satisfy constraint: Member must not be null",
    ),
    (
        "no role",
        {"Role": None},
        "ValidationException",
        "1 validation error detected: Value null at 'role' failed to satisfy constraint: Member must not be null",
    ),
    (
        "a role that is no ARN",
        {"Role": "r1"},
        "ValidationException",
        "1 validation error detected: Value 'r1' at 'role' failed to satisfy constraint: " + NAME_PATTERN + "…",
    ),
    ("no code", {"Code": {}}, INVALID, "…"),
    (
        "no runtime",
        {"Runtime": None},
        INVALID,
        "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
    ),
    (
        "no handler",
        {"Handler": None},
        INVALID,
        "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
    ),
    (
        "a runtime that does not exist",
        {"Runtime": "cobol85"},
        INVALID,
        "Value cobol85 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: …",
    ),
    (
        "a timeout of zero",
        {"Timeout": 0},
        "ValidationException",
        "1 validation error detected: Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1",
    ),
    (
        "a timeout that is too long",
        {"Timeout": 901},
        "ValidationException",
        "1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint: "
        "Member must have value less than or equal to 900",
    ),
    (
        "too little memory",
        {"MemorySize": 127},
        "ValidationException",
        "1 validation error detected: Value '127' at 'memorySize' failed to satisfy constraint: "
        "Member must have value greater than or equal to 128",
    ),
    (
        "too much memory",
        {"MemorySize": 10241},
        "ValidationException",
        "1 validation error detected: Value '10241' at 'memorySize' failed to satisfy constraint: "
        "Member must have value less than or equal to 10240",
    ),
    (
        "too small a /tmp",
        {"EphemeralStorage": {"Size": 511}},
        "ValidationException",
        "1 validation error detected: Value '511' at 'ephemeralStorage.size' failed to satisfy constraint: "
        "Member must have value greater than or equal to 512",
    ),
    (
        "two architectures",
        {"Architectures": ["x86_64", "arm64"]},
        "ValidationException",
        "1 validation error detected: Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: "
        "Member must have length less than or equal to 1",
    ),
    (
        "an unknown architecture",
        {"Architectures": ["X86_64"]},
        "ValidationException",
        "1 validation error detected: Value '[X86_64]' at 'architectures' failed to satisfy constraint: "
        "Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]",
    ),
    (
        "a description that is too long",
        {"Description": "d" * 257},
        "ValidationException",
        f"1 validation error detected: Value '{'d' * 257}' at 'description' failed to satisfy constraint: "
        "Member must have length less than or equal to 256",
    ),
    ("two mistakes at once", {"Timeout": 0, "MemorySize": 1}, "ValidationException", "2 validation errors detected: …"),
    (
        "a variable with a bad name",
        {"Environment": {"Variables": {"1A": "x"}}},
        "ValidationException",
        "1 validation error detected: …",
    ),
    (
        "fifty-one tags",
        {"Tags": {f"t{n}": "" for n in range(51)}},
        INVALID,
        "Number of tags exceeds resource tag limit.",
    ),
    (
        "a layer that is not there",
        {"Layers": ["arn:aws:lambda:us-east-1:000000000000:layer:doesnotexist:1"]},
        INVALID,
        "Layer version arn:aws:lambda:us-east-1:000000000000:layer:doesnotexist:1 does not exist.…",
    ),
    (
        "bytes that are no zip",
        {"Code": {"ZipFile": base64.b64encode(b"not a zip").decode()}},
        INVALID,
        "Could not unzip uploaded file. Please check your file, then try to upload again.…",
    ),
    ("an empty zip file member", {"Code": {"ZipFile": ""}}, INVALID, "…"),
    (
        "a zip cut short",
        {"Code": {"ZipFile": base64.b64encode(ECHO[:-30]).decode()}},
        INVALID,
        "Could not unzip uploaded file. Please check your file, then try to upload again.…",
    ),
    ("a timeout that is text", {"Timeout": "soon"}, "SerializationException", "…"),
    ("a code member that is text", {"Code": "zip"}, "SerializationException", "…"),
    ("base64 that is none", {"Code": {"ZipFile": "%%%"}}, "SerializationException", "…"),
]


@pytest.mark.parametrize("changes, kind, message", [row[1:] for row in CREATIONS], ids=[row[0] for row in CREATIONS])
def test_a_function_that_can_not_be_is_refused(server, lambda_client, changes, kind, message):
    answer = requests.post(server.url + FUNCTIONS, json=creation(**changes), timeout=30)
    check(answer, kind, 400, message)
    assert aws.refusal(lambda_client.get_function, FunctionName="bad-input")[0] == "ResourceNotFoundException", (
        "nothing half made"
    )


# ---- archives ------------------------------------------------------------------------------------------------


def archive(*entries):
    """A zip of (name, content, unix mode) entries, with whatever names they have."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content, mode in entries:
            info = zipfile.ZipInfo("placeholder")
            info.filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = mode << 16
            made.writestr(info, content)
    return buffer.getvalue()


FILE = stat.S_IFREG | 0o644
LINK = stat.S_IFLNK | 0o777
HANDLER = ("app.py", "def handler(event, context):\n    return event\n", FILE)


def bomb(mebibytes):
    """A small zip that unpacks to much."""
    return archive(HANDLER, ("zeros", b"\0" * (mebibytes << 20), FILE))


def lying(declared):
    """A zip whose directory says that a large file is small."""
    whole = bytearray(archive(HANDLER, ("zeros", b"\0" * (300 << 20), FILE)))
    size = (300 << 20).to_bytes(4, "little")
    return bytes(whole).replace(size, declared.to_bytes(4, "little"))


ARCHIVES = {
    "a path that climbs out": lambda: archive(HANDLER, ("../escaped.txt", "x", FILE)),
    "a path that climbs out inside": lambda: archive(HANDLER, ("a/b/../../../escaped.txt", "x", FILE)),
    "an absolute path": lambda: archive(HANDLER, ("/escaped.txt", "x", FILE)),
    "a symlink out of the package": lambda: archive(HANDLER, ("link", "/etc/passwd", LINK)),
    "a relative symlink out of the package": lambda: archive(HANDLER, ("link", "../../../etc/passwd", LINK)),
    "a file written through a symlink": lambda: archive(HANDLER, ("dir", "/tmp", LINK), ("dir/escaped.txt", "x", FILE)),
    "a name with a zero byte": lambda: archive(HANDLER, ("a\0b", "x", FILE)),
    "a device": lambda: archive(HANDLER, ("null", "", stat.S_IFCHR | 0o666)),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_a_hostile_archive_writes_nothing_outside_its_package(server, lambda_client, case, tmp_path):
    answer = requests.post(
        server.url + FUNCTIONS, json=creation(Code={"ZipFile": base64.b64encode(ARCHIVES[case]()).decode()}), timeout=30
    )
    try:
        if answer.status_code == 201:
            # Lambda takes some of these and leaves the entry out; what counts is that nothing leads outside.
            function = aws.Function(lambda_client, "bad-input")
            assert function("alive") == "alive"
        else:
            got = error_of(answer)
            assert got[:2] == (INVALID, 400), got
            assert got[2]
        outside = [p for p in server.folder.rglob("escaped.txt")] + [p for p in server.data_dir.parent.glob("escaped*")]
        assert (
            not outside
            and not packages.pathlib.Path("/escaped.txt").exists()
            and not packages.pathlib.Path("/tmp/escaped.txt").exists()
        )
        for path in (server.data_dir / "code").rglob("*"):
            assert not path.is_symlink() or path.resolve().is_relative_to(server.data_dir / "code"), path
    finally:
        try:
            lambda_client.delete_function(FunctionName="bad-input")
        except lambda_client.exceptions.ResourceNotFoundException:
            pass


@pytest.mark.parametrize("case", ["unpacks to 251 MiB", "says that it is small"])
def test_an_archive_that_unpacks_to_too_much_is_refused(server, case):
    package = bomb(251) if case == "unpacks to 251 MiB" else lying(1024)
    answer = requests.post(
        server.url + FUNCTIONS, json=creation(Code={"ZipFile": base64.b64encode(package).decode()}), timeout=60
    )
    if case == "unpacks to 251 MiB":
        check(answer, INVALID, 400, "Unzipped size must be smaller than 262144000 bytes")
    else:
        assert error_of(answer)[:2] == (INVALID, 400)
    left = sum(p.stat().st_size for p in (server.data_dir / "code").rglob("zeros"))
    assert left == 0, "nothing of it stays on disk"


def test_a_zip_of_more_than_fifty_mebibytes_is_refused(server):
    big = archive(HANDLER)[:-22] + b""  # a zip's size is checked before its content
    package = base64.b64encode(big + b"\0" * ((50 << 20) + 1 - len(big))).decode()
    answer = requests.post(server.url + FUNCTIONS, json=creation(Code={"ZipFile": package}), timeout=60)
    check(answer, "RequestEntityTooLargeException", 413, "Zipped size must be smaller than 52428800 bytes")


def test_a_request_of_more_than_seventy_megabytes_is_refused(server):
    package = "A" * (94 << 20)
    try:
        answer = requests.post(server.url + FUNCTIONS, json=creation(Code={"ZipFile": package}), timeout=60)
    except requests.ConnectionError:
        return  # the server may close without reading 94 MiB; the client then sees a broken pipe
    check(
        answer,
        "RequestEntityTooLargeException",
        413,
        "Request must be smaller than 70167211 bytes for the CreateFunction operation",
    )


# ---- other operations ----------------------------------------------------------------------------------------

JSON = {"Content-Type": "application/json"}

#: (what, method, path, headers, body, error type, status, message); {f} is a function that is there.
REQUESTS = [
    (
        "an event that is no JSON",
        "POST",
        FUNCTIONS + "/{f}/invocations",
        {},
        b"{not json",
        "InvalidRequestContentException",
        400,
        "Could not parse request body into json: …",
    ),
    (
        "an event that is no UTF-8",
        "POST",
        FUNCTIONS + "/{f}/invocations",
        {},
        b'"\xff\xfe"',
        "InvalidRequestContentException",
        400,
        "Could not parse request body into json: …",
    ),
    (
        "two JSON documents",
        "POST",
        FUNCTIONS + "/{f}/invocations",
        {},
        b"{} {}",
        "InvalidRequestContentException",
        400,
        "Could not parse request body into json: …",
    ),
    (
        "an unknown invocation type",
        "POST",
        FUNCTIONS + "/{f}/invocations",
        {"X-Amz-Invocation-Type": "Later"},
        b"{}",
        "ValidationException",
        400,
        "1 validation error detected: Value 'Later' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: …",
    ),
    (
        "an unknown log type",
        "POST",
        FUNCTIONS + "/{f}/invocations",
        {"X-Amz-Log-Type": "All"},
        b"{}",
        "ValidationException",
        400,
        "1 validation error detected: Value 'All' at 'logType' failed to satisfy constraint: Member must satisfy enum value set: …",
    ),
    (
        "a client context that is no base64",
        "POST",
        FUNCTIONS + "/{f}/invocations",
        {"X-Amz-Client-Context": "%%%"},
        b"{}",
        "InvalidRequestContentException",
        400,
        "Client context must be a valid Base64-encoded JSON object.…",
    ),
    (
        "a client context that is no JSON",
        "POST",
        FUNCTIONS + "/{f}/invocations",
        {"X-Amz-Client-Context": base64.b64encode(b"no").decode()},
        b"{}",
        "InvalidRequestContentException",
        400,
        "Client context must be a valid Base64-encoded JSON object.…",
    ),
    ("a body that is no JSON", "POST", FUNCTIONS, JSON, b"{", "SerializationException", 400, "…"),
    ("a body that is a list", "POST", FUNCTIONS, JSON, b"[]", "SerializationException", 400, "…"),
    ("a body that is empty", "POST", FUNCTIONS, JSON, b"", "ValidationException", 400, "…"),
    (
        "a qualifier with a bad character",
        "GET",
        FUNCTIONS + "/{f}?Qualifier=a%3Fb",
        {},
        b"",
        "ValidationException",
        400,
        "1 validation error detected: Value 'a?b' at 'qualifier' failed to satisfy constraint: …",
    ),
    (
        "a qualifier beside another in the name",
        "GET",
        FUNCTIONS + "/{f}:1?Qualifier=2",
        {},
        b"",
        INVALID,
        400,
        "The derived qualifier from the function name does not match the specified qualifier.",
    ),
    (
        "a function of another region",
        "GET",
        FUNCTIONS + "/arn%3Aaws%3Alambda%3Aap-southeast-1%3A000000000000%3Afunction%3A{f}",
        {},
        b"",
        "ResourceNotFoundException",
        404,
        "Functions from 'ap-southeast-1' are not reachable in this region ('us-east-1')",
    ),
    (
        "a page of more than ten thousand",
        "GET",
        FUNCTIONS + "?MaxItems=10001",
        {},
        b"",
        "ValidationException",
        400,
        "1 validation error detected: Value '10001' at 'maxItems' failed to satisfy constraint: Member must have value less than or equal to 10000",
    ),
    ("a page size that is text", "GET", FUNCTIONS + "?MaxItems=many", {}, b"", "SerializationException", 400, "…"),
    ("a marker that was never given", "GET", FUNCTIONS + "?Marker=%25%25", {}, b"", INVALID, 400, "…"),
    (
        "a list of unknown versions",
        "GET",
        FUNCTIONS + "?FunctionVersion=SOME",
        {},
        b"",
        "ValidationException",
        400,
        "1 validation error detected: Value 'SOME' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: [ALL]",
    ),
    (
        "an alias that is a number",
        "POST",
        FUNCTIONS + "/{f}/aliases",
        JSON,
        b'{"Name": "2024", "FunctionVersion": "$LATEST"}',
        "ValidationException",
        400,
        "1 validation error detected: Value '2024' at 'name' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)",
    ),
    (
        "a weight above one",
        "POST",
        FUNCTIONS + "/{f}/aliases",
        JSON,
        b'{"Name": "a", "FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"2": 2.0}}}',
        "ValidationException",
        400,
        "1 validation error detected: Value '{2=2.0}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: …",
    ),
    (
        "a negative reservation",
        "PUT",
        "/2017-10-31/functions/{f}/concurrency",
        JSON,
        b'{"ReservedConcurrentExecutions": -1}',
        "ValidationException",
        400,
        "1 validation error detected: Value '-1' at 'reservedConcurrentExecutions' failed to satisfy constraint: "
        "Member must have value greater than or equal to 0",
    ),
    (
        "a reservation for a version",
        "PUT",
        "/2017-10-31/functions/{f}:1/concurrency",
        JSON,
        b'{"ReservedConcurrentExecutions": 1}',
        INVALID,
        400,
        "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
        "Please specify either a function name or an unqualified function ARN.",
    ),
    (
        "an unknown kind of authorisation",
        "POST",
        "/2021-10-31/functions/{f}/url",
        JSON,
        b'{"AuthType": "BASIC"}',
        "ValidationException",
        400,
        "1 validation error detected: Value 'BASIC' at 'authType' failed to satisfy constraint: Member must satisfy enum value set: …",
    ),
    (
        "an unknown invoke mode",
        "POST",
        "/2021-10-31/functions/{f}/url",
        JSON,
        b'{"AuthType": "NONE", "InvokeMode": "UNKNOWN"}',
        "ValidationException",
        400,
        "1 validation error detected: Value 'UNKNOWN' at 'invokeMode' failed to satisfy constraint: "
        "Member must satisfy enum value set: …",
    ),
    (
        "a tag for a version",
        "POST",
        "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3A{f}%3A1",
        JSON,
        b'{"Tags": {"a": "b"}}',
        INVALID,
        400,
        "Tags on function aliases and versions are not supported. Please specify a function ARN.",
    ),
    (
        "a tag for something that is no ARN",
        "GET",
        "/2017-03-31/tags/arn%3Aaws%3Asomething",
        {},
        b"",
        "ValidationException",
        400,
        "1 validation error detected: Value 'arn:aws:something' at 'resource' failed to satisfy constraint: …",
    ),
    (
        "a structure that is nested too deep to be kept",
        "PUT",
        FUNCTIONS + "/{f}/configuration",
        JSON,
        b'{"VpcConfig": ' + b'{"a": ' * 120 + b"1" + b"}" * 120 + b"}",
        "SerializationException",
        400,
        "'vpcConfig' is nested deeper than 16 levels.",
    ),
    (
        "a structure that is too large to be kept",
        "PUT",
        FUNCTIONS + "/{f}/configuration",
        JSON,
        b'{"VpcConfig": {"SubnetIds": ["' + b"x" * 20_000 + b'"]}}',
        INVALID,
        400,
        "'vpcConfig' takes 20018 bytes; Brooklet keeps at most 16384.",
    ),
    ("a chunk of no size", "POST", FUNCTIONS + "/{f}/invocations", {"Transfer-Encoding": "chunked"}, b"zz\r\n", "InvalidRequestContentException", 400, "…"),
    ("an event with a byte order mark", "POST", FUNCTIONS + "/{f}/invocations", {}, b"\xef\xbb\xbf{}", "InvalidRequestContentException", 400, "…"),
    ("a name that is encoded twice", "POST", FUNCTIONS + "/%2565cho/invocations", {}, b"{}", "ValidationException", 400, "…"),
    ("an operation that does not exist", "GET", "/2015-03-31/nonsense", {}, b"", "UnknownOperationException", 404, "…"),
    ("a method that does not exist there", "PATCH", FUNCTIONS, {}, b"{}", "UnknownOperationException", 404, "…"),
    ("a path that is no UTF-8", "GET", FUNCTIONS + "/%FF%FE", {}, b"", "ValidationException", 400, "…"),
]


@pytest.mark.parametrize("row", REQUESTS, ids=[row[0] for row in REQUESTS])
def test_a_request_that_is_wrong_is_told_what_is_wrong(server, echo, row):
    _, method, path, headers, body, kind, status, message = row
    answer = requests.request(
        method, server.url + path.replace("{f}", echo.name), headers=headers, data=body, timeout=30
    )
    check(answer, kind, status, message)


def test_very_deep_json_harms_no_one(server, echo):
    deep = b"[" * 100_000 + b"]" * 100_000
    answer = requests.post(f"{server.url}{FUNCTIONS}/{echo.name}/invocations", data=deep, timeout=30)
    # Refused, or the function's own parser gives up: an error either way, and the server goes on.
    assert answer.status_code == 400 or "x-amz-function-error" in answer.headers


# ---- clients that misbehave ----------------------------------------------------------------------------------


def test_whoever_takes_the_server_for_a_proxy_is_told(server):
    head = b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\nConnection: close\r\n\r\n"
    answer = web.talk(server.address, head)
    assert web.status_of(answer) == 404 and b"This server is no proxy" in answer


def test_headers_without_end_are_refused(server):
    head = (
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
        + b"".join(b"X-%d: %s\r\n" % (n, b"y" * 1000) for n in range(2000))
        + b"\r\n"
    )
    assert web.status_of(web.talk(server.address, head)) in (400, 431)


def test_one_header_of_a_megabyte_is_refused(server):
    assert web.status_of(
        web.talk(server.address, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * (1 << 20) + b"\r\n\r\n")
    ) in (400, 431)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"HELO there\r\n\r\n",
        b"GET\r\n\r\n",
        b"\0" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nzz",
    ],
    ids=["TLS", "SMTP", "no target", "zeros", "version", "negative length", "length and chunks"],
)
def test_bytes_that_are_no_http_are_refused_or_dropped(server, garbage):
    with web.connect(server.address) as sock:
        sock.sendall(garbage)
        sock.shutdown(1)
        answer = web.read_all(sock)
    assert answer == b"" or web.status_of(answer) in (400, 404, 505)


def test_a_client_that_stops_in_its_head_holds_nothing_up(server):
    waiting = [web.connect(server.address) for _ in range(50)]
    try:
        for sock in waiting:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHos")
        assert requests.get(server.url + "/healthz", timeout=10).status_code == 200
    finally:
        for sock in waiting:
            sock.close()


def test_a_client_that_stops_in_its_body_starts_no_function_and_is_forgotten(server, echo):
    with web.connect(server.address) as sock:
        sock.sendall(
            f"POST {FUNCTIONS}/{echo.name}/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n".encode()
            + b'{"a":'
        )
        assert echo(1) == 1
    with web.connect(server.address) as sock:
        sock.sendall(
            f"POST {FUNCTIONS}/{echo.name}/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n".encode()
            + b'{"a":'
        )
        sock.shutdown(1)
        answer = web.read_all(sock)
    assert answer == b"" or web.status_of(answer) == 400


def test_a_client_that_is_half_closed_still_gets_its_answer(server, echo):
    body = json.dumps({"a": 1}).encode()
    with web.connect(server.address) as sock:
        sock.sendall(
            f"POST {FUNCTIONS}/{echo.name}/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        sock.shutdown(1)
        answer = web.read_all(sock)
    assert web.status_of(answer) == 200 and answer.endswith(b'{"a": 1}')


def test_a_client_that_does_not_read_its_answer_holds_no_one_up(server, deploy):
    large = deploy(
        {"app.py": "def handler(event, context):\n    return 'x' * 5_000_000\n"},
        packages.PYTHON,
        "app.handler",
        MemorySize=256,
    )
    lazy = web.connect(server.address)
    try:
        lazy.sendall(
            f"POST {FUNCTIONS}/{large.name}/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()
        )
        for _ in range(3):
            assert len(large()) == 5_000_000
    finally:
        lazy.close()


def test_an_idle_connection_per_client_does_not_use_up_the_server(server):
    idle = [web.connect(server.address) for _ in range(300)]
    try:
        assert requests.get(server.url + "/healthz", timeout=10).status_code == 200
    finally:
        for sock in idle:
            sock.close()
    wait_until(lambda: requests.get(server.url + "/healthz", timeout=10).status_code == 200, "the server answers")


def test_pipelined_requests_are_answered_in_order(server, echo):
    one = b'{"n": 1}'
    two = b'{"n": 2}'
    head = f"POST {FUNCTIONS}/{echo.name}/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n".encode()
    answer = web.talk(server.address, head + b"\r\n" + one + head + b"Connection: close\r\n\r\n" + two)
    assert answer.index(one) < answer.index(two)
