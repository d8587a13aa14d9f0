"""The probe: one handler that does what its event asks for.

Every language has the same probe, so that one table of tests holds for all of them:
{"do": "echo", "value": any}   -> value
{"do": "context"}              -> what the runtime's context object says
{"do": "env", "names": [...]}  -> {name: value or null}
{"do": "fail", "message": str} -> raises (ValueError, Error, ...)
{"do": "make", "bytes": n}     -> a string of n characters
{"do": "measure", "value": s}  -> {"length": n}
{"do": "sleep", "ms": n}       -> {"slept": n, "id": str}
{"do": "hold", "url": str}     -> {"id": str, "gate": what is at the URL}, when it is there
{"do": "exit", "code": n}      -> the process ends
{"do": "log", "lines": [...]}  -> written to standard output, null
{"do": "instance"}             -> {"id": str, "count": how often this instance was called}

The environment variable PROBE_INIT makes initialisation misbehave: `fail`, `exit`, `hang` or `eat` (memory).
"""

import os
import sys
import time
import uuid

INSTANCE = str(uuid.uuid4())
count = 0

if os.environ.get("PROBE_INIT") == "fail":
    raise ValueError("the probe was told to fail")
if os.environ.get("PROBE_INIT") == "exit":
    os._exit(7)
if os.environ.get("PROBE_INIT") == "hang":
    time.sleep(600)
if os.environ.get("PROBE_INIT") == "eat":
    b"x" * (1 << 30)


def handler(event, context):
    global count
    count += 1
    return globals()["do_" + event["do"]](event, context)


def do_echo(event, context):
    return event.get("value")


def do_context(event, context):
    client = context.client_context
    return {
        "request_id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "function": context.function_name,
        "version": context.function_version,
        "memory": int(context.memory_limit_in_mb),
        "log_group": context.log_group_name,
        "log_stream": context.log_stream_name,
        "remaining_ms": context.get_remaining_time_in_millis(),
        "custom": client.custom if client else None,
    }


def do_env(event, context):
    return {name: os.environ.get(name) for name in event["names"]}


def do_fail(event, context):
    raise ValueError(event["message"])


def do_make(event, context):
    return "x" * event["bytes"]


def do_measure(event, context):
    return {"length": len(event["value"])}


def do_sleep(event, context):
    time.sleep(event["ms"] / 1000)
    return {"slept": event["ms"], "id": INSTANCE}


def do_exit(event, context):
    sys.stdout.flush()
    os._exit(event["code"])


def do_log(event, context):
    for line in event["lines"]:
        print(line)


def do_instance(event, context):
    return {"id": INSTANCE, "count": count}


def do_hold(event, context):
    """Stays busy until the test's gate at `url` answers."""
    import urllib.request

    with urllib.request.urlopen(event["url"], timeout=60) as answer:
        return {"id": INSTANCE, "gate": answer.read().decode()}


def do_machine(event, context):
    """What a function sees of the machine it runs on."""
    import getpass

    def writable(path):
        try:
            with open(path, "w"):
                pass
            os.unlink(path)
            return True
        except OSError as error:
            return type(error).__name__

    mask = os.umask(0)
    os.umask(mask)
    try:
        user = getpass.getuser()
    except (KeyError, OSError) as error:
        user = type(error).__name__
    return {
        "cwd": os.getcwd(),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "user": user,
        "umask": mask,
        "task": sorted(os.listdir("/var/task")),
        "task_writable": writable("/var/task/new"),
        "tmp_writable": writable("/tmp/new"),
        "tmp": sorted(os.listdir("/tmp")),
        "opt": sorted(os.listdir("/opt")) if os.path.isdir("/opt") else None,
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "environment": dict(os.environ),
        "stdin": os.read(0, 1).decode(),
    }


def do_touch(event, context):
    """Writes a file into /tmp and tells what was there before."""
    before = sorted(os.listdir("/tmp"))
    with open(os.path.join("/tmp", event["name"]), "w") as file:
        file.write(INSTANCE)
    return {"id": INSTANCE, "before": before}


def do_eat(event, context):
    """Takes memory and touches every page of it."""
    block = bytearray(event["mib"] << 20)
    block[::4096] = b"x" * len(block[::4096])
    return {"mib": len(block) >> 20}


def do_children(event, context):
    """Starts a process that would outlive its parent, and tells its id."""
    import subprocess

    child = subprocess.Popen(["sleep", "600"], start_new_session=event.get("session", False))
    return {"pid": child.pid}
