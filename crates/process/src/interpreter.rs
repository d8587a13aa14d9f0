//! Which program runs a runtime identifier, and where this machine has it.
//!
//! Looked for, in this order: `BROOKLET_<PROGRAM>` variables, the search path, and the folders of the usual
//! version managers. A runtime asks for exactly its language version (Java: that or the next newer).

use crate::sandbox::Bind;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A language runtime that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// `python`, `node`, `java`, `dotnet` or `mono`.
    pub language: &'static str,
    /// Its version, as far as the language's runtimes tell apart: `3.12`, `20`, `17`.
    pub version: String,
    /// The program.
    pub program: PathBuf,
}

impl Found {
    /// What of the machine the program needs beyond the system folders.
    pub fn binds(&self) -> Vec<Bind> {
        let real = self.path();
        // …/bin/python3.12 → …; dotnet lies at the top of its own folder.
        let prefix = match real.parent() {
            Some(dir) if dir.ends_with("bin") => dir.parent(),
            dir => dir,
        };
        let Some(prefix) = prefix.filter(|prefix| *prefix != Path::new("/")) else { return vec![] };
        // Scripts written for Lambda know the interpreter by this path.
        let mut binds = vec![Bind { source: prefix.into(), target: LANG.into() }];
        if !prefix.starts_with("/usr") {
            binds.push(Bind::same(prefix));
        }
        binds
    }

    /// The folder of its programs, for the search path: in a sandbox, or on the machine.
    pub fn programs(&self, sandboxed: bool) -> PathBuf {
        let dir = self.path().parent().map(Path::to_owned).unwrap_or_default();
        match (sandboxed, dir.ends_with("bin")) {
            (true, true) => Path::new(LANG).join("bin"),
            (true, false) => LANG.into(),
            (false, _) => dir,
        }
    }

    /// Variables that it needs on this machine.
    pub fn variables(&self) -> &'static [(&'static str, &'static str)] {
        // .NET ends a program when it finds no ICU that it knows, unless it is told to do without. Core 2 and 3
        // know none newer than of their own time.
        let old = self.version.starts_with(['2', '3']);
        match self.language {
            "dotnet" if old || !has_icu() => &[("DOTNET_SYSTEM_GLOBALIZATION_INVARIANT", "1")],
            _ => &[],
        }
    }

    /// The program with every link resolved: its path inside the sandbox.
    pub fn path(&self) -> PathBuf {
        self.program.canonicalize().unwrap_or_else(|_| self.program.clone())
    }
}

/// Where Lambda has the language: programs in `bin`.
const LANG: &str = "/var/lang";

/// What a runtime identifier asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// CPython of this minor version (`3.12`).
    Python(String),
    /// Node.js of this major version (`20`).
    Node(String),
    /// A JVM of this major version or the next newer.
    Java(u32),
    /// .NET, or Mono.
    Dotnet,
    /// The package brings its own `bootstrap`.
    Provided,
    /// The package brings a program that listens on `$PORT`.
    Http,
}

/// Reads a runtime identifier; `None` for one that Brooklet does not run.
pub fn wanted(runtime: &str) -> Option<Wanted> {
    if let Some(version) = runtime.strip_prefix("python") {
        return version.starts_with("3.").then(|| Wanted::Python(version.to_owned()));
    }
    if let Some(version) = runtime.strip_prefix("nodejs") {
        return Some(Wanted::Node(version.trim_end_matches(".x").to_owned()));
    }
    if let Some(version) = runtime.strip_prefix("java") {
        return version.split('.').next()?.parse().ok().map(Wanted::Java);
    }
    match runtime {
        "http" => Some(Wanted::Http),
        _ if runtime.starts_with("dotnet") => Some(Wanted::Dotnet),
        _ if runtime.starts_with("provided") => Some(Wanted::Provided),
        _ => None,
    }
}

