//! Java: a JVM that runs the official runtime interface client, which loads the handler. The client is the
//! package's own, or the one of `brooklet runtimes install java`.

use crate::environment::Places;
use ports::InstanceSpec;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The client's main class.
const CLIENT: &str = "com.amazonaws.services.lambda.runtime.api.client.AWSLambda";

/// Whether the client is in one of the folders: as a class, in a jar, or in a jar in `lib`.
pub fn has_client<'a>(folders: impl IntoIterator<Item = &'a Path>) -> bool {
    clients(folders).next().is_some()
}

/// The files in the folders that have the client: as a class, as a jar, or as a jar in `lib`.
pub fn clients<'a>(folders: impl IntoIterator<Item = &'a Path>) -> impl Iterator<Item = PathBuf> {
    let class = format!("{}.class", CLIENT.replace('.', "/"));
    folders.into_iter().flat_map(move |folder| {
        let name = class.clone();
        let holds =
            move |jar: &PathBuf| open_jar(jar).is_some_and(|archive| archive.index_for_name(&name).is_some());
        let unpacked = Some(folder.join(&class)).filter(|class| class.is_file());
        unpacked.into_iter().chain(jars(folder).chain(jars(&folder.join("lib"))).filter(holds))
    })
}

/// What is read of a jar to list its entries, in bytes: ten times what the jar of AWS's whole SDK takes.
pub const MAX_DIRECTORY: u64 = 16 << 20;

/// A jar whose entries can be listed; `None` for what is none, or has so many that a package of a few MiB would take hundreds
/// of the server's.
pub fn open_jar(jar: &Path) -> Option<zip::ZipArchive<impl Read + Seek>> {
    let file = File::open(jar).ok()?;
    zip::ZipArchive::new(Sparing { file, left: MAX_DIRECTORY }).ok()
}

/// A file of which only so many bytes are read.
struct Sparing {
    file: File,
    left: u64,
}

impl Read for Sparing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

