#!/usr/bin/python3
"""What is checked on a machine with cgroup v2. It is that machine's first process, and ends with it.

A check is a function whose name says what holds; all run in the order in which they stand here, the first ones before
the kernel's packet rules are loaded. The last line says whether all is well.
"""

import base64
import contextlib
import ctypes
import fcntl
import glob
import http.client
import inspect
import io
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
import zipfile

ROOT = pathlib.Path("/sys/fs/cgroup")
NOBODY = 65534
PYTHON = f"python3.{sys.version_info.minor}"
FINIT_MODULE = {"x86_64": 313, "aarch64": 273}[os.uname().machine]
libc = ctypes.CDLL(None, use_errno=True)


def main():
    prepare()
    words = pathlib.Path("/proc/cmdline").read_text().split()
    only = [word.removeprefix("only=") for word in words if word.startswith("only=")]
    if "shell" in words:
        subprocess.run(["/bin/sh", "-i"])
        power_off()
    failed, shared = [], None
    for name, check in list(globals().items()):
        if not name.startswith("check_"):
            continue
        if only and not any(word in name for word in [*only, "packet_rules_can"]):
            continue
        began = time.monotonic()
        try:
            if not inspect.signature(check).parameters:
                check()
                continue
            shared = shared or Server("--isolation", "strict").__enter__()
            check(shared)
        except Exception:
            failed.append(name)
            traceback.print_exc(file=sys.stdout)
        finally:
            told = "FAILED" if name in failed else "ok"
            print(f"{told} {name.removeprefix('check_')} ({time.monotonic() - began:.1f} s)", flush=True)
    print(f"FAILED: {', '.join(failed)}" if failed else "all is well", flush=True)
    power_off()


# ---- without the packet rules ----------------------------------------------------------------------------------


def check_strict_refuses_to_start_without_nft_tproxy():
    code, told = refused("--isolation", "strict")
    assert code == 1, code
    assert "isolation is strict" in told and 'reach no more than those with "none"' in told, told


def check_internet_is_none_without_nft_tproxy():
    with Server() as server:
        assert 'network = "internet" reach no more than those with "none"' in server.log(), server.log()
        assert "not limited" not in server.log()
        function = server.deploy("closed", CLOSED)
        assert function({"host": "192.0.2.1", "port": 80}) == "ENETUNREACH"
        assert function({"host": "127.0.0.1", "port": server.port + 1}) == "ECONNREFUSED", "the instance's own loopback"
        assert function({"url": True}) == 200, "Brooklet's API is found all the same"


def check_doctor_says_what_is_missing():
    told = doctor()
    assert re.search(r"limited +network .*`none`.*\n.*modprobe nft_tproxy", told), told


def check_the_packet_rules_can_be_loaded():
    for path in sorted(glob.glob("/modules/*")):
        with open(path, "rb") as file:
            parameters = b"rd_nr=1 rd_size=262144" if "brd" in path else b""  # KiB
            if libc.syscall(FINIT_MODULE, file.fileno(), parameters, 0) != 0:
                raise OSError(ctypes.get_errno(), path)


# ---- with all there is -----------------------------------------------------------------------------------------


def check_strict_starts_as_root(server):
    assert "not limited" not in server.log()
    assert server.deploy("hello", "def handler(event, context):\n    return event\n")(1) == 1


def check_doctor_finds_what_is_there():
    told = doctor()
    assert re.search(r"ok +cgroups +v2 with .*cpu.*memory.*pids", told), told
    assert re.search(r"ok +network ", told), told


def check_an_instance_is_in_a_group_of_its_own_with_its_limits(server):
    groups_and_limits(server)


def check_a_bootstrap_is_in_a_group_of_its_own_too(server):
    function = server.deploy("bash", pathlib.Path("/volatile").read_bytes(), runtime="provided.al2023", MemorySize=300)
    assert function({"do": "answer", "value": 7}) == 7
    (group,) = [group for group in of_size(server, 812) if len(procs(group)) > 1]  # others wait for a program
    assert len(procs(group)) == 2, procs(group)


