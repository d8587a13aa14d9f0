"""Completions as they are typed into real shells on a terminal: what a Tab made of the line is what then runs."""

import os
import pty
import shutil
import subprocess
import threading

import pytest

from harness import rigs
from harness.processes import wait_until
from harness.server import binary, run, started

PROMPT = "ready-to-type"

#: Where each shell looks, the folder below the user's home; how it is started; what it is told first.
SHELLS = {
    "bash": ("brooklet.bash", ["bash", "--noprofile", "--norc", "-i"], "source {file}; PS1='{prompt}> '"),
    "zsh": (
        ".zfunc/_brooklet",
        ["zsh", "-f", "-i"],
        "fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D; PS1='{prompt}> '",
    ),
    "fish": (
        ".config/fish/completions/brooklet.fish",
        ["fish", "--private", "-i"],
        "function fish_prompt; echo '{prompt}> '; end",
    ),
}


class Terminal:
    """A shell on a terminal of its own, at a user's home with the completions of `brooklet completions SHELL`."""

    def __init__(self, shell, home, **env):
        where, command, setup = SHELLS[shell]
        if not shutil.which(command[0]):
            rigs.missing(f"{shell} is not installed")
        self.home, file = home, home / where
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(run("completions", shell).stdout)
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
        told = setup.format(file=file, folder=file.parent, prompt=PROMPT.replace("-", "''-", 1))
        self.type(told + "\n")
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
    ],
)
def test_commands_options_and_their_values_complete(terminal, server, typed, meant):
    assert terminal.output(typed) == run(*meant.split()[1:], env={"BROOKLET_SERVER": server.url}).stdout


@pytest.mark.parametrize("terminal", ["bash", "zsh"], indirect=True)  # clap makes none of these for fish
def test_words_that_a_command_takes_complete(terminal):
    assert terminal.output("brooklet completions fi\t") == run("completions", "fish").stdout
