//! The instances of one function version and the requests that wait for them.
//!
//! Life of an instance: `Ask` (memory) → `Granted` → `Start` → `Started` → any number of `Dispatch` and
//! `Finished` → `Stop` → `Lost`. It can be denied (`Denied`), fail to start (`StartFailed`) or be lost at any
//! time (`Lost`). Whatever was asked for ends in `Release` or `Denied`.
//!
//! Life of a request: `Arrived`, then exactly one of `Dispatch`, `Fail`, `Refuse`, or `Abandoned` by its
//! caller while it waits. A dispatched request ends with its `Finished`, or with `Lost` of its instance.
//!
//! An instance may also be asked for ahead of an expected request (`AskAhead`, `keeping`); from its grant on it is
//! like any other. And some may be wanted at all times ([`Event::Provision`], `provision`).
//!
//! An idle instance may be frozen (`Freeze`), then its memory be pushed out (`PageOut`); it is still idle, and is thawed
//! (`Thaw`) right before its next `Dispatch` (`freezing`).
//!
//! Requests are served in order of arrival by the most recently used instance that can take one. When none
//! can, the pool weighs waiting for a busy one against starting others ([`PoolConfig::wait_bound`], `demand`);
//! a waiting request is served by whichever comes first. An ask is not a start yet: the budget grants it when
//! the machine can begin one, and asks that nothing needs any more by then are taken back.

mod demand; //    how many instances should be on their way
mod freezing; //  when idle ones stand still
mod keeping; //   how long idle ones stay, and starting one ahead
mod provision; // those that are wanted whether requests come or not
mod slots; //     the instances

pub use provision::{Provisioned, Trouble};

use crate::estimate::Estimate;
use crate::keepalive::{self, History, KeepAlive};
use demand::Queue;
use keeping::Keeping;
use model::Time;
use provision::Provision;
use slots::{Slot, Slots, State, Warmth};
use std::collections::VecDeque;
use std::time::Duration;

/// A request, named by the owner of the pool; never used twice in one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey(pub u64);

/// An instance, named by its pool; never used twice in one pool, but the same in two pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceKey(pub u64);

impl std::fmt::Display for RequestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl std::fmt::Display for InstanceKey {
    /// The serial number within its pool: `i1` is the pool's first.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "i{}", self.0 >> 32)
    }
}

/// How a pool behaves. Every wait in it has a bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolConfig {
    /// Requests that one instance runs at once, at least 1 (default 1). A change applies to instances asked
    /// for afterwards: a running one was told its number when it was started.
    pub instance_concurrency: u32,
    /// An instance idle for this long is stopped, the least recently used first (default 10 minutes). Zero:
    /// stopped as soon as nothing waits. `Duration::MAX`: never. When `keep_policy` learns, that holds for all but
    /// the last idle one, and for that one until something is known ([`keepalive::Config::timeout`]).
    pub keep_alive: Duration,
    /// How long the last idle instance is kept, and whether one is started ahead of a request (default: `Fixed`,
    /// as long as every other, and none).
    pub keep_policy: keepalive::Policy,
    /// How exactly idle times are learned (default 1 minute; `keepalive::Config::bin`).
    pub keep_bin: Duration,
    /// An instance idle for this long is frozen: nothing in it runs until its next request (default `Duration::MAX`:
    /// never). Zero: as soon as it has nothing to do. Instances that run several requests at once are not frozen.
    pub freeze_after: Duration,
    /// A frozen instance idle for this long has its memory pushed out, to swap (default `Duration::MAX`: never).
    pub page_out_after: Duration,
    /// But not where a start is expected to take less than this: a new one is there sooner than such memory comes back
    /// (default 50 ms).
    pub page_out_start: Duration,
    /// How long a start is expected to take until one was observed (default 100 ms).
    pub start_estimate: Duration,
    /// Requests that may wait; one more is refused with [`Reason::Queue`] (default 1,000).
    pub max_waiting: usize,
    /// A request is refused with [`Reason::Memory`] when it has waited this long and for as long the budget has
    /// granted the pool nothing (default 5 s). One for which an instance is being started waits for the end of
    /// that start instead. Time in which the owner stood still does not count.
    pub max_wait: Duration,
    /// A request waits for a busy instance while it can expect its turn within this time, and sooner than a start
    /// would be over (default 10 ms); otherwise instances are asked for, as many as would bring the wait down to
    /// that. Requests shorter than this are served many at a time by each instance, so for them it is done
    /// when the queue has been too long for as long as a start takes, or is longer than what the busy instances
    /// can serve during a start. When nothing has finished for `wait_bound`, expectations are void: one is
    /// asked for, for each request that has waited `wait_bound`. Zero: always ask at once.
    pub wait_bound: Duration,
    /// Whatever was expected: for a request that has waited this long an instance is asked for (default 100 ms;
    /// at least `wait_bound`), unless requests are short and finish all the time, and more instances were just
    /// seen not to make turns come sooner; then that holds only when nothing has finished for this long, and more
    /// are tried after a pause, of 10 s or a start at most.
    pub wait_limit: Duration,
    /// While at least this many instances are busy, a request that can expect one of them within
    /// `spread_bound` waits for it although an idle one is there: caches, compiled code and the processor
    /// are theirs (default 4; twice the cores is a good number). For a queue of short requests that has stood for
    /// as long as a start takes there are to be as many, should it wait no longer than `wait_bound` without.
    pub hot_instances: u32,
    /// See `hot_instances` (default 300 µs). Zero: an idle instance is always used at once.
    pub spread_bound: Duration,
    /// A request that has waited this long takes an idle instance whatever was expected (default 2 ms,
    /// because the owner's timers are no finer than 1 ms).
    pub spread_limit: Duration,
}

