"""The .NET bootstrap on Mono and on .NET Core, compiled once for both. No official client can be had here to compare
with: the expectations follow its published source and AWS's documentation."""

import json
import re
import signal
import struct

import pytest

import rigs
from transport import Ended, Instance

DOTNETS = rigs.dotnets()
FIXTURES = rigs.HERE + "/fixtures/dotnet"
pytestmark = pytest.mark.skipif(not DOTNETS, reason="neither Mono with mcs nor .NET Core is on this machine")

FORMAT = "The valid format is 'ASSEMBLY::TYPE::METHOD'."
LOG = "<time>\tid-1\t"
CLIENT = '{"custom": {"k": "v", "n": 5}, "env": {"locale": "de"}, "client": {"app_title": "t"}}'
IDENTITY = '{"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p"}'
EVERYTHING = {
    "Truth": True, "Number": 1.5, "Exact": 0.10, "Time": "2026-01-02T03:04:05.0000000Z", "Id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "Color": 1, "Array": [1, 2], "List": ["a"], "Set": [1], "Map": {"p": {"X": 1, "Y": None, "Name": "n", "Next": None}},
    "Numbers": {"a": 1}, "Points": [{"X": 2, "Y": 3, "Name": None, "Next": None}], "Any": {"x": [1, "y", None]}, "Bytes": "AAE=",
    "Letter": "c", "Span": "01:02:03",
}

