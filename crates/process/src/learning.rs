//! What functions import: told by our bootstraps with the first answer of a function's code, and from then on imported
//! ahead where `policy::imports` finds that it pays. Python tells of modules of its library and of the SDK's folder; Node.js
//! of files of the SDK's folder.

use model::{MiB, Time};
use policy::imports::{Advice, FunctionKey, Imports, ImportsConfig};
use ports::InstanceSpec;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Asks our bootstrap to tell.
pub const LEARN: &str = "BROOKLET_LEARN";

/// Longer names are no module's.
const LONGEST: usize = 120;

/// Tells a bootstrap that has no function yet what to import, separated by commas.
pub const IMPORTS: &str = "BROOKLET_IMPORTS";

/// Parts of the standard library that do something when they are imported, and what belongs to them.
const NEVER: [&str; 8] =
    ["antigravity", "ensurepip", "idlelib", "lib2to3", "test", "this", "turtle", "turtledemo"];
/// Of any package: programs, which run when they are imported, and tests.
const PROGRAMS: [&str; 3] = ["__main__", "test", "tests"];
/// … and where Node.js packages have them.
const FILES_OF_PROGRAMS: [&str; 7] = ["bin", "cli", "cli.js", "cli.cjs", "scripts", "test", "tests"];

/// What all functions of a server have told.
pub struct Learning {
    of_python: Mutex<Imports>,
    of_node: Mutex<Imports>,
    began: Instant,
}

/// What a start is to do about imports.
pub enum Ahead {
    /// Ask the function what it imports.
    Learn,
    /// Nothing.
    Nothing,
    /// Find these imported.
    Import(Arc<[String]>),
}

impl Learning {
    /// Nothing has been told yet.
    pub fn new() -> Learning {
        let imports = |config| Mutex::new(Imports::new(config));
        let (of_python, of_node) = (imports(ImportsConfig::default()), imports(of_node()));
        Learning { of_python, of_node, began: Instant::now() }
    }

    /// What the start of an instance of `spec` is to do.
    pub fn advice(&self, spec: &InstanceSpec) -> Ahead {
        match self.imports(spec).started(self.now(), key(spec)) {
            Advice::Learn => Ahead::Learn,
            Advice::Nothing => Ahead::Nothing,
            Advice::Import(modules) => Ahead::Import(modules.into()),
        }
    }

    /// An instance of `spec` has told what it imported: a line with the microseconds that this took, then one for each
    /// module. It may say anything; what no module is called is passed over.
    pub fn told(&self, spec: &InstanceSpec, told: &[u8]) {
        let text = String::from_utf8_lossy(told);
        let mut lines = text.lines();
        let saves =
            lines.next().and_then(|line| line.parse().ok()).map_or(Duration::ZERO, Duration::from_micros);
        let (is_one, config): (fn(&str) -> bool, _) = match is_node(spec) {
            true => (is_file, of_node()),
            false => (is_module, ImportsConfig::default()),
        };
        let modules = lines.filter(|name| is_one(name)).take(config.modules).map(str::to_owned).collect();
        self.imports(spec).learned(self.now(), key(spec), modules, saves);
    }

    fn imports(&self, spec: &InstanceSpec) -> MutexGuard<'_, Imports> {
        let imports = if is_node(spec) { &self.of_node } else { &self.of_python };
        imports.lock().expect("no panic while held")
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// When it pays for Node.js, where each process that waits loads its modules itself, and one file of the SDK is a whole
/// client: 10 to 25 MiB for 20 to 40 files (measured). As many names as there may be fit into one variable (128 KiB).
fn of_node() -> ImportsConfig {
    ImportsConfig { modules: 500, sixteen: MiB(8), ..ImportsConfig::default() }
}

/// The same for all configurations of the same code: what is imported hardly depends on more. But a variable may be one
/// that Node.js modules read while they are loaded, in which case their function has told of none.
fn key(spec: &InstanceSpec) -> FunctionKey {
    let mut hasher = DefaultHasher::new();
    (&spec.runtime, &spec.handler, &spec.code_dir, &spec.layer_dirs).hash(&mut hasher);
    is_node(spec).then_some(&spec.environment).hash(&mut hasher);
    FunctionKey(hasher.finish())
}

fn is_node(spec: &InstanceSpec) -> bool {
    spec.runtime.starts_with("nodejs")
}

/// A file below the SDK's folder.
fn is_file(name: &str) -> bool {
    let path = name.strip_prefix("import:").unwrap_or(name);
    let part = |part: &str| {
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@+".contains(&byte);
        let runs = part.starts_with('.') || FILES_OF_PROGRAMS.contains(&part);
        !part.is_empty() && !runs && part.bytes().all(named)
    };
    name.len() <= LONGEST && path.split('/').all(part)
}

fn is_module(name: &str) -> bool {
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let root = name.split('.').next().unwrap_or_default();
    let part = |part: &str| word(part) && !PROGRAMS.contains(&part);
    name.len() <= LONGEST && name.split('.').all(part) && !NEVER.contains(&root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_modules_are_called_is_imported() {
        for name in ["json", "json.decoder", "_json", "boto3.session", "concurrent.futures.thread"] {
            assert!(is_module(name), "{name}");
        }
        let long = "x".repeat(200);
        let programs = ["antigravity", "test.support", "venv.__main__", "unittest.__main__", "ctypes.test"];
        for name in ["", ".", "a..b", "../a", "a b", "a,b", "é", &long].into_iter().chain(programs) {
            assert!(!is_module(name), "{name}");
        }
    }

    #[test]
    fn only_files_below_the_sdks_folder_are_loaded() {
        for name in
            ["tslib/tslib.js", "@aws-sdk/client-s3/dist-cjs/index.js", "import:@smithy/core/a+b_c.cjs"]
        {
            assert!(is_file(name), "{name}");
        }
        let long = "x".repeat(200);
        for name in [
            "",
            "/etc/passwd",
            "../var/task/own.js",
            "a/../../own.js",
            "a//b",
            "a/",
            "a,b",
            "a b",
            "node:fs",
            "import:/var/task/own.js",
            "import:../own.js",
            "import:",
            "a/.hidden.js",
            "a/bin/run.js",
            "a/cli.js",
            "a/test/b.js",
            "é",
            &long,
        ] {
            assert!(!is_file(name), "{name}");
        }
    }
}
