"""Python and Node with Brooklet's own bootstraps: what AWS documents about handlers, context, errors, logs and
the environment of a function. Sources: Lambda developer guide, "Building with Python", "Building with Node.js",
"Lambda execution environment", "Using Lambda environment variables".
"""

import json
import re
import subprocess
import sys

import pytest

from harness import aws, packages, rigs, server
from harness.gate import Gate


def node_runtime():
    """The runtime identifier for the machine's node."""
    try:
        said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    except OSError:
        rigs.missing("node is not installed")
    return f"nodejs{said.strip().lstrip('v').partition('.')[0]}.x"


@pytest.fixture(scope="module")
def python(deploy):
    """Deploys a Python module `app` with a `handler`."""
    return lambda code, handler="app.handler", **more: deploy({"app.py": code}, packages.PYTHON, handler, **more)


@pytest.fixture(scope="module")
def node(deploy):
    """Deploys a Node module: `index.mjs` unless the file is named."""

    def make(code, file="index.mjs", handler="index.handler", extra=None, **more):
        return deploy({file: code, **(extra or {})}, node_runtime(), handler, **more)

    return make


@pytest.fixture(scope="module")
def python_probe(deploy):
    return deploy(
        packages.python_probe(), packages.PYTHON, "probe.handler", Environment={"Variables": {"COLOUR": "blue"}}
    )


# ---- where a function finds itself ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machine(python_probe):
    return python_probe({"do": "machine"})


def test_the_environment_is_lambdas_and_the_functions_and_nothing_else(machine, python_probe):
    seen = machine["environment"]
    fixed = {
        "_HANDLER": "probe.handler",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{packages.PYTHON}",
        "AWS_LAMBDA_FUNCTION_NAME": python_probe.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{python_probe.name}",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "COLOUR": "blue",
    }
    assert {key: seen.get(key) for key in fixed} == fixed
    present = {
        "_X_AMZN_TRACE_ID",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_ENDPOINT_URL_LAMBDA",
        "AWS_ENDPOINT_URL_GATE",  # the tests' own
        "PATH",
        "LD_LIBRARY_PATH",
        "PYTHONPATH",
    }
    assert present <= set(seen)
    assert re.fullmatch(
        r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0", seen["_X_AMZN_TRACE_ID"]
    )
    documented = (
        set(fixed)
        | present
        | {
            "AWS_LAMBDA_RUNTIME_API",
            "AWS_LAMBDA_LOG_FORMAT",
            "AWS_LAMBDA_LOG_LEVEL",
            "AWS_XRAY_DAEMON_ADDRESS",
            "LC_CTYPE",
            "PWD",
            "SHLVL",
            "_AWS_XRAY_DAEMON_ADDRESS",
            "_AWS_XRAY_DAEMON_PORT",
            "_LAMBDA_TELEMETRY_LOG_FD",
            "AWS_LAMBDA_MAX_CONCURRENCY",
        }
    )
    ours = {name for name in seen if name.startswith(("BROOKLET_", "_BROOKLET_"))}
    assert set(seen) - documented - ours == set(), "variables of the server must not reach functions"


def test_a_function_runs_in_var_task_as_lambdas_user(machine):
    assert machine["cwd"] == "/var/task"
    assert (machine["uid"], machine["gid"], machine["umask"]) == (993, 990, 0o022)
    assert machine["user"] == "sbx_user1051"


def test_the_package_can_be_read_and_tmp_can_be_written(machine):
    assert machine["task"] == ["probe.py"] or machine["task"] == ["__pycache__", "probe.py"]
    assert machine["task_writable"] in ("OSError", "PermissionError")
    assert machine["tmp_writable"] is True and machine["tmp"] == []
    assert machine["opt"] == []


def test_a_function_holds_no_descriptor_of_the_server_and_an_empty_standard_input(machine):
    # 0, 1, 2, our transport and what the interpreter has open at this moment.
    assert len(machine["descriptors"]) <= 6, machine["descriptors"]
    assert machine["stdin"] == ""


