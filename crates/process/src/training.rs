//! Training runs: a runtime starts a function once more, in a sandbox of its own and with no event, and when it ends leaves
//! behind what the next starts need not do again: a JVM a class-data archive, Node.js a compile cache. Or a JVM starts
//! nobody's function, for those that are to wait (`rehearsal`).
//!
//! Off the path of every request: after a version's first start, one run at a time, at the lowest priority. A run
//! that fails costs a line in the server's log, and is not tried again while the server runs.

mod rehearsal; // of JVMs that are to wait

use crate::class_archive::{Archive, Staged};
use crate::compile_cache::CompileCache;
use crate::executor::Settings;
use crate::instance::{Process, Transport};
use crate::jvms::Jvm;
use crate::launch::{JAVA_SDK, Launch, Training};
use crate::network::Outside;
use crate::output::Output;
use crate::runtime_api::RuntimeApi;
use crate::runtimes::Runtime;
use crate::sandbox::{Bind, Isolation};
use crate::shelf::{clear, make_room};
use crate::spawner::{Program, Spawner};
use crate::stems::{Recipe, Stems};
use ports::{InstanceSpec, LogEvent, LogSink};
use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::mpsc;

/// Runs that may wait for their turn, of all functions and of one; who finds no place asks again with a later start.
const WAITING: usize = 32;
const WAITING_OF_ONE: usize = 4;
/// The function's first events come first.
const SETTLE: Duration = Duration::from_secs(1);
/// From the start until the function would take an event, at the lowest priority.
const INIT: Duration = Duration::from_secs(120);
/// For writing what it leaves.
const DUMP: Duration = Duration::from_secs(120);
/// What all runs of a server have left takes no more disk space than this, in bytes, once a run is over.
const MAX_SPACE: u64 = 4 << 30;
/// What one leaves, in bytes: twenty times a small Java function's.
const MAX_SIZE: u64 = 512 << 20;
/// Runs that are known not to work; with more, all are tried again.
const MAX_REFUSED: usize = 1024;

/// Where the runtime writes, which is gone with its sandbox: the shell hands the file over.
pub const DUMPED: &str = "/tmp/brooklet-training";
/// Descriptor 3 leads to the server. SIGTERM ends the JVM as it ends by itself, with its last words, and then with 143;
/// what it leaves when it ends otherwise is not to be trusted.
pub const JVM_SCRIPT: &str = r#"nice -n 19 "$@" 3>&- 4>&- &
jvm=$!
trap 'kill -TERM $jvm' TERM
wait $jvm; status=$?
while kill -0 $jvm 2>/dev/null; do wait $jvm; status=$?; done
[ $status -eq 143 ] || exit $((status ? status : 1))
exec cat "$ARCHIVE" >&3"#;
/// For what ends by itself: Node.js, and the launcher of JVMs that wait.
pub const SCRIPT: &str = r#"nice -n 19 "$@" 3>&- 4>&- && exec cat "$ARCHIVE" >&3"#;

/// What a training run leaves, made or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trained {
    /// Of a JVM.
    Classes(Archive),
    /// Of Node.js.
    Code(CompileCache),
}

impl Trained {
    /// Its folder.
    pub fn dir(&self) -> &Path {
        match self {
            Trained::Classes(archive) => archive.dir(),
            Trained::Code(cache) => cache.dir(),
        }
    }

    /// Whether it has been made.
    pub fn is_made(&self) -> bool {
        self.dir().is_dir()
    }

    /// Where an instance sees it.
    pub fn bind(&self) -> Bind {
        match self {
            Trained::Classes(archive) => archive.bind(),
            Trained::Code(cache) => cache.bind(),
        }
    }

    /// What people call it.
    fn name(&self) -> &'static str {
        match self {
            Trained::Classes(_) => "class-data archive",
            Trained::Code(_) => "compile cache",
        }
    }

    /// Makes ready in the folder `dir` what the run needs; reads the package.
    fn stage(&self, dir: &Path, spec: &InstanceSpec, installed: &Path) -> io::Result<Staged> {
        match self {
            Trained::Classes(archive) => archive.stage(dir, spec, installed),
            Trained::Code(_) => Staged::empty(dir),
        }
    }

    fn publish(&self, staged: &Staged) -> io::Result<u64> {
        match self {
            Trained::Classes(archive) => archive.publish(staged),
            Trained::Code(cache) => cache.publish(&staged.archive, staged.dir()),
        }
    }
}

/// What to do: one run.
pub enum Wanted {
    /// For a function's next starts.
    OfFunction {
        /// The function.
        spec: Arc<InstanceSpec>,
        /// Its runtime.
        runtime: Runtime,
        /// What will be made.
        trained: Trained,
    },
    /// For JVMs that are to wait.
    OfWaiting {
        /// A function that they could become.
        spec: Arc<InstanceSpec>,
        /// Its runtime.
        runtime: Runtime,
        /// Their kind.
        jvm: Jvm,
        /// Of the first of them, which is booted then.
        recipe: Recipe,
    },
}

