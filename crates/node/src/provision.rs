//! Keeps ready what is provisioned: reads from the control plane what that is, whenever it may have changed, and tells the
//! data plane. What is read is the whole of a function's, so that nothing depends on the order of changes. And has versions
//! that are published with SnapStart initialised once, one after another.

use crate::control::{ControlError, Registry, What};
use crate::invoke::Node;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// How what is provisioned of one version stands: requests at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provisioned {
    /// That instances with memory would run, once they are all ready.
    pub allocated: u32,
    /// That instances which are ready run.
    pub available: u32,
    /// Why there are not more, unless it is that they are on their way: for people.
    pub trouble: Option<String>,
}

/// What could not be read is tried again after this long.
const AGAIN: Duration = Duration::from_secs(30);

/// Versions with SnapStart that may wait to be initialised; more are left to their first request.
const MOST_REHEARSALS: usize = 64;

/// Functions to be looked at: at most as many as there are.
#[derive(Default)]
struct Changed {
    names: Mutex<BTreeSet<Arc<str>>>,
    some: Notify,
}

impl Changed {
    fn add(&self, names: impl IntoIterator<Item = Arc<str>>) {
        self.names.lock().expect("no panic while held").extend(names);
        self.some.notify_one();
    }

    fn take(&self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut *self.names.lock().expect("no panic while held"))
    }
}

/// Keeps ready what is provisioned now, and what will be, for as long as the server runs. To be called once, within a
/// tokio runtime, and after `node` has been told to heed `registry`'s changes.
///
/// # Errors
/// When the functions of which something is provisioned cannot be read.
pub async fn follow(registry: Arc<Registry>, node: Arc<Node>) -> Result<(), ControlError> {
    let changed = Arc::new(Changed::default());
    let told = changed.clone();
    let (rehearsals, mut rehearsing) = mpsc::channel::<(Arc<str>, u64)>(MOST_REHEARSALS);
    registry.subscribe(move |change| match change.what {
        What::Provisioned => told.add([change.name.clone()]),
        What::SnapStart(version) => {
            let full = rehearsals.try_send((change.name.clone(), version)).is_err();
            full.then(|| tracing::warn!(function = %change.name, version, "too many versions with SnapStart at once"));
        }
        _ => {}
    });
    let (versions, snap_starts) = (registry.clone(), node.clone());
    tokio::spawn(async move {
        while let Some((name, version)) = rehearsing.recv().await {
            // It may be gone again.
            if let Ok(target) = versions.resolve(&name, Some(&version.to_string()), 0.0).await {
                snap_starts.rehearse(&target).await;
            }
        }
    });
    changed.add(registry.provisioned_functions().await?);
    tokio::spawn(async move {
        loop {
            let mut failed = BTreeSet::new();
            for name in changed.take() {
                if let Err(error) = provide(&registry, &node, &name).await {
                    tracing::error!(function = %name, %error, "what is provisioned cannot be read; it is tried again");
                    failed.insert(name);
                }
            }
            if failed.is_empty() {
                changed.some.notified().await;
            } else {
                let _ = tokio::time::timeout(AGAIN, changed.some.notified()).await;
                changed.add(failed);
            }
        }
    });
    Ok(())
}

/// Tells the data plane what a function is to have ready, until that is still so once it was told: a function that was
/// deleted in between must not be left with instances.
async fn provide(registry: &Registry, node: &Node, name: &str) -> Result<(), ControlError> {
    let mut told = None;
    loop {
        let wanted = match registry.to_provide(name).await {
            Ok(wanted) => Some(wanted),
            Err(ControlError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        if told == wanted {
            return Ok(());
        }
        if let Some(before) =
            told.filter(|before| wanted.as_ref().is_none_or(|wanted| wanted.uid != before.uid))
        {
            node.provision(&before.uid, &[]);
        }
        if let Some(wanted) = &wanted {
            node.provision(&wanted.uid, &wanted.versions);
        }
        told = wanted;
    }
}
