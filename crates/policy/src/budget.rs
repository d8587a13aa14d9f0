//! The machine's memory and processors and the server's descriptors, shared by all pools: who may start another
//! instance, who has to wait, and which idle instance has to go.
//!
//! As many instances are started at once as [`BudgetConfig::max_starts`] says; pools take turns, and an ask that
//! waits can be taken back at no cost when it is no longer needed.
//!
//! Of descriptors an instance is charged what it can come to hold, from its grant to its end. Of memory, what
//! counts is what instances really use, not their limits: a running one its last observation, a
//! starting one what instances of its pool have used before, each plus a fixed headroom. One whose memory has been
//! pushed out is charged what is left of it, without headroom, because it cannot grow; when it is thawed it is charged
//! what it was before. Observations that grow can bring the total above the limit; then nothing is granted and idle
//! instances are reclaimed until it fits again. What the executor keeps ahead of need counts as well, and gives way first.
//!
//! The warm path never comes here. So the budget does not know which instances are idle; it keeps, for each
//! pool, a time before which none of its idle instances has been idle, and when memory is short it asks the
//! pool with the earliest one to stop its least recently used. The pool either does or says since when that
//! one has really been idle. As the times only ever move towards the truth, what is stopped is the least
//! recently used idle instance of the whole machine.

mod asks; //   who waits, in what order
mod places; // how many instances are being started at once

use crate::pool::InstanceKey;
use asks::{Asked, Asks};
use model::{MiB, Time};
use places::Places;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A pool, named by the owner of the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolKey(pub u64);

impl std::fmt::Display for PoolKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// How memory is shared out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BudgetConfig {
    /// Memory for all instances together (no default: a share of the machine's).
    pub limit: MiB,
    /// Descriptors of the server for all instances together (default: as many as they want).
    /// [`super::descriptors::share`] says how many there are.
    pub descriptors: u32,
    /// Added to what each instance uses, so that it can grow between two observations (default 2 MiB).
    pub headroom: MiB,
    /// What an instance of a pool that was never observed is expected to use, unless its own limit is
    /// smaller (default 64 MiB).
    pub estimate: MiB,
    /// Instances that may wait for room or a start, over all pools; one more is denied (default 1,000). Zero:
    /// what does not fit at once is denied.
    pub max_asks: usize,
    /// Instances that are started at once, over all pools (default 2; at least 1). The number of cores is a good
    /// one.
    pub max_starts: usize,
    /// A start that has lasted this long does not keep another pool from its first (default 50 ms; less than 1 ms
    /// is taken for 1 ms). If the processors had time to spare meanwhile, it waits for something: it no longer
    /// counts, and one more may be made for as long as it lasts, so that a burst of such starts is soon under
    /// way. One that has lasted twenty times as long no longer counts in any case.
    pub start_patience: Duration,
    /// Nothing idle for less than this is reclaimed, and a pool without an idle instance is not asked again
    /// sooner (default 10 ms; less than 1 ms is taken for 1 ms).
    pub min_idle: Duration,
}

impl BudgetConfig {
    /// The defaults for this much memory.
    pub fn new(limit: MiB) -> BudgetConfig {
        BudgetConfig {
            limit,
            descriptors: u32::MAX,
            headroom: MiB(2),
            estimate: MiB(64),
            max_asks: 1_000,
            max_starts: 2,
            start_patience: Duration::from_millis(50),
            min_idle: Duration::from_millis(10),
        }
    }
}

