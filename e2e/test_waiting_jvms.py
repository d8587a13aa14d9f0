"""JVMs that wait for their function: what a function sees in one is what it sees in one that was started for it."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal

import pytest

from harness import aws, packages, processes, rigs
from harness import server as servers
from harness.processes import wait_until

JVMS = {"17": "/usr/lib/jvm/java-17-openjdk-amd64", "25": "/usr/lib/jvm/temurin-25-jdk-amd64"}
MIRROR = "example.Mirror"
PROBE = "example.Probe::handleRequest"


@pytest.fixture
def server(fresh):
    def start(java="17", **more):
        program = pathlib.Path(JVMS[java]) / "bin/java"
        if not program.exists():
            pytest.skip(f"there is no {program}")
        server = fresh(env={"BROOKLET_JAVA": str(program)}, **more)
        shutil.copytree(rigs.rig("java") / "lib", server.data_dir / "runtimes/java/lib")
        return server

    return start


def deployer(server):
    return aws.Deployer(aws.client(server), "jvms")


def package(**more):
    """The mirror, a library, a jar beside it, and no client."""
    libraries = (rigs.rig("java") / "lib").glob("*.jar")
    wanted = {f"lib/{jar.name}": jar for jar in libraries if "-java-core-" in jar.name or "-events-" in jar.name}
    library = {"in/jar.txt": "x", "META-INF/services/java.util.function.Supplier": "example.Service\n"}
    return packages.zip_of(
        {
            "": rigs.rig("java") / "classes",
            "words.txt": "words",
            "lib/own.jar": packages.zip_of(library),
            "beside.jar": packages.zip_of({"beside/jar.txt": "x"}),
            **wanted,
            **more,
        }
    )


def booted(server):
    """JVMs that wait, or are instances that have waited."""
    return [pid for pid in processes.descendants(server.process.pid) if "brooklet.Stem" in processes.command(pid) and is_jvm(pid)]


def is_jvm(pid):
    return pathlib.Path(f"/proc/{pid}/exe").readlink().name == "java"


def waits(pid):
    """Whether it is blocked in a read of descriptor 3, where it is told its function (x86-64)."""
    with contextlib.suppress(OSError):  # a thread has ended meanwhile
        threads = pathlib.Path(f"/proc/{pid}/task").iterdir()
        return any((task / "syscall").read_text().startswith("0 0x3 ") for task in threads)
    return False


def until_one_waits(server):
    """JVMs that wait for functions of 512 MB."""
    ours = lambda pid: "-Xmx435m" in processes.command(pid) and waits(pid)  # noqa: E731
    return wait_until(lambda: [pid for pid in booted(server) if ours(pid)], "a JVM that waits", 90)


def restart_instances(function):
    revision = function.client.get_function(FunctionName=function.name)["Configuration"]["RevisionId"]
    function.update(Description=revision)


def cold(function, event, **more):
    """The answer of an instance that is started for it, and whether its JVM had waited."""
    restart_instances(function)
    answer, log = function.tail(event, **more)
    report = next(line for line in log.splitlines() if line.startswith("REPORT"))
    assert "Cold Start" in report
    return json.loads(answer["Payload"]), "(waited)" in report


@pytest.mark.parametrize("java", JVMS)
def test_a_function_sees_the_same_in_a_jvm_that_waited(server, java):
    server = server(java)
    own = {"COLOUR": "blue", "TZ": "Europe/Paris", "NAME": "Zoë \N{SNOWMAN}", "EMPTY": ""}
    settings = {"MemorySize": 512, "Timeout": 60, "EphemeralStorage": {"Size": 700}}
    function = deployer(server)(package(), f"java{java}", MIRROR, Environment={"Variables": own}, **settings)
    started, waited = cold(function, {"do": "look"})
    assert not waited
    until_one_waits(server)
    taken, waited = cold(function, {"do": "look"})
    assert waited
    assert taken["variables"]["COLOUR"] == "blue" and taken["a native program's"] == [f"blue {MIRROR} Europe/Paris"]
    for seen in (started, taken, started["initialised"], taken["initialised"]):
        # Jars are opened when a class is first looked for in them.
        seen["files open"] = [file for file in seen["files open"] if not file.endswith(".jar")]
        variables = seen["variables"]
        stream = f"AWS_LAMBDA_LOG_STREAM_NAME={variables.pop('AWS_LAMBDA_LOG_STREAM_NAME')}"
        seen["a child's"].remove(stream)
        properties = seen["properties"]
        properties.pop("com.amazonaws.xray.traceHeader", None)  # a request's own
        # The installed client comes before the package, as on Lambda.
        path = properties.pop("java.class.path").split(":")
        properties["java.class.path"] = sorted(jar for jar in path if "launcher" not in jar and jar != "/opt/java/lib/*")
        for name in ("sun.java.command", "com.amazonaws.services.lambda.runtime.api.client.runtimeapi.NativeClient.JNI"):
            properties.pop(name, None)
    # The client unpacks its library with each start.
    for seen in (started, started["initialised"]):
        assert seen.pop("files in /tmp") == [".libaws-lambda-jni.so"]
    for seen in (taken, taken["initialised"]):
        assert seen.pop("files in /tmp") == []
    # On JDK 25 the connection over which the rehearsal told of its error may still be open.
    for one, other in ((taken, started), (taken["initialised"], started["initialised"])):
        if java == "25" and one["files open"].count("socket:") == other["files open"].count("socket:") + 1:
            one["files open"].remove("socket:")
    for what in taken:
        assert taken[what] == started[what], f"{what}: {taken[what]} and not {started[what]}"
    assert taken.keys() == started.keys()


@pytest.fixture(scope="module")
def waiting(tmp_path_factory):
    """A server on which JVMs of 512 MB wait, and what deploys there."""
    folder = tmp_path_factory.mktemp("waiting")
    one = servers.Server(folder, env={"BROOKLET_JAVA": f"{JVMS['17']}/bin/java"})
    shutil.copytree(rigs.rig("java") / "lib", one.data_dir / "runtimes/java/lib")
    one.start()
    try:
        deploy = deployer(one)
        deploy(package(), "java17", PROBE, MemorySize=512)({"do": "echo", "value": 1})
        until_one_waits(one)
        yield one, deploy
    finally:
        one.stop()


def in_both(server, function, event, invoke):
    """What `invoke` gives in an instance that was started for the function, and in a JVM that had waited."""
    both = []
    for options in ({"JAVA_TOOL_OPTIONS": "-Dstarted=for-it"}, {}):
        function.update(Environment={"Variables": options | function.variables})
        until_one_waits(server)
        both.append(invoke(event))
    return both


def test_two_instances_have_nothing_random_in_common(waiting):
    server, deploy = waiting
    function = deploy(package(), "java17", MIRROR, MemorySize=512)
    drawn = []
    for _ in range(3):
        until_one_waits(server)
        answer, waited = cold(function, {"do": "random"})
        assert waited
        drawn.append(answer)
    for what in drawn[0]:
        values = [str(one[what]) for one in drawn]
        assert len(set(values)) == len(values), (what, values)


@pytest.mark.parametrize(
    "handler, event, variables",
    [
        ("example.Probe", {"do": "fail", "message": "no"}, {}),
        ("example.Probe", {"do": "echo"}, {"PROBE_INIT": "fail"}),
        ("example.Nobody", {}, {}),
        ("example.Mirror", {"do": "eat"}, {}),
        ("example.Probe", {"do": "exit", "code": 7}, {}),
    ],
)
def test_errors_are_told_as_ever(waiting, handler, event, variables):
    server, deploy = waiting
    function = deploy(package(), "java17", handler, MemorySize=512)
    function.variables = variables
    started, waited = in_both(server, function, event, function.error)
    for error in (started, waited):
        error["errorMessage"] = re.sub(r"[0-9a-f-]{36} ", "", error["errorMessage"])
    assert waited == started


def test_a_serialiser_of_the_functions_own_is_used(waiting):
    server, deploy = waiting
    service = {"META-INF/services/com.amazonaws.services.lambda.runtime.CustomPojoSerializer": "example.OwnJson\n"}
    function = deploy(package(**service), "java17", PROBE, MemorySize=512)
    until_one_waits(server)
    answer, waited = cold(function, {})
    assert (answer, waited) == ("read by its own serialiser, and written", True)


def test_functions_that_need_another_jvm_or_client_have_theirs(waiting):
    server, deploy = waiting
    client = next((rigs.rig("java") / "lib").glob("*-interface-client-*.jar"))
    same = deploy(package(**{f"lib/{client.name}": client}), "java17", PROBE, MemorySize=512)
    until_one_waits(server)
    assert cold(same, {"do": "echo", "value": 1}) == (1, True)
    until_one_waits(server)
    # A comment at the end of a zip is no part of its entries, but it is another file.
    content = bytearray(client.read_bytes())
    content[-2:] = b"\x01\x00"
    other = deploy(package(**{f"lib/{client.name}": bytes(content) + b"."}), "java17", PROBE, MemorySize=512)
    assert cold(other, {"do": "echo", "value": 2}) == (2, False)
    own = {"Environment": {"Variables": {"JAVA_TOOL_OPTIONS": "-Down=1"}}}
    assert cold(deploy(package(), "java17", PROBE, MemorySize=512, **own), {"do": "echo", "value": 3}) == (3, False)
    larger = deploy(package(), "java17", PROBE, MemorySize=1024)
    assert cold(larger, {"do": "echo", "value": 4}) == (4, False), "a JVM's heap has its size from the beginning"


def test_a_jvm_that_is_killed_while_it_waits_costs_nobody_anything(waiting):
    server, deploy = waiting
    function = deploy(package(), "java17", PROBE, MemorySize=512)
    for pid in until_one_waits(server):
        os.kill(pid, signal.SIGKILL)
    answer, _ = cold(function, {"do": "echo", "value": 1})
    assert answer == 1
    until_one_waits(server)
    assert cold(function, {"do": "echo", "value": 2}) == (2, True)


def test_a_jvm_that_ends_before_it_has_heard_of_its_function_costs_nobody_anything(waiting):
    server, deploy = waiting
    function = deploy(package(), "java17", PROBE, MemorySize=512)
    stopped = until_one_waits(server)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(cold, function, {"do": "echo", "value": 1})
        told = lambda: [pid for pid in stopped if processes.unread(pid)]  # noqa: E731
        for pid in wait_until(told, "one of them has been told its function"):
            os.kill(pid, signal.SIGKILL)
        assert answer.result() == (1, False)


def test_a_version_that_is_published_or_provisioned_may_be_in_a_jvm_that_waited(waiting):
    server, deploy = waiting
    function = deploy(package(), "java17", PROBE, MemorySize=512, SnapStart={"ApplyOn": "PublishedVersions"})
    until_one_waits(server)
    event = {"do": "env", "names": ["AWS_LAMBDA_INITIALIZATION_TYPE"]}
    version = function.client.publish_version(FunctionName=function.name)["Version"]
    assert function(event, Qualifier=version) == {"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}
    other = deploy(package(), "java17", PROBE, MemorySize=512)
    version = other.client.publish_version(FunctionName=other.name)["Version"]
    until_one_waits(server)
    at = {"FunctionName": other.name, "Qualifier": version}
    other.client.put_provisioned_concurrency_config(**at, ProvisionedConcurrentExecutions=1)
    ready = lambda: other.client.get_provisioned_concurrency_config(**at)["Status"] == "READY"  # noqa: E731
    wait_until(ready, "a provisioned instance", 60)
    assert other(event, Qualifier=version) == {"AWS_LAMBDA_INITIALIZATION_TYPE": "provisioned-concurrency"}
    other.client.delete_provisioned_concurrency_config(**at)


def have_written(pid):
    """Has a JVM write to its output, which it does on SIGQUIT: all its threads. Waits until it has."""

    def look():
        """Bytes written so far, and whether the thread that does so waits for another signal (x86-64)."""
        tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
        (writer,) = [task for task in tasks if (task / "comm").read_text().startswith("Signal Dispatch")]
        written = int(re.search(r"wchar: (\d+)", pathlib.Path(f"/proc/{pid}/io").read_text())[1])
        return written, (writer / "syscall").read_text().startswith("202 ")

    before, _ = look()
    os.kill(pid, signal.SIGQUIT)
    seen = [(before, False)]

    def done():
        seen.append(look())
        return seen[-1] == seen[-2] and seen[-1][1] and seen[-1][0] > before + 2_000

    wait_until(done, "it has written", 30)


def log_of(server, function):
    return servers.run("logs", function.name, env={"BROOKLET_SERVER": server.url}).stdout


def test_a_jvm_that_waited_stands_still_between_invocations(server):
    server = server(config='freeze-after = "200ms"\n')
    deploy = deployer(server)
    function, clock = (deploy(package(), "java17", PROBE, MemorySize=size) for size in (512, 1024))
    function({"do": "count"})
    until_one_waits(server)
    before = {*server.instances()}
    assert cold(function, {"do": "count"})[1], "it waited"
    (first,) = {*server.instances()} - before
    clock({"do": "count"})
    inside = processes.descendants(first)
    for _ in range(2):
        # What is called all the time runs on, and tells how long something lasts.
        counted = function({"do": "count"})
        end = clock({"do": "count"}) + 200
        wait_until(lambda end=end: clock({"do": "count"}) >= end, "two seconds go by", 60)
        assert inside and all(map(processes.is_frozen, inside))
        assert function({"do": "count"}) - counted < 60, "as often as until it froze"
        now = function({"do": "count"})
        wait_until(lambda now=now: function({"do": "count"}) > now + 5, "it goes on", 60)


def test_when_its_time_is_up_an_instance_that_waited_goes_and_so_do_jvms_that_wait(server):
    server = server(config='idle-timeout = "3s"\n')
    function = deployer(server)(package(), "java17", PROBE, MemorySize=512)
    function({"do": "echo", "value": 1})
    until_one_waits(server)
    assert cold(function, {"do": "echo", "value": 1}) == (1, True)
    until_one_waits(server)
    own = {*processes.descendants(server.process.pid)}
    assert own
    gone = lambda: not any(map(processes.alive, own)) and not processes.descendants(server.process.pid)  # noqa: E731
    wait_until(gone, lambda: f"all have ended: {[processes.command(pid) for pid in own if processes.alive(pid)]}", 60)
    assert cold(function, {"do": "echo", "value": 2})[0] == 2


def test_what_a_jvm_writes_while_it_waits_is_nobodys_and_lines_of_two_functions_do_not_mix(waiting):
    server, deploy = waiting
    functions = [deploy(package(), "java17", PROBE, MemorySize=512) for _ in range(3)]
    for number, function in enumerate(functions):
        for pid in until_one_waits(server):
            have_written(pid)
        assert cold(function, {"do": "log", "lines": [f"of {number}"]})[1], "it waited"
    for _ in range(3):
        for number, function in enumerate(functions):
            function({"do": "log", "lines": [f"of {number}"]})
    for number, function in enumerate(functions):
        wait_until(lambda f=function, n=number: log_of(server, f).count(f"of {n}\n") >= 4, "all its lines are there", 30)
        log = log_of(server, function)
        assert "Full thread dump" not in log
        others = [other for other in range(len(functions)) if other != number and f"of {other}\n" in log]
        assert not others, log
