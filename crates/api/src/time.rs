//! Dates as AWS writes them.

use jiff::civil::DateTime;
use jiff::tz::Offset;
use model::Timestamp;

/// The civil date and time in UTC. What no calendar holds (the year 9999 and after) is the epoch.
pub fn utc(at: Timestamp) -> DateTime {
    let millis = i64::try_from(at.as_millis()).unwrap_or_default();
    Offset::UTC.to_datetime(jiff::Timestamp::from_millisecond(millis).unwrap_or_default())
}

/// `2026-11-22T17:00:00.000+0000`, as Lambda writes `LastModified` of functions.
pub fn iso(at: Timestamp) -> String {
    let date = utc(at);
    format!("{}.{:03}+0000", date.strftime("%Y-%m-%dT%H:%M:%S"), date.millisecond())
}

/// `2026-11-22T17:00:00.000Z`, as Lambda writes the times of function URLs.
pub fn iso_z(at: Timestamp) -> String {
    iso(at).replace("+0000", "Z")
}

/// The wall clock.
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_millis() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_lambda_writes_them() {
        assert_eq!(iso(Timestamp(1_795_366_800_007)), "2026-11-22T17:00:00.007+0000");
        assert_eq!(iso_z(Timestamp(1_795_366_800_000)), "2026-11-22T17:00:00.000Z");
        assert_eq!(iso(Timestamp(u64::MAX)), "1970-01-01T00:00:00.000+0000");
    }
}
