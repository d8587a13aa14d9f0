//! The hybrid histogram policy of "Serverless in the Wild" (USENIX ATC '20, section 4.2), with the paper's numbers.
//!
//! - Within the range: from the 5th percentile of the idle times (rounded down to its bin, less 10 %) until the
//!   99th (rounded up, plus 10 %). A 5th percentile in the first bin means that nothing is let go.
//! - The histogram counts as representative when the coefficient of variation of its bins' counts is at least 2:
//!   a peak somewhere, not the same everywhere. Otherwise the fixed time holds.
//! - Mostly beyond the range: a forecast, ±15 %. The paper fits ARIMA; here it is the median of the last eight
//!   (docs/adr/2026-11-27-learned-keep-alive.md says why).

use super::{BINS, History, Window, times};
use std::time::Duration;

const HEAD: f64 = 0.05;
const TAIL: f64 = 0.99;

/// Margin of head and tail, percent.
const MARGIN: u32 = 10;

/// Margin of a forecast on either side, percent.
const FORECAST_MARGIN: u32 = 15;

/// The least coefficient of variation of the bins' counts.
const REPRESENTATIVE: f64 = 2.0;

/// A forecast instead of the histogram when more than this share is beyond the range.
const MOSTLY_OUTSIDE: f64 = 0.5;

/// The window; `None`: the history is not representative.
pub(super) fn window(history: &History, bin: Duration) -> Option<Window> {
    let (inside, outside) = (history.inside(), history.outside());
    if outside > (inside + outside) * MOSTLY_OUTSIDE {
        let mut far: Vec<u32> = history.far().collect();
        far.sort_unstable();
        let middle = times(bin, *far.get(far.len() / 2)? as usize);
        return Some(Window {
            from: percent(middle, 100 - FORECAST_MARGIN),
            until: percent(middle, 100 + FORECAST_MARGIN),
        });
    }
    if inside == 0.0 || variation(history, inside) < REPRESENTATIVE {
        return None;
    }
    let (head, tail) = (percentile(history, inside * HEAD), percentile(history, inside * TAIL));
    Some(Window {
        from: percent(times(bin, head), 100 - MARGIN),
        until: percent(times(bin, tail + 1), 100 + MARGIN),
    })
}

/// Standard deviation over mean of the counts of all bins.
fn variation(history: &History, inside: f64) -> f64 {
    let (count, mean) = (BINS as f64, inside / BINS as f64);
    let squares: f64 = history.bins().map(|weight| weight * weight).sum();
    (squares / count - mean * mean).max(0.0).sqrt() / mean
}

/// The first bin up to which there are so many.
fn percentile(history: &History, wanted: f64) -> usize {
    let mut sum = 0.0;
    let reached = |weight: f64| {
        sum += weight;
        sum >= wanted && sum > 0.0
    };
    history.bins().map(reached).position(|is_reached| is_reached).unwrap_or(BINS - 1)
}

fn percent(span: Duration, share: u32) -> Duration {
    span.saturating_mul(share) / 100
}
