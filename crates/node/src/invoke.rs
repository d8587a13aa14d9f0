//! From an admitted request to its one outcome.

mod attended; // the caller's task runs the invocation
pub(crate) mod trouble; // what a caller is told when the function did not answer

use self::attended::Attended;
use crate::clock::Clock;
use crate::control::{Change, Target, What};
use crate::histories::Histories;
use crate::logs::{EntryKind, Logs, Tail};
use crate::metrics::Metrics;
use crate::pools::{Assigned, FailedStart, PoolShell, Pools, Running};
use crate::provision::Provisioned;
use bytes::Bytes;
use model::{Account, Contract, MeterRecord, MiB, RequestId, Status, Timestamp, Version};
use policy::budget::{Budget, BudgetConfig};
use policy::concurrency::{Admitted, Concurrency};
use policy::keepalive::{self, History};
use policy::pool::{Event, PoolConfig, Reason, RequestKey};
use ports::{
    Completion, Executor, Initialization, InstanceSpec, Invocation, InvokeResult, Payload, StartFailure,
    StreamReply,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock, Weak};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// A request to run a function.
pub struct InvokeRequest {
    /// The invocation's id.
    pub request_id: RequestId,
    /// The event.
    pub payload: Payload,
    /// The qualifier that the caller used, for `invoked_function_arn`.
    pub qualifier: Option<String>,
    /// `X-Amzn-Trace-Id`, if the caller sent one.
    pub trace_id: Option<String>,
    /// Lambda's client context as JSON text.
    pub client_context: Option<String>,
    /// Whether the caller wants the last 4 KiB of the log (`LogType=Tail`).
    pub tail: bool,
}

/// What the caller gets.
pub struct Invoked {
    /// The answer.
    pub reply: Reply,
    /// The version that ran, for `X-Amz-Executed-Version`.
    pub executed_version: Version,
    /// The last 4 KiB of the invocation's log, when it was asked for and is known already.
    pub log_tail: Option<Bytes>,
    /// Of an answer that is streamed: comes soon after its last chunk.
    pub ending: Option<oneshot::Receiver<Ending>>,
}

/// What is known of a streamed answer only once it has ended.
#[derive(Debug)]
pub struct Ending {
    /// Why it broke off, when its function did not get to say so: Lambda's error JSON.
    pub error: Option<Bytes>,
    /// The last 4 KiB of the invocation's log, when it was asked for.
    pub log_tail: Option<Bytes>,
}

/// The answer of an invocation that reached an instance.
pub enum Reply {
    /// The function's answer, whole.
    Answer(Bytes),
    /// The function's answer as it is written.
    Stream(StreamReply),
    /// `X-Amz-Function-Error: Unhandled` and Lambda's error JSON.
    FunctionError(Bytes),
}

/// Why an invocation never reached an instance: nothing ran, nothing is metered.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A concurrency or memory limit: `TooManyRequestsException` with this reason.
    #[error("throttled: {0:?}")]
    Throttled(Throttle),
    /// The machine has no room for another instance: what ran out and the remedy. As a limit of concurrency:
    /// `TooManyRequestsException`, `ConcurrentInvocationLimitExceeded`.
    #[error("{0}")]
    Full(String),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The machine could not make an instance: what happened and the remedy.
    #[error("{0}")]
    Machine(String),
}

/// Which limit was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Throttle {
    /// `ReservedFunctionConcurrentInvocationLimitExceeded`.
    ReservedConcurrency,
    /// `ConcurrentInvocationLimitExceeded`.
    AccountConcurrency,
    /// The machine's memory budget: waited as long as the queue allows, or the queue was full. Lambda has no
    /// such reason; the API answers `ConcurrentInvocationLimitExceeded` and says so in the message.
    Memory,
}

