"""Provisioned concurrency: instances that are there before any request, stay, and are there again."""

import concurrent.futures
import json
import os
import signal

import pytest

from harness import aws, packages
from harness.gate import Gate
from harness.processes import wait_until
from harness.server import run

INVALID = "InvalidParameterValueException"
TYPE = {"do": "env", "names": ["AWS_LAMBDA_INITIALIZATION_TYPE"]}


class Provided:
    """A function with versions and what is provisioned of it."""

    def __init__(self, function):
        self.function, self.client, self.name = function, function.client, function.name

    def publish(self, **variables):
        if variables:
            self.function.update(Environment={"Variables": variables})
        return self.client.publish_version(FunctionName=self.name)["Version"]

    def alias(self, name, version, **more):
        call = self.client.create_alias
        if name in [alias["Name"] for alias in self.client.list_aliases(FunctionName=self.name)["Aliases"]]:
            call = self.client.update_alias
        return call(FunctionName=self.name, Name=name, FunctionVersion=version, **more)

    def put(self, qualifier, count):
        return self.client.put_provisioned_concurrency_config(
            FunctionName=self.name, Qualifier=qualifier, ProvisionedConcurrentExecutions=count
        )

    def get(self, qualifier):
        return self.client.get_provisioned_concurrency_config(FunctionName=self.name, Qualifier=qualifier)

    def delete(self, qualifier):
        self.client.delete_provisioned_concurrency_config(FunctionName=self.name, Qualifier=qualifier)

    def ready(self, qualifier):
        return wait_until(lambda: (got := self.get(qualifier))["Status"] == "READY" and got, f"{qualifier} is ready")

    def refused(self, qualifier, count=1):
        code, status, message = aws.refusal(self.put, qualifier, count)
        return code, status, message


@pytest.fixture
def provided(deploy):
    return Provided(deploy(packages.python_probe(), packages.PYTHON, "probe.handler"))


@pytest.fixture
def own(fresh):
    """A server of its own with a function, to count instances on and to kill."""
    server = fresh()
    deployer = aws.Deployer(aws.client(server), "provided")
    return server, Provided(deployer(packages.python_probe(), packages.PYTHON, "probe.handler"))


def test_instances_are_there_before_any_request_and_are_used_first_without_a_cold_start(own):
    server, provided = own
    version = provided.publish()
    put = provided.put(version, 2)
    assert put["Status"] == "IN_PROGRESS" and put["RequestedProvisionedConcurrentExecutions"] == 2
    ready = provided.ready(version)
    assert ready["AllocatedProvisionedConcurrentExecutions"] == ready["AvailableProvisionedConcurrentExecutions"] == 2
    assert "StatusReason" not in ready and ready["LastModified"] == put["LastModified"]
    assert len(server.instances()) == 2, "and nobody has called yet"
    answer, log = provided.function.tail(TYPE, Qualifier=version)
    assert json.loads(answer["Payload"]) == {"AWS_LAMBDA_INITIALIZATION_TYPE": "provisioned-concurrency"}
    assert "REPORT" in log and "Init Duration" not in log, "nobody pays for it"
    with Gate() as gate, concurrent.futures.ThreadPoolExecutor(3) as pool:
        hold = {"do": "hold", "url": gate.url}
        held = [pool.submit(provided.function.tail, hold, Qualifier=version) for _ in range(3)]
        gate.wait_for(3)
        gate.open()
        logs = [h.result()[1] for h in held]
    assert sum("Init Duration" in log for log in logs) == 1, "the third was started on demand"
    assert f"{version}: 2 of 2 ready" in run("show", provided.name, env={"BROOKLET_SERVER": server.url}).stdout
    lines = run("logs", provided.name, env={"BROOKLET_SERVER": server.url}).stdout
    assert lines.count("Status: success\tProvisioned concurrency") == 2, lines


def test_others_are_started_on_demand_and_go_while_provisioned_ones_stay(fresh):
    server = fresh(config='idle-timeout = "1s"\n')
    deployer = aws.Deployer(aws.client(server), "stay")
    provided = Provided(deployer(packages.python_probe(), packages.PYTHON, "probe.handler"))
    version = provided.publish()
    provided.put(version, 1)
    provided.ready(version)
    first = provided.function({"do": "instance"}, Qualifier=version)
    assert provided.function(TYPE) == {"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}, "of $LATEST there is none"
    wait_until(lambda: len(server.instances()) == 1, "the one on demand is gone")
    again = provided.function({"do": "instance"}, Qualifier=version)
    assert (again["id"], again["count"]) == (first["id"], 2)


def test_one_that_is_killed_is_replaced(own):
    server, provided = own
    version = provided.publish()
    provided.put(version, 1)
    provided.ready(version)
    before = provided.function({"do": "instance"}, Qualifier=version)["id"]
    (pid,) = server.instances()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.instances() not in ([], [pid]), "another is there")
    provided.ready(version)
    after = provided.function({"do": "instance"}, Qualifier=version)
    assert after["id"] != before and after["count"] == 1


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_they_are_there_again_after_the_server_was(own, how):
    server, provided = own
    version = provided.publish()
    provided.alias("live", version)
    provided.put("live", 2)
    provided.ready("live")
    getattr(server, how)()
    server.start()
    again = Provided(aws.Function(aws.client(server), provided.name))
    assert again.ready("live")["AllocatedProvisionedConcurrentExecutions"] == 2
    assert len(server.instances()) == 2
    assert again.function(TYPE, Qualifier="live") == {"AWS_LAMBDA_INITIALIZATION_TYPE": "provisioned-concurrency"}


