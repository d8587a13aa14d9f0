//! The instances that wait for their grant: each pool's in order, and the pools in turn, so that a burst of one
//! function does not hold up the first instance of another.

use super::PoolKey;
use crate::pool::InstanceKey;
use model::MiB;
use std::collections::{BTreeMap, VecDeque};

/// An instance that waits for its grant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) pool: PoolKey,
    pub(super) instance: InstanceKey,
    /// The most memory it may use.
    pub(super) limit: MiB,
    /// The most descriptors of the server that it may come to hold.
    pub(super) descriptors: u32,
    /// Counts asks: a later one has a higher number.
    number: u64,
}

impl Asked {
    /// One that does not wait in line.
    pub(super) fn new(pool: PoolKey, instance: InstanceKey, limit: MiB, descriptors: u32) -> Asked {
        Asked { pool, instance, limit, descriptors, number: 0 }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Asks {
    /// In order of arrival; never empty.
    of_pool: BTreeMap<PoolKey, VecDeque<Asked>>,
    /// Pools that ask, in the order of their turns.
    turns: VecDeque<PoolKey>,
    len: usize,
    number: u64,
}

impl Asks {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an ask behind those of its pool, and the pool behind the others if it had none.
    pub(super) fn push(&mut self, pool: PoolKey, instance: InstanceKey, limit: MiB, descriptors: u32) {
        self.number += 1;
        self.len += 1;
        let of_pool = self.of_pool.entry(pool).or_default();
        if of_pool.is_empty() {
            self.turns.push_back(pool);
        }
        of_pool.push_back(Asked { pool, instance, limit, descriptors, number: self.number });
    }

    /// Takes out the next one of a pool, whose next turn comes after everyone else's.
    pub(super) fn take(&mut self, pool: PoolKey) {
        self.turns.retain(|&turn| turn != pool);
        self.turns.push_back(pool);
        let asked = self.of_pool.get_mut(&pool).and_then(VecDeque::pop_front);
        self.taken(pool, usize::from(asked.is_some()));
    }

    /// Takes out the one that came last.
    pub(super) fn pop_newest(&mut self) -> Option<Asked> {
        let newest = self.of_pool.values().filter_map(VecDeque::back).max_by_key(|asked| asked.number)?.pool;
        let asked = self.of_pool.get_mut(&newest)?.pop_back();
        self.taken(newest, usize::from(asked.is_some()));
        asked
    }

    /// Forgets an ask. A pool takes back its newest ones first, so that is where it is looked for.
    pub(super) fn remove(&mut self, pool: PoolKey, instance: InstanceKey) {
        let Some(of_pool) = self.of_pool.get_mut(&pool) else { return };
        let Some(index) = of_pool.iter().rposition(|asked| asked.instance == instance) else { return };
        of_pool.remove(index);
        self.taken(pool, 1);
    }

    /// Forgets all asks of a pool.
    pub(super) fn remove_pool(&mut self, pool: PoolKey) {
        let count = self.of_pool.get_mut(&pool).map_or(0, |of_pool| of_pool.drain(..).len());
        self.taken(pool, count);
    }

    /// The oldest of each pool, in the order of their turns.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = Asked> {
        self.turns.iter().filter_map(|pool| self.of_pool.get(pool)?.front().copied())
    }

    /// Notes that a pool's asks have become fewer.
    fn taken(&mut self, pool: PoolKey, count: usize) {
        self.len -= count;
        if self.of_pool.get(&pool).is_some_and(VecDeque::is_empty) {
            self.of_pool.remove(&pool);
            self.turns.retain(|&turn| turn != pool);
        }
    }
}
