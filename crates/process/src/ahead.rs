//! Sandboxes that are made before anybody needs one: a first process in its namespaces, with a network laid out, that
//! has not been told anything yet. To make a namespace for the network and what is in it takes a millisecond, which
//! no start has to wait for then.
//!
//! How many wait is `policy::bursts`.

use crate::child::Child;
use model::Time;
use policy::bursts::{Bursts, BurstsConfig};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How often it is looked whether sandboxes are still wanted.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a failure it is not tried again for this long.
const PAUSE: Duration = Duration::from_secs(5);

/// The sandboxes of one server that wait. All are in the same kinds of namespaces.
pub struct Ahead {
    began: Instant,
    shelf: Mutex<Shelf>,
    /// Something was taken, or the server stops.
    changed: Condvar,
}

struct Shelf {
    bursts: Bursts,
    /// The kinds that were asked for last: `CLONE_NEW…` flags.
    namespaces: i32,
    ready: Vec<Child>,
    closing: bool,
}

impl Ahead {
    /// None yet. At most `most` will wait, until none was needed for `keep`.
    pub fn new(most: usize, keep: Duration) -> Ahead {
        let bursts = Bursts::new(BurstsConfig { most, keep, ..BurstsConfig::default() });
        let shelf = Shelf { bursts, namespaces: 0, ready: Vec::new(), closing: false };
        Ahead { began: Instant::now(), shelf: Mutex::new(shelf), changed: Condvar::new() }
    }

    /// A sandbox in these namespaces, if one waits; and sees to it that there will be more.
    pub fn take(&self, namespaces: i32) -> Option<Child> {
        let mut shelf = self.lock();
        let mut others = Vec::new();
        if shelf.namespaces != namespaces {
            shelf.namespaces = namespaces;
            others.append(&mut shelf.ready);
        }
        shelf.bursts.started(self.now());
        let taken = loop {
            match shelf.ready.pop() {
                Some(child) if child.try_exit().is_some() => {}
                taken => break taken,
            }
        };
        drop(shelf);
        self.changed.notify_one();
        taken
    }

    /// Makes sandboxes with `make` as they are wanted, until [`Ahead::close`]: a thread's whole work. They end with
    /// the thread.
    pub fn keep_ready<E: std::fmt::Display>(&self, make: impl Fn(i32) -> Result<Child, E>) {
        let mut shelf = self.lock();
        while !shelf.closing {
            let (wanted, namespaces) = (shelf.bursts.wanted(self.now()), shelf.namespaces);
            if shelf.ready.len() >= wanted {
                let spare = shelf.ready.split_off(wanted);
                drop(shelf);
                drop(spare);
                shelf = self.wait();
                continue;
            }
            drop(shelf);
            let made = make(namespaces);
            shelf = match made {
                Ok(child) => {
                    let mut shelf = self.lock();
                    if shelf.namespaces == namespaces {
                        shelf.ready.push(child);
                    }
                    shelf
                }
                Err(error) => {
                    tracing::warn!(%error, "no sandbox could be made ahead of need");
                    let paused = self.changed.wait_timeout_while(self.lock(), PAUSE, |shelf| !shelf.closing);
                    paused.expect("no panic while held").0
                }
            };
        }
        shelf.ready.clear();
    }

    /// Ends [`Ahead::keep_ready`], and what it made.
    pub fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.lock().ready.len()
    }

    /// Until more are wanted, or there may be too many.
    fn wait(&self) -> MutexGuard<'_, Shelf> {
        let waited = self.changed.wait_timeout_while(self.lock(), LOOK_EVERY, |shelf| {
            !shelf.closing && shelf.ready.len() >= shelf.bursts.wanted(self.now())
        });
        waited.expect("no panic while held").0
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().expect("no panic while held")
    }
}
