//! Documents with revisions, in SQLite.
//!
//! One thread writes. It takes all changes that wait, does them in one transaction, and answers each after the
//! commit: while one commit waits for the disk the next ones gather, so the disk's pace bounds the latency of a
//! change and not their number. One thread reads, on a connection of its own that never waits for the writer.

use crate::data_dir::{DataDir, OpenError, move_durably};
use bytes::Bytes;
use ports::BoxFuture;
use ports::store::{Document, Expect, Revision, Store, StoreError, check_key};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};
use std::path::Path;
use tokio::sync::{mpsc, oneshot};

/// Changes and reads that may wait; more make their callers wait to be let in.
const QUEUE: usize = 1_024;
/// Changes in one transaction, at most, and the bytes after which no more are taken in.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 16 << 20;

/// The documents of a data directory. Dropping it waits until what was asked for is done and the database is
/// closed, a few milliseconds: whoever opens the directory next finds it free.
#[derive(Debug)]
pub struct EmbeddedStore {
    changes: mpsc::Sender<Job>,
    reads: mpsc::Sender<Read>,
    // After the senders, and before the directory is let go: fields are dropped in this order.
    _threads: [Thread; 2],
    _dir: DataDir,
}

impl EmbeddedStore {
    /// Opens the documents of a data directory, making the database if it is missing. Blocks for a few
    /// milliseconds.
    pub fn open(dir: &DataDir) -> Result<EmbeddedStore, OpenError> {
        let path = dir.database();
        create_if_missing(dir)?;
        let writer = Writer::open(&path).map_err(|error| open_error(&path, error))?;
        let reader = reader(&path).map_err(|error| open_error(&path, error))?;
        let (changes, change_queue) = mpsc::channel(QUEUE);
        let (reads, read_queue) = mpsc::channel(QUEUE);
        let spawned = |source| OpenError::Unusable { path: path.clone(), source };
        let writer = Thread::spawn("store-writer", move || writer.run(change_queue)).map_err(spawned)?;
        let reader = Thread::spawn("store-reader", move || serve_reads(&reader, read_queue));
        let threads = [writer, reader.map_err(spawned)?];
        Ok(EmbeddedStore { changes, reads, _threads: threads, _dir: dir.clone() })
    }

    async fn change<T>(&self, job: Job, answer: oneshot::Receiver<Answer<T>>) -> Answer<T> {
        self.changes.send(job).await.map_err(|_| unanswered())?;
        answer.await.map_err(|_| unanswered())?
    }

    async fn read<T>(&self, read: Read, answer: oneshot::Receiver<Answer<T>>) -> Answer<T> {
        self.reads.send(read).await.map_err(|_| unanswered())?;
        answer.await.map_err(|_| unanswered())?
    }
}

type Answer<T> = Result<T, StoreError>;

/// A change that waits.
struct Job {
    key: String,
    expect: Expect,
    change: Change,
}

enum Change {
    Put(Bytes, oneshot::Sender<Answer<Revision>>),
    Delete(oneshot::Sender<Answer<bool>>),
}

/// A read that waits.
enum Read {
    Get {
        key: String,
        answer: oneshot::Sender<Answer<Option<Document>>>,
    },
    List {
        prefix: String,
        after: Option<String>,
        limit: usize,
        answer: oneshot::Sender<Answer<Vec<Document>>>,
    },
}

impl Store for EmbeddedStore {
    fn get(&self, key: &str) -> BoxFuture<'_, Answer<Option<Document>>> {
        let (answer, answered) = oneshot::channel();
        Box::pin(self.read(Read::Get { key: key.to_owned(), answer }, answered))
    }

    fn put(&self, key: &str, value: Bytes, expect: Expect) -> BoxFuture<'_, Answer<Revision>> {
        if let Err(error) = check_key(key) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let (answer, answered) = oneshot::channel();
        let job = Job { key: key.to_owned(), expect, change: Change::Put(value, answer) };
        Box::pin(self.change(job, answered))
    }

    fn delete(&self, key: &str, expect: Expect) -> BoxFuture<'_, Answer<bool>> {
        let (answer, answered) = oneshot::channel();
        let job = Job { key: key.to_owned(), expect, change: Change::Delete(answer) };
        Box::pin(self.change(job, answered))
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> BoxFuture<'_, Answer<Vec<Document>>> {
        let (answer, answered) = oneshot::channel();
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        Box::pin(self.read(Read::List { prefix, after, limit, answer }, answered))
    }
}

