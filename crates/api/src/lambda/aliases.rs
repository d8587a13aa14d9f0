//! Aliases: names for versions.

use super::input::Input;
use super::{Answer, Request, shapes};
use crate::error::Result;
use node::control::PutAlias;
use serde_json::Value;

/// `CreateAlias`.
pub async fn create(request: &Request<'_>) -> Answer {
    let mut input = Input::parse(request.body)?;
    let name = input.string("Name")?;
    let name = input.require("Name", name);
    let alias = put(request, &mut input, name)?;
    if alias.version.is_none() {
        input.require::<String>("FunctionVersion", None);
    }
    input.finish()?;
    let alias = request.app.registry.create_alias(alias).await?;
    Ok(shapes::alias(&alias, request.app.account()))
}

/// `UpdateAlias`.
pub async fn update(request: &Request<'_>) -> Answer {
    let mut input = Input::parse(request.body)?;
    let alias = put(request, &mut input, request.parameter(1).to_owned())?;
    input.finish()?;
    let alias = request.app.registry.update_alias(alias).await?;
    Ok(shapes::alias(&alias, request.app.account()))
}

fn put(request: &Request<'_>, input: &mut Input<'_>, name: String) -> Result<PutAlias> {
    Ok(PutAlias {
        function: request.function()?,
        name,
        version: input.string("FunctionVersion")?,
        description: input.string("Description")?,
        weights: input.structure("RoutingConfig", |routing| {
            Ok(routing.number_map("AdditionalVersionWeights")?.unwrap_or_default())
        })?,
        revision_id: input.string("RevisionId")?,
    })
}

/// `GetAlias`.
pub async fn get(request: &Request<'_>) -> Answer {
    let alias = request.app.registry.alias(&request.function()?, request.parameter(1)).await?;
    Ok(shapes::alias(&alias, request.app.account()))
}

/// `ListAliases`.
pub async fn list(request: &Request<'_>) -> Answer {
    let name = request.function()?;
    let marker = request.query("Marker").filter(|marker| !marker.is_empty());
    let version = request.query("FunctionVersion").filter(|version| !version.is_empty());
    let max_items = request.query_integer("MaxItems")?;
    let registry = &request.app.registry;
    let page = registry.list_aliases(&name, version.as_deref(), marker.as_deref(), max_items).await?;
    Ok(shapes::page("Aliases", &page, |alias| shapes::alias(alias, request.app.account())))
}

/// `DeleteAlias`.
pub async fn delete(request: &Request<'_>) -> Answer {
    request.app.registry.delete_alias(&request.function()?, request.parameter(1)).await?;
    Ok(Value::Null)
}
