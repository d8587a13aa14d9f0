//! When idle instances stand still.

use super::*;

/// Frozen after half a second, paged out after ten.
fn cooling() -> PoolConfig {
    PoolConfig {
        freeze_after: Duration::from_millis(500),
        page_out_after: Duration::from_secs(10),
        page_out_start: Duration::from_millis(20),
        ..config()
    }
}

#[test]
fn an_idle_instance_is_frozen_then_paged_out_then_stopped() {
    check(
        cooling(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        30ms finished i1 r1
        stats
            idle 1
        wake
            at 530ms
            freeze i1
        stats
            idle 1, frozen 1
        wake
            at 10030ms
            page out i1
        stats
            idle 1, paged out 1
        wake
            at 60030ms
            stop i1
        60040ms lost i1
            release i1
        wake
            never
        ",
    );
}

#[test]
fn a_frozen_instance_is_thawed_before_its_next_request_and_one_that_is_called_all_the_time_never_freezes() {
    check(
        cooling(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        30ms finished i1 r1
        529ms arrived r2
            dispatch r2 i1
        540ms finished i1 r2
        wake
            at 1040ms
            freeze i1
        2000ms arrived r3
            thaw i1
            dispatch r3 i1
        stats
            running 1, busy 1
        5000ms finished i1 r3
        5100ms arrived r4
            dispatch r4 i1
        ",
    );
}

#[test]
fn the_warmest_is_used_first_and_the_coldest_goes_first() {
    check(
        cooling(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        0ms arrived r2
            ask i2
        0ms granted i2
            start i2
        0ms arrived r3
            ask i3
        0ms granted i3
            start i3
        20ms started i1
            dispatch r1 i1
        20ms started i2
            dispatch r2 i2
        20ms started i3
            dispatch r3 i3
        100ms finished i1 r1
        9000ms finished i2 r2
            freeze i1
        10200ms finished i3 r3
            freeze i2
            page out i1
        stats
            idle 3, frozen 1, paged out 1
        10200ms arrived r4
            dispatch r4 i3
        10200ms arrived r5
            thaw i2
            dispatch r5 i2
        10200ms arrived r6
            thaw i1
            dispatch r6 i1
        10300ms finished i1 r6
        10800ms finished i2 r5
            freeze i1
        11000ms reclaim 11000ms
            stop i1
            reclaimed i1, oldest 10800ms
        ",
    );
}

#[test]
fn a_request_whose_instance_can_not_be_thawed_arrives_again_and_gets_another() {
    check(
        cooling(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        30ms finished i1 r1
        wake
            at 530ms
            freeze i1
        1000ms arrived r2
            thaw i1
            dispatch r2 i1
        1000ms lost i1
            release i1
        1000ms arrived r3
            ask i2
        1000ms granted i2
            start i2
        1020ms started i2
            dispatch r3 i2
        stats
            running 1, busy 1
        ",
    );
}

#[test]
fn a_frozen_instance_may_die_where_it_stands() {
    check(
        cooling(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        30ms finished i1 r1
        wake
            at 530ms
            freeze i1
        1000ms lost i1
            release i1
        stats
            empty
        wake
            never
        ",
    );
}

#[test]
fn an_instance_of_many_requests_at_once_is_not_frozen() {
    check(
        PoolConfig { instance_concurrency: 2, ..cooling() },
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        30ms finished i1 r1
        wake
            at 60030ms
            stop i1
        ",
    );
}

#[test]
fn with_zero_an_instance_is_frozen_as_soon_as_it_has_nothing_to_do() {
    check(
        PoolConfig { freeze_after: Duration::ZERO, page_out_after: Duration::MAX, ..config() },
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        20ms arrived r2
            ask i2
        30ms finished i1 r1
            dispatch r2 i1
            release i2
        40ms finished i1 r2
            freeze i1
        wake
            at 60040ms
            stop i1
        ",
    );
}

#[test]
fn what_starts_sooner_than_its_memory_comes_back_is_not_paged_out() {
    check(
        PoolConfig { page_out_start: Duration::from_millis(21), ..cooling() },
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        30ms finished i1 r1
        wake
            at 530ms
            freeze i1
        wake
            at 60030ms
            stop i1
        ",
    );
}
