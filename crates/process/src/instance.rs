//! What the three transports share: the process, its lines, and how an invocation on it is concluded.

use crate::child::Child;
use crate::output::Output;
use crate::sessions::{Mark, Straggling};
use model::MiB;
use ports::{Completion, Exit, InvokeResult};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Lambda's limit for a buffered answer: 6 MiB and 100 bytes.
pub const MAX_ANSWER: usize = 6 * 1024 * 1024 + 100;

/// Peak memory is asked of the kernel at most this often; in between an invocation reports the last value.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// How long a process whose transport has closed may take to end by itself, so that its status is known.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A process with its output.
pub struct Process {
    /// The process.
    pub child: Child,
    /// Its lines.
    pub output: Arc<Output>,
    follower: tokio::task::AbortHandle,
    _mark: Option<Mark>,
    /// After `child`, which must be gone first.
    _straggling: Option<Straggling>,
    ending: AtomicBool,
    sampled: Mutex<Option<Instant>>,
}

impl Process {
    /// Begins to follow the process's output.
    pub fn new(
        child: Child,
        output: Arc<Output>,
        mark: Option<Mark>,
        straggling: Option<Straggling>,
    ) -> Process {
        let follower = tokio::spawn(output.clone().follow()).abort_handle();
        Process {
            child,
            output,
            follower,
            _mark: mark,
            _straggling: straggling,
            ending: AtomicBool::new(false),
            sampled: Mutex::new(None),
        }
    }

    /// Concludes an invocation that was handed over at `started`.
    pub fn complete(&self, result: InvokeResult, started: Instant) -> Completion {
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

    /// Ends the process group; lines written up to the end are kept.
    pub async fn stop(&self, grace: Duration) {
        self.child.stop(grace).await;
        self.output.finish();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A grandchild that left the group may hold the pipe open for ever.
        self.follower.abort();
    }
}
