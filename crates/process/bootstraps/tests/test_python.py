"""The Python bootstrap on every CPython found here, and the official client on the same cases."""

import json
import re

import pytest

import rigs
from cases import Case, check
from official import Official
from transport import Instance


def error(kind, message, *trace, request="id-1"):
    return {"errorMessage": message, "errorType": kind, "requestId": request, "stackTrace": list(trace)}


def frame(line, code, function="handler", file="app.py"):
    return '  File "<task>/%s", line %d, in %s\n    %s\n' % (file, line, function, code)


def answer(expression, before=""):
    return "%s\ndef handler(event, context):\n    return %s\n" % (before, expression)


ECHO = answer("event")
CONTEXT = '{"custom": {"k": "v"}, "env": {"locale": "de"}, "client": {"app_title": "t"}, "w3c": {"traceparent": "00"}}'
IDENTITY = '{"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p"}'
LOG = "import logging\nlog = logging.getLogger('mine')\ndef handler(event, context):\n    "
JSON_LOG = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}


def log_case(name, code, *logs, **options):
    return Case(name, LOG + code, ("A", "null"), logs=list(logs), **options)


def failing_import(name, source, kind, message, *trace, **options):
    return Case(name, source, ("X", error(kind, message, *trace, request="")), **options)


def missing(name):
    """Source of a module that is found but says that it is not: some interpreters here have the SDK."""
    return "raise ModuleNotFoundError(\"No module named '%s'\", name='%s')" % (name, name)


