//! The async shell: each state machine has one owner that feeds it events and carries out its commands.
//!
//! `control` changes what functions exist; `invoke` runs them. They meet in `control::Target` (what to run)
//! and in nothing else. Suggested reading order:

mod clock; //       the server's two clocks
pub mod control; // functions, versions, aliases, URLs: every change is one document write
pub mod histories; // what was learned about functions whose pools are not there
pub mod invoke; //  from an admitted request to its one outcome
pub mod logs; //    what functions wrote, and the meter ledger
pub mod metrics; //  what is counted, for Prometheus
mod pools;
pub mod provision; // instances that are kept ready, as the control plane wants them //       one pool per function version, and what the machine shares among them

pub use clock::Clock;
pub use invoke::{Node, NodeConfig};
