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
        return errno.errorcode.get(error.errno, type(error).__name__)
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


def try_the_numbers_of_another_instruction_set():
    """`getpid` as 32-bit programs call it, where a filter that looks at numbers alone would see another call."""
    import mmap

    code = b"\xb8\x14\0\0\0\xcd\x80\xc3"  # mov eax, 20; int 0x80; ret
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    pid = os.fork()
    if pid == 0:
        ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "done"


# ---- files ---------------------------------------------------------------------------------------------------


def try_write(path):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, b"x")
    finally:
        os.close(fd)


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


def try_link(path, symbolic=False):
    """Another name in /tmp for something that is not there, and writing through it."""
    link = "/tmp/link-%d" % time.time_ns()
    (os.symlink if symbolic else os.link)(path, link)
    with open(link, "a") as file:
        file.write("x")


def try_swap_a_link(path, rounds=2000):
    """A folder of /tmp that is by turns a link to somewhere else, while another thread writes into it."""
    import threading

    os.makedirs("/tmp/swapped/real", exist_ok=True)
    over, written = threading.Event(), []

    def write():
        while not over.is_set():
            try:
                with open("/tmp/swapped/now/.probe", "w") as file:
                    if not os.path.realpath("/proc/self/fd/%d" % file.fileno()).startswith("/tmp/"):
                        written.append(1)
            except OSError:
                pass

    thread = threading.Thread(target=write)
    thread.start()
    for n in range(rounds):
        new = "/tmp/swapped/new"
        os.symlink(path if n % 2 else "/tmp/swapped/real", new)
        os.rename(new, "/tmp/swapped/now")
    over.set()
    thread.join()
    return "written outside" if written else "nothing"


def try_set_user_id():
    """A program of its own whose owner it is, with the bit set, and one that is given to root."""
    import shutil

    copy = shutil.copy("/usr/bin/id", "/tmp/id")
    os.chmod(copy, 0o6755)
    effective = subprocess.run([copy, "-u"], capture_output=True, text=True).stdout.strip()
    if effective == "0":
        return "done"
    os.chown(copy, 0, 0)


def try_lift_a_limit(name):
    import resource

    which = getattr(resource, name)
    soft, hard = resource.getrlimit(which)
    try:
        resource.setrlimit(which, (hard + 1, hard + 1))
    except ValueError:  # Python's word for EPERM
        return "EPERM"


def ask_limit(name):
    import resource

    return resource.getrlimit(getattr(resource, name))


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


def ask_what_descriptors_are():
    """Of what kind each is: nothing that leads to files."""
    return sorted({os.readlink("/proc/self/fd/" + name).split(":")[0] for name in ("0", "1", "2", "3", "4")})


def try_signal(pid, number=0):
    os.kill(pid, number)


def try_signal_all(number=signal.SIGCONT):
    """All that may be signalled; the sender is not meant."""
    os.kill(-1, number)
    return "still there"


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


# ---- network -------------------------------------------------------------------------------------------------

held = []


def try_tcp(host, port, say="hello"):
    """Says something to a server, and all that this answers until it closes."""
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.sendall(say.encode())
        connection.shutdown(socket.SHUT_WR)
        heard = b""
        while more := connection.recv(65536):
            heard += more
    return heard.decode()


def try_udp(host, port, times=1):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.connect((host, port))
        answers = []
        for n in range(times):
            sock.send(b"%d" % n)
            answers.append(sock.recv(65536).decode())
    return answers


