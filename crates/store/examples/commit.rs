//! How fast changes become durable: the store's group commit beside raw SQLite inserts of the same bytes in one
//! transaction per batch, and how long opening takes with no functions and with ten thousand.
//!
//! `cargo run --release -p store --example commit`

use ports::Store;
use ports::store::Expect;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{DataDir, EmbeddedStore};

const CHANGES: usize = 10_000;
const BYTES: usize = 2_000;

#[tokio::main]
async fn main() {
    println!(
        "opening an empty directory        {:>9.2?} (median of 9)",
        median((0..9).map(|_| open_empty()))
    );
    for callers in [1, 8, 64, 256] {
        let changes = if callers == 1 { 500 } else { CHANGES };
        let ours = rate(changes, group_commit(callers, changes).await);
        let raw = rate(changes, raw(callers, changes));
        println!(
            "{callers:>3} callers at once: store {ours:>7.0}/s, raw SQLite in batches of {callers:>3} {raw:>7.0}/s, ratio {:.2}",
            ours / raw
        );
    }
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    let open = || {
        let begin = Instant::now();
        let _store = EmbeddedStore::open(&DataDir::open(dir.path()).unwrap()).unwrap();
        begin.elapsed()
    };
    println!("opening it with {CHANGES} documents {:>9.2?} (median of 9)", median((0..9).map(|_| open())));
}

fn open_empty() -> Duration {
    let dir = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let _store = EmbeddedStore::open(&DataDir::open(dir.path()).unwrap()).unwrap();
    begin.elapsed()
}

async fn fill(dir: &std::path::Path) {
    let store = Arc::new(EmbeddedStore::open(&DataDir::open(dir).unwrap()).unwrap());
    put_all(store, 256, CHANGES).await;
}

async fn group_commit(callers: usize, changes: usize) -> Duration {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open(&DataDir::open(dir.path()).unwrap()).unwrap());
    let begin = Instant::now();
    put_all(store, callers, changes).await;
    begin.elapsed()
}

async fn put_all(store: Arc<EmbeddedStore>, callers: usize, changes: usize) {
    let call = |caller: usize| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in (caller..changes).step_by(callers) {
                store.put(&format!("function/{n:08}"), vec![7; BYTES].into(), Expect::Absent).await.unwrap();
            }
        })
    };
    for caller in (0..callers).map(call).collect::<Vec<_>>() {
        caller.await.unwrap();
    }
}

fn raw(batch: usize, changes: usize) -> Duration {
    let dir = tempfile::tempdir().unwrap();
    let mut connection = rusqlite::Connection::open(dir.path().join("raw.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.pragma_update(None, "synchronous", "full").unwrap();
    connection
        .execute_batch("CREATE TABLE t (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
        .unwrap();
    let begin = Instant::now();
    for first in (0..changes).step_by(batch) {
        let transaction = connection.transaction().unwrap();
        {
            let mut insert = transaction.prepare_cached("INSERT INTO t VALUES (?1, ?2)").unwrap();
            for n in first..(first + batch).min(changes) {
                insert.execute((format!("function/{n:08}").as_bytes(), &[7u8; BYTES][..])).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
    begin.elapsed()
}

fn rate(changes: usize, time: Duration) -> f64 {
    changes as f64 / time.as_secs_f64()
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    times[times.len() / 2]
}
