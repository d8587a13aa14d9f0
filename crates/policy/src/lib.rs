//! Every decision as a deterministic state machine: no I/O, no async, no clock, no randomness of its own.
//!
//! Each machine takes one event at a time with the time at which it happened, and appends the commands that
//! its owner must carry out, in order. Owners (the server's shell, the simulator) feed back what became of
//! them. Start with `pool`, then `budget`; the others stand alone.

pub mod allowance; //   whether an instance has used more of the processors than is its
pub mod budget; //      the machine's memory and descriptors, shared by all pools
pub mod bursts; //      how many of something are kept ready, after what was needed in the last burst
pub mod concurrency; // how many requests may be in flight: reserved, account
pub mod descriptors; // how many connections and instances the server's descriptors are for
pub mod imports; //     which modules are imported ahead of need
pub mod keepalive; //   how long the last idle instance stays, and when one is started ahead
pub mod lull; //        when what is kept ready may be made
pub mod memory; //      when an instance has more than its function may have
pub mod meter; //       what an invocation costs
pub mod pace; //        how fast something is taken from one who would keep its taker busy
pub mod pool; //        the instances of one function version and the requests that wait for them
pub mod reach; //       what an instance may be connected to
pub mod route; //       which version an alias sends a request to
pub mod sharing; //     who stands back when processors are scarce, and what is done for the others
pub mod stock; //       which runtimes are kept booted ahead of need, and which zygotes
pub mod training; //    which functions are started once more to make their later starts shorter

mod estimate; // a running mean

pub use budget::Budget;
pub use concurrency::Concurrency;
pub use pool::{InstanceKey, Pool, PoolConfig, RequestKey};
