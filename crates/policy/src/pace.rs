//! How fast something is taken from one who would keep its taker busy: some of it at once, the rest at a steady rate.

use model::Time;
use std::time::Duration;

/// An allowance of bytes that grows back.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Bytes that may be taken at once.
    burst: u64,
    /// Bytes a second beyond that; not zero.
    rate: u64,
    /// When all of the allowance is, or will be, there again.
    full_at: Time,
}

impl Pace {
    /// All of `burst` bytes may be taken at once, and later `rate` bytes a second (more than 0).
    pub fn new(burst: u64, rate: u64) -> Pace {
        assert!(rate > 0, "at no rate nothing is ever taken");
        Pace { burst, rate, full_at: Time(0) }
    }

    /// So many bytes were taken: how long to wait before the next are.
    pub fn took(&mut self, now: Time, bytes: u64) -> Duration {
        let nanos = |bytes: u64| bytes.saturating_mul(1_000_000_000 / self.rate.min(1_000_000_000));
        self.full_at = Time(self.full_at.0.max(now.0).saturating_add(nanos(bytes)));
        let until = self.full_at.0.saturating_sub(nanos(self.burst));
        Duration::from_nanos(until.saturating_sub(now.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_does_not_wait_and_what_goes_on_is_taken_at_the_rate() {
        let mut pace = Pace::new(1000, 100);
        assert_eq!(pace.took(Time(SECOND), 1000), Duration::ZERO);
        assert_eq!(pace.took(Time(SECOND), 50), Duration::from_millis(500));
        assert_eq!(pace.took(Time(SECOND + SECOND / 2), 100), Duration::from_secs(1));
    }

    #[test]
    fn the_allowance_grows_back_to_the_burst_and_no_further() {
        let mut pace = Pace::new(1000, 100);
        pace.took(Time(0), 1000);
        assert_eq!(pace.took(Time(5 * SECOND), 500), Duration::ZERO);
        assert_eq!(pace.took(Time(5 * SECOND), 1), Duration::from_millis(10));
        assert_eq!(pace.took(Time(900 * SECOND), 1001), Duration::from_millis(10));
    }
}
