//! Python: the files as they are, with what the requirements file names beside them.

use super::cache::Cache;
use super::{Built, Job, Tool, step};
use crate::error::{Doing, Error, Result};
use crate::exit::Exit;
use crate::machine;
use crate::package::Package;
use std::path::{Path, PathBuf};

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
    pip(python)?.arg("--target").arg(target).arg("-r").arg(file).dir(dir).run().map(drop)
}

/// `pip install` for the interpreter `python`. Many systems have interpreters without pip; any other pip can
/// install for them (`pip --python`, since pip 22.3).
pub fn pip(python: &Path) -> Result<Tool> {
    const PIP: &str = "pip for Python (Debian: python3-pip)";
    let has_pip = |program: &Path| Tool::new(program, PIP).args(["-m", "pip", "--version"]).run().is_ok();
    let others = machine::interpreters().iter().filter(|one| one.language == "python").rev();
    let programs = std::iter::once(python).chain(others.map(|one| one.program.as_path()));
    let Some(with_pip) = programs.into_iter().find(|program| has_pip(program)) else {
        return Err(
            Error::new(Exit::Build, "no Python on this machine has pip").fix(format!("install {PIP}"))
        );
    };
    let mut pip = Tool::new(with_pip, PIP).args(["-m", "pip"]);
    if with_pip != python {
        pip = pip.arg("--python").arg(python);
    }
    let quiet = ["--quiet", "--no-compile", "--disable-pip-version-check", "--root-user-action", "ignore"];
    Ok(pip.arg("install").args(quiet))
}

/// The interpreter of the function's own version, since packages with compiled parts fit one version only.
/// Programs on the HTTP contract run what `python3` is on the system's own search path.
fn interpreter(job: &Job<'_>) -> Result<PathBuf> {
    let Some(version) = job.detected.runtime.strip_prefix("python") else {
        let system = ["/usr/local/bin/python3", "/usr/bin/python3"].map(PathBuf::from);
        return Ok(system.into_iter().find(|path| path.is_file()).unwrap_or_else(|| "python3".into()));
    };
    match machine::interpreter(machine::interpreters(), "python", version) {
        Some(found) => Ok(found.program.clone()),
        None => Err(Error::new(
            Exit::Build,
            format!("no Python {version} is here to install the requirements with"),
        )
        .fix(format!("install python{version}, or choose a runtime that `brooklet doctor` lists"))),
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
