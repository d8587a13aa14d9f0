//! Resource policies, in the words of IAM. They are kept and given back, so that tools which manage them (SAM,
//! Terraform) work unchanged; Brooklet has no IAM and enforces none of them, only the `AuthType` of function URLs.

use super::input::Input;
use super::{Answer, Request};
use crate::error::Result;
use node::control::AddPermission;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `AddPermission`.
pub async fn add(request: &Request<'_>) -> Answer {
    let (function, qualifier) = request.qualified()?;
    let mut input = Input::parse(request.body)?;
    let statement = statement(&mut input)?;
    let revision_id = input.string("RevisionId")?;
    input.finish()?;
    let resource = request.app.account().function_arn(&function, qualifier.as_deref());
    let permission = AddPermission { function, qualifier, statement, revision_id };
    let added = request.app.registry.add_permission(permission).await?;
    Ok(json!({ "Statement": text(&Statement::of(&added, &resource)) }))
}

/// `GetPolicy`.
pub async fn get(request: &Request<'_>) -> Answer {
    let (function, qualifier) = request.qualified()?;
    let policy = request.app.registry.policy(&function, qualifier.as_deref()).await?;
    let resource = request.app.account().function_arn(&function, qualifier.as_deref());
    let statement = policy.statements.iter().map(|statement| Statement::of(statement, &resource)).collect();
    let document = Document { version: "2012-10-17", id: "default", statement };
    Ok(json!({ "Policy": text(&document), "RevisionId": policy.revision_id }))
}

/// `RemovePermission`.
pub async fn remove(request: &Request<'_>) -> Answer {
    let (function, qualifier) = request.qualified()?;
    let (id, revision_id) = (request.parameter(1), request.query("RevisionId"));
    let registry = &request.app.registry;
    registry.remove_permission(&function, qualifier.as_deref(), id, revision_id.as_deref()).await?;
    Ok(Value::Null)
}

fn statement(input: &mut Input<'_>) -> Result<model::Statement> {
    let (id, action, principal) =
        (input.string("StatementId")?, input.string("Action")?, input.string("Principal")?);
    Ok(model::Statement {
        id: input.require("StatementId", id),
        action: input.require("Action", action),
        principal: input.require("Principal", principal),
        source_arn: input.string("SourceArn")?,
        source_account: input.string("SourceAccount")?,
        event_source_token: input.string("EventSourceToken")?,
        principal_org_id: input.string("PrincipalOrgID")?,
        function_url_auth_type: input.string("FunctionUrlAuthType")?,
        invoked_via_function_url: input.boolean("InvokedViaFunctionUrl")?,
    })
}

/// An IAM policy, its members in the order in which Lambda writes them.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Document<'a> {
    version: &'static str,
    id: &'static str,
    statement: Vec<Statement<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement<'a> {
    sid: &'a str,
    effect: &'static str,
    principal: Value,
    action: &'a str,
    resource: &'a str,
    /// Operator → key → value; all must hold.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    condition: BTreeMap<&'static str, BTreeMap<&'static str, &'a str>>,
}

impl<'a> Statement<'a> {
    fn of(statement: &'a model::Statement, resource: &'a str) -> Statement<'a> {
        let via_url = statement.invoked_via_function_url.map(|via| if via { "true" } else { "false" });
        let conditions = [
            ("StringEquals", "lambda:FunctionUrlAuthType", statement.function_url_auth_type.as_deref()),
            ("StringEquals", "aws:PrincipalOrgID", statement.principal_org_id.as_deref()),
            ("StringEquals", "AWS:SourceAccount", statement.source_account.as_deref()),
            ("StringEquals", "lambda:EventSourceToken", statement.event_source_token.as_deref()),
            ("ArnLike", "AWS:SourceArn", statement.source_arn.as_deref()),
            ("Bool", "lambda:InvokedViaFunctionUrl", via_url),
        ];
        let mut condition: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (operator, key, value) in conditions {
            if let Some(value) = value {
                condition.entry(operator).or_default().insert(key, value);
            }
        }
        Statement {
            sid: &statement.id,
            effect: "Allow",
            principal: principal(&statement.principal),
            action: &statement.action,
            resource,
            condition,
        }
    }
}

/// A principal as IAM writes it; an account stands for its root.
fn principal(given: &str) -> Value {
    if given == "*" {
        "*".into()
    } else if given.bytes().all(|b| b.is_ascii_digit()) {
        json!({ "AWS": format!("arn:aws:iam::{given}:root") })
    } else if given.starts_with("arn:") {
        json!({ "AWS": given })
    } else {
        json!({ "Service": given })
    }
}

fn text(document: &impl Serialize) -> String {
    serde_json::to_string(document).expect("strings and maps of strings are JSON")
}
