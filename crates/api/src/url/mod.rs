//! Function URLs: plain HTTP in, an event to the function, HTTP out.
//!
//! A function is reached by the host name of its URL or at `/fn/<name>[:<qualifier>]/…`. A function with the HTTP
//! contract gets the request itself instead of an event.

pub mod cors; //    pages of other origins
pub mod event; //   request → event
mod forward; //     what a proxy tells the function
mod passthrough; // the HTTP contract
pub mod prelude; // the head of a streamed answer
pub mod reply; //   answer → response

use crate::auth::Signed;
use crate::auth::sigv4::Signature;
use crate::body::Body;
use crate::error::{ApiError, Kind, Result};
use crate::lambda::MAX_PAYLOAD;
use crate::service::Call;
use crate::stream::{self, Chunks, Collected};
use crate::{guard, lambda, time, trace};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use model::{Contract, Cors, InvokeMode, LATEST, Url};
use node::control::{ControlError, Target};
use node::invoke::{InvokeRequest, Reply};
use ports::{Payload, StreamReply};
use prelude::Prelude;
use reply::Malformed;
use std::sync::Arc;

/// The URL id in a host name: `<id>.lambda-url.<region>.<anything>`.
pub fn id_of_host(host: &str) -> Option<&str> {
    let (id, rest) = host.split_once('.')?;
    rest.starts_with("lambda-url.").then_some(id)
}

/// Which function is called, how, and under which path.
struct Site {
    function: Arc<str>,
    /// As the caller named it; `None` for `$LATEST`.
    qualifier: Option<Arc<str>>,
    /// The URL's settings; without them a function answers at its path to whoever may use the API.
    url: Option<Arc<Url>>,
    /// What comes before the path that the function sees: `/fn/name` or nothing.
    prefix: String,
}

/// Answers a request to a URL's own host name.
pub(crate) async fn by_host(call: Call<'_>, id: &str) -> Result<Response<Body>> {
    let id = id.to_ascii_lowercase();
    let found = call.app.registry.resolve_url(&id).await.map_err(|error| match error {
        // Lambda's status: it does not tell strangers which URLs there are.
        ControlError::NotFound { .. } => ApiError::new(
            Kind::AccessDeniedException,
            format!(
                "There is no function URL with the id {id}. `brooklet show NAME` tells the URL of a function."
            ),
        ),
        other => other.into(),
    })?;
    let qualifier = Some(found.qualifier).filter(|qualifier| **qualifier != *LATEST);
    let site = Site { function: found.function, qualifier, url: Some(found.url), prefix: String::new() };
    answer(call, site).await
}

/// Answers a request to `/fn/<name>[:<qualifier>]/…`.
pub(crate) async fn by_path(call: Call<'_>) -> Result<Response<Body>> {
    let path = call.head.uri.path();
    let rest = &path["/fn/".len()..];
    let segment = rest.split('/').next().unwrap_or_default();
    let prefix = path[.."/fn/".len() + segment.len()].to_owned();
    let decoded = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
    let named = lambda::name::parse(&decoded, call.app.account())?;
    let url = match call.app.registry.url(&named.name, named.qualifier.as_deref()).await {
        Ok(found) => Some(found.url),
        Err(ControlError::NotFound { .. }) => None,
        Err(other) => return Err(other.into()),
    };
    let (function, qualifier) = (named.name.into(), named.qualifier.map(Arc::from));
    answer(call, Site { function, qualifier, url, prefix }).await
}

async fn answer(call: Call<'_>, site: Site) -> Result<Response<Body>> {
    // A configuration without origins is what is left of one that was emptied.
    let cors =
        site.url.as_ref().and_then(|url| url.cors.clone()).filter(|cors| !cors.allow_origins.is_empty());
    let Some(cors) = cors else { return run(call, site).await };
    if cors::is_preflight(&call.head.method, &call.head.headers) {
        let mut response = Response::new(Body::EMPTY);
        *response.headers_mut() = cors::preflight(&cors, &call.head.headers);
        return Ok(response);
    }
    decorated(call, site, &cors).await
}

/// Errors carry the CORS headers too, or a page could not read them.
async fn decorated(call: Call<'_>, site: Site, cors: &Cors) -> Result<Response<Body>> {
    let origin = call.head.headers.get(header::ORIGIN).cloned();
    let mut response = run(call, site).await.unwrap_or_else(|error| error.response());
    let asked = origin.map(|origin| (header::ORIGIN, origin)).into_iter().collect();
    cors::decorate(cors, &asked, response.headers_mut());
    Ok(response)
}

