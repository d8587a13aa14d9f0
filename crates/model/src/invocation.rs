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

/// What a cold start consisted of: each of its moments is in exactly one phase. Microseconds. One that failed has the
/// phases that it reached; the last of them is the one it failed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColdStart {
    /// From when an instance was wanted until it was begun: it waited for memory, descriptors and a turn.
    pub queue_us: u64,
    /// Unpacking the function's package, when that had to be done for this start.
    pub code_us: u64,
    /// From there until its program was started in a sandbox of its own, or a runtime that waited had become it.
    pub sandbox_us: u64,
    /// From there until the runtime was about to load the function. Absent where that moment is not known (official
    /// runtime clients, programs of the function's own), it is then part of `init_us`, and where a start failed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_us: Option<u64>,
    /// From there until it was ready: loading the function, and its own initialisation. Absent where a start failed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_us: Option<u64>,
    /// What had been made ahead of need and was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<MadeAhead>,
}

/// What was made ahead of need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MadeAhead {
    /// A booted runtime that waited for a function.
    Runtime,
    /// A runtime that had booted once, and was forked for this start.
    Fork,
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
    /// … and what the start consisted of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_start: Option<ColdStart>,
    /// Configured memory.
    pub memory: MiB,
    /// The most memory that the instance has used so far, sampled.
    pub max_memory: MiB,
}
