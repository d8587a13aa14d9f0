//! Which face answers a request: a function URL by its host name, Lambda's API, `/fn/…`, Brooklet's own API.

use crate::app::App;
use crate::auth::Signed;
use crate::body::{Body, CollectError};
use crate::error::{ApiError, Kind, Result};
use crate::unread::Unread;
use crate::{body, guard, lambda, own, url};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use model::RequestId;
use std::net::SocketAddr;
use std::sync::Arc;

/// A request on its way through.
pub(crate) struct Call<'a> {
    pub app: &'a Arc<App>,
    pub head: Parts,
    pub body: Unread,
    pub peer: SocketAddr,
    pub request_id: RequestId,
}

/// Answers a request, whatever it is.
pub(crate) async fn answer(app: &Arc<App>, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
    let (head, body) = request.into_parts();
    let request_id = RequestId(uuid::Uuid::new_v4());
    let body = Unread::new(body, head.headers.contains_key(header::EXPECT));
    let call = Call { app, head, body, peer, request_id };
    let mut response = route(call).await.unwrap_or_else(|error| error.response());
    let mut buffer = uuid::Uuid::encode_buffer();
    let id = request_id.0.as_hyphenated().encode_lower(&mut buffer);
    response
        .headers_mut()
        .insert("x-amzn-requestid", HeaderValue::from_str(id).expect("a UUID is a header value"));
    response
}

async fn route(call: Call<'_>) -> Result<Response<Body>> {
    if call.head.method == Method::CONNECT {
        return Err(ApiError::new(
            Kind::UnknownOperationException,
            "This server is no proxy: it does not answer CONNECT.",
        ));
    }
    if let Some(id) = guard::host(&call.head).and_then(url::id_of_host).map(str::to_owned) {
        return url::by_host(call, &id).await;
    }
    let path = call.head.uri.path();
    if path.starts_with("/20") {
        return lambda::serve(call).await;
    }
    if path.starts_with("/fn/") {
        return url::by_path(call).await;
    }
    if path.starts_with("/_brooklet/") {
        return own::serve(call).await;
    }
    match path {
        "/metrics" => own::metrics(call).await,
        "/healthz" => Ok(Response::new(Body::from("ok\n"))),
        "/readyz" if call.app.is_ready() => Ok(Response::new(Body::from("ready\n"))),
        "/readyz" => {
            let mut response = Response::new(Body::from("not ready\n"));
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            Ok(response)
        }
        _ => Err(ApiError::new(
            Kind::UnknownOperationException,
            format!(
                "There is nothing at {path}. Lambda's API begins with a dated path such as /2015-03-31/functions, \
                 functions answer at /fn/<name>, Brooklet's own API is below /_brooklet/v1."
            ),
        )),
    }
}

impl<'a> Call<'a> {
    /// Refuses strangers before anything of their body is read: where keys are configured, who has not signed
    /// with one; where none are, web pages of other sites. `operation` is what IAM calls what is asked for.
    pub fn knock(&self, operation: &str) -> Result<Option<Signed<'a>>> {
        let keys = &self.app.keys;
        if !keys.is_empty() {
            let region = &self.app.account().region;
            return keys.begin(&self.head, operation, region, crate::time::now()).map(Some);
        }
        if self.app.local {
            guard::check(&self.head)?;
        }
        Ok(None)
    }

    /// Refuses strangers, then reads the body (at most `limit` bytes) and checks that the caller signed it.
    /// `operation` is named when it is too long, or not for this caller.
    pub async fn admit(&mut self, limit: usize, operation: &str) -> Result<Bytes> {
        let signed = self.knock(operation)?;
        let body = self.collect(limit, operation).await?;
        if let Some(signed) = signed {
            signed.finish(&self.head, &body)?;
        }
        Ok(body)
    }

    /// Reads the body, at most `limit` bytes.
    pub async fn collect(&mut self, limit: usize, operation: &str) -> Result<Bytes> {
        body::collect(&mut self.body, limit).await.map_err(|error| match error {
            CollectError::TooLarge(_) => lambda::too_large(limit, operation),
            CollectError::TooSlow => ApiError::new(
                Kind::RequestTimeoutException,
                "The request's body did not arrive in time. Send it faster or in smaller parts.",
            ),
            CollectError::Broken(why) => ApiError::new(
                Kind::InvalidRequestContentException,
                format!("The request's body could not be read: {why}"),
            ),
        })
    }
}
