//! JVMs that boot ahead of need: which kind fits a function, and how one is started. It loads a launcher of ours
//! (`bootstraps/java`), which plays a start through with the official runtime client, waits to be introduced, and then has
//! the client load the function.
//!
//! A kind is a JVM, its flags, and the installed client. Each has a class-data archive of its own, made by a run of the
//! launcher with nobody's function: it makes booting cheap, and where it fails no JVM waits. Nothing of a package is in
//! it, nor on the class path before the function is known.

use crate::class_archive::{self, ARCHIVE, Kind, identify, identify_jvm};
use crate::interpreter::Found;
use crate::java::{class_path, clients, flags, jars};
use crate::shelf;
use ports::InstanceSpec;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// In the folder of the bootstraps: the launcher, as it is compiled on this machine.
pub const LAUNCHER: &str = "java/launcher.jar";
/// There: an archive for each kind, made since the server started.
pub const ARCHIVES: &str = "java/archives";
const MAIN: &str = "brooklet.Stem";
/// Where an instance sees the bootstraps and the installed client.
const RUNTIME: &str = "/var/runtime";
const SDK: &str = "/var/sdk/lib";
/// Installed for functions, and none of the client's business: a function's own come before them.
const FOR_FUNCTIONS: [&str; 2] = ["aws-lambda-java-events-", "joda-time-"];
/// The client's native library: as an archive's folder has it, and where the client is told of it. By itself the client
/// unpacks it into `/tmp` with every start, which takes half as long as all the rest.
const LIBRARY: &str = "client.so";
const LIBRARY_PROPERTY: &str = "com.amazonaws.services.lambda.runtime.api.client.runtimeapi.NativeClient.JNI";
const LIBRARY_ENTRY: &str = match cfg!(target_arch = "aarch64") {
    true => "jni/libaws-lambda-jni.linux-aarch_64.so",
    false => "jni/libaws-lambda-jni.linux-x86_64.so",
};
/// Packages whose clients have been compared with the installed one.
const MAX_COMPARED: usize = 4096;
/// What a JVM reads by itself before any program runs.
const OPTIONS: [&str; 3] = ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"];

/// A kind of JVM that waits.
#[derive(Clone)]
pub struct Jvm {
    /// Where its archive is, made or not, and the client's library.
    pub dir: PathBuf,
    kind: Kind,
    program: PathBuf,
    flags: Vec<String>,
    /// Of the installed jars, those that are on its class path from the beginning.
    jars: Vec<String>,
    /// The function's own part of the class path, which comes then, and what is left of the installed jars.
    pub then: String,
}

/// Which packages bring a client that is not the installed one.
#[derive(Default)]
pub struct Clients(Mutex<HashMap<Vec<PathBuf>, bool>>);

impl Jvm {
    /// The one that can become `spec` on `found`; `None` where none can. `installed` is the folder of the installed client,
    /// `runtime_dir` that of the bootstraps. Reads a few names and dates.
    pub fn of(
        spec: &InstanceSpec,
        found: &Found,
        installed: &Path,
        runtime_dir: &Path,
        compared: &Clients,
    ) -> Option<Jvm> {
        let kind = Kind::of(found)?;
        if OPTIONS.iter().any(|name| spec.environment.contains_key(*name)) || !compared.fit(spec, installed) {
            return None;
        }
        let own = class_path(spec, "/var/task");
        // What the native interface takes as it is.
        if !own.is_ascii() {
            return None;
        }
        let flags = flags(spec.memory.0, found.version.parse().ok()?, &[]);
        let mut key = DefaultHasher::new();
        identify_jvm(found).hash(&mut key);
        flags.iter().filter(|flag| !flag.starts_with("-Xm")).for_each(|flag| flag.hash(&mut key));
        let (mut first, mut then) = (Vec::new(), own);
        for jar in jars(installed) {
            let name = jar.file_name()?.to_str()?;
            match FOR_FUNCTIONS.iter().any(|prefix| name.starts_with(prefix)) {
                true => then.push_str(&format!(":{SDK}/{name}")),
                false => {
                    identify(&jar).hash(&mut key);
                    first.push(format!("{SDK}/{name}"));
                }
            }
        }
        let dir = runtime_dir.join(ARCHIVES).join(format!("{:016x}", key.finish()));
        Some(Jvm { dir, kind, program: found.path(), flags, jars: first, then })
    }

    /// Whether such can be booted.
    pub fn is_made(&self) -> bool {
        self.dir.join(ARCHIVE).is_file()
    }

