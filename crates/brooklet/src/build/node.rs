//! JavaScript: the files as they are, with production dependencies from the lock file. TypeScript: through
//! the project's own build script, else through esbuild, which Brooklet keeps in its cache.

use super::cache::{Cache, digest};
use super::{Built, Job, Tool, step};
use crate::config::cache_dir;
use crate::error::{Doing, Error, Result};
use crate::exit::Exit;
use crate::package::Package;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The compiler for TypeScript projects without a build script.
const ESBUILD: &str = "esbuild@0.28.2";
const NPM: &str = "Node.js with npm";
const LOCKS: [&str; 2] = ["package-lock.json", "npm-shrinkwrap.json"];

/// Packs the folder, with its production dependencies when it has any.
pub fn build(job: &Job<'_>, cache: &Cache) -> Result<Built> {
    let mut did = vec![];
    let installed = dependencies(job, cache, &mut did)?;
    let mut package = Package::of(job.dir, if installed.is_some() { "/node_modules/" } else { "" })?;
    if let Some(deps) = installed {
        package.add(Package::of(&deps, "/package*.json\n.bin/\n")?);
    }
    Ok(Built { package, did })
}

/// Compiles, then packs as JavaScript is packed.
pub fn build_typescript(job: &Job<'_>, cache: &Cache) -> Result<Built> {
    if package_json(job.dir)?["scripts"]["build"].is_string() {
        return build_by_script(job, cache);
    }
    let mut did = vec![];
    let installed = dependencies(job, cache, &mut did)?;
    let stem = job.detected.handler.rsplit_once('.').map_or("index", |(stem, _)| stem);
    let candidates = ["ts", "mts", "cts", "tsx"].map(|extension| format!("{stem}.{extension}"));
    let Some(entry) = candidates.iter().find(|path| job.dir.join(path).is_file()) else {
        return Err(Error::new(
            Exit::Mistakes,
            format!("there is no {stem}.ts for the handler {}", job.detected.handler),
        )
        .fix("name the handler as MODULE.EXPORT, with the module's path from the folder"));
    };
    let sources = Package::of(job.dir, "/node_modules/")?;
    let (out, fresh) =
        cache.made("out", &[&digest(&sources)?, entry.as_bytes(), ESBUILD.as_bytes()], |out| {
            let outfile = format!("--outfile={}", out.join(format!("{stem}.mjs")).display());
            // Dependencies stay packages of their own: bundling breaks those that look for files beside them.
            let fixed =
                ["--bundle", "--packages=external", "--platform=node", "--format=esm", "--log-level=warning"];
            let tool = Tool::new(esbuild()?, NPM).arg(entry).args(fixed).arg("--sourcemap").arg(outfile);
            tool.dir(job.dir).run().map(drop)
        })?;
    did.push(step(&format!("esbuild {entry}"), fresh));
    let mut package = Package::all(&out)?;
    let ignored = "*.ts\n*.mts\n*.cts\n*.tsx\ntsconfig*.json\n/package-lock.json\n/node_modules/\n";
    package.add(Package::of(job.dir, ignored)?);
    if let Some(deps) = installed {
        package.add(Package::of(&deps, "/package*.json\n.bin/\n")?);
    }
    Ok(Built { package, did })
}

/// Runs the project's own `npm run build` on a copy with all dependencies, then leaves out those that only
/// the build needs.
fn build_by_script(job: &Job<'_>, cache: &Cache) -> Result<Built> {
    let sources = Package::of(job.dir, "/node_modules/")?;
    let (out, fresh) = cache.made("work", &[&digest(&sources)?], |dir| {
        for (path, file) in &sources.files {
            let target = dir.join(path);
            std::fs::create_dir_all(target.parent().unwrap_or(dir))
                .doing(|| format!("make {}", target.display()))?;
            std::fs::copy(&file.source, &target).doing(|| format!("copy {}", file.source.display()))?;
        }
        npm(if has_lock(dir) { "ci" } else { "install" }, dir).run()?;
        npm("run", dir).arg("build").run()?;
        npm("prune", dir).arg("--omit=dev").run().map(drop)
    })?;
    let inner = job.package.map_or(out.clone(), |inner| out.join(inner));
    let ignored =
        "*.ts\n*.mts\ntsconfig*.json\n/package-lock.json\n.bin/\n/node_modules/.package-lock.json\n";
    let package = Package::of(&inner, ignored)?;
    check_handler(&job.detected.handler, &package)?;
    Ok(Built { package, did: vec![step("npm run build", fresh)] })
}

