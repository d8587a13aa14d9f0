//! A running mean of durations that follows change: an exponentially weighted moving average.

use std::time::Duration;

/// Weight of a new sample is 1/8: about the last twenty samples matter.
const WEIGHT: i64 = 8;

/// A mean of durations, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Estimate {
    mean_ns: u64,
    samples: u32,
}

impl Estimate {
    /// Takes one more sample into account.
    pub(crate) fn add(&mut self, sample: Duration) {
        let sample = u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX).min(i64::MAX as u64);
        self.mean_ns = match self.samples {
            0 => sample,
            _ => self.mean_ns.saturating_add_signed((sample as i64 - self.mean_ns as i64) / WEIGHT),
        };
        self.samples = self.samples.saturating_add(1);
    }

    /// The mean in nanoseconds, at least 1, once there are `enough` samples.
    pub(crate) fn after(self, enough: u32) -> Option<u64> {
        (self.samples >= enough).then_some(self.mean_ns.max(1))
    }
}
