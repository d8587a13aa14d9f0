use super::*;
use crate::testing;
use std::io::Write;

fn write(path: &Path, content: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, content).expect("written");
}

fn jar(path: &Path, entries: &[&str]) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    let mut writer = zip::ZipWriter::new(File::create(path).expect("made"));
    for entry in entries {
        writer.start_file(*entry, zip::write::SimpleFileOptions::default()).expect("begun");
        writer.write_all(b"x").expect("written");
    }
    writer.finish().expect("finished");
}

fn archive(code: &Path, kind: Kind) -> Archive {
    let mut shelf = code.as_os_str().to_owned();
    shelf.push(SUFFIX);
    Archive {
        dir: Path::new(&shelf).join("key"),
        kind,
        jars: vec!["/var/task/lib/a.jar".into(), "/var/sdk/lib/ric.jar".into()],
        task: "/var/task".into(),
    }
}

fn words(argv: &[OsString]) -> String {
    argv.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

const ARGV: [&str; 5] =
    ["java", "-Xmx64m", "-cp", "/var/task:/var/task/lib/a.jar:/var/sdk/lib/ric.jar", "Main"];

#[test]
fn the_class_path_that_takes_an_archive_begins_with_the_one_that_made_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (code, staging) = (dir.path().join("code"), dir.path().join("staging"));
    write(&code.join("a/B.class"), "class");
    for (kind, makes, takes) in [
        (Kind::Dynamic, "-XX:ArchiveClassesAtExit=/tmp/x", "-XX:SharedArchiveFile=/var/sdk/jvm/archive"),
        (Kind::Ahead, "-XX:AOTCacheOutput=/tmp/x", "-XX:AOTCache=/var/sdk/jvm/archive -Xlog:aot=off"),
    ] {
        let archive = archive(&code, kind);
        let files = files_of(&code).expect("read");
        assert_eq!(files, ["a/B.class"]);
        clear(&staging).expect("cleared");
        std::fs::create_dir_all(&staging).expect("made");
        pack(&code, &[&files[0]], &staging.join(CLASSES)).expect("packed");
        let file = File::options().read(true).write(true).create_new(true).open(staging.join(ARCHIVE));
        let staged = Staged { dir: staging.clone(), archive: file.expect("made"), classes: true };
        let mut argv = ARGV.map(OsString::from).to_vec();
        archive.make(&mut argv, "/tmp/x", &staged);
        let path = "/var/sdk/jvm/classes.jar:/var/task/lib/a.jar:/var/sdk/lib/ric.jar";
        assert_eq!(words(&argv), format!("java -Xmx64m {makes} -cp {path} Main"));

        assert_eq!(archive.publish(&staged).expect_err("empty").to_string(), "the JVM made none");
        assert!(!archive.dir().exists());
        (&staged.archive).write_all(b"archive").expect("written");
        assert_eq!(archive.publish(&staged).expect("published"), 7);
        assert!(archive.dir().join(ARCHIVE).is_file() && !staging.exists());
        let mut argv = ARGV.map(OsString::from).to_vec();
        archive.take(&mut argv);
        assert_eq!(words(&argv), format!("java -Xmx64m {takes} -cp {path}:/var/task Main"));
        clear(archive.dir()).expect("cleared");
    }
}

#[test]
fn a_package_whose_resources_would_change_places_gets_none() {
    let dir = tempfile::tempdir().expect("a folder");
    let check = |file: &str, entry: &str| {
        let path = dir.path().join("a.jar");
        jar(&path, &[entry]);
        let refused = refuse_what_would_change_places(&[file.to_owned()], [path].into_iter());
        refused.err().map(|error| error.to_string())
    };
    let double = |file: &str| Some(format!("{file} is both in the package and in a.jar"));
    assert_eq!(check("log.xml", "other.xml"), None);
    assert_eq!(check("log.xml", "log.xml"), double("log.xml"));
    assert_eq!(check("META-INF/services/a.B", "META-INF/services/a.B"), double("META-INF/services/a.B"));
    // Classes keep their order; what build tools leave everywhere is read by nobody.
    for same in ["a/B.class", "META-INF/MANIFEST.MF", "META-INF/LICENSE.txt", "META-INF/maven/g/a/pom.xml"] {
        assert_eq!(check(same, same), None, "{same}");
    }
}

#[test]
fn options_that_speak_of_archives_rule_them_out() {
    for option in ["-Xshare:off", "-XX:AOTMode=off", "-javaagent:/opt/a.jar", "--module-path=x"] {
        assert!(rules_out(option), "{option}");
    }
    for option in ["-XX:+UseG1GC", "-Dx=1", "-Xmx100m", "-Xlog:class+load"] {
        assert!(!rules_out(option), "{option}");
    }
}

#[test]
fn functions_of_the_same_package_have_archives_of_their_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let found = Found { language: "java", version: "17".into(), program: dir.path().join("java") };
    let places =
        Places { task: "/var/task".into(), runtime: "/var/runtime".into(), programs: None, tmp: None };
    let mut spec = testing::spec("java17", dir.path());
    let of = |spec: &InstanceSpec| Archive::of(spec, &found, &[], &places, None);
    let first = of(&spec).expect("one fits");
    assert_eq!(of(&spec).as_ref(), Some(&first));
    spec.environment.insert("_JAVA_OPTIONS".into(), "-XX:OnOutOfMemoryError=true".into());
    assert_ne!(of(&spec).as_ref(), Some(&first), "other options");
    spec.environment.clear();
    spec.function_arn.push_str("another");
    assert_ne!(of(&spec), Some(first));
}

/// What this process has taken of memory since it was asked to forget, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    peak.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a_class_as_large_as_a_package_takes_no_memory_of_the_server() {
    let dir = tempfile::tempdir().expect("a folder");
    let class = File::create(dir.path().join("Large.class")).expect("made");
    class.set_len(128 << 20).expect("a hole");
    std::fs::write("/proc/self/clear_refs", "5").expect("forgotten");
    let before = peak_kib();
    pack_classes(dir.path(), &dir.path().join(CLASSES)).expect("packed");
    let taken = (peak_kib() - before) >> 10;
    assert!(taken < 64, "{taken} MiB");
}
