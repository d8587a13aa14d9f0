//! Has the kernel choose anew who runs, twice in a millisecond and on each processor, while it is on.
//!
//! Whoever wakes takes the processor from one that stands back, in general. But when the kernel finds that the latter is
//! owed something, be it a microsecond, it lets it go on and looks again only at its next tick: after up to 4 ms (`CONFIG_HZ=250`).
//! It looks as well whenever any thread has run and sleeps again, so here one on each processor does nothing but that.
//! It costs some thousandths of a processor, so it is on only while somebody has to be kept from others.

use crate::kernel;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const EVERY: Duration = Duration::from_micros(500);

/// The threads, if it is on; they end with this.
#[derive(Default)]
pub struct Beat(Option<Arc<AtomicBool>>);

impl Beat {
    /// Turns it on or off. Where threads cannot be made, it stays off.
    pub fn turn(&mut self, on: bool) {
        match (&self.0, on) {
            (None, true) => {
                let goes_on = Arc::new(AtomicBool::new(true));
                for processor in kernel::processors() {
                    let goes_on = goes_on.clone();
                    let thread = std::thread::Builder::new().name("beat".into());
                    let _ = thread.spawn(move || beat(processor, &goes_on));
                }
                self.0 = Some(goes_on);
            }
            (Some(goes_on), false) => {
                goes_on.store(false, Ordering::Relaxed);
                self.0 = None;
            }
            _ => {}
        }
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.turn(false);
    }
}

fn beat(processor: usize, goes_on: &AtomicBool) {
    kernel::come_before_all();
    if kernel::stay_on(processor).is_err() {
        return;
    }
    while goes_on.load(Ordering::Relaxed) {
        std::thread::sleep(EVERY);
    }
}
