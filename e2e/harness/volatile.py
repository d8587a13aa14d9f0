"""Functions that end when they should not, in three languages, and what their callers are told."""

import asyncio
import json
import subprocess

from . import packages

#: Runtime, handler and file in the package.
LANGUAGES = {
    "bash": ("provided.al2023", "bootstrap", "bootstrap"),
    "python": (packages.PYTHON, "volatile.handler", "volatile.py"),
    "node": (None, "volatile.handler", "volatile.mjs"),
}

#: What a caller may be told besides the answer, as (status, kind): documented, and nothing else.
ENDED = (200, "Runtime.ExitError")
NOT_MADE = (500, "ServiceException")
THROTTLED = (429, "ConcurrentInvocationLimitExceeded")


def deploy(deployer, language, init_fails=0.0, **more):
    """A function of which this share of starts ends while it initialises."""
    runtime, handler, file = LANGUAGES[language]
    more["Environment"] = {"Variables": {"VOLATILE_INIT": f"{init_fails:.2f}"}}
    package = packages.zip_of({file: packages.source(f"volatile/{file}")})
    return deployer(package, runtime or node_runtime(), handler, **more)


def node_runtime():
    """The managed runtime that this machine's Node stands for."""
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return f"nodejs{version.lstrip('v').partition('.')[0]}.x"


async def call(server, function, event, seconds=100):
    """One invocation; (request id, status, what it is about): the function's answer, or the kind of error."""
    path = f"/2015-03-31/functions/{function}/invocations"
    headers, code, document = await request(server, "POST", path, event, seconds)
    about = document
    if code != 200 or "x-amz-function-error" in headers:
        about = document.get("errorType") or document.get("Reason") or headers.get("x-amzn-errortype")
    return headers["x-amzn-requestid"], code, about


async def request(server, method, path, document, seconds=100):
    """One request on a connection of its own, which the server closes; (headers, status, document). Fails unless exactly
    one answer came."""
    reader, writer = await asyncio.open_connection(*server.address)
    body = json.dumps(document).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    try:
        writer.write(head.encode() + body)
        whole = await asyncio.wait_for(reader.read(), seconds)
    finally:
        writer.close()
    head, _, body = whole.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert int(headers["content-length"]) == len(body), f"not one whole answer: {whole!r}"
    return headers, int(status.split(" ")[1]), json.loads(body)
