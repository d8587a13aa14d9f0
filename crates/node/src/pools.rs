//! One pool per function version, and what the machine shares among them.
//!
//! The decisions are `policy`'s; here they are carried out. A pool is held behind a short lock, never across an
//! await: a warm dispatch is one locked step before the invocation and one after it. What one step asks of
//! another machine (a pool of the budget, the budget of a pool) is done after the lock is given back.

mod running; // an instance, frozen and thawed in order

pub use running::Running;

use crate::clock::Clock;
use crate::control::UnpackedCode;
use crate::invoke::trouble;
use crate::logs::{EntryKind, FunctionLog, Logs, StartLog};
use crate::metrics::{Metrics, Standing};
use crate::provision::Provisioned;
use bytes::Bytes;
use model::{ColdStart, MiB};
use policy::budget::{self, Budget, PoolKey};
use policy::keepalive::History;
use policy::pool::{self, Command, Event, InstanceKey, Pool, PoolConfig, Reason, RequestKey, Trouble};
use ports::{Executor, Initialization, InstanceSpec, Phases, StartFailure, Unready};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// How long an idle instance that is stopped may take to end by itself.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// How long a start is tried again when the machine has no room for it: what an instance that has ended held is
/// given back only when the kernel is done with it.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// What is told of provisioned instances that do not fit.
const ROOM_TROUBLE: &str = "The server has no memory or descriptors left for another provisioned instance. It goes on \
    trying: provision less, lower memory-reserve, or give the machine more memory.";

/// How long the initialisation of a version with SnapStart may wait for its turn, and how often it is looked at.
const REHEARSAL: Duration = Duration::from_secs(60);
const REHEARSAL_LOOK: Duration = Duration::from_millis(20);

/// How often the memory of all instances is looked at.
const OBSERVE_EVERY: Duration = Duration::from_secs(1);

/// The pools of this server and what they share.
pub struct Pools {
    clock: Clock,
    executor: Arc<dyn Executor>,
    logs: Arc<Logs>,
    metrics: Arc<Metrics>,
    budget: Mutex<Budget>,
    budget_changed: Notify,
    by_key: Mutex<HashMap<PoolKey, Weak<PoolShell>>>,
    next_key: AtomicU64,
    observing: AtomicBool,
}

/// The pool of one function version.
pub struct PoolShell {
    key: PoolKey,
    spec: Arc<InstanceSpec>,
    /// The same for provisioned instances; made when there are some.
    provisioned_spec: OnceLock<Arc<InstanceSpec>>,
    /// Why the last provisioned instance that failed to start did.
    trouble: Mutex<String>,
    /// Of the server, that an instance may hold.
    descriptors: u32,
    log: Arc<FunctionLog>,
    /// Instances read it, so it must stay.
    code: Arc<UnpackedCode>,
    pools: Arc<Pools>,
    state: Mutex<State>,
    /// Tells the timer that it must wake earlier.
    earlier: Notify,
}

struct State {
    pool: Pool,
    instances: HashMap<InstanceKey, Arc<Running>>,
    waiting: HashMap<RequestKey, oneshot::Sender<Assigned>>,
    next_request: u64,
    /// When the timer wakes, if one runs.
    armed: Option<model::Time>,
    commands: Vec<Command>,
    /// Instances to be frozen, and to be paged out, as soon as the lock is given back.
    freezing: Vec<Arc<Running>>,
    paging_out: Vec<Arc<Running>>,
    /// When instances were asked for that have not been begun.
    asked: HashMap<InstanceKey, Instant>,
}

/// What became of a request that wanted an instance.
pub enum Assigned {
    /// It runs on this one.
    To(RequestKey, Arc<Running>),
    /// It will not run.
    Refused(Reason),
    /// The instance that was started for it failed.
    Failed(FailedStart),
}

/// Why an instance was started that no request waited for.
#[derive(Clone, Copy)]
enum Ahead {
    /// A request is expected.
    Expected,
    /// It is wanted whether requests come or not.
    Provided(Initialization),
}

