"""JSON as Lambda's Python runtimes read and write it.

Lambda uses simplejson, whose output differs from the standard library's: named tuples are objects, bytes are text,
decimals are numbers. Plain values take the standard library's C encoder; a value that needs one of these rules
takes `_exact`. The C functions are called directly: importing `json` costs a cold start as much as the interpreter.
"""

import sys
from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

# Lambda escapes non-ASCII characters up to python3.11.
_ASCII = sys.version_info < (3, 12)
_PLAIN = frozenset((str, int, float, bool, type(None)))


class _Special(Exception):
    """A value that the C encoder does not write as Lambda does."""


def _special(value):
    raise _Special


class _Rules:
    """What `make_scanner` asks its decoder for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.__getitem__


_quote = encode_basestring_ascii if _ASCII else encode_basestring
_scan = make_scanner(_Rules)
_open = {}  # containers being encoded, to notice cycles
_encode = make_encoder(_open, _special, _quote, None, ": ", ", ", False, False, True)


def loads(data):
    """The value of a JSON text in UTF-8. Raises ValueError."""
    text = str(data, "utf-8")
    try:
        value, end = _scan(text, 0)
        if end == len(text):
            return value
    except StopIteration:
        pass
    import json  # white space around the value, or a mistake that it words

    return json.loads(text)


def dumps(value):
    """The JSON text of a value, as bytes. Raises TypeError, ValueError or RecursionError."""
    kind = type(value)
    if kind is str:
        return _quote(value).encode()
    try:
        text = "".join(_encode(value, 0))
        if kind in _PLAIN or not _has_record(value):
            return text.encode()
    except (_Special, TypeError):
        pass
    finally:
        if _open:
            _open.clear()
    return "".join(_exact(value, set())).encode()


def _has_record(value):
    """Whether a value that the C encoder took holds a named tuple, which it writes as an array."""
    values = [value]
    for value in values:  # grows while it is walked
        kind = type(value)
        if kind is dict:
            members = value.values()
        elif kind is list or kind is tuple:
            members = value
        elif hasattr(kind, "_asdict"):
            return True
        elif isinstance(value, dict):
            members = value.values()
        elif isinstance(value, (list, tuple)):
            members = value
        else:
            continue
        for member in members:
            if type(member) not in _PLAIN:
                values.append(member)
    return False


def _exact(value, open_ids):
    """Yields the JSON text of any value in pieces; `open_ids` names the containers around it."""
    if isinstance(value, (str, bytes)):
        yield _string(value)
    elif value is None or isinstance(value, (int, float)):
        yield _scalar(value)
    elif id(value) in open_ids:
        raise ValueError("Circular reference detected")
    else:
        open_ids.add(id(value))
        record = _record(value)
        if record is not None:
            value = record
        if isinstance(value, dict):
            yield from _object(value, open_ids)
        elif isinstance(value, (list, tuple)):
            yield from _array(value, open_ids)
        else:
            yield _number(value)
        open_ids.discard(id(value))


def _object(value, open_ids):
    separator = "{"
    for key, member in value.items():
        if not isinstance(key, (str, bytes)):
            if key is not None and not isinstance(key, (int, float)):
                raise TypeError("keys must be str, int, float, bool or None, not " + type(key).__name__)
            key = _scalar(key)
        yield separator + _string(key) + ": "
        yield from _exact(member, open_ids)
        separator = ", "
    yield "{}" if separator == "{" else "}"


def _array(value, open_ids):
    separator = "["
    for member in value:
        yield separator
        yield from _exact(member, open_ids)
        separator = ", "
    yield "[]" if separator == "[" else "]"


def _string(value):
    return _quote(value if isinstance(value, str) else str(value, "utf-8"))


def _scalar(value):
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if value != value:
        return "NaN"
    text = float.__repr__(value)
    return {"inf": "Infinity", "-inf": "-Infinity"}.get(text, text)


def _record(value):
    method = getattr(value, "_asdict", None)
    if not callable(method):
        return None
    try:
        record = method()
    except TypeError:
        return None
    if not isinstance(record, dict):
        raise TypeError("_asdict() must return a dict, not " + type(record).__name__)
    return record


def _number(value):
    decimal = sys.modules.get("decimal")
    if decimal and isinstance(value, decimal.Decimal):
        return "NaN" if value.is_nan() else str(value)
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)
