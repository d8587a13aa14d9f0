"""What happens to starts when no more processes may be made in the control group of the server, or of a zygote."""

import concurrent.futures
import os
import pathlib

import pytest

from harness import aws, holdings, packages, processes
from harness.gate import Gate
from harness.processes import wait_until
from harness.server import started

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user may not change control groups")


def limit_of(pid):
    """The file with the limit of the processes in the group of a process."""
    for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for mount in ("pids",) if controllers == "pids" else ("unified", "") if not controllers else ():
            file = pathlib.Path("/sys/fs/cgroup", mount, path.lstrip("/"), "pids.max")
            if file.exists() and "brooklet-" in path:
                return file
    pytest.skip("no control group limits the number of processes here")


#: As many requests at once: more than there are runtimes that wait.
HELD = 8
#: On a machine that others use too: seconds.
PATIENCE = 60


@pytest.fixture
def forking(fresh):
    """A server, a function, the zygote that it is forked from, and what the server held before it had any."""
    server = fresh(config='idle-timeout = "5s"\n')
    deploy = aws.Deployer(aws.client(server), "forks")
    function = deploy(packages.python_probe(), packages.PYTHON, "probe.handler", Timeout=60)
    function({"do": "instance"})
    wait_until(lambda: not holdings.of(server, started).processes, "at rest", 60)
    before = holdings.of(server, started)
    function({"do": "instance"})
    children = lambda: processes.children(server.process.pid)  # noqa: E731
    zygote = wait_until(lambda: [pid for pid in children() if processes.is_zygote(pid)], "a zygote is up")[0]
    return server, function, zygote, before


def hold(pool, function, gate, count):
    """So many requests that all wait at the gate, if they get there."""
    return [pool.submit(function.invoke, {"do": "hold", "url": gate.url}) for _ in range(count)]


def nothing_is_left(server, before):
    """After the idle timeout all instances, waiting runtimes and zygotes are gone, and all that they held."""
    wait_until(lambda: not holdings.of(server, started).processes, "all have ended", 60)
    # Not connections: this process keeps its own.
    kinds = ("control_groups", "namespaces", "mounts", "files")
    held = lambda holdings: {kind: getattr(holdings, kind) for kind in kinds}  # noqa: E731
    now = lambda: held(holdings.of(server, started))  # noqa: E731
    wait_until(lambda: now() == held(before), lambda: f"{now()} is {held(before)}", 60)


def all_are_answered(function):
    """As many requests at once as `HELD` have an instance each."""
    with Gate() as gate, concurrent.futures.ThreadPoolExecutor(HELD) as pool:
        held = hold(pool, function, gate, HELD)
        try:
            gate.wait_for(HELD, seconds=PATIENCE)
        finally:
            gate.open()
        assert all("FunctionError" not in one.result() for one in held)


def test_where_the_server_may_make_no_process_requests_are_told_so_until_it_may_again(forking):
    server, function, zygote, before = forking
    limit = limit_of(zygote).parent.parent / "pids.max"
    kept, now = limit.read_text(), (limit.parent / "pids.current").read_text()
    limit.write_text(now)
    with Gate() as gate, concurrent.futures.ThreadPoolExecutor(HELD) as pool:
        held = hold(pool, function, gate, HELD)
        failed = lambda: [one.exception() for one in held if one.done() and one.exception()]  # noqa: E731
        wait_until(lambda: len(failed()) + len(server.instances()) >= HELD and failed(), "some are refused", 60)
        gate.open()
        concurrent.futures.wait(held)
        limit.write_text(kept)
        for refusal in failed():
            assert "no processes left for another instance" in str(refusal), refusal
            assert refusal.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    all_are_answered(function)
    nothing_is_left(server, before)


def test_where_a_zygote_may_make_no_process_runtimes_are_booted_instead_and_nobody_waits_for_it(forking):
    server, function, _, before = forking
    kept = {}
    try:
        # There may be another zygote soon: for a function that has told what it imports.
        for turn in range(5):
            for zygote in filter(processes.is_zygote, processes.children(server.process.pid)):
                limit = limit_of(zygote)
                kept.setdefault(limit, limit.read_text())
                limit.write_text("1")  # itself; at this moment there may be one more, which it is making
            all_are_answered(function)
            # Why, in the zygote's own words, and not that it did not answer in time and was ended for that.
            refusals = [line for line in server.log().splitlines() if "a runtime could not be forked; booting another" in line]
            if refusals:
                break
            function.update(Timeout=59 - turn)
        assert refusals and all("Resource temporarily unavailable" in line for line in refusals), refusals
    finally:
        for limit, before_that in kept.items():
            if limit.exists():
                limit.write_text(before_that)
    all_are_answered(function)
    nothing_is_left(server, before)