/// What the data plane is set up with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Account and region in ARNs.
    pub account: Account,
    /// Invocations at once over all functions (Lambda: 1,000).
    pub concurrency_limit: u32,
    /// Memory for all instances together.
    pub memory: MiB,
    /// Descriptors of the server for all instances together.
    pub descriptors: u32,
    /// How long idle instances are kept, and whether some are started ahead of requests.
    pub keep_alive: keepalive::Config,
    /// An instance that runs nothing for so long is frozen; `Duration::MAX`: never. Not programs of the HTTP contract.
    pub freeze_after: Duration,
    /// A frozen one that runs nothing for so long is paged out, where the executor can; `Duration::MAX`: never.
    pub page_out_after: Duration,
    /// The least that initialisation may take before it is cut off; a longer function timeout extends it.
    pub init_timeout: Duration,
}

/// The data plane of one server.
pub struct Node {
    config: NodeConfig,
    pools: Arc<Pools>,
    concurrency: Mutex<Concurrency>,
    versions: RwLock<HashMap<PoolName, Arc<PoolShell>>>,
    histories: Histories,
    /// Invocations that are under way.
    in_flight: AtomicUsize,
    closing: AtomicBool,
    drained: Notify,
    logs: Arc<Logs>,
    metrics: Arc<Metrics>,
}

/// What a pool is for: one revision of one version.
#[derive(Clone, PartialEq, Eq, Hash)]
struct PoolName {
    uid: Arc<str>,
    version: Version,
    deployment_id: String,
}

impl Node {
    /// A data plane with nothing running. Must be called within a tokio runtime.
    pub fn new(config: NodeConfig, executor: Arc<dyn Executor>, logs: Arc<Logs>) -> Arc<Node> {
        let budget = BudgetConfig {
            descriptors: config.descriptors,
            max_starts: cores(),
            ..BudgetConfig::new(config.memory)
        };
        let (budget, metrics) = (Budget::new(budget), Arc::new(Metrics::new()));
        let node = Arc::new(Node {
            pools: Pools::new(executor, logs.clone(), metrics.clone(), Clock::default(), budget),
            metrics,
            concurrency: Mutex::new(Concurrency::new(config.concurrency_limit)),
            versions: RwLock::default(),
            histories: Histories::default(),
            in_flight: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            drained: Notify::new(),
            logs,
            config,
        });
        tokio::spawn(forget_empty_pools(Arc::downgrade(&node)));
        node
    }

    /// Runs a function once. The invocation goes on when the caller stops waiting.
    ///
    /// # Errors
    /// [`Refusal`]: nothing ran.
    pub async fn invoke(
        self: &Arc<Node>,
        target: Target,
        request: InvokeRequest,
    ) -> Result<Invoked, Refusal> {
        let permit = self.admit(&target).inspect_err(|refusal| self.metrics.refused(refusal))?;
        let (answer, caller) = oneshot::channel();
        Attended::new(self.clone().run(permit, target, request, answer), caller)
            .await
            .unwrap_or_else(|_| Err(Refusal::Machine("the invocation was lost; see the server's log".into())))
            .inspect_err(|refusal| self.metrics.refused(refusal))
    }

    /// What was counted, in the text format of OpenMetrics.
    pub fn metrics(&self) -> String {
        self.metrics.text(&self.pools.standing())
    }

    /// Lets go of a version's instances that run nothing and are not provisioned.
    pub fn let_idle_go(&self, target: &Target) {
        Pools::let_idle_go(&self.pool(target), self.pool_config(target));
    }

    /// The logs of all functions.
    pub fn logs(&self) -> &Arc<Logs> {
        &self.logs
    }

    /// Account and region.
    pub fn account(&self) -> &Account {
        &self.config.account
    }

    /// Sets, changes or removes a function's reserved concurrency. The control plane has checked it.
    pub fn reserve(&self, uid: &str, reserved: Option<u32>) {
        let mut concurrency = self.concurrency.lock().expect("no panic while held");
        if let Err(error) = concurrency.set_reserved(function_key(uid), reserved) {
            tracing::error!(uid, ?reserved, ?error, "a reservation that was accepted does not fit");
        }
    }

