//! The Runtime API: the transport of the official runtime clients and of any `bootstrap`.
//!
//! Each instance has an endpoint of its own, so who asks is never in question. Source: AWS Lambda developer
//! guide, "Using the Lambda runtime API" (2018-06-01), and the Extensions API (2020-01-01) as far as a program
//! inside the function needs it to register.

mod connection; // one connection: requests in, answers out
mod wire; //       HTTP/1.1 as runtime clients speak it

use crate::instance::{Process, Transport};
use crate::network::{self, Outside, Permit, Visitor};
use bytes::Bytes;
use model::RequestId;
use ports::{InstanceSpec, Invocation, InvokeResult, Payload, StartFailure, StreamSink};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
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
    sink: StreamSink,
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

/// An endpoint. Its address is known before its process starts.
pub struct RuntimeApi {
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    ready: oneshot::Receiver<Result<(), Bytes>>,
    address: SocketAddr,
    /// Whom its connections beyond its own are charged to.
    visitor: Visitor,
    server: JoinSet<()>,
}

impl RuntimeApi {
    /// Listens on a free loopback port of the machine.
    async fn open(spec: &InstanceSpec, visitor: Visitor) -> std::io::Result<RuntimeApi> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let mut api = RuntimeApi::at(spec, listener.local_addr()?, visitor);
        api.serve(listener);
        Ok(api)
    }

    /// Where [`RuntimeApi::serve`] will be told to listen.
    fn at(spec: &InstanceSpec, address: SocketAddr, visitor: Visitor) -> RuntimeApi {
        let (events, receiver) = mpsc::channel(1);
        let (ready_sender, ready) = oneshot::channel();
        let registration = serde_json::json!({
            "functionName": spec.function, "functionVersion": spec.version.to_string(), "handler": spec.handler,
        });
        let shared = Arc::new(Shared {
            events: tokio::sync::Mutex::new(receiver),
            current: Mutex::new(None),
            ready: Mutex::new(Some(ready_sender)),
            registration: registration.to_string(),
        });
        RuntimeApi { shared, events, ready, address, visitor, server: JoinSet::new() }
    }

    /// Serves whoever connects there.
    fn serve(&mut self, listener: TcpListener) {
        self.server.spawn(accept(listener, self.shared.clone(), self.visitor.clone()));
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For an instance of `spec`: in its own network, if it has one, or on the machine.
    pub async fn of(
        spec: &InstanceSpec,
        outside: &Outside,
        own_network: bool,
    ) -> std::io::Result<RuntimeApi> {
        match own_network {
            true => Ok(RuntimeApi::at(spec, outside.inside(network::RUNTIME_API), outside.visitor())),
            false => RuntimeApi::open(spec, outside.visitor()).await,
        }
    }

    /// Listens in the process's own network, if it has one.
    pub fn serve_in(&mut self, process: &Process) -> std::io::Result<()> {
        match process.child.runtime_api() {
            Some(listener) => listener.map(|listener| self.serve(listener)),
            None => Ok(()),
        }
    }

    /// The variable by which the runtime finds it.
    pub fn contact(&self) -> (&'static str, String) {
        ("AWS_LAMBDA_RUNTIME_API", self.address.to_string())
    }
}

impl Transport for RuntimeApi {
    /// Waits until the runtime asks for its first event.
    async fn ready(&mut self, process: &Process) -> Result<(), StartFailure> {
        tokio::select! {
            biased;
            ready = &mut self.ready => match ready {
                Ok(ready) => ready.map_err(StartFailure::Init),
                Err(_) => Err(StartFailure::Machine("the runtime endpoint has stopped".into())),
            },
            // The error may have been posted just before the end.
            exit = process.child.exited() => Err(match self.ready.try_recv() {
                Ok(Err(error)) => StartFailure::Init(error),
                _ => StartFailure::Exited(exit),
            }),
        }
    }

    async fn exchange(&self, process: &Process, invocation: Invocation, sink: StreamSink) -> InvokeResult {
        let (reply, answer) = oneshot::channel();
        let current = Current { id: invocation.request_id, reply, sink };
        *self.shared.current.lock().expect("no panic while held") = Some(current);
        if self.events.send(event(invocation)).await.is_err() {
            process.child.kill();
        }
        tokio::select! {
            biased;
            result = answer => match result {
                Ok(result) => result,
                // A client that breaks off in the middle of its answer is ending, or of no use any more.
                Err(_) => InvokeResult::Exited(process.last_words().await),
            },
            exit = process.child.exited() => InvokeResult::Exited(exit),
        }
    }
}

/// Connections that each instance may always have: a runtime uses one, some use another for errors.
pub const OWN_CONNECTIONS: u32 = 2;
/// The most that one may have: ten extensions, Lambda's limit, and a library that is careless with them. Those beyond its
/// own count as connections to elsewhere, of which each instance leaves most to the others.
const MAX_CONNECTIONS: usize = 16;

/// Connections end with the task that accepts them.
async fn accept(listener: TcpListener, shared: Arc<Shared>, visitor: Visitor) {
    let mut connections = JoinSet::new();
    loop {
        let next = next(&listener, connections.len(), &visitor);
        tokio::select! {
            (stream, permit) = next, if connections.len() < MAX_CONNECTIONS => {
                let shared = shared.clone();
                connections.spawn(async move {
                    connection::serve(stream, shared).await;
                    drop(permit);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The next connection of an instance that has `open` already.
async fn next(listener: &TcpListener, open: usize, visitor: &Visitor) -> (TcpStream, Option<Permit>) {
    let permit = match open < OWN_CONNECTIONS as usize {
        true => None,
        false => Some(visitor.permit().await),
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                return (stream, permit);
            }
            // Out of descriptors, or the client left already: either way it passes.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
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
