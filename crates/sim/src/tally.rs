//! What a policy comes to over all functions of a trace, in memory that does not grow with the invocations.

use crate::replay::{Outcome, Profile};
use std::time::Duration;

/// Totals and distributions of one policy.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Sums over all functions.
    pub total: Outcome,
    /// Memory time of instances that ran nothing, GB-seconds (1 GB is 1,024 MiB, as Lambda bills).
    pub idle_gb_s: f64,
    /// Memory time of instances that ran something, GB-seconds.
    pub busy_gb_s: f64,
    /// Functions with invocations.
    pub functions: u64,
    /// How many functions have a share of cold starts of so many thousandths (rounded up).
    cold_shares: Shares,
    /// From arrival to end, of each request.
    pub latency: Latencies,
    /// The part of it before it ran: for a start, or for an instance.
    pub wait: Latencies,
}

/// A count for each thousandth.
#[derive(Clone, Debug)]
struct Shares(Vec<u64>);

impl Default for Shares {
    fn default() -> Shares {
        Shares(vec![0; 1_001])
    }
}

impl Tally {
    /// Adds a function.
    pub fn add(&mut self, profile: &Profile, outcome: &Outcome) {
        if outcome.invocations == 0 {
            return;
        }
        self.functions += 1;
        self.cold_shares.0[(outcome.cold * 1_000).div_ceil(outcome.invocations) as usize] += 1;
        let gb = profile.memory_mib / 1_024.0;
        self.idle_gb_s += outcome.idle_s * gb;
        self.busy_gb_s += outcome.busy_s * gb;
        let total = &mut self.total;
        total.invocations += outcome.invocations;
        total.cold += outcome.cold;
        total.idle_s += outcome.idle_s;
        total.busy_s += outcome.busy_s;
        total.starts += outcome.starts;
        total.ahead += outcome.ahead;
        total.ahead_used += outcome.ahead_used;
        total.refused += outcome.refused;
    }

    /// A request has begun to run after this wait, and runs for so long.
    pub fn began(&mut self, wait: Duration, takes: Duration) {
        self.wait.add(wait);
        self.latency.add(wait + takes);
    }

    /// The share of cold starts (0 to 1) that this share of the functions does not exceed: the measure of the paper is the
    /// 75th percentile.
    pub fn cold_share(&self, share: f64) -> f64 {
        let wanted = (self.functions as f64 * share).ceil().max(1.0) as u64;
        let mut sum = 0;
        let found = self.cold_shares.0.iter().position(|count| {
            sum += count;
            sum >= wanted
        });
        found.unwrap_or(0) as f64 / 1_000.0
    }
}

/// A policy's cold starts in relation to those of a fixed timeout that costs the same idle memory: below 1 is better. `fixed`:
/// at least two fixed timeouts, the shortest first; between them cold starts are taken to fall along a straight line on
/// logarithmic scales, and beyond them too.
pub fn relative(fixed: &[Tally], tally: &Tally) -> f64 {
    let logs = |tally: &Tally| (tally.idle_gb_s.ln(), (tally.total.cold as f64).max(0.5).ln());
    let (idle, cold) = logs(tally);
    let above = (1..fixed.len() - 1).find(|&above| logs(&fixed[above]).0 >= idle).unwrap_or(fixed.len() - 1);
    let ((x0, y0), (x1, y1)) = (logs(&fixed[above - 1]), logs(&fixed[above]));
    (cold - (y0 + (y1 - y0) * (idle - x0) / (x1 - x0))).exp()
}

/// Durations in buckets that are 1/32 wide: a percentile is right to 3 %.
#[derive(Clone, Debug)]
pub struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    /// Those below 1 µs.
    none: u64,
}

/// Buckets for each doubling.
const FINE: u64 = 32;

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies { buckets: vec![0; 64 * FINE as usize], count: 0, none: 0 }
    }
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.count += 1;
        if us == 0 {
            self.none += 1;
            return;
        }
        let power = u64::from(us.ilog2());
        // The five bits after the first.
        let fine = if power >= 5 { (us >> (power - 5)) - FINE } else { (us << (5 - power)) - FINE };
        self.buckets[(power * FINE + fine) as usize] += 1;
    }

    /// The one that this share (0 to 1) does not exceed: the upper end of its bucket. Zero when there are none.
    pub fn percentile(&self, share: f64) -> Duration {
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut sum = self.none;
        if self.count == 0 || sum >= wanted {
            return Duration::ZERO;
        }
        let found = self.buckets.iter().position(|count| {
            sum += count;
            sum >= wanted
        });
        let Some(bucket) = found else { return Duration::ZERO };
        let (power, fine) = (bucket as u64 / FINE, bucket as u64 % FINE);
        let us = (2f64.powi(power as i32) * (1.0 + (fine + 1) as f64 / FINE as f64)).round();
        Duration::from_micros(us as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_right_to_three_in_a_hundred() {
        let mut latencies = Latencies::default();
        (1..=10_000u64).for_each(|us| latencies.add(Duration::from_micros(us)));
        for share in [0.01, 0.5, 0.75, 0.99, 1.0] {
            let (exact, found) = (share * 10_000.0, latencies.percentile(share).as_micros() as f64);
            assert!(found >= exact && found <= exact * 1.032 + 1.0, "{share}: {found}, really {exact}");
        }
        assert_eq!(Latencies::default().percentile(0.5), Duration::ZERO);
    }

    #[test]
    fn each_function_counts_once_in_the_distribution_of_cold_starts() {
        let profile = Profile { memory_mib: 512.0, start: Duration::ZERO, concurrency: 1 };
        let mut tally = Tally::default();
        for (invocations, cold) in [(1_000, 1), (10, 5), (1, 1), (100, 10), (0, 0)] {
            tally.add(&profile, &Outcome { invocations, cold, idle_s: 2.0, ..Outcome::default() });
        }
        let shares = [0.25, 0.5, 0.75, 1.0].map(|share| tally.cold_share(share));
        assert_eq!((tally.functions, shares), (4, [0.001, 0.1, 0.5, 1.0]));
        assert_eq!(tally.idle_gb_s, 4.0);
    }
}
