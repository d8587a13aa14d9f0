//! The read path: a name to what runs.
//!
//! Functions are kept as immutable snapshots in a sharded map of bounded size; a change replaces the snapshot,
//! the clock algorithm makes room. A lookup takes two short read locks and no allocation.

use super::registry::{Registry, parse, url_key};
use super::{ControlError, FunctionUrl, Target};
use model::{Alias, FunctionHead, Version};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Packages that are unpacked ahead of need after a start of the machine, at most.
const AHEAD: usize = 1_000;

impl Registry {
    /// Which version of `name` a request runs and where its code is. `qualifier` is `$LATEST` (the same as
    /// none), a version or an alias; `random` (0.0 to 1.0, 1.0 excluded) decides between the versions of a
    /// weighted alias.
    pub async fn resolve(
        &self,
        name: &str,
        qualifier: Option<&str>,
        random: f64,
    ) -> Result<Target, ControlError> {
        let target = async |entry: &Entry| {
            let version = entry.route(qualifier, random).ok_or_else(|| self.no_function(name, qualifier))?;
            match entry.target(version) {
                Some(target) => Ok(target),
                None => self.load_target(entry, version, qualifier).await,
            }
        };
        let missing = |error| self.qualified(error, name, qualifier);
        let entry = self.entry(name).await.map_err(missing)?;
        let found = target(&entry).await;
        if found.is_err() {
            // What failed may have been a version or a package that a change has just taken away.
            let current = self.entry(name).await.map_err(missing)?;
            if !Arc::ptr_eq(&current, &entry) {
                return target(&current).await;
            }
        }
        found
    }

    async fn load_target(
        &self,
        entry: &Entry,
        version: Version,
        qualifier: Option<&str>,
    ) -> Result<Target, ControlError> {
        let configuration = self.configuration(&entry.head, version, qualifier).await?;
        let code = self.packages.unpacked(&configuration.code.sha256).await?;
        let (name, uid) = (entry.name.clone(), entry.uid.clone());
        let target = Target { name, uid, version, configuration, code };
        entry.keep(target.clone());
        Ok(target)
    }

    /// Unpacks the packages of functions that are likely to run, in this order, where that has not been done since the
    /// machine started: so that they are in place, and in memory, when somebody wants to run them. Functions that are gone or
    /// cannot be read are passed over. How many were looked at.
    pub async fn unpack_ahead(&self, used: impl IntoIterator<Item = (String, Version)>) -> usize {
        let mut done = 0;
        for (name, version) in used.into_iter().take(AHEAD) {
            let code = async {
                let entry = self.entry(&name).await?;
                let configuration = self.configuration(&entry.head, version, None).await?;
                self.packages.unpacked(&configuration.code.sha256).await
            };
            match code.await {
                Ok(_) => done += 1,
                Err(error) => tracing::debug!(%error, name, "a package is not unpacked ahead of need"),
            }
        }
        done
    }

    /// The function, qualifier and settings behind a URL id; not found for one that does not exist.
    pub async fn resolve_url(&self, id: &str) -> Result<FunctionUrl, ControlError> {
        let unknown = || ControlError::not_found(format!("There is no function URL {id}."));
        let name = match self.ledger.cache.url(id) {
            Some(name) => name,
            None => {
                let ours = id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric());
                let document = match ours {
                    true => self.store.get(&url_key(id)).await?,
                    false => None,
                };
                let name: String = parse(&document.ok_or_else(unknown)?)?;
                self.ledger.cache.keep_url(id, name.as_str().into())
            }
        };
        let entry = match self.entry(&name).await {
            Err(ControlError::NotFound { .. }) => return Err(unknown()),
            other => other?,
        };
        entry.urls.iter().find(|url| url.url.id == id).cloned().ok_or_else(unknown)
    }
}

/// One function as the read path knows it.
pub(super) struct Entry {
    pub head: Arc<FunctionHead>,
    pub name: Arc<str>,
    pub uid: Arc<str>,
    pub urls: Vec<FunctionUrl>,
    /// Targets that were asked for, a few at most: most functions run one or two versions.
    targets: RwLock<Vec<Target>>,
}

/// Versions of one function whose targets are kept; the oldest makes room.
const TARGETS: usize = 16;

impl Entry {
    pub fn new(head: Arc<FunctionHead>) -> Entry {
        let name: Arc<str> = head.name.as_str().into();
        let url = |(qualifier, url): (&String, &model::Url)| FunctionUrl {
            function: name.clone(),
            qualifier: qualifier.as_str().into(),
            url: Arc::new(url.clone()),
        };
        let urls = head.urls.iter().map(url).collect();
        let uid = head.uid.as_str().into();
        Entry { name, uid, urls, head, targets: RwLock::default() }
    }

    /// The version that a request with this qualifier runs, if there is one.
    pub fn route(&self, qualifier: Option<&str>, random: f64) -> Option<Version> {
        self.find(qualifier, |alias| policy::route::version(alias, random))
    }

    /// The version that a qualifier stands for: of an alias its own, not the one that takes a share.
    pub fn main_version(&self, qualifier: Option<&str>) -> Option<Version> {
        self.find(qualifier, |alias| alias.version)
    }