    /// Follows a change of what functions exist.
    pub fn heed(&self, change: &Change) {
        match &change.what {
            What::Latest { deployment_id } => {
                self.retire(&change.uid, |version, deployment| {
                    version != Version::Latest || deployment == deployment_id
                });
            }
            What::VersionDeleted(n) => self.retire(&change.uid, |version, _| version != Version::Number(*n)),
            What::Deleted => {
                self.retire(&change.uid, |_, _| false);
                self.provision(&change.uid, &[]);
                self.reserve(&change.uid, None);
                self.histories.forget(&change.name);
                self.logs.forget(&change.name);
            }
            What::Reserved(reserved) => self.reserve(&change.uid, *reserved),
            // What has to be done is not in the change: see [`crate::provision`].
            What::Provisioned | What::SnapStart(_) => {}
        }
    }

    /// Has so many requests' worth of instances ready of these versions of a function, and of none of its others.
    pub fn provision(&self, uid: &str, wanted: &[(Target, u32)]) {
        let is_wanted = |version| wanted.iter().any(|(target, _)| target.version == version);
        let function = function_key(uid);
        {
            let mut concurrency = self.concurrency.lock().expect("no panic while held");
            for version in
                concurrency.provisioned(function).into_iter().filter(|version| !is_wanted(*version))
            {
                concurrency.set_provisioned(function, version, 0);
            }
            for (target, requests) in wanted {
                concurrency.set_provisioned(function, target.version, *requests);
            }
        }
        let others: Vec<Arc<PoolShell>> = {
            let versions = self.versions.read().expect("no panic while held");
            let is_other = |name: &PoolName| *name.uid == *uid && !is_wanted(name.version);
            versions.iter().filter(|(name, _)| is_other(name)).map(|(_, pool)| pool.clone()).collect()
        };
        for pool in others {
            pool.tell(Event::Provision { instances: 0 });
        }
        for (target, requests) in wanted.iter().filter(|_| !self.closing.load(Ordering::SeqCst)) {
            let each = target.configuration.instance_concurrency.max(1);
            self.pool(target).tell(Event::Provision { instances: requests.div_ceil(each) });
        }
    }

    /// Initialises a version once and lets go of the instance: whatever the executor makes for later starts it makes then.
    /// A failure is told in the function's log.
    pub async fn rehearse(&self, target: &Target) {
        if !self.closing.load(Ordering::SeqCst) {
            self.pools.rehearse(Arc::new(self.spec(target)), target.code.clone()).await;
        }
    }

    /// How what is provisioned of a version stands, of which this many requests were asked for.
    pub fn provisioned(&self, uid: &str, version: Version, requests: u32) -> Provisioned {
        let pool = {
            let versions = self.versions.read().expect("no panic while held");
            let is_of = |name: &PoolName| *name.uid == *uid && name.version == version;
            versions.iter().find(|(name, _)| is_of(name)).map(|(_, pool)| pool.clone())
        };
        pool.map_or(Provisioned::default(), |pool| pool.provisioned(requests))
    }

    /// Lets the pools of a function go that `keep` does not name: requests that run or wait there are served
    /// to their end, new ones go elsewhere.
    fn retire(&self, uid: &str, keep: impl Fn(Version, &str) -> bool) {
        let gone: Vec<Arc<PoolShell>> = {
            let mut versions = self.versions.write().expect("no panic while held");
            let stale = |name: &PoolName| *name.uid == *uid && !keep(name.version, &name.deployment_id);
            let names: Vec<PoolName> = versions.keys().filter(|name| stale(name)).cloned().collect();
            names.iter().filter_map(|name| versions.remove(name)).collect()
        };
        for pool in gone {
            // Its successor is called as it was.
            self.remember(&pool);
            pool.tell(Event::Retired);
        }
    }

    /// Adds what earlier servers saw of functions' idle times ([`crate::histories::from_records`]).
    pub fn recall(&self, learned: Vec<(String, Version, History)>) {
        for (function, version, history) in learned {
            let versions = self.versions.read().expect("no panic while held");
            let is_of =
                |pool: &&Arc<PoolShell>| pool.spec().function == function && pool.spec().version == version;
            match versions.values().find(is_of) {
                Some(pool) => pool.recall(history),
                None => self.histories.put(&function, version, history),
            }
        }
    }

