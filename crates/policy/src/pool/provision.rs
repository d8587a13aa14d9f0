//! Provisioned instances: so many are there whether requests come or not.
//!
//! They are asked for ahead ([`Command::AskProvisioned`], which never waits), kept for as long as they are wanted, neither
//! stopped for idleness nor reclaimed, and replaced when they are lost. Requests use them before any other. One that
//! cannot be had is tried again after a pause that doubles; a start that fails concerns no request, because requests do
//! not count on it: while some are missing, requests start instances of their own.

use super::{Command, InstanceKey, Pool, State};
use model::Time;
use std::time::Duration;

/// Another start begins beside one that is under way after this long, if the budget lets it: one that waits for something
/// does not hold up the rest.
const GAP: Duration = Duration::from_millis(50);

/// One that was lost is not replaced sooner: a function whose instances end by themselves does not keep the machine busy.
const LOST_PAUSE: Duration = Duration::from_millis(100);

/// The first pause after a denial, and after a failed start; each is twice as long as the one before it …
const DENIED_PAUSE: Duration = Duration::from_millis(100);
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// … until it is this long.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Denials that make pauses no longer than this mean that the machine is busy, not that it has no room.
const BUSY: Duration = Duration::from_millis(400);

/// How a pool's provisioned instances stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provisioned {
    /// How many there should be.
    pub wanted: u32,
    /// How many hold memory: those that are ready or being started. More than `wanted` only while some that are
    /// not wanted any more start or run a request.
    pub allocated: u32,
    /// How many are ready, idle or busy.
    pub available: u32,
    /// Why there are not more, unless it is that they are on their way.
    pub trouble: Option<Trouble>,
}

/// Why an instance could not be provided. It is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The machine has no room for it.
    Room,
    /// The last one that was started failed.
    Start,
}

#[derive(Debug, Default)]
pub(super) struct Provision {
    wanted: u32,
    /// Those that are asked for, being started, idle or busy.
    have: u32,
    /// The slot that is asked for: one at a time.
    asked: Option<u32>,
    starting: u32,
    pub(super) idle: u32,
    /// None is asked for before this.
    again: Time,
    pause: Duration,
    trouble: Option<Trouble>,
}

impl Provision {
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted > 0
    }

    /// Those that wait for memory.
    pub(super) fn asking(&self) -> usize {
        usize::from(self.asked.is_some())
    }

    /// When another is to be asked for, if nothing happens before.
    pub(super) fn wake_at(&self) -> Option<Time> {
        (self.have < self.wanted && self.asked.is_none()).then_some(self.again)
    }

    /// The ask is answered, if this is the slot that was asked for.
    pub(super) fn answered(&mut self, index: u32) -> bool {
        self.asked.take_if(|asked| *asked == index).is_some()
    }

    pub(super) fn granted(&mut self, now: Time) {
        self.starting += 1;
        self.again = now + GAP;
    }

    pub(super) fn denied(&mut self, now: Time) {
        self.have -= 1;
        if self.starting > 0 {
            self.again = now + GAP;
            return;
        }
        self.retry_after(now, DENIED_PAUSE);
        if self.pause > BUSY {
            self.trouble = Some(Trouble::Room);
        }
    }

    pub(super) fn started(&mut self, now: Time) {
        self.starting -= 1;
        (self.again, self.pause, self.trouble) = (now, Duration::ZERO, None);
    }

    pub(super) fn start_failed(&mut self, now: Time) {
        self.starting -= 1;
        self.have -= 1;
        self.retry_after(now, FAILED_PAUSE);
        self.trouble = Some(Trouble::Start);
    }

    /// One that was ready is gone.
    pub(super) fn lost(&mut self, now: Time) {
        self.have -= 1;
        self.again = self.again.max(now + LOST_PAUSE);
    }

    fn retry_after(&mut self, now: Time, first: Duration) {
        self.pause = (self.pause * 2).clamp(first, MAX_PAUSE);
        self.again = now + self.pause;
    }

    /// Another number is wanted; what went wrong before is tried anew.
    pub(super) fn want(&mut self, now: Time, wanted: u32) {
        if wanted != self.wanted {
            (self.wanted, self.again, self.pause, self.trouble) = (wanted, now, Duration::ZERO, None);
        }
    }
}

impl Pool {
    /// How the provisioned instances stand.
    pub fn provisioned(&self) -> Provisioned {
        let Provision { wanted, have, starting, trouble, .. } = self.provision;
        let allocated = have - self.provision.asking() as u32;
        Provisioned { wanted, allocated, available: allocated - starting, trouble }
    }

    /// Whether this instance is a provisioned one.
    pub fn is_provisioned(&self, instance: InstanceKey) -> bool {
        self.slots.find(instance).is_some_and(|index| self.slots[index].is_provisioned)
    }

    /// Lets go what is not wanted any more: first what is not there yet, then what is idle. The rest goes when it
    /// has ended what it does.
    pub(super) fn withhold(&mut self, now: Time, commands: &mut Vec<Command>) {
        while self.provision.have > self.provision.wanted {
            if let Some(index) = self.provision.asked.take() {
                self.provision.have -= 1;
                commands.push(Command::Release { instance: self.slots.key(index) });
                self.slots.remove(index);
            } else if let Some(oldest) = self.slots.ready.oldest() {
                self.stop(now, oldest, commands);
            } else {
                return;
            }
        }
    }

    /// Asks for one that is missing when its time has come.
    pub(super) fn provide(&mut self, now: Time, commands: &mut Vec<Command>) {
        if self.provision.wake_at().is_none_or(|at| now < at) {
            return;
        }
        let index = self.slots.insert(now, self.config.instance_concurrency.max(1));
        self.slots[index].is_provisioned = true;
        self.provision.have += 1;
        self.provision.asked = Some(index);
        commands.push(Command::AskProvisioned { instance: self.slots.key(index) });
    }

    /// A provisioned instance leaves the pool's care: it is stopped.
    pub(super) fn let_go(&mut self, index: u32) {
        if std::mem::take(&mut self.slots[index].is_provisioned) {
            debug_assert_eq!(self.slots[index].state, State::Idle, "only idle ones are stopped");
            self.provision.have -= 1;
        }
    }
}
