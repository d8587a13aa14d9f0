//! The rules of a pool, checked against an account of our own.
//!
//! [`Account`] follows the events that a pool gets and the commands it gives, and says which command is
//! wrong and which state is. It shares nothing with the pool but those.

use crate::keeping::Keeping;
use crate::providing::Providing;
use crate::report::clock;
use model::Time;
use policy::pool::{Command, Event, Reason};
use policy::{InstanceKey, Pool, PoolConfig, RequestKey};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A rule that did not hold.
pub(crate) type Broken = String;

/// Fails with a formatted rule unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($rule:tt)+) => {
        if !$condition {
            return Err(format!($($rule)+));
        }
    };
}
pub(crate) use ensure;

/// A pool as seen from outside.
pub(crate) struct Account {
    pub(crate) config: PoolConfig,
    pub(crate) retired: bool,
    pub(crate) instances: BTreeMap<InstanceKey, Instance>,
    waiting: VecDeque<(RequestKey, Time)>,
    /// How late a timer may be.
    slop: Duration,
    arrived: u64,
    starts: u64,
    last_serial: u64,
    /// When the last instance was asked for.
    asked: Time,
    /// When the budget last granted anything.
    granted: Time,
    /// When a request last finished, or began to run while no other did.
    turned: Time,
    /// The budget said no; the pool may pause before it asks again.
    denied: Option<Time>,
    /// The `Reclaim` being answered.
    reclaiming: Option<Time>,
    /// Granted when the pool no longer wanted it.
    stray: Option<InstanceKey>,
    /// The instance that was just thawed.
    thawed: Option<InstanceKey>,
    /// Requests still to be failed because their start failed.
    failing: usize,
    /// Requests that waited when the queue became shorter than that.
    surplus: usize,
    /// The longest `max_wait` and the longest start so far.
    longest: (Duration, Duration),
    /// The longest `start_estimate` so far.
    longest_estimate: Duration,
    /// Instances started ahead, and those of them that then served a request.
    pub(crate) started_ahead: u64,
    pub(crate) used_ahead: u64,
    /// How long idle instances may stay, and which were started ahead.
    keeping: Keeping,
    /// Instances that are wanted whether requests come or not, and which they are.
    pub(crate) providing: Providing,
}

/// An instance as seen from outside.
pub(crate) struct Instance {
    pub(crate) stage: Stage,
    pub(crate) room: u32,
    pub(crate) running: BTreeMap<RequestKey, Time>,
    /// Whether nothing in it runs.
    pub(crate) frozen: bool,
    /// Whether its memory was pushed out.
    pub(crate) paged_out: bool,
}

/// What an instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Asked,
    Granted,
    Starting(Time),
    /// Since when it has run nothing, or when it last did.
    Ready(Time),
    Stopping,
    /// The start failed: requests are being failed.
    Failed,
    /// To be released.
    Gone,
}

/// For how long a pool whose requests are short need not try whether more instances help.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// For how long after a denial a pool need not ask again.
const DENIAL_PAUSE: Duration = Duration::from_millis(50);

impl Account {
    pub(crate) fn new(config: PoolConfig, slop: Duration) -> Account {
        Account {
            started_ahead: 0,
            used_ahead: 0,
            longest_estimate: config.start_estimate,
            keeping: Keeping::new(&config),
            providing: Providing::default(),
            longest: (config.max_wait, Duration::ZERO),
            config,
            retired: false,
            instances: BTreeMap::new(),
            waiting: VecDeque::new(),
            slop,
            arrived: 0,
            starts: 0,
            last_serial: 0,
            asked: Time::ZERO,
            granted: Time::ZERO,
            turned: Time::ZERO,
            denied: None,
            reclaiming: None,
            stray: None,
            thawed: None,
            failing: 0,
            surplus: 0,
        }
    }

