//! Create → init: finds the interpreter, plans the sandbox, starts the process and waits until it is ready.

use crate::bootstraps;
use crate::cgroup::{Enforced, Groups};
use crate::class_archive::clear;
use crate::framed::Framed;
use crate::http_program::HttpProgram;
use crate::instance::{Process, Running, Transport};
use crate::interpreter::{Wanted, wanted};
use crate::java::{has_client, missing_client};
use crate::launch::{JAVA_SDK, Launch, Protocol, machine, no_room};
use crate::output::Output;
use crate::runtime_api::{OWN_CONNECTIONS, RuntimeApi};
use crate::runtimes::{Runtime, Runtimes};
use crate::sandbox::{Isolation, Sandbox, View};
use crate::spawner::{NotStarted, Program, Spawner};
use crate::stems::{Stem, Stems};
use crate::training::{self, Trainer};
use crate::wrapped::Wrapped;
use model::MiB;
use ports::{BoxFuture, Executor, Exit, Instance, InstanceSpec, LogSink, StartFailure, Started, Unready};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;

/// How a [`ProcessExecutor`] is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A folder of the server's own for bootstraps and mount points; emptied by nobody else.
    pub run_dir: PathBuf,
    /// Where `brooklet runtimes install` puts SDKs and runtime clients.
    pub runtimes_dir: PathBuf,
    /// The command that puts them there, but for the language: what people are told when something is missing.
    pub install: String,
    /// The strongest isolation to use; weaker when the machine does not allow it.
    pub isolation: Isolation,
    /// At most this many runtimes are kept booted ahead of need (default 8; some 10 MiB each). Zero: none.
    pub stems: usize,
    /// Runtimes of a kind that was not started for this long are not kept.
    pub keep_alive: Duration,
    /// Whether class-data archives are made of Java functions and used.
    pub class_archives: bool,
}

/// Runs functions as processes of this machine.
pub struct ProcessExecutor {
    settings: Settings,
    stems: Arc<Stems>,
    spawner: Arc<Spawner>,
    enforced: Enforced,
    isolation: OnceLock<Isolation>,
    runtimes: Arc<Runtimes>,
    trainer: OnceLock<Trainer>,
}

impl ProcessExecutor {
    /// Writes the bootstraps into the run folder. Interpreters are looked for when they are first needed.
    pub fn new(settings: Settings) -> io::Result<ProcessExecutor> {
        bootstraps::lay_out(&settings.run_dir, &settings.install)?;
        // Of a server that was killed during a training run.
        clear(&settings.run_dir.join("training"))?;
        let groups = match settings.isolation {
            Isolation::None => Groups::none(),
            _ => Groups::open(&group_name(&settings.run_dir)),
        };
        let enforced = groups.enforced();
        let spawner = Arc::new(Spawner::new(2, &settings.run_dir.join("init"), groups)?);
        let stems = Stems::new(spawner.clone(), settings.stems, settings.keep_alive);
        let runtimes = Arc::new(Runtimes::new(settings.run_dir.join("runtime")));
        Ok(ProcessExecutor {
            settings,
            stems,
            spawner,
            enforced,
            isolation: OnceLock::new(),
            runtimes,
            trainer: OnceLock::new(),
        })
    }

    /// The isolation in force: the strongest that this machine allows, tried once.
    pub async fn isolation(&self) -> Isolation {
        if let Some(known) = self.isolation.get() {
            return *known;
        }
        // SAFETY: geteuid always succeeds.
        let root = unsafe { libc::geteuid() } == 0;
        let mut candidates = vec![Isolation::UserNamespace];
        if root {
            candidates.insert(0, Isolation::Root);
        }
        if self.settings.isolation == Isolation::None {
            candidates.clear();
        }
        for candidate in candidates {
            match self.rehearse(candidate).await {
                Ok(()) => return *self.isolation.get_or_init(|| candidate),
                Err(error) => tracing::warn!(?candidate, %error, "this isolation is not to be had here"),
            }
        }
        *self.isolation.get_or_init(|| Isolation::None)
    }

    /// Starts `/bin/true` in a sandbox.
    async fn rehearse(&self, isolation: Isolation) -> io::Result<()> {
        let view = View {
            isolation,
            root: &self.settings.run_dir.join("root"),
            code: &self.settings.run_dir.join("runtime"),
            layers: &[],
            programs: &[],
            binds: &[],
            tmp: MiB(1),
            memory: MiB(16),
        };
        let (_reader, output) = io::pipe()?;
        let child = self
            .spawner
            .spawn(Program {
                sandbox: Arc::new(Sandbox::plan(&view)?),
                argv: vec!["/bin/true".into()],
                environment: Vec::new(),
                transport: None,
                output: OwnedFd::from(output),
                waits: false,
            })
            .await
            .map_err(io::Error::other)?;
        match child.exited().await {
            Exit::Status(0) => Ok(()),
            exit => Err(io::Error::other(format!("a trial process ended with {exit}"))),
        }
    }

