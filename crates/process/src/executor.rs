//! Create → init: finds the interpreter, plans the sandbox, starts the process and waits until it is ready.

use crate::argv::{argv, is_method};
use crate::bootstraps;
use crate::child::Child;
use crate::environment::{Places, environment};
use crate::framed::Framed;
use crate::http_program::{HttpProgram, free_port};
use crate::instance::Process;
use crate::interpreter::{Found, Wanted, find, wanted};
use crate::output::Output;
use crate::runtime_api::Endpoint;
use crate::sandbox::{Bind, Isolation, Sandbox, View};
use crate::sessions::{Sessions, Stragglers, end_all_that_see};
use crate::spawner::{Program, Spawner};
use ports::{BoxFuture, Executor, Instance, InstanceSpec, LogSink, StartFailure, Started};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

/// How a [`ProcessExecutor`] is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A folder of the server's own for bootstraps and mount points; emptied by nobody else.
    pub run_dir: PathBuf,
    /// Where `brooklet runtimes install` puts SDKs and runtime clients.
    pub runtimes_dir: PathBuf,
    /// The strongest isolation to use; weaker when the machine does not allow it.
    pub isolation: Isolation,
}

/// Runs functions as processes of this machine.
pub struct ProcessExecutor {
    settings: Settings,
    spawner: Spawner,
    sessions: Sessions,
    stragglers: Stragglers,
    isolation: OnceLock<Isolation>,
    found: Mutex<HashMap<String, Result<Option<Found>, String>>>,
}

/// What one function version needs, worked out for each start.
struct Launch {
    wanted: Wanted,
    places: Places,
    sandbox: Sandbox,
    argv: Vec<OsString>,
    sdk: Option<String>,
    variables: &'static [(&'static str, &'static str)],
}

