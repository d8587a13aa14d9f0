"""The command line as a user types it. The answer stands on standard output, everything else on standard error."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading

import pytest

from harness import aws, packages, processes, rigs
from harness.server import binary, environment, run, started

NOT_FOUND, FUNCTION_ERROR, UNREACHABLE, USAGE, MISTAKES, DECLINED, BUILD = 7, 9, 5, 2, 3, 10, 4


@pytest.fixture(scope="module")
def cli(server, tmp_path_factory):
    """Runs a command against the shared server; the exit code must be 0 unless another is expected."""
    home = tmp_path_factory.mktemp("home")

    def call(*arguments, expect=0, cwd=None, stdin=None, timeout=110, **env):
        done = run(
            *arguments,
            env={"BROOKLET_SERVER": server.url, "HOME": str(home), **env, **build_homes()},
            cwd=cwd,
            stdin=stdin,
            timeout=timeout,
        )
        assert done.returncode == expect, (
            f"brooklet {' '.join(map(str, arguments))}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    return call


def build_homes():
    """Build tools keep their caches although the home is a fresh one."""
    home = os.path.expanduser("~")
    return {
        "CARGO_HOME": os.environ.get("CARGO_HOME", f"{home}/.cargo"),
        "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", f"{home}/.rustup"),
        "GOPATH": f"{home}/go",
        "GOCACHE": f"{home}/.cache/go-build",
        "GOMODCACHE": f"{home}/go/pkg/mod",
        "MAVEN_OPTS": f"-Dmaven.repo.local={home}/.m2/repository",
        "npm_config_cache": f"{home}/.npm",
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", f"{home}/.cache"),
    }


@pytest.fixture
def project(tmp_path):
    """A small Python project."""
    folder = tmp_path / "greeter"
    folder.mkdir()
    (folder / "app.py").write_text(
        "import os\ndef handler(event, context):\n    print('greeting', event)\n    if event == 'fail': raise ValueError('dry')\n    return {'hello': event, 'colour': os.environ.get('COLOUR')}\n"
    )
    (folder / "brooklet.toml").write_text(
        f'[function.cli-greeter]\nruntime = "{packages.PYTHON}"\nhandler = "app.handler"\nmemory = "192MiB"\ntimeout = "7s"\nenvironment = {{ COLOUR = "blue" }}\nurl = true\n'
    )
    return folder


def test_deploy_invoke_list_show_logs_and_rm(cli, project):
    plan = cli("deploy", project, "--dry-run")
    assert "cli-greeter" in plan.stdout + plan.stderr
    assert "cli-greeter" not in [f["FunctionName"] for f in json.loads(cli("list", "--output", "json").stdout)]
    done = cli("deploy", project)
    assert "cli-greeter" in done.stdout + done.stderr
    answer = cli("invoke", "cli-greeter", "--data", '{"a": 1}')
    assert json.loads(answer.stdout) == {"hello": {"a": 1}, "colour": "blue"}
    assert json.loads(cli("invoke", "cli-greeter", "--data", "-", stdin='"piped"').stdout)["hello"] == "piped"
    tail = cli("invoke", "cli-greeter", "--data", '"x"', "--tail")
    assert "greeting x" in tail.stderr and "REPORT RequestId" in tail.stderr and json.loads(tail.stdout)
    table = cli("list").stdout
    assert "cli-greeter" in table and packages.PYTHON in table
    shown = json.loads(cli("show", "cli-greeter", "--output", "json").stdout)
    assert shown["Configuration"]["MemorySize"] == 192 and shown["Configuration"]["Timeout"] == 7
    assert "lambda-url" in cli("show", "cli-greeter").stdout
    logs = cli("logs", "cli-greeter").stdout
    assert "greeting {'a': 1}" in logs and "START RequestId" in logs
    records = [json.loads(line) for line in cli("logs", "cli-greeter", "--output", "json").stdout.splitlines()]
    assert any("greeting piped" in json.dumps(r) for r in records)
    cli("rm", "cli-greeter", "--yes")
    cli("show", "cli-greeter", expect=NOT_FOUND)


def test_a_second_deploy_of_the_same_changes_nothing(cli, project):
    cli("deploy", project)
    before = json.loads(cli("show", "cli-greeter", "--output", "json").stdout)["Configuration"]
    again = cli("deploy", project, "--output", "json")
    assert json.loads(again.stdout)
    after = json.loads(cli("show", "cli-greeter", "--output", "json").stdout)["Configuration"]
    assert after["RevisionId"] == before["RevisionId"]
    (project / "app.py").write_text("def handler(event, context):\n    return 'new'\n")
    cli("deploy", project)
    assert json.loads(cli("invoke", "cli-greeter").stdout) == "new"
    cli("rm", "cli-greeter", "--yes")


def test_no_request_runs_new_code_with_old_settings(cli, server, project):
    """Both sides are changed by every deploy; whoever invokes in between sees one or the other, never a mixture."""
    manifest = (project / "brooklet.toml").read_text()

    def deploy(word):
        (project / "app.py").write_text(
            f"import os\ndef handler(event, context):\n    return ['{word}', os.environ['COLOUR']]\n"
        )
        (project / "brooklet.toml").write_text(manifest.replace("blue", word))
        cli("deploy", project)

    deploy("one")
    seen, done, client = set(), threading.Event(), aws.client(server)

    def invoke():
        while not done.is_set():
            seen.add(tuple(json.load(client.invoke(FunctionName="cli-greeter")["Payload"])))

    callers = [threading.Thread(target=invoke) for _ in range(3)]
    for caller in callers:
        caller.start()
    for word in ["two", "three", "four", "five"]:
        deploy(word)
    done.set()
    for caller in callers:
        caller.join()
    cli("rm", "cli-greeter", "--yes")
    assert len(seen) > 1 and all(code == setting for code, setting in seen), seen


def test_prune_removes_what_the_manifest_no_longer_declares(cli, project):
    manifest = project / "brooklet.toml"
    first = manifest.read_text()
    manifest.write_text('project = "prune-test"\n' + first + first.replace("cli-greeter", "cli-extra"))
    cli("deploy", project)
    manifest.write_text('project = "prune-test"\n' + first)
    cli("deploy", project, "--prune", expect=DECLINED, stdin="")
    cli("show", "cli-extra")
    cli("deploy", project, "--prune", "--yes")
    cli("show", "cli-extra", expect=NOT_FOUND)
    cli("rm", "cli-greeter", "--yes")


def test_a_zip_deploys_too(cli, tmp_path):
    (tmp_path / "f.zip").write_bytes(
        packages.zip_of({"main.py": "def handler(event, context):\n    return 'zipped'\n"})
    )
    cli("deploy", tmp_path / "f.zip", "--name", "cli-zip", "--runtime", packages.PYTHON, "--handler", "main.handler")
    assert json.loads(cli("invoke", "cli-zip").stdout) == "zipped"
    cli("rm", "cli-zip", "--yes")


def test_a_failing_function_has_its_own_exit_code(cli, project):
    cli("deploy", project)
    failed = cli("invoke", "cli-greeter", "--data", '"fail"', expect=FUNCTION_ERROR)
    assert json.loads(failed.stdout)["errorMessage"] == "dry"
    cli("rm", "cli-greeter", "--yes")


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (["invoke", "not-there"], NOT_FOUND, ["not-there", "brooklet list"]),
        (["invoke", "x", "--data", "{"], USAGE, ["not JSON"]),
        (["show", "not-there"], NOT_FOUND, ["not-there"]),
        (["rm", "not-there", "--yes"], NOT_FOUND, ["not-there"]),
        (["logs", "not-there"], NOT_FOUND, ["not-there"]),
        (["deploy", "/not/there"], None, ["/not/there"]),
        (["list", "--output", "xml"], USAGE, ["json"]),
        (["nonsense"], USAGE, ["nonsense"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) and v and v[0] != "not-there" else "",
)
def test_mistakes_are_told_with_their_code(cli, server, arguments, code, words):
    done = run(*arguments, env={"BROOKLET_SERVER": server.url})
    assert done.returncode == code if code else done.returncode not in (0, 101), done
    assert all(word in done.stderr for word in words), done.stderr
    assert "panicked" not in done.stderr


def test_without_a_server_the_message_says_how_to_start_one():
    done = run("list", env={"BROOKLET_SERVER": "http://127.0.0.1:1"})
    assert done.returncode == UNREACHABLE and "brooklet up" in done.stderr


def test_without_a_server_nothing_is_built(project):
    (project / "brooklet.toml").write_text('[function.cli-early]\nbuild = "touch built"\n')
    done = run("deploy", project, env={"BROOKLET_SERVER": "http://127.0.0.1:1"})
    assert done.returncode == UNREACHABLE and "brooklet up" in done.stderr
    assert not (project / "built").exists()


def test_all_mistakes_of_a_manifest_are_told_at_once(cli, project):
    (project / "brooklet.toml").write_text(
        '[function.one]\nmemori = "1GiB"\ntimeout = "20"\n\n[function."a b"]\nhandler = 3\n'
    )
    failed = cli("deploy", project, expect=MISTAKES)
    for part in ("brooklet.toml:2", "memori", "memory", "brooklet.toml:3"):
        assert part in failed.stderr, failed.stderr


def test_a_build_that_fails_says_what_failed(cli, project):
    (project / "brooklet.toml").write_text(
        f'[function.cli-build]\nruntime = "{packages.PYTHON}"\nhandler = "app.handler"\nbuild = "echo broken pump >&2; exit 3"\n'
    )
    failed = cli("deploy", project, expect=BUILD)
    assert "broken pump" in failed.stderr


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "template", ["python", "node", "shell", "http-python", "http-node", "go", "typescript", "rust", "java", "csharp"]
)
def test_every_template_deploys_and_answers(cli, template, tmp_path):
    needs = {"go": "go", "rust": "rust", "java": "java", "csharp": "mono", "typescript": "node"}
    if template in needs:
        rigs.rig(needs[template])
    name = f"cli-new-{template}"
    # Always the same place, made anew: what the language's own tools build there is cached by it.
    folder = rigs.cache() / "cli" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    cli("new", template, folder)
    deployed = cli("deploy", folder, timeout=390)
    assert name in deployed.stdout + deployed.stderr
    assert "Ada" in cli("invoke", name, "--data", '{"name": "Ada"}').stdout
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    refused = run("new", template, folder)
    assert refused.returncode not in (0, 101) and str(folder) in refused.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    cli("rm", name, "--yes")


def test_dev_redeploys_on_save_and_streams_logs(server, project):
    env = environment(BROOKLET_SERVER=server.url)
    process = subprocess.Popen(
        [binary(), "dev", project], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    started.add(process.pid)
    seen = []
    threading.Thread(target=lambda: seen.extend(iter(process.stdout.readline, "")), daemon=True).start()
    said = lambda word: any(word in line for line in list(seen))  # noqa: E731
    try:
        invoke = lambda: run("invoke", "cli-greeter", env={"BROOKLET_SERVER": server.url})  # noqa: E731
        processes.wait_until(lambda: invoke().returncode == 0, f"the first deploy: {seen}")
        (project / "app.py").write_text(
            "def handler(event, context):\n    print('now in the log')\n    return 'saved'\n"
        )
        processes.wait_until(lambda: invoke().stdout.strip() == '"saved"', f"the new code answers: {seen}")
        processes.wait_until(lambda: said("now in the log"), f"the log is streamed: {seen}")
        (project / "app.py").write_text("def handler(:\n")
        (project / "app.py").write_text("def handler(event, context):\n    return 'mended'\n")
        processes.wait_until(lambda: invoke().stdout.strip() == '"mended"', f"it goes on after a broken save: {seen}")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 130)
        run("rm", "cli-greeter", "--yes", env={"BROOKLET_SERVER": server.url})


def test_logs_follow_shows_lines_as_they_come(cli, server, project):
    cli("deploy", project)
    process = subprocess.Popen(
        [binary(), "logs", "cli-greeter", "-f"],
        env=environment(BROOKLET_SERVER=server.url),
        stdout=subprocess.PIPE,
        text=True,
    )
    started.add(process.pid)
    seen = []
    threading.Thread(target=lambda: seen.extend(iter(process.stdout.readline, "")), daemon=True).start()
    try:

        def shown():
            cli("invoke", "cli-greeter", "--data", '"followed"')
            return any("greeting followed" in line for line in list(seen))

        processes.wait_until(shown, "the line comes while we follow")
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        cli("rm", "cli-greeter", "--yes")


def test_logs_are_found_by_request_id(cli, project):
    cli("deploy", project)
    first = cli("invoke", "cli-greeter", "--data", '"one"', "--tail")
    cli("invoke", "cli-greeter", "--data", '"two"')
    request = re.search(r"START RequestId: (\S+)", first.stderr)[1]
    only = cli("logs", "cli-greeter", "--request-id", request).stdout
    assert "greeting one" in only and "greeting two" not in only
    unknown = "00000000-0000-4000-8000-000000000000"
    missing = cli("logs", "cli-greeter", "--request-id", unknown, expect=NOT_FOUND)
    assert unknown in missing.stderr and missing.stdout == ""
    removed = cli("rm", "cli-greeter", "--yes", "--output", "json")
    assert json.loads(removed.stdout) == {"removed": ["cli-greeter"]}


def test_doctor_says_what_this_machine_can_do(cli):
    said = cli("doctor").stdout
    assert "python" in said.lower() and "node" in said.lower()
    assert json.loads(cli("doctor", "--output", "json").stdout)


def test_version(cli):
    assert re.fullmatch(r"brooklet \d+\.\d+\.\d+\n", cli("version").stdout)
    assert re.fullmatch(r"brooklet \d+\.\d+\.\d+\n", cli("--version").stdout)


def test_help_shows_examples_and_the_table_of_exit_codes(cli):
    said = cli("--help").stdout
    assert "Exit codes:" in said and "brooklet deploy" in said
    for command in ("up", "deploy", "invoke", "logs", "dev"):
        assert "Examples:" in cli(command, "--help").stdout, command
