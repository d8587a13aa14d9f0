//! Languages that are compiled: Go and Rust to `bootstrap`, Java to jars, C# to an assembly.

use super::cache::{Cache, digest};
use super::{Built, Job, Tool, step};
use crate::error::{Doing, Error, Result};
use crate::exit::Exit;
use crate::machine;
use crate::package::Package;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A fixed time in archives that Maven makes, so that equal sources make equal jars.
const JAR_TIME: &str = "-Dproject.build.outputTimestamp=1980-01-01T00:00:02Z";

/// `go build`; Go's own cache knows what need not be compiled again.
pub fn go(job: &Job<'_>, cache: &Cache) -> Result<Built> {
    let bootstrap = cache.empty("out")?.join("bootstrap");
    Tool::new("go", "Go")
        .args([
            "build",
            "-tags",
            "lambda.norpc",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags=-s -w -buildid=",
            "-o",
        ])
        .arg(&bootstrap)
        .arg(".")
        .env("CGO_ENABLED", "0")
        .dir(job.dir)
        .run()?;
    Ok(Built { package: with_assets(job, &bootstrap)?, did: vec!["go build".to_string()] })
}

/// `cargo build --release`; the target folder is in the cache.
pub fn rust(job: &Job<'_>, cache: &Cache) -> Result<Built> {
    let locked = job.dir.join("Cargo.lock").is_file().then_some("--locked");
    let messages = Tool::new("cargo", "Rust")
        .args(["build", "--release", "--message-format=json-render-diagnostics"])
        .args(locked)
        .arg("--target-dir")
        .arg(cache.path("target"))
        .dir(job.dir)
        .run()?;
    let binary = binary(&messages, job.name)?;
    let bootstrap = cache.empty("out")?.join("bootstrap");
    std::fs::copy(&binary, &bootstrap).doing(|| format!("copy {}", binary.display()))?;
    Ok(Built { package: with_assets(job, &bootstrap)?, did: vec!["cargo build --release".to_string()] })
}

/// The binary among cargo's messages: the only one, the one called `bootstrap`, or the function's name.
fn binary(messages: &str, name: &str) -> Result<PathBuf> {
    let executable = |line: &str| -> Option<(String, PathBuf)> {
        let message: Value = serde_json::from_str(line).ok()?;
        let path = PathBuf::from(message["executable"].as_str()?);
        Some((message["target"]["name"].as_str()?.to_string(), path))
    };
    let found: Vec<(String, PathBuf)> = messages.lines().filter_map(executable).collect();
    let one = match &found[..] {
        [only] => Some(only),
        _ => found.iter().find(|(n, _)| n == "bootstrap").or_else(|| found.iter().find(|(n, _)| n == name)),
    };
    one.map(|(_, path)| path.clone()).ok_or_else(|| match found.is_empty() {
        true => Error::new(Exit::Build, "the crate has no binary").fix("add src/main.rs"),
        false => {
            let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            Error::new(Exit::Build, format!("the crate has several binaries: {}", names.join(", ")))
                .fix(format!("call one `bootstrap` or `{name}`"))
        }
    })
}

/// The bootstrap alone, and the folder `assets` when there is one: sources have no business in a package.
fn with_assets(job: &Job<'_>, bootstrap: &Path) -> Result<Package> {
    let mut package = Package::all(bootstrap.parent().unwrap_or(bootstrap))?;
    let assets = job.dir.join("assets");
    if assets.is_dir() {
        let files = Package::of(&assets, "")?.files;
        package.add(Package {
            files: files.into_iter().map(|(path, file)| (format!("assets/{path}"), file)).collect(),
        });
    }
    Ok(package)
}

/// `mvn package` on a copy of the project (Maven writes beside its sources); the jar and its dependencies go
/// to `lib`.
pub fn java(job: &Job<'_>, cache: &Cache) -> Result<Built> {
    let sources = Package::of(job.dir, "/target/")?;
    let (out, fresh) = cache.made("out", &[&digest(&sources)?], |out| {
        let copy = cache.mirror("src", &sources, &["target"])?;
        let lib = out.join("lib");
        Tool::new("mvn", "Apache Maven and a JDK")
            .args([
                "--quiet",
                "--batch-mode",
                "-DskipTests",
                JAR_TIME,
                "package",
                "dependency:copy-dependencies",
            ])
            .arg("-DincludeScope=runtime")
            .arg(format!("-DoutputDirectory={}", lib.display()))
            .dir(&copy)
            .run()?;
        copy_jars(&copy.join("target"), &lib)
    })?;
    Ok(Built { package: Package::all(&out)?, did: vec![step("mvn package", fresh)] })
}