async fn run(mut call: Call<'_>, site: Site) -> Result<Response<Body>> {
    let open = site.url.as_ref().is_some_and(|url| url.auth_type == "NONE");
    let signed = if open { None } else { knock(&call, site.url.is_some())? };
    if signed.is_some() && !site.prefix.is_empty() && call.head.uri.path().split('/').any(|part| part == "..")
    {
        // What is signed is the path without them, and that could be another function's.
        return Err(ApiError::new(
            Kind::InvalidRequestContentException,
            "The path of a signed request below /fn/ must not hold '..': send it as it is signed, without.",
        ));
    }
    let trace_id = trace::id(&call.head.headers, call.request_id);
    let (registry, random) = (&call.app.registry, fastrand::f64());
    let resolve = async || registry.resolve(&site.function, site.qualifier.as_deref(), random).await;
    let mut target = resolve().await?;
    let contract = target.configuration.contract();
    let mut read = None;
    // A body is streamed where it need not be an event, nor be signed.
    if contract == Contract::Lambda || signed.is_some() {
        let body = call.collect(MAX_PAYLOAD, "InvokeFunction").await?;
        let caller = signed.map(|signed| signed.finish(&call.head, &body)).transpose()?;
        read = Some((body, caller));
        // That may have taken a minute, in which the function was changed or deleted.
        let now = resolve().await?;
        if now.configuration.contract() == contract {
            target = now;
        }
    }
    let mut response = match (contract, read) {
        (Contract::Lambda, Some((body, caller))) => {
            by_event(call, site, target, body, caller, &trace_id).await?
        }
        (_, read) => passthrough::run(call, site, target, read.map(|(body, _)| body), &trace_id).await?,
    };
    trace::put(response.headers_mut(), Some(&trace_id));
    Ok(response)
}

/// As [`Call::knock`], with the one word that Lambda has for a stranger at a function URL; where there is none, the
/// path `/fn/` is as closed as the API, and says why.
///
/// A URL (`AWS_IAM`) demands a signature also of a server without access keys, which has nothing to check it
/// against, so that who forgets to sign learns it here and not on AWS.
fn knock<'a>(call: &Call<'a>, at_url: bool) -> Result<Option<Signed<'a>>> {
    let forbidden = || ApiError::new(Kind::AccessDeniedException, "Forbidden");
    let signed = call.knock("InvokeFunctionUrl").map_err(|error| match error.kind {
        Kind::MissingAuthenticationTokenException if at_url => forbidden(),
        Kind::MissingAuthenticationTokenException => ApiError::new(
            error.kind,
            "This server has access keys: sign the request, or give the function a URL with the auth type NONE.",
        ),
        _ => error,
    })?;
    match signed {
        None if at_url && !matches!(Signature::of(&call.head), Ok(Some(_))) => Err(forbidden()),
        signed => Ok(signed),
    }
}

/// The request as an event, the answer as a response.
async fn by_event(
    call: Call<'_>,
    site: Site,
    target: Target,
    body: Bytes,
    caller: Option<String>,
    trace_id: &str,
) -> Result<Response<Body>> {
    let payload = event_of(&call, &site, &body, caller.as_deref(), trace_id);
    if payload.len() > MAX_PAYLOAD {
        return Err(lambda::too_large(MAX_PAYLOAD, "InvokeFunction"));
    }
    drop(body);
    let request = InvokeRequest {
        request_id: call.request_id,
        payload: Payload::Event(payload.into()),
        qualifier: site.qualifier.as_deref().map(str::to_owned),
        trace_id: Some(trace_id.to_owned()),
        client_context: None,
        tail: false,
    };
    let mode = site.url.as_ref().map_or(InvokeMode::Buffered, |url| url.invoke_mode);
    invoke(&call, target, request, mode).await
}

fn event_of(call: &Call<'_>, site: &Site, body: &[u8], caller: Option<&str>, trace_id: &str) -> Vec<u8> {
    let host = guard::host(&call.head).unwrap_or_default();
    let path = &call.head.uri.path()[site.prefix.len()..];
    let account = call.app.account();
    event::event(&event::Request {
        method: &call.head.method,
        path: if path.is_empty() { "/" } else { path },
        query: call.head.uri.query().unwrap_or_default(),
        protocol: if call.head.version == http::Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" },
        headers: &call.head.headers,
        added: &forward::headers(call, &site.prefix, trace_id),
        body,
        source: forward::source(&call.head.headers, call.peer.ip()),
        api_id: site.url.as_ref().map_or(&*site.function, |url| &url.id),
        domain: guard::host_name(host),
        request_id: call.request_id,
        at: time::now(),
        caller: caller.map(|access_key| event::Caller { access_key, account: &account.id }),
    })
}

