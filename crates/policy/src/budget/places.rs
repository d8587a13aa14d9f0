//! Places for starts: how many instances are being started at once.
//!
//! A start is mostly computing, and more of them at once than there are cores make each other longer and finish
//! no sooner. A start that waits for something rather than compute gives its place up, and one that computes
//! for long holds up its own pool only.

use super::PoolKey;
use crate::pool::InstanceKey;
use model::Time;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// A start gives its place up when it has been looked at so many times.
const MOST_LOOKS: u32 = 20;

/// The starts under way.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Those that hold a place, by when they are looked at.
    held: VecDeque<Place>,
    /// How many of them others need not wait for.
    long: usize,
    /// How many of them each pool has.
    of_pool: BTreeMap<PoolKey, usize>,
    /// Starts that wait for something.
    waiting: BTreeSet<(PoolKey, InstanceKey)>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    start: (PoolKey, InstanceKey),
    since: Time,
    /// When to see whether it waits for something.
    look: Time,
    is_long: bool,
}

impl Places {
    /// Starts that hold a place.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Starts that a pool may begin now, of `places` that there are. Each one that waits for something makes room
    /// for one more: when all do, there are soon enough under way to keep the processors busy. A pool that holds
    /// no place does not wait for the long starts of others.
    pub(super) fn free(&self, places: usize, pool: PoolKey) -> usize {
        let is_first = !self.of_pool.contains_key(&pool);
        let others = self.held.len() - if is_first { self.long } else { 0 };
        (places + self.waiting.len()).saturating_sub(others)
    }

    /// Whether no pool may begin a start now.
    pub(super) fn are_taken(&self, places: usize) -> bool {
        self.held.len() - self.long >= places + self.waiting.len()
    }

    /// A start begins; it is looked at after `patience`.
    pub(super) fn take(&mut self, now: Time, start: (PoolKey, InstanceKey), patience: Duration) {
        self.held.push_back(Place { start, since: now, look: now + patience, is_long: false });
        *self.of_pool.entry(start.0).or_default() += 1;
    }

    /// A start is over, however it ended; nothing happens when it was before.
    pub(super) fn end(&mut self, start: (PoolKey, InstanceKey)) {
        if let Some(index) = self.held.iter().position(|place| place.start == start)
            && let Some(place) = self.held.remove(index)
        {
            self.give_up(place);
        } else if !self.waiting.is_empty() {
            self.waiting.remove(&start);
        }
    }

    /// When [`look`](Places::look) has something to see.
    pub(super) fn look_at(&self) -> Option<Time> {
        self.held.front().map(|place| place.look)
    }

    /// Looks at the starts that have lasted for long; `spare`: whether the processors had time to spare.
    pub(super) fn look(&mut self, now: Time, spare: bool, patience: Duration) {
        while let Some(place) = self.held.pop_front_if(|place| place.look <= now) {
            if spare {
                self.give_up(place);
                self.waiting.insert(place.start);
            } else if now.since(place.since) >= patience * MOST_LOOKS {
                self.give_up(place);
            } else {
                self.long += usize::from(!place.is_long);
                self.held.push_back(Place { look: now + patience, is_long: true, ..place });
            }
        }
    }

    fn give_up(&mut self, place: Place) {
        self.long -= usize::from(place.is_long);
        let pool = place.start.0;
        if let Some(count) = self.of_pool.get_mut(&pool) {
            *count -= 1;
            if *count == 0 {
                self.of_pool.remove(&pool);
            }
        }
    }
}