/// A start that failed.
#[derive(Clone)]
pub struct FailedStart {
    /// The log stream it wrote to.
    pub stream: Arc<str>,
    /// Why.
    pub failure: StartFailure,
    /// How long it took.
    pub init: Duration,
    /// … and what it consisted of as far as it went, with what came before.
    pub cold_start: ColdStart,
    /// The most memory that it used, as far as is known.
    pub max_memory: Option<MiB>,
    /// The end of what it wrote: at most 4 KiB.
    pub log_end: Bytes,
}

impl Pools {
    /// No pools yet. Must be called within a tokio runtime.
    pub fn new(
        executor: Arc<dyn Executor>,
        logs: Arc<Logs>,
        metrics: Arc<Metrics>,
        clock: Clock,
        budget: Budget,
    ) -> Arc<Pools> {
        let pools = Arc::new(Pools {
            clock,
            executor,
            logs,
            metrics,
            budget: Mutex::new(budget),
            budget_changed: Notify::new(),
            by_key: Mutex::default(),
            next_key: AtomicU64::new(1),
            observing: AtomicBool::new(false),
        });
        tokio::spawn(keep_budget_awake(Arc::downgrade(&pools)));
        pools
    }

    /// A pool without instances.
    pub fn open(
        self: &Arc<Pools>,
        spec: Arc<InstanceSpec>,
        code: Arc<UnpackedCode>,
        config: PoolConfig,
    ) -> Arc<PoolShell> {
        let key = PoolKey(self.next_key.fetch_add(1, Ordering::Relaxed));
        let state = State {
            pool: Pool::new(config),
            instances: HashMap::new(),
            waiting: HashMap::new(),
            next_request: 0,
            armed: None,
            commands: Vec::new(),
            freezing: Vec::new(),
            paging_out: Vec::new(),
            asked: HashMap::new(),
        };
        let log = self.logs.function(&spec.function, spec.log_format == "JSON");
        let descriptors = self.executor.descriptors(&spec);
        let shell = PoolShell {
            key,
            spec,
            provisioned_spec: OnceLock::new(),
            trouble: Mutex::default(),
            descriptors,
            log,
            code,
            pools: self.clone(),
            state: Mutex::new(state),
            earlier: Notify::new(),
        };
        let shell = Arc::new(shell);
        self.by_key.lock().expect("no panic while held").insert(key, Arc::downgrade(&shell));
        shell
    }

    /// The time on the clock that decisions are made by.
    pub fn now(&self) -> model::Time {
        self.clock.now()
    }

    fn pool(&self, key: PoolKey) -> Option<Arc<PoolShell>> {
        self.by_key.lock().expect("no panic while held").get(&key)?.upgrade()
    }

    /// How all instances and their memory stand.
    pub fn standing(&self) -> Standing {
        let shells: Vec<Arc<PoolShell>> = {
            let by_key = self.by_key.lock().expect("no panic while held");
            by_key.values().filter_map(Weak::upgrade).collect()
        };
        let mut standing = Standing::default();
        for shell in shells {
            let (stats, provisioned) = {
                let state = shell.lock();
                (state.pool.stats(), state.pool.provisioned())
            };
            standing.waiting += stats.waiting as u64;
            standing.starting += stats.starting as u64;
            standing.idle += stats.idle as u64;
            standing.busy += stats.busy as u64;
            standing.provisioned += u64::from(provisioned.available);
        }
        let stats = self.budget.lock().expect("no panic while held").stats();
        (standing.charged, standing.kept, standing.limit) = (stats.charged, stats.kept, stats.limit);
        standing
    }

    /// Lets go of every instance of a pool that runs nothing and is not provisioned.
    pub fn let_idle_go(shell: &Arc<PoolShell>, config: PoolConfig) {
        // What was learned is lost with a keep-alive of nothing.
        let history = shell.history();
        shell.tell(Event::Reconfigured(PoolConfig { keep_alive: Duration::ZERO, ..config.clone() }));
        shell.tell(Event::Reconfigured(config));
        if let Some(history) = history {
            shell.recall(history);
        }
    }

