//! Traces are read for what they are, mistakes in them are named, and policies cost what can be worked out by hand.

use policy::keepalive::{Config, Policy};
use sim::replay::{Invocation, Profile, Replay};
use sim::tally::{Tally, relative};
use sim::trace::{Assumed, Shape, Synthetic, Trace};
use std::path::{Path, PathBuf};
use std::time::Duration;

const START: Duration = Duration::from_millis(200);

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

fn fixed(timeout: Duration) -> Config {
    Config::fixed(timeout)
}

fn learned(timeout: Duration) -> Config {
    Config { policy: Policy::Learned, timeout, ..Config::default() }
}

/// A function called again and again, each time for a second.
fn replay(keep: Config, gap: Duration, count: u32) -> Tally {
    let profile = Profile { memory_mib: 1_024.0, start: START, concurrency: 1 };
    let (mut replay, mut tally) = (Replay::new(profile, keep), Tally::default());
    for number in 0..count {
        let invocation = Invocation { at: model::Time::ZERO + gap * number, takes: Duration::from_secs(1) };
        replay.invoke(invocation, &mut |wait, takes| tally.began(wait, takes));
    }
    let outcome = replay.finish(model::Time::ZERO + gap * count, &mut |wait, takes| tally.began(wait, takes));
    tally.add(&profile, &outcome);
    tally
}

#[test]
fn a_timeout_longer_than_the_gap_costs_one_cold_start_and_all_the_time_between() {
    let tally = replay(fixed(minutes(10)), minutes(5), 100);
    assert_eq!((tally.total.cold, tally.total.starts), (1, 1));
    // The first one comes 0.2 s late.
    let idle = 100.0 * 299.0 - 0.2;
    assert!((tally.idle_gb_s - idle).abs() < 1e-6 && tally.busy_gb_s == 100.0, "{}", tally.idle_gb_s);
    assert!(tally.wait.percentile(0.5).is_zero() && tally.wait.percentile(1.0) >= START);
}

#[test]
fn a_timeout_shorter_than_the_gap_costs_a_cold_start_each_time_and_itself() {
    let tally = replay(fixed(minutes(5)), minutes(10), 100);
    assert_eq!((tally.total.cold, tally.total.starts), (100, 100));
    assert!((tally.idle_gb_s - 100.0 * 300.0).abs() < 1e-6, "{}", tally.idle_gb_s);
    assert!(tally.latency.percentile(0.5) >= START + Duration::from_secs(1));
}

#[test]
fn what_is_learned_of_a_timer_saves_its_cold_starts_and_nearly_all_of_its_idle_memory() {
    let tally = replay(learned(minutes(10)), minutes(60), 200);
    assert!(tally.total.cold <= 3, "{} cold starts", tally.total.cold);
    let always = 200.0 * 3_599.0;
    assert!(tally.idle_gb_s < always * 0.15, "{} of {always}", tally.idle_gb_s);
    assert!(tally.total.ahead_used >= 197, "{} of {}", tally.total.ahead_used, tally.total.ahead);
}

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sample")
}

fn play(trace: &Trace, policies: &[Config]) -> Result<Vec<Tally>, String> {
    sim::study(trace, &Assumed::default(), policies).map_err(|error| error.to_string())
}

#[test]
fn every_invocation_of_a_sample_is_played_whatever_the_policy() {
    let trace = Trace::at(&sample()).expect("a trace");
    let text = std::fs::read_to_string(sample().join("invocations.csv")).expect("read");
    let counts =
        text.lines().skip(1).flat_map(|line| line.split(',').skip(4)).map(|field| field.parse::<u64>());
    let all: u64 = counts.map(|count| count.expect("a number")).sum();
    for tally in play(&trace, &sim::replay::policies()).expect("played") {
        assert_eq!((tally.total.invocations, tally.total.refused), (all, 0));
        assert!(tally.total.cold >= 1 && tally.total.cold <= all);
    }
}

#[test]
fn the_same_trace_gives_the_same_numbers() {
    let trace = Trace::at(&sample()).expect("a trace");
    let run = || play(&trace, &[learned(minutes(10))]).expect("played").remove(0).total;
    assert_eq!(run(), run());
}

