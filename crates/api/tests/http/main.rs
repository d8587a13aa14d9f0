//! The faces over real sockets: what was sent, what came back. Functions are closures.

mod auth; //      signed requests against a server with access keys
mod bad_input; // a table of what was sent and the exact error
mod control; //   Lambda's control API
mod invoke; //    `Invoke` and `InvokeWithResponseStream`
mod own; //       health, logs, downloads
mod policies; //  resource policies
mod rig;
mod server; //    slow, silent and departed clients; shutdown
mod urls; //      function URLs
