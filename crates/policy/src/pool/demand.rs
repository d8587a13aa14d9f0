//! How many instances should be on their way: the question whether a request waits for a busy instance or gets
//! a new one, for the queue as a whole.
//!
//! With n requests running and a mean service time s, a turn comes every s/n. A start costs the machine c of
//! computing, which slows everything down, so it must be worth it:
//!
//! - *Long* requests (s at least the bound on the wait): one instance for each that cannot expect its turn
//!   within the bound. Each start serves about one of them anyway.
//! - *Short* requests: a burst of them may be over before a start is. So at first only what the busy instances
//!   cannot serve during a start counts. A queue that has stood for as long as a start takes is no burst: then
//!   all count that cannot expect their turn within the bound. Enough instances are wanted to serve them all
//!   within that time, not one for each. Up to [`super::PoolConfig::hot_instances`], which keep the processors
//!   busy without getting in each other's way, the bound is the shorter one for an idle instance.
//!   More instances do not help where there is nothing left to compute with. So when there are a quarter more
//!   and the turns have not come much sooner, the next ones have to wait, each time longer.
//! - *Unknown*: the first request that runs has the bound to show that it is short.
//!
//! Expectations can be wrong. When nothing has finished for as long as the bound, they are void, and whatever
//! they are, [`super::PoolConfig::wait_limit`] holds. Where more instances were just seen not to help, the limit
//! takes the place of the bound, and turns must stop coming for it to hold.

use super::Pool;
use model::Time;
use std::time::Duration;

/// What the queue has looked like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Queue {
    /// When a request last finished, or began to run while no other did.
    pub(super) turned: Time,
    /// Whether more wait than can expect their turn within the bound.
    length: Length,
    /// Requests that have finished since then.
    finished: u32,
    /// Busy instances when more were last asked for because the queue stood; zero: never, or it did not help.
    busy_before: u32,
    /// How often turns came then, ns.
    turn_before: u64,
    /// How long the queue must stand before more are asked for, when it is longer than a start takes.
    pause: Duration,
}

/// More instances are tried again after this long, even if they have never helped.
const MAX_PAUSE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    /// No, since then.
    Fits(Time),
    /// Yes, since then.
    Long(Time),
    /// Yes, and for so long that more instances are wanted.
    Stands,
}

impl Default for Length {
    fn default() -> Length {
        Length::Fits(Time::ZERO)
    }
}

impl Queue {
    /// No more wait than can expect their turn in time.
    fn fits(&mut self, now: Time) {
        if !matches!(self.length, Length::Fits(_)) {
            self.length = Length::Fits(now);
        }
    }

    /// Whether nothing is known against more instances for those who have waited for as long as they may.
    fn may_grow(&self) -> bool {
        self.pause.is_zero() || self.length == Length::Stands
    }

    /// A request has finished.
    pub(super) fn finished(&mut self, now: Time) {
        self.turned = now;
        self.finished = self.finished.saturating_add(1);
    }

    /// An instance has come: perhaps that is enough.
    pub(super) fn measure_anew(&mut self, now: Time) {
        if self.length == Length::Stands {
            self.measure(now);
        }
    }

    fn measure(&mut self, now: Time) {
        self.length = Length::Long(now);
        self.finished = 0;
    }

    /// How long the queue must stand, when a start takes `start`.
    fn patience(&self, start: Duration) -> Duration {
        if self.busy_before == 0 { self.pause.max(start) } else { start }
    }

    /// The queue has stood since then; decides whether more instances may be asked for.
    fn stands(&mut self, now: Time, since: Time, busy: u32, start: Duration) {
        let turn = nanos(now.since(since)) / u64::from(self.finished.max(1));
        let (before, after) = (u64::from(self.busy_before), u64::from(busy));
        if before > 0 && after * 4 >= before * 5 {
            // Half of what would be gained if turns came sooner in proportion.
            let is_better = turn.saturating_mul(2 * after) <= self.turn_before.saturating_mul(before + after);
            if !is_better {
                self.pause = (self.pause * 2).clamp(start, MAX_PAUSE.max(start));
                self.busy_before = 0;
                return self.measure(now);
            }
            self.pause = if self.pause > start { self.pause / 2 } else { Duration::ZERO };
        }
        if before == 0 || after * 4 >= before * 5 || after < before {
            (self.busy_before, self.turn_before) = (busy, turn);
        }
        self.length = Length::Stands;
    }
}

