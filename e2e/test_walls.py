"""What a hostile function can not do: to the machine, to the server, to other functions.

Every trick is tried in each mode, as root and as an ordinary user: the walls are the same. What `--isolation none` keeps
and what it does not is at the end. Tricks over the network are in test_network.py, hostile packages in
test_bad_inputs.py.
"""

import concurrent.futures
import contextlib
import json
import os
import platform
import re
import shutil
import socket

import pytest

from harness import aws, packages, processes, volatile
from harness import server as servers
from harness.processes import wait_until

NOBODY = 65534


@contextlib.contextmanager
def serving(mode):
    """A server in a mode, such as `strict as root`, with a deployer on it."""
    isolation, _, who = mode.split()
    folder = servers.open_folder()
    with servers.Server(folder, "--isolation", isolation, user=NOBODY if who == "user" else None) as server:
        server.deployer = aws.Deployer(aws.client(server), "walls")
        server.mode = mode
        yield server
    shutil.rmtree(folder)


@pytest.fixture(scope="module", params=["strict as root", "best-effort as root", "best-effort as user"])
def walled(request):
    """A server of each kind that has walls."""
    with serving(request.param) as server:
        yield server


@pytest.fixture(scope="module")
def landlock():
    """The kernel's ABI of Landlock, 0 without."""
    [check] = [c for c in json.loads(servers.run("doctor", "--output", "json").stdout) if c["name"] == "landlock"]
    found = re.search(r"ABI (\d+)", check["found"])
    return int(found[1]) if found else 0


@pytest.fixture(scope="module")
def hostile(walled):
    """A function that tries to get out."""
    return walled.deployer(packages.walls(), packages.PYTHON, "walls.handler", Timeout=60)


def attempt(function, trick, **options):
    return function({"try": trick, "with": options})


def ask(function, question, **options):
    return function({"ask": question, "with": options})


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
    assert attempt(hostile, "a_pair_of_sockets", family=getattr(socket, family)) == "EAFNOSUPPORT"


def test_raw_sockets_are_refused(hostile):
    assert attempt(hostile, "socket", family=socket.AF_INET, protocol=socket.IPPROTO_ICMP) == "EPERM"


def test_nobody_becomes_root(hostile):
    assert attempt(hostile, "become_root") in ("EPERM", "EINVAL")
    assert attempt(hostile, "a_set_user_id_program") == "EPERM"
    status = ask(hostile, "status", names=["Uid", "Gid", "CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"])
    assert status["Uid"].split() == ["993"] * 4 and status["Gid"].split() == ["990"] * 4
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the trick is of x86-64")
def test_another_instruction_sets_numbers_are_deadly(hostile):
    assert attempt(hostile, "the_numbers_of_another_instruction_set") == "SIGSYS"


#: Modules that a variable has a runtime load while it boots, by a path that is there only before it is a function's.
EARLY = {
    "python": (
        packages.PYTHON,
        {
            "sitecustomize.py": "import os, sys\nsys.seen = os.path.exists('/.host') and os.listdir('/.host')\n",
            "app.py": "import sys\ndef handler(event, context):\n    return getattr(sys, 'seen', None)\n",
        },
        lambda package: {"PYTHONPATH": package},
    ),
    "node": (
        volatile.node_runtime(),
        {
            "early.js": "const fs = require('fs')\nglobalThis.seen = fs.existsSync('/.host') && fs.readdirSync('/.host')\n",
            "app.js": "exports.handler = async () => globalThis.seen\n",
        },
        lambda package: {"NODE_OPTIONS": f"--require {package}/early.js"},
    ),
}


@pytest.mark.parametrize("language", EARLY)
def test_no_variable_leads_a_runtime_to_a_functions_code_before_it_is_walled_in(walled, language):
    runtime, files, variables = EARLY[language]
    function = walled.deployer(files, runtime, "app.handler", Timeout=20)
    assert not function()
    (own,) = (walled.data_dir / "code").glob(f"*/{next(iter(files))}")
    function.update(Environment={"Variables": variables(f"/.host{own.resolve().parent}")})
    # A runtime that waited, or was forked, is taken by the second start or a later one.
    for turn in range(6):
        function.update(Description=str(turn))
        answer = json.loads(function.invoke()["Payload"])
        assert not answer or "errorType" in answer, f"it has seen {answer}"


def test_a_programs_user_can_not_be_set(hostile):
    assert attempt(hostile, "set_user_id") in ("EPERM", "EINVAL")


@pytest.mark.parametrize("limit", ["RLIMIT_CORE", "RLIMIT_NOFILE"])
def test_a_limit_can_not_be_lifted(hostile, limit):
    assert attempt(hostile, "lift_a_limit", name=limit) == "EPERM"