    /// The time on the clock that decisions are made by.
    pub fn now(&self) -> model::Time {
        self.pools.now()
    }

    fn remember(&self, pool: &PoolShell) {
        if let Some(history) = pool.history() {
            self.histories.put(&pool.spec().function, pool.spec().version, history);
        }
    }

    /// Lets no new invocation in and waits at most `patience` for those under way, then stops every instance.
    pub async fn shut_down(&self, patience: Duration) {
        self.closing.store(true, Ordering::SeqCst);
        let empty = async {
            loop {
                let drained = self.drained.notified();
                if self.in_flight.load(Ordering::SeqCst) == 0 {
                    return;
                }
                drained.await;
            }
        };
        if tokio::time::timeout(patience, empty).await.is_err() {
            tracing::warn!("invocations were still running when the server stopped");
        }
        let pools: Vec<Arc<PoolShell>> = {
            let mut versions = self.versions.write().expect("no panic while held");
            versions.drain().map(|(_, pool)| pool).collect()
        };
        for pool in &pools {
            pool.tell(Event::Retired);
        }
        let gone = async {
            while pools.iter().any(|pool| !pool.is_empty()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), gone).await;
        self.logs.close();
    }

    fn admit(self: &Arc<Node>, target: &Target) -> Result<Permit, Refusal> {
        if self.closing.load(Ordering::SeqCst) {
            return Err(Refusal::ShuttingDown);
        }
        let (function, version) = (function_key(&target.uid), target.version);
        let admitted = self.concurrency.lock().expect("no panic while held").admit(function, version);
        let admitted = admitted.map_err(|throttle| {
            use policy::concurrency::Throttle as Hit;
            Refusal::Throttled(match throttle {
                Hit::ReservedConcurrency => Throttle::ReservedConcurrency,
                Hit::AccountConcurrency => Throttle::AccountConcurrency,
            })
        })?;
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        Ok(Permit { node: self.clone(), function, version, admitted })
    }

    /// The pool of the version that `target` names.
    fn pool(&self, target: &Target) -> Arc<PoolShell> {
        let name = PoolName {
            uid: target.uid.clone(),
            version: target.version,
            deployment_id: target.configuration.deployment_id.clone(),
        };
        if let Some(pool) = self.versions.read().expect("no panic while held").get(&name) {
            return pool.clone();
        }
        let mut versions = self.versions.write().expect("no panic while held");
        let open = || {
            let spec = Arc::new(self.spec(target));
            let pool = self.pools.open(spec, target.code.clone(), self.pool_config(target));
            if let Some(history) = self.histories.take(&target.name, target.version) {
                pool.recall(history);
            }
            pool
        };
        versions.entry(name).or_insert_with(open).clone()
    }

    fn pool_config(&self, target: &Target) -> PoolConfig {
        let freeze_after = match target.configuration.contract() {
            Contract::Lambda => self.config.freeze_after,
            // It keeps connections, whose time would be up when it is thawed: as the next request comes.
            Contract::Http => Duration::MAX,
        };
        PoolConfig {
            freeze_after,
            page_out_after: self.config.page_out_after,
            instance_concurrency: target.configuration.instance_concurrency.max(1),
            keep_alive: self.config.keep_alive.timeout,
            keep_policy: self.config.keep_alive.policy,
            keep_bin: self.config.keep_alive.bin,
            hot_instances: 2 * cores() as u32,
            ..PoolConfig::default()
        }
    }

