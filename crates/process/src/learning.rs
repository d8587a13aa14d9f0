//! What functions import: told by our Python bootstrap with the first answer of a function's code, and from then on imported ahead where `policy::imports` finds that it pays.

use model::Time;
use policy::imports::{Advice, FunctionKey, Imports, ImportsConfig};
use ports::InstanceSpec;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Asks our bootstrap to tell.
pub const LEARN: &str = "BROOKLET_LEARN";

/// Longer names are no module's.
const LONGEST: usize = 120;

/// Parts of the standard library that do something when they are imported, and what belongs to them.
const NEVER: [&str; 8] =
    ["antigravity", "ensurepip", "idlelib", "lib2to3", "test", "this", "turtle", "turtledemo"];
/// Of any package: programs, which run when they are imported, and tests.
const PROGRAMS: [&str; 3] = ["__main__", "test", "tests"];

/// What all functions of a server have told.
pub struct Learning {
    imports: Mutex<Imports>,
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
        Learning { imports: Mutex::new(Imports::new(ImportsConfig::default())), began: Instant::now() }
    }

    /// What the start of an instance of `spec` is to do.
    pub fn advice(&self, spec: &InstanceSpec) -> Ahead {
        match self.imports.lock().expect("no panic while held").started(self.now(), key(spec)) {
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
        let most = ImportsConfig::default().modules;
        let modules = lines.filter(|name| is_module(name)).take(most).map(str::to_owned).collect();
        let mut imports = self.imports.lock().expect("no panic while held");
        imports.learned(self.now(), key(spec), modules, saves);
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// The same for all configurations of the same code: what is imported hardly depends on more.
fn key(spec: &InstanceSpec) -> FunctionKey {
    let mut hasher = DefaultHasher::new();
    (&spec.runtime, &spec.handler, &spec.code_dir, &spec.layer_dirs).hash(&mut hasher);
    FunctionKey(hasher.finish())
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
}
