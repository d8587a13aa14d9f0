//! Deterministic simulator of `policy`, in virtual time, for two ends.
//!
//! *To prove rules*: [`run`] plays a [`Scenario`], whole machines of pools under seeded workloads and faults: it stands in for
//! the server's shell, the executor and the callers, keeps its own account of every request and instance beside the state
//! machines', and compares the two after every step. The same scenario always gives the same [`Report`], digest included.
//!
//! *To compare policies*: [`study()`] plays a [`Trace`] of invocations, recorded or made up, under several keep-alive
//! policies and says what each costs. It is the engine of `brooklet simulate`.

pub mod random; //   the only source of chance

pub mod report; //   what came out of a run
pub mod scenario; // functions, workloads, faults and limits, all from one seed

pub mod replay; //   one function's pool over its invocations
pub mod study;
pub mod tally; //    what a policy comes to over all functions
pub mod trace; //    where invocations come from //    a trace under several policies

mod budgeting; // the rules of the budget and of concurrency, checked
mod keeping; //   the rules of keeping idle instances and of starting one ahead, checked
mod pooling; //   the rules of a pool, checked
mod providing; // the rules of provisioned instances, checked
mod world; //     virtual time: the shell, the executor and the callers

pub use random::Random;
pub use report::{Failure, Report};
pub use scenario::Scenario;
pub use study::study;
pub use trace::Trace;

/// Plays a scenario to its end: until every request has ended and nothing runs any more.
///
/// Fails at the first step after which a rule does not hold, with the last steps that led there.
pub fn run(scenario: &Scenario) -> Result<Report, Failure> {
    world::World::new(scenario, false).run().or_else(|_| world::World::new(scenario, true).run())
}
