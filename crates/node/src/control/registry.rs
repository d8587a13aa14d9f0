//! The store behind the control plane: how one function is read, changed and announced.

use super::cache::Entry;
use super::ledger::{Ledger, Turn};
use super::package::Packages;
use super::{Change, ControlError, What};
use bytes::Bytes;
use model::{Account, Configuration, FunctionHead, Timestamp};
use ports::store::{Document, Expect, Revision, StoreError};
use ports::{Blobs, Store};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Mutex, Notify};

/// What the control plane allows. The defaults are Lambda's.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A package as uploaded, in bytes.
    pub zipped_bytes: u64,
    /// A package unpacked, in bytes.
    pub unzipped_bytes: u64,
    /// Files and folders in a package.
    pub package_entries: usize,
    /// All packages together, in bytes.
    pub code_storage_bytes: u64,
    /// Concurrent invocations of all functions together.
    pub account_concurrency: u32,
    /// How much of it reservations must leave to functions without one.
    pub unreserved_concurrency: u32,
    /// Functions that the read path keeps in memory.
    pub cached_functions: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            zipped_bytes: 50 << 20,
            unzipped_bytes: 250 << 20,
            package_entries: 100_000,
            code_storage_bytes: 75 << 30,
            account_concurrency: 1_000,
            unreserved_concurrency: 100,
            cached_functions: 16_384,
        }
    }
}

/// Says whether this machine can run a runtime and, when its folder is given, a package; if not, what is missing
/// and how to get it. It may start programs and read files.
pub type CheckRuntime = Arc<dyn Fn(&str, Option<&Path>) -> Result<(), String> + Send + Sync>;

/// How a registry is set up.
pub struct Options {
    /// Whose functions these are.
    pub account: Account,
    /// Where packages are unpacked: `<data-dir>/code`.
    pub code_dir: PathBuf,
    /// What is allowed.
    pub limits: Limits,
    /// Refuses runtimes and packages that this machine cannot run.
    pub check_runtime: CheckRuntime,
}

/// The control plane. All methods may be called at once from many tasks.
pub struct Registry {
    pub(super) store: Arc<dyn Store>,
    pub(super) packages: Packages,
    pub(super) options: Options,
    pub(super) ledger: Arc<Ledger>,
    /// Changes of one function take turns, so that they are announced in their order and a version document is
    /// written by one publisher only. Striped by name: two functions seldom wait for each other.
    turns: Vec<Arc<Mutex<()>>>,
    hasher: RandomState,
    /// Reservations take turns: their sum is checked across functions.
    pub(super) reserving: Arc<Mutex<()>>,
    pub(super) sweeping: Mutex<()>,
    /// Told when a change has left something for the sweep.
    pub(super) left_behind: Notify,
}

/// Enough that functions changed at once rarely share one.
const STRIPES: usize = 64;

/// A change of one function that is being decided.
pub(super) struct Draft {
    /// The function; what is left in here is written.
    pub head: FunctionHead,
    /// A version to be published with the change.
    pub published: Option<(u64, Arc<Configuration>)>,
    /// What the data plane must be told.
    pub announce: Vec<What>,
}

impl Registry {
    /// A registry over what the store and the blobs hold. No document is read yet, so that it takes as long
    /// with ten thousand functions as with none.
    ///
    /// # Errors
    /// When the folder for unpacked packages cannot be made or read.
    pub fn open(store: Arc<dyn Store>, blobs: Arc<dyn Blobs>, options: Options) -> std::io::Result<Registry> {
        Ok(Registry {
            packages: Packages::open(blobs, options.code_dir.clone(), options.limits.clone())?,
            ledger: Arc::new(Ledger::new(store.clone(), options.limits.cached_functions)),
            turns: (0..STRIPES).map(|_| Arc::default()).collect(),
            hasher: RandomState::new(),
            reserving: Arc::default(),
            sweeping: Mutex::new(()),
            left_behind: Notify::new(),
            store,
            options,
        })
    }

    /// Whose functions these are.
    pub fn account(&self) -> &Account {
        &self.options.account
    }

    /// Calls `listener` with every change from now on. It must be quick and must not wait: the change is
    /// acknowledged after it returns.
    pub fn subscribe(&self, listener: impl Fn(&Change) + Send + Sync + 'static) {
        self.ledger.subscribe(Box::new(listener));
    }

    /// The turn of changing this function.
    pub(super) async fn turn(&self, name: &str) -> Turn {
        let stripe = self.hasher.hash_one(name) as usize % STRIPES;
        Turn::new(self.turns[stripe].clone().lock_owned().await)
    }

