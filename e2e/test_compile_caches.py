"""Compile caches of Node.js functions: made after the first start, read by the next Node.js, gone when one crashes."""

import re
import struct
import zlib

import pytest

from harness import aws, packages
from harness import server as servers
from harness.processes import wait_until

RUNTIME = "nodejs24.x"
MADE, IN_VAIN = "a compile cache was made", "no compile cache"
#: Has Node.js say what it does with the cache of each module.
TOLD = {"NODE_DEBUG_NATIVE": "COMPILE_CACHE"}

#: It takes its time to load, as if it were large.
SLOW = "const end = Date.now() + 30; while (Date.now() < end);\n"
SCRIPT = (
    "console.log('training:', process.env.BROOKLET_TRAINING)\nconst part = require('./part.js')\n"
    + SLOW
    + """
const told = Object.keys(process.env).filter((name) => /BROOKLET|ARCHIVE/.test(name))
exports.handler = async ({ write }) => {
  if (!write) return { sum: part.sum(1, 2), told, arguments: process.execArgv.length }
  try { require('fs').writeFileSync(write, 'x') } catch (error) { return error.code }
}
"""
)
PART = "exports.sum = (a, b) => a + b\n" + "".join(f"exports.f{n} = () => {n}\n" for n in range(500))
MODULE = "import part from './part.js'\n" + SLOW + "export const handler = async () => ({ sum: part.sum(1, 2) })\n"
FILES = {"app.js": SCRIPT, "part.js": PART}


@pytest.fixture
def server(fresh):
    node = packages.rig("newer_node") / "node_modules/node/bin/node"
    return lambda **options: fresh(env={"BROOKLET_NODE": str(node)}, **options)


def deploy(server, files=None, handler="app.handler", **variables):
    deployer = server.__dict__.setdefault("deployer", aws.Deployer(aws.client(server), "caches"))
    function = deployer(files or FILES, RUNTIME, handler, MemorySize=512, Environment={"Variables": variables})
    function.log = lambda: servers.run("logs", function.name, env={"BROOKLET_SERVER": server.url}).stdout
    return function


def caches(server):
    return sorted(server.data_dir.glob("code/*.v8/*/*/*"))


def until(server, words, times=1):
    wait_until(lambda: server.log().count(words) >= times, f"{words!r} in the server's log", 120)


def restart_instances(function):
    function.update(Description=function.client.get_function(FunctionName=function.name)["Configuration"]["RevisionId"])


def trained(server, **variables):
    """A function, after its first start, whose cache has been made."""
    function = deploy(server, **variables)
    assert function({})["sum"] == 3
    until(server, MADE)
    return function


@pytest.mark.parametrize("main", ["app.js", "app.mjs"])
def test_the_first_start_makes_a_cache_and_the_next_ones_read_it(server, main):
    server = server()
    function = deploy(server, {main: SCRIPT if main == "app.js" else MODULE, "part.js": PART}, **TOLD)
    first = function({})
    assert first["sum"] == 3 and "[compile cache]" not in function.log(), "there is none yet"
    until(server, MADE)
    assert len(caches(server)) >= 2
    for times in (1, 2):  # both starts are of runtimes that waited, but for a slow machine's
        restart_instances(function)
        assert function({}) == first, "it sees nothing of it"
        for file in (main, "part.js"):
            told = f"/var/task/{file} was accepted"
            wait_until(lambda: function.log().count(told) >= times, f"V8 took the code of {file}")  # noqa: B023
    assert "training: undefined" in function.log() or main != "app.js"
    assert "training: compile-cache" not in function.log(), "a run without an event is not in the function's log"
    assert not (server.data_dir / "run/training").exists()


def test_an_instance_cannot_write_to_it(server):
    server = server()
    function = trained(server)
    before = {path: path.read_bytes() for path in caches(server)}
    restart_instances(function)
    folder = next(iter(before)).parent.name
    for path in ("/var/sdk/v8/mine", f"/var/sdk/v8/{folder}/00000000", f"/var/sdk/v8/{folder}/{next(iter(before)).name}"):
        assert function({"write": path}) in ("EROFS", "EACCES"), path
    assert {path: path.read_bytes() for path in caches(server)} == before


def test_what_was_damaged_is_compiled_anew(server):
    server = server()
    function = trained(server)
    for path in caches(server):
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    restart_instances(function)
    assert function({})["sum"] == 3


def test_a_cache_with_which_node_crashes_is_removed_and_the_request_answered(server):
    server = server()
    function = trained(server)
    for path in caches(server):
        path.write_bytes(malicious(path.read_bytes()))
    restart_instances(function)
    assert function({})["sum"] == 3
    until(server, "a runtime crashed with a compile cache")
    assert caches(server) == []
    restart_instances(function)
    assert function({})["sum"] == 3
    assert server.log().count(MADE) == 1, "it is not made again"


def malicious(file):
    """Node.js's checksum fits, and V8's own head; what follows is no code."""
    head, data = list(struct.unpack("<5I", file[:20])), bytearray(file[20:])
    data[40:] = b"\xa5" * len(data[40:])
    head[4] = zlib.crc32(data)
    return struct.pack("<5I", *head) + data


def test_small_functions_and_those_that_do_not_want_it_get_none(server):
    server = server()
    small = deploy(server, {"app.js": "exports.handler = async () => 'hi'\n"})
    own = deploy(server, NODE_DISABLE_COMPILE_CACHE="1")
    for function in (small, own, small, own):
        function({})
        restart_instances(function)
    trained(server, MINE="yes")  # asked for after the others
    loaded = [float(ms) for ms in re.findall(r"init ([\d.]+) ms", small.log())]
    if max(loaded) < 10:  # unless the machine is so busy that it took its time
        assert server.log().count(MADE) == 1 and len({path.parents[2] for path in caches(server)}) == 1
    assert f'{MADE} function="{own.name}"' not in server.log()


def test_a_start_that_fails_without_an_event_leaves_none(server):
    server = server()
    failing = "if (process.env.BROOKLET_TRAINING) throw new Error('not now')\n" + SCRIPT
    function = deploy(server, {"app.js": failing, "part.js": PART})
    assert function({})["sum"] == 3
    until(server, IN_VAIN)
    restart_instances(function)
    assert function({})["sum"] == 3
    assert caches(server) == []


def test_the_server_can_be_told_to_make_none(server):
    server = server(config="training-runs = false\n")
    function = deploy(server)
    for _ in range(2):
        assert function({})["sum"] == 3
        restart_instances(function)
    assert MADE not in server.log() and IN_VAIN not in server.log()