/// What happened. Events about what the budget does not know (any more) are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A pool wants to start an instance ([`crate::pool::Command::Ask`]).
    Ask {
        /// The pool.
        pool: PoolKey,
        /// The instance.
        instance: InstanceKey,
        /// The most memory the instance may use.
        limit: MiB,
        /// The most descriptors of the server that it may come to hold.
        descriptors: u32,
    },
    /// A pool wants to start an instance that no request waits for ([`crate::pool::Command::AskAhead`]). Granted at
    /// once or denied at once: only when nobody waits, when it fits without reclaiming anything, and when another
    /// start could still begin beside it (or none is under way).
    ///
    /// A firm one ([`crate::pool::Command::AskProvisioned`]) is for an instance that will not give way to anybody, so it has to
    /// leave room for one more that was never observed. When that is all it is denied for, room is made for a while,
    /// as if it waited.
    AskAhead {
        /// The pool.
        pool: PoolKey,
        /// The instance.
        instance: InstanceKey,
        /// The most memory the instance may use.
        limit: MiB,
        /// The most descriptors of the server that it may come to hold.
        descriptors: u32,
        /// Whether it is firm.
        firm: bool,
    },
    /// An instance is gone, or no longer wanted before it was granted ([`crate::pool::Command::Release`]).
    Released {
        /// The pool.
        pool: PoolKey,
        /// The instance.
        instance: InstanceKey,
    },
    /// What an instance uses now: once when it has started, which ends its start, then sampled every second or
    /// so.
    Observed {
        /// The pool.
        pool: PoolKey,
        /// The instance.
        instance: InstanceKey,
        /// Memory in use.
        used: MiB,
    },
    /// The memory of a frozen instance has been pushed out ([`crate::pool::Command::PageOut`]); told again when it changes.
    PagedOut {
        /// The pool.
        pool: PoolKey,
        /// The instance.
        instance: InstanceKey,
        /// Memory that is still in use.
        used: MiB,
    },
    /// An instance of which that was told runs again.
    Thawed {
        /// The pool.
        pool: PoolKey,
        /// The instance.
        instance: InstanceKey,
    },
    /// The pool's answer to [`Command::Reclaim`] ([`crate::pool::Command::Reclaimed`]). Must always come.
    Reclaimed {
        /// The pool.
        pool: PoolKey,
        /// The instance that is being stopped and will be released, if there is one.
        instance: Option<InstanceKey>,
        /// Since when the pool's least recently used idle instance has been idle.
        oldest: Option<Time>,
    },
    /// What is kept ahead of need (runtimes that wait, and what they are forked from) uses now. It counts like instances,
    /// and is given up before any of those.
    Kept {
        /// Memory in use.
        used: MiB,
    },
    /// The pool is gone, with all its instances; what was learned about it is forgotten.
    Dropped {
        /// The pool.
        pool: PoolKey,
    },
    /// The configuration changed.
    Reconfigured(BudgetConfig),
    /// [`Budget::wake_at`] has come.
    Wake {
        /// Whether the processors had time to spare lately, say half a core over the last 50 ms; false when that
        /// is not known.
        spare: bool,
    },
}

/// What the owner must do, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// The instance may be started.
    Grant {
        /// The pool.
        pool: PoolKey,
        /// The instance.
        instance: InstanceKey,
    },
    /// Too many wait already.
    Deny {
        /// The pool.
        pool: PoolKey,
        /// The instance.
        instance: InstanceKey,
    },
    /// Give up something that is kept ahead of need, and tell by [`Event::Kept`] what is left.
    GiveUp,
    /// Give [`crate::pool::Event::Reclaim`] to the pool, and its answer back.
    Reclaim {
        /// The pool.
        pool: PoolKey,
        /// Stop the oldest idle instance if it has been idle since then or longer.
        unused_since: Time,
    },
}

/// How memory and descriptors stand, for people and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Charged for all granted instances, headroom included.
    pub charged: MiB,
    /// What is kept ahead of need uses beside that.
    pub kept: MiB,
    /// The part of what is charged that is being given back: instances that were reclaimed and are not gone yet.
    pub returning: MiB,
    /// The limit.
    pub limit: MiB,
    /// Descriptors charged for all granted instances.
    pub descriptors: u32,
    /// Granted instances.
    pub instances: usize,
    /// … of which are being started and count.
    pub starting: usize,
    /// Instances that wait for room or a start.
    pub asks: usize,
}

/// Asks that room is reclaimed for at once, at most: enough to keep several stops under way.
const LOOK_AHEAD: usize = 16;

/// For how long room is made for a firm ask ahead that was denied; it is tried again meanwhile.
const MAKING_ROOM: Duration = Duration::from_millis(500);

/// Pools that are asked in one step, at most, without getting anything back.
const MAX_PROBES: u32 = 32;

/// The machine's memory and the server's descriptors, shared by all pools.
#[derive(Debug)]
pub struct Budget {
    config: BudgetConfig,
    instances: BTreeMap<(PoolKey, InstanceKey), Charge>,
    pools: BTreeMap<PoolKey, Holder>,
    /// Pools that have instances and are not being asked, by the time since when one might have been idle.
    candidates: BTreeSet<(Time, PoolKey)>,
    asks: Asks,
    places: Places,
    charged: Room,
    /// The part of it that instances which were reclaimed will give back.
    returning: Room,
    /// What is kept ahead of need uses.
    kept: MiB,
    /// Whether some of it is being given up.
    giving_up: bool,
    /// Whether it was given up in vain: then it is not asked for again before it has become more.
    kept_in_vain: bool,
    /// The pool that was asked to stop an instance and has not answered.
    probing: Option<PoolKey>,
    /// Pools asked in vain since room was last got back or time went on.
    probes: u32,
    /// When the last ones were asked in vain.
    probed: Time,
    /// What a firm ask ahead was denied for, and until when room is made for it.
    missing: Option<(Room, Time)>,
}