def check_nodejs_waits_for_a_function(server):
    """A Node.js that was there before takes the function over."""
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout[1:].split(".")[0]
    function = server.deploy("node", TITLED, runtime=f"nodejs{version}.x", file="app.js")
    assert function({"title": "first"}) == 0
    for turn in range(2):
        waiting = lambda: {pid for group in groups(server) for pid in procs(group) if is_node(pid)} - taken  # noqa: B023, E731
        taken = {pid for group in marked(f"turn{turn - 1}" if turn else "first", server) for pid in procs(group)}
        wait_until(waiting, "a Node.js waits")
        before = waiting()
        server.configure("node", Timeout=20 + turn)
        assert function({"title": f"turn{turn}"}) == 0
        (group,) = marked(f"turn{turn}", server)
        assert before & set(procs(group)), "it had waited"


def check_a_function_that_eats_more_than_its_memory_ends_with_lambdas_words(server):
    memory_ends_it(server)


def check_processes_end_at_lambdas_number(server):
    processes_end(server)


def check_a_fork_bomb_ends_with_its_time(server):
    function = server.deploy("bomb", BOMB, MemorySize=1024, Timeout=5)
    assert function({})["errorType"] == "Sandbox.Timedout"
    wait_until(lambda: not [group for group in groups(server) if len(procs(group)) > 8], "the bomb's processes are gone")


def check_who_keeps_the_kernel_busy_stands_back_and_has_a_processor_with_others_like_it(server):
    stands_back(server)


def check_memory_high_raises_an_alarm_again_and_again(server):
    """What lies in /tmp is no reason to end an instance, and the alarm is set again once it is gone."""
    function = server.deploy("alarms", MARKED + ALARMS, MemorySize=128, EphemeralStorage={"Size": 512})
    assert function({"mark": "alarms"}) == 0
    (group,) = marked("alarms", server)
    high = lambda value: wait_until(lambda: told(group, "memory.high") == [value], f"memory.high is {value}")  # noqa: E731
    for _ in range(3):
        high(str(128 << 20))
        assert function({"tmp": 200}) == 200
        high("max")
        assert function({"tmp": 0}) == 0
    high(str(128 << 20))
    document = function({"mib": 300})
    assert document["errorType"] == "Runtime.OutOfMemory", "long before the kernel's limit, which is 640 MiB"
    assert not any(line.startswith("oom_kill 1") for line in told(group, "memory.events")), "not by the kernel"


def check_instances_are_users_of_their_own(server):
    users = set()
    for name in ("one", "two"):
        assert server.deploy(name, MARKED)({"mark": name}) == 0
        (group,) = marked(name, server)
        statuses = [pathlib.Path(f"/proc/{pid}/status").read_text() for pid in procs(group)]
        users |= {re.search(r"Uid:\t(\d+)\t", status)[1] for status in statuses if f"Name:\t{name}\n" in status}
    assert len(users) == 2 and all(int(user) >= 0x7000_0000 for user in users), users


def check_landlock_stands_behind_the_mounts(server):
    """A process may write to its own name unless Landlock says no, and then with this error."""
    assert re.search(r"landlock +ABI [2-9]", doctor()), doctor()
    assert server.deploy("landlock", LANDLOCK)({}) == "EACCES"


def check_an_idle_instance_is_frozen_by_its_group():
    with Server("--isolation", "strict", freeze_after="300ms") as server:
        function = server.deploy("counts", MARKED + COUNTS)
        assert function({"mark": "counts"}) == 0
        (group,) = marked("counts", server)
        for _ in range(3):
            frozen = lambda: "frozen 1" in " ".join(told(group, "cgroup.events"))  # noqa: E731
            wait_until(frozen, "all of its processes stand still, says the kernel")
            assert function({"count": True}) > 0
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not procs(group), "what was frozen ends with the server")
        server.process = subprocess.Popen(["/usr/bin/true"])
        server.process.wait()


