//! Where a pool keeps its instances: a slab, and lists through it in order of last use.
//!
//! A slab rather than a map, so that finding, taking and giving back an instance on the warm path is a few
//! loads and stores and never allocates.

use super::{InstanceKey, RequestKey};
use model::Time;

/// No slot: the end of a list.
const NIL: u32 = u32::MAX;

/// What an instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Waits for memory.
    Asking,
    /// Is being made.
    Starting,
    /// Runs nothing; in the idle list of its warmth, or in `ready` when it is provisioned.
    Idle,
    /// Runs at least one request; in the `open` list while it can take another.
    Busy,
    /// Was told to stop; gone when it is lost.
    Stopping,
    /// Not an instance; in the list of vacant slots.
    Vacant,
}

/// How soon an idle instance could run. What is idle for longer is never warmer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Warmth {
    /// At once.
    Warm,
    /// When it has been thawed.
    Frozen,
    /// When it has been thawed, and what it needs of its memory is back.
    PagedOut,
}

/// One instance.
#[derive(Debug)]
pub(super) struct Slot {
    serial: u32,
    pub(super) state: State,
    /// When it entered its state (for `Idle`, `Starting` and `Stopping`).
    pub(super) since: Time,
    /// How soon it could run; it is frozen only while it is `Idle`.
    pub(super) warmth: Warmth,
    /// Requests that it runs, with the time each was dispatched.
    pub(super) running: Vec<(RequestKey, Time)>,
    /// How many it may run at once, fixed when it is asked for.
    pub(super) concurrency: u32,
    /// Whether it is there for good, and not for a request.
    pub(super) is_provisioned: bool,
    newer: u32,
    older: u32,
}

/// Instances from the most to the least recently used.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    newest: u32,
    oldest: u32,
}

impl List {
    const EMPTY: List = List { newest: NIL, oldest: NIL };

    pub(super) fn newest(self) -> Option<u32> {
        (self.newest != NIL).then_some(self.newest)
    }

    pub(super) fn oldest(self) -> Option<u32> {
        (self.oldest != NIL).then_some(self.oldest)
    }
}

/// All instances of a pool.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    vacant: u32,
    /// Instances, in whatever state.
    pub(super) len: u32,
    /// Serial number of the next instance: keys are never reused, so a late event about one that is gone
    /// never reaches another.
    serial: u32,
    /// Instances that run nothing, by their warmth, but for the provisioned ones.
    idle: [List; 3],
    /// Provisioned instances that run nothing. They are never frozen.
    pub(super) ready: List,
    /// Instances that run something and can take more.
    pub(super) open: List,
}

impl Slots {
    pub(super) fn new() -> Slots {
        let (idle, ready, open) = ([List::EMPTY; 3], List::EMPTY, List::EMPTY);
        Slots { slots: Vec::new(), vacant: NIL, len: 0, serial: 1, idle, ready, open }
    }

    /// A new instance, `Asking`.
    pub(super) fn insert(&mut self, now: Time, concurrency: u32) -> u32 {
        let serial = self.serial;
        self.serial = self.serial.wrapping_add(1).max(1);
        self.len += 1;
        if self.vacant != NIL {
            let index = self.vacant;
            let slot = &mut self.slots[index as usize];
            self.vacant = slot.older;
            slot.warmth = Warmth::Warm;
            (slot.serial, slot.state, slot.since, slot.concurrency) =
                (serial, State::Asking, now, concurrency);
            slot.is_provisioned = false;
            return index;
        }
        let (running, state, warmth, is_provisioned) = (Vec::new(), State::Asking, Warmth::Warm, false);
        let (newer, older) = (NIL, NIL);
        let slot =
            Slot { serial, state, since: now, warmth, running, concurrency, is_provisioned, newer, older };
        self.slots.push(slot);
        (self.slots.len() - 1) as u32
    }

