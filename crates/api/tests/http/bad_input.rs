//! A table of bad inputs: what was sent, the exact error.

use crate::rig::{Rig, zip_base64};

async fn check(rig: &Rig, request: &str, expected: &str) {
    let answer = rig.send(request).await;
    let shown: String = request.chars().take(200).collect();
    assert_eq!(answer.error(), expected, "{shown}");
    assert_eq!(answer.header("content-type").unwrap(), "application/json", "{shown}");
    assert_eq!(answer.header("x-amzn-requestid").unwrap().len(), 36, "{shown}");
}

#[tokio::test]
async fn what_is_no_operation() {
    let rig = Rig::echo().await;
    for (request, expected) in [
        (
            "PATCH /2015-03-31/functions/f",
            r#"404 UnknownOperationException {"message":"Lambda's API has no operation PATCH /2015-03-31/functions/f: this path takes GET, DELETE."}"#,
        ),
        (
            "GET /2015-03-31/secrets",
            r#"404 UnknownOperationException {"message":"Lambda's API has no operation GET /2015-03-31/secrets: no operation has this path."}"#,
        ),
        (
            "GET /nowhere",
            r#"404 UnknownOperationException {"message":"There is nothing at /nowhere. Lambda's API begins with a dated path such as /2015-03-31/functions, functions answer at /fn/<name>, Brooklet's own API is below /_brooklet/v1."}"#,
        ),
        (
            "POST /2015-03-31/event-source-mappings\n\n{}",
            r#"501 NotImplementedException {"Type":"User","message":"CreateEventSourceMapping is not supported yet by this version of Brooklet."}"#,
        ),
        (
            "POST /2014-11-13/functions/f/invoke-async/\n\n{}",
            r#"501 NotImplementedException {"Type":"User","message":"InvokeAsync is not supported yet by this version of Brooklet."}"#,
        ),
        (
            "GET /_brooklet/v1/secrets",
            r#"404 UnknownOperationException {"message":"Brooklet's API has no GET /_brooklet/v1/secrets. It has GET /_brooklet/v1/info, GET /_brooklet/v1/functions/<name>/logs and DELETE /_brooklet/v1/functions/<name>/instances."}"#,
        ),
    ] {
        check(&rig, request, expected).await;
    }
}

#[tokio::test]
async fn what_is_no_function() {
    let rig = Rig::echo().await;
    const PATTERN: &str = r"(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:)?(\\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\\$LATEST|[a-zA-Z0-9-_]+))?";
    for (request, expected) in [
        (
            "GET /2015-03-31/functions/missing",
            r#"404 ResourceNotFoundException {"Type":"User","Message":"Function not found: arn:aws:lambda:us-east-1:123456789012:function:missing"}"#.to_owned(),
        ),
        (
            "POST /2015-03-31/functions/missing/invocations?Qualifier=prod\n\n{}",
            r#"404 ResourceNotFoundException {"Type":"User","Message":"Function not found: arn:aws:lambda:us-east-1:123456789012:function:missing:prod"}"#.to_owned(),
        ),
        (
            "POST /2015-03-31/functions/a%20b/invocations\n\n{}",
            format!(
                r#"400 ValidationException {{"message":"1 validation error detected: Value 'a b' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: {PATTERN}"}}"#
            ),
        ),
        (
            "POST /2015-03-31/functions/f:1/invocations?Qualifier=2\n\n{}",
            r#"400 InvalidParameterValueException {"Type":"User","message":"The derived qualifier from the function name does not match the specified qualifier."}"#.to_owned(),
        ),
        (
            "PUT /2017-10-31/functions/f:1/concurrency\n\n{\"ReservedConcurrentExecutions\":1}",
            r#"400 InvalidParameterValueException {"Type":"User","message":"This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN."}"#.to_owned(),
        ),
        (
            "GET /2017-03-31/tags/f",
            r#"400 ValidationException {"message":"1 validation error detected: Value 'f' at 'resource' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*):lambda:[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:\\d{12}:(function:[a-zA-Z0-9-_]+(:(\\$LATEST|[a-zA-Z0-9-_]+))?|code-signing-config:csc-[a-z0-9]{17}|event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|capacity-provider:[a-zA-Z0-9-_]+)"}"#.to_owned(),
        ),
        (
            "GET /2015-03-31/functions?MaxItems=many",
            r#"400 SerializationException {"Type":"User","Message":"STRING_VALUE can not be converted to an Integer (at 'MaxItems': 'many')"}"#.to_owned(),
        ),
        (
            "GET /2015-03-31/functions?FunctionVersion=SOME",
            r#"400 ValidationException {"message":"1 validation error detected: Value 'SOME' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: [ALL]"}"#.to_owned(),
        ),
        (
            "GET /_brooklet/v1/functions/missing/logs",
            r#"404 ResourceNotFoundException {"Type":"User","Message":"Function not found: arn:aws:lambda:us-east-1:123456789012:function:missing"}"#.to_owned(),
        ),
    ] {
        check(&rig, request, &expected).await;
    }
}

