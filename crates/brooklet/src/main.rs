//! `brooklet`: functions as a service in one program. This crate knows every other one and holds no logic of
//! the server's: it reads what the user wants and hands it on. Suggested reading order:

mod build; //     how each language becomes a package
mod chart; //     points as text and as a picture
mod cli; //       the command line, which is also the help
mod client; //    HTTP to a running server
mod commands; //  what each command does
mod config; //    the server's configuration
mod detect; //    what a folder without a manifest is
mod document; //  TOML with all mistakes at once
mod error; //     errors for people
mod exit; //      exit codes
mod lambda; //    the operations of the Lambda API
mod machine; //   interpreters and tools of this machine
mod manifest; //  what a project declares
mod output; //    tables, JSON, colours, progress
mod package; //   which files are deployed, as a zip
mod plan; //      what a deployment has to change
mod project; //   what is deployed: a folder or a zip
mod sigv4; //     … signed
mod templates; // what `new` makes
mod units; //     durations and sizes
mod up; //        the server's wiring
mod watch; //     tells when files change

#[cfg(test)]
mod test_folder; // a folder for one test

use clap::{CommandFactory, Parser};
use clap_complete::CompleteEnv;
use std::process::ExitCode;

fn main() -> ExitCode {
    CompleteEnv::with_factory(cli::Cli::command).var(commands::completions::VARIABLE).complete();
    let cli = cli::Cli::parse();
    match commands::run(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            output::error(&error);
            error.exit.into()
        }
    }
}
