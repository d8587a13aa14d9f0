"""How the server begins and ends: exit codes and messages as a user meets them, draining, and restarts."""

import concurrent.futures
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import types

import pytest
import requests

from harness import aws, packages, processes
from harness import server as servers
from harness.gate import Gate

LOCKED, UNWRITABLE, NEWER, TAKEN, INSECURE, MISTAKES, USAGE = 20, 21, 22, 23, 24, 3, 2


def refused(*arguments, env=None, **more):
    """(exit code, message) of `brooklet up` that must end by itself, soon, without a line of Rust's own."""
    done = servers.run("up", *arguments, env=env, timeout=20, **more)
    assert "panicked" not in done.stderr and "RUST_BACKTRACE" not in done.stderr
    assert done.stdout == ""
    return done.returncode, done.stderr


def echo(server, name="echo"):
    deploy = aws.Deployer(aws.client(server), name)
    return deploy(
        {"app.py": "def handler(event, context):\n    return event\n"}, packages.PYTHON, "app.handler", name=name
    )


# ---- beginnings that are refused -----------------------------------------------------------------------------


def test_two_servers_on_one_data_directory_are_refused(fresh):
    first = fresh()
    code, message = refused("--listen", "127.0.0.1:0", "--data-dir", first.data_dir)
    assert code == LOCKED
    assert str(first.data_dir) in message and "another" in message
    assert requests.get(first.url + "/healthz", timeout=10).status_code == 200, "the first is not disturbed"


def test_a_taken_port_is_refused(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, message = refused("--listen", f"127.0.0.1:{port}", "--data-dir", tmp_path / "d")
    assert code == TAKEN and f"127.0.0.1:{port}" in message


def test_a_limit_of_descriptors_that_is_too_low_is_refused(tmp_path):
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))  # noqa: E731
    code, message = refused("--listen", "127.0.0.1:0", "--data-dir", tmp_path / "d", preexec_fn=few)
    assert code == 1
    assert "the hard limit is 100" in message and "need 160" in message and "LimitNOFILE" in message


def test_a_data_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    code, message = refused("--listen", "127.0.0.1:0", "--data-dir", tmp_path / "file")
    assert code == UNWRITABLE and str(tmp_path / "file") in message
    assert (tmp_path / "file").read_text() == "mine"


def test_a_data_directory_that_can_not_be_written_is_refused():
    # /proc refuses every new directory, to root as well.
    code, message = refused("--listen", "127.0.0.1:0", "--data-dir", "/proc/brooklet")
    assert code == UNWRITABLE and "/proc/brooklet" in message


def test_a_data_directory_of_a_newer_brooklet_is_refused_and_left_alone(tmp_path):
    one = servers.Server(tmp_path / "one")
    with one:
        pass
    marker = one.data_dir / "format"
    written = marker.read_text()
    marker.write_text(re.sub(r"\d+", "9999", written, count=1))
    code, message = refused("--listen", "127.0.0.1:0", "--data-dir", one.data_dir)
    assert code == NEWER and "newer" in message and "9999" in message
    assert "9999" in marker.read_text()
    marker.write_text(written)
    with servers.Server(tmp_path / "two", data_dir=one.data_dir):
        pass


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_listening_beyond_loopback_needs_keys_or_the_users_word(tmp_path, address):
    code, message = refused("--listen", address, "--data-dir", tmp_path / "d")
    assert code == INSECURE
    assert "access" in message and "--insecure" in message


def test_with_access_keys_unsigned_and_wrongly_signed_requests_are_refused(fresh):
    own = fresh(config='[access-keys]\nAKIDEXAMPLE = "wJalrXUtnFEMI"\n')
    unsigned = requests.get(own.url + "/2015-03-31/functions", timeout=10)
    assert unsigned.status_code == 403
    assert unsigned.headers["x-amzn-errortype"].startswith("MissingAuthenticationTokenException")
    assert aws.refusal(aws.client(own).list_functions)[:2] == ("UnrecognizedClientException", 403)
    wrong = aws.client(own, keys=("AKIDEXAMPLE", "no"))
    assert aws.refusal(wrong.list_functions)[:2] == ("InvalidSignatureException", 403)
    client = aws.client(own, keys=("AKIDEXAMPLE", "wJalrXUtnFEMI"))
    assert client.list_functions()["Functions"] == []


def test_with_access_keys_strangers_reach_a_function_only_by_an_open_url(fresh):
    own = fresh(config='[access-keys]\nAKIDEXAMPLE = "wJalrXUtnFEMI"\n')
    client = aws.client(own, keys=("AKIDEXAMPLE", "wJalrXUtnFEMI"))
    package = {"app.py": "def handler(event, context):\n    return 'hi'\n"}
    aws.Deployer(client, "keys")(package, packages.PYTHON, "app.handler", name="greeter")
    closed = requests.get(own.url + "/fn/greeter/", timeout=30)
    assert closed.status_code == 403 and "auth type NONE" in closed.text
    client.create_function_url_config(FunctionName="greeter", AuthType="NONE")
    assert requests.get(own.url + "/fn/greeter/", timeout=30).text == "hi"


