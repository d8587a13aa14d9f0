"""The Python runtimes: loads the handler once, then answers one event after the other.

Behaves as AWS documents its Python runtimes and as its public runtime client does; what travels where is in
../../README.md. What only some functions need (`faults`, `records`) is imported when they need it.
"""

import os
import sys
from time import monotonic

from . import codec, frames
from .context import LambdaContext, read_environment

# What the interpreter announces before a program inherits the environment.
_INHERITING = frozenset(("subprocess.Popen", "os.system", "os.exec"))

request_id = ""  # of the event being answered; log records carry it
tenant_id = None


class Fault(Exception):
    """A failure with a type of Lambda's own (`Runtime.…`) and, if known, lines for its stack trace."""

    def __init__(self, kind, message, trace=()):
        self.kind = kind
        self.message = message
        self.trace = trace


def main():
    out, err = sys.stdout, sys.stderr = frames.text_stream(1, "<stdout>"), frames.text_stream(2, "<stderr>")
    waits, zygote = "BROOKLET_WAIT" in os.environ, None
    if "BROOKLET_ZYGOTE" in os.environ:
        from . import zygote

        zygote.serve()
    frames.open_transport()
    if waits:
        _become(frames.wait_for_variables())
    if zygote:
        zygote.renew()
    read_environment()
    sdk, learns = os.environ.pop("BROOKLET_SDK_PATH", None), os.environ.pop("BROOKLET_LEARN", None)
    _set_path(sdk)
    if "logging" in sys.modules:  # a zygote has imported it
        from .records import install

        install(sys.modules["logging"])
    else:
        sys.meta_path.insert(0, _Logging)
    before, began = set(sys.modules) if learns else None, monotonic()
    if not waits:  # the server measures how long the interpreter took to boot
        frames.send(b"G", b"")
    try:
        handler = _load(os.environ.get("_HANDLER", ""))
    except Exception as error:
        from . import faults

        record = faults.describe(error, "")
        faults.warn()
        faults.log(record)
        _end_lines(out, err)
        frames.send(b"X", codec.dumps(record))
        os._exit(1)
    learns = learns and (before, monotonic() - began, sdk)
    _end_lines(out, err)
    frames.send(b"R", b"")
    _serve(handler, out, err, learns)


def _become(variables):
    """Takes over the variables and the working directory of a function. What the interpreter itself looks at when it
    starts is the same: the server sees to that."""
    environ = os.environ
    locale = environ.get("LC_CTYPE")  # Python's own, not the server's
    if len(environ) > (locale is not None):  # else a zygote has done so
        environ.clear()
        if locale is not None:
            environ["LC_CTYPE"] = locale
    environ.update(variables)
    os.chdir(environ["LAMBDA_TASK_ROOT"])


def _serve(handler, out, err, learns):
    global request_id, tenant_id
    receive, send = frames.receive, frames.send
    trace = ""
    set_trace = _trace_setter()
    out_lines, err_lines = out.buffer, err.buffer
    while True:
        event = receive()
        if event is None:
            # As on Lambda, whose sandboxes end by SIGKILL: no exit handlers run, no threads are waited for.
            os._exit(0)
        (request_id, deadline_ms, function_arn, trace_id, client, identity, *more), body = event
        tenant_id = more[0] if more and more[0] else None
        if trace_id != trace:
            trace = trace_id
            set_trace(trace_id)
        try:
            context = LambdaContext(
                request_id,
                deadline_ms,
                function_arn,
                _context_json(client, "Client Context") if client else None,
                _context_json(identity, "Cognito Identity") if identity else None,
                tenant_id,
            )
            answer = handler(_decode(body), context)
            kind, data = b"A", answer if isinstance(answer, bytes) else _encode(answer)
        except Exception as error:
            from . import faults

            record = faults.describe(error, request_id)
            faults.log(record)
            kind, data = b"E", codec.dumps(record)
        # Freed now, not while the next event waits: a destructor's work and output belong to this event.
        event = body = context = answer = None
        out.flush()
        err.flush()
        if out_lines.rest or err_lines.rest:
            _end_lines(out, err)
        if learns:
            from . import imports

            imports.tell(*learns)
            learns = None
        send(kind, data)


