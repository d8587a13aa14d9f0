//! The HTTP contract: any program that listens on `$PORT`, one or many requests at once.
//!
//! An HTTP request is passed through, body and answer streamed. A Lambda event is POSTed to `/` as JSON and
//! the answer's body is the result; a status of 500 and above is the function's error.

use crate::instance::{LAST_WORDS, MAX_ANSWER, Process, Transport};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Frame;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use ports::{Exit, HttpBody, Invocation, InvokeResult, Payload, StartFailure, StreamReply, StreamSink};
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Idle connections kept to one instance.
const MAX_IDLE: usize = 128;

/// The way to a web program.
pub struct HttpProgram {
    address: SocketAddr,
    idle: Mutex<Vec<SendRequest<HttpBody>>>,
}

/// Why there is no answer.
enum Broken {
    /// The program has ended.
    Gone(Exit),
    /// The connection failed.
    Http(hyper::Error),
}

impl From<hyper::Error> for Broken {
    fn from(error: hyper::Error) -> Broken {
        Broken::Http(error)
    }
}

impl HttpProgram {
    /// To a port that nobody listens on at this moment. In a network namespace of its own an instance will not
    /// have to share the machine's.
    pub fn on_a_free_port() -> io::Result<HttpProgram> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        Ok(HttpProgram { address, idle: Mutex::new(Vec::new()) })
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
    ) -> Result<InvokeResult, Broken> {
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
                Ok(self.relay(sender, response, sink).await?)
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
                    Err(error) => match error.downcast::<hyper::Error>() {
                        Ok(broken) => return Err(Broken::Http(*broken)),
                        Err(_) => InvokeResult::ResponseTooLarge(MAX_ANSWER as u64 + 1),
                    },
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
        let (chunks, channel) = tokio::sync::mpsc::channel(16);
        let passed_on = http_body_util::StreamBody::new(Receive { channel, whole: false }).boxed_unsync();
        let _ = sink.send(StreamReply::Http(Box::new(http::Response::from_parts(parts, passed_on))));
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame?;
            length += frame.data_ref().map_or(0, |data| data.len() as u64);
            let _ = chunks.send(Some(frame)).await;
        }
        let _ = chunks.send(None).await;
        self.keep(sender);
        Ok(InvokeResult::Streamed(length))
    }

    async fn send(
        &self,
        process: &Process,
        request: http::Request<HttpBody>,
    ) -> Result<(SendRequest<HttpBody>, http::Response<hyper::body::Incoming>), Broken> {
        let answer = async {
            let mut sender = self.connection().await?;
            let response = sender.send_request(request).await?;
            Ok((sender, response))
        };
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // What it answered before it ended is its answer still.
            exit = process.child.exited() => {
                tokio::time::timeout(LAST_WORDS, answer).await.unwrap_or(Err(Broken::Gone(exit)))
            }
        }
    }

    async fn connection(&self) -> hyper::Result<SendRequest<HttpBody>> {
        let idle = || self.idle.lock().expect("no panic while held").pop();
        while let Some(mut sender) = idle() {
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        loop {
            // A refused connection means that the program has ended or is about to; `exchange` sees the exit.
            let Ok(stream) = TcpStream::connect(self.address).await else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            let upload = Upload { stream, broken: false };
            let (sender, connection) = http1::handshake(TokioIo::new(upload)).await?;
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
        while TcpStream::connect(self.address).await.is_err() {
            tokio::select! {
                exit = process.child.exited() => return Err(StartFailure::Exited(exit)),
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_millis(20)),
            }
        }
        Ok(())
    }

    async fn exchange(&self, process: &Process, invocation: Invocation, sink: StreamSink) -> InvokeResult {
        match self.request(process, invocation, sink).await {
            Ok(result) => result,
            Err(Broken::Gone(exit)) => InvokeResult::Exited(exit),
            Err(Broken::Http(error)) => self.broken(process, error).await,
        }
    }
}

/// The server's end of a connection. A program may answer before it has read all of a request, and close: what is
/// written after that goes nowhere, and the answer is there to be read all the same. So writing never fails here;
/// whether there is an answer is found by reading.
struct Upload {
    stream: TcpStream,
    /// Nobody reads what is written.
    broken: bool,
}

impl Upload {
    fn outcome(&mut self, written: io::Result<usize>, all: usize) -> io::Result<usize> {
        written.or_else(|_| {
            self.broken = true;
            Ok(all)
        })
    }
}

impl AsyncRead for Upload {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Upload {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.broken {
            return Poll::Ready(Ok(data.len()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, data));
        Poll::Ready(self.outcome(written, data.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = parts.iter().map(|part| part.len()).sum();
        if self.broken {
            return Poll::Ready(Ok(all));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, parts));
        Poll::Ready(self.outcome(written, all))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
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

/// A channel as a stream of frames: `None` ends it. When nothing does, the program broke off, and whoever reads must
/// not take what came for all.
struct Receive {
    channel: tokio::sync::mpsc::Receiver<Option<Frame<Bytes>>>,
    whole: bool,
}

impl futures_core::Stream for Receive {
    type Item = Result<Frame<Bytes>, ports::BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.whole {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.channel.poll_recv(context)) {
            Some(Some(frame)) => Some(Ok(frame)),
            end => {
                self.whole = true;
                end.is_none().then(|| Err("the program broke its answer off".into()))
            }
        })
    }
}
