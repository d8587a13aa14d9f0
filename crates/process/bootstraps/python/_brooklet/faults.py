"""What a failed event leaves behind: the error as JSON for the caller, and as text in the log."""

import os
import traceback

from . import Fault, frames

_OURS = os.path.dirname(__file__)
_SDK = frozenset(("boto3", "botocore", "s3transfer", "jmespath"))
_WARNING = "LAMBDA_WARNING: Unhandled exception. The most likely cause is an issue in the function code."


def describe(error, request_id):
    """The error as Lambda reports it; the trace starts at the function's own code."""
    if isinstance(error, Fault):
        kind, message, trace = error.kind, error.message, list(error.trace)
    else:
        kind, message, trace = type(error).__name__, _text(error) + advice(error), _trace(error)
    return {"errorMessage": message, "errorType": kind, "requestId": request_id, "stackTrace": trace}


def log(record):
    """Writes the error as one log event. Lambda indents with no-break spaces, which log viewers keep."""
    if os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON":
        from . import codec
        from time import gmtime, strftime

        stamp = {"timestamp": strftime("%Y-%m-%dT%H:%M:%SZ", gmtime()), "level": "ERROR"}
        frames.log(codec.dumps(dict(stamp, **record)).decode())
        return
    kind, message = record["errorType"], record["errorMessage"]
    lines = ["[ERROR]" + (" " + kind if kind else "") + (":" if kind and message else "")]
    if message:
        lines[0] += " " + message
    lines.append("Traceback (most recent call last):")
    for entry in record["stackTrace"]:
        for line in entry.splitlines() or [""]:
            text = line.lstrip(" ")
            lines.append("\u00a0" * (len(line) - len(text)) + text)
    frames.log("\n".join(lines))


def warn():
    """Logs the warning that comes before an error of the init phase."""
    import logging

    logging.warning(_WARNING)


def advice(error):
    """How to get the module that an import missed, if it is part of the AWS SDK; else an empty text."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in _SDK:
        return f" (the AWS SDK is not installed for this runtime: run `{_install()} python`)"
    return ""


def _install():
    """The command by which this server's runtimes are completed, but for the language."""
    try:
        with open(os.path.join(_OURS, "../../install-command"), encoding="utf-8") as command:
            return command.read()
    except OSError:
        return "brooklet runtimes install"


def _text(error):
    try:
        return str(error)
    except Exception:
        return "<the error's text could not be made: its __str__ failed>"


def _trace(error):
    entries = [(e.filename, e.lineno, e.name, e.line) for e in traceback.extract_tb(error.__traceback__)]
    first = next((at for at, entry in enumerate(entries) if not entry[0].startswith(_OURS)), 0)
    return traceback.format_list(entries[first:])
