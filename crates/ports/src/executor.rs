//! `Executor` makes instances of a function; `Instance` runs invocations, one or many at once.
//!
//! One lifecycle for every kind (process, HTTP program, Wasm): `start` creates and initialises; `invoke` any
//! number of times, never more at once than the spec's concurrency; `stop` ends it and everything it made. Between two
//! invocations it may be frozen and thawed.
//! The caller decides *when*; an executor only knows *how*.

use crate::{BoxFuture, LogSink};
use bytes::Bytes;
use model::{Contract, MadeAhead, MiB, Network, RequestId, Timestamp, Version};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Why an instance is started, as functions are told (`AWS_LAMBDA_INITIALIZATION_TYPE`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Initialization {
    /// For a request, or ahead of one that is expected.
    #[default]
    OnDemand,
    /// To be there whether requests come or not.
    Provisioned,
    /// Once, when a version is published, so that what makes later starts faster is made then.
    SnapStart,
}

impl Initialization {
    /// Lambda's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Initialization::OnDemand => "on-demand",
            Initialization::Provisioned => "provisioned-concurrency",
            Initialization::SnapStart => "snap-start",
        }
    }
}

/// Everything an executor needs to know to make instances of one function version.
#[derive(Clone)]
pub struct InstanceSpec {
    /// `arn:aws:lambda:…:function:<name>`, unqualified.
    pub function_arn: String,
    /// Function name.
    pub function: String,
    /// The version this is an instance of.
    pub version: Version,
    /// Lambda's runtime identifier, or `http`.
    pub runtime: String,
    /// What the runtime calls.
    pub handler: String,
    /// How the instance is spoken to.
    pub contract: Contract,
    /// The user's variables. The executor adds the reserved ones.
    pub environment: std::collections::BTreeMap<String, String>,
    /// What it reaches over the network; `None`: what the executor was set up with.
    pub network: Option<Network>,
    /// Unpacked deployment package, to be seen at `/var/task`, read-only.
    pub code_dir: PathBuf,
    /// Unpacked layers in order, to be seen merged at `/opt`.
    pub layer_dirs: Vec<PathBuf>,
    /// Configured memory.
    pub memory: MiB,
    /// Size of `/tmp`.
    pub ephemeral_storage: MiB,
    /// How long one invocation may take.
    pub timeout: Duration,
    /// How long initialisation may take.
    pub init_timeout: Duration,
    /// How many invocations one instance runs at once, at least 1.
    pub concurrency: u32,
    /// AWS region for `AWS_REGION`.
    pub region: String,
    /// Log group for `AWS_LAMBDA_LOG_GROUP_NAME`.
    pub log_group: String,
    /// `Text` or `JSON`, for `AWS_LAMBDA_LOG_FORMAT`.
    pub log_format: String,
    /// For `AWS_LAMBDA_LOG_LEVEL`, when the format is JSON.
    pub log_level: Option<String>,
    /// Why it is started.
    pub initialization: Initialization,
}

/// What one invocation carries to an instance.
pub struct Invocation {
    /// Its id.
    pub request_id: RequestId,
    /// The ARN that the caller used, with its qualifier if it had one.
    pub invoked_arn: Arc<str>,
    /// When the function's time is up.
    pub deadline: Timestamp,
    /// The event.
    pub payload: Payload,
    /// `X-Amzn-Trace-Id`, made by the server when the caller sent none.
    pub trace_id: String,
    /// Lambda's client context, as JSON text (already decoded from base64).
    pub client_context: Option<String>,
    /// Lambda's Cognito identity, as JSON text.
    pub cognito_identity: Option<String>,
}

/// The event itself.
pub enum Payload {
    /// A JSON document (for the HTTP contract: POSTed to `/`).
    Event(Bytes),
    /// An HTTP request, passed through; HTTP contract only.
    Http(Box<http::Request<HttpBody>>),
}

/// A body that is streamed, in either direction.
pub type HttpBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

