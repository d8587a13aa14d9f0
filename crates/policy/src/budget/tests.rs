//! Each test is a transcript: an event per line, the commands it caused indented below it. Sizes are MiB.
//!
//! The budget has 100 MiB, headroom 2, and expects 30 of an instance that it knows nothing about. `wake`
//! advances to `wake_at` and feeds `Wake`, and shows when that was, and `wake_idle` says that the processors had time to spare.

use super::*;

fn config() -> BudgetConfig {
    BudgetConfig { estimate: MiB(30), max_starts: 100, ..BudgetConfig::new(MiB(100)) }
}

/// Two starts at once, and room for all.
fn starts() -> BudgetConfig {
    BudgetConfig { max_starts: 2, ..BudgetConfig::new(MiB(1_000)) }
}

/// Runs the events of a transcript and compares all of it.
#[track_caller]
fn check(config: BudgetConfig, transcript: &str) {
    let lines: Vec<_> =
        transcript.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
    let margin = lines.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    let expected: Vec<_> = lines.iter().map(|line| line[margin..].to_string()).collect();
    let mut budget = Budget::new(config.clone());
    let (mut actual, mut now) = (Vec::new(), Time::ZERO);
    for line in expected.iter().filter(|line| !line.starts_with(' ')) {
        actual.push(line.clone());
        actual.extend(play(&mut budget, &config, &mut now, line).iter().map(|line| format!("    {line}")));
    }
    assert!(actual == expected, "got\n{}\nexpected\n{}", actual.join("\n"), expected.join("\n"));
}

fn play(budget: &mut Budget, config: &BudgetConfig, now: &mut Time, line: &str) -> Vec<String> {
    let words: Vec<_> = line.split_whitespace().collect();
    let mut shown = Vec::new();
    let event = match words[..] {
        ["stats"] => {
            let stats = budget.stats();
            let Stats { charged: MiB(charged), returning: MiB(returning), instances, asks, .. } = stats;
            return vec![format!(
                "charged {charged}, returning {returning}, instances {instances}, asks {asks}"
            )];
        }
        ["wake" | "wake_idle"] => {
            let Some(at) = budget.wake_at() else { return vec!["never".into()] };
            assert!(at > *now, "a wake-up that is not in the future would be repeated without end");
            *now = at;
            shown.push(format!("at {}ms", at.0 / 1_000_000));
            Event::Wake { spare: words == ["wake_idle"] }
        }
        [at, ref event @ ..] => {
            *now = millis(at);
            parse(config, event)
        }
        [] => unreachable!(),
    };
    let mut commands = Vec::new();
    budget.step(*now, event, &mut commands);
    shown.extend(commands.iter().map(describe));
    shown
}

fn parse(config: &BudgetConfig, words: &[&str]) -> Event {
    let pool = |name: &str| PoolKey(name[1..].parse().unwrap());
    let instance = |name: &str| InstanceKey(name[1..].parse::<u64>().unwrap() << 32);
    let mib = |text: &str| MiB(text.parse().unwrap());
    match *words {
        ["ask", p, i, limit] => {
            Event::Ask { pool: pool(p), instance: instance(i), limit: mib(limit), descriptors: 4 }
        }
        [ask @ ("ask_ahead" | "ask_firmly"), p, i, limit] => {
            let firm = ask == "ask_firmly";
            Event::AskAhead { pool: pool(p), instance: instance(i), limit: mib(limit), descriptors: 4, firm }
        }
        ["released", p, i] => Event::Released { pool: pool(p), instance: instance(i) },
        ["observed", p, i, used] => Event::Observed { pool: pool(p), instance: instance(i), used: mib(used) },
        ["paged_out", p, i, used] => {
            Event::PagedOut { pool: pool(p), instance: instance(i), used: mib(used) }
        }
        ["thawed", p, i] => Event::Thawed { pool: pool(p), instance: instance(i) },
        ["reclaimed", p, i, oldest] => Event::Reclaimed {
            pool: pool(p),
            instance: (i != "nothing").then(|| instance(i)),
            oldest: (oldest != "none").then(|| millis(oldest)),
        },
        ["kept", used] => Event::Kept { used: mib(used) },
        ["dropped", p] => Event::Dropped { pool: pool(p) },
        ["descriptors", n] => {
            Event::Reconfigured(BudgetConfig { descriptors: n.parse().unwrap(), ..config.clone() })
        }
        ["limit", limit] => Event::Reconfigured(BudgetConfig { limit: mib(limit), ..config.clone() }),
        _ => panic!("no event {words:?}"),
    }
}

