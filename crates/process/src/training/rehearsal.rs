//! The run that makes the archive with which a kind of waiting JVM boots.

use super::{DUMP, INIT, LastLine, Worker, copy};
use crate::class_archive::ARCHIVE;
use crate::instance::Process;
use crate::jvms::{self, Jvm};
use crate::launch::{JAVA_SDK, Launch};
use crate::output::Output;
use crate::runtimes::Runtime;
use crate::shelf::clear;
use crate::spawner::Program;
use model::MiB;
use ports::{Exit, InstanceSpec};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// Room for the archive while it is written, in `/tmp`.
const ROOM: MiB = MiB(512);

impl Worker {
    /// Has the launcher play a start through, and makes the archive with which such JVMs boot; its size in bytes.
    pub(super) async fn rehearse(
        &self,
        spec: Arc<InstanceSpec>,
        runtime: Runtime,
        jvm: Jvm,
    ) -> Result<u64, String> {
        let staging = self.settings.run_dir.join("training");
        let made = self.rehearse_in(&staging, spec, runtime, jvm).await;
        let _ = tokio::task::spawn_blocking(move || clear(&staging)).await;
        made
    }

    async fn rehearse_in(
        &self,
        staging: &Path,
        spec: Arc<InstanceSpec>,
        runtime: Runtime,
        jvm: Jvm,
    ) -> Result<u64, String> {
        let text = |error: io::Error| error.to_string();
        let plan = {
            let (settings, isolation, outside) =
                (self.settings.clone(), self.isolation, self.outside.clone());
            let (staging, jvm) = (staging.to_owned(), jvm.clone());
            move || {
                let runtime_dir = settings.run_dir.join("runtime");
                let installed = settings.runtimes_dir.join(JAVA_SDK);
                let found = runtime.found.as_ref().ok_or("there is no JVM")?;
                jvms::compile(&runtime_dir, found, &installed)?;
                // Nobody's function, which has nothing.
                let spec = InstanceSpec {
                    code_dir: runtime_dir,
                    environment: BTreeMap::new(),
                    layer_dirs: Vec::new(),
                    network: None,
                    memory: spec.memory.max(ROOM),
                    ephemeral_storage: ROOM,
                    ..(*spec).clone()
                };
                let launch = Launch::plan(&settings, isolation, &spec, runtime, &outside, None)
                    .map_err(|failure| format!("{failure:?}"))?;
                clear(&staging).and_then(|()| std::fs::create_dir_all(&staging)).map_err(text)?;
                let file = File::create_new(staging.join(ARCHIVE)).map_err(text)?;
                jvm.prepare(&installed).map_err(text)?;
                Ok::<_, String>((launch, spec, file))
            }
        };
        let planned = tokio::task::spawn_blocking(plan).await.map_err(|error| error.to_string())?;
        let (launch, spec, file) = planned?;
        self.leave_archive(|output| launch.rehearsal(&jvm, &spec, output), file).await?;
        let archive = staging.join(ARCHIVE);
        let published = tokio::task::spawn_blocking(move || jvm.publish(&archive)).await;
        published.map_err(|error| error.to_string())?.map_err(text)
    }

    /// Runs a program that ends by itself, and takes the archive that it leaves.
    async fn leave_archive(
        &self,
        program: impl FnOnce(OwnedFd) -> Program,
        file: File,
    ) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        let last = Arc::new(LastLine::default());
        let (output, lines) = Output::new(last.clone(), "training".into()).map_err(text)?;
        let (archive, writer) = io::pipe().map_err(text)?;
        let other = writer.try_clone().map_err(text)?;
        let program = Program { transport: Some([writer.into(), other.into()]), ..program(lines) };
        let child = self.spawner.spawn(program).await.map_err(|error| error.to_string())?;
        let process = Process::new(child, output);
        // Ends with the sandbox at the latest.
        let copied = tokio::task::spawn_blocking(move || copy(archive, &file));
        let exit = tokio::time::timeout(INIT + DUMP, process.child.exited()).await;
        process.output.finish();
        match exit {
            Ok(Exit::Status(0)) => copied.await.map_err(|error| error.to_string())?,
            exit => Err(format!("the JVM left no archive ({exit:?}): {}", last.text())),
        }
    }
}
