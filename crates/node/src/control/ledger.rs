//! What happens to a change once it is decided: it is written, the read path is brought up to date, the data
//! plane is told. It runs to its end even when its caller is gone (a client that hangs up drops the future that
//! serves it), because stopping half-way would leave readers with what is no longer so.

use super::cache::{Cache, Entry};
use super::pins::Pins;
use super::registry::{Draft, document, head_key, version_key};
use super::{Change, What};
use model::FunctionHead;
use ports::Store;
use ports::store::{Expect, Revision, StoreError};
use std::any::Any;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::OwnedMutexGuard;

/// Documents, what the read path knows of them, and who is told.
pub(super) struct Ledger {
    pub store: Arc<dyn Store>,
    pub cache: Cache,
    /// Documents written before the head that refers to them.
    pub pins: Arc<Pins>,
    listeners: RwLock<Vec<Listener>>,
}

type Listener = Box<dyn Fn(&Change) + Send + Sync>;

/// The right to change one function, and what must not be let go before the change is done.
pub(super) struct Turn {
    _guard: OwnedMutexGuard<()>,
    held: Vec<Box<dyn Any + Send>>,
}

impl Turn {
    pub fn new(guard: OwnedMutexGuard<()>) -> Turn {
        Turn { _guard: guard, held: Vec::new() }
    }

    /// Keeps a pin or a lock until the change is done.
    pub fn hold(&mut self, thing: impl Any + Send) {
        self.held.push(Box::new(thing));
    }
}

impl Ledger {
    pub fn new(store: Arc<dyn Store>, cached_functions: usize) -> Ledger {
        let (cache, pins) = (Cache::new(cached_functions), Arc::default());
        Ledger { store, cache, pins, listeners: RwLock::default() }
    }

    pub fn subscribe(&self, listener: Listener) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// Writes a decided draft; gives the turn back.
    pub async fn write(
        self: &Arc<Ledger>,
        turn: Turn,
        draft: Draft,
        expect: Expect,
    ) -> (Option<Turn>, Result<Arc<FunctionHead>, StoreError>) {
        let ledger = self.clone();
        detached(turn, async move { ledger.write_now(draft, expect).await }).await
    }

    /// Deletes a head, and with it the function.
    pub async fn delete(
        self: &Arc<Ledger>,
        turn: Turn,
        head: Arc<FunctionHead>,
        revision: Revision,
    ) -> (Option<Turn>, Result<(), StoreError>) {
        let ledger = self.clone();
        let delete = async move {
            let deleted = ledger.store.delete(&head_key(&head.name), Expect::Revision(revision)).await;
            // Even when it failed: it may have been made all the same.
            ledger.cache.remove(&head.name);
            deleted?;
            ledger.announce(&head, [What::Deleted]);
            Ok(())
        };
        detached(turn, delete).await
    }

    /// The version that the draft publishes is written before the head that makes it visible: a crash in
    /// between leaves an orphan that nobody can see.
    async fn write_now(&self, draft: Draft, expect: Expect) -> Result<Arc<FunctionHead>, StoreError> {
        let Draft { head, published, announce } = draft;
        let mut pin = None;
        if let Some((number, configuration)) = published {
            let key = version_key(&head.uid, number);
            pin = Some(self.pins.pin(&key).await);
            // `Any`: a crash may have left this number to a version that never became visible.
            self.store.put(&key, document(&*configuration), Expect::Any).await?;
        }
        match self.store.put(&head_key(&head.name), document(&head), expect).await {
            Ok(_) => {}
            Err(error) => {
                // It may have been made all the same.
                self.cache.remove(&head.name);
                return Err(error);
            }
        }
        drop(pin);
        let head = Arc::new(head);
        self.cache.replace(Arc::new(Entry::new(head.clone())));
        self.announce(&head, announce);
        Ok(head)
    }

    fn announce(&self, head: &FunctionHead, what: impl IntoIterator<Item = What>) {
        let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
        let (name, uid): (Arc<str>, Arc<str>) = (head.name.as_str().into(), head.uid.as_str().into());
        for what in what {
            let change = Change { name: name.clone(), uid: uid.clone(), what };
            listeners.iter().for_each(|listener| listener(&change));
        }
    }
}

/// Runs a change to its end, whether or not the caller waits for it.
async fn detached<T: Send + 'static>(
    turn: Turn,
    change: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> (Option<Turn>, Result<T, StoreError>) {
    let task = tokio::spawn(async move {
        let outcome = change.await;
        (turn, outcome)
    });
    match task.await {
        Ok((turn, outcome)) => (Some(turn), outcome),
        Err(error) => (None, Err(StoreError::Failed(error.to_string()))),
    }
}
