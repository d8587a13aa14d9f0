//! A running instance, and the order of what makes it stand still and go on.
//!
//! A pool commands to freeze an instance under its lock, and a moment later, elsewhere, that is done. By then the pool may
//! have given the instance a request: what must not happen is that it is frozen after it was thawed for that.

use bytes::Bytes;
use model::{ColdStart, MiB};
use policy::pool::InstanceKey;
use ports::Instance;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An instance and what is told about it.
pub struct Running {
    /// Its name in the pool.
    pub key: InstanceKey,
    /// Itself.
    pub instance: Arc<dyn Instance>,
    /// Its log stream.
    pub stream: Arc<str>,
    /// How long its start took.
    pub init: Duration,
    /// … and what it consisted of, with what came before.
    pub cold_start: ColdStart,
    /// The end of what it wrote while it started, for its first invocation: at most 4 KiB.
    pub log_end: Mutex<Bytes>,
    /// Cleared by its first invocation.
    pub fresh: AtomicBool,
    pub(super) hold: Hold,
}

/// Whether an instance is to stand still.
#[derive(Default)]
pub(super) struct Hold {
    /// Set under the pool's lock, when the pool says so; cleared by the request for which it is thawed, or its end.
    frozen: AtomicBool,
    paged_out: AtomicBool,
    /// Held while the instance is frozen or thawed.
    turn: Mutex<()>,
}

impl Running {
    /// It is to be frozen, by a call of [`Running::freeze`] that follows.
    pub(super) fn is_to_freeze(&self) {
        self.hold.frozen.store(true, Ordering::Relaxed);
    }

    /// Freezes it, unless it has been wanted since. Takes some 50 µs.
    pub(super) fn freeze(&self) {
        let _turn = self.hold.turn.lock().expect("no panic while held");
        if !self.hold.frozen.load(Ordering::Relaxed) {
            return;
        }
        match self.instance.freeze() {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => {
                tracing::debug!(%error, "an instance could not be frozen");
            }
            _ => {}
        }
    }

    /// Lets it go on, if it does not; whether its memory had been pushed out.
    ///
    /// # Errors
    /// It is of no use any more.
    pub(super) fn thaw(&self) -> io::Result<bool> {
        // The warm path ends here.
        if !self.hold.frozen.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let _turn = self.hold.turn.lock().expect("no panic while held");
        self.hold.frozen.store(false, Ordering::Relaxed);
        self.instance.thaw()?;
        Ok(self.hold.paged_out.swap(false, Ordering::Relaxed))
    }

    /// Pushes its memory out, if it is still frozen; what is left of it.
    pub(super) async fn page_out(&self) -> Option<MiB> {
        if !self.hold.frozen.load(Ordering::Relaxed) {
            return None;
        }
        self.instance.page_out().await;
        let _turn = self.hold.turn.lock().expect("no panic while held");
        let is_frozen = self.hold.frozen.load(Ordering::Relaxed);
        self.hold.paged_out.store(is_frozen, Ordering::Relaxed);
        self.instance.memory().filter(|_| is_frozen)
    }

    /// Whether its memory was pushed out and is not needed yet.
    pub(super) fn is_paged_out(&self) -> bool {
        self.hold.paged_out.load(Ordering::Relaxed)
    }
}