    /// The command line of one that waits.
    pub fn argv(&self) -> Vec<OsString> {
        self.words(self.kind.taking(&self.seen(ARCHIVE)))
    }

    /// Where an instance sees a file of its folder.
    fn seen(&self, file: &str) -> String {
        let key = self.dir.file_name().unwrap_or_default().to_string_lossy();
        format!("{RUNTIME}/{ARCHIVES}/{key}/{file}")
    }

    /// Makes its folder, with all but the archive.
    ///
    /// # Errors
    /// Why no such JVM can be booted.
    pub fn prepare(&self, installed: &Path) -> io::Result<()> {
        let parent = self.dir.parent().unwrap_or(&self.dir);
        shelf::clear(&self.dir)?;
        std::fs::create_dir_all(&self.dir)?;
        let client = clients([installed]).next().ok_or(io::ErrorKind::NotFound)?;
        let mut client = zip::ZipArchive::new(File::open(client)?)?;
        let mut library = client.by_name(LIBRARY_ENTRY)?;
        io::copy(&mut library, &mut File::create_new(self.dir.join(LIBRARY))?)?;
        shelf::open_to_all(parent)?;
        shelf::open_to_all(&self.dir)
    }

    /// Takes what a training run has left in `archive`; its size in bytes.
    pub fn publish(&self, archive: &Path) -> io::Result<u64> {
        let size = archive.metadata()?.len();
        if size == 0 {
            return Err(io::Error::other("the JVM made none"));
        }
        std::fs::set_permissions(archive, std::fs::Permissions::from_mode(0o644))?;
        std::fs::rename(archive, self.dir.join(ARCHIVE))?;
        Ok(size)
    }

    /// The command line of one that plays a start through, and leaves an archive in `file`.
    pub fn training(&self, file: &str) -> Vec<OsString> {
        let mut words = self.words(vec![self.kind.making(file)]);
        words.push("training".into());
        words
    }

    fn words(&self, archive: Vec<OsString>) -> Vec<OsString> {
        let mut words = vec![self.program.clone().into_os_string()];
        words.extend(self.flags.iter().map(OsString::from));
        words.extend(archive);
        words.push(format!("-D{LIBRARY_PROPERTY}={}", self.seen(LIBRARY)).into());
        let class_path = format!("{RUNTIME}/{LAUNCHER}:{}", self.jars.join(":"));
        words.extend(["-cp".into(), class_path.into(), MAIN.into()]);
        words
    }
}

impl Clients {
    /// Whether the installed client is the one that this function would have anyhow.
    fn fit(&self, spec: &InstanceSpec, installed: &Path) -> bool {
        let layers = spec.layer_dirs.iter().map(|layer| layer.join("java"));
        let folders: Vec<PathBuf> = std::iter::once(spec.code_dir.clone()).chain(layers).collect();
        if let Some(known) = self.0.lock().expect("no panic while held").get(&folders) {
            return *known;
        }
        let fit = match clients([installed]).collect::<Vec<_>>()[..] {
            [ref client] => {
                let same = |other: PathBuf| is_same(&other, client);
                clients(folders.iter().map(PathBuf::as_path)).all(same)
            }
            // To be installed yet: another time, then.
            _ => return false,
        };
        let mut known = self.0.lock().expect("no panic while held");
        if known.len() >= MAX_COMPARED {
            known.clear();
        }
        known.insert(folders, fit);
        fit
    }
}

/// Whether two files have the same content. A package's may be as large as a package: it is not read for nothing.
fn is_same(one: &Path, other: &Path) -> bool {
    let size = |file: &Path| file.metadata().ok().map(|meta| meta.len());
    size(one) == size(other) && std::fs::read(one).ok() == std::fs::read(other).ok()
}