fn copy_jars(target: &Path, lib: &Path) -> Result<()> {
    let cannot = || format!("read {}", target.display());
    std::fs::create_dir_all(lib).doing(|| format!("make {}", lib.display()))?;
    let mut copied = 0;
    for entry in std::fs::read_dir(target).doing(cannot)? {
        let path = entry.doing(cannot)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let extra = ["-sources.jar", "-javadoc.jar", "-tests.jar"].iter().any(|end| name.ends_with(end));
        if name.ends_with(".jar") && !extra && !name.starts_with("original-") {
            std::fs::copy(&path, lib.join(&name)).doing(|| format!("copy {name}"))?;
            copied += 1;
        }
    }
    match copied {
        0 => Err(Error::new(Exit::Build, "mvn package made no jar")
            .fix("set <packaging>jar</packaging> in pom.xml")),
        _ => Ok(()),
    }
}

/// `dotnet publish` where a .NET SDK is installed, else Mono's compiler. Neither makes equal files from equal
/// sources, so a build whose sources did not change is not repeated.
pub fn csharp(job: &Job<'_>, cache: &Cache) -> Result<Built> {
    let sources = Package::of(job.dir, "/bin/\n/obj/\n")?;
    let project = sources.files.keys().find(|path| path.ends_with(".csproj"));
    let sdk = project.is_some() && has_sdk();
    let tool = if sdk { "dotnet publish" } else { "mcs" };
    let inputs = [&digest(&sources)?[..], tool.as_bytes(), job.detected.handler.as_bytes()];
    let (out, fresh) = cache.made("out", &inputs, |out| match sdk {
        true => {
            let copy = cache.mirror("src", &sources, &["bin", "obj"])?;
            let publish =
                Tool::new("dotnet", "the .NET SDK").args(["publish", "-c", "Release", "--nologo", "-o"]);
            publish.arg(out).dir(&copy).run().map(drop)
        }
        false => mcs(job, &sources, out),
    })?;
    Ok(Built { package: Package::all(&out)?, did: vec![step(tool, fresh)] })
}

fn mcs(job: &Job<'_>, sources: &Package, out: &Path) -> Result<()> {
    let assembly =
        job.detected.handler.split("::").next().filter(|name| !name.is_empty()).unwrap_or(job.name);
    let mut tool = Tool::new("mcs", "the .NET SDK or Mono's compiler (Debian: mono-mcs)")
        .args(["-target:library", "-optimize+"])
        .arg(format!("-out:{}", out.join(format!("{assembly}.dll")).display()));
    for (path, file) in &sources.files {
        if path.ends_with(".dll") {
            let name = path.rsplit('/').next().unwrap_or(path);
            std::fs::copy(&file.source, out.join(name)).doing(|| format!("copy {path}"))?;
            tool = tool.arg(format!("-r:{}", file.source.display()));
        } else if path.ends_with(".cs") {
            tool = tool.arg(&file.source);
        }
    }
    tool.dir(job.dir).run().map(drop)
}

fn has_sdk() -> bool {
    machine::which("dotnet").is_some()
        && Tool::new("dotnet", "the .NET SDK")
            .arg("--list-sdks")
            .run()
            .is_ok_and(|list| !list.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(binaries: &[&str], expected: std::result::Result<&str, &str>) {
        let line = |name: &&str| {
            let message = serde_json::json!({"reason": "compiler-artifact", "target": {"name": name}, "executable": format!("/t/{name}")});
            message.to_string()
        };
        let library =
            r#"{"reason":"compiler-artifact","target":{"name":"lib"},"executable":null}"#.to_string();
        let messages: Vec<String> = std::iter::once(library).chain(binaries.iter().map(line)).collect();
        let got = binary(&messages.join("\n"), "hello").map_err(|error| error.what);
        let got = got.as_deref().map_err(String::as_str);
        assert_eq!(got, expected.map(Path::new), "{binaries:?}");
    }

    #[test]
    fn the_binary_is_the_only_one_or_the_one_with_the_right_name() {
        check(&["x"], Ok("/t/x"));
        check(&["x", "bootstrap", "hello"], Ok("/t/bootstrap"));
        check(&["x", "hello"], Ok("/t/hello"));
        check(&["x", "y"], Err("the crate has several binaries: x, y"));
        check(&[], Err("the crate has no binary"));
    }
}
