//! How long the last idle instance of a function is kept, and when one is started ahead of an expected request.
//!
//! A function is *idle* from the end of its last request to the arrival of the next. For that time a policy says
//! in which [`Window`]s an instance should be there: keeping one is the window that begins at once, pre-warming is
//! one that begins later. Between windows there is none, and after the last one there is none until a request comes.
//!
//! Three policies, one interface ([`KeepAlive`]): `Fixed`, the baseline; `Hybrid`, the policy of Shahrad et al.,
//! "Serverless in the Wild" (USENIX ATC '20), section 4.2; `Learned`, which weighs every minute by itself. The last
//! two learn from the same [`History`]. docs/keep-alive.md says how they compare.

mod history; // the idle times that were seen
mod hybrid; //  the paper's head and tail
mod learned; // every bin by itself: what it costs against what it saves

pub use history::History;

use model::Time;
use std::time::Duration;

/// Bins of the histogram. With the paper's bin of 1 minute they cover 4 hours.
pub const BINS: usize = 240;

/// Which policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Every idle instance for the same time, whatever was seen.
    #[default]
    Fixed,
    /// From the head to the tail of the function's idle times.
    Hybrid,
    /// In each minute in which a request is likely enough.
    Learned,
}

/// How idle instances are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// The policy (default: `Fixed`).
    pub policy: Policy,
    /// `Fixed`: how long an instance is kept. `Hybrid`: how long while the history is not representative (the paper
    /// takes the whole range, 4 hours). `Learned`: how long when nothing is known; also the exchange rate between
    /// memory and cold starts, see there. Default 10 minutes. Zero: not at all; nothing is learned then. `Duration::MAX`: for ever.
    pub timeout: Duration,
    /// Width of a bin of the histogram (default 1 minute, at least 1 ms). What is expected is expected to this
    /// precision; idle times above [`BINS`] of it are out of range.
    pub bin: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config { policy: Policy::Fixed, timeout: Duration::from_secs(600), bin: Duration::from_secs(60) }
    }
}

impl Config {
    /// The baseline.
    pub fn fixed(timeout: Duration) -> Config {
        Config { timeout, ..Config::default() }
    }

    /// Whether anything is learned.
    pub fn learns(&self) -> bool {
        self.policy != Policy::Fixed && !self.timeout.is_zero() && self.timeout < Duration::MAX
    }
}

/// A time in which an instance should be there, counted from the beginning of the idle time. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its beginning: zero means that the instance which has just become idle stays. (The pre-warming window of the
    /// paper is the time until then.)
    pub from: Duration,
    /// Its end. (The keep-alive window of the paper is the time from `from` until then.)
    pub until: Duration,
}

/// The policy of one function with what it has learned: at most [`KeepAlive::MAX_BYTES`].
#[derive(Clone, Debug)]
pub struct KeepAlive {
    config: Config,
    /// None before the first observation, and for good with the fixed policy.
    learned: Option<Box<Learned>>,
}

#[derive(Clone, Debug)]
struct Learned {
    history: History,
    plan: Plan,
    /// Observations since the plan was made; `None`: it does not hold any more.
    since_plan: Option<u32>,
}

/// What a policy wants, until it has seen more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// One window.
    One(Window),
    /// These bins, and perhaps a window beyond the range.
    Bins([u64; BINS.div_ceil(64)], Option<Window>),
}

impl KeepAlive {
    /// The most memory that one takes, bytes: the histogram and what is around it.
    pub const MAX_BYTES: usize = size_of::<KeepAlive>() + size_of::<Learned>() + 4 * BINS;

    /// Nothing learned yet.
    pub fn new(config: Config) -> KeepAlive {
        KeepAlive { config, learned: None }
    }

    /// How it was set up.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes another configuration. What was learned stays, unless the bins are of another width now.
    pub fn reconfigure(&mut self, config: Config) {
        if config.bin != self.config.bin || !config.learns() {
            self.learned = None;
        }
        self.config = config;
        if let Some(learned) = &mut self.learned {
            learned.since_plan = None;
        }
    }