    /// Feeds the budget and carries out what it commands.
    fn tell_budget(&self, event: budget::Event) {
        let mut commands = Vec::new();
        self.budget.lock().expect("no panic while held").step(self.clock.now(), event, &mut commands);
        self.budget_changed.notify_one();
        for command in commands {
            match command {
                budget::Command::Grant { pool, instance } => match self.pool(pool) {
                    Some(shell) => shell.tell(Event::Granted { instance }),
                    None => self.tell_budget(budget::Event::Released { pool, instance }),
                },
                budget::Command::Deny { pool, instance } => {
                    if let Some(shell) = self.pool(pool) {
                        shell.tell(Event::Denied { instance });
                    }
                }
                budget::Command::GiveUp => {
                    self.executor.give_up();
                    self.tell_budget(budget::Event::Kept { used: self.executor.kept() });
                }
                budget::Command::Reclaim { pool, unused_since } => match self.pool(pool) {
                    Some(shell) => shell.tell(Event::Reclaim { unused_since }),
                    None => self.tell_budget(budget::Event::Reclaimed { pool, instance: None, oldest: None }),
                },
            }
        }
    }

    /// Initialises an instance that serves nobody and stops it, in a pool of its own that provides one.
    pub async fn rehearse(self: &Arc<Pools>, spec: Arc<InstanceSpec>, code: Arc<UnpackedCode>) {
        let spec = Arc::new(InstanceSpec { initialization: Initialization::SnapStart, ..(*spec).clone() });
        let (function, patience) = (spec.function.clone(), spec.init_timeout + REHEARSAL);
        let shell = self.open(spec, code, PoolConfig::default());
        shell.tell(Event::Provision { instances: 1 });
        let ended = async {
            while shell.provisioned(1).available == 0 && shell.provisioned(1).trouble.is_none() {
                tokio::time::sleep(REHEARSAL_LOOK).await;
            }
        };
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::warn!(
                function,
                "a version with SnapStart could not be initialised ahead: the machine is busy"
            );
        }
        shell.tell(Event::Retired);
        while !shell.is_empty() {
            tokio::time::sleep(REHEARSAL_LOOK).await;
        }
    }

    /// Looks at the memory of all instances while there are any.
    fn observe(self: &Arc<Pools>) {
        if self.observing.swap(true, Ordering::Relaxed) {
            return;
        }
        let pools = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(OBSERVE_EVERY).await;
                let shells: Vec<Arc<PoolShell>> = {
                    let by_key = pools.by_key.lock().expect("no panic while held");
                    by_key.values().filter_map(Weak::upgrade).collect()
                };
                let mut seen = 0;
                for shell in shells {
                    seen += shell.observe().await;
                }
                if seen == 0 {
                    pools.observing.store(false, Ordering::Relaxed);
                    return;
                }
            }
        });
    }
}

async fn keep_budget_awake(pools: Weak<Pools>) {
    let mut idleness = Idleness::default();
    loop {
        let Some(alive) = pools.upgrade() else { return };
        let at = alive.budget.lock().expect("no panic while held").wake_at();
        if at.is_some() {
            idleness.refresh();
        }
        let changed = async {
            alive.budget_changed.notified().await;
        };
        match at {
            None => changed.await,
            Some(at) => {
                if tokio::time::timeout_at(alive.clock.instant(at), changed).await.is_err() {
                    alive.tell_budget(budget::Event::Wake { spare: idleness.has_spare_time() });
                }
            }
        }
    }
}

/// Whether the machine's processors have time to spare, from two looks at how long they were idle.
#[derive(Default)]
struct Idleness {
    /// When it was looked at, and how long processors had been idle by then, seconds summed over them.
    looked: Option<(Instant, f64)>,
}

impl Idleness {
    /// A look longer ago than this says nothing about now.
    const RECENT: Duration = Duration::from_millis(500);

    /// A later one says nothing yet: idle time is told to 10 ms.
    const TELLING: Duration = Duration::from_millis(20);