/// Any error of a body that is streamed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An answer whose first bytes are there before the invocation is over.
///
/// The sender side is handed to [`Instance::invoke`]; an executor that streams sends the head once.
pub type StreamSink = oneshot::Sender<StreamReply>;

/// The head of a streamed answer and where its bytes come from.
pub enum StreamReply {
    /// A Lambda response stream: the content type the runtime declared, then chunks. A prelude (JSON head and
    /// eight NUL bytes) is still part of the chunks when the content type is
    /// `application/vnd.awslambda.http-integration-response`.
    Chunks {
        /// `Content-Type` that the runtime sent.
        content_type: String,
        /// Chunks, then the end; an `Err` is the function's error in the middle of the stream (its JSON).
        chunks: mpsc::Receiver<Result<Bytes, Bytes>>,
    },
    /// An HTTP program's answer.
    Http(Box<http::Response<HttpBody>>),
}

/// How an invocation ended, with its answer when that is not a stream.
#[derive(Debug)]
pub struct Completion {
    /// What the caller is told.
    pub result: InvokeResult,
    /// From hand-over to the instance until the last byte of the answer.
    pub duration: Duration,
    /// Whether the instance can take another invocation. When false the executor has already ended it, or
    /// `stop` must be called; either way the pool forgets it.
    pub reusable: bool,
    /// The most memory the instance has used, as far as is known (sampled, not on every invocation).
    pub max_memory: Option<MiB>,
}

/// What became of one invocation.
#[derive(Debug)]
pub enum InvokeResult {
    /// The answer, whole.
    Answer(Bytes),
    /// The answer was streamed through the [`StreamSink`]; its length in bytes.
    Streamed(u64),
    /// The function or its runtime reported an error: Lambda's JSON
    /// (`{"errorMessage":…,"errorType":…,"stackTrace":…}`).
    Error(Bytes),
    /// The stream had begun when the function failed; the caller already has the error.
    StreamError,
    /// The timeout passed; the instance has been killed.
    TimedOut,
    /// The instance ended during the invocation.
    Exited(Exit),
    /// The answer is larger than Lambda allows: its size in bytes. The instance is intact.
    ResponseTooLarge(u64),
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// Killed because it used more memory than it may.
    OutOfMemory,
    /// Unknown: it was no longer there to be asked.
    Unknown,
}

impl std::fmt::Display for Exit {
    /// Lambda's words: `exit status 1`, `signal: killed`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Status(code) => write!(f, "exit status {code}"),
            Exit::Signal(9) | Exit::OutOfMemory => f.write_str("signal: killed"),
            Exit::Signal(11) => f.write_str("signal: segmentation fault"),
            Exit::Signal(6) => f.write_str("signal: aborted"),
            Exit::Signal(15) => f.write_str("signal: terminated"),
            Exit::Signal(n) => write!(f, "signal: {n}"),
            Exit::Unknown => f.write_str("exit status unknown"),
        }
    }
}

/// Why an instance could not be made ready. Nothing of it is left.
#[derive(Clone, Debug)]
pub enum StartFailure {
    /// The runtime or the function's own initialisation reported an error (Lambda's JSON).
    Init(Bytes),
    /// Initialisation took longer than the spec allows.
    TimedOut,
    /// The process ended before it was ready.
    Exited(Exit),
    /// The machine has no room for another instance at this moment: what ran out and the remedy. It passes.
    Full(String),
    /// The machine could not do it: what happened and the remedy. The function is not to blame.
    Machine(String),
}

/// A start that failed.
#[derive(Clone, Debug)]
pub struct Unready {
    /// Why.
    pub failure: StartFailure,
    /// The most memory that was used before it failed, as far as is known.
    pub max_memory: Option<MiB>,
    /// What the time until then went into; it failed in the last of those that are there.
    pub phases: Phases,
}

impl From<StartFailure> for Unready {
    /// Before anything of the function ran.
    fn from(failure: StartFailure) -> Unready {
        Unready { failure, max_memory: None, phases: Phases::default() }
    }
}

