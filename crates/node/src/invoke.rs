//! From an admitted request to its one outcome.

use bytes::Bytes;
use model::{RequestId, Version};
use ports::{Payload, StreamReply};

/// A request to run a function.
pub struct InvokeRequest {
    /// The invocation's id.
    pub request_id: RequestId,
    /// The event.
    pub payload: Payload,
    /// The qualifier that the caller used, for `invoked_function_arn`.
    pub qualifier: Option<String>,
    /// `X-Amzn-Trace-Id`, if the caller sent one.
    pub trace_id: Option<String>,
    /// Lambda's client context as JSON text.
    pub client_context: Option<String>,
    /// Whether the caller wants the last 4 KiB of the log (`LogType=Tail`).
    pub tail: bool,
}

/// What the caller gets.
pub struct Invoked {
    /// The answer.
    pub reply: Reply,
    /// The version that ran, for `X-Amz-Executed-Version`.
    pub executed_version: Version,
    /// The last 4 KiB of the invocation's log, when it was asked for.
    pub log_tail: Option<Bytes>,
}

/// The answer of an invocation that reached an instance.
pub enum Reply {
    /// The function's answer, whole.
    Answer(Bytes),
    /// The function's answer as it is written.
    Stream(StreamReply),
    /// `X-Amz-Function-Error: Unhandled` and Lambda's error JSON.
    FunctionError(Bytes),
}

/// Why an invocation never reached an instance: nothing ran, nothing is metered.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A concurrency or memory limit: `TooManyRequestsException` with this reason.
    #[error("throttled: {0:?}")]
    Throttled(Throttle),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The machine could not make an instance: what happened and the remedy.
    #[error("{0}")]
    Machine(String),
}

/// Which limit was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Throttle {
    /// `ReservedFunctionConcurrentInvocationLimitExceeded`.
    ReservedConcurrency,
    /// `ConcurrentInvocationLimitExceeded`.
    AccountConcurrency,
    /// The machine's memory budget: waited as long as the queue allows, or the queue was full. Lambda has no
    /// such reason; the API answers `ConcurrentInvocationLimitExceeded` and says so in the message.
    Memory,
}