    /// Sees to it that the last look is recent.
    fn refresh(&mut self) {
        if self.looked.is_none_or(|(at, _)| at.elapsed() >= Idleness::RECENT) {
            self.looked = Idleness::look();
        }
    }

    /// Whether half a core or more was idle since the last look.
    fn has_spare_time(&mut self) -> bool {
        let (then, now) = (self.looked, Idleness::look());
        self.looked = now;
        then.zip(now).is_some_and(|(then, now)| {
            let span = now.0 - then.0;
            (Idleness::TELLING..Idleness::RECENT).contains(&span)
                && now.1 - then.1 >= span.as_secs_f64() / 2.0
        })
    }

    /// `/proc/uptime`: seconds since boot, then the idle ones, to 10 ms.
    fn look() -> Option<(Instant, f64)> {
        let text = std::fs::read_to_string("/proc/uptime").ok()?;
        Some((Instant::now(), text.split_ascii_whitespace().nth(1)?.parse().ok()?))
    }
}

impl PoolShell {
    /// Waits for an instance; must be followed by [`PoolShell::finished`] when it got one.
    pub async fn assign(self: &Arc<PoolShell>) -> Assigned {
        loop {
            match self.ask_for_one().await {
                // Nothing of the request has begun there.
                Assigned::To(_, running) if !self.thaw(&running) => self.lost(running.key),
                assigned => return assigned,
            }
        }
    }

    /// Lets an instance that got a request run, if it does not; false when it is of no use any more.
    fn thaw(&self, running: &Running) -> bool {
        match running.thaw() {
            Ok(true) => {
                let (pool, instance) = (self.key, running.key);
                self.pools.tell_budget(budget::Event::Thawed { pool, instance });
                true
            }
            Ok(false) => true,
            Err(error) => {
                tracing::warn!(function = self.spec.function, %error, "a frozen instance could not go on");
                false
            }
        }
    }