def test_tmp_belongs_to_the_instance_alone_and_outlives_an_invocation(python_probe):
    with Gate() as gate:
        import concurrent.futures

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            held = pool.submit(python_probe, {"do": "hold", "url": gate.url})
            gate.wait_for()
            first = python_probe({"do": "touch", "name": "mine"})
            gate.open()
            other = held.result()["id"]
    assert first["id"] != other
    seen = {}
    for _ in range(10):
        again = python_probe({"do": "touch", "name": "mine"})
        seen.setdefault(again["id"], again["before"])
    assert seen.get(first["id"], ["mine"]) == ["mine"], "the same instance finds its file again"
    assert seen.get(other, []) == [], "another instance does not"


def test_tmp_is_as_large_as_the_function_was_promised(python):
    function = python(
        "import os\ndef handler(event, context):\n    s = os.statvfs('/tmp')\n    return s.f_blocks * s.f_frsize >> 20\n",
        EphemeralStorage={"Size": 700},
    )
    assert 690 <= function() <= 700


@pytest.mark.parametrize(
    "name",
    [
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR",
        "BROOKLET_WAIT",
        "BROOKLET_ANYTHING",
    ],
)
def test_reserved_variables_can_not_be_set(lambda_client, name):
    code, status, message = aws.refusal(
        lambda_client.create_function,
        FunctionName="reserved",
        Runtime=packages.PYTHON,
        Handler="a.b",
        Role=aws.ROLE,
        Code={"ZipFile": packages.python_probe()},
        Environment={"Variables": {name: "x"}},
    )
    assert (code, status) == ("InvalidParameterValueException", 400)
    assert message == (
        "Lambda was unable to configure your environment variables because the environment variables you have provided "
        "contains reserved keys that are currently not supported for modification. "
        f"Reserved keys used in this request: {name}"
    )


@pytest.mark.parametrize(
    "name", ["LANG", "PATH", "PYTHONPATH", "TZ", "NODE_OPTIONS", "LD_LIBRARY_PATH", "AWS_XRAY_CONTEXT_MISSING"]
)
def test_unreserved_variables_can_be_extended(python, name):
    value = "Europe/Berlin" if name == "TZ" else "/usr/local/bin:/usr/bin:/bin" if name == "PATH" else "/opt/own"
    function = python(
        "import os\ndef handler(event, context):\n    return os.environ[event]\n",
        Environment={"Variables": {name: value}},
    )
    assert function(name) == value


# ---- Python --------------------------------------------------------------------------------------------------


def test_python_calls_a_handler_in_a_package(deploy):
    function = deploy(
        {
            "shop/__init__.py": "",
            "shop/orders.py": "from . import prices\ndef take(event, context):\n    return prices.OF[event]\n",
            "shop/prices.py": "OF = {'tea': 3}\n",
        },
        packages.PYTHON,
        "shop.orders.take",
    )
    assert function("tea") == 3
    slashes = deploy(
        {"shop/orders.py": "def take(event, context):\n    return event\n"}, packages.PYTHON, "shop/orders.take"
    )
    assert slashes("tea") == "tea"


def test_python_runs_initialisation_once_and_keeps_globals(python):
    function = python("count = 0\ndef handler(event, context):\n    global count\n    count += 1\n    return count\n")
    assert [function() for _ in range(3)] == [1, 2, 3]


def test_python_serialises_as_lambda_does(python):
    function = python(
        "import decimal\n"
        "def handler(event, context):\n"
        "    return {'decimal': decimal.Decimal('1.5'), 'text': 'ü', 'tuple': (1, 2), 'nan': float('nan') if event else None}\n"
    )
    answer = function.invoke()
    assert json.loads(answer["Payload"]) == {"decimal": 1.5, "text": "ü", "tuple": [1, 2], "nan": None}
    # json.dumps's own spacing; from 3.12 on the official runtime does not escape.
    escaped = b'"text": "\xc3\xbc"' if sys.version_info >= (3, 12) else b'"text": "\\u00fc"'
    assert escaped in answer["Payload"]


