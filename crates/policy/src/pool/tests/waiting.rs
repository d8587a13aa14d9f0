//! When a request waits for a busy instance, and when others are asked for.

use super::*;

#[test]
fn a_short_wait_for_a_busy_instance_beats_a_start_and_has_a_bound() {
    check(
        patient(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        21ms finished i1 r1
        warm 8 1ms
            until 29ms
        40ms arrived r2
            dispatch r2 i1
        40ms arrived r3
        wake
            at 50ms
            ask i2
        ",
    );
}

#[test]
fn a_wait_longer_than_a_start_is_not_waited_for() {
    check(
        patient(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        21ms finished i1 r1
        warm 30 15ms
            until 471ms
        480ms arrived r2
            dispatch r2 i1
        480ms arrived r3
            ask i2
        ",
    );
}

#[test]
fn the_first_request_has_the_bound_to_show_that_it_is_short_and_then_asks_are_taken_back() {
    check(
        patient(),
        "
        0ms arrived r1
            ask i1
        0ms arrived r2
            ask i2
        0ms arrived r3
            ask i3
        0ms granted i1
            start i1
        30ms started i1
            dispatch r1 i1
            release i3
            release i2
        31ms finished i1 r1
            dispatch r2 i1
        32ms finished i1 r2
            dispatch r3 i1
        ",
    );
}

#[test]
fn when_the_first_request_turns_out_to_be_long_each_that_waits_gets_an_instance() {
    check(
        patient(),
        "
        0ms arrived r1
            ask i1
        0ms arrived r2
            ask i2
        0ms arrived r3
            ask i3
        0ms granted i1
            start i1
        30ms started i1
            dispatch r1 i1
            release i3
            release i2
        wake
            at 40ms
            ask i4
            ask i5
        41ms arrived r4
            ask i6
        41ms granted i4
            start i4
        71ms started i4
            dispatch r2 i4
        ",
    );
}

#[test]
fn a_burst_of_short_requests_that_is_over_before_a_start_starts_nothing() {
    check(
        patient(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        50ms started i1
            dispatch r1 i1
        51ms finished i1 r1
        warm 8 1ms
            until 59ms
        60ms burst 40
            1 × dispatch
        serve 40 1ms
            39 × dispatch
        stats
            idle 1
        ",
    );
}

#[test]
fn a_queue_that_stands_for_as_long_as_a_start_takes_is_no_burst() {
    check(
        PoolConfig { hot_instances: 1, ..patient() },
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        50ms started i1
            dispatch r1 i1
        51ms finished i1 r1
        warm 8 1ms
            until 59ms
        60ms burst 40
            1 × dispatch
        serve 25 1ms
            25 × dispatch
        85ms burst 30
        serve 24 1ms
            24 × dispatch
        serve 1 1ms
            1 × ask
            1 × dispatch
        serve 10 1ms
            10 × dispatch
            1 × release
        ",
    );
}

#[test]
fn as_many_instances_as_keep_the_processors_busy_come_for_a_shorter_queue_that_stands() {
    check(
        PoolConfig { hot_instances: 3, wait_bound: Duration::from_millis(90), ..patient() },
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        50ms started i1
            dispatch r1 i1
        51ms finished i1 r1
        warm 8 1ms
            until 59ms
        60ms burst 50
            1 × dispatch
        serve 45 1ms
            45 × dispatch
        105ms burst 40
        serve 4 1ms
            4 × dispatch
        serve 1 1ms
            2 × ask
            1 × dispatch
        serve 40 1ms
            39 × dispatch
            2 × release
        ",
    );
}

#[test]
fn when_nothing_ends_for_the_bound_each_that_has_waited_so_long_gets_an_instance() {
    check(
        patient(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        50ms started i1
            dispatch r1 i1
        51ms finished i1 r1
        warm 8 1ms
            until 59ms
        60ms burst 4
            1 × dispatch
        61ms finished i1 r10000
            dispatch r10001 i1
        62ms arrived r2
        wake
            at 71ms
            ask i2
            ask i3
        wake
            at 72ms
            ask i4
        73ms finished i1 r10001
            dispatch r10002 i1
            release i4
            release i3
            release i2
        ",
    );
}

#[test]
fn no_request_waits_longer_than_the_limit_before_an_instance_is_asked_for() {
    check(
        PoolConfig {
            start_estimate: Duration::from_secs(9),
            wait_limit: Duration::from_millis(20),
            ..patient()
        },
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        1s started i1
            dispatch r1 i1
        1001ms finished i1 r1
        warm 8 1ms
            until 1009ms
        2s burst 60
            1 × dispatch
        serve 19 1ms
            19 × dispatch
        serve 1 1ms
            39 × ask
            1 × dispatch
        ",
    );
}

#[test]
fn a_burst_that_is_longer_than_a_start_gets_as_many_instances_as_shorten_it_and_not_one_each() {
    check(
        patient(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        50ms started i1
            dispatch r1 i1
        51ms finished i1 r1
        warm 8 1ms
            until 59ms
        60ms burst 201
            3 × ask
            1 × dispatch
        ",
    );
}

#[test]
fn very_short_requests_wait_for_a_hot_instance_rather_than_wake_an_idle_one_and_not_for_long() {
    check(
        PoolConfig { hot_instances: 1, ..patient() },
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        0ms arrived r2
            ask i2
        0ms granted i2
            start i2
        20ms started i2
            dispatch r1 i2
        20ms started i1
            dispatch r2 i1
        21ms finished i2 r1
        21ms finished i1 r2
        warm 60 100us
            until 27ms
        40ms arrived r3
            dispatch r3 i1
        40ms arrived r4
        40ms arrived r5
        wake
            at 42ms
            dispatch r4 i2
        42ms arrived r6
        42ms arrived r7
        stats
            waiting 3, running 2, busy 2
        wake
            at 50ms
            ask i3
        ",
    );
}