SHOWS_KEYS = """
import os
def handler(event, context):
    return [os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
"""


def test_with_the_credentials_that_a_function_finds_functions_are_called_and_nothing_else(fresh):
    own = fresh(config='[access-keys]\nAKIDEXAMPLE = "wJalrXUtnFEMI"\n')
    operator = aws.client(own, keys=("AKIDEXAMPLE", "wJalrXUtnFEMI"))
    deploy = aws.Deployer(operator, "keys")
    one, other = (deploy({"app.py": SHOWS_KEYS}, packages.PYTHON, "app.handler") for _ in range(2))
    found = one({})
    assert found[2].endswith(f":function:{one.name}") and other({}) != found
    client = aws.client(own, keys=found)
    assert aws.Function(client, other.name)({}) == other({})
    url = operator.create_function_url_config(FunctionName=other.name, AuthType="AWS_IAM")["FunctionUrl"]
    assert requests.get(url, headers=aws.signed(url, *found), timeout=30).status_code == 200
    kind, status, message = aws.refusal(client.list_functions)
    assert (kind, status) == ("AccessDeniedException", 403)
    assert one.name in message and "lambda:ListFunctions" in message
    assert aws.refusal(client.delete_function, FunctionName=other.name)[0] == "AccessDeniedException"
    forged = aws.client(own, keys=(found[0], "guessed", found[2]))
    assert aws.refusal(forged.invoke, FunctionName=other.name)[0] == "InvalidSignatureException"


def test_functions_find_the_credentials_that_the_operator_gives_them(fresh):
    own = fresh(config='[credentials]\naccess-key-id = "minio"\nsecret-access-key = "minio123"\n')
    function = aws.Deployer(aws.client(own), "given")({"app.py": SHOWS_KEYS}, packages.PYTHON, "app.handler")
    assert function({}) == ["minio", "minio123", None]


def test_all_mistakes_of_a_configuration_are_told_at_once(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('listn = "127.0.0.1:0"\nidle-timeout = "ten"\naccount-concurrency = 0\n')
    code, message = refused("--config", config, "--data-dir", tmp_path / "d")
    assert code == MISTAKES
    for part in (f"{config}:1", "listn", "listen", f"{config}:2", "ten", f"{config}:3"):
        assert part in message, f"{part} is not in: {message}"


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["--listen", "nonsense"], MISTAKES),
        (["--account-id", "12"], MISTAKES),
        (["--config", "/not/there.toml"], MISTAKES),
        (["--nonsense"], USAGE),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_flags_that_are_wrong_are_told(tmp_path, arguments, code):
    got, message = refused("--data-dir", tmp_path / "d", *arguments)
    assert got == code and message


# ---- settings ------------------------------------------------------------------------------------------------


def test_account_and_region_stand_in_every_arn(fresh):
    own = fresh("--account-id", "123456789012", "--region", "eu-west-1")
    client = aws.client(own)
    function = echo(own)
    got = client.get_function_configuration(FunctionName="echo")
    assert got["FunctionArn"] == "arn:aws:lambda:eu-west-1:123456789012:function:echo"
    assert ".lambda-url.eu-west-1.localhost:" in function.url()


def test_a_variable_that_is_no_setting_is_told(fresh):
    own = fresh(env={"BROOKLET_IDLE_TIMEUOT": "1m", "BROOKLET_SERVER": "http://127.0.0.1:1"})
    assert own.log().count("is not a setting") == 1
    assert "BROOKLET_IDLE_TIMEUOT is not a setting and has no effect: did you mean BROOKLET_IDLE_TIMEOUT?" in own.log()


def test_the_environment_configures_too(fresh):
    own = fresh(env={"BROOKLET_REGION": "ap-south-1"})
    echo(own)
    assert ":ap-south-1:" in aws.client(own).get_function_configuration(FunctionName="echo")["FunctionArn"]


def test_a_server_on_loopback_listens_nowhere_else(fresh):
    own = fresh()
    echo(own)("warm")
    own.check_listeners()
    assert processes.listeners([own.process.pid]), "it does listen"


# ---- ends and restarts ---------------------------------------------------------------------------------------


