"""Between its invocations an instance stands still, as on Lambda, and goes on with the next one.

How long something lasts is told by a function that is called all the time, and so never stands still. Everything is tried
as root, where control groups freeze, and as an ordinary user, where a signal does.
"""

import functools
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from harness import aws, packages, processes
from harness import server as servers
from harness.processes import wait_until

#: An instance is frozen when it has had nothing to do for this long, ms.
FREEZE_AFTER = 200

#: All count in the background, every 10 ms or so, and answer with the number.
PYTHON = """
import threading, time
counted = 0
def count():
    global counted
    while True:
        counted += 1
        time.sleep(0.01)
threading.Thread(target=count, daemon=True).start()
def handler(event, context):
    return counted
"""

NODE = """
let counted = 0;
setInterval(() => counted++, 10);
exports.handler = async () => counted;
"""

SHELL = """#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
: > /tmp/count
(while true; do echo >> /tmp/count; sleep 0.01; done) &
while true; do
  curl -sS -o /dev/null -D /tmp/head "$api/invocation/next"
  id=$(grep -i '^lambda-runtime-aws-request-id' /tmp/head | tr -d '\\r' | cut -d' ' -f2)
  curl -sS -d "$(wc -l < /tmp/count)" "$api/invocation/$id/response" > /dev/null
done
"""


@functools.cache
def node_runtime():
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return f"nodejs{said.strip().lstrip('v').partition('.')[0]}.x"


COUNTERS = {
    "python": lambda deploy: deploy({"app.py": PYTHON}, packages.PYTHON, "app.handler"),
    "node": lambda deploy: deploy({"app.js": NODE}, node_runtime(), "app.handler"),
    "shell": lambda deploy: deploy({"bootstrap": SHELL}),
}


@pytest.fixture(scope="module", params=["root", "user"])
def freezing(request):
    """A server of each kind that freezes soon, and a deployer on it."""
    folder = servers.open_folder()
    user = 65534 if request.param == "user" else None
    with servers.Server(folder, user=user, config=f'freeze-after = "{FREEZE_AFTER}ms"\n') as server:
        server.deployer = aws.Deployer(aws.client(server), "freezing")
        # Called all the time it never freezes, and tells how long something lasts.
        server.clock = COUNTERS["python"](server.deployer)
        yield server
    shutil.rmtree(folder)


def pass_time(server, ms):
    """Waits until the clock's background has run as often as it does in this time."""
    end = server.clock({}) + ms // 10
    wait_until(lambda: server.clock({}) >= end, f"the clock runs for {ms} ms", seconds=60)


@pytest.mark.parametrize("language", COUNTERS)
def test_background_work_stops_while_nothing_is_asked_and_goes_on_with_the_next_event(freezing, language):
    function = COUNTERS[language](freezing.deployer)
    for _ in range(2):
        before = function({})
        pass_time(freezing, 2_000)
        after = function({})
        # As often as until it froze, and as often again for all that is late on a busy machine.
        assert after - before < 3 * FREEZE_AFTER // 10, "it ran for far less than the two seconds"
        wait_until(lambda after=after: function({}) > after + 5, "it goes on", seconds=60)


def test_an_instance_that_is_called_all_the_time_is_the_same_and_never_stands_still(freezing):
    function = COUNTERS["python"](freezing.deployer)
    before, end = function({}), freezing.clock({}) + 100
    wait_until(lambda: min(function({}) - before, freezing.clock({}) - end) >= 0, "both run", seconds=60)
    assert function({}) > before + 50, "its background runs as often as the clock's"


def test_what_was_written_before_arrives_and_what_comes_after_waits_for_the_next_event(freezing):
    code = """
import os, threading, time
def later():
    time.sleep(0.02)
    os.write(1, b"soon after the answer\\n")
    time.sleep(1)
    os.write(1, b"long after the answer\\n")
def handler(event, context):
    if event.get("work"):
        threading.Thread(target=later).start()
"""
    function = freezing.deployer({"app.py": code}, packages.PYTHON, "app.handler")

    def log():
        return servers.run("logs", function.name, env={"BROOKLET_SERVER": freezing.url}).stdout

    function({"work": True})
    wait_until(lambda: "soon after the answer" in log(), "what was written before it froze is there")
    pass_time(freezing, 2_000)
    assert "long after the answer" not in log()
    wait_until(lambda: function({}) is None and "long after the answer" in log(), "it goes on", seconds=60)


def test_the_time_in_between_is_not_billed(freezing):
    function = COUNTERS["python"](freezing.deployer)
    function({})
    pass_time(freezing, 1_000)
    _, log = function.tail({})
    billed = int(log.partition("Billed Duration: ")[2].partition(" ms")[0])
    assert billed < 1_000, log