impl Default for PoolConfig {
    fn default() -> PoolConfig {
        PoolConfig {
            instance_concurrency: 1,
            keep_alive: Duration::from_secs(600),
            keep_policy: keepalive::Policy::Fixed,
            keep_bin: Duration::from_secs(60),
            freeze_after: Duration::MAX,
            page_out_after: Duration::MAX,
            page_out_start: Duration::from_millis(50),
            start_estimate: Duration::from_millis(100),
            max_waiting: 1_000,
            max_wait: Duration::from_secs(5),
            wait_bound: Duration::from_millis(10),
            wait_limit: Duration::from_millis(100),
            hot_instances: 4,
            spread_bound: Duration::from_micros(300),
            spread_limit: Duration::from_millis(2),
        }
    }
}

impl PoolConfig {
    /// What of it is the keep-alive's.
    pub fn keeping(&self) -> keepalive::Config {
        keepalive::Config { policy: self.keep_policy, timeout: self.keep_alive, bin: self.keep_bin }
    }
}

/// What happened. An event about an instance or request that the pool does not know (any more) is ignored:
/// such events are on their way when things end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A request that was admitted and wants an instance.
    Arrived {
        /// The request.
        request: RequestKey,
    },
    /// The caller of a request left. One that runs already runs to its end.
    Abandoned {
        /// The request.
        request: RequestKey,
    },
    /// The budget has memory for an instance that was asked for.
    Granted {
        /// The instance.
        instance: InstanceKey,
    },
    /// The budget has no memory and no room to wait for an instance that was asked for.
    Denied {
        /// The instance.
        instance: InstanceKey,
    },
    /// An instance is ready.
    Started {
        /// The instance.
        instance: InstanceKey,
    },
    /// An instance could not be made; nothing of it is left.
    StartFailed {
        /// The instance.
        instance: InstanceKey,
    },
    /// An instance finished a request and can take another. (When it cannot: `Lost`.)
    Finished {
        /// The instance.
        instance: InstanceKey,
        /// The request.
        request: RequestKey,
    },
    /// An instance is gone: it crashed, became unusable, could not be thawed, or stopped as it was told. A request that
    /// was dispatched to it and has not begun may arrive again, under another name.
    Lost {
        /// The instance.
        instance: InstanceKey,
    },
    /// The configuration changed.
    Reconfigured(PoolConfig),
    /// So many instances are wanted whether requests come or not.
    Provision {
        /// How many; zero, as at first: none.
        instances: u32,
    },
    /// The version is going away: requests that wait are still served, then everything stops. For good.
    Retired,
    /// The budget is short of memory: stop the least recently used idle instance if it has been idle since
    /// `unused_since` or longer. Always answered by one [`Command::Reclaimed`].
    Reclaim {
        /// The budget's idea of this pool's oldest idle time.
        unused_since: Time,
    },
    /// [`Pool::wake_at`] has come.
    Wake,
}

