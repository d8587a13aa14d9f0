"""The control part of Lambda's API through boto3 and the aws CLI.

Every answer is checked against botocore's service model by the client itself (harness/aws.py); the tests say what
the values have to be. Source: the Lambda API reference, one page per operation.
"""

import base64
import hashlib
import json
import re

import pytest
import requests

from harness import aws, packages
from harness.aws import ACCOUNT, REGION, ROLE, refusal

ECHO = packages.zip_of({"app.py": "def handler(event, context):\n    return event\n"})
VERSIONED = "import os\ndef handler(event, context):\n    return {'code': %d, 'version': context.function_version}\n"


def code(number):
    """A package that answers {"code": number, …}."""
    return packages.zip_of({"app.py": VERSIONED % number})


def arn(name, qualifier=None):
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}" + (f":{qualifier}" if qualifier else "")


def create(client, name, package=ECHO, **more):
    settings = {"Runtime": packages.PYTHON, "Handler": "app.handler", "Role": ROLE, "Code": {"ZipFile": package}} | more
    return client.create_function(FunctionName=name, **settings)


@pytest.fixture
def name(lambda_client, request):
    """A function name of the test's own; what carries it is deleted afterwards."""
    own = "c-" + re.sub(r"\W", "-", request.node.name)[:50]
    yield own
    for function in [own, own + "-2"]:
        try:
            lambda_client.delete_function(FunctionName=function)
        except lambda_client.exceptions.ResourceNotFoundException:
            pass


# ---- functions -----------------------------------------------------------------------------------------------


def test_create_answers_the_whole_configuration(lambda_client, name):
    made = create(
        lambda_client,
        name,
        Description="says it back",
        Timeout=7,
        MemorySize=256,
        Environment={"Variables": {"ONE": "1"}},
        EphemeralStorage={"Size": 1024},
        Architectures=["x86_64"],
        Tags={"team": "river"},
        TracingConfig={"Mode": "Active"},
        LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "SystemLogLevel": "WARN"},
    )
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    expected = {
        "FunctionName": name,
        "FunctionArn": arn(name),
        "Runtime": packages.PYTHON,
        "Role": ROLE,
        "Handler": "app.handler",
        "CodeSize": len(ECHO),
        "Description": "says it back",
        "Timeout": 7,
        "MemorySize": 256,
        "Version": "$LATEST",
        "CodeSha256": base64.b64encode(hashlib.sha256(ECHO).digest()).decode(),
        "Environment": {"Variables": {"ONE": "1"}},
        "EphemeralStorage": {"Size": 1024},
        "Architectures": ["x86_64"],
        "PackageType": "Zip",
        "TracingConfig": {"Mode": "Active"},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {
            "LogFormat": "JSON",
            "ApplicationLogLevel": "DEBUG",
            "SystemLogLevel": "WARN",
            "LogGroup": f"/aws/lambda/{name}",
        },
    }
    assert {key: made.get(key) for key in expected} == expected
    assert made["State"] in ("Pending", "Active")


def test_a_function_made_without_settings_has_lambdas_defaults(lambda_client, name):
    made = create(lambda_client, name)
    expected = {
        "Timeout": 3,
        "MemorySize": 128,
        "Description": "",
        "EphemeralStorage": {"Size": 512},
        "Architectures": ["x86_64"],
        "TracingConfig": {"Mode": "PassThrough"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
    }
    assert {key: made.get(key) for key in expected} == expected
    assert "Environment" not in made and "Layers" not in made and "VpcConfig" not in made


def test_the_waiters_see_a_new_function_become_active(lambda_client, name):
    create(lambda_client, name)
    quick = {"Delay": 0.05, "MaxAttempts": 100}
    for waiter in (
        "function_exists",
        "function_active",
        "function_active_v2",
        "function_updated",
        "function_updated_v2",
    ):
        lambda_client.get_waiter(waiter).wait(FunctionName=name, WaiterConfig=quick)
    lambda_client.publish_version(FunctionName=name)
    lambda_client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier="1", WaiterConfig=quick)
    now = lambda_client.get_function_configuration(FunctionName=name)
    assert (now["State"], now["LastUpdateStatus"]) == ("Active", "Successful")


