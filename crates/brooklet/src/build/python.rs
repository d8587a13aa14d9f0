//! Python: the files as they are, with what the requirements file names beside them.

use super::cache::Cache;
use super::{Built, Job, Tool, step};
use crate::error::{Doing, Error, Result};
use crate::exit::Exit;
use crate::machine;
use crate::package::Package;
use std::path::Path;

/// In the order of preference: a lock file names exact versions.
const REQUIREMENTS: [&str; 2] = ["requirements.lock", "requirements.txt"];

/// Packs the folder, with its requirements when it has any.
pub fn build(job: &Job<'_>, cache: &Cache) -> Result<Built> {
    let mut package = Package::of(job.dir, "")?;
    let Some(file) = REQUIREMENTS.iter().map(|name| job.dir.join(name)).find(|path| path.is_file()) else {
        return Ok(Built { package, did: other_tools(job.dir) });
    };
    let text = std::fs::read_to_string(&file).doing(|| format!("read {}", file.display()))?;
    if text.lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#')) {
        return Ok(Built { package, did: vec![] });
    }
    let python = interpreter(job)?;
    let inputs = [text.as_bytes(), python.as_os_str().as_encoded_bytes()];
    let (deps, fresh) = cache.made("deps", &inputs, |dir| install(&python, &file, job.dir, dir))?;
    package.add(Package::of(&deps, "/bin/\n")?);
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Built { package, did: vec![step(&format!("pip install -r {name}"), fresh)] })
}

/// With hashes in the file, pip checks them all by itself.
fn install(python: &Path, file: &Path, dir: &Path, target: &Path) -> Result<()> {
    let pip = Tool::new(python, "Python with pip").args(["-m", "pip", "install"]);
    let quiet = ["--quiet", "--no-compile", "--disable-pip-version-check", "--root-user-action", "ignore"];
    pip.args(quiet).arg("--target").arg(target).arg("-r").arg(file).dir(dir).run().map(drop)
}

/// The interpreter of the function's own version, since packages with compiled parts fit one version only.
fn interpreter(job: &Job<'_>) -> Result<std::path::PathBuf> {
    let Some(version) = job.detected.runtime.strip_prefix("python") else {
        return Ok("python3".into());
    };
    match machine::interpreter(machine::interpreters(), "python", version) {
        Some(found) => Ok(found.program.clone()),
        None => Err(Error::new(
            Exit::Build,
            format!("no Python {version} is here to install the requirements with"),
        )
        .fix(format!("install python{version} with pip, or choose a runtime that `brooklet doctor` lists"))),
    }
}

/// Says so when dependencies are declared where pip does not look.
fn other_tools(dir: &Path) -> Vec<String> {
    let declares = |name: &str| {
        let text = std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        text.contains("dependencies = [\n") || text.contains("[tool.poetry.dependencies]")
    };
    let note = "pyproject.toml is not installed: write its dependencies to requirements.txt \
                (uv export, poetry export, pip-compile)";
    if declares("pyproject.toml") { vec![note.to_string()] } else { vec![] }
}
