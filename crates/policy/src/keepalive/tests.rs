use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn minutes(count: u32) -> Duration {
    MINUTE * count
}

/// A policy with a timeout of ten minutes that has seen these idle times, in minutes, one after the other.
fn after(policy: Policy, idle: impl IntoIterator<Item = u32>) -> (KeepAlive, Time) {
    let mut keep = KeepAlive::new(Config { policy, ..Config::default() });
    for idle in idle {
        keep.arrived(Time::ZERO, minutes(idle));
    }
    (keep, Time::ZERO)
}

/// Its windows in minutes, `0-5 58-62`.
fn windows(keep: &mut KeepAlive, now: Time) -> String {
    let mut shown = Vec::new();
    let mut idle = Duration::ZERO;
    while let Some(window) = keep.window(now, idle) {
        assert!(window.until > idle, "{window:?} has passed at {idle:?}");
        let minutes = |span: Duration| span.as_secs_f64() / 60.0;
        shown.push(format!("{}-{}", minutes(window.from), minutes(window.until)));
        idle = window.until;
    }
    shown.join(" ")
}

#[track_caller]
fn check(policy: Policy, idle: impl IntoIterator<Item = u32>, expected: &str) {
    let (mut keep, now) = after(policy, idle);
    assert_eq!(windows(&mut keep, now), expected);
}

#[test]
fn a_function_of_which_nothing_is_known_is_kept_for_the_timeout() {
    for policy in [Policy::Fixed, Policy::Hybrid, Policy::Learned] {
        check(policy, [], "0-10");
    }
}

#[test]
fn the_fixed_policy_learns_nothing() {
    check(Policy::Fixed, [60; 100], "0-10");
    assert!(after(Policy::Fixed, [60; 100]).0.history().is_none());
}

#[test]
fn the_hybrid_window_is_head_less_and_tail_plus_a_tenth() {
    check(Policy::Hybrid, [30; 100], "27-34.1");
    let idle = std::iter::repeat_n(20, 6).chain([30; 90]).chain([50; 4]);
    check(Policy::Hybrid, idle, "18-56.1");
}

#[test]
fn the_hybrid_policy_never_lets_go_what_is_often_called_at_once() {
    check(Policy::Hybrid, [0; 100], "0-1.1");
    check(Policy::Hybrid, std::iter::repeat_n(0, 6).chain([30; 94]), "0-34.1");
}

#[test]
fn the_hybrid_policy_ignores_one_in_a_hundred_at_the_far_end() {
    check(Policy::Hybrid, std::iter::repeat_n(30, 199).chain([200]), "27-34.1");
}

#[test]
fn a_flat_histogram_is_not_representative_and_the_timeout_holds() {
    check(Policy::Hybrid, 0..240, "0-10");
}

#[test]
fn the_hybrid_policy_forecasts_what_is_mostly_out_of_range() {
    check(Policy::Hybrid, [300, 300, 300], "255-345");
    // Once most idle times are within the range again, the histogram counts.
    check(Policy::Hybrid, [300, 300, 30, 30, 30], "27-34.1");
}

#[test]
fn the_learned_policy_is_there_when_the_timer_fires_and_not_between() {
    check(Policy::Learned, [60; 50], "57-64");
    // When it has not fired after all, nothing is known but how functions are in general.
    check(Policy::Learned, [5; 50], "5-10");
}

#[test]
fn the_learned_policy_skips_the_time_between_two_peaks() {
    let idle = (0..100).map(|turn| if turn % 2 == 0 { 2 } else { 120 });
    let (mut keep, now) = after(Policy::Learned, idle);
    let shown = windows(&mut keep, now);
    let [first, second] = shown.split(' ').collect::<Vec<_>>()[..] else { panic!("{shown}") };
    assert_eq!((first, second), ("0-3", "116-127"));
}

