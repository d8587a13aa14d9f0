//! When something may be made ahead of need: not while a start is under way that somebody waits for, nor in the moments
//! after one, in which its first event is answered. What is made ahead takes milliseconds of a processor and locks in
//! the kernel that starts need as well; whoever waits now comes first.
//!
//! But not for ever: where one start follows the other, what is wished for is made all the same after a while, for it is
//! the next starts that want it.

use model::Time;
use std::time::Duration;

/// How long a lull is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LullConfig {
    /// It begins so long after the last start (default 5 ms).
    pub calm: Duration,
    /// Nothing waits longer for one than this (default 300 ms).
    pub patience: Duration,
}

impl Default for LullConfig {
    fn default() -> LullConfig {
        LullConfig { calm: Duration::from_millis(5), patience: Duration::from_millis(300) }
    }
}

/// The starts of one server that are under way.
#[derive(Clone, Debug, Default)]
pub struct Lull {
    config: LullConfig,
    under_way: usize,
    /// When the last one ended.
    ended: Option<Time>,
}

impl Lull {
    /// Nothing is under way.
    pub fn new(config: LullConfig) -> Lull {
        Lull { config, under_way: 0, ended: None }
    }

    /// A start has begun.
    pub fn began(&mut self) {
        self.under_way += 1;
    }

    /// One that had begun has ended, well or badly.
    pub fn ended(&mut self, now: Time) {
        self.under_way = self.under_way.saturating_sub(1);
        self.ended = Some(now);
    }

    /// When to ask again, with something that is wished for since `since`; `None`: it is to be made now.
    pub fn wait(&self, now: Time, since: Time) -> Option<Time> {
        let calm = match (self.under_way, self.ended) {
            (0, None) => return None,
            (0, Some(ended)) => ended + self.config.calm,
            _ => now + self.config.calm,
        };
        let until = calm.min(since + self.config.patience);
        (until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    /// After starts that began and ended at these milliseconds, when is to be asked again at `now`?
    fn check(starts: &[(u64, Option<u64>)], now: u64, since: u64) -> Option<Time> {
        let mut lull = Lull::new(LullConfig::default());
        for (_, ended) in starts {
            lull.began();
            ended.iter().for_each(|&ended| lull.ended(at(ended)));
        }
        lull.wait(at(now), at(since))
    }

    #[test]
    fn where_nothing_starts_nothing_waits() {
        assert_eq!(check(&[], 7, 7), None);
        assert_eq!(check(&[(0, Some(10))], 15, 2), None);
    }

    #[test]
    fn while_a_start_is_under_way_and_shortly_after_it_is_waited() {
        assert_eq!(check(&[(0, None)], 3, 2), Some(at(8)));
        assert_eq!(check(&[(0, Some(10))], 11, 2), Some(at(15)));
        assert_eq!(check(&[(0, Some(10)), (5, None)], 400, 390), Some(at(405)));
    }

    #[test]
    fn starts_without_end_are_not_waited_for_without_end() {
        assert_eq!(check(&[(0, None)], 299, 1), Some(at(301)));
        assert_eq!(check(&[(0, None)], 301, 1), None);
    }
}
