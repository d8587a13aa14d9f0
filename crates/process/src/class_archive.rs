//! Class-data archives of Java functions: what a JVM has read, checked and linked of the classes that a version
//! uses while it starts, kept as a file that the next JVM maps into memory.
//!
//! An archive belongs to a function, a package, a JVM and a command line. It lies beside the unpacked package
//! (`<package>.jvm/<key>`), goes with it, and is as trustworthy as that: until the machine restarts. A JVM takes no
//! archive but one of exactly its own build and of the same jars, so classes must be in jars: those that lie in the
//! package itself are put into one, `classes.jar`, first on the class path. The package's folder comes last and
//! still has everything else, at the same addresses (`file:/var/task/…`) as without an archive.

use crate::environment::Places;
use crate::interpreter::Found;
use crate::java::{MAX_DIRECTORY, jars, open_jar};
use crate::sandbox::Bind;
use crate::shelf::{self, clear, open_to_all};
use ports::InstanceSpec;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Beside the folder of a package: its archives.
pub const SUFFIX: &str = ".jvm";
/// Where an instance sees its own.
const SEEN: &str = "/var/sdk/jvm";
/// The file in the folder of an archive.
pub const ARCHIVE: &str = "archive";
const CLASSES: &str = "classes.jar";
/// All entries of all jars that are looked at to make one; more are a sign of something else.
const MAX_ENTRIES: usize = 500_000;

/// How a JVM makes and takes an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// From JDK 13 on (JEP 350): the classes that were loaded, beside the JDK's own archive.
    Dynamic,
    /// From JDK 25 on (JEP 483, 514): loaded and linked, with objects of the heap, instead of the JDK's own.
    Ahead,
}

impl Kind {
    /// Of a JVM; `None` where it makes none.
    pub fn of(found: &Found) -> Option<Kind> {
        match (found.language, found.version.parse::<u32>()) {
            ("java", Ok(25..)) => Some(Kind::Ahead),
            ("java", Ok(13..)) => Some(Kind::Dynamic),
            _ => None,
        }
    }

    /// What has a JVM take the archive in `file`.
    pub fn taking(self, file: &str) -> Vec<OsString> {
        match self {
            Kind::Dynamic => vec![format!("-XX:SharedArchiveFile={file}").into()],
            // One that does not fit is no matter for the function's log.
            Kind::Ahead => vec![format!("-XX:AOTCache={file}").into(), "-Xlog:aot=off".into()],
        }
    }

    /// What has a JVM make one in `file` when it ends.
    pub fn making(self, file: &str) -> OsString {
        match self {
            Kind::Dynamic => format!("-XX:ArchiveClassesAtExit={file}").into(),
            Kind::Ahead => format!("-XX:AOTCacheOutput={file}").into(),
        }
    }
}

/// The archive that fits a start, made or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    dir: PathBuf,
    kind: Kind,
    /// As seen inside, in order.
    jars: Vec<String>,
    task: String,
}

impl Archive {
    /// The one that fits `spec` on a JVM whose command line is `argv`; `None` where there can be none. Reads the
    /// names and dates of some files.
    pub fn of(
        spec: &InstanceSpec,
        found: &Found,
        argv: &[OsString],
        places: &Places,
        sdk: Option<(&Path, &str)>,
    ) -> Option<Archive> {
        let kind = Kind::of(found)?;
        if !spec.layer_dirs.is_empty() || own_options(spec).any(rules_out) {
            return None;
        }
        let mut key = DefaultHasher::new();
        // Of this function and no other of the same package: its variables and its network may have a say in what runs, and
        // what runs decides what is written.
        spec.function_arn.hash(&mut key);
        let mut seen = Vec::new();
        for (folder, inside) in class_folders(spec, &places.task, sdk) {
            for jar in jars(&folder) {
                identify(&jar).hash(&mut key);
                seen.push(format!("{inside}/{}", jar.file_name()?.to_str()?));
            }
        }
        // Of the heap's size no archive depends, and versions with other sizes share it.
        argv.iter()
            .filter(|word| !word.as_encoded_bytes().starts_with(b"-Xm"))
            .for_each(|w| w.hash(&mut key));
        own_options(spec).for_each(|option| option.hash(&mut key));
        identify_jvm(found).hash(&mut key);
        let dir = shelf::place(&spec.code_dir, SUFFIX, key.finish());
        Some(Archive { dir, kind, jars: seen, task: places.task.clone() })
    }