def test_python_tells_what_could_not_be_serialised(python):
    error = python("def handler(event, context):\n    return {1, 2}\n").error()
    assert error["errorType"] == "Runtime.MarshalError"
    assert error["errorMessage"] == "Unable to marshal response: Object of type set is not JSON serializable"


def test_python_errors_carry_type_message_and_stack(python):
    code = "class Dry(Exception):\n    pass\n\ndef deep(n):\n    raise Dry(f'no water: {n}')\n\ndef handler(event, context):\n    deep(3)\n"
    answer = python(code).invoke()
    request = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    assert json.loads(answer["Payload"]) == {
        "errorMessage": "no water: 3",
        "errorType": "Dry",
        "requestId": request,
        "stackTrace": [
            '  File "/var/task/app.py", line 8, in handler\n    deep(3)\n',
            "  File \"/var/task/app.py\", line 5, in deep\n    raise Dry(f'no water: {n}')\n",
        ],
    }


def test_a_python_error_is_logged_with_its_stack(python):
    _, log = python("def handler(event, context):\n    return 1 / 0\n").tail()
    assert "[ERROR] ZeroDivisionError: division by zero" in log
    assert 'File "/var/task/app.py", line 2, in handler' in log


@pytest.mark.parametrize(
    "code, handler, kind, message",
    [
        ("x = 1\n", "app.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        (
            "x = 1\n",
            "other.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'other': No module named 'other'",
        ),
        (
            "import nowhere\n",
            "app.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'app': No module named 'nowhere'",
        ),
        ("def handler(:\n", "app.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app': "),
        (
            "x = 1\n",
            "app",
            "Runtime.MalformedHandlerName",
            "Bad handler 'app': not enough values to unpack (expected 2, got 1)",
        ),
    ],
    ids=["no handler", "no module", "no dependency", "syntax error", "no dot"],
)
def test_python_names_what_is_wrong_with_a_handler(python, code, handler, kind, message):
    error = python(code, handler).error()
    assert error["errorType"] == kind
    assert error["errorMessage"].startswith(message)


def test_python_initialisation_errors_are_the_functions_own(python):
    error = python("raise KeyError('no table')\n").error()
    assert (error["errorType"], error["errorMessage"]) == ("KeyError", "'no table'")


def test_python_that_exits_is_an_exit_error_and_the_next_request_works(python):
    function = python("import sys\ndef handler(event, context):\n    if event: sys.exit(4)\n    return 'well'\n")
    error = function.error("go")
    assert error["errorType"] == "Runtime.ExitError"
    assert function() == "well"


def test_python_print_and_logging_are_in_the_log_in_order_and_with_the_request_id(python):
    code = (
        "import logging, sys\n"
        "log = logging.getLogger()\nlog.setLevel('INFO')\n"
        "def handler(event, context):\n"
        "    print('first')\n    log.info('second')\n    print('third', file=sys.stderr)\n    log.warning('fourth')\n"
    )
    answer, log = python(code).tail()
    request = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    lines = log.splitlines()
    written = [line for line in lines if any(word in line for word in ("first", "second", "third", "fourth"))]
    assert written[0] == "first"
    assert re.fullmatch(rf"\[INFO\]\t\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z\t{request}\tsecond", written[1]), (
        written
    )
    assert written[2] == "third"
    assert re.fullmatch(rf"\[WARNING\]\t\S+Z\t{request}\tfourth", written[3])


