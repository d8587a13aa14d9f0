//! Every minute weighed by itself.
//!
//! Suppose that the idle times of a function were known: it arrives in bin i with probability p(i), and is still idle
//! at its beginning with probability S(i). An instance that is there in bin i saves p(i) cold starts and is idle for
//! S(i) bins. As what is kept in one bin does not depend on another, the best choice for any amount of memory is the
//! same rule with some exchange rate V, the idle time that a cold start is worth: be there in bin i when
//! V · p(i) ≥ S(i), that is, when the hazard p/S is at least 1/V. The paper's single window from head to tail cannot
//! skip the empty time between two peaks, nor give up the last few percent that lie far out.
//!
//! The idle times are not known, so p and S are what is expected after those that were seen: a prior, worth
//! [`STRENGTH`] observations, and the observations, each spread over the bins near it. The prior is the Lomax
//! distribution S(i) = (1 + i/b)^-a: the mixture of functions that are called at random, some often and some hardly
//! ever. Its hazard, a/(i + b), only falls: with nothing seen, an instance is kept from the beginning until the
//! hazard is too low. V is chosen such that this is after `timeout`. So a function of which nothing is known is kept
//! exactly as with the fixed policy, and `timeout` is the one setting of both.

use super::{BINS, History, Window, bins, times};
use std::time::Duration;

/// How many observations the prior counts for.
const STRENGTH: f64 = 1.0;

/// The prior's shape: a.
const SHAPE: f64 = 0.5;

/// The prior's scale in bins: b.
const SCALE: f64 = 1.0;

/// An observation is spread over the bins that are nearer than 1/SPREAD of it: what comes every two hours comes a
/// few minutes early or late.
const SPREAD: usize = 20;

/// Idle times beyond the range that make a forecast.
const ENOUGH_FAR: usize = 3;

/// The bins in which an instance should be there, and a window beyond the range.
pub(super) fn plan(
    history: &History,
    timeout: Duration,
    bin: Duration,
) -> ([u64; BINS.div_ceil(64)], Option<Window>) {
    let mut wanted = [0; BINS.div_ceil(64)];
    // The hazard of the prior at the timeout is 1/worth.
    let worth = ((timeout.as_secs_f64() / bin.as_secs_f64()).max(1.0) + SCALE - 0.5) / SHAPE;
    let seen = spread(history);
    let prior = |bin: usize| STRENGTH * (1.0 + bin as f64 / SCALE).powf(-SHAPE);
    // From the far end: how much is still to come after each bin.
    let mut after = history.outside() + prior(BINS);
    let mut behind = prior(BINS);
    for bin in (0..BINS).rev() {
        let still = prior(bin);
        let here = seen[bin] + (still - behind);
        if worth * here >= after + here / 2.0 {
            wanted[bin / 64] |= 1 << (bin % 64);
        }
        (after, behind) = (after + here, still);
    }
    bridge(&mut wanted);
    (wanted, beyond(history, worth, bin))
}

/// The observations, each spread over the bins near it.
fn spread(history: &History) -> [f64; BINS] {
    let mut seen = [0.0; BINS];
    for (bin, weight) in history.bins().enumerate().filter(|(_, weight)| *weight > 0.0) {
        let width = 1 + bin / SPREAD;
        let share = weight / (width * width) as f64;
        for distance in 0..width {
            let part = share * (width - distance) as f64;
            seen[(bin + distance).min(BINS - 1)] += part;
            if distance > 0 {
                seen[bin - distance] += part;
            }
        }
    }
    seen
}

/// One bin alone between others is kept too: to stop an instance and start one costs more than a bin.
fn bridge(wanted: &mut [u64]) {
    let is_wanted = |wanted: &[u64], bin: usize| wanted[bin / 64] >> (bin % 64) & 1 == 1;
    for bin in 1..BINS - 1 {
        if is_wanted(wanted, bin - 1) && is_wanted(wanted, bin + 1) {
            wanted[bin / 64] |= 1 << (bin % 64);
        }
    }
}

/// From the shortest to the longest of the last idle times beyond the range, a bin more on either side, if the next one
/// is likely enough to fall there to be worth it.
fn beyond(history: &History, worth: f64, bin: Duration) -> Option<Window> {
    let count = history.far().count();
    let (least, most) = (history.far().min()?, history.far().max()?);
    let from = (least as usize).saturating_sub(1).max(BINS);
    let until = (most as usize).saturating_add(2);
    let width = (until - from) as f64;
    // The next of n + 1 exchangeable values lies between the extremes of the others with (n - 1)/(n + 1).
    let hit = (count as f64 - 1.0) / (count as f64 + 1.0);
    let pays = count >= ENOUGH_FAR && worth * hit >= width && bins(times(bin, until), bin) >= until;
    pays.then(|| Window { from: times(bin, from), until: times(bin, until) })
}