    /// The folder of its own, made or not.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where an instance sees the finished archive.
    pub fn bind(&self) -> Bind {
        seen(&self.dir)
    }

    /// Changes a command line into one that takes the archive.
    pub fn take(&self, argv: &mut Vec<OsString>) {
        let file = format!("{SEEN}/{ARCHIVE}");
        let flags = self.kind.taking(&file);
        let classes = self.dir.join(CLASSES).is_file();
        self.rewrite(argv, flags, classes, true);
    }

    /// Changes a command line into one that makes the archive when the JVM ends, in `file`.
    pub fn make(&self, argv: &mut Vec<OsString>, file: &str, staged: &Staged) {
        self.rewrite(argv, vec![self.kind.making(file)], staged.classes, false);
    }

    /// The JVM makes no archive with a folder on its class path, but lets one be appended when it takes it.
    fn rewrite(&self, argv: &mut Vec<OsString>, flags: Vec<OsString>, classes: bool, folder: bool) {
        let Some(at) = argv.iter().position(|word| word == "-cp") else { return };
        let first = classes.then(|| format!("{SEEN}/{CLASSES}"));
        let last = folder.then(|| self.task.clone());
        let path: Vec<String> = first.into_iter().chain(self.jars.iter().cloned()).chain(last).collect();
        if let Some(class_path) = argv.get_mut(at + 1) {
            *class_path = path.join(":").into();
        }
        argv.splice(at..at, flags);
    }

    /// Makes ready in `dir`, which is emptied first, what a training run needs.
    ///
    /// # Errors
    /// Why this package can have no archive.
    pub fn stage(&self, dir: &Path, spec: &InstanceSpec, installed: &Path) -> io::Result<Staged> {
        clear(dir)?;
        std::fs::create_dir_all(dir)?;
        let files = files_of(&spec.code_dir)?;
        let folders = class_folders(spec, &self.task, Some((installed, "")));
        refuse_what_would_change_places(&files, folders.iter().flat_map(|(folder, _)| jars(folder)))?;
        let classes: Vec<&String> = files.iter().filter(|file| is_class(file)).collect();
        if !classes.is_empty() {
            pack(&spec.code_dir, &classes, &dir.join(CLASSES))?;
        }
        let archive = File::options().read(true).write(true).create_new(true).open(dir.join(ARCHIVE))?;
        open_to_all(dir)?;
        Ok(Staged { dir: dir.to_owned(), archive, classes: !classes.is_empty() })
    }

    /// Puts what a training run has made in its place, for all instances from now on.
    pub fn publish(&self, staged: &Staged) -> io::Result<u64> {
        let size = staged.archive.metadata()?.len();
        if size == 0 {
            return Err(io::Error::other("the JVM made none"));
        }
        shelf::put(&staged.dir, &self.dir)?;
        Ok(size)
    }
}

/// What a training run fills.
pub struct Staged {
    dir: PathBuf,
    /// The archive, empty.
    pub archive: File,
    classes: bool,
}