    /// Forgets an instance that is in no list.
    pub(super) fn remove(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.state = State::Vacant;
        slot.running = Vec::new();
        slot.older = self.vacant;
        self.vacant = index;
        self.len -= 1;
        if self.len == 0 {
            // A function scaled to zero costs no memory.
            self.slots = Vec::new();
            self.vacant = NIL;
        }
    }

    /// The slot of an instance, unless it is gone.
    pub(super) fn find(&self, key: InstanceKey) -> Option<u32> {
        let (serial, index) = ((key.0 >> 32) as u32, key.0 as u32);
        let slot = self.slots.get(index as usize)?;
        (slot.serial == serial && slot.state != State::Vacant).then_some(index)
    }

    pub(super) fn key(&self, index: u32) -> InstanceKey {
        InstanceKey(u64::from(self[index].serial) << 32 | u64::from(index))
    }

    /// The most recently used of the idle instances.
    pub(super) fn newest_idle(&self) -> Option<u32> {
        self.idle.iter().find_map(|list| list.newest())
    }

    /// The least recently used of the idle instances.
    pub(super) fn oldest_idle(&self) -> Option<u32> {
        self.idle.iter().rev().find_map(|list| list.oldest())
    }

    /// The least recently used of the idle instances of this warmth.
    pub(super) fn oldest(&self, warmth: Warmth) -> Option<u32> {
        self.idle[warmth as usize].oldest()
    }

    /// How many idle instances of this warmth there are.
    pub(super) fn count(&self, warmth: Warmth) -> usize {
        let newest = self.idle[warmth as usize].newest();
        std::iter::successors(newest, |&index| Some(self[index].older).filter(|&older| older != NIL)).count()
    }

    /// Puts an idle instance in front of those of its kind.
    pub(super) fn link_idle(&mut self, index: u32) {
        let mut list = *self.idle_list(index);
        self.link(&mut list, index);
        *self.idle_list(index) = list;
    }

    /// Takes an instance out of the idle ones.
    pub(super) fn unlink_idle(&mut self, index: u32) {
        let mut list = *self.idle_list(index);
        self.unlink(&mut list, index);
        *self.idle_list(index) = list;
    }

    /// Makes the least recently used instance of its warmth colder.
    pub(super) fn cool(&mut self, index: u32, warmth: Warmth) {
        self.unlink_idle(index);
        self[index].warmth = warmth;
        self.link_idle(index);
    }

    fn idle_list(&mut self, index: u32) -> &mut List {
        let slot = &self[index];
        match slot.is_provisioned {
            true => &mut self.ready,
            false => &mut self.idle[slot.warmth as usize],
        }
    }

    /// Puts a busy instance in front of those that can take more.
    pub(super) fn link_open(&mut self, index: u32) {
        let mut list = self.open;
        self.link(&mut list, index);
        self.open = list;
    }

    /// Takes an instance out of those that can take more.
    pub(super) fn unlink_open(&mut self, index: u32) {
        let mut list = self.open;
        self.unlink(&mut list, index);
        self.open = list;
    }

    fn link(&mut self, list: &mut List, index: u32) {
        let slot = &mut self.slots[index as usize];
        (slot.newer, slot.older) = (NIL, list.newest);
        match list.newest {
            NIL => list.oldest = index,
            newest => self.slots[newest as usize].newer = index,
        }
        list.newest = index;
    }

    fn unlink(&mut self, list: &mut List, index: u32) {
        let (newer, older) = (self[index].newer, self[index].older);
        match newer {
            NIL => list.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        match older {
            NIL => list.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
    }
}

impl std::ops::Index<u32> for Slots {
    type Output = Slot;

    fn index(&self, index: u32) -> &Slot {
        &self.slots[index as usize]
    }
}

impl std::ops::IndexMut<u32> for Slots {
    fn index_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }
}

impl Slot {
    /// Whether it can take another request.
    pub(super) fn is_open(&self) -> bool {
        (self.running.len() as u32) < self.concurrency
    }
}