impl Wanted {
    fn dir(&self) -> &Path {
        match self {
            Wanted::OfFunction { trained, .. } => trained.dir(),
            Wanted::OfWaiting { jvm, .. } => &jvm.dir,
        }
    }

    /// Whose turn it takes; nobody's function is called so.
    fn function(&self) -> &str {
        match self {
            Wanted::OfFunction { spec, .. } => &spec.function,
            Wanted::OfWaiting { .. } => "",
        }
    }
}

/// The training runs of one server.
pub struct Trainer {
    queue: mpsc::Sender<Wanted>,
    /// Runs that are waited for, or not to be tried again.
    known: Arc<Mutex<Known>>,
    worker: tokio::task::AbortHandle,
}

#[derive(Default)]
struct Known {
    /// Where they leave what they make, and for which function that is.
    wanted: HashMap<PathBuf, String>,
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

    /// Has a run made, unless that is under way or in vain.
    pub fn want(&self, wanted: Wanted) {
        let mut known = self.known.lock().expect("no panic while held");
        let dir = wanted.dir().to_owned();
        let function = wanted.function().to_owned();
        if known.admits(&dir, &function) && self.queue.try_send(wanted).is_ok() {
            known.wanted.insert(dir, function);
        }
    }

    /// A runtime has crashed with it: it is removed, and not made again.
    pub fn distrust(&self, trained: &Trained) {
        let (what, dir) = (trained.name(), trained.dir());
        tracing::warn!(dir = %dir.display(), "a runtime crashed with a {what}; going on without");
        self.known.lock().expect("no panic while held").refuse(dir.to_owned());
        if let Err(error) = clear(dir) {
            tracing::warn!(%error, dir = %dir.display(), "a {what} could not be removed");
        }
    }
}

impl Known {
    /// Whether a run for this function is to wait for its turn.
    fn admits(&self, dir: &Path, function: &str) -> bool {
        let own = self.wanted.values().filter(|other| *other == function).count();
        !self.refused.contains(dir) && !self.wanted.contains_key(dir) && own < WAITING_OF_ONE
    }

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
        let dir = wanted.dir().to_owned();
        let made = worker.carry_out(wanted).await;
        let mut known = known.lock().expect("no panic while held");
        known.wanted.remove(&dir);
        if !made {
            known.refuse(dir);
        }
    }
}

