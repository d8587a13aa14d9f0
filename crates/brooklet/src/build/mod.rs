//! Makes deployment packages: what each language needs is one file here. Output and caches stay out of the
//! project: everything is under `$XDG_CACHE_HOME/brooklet`, and can be deleted at any time.

mod cache; //   where builds happen and what need not be done again
mod compiled; // go, cargo, mvn, mcs, dotnet
mod node;
mod python;
mod tool; //    runs compilers and package managers

pub use python::pip;
pub use tool::Tool;

use crate::detect::{Detected, Language};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::manifest::Build;
use crate::package::Package;
use cache::Cache;
use std::path::Path;

/// What is built.
pub struct Job<'a> {
    /// The function's name: functions of one folder are built apart.
    pub name: &'a str,
    /// The folder of the code.
    pub dir: &'a Path,
    /// How.
    pub build: &'a Build,
    /// The folder that becomes the package after a build command, relative to `dir`.
    pub package: Option<&'a str>,
    /// What the folder is.
    pub detected: &'a Detected,
    /// Whether to forget what was built before.
    pub rebuild: bool,
}

/// A package and what was done to make it.
#[derive(Debug)]
pub struct Built {
    /// The files.
    pub package: Package,
    /// What was done, for people: `go build`, `pip install (unchanged)`.
    pub did: Vec<String>,
}

/// Builds. Blocks: call it where blocking is allowed.
pub fn build(job: &Job<'_>) -> Result<Built> {
    let packaged = job.package.map_or(job.dir.to_path_buf(), |inner| job.dir.join(inner));
    match job.build {
        Build::Skip => {
            refuse_missing(&packaged, job)?;
            Ok(Built { package: Package::of(&packaged, "")?, did: vec![] })
        }
        Build::Command(command) => {
            let shell = Tool::new("sh", "a POSIX shell").args(["-c", command]).titled(command).dir(job.dir);
            shell.env("BROOKLET_FUNCTION", job.name).shown().run()?;
            refuse_missing(&packaged, job)?;
            Ok(Built { package: Package::of(&packaged, "")?, did: vec![command.clone()] })
        }
        Build::Detect => {
            let cache = Cache::open(job)?;
            match job.detected.language {
                Language::Plain => Ok(Built { package: Package::of(&packaged, "")?, did: vec![] }),
                Language::Python => python::build(job, &cache),
                Language::Node => node::build(job, &cache),
                Language::TypeScript => node::build_typescript(job, &cache),
                Language::Go => compiled::go(job, &cache),
                Language::Rust => compiled::rust(job, &cache),
                Language::Java => compiled::java(job, &cache),
                Language::CSharp => compiled::csharp(job, &cache),
            }
        }
    }
}

fn refuse_missing(packaged: &Path, job: &Job<'_>) -> Result<()> {
    if packaged.is_dir() {
        return Ok(());
    }
    let package = job.package.unwrap_or_default();
    Err(Error::new(Exit::Build, format!("there is no folder `{package}` to package"))
        .because(format!("{} is not a folder", packaged.display()))
        .fix("let `build` in brooklet.toml make it, or name another folder with `package`"))
}

/// A step that was done, or found done: `pip install`, `pip install (unchanged)`.
fn step(what: &str, fresh: bool) -> String {
    if fresh { format!("{what} (unchanged)") } else { what.to_string() }
}
