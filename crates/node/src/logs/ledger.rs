//! The meter: one record per invocation, one JSON line each, one file a day.
//!
//! A record is given to the kernel (`write`, some microseconds) before its caller gets the answer: what was answered
//! is metered even if the server is killed the next moment. A group commit by another thread would cost the warm
//! path two wake-ups instead of one short system call. Streamed answers reach the caller before they end; their
//! record follows their last byte within microseconds.

use super::segments::open_at_a_line;
use crate::clock::{Clock, date};
use model::MeterRecord;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};

type Day = (i64, u32, u32);

/// The meter records of all functions.
pub struct Ledger {
    dir: PathBuf,
    today: RwLock<(Day, File)>,
    /// Whether the last record was refused, which is then said once.
    failing: AtomicBool,
}

impl Ledger {
    /// The ledger below `dir`, which is made when missing.
    pub fn open(dir: PathBuf) -> io::Result<Ledger> {
        std::fs::create_dir_all(&dir)?;
        let day = date(Clock::timestamp());
        let file = file(&dir, day)?;
        Ok(Ledger { dir, today: RwLock::new((day, file)), failing: AtomicBool::new(false) })
    }

    /// Gives a record to the kernel. A disk that refuses it (full, broken) is no reason to refuse the answer: the
    /// server's log says so.
    pub fn append(&self, record: &MeterRecord) {
        let mut line = Vec::with_capacity(512);
        if self.failing.load(Ordering::Relaxed) {
            line.push(b'\n'); // what failed may have left half a record
        }
        serde_json::to_writer(&mut line, record).expect("a record can be written as JSON");
        line.push(b'\n');
        match self.write(&line) {
            Ok(()) => self.failing.store(false, Ordering::Relaxed),
            Err(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                tracing::error!(%error, "invocations cannot be metered: their records are lost until the disk takes them");
            }
            Err(_) => {}
        }
    }

    fn write(&self, line: &[u8]) -> io::Result<()> {
        let now = date(Clock::timestamp());
        loop {
            let today = self.today.read().expect("no panic while held");
            if today.0 == now {
                // One call: records of several threads do not mix in a file that is opened for appending.
                return (&today.1).write_all(line);
            }
            drop(today);
            let mut today = self.today.write().expect("no panic while held");
            if today.0 != now {
                *today = (now, file(&self.dir, now)?);
            }
        }
    }
}

fn file(dir: &std::path::Path, (year, month, day): Day) -> io::Result<File> {
    Ok(open_at_a_line(&dir.join(format!("{year:04}-{month:02}-{day:02}.ndjson")))?.0)
}