async fn invoke(
    call: &Call<'_>,
    target: Target,
    request: InvokeRequest,
    mode: InvokeMode,
) -> Result<Response<Body>> {
    let function = target.name.clone();
    let invoked = call.app.invoker.invoke(target, request).await?;
    let response = match (invoked.reply, mode) {
        (Reply::FunctionError(_), _) => return Ok(bad_gateway()),
        // As on Lambda: what does not say that it is an HTTP answer is the body, as it is.
        (Reply::Answer(answer), InvokeMode::ResponseStream) => Ok(json_body(answer)),
        (Reply::Answer(answer), InvokeMode::Buffered) => {
            reply::response(answer).map(|answer| answer.map(Body::from))
        }
        (Reply::Stream(StreamReply::Http(response)), _) => Ok(response.map(Body::stream)),
        (Reply::Stream(StreamReply::Chunks { content_type, chunks }), InvokeMode::ResponseStream) => {
            streamed(&content_type, chunks).await
        }
        (Reply::Stream(StreamReply::Chunks { content_type, chunks }), InvokeMode::Buffered) => {
            buffered(&content_type, chunks).await
        }
    };
    Ok(response.unwrap_or_else(|Malformed(why)| {
        tracing::warn!(%function, request_id = %call.request_id, "502 at the function's URL: {why}");
        bad_gateway()
    }))
}

fn json_body(answer: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(answer));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

type Receiver = tokio::sync::mpsc::Receiver<std::result::Result<Bytes, Bytes>>;

/// A streamed answer as it comes.
async fn streamed(
    content_type: &str,
    mut chunks: Receiver,
) -> std::result::Result<Response<Body>, Malformed> {
    if content_type != prelude::CONTENT_TYPE {
        let mut response = Response::new(Body::stream(Chunks::new(None, chunks)));
        let content_type = HeaderValue::try_from(content_type).ok().filter(|value| !value.is_empty());
        let content_type = content_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        return Ok(response);
    }
    let mut prelude = Prelude::default();
    while let Some(chunk) = chunks.recv().await {
        let chunk = chunk.map_err(|_| Malformed("the function failed before its prelude ended".into()))?;
        if let Some((json, first)) = prelude.feed(&chunk)? {
            let body = Body::stream(Chunks::new(Some(first), chunks));
            return Ok(reply::prelude(&json)?.map(|()| body));
        }
    }
    Err(Malformed("the stream ended within its prelude".into()))
}

/// A streamed answer at a URL that buffers: whole, at most 6 MiB.
async fn buffered(content_type: &str, chunks: Receiver) -> std::result::Result<Response<Body>, Malformed> {
    let whole = match stream::collect_chunks(chunks, MAX_PAYLOAD).await {
        Collected::Whole(whole) => whole,
        Collected::Failed(_) => {
            return Err(Malformed("the function failed in the middle of its answer".into()));
        }
        Collected::TooLarge => {
            return Err(Malformed(format!("the answer has more than {MAX_PAYLOAD} bytes")));
        }
    };
    if content_type != prelude::CONTENT_TYPE {
        return Ok(reply::response(whole)?.map(Body::from));
    }
    match Prelude::default().feed(&whole)? {
        Some((json, body)) => Ok(reply::prelude(&json)?.map(|()| Body::from(body))),
        None => Err(Malformed("the stream ended within its prelude".into())),
    }
}

/// What a caller is told when the function failed: nothing, as its error may hold secrets.
fn bad_gateway() -> Response<Body> {
    let mut response = Response::new(Body::from("Internal Server Error"));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-amzn-errortype", HeaderValue::from_static("InternalServerErrorException"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_names_a_url_by_its_first_label() {
        assert_eq!(id_of_host("abc.lambda-url.us-east-1.localhost:9170"), Some("abc"));
        assert_eq!(id_of_host("abc.lambda-url.eu-west-1.on.aws"), Some("abc"));
        assert_eq!(id_of_host("localhost:9170"), None);
        assert_eq!(id_of_host("127.0.0.1:9170"), None);
        assert_eq!(id_of_host("abc.example.lambda-url.com"), None);
    }
}