    /// When a request began to wait; `None` when it does not.
    pub(crate) fn waiting_since(&self, request: RequestKey) -> Option<Time> {
        self.waiting.iter().find(|waiting| waiting.0 == request).map(|waiting| waiting.1)
    }

    /// Idle instances that may be let go, each with the time since when.
    pub(crate) fn idle(&self) -> impl Iterator<Item = (InstanceKey, Time)> {
        self.all_idle().filter(|(key, _)| !self.providing.has(*key))
    }

    /// … and provisioned ones.
    fn all_idle(&self) -> impl Iterator<Item = (InstanceKey, Time)> {
        self.instances.iter().filter_map(|(&key, instance)| instance.idle_since().map(|since| (key, since)))
    }

    /// An event that the pool is about to get.
    pub(crate) fn event(&mut self, now: Time, event: &Event) {
        for instance in self.instances.values() {
            if let Stage::Starting(since) = instance.stage {
                self.longest.1 = self.longest.1.max(now.since(since));
            }
        }
        let was_ahead = matches!(*event, Event::Denied { instance } if self.keeping.is_ahead(instance));
        self.keeping.event(now, event);
        let stage = |instance: &InstanceKey| self.instances.get(instance).map(|instance| instance.stage);
        let was_provisioned = self.providing.event(now, event, stage);
        match *event {
            Event::Arrived { request } => {
                self.arrived += 1;
                self.waiting.push_back((request, now));
            }
            Event::Abandoned { request } => self.waiting.retain(|waiting| waiting.0 != request),
            Event::Granted { instance } if !self.instances.contains_key(&instance) => {
                self.stray = Some(instance);
            }
            Event::Granted { instance } => {
                if !was_provisioned {
                    self.granted = now;
                }
                self.enter(instance, Stage::Granted);
            }
            Event::Denied { instance } => {
                if self.instances.remove(&instance).is_some() && !was_ahead && !was_provisioned {
                    self.denied = Some(now);
                }
            }
            Event::Started { instance } => self.enter(instance, Stage::Ready(now)),
            Event::StartFailed { instance } => self.start_failed(instance, was_provisioned),
            Event::Finished { instance, request } => {
                if let Some(instance) = self.instances.get_mut(&instance)
                    && instance.running.remove(&request).is_some()
                {
                    instance.stage = Stage::Ready(now);
                    self.turned = now;
                }
            }
            Event::Lost { instance } => match self.instances.get(&instance).map(|instance| instance.stage) {
                Some(Stage::Starting(_)) => self.start_failed(instance, was_provisioned),
                _ => self.enter(instance, Stage::Gone),
            },
            Event::Reconfigured(ref config) => {
                self.config = config.clone();
                self.longest.0 = self.longest.0.max(config.max_wait);
                self.longest_estimate = self.longest_estimate.max(config.start_estimate);
                self.surplus = self.waiting.len();
            }
            Event::Retired => self.retired = true,
            Event::Reclaim { unused_since } => self.reclaiming = Some(unused_since),
            Event::Provision { .. } | Event::Wake => {}
        }
    }

    /// Fails as many requests as the instance would have taken; none when it is a provisioned one.
    fn start_failed(&mut self, instance: InstanceKey, was_provisioned: bool) {
        self.enter(instance, Stage::Failed);
        let room = self.instances.get(&instance).map_or(0, |instance| instance.room as usize);
        self.failing = if was_provisioned { 0 } else { self.waiting.len().min(room) };
    }

    fn enter(&mut self, instance: InstanceKey, stage: Stage) {
        if let Some(instance) = self.instances.get_mut(&instance) {
            instance.stage = stage;
        }
    }