# method, event, kind, answer (text as it is sent; a pattern; for an error the type and the message), options
CASES = [
    ("Echo", {"a": [1, 2.5, None, True, "ü\n\"\\"]}, "A", '{"a":[1,2.5,null,true,"ü\\n\\"\\\\"]}'),
    ("Echo", b' { "a" : [ ] , "b" : { } , "c" : "\\u00fc\\ud83d\\ude00\\/" , "d" : -1.5e3 } ', "A", '{"a":[],"b":{},"c":"ü😀/","d":-1500}'),
    ("Upper", "abc", "A", '"ABC"'),
    ("Upper", None, "E", ("NullReferenceException", None)),
    ("Add", [1, 2, 3], "A", "6"),
    ("Move", {"x": 1, "Y": 5, "name": "n", "unknown": 1, "secret": "s", "next": {"x": 7}}, "A", '{"X":2,"Y":5,"Name":"n","Next":{"X":7,"Y":null,"Name":null,"Next":null}}'),
    ("All", EVERYTHING, "A", re.compile("^" + re.escape(json.dumps(EVERYTHING, separators=(",", ":"))) + "$")),
    ("All", {"color": "green"}, "A", re.compile('"Color":1')),
    ("Raw", b'{"raw" : 1}', "A", '{"raw" : 1}'),
    ("Static", "x", "A", '"static x"'),
    ("Private", "x", "A", '"private x"'),
    ("Nothing", 1, "A", ""),
    ("NoInput", 1, "A", '"none"'),
    ("Later", "x", "A", '"x later"'),
    ("Quiet", "x", "A", ""),
    ("System.String Over(Int32)", 1, "A", '"number"'),
    ("Collection", [1, 2, 1], "A", '{"size":2}'),
    ("Shouted", "ab", "A", '<"AB"?>'),
    # Events and answers that do not fit
    ("Add", {"a": 1}, "E", ("FormatException", "The JSON value could not be converted to System.Collections.Generic.List`1[[System.Int32")),
    ("Add", [1, "x"], "E", ("FormatException", 'The JSON value could not be converted to System.Int32: it is "x".')),
    ("Upper", 5, "E", ("FormatException", "The JSON value could not be converted to System.String: it is 5.")),
    ("Upper", b"{nonsense", "E", ("FormatException", "The text is no JSON at character 1: 'n' is not expected there.")),
    ("Upper", b'"abc', "E", ("FormatException", "The text is no JSON at character 4: it ends too early.")),
    ("Upper", b'"a" x', "E", ("FormatException", "The text is no JSON at character 4: 'x' is not expected there.")),
    ("Echo", b"-", "E", ("FormatException", "The text is no JSON at character 0: '-' is not expected there.")),
    ("Echo", b"[" * 600, "E", ("FormatException", "The JSON text is nested deeper than 512 levels.")),
    ("Nan", 1, "E", ("ArgumentException", "NaN cannot be written as JSON.")),
    ("Cycle", 1, "E", ("InvalidOperationException", "A possible object cycle was detected: the answer is nested deeper than 64 levels.")),
    # Errors of the function
    ("Throw", "x", "E", ("ArgumentException", "bad x")),
    ("ThrowLater", "key", "E", ("KeyNotFoundException", "key")),
    ("Cancelled", 1, "E", ("OperationCanceledException", "stop")),
    ("CancelledTask", 1, "E", ("TaskCanceledException", "A task was canceled.")),
    ("Huge", 1, "E", ("Exception", "Exception exceeded maximum payload size of 256KB.")),
    # The init phase
    ("None", 1, "X", ("LambdaValidationException", "Unable to find method 'None' in type 'App.Function' from assembly 'App': Found no methods matching method name 'None'.")),
    ("Over", 1, "X", ("LambdaValidationException", "The method 'Over' in type 'App.Function' appears to have a number of overloads. To call this method please specify a complete method signature. Possible candidates are:\nSystem.String Over(System.String)\nSystem.String Over(Int32).")),
    ("Three", 1, "X", ("LambdaValidationException", "Method 'Three' of type 'App.Function' is not supported: the method has more than 2 parameters.")),
    ("Second", 1, "X", ("LambdaValidationException", "Method 'Second' of type 'App.Function' is not supported: the method has 2 parameters, but the second parameter is not of type 'Amazon.Lambda.Core.ILambdaContext'.")),
    ("Many", 1, "X", ("LambdaValidationException", "The method 'System.String Many(System.String[])' cannot be used as a Lambda Handler because it is a 'params' method. Please specify a method that does not use 'params'.")),
    ("Generic", 1, "X", ("LambdaValidationException", "The method 'T Generic[T](T)' cannot be used as a Lambda Handler because it is a generic method. Handler methods cannot be generic. Please specify a non-generic handler method.")),
    ("AsyncVoid", 1, "X", ("LambdaValidationException", "The method 'Void AsyncVoid()' cannot be used as a Lambda Handler because it is an 'async void' method. Handler methods cannot be 'async void'. Please specify a method that is not 'async void'.")),
    ("App::App.Derived::Inherited", 1, "A", '"inherited"'),
    ("App::App.Struct::Method", 1, "A", '"struct"'),
    ("App::App.Abstract::Static", 1, "A", '"static"'),
    ("App::App.Abstract::Method", 1, "X", ("LambdaValidationException", "The instance method 'System.String Method()' cannot be used as a Lambda Handler because its type 'App.Abstract' is abstract. Please either use a static handler or specify a type that is not abstract.")),
    ("App::App.Generic`1::Method", 1, "X", ("LambdaValidationException", "The type 'App.Generic`1' cannot be used as a Lambda Handler type because it is generic. Handler methods cannot be located in generic types. Please specify a handler method in a non-generic type.")),
    ("App::App.Broken::Method", 1, "X", ("InvalidOperationException", "constructor")),
    ("App::App.Nowhere::Method", 1, "X", ("LambdaValidationException", "Unable to load type 'App.Nowhere' from assembly 'App'.")),
    ("Nowhere::App.Function::Upper", 1, "X", ("LambdaValidationException", "Could not find the specified handler assembly with the file name 'Nowhere'. The assembly should be located in the root of your uploaded .zip file.")),
    ("Text::App.Function::Upper", 1, "X", ("LambdaValidationException", "Unable to load assembly 'Text'.")),
    ("App::Function", 1, "X", ("LambdaValidationException", "Invalid lambda function handler: 'App::Function'. " + FORMAT)),
    ("App:: ::Function", 1, "X", ("LambdaValidationException", "Invalid lambda function handler: 'App:: ::Function', the type is missing. " + FORMAT)),
    ("::", 1, "X", ("LambdaValidationException", "Invalid lambda function handler: '::'. " + FORMAT)),
    # Context
    ("Context", 1, "A", '"id-1|test|$LATEST|arn:aws:lambda:us-east-1:000000000000:function:test|128|/aws/lambda/test|2026/01/01/[$LATEST]0123|Root=1-5bef4de7|no tenant|True"'),
    ("Context", 1, "A", re.compile(r"\|t-1\|True"), {"meta": {"tenant": "t-1"}}),
    ("Client", "x", "A", '"x|v|5|de|t|null|i|p"', {"meta": {"client": CLIENT, "identity": IDENTITY}}),
    ("NoClient", 1, "A", '"True|True|True"'),
    ("Trace", 1, "A", '"Root=1-5bef4de7"'),
    ("Trace", 1, "A", "null", {"meta": {"trace": ""}}),
    # Log
    ("Print", 1, "A", "", {"logs": [LOG + "info\tone\ntwo", LOG + "info\t5", LOG + "info\t1-2", LOG + "fail\terror", "raw", LOG + "info\tand formatted", "unfinished"]}),
    ("Print", 1, "A", "", {"logs": ["one\ntwo", "5", "1-2", "error", "raw", "and formatted", "unfinished"], "environment": {"AWS_LAMBDA_HANDLER_LOG_FORMAT": "Unformatted"}}),
    ("Logger", 1, "A", "", {"logs": [LOG + "info\tline", LOG + "fail\tlevel", LOG + "warn\twarning", LOG + "info\t2 of  pear|2", LOG + "fail\twith an error\nSystem.Exception: thrown", LOG + "static", "no line end, "]}),
    ("Debug", 1, "A", "", {"logs": [LOG + "warn\tshown"], "environment": {"AWS_LAMBDA_LOG_LEVEL": "WARN"}}),
    ("Logger", 1, "A", "", {"environment": {"AWS_LAMBDA_LOG_FORMAT": "JSON"}, "logs": [
        '{"timestamp":"<time>","level":"Information","requestId":"id-1","traceId":"Root=1-5bef4de7","message":"line"}',
        '{"timestamp":"<time>","level":"Error","requestId":"id-1","traceId":"Root=1-5bef4de7","message":"level"}',
        '{"timestamp":"<time>","level":"Warning","requestId":"id-1","traceId":"Root=1-5bef4de7","message":"warning"}',
        '{"timestamp":"<time>","level":"Information","requestId":"id-1","traceId":"Root=1-5bef4de7","message":"2 of  pear|2","count":2,"item":"pear","0":2}',
        '{"timestamp":"<time>","level":"Error","requestId":"id-1","traceId":"Root=1-5bef4de7","message":"with an error","errorType":"System.Exception","errorMessage":"thrown","stackTrace":["System.Exception: thrown"]}',
        '{"timestamp":"<time>","level":"Information","requestId":"id-1","traceId":"Root=1-5bef4de7","message":"static"}',
        "no line end, "]}),
    ("App::App.Printing::Method", 1, "A", "", {"logs": ["<time>\t\tinfo\tconstructed", LOG + "info\tcalled"]}),
]


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The bootstrap's folder and the functions' folder."""
    bootstrap, task = tmp_path_factory.mktemp("bootstrap"), tmp_path_factory.mktemp("task")
    rigs.compile_dotnet(str(bootstrap))
    rigs.mcs("-out:%s/Amazon.Lambda.Core.dll" % task, FIXTURES + "/Core.cs")
    rigs.mcs("-out:%s/App.dll" % task, "-r:%s/Amazon.Lambda.Core.dll" % task, FIXTURES + "/App.cs")
    (task / "Text.dll").write_text("no assembly")
    return str(bootstrap), str(task)


@pytest.fixture(params=list(DOTNETS))
def start(request, built):
    """Starts a method of App.Function, or a handler by its whole name; it is ended after the test."""
    instances = []

    def start(method, environment=None):
        bootstrap, task = built
        handler = method if "::" in method else "App::App.Function::" + method
        instance = Instance(DOTNETS[request.param](bootstrap), task, handler, environment)
        instances.append(instance)
        return instance

    yield start
    for instance in instances:
        instance.__exit__()


@pytest.mark.parametrize("case", CASES, ids=lambda case: "%s(%.30s)" % case[:2])
def test_an_event(start, case):
    (method, event, expected_kind, expected), options = case[:4], (case[4] if len(case) > 4 else {})
    instance = start(method, options.get("environment"))
    kind, _, body = instance.receive_until("RX")
    if kind == "R":
        instance.send(event, **options.get("meta", {}))
        kind, _, body = instance.receive_until("AE")
    text = body.decode()
    assert kind == expected_kind, text
    if isinstance(expected, tuple):
        error = json.loads(text)
        assert (error["errorType"], (error["errorMessage"] or "")[: len(expected[1] or "")]) == (expected[0], expected[1] or "")
    elif isinstance(expected, re.Pattern):
        assert expected.search(text), text
    else:
        assert text == expected
    if "logs" in options:
        logs = [re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "<time>", line) for line in instance.logs()]
        assert logs == options["logs"]
    if kind == "X":
        assert instance.wait()[0] == 1


def test_several_events_are_answered_one_after_the_other(start):
    instance = start("Move")
    instance.receive_until("R")
    for n in range(20):
        assert instance.invoke({"x": n})[1]["X"] == n + 1


def test_an_error_tells_its_cause_and_where_it_was_thrown(start):
    instance = start("Throw")
    instance.receive_until("R")
    _, error = instance.invoke("x")
    assert error["cause"] == {"errorType": "InvalidOperationException", "errorMessage": "inside"}
    assert len(error["stackTrace"]) == 1 and error["stackTrace"][0].startswith("at App.Function.Throw")
    [line] = instance.logs()
    assert re.match(r"....-..-..T..:..:..\....Z\tid-1\tfail\tSystem.ArgumentException: bad x\n? ---> ", line)


def test_an_error_of_several_tells_them_all(start):
    instance = start("Aggregate")
    instance.receive_until("R")
    _, error = instance.invoke(1)
    assert error["errorType"] == "AggregateException"
    assert error["cause"]["errorType"] == "NotSupportedException"
    assert [cause["errorMessage"] for cause in error["causes"]] == ["in a task"]
    assert any("App.Function" in line for line in error["cause"]["stackTrace"])


def test_threads_may_print_at_once(start):
    instance = start("Threads")
    instance.receive_until("R")
    instance.send(1)
    instance.receive_until("A")
    logs = [line.split("\t")[3] for line in instance.logs()]
    for name in "0123":
        own = [line for line in logs if line.startswith(name)]
        assert own == ["%s %d %s" % (name, n, "x" * (n * 7 % 3000)) for n in range(200)]


def test_an_exit_ends_the_process(start):
    instance = start("Exit")
    instance.receive_until("R")
    instance.send(7)
    with pytest.raises(Ended):
        instance.receive_until("AE")
    assert instance.wait()[0] == 7


def test_the_end_of_the_transport_ends_the_process(start):
    instance = start("Upper")
    instance.receive_until("R")
    assert instance.invoke("a") == ("A", "A")
    assert instance.finish() == (0, "", "")


def test_sigterm_ends_the_process(start):
    instance = start("Upper")
    instance.receive_until("R")
    instance.process.send_signal(signal.SIGTERM)
    assert instance.wait()[0] in (-signal.SIGTERM, 128 + signal.SIGTERM)


@pytest.mark.parametrize("size", [65536 - 100, 65536, 6 * 1024 * 1024])
def test_events_and_answers_of_any_size_arrive_whole(start, size):
    instance = start("Upper")
    instance.receive_until("R")
    instance.read_slowly()
    assert instance.invoke("x" * size) == ("A", "X" * size)
    assert instance.invoke("small") == ("A", "SMALL")


def test_an_event_may_come_in_pieces(start):
    instance = start("Static")
    instance.receive_until("R")
    meta, body = b"id\n99\narn\ntrace\n\n", '"pieces ä"'.encode()
    frame = struct.pack("<BxxxII", ord("I"), len(meta), len(body)) + meta + body
    for at in range(len(frame)):
        instance.write(frame[at : at + 1])
    assert instance.receive_until("AE")[2].decode() == '"static pieces ä"'
