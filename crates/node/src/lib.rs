//! The async shell: each state machine has one owner that feeds it events and carries out its commands.
//!
//! `control` changes what functions exist; `invoke` runs them. They meet in `control::Target` (what to run)
//! and in nothing else. Suggested reading order:

pub mod control; // functions, versions, aliases, URLs: every change is one document write
pub mod invoke; //  from an admitted request to its one outcome
