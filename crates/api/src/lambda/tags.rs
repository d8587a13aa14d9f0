//! Tags, by ARN.

use super::input::{Input, violation};
use super::{Answer, Request, name};
use crate::error::{ApiError, Kind, Result};
use serde_json::{Value, json};

/// The service model's pattern of what may have tags (`TaggableResource`); here functions only.
const PATTERN: &str = r"arn:(aws[a-zA-Z-]*):lambda:[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-9-_]+))?|code-signing-config:csc-[a-z0-9]{17}|event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|capacity-provider:[a-zA-Z0-9-_]+)";

/// `ListTags`.
pub async fn list(request: &Request<'_>) -> Answer {
    let tags = request.app.registry.tags(&function(request)?).await?;
    Ok(json!({ "Tags": tags }))
}

/// `TagResource`.
pub async fn tag(request: &Request<'_>) -> Answer {
    let mut input = Input::parse(request.body)?;
    let tags = input.string_map("Tags")?;
    let tags = input.require("Tags", tags);
    input.finish()?;
    request.app.registry.tag(&function(request)?, tags).await?;
    Ok(Value::Null)
}

/// `UntagResource`.
pub async fn untag(request: &Request<'_>) -> Answer {
    let keys: Vec<String> = request.query_all("tagKeys").into_iter().map(String::from).collect();
    if keys.is_empty() {
        let mut input = Input::parse(b"")?;
        input.require::<String>("TagKeys", None);
        input.finish()?;
    }
    request.app.registry.untag(&function(request)?, &keys).await?;
    Ok(Value::Null)
}

/// The function whose unqualified ARN is in the path.
fn function(request: &Request<'_>) -> Result<String> {
    let arn = request.parameter(0);
    if !arn.starts_with("arn:") || !arn.contains(":function:") {
        let constraint = format!("Member must satisfy regular expression pattern: {PATTERN}");
        let violation = violation("resource", Some(arn), &constraint);
        let message = format!("1 validation error detected: {violation}");
        return Err(ApiError::new(Kind::ValidationException, message));
    }
    let named = name::parse(arn, request.app.account())?;
    match named.qualifier {
        None => Ok(named.name),
        Some(_) => Err(ApiError::invalid(
            "Tags on function aliases and versions are not supported. Please specify a function ARN.",
        )),
    }
}