fn describe(command: &Command) -> String {
    match command {
        Command::Grant { pool, instance } => format!("grant {pool} {instance}"),
        Command::Deny { pool, instance } => format!("deny {pool} {instance}"),
        Command::GiveUp => "give up".to_owned(),
        Command::Reclaim { pool, unused_since } => {
            format!("reclaim {pool} unused since {}ms", unused_since.0 / 1_000_000)
        }
    }
}

fn millis(text: &str) -> Time {
    Time::from_millis(text.strip_suffix("ms").unwrap().parse().unwrap())
}

#[test]
fn what_instances_use_counts_and_not_their_limits() {
    check(
        config(),
        "
        0ms ask p1 i1 1024
            grant p1 i1
        stats
            charged 32, returning 0, instances 1, asks 0
        5ms observed p1 i1 10
        stats
            charged 12, returning 0, instances 1, asks 0
        5ms ask p1 i2 1024
            grant p1 i2
        stats
            charged 24, returning 0, instances 2, asks 0
        6ms released p1 i1
        6ms released p1 i2
        stats
            charged 0, returning 0, instances 0, asks 0
        ",
    );
}

#[test]
fn an_instance_asked_for_ahead_gets_what_is_free_and_never_waits_or_takes_from_others() {
    check(
        config(),
        "
        0ms ask p1 i1 60
            grant p1 i1
        5ms observed p1 i1 50
        9ms ask_ahead p2 i1 60
            grant p2 i1
        9ms observed p2 i1 30
        99ms ask_ahead p3 i1 60
            deny p3 i1
        wake
            never
        stats
            charged 84, returning 0, instances 2, asks 0
        100ms ask p3 i2 60
            reclaim p1 unused since 0ms
        101ms ask_ahead p4 i1 4
            deny p4 i1
        ",
    );
}

#[test]
fn an_instance_asked_for_ahead_leaves_a_place_for_the_start_of_another() {
    check(
        starts(),
        "
        0ms ask_ahead p1 i1 60
            grant p1 i1
        1ms ask_ahead p2 i1 60
            deny p2 i1
        2ms ask p3 i1 60
            grant p3 i1
        3ms observed p1 i1 10
        4ms ask_ahead p2 i2 60
            deny p2 i2
        5ms observed p3 i1 10
        6ms ask_ahead p2 i3 60
            grant p2 i3
        ",
    );
}

#[test]
fn a_firm_ask_leaves_room_for_one_more_and_has_idle_instances_make_room_for_a_while() {
    // 100 MiB; an instance is expected to use 10, and 2 of headroom.
    check(
        BudgetConfig { estimate: MiB(10), ..config() },
        "
        0ms ask p1 i1 60
            grant p1 i1
        5ms observed p1 i1 85
        20ms ask_firmly p2 i1 60
            deny p2 i1
            reclaim p1 unused since 0ms
        21ms reclaimed p1 i1 none
        22ms released p1 i1
        120ms ask_firmly p2 i2 60
            grant p2 i2
        ",
    );
    check(
        BudgetConfig { estimate: MiB(10), ..config() },
        "
        0ms ask p1 i1 60
            grant p1 i1
        5ms observed p1 i1 85
        20ms ask_firmly p2 i1 60
            deny p2 i1
            reclaim p1 unused since 0ms
        21ms reclaimed p1 nothing none
        700ms kept 0
        wake
            never
        ",
    );
}

#[test]
fn an_instance_is_not_expected_to_use_more_than_its_own_limit() {
    check(
        config(),
        "
        0ms ask p1 i1 8
            grant p1 i1
        stats
            charged 10, returning 0, instances 1, asks 0
        ",
    );
}