/// A handler that was detected among the sources is usually elsewhere after the project's own build.
fn check_handler(handler: &str, package: &Package) -> Result<()> {
    let Some((stem, export)) = handler.rsplit_once('.') else { return Ok(()) };
    let file = |stem: &str| {
        ["js", "mjs", "cjs"].iter().any(|end| package.files.contains_key(&format!("{stem}.{end}")))
    };
    if file(stem) {
        return Ok(());
    }
    let name = stem.rsplit('/').next().unwrap_or(stem);
    let places = ["dist", "build", "out", "lib", "dist/src", "build/src"].map(|dir| format!("{dir}/{name}"));
    let error = Error::new(Exit::Mistakes, format!("the build made no {stem}.js for the handler {handler}"));
    Err(match places.iter().find(|stem| file(stem)) {
        Some(found) => {
            error.fix(format!("say handler = \"{found}.{export}\" (--handler without a manifest)"))
        }
        None => {
            error.fix("name the handler as MODULE.EXPORT, with the path of the built module from the folder")
        }
    })
}

/// Installs production dependencies into the cache: `None` when there are none, or when the project's own
/// `node_modules` is used as it is.
fn dependencies(job: &Job<'_>, cache: &Cache, did: &mut Vec<String>) -> Result<Option<PathBuf>> {
    let package = package_json(job.dir)?;
    let none = |key: &str| package[key].as_object().is_none_or(|table| table.is_empty());
    if none("dependencies") && none("optionalDependencies") {
        return Ok(None);
    }
    let lock = LOCKS.iter().map(|name| job.dir.join(name)).find(|path| path.is_file());
    if lock.is_none() && job.dir.join("node_modules").is_dir() {
        did.push("node_modules taken as it is: there is no package-lock.json".to_string());
        return Ok(None);
    }
    let foreign =
        ["yarn.lock", "pnpm-lock.yaml", "bun.lock"].iter().find(|name| job.dir.join(name).is_file());
    if let (None, Some(foreign)) = (&lock, foreign) {
        return Err(Error::new(Exit::Build, format!("{foreign} is not read: only npm's lock file is"))
            .fix("install node_modules first, or name the command with build = \"…\" in brooklet.toml"));
    }
    let read = |path: &Path| std::fs::read(path).doing(|| format!("read {}", path.display()));
    let manifest = read(&job.dir.join("package.json"))?;
    let locked = lock.as_deref().map(read).transpose()?.unwrap_or_default();
    let (dir, fresh) = cache.made("deps", &[&manifest, &locked, job.detected.runtime.as_bytes()], |dir| {
        std::fs::write(dir.join("package.json"), &manifest).doing(|| "copy package.json".into())?;
        if lock.is_some() {
            std::fs::write(dir.join(LOCKS[0]), &locked).doing(|| "copy the lock file".into())?;
        }
        let command = npm(if lock.is_some() { "ci" } else { "install" }, dir).arg("--omit=dev");
        command.run().map(drop)
    })?;
    did.push(match lock {
        Some(_) => step("npm ci --omit=dev", fresh),
        None => format!("{}: without a lock file, versions may differ next time", step("npm install", fresh)),
    });
    Ok(Some(dir))
}

fn npm(command: &str, dir: &Path) -> Tool {
    Tool::new("npm", NPM).args([command, "--no-audit", "--no-fund", "--loglevel=error"]).dir(dir)
}

fn has_lock(dir: &Path) -> bool {
    LOCKS.iter().any(|name| dir.join(name).is_file())
}

/// The project's `package.json`; `Null` when there is none.
fn package_json(dir: &Path) -> Result<Value> {
    let path = dir.join("package.json");
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            Error::new(Exit::Mistakes, format!("{}:{}: not JSON", path.display(), error.line()))
                .because(error)
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(error).doing(|| format!("read {}", path.display())),
    }
}

/// The compiler in Brooklet's cache, installed when it is not there yet.
fn esbuild() -> Result<PathBuf> {
    let dir = cache_dir().join("tools").join(ESBUILD);
    let program = dir.join("node_modules/.bin/esbuild");
    if !program.is_file() {
        std::fs::create_dir_all(&dir).doing(|| format!("make {}", dir.display()))?;
        npm("install", &dir).arg("--prefix").arg(&dir).arg(ESBUILD).run()?;
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::File;

    #[test]
    fn a_handler_that_the_build_did_not_make_is_said_with_where_it_is() {
        let check = |made: &[&str]| {
            let file = |path: &&str| {
                (path.to_string(), File { source: PathBuf::from(path), executable: false, link: None })
            };
            let package = Package { files: made.iter().map(file).collect() };
            check_handler("src/index.handler", &package).map_err(|error| error.fix.unwrap_or_default())
        };
        assert_eq!(check(&["src/index.mjs"]), Ok(()));
        let found = check(&["dist/index.js"]).expect_err("is elsewhere");
        assert!(found.contains("dist/index.handler"), "{found}");
        let lost = check(&["other.js"]).expect_err("is nowhere");
        assert!(lost.contains("MODULE.EXPORT"), "{lost}");
    }
}
