//! What functions exist and which version a request runs.

use model::{Configuration, Version};
use std::path::PathBuf;
use std::sync::Arc;

/// What a qualified name resolved to: one version of one function, ready to run.
#[derive(Clone)]
pub struct Target {
    /// The function's name.
    pub name: Arc<str>,
    /// The function's unique id: pools are keyed by (uid, version, revision id).
    pub uid: Arc<str>,
    /// The version that runs (after alias routing).
    pub version: Version,
    /// Its frozen configuration.
    pub configuration: Arc<Configuration>,
    /// Where its package is unpacked.
    pub code_dir: PathBuf,
}