    /// How many booted runtimes wait for a function, and how many have become instances of one.
    pub fn stems(&self) -> (usize, u64) {
        self.stems.count()
    }

    /// Which limits control groups enforce here.
    pub fn enforced(&self) -> Enforced {
        self.enforced
    }

    async fn runtime(&self, runtime: &str) -> Result<Runtime, String> {
        if let Some(known) = self.runtimes.known(runtime) {
            return Ok(known);
        }
        let (runtimes, runtime) = (self.runtimes.clone(), runtime.to_owned());
        let found = tokio::task::spawn_blocking(move || runtimes.find(&runtime)).await;
        found.unwrap_or_else(|error| Err(format!("the search for its interpreter failed: {error}")))
    }

    async fn begin(
        &self,
        spec: Arc<InstanceSpec>,
        stream: Arc<str>,
        logs: Arc<dyn LogSink>,
        until: Instant,
    ) -> Result<Arc<dyn Instance>, Unready> {
        let isolation = self.isolation().await;
        let runtime = by(until, self.runtime(&spec.runtime)).await?.map_err(StartFailure::Machine)?;
        let launch = Launch::plan(&self.settings, isolation, &spec, runtime.clone(), None)?;
        let archive = launch.archive.clone();
        let started = self.start_planned(launch, spec.clone(), stream.clone(), logs.clone(), until).await;
        let Some((archive, taken)) = archive else { return started };
        let trainer = self.trainer(isolation);
        // The JVM looks at an archive's head only, and trusts the rest.
        let crashed = matches!(&started, Err(Unready { failure: StartFailure::Exited(Exit::Signal(_)), .. }));
        match started {
            Ok(_) if !taken => trainer.want(training::Wanted { spec, runtime, archive }),
            // Or it was taken away between the plan and the start.
            Err(_) if taken && (crashed || !archive.is_made()) => {
                if crashed {
                    trainer.distrust(&archive);
                }
                let launch = Launch::plan(&self.settings, isolation, &spec, runtime, None)?;
                return self.start_planned(launch, spec, stream, logs, until).await;
            }
            _ => {}
        }
        started
    }

    fn trainer(&self, isolation: Isolation) -> &Trainer {
        self.trainer.get_or_init(|| Trainer::new(self.settings.clone(), isolation, self.spawner.clone()))
    }

    async fn start_planned(
        &self,
        launch: Launch,
        spec: Arc<InstanceSpec>,
        stream: Arc<str>,
        logs: Arc<dyn LogSink>,
        until: Instant,
    ) -> Result<Arc<dyn Instance>, Unready> {
        let own = launch.own_program;
        let variables = launch.variables(&spec, &stream);
        if let Some(stem) = by(until, self.stem(&launch, &variables)).await? {
            let Stem { process, framed } = stem;
            process.output.belong_to(logs, stream);
            return Ok(Arc::new(Running::init(process, framed, spec.timeout, until).await?));
        }
        let (output, lines) = Output::new(logs, stream.clone()).map_err(machine)?;
        match launch.protocol {
            Protocol::Frames => {
                let (framed, pipes) = Framed::pair().map_err(machine)?;
                let program = launch.program(variables, None, lines);
                let program = Program { transport: Some(pipes), ..program };
                self.run(program, own, output, framed, spec.timeout, until).await
            }
            Protocol::Wrapped => {
                let (framed, pipes) = Framed::pair().map_err(machine)?;
                let api = RuntimeApi::open(&spec).await.map_err(machine)?;
                let contact = ("AWS_LAMBDA_RUNTIME_API", api.address());
                let program = launch.program(variables, Some(contact), lines);
                let program = Program { transport: Some(pipes), ..program };
                self.run(program, own, output, Wrapped::new(framed, api), spec.timeout, until).await
            }
            Protocol::Http => {
                let http = HttpProgram::on_a_free_port().map_err(machine)?;
                let contact = ("PORT", http.port().to_string());
                let program = launch.program(variables, Some(contact), lines);
                self.run(program, own, output, http, spec.timeout, until).await
            }
            Protocol::RuntimeApi => {
                let api = RuntimeApi::open(&spec).await.map_err(machine)?;
                let contact = ("AWS_LAMBDA_RUNTIME_API", api.address());
                let program = launch.program(variables, Some(contact), lines);
                self.run(program, own, output, api, spec.timeout, until).await
            }
        }
    }