/// What the owner must do, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Ask the budget for memory; answer with `Granted` or `Denied`.
    Ask {
        /// The instance.
        instance: InstanceKey,
    },
    /// Ask the budget for memory that nobody else needs, for an instance that no request waits for yet; answer with
    /// `Granted` or `Denied`.
    AskAhead {
        /// The instance.
        instance: InstanceKey,
    },
    /// Ask the budget for memory for a provisioned instance; answer with `Granted` or `Denied`. When there is none, idle
    /// instances should make room, so that it is there when it is asked for again.
    AskProvisioned {
        /// The instance.
        instance: InstanceKey,
    },
    /// Tell the budget that an instance is gone, or is no longer wanted before it was started. May be given
    /// twice when a grant and a change of mind cross; the second means nothing.
    Release {
        /// The instance.
        instance: InstanceKey,
    },
    /// Make an instance; answer with `Started` or `StartFailed`.
    Start {
        /// The instance.
        instance: InstanceKey,
    },
    /// Let nothing in an idle instance run any more.
    Freeze {
        /// The instance.
        instance: InstanceKey,
    },
    /// Push the memory of a frozen instance out, while it is frozen.
    PageOut {
        /// The instance.
        instance: InstanceKey,
    },
    /// Let a frozen instance run again, before the `Dispatch` that follows is carried out; answer with `Lost` if that
    /// cannot be done.
    Thaw {
        /// The instance.
        instance: InstanceKey,
    },
    /// Run a request on an instance; answer with `Finished` or `Lost`.
    Dispatch {
        /// The request.
        request: RequestKey,
        /// The instance.
        instance: InstanceKey,
    },
    /// Tell the caller that the request will not run.
    Refuse {
        /// The request.
        request: RequestKey,
        /// Why.
        reason: Reason,
    },
    /// Tell the caller that the instance which would have served it could not start, and why.
    Fail {
        /// The request.
        request: RequestKey,
        /// The instance that failed to start.
        instance: InstanceKey,
    },
    /// Stop an idle instance; answer with `Lost` when it is gone.
    Stop {
        /// The instance.
        instance: InstanceKey,
    },
    /// Answer the budget's `Reclaim`.
    Reclaimed {
        /// The instance that is being stopped, if one was idle long enough.
        instance: Option<InstanceKey>,
        /// Since when the least recently used of the remaining idle instances has been idle.
        oldest: Option<Time>,
    },
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// [`PoolConfig::max_waiting`] requests wait already.
    Queue,
    /// There was no memory for an instance within [`PoolConfig::max_wait`].
    Memory,
    /// The pool is retired.
    Retired,
}

/// What a pool has and expects, for people and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests that wait.
    pub waiting: usize,
    /// Requests that run.
    pub running: usize,
    /// Instances that wait for memory.
    pub asking: usize,
    /// Instances being made.
    pub starting: usize,
    /// Instances that run nothing.
    pub idle: usize,
    /// … of which are frozen, and …
    pub frozen: usize,
    /// … are frozen with their memory pushed out.
    pub paged_out: usize,
    /// Instances that run something.
    pub busy: usize,
    /// Instances told to stop and not gone yet.
    pub stopping: usize,
    /// Mean time from dispatch to finish; `None` until enough were seen.
    pub service: Option<Duration>,
    /// Mean time of a start; `None` until one was seen.
    pub start: Option<Duration>,
    /// Instances started ahead of a request since the pool was made.
    pub started_ahead: u64,
    /// … that then served one.
    pub used_ahead: u64,
}

/// Requests that must have finished before their mean says how long a wait will be.
const ENOUGH_REQUESTS: u32 = 8;

/// After a denial the budget is left alone for this long.
const ASK_PAUSE: Duration = Duration::from_millis(50);

/// A request that should have been refused this long ago was not because the owner stood still (stopped, or on a machine
/// that was). Nobody had memory or a start meanwhile, so that those who wait for them do so anew.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// A request without an instance.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    request: RequestKey,
    since: Time,
}