def test_python_logs_json_when_asked(python):
    code = (
        "import logging\nlog = logging.getLogger(__name__)\n"
        "def handler(event, context):\n    log.info('an order', extra={'order': 7})\n    log.debug('too much')\n    print('plain')\n"
    )
    answer, log = python(
        code, LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "DEBUG"}
    ).tail()
    request = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    records = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    order = next(r for r in records if r.get("message") == "an order")
    assert (order["level"], order["logger"], order["requestId"], order["order"]) == ("INFO", "app", request, 7)
    assert not any(r.get("message") == "too much" for r in records)
    assert any("plain" in line for line in log.splitlines())
    kinds = [r["type"] for r in records if "type" in r]
    assert kinds == [
        "platform.initStart",
        "platform.initRuntimeDone",
        "platform.initReport",
        "platform.start",
        "platform.runtimeDone",
        "platform.report",
    ] or {"platform.start", "platform.report"} <= set(kinds)
    report = next(r for r in records if r.get("type") == "platform.report")["record"]
    assert (
        report["requestId"] == request and report["metrics"]["billedDurationMs"] >= 1 and report["status"] == "success"
    )


# ---- Node ----------------------------------------------------------------------------------------------------

HANDLERS = {
    "async": ("index.mjs", "export const handler = async (event) => ({ got: event })"),
    "sync promise": ("index.mjs", "export const handler = (event) => Promise.resolve({ got: event })"),
    "CommonJS": ("index.js", "exports.handler = async (event) => ({ got: event })"),
    "CommonJS by name": ("index.cjs", "module.exports = { handler: async (event) => ({ got: event }) }"),
    "callback": (
        "index.js",
        "exports.handler = (event, context, callback) => { setTimeout(() => callback(null, { got: event }), 5) }",
    ),
    "callback at once": ("index.js", "exports.handler = (event, context, callback) => callback(null, { got: event })"),
    "succeed": ("index.js", "exports.handler = (event, context) => { context.succeed({ got: event }) }"),
    "done": ("index.js", "exports.handler = (event, context) => { context.done(null, { got: event }) }"),
    "top-level await": (
        "index.mjs",
        "const ready = await Promise.resolve(1); export const handler = async (event) => ({ got: event })",
    ),
}


@pytest.mark.parametrize("style", HANDLERS)
def test_node_calls_every_style_of_handler(node, style):
    file, code = HANDLERS[style]
    assert node(code, file)({"a": 1}) == {"got": {"a": 1}}


def test_node_takes_js_files_as_modules_when_the_package_says_so(node):
    function = node(
        "export const handler = async () => import.meta.url", "index.js", extra={"package.json": '{"type": "module"}'}
    )
    assert function() == "file:///var/task/index.js"


def test_node_finds_a_handler_in_a_folder_and_nested_in_an_object(deploy):
    package = {"src/orders.mjs": "export const api = { v1: { take: async (event) => event } }"}
    assert deploy(package, node_runtime(), "src/orders.api.v1.take")("tea") == "tea"


def test_node_answers_null_for_undefined(node):
    answer = node("export const handler = async () => {}").invoke()
    assert answer["Payload"] == b"null"


def test_node_waits_for_the_event_loop_unless_told_not_to(node):
    code = (
        "let ticks = 0\n"
        "exports.handler = (event, context, callback) => {\n"
        "  context.callbackWaitsForEmptyEventLoop = event.wait\n"
        "  const before = ticks\n"
        "  setTimeout(() => { ticks += 1 }, 200)\n"
        "  callback(null, before)\n"
        "}"
    )
    waits = node(code, "index.js")
    assert [waits({"wait": True}), waits({"wait": True})] == [0, 1]


def test_node_context_has_lambdas_members(node):
    code = (
        "export const handler = async (event, context) => ({\n"
        "  ...context, remaining: context.getRemainingTimeInMillis(),\n"
        "  functions: ['getRemainingTimeInMillis', 'done', 'fail', 'succeed'].filter((n) => typeof context[n] === 'function'),\n"
        "})"
    )
    function = node(code, Timeout=20)
    answer = function.invoke()
    said = json.loads(answer["Payload"])
    expected = {
        "functionName": function.name,
        "functionVersion": "$LATEST",
        "memoryLimitInMB": "128",
        "invokedFunctionArn": f"arn:aws:lambda:us-east-1:000000000000:function:{function.name}",
        "awsRequestId": answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"],
        "logGroupName": f"/aws/lambda/{function.name}",
        "callbackWaitsForEmptyEventLoop": True,
    }
    assert {key: said.get(key) for key in expected} == expected
    assert 0 < said["remaining"] <= 20_000
    assert "getRemainingTimeInMillis" in said["functions"]


