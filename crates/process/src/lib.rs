//! Functions as Linux processes. The only crate that is allowed `unsafe`.
//!
//! An instance is a program in a sandbox of its own. It is spoken to in one of three ways: our
//! bootstraps over a private framed socket, the official runtime clients over the Runtime API, and any web
//! program over HTTP on `$PORT`. Suggested reading order: `executor`, `launch`, `instance`, `framed`, `sandbox`.

#![allow(unsafe_code)] // system calls that no safe wrapper offers

mod ahead; //        sandboxes that are made ahead of need
mod argv; //         the command line of each runtime
mod beat; //         has the kernel choose anew who runs
mod booting; //      with which variables a runtime may boot before its function is known
mod bootstraps; //   our own runtimes, laid out and compiled on this machine
mod cgroup; //       what an instance may use of the machine
mod child; //        a running sandbox and its program: exit, kill, memory
mod chunks; //       a response stream, which is whole or says that it is not
mod class_archive; // what a JVM has read of a function's classes, for the next one
mod compile_cache; // what V8 has made of a Node.js function's modules, for the next one
mod environment; //  the variables a function sees
mod executor; //     create → init: puts the parts below together
mod framed; //       transport of our own bootstraps
mod http_program; // transport of programs that listen on $PORT
mod instance; //     a running instance: deadline, exit, lines; and the trait that the transports share
mod interpreter; //  which program runs a runtime identifier, and where it was found
mod java; //         the JVM's flags and class path, and where the runtime interface client is
mod jvms; //         JVMs that boot ahead of need
mod kernel; //       what the kernel offers
mod landlock; //     the second wall around what a program reaches
mod launch; //       what one start needs: view, program, variables
mod learning; //     what functions import, and what is imported ahead
mod lull; //         moments in which nobody waits for a start
mod memory; //       ends an instance that has more than its function may have
mod network; //     what an instance reaches, and through what
mod output; //       its stdout and stderr as log events
mod plans; //        those of the starts of a moment ago
mod runtime_api; //  transport of the official runtime clients
mod runtimes; //     the runtimes that functions have asked for, made ready
mod sandbox; //      the plan of a sandbox: view, user, limits
mod script; //       that plan as a message to the sandbox's first process (`init/`)
mod seccomp; //      which system calls a function may make
mod shelf; //        where what training runs made is kept
mod socket; //       the socket to the first process
mod spawner; //      the threads that start sandboxes
mod standing; //     has instances that use more of the processors than is theirs stand back
mod stems; //        runtimes that are booted ahead of need
#[cfg(test)]
mod testing; //  what tests of several modules need
mod training; //     runs of a runtime that make such archives and caches
mod users; //        who an instance is on the machine
mod wrapped; //      transport of runtimes that the function's own wrapper starts
mod zygote; //       interpreters that fork instead

pub use cgroup::Enforced;
pub use environment::Issuer;
pub use executor::{ProcessExecutor, Settings};
pub use interpreter::{Found, survey};
pub use jvms::compiler as java_compiler;
pub use kernel::{come_first, give_back_memory, landlock_abi, processor_time, raise_open_files};
pub use landlock::OLDEST as OLDEST_LANDLOCK;
pub use sandbox::Isolation;
