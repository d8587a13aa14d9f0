//! Where an instance's lines go. The sink never blocks: it buffers within a limit and counts what it drops.

use bytes::Bytes;
use model::{RequestId, Timestamp};
use std::sync::Arc;

/// One line (or one framed record) that a function wrote.
#[derive(Clone, Debug)]
pub struct LogEvent {
    /// When it was read.
    pub at: Timestamp,
    /// The instance's log stream.
    pub stream: Arc<str>,
    /// The invocation that was running, when exactly one was; `None` during initialisation and between
    /// invocations.
    pub request_id: Option<RequestId>,
    /// Without the line end; any bytes, at most [`MAX_MESSAGE`].
    pub message: Bytes,
}

/// The longest message of an event, in bytes; a longer line is cut into several. Source: CloudWatch Logs quotas,
/// event size.
pub const MAX_MESSAGE: usize = 256 * 1024;

/// Takes lines. Implementations must be quick and never wait.
pub trait LogSink: Send + Sync {
    /// Takes one event.
    fn write(&self, event: LogEvent);
}
