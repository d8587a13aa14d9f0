use super::*;
use model::{MiB, Status};

struct World {
    logs: Arc<Logs>,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().expect("a folder");
        World { logs: Logs::open(dir.path(), MIN_KEPT).expect("opened"), dir }
    }

    fn read(&self, filter: &Filter) -> Vec<String> {
        let mut texts = Vec::new();
        self.logs.read("f", filter, |entry| {
            texts.push(entry.text());
            true
        });
        texts
    }

    /// Bytes of f's log on disk.
    fn held(&self) -> u64 {
        let paths = segments::list(&self.dir.path().join("logs/f"));
        paths.iter().map(|path| path.metadata().expect("there").len()).sum()
    }
}

fn write(log: &FunctionLog, message: impl Into<bytes::Bytes>) {
    let (at, stream) = (Clock::timestamp(), "stream".into());
    log.write(LogEvent { at, stream, request_id: None, message: message.into() });
}

fn record(id: RequestId) -> MeterRecord {
    MeterRecord {
        request_id: id,
        function: "f".into(),
        version: Version::Latest,
        stream: "stream".into(),
        started: Timestamp(1),
        status: Status::Success,
        error_type: None,
        duration_us: 1,
        billed_ms: 1,
        init_us: None,
        cold_start: None,
        memory: MiB(128),
        max_memory: MiB(1),
    }
}

fn ledger(dir: &Path) -> String {
    let files = std::fs::read_dir(dir.join("meter")).expect("there").flatten();
    files.map(|file| std::fs::read_to_string(file.path()).expect("readable")).collect()
}

#[test]
fn a_log_stays_within_its_bound_and_its_end_is_there_also_when_one_batch_is_larger() {
    let world = World::new();
    let log = world.logs.function("f", false);
    // 12 MB at once: no batch boundary to cut at.
    for n in 0..1200 {
        write(&log, format!("{n} {}", "x".repeat(10_000)));
    }
    let texts = world.read(&Filter::default());
    assert!(world.held() <= MIN_KEPT, "{} bytes on disk", world.held());
    assert!(world.held() > MIN_KEPT / 2, "{} bytes on disk", world.held());
    let numbers: Vec<u32> =
        texts.iter().map(|text| text.split_once(' ').unwrap().0.parse().unwrap()).collect();
    let expected: Vec<u32> = (numbers[0]..1200).collect();
    assert!(numbers[0] > 0 && numbers == expected, "not one piece up to the end");
}

/// The entries that a buffer gives when this was pushed into it: `<source> <lines> x <bytes>` a line.
#[track_caller]
fn check_buffer(pushed: &str, expected: &str) {
    let mut buffer = Buffer::default();
    let mut sources = std::collections::BTreeMap::new();
    for words in pushed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()) {
        let [name, count, "x", bytes] = words[..] else { continue };
        let source = sources.entry(name).or_insert_with(|| Source::new(name, false)).clone();
        let text = "x".repeat(bytes.parse().unwrap());
        for n in 0..count.parse().unwrap() {
            let (kind, stream) = (EntryKind::Line(text.clone()), "s".into());
            buffer.push(&source, Entry { at: Timestamp(n), stream, request_id: None, json: false, kind });
        }
    }
    let shown = buffer.take().1.into_iter().map(|(source, entries)| {
        let lines: Vec<_> = entries.iter().filter(|entry| matches!(entry.kind, EntryKind::Line(_))).collect();
        let gap = entries.first().filter(|entry| matches!(entry.kind, EntryKind::Dropped { .. }));
        let gap = gap.map(|gap| gap.text() + ", ").unwrap_or_default();
        let (first, last) = (lines.first().unwrap().at.as_millis(), lines.last().unwrap().at.as_millis());
        format!("{}: {gap}lines {first} to {last}", source.name)
    });
    let expected: Vec<_> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}

#[test]
fn of_a_flood_the_newest_lines_are_kept_and_the_gap_before_them_is_told() {
    check_buffer(
        "f 200 x 262144
         g 1 x 5",
        "f: LOGS DROPPED: 73 lines of 19136512 bytes came faster than they could be written, lines 73 to 199
         g: lines 0 to 0",
    );
}

#[test]
fn when_several_flood_at_once_a_large_one_gives_way_and_the_quiet_one_keeps_its_lines() {
    check_buffer(
        "a 100 x 262144
         b 110 x 262144
         quiet 100 x 10000
         c 60 x 262144",
        "a: lines 0 to 99
         b: LOGS DROPPED: 19 lines of 4980736 bytes came faster than they could be written, lines 19 to 109
         quiet: lines 0 to 99
         c: lines 0 to 59",
    );
}

#[test]
fn a_log_that_is_forgotten_is_gone_and_what_is_written_afterwards_is_kept() {
    let world = World::new();
    let (log, other) = (world.logs.function("f", false), world.logs.function("g", false));
    write(&log, "on disk");
    write(&other, "stays");
    world.logs.shared.settle();
    write(&log, "still waiting");
    world.logs.forget("f");
    write(&log, "afterwards");
    assert_eq!(world.read(&Filter::default()), ["afterwards"]);
    let mut functions = world.logs.functions();
    functions.sort();
    assert_eq!(functions, ["f", "g"]);
    world.logs.forget("f");
    world.logs.shared.settle();
    assert_eq!(world.logs.functions(), ["g"]);
}

