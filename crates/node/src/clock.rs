//! The server's two clocks: one for decisions, one for people.

use model::{Time, Timestamp};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Counts from the server's start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { began: Instant::now() }
    }
}

impl Clock {
    /// Now, for decisions.
    pub fn now(&self) -> Time {
        Time::from_nanos(self.began.elapsed().as_nanos() as u64)
    }

    /// The same point for timers.
    pub fn instant(&self, at: Time) -> tokio::time::Instant {
        (self.began + std::time::Duration::from_nanos(at.as_nanos())).into()
    }

    /// Now, for people.
    pub fn timestamp() -> Timestamp {
        Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
    }
}

/// Year, month and day (Howard Hinnant's `civil_from_days`). The whole of the calendar that this crate needs.
pub fn date(at: Timestamp) -> (i64, u32, u32) {
    let z = (at.as_millis() / 86_400_000) as i64 + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_index + 2) / 5 + 1) as u32;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// `2026-11-22T17:30:00.123Z`.
pub fn iso(at: Timestamp) -> String {
    let (year, month, day) = date(at);
    let (ms, s) = (at.as_millis() % 1000, at.as_millis() / 1000 % 86_400);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_written_as_people_read_it() {
        let check = |ms: u64, text: &str| assert_eq!(iso(Timestamp(ms)), text);
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(1_709_251_199_999, "2024-02-29T23:59:59.999Z");
        check(1_795_368_600_123, "2026-11-22T17:30:00.123Z");
    }
}
