"""Lambda's handler on the root logger: each log record becomes one log event, as text or as JSON
(https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html)."""

import json
import logging
import os
import sys
import time
import traceback

from . import frames

_DATE = "%Y-%m-%dT%H:%M:%S"
_TEXT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"
# Attributes of every record; any other came with the call (`extra=`) and is shown.
_KNOWN = frozenset(
    "name msg args levelname levelno pathname filename module exc_info exc_text stack_info lineno funcName created"
    " msecs relativeCreated thread threadName processName process aws_request_id tenant_id".split()
)
_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode


def install(logging):
    as_json = os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    level = "DEBUG" if level == "TRACE" else level
    logging.Formatter.converter = time.gmtime
    handler = LambdaLoggerHandler()
    handler.setFormatter(JsonFormatter() if as_json else logging.Formatter(_TEXT, _DATE))
    handler.addFilter(_Filter())
    root = logging.getLogger()
    if isinstance(getattr(logging, level or "-", None), int):
        root.setLevel(level)
    root.addHandler(handler)


class LambdaLoggerHandler(logging.Handler):
    def emit(self, record):
        # A record that cannot be formatted fails the call that made it, as on Lambda.
        frames.log(self.format(record))


class JsonFormatter(logging.Formatter):
    def __init__(self):
        super().__init__(datefmt=_DATE + "Z")

    def format(self, record):
        record.levelno = min(50, max(0, record.levelno)) // 10 * 10
        record.levelname = logging.getLevelName(record.levelno)
        fields = {
            "timestamp": self.formatTime(record, self.datefmt),
            "level": record.levelname,
            "message": record.msg if isinstance(record.msg, dict) and not record.args else record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            kind, error, trace = record.exc_info
            fields["stackTrace"] = traceback.format_tb(trace)
            fields["errorType"] = kind.__name__ if kind else None
            fields["errorMessage"] = str(error)
        fields["requestId"] = getattr(record, "aws_request_id", None)
        if record.exc_info:
            fields["location"] = "%s:%s:%s" % (record.pathname, record.funcName, record.lineno)
        fields["tenantId"] = getattr(record, "tenant_id", None)
        for name, value in record.__dict__.items():
            if name not in _KNOWN and name not in fields:
                fields[name] = value
        return _encode({name: value for name, value in fields.items() if value is not None})


class _Filter(logging.Filter):
    def filter(self, record):
        runtime = sys.modules[__package__]
        record.aws_request_id = runtime.request_id
        record.tenant_id = runtime.tenant_id
        return True