ERRORS = {
    "thrown": "export const handler = async () => { throw new RangeError('too wide') }",
    "thrown in sync code": "export const handler = () => { throw new RangeError('too wide') }",
    "given to the callback": "export const handler = (event, context, callback) => callback(new RangeError('too wide'))",
    "failed": "export const handler = (event, context) => context.fail(new RangeError('too wide'))",
    "rejected": "export const handler = () => Promise.reject(new RangeError('too wide'))",
}


@pytest.mark.parametrize("way", ERRORS)
def test_node_errors_carry_type_message_and_trace(node, way):
    error = node(ERRORS[way]).error()
    assert (error["errorType"], error["errorMessage"]) == ("RangeError", "too wide")
    assert error["trace"][0] == "RangeError: too wide"
    assert any("/var/task/index.mjs:1:" in line for line in error["trace"])


def test_node_errors_that_are_no_errors_are_told_too(node):
    error = node("export const handler = async () => { throw 'a word' }").error()
    assert error == {"errorType": "string", "errorMessage": "a word", "trace": []}


def test_an_unhandled_rejection_in_node_is_named(node):
    function = node(
        "export const handler = async () => { Promise.reject(new RangeError('lost')); await new Promise((r) => setTimeout(r, 5000)) }"
    )
    error = function.error()
    assert error["errorType"] == "Runtime.UnhandledPromiseRejection"
    assert error["errorMessage"] == "RangeError: lost"


def test_an_uncaught_exception_in_node_ends_the_instance_with_its_error(node):
    code = (
        "const id = Math.random()\n"
        "exports.handler = (event, context, callback) => {\n"
        "  if (event) setTimeout(() => { throw new RangeError('later') }, 1)\n"
        "  else callback(null, id)\n"
        "}"
    )
    function = node(code, "index.js")
    before = function()
    error = function.error("go")
    assert (error["errorType"], error["errorMessage"]) == ("RangeError", "later")
    assert function() != before


@pytest.mark.parametrize(
    "code, handler, kind, message",
    [
        (
            "export const x = 1",
            "index.handler",
            "Runtime.HandlerNotFound",
            "index.handler is undefined or not exported",
        ),
        ("export const handler = 1", "index.handler", "Runtime.HandlerNotFound", "index.handler is not a function"),
        ("export const x = 1", "other.handler", "Runtime.ImportModuleError", "Error: Cannot find module 'other'"),
        # As the official client: only CommonJS's own code for a missing module is an ImportModuleError.
        ("import nowhere from 'nowhere'", "index.handler", "Error", "Cannot find package 'nowhere' imported from"),
        (
            "const handler = await import('node:module'); handler.createRequire(import.meta.url)('nowhere')",
            "index.handler",
            "Runtime.ImportModuleError",
            "Error: Cannot find module 'nowhere'",
        ),
        (
            "export const handler = (",
            "index.handler",
            "Runtime.UserCodeSyntaxError",
            "SyntaxError: Unexpected end of input",
        ),
        ("export const x = 1", "index", "Runtime.MalformedHandlerName", "Bad handler"),
        ("throw new RangeError('at the start')", "index.handler", "RangeError", "at the start"),
    ],
    ids=[
        "no handler",
        "no function",
        "no module",
        "no package",
        "no required module",
        "syntax error",
        "no dot",
        "throws",
    ],
)
def test_node_names_what_is_wrong_with_a_handler(node, code, handler, kind, message):
    error = node(code, handler=handler).error()
    assert error["errorType"] == kind
    assert error["errorMessage"].startswith(message)


