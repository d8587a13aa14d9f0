use super::*;
use crate::keepalive::{History, Policy};

/// Bins of 10 s and a timeout of six of them.
fn learning(policy: Policy) -> PoolConfig {
    PoolConfig { keep_policy: policy, keep_bin: Duration::from_secs(10), ..config() }
}

/// A pool that has served one request, and knows that the function is idle for these times, in seconds.
fn pool_that_knows(policy: Policy, idle: &[u64]) -> (Pool, InstanceKey) {
    let mut pool = Pool::new(learning(policy));
    let mut history = History::new(Time::ZERO);
    idle.iter().for_each(|seconds| _ = history.add(Time::ZERO, (seconds / 10) as usize));
    pool.recall(Time::ZERO, history);
    let commands = step(&mut pool, 0, Event::Arrived { request: RequestKey(1) });
    let [Command::Ask { instance }] = commands[..] else { panic!("{commands:?}") };
    for event in [
        Event::Granted { instance },
        Event::Started { instance },
        Event::Finished { instance, request: RequestKey(1) },
    ] {
        step(&mut pool, 0, event);
    }
    (pool, instance)
}

fn step(pool: &mut Pool, seconds: u64, event: Event) -> Vec<Command> {
    let mut commands = Vec::new();
    pool.step(Time(seconds * 1_000_000_000), event, &mut commands);
    commands
}

/// The next time at which it wants to be woken, in ms, and what it does then.
fn wake(pool: &mut Pool) -> (u64, Vec<Command>) {
    let at = pool.wake_at().expect("something is to be done");
    let mut commands = Vec::new();
    pool.step(at, Event::Wake, &mut commands);
    (at.0 / 1_000_000, commands)
}

#[test]
fn what_nothing_is_known_of_is_kept_as_long_as_with_the_fixed_policy() {
    for policy in [Policy::Fixed, Policy::Hybrid, Policy::Learned] {
        check(
            learning(policy),
            "
            0ms arrived r1
                ask i1
            0ms granted i1
                start i1
            10ms started i1
                dispatch r1 i1
            20ms finished i1 r1
            wake
                at 60020ms
                stop i1
            60025ms lost i1
                release i1
            wake
                never
            ",
        );
    }
}

#[test]
fn an_instance_is_let_go_when_nothing_is_expected_soon_and_there_again_when_something_is() {
    for policy in [Policy::Hybrid, Policy::Learned] {
        let (mut pool, instance) = pool_that_knows(policy, &[300; 20]);
        let (at, commands) = wake_or_now(&mut pool, instance);
        assert!(at < 20_000 && commands == [Command::Stop { instance }], "{policy:?}: {at} {commands:?}");
        step(&mut pool, at / 1_000 + 1, Event::Lost { instance });
        let (at, commands) = wake(&mut pool);
        let [Command::AskAhead { instance: next }] = commands[..] else { panic!("{commands:?}") };
        assert!((200_000..300_000).contains(&at), "{policy:?}: asked for at {at} ms");
        let at = at.div_ceil(1_000);
        assert_eq!(
            step(&mut pool, at, Event::Granted { instance: next }),
            [Command::Start { instance: next }]
        );
        step(&mut pool, at, Event::Started { instance: next });
        assert_eq!(pool.stats().started_ahead, 1);
        let commands = step(&mut pool, 300, Event::Arrived { request: RequestKey(2) });
        assert_eq!(commands, [Command::Dispatch { request: RequestKey(2), instance: next }], "no cold start");
        assert_eq!(pool.stats().used_ahead, 1);
    }
}

/// The instance may have been let go in the very step in which it became idle.
fn wake_or_now(pool: &mut Pool, instance: InstanceKey) -> (u64, Vec<Command>) {
    match pool.stats().stopping {
        1 => (0, vec![Command::Stop { instance }]),
        _ => wake(pool),
    }
}