def test_get_function_gives_configuration_code_location_tags_and_concurrency(lambda_client, name):
    create(lambda_client, name, Tags={"team": "river"})
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=3)
    got = lambda_client.get_function(FunctionName=name)
    assert got["Tags"] == {"team": "river"}
    assert got["Concurrency"] == {"ReservedConcurrentExecutions": 3}
    assert got["Code"]["RepositoryType"] == "S3"
    fetched = requests.get(got["Code"]["Location"], timeout=10)
    assert fetched.status_code == 200 and fetched.content == ECHO


@pytest.mark.parametrize("form", ["name", "arn", "partial arn", "versioned arn", "versioned name"])
def test_a_function_is_found_by_every_form_of_its_name(lambda_client, name, form):
    create(lambda_client, name)
    spelled = {
        "name": name,
        "arn": arn(name),
        "partial arn": f"{ACCOUNT}:function:{name}",
        "versioned arn": arn(name, "$LATEST"),
        "versioned name": f"{name}:$LATEST",
    }[form]
    got = lambda_client.get_function_configuration(FunctionName=spelled)
    assert got["FunctionName"] == name


def test_a_qualified_lookup_answers_with_the_qualified_arn(lambda_client, name):
    create(lambda_client, name, Publish=True)
    for qualifier in ("$LATEST", "1"):
        got = lambda_client.get_function_configuration(FunctionName=name, Qualifier=qualifier)
        assert (got["FunctionArn"], got["Version"]) == (arn(name, qualifier), qualifier)


def test_a_second_create_of_the_same_name_is_a_conflict(lambda_client, name):
    create(lambda_client, name)
    code_, status, message = refusal(create, lambda_client, name)
    assert (code_, status, message) == ("ResourceConflictException", 409, f"Function already exist: {name}")


@pytest.mark.parametrize(
    "operation",
    [
        "get_function",
        "get_function_configuration",
        "delete_function",
        "publish_version",
        "list_versions_by_function",
        "list_aliases",
        "get_function_concurrency",
        "invoke",
        "update_function_configuration",
        "update_function_code",
    ],
)
def test_a_function_that_is_not_there_is_not_found(lambda_client, operation):
    more = {"ZipFile": ECHO} if operation == "update_function_code" else {}
    got = refusal(getattr(lambda_client, operation), FunctionName="not-there", **more)
    assert got == ("ResourceNotFoundException", 404, f"Function not found: {arn('not-there')}")


@pytest.mark.parametrize(
    "operation, message",
    [
        ("create_function_url_config", "Function does not exist"),
        ("update_function_url_config", "Function does not exist"),
        ("list_function_url_configs", "Function does not exist"),
        ("get_function_url_config", "The resource you requested does not exist."),
        ("delete_function_url_config", "The resource you requested does not exist."),
    ],
)
def test_url_operations_have_words_of_their_own_for_a_function_that_is_not_there(lambda_client, operation, message):
    more = {"AuthType": "NONE"} if operation == "create_function_url_config" else {}
    got = refusal(getattr(lambda_client, operation), FunctionName="not-there", **more)
    assert got == ("ResourceNotFoundException", 404, message)


def test_a_version_that_is_not_there_is_not_found(lambda_client, name):
    create(lambda_client, name)
    code_, status, message = refusal(lambda_client.invoke, FunctionName=name, Qualifier="9")
    assert (code_, status, message) == ("ResourceNotFoundException", 404, f"Function not found: {arn(name, '9')}")


def test_a_deleted_function_is_gone_with_its_versions_and_aliases(lambda_client, name):
    create(lambda_client, name, Publish=True)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    gone = lambda_client.delete_function(FunctionName=name)
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    for qualifier in ({}, {"Qualifier": "1"}, {"Qualifier": "live"}):
        assert refusal(lambda_client.get_function, FunctionName=name, **qualifier)[0] == "ResourceNotFoundException"
    create(lambda_client, name)
    assert lambda_client.publish_version(FunctionName=name)["Version"] == "1", "numbering starts anew"