/// The instances of one function version and the requests that wait for them.
#[derive(Debug)]
pub struct Pool {
    config: PoolConfig,
    slots: Slots,
    /// In order of arrival.
    waiting: VecDeque<Waiting>,
    /// Slots that wait for memory, newest last.
    asking: Vec<u32>,
    /// No `Ask` before this.
    ask_again: Time,
    /// Whether there is demand for one.
    paused: bool,
    service: Estimate,
    start: Estimate,
    /// Requests that instances being asked for could run at once.
    asking_room: u32,
    /// Requests that instances being started could run at once.
    starting_room: u32,
    /// When the budget last granted anything, or could again after the owner stood still.
    granted: Time,
    queue: Queue,
    keeping: Keeping,
    provision: Provision,
    running: u32,
    starting: u32,
    busy: u32,
    /// Idle ones of both kinds.
    idle: u32,
    retired: bool,
}

impl Pool {
    /// A pool with no instance. `instance_concurrency` 0 is taken for 1.
    pub fn new(config: PoolConfig) -> Pool {
        Pool {
            keeping: Keeping::new(KeepAlive::new(config.keeping())),
            config,
            slots: Slots::new(),
            waiting: VecDeque::new(),
            asking: Vec::new(),
            ask_again: Time::ZERO,
            paused: false,
            service: Estimate::default(),
            start: Estimate::default(),
            asking_room: 0,
            starting_room: 0,
            granted: Time::ZERO,
            queue: Queue::default(),
            provision: Provision::default(),
            running: 0,
            starting: 0,
            busy: 0,
            idle: 0,
            retired: false,
        }
    }

    /// Feeds one event; appends the commands that the caller must carry out, in order.
    pub fn step(&mut self, now: Time, event: Event, commands: &mut Vec<Command>) {
        // The step before left nobody here whose time was up.
        let first = self.waiting.get(self.starting_room as usize);
        if first.is_some_and(|first| now.since(self.refused_at(first.since)) >= STOOD_STILL) {
            self.granted = now;
        }
        match event {
            Event::Arrived { request } => self.arrived(now, request, commands),
            Event::Abandoned { request } => self.waiting.retain(|waiting| waiting.request != request),
            Event::Granted { instance } => self.granted(now, instance, commands),
            Event::Denied { instance } => self.denied(now, instance),
            Event::Started { instance } => self.started(now, instance),
            Event::StartFailed { instance } => self.start_failed(now, instance, commands),
            Event::Finished { instance, request } => self.finished(now, instance, request),
            Event::Lost { instance } => self.lost(now, instance, commands),
            Event::Reconfigured(config) => {
                self.keeping.reconfigure(now, config.keeping());
                self.config = config;
            }
            Event::Provision { instances } => {
                self.provision.want(now, if self.retired { 0 } else { instances });
            }
            Event::Retired => {
                self.retired = true;
                self.provision.want(now, 0);
            }
            Event::Reclaim { unused_since } => self.reclaim(now, unused_since, commands),
            Event::Wake => {}
        }
        self.settle(now, commands);
    }

    /// When to call [`step`](Pool::step) with `Event::Wake` if nothing happens before; `None`: never.
    pub fn wake_at(&self) -> Option<Time> {
        let mut at = self.keep_at().unwrap_or(Time(u64::MAX)).min(self.cool_at());
        if self.idle > 0 {
            if let Some(front) = self.waiting.front() {
                at = at.min(front.since + self.config.spread_limit);
            }
        } else if let Some(first) = self.waiting.get((self.starting_room + self.asking_room) as usize) {
            let rises = if self.paused { Time::ZERO } else { self.demand_rises_at(first.since) };
            at = rises.max(self.ask_again);
        }
        if let Some(first) = self.waiting.get(self.starting_room as usize) {
            at = at.min(self.refused_at(first.since));
        }
        if let Some(again) = self.provision.wake_at() {
            at = at.min(again);
        }
        (at < Time(u64::MAX)).then_some(at)
    }

