//! Create → init: finds the interpreter, plans the sandbox, starts the process and waits until it is ready.

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

macro_rules! embedded {
    ($($path:literal)*) => { &[$(($path, include_str!(concat!("../bootstraps/", $path)))),*] };
}

/// Our bootstraps, as they are materialised for the sandboxes' `/var/runtime`.
const BOOTSTRAPS: &[(&str, &str)] = embedded! {
    "python/bootstrap.py" "python/_brooklet/__init__.py" "python/_brooklet/codec.py"
    "python/_brooklet/context.py" "python/_brooklet/faults.py" "python/_brooklet/frames.py"
    "python/_brooklet/records.py"
    "node/bootstrap.js" "node/console.js" "node/errors.js" "node/frames.js" "node/loader.js"
    "node/packages.js" "node/streaming.js"
    "dotnet/Bootstrap.cs" "dotnet/Bootstrap.runtimeconfig.json" "dotnet/Context.cs" "dotnet/Faults.cs"
    "dotnet/Frames.cs" "dotnet/Handler.cs" "dotnet/Json.cs" "dotnet/Log.cs"
};

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
        lay_out_bootstraps(&settings.run_dir.join("runtime"))?;
        std::fs::create_dir_all(settings.run_dir.join("root"))?;
        let etc = settings.run_dir.join("etc");
        std::fs::create_dir_all(&etc)?;
        std::fs::write(etc.join("passwd"), PASSWD)?;
        std::fs::write(etc.join("group"), GROUP)?;
        open_to_all(&settings.run_dir)?;
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
        match (&wanted, &found) {
            (Wanted::Python(_), Ok(Some(python))) if !cache.contains_key(runtime) => self.compile(python),
            (Wanted::Dotnet, Ok(Some(_))) => self.build_dotnet_bootstrap()?,
            _ => {}
        }
        cache.insert(runtime.to_owned(), found.clone());
        Ok((wanted, found?))
    }

    /// Compiles our bootstrap once per interpreter: otherwise every cold start would. Without it they still work.
    fn compile(&self, python: &Found) {
        let folder = self.settings.run_dir.join("runtime/python");
        let options = ["-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"];
        let done = std::process::Command::new(&python.program).args(options).arg(&folder).output();
        if let Err(error) = done.and_then(|_| open_to_all(&folder)) {
            tracing::warn!(%error, "the Python bootstrap could not be compiled");
        }
    }

    /// Builds our .NET bootstrap, once: it runs on Mono and on every .NET from Core 3.1 on.
    fn build_dotnet_bootstrap(&self) -> Result<(), String> {
        let folder = self.settings.run_dir.join("runtime/dotnet");
        if folder.join("Bootstrap.dll").exists() {
            return Ok(());
        }
        let sources = BOOTSTRAPS.iter().filter_map(|(path, _)| path.strip_prefix("dotnet/"));
        let output = std::process::Command::new("mcs")
            .args(["-unsafe", "-optimize+", "-langversion:7", "-out:Bootstrap.dll"])
            .args(sources.filter(|path| path.ends_with(".cs")))
            .current_dir(&folder)
            .output();
        match output {
            Ok(output) if output.status.success() => open_to_all(&folder).map_err(|error| error.to_string()),
            Ok(output) => Err(format!(
                "The .NET bootstrap could not be built: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
            Err(error) => Err(format!(
                "The .NET bootstrap is built by Mono's compiler, which could not be run ({error}). Install `mcs` \
                 (Debian: `apt-get install mono-mcs`); it is needed for the first deploy only."
            )),
        }
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

/// Program and arguments, as seen inside.
fn argv(
    spec: &InstanceSpec,
    wanted: &Wanted,
    found: Option<&Found>,
    places: &Places,
    sdk: Option<&str>,
) -> Result<Vec<OsString>, StartFailure> {
    let program = found.map(|found| found.path().into_os_string());
    let bootstrap = |file: &str| OsString::from(format!("{}/{file}", places.runtime));
    Ok(match (wanted, program) {
        (Wanted::Python(_), Some(program)) => {
            vec![program, "-s".into(), "-B".into(), bootstrap("python/bootstrap.py")]
        }
        (Wanted::Node(_), Some(program)) => {
            // Lambda leaves about a tenth of the memory to everything but V8's old generation.
            let heap = format!("--max-old-space-size={}", (spec.memory.0 * 9 / 10).max(64));
            vec![program, heap.into(), bootstrap("node/bootstrap.js")]
        }
        (Wanted::Dotnet, Some(program)) => dotnet_argv(spec, program, found, places),
        (Wanted::Java(_), Some(program)) => java_argv(spec, program, places, sdk),
        (Wanted::Http, _) if !spec.handler.is_empty() => {
            vec!["/bin/sh".into(), "-c".into(), format!("exec {}", spec.handler).into()]
        }
        (Wanted::Provided | Wanted::Http, _) => vec![own_bootstrap(spec, places)?],
        (_, None) => return Err(StartFailure::Machine(format!("no program was found for {}", spec.runtime))),
    })
}

/// Whether a .NET handler is a method (`Assembly::Type::Method`), and not a program of its own.
fn is_method(handler: &str) -> bool {
    handler.contains("::")
}

/// Whether one of our bootstraps runs it.
fn speaks_frames(wanted: &Wanted, handler: &str) -> bool {
    match wanted {
        Wanted::Python(_) | Wanted::Node(_) => true,
        Wanted::Dotnet => is_method(handler),
        Wanted::Java(_) | Wanted::Provided | Wanted::Http => false,
    }
}

fn dotnet_argv(
    spec: &InstanceSpec,
    program: OsString,
    found: Option<&Found>,
    places: &Places,
) -> Vec<OsString> {
    let own = format!("{}/dotnet/Bootstrap.dll", places.runtime);
    if !is_method(&spec.handler) {
        return vec![program, format!("{}/{}.dll", places.task, spec.handler).into()];
    }
    if found.is_some_and(|found| found.language == "mono") {
        return vec![program, own.into()];
    }
    // The package's own names the shared frameworks that the function wants.
    let assembly = spec.handler.split("::").next().unwrap_or_default();
    let config = format!("{assembly}.runtimeconfig.json");
    let config = match spec.code_dir.join(&config).is_file() {
        true => format!("{}/{config}", places.task),
        false => format!("{}/dotnet/Bootstrap.runtimeconfig.json", places.runtime),
    };
    vec![program, "exec".into(), "--runtimeconfig".into(), config.into(), own.into()]
}

/// `bootstrap` in the package, or in a layer.
fn own_bootstrap(spec: &InstanceSpec, places: &Places) -> Result<OsString, StartFailure> {
    if spec.code_dir.join("bootstrap").is_file() {
        return Ok(format!("{}/bootstrap", places.task).into());
    }
    if spec.layer_dirs.iter().any(|layer| layer.join("bootstrap").is_file()) {
        return Ok("/opt/bootstrap".into());
    }
    // Lambda's own words, so that people find them.
    let json = serde_json::json!({
        "errorType": "Runtime.InvalidEntrypoint",
        "errorMessage": format!(
            "Couldn't find valid bootstrap(s): [{0}/bootstrap /opt/bootstrap]", places.task
        ),
    });
    Err(StartFailure::Init(json.to_string().into()))
}

/// The official runtime interface client, from the package or from `brooklet runtimes install java`.
fn java_argv(spec: &InstanceSpec, program: OsString, places: &Places, sdk: Option<&str>) -> Vec<OsString> {
    let task = &places.task;
    let mut class_path = format!("{task}:{task}/lib/*");
    for entry in std::fs::read_dir(&spec.code_dir).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|e| e == "jar") {
            class_path.push_str(&format!(":{task}/{}", entry.file_name().to_string_lossy()));
        }
    }
    class_path.push_str(":/opt/java/lib/*");
    if let Some(sdk) = sdk {
        class_path.push_str(&format!(":{sdk}/*"));
    }
    let heap = format!("-Xmx{}m", (spec.memory.0 * 85 / 100).max(64));
    let fixed = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp"];
    let mut argv = vec![program, heap.into()];
    argv.extend(fixed.map(OsString::from));
    argv.extend([
        class_path.into(),
        "com.amazonaws.services.lambda.runtime.api.client.AWSLambda".into(),
        spec.handler.clone().into(),
    ]);
    argv
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

/// Writes the bootstraps unless this version's are there already. What is compiled of them goes with them.
fn lay_out_bootstraps(folder: &Path) -> io::Result<()> {
    let there =
        |(path, text): &(&str, &str)| std::fs::read(folder.join(path)).is_ok_and(|f| f == text.as_bytes());
    if BOOTSTRAPS.iter().all(there) {
        return Ok(());
    }
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for (path, text) in BOOTSTRAPS {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("it has a folder"))?;
        std::fs::write(path, text)?;
    }
    Ok(())
}

/// The function's user must be able to read the bootstraps, whatever the server's umask.
fn open_to_all(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let meta = dir.metadata()?;
    let mode = if meta.is_dir() { 0o755 } else { 0o644 };
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))?;
    if meta.is_dir() {
        for entry in std::fs::read_dir(dir)? {
            open_to_all(&entry?.path())?;
        }
    }
    Ok(())
}

const PASSWD: &str = "root:x:0:0:root:/root:/sbin/nologin\n\
                      sbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n\
                      nobody:x:65534:65534:nobody:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nsbx_user1051:x:990:\nnogroup:x:65534:\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bootstrap_file_is_embedded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bootstraps");
        let mut unlisted = Vec::new();
        let mut folders = vec![folder.join("python"), folder.join("node"), folder.join("dotnet")];
        while let Some(dir) = folders.pop() {
            for path in std::fs::read_dir(dir).expect("readable").map(|entry| entry.expect("readable").path())
            {
                let name = path.strip_prefix(&folder).expect("inside").to_string_lossy().into_owned();
                match path.is_dir() {
                    true if name.ends_with("__pycache__") => {}
                    true => folders.push(path),
                    false if BOOTSTRAPS.iter().any(|(listed, _)| *listed == name) => {}
                    false => unlisted.push(name),
                }
            }
        }
        assert_eq!(unlisted, Vec::<String>::new(), "add them to BOOTSTRAPS");
    }
}
