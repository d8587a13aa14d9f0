//! Lambda's API: one table row per operation.

mod absent; //      what can be asked about but does not exist here
mod aliases;
mod functions;
pub(crate) mod input; // members of a request's JSON
mod invoke; //      `Invoke` and `InvokeWithResponseStream`
mod limits; //      reserved concurrency, account settings
pub(crate) mod name; // the ways to name a function
mod operations; //  the table
mod policies; //    resource policies
mod provisioned; // provisioned concurrency
mod shapes; //      members of answers
mod tags;
mod urls;
mod versions;

pub use invoke::MAX_PAYLOAD;

use crate::app::App;
use crate::body::Body;
use crate::error::{ApiError, Kind, Result};
use crate::service::Call;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use operations::{Operation, Run};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use std::borrow::Cow;

/// The longest body of an operation that carries neither an event nor code.
const SMALL: usize = 1 << 20;

/// What a handler is given.
pub(crate) struct Request<'a> {
    pub app: &'a App,
    pub head: &'a Parts,
    pub body: &'a Bytes,
    /// The path's parameters, decoded, in the template's order.
    parameters: Vec<Cow<'a, str>>,
}

/// A handler's answer: the body's JSON; `Null` for none.
pub(crate) type Answer = Result<Value>;

/// Answers a request whose path begins like one of Lambda's.
pub(crate) async fn serve(mut call: Call<'_>) -> Result<Response<Body>> {
    let path = call.head.uri.path().to_owned();
    let query = call.head.uri.query().unwrap_or_default();
    let Some((operation, parameters)) = operations::find(&call.head.method, &path, query) else {
        return Err(unknown(&call.head.method, &path));
    };
    match operation.run {
        Run::Invoke => invoke::invoke(call, parameters[0].as_ref()).await,
        Run::InvokeWithResponseStream => invoke::invoke_with_stream(call, parameters[0].as_ref()).await,
        Run::Json(run) => {
            let _upload = match operation.limit > SMALL {
                true => Some(call.app.uploads.acquire().await.expect("the semaphore is never closed")),
                false => None,
            };
            let body = call.admit(operation.limit, operation.name).await?;
            let request = Request { app: call.app, head: &call.head, body: &body, parameters };
            Ok(respond(operation, &run(&request).await?))
        }
        Run::NotYet => {
            call.admit(SMALL, operation.name).await?;
            Err(ApiError::new(
                Kind::NotImplementedException,
                format!("{} is not supported yet by this version of Brooklet.", operation.name),
            ))
        }
    }
}

fn respond(operation: &Operation, json: &Value) -> Response<Body> {
    let body = if json.is_null() { Body::EMPTY } else { Body::from(json.to_string()) };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(operation.status).expect("statuses of the table are valid");
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A body that is longer than `limit`. The service model has `RequestTooLargeException` for `Invoke`, but the
/// service is seen to answer this (aws-athena-query-federation issue 793, hyp3 issue 2241), so callers look for it.
pub(crate) fn too_large(limit: usize, operation: &str) -> ApiError {
    ApiError::new(
        Kind::RequestEntityTooLargeException,
        format!("Request must be smaller than {limit} bytes for the {operation} operation"),
    )
}

fn unknown(method: &Method, path: &str) -> ApiError {
    let others = operations::methods_of(path);
    let hint = match others.is_empty() {
        true => "no operation has this path".to_owned(),
        false => format!("this path takes {}", others.join(", ")),
    };
    let message = format!("Lambda's API has no operation {method} {path}: {hint}.");
    ApiError::new(Kind::UnknownOperationException, message)
}

impl<'a> Request<'a> {
    /// The path's parameter at this place.
    pub fn parameter(&self, index: usize) -> &str {
        &self.parameters[index]
    }

    /// The bare name of the function in the path. A qualifier in it is refused as the operation has none.
    pub fn function(&self) -> Result<String> {
        let (name, qualifier) = self.qualified()?;
        match qualifier {
            None => Ok(name),
            Some(_) => Err(ApiError::invalid(
                "This operation is permitted on Lambda functions only. Aliases and versions do not support this \
                 operation. Please specify either a function name or an unqualified function ARN.",
            )),
        }
    }

    /// The function in the path and the qualifier that path and query give.
    pub fn qualified(&self) -> Result<(String, Option<String>)> {
        let named = name::parse(self.parameter(0), self.app.account())?;
        let qualifier = name::qualifier(named.qualifier, self.query("Qualifier").as_deref())?;
        Ok((named.name, qualifier))
    }

    /// A parameter of the query, decoded.
    pub fn query(&self, name: &str) -> Option<Cow<'a, str>> {
        query(self.head.uri.query().unwrap_or_default(), name)
    }

    /// All values of a parameter of the query.
    pub fn query_all(&self, name: &str) -> Vec<Cow<'a, str>> {
        values(self.head.uri.query().unwrap_or_default(), name).collect()
    }

    /// A whole number of the query.
    pub fn query_integer(&self, name: &str) -> Result<Option<i64>> {
        let Some(text) = self.query(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            let message = format!("STRING_VALUE can not be converted to an Integer (at '{name}': '{text}')");
            ApiError::new(Kind::SerializationException, message)
        })
    }
}

/// The first value of a parameter in a query, decoded.
pub(crate) fn query<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    values(query, name).next()
}

fn values<'a>(query: &'a str, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let name = name.to_owned();
    pairs.filter(move |(key, _)| *key == name).map(|(_, value)| match value.contains('+') {
        true => percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned().into(),
        false => percent_decode_str(value).decode_utf8_lossy(),
    })
}