impl ProcessExecutor {
    /// Writes the bootstraps into the run folder. Interpreters are looked for when they are first needed.
    pub fn new(settings: Settings) -> io::Result<ProcessExecutor> {
        bootstraps::lay_out(&settings.run_dir)?;
        let (sessions, left) = Sessions::open(settings.run_dir.join("sessions"))?;
        let left = left + end_all_that_see(&settings.run_dir.join("runtime"));
        if left > 0 {
            tracing::info!(processes = left, "ended what an earlier server had left running");
        }
        let spawner = Spawner::new(2);
        Ok(ProcessExecutor {
            settings,
            spawner,
            sessions,
            stragglers: Stragglers::new(),
            isolation: OnceLock::new(),
            found: Mutex::default(),
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
            binds: &[],
            tmp_mib: 1,
        };
        let (_reader, output) = io::pipe()?;
        let pid = self
            .spawner
            .spawn(Program {
                sandbox: Arc::new(Sandbox::plan(&view)?),
                argv: vec!["/bin/true".into()],
                environment: Vec::new(),
                transport: None,
                output: OwnedFd::from(output),
            })
            .await?;
        match Child::adopt(pid)?.exited().await {
            ports::Exit::Status(0) => Ok(()),
            exit => Err(io::Error::other(format!("a trial process ended with {exit}"))),
        }
    }

    fn interpreter(&self, runtime: &str) -> Result<(Wanted, Option<Found>), String> {
        let wanted =
            wanted(runtime).ok_or_else(|| format!("Brooklet does not run the runtime {runtime}."))?;
        let mut cache = self.found.lock().expect("no panic while held");
        let found = match cache.get(runtime) {
            // What was missing may have been installed since.
            Some(Ok(found)) => Ok(found.clone()),
            _ => find(&wanted),
        };
        let runtime_dir = self.settings.run_dir.join("runtime");
        match (&wanted, &found) {
            (Wanted::Python(_), Ok(Some(python))) if !cache.contains_key(runtime) => {
                bootstraps::compile_python(&runtime_dir, python);
            }
            (Wanted::Dotnet, Ok(Some(_))) => bootstraps::build_dotnet(&runtime_dir)?,
            _ => {}
        }
        cache.insert(runtime.to_owned(), found.clone());
        Ok((wanted, found?))
    }

    async fn launch(&self, spec: &InstanceSpec) -> Result<Launch, StartFailure> {
        let isolation = self.isolation().await;
        let (wanted, found) = self.interpreter(&spec.runtime).map_err(StartFailure::Machine)?;
        let runtime_dir = self.settings.run_dir.join("runtime");
        let places = match isolation {
            Isolation::None => {
                let tmp = self.settings.run_dir.join("tmp");
                std::fs::create_dir_all(&tmp).map_err(machine)?;
                let text = |path: &Path| path.to_string_lossy().into_owned();
                Places { task: text(&spec.code_dir), runtime: text(&runtime_dir), tmp: Some(text(&tmp)) }
            }
            _ => Places { task: "/var/task".into(), runtime: "/var/runtime".into(), tmp: None },
        };
        let mut binds = found.as_ref().map(Found::binds).unwrap_or_default();
        binds.push(Bind { source: runtime_dir, target: "/var/runtime".into() });
        for file in ["passwd", "group"] {
            let source = self.settings.run_dir.join("etc").join(file);
            binds.push(Bind { source, target: Path::new("/etc").join(file) });
        }
        let sdk = self.sdk(&wanted).filter(|path| path.is_dir()).map(|path| {
            // Under its own name: Node.js finds what a package needs only in a folder called node_modules.
            let target = Path::new("/var/sdk").join(path.file_name().unwrap_or_default());
            binds.push(Bind { source: path.clone(), target: target.clone() });
            if isolation == Isolation::None { path } else { target }
        });
        let sdk = sdk.map(|path| path.to_string_lossy().into_owned());
        let argv = argv(spec, &wanted, found.as_ref(), &places, sdk.as_deref())?;
        let view = View {
            isolation,
            root: &self.settings.run_dir.join("root"),
            code: &spec.code_dir,
            layers: &spec.layer_dirs,
            binds: &binds,
            tmp_mib: spec.ephemeral_storage.0,
        };
        let sandbox = Sandbox::plan(&view).map_err(machine)?;
        let variables = found.as_ref().map(Found::variables).unwrap_or_default();
        Ok(Launch { wanted, places, sandbox, argv, sdk, variables })
    }

    /// Where `brooklet runtimes install` puts what a managed runtime carries.
    fn sdk(&self, wanted: &Wanted) -> Option<PathBuf> {
        let dir = &self.settings.runtimes_dir;
        match wanted {
            Wanted::Python(_) => Some(dir.join("python/site-packages")),
            Wanted::Node(_) => Some(dir.join("node/node_modules")),
            Wanted::Java(_) => Some(dir.join("java/lib")),
            Wanted::Dotnet => Some(dir.join("dotnet")),
            Wanted::Provided | Wanted::Http => None,
        }
    }

    async fn begin(
        &self,
        spec: Arc<InstanceSpec>,
        stream: Arc<str>,
        logs: Arc<dyn LogSink>,
    ) -> Result<Arc<dyn Instance>, StartFailure> {
        let launch = self.launch(&spec).await?;
        let (output, writer) = Output::new(logs, stream.clone()).map_err(machine)?;
        match launch.wanted {
            _ if speaks_frames(&launch.wanted, &spec.handler) => {
                let (ours, theirs) = tokio::net::UnixStream::pair().map_err(machine)?;
                let theirs = theirs.into_std().map_err(machine)?;
                theirs.set_nonblocking(false).map_err(machine)?;
                let mut environment = environment(&spec, &launch.wanted, &launch.places, None, &stream);
                if let Some(sdk) = &launch.sdk {
                    environment.push(("BROOKLET_SDK_PATH".into(), sdk.clone()));
                }
                let process = self.process(launch, environment, Some(theirs.into()), output, writer).await?;
                Ok(Arc::new(Framed::init(process, ours, spec.timeout).await?))
            }
            Wanted::Http => {
                let port = free_port().map_err(machine)?;
                let mut environment = environment(&spec, &launch.wanted, &launch.places, None, &stream);
                environment.push(("PORT".into(), port.to_string()));
                let process = self.process(launch, environment, None, output, writer).await?;
                Ok(Arc::new(HttpProgram::init(process, port, spec.timeout).await?))
            }
            _ => {
                let version = spec.version.to_string();
                let endpoint =
                    Endpoint::open(&spec.function, &version, &spec.handler).await.map_err(machine)?;
                let address = endpoint.address();
                let environment = environment(&spec, &launch.wanted, &launch.places, Some(&address), &stream);
                let process = self.process(launch, environment, None, output, writer).await?;
                Ok(Arc::new(endpoint.init(process, spec.timeout).await?))
            }
        }
    }

    async fn process(
        &self,
        launch: Launch,
        mut environment: Vec<(String, String)>,
        transport: Option<OwnedFd>,
        output: Arc<Output>,
        writer: OwnedFd,
    ) -> Result<Process, StartFailure> {
        let own = launch.variables.iter().filter(|(key, _)| !environment.iter().any(|(k, _)| k == key));
        let own: Vec<_> = own.map(|(key, value)| (key.to_string(), value.to_string())).collect();
        environment.extend(own);
        let program = Program {
            sandbox: Arc::new(launch.sandbox),
            argv: launch.argv,
            environment,
            transport,
            output: writer,
        };
        let what = program.argv[0].to_string_lossy().into_owned();
        let pid = self.spawner.spawn(program).await.map_err(|error| not_started(&what, &error))?;
        let (mark, straggling) = (self.sessions.mark(pid).ok(), self.stragglers.of(pid));
        Ok(Process::new(Child::adopt(pid).map_err(machine)?, output, mark, straggling))
    }
}

impl Drop for ProcessExecutor {
    /// With the server goes everything that its functions started.
    fn drop(&mut self) {
        end_all_that_see(&self.settings.run_dir.join("runtime"));
    }
}

impl Executor for ProcessExecutor {
    fn start(
        &self,
        spec: Arc<InstanceSpec>,
        stream: Arc<str>,
        logs: Arc<dyn LogSink>,
    ) -> BoxFuture<'_, Result<Started, StartFailure>> {
        Box::pin(async move {
            let began = Instant::now();
            let timeout = spec.init_timeout;
            let instance = tokio::time::timeout(timeout, self.begin(spec, stream, logs))
                .await
                .map_err(|_| StartFailure::TimedOut)??;
            Ok(Started { instance, init: began.elapsed() })
        })
    }