def try_get(url):
    import urllib.request

    try:
        with urllib.request.urlopen(os.path.expandvars(url), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError as error:
        raise error.reason from None


def try_send_much(host, port, mib):
    """The other side sends all back, while this one is still sending."""
    import hashlib
    import threading

    block = os.urandom(1 << 20)
    sent, got, count = hashlib.sha256(), hashlib.sha256(), 0
    with socket.create_connection((host, port), timeout=20) as connection:

        def send():
            for _ in range(mib):
                connection.sendall(block)
                sent.update(block)
            connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        while count < mib << 20:
            more = connection.recv(min(1 << 20, (mib << 20) - count))
            if not more:
                break
            got.update(more)
            count += len(more)
        sender.join()
    return sent.hexdigest() == got.hexdigest()


def try_connections(host, port, count):
    """How many of `count` connections at once are served; an echo must come back on each."""
    for _ in range(count):
        connection = socket.create_connection((host, port), timeout=2)
        held.append(connection)
        connection.sendall(b"x")
        try:
            if connection.recv(1) != b"x":
                break
        except OSError:
            break
    served = len(held)
    while held:
        held.pop().close()
    return served


def ask_resolve(name):
    try:
        return sorted({found[4][0] for found in socket.getaddrinfo(name, 80, proto=socket.IPPROTO_TCP)})
    except socket.gaierror as error:
        return error.args[0] and socket.EAI_AGAIN == error.args[0] and "EAI_AGAIN" or "EAI_NONAME"


def ask_resolve_over_tcp(name):
    """The name server's answer to a question for the address, as a resolver does that was told to use TCP."""
    with open("/etc/resolv.conf") as file:
        server = next(line.split()[1] for line in file if line.startswith("nameserver"))
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"
    with socket.create_connection((server, 53), timeout=10) as connection:
        connection.sendall(len(question).to_bytes(2, "big") + question)
        answer = connection.makefile("rb").read()
    return socket.inet_ntoa(answer[-4:])


def ask_listen(host, port):
    """Listens, and says what comes of connecting there from within; goes on listening."""
    listener = socket.create_server((host, port))
    held.append(listener)
    with socket.create_connection((host, port), timeout=5) as one:
        other, _ = listener.accept()
        other.sendall(b"me")
        other.close()
        return one.recv(10).decode()


def try_abstract(name, listen=False):
    sock = socket.socket(socket.AF_UNIX)
    if listen:
        sock.bind("\0" + name)
        sock.listen()
        held.append(sock)
    else:
        sock.connect("\0" + name)


def ask_abstract_names():
    """Abstract sockets that are listed."""
    with open("/proc/net/unix") as file:
        return [line.split()[-1] for line in file if " @" in line]


def ask_links():
    return sorted(os.listdir("/sys/class/net")) if os.path.exists("/sys") else [name for _, name in socket.if_nameindex()]


def ask_environment(name):
    return os.environ.get(name)


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


def ask_inotify(wanted):
    """How many instances of inotify it gets, and keeps."""
    for count in range(wanted):
        fd = libc.inotify_init1(0)
        if fd < 0:
            return count
        held.append(open(fd, "rb", buffering=0))
    return wanted


def ask_a_pipes_size():
    """That of a new one: one page when its user has too many."""
    import fcntl

    ends = os.pipe()
    try:
        return fcntl.fcntl(ends[0], 1032)
    finally:
        for end in ends:
            os.close(end)


def ask_pipes(wanted):
    """Makes as many large pipes as it may, and keeps them; how many."""
    import fcntl

    for count in range(wanted):
        ends = os.pipe()
        held.extend(os.fdopen(end, "rb" if end == ends[0] else "wb", buffering=0) for end in ends)
        try:
            fcntl.fcntl(ends[0], 1031, 1 << 20)
        except OSError:
            return count
    return wanted


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


def try_eat(mib, first_in_tmp=0):
    """Fills memory, after so much of /tmp; what a file, shared memory and a memfd hold counts where it is."""
    with open("/tmp/filled", "wb", buffering=0) as file:
        for _ in range(first_in_tmp):
            file.write(bytes(1 << 20))
    block = bytearray(mib << 20)
    block[::4096] = b"x" * len(block[::4096])
    time.sleep(0.3)
    os.unlink("/tmp/filled")


def try_eat_what_looks_like_tmp(mib):
    """A file in memory, which is no more in /tmp than any other memory."""
    with open(os.memfd_create("filled"), "wb", buffering=0) as file:
        for _ in range(mib):
            file.write(bytes(1 << 20))
        time.sleep(0.3)


def try_remember_many_files(count):
    """What the kernel keeps of files that are looked for and are not there is not the function's memory."""
    for n in range(count):
        os.path.exists("/etc/%0200d" % n)


def try_move_from_tmp(mib):
    """What /tmp had becomes memory, step by step, so that both together never change."""
    with open("/tmp/filled", "wb", buffering=0) as file:
        for _ in range(mib):
            file.write(bytes(1 << 20))
        for left in range(mib, 0, -1):
            held.append(b"x" * (1 << 20))
            file.truncate(left - 1 << 20)
    time.sleep(1.5)


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