/// The writing side: the connection and the last revision given out.
struct Writer {
    connection: Connection,
    last: u64,
}

/// What a job came to, to be told once it is on the disk.
enum Outcome {
    Put(oneshot::Sender<Answer<Revision>>, Answer<Revision>),
    Delete(oneshot::Sender<Answer<bool>>, Answer<bool>),
}

impl Writer {
    fn open(path: &Path) -> rusqlite::Result<Writer> {
        let connection = Connection::open(path)?;
        // A commit waits until the log is on the disk.
        connection.pragma_update(None, "synchronous", "full")?;
        let last = last_revision(&connection)?;
        Ok(Writer { connection, last })
    }

    /// Until nobody can send any more.
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(job) = queue.blocking_recv() {
            let mut bytes = job.weight();
            let mut batch = vec![job];
            while batch.len() < BATCH && bytes < BATCH_BYTES {
                let Ok(job) = queue.try_recv() else { break };
                bytes += job.weight();
                batch.push(job);
            }
            self.commit(batch);
        }
    }

    fn commit(&mut self, batch: Vec<Job>) {
        let mut outcomes = Vec::with_capacity(batch.len());
        match self.transact(batch, &mut outcomes) {
            Ok(()) => outcomes.into_iter().for_each(Outcome::tell),
            Err(error) => {
                tracing::error!(%error, "a transaction of the store failed");
                let reason = format!("{error}; whether the change was made is unknown");
                outcomes.into_iter().for_each(|outcome| outcome.fail(&reason));
                // As it is on the disk, if that can be told: revisions only ever grow, so the higher counts.
                self.last = last_revision(&self.connection).unwrap_or(self.last).max(self.last);
            }
        }
    }

    /// All jobs in one transaction. When it fails, what was decided so far is in `outcomes`, and jobs that are
    /// in neither place are answered by being dropped.
    fn transact(&mut self, batch: Vec<Job>, outcomes: &mut Vec<Outcome>) -> rusqlite::Result<()> {
        let before = self.last;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for Job { key, expect, change } in batch {
            let find = "SELECT revision FROM documents WHERE key = ?1";
            let mut find = transaction.prepare_cached(find)?;
            let found = find.query_row([key.as_bytes()], |row| row.get(0)).optional()?;
            let found = found.map(|revision: i64| Revision(revision as u64));
            let expected = expect.met_by(found);
            let conflict = || StoreError::Conflict { key: key.clone() };
            match change {
                Change::Put(_, answer) if !expected => outcomes.push(Outcome::Put(answer, Err(conflict()))),
                Change::Delete(answer) if !expected => {
                    outcomes.push(Outcome::Delete(answer, Err(conflict())))
                }
                Change::Put(value, answer) => {
                    self.last += 1;
                    outcomes.push(Outcome::Put(answer, Ok(Revision(self.last))));
                    let put = "INSERT INTO documents (key, revision, value) VALUES (?1, ?2, ?3)
                               ON CONFLICT (key) DO UPDATE SET revision = ?2, value = ?3";
                    let mut put = transaction.prepare_cached(put)?;
                    put.execute((key.as_bytes(), self.last as i64, &*value))?;
                }
                Change::Delete(answer) => {
                    outcomes.push(Outcome::Delete(answer, Ok(found.is_some())));
                    let mut delete = transaction.prepare_cached("DELETE FROM documents WHERE key = ?1")?;
                    delete.execute([key.as_bytes()])?;
                }
            }
        }
        if self.last != before {
            let mut note = transaction.prepare_cached("UPDATE revisions SET last = ?1")?;
            note.execute([self.last as i64])?;
        }
        transaction.commit()
    }
}

impl Job {
    fn weight(&self) -> usize {
        match &self.change {
            Change::Put(value, _) => self.key.len() + value.len(),
            Change::Delete(_) => self.key.len(),
        }
    }
}

impl Outcome {
    // A caller that no longer listens has given up the answer, not the change.
    fn tell(self) {
        match self {
            Outcome::Put(answer, outcome) => drop(answer.send(outcome)),
            Outcome::Delete(answer, outcome) => drop(answer.send(outcome)),
        }
    }

    fn fail(self, reason: &str) {
        let failed = StoreError::Failed(reason.to_owned());
        match self {
            Outcome::Put(answer, _) => drop(answer.send(Err(failed))),
            Outcome::Delete(answer, _) => drop(answer.send(Err(failed))),
        }
    }
}