    fn check(&self, runtime: &str) -> Result<(), String> {
        self.interpreter(runtime).map(drop)
    }
}

/// Whether one of our bootstraps runs it.
fn speaks_frames(wanted: &Wanted, handler: &str) -> bool {
    match wanted {
        Wanted::Python(_) | Wanted::Node(_) => true,
        Wanted::Dotnet => is_method(handler),
        Wanted::Java(_) | Wanted::Provided | Wanted::Http => false,
    }
}

/// A program that could not be executed is the function's mistake when it is the package's own.
fn not_started(program: &str, error: &io::Error) -> StartFailure {
    let own = program.contains("/bootstrap") && !program.contains("/var/runtime/");
    match (own, error.kind()) {
        (true, io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) | (true, io::ErrorKind::Other) => {
            let json = serde_json::json!({
                "errorType": "Runtime.InvalidEntrypoint",
                "errorMessage": format!(
                    "fork/exec {program}: {error}. Is it executable, and is its interpreter (the #! line) or \
                     architecture one that this machine has?"
                ),
            });
            StartFailure::Init(json.to_string().into())
        }
        _ => StartFailure::Machine(format!("{program} could not be started: {error}")),
    }
}

fn machine(error: io::Error) -> StartFailure {
    StartFailure::Machine(format!("an instance could not be made: {error}"))
}
