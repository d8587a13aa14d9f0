//! Create → init: finds the interpreter, plans the sandbox, starts the process and waits until it is ready.

use crate::ahead::Ahead;
use crate::bootstraps;
use crate::cgroup::{Enforced, Groups};
use crate::environment::Issuer;
use crate::framed::{Framed, Introduction};
use crate::http_program::HttpProgram;
use crate::instance::{Learner, Process, Running, Transport};
use crate::interpreter::{Wanted, wanted};
use crate::java::{has_client, missing_client};
use crate::jvms::{Clients, Jvm};
use crate::launch::{JAVA_SDK, Launch, Protocol, machine, no_room};
use crate::learning::{self, LEARN, Learning};
use crate::lull::Lull;
use crate::network::{self, Outside};
use crate::output::Output;
use crate::plans::Plans;
use crate::runtime_api::{OWN_CONNECTIONS, RuntimeApi};
use crate::runtimes::{Runtime, Runtimes};
use crate::sandbox::{Isolation, Sandbox, View};
use crate::shelf::clear;
use crate::spawner::{NotStarted, Program, Spawner};
use crate::stems::{Stem, Stems};
use crate::training::{self, Trained, Trainer};
use crate::users::{Users, holders, numbers_of};
use crate::wrapped::Wrapped;
use model::{MadeAhead, MiB, Network};
use policy::lull::LullConfig;
use policy::stock::StockConfig;
use ports::{
    BoxFuture, Executor, Exit, Instance, InstanceSpec, LogSink, Phases, StartFailure, Started, Unready,
};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
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
    /// What functions reach over the network that do not say so themselves.
    pub network: Network,
    /// Endpoints that every function is told of and reaches, as variable (`AWS_ENDPOINT_URL…`) → URL.
    pub endpoints: BTreeMap<String, String>,
    /// Whose credentials functions find in their environment.
    pub credentials: Issuer,
    /// Connections to elsewhere that all instances together may have; each takes two descriptors.
    pub connections: usize,
    /// At most this many runtimes are kept booted ahead of need (default 8; some 10 MiB each). Zero: none.
    pub stems: usize,
    /// Runtimes of a kind that was not started for this long are not kept.
    pub keep_alive: Duration,
    /// Whether functions are started once more without an event, to make their later starts shorter (Java, Node.js).
    pub training_runs: bool,
    /// Who instances are on the machine, where the server is root: users and groups of these numbers. `None`: 65,536
    /// that nobody else gives to anybody, others for each run folder.
    pub users: Option<Range<u32>>,
}

/// Where an instance's lines go: the sink, and the stream there.
type Log = (Arc<dyn LogSink>, Arc<str>);

/// At most this many sandboxes wait for a program.
const AHEAD: usize = 4;

/// Runs functions as processes of this machine.
pub struct ProcessExecutor {
    settings: Settings,
    lull: Arc<Lull>,
    stems: Arc<Stems>,
    spawner: Arc<Spawner>,
    outside: Arc<Outside>,
    enforced: Enforced,
    isolation: OnceLock<Isolation>,
    /// Why sandboxes cannot have doors, where they cannot.
    no_internet: OnceLock<String>,
    users: Arc<Users>,
    /// Why instances are one user, where they could be many.
    no_users: OnceLock<String>,
    runtimes: Arc<Runtimes>,
    plans: Plans<InstanceSpec, Launch>,
    learning: Arc<Learning>,
    trainer: OnceLock<Trainer>,
    clients: Clients,
}

