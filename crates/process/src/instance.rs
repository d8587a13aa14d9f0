//! What instances of all transports share: the process, its lines, and how an invocation on it ends.

use crate::child::Child;
use crate::output::Output;
use bytes::{Bytes, BytesMut};
use model::MiB;
use ports::{
    BoxFuture, Completion, Exit, Instance, Invocation, InvokeResult, StartFailure, StreamSink, Unready,
};
use std::future::Future;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::task::AbortHandle;

/// Lambda's limit for a buffered answer: 6 MiB and 100 bytes.
pub const MAX_ANSWER: usize = 6 * 1024 * 1024 + 100;

/// Peak memory is asked of the kernel at most this often; in between an invocation reports the last value.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// How long a process whose transport has closed may take to end by itself, so that its status is known.
pub const LAST_WORDS: Duration = Duration::from_millis(500);

/// How a process is spoken to.
pub trait Transport: Send + Sync + 'static {
    /// Waits until the process is ready for its first event. Dropped when time is up.
    fn ready(&mut self, process: &Process) -> impl Future<Output = Result<(), StartFailure>> + Send;

    /// Hands an event over and waits for its outcome, or for the end of the process. Dropped when time is up.
    fn exchange(
        &self,
        process: &Process,
        invocation: Invocation,
        sink: StreamSink,
    ) -> impl Future<Output = InvokeResult> + Send;

    /// Begins to take the lines that come over the transport between two invocations, where lines come over it.
    fn listen(&self, _output: &Arc<Output>) -> Option<AbortHandle> {
        None
    }

    /// Takes those that are there now.
    fn hear_rest(&self, _output: &Output) {}
}

/// Writes all parts, with one system call as long as the socket takes them: an answer in two would wait for the
/// reader's acknowledgement in between.
pub async fn write_together(
    stream: &mut (impl AsyncWrite + Unpin),
    mut parts: &mut [IoSlice<'_>],
) -> io::Result<()> {
    while parts.iter().any(|part| !part.is_empty()) {
        match stream.write_vectored(parts).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => IoSlice::advance_slices(&mut parts, n),
        }
    }
    Ok(())
}

/// Takes `length` bytes off what was read. The room that something large took is not kept for what comes next: the instance
/// may be idle for long, and there may be a thousand of them.
pub fn take(buffer: &mut BytesMut, length: usize) -> Bytes {
    const KEPT: usize = 64 << 10;
    let taken = buffer.split_to(length).freeze();
    if length > KEPT && buffer.len() <= KEPT {
        *buffer = BytesMut::from(&buffer[..]);
    }
    taken
}

/// A process that is ready, and what it is spoken to over.
pub struct Running<T> {
    process: Process,
    transport: T,
    timeout: Duration,
    listener: Option<AbortHandle>,
}

impl<T: Transport> Running<T> {
    /// Waits until the process is ready, no longer than `until`. An invocation may take `timeout`.
    pub async fn init(
        process: Process,
        mut transport: T,
        timeout: Duration,
        until: tokio::time::Instant,
    ) -> Result<Running<T>, Unready> {
        let ready = tokio::time::timeout_at(until, transport.ready(&process)).await;
        process.output.finish();
        match ready.unwrap_or(Err(StartFailure::TimedOut)) {
            Ok(()) => {
                let listener = transport.listen(&process.output);
                Ok(Running { process, transport, timeout, listener })
            }
            Err(failure) => Err(Unready { max_memory: Some(process.child.peak()), ..failure.into() }),
        }
    }

    async fn run(&self, invocation: Invocation, sink: StreamSink) -> Completion {
        let started = Instant::now();
        let _busy = self.process.child.group().busy();
        self.process.output.begin(Some(invocation.request_id));
        let exchange = self.transport.exchange(&self.process, invocation, sink);
        let result = tokio::time::timeout(self.timeout, exchange).await.unwrap_or_else(|_| {
            // Once it is killed there is nobody to ask.
            self.process.child.peak();
            self.process.child.kill();
            InvokeResult::TimedOut
        });
        self.process.complete(result, started)
    }
}

