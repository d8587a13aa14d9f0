"""Checks every answer of the server against the service model that botocore ships.

An SDK forgives much: it drops members it does not know and takes what is missing for None. This does not:
types, enumerations, patterns, lengths, ranges, required members, the modelled status code and, for errors, the
modelled type and members all have to hold, and nothing may be there that the model does not have.
"""

import json
import re

import botocore.session
import dateutil.parser

MODEL = botocore.session.get_session().get_service_model("lambda")

#: What Brooklet adds to Lambda's JSON, in one member of its own.
OWN_MEMBERS = {"Brooklet"}

#: Values that Brooklet adds to an enumeration.
OWN_VALUES = {"Runtime": {"http"}}

#: Errors that every AWS service may answer beside those that the operation models.
COMMON_ERRORS = {
    "AccessDeniedException": 403,
    "InvalidSignatureException": 403,
    "MissingAuthenticationTokenException": 403,
    "RequestEntityTooLargeException": 413,
    "SerializationException": 400,
    "UnrecognizedClientException": 403,
    "ValidationException": 400,
    "UnknownOperationException": 404,
}

#: Members that the model calls plain strings but whose form the documentation states.
FORMS = {
    "LastModified": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000"),
    "LastModifiedTime": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"),
    "CreationTime": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"),
    "RevisionId": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "CodeSha256": re.compile(r"[A-Za-z0-9+/]{43}="),
}


def problems(operation, status, headers, body):
    """What is wrong with an answer: a list of sentences, empty when it is as modelled.

    `headers` has to be case-insensitive; `body` is bytes, or None when it is a stream that is not looked at.
    """
    model = MODEL.operation_model(operation)
    if status >= 300:
        return _error_problems(model, status, headers, body)
    found = []
    if status not in _statuses(model):
        found.append(f"status {status}, modelled is {_statuses(model)}")
    if "x-amzn-requestid" not in headers:
        found.append("no x-amzn-RequestId header")
    output = model.output_shape
    if output is None:
        if body:
            found.append(f"a body where the model has none: {body[:80]!r}")
        return found
    in_body = {}
    for name, member in output.members.items():
        place = member.serialization.get("location")
        if place == "header":
            value = headers.get(member.serialization["name"])
            if value is not None:
                found += _text_problems(member, value, f"header {member.serialization['name']}")
        elif place is None and name != output.serialization.get("payload"):
            in_body[member.serialization.get("name", name)] = member
    if "payload" in output.serialization or body is None:
        return found
    try:
        document = json.loads(body) if body else {}
    except ValueError as error:
        return [*found, f"the body is not JSON: {error}: {body[:80]!r}"]
    if body and headers.get("content-type") != "application/json":
        found.append(f"Content-Type {headers.get('content-type')!r}")
    return found + _structure_problems(in_body, output.required_members, document, operation)


def _statuses(model):
    """Where the status is itself part of the answer (Invoke, DeleteFunction) the model allows several."""
    members = model.output_shape.members.values() if model.output_shape else ()
    if any(member.serialization.get("location") == "statusCode" for member in members):
        return (200, 202, 204)
    return (model.http.get("responseCode", 200),)


def _error_problems(model, status, headers, body):
    found = []
    code = headers.get("x-amzn-errortype", "").partition(":")[0]
    if not code:
        return [f"status {status} without x-amzn-ErrorType"]
    if "x-amzn-requestid" not in headers:
        found.append("an error without x-amzn-RequestId")
    try:
        document = json.loads(body)
    except ValueError:
        return [*found, f"an error's body is not JSON: {body[:80]!r}"]
    if not any(isinstance(document.get(member), str) and document[member] for member in ("Message", "message")):
        found.append(f"{code} without a message: {document}")
    modelled = {shape.name: shape for shape in model.error_shapes}
    if code not in modelled:
        if COMMON_ERRORS.get(code) != status:
            found.append(f"{code} with status {status} is not an error of {model.name}")
        return found
    shape = modelled[code]
    if (expected := shape.metadata.get("error", {}).get("httpStatusCode")) and expected != status:
        found.append(f"{code} with status {status}, modelled is {expected}")
    members = {
        m.serialization.get("name", n): m for n, m in shape.members.items() if not m.serialization.get("location")
    }
    extra = {"Message", "message", "Type"}
    known = {name: value for name, value in document.items() if name in members or name not in extra}
    return found + _structure_problems(members, [], known, code)


