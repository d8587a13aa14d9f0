//! Compile caches of Node.js functions: the code that V8 has made of the modules that a version loads while it starts, kept
//! as files that the next Node.js reads instead of compiling them (Node.js 22.10: `module.enableCompileCache`).
//!
//! A cache belongs to a function, a package, its layers, a Node.js and a command line, and lies beside the unpacked package
//! (`<package>.v8/<key>`). Node.js looks for a module by its path, and takes only what was made by the same V8 with the
//! same flags of the same source text; a checksum finds what was damaged by accident. What was made on purpose nothing
//! finds: whoever writes these files decides what runs. So no instance does, but a training run, which ends with them.

use crate::interpreter::Found;
use crate::sandbox::Bind;
use crate::shelf;
use ports::InstanceSpec;
use serde::Deserialize;
use std::ffi::OsString;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

/// Beside the folder of a package: its caches.
pub const SUFFIX: &str = ".v8";
/// Where an instance sees its own.
pub const SEEN: &str = "/var/sdk/v8";
/// Modules of one function.
const MAX_FILES: usize = 20_000;
/// What a training run says about them, in bytes.
const MAX_HEAD: u64 = 2 << 20;

/// The cache that fits a start, made or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileCache {
    dir: PathBuf,
}

/// What a training run says of the files that follow: the folder that Node.js has made for its version, and in
/// it the files by name and size in bytes.
#[derive(Deserialize)]
struct Head {
    folder: String,
    files: Vec<(String, u64)>,
}

impl CompileCache {
    /// The one that fits `spec` on a Node.js whose command line is `argv`; `None` where there can be none.
    pub fn of(spec: &InstanceSpec, found: &Found, argv: &[OsString]) -> Option<CompileCache> {
        let new_enough =
            found.language == "node" && found.version.parse::<u32>().is_ok_and(|major| major >= 22);
        // A function that has a say in this itself.
        let own = ["NODE_COMPILE_CACHE", "NODE_DISABLE_COMPILE_CACHE", "NODE_V8_COVERAGE"];
        if !new_enough || own.iter().any(|name| spec.environment.contains_key(*name)) {
            return None;
        }
        let mut key = DefaultHasher::new();
        // Of this function and no other of the same package: its variables and its network may have a say in what runs, and
        // what runs decides what is written.
        (&spec.function_arn, argv, &spec.handler, &spec.layer_dirs).hash(&mut key);
        spec.environment.get("NODE_OPTIONS").hash(&mut key);
        let program = found.path().metadata().ok()?;
        (program.len(), program.modified().ok()).hash(&mut key);
        Some(CompileCache { dir: shelf::place(&spec.code_dir, SUFFIX, key.finish()) })
    }

    /// The folder of its own, made or not.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where an instance sees the finished cache.
    pub fn bind(&self) -> Bind {
        Bind { source: self.dir.clone(), target: SEEN.into() }
    }

    /// Takes what a training run has written to `told` apart, in the folder `staged`, and puts it in its place for all
    /// instances from now on. The size in bytes.
    pub fn publish(&self, mut told: &File, staged: &Path) -> io::Result<u64> {
        told.rewind()?;
        let made = staged.join("cache");
        take_apart(told, &made)?;
        shelf::open_to_all(&made)?;
        let size = shelf::size(&made);
        shelf::put(&made, &self.dir)?;
        Ok(size)
    }
}

/// It comes out of a sandbox, so nothing of it is believed.
fn take_apart(told: &File, into: &Path) -> io::Result<()> {
    let refused = |what: &str| io::Error::other(format!("what Node.js left is no cache: {what}"));
    let (mut reader, mut line) = (BufReader::new(told), Vec::new());
    reader.by_ref().take(MAX_HEAD).read_until(b'\n', &mut line)?;
    let head: Head = serde_json::from_slice(&line).map_err(|error| refused(&error.to_string()))?;
    if head.files.is_empty() || head.files.len() > MAX_FILES {
        return Err(refused(&format!("{} files", head.files.len())));
    }
    if let Some(name) =
        head.files.iter().map(|(name, _)| name).chain([&head.folder]).find(|name| !is_plain(name))
    {
        return Err(refused(&format!("a file called {name:?}")));
    }
    let folder = into.join(&head.folder);
    std::fs::create_dir_all(&folder)?;
    for (name, size) in head.files {
        let mut file = File::create_new(folder.join(name))?;
        if io::copy(&mut reader.by_ref().take(size), &mut file)? != size {
            return Err(refused("it is cut off"));
        }
    }
    match reader.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(refused("more follows")),
    }
}

/// `v22.12.0-x64-0f1e2d3c-993`, `0242b4c8`.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=100).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::io::Write;

    #[test]
    fn functions_of_the_same_package_have_caches_of_their_own() {
        let dir = tempfile::tempdir().expect("a folder");
        let program = dir.path().join("node");
        File::create(&program).expect("made");
        let found = Found { language: "node", version: "22".into(), program };
        let mut spec = testing::spec("nodejs22.x", dir.path());
        let first = CompileCache::of(&spec, &found, &[]).expect("one fits");
        assert_eq!(CompileCache::of(&spec, &found, &[]).as_ref(), Some(&first));
        spec.function_arn.push_str("another");
        assert_ne!(CompileCache::of(&spec, &found, &[]), Some(first));
    }

    /// What becomes of what a training run wrote: its files, or why not.
    fn check(told: &str) -> String {
        let dir = tempfile::tempdir().expect("a folder");
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(told.as_bytes()).expect("written");
        file.rewind().expect("rewound");
        let into = dir.path().join("cache");
        if let Err(error) = take_apart(&file, &into) {
            return error.to_string();
        }
        let read = |path: PathBuf| {
            let name = path.strip_prefix(&into).expect("inside").to_string_lossy().into_owned();
            format!("{name}={}", std::fs::read_to_string(path).expect("read"))
        };
        let folders = std::fs::read_dir(&into).expect("read").map(|entry| entry.expect("read").path());
        let files = folders.flat_map(|folder| std::fs::read_dir(folder).expect("read"));
        let mut files: Vec<String> = files.map(|entry| read(entry.expect("read").path())).collect();
        files.sort();
        files.join(" ")
    }

    #[test]
    fn files_come_out_as_node_wrote_them() {
        let told = "{\"folder\":\"v22\",\"files\":[[\"0a\",3],[\"0b\",0],[\"0c\",2]]}\nabcde";
        assert_eq!(check(told), "v22/0a=abc v22/0b= v22/0c=de");
    }

    #[test]
    fn nothing_is_written_elsewhere_or_by_half() {
        for (told, why) in [
            ("", "EOF"),
            ("{\"folder\":\"v\",\"files\":[]}\n", "0 files"),
            ("{\"folder\":\"v\",\"files\":[[\"../../a\",1]]}\na", "called \"../../a\""),
            ("{\"folder\":\"..\",\"files\":[[\"a\",1]]}\na", "called \"..\""),
            ("{\"folder\":\"/etc\",\"files\":[[\"a\",1]]}\na", "called \"/etc\""),
            ("{\"folder\":\"v\",\"files\":[[\"a\",9]]}\na", "cut off"),
            ("{\"folder\":\"v\",\"files\":[[\"a\",1]]}\nab", "more follows"),
            ("{\"folder\":\"v\",\"files\":[[\"a\",1],[\"a\",1]]}\nab", "exists"),
        ] {
            let told = check(told);
            assert!(told.contains(why), "{told} / {why}");
        }
    }
}
