//! The runtimes that functions have asked for: each is looked for once, and our bootstrap made ready for it.

use crate::bootstraps;
use crate::interpreter::{Found, Wanted, find, wanted};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

/// What runs a runtime identifier.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// What it asks for.
    pub wanted: Wanted,
    /// What it has got, unless the package brings its own program.
    pub found: Option<Found>,
}

/// What has been found so far.
pub struct Runtimes {
    runtime_dir: PathBuf,
    found: Mutex<HashMap<String, Runtime>>,
    /// Held while one is looked for, so that it is done once.
    looking: Mutex<()>,
}

impl Runtimes {
    /// Bootstraps lie in `runtime_dir`.
    pub fn new(runtime_dir: PathBuf) -> Runtimes {
        Runtimes { runtime_dir, found: Mutex::default(), looking: Mutex::default() }
    }

    /// One that has been found before.
    pub fn known(&self, runtime: &str) -> Option<Runtime> {
        self.found.lock().expect("no panic while held").get(runtime).cloned()
    }

    /// Finds one. What was missing is looked for again: it may have been installed since. Starts programs, so it
    /// may take some 100 ms.
    ///
    /// # Errors
    /// What is missing and how to get it.
    pub fn find(&self, runtime: &str) -> Result<Runtime, String> {
        let _turn = self.looking.lock().expect("no panic while held");
        if let Some(known) = self.known(runtime) {
            return Ok(known);
        }
        let wanted =
            wanted(runtime).ok_or_else(|| format!("Brooklet does not run the runtime {runtime}."))?;
        let found = find(&wanted)?;
        match (&wanted, &found) {
            (Wanted::Python(_), Some(python)) => bootstraps::compile_python(&self.runtime_dir, python),
            (Wanted::Dotnet, Some(_)) => bootstraps::build_dotnet(&self.runtime_dir)?,
            _ => {}
        }
        let ready = Runtime { wanted, found };
        self.found.lock().expect("no panic while held").insert(runtime.to_owned(), ready.clone());
        Ok(ready)
    }
}