impl Pool {
    /// How many of the waiting requests instances should be on their way for.
    pub(super) fn demand(&mut self, now: Time) -> usize {
        let waiting = self.waiting.len() as u64;
        if waiting == 0 || self.idle > 0 {
            self.queue.fits(now);
            return 0;
        }
        if self.running == 0 {
            return waiting as usize;
        }
        // First, because it can change what holds for the rest.
        let expected = self.service.after(1).map(|service| self.unserved(now, waiting, service));
        let stall = self.stall();
        let is_stuck = now.since(self.queue.turned) >= stall;
        let expected = expected.unwrap_or(if is_stuck { waiting } else { 0 });
        let patience = if is_stuck { stall } else { self.wait_limit() };
        let late = if is_stuck || self.queue.may_grow() { self.waiting_since(now, patience) } else { 0 };
        expected.max(late) as usize
    }

    /// When demand may include a request that waits since then and is not included now, if nothing happens before.
    pub(super) fn demand_rises_at(&self, since: Time) -> Time {
        let limit = since + self.wait_limit();
        let stuck = match self.service.after(1) {
            Some(_) => self.queue.turned.max(since) + self.stall(),
            None => self.queue.turned + self.stall(),
        };
        let stands = match self.queue.length {
            Length::Long(since) => since + self.queue.patience(self.start_time()),
            _ => Time(u64::MAX),
        };
        let limit = if self.queue.may_grow() { limit } else { stands };
        limit.min(stuck).min(stands)
    }

    /// How many requests can expect to find one of the busy instances free within `span`.
    pub(super) fn turns_within(&self, span: Duration, service_ns: u64) -> u64 {
        nanos(span).saturating_mul(self.running.into()) / service_ns
    }

    /// Instances for those who cannot expect their turn in time.
    fn unserved(&mut self, now: Time, waiting: u64, service_ns: u64) -> u64 {
        let start = self.start_time();
        let bound = self.config.wait_bound.min(start);
        let hot = self.config.hot_instances.saturating_sub(self.busy);
        let usual = if hot > 0 { bound.min(self.config.spread_bound) } else { bound };
        if waiting <= self.turns_within(usual, service_ns) {
            self.queue.fits(now);
            return 0;
        }
        match self.queue.length {
            Length::Fits(since) => {
                if now.since(since) >= self.queue.pause {
                    // What was seen is too long ago.
                    (self.queue.pause, self.queue.busy_before) = (Duration::ZERO, 0);
                }
                self.queue.measure(now);
            }
            Length::Long(since) if now.since(since) >= self.queue.patience(start) => {
                self.queue.stands(now, since, self.busy, start);
            }
            _ => {}
        }
        // Where more instances compute than there are cores for, requests take longer for that very reason.
        let cores = u64::from(self.config.hot_instances.max(1));
        let alone_ns = service_ns.saturating_mul(cores) / cores.max(self.busy.into());
        let is_long = alone_ns >= nanos(bound);
        let stands = self.queue.length == Length::Stands;
        let needed = match (is_long || stands, self.queue.pause.is_zero()) {
            (true, _) => self.serve_within(bound, waiting, service_ns),
            (false, true) => self.serve_within(start, waiting, service_ns),
            (false, false) => 0,
        };
        if stands {
            needed.max(self.serve_within(usual, waiting, service_ns).min(hot.into()))
        } else {
            needed
        }
    }

    /// How many more instances would serve all that wait within `span`; none for those whom the busy ones serve.
    fn serve_within(&self, span: Duration, waiting: u64, service_ns: u64) -> u64 {
        let excess = waiting.saturating_sub(self.turns_within(span, service_ns));
        let work_ns = waiting.saturating_mul(service_ns);
        let enough = work_ns.div_ceil(nanos(span).max(1)).saturating_sub(self.running.into());
        excess.min(enough)
    }

    /// How many have waited this long.
    fn waiting_since(&self, now: Time, span: Duration) -> u64 {
        self.waiting.partition_point(|waiting| now.since(waiting.since) >= span) as u64
    }

    /// Expectations are void when nothing has finished for this long. Where more instances have not helped, the
    /// processors have too much to do, and then turns do not come evenly.
    fn stall(&self) -> Duration {
        if self.queue.may_grow() { self.config.wait_bound } else { self.wait_limit() }
    }

    fn wait_limit(&self) -> Duration {
        self.config.wait_limit.max(self.config.wait_bound)
    }

    /// How long a start is expected to take.
    pub(super) fn start_time(&self) -> Duration {
        self.start.after(1).map_or(self.config.start_estimate, Duration::from_nanos)
    }
}

/// In nanoseconds; 584 years where there are more.
fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