/// What instances take up. Sums of many instances fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Room {
    mib: u64,
    descriptors: u64,
}

impl Room {
    fn fits_in(self, limit: Room) -> bool {
        self.mib <= limit.mib && self.descriptors <= limit.descriptors
    }
}

impl std::ops::AddAssign for Room {
    fn add_assign(&mut self, other: Room) {
        self.mib += other.mib;
        self.descriptors += other.descriptors;
    }
}

impl std::ops::SubAssign for Room {
    fn sub_assign(&mut self, other: Room) {
        self.mib -= other.mib;
        self.descriptors -= other.descriptors;
    }
}

#[derive(Clone, Copy, Debug)]
struct Charge {
    room: Room,
    returning: bool,
    /// Memory that it was charged before its own was pushed out.
    before: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    instances: u32,
    /// What an instance uses, as far as is known.
    learned: Option<MiB>,
    /// None of its idle instances has been idle since before this.
    idle_since: Time,
}

impl Budget {
    /// Nothing granted yet.
    pub fn new(config: BudgetConfig) -> Budget {
        Budget {
            config,
            instances: BTreeMap::new(),
            pools: BTreeMap::new(),
            candidates: BTreeSet::new(),
            asks: Asks::default(),
            places: Places::default(),
            charged: Room::default(),
            returning: Room::default(),
            kept: MiB(0),
            giving_up: false,
            kept_in_vain: false,
            probing: None,
            probes: 0,
            probed: Time::ZERO,
            missing: None,
        }
    }

    /// Feeds one event; appends the commands that the caller must carry out, in order.
    pub fn step(&mut self, now: Time, event: Event, commands: &mut Vec<Command>) {
        self.missing = self.missing.filter(|&(_, until)| now < until);
        match event {
            Event::Ask { pool, instance, limit, descriptors } => {
                self.asks.push(pool, instance, limit, descriptors);
            }
            Event::AskAhead { pool, instance, limit, descriptors, firm } => {
                self.places.look(now, false, self.start_patience());
                self.ask_ahead(now, Asked::new(pool, instance, limit, descriptors), firm, commands);
            }
            Event::Released { pool, instance } => self.released(pool, instance),
            Event::Observed { pool, instance, used } => self.observed(pool, instance, used),
            Event::PagedOut { pool, instance, used } => self.paged_out(pool, instance, used),
            Event::Thawed { pool, instance } => self.thawed(pool, instance),
            Event::Reclaimed { pool, instance, oldest } => self.reclaimed(now, pool, instance, oldest),
            Event::Kept { used } => {
                self.kept_in_vain = match self.giving_up {
                    true => used >= self.kept,
                    false => self.kept_in_vain && used <= self.kept,
                };
                (self.kept, self.giving_up) = (used, false);
            }
            Event::Dropped { pool } => self.dropped(pool),
            Event::Reconfigured(config) => self.config = config,
            Event::Wake { spare } => self.places.look(now, spare, self.start_patience()),
        }
        self.places.look(now, false, self.start_patience());
        self.grant(now, commands);
        self.deny(commands);
        self.reclaim(now, commands);
    }

    /// When to call [`step`](Budget::step) with `Event::Wake` if nothing happens before; `None`: never.
    pub fn wake_at(&self) -> Option<Time> {
        let look = self.places.look_at().filter(|_| !self.asks.is_empty());
        look.into_iter().chain(self.probe_at()).min()
    }

    /// When to ask for idle instances again.
    fn probe_at(&self) -> Option<Time> {
        if self.probing.is_some() || self.giving_up || !self.is_short() {
            return None;
        }
        let &(idle_since, _) = self.candidates.first()?;
        let at = idle_since + self.min_idle();
        Some(if self.probes < MAX_PROBES { at } else { at.max(self.probed + self.min_idle()) })
    }

    /// Whether it is for want of descriptors, and not of memory, that an instance which holds this many does
    /// not fit.
    pub fn lacks_descriptors(&self, descriptors: u32) -> bool {
        self.charged.descriptors + u64::from(descriptors) > u64::from(self.config.descriptors)
    }

    /// How memory and descriptors stand.
    pub fn stats(&self) -> Stats {
        Stats {
            charged: mib(self.charged.mib),
            kept: self.kept,
            returning: mib(self.returning.mib),
            limit: self.config.limit,
            descriptors: u32::try_from(self.charged.descriptors).unwrap_or(u32::MAX),
            instances: self.instances.len(),
            starting: self.places.held(),
            asks: self.asks.len(),
        }
    }

