//! Has the kernel choose anew who runs, some thousand times a second and on each processor, while it is on.
//!
//! Whoever wakes takes the processor from one that stands back, in general. But when the kernel finds that the latter is
//! owed something, be it a microsecond, it lets it go on and looks again only at its next tick: after up to 4 ms (`CONFIG_HZ=250`).
//! It looks as well whenever any thread has run and sleeps again, so here one on each processor does nothing but that. When it
//! meets somebody at work who has just had more than is due, the look itself lets the one that is owed something go on; so
//! it looks again soon after, when that is paid. It costs some hundredths of a processor, and is on only while
//! somebody has to be kept from others.

use crate::kernel;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// From each look to the one that makes up for it.
const AGAIN: Duration = Duration::from_micros(50);

/// The threads' pause between two looks, in microseconds, if it is on; at zero they end.
#[derive(Default)]
pub struct Beat(Option<Arc<AtomicU64>>);

impl Beat {
    /// Has it look with this pause, or turns it off. Where threads cannot be made, it stays off.
    pub fn turn(&mut self, pause: Option<Duration>) {
        let micros = pause.map_or(0, |pause| u64::try_from(pause.as_micros()).unwrap_or(u64::MAX).max(1));
        match (&self.0, micros) {
            (None, 0) => {}
            (None, _) => {
                let pause = Arc::new(AtomicU64::new(micros));
                for processor in kernel::processors() {
                    let pause = pause.clone();
                    let thread = std::thread::Builder::new().name("beat".into());
                    let _ = thread.spawn(move || beat(processor, &pause));
                }
                self.0 = Some(pause);
            }
            (Some(pause), _) => {
                pause.store(micros, Ordering::Relaxed);
                if micros == 0 {
                    self.0 = None;
                }
            }
        }
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.turn(None);
    }
}

fn beat(processor: usize, pause: &AtomicU64) {
    kernel::come_before_all();
    if kernel::stay_on(processor).is_err() {
        return;
    }
    loop {
        match pause.load(Ordering::Relaxed) {
            0 => return,
            micros => std::thread::sleep(Duration::from_micros(micros)),
        }
        std::thread::sleep(AGAIN);
    }
}
