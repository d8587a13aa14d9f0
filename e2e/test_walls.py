"""What a hostile function can not do: to the machine, to the server, to other functions.

Every trick is tried as root and as an ordinary user: the walls are the same.
"""

import concurrent.futures
import json
import re
import shutil
import socket

import pytest

from harness import aws, packages, processes
from harness import server as servers
from harness.processes import wait_until

EVERYWHERE = ["root", "user"]


@pytest.fixture(scope="module", params=EVERYWHERE)
def walled(request):
    """A server of each kind, and a deployer on it."""
    folder = servers.open_folder()
    with servers.Server(folder, user=65534 if request.param == "user" else None) as server:
        server.deployer = aws.Deployer(aws.client(server), "walls")
        yield server
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def hostile(walled):
    """A function that tries to get out."""
    return walled.deployer(packages.walls(), packages.PYTHON, "walls.handler", Timeout=20)


def attempt(function, trick, **options):
    return function({"try": trick, "with": options})


def ask(function, name, **options):
    return function({"ask": name, "with": options})


NEWUSER, NEWNS, NEWPID, NEWNET = 0x10000000, 0x20000, 0x20000000, 0x40000000


@pytest.mark.parametrize(
    "name, arguments, error",
    [
        ("ptrace", [16, 1, 0, 0], "EPERM"),
        ("process_vm_readv", [1, 0, 0, 0, 0, 0], "EPERM"),
        ("pidfd_getfd", [0, 0, 0], "EPERM"),
        ("unshare", [NEWUSER], "EPERM"),
        ("unshare", [NEWNS], "EPERM"),
        ("unshare", [NEWPID], "EPERM"),
        ("unshare", [NEWNET], "EPERM"),
        ("setns", [0, 0], "EPERM"),
        ("clone3", [0, 0], "ENOSYS"),
        ("mount", ["none", "/tmp", "tmpfs", 0, 0], "EPERM"),
        ("mount", ["/", "/", "", 32 | 4096, 0], "EPERM"),
        ("umount2", ["/tmp", 2], "EPERM"),
        ("pivot_root", ["/tmp", "/tmp"], "EPERM"),
        ("chroot", ["/tmp"], "EPERM"),
        ("fsopen", ["tmpfs", 0], "EPERM"),
        ("move_mount", [0, "", 0, "", 0], "EPERM"),
        ("mount_setattr", [-100, "/", 0, 0, 0], "EPERM"),
        ("open_by_handle_at", [0, 0, 0], "EPERM"),
        ("add_key", ["user", "k", "v", 1, -3], "EPERM"),
        ("keyctl", [0, -3, 1], "EPERM"),
        ("bpf", [0, 0, 0], "EPERM"),
        ("perf_event_open", [0, 0, -1, -1, 0], "EPERM"),
        ("userfaultfd", [1], "EPERM"),
        ("io_uring_setup", [8, 0], "ENOSYS"),
        ("kexec_load", [0, 0, 0, 0], "EPERM"),
        ("init_module", [0, 0, ""], "EPERM"),
        ("swapon", ["/tmp/x", 0], "EPERM"),
        ("syslog", [3, 0, 0], "EPERM"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_system_call_that_reaches_out_is_refused(hostile, name, arguments, error):
    assert attempt(hostile, "call", name=name, arguments=arguments) == error


def test_a_user_namespace_can_not_be_cloned_either(hostile):
    assert attempt(hostile, "clone_a_user_namespace") == "EPERM"


@pytest.mark.parametrize("family", ["AF_PACKET", "AF_VSOCK", "AF_ALG", "AF_BLUETOOTH"])
def test_sockets_are_of_the_internet_the_machine_and_netlink_only(hostile, family):
    assert attempt(hostile, "socket", family=getattr(socket, family)) == "EAFNOSUPPORT"


def test_raw_sockets_are_refused(hostile):
    assert attempt(hostile, "socket", family=socket.AF_INET, protocol=socket.IPPROTO_ICMP) == "EPERM"


def test_nobody_becomes_root(hostile):
    assert attempt(hostile, "become_root") in ("EPERM", "EINVAL")
    assert attempt(hostile, "a_set_user_id_program") == "EPERM"
    status = ask(hostile, "status", names=["Uid", "Gid", "CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"])
    assert status["Uid"].split() == ["993"] * 4 and status["Gid"].split() == ["990"] * 4
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_a_terminal_of_the_machine_is_out_of_reach(hostile):
    assert attempt(hostile, "type_into_a_terminal") in ("ENXIO", "ENOENT", "EPERM", "EACCES")


def test_only_its_own_folder_can_be_written_to(hostile):
    assert ask(hostile, "writable") == []
    assert set(ask(hostile, "mounts")) <= {"/tmp", "/proc"}
    assert attempt(hostile, "make_a_device") == "EPERM"
    for path in ("/var/task/x", "/usr/x", "/etc/passwd", "/var/runtime/python/bootstrap.py"):
        assert attempt(hostile, "write", path=path) in ("EROFS", "EACCES"), path


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger",
        "/proc/1/oom_score_adj",
        "/proc/1/mem",
    ],
)
def test_the_kernels_knobs_can_not_be_turned(hostile, path):
    assert attempt(hostile, "write", path=path) in ("EROFS", "EACCES", "EPERM", "ENOENT")


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/1/environ", "/proc/1/mem", "/proc/1/maps", "/dev/kmsg", "/dev/mem"])
def test_what_the_machine_and_the_first_process_hold_can_not_be_read(hostile, path):
    assert attempt(hostile, "read", path=path) in ("EACCES", "EPERM", "ENOENT", "EIO")


@pytest.mark.parametrize("path", ["/root", "/home", "/sys", "/var/lib", "/var/log", "/run", "/mnt", "/proc/1/root", "/proc/1/fd"])
def test_the_machines_other_folders_are_not_there(hostile, path):
    assert attempt(hostile, "list", path=path) in ("ENOENT", "EACCES")


def test_the_servers_data_can_not_be_reached(walled, hostile):
    for path in (walled.data_dir, walled.folder):
        assert attempt(hostile, "list", path=str(path)) == "ENOENT"
        assert attempt(hostile, "leave_by_a_link", path=str(path)) == "ENOENT"


def test_it_sees_its_own_processes_only(walled, hostile):
    other = walled.deployer(packages.python_probe(), packages.PYTHON, "probe.handler")
    other({"do": "children"})
    seen = ask(hostile, "processes")
    assert seen[0] == 1 and len(seen) <= 3, seen
    assert ask(hostile, "host_name") == "sandbox"


def test_it_inherits_nothing_but_its_input_output_and_transport(hostile):
    assert ask(hostile, "descriptors") == [0, 1, 2, 3, 4]


def test_the_first_process_does_not_hear_its_signals(hostile):
    for number in (9, 15, 19, 2):
        assert attempt(hostile, "signal_the_first_process", number=number) == "still there"


def test_namespaces_are_its_own(walled, hostile):
    other = walled.deployer(packages.walls(), packages.PYTHON, "walls.handler")
    one, two = ask(hostile, "namespaces"), ask(other, "namespaces")
    own = ["mnt", "pid", "ipc", "uts", "cgroup", "net"]
    assert [name for name in own if one[name] == two[name]] == []


def test_memory_is_not_shared_by_a_well_known_key(walled, hostile):
    other = walled.deployer(packages.walls(), packages.PYTHON, "walls.handler")
    assert ask(hostile, "shared_memory", make=True) is True
    assert ask(hostile, "shared_memory", make=False) is True
    assert ask(other, "shared_memory", make=False) is False


# ---- bombs ---------------------------------------------------------------------------------------------------


def limits_are_enforced(walled):
    return "not limited here" not in walled.log()


def test_files_end_at_lambdas_number(hostile):
    assert ask(hostile, "open_files")["error"] == "EMFILE"
    assert 900 < ask(hostile, "open_files")["opened"] < 1024


def test_processes_end_at_lambdas_number(walled):
    if not limits_are_enforced(walled):
        pytest.skip("an ordinary user has no control groups on this machine")
    function = walled.deployer(packages.walls(), packages.PYTHON, "walls.handler", MemorySize=3008)
    assert 900 < ask(function, "forks") < 1024


def test_tmp_ends_at_its_size(walled):
    function = walled.deployer(
        packages.walls(), packages.PYTHON, "walls.handler", Timeout=60, EphemeralStorage={"Size": 600}
    )
    disk = ask(function, "disk")
    assert disk["error"] == "ENOSPC" and 590 <= disk["mib"] <= 600


def test_memory_that_is_not_its_own_ends_it_in_lambdas_words(walled):
    if not limits_are_enforced(walled):
        pytest.skip("an ordinary user has no control groups on this machine")
    function = walled.deployer(packages.walls(), packages.PYTHON, "walls.handler", MemorySize=256)
    answer, log = function.tail({"try": "eat", "with": {"mib": 3000}})
    assert answer["FunctionError"] == "Unhandled"
    error = json.loads(answer["Payload"])
    assert error["errorType"] == "Runtime.OutOfMemory"
    assert re.fullmatch(r"RequestId: \S+ Error: Runtime exited with error: signal: killed", error["errorMessage"])
    assert "Status: error\tError Type: Runtime.OutOfMemory" in log
    assert int(re.search(r"Max Memory Used: (\d+) MB", log)[1]) >= 256
    assert function({"try": "eat", "with": {"mib": 20}}) == "done"


@pytest.mark.parametrize("bomb", ["fork_without_end", "spin", "flood_the_log"])
def test_a_bomb_ends_with_its_time_and_leaves_nothing(walled, bomb):
    if not limits_are_enforced(walled) and bomb == "fork_without_end":
        pytest.skip("an ordinary user has no control groups on this machine")
    # Enough memory for a thousand processes: time is what is to end it.
    function = walled.deployer(packages.walls(), packages.PYTHON, "walls.handler", Timeout=3, MemorySize=3008)
    neighbour = walled.deployer(packages.python_probe(), packages.PYTHON, "probe.handler")
    assert neighbour({"do": "echo", "value": 1}) == 1
    before = set(walled.descendants())
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        bombing = pool.submit(function.invoke, {"try": bomb})
        while not bombing.done():
            assert neighbour({"do": "echo", "value": 1}) == 1
    assert json.loads(bombing.result()["Payload"])["errorType"] == "Sandbox.Timedout"
    wait_until(lambda: not set(walled.descendants()) - before, f"everything of {bomb} is gone", seconds=20)


def test_nothing_is_left_after_kill_nine(tmp_path):
    before = processes.control_groups()
    server = servers.Server(tmp_path).start()
    deployer = aws.Deployer(aws.client(server), "walls")
    function = deployer(packages.python_probe(), packages.PYTHON, "probe.handler")
    function({"do": "children", "session": True})
    left = set(processes.descendants(server.process.pid))
    assert len(left) >= 4
    server.kill()
    wait_until(lambda: not any(processes.alive(pid) for pid in left), "the kernel has ended them all")
    with server:
        pass
    assert processes.control_groups() == before, "the next start and stop have cleared away the groups"