def test_what_the_kernel_counts_by_user_one_function_can_not_take_from_all(walled):
    """As an ordinary user all instances are that user."""
    if walled.mode.endswith("user"):
        pytest.skip("an ordinary user has no other users to give")
    greedy, modest = [walled.deployer(packages.walls(), packages.PYTHON, "walls.handler", MemorySize=512) for _ in "12"]
    assert 0 < ask(greedy, "inotify", wanted=900) < 900, "the kernel's limit is not lower than that of files"
    assert ask(greedy, "inotify", wanted=1) == 0
    assert ask(modest, "inotify", wanted=5) == 5
    assert 0 < ask(greedy, "pipes", wanted=300) < 300
    assert ask(greedy, "a_pipes_size") < 65536
    assert ask(modest, "a_pipes_size") == 65536
    # The first process of what still waits for a function is root: it has the sandbox to finish.
    theirs = [users for pid in walled.instances() if 0 not in (users := set(processes.users(pid)))]
    assert len(theirs) >= 2
    assert len(set.union(*theirs)) == sum(map(len, theirs)) == len(theirs), "no two are the same user"
    assert all(user >= 0x70000000 for users in theirs for user in users)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has no other users to give")
def test_instances_are_users_of_the_configured_range_and_who_else_is_one_is_told(fresh):
    server = fresh(config='users = "60000:8192"\n')
    function = aws.Deployer(aws.client(server), "users")(packages.python_probe(), packages.PYTHON, "probe.handler")
    function({"do": "instance"})
    theirs = {user for pid in server.instances() for user in processes.users(pid)} - {0}
    assert theirs and all(60_000 <= user < 68_192 for user in theirs), theirs
    assert "the user nobody is 65534; choose other numbers with `users`" in server.log()
    assert "choose other numbers" not in fresh(config='users = "1200000000:1024"\n').log()


def test_a_terminal_of_the_machine_is_out_of_reach(hostile):
    assert attempt(hostile, "type_into_a_terminal") in ("ENXIO", "ENOENT", "EPERM", "EACCES")


def test_only_its_own_folder_can_be_written_to(hostile):
    assert ask(hostile, "writable") == []
    assert set(ask(hostile, "mounts")) <= {"/tmp", "/proc"}
    assert attempt(hostile, "make_a_device") in ("EPERM", "EACCES")
    for path in ("/var/task/x", "/usr/x", "/etc/passwd", "/var/runtime/python/bootstrap.py"):
        assert attempt(hostile, "write", path=path) in ("EROFS", "EACCES"), path


@pytest.mark.parametrize("path", ["/etc/passwd", "/var/task/walls.py", "/usr/bin/env", "/proc/self/environ"])
def test_nothing_gets_a_second_name(hostile, path):
    """No hard link leads out of /tmp, and what a symbolic one leads to is no more writable than before."""
    assert attempt(hostile, "link", path=path) in ("EXDEV", "EPERM", "EACCES")
    assert attempt(hostile, "link", path=path, symbolic=True) in ("EROFS", "EACCES", "EPERM")


@pytest.mark.parametrize("path", ["/var/task", "/etc", "/proc/1/root/tmp", "/dev"])
def test_a_link_that_changes_while_it_is_used_leads_nowhere_else(hostile, path):
    assert attempt(hostile, "swap_a_link", path=path) == "nothing"


def test_devices_are_few(hostile):
    few = ["fd", "full", "null", "random", "stderr", "stdin", "stdout", "tty", "urandom", "zero"]
    assert set(ask(hostile, "folder", path="/dev")) <= set(few)
    for name in ("null", "zero", "full"):
        assert attempt(hostile, "write", path=f"/dev/{name}") == ("ENOSPC" if name == "full" else "done")


def test_landlock_is_a_second_wall(hostile, landlock):
    """The file is its own and the mount is writable: nothing else would refuse."""
    if landlock < 2:
        pytest.skip("this kernel has no Landlock, or one that is too old")
    for name in ("comm", "oom_score_adj", "coredump_filter"):
        assert attempt(hostile, "write", path=f"/proc/self/{name}") == "EACCES"


