"""Thousands of cold starts and violent ends, after which the server holds of the machine what it held before.

BROOKLET_E2E_STARTS sets how many (default 300); the seed is printed, BROOKLET_E2E_SEED runs one again.
"""

import asyncio
import json
import os
import random
import signal
import time

import pytest

from harness import aws, holdings, processes, volatile
from harness.processes import wait_until
from harness.server import started

STARTS = int(os.environ.get("BROOKLET_E2E_STARTS", 300))
SEED = int(os.environ.get("BROOKLET_E2E_SEED", random.SystemRandom().randrange(1 << 32)))

#: How often each language is started. A start of the first two takes milliseconds.
MIX = {"bash": 5, "python": 5, "node": 2}
CALLERS = 4
#: Starts that fill caches, pools of threads and the allocator before anything is counted.
WARM_UP = max(100, STARTS // 10)
#: By how much the server's memory may have grown, in KiB: the allocator keeps what it has, logs have buffers.
MEMORY = 8 << 10
#: An answer, an instance that ended under its request, and nothing else.
EXPECTED = {(200, 1), volatile.ENDED}


@pytest.mark.slow
@pytest.mark.timeout(240 + STARTS // 5)
def test_nothing_is_held_after_many_starts_and_ends_that_was_not_held_before(tmp_path, fresh):
    print(f"seed {SEED} (BROOKLET_E2E_SEED={SEED} runs it again), {STARTS} starts")
    own = fresh(config='idle-timeout = "1s"\nlog-limit = "8MiB"\n')
    deployer = aws.Deployer(aws.client(own), "leaks")
    functions = {language: volatile.deploy(deployer, language, Timeout=120) for language in MIX}
    churn = Churn(own, functions, random.Random(SEED))
    churn.run(WARM_UP)
    before = at_rest(own)
    print(f"before: {before}")
    began, first = time.monotonic(), len(churn.streams())
    churn.run(STARTS)
    took, count = time.monotonic() - began, len(churn.streams()) - first
    # What is at rest has nothing running; threads that wait for work and sockets need some seconds more.
    wait_until(lambda: not at_rest(own).beyond(before, MEMORY), lambda: f"as before: {left(own, before)}", 60)
    print(f"after:  {at_rest(own)}")
    print(f"{count} starts in {took:.1f} s, told apart by their log streams; answers: {churn.answers}")
    assert count >= STARTS
    assert set(churn.answers) <= EXPECTED, [line for line in own.log().splitlines() if "room" in line or "made" in line]
    assert len(set(churn.answers)) == len(EXPECTED), "both kinds of answers came"


def at_rest(server):
    """What it holds when no instance runs and nothing waits for one."""
    left = lambda: {pid: processes.command(pid) for pid in processes.descendants(server.process.pid)}  # noqa: E731
    ended = lambda: not holdings.of(server, started).processes  # noqa: E731
    wait_until(ended, lambda: f"all instances and waiting runtimes have ended: {left()}", 60)
    return holdings.of(server, started)


def left(server, before):
    return holdings.of(server, started).beyond(before, MEMORY)


class Churn:
    """Starts instances and has them end: by themselves, by a signal from outside, or replaced by a change."""

    def __init__(self, server, functions, rng):
        self.server, self.functions, self.rng = server, functions, rng
        self.answers = {}
        self.timeout = 120

    def run(self, starts):
        """At least so many starts."""
        asyncio.run(self._run(len(self.streams()) + starts))

    def streams(self):
        """The log streams of all instances that were ever called: each had a start of its own."""
        lines = (line for path in (self.server.data_dir / "meter").glob("*") for line in path.read_bytes().splitlines())
        return {json.loads(line)["stream"] for line in lines}

    async def _run(self, goal):
        while (missing := goal - len(self.streams())) > 0:
            turns = [missing // CALLERS + 1] * CALLERS
            await asyncio.gather(*(self._call(count) for count in turns))

    async def _call(self, count):
        for _ in range(count):
            (language,) = self.rng.choices(list(MIX), MIX.values())
            end = self.rng.choice(["exit", "kill", "killed", "replaced"])
            event = {"do": end if end in ("exit", "kill") else "answer", "value": 1}
            _, status, about = await volatile.call(self.server, self.functions[language].name, event, 200)
            self.answers[status, about] = self.answers.get((status, about), 0) + 1
            if end == "killed":
                self._kill_one()
            elif end == "replaced":
                self.timeout ^= 1
                path = f"/2015-03-31/functions/{self.functions[language].name}/configuration"
                await volatile.request(self.server, "PUT", path, {"Timeout": self.timeout})

    def _kill_one(self):
        victims = [pid for first in self.server.instances() for pid in [first, *processes.descendants(first)]]
        if victims:
            try:
                os.kill(self.rng.choice(victims), signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has ended by itself
