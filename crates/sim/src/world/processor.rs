//! The machine's processors: work that is under way shares them equally.

use super::Happening;
use model::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// So many cores, shared by all work that is under way: with w pieces of work on c cores, each goes on at the
/// speed of min(1, c/w) cores.
pub(super) struct Processors {
    cores: u64,
    /// Work, ns, that each piece which has been there all along has been given.
    given: u64,
    /// When that was so.
    at: Time,
    /// What happens at the end of a piece of work, by what must have been `given` then.
    under_way: BTreeMap<(u64, u64), Happening>,
    number: u64,
    /// Time, ns, that cores had nothing to do, summed over cores.
    idle: u64,
}

impl Processors {
    pub(super) fn new(cores: u32) -> Processors {
        let (given, at, under_way) = (0, Time::ZERO, BTreeMap::new());
        Processors { cores: cores.into(), given, at, under_way, number: 0, idle: 0 }
    }

    /// Begins a piece of work.
    pub(super) fn begin(&mut self, now: Time, work: Duration, end: Happening) {
        self.advance(now);
        self.number += 1;
        let due = self.given + work.as_nanos() as u64;
        self.under_way.insert((due, self.number), end);
    }

    /// Work that is done by now.
    pub(super) fn end(&mut self, now: Time) -> Vec<Happening> {
        self.advance(now);
        let mut ended = Vec::new();
        while let Some(first) = self.under_way.first_entry().filter(|first| first.key().0 <= self.given) {
            ended.push(first.remove());
        }
        ended
    }

    /// When the next piece of work is done if none begins before.
    pub(super) fn next(&self) -> Option<Time> {
        let (&(due, _), _) = self.under_way.first_key_value()?;
        let left = due.saturating_sub(self.given);
        let slowdown = (self.under_way.len() as u64, self.cores);
        let span = if slowdown.0 > slowdown.1 { (left * slowdown.0).div_ceil(slowdown.1) } else { left };
        Some(self.at + Duration::from_nanos(span))
    }

    /// Time, ns, that cores have had nothing to do, summed over cores.
    pub(super) fn idle(&mut self, now: Time) -> u64 {
        self.advance(now);
        self.idle
    }

    fn advance(&mut self, now: Time) {
        let (span, pieces) = (now.since(self.at).as_nanos() as u64, self.under_way.len() as u64);
        self.given += if pieces > self.cores { span * self.cores / pieces } else { span };
        self.idle += span * self.cores.saturating_sub(pieces);
        self.at = self.at.max(now);
    }
}