    /// A command that the pool gave, in order.
    pub(crate) fn command(&mut self, now: Time, command: &Command) -> Result<(), Broken> {
        if let Some(thawed) = self.thawed.take() {
            let used = matches!(*command, Command::Dispatch { instance, .. } if instance == thawed);
            ensure!(used, "{thawed} is thawed for nothing: {command:?}");
        }
        match *command {
            Command::Ask { instance } => {
                self.asked = now;
                self.check_ask(instance)
            }
            Command::AskAhead { instance } => self.check_ask_ahead(now, instance),
            Command::AskProvisioned { instance } => {
                self.providing.check_ask(now, instance)?;
                self.insert(instance)
            }
            Command::Release { instance } => self.released(instance),
            Command::Start { instance } => {
                let stage = self.instances.get(&instance).map(|instance| instance.stage);
                ensure!(stage == Some(Stage::Granted), "{instance} is started without memory: {stage:?}");
                match (self.providing.has(instance), self.keeping.is_ahead(instance)) {
                    (true, _) => {}
                    (_, true) => self.started_ahead += 1,
                    _ => self.starts += 1,
                }
                ensure!(self.starts <= self.arrived, "more starts than requests: a retry storm");
                self.enter(instance, Stage::Starting(now));
                Ok(())
            }
            Command::Dispatch { request, instance } => self.dispatched(now, request, instance),
            Command::Refuse { request, reason } => self.refused(now, request, reason),
            Command::Fail { request, instance } => {
                ensure!(self.failing > 0, "{request} is failed though {instance} was not for it");
                self.failing -= 1;
                let oldest = self.waiting.pop_front().map(|waiting| waiting.0);
                ensure!(oldest == Some(request), "{request} is failed while {oldest:?} has waited longer");
                Ok(())
            }
            Command::Stop { instance } => self.stopped(now, instance),
            Command::Freeze { instance } => self.check_freeze(now, instance),
            Command::PageOut { instance } => self.check_page_out(now, instance),
            Command::Thaw { instance } => {
                let frozen = self.instances.get_mut(&instance).filter(|instance| instance.frozen);
                let Some(frozen) = frozen else { return Err(format!("{instance} is thawed and not frozen")) };
                (frozen.frozen, frozen.paged_out) = (false, false);
                self.thawed = Some(instance);
                Ok(())
            }
            Command::Reclaimed { instance, oldest } => {
                ensure!(self.reclaiming.take().is_some(), "an answer to no Reclaim");
                let really = self.idle().map(|idle| idle.1).min();
                ensure!(oldest == really, "the oldest idle instance is from {really:?}, not {oldest:?}");
                let stopping = instance.map(|instance| self.instances[&instance].stage);
                ensure!(matches!(stopping, None | Some(Stage::Stopping)), "reclaimed, but {stopping:?}");
                Ok(())
            }
        }
    }

    /// What is frozen has run nothing for long enough, and longer than all that is not.
    fn check_freeze(&mut self, now: Time, key: InstanceKey) -> Result<(), Broken> {
        let warm = self.idle().filter(|(key, _)| !self.instances[key].frozen);
        let oldest = warm.map(|(_, since)| since).min();
        let after = self.config.freeze_after;
        let Some(instance) = self.instances.get_mut(&key) else { return Err(format!("{key} freezes, gone")) };
        let since = instance.idle_since().filter(|since| now.since(*since) >= after);
        ensure!(since.is_some() && !instance.frozen, "{key} is frozen before its time, or not idle");
        ensure!(since == oldest, "{key} is frozen and another that is idle for longer is not");
        ensure!(instance.room == 1, "{key} is frozen, and might get a second request before it is thawed");
        instance.frozen = true;
        Ok(())
    }

    fn check_page_out(&mut self, now: Time, key: InstanceKey) -> Result<(), Broken> {
        let after = self.config.page_out_after;
        let Some(instance) = self.instances.get_mut(&key) else {
            return Err(format!("{key} pages out, gone"));
        };
        let due = instance.idle_since().is_some_and(|since| now.since(since) >= after);
        ensure!(due && instance.frozen && !instance.paged_out, "{key} is paged out before its time");
        instance.paged_out = true;
        Ok(())
    }