impl Staged {
    /// For a run that needs nothing but somewhere to leave what it makes: in `dir`, which is emptied first.
    pub fn empty(dir: &Path) -> io::Result<Staged> {
        clear(dir)?;
        std::fs::create_dir_all(dir)?;
        let archive = File::options().read(true).write(true).create_new(true).open(dir.join(ARCHIVE))?;
        Ok(Staged { dir: dir.to_owned(), archive, classes: false })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the training run sees it.
    pub fn bind(&self) -> Bind {
        seen(&self.dir)
    }
}

fn seen(dir: &Path) -> Bind {
    Bind { source: dir.to_owned(), target: SEEN.into() }
}

fn own_options(spec: &InstanceSpec) -> impl Iterator<Item = &str> {
    let options =
        ["JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS"].map(|name| spec.environment.get(name));
    options.into_iter().flatten().flat_map(|options| options.split_whitespace())
}

/// Options with which a JVM can make none, or that speak of archives themselves: `-Xshare:off` is how a function
/// says that it wants no training run.
fn rules_out(option: &str) -> bool {
    const PREFIXES: [&str; 12] = [
        "-Xshare",
        "-XX:SharedArchiveFile",
        "-XX:ArchiveClassesAtExit",
        "-XX:+AutoCreateSharedArchive",
        "-XX:AOT",
        "-XX:SharedClassListFile",
        "-javaagent",
        "-agentlib",
        "-agentpath",
        "-Xbootclasspath",
        "-Djava.system.class.loader",
        "--",
    ];
    PREFIXES.iter().any(|prefix| option.starts_with(prefix))
}

/// The folders whose jars are on the class path, on the machine and as seen inside, in order.
fn class_folders(spec: &InstanceSpec, task: &str, sdk: Option<(&Path, &str)>) -> Vec<(PathBuf, String)> {
    let mut folders =
        vec![(spec.code_dir.join("lib"), format!("{task}/lib")), (spec.code_dir.clone(), task.to_owned())];
    folders.extend(sdk.map(|(source, target)| (source.to_owned(), target.to_owned())));
    folders
}

/// What an archive's JVM must be the same in.
pub fn identify_jvm(found: &Found) -> Vec<Option<(OsString, u64, Option<SystemTime>)>> {
    let program = found.path();
    let home = program.parent().and_then(Path::parent).unwrap_or(&program);
    let files = ["release", "lib/modules", "lib/server/libjvm.so", "lib/server/classes.jsa"];
    files.map(|file| identify(&home.join(file))).into()
}

/// What a JVM looks at to see whether a file is the same.
pub fn identify(file: &Path) -> Option<(OsString, u64, Option<SystemTime>)> {
    let meta = file.metadata().ok()?;
    Some((file.as_os_str().to_owned(), meta.len(), meta.modified().ok()))
}

/// All files below a folder, as paths from there with `/`; names that are no text are nobody's classes.
fn files_of(root: &Path) -> io::Result<Vec<String>> {
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            match path.to_str() {
                _ if entry.file_type()?.is_dir() => folders.push(path),
                Some(text) => files.push(text.to_owned()),
                None => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

fn is_class(file: &str) -> bool {
    file.ends_with(".class")
}

/// Resources of the package that a jar has too come first without an archive and last with one, so a package with
/// such gets none. What build tools leave in every jar is read by nobody.
fn refuse_what_would_change_places(files: &[String], jars: impl Iterator<Item = PathBuf>) -> io::Result<()> {
    let noise = |file: &str| {
        let name = file.strip_prefix("META-INF/").unwrap_or_default();
        let noisy =
            ["MANIFEST.MF", "LICENSE", "NOTICE", "DEPENDENCIES", "INDEX.LIST", "maven/", "AL2.0", "LGPL"];
        noisy.iter().any(|prefix| name.starts_with(prefix)) || name.ends_with(".SF") || name.ends_with(".RSA")
    };
    let resources: HashSet<&str> =
        files.iter().map(String::as_str).filter(|file| !is_class(file) && !noise(file)).collect();
    let mut entries = 0;
    for jar in jars {
        let Some(archive) = open_jar(&jar) else {
            match jar.metadata()?.len() {
                // The JVM skips what is no zip.
                ..=MAX_DIRECTORY => continue,
                _ => {
                    return Err(io::Error::other(format!(
                        "the entries of {} cannot be listed",
                        jar.display()
                    )));
                }
            }
        };
        entries += archive.len();
        if entries > MAX_ENTRIES {
            return Err(io::Error::other("its jars have too many entries"));
        }
        let names = archive.file_names().filter_map(Result::ok);
        if let Some(double) = names.into_iter().find(|name| resources.contains(&**name)) {
            let name = jar.file_name().unwrap_or_default().to_string_lossy();
            return Err(io::Error::other(format!("{double} is both in the package and in {name}")));
        }
    }
    Ok(())
}

/// Puts the classes below `root` into a jar.
pub fn pack_classes(root: &Path, jar: &Path) -> io::Result<()> {
    let files = files_of(root)?;
    pack(root, &files.iter().filter(|file| is_class(file)).collect::<Vec<_>>(), jar)
}

/// No folders among the entries: whoever lists packages by them finds the package's own folder, as ever.
fn pack(root: &Path, classes: &[&String], jar: &Path) -> io::Result<()> {
    let mut writer = zip::ZipWriter::new(io::BufWriter::new(File::create_new(jar)?));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for class in classes {
        writer.start_file(class.as_str(), stored).map_err(io::Error::other)?;
        io::copy(&mut File::open(root.join(class))?, &mut writer)?;
    }
    let file = writer.finish().map_err(io::Error::other)?;
    file.into_inner().map_err(|error| error.into_error()).map(drop)
}

#[cfg(test)]
mod tests;