def check_an_idle_instance_is_paged_out_and_comes_back():
    swap_on("/dev/ram0")
    settings = {"freeze_after": "300ms", "page_out_after": "1s"}
    with Server("--isolation", "strict", **settings) as server:
        function = server.deploy("large", MARKED + LARGE, MemorySize=256)
        assert function({"mark": "large"}) == 0
        (group,) = marked("large", server)
        here = lambda: int(told(group, "memory.current")[0]) >> 20  # noqa: E731
        swapped = lambda: int(told(group, "memory.swap.current")[0]) >> 20  # noqa: E731
        assert here() >= 100, here()
        for _ in range(2):
            wait_until(lambda: swapped() >= 80 and here() < 40, f"it is paged out: {here()} MiB here, {swapped()} out")
            wait_until(lambda: told(group, "memory.swap.max") == ["0"], "by itself it does not swap")
            assert function({"sum": True}) == 100 << 8, "all of it is there"
            assert here() >= 100, here()


def check_nothing_is_left_after_kill_nine(server):
    server.process.kill()
    server.process.wait()
    wait_until(lambda: not any(procs(group) for group in groups(server)), "everything in the groups has ended")
    left = {group: group.stat().st_ino for group in groups(server)}
    assert left, "and the groups are still there"
    with Server(data=server.data):
        assert not [group for group, number in left.items() if group.exists() and group.stat().st_ino == number]
    assert not home(server).exists()


# ---- as an ordinary user ---------------------------------------------------------------------------------------


def check_a_user_without_delegation_is_told_so():
    with Server(user=NOBODY) as server:
        assert "memory and number of processes are not limited here" in server.log(), server.log()
        assert server.deploy("hello", "def handler(event, context):\n    return event\n")(1) == 1
    code, told = refused("--isolation", "strict", user=NOBODY)
    assert code == 1 and "no control group to be had" in told, told


def check_a_delegated_subtree_is_used():
    """As `systemd` delegates: the user owns a group, which has the controllers, and is in a group below."""
    with delegated() as place, Server("--isolation", "strict", user=NOBODY, group=place) as server:
        assert "not limited" not in server.log()
        groups_and_limits(server)
        memory_ends_it(server)
        processes_end(server)
        stands_back(server)


def check_a_server_in_the_delegated_group_itself_moves_out_of_the_way():
    """A group that has processes gives its children no controllers: as a service with `Delegate=yes` begins."""
    with delegated() as place, Server("--isolation", "strict", user=NOBODY, group=place.parent) as server:
        assert home(server).parent == place.parent
        memory_ends_it(server)


# ---- what several of them check --------------------------------------------------------------------------------