def test_functions_are_listed_in_pages_without_gap_or_repetition(lambda_client, name):
    names = [f"{name}-p{n}" for n in range(7)]
    for one in names:
        create(lambda_client, one)
    try:
        pages = list(lambda_client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 3}))
        assert all(len(page["Functions"]) <= 3 for page in pages) and len(pages) >= 3
        listed = [function["FunctionName"] for page in pages for function in page["Functions"]]
        assert len(listed) == len(set(listed))
        assert set(names) <= set(listed)
        assert "NextMarker" not in pages[-1]
    finally:
        for one in names:
            lambda_client.delete_function(FunctionName=one)


def test_list_functions_with_all_lists_published_versions_too(lambda_client, name):
    create(lambda_client, name, Publish=True)
    pages = lambda_client.get_paginator("list_functions").paginate(FunctionVersion="ALL")
    mine = [f["Version"] for page in pages for f in page["Functions"] if f["FunctionName"] == name]
    assert sorted(mine) == ["$LATEST", "1"]
    plain = lambda_client.get_paginator("list_functions").paginate()
    assert [f["FunctionArn"] for page in plain for f in page["Functions"] if f["FunctionName"] == name] == [arn(name)]


# ---- updates -------------------------------------------------------------------------------------------------


def test_new_code_answers_after_an_update(lambda_client, name):
    create(lambda_client, name, code(1))
    function = aws.Function(lambda_client, name)
    assert function()["code"] == 1
    before = lambda_client.get_function_configuration(FunctionName=name)
    updated = lambda_client.update_function_code(FunctionName=name, ZipFile=code(2))
    assert updated["CodeSha256"] != before["CodeSha256"] and updated["RevisionId"] != before["RevisionId"]
    lambda_client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05})
    assert function()["code"] == 2


def test_a_dry_run_of_an_update_changes_nothing(lambda_client, name):
    create(lambda_client, name, code(1))
    dry = lambda_client.update_function_code(FunctionName=name, ZipFile=code(2), DryRun=True)
    assert dry["CodeSha256"] == base64.b64encode(hashlib.sha256(code(2)).digest()).decode()
    now = lambda_client.get_function_configuration(FunctionName=name)
    assert now["CodeSha256"] == base64.b64encode(hashlib.sha256(code(1)).digest()).decode()


def test_an_update_of_the_code_can_publish_a_version(lambda_client, name):
    create(lambda_client, name, code(1))
    assert lambda_client.update_function_code(FunctionName=name, ZipFile=code(2), Publish=True)["Version"] == "1"
    assert aws.Function(lambda_client, name)(Qualifier="1") == {"code": 2, "version": "1"}


def test_an_update_of_the_configuration_changes_what_it_names_and_nothing_else(lambda_client, name):
    create(lambda_client, name, Description="old", Environment={"Variables": {"ONE": "1"}}, Timeout=9)
    changed = lambda_client.update_function_configuration(
        FunctionName=name, MemorySize=512, Environment={"Variables": {"TWO": "2"}}
    )
    expected = {"Description": "old", "Environment": {"Variables": {"TWO": "2"}}, "Timeout": 9, "MemorySize": 512}
    assert {key: changed[key] for key in expected} == expected
    emptied = lambda_client.update_function_configuration(
        FunctionName=name, Environment={"Variables": {}}, Description=""
    )
    assert emptied["Description"] == "" and not emptied.get("Environment", {}).get("Variables")


@pytest.mark.parametrize("operation", ["update_function_code", "update_function_configuration", "publish_version"])
def test_a_change_on_condition_of_an_old_revision_is_refused(lambda_client, name, operation):
    create(lambda_client, name)
    more = {"ZipFile": code(2)} if operation == "update_function_code" else {}
    got = refusal(
        getattr(lambda_client, operation), FunctionName=name, RevisionId="00000000-0000-0000-0000-000000000000", **more
    )
    assert got[:2] == ("PreconditionFailedException", 412)
    assert got[2] == (
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
    )


def test_a_change_on_condition_of_the_current_revision_is_made(lambda_client, name):
    revision = create(lambda_client, name)["RevisionId"]
    changed = lambda_client.update_function_configuration(FunctionName=name, Description="new", RevisionId=revision)
    assert changed["Description"] == "new" and changed["RevisionId"] != revision


# ---- versions and aliases ------------------------------------------------------------------------------------