#[tokio::test]
async fn what_cannot_be_created() {
    let rig = Rig::echo().await;
    rig.create("f").await;
    let zip = zip_base64();
    let function = |members: &str| {
        format!(
            r#"POST /2015-03-31/functions

{{"FunctionName":"g","Runtime":"python3.12","Handler":"a.b","Role":"arn:aws:iam::123456789012:role/r","Code":{{"ZipFile":"{zip}"}}{members}}}"#
        )
    };
    for (request, expected) in [
        (
            "POST /2015-03-31/functions\n\n{}".to_owned(),
            r#"400 ValidationException {"message":"3 validation errors detected: Value null at 'functionName' failed to satisfy constraint: Member must not be null; Value null at 'code' failed to satisfy constraint: Member must not be null; Value null at 'role' failed to satisfy constraint: Member must not be null"}"#,
        ),
        (
            "POST /2015-03-31/functions\n\n{oops".to_owned(),
            r#"400 SerializationException {"Type":"User","Message":"Could not parse request body into json: key must be a string at line 1 column 2"}"#,
        ),
        (
            "POST /2015-03-31/functions\n\n[]".to_owned(),
            r#"400 SerializationException {"Type":"User","Message":"Start of list found where not expected"}"#,
        ),
        (
            function(r#","Timeout":"3""#),
            r#"400 SerializationException {"Type":"User","Message":"STRING_VALUE can not be converted to an Integer (at 'timeout')"}"#,
        ),
        (
            function(r#","Code":{"ZipFile":"not base64"}"#),
            r#"400 SerializationException {"Type":"User","Message":"'code.zipFile' must be base64: Invalid symbol 32, offset 3."}"#,
        ),
        (
            function(r#","Code":{}"#),
            r#"400 InvalidParameterValueException {"Type":"User","message":"Please provide a source for function code."}"#,
        ),
        (
            function(r#","ImageConfig":{"Command":["a"]}"#),
            r#"400 InvalidParameterValueException {"Type":"User","message":"ImageConfig is not supported by Brooklet: leave it out."}"#,
        ),
        (
            function(r#","MemorySize":64"#),
            r#"400 ValidationException {"message":"1 validation error detected: Value '64' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128"}"#,
        ),
        (
            function(r#","FunctionName":"f""#),
            r#"409 ResourceConflictException {"Type":"User","message":"Function already exist: f"}"#,
        ),
        (
            "POST /2015-03-31/functions\nContent-Length: 70167212\n\n{}".to_owned(),
            r#"413 RequestEntityTooLargeException {"Type":"User","Message":"Request must be smaller than 70167211 bytes for the CreateFunction operation"}"#,
        ),
        (
            "PUT /2015-03-31/functions/f/code\n\n{}".to_owned(),
            r#"400 InvalidParameterValueException {"Type":"User","message":"Please provide a source for function code."}"#,
        ),
        (
            "PUT /2015-03-31/functions/f/configuration\n\n{\"RevisionId\":\"old\"}".to_owned(),
            r#"412 PreconditionFailedException {"Type":"User","message":"The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"}"#,
        ),
        (
            "POST /2021-10-31/functions/f/url\n\n{\"AuthType\":\"OPEN\"}".to_owned(),
            r#"400 ValidationException {"message":"1 validation error detected: Value 'OPEN' at 'authType' failed to satisfy constraint: Member must satisfy enum value set: [AWS_IAM, NONE]"}"#,
        ),
        (
            "POST /2021-10-31/functions/f/url\n\n{\"InvokeMode\":\"LATER\"}".to_owned(),
            r#"400 ValidationException {"message":"2 validation errors detected: Value 'LATER' at 'invokeMode' failed to satisfy constraint: Member must satisfy enum value set: [RESPONSE_STREAM, BUFFERED]; Value null at 'authType' failed to satisfy constraint: Member must not be null"}"#,
        ),
    ] {
        check(&rig, &request, expected).await;
    }
}

#[tokio::test]
async fn what_cannot_be_invoked() {
    let rig = Rig::echo().await;
    rig.create("f").await;
    let invoke = |rest: &str| format!("POST /2015-03-31/functions/f/invocations\n{rest}");
    for (request, expected) in [
        (
            invoke("\nhello"),
            r#"400 InvalidRequestContentException {"Type":"User","message":"Could not parse request body into json: Could not parse payload into json: expected value at line 1 column 1"}"#,
        ),
        (
            invoke("X-Amz-Invocation-Type: Later"),
            r#"400 ValidationException {"message":"1 validation error detected: Value 'Later' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]"}"#,
        ),
        (
            invoke("X-Amz-Invocation-Type: Event\n\n{}"),
            r#"501 NotImplementedException {"Type":"User","message":"The invocation type Event (asynchronous) is not supported yet by this version of Brooklet: use RequestResponse."}"#,
        ),
        (
            invoke("X-Amz-Log-Type: Everything"),
            r#"400 ValidationException {"message":"1 validation error detected: Value 'Everything' at 'logType' failed to satisfy constraint: Member must satisfy enum value set: [None, Tail]"}"#,
        ),
        (
            invoke("X-Amz-Client-Context: !"),
            r#"400 InvalidRequestContentException {"Type":"User","message":"Client context must be a valid Base64-encoded JSON object."}"#,
        ),
        (
            invoke("Content-Length: 6291457\n\nx"),
            r#"413 RequestEntityTooLargeException {"Type":"User","Message":"Request must be smaller than 6291456 bytes for the InvokeFunction operation"}"#,
        ),
        (
            invoke("Transfer-Encoding: chunked\n\nzz"),
            r#"400 InvalidRequestContentException {"Type":"User","message":"The request's body could not be read: error reading a body from connection"}"#,
        ),
    ] {
        check(&rig, &request, expected).await;
    }
}

#[tokio::test]
async fn pages_of_other_sites() {
    let rig = Rig::echo().await;
    rig.create("f").await;
    for request in [
        "POST /2015-03-31/functions/f/invocations\nOrigin: https://evil.example",
        "GET /2015-03-31/functions\nSec-Fetch-Site: cross-site",
        "GET /2015-03-31/functions\nHost: evil.example",
        "GET /fn/f\nOrigin: https://evil.example",
        "GET /_brooklet/v1/functions/f/logs\nOrigin: https://evil.example",
    ] {
        let answer = rig.send(request).await;
        assert_eq!(
            (answer.status, answer.header("x-amzn-errortype").unwrap()),
            (403, "AccessDeniedException".into()),
            "{request}"
        );
    }
}