impl ProcessExecutor {
    /// Writes the bootstraps into the run folder. Interpreters are looked for when they are first needed.
    pub fn new(settings: Settings) -> io::Result<ProcessExecutor> {
        bootstraps::lay_out(&settings.run_dir, &settings.install)?;
        // Of a server that was killed during a training run.
        clear(&settings.run_dir.join("training"))?;
        // With this, what an earlier server has left is gone.
        let mut groups = Groups::open(&group_name(&settings.run_dir));
        if settings.isolation == Isolation::None {
            groups = Groups::none();
        }
        let enforced = groups.enforced();
        let outside = Arc::new(Outside::new(settings.endpoints.clone(), settings.connections)?);
        let init = settings.run_dir.join("init");
        // Where descriptors are too scarce for runtimes to wait, sandboxes do not either.
        let lull = Arc::new(Lull::new(LullConfig::default()));
        let ahead = Ahead::new(settings.stems.min(AHEAD), settings.keep_alive, lull.clone());
        let numbers = settings.users.clone().unwrap_or_else(|| numbers_of(&group_name(&settings.run_dir)));
        let users = Users::new(numbers);
        // Beside two that wait for their turn with a zygote, one that dresses a sandbox and one that makes one.
        let spawner = Arc::new(Spawner::new(4, &init, groups, outside.clone(), users.clone(), ahead)?);
        let stock = StockConfig { most: settings.stems, keep: settings.keep_alive, ..StockConfig::default() };
        let stems = Stems::new(spawner.clone(), stock, lull.clone());
        let runtimes = Arc::new(Runtimes::new(settings.run_dir.join("runtime")));
        let (isolation, no_internet, no_users) = Default::default();
        let learning = Arc::new(Learning::new());
        Ok(ProcessExecutor {
            settings,
            lull,
            stems,
            spawner,
            outside,
            enforced,
            isolation,
            no_internet,
            users,
            no_users,
            runtimes,
            plans: Plans::new(),
            learning,
            trainer: OnceLock::new(),
            clients: Clients::default(),
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
            let Err(error) = self.rehearse(candidate).await else {
                return *self.isolation.get_or_init(|| candidate);
            };
            // Better all walls and no door, or all instances one user, than none.
            for (doors, users) in [(false, true), (true, false), (false, false)] {
                self.outside.give_doors(doors);
                self.users.are_there(users);
                if self.rehearse(candidate).await.is_ok() {
                    let missing = [(doors, &self.no_internet), (users, &self.no_users)];
                    for (_, why) in missing.into_iter().filter(|(there, _)| !there) {
                        let _ = why.set(error.to_string());
                    }
                    return *self.isolation.get_or_init(|| candidate);
                }
            }
            self.outside.give_doors(true);
            self.users.are_there(true);
            tracing::warn!(?candidate, %error, "this isolation is not to be had here");
        }
        *self.isolation.get_or_init(|| Isolation::None)
    }

    /// Starts `/bin/true` in a sandbox.
    async fn rehearse(&self, isolation: Isolation) -> Result<(), NotStarted> {
        let view = View {
            isolation,
            root: &self.settings.run_dir.join("root"),
            code: &self.settings.run_dir.join("runtime"),
            layers: &[],
            programs: &[],
            binds: &[],
            network: Network::Internet,
            tmp: MiB(1),
            memory: MiB(16),
        };
        let (_reader, output) = io::pipe().map_err(NotStarted::at("make a pipe"))?;
        let program = Program {
            sandbox: Arc::new(Sandbox::plan(&view).map_err(NotStarted::at("plan a sandbox"))?),
            argv: vec!["/bin/true".into()],
            environment: Vec::new(),
            transport: None,
            runtime_api: None,
            output: OwnedFd::from(output),
            waits: false,
        };
        match self.spawner.try_out(program).await?.exited().await {
            Exit::Status(0) => Ok(()),
            exit => Err(NotStarted::Program(io::Error::other(format!("a trial process ended with {exit}")))),
        }
    }

    /// Brooklet's API listens there; to be told before the first instance starts.
    pub fn api_listens_on(&self, address: SocketAddr) {
        self.outside.api_listens_on(address);
    }

    /// Why functions with the policy `internet` reach no more than those with `none`, where that is so. Known once the
    /// [isolation](Self::isolation) is.
    pub fn no_internet(&self) -> Option<&str> {
        self.no_internet.get().map(String::as_str)
    }

    /// Why instances are all one user although the server is root, where that is so. Known once the
    /// [isolation](Self::isolation) is.
    pub fn no_own_users(&self) -> Option<&str> {
        self.no_users.get().map(String::as_str)
    }

    /// Who else on the machine has a number that instances have, as users or as groups. Reads four files in `/etc`.
    pub fn users_of_others(&self) -> Vec<String> {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let holders = |named, subordinate| holders(self.users.numbers(), &read(named), &read(subordinate));
        let (users, groups) = (holders("/etc/passwd", "/etc/subuid"), holders("/etc/group", "/etc/subgid"));
        let told = |kind: &str, holders: Vec<String>| {
            holders.into_iter().map(move |holder| format!("{kind} {holder}")).collect()
        };
        let (mut users, groups): (Vec<String>, Vec<String>) = (told("user", users), told("group", groups));
        users.extend(groups);
        users
    }

    /// How many booted runtimes wait for a function, and how many have become instances of one.
    pub fn stems(&self) -> (usize, u64) {
        self.stems.count()
    }

    /// How many sandboxes wait for a program.
    pub fn sandboxes(&self) -> usize {
        self.spawner.waiting()
    }

    /// How many interpreters wait for orders to fork, and how many runtimes they have forked.
    pub fn forks(&self) -> (usize, u64) {
        self.stems.forks()
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
        laps: &mut Laps,
    ) -> Result<Arc<dyn Instance>, Unready> {
        let isolation = self.isolation().await;
        let runtime = by(until, self.runtime(&spec.runtime)).await?.map_err(StartFailure::Machine)?;
        let outside = &self.outside;
        let launch = self.plan(isolation, &spec, &runtime)?;
        let trained = launch.trained.clone();
        let jvm = launch.jvm(&self.settings, &spec, &self.clients);
        let (waiting, missing) = match jvm {
            Some(jvm) if jvm.is_made() => (Some(jvm), None),
            Some(jvm) => {
                let variables = launch.variables(&spec, &stream);
                let recipe = launch.jvm_recipe(&jvm, &variables, self.outside.inside(network::RUNTIME_API));
                (None, Some((jvm, recipe)))
            }
            None => (None, None),
        };
        let log = (logs.clone(), stream.clone());
        let started = self.start_planned(launch, waiting, spec.clone(), log, until, laps).await;
        if let (Ok(_), Some((jvm, recipe))) = (&started, missing) {
            let (spec, runtime) = (spec.clone(), runtime.clone());
            self.trainer(isolation).want(training::Wanted::OfWaiting { spec, runtime, jvm, recipe });
        }
        let Some((trained, taken)) = trained else { return started };
        let trainer = self.trainer(isolation);
        // What was made is trusted but for its head.
        let crashed = matches!(&started, Err(Unready { failure: StartFailure::Exited(Exit::Signal(_)), .. }));
        match started {
            Ok(_) if !taken && pays(&trained, laps) => {
                trainer.want(training::Wanted::OfFunction { spec, runtime, trained });
            }
            // Or it was taken away between the plan and the start.
            Err(_) if taken && (crashed || !trained.is_made()) => {
                if crashed {
                    trainer.distrust(&trained);
                }
                let launch = Launch::plan(&self.settings, isolation, &spec, runtime, outside, None)?;
                *laps = Laps::default();
                return self.start_planned(launch, None, spec, (logs, stream), until, laps).await;
            }
            _ => {}
        }
        started
    }

    fn plan(
        &self,
        isolation: Isolation,
        spec: &Arc<InstanceSpec>,
        runtime: &Runtime,
    ) -> Result<Launch, StartFailure> {
        let now = std::time::Instant::now();
        if let Some(launch) = self.plans.fresh(now, spec) {
            return Ok(launch);
        }
        let launch = Launch::plan(&self.settings, isolation, spec, runtime.clone(), &self.outside, None)?;
        // Whether what is made in training is there may change with each start.
        if launch.trained.is_none() {
            self.plans.keep(now, spec, &launch);
        }
        Ok(launch)
    }

    fn trainer(&self, isolation: Isolation) -> &Trainer {
        self.trainer.get_or_init(|| {
            let (spawner, outside) = (self.spawner.clone(), self.outside.clone());
            Trainer::new(self.settings.clone(), isolation, spawner, outside, Arc::downgrade(&self.stems))
        })
    }

    async fn start_planned(
        &self,
        launch: Launch,
        jvm: Option<Jvm>,
        spec: Arc<InstanceSpec>,
        log: Log,
        until: Instant,
        laps: &mut Laps,
    ) -> Result<Arc<dyn Instance>, Unready> {
        let (logs, stream) = log.clone();
        let own = launch.own_program;
        let own_network = launch.sandbox().has_own_network();
        let ahead = if launch.learns() { self.learning.advice(&spec) } else { learning::Ahead::Nothing };
        let mut variables = launch.variables(&spec, &stream);
        let learns = matches!(ahead, learning::Ahead::Learn);
        if learns {
            variables.push((LEARN.to_owned(), "1".to_owned()));
        }
        let learner = || -> Option<Learner> {
            let (learning, spec) = (self.learning.clone(), spec.clone());
            learns.then(|| Box::new(move |told: &[u8]| learning.told(&spec, told)) as Learner)
        };
        if let Some((stem, told)) = by(until, self.stem(&launch, &variables, &ahead, &log)).await? {
            let Stem { process, framed, made } = stem;
            laps.sandboxed(Some(made));
            process.tell_imports(learner());
            let started = ready(process, framed, &spec, until, laps).await;
            if !never_began(&started, &told) {
                return started;
            }
        }
        let (output, lines) = Output::new(logs, stream.clone()).map_err(machine)?;
        match launch.protocol {
            Protocol::Frames => {
                let (framed, pipes) = Framed::pair().map_err(machine)?;
                let program = launch.program(variables, None, lines);
                let process =
                    self.run(Program { transport: Some(pipes), ..program }, own, output, until, laps).await?;
                process.tell_imports(learner());
                laps.tells_loading = true;
                ready(process, framed, &spec, until, laps).await
            }
            Protocol::Wrapped => {
                let (framed, pipes) = Framed::pair().map_err(machine)?;
                let mut api = RuntimeApi::of(&spec, &self.outside, own_network).await.map_err(machine)?;
                let (contact, runtime_api) = (Some(api.contact()), own_network.then(|| api.address()));
                let program = launch.program(variables, contact, lines);
                let program = Program { transport: Some(pipes), runtime_api, ..program };
                let process = self.run(program, own, output, until, laps).await?;
                api.serve_in(&process).map_err(machine)?;
                ready(process, Wrapped::new(framed, api), &spec, until, laps).await
            }
            Protocol::Http => {
                let http = match own_network {
                    true => HttpProgram::at(self.outside.inside(network::WEB_PROGRAM)),
                    false => HttpProgram::on_a_free_port().map_err(machine)?,
                };
                let contact = ("PORT", http.port().to_string());
                let program = launch.program(variables, Some(contact), lines);
                let process = self.run(program, own, output, until, laps).await?;
                ready(process, http, &spec, until, laps).await
            }
            Protocol::RuntimeApi => {
                if let Some(jvm) = &jvm {
                    let mut api = RuntimeApi::of(&spec, &self.outside, own_network).await.map_err(machine)?;
                    let taken = self.jvm(&launch, jvm, &variables, &mut api, &log);
                    if let Some((stem, told)) = by(until, taken).await? {
                        laps.sandboxed(Some(stem.made));
                        let started = ready(stem.process, api, &spec, until, laps).await;
                        if !never_began(&started, &told) {
                            return started;
                        }
                    }
                }
                let mut api = RuntimeApi::of(&spec, &self.outside, own_network).await.map_err(machine)?;
                let (contact, runtime_api) = (Some(api.contact()), own_network.then(|| api.address()));
                let program = launch.program(variables, contact, lines);
                let process = self.run(Program { runtime_api, ..program }, own, output, until, laps).await?;
                api.serve_in(&process).map_err(machine)?;
                ready(process, api, &spec, until, laps).await
            }
        }
    }

    /// A waiting JVM of this kind, on its way to be this instance, which finds its Runtime API at `api`.
    async fn jvm(
        &self,
        launch: &Launch,
        jvm: &Jvm,
        variables: &[(String, String)],
        api: &mut RuntimeApi,
        (logs, stream): &Log,
    ) -> Option<(Stem, Introduction)> {
        let stem = self.stems.take(&launch.jvm_recipe(jvm, variables, api.address())).await?;
        let (name, address) = api.contact();
        let mut variables = variables.to_vec();
        variables.push((name.to_owned(), address));
        let become_instance = async || {
            let mut stem = stem.dress(&self.spawner, launch.sandbox().clone()).await?;
            api.serve_in(&stem.process).map_err(NotStarted::at("listen for the runtime"))?;
            stem.process.output.belong_to(logs.clone(), stream.clone());
            let told = stem.introduce(&variables, &jvm.then).await?;
            Ok((stem, told))
        };
        self.became(become_instance().await)
    }

    /// A runtime that was booted ahead of need, on its way to be this instance.
    async fn stem(
        &self,
        launch: &Launch,
        variables: &[(String, String)],
        ahead: &learning::Ahead,
        (logs, stream): &Log,
    ) -> Option<(Stem, Introduction)> {
        let mut stem = None;
        if let learning::Ahead::Import(imports) = ahead {
            stem = self.stems.take(&launch.recipe(variables, imports.clone())?).await;
        }
        if stem.is_none() {
            stem = self.stems.take(&launch.recipe(variables, Arc::new([]))?).await;
        }
        let become_instance = async |stem: Stem| {
            let mut stem = stem.dress(&self.spawner, launch.sandbox().clone()).await?;
            stem.process.output.belong_to(logs.clone(), stream.clone());
            let told = stem.introduce(variables, "").await?;
            Ok((stem, told))
        };
        self.became(become_instance(stem?).await)
    }

    /// Counts a stem that became an instance; of one that could not, says why.
    fn became(&self, stem: Result<(Stem, Introduction), NotStarted>) -> Option<(Stem, Introduction)> {
        match stem {
            Ok(introduced) => {
                self.stems.used();
                Some(introduced)
            }
            Err(error) => {
                tracing::warn!(%error, "a waiting runtime could not become an instance; starting another");
                None
            }
        }
    }

    /// Starts `program`, which may be the function's own.
    async fn run(
        &self,
        program: Program,
        own: bool,
        output: Arc<Output>,
        until: Instant,
        laps: &mut Laps,
    ) -> Result<Process, Unready> {
        let what = program.argv[0].to_string_lossy().into_owned();
        let child = by(until, self.spawner.spawn(program)).await?;
        let child = child.map_err(|error| not_started(&what, own, &error))?;
        laps.sandboxed(None);
        Ok(Process::new(child, output))
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
            let _under_way = self.lull.start();
            let until = began + spec.init_timeout;
            let mut laps = Laps::default();
            let begun = self.begin(spec, stream, logs, until, &mut laps).await;
            let phases = laps.between(began, Instant::now());
            match begun {
                Ok(instance) => Ok(Started { instance, phases }),
                Err(unready) => Err(Unready { phases, ..unready }),
            }
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

    fn kept(&self) -> MiB {
        self.stems.memory()
    }

    fn give_up(&self) {
        self.stems.give_up();
    }

    fn pages_out(&self) -> bool {
        self.enforced.memory && has_swap()
    }

    fn descriptors(&self, spec: &InstanceSpec) -> u32 {
        /// Its output, its first process and the socket to that; the alarm for its memory; in its own network the two
        /// doors, Brooklet's API, and what answers for the name server.
        const ANY: u32 = 3 + 1 + 2 + 1 + 1;
        let any = ANY + self.settings.endpoints.len() as u32;
        let protocol = wanted(&spec.runtime).map(|wanted| Protocol::of(&wanted, spec));
        match protocol {
            Some(Protocol::Frames) => any + 2,
            Some(Protocol::Http) => any + spec.concurrency,
            // Its endpoint and the connections to it.
            Some(Protocol::RuntimeApi) | None => any + 1 + OWN_CONNECTIONS,
            Some(Protocol::Wrapped) => any + 2 + 1 + OWN_CONNECTIONS,
        }
    }
}

/// Whether this machine has somewhere to put memory.
fn has_swap() -> bool {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("SwapTotal:"));
    total.is_some_and(|kib| kib.trim() != "0 kB")
}

/// Whether a start that went like this is to be followed by a training run.
fn pays(trained: &Trained, laps: &Laps) -> bool {
    let began = laps.loading.get().copied().or(laps.sandboxed.map(Instant::into_std));
    match trained {
        Trained::Classes(_) => true,
        Trained::Code(_) => began.is_some_and(|at| policy::training::pays(at.elapsed())),
    }
}

/// When a start had come how far.
#[derive(Default)]
struct Laps {
    sandboxed: Option<Instant>,
    /// Whether its runtime says when it is about to load the function …
    tells_loading: bool,
    /// … and when that was.
    loading: Arc<OnceLock<std::time::Instant>>,
    used: Option<MadeAhead>,
}

impl Laps {
    fn sandboxed(&mut self, used: Option<MadeAhead>) {
        *self = Laps { sandboxed: Some(Instant::now()), used, ..Laps::default() };
    }

