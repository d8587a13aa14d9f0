//! Which runtimes wait booted ahead of need, and which zygotes there are to fork more of them from.
//!
//! Of each kind of runtime as many wait as were lately started in a burst, so that the next burst of that size
//! finds them ready; at least one while the kind is in use at all, and none when it is not. One of a kind is made
//! at a time: whoever needs the processor now comes first. When too many would wait, kinds share the places: a free
//! one goes to the kind that has fewest, and when none is free, one of the kind that has most gives way, or else that
//! of the kind that was not started for the longest time.
//!
//! A kind that forks has one zygote, booted when the kind is first started; what waits of it is forked, not booted. A
//! zygote's copies share what was random at its birth, so it is replaced after so many forks, and the old one serves
//! until the new one is up.

use crate::bursts::{Bursts, BurstsConfig};
use model::{MiB, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// What makes two runtimes alike, named by the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u64);

/// How a stock behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockConfig {
    /// At most this many wait, of all kinds together (default 8). Zero: none, ever, and no zygotes.
    pub most: usize,
    /// At most this many wait of one kind (default 4).
    pub most_of_kind: usize,
    /// Kinds that are known at once, and so zygotes, at most (default 16; at least 1).
    pub kinds: usize,
    /// What waits and the zygotes may use together (default 256 MiB); above it they are given up, one at each look.
    pub memory: MiB,
    /// Starts within this time count as one burst (default 10 s).
    pub burst: Duration,
    /// A kind that was not started for this long is forgotten (default 10 minutes).
    pub keep: Duration,
    /// A zygote is replaced after this many forks (default 1,000).
    pub forks: u32,
    /// A zygote that could not be booted, or died, is tried again after this long, and nothing is made for so long
    /// after memory was short (default 10 s).
    pub again: Duration,
}

impl Default for StockConfig {
    fn default() -> StockConfig {
        StockConfig {
            most: 8,
            most_of_kind: 4,
            kinds: 16,
            memory: MiB(256),
            burst: Duration::from_secs(10),
            keep: Duration::from_secs(600),
            forks: 1_000,
            again: Duration::from_secs(10),
        }
    }
}

/// What happened. Events about kinds that are not known (any more) are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A runtime of this kind is being started, whether or not one waits.
    Started {
        /// Its kind.
        kind: Kind,
        /// Whether it can be forked from a zygote.
        forks: bool,
    },
    /// One that waited has become an instance.
    Taken(Kind),
    /// One that waited has ended.
    Gone(Kind),
    /// [`Command::Make`] was carried out: one more waits.
    Made(Kind),
    /// [`Command::Make`] could not be carried out.
    NotMade(Kind),
    /// One that waits uses so much. More of them are only made where that fits.
    Weighs {
        /// Its kind.
        kind: Kind,
        /// What each of them uses.
        each: MiB,
    },
    /// [`Command::Boot`] was carried out. It takes the place of the one before.
    Booted(Kind),
    /// [`Command::Boot`] could not be carried out, or the zygote has died.
    NoZygote(Kind),
    /// The zygote has forked a runtime, to wait or to be an instance.
    Forked(Kind),
    /// Memory is short: something has to go.
    Short,
    /// Time went on; to be given every second or so.
    Wake {
        /// What all that waits and all zygotes use now.
        used: MiB,
    },
}

/// What the owner must do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make one that waits: fork it if the kind has a zygote, else boot it.
    Make(Kind),
    /// Boot a zygote.
    Boot(Kind),
    /// End one that waits.
    Discard(Kind),
    /// End all that wait of this kind, and its zygote; nothing more will be heard of it.
    Forget(Kind),
}

/// What waits, and what it is forked from.
#[derive(Clone, Debug)]
pub struct Stock {
    config: StockConfig,
    shelves: BTreeMap<Kind, Shelf>,
    /// When memory was short last.
    short: Option<Time>,
    /// What all use, as far as is known by now.
    used: MiB,
}

/// One kind.
#[derive(Clone, Debug)]
struct Shelf {
    starts: Bursts,
    waiting: usize,
    making: bool,
    /// Whether none could be made since the last start.
    vain: bool,
    /// What one that waits uses; 0 when that is not known yet.
    each: MiB,
    zygote: Zygote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zygote {
    /// The kind does not fork.
    Never,
    /// There is none since then.
    Down(Option<Time>),
    /// The first is being booted.
    Booting,
    /// It has forked so often. If `replacing`, another one is being booted.
    Up { forks: u32, replacing: bool },
}

impl Stock {
    /// Nothing is known yet.
    pub fn new(config: StockConfig) -> Stock {
        Stock { config, shelves: BTreeMap::new(), short: None, used: MiB(0) }
    }