    /// The function as the read path knows it, from memory if it is there.
    pub(super) async fn entry(&self, name: &str) -> Result<Arc<Entry>, ControlError> {
        if let Some(entry) = self.ledger.cache.get(name) {
            return Ok(entry);
        }
        let generation = self.ledger.cache.generation(name);
        let (head, _) = self.read_head(name).await?.ok_or_else(|| self.no_function(name, None))?;
        let entry = Arc::new(Entry::new(Arc::new(head)));
        self.ledger.cache.fill(generation, entry.clone());
        Ok(entry)
    }

    pub(super) async fn read_head(
        &self,
        name: &str,
    ) -> Result<Option<(FunctionHead, Revision)>, ControlError> {
        let document = self.store.get(&head_key(name)).await?;
        document.map(|document| Ok((parse(&document)?, document.revision))).transpose()
    }

    /// Changes one function: reads it, lets `decide` edit the draft, and writes what came out in one
    /// compare-and-set. `decide` is called again when somebody else was faster.
    pub(super) async fn change<T>(
        &self,
        name: &str,
        decide: impl FnMut(&mut Draft) -> Result<T, ControlError>,
    ) -> Result<(Arc<FunctionHead>, T), ControlError> {
        let turn = self.turn(name).await;
        self.change_in_turn(turn, name, decide).await
    }

    pub(super) async fn change_in_turn<T>(
        &self,
        mut turn: Turn,
        name: &str,
        mut decide: impl FnMut(&mut Draft) -> Result<T, ControlError>,
    ) -> Result<(Arc<FunctionHead>, T), ControlError> {
        for _ in 0..MAX_TRIES {
            let (before, revision) =
                self.read_head(name).await?.ok_or_else(|| self.no_function(name, None))?;
            let mut draft = Draft { head: before.clone(), published: None, announce: Vec::new() };
            let outcome = decide(&mut draft)?;
            if draft.head == before {
                return Ok((Arc::new(before), outcome));
            }
            turn = match self.ledger.write(turn, draft, Expect::Revision(revision)).await {
                (_, Ok(head)) => return Ok((head, outcome)),
                (Some(turn), Err(StoreError::Conflict { .. })) => turn,
                (_, Err(error)) => return Err(error.into()),
            };
        }
        Err(ControlError::conflict(format!(
            "The operation cannot be performed at this time. Function {name} is being changed by others; try again."
        )))
    }

    /// Shows `each` every document below a prefix, in the order of their keys.
    pub(super) async fn scan(
        &self,
        prefix: &str,
        mut each: impl FnMut(&Document) -> Result<(), ControlError> + Send,
    ) -> Result<(), ControlError> {
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(prefix, after.as_deref(), BATCH).await?;
            let Some(last) = page.last() else { return Ok(()) };
            page.iter().try_for_each(&mut each)?;
            after = Some(last.key.clone());
            tokio::task::yield_now().await;
        }
    }

    /// `Function not found: arn:…`, in Lambda's words.
    pub(super) fn no_function(&self, name: &str, qualifier: Option<&str>) -> ControlError {
        let arn = self.options.account.function_arn(name, qualifier);
        ControlError::not_found(format!("Function not found: {arn}"))
    }
}

/// Documents read and parsed before others get their turn: about a millisecond.
const BATCH: usize = 64;

/// How often a change is decided anew when others are faster.
const MAX_TRIES: usize = 16;

pub(super) const FUNCTIONS: &str = "function/";
pub(super) const VERSIONS: &str = "version/";
pub(super) const URLS: &str = "url/";
pub(super) const RESERVED: &str = "reserved/";
pub(super) const PROVISIONED: &str = "provisioned/";

pub(super) fn head_key(name: &str) -> String {
    format!("{FUNCTIONS}{name}")
}

pub(super) fn version_key(uid: &str, number: u64) -> String {
    format!("{VERSIONS}{uid}/{number}")
}

pub(super) fn url_key(id: &str) -> String {
    format!("{URLS}{id}")
}

pub(super) fn reserved_key(name: &str) -> String {
    format!("{RESERVED}{name}")
}

pub(super) fn provisioned_key(name: &str) -> String {
    format!("{PROVISIONED}{name}")
}

pub(super) fn document<T: serde::Serialize>(value: &T) -> Bytes {
    // Maps with string keys and plain values: nothing in the model can fail to serialise.
    serde_json::to_vec(value).expect("model types serialise").into()
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(document: &Document) -> Result<T, ControlError> {
    serde_json::from_slice(&document.value).map_err(|error| {
        ControlError::failed(format!(
            "The stored document {} cannot be read: {error}. It was damaged or written by another version of \
             Brooklet.",
            document.key
        ))
    })
}

/// Wall-clock time.
pub(super) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_millis() as u64)
}

/// A new UUID.
pub(super) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
