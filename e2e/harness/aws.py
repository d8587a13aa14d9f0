"""boto3 and the aws CLI against a server, every answer checked by `shapes`."""

import base64
import json
import subprocess
import sys

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import botocore.exceptions

from . import packages, processes, shapes
from .server import environment

REGION = "us-east-1"
ACCOUNT = "000000000000"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/lambda-role"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}


def client(server, checked=True, keys=("test", "test"), **config):
    """A boto3 Lambda client that does not retry and, unless told otherwise, checks every answer."""
    settings = {"retries": {"total_max_attempts": 1}, "read_timeout": 90, "max_pool_connections": 64} | config
    session = boto3.Session(*keys, region_name=REGION)
    made = session.client("lambda", endpoint_url=server.url, config=botocore.config.Config(**settings))
    if checked:
        made.meta.events.register("after-call.lambda", _check)
    return made


def _check(http_response, parsed, model, **_):
    streams = model.name in ("Invoke", "InvokeWithResponseStream") and http_response.status_code < 300
    body = None if streams else http_response.content
    found = shapes.problems(model.name, http_response.status_code, http_response.headers, body)
    assert not found, f"{model.name} answered {http_response.status_code} against the model: " + "; ".join(found)


def cli(server, *arguments, check=True):
    """Runs `aws lambda …` and gives its JSON answer (None when it printed nothing)."""
    env = environment(**CREDENTIALS, AWS_ENDPOINT_URL=server.url, AWS_PAGER="", AWS_MAX_ATTEMPTS="1")
    program = packages.pathlib.Path(sys.executable).parent / "aws"
    done = subprocess.run(
        [program, "lambda", *map(str, arguments)], env=env, text=True, capture_output=True, timeout=90
    )
    if not check:
        return done
    assert done.returncode == 0, f"aws lambda {' '.join(map(str, arguments))}: {done.stderr}"
    return json.loads(done.stdout) if done.stdout.strip() else None


def refusal(call, *arguments, **parameters):
    """(code, status, message) of the error that the call must end with."""
    try:
        answer = call(*arguments, **parameters)
    except botocore.exceptions.ClientError as error:
        response = error.response
        message = response["Error"].get("Message") or response.get("message")
        return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], message
    raise AssertionError(f"an error was expected, got {answer}")


def signed(url, *credentials):
    """The headers that sign a GET of the address with an access key id, its secret, and perhaps a session token."""
    request = botocore.awsrequest.AWSRequest("GET", url)
    given = botocore.credentials.Credentials(*credentials)
    botocore.auth.SigV4Auth(given, "lambda", REGION).add_auth(request)
    return dict(request.headers)


class Function:
    """A deployed function: what tests call."""

    def __init__(self, lambda_client, name):
        self.client = lambda_client
        self.name = name

    def invoke(self, event=None, **more):
        """The raw answer of Invoke with its payload read: {'Payload': bytes, 'StatusCode': …}."""
        answer = self.client.invoke(FunctionName=self.name, Payload=json.dumps(event).encode(), **more)
        answer["Payload"] = answer["Payload"].read()
        return answer

    def __call__(self, event=None, **more):
        """The answer of a function that must succeed, as a value."""
        answer = self.invoke(event, **more)
        assert "FunctionError" not in answer, answer["Payload"].decode()
        return json.loads(answer["Payload"]) if answer["Payload"] else None

    def error(self, event=None, **more):
        """The error document of a function that must fail."""
        answer = self.invoke(event, **more)
        assert answer.get("FunctionError") == "Unhandled", answer
        assert answer["StatusCode"] == 200
        return json.loads(answer["Payload"])

    def tail(self, event=None, **more):
        """(answer, the last 4 KiB of the log as text)."""
        answer = self.invoke(event, LogType="Tail", **more)
        return answer, base64.b64decode(answer["LogResult"]).decode(errors="replace")

    def update(self, **configuration):
        """Changes the configuration and waits until it holds."""
        self.client.update_function_configuration(FunctionName=self.name, **configuration)
        self.client.get_waiter("function_updated_v2").wait(FunctionName=self.name, WaiterConfig={"Delay": 0.05})
        return self

    def url(self, qualifier=None, **config):
        """Makes a public function URL (or finds it) and gives its address."""
        at = {"FunctionName": self.name} | ({"Qualifier": qualifier} if qualifier else {})
        try:
            return self.client.create_function_url_config(**at, AuthType="NONE", **config)["FunctionUrl"]
        except self.client.exceptions.ResourceConflictException:
            return self.client.get_function_url_config(**at)["FunctionUrl"]


class Deployer:
    """Creates functions with names of their own and deletes them at the end."""

    def __init__(self, lambda_client, prefix):
        self.client = lambda_client
        self.prefix = prefix
        self.count = 0
        self.names = []

    def name(self):
        """A function name that nobody else has."""
        self.count += 1
        return f"{self.prefix}-{self.count}"[:64]

    def __call__(self, package, runtime="provided.al2023", handler="bootstrap", name=None, **more):
        name = name or self.name()
        if isinstance(package, dict):
            package = packages.zip_of(package)
        settings = {"Timeout": 30, "Role": ROLE, "Code": {"ZipFile": package}} | more
        try:
            self.client.create_function(FunctionName=name, Runtime=runtime, Handler=handler, **settings)
        except botocore.exceptions.ClientError as error:
            raise AssertionError(f"{runtime} could not be deployed: {error.response['Error']}") from None
        self.names.append(name)
        self.client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05})
        return Function(self.client, name)

    def clean(self):
        """Deletes what is left of them."""
        for name in self.names:
            try:
                self.client.delete_function(FunctionName=name)
            except self.client.exceptions.ResourceNotFoundException:
                pass


__all__ = ["ACCOUNT", "REGION", "ROLE", "Deployer", "Function", "cli", "client", "processes", "refusal"]
