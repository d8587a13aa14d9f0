//! What is played: functions with their workloads, the machine's limits, and what goes wrong.

use crate::Random;
use model::MiB;
use policy::PoolConfig;
use policy::budget::BudgetConfig;
use policy::keepalive::Policy;
use std::time::Duration;

/// Everything that a run depends on.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Where all chance in the run comes from.
    pub seed: u64,
    /// The functions.
    pub functions: Vec<Function>,
    /// Requests in flight over all functions.
    pub account_limit: u32,
    /// Processor cores that all starts and requests share. Zero: any number.
    pub cores: u32,
    /// The machine's memory.
    pub budget: BudgetConfig,
    /// What goes wrong.
    pub faults: Faults,
    /// How late a timer may fire.
    pub timer_slop: Duration,
    /// The longest time that a message between a pool and the budget takes.
    pub message_delay: Duration,
    /// Whether messages may overtake each other.
    pub reorder: bool,
}

/// A function: how it behaves and who calls it.
#[derive(Clone, Debug)]
pub struct Function {
    /// How its pool behaves.
    pub pool: PoolConfig,
    /// Reserved concurrency.
    pub reserved: Option<u32>,
    /// Instances that are wanted whether requests come or not.
    pub provisioned: u32,
    /// The most memory that an instance may use.
    pub limit: MiB,
    /// Memory that an instance uses at first; it grows to twice that, within the limit.
    pub memory: MiB,
    /// Mean time of a start.
    pub start: Duration,
    /// The share of it (0 to 1) that is work for the processors; it takes longer while others work.
    pub start_work: f64,
    /// Mean time of a request.
    pub service: Duration,
    /// The share of it (0 to 1) that is work for the processors.
    pub service_work: f64,
    /// How much times vary.
    pub spread: Spread,
    /// Who calls it.
    pub workload: Workload,
    /// How often. When every function has been called that often, nothing goes wrong any more.
    pub requests: u64,
}

/// How much a time varies around its mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Not at all.
    Constant,
    /// Exponentially.
    Exponential,
    /// One in twenty takes ten times as long.
    Tail,
}

impl Spread {
    /// One duration.
    pub fn draw(self, mean: Duration, random: &mut Random) -> Duration {
        match self {
            Spread::Constant => mean,
            Spread::Exponential => random.exponential(mean),
            Spread::Tail if random.chance(0.05) => mean * 10,
            Spread::Tail => mean,
        }
    }
}

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// At random, with this mean time between two.
    Poisson(Duration),
    /// So many at once, with this mean time between two bursts.
    Bursts(u32, Duration),
    /// At random, ever denser: this mean time between the first two, a fiftieth less each time.
    Ramp(Duration),
    /// One, again and again after this time.
    Timer(Duration),
    /// From so many callers, each of whom sends the next one this long (on average) after an answer.
    Closed(u32, Duration),
}

/// What goes wrong, as probabilities (0 to 1) and mean times.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A start fails.
    pub failed_start: f64,
    /// A start takes twenty times as long.
    pub slow_start: f64,
    /// An instance crashes during a request.
    pub crash: f64,
    /// A frozen instance can not be thawed.
    pub failed_thaw: f64,
    /// A caller gives up soon.
    pub abandon: f64,
    /// Mean time between two of the rest: an idle or busy instance dies, a function is reconfigured, updated
    /// or given another reservation, the machine's memory shrinks or grows. Zero: none.
    pub interval: Duration,
}

fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Scenario {
    /// These functions on a machine of so many cores (zero: any number) with memory for all, where nothing goes
    /// wrong and messages take no time.
    pub fn quiet(functions: Vec<Function>, cores: u32) -> Scenario {
        Scenario {
            seed: 0,
            functions,
            account_limit: 10_000,
            cores,
            budget: BudgetConfig::new(MiB(1_000_000)),
            faults: Faults::default(),
            timer_slop: Duration::from_millis(1),
            message_delay: Duration::ZERO,
            reorder: false,
        }
    }

    /// A scenario in which everything is drawn from `seed`: small machines and extreme settings, because that
    /// is where rules break, beside ordinary ones, so that the rest of the machine gets to work.
    pub fn from_seed(seed: u64) -> Scenario {
        let random = &mut Random::new(seed);
        let mut functions: Vec<_> = (0..1 + random.below(5)).map(|_| Function::draw(random)).collect();
        let limit = random.pick(&[MiB(150), MiB(400), MiB(1_000), MiB(20_000)]);
        // Drawn from numbers of their own: what older seeds stand for stays.
        let extra = &mut Random::new(seed.rotate_left(32) ^ 1);
        let cores = extra.pick(&[0, 0, 1, 2, 8]);
        for function in &mut functions {
            function.start_work = extra.pick(&[0.0, 0.5, 1.0, 1.0]);
            function.service_work = extra.pick(&[0.0, 0.1, 1.0]);
            function.pool.wait_limit = extra.pick(&[us(0), ms(100), ms(100)]);
        }
        let freezing = &mut Random::new(seed.rotate_left(48) ^ 3);
        for function in &mut functions {
            draw_freezing(&mut function.pool, freezing);
        }
        let mut scenario = Scenario {
            seed,
            functions,
            cores,
            account_limit: random.pick(&[5, 30, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000]),
            budget: BudgetConfig {
                headroom: random.pick(&[MiB(0), MiB(2), MiB(16)]),
                max_asks: random.pick(&[0, 1, 5, 1_000, 1_000, 1_000, 1_000]),
                min_idle: random.pick(&[ms(0), ms(10), ms(10)]),
                ..BudgetConfig::new(limit)
            },
            faults: Faults::draw(random),
            timer_slop: random.pick(&[us(0), us(0), ms(1)]),
            message_delay: random.pick(&[us(0), us(0), us(500), ms(3)]),
            reorder: random.chance(0.5),
        };
        if scenario.faults.crash > 0.0 {
            scenario.faults.failed_thaw = freezing.pick(&[0.0, 0.05, 0.5]);
        }
        scenario.budget.max_starts = extra.pick(&[0, 1, 2, 2, 2, 8]);
        scenario.budget.start_patience = extra.pick(&[us(0), ms(50), ms(50)]);
        scenario.budget.descriptors = random.pick(&[20, 100, u32::MAX, u32::MAX, u32::MAX]);
        scenario
    }

    /// The same with pools that learn how long to keep instances, and with timers among the functions.
    pub fn learning_from_seed(seed: u64) -> Scenario {
        let mut scenario = Scenario::from_seed(seed);
        let random = &mut Random::new(seed.rotate_left(16) ^ 2);
        for function in &mut scenario.functions {
            function.pool.keep_policy = random.pick(&[Policy::Hybrid, Policy::Learned, Policy::Learned]);
            function.pool.keep_bin = random.pick(&[ms(1), ms(10), ms(10), ms(100)]);
            if random.chance(0.6) {
                let bins = random.pick(&[1, 3, 20, 100, 239, 300]);
                function.workload = Workload::Timer(function.pool.keep_bin * bins + ms(random.below(10)));
            }
        }
        scenario
    }

    /// The same with provisioned instances, whose number changes while things go wrong.
    pub fn provisioned_from_seed(seed: u64) -> Scenario {
        let random = &mut Random::new(seed.rotate_left(48) ^ 3);
        let mut scenario = match random.chance(0.5) {
            true => Scenario::from_seed(seed),
            false => Scenario::learning_from_seed(seed),
        };
        for function in &mut scenario.functions {
            function.provisioned = random.pick(&[0, 1, 1, 3, 6]);
        }
        scenario
    }
}

