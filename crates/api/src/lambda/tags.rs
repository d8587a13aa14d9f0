//! Tags, by ARN.

use super::input::Input;
use super::{Answer, Request, name};
use crate::error::{ApiError, Result};
use serde_json::{Value, json};

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
        return Err(ApiError::invalid(format!(
            "Tags belong to functions: the resource must be a function's ARN, not '{arn}'."
        )));
    }
    let named = name::parse(arn, request.app.account())?;
    match named.qualifier {
        None => Ok(named.name),
        Some(_) => Err(ApiError::invalid(
            "Tags on function aliases and versions are not supported. Please specify a function ARN.",
        )),
    }
}