/// Keys are blobs so that their order is that of their bytes. The one row of `revisions` is the last revision
/// given out, over all keys: so a key that is made again never repeats one.
const SCHEMA: &str = "
    CREATE TABLE documents (key BLOB PRIMARY KEY, revision INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE revisions (last INTEGER NOT NULL);
    INSERT INTO revisions VALUES (0);";

/// Makes the database aside and moves it into place whole: two waits for the disk, where SQLite's own way to an
/// empty database with a log takes six.
fn create_if_missing(dir: &DataDir) -> Result<(), OpenError> {
    let path = dir.database();
    let unusable = |source| OpenError::Unusable { path: path.clone(), source };
    if path.try_exists().map_err(unusable)? {
        return Ok(());
    }
    let aside = dir.temporary().join("store.db");
    let make = || {
        let connection = Connection::open(&aside)?;
        connection.pragma_update(None, "journal_mode", "off")?;
        connection.pragma_update(None, "synchronous", "off")?;
        connection.execute_batch(SCHEMA)?;
        connection.pragma_update(None, "journal_mode", "wal")
    };
    make().map_err(|error: rusqlite::Error| open_error(&path, error))?;
    move_durably(&aside, &path).map_err(unusable)
}

fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // The log is only ever waited for while the database is recovered.
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(connection)
}

fn serve_reads(connection: &Connection, mut queue: mpsc::Receiver<Read>) {
    // Callers that no longer listen have given up their answer.
    while let Some(read) = queue.blocking_recv() {
        match read {
            Read::Get { key, answer } => drop(answer.send(get(connection, &key).map_err(unreadable))),
            Read::List { prefix, after, limit, answer } => {
                drop(answer.send(list(connection, &prefix, after.as_deref(), limit).map_err(unreadable)));
            }
        }
    }
}

fn get(connection: &Connection, key: &str) -> rusqlite::Result<Option<Document>> {
    let mut find = connection.prepare_cached("SELECT key, value, revision FROM documents WHERE key = ?1")?;
    find.query_row([key.as_bytes()], document).optional()
}

fn list(
    connection: &Connection,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> rusqlite::Result<Vec<Document>> {
    let find =
        "SELECT key, value, revision FROM documents WHERE key >= ?1 AND key > ?2 ORDER BY key LIMIT ?3";
    let mut find = connection.prepare_cached(find)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // Every key is greater than the empty one.
    let mut rows = find.query((prefix.as_bytes(), after.unwrap_or_default().as_bytes(), limit))?;
    let mut documents = Vec::new();
    while let Some(row) = rows.next()? {
        // The prefix ends the scan here and not in SQL: what comes after it has no simple upper bound.
        if !row.get_ref(0)?.as_blob()?.starts_with(prefix.as_bytes()) {
            break;
        }
        documents.push(document(row)?);
    }
    Ok(documents)
}

fn document(row: &rusqlite::Row<'_>) -> rusqlite::Result<Document> {
    let key = String::from_utf8_lossy(row.get_ref(0)?.as_blob()?).into_owned();
    let value = Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?);
    Ok(Document { key, value, revision: Revision(row.get::<_, i64>(2)? as u64) })
}

fn last_revision(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT last FROM revisions", [], |row| row.get::<_, i64>(0)).map(|last| last as u64)
}

/// A thread that ends when nobody can send to it any more, and is waited for when dropped.
#[derive(Debug)]
struct Thread(Option<std::thread::JoinHandle<()>>);

impl Thread {
    fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<Thread> {
        std::thread::Builder::new().name(name.to_owned()).spawn(work).map(|handle| Thread(Some(handle)))
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(Err(_)) = self.0.take().map(std::thread::JoinHandle::join) {
            tracing::error!("a thread of the store panicked");
        }
    }
}

fn open_error(path: &Path, error: rusqlite::Error) -> OpenError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => OpenError::Damaged { path, reason: error.to_string() },
        _ => OpenError::Unusable { path, source: std::io::Error::other(error) },
    }
}

fn unreadable(error: rusqlite::Error) -> StoreError {
    StoreError::Failed(error.to_string())
}

fn unanswered() -> StoreError {
    let reason =
        "a transaction was given up, and whether the change was made is unknown; see the server's log";
    StoreError::Failed(reason.to_owned())
}
