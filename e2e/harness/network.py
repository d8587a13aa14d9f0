"""A machine's network and the world beyond it, made of network namespaces, so that a server's functions can be let out
without a packet leaving this machine.

    loopback ── machine ══ link ══ world: a web server, a time server, a name server, a cloud's metadata

The server under test runs in `machine`, and so does the thread that calls `World.enter()`.
"""

import contextlib
import ctypes
import os
import pathlib
import subprocess
import sys

from .processes import wait_until
from .server import started
from .world import HOST, HOST_V6

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000

SERVERS = pathlib.Path(__file__).with_name("world.py")

MACHINE, MACHINE_V6 = "10.231.0.1", "fd31:1::1"
ANOTHER = "10.231.0.5"  # the machine again
GATEWAY, GATEWAY_V6 = "10.231.0.2", "fd31:1::2"
METADATA = "169.254.169.254"
NAME = "host.example"

SETUP = f"""
ip link set lo up
ip addr add {GATEWAY}/24 dev world
ip addr add {GATEWAY_V6}/64 dev world nodad
ip link set world up
for address in {HOST} {METADATA}; do ip addr add $address/32 dev lo; done
ip addr add {HOST_V6}/128 dev lo nodad
"""

MACHINE_SETUP = f"""
ip link set lo up
ip addr add {MACHINE}/24 dev machine
ip addr add {ANOTHER}/24 dev machine
ip addr add {MACHINE_V6}/64 dev machine nodad
ip link set machine addrgenmode none up
ip route add default via {GATEWAY}
ip -6 route add default via {GATEWAY_V6}
"""


class World:
    """Both namespaces and the servers of the world. As a context manager; nothing is left when it ends."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.resolv_conf = self.folder / "resolv.conf"
        self.resolv_conf.write_text("nameserver 127.0.0.53\nsearch lan\n")

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.machine, self.world = (stack.enter_context(namespace()) for _ in range(2))
            run(f"ip link add machine netns {self.machine} type veth peer name world netns {self.world}")
            run(f"nsenter --net=/proc/{self.world}/ns/net sh -ec '{SETUP}'")
            run(f"nsenter --net=/proc/{self.machine}/ns/net sh -ec '{MACHINE_SETUP}'")
            # As systemd-resolved does it: names are asked of an address on the loopback.
            for where, what in ((self.world, ["world", GATEWAY, METADATA]), (self.machine, ["resolver"])):
                at = f"--net=/proc/{where}/ns/net"
                served = stack.enter_context(process("nsenter", at, sys.executable, SERVERS, *what))
                assert served.stdout.readline() == b"ready\n"
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()

    @contextlib.contextmanager
    def entered(self):
        """This thread, and those that it starts, are on the machine as long as the block lasts."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        machine = os.open(f"/proc/{self.machine}/ns/net", os.O_RDONLY)
        try:
            enter(machine)
            yield
        finally:
            enter(before)
            os.close(before)
            os.close(machine)

    def command(self, user):
        """What a program's command line is to begin with, so that it runs on the machine as `user` (a number)."""
        mount = f'mount --bind {self.resolv_conf} /etc/resolv.conf; exec "$@"'
        become = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups"] if user else []
        net = ["nsenter", f"--net=/proc/{self.machine}/ns/net"]
        return [*net, "unshare", "--mount", "sh", "-ec", mount, "sh", *become]


def enter(namespace):
    if LIBC.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def process(*command):
    """A process that is ended with the block."""
    running = subprocess.Popen(command, stdout=subprocess.PIPE)
    started.add(running.pid)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


@contextlib.contextmanager
def namespace():
    """The id of a process in a network namespace of its own."""
    own = os.readlink("/proc/self/ns/net")
    with process("unshare", "--net", "sleep", "infinity") as holder:
        there = f"/proc/{holder.pid}/ns/net"
        wait_until(lambda: os.readlink(there) != own, "the process has left for its namespace")
        yield holder.pid


def run(command):
    subprocess.run(command, shell=True, check=True)