#[test]
fn a_longer_timeout_never_costs_more_cold_starts() {
    let trace = Trace::at(&sample()).expect("a trace");
    for policy in [Policy::Fixed, Policy::Learned] {
        let of = |timeout| Config { policy, timeout: minutes(timeout), ..Config::default() };
        let tallies = play(&trace, &[1, 5, 20, 60, 240].map(of)).expect("played");
        let cold: Vec<u64> = tallies.iter().map(|tally| tally.total.cold).collect();
        assert!(cold.is_sorted_by(|a, b| a >= b), "{policy:?}: {cold:?}");
    }
}

/// The mean, over two timeouts, of the cold starts in relation to a fixed timeout that costs the same memory.
fn learned_against_fixed(shape: Shape) -> f64 {
    let trace = Trace::Synthetic(Synthetic { functions: 40, hours: 24, seed: 11, shape });
    let (baselines, timeouts) = ([5, 10, 20, 60].map(minutes), [10, 20].map(minutes));
    let policies = [&baselines.map(fixed)[..], &timeouts.map(learned)[..]].concat();
    let tallies = play(&trace, &policies).expect("played");
    let (fixed, learned) = tallies.split_at(baselines.len());
    learned.iter().map(|learned| relative(fixed, learned)).sum::<f64>() / timeouts.len() as f64
}

#[test]
fn where_calls_have_a_pattern_what_is_learned_saves_cold_starts_at_the_same_memory() {
    for (shape, most) in
        [(Shape::Paper, 0.9), (Shape::Timers, 0.6), (Shape::Rare, 0.8), (Shape::Changing, 1.0)]
    {
        let relative = learned_against_fixed(shape);
        assert!(relative < most, "{shape:?}: {relative:.2} of the cold starts of a fixed timeout");
    }
}

#[test]
fn where_calls_have_no_pattern_what_is_learned_costs_little() {
    for shape in [Shape::Random, Shape::Bursty] {
        let relative = learned_against_fixed(shape);
        assert!(relative < 1.15, "{shape:?}: {relative:.2} of the cold starts of a fixed timeout");
    }
}

#[test]
fn a_made_up_trace_has_the_published_distributions() {
    #[derive(Default)]
    struct Count {
        memory: Vec<f64>,
        invocations: Vec<u64>,
        averages: Vec<f64>,
    }
    impl sim::trace::Sink for Count {
        fn open(&mut self, profile: Profile) -> usize {
            self.memory.push(profile.memory_mib);
            self.invocations.push(0);
            self.averages.push(0.0);
            self.memory.len() - 1
        }
        fn invoke(&mut self, function: usize, invocation: Invocation) {
            self.invocations[function] += 1;
            self.averages[function] += invocation.takes.as_secs_f64();
        }
        fn close(&mut self, _: usize, _: model::Time) {}
    }
    let mut count = Count::default();
    let synthetic = Synthetic { functions: 600, hours: 24, seed: 3, shape: Shape::Paper };
    Trace::Synthetic(synthetic).play(&Assumed::default(), &mut count).expect("made up");
    let share = |condition: &dyn Fn(usize) -> bool| (0..600).filter(|&f| condition(f)).count() as f64 / 600.0;
    let near = |found: f64, wanted: f64, what: &str| {
        assert!((found - wanted).abs() < 0.08, "{what}: {found:.2}, published {wanted}");
    };
    near(share(&|f| count.invocations[f] <= 24), 0.45, "at most once an hour");
    near(share(&|f| count.invocations[f] <= 1_440), 0.81, "at most once a minute");
    // Burr XII: half of the functions use less than λ·(2^(1/k) - 1)^(1/c).
    near(share(&|f| count.memory[f] <= 139.0), 0.5, "memory below its median");
    let called: Vec<usize> = (0..600).filter(|&f| count.invocations[f] > 0).collect();
    let below = called.iter().filter(|&&f| count.averages[f] / count.invocations[f] as f64 <= 0.684).count();
    near(below as f64 / called.len() as f64, 0.5, "execution time below its median");
}

/// What is said of a folder with these files.
#[track_caller]
fn check(files: &[(&str, &str)], expected: &str) {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }
    let trace = Trace::at(dir.path()).map_err(|error| error.to_string());
    let said = trace.and_then(|trace| play(&trace, &[fixed(minutes(10))])).map(|tallies| {
        format!("{} invocations, {} cold", tallies[0].total.invocations, tallies[0].total.cold)
    });
    let said = said.unwrap_or_else(|error| error.replace(&format!("{}", dir.path().display()), "DIR"));
    assert_eq!(said, expected);
}

