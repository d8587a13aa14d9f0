//! One invocation: its id, how it ended and the record that is metered.

use crate::{MiB, Timestamp, Version};
use serde::{Deserialize, Serialize};

/// The id of an invocation, the same in answers, logs and meter: a UUID in lower case with hyphens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub uuid::Uuid);

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// How an invocation ended; each has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The function answered.
    Success,
    /// The function, or its runtime, reported an error.
    Error,
    /// The function's timeout passed; its instance was stopped.
    Timeout,
    /// The instance ended by itself or was killed during the invocation.
    Crash,
    /// The instance could not be initialised.
    InitError,
}

/// The meter record: written once per invocation that reached an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeterRecord {
    /// The invocation.
    pub request_id: RequestId,
    /// Function name.
    pub function: String,
    /// The version that ran.
    pub version: Version,
    /// The log stream, which is the instance's.
    pub stream: String,
    /// When the instance received the event.
    pub started: Timestamp,
    /// How it ended.
    pub status: Status,
    /// What kind of error ended it, when the platform noticed one: `Runtime.ExitError`, or the type that a failed
    /// initialisation reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    /// From hand-over to the instance until the answer's last byte: microseconds.
    pub duration_us: u64,
    /// What is paid for: `duration` (and `init`, when this invocation waited for it) rounded up to 1 ms.
    pub billed_ms: u64,
    /// Initialisation that this invocation waited for: microseconds; absent on a warm start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_us: Option<u64>,
    /// Configured memory.
    pub memory: MiB,
    /// The most memory that the instance has used so far, sampled.
    pub max_memory: MiB,
}
