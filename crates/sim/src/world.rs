//! Virtual time: the shell, the executor and the callers.
//!
//! Everything that will happen is in one heap, ordered by time and then by when it was put there. Commands
//! turn into happenings; happenings turn into events.

mod executor; //  how long things take and what goes wrong
mod processor; // what computing costs while others compute
mod shell; //     feeds the state machines and carries out their commands

use crate::Random;
use crate::budgeting::{Flights, Ledger};
use crate::pooling::{Account, Broken, ensure};
use crate::report::{Digest, Failure, Report};
use crate::scenario::{Faults, Function, Scenario, Workload};
use model::{MiB, Time};
use policy::budget::{self, PoolKey};
use policy::pool::{self, Event};
use policy::{Budget, Concurrency, InstanceKey, Pool, RequestKey, meter};
use processor::Processors;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::hash::Hasher;
use std::time::Duration;

/// Time is let on by this much before the rules that it alone can break are checked: later is soon enough.
const CHECK_EVERY: Duration = Duration::from_millis(1);

/// Provisioned instances that are missing are there after this time, if they can be had: longer than any pause.
const LONG: Duration = Duration::from_secs(100);

/// No scenario needs more.
const MAX_HAPPENINGS: u64 = 1_000_000;

/// Something that will happen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// A function's workload sends its next requests; for closed loops, this caller's.
    Send {
        function: usize,
    },
    /// A message between a pool and the budget arrives.
    Message(Box<Message>),
    StartEnds {
        pool: PoolKey,
        instance: InstanceKey,
        ok: bool,
    },
    RequestEnds {
        pool: PoolKey,
        instance: InstanceKey,
        request: RequestKey,
        crash: bool,
    },
    StopEnds {
        pool: PoolKey,
        instance: InstanceKey,
    },
    /// An instance could not be thawed for a request.
    ThawFails {
        pool: PoolKey,
        instance: InstanceKey,
        request: RequestKey,
    },
    /// The memory of a frozen instance has been pushed out, unless it was thawed meanwhile.
    PageOutEnds {
        pool: PoolKey,
        instance: InstanceKey,
    },
    CallerLeaves {
        pool: PoolKey,
        request: RequestKey,
    },
    Observe {
        pool: PoolKey,
        instance: InstanceKey,
    },
    /// A timer fires, unless an earlier one has taken its place.
    PoolTimer {
        pool: PoolKey,
        due: Time,
    },
    BudgetTimer {
        due: Time,
    },
    Fault,
    /// Another number of provisioned instances is wanted.
    Provide {
        function: usize,
    },
    /// Something has been waited for; now it takes this much work.
    Work(Duration, Box<Happening>),
    /// A piece of work is done, if none has begun or ended since this was said.
    WorkEnds {
        turn: u64,
    },
}

/// What goes between a pool and the budget.
#[derive(Clone, Debug)]
enum Message {
    ToPool(PoolKey, Event),
    ToBudget(budget::Event),
}

