//! HTTP: Lambda API shapes and error table, function URLs, Brooklet's own API, authentication.
//!
//! The only crate that knows AWS's JSON and HTTP status codes. Suggested reading order:

mod app; //             what the faces share
pub mod auth; //        who may call: Signature Version 4, links, a token
mod body; //            bodies of answers; bodies of requests within their limits
mod eager; //           a connection goes on at once when it can
pub mod error; //       the one error table
mod eventstream; //     binary framing of streamed answers
mod guard; //           no web page may use a browser to call a server without keys
pub mod json; //        JSON without copies
pub mod lambda; //      Lambda's API: one table row per operation
mod own; //             Brooklet's own API
pub mod server; //      connections
mod service; //         which face answers
mod stream; //          streamed answers of functions
mod time; //            dates as AWS writes them
mod trace; //           trace ids
mod unread; //          bodies of requests that were refused early
pub mod url; //         function URLs

#[cfg(test)]
pub(crate) mod testing;

pub use app::{App, AppConfig, Invoker};
pub use auth::AccessKeys;
pub use auth::bearer::Token;
pub use auth::session::Sessions;
pub use server::{Limits, serve};
