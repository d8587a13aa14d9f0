use super::*;

#[test]
fn provisioned_instances_are_started_one_after_another_and_stay() {
    check(
        config(),
        "
        0ms provision 2
            provide i1
        provisioned
            0 ready, 0 allocated, 2 wanted
        1ms granted i1
            start i1
        10ms started i1
            provide i2
        10ms granted i2
            start i2
        provisioned
            1 ready, 2 allocated, 2 wanted
        20ms started i2
        provisioned
            2 ready, 2 allocated, 2 wanted
        wake
            never
        100s reclaim 99s
            reclaimed nothing, oldest none
        stats
            idle 2
        ",
    );
}

#[test]
fn another_start_begins_beside_one_that_takes_long() {
    check(
        config(),
        "
        0ms provision 2
            provide i1
        0ms granted i1
            start i1
        wake
            at 50ms
            provide i2
        50ms denied i2
        provisioned
            0 ready, 1 allocated, 2 wanted
        wake
            at 100ms
            provide i3
        100ms granted i3
            start i3
        ",
    );
}

#[test]
fn requests_use_provisioned_instances_first_and_spill_over_to_others_that_go_when_idle() {
    check(
        config(),
        "
        0ms provision 1
            provide i1
        0ms granted i1
            start i1
        10ms started i1
        20ms arrived r1
            dispatch r1 i1
        20ms arrived r2
            ask i2
        20ms granted i2
            start i2
        30ms started i2
            dispatch r2 i2
        40ms finished i1 r1
        50ms finished i2 r2
        60ms arrived r3
            dispatch r3 i1
        70ms finished i1 r3
        wake
            at 60050ms
            stop i2
        60060ms lost i2
            release i2
        wake
            never
        stats
            idle 1
        ",
    );
}

#[test]
fn a_request_does_not_count_on_a_provisioned_start_but_takes_what_is_ready_first() {
    check(
        config(),
        "
        0ms provision 1
            provide i1
        0ms granted i1
            start i1
        1ms arrived r1
            ask i2
        10ms started i1
            dispatch r1 i1
            release i2
        ",
    );
}

#[test]
fn one_that_is_lost_is_replaced_after_a_moment() {
    check(
        config(),
        "
        0ms provision 1
            provide i1
        0ms granted i1
            start i1
        10ms started i1
        20ms arrived r1
            dispatch r1 i1
        30ms lost i1
            release i1
        provisioned
            0 ready, 0 allocated, 1 wanted
        wake
            at 130ms
            provide i2
        ",
    );
}

#[test]
fn a_start_that_fails_fails_no_request_and_is_tried_again_ever_more_seldom() {
    check(
        config(),
        "
        0ms provision 1
            provide i1
        0ms granted i1
            start i1
        5ms arrived r1
            ask i2
        10ms start_failed i1
            release i1
        provisioned
            0 ready, 0 allocated, 1 wanted, for want of Start
        20ms abandoned r1
            release i2
        wake
            at 1010ms
            provide i3
        1010ms granted i3
            start i3
        1020ms start_failed i3
            release i3
        wake
            at 3020ms
            provide i4
        3020ms granted i4
            start i4
        3030ms started i4
        provisioned
            1 ready, 1 allocated, 1 wanted
        ",
    );
}

#[test]
fn what_the_machine_has_no_room_for_is_tried_again_until_it_has() {
    check(
        config(),
        "
        0ms provision 1
            provide i1
        0ms denied i1
        wake
            at 100ms
            provide i2
        100ms denied i2
        provisioned
            0 ready, 0 allocated, 1 wanted
        wake
            at 300ms
            provide i3
        300ms denied i3
        wake
            at 700ms
            provide i4
        700ms denied i4
        provisioned
            0 ready, 0 allocated, 1 wanted, for want of Room
        wake
            at 1500ms
            provide i5
        1500ms granted i5
            start i5
        1510ms started i5
        provisioned
            1 ready, 1 allocated, 1 wanted
        ",
    );
}

#[test]
fn fewer_are_wanted_and_the_rest_goes_idle_ones_at_once_busy_ones_when_they_have_finished() {
    check(
        config(),
        "
        0ms provision 2
            provide i1
        0ms granted i1
            start i1
        10ms started i1
            provide i2
        10ms granted i2
            start i2
        20ms started i2
        30ms arrived r1
            dispatch r1 i2
        40ms provision 0
            stop i1
        41ms lost i1
            release i1
        provisioned
            1 ready, 1 allocated, 0 wanted
        50ms finished i2 r1
            stop i2
        51ms lost i2
            release i2
        stats
            empty
        ",
    );
}

#[test]
fn what_is_on_its_way_when_fewer_are_wanted_is_taken_back_or_stopped_when_it_is_there() {
    check(
        config(),
        "
        0ms provision 2
            provide i1
        0ms granted i1
            start i1
        60ms wake_up
            provide i2
        61ms provision 0
            release i2
        62ms started i1
            stop i1
        63ms lost i1
            release i1
        wake
            never
        ",
    );
}

#[test]
fn a_pool_that_retires_provides_nothing_any_more() {
    check(
        config(),
        "
        0ms provision 1
            provide i1
        0ms granted i1
            start i1
        10ms started i1
        20ms retired
            stop i1
        21ms lost i1
            release i1
        22ms provision 3
        wake
            never
        ",
    );
}