impl Worker {
    /// Whether it could be done. Says so in the server's log.
    async fn carry_out(&self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::OfFunction { spec, runtime, trained } => {
                let (what, function) = (trained.name(), spec.function.clone());
                let made = self.run(spec, runtime, trained).await;
                match &made {
                    Ok(size) => tracing::info!(function, size, "a {what} was made"),
                    Err(why) => tracing::warn!(function, why, "no {what}; its cold starts go on without"),
                }
                made.is_ok()
            }
            Wanted::OfWaiting { spec, runtime, jvm, recipe } => {
                let made = self.rehearse(spec, runtime, jvm).await;
                match (&made, self.stems.upgrade()) {
                    (Ok(size), Some(stems)) => {
                        tracing::info!(size, "JVMs can wait for functions from now on");
                        stems.want(&recipe);
                    }
                    (Err(why), _) => {
                        tracing::warn!(why, "no JVM waits for functions; their cold starts go on without");
                    }
                    _ => {}
                }
                made.is_ok()
            }
        }
    }

    /// Makes it; its size in bytes. Nothing of the run is left, however it ends.
    async fn run(&self, spec: Arc<InstanceSpec>, runtime: Runtime, trained: Trained) -> Result<u64, String> {
        let staging = self.settings.run_dir.join("training");
        let plan = {
            let (settings, isolation, outside) =
                (self.settings.clone(), self.isolation, self.outside.clone());
            let (spec, staging, trained) = (spec.clone(), staging.clone(), trained.clone());
            move || {
                let installed = settings.runtimes_dir.join(JAVA_SDK);
                let staged = trained.stage(&staging, &spec, &installed).map_err(|e| e.to_string())?;
                let training = Training { trained: &trained, staged: &staged };
                let launch = Launch::plan(&settings, isolation, &spec, runtime, &outside, Some(training));
                launch.map(|launch| (launch, staged)).map_err(|failure| format!("{failure:?}"))
            }
        };
        let outcome = match tokio::task::spawn_blocking(plan).await.map_err(|error| error.to_string())? {
            Ok((launch, staged)) => {
                let file = staged.archive.try_clone().map_err(|error| error.to_string())?;
                match self.train(&spec, &trained, launch, file).await {
                    Ok(()) => tokio::task::spawn_blocking(move || {
                        let size = trained.publish(&staged)?;
                        make_room(spec.code_dir.parent().unwrap_or(&spec.code_dir), MAX_SPACE)?;
                        Ok::<_, io::Error>(size)
                    })
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

    /// Starts the function, and ends it when it would take an event.
    async fn train(
        &self,
        spec: &InstanceSpec,
        trained: &Trained,
        launch: Launch,
        file: std::fs::File,
    ) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        let last = Arc::new(LastLine::default());
        let (output, lines) = Output::new(last.clone(), "training".into()).map_err(text)?;
        let own_network = launch.sandbox().has_own_network();
        let mut api = match trained {
            Trained::Classes(_) => {
                Some(RuntimeApi::of(spec, &self.outside, own_network).await.map_err(text)?)
            }
            Trained::Code(_) => None,
        };
        let mut variables = launch.variables(spec, "training");
        // For initialisers that must not run for nothing.
        variables.push(("BROOKLET_TRAINING".into(), trained.name().replace(' ', "-")));
        variables.push(("ARCHIVE".into(), DUMPED.into()));
        let runtime_api = api.as_ref().filter(|_| own_network).map(RuntimeApi::address);
        let program = launch.program(variables, api.as_ref().map(RuntimeApi::contact), lines);
        let (archive, writer) = io::pipe().map_err(text)?;
        let other = writer.try_clone().map_err(text)?;
        let program = Program { transport: Some([writer.into(), other.into()]), runtime_api, ..program };
        let child = self.spawner.spawn(program).await.map_err(|error| error.to_string())?;
        let process = Process::new(child, output);
        // Ends with the sandbox at the latest.
        let copied = tokio::task::spawn_blocking(move || copy(archive, &file));
        match &mut api {
            Some(api) => {
                api.serve_in(&process).map_err(text)?;
                let ready = tokio::time::timeout(INIT, api.ready(&process)).await;
                ready
                    .map_err(|_| "it was not ready in time".to_owned())?
                    .map_err(|failure| format!("it did not start: {failure:?} {}", last.text()))?;
                process.child.stop(DUMP).await;
            }
            None => {
                let ended = tokio::time::timeout(INIT + DUMP, process.child.exited()).await;
                ended.map_err(|_| "it did not end in time".to_owned())?;
            }
        }
        process.output.finish();
        match process.child.try_exit() {
            Some(ports::Exit::Status(0)) => copied.await.map_err(|error| error.to_string())?,
            exit => Err(format!("the runtime left none ({exit:?}): {}", last.text())),
        }
    }
}

/// A pipe and not the file is in the sandbox: whoever writes there without end fills no disk.
fn copy(archive: io::PipeReader, mut file: &std::fs::File) -> Result<(), String> {
    let copied = io::copy(&mut archive.take(MAX_SIZE + 1), &mut file).map_err(|error| error.to_string())?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn one_function_leaves_places_for_the_runs_of_others() {
        let mut known = Known::default();
        let place = |n: usize| PathBuf::from(n.to_string());
        let admitted = (0..WAITING).filter(|&n| {
            let admits = known.admits(&place(n), "greedy");
            if admits {
                known.wanted.insert(place(n), "greedy".into());
            }
            admits
        });
        assert_eq!(admitted.count(), WAITING_OF_ONE);
        assert!(known.admits(&place(WAITING), "modest") && !known.admits(&place(0), "modest"));
        known.wanted.remove(&place(0));
        assert!(known.admits(&place(WAITING), "greedy"));
        known.refuse(place(WAITING));
        assert!(!known.admits(&place(WAITING), "greedy"), "in vain");
    }

    /// What the script hands over, and its status, when what it runs ends so after SIGTERM.
    fn trained(end: &str) -> (Option<i32>, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let archive = folder.path().join("archive");
        std::fs::write(&archive, "classes").expect("written");
        let jvm = format!("trap '{end}' TERM; echo runs >&2; while :; do sleep 0.01; done");
        let mut script = Command::new("/bin/sh")
            .args(["-c", r#"exec 3>&1; exec "$@""#, "sh", "/bin/sh", "-c", JVM_SCRIPT, "training"])
            .args(["/bin/sh", "-c", &jvm])
            .env("ARCHIVE", &archive)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut said = String::new();
        BufReader::new(script.stderr.take().expect("piped")).read_line(&mut said).expect("read");
        assert_eq!(said, "runs\n");
        // By now the script listens too, or will: it may have been overtaken.
        let status = format!("/proc/{}/status", script.id());
        let listens = |status: &str| {
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a line");
            u64::from_str_radix(caught.trim(), 16).expect("a mask") & (1 << (libc::SIGTERM - 1)) != 0
        };
        while !listens(&std::fs::read_to_string(&status).expect("it runs")) {
            std::thread::yield_now();
        }
        let kill = Command::new("kill").args(["-TERM", &script.id().to_string()]).status();
        assert!(kill.expect("told to end").success());
        let output = script.wait_with_output().expect("ended");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    }

    #[test]
    fn a_jvm_that_ends_as_it_was_told_leaves_its_archive() {
        assert_eq!(trained("exit 143"), (Some(0), "classes".to_owned()));
    }

    #[test]
    fn what_a_jvm_leaves_that_ends_otherwise_is_not_taken() {
        for status in [1, 3, 134] {
            assert_eq!(trained(&format!("exit {status}")), (Some(status), String::new()));
        }
        assert_eq!(trained("exit 0"), (Some(1), String::new()), "by itself, and not by the signal");
        let (status, archive) = trained("kill -SEGV $$");
        assert!(status != Some(0) && archive.is_empty(), "a crash");
    }
}
