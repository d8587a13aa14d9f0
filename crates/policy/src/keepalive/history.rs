//! The idle times of one function: a histogram over the range, and the last few beyond it.

use super::BINS;
use model::Time;
use std::time::Duration;

/// What an observation weighs when it is made. A power of two, so that it can be halved a few times.
const ONE: u32 = 256;

/// After this long an observation counts for half. (The paper keeps two weeks, with weights that are left open.)
const HALF_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Idle times beyond the range that are remembered.
const FAR: usize = 8;

/// The idle times that were seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Weight of each bin, up to the last one that has any.
    bins: Vec<u32>,
    /// Their sum.
    inside: u64,
    /// Weight of those beyond the range.
    outside: u64,
    /// The last ones beyond the range in bins, oldest first; zero: none.
    far: [u32; FAR],
    /// When all weights are halved next.
    halve_at: Time,
}

impl History {
    /// Nothing seen yet.
    pub fn new(now: Time) -> History {
        History { bins: Vec::new(), inside: 0, outside: 0, far: [0; FAR], halve_at: now + HALF_LIFE }
    }

    /// Adds an idle time of so many whole bins. Whether older ones have become lighter.
    pub fn add(&mut self, now: Time, bin: usize) -> bool {
        let aged = self.age(now);
        if bin >= BINS {
            self.outside += u64::from(ONE);
            self.far.rotate_left(1);
            self.far[FAR - 1] = u32::try_from(bin).unwrap_or(u32::MAX);
            return aged;
        }
        if bin >= self.bins.len() {
            self.bins.reserve_exact(bin + 1 - self.bins.len());
            self.bins.resize(bin + 1, 0);
        }
        // Sixteen million in one bin: from then on the older half weighs less.
        let is_full = self.bins[bin] > u32::MAX - ONE;
        if is_full {
            self.halve();
        }
        self.bins[bin] += ONE;
        self.inside += u64::from(ONE);
        aged || is_full
    }

    /// Halves the weights once for each half-life that has passed; whether any had.
    pub(super) fn age(&mut self, now: Time) -> bool {
        let aged = self.halve_at <= now;
        while self.halve_at <= now {
            self.halve();
            let is_empty = self.inside + self.outside == 0;
            self.halve_at = if is_empty { now } else { self.halve_at } + HALF_LIFE;
        }
        aged
    }

    fn halve(&mut self) {
        self.bins.iter_mut().for_each(|weight| *weight /= 2);
        let used = self.bins.iter().rposition(|&weight| weight > 0).map_or(0, |last| last + 1);
        self.bins.truncate(used);
        self.inside = self.bins.iter().map(|&weight| u64::from(weight)).sum();
        self.outside /= 2;
        if self.outside == 0 {
            self.far = [0; FAR];
        }
    }

    /// Adds what was seen before. Both are of the same bin width.
    pub(super) fn merge(&mut self, now: Time, mut older: History) {
        self.age(now);
        older.age(now);
        self.bins.resize(self.bins.len().max(older.bins.len()), 0);
        for (weight, &more) in self.bins.iter_mut().zip(&older.bins) {
            *weight = weight.saturating_add(more);
        }
        self.inside = self.bins.iter().map(|&weight| u64::from(weight)).sum();
        self.outside += older.outside;
        let known = older.far.into_iter().chain(self.far).filter(|&bin| bin > 0).collect::<Vec<_>>();
        let last = &known[known.len().saturating_sub(FAR)..];
        self.far = [0; FAR];
        self.far[FAR - last.len()..].copy_from_slice(last);
    }

    /// The same on another clock, on which it is `to` when it is `from` on this one.
    pub fn moved(mut self, from: Time, to: Time) -> History {
        self.age(from);
        self.halve_at = to + self.halve_at.since(from);
        self
    }

    /// Observations, each with the weight that it has now.
    pub fn observations(&self) -> u64 {
        (self.inside + self.outside) / u64::from(ONE)
    }

    /// Of each bin how many observations it has, up to the last one that has any.
    pub(super) fn bins(&self) -> impl Iterator<Item = f64> {
        self.bins.iter().map(|&weight| f64::from(weight) / f64::from(ONE))
    }

    /// Observations within the range.
    pub(super) fn inside(&self) -> f64 {
        self.inside as f64 / f64::from(ONE)
    }

    /// Observations beyond the range.
    pub(super) fn outside(&self) -> f64 {
        self.outside as f64 / f64::from(ONE)
    }

    /// The last ones beyond the range, in bins, oldest first.
    pub(super) fn far(&self) -> impl Iterator<Item = u32> {
        self.far.into_iter().filter(|&bin| bin > 0)
    }
}

#[cfg(test)]
impl History {
    /// Memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<History>() + size_of_val(&self.bins[..]).max(4 * self.bins.capacity())
    }
}
