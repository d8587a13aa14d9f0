//! What each command does: one file each.

mod bench;
pub mod completions;
mod deploy;
mod dev;
mod doctor;
mod invoke;
mod list;
mod logs;
mod new;
mod rm;
pub mod runtimes;
mod show;
mod simulate;

use crate::cli::{At, Bench, Cli, Command};
use crate::client::Client;
use crate::error::{Doing, Result};
use crate::exit::Exit;
use crate::lambda::Lambda;
use crate::{config, output, up};

/// Carries out the command line.
pub fn run(cli: Cli) -> Result<Exit> {
    match cli.command {
        Command::Up(args) => {
            let config = config::load(&args.settings(), args.config.as_deref())?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            runtime.doing(|| "start the server's threads".into())?.block_on(up::run(config))?;
            Ok(Exit::Success)
        }
        Command::New(args) => new::run(args),
        Command::Deploy(args) => talk(args.at.clone(), async |lambda| deploy::run(args, lambda).await),
        Command::Dev(args) => talk(args.at.clone(), async |lambda| dev::run(args, lambda).await),
        Command::Invoke(args) => talk(args.at.clone(), async |lambda| invoke::run(args, lambda).await),
        Command::Logs(args) => talk(args.at.clone(), async |lambda| logs::run(args, &lambda.client).await),
        Command::List(args) => talk(args.at.clone(), async |lambda| list::run(args, lambda).await),
        Command::Show(args) => talk(args.at.clone(), async |lambda| show::run(args, lambda).await),
        Command::Rm(args) => talk(args.at.clone(), async |lambda| rm::run(args, lambda).await),
        Command::Runtimes(command) => runtimes::run(command),
        Command::Bench(Bench::Coldstart(args)) => {
            talk(args.at.clone(), async |lambda| bench::coldstart(args, lambda).await)
        }
        Command::Simulate(args) => simulate::run(args),
        Command::Doctor(args) => {
            talk(args.at.clone(), async |lambda| doctor::run(args, &lambda.client).await)
        }
        Command::Completions { shell } => completions::run(shell),
        Command::Version => {
            output::line(format!("brooklet {}", env!("CARGO_PKG_VERSION"))).map(|()| Exit::Success)
        }
    }
}

/// Runs a command that talks to a server.
fn talk(at: At, command: impl AsyncFnOnce(&Lambda) -> Result<Exit>) -> Result<Exit> {
    let lambda = Lambda { client: Client::new(at.server.as_deref())? };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.doing(|| "start the event loop".into())?;
    let result = runtime.block_on(command(&lambda));
    // A blocking task (a build) that Ctrl-C left behind must not hold the program up.
    runtime.shutdown_background();
    result
}
