//! Readers of entries as they are written (`logs --follow`).

use super::buffer::Batch;
use super::{Entry, Filter};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;
use tokio::sync::Notify;

/// What one follower may have yet to read: bytes. It misses what comes beyond, and is told how many entries.
const MAX_BEHIND: usize = 4 << 20;

/// All followers. There are no more than connections.
#[derive(Default)]
pub struct Followers {
    all: Mutex<Vec<Weak<Following>>>,
}

/// Entries of one function as they are written.
pub struct Follower {
    following: Arc<Following>,
}

/// What a follower gets.
#[derive(Clone, Debug)]
pub enum Followed {
    /// An entry.
    Entry(Arc<Entry>),
    /// It was too slow: so many entries are missing here.
    Missed(u64),
}

struct Following {
    function: String,
    filter: Filter,
    behind: Mutex<Behind>,
    more: Notify,
}

/// What a follower has yet to read.
#[derive(Default)]
struct Behind {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// Entries that are missing after those.
    missed: u64,
    closed: bool,
}

impl Followers {
    /// One more, of this function's entries that the filter wants.
    pub fn add(&self, function: &str, filter: Filter) -> Follower {
        let (behind, more) = (Mutex::default(), Notify::new());
        let following = Arc::new(Following { function: function.to_owned(), filter, behind, more });
        let mut all = self.all.lock().expect("no panic while held");
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&following));
        Follower { following }
    }

    /// Passes on what was written.
    pub fn pass_on(&self, batch: Batch) {
        let followers = self.alive();
        if followers.is_empty() {
            return;
        }
        for (source, entries) in batch {
            let of_source: Vec<_> = followers.iter().filter(|f| *f.function == *source.name).collect();
            if of_source.is_empty() {
                continue;
            }
            for entry in entries.into_iter().map(Arc::new) {
                of_source.iter().filter(|f| f.filter.wants(&entry)).for_each(|f| f.take(&entry));
            }
        }
        followers.iter().for_each(|follower| follower.more.notify_one());
    }

    /// There will be no more entries.
    pub fn close(&self) {
        for follower in self.alive() {
            follower.behind.lock().expect("no panic while held").closed = true;
            follower.more.notify_one();
        }
    }

    fn alive(&self) -> Vec<Arc<Following>> {
        self.all.lock().expect("no panic while held").iter().filter_map(Weak::upgrade).collect()
    }
}

impl Following {
    fn take(&self, entry: &Arc<Entry>) {
        let mut behind = self.behind.lock().expect("no panic while held");
        // After a gap nothing, until the follower has heard of it: what it reads is in order.
        if behind.missed > 0 || behind.bytes + entry.weight() > MAX_BEHIND {
            behind.missed += 1;
        } else {
            behind.bytes += entry.weight();
            behind.entries.push_back(entry.clone());
        }
    }

    fn give(&self) -> Poll<Option<Followed>> {
        let mut behind = self.behind.lock().expect("no panic while held");
        if let Some(entry) = behind.entries.pop_front() {
            behind.bytes -= entry.weight();
            return Poll::Ready(Some(Followed::Entry(entry)));
        }
        if behind.missed > 0 {
            return Poll::Ready(Some(Followed::Missed(std::mem::take(&mut behind.missed))));
        }
        if behind.closed { Poll::Ready(None) } else { Poll::Pending }
    }
}

impl Follower {
    /// The next entry; `None` when the logs have been closed. Can be dropped and called again.
    pub async fn next(&mut self) -> Option<Followed> {
        loop {
            match self.following.give() {
                Poll::Ready(followed) => return followed,
                Poll::Pending => self.following.more.notified().await,
            }
        }
    }
}
