//! The rules of keeping idle instances and of starting one ahead, checked.
//!
//! What the policy wants is asked of a [`KeepAlive`] of our own, which is told of the same idle times; when
//! they begin and end is our own account.

use crate::pooling::{Broken, ensure};
use model::Time;
use policy::keepalive::{KeepAlive, Window};
use policy::pool::Event;
use policy::{InstanceKey, PoolConfig};
use std::time::Duration;

/// For how long after a denial a pool need not ask ahead again.
const AHEAD_PAUSE: Duration = Duration::from_secs(1);

/// A function's idle time as seen from outside.
pub(crate) struct Keeping {
    policy: KeepAlive,
    quiet: Option<Time>,
    /// The instance asked for or started ahead, and when its window closes.
    ahead: Option<(InstanceKey, Time)>,
    denied: Option<Time>,
    given_up: bool,
}

impl Keeping {
    pub(crate) fn new(config: &PoolConfig) -> Keeping {
        let policy = KeepAlive::new(config.keeping());
        Keeping { policy, quiet: None, ahead: None, denied: None, given_up: false }
    }

    /// An event that the pool is about to get.
    pub(crate) fn event(&mut self, now: Time, event: &Event) {
        let is_ahead = |instance: InstanceKey| self.ahead.is_some_and(|ahead| ahead.0 == instance);
        match *event {
            Event::Reconfigured(ref config) => {
                self.policy.reconfigure(config.keeping());
                // Other windows may hold from now on.
                self.ahead = self.ahead.map(|(instance, _)| (instance, now));
            }
            Event::Denied { instance } if is_ahead(instance) => (self.ahead, self.denied) = (None, Some(now)),
            Event::StartFailed { instance } | Event::Lost { instance } if is_ahead(instance) => {
                (self.ahead, self.given_up) = (None, true);
            }
            _ => {}
        }
    }

    /// A request runs on an instance.
    pub(crate) fn used(&mut self, instance: InstanceKey) -> bool {
        self.ahead.take_if(|ahead| ahead.0 == instance).is_some()
    }

    /// Whether this one was started ahead and has served nothing yet.
    pub(crate) fn is_ahead(&self, instance: InstanceKey) -> bool {
        self.ahead.is_some_and(|ahead| ahead.0 == instance)
    }

    /// Whether nothing of the function runs or waits, and what was learned says what becomes of its last instance.
    pub(crate) fn is_windowed(&self) -> bool {
        self.quiet.is_some() && self.policy.config().learns()
    }

    /// The idle time has begun, if there is none yet.
    pub(crate) fn begin(&mut self, now: Time, is_quiet: bool) {
        if is_quiet {
            self.quiet.get_or_insert(now);
        }
    }

    /// A step is over.
    pub(crate) fn settle(&mut self, now: Time, is_quiet: bool) {
        self.begin(now, is_quiet);
        if let Some(since) = self.quiet.take_if(|_| !is_quiet) {
            self.policy.arrived(now, now.since(since));
            self.given_up = false;
            self.ahead = self.ahead.map(|(instance, _)| (instance, now));
        }
        if self.quiet.is_some() {
            // A policy may look at what it has learned when it is asked, not before.
            self.window(now, Duration::ZERO);
        }
    }

    /// The idle time, and the first window that ended less than `late` ago or ends in the future.
    fn window(&mut self, now: Time, late: Duration) -> (Duration, Option<Window>) {
        let idle = self.quiet.map_or(Duration::ZERO, |since| now.since(since));
        (idle, self.policy.window(now, idle.saturating_sub(late)))
    }

    pub(crate) fn check_ask_ahead(
        &mut self,
        now: Time,
        instance: InstanceKey,
        start: Duration,
    ) -> Result<(), Broken> {
        ensure!(self.is_windowed(), "{instance} is started ahead of nothing that was learned");
        ensure!(!self.given_up, "{instance} is started ahead in place of one that was lost");
        let paused = self.denied.is_none_or(|at| now.since(at) >= AHEAD_PAUSE);
        ensure!(paused, "{instance} is asked for ahead right after a denial");
        let (idle, window) = self.window(now, Duration::ZERO);
        let Some(Window { from, until }) = window else {
            return Err(format!("{instance} is started ahead after {idle:?}, and nothing is expected"));
        };
        ensure!(from > Duration::ZERO, "{instance} is started ahead in place of one that was kept");
        ensure!(idle + start >= from, "{instance} is started {:?} ahead of its window", from - idle);
        self.ahead = Some((instance, now + (until - idle)));
        Ok(())
    }

    /// An instance is stopped: until when it might have stayed if it was started ahead.
    pub(crate) fn stopped(&mut self, instance: InstanceKey, reclaimed: bool) -> Option<Time> {
        let (_, until) = self.ahead.take_if(|ahead| ahead.0 == instance)?;
        self.given_up |= reclaimed;
        Some(until)
    }

    /// The pool stops its last idle instance of its own accord.
    pub(crate) fn check_stop(
        &mut self,
        now: Time,
        instance: InstanceKey,
        ahead_until: Option<Time>,
    ) -> Result<(), Broken> {
        let (idle, window) = self.window(now, Duration::ZERO);
        let is_over = match ahead_until {
            Some(until) => now >= until,
            None => window.is_none_or(|window| idle < window.from),
        };
        ensure!(is_over, "{instance} is stopped within its window: {window:?} after {idle:?}");
        Ok(())
    }

    /// The last idle instance is wanted, or was less than `late` ago; `start`: the longest start.
    pub(crate) fn check_idle(
        &mut self,
        now: Time,
        instance: InstanceKey,
        late: Duration,
        start: Duration,
    ) -> Result<(), Broken> {
        let is_early = self.ahead.is_some_and(|ahead| ahead.0 == instance && now < ahead.1 + late);
        let (idle, window) = self.window(now, late);
        // It may stay for a window that opens so soon that it would have to be started again at once.
        let is_wanted = window.is_some_and(|window| window.from <= idle + start);
        ensure!(is_early || is_wanted, "{instance} is idle outside of its window: {window:?} after {idle:?}");
        Ok(())
    }

    /// There is no instance: one has been asked for ahead if a window is open for `late`.
    pub(crate) fn check_absence(&mut self, now: Time, late: Duration) -> Result<(), Broken> {
        let may_pause = self.denied.is_some_and(|at| now.since(at) < AHEAD_PAUSE + late);
        if self.given_up || may_pause || !self.is_windowed() {
            return Ok(());
        }
        let (idle, window) = self.window(now, Duration::ZERO);
        let is_open = window.is_some_and(|Window { from, .. }| !from.is_zero() && from + late <= idle);
        ensure!(!is_open, "nothing was started ahead of {window:?} after {idle:?}");
        Ok(())
    }
}