def groups_and_limits(server):
    function = server.deploy("groups", MARKED + WHO, MemorySize=256, EphemeralStorage={"Size": 512})
    for turn in range(3):  # booted; from a runtime that waited; forked
        assert function({"mark": f"turn{turn}"}) == "0::/\n", "inside it is the root"
        (group,) = marked(f"turn{turn}", server)
        assert told(group, "memory.max") == [str(768 << 20)]
        assert told(group, "pids.max") == ["1024"]
        # None while it stands back, as it may for what it used when it started: an emulator is slow.
        wait_until(lambda: told(group, "cpu.weight") == [str(256 * 1600 // 1769)], "its share is by its memory")  # noqa: B023
        assert len(procs(group)) >= 2, procs(group)
        server.configure("groups", Timeout=20 + turn)
        server.update("groups")
        wait_until(lambda: not marked(f"turn{turn}", server), "the replaced instance is gone")  # noqa: B023
        wait_until(lambda: not procs(group), "and its group, or another has it")  # noqa: B023
    own = pathlib.Path(f"/proc/{server.process.pid}/cgroup").read_text()
    assert home(server).name not in own, "the server is not among its functions"


def memory_ends_it(server):
    function = server.deploy("eats", EATS, MemorySize=128, EphemeralStorage={"Size": 512})
    document = function({"mib": 2000})
    assert document["errorType"] == "Runtime.OutOfMemory", document
    assert function({"mib": 20}) == "eaten"
    log = server.get("/_brooklet/v1/functions/eats/logs")
    assert max(int(mib) for mib in re.findall(r"Max Memory Used: (\d+) MB", log)) >= 128, log


def stands_back(server):
    reads = server.deploy("reads", MARKED + READS, MemorySize=128, Timeout=800)
    answers = server.deploy("answers", "def handler(event, context):\n    return 0\n")
    assert reads({"mark": "reads"}) == 0
    (group,) = marked("reads", server)
    states = lambda: [told(group, file) for file in ("cpu.idle", "cpu.max", "cpuset.cpus.effective")]  # noqa: E731
    reading = threading.Thread(target=reads, args=[{"mark": "reads", "seconds": 700}])
    reading.start()
    held = [["1"], ["2000", "20000"], ["1"]]
    freed = [["1"], ["max", "20000"], ["0-1"]]
    try:
        wait_until(lambda: answers({}) == 0 and states() == held, "it has a quota, and one of two processors")
        wait_until(lambda: states() == freed, "with nobody else called it has all that there is")
    finally:
        for pid in procs(group):
            os.kill(int(pid), signal.SIGKILL)
        reading.join()


def processes_end(server):
    function = server.deploy("forks", FORKS, MemorySize=2048, Timeout=800)
    assert 900 < function({}) < 1024


#: Its process is then called so, by which it is found from outside.
MARKED = (
    "import ctypes\ndef mark(event):\n    if 'mark' in event:\n"
    "        ctypes.CDLL(None).prctl(15, event['mark'].encode(), 0, 0, 0)\n"
    "def handler(event, context):\n    mark(event)\n    return 0\n"
)
WHO = "def handler(event, context):\n    mark(event)\n    return open('/proc/self/cgroup').read()\n"
ALARMS = (
    "import os\ndef handler(event, context):\n    mark(event)\n    size = event.get('tmp', 0)\n"
    "    with open('/tmp/file', 'wb') as file:\n        for _ in range(size):\n            file.write(bytes(1 << 20))\n"
    "    block = bytearray(event.get('mib', 0) << 20)\n    block[::4096] = b'x' * len(block[::4096])\n    return size\n"
)
LANDLOCK = (
    "import errno\ndef handler(event, context):\n    try:\n        open('/proc/self/comm', 'w').write('other')\n"
    "    except OSError as error:\n        return errno.errorcode[error.errno]\n    return 'written'\n"
)
READS = (
    "import time\ndef handler(event, context):\n    mark(event)\n    end = time.monotonic() + event.get('seconds', 0)\n"
    "    with open('/dev/zero', 'rb', buffering=0) as zeros:\n        block = bytearray(1 << 20)\n"
    "        while time.monotonic() < end:\n            zeros.readinto(block)\n    return 0\n"
)
COUNTS = (
    "import threading, time\ncounted = 0\ndef count():\n    global counted\n    while True:\n        counted += 1\n"
    "        time.sleep(0.01)\nthreading.Thread(target=count, daemon=True).start()\n"
    "def handler(event, context):\n    mark(event)\n    return counted if 'count' in event else 0\n"
)
TITLED = "exports.handler = async (event) => { process.title = event.title; return 0; };\n"
LARGE = (
    "import random\nblock = random.randbytes(1 << 20) * 100\n"
    "def handler(event, context):\n    mark(event)\n"
    "    return sum(1 for _ in block[::4096]) if 'sum' in event else 0\n"
)
EATS = (
    "def handler(event, context):\n    block = bytearray(event['mib'] << 20)\n"
    "    block[::4096] = b'x' * len(block[::4096])\n    return 'eaten'\n"
)
FORKS = (
    "import os, signal\ndef handler(event, context):\n    pids = []\n    try:\n        while True:\n"
    "            pid = os.fork()\n            if pid == 0:\n                signal.pause()\n            pids.append(pid)\n"
    "    except OSError:\n        pass\n    for pid in pids:\n        os.kill(pid, 9)\n        os.waitpid(pid, 0)\n"
    "    return len(pids)\n"
)
BOMB = (
    "import os\ndef handler(event, context):\n    while True:\n        try:\n            os.fork()\n"
    "        except OSError:\n            pass\n"
)
CLOSED = (
    "import errno, os, socket, urllib.request\ndef handler(event, context):\n"
    "    if event.get('url'):\n        url = os.environ['AWS_ENDPOINT_URL_LAMBDA'] + '/2015-03-31/functions'\n"
    "        return urllib.request.urlopen(url, timeout=20).status\n"
    "    try:\n        socket.create_connection((event['host'], event['port']), timeout=20).close()\n"
    "    except OSError as error:\n        return errno.errorcode.get(error.errno, repr(error))\n    return 'connected'\n"
)


class Server:
    """One `brooklet up`, as root or as `user`, in the control group `group`."""

    number = 0

    def __init__(self, *arguments, user=0, group=None, data=None, **settings):
        Server.number += 1
        self.arguments, self.user, self.group = arguments, user, group
        self.settings = {f"BROOKLET_{name.upper()}": value for name, value in settings.items()}
        self.folder = pathlib.Path(f"/data/{Server.number}")
        self.data = data or self.folder / "data"

    def __enter__(self):
        self.folder.mkdir()
        os.chown(self.folder, self.user, self.user)
        self.log_file = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(
            command("up", "--listen", "127.0.0.1:0", "--data-dir", str(self.data), *self.arguments, user=self.user),
            stdout=subprocess.PIPE,
            stderr=self.log_file,
            env={"PATH": "/usr/bin", "HOME": str(self.folder), **self.settings},
            preexec_fn=self._join,
            text=True,
        )
        line = self.process.stdout.readline()
        assert "ready on" in line, self.log()
        self.port = int(line.strip().rpartition(":")[2])
        return self

    def _join(self):
        if self.group is not None:
            (self.group / "cgroup.procs").write_text("0")

    def __exit__(self, kind, *_):
        if kind:
            print(self.log()[-3000:])
        if self.process.poll() is None:
            self.process.terminate()
            code = self.process.wait(60)
            assert kind or code == 0, f"ended with {code}: {self.log()}"
            assert kind or not home(self).exists(), "its groups are gone with it"

    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def deploy(self, name, code, runtime=PYTHON, file="app.py", **more):
        file = "bootstrap" if isinstance(code, bytes) else file
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            info = zipfile.ZipInfo(file)
            info.external_attr = (0o100000 | 0o755) << 16
            archive.writestr(info, code)
        document = {"FunctionName": name, "Runtime": runtime, "Handler": "app.handler", "Timeout": 50}
        document |= {"Role": "arn:aws:iam::000000000000:role/any", "Code": {"ZipFile": base64.b64encode(buffer.getvalue()).decode()}}
        self._call("POST", "/2015-03-31/functions", document | more)
        return lambda event: json.loads(self._call("POST", f"/2015-03-31/functions/{name}/invocations", event))

    def configure(self, name, **changes):
        self._call("PUT", f"/2015-03-31/functions/{name}/configuration", changes)

    def update(self, name):
        self._call("POST", f"/2015-03-31/functions/{name}/invocations", {})

    def get(self, path):
        return self._call("GET", path)

    def _call(self, method, path, document=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=900)
        connection.request(method, path, None if document is None else json.dumps(document))
        answer = connection.getresponse()
        body = answer.read().decode()
        assert answer.status < 300, (answer.status, body)
        return body


def command(*arguments, user):
    become = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups"] if user else []
    return [*become, "/brooklet", *arguments]


def refused(*arguments, user=0):
    """(status, standard error) of a server that does not start."""
    folder = pathlib.Path(f"/data/refused-{time.monotonic_ns()}")
    folder.mkdir()
    os.chown(folder, user, user)
    up = command("up", "--listen", "127.0.0.1:0", "--data-dir", str(folder / "data"), *arguments, user=user)
    done = subprocess.run(up, capture_output=True, text=True, timeout=60, env={"PATH": "/usr/bin", "HOME": str(folder)})
    return done.returncode, done.stderr


def doctor():
    env = {"PATH": "/usr/bin", "HOME": "/data"}
    return subprocess.run(["/brooklet", "doctor"], capture_output=True, text=True, timeout=120, env=env).stdout


def home(server):
    """The server's own control group, wherever it has made it."""
    name = 0xCBF2_9CE4_8422_2325
    for byte in os.fsencode((server.data / "run").resolve()):
        name = (name ^ byte) * 0x100_0000_01B3 % (1 << 64)
    # `walk` goes on when a group goes away meanwhile.
    found = [pathlib.Path(path) for path, _, _ in os.walk(ROOT) if path.endswith(f"/brooklet-{name:016x}")]
    assert len(found) <= 1, found
    return found[0] if found else ROOT / f"brooklet-{name:016x}"


def groups(server):
    """The groups of its instances, and of what waits to be one."""
    here = home(server)
    return sorted(path for path in here.iterdir() if path.is_dir()) if here.exists() else []


def of_size(server, mib):
    """Those whose memory is limited to so much."""
    return [group for group in groups(server) if told(group, "memory.max") == [str(mib << 20)]]


def marked(name, server):
    """The groups in which a process is called so: each is an instance's."""
    named = lambda pid: told(pathlib.Path("/proc", pid), "comm") == [name]  # noqa: E731
    return [group for group in groups(server) if any(map(named, procs(group)))]


def is_node(pid):
    """Whether its program is Node.js."""
    try:
        return os.readlink(f"/proc/{pid}/exe").endswith("/node")
    except OSError:
        return False


def procs(group):
    return told(group, "cgroup.procs")


def told(group, file):
    """The words of a group's file; none when it has gone."""
    try:
        return (group / file).read_text().split()
    except OSError:
        return []


@contextlib.contextmanager
def delegated():
    """A group in a subtree that belongs to the ordinary user."""
    for controller in ("+memory", "+cpu", "+pids", "+cpuset"):
        (ROOT / "cgroup.subtree_control").write_text(controller)
    user = ROOT / "user"
    user.mkdir()
    for path in (user, user / "cgroup.procs", user / "cgroup.subtree_control", user / "cgroup.threads"):
        os.chown(path, NOBODY, NOBODY)
    (user / "session").mkdir()
    os.chown(user / "session", NOBODY, NOBODY)
    try:
        yield user / "session"
    finally:
        for path in (user / "session", user):
            wait_until(lambda: not procs(path), "the delegated groups are empty")  # noqa: B023
            path.rmdir()  # which fails when a server has left one in there


def wait_until(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)


# ---- the machine -----------------------------------------------------------------------------------------------


def prepare():
    """Mounts what a machine has. The kernel's first file system cannot be pivoted away from, a bind mount of it can."""
    mount("/", "/tmp", None, 4096)
    os.chdir("/tmp")
    mount(".", "/", None, 8192)
    os.chroot(".")
    os.chdir("/")
    for kind, place in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("cgroup2", "/sys/fs/cgroup"), ("tmpfs", "/data"), ("tmpfs", "/tmp")):
        mount(kind, place, kind, 0)
    os.chmod("/data", 0o777)
    os.chmod("/tmp", 0o1777)
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def mount(source, target, kind, flags):
    if libc.mount(source.encode(), target.encode(), kind.encode() if kind else None, flags, None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {target}")


def swap_on(device):
    """Has the kernel swap to a block device, whose first page says that it is for that."""
    with open(device, "r+b") as file:
        pages = file.seek(0, os.SEEK_END) // 4096
        head = bytearray(4096)
        struct.pack_into("III", head, 1024, 1, pages - 1, 0)
        head[-10:] = b"SWAPSPACE2"
        file.seek(0)
        file.write(head)
    if libc.swapon(device.encode(), 0) != 0:
        raise OSError(ctypes.get_errno(), f"swapon {device}")


def power_off():
    os.sync()
    libc.reboot(0x4321FEDC)


if __name__ == "__main__":
    main()