    fn spec(&self, target: &Target) -> InstanceSpec {
        let configuration = &target.configuration;
        let timeout = Duration::from_secs(configuration.timeout_s.into());
        InstanceSpec {
            function_arn: self.config.account.function_arn(&target.name, None),
            function: target.name.to_string(),
            version: target.version,
            runtime: configuration.runtime.clone(),
            handler: configuration.handler.clone(),
            contract: configuration.contract(),
            environment: configuration.environment.clone(),
            network: configuration.network,
            code_dir: target.code.path().to_owned(),
            layer_dirs: Vec::new(),
            memory: configuration.memory,
            ephemeral_storage: configuration.ephemeral_storage,
            timeout,
            init_timeout: timeout.max(self.config.init_timeout),
            concurrency: configuration.instance_concurrency.max(1),
            region: self.config.account.region.clone(),
            log_group: configuration.logging.group.clone(),
            log_format: configuration.logging.format.clone(),
            log_level: configuration.logging.application_level.clone(),
            initialization: Initialization::OnDemand,
        }
    }

    /// One invocation from the wait for an instance to its record. Runs to its end whoever waits for it.
    async fn run(
        self: Arc<Node>,
        permit: Permit,
        target: Target,
        request: InvokeRequest,
        answer: oneshot::Sender<Result<Invoked, Refusal>>,
    ) {
        let mut pool = self.pool(&target);
        let assigned = loop {
            match pool.assign().await {
                // Retired between look-up and arrival: the next look-up finds its successor.
                Assigned::Refused(Reason::Retired) if !self.closing.load(Ordering::SeqCst) => {
                    tokio::task::yield_now().await;
                    pool = self.pool(&target);
                }
                assigned => break assigned,
            }
        };
        let invocation = Conversation { node: &self, pool: &pool, target: &target };
        match assigned {
            Assigned::To(key, running) => invocation.converse(key, &running, request, answer, permit).await,
            Assigned::Refused(Reason::Retired) => drop(answer.send(Err(Refusal::ShuttingDown))),
            Assigned::Refused(Reason::Memory | Reason::Queue) => {
                drop(permit);
                let refusal = match pool.lacks_descriptors() {
                    true => Refusal::Full(self.no_descriptors()),
                    false => Refusal::Throttled(Throttle::Memory),
                };
                let _ = answer.send(Err(refusal));
            }
            Assigned::Failed(FailedStart { failure: StartFailure::Full(message), .. }) => {
                drop(permit);
                tracing::warn!(function = %target.name, message, "the machine has no room for an instance");
                let _ = answer.send(Err(Refusal::Full(message)));
            }
            Assigned::Failed(FailedStart { failure: StartFailure::Machine(message), .. }) => {
                drop(permit);
                tracing::warn!(function = %target.name, message, "an instance could not be made");
                let _ = answer.send(Err(Refusal::Machine(message)));
            }
            Assigned::Failed(failed) => {
                let invoked = invocation.failed_start(failed, &request);
                drop(permit);
                let _ = answer.send(Ok(invoked));
            }
        }
    }
}

impl Node {
    fn no_descriptors(&self) -> String {
        format!(
            "All {} file descriptors that the server has for instances are in use by running ones: try again, or \
             raise the server's limit (`ulimit -Hn`, or LimitNOFILE= of its service).",
            self.config.descriptors
        )
    }
}

/// Processor cores that this server may use.
fn cores() -> usize {
    // To find out reads the files of control groups.
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(2, usize::from))
}

/// How often pools that have scaled to zero are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// Lets pools go that have neither instances nor requests, and are not about to start one: a function that is not called costs no memory here,
/// and one that was replaced while a request was on its way to it does not stay.
async fn forget_empty_pools(node: Weak<Node>) {
    loop {
        tokio::time::sleep(FORGET_EVERY).await;
        let Some(node) = node.upgrade() else { return };
        let mut versions = node.versions.write().expect("no panic while held");
        // Whoever holds it as well is about to use it.
        versions.retain(|_, pool| {
            let stays = Arc::strong_count(pool) > 1 || !pool.is_dormant();
            if !stays {
                node.remember(pool);
            }
            stays
        });
    }
}

/// A place among the invocations at once; given back when dropped.
struct Permit {
    node: Arc<Node>,
    function: u64,
    version: Version,
    admitted: Admitted,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Permit { function, version, admitted, .. } = *self;
        self.node.concurrency.lock().expect("no panic while held").release(function, version, admitted);
        if self.node.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.node.drained.notify_waiters();
        }
    }
}

