//! `Invoke` and `InvokeWithResponseStream`.

use super::name::{self, FunctionName};
use crate::body::Body;
use crate::error::{ApiError, Kind, Result};
use crate::eventstream;
use crate::service::Call;
use crate::stream::{self, Collected};
use crate::trace;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use model::Version;
use node::control::Target;
use node::invoke::{Ending, InvokeRequest, Invoked, Reply};
use ports::{BoxError, Payload, StreamReply};
use serde_json::json;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::{mpsc, oneshot};

/// The largest event and the largest buffered answer: 6 MiB.
pub const MAX_PAYLOAD: usize = 6_291_456;

/// The longest `X-Amz-Client-Context`: 3,583 bytes of base64.
const MAX_CLIENT_CONTEXT: usize = 3_583;

/// Payload chunks of a response stream are cut into events of at most this size.
const MAX_CHUNK: usize = 1 << 20;

/// `InvocationType`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InvocationType {
    RequestResponse,
    Event,
    DryRun,
}

/// `Invoke`.
pub async fn invoke(mut call: Call<'_>, function: &str) -> Result<Response<Body>> {
    let Some((invoked, mut response)) = run(&mut call, function, "InvokeFunction").await? else {
        return Ok(dry_run());
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-amzn-remapped-content-length", HeaderValue::from_static("0"));
    let mut log_tail = invoked.log_tail;
    let (payload, failed) = match invoked.reply {
        Reply::Answer(payload) => (payload, false),
        Reply::FunctionError(payload) => (payload, true),
        Reply::Stream(stream) => {
            let (answer, tail) = collected(stream, invoked.ending).await;
            log_tail = tail;
            match answer {
                Collected::Whole(payload) => (payload, false),
                Collected::Failed(payload) => (payload, true),
                Collected::TooLarge => (too_large(), true),
            }
        }
    };
    if failed {
        response.headers_mut().insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
    }
    if let Some(tail) = log_tail {
        let tail = HeaderValue::try_from(STANDARD.encode(tail)).expect("base64 is a header value");
        response.headers_mut().insert("x-amz-log-result", tail);
    }
    *response.body_mut() = Body::from(payload);
    Ok(response)
}

/// `InvokeWithResponseStream`.
pub async fn invoke_with_stream(mut call: Call<'_>, function: &str) -> Result<Response<Body>> {
    let Some((invoked, mut response)) = run(&mut call, function, "InvokeWithResponseStream").await? else {
        return Ok(dry_run());
    };
    let content_type = HeaderValue::from_static(eventstream::CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    let log = encoded(invoked.log_tail);
    *response.body_mut() = match invoked.reply {
        Reply::Answer(payload) => whole(&payload, log.as_deref()),
        Reply::FunctionError(payload) => Body::from(complete(Some(&payload), log.as_deref())),
        Reply::Stream(StreamReply::Chunks { chunks, .. }) => {
            Body::stream(Events { chunks, ending: invoked.ending, error: None, state: State::Chunks })
        }
        Reply::Stream(other) => {
            let (answer, tail) = collected(other, invoked.ending).await;
            let log = encoded(tail);
            match answer {
                Collected::Whole(payload) => whole(&payload, log.as_deref()),
                Collected::Failed(error) => Body::from(complete(Some(&error), log.as_deref())),
                Collected::TooLarge => Body::from(complete(Some(&too_large()), log.as_deref())),
            }
        }
    };
    Ok(response)
}

/// A streamed answer, collected, with what its end tells. Of an answer that is too large the end is not waited for.
async fn collected(
    stream: StreamReply,
    ending: Option<oneshot::Receiver<Ending>>,
) -> (Collected, Option<Bytes>) {
    let answer = stream::collect(stream, MAX_PAYLOAD).await;
    let Some(ending) = ending.filter(|_| answer != Collected::TooLarge) else { return (answer, None) };
    match (answer, ending.await) {
        (Collected::Failed(_), Ok(Ending { error: Some(error), log_tail })) => {
            (Collected::Failed(error), log_tail)
        }
        (answer, ending) => (answer, ending.ok().and_then(|ending| ending.log_tail)),
    }
}

fn encoded(log_tail: Option<Bytes>) -> Option<String> {
    log_tail.map(|tail| STANDARD.encode(tail))
}

/// Runs the function; with a response that has what both operations say in headers. `None`: a dry run, and all is
/// well.
async fn run(
    call: &mut Call<'_>,
    function: &str,
    operation: &str,
) -> Result<Option<(Invoked, Response<Body>)>> {
    let Some(Prepared { target, request }) = prepare(call, function, operation).await? else {
        return Ok(None);
    };
    let trace_id = request.trace_id.clone();
    let invoked = call.app.invoker.invoke(target, request).await?;
    let mut response = Response::new(Body::EMPTY);
    put_common(response.headers_mut(), &invoked, trace_id);
    Ok(Some((invoked, response)))
}

/// What is needed to run the function.
struct Prepared {
    target: Target,
    request: InvokeRequest,
}

/// Admits the caller, reads everything from the request, and finds what is to run. `None`: a dry run, and all is
/// well.
async fn prepare(call: &mut Call<'_>, function: &str, operation: &str) -> Result<Option<Prepared>> {
    let payload = call.admit(MAX_PAYLOAD, operation).await?;
    let kind = invocation_type(&call.head.headers)?;
    let tail = wants_tail(&call.head.headers)?;
    let client_context = client_context(&call.head.headers)?;
    let FunctionName { name, qualifier } = name::parse(function, call.app.account())?;
    let query = call.head.uri.query().unwrap_or_default();
    let qualifier = name::qualifier(qualifier, super::query(query, "Qualifier").as_deref())?;
    let registry = &call.app.registry;
    let target = registry.resolve(&name, qualifier.as_deref(), fastrand::f64()).await?;
    match kind {
        InvocationType::DryRun => return Ok(None),
        InvocationType::Event => {
            return Err(ApiError::new(
                Kind::NotImplementedException,
                "The invocation type Event (asynchronous) is not supported yet by this version of Brooklet: use \
                 RequestResponse.",
            ));
        }
        InvocationType::RequestResponse => {}
    }
    let payload = match payload.is_empty() {
        true => Bytes::from_static(b"{}"),
        false => check_json(payload)?,
    };
    let trace_id = trace::id(&call.head.headers, call.request_id);
    let request = InvokeRequest {
        request_id: call.request_id,
        payload: Payload::Event(payload),
        qualifier,
        trace_id: Some(trace_id),
        client_context,
        tail,
    };
    Ok(Some(Prepared { target, request }))
}

/// Nesting beyond this is refused, as Lambda's own parser does: few runtimes could read it.
const MAX_DEPTH: usize = 1000;

/// The payload, if it is one JSON document. Nothing is built: the text is walked through once.
fn check_json(payload: Bytes) -> Result<Bytes> {
    let refuse = |why: &dyn std::fmt::Display| {
        let message =
            format!("Could not parse request body into json: Could not parse payload into json: {why}");
        ApiError::new(Kind::InvalidRequestContentException, message)
    };
    let text = std::str::from_utf8(&payload).map_err(|error| refuse(&error))?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| refuse(&error))?;
    if is_deeper_than(text, MAX_DEPTH) {
        return Err(refuse(&format!("Document nesting depth exceeds the maximum allowed ({MAX_DEPTH})")));
    }
    Ok(payload)
}

/// Whether valid JSON is nested deeper than `limit`. Documents with few brackets, which is nearly all, are only
/// counted.
fn is_deeper_than(json: &str, limit: usize) -> bool {
    if memchr::memchr2_iter(b'[', b'{', json.as_bytes()).count() <= limit {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    json.bytes().any(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
        depth > limit
    })
}

fn invocation_type(headers: &HeaderMap) -> Result<InvocationType> {
    match headers.get("x-amz-invocation-type").map(HeaderValue::as_bytes) {
        None | Some(b"RequestResponse") => Ok(InvocationType::RequestResponse),
        Some(b"Event") => Ok(InvocationType::Event),
        Some(b"DryRun") => Ok(InvocationType::DryRun),
        Some(other) => Err(ApiError::not_in_enum(
            "invocationType",
            &String::from_utf8_lossy(other),
            "Event, RequestResponse, DryRun",
        )),
    }
}

fn wants_tail(headers: &HeaderMap) -> Result<bool> {
    match headers.get("x-amz-log-type").map(HeaderValue::as_bytes) {
        None | Some(b"None") => Ok(false),
        Some(b"Tail") => Ok(true),
        Some(other) => Err(ApiError::not_in_enum("logType", &String::from_utf8_lossy(other), "None, Tail")),
    }
}

/// The client context as JSON text.
fn client_context(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(encoded) = headers.get("x-amz-client-context") else { return Ok(None) };
    let refuse = |message: &str| Err(ApiError::new(Kind::InvalidRequestContentException, message));
    if encoded.len() > MAX_CLIENT_CONTEXT {
        return refuse("Client context must be at most 3583 bytes of base64.");
    }
    let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let object =
        |text: &String| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok();
    match decoded.filter(object) {
        Some(context) => Ok(Some(context)),
        None => refuse("Client context must be a valid Base64-encoded JSON object."),
    }
}

fn dry_run() -> Response<Body> {
    let mut response = Response::new(Body::EMPTY);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn put_common(headers: &mut HeaderMap, invoked: &Invoked, trace_id: Option<String>) {
    trace::put(headers, trace_id.as_deref());
    let version = match invoked.executed_version {
        Version::Latest => HeaderValue::from_static(model::LATEST),
        Version::Number(number) => number.into(),
    };
    headers.insert("x-amz-executed-version", version);
}

/// The function's error when its streamed answer does not fit into a buffered one.
pub fn too_large() -> Bytes {
    let message =
        format!("Response payload size exceeded maximum allowed payload size ({MAX_PAYLOAD} bytes).");
    let error = json!({ "errorMessage": message, "errorType": "Function.ResponseSizeTooLarge" });
    error.to_string().into()
}

fn chunk_events(payload: &[u8]) -> Vec<Bytes> {
    let chunks = payload.chunks(MAX_CHUNK);
    chunks.map(|chunk| eventstream::event("PayloadChunk", "application/octet-stream", chunk)).collect()
}

/// A response stream whose payload is there already.
fn whole(payload: &[u8], log: Option<&str>) -> Body {
    let mut events = chunk_events(payload);
    events.push(complete(None, log));
    Body::from(joined(events))
}

/// Events as one piece; a single one is not copied.
fn joined(mut events: Vec<Bytes>) -> Bytes {
    match events.len() {
        1 => events.remove(0),
        _ => events.concat().into(),
    }
}

/// The event that ends a response stream.
fn complete(error: Option<&[u8]>, log: Option<&str>) -> Bytes {
    let mut members = serde_json::Map::new();
    if let Some(error) = error {
        members.insert("ErrorCode".into(), "Unhandled".into());
        members.insert("ErrorDetails".into(), String::from_utf8_lossy(error).into());
    }
    if let Some(log) = log {
        members.insert("LogResult".into(), log.into());
    }
    let payload = serde_json::Value::Object(members).to_string();
    eventstream::event("InvokeComplete", "application/json", payload.as_bytes())
}

/// A response stream: each chunk of the function becomes an event and is flushed, then comes `InvokeComplete`.
struct Events {
    chunks: mpsc::Receiver<std::result::Result<Bytes, Bytes>>,
    ending: Option<oneshot::Receiver<Ending>>,
    /// What broke it off, as far as the stream itself tells.
    error: Option<Bytes>,
    state: State,
}

/// What comes next.
enum State {
    Chunks,
    Ending,
    Nothing,
}

impl Events {
    /// The end of the stream, once it is known why.
    fn poll_complete(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        let ending = match &mut self.ending {
            Some(ending) => ready!(Pin::new(ending).poll(context)).ok(),
            None => None,
        };
        let (why, log_tail) = ending.map_or((None, None), |ending| (ending.error, ending.log_tail));
        let error = self.error.take().map(|error| why.unwrap_or(error));
        Poll::Ready(complete(error.as_deref(), encoded(log_tail).as_deref()))
    }
}

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<hyper::body::Frame<Bytes>, BoxError>>> {
        if let State::Chunks = self.state {
            match ready!(self.chunks.poll_recv(context)) {
                Some(Ok(chunk)) => {
                    return Poll::Ready(Some(Ok(hyper::body::Frame::data(joined(chunk_events(&chunk))))));
                }
                Some(Err(error)) => self.error = Some(error),
                None => {}
            }
            self.state = State::Ending;
        }
        if let State::Nothing = self.state {
            return Poll::Ready(None);
        }
        let last = ready!(self.poll_complete(context));
        self.state = State::Nothing;
        Poll::Ready(Some(Ok(hyper::body::Frame::data(last))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_payload(payload: &[u8], expected: &str) {
        let actual = match check_json(Bytes::copy_from_slice(payload)) {
            Ok(_) => "fine".to_owned(),
            Err(error) => format!("{:?}: {}", error.kind, error.message),
        };
        assert_eq!(actual, expected);
    }

    #[test]
    fn a_payload_must_be_one_json_document() {
        const PREFIX: &str = "InvalidRequestContentException: Could not parse request body into json: Could not parse payload into json: ";
        check_payload(br#" {"a": [1, 2.5e3, "\u00e4", null]} "#, "fine");
        check_payload(b"7", "fine");
        check_payload(b"hello", &format!("{PREFIX}expected value at line 1 column 1"));
        check_payload(b"{} {}", &format!("{PREFIX}trailing characters at line 1 column 4"));
        check_payload(b"{\"a\":", &format!("{PREFIX}EOF while parsing a value at line 1 column 5"));
        check_payload(b"\"\xff\"", &format!("{PREFIX}invalid utf-8 sequence of 1 bytes from index 1"));
    }

    #[test]
    fn deeply_nested_payloads_are_refused_without_exhausting_the_stack() {
        let nested = |depth| [vec![b'['; depth], vec![b']'; depth]].concat();
        check_payload(&nested(MAX_DEPTH), "fine");
        check_payload(
            &nested(1 << 20),
            "InvalidRequestContentException: Could not parse request body into json: Could not parse payload into \
             json: Document nesting depth exceeds the maximum allowed (1000)",
        );
        let flat = format!("[{}]", vec![r#""\"[{""#; 2000].join(","));
        check_payload(flat.as_bytes(), "fine");
        check_payload(format!("[{}]", vec!["{}"; 2000].join(",")).as_bytes(), "fine");
    }

    fn context_of(value: &str) -> std::result::Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-client-context", value.parse().unwrap());
        client_context(&headers).map_err(|error| error.message)
    }

    #[test]
    fn a_client_context_is_a_json_object_in_base64() {
        assert_eq!(client_context(&HeaderMap::new()), Ok(None));
        assert_eq!(context_of("eyJhIjoxfQ=="), Ok(Some(r#"{"a":1}"#.into())));
        const BAD: &str = "Client context must be a valid Base64-encoded JSON object.";
        assert_eq!(context_of("%%%").unwrap_err(), BAD);
        assert_eq!(context_of("WzFd").unwrap_err(), BAD); // [1]
        assert_eq!(
            context_of(&"A".repeat(3584)).unwrap_err(),
            "Client context must be at most 3583 bytes of base64."
        );
    }
}