def test_a_restart_finds_every_function_as_it_was(fresh, tmp_path):
    one = fresh(data_dir=tmp_path / "data")
    client = aws.client(one)
    function = echo(one)
    client.publish_version(FunctionName="echo", Description="first")
    client.create_alias(FunctionName="echo", Name="live", FunctionVersion="1")
    client.put_function_concurrency(FunctionName="echo", ReservedConcurrentExecutions=3)
    client.tag_resource(Resource="arn:aws:lambda:us-east-1:000000000000:function:echo", Tags={"a": "b"})
    url = function.url(Cors={"AllowOrigins": ["*"]})
    before = state(client)
    one.stop()
    two = fresh(data_dir=tmp_path / "data")
    client = aws.client(two)
    assert state(client) == before
    assert aws.Function(client, "echo")({"a": 1}, Qualifier="live") == {"a": 1}
    assert requests.get(re.sub(r":\d+/", f":{two.port}/", url), timeout=30).status_code == 200


def state(client):
    """Everything that the API tells of the function, but addresses that carry the port."""
    got = client.get_function(FunctionName="echo")
    url = client.get_function_url_config(FunctionName="echo")
    answers = [
        got["Configuration"],
        got["Tags"],
        got["Concurrency"],
        client.get_alias(FunctionName="echo", Name="live"),
        client.list_versions_by_function(FunctionName="echo")["Versions"],
        url | {"FunctionUrl": re.sub(r":\d+/", "/", url["FunctionUrl"])},
    ]
    for answer in answers:
        if isinstance(answer, dict):
            answer.pop("ResponseMetadata", None)
    return answers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_stopping_server_lets_running_requests_end_and_takes_no_new_ones(fresh, number):
    own = fresh()
    probe = aws.Deployer(aws.client(own), "drain")(
        packages.python_probe(), packages.PYTHON, "probe.handler", Timeout=60
    )
    with Gate() as gate, concurrent.futures.ThreadPoolExecutor(2) as pool:
        held = [pool.submit(probe, {"do": "hold", "url": gate.url}) for _ in range(2)]
        gate.wait_for(2)
        own.process.send_signal(number)
        processes.wait_until(lambda: not accepts(own), "new requests are refused")
        assert own.process.poll() is None, "it waits for the running requests"
        gate.open()
        assert all(h.result()["gate"] == "open" for h in held)
    assert own.process.wait(20) == 0
    processes.wait_until(lambda: not processes.orphans(servers.started), "no process is left")


def accepts(server):
    """Whether it still takes new work."""
    try:
        return requests.get(server.url + "/readyz", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def test_a_request_that_does_not_end_is_cut_off_after_the_drain_timeout(fresh):
    own = fresh(config='drain-timeout = "1s"\n')
    probe = aws.Deployer(aws.client(own), "drain")(
        packages.python_probe(), packages.PYTHON, "probe.handler", Timeout=300
    )
    with Gate() as gate, concurrent.futures.ThreadPoolExecutor(1) as pool:
        held = pool.submit(probe.invoke, {"do": "hold", "url": gate.url})
        gate.wait_for()
        began = time.monotonic()
        own.process.terminate()
        assert own.process.wait(20) == 0
        assert time.monotonic() - began < 15
        assert held.exception(20) or "FunctionError" in held.result(), "the caller learns that it was cut off"
    processes.wait_until(lambda: not processes.orphans(servers.started), "no process is left")


def test_a_second_signal_ends_it_at_once(fresh):
    own = fresh()
    probe = aws.Deployer(aws.client(own), "drain")(
        packages.python_probe(), packages.PYTHON, "probe.handler", Timeout=300
    )
    with Gate() as gate, concurrent.futures.ThreadPoolExecutor(1) as pool:
        held = pool.submit(probe.invoke, {"do": "hold", "url": gate.url})
        gate.wait_for()
        own.process.terminate()
        processes.wait_until(lambda: not accepts(own), "it has begun to stop")
        own.process.terminate()
        own.process.wait(15)
        held.exception(20)
    processes.wait_until(lambda: not processes.orphans(servers.started), "no process is left")


def test_the_ready_line_is_all_that_standard_output_gets(tmp_path):
    one = servers.Server(tmp_path / "one")
    process = subprocess.Popen(
        [servers.binary(), "up", *one.arguments], env=one.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    servers.started.add(process.pid)
    line = process.stdout.readline().decode()
    assert re.fullmatch(r"brooklet is ready on http://127\.0\.0\.1:\d+\n", line)
    process.terminate()
    rest = process.stdout.read()
    assert process.wait(20) == 0 and rest == b""


def test_health_and_readiness_are_told_apart_from_the_api(server):
    for path in ("/healthz", "/readyz"):
        assert requests.get(server.url + path, timeout=10).status_code == 200
    assert requests.get(server.url + "/nowhere", timeout=10).status_code == 404


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become someone else")
def test_an_ordinary_user_runs_the_server_too():
    folder = servers.open_folder()
    with servers.Server(folder, user=65534) as own:
        assert echo(own)({"a": 1}) == {"a": 1}
    shutil.rmtree(folder)
