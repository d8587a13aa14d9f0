//! `kill -9` in a loop while changes are made: what was acknowledged is there, and nothing is half there.
//!
//! The test binary starts itself as the victim, which reports every acknowledged change on its standard output.

use bytes::Bytes;
use ports::blobs::Blobs;
use ports::store::{Expect, Revision, Store};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use store::{DataDir, EmbeddedStore, FileBlobs};

const DIR: &str = "STORE_CRASH_DIR";
const ROUNDS: usize = 12;
const WRITERS: usize = 6;

#[test]
fn what_was_acknowledged_survives_kill_9_and_nothing_is_half_there() {
    let seed = std::env::var("SEED").ok().map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut found) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..ROUNDS {
        kill_a_writer_after(Duration::from_micros(random.u64(2_000..60_000)), dir.path(), &mut acknowledged);
        verify(dir.path(), &acknowledged, &mut found);
    }
    let total: u64 = acknowledged.values().sum();
    eprintln!("{total} acknowledged changes over {ROUNDS} kills");
    assert!(total > ROUNDS as u64, "the victims did too little for this to mean something");
}

/// Starts a victim, lets it work for `delay` after its first acknowledgement, kills it, and notes the last
/// generation that each of its writers was acknowledged.
fn kill_a_writer_after(delay: Duration, dir: &Path, acknowledged: &mut BTreeMap<usize, u64>) {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut note = |line: String| {
        // The test harness writes lines of its own; a killed writer may leave a last one unfinished.
        let Some(("acknowledged", rest)) = line.split_once(' ') else { return false };
        let Some((writer, generation)) = rest.strip_suffix('.').and_then(|rest| rest.split_once(' ')) else {
            return false;
        };
        acknowledged.insert(writer.parse().unwrap(), generation.parse().unwrap());
        true
    };
    while !note(lines.next().expect("the victim acknowledges something before it ends")) {}
    let killer = std::thread::spawn(move || {
        std::thread::sleep(delay);
        victim.kill().unwrap();
        victim.wait().unwrap()
    });
    for line in lines {
        note(line);
    }
    let status = killer.join().unwrap();
    assert!(!status.success(), "the victim ended by itself: {status}");
}

/// Each writer's generation `n` is: a blob, a document `item/<writer>/<n>` that names it, the document
/// `head/<writer>` that says `n`, and the item of `n - 3` deleted; acknowledged when all of it is.
#[tokio::main(flavor = "current_thread")]
async fn verify(dir: &Path, acknowledged: &BTreeMap<usize, u64>, found: &mut BTreeMap<usize, u64>) {
    let opened = DataDir::open(dir).expect("the lock of a killed server is gone");
    let (store, blobs) = (EmbeddedStore::open(&opened).unwrap(), FileBlobs::new(&opened));
    for (writer, generation) in acknowledged {
        let (head, _) = read_head(&store, *writer).await.expect("an acknowledged head is there");
        assert!(head >= *generation, "writer {writer} was acknowledged {generation}, and {head} is there");
        let known = found.insert(*writer, head).unwrap_or(0).max(*generation);
        assert!(head <= known + 1, "writer {writer} had {known} and one under way, and {head} is there");
        for n in head.saturating_sub(2).max(1)..=head {
            let item =
                store.get(&item_key(*writer, n)).await.unwrap().expect("what a head refers to is there");
            assert_eq!(item.value, item_value(*writer, n), "item {n} of writer {writer} is half there");
            let bytes =
                blobs.get(&digest(&item.value)).await.unwrap().expect("what an item refers to is there");
            assert_eq!(bytes, item.value, "the blob of item {n} of writer {writer} is half there");
        }
        for n in 1..generation.saturating_sub(2) {
            let item = store.get(&item_key(*writer, n)).await.unwrap();
            assert!(item.is_none(), "item {n} of writer {writer} was deleted, acknowledged, and is back");
        }
    }
    for blob in blobs.list().await.unwrap() {
        let bytes = blobs.get(&blob.sha256).await.unwrap().unwrap();
        assert_eq!(digest(&bytes), blob.sha256, "a blob that nobody refers to is half there");
    }
}

#[test]
#[ignore = "started by the other test, to be killed"]
fn victim() {
    let dir = std::env::var(DIR).expect("the other test says where");
    work(Path::new(&dir));
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn work(dir: &Path) {
    let opened = DataDir::open(dir).unwrap();
    let store = Arc::new(EmbeddedStore::open(&opened).unwrap());
    let blobs = FileBlobs::new(&opened);
    let writers = (0..WRITERS).map(|writer| tokio::spawn(write(writer, store.clone(), blobs.clone())));
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

async fn write(writer: usize, store: Arc<EmbeddedStore>, blobs: FileBlobs) {
    let (mut head, mut expect) = match read_head(&store, writer).await {
        Some((head, revision)) => (head, Expect::Revision(revision)),
        None => (0, Expect::Absent),
    };
    // The predecessor may have been killed between its last head and the deletion that follows it.
    forget(&store, writer, head).await;
    loop {
        head += 1;
        let value = item_value(writer, head);
        blobs.put(&digest(&value), value.clone()).await.unwrap();
        // `Any`: a killed predecessor may have left this item without a head that refers to it.
        store.put(&item_key(writer, head), value, Expect::Any).await.unwrap();
        let revision = store.put(&head_key(writer), head.to_string().into(), expect).await.unwrap();
        expect = Expect::Revision(revision);
        forget(&store, writer, head).await;
        println!("acknowledged {writer} {head}.");
    }
}

async fn forget(store: &EmbeddedStore, writer: usize, head: u64) {
    if head > 3 {
        store.delete(&item_key(writer, head - 3), Expect::Any).await.unwrap();
    }
}

async fn read_head(store: &EmbeddedStore, writer: usize) -> Option<(u64, Revision)> {
    let document = store.get(&head_key(writer)).await.unwrap()?;
    Some((std::str::from_utf8(&document.value).unwrap().parse().unwrap(), document.revision))
}

fn head_key(writer: usize) -> String {
    format!("head/{writer}")
}

fn item_key(writer: usize, n: u64) -> String {
    format!("item/{writer}/{n}")
}

/// A few kilobytes to a few pages that only this item has.
fn item_value(writer: usize, n: u64) -> Bytes {
    let mut random = fastrand::Rng::with_seed((writer as u64) << 32 | n);
    let length = random.usize(100..20_000);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