def test_a_published_version_keeps_its_code_and_configuration(lambda_client, name):
    create(lambda_client, name, code(1), Timeout=5)
    first = lambda_client.publish_version(FunctionName=name, Description="the first")
    assert (first["Version"], first["FunctionArn"], first["Description"]) == ("1", arn(name, "1"), "the first")
    lambda_client.update_function_code(FunctionName=name, ZipFile=code(2))
    lambda_client.update_function_configuration(FunctionName=name, Timeout=6)
    function = aws.Function(lambda_client, name)
    assert function(Qualifier="1") == {"code": 1, "version": "1"}
    assert function() == {"code": 2, "version": "$LATEST"}
    assert lambda_client.get_function_configuration(FunctionName=name, Qualifier="1")["Timeout"] == 5
    assert lambda_client.publish_version(FunctionName=name)["Version"] == "2"


def test_publishing_what_has_not_changed_gives_the_last_version_again(lambda_client, name):
    create(lambda_client, name)
    assert lambda_client.publish_version(FunctionName=name)["Version"] == "1"
    assert lambda_client.publish_version(FunctionName=name)["Version"] == "1"


def test_publishing_checks_the_code_digest_that_the_caller_expects(lambda_client, name):
    made = create(lambda_client, name)
    wrong = base64.b64encode(bytes(32)).decode()
    assert refusal(lambda_client.publish_version, FunctionName=name, CodeSha256=wrong) == (
        "InvalidParameterValueException",
        400,
        f"CodeSHA256 ({wrong}) is different from current CodeSHA256 in $LATEST ({made['CodeSha256']}). "
        "Please try again with the CodeSHA256 in $LATEST.",
    )
    assert lambda_client.publish_version(FunctionName=name, CodeSha256=made["CodeSha256"])["Version"] == "1"


def test_versions_are_listed_and_a_deleted_one_is_not_numbered_again(lambda_client, name):
    create(lambda_client, name, code(1), Publish=True)
    for number in (2, 3):
        lambda_client.update_function_code(FunctionName=name, ZipFile=code(number), Publish=True)
    pages = lambda_client.get_paginator("list_versions_by_function").paginate(
        FunctionName=name, PaginationConfig={"PageSize": 2}
    )
    listed = [(v["Version"], v["FunctionArn"]) for page in pages for v in page["Versions"]]
    assert listed == [(v, arn(name, v)) for v in ("$LATEST", "1", "2", "3")]
    lambda_client.delete_function(FunctionName=name, Qualifier="3")
    lambda_client.update_function_code(FunctionName=name, ZipFile=code(4))
    assert lambda_client.publish_version(FunctionName=name)["Version"] == "4"
    left = [v["Version"] for v in lambda_client.list_versions_by_function(FunctionName=name)["Versions"]]
    assert left == ["$LATEST", "1", "2", "4"]


def test_latest_can_not_be_deleted_by_its_qualifier(lambda_client, name):
    create(lambda_client, name)
    got = refusal(lambda_client.delete_function, FunctionName=name, Qualifier="$LATEST")
    assert got[:2] == ("InvalidParameterValueException", 400)
    assert got[2] == "$LATEST version cannot be deleted without deleting the function."


def test_an_alias_leads_to_its_version(lambda_client, name):
    create(lambda_client, name, code(1), Publish=True)
    made = lambda_client.create_alias(
        FunctionName=name, Name="live", FunctionVersion="1", Description="what people use"
    )
    expected = {"AliasArn": arn(name, "live"), "Name": "live", "FunctionVersion": "1", "Description": "what people use"}
    assert {key: made[key] for key in expected} == expected
    answer = aws.Function(lambda_client, name).invoke(Qualifier="live")
    assert (answer["ExecutedVersion"], json.loads(answer["Payload"])) == ("1", {"code": 1, "version": "1"})
    lambda_client.update_function_code(FunctionName=name, ZipFile=code(2), Publish=True)
    lambda_client.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    assert aws.Function(lambda_client, name)(Qualifier="live")["code"] == 2
    got = lambda_client.get_alias(FunctionName=name, Name="live")
    assert (got["FunctionVersion"], got["Description"]) == ("2", "what people use")
    assert got["RevisionId"] != made["RevisionId"]