    /// A runtime that was booted ahead of need, on its way to be this instance.
    async fn stem(&self, launch: &Launch, variables: &[(String, String)]) -> Option<Stem> {
        let stem = self.stems.take(&launch.recipe(variables)?)?;
        match stem.become_instance(launch.sandbox().clone(), variables).await {
            Ok(stem) => {
                self.stems.used();
                Some(stem)
            }
            Err(error) => {
                tracing::warn!(%error, "a waiting runtime could not become an instance; starting another");
                None
            }
        }
    }

    /// Starts `program`, which may be the function's own, and waits until it is ready.
    async fn run<T: Transport>(
        &self,
        program: Program,
        own: bool,
        output: Arc<Output>,
        transport: T,
        timeout: Duration,
        until: Instant,
    ) -> Result<Arc<dyn Instance>, Unready> {
        let what = program.argv[0].to_string_lossy().into_owned();
        let child = by(until, self.spawner.spawn(program)).await?;
        let child = child.map_err(|error| not_started(&what, own, &error))?;
        let process = Process::new(child, output);
        Ok(Arc::new(Running::init(process, transport, timeout, until).await?))
    }
}

impl Executor for ProcessExecutor {
    fn start(
        &self,
        spec: Arc<InstanceSpec>,
        stream: Arc<str>,
        logs: Arc<dyn LogSink>,
    ) -> BoxFuture<'_, Result<Started, Unready>> {
        Box::pin(async move {
            let began = Instant::now();
            let until = began + spec.init_timeout;
            let instance = self.begin(spec, stream, logs, until).await?;
            Ok(Started { instance, init: began.elapsed() })
        })
    }

    fn check(&self, runtime: &str, package: Option<&Path>) -> Result<(), String> {
        let Runtime { wanted, .. } = self.runtimes.find(runtime)?;
        match package {
            Some(package) if matches!(wanted, Wanted::Java(_)) => {
                let installed = self.settings.runtimes_dir.join(JAVA_SDK);
                match has_client([&installed, package]) {
                    true => Ok(()),
                    false => Err(missing_client(&installed, &self.settings.install)),
                }
            }
            _ => Ok(()),
        }
    }

    fn descriptors(&self, spec: &InstanceSpec) -> u32 {
        /// Its output, its first process and the socket to that.
        const ANY: u32 = 3;
        let protocol = wanted(&spec.runtime).map(|wanted| Protocol::of(&wanted, spec));
        match protocol {
            Some(Protocol::Frames) => ANY + 2,
            Some(Protocol::Http) => ANY + spec.concurrency,
            // Its endpoint and the connections to it.
            Some(Protocol::RuntimeApi) | None => ANY + 1 + OWN_CONNECTIONS,
            Some(Protocol::Wrapped) => ANY + 2 + 1 + OWN_CONNECTIONS,
        }
    }
}

/// A step of a start, unless time is up first.
async fn by<T>(until: Instant, step: impl Future<Output = T>) -> Result<T, StartFailure> {
    tokio::time::timeout_at(until, step).await.map_err(|_| StartFailure::TimedOut)
}

/// A program that could not be executed is the function's mistake when it is the function's `own`.
fn not_started(program: &str, own: bool, error: &NotStarted) -> StartFailure {
    let (NotStarted::Sandbox { error: cause, .. } | NotStarted::Program(cause)) = error;
    if let Some(full) = no_room(cause) {
        return full;
    }
    match error {
        NotStarted::Program(error) if own => {
            let json = serde_json::json!({
                "errorType": "Runtime.InvalidEntrypoint",
                "errorMessage": format!(
                    "fork/exec {program}: {error}. Is it executable, and is its interpreter (the #! line) or \
                     architecture one that this machine has?"
                ),
            });
            StartFailure::Init(json.to_string().into())
        }
        NotStarted::Program(error) => {
            StartFailure::Machine(format!("{program} could not be started: {error}"))
        }
        NotStarted::Sandbox { .. } => {
            StartFailure::Machine(format!("an instance could not be made: {error}"))
        }
    }
}

/// The name of the server's control group: the same for the next server on this data directory.
fn group_name(run_dir: &Path) -> String {
    let path = run_dir.canonicalize().unwrap_or_else(|_| run_dir.to_owned());
    let hash = path.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("brooklet-{hash:016x}")
}