impl Function {
    /// A function of which so many requests come at once, each of `service`; an instance takes `start`. All times are
    /// constant, starts compute and requests wait.
    pub fn burst(requests: u32, service: Duration, start: Duration) -> Function {
        Function {
            pool: PoolConfig { keep_alive: Duration::from_secs(3), ..PoolConfig::default() },
            reserved: None,
            provisioned: 0,
            limit: MiB(128),
            memory: MiB(20),
            start,
            start_work: 1.0,
            service,
            service_work: 0.0,
            spread: Spread::Constant,
            workload: Workload::Bursts(requests, us(1)),
            requests: requests.into(),
        }
    }

    fn draw(random: &mut Random) -> Function {
        let service = random.pick(&[us(50), us(500), ms(3), ms(20), ms(300)]);
        let start = random.pick(&[us(200), ms(5), ms(50), ms(500)]);
        // From a tenth of an instance's to twenty instances' worth of work, and few enough during a start
        // that there is a time after it.
        let gap = service.div_f64(0.1 * 200f64.powf(random.unit())).max(start / 30);
        let workload = match random.below(4) {
            0 => Workload::Poisson(gap),
            1 => {
                let burst = 1 + random.below(40) as u32;
                Workload::Bursts(burst, gap * burst * random.pick(&[1, 5]))
            }
            2 => Workload::Ramp(gap * 4),
            _ => {
                let callers = 1 + random.below(25) as u32;
                Workload::Closed(callers, random.pick(&[us(0), service, gap * callers]))
            }
        };
        Function {
            pool: draw_pool(random),
            reserved: random.pick(&[None, None, None, None, None, None, Some(1), Some(10)]),
            provisioned: 0,
            limit: MiB(128),
            memory: random.pick(&[MiB(3), MiB(20), MiB(60), MiB(120)]),
            start,
            start_work: 0.0,
            service,
            service_work: 0.0,
            spread: random.pick(&[Spread::Constant, Spread::Exponential, Spread::Tail]),
            workload,
            requests: random.pick(&[20, 100, 300]),
        }
    }
}

/// Settings of a pool, within reason and a little beyond.
pub(crate) fn draw_pool(random: &mut Random) -> PoolConfig {
    PoolConfig {
        instance_concurrency: random.pick(&[1, 1, 1, 2, 7]),
        keep_alive: random.pick(&[us(0), ms(10), ms(200), ms(2_000), ms(10_000), ms(10_000)]),
        start_estimate: random.pick(&[ms(1), ms(100)]),
        max_waiting: random.pick(&[1, 10, 1_000, 1_000, 1_000]),
        max_wait: random.pick(&[ms(20), ms(500), ms(5_000), ms(5_000)]),
        wait_bound: random.pick(&[us(0), ms(2), ms(10), ms(10)]),
        wait_limit: ms(100),
        hot_instances: random.pick(&[0, 1, 2, 4]),
        spread_bound: random.pick(&[us(0), us(300), us(300), ms(5)]),
        spread_limit: random.pick(&[us(0), ms(2), ms(2)]),
        ..PoolConfig::default()
    }
}

/// When idle instances are frozen and paged out, in two of three pools.
pub(crate) fn draw_freezing(pool: &mut PoolConfig, random: &mut Random) {
    pool.freeze_after = random.pick(&[us(0), ms(1), ms(5), ms(50), Duration::MAX, Duration::MAX]);
    pool.page_out_after = random.pick(&[us(0), ms(3), ms(20), ms(200), Duration::MAX]);
    pool.page_out_start = random.pick(&[us(0), ms(50)]);
}

impl Faults {
    /// One run in three goes well throughout.
    fn draw(random: &mut Random) -> Faults {
        if random.chance(0.33) {
            return Faults::default();
        }
        Faults {
            failed_start: random.pick(&[0.0, 0.1, 0.1, 0.9]),
            slow_start: random.pick(&[0.0, 0.1]),
            crash: random.pick(&[0.0, 0.01, 0.01, 0.3]),
            abandon: random.pick(&[0.0, 0.02, 0.02, 0.5]),
            interval: random.pick(&[ms(0), ms(3), ms(50)]),
            ..Faults::default()
        }
    }
}
