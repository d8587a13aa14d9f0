//! What is counted, for Prometheus. A small set whose size does not depend on what functions there are: who wants to know
//! of one function asks its log, which has a record of every invocation.
//!
//! Counting costs the warm path a few atomic operations and a short lock; what the pools know anyway is read when somebody asks.

use crate::invoke::{Refusal, Throttle};
use model::{ColdStart, MeterRecord, MiB, Status};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

type Labels = [(&'static str, &'static str); 1];

/// Upper bounds of durations, seconds: a millisecond to Lambda's longest.
const DURATIONS: [f64; 12] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 900.0];

/// Upper bounds of the phases of a cold start, seconds.
const PHASES: [f64; 11] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];

const STATUSES: [(Status, &str); 5] = [
    (Status::Success, "success"),
    (Status::Error, "error"),
    (Status::Timeout, "timeout"),
    (Status::Crash, "crash"),
    (Status::InitError, "init_error"),
];

/// How all instances and their memory stand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    /// Requests that wait for an instance.
    pub waiting: u64,
    /// Instances being made.
    pub starting: u64,
    /// Instances that run nothing.
    pub idle: u64,
    /// Instances that run something.
    pub busy: u64,
    /// Of the idle and busy ones, those that are provisioned.
    pub provisioned: u64,
    /// Memory that instances are charged.
    pub charged: MiB,
    /// Memory of what waits ahead of need.
    pub kept: MiB,
    /// Memory that there is for both.
    pub limit: MiB,
}

/// The counters of one server.
pub struct Metrics {
    registry: Registry,
    invocations: [Counter; STATUSES.len()],
    durations: Histogram,
    billed: Counter,
    throttled: [Counter; 3],
    refused: Counter,
    phases: Phases,
    failed: Phases,
    waiting: Gauge<u64, AtomicU64>,
    instances: [Gauge<u64, AtomicU64>; 4],
    memory: [Gauge<u64, AtomicU64>; 3],
}

impl Metrics {
    /// Nothing has happened.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("brooklet");
        let invocations = Family::<Labels, Counter>::default();
        registry.register(
            "invocations",
            "Invocations that reached an instance, by how they ended",
            invocations.clone(),
        );
        let durations = Histogram::new(DURATIONS);
        let help = "From hand-over to the instance until the answer's last byte";
        registry.register_with_unit("invocation_duration", help, Unit::Seconds, durations.clone());
        let billed = Counter::default();
        registry.register("billed_milliseconds", "Billed time, all invocations together", billed.clone());
        let throttled = Family::<Labels, Counter>::default();
        registry.register("throttles", "Requests that a limit kept out, by which", throttled.clone());
        let refused = Counter::default();
        registry.register("refusals", "Requests that no instance could be made for", refused.clone());
        let help = "Cold starts, by phase; runtime is missing where it cannot be told from init";
        let phases = Phases::new(&mut registry, "cold_start_phase", help);
        let help = "Cold starts that failed, by the phases that they reached";
        let failed = Phases::new(&mut registry, "failed_start_phase", help);
        let waiting = Gauge::<u64, AtomicU64>::default();
        registry.register("waiting_requests", "Requests that wait for an instance", waiting.clone());
        let instances = Family::<Labels, Gauge<u64, AtomicU64>>::default();
        registry.register(
            "instances",
            "Instances; provisioned ones are idle or busy as well",
            instances.clone(),
        );
        let memory = Family::<Labels, Gauge<u64, AtomicU64>>::default();
        let help = "Memory of instances, of what is kept ahead of need, and what there is for both";
        registry.register_with_unit("memory", help, Unit::Bytes, memory.clone());
        let by = |name| move |value| [(name, value)];
        Metrics {
            invocations: STATUSES.map(|(_, name)| invocations.get_or_create(&by("status")(name)).clone()),
            durations,
            billed,
            throttled: ["reserved", "account", "machine"]
                .map(|name| throttled.get_or_create(&by("limit")(name)).clone()),
            refused,
            phases,
            failed,
            waiting,
            instances: ["starting", "idle", "busy", "provisioned"]
                .map(|name| instances.get_or_create(&by("state")(name)).clone()),
            memory: ["instances", "kept", "limit"].map(|name| memory.get_or_create(&by("of")(name)).clone()),
            registry,
        }
    }

    /// An invocation has ended.
    pub fn ended(&self, record: &MeterRecord) {
        for (counter, _) in
            self.invocations.iter().zip(&STATUSES).filter(|(_, (status, _))| *status == record.status)
        {
            counter.inc();
        }
        self.durations.observe(seconds(record.duration_us));
        self.billed.inc_by(record.billed_ms);
    }

    /// A request was refused.
    pub fn refused(&self, refusal: &Refusal) {
        let [reserved, account, machine] = &self.throttled;
        match refusal {
            Refusal::Throttled(Throttle::ReservedConcurrency) => reserved,
            Refusal::Throttled(Throttle::AccountConcurrency) => account,
            Refusal::Throttled(Throttle::Memory) | Refusal::Full(_) => machine,
            Refusal::ShuttingDown | Refusal::Machine(_) => &self.refused,
        }
        .inc();
    }

    /// An instance was started.
    pub fn cold_start(&self, cold_start: &ColdStart) {
        self.phases.observe(cold_start);
    }

    /// An instance was to be started, and that failed.
    pub fn failed_start(&self, cold_start: &ColdStart) {
        self.failed.observe(cold_start);
    }

    /// Everything, in the text format of OpenMetrics.
    pub fn text(&self, standing: &Standing) -> String {
        self.waiting.set(standing.waiting);
        let counts = [standing.starting, standing.idle, standing.busy, standing.provisioned];
        self.instances.iter().zip(counts).for_each(|(gauge, count)| _ = gauge.set(count));
        let sizes = [standing.charged, standing.kept, standing.limit];
        self.memory.iter().zip(sizes).for_each(|(gauge, size)| _ = gauge.set(size.bytes()));
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes everything");
        text
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

/// A histogram for each phase of a cold start.
struct Phases([Histogram; 5]);

impl Phases {
    fn new(registry: &mut Registry, name: &str, help: &str) -> Phases {
        let phases =
            Family::<Labels, Histogram, fn() -> Histogram>::new_with_constructor(|| Histogram::new(PHASES));
        registry.register_with_unit(name, help, Unit::Seconds, phases.clone());
        let of = |name| phases.get_or_create(&[("phase", name)]).clone();
        Phases(["queue", "code", "sandbox", "runtime", "init"].map(of))
    }

    fn observe(&self, cold_start: &ColdStart) {
        let ColdStart { queue_us, code_us, sandbox_us, runtime_us, init_us, used: _ } = *cold_start;
        let spans = [Some(queue_us), Some(code_us), Some(sandbox_us), runtime_us, init_us];
        for (histogram, us) in self.0.iter().zip(spans) {
            us.into_iter().for_each(|us| histogram.observe(seconds(us)));
        }
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}
