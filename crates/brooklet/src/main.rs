//! `brooklet`: functions as a service in one program. This crate knows every other one and holds no logic of
//! the server's: it reads what the user wants and hands it on. Suggested reading order:

mod cli; //       the command line, which is also the help
mod client; //    HTTP to a running server
mod commands; //  what each command does
mod config; //    the server's configuration
mod document; //  TOML with all mistakes at once
mod error; //     errors for people
mod exit; //      exit codes
mod lambda; //    the operations of the Lambda API
mod output;
mod sigv4; //     … signed
mod units; //     durations and sizes
mod up; //        the server's wiring //    tables, JSON, colours, progress

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match commands::run(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            output::error(&error);
            error.exit.into()
        }
    }
}