    fn check_ask(&mut self, instance: InstanceKey) -> Result<(), Broken> {
        let coming = self.room(|stage| matches!(stage, Stage::Asked | Stage::Granted | Stage::Starting(_)));
        ensure!(coming < self.waiting.len(), "{instance} is asked for, and nothing waits for it");
        self.insert(instance)
    }

    /// Nothing is started ahead of a request unless there is nothing, and a window opens as soon as it can be ready.
    fn check_ask_ahead(&mut self, now: Time, instance: InstanceKey) -> Result<(), Broken> {
        ensure!(self.instances.is_empty(), "{instance} is started ahead beside others");
        ensure!(self.waiting.is_empty() && !self.retired, "{instance} is started ahead and is needed now");
        self.keeping.begin(now, self.is_quiet());
        let start = self.longest_start();
        self.keeping.check_ask_ahead(now, instance, start)?;
        self.insert(instance)
    }

    fn insert(&mut self, instance: InstanceKey) -> Result<(), Broken> {
        let serial = instance.0 >> 32;
        ensure!(serial > self.last_serial, "{instance} is not a new key");
        self.last_serial = serial;
        let room = self.config.instance_concurrency.max(1);
        self.instances.insert(instance, Instance::new(room));
        Ok(())
    }

    fn released(&mut self, instance: InstanceKey) -> Result<(), Broken> {
        if self.stray.take_if(|stray| *stray == instance).is_some() {
            return Ok(());
        }
        let Some(gone) = self.instances.remove(&instance) else {
            return Err(format!("{instance} is released twice, or was never asked for"));
        };
        match gone.stage {
            Stage::Gone | Stage::Failed => Ok(()),
            Stage::Asked if self.providing.has(instance) => self.providing.check_withheld(instance),
            Stage::Asked => {
                let coming = self.room(|stage| matches!(stage, Stage::Asked | Stage::Starting(_)));
                let served = self.instances.values().any(|i| matches!(i.stage, Stage::Ready(_)));
                ensure!(
                    served || coming >= self.waiting.len(),
                    "{instance} is given up while it is waited for"
                );
                Ok(())
            }
            stage => Err(format!("{instance} is released while {stage:?}")),
        }
    }

    fn dispatched(&mut self, now: Time, request: RequestKey, key: InstanceKey) -> Result<(), Broken> {
        let oldest = self.waiting.pop_front();
        let Some((_, since)) = oldest.filter(|oldest| oldest.0 == request) else {
            return Err(format!("{request} is served before {oldest:?} or twice"));
        };
        let bound = self.longest.0 + self.longest.1 + self.slop;
        ensure!(now.since(since.max(self.granted)) <= bound, "{request} has waited since {}", clock(since));
        if self.instances.values().all(|instance| instance.running.is_empty()) {
            self.turned = now;
        }
        let ready = self.all_idle().filter(|(key, _)| self.providing.has(*key)).map(|idle| idle.1).max();
        let newest = ready.or(self.idle().map(|idle| idle.1).max());
        let some_open = self.instances.values().any(Instance::is_open);
        let Some(instance) = self.instances.get_mut(&key) else {
            return Err(format!("{request} is given to {key}, which is gone"));
        };
        ensure!(
            matches!(instance.stage, Stage::Ready(_)),
            "{request} is given to {key}: {:?}",
            instance.stage
        );
        ensure!(!instance.frozen, "{request} is given to {key}, which is frozen");
        ensure!((instance.running.len() as u32) < instance.room, "{key} runs more than its concurrency");
        match instance.idle_since() {
            Some(_) if some_open => return Err(format!("{key} is woken while a busy one has room")),
            Some(since) => {
                ensure!(Some(since) == newest, "{key} is not the most recently used");
                let is_first = ready.is_none() || self.providing.has(key);
                ensure!(is_first, "{key} is used, and a provisioned one is idle");
            }
            None => {}
        }
        instance.running.insert(request, now);
        self.used_ahead += u64::from(self.keeping.used(key));
        Ok(())
    }

