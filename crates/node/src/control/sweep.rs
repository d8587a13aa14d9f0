//! What crashes and updates leave behind: found and removed in the background.

use super::ControlError;
use super::pins::Watch;
use super::registry::{
    FUNCTIONS, PROVISIONED, RESERVED, Registry, URLS, VERSIONS, parse, provisioned_key, reserved_key,
    url_key, version_key,
};
use model::{Configuration, FunctionHead};
use ports::store::Expect;
use std::collections::HashSet;
use std::time::Duration;

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Versions, URL ids, reservations and provisions whose function is gone or does not know them.
    pub documents: u64,
    /// Packages that no version uses.
    pub packages: u64,
    /// Unpacked packages that no version uses, and temporary folders.
    pub folders: u64,
}

/// How long garbage of updates may lie: long enough that a developer who deploys with every save causes few
/// sweeps.
const PAUSE: Duration = Duration::from_secs(600);

impl Registry {
    /// Sweeps now, and again when updates and deletions have left something behind, at most every ten minutes.
    /// Runs until it is dropped.
    pub async fn sweep_forever(&self) {
        loop {
            match self.sweep().await {
                Ok(swept) if swept != Swept::default() => tracing::info!(?swept, "removed what nobody uses"),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "the sweep of unused packages failed; it will be tried again")
                }
            }
            tokio::time::sleep(PAUSE).await;
            self.left_behind.notified().await;
        }
    }

    /// Removes what no function refers to. Safe beside any change.
    pub async fn sweep(&self) -> Result<Swept, ControlError> {
        let _alone = self.sweeping.lock().await;
        // Candidates first, references second: what appears in between is not a candidate, and what is being
        // made is pinned.
        let documents = self.ledger.pins.watch();
        let packages = self.packages.pins.watch();
        let mut candidates = Vec::new();
        for prefix in [VERSIONS, URLS, RESERVED, PROVISIONED] {
            self.scan(prefix, |document| {
                candidates.push(document.key.clone());
                Ok(())
            })
            .await?;
        }
        let stored = self.packages.everything_on_disk().await?;
        let (known, used) = self.references().await?;
        let mut swept = Swept::default();
        for key in candidates.iter().filter(|key| !known.contains(*key)) {
            swept.documents += u64::from(self.remove_document(&documents, key).await?);
        }
        (swept.packages, swept.folders) = self.packages.remove_unused(&packages, stored, &used).await?;
        Ok(swept)
    }

    /// The keys of documents that functions refer to, and the digests of packages that they use.
    async fn references(&self) -> Result<(HashSet<String>, HashSet<String>), ControlError> {
        let (mut known, mut used) = (HashSet::new(), HashSet::new());
        self.scan(FUNCTIONS, |document| {
            let head: FunctionHead = parse(document)?;
            known.extend(head.versions.iter().map(|number| version_key(&head.uid, *number)));
            known.extend(head.urls.values().map(|url| url_key(&url.id)));
            known.extend(head.reserved_concurrency.map(|_| reserved_key(&head.name)));
            known.extend((!head.provisioned.is_empty()).then(|| provisioned_key(&head.name)));
            used.insert(head.latest.code.sha256.clone());
            Ok(())
        })
        .await?;
        // The versions after the heads: code that left a head in the meantime is in a version by now, or unused.
        self.scan(VERSIONS, |document| {
            let configuration: Configuration = parse(document)?;
            used.insert(configuration.code.sha256);
            Ok(())
        })
        .await?;
        Ok((known, used))
    }

    async fn remove_document(&self, watch: &Watch<'_>, key: &str) -> Result<bool, ControlError> {
        let removed = watch.remove(key, self.store.delete(key, Expect::Any)).await;
        Ok(removed.transpose()?.unwrap_or(false))
    }
}
