//! One connection of a runtime client: requests in, answers out.

use super::wire::{Head, Piece, Wire};
use super::{Current, Shared};
use crate::chunks::Chunks;
use crate::instance::MAX_ANSWER;
use bytes::Bytes;
use ports::InvokeResult;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;

const RUNTIME: &str = "/2018-06-01/runtime/";

/// Serves until the peer closes or breaks the protocol.
pub async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut connection = Connection { wire: Wire::new(stream), shared };
    while let Ok(Some(head)) = connection.wire.head().await {
        if connection.answer(&head).await.is_err() || head.close {
            return;
        }
    }
}

struct Connection {
    wire: Wire,
    shared: Arc<Shared>,
}

impl Connection {
    async fn answer(&mut self, head: &Head) -> io::Result<()> {
        let path = head.path.split('?').next().unwrap_or_default();
        let route = path.strip_prefix(RUNTIME).unwrap_or("");
        match (head.method.as_str(), route) {
            ("GET", "invocation/next") => {
                self.body().await?;
                self.next().await
            }
            // Where SnapStart takes a snapshot, after which this is answered in every copy. Nothing is copied here: what
            // was initialised goes on at once. Source: AWS Lambda developer guide, "Using the Lambda runtime API".
            ("GET", "restore/next") => {
                self.body().await?;
                self.wire.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"").await
            }
            ("POST", "init/error" | "restore/error") => {
                let error = self.body().await?;
                match self.shared.initialised(Err(error)) {
                    true => self.accepted().await,
                    false => self.refuse(403, "InvalidStateTransition", "initialisation is over").await,
                }
            }
            ("POST", _) if route.starts_with("invocation/") => self.outcome(head, route).await,
            _ => self.extension(head, path).await,
        }
    }

    /// Waits for an event. Whoever closes the connection meanwhile must not take one with it.
    async fn next(&mut self) -> io::Result<()> {
        self.shared.initialised(Ok(()));
        let shared = self.shared.clone();
        let event = tokio::select! {
            biased;
            () = self.wire.interrupted() => return Err(io::ErrorKind::ConnectionAborted.into()),
            event = async { shared.events.lock().await.recv().await } => event,
        };
        match event {
            Some(event) => self.wire.write(&event.head, &event.body).await,
            None => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    async fn outcome(&mut self, head: &Head, route: &str) -> io::Result<()> {
        let mut parts = route.split('/').skip(1);
        let (id, kind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if !matches!(kind, "response" | "error") {
            self.body().await?;
            return self.refuse(404, "InvalidPath", "no such operation of the Runtime API").await;
        }
        let Some(current) = self.shared.take(id) else {
            self.body().await?;
            return self.refuse(400, "InvalidRequestID", "Invalid request ID").await;
        };
        match kind {
            "error" => {
                let error = self.body().await?;
                let _ = current.reply.send(InvokeResult::Error(error));
                self.accepted().await
            }
            _ if head.streaming => self.relay(head, current).await,
            _ => self.response(current).await,
        }
    }

    async fn response(&mut self, current: Current) -> io::Result<()> {
        match self.wire.whole(MAX_ANSWER).await? {
            Ok((answer, trailers)) => {
                // Clients that always answer in chunks report an error in the middle by trailers.
                let result = match stream_error(&trailers) {
                    Some(error) => InvokeResult::Error(error),
                    None => InvokeResult::Answer(answer),
                };
                let _ = current.reply.send(result);
                self.accepted().await
            }
            Err(length) => {
                let _ = current.reply.send(InvokeResult::ResponseTooLarge(length));
                let message = format!("Exceeded maximum allowed payload size ({MAX_ANSWER} bytes).");
                self.refuse(413, "RequestEntityTooLarge", &message).await
            }
        }
    }

    /// Passes a response stream on as it comes. A reader that has gone loses it; the function runs to its end.
    async fn relay(&mut self, head: &Head, current: Current) -> io::Result<()> {
        let content_type = head.content_type.clone().unwrap_or_else(|| "application/octet-stream".into());
        let chunks = Chunks::open(current.sink, content_type);
        let mut length = 0;
        let result = loop {
            self.wire.hurry();
            match self.wire.piece().await? {
                Piece::Data(data) => {
                    length += data.len() as u64;
                    chunks.send(data).await;
                }
                Piece::End(trailers) => match stream_error(&trailers) {
                    Some(error) => {
                        chunks.fail(error);
                        break InvokeResult::StreamError;
                    }
                    None => {
                        chunks.end();
                        break InvokeResult::Streamed(length);
                    }
                },
            }
        };
        let _ = current.reply.send(result);
        self.accepted().await
    }

    /// Enough of the Extensions API for programs inside the function that insist on registering.
    async fn extension(&mut self, head: &Head, path: &str) -> io::Result<()> {
        self.body().await?;
        match (head.method.as_str(), path) {
            ("POST", "/2020-01-01/extension/register") => {
                let body = self.shared.registration.clone();
                let id = "Lambda-Extension-Identifier: 00000000-0000-4000-8000-000000000001\r\n";
                self.reply("200 OK", id, &body).await
            }
            ("GET", "/2020-01-01/extension/event/next") => {
                self.wire.interrupted().await;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            ("PUT", "/2020-08-15/logs") => {
                self.refuse(202, "Logs.NotSupported", "Logs API is not supported").await
            }
            ("PUT", "/2022-07-01/telemetry") => {
                self.refuse(202, "Telemetry.NotSupported", "Telemetry API is not supported").await
            }
            _ => self.refuse(404, "InvalidPath", "no such operation of the Runtime API").await,
        }
    }

    async fn body(&mut self) -> io::Result<Bytes> {
        Ok(self.wire.whole(MAX_ANSWER).await?.map(|(body, _)| body).unwrap_or_default())
    }

    async fn accepted(&mut self) -> io::Result<()> {
        self.wire
            .write(
                "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n",
                b"{\"status\":\"OK\"}\n",
            )
            .await
    }

    async fn refuse(&mut self, status: u16, kind: &str, message: &str) -> io::Result<()> {
        let reason = match status {
            202 => "Accepted",
            400 => "Bad Request",
            403 => "Forbidden",
            413 => "Payload Too Large",
            _ => "Not Found",
        };
        let body = serde_json::json!({ "errorMessage": message, "errorType": kind }).to_string();
        self.reply(&format!("{status} {reason}"), "", &body).await
    }

    async fn reply(&mut self, status: &str, headers: &str, body: &str) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.wire.write(&head, body.as_bytes()).await
    }
}

/// The error that trailers carry: Lambda's JSON, in base64 (`Lambda-Runtime-Function-Error-Body`).
fn stream_error(trailers: &[(String, String)]) -> Option<Bytes> {
    use base64::Engine;
    let named = |name: &str| trailers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let kind = named("lambda-runtime-function-error-type");
    let body = named("lambda-runtime-function-error-body");
    match body.and_then(|body| base64::engine::general_purpose::STANDARD.decode(body).ok()) {
        Some(json) => Some(json.into()),
        None => {
            kind.map(|kind| serde_json::json!({ "errorType": kind, "errorMessage": "" }).to_string().into())
        }
    }
}
