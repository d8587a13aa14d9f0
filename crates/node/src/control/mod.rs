//! What functions exist and which version a request runs.
//!
//! [`Registry`] is the control plane: every acknowledged change of a function is one compare-and-set of its head
//! document. The data plane asks it one question, [`Registry::resolve`], and is told what changed. No HTTP and no
//! AWS JSON in here. Suggested reading order:

mod aliases; //     names for versions, weighted routing
mod archive; //     zips from strangers
mod cache; //       the read path: a name to what runs, in well under a microsecond
mod checks; //      what is wrong with a request, collected
mod concurrency; // reserved concurrency
mod error; //       why a change was refused
mod functions; //   create, get, list, update, delete
mod ledger; //      what happens to a change once it is decided
mod package; //     packages: kept, unpacked, found again
mod pattern; //     the service model's patterns
mod pins; //        what a change is about to refer to
mod policies; //    resource policies: kept, not enforced
mod provisioned; // provisioned concurrency
mod registry; //    the store behind it: reading, changing and announcing one function
mod request; //     what callers ask and get, as types
mod sweep; //       what crashes and updates left behind
mod tags;
mod urls; //        function URLs
mod validate; //    what values may be
mod versions; //    publish, list

pub use concurrency::Reservation;
pub use error::{ControlError, Violation};
pub use package::UnpackedCode;
pub use provisioned::{ProvisionedConfig, ToProvide};
pub use registry::{CheckRuntime, Limits, Options, Registry};
pub use request::*;
pub use sweep::Swept;
pub use validate::RUNTIMES;
