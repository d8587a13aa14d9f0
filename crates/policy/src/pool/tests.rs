//! Each test is a transcript: an event per line, the commands it caused indented below it.
//!
//! `25ms finished i1 r1` is an event at that time; `wake` advances to `wake_at` and feeds `Wake`, and shows
//! when that was; `stats` shows the non-zero counts. `warm n …` is short for n requests served by i1, `burst n`
//! for n arrivals at once, `serve n …` for n requests in a row that i1 finishes; the two show how often each command
//! was given.

mod freezing; //  when idle instances stand still
mod keeping; //   how long idle instances stay, and starting ahead
mod provision; // instances that are there whether requests come or not
mod waiting; //   when a request waits for a busy instance

use super::*;
use std::collections::BTreeMap;

/// Nothing waits for a busy instance.
fn config() -> PoolConfig {
    PoolConfig { wait_bound: Duration::ZERO, wait_limit: Duration::ZERO, ..patient() }
}

/// Requests wait for a busy instance as they do by default.
fn patient() -> PoolConfig {
    PoolConfig { keep_alive: Duration::from_secs(60), ..PoolConfig::default() }
}

/// Runs the events of a transcript and compares all of it.
#[track_caller]
fn check(config: PoolConfig, transcript: &str) {
    let lines: Vec<_> =
        transcript.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
    let margin = lines.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    let expected: Vec<_> = lines.iter().map(|line| line[margin..].to_string()).collect();
    let mut player = Player {
        pool: Pool::new(config.clone()),
        config,
        now: Time::ZERO,
        keys: BTreeMap::new(),
        serving: RequestKey(0),
    };
    let mut actual = Vec::new();
    for line in expected.iter().filter(|line| !line.starts_with(' ')) {
        actual.push(line.clone());
        actual.extend(player.play(line).into_iter().map(|line| format!("    {line}")));
    }
    assert!(actual == expected, "got\n{}\nexpected\n{}", actual.join("\n"), expected.join("\n"));
}

struct Player {
    pool: Pool,
    config: PoolConfig,
    now: Time,
    keys: BTreeMap<String, InstanceKey>,
    /// What i1 was given last.
    serving: RequestKey,
}

/// How often each kind of command was given.
fn count(commands: Vec<String>) -> Vec<String> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for command in &commands {
        *counts.entry(command.split(' ').next().unwrap_or_default()).or_default() += 1;
    }
    counts.iter().map(|(command, count)| format!("{count} × {command}")).collect()
}