def test_node_console_is_in_the_log_as_lambda_formats_it(node):
    code = "export const handler = async () => { console.log('one', { a: 1 }); console.error('two'); console.warn('a\\nb'); console.debug('four'); process.stdout.write('raw\\n') }"
    answer, log = node(code).tail()
    request = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.search(rf"^{stamp}\t{request}\tINFO\tone \{{ a: 1 \}}$", log, re.M), log
    assert re.search(rf"^{stamp}\t{request}\tERROR\ttwo$", log, re.M)
    assert re.search(rf"^{stamp}\t{request}\tWARN\ta[\r\n]b$", log, re.M)
    assert re.search(rf"^{stamp}\t{request}\tDEBUG\tfour$", log, re.M)
    assert re.search(r"^raw$", log, re.M)


def test_node_logs_json_when_asked(node):
    code = "export const handler = async () => { console.info({ order: 7 }); console.info('text %d', 5); console.debug('too much') }"
    answer, log = node(code, LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "INFO"}).tail()
    request = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    records = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    mine = [(r["level"], r["message"], r["requestId"]) for r in records if "level" in r and "message" in r]
    assert mine == [("INFO", {"order": 7}, request), ("INFO", "text 5", request)]


def test_node_streams_a_response_as_it_is_written(node, lambda_client):
    code = (
        "export const handler = awslambda.streamifyResponse(async (event, stream, context) => {\n"
        "  stream.write('first\\n')\n  await fetch(event.gate)\n  stream.write('last\\n')\n  stream.end()\n})"
    )
    function = node(code)
    with Gate() as gate:
        answer = lambda_client.invoke_with_response_stream(
            FunctionName=function.name, Payload=json.dumps({"gate": gate.url}).encode()
        )
        events = iter(answer["EventStream"])
        assert next(events)["PayloadChunk"]["Payload"] == b"first\n"
        gate.wait_for()
        gate.open()
        rest = b"".join(e["PayloadChunk"]["Payload"] for e in events if "PayloadChunk" in e)
    assert rest == b"last\n"


def test_a_streaming_handler_answers_a_plain_invoke_whole(node):
    code = "export const handler = awslambda.streamifyResponse(async (event, stream) => { stream.write('a'); stream.write('b'); stream.end() })"
    assert node(code).invoke()["Payload"] == b"ab"


def test_node_pipelines_and_large_streams_arrive_whole(node, lambda_client):
    code = (
        "import { pipeline } from 'node:stream/promises'\nimport { Readable } from 'node:stream'\n"
        "export const handler = awslambda.streamifyResponse(async (event, stream) => {\n"
        "  await pipeline(Readable.from((function* () { for (let n = 0; n < 320; n += 1) yield Buffer.alloc(65536, n % 251) })()), stream)\n})"
    )
    function = node(code, MemorySize=256)
    answer = lambda_client.invoke_with_response_stream(FunctionName=function.name)
    body = b"".join(e["PayloadChunk"]["Payload"] for e in answer["EventStream"] if "PayloadChunk" in e)
    assert len(body) == 320 * 65536, "20 MiB: streams are not held to the buffered limit"
    assert all(body[n * 65536] == n % 251 for n in range(320))


# ---- every version that the machine has --------------------------------------------------------------------


def test_every_python_and_node_that_the_machine_has_runs_functions(deploy):
    listed = json.loads(server.run("runtimes", "list", "--output", "json").stdout)
    runtimes = [found["runtime"] for found in listed if found["program"]]
    assert packages.PYTHON in runtimes and node_runtime() in runtimes
    for runtime in runtimes:
        if runtime.startswith("python"):
            function = deploy(packages.python_probe(), runtime, "probe.handler")
        elif runtime.startswith("nodejs"):
            function = deploy(packages.node_probe(), runtime, "probe.handler")
        else:
            continue
        assert function({"do": "echo", "value": [runtime, None]}) == [runtime, None]
        assert function.error({"do": "fail", "message": "dry"})["errorMessage"] == "dry"
        assert function({"do": "env", "names": ["AWS_EXECUTION_ENV"]}) == {"AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}"}


# ---- the AWS SDK ---------------------------------------------------------------------------------------------


