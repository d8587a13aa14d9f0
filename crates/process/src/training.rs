//! Training runs: a JVM starts a function once more, in a sandbox of its own and with no event, and leaves a
//! class-data archive behind when it ends. Or it starts nobody's function, for JVMs that are to wait.
//!
//! Off the path of every request: after a version's first start, one run at a time, at the lowest priority. A run
//! that fails costs a line in the server's log, and its archive is not tried again while the server runs.

use crate::class_archive::{ARCHIVE, Archive, clear, space_taken};
use crate::executor::Settings;
use crate::instance::{Process, Transport};
use crate::jvms::{self, Jvm};
use crate::launch::{JAVA_SDK, Launch, Training};
use crate::network::Outside;
use crate::output::Output;
use crate::runtime_api::RuntimeApi;
use crate::runtimes::Runtime;
use crate::sandbox::Isolation;
use crate::spawner::{Program, Spawner};
use crate::stems::{Recipe, Stems};
use model::MiB;
use ports::{InstanceSpec, LogEvent, LogSink};
use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::mpsc;

/// Runs that may wait for their turn; who finds no place asks again with a later start.
const WAITING: usize = 32;
/// The function's first events come first.
const SETTLE: Duration = Duration::from_secs(1);
/// From the start until the function would take an event, at the lowest priority.
const INIT: Duration = Duration::from_secs(120);
/// For writing the archive.
const DUMP: Duration = Duration::from_secs(120);
/// All archives of a server together take about this much disk space, in bytes.
const MAX_SPACE: u64 = 4 << 30;
/// One archive, in bytes: twenty times a small function's.
const MAX_SIZE: u64 = 512 << 20;
/// Archives that are known not to work; with more, all are tried again.
const MAX_REFUSED: usize = 1024;

/// Where the JVM writes, which is gone with its sandbox: the shell hands the file over.
pub const DUMPED: &str = "/tmp/brooklet-class-archive";
/// Descriptor 3 leads to the server. SIGTERM ends the JVM as it ends by itself, with its last words.
pub const SCRIPT: &str = r#"nice -n 19 "$@" 3>&- 4>&- &
jvm=$!
trap 'kill -TERM $jvm' TERM
wait $jvm
while kill -0 $jvm 2>/dev/null; do wait $jvm; done
exec cat "$ARCHIVE" >&3"#;

/// What to do: one archive.
pub struct Wanted {
    /// The function.
    pub spec: Arc<InstanceSpec>,
    /// Its JVM.
    pub runtime: Runtime,
    /// What will be made.
    pub archive: Made,
}

/// What a run makes.
pub enum Made {
    /// An archive of the function.
    OfFunction(Archive),
    /// One of JVMs that wait for a function like it, the first of which is booted then.
    OfWaiting(Jvm, Recipe),
}

impl Made {
    fn dir(&self) -> &Path {
        match self {
            Made::OfFunction(archive) => archive.dir(),
            Made::OfWaiting(jvm, _) => &jvm.dir,
        }
    }
}

/// The training runs of one server.
pub struct Trainer {
    queue: mpsc::Sender<Wanted>,
    /// Archives that are waited for, or not to be tried again.
    known: Arc<Mutex<Known>>,
    worker: tokio::task::AbortHandle,
}

#[derive(Default)]
struct Known {
    wanted: HashSet<PathBuf>,
    refused: HashSet<PathBuf>,
}

impl Trainer {
    /// Must be called within a tokio runtime.
    pub fn new(
        settings: Settings,
        isolation: Isolation,
        spawner: Arc<Spawner>,
        outside: Arc<Outside>,
        stems: Weak<Stems>,
    ) -> Trainer {
        let (queue, runs) = mpsc::channel(WAITING);
        let known = Arc::<Mutex<Known>>::default();
        let work = work(Worker { settings, isolation, spawner, outside, stems }, runs, known.clone());
        Trainer { queue, known, worker: tokio::spawn(work).abort_handle() }
    }

    /// Has an archive made, unless that is under way or in vain.
    pub fn want(&self, wanted: Wanted) {
        let mut known = self.known.lock().expect("no panic while held");
        let dir = wanted.archive.dir().to_owned();
        if known.refused.contains(&dir) || known.wanted.contains(&dir) {
            return;
        }
        if self.queue.try_send(wanted).is_ok() {
            known.wanted.insert(dir);
        }
    }

    /// A JVM has crashed with it: it is removed, and not made again.
    pub fn distrust(&self, archive: &Archive) {
        tracing::warn!(dir = %archive.dir().display(), "a JVM crashed with a class-data archive; going on without");
        self.known.lock().expect("no panic while held").refuse(archive.dir().to_owned());
        archive.remove();
    }
}