impl Player {
    fn play(&mut self, line: &str) -> Vec<String> {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["wake"] => {
                let Some(at) = self.pool.wake_at() else { return vec!["never".into()] };
                assert!(at >= self.now, "a wake-up in the past would be repeated without end");
                self.now = at;
                let mut shown = vec![format!("at {}", show(at))];
                shown.extend(self.step(Event::Wake));
                shown
            }
            ["stats"] => vec![self.stats()],
            ["provisioned"] => {
                let Provisioned { wanted, allocated, available, trouble } = self.pool.provisioned();
                let trouble = trouble.map_or(String::new(), |trouble| format!(", for want of {trouble:?}"));
                vec![format!("{available} ready, {allocated} allocated, {wanted} wanted{trouble}")]
            }
            [at, "burst", times] => {
                self.now = parse(at);
                let commands = (0..times.parse().unwrap())
                    .flat_map(|number| self.step(Event::Arrived { request: RequestKey(10_000 + number) }));
                count(commands.collect())
            }
            ["serve", times, service] => {
                let (instance, service) = (self.keys["i1"], parse(service).since(Time::ZERO));
                let commands = (0..times.parse().unwrap()).flat_map(|_: u32| {
                    self.now = self.now + service;
                    self.step(Event::Finished { instance, request: self.serving })
                });
                count(commands.collect())
            }
            ["warm", times, service] => {
                for turn in 0..times.parse().unwrap() {
                    let (request, service) = (RequestKey(1_000 + turn), parse(service));
                    self.step(Event::Arrived { request });
                    self.now = self.now + service.since(Time::ZERO);
                    self.step(Event::Finished { instance: self.keys["i1"], request });
                }
                vec![format!("until {}", show(self.now))]
            }
            [at, ref event @ ..] => {
                self.now = parse(at);
                let event = self.event(event);
                self.step(event)
            }
            [] => unreachable!(),
        }
    }

    fn event(&self, words: &[&str]) -> Event {
        let instance = |name: &str| self.keys[name];
        let request = |name: &str| RequestKey(name[1..].parse().unwrap());
        match *words {
            ["arrived", r] => Event::Arrived { request: request(r) },
            ["abandoned", r] => Event::Abandoned { request: request(r) },
            ["granted", i] => Event::Granted { instance: instance(i) },
            ["denied", i] => Event::Denied { instance: instance(i) },
            ["started", i] => Event::Started { instance: instance(i) },
            ["start_failed", i] => Event::StartFailed { instance: instance(i) },
            ["finished", i, r] => Event::Finished { instance: instance(i), request: request(r) },
            ["lost", i] => Event::Lost { instance: instance(i) },
            ["keep_alive", span] => Event::Reconfigured(PoolConfig {
                keep_alive: parse(span).since(Time::ZERO),
                ..self.config.clone()
            }),
            ["concurrency", n] => Event::Reconfigured(PoolConfig {
                instance_concurrency: n.parse().unwrap(),
                ..self.config.clone()
            }),
            ["provision", n] => Event::Provision { instances: n.parse().unwrap() },
            ["wake_up"] => Event::Wake,
            ["retired"] => Event::Retired,
            ["reclaim", since] => Event::Reclaim { unused_since: parse(since) },
            _ => panic!("no event {words:?}"),
        }
    }

    fn step(&mut self, event: Event) -> Vec<String> {
        let mut commands = Vec::new();
        self.pool.step(self.now, event, &mut commands);
        for command in &commands {
            if let Command::Ask { instance }
            | Command::AskAhead { instance }
            | Command::AskProvisioned { instance } = command
            {
                self.keys.insert(instance.to_string(), *instance);
            }
            if let Command::Dispatch { request, instance } = command
                && instance.to_string() == "i1"
            {
                self.serving = *request;
            }
        }
        commands.iter().map(describe).collect()
    }

    fn stats(&self) -> String {
        let stats = self.pool.stats();
        let counts = [
            ("waiting", stats.waiting),
            ("running", stats.running),
            ("asking", stats.asking),
            ("starting", stats.starting),
            ("idle", stats.idle),
            ("frozen", stats.frozen),
            ("paged out", stats.paged_out),
            ("busy", stats.busy),
            ("stopping", stats.stopping),
        ];
        let shown: Vec<_> = counts
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if shown.is_empty() { "empty".into() } else { shown.join(", ") }
    }
}

fn describe(command: &Command) -> String {
    match command {
        Command::Ask { instance } => format!("ask {instance}"),
        Command::AskAhead { instance } => format!("ask ahead {instance}"),
        Command::AskProvisioned { instance } => format!("provide {instance}"),
        Command::Release { instance } => format!("release {instance}"),
        Command::Start { instance } => format!("start {instance}"),
        Command::Freeze { instance } => format!("freeze {instance}"),
        Command::PageOut { instance } => format!("page out {instance}"),
        Command::Thaw { instance } => format!("thaw {instance}"),
        Command::Dispatch { request, instance } => format!("dispatch {request} {instance}"),
        Command::Refuse { request, reason } => format!("refuse {request} {reason:?}"),
        Command::Fail { request, instance } => format!("fail {request} {instance}"),
        Command::Stop { instance } => format!("stop {instance}"),
        Command::Reclaimed { instance, oldest } => {
            let instance = instance.map_or("nothing".into(), |instance| instance.to_string());
            format!("reclaimed {instance}, oldest {}", oldest.map_or("none".into(), show))
        }
    }
}