def test_without_the_sdk_the_error_has_the_command_that_installs_it_into_this_servers_folder(fresh, tmp_path):
    own = fresh(data_dir=tmp_path / "Ada's data")
    deploy = aws.Deployer(aws.client(own), "lacking")
    for files, runtime, handler, language in (
        ({"app.py": "import boto3\n"}, packages.PYTHON, "app.handler", "python"),
        ({"index.mjs": "import '@aws-sdk/client-s3'\n"}, node_runtime(), "index.handler", "node|--with|@aws-sdk/client-s3"),
    ):
        message = deploy(files, runtime, handler).error()["errorMessage"]
        command = re.search(r"run `(brooklet runtimes install .*)`", message)[1]
        # As a shell reads it back.
        words = subprocess.run(["sh", "-c", f"printf '%s|' {command}"], capture_output=True, text=True, check=True).stdout
        assert words == f"brooklet|runtimes|install|--data-dir|{own.data_dir}|{language}|"


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_with_the_sdk_installed_functions_import_it(fresh, tmp_path):
    done = server.run("runtimes", "install", "python", "node", "--data-dir", tmp_path / "data", timeout=400)
    assert done.returncode == 0, done.stderr
    own = fresh(data_dir=tmp_path / "data")
    deploy = aws.Deployer(aws.client(own), "sdk")
    code = (
        "import boto3\ndef handler(event, context):\n"
        "    client = boto3.client('lambda', endpoint_url=event)\n"
        "    return [f['FunctionName'] for f in client.list_functions()['Functions']]\n"
    )
    function = deploy({"app.py": code}, packages.PYTHON, "app.handler", Timeout=60, MemorySize=256)
    assert function(own.url) == [function.name]
    code = (
        "import { LambdaClient, ListFunctionsCommand } from '@aws-sdk/client-lambda'\n"
        "export const handler = async (event) => {\n"
        "  const found = await new LambdaClient({ endpoint: event }).send(new ListFunctionsCommand({}))\n"
        "  return found.Functions.length\n}"
    )
    assert deploy({"index.mjs": code}, node_runtime(), "index.handler", Timeout=60, MemorySize=256)(own.url) == 2


# ---- .NET and the rest ---------------------------------------------------------------------------------------


def dotnet_cases():
    return [
        (
            "Greeter::Example.Greeter::Handle",
            {"Name": "Ada", "Times": 2},
            {"Text": "Hello Ada! Hello Ada!", "Length": 21},
        ),
        ("Greeter::Example.Greeter::Echo", {"a": [1, None, "ü"]}, {"a": [1, None, "ü"]}),
        ("Greeter::Example.Greeter::Upper", "water", "WATER"),
        ("Greeter::Example.Greeter::Count", None, 1),
    ]


@pytest.mark.parametrize(
    "handler, event, answer",
    dotnet_cases(),
    ids=lambda v: v.rpartition(":")[2] if isinstance(v, str) and "::" in v else "",
)
def test_dotnet_calls_the_handler_method_of_a_publish_folder(deploy, handler, event, answer):
    function = deploy(packages.greeter("dotnet"), "dotnet8", handler, MemorySize=512)
    assert function(event) == answer


def test_dotnet_errors_carry_type_and_message(deploy):
    error = deploy(packages.greeter("dotnet"), "dotnet8", "Greeter::Example.Greeter::Fail", MemorySize=512).error("dry")
    assert error["errorMessage"] == "dry" and error["errorType"].endswith("InvalidOperationException")


@pytest.mark.parametrize("runtime", ["python3.99", "nodejs99.x", "ruby3.4", "cobol"])
def test_a_runtime_that_the_machine_lacks_is_refused_at_deploy_with_what_to_do(lambda_client, runtime):
    code, status, message = aws.refusal(
        lambda_client.create_function,
        FunctionName="lacking",
        Runtime=runtime,
        Handler="a.b",
        Role=aws.ROLE,
        Code={"ZipFile": packages.python_probe()},
    )
    assert (code, status) == ("InvalidParameterValueException", 400)
    assert runtime in message or re.search(r"Install|no longer supported|enum value set", message)
