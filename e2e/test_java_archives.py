"""Class-data archives of Java functions: made after the first start, mapped by the next JVMs, gone with the code."""

import pathlib

import pytest

from harness import aws, packages, processes
from harness.processes import wait_until

HANDLER = "example.Probe::handleRequest"
MADE, IN_VAIN = "a class-data archive was made", "no class-data archive"
JVMS = {"17": "/usr/lib/jvm/java-17-openjdk-amd64", "25": "/usr/lib/jvm/temurin-25-jdk-amd64"}


def deployer(server):
    return aws.Deployer(aws.client(server), "archives")


def package(**more):
    """The probe; other files make it another package."""
    root = packages.rig("java")
    return packages.zip_of({"": root / "classes", "lib": root / "lib", **more})


def archives(server):
    return sorted(server.data_dir.glob("code/*.jvm/*/archive"))


def until(server, words, times=1):
    wait_until(lambda: server.log().count(words) >= times, f"{words!r} in the server's log", 120)


def mapped(server):
    """Of each JVM of an instance, whether it has mapped an archive."""
    jvms = [pid for pid in server.descendants() if "AWSLambda" in processes.command(pid)]
    return ["/var/sdk/jvm/archive" in pathlib.Path(f"/proc/{pid}/maps").read_text() for pid in jvms]


def in_training(server):
    own = processes.descendants(server.process.pid)
    return [pid for pid in own if "/bin/java" in processes.command(pid) and "AtExit" in processes.command(pid)]


def restart_instances(function):
    function.update(Description=function.client.get_function(FunctionName=function.name)["Configuration"]["RevisionId"])


def trained(server, function):
    """The answer of a function's first start, and the archive that was made after it."""
    before = server.log().count(MADE)
    answer = function({"do": "echo", "value": {"a": [1]}})
    until(server, MADE, before + 1)
    return answer


@pytest.mark.parametrize("version", JVMS)
def test_the_first_start_makes_an_archive_and_the_next_jvm_maps_it(fresh, version):
    program = pathlib.Path(JVMS[version]) / "bin/java"
    if not program.exists():
        pytest.skip(f"there is no {program}")
    server = fresh(env={"BROOKLET_JAVA": str(program)})
    function = deployer(server)(package(), f"java{version}", HANDLER, MemorySize=512)
    assert trained(server, function) == {"a": [1]}
    assert len(archives(server)) == 1 and mapped(server) == [False]
    restart_instances(function)
    # The archive was made of the same command line, but not of the same variables.
    function.update(Environment={"Variables": {"COLOUR": "blue"}})
    names = ["COLOUR", "_HANDLER", "BROOKLET_TRAINING", "ARCHIVE"]
    assert function({"do": "env", "names": names}) == {"COLOUR": "blue", "_HANDLER": HANDLER}  # no null is serialised
    assert function({"do": "instance"})["count"] == 2
    wait_until(lambda: mapped(server) == [True], "only the new JVM, with its archive")
    assert function.error({"do": "fail", "message": "no"})["errorMessage"] == "no"
    assert not (server.data_dir / "run/training").exists()


