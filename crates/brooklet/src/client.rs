//! Talks HTTP to a running server: one request, one connection, every wait limited.

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::sigv4;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use model::Secret;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::time::Duration;
use tokio::net::TcpStream;

/// Where a server is looked for when nothing says otherwise.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:9170";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that an answer's head may take: a function's longest timeout (15 min) and some more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(960);
/// More than Lambda's largest answer, a streamed one of 200 MiB.
const MAX_ANSWER: usize = 256 << 20;

/// What the API leaves unencoded in a path segment or query value (RFC 3986 unreserved).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A server's address and the keys to sign with.
#[derive(Clone, Debug)]
pub struct Client {
    /// `host:port` as in the `Host` header.
    authority: String,
    keys: Option<sigv4::Keys>,
}

/// A request before it is signed and sent.
#[derive(Clone)]
pub struct Request {
    method: http::Method,
    path: String,
    query: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Request {
    /// A request to `path`, which has its segments encoded already ([`segment`]).
    pub fn new(method: http::Method, path: impl Into<String>) -> Request {
        Request { method, path: path.into(), query: String::new(), headers: vec![], body: Bytes::new() }
    }

    /// Adds `name=value` to the query.
    pub fn query(mut self, name: &str, value: &str) -> Request {
        let sep = if self.query.is_empty() { "" } else { "&" };
        self.query.push_str(&format!("{sep}{name}={}", segment(value)));
        self
    }

    /// As [`Request::query`], when there is a value.
    pub fn query_if(self, name: &str, value: Option<&str>) -> Request {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Request {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Request {
        self.body = body.into();
        self
    }

    /// Sets a JSON body.
    pub fn json(self, value: &Value) -> Request {
        self.header("content-type", "application/json").body(value.to_string())
    }
}

/// A whole answer.
pub struct Answer {
    /// Status and headers.
    pub head: http::response::Parts,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A header's value when it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }
}

impl Client {
    /// A client for `server` (the flag), else `BROOKLET_SERVER`, else what the AWS tools use
    /// (`AWS_ENDPOINT_URL_LAMBDA`, `AWS_ENDPOINT_URL`), else [`DEFAULT_SERVER`].
    pub fn new(server: Option<&str>) -> Result<Client> {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let variables = ["BROOKLET_SERVER", "AWS_ENDPOINT_URL_LAMBDA", "AWS_ENDPOINT_URL"];
        let url = server
            .map(str::to_string)
            .or_else(|| variables.iter().find_map(|name| env(name)))
            .unwrap_or_else(|| DEFAULT_SERVER.to_string());
        let keys =
            env("AWS_ACCESS_KEY_ID").zip(env("AWS_SECRET_ACCESS_KEY")).map(|(id, secret)| sigv4::Keys {
                id,
                secret: secret.into(),
                token: env("AWS_SESSION_TOKEN").map(Secret::from),
                region: env("AWS_REGION")
                    .or_else(|| env("AWS_DEFAULT_REGION"))
                    .unwrap_or_else(|| "us-east-1".to_string()),
            });
        Ok(Client { authority: authority(&url)?, keys })
    }

    /// The server's base URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.authority)
    }

    /// Whether something answers `GET /healthz` there.
    pub async fn is_up(&self) -> bool {
        self.send(Request::new(http::Method::GET, "/healthz")).await.is_ok()
    }

    /// Sends a request and reads the answer's head. A refusal (status 400 and above) is an error.
    pub async fn open(&self, request: Request) -> Result<hyper::Response<Incoming>> {
        let response = self.exchange(request).await?;
        if response.status().as_u16() < 400 {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let body = self.read(body).await.unwrap_or_default();
        Err(refusal(&Answer { head, body }))
    }

    /// Sends a request and reads the whole answer. A refusal (status 400 and above) is an error.
    pub async fn send(&self, request: Request) -> Result<Answer> {
        let (head, body) = self.open(request).await?.into_parts();
        Ok(Answer { head, body: self.read(body).await? })
    }

    /// Sends a request and reads a JSON answer; `Null` when it is empty.
    pub async fn json(&self, request: Request) -> Result<Value> {
        let answer = self.send(request).await?;
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer.body).map_err(|error| {
            Error::new(Exit::Failure, format!("{} did not answer with JSON", self.url()))
                .because(error)
                .fix("check that --server names a Brooklet server")
        })
    }

    async fn exchange(&self, request: Request) -> Result<hyper::Response<Incoming>> {
        let connecting = TcpStream::connect(&self.authority);
        let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.unreachable(error)),
            Err(_) => return Err(self.unreachable("no connection within 5 s")),
        };
        // Head and body are separate writes; Nagle would hold the second back for 40 ms.
        stream.set_nodelay(true).map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(error))?;
        tokio::spawn(connection);
        let request = self.build(request)?;
        match tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.broken(error)),
            Err(_) => Err(self.broken("no answer within 16 minutes")),
        }
    }

    fn build(&self, request: Request) -> Result<hyper::Request<Full<Bytes>>> {
        let Request { method, path, query, mut headers, body } = request;
        if let Some(keys) = &self.keys {
            let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
            let to_sign = sigv4::Request {
                method: method.as_str(),
                host: &self.authority,
                path: &path,
                query: &query,
                headers: &headers,
                body: &body,
                date: &date,
            };
            let signed = sigv4::sign(keys, "lambda", &to_sign);
            headers.extend(signed);
        }
        headers.push(("host", self.authority.clone()));
        let sep = if query.is_empty() { "" } else { "?" };
        let mut builder = hyper::Request::builder().method(method).uri(format!("{path}{sep}{query}"));
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        builder
            .body(Full::new(body))
            .map_err(|error| Error::new(Exit::Usage, "this cannot be sent in a request").because(error))
    }

    async fn read(&self, body: Incoming) -> Result<Bytes> {
        let collected = Limited::new(body, MAX_ANSWER).collect().await;
        collected.map(|body| body.to_bytes()).map_err(|error| self.broken(error))
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> Error {
        Error::new(Exit::Unreachable, format!("no server answers at {}", self.url()))
            .because(why)
            .fix("start one with `brooklet up`, or name another with --server URL")
    }

    fn broken(&self, why: impl std::fmt::Display) -> Error {
        Error::new(Exit::Unreachable, format!("{} broke off before its answer was complete", self.url()))
            .because(why)
            .fix("look at the server's own log, and check that a Brooklet server listens there")
    }
}