    /// Feeds one event; appends the commands that the owner must carry out, in order.
    pub fn step(&mut self, now: Time, event: Event, commands: &mut Vec<Command>) {
        match event {
            Event::Started { kind, forks } => self.started(now, kind, forks, commands),
            Event::Taken(kind) | Event::Gone(kind) => {
                self.used = MiB(self.used.0.saturating_sub(self.each(kind).0));
                self.with(kind, |shelf| shelf.waiting = shelf.waiting.saturating_sub(1));
            }
            Event::Made(kind) => {
                self.used = MiB(self.used.0.saturating_add(self.each(kind).0));
                self.with(kind, |shelf| {
                    shelf.making = false;
                    shelf.waiting += 1;
                });
            }
            Event::Weighs { kind, each } => {
                self.with(kind, |shelf| shelf.each = each);
                return;
            }
            Event::NotMade(kind) => {
                // The next start of this kind tries again.
                self.with(kind, |shelf| (shelf.making, shelf.vain) = (false, true));
                return;
            }
            Event::Booted(kind) => {
                self.with(kind, |shelf| shelf.zygote = Zygote::Up { forks: 0, replacing: false });
            }
            Event::NoZygote(kind) => self.with(kind, |shelf| shelf.zygote = Zygote::Down(Some(now))),
            Event::Forked(kind) => self.with(kind, |shelf| {
                if let Zygote::Up { forks, .. } = &mut shelf.zygote {
                    *forks = forks.saturating_add(1);
                }
            }),
            Event::Short => {
                self.short = Some(now);
                self.give_up(commands);
                return;
            }
            Event::Wake { used } => {
                self.used = used;
                let (keep, shelves) = (self.config.keep, &mut self.shelves);
                let unused = shelves.iter().filter(|(_, shelf)| now.since(shelf.last()) >= keep);
                let unused: Vec<Kind> = unused.map(|(&kind, _)| kind).collect();
                unused.into_iter().for_each(|kind| self.forget(kind, commands));
                if used > self.config.memory {
                    self.give_up(commands);
                    return;
                }
            }
        }
        self.restock(now, commands);
    }

    /// How many runtimes wait, and how many zygotes are up.
    pub fn count(&self) -> (usize, usize) {
        let up = |shelf: &&Shelf| matches!(shelf.zygote, Zygote::Up { .. });
        (self.shelves.values().map(|shelf| shelf.waiting).sum(), self.shelves.values().filter(up).count())
    }

    fn with(&mut self, kind: Kind, change: impl FnOnce(&mut Shelf)) {
        if let Some(shelf) = self.shelves.get_mut(&kind) {
            change(shelf);
        }
    }

    fn started(&mut self, now: Time, kind: Kind, forks: bool, commands: &mut Vec<Command>) {
        if self.config.most == 0 {
            return;
        }
        if !self.shelves.contains_key(&kind)
            && self.shelves.len() >= self.config.kinds.max(1)
            && let Some(&oldest) = self.shelves.iter().min_by_key(|(_, shelf)| shelf.last()).map(|(k, _)| k)
        {
            self.forget(oldest, commands);
        }
        let zygote = if forks { Zygote::Down(None) } else { Zygote::Never };
        let StockConfig { most_of_kind, most, burst, keep, .. } = self.config;
        let starts = Bursts::new(BurstsConfig { most: most_of_kind.min(most), burst, keep });
        let fresh = Shelf { starts, waiting: 0, making: false, vain: false, each: MiB(0), zygote };
        let shelf = self.shelves.entry(kind).or_insert(fresh);
        shelf.starts.started(now);
        shelf.vain = false;
    }

    fn forget(&mut self, kind: Kind, commands: &mut Vec<Command>) {
        self.shelves.remove(&kind);
        commands.push(Command::Forget(kind));
    }

