//! Functions as Linux processes. The only crate that is allowed `unsafe`.
//!
//! An instance is a process group in a file-system view of its own. It is spoken to in one of three ways: our
//! bootstraps over a private framed socket, the official runtime clients over the Runtime API, and any web
//! program over HTTP on `$PORT`. Suggested reading order:

#![allow(unsafe_code)] // system calls that no safe wrapper offers between fork and exec

mod argv; //         the command line of each runtime
mod bootstraps; //   our own runtimes, laid out and compiled on this machine
mod child; //        a running process: exit, kill, memory
mod environment; //  the variables a function sees
mod executor; //     create → init: puts the parts below together
mod framed; //       transport of our own bootstraps
mod http_program;
mod instance; //     what the three transports share: deadline, exit, lines
mod interpreter; //  which program runs a runtime identifier, and where it was found
mod kernel; //       what the kernel offers
mod output; //       its stdout and stderr as log events
mod runtime_api; //  transport of the official runtime clients
mod sandbox; //      the file-system view, user and limits; fork and exec
mod sessions; //     whose processes are ours, for the start after a crash
mod spawner; //      the threads that fork // transport of programs that listen on $PORT

pub use executor::{ProcessExecutor, Settings};
pub use interpreter::{Found, survey};
pub use kernel::landlock_abi;
pub use sandbox::Isolation;
