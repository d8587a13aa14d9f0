//! The thread that writes: takes what has come in some milliseconds, appends it to the functions' segments and
//! passes it on to followers.

use super::buffer::{Batch, Source};
use super::segments::Segment;
use super::{Entry, Shared};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long entries are collected before they are written.
const COLLECT: Duration = Duration::from_millis(5);
/// Segment files held open; part of what `policy::descriptors` sets aside for the server's own files.
const MAX_OPEN: usize = 32;
/// What is written at once: bytes.
const WRITE_BYTES: usize = 256 << 10;
/// After so many entries, which take less than 0.1 ms, threads that answer requests may go first.
const GIVE_WAY: usize = 64;

/// Appends batches to segment files.
pub struct Writer {
    shared: Arc<Shared>,
    open: HashMap<Arc<str>, Open>,
    batches: u64,
    /// Whether the disk refused the last entries, which is then said once.
    failing: bool,
}

struct Open {
    segment: Segment,
    /// The last batch that wrote to it.
    used: u64,
}

impl Writer {
    /// A writer with nothing open.
    pub fn new(shared: Arc<Shared>) -> Writer {
        Writer { shared, open: HashMap::new(), batches: 0, failing: false }
    }

    /// Writes until the logs are closed and nothing waits.
    pub fn run(mut self) {
        while let Some((forgotten, mut batch)) = self.next_batch() {
            forgotten.iter().for_each(|function| self.forget(function));
            batch.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
            for versions in batch.chunk_by_mut(|(a, _), (b, _)| a.name == b.name) {
                self.append(versions);
            }
            self.shared.followers.pass_on(batch);
            self.shared.buffer.lock().expect("no panic while held").done();
            self.shared.written.notify_all();
        }
        self.shared.followers.close();
    }

    /// Waits for entries, and for more to come with them. Where they come all the time nobody has to wake this thread: each
    /// time would give the processor to somebody, in the middle of a request.
    fn next_batch(&mut self) -> Option<(Vec<Arc<str>>, Batch)> {
        self.batches += 1;
        let lock = || self.shared.buffer.lock().expect("no panic while held");
        let mut buffer = lock();
        loop {
            if !buffer.is_closed() {
                drop(buffer);
                std::thread::sleep(COLLECT);
                buffer = lock();
            }
            if !buffer.is_empty() || buffer.is_closed() {
                break;
            }
            buffer.await_entries();
            while buffer.is_awaited() && !buffer.is_closed() {
                buffer = self.shared.filled.wait(buffer).expect("no panic while held");
            }
        }
        let over = buffer.is_empty() && buffer.is_closed();
        (!over).then(|| buffer.take())
    }

    fn forget(&mut self, function: &str) {
        self.open.remove(function);
        match std::fs::remove_dir_all(self.shared.dir.join(function)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(function, %error, "a log could not be removed");
            }
            _ => {}
        }
    }

    /// Appends entries of one function. What the disk refuses is lost, and told so when it takes entries again.
    fn append(&mut self, versions: &mut [(Arc<Source>, Vec<Entry>)]) {
        let Some(((source, first), more)) = versions.split_first_mut() else { return };
        // Several versions of a function may write at the same time.
        if !more.is_empty() {
            first.extend(more.iter_mut().flat_map(|(_, entries)| std::mem::take(entries)));
            first.sort_by_key(|entry| entry.at);
        }
        let mut written = 0;
        let result = self.write(&source.name, first, &mut written);
        let failed_before = std::mem::replace(&mut self.failing, result.is_err());
        let Err(error) = result else { return };
        let lost = &first[written..];
        if !failed_before {
            let (function, entries) = (&*source.name, lost.len());
            tracing::error!(function, %error, entries, "log entries are lost: the disk does not take them");
        }
        // It may end in the middle of a line.
        self.open.remove(&source.name);
        self.shared.buffer.lock().expect("no panic while held").lose(source, lost);
    }

    /// Appends entries; `written` of them are safe when that fails.
    fn write(&mut self, name: &Arc<str>, entries: &[Entry], written: &mut usize) -> io::Result<()> {
        let segment = self.segment(name)?;
        let mut lines = Vec::new();
        for (n, entry) in entries.iter().enumerate() {
            let start = lines.len();
            if n % GIVE_WAY == GIVE_WAY - 1 {
                std::thread::yield_now();
            }
            serde_json::to_writer(&mut lines, entry)?;
            lines.push(b'\n');
            if lines.len() as u64 > segment.room() {
                segment.append(&lines[..start])?;
                lines.drain(..start);
                *written = n;
                segment.next()?;
            }
            if lines.len() >= WRITE_BYTES {
                segment.append(&lines)?;
                lines.clear();
                *written = n + 1;
            }
        }
        segment.append(&lines)
    }

    fn segment(&mut self, name: &Arc<str>) -> io::Result<&mut Segment> {
        if !self.open.contains_key(name) {
            if self.open.len() >= MAX_OPEN {
                let oldest = self.open.iter().min_by_key(|(_, open)| open.used).map(|(name, _)| name.clone());
                oldest.map(|name| self.open.remove(&name));
            }
            let segment = Segment::open(self.shared.dir.join(&**name), self.shared.kept)?;
            self.open.insert(name.clone(), Open { segment, used: 0 });
        }
        let open = self.open.get_mut(name).expect("just put there");
        open.used = self.batches;
        Ok(&mut open.segment)
    }
}
