//! The rules of the budget and of concurrency, checked against accounts of our own.

use crate::pooling::{Broken, ensure};
use model::{MiB, Time, Version};
use policy::budget::{BudgetConfig, Command, Event, PoolKey};
use policy::concurrency::{Admitted, Throttle};
use policy::{Budget, Concurrency, InstanceKey};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Memory may stay with instances that were idle this long, while others wait for it, for this long.
const HOARDING: Duration = Duration::from_millis(50);

/// The budget as seen from outside.
pub(crate) struct Ledger {
    headroom: MiB,
    max_asks: usize,
    /// What each instance that holds memory is to be charged, MiB, once it has been observed.
    granted: BTreeMap<(PoolKey, InstanceKey), Option<u32>>,
    /// The same of paged-out instances, as it was before that.
    paged_out: BTreeMap<(PoolKey, InstanceKey), Option<u32>>,
    /// Descriptors that each instance was asked or granted with.
    descriptors: BTreeMap<(PoolKey, InstanceKey), u32>,
    /// Descriptors that there are.
    descriptor_limit: u32,
    /// One that is asked for ahead, until the answer.
    ahead: Option<(PoolKey, InstanceKey)>,
    /// In order of arrival.
    asks: Vec<(PoolKey, InstanceKey)>,
    /// Starts under way, and since when.
    starts: BTreeMap<(PoolKey, InstanceKey), Time>,
    /// What happened last to each pool that asks: it began to, or was granted one.
    turns: BTreeMap<PoolKey, u64>,
    turn: u64,
    max_starts: usize,
    patience: Duration,
    /// When an ask last waited though one more could have been started, or was denied.
    short: Time,
    /// Whether one still does.
    is_short: bool,
    /// Since when others wait for memory that idle instances hold.
    hoarding_since: Option<Time>,
}

impl Ledger {
    pub(crate) fn new(config: &BudgetConfig) -> Ledger {
        Ledger {
            headroom: config.headroom,
            max_asks: config.max_asks,
            granted: BTreeMap::new(),
            paged_out: BTreeMap::new(),
            descriptors: BTreeMap::new(),
            descriptor_limit: config.descriptors,
            ahead: None,
            asks: Vec::new(),
            starts: BTreeMap::new(),
            turns: BTreeMap::new(),
            turn: 0,
            max_starts: config.max_starts.max(1),
            patience: config.start_patience.max(Duration::from_millis(1)),
            short: Time::ZERO,
            is_short: false,
            hoarding_since: None,
        }
    }

    /// Notes what pools began to ask and which have stopped.
    fn take_turns(&mut self) {
        let asking: BTreeSet<_> = self.asks.iter().map(|ask| ask.0).collect();
        self.turns.retain(|pool, _| asking.contains(pool));
        for pool in asking {
            self.turn += 1;
            self.turns.entry(pool).or_insert(self.turn);
        }
    }

    /// An event that the budget is about to get.
    pub(crate) fn event(&mut self, event: &Event) {
        match *event {
            Event::Kept { .. } => {}
            Event::Ask { pool, instance, descriptors, .. } => {
                self.asks.push((pool, instance));
                self.descriptors.insert((pool, instance), descriptors);
            }
            Event::AskAhead { pool, instance, descriptors, .. } => {
                self.ahead = Some((pool, instance));
                self.descriptors.insert((pool, instance), descriptors);
            }
            Event::Released { pool, instance } => {
                self.descriptors.remove(&(pool, instance));
                self.granted.remove(&(pool, instance));
                self.paged_out.remove(&(pool, instance));
                self.starts.remove(&(pool, instance));
                self.asks.retain(|&ask| ask != (pool, instance));
            }
            Event::Observed { pool, instance, used } => {
                if let Some(due) = self.granted.get_mut(&(pool, instance)) {
                    *due = Some(used.0 + self.headroom.0);
                    self.starts.remove(&(pool, instance));
                    self.paged_out.remove(&(pool, instance));
                }
            }
            Event::PagedOut { pool, instance, used } => {
                if let Some(due) = self.granted.get_mut(&(pool, instance)) {
                    let before = due.replace(used.0);
                    self.paged_out.entry((pool, instance)).or_insert(before);
                }
            }
            Event::Thawed { pool, instance } => {
                if let Some(before) = self.paged_out.remove(&(pool, instance)) {
                    self.granted.insert((pool, instance), before);
                }
            }
            Event::Dropped { pool } => {
                self.granted.retain(|key, _| key.0 != pool);
                self.paged_out.retain(|key, _| key.0 != pool);
                self.descriptors.retain(|key, _| key.0 != pool);
                self.starts.retain(|key, _| key.0 != pool);
                self.asks.retain(|ask| ask.0 != pool);
            }
            Event::Reconfigured(ref config) => {
                (self.headroom, self.max_asks) = (config.headroom, config.max_asks);
                self.descriptor_limit = config.descriptors;
                self.max_starts = config.max_starts.max(1);
                self.patience = config.start_patience.max(Duration::from_millis(1));
            }
            Event::Reclaimed { .. } | Event::Wake { .. } => {}
        }
        self.take_turns();
    }

