"""Completions as they are typed into real shells on a terminal: what a Tab made of the line is what then runs."""

import json
import os
import pty
import shutil
import subprocess
import threading

import pytest

from harness import packages, rigs
from harness.processes import wait_until
from harness.server import binary, run, started

PROMPT = "ready-to-type"

#: How each shell is started, and what it is told first: what its file of the start would have.
SHELLS = {
    "bash": (["bash", "--noprofile", "--norc", "-i"], "source <(brooklet completions bash); PS1='{prompt}> '"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "autoload -Uz compinit; compinit -u -D; source <(brooklet completions zsh); PS1='{prompt}> '",
    ),
    "fish": (
        ["fish", "--private", "-i"],
        "brooklet completions fish | source; function fish_prompt; echo '{prompt}> '; end",
    ),
}


class Terminal:
    """A shell on a terminal of its own, at a user's home with the completions of `brooklet completions SHELL`."""

    def __init__(self, shell, home, **env):
        command, setup = SHELLS[shell]
        if not shutil.which(command[0]):
            rigs.missing(f"{shell} is not installed")
        self.home = home
        self.master, end = pty.openpty()
        path = f"{os.path.dirname(binary())}:{os.environ['PATH']}"
        env = {"HOME": str(home), "PATH": path, "TERM": "xterm", "LANG": "C.UTF-8", **env}
        self.shell = subprocess.Popen(
            ["setsid", "--ctty", *command], stdin=end, stdout=end, stderr=end, cwd=home, env=env
        )
        started.add(self.shell.pid)
        os.close(end)
        self.seen = b""
        threading.Thread(target=self._read, daemon=True).start()
        # In two parts, so that the prompt is not taken for seen when it is only typed.
        self.type(setup.format(prompt=PROMPT.replace("-", "''-", 1)) + "\n")
        wait_until(lambda: f"{PROMPT}> ".encode() in self.seen, f"{shell} shows its prompt: {self.seen[-2000:]}", 20)

    def _read(self):
        try:
            while data := os.read(self.master, 65536):
                self.seen += data
        except OSError:
            pass  # the shell has ended

    def type(self, text):
        os.write(self.master, text.encode())

    def output(self, line):
        """What the line, with its Tabs, prints when it runs."""
        out = self.home / "out"
        out.unlink(missing_ok=True)
        self.type(f"{line} > part; mv part out\n")
        wait_until(out.exists, f"{line!r} runs: {self.seen[-2000:]}", 20)
        return out.read_text()

    def end(self):
        self.shell.kill()
        self.shell.wait()
        os.close(self.master)


@pytest.fixture(params=SHELLS)
def terminal(request, tmp_path, server):
    one = Terminal(request.param, tmp_path, BROOKLET_SERVER=server.url)
    yield one
    one.end()


@pytest.mark.parametrize(
    "typed, meant",
    [
        ("brooklet inv\t--he\t", "brooklet invoke --help"),
        ("brooklet lis\t--out\tjs\t", "brooklet list --output json"),
        ("brooklet completions fi\t", "brooklet completions fish"),
    ],
)
def test_commands_options_and_what_they_take_complete(terminal, server, typed, meant):
    assert terminal.output(typed) == run(*meant.split()[1:], env={"BROOKLET_SERVER": server.url}).stdout


@pytest.fixture(scope="module")
def function(deploy):
    return deploy(packages.python_probe(), packages.PYTHON, "probe.handler")


def test_the_names_of_functions_complete(terminal, function):
    shown = json.loads(terminal.output(f"brooklet show {function.name[:-1]}\t--out\tjs\t"))
    assert shown["Configuration"]["FunctionName"] == function.name