impl<T: Transport> Instance for Running<T> {
    fn invoke(&self, invocation: Invocation, stream: StreamSink) -> BoxFuture<'_, Completion> {
        Box::pin(self.run(invocation, stream))
    }

    fn freeze(&self) -> io::Result<()> {
        self.process.child.freeze()
    }

    fn thaw(&self) -> io::Result<()> {
        self.process.child.thaw()
    }

    fn page_out(&self) -> BoxFuture<'_, ()> {
        let page_out = self.process.child.group().page_out();
        Box::pin(async move { drop(tokio::task::spawn_blocking(page_out).await) })
    }

    fn memory(&self) -> Option<MiB> {
        self.process.child.memory()
    }

    fn gone(&self) -> BoxFuture<'_, Exit> {
        Box::pin(self.process.child.exited())
    }

    fn stop(&self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.process.child.stop(grace).await;
            // Lines written up to the end are kept.
            self.transport.hear_rest(&self.process.output);
            self.process.output.finish();
        })
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

/// What is done with what a function says that it imported.
pub type Learner = Box<dyn FnOnce(&[u8]) + Send>;

/// A process with its output.
pub struct Process {
    /// The process.
    pub child: Child,
    /// Its lines.
    pub output: Arc<Output>,
    /// Takes what the function imported, when its bootstrap says so.
    learner: Mutex<Option<Learner>>,
    follower: AbortHandle,
    ending: AtomicBool,
    sampled: Mutex<Option<Instant>>,
    /// When its runtime was about to load the function.
    loading: Arc<OnceLock<Instant>>,
}

impl Process {
    /// Begins to follow the process's output.
    pub fn new(child: Child, output: Arc<Output>) -> Process {
        let follower = tokio::spawn(output.clone().follow()).abort_handle();
        let (learner, ending, sampled) = (Mutex::default(), AtomicBool::new(false), Mutex::new(None));
        let loading = Arc::default();
        Process { child, output, learner, follower, ending, sampled, loading }
    }

    /// Has `learner` told, once, what the function imported.
    pub fn tell_imports(&self, learner: Option<Learner>) {
        *self.learner.lock().expect("no panic while held") = learner;
    }

    /// The runtime has booted and loads the function from here on.
    pub fn loads(&self) {
        let _ = self.loading.set(Instant::now());
    }

    /// When that was; still empty if it was not yet.
    pub fn loading(&self) -> Arc<OnceLock<Instant>> {
        self.loading.clone()
    }

    /// The bootstrap has said what the function imported.
    pub fn imported(&self, imports: &[u8]) {
        let learner = self.learner.lock().expect("no panic while held").take();
        if let Some(learner) = learner {
            learner(imports);
        }
    }

    /// Concludes an invocation that was handed over at `started`.
    fn complete(&self, result: InvokeResult, started: Instant) -> Completion {
        let duration = started.elapsed();
        let over = matches!(result, InvokeResult::TimedOut | InvokeResult::Exited(_));
        let reusable = !over && !self.ending.load(Ordering::Relaxed);
        self.output.finish();
        self.output.begin(None);
        Completion { result, duration, reusable, max_memory: Some(self.peak()) }
    }

    /// The process has said that it is about to end: no further invocation.
    pub fn ending(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    fn peak(&self) -> MiB {
        let mut sampled = self.sampled.lock().expect("no panic while held");
        match *sampled {
            Some(at) if at.elapsed() < SAMPLE_EVERY => self.child.last_peak(),
            _ => {
                *sampled = Some(Instant::now());
                self.child.peak()
            }
        }
    }

    /// The transport has closed: the process is ending, or it is of no use any more.
    pub async fn last_words(&self) -> Exit {
        match tokio::time::timeout(LAST_WORDS, self.child.exited()).await {
            Ok(exit) => exit,
            Err(_) => {
                self.child.kill();
                self.child.exited().await
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A grandchild that left the group may hold the pipe open for ever.
        self.follower.abort();
    }
}
