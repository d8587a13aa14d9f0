//! Accepts connections and speaks HTTP/1.1 on them: every wait and every buffer has a limit.

use crate::app::App;
use crate::eager::Eager;
use crate::service;
use http::{HeaderValue, header};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Sleep;

/// Limits of the server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's queue. As long as some wait, none is kept open for a
    /// client's next request, so that all get their turn.
    pub connections: usize,
    /// How long the head of a request may take, and how long a connection may idle between requests.
    pub head: Duration,
    /// The longest head of a request, in bytes; also what is read at once of a body.
    pub head_bytes: usize,
    /// How long a client may refuse to take any byte of its answer.
    pub stall: Duration,
    /// How long requests in flight may go on after shutdown began.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 8192,
            head: Duration::from_secs(75),
            head_bytes: 64 * 1024,
            stall: Duration::from_secs(60),
            drain: Duration::from_secs(30),
        }
    }
}

/// How long a connection may idle while others wait for its place.
const IDLE_WHEN_FULL: Duration = Duration::from_millis(250);

/// Serves until `shutdown` resolves; then accepts nothing more, lets requests in flight end within
/// [`Limits::drain`], and returns when every connection is closed.
pub async fn serve(listener: TcpListener, app: Arc<App>, limits: Limits, shutdown: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let (closing, _) = watch::channel(());
    let full = watch::Sender::new(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    app.set_ready(true);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &room, &full) => accepted,
        };
        while connections.try_join_next().is_some() {}
        let (stream, peer, permit) = accepted;
        let connection = Connection { peer, app: app.clone(), limits: limits.clone(), _permit: permit };
        connections.spawn(connection.run(stream, closing.subscribe(), full.subscribe()));
    }
    app.set_ready(false);
    drop(listener);
    closing.send_replace(());
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, drained).await.is_err() {
        tracing::warn!(open = connections.len(), "connections are closed with requests in flight");
        connections.shutdown().await;
    }
}

/// The next connection, as soon as there is room for one.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
    full: &watch::Sender<()>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let mut told = false;
    let (stream, peer) = loop {
        match listener.accept().await {
            Ok(accepted) => break accepted,
            Err(error) => {
                // Out of descriptors, or the client left already: either way it passes.
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "connections cannot be accepted; trying again");
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let permit = match room.clone().try_acquire_owned() {
        Ok(permit) => permit,
        Err(_) => {
            tracing::debug!("all connections are in use: new ones wait until one is closed");
            full.send_replace(());
            room.clone().acquire_owned().await.expect("the semaphore is never closed")
        }
    };
    (stream, peer, permit)
}

struct Connection {
    peer: SocketAddr,
    app: Arc<App>,
    limits: Limits,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, mut closing: watch::Receiver<()>, mut full: watch::Receiver<()>) {
        // Answers are written in one piece, but streamed ones chunk by chunk: Nagle would hold those back.
        let _ = stream.set_nodelay(true);
        let io = Patient { io: TokioIo::new(stream), patience: self.limits.stall, stalled: None };
        let (app, peer) = (self.app, self.peer);
        let (begun, others_wait) = (Notify::new(), full.clone());
        let service = service_fn(|request: http::Request<Incoming>| {
            begun.notify_one();
            let (app, others_wait) = (app.clone(), &others_wait);
            async move {
                let mut answer = service::answer(&app, request, peer).await;
                if others_wait.has_changed().unwrap_or(false) {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        // Not at once: a request may be on its way. One that comes meanwhile is told in its answer.
        let leave = async {
            let _ = full.changed().await;
            begun.notified().await;
            tokio::time::sleep(IDLE_WHEN_FULL).await;
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_buf_size(self.limits.head_bytes)
            // A client may close its sending side and still wait for the answer.
            .half_close(true)
            .serve_connection(io, service);
        let connection = pin!(connection);
        let mut connection = Eager::new(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            // Told once; an error means that the server is gone, which is the same.
            _ = closing.changed() => {
                connection.inner().graceful_shutdown();
                connection.await
            }
            () = leave => {
                connection.inner().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection ended early");
        }
    }
}

/// A socket whose writes fail when the client takes nothing for too long.
struct Patient {
    io: TokioIo<TcpStream>,
    patience: Duration,
    /// Runs from the first write that had to wait until one succeeds.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn guard<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Read for Patient {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(context, buffer)
    }
}

impl Write for Patient {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(context, bytes);
        this.guard(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(context, slices);
        this.guard(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}
