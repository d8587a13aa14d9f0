//! The HTTP contract: the request goes to the program as it is, the answer comes back as it comes.

use super::{Site, forward};
use crate::body::Body;
use crate::error::{ApiError, Kind, Result};
use crate::service::Call;
use crate::unread::Unread;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use node::control::Target;
use node::invoke::{InvokeRequest, Reply};
use ports::{HttpBody, Payload, StreamReply};

/// The most that the server's log tells of a function's error: bytes.
const MAX_TOLD: usize = 1024;

/// Runs one request. A body that had to be signed was `collected`; one that need not is streamed, whatever its length.
pub(super) async fn run(
    call: Call<'_>,
    site: Site,
    target: Target,
    collected: Option<Bytes>,
    trace_id: &str,
) -> Result<Response<Body>> {
    let mut request = Request::new(());
    *request.method_mut() = call.head.method.clone();
    *request.uri_mut() = uri(&call, &site)?;
    *request.headers_mut() = headers(&call, &site, trace_id);
    let request_id = call.request_id;
    let (app, body) = (call.app, body(collected, call.body));
    let request = InvokeRequest {
        request_id,
        payload: Payload::Http(Box::new(request.map(|()| body))),
        qualifier: site.qualifier.as_deref().map(str::to_owned),
        trace_id: Some(trace_id.to_owned()),
        client_context: None,
        tail: false,
    };
    let function = target.name.clone();
    let refuse = |why: &str| {
        tracing::warn!(%function, %request_id, "502 at the function's URL: {why}");
        super::bad_gateway()
    };
    let invoked = app.invoker.invoke(target, request).await?;
    Ok(match invoked.reply {
        // Nobody asked it to speak another protocol: the request for that stayed here.
        Reply::Stream(StreamReply::Http(response)) if response.status().is_informational() => {
            refuse(&format!("the program answered {}", response.status()))
        }
        Reply::Stream(StreamReply::Http(mut response)) => {
            forward::remove_hop_by_hop(response.headers_mut());
            response.map(Body::Stream)
        }
        Reply::Answer(answer) => Response::new(Body::from(answer)),
        Reply::Stream(StreamReply::Chunks { chunks, .. }) => {
            Response::new(Body::stream(crate::stream::Chunks::new(None, chunks)))
        }
        // The caller learns nothing of it, and the program has not written it anywhere.
        Reply::FunctionError(error) => refuse(&String::from_utf8_lossy(&error[..error.len().min(MAX_TOLD)])),
    })
}

/// The path that the program sees, and the query.
fn uri(call: &Call<'_>, site: &Site) -> Result<Uri> {
    let whole = call.head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = whole.strip_prefix(site.prefix.as_str()).unwrap_or(whole);
    let path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    path.parse().map_err(|error| {
        ApiError::new(Kind::InvalidRequestContentException, format!("The path cannot be passed on: {error}"))
    })
}

fn headers(call: &Call<'_>, site: &Site, trace_id: &str) -> http::HeaderMap {
    let mut headers = call.head.headers.clone();
    forward::remove_hop_by_hop(&mut headers);
    // The server has answered it already.
    headers.remove(header::EXPECT);
    for (name, value) in forward::headers(call, &site.prefix, trace_id) {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    headers
}

fn body(collected: Option<Bytes>, incoming: Unread) -> HttpBody {
    match collected {
        Some(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed_unsync(),
        None => incoming.map_err(Into::into).boxed_unsync(),
    }
}