/// Finds what `wanted` needs.
///
/// # Errors
/// What is missing, where it was looked for and how to get it.
pub fn find(wanted: &Wanted) -> Result<Option<Found>, String> {
    match wanted {
        Wanted::Provided | Wanted::Http => Ok(None),
        Wanted::Python(version) => python(version).map(Some).ok_or_else(|| {
            missing(&format!("Python {version}"), &format!("python{version}"), "PYTHON", &of("python"))
        }),
        Wanted::Node(version) => node(version)
            .map(Some)
            .ok_or_else(|| missing(&format!("Node.js {version}"), "node", "NODE", &of("node"))),
        Wanted::Java(version) => java(*version)
            .map(Some)
            .ok_or_else(|| missing(&format!("Java {version} or newer"), "java", "JAVA", &of("java"))),
        Wanted::Dotnet => dotnet().map(Some).ok_or_else(|| {
            missing("a .NET runtime or Mono", "dotnet", "DOTNET", "neither dotnet nor mono was found")
        }),
    }
}

fn missing(what: &str, program: &str, variable: &str, present: &str) -> String {
    format!(
        "This machine has no {what}: {present}. Install it so that `{program}` is on the server's search path \
         (or set BROOKLET_{variable} to its program), or choose a runtime that this machine has; \
         `brooklet doctor` lists them."
    )
}

fn of(language: &str) -> String {
    let versions: Vec<String> =
        survey().into_iter().filter(|f| f.language == language).map(|f| f.version).collect();
    match versions.is_empty() {
        true => format!("no {language} was found"),
        false => format!("found {language} {}", versions.join(", ")),
    }
}

/// Every language runtime on this machine that a runtime identifier asks for, for `doctor` and error messages. Starts programs, so it takes
/// some 100 ms.
pub fn survey() -> Vec<Found> {
    let mut found: Vec<Found> = (8..=14).filter_map(|minor| python(&format!("3.{minor}"))).collect();
    found.extend([16, 18, 20, 22, 24].iter().filter_map(|major: &u32| node(&major.to_string())));
    found.extend([8, 11, 17, 21, 25].into_iter().filter_map(java));
    found.extend(dotnet());
    found.dedup();
    found
}

fn python(version: &str) -> Option<Found> {
    let name = format!("python{version}");
    let at = |program: PathBuf| Found { language: "python", version: version.to_owned(), program };
    let answers = |program: &PathBuf| {
        output(program, &["-c", "import sys;print('%d.%d' % sys.version_info[:2])"])
            .is_some_and(|v| v.trim() == version)
    };
    let mut candidates = chosen("PYTHON");
    candidates.extend(on_path(&name));
    for (folder, prefix) in [
        (".pyenv/versions", format!("{version}.")),
        (".local/share/uv/python", format!("cpython-{version}.")),
        (".local/share/mise/installs/python", format!("{version}.")),
        (".asdf/installs/python", format!("{version}.")),
    ] {
        candidates.extend(managed(folder, &prefix).into_iter().map(|dir| dir.join("bin").join(&name)));
    }
    candidates.extend(on_path("python3"));
    candidates.into_iter().filter(|p| !is_shim(p)).find(answers).map(at)
}

fn node(version: &str) -> Option<Found> {
    let at = |program: PathBuf| Found { language: "node", version: version.to_owned(), program };
    let answers = |program: &PathBuf| {
        output(program, &["--version"])
            .is_some_and(|v| v.trim().trim_start_matches('v').split('.').next() == Some(version))
    };
    let mut candidates = chosen("NODE");
    candidates.extend(on_path(&format!("node{version}")));
    candidates.extend(on_path("node"));
    for (folder, prefix, program) in [
        (".nvm/versions/node", format!("v{version}."), "bin/node"),
        (".local/share/fnm/node-versions", format!("v{version}."), "installation/bin/node"),
        (".volta/tools/image/node", format!("{version}."), "bin/node"),
        (".local/share/mise/installs/node", format!("{version}."), "bin/node"),
        (".asdf/installs/nodejs", format!("{version}."), "bin/node"),
    ] {
        candidates.extend(managed(folder, &prefix).into_iter().map(|dir| dir.join(program)));
    }
    candidates.into_iter().filter(|p| !is_shim(p)).find(answers).map(at)
}