    /// What the pool has and expects.
    pub fn stats(&self) -> Stats {
        let (asking, starting, idle, busy) = (
            self.asking.len() + self.provision.asking(),
            self.starting as usize,
            self.idle as usize,
            self.busy as usize,
        );
        Stats {
            waiting: self.waiting.len(),
            running: self.running as usize,
            asking,
            starting,
            idle,
            frozen: self.slots.count(Warmth::Frozen),
            paged_out: self.slots.count(Warmth::PagedOut),
            busy,
            stopping: self.slots.len as usize - asking - starting - idle - busy,
            service: self.service.after(ENOUGH_REQUESTS).map(Duration::from_nanos),
            start: self.start.after(1).map(Duration::from_nanos),
            started_ahead: self.keeping.started,
            used_ahead: self.keeping.used,
        }
    }

    /// Whether an instance was started ahead, and nobody waits for it now.
    pub fn is_ahead(&self, instance: InstanceKey) -> bool {
        self.keeping.is_ahead(instance) && self.waiting.is_empty()
    }

    /// What was learned about the function's idle times, if anything.
    pub fn history(&self) -> Option<&History> {
        self.keeping.policy.history()
    }

    /// Adds what was learned about the function's idle times before this pool was made.
    pub fn recall(&mut self, now: Time, history: History) {
        self.keeping.policy.recall(now, history);
    }

    /// Whether there is no instance in any state and no request: a retired pool can then be dropped.
    pub fn is_empty(&self) -> bool {
        self.slots.len == 0 && self.waiting.is_empty()
    }

    fn arrived(&mut self, now: Time, request: RequestKey, commands: &mut Vec<Command>) {
        if self.retired {
            commands.push(Command::Refuse { request, reason: Reason::Retired });
            return;
        }
        self.waiting.push_back(Waiting { request, since: now });
        self.serve(now, commands);
        if self.waiting.len() > self.config.max_waiting
            && let Some(last) = self.waiting.pop_back()
        {
            commands.push(Command::Refuse { request: last.request, reason: Reason::Queue });
        }
    }

    fn granted(&mut self, now: Time, instance: InstanceKey, commands: &mut Vec<Command>) {
        let Some(index) = self.stop_asking(instance) else {
            // Taken back in the meantime, perhaps with word of it before the ask itself.
            if self.slots.find(instance).is_none() {
                commands.push(Command::Release { instance });
            }
            return;
        };
        let slot = &mut self.slots[index];
        (slot.state, slot.since) = (State::Starting, now);
        self.starting += 1;
        match slot.is_provisioned {
            true => self.provision.granted(now),
            false => {
                self.granted = now;
                self.starting_room += slot.concurrency;
                self.keeping.started += u64::from(self.keeping.is_ahead(instance));
            }
        }
        commands.push(Command::Start { instance });
    }

    fn denied(&mut self, now: Time, instance: InstanceKey) {
        let Some(index) = self.stop_asking(instance) else { return };
        match (self.slots[index].is_provisioned, self.keeping.is_ahead(instance)) {
            (true, _) => self.provision.denied(now),
            (_, true) => self.keeping.denied(now),
            _ => self.ask_again = now + ASK_PAUSE,
        }
        self.slots.remove(index);
    }

    /// Takes an instance out of those that wait for memory, if it is one of them.
    fn stop_asking(&mut self, instance: InstanceKey) -> Option<u32> {
        let index = self.slots.find(instance)?;
        if self.provision.answered(index) {
            return Some(index);
        }
        let position = self.asking.iter().position(|&asking| asking == index)?;
        self.asking.remove(position);
        self.asking_room -= self.slots[index].concurrency;
        Some(index)
    }

    fn started(&mut self, now: Time, instance: InstanceKey) {
        let Some(index) = self.stop_starting(instance) else { return };
        if self.slots[index].is_provisioned {
            self.provision.started(now);
        }
        self.start.add(now.since(self.slots[index].since));
        self.queue.measure_anew(now);
        self.make_idle(now, index);
    }

    /// However a start ends, it ends the wait of as many requests as the instance takes at once, the oldest:
    /// so a covered request never waits for longer than the starts that were under way when it was covered,
    /// and a function that cannot start is tried at most once per request. (A provisioned one covers none.)
    fn start_failed(&mut self, now: Time, instance: InstanceKey, commands: &mut Vec<Command>) {
        let Some(index) = self.stop_starting(instance) else { return };
        let Slot { concurrency, is_provisioned, .. } = self.slots[index];
        self.slots.remove(index);
        commands.push(Command::Release { instance });
        if is_provisioned {
            return self.provision.start_failed(now);
        }
        let served = self.waiting.len().min(concurrency as usize);
        for waiting in self.waiting.drain(..served) {
            commands.push(Command::Fail { request: waiting.request, instance });
        }
    }

