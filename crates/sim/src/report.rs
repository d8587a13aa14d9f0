//! What came out of a run.

use model::Time;
use std::hash::Hasher;
use std::time::Duration;

/// Counts and times over a whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Over every event and command in order: equal when, and only when, the runs were.
    pub digest: u64,
    /// Events fed to state machines.
    pub steps: u64,
    /// When the last thing happened.
    pub end: Time,
    /// Requests sent.
    pub requests: u64,
    /// … not admitted: reserved or account concurrency.
    pub throttled: u64,
    /// … finished.
    pub finished: u64,
    /// … of an instance that was lost while it ran them.
    pub crashed: u64,
    /// … whose instance could not be started.
    pub failed: u64,
    /// … refused: queue full, no memory, retired.
    pub refused: u64,
    /// … given up by their callers while they waited.
    pub abandoned: u64,
    /// Instances started.
    pub starts: u64,
    /// … that never ran a request.
    pub unused: u64,
    /// … that were started ahead of a request.
    pub started_ahead: u64,
    /// … and then served one.
    pub used_ahead: u64,
    /// … that were provisioned.
    pub provided: u64,
    /// Requests that ran on a provisioned instance.
    pub on_provided: u64,
    /// Instances frozen, paged out, thawed, and those that could not be thawed.
    pub frozen: u64,
    /// See `frozen`.
    pub paged_out: u64,
    /// See `frozen`.
    pub thawed: u64,
    /// See `frozen`.
    pub thaws_failed: u64,
    /// Instances stopped because the budget needed the memory.
    pub reclaims: u64,
    /// From arrival to dispatch, for each request that was dispatched; sorted.
    pub waits: Vec<Duration>,
    /// From arrival to finish, for each request that finished; sorted.
    pub responses: Vec<Duration>,
    /// Time during which instances ran requests, summed over requests.
    pub busy: Duration,
    /// Billed time, ms.
    pub billed_ms: u64,
    /// Time that instances existed after they were started, summed.
    pub instance_time: Duration,
    /// The most memory charged at once, MiB.
    pub peak_mib: u64,
}

impl Report {
    /// The wait that this share (0 to 1) of the dispatched requests did not exceed; zero when there were none.
    pub fn wait(&self, share: f64) -> Duration {
        quantile(&self.waits, share)
    }

    /// The time from arrival to finish that this share (0 to 1) of the finished requests did not exceed; zero when
    /// there were none.
    pub fn response(&self, share: f64) -> Duration {
        quantile(&self.responses, share)
    }
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((share * last as f64).round() as usize).copied().unwrap_or_default()
}

/// A rule that did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed of the scenario.
    pub seed: u64,
    /// When, in virtual time.
    pub at: Time,
    /// Which rule, and how it was broken.
    pub rule: String,
    /// The last steps, oldest first.
    pub log: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in &self.log {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "at {}: {}", clock(self.at), self.rule)?;
        write!(f, "again: BROOKLET_SIM_SEED={} cargo test -p sim", self.seed)
    }
}

/// A virtual time for people: seconds with microseconds.
pub(crate) fn clock(at: Time) -> String {
    format!("{}.{:06}s", at.0 / 1_000_000_000, at.0 / 1_000 % 1_000_000)
}

/// A hasher that gives the same for the same input in every build (the standard one makes no such promise).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Digest(u64);

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}
