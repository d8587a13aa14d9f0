//! Idle instances stand still: on Lambda, nothing of a function runs between its requests.
//!
//! To freeze an instance and to thaw it costs two writes to the kernel, which a function that is called all the time
//! must not pay with each request. So an instance is frozen when it has been idle for a while
//! ([`super::PoolConfig::freeze_after`]), and later, where there is somewhere to put it, its memory is pushed out
//! ([`super::PoolConfig::page_out_after`]), if a start takes long enough to make that worth while. Whatever its warmth, it is an idle instance among the others: the most
//! recently used is the first to be used again and the last to be stopped, and is never colder than the rest.

use super::{Command, Pool, Warmth};
use model::Time;

impl Pool {
    /// Freezes what has been idle for long enough, and pushes out the memory of what has been frozen for long enough.
    pub(super) fn cool(&mut self, now: Time, commands: &mut Vec<Command>) {
        while let Some((index, at)) = self.next_to_freeze()
            && at <= now
        {
            self.slots.cool(index, Warmth::Frozen);
            commands.push(Command::Freeze { instance: self.slots.key(index) });
        }
        while let Some((index, at)) = self.next_to_page_out()
            && at <= now
        {
            self.slots.cool(index, Warmth::PagedOut);
            commands.push(Command::PageOut { instance: self.slots.key(index) });
        }
    }

    /// When something is to be made colder, if nothing happens before.
    pub(super) fn cool_at(&self) -> Time {
        let next = [self.next_to_freeze(), self.next_to_page_out()];
        next.into_iter().flatten().map(|(_, at)| at).min().unwrap_or(Time(u64::MAX))
    }

    fn next_to_freeze(&self) -> Option<(u32, Time)> {
        let index = self.slots.oldest(Warmth::Warm)?;
        let slot = &self.slots[index];
        // A second request could be on its way to a frozen instance that the first has not thawed yet.
        (slot.concurrency == 1).then(|| (index, slot.since + self.config.freeze_after))
    }

    fn next_to_page_out(&self) -> Option<(u32, Time)> {
        let index =
            self.slots.oldest(Warmth::Frozen).filter(|_| self.start_time() >= self.config.page_out_start)?;
        Some((index, self.slots[index].since + self.config.page_out_after))
    }
}