def test_with_snap_start_the_archive_is_made_at_publish_and_the_first_request_maps_it(fresh):
    server = fresh()
    function = deployer(server)(
        package(), "java17", HANDLER, MemorySize=512, SnapStart={"ApplyOn": "PublishedVersions"}
    )
    latest = function.client.get_function_configuration(FunctionName=function.name)
    assert latest["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    published = function.client.publish_version(FunctionName=function.name)
    assert published["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
    until(server, MADE)
    wait_until(lambda: not mapped(server), "nobody has called, so no instance is kept")
    names = {"do": "env", "names": ["AWS_LAMBDA_INITIALIZATION_TYPE"]}
    assert function(names, Qualifier=published["Version"]) == {"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}
    assert mapped(server) == [True]
    code, status, _ = aws.refusal(
        function.client.put_provisioned_concurrency_config,
        FunctionName=function.name,
        Qualifier=published["Version"],
        ProvisionedConcurrentExecutions=1,
    )
    assert (code, status) == ("InvalidParameterValueException", 400)


def test_new_code_has_an_archive_of_its_own_and_a_deleted_function_none(fresh):
    server = fresh()
    function = deployer(server)(package(), "java17", HANDLER, MemorySize=512)
    trained(server, function)
    first = archives(server)
    function.client.update_function_code(FunctionName=function.name, ZipFile=package(**{"new.txt": "new"}))
    trained(server, function)
    assert len(archives(server)) == 2
    # A server sweeps when it starts, and later every ten minutes.
    server.stop()
    server.start()
    wait_until(lambda: len(archives(server)) == 1 and archives(server) != first, "the new code's archive only")
    function.client = aws.client(server)
    restart_instances(function)
    assert function({"do": "echo", "value": 1}) == 1
    wait_until(lambda: mapped(server) == [True], "one JVM, with its archive")
    function.client.delete_function(FunctionName=function.name)
    server.stop()
    server.start()
    wait_until(lambda: not list(server.data_dir.glob("code/*.jvm")), "no archive")


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_server_that_ends_during_a_training_run_leaves_nothing(fresh, end):
    server = fresh()
    function = deployer(server)(package(), "java17", HANDLER, MemorySize=512)
    assert function({"do": "echo", "value": 1}) == 1
    wait_until(lambda: in_training(server), "a training run", 60)
    of_the_run = in_training(server)
    getattr(server, end)()
    wait_until(lambda: not any(map(processes.alive, of_the_run)), "the end of the training run")
    assert archives(server) == []
    server.start()
    function.client = aws.client(server)
    assert not (server.data_dir / "run/training").exists()
    trained(server, function)
    assert len(archives(server)) == 1


@pytest.mark.parametrize("damage", ["cut off", "garbled", "other bytes"])
def test_a_function_is_right_whatever_its_archive_holds(fresh, damage):
    server = fresh()
    function = deployer(server)(package(), "java17", HANDLER, MemorySize=512)
    trained(server, function)
    [archive] = archives(server)
    whole = archive.read_bytes()
    third = len(whole) // 3
    archive.unlink()  # another file: the JVM that made it may still be there
    archive.write_bytes(
        {
            "cut off": whole[:third],
            "garbled": whole[:third] + bytes(byte ^ 0x5A for byte in whole[third : 2 * third]) + whole[2 * third :],
            "other bytes": b"no archive at all",
        }[damage]
    )
    restart_instances(function)
    assert function({"do": "echo", "value": 2}) == 2
    if damage != "other bytes":  # which the JVM itself sees
        assert "going on without" in server.log()
        wait_until(lambda: archives(server) == [], "the damaged archive is gone")
    restart_instances(function)
    assert function({"do": "echo", "value": 3}) == 3


def test_who_wants_no_training_run_has_none(fresh):
    server = fresh()
    deploy = deployer(server)
    own = {"Environment": {"Variables": {"JAVA_TOOL_OPTIONS": "-Xshare:off"}}}
    without = deploy(package(), "java17", HANDLER, MemorySize=512, **own)
    assert without({"do": "echo", "value": 1}) == 1
    # Requests for runs are kept in order: that of the second function would come after one of the first.
    trained(server, deploy(package(**{"other.txt": "x"}), "java17", HANDLER, MemorySize=512))
    assert server.log().count(MADE) == 1 and IN_VAIN not in server.log()


def test_a_package_that_an_archive_would_change_is_told_in_the_log_and_runs_as_ever(fresh):
    server = fresh()
    service = "META-INF/services/a.Service"
    double = package(**{service: "a.B", "lib/x.jar": packages.zip_of({service: "a.C"})})
    function = deployer(server)(double, "java17", HANDLER, MemorySize=512)
    assert function({"do": "echo", "value": 1}) == 1
    until(server, "META-INF/services/a.Service is both in the package and in x.jar")
    restart_instances(function)
    assert function({"do": "echo", "value": 2}) == 2
    assert archives(server) == [] and server.log().count(IN_VAIN) == 1


def test_a_server_may_be_told_to_make_none(fresh):
    server = fresh(config="training-runs = false\n")
    function = deployer(server)(package(), "java17", HANDLER, MemorySize=512)
    assert function({"do": "echo", "value": 1}) == 1
    restart_instances(function)
    assert function({"do": "echo", "value": 2}) == 2
    wait_until(lambda: mapped(server) == [False], "one JVM, without an archive")
    assert MADE not in server.log() and not (server.data_dir / "run/training").exists()