    /// First those that wait, which are soon made again; then kinds with their zygotes. Of either that which was not
    /// started for the longest time.
    fn give_up(&mut self, commands: &mut Vec<Command>) {
        match self.longest_unused() {
            Some(kind) => self.discard(kind, commands),
            None => {
                let oldest = self.shelves.iter().min_by_key(|(_, shelf)| shelf.last());
                if let Some((&kind, _)) = oldest {
                    self.forget(kind, commands);
                }
            }
        }
    }

    fn each(&self, kind: Kind) -> MiB {
        self.shelves.get(&kind).map_or(MiB(0), |shelf| shelf.each)
    }

    fn discard(&mut self, kind: Kind, commands: &mut Vec<Command>) {
        self.used = MiB(self.used.0.saturating_sub(self.each(kind).0));
        self.with(kind, |shelf| shelf.waiting -= 1);
        commands.push(Command::Discard(kind));
    }

    /// The kind that was not started for the longest time, of those that have one waiting.
    fn longest_unused(&self) -> Option<Kind> {
        let waiting = self.shelves.iter().filter(|(_, shelf)| shelf.waiting > 0);
        waiting.min_by_key(|(_, shelf)| shelf.last()).map(|(&kind, _)| kind)
    }

    /// Whose place `kind` may have when none is left: one of the kind that has most, and still has more afterwards, so
    /// that kinds which are started in turns share the places instead of taking them from each other before each is
    /// needed; or, when there are not enough for all, that of a kind that was not started since.
    fn who_gives_way(&self, kind: Kind) -> Option<Kind> {
        let own = self.shelves.get(&kind)?;
        let others = || self.shelves.iter().filter(|(other, shelf)| **other != kind && shelf.waiting > 0);
        let richest = others().max_by_key(|(_, shelf)| (shelf.stocked(), std::cmp::Reverse(shelf.last())));
        if let Some((&richest, _)) = richest.filter(|(_, shelf)| shelf.stocked() > own.waiting + 1) {
            return Some(richest);
        }
        let oldest = others().min_by_key(|(_, shelf)| shelf.last());
        let (&oldest, _) = oldest.filter(|(_, shelf)| own.waiting == 0 && shelf.last() < own.last())?;
        Some(oldest)
    }

    fn restock(&mut self, now: Time, commands: &mut Vec<Command>) {
        if self.short.is_some_and(|short| now.since(short) < self.config.again) {
            return;
        }
        // Those that have fewest first: else others take the place of one that has just been taken, and have to give it
        // back a moment later.
        let mut kinds: Vec<Kind> = self.shelves.keys().copied().collect();
        kinds
            .sort_by_key(|kind| (self.shelves[kind].stocked(), std::cmp::Reverse(self.shelves[kind].last())));
        for kind in kinds {
            self.restock_kind(now, kind, commands);
        }
    }

    fn restock_kind(&mut self, now: Time, kind: Kind, commands: &mut Vec<Command>) {
        let all: usize = self.shelves.values().map(Shelf::stocked).sum();
        let (config, Some(shelf)) = (self.config, self.shelves.get_mut(&kind)) else { return };
        match &mut shelf.zygote {
            Zygote::Down(since) if since.is_none_or(|since| now.since(since) >= config.again) => {
                shelf.zygote = Zygote::Booting;
                commands.push(Command::Boot(kind));
            }
            Zygote::Up { forks, replacing } if *forks >= config.forks && !*replacing => {
                *replacing = true;
                commands.push(Command::Boot(kind));
            }
            _ => {}
        }
        // What would be booted now can soon be forked.
        if shelf.making
            || shelf.vain
            || shelf.zygote == Zygote::Booting
            || shelf.waiting >= shelf.starts.wanted(now)
        {
            return;
        }
        let fits = |stock: &Stock| stock.used.0.saturating_add(stock.each(kind).0) <= config.memory.0;
        if all >= config.most || !fits(self) {
            match self.who_gives_way(kind) {
                Some(other) => self.discard(other, commands),
                None => return,
            }
            if !fits(self) {
                return;
            }
        }
        self.with(kind, |shelf| shelf.making = true);
        commands.push(Command::Make(kind));
    }
}

impl Shelf {
    /// How many wait, or will soon.
    fn stocked(&self) -> usize {
        self.waiting + usize::from(self.making)
    }

    fn last(&self) -> Time {
        self.starts.last().unwrap_or(Time::ZERO)
    }
}

#[cfg(test)]
mod tests;