/// What the parts of one invocation need.
struct Conversation<'a> {
    node: &'a Arc<Node>,
    pool: &'a Arc<PoolShell>,
    target: &'a Target,
}

impl Conversation<'_> {
    async fn converse(
        &self,
        key: RequestKey,
        running: &Arc<Running>,
        request: InvokeRequest,
        answer: oneshot::Sender<Result<Invoked, Refusal>>,
        permit: Permit,
    ) {
        let log = self.pool.log();
        let InvokeRequest { request_id, payload, qualifier, trace_id, client_context, tail } = request;
        // What the instance wrote while it started is in the log of whoever made it start.
        let before = match running.fresh.load(Ordering::Relaxed) {
            true => std::mem::take(&mut *running.log_end.lock().expect("no panic while held")),
            false => Bytes::new(),
        };
        let tail = tail.then(|| log.tail(request_id, &before));
        let started = Clock::timestamp();
        log.add(started, &running.stream, Some(request_id), EntryKind::Start(self.target.version));
        let timeout = self.pool.spec().timeout;
        let invocation = Invocation {
            request_id,
            invoked_arn: self
                .node
                .config
                .account
                .function_arn(&self.target.name, qualifier.as_deref())
                .into(),
            deadline: Timestamp(started.as_millis() + timeout.as_millis() as u64),
            payload,
            trace_id: trace_id.unwrap_or_else(|| trace(started)),
            client_context,
            cognito_identity: None,
        };
        let (sink, mut head) = oneshot::channel();
        let mut invoking = running.instance.invoke(invocation, sink);
        let (mut answer, mut ending) = (Some(answer), None);
        let completion = tokio::select! {
            biased;
            completion = &mut invoking => completion,
            Ok(stream) = &mut head => {
                ending = Some(self.reply_stream(&mut answer, stream));
                invoking.await
            }
        };
        // A very short stream may be over, or broken off, before its head was noticed.
        if ending.is_none()
            && let Ok(stream) = head.try_recv()
        {
            ending = Some(self.reply_stream(&mut answer, stream));
        }
        let Completion { result, duration, reusable, max_memory } = completion;
        self.pool.finished(running, key, reusable);
        drop(permit);
        let fresh = running.fresh.swap(false, Ordering::Relaxed);
        let record = MeterRecord {
            error_type: trouble::error_type(&result),
            init_us: fresh.then_some(running.init.as_micros() as u64),
            cold_start: fresh.then_some(running.cold_start),
            billed_ms: policy::meter::billed_ms(duration, fresh.then_some(running.init)),
            ..self.record(request_id, &running.stream, started, status(&result), duration, max_memory)
        };
        if let Some(line) = trouble::log_line(&result, request_id, timeout) {
            log.add(Clock::timestamp(), &running.stream, Some(request_id), EntryKind::Line(line));
        }
        self.node.metrics.ended(&record);
        log.report(Clock::timestamp(), &running.stream, record);
        let tail = tail.map(Tail::finish);
        let reply = match result {
            InvokeResult::Answer(payload) => Reply::Answer(payload),
            InvokeResult::Streamed(_) | InvokeResult::StreamError => {
                if let Some(ending) = ending {
                    let _ = ending.send(Ending { error: None, log_tail: tail });
                }
                return;
            }
            other => Reply::FunctionError(trouble::payload(other, request_id, timeout)),
        };
        match (reply, ending) {
            (Reply::FunctionError(error), Some(ending)) => {
                let _ = ending.send(Ending { error: Some(error), log_tail: tail });
            }
            (reply, _) => self.reply(&mut answer, reply, tail),
        }
    }

    /// Gives the beginning of a stream to the caller; the rest of what is to be said goes to what this returns.
    fn reply_stream(
        &self,
        answer: &mut Option<oneshot::Sender<Result<Invoked, Refusal>>>,
        stream: StreamReply,
    ) -> oneshot::Sender<Ending> {
        let (sender, ending) = oneshot::channel();
        if let Some(answer) = answer.take() {
            let executed_version = self.target.version;
            let reply = Reply::Stream(stream);
            let _ =
                answer.send(Ok(Invoked { reply, executed_version, log_tail: None, ending: Some(ending) }));
        }
        sender
    }

    fn reply(
        &self,
        answer: &mut Option<oneshot::Sender<Result<Invoked, Refusal>>>,
        reply: Reply,
        log_tail: Option<Bytes>,
    ) {
        if let Some(answer) = answer.take() {
            let executed_version = self.target.version;
            let _ = answer.send(Ok(Invoked { reply, executed_version, log_tail, ending: None }));
        }
    }

    /// The function could not be initialised: the caller gets its error, and there is a record of it.
    fn failed_start(&self, failed: FailedStart, request: &InvokeRequest) -> Invoked {
        let FailedStart { stream, failure, init, cold_start, max_memory, log_end } = failed;
        let (log, id, now) = (self.pool.log(), request.request_id, Clock::timestamp());
        let tail = request.tail.then(|| log.tail(id, &log_end));
        let timed_out = matches!(failure, StartFailure::TimedOut);
        let error_type = (!timed_out).then(|| trouble::init_error_type(&failure));
        let duration_us = init.as_micros() as u64;
        log.add(
            now,
            &stream,
            Some(id),
            EntryKind::InitReport {
                duration_us,
                error_type: error_type.clone(),
                initialization: Initialization::OnDemand.name().into(),
                cold_start: Some(cold_start),
            },
        );
        log.add(now, &stream, Some(id), EntryKind::Start(self.target.version));
        let init_timeout = self.pool.spec().init_timeout;
        if let Some(line) = trouble::init_log_line(&failure, id, init_timeout) {
            log.add(now, &stream, Some(id), EntryKind::Line(line));
        }
        let status = if timed_out { Status::Timeout } else { Status::InitError };
        let record = MeterRecord {
            error_type,
            init_us: Some(duration_us),
            cold_start: Some(cold_start),
            billed_ms: policy::meter::billed_ms(Duration::ZERO, Some(init)),
            ..self.record(id, &stream, now, status, Duration::ZERO, max_memory)
        };
        self.node.metrics.ended(&record);
        log.report(now, &stream, record);
        Invoked {
            reply: Reply::FunctionError(trouble::init_payload(failure, id, init_timeout)),
            executed_version: self.target.version,
            log_tail: tail.map(Tail::finish),
            ending: None,
        }
    }

    fn record(
        &self,
        request_id: RequestId,
        stream: &Arc<str>,
        started: Timestamp,
        status: Status,
        duration: Duration,
        max_memory: Option<MiB>,
    ) -> MeterRecord {
        MeterRecord {
            request_id,
            function: self.target.name.to_string(),
            version: self.target.version,
            stream: stream.to_string(),
            started,
            status,
            duration_us: duration.as_micros() as u64,
            billed_ms: policy::meter::billed_ms(duration, None),
            error_type: None,
            init_us: None,
            cold_start: None,
            memory: self.target.configuration.memory,
            max_memory: max_memory.unwrap_or_default(),
        }
    }
}

fn status(result: &InvokeResult) -> Status {
    match result {
        InvokeResult::Answer(_) | InvokeResult::Streamed(_) => Status::Success,
        InvokeResult::Error(_) | InvokeResult::StreamError | InvokeResult::ResponseTooLarge(_) => {
            Status::Error
        }
        InvokeResult::TimedOut => Status::Timeout,
        InvokeResult::Exited(_) => Status::Crash,
    }
}

/// A function in the concurrency book: 64 bits of its unique id (FNV-1a).
fn function_key(uid: &str) -> u64 {
    uid.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// An X-Ray trace header for an invocation whose caller sent none; not sampled, since nobody collects it.
fn trace(at: Timestamp) -> String {
    let (root, parent) = (fastrand::u128(..), fastrand::u64(..));
    format!("Root=1-{:08x}-{:024x};Parent={parent:016x};Sampled=0", at.as_millis() / 1000, root >> 32)
}
