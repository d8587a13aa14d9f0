//! Versions: publish, list.

use super::input::Input;
use super::{Answer, Request, shapes};
use node::control::PublishVersion;
use serde_json::Value;

/// `PublishVersion`.
pub async fn publish(request: &Request<'_>) -> Answer {
    let mut input = Input::parse(request.body)?;
    let publish = PublishVersion {
        name: request.function()?,
        code_sha256: input.string("CodeSha256")?.filter(|sha256| !sha256.is_empty()),
        description: input.string("Description")?,
        revision_id: input.string("RevisionId")?,
    };
    input.finish()?;
    let function = request.app.registry.publish_version(publish).await?;
    Ok(shapes::configuration(&function, request.app.account()))
}

/// `ListVersionsByFunction`.
pub async fn list(request: &Request<'_>) -> Answer {
    let (name, marker) = (request.function()?, request.query("Marker").filter(|marker| !marker.is_empty()));
    let max_items = request.query_integer("MaxItems")?;
    let page = request.app.registry.list_versions(&name, marker.as_deref(), max_items).await?;
    Ok(shapes::page("Versions", &page, |function| {
        Value::Object(shapes::listed(function, request.app.account()))
    }))
}
