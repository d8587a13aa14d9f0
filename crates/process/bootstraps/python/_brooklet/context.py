"""The `context` argument of a handler, as AWS documents it:
https://docs.aws.amazon.com/lambda/latest/dg/python-context.html"""

import os
from time import time

from . import frames

_W3C = ("traceparent", "tracestate", "baggage")


class _Fields:
    """An object whose attributes are the class's `__slots__`, None where the JSON has none."""

    __slots__ = ()

    def __init__(self, values):
        for name in self.__slots__:
            setattr(self, name, values.get(name))

    def __repr__(self):
        return _repr(self, self.__slots__)


class CognitoIdentity(_Fields):
    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")


class Client(_Fields):
    __slots__ = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")


class ClientContext(_Fields):
    __slots__ = ("custom", "env", "client")


class LambdaContext:
    def __init__(self, request_id, deadline_ms, function_arn, client, identity, tenant_id):
        self.__dict__ = _environment.copy()
        self.aws_request_id = request_id
        self.invoked_function_arn = function_arn
        self.tenant_id = tenant_id
        self._deadline_ms = int(deadline_ms)
        self._w3c = {}
        self.client_context = None if client is None else self._client(client)
        identity = identity or {}
        self.identity = CognitoIdentity(
            {
                "cognito_identity_id": identity.get("cognitoIdentityId"),
                "cognito_identity_pool_id": identity.get("cognitoIdentityPoolId"),
            }
            if identity
            else _NOBODY
        )

    def get_remaining_time_in_millis(self):
        """Milliseconds (int, ≥ 0) until the function is stopped."""
        left = self._deadline_ms - int(time() * 1000)
        return left if left > 0 else 0

    def log(self, message):
        """Writes one log event, which may hold several lines."""
        frames.log(str(message))

    def w3c(self):
        """The caller's W3C trace context: those of traceparent, tracestate and baggage that it sent."""
        return dict(self._w3c)

    def _client(self, client):
        fields = client.pop("w3c", None)
        if isinstance(fields, dict):
            self._w3c = {name: fields[name] for name in _W3C if isinstance(fields.get(name), str)}
        context = ClientContext(client)
        if context.client is not None:
            context.client = Client(context.client)
        return context

    def __repr__(self):
        return _repr(self, _SHOWN)


_NOBODY = {}
_SHOWN = (
    "aws_request_id",
    "log_group_name",
    "log_stream_name",
    "function_name",
    "memory_limit_in_mb",
    "function_version",
    "invoked_function_arn",
    "client_context",
    "identity",
    "tenant_id",
)
_environment = {}


def read_environment():
    """What is the same in every context of this process; once, when the process knows its function."""
    environ = os.environ.get
    _environment.update(
        log_group_name=environ("AWS_LAMBDA_LOG_GROUP_NAME"),
        log_stream_name=environ("AWS_LAMBDA_LOG_STREAM_NAME"),
        function_name=environ("AWS_LAMBDA_FUNCTION_NAME"),
        memory_limit_in_mb=environ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
        function_version=environ("AWS_LAMBDA_FUNCTION_VERSION"),
    )


def _repr(value, names):
    fields = ",".join("%s=%s" % (name, getattr(value, name)) for name in names)
    return "%s([%s])" % (type(value).__name__, fields)
