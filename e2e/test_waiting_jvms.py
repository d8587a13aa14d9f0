"""JVMs that wait for their function: what a function sees in one is what it sees in one that was started for it."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal

import pytest

from harness import aws, packages, processes, rigs
from harness.processes import wait_until

CAN_WAIT = "JVMs can wait for functions from now on"
JVMS = {"17": "/usr/lib/jvm/java-17-openjdk-amd64", "25": "/usr/lib/jvm/temurin-25-jdk-amd64"}
MIRROR = "example.Mirror"
MARK = ["words.txt", "META-INF/services/java.util.function.Supplier"]


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
    return [pid for pid in server.descendants() if "brooklet.Stem" in processes.command(pid) and is_jvm(pid)]


def is_jvm(pid):
    return pathlib.Path(f"/proc/{pid}/exe").readlink().name == "java"


def waits(pid):
    """Whether it is blocked in a read of descriptor 3, where it is told its function (x86-64)."""
    with contextlib.suppress(OSError):  # a thread has ended meanwhile
        threads = pathlib.Path(f"/proc/{pid}/task").iterdir()
        return any((task / "syscall").read_text().startswith("0 0x3 ") for task in threads)
    return False


def until_one_waits(server):
    return wait_until(lambda: [pid for pid in booted(server) if waits(pid)], "a JVM that waits", 90)


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
        variables = seen["variables"]
        assert seen.pop("a child's") == sorted(f"{name}={value}" for name, value in variables.items())
        assert variables.pop("AWS_LAMBDA_LOG_STREAM_NAME")
        properties = seen["properties"]
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
    assert taken == started


def test_two_instances_have_nothing_random_in_common(server):
    server = server()
    function = deployer(server)(package(), "java17", MIRROR, MemorySize=512)
    cold(function, {"do": "random"})
    drawn = []
    for _ in range(3):
        until_one_waits(server)
        answer, waited = cold(function, {"do": "random"})
        assert waited
        drawn.append(answer)
    for what in drawn[0]:
        values = [str(one[what]) for one in drawn]
        assert len(set(values)) == len(values), (what, values)
