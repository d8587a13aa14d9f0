//! `dev`: deploys, watches, deploys again on save, and shows the logs. Mistakes are shown, never fatal.

use super::{deploy, logs};
use crate::cli::{Dev, Lines};
use crate::error::{Doing, Error, Result};
use crate::exit::Exit;
use crate::lambda::Lambda;
use crate::manifest::Build;
use crate::output;
use crate::plan::{Step, Verb, plan};
use crate::project::{Project, Said};
use crate::watch::Watch;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const START_PAUSE: Duration = Duration::from_millis(20);
/// Between two attempts to follow a log.
const FOLLOW_PAUSE: Duration = Duration::from_secs(1);

/// Runs the command until Ctrl-C.
pub async fn run(args: Dev, lambda: &Lambda) -> Result<Exit> {
    let mut watch = Watch::new(&args.path.canonicalize().map_err(|error| {
        Error::new(Exit::Usage, format!("cannot watch {}", args.path.display()))
            .because(error)
            .fix("name a folder")
    })?)?;
    let server = Server::ensure(lambda).await?;
    let mut session = Session { lambda, path: &args.path, following: BTreeMap::new(), hinted: false };
    let work = async {
        loop {
            let builds_in_place = match session.deploy().await {
                Ok(builds_in_place) => builds_in_place,
                Err(error) => {
                    output::error(&error);
                    false
                }
            };
            if builds_in_place {
                watch.forget();
            }
            watch.changed().await?;
        }
    };
    let result: Result<Exit> = tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Success),
    };
    // Followers first: a server that drains waits for their connections.
    session.end();
    server.stop().await;
    result
}

/// What is kept from one deployment to the next.
struct Session<'a> {
    lambda: &'a Lambda,
    path: &'a Path,
    /// Function → the task that shows its log.
    following: BTreeMap<String, tokio::task::JoinHandle<()>>,
    hinted: bool,
}

impl Session<'_> {
    /// Deploys what changed. Returns whether a build command may have written into the folder.
    async fn deploy(&mut self) -> Result<bool> {
        let started = Instant::now();
        let project = Arc::new(Project::open(self.path, &Said::default())?);
        let builds_in_place = project.functions.iter().any(|f| matches!(f.build, Build::Command(_)));
        for ready in deploy::packages(&project, false).await? {
            let name = ready.wanted.name.clone();
            let actual = deploy::actual(self.lambda, &name).await?;
            let mut item = plan(&ready.wanted, actual.as_ref());
            // Saving a file must not lose a URL's address; `deploy` asks before it does.
            item.steps.retain(|step| *step != Step::DeleteUrl);
            if item.verb == Verb::Unchanged || item.steps.is_empty() {
                self.follow(&name);
                continue;
            }
            deploy::carry_out(self.lambda, &item, Some(&ready.zip)).await?;
            let took = started.elapsed().as_millis();
            output::note(format!("● {name} {} in {took} ms: {}", item.verb.done(), item.changes.join(", ")));
            self.follow(&name);
        }
        if !std::mem::replace(&mut self.hinted, true) {
            output::note(format!("watching {}: save to deploy, Ctrl-C to end", self.path.display()));
        }
        Ok(builds_in_place)
    }

    /// Ends showing logs.
    fn end(&mut self) {
        std::mem::take(&mut self.following).into_values().for_each(|task| task.abort());
    }

    /// Shows a function's log from now on, through restarts of the server.
    fn follow(&mut self, name: &str) {
        if self.following.contains_key(name) {
            return;
        }
        let (client, name) = (self.lambda.client.clone(), name.to_string());
        let lines = Lines {
            name: name.clone(),
            follow: true,
            since: Some(Duration::ZERO),
            request_id: None,
            stream: None,
        };
        let task = tokio::spawn(async move {
            loop {
                let shown = logs::follow(&lines, &client, &mut |event| output::line(logs::show(event))).await;
                if let Err(error) = shown
                    && error.exit != Exit::Unreachable
                {
                    output::error(&error);
                    return;
                }
                tokio::time::sleep(FOLLOW_PAUSE).await;
            }
        });
        self.following.insert(name, task);
    }
}

/// The server that `dev` started, if it had to.
struct Server(Option<Child>);

impl Server {
    /// Starts a server of this same program unless one answers already.
    async fn ensure(lambda: &Lambda) -> Result<Server> {
        if lambda.client.is_up().await {
            return Ok(Server(None));
        }
        let address = lambda.client.url().replacen("http://", "", 1);
        let program = std::env::current_exe().doing(|| "find this program".into())?;
        output::note(format!("no server answers at {address}: starting one"));
        let mut command = std::process::Command::new(program);
        // A group of its own: Ctrl-C is for `dev`, which then ends the server in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.args(["up", "--listen", &address]).stdin(std::process::Stdio::null()).spawn();
        let mut server = Server(Some(child.doing(|| "start a server".into())?));
        let until = Instant::now() + START_TIMEOUT;
        while !lambda.client.is_up().await {
            let ended = server.0.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                return Err(Error::new(Exit::Unreachable, format!("the server ended at once ({status})"))
                    .fix("see what it said above"));
            }
            if Instant::now() >= until {
                server.stop().await;
                return Err(Error::new(Exit::Unreachable, "the server did not answer within 30 s"));
            }
            tokio::time::sleep(START_PAUSE).await;
        }
        Ok(server)
    }

    /// Asks the server to drain and end, and waits for it; its own drain timeout is the limit. A second Ctrl-C
    /// ends it at once.
    async fn stop(self) {
        let Some(mut child) = self.0 else { return };
        let pid = rustix::process::Pid::from_child(&child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let mut ended = tokio::task::spawn_blocking(move || child.wait());
        tokio::select! {
            _ = &mut ended => {}
            _ = tokio::signal::ctrl_c() => {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                let _ = ended.await;
            }
        }
    }
}