def test_a_frozen_instance_is_told_to_end_when_its_time_is_up(tmp_path):
    code = """
import os, signal
def end(*_):
    os.write(1, b"told to end\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, end)
def handler(event, context):
    pass
"""
    config = 'freeze-after = "0s"\nidle-timeout = "1s"\n'
    with servers.Server(tmp_path, config=config) as server:
        deployer = aws.Deployer(aws.client(server), "freezing")
        function = deployer({"app.py": code}, packages.PYTHON, "app.handler")
        function({})
        (first,) = server.instances()
        wait_until(lambda: processes.is_frozen(first) or not processes.alive(first), "it is frozen")
        wait_until(lambda: not server.instances(), "its time is up")
        told = servers.run("logs", function.name, env={"BROOKLET_SERVER": server.url}).stdout
        assert "told to end" in told


def test_an_instance_that_died_while_it_was_frozen_costs_nobody_a_request(freezing):
    function = COUNTERS["python"](freezing.deployer)
    before = set(freezing.instances())
    for _ in range(10):
        function({})
        (first,) = set(freezing.instances()) - before
        inside = processes.descendants(first)
        wait_until(lambda inside=inside: all(map(processes.is_frozen, inside)), "it is frozen")
        os.kill(first, signal.SIGKILL)
        wait_until(lambda first=first: not processes.alive(first), "it has ended")
    function({})


@pytest.mark.parametrize("user", [None, 65534], ids=["root", "user"])
def test_nothing_is_left_of_frozen_instances_after_kill_nine(user):
    folder = servers.open_folder()
    server = servers.Server(folder, user=user, config='freeze-after = "0s"\n').start()
    try:
        deployer = aws.Deployer(aws.client(server), "freezing")
        function = deployer(packages.python_probe(), packages.PYTHON, "probe.handler")
        function({"do": "children", "session": True})
        left = set(processes.descendants(server.process.pid))
        (first,) = server.instances()
        own = re.search("/(brooklet-[0-9a-f]+)/", pathlib.Path(f"/proc/{first}/cgroup").read_text())
        inside = processes.descendants(first)
        assert len(inside) >= 2
        wait_until(lambda: all(map(processes.is_frozen, inside)), "it is frozen with all that it started")
    finally:
        server.kill()
    wait_until(lambda: not any(processes.alive(pid) for pid in left), "the kernel has ended them all")
    with server:
        pass
    groups = {pathlib.Path(group).name for group in processes.control_groups()}
    assert own is None or own[1] not in groups, "the next start and stop have cleared away the groups"
    shutil.rmtree(folder)


def test_a_program_of_the_http_contract_is_not_frozen(freezing):
    code = "#!/usr/bin/env python3\n" + PYTHON.replace("def handler(event, context):\n    return counted\n", "") + """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = str(counted).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
    function = freezing.deployer({"app.py": code}, "http", "/var/task/app.py")
    before = function({})
    pass_time(freezing, 1_000)
    assert function({}) > before + 50, "its background ran on"


@pytest.fixture
def swap(tmp_path):
    """A swap file of this test's own, as large as what is to go there, until the test is over."""
    if os.geteuid() != 0:
        pytest.skip("an ordinary user has no swap to give")
    file = tmp_path / "swap"
    with open(file, "wb") as made:
        os.posix_fallocate(made.fileno(), 0, 512 << 20)
    file.chmod(0o600)
    subprocess.run(["/sbin/mkswap", file], check=True, capture_output=True)
    on = subprocess.run(["/sbin/swapon", "--priority", "0", file], capture_output=True, text=True)
    if on.returncode != 0:
        pytest.skip(f"this machine takes no swap file: {on.stderr.strip()}")
    yield
    subprocess.run(["/sbin/swapoff", file], check=True)


#: Starts slowly enough to be worth it, has 100 MiB that cannot be compressed away, and looks at all of them.
LARGE = """
import random
block = random.randbytes(1 << 20) * 100
def handler(event, context):
    return sum(block[place * 4096 + 7] == block[place % 256 * 4096 + 7] for place in range(100 << 8))
"""


def test_an_instance_that_is_idle_for_long_is_paged_out_and_has_all_of_it_when_it_is_called_again(swap, fresh):
    server = fresh(config='freeze-after = "200ms"\npage-out-after = "1s"\n')
    function = aws.Deployer(aws.client(server), "large")({"app.py": LARGE}, packages.PYTHON, "app.handler", MemorySize=256)
    assert function({}) == 100 << 8
    (instance,) = server.instances()
    for _ in range(2):
        wait_until(lambda: sum_of(instance, "VmSwap") >= 90 and sum_of(instance, "VmRSS") < 60, "it is paged out", 60)
        assert function({}) == 100 << 8
        assert sum_of(instance, "VmSwap") < 10, "it has back what it looked at"
    assert server.instances() == [instance]


def sum_of(instance, field):
    """What all processes of an instance have of this, MiB."""
    kib = 0
    for pid in processes.descendants(instance):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        kib += int(re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)[1])
    return kib >> 10