impl Known {
    fn refuse(&mut self, dir: PathBuf) {
        if self.refused.len() >= MAX_REFUSED {
            self.refused.clear();
        }
        self.refused.insert(dir);
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

struct Worker {
    settings: Settings,
    isolation: Isolation,
    spawner: Arc<Spawner>,
    outside: Arc<Outside>,
    stems: Weak<Stems>,
}

async fn work(worker: Worker, mut runs: mpsc::Receiver<Wanted>, known: Arc<Mutex<Known>>) {
    while let Some(wanted) = runs.recv().await {
        tokio::time::sleep(SETTLE).await;
        let dir = wanted.archive.dir().to_owned();
        let Wanted { spec, runtime, archive } = wanted;
        let function = spec.function.clone();
        let made = match archive {
            Made::OfFunction(archive) => {
                let made = worker.run(spec, runtime, archive).await;
                match &made {
                    Ok(size) => tracing::info!(function, size, "a class-data archive was made"),
                    Err(why) => {
                        tracing::warn!(function, why, "no class-data archive; its cold starts go on without");
                    }
                }
                made
            }
            Made::OfWaiting(jvm, recipe) => {
                let made = worker.rehearse(spec, runtime, jvm).await;
                match &made {
                    Ok(size) => {
                        tracing::info!(size, "JVMs can wait for functions from now on");
                        if let Some(stems) = worker.stems.upgrade() {
                            stems.want(&recipe);
                        }
                    }
                    Err(why) => {
                        tracing::warn!(why, "no JVM waits for functions; their cold starts go on without");
                    }
                }
                made
            }
        };
        let mut known = known.lock().expect("no panic while held");
        known.wanted.remove(&dir);
        if made.is_err() {
            known.refuse(dir);
        }
    }
}

impl Worker {
    /// Makes an archive; its size in bytes. Nothing of the run is left, however it ends.
    async fn run(&self, spec: Arc<InstanceSpec>, runtime: Runtime, archive: Archive) -> Result<u64, String> {
        let staging = self.settings.run_dir.join("training");
        let plan = {
            let (settings, isolation, outside) =
                (self.settings.clone(), self.isolation, self.outside.clone());
            let (spec, staging, archive) = (spec.clone(), staging.clone(), archive.clone());
            move || {
                let packages = spec.code_dir.parent().unwrap_or(&spec.code_dir);
                if space_taken(packages) > MAX_SPACE {
                    return Err(format!("the archives of all functions take {MAX_SPACE} bytes"));
                }
                let staged =
                    Launch::stage(&settings, &archive, &staging, &spec).map_err(|e| e.to_string())?;
                let training = Training { archive: &archive, staged: &staged };
                let launch = Launch::plan(&settings, isolation, &spec, runtime, &outside, Some(training));
                launch.map(|launch| (launch, staged)).map_err(|failure| format!("{failure:?}"))
            }
        };
        let outcome = match tokio::task::spawn_blocking(plan).await.map_err(|error| error.to_string())? {
            Ok((launch, staged)) => {
                let file = staged.archive.try_clone().map_err(|error| error.to_string())?;
                match self.train(&spec, launch, file).await {
                    Ok(()) => tokio::task::spawn_blocking(move || archive.publish(&staged))
                        .await
                        .map_err(|error| error.to_string())?
                        .map_err(|error| error.to_string()),
                    Err(why) => Err(why),
                }
            }
            Err(why) => Err(why),
        };
        let _ = tokio::task::spawn_blocking(move || clear(&staging)).await;
        outcome
    }

    /// Has the launcher play a start through, and makes the archive with which such JVMs boot; its size in bytes.
    async fn rehearse(&self, spec: Arc<InstanceSpec>, runtime: Runtime, jvm: Jvm) -> Result<u64, String> {
        let staging = self.settings.run_dir.join("training");
        let plan = {
            let (settings, isolation) = (self.settings.clone(), self.isolation);
            let (outside, staging) = (self.outside.clone(), staging.clone());
            move || {
                let text = |error: std::io::Error| error.to_string();
                let runtime_dir = settings.run_dir.join("runtime");
                let found = runtime.found.as_ref().ok_or("there is no JVM")?;
                let installed = settings.runtimes_dir.join(JAVA_SDK);
                jvms::compile(&runtime_dir, found, &installed)?;
                // Nobody's function, which has nothing.
                let (environment, layer_dirs, network) = (BTreeMap::new(), Vec::new(), None);
                let memory = spec.memory.max(MiB(512));
                let spec = InstanceSpec {
                    code_dir: runtime_dir,
                    environment,
                    layer_dirs,
                    network,
                    memory,
                    ephemeral_storage: MiB(512),
                    ..(*spec).clone()
                };
                let launch = Launch::plan(&settings, isolation, &spec, runtime, &outside, None)
                    .map_err(|failure| format!("{failure:?}"))?;
                clear(&staging).map_err(text)?;
                std::fs::create_dir_all(&staging).map_err(text)?;
                let file = std::fs::File::create_new(staging.join(ARCHIVE)).map_err(text)?;
                jvm.prepare(&installed).map_err(text)?;
                Ok::<_, String>((launch, spec, jvm, file))
            }
        };
        let planned = tokio::task::spawn_blocking(plan).await.map_err(|error| error.to_string())?;
        let made = async {
            let (launch, spec, jvm, file) = planned?;
            let filled = file.try_clone().map_err(|error| error.to_string())?;
            self.leave_archive(|output| launch.rehearsal(&jvm, &spec, output), filled).await?;
            let archive = staging.join(ARCHIVE);
            let publish = move || jvm.publish(&archive);
            let published = tokio::task::spawn_blocking(publish).await.map_err(|error| error.to_string())?;
            published.map_err(|error| error.to_string())
        };
        let made = made.await;
        let _ = tokio::task::spawn_blocking(move || clear(&staging)).await;
        made
    }

    /// Runs a program that ends by itself and leaves an archive.
    async fn leave_archive(
        &self,
        program: impl FnOnce(OwnedFd) -> Program,
        file: std::fs::File,
    ) -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        let last = Arc::new(LastLine::default());
        let (output, lines) = Output::new(last.clone(), "training".into()).map_err(text)?;
        let (archive, writer) = std::io::pipe().map_err(text)?;
        let other = writer.try_clone().map_err(text)?;
        let program = Program { transport: Some([writer.into(), other.into()]), ..program(lines) };
        let child = self.spawner.spawn(program).await.map_err(|error| error.to_string())?;
        let process = Process::new(child, output);
        let copied = tokio::task::spawn_blocking(move || copy(archive, &file));
        let exit = tokio::time::timeout(INIT + DUMP, process.child.exited()).await;
        process.output.finish();
        match exit {
            Ok(ports::Exit::Status(0)) => copied.await.map_err(|error| error.to_string())?,
            exit => Err(format!("the JVM left no archive ({exit:?}): {}", last.text())),
        }
    }

    /// Starts the function, and ends it when it would take an event.
    async fn train(&self, spec: &InstanceSpec, launch: Launch, file: std::fs::File) -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        let last = Arc::new(LastLine::default());
        let (output, lines) = Output::new(last.clone(), "training".into()).map_err(text)?;
        let own_network = launch.sandbox().has_own_network();
        let mut api = RuntimeApi::of(spec, &self.outside, own_network).await.map_err(text)?;
        let mut variables = launch.variables(spec, "training");
        // For initialisers that must not run for nothing.
        variables.push(("BROOKLET_TRAINING".into(), "class-data-archive".into()));
        variables.push(("ARCHIVE".into(), DUMPED.into()));
        let runtime_api = own_network.then(|| api.address());
        let program = launch.program(variables, Some(api.contact()), lines);
        let (archive, writer) = std::io::pipe().map_err(text)?;
        let other = writer.try_clone().map_err(text)?;
        let program = Program { transport: Some([writer.into(), other.into()]), runtime_api, ..program };
        let child = self.spawner.spawn(program).await.map_err(|error| error.to_string())?;
        let process = Process::new(child, output);
        api.serve_in(&process).map_err(text)?;
        // Ends with the sandbox at the latest.
        let copied = tokio::task::spawn_blocking(move || copy(archive, &file));
        let ready = tokio::time::timeout(INIT, api.ready(&process)).await;
        ready
            .map_err(|_| "it was not ready in time".to_owned())?
            .map_err(|failure| format!("it did not start: {failure:?} {}", last.text()))?;
        process.child.stop(DUMP).await;
        process.output.finish();
        match process.child.try_exit() {
            Some(ports::Exit::Status(0)) => copied.await.map_err(|error| error.to_string())?,
            exit => Err(format!("the JVM left none ({exit:?}): {}", last.text())),
        }
    }
}

/// A pipe and not the file is in the sandbox: whoever writes there without end fills no disk.
fn copy(archive: std::io::PipeReader, mut file: &std::fs::File) -> Result<(), String> {
    let copied =
        std::io::copy(&mut archive.take(MAX_SIZE + 1), &mut file).map_err(|error| error.to_string())?;
    match copied {
        0..=MAX_SIZE => Ok(()),
        _ => Err(format!("it is larger than {MAX_SIZE} bytes")),
    }
}

/// The last line of a run that nobody else listens to.
#[derive(Default)]
struct LastLine(Mutex<String>);

impl LastLine {
    fn text(&self) -> String {
        self.0.lock().expect("no panic while held").clone()
    }
}

impl LogSink for LastLine {
    fn write(&self, event: LogEvent) {
        let line = String::from_utf8_lossy(&event.message).chars().take(500).collect::<String>();
        tracing::debug!(line, "a training run wrote");
        *self.0.lock().expect("no panic while held") = line;
    }
}