@pytest.mark.parametrize(
    "path",
    [
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/memory/tasks",
        "/sys/kernel/uevent_helper",
        "/proc/self/uid_map",
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
    assert ask(hostile, "what_descriptors_are") == ["/dev/null", "pipe"]


def test_nobody_else_hears_its_signals(walled, hostile, landlock):
    for number in (9, 15, 19, 2):
        assert attempt(hostile, "signal_the_first_process", number=number) == ("EPERM" if landlock >= 6 else "still there")
    for pid in (walled.process.pid, os.getpid(), *walled.descendants()):
        assert attempt(hostile, "signal", pid=pid, number=9) in ("ESRCH", "EPERM"), pid
    assert attempt(hostile, "signal_all") in ("still there", "ESRCH", "EPERM")
    assert walled.process.poll() is None


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


def test_what_listens_on_the_machine_by_an_abstract_name_is_out_of_reach(walled, hostile):
    with socket.socket(socket.AF_UNIX) as mine:
        mine.bind("\0brooklet-walls")
        mine.listen()
        assert attempt(hostile, "abstract", name="brooklet-walls") == "ECONNREFUSED"
        assert "@brooklet-walls" not in ask(hostile, "abstract_names")


# ---- bombs ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bombed(walled):
    """Bombs take seconds: as root one mode is enough."""
    if walled.mode == "best-effort as root":
        pytest.skip("strict has the same limits")
    return walled


@pytest.fixture(scope="module")
def limited(bombed):
    """A server that limits memory and processes."""
    if "not limited here" in bombed.log():
        pytest.skip("an ordinary user has no control groups on this machine")
    return bombed


def test_files_end_at_lambdas_number(hostile):
    assert ask(hostile, "open_files")["error"] == "EMFILE"
    assert 900 < ask(hostile, "open_files")["opened"] < 1024


def test_processes_end_at_lambdas_number(limited):
    function = limited.deployer(packages.walls(), packages.PYTHON, "walls.handler", MemorySize=3008)
    assert 900 < ask(function, "forks") < 1024


def test_processes_are_also_counted_by_user_where_each_instance_is_one(walled, hostile):
    """The kernel refuses by this limit before it has copied a process, by that of a control group afterwards."""
    if walled.mode.endswith("user"):
        pytest.skip("an ordinary user has no other users to give")
    assert ask(hostile, "limit", name="RLIMIT_NPROC") == [1024, 1024]
    assert attempt(hostile, "lift_a_limit", name="RLIMIT_NPROC") == "EPERM"


def test_tmp_ends_at_its_size(bombed):
    function = bombed.deployer(
        packages.walls(), packages.PYTHON, "walls.handler", Timeout=60, EphemeralStorage={"Size": 600}
    )
    disk = ask(function, "disk")
    assert disk["error"] == "ENOSPC" and 590 <= disk["mib"] <= 600


def test_memory_that_is_not_its_own_ends_it_in_lambdas_words(limited):
    function = limited.deployer(packages.walls(), packages.PYTHON, "walls.handler", MemorySize=256)
    answer, log = function.tail({"try": "eat", "with": {"mib": 3000}})
    assert answer["FunctionError"] == "Unhandled"
    error = json.loads(answer["Payload"])
    assert error["errorType"] == "Runtime.OutOfMemory"
    assert re.fullmatch(r"RequestId: \S+ Error: Runtime exited with error: signal: killed", error["errorMessage"])
    assert "Status: error\tError Type: Runtime.OutOfMemory" in log
    assert int(re.search(r"Max Memory Used: (\d+) MB", log)[1]) >= 256
    assert function({"try": "eat", "with": {"mib": 20}}) == "done"


@pytest.fixture(scope="module")
def small(limited):
    """A function of 128 MiB, whose /tmp has four times as much."""
    return limited.deployer(packages.walls(), packages.PYTHON, "walls.handler", MemorySize=128, Timeout=30)


@pytest.mark.parametrize("trick, options", [("eat", {"mib": 10, "first_in_tmp": 400}), ("eat", {"mib": 70}), ("remember_many_files", {"count": 400_000})])
def test_what_lies_in_tmp_or_can_be_dropped_takes_no_memory_from_it(small, trick, options):
    answer, log = small.tail({"try": trick, "with": options})
    assert json.loads(answer["Payload"]) == "done", log
    assert int(re.search(r"Max Memory Used: (\d+) MB", log)[1]) <= 128


@pytest.mark.parametrize(
    "trick, options",
    [
        ("eat", {"mib": 300}),
        ("eat", {"mib": 300, "first_in_tmp": 300}),
        ("eat", {"mib": 160, "first_in_tmp": 100}),
        ("eat_what_looks_like_tmp", {"mib": 300}),
        ("move_from_tmp", {"mib": 300}),
    ],
    ids=["memory", "memory and tmp", "little of both", "a memfd", "from tmp"],
)
def test_the_size_of_tmp_is_no_memory(small, trick, options):
    answer, log = small.tail({"try": trick, "with": options})
    assert json.loads(answer["Payload"])["errorType"] == "Runtime.OutOfMemory", log
    assert int(re.search(r"Max Memory Used: (\d+) MB", log)[1]) >= 128


@pytest.mark.parametrize("bomb", ["fork_without_end", "spin", "flood_the_log"])
def test_a_bomb_ends_with_its_time_and_leaves_nothing(request, bombed, bomb):
    if bomb == "fork_without_end":
        request.getfixturevalue("limited")
    # Enough memory for a thousand processes: time is what is to end it.
    function = bombed.deployer(packages.walls(), packages.PYTHON, "walls.handler", Timeout=3, MemorySize=3008)
    neighbour = bombed.deployer(packages.python_probe(), packages.PYTHON, "probe.handler")
    assert neighbour({"do": "echo", "value": 1}) == 1
    before = set(bombed.descendants())
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        bombing = pool.submit(function.invoke, {"try": bomb})
        while not bombing.done():
            assert neighbour({"do": "echo", "value": 1}) == 1
    assert json.loads(bombing.result()["Payload"])["errorType"] == "Sandbox.Timedout"
    wait_until(lambda: not set(bombed.descendants()) - before, f"everything of {bomb} is gone", seconds=20)


@pytest.mark.parametrize("then", ["best-effort", "none"])
def test_nothing_is_left_after_kill_nine(tmp_path, then):
    server = servers.Server(tmp_path).start()
    deployer = aws.Deployer(aws.client(server), "walls")
    function = deployer(packages.python_probe(), packages.PYTHON, "probe.handler")
    function({"do": "children", "session": True})
    left = set(processes.descendants(server.process.pid))
    assert len(left) >= 3
    # Other servers may run on this machine, and have groups of their own.
    own = {name for pid in left for name in re.findall(r"brooklet-\w+", processes.cgroups_of(pid))}
    server.kill()
    wait_until(lambda: not any(processes.alive(pid) for pid in left), "the kernel has ended them all")
    with servers.Server(tmp_path, "--isolation", then):
        pass
    groups = processes.control_groups()
    assert not [group for group in groups if os.path.basename(group) in own], "the next start has cleared them away"


# ---- no walls ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["none as root", "none as user"])
def bare(request):
    """A server without walls."""
    with serving(request.param) as server:
        server.trusted = server.deployer(packages.walls(), packages.PYTHON, "walls.handler", Timeout=20)
        yield server


def test_without_walls_it_still_inherits_nothing_of_the_server(bare):
    assert ask(bare.trusted, "descriptors") == [0, 1, 2, 3, 4]
    assert ask(bare.trusted, "what_descriptors_are") == ["/dev/null", "pipe"]
    assert "BROOKLET_ENDPOINTS" in bare.env and ask(bare.trusted, "environment", name="BROOKLET_ENDPOINTS") is None
    assert "HOME" in bare.env and ask(bare.trusted, "environment", name="HOME") is None


def test_without_walls_it_still_gains_no_privilege_and_has_lambdas_number_of_files(bare):
    assert ask(bare.trusted, "status", names=["NoNewPrivs"])["NoNewPrivs"] == "1"
    assert ask(bare.trusted, "open_files")["error"] == "EMFILE"
    if bare.user:
        assert attempt(bare.trusted, "a_set_user_id_program") == "EPERM"


def test_without_walls_its_processes_still_end_with_it(bare):
    function = bare.deployer(packages.python_probe(), packages.PYTHON, "probe.handler")
    before = set(bare.descendants())
    function({"do": "children", "session": True})
    assert set(bare.descendants()) - before
    function.update(Description="another instance")
    wait_until(lambda: not set(bare.descendants()) - before, "all that it started is gone")


def test_without_walls_there_are_none(bare):
    """What the mode is for: plain processes, of functions that are trusted."""
    status = ask(bare.trusted, "status", names=["Uid", "Seccomp"])
    assert status["Uid"].split() == [str(bare.user or 0)] * 4 and status["Seccomp"] == "0"
    theirs = ask(bare.trusted, "namespaces")
    assert {name: os.readlink(f"/proc/self/ns/{name}") for name in theirs} == theirs
    assert attempt(bare.trusted, "signal", pid=bare.process.pid) == "done"
    assert attempt(bare.trusted, "list", path=str(bare.data_dir)) == "done"
    assert attempt(bare.trusted, "write", path="/proc/self/comm") == "done"
    assert bare.process.pid in ask(bare.trusted, "processes")


# ---- modes ---------------------------------------------------------------------------------------------------


def test_strict_refuses_where_best_effort_says_what_is_missing(walled):
    if "not limited here" not in walled.log():
        assert "landlock" not in walled.log().lower(), "nothing is missing here"
        pytest.skip("this user has everything on this machine")
    folder = servers.open_folder()
    with pytest.raises(AssertionError) as refused:
        servers.Server(folder, "--isolation", "strict", user=NOBODY).start()
    shutil.rmtree(folder)
    assert "isolation is strict" in str(refused.value) and "no control group to be had" in str(refused.value)
