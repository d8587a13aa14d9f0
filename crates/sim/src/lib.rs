//! Deterministic simulator of `policy`: whole machines of pools under seeded workloads and faults, in
//! virtual time.
//!
//! [`run`] plays a [`Scenario`]: it stands in for the server's shell, the executor and the callers, keeps its
//! own account of every request and instance beside the state machines', and compares the two after every
//! step. The same scenario always gives the same [`Report`], digest included.

pub mod random; //   the only source of chance
pub mod report; //   what came out of a run
pub mod scenario; // functions, workloads, faults and limits, all from one seed

mod budgeting; // the rules of the budget and of concurrency, checked
mod keeping; //   the rules of keeping idle instances and of starting one ahead, checked
mod pooling; //   the rules of a pool, checked
mod world; //     virtual time: the shell, the executor and the callers

pub use random::Random;
pub use report::{Failure, Report};
pub use scenario::Scenario;

/// Plays a scenario to its end: until every request has ended and nothing runs any more.
///
/// Fails at the first step after which a rule does not hold, with the last steps that led there.
pub fn run(scenario: &Scenario) -> Result<Report, Failure> {
    world::World::new(scenario, false).run().or_else(|_| world::World::new(scenario, true).run())
}
