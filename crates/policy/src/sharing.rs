//! How instances share the processors: who stands back behind the others ([`allowance`](crate::allowance)), and what is
//! done for these meanwhile.
//!
//! As long as one that stands back *presses*, that is runs all the same, all functions together weigh less against the server,
//! and while others want the processors the kernel is made to look more often who is to run (a *beat*). Those that hinder the
//! others even so have a quota, and run on as few processors as their quotas fill together.
//!
//! The owner looks at an instance when it is [due](Sharing::due), tells what it [saw](Event::Saw), and carries out the
//! commands; each holds until another is given.

use crate::allowance::{Allowance, LATEST_BUSY, PERIOD, Seen};
use model::{MiB, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// At most of so many functions it is known what their last instance left.
const FUNCTIONS: usize = 4096;

/// Whether anybody wants the processors is looked at again after so long: it takes a look at all.
const WANTED_EVERY: Duration = Duration::from_millis(20);

/// A look takes some ten microseconds, so that looking at however many takes a tenth of a core or two, and no more.
const OF_A_LOOK: Duration = Duration::from_micros(100);

/// The kernel looks so often who runs while one that stands back presses: that takes a twentieth of each processor.
const BEAT: Duration = Duration::from_micros(450);
/// While one hinders others: a tenth, which that one would have for the most part.
const QUICK_BEAT: Duration = Duration::from_micros(200);

/// What all functions together weigh on each core, in eighths of a process, while so many of them press. Against
/// each other idle ones weigh next to nothing, but against the server all functions are one. With none it is best that
/// the server does not take the processor from a function that is about to answer; from one that computes it must, or the
/// requests of all others wait until the clock ticks.
fn together(pressing: usize) -> u64 {
    if pressing == 0 { 32 } else { 2 }
}

/// On how many of so many processors those run together that have these quotas: on as few as the quotas fill. All of it
/// is theirs to use there, and elsewhere nobody meets one of them in the kernel.
fn together_on(quotas: impl IntoIterator<Item = Duration>, processors: usize) -> usize {
    let all: Duration = quotas.into_iter().sum();
    let filled = all.as_nanos().div_ceil(PERIOD.as_nanos());
    usize::try_from(filled).unwrap_or(usize::MAX).clamp(1, processors.max(1))
}

/// An instance, by a number of the owner's choice.
pub type Id = u64;

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// There is an instance of a function; it is due at once.
    Began {
        /// The instance.
        id: Id,
        /// Its function.
        function: Arc<str>,
        /// Its memory size.
        memory: MiB,
        /// The processor time that was used before, by others.
        used: Duration,
        /// How much of that the kernel has used.
        in_kernel: Duration,
    },
    /// One that was not [watched](Sharing::is_watched) has an event.
    Woke(Id),
    /// What was seen of one that was [due](Sharing::due); `None`: nothing was to be seen.
    Saw(Id, Option<Seen>),
    /// This one is not there any more.
    Ended(Id),
}

/// What the owner is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// This one stands back behind the others, or does not any more.
    StandBack(Id, bool),
    /// This one may use so much processor time in each [`PERIOD`], or what it likes.
    Limit(Id, Option<Duration>),
    /// This one runs on the same processors, so many, as all that are told so; or on all.
    RunOn(Id, Option<usize>),
    /// All functions together weigh so many eighths of a process on each core.
    Weigh(u64),
    /// The kernel is to look who runs with pauses of this length, or as it does by itself.
    Beat(Option<Duration>),
}

/// How all instances stand.
#[derive(Debug)]
pub struct Sharing {
    cores: usize,
    processors: usize,
    members: BTreeMap<Id, Member>,
    /// When who is to be looked at.
    due: BTreeSet<(Time, Id)>,
    /// What a function's last instance left.
    left: BTreeMap<Arc<str>, Allowance>,
    /// How many press, how many have a quota, how many are watched.
    pressing: usize,
    limited: usize,
    watched: usize,
    /// Whether anybody who does not stand back wants the processors, and when that was looked at.
    wanted: (Time, bool),
    beat: Option<Duration>,
}

#[derive(Debug)]
struct Member {
    function: Arc<str>,
    allowance: Allowance,
    /// What was commanded.
    back: bool,
    quota: Option<Duration>,
    on: Option<usize>,
    presses: bool,
    /// It is found out by itself when something changes; else it is to be told that it has an event.
    watched: bool,
    due: Time,
}

impl Sharing {
    /// Nobody yet, where so much can be used at once, on so many processors: not all of these where the whole is limited.
    pub fn new(cores: usize, processors: usize) -> Sharing {
        Sharing {
            cores,
            processors,
            members: BTreeMap::new(),
            due: BTreeSet::new(),
            left: BTreeMap::new(),
            pressing: 0,
            limited: 0,
            watched: 0,
            wanted: (Time::ZERO, false),
            beat: None,
        }
    }

    /// What holds before anything was commanded otherwise.
    pub fn begin(&self) -> Command {
        Command::Weigh(together(self.pressing))
    }