fn java(at_least: u32) -> Option<Found> {
    let mut homes: Vec<PathBuf> = std::env::var_os("JAVA_HOME").map(PathBuf::from).into_iter().collect();
    for parent in ["/usr/lib/jvm", "/opt/java", "/Library/Java/JavaVirtualMachines"] {
        homes.extend(entries(Path::new(parent)));
    }
    homes.extend(managed(".sdkman/candidates/java", ""));
    let mut programs: Vec<PathBuf> = chosen("JAVA");
    programs.extend(homes.into_iter().map(|home| home.join("bin/java")));
    programs.extend(on_path("java"));
    let versions = programs.into_iter().filter_map(|program| Some((java_version(&program)?, program)));
    let (version, program) = versions.filter(|(v, _)| *v >= at_least).min_by_key(|(v, _)| *v)?;
    Some(Found { language: "java", version: version.to_string(), program })
}

/// From the `release` file beside the program, which saves starting a JVM (35 ms and more).
fn java_version(program: &Path) -> Option<u32> {
    let home = program.canonicalize().ok()?.parent()?.parent()?.to_owned();
    let release = std::fs::read_to_string(home.join("release")).ok()?;
    let version = release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION="))?.trim_matches('"');
    version.strip_prefix("1.").unwrap_or(version).split(['.', '-', '+']).next()?.parse().ok()
}

fn dotnet() -> Option<Found> {
    let mut programs = chosen("DOTNET");
    programs.extend(on_path("dotnet"));
    programs.extend(["/usr/share/dotnet/dotnet", "/usr/lib/dotnet/dotnet"].map(PathBuf::from));
    let version = |program: &PathBuf| {
        let runtimes = output(program, &["--list-runtimes"])?;
        let core = runtimes.lines().rev().find_map(|l| l.strip_prefix("Microsoft.NETCore.App "))?;
        core.split(' ').next().map(str::to_owned)
    };
    let dotnet = programs
        .into_iter()
        .filter(|p| p.exists())
        .find_map(|program| Some(Found { language: "dotnet", version: version(&program)?, program }));
    dotnet.or_else(|| {
        let program = on_path("mono").pop()?;
        let version =
            output(&program, &["--version"])?.split("version ").nth(1)?.split(' ').next()?.to_owned();
        Some(Found { language: "mono", version, program })
    })
}

fn chosen(variable: &str) -> Vec<PathBuf> {
    std::env::var_os(format!("BROOKLET_{variable}")).map(PathBuf::from).into_iter().collect()
}

fn on_path(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.extend(["/usr/local/bin", "/usr/bin"].map(PathBuf::from));
    dirs.into_iter().map(|dir| dir.join(name)).filter(|p| p.is_file()).collect()
}

fn managed(folder: &str, prefix: &str) -> Vec<PathBuf> {
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else { return Vec::new() };
    let starts = |dir: &PathBuf| dir.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix));
    entries(&home.join(folder)).into_iter().filter(starts).collect()
}

fn has_icu() -> bool {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    files.into_iter().any(|file| file.file_name().to_string_lossy().starts_with("libicuuc.so"))
}

/// Newest-looking first.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = read.map(|entry| entry.path()).collect();
    paths.sort();
    paths.reverse();
    paths
}

/// A version manager's shim is a script that picks a version by the working directory: never what is meant.
fn is_shim(program: &Path) -> bool {
    program.components().any(|part| part.as_os_str() == "shims")
}

fn output(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(std::process::Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_identifier_says_which_language_and_version_it_wants() {
        let check = |runtime: &str| wanted(runtime);
        assert_eq!(check("python3.12"), Some(Wanted::Python("3.12".into())));
        assert_eq!(check("nodejs20.x"), Some(Wanted::Node("20".into())));
        assert_eq!(check("java8.al2"), Some(Wanted::Java(8)));
        assert_eq!(check("java21"), Some(Wanted::Java(21)));
        assert_eq!(check("dotnet8"), Some(Wanted::Dotnet));
        assert_eq!(check("dotnetcore3.1"), Some(Wanted::Dotnet));
        assert_eq!(check("provided.al2023"), Some(Wanted::Provided));
        assert_eq!(check("http"), Some(Wanted::Http));
        for unknown in ["", "python2.7", "ruby3.3", "cobol"] {
            assert_eq!(check(unknown), None, "{unknown}");
        }
    }
}