def _trace_setter():
    """A function that sets the trace id of the environment, or removes it.

    The C library keeps every value that a variable ever had (100 bytes an event, and a search among them). So only
    `os.environ` is told of each; the process's own environment is when a program is about to inherit it.
    """
    name = "_X_AMZN_TRACE_ID"
    environ = os.environ
    values = environ._data
    key, encode = environ.encodekey(name), environ.encodevalue
    environ.pop(name, None)

    def set_trace(value):
        if value:
            values[key] = encode(value)
        else:
            values.pop(key, None)

    def inherit(event, _):
        if event in _INHERITING:
            value = environ.get(name)
            if value is None:
                os.unsetenv(name)
            else:
                os.putenv(name, value)

    sys.addaudithook(inherit)
    return set_trace


def _decode(body):
    try:
        return codec.loads(body)
    except Exception as error:
        raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % error) from None


def _encode(answer):
    try:
        return codec.dumps(answer)
    except Exception as error:
        raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % error) from None


def _context_json(text, name):
    try:
        return codec.loads(text.encode())
    except Exception as error:
        message = "Unable to parse %s JSON: %s" % (name, error)
        raise Fault("Runtime.LambdaContextUnmarshalError", message) from None


def _load(name):
    """The function that `name` ("folder/module.function" or "package.module.function") stands for."""
    try:
        module, function = name.rsplit(".", 1)
    except ValueError as error:
        raise Fault("Runtime.MalformedHandlerName", "Bad handler '%s': %s" % (name, error)) from None
    if module.split(".")[0] in sys.builtin_module_names:
        message = "Cannot use built-in module %s as a handler module" % module
        raise Fault("Runtime.BuiltInModuleConflict", message)
    path = module.replace("/", ".")
    try:
        __import__(path)  # not `importlib`, which is itself an import and stays in stack traces
        loaded = sys.modules[path]
    except ImportError as error:
        from .faults import advice

        message = "Unable to import module '%s': %s%s" % (module, error, advice(error))
        raise Fault("Runtime.ImportModuleError", message) from None
    except SyntaxError as error:
        trace = ['  File "%s" Line %s\n    %s' % (error.filename, error.lineno, error.text)]
        message = "Syntax error in module '%s': %s" % (module, error)
        raise Fault("Runtime.UserCodeSyntaxError", message, trace) from None
    try:
        return getattr(loaded, function)
    except AttributeError:
        message = "Handler '%s' missing on module '%s'" % (function, module)
        raise Fault("Runtime.HandlerNotFound", message) from None


def _set_path(sdk):
    """Orders `sys.path` as Lambda does: the function, its layers, the standard library; then the SDK, before the
    site-packages of an interpreter that is not ours, so that the versions installed for functions win."""
    version = "python%d.%d" % sys.version_info[:2]
    sys.path[0:1] = [
        os.environ.get("LAMBDA_TASK_ROOT") or os.getcwd(),
        "/opt/python/lib/%s/site-packages" % version,
        "/opt/python",
    ]
    if sdk:
        site = [at for at, path in enumerate(sys.path) if at > 2 and path.endswith("-packages")]
        at = site[0] if site else len(sys.path)
        sys.path[at:at] = sdk.split(os.pathsep)


def _end_lines(out, err):
    for stream in (out, err):
        stream.flush()
        stream.buffer.end_line()


class _Logging:
    """Finds `logging` when the function imports it and gives its root logger Lambda's handler: functions that never
    log do not pay for the import."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "logging":
            return None
        sys.meta_path.remove(cls)
        from importlib.machinery import PathFinder

        # Lambda has imported its own `logging` by now: a file of that name beside the function is not seen.
        spec = PathFinder.find_spec(name, [os.path.dirname(os.__file__)])
        load = spec.loader.exec_module

        def exec_module(module):
            del spec.loader.exec_module
            load(module)
            from .records import install

            install(module)

        spec.loader.exec_module = exec_module
        return spec
