//! Keeps the sweep away from what a change has written but not yet made visible.
//!
//! Every change writes what it refers to (a package, a version, an index) before the head that refers to it. It
//! pins the key first. A sweep removes only keys that were pinned at no time since it began to look.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::RwLock;

/// Keys that are being used by changes under way; as many as there are such changes.
#[derive(Default)]
pub(super) struct Pins {
    /// Held exclusively while a key is removed: a pin comes before the removal, and prevents it, or after it.
    removing: RwLock<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: HashMap<String, usize>,
    /// While somebody watches: keys pinned at some time since.
    recent: Option<HashSet<String>>,
}

/// Keeps one key from being removed.
pub(super) struct Pin {
    pins: Arc<Pins>,
    key: String,
}

/// From here on, pinned keys are remembered.
pub(super) struct Watch<'a>(&'a Pins);

impl Pins {
    /// To be called before the key is written, and held until something visible refers to it.
    pub async fn pin(self: &Arc<Pins>, key: &str) -> Pin {
        let _order = self.removing.read().await;
        let mut state = self.state();
        *state.held.entry(key.to_owned()).or_default() += 1;
        if let Some(recent) = &mut state.recent {
            recent.insert(key.to_owned());
        }
        Pin { pins: self.clone(), key: key.to_owned() }
    }

    /// To be called before looking for what nobody refers to; one watch at a time.
    pub fn watch(&self) -> Watch<'_> {
        let mut state = self.state();
        state.recent = Some(state.held.keys().cloned().collect());
        Watch(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch<'_> {
    /// Does the removal, unless the key was pinned since the watch began.
    pub async fn remove<T>(&self, key: &str, removal: impl Future<Output = T>) -> Option<T> {
        let _order = self.0.removing.write().await;
        let pinned = self.0.state().recent.as_ref().is_none_or(|recent| recent.contains(key));
        match pinned {
            true => None,
            false => Some(removal.await),
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.state().recent = None;
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.pins.state();
        if let Some(count) = state.held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                state.held.remove(&self.key);
            }
        }
    }
}
