//! How long idle instances stay, and starting one ahead of an expected request.
//!
//! What is learned ([`crate::keepalive`]) is about the function's idle time, while nothing of it runs or waits. Its windows
//! hold for the last idle instance: the one that the next request will use. Instances beyond it, or beside provisioned ones, stay for
//! [`super::PoolConfig::keep_alive`] whatever was learned, the least recently used goes first.
//!
//! An instance is started ahead when a window opens, sooner by as long as a start takes, and there is none. It asks the
//! budget with [`Command::AskAhead`], which never waits and never takes room from anybody; denied, it is tried again
//! after a pause while the window lasts. One that was lost, failed to start or was reclaimed is not replaced before the
//! next request.

use super::{Command, InstanceKey, Pool, State};
use crate::keepalive::{self, KeepAlive, Window};
use model::Time;
use std::time::Duration;

/// After a denial an instance is not asked for ahead again for this long: the machine is busy or full.
const AHEAD_PAUSE: Duration = Duration::from_secs(1);

/// The policy and what it has brought about.
#[derive(Debug)]
pub(super) struct Keeping {
    pub(super) policy: KeepAlive,
    /// Since when nothing runs or waits; `None`: something does, or nothing ever did.
    quiet: Option<Time>,
    /// The window that idle time is in or comes to next.
    window: Option<Window>,
    /// The instance that was asked for or started ahead, until it is used or gone; and when its window closes.
    ahead: Option<(InstanceKey, Time)>,
    /// None is asked for ahead before this.
    again: Time,
    /// None is started ahead before the next request.
    given_up: bool,
    /// Instances started ahead.
    pub(super) started: u64,
    /// … that served a request.
    pub(super) used: u64,
}

impl Keeping {
    pub(super) fn new(policy: KeepAlive) -> Keeping {
        Keeping {
            policy,
            quiet: None,
            window: None,
            ahead: None,
            again: Time::ZERO,
            given_up: false,
            started: 0,
            used: 0,
        }
    }

    /// Other windows may hold from now on.
    pub(super) fn reconfigure(&mut self, now: Time, config: keepalive::Config) {
        self.policy.reconfigure(config);
        self.ahead = self.ahead.map(|(instance, _)| (instance, now));
    }

    /// Whether this instance was asked for ahead and has served nothing yet.
    pub(super) fn is_ahead(&self, instance: InstanceKey) -> bool {
        self.ahead.is_some_and(|ahead| ahead.0 == instance)
    }

    /// The budget has said no to an instance asked for ahead.
    pub(super) fn denied(&mut self, now: Time) {
        (self.ahead, self.again) = (None, now + AHEAD_PAUSE);
    }
}

impl Pool {
    /// Brings idle instances into agreement with the policy.
    pub(super) fn keep(&mut self, now: Time, commands: &mut Vec<Command>) {
        self.follow_ahead();
        self.note_idleness(now);
        self.expire(now, commands);
    }

    /// When the policy wants something done, if nothing happens before.
    pub(super) fn keep_at(&self) -> Option<Time> {
        if let Some(oldest) = self.slots.oldest_idle() {
            return Some(self.stays_until(oldest));
        }
        let (opens, closes) = self.opens_ahead().filter(|_| self.slots.len == 0)?;
        Some(opens.max(self.keeping.again).min(closes))
    }

    /// Sees what has become of the instance that was started ahead.
    fn follow_ahead(&mut self) {
        let Some((key, _)) = self.keeping.ahead else { return };
        match self.slots.find(key).map(|index| self.slots[index].state) {
            Some(State::Asking | State::Starting | State::Idle) => return,
            Some(State::Busy) => self.keeping.used += 1,
            Some(State::Stopping | State::Vacant) | None => self.keeping.given_up = true,
        }
        self.keeping.ahead = None;
    }

    /// Notes the beginning and the end of idle time.
    fn note_idleness(&mut self, now: Time) {
        let keeping = &mut self.keeping;
        let is_quiet = self.running == 0 && self.waiting.is_empty();
        match keeping.quiet {
            None if is_quiet => keeping.quiet = Some(now),
            Some(since) if !is_quiet => {
                keeping.policy.arrived(now, now.since(since));
                (keeping.quiet, keeping.window, keeping.given_up) = (None, None, false);
                // What it was started for has come, even if the caller should leave before it is ready.
                keeping.ahead = keeping.ahead.map(|(instance, _)| (instance, now));
            }
            _ => {}
        }
        if let Some(since) = keeping.quiet {
            keeping.window = keeping.policy.window(now, now.since(since));
        }
    }

    /// Stops instances that have been idle for too long, the least recently used first.
    fn expire(&mut self, now: Time, commands: &mut Vec<Command>) {
        while let Some(oldest) = self.slots.oldest_idle() {
            if now < self.stays_until(oldest) && !self.is_between_windows(now) {
                return;
            }
            let key = self.stop(now, oldest, commands);
            if self.keeping.is_ahead(key) {
                self.keeping.ahead = None;
            }
        }
    }

    /// Until when the least recently used idle instance may stay.
    fn stays_until(&self, oldest: u32) -> Time {
        if self.retired {
            return Time::ZERO;
        }
        match self.windowed() {
            None => self.slots[oldest].since + self.config.keep_alive,
            Some((_, None)) => Time::ZERO,
            Some((since, Some(window))) => since + window.until,
        }
    }

    /// The beginning of idle time and its window, when windows are what the idle instance is kept by.
    fn windowed(&self) -> Option<(Time, Option<Window>)> {
        let is_learned =
            self.idle <= 1 && !self.provision.is_wanted() && self.keeping.policy.config().learns();
        let since = self.keeping.quiet.filter(|_| is_learned)?;
        Some((since, self.keeping.window))
    }

    /// Whether the last idle instance is not wanted now, and not so soon that it would have to be started again at once.
    fn is_between_windows(&self, now: Time) -> bool {
        let Some((since, Some(window))) = self.windowed() else { return false };
        // One that was started ahead is there a little before its window.
        let is_early = self.keeping.ahead.is_some_and(|(_, closes)| now < closes);
        !is_early && now + self.start_time() < since + window.from
    }

    /// When an instance is to be asked for ahead of the next window, and when that window closes.
    fn opens_ahead(&self) -> Option<(Time, Time)> {
        let may = !self.retired && !self.keeping.given_up && self.waiting.is_empty();
        let (since, window) = self.windowed().filter(|_| may)?;
        let Window { from, until } = window?;
        let closes = since + until;
        // What begins at once is kept, never started: it was lost, and whoever comes next will see whether it works.
        let opens = if from.is_zero() { closes } else { since + from.saturating_sub(self.start_time()) };
        Some((opens, closes))
    }

    /// Asks for an instance ahead when its time has come; last in a step, when it is sure that there is none.
    pub(super) fn start_ahead(&mut self, now: Time, commands: &mut Vec<Command>) {
        let Some((opens, closes)) = self.opens_ahead().filter(|_| self.slots.len == 0) else { return };
        if now < opens || now < self.keeping.again {
            return;
        }
        let instance = self.add_asking(now);
        self.keeping.ahead = Some((instance, closes));
        commands.push(Command::AskAhead { instance });
    }
}
