//! What an instance sees at `/var/runtime`: our bootstraps, and what is compiled of them on this machine.

use crate::interpreter::Found;
use crate::jvms::ARCHIVES;
use crate::shelf::clear;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

macro_rules! embedded {
    ($($path:literal)*) => { &[$(($path, include_str!(concat!("../bootstraps/", $path)))),*] };
}

/// Our bootstraps, as they are materialised for the sandboxes' `/var/runtime`.
const BOOTSTRAPS: &[(&str, &str)] = embedded! {
    "python/bootstrap.py" "python/_brooklet/__init__.py" "python/_brooklet/codec.py"
    "python/_brooklet/context.py" "python/_brooklet/faults.py" "python/_brooklet/frames.py"
    "python/_brooklet/imports.py" "python/_brooklet/records.py"
    "python/_brooklet/zygote.py" "python/rehearsal/rehearsed.py"
    "node/bootstrap.js" "node/console.js" "node/environment.js" "node/errors.js" "node/frames.js" "node/imports.js"
    "node/loader.js" "node/streaming.js" "node/training.js" "node/wait.js" "node/rehearsal/module.mjs" "node/rehearsal/script.js"
    "java/brooklet/Nobody.java" "java/brooklet/Rehearsal.java" "java/brooklet/Stem.java"
    "dotnet/Bootstrap.cs" "dotnet/Bootstrap.runtimeconfig.json" "dotnet/Context.cs" "dotnet/Faults.cs"
    "dotnet/Frames.cs" "dotnet/Handler.cs" "dotnet/Json.cs" "dotnet/Log.cs"
};

/// The program of every sandbox's first process; `build.rs` makes it.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// What makes an interpreter a zygote; `build.rs` makes it too.
const ZYGOTE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/zygote.so"));

/// With what a JVM becomes an instance; `build.rs` makes it too.
const JVM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/jvm.so"));

/// Writes into `run_dir` what every sandbox needs: its first program `init`, the folder `runtime` with the
/// bootstraps, an empty mount point, the names of Lambda's users, and how names are looked up. `install` is the command,
/// but for the language, that bootstraps tell of when the AWS SDK is missing.
pub fn lay_out(run_dir: &Path, install: &str) -> io::Result<()> {
    std::fs::create_dir_all(run_dir)?;
    // One that still runs cannot be overwritten, but replaced.
    let (init, new) = (run_dir.join("init"), run_dir.join("init.new"));
    std::fs::write(&new, INIT)?;
    std::fs::rename(new, &init)?;
    lay_out_sources(&run_dir.join("runtime"))?;
    // A process of an earlier server may still have the old one mapped.
    for (library, name) in [(ZYGOTE, "zygote.so"), (JVM, "jvm.so")] {
        let new = run_dir.join("library.new");
        std::fs::write(&new, library)?;
        std::fs::rename(new, run_dir.join("runtime").join(name))?;
    }
    // Of an earlier server: what a JVM maps without looking is not believed after that has ended.
    clear(&run_dir.join("runtime").join(ARCHIVES))?;
    std::fs::write(run_dir.join("runtime/install-command"), install)?;
    std::fs::create_dir_all(run_dir.join("root"))?;
    let etc = run_dir.join("etc");
    std::fs::create_dir_all(&etc)?;
    std::fs::write(etc.join("passwd"), PASSWD)?;
    std::fs::write(etc.join("group"), GROUP)?;
    let names = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    std::fs::write(etc.join("resolv.conf"), crate::network::resolv_conf(&names))?;
    open_to_all(run_dir)?;
    std::fs::set_permissions(init, std::fs::Permissions::from_mode(0o755))
}

/// Compiles our bootstrap once per interpreter: otherwise every cold start would. Without it they still work.
pub fn compile_python(runtime_dir: &Path, python: &Found) {
    let folder = runtime_dir.join("python");
    let options = ["-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"];
    let done = Command::new(&python.program).args(options).arg(&folder).output();
    if let Err(error) = done.and_then(|_| open_to_all(&folder)) {
        tracing::warn!(%error, "the Python bootstrap could not be compiled");
    }
}

/// Builds our .NET bootstrap, once: it runs on Mono and on every .NET from Core 3.1 on.
///
/// # Errors
/// Why it could not be built, and the remedy.
pub fn build_dotnet(runtime_dir: &Path) -> Result<(), String> {
    let folder = runtime_dir.join("dotnet");
    if folder.join("Bootstrap.dll").exists() {
        return Ok(());
    }
    let sources = BOOTSTRAPS.iter().filter_map(|(path, _)| path.strip_prefix("dotnet/"));
    let output = Command::new("mcs")
        .args(["-unsafe", "-optimize+", "-langversion:7", "-out:Bootstrap.dll"])
        .args(sources.filter(|path| path.ends_with(".cs")))
        .current_dir(&folder)
        .output();
    match output {
        Ok(output) if output.status.success() => open_to_all(&folder).map_err(|error| error.to_string()),
        Ok(output) => Err(format!(
            "The .NET bootstrap could not be built: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!(
            "The .NET bootstrap is built by Mono's compiler, which could not be run ({error}). Install `mcs` \
             (Debian: `apt-get install mono-mcs`); it is needed for the first deploy only."
        )),
    }
}

/// Writes the bootstraps unless this version's are there already. What is compiled of them goes with them.
fn lay_out_sources(folder: &Path) -> io::Result<()> {
    let there =
        |(path, text): &(&str, &str)| std::fs::read(folder.join(path)).is_ok_and(|f| f == text.as_bytes());
    if BOOTSTRAPS.iter().all(there) {
        return Ok(());
    }
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for (path, text) in BOOTSTRAPS {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("it has a folder"))?;
        std::fs::write(path, text)?;
    }
    Ok(())
}

/// The function's user must be able to read the bootstraps, whatever the server's umask.
fn open_to_all(dir: &Path) -> io::Result<()> {
    let meta = dir.metadata()?;
    let mode = if meta.is_dir() { 0o755 } else { 0o644 };
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))?;
    if meta.is_dir() {
        for entry in std::fs::read_dir(dir)? {
            open_to_all(&entry?.path())?;
        }
    }
    Ok(())
}

const PASSWD: &str = "root:x:0:0:root:/root:/sbin/nologin\n\
                      sbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n\
                      nobody:x:65534:65534:nobody:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nsbx_user1051:x:990:\nnogroup:x:65534:\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bootstrap_file_is_embedded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bootstraps");
        let mut unlisted = Vec::new();
        let mut folders =
            vec![folder.join("python"), folder.join("node"), folder.join("dotnet"), folder.join("java")];
        while let Some(dir) = folders.pop() {
            for path in std::fs::read_dir(dir).expect("readable").map(|entry| entry.expect("readable").path())
            {
                let name = path.strip_prefix(&folder).expect("inside").to_string_lossy().into_owned();
                match path.is_dir() {
                    true if name.ends_with("__pycache__") => {}
                    true => folders.push(path),
                    false if BOOTSTRAPS.iter().any(|(listed, _)| *listed == name) => {}
                    false => unlisted.push(name),
                }
            }
        }
        assert_eq!(unlisted, Vec::<String>::new(), "add them to BOOTSTRAPS");
    }
}