// Happenings are ordered by time and number only; the heap never gets to compare two messages.
impl PartialEq for Message {
    fn eq(&self, _: &Message) -> bool {
        true
    }
}
impl Eq for Message {}
impl PartialOrd for Message {
    fn partial_cmp(&self, other: &Message) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Message {
    fn cmp(&self, _: &Message) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// A pool, our account of it and its timer.
struct Member {
    function: usize,
    pool: Pool,
    account: Account,
    timer: Option<Time>,
    /// Real memory of instances that were started, and when.
    memory: BTreeMap<InstanceKey, (MiB, Time)>,
    /// What paged-out instances used before that.
    paged_out: BTreeMap<InstanceKey, MiB>,
    /// Instances that could not be thawed, until the request that they were to run has gone elsewhere.
    stuck: BTreeSet<InstanceKey>,
    /// How long the start took that a request waited for.
    inits: BTreeMap<InstanceKey, Duration>,
    /// Instances that have not run any request yet.
    unused: BTreeSet<InstanceKey>,
}

/// A request that has not ended.
struct Live {
    pool: PoolKey,
    function: usize,
    arrived: Time,
    dispatched: Option<Time>,
    init: Option<Duration>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Finished,
    Crashed,
    Failed,
    Refused,
    Abandoned,
}

/// Everything there is.
pub(crate) struct World<'a> {
    scenario: &'a Scenario,
    random: Random,
    now: Time,
    heap: BinaryHeap<Reverse<(Time, u64, Happening)>>,
    /// Orders happenings of the same time.
    number: u64,
    /// Messages that take no time.
    outbox: VecDeque<Message>,
    /// When the last message in each direction arrives: they do not overtake.
    channel: [Time; 2],
    members: BTreeMap<PoolKey, Member>,
    /// The pool that serves each function.
    current: Vec<PoolKey>,
    last_pool: u64,
    budget: Budget,
    ledger: Ledger,
    budget_timer: Option<Time>,
    concurrency: Concurrency,
    flights: Flights,
    requests: BTreeMap<RequestKey, Live>,
    /// Requests that each function has still to be sent.
    unsent: Vec<u64>,
    /// Provisioned instances that each function is to have.
    wanted: Vec<u32>,
    /// Changes of those numbers still to come.
    provides_left: u32,
    /// Since when nothing is left but those.
    calm: Option<Time>,
    /// Requests that have arrived again.
    again: u64,
    /// When the rules that time alone can break were last checked.
    checked: Time,
    /// Faults still to come.
    faults_left: u32,
    /// None: computing is not slowed down by other computing.
    processors: Option<Processors>,
    /// When the processors' spare time was last looked at, and how much there had been.
    idle: (Time, u64),
    /// Counts changes of what the processors do.
    turn: u64,
    report: Report,
    digest: Digest,
    log: Option<VecDeque<String>>,
}

impl<'a> World<'a> {
    pub(crate) fn new(scenario: &'a Scenario, with_log: bool) -> World<'a> {
        let budget = &scenario.budget;
        World {
            scenario,
            // Not the numbers that the scenario was drawn from.
            random: Random::new(!scenario.seed),
            now: Time::ZERO,
            heap: BinaryHeap::new(),
            number: 0,
            outbox: VecDeque::new(),
            channel: [Time::ZERO; 2],
            members: BTreeMap::new(),
            current: Vec::new(),
            last_pool: 0,
            budget: Budget::new(budget.clone()),
            ledger: Ledger::new(budget),
            budget_timer: None,
            concurrency: Concurrency::new(scenario.account_limit),
            flights: Flights::new(scenario.account_limit, scenario.functions.len()),
            requests: BTreeMap::new(),
            unsent: scenario.functions.iter().map(|function| function.requests).collect(),
            wanted: Vec::new(),
            provides_left: 100,
            calm: None,
            again: 0,
            checked: Time::ZERO,
            faults_left: 200,
            processors: (scenario.cores > 0).then(|| Processors::new(scenario.cores)),
            idle: (Time::ZERO, 0),
            turn: 0,
            report: Report::default(),
            digest: Digest::default(),
            log: with_log.then(VecDeque::new),
        }
    }

    /// Plays everything to the end.
    pub(crate) fn run(mut self) -> Result<Report, Failure> {
        match self.play() {
            Ok(()) => Ok(self.report()),
            Err(rule) => {
                let log = self.log.into_iter().flatten().collect();
                Err(Failure { seed: self.scenario.seed, at: self.now, rule, log })
            }
        }
    }

    fn report(mut self) -> Report {
        self.report.digest = self.digest.finish();
        self.report.end = self.now;
        self.report.waits.sort_unstable();
        self.report.responses.sort_unstable();
        self.report
    }

    fn play(&mut self) -> Result<(), Broken> {
        self.open()?;
        self.drain()?;
        self.check_provided()?;
        ensure!(self.requests.is_empty(), "{} requests never ended", self.requests.len());
        for (key, member) in &self.members {
            let stats = member.pool.stats();
            ensure!(member.pool.is_empty(), "{key} did not scale to zero: {stats:?}");
        }
        for pool in self.members.keys().copied().collect::<Vec<_>>() {
            self.tell_pool(pool, Event::Retired)?;
        }
        self.drain()?;
        let (left, stats) = (self.members.len(), self.budget.stats());
        ensure!(left == 0, "{left} retired pools are still there");
        ensure!(stats.charged == MiB(0) && stats.asks == 0, "the budget is left with {stats:?}");
        let ends = &self.report;
        let ended =
            ends.throttled + ends.finished + ends.crashed + ends.failed + ends.refused + ends.abandoned;
        ensure!(ended == ends.requests, "{} requests, {ended} ends", ends.requests);
        Ok(())
    }

    /// All provisioned instances are there again after what went wrong; then none is wanted any more.
    fn check_provided(&mut self) -> Result<(), Broken> {
        let stats = self.budget.stats();
        for member in self.members.values() {
            let plan = self.plan(member.function);
            let budget = &self.scenario.budget;
            let most = stats.charged.0 + plan.limit.0 + budget.headroom.0 + budget.estimate.0;
            let descriptors = stats.descriptors + 3 + plan.pool.instance_concurrency;
            let has_room = most <= stats.limit.0 && descriptors <= budget.descriptors;
            member.account.providing.check_complete(&member.pool, has_room)?;
        }
        for pool in self.members.keys().copied().collect::<Vec<_>>() {
            self.tell_pool(pool, Event::Provision { instances: 0 })?;
        }
        self.wanted.iter_mut().for_each(|wanted| *wanted = 0);
        self.provides_left = 0;
        self.drain()
    }

    /// Whether nothing is left but provisioned instances, and those are there or have had time to be.
    fn is_over(&mut self) -> bool {
        if !self.is_calm() || !self.requests.is_empty() || self.wanted.iter().all(|&wanted| wanted == 0) {
            self.calm = None;
            return false;
        }
        let since = *self.calm.get_or_insert(self.now);
        let is_there = |member: &Member| {
            let provisioned = member.pool.provisioned();
            provisioned.available == provisioned.wanted
        };
        self.now.since(since) >= LONG || self.members.values().all(is_there)
    }

    /// Sets the stage: pools, reservations, workloads, faults.
    fn open(&mut self) -> Result<(), Broken> {
        let scenario = self.scenario;
        for (function, plan) in scenario.functions.iter().enumerate() {
            self.flights.reserve(&mut self.concurrency, function, plan.reserved)?;
            let pool = self.add_pool(function, plan.pool.clone());
            self.current.push(pool);
            self.wanted.push(0);
            if plan.provisioned > 0 {
                self.later(Duration::from_millis(1), Happening::Provide { function });
            }
            let senders = match plan.workload {
                Workload::Closed(callers, _) => callers,
                _ => 1,
            };
            for _ in 0..senders {
                let delay = Duration::from_micros(self.random.below(1_000));
                self.later(delay, Happening::Send { function });
            }
        }
        if scenario.faults.interval > Duration::ZERO {
            self.later(scenario.faults.interval, Happening::Fault);
        }
        Ok(())
    }

    fn add_pool(&mut self, function: usize, config: pool::PoolConfig) -> PoolKey {
        self.last_pool += 1;
        let account = Account::new(config.clone(), self.scenario.timer_slop);
        let pool = Pool::new(config);
        let (memory, paged_out, inits) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (stuck, unused) = (BTreeSet::new(), BTreeSet::new());
        let member = Member { function, pool, account, timer: None, memory, paged_out, stuck, inits, unused };
        self.members.insert(PoolKey(self.last_pool), member);
        PoolKey(self.last_pool)
    }

    fn drain(&mut self) -> Result<(), Broken> {
        while let Some(Reverse((at, _, happening))) = self.heap.pop() {
            self.now = at;
            self.check_time()?;
            ensure!(self.number < MAX_HAPPENINGS, "no end after {MAX_HAPPENINGS} happenings");
            self.happen(happening)?;
            self.deliver()?;
            if self.is_over() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Checks the rules that time alone can break, before anything else happens.
    fn check_time(&mut self) -> Result<(), Broken> {
        if self.now.since(self.checked) < CHECK_EVERY {
            return Ok(());
        }
        self.checked = self.now;
        for member in self.members.values_mut() {
            member.account.check_time(self.now)?;
        }
        let waits = self.budget.stats().asks > 0;
        let oldest_idle = if waits { self.oldest_idle() } else { None };
        self.ledger.check_time(self.now, &self.budget, oldest_idle)
    }

    /// Whether everything has been sent, and nothing goes wrong any more.
    fn is_calm(&self) -> bool {
        self.unsent.iter().all(|&unsent| unsent == 0)
    }

    fn faults(&self) -> Faults {
        if self.is_calm() { Faults::default() } else { self.scenario.faults }
    }

    fn plan(&self, function: usize) -> &'a Function {
        &self.scenario.functions[function]
    }

    fn later(&mut self, delay: Duration, happening: Happening) {
        self.at(self.now + delay, happening);
    }

    fn at(&mut self, at: Time, happening: Happening) {
        self.number += 1;
        self.heap.push(Reverse((at, self.number, happening)));
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Broken> {
        match happening {
            Happening::Send { function } => self.send(function),
            Happening::Message(message) => {
                self.outbox.push_back(*message);
                Ok(())
            }
            Happening::StartEnds { pool, instance, ok } => self.start_ends(pool, instance, ok),
            Happening::RequestEnds { pool, instance, request, crash } => {
                self.request_ends(pool, instance, request, crash)
            }
            Happening::StopEnds { pool, instance } => self.lose(pool, instance),
            Happening::ThawFails { pool, instance, request } => self.thaw_fails(pool, instance, request),
            Happening::PageOutEnds { pool, instance } => {
                self.page_out_ends(pool, instance);
                Ok(())
            }
            Happening::CallerLeaves { pool, request } => self.caller_leaves(pool, request),
            Happening::Observe { pool, instance } => {
                self.observe(pool, instance);
                Ok(())
            }
            Happening::PoolTimer { pool, due } => self.pool_timer(pool, due),
            Happening::BudgetTimer { due } => self.budget_timer(due),
            Happening::Fault => self.fault(),
            Happening::Provide { function } => self.provide(function),
            Happening::Work(work, end) => {
                self.work(work, *end);
                Ok(())
            }
            Happening::WorkEnds { turn } => self.work_ends(turn),
        }
    }

    /// Lets something happen after `span`, of which this share (0 to 1) is work for the processors and the rest,
    /// before it, a wait.
    fn after(&mut self, span: Duration, share: f64, end: Happening) {
        let work = span.mul_f64(share);
        if self.processors.is_none() || work.is_zero() {
            self.later(span, end);
        } else if work < span {
            self.later(span - work, Happening::Work(work, Box::new(end)));
        } else {
            self.work(work, end);
        }
    }

    fn work(&mut self, work: Duration, end: Happening) {
        let Some(processors) = &mut self.processors else { return };
        processors.begin(self.now, work, end);
        self.await_work();
    }

    fn await_work(&mut self) {
        self.turn += 1;
        if let Some(at) = self.processors.as_ref().and_then(Processors::next) {
            self.at(at, Happening::WorkEnds { turn: self.turn });
        }
    }

    fn work_ends(&mut self, turn: u64) -> Result<(), Broken> {
        let Some(processors) = self.processors.as_mut().filter(|_| turn == self.turn) else { return Ok(()) };
        let ended = processors.end(self.now);
        self.await_work();
        ended.into_iter().try_for_each(|happening| self.happen(happening))
    }

    fn send(&mut self, function: usize) -> Result<(), Broken> {
        let (plan, unsent) = (self.plan(function), self.unsent[function]);
        let (burst, gap) = match plan.workload {
            Workload::Poisson(gap) => (1, Some(gap)),
            Workload::Bursts(size, gap) => (u64::from(size), Some(gap)),
            Workload::Ramp(gap) => (1, Some(gap.mul_f64(0.98f64.powi((plan.requests - unsent) as i32)))),
            Workload::Timer(period) => (1, Some(period)),
            Workload::Closed(..) => (1, None),
        };
        for _ in 0..burst.min(unsent) {
            self.request(function)?;
        }
        if let Some(gap) = gap.filter(|_| self.unsent[function] > 0) {
            let delay = match plan.workload {
                Workload::Timer(period) => period,
                _ => self.random.exponential(gap),
            };
            self.later(delay, Happening::Send { function });
        }
        Ok(())
    }

    fn request(&mut self, function: usize) -> Result<(), Broken> {
        self.unsent[function] -= 1;
        self.report.requests += 1;
        if !self.flights.admit(&mut self.concurrency, function)? {
            self.report.throttled += 1;
            self.next_of_caller(function, Duration::from_millis(5));
            return Ok(());
        }
        let (request, pool) = (RequestKey(self.report.requests), self.current[function]);
        let live = Live { pool, function, arrived: self.now, dispatched: None, init: None };
        self.requests.insert(request, live);
        if self.random.chance(self.faults().abandon) {
            let delay = self.random.exponential(Duration::from_millis(5));
            self.later(delay, Happening::CallerLeaves { pool, request });
        }
        self.tell_pool(pool, Event::Arrived { request })
    }

    /// A caller in a closed loop sends the next one after a while; `pause` if it is in no hurry to.
    fn next_of_caller(&mut self, function: usize, pause: Duration) {
        if let Workload::Closed(_, think) = self.plan(function).workload {
            let delay = pause + self.random.exponential(think);
            self.later(delay, Happening::Send { function });
        }
    }

    fn caller_leaves(&mut self, pool: PoolKey, request: RequestKey) -> Result<(), Broken> {
        let Some(member) = self.members.get(&pool) else { return Ok(()) };
        let waits = member.account.waiting_since(request).is_some();
        self.tell_pool(pool, Event::Abandoned { request })?;
        if waits { self.end(request, End::Abandoned) } else { Ok(()) }
    }

    /// The one end of a request.
    fn end(&mut self, request: RequestKey, end: End) -> Result<(), Broken> {
        let Some(live) = self.requests.remove(&request) else {
            return Err(format!("{request} ends again: {end:?}"));
        };
        let ran = matches!(end, End::Finished | End::Crashed);
        ensure!(
            ran == live.dispatched.is_some(),
            "{request} ended {end:?}, dispatched {:?}",
            live.dispatched
        );
        let ends = &mut self.report;
        *match end {
            End::Finished => &mut ends.finished,
            End::Crashed => &mut ends.crashed,
            End::Failed => &mut ends.failed,
            End::Refused => &mut ends.refused,
            End::Abandoned => &mut ends.abandoned,
        } += 1;
        if end == End::Finished {
            self.report.responses.push(self.now.since(live.arrived));
        }
        if let Some(dispatched) = live.dispatched {
            let busy = self.now.since(dispatched);
            let billed_ms = meter::billed_ms(busy, live.init);
            let exact = busy + live.init.unwrap_or_default();
            let rounding = Duration::from_millis(billed_ms).checked_sub(exact);
            ensure!(
                rounding.is_some_and(|r| r < Duration::from_millis(1))
                    || (billed_ms, exact) == (1, Duration::ZERO),
                "{request} is billed {billed_ms} ms for {exact:?}",
            );
            self.report.busy += busy;
            self.report.billed_ms += billed_ms;
        }
        self.flights.release(&mut self.concurrency, live.function)?;
        let pause = if ran { Duration::ZERO } else { Duration::from_millis(5) };
        self.next_of_caller(live.function, pause);
        Ok(())
    }
}