    fn find(&self, qualifier: Option<&str>, of_alias: impl Fn(&Alias) -> Version) -> Option<Version> {
        let Some(qualifier) = qualifier else { return Some(Version::Latest) };
        match qualifier.parse() {
            Ok(Version::Latest) => Some(Version::Latest),
            Ok(Version::Number(number)) => {
                self.head.versions.binary_search(&number).ok().map(|_| Version::Number(number))
            }
            Err(()) => self.head.aliases.get(qualifier).map(of_alias),
        }
    }

    fn target(&self, version: Version) -> Option<Target> {
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        targets.iter().find(|target| target.version == version).cloned()
    }

    fn keep(&self, target: Target) {
        let mut targets = self.targets.write().unwrap_or_else(PoisonError::into_inner);
        targets.retain(|kept| kept.version != target.version);
        if targets.len() == TARGETS {
            targets.remove(0);
        }
        targets.push(target);
    }
}

/// Snapshots of functions by name, and names by URL id.
pub(super) struct Cache {
    functions: Vec<RwLock<Shard<Arc<Entry>>>>,
    urls: RwLock<Shard<Arc<str>>>,
    hasher: RandomState,
}

/// More shards than cores that could meet on one lock.
const SHARDS: usize = 32;

/// The state of a shard when a read began: what was read is kept only if nothing changed since.
pub(super) struct Generation(u64);

impl Cache {
    pub fn new(capacity: usize) -> Cache {
        let each = capacity.div_ceil(SHARDS).max(1);
        Cache {
            functions: (0..SHARDS).map(|_| RwLock::new(Shard::new(each))).collect(),
            urls: RwLock::new(Shard::new(capacity.max(1))),
            hasher: RandomState::new(),
        }
    }

    fn shard(&self, name: &str) -> &RwLock<Shard<Arc<Entry>>> {
        &self.functions[self.hasher.hash_one(name) as usize % SHARDS]
    }

    pub fn get(&self, name: &str) -> Option<Arc<Entry>> {
        read(self.shard(name)).get(name)
    }

    /// To be asked before the store is read, and given back to `fill`.
    pub fn generation(&self, name: &str) -> Generation {
        Generation(read(self.shard(name)).generation)
    }

    /// Keeps what was read from the store, unless a function of the shard changed in the meantime: what was
    /// read may then be stale.
    pub fn fill(&self, generation: Generation, entry: Arc<Entry>) {
        let mut shard = write(self.shard(&entry.name));
        if shard.generation == generation.0 {
            shard.insert(entry.name.clone(), entry);
        }
    }

    /// A function has changed.
    pub fn replace(&self, entry: Arc<Entry>) {
        let mut shard = write(self.shard(&entry.name));
        shard.generation += 1;
        shard.insert(entry.name.clone(), entry);
    }

    /// A function is gone.
    pub fn remove(&self, name: &str) {
        let mut shard = write(self.shard(name));
        shard.generation += 1;
        shard.remove(name);
    }

    pub fn url(&self, id: &str) -> Option<Arc<str>> {
        read(&self.urls).get(id)
    }

    /// Never stale: an id belongs to one function for good, and the function says whether it still has it.
    pub fn keep_url(&self, id: &str, name: Arc<str>) -> Arc<str> {
        write(&self.urls).insert(id.into(), name.clone());
        name
    }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// A map of bounded size with clock eviction: a value used since the hand last passed gets another round.
struct Shard<V> {
    generation: u64,
    capacity: usize,
    slots: HashMap<Arc<str>, Slot<V>>,
    /// The keys in `slots`, in the order in which the hand passes.
    ring: Vec<Arc<str>>,
    hand: usize,
}

struct Slot<V> {
    value: V,
    used: AtomicBool,
}

impl<V: Clone> Shard<V> {
    fn new(capacity: usize) -> Shard<V> {
        Shard { generation: 0, capacity, slots: HashMap::new(), ring: Vec::new(), hand: 0 }
    }

    fn get(&self, key: &str) -> Option<V> {
        let slot = self.slots.get(key)?;
        // Written only when it changes: readers on other cores keep the line.
        if !slot.used.load(Ordering::Relaxed) {
            slot.used.store(true, Ordering::Relaxed);
        }
        Some(slot.value.clone())
    }

    fn insert(&mut self, key: Arc<str>, value: V) {
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.value = value;
            return;
        }
        let slot = Slot { value, used: AtomicBool::new(false) };
        if self.ring.len() < self.capacity {
            self.ring.push(key.clone());
        } else {
            let victim = self.victim();
            let old = std::mem::replace(&mut self.ring[victim], key.clone());
            self.slots.remove(&old);
        }
        self.slots.insert(key, slot);
    }

    /// The place in the ring whose key makes room. Ends within two rounds: the first clears every mark.
    fn victim(&mut self) -> usize {
        loop {
            let place = self.hand;
            self.hand = (self.hand + 1) % self.ring.len();
            if !self.slots[&self.ring[place]].used.swap(false, Ordering::Relaxed) {
                return place;
            }
        }
    }

    fn remove(&mut self, key: &str) {
        if self.slots.remove(key).is_some() {
            self.ring.retain(|kept| &**kept != key);
            self.hand = 0;
        }
    }
}