def test_they_follow_an_alias_that_moves_and_are_shared_out_by_its_weights(own):
    server, provided = own
    one, two = provided.publish(PROBE="1"), provided.publish(PROBE="2")
    provided.alias("live", one)
    provided.put("live", 2)
    provided.ready("live")
    provided.alias("live", two)
    provided.ready("live")
    asked = {"do": "env", "names": ["AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE"]}
    expected = {"AWS_LAMBDA_FUNCTION_VERSION": two, "AWS_LAMBDA_INITIALIZATION_TYPE": "provisioned-concurrency"}
    assert provided.function(asked, Qualifier="live") == expected
    wait_until(lambda: len(server.instances()) == 2, "those of the other version are gone")
    provided.alias("live", two, RoutingConfig={"AdditionalVersionWeights": {one: 0.5}})
    provided.ready("live")
    types = {v: provided.function(asked, Qualifier=v)["AWS_LAMBDA_INITIALIZATION_TYPE"] for v in (one, two)}
    assert set(types.values()) == {"provisioned-concurrency"}, types


def test_they_go_with_their_configuration_alias_version_and_function(own):
    server, provided = own
    one, two, three = (provided.publish(PROBE=name) for name in "123")
    provided.alias("live", one)
    for qualifier in ("live", two, three):
        provided.put(qualifier, 1)
    for qualifier in ("live", two, three):
        provided.ready(qualifier)
    assert len(server.instances()) == 3
    provided.delete(three)
    wait_until(lambda: len(server.instances()) == 2, "those of the configuration are gone")
    provided.client.delete_function(FunctionName=provided.name, Qualifier=two)
    wait_until(lambda: len(server.instances()) == 1, "those of the version are gone")
    provided.client.delete_alias(FunctionName=provided.name, Name="live")
    wait_until(lambda: not server.instances(), "those of the alias are gone")
    assert provided.client.list_provisioned_concurrency_configs(FunctionName=provided.name)[
        "ProvisionedConcurrencyConfigs"
    ] == []
    provided.put(one, 1)
    provided.ready(one)
    provided.client.delete_function(FunctionName=provided.name)
    wait_until(lambda: not server.instances(), "those of the function are gone")


def test_an_initialisation_that_fails_is_told_with_its_reason_and_tried_again(provided):
    version = provided.publish(PROBE_INIT="fail")
    provided.put(version, 1)
    failed = wait_until(lambda: (got := provided.get(version))["Status"] == "FAILED" and got, "it has failed")
    reason = "FUNCTION_ERROR_INIT_FAILURE: ValueError: the probe was told to fail"
    assert failed["StatusReason"] == reason and failed["AvailableProvisionedConcurrentExecutions"] == 0
    assert provided.put(version, 2)["Status"] == "IN_PROGRESS"
    provided.delete(version)


