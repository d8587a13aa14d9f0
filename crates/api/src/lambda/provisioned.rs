//! Provisioned concurrency.

use super::input::Input;
use super::{Answer, Request, shapes};
use crate::app::App;
use crate::time::iso;
use node::control::ProvisionedConfig;
use serde_json::{Value, json};

/// `PutProvisionedConcurrencyConfig`.
pub async fn put(request: &Request<'_>) -> Answer {
    let (name, qualifier) = request.qualified()?;
    let mut input = Input::parse(request.body)?;
    let requested = input.integer("ProvisionedConcurrentExecutions")?;
    let requested = input.require("ProvisionedConcurrentExecutions", requested);
    input.finish()?;
    let registry = &request.app.registry;
    let config = registry.put_provisioned(&name, qualifier.as_deref(), requested).await?;
    let mut answer = describe(request.app, &config);
    // As on Lambda: what was asked for begins now, whatever is there already.
    answer["Status"] = "IN_PROGRESS".into();
    if let Some(members) = answer.as_object_mut() {
        members.remove("StatusReason");
    }
    Ok(answer)
}

/// `GetProvisionedConcurrencyConfig`.
pub async fn get(request: &Request<'_>) -> Answer {
    let (name, qualifier) = request.qualified()?;
    let config = request.app.registry.provisioned(&name, qualifier.as_deref()).await?;
    Ok(describe(request.app, &config))
}

/// `ListProvisionedConcurrencyConfigs`.
pub async fn list(request: &Request<'_>) -> Answer {
    let (name, marker) = (request.function()?, request.query("Marker").filter(|marker| !marker.is_empty()));
    let max_items = request.query_integer("MaxItems")?;
    let page = request.app.registry.list_provisioned(&name, marker.as_deref(), max_items).await?;
    Ok(shapes::page("ProvisionedConcurrencyConfigs", &page, |config| {
        let mut item = describe(request.app, config);
        let arn = request.app.account().function_arn(&config.function, Some(&config.qualifier));
        item["FunctionArn"] = arn.into();
        item
    }))
}

/// `DeleteProvisionedConcurrencyConfig`.
pub async fn delete(request: &Request<'_>) -> Answer {
    let (name, qualifier) = request.qualified()?;
    request.app.registry.delete_provisioned(&name, qualifier.as_deref()).await?;
    Ok(Value::Null)
}

/// What was asked for and what there is of it.
fn describe(app: &App, config: &ProvisionedConfig) -> Value {
    let requested = config.provisioned.requested;
    let of = |&(version, count): &(_, u32)| app.invoker.provisioned(&config.uid, version, count);
    let standing: Vec<_> = config.shares.iter().map(of).collect();
    let available: u32 = standing.iter().map(|one| one.available).sum();
    let trouble = standing.iter().find_map(|one| one.trouble.as_deref());
    let status = match trouble {
        _ if available >= requested => "READY",
        Some(_) => "FAILED",
        None => "IN_PROGRESS",
    };
    let mut members = json!({
        "RequestedProvisionedConcurrentExecutions": requested,
        "AvailableProvisionedConcurrentExecutions": available,
        "AllocatedProvisionedConcurrentExecutions": standing.iter().map(|one| one.allocated).sum::<u32>(),
        "Status": status,
        "LastModified": iso(config.provisioned.modified),
    });
    if let Some(reason) = trouble.filter(|_| status == "FAILED") {
        members["StatusReason"] = reason.into();
    }
    members
}
