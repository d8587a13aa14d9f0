//! The Runtime API: the transport of the official runtime clients and of any `bootstrap`.
//!
//! Each instance has an endpoint of its own, so who asks is never in question. Source: AWS Lambda developer
//! guide, "Using the Lambda runtime API" (2018-06-01), and the Extensions API (2020-01-01) as far as a program
//! inside the function needs it to register.

mod connection; // one connection: requests in, answers out
mod wire; //       HTTP/1.1 as runtime clients speak it

use crate::instance::Process;
use bytes::Bytes;
use model::{MiB, RequestId};
use ports::{
    BoxFuture, Completion, Exit, Instance, Invocation, InvokeResult, Payload, StartFailure, StreamSink,
};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// An event on its way to whoever asks for the next one: the head of the HTTP answer, ready to be written.
struct Event {
    head: String,
    body: Bytes,
}

/// The invocation that the function is working on.
struct Current {
    id: RequestId,
    reply: oneshot::Sender<InvokeResult>,
    sink: Option<StreamSink>,
}

/// What the connections of one instance share.
struct Shared {
    /// Filled by `invoke`, emptied by whichever connection asks for the next event.
    events: tokio::sync::Mutex<mpsc::Receiver<Event>>,
    current: Mutex<Option<Current>>,
    /// Resolved by the first request for an event, or by an initialisation error.
    ready: Mutex<Option<oneshot::Sender<Result<(), Bytes>>>>,
    /// The answer to an extension that registers.
    registration: String,
}

impl Shared {
    fn initialised(&self, result: Result<(), Bytes>) -> bool {
        let ready = self.ready.lock().expect("no panic while held").take();
        ready.is_some_and(|ready| ready.send(result).is_ok())
    }

    /// Takes the invocation if it is the one called `id`.
    fn take(&self, id: &str) -> Option<Current> {
        let mut current = self.current.lock().expect("no panic while held");
        match &*current {
            Some(running) if running.id.to_string() == id => current.take(),
            _ => None,
        }
    }
}

/// An endpoint that listens but has no process yet: its address must be known before the process starts.
pub struct Endpoint {
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    ready: oneshot::Receiver<Result<(), Bytes>>,
    address: SocketAddr,
    server: tokio::task::JoinHandle<()>,
}

impl Endpoint {
    /// Listens on a free loopback port.
    pub async fn open(function: &str, version: &str, handler: &str) -> std::io::Result<Endpoint> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (events, receiver) = mpsc::channel(1);
        let (ready_sender, ready) = oneshot::channel();
        let registration = serde_json::json!({
            "functionName": function, "functionVersion": version, "handler": handler,
        });
        let shared = Arc::new(Shared {
            events: tokio::sync::Mutex::new(receiver),
            current: Mutex::new(None),
            ready: Mutex::new(Some(ready_sender)),
            registration: registration.to_string(),
        });
        let server = tokio::spawn(accept(listener, shared.clone()));
        Ok(Endpoint { shared, events, ready, address, server })
    }

    /// `127.0.0.1:port`, for `AWS_LAMBDA_RUNTIME_API`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Waits until the runtime asks for its first event.
    pub async fn init(mut self, process: Process, timeout: Duration) -> Result<RuntimeApi, StartFailure> {
        tokio::select! {
            biased;
            ready = &mut self.ready => match ready {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    process.output.finish();
                    return Err(StartFailure::Init(error));
                }
                Err(_) => return Err(StartFailure::Machine("the runtime endpoint has stopped".into())),
            },
            exit = process.child.exited() => {
                process.output.finish();
                // The error may have been posted just before the end.
                return Err(match self.ready.try_recv() {
                    Ok(Err(error)) => StartFailure::Init(error),
                    _ => StartFailure::Exited(exit),
                });
            }
        }
        process.output.finish();
        Ok(RuntimeApi { endpoint: self, process, timeout })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Connections end with the task that accepts them.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    /// A runtime uses one or two; a library that leaks them is held here.
    const MAX_CONNECTIONS: usize = 64;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                if let Ok((stream, _)) = accepted {
                    let _ = stream.set_nodelay(true);
                    connections.spawn(connection::serve(stream, shared.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// An instance that runs an official runtime client or a `bootstrap` of its own.
pub struct RuntimeApi {
    endpoint: Endpoint,
    process: Process,
    timeout: Duration,
}

impl RuntimeApi {
    async fn run(&self, invocation: Invocation, sink: StreamSink) -> Completion {
        let started = Instant::now();
        self.process.output.begin(Some(invocation.request_id));
        let (reply, answer) = oneshot::channel();
        let current = Current { id: invocation.request_id, reply, sink: Some(sink) };
        *self.endpoint.shared.current.lock().expect("no panic while held") = Some(current);
        if self.endpoint.events.send(event(invocation)).await.is_err() {
            self.process.child.kill();
        }
        let timeout = tokio::time::sleep(self.timeout);
        let result = tokio::select! {
            biased;
            // A client that breaks off in the middle of its answer is ending, or of no use any more.
            result = answer => match result {
                Ok(result) => result,
                Err(_) => InvokeResult::Exited(self.process.last_words().await),
            },
            exit = self.process.child.exited() => InvokeResult::Exited(exit),
            () = timeout => {
                self.process.child.kill();
                InvokeResult::TimedOut
            }
        };
        self.process.complete(result, started)
    }
}

impl Instance for RuntimeApi {
    fn invoke(&self, invocation: Invocation, stream: StreamSink) -> BoxFuture<'_, Completion> {
        Box::pin(self.run(invocation, stream))
    }

    fn memory(&self) -> Option<MiB> {
        self.process.child.memory()
    }

    fn gone(&self) -> BoxFuture<'_, Exit> {
        Box::pin(self.process.child.exited())
    }

    fn stop(&self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(self.process.stop(grace))
    }
}

fn event(invocation: Invocation) -> Event {
    use std::fmt::Write;
    let body = match invocation.payload {
        Payload::Event(event) => event,
        Payload::Http(_) => Bytes::from_static(b"null"), // refused before it gets here
    };
    let mut head = String::with_capacity(512);
    let _ = write!(
        head,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Lambda-Runtime-Aws-Request-Id: {}\r\nLambda-Runtime-Deadline-Ms: {}\r\n\
         Lambda-Runtime-Invoked-Function-Arn: {}\r\nLambda-Runtime-Trace-Id: {}\r\n",
        body.len(),
        invocation.request_id,
        invocation.deadline.as_millis(),
        invocation.invoked_arn,
        header_text(&invocation.trace_id),
    );
    if let Some(context) = &invocation.client_context {
        let _ = write!(head, "Lambda-Runtime-Client-Context: {}\r\n", header_text(context));
    }
    if let Some(identity) = &invocation.cognito_identity {
        let _ = write!(head, "Lambda-Runtime-Cognito-Identity: {}\r\n", header_text(identity));
    }
    head.push_str("\r\n");
    Event { head, body }
}

/// No caller may end the header line early.
fn header_text(text: &str) -> std::borrow::Cow<'_, str> {
    match text.contains(['\r', '\n', '\0']) {
        true => text.replace(['\r', '\n', '\0'], " ").into(),
        false => text.into(),
    }
}