    fn refused(&mut self, now: Time, request: RequestKey, reason: Reason) -> Result<(), Broken> {
        let Some(index) = self.waiting.iter().position(|waiting| waiting.0 == request) else {
            return Err(format!("{request} is refused and does not wait"));
        };
        let (_, since) = self.waiting[index];
        match reason {
            Reason::Queue => {
                ensure!(index >= self.config.max_waiting, "{request} is refused: the queue has room")
            }
            Reason::Retired => ensure!(self.retired, "{request} is refused by a pool that is not retired"),
            Reason::Memory => {
                let vain = now.since(since.max(self.granted));
                ensure!(vain >= self.config.max_wait, "{request} is refused before its time");
                let starting = self.room(|stage| matches!(stage, Stage::Starting(_)));
                ensure!(index >= starting, "{request} is refused while an instance is being started for it");
            }
        }
        self.waiting.remove(index);
        Ok(())
    }

    fn stopped(&mut self, now: Time, key: InstanceKey) -> Result<(), Broken> {
        let since = self.instances.get(&key).and_then(Instance::idle_since);
        let Some(since) = since else { return Err(format!("{key} is stopped and not idle")) };
        if self.providing.has(key) {
            self.providing.check_withheld(key)?;
            self.enter(key, Stage::Stopping);
            return Ok(());
        }
        let reclaimed = self.reclaiming.is_some_and(|unused_since| since <= unused_since);
        self.keeping.begin(now, self.is_quiet());
        let ahead_until = self.keeping.stopped(key, reclaimed || self.retired);
        if reclaimed || self.retired {
            // Whatever was expected.
        } else if self.is_windowed() {
            self.keeping.check_stop(now, key, ahead_until)?;
        } else {
            let expired = now.since(since) >= self.config.keep_alive;
            ensure!(expired, "{key} is stopped before its time");
        }
        let oldest = self.idle().map(|idle| idle.1).min();
        ensure!(oldest == Some(since), "{key} is stopped and not the least recently used");
        self.enter(key, Stage::Stopping);
        Ok(())
    }

    /// Requests that instances in such a stage can run at once; requests do not count on provisioned ones.
    fn room(&self, wanted: impl Fn(Stage) -> bool) -> usize {
        let counted = self.instances.iter().filter(|(key, i)| wanted(i.stage) && !self.providing.has(**key));
        counted.map(|(_, i)| i.room as usize).sum()
    }

    /// What must hold after a step.
    pub(crate) fn check(&mut self, now: Time, pool: &Pool) -> Result<(), Broken> {
        self.surplus = self.surplus.min(self.waiting.len());
        self.check_stats(pool)?;
        self.check_wake(now, pool)?;
        self.check_demand()?;
        self.providing.check(pool, |key| self.instances.get(key).map(|instance| instance.stage))?;
        let idle = self.all_idle().filter(|(key, _)| self.providing.has(*key)).count();
        self.providing.check_surplus(idle)?;
        self.keeping.settle(now, self.is_quiet());
        self.check_time(now)?;
        ensure!(self.reclaiming.is_none(), "a Reclaim is not answered");
        ensure!(self.stray.is_none(), "memory granted too late is not given back: {:?}", self.stray);
        ensure!(self.thawed.is_none(), "an instance is thawed for nothing: {:?}", self.thawed);
        ensure!(self.failing == 0, "a start failed, and {} requests for it still wait", self.failing);
        Ok(())
    }

    /// What must hold at any time, whether the pool was woken or not.
    pub(crate) fn check_time(&mut self, now: Time) -> Result<(), Broken> {
        self.check_waits(now)?;
        self.check_warmth(now)?;
        self.providing.check_time(now, self.late())?;
        let keep_alive = if self.retired { Duration::ZERO } else { self.config.keep_alive };
        if self.is_windowed() && !self.retired {
            let (late, start) = (self.late(), self.longest_start());
            let idle = self.idle().next();
            return match idle {
                Some((key, _)) => self.keeping.check_idle(now, key, late, start),
                None if self.instances.is_empty() => self.keeping.check_absence(now, late),
                None => Ok(()),
            };
        }
        for (key, since) in self.idle() {
            ensure!(now.since(since) < keep_alive + self.late(), "{key} is idle past its keep-alive");
        }
        Ok(())
    }

