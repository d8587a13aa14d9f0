//! `completions`: what a shell asks when Tab is pressed. It asks this program, so that functions' names complete too.

use crate::client::Client;
use crate::error::Result;
use crate::exit::Exit;
use crate::lambda::Lambda;
use crate::output;
use clap_complete::CompletionCandidate;
use clap_complete::env::Shells;
use std::ffi::OsStr;
use std::time::Duration;

/// Set by the shell's script when it asks; its value names the shell.
pub const VARIABLE: &str = "BROOKLET_COMPLETE";

/// Whoever presses Tab does not wait longer for a server.
const PATIENCE: Duration = Duration::from_secs(1);

/// Prints the script that makes a shell ask.
pub fn run(shell: clap_complete::Shell) -> Result<Exit> {
    let shells = Shells::builtins();
    let shell = shells.completer(&shell.to_string()).expect("both lists are clap's");
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "brooklet", "brooklet", "brooklet", &mut script)
        .expect("memory takes it");
    output::print(script).map(|()| Exit::Success)
}

/// The functions of the server whose names begin so; none when it does not answer in time.
pub fn functions(begun: &OsStr) -> Vec<CompletionCandidate> {
    let Some(begun) = begun.to_str() else { return Vec::new() };
    let asked = async {
        let lambda = Lambda { client: Client::new(None)? };
        lambda.list().await
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let functions = runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await });
    let functions = functions.map_or_else(|_| Vec::new(), Result::unwrap_or_default);
    let names = functions.iter().filter_map(|function| function["FunctionName"].as_str());
    names.filter(|name| name.starts_with(begun)).map(CompletionCandidate::new).collect()
}
