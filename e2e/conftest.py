"""Fixtures: one shared server for most tests, clients, deployments that end with their module."""

import re
import signal

import pytest

from harness import aws, processes, web
from harness import server as servers

# A shell ignores it for what it starts in the background, and so would programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
processes.adopt_orphans()
web.resolve_localhost()


def pytest_sessionstart(session):
    """The binary is built before the first test's clock starts."""
    if not session.config.option.collectonly:
        servers.binary()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The server that most tests share. At the end it must stop cleanly and leave nothing behind."""
    with servers.Server(tmp_path_factory.mktemp("shared")) as shared:
        yield shared
        shared.check_listeners()


@pytest.fixture(scope="session")
def lambda_client(server):
    """boto3, every answer checked against the model."""
    return aws.client(server)


@pytest.fixture(scope="module")
def deploy(lambda_client, request):
    """Deploys functions that live as long as the module."""
    deployer = aws.Deployer(lambda_client, re.sub(r"\W", "-", request.module.__name__))
    yield deployer
    deployer.clean()


@pytest.fixture
def fresh(tmp_path):
    """Starts servers of a test's own: `fresh(*arguments, **options)`; they are stopped at its end."""
    made = []

    def start(*arguments, **options):
        number = len(made)
        one = servers.Server(tmp_path / f"server-{number}", *arguments, **options)
        made.append(one)
        return one.start()

    yield start
    for one in made:
        one.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows the end of its servers' logs."""
    outcome = yield
    report = outcome.get_result()
    if report.when != "call" or not report.failed:
        return
    for name, value in getattr(item, "funcargs", {}).items():
        if isinstance(value, servers.Server):
            report.sections.append((f"log of {name}", value.log()[-4000:]))


def pytest_sessionfinish(session):
    """No test may leave a process behind."""
    if left := processes.orphans(servers.started):
        print("\nprocesses left behind:", [(pid, processes.command(pid)) for pid in left])
        session.exitstatus = 1
