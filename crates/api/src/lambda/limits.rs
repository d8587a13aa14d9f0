//! Reserved concurrency, and what the account has and uses.

use super::input::Input;
use super::{Answer, Request};
use serde_json::{Value, json};

/// `PutFunctionConcurrency`.
pub async fn put_concurrency(request: &Request<'_>) -> Answer {
    let mut input = Input::parse(request.body)?;
    let limit = input.integer("ReservedConcurrentExecutions")?;
    let limit = input.require("ReservedConcurrentExecutions", limit);
    input.finish()?;
    let reserved = request.app.registry.put_concurrency(&request.function()?, limit).await?;
    Ok(json!({ "ReservedConcurrentExecutions": reserved }))
}

/// `GetFunctionConcurrency`.
pub async fn get_concurrency(request: &Request<'_>) -> Answer {
    let reserved = request.app.registry.concurrency(&request.function()?).await?;
    Ok(match reserved {
        Some(reserved) => json!({ "ReservedConcurrentExecutions": reserved }),
        None => json!({}),
    })
}

/// `DeleteFunctionConcurrency`.
pub async fn delete_concurrency(request: &Request<'_>) -> Answer {
    request.app.registry.delete_concurrency(&request.function()?).await?;
    Ok(Value::Null)
}

/// `GetAccountSettings`.
pub async fn account_settings(request: &Request<'_>) -> Answer {
    let usage = request.app.registry.account_usage().await?;
    Ok(json!({
        "AccountLimit": {
            "TotalCodeSize": usage.code_bytes_limit,
            "CodeSizeUnzipped": 250 << 20,
            "CodeSizeZipped": 50 << 20,
            "ConcurrentExecutions": usage.concurrency,
            "UnreservedConcurrentExecutions": usage.unreserved_concurrency,
        },
        "AccountUsage": { "TotalCodeSize": usage.code_bytes, "FunctionCount": usage.functions },
    }))
}