    /// A command that the budget gave.
    pub(crate) fn command(&mut self, now: Time, command: &Command) -> Result<(), Broken> {
        match *command {
            Command::Grant { pool, instance } if self.ahead == Some((pool, instance)) => {
                let beside = self.starts.values().filter(|&&since| now.since(since) < self.patience).count();
                ensure!(self.asks.is_empty(), "{pool} {instance} is granted ahead while others wait");
                let free = beside == 0 || beside + 1 < self.max_starts;
                ensure!(free, "{pool} {instance} takes the last place for a start");
                self.ahead = None;
                self.granted.insert((pool, instance), None);
                self.starts.insert((pool, instance), now);
            }
            Command::Deny { pool, instance } if self.ahead == Some((pool, instance)) => {
                self.ahead = None;
                self.descriptors.remove(&(pool, instance));
            }
            Command::Grant { pool, instance } => {
                self.check_turn(now, pool, instance)?;
                self.asks.retain(|&ask| ask != (pool, instance));
                self.granted.insert((pool, instance), None);
                self.starts.insert((pool, instance), now);
                self.turns.remove(&pool);
                self.take_turns();
            }
            Command::Deny { pool, instance } => {
                ensure!(self.asks.len() > self.max_asks, "{pool} {instance} is denied: the queue has room");
                let newest = self.asks.pop();
                self.short = now;
                self.descriptors.remove(&(pool, instance));
                self.take_turns();
                ensure!(newest == Some((pool, instance)), "{pool} {instance} is denied for {newest:?}");
            }
            Command::Reclaim { .. } => {}
            Command::GiveUp => ensure!(false, "nothing is kept here, and something is to be given up"),
        }
        Ok(())
    }

    /// A pool's asks are granted in order, pools take turns unless they have a start under way, and there are not
    /// more starts at once than may be.
    fn check_turn(&self, now: Time, pool: PoolKey, instance: InstanceKey) -> Result<(), Broken> {
        let oldest = self.asks.iter().find(|ask| ask.0 == pool);
        ensure!(oldest == Some(&(pool, instance)), "{pool} {instance} is granted before {oldest:?}");
        let turn = self.turns[&pool];
        for (other, _) in self.turns.iter().filter(|&(_, &others)| others < turn) {
            let starts = self.starts.keys().any(|start| start.0 == *other);
            ensure!(starts, "{pool} {instance} is granted when it is the turn of {other}");
        }
        let (long, short): (Vec<&Time>, Vec<&Time>) =
            self.starts.values().partition(|&&since| now.since(since) >= self.patience);
        let most = self.max_starts + long.len();
        ensure!(short.len() < most, "{pool} {instance} is granted beside {} starts", short.len());
        Ok(())
    }

    /// What must hold after a step that `granted` or did not.
    pub(crate) fn check(&mut self, now: Time, budget: &Budget, granted: bool) -> Result<(), Broken> {
        let stats = budget.stats();
        ensure!(self.ahead.is_none(), "an ask ahead waits: {:?}", self.ahead);
        ensure!(
            (stats.instances, stats.asks) == (self.granted.len(), self.asks.len()),
            "the budget counts {stats:?}, there are {} granted and {} asks",
            self.granted.len(),
            self.asks.len(),
        );
        ensure!(
            stats.starting <= self.starts.len(),
            "{} hold a place, {} start",
            stats.starting,
            self.starts.len()
        );
        let is_free = self.granted.is_empty() && stats.asks > 0;
        ensure!(!is_free, "{} wait for a grant on an empty machine", stats.asks);
        let is_short = stats.asks > 0 && stats.starting < self.max_starts;
        if is_short || self.is_short {
            self.short = now;
        }
        self.is_short = is_short;
        let (charged, limit) = (stats.charged, stats.limit);
        ensure!(!granted || charged <= limit, "granted beyond the limit: {charged} of {limit}");
        let held: u32 = self.granted.keys().map(|key| self.descriptors[key]).sum();
        ensure!(stats.descriptors == held, "{} descriptors charged, {held} held", stats.descriptors);
        ensure!(!granted || held <= self.descriptor_limit, "{held} descriptors of {}", self.descriptor_limit);
        let due: u32 = self.granted.values().flatten().sum();
        ensure!(charged.0 >= due, "{charged} charged, {due} due");
        let exact = self.granted.values().all(Option::is_some);
        ensure!(!exact || charged.0 == due, "{charged} charged, exactly {due} due");
        ensure!(stats.returning <= charged, "more is coming back than was charged");
        let at = budget.wake_at();
        ensure!(at.is_none_or(|at| at > now), "the budget wakes at {at:?}, which is past");
        Ok(())
    }