    /// What was learned, if anything.
    pub fn history(&self) -> Option<&History> {
        self.learned.as_ref().map(|learned| &learned.history)
    }

    /// Adds what was learned elsewhere: of the same function, before.
    pub fn recall(&mut self, now: Time, history: History) {
        if self.config.learns() {
            let learned = self.learned.get_or_insert_with(|| Learned::new(now));
            learned.history.merge(now, history);
            learned.since_plan = None;
        }
    }

    /// An idle time has ended with the arrival of a request. On the warm path: some nanoseconds.
    pub fn arrived(&mut self, now: Time, idle: Duration) {
        if !self.config.learns() {
            return;
        }
        let learned = self.learned.get_or_insert_with(|| Learned::new(now));
        let aged = learned.history.add(now, bins(idle, self.config.bin()));
        match &mut learned.since_plan {
            Some(count) if !aged => *count += 1,
            since_plan => *since_plan = None,
        }
    }

    /// The first window that ends after `idle`, the idle time so far; `None`: there is none.
    pub fn window(&mut self, now: Time, idle: Duration) -> Option<Window> {
        let bin = self.config.bin();
        let plan = match &mut self.learned {
            Some(learned) => learned.refresh(now, &self.config),
            None => self.config.unlearned(),
        };
        let window = match plan {
            Plan::One(window) => window,
            Plan::Bins(wanted, beyond) => match span(&wanted, bins(idle, bin)) {
                Some((from, until)) => Window { from: times(bin, from), until: times(bin, until) },
                None => beyond?,
            },
        };
        (window.until > idle && window.until > window.from).then_some(window)
    }
}

impl Learned {
    fn new(now: Time) -> Box<Learned> {
        let plan = Plan::Bins([0; _], None);
        Box::new(Learned { history: History::new(now), plan, since_plan: None })
    }

    /// The plan; made anew when more than one in 64 observations is not in it.
    fn refresh(&mut self, now: Time, config: &Config) -> Plan {
        let count = self.history.observations();
        if self.since_plan.is_none_or(|changes| u64::from(changes) * 64 > count) {
            self.history.age(now);
            self.plan = config.plan(&self.history);
            self.since_plan = Some(0);
        }
        self.plan
    }
}

impl Config {
    /// What holds while nothing is known.
    fn unlearned(&self) -> Plan {
        Plan::One(Window { from: Duration::ZERO, until: self.timeout })
    }

    fn plan(&self, history: &History) -> Plan {
        match self.policy {
            _ if history.observations() == 0 => self.unlearned(),
            Policy::Fixed => self.unlearned(),
            Policy::Hybrid => hybrid::window(history, self.bin()).map_or(self.unlearned(), Plan::One),
            Policy::Learned => {
                let (wanted, beyond) = learned::plan(history, self.timeout, self.bin());
                Plan::Bins(wanted, beyond)
            }
        }
    }

    fn bin(&self) -> Duration {
        self.bin.max(Duration::from_millis(1))
    }
}

/// The bin that a time falls into; beyond the range as well.
fn bins(span: Duration, bin: Duration) -> usize {
    let bin = bin.max(Duration::from_millis(1));
    usize::try_from(span.as_nanos() / bin.as_nanos()).unwrap_or(usize::MAX)
}

fn times(bin: Duration, count: usize) -> Duration {
    bin.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The first run of wanted bins that ends after bin `at`: its first bin and the one behind its last.
fn span(wanted: &[u64], at: usize) -> Option<(usize, usize)> {
    let is_wanted = |bin: usize| wanted.get(bin / 64).is_some_and(|word| word >> (bin % 64) & 1 == 1);
    let first = (at..BINS).find(|&bin| is_wanted(bin))?;
    let from = (0..first).rev().find(|&bin| !is_wanted(bin)).map_or(0, |bin| bin + 1);
    let until = (first..BINS).find(|&bin| !is_wanted(bin)).unwrap_or(BINS);
    Some((from, until))
}

#[cfg(test)]
mod tests;
