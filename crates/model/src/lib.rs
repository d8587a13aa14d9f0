//! The nouns of Brooklet: what a function, a version, an alias, an invocation and its outcome are.
//!
//! No behaviour beyond parsing and printing themselves, no I/O, no clock. Suggested reading order:

pub mod credentials; // what requests are signed with
pub mod function; //   function, version, alias, URL, limits
pub mod invocation; // request ids, outcomes, the record that is metered
pub mod network; //    what a function may reach
pub mod secret; //     words that must not reach logs
pub mod time; //       points in time and their units
pub mod units; //      sizes

pub use credentials::Credentials;
pub use function::*;
pub use invocation::*;
pub use network::Network;
pub use secret::Secret;
pub use time::{Time, Timestamp};
pub use units::MiB;
