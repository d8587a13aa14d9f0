"""The real `brooklet` binary as a process: started on a free loopback port, stopped by SIGTERM."""

import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import threading

from . import gate, processes, rigs

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
READY = re.compile(r"^brooklet is ready on (http://\S+)$")
started = set()


def binary():
    """BROOKLET_BIN, or what `cargo build` makes of this checkout."""
    if given := os.environ.get("BROOKLET_BIN"):
        return pathlib.Path(given).resolve()
    if not hasattr(binary, "built"):
        subprocess.run(["cargo", "build", "--quiet", "-p", "brooklet"], cwd=REPOSITORY, check=True)
        metadata = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
        described = json.loads(subprocess.run(metadata, cwd=REPOSITORY, check=True, capture_output=True).stdout)
        binary.built = pathlib.Path(described["target_directory"]) / "debug" / "brooklet"
    return binary.built


def environment(**extra):
    """The environment of a Brooklet process: this one's without its settings and AWS's, dotnet on the path."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("BROOKLET_", "AWS_", "PYTHON", "PYTEST"))}
    if (dotnet := rigs.home() / "dotnet" / "root").exists():
        clean["PATH"] += os.pathsep + str(dotnet)
    return clean | extra


def open_folder():
    """A folder that every user of the machine may use; the caller removes it."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="brooklet-"))
    folder.chmod(0o777)
    return folder


class Server:
    """One `brooklet up`. As a context manager it is stopped, and its clean end checked, when the block ends."""

    def __init__(
        self,
        folder,
        *arguments,
        data_dir=None,
        listen="127.0.0.1:0",
        env=None,
        config=None,
        open_files=None,
        user=None,
        world=None,
    ):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data_dir = pathlib.Path(data_dir or self.folder / "data")
        self.log_path = self.folder / "server.log"
        self.arguments = ["--listen", listen, "--data-dir", str(self.data_dir), *arguments]
        if config is not None:
            (self.folder / "brooklet-server.toml").write_text(config)
            self.arguments += ["--config", str(self.folder / "brooklet-server.toml")]
        # Functions reach the tests' gates, and nothing else on the loopback.
        alone = world is not None or "[endpoints]" in (config or "")
        gates = {} if alone else {"BROOKLET_ENDPOINTS": f"AWS_ENDPOINT_URL_GATE={gate.address()}"}
        self.env = environment(**gates | (env or {}))
        self.open_files = open_files  # (soft, hard) RLIMIT_NOFILE, when it is to differ
        self.user = user  # whose process it is, by number, when not this one's
        self.world = world  # the `network.World` on whose machine it runs, when that is not this one
        self.process = None
        self.url = None

    def start(self):
        """Starts it and waits for its line that says it is ready."""
        log = open(self.log_path, "ab")
        program, who, before = binary(), {}, []
        if self.user is not None:
            # A copy that somebody else can reach: checkouts often lie below /root.
            program = shutil.copy(binary(), self.folder / "brooklet")
            who = {"user": self.user, "group": self.user, "extra_groups": [], "cwd": "/"}
        if self.world is not None:
            before, who = self.world.command(self.user), {"cwd": "/"}
        self.process = subprocess.Popen(
            [*before, program, "up", *self.arguments],
            **who,
            env=self.env | ({"HOME": str(self.folder)} if who else {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            preexec_fn=self._limit,
        )
        log.close()
        started.add(self.process.pid)
        self.url = None
        for line in self.process.stdout:
            with open(self.log_path, "ab") as copy:
                copy.write(line)
            if found := READY.match(line.decode(errors="replace").strip()):
                self.url = found[1]
                break
        if self.url is None:
            code = self.process.wait()
            raise AssertionError(f"brooklet up ended with status {code} before it was ready:\n{self.log()}")
        threading.Thread(target=self._drain, args=(self.process.stdout,), daemon=True).start()
        return self

    def _limit(self):
        if self.open_files:
            resource.setrlimit(resource.RLIMIT_NOFILE, self.open_files)

    def _drain(self, stdout):
        with open(self.log_path, "ab") as copy:
            shutil.copyfileobj(stdout, copy)

    @property
    def port(self):
        """The port it listens on."""
        return int(self.url.rpartition(":")[2])

    @property
    def address(self):
        """(host, port) for a plain socket."""
        return ("127.0.0.1", self.port)

    def log(self):
        """All that it wrote to standard output and error."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def control_groups(self):
        """Its own control groups, one in each hierarchy; instances have theirs below. The name is what
        `group_name` in `crates/process/src/executor.rs` makes of its run folder."""
        name = 0xCBF2_9CE4_8422_2325
        for byte in os.fsencode((self.data_dir / "run").resolve()):
            name = (name ^ byte) * 0x100_0000_01B3 % (1 << 64)
        return [path for path in map(pathlib.Path, processes.control_groups()) if path.name == f"brooklet-{name:016x}"]

    def descendants(self):
        """The ids of its instances' processes and all that they started."""
        return [pid for first in self.instances() for pid in [first, *processes.descendants(first)]]

    def instances(self):
        """The ids of its direct children: one per function instance. (Runtimes that wait for a function are none.)"""
        own = processes.children(self.process.pid)
        return [pid for pid in own if processes.alive(pid) and not processes.waits(pid)]

    def check_listeners(self):
        """Nothing of it may be reachable from outside this machine."""
        for address, port in processes.listeners([self.process.pid, *self.descendants()]):
            assert processes.is_loopback(address), f"a process of the server listens on {address}:{port}"

    def stop(self, seconds=30):
        """SIGTERM; it must end with status 0 in time and leave no process behind."""
        if self.process is None or self.process.poll() is not None:
            return
        self.check_listeners()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(
                f"the server did not end within {seconds} s of SIGTERM:\n{self.log()[-4000:]}"
            ) from None
        assert code == 0, f"the server ended with status {code} after SIGTERM:\n{self.log()[-4000:]}"
        processes.wait_until(
            lambda: not processes.orphans(started),
            f"processes left behind: {[(p, processes.command(p)) for p in processes.orphans(started)]}",
        )

    def kill(self):
        """kill -9: no chance to tidy up."""
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.stop()
        elif self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()


def run(*arguments, timeout=60, env=None, cwd=None, stdin=None, **more):
    """Runs one `brooklet` command to its end."""
    return subprocess.run(
        [binary(), *map(str, arguments)],
        env=environment(**(env or {})),
        cwd=cwd,
        input=stdin,
        text=True,
        capture_output=True,
        timeout=timeout,
        **more,
    )