    fn released(&mut self, pool: PoolKey, instance: InstanceKey) {
        let Some(charge) = self.instances.remove(&(pool, instance)) else {
            self.asks.remove(pool, instance);
            return;
        };
        self.places.end((pool, instance));
        self.charged -= charge.room;
        if charge.returning {
            self.returning -= charge.room;
        }
        let Some(holder) = self.pools.get_mut(&pool) else { return };
        holder.instances -= 1;
        if holder.instances == 0 {
            self.candidates.remove(&(holder.idle_since, pool));
        }
    }

    /// A pool's estimate rises at once and falls slowly: too low a guess costs more than too high a one.
    fn observed(&mut self, pool: PoolKey, instance: InstanceKey, used: MiB) {
        let Some(charge) = self.instances.get_mut(&(pool, instance)) else { return };
        self.places.end((pool, instance));
        charge.before = None;
        self.recharge(pool, instance, u64::from(used.0.saturating_add(self.config.headroom.0)));
        if let Some(holder) = self.pools.get_mut(&pool) {
            holder.learned = Some(match holder.learned {
                Some(MiB(learned)) if used.0 < learned => MiB(learned - (learned - used.0).div_ceil(8)),
                _ => used,
            });
        }
    }

    fn paged_out(&mut self, pool: PoolKey, instance: InstanceKey, used: MiB) {
        let Some(charge) = self.instances.get_mut(&(pool, instance)) else { return };
        charge.before.get_or_insert(charge.room.mib);
        self.recharge(pool, instance, used.0.into());
    }

    fn thawed(&mut self, pool: PoolKey, instance: InstanceKey) {
        let charge = self.instances.get_mut(&(pool, instance));
        if let Some(before) = charge.and_then(|charge| charge.before.take()) {
            self.recharge(pool, instance, before);
        }
    }

    /// Charges an instance this much memory from now on.
    fn recharge(&mut self, pool: PoolKey, instance: InstanceKey, mib: u64) {
        let Some(charge) = self.instances.get_mut(&(pool, instance)) else { return };
        let before = std::mem::replace(&mut charge.room.mib, mib);
        let totals = [Some(&mut self.charged), charge.returning.then_some(&mut self.returning)];
        for total in totals.into_iter().flatten() {
            total.mib = total.mib - before + mib;
        }
    }

    fn reclaimed(&mut self, now: Time, pool: PoolKey, instance: Option<InstanceKey>, oldest: Option<Time>) {
        if self.probing == Some(pool) {
            self.probing = None;
        }
        let stopping = instance.and_then(|instance| self.instances.get_mut(&(pool, instance)));
        if let Some(charge) = stopping.filter(|charge| !charge.returning) {
            charge.returning = true;
            self.returning += charge.room;
            self.probes = 0;
        } else {
            self.probes += 1;
            self.probed = now;
        }
        // A pool with nothing idle now has had nothing idle since before now.
        let Some(holder) = self.pools.get_mut(&pool).filter(|holder| holder.instances > 0) else { return };
        self.candidates.remove(&(holder.idle_since, pool));
        holder.idle_since = oldest.unwrap_or(now);
        self.candidates.insert((holder.idle_since, pool));
    }

    fn dropped(&mut self, pool: PoolKey) {
        self.asks.remove_pool(pool);
        let of_pool = (pool, InstanceKey(0))..=(pool, InstanceKey(u64::MAX));
        let instances: Vec<_> = self.instances.range(of_pool).map(|(&(_, instance), _)| instance).collect();
        for instance in instances {
            self.released(pool, instance);
        }
        self.pools.remove(&pool);
        if self.probing == Some(pool) {
            self.probing = None;
        }
    }

    fn ask_ahead(&mut self, now: Time, ask: Asked, firm: bool, commands: &mut Vec<Command>) {
        let Asked { pool, instance, .. } = ask;
        let is_quiet = self.places.held() == 0 || self.places.held() + 1 < self.max_starts();
        let is_first = is_quiet && self.asks.is_empty();
        if firm && is_first {
            let mut room = self.expected(ask);
            room.mib += u64::from(self.config.estimate.0.saturating_add(self.config.headroom.0));
            let mut charged = self.charged;
            charged += room;
            let fits = self.with_kept(charged).fits_in(self.limit());
            self.missing = (!fits).then_some((room, now + MAKING_ROOM));
            if fits && self.charge(now, ask, commands) {
                return;
            }
        } else if is_first && self.charge(now, ask, commands) {
            return;
        }
        commands.push(Command::Deny { pool, instance });
    }

