//! Function URLs: their configuration.

use super::input::Input;
use super::{Answer, Request, name, shapes};
use crate::error::Result;
use model::{Cors, InvokeMode};
use node::control::PutUrl;
use serde_json::Value;

/// `CreateFunctionUrlConfig`.
pub async fn create(request: &Request<'_>) -> Answer {
    let mut input = Input::parse(request.body)?;
    let put = put(request, &mut input)?;
    if put.auth_type.is_none() {
        input.require::<String>("AuthType", None);
    }
    input.finish()?;
    let url = request.app.registry.create_url(put).await?;
    let mut answer = shapes::url(&url, request.app.account(), &request.app.url_authority);
    answer.as_object_mut().expect("the shape is an object").remove("LastModifiedTime");
    Ok(answer)
}

/// `UpdateFunctionUrlConfig`.
pub async fn update(request: &Request<'_>) -> Answer {
    let mut input = Input::parse(request.body)?;
    let put = put(request, &mut input)?;
    input.finish()?;
    let url = request.app.registry.update_url(put).await?;
    Ok(shapes::url(&url, request.app.account(), &request.app.url_authority))
}

fn put(request: &Request<'_>, input: &mut Input<'_>) -> Result<PutUrl> {
    let (function, qualifier) = qualified(request)?;
    let mode = input.one_of("InvokeMode", &["RESPONSE_STREAM", "BUFFERED"])?;
    Ok(PutUrl {
        function,
        qualifier,
        auth_type: input.string("AuthType")?,
        cors: input.structure("Cors", cors)?,
        invoke_mode: mode.map(|mode| match mode {
            "RESPONSE_STREAM" => InvokeMode::ResponseStream,
            _ => InvokeMode::Buffered,
        }),
    })
}

/// An alias may be in the name or in the query; `$LATEST` may not be said.
fn qualified(request: &Request<'_>) -> Result<(String, Option<String>)> {
    let named = name::parse(request.parameter(0), request.app.account())?;
    Ok((named.name, name::qualifier(named.qualifier, request.query("Qualifier").as_deref())?))
}

fn cors(cors: &mut Input<'_>) -> Result<Cors> {
    Ok(Cors {
        allow_credentials: cors.boolean("AllowCredentials")?.unwrap_or_default(),
        allow_headers: cors.strings("AllowHeaders")?.unwrap_or_default(),
        allow_methods: cors.strings("AllowMethods")?.unwrap_or_default(),
        allow_origins: cors.strings("AllowOrigins")?.unwrap_or_default(),
        expose_headers: cors.strings("ExposeHeaders")?.unwrap_or_default(),
        // Out of range either way: the control plane says what the range is.
        max_age_s: cors.integer("MaxAge")?.map_or(0, |age| u32::try_from(age).unwrap_or(u32::MAX)),
    })
}

/// `GetFunctionUrlConfig`.
pub async fn get(request: &Request<'_>) -> Answer {
    let (name, qualifier) = qualified(request)?;
    let url = request.app.registry.url(&name, qualifier.as_deref()).await?;
    Ok(shapes::url(&url, request.app.account(), &request.app.url_authority))
}

/// `ListFunctionUrlConfigs`.
pub async fn list(request: &Request<'_>) -> Answer {
    let name = request.function()?;
    let marker = request.query("Marker").filter(|marker| !marker.is_empty());
    let max_items = request.query_integer("MaxItems")?;
    let page = request.app.registry.list_urls(&name, marker.as_deref(), max_items).await?;
    let shape = |url: &_| shapes::url(url, request.app.account(), &request.app.url_authority);
    Ok(shapes::page("FunctionUrlConfigs", &page, shape))
}

/// `DeleteFunctionUrlConfig`.
pub async fn delete(request: &Request<'_>) -> Answer {
    let (name, qualifier) = qualified(request)?;
    request.app.registry.delete_url(&name, qualifier.as_deref()).await?;
    Ok(Value::Null)
}