def test_what_the_machine_has_no_memory_for_is_told_and_requests_still_run(fresh):
    # As much is left free as the machine has, so there are 256 MiB for instances: room for some and for one more start.
    server = fresh(config='memory-reserve = "1000GiB"\n')
    deployer = aws.Deployer(aws.client(server), "full")
    provided = Provided(deployer(packages.python_probe(), packages.PYTHON, "probe.handler"))
    version = provided.publish()
    provided.put(version, 100)
    failed = wait_until(lambda: (got := provided.get(version))["Status"] == "FAILED" and got, "it has failed", 60)
    assert "no memory or descriptors left" in failed["StatusReason"]
    assert 0 < failed["AvailableProvisionedConcurrentExecutions"] < 100
    assert provided.function(TYPE) == {"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}


def test_what_is_provisioned_comes_out_of_the_reservation_and_starves_what_is_not(provided):
    version = provided.publish()
    client, name = provided.client, provided.name
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    assert provided.refused(version, 2) == (
        INVALID,
        400,
        "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
    )
    provided.put(version, 1)
    provided.ready(version)
    code, _, _ = aws.refusal(client.invoke, FunctionName=name)
    assert code == "TooManyRequestsException", "nothing is left for $LATEST"
    assert provided.function({"do": "echo", "value": 1}, Qualifier=version) == 1
    refused = aws.refusal(client.put_function_concurrency, FunctionName=name, ReservedConcurrentExecutions=0)
    assert refused[0] == INVALID and "should not be lower than function's total provisioned concurrency [1]" in refused[2]
    client.delete_function_concurrency(FunctionName=name)
    assert provided.function({"do": "echo", "value": 2}) == 2
    provided.delete(version)


def test_what_is_provisioned_leaves_a_hundred_to_others_and_is_told_as_taken(provided):
    version = provided.publish()
    account = provided.client.get_account_settings()["AccountLimit"]
    code, status, message = provided.refused(version, account["UnreservedConcurrentExecutions"] - 99)
    assert (code, status) == (INVALID, 400)
    assert "decreases account's UnreservedConcurrentExecution below its minimum value of [100]" in message
    provided.put(version, 2)
    after = provided.client.get_account_settings()["AccountLimit"]
    assert after["UnreservedConcurrentExecutions"] == account["UnreservedConcurrentExecutions"] - 2
    provided.delete(version)


def test_it_is_for_published_versions_each_once_and_not_for_weighted_aliases(provided):
    one, two = provided.publish(PROBE="1"), provided.publish(PROBE="2")
    unpublished = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
    assert provided.refused("$LATEST") == (INVALID, 400, unpublished)
    provided.alias("latest", "$LATEST")
    assert provided.refused("latest") == (INVALID, 400, unpublished)
    provided.alias("split", one, RoutingConfig={"AdditionalVersionWeights": {two: 0.1}})
    weights = "Alias with weights can not be used with Provisioned Concurrency"
    assert provided.refused("split") == (INVALID, 400, weights)
    provided.alias("live", one)
    provided.put("live", 1)
    assert provided.refused(one) == (INVALID, 400, "Version is pointed to by a Provisioned Concurrency alias")
    provided.put(two, 1)
    provided.alias("other", two)
    taken = "Alias can not be used for Provisioned Concurrency configuration on an already provisioned version"
    assert provided.refused("other") == (INVALID, 400, taken)
    assert aws.refusal(provided.alias, "live", two) == (INVALID, 400, taken)
    configs = provided.client.list_provisioned_concurrency_configs(FunctionName=provided.name)
    arns = [config["FunctionArn"].rpartition(":")[2] for config in configs["ProvisionedConcurrencyConfigs"]]
    assert arns == [two, "live"]
    page = provided.client.list_provisioned_concurrency_configs(FunctionName=provided.name, MaxItems=1)
    rest = provided.client.list_provisioned_concurrency_configs(FunctionName=provided.name, Marker=page["NextMarker"])
    assert len(page["ProvisionedConcurrencyConfigs"]) == len(rest["ProvisionedConcurrencyConfigs"]) == 1
    assert "NextMarker" not in rest
    provided.delete("live")
    provided.delete(two)


def test_what_does_not_exist_is_said_by_name(provided):
    version = provided.publish()
    missing = ("ProvisionedConcurrencyConfigNotFoundException", 404)
    assert aws.refusal(provided.get, version)[:2] == missing
    provided.delete(version)  # no error, as on Lambda
    for qualifier in ("99", "nobody"):
        assert provided.refused(qualifier)[:2] == ("ResourceNotFoundException", 404)
        assert aws.refusal(provided.get, qualifier)[:2] == ("ResourceNotFoundException", 404)
    nobody = {"FunctionName": "no-such-function", "Qualifier": "1"}
    refused = aws.refusal(
        provided.client.put_provisioned_concurrency_config, **nobody, ProvisionedConcurrentExecutions=1
    )
    assert refused[:2] == ("ResourceNotFoundException", 404)


def test_the_aws_cli_provisions_and_gives_up(server, provided):
    version = provided.publish()
    at = ("--function-name", provided.name, "--qualifier", version)
    put = aws.cli(server, "put-provisioned-concurrency-config", *at, "--provisioned-concurrent-executions", 1)
    assert put["Status"] == "IN_PROGRESS"
    wait_until(lambda: aws.cli(server, "get-provisioned-concurrency-config", *at)["Status"] == "READY", "ready", 60)
    listed = aws.cli(server, "list-provisioned-concurrency-configs", "--function-name", provided.name)
    assert len(listed["ProvisionedConcurrencyConfigs"]) == 1
    assert aws.cli(server, "delete-provisioned-concurrency-config", *at) is None


def test_with_snap_start_a_version_is_initialised_once_when_it_is_published(own):
    server, provided = own
    update = provided.client.update_function_configuration
    code, status, message = aws.refusal(update, FunctionName=provided.name, SnapStart={"ApplyOn": "Everything"})
    assert (code, status) == ("ValidationException", 400) and "[PublishedVersions, None]" in message
    provided.function.update(SnapStart={"ApplyOn": "PublishedVersions"})
    version = provided.publish()

    def log():
        return run("logs", provided.name, env={"BROOKLET_SERVER": server.url}).stdout

    wait_until(lambda: "Status: success\tSnapStart" in log(), "it is initialised")
    wait_until(lambda: not server.instances(), "and let go")
    assert provided.function({"do": "instance"}, Qualifier=version)["count"] == 1
