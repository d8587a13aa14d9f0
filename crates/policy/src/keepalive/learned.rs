//! Every minute weighed by itself.
//!
//! Suppose that the idle times of a function were known: a request arrives in bin i with probability p(i), and the function
//! is still idle in it with probability S(i). An instance that is there in bin i saves p(i) cold starts and is idle for S(i) bins.
//! With an exchange rate V, the idle time that a cold start is worth, it pays to be there when V · p(i) ≥ S(i): when the hazard
//! p/S is at least 1/V. To start an instance ahead costs the machine a start, though nobody waits for it: a tenth of V
//! ([`START`]). The plan of least cost is found from the last bin back to the first, for an instance that is there before the
//! bin and for none. The paper's one window from head to tail can neither skip the empty time between two peaks nor give up
//! the last few percent that lie far out.
//!
//! The idle times are not known, so p and S are what is expected after those that were seen: a prior, worth
//! [`STRENGTH`] observations, and the observations, each spread over the bins near it. The prior is the Lomax
//! distribution S(i) = (1 + i/b)^-a: the mixture of functions that are called at random, some often and some hardly
//! ever. Its hazard, a/(i + b), only falls: an instance of which nothing else is known is kept from the beginning until the
//! hazard is too low. V is chosen such that this is after `timeout`. So `timeout` is the one setting of this policy and of the
//! fixed one, and means the same to both: how much memory may be spent to avoid a cold start.
//!
//! What was tried, and what it gave: docs/adr/2026-11-27-learned-keep-alive.md.

use super::{BINS, History, Window, times};
use std::time::Duration;

/// How many observations the prior counts for.
const STRENGTH: f64 = 1.0;

/// The prior's shape: a.
const SHAPE: f64 = 0.5;

/// The prior's scale in bins: b.
const SCALE: f64 = 1.0;

/// What a start that nobody waits for costs, as a share of one that somebody waits for.
const START: f64 = 0.1;

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
    // The hazard of the prior in the middle of the last bin before the timeout is 1/worth.
    let worth = ((timeout.as_secs_f64() / bin.as_secs_f64()).max(1.0) + SCALE - 0.5) / SHAPE;
    (bins(history, worth), beyond(history, worth, bin))
}

fn bins(history: &History, worth: f64) -> [u64; BINS.div_ceil(64)] {
    let seen = spread(history);
    let prior = |bin: usize| STRENGTH * (1.0 + bin as f64 / SCALE).powf(-SHAPE);
    // How much is still to come at the end of the bin, and how much of the prior.
    let (mut still, mut prior_still) = (history.outside() + prior(BINS), prior(BINS));
    // For each bin what is gained from there on by an instance that is there before, and by none: the best of being there in
    // the bin and of not being there.
    let (mut there, mut absent) = (0.0, 0.0);
    let (mut keep, mut start) = ([false; BINS], [false; BINS]);
    for bin in (0..BINS).rev() {
        let here = seen[bin] + (prior(bin) - prior_still);
        let gain = there + worth * here - (still + here / 2.0);
        (still, prior_still) = (still + here, prior(bin));
        let ahead = gain - START * worth * still;
        (keep[bin], start[bin]) = (gain >= absent, ahead >= absent);
        (there, absent) = (gain.max(absent), ahead.max(absent));
    }
    let mut wanted = [0; BINS.div_ceil(64)];
    let mut is_there = true;
    for bin in 0..BINS {
        is_there = if is_there { keep[bin] } else { start[bin] };
        wanted[bin / 64] |= u64::from(is_there) << (bin % 64);
    }
    wanted
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
    let window = Window { from: times(bin, from), until: times(bin, until) };
    (count >= ENOUGH_FAR && worth * (hit - START) >= width).then_some(window)
}