    /// Takes an instance out of those being started, if it is one of them.
    fn stop_starting(&mut self, instance: InstanceKey) -> Option<u32> {
        let index = self.slots.find(instance).filter(|&index| self.slots[index].state == State::Starting)?;
        self.starting -= 1;
        if !self.slots[index].is_provisioned {
            self.starting_room -= self.slots[index].concurrency;
        }
        Some(index)
    }

    fn finished(&mut self, now: Time, instance: InstanceKey, request: RequestKey) {
        let Some(index) = self.slots.find(instance) else { return };
        let slot = &mut self.slots[index];
        let Some(position) = slot.running.iter().position(|running| running.0 == request) else { return };
        let was_open = slot.is_open();
        let (_, dispatched) = slot.running.swap_remove(position);
        let is_idle = slot.running.is_empty();
        self.service.add(now.since(dispatched));
        self.queue.finished(now);
        self.running -= 1;
        if was_open {
            self.slots.unlink_open(index);
        }
        if is_idle {
            self.busy -= 1;
            self.make_idle(now, index);
        } else {
            self.slots.link_open(index);
        }
    }

    fn make_idle(&mut self, now: Time, index: u32) {
        let slot = &mut self.slots[index];
        (slot.state, slot.since, slot.warmth) = (State::Idle, now, Warmth::Warm);
        self.provision.idle += u32::from(slot.is_provisioned);
        self.slots.link_idle(index);
        self.idle += 1;
    }

    /// An idle instance stops being one.
    fn end_idleness(&mut self, index: u32) {
        self.slots.unlink_idle(index);
        self.idle -= 1;
        self.provision.idle -= u32::from(self.slots[index].is_provisioned);
    }

    fn lost(&mut self, now: Time, instance: InstanceKey, commands: &mut Vec<Command>) {
        let Some(index) = self.slots.find(instance) else { return };
        match self.slots[index].state {
            State::Asking | State::Vacant => return,
            State::Starting => return self.start_failed(now, instance, commands),
            State::Stopping => {}
            State::Idle => self.end_idleness(index),
            State::Busy => {
                if self.slots[index].is_open() {
                    self.slots.unlink_open(index);
                }
                self.running -= self.slots[index].running.len() as u32;
                self.busy -= 1;
            }
        }
        if self.slots[index].is_provisioned {
            self.provision.lost(now);
        }
        self.slots.remove(index);
        commands.push(Command::Release { instance });
    }

    fn reclaim(&mut self, now: Time, unused_since: Time, commands: &mut Vec<Command>) {
        let old_enough = |index: &u32| self.slots[*index].since <= unused_since;
        let instance =
            self.slots.oldest_idle().filter(old_enough).map(|index| self.stop(now, index, commands));
        let oldest = self.slots.oldest_idle().map(|index| self.slots[index].since);
        commands.push(Command::Reclaimed { instance, oldest });
    }

    fn stop(&mut self, now: Time, index: u32, commands: &mut Vec<Command>) -> InstanceKey {
        self.end_idleness(index);
        self.let_go(index);
        let slot = &mut self.slots[index];
        (slot.state, slot.since) = (State::Stopping, now);
        let instance = self.slots.key(index);
        commands.push(Command::Stop { instance });
        instance
    }

    /// Brings what is waiting, what is there and what is on its way into agreement.
    fn settle(&mut self, now: Time, commands: &mut Vec<Command>) {
        self.serve(now, commands);
        self.refuse(now, commands);
        self.withhold(now, commands);
        self.keep(now, commands);
        self.cool(now, commands);
        let demand = self.demand(now);
        self.ask(now, demand, commands);
        self.withdraw(demand, commands);
        self.start_ahead(now, commands);
        self.provide(now, commands);
        if self.is_empty() {
            (self.waiting, self.asking) = (VecDeque::new(), Vec::new());
        }
    }

