//! The HTTP contract: any program that listens on `$PORT`, one or many requests at once.
//!
//! An HTTP request is passed through, body and answer streamed. A Lambda event is POSTed to `/` as JSON and
//! the answer's body is the result; a status of 500 and above is the function's error.

use crate::instance::{MAX_ANSWER, Process, Transport};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use ports::{HttpBody, Invocation, InvokeResult, Payload, StartFailure, StreamReply, StreamSink};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Mutex;
use std::time::Duration;

/// Idle connections kept to one instance.
const MAX_IDLE: usize = 128;

/// The way to a web program.
pub struct HttpProgram {
    address: SocketAddr,
    idle: Mutex<Vec<SendRequest<HttpBody>>>,
}

impl HttpProgram {
    /// To a port of the machine that nobody listens on at this moment.
    pub fn on_a_free_port() -> io::Result<HttpProgram> {
        Ok(HttpProgram::at(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?))
    }

    /// To where the program will listen: in its own network, if it has one.
    pub fn at(address: SocketAddr) -> HttpProgram {
        HttpProgram { address, idle: Mutex::new(Vec::new()) }
    }

    /// Where the program is to listen.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The connection failed: because the program is ending, or because it answered nonsense.
    async fn broken(&self, process: &Process, error: hyper::Error) -> InvokeResult {
        match tokio::time::timeout(Duration::from_millis(50), process.child.exited()).await {
            Ok(exit) => InvokeResult::Exited(exit),
            Err(_) => {
                let message = format!("the program did not answer the request in HTTP: {error}");
                let json =
                    serde_json::json!({ "errorType": "Runtime.HttpProtocol", "errorMessage": message });
                InvokeResult::Error(json.to_string().into())
            }
        }
    }

    async fn request(
        &self,
        process: &Process,
        invocation: Invocation,
        sink: StreamSink,
    ) -> hyper::Result<InvokeResult> {
        let id = invocation.request_id.to_string();
        let headers = |request: &mut http::Request<HttpBody>| {
            for (name, value) in
                [("x-amzn-requestid", id.as_str()), ("x-amzn-trace-id", &invocation.trace_id)]
            {
                if let Ok(value) = value.parse() {
                    request.headers_mut().insert(name, value);
                }
            }
            if !request.headers().contains_key(http::header::HOST) {
                request.headers_mut().insert(http::header::HOST, http::HeaderValue::from_static("localhost"));
            }
        };
        match invocation.payload {
            Payload::Http(mut request) => {
                headers(&mut request);
                let (sender, response) = self.send(process, *request).await?;
                self.relay(sender, response, sink).await
            }
            Payload::Event(event) => {
                let body = Full::new(event).map_err(|never| match never {}).boxed_unsync();
                let mut request = http::Request::new(body);
                *request.method_mut() = http::Method::POST;
                request
                    .headers_mut()
                    .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
                headers(&mut request);
                let (sender, response) = self.send(process, request).await?;
                let status = response.status();
                let result = match Limited::new(response.into_body(), MAX_ANSWER).collect().await {
                    Ok(whole) if status.is_server_error() => {
                        InvokeResult::Error(error(status, whole.to_bytes()))
                    }
                    Ok(whole) => InvokeResult::Answer(whole.to_bytes()),
                    Err(_) => InvokeResult::ResponseTooLarge(MAX_ANSWER as u64 + 1),
                };
                self.keep(sender);
                Ok(result)
            }
        }
    }

    /// Hands the answer's head to the caller and its body as it comes; the invocation ends with the body.
    async fn relay(
        &self,
        sender: SendRequest<HttpBody>,
        response: http::Response<hyper::body::Incoming>,
        sink: StreamSink,
    ) -> hyper::Result<InvokeResult> {
        let (parts, mut body) = response.into_parts();
        let (chunks, channel) =
            tokio::sync::mpsc::channel::<Result<hyper::body::Frame<Bytes>, ports::BoxError>>(16);
        let passed_on = http_body_util::StreamBody::new(Receive(channel)).boxed_unsync();
        let _ = sink.send(StreamReply::Http(Box::new(http::Response::from_parts(parts, passed_on))));
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame?;
            length += frame.data_ref().map_or(0, |data| data.len() as u64);
            let _ = chunks.send(Ok(frame)).await;
        }
        self.keep(sender);
        Ok(InvokeResult::Streamed(length))
    }

    async fn send(
        &self,
        process: &Process,
        request: http::Request<HttpBody>,
    ) -> hyper::Result<(SendRequest<HttpBody>, http::Response<hyper::body::Incoming>)> {
        let mut sender = self.connection(process).await?;
        let response = sender.send_request(request).await?;
        Ok((sender, response))
    }

    async fn connection(&self, process: &Process) -> hyper::Result<SendRequest<HttpBody>> {
        let idle = || self.idle.lock().expect("no panic while held").pop();
        while let Some(mut sender) = idle() {
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        loop {
            // A refused connection means that the program has ended or is about to; `exchange` sees the exit.
            let Ok(stream) = process.child.connect(self.address).await else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            return Ok(sender);
        }
    }

    fn keep(&self, sender: SendRequest<HttpBody>) {
        let mut idle = self.idle.lock().expect("no panic while held");
        if !sender.is_closed() && idle.len() < MAX_IDLE {
            idle.push(sender);
        }
    }
}

impl Transport for HttpProgram {
    /// Waits until the program listens.
    async fn ready(&mut self, process: &Process) -> Result<(), StartFailure> {
        // There is no event for "another process listens now"; the pause grows from 1 to 20 ms.
        let mut pause = Duration::from_millis(1);
        while process.child.connect(self.address).await.is_err() {
            tokio::select! {
                exit = process.child.exited() => return Err(StartFailure::Exited(exit)),
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_millis(20)),
            }
        }
        Ok(())
    }

    async fn exchange(&self, process: &Process, invocation: Invocation, sink: StreamSink) -> InvokeResult {
        tokio::select! {
            biased;
            result = self.request(process, invocation, sink) => match result {
                Ok(result) => result,
                Err(error) => self.broken(process, error).await,
            },
            exit = process.child.exited() => InvokeResult::Exited(exit),
        }
    }
}

/// The program's own words when it answered with JSON of Lambda's shape, else a description.
fn error(status: http::StatusCode, body: Bytes) -> Bytes {
    let shaped = serde_json::from_slice::<serde_json::Value>(&body)
        .is_ok_and(|json| json.get("errorMessage").is_some() || json.get("errorType").is_some());
    if shaped {
        return body;
    }
    let message = format!("the program answered {status}: {}", String::from_utf8_lossy(&body));
    serde_json::json!({ "errorType": "Function.HttpStatus", "errorMessage": message }).to_string().into()
}

/// A channel as a stream of frames.
struct Receive(tokio::sync::mpsc::Receiver<Result<hyper::body::Frame<Bytes>, ports::BoxError>>);

impl futures_core::Stream for Receive {
    type Item = Result<hyper::body::Frame<Bytes>, ports::BoxError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}