#[test]
fn a_longer_timeout_keeps_at_least_what_a_shorter_one_keeps() {
    let idle: Vec<u32> = (0..60).map(|turn| turn * turn % 97).collect();
    let wanted = |timeout: u32| -> Vec<bool> {
        let mut keep =
            KeepAlive::new(Config { policy: Policy::Learned, timeout: minutes(timeout), bin: MINUTE });
        idle.iter().for_each(|&idle| keep.arrived(Time::ZERO, minutes(idle)));
        let there = |keep: &mut KeepAlive, at: u32| {
            keep.window(Time::ZERO, minutes(at)).is_some_and(|window| window.from <= minutes(at))
        };
        (0..240).map(|at| there(&mut keep, at)).collect()
    };
    for (shorter, longer) in [(1, 5), (5, 10), (10, 60), (60, 240)] {
        let pairs = wanted(shorter).into_iter().zip(wanted(longer));
        assert!(pairs.clone().all(|(shorter, longer)| longer || !shorter), "{shorter} and {longer}");
    }
}

#[test]
fn a_daily_timer_is_expected_the_next_day() {
    check(Policy::Learned, [1_440; 20], "1439-1442");
    let (mut keep, now) = after(Policy::Learned, [1_440, 700, 5_000, 1_000]);
    assert!(!windows(&mut keep, now).contains("5001"), "what comes at any time is not waited for");
}

#[test]
fn old_observations_give_way_to_new_ones() {
    let (mut keep, now) = after(Policy::Learned, [60; 50]);
    let now = now + minutes(60 * 24 * 7 * 20);
    for _ in 0..20 {
        keep.arrived(now, minutes(5));
    }
    assert_eq!(windows(&mut keep, now), "5-10");
}

#[test]
fn what_was_seen_long_ago_is_forgotten_even_if_nothing_comes() {
    let (mut keep, now) = after(Policy::Learned, [60; 5]);
    let later = now + minutes(60 * 24 * 7 * 10);
    keep.arrived(later, minutes(0));
    assert_eq!(keep.history().map(History::observations), Some(1));
}

#[test]
fn a_new_bin_width_starts_afresh_and_a_new_timeout_does_not() {
    let (mut keep, now) = after(Policy::Hybrid, [30; 100]);
    keep.reconfigure(Config { policy: Policy::Hybrid, timeout: minutes(20), bin: MINUTE });
    assert_eq!(windows(&mut keep, now), "27-34.1");
    keep.reconfigure(Config { policy: Policy::Hybrid, timeout: minutes(20), bin: MINUTE / 2 });
    assert_eq!(windows(&mut keep, now), "0-20");
}

#[test]
fn what_was_learned_before_is_added_to_what_is_known() {
    let (older, now) = after(Policy::Hybrid, [30; 50]);
    let (mut keep, _) = after(Policy::Hybrid, [30; 50]);
    keep.recall(now, older.history().expect("learned").clone());
    assert_eq!(keep.history().map(History::observations), Some(100));
    assert_eq!(windows(&mut keep, now), "27-34.1");
}

#[test]
fn however_often_it_is_called_it_takes_no_more_memory_than_it_says() {
    let mut history = History::new(Time::ZERO);
    (0..BINS * 10).for_each(|bin| _ = history.add(Time::ZERO, bin));
    assert!(history.bytes() + size_of::<KeepAlive>() <= KeepAlive::MAX_BYTES);
    const { assert!(KeepAlive::MAX_BYTES <= 1_400) };
}

#[test]
fn whatever_was_seen_windows_are_ordered_apart_and_not_empty() {
    // SplitMix64, as in the simulator.
    let mut seed = 7u64;
    let mut random = move |end: u64| {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) % end
    };
    for case in 0..500 {
        let policy = [Policy::Hybrid, Policy::Learned][case % 2];
        let timeout = Duration::from_secs(1 + random(20_000));
        let bin = Duration::from_millis(1 + random(90_000));
        let mut keep = KeepAlive::new(Config { policy, timeout, bin });
        let (mut now, scale) = (Time::ZERO, 1 + random(1 << 36));
        for _ in 0..random(200) {
            let idle = Duration::from_nanos(random(scale).saturating_mul(1 + random(1_000)));
            now = now + idle;
            keep.arrived(now, idle);
        }
        let (mut idle, mut last) = (Duration::ZERO, None);
        while let Some(window) = keep.window(now, idle) {
            assert!(window.from < window.until && window.until > idle, "case {case}: {window:?} at {idle:?}");
            assert!(last.is_none_or(|last| last <= window.from), "case {case}: {window:?} after {last:?}");
            assert_eq!(keep.window(now, window.until - Duration::from_nanos(1)), Some(window), "case {case}");
            (idle, last) = (window.until, Some(window.until));
        }
    }
}
