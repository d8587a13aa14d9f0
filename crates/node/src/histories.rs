//! What was learned about functions whose pools are not there: after a deployment, after a long silence, after a restart of the
//! server.
//!
//! Nothing is written for it. Every invocation leaves a meter record anyway, so a server that starts reads the last ones and
//! learns from them what the one before it had learned.

use model::{MeterRecord, Time, Version};
use policy::keepalive::History;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// Functions that something is remembered of, at most; a kilobyte each at most.
const MOST: usize = 10_000;

/// How much of the records is read, bytes: some 200,000 invocations, less than a second.
const READ: u64 = 64 << 20;

/// What was learned, by function and version.
#[derive(Default)]
pub struct Histories {
    kept: Mutex<HashMap<(String, Version), History>>,
}

impl Histories {
    /// Keeps what was learned until somebody takes it.
    pub fn put(&self, function: &str, version: Version, history: History) {
        let mut kept = self.kept.lock().expect("no panic while held");
        if kept.len() >= MOST && !kept.contains_key(&(function.to_string(), version)) {
            tracing::debug!(function, "what was learned is forgotten: {MOST} others are remembered");
            return;
        }
        kept.insert((function.to_string(), version), history);
    }

    /// Takes what was learned.
    pub fn take(&self, function: &str, version: Version) -> Option<History> {
        self.kept.lock().expect("no panic while held").remove(&(function.to_string(), version))
    }

    /// A function is gone for good.
    pub fn forget(&self, function: &str) {
        self.kept.lock().expect("no panic while held").retain(|key, _| key.0 != function);
    }
}

/// What one function version was last seen to do.
struct Seen {
    history: History,
    /// When its last invocation ended, ms since 1970.
    quiet_since: u64,
}

/// Learns idle times from the newest meter records in `dir`, up to 64 MiB of them; what ran last comes first. `now_ms`:
/// ms since 1970; `now`: the same on the server's clock.
pub fn from_records(dir: &Path, bin: Duration, now_ms: u64, now: Time) -> Vec<(String, Version, History)> {
    let mut seen: HashMap<(String, Version), Seen> = HashMap::new();
    for (path, skip) in newest(dir) {
        let learned = read(&path, skip, |record| {
            let started = record.started.as_millis();
            let arrived = started.saturating_sub(record.init_us.unwrap_or(0) / 1_000);
            let ended = started + record.duration_us / 1_000;
            let at = Time::from_millis(arrived);
            let seen = seen
                .entry((record.function, record.version))
                .or_insert_with(|| Seen { history: History::new(at), quiet_since: u64::MAX });
            if arrived > seen.quiet_since {
                let idle = Duration::from_millis(arrived - seen.quiet_since);
                seen.history
                    .add(at, (idle.as_nanos() / bin.as_nanos().max(1)).try_into().unwrap_or(usize::MAX));
            }
            seen.quiet_since = if seen.quiet_since == u64::MAX { ended } else { seen.quiet_since.max(ended) };
        });
        if let Err(error) = learned {
            tracing::warn!(%error, file = %path.display(), "idle times are not learned from this file");
        }
    }
    let mut known: Vec<_> = seen.into_iter().filter(|(_, seen)| seen.history.observations() > 0).collect();
    known.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.quiet_since));
    known
        .into_iter()
        .map(|((function, version), seen)| {
            (function, version, seen.history.moved(Time::from_millis(now_ms), now))
        })
        .collect()
}

/// The newest files in order of time, and how much of each is left out at its beginning.
fn newest(dir: &Path) -> Vec<(PathBuf, u64)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<(PathBuf, u64)> =
        entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.len()))).collect();
    // They are named by their day.
    files.sort();
    let mut left = READ;
    let mut wanted = Vec::new();
    for (path, len) in files.into_iter().rev() {
        if left == 0 {
            break;
        }
        wanted.push((path, len.saturating_sub(left)));
        left = left.saturating_sub(len);
    }
    wanted.reverse();
    wanted
}

fn read(path: &Path, skip: u64, mut each: impl FnMut(MeterRecord)) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(skip))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        // The first may be the end of one, and a full disk leaves halves.
        if let Ok(record) = serde_json::from_slice(&line) {
            each(record);
        }
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{MiB, RequestId, Status, Timestamp};

    fn record(function: &str, started: u64, ms: u64) -> String {
        let record = MeterRecord {
            request_id: RequestId(uuid::Uuid::nil()),
            function: function.into(),
            version: Version::Latest,
            stream: "s".into(),
            started: Timestamp(started),
            status: Status::Success,
            error_type: None,
            duration_us: ms * 1_000,
            billed_ms: ms,
            init_us: None,
            cold_start: None,
            memory: MiB(128),
            max_memory: MiB(30),
        };
        serde_json::to_string(&record).expect("written") + "\n"
    }

    #[test]
    fn idle_times_are_learned_from_the_records_of_several_days() {
        let dir = tempfile::tempdir().expect("a folder");
        let day: u64 = 1_800_000_000_000;
        let first = (0..10).map(|n| record("timer", day + n * 60_000, 500)).collect::<String>();
        let second = record("timer", day + 10 * 60_000, 500)
            + &record("once", day, 1)
            + &record("later", day + 660_000, 1)
            + &record("later", day + 670_000, 1)
            + "{\"half\":";
        std::fs::write(dir.path().join("2027-01-15.ndjson"), first).expect("written");
        std::fs::write(dir.path().join("2027-01-16.ndjson"), second).expect("written");
        let bin = Duration::from_secs(10);
        let learned = from_records(dir.path(), bin, day + 700_000, Time::from_millis(5));
        let observed: Vec<_> =
            learned.iter().map(|(name, _, history)| (&**name, history.observations())).collect();
        assert_eq!(observed, [("later", 1), ("timer", 10)], "what ran last comes first");
    }

    #[test]
    fn invocations_that_overlap_leave_no_idle_time_between_them() {
        let dir = tempfile::tempdir().expect("a folder");
        let text = record("f", 1_000, 50)
            + &record("f", 100, 9_000)
            + &record("f", 9_050, 10)
            + &record("f", 19_060, 10);
        std::fs::write(dir.path().join("2027-01-15.ndjson"), text).expect("written");
        let learned = from_records(dir.path(), Duration::from_secs(1), 20_000, Time::ZERO);
        assert_eq!(learned[0].2.observations(), 1);
    }

    #[test]
    fn what_is_remembered_is_taken_once_and_goes_with_its_function() {
        let histories = Histories::default();
        histories.put("f", Version::Latest, History::new(Time::ZERO));
        assert!(histories.take("f", Version::Number(1)).is_none());
        assert!(
            histories.take("f", Version::Latest).is_some() && histories.take("f", Version::Latest).is_none()
        );
        histories.put("f", Version::Latest, History::new(Time::ZERO));
        histories.forget("f");
        assert!(histories.take("f", Version::Latest).is_none());
    }
}
