"""A process that has booted and imported, and forks: each copy goes on as an instance of its own.

What a copy inherits is memory only. The library `zygote.so` (its source: `init/zygote.rs`) makes the copies: each has
namespaces, user and descriptors of its own before it is back here. No function's code runs in a zygote, and none of its
modules are looked for: only those of the interpreter and of the SDK are.
"""

import os
import sys

from . import frames


def serve():
    """Imports what `BROOKLET_IMPORTS` names, then waits for orders to fork. Returns in every copy."""
    library = os.environ.pop("BROOKLET_ZYGOTE")
    names = os.environ.pop("BROOKLET_IMPORTS", "")
    frames.disconnect()  # descriptor 3 is for orders; what is written now goes to the server's own log
    _import(names.split(",") if names else (), os.environ.pop("BROOKLET_SDK_PATH", ""))
    before = set(sys.modules)
    _rehearse()
    import ctypes
    import gc

    serve = ctypes.PyDLL(library).serve
    fork = ctypes.cast(ctypes.pythonapi.fork, ctypes.c_void_p)
    prepare, proceed = ctypes.pythonapi.PyOS_BeforeFork, ctypes.pythonapi.PyOS_AfterFork_Child
    # Copies know of these modules what a new process knows.
    for name in set(sys.modules) - before:
        del sys.modules[name]
    threads = len(os.listdir("/.host/proc/self/task"))
    if threads != 1:
        raise RuntimeError("a zygote must have one thread and not %d" % threads)
    _expect_function()
    gc.collect()
    _fill_holes()
    gc.freeze()  # what is here already is never looked at again, and so stays shared
    prepare()
    has_time = serve(fork)  # in the zygote itself it does not return
    proceed()
    if has_time:
        # What a start will write to becomes this copy's own while nobody waits for it yet.
        _play()
    frames.connect()


def _import(names, sdk):
    """Imports modules as a function would that has nothing of its own. One that fails is left to the functions."""
    library = os.path.dirname(os.__file__)
    own, sys.path = sys.path, [path for path in sys.path if path.startswith(library) and "-packages" not in path]
    if sdk:
        sys.path += sdk.split(os.pathsep)
    for name in names:
        try:
            __import__(name)
        except BaseException as error:  # a program that ends is no reason to end here
            print("zygote: %s cannot be imported: %r" % (name, error), file=sys.stderr)
    sys.path = own
    sys.path_importer_cache.clear()


def _rehearse():
    """Goes through what every copy will do. The interpreter notes down what it learns about code that runs, beside that
    code: what is noted here is not noted again in each copy, which would then have pages of its own for it."""
    for _ in range(20):
        _play()


def _expect_function():
    """Does what every copy would do first: forgets the variables of this process, and finds what looks into the folder
    of a function, which is not there yet."""
    environ = os.environ
    for name in list(environ):
        if name != "LC_CTYPE":  # Python's own
            del environ[name]
    finder = sys.path_hooks[-1]("/")
    finder.path = _TASK
    sys.path_importer_cache[_TASK] = finder


def _fill_holes():
    """Takes the memory that is left over between what this process has in use, for good: what copies make anew would go
    there, each piece into another page that it shared until then, and lies side by side otherwise. The interpreter has
    pools for each size up to 512 bytes; one that is filled from end to end was a new one, and so will the next be."""
    for size in range(16, 513, 16):
        last, row, taken = 0, 0, 0
        while row < _POOL // size - 1 and taken < 3 * _POOL:
            filler = object() if size == 16 else complex(1, 1) if size == 32 else bytes(size - 33)
            row = row + 1 if id(filler) - last == size else 0
            last = id(filler)
            taken += size
            _fillers.append(filler)


def _play():
    """Starts as a function that is nobody's and answers an event, as far as that leaves nothing behind."""
    from . import _become, _load, _set_path, codec, context

    variables, path, finders = dict(os.environ), list(sys.path), set(sys.path_importer_cache)
    folder = os.path.join(os.path.dirname(os.path.dirname(__file__)), "rehearsal")
    _become([*((name, "1") for name in _VARIABLES), ("LAMBDA_TASK_ROOT", folder)])
    context.read_environment()
    _set_path(None)
    handler = _load("rehearsed.handler")
    context.LambdaContext("1", "1", "arn", None, None, None).get_remaining_time_in_millis()
    codec.dumps(handler(codec.loads(b'{"key": "value", "list": [1, 2.5, true, null], "object": {"a": {"b": "c"}}}'), None))
    codec.dumps("text")
    # A function's module is compiled, this one was.
    exec(compile("import sys\ndef handler(event, context):\n    return event\n", "f.py", "exec"), {})
    del sys.modules["rehearsed"]
    sys.path[:] = path
    # A folder that is not there yet would be taken for one that never is.
    for name in set(sys.path_importer_cache) - finders:
        del sys.path_importer_cache[name]
    os.environ.clear()
    os.environ.update(variables)
    os.chdir("/")


# Where a function's package is in every sandbox.
_TASK = "/var/task"

# Of the interpreter's allocator, without its head.
_POOL = (16 if sys.version_info >= (3, 10) else 4) * 1024 - 48

_fillers = []

_VARIABLES = (
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_EXECUTION_ENV",
    "LAMBDA_RUNTIME_DIR",
    "PATH",
    "_HANDLER",
)


def renew():
    """Makes a copy's own what modules have noted down at their import; when its variables and its folder are known."""
    modules = sys.modules
    if "logging" in modules:
        logging = modules["logging"]
        clock = modules["time"]
        # The point in time that `relativeCreated` counts from.
        logging._startTime = clock.time_ns() if isinstance(logging._startTime, int) else clock.time()
    if "_ssl" in modules:
        # OpenSSL notices a fork by the process id, and in sandboxes all have the same.
        modules["_ssl"].RAND_add(os.urandom(32), 32.0)
    if "multiprocessing.process" in modules:
        process = modules["multiprocessing.process"]
        process.ORIGINAL_DIR = os.getcwd()
        process.current_process().authkey = os.urandom(32)
    if "tempfile" in modules:
        modules["tempfile"].tempdir = None