def _structure_problems(members, required, document, path):
    if not isinstance(document, dict):
        return [f"{path}: an object expected, got {document!r}"]
    found = [f"{path}.{name}: required, missing" for name in required if name not in document]
    for name, value in document.items():
        if name in members:
            found += _value_problems(members[name], value, f"{path}.{name}", name)
        elif name not in OWN_MEMBERS:
            found.append(f"{path}.{name}: not in the model")
    return found


def _value_problems(shape, value, path, name=""):
    if value is None:
        return []
    check = {
        "structure": _structure,
        "list": _list,
        "map": _map,
        "string": _string,
        "boolean": _boolean,
        "integer": _integer,
        "long": _integer,
        "float": _number,
        "double": _number,
        "timestamp": _timestamp,
    }.get(shape.type_name)
    if check is None:
        return []
    found = check(shape, value, path)
    if name in FORMS and isinstance(value, str) and not FORMS[name].fullmatch(value):
        found.append(f"{path}: {value!r} is not of the documented form")
    return found


def _structure(shape, value, path):
    members = {m.serialization.get("name", n): m for n, m in shape.members.items()}
    return _structure_problems(members, shape.required_members, value, path)


def _list(shape, value, path):
    if not isinstance(value, list):
        return [f"{path}: a list expected, got {value!r}"]
    found = _bounds(shape, len(value), path, "length")
    for n, item in enumerate(value):
        found += _value_problems(shape.member, item, f"{path}[{n}]")
    return found


def _map(shape, value, path):
    if not isinstance(value, dict):
        return [f"{path}: a map expected, got {value!r}"]
    found = []
    for key, item in value.items():
        found += _value_problems(shape.key, key, f"{path} key")
        found += _value_problems(shape.value, item, f"{path}[{key!r}]")
    return found


def _string(shape, value, path):
    if not isinstance(value, str):
        return [f"{path}: a string expected, got {value!r}"]
    found = _bounds(shape, len(value), path, "length")
    if shape.enum and value not in shape.enum and value not in OWN_VALUES.get(shape.name, ()):
        found.append(f"{path}: {value!r} is not one of {shape.enum}")
    pattern = shape.metadata.get("pattern")
    # Empty strings are how Lambda says "none" for descriptions, KMS keys and layers.
    if pattern and value and not _matches(pattern, value):
        found.append(f"{path}: {value!r} does not match {pattern}")
    return found


def _matches(pattern, value):
    try:
        return re.fullmatch(pattern, value) is not None
    except re.error:
        return True


def _boolean(shape, value, path):
    return [] if isinstance(value, bool) else [f"{path}: a boolean expected, got {value!r}"]


def _integer(shape, value, path):
    if isinstance(value, bool) or not isinstance(value, int):
        return [f"{path}: an integer expected, got {value!r}"]
    return _bounds(shape, value, path, "value")


def _number(shape, value, path):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return [f"{path}: a number expected, got {value!r}"]
    return _bounds(shape, value, path, "value")


def _timestamp(shape, value, path):
    if isinstance(value, bool):
        return [f"{path}: a timestamp expected, got {value!r}"]
    if isinstance(value, (int, float)):
        return []
    try:
        dateutil.parser.isoparse(value)
    except (ValueError, TypeError):
        return [f"{path}: a timestamp expected, got {value!r}"]
    return []


def _bounds(shape, size, path, word):
    found = []
    if (low := shape.metadata.get("min")) is not None and size < low and size:
        found.append(f"{path}: {word} {size} is less than {low}")
    if (high := shape.metadata.get("max")) is not None and size > high:
        found.append(f"{path}: {word} {size} is more than {high}")
    return found


def _text_problems(shape, value, path):
    if shape.type_name in ("integer", "long"):
        return [] if re.fullmatch(r"-?\d+", value) else [f"{path}: an integer expected, got {value!r}"]
    if shape.type_name == "boolean":
        return [] if value in ("true", "false") else [f"{path}: a boolean expected, got {value!r}"]
    return _value_problems(shape, value, path)