/// A pool at 300 s of idle time whose instance started ahead is ready.
fn pool_ahead() -> (Pool, InstanceKey) {
    let (mut pool, instance) = pool_that_knows(Policy::Learned, &[300; 20]);
    if pool.stats().stopping == 0 {
        wake(&mut pool);
    }
    step(&mut pool, 20, Event::Lost { instance });
    let (_, commands) = wake(&mut pool);
    let [Command::AskAhead { instance }] = commands[..] else { panic!("{commands:?}") };
    step(&mut pool, 300, Event::Granted { instance });
    step(&mut pool, 300, Event::Started { instance });
    (pool, instance)
}

#[test]
fn an_instance_started_ahead_is_stopped_when_its_window_passes_unused() {
    let (mut pool, instance) = pool_ahead();
    let (at, commands) = wake(&mut pool);
    assert_eq!(commands, [Command::Stop { instance }]);
    assert!((300_000..400_000).contains(&at), "at {at} ms");
    assert_eq!(step(&mut pool, 400, Event::Lost { instance }), [Command::Release { instance }]);
    assert_eq!(pool.wake_at(), None, "nothing else is expected");
    assert_eq!((pool.stats().started_ahead, pool.stats().used_ahead), (1, 0));
}

#[test]
fn an_instance_started_ahead_that_is_reclaimed_or_lost_is_not_replaced_before_the_next_request() {
    let (mut pool, instance) = pool_ahead();
    let commands = step(&mut pool, 301, Event::Reclaim { unused_since: Time(300_500_000_000) });
    assert_eq!(commands[0], Command::Stop { instance });
    step(&mut pool, 301, Event::Lost { instance });
    assert_eq!(pool.wake_at(), None);
    let (mut pool, instance) = pool_ahead();
    assert_eq!(step(&mut pool, 301, Event::Lost { instance }), [Command::Release { instance }]);
    assert_eq!(pool.wake_at(), None);
}

#[test]
fn a_denied_start_ahead_is_tried_again_after_a_pause_and_does_not_hold_up_requests() {
    let (mut pool, instance) = pool_that_knows(Policy::Learned, &[300; 20]);
    if pool.stats().stopping == 0 {
        wake(&mut pool);
    }
    step(&mut pool, 20, Event::Lost { instance });
    let (at, commands) = wake(&mut pool);
    let [Command::AskAhead { instance }] = commands[..] else { panic!("{commands:?}") };
    let denied = at.div_ceil(1_000);
    assert_eq!(step(&mut pool, denied, Event::Denied { instance }), []);
    let (again, commands) = wake(&mut pool);
    assert_eq!(again, denied * 1_000 + 1_000);
    let [Command::AskAhead { instance }] = commands[..] else { panic!("{commands:?}") };
    step(&mut pool, denied + 2, Event::Denied { instance });
    let commands = step(&mut pool, denied + 2, Event::Arrived { request: RequestKey(2) });
    assert!(matches!(commands[..], [Command::Ask { .. }]), "{commands:?}");
}

#[test]
fn a_request_that_comes_while_one_is_started_ahead_waits_for_that_one() {
    let (mut pool, instance) = pool_that_knows(Policy::Learned, &[300; 20]);
    if pool.stats().stopping == 0 {
        wake(&mut pool);
    }
    step(&mut pool, 20, Event::Lost { instance });
    let (_, commands) = wake(&mut pool);
    let [Command::AskAhead { instance }] = commands[..] else { panic!("{commands:?}") };
    assert_eq!(step(&mut pool, 300, Event::Arrived { request: RequestKey(2) }), []);
    assert!(!pool.is_ahead(instance), "somebody waits for it");
    step(&mut pool, 300, Event::Granted { instance });
    let commands = step(&mut pool, 301, Event::Started { instance });
    assert_eq!(commands, [Command::Dispatch { request: RequestKey(2), instance }]);
}

#[test]
fn only_the_last_idle_instance_is_kept_by_what_was_learned() {
    check(
        learning(Policy::Learned),
        "
        0ms arrived r1
            ask i1
        0ms arrived r2
            ask i2
        0ms granted i1
            start i1
        0ms granted i2
            start i2
        10ms started i1
            dispatch r1 i1
        10ms started i2
            dispatch r2 i2
        20ms finished i1 r1
        30ms finished i2 r2
        wake
            at 60020ms
            stop i1
        wake
            at 60030ms
            stop i2
        ",
    );
}
