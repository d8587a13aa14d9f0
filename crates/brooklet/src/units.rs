//! Durations and sizes as people write them. A number without its unit is refused: nobody should have to
//! guess whether `10` means seconds or milliseconds.

use std::time::Duration;

/// Reads `250ms`, `10s`, `5m`, `2h`, `7d`: a whole number and its unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text).ok_or_else(|| bad_duration(text))?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad_duration(text)),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| format!("`{text}` is too long"))
}

/// Reads `512KiB`, `256MiB`, `2GiB` (and `MB`, which means MiB as it does in Lambda) as bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text).ok_or_else(|| bad_size(text))?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "kib" | "kb" => 10,
        "mib" | "mb" => 20,
        "gib" | "gb" => 30,
        "tib" | "tb" => 40,
        _ => return Err(bad_size(text)),
    };
    number.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is too large"))
}

/// Bytes in the largest unit that keeps a number above one: `17 B`, `1.4 MiB`.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let power = (bytes.ilog2() / 10).min(4);
    let value = bytes as f64 / (1u64 << (10 * power)) as f64;
    let digits = if value < 10.0 && value.fract() >= 0.05 { 1 } else { 0 };
    format!("{value:.digits$} {}", UNITS[power as usize - 1])
}

/// A duration in the unit that people would say: `820 ms`, `3.4 s`, `2 m 05 s`.
pub fn show_duration(span: Duration) -> String {
    match span.as_millis() {
        ms @ 0..1_000 => format!("{ms} ms"),
        ms @ 1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        ms => format!("{} m {:02} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// A keep-alive policy with its timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive(pub policy::keepalive::Config);

/// Reads `fixed:10m`, `hybrid:4h`, `learned:10m`.
pub fn keep_alive(text: &str) -> Result<KeepAlive, String> {
    let (name, span) =
        text.split_once(':').ok_or_else(|| format!("`{text}` has no timeout: write {text}:10m"))?;
    let policy = keep_policy(name)?;
    let timeout = duration(span)?;
    match (1..=86_400_000).contains(&timeout.as_millis()) {
        true => Ok(KeepAlive(policy::keepalive::Config { policy, timeout, ..Default::default() })),
        false => Err(format!("`{span}` is outside 1ms to 24h")),
    }
}

/// Reads the name of a keep-alive policy.
pub fn keep_policy(text: &str) -> Result<policy::keepalive::Policy, String> {
    use policy::keepalive::Policy;
    match text {
        "fixed" => Ok(Policy::Fixed),
        "hybrid" => Ok(Policy::Hybrid),
        "learned" => Ok(Policy::Learned),
        _ => Err(format!("`{text}` is not one of fixed, hybrid, learned")),
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..digits].parse().ok()?, text[digits..].trim_start()))
}

fn bad_duration(text: &str) -> String {
    format!("`{text}` is not a duration: write a whole number with ms, s, m, h or d, such as 30s")
}

fn bad_size(text: &str) -> String {
    format!("`{text}` is not a size: write a whole number with KiB, MiB, GiB or TiB, such as 256MiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2 h"), Ok(Duration::from_secs(7_200)));
        for bad in ["10", "", "s", "-1s", "1.5s", "3 weeks", "99999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_carry_their_unit() {
        assert_eq!(size("512KiB"), Ok(512 << 10));
        assert_eq!(size("256 MB"), Ok(256 << 20));
        for bad in ["128", "MiB", "1.5GiB", "12B", "99999999999TiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_and_durations_are_shown_in_the_unit_people_would_say() {
        let sizes: Vec<String> = [17, 1024, 1_500_000, 26 << 20, 3 << 30].map(show_size).to_vec();
        assert_eq!(sizes, ["17 B", "1 KiB", "1.4 MiB", "26 MiB", "3 GiB"]);
        let spans = [820, 3_450, 125_000].map(|ms| show_duration(Duration::from_millis(ms)));
        assert_eq!(spans, ["820 ms", "3.4 s", "2 m 05 s"]);
    }
}