def test_a_weighted_alias_sends_its_share_to_each_version(lambda_client, name):
    create(lambda_client, name, code(1), Publish=True)
    lambda_client.update_function_code(FunctionName=name, ZipFile=code(2), Publish=True)
    lambda_client.create_alias(
        FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}}
    )
    function = aws.Function(lambda_client, name)
    ran = [function.invoke(Qualifier="live")["ExecutedVersion"] for _ in range(200)]
    # 200 fair throws: 60 or fewer of one side happen less than once in 10^8 runs.
    assert 60 < ran.count("2") < 140
    lambda_client.update_alias(FunctionName=name, Name="live", RoutingConfig={"AdditionalVersionWeights": {}})
    assert {function.invoke(Qualifier="live")["ExecutedVersion"] for _ in range(20)} == {"1"}
    got = lambda_client.get_alias(FunctionName=name, Name="live")
    assert not got.get("RoutingConfig", {}).get("AdditionalVersionWeights")


def test_aliases_are_listed_in_pages_and_by_version(lambda_client, name):
    create(lambda_client, name, code(1), Publish=True)
    lambda_client.update_function_code(FunctionName=name, ZipFile=code(2), Publish=True)
    for alias, version in (("a", "1"), ("b", "2"), ("c", "1")):
        lambda_client.create_alias(FunctionName=name, Name=alias, FunctionVersion=version)
    pages = lambda_client.get_paginator("list_aliases").paginate(FunctionName=name, PaginationConfig={"PageSize": 2})
    assert [a["Name"] for page in pages for a in page["Aliases"]] == ["a", "b", "c"]
    assert [a["Name"] for a in lambda_client.list_aliases(FunctionName=name, FunctionVersion="1")["Aliases"]] == [
        "a",
        "c",
    ]
    lambda_client.delete_alias(FunctionName=name, Name="b")
    got = refusal(lambda_client.get_alias, FunctionName=name, Name="b")
    assert got == ("ResourceNotFoundException", 404, f"Cannot find alias arn: {arn(name, 'b')}")


def test_an_alias_leads_to_two_versions_at_most(lambda_client, name):
    create(lambda_client, name, code(1), Publish=True)
    for number in (2, 3):
        lambda_client.update_function_code(FunctionName=name, ZipFile=code(number), Publish=True)
    routing = {"AdditionalVersionWeights": {"2": 0.1, "3": 0.1}}
    got = refusal(lambda_client.create_alias, FunctionName=name, Name="a", FunctionVersion="1", RoutingConfig=routing)
    assert got[:2] == ("InvalidParameterValueException", 400)
    assert got[2] == "Number of items in AdditionalVersionWeights cannot be greater than 1"


def test_an_alias_that_is_there_can_not_be_made_again(lambda_client, name):
    create(lambda_client, name, Publish=True)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    got = refusal(lambda_client.create_alias, FunctionName=name, Name="live", FunctionVersion="1")
    assert got == ("ResourceConflictException", 409, f"Alias already exists: {arn(name, 'live')}")


def test_a_version_that_an_alias_leads_to_can_not_be_deleted(lambda_client, name):
    create(lambda_client, name, Publish=True)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    assert refusal(lambda_client.delete_function, FunctionName=name, Qualifier="1")[:2] == (
        "ResourceConflictException",
        409,
    )


def test_an_alias_to_a_version_that_is_not_there_is_refused(lambda_client, name):
    create(lambda_client, name)
    got = refusal(lambda_client.create_alias, FunctionName=name, Name="live", FunctionVersion="7")
    assert got == ("ResourceNotFoundException", 404, f"Function not found: {arn(name, '7')}")


# ---- concurrency, tags, account ------------------------------------------------------------------------------


def test_reserved_concurrency_is_kept_and_given_up(lambda_client, name):
    create(lambda_client, name)
    assert "ReservedConcurrentExecutions" not in lambda_client.get_function_concurrency(FunctionName=name)
    put = lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=5)
    assert put["ReservedConcurrentExecutions"] == 5
    assert lambda_client.get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == 5
    lambda_client.delete_function_concurrency(FunctionName=name)
    assert "ReservedConcurrentExecutions" not in lambda_client.get_function_concurrency(FunctionName=name)