/// Percent-encodes text for one path segment or query value.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// `host:port` of a plain HTTP URL.
fn authority(url: &str) -> Result<String> {
    let bad = |why: &str| {
        Error::new(Exit::Usage, format!("`{url}` is not a server's address"))
            .because(why)
            .fix(format!("write it as {DEFAULT_SERVER}"))
    };
    let uri: http::Uri = url.parse().map_err(|_| bad("it is not a URL"))?;
    match uri.scheme_str() {
        Some("http") | None => {}
        Some(_) => return Err(bad("only http:// is spoken")),
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(bad("it has a path or a query"));
    }
    let host = uri.host().ok_or_else(|| bad("it has no host"))?;
    Ok(format!("{host}:{}", uri.port_u16().unwrap_or(80)))
}

/// What the server said, as an error for people. Lambda's errors have their type in a header and their
/// message in `Message` or `message`.
fn refusal(answer: &Answer) -> Error {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    let status = answer.head.status;
    let kind = answer.header("x-amzn-errortype").and_then(|kind| kind.split(':').next()).unwrap_or_default();
    let message = ["message", "Message"].iter().find_map(|key| body[key].as_str());
    let message = message.map(str::to_string).unwrap_or_else(|| format!("the server answered {status}"));
    let exit = match (status.as_u16(), kind) {
        (404, _) => Exit::NotFound,
        (429, _) => Exit::Throttled,
        (500.., _) => Exit::Failure,
        _ => Exit::Refused,
    };
    let elsewhere = message.contains("valid region");
    let reason = body["Reason"].as_str();
    let plain = message == "Rate Exceeded."; // a longer message has its own remedy
    let mut error = Error::new(exit, message);
    if let Some(name) = reason.or_else(|| Some(kind).filter(|kind| !kind.is_empty())) {
        error = error.because(format!("{name} (status {})", status.as_u16()));
    }
    match status.as_u16() {
        429 if reason == Some("ReservedFunctionConcurrentInvocationLimitExceeded") => error.fix(
            "try again later, or raise the function's reserved concurrency (`concurrency` in brooklet.toml; 0 stops it)",
        ),
        429 if plain && reason == Some("ConcurrentInvocationLimitExceeded") => {
            error.fix("try again later, or raise account-concurrency in the server's configuration")
        }
        403 if elsewhere => error.fix("set AWS_REGION to the server's region"),
        403 => {
            error.fix("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a pair of the server's access-keys")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_plain_http_url() {
        let cases = [
            ("http://127.0.0.1:9170", Ok("127.0.0.1:9170")),
            ("http://localhost:9170/", Ok("localhost:9170")),
            ("http://[::1]:9170", Ok("[::1]:9170")),
            ("127.0.0.1:9170", Ok("127.0.0.1:9170")),
            ("http://box", Ok("box:80")),
            ("https://box", Err("only http:// is spoken")),
            ("http://box/path", Err("it has a path or a query")),
            ("not a url", Err("it is not a URL")),
        ];
        for (url, expected) in cases {
            let got = authority(url).map_err(|error| error.why.unwrap_or_default());
            assert_eq!(got.as_deref().map_err(String::as_str), expected, "{url}");
        }
    }

    #[test]
    fn a_refusal_tells_the_message_and_the_type() {
        let check = |status: u16, kind: &str, body: &str, exit: Exit, text: &str| {
            let response = hyper::Response::builder().status(status).header("x-amzn-errortype", kind);
            let (head, ()) = response.body(()).expect("a response").into_parts();
            let error = refusal(&Answer { head, body: Bytes::copy_from_slice(body.as_bytes()) });
            assert_eq!((error.exit, error.to_string().as_str()), (exit, text));
        };
        check(
            404,
            "ResourceNotFoundException",
            r#"{"Type":"User","Message":"Function not found: a"}"#,
            Exit::NotFound,
            "Function not found: a\n  because: ResourceNotFoundException (status 404)",
        );
        check(
            403,
            "InvalidSignatureException",
            r#"{"message":"Credential should be scoped to a valid region: this server's is 'us-east-1'."}"#,
            Exit::Refused,
            "Credential should be scoped to a valid region: this server's is 'us-east-1'.\n  because: \
             InvalidSignatureException (status 403)\n  fix:     set AWS_REGION to the server's region",
        );
        check(502, "", "<html>", Exit::Failure, "the server answered 502 Bad Gateway");
        check(429, "", r#"{"message":"Rate Exceeded."}"#, Exit::Throttled, "Rate Exceeded.");
        check(
            429,
            "TooManyRequestsException",
            r#"{"message":"Rate Exceeded.","Reason":"ConcurrentInvocationLimitExceeded"}"#,
            Exit::Throttled,
            "Rate Exceeded.\n  because: ConcurrentInvocationLimitExceeded (status 429)\n  fix:     try again later, or raise \
             account-concurrency in the server's configuration",
        );
    }
}