/// An instance that is ready for its first invocation.
pub struct Started {
    /// The instance.
    pub instance: Arc<dyn Instance>,
    /// How long what took.
    pub phases: Phases,
}

/// How long a start took, by its parts, as far as they can be told apart; what they mean is said at [`model::ColdStart`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// From the beginning until the program was started in its sandbox.
    pub sandbox: Duration,
    /// … until the runtime was about to load the function; `None` where that is not known, or was not reached.
    pub runtime: Option<Duration>,
    /// … until it was ready; `None` where a start failed before.
    pub init: Option<Duration>,
    /// What had been made ahead of need and was used.
    pub used: Option<MadeAhead>,
}

impl Phases {
    /// How long the start took.
    pub fn whole(&self) -> Duration {
        self.sandbox + self.runtime.unwrap_or_default() + self.init.unwrap_or_default()
    }
}

/// Makes instances.
pub trait Executor: Send + Sync + 'static {
    /// Creates and initialises an instance; resolves when it is ready for an invocation.
    ///
    /// `stream` names the instance's log stream; its lines go to `logs`, all that it wrote by then before this
    /// resolves. Dropping the future abandons the
    /// start and leaves nothing behind.
    fn start(
        &self,
        spec: Arc<InstanceSpec>,
        stream: Arc<str>,
        logs: Arc<dyn LogSink>,
    ) -> BoxFuture<'_, Result<Started, Unready>>;

    /// Whether this machine can run `runtime` and, when its unpacked `package` is given, that package: `Err`
    /// says what is missing and how to get it. It may start programs and read files: some 100 ms.
    fn check(&self, runtime: &str, package: Option<&Path>) -> Result<(), String>;

    /// Memory that the executor keeps in use for starts to come: the caller counts it as it counts instances.
    fn kept(&self) -> MiB {
        MiB(0)
    }

    /// Memory is short: gives up something of what [`Executor::kept`] counts, if there is anything.
    fn give_up(&self) {}

    /// Whether [`Instance::page_out`] can do anything on this machine.
    fn pages_out(&self) -> bool {
        false
    }

    /// The most file descriptors of the server that an instance of `spec` can hold at once, from the beginning
    /// of its start to its end.
    fn descriptors(&self, _spec: &InstanceSpec) -> u32 {
        0
    }
}

/// A running instance.
pub trait Instance: Send + Sync {
    /// Runs one invocation to its end: answer, error, timeout or loss of the instance. It always resolves.
    ///
    /// All lines that the function wrote before its answer have been given to the log sink by then. Never
    /// called more often at once than the spec's concurrency.
    fn invoke(&self, invocation: Invocation, stream: StreamSink) -> BoxFuture<'_, Completion>;

    /// Lets nothing in the instance run from now on (a moment later at the latest), until [`Instance::thaw`]. Never called
    /// while it runs an invocation, nor at once with `thaw`. It takes microseconds and waits for nothing.
    ///
    /// # Errors
    /// `Unsupported` where instances cannot be frozen: it runs on, and may be thawed all the same. Others when it is gone.
    fn freeze(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Lets a frozen instance run again; nothing when it is not frozen. It takes microseconds and waits for nothing: what
    /// is sent to the instance next, it finds.
    ///
    /// # Errors
    /// It is gone, or of no use any more.
    fn thaw(&self) -> io::Result<()> {
        Ok(())
    }

    /// Pushes the memory of a frozen instance out, to swap, as far as that goes; the instance gets it back as it needs it,
    /// also if it is thawed meanwhile. Takes milliseconds or more.
    fn page_out(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Memory in use now, for the machine's budget; `None` when the instance is gone.
    fn memory(&self) -> Option<MiB>;

    /// Resolves when the instance is gone, whoever ended it. May be awaited by one caller at a time.
    fn gone(&self) -> BoxFuture<'_, Exit>;

    /// Ends the instance and everything it started: told to finish first, killed after `grace`. Frozen ones are thawed for
    /// that.
    fn stop(&self, grace: Duration) -> BoxFuture<'_, ()>;
}
