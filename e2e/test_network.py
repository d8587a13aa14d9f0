"""What a function reaches over the network: under each policy, as root and as an ordinary user.

The server's machine is a network namespace, and so is the world beyond it (harness/network.py).
"""

import contextlib
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import threading

import pytest
import requests

from harness import aws, network, packages
from harness import server as servers
from harness.network import ANOTHER, GATEWAY, HOST, HOST_V6, MACHINE, MACHINE_V6, METADATA, NAME
from harness.processes import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a machine's network for the tests")

WALLED = ["none", "internet"]
EVERY = [*WALLED, "host"]


class Listening:
    """A web server on the machine's loopback."""

    def __init__(self, address="127.0.0.1"):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((address, 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module", params=["root", "user"])
def machine(request, tmp_path_factory):
    """A server on a machine of its own, with an endpoint on its loopback and something else there."""
    folder = servers.open_folder()
    with network.World(tmp_path_factory.mktemp("world")) as world, world.entered():
        named, other, far = Listening(), Listening(), Listening(ANOTHER)
        config = f"""[endpoints]
            AWS_ENDPOINT_URL_S3 = "http://localhost:{named.port}"
            AWS_ENDPOINT_URL_SQS = "http://{ANOTHER}:{far.port}/queues"
        """
        user = 65534 if request.param == "user" else None
        with servers.Server(folder, config=config, user=user, world=world) as server:
            server.named, server.other = named, other
            server.deployer = aws.Deployer(aws.client(server), "network")
            yield server
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def functions(machine):
    """The hostile function under each policy."""
    return {policy: deploy(machine, policy) for policy in EVERY}


def deploy(machine, policy, **more):
    function = machine.deployer(packages.walls(), packages.PYTHON, "walls.handler", Timeout=60, **more)
    return with_network(machine, function, policy)


def with_network(machine, function, policy):
    answer = configure(machine, function, {"Brooklet": {"Network": policy}})
    assert answer.json()["Brooklet"]["Network"] == policy
    return function


def configure(machine, function, document):
    """By the API's JSON itself: boto3 would refuse Brooklet's own member."""
    path = f"/2015-03-31/functions/{function.name}/configuration"
    return requests.put(machine.url + path, json=document, timeout=60)


def attempt(function, trick, **options):
    return function({"try": trick, "with": options})


def ask(function, question, **options):
    return function({"ask": question, "with": options})


# ---- what no policy but `host` lets a function reach ---------------------------------------------------------


@pytest.mark.parametrize("policy", WALLED)
def test_the_machines_loopback_is_out_of_reach(machine, functions, policy):
    for host in ("127.0.0.1", "127.0.0.2", "0.0.0.0"):
        assert attempt(functions[policy], "tcp", host=host, port=machine.other.port) == "ECONNREFUSED", host
    assert attempt(functions[policy], "tcp", host="::1", port=machine.other.port) == "ECONNREFUSED"
    assert attempt(functions[policy], "udp", host="127.0.0.53", port=53) == "ECONNREFUSED"
    assert attempt(functions[policy], "tcp", host="127.0.0.53", port=53) == "ECONNREFUSED"


@pytest.mark.parametrize("policy", WALLED)
@pytest.mark.parametrize("host", [METADATA, "::ffff:" + METADATA, "168.63.129.16", "fe80::1", "fd00:ec2::254"])
def test_metadata_and_link_local_addresses_are_out_of_reach(functions, policy, host):
    with socket.create_connection((METADATA, 80), timeout=5):
        pass  # the machine itself reaches its own
    assert attempt(functions[policy], "tcp", host=host, port=80) in ("EHOSTUNREACH", "ENETUNREACH", "EINVAL")
    assert attempt(functions[policy], "udp", host=host, port=123) in ("EHOSTUNREACH", "ENETUNREACH", "EINVAL")


def listening_on(stack, host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return stack.enter_context(socket.create_server((host, 0), family=family)).getsockname()[1]


@pytest.mark.parametrize("policy", WALLED)
def test_the_machines_own_addresses_are_out_of_reach(functions, policy):
    with contextlib.ExitStack() as stack:
        for host in (MACHINE, MACHINE_V6):
            port = listening_on(stack, host)
            with socket.create_connection((host, port), timeout=5):
                pass
            assert attempt(functions[policy], "tcp", host=host, port=port) in ("EHOSTUNREACH", "ENETUNREACH"), host


def test_an_address_that_the_machine_got_later_is_refused_as_well(functions):
    """A sandbox knows only the addresses that the machine had when it was opened; the server knows better."""
    ask(functions["internet"], "links")
    late = "10.231.7.7"
    network.run(f"ip addr add {late}/32 dev lo")
    try:
        with contextlib.ExitStack() as stack:
            port = listening_on(stack, late)
            assert attempt(functions["internet"], "tcp", host=late, port=port) in ("ECONNRESET", "EPIPE", "ENOTCONN")
    finally:
        network.run(f"ip addr del {late}/32 dev lo")


@pytest.mark.parametrize("policy", WALLED)
def test_other_instances_are_out_of_reach(machine, functions, policy):
    other = deploy(machine, policy)
    for host in ("127.0.0.1", "192.0.0.8", "0.0.0.0"):
        assert ask(other, "listen", host=host, port=7700) == "me"
        assert attempt(functions[policy], "tcp", host=host, port=7700) == "ECONNREFUSED"
        other.update(Description=host)  # a new instance: nothing listens any more


@pytest.mark.parametrize("policy", WALLED)
def test_two_instances_listen_on_the_same_port(machine, functions, policy):
    other = deploy(machine, policy)
    assert ask(functions[policy], "listen", host="127.0.0.1", port=8081) == "me"
    assert ask(other, "listen", host="127.0.0.1", port=8081) == "me"


@pytest.mark.parametrize("policy", WALLED)
def test_abstract_sockets_are_its_own(machine, functions, policy):
    other = deploy(machine, policy)
    assert attempt(functions[policy], "abstract", name="brooklet-test", listen=True) == "done"
    assert attempt(functions[policy], "abstract", name="brooklet-test") == "done"
    assert attempt(other, "abstract", name="brooklet-test") == "ECONNREFUSED"
    with socket.socket(socket.AF_UNIX) as mine:
        mine.bind("\0brooklet-test-of-the-machine")
        mine.listen()
        assert attempt(functions[policy], "abstract", name="brooklet-test-of-the-machine") == "ECONNREFUSED"


def test_the_machines_abstract_sockets_are_out_of_reach_in_its_network_too(functions):
    """They are the network namespace's; Landlock keeps them apart (Linux 6.12)."""
    if "signals and abstract sockets" not in servers.run("doctor").stdout:
        pytest.skip("this kernel's Landlock has no scopes")
    with socket.socket(socket.AF_UNIX) as mine:
        mine.bind("\0brooklet-test-of-the-host")
        mine.listen()
        assert attempt(functions["host"], "abstract", name="brooklet-test-of-the-host") == "EPERM"


@pytest.mark.parametrize("policy", WALLED)
def test_its_network_is_its_own(machine, functions, policy):
    other = deploy(machine, policy)
    one, two = ask(functions[policy], "namespaces"), ask(other, "namespaces")
    assert one["net"] != two["net"] and one["net"] != os.readlink("/proc/thread-self/ns/net")
    assert ask(functions[policy], "links") == ["lo"]


# ---- what every policy lets it reach -------------------------------------------------------------------------


@pytest.mark.parametrize("policy", EVERY)
def test_brooklets_api_is_found_without_configuration(machine, functions, policy):
    url = ask(functions[policy], "environment", name="AWS_ENDPOINT_URL_LAMBDA")
    assert url == machine.url
    assert attempt(functions[policy], "get", url="$AWS_ENDPOINT_URL_LAMBDA/2015-03-31/functions") == 200


@pytest.mark.parametrize("policy", EVERY)
def test_an_endpoint_that_the_operator_names_is_reached_at_the_same_url(machine, functions, policy):
    assert ask(functions[policy], "environment", name="AWS_ENDPOINT_URL_S3") == f"http://localhost:{machine.named.port}"
    assert attempt(functions[policy], "get", url="$AWS_ENDPOINT_URL_S3/bucket") == 204


@pytest.mark.parametrize("policy", EVERY)
def test_an_endpoint_may_be_on_any_address_of_the_machine(functions, policy):
    assert attempt(functions[policy], "get", url="$AWS_ENDPOINT_URL_SQS") == 204


@pytest.mark.parametrize("policy", WALLED)
def test_nothing_else_is_reached_at_an_endpoints_address(functions, policy):
    with contextlib.ExitStack() as stack:
        port = listening_on(stack, ANOTHER)
        assert attempt(functions[policy], "tcp", host=ANOTHER, port=port) in ("ECONNREFUSED", "ECONNRESET", "ENOTCONN")


@pytest.mark.parametrize("policy", EVERY)
def test_a_functions_own_variable_wins(machine, policy):
    variables = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_ENDPOINT_URL": "http://127.0.0.1:2"}
    function = deploy(machine, policy, Environment={"Variables": variables})
    assert ask(function, "environment", name="AWS_ENDPOINT_URL_S3") == "http://127.0.0.1:1"
    assert ask(function, "environment", name="AWS_ENDPOINT_URL_LAMBDA") is None


# ---- none ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [HOST, HOST_V6, GATEWAY])
def test_none_is_nobody_else(functions, host):
    assert attempt(functions["none"], "tcp", host=host, port=80) == "ENETUNREACH"
    assert attempt(functions["none"], "udp", host=host, port=123) == "ENETUNREACH"


def test_none_knows_no_names_but_the_machines_own(functions):
    assert "127.0.0.1" in ask(functions["none"], "resolve", name="localhost")
    assert ask(functions["none"], "resolve", name=NAME) == "EAI_AGAIN"


# ---- internet ------------------------------------------------------------------------------------------------


def test_internet_is_the_default(machine):
    function = machine.deployer(packages.walls(), packages.PYTHON, "walls.handler")
    assert attempt(function, "tcp", host=HOST, port=80) == f"hello from {MACHINE}"


@pytest.mark.parametrize("host, seen", [(HOST, MACHINE), (HOST_V6, MACHINE_V6), (GATEWAY, MACHINE)])
def test_internet_is_every_other_host(functions, host, seen):
    assert attempt(functions["internet"], "tcp", host=host, port=80) == f"hello from {seen}"
    assert attempt(functions["internet"], "udp", host=host, port=123, times=3) == ["echo 0", "echo 1", "echo 2"]


def test_a_host_that_refuses_is_told_as_one_that_breaks_off(functions):
    assert attempt(functions["internet"], "tcp", host=HOST, port=81) in ("ECONNRESET", "EPIPE", "ENOTCONN")


def test_names_are_looked_up_by_the_machines_name_server(functions):
    assert ask(functions["internet"], "resolve", name=NAME) == sorted([HOST, HOST_V6])
    assert ask(functions["internet"], "resolve", name="nobody.lan") == "EAI_NONAME"
    assert ask(functions["internet"], "resolve_over_tcp", name=NAME) == HOST
    assert attempt(functions["internet"], "tcp", host=NAME, port=80).startswith("hello from ")


def test_much_goes_both_ways_at_once_unharmed(functions):
    assert attempt(functions["internet"], "send_much", host=HOST, port=80, mib=64) is True


def test_one_function_can_not_take_all_connections(machine, functions):
    """With this machine's limit of descriptors there are some thousand for all; an instance gets a part of them."""
    served = attempt(functions["internet"], "connections", host=HOST, port=80, count=600)
    assert 8 <= served <= 513
    assert attempt(functions["internet"], "tcp", host=HOST, port=80).startswith("hello"), "they are given back"


# ---- host ----------------------------------------------------------------------------------------------------


def test_host_is_the_machine_itself(machine, functions):
    assert attempt(functions["host"], "get", url=f"http://127.0.0.1:{machine.other.port}/") == 204
    assert attempt(functions["host"], "tcp", host=METADATA, port=80).startswith("hello")
    assert ask(functions["host"], "namespaces")["net"] == os.readlink("/proc/thread-self/ns/net")
    assert ask(functions["host"], "resolve", name=NAME) == sorted([HOST, HOST_V6])


# ---- how it is said ------------------------------------------------------------------------------------------


def test_a_policy_that_does_not_exist_is_refused(machine):
    function = machine.deployer(packages.walls(), packages.PYTHON, "walls.handler")
    answer = configure(machine, function, {"Brooklet": {"Network": "vpn"}})
    assert answer.status_code == 400
    assert "'vpn' at 'brooklet.network' failed to satisfy constraint" in answer.text
    assert "[default, none, internet, host]" in answer.text


def test_a_change_of_policy_holds_for_the_next_instance(machine):
    function = deploy(machine, "none")
    assert attempt(function, "tcp", host=HOST, port=80) == "ENETUNREACH"
    with_network(machine, function, "internet")
    assert attempt(function, "tcp", host=HOST, port=80).startswith("hello")
    with_network(machine, function, "default")
    assert attempt(function, "tcp", host=HOST, port=80).startswith("hello")


# ---- the machine ---------------------------------------------------------------------------------------------


def configuration_of_the_machine():
    """All that a server could have changed: links, addresses, routes that the kernel did not make, rules, forwarding."""
    shown = ["ip -o addr", "ip route show table all", "ip rule", "ip -6 rule"]
    told = [subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout for command in shown]
    told += [pathlib.Path(f"/proc/sys/net/{which}").read_text() for which in ("ipv4/ip_forward", "ipv6/conf/all/forwarding")]
    return [re.sub(r".*proto kernel.*\n| +valid_lft.*| linkdown", "", text) for text in told]


def in_network(namespace):
    """The processes whose network this is."""
    found = []
    for link in pathlib.Path("/proc").glob("[0-9]*/ns/net"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == namespace:
                found.append(link.parts[2])
    return found


def test_the_machine_is_not_changed_and_after_kill_nine_nothing_is_left(tmp_path):
    with network.World(tmp_path / "world") as world, world.entered():
        before = configuration_of_the_machine()
        server = servers.Server(tmp_path / "server", "--isolation", "strict", world=world).start()
        try:
            function = aws.Deployer(aws.client(server), "left")(packages.walls(), packages.PYTHON, "walls.handler")
            assert attempt(function, "tcp", host=HOST, port=80).startswith("hello")
            namespace = ask(function, "namespaces")["net"]
            assert in_network(namespace)
            assert configuration_of_the_machine() == before
        finally:
            server.kill()
        wait_until(lambda: not in_network(namespace), "nobody is in the network any more")
        assert configuration_of_the_machine() == before
        with server:
            pass  # the next server on the folder finds its control groups and removes them


def test_doctor_tries_the_network():
    checks = json.loads(servers.run("doctor", "--output", "json").stdout)
    [network_check] = [check for check in checks if check["name"] == "network"]
    assert (network_check["area"], network_check["state"]) == ("isolation", "ok")