#[test]
fn the_estimate_of_a_pool_rises_at_once_and_falls_slowly() {
    check(
        config(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        1ms observed p1 i1 40
        2ms observed p1 i1 8
        3ms ask p1 i2 128
            grant p1 i2
        stats
            charged 48, returning 0, instances 2, asks 0
        ",
    );
}

#[test]
fn asks_that_do_not_fit_wait_in_order_and_a_small_one_does_not_overtake() {
    check(
        config(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        1ms observed p1 i1 80
        1ms ask p2 i1 128
        1ms ask p3 i1 4
        stats
            charged 82, returning 0, instances 1, asks 2
        2ms released p1 i1
            grant p2 i1
            grant p3 i1
        ",
    );
}

#[test]
fn what_is_learned_while_asks_wait_applies_to_them() {
    check(
        BudgetConfig { estimate: MiB(64), ..config() },
        "
        0ms ask p1 i1 128
            grant p1 i1
        0ms ask p1 i2 128
        0ms ask p1 i3 128
        20ms observed p1 i1 10
            grant p1 i2
            grant p1 i3
        ",
    );
}

#[test]
fn too_many_asks_are_denied() {
    check(
        BudgetConfig { max_asks: 1, ..config() },
        "
        0ms ask p1 i1 128
            grant p1 i1
        1ms observed p1 i1 90
        1ms ask p2 i1 128
        1ms ask p2 i2 128
            deny p2 i2
        ",
    );
}

#[test]
fn an_ask_that_is_withdrawn_no_longer_waits() {
    check(
        config(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        1ms observed p1 i1 90
        1ms ask p2 i1 128
        2ms released p2 i1
        stats
            charged 92, returning 0, instances 1, asks 0
        ",
    );
}

#[test]
fn an_instance_larger_than_the_machine_runs_when_it_is_alone() {
    check(
        BudgetConfig { estimate: MiB(500), ..config() },
        "
        0ms ask p1 i1 1024
            grant p1 i1
        stats
            charged 100, returning 0, instances 1, asks 0
        0ms ask p1 i2 1024
        ",
    );
}

#[test]
fn memory_comes_back_from_the_instance_that_has_been_idle_for_longest() {
    check(
        config(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        1ms observed p1 i1 40
        5ms ask p2 i1 128
            grant p2 i1
        6ms observed p2 i1 40
        50ms ask p3 i1 128
            reclaim p1 unused since 0ms
        50ms reclaimed p1 nothing 40ms
            reclaim p2 unused since 5ms
        50ms reclaimed p2 nothing 20ms
            reclaim p2 unused since 20ms
        50ms reclaimed p2 i1 none
        stats
            charged 84, returning 42, instances 2, asks 1
        52ms released p2 i1
            grant p3 i1
        ",
    );
}

#[test]
fn nothing_is_reclaimed_that_was_used_just_now() {
    check(
        config(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        1ms observed p1 i1 90
        100ms ask p2 i1 128
            reclaim p1 unused since 0ms
        100ms reclaimed p1 nothing 95ms
        wake
            at 105ms
            reclaim p1 unused since 95ms
        105ms reclaimed p1 i1 none
        ",
    );
}

#[test]
fn busy_pools_are_asked_again_later_for_as_long_as_memory_is_short() {
    check(
        config(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        1ms observed p1 i1 90
        100ms ask p2 i1 128
            reclaim p1 unused since 0ms
        100ms reclaimed p1 nothing none
        wake
            at 110ms
            reclaim p1 unused since 100ms
        110ms reclaimed p1 nothing none
        111ms released p2 i1
        wake
            never
        ",
    );
}

#[test]
fn instances_that_grow_beyond_the_limit_cost_an_idle_one() {
    check(
        config(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        0ms ask p2 i1 128
            grant p2 i1
        30ms observed p1 i1 120
            reclaim p1 unused since 0ms
        30ms reclaimed p1 nothing none
            reclaim p2 unused since 0ms
        30ms reclaimed p2 i1 none
        stats
            charged 154, returning 32, instances 2, asks 0
        ",
    );
}

#[test]
fn a_smaller_limit_reclaims_what_is_idle() {
    check(
        config(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        30ms limit 10
            reclaim p1 unused since 0ms
        ",
    );
}

#[test]
fn what_is_kept_ahead_counts_and_is_given_up_before_any_instance() {
    check(
        config(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        1ms observed p1 i1 40
        50ms kept 30
        51ms ask p2 i1 128
            give up
        51ms kept 27
            give up
        52ms kept 0
            grant p2 i1
        ",
    );
}

#[test]
fn what_cannot_be_given_up_is_not_waited_for() {
    check(
        config(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        1ms observed p1 i1 40
        50ms kept 30
        51ms ask p2 i1 128
            give up
        51ms kept 30
            reclaim p1 unused since 0ms
        51ms reclaimed p1 i1 none
        52ms released p1 i1
            grant p2 i1
        ",
    );
}

#[test]
fn a_dropped_pool_takes_its_instances_and_asks_with_it() {
    check(
        config(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        1ms observed p1 i1 90
        1ms ask p1 i2 128
        1ms ask p2 i1 128
        2ms dropped p1
            grant p2 i1
        stats
            charged 32, returning 0, instances 1, asks 0
        ",
    );
}

#[test]
fn an_interval_of_zero_does_not_make_budget_and_pools_talk_without_end() {
    check(
        BudgetConfig { min_idle: Duration::ZERO, ..config() },
        "
        0ms ask p1 i1 128
            grant p1 i1
        1ms observed p1 i1 90
        5ms ask p2 i1 128
            reclaim p1 unused since 0ms
        5ms reclaimed p1 nothing none
        wake
            at 6ms
            reclaim p1 unused since 5ms
        ",
    );
}

#[test]
fn descriptors_are_shared_out_like_memory_and_the_longest_idle_instance_gives_way() {
    check(
        BudgetConfig { descriptors: 11, ..config() },
        "
        0ms ask p1 i1 8
            grant p1 i1
        0ms ask p2 i1 8
            grant p2 i1
        20ms ask p3 i1 8
            reclaim p1 unused since 0ms
        20ms reclaimed p1 i1 none
        25ms released p1 i1
            grant p3 i1
        stats
            charged 20, returning 0, instances 2, asks 0
        ",
    );
}

#[test]
fn descriptors_that_were_taken_away_are_got_back_from_idle_instances() {
    check(
        config(),
        "
        0ms ask p1 i1 8
            grant p1 i1
        0ms ask p1 i2 8
            grant p1 i2
        20ms descriptors 7
            reclaim p1 unused since 0ms
        20ms reclaimed p1 i1 15ms
        21ms released p1 i1
        wake
            never
        ",
    );
}

#[test]
fn an_instance_that_may_hold_more_descriptors_than_there_are_runs_alone() {
    check(
        BudgetConfig { descriptors: 3, ..config() },
        "
        0ms ask p1 i1 8
            grant p1 i1
        0ms ask p2 i1 8
        wake
            at 10ms
            reclaim p1 unused since 0ms
        ",
    );
}

#[test]
fn who_is_refused_can_be_told_which_of_the_two_ran_out() {
    let mut budget = Budget::new(BudgetConfig { descriptors: 8, ..config() });
    let (pool, instance, limit) = (PoolKey(1), InstanceKey(0), MiB(1));
    assert!(!budget.lacks_descriptors(8));
    budget.step(Time::ZERO, Event::Ask { pool, instance, limit, descriptors: 4 }, &mut Vec::new());
    assert!(!budget.lacks_descriptors(4));
    assert!(budget.lacks_descriptors(5));
}

#[test]
fn as_many_instances_start_at_once_as_may_and_the_next_when_one_has_started_or_failed() {
    check(
        starts(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        0ms ask p1 i2 128
            grant p1 i2
        0ms ask p1 i3 128
        0ms ask p1 i4 128
        0ms ask p1 i5 128
        20ms observed p1 i2 10
            grant p1 i3
        21ms observed p1 i2 10
        22ms released p1 i1
            grant p1 i4
        23ms released p1 i2
        ",
    );
}

#[test]
fn an_ask_that_is_taken_back_before_its_start_costs_nothing() {
    check(
        starts(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        0ms ask p1 i2 128
            grant p1 i2
        0ms ask p1 i3 128
        0ms ask p1 i4 128
        10ms released p1 i4
        10ms released p1 i3
        20ms observed p1 i1 10
        20ms observed p1 i2 10
        wake
            never
        ",
    );
}

#[test]
fn pools_take_turns_at_starting() {
    check(
        starts(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        0ms ask p1 i2 128
            grant p1 i2
        0ms ask p1 i3 128
        0ms ask p1 i4 128
        1ms ask p2 i1 128
        1ms ask p2 i2 128
        2ms ask p3 i1 128
        20ms observed p1 i1 10
            grant p1 i3
        20ms observed p1 i2 10
            grant p2 i1
        20ms observed p1 i3 10
            grant p3 i1
        20ms observed p2 i1 10
            grant p1 i4
        20ms observed p3 i1 10
            grant p2 i2
        ",
    );
}

#[test]
fn starts_that_wait_while_the_processors_are_idle_make_room_for_as_many_again() {
    check(
        starts(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        0ms ask p1 i2 128
            grant p1 i2
        0ms ask p1 i3 128
        0ms ask p1 i4 128
        0ms ask p1 i5 128
        0ms ask p1 i6 128
        0ms ask p1 i7 128
        wake_idle
            at 50ms
            grant p1 i3
            grant p1 i4
            grant p1 i5
            grant p1 i6
        60ms observed p1 i1 10
        60ms observed p1 i2 10
        61ms observed p1 i3 10
        61ms observed p1 i4 10
        61ms observed p1 i5 10
            grant p1 i7
        ",
    );
}

#[test]
fn a_start_that_computes_for_long_keeps_its_own_pool_waiting_and_no_other() {
    check(
        starts(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        0ms ask p1 i2 128
            grant p1 i2
        0ms ask p1 i3 128
        10ms ask p2 i1 128
        10ms ask p2 i2 128
        wake
            at 50ms
            grant p2 i1
        60ms ask p3 i1 128
            grant p3 i1
        61ms ask p4 i1 128
        70ms observed p2 i1 10
            grant p2 i2
        71ms observed p3 i1 10
            grant p4 i1
        ",
    );
}

#[test]
fn a_start_that_never_ends_does_not_count_for_ever() {
    check(
        BudgetConfig { max_starts: 1, start_patience: Duration::from_millis(500), ..starts() },
        "
        0ms ask p1 i1 128
            grant p1 i1
        0ms ask p1 i2 128
        9999ms ask p2 i1 128
            grant p2 i1
        9999ms observed p2 i1 10
        wake
            at 10499ms
            grant p1 i2
        ",
    );
}

#[test]
fn what_may_not_start_yet_costs_no_idle_instance() {
    check(
        BudgetConfig { max_starts: 1, ..config() },
        "
        0ms ask p1 i1 128
            grant p1 i1
        1ms observed p1 i1 40
        30ms ask p2 i1 128
            grant p2 i1
        30ms ask p2 i2 128
        40ms observed p2 i1 40
            reclaim p1 unused since 0ms
        ",
    );
}

#[test]
fn memory_that_was_pushed_out_is_there_for_others_until_it_is_needed_again() {
    check(
        config(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        0ms observed p1 i1 78
        1000ms paged_out p1 i1 3
        stats
            charged 3, returning 0, instances 1, asks 0
        1000ms ask p2 i1 128
            grant p2 i1
        1001ms observed p2 i1 40
        2000ms paged_out p1 i1 2
        stats
            charged 44, returning 0, instances 2, asks 0
        3000ms thawed p1 i1
            reclaim p1 unused since 0ms
        stats
            charged 122, returning 0, instances 2, asks 0
        3000ms reclaimed p1 nothing none
            reclaim p2 unused since 1000ms
        3000ms reclaimed p2 i1 1001ms
        3000ms released p2 i1
        stats
            charged 80, returning 0, instances 1, asks 0
        ",
    );
}

#[test]
fn what_is_left_of_a_paged_out_instance_says_nothing_about_the_next_one() {
    check(
        config(),
        "
        0ms ask p1 i1 128
            grant p1 i1
        0ms observed p1 i1 40
        1000ms paged_out p1 i1 1
        1000ms ask p1 i2 128
            grant p1 i2
        stats
            charged 43, returning 0, instances 2, asks 0
        1000ms thawed p1 i1
        stats
            charged 84, returning 0, instances 2, asks 0
        1000ms thawed p1 i2
        stats
            charged 84, returning 0, instances 2, asks 0
        ",
    );
}
