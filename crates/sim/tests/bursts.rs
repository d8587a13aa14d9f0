//! What a burst must and must not do, in simulated time on two cores.

use policy::PoolConfig;
use sim::scenario::{Function, Workload};
use sim::{Report, Scenario, run};
use std::time::Duration;

/// A start, all of it computing.
const START: Duration = Duration::from_millis(30);

const SHORT: Duration = Duration::from_micros(100);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[track_caller]
fn play(functions: Vec<Function>) -> Report {
    let report = run(&Scenario::quiet(functions, 2)).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(report.finished, report.requests, "every request is answered");
    report
}

/// The same when instances are started at once, as many as are asked for.
#[track_caller]
fn play_unbounded(function: Function) -> Report {
    let mut scenario = Scenario::quiet(vec![function], 2);
    scenario.budget.max_starts = usize::MAX / 2;
    run(&scenario).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn a_burst_of_short_requests_shares_the_first_instances() {
    for size in [128, 1_000] {
        let report = play(vec![Function { service_work: 1.0, ..Function::burst(size, SHORT, START) }]);
        assert!(report.starts <= 8, "{} instances for {size}", report.starts);
        let work = START * report.starts as u32 + SHORT * size;
        assert!(report.response(1.0) <= work, "the last of {size} took {:?}", report.response(1.0));
    }
}

#[test]
fn a_burst_of_long_requests_gets_an_instance_each_as_fast_as_the_machine_can_start_them() {
    let (size, service) = (100, ms(1_000));
    let report = play(vec![Function::burst(size, service, START)]);
    let fastest = START * size / 2;
    let learning = PoolConfig::default().wait_bound;
    let last = report.response(1.0);
    assert!(last <= service + fastest + learning * 2, "the last one took {last:?}");
    assert!(report.unused <= 2, "{} of {} instances for nothing", report.unused, report.starts);
}

#[test]
fn starting_in_turn_is_never_slower_than_starting_all_at_once() {
    for service in [SHORT, ms(1), ms(20), ms(1_000)] {
        for service_work in [0.0, 1.0] {
            let function = Function { service_work, ..Function::burst(128, service, START) };
            let (turns, at_once) = (play(vec![function.clone()]), play_unbounded(function));
            for share in [0.5, 0.9, 0.99] {
                let (turns, at_once) = (turns.response(share), at_once.response(share));
                let name = format!("{share} of requests of {service:?}, {service_work} of it work");
                assert!(turns <= at_once + ms(10), "{name}: {turns:?}, all at once {at_once:?}");
            }
        }
    }
}

#[test]
fn a_burst_does_not_hold_up_the_first_request_of_another_function() {
    for (service, start) in [(ms(1_000), START), (ms(1_000), ms(3_000))] {
        let burst = Function::burst(200, service, start);
        let other = Function { workload: Workload::Poisson(ms(1_000)), ..Function::burst(3, SHORT, START) };
        let alone = play(vec![other.clone()]).response(1.0);
        let both = play(vec![burst, other]);
        // Its first request may meet two starts under way, and then shares two cores with two or three.
        let quick = both.responses.iter().filter(|response| **response <= alone * 4 + ms(50)).count();
        assert!(quick >= 3, "beside a start of {start:?}: {:?}", &both.responses[..8]);
    }
}

#[test]
fn inits_that_wait_are_soon_all_under_way() {
    let (init, service) = (ms(2_000), ms(1_000));
    let report = play(vec![Function { start_work: 0.001, ..Function::burst(100, service, init) }]);
    let last = report.response(1.0);
    assert!(last <= init + service + init / 2, "the last one took {last:?}");
}

#[test]
fn inits_that_compute_for_long_are_not_all_under_way_at_once() {
    let init = ms(2_000);
    let report = play(vec![Function::burst(100, SHORT, init)]);
    assert!(report.response(1.0) <= init * 2, "the last one took {:?}", report.response(1.0));
    assert!(report.starts <= 10, "{} instances", report.starts);
}

#[test]
fn callers_that_come_again_and_again_are_served_by_a_few_instances_when_more_do_not_help() {
    let workload = Workload::Closed(128, Duration::from_micros(20));
    let function =
        Function { service_work: 1.0, workload, requests: 20_000, ..Function::burst(0, SHORT, START) };
    let report = play(vec![function]);
    assert!(report.starts <= 8, "{} instances", report.starts);
    assert!(report.response(0.99) <= ms(15), "p99 {:?}", report.response(0.99));
}

#[test]
fn a_queue_that_more_instances_do_not_shorten_is_given_more_ever_more_seldom() {
    let workload = Workload::Closed(400, Duration::from_micros(20));
    let function =
        Function { service_work: 1.0, workload, requests: 100_000, ..Function::burst(0, SHORT, START) };
    let report = play(vec![function]);
    assert!(report.starts <= 24, "{} instances", report.starts);
    assert!(report.response(0.5) <= SHORT * 400 / 2 + ms(5), "p50 {:?}", report.response(0.5));
}

#[test]
fn as_many_instances_as_keep_the_processors_busy_are_made_for_callers_that_never_pause() {
    for callers in [16, 32] {
        let workload = Workload::Closed(callers, Duration::from_micros(20));
        let function =
            Function { service_work: 0.5, workload, requests: 20_000, ..Function::burst(0, SHORT, START) };
        let report = play(vec![function]);
        let hot = u64::from(PoolConfig::default().hot_instances);
        assert!((hot..=hot + 1).contains(&report.starts), "{} instances for {callers}", report.starts);
    }
}

#[test]
fn a_standing_queue_of_short_requests_that_wait_gets_more_instances() {
    let workload = Workload::Closed(500, Duration::from_micros(20));
    let function = Function { workload, requests: 40_000, ..Function::burst(0, ms(2), START) };
    let report = play(vec![function]);
    let bound = PoolConfig::default().wait_bound;
    assert!(report.response(0.5) <= ms(2) + bound * 2, "p50 {:?}", report.response(0.5));
    assert!(report.starts <= 250, "{} instances", report.starts);
}