#[test]
fn what_the_disk_refuses_is_counted_and_told_when_it_takes_lines_again() {
    let world = World::new();
    let log = world.logs.function("f", false);
    let folder = world.dir.path().join("logs/f");
    // A file where the folder should be: nothing can be written, not by root either.
    std::fs::write(&folder, "").expect("written");
    (0..3).for_each(|_| write(&log, "lost"));
    world.logs.shared.settle();
    assert_eq!(world.logs.dropped(), 3);
    std::fs::remove_file(&folder).expect("removed");
    write(&log, "after it");
    let told = "LOGS DROPPED: 3 lines of 12 bytes came faster than they could be written";
    assert_eq!(world.read(&Filter::default()), [told, "after it"]);
}

#[test]
fn a_reader_goes_on_when_segments_are_removed_under_it() {
    let world = World::new();
    let log = world.logs.function("f", false);
    let flood = || (0..600).for_each(|_| write(&log, "x".repeat(10_000)));
    flood();
    let mut seen = 0;
    world.logs.read("f", &Filter::default(), |_| {
        seen += 1;
        if seen == 1 {
            flood();
            flood();
            world.logs.shared.settle();
        }
        true
    });
    assert!(seen > 0);
    assert!(world.held() <= MIN_KEPT);
}

#[test]
fn half_a_line_that_a_killed_server_left_costs_nothing_that_follows() {
    let world = World::new();
    write(&world.logs.function("f", false), "first");
    world.logs.shared.ledger.append(&record(RequestId(uuid::Uuid::from_u128(1))));
    world.logs.close();
    let half = |path: PathBuf| {
        use std::io::Write;
        let file = std::fs::OpenOptions::new().append(true).open(path);
        file.and_then(|mut file| file.write_all(b"{\"half\": ")).expect("written");
    };
    half(world.dir.path().join("logs/f/00000001.ndjson"));
    half(std::fs::read_dir(world.dir.path().join("meter")).unwrap().next().unwrap().unwrap().path());
    let world = World { logs: Logs::open(world.dir.path(), MIN_KEPT).expect("opened"), dir: world.dir };
    write(&world.logs.function("f", false), "second");
    world.logs.shared.ledger.append(&record(RequestId(uuid::Uuid::from_u128(2))));
    assert_eq!(world.read(&Filter::default()), ["first", "second"]);
    let whole = ledger(world.dir.path());
    let whole = whole.lines().filter(|line| serde_json::from_str::<MeterRecord>(line).is_ok()).count();
    assert_eq!(whole, 2);
}

#[test]
fn a_record_is_with_the_kernel_when_report_returns() {
    let world = World::new();
    let log = world.logs.function("f", false);
    let ids: Vec<RequestId> = (0..100).map(|n| RequestId(uuid::Uuid::from_u128(n))).collect();
    for &id in &ids {
        log.report(Timestamp(1), &"stream".into(), record(id));
        assert!(ledger(world.dir.path()).contains(&id.to_string()));
    }
}

#[test]
fn a_disk_that_is_full_costs_records_and_no_answer() {
    let world = World::new();
    let ledger = world.dir.path().join("meter");
    let today = std::fs::read_dir(&ledger).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(&today).expect("removed");
    std::os::unix::fs::symlink("/dev/full", &today).expect("linked");
    let ledger = Ledger::open(ledger).expect("opened");
    (0..3).for_each(|n| ledger.append(&record(RequestId(uuid::Uuid::from_u128(n)))));
    assert_eq!(std::fs::read_link(&today).expect("still a link"), Path::new("/dev/full"));
}

#[test]
fn a_tail_is_the_last_4_kib_of_its_own_invocation_only() {
    let world = World::new();
    let log = world.logs.function("f", false);
    let id = RequestId(uuid::Uuid::from_u128(7));
    let tail = log.tail(id, b"before");
    let say = |request_id, text: &str| {
        let message = bytes::Bytes::copy_from_slice(text.as_bytes());
        log.write(LogEvent { at: Timestamp(1), stream: "s".into(), request_id, message });
    };
    (0..1000).for_each(|n| say(Some(id), &format!("line {n}")));
    say(Some(id), &"y".repeat(5000));
    say(None, "somebody else's");
    say(Some(id), "the end");
    let kept = tail.finish();
    assert_eq!(kept.len(), 4096);
    assert!(kept.ends_with(b"yyy\nthe end\n"));
    drop(log.tail(id, b"before"));
    assert_eq!(log.tail(id, b"").finish().len(), 0, "nothing is left of those that were dropped");
}

#[tokio::test]
async fn a_follower_that_is_too_slow_is_told_how_much_it_missed() {
    let world = World::new();
    let (log, other) = (world.logs.function("f", false), world.logs.function("g", false));
    let mut follower = world.logs.follow("f", Filter::default());
    for _ in 0..40 {
        write(&log, "x".repeat(MAX_MESSAGE));
        write(&other, "not followed");
    }
    world.logs.close();
    let (mut got, mut missed) = (0, 0);
    while let Some(followed) = follower.next().await {
        match followed {
            Followed::Entry(_) => got += 1,
            Followed::Missed(count) => missed += count,
        }
    }
    assert!(got >= 15 && missed > 0, "{got} read, {missed} missed");
    assert_eq!(got + missed, 40);
}
