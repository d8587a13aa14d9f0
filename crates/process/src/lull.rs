//! Moments in which nobody waits for a start, and what is made ahead of need is made. What such a moment is, is decided by
//! `policy::lull`.

use model::Time;
use policy::lull;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The starts of one server that are under way.
pub struct Lull {
    began: Instant,
    state: Mutex<lull::Lull>,
}

/// A start that is under way until this is dropped.
pub struct UnderWay(Arc<Lull>);

impl Lull {
    /// Nothing is under way.
    pub fn new(config: lull::LullConfig) -> Lull {
        Lull { began: Instant::now(), state: Mutex::new(lull::Lull::new(config)) }
    }

    /// A start begins.
    pub fn start(self: &Arc<Lull>) -> UnderWay {
        self.lock().began();
        UnderWay(self.clone())
    }

    /// Waits for a moment to make something.
    pub async fn come(&self) {
        let since = self.now();
        while let Some(pause) = self.pause(since) {
            tokio::time::sleep(pause).await;
        }
    }

    /// As [`Lull::come`], of a thread of its own.
    pub fn block(&self) {
        let since = self.now();
        while let Some(pause) = self.pause(since) {
            std::thread::sleep(pause);
        }
    }

    fn pause(&self, since: Time) -> Option<Duration> {
        let now = self.now();
        self.lock().wait(now, since).map(|until| until.since(now))
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, lull::Lull> {
        self.state.lock().expect("no panic while held")
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let now = self.0.now();
        self.0.lock().ended(now);
    }
}