def test_reservations_leave_at_least_a_hundred_unreserved(lambda_client, name):
    create(lambda_client, name)
    limit = lambda_client.get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    code_, status, message = refusal(
        lambda_client.put_function_concurrency, FunctionName=name, ReservedConcurrentExecutions=limit - 99
    )
    assert (code_, status) == ("InvalidParameterValueException", 400)
    assert message == (
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100]."
    )


def test_account_settings_count_functions_code_and_reservations(lambda_client, name):
    before = lambda_client.get_account_settings()
    create(lambda_client, name)
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=7)
    after = lambda_client.get_account_settings()
    assert after["AccountUsage"]["FunctionCount"] == before["AccountUsage"]["FunctionCount"] + 1
    assert after["AccountUsage"]["TotalCodeSize"] == before["AccountUsage"]["TotalCodeSize"] + len(ECHO)
    unreserved = "UnreservedConcurrentExecutions"
    assert after["AccountLimit"][unreserved] == before["AccountLimit"][unreserved] - 7
    assert after["AccountLimit"]["ConcurrentExecutions"] == before["AccountLimit"]["ConcurrentExecutions"]
    limits = {"CodeSizeUnzipped": 262144000, "CodeSizeZipped": 52428800}
    assert {key: after["AccountLimit"][key] for key in limits} == limits


def test_tags_are_added_replaced_and_removed(lambda_client, name):
    create(lambda_client, name, Tags={"a": "1", "b": "2"})
    lambda_client.tag_resource(Resource=arn(name), Tags={"b": "two", "c d/é": "x=y&z"})
    assert lambda_client.list_tags(Resource=arn(name))["Tags"] == {"a": "1", "b": "two", "c d/é": "x=y&z"}
    lambda_client.untag_resource(Resource=arn(name), TagKeys=["a", "c d/é", "never there"])
    assert lambda_client.list_tags(Resource=arn(name))["Tags"] == {"b": "two"}
    assert lambda_client.get_function(FunctionName=name)["Tags"] == {"b": "two"}


# ---- function URL configurations -----------------------------------------------------------------------------


def test_a_function_url_configuration_is_made_read_changed_and_removed(lambda_client, name):
    create(lambda_client, name)
    cors = {
        "AllowOrigins": ["https://example.com"],
        "AllowMethods": ["GET", "POST"],
        "MaxAge": 60,
        "AllowCredentials": True,
        "AllowHeaders": ["x-one"],
        "ExposeHeaders": ["x-two"],
    }
    made = lambda_client.create_function_url_config(FunctionName=name, AuthType="NONE", Cors=cors)
    assert (
        made["FunctionArn"] == arn(name) and made["Cors"] == cors and made.get("InvokeMode", "BUFFERED") == "BUFFERED"
    )
    assert re.fullmatch(rf"http://[a-z0-9]{{32}}\.lambda-url\.{REGION}\.localhost:\d+/", made["FunctionUrl"])
    got = lambda_client.get_function_url_config(FunctionName=name)
    assert (got["FunctionUrl"], got["CreationTime"]) == (made["FunctionUrl"], made["CreationTime"])
    changed = lambda_client.update_function_url_config(
        FunctionName=name, InvokeMode="RESPONSE_STREAM", AuthType="AWS_IAM"
    )
    assert (changed["InvokeMode"], changed["AuthType"], changed["Cors"]) == ("RESPONSE_STREAM", "AWS_IAM", cors)
    assert changed["FunctionUrl"] == made["FunctionUrl"]
    lambda_client.delete_function_url_config(FunctionName=name)
    got = refusal(lambda_client.get_function_url_config, FunctionName=name)
    assert got == ("ResourceNotFoundException", 404, "The resource you requested does not exist.")


def test_an_alias_has_a_url_of_its_own_and_a_version_can_have_none(lambda_client, name):
    create(lambda_client, name, Publish=True)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    one = lambda_client.create_function_url_config(FunctionName=name, AuthType="NONE")
    two = lambda_client.create_function_url_config(FunctionName=name, Qualifier="live", AuthType="NONE")
    assert two["FunctionArn"] == arn(name, "live") and two["FunctionUrl"] != one["FunctionUrl"]
    listed = lambda_client.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"]
    assert sorted(u["FunctionArn"] for u in listed) == [arn(name), arn(name, "live")]
    got = refusal(lambda_client.create_function_url_config, FunctionName=name, Qualifier="1", AuthType="NONE")
    assert got[:2] == ("ValidationException", 400)
    assert got[2].startswith("1 validation error detected: Value '1' at 'qualifier' failed to satisfy constraint")