    /// Grants asks while they fit. Strictly in turn: a large one is not starved by small ones.
    fn grant(&mut self, now: Time, commands: &mut Vec<Command>) {
        while let Some(ask) = self.next() {
            if !self.charge(now, ask, commands) {
                return;
            }
            self.asks.take(ask.pool);
        }
    }

    /// Grants one, if it fits.
    fn charge(&mut self, now: Time, ask: Asked, commands: &mut Vec<Command>) -> bool {
        let room = self.expected(ask);
        let mut charged = self.charged;
        charged += room;
        if !self.with_kept(charged).fits_in(self.limit()) {
            return false;
        }
        self.places.take(now, (ask.pool, ask.instance), self.start_patience());
        self.charged = charged;
        self.instances.insert((ask.pool, ask.instance), Charge { room, returning: false, before: None });
        let holder = self.pools.entry(ask.pool).or_default();
        holder.instances += 1;
        if holder.instances == 1 {
            holder.idle_since = now;
            self.candidates.insert((now, ask.pool));
        }
        commands.push(Command::Grant { pool: ask.pool, instance: ask.instance });
        true
    }

    /// Whose turn it is of those that may start.
    fn next(&self) -> Option<Asked> {
        if self.places.are_taken(self.max_starts()) {
            return None;
        }
        self.asks.in_turn().find(|ask| self.places.free(self.max_starts(), ask.pool) > 0)
    }

    fn max_starts(&self) -> usize {
        self.config.max_starts.max(1)
    }

    fn start_patience(&self) -> Duration {
        self.config.start_patience.max(Duration::from_millis(1))
    }

    /// Denies the newest asks of those that are too many.
    fn deny(&mut self, commands: &mut Vec<Command>) {
        while self.asks.len() > self.config.max_asks
            && let Some(ask) = self.asks.pop_newest()
        {
            commands.push(Command::Deny { pool: ask.pool, instance: ask.instance });
        }
    }

    fn limit(&self) -> Room {
        let BudgetConfig { limit: MiB(mib), descriptors, .. } = self.config;
        Room { mib: u64::from(mib), descriptors: u64::from(descriptors) }
    }

    /// What an instance that is asked for is charged. Never more than the limit, so that any function can
    /// run on an otherwise empty machine.
    fn expected(&self, ask: Asked) -> Room {
        let learned = self.pools.get(&ask.pool).and_then(|holder| holder.learned);
        let used = learned.unwrap_or(self.config.estimate.min(ask.limit));
        let limit = self.limit();
        Room {
            mib: u64::from(used.0.saturating_add(self.config.headroom.0)).min(limit.mib),
            descriptors: u64::from(ask.descriptors).min(limit.descriptors),
        }
    }

    /// Whether more is charged or asked for than there is, beyond what is already on its way back. What may not start
    /// yet does not count: perhaps nobody wants it any more when it may.
    fn is_short(&self) -> bool {
        let mut wanted = self.charged;
        if let Some(ask) = self.next() {
            let starts = self.places.free(self.max_starts(), ask.pool).min(self.asks.len());
            for _ in 0..starts.min(LOOK_AHEAD) {
                wanted += self.expected(ask);
            }
        }
        if let Some((room, _)) = self.missing.filter(|_| self.asks.is_empty()) {
            wanted += room;
        }
        wanted -= self.returning;
        !self.with_kept(wanted).fits_in(self.limit())
    }

    fn with_kept(&self, mut room: Room) -> Room {
        room.mib += u64::from(self.kept.0);
        room
    }

    /// Without a pause, busy pools would be asked again and again.
    fn min_idle(&self) -> Duration {
        self.config.min_idle.max(Duration::from_millis(1))
    }

    /// Asks the pool that may have the longest idle instance to stop it; one pool at a time, because its
    /// answer decides who is next.
    fn reclaim(&mut self, now: Time, commands: &mut Vec<Command>) {
        if self.probing.is_some() || self.giving_up || !self.is_short() {
            return;
        }
        if self.kept > MiB(0) && !self.kept_in_vain {
            self.giving_up = true;
            commands.push(Command::GiveUp);
            return;
        }
        if now.since(self.probed) >= self.min_idle() {
            self.probes = 0;
        }
        let Some(&(idle_since, pool)) = self.candidates.first() else { return };
        if self.probes < MAX_PROBES && now.since(idle_since) >= self.min_idle() {
            self.candidates.remove(&(idle_since, pool));
            self.probing = Some(pool);
            commands.push(Command::Reclaim { pool, unused_since: idle_since });
        }
    }
}

fn mib(total: u64) -> MiB {
    MiB(u32::try_from(total).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
