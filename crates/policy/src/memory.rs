//! When an instance has more memory than its function may have.
//!
//! What lies in `/tmp` is memory too, and the kernel counts it with the rest, so its own limit is that of both together.
//! An alarm of the kernel's tells when they reach the limit of memory alone; from then on it is looked at what is what,
//! as often as the room that is left could be filled, until both are below the limit again.

use std::time::Duration;

/// So much more than its limit an instance may have: what the kernel keeps for its processes and network, and counts
/// in strides. Bytes.
pub const TOLERANCE: u64 = 8 << 20;

/// As fast as a program can fill memory, in bytes a second.
const FASTEST: u64 = 2 << 30;
/// Looking takes a part of a millisecond.
const SOONEST: Duration = Duration::from_millis(5);
/// A program that rests may begin at any time; what it can fill until then is bounded by the kernel's limit.
const LATEST: Duration = Duration::from_secs(1);

/// What was seen of an instance, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What the alarm compares with the limit.
    pub counted: u64,
    /// What is neither in `/tmp` nor could be dropped, such as files that were read.
    pub own: u64,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The alarm tells when to look again.
    Rest,
    /// The alarm would tell nothing; look again after this time.
    LookAgain(Duration),
    /// It is to be ended.
    TooMuch,
}

/// One instance's memory, looked at from time to time.
#[derive(Clone, Debug)]
pub struct MemoryWatch {
    limit: u64,
    last: Option<Seen>,
    pause: Duration,
}

impl MemoryWatch {
    /// Of an instance that may have `limit` bytes.
    pub fn new(limit: u64) -> MemoryWatch {
        MemoryWatch { limit, last: None, pause: SOONEST }
    }

    /// What follows from what was seen.
    pub fn saw(&mut self, seen: Seen) -> Verdict {
        let most = self.limit.saturating_add(TOLERANCE);
        if seen.own > most {
            return Verdict::TooMuch;
        }
        if seen.counted < self.limit {
            self.last = None;
            return Verdict::Rest;
        }
        let to_fill = Duration::from_micros((most - seen.own) * 1_000_000 / FASTEST);
        // Nothing has moved: it rests, or waits.
        let rests = self.last.replace(seen) == Some(seen);
        self.pause = if rests { self.pause * 2 } else { to_fill }.clamp(SOONEST, LATEST);
        Verdict::LookAgain(self.pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// The verdicts about a function of 128 MiB, of which this was seen in turn: counted and own, in MiB.
    fn check(seen: &[(u64, u64)]) -> Vec<Verdict> {
        let mut watch = MemoryWatch::new(128 * MIB);
        seen.iter()
            .map(|&(counted, own)| watch.saw(Seen { counted: counted * MIB, own: own * MIB }))
            .collect()
    }

    fn again(micros: u64) -> Verdict {
        Verdict::LookAgain(Duration::from_micros(micros))
    }

    #[test]
    fn below_the_limit_the_alarm_is_waited_for() {
        assert_eq!(check(&[(127, 127), (90, 20)]), [Verdict::Rest, Verdict::Rest]);
    }

    #[test]
    fn more_than_the_limit_and_the_tolerance_is_too_much() {
        assert_eq!(check(&[(140, 136), (140, 137)]), [again(5_000), Verdict::TooMuch]);
    }

    #[test]
    fn what_is_in_tmp_is_never_too_much() {
        assert_eq!(check(&[(640, 8)]), [again(62_500)]);
    }

    #[test]
    fn the_less_room_is_left_the_sooner_it_is_looked_again() {
        assert_eq!(check(&[(400, 72), (400, 104), (400, 135)]), [again(31_250), again(15_625), again(5_000)]);
    }

    #[test]
    fn one_that_rests_is_looked_at_ever_less_often_until_it_moves() {
        let rests = vec![(400, 104); 9];
        let last = check(&rests)[8];
        assert_eq!(last, Verdict::LookAgain(LATEST));
        let moved = check(&[rests, vec![(401, 104)]].concat())[9];
        assert_eq!(moved, again(15_625));
    }
}
