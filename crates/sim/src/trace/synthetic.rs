//! Functions made up from the distributions that "Serverless in the Wild" (Shahrad et al., USENIX ATC '20) reports of all
//! functions in Azure.
//!
//! - *Popularity* (figure 5): 45 % of the applications are invoked at most once an hour on average, 81 % at most
//!   once a minute. A log-normal through these two points: log10 of the invocations a day has mean 1.603 and standard
//!   deviation 1.772. Cut at one a second: what comes more often never starts cold, and the tail would be all there is.
//! - *Triggers* (figure 2, share of functions): HTTP 55.0 %, timer 15.6 %, queue 15.2 %, orchestration 6.9 %,
//!   storage 2.8 %, event 2.2 %, others 2.2 %.
//! - *Time between two* (figure 6, coefficient of variation): timers are periodic, with the periods that people write; of the
//!   rest one in ten is as periodic as a sensor, a fifth come at random (CV 1), and for the others, which are burstier, it is
//!   log-normal with a CV between 2 and 10. All but timers follow the day (figure 4): ±40 %.
//! - *Execution time* (figure 7): a function's average is log-normal, with log mean -0.38 and σ 2.36, in seconds; its
//!   invocations vary around that (σ 0.5). At most ten minutes.
//! - *Memory* (figure 8): Burr XII with c 11.652, k 0.221 and λ 107.083, in MiB. At most 4 GiB.

use super::{Assumed, Sink};
use crate::Random;
use crate::replay::{Invocation, Profile};
use model::Time;
use std::time::Duration;

/// What is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synthetic {
    /// How many functions.
    pub functions: u32,
    /// For how long.
    pub hours: u32,
    /// Where all chance comes from.
    pub seed: u64,
    /// What it differs in from what was published.
    pub shape: Shape,
}

/// What a made-up trace differs in from what was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// In nothing.
    Paper,
    /// Two functions in three are timers.
    Timers,
    /// Everything comes at random.
    Random,
    /// Everything comes in bursts.
    Bursty,
    /// Everything comes a tenth as often.
    Rare,
    /// Halfway through, every function becomes another one.
    Changing,
}

/// Periods that people write, minutes.
const PERIODS: [u64; 10] = [1, 2, 5, 10, 15, 30, 60, 180, 720, 1_440];

const DAY_MS: f64 = 86_400_000.0;

/// How one function is called.
#[derive(Clone, Copy)]
enum Pattern {
    /// Again after this time, ms, give or take so much of it.
    Periodic(f64, f64),
    /// With this mean time between two, ms, and a coefficient of variation.
    Irregular(f64, f64),
}

impl Synthetic {
    pub(super) fn play(&self, assumed: &Assumed, sink: &mut impl Sink) {
        let end = f64::from(self.hours) * 3_600_000.0;
        for number in 0..self.functions {
            // Each function's numbers are its own: more functions or hours leave the others as they are.
            let random = &mut Random::new(self.seed.rotate_left(32) ^ u64::from(number));
            let memory_mib = burr(random).min(4_096.0);
            let key = sink.open(Profile { memory_mib, start: assumed.start, concurrency: 1 });
            let mean_s = (-0.38 + 2.36 * normal(random)).exp();
            let changes = if self.shape == Shape::Changing { end / 2.0 } else { end };
            let mut at = 0.0;
            for until in [changes, end] {
                let pattern = self.pattern(random);
                // Somewhere within the first interval.
                at += pattern.gap(at, random) * random.unit();
                while at < until {
                    let takes = (mean_s * (0.5 * normal(random) - 0.125).exp()).min(600.0);
                    let (at_ms, takes) = (Time((at * 1e6) as u64), Duration::from_secs_f64(takes));
                    sink.invoke(key, Invocation { at: at_ms, takes });
                    at += pattern.gap(at, random).max(1.0);
                }
                at = until;
            }
            sink.close(key, Time((end * 1e6) as u64));
        }
    }

    fn pattern(&self, random: &mut Random) -> Pattern {
        let rarer = if self.shape == Shape::Rare { 10.0 } else { 1.0 };
        let daily = 10f64.powf(1.603 + 1.772 * normal(random)).min(86_400.0) / rarer;
        let gap = DAY_MS / daily;
        let (timers, regular) = match self.shape {
            Shape::Timers => (0.667, 0.1),
            Shape::Random | Shape::Bursty => (0.0, 0.0),
            Shape::Paper | Shape::Rare | Shape::Changing => (0.156, 0.1),
        };
        if random.chance(timers) {
            let minutes = gap / 60_000.0;
            let distance = |period: &u64| (*period as f64 / minutes).ln().abs();
            let period = PERIODS.into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(60);
            return Pattern::Periodic(period as f64 * 60_000.0, 0.0);
        }
        let (kind, variation) = (random.unit(), 2.0 * 5f64.powf(random.unit()));
        match self.shape {
            Shape::Random => Pattern::Irregular(gap, 1.0),
            Shape::Bursty => Pattern::Irregular(gap, variation),
            _ if kind < regular => Pattern::Periodic(gap, 0.02),
            _ if kind < regular + 0.2 => Pattern::Irregular(gap, 1.0),
            _ => Pattern::Irregular(gap, variation),
        }
    }
}

impl Pattern {
    /// The time until the next one, ms.
    fn gap(self, at: f64, random: &mut Random) -> f64 {
        let by_day = |gap: f64| gap / (1.0 + 0.4 * (at / DAY_MS * std::f64::consts::TAU).sin());
        match self {
            Pattern::Periodic(gap, 0.0) => gap,
            Pattern::Periodic(gap, share) => gap * (1.0 + share * normal(random)).max(0.1),
            Pattern::Irregular(mean, 1.0) => by_day(-mean * (1.0 - random.unit()).ln()),
            Pattern::Irregular(mean, variation) => {
                let squared = (1.0 + variation * variation).ln();
                by_day(mean * (squared.sqrt() * normal(random) - squared / 2.0).exp())
            }
        }
    }
}

/// Standard normal (Box and Muller).
fn normal(random: &mut Random) -> f64 {
    let (radius, angle) = (1.0 - random.unit(), random.unit());
    (-2.0 * radius.ln()).sqrt() * (angle * std::f64::consts::TAU).cos()
}

/// Burr XII by the inverse of its distribution function.
fn burr(random: &mut Random) -> f64 {
    let (c, k, scale) = (11.652, 0.221, 107.083);
    scale * ((1.0 - random.unit()).powf(-1.0 / k) - 1.0).powf(1.0 / c)
}
