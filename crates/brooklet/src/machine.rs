//! What this machine has: interpreters and tools.

use crate::detect::Available;
use std::path::PathBuf;
use std::sync::OnceLock;

/// A language runtime that was found on this machine: `python`, `node`, `java`, `dotnet` or `mono`, its
/// version as far as runtimes tell apart (`3.12`, `20`, `17`), and the program.
pub use process::Found as Interpreter;

/// Every language runtime on this machine, as the server would find them. Starts programs, which takes some
/// 100 ms, so they are looked for once.
pub fn interpreters() -> &'static [Interpreter] {
    static FOUND: OnceLock<Vec<Interpreter>> = OnceLock::new();
    FOUND.get_or_init(process::survey)
}

/// The interpreter of exactly this language and version.
pub fn interpreter<'a>(all: &'a [Interpreter], language: &str, version: &str) -> Option<&'a Interpreter> {
    all.iter().find(|one| one.language == language && one.version == version)
}

/// The versions that a folder gets when it does not say which it wants: what the bare command runs is what
/// the user works with, so that version if there is one, else the newest.
pub fn available() -> &'static Available {
    static CHOSEN: OnceLock<Available> = OnceLock::new();
    CHOSEN.get_or_init(|| choose(interpreters(), bare("python3", 2), bare("node", 1)))
}

fn choose(all: &[Interpreter], python: Option<String>, node: Option<String>) -> Available {
    let number =
        |version: &str| version.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
    let newest = |language: &str| {
        let versions = all.iter().filter(|one| one.language == language).map(|one| &one.version);
        versions.max_by_key(|version| number(version)).cloned()
    };
    let preferred = |language: &str, usual: Option<String>| {
        usual.filter(|version| interpreter(all, language, version).is_some()).or_else(|| newest(language))
    };
    Available { python: preferred("python", python), node: preferred("node", node), java: newest("java") }
}

/// The first `parts` parts of the version that `program --version` prints.
fn bare(program: &str, parts: usize) -> Option<String> {
    let output = std::process::Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().last()?.trim_start_matches('v');
    Some(version.split('.').take(parts).collect::<Vec<_>>().join("."))
}

/// Where `program` is on the search path.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| {
        use std::os::unix::fs::PermissionsExt;
        file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_version_is_preferred_and_else_the_newest() {
        let found =
            |language, version: &str| Interpreter { language, version: version.into(), program: "/x".into() };
        let all =
            [found("python", "3.9"), found("python", "3.13"), found("python", "3.11"), found("java", "17")];
        let check = |usual: &str| choose(&all, Some(usual.into()), None).python;
        assert_eq!(check("3.11").as_deref(), Some("3.11"));
        assert_eq!(
            check("3.8").as_deref(),
            Some("3.13"),
            "3.8 is not among them, and 3.13 is newer than 3.9"
        );
        assert_eq!(choose(&all, None, Some("20".into())).node, None);
    }
}