def test_a_second_url_for_the_same_function_is_a_conflict(lambda_client, name):
    create(lambda_client, name)
    lambda_client.create_function_url_config(FunctionName=name, AuthType="NONE")
    got = refusal(lambda_client.create_function_url_config, FunctionName=name, AuthType="NONE")
    assert got == (
        "ResourceConflictException",
        409,
        f"Failed to create function url config for [functionArn = {arn(name)}]. "
        "Error message:  FunctionUrlConfig exists for this Lambda function",
    )


# ---- invoke --------------------------------------------------------------------------------------------------


def test_a_dry_run_of_invoke_answers_204_and_runs_nothing(lambda_client, name):
    create(lambda_client, name)
    answer = lambda_client.invoke(FunctionName=name, InvocationType="DryRun", Payload=b"{}")
    assert answer["StatusCode"] == 204 and answer["Payload"].read() == b""


def test_an_invocation_is_answered_with_the_executed_version_and_no_more_than_asked(lambda_client, name):
    create(lambda_client, name)
    answer = aws.Function(lambda_client, name).invoke({"a": [1, None, "ü"]})
    assert json.loads(answer["Payload"]) == {"a": [1, None, "ü"]}
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert "FunctionError" not in answer and "LogResult" not in answer
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert headers["content-type"] == "application/json"
    assert re.fullmatch(r"[0-9a-f-]{36}", headers["x-amzn-requestid"])
    assert headers["x-amz-executed-version"] == "$LATEST"


def test_the_log_tail_belongs_to_the_invocation(lambda_client, name):
    package = packages.zip_of({"app.py": "def handler(event, context):\n    print('saw', event)\n"})
    create(lambda_client, name, package, MemorySize=192)
    function = aws.Function(lambda_client, name)
    answer, log = function.tail("first")
    request = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    lines = log.splitlines()
    assert f"START RequestId: {request} Version: $LATEST" in lines
    assert "saw first" in lines
    assert f"END RequestId: {request}" in lines
    report = next(line for line in lines if line.startswith("REPORT"))
    assert re.fullmatch(
        rf"REPORT RequestId: {request}\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 192 MB\t"
        r"Max Memory Used: \d+ MB\tInit Duration: \d+\.\d\d ms\tCold Start: [^\t]+\t",
        report,
    ), repr(report)
    _, log = function.tail("second")
    assert "saw second" in log and "saw first" not in log and "Init Duration" not in log


def test_the_log_tail_is_the_last_four_kibibytes(lambda_client, name):
    package = packages.zip_of({"app.py": "def handler(event, context):\n    for n in range(2000): print('line', n)\n"})
    create(lambda_client, name, package)
    _, log = aws.Function(lambda_client, name).tail()
    assert len(log.encode()) <= 4096 and "line 1999" in log and "line 0\n" not in log


def test_client_context_reaches_the_function(lambda_client, name):
    package = packages.zip_of({"app.py": "def handler(event, context):\n    return context.client_context.custom\n"})
    create(lambda_client, name, package)
    given = base64.b64encode(json.dumps({"custom": {"k": "v"}}).encode()).decode()
    assert aws.Function(lambda_client, name)(ClientContext=given) == {"k": "v"}


def test_invoke_with_response_stream_gives_chunks_and_a_last_event(lambda_client, name):
    create(lambda_client, name)
    answer = lambda_client.invoke_with_response_stream(FunctionName=name, Payload=b'{"a": 1}', LogType="Tail")
    assert answer["ExecutedVersion"] == "$LATEST"
    events = list(answer["EventStream"])
    body = b"".join(event["PayloadChunk"]["Payload"] for event in events if "PayloadChunk" in event)
    assert json.loads(body) == {"a": 1}
    last = events[-1]["InvokeComplete"]
    assert "ErrorCode" not in last
    assert "REPORT RequestId" in base64.b64decode(last["LogResult"]).decode()


# ---- the aws command line ------------------------------------------------------------------------------------