CASES = [
    # Answers
    Case("an event comes back as it was", ECHO, ("A", '{"a": [1, 2.5, null, true, "x"]}'), event={"a": [1, 2.5, None, True, "x"]}),
    Case("several events are answered one after the other", ECHO, *[("A", str(n)) for n in range(5)], events=list(range(5))),
    Case("an event with white space around it is read", ECHO, ("A", '{"a": 1}'), event=b' \n {"a" : 1} \t '),
    Case("none is null", answer("None"), ("A", "null")),
    Case("a text is a JSON text", answer("'a\"b\\n\\u2028/\\x7f'"), ("A", '"a\\"b\\n\u2028/\x7f"'), since=12),
    Case("until 3.11 text beyond ASCII is escaped", answer("{'ü': '😀'}"), ("A", '{"\\u00fc": "\\ud83d\\ude00"}'), only=range(8, 12)),
    Case("from 3.12 text beyond ASCII stays", answer("{'ü': '😀'}"), ("A", '{"ü": "😀"}'), since=12),
    Case("text beyond ASCII arrives", answer("[len(event), event == 'ü😀']"), ("A", "[2, true]"), event='"ü😀"'.encode()),
    Case("bytes are the answer as it is", answer("b'\\x00raw'"), ("A", "\x00raw")),
    Case("bytes inside a value are text", answer("{'a': b'x', b'k': [b'y']}"), ("A", '{"a": "x", "k": ["y"]}')),
    Case("a tuple is an array", answer("(1, (2, 3))"), ("A", "[1, [2, 3]]")),
    Case("empty containers", answer("[{}, [], (), '']"), ("A", '[{}, [], [], ""]')),
    Case("a named tuple is an object", answer("[P(1, 2), {'p': P(3, (P(4, 5),))}]", "from collections import namedtuple\nP = namedtuple('P', 'x y')"), ("A", '[{"x": 1, "y": 2}, {"p": {"x": 3, "y": [{"x": 4, "y": 5}]}}]')),
    Case("a named tuple itself is an object", answer("P(1, 2)", "from collections import namedtuple\nP = namedtuple('P', 'x y')"), ("A", '{"x": 1, "y": 2}')),
    Case("a subclass of tuple is an array", answer("T((1, 2))", "class T(tuple): pass"), ("A", "[1, 2]")),
    Case("an object with _asdict is an object", answer("[A()]", "class A:\n    def _asdict(self): return {'a': 1}"), ("A", '[{"a": 1}]')),
    Case("decimals are numbers", answer("[Decimal('1.10'), {'d': Decimal('1E+3')}, Decimal('NaN')]", "from decimal import Decimal"), ("A", '[1.10, {"d": 1E+3}, NaN]')),
    Case("keys that are not text", answer("{1: 'i', 1.5: 'f', None: 'n', False: 'b'}"), ("A", '{"1": "i", "1.5": "f", "null": "n", "false": "b"}')),
    Case("keys that are not text beside a decimal", answer("{1: D(1), 1.5: 'f', None: 'n', False: 'b'}", "from decimal import Decimal as D"), ("A", '{"1": 1, "1.5": "f", "null": "n", "false": "b"}')),
    Case("not a number and infinities are written", answer("[float('nan'), float('inf'), -float('inf')]"), ("A", "[NaN, Infinity, -Infinity]")),
    Case("numbers keep their digits", answer("[0.1, 1e100, 123456789012345678901234567890, -0.0, 1e16]"), ("A", "[0.1, 1e+100, 123456789012345678901234567890, -0.0, 1e+16]")),
    Case("enumerations of plain values", answer("[E.A, I.B, {I.B: E.A}]", "import enum\nclass E(str, enum.Enum):\n    A = 'a'\nclass I(enum.IntEnum):\n    B = 7"), ("A", '["a", 7, {"7": "a"}]')),
    Case("enumerations of plain values beside a decimal", answer("[E.A, I.B, {I.B: E.A}, D(1)]", "import enum\nfrom decimal import Decimal as D\nclass E(str, enum.Enum):\n    A = 'a'\nclass I(enum.IntEnum):\n    B = 7"), ("A", '["a", 7, {"7": "a"}, 1]')),
    Case("an ordered dictionary keeps its order", answer("OrderedDict([('b', 1), ('a', P(1))])", "from collections import OrderedDict, namedtuple\nP = namedtuple('P', 'x')"), ("A", '{"b": 1, "a": {"x": 1}}')),
    Case("the same value twice is no cycle", answer("[x, x, P(x)]", "from collections import namedtuple\nP = namedtuple('P', 'x')\nx = {'a': []}"), ("A", '[{"a": []}, {"a": []}, {"x": {"a": []}}]')),
    Case("a large event and answer", answer("event * 3"), ("A", json.dumps("x" * 3000000)), event="x" * 1000000),
    # What cannot be JSON
    Case("a set is no JSON", answer("{'a': {1}}"), ("E", error("Runtime.MarshalError", "Unable to marshal response: Object of type set is not JSON serializable"))),
    Case("a date is no JSON", answer("datetime.date(2026, 1, 1)", "import datetime"), ("E", error("Runtime.MarshalError", "Unable to marshal response: Object of type date is not JSON serializable"))),
    Case("a tuple is no key", answer("{(1, 2): 3}"), ("E", error("Runtime.MarshalError", "Unable to marshal response: keys must be str, int, float, bool or None, not tuple"))),
    Case("a cycle is no JSON", "x = []\nx.append(x)\n" + ECHO.replace("event\n", "x\n"), ("E", error("Runtime.MarshalError", "Unable to marshal response: Circular reference detected"))),
    Case("a cycle through a named tuple is no JSON", "from collections import namedtuple\nx = []\nx.append(namedtuple('P', 'x')(x))\n" + ECHO.replace("event\n", "x\n"), ("E", error("Runtime.MarshalError", "Unable to marshal response: Circular reference detected"))),
    Case("after a cycle the next answer is fine", "x = []\ny = [x]\nx.append(y)\ndef handler(event, context):\n    return x if event else [[], y[:0]]\n", ("E", error("Runtime.MarshalError", "Unable to marshal response: Circular reference detected")), ("A", "[[], []]"), events=[1, 0]),
    Case("an async handler is no handler", "async def handler(event, context):\n    return 1\n", ("E", error("Runtime.MarshalError", "Unable to marshal response: Object of type coroutine is not JSON serializable"))),
    Case("a generator is no answer", "def handler(event, context):\n    yield 1\n", ("E", error("Runtime.MarshalError", "Unable to marshal response: Object of type generator is not JSON serializable"))),
    Case("bytes that are no text inside a value", answer("{'a': b'\\xff'}"), ("E", error("Runtime.MarshalError", "Unable to marshal response: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"))),
    Case("an event that is no JSON", ECHO, ("E", error("Runtime.UnmarshalError", "Unable to unmarshal input: Expecting value: line 1 column 1 (char 0)")), event=b"nonsense"),
    Case("an empty event is no JSON", ECHO, ("E", error("Runtime.UnmarshalError", "Unable to unmarshal input: Expecting value: line 1 column 1 (char 0)")), event=b""),
    Case("an event with more behind it is no JSON", ECHO, ("E", re.compile("Unable to unmarshal input: Extra data: line 1 column 3 ")), event=b"1 2"),
    Case("an event that ends early is no JSON", ECHO, ("E", error("Runtime.UnmarshalError", "Unable to unmarshal input: Expecting value: line 1 column 7 (char 6)")), event=b'{"a": '),
    # Errors of the function
    Case("an exception", "def handler(event, context):\n    raise ValueError('no')\n", ("E", error("ValueError", "no", frame(2, "raise ValueError('no')"))), logs=["[ERROR] ValueError: no\nTraceback (most recent call last):\n\u00a0\u00a0File \"<task>/app.py\", line 2, in handler\n\u00a0\u00a0\u00a0\u00a0raise ValueError('no')"]),
    Case("an exception without a message", "class Mine(Exception): pass\ndef handler(event, context):\n    raise Mine\n", ("E", error("Mine", "", frame(3, "raise Mine"))), logs=["[ERROR] Mine\nTraceback (most recent call last):\n\u00a0\u00a0File \"<task>/app.py\", line 3, in handler\n\u00a0\u00a0\u00a0\u00a0raise Mine"]),
    Case("an exception from deeper down", "def f(x):\n    return x['missing']\ndef handler(event, context):\n    return f({})\n", ("E", error("KeyError", "'missing'", frame(4, "return f({})"), frame(2, "return x['missing']", "f")))),
    Case("after an exception the next event is answered", "def handler(event, context):\n    return 1 / event\n", ("E", error("ZeroDivisionError", "division by zero", frame(2, "return 1 / event"))), ("A", "0.5"), events=[0, 2]),
    Case("a chained exception is the last one", "def handler(event, context):\n    try:\n        raise KeyError(1)\n    except KeyError as e:\n        raise OSError(2, 'two') from e\n", ("E", error("FileNotFoundError", "[Errno 2] two", frame(5, "raise OSError(2, 'two') from e")))),
    Case("a handler with too few parameters", "def handler(event):\n    return 1\n", ("E", error("TypeError", "handler() takes 1 positional argument but 2 were given"))),
    Case("an exception in JSON log format", "def handler(event, context):\n    raise ValueError('no')\n", ("E", error("ValueError", "no", frame(2, "raise ValueError('no')"))), environment=JSON_LOG, since=9, logs=['{"timestamp":"<time>","level":"ERROR","errorMessage":"no","errorType":"ValueError","requestId":"id-1","stackTrace":["  File \\"<task>/app.py\\", line 2, in handler\\n    raise ValueError(\'no\')\\n"]}']),
    Case("endless recursion is an error like others", "def handler(event, context):\n    try:\n        handler(event, context)\n    except RecursionError:\n        raise RuntimeError('deep') from None\n", ("E", re.compile("RuntimeError")), like_lambda="its stack trace does not fit a header: the client ends"),
    # Ends of the process
    Case("exit in a handler ends the process", "import sys\ndef handler(event, context):\n    sys.exit(7)\n", ("exit", 7)),
    Case("an exit with a text is an exit with 1", "import sys\ndef handler(event, context):\n    sys.exit('bye')\n", ("exit", 1)),
    Case("a hard exit ends the process", "import os\ndef handler(event, context):\n    os._exit(9)\n", ("exit", 9)),
    Case("exit at import ends the process", "import sys\nsys.exit(3)\n", ("exit", 3)),
    Case("a base exception ends the process", "class B(BaseException): pass\ndef handler(event, context):\n    raise B\n", ("exit", 1)),
    Case("a signal ends the process", "import os\ndef handler(event, context):\n    os.kill(os.getpid(), 9)\n", ("exit", -9)),
    Case("exit handlers run on exit", "import atexit, os, sys\natexit.register(lambda: os._exit(5))\ndef handler(event, context):\n    sys.exit(7)\n", ("exit", 5)),
    # Finding the handler
    failing_import("a missing module", {}, "Runtime.ImportModuleError", "Unable to import module 'app': No module named 'app'", logs=["[ERROR] Runtime.ImportModuleError: Unable to import module 'app': No module named 'app'\nTraceback (most recent call last):"]),
    failing_import("a missing import", "import nosuch\n", "Runtime.ImportModuleError", "Unable to import module 'app': No module named 'nosuch'"),
    failing_import("a missing package", {}, "Runtime.ImportModuleError", "Unable to import module 'a.b': No module named 'a'", handler="a.b.handler"),
    failing_import("a missing handler", "x = 1\n", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
    failing_import("a name without a dot", ECHO, "Runtime.MalformedHandlerName", "Bad handler 'handler': not enough values to unpack (expected 2, got 1)", handler="handler"),
    failing_import("an empty name", ECHO, "Runtime.MalformedHandlerName", "Bad handler '': not enough values to unpack (expected 2, got 1)", handler="", like_lambda="it wants a name"),
    failing_import("a built-in module", ECHO, "Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module", handler="sys.exit"),
    failing_import("a syntax error", "def handler(event, context)\n    pass\n", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app': expected ':' (app.py, line 1)", '  File "<task>/app.py" Line 1\n    def handler(event, context)\n', since=10),
    failing_import("an exception at import", "def f():\n    raise ValueError('early')\nf()\n", "ValueError", "early", frame(3, "f()", "<module>"), frame(2, "raise ValueError('early')", "f")),
    Case("a handler in a folder", {"sub/dir/mod.py": ECHO}, ("A", "1"), event=1, handler="sub/dir/mod.handler"),
    Case("a handler in a package", {"sub/__init__.py": "", "sub/mod.py": ECHO}, ("A", "1"), event=1, handler="sub.mod.handler"),
    Case("a handler may be any callable", "class H:\n    def __call__(self, event, context): return 'called'\nhandler = H()\n", ("A", '"called"')),
    Case("a handler that is not callable", "handler = 5\n", ("E", error("TypeError", "'int' object is not callable"))),
    Case("a module beside the handler", {"app.py": "import other\nhandler = other.handler\n", "other.py": ECHO}, ("A", "2"), event=2),
    Case("the module is not the main one", answer("[__name__, __name__ == '__main__']"), ("A", '["app", false]')),
    # Context
    Case("the context tells of the function", answer("[context.aws_request_id, context.function_name, context.function_version, context.invoked_function_arn, context.memory_limit_in_mb, context.log_group_name, context.log_stream_name, context.client_context]"), ("A", '["id-1", "test", "$LATEST", "arn:aws:lambda:us-east-1:000000000000:function:test", "128", "/aws/lambda/test", "2026/01/01/[$LATEST]0123", null]')),
    Case("the context knows the time that is left", answer("[20000 < context.get_remaining_time_in_millis() <= 30000, type(context.get_remaining_time_in_millis()).__name__]"), ("A", '[true, "int"]')),
    Case("no time is left after the deadline", answer("context.get_remaining_time_in_millis()"), ("A", "0"), meta={"deadline": 1000}),
    Case("the client's context", answer("[context.client_context.custom, context.client_context.env, context.client_context.client.app_title, context.client_context.client.installation_id]"), ("A", '[{"k": "v"}, {"locale": "de"}, "t", null]'), meta={"client": CONTEXT}),
    Case("the client's trace context", answer("[context.w3c(), hasattr(context.client_context, 'w3c')]"), ("A", '[{"traceparent": "00"}, false]'), meta={"client": CONTEXT}, since=10),
    Case("a client context that is no JSON", ECHO, ("E", error("Runtime.LambdaContextUnmarshalError", "Unable to parse Client Context JSON: Expecting value: line 1 column 1 (char 0)")), meta={"client": "x"}),
    Case("the caller's identity", answer("[context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id]"), ("A", '["i", "p"]'), meta={"identity": IDENTITY}),
    Case("nobody's identity", answer("[context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id]"), ("A", "[null, null]")),
    Case("the context shows itself", answer("repr(context)"), ("A", '"LambdaContext([aws_request_id=id-1,log_group_name=/aws/lambda/test,log_stream_name=2026/01/01/[$LATEST]0123,function_name=test,memory_limit_in_mb=128,function_version=$LATEST,invoked_function_arn=arn:aws:lambda:us-east-1:000000000000:function:test,client_context=ClientContext([custom={\'k\': \'v\'},env={\'locale\': \'de\'},client=Client([installation_id=None,app_title=t,app_version_name=None,app_version_code=None,app_package_name=None])]),identity=CognitoIdentity([cognito_identity_id=i,cognito_identity_pool_id=p]),tenant_id=None])"'), meta={"client": CONTEXT, "identity": IDENTITY}, since=9),
    Case("the context logs", "def handler(event, context):\n    context.log('one\\ntwo')\n    context.log(5)\n", ("A", "null"), logs=["one\ntwo", "5"]),
    Case("the trace id is in the environment", answer("os.environ.get('_X_AMZN_TRACE_ID')", "import os"), ("A", '"Root=1-5bef4de7"')),
    # Logging
    log_case("a warning", "log.warning('careful %s', 1)", "[WARNING]\t<time>\tid-1\tcareful 1"),
    log_case("an information is below the root's level", "log.info('x')"),
    log_case("an information when the function asks for it", "logging.getLogger().setLevel('INFO'); log.info('x'); log.debug('y')", "[INFO]\t<time>\tid-1\tx"),
    log_case("a record of several lines is one event", "log.error('a\\nb')", "[ERROR]\t<time>\tid-1\ta\nb"),
    log_case("a basic configuration changes nothing", "logging.basicConfig(level='DEBUG', format='%(message)s'); log.info('x')"),
    log_case("the level from the configuration", "log.debug('d'); log.info('i')", "[INFO]\t<time>\tid-1\ti", environment={"AWS_LAMBDA_LOG_LEVEL": "INFO"}),
    log_case("the level trace shows debug", "log.debug('d')", "[DEBUG]\t<time>\tid-1\td", environment={"AWS_LAMBDA_LOG_LEVEL": "TRACE"}),
    log_case("a record in JSON", "log.warning('careful %s', 1)", '{"timestamp":"<time>","level":"WARNING","message":"careful 1","logger":"mine","requestId":"id-1"}', environment=JSON_LOG),
    log_case("extra fields in JSON", "log.error('x', extra={'n': 1, 'o': {'p': None}})", '{"timestamp":"<time>","level":"ERROR","message":"x","logger":"mine","requestId":"id-1","n":1,"o":{"p":null}}', environment=JSON_LOG),
    log_case("a level of its own in JSON", "log.log(35, 'x')", '{"timestamp":"<time>","level":"WARNING","message":"x","logger":"mine","requestId":"id-1"}', environment=JSON_LOG),
    log_case("a dictionary as message in JSON", "log.error({'a': 1})", '{"timestamp":"<time>","level":"ERROR","message":{"a":1},"logger":"mine","requestId":"id-1"}', environment=JSON_LOG, since=10),
    log_case("values that are no JSON in JSON", "log.error('x', extra={'s': {1}, 'c': 1j})", '{"timestamp":"<time>","level":"ERROR","message":"x","logger":"mine","requestId":"id-1","s":"{1}","c":"1j"}', environment=JSON_LOG, since=10),
    log_case("an exception in JSON", "\n    try:\n        raise KeyError('k')\n    except KeyError:\n        log.exception('caught')", '{"timestamp":"<time>","level":"ERROR","message":"caught","logger":"mine","stackTrace":["  File \\"<task>/app.py\\", line 6, in handler\\n    raise KeyError(\'k\')\\n"],"errorType":"KeyError","errorMessage":"\'k\'","requestId":"id-1","location":"<task>/app.py:handler:8"}', environment=JSON_LOG),
    Case("a record that cannot be formatted fails the call", LOG + "log.warning('%d', 'x')\n", ("E", re.compile('"errorType": "TypeError"'))),
    Case("records of the init phase have no request", "import logging\nlogging.warning('early')\n" + ECHO, ("A", "null"), logs=["[WARNING]\t<time>\t\tearly"]),
    log_case("the handler may be given another format", "\n    logging.getLogger().handlers[0].setFormatter(logging.Formatter('%(levelname)s:%(message)s'))\n    log.warning('x')", "WARNING:x"),
]

# What the official client leaves to the pipes, or does otherwise.
OWN = [
    Case("what is printed is one event a line", "def handler(event, context):\n    print('a')\n    print('b\\nc', 1)\n    print()\n", ("A", "null"), logs=["a", "b", "c 1", ""]),
    Case("an unfinished line ends with its event", "def handler(event, context):\n    print(event, end='')\n", ("A", "null"), ("A", "null"), logs=["1", "2"], events=[1, 2]),
    Case("pieces of a line are one event", "def handler(event, context):\n    print('a', end='')\n    print('b', end='', flush=True)\n    print('c')\n", ("A", "null"), logs=["abc"]),
    Case("both streams keep their order", "import sys\ndef handler(event, context):\n    print('1')\n    print('2', file=sys.stderr)\n    sys.stdout.buffer.write(b'3\\n')\n    sys.stderr.write('4\\n')\n    sys.stdout.writelines(['5\\n', '6\\n'])\n", ("A", "null"), logs=list("123456")),
    Case("records and prints keep their order", LOG + "print('1'); log.warning('2'); print('3')\n", ("A", "null"), logs=["1", "[WARNING]\t<time>\tid-1\t2", "3"]),
    Case("prints stay plain in JSON log format", "def handler(event, context):\n    print('plain')\n", ("A", "null"), logs=["plain"], environment=JSON_LOG),
    Case("prints of the init phase", "print('loading')\n" + ECHO, ("A", "null"), logs=["loading"]),
    Case("text that is no UTF-8 is shown escaped", "def handler(event, context):\n    print('\\udc80x')\n", ("A", "null"), logs=["\\udc80x"]),
    Case("a line longer than an event is cut", "def handler(event, context):\n    print('x' * 600000)\n", ("A", "null"), logs=["x" * 262144, "x" * 262144, "x" * 75712]),
    Case("the streams are like the interpreter's", "import sys\ndef handler(event, context):\n    o = sys.stdout\n    return [o.fileno(), sys.stderr.fileno(), o.isatty(), o.encoding, o.writable(), o.readable(), o.line_buffering, o.name, o.mode, o.write('x\\n'), o.buffer.write(b'yy\\n'), o.closed]\n", ("A", '[1, 2, false, "utf-8", true, false, true, "<stdout>", "w", 2, 3, false]')),
    Case("writing no text is refused as ever", "import sys\ndef handler(event, context):\n    sys.stdout.write(5)\n", ("E", error("TypeError", "write() argument must be str, not int", frame(3, "sys.stdout.write(5)")))),
    Case("the streams can be reconfigured", "import sys\ndef handler(event, context):\n    sys.stdout.reconfigure(encoding='latin-1', errors='replace')\n    print('ok')\n", ("A", "null"), logs=["ok"]),
    Case("a traceback of a thread is logged", "import threading\ndef handler(event, context):\n    t = threading.Thread(target=lambda: 1 / 0, name='worker')\n    t.start()\n    t.join()\n", ("A", "null")),
    Case("a tuple of lone surrogates is no JSON", answer("'\\ud800'"), ("E", error("Runtime.MarshalError", "Unable to marshal response: 'utf-8' codec can't encode character '\\ud800' in position 1: surrogates not allowed")), since=12),
    Case("an exception whose text fails is still told", "class Bad(Exception):\n    def __str__(self): raise ValueError\ndef handler(event, context):\n    raise Bad\n", ("E", error("Bad", "<the error's text could not be made: its __str__ failed>", frame(4, "raise Bad")))),
    failing_import("the SDK is missing at import", {"app.py": "import boto3\n", "boto3.py": missing("boto3")}, "Runtime.ImportModuleError", "Unable to import module 'app': No module named 'boto3' (the AWS SDK is not installed for this runtime: run `brooklet runtimes install python`)"),
    Case("the SDK is missing in the handler", {"app.py": "def handler(event, context):\n    from botocore.config import Config\n", "botocore.py": missing("botocore")}, ("E", error("ModuleNotFoundError", "No module named 'botocore' (the AWS SDK is not installed for this runtime: run `brooklet runtimes install python`)", frame(2, "from botocore.config import Config"), frame(1, missing("botocore"), "<module>", "botocore.py")))),
    Case("private variables are gone", answer("[n for n in os.environ if n.startswith('BROOKLET')]", "import os"), ("A", "[]"), environment={"BROOKLET_SDK_PATH": "/nowhere"}),
    Case("the tenant is in the context", answer("context.tenant_id"), ("A", '"t-1"'), meta={"tenant": "t-1"}),
    Case("an empty trace id is none", answer("os.environ.get('_X_AMZN_TRACE_ID')", "import os"), ("A", "null"), meta={"trace": ""}),
    Case("a file named logging beside the function is not seen", {"app.py": LOG + "log.warning('x')\n", "logging.py": "1 / 0"}, ("A", "null"), logs=["[WARNING]\t<time>\tid-1\tx"]),
]

PYTHONS = rigs.pythons()
assert PYTHONS, "no CPython ≥ 3.8 on this machine"


def cases_for(table, minor):
    return [c for c in table if (c.since is None or minor >= c.since) and (c.only is None or minor in c.only)]


def matrix(table):
    return [pytest.param(version, case, id=version + ": " + case.name) for version in PYTHONS for case in cases_for(table, int(version[2:]))]


def start(version, handler_environment=None):
    command = rigs.python_command(PYTHONS[version])
    return lambda folder, handler, environment=None: Instance(command, folder, handler, environment)


@pytest.mark.parametrize("version, case", matrix(CASES + OWN))
def test_our_bootstrap(version, case, tmp_path):
    check(case, start(version), str(tmp_path), "app.py", True)


@pytest.mark.parametrize("version, case", matrix(CASES + OWN))
def test_our_bootstrap_that_waited_for_its_function(version, case, tmp_path):
    command = rigs.python_command(PYTHONS[version])
    waiting = lambda folder, handler, environment: Instance(command, folder, handler, environment, waits=True)
    check(case, waiting, str(tmp_path), "app.py", True)


@pytest.mark.parametrize("version, case", matrix(CASES))
def test_the_official_client(version, case, tmp_path):
    if case.like_lambda is not True:
        pytest.skip("ours differs on purpose: %s" % case.like_lambda)
    command = rigs.official_python(PYTHONS[version], version)
    if command is None:
        pytest.skip("awslambdaric for %s is not in %s" % (version, rigs.CACHE))
    environment = {"AWS_EXECUTION_ENV": "AWS_Lambda_python" + version}
    official = lambda folder, handler, own: Official(command, folder, handler, dict(environment, **own))
    check(case, official, str(tmp_path), "app.py", False)
