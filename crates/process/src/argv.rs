//! Program and arguments of an instance, as they are seen inside it.

use crate::environment::Places;
use crate::interpreter::{Found, Wanted};
use crate::java;
use ports::{InstanceSpec, StartFailure};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The command line that runs `spec` on `found`. `sdk` is the folder of what `brooklet runtimes install` put.
///
/// # Errors
/// What the package lacks, in Lambda's words.
pub fn argv(
    spec: &InstanceSpec,
    wanted: &Wanted,
    found: Option<&Found>,
    places: &Places,
    sdk: Option<&str>,
) -> Result<Vec<OsString>, StartFailure> {
    let program = found.map(|found| found.path().into_os_string());
    let bootstrap = |file: &str| OsString::from(format!("{}/{file}", places.runtime));
    Ok(match (wanted, program) {
        (Wanted::Python(_), Some(program)) => {
            vec![program, "-s".into(), "-B".into(), bootstrap("python/bootstrap.py")]
        }
        (Wanted::Node(_), Some(program)) => {
            // Lambda leaves about a tenth of the memory to everything but V8's old generation.
            let heap = format!("--max-old-space-size={}", (spec.memory.0 * 9 / 10).max(64));
            vec![program, heap.into(), bootstrap("node/bootstrap.js")]
        }
        (Wanted::Dotnet, Some(program)) => dotnet_argv(spec, program, found, places),
        (Wanted::Java(_), Some(program)) => {
            let version = found.and_then(|found| found.version.parse().ok()).unwrap_or(0);
            java::argv(spec, program, version, places, sdk)
        }
        (Wanted::Http, _) if !spec.handler.is_empty() => {
            vec!["/bin/sh".into(), "-c".into(), format!("exec {}", spec.handler).into()]
        }
        (Wanted::Provided | Wanted::Http, _) => vec![own_bootstrap(spec, places)?],
        (_, None) => return Err(StartFailure::Machine(format!("no program was found for {}", spec.runtime))),
    })
}

/// The function's own program that starts the runtime: it is given the runtime's command line.
///
/// Source: AWS Lambda developer guide, "Modifying the runtime environment", wrapper scripts; not for `provided`.
pub fn wrapper<'a>(spec: &'a InstanceSpec, wanted: &Wanted) -> Option<&'a str> {
    let managed = !matches!(wanted, Wanted::Provided | Wanted::Http);
    let wrapper = spec.environment.get("AWS_LAMBDA_EXEC_WRAPPER").map(String::as_str);
    wrapper.filter(|wrapper| managed && !wrapper.is_empty())
}

/// Whether a .NET handler is a method (`Assembly::Type::Method`), and not a program of its own.
pub fn is_method(handler: &str) -> bool {
    handler.contains("::")
}

fn dotnet_argv(
    spec: &InstanceSpec,
    program: OsString,
    found: Option<&Found>,
    places: &Places,
) -> Vec<OsString> {
    let own = format!("{}/dotnet/Bootstrap.dll", places.runtime);
    if !is_method(&spec.handler) {
        return vec![program, format!("{}/{}.dll", places.task, spec.handler).into()];
    }
    if found.is_some_and(|found| found.language == "mono") {
        return vec![program, own.into()];
    }
    // The package's own names the shared frameworks that the function wants.
    let assembly = spec.handler.split("::").next().unwrap_or_default();
    let config = format!("{assembly}.runtimeconfig.json");
    let config = match spec.code_dir.join(&config).is_file() {
        true => format!("{}/{config}", places.task),
        false => format!("{}/dotnet/Bootstrap.runtimeconfig.json", places.runtime),
    };
    vec![program, "exec".into(), "--runtimeconfig".into(), config.into(), own.into()]
}

/// `bootstrap` in the package, or in a layer.
fn own_bootstrap(spec: &InstanceSpec, places: &Places) -> Result<OsString, StartFailure> {
    let own = format!("{}/bootstrap", places.task);
    let layers = spec.layer_dirs.iter().rev().map(|layer| (layer, "/opt/bootstrap"));
    let folders = std::iter::once((&spec.code_dir, own.as_str())).chain(layers);
    let mut files = folders.map(|(folder, seen)| (folder.join("bootstrap"), seen));
    // Lambda's own words, so that people find them.
    let (file, seen) = files
        .find(|(file, _)| file.is_file())
        .ok_or_else(|| invalid(format!("Couldn't find valid bootstrap(s): [{own} /opt/bootstrap]")))?;
    match not_executable(&file) {
        None => Ok(seen.into()),
        Some(why) => Err(invalid(format!("fork/exec {seen}: exec format error. {why}"))),
    }
}

/// Why the kernel would not execute a program. The C library then gives it to a shell, whose syntax errors help
/// nobody.
fn not_executable(file: &Path) -> Option<String> {
    const MACHINES: [(u16, &str); 2] = [(62, "x86_64"), (183, "aarch64")];
    let mut head = Vec::new();
    File::open(file).ok()?.take(20).read_to_end(&mut head).ok()?;
    if head.starts_with(b"#!") {
        return None;
    }
    let (true, Some(&[low, high])) = (head.starts_with(b"\x7fELF"), head.get(18..20)) else {
        return Some("It is neither a program nor a script that begins with #! and its interpreter.".into());
    };
    let number = u16::from_le_bytes([low, high]);
    let (_, machine) = MACHINES.into_iter().find(|(known, _)| *known == number)?;
    let here = std::env::consts::ARCH;
    (machine != here).then(|| format!("It was built for {machine}; this machine is {here}."))
}

fn invalid(message: String) -> StartFailure {
    let json = serde_json::json!({ "errorType": "Runtime.InvalidEntrypoint", "errorMessage": message });
    StartFailure::Init(json.to_string().into())
}