    /// A pool is about to refuse a request that has waited for memory this long: there must have been none.
    pub(crate) fn check_refusal(&self, now: Time, waited: Duration) -> Result<(), Broken> {
        let since = now.since(self.short);
        ensure!(
            self.is_short || since <= waited,
            "refused for want of memory, of which there was enough for {since:?}"
        );
        Ok(())
    }

    /// What must hold at any time: memory that is asked for comes back from those who do not use it.
    /// `oldest_idle`: since when the least recently used idle instance of the machine has been idle.
    pub(crate) fn check_time(
        &mut self,
        now: Time,
        budget: &Budget,
        oldest_idle: Option<Time>,
    ) -> Result<(), Broken> {
        let stats = budget.stats();
        let idle = oldest_idle.is_some_and(|since| now.since(since) >= HOARDING);
        // What waits for a place does not wait for memory.
        let places = self.starts.values().any(|&since| now.since(since) < self.patience * 21);
        if !idle || stats.asks == 0 || places || stats.returning > MiB(0) {
            self.hoarding_since = None;
            return Ok(());
        }
        let since = *self.hoarding_since.get_or_insert(now);
        ensure!(now.since(since) < HOARDING, "{} instances wait for memory that idle ones hold", stats.asks);
        Ok(())
    }
}

/// Concurrency as seen from outside.
pub(crate) struct Flights {
    limit: u32,
    reserved: Vec<Option<u32>>,
    in_flight: Vec<u32>,
}

impl Flights {
    pub(crate) fn new(limit: u32, functions: usize) -> Flights {
        Flights { limit, reserved: vec![None; functions], in_flight: vec![0; functions] }
    }

    /// Admits a request and compares the verdict with the rules; whether it was let in.
    pub(crate) fn admit(&mut self, concurrency: &mut Concurrency, function: usize) -> Result<bool, Broken> {
        let verdict = concurrency.admit(function as u64, Version::Latest).map(|_| ());
        let reserved: u32 = self.reserved.iter().flatten().sum();
        let sharing: u32 =
            self.in_flight.iter().zip(&self.reserved).filter(|(_, r)| r.is_none()).map(|(n, _)| n).sum();
        let rule = match self.reserved[function] {
            Some(reserved) if self.in_flight[function] >= reserved => Err(Throttle::ReservedConcurrency),
            None if sharing + reserved >= self.limit => Err(Throttle::AccountConcurrency),
            _ => Ok(()),
        };
        ensure!(verdict == rule, "function {function}: {verdict:?}, by the rules {rule:?}");
        self.in_flight[function] += u32::from(verdict.is_ok());
        self.check(concurrency, function)?;
        Ok(verdict.is_ok())
    }

    pub(crate) fn release(&mut self, concurrency: &mut Concurrency, function: usize) -> Result<(), Broken> {
        concurrency.release(function as u64, Version::Latest, Admitted::Beyond);
        self.in_flight[function] -= 1;
        self.check(concurrency, function)
    }

    /// Sets a reservation, if the rules allow it.
    pub(crate) fn reserve(
        &mut self,
        concurrency: &mut Concurrency,
        function: usize,
        reserved: Option<u32>,
    ) -> Result<(), Broken> {
        let others: u32 =
            self.reserved.iter().enumerate().filter(|(i, _)| *i != function).filter_map(|(_, r)| *r).sum();
        let allowed = reserved.is_none_or(|n| others + n + 100.min(self.limit) <= self.limit || n == 0);
        let verdict = concurrency.set_reserved(function as u64, reserved);
        ensure!(verdict.is_ok() == allowed, "reserving {reserved:?} beside {others}: {verdict:?}");
        if allowed {
            self.reserved[function] = reserved;
        }
        self.check(concurrency, function)
    }

    fn check(&self, concurrency: &Concurrency, function: usize) -> Result<(), Broken> {
        let (claimed, counted) = (concurrency.in_flight(function as u64), self.in_flight[function]);
        ensure!(claimed == counted, "function {function}: {claimed} in flight, really {counted}");
        let (unreserved, reserved) = (concurrency.unreserved(), self.reserved.iter().flatten().sum::<u32>());
        ensure!(unreserved + reserved == self.limit, "{unreserved} unreserved beside {reserved} reserved");
        Ok(())
    }
}