    /// Nothing is frozen that runs something; what has been idle for long enough is frozen, then paged out.
    fn check_warmth(&self, now: Time) -> Result<(), Broken> {
        let one_at_a_time = self.idle().all(|(key, _)| self.instances[&key].room == 1);
        for (key, instance) in &self.instances {
            ensure!(!instance.frozen || instance.running.is_empty(), "{key} is frozen and runs something");
            // Provisioned ones are always ready.
            let idle = instance.idle_since().filter(|_| one_at_a_time && !self.providing.has(*key));
            let Some(since) = idle else { continue };
            let due = |after: Duration| now >= since + after + self.late();
            ensure!(instance.frozen || !due(self.config.freeze_after), "{key} is idle and not frozen");
            let worth_it = self.config.page_out_start.is_zero();
            let page_out = worth_it && due(self.config.page_out_after.max(self.config.freeze_after));
            ensure!(instance.paged_out || !page_out, "{key} is frozen and not paged out");
        }
        Ok(())
    }

    /// Whether what was learned says how long the idle instance may stay.
    fn is_windowed(&self) -> bool {
        let any_wanted = self.providing.wanted > 0;
        !any_wanted && self.keeping.is_windowed() && self.is_quiet() && self.all_idle().count() <= 1
    }

    /// Whether nothing runs or waits.
    fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.instances.values().all(|instance| instance.running.is_empty())
    }

    /// What a start can be expected to take.
    fn longest_start(&self) -> Duration {
        self.longest.1.max(self.longest_estimate)
    }

    /// The least time that is too late for something due at a bound.
    fn late(&self) -> Duration {
        self.slop + Duration::from_nanos(1)
    }

    fn check_stats(&self, pool: &Pool) -> Result<(), Broken> {
        let count =
            |wanted: &dyn Fn(&Instance) -> bool| self.instances.values().filter(|i| wanted(i)).count();
        let ready = |i: &Instance| matches!(i.stage, Stage::Ready(_));
        let stats = pool.stats();
        let claimed = [stats.waiting, stats.running, stats.asking, stats.starting, stats.idle, stats.busy];
        let counted = [
            self.waiting.len(),
            self.instances.values().map(|i| i.running.len()).sum(),
            count(&|i| i.stage == Stage::Asked),
            count(&|i| matches!(i.stage, Stage::Starting(_))),
            count(&|i| ready(i) && i.running.is_empty()),
            count(&|i| ready(i) && !i.running.is_empty()),
        ];
        ensure!(claimed == counted, "the pool counts {claimed:?}, there are {counted:?}");
        let (stopping, total) = (count(&|i| i.stage == Stage::Stopping), self.instances.len());
        let alive = counted[2..].iter().sum::<usize>() + stopping;
        let ahead = (stats.started_ahead, stats.used_ahead);
        let counted = (self.started_ahead, self.used_ahead);
        ensure!(ahead == counted, "the pool counts {ahead:?} started ahead and used, there were {counted:?}");
        ensure!(
            alive == total && stats.stopping == stopping,
            "{total} instances, of which {alive} are alive"
        );
        ensure!(pool.is_empty() == (total == 0 && self.waiting.is_empty()), "is_empty is wrong");
        Ok(())
    }

    fn check_wake(&self, now: Time, pool: &Pool) -> Result<(), Broken> {
        let at = pool.wake_at();
        ensure!(at.is_none_or(|at| at > now), "to be woken at {at:?}, which is past: a wake-up without end");
        let starting = self.room(|stage| matches!(stage, Stage::Starting(_)));
        ensure!(self.waiting.len() <= starting || at.is_some(), "requests wait and nothing wakes the pool");
        ensure!(self.idle().next().is_none() || at.is_some(), "an idle instance, and nothing wakes the pool");
        Ok(())
    }

    /// Every instance that is asked for is needed by a request that waits.
    fn check_demand(&self) -> Result<(), Broken> {
        ensure!(self.waiting.len() <= self.config.max_waiting.max(self.surplus), "more wait than may");
        let coming = self.room(|stage| matches!(stage, Stage::Asked | Stage::Starting(_)));
        let asked = self.instances.iter().filter(|(_, instance)| instance.stage == Stage::Asked);
        let asked = asked.filter(|(key, _)| !self.keeping.is_ahead(**key) && !self.providing.has(**key));
        if let Some((key, newest)) = asked.max_by_key(|(key, _)| key.0 >> 32) {
            let others = coming - newest.room as usize;
            ensure!(self.waiting.len() > others, "{key} is still asked for, and nothing waits for it");
        }
        Ok(())
    }

    fn check_waits(&self, now: Time) -> Result<(), Broken> {
        let Some(&(oldest, since)) = self.waiting.front() else { return Ok(()) };
        ensure!(
            !self.instances.values().any(Instance::is_open),
            "{oldest} waits while a busy instance has room"
        );
        let busy = self.instances.values().filter(|instance| !instance.running.is_empty()).count();
        let any_idle = self.all_idle().next().is_some();
        if any_idle {
            ensure!(busy >= self.config.hot_instances as usize, "{oldest} waits while an instance is idle");
            ensure!(busy > 0, "{oldest} waits for a busy instance and there is none");
            let late = self.config.spread_limit + self.late();
            ensure!(now.since(since) < late, "{oldest} waits since {} beside an idle one", clock(since));
        }
        let starting = self.room(|stage| matches!(stage, Stage::Starting(_)));
        let coming = starting + self.room(|stage| stage == Stage::Asked);
        if let Some(&(request, since)) = self.waiting.get(starting) {
            let late = self.config.max_wait + self.late();
            ensure!(
                now.since(since.max(self.granted)) < late,
                "{request} waits since {} in vain",
                clock(since)
            );
        }
        let may_ask = self.denied.is_none_or(|at| now.since(at) >= DENIAL_PAUSE + self.late());
        if let Some(&(request, since)) = self.waiting.get(coming).filter(|_| may_ask && !any_idle) {
            let (bound, limit) = (self.config.wait_bound, self.config.wait_bound.max(self.config.wait_limit));
            ensure!(busy > 0, "{request} waits for a busy instance and there is none");
            // Where turns come all the time and more instances have not helped, they are tried now and then.
            let pause = if self.starts < 2 { Duration::ZERO } else { MAX_PAUSE.max(self.longest.1) * 2 };
            let tried = if self.starts < 2 { since } else { since.max(self.asked) };
            let late = limit + pause + self.late();
            ensure!(now.since(tried) < late, "{request} waits since {} and nothing starts", clock(since));
            let stall = if self.starts < 2 { bound } else { limit };
            let stuck = now.since(since.max(self.turned)) >= stall + self.late();
            ensure!(!stuck, "{request} waits since {}, nothing ends and nothing starts", clock(since));
        }
        Ok(())
    }
}

impl Instance {
    fn new(room: u32) -> Instance {
        Instance { stage: Stage::Asked, room, running: BTreeMap::new(), frozen: false, paged_out: false }
    }

    /// Since when it has run nothing; `None` when it does or cannot.
    pub(crate) fn idle_since(&self) -> Option<Time> {
        match self.stage {
            Stage::Ready(since) if self.running.is_empty() => Some(since),
            _ => None,
        }
    }

    /// Whether it runs something and could run more.
    fn is_open(&self) -> bool {
        let ready = matches!(self.stage, Stage::Ready(_));
        ready && !self.running.is_empty() && (self.running.len() as u32) < self.room
    }
}
