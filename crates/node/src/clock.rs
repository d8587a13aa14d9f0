//! The server's two clocks: one for decisions, one for people.

use model::{Time, Timestamp};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Counts from the server's start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { began: Instant::now() }
    }
}

impl Clock {
    /// Now, for decisions.
    pub fn now(&self) -> Time {
        Time::from_nanos(self.began.elapsed().as_nanos() as u64)
    }

    /// The same point for timers.
    pub fn instant(&self, at: Time) -> tokio::time::Instant {
        (self.began + std::time::Duration::from_nanos(at.as_nanos())).into()
    }

    /// Now, for people.
    pub fn timestamp() -> Timestamp {
        Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
    }
}