/// Compiles the launcher, once, with the compiler beside the JVM `found` or on the search path. Takes a second.
///
/// # Errors
/// Why there is none, and the remedy.
pub fn compile(runtime_dir: &Path, found: &Found, installed: &Path) -> Result<(), String> {
    let (folder, jar) = (runtime_dir.join("java"), runtime_dir.join(LAUNCHER));
    if jar.is_file() {
        return Ok(());
    }
    let beside = found.path().with_file_name("javac");
    let javac = if beside.is_file() { beside } else { "javac".into() };
    let (classes, new) = (folder.join("classes.new"), folder.join("launcher.new"));
    let cleared = || shelf::clear(&classes).and_then(|()| clear_file(&new));
    let text = |error: io::Error| format!("the launcher could not be compiled: {error}");
    cleared().map_err(text)?;
    let sources = std::fs::read_dir(folder.join("brooklet")).map_err(text)?;
    let sources = sources.filter_map(|entry| Some(entry.ok()?.path()));
    let output = Command::new(&javac)
        .args(["-nowarn", "-Xlint:-options", "--release", "11", "-proc:none", "-d"])
        .arg(&classes)
        .arg("-cp")
        .arg(installed.join("*"))
        .args(sources)
        .stdin(std::process::Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("the launcher could not be compiled: {}", said.trim()));
        }
        Err(error) => {
            return Err(format!(
                "the launcher is compiled by javac, which could not be run ({error}); install a JDK and not only a \
                 JRE (Debian: `apt-get install default-jdk-headless`) and start the server again"
            ));
        }
    }
    class_archive::pack_classes(&classes, &new)
        .and_then(|()| std::fs::rename(&new, &jar))
        .and_then(|()| cleared())
        .and_then(|()| shelf::open_to_all(&folder))
        .map_err(text)
}

/// Removes a file, if it is there.
fn clear_file(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use model::MiB;

    const CLASS: &str = "com/amazonaws/services/lambda/runtime/api/client/AWSLambda.class";

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Machine {
            let machine = Machine(tempfile::tempdir().expect("a folder"));
            machine.jar("sdk/client-2.jar", &[CLASS]);
            machine.jar("sdk/aws-lambda-java-events-3.jar", &["Event.class"]);
            machine.jar("package/lib/own.jar", &["Own.class"]);
            machine
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn jar(&self, path: &str, entries: &[&str]) {
            let path = self.path(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            let mut writer = zip::ZipWriter::new(File::create(path).expect("made"));
            for entry in entries {
                writer.start_file(*entry, zip::write::SimpleFileOptions::default()).expect("begun");
            }
            writer.finish().expect("finished");
        }

        fn jvm(&self, change: impl FnOnce(&mut InstanceSpec)) -> Option<Jvm> {
            let mut spec = testing::spec("java17", &self.path("package"));
            change(&mut spec);
            let program = self.path("jdk/bin/java");
            let found = Found { language: "java", version: "17".into(), program };
            Jvm::of(&spec, &found, &self.path("sdk"), Path::new("/run/runtime"), &Clients::default())
        }
    }

    #[test]
    fn the_client_is_there_from_the_beginning_and_the_functions_classes_come_then() {
        let jvm = Machine::new().jvm(|_| {}).expect("one fits");
        let words: Vec<String> = jvm.argv().iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let at = words.iter().position(|word| word == "-cp").expect("a class path");
        assert_eq!(words[at + 1..], ["/var/runtime/java/launcher.jar:/var/sdk/lib/client-2.jar", MAIN]);
        let events = "/var/sdk/lib/aws-lambda-java-events-3.jar";
        assert_eq!(jvm.then, format!("/var/task:/var/task/lib/own.jar:/opt/java/lib/*:{events}"));
        assert!(words.contains(&"-Xmx435m".to_owned()));
    }

    #[test]
    fn functions_of_any_memory_share_an_archive_and_those_of_one_share_jvms() {
        let machine = Machine::new();
        let of = |memory: u32| machine.jvm(|spec| spec.memory = MiB(memory)).expect("one fits");
        assert_eq!(of(512).dir, of(1024).dir);
        assert_eq!(of(512).argv(), of(512).argv());
        assert_ne!(of(512).argv(), of(1024).argv());
    }

    #[test]
    fn what_needs_a_jvm_or_a_client_of_its_own_gets_none() {
        let machine = Machine::new();
        for name in OPTIONS {
            let own = |spec: &mut InstanceSpec| _ = spec.environment.insert(name.into(), "-Da=b".into());
            assert!(machine.jvm(own).is_none(), "{name}");
        }
        std::fs::copy(machine.path("sdk/client-2.jar"), machine.path("package/lib/c.jar")).expect("copied");
        assert!(machine.jvm(|_| {}).is_some(), "the same client");
        machine.jar("package/lib/c.jar", &[CLASS, "and/More.class"]);
        assert!(machine.jvm(|_| {}).is_none(), "another client");
        std::fs::remove_file(machine.path("package/lib/c.jar")).expect("removed");
        std::fs::remove_file(machine.path("sdk/client-2.jar")).expect("removed");
        assert!(machine.jvm(|_| {}).is_none(), "no client is installed");
    }
}
