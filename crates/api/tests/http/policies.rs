use crate::auth::{SECRET, boto3, guarded};
use crate::rig::{Answer, Rig};
use serde_json::{Value, json};

const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:f";
const NONE: &str =
    r#"404 ResourceNotFoundException {"Type":"User","Message":"The resource you requested does not exist."}"#;

/// A server with a function `f`, its version 1 and an alias `prod`.
async fn rig() -> Rig {
    let rig = Rig::echo().await;
    rig.create("f").await;
    rig.json("POST /2015-03-31/functions/f/versions", json!({})).await;
    let alias = json!({ "Name": "prod", "FunctionVersion": "1" });
    assert_eq!(rig.json("POST /2015-03-31/functions/f/aliases", alias).await.status, 201);
    rig
}

/// Adds a statement; `what` overrides and adds members.
async fn add(rig: &Rig, target: &str, what: Value) -> Answer {
    let mut body =
        json!({ "StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com" });
    body.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
    rig.json(&format!("POST /2015-03-31/functions/{target}"), body).await
}

async fn policy(rig: &Rig, target: &str) -> (Value, String) {
    let answer = rig.send(&format!("GET /2015-03-31/functions/{target}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    let document = serde_json::from_str(json["Policy"].as_str().unwrap()).unwrap();
    (document, json["RevisionId"].as_str().unwrap().to_owned())
}

async fn revision(rig: &Rig, path: &str) -> String {
    rig.send(&format!("GET {path}")).await.json()["RevisionId"].as_str().unwrap().to_owned()
}

/// What is asked for and the principal and condition that IAM's words for it have.
async fn check(asked: Value, principal: Value, condition: Option<Value>) {
    let rig = rig().await;
    let answer = add(&rig, "f/policy", asked).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let added: Value = serde_json::from_str(answer.json()["Statement"].as_str().unwrap()).unwrap();
    let mut expected = json!({
        "Sid": "s", "Effect": "Allow", "Principal": principal, "Action": added["Action"], "Resource": ARN
    });
    if let Some(condition) = condition {
        expected["Condition"] = condition;
    }
    assert_eq!(added, expected);
    let (document, _) = policy(&rig, "f/policy").await;
    assert_eq!(document, json!({ "Version": "2012-10-17", "Id": "default", "Statement": [expected] }));
}

#[tokio::test]
async fn a_permission_is_given_back_in_iams_words() {
    let service = json!({ "Service": "s3.amazonaws.com" });
    check(json!({}), service.clone(), None).await;
    check(
        json!({ "SourceArn": "arn:aws:s3:::bucket", "SourceAccount": "123456789012" }),
        service,
        Some(json!({
            "ArnLike": { "AWS:SourceArn": "arn:aws:s3:::bucket" },
            "StringEquals": { "AWS:SourceAccount": "123456789012" }
        })),
    )
    .await;
    check(
        json!({ "Principal": "*", "Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE" }),
        json!("*"),
        Some(json!({ "StringEquals": { "lambda:FunctionUrlAuthType": "NONE" } })),
    )
    .await;
    check(
        json!({ "Principal": "*", "InvokedViaFunctionUrl": true }),
        json!("*"),
        Some(json!({ "Bool": { "lambda:InvokedViaFunctionUrl": "true" } })),
    )
    .await;
    check(
        json!({ "Principal": "999999999999", "PrincipalOrgID": "o-a1b2c3d4e5" }),
        json!({ "AWS": "arn:aws:iam::999999999999:root" }),
        Some(json!({ "StringEquals": { "aws:PrincipalOrgID": "o-a1b2c3d4e5" } })),
    )
    .await;
    let role = "arn:aws:iam::999999999999:role/caller";
    check(json!({ "Principal": role }), json!({ "AWS": role }), None).await;
    check(
        json!({ "Principal": "alexa-appkit.amazon.com", "EventSourceToken": "amzn1.ask" }),
        json!({ "Service": "alexa-appkit.amazon.com" }),
        Some(json!({ "StringEquals": { "lambda:EventSourceToken": "amzn1.ask" } })),
    )
    .await;
}

#[tokio::test]
async fn a_function_its_versions_and_its_aliases_have_policies_of_their_own() {
    let rig = rig().await;
    for (target, resource) in [
        ("f/policy", ARN.to_owned()),
        ("f/policy?Qualifier=1", format!("{ARN}:1")),
        ("f:prod/policy", format!("{ARN}:prod")),
    ] {
        assert_eq!(rig.send(&format!("GET /2015-03-31/functions/{target}")).await.error(), NONE);
        assert_eq!(add(&rig, target, json!({})).await.status, 201);
        assert_eq!(policy(&rig, target).await.0["Statement"][0]["Resource"], json!(resource));
    }
    let gone = rig.send("DELETE /2015-03-31/functions/f/policy/s?Qualifier=1").await;
    assert_eq!((gone.status, gone.text()), (204, String::new()));
    assert_eq!(rig.send("GET /2015-03-31/functions/f/policy?Qualifier=1").await.error(), NONE);
    assert_eq!(policy(&rig, "f/policy").await.0["Statement"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_policy_goes_with_what_it_belongs_to() {
    let rig = rig().await;
    assert_eq!(add(&rig, "f:prod/policy", json!({})).await.status, 201);
    assert_eq!(add(&rig, "f/policy", json!({})).await.status, 201);
    rig.send("DELETE /2015-03-31/functions/f/aliases/prod").await;
    let alias = json!({ "Name": "prod", "FunctionVersion": "1" });
    rig.json("POST /2015-03-31/functions/f/aliases", alias).await;
    assert_eq!(rig.send("GET /2015-03-31/functions/f:prod/policy").await.error(), NONE);
    rig.send("DELETE /2015-03-31/functions/f").await;
    rig.create("f").await;
    assert_eq!(rig.send("GET /2015-03-31/functions/f/policy").await.error(), NONE);
}

#[tokio::test]
async fn a_policy_is_changed_only_at_the_revision_that_was_seen() {
    const STALE: &str = r#"412 PreconditionFailedException {"Type":"User","message":"The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"}"#;
    let rig = rig().await;
    for (target, owner, separator) in [
        ("f/policy", "/2015-03-31/functions/f/configuration", "?"),
        ("f/policy?Qualifier=1", "/2015-03-31/functions/f/configuration?Qualifier=1", "&"),
        ("f/policy?Qualifier=prod", "/2015-03-31/functions/f/aliases/prod", "&"),
    ] {
        let first = revision(&rig, owner).await;
        let wrong = add(&rig, target, json!({ "RevisionId": "x" })).await;
        assert_eq!(wrong.error(), STALE.replace("GetFunction/GetAlias", "GetPolicy"), "{target}");
        assert_eq!(add(&rig, target, json!({ "RevisionId": first })).await.status, 201, "{target}");
        let second = policy(&rig, target).await.1;
        assert_ne!(first, second);
        assert_eq!(revision(&rig, owner).await, second, "{target}");
        let stale = add(&rig, target, json!({ "StatementId": "t", "RevisionId": first })).await;
        assert_eq!(stale.error(), STALE, "{target}");
        let remove = format!("DELETE /2015-03-31/functions/{}", target.replace("policy", "policy/s"));
        assert_eq!(rig.send(&format!("{remove}{separator}RevisionId={first}")).await.error(), STALE);
        assert_eq!(rig.send(&format!("{remove}{separator}RevisionId={second}")).await.status, 204);
    }
}

#[tokio::test]
async fn permissions_that_cannot_be_are_refused_in_lambdas_words() {
    let rig = rig().await;
    add(&rig, "f/policy", json!({})).await;
    let refused = async |target: &str, what: Value| add(&rig, target, what).await.error();
    let not_found =
        |message: &str| format!(r#"404 ResourceNotFoundException {{"Type":"User","Message":"{message}"}}"#);
    assert_eq!(
        refused("f/policy", json!({})).await,
        r#"409 ResourceConflictException {"Type":"User","message":"The statement id (s) provided already exists. Please provide a new statement id, or remove the existing statement."}"#
    );
    assert_eq!(
        refused("f/policy", json!({ "Principal": "somebody" })).await,
        r#"400 InvalidParameterValueException {"Type":"User","message":"The provided principal was invalid. Please check the principal and try again."}"#
    );
    assert_eq!(
        refused("f/policy?Qualifier=$LATEST", json!({})).await,
        r#"400 InvalidParameterValueException {"Type":"User","message":"We currently do not support adding policies for $LATEST."}"#
    );
    assert_eq!(
        refused("f/policy", json!({ "StatementId": "example.com", "Action": "s3:Get", "Principal": null }))
            .await,
        r#"400 ValidationException {"message":"1 validation error detected: Value null at 'principal' failed to satisfy constraint: Member must not be null"}"#
    );
    let wrong =
        json!({ "StatementId": "a.b", "Action": "s3:Get", "SourceAccount": "1", "FunctionUrlAuthType": "X" });
    let wrong = refused("f/policy", wrong).await;
    for part in
        ["4 validation errors", "'statementId'", "'action'", "'sourceAccount'", "'functionUrlAuthType'"]
    {
        assert!(wrong.contains(part), "{part}: {wrong}");
    }
    assert_eq!(
        refused("g/policy", json!({})).await,
        not_found(&format!("Function not found: {}g", &ARN[..ARN.len() - 1]))
    );
    assert_eq!(refused("f:2/policy", json!({})).await, not_found(&format!("Function not found: {ARN}:2")));
    assert_eq!(
        refused("f:beta/policy", json!({})).await,
        not_found(&format!("Cannot find alias arn: {ARN}:beta"))
    );
    let remove =
        async |target: &str| rig.send(&format!("DELETE /2015-03-31/functions/{target}")).await.error();
    assert_eq!(remove("f/policy/t").await, not_found("Statement t is not found in resource policy."));
    assert_eq!(remove("f:1/policy/s").await, not_found("No policy is associated with the given resource."));
    assert_eq!(remove("f:beta/policy/s").await, not_found(&format!("Cannot find alias arn: {ARN}:beta")));
    assert_eq!(
        remove("g/policy/s").await,
        not_found(&format!("No policy found for: {}g", &ARN[..ARN.len() - 1]))
    );
}

#[tokio::test]
async fn a_policy_has_a_greatest_length() {
    let rig = rig().await;
    let mut last = None;
    for n in 0..300 {
        let answer = add(&rig, "f/policy", json!({ "StatementId": format!("statement-{n}") })).await;
        if answer.status != 201 {
            last = Some(answer.error());
            break;
        }
    }
    let last = last.expect("300 statements are more than 20 KiB");
    assert!(last.starts_with("400 PolicyLengthExceededException"), "{last}");
    assert!(last.contains("is bigger than the limit (20480)."), "{last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_manages_permissions() {
    let rig = guarded().await;
    let script = format!(
        "import base64\n\
         c.create_function(FunctionName='f', Runtime='python3.12', Handler='a.b', Code={{'ZipFile': base64.b64decode('{}')}}, Role='arn:aws:iam::123456789012:role/r')\n\
         s = c.add_permission(FunctionName='f', StatementId='s', Action='lambda:InvokeFunction', Principal='events.amazonaws.com', SourceArn='arn:aws:events:us-east-1:123456789012:rule/*')\n\
         p = c.get_policy(FunctionName='f')\n\
         same = json.loads(s['Statement']) == json.loads(p['Policy'])['Statement'][0]\n\
         try:\n\
         \x20   c.add_permission(FunctionName='f', StatementId='s', Action='*', Principal='*')\n\
         except c.exceptions.ResourceConflictException as e:\n\
         \x20   twice = e.response['ResponseMetadata']['HTTPStatusCode']\n\
         c.remove_permission(FunctionName='f', StatementId='s', RevisionId=p['RevisionId'])\n\
         try:\n\
         \x20   c.get_policy(FunctionName='f')\n\
         except c.exceptions.ResourceNotFoundException as e:\n\
         \x20   print(same, s['ResponseMetadata']['HTTPStatusCode'], twice, e.response['ResponseMetadata']['HTTPStatusCode'])",
        crate::rig::zip_base64()
    );
    let Some(said) = boto3(&rig, SECRET, &script).await else { return };
    assert_eq!(said, "True 201 409 404");
}
