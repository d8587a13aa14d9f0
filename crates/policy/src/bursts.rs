//! How many of something are kept ready ahead of need.
//!
//! Of each kind as many wait as were lately started in a burst, so that the next burst of that size finds them
//! ready; at least one while the kind is in use at all, and none when it is not.

use model::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// How it is reckoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BurstsConfig {
    /// At most this many wait (default 4). Zero: none, ever.
    pub most: usize,
    /// Starts within this time count as one burst (default 10 s).
    pub burst: Duration,
    /// A kind that was not started for this long is not in use (default 10 minutes).
    pub keep: Duration,
}

impl Default for BurstsConfig {
    fn default() -> BurstsConfig {
        BurstsConfig { most: 4, burst: Duration::from_secs(10), keep: Duration::from_secs(600) }
    }
}

/// The starts of one kind, as far as they matter.
#[derive(Clone, Debug)]
pub struct Bursts {
    config: BurstsConfig,
    /// The last ones, oldest first; never more than `most`, at least one.
    starts: VecDeque<Time>,
}

impl Bursts {
    /// Not in use yet.
    pub fn new(config: BurstsConfig) -> Bursts {
        Bursts { config, starts: VecDeque::new() }
    }

    /// One was wanted, whether or not there was one.
    pub fn started(&mut self, now: Time) {
        if self.starts.len() >= self.config.most.max(1) {
            self.starts.pop_front();
        }
        self.starts.push_back(now);
    }

    /// How many should wait.
    pub fn wanted(&self, now: Time) -> usize {
        let Some(&last) = self.starts.back() else { return 0 };
        if now.since(last) >= self.config.keep {
            return 0;
        }
        // The burst is the last one, however long ago: its like may come again.
        let burst = self.starts.iter().filter(|&&start| last.since(start) < self.config.burst).count();
        burst.min(self.config.most)
    }

    /// When one was last wanted.
    pub fn last(&self) -> Option<Time> {
        self.starts.back().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000_000)
    }

    /// How many are wanted at `now` after starts at these seconds.
    fn check(starts: &[u64], now: u64) -> usize {
        let mut stock = Bursts::new(BurstsConfig::default());
        starts.iter().for_each(|&start| stock.started(at(start)));
        stock.wanted(at(now))
    }

    #[test]
    fn nothing_waits_for_what_was_never_started() {
        assert_eq!(check(&[], 5), 0);
    }

    #[test]
    fn one_waits_while_its_kind_is_in_use() {
        assert_eq!(check(&[0], 0), 1);
        assert_eq!(check(&[0, 100, 200], 799), 1);
        assert_eq!(check(&[0, 100, 200], 800), 0);
    }

    #[test]
    fn as_many_wait_as_the_last_burst_started_up_to_the_limit() {
        assert_eq!(check(&[100, 101, 102], 300), 3);
        assert_eq!(check(&[0, 0, 0, 100], 101), 1);
        assert_eq!(check(&[100; 50], 101), 4);
    }

    #[test]
    fn a_limit_of_zero_is_kept() {
        let mut stock = Bursts::new(BurstsConfig { most: 0, ..BurstsConfig::default() });
        (0..10).for_each(|_| stock.started(at(1)));
        assert_eq!(stock.wanted(at(1)), 0);
    }
}