const HEAD: &str = "HashOwner,HashApp,HashFunction,Trigger,1,2,3\n";

#[test]
fn mistakes_in_a_trace_are_named_with_file_line_and_column() {
    let table = |rows: &str| format!("{HEAD}{rows}");
    let of = |rows: &str, expected: &str| check(&[("i.csv", &table(rows))], expected);
    of("o,a,f,http,1,x,0\n", "DIR/i.csv:2:6: `x` is not a number of invocations");
    of("o,a,f,http,1,0,0\no,a,g,http,1,-1,0\n", "DIR/i.csv:3:6: `-1` is not a number of invocations");
    of("o,a,f,http,1,0\n", "DIR/i.csv:2:7: 6 fields, and the first line has 7");
    let too_many = "DIR/i.csv:2:7: `99999999999` are more than the 10000000 of one minute that can be played";
    of("o,a,f,http,1,0,99999999999\n", too_many);
    check(&[("i.csv", &"x".repeat(2 << 20))], "DIR/i.csv:1: is longer than 1 MiB");
    of("o,a,f,http,1,0,0,9\n", "DIR/i.csv:2:8: 8 fields, and the first line has 7");
    check(
        &[],
        "DIR: there is no trace in it: neither .csv files in Azure's layout nor meter records (meter/*.ndjson)",
    );
    check(
        &[("i.csv", "a,b\n1,2\n")],
        "DIR/i.csv: is not a table of invocations: its first line must be HashOwner,HashApp,HashFunction,Trigger,1,2,3…",
    );
    let durations = "HashOwner,HashApp,HashFunction,Average,percentile_Average_0,percentile_Average_100\no,a,f,1,2,long\n";
    check(
        &[("i.csv", &table("o,a,f,http,1,0,0\n")), ("durations.csv", durations)],
        "DIR/durations.csv:2:6: `long` is not a number of at least 0",
    );
    check(
        &[("meter/2027-01-15.ndjson", "{\"request_id\": 1}\n")],
        "DIR/meter/2027-01-15.ndjson:1:16: is not a meter record: invalid type: integer `1`, expected a formatted UUID string",
    );
    check(
        &[("meter/2027-01-15.ndjson", "")],
        "DIR/meter/2027-01-15.ndjson: has no record: nothing was invoked",
    );
}

#[test]
fn days_follow_each_other_and_functions_may_come_and_go() {
    let day = |rows: &str| format!("{HEAD}{rows}");
    let first = day("o,a,timer,timer,1,0,0\no,a,gone,http,2,0,0\n");
    let second = day("o,a,new,http,0,0,3\r\no,a,timer,timer,1,0,0\r\n");
    check(&[("d01.csv", &first), ("d02.csv", &second)], "7 invocations, 3 cold");
}

#[test]
fn memory_can_be_told_by_application() {
    let table = format!("{HEAD}o,a,f,http,1,0,0\n");
    let memory = "HashOwner,HashApp,SampleCount,AverageAllocatedMb\no,a,9,512\n";
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("i.csv"), table).expect("written");
    std::fs::write(dir.path().join("m.csv"), memory).expect("written");
    let tally =
        play(&Trace::at(dir.path()).expect("a trace"), &[fixed(Duration::from_secs(10))]).expect("played");
    assert!((tally[0].idle_gb_s - 5.0).abs() < 1e-6, "{}", tally[0].idle_gb_s);
}

#[test]
fn records_are_played_in_the_order_in_which_requests_came() {
    let record = |started: u64, us: u64, init: &str| {
        format!(
            "{{\"request_id\":\"00000000-0000-0000-0000-000000000000\",\"function\":\"f\",\"version\":\"$LATEST\",\"stream\":\"s\",\
             \"started\":{started},\"status\":\"success\",\"duration_us\":{us},\"billed_ms\":1,{init}\"memory\":128,\"max_memory\":64}}\n"
        )
    };
    // The long one ends last and came first; the last line is torn.
    let text =
        record(1_005_000, 1_000, "") + &record(1_000_050, 60_000_000, "\"init_us\":50000,") + "{\"requ";
    check(&[("meter/2027-01-15.ndjson", &text)], "2 invocations, 2 cold");
}