    /// Takes one event; what is to be done is appended to `commands`.
    pub fn step(&mut self, now: Time, event: Event, commands: &mut Vec<Command>) {
        match event {
            Event::Began { id, function, memory, used, in_kernel } => {
                let allowance = Allowance::new(now, memory, self.cores, used, in_kernel);
                self.began(now, id, function, allowance);
            }
            Event::Woke(id) => {
                let Some(member) = self.members.get_mut(&id) else { return };
                let due = (now + member.allowance.woke()).min(member.due);
                self.look_at(due, id);
            }
            Event::Saw(id, seen) => self.saw(now, id, seen, commands),
            Event::Ended(id) => self.ended(now, id, commands),
        }
    }

    fn began(&mut self, now: Time, id: Id, function: Arc<str>, mut allowance: Allowance) {
        if let Some(left) = self.left.get(&function) {
            allowance.inherit(now, left);
        }
        let (back, quota, on, presses, watched) = Default::default();
        let member = Member { function, allowance, back, quota, on, presses, watched, due: now };
        self.members.insert(id, member);
        self.due.insert((now, id));
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Time> {
        self.due.first().map(|&(due, _)| due)
    }

    /// One that is to be looked at now; an [`Event::Saw`] follows.
    pub fn due(&self, now: Time) -> Option<Id> {
        self.due.first().filter(|&&(due, _)| due <= now).map(|&(_, id)| id)
    }

    /// Whether this one is looked at soon, so that nobody needs to tell when it has an event.
    pub fn is_watched(&self, id: Id) -> bool {
        self.members.get(&id).is_some_and(|member| member.watched)
    }

    fn saw(&mut self, now: Time, id: Id, seen: Option<Seen>, commands: &mut Vec<Command>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let Some(seen) = seen else { return self.look_at(now + LATEST_BUSY, id) };
        let verdict = member.allowance.saw(now, seen);
        if verdict.back != member.back {
            commands.push(Command::StandBack(id, verdict.back));
        }
        let pressed = std::mem::replace(&mut member.presses, verdict.presses);
        let watched = verdict.again <= LATEST_BUSY;
        self.watched = self.watched + usize::from(watched) - usize::from(member.watched);
        (member.back, member.watched) = (verdict.back, watched);
        let may_have_a_quota = member.quota.is_some() || member.allowance.quota(true).is_some();
        let all = OF_A_LOOK.saturating_mul(u32::try_from(self.watched).unwrap_or(u32::MAX));
        self.look_at(now + verdict.again.max(all), id);
        self.turned(pressed, verdict.presses, commands);
        if may_have_a_quota {
            self.limit(now, id, commands);
        }
        self.beat(now, commands);
    }

    fn ended(&mut self, now: Time, id: Id, commands: &mut Vec<Command>) {
        let Some(member) = self.members.remove(&id) else { return };
        self.due.remove(&(member.due, id));
        self.watched -= usize::from(member.watched);
        self.turned(member.presses, false, commands);
        if member.quota.is_some() {
            self.limited -= 1;
            self.gather(commands);
        }
        self.beat(now, commands);
        if self.left.len() >= FUNCTIONS {
            self.left.retain(|_, left| !left.is_full(now));
        }
        if self.left.len() < FUNCTIONS && !member.allowance.is_full(now) {
            self.left.insert(member.function, member.allowance);
        }
    }

    fn look_at(&mut self, due: Time, id: Id) {
        let member = self.members.get_mut(&id).expect("the caller has found it");
        self.due.remove(&(member.due, id));
        member.due = due;
        self.due.insert((due, id));
    }

    /// One pressed `before`, and does so `now` or does not.
    fn turned(&mut self, before: bool, now: bool, commands: &mut Vec<Command>) {
        let weight = together(self.pressing);
        self.pressing = self.pressing + usize::from(now) - usize::from(before);
        if together(self.pressing) != weight {
            commands.push(Command::Weigh(together(self.pressing)));
        }
    }

    /// Gives one a quota when it hinders others and there are some, and takes it away when not.
    fn limit(&mut self, now: Time, id: Id, commands: &mut Vec<Command>) {
        let wanted = self.is_wanted(now);
        let member = self.members.get_mut(&id).expect("the caller has found it");
        let quota = member.allowance.quota(wanted);
        if quota != member.quota {
            self.limited = self.limited + usize::from(quota.is_some()) - usize::from(member.quota.is_some());
            member.quota = quota;
            commands.push(Command::Limit(id, quota));
            self.gather(commands);
        }
    }

    /// Has those with a quota run on processors of their own, and whoever has none any more on all.
    fn gather(&mut self, commands: &mut Vec<Command>) {
        let quotas = self.members.values().filter_map(|member| member.quota);
        let processors = together_on(quotas, self.processors);
        for (&id, member) in &mut self.members {
            let on = member.quota.map(|_| processors);
            if on != member.on {
                member.on = on;
                commands.push(Command::RunOn(id, on));
            }
        }
    }

    fn beat(&mut self, now: Time, commands: &mut Vec<Command>) {
        let is_on = self.pressing > 0 && self.is_wanted(now);
        let beat = is_on.then_some(if self.limited > 0 { QUICK_BEAT } else { BEAT });
        if beat != self.beat {
            self.beat = beat;
            commands.push(Command::Beat(beat));
        }
    }

    /// Whether anybody who does not stand back wants the processors.
    fn is_wanted(&mut self, now: Time) -> bool {
        if now.since(self.wanted.0) >= WANTED_EVERY {
            self.wanted = (now, self.members.values().any(|member| member.allowance.wants(now)));
        }
        self.wanted.1
    }
}

#[cfg(test)]
mod tests;