    /// What the time of a start went into that ended, well or not, at `end`.
    fn between(&self, began: Instant, end: Instant) -> Phases {
        let used = self.used;
        let Some(sandboxed) = self.sandboxed else {
            return Phases { sandbox: end - began, ..Phases::default() };
        };
        let (sandbox, rest) = (sandboxed - began, end - sandboxed);
        let (runtime, init) = match self.loading.get() {
            // It had booted before.
            _ if used.is_some() => (Some(Duration::ZERO), Some(rest)),
            Some(at) => {
                let runtime = at.saturating_duration_since(sandboxed.into_std()).min(rest);
                (Some(runtime), Some(rest - runtime))
            }
            None if self.tells_loading => (Some(rest), None),
            None => (None, Some(rest)),
        };
        Phases { sandbox, runtime, init, used }
    }
}

/// Waits until the process is ready.
async fn ready<T: Transport>(
    process: Process,
    transport: T,
    spec: &InstanceSpec,
    until: Instant,
    laps: &mut Laps,
) -> Result<Arc<dyn Instance>, Unready> {
    process.child.group().belong_to(spec.function.as_str().into());
    laps.loading = process.loading();
    Ok(Arc::new(Running::init(process, transport, spec.timeout, until).await?))
}

/// Whether this start came to nothing because the runtime ended while it waited: whatever ended it, the function did not.
fn never_began<T>(started: &Result<T, Unready>, told: &Introduction) -> bool {
    let ended = matches!(started, Err(Unready { failure: StartFailure::Exited(_), .. }));
    let never = ended && !told.was_read();
    if never {
        tracing::warn!("a waiting runtime ended before it had heard of its function; starting another");
    }
    never
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
