//! Hundreds of machines, each with its own functions, limits and misfortunes.
//!
//! `BROOKLET_SIM_SEED=n` plays one seed, `BROOKLET_SIM_SEEDS=n` the first n instead of 400. A seed that ever
//! failed goes into `regressions.txt`.

use sim::{Report, Scenario, run};

/// Plays the scenario of a seed.
#[track_caller]
fn play(seed: u64) -> Report {
    run(&Scenario::from_seed(seed)).unwrap_or_else(|failure| panic!("{failure}"))
}

/// A number from the environment.
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Plays the scenario of a seed with pools that learn.
#[track_caller]
fn learn(seed: u64) -> Report {
    run(&Scenario::learning_from_seed(seed)).unwrap_or_else(|failure| panic!("{failure} (learning)"))
}

/// Plays the scenario of a seed with provisioned instances.
#[track_caller]
fn provide(seed: u64) -> Report {
    run(&Scenario::provisioned_from_seed(seed)).unwrap_or_else(|failure| panic!("{failure} (provisioned)"))
}

/// Instances that are there for hours take long to play: of many seeds, one in four has some.
fn play_all(seed: u64, is_one: bool) {
    drop((play(seed), learn(seed)));
    if is_one || seed.is_multiple_of(4) {
        provide(seed);
    }
}

#[test]
fn every_rule_holds_after_every_step_whatever_goes_wrong() {
    let seeds = match variable("BROOKLET_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("BROOKLET_SIM_SEEDS").unwrap_or(400),
    };
    let is_one = seeds.end - seeds.start == 1;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let seeds = seeds.clone().skip(thread).step_by(threads);
            scope.spawn(move || seeds.for_each(|seed| play_all(seed, is_one)));
        }
    });
}

#[test]
fn seeds_that_once_failed_no_longer_do() {
    for line in include_str!("../regressions.txt").lines() {
        let seed = line.split('#').next().unwrap_or_default().trim();
        if !seed.is_empty() {
            let seed = seed.parse().expect("a seed is a number");
            play(seed);
            learn(seed);
            provide(seed);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    for seed in 0..20 {
        assert_eq!(play(seed), play(seed), "seed {seed}");
        assert_ne!(play(seed).digest, play(seed + 1).digest, "seed {seed}");
    }
}

#[test]
fn instances_are_started_ahead_used_and_stopped_unused() {
    let reports: Vec<_> = (0..60).map(learn).collect();
    let started: u64 = reports.iter().map(|report| report.started_ahead).sum();
    let used: u64 = reports.iter().map(|report| report.used_ahead).sum();
    assert!(used > 200 && started > used + 50, "{started} started ahead, {used} used");
}

#[test]
fn requests_run_on_provisioned_instances_and_on_others_beside_them() {
    let reports: Vec<_> = (0..60).map(provide).collect();
    let provided: u64 = reports.iter().map(|report| report.provided).sum();
    let starts: u64 = reports.iter().map(|report| report.starts).sum();
    let used: u64 = reports.iter().map(|report| report.on_provided).sum();
    assert!(provided > 300 && starts > provided + 300, "{provided} of {starts} starts are provisioned");
    assert!(used > 1_000, "{used} requests ran on them");
}

#[test]
fn the_seeds_reach_every_kind_of_end() {
    let mut total = Report::default();
    for report in (0..60).map(play) {
        total.throttled += report.throttled;
        total.finished += report.finished;
        total.crashed += report.crashed;
        total.failed += report.failed;
        total.refused += report.refused;
        total.abandoned += report.abandoned;
        total.reclaims += report.reclaims;
    }
    let ends = [total.throttled, total.finished, total.crashed, total.failed, total.refused, total.abandoned];
    assert!(ends.iter().chain([&total.reclaims]).all(|&count| count > 50), "{total:?}");
}

#[test]
fn instances_are_frozen_paged_out_thawed_and_sometimes_cannot_be() {
    let mut total = Report::default();
    for report in (0..60).map(play) {
        total.frozen += report.frozen;
        total.paged_out += report.paged_out;
        total.thawed += report.thawed;
        total.thaws_failed += report.thaws_failed;
    }
    let counts = [total.frozen, total.paged_out, total.thawed, total.thaws_failed];
    assert!(counts.iter().all(|&count| count > 20), "{counts:?}");
    assert!(total.frozen > total.thawed + 50, "some are never used again: {counts:?}");
}
