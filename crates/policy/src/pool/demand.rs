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
//! - *Unknown*: the first request that runs has the bound to show that it is short.
//!
//! Expectations can be wrong. When nothing has finished for as long as the bound, they are void, and whatever
//! they are, [`super::PoolConfig::wait_limit`] holds.

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
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Length {
    /// No.
    #[default]
    Fits,
    /// Yes, since then.
    Long(Time),
    /// Yes, and for as long as a start takes.
    Stands,
}

impl Queue {
    /// An instance has come: perhaps that is enough.
    pub(super) fn measure_anew(&mut self, now: Time) {
        if self.length == Length::Stands {
            self.length = Length::Long(now);
        }
    }
}

impl Pool {
    /// How many of the waiting requests instances should be on their way for.
    pub(super) fn demand(&mut self, now: Time) -> usize {
        let waiting = self.waiting.len() as u64;
        if waiting == 0 || self.idle > 0 {
            self.queue.length = Length::Fits;
            return 0;
        }
        if self.running == 0 {
            return waiting as usize;
        }
        let bound = self.config.wait_bound;
        let mut late = self.waiting_since(now, self.wait_limit());
        let is_stuck = now.since(self.queue.turned) >= bound;
        if is_stuck {
            late = late.max(self.waiting_since(now, bound));
        }
        let expected = match self.service.after(1) {
            Some(service) => self.unserved(now, waiting, service),
            None if is_stuck => waiting,
            None => 0,
        };
        expected.max(late) as usize
    }

    /// When demand may include a request that waits since then and is not included now, if nothing happens before.
    pub(super) fn demand_rises_at(&self, since: Time) -> Time {
        let limit = since + self.wait_limit();
        let stuck = match self.service.after(1) {
            Some(_) => self.queue.turned.max(since) + self.config.wait_bound,
            None => self.queue.turned + self.config.wait_bound,
        };
        let stands = match self.queue.length {
            Length::Long(since) => since + self.start_time(),
            _ => limit,
        };
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
            self.queue.length = Length::Fits;
            return 0;
        }
        match self.queue.length {
            Length::Fits => self.queue.length = Length::Long(now),
            Length::Long(since) if now.since(since) >= start => self.queue.length = Length::Stands,
            _ => {}
        }
        let is_long = service_ns >= nanos(bound);
        let stands = self.queue.length == Length::Stands;
        let horizon = if is_long || stands { bound } else { start };
        let needed = self.serve_within(horizon, waiting, service_ns);
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

    fn wait_limit(&self) -> Duration {
        self.config.wait_limit.max(self.config.wait_bound)
    }

    /// How long a start is expected to take.
    fn start_time(&self) -> Duration {
        self.start.after(1).map_or(self.config.start_estimate, Duration::from_nanos)
    }
}

/// In nanoseconds; 584 years where there are more.
fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
