//! What an invocation costs.
//!
//! Lambda bills duration in steps of 1 ms and, since 1 August 2025, initialisation too, for every on-demand
//! function (<https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase/>): the
//! invocation that waited for it pays `Duration + Init Duration`, rounded up once.

use model::MiB;
use std::time::Duration;

/// Billed time in ms: `duration` plus the initialisation that the invocation waited for, rounded up to the
/// next millisecond, at least 1.
pub fn billed_ms(duration: Duration, init: Option<Duration>) -> u64 {
    let nanos = duration.saturating_add(init.unwrap_or_default()).as_nanos();
    u64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1)
}

/// Lambda's unit of compute: configured memory in GB (of 1,024 MB) times billed seconds.
pub fn gb_seconds(memory: MiB, billed_ms: u64) -> f64 {
    f64::from(memory.0) / 1_024.0 * billed_ms as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn time_is_rounded_up_to_the_next_millisecond() {
        assert_eq!(billed_ms(micros(1), None), 1);
        assert_eq!(billed_ms(micros(1_000), None), 1);
        assert_eq!(billed_ms(micros(1_001), None), 2);
        assert_eq!(billed_ms(Duration::ZERO, None), 1);
    }

    #[test]
    fn initialisation_is_billed_with_the_invocation_that_waited_and_rounded_once() {
        assert_eq!(billed_ms(micros(250_060), Some(micros(100_770))), 351);
        assert_eq!(billed_ms(micros(400), Some(micros(500))), 1);
    }

    #[test]
    fn a_gb_second_is_1024_mib_for_1000_ms() {
        assert_eq!(gb_seconds(MiB(1_024), 1_000), 1.0);
        assert_eq!(gb_seconds(MiB(128), 1), 0.000_125);
    }
}
