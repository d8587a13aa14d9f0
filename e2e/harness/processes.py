"""Processes and sockets as the kernel tells them: what is left behind, and who listens where.

The test process makes itself the reaper of all that its children leave behind: a function whose server is gone
becomes a child of this process, so an orphan is simply a child that nobody here started.
"""

import contextlib
import ctypes
import fcntl
import os
import pathlib
import sys
import termios
import time

PR_SET_CHILD_SUBREAPER = 36
TCP_LISTEN = "0A"


def adopt_orphans():
    """From now on processes that lose their parent become children of this one."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def children(pid):
    """The ids of a process's children."""
    found = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for task in tasks:
        try:
            found += [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
        except OSError:
            pass
    return found


def descendants(pid):
    """The ids of everything below a process."""
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def users(pid):
    """The users whose processes it and all below it are."""
    status = [pathlib.Path(f"/proc/{each}/status").read_text() for each in [pid, *descendants(pid)]]
    return {int(text.split("\nUid:")[1].split()[0]) for text in status}


def waits(pid):
    """Whether this is the first process of a sandbox that waits for a program, or in which a runtime waits for a function,
    or what such runtimes are forked from."""
    inside = children(pid)
    return is_zygote(pid) or not inside or any(_waits(child) for child in inside)


def is_zygote(pid):
    """Whether this is an interpreter that others are forked from."""
    return _began_with(pid, "BROOKLET_ZYGOTE=/var/runtime/zygote.so") and not children(pid)


def waiting_runtimes(pid):
    """The runtimes below a server that wait for a function."""
    return [inside for first in children(pid) for inside in children(first) if _waits(inside)]


def unread(pid):
    """How many bytes a runtime of ours was told and has not read: its descriptor 3 is where it hears of events."""
    with open(f"/proc/{pid}/fd/3", "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as pipe:
        told = fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4)
    return int.from_bytes(told, sys.byteorder)


def _waits(pid):
    """One that waits has not let go of the machine's files yet."""
    try:
        return _began_with(pid, "BROOKLET_WAIT=1") and any(os.scandir(f"/proc/{pid}/root/.host"))
    except OSError:
        return False


def _began_with(pid, variable):
    try:
        return variable.encode() in pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def command(pid):
    """A process's command line, for messages."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def threads_of(pid):
    """The names of a process's threads; none that ends meanwhile."""
    found = []
    for thread in pathlib.Path(f"/proc/{pid}/task").glob("*/comm"):
        with contextlib.suppress(OSError):
            found.append(thread.read_text().strip())
    return found


def alive(pid):
    """Whether a process runs: neither gone nor only waiting to be reaped."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def is_frozen(pid):
    """Whether nothing of a process runs: its control group is frozen, or a signal has stopped it."""
    try:
        if pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return True
        lines = pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        own = next(line.removeprefix("0::/") for line in lines if line.startswith("0::/"))
        for mount in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
            events = pathlib.Path(mount, own, "cgroup.events")
            if events.exists():
                return "frozen 1" in events.read_text()
    except (OSError, StopIteration):
        pass
    return False


def orphans(started):
    """Children of this process that are alive and that it did not start itself."""
    strangers = [pid for pid in children(os.getpid()) if pid not in started]
    for pid in strangers:
        if not alive(pid):
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
    return [pid for pid in strangers if alive(pid)]


def cgroups_of(pid):
    """The lines that say which control groups a process is in; none when it has ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""


def control_groups():
    """Every control group that a server of ours has made, in all hierarchies."""
    found = set()
    # Others' come and go meanwhile: what is no longer there is passed over.
    for at, folders, _ in os.walk("/sys/fs/cgroup"):
        own = [name for name in folders if name.startswith("brooklet-")]
        found |= {os.path.join(at, name) for name in own}
        folders[:] = [name for name in folders if name not in own]
    return found


def wait_until(condition, what, seconds=20):
    """Waits until `condition()` is true and gives what it gave; fails saying `what` (or `what()`) was waited for."""
    end = time.monotonic() + seconds
    pause = 0.002
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain: {what() if callable(what) else what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    return found


def listeners(pids):
    """The addresses (hexadecimal address, port) on which the given processes accept TCP connections."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
            for link in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    target = os.readlink(link)
                    if target.startswith("socket:["):
                        inodes.add(target[8:-1])
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == TCP_LISTEN and fields[9] in inodes:
                address, _, port = fields[1].partition(":")
                found.append((address, int(port, 16)))
    return found


def is_loopback(address):
    """Whether an address as /proc/net/tcp writes it is 127.0.0.0/8 or ::1 (or IPv4-mapped loopback)."""
    if len(address) == 8:
        return address.endswith("7F")
    return address == "00000000000000000000000001000000" or (
        address.startswith("0" * 16 + "FFFF0000") and address.endswith("7F")
    )
