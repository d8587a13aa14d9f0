"""A hostile function: tries what its event names and tells what came of it.

{"try": name} -> "done" when the trick worked, else the name of the error that stopped it (`EPERM`).
{"ask": name} -> what the function sees.
"""

import ctypes
import errno
import os
import signal
import socket
import subprocess
import time

libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {
    "x86_64": dict(clone=56, ptrace=101, add_key=248, keyctl=250, unshare=272, setns=308, bpf=321, userfaultfd=323,
                   process_vm_readv=310, mount=165, umount2=166, pivot_root=155, chroot=161, perf_event_open=298,
                   open_by_handle_at=304, kexec_load=246, init_module=175, syslog=103, swapon=167),
    "aarch64": dict(clone=220, ptrace=117, add_key=217, keyctl=219, unshare=97, setns=268, bpf=280, userfaultfd=282,
                    process_vm_readv=270, mount=40, umount2=39, pivot_root=41, chroot=51, perf_event_open=241,
                    open_by_handle_at=265, kexec_load=104, init_module=105, syslog=116, swapon=224),
}[os.uname().machine]
NUMBERS |= dict(io_uring_setup=425, clone3=435, fsopen=430, move_mount=429, mount_setattr=442, pidfd_getfd=438)
NEWUSER, NEWNS, NEWPID, NEWNET = 0x10000000, 0x20000, 0x20000000, 0x40000000


def handler(event, context):
    if name := event.get("ask"):
        return globals()["ask_" + name](**event.get("with", {}))
    try:
        outcome = globals()["try_" + event["try"]](**event.get("with", {}))
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done" if outcome is None else outcome


def call(name, *arguments):
    """A system call by number, so that no library stands between."""
    result = libc.syscall(NUMBERS[name], *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


# ---- system calls --------------------------------------------------------------------------------------------


def try_call(name, arguments=()):
    call(name, *(a.encode() if isinstance(a, str) else a for a in arguments))


def try_clone_a_user_namespace():
    if call("clone", NEWUSER | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        os._exit(0)


def try_socket(family, kind=socket.SOCK_RAW, protocol=0):
    socket.socket(family, kind, protocol).close()


def try_become_root():
    os.setuid(0)


def try_a_set_user_id_program():
    """`su` needs a password only from those who are not root already."""
    out = subprocess.run(["su", "-c", "id -u"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return "done" if out.stdout.strip() == "0" else "EPERM"


def try_type_into_a_terminal():
    import fcntl

    with open("/dev/tty", "rb", buffering=0) as terminal:
        fcntl.ioctl(terminal, 0x5412, b"x")


# ---- files ---------------------------------------------------------------------------------------------------


def try_write(path):
    with open(path, "a") as file:
        file.write("x")


def try_read(path):
    with open(path, "rb") as file:
        file.read(1)


def try_list(path):
    os.listdir(path)


def try_make_a_device():
    os.mknod("/tmp/device", 0o600 | 0o020000, os.makedev(1, 1))


def try_leave_by_a_link(path):
    """A link in /tmp to something of the machine leads nowhere."""
    link = "/tmp/link-%d" % time.time_ns()
    os.symlink(path, link)
    os.stat(link)


def ask_writable():
    """Every folder outside /tmp and /proc in which a file can be made."""
    found = []
    for folder, folders, _ in os.walk("/"):
        folders[:] = [f for f in folders if os.path.join(folder, f) not in ("/proc", "/tmp", "/usr")]
        try:
            with open(os.path.join(folder, ".probe"), "w"):
                found.append(folder)
        except OSError:
            pass
    return found


def ask_folder(path):
    return sorted(os.listdir(path))


def ask_mounts():
    """Mount points that are neither read-only nor the function's own."""
    with open("/proc/self/mountinfo") as file:
        fields = [line.split() for line in file]
    return sorted({f[4] for f in fields if "ro" not in f[5].split(",")})


# ---- processes -----------------------------------------------------------------------------------------------


def ask_processes():
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def ask_status(names):
    with open("/proc/self/status") as file:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return {name: lines.get(name, "").strip() for name in names}


def ask_descriptors():
    return sorted(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name))


def ask_namespaces():
    return {name: os.readlink("/proc/self/ns/" + name) for name in ("mnt", "pid", "ipc", "uts", "cgroup", "net")}


def try_signal_the_first_process(number=signal.SIGKILL):
    os.kill(1, number)
    time.sleep(0.2)
    os.kill(1, 0)
    return "still there"


def ask_shared_memory(make):
    """System V shared memory under a key that everybody knows."""
    flags = 0o1000 | 0o666 if make else 0o666
    found = libc.shmget(0x42524B, 4096, flags)
    return found >= 0


def ask_host_name():
    return os.uname().nodename


# ---- bombs ---------------------------------------------------------------------------------------------------


def ask_forks():
    """How many processes can be made before one more is refused."""
    children = []
    try:
        while len(children) < 5000:
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            children.append(pid)
    except OSError:
        pass
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return len(children)


def ask_open_files():
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        return {"opened": len(held), "error": errno.errorcode[error.errno]}
    finally:
        for fd in held:
            os.close(fd)


def ask_disk():
    """How many MiB fit into /tmp."""
    written = 0
    try:
        with open("/tmp/filler", "wb", buffering=0) as file:
            while written < 4096:
                written += file.write(bytes(1 << 20)) >> 20
    except OSError as error:
        return {"mib": written, "error": errno.errorcode[error.errno]}
    finally:
        os.unlink("/tmp/filler")


def try_eat(mib):
    block = bytearray(mib << 20)
    block[::4096] = b"x" * len(block[::4096])


def try_fork_without_end():
    """Each child forks again; nobody waits."""
    while True:
        try:
            os.fork()
        except OSError:
            pass


def try_spin(threads=8):
    for _ in range(threads):
        subprocess.Popen(["sh", "-c", "while :; do :; done"])
    time.sleep(600)


def try_flood_the_log():
    line = b"x" * 4095 + b"\n"
    while True:
        os.write(1, line)