    async fn ask_for_one(self: &Arc<PoolShell>) -> Assigned {
        let receiver = {
            let mut state = self.lock();
            let request = RequestKey(state.next_request);
            state.next_request += 1;
            let mut commands = std::mem::take(&mut state.commands);
            state.pool.step(self.pools.clock.now(), Event::Arrived { request }, &mut commands);
            // The warm path: an instance is free for this request (and not for one that waited), nothing else is
            // to be done.
            if let [Command::Dispatch { request: first, instance }]
            | [Command::Thaw { .. }, Command::Dispatch { request: first, instance }] = commands[..]
                && first == request
                && let Some(running) = state.instances.get(&instance)
            {
                let assigned = Assigned::To(request, running.clone());
                commands.clear();
                state.commands = commands;
                self.arm(&mut state);
                return assigned;
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.insert(request, sender);
            self.carry_out(state, commands, None);
            receiver
        };
        // A sender is not dropped while the pool lives; if one ever were, better to try again than to hang.
        receiver.await.unwrap_or(Assigned::Refused(Reason::Retired))
    }

    /// An invocation has ended; `reusable` as the executor said.
    pub fn finished(self: &Arc<PoolShell>, running: &Running, request: RequestKey, reusable: bool) {
        let instance = running.key;
        match reusable {
            true => self.tell(Event::Finished { instance, request }),
            false => self.lost(instance),
        }
    }

    /// Feeds one event and carries out what the pool commands.
    pub fn tell(self: &Arc<PoolShell>, event: Event) {
        self.tell_with(event, None);
    }

    /// Whether it has neither instances nor requests.
    pub fn is_empty(&self) -> bool {
        self.lock().pool.is_empty()
    }

    /// Whether it has neither instances nor requests, and will not start any ahead of one.
    pub fn is_dormant(&self) -> bool {
        let state = self.lock();
        state.pool.is_empty() && state.pool.wake_at().is_none()
    }

    /// Adds what was learned before this pool was made.
    pub fn recall(self: &Arc<PoolShell>, history: History) {
        let mut state = self.lock();
        state.pool.recall(self.pools.clock.now(), history);
        self.arm(&mut state);
    }

    /// What was learned about the function's idle times.
    pub fn history(&self) -> Option<History> {
        self.lock().pool.history().cloned()
    }

    /// Whether it is descriptors, and not memory, that the machine lacks for another instance.
    pub fn lacks_descriptors(&self) -> bool {
        self.pools.budget.lock().expect("no panic while held").lacks_descriptors(self.descriptors)
    }

    /// What instances are made from.
    pub fn spec(&self) -> &Arc<InstanceSpec> {
        &self.spec
    }

    /// The function's log.
    pub fn log(&self) -> &Arc<FunctionLog> {
        &self.log
    }

    fn tell_with(self: &Arc<PoolShell>, event: Event, failure: Option<FailedStart>) {
        let mut state = self.lock();
        if let Event::Denied { instance } = &event {
            state.asked.remove(instance);
        }
        let mut commands = std::mem::take(&mut state.commands);
        state.pool.step(self.pools.clock.now(), event, &mut commands);
        self.carry_out(state, commands, failure);
    }

    fn carry_out(
        self: &Arc<PoolShell>,
        mut state: MutexGuard<'_, State>,
        mut commands: Vec<Command>,
        failure: Option<FailedStart>,
    ) {
        // What concerns this pool alone, under the lock; the rest after it.
        commands.retain(|command| !state.answer(command, &failure));
        self.arm(&mut state);
        self.cool(&mut state);
        if commands.is_empty() {
            state.commands = commands;
            return;
        }
        drop(state);
        for command in commands {
            match command {
                Command::Ask { instance } => {
                    let used = self.pools.executor.kept();
                    self.pools.tell_budget(budget::Event::Kept { used });
                    let (pool, limit, descriptors) = (self.key, self.spec.memory, self.descriptors);
                    self.pools.tell_budget(budget::Event::Ask { pool, instance, limit, descriptors });
                }
                Command::AskAhead { instance } | Command::AskProvisioned { instance } => {
                    let used = self.pools.executor.kept();
                    self.pools.tell_budget(budget::Event::Kept { used });
                    let firm = matches!(command, Command::AskProvisioned { .. });
                    let (pool, limit, descriptors) = (self.key, self.spec.memory, self.descriptors);
                    let ask = budget::Event::AskAhead { pool, instance, limit, descriptors, firm };
                    self.pools.tell_budget(ask);
                }
                Command::Release { instance } => {
                    self.pools.tell_budget(budget::Event::Released { pool: self.key, instance });
                }
                Command::Reclaimed { instance, oldest } => {
                    self.pools.tell_budget(budget::Event::Reclaimed { pool: self.key, instance, oldest });
                }
                Command::Start { instance } => {
                    tokio::spawn(start(self.clone(), instance));
                }
                Command::Stop { instance } => {
                    tokio::spawn(stop(self.clone(), instance));
                }
                Command::Dispatch { .. }
                | Command::Refuse { .. }
                | Command::Fail { .. }
                | Command::Freeze { .. }
                | Command::PageOut { .. }
                | Command::Thaw { .. } => unreachable!("answered under the lock"),
            }
        }
    }

    /// Has instances frozen and paged out; that takes the kernel microseconds to milliseconds each.
    fn cool(self: &Arc<PoolShell>, state: &mut State) {
        if !state.freezing.is_empty() {
            let freezing = std::mem::take(&mut state.freezing);
            tokio::task::spawn_blocking(move || freezing.iter().for_each(|running| running.freeze()));
        }
        if !state.paging_out.is_empty() {
            tokio::spawn(page_out(self.clone(), std::mem::take(&mut state.paging_out)));
        }
    }

    fn started(self: &Arc<PoolShell>, running: Running) {
        let (instance, handle) = (running.key, running.instance.clone());
        self.lock().instances.insert(instance, Arc::new(running));
        // First the pool: a request waits there, and it may no longer want the instances that the budget would now grant.
        self.tell(Event::Started { instance });
        let used = handle.memory().unwrap_or(MiB(0));
        self.pools.tell_budget(budget::Event::Observed { pool: self.key, instance, used });
        self.pools.observe();
        let shell = Arc::downgrade(self);
        tokio::spawn(async move {
            handle.gone().await;
            if let Some(shell) = shell.upgrade() {
                shell.lost(instance);
            }
        });
    }

    /// How what is provisioned stands, of which this many requests were asked for.
    pub fn provisioned(&self, requests: u32) -> Provisioned {
        let pool::Provisioned { wanted, allocated, available, trouble } = self.lock().pool.provisioned();
        let each = self.spec.concurrency.max(1);
        let of = |instances: u32| instances.saturating_mul(each).min(requests);
        // Between a change and the pool's hearing of it, what it has is for another number.
        let is_heard = wanted == requests.div_ceil(each);
        let trouble = trouble.filter(|_| is_heard).map(|trouble| match trouble {
            Trouble::Room => ROOM_TROUBLE.to_owned(),
            Trouble::Start => self.trouble.lock().expect("no panic while held").clone(),
        });
        Provisioned { allocated: of(allocated), available: of(available), trouble }
    }

    /// What an instance is made from.
    fn spec_of(&self, is_provisioned: bool) -> Arc<InstanceSpec> {
        let make =
            || Arc::new(InstanceSpec { initialization: Initialization::Provisioned, ..(*self.spec).clone() });
        // A rehearsal's says already why it is started.
        match is_provisioned && self.spec.initialization == Initialization::OnDemand {
            true => self.provisioned_spec.get_or_init(make).clone(),
            false => self.spec.clone(),
        }
    }

    /// Nobody waited for this start, so that nobody else will tell of it.
    fn tell_of_start(&self, stream: &Arc<str>, initialization: Initialization) {
        let (version, runtime) = (self.spec.version, self.spec.runtime.clone());
        let initialization = initialization.name().to_owned();
        let kind = EntryKind::InitStart { version, runtime, initialization };
        self.log.add(Clock::timestamp(), stream, None, kind);
    }

    /// A request waits for this instance, and its REPORT will tell.
    fn tell_of_end_of_start(&self, stream: &Arc<str>, init: Duration, cold_start: ColdStart) {
        if self.spec.log_format == "JSON" {
            let duration_us = init.as_micros() as u64;
            self.log.add(Clock::timestamp(), stream, None, EntryKind::InitDone { duration_us, cold_start });
        }
    }

    /// What a start consisted of that took `whole`, with the tries that found no room.
    fn cold_start(&self, queue: Duration, whole: Duration, phases: &Phases) -> ColdStart {
        let us = |span: Duration| span.as_micros() as u64;
        let Phases { sandbox, runtime, init, used } = *phases;
        ColdStart {
            queue_us: us(queue + whole.saturating_sub(phases.whole())),
            code_us: us(self.code.take_unpacking()),
            sandbox_us: us(sandbox),
            runtime_us: runtime.map(us),
            init_us: init.map(us),
            used,
        }
    }

    fn tell_of_start_ahead(&self, stream: &Arc<str>, init: Duration, why: Ahead, cold_start: ColdStart) {
        let duration_us = init.as_micros() as u64;
        let initialization = match why {
            Ahead::Expected => {
                tracing::info!(
                    function = self.spec.function,
                    ?init,
                    "an instance was started ahead of an expected request"
                );
                crate::logs::AHEAD_OF_DEMAND
            }
            Ahead::Provided(initialization) => initialization.name(),
        };
        let initialization = initialization.to_owned();
        let kind = EntryKind::StartedAhead { duration_us, initialization, cold_start };
        self.log.add(Clock::timestamp(), stream, None, kind);
    }

    fn tell_of_failed_provision(&self, failed: &FailedStart) {
        let error_type = trouble::init_error_type(&failed.failure);
        let timed_out = matches!(failed.failure, StartFailure::TimedOut);
        let words = trouble::init_words(&failed.failure, self.spec.init_timeout);
        tracing::warn!(function = self.spec.function, words, "a provisioned instance failed to start");
        *self.trouble.lock().expect("no panic while held") = words;
        let duration_us = failed.init.as_micros() as u64;
        let error_type = (!timed_out).then_some(error_type);
        let initialization = self.spec_of(true).initialization.name().to_owned();
        let cold_start = Some(failed.cold_start);
        let kind = EntryKind::InitReport { duration_us, error_type, initialization, cold_start };
        self.log.add(Clock::timestamp(), &failed.stream, None, kind);
    }

    fn lost(self: &Arc<PoolShell>, instance: InstanceKey) {
        let running = self.lock().instances.remove(&instance);
        self.tell(Event::Lost { instance });
        if let Some(running) = running {
            // What an unusable instance left behind.
            tokio::spawn(async move { running.instance.stop(Duration::ZERO).await });
        }
    }

    async fn observe(self: &Arc<PoolShell>) -> usize {
        let running: Vec<Arc<Running>> = self.lock().instances.values().cloned().collect();
        let count = running.len();
        for batch in running.chunks(64) {
            for running in batch {
                if let Some(used) = running.instance.memory() {
                    let (pool, instance) = (self.key, running.key);
                    self.pools.tell_budget(match running.is_paged_out() {
                        true => budget::Event::PagedOut { pool, instance, used },
                        false => budget::Event::Observed { pool, instance, used },
                    });
                }
            }
            tokio::task::yield_now().await;
        }
        count
    }

    /// Sees to it that the pool is woken when it wants to be. A timer runs only while there is something to
    /// wake for, and is not told when the time moves back: it looks again when it wakes.
    fn arm(self: &Arc<PoolShell>, state: &mut State) {
        let Some(at) = state.pool.wake_at() else { return };
        match state.armed {
            Some(armed) if armed <= at => {}
            Some(_) => {
                state.armed = Some(at);
                self.earlier.notify_one();
            }
            None => {
                state.armed = Some(at);
                tokio::spawn(keep_awake(Arc::downgrade(self)));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }
}

impl State {
    /// Answers the request that a command is about, or notes which instance it makes colder; false when the command is
    /// about something else.
    fn answer(&mut self, command: &Command, failure: &Option<FailedStart>) -> bool {
        let (request, assigned) = match command {
            Command::Freeze { instance } => {
                let running = self.instances.get(instance).inspect(|running| running.is_to_freeze());
                self.freezing.extend(running.cloned());
                return true;
            }
            Command::PageOut { instance } => {
                self.paging_out.extend(self.instances.get(instance).cloned());
                return true;
            }
            // Whoever has the request that is dispatched next does it.
            Command::Thaw { .. } => return true,
            Command::Dispatch { request, instance } => match self.instances.get(instance) {
                Some(running) => (*request, Assigned::To(*request, running.clone())),
                None => (*request, Assigned::Refused(Reason::Retired)), // lost in this very moment
            },
            Command::Refuse { request, reason } => (*request, Assigned::Refused(*reason)),
            Command::Fail { request, .. } => {
                let failed = failure.clone().expect("only a failed start fails requests");
                (*request, Assigned::Failed(failed))
            }
            Command::Ask { instance }
            | Command::AskAhead { instance }
            | Command::AskProvisioned { instance } => {
                self.asked.insert(*instance, Instant::now());
                return false;
            }
            Command::Release { instance } => {
                self.asked.remove(instance);
                return false;
            }
            _ => return false,
        };
        if let Some(waiting) = self.waiting.remove(&request) {
            let _ = waiting.send(assigned);
        }
        true
    }
}

impl Drop for PoolShell {
    fn drop(&mut self) {
        self.pools.by_key.lock().expect("no panic while held").remove(&self.key);
        self.pools.tell_budget(budget::Event::Dropped { pool: self.key });
    }
}

async fn start(shell: Arc<PoolShell>, instance: InstanceKey) {
    let stream: Arc<str> = crate::logs::stream_name(&shell.spec.version).into();
    let (is_provisioned, asked) = {
        let mut state = shell.lock();
        (state.pool.is_provisioned(instance), state.asked.remove(&instance))
    };
    let spec = shell.spec_of(is_provisioned);
    let lines = Arc::new(StartLog::new(shell.log.clone()));
    shell.tell_of_start(&stream, spec.initialization);
    let began = Instant::now();
    let queue = asked.map(|asked| began - asked).unwrap_or_default();
    let mut pause = Duration::from_millis(10);
    let started = loop {
        let started = shell.pools.executor.start(spec.clone(), stream.clone(), lines.clone()).await;
        match started {
            Err(Unready { failure: StartFailure::Full(_), .. }) if began.elapsed() < ROOM_WAIT => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            started => break started,
        }
    };
    let log_end = lines.finish();
    match started {
        Ok(started) => {
            let init = started.phases.whole();
            let cold_start = shell.cold_start(queue, began.elapsed(), &started.phases);
            shell.pools.metrics.cold_start(&cold_start);
            let ahead = match is_provisioned {
                true => Some(Ahead::Provided(spec.initialization)),
                false => shell.lock().pool.is_ahead(instance).then_some(Ahead::Expected),
            };
            match ahead {
                Some(why) => shell.tell_of_start_ahead(&stream, init, why, cold_start),
                None => shell.tell_of_end_of_start(&stream, init, cold_start),
            }
            // Nobody waited for the initialisation of one that was started ahead, so nobody pays for it.
            let fresh = AtomicBool::new(ahead.is_none());
            let (handle, log_end) = (started.instance, Mutex::new(log_end));
            let hold = Default::default();
            shell.started(Running {
                key: instance,
                instance: handle,
                stream,
                init,
                cold_start,
                log_end,
                fresh,
                hold,
            });
        }
        Err(Unready { failure, max_memory, phases }) => {
            tracing::debug!(function = shell.spec.function, ?failure, "an instance failed to start");
            let (init, cold_start) = (phases.whole(), shell.cold_start(queue, began.elapsed(), &phases));
            shell.pools.metrics.failed_start(&cold_start);
            let failed = FailedStart { stream, failure, init, cold_start, max_memory, log_end };
            if is_provisioned {
                shell.tell_of_failed_provision(&failed);
            }
            shell.tell_with(Event::StartFailed { instance }, Some(failed));
        }
    }
}

async fn stop(shell: Arc<PoolShell>, instance: InstanceKey) {
    let running = shell.lock().instances.get(&instance).cloned();
    if let Some(running) = running {
        // So that nothing freezes it on its way out.
        let _ = running.thaw();
        running.instance.stop(STOP_GRACE).await;
    }
    shell.lost(instance);
}

/// One after the other: a machine that has to write to its swap has enough to do.
async fn page_out(shell: Arc<PoolShell>, instances: Vec<Arc<Running>>) {
    for running in instances {
        if let Some(used) = running.page_out().await {
            let (pool, instance) = (shell.key, running.key);
            shell.pools.tell_budget(budget::Event::PagedOut { pool, instance, used });
        }
    }
}

async fn keep_awake(shell: Weak<PoolShell>) {
    loop {
        let Some(alive) = shell.upgrade() else { return };
        let Some(at) = alive.lock().armed else { return };
        let sleep = tokio::time::sleep_until(alive.pools.clock.instant(at));
        let due = tokio::select! {
            () = sleep => true,
            () = alive.earlier.notified() => false,
        };
        if !due {
            continue;
        }
        let mut state = alive.lock();
        state.armed = None;
        match state.pool.wake_at() {
            None => return,
            Some(next) if next > alive.pools.clock.now() => state.armed = Some(next),
            Some(_) => {
                // `tell` arms again; this timer takes it over.
                state.armed = Some(model::Time::ZERO);
                drop(state);
                alive.tell(Event::Wake);
                let mut state = alive.lock();
                match state.pool.wake_at() {
                    None => {
                        state.armed = None;
                        return;
                    }
                    Some(next) => state.armed = Some(next),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
