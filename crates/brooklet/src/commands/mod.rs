//! What each command does: one file each.

mod deploy;
mod invoke;
mod list;
mod logs;
mod new;
mod rm;
mod show;

use crate::cli::{Cli, Command};
use crate::client::Client;
use crate::error::{Doing, Error, Result};
use crate::exit::Exit;
use crate::lambda::Lambda;
use crate::{config, output, up};
use clap::CommandFactory;

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
        Command::Completions { shell } => {
            let mut text = vec![];
            clap_complete::generate(shell, &mut Cli::command(), "brooklet", &mut text);
            output::print(text).map(|()| Exit::Success)
        }
        Command::Version => {
            output::line(format!("brooklet {}", env!("CARGO_PKG_VERSION"))).map(|()| Exit::Success)
        }
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let lambda = Lambda { client: Client::new(cli.server.as_deref())? };
            runtime.doing(|| "start the event loop".into())?.block_on(talk(command, lambda))
        }
    }
}

/// Commands that talk to a server.
async fn talk(command: Command, lambda: Lambda) -> Result<Exit> {
    match command {
        Command::Deploy(args) => deploy::run(args, &lambda).await,
        Command::Invoke(args) => invoke::run(args, &lambda).await,
        Command::Logs(args) => logs::run(args, &lambda.client).await,
        Command::List(args) => list::run(args, &lambda).await,
        Command::Show(args) => show::run(args, &lambda).await,
        Command::Rm(args) => rm::run(args, &lambda).await,
        other => Err(Error::new(Exit::Failure, format!("{other:?} is not in this build"))),
    }
}