fn parse(text: &str) -> Time {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        unit => panic!("no unit {unit} in {text}"),
    };
    Time(digits.parse::<u64>().unwrap() * scale)
}

fn show(at: Time) -> String {
    match at.0 {
        ns if ns % 1_000_000_000 == 0 => format!("{}s", ns / 1_000_000_000),
        ns if ns % 1_000_000 == 0 => format!("{}ms", ns / 1_000_000),
        ns => format!("{}us", ns / 1_000),
    }
}

#[test]
fn a_request_from_zero_starts_an_instance_and_after_the_keep_alive_there_is_none_again() {
    check(
        config(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        25ms finished i1 r1
        stats
            idle 1
        wake
            at 60025ms
            stop i1
        60030ms lost i1
            release i1
        stats
            empty
        wake
            never
        ",
    );
}

#[test]
fn the_most_recently_used_instance_is_taken_and_the_least_recently_used_expires_first() {
    check(
        config(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        0ms arrived r2
            ask i2
        0ms granted i2
            start i2
        20ms started i1
            dispatch r1 i1
        20ms started i2
            dispatch r2 i2
        30ms finished i2 r2
        40ms finished i1 r1
        50ms arrived r3
            dispatch r3 i1
        60ms finished i1 r3
        wake
            at 60030ms
            stop i2
        wake
            at 60060ms
            stop i1
        ",
    );
}

#[test]
fn a_waiting_request_takes_a_freed_instance_and_the_start_made_for_it_becomes_an_idle_one() {
    check(
        config(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        21ms arrived r2
            ask i2
        21ms granted i2
            start i2
        25ms finished i1 r1
            dispatch r2 i1
        41ms started i2
        stats
            running 1, idle 1, busy 1
        ",
    );
}

#[test]
fn an_ask_for_which_nothing_waits_any_more_is_taken_back() {
    check(
        config(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        21ms arrived r2
            ask i2
        25ms finished i1 r1
            dispatch r2 i1
            release i2
        25ms granted i2
            release i2
        stats
            running 1, busy 1
        ",
    );
}

#[test]
fn an_instance_with_room_takes_requests_up_to_its_concurrency() {
    check(
        PoolConfig { instance_concurrency: 2, ..config() },
        "
        0ms arrived r1
            ask i1
        0ms arrived r2
        0ms granted i1
            start i1
        0ms arrived r3
            ask i2
        20ms started i1
            dispatch r1 i1
            dispatch r2 i1
        21ms finished i1 r1
            dispatch r3 i1
            release i2
        22ms finished i1 r2
        22ms finished i1 r3
        stats
            idle 1
        ",
    );
}

#[test]
fn a_failed_start_fails_the_oldest_request_and_the_next_one_tries_again() {
    check(
        config(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        5ms start_failed i1
            release i1
            fail r1 i1
        stats
            empty
        6ms arrived r2
            ask i2
        ",
    );
}

#[test]
fn a_failed_start_of_a_concurrent_instance_fails_all_that_it_would_have_served() {
    check(
        PoolConfig { instance_concurrency: 2, ..config() },
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        0ms arrived r2
        0ms arrived r3
            ask i2
        5ms start_failed i1
            release i1
            fail r1 i1
            fail r2 i1
        stats
            waiting 1, asking 1
        ",
    );
}

#[test]
fn without_memory_a_request_waits_its_bound_and_is_refused() {
    check(
        config(),
        "
        0ms arrived r1
            ask i1
        0ms denied i1
        wake
            at 50ms
            ask i2
        wake
            at 5s
            refuse r1 Memory
            release i2
        stats
            empty
        ",
    );
}

#[test]
fn while_its_owner_stands_still_a_request_does_not_wait_for_memory() {
    check(
        config(),
        "
        0ms arrived r1
            ask i1
        60s wake_up
        64s granted i1
            start i1
        64s started i1
            dispatch r1 i1
        ",
    );
    check(
        config(),
        "
        0ms arrived r1
            ask i1
        60s wake_up
        wake
            at 65s
            refuse r1 Memory
            release i1
        ",
    );
}

#[test]
fn a_request_whose_instance_is_being_started_waits_for_the_end_of_the_start() {
    check(
        config(),
        "
        0ms arrived r1
            ask i1
        4999ms granted i1
            start i1
        6000ms started i1
            dispatch r1 i1
        ",
    );
}

#[test]
fn a_full_queue_refuses_the_newest() {
    check(
        PoolConfig { max_waiting: 1, ..config() },
        "
        0ms arrived r1
            ask i1
        0ms arrived r2
            refuse r2 Queue
        ",
    );
}

#[test]
fn an_instance_lost_while_busy_is_replaced_only_when_something_waits() {
    check(
        config(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        21ms lost i1
            release i1
        stats
            empty
        22ms arrived r2
            ask i2
        22ms granted i2
            start i2
        42ms started i2
            dispatch r2 i2
        42ms arrived r3
            ask i3
        43ms lost i2
            release i2
        44ms finished i2 r2
        stats
            waiting 1, asking 1
        ",
    );
}

#[test]
fn an_idle_instance_that_is_lost_is_forgotten() {
    check(
        config(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        21ms finished i1 r1
        30ms lost i1
            release i1
        wake
            never
        40ms arrived r2
            ask i2
        ",
    );
}

#[test]
fn an_abandoned_request_no_longer_waits_and_a_running_one_goes_on() {
    check(
        config(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        20ms arrived r2
            ask i2
        21ms abandoned r1
        21ms abandoned r2
            release i2
        stats
            running 1, busy 1
        ",
    );
}

#[test]
fn a_retired_pool_serves_what_waits_refuses_what_comes_and_stops() {
    check(
        config(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        20ms arrived r2
            ask i2
        21ms retired
        22ms arrived r3
            refuse r3 Retired
        23ms finished i1 r1
            dispatch r2 i1
            release i2
        24ms finished i1 r2
            stop i1
        25ms lost i1
            release i1
        stats
            empty
        ",
    );
}

#[test]
fn a_shorter_keep_alive_applies_to_instances_that_are_idle_already() {
    check(
        config(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        21ms finished i1 r1
        100ms keep_alive 1s
        wake
            at 1021ms
            stop i1
        ",
    );
}

#[test]
fn an_instance_keeps_the_concurrency_it_was_started_with() {
    check(
        config(),
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        21ms concurrency 2
        22ms arrived r2
            ask i2
        22ms granted i2
            start i2
        42ms started i2
            dispatch r2 i2
        43ms arrived r3
            dispatch r3 i2
        44ms arrived r4
            ask i3
        ",
    );
}

#[test]
fn a_reclaim_stops_the_least_recently_used_idle_instance_or_says_how_old_it_is() {
    check(
        config(),
        "
        0ms reclaim 0ms
            reclaimed nothing, oldest none
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        20ms started i1
            dispatch r1 i1
        21ms reclaim 21ms
            reclaimed nothing, oldest none
        22ms finished i1 r1
        30ms reclaim 20ms
            reclaimed nothing, oldest 22ms
        31ms reclaim 22ms
            stop i1
            reclaimed i1, oldest none
        ",
    );
}

#[test]
fn without_a_keep_alive_nothing_waits_for_a_hot_instance() {
    check(
        PoolConfig { hot_instances: 1, keep_alive: Duration::ZERO, ..config() },
        "
        0ms arrived r1
            ask i1
        0ms granted i1
            start i1
        0ms arrived r2
            ask i2
        0ms granted i2
            start i2
        20ms started i1
            dispatch r1 i1
        21ms arrived r3
            ask i3
        21ms granted i3
            start i3
        22ms started i2
            dispatch r2 i2
        23ms started i3
            dispatch r3 i3
        24ms finished i3 r3
            stop i3
        ",
    );
}

#[test]
fn an_empty_pool_costs_less_than_700_bytes() {
    assert!(size_of::<Pool>() < 700, "{}", size_of::<Pool>());
}