    /// Dispatches the oldest requests to the most recently used instances, provisioned ones first.
    fn serve(&mut self, now: Time, commands: &mut Vec<Command>) {
        while let Some(&Waiting { request, since }) = self.waiting.front() {
            let idle = self.slots.ready.newest().or(self.slots.newest_idle());
            let index = match (self.slots.open.newest(), idle) {
                (Some(open), _) => open,
                (None, Some(idle)) if !self.prefers_hot(now, since) => idle,
                _ => return,
            };
            self.waiting.pop_front();
            let instance = self.slots.key(index);
            if self.dispatch(now, request, index) > Warmth::Warm {
                commands.push(Command::Thaw { instance });
            }
            commands.push(Command::Dispatch { request, instance });
        }
    }

    /// How warm the instance was.
    fn dispatch(&mut self, now: Time, request: RequestKey, index: u32) -> Warmth {
        if self.slots[index].state == State::Idle {
            self.end_idleness(index);
            self.busy += 1;
        } else {
            self.slots.unlink_open(index);
        }
        let slot = &mut self.slots[index];
        let warmth = std::mem::replace(&mut slot.warmth, Warmth::Warm);
        slot.state = State::Busy;
        slot.running.push((request, now));
        if self.running == 0 {
            self.queue.turned = now;
        }
        self.running += 1;
        if slot.is_open() {
            self.slots.link_open(index);
        }
        warmth
    }

    /// Whether the oldest request, there since `since`, had better wait for a busy instance than take an
    /// idle one.
    fn prefers_hot(&self, now: Time, since: Time) -> bool {
        self.keep_alive() > Duration::ZERO
            && self.busy >= self.config.hot_instances
            && self.service.after(ENOUGH_REQUESTS).is_some_and(|service| {
                self.waiting.len() as u64 <= self.turns_within(self.config.spread_bound, service)
            })
            && now.since(since) < self.config.spread_limit
    }

    /// When a request that waits since then, and that no start covers, is refused.
    fn refused_at(&self, since: Time) -> Time {
        since.max(self.granted) + self.config.max_wait
    }

    /// Refuses those that no start covers and whose time is up.
    fn refuse(&mut self, now: Time, commands: &mut Vec<Command>) {
        while let Some(&Waiting { request, since }) = self.waiting.get(self.starting_room as usize)
            && self.refused_at(since) <= now
        {
            self.waiting.remove(self.starting_room as usize);
            commands.push(Command::Refuse { request, reason: Reason::Memory });
        }
    }

    /// Asks for instances until as many requests can be run by those on their way as there is demand for.
    fn ask(&mut self, now: Time, demand: usize, commands: &mut Vec<Command>) {
        self.paused = now < self.ask_again && (self.starting_room + self.asking_room) < demand as u32;
        if now < self.ask_again {
            return;
        }
        while ((self.starting_room + self.asking_room) as usize) < demand {
            let instance = self.add_asking(now);
            commands.push(Command::Ask { instance });
        }
    }

    /// A new instance that waits for memory.
    fn add_asking(&mut self, now: Time) -> InstanceKey {
        let concurrency = self.config.instance_concurrency.max(1);
        let index = self.slots.insert(now, concurrency);
        self.asking.push(index);
        self.asking_room += concurrency;
        self.slots.key(index)
    }

    /// Takes back asks for which there is no demand any more, the newest first. Where some is left, half as much
    /// again is kept: it goes up and down with every request, and an ask should not.
    fn withdraw(&mut self, demand: usize, commands: &mut Vec<Command>) {
        let keep = (demand + demand / 2).min(self.waiting.len());
        while let Some(&index) = self.asking.last() {
            let concurrency = self.slots[index].concurrency;
            let others = self.starting_room + self.asking_room - concurrency;
            if keep > others as usize || self.keeping.is_ahead(self.slots.key(index)) {
                return;
            }
            self.asking.pop();
            self.asking_room -= concurrency;
            commands.push(Command::Release { instance: self.slots.key(index) });
            self.slots.remove(index);
        }
    }

    fn keep_alive(&self) -> Duration {
        if self.retired { Duration::ZERO } else { self.config.keep_alive }
    }
}

#[cfg(test)]
mod tests;