#: One row per operation: what is typed, and what the answer must contain (a subset). {} places come from the test.
COMMANDS = [
    (
        "create-function --function-name {name} --runtime {runtime} --handler app.handler --role {role} --zip-file fileb://{zip}",
        {"FunctionName": "{name}", "Version": "$LATEST"},
    ),
    ("wait function-active-v2 --function-name {name}", None),
    ("get-function --function-name {name}", {"Configuration": {"FunctionArn": "{arn}", "State": "Active"}}),
    ("get-function-configuration --function-name {name}", {"Handler": "app.handler"}),
    ("list-functions --max-items 50", {}),
    (
        'invoke --function-name {name} --payload {{"a":1}} --log-type Tail {out}',
        {"StatusCode": 200, "ExecutedVersion": "$LATEST"},
    ),
    ("invoke --function-name {name} --invocation-type DryRun {out}", {"StatusCode": 204}),
    (
        "update-function-configuration --function-name {name} --timeout 11 --environment Variables={{ONE=1,TWO=2}}",
        {"Timeout": 11, "Environment": {"Variables": {"ONE": "1", "TWO": "2"}}},
    ),
    ("wait function-updated-v2 --function-name {name}", None),
    ("update-function-code --function-name {name} --zip-file fileb://{zip} --publish", {"Version": "1"}),
    ("publish-version --function-name {name}", {"Version": "1"}),
    ("list-versions-by-function --function-name {name}", {}),
    ("create-alias --function-name {name} --name live --function-version 1", {"Name": "live", "FunctionVersion": "1"}),
    ("get-alias --function-name {name} --name live", {"AliasArn": "{arn}:live"}),
    ("update-alias --function-name {name} --name live --description used", {"Description": "used"}),
    ("list-aliases --function-name {name}", {}),
    (
        "put-function-concurrency --function-name {name} --reserved-concurrent-executions 2",
        {"ReservedConcurrentExecutions": 2},
    ),
    ("get-function-concurrency --function-name {name}", {"ReservedConcurrentExecutions": 2}),
    ("delete-function-concurrency --function-name {name}", None),
    ("tag-resource --resource {arn} --tags a=1", None),
    ("list-tags --resource {arn}", {"Tags": {"a": "1"}}),
    ("untag-resource --resource {arn} --tag-keys a", None),
    ("create-function-url-config --function-name {name} --auth-type NONE --cors AllowOrigins=*", {"AuthType": "NONE"}),
    ("get-function-url-config --function-name {name}", {"InvokeMode": "BUFFERED"}),
    (
        "update-function-url-config --function-name {name} --invoke-mode RESPONSE_STREAM",
        {"InvokeMode": "RESPONSE_STREAM"},
    ),
    ("list-function-url-configs --function-name {name}", {}),
    ("delete-function-url-config --function-name {name}", None),
    ("get-account-settings", {}),
    ("delete-alias --function-name {name} --name live", None),
    ("delete-function --function-name {name} --qualifier 1", {"StatusCode": 204}),
    ("delete-function --function-name {name}", {"StatusCode": 204}),
]


@pytest.mark.timeout(300)
def test_the_aws_command_line_does_every_operation(server, name, tmp_path):
    (tmp_path / "code.zip").write_bytes(ECHO)
    out = tmp_path / "answer.json"
    places = {
        "name": name,
        "arn": arn(name),
        "role": ROLE,
        "runtime": packages.PYTHON,
        "zip": tmp_path / "code.zip",
        "out": out,
    }
    for typed, expected in COMMANDS:
        arguments = [word.format(**places) for word in typed.split()]
        answer = aws.cli(server, *arguments)
        if expected is not None:
            filled = json.loads(json.dumps(expected).replace("{name}", name).replace("{arn}", arn(name)))
            assert contains(answer, filled), f"aws lambda {' '.join(arguments)} answered {answer}"
        if "--payload" in typed:
            assert json.loads(out.read_text()) == {"a": 1}
    missing = aws.cli(server, "get-function", "--function-name", name, check=False)
    assert missing.returncode in (254, 255) and f"Function not found: {arn(name)}" in missing.stderr


def contains(answer, expected):
    """Whether every member of `expected` is in `answer`, deeply."""
    if isinstance(expected, dict):
        return isinstance(answer, dict) and all(k in answer and contains(answer[k], v) for k, v in expected.items())
    return answer == expected
