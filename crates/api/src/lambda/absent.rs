//! What tools ask about as a matter of course and what cannot exist here yet: the answer of a function without it.

use super::{Answer, Request};
use crate::error::{ApiError, Result};
use node::control::Function;
use serde_json::json;

/// A list of what there is none of.
pub async fn empty_list(member: &'static str) -> Answer {
    Ok(json!({ member: [] }))
}

/// `GetFunctionCodeSigningConfig`: none is attached.
pub async fn code_signing(request: &Request<'_>) -> Answer {
    let function = function(request).await?;
    Ok(json!({ "CodeSigningConfigArn": "", "FunctionName": function.head.name }))
}

/// `GetRuntimeManagementConfig`: interpreters are those of the machine.
pub async fn runtime_management(request: &Request<'_>) -> Answer {
    let function = function(request).await?;
    let arn = request.app.account().function_arn(&function.head.name, function.qualifier.as_deref());
    Ok(json!({ "UpdateRuntimeOn": "Auto", "FunctionArn": arn }))
}

/// `GetFunctionRecursionConfig`: loops are not looked for.
pub async fn recursion(request: &Request<'_>) -> Answer {
    function(request).await?;
    Ok(json!({ "RecursiveLoop": "Allow" }))
}

/// `GetFunctionEventInvokeConfig`.
pub async fn event_invoke_config(request: &Request<'_>) -> Answer {
    let function = function(request).await?;
    let arn = request.app.account().function_arn(&function.head.name, function.qualifier.as_deref());
    Err(ApiError::not_found(format!("The function {arn} doesn't have an EventInvokeConfig")))
}

/// The function in the path; each of these operations tells first when there is none.
async fn function(request: &Request<'_>) -> Result<Function> {
    let (name, qualifier) = request.qualified()?;
    Ok(request.app.registry.function(&name, qualifier.as_deref()).await?)
}
