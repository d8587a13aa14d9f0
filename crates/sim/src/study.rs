//! A trace under several policies at once.

use crate::replay::{Invocation, Profile, Replay};
use crate::tally::Tally;
use crate::trace::{Assumed, Sink, Trace, TraceError};
use model::Time;
use policy::keepalive::Config;
use std::collections::BTreeMap;

/// Plays a trace under each of the policies; what comes of each, in their order. Uses all cores: each plays the trace
/// for its share of the policies.
///
/// # Errors
/// The trace cannot be read, or is not what it seems to be.
pub fn study(trace: &Trace, assumed: &Assumed, policies: &[Config]) -> Result<Vec<Tally>, TraceError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(policies.len().max(1));
    std::thread::scope(|scope| {
        let handles: Vec<_> = policies
            .chunks(policies.len().div_ceil(threads).max(1))
            .map(|policies| {
                scope.spawn(move || {
                    let mut study = Study::new(policies);
                    trace.play(assumed, &mut study).map(|()| study.tallies)
                })
            })
            .collect();
        let tallies = handles.into_iter().map(|handle| handle.join().expect("a study does not panic"));
        Ok(tallies.collect::<Result<Vec<_>, _>>()?.concat())
    })
}

struct Study<'a> {
    policies: &'a [Config],
    tallies: Vec<Tally>,
    open: BTreeMap<usize, (Profile, Vec<Replay>)>,
    next: usize,
}

impl Study<'_> {
    fn new(policies: &[Config]) -> Study<'_> {
        let tallies = vec![Tally::default(); policies.len()];
        Study { policies, tallies, open: BTreeMap::new(), next: 0 }
    }
}

impl Sink for Study<'_> {
    fn open(&mut self, profile: Profile) -> usize {
        let replays = self.policies.iter().map(|&keep| Replay::new(profile, keep)).collect();
        self.open.insert(self.next, (profile, replays));
        self.next += 1;
        self.next - 1
    }

    fn invoke(&mut self, function: usize, invocation: Invocation) {
        let Some((_, replays)) = self.open.get_mut(&function) else { return };
        for (replay, tally) in replays.iter_mut().zip(&mut self.tallies) {
            replay.invoke(invocation, &mut |wait, takes| tally.began(wait, takes));
        }
    }

    fn close(&mut self, function: usize, end: Time) {
        let Some((profile, replays)) = self.open.remove(&function) else { return };
        for (mut replay, tally) in replays.into_iter().zip(&mut self.tallies) {
            let outcome = replay.finish(end, &mut |wait, takes| tally.began(wait, takes));
            tally.add(&profile, &outcome);
        }
    }
}