impl Seek for Sparing {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// What to do when it is nowhere. `installed` is where `install`, the command but for the language, puts it.
pub fn missing_client(installed: &Path, install: &str) -> String {
    format!(
        "Java handlers are called by the AWS Lambda runtime interface client, which is neither in the package \
         (its classes, its jars, lib/*.jar) nor in {}. Run `{install} java`, or add \
         com.amazonaws:aws-lambda-java-runtime-interface-client to the dependencies that are packaged.",
        installed.display()
    )
}

/// The command line of a JVM of the major `version`. `sdk` is the folder of what `brooklet runtimes install java` put, as seen inside.
pub fn argv(
    spec: &InstanceSpec,
    program: OsString,
    version: u32,
    places: &Places,
    sdk: Option<&str>,
) -> Vec<OsString> {
    let mut class_path = class_path(spec, &places.task);
    if let Some(sdk) = sdk {
        class_path.push_str(&format!(":{sdk}/*"));
    }
    let own = ["JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS"].map(|name| spec.environment.get(name));
    let own: Vec<&str> = own.into_iter().flatten().flat_map(|options| options.split_whitespace()).collect();
    let mut argv = vec![program];
    argv.extend(flags(spec.memory.0, version, &own).into_iter().map(OsString::from));
    argv.extend(["-cp".into(), class_path.into(), CLIENT.into(), spec.handler.clone().into()]);
    argv
}

/// The function's own part of the class path: its package, which is seen at `task`, and its layers.
pub fn class_path(spec: &InstanceSpec, task: &str) -> String {
    let mut class_path = task.to_owned();
    // One by one: in what order `*` puts them nobody says, and of two classes of a name the first is taken.
    for (folder, seen) in
        [(spec.code_dir.join("lib"), format!("{task}/lib")), (spec.code_dir.clone(), task.to_owned())]
    {
        for jar in jars(&folder) {
            class_path
                .push_str(&format!(":{seen}/{}", jar.file_name().unwrap_or_default().to_string_lossy()));
        }
    }
    class_path.push_str(":/opt/java/lib/*");
    class_path
}

/// The JVM's flags, but for those that the function's `own` options speak to: of two collectors the JVM would
/// take neither, and of two values the command line's.
///
/// What is the JVM's default anyway (`-Xshare:auto`, `-XX:+TieredCompilation`) is left to it.
pub fn flags(memory_mib: u32, version: u32, own: &[&str]) -> Vec<String> {
    let names = |prefixes: &[&str]| own.iter().any(|o| prefixes.iter().any(|prefix| o.starts_with(prefix)));
    let mut flags = Vec::new();
    // Lambda's share of the memory, at every size.
    if !names(&["-Xmx", "-XX:MaxHeapSize=", "-XX:MaxRAM"]) {
        flags.push(format!("-Xmx{}m", (memory_mib * 85 / 100).max(64)));
        // The JVM's own beginning is a 64th of the machine's memory, which it fills before it first collects.
        if !names(&["-Xms", "-XX:InitialHeapSize=", "-XX:InitialRAMPercentage="]) {
            flags.push("-Xms16m".into());
        }
    }
    // One invocation at a time has no use for collectors with threads of their own.
    if !own.iter().any(|o| o.starts_with("-XX:+Use") && o.ends_with("GC")) {
        flags.push("-XX:+UseSerialGC".into());
    }
    // The quick compiler only: Lambda's default from Java 17 on (developer guide, "Customize Java runtime
    // startup behavior"). The best code comes thousands of invocations later, and costs memory and start.
    if !names(&["-XX:TieredStopAtLevel=", "-XX:-TieredCompilation", "-Xint", "-Xcomp"]) {
        flags.push("-XX:TieredStopAtLevel=1".into());
    }
    // Its counters for other processes to read would lie in the function's /tmp.
    if !names(&["-XX:+UsePerfData"]) {
        flags.push("-XX:-UsePerfData".into());
    }
    // From Java 24 on the JVM warns of native code that nobody allowed (JEP 472), and the client has some: five
    // lines in the log of each start.
    if version >= 24 && !names(&["--enable-native-access", "--illegal-native-access"]) {
        flags.push("--enable-native-access=ALL-UNNAMED".into());
    }
    flags
}

/// The jars that lie in a folder, in order.
pub fn jars(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut jars: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "jar")).collect();
    jars.sort(); // the class path's order decides between classes of the same name
    jars.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(own: &str, expected: &str) {
        let own: Vec<&str> = own.split_whitespace().collect();
        assert_eq!(flags(512, 17, &own).join(" "), expected);
    }

    #[test]
    fn the_jvm_is_told_to_start_fast_and_to_keep_within_the_memory() {
        check("", "-Xmx435m -Xms16m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData");
        assert_eq!(flags(64, 17, &[])[0], "-Xmx64m");
    }

    #[test]
    fn a_jvm_that_would_warn_of_the_clients_native_code_is_told_that_it_may_run() {
        let last = |version, own: &[&str]| flags(512, version, own).pop().unwrap_or_default();
        assert_eq!(last(24, &[]), "--enable-native-access=ALL-UNNAMED");
        assert_eq!(last(24, &["--illegal-native-access=deny"]), "-XX:-UsePerfData");
        assert_eq!(last(23, &[]), "-XX:-UsePerfData"); // 11 and older do not know the option
    }

    #[test]
    fn the_functions_own_options_have_the_last_word() {
        check("-XX:TieredStopAtLevel=4", "-Xmx435m -Xms16m -XX:+UseSerialGC -XX:-UsePerfData");
        check("-XX:+UseG1GC -Dx=1", "-Xmx435m -Xms16m -XX:TieredStopAtLevel=1 -XX:-UsePerfData");
        check("-XX:MaxRAMPercentage=50", "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData");
        check("-Xms64m", "-Xmx435m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData");
        check("-Xint -XX:+UsePerfData -Xmx100m", "-XX:+UseSerialGC");
    }

    #[test]
    fn the_client_is_found_as_a_class_and_in_jars() {
        use std::io::Write;
        let dir = tempfile::tempdir().expect("a folder");
        let package = dir.path();
        let class = "com/amazonaws/services/lambda/runtime/api/client/AWSLambda.class";
        assert!(!has_client([package]), "an empty package");
        let jar = |name: &str, entry: &str| {
            let path = package.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            let mut writer = zip::ZipWriter::new(File::create(path).expect("made"));
            writer.start_file(entry, zip::write::SimpleFileOptions::default()).expect("begun");
            writer.write_all(b"class").expect("written");
            writer.finish().expect("finished");
        };
        jar("lib/other.jar", "example/Handler.class");
        // What has no end to its entries is not read to the end.
        let mut writer = zip::ZipWriter::new(File::create(package.join("lib/endless.jar")).expect("made"));
        for n in 0..MAX_DIRECTORY / 60_000 + 1 {
            let name = format!("{}{n}", "x".repeat(60_000));
            writer.start_file(name, zip::write::SimpleFileOptions::default()).expect("begun");
        }
        writer.start_file(class, zip::write::SimpleFileOptions::default()).expect("begun");
        writer.finish().expect("finished");
        assert!(!has_client([package]), "in too large a jar");
        std::fs::write(package.join("lib/broken.jar"), "no zip").expect("written");
        assert!(!has_client([package]), "other jars");
        jar("lib/client.jar", class);
        assert!(has_client([package]), "in lib");
        std::fs::remove_file(package.join("lib/client.jar")).expect("removed");
        jar("all.jar", class);
        assert!(has_client([package]), "in a jar at the top");
        std::fs::remove_file(package.join("all.jar")).expect("removed");
        std::fs::create_dir_all(package.join(class).parent().expect("a folder")).expect("made");
        std::fs::write(package.join(class), "class").expect("written");
        assert!(has_client([Path::new("/nowhere"), package]), "unpacked");
    }
}
