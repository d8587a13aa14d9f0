//! The engine of `brooklet simulate`: one function's pool over its invocations, in virtual time.
//!
//! The pool is the server's own state machine ([`Pool`]) with its keep-alive policy, so what is simulated is what runs. What is
//! simplified: memory is there for everybody, a start always takes the same time and never fails, and functions do not slow
//! each other down. Invocations need not be held in memory: they are played one by one.

use model::Time;
use policy::keepalive::{Config, Policy};
use policy::pool::{Command, Event};
use policy::{InstanceKey, Pool, PoolConfig, RequestKey};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// An invocation of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Invocation {
    /// When it arrives.
    pub at: Time,
    /// How long it runs on an instance that is ready.
    pub takes: Duration,
}

/// What is known of a function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Memory of an instance, MiB.
    pub memory_mib: f64,
    /// How long a start takes.
    pub start: Duration,
    /// Requests that an instance runs at once.
    pub concurrency: u32,
}

/// One function under one policy.
#[derive(Debug)]
pub struct Replay {
    pool: Pool,
    profile: Profile,
    now: Time,
    /// Starts, stops and requests that end, by time; the number keeps their order.
    coming: BinaryHeap<Reverse<(Time, u64, Coming)>>,
    number: u64,
    /// Requests that wait, with what they will take.
    waiting: BTreeMap<RequestKey, (Time, Duration)>,
    next: u64,
    idle: u64,
    commands: Vec<Command>,
    /// What has come of it.
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Coming {
    Started(InstanceKey),
    Finished(InstanceKey, RequestKey),
}

/// What came of one function.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Invocations.
    pub invocations: u64,
    /// … that waited for a start.
    pub cold: u64,
    /// Time that instances were there and ran nothing, summed: instance-seconds.
    pub idle_s: f64,
    /// Time that they ran something: instance-seconds.
    pub busy_s: f64,
    /// Instances started.
    pub starts: u64,
    /// … ahead of a request.
    pub ahead: u64,
    /// … and then used.
    pub ahead_used: u64,
    /// Requests refused because too many waited.
    pub refused: u64,
}

impl Replay {
    /// Nothing has happened yet.
    pub fn new(profile: Profile, keep: Config) -> Replay {
        let config = PoolConfig {
            instance_concurrency: profile.concurrency,
            keep_alive: keep.timeout,
            keep_policy: keep.policy,
            keep_bin: keep.bin,
            start_estimate: profile.start,
            max_wait: Duration::MAX,
            max_waiting: usize::MAX,
            ..PoolConfig::default()
        };
        Replay {
            pool: Pool::new(config),
            profile,
            now: Time::ZERO,
            coming: BinaryHeap::new(),
            number: 0,
            waiting: BTreeMap::new(),
            next: 0,
            idle: 0,
            commands: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    /// Plays an invocation, and before it whatever comes before it. Each is at or after the last one. `begun` is told of
    /// each request that has begun to run since the last call how long it waited and how long it runs.
    pub fn invoke(&mut self, invocation: Invocation, begun: &mut impl FnMut(Duration, Duration)) {
        let at = invocation.at.max(self.now);
        self.advance(at, begun);
        self.outcome.invocations += 1;
        let request = RequestKey(self.next);
        self.next += 1;
        self.waiting.insert(request, (at, invocation.takes));
        self.step(at, Event::Arrived { request }, begun);
    }

    /// Plays on until `end`; instances that are there then are idle until then, not longer.
    pub fn finish(&mut self, end: Time, begun: &mut impl FnMut(Duration, Duration)) -> Outcome {
        self.advance(end, begun);
        self.let_time_pass(end.max(self.now));
        let stats = self.pool.stats();
        (self.outcome.ahead, self.outcome.ahead_used) = (stats.started_ahead, stats.used_ahead);
        self.outcome.clone()
    }

    fn advance(&mut self, until: Time, begun: &mut impl FnMut(Duration, Duration)) {
        loop {
            let coming = self.coming.peek().map_or(Time(u64::MAX), |Reverse((at, ..))| *at);
            let wake = self.pool.wake_at().unwrap_or(Time(u64::MAX));
            let at = coming.min(wake);
            if at > until || at == Time(u64::MAX) {
                return;
            }
            if wake < coming {
                self.step(wake, Event::Wake, begun);
            } else if let Some(Reverse((at, _, coming))) = self.coming.pop() {
                let event = match coming {
                    Coming::Started(instance) => Event::Started { instance },
                    Coming::Finished(instance, request) => Event::Finished { instance, request },
                };
                self.step(at, event, begun);
            }
        }
    }

    fn let_time_pass(&mut self, now: Time) {
        self.outcome.idle_s += self.idle as f64 * now.since(self.now).as_secs_f64();
        self.now = now;
    }

    fn step(&mut self, now: Time, event: Event, begun: &mut impl FnMut(Duration, Duration)) {
        let now = now.max(self.now);
        self.let_time_pass(now);
        let was_started = match event {
            Event::Started { instance } => Some(instance),
            _ => None,
        };
        let mut commands = std::mem::take(&mut self.commands);
        self.pool.step(now, event, &mut commands);
        // What is asked for is granted at once, and what is stopped is gone at once; commands grow meanwhile.
        let mut index = 0;
        while let Some(command) = commands.get(index).cloned() {
            index += 1;
            match command {
                Command::Ask { instance } | Command::AskAhead { instance } => {
                    self.pool.step(now, Event::Granted { instance }, &mut commands);
                }
                Command::Start { instance } => {
                    self.outcome.starts += 1;
                    self.later(now + self.profile.start, Coming::Started(instance));
                }
                Command::Dispatch { request, instance } => {
                    let Some((since, takes)) = self.waiting.remove(&request) else { continue };
                    self.outcome.cold += u64::from(was_started == Some(instance) && since < now);
                    self.outcome.busy_s += takes.as_secs_f64();
                    begun(now.since(since), takes);
                    self.later(now + takes, Coming::Finished(instance, request));
                }
                Command::Stop { instance } => self.pool.step(now, Event::Lost { instance }, &mut commands),
                Command::Refuse { request, .. } | Command::Fail { request, .. } => {
                    self.waiting.remove(&request);
                    self.outcome.refused += 1;
                }
                // Nothing is provisioned here.
                Command::AskProvisioned { .. }
                | Command::Release { .. }
                | Command::Reclaimed { .. }
                | Command::Freeze { .. }
                | Command::PageOut { .. }
                | Command::Thaw { .. } => {}
            }
        }
        commands.clear();
        self.commands = commands;
        self.idle = self.pool.stats().idle as u64;
    }

    fn later(&mut self, at: Time, coming: Coming) {
        self.number += 1;
        self.coming.push(Reverse((at, self.number, coming)));
    }
}

/// The policies that are compared when nobody says which: the fixed timeouts of the paper's figures, its own policy, and ours
/// with the same timeouts.
pub fn policies() -> Vec<Config> {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let of = |policy| move |count| Config { policy, timeout: minutes(count), ..Config::default() };
    let fixed = [5, 10, 20, 60].map(of(Policy::Fixed));
    let hybrid = [10, 240].map(of(Policy::Hybrid));
    let learned = [5, 10, 20, 60].map(of(Policy::Learned));
    fixed.into_iter().chain(hybrid).chain(learned).collect()
}
