//! Published versions: immutable, numbered from 1, never reused.

use super::functions::precondition;
use super::registry::{Draft, Registry, document, new_id, version_key};
use super::{ControlError, Function, Page, PublishVersion, What, validate};
use base64::Engine;
use model::{Configuration, FunctionHead, LATEST, Published, Timestamp, Version};
use ports::store::Expect;
use sha2::Digest;
use std::sync::Arc;

/// Versions in a page, at most.
const PAGE: usize = 50;

impl Registry {
    /// Publishes `$LATEST` as a new version, or gives the last version when nothing changed since.
    pub async fn publish_version(&self, request: PublishVersion) -> Result<Function, ControlError> {
        validate::publish(&request)?;
        let PublishVersion { name, code_sha256, description, revision_id } = request;
        let decide = |draft: &mut Draft| {
            precondition(&draft.head.latest.revision_id, revision_id.as_deref())?;
            let actual = code_sha256_base64(&draft.head.latest.code.sha256);
            if let Some(expected) = code_sha256.as_deref().filter(|expected| *expected != actual) {
                return Err(ControlError::invalid(
                    "CodeSha256",
                    format!(
                        "CodeSHA256 ({expected}) is different from current CodeSHA256 in $LATEST ({actual}). Please try again with the CodeSHA256 in $LATEST."
                    ),
                ));
            }
            Ok(draft.publish(description.as_deref()))
        };
        let (head, number) = self.change(&name, decide).await?;
        self.described(head, Version::Number(number), Some(number.to_string())).await
    }

    /// `$LATEST` and then the published versions in order.
    pub async fn list_versions(
        &self,
        name: &str,
        marker: Option<&str>,
        max_items: Option<i64>,
    ) -> Result<Page<Function>, ControlError> {
        validate::function(name)?;
        let limit = validate::page_size(max_items, PAGE)?;
        let head = self.entry(name).await?.head.clone();
        let mut items = Vec::new();
        let after = match marker {
            None => {
                let (qualifier, configuration) = (Some(LATEST.to_owned()), head.latest.clone());
                items.push(Function {
                    head: head.clone(),
                    qualifier,
                    version: Version::Latest,
                    configuration,
                });
                Version::Latest
            }
            Some(marker) => marker.parse().map_err(|()| {
                ControlError::invalid(
                    "Marker",
                    "Invalid Marker: give the NextMarker of the page before as it came.",
                )
            })?,
        };
        self.list_versions_after(head, after, limit + 1, &mut items).await?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next_marker = items.last().filter(|_| more).map(|last| last.version.to_string());
        Ok(Page { items, next_marker })
    }

    /// Appends the published versions after `after` until `items` has `limit`.
    pub(super) async fn list_versions_after(
        &self,
        head: Arc<FunctionHead>,
        after: Version,
        limit: usize,
        items: &mut Vec<Function>,
    ) -> Result<(), ControlError> {
        for number in &head.versions {
            let version = Version::Number(*number);
            if version <= after {
                continue;
            }
            if items.len() >= limit {
                break;
            }
            match self.described(head.clone(), version, Some(number.to_string())).await {
                Ok(function) => items.push(function),
                // Deleted while the list was read.
                Err(ControlError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) async fn delete_version(&self, name: &str, qualifier: &str) -> Result<(), ControlError> {
        let number = match qualifier.parse() {
            Ok(Version::Number(number)) => number,
            Ok(Version::Latest) => {
                return Err(ControlError::invalid(
                    "Qualifier",
                    "$LATEST version cannot be deleted without deleting the function.",
                ));
            }
            Err(()) => {
                return Err(ControlError::invalid(
                    "Qualifier",
                    "Deletion of aliases is not currently supported.",
                ));
            }
        };
        let decide = |draft: &mut Draft| {
            let head = &mut draft.head;
            // Deleting what does not exist is no error: Lambda answers 204.
            let Ok(place) = head.versions.binary_search(&number) else { return Ok(()) };
            let version = Version::Number(number);
            let users: Vec<&str> = head
                .aliases
                .iter()
                .filter(|(_, alias)| alias.version == version || alias.weights.contains_key(&version))
                .map(|(name, _)| name.as_str())
                .collect();
            if !users.is_empty() {
                return Err(ControlError::conflict(format!(
                    "Version {number} of function {name} is referenced by alias {}. Point the alias elsewhere or delete it first.",
                    users.join(", ")
                )));
            }
            head.versions.remove(place);
            head.policies.remove(&number.to_string());
            draft.announce.push(What::VersionDeleted(number));
            if head.provisioned.remove(&number.to_string()).is_some() {
                draft.announce.push(What::Provisioned);
            }
            Ok(())
        };
        let (head, ()) = self.change(name, decide).await?;
        self.left_behind.notify_one();
        if let Err(error) = self.store.delete(&version_key(&head.uid, number), Expect::Any).await {
            tracing::warn!(function = name, number, %error, "a deleted version's document is left to the sweep");
        }
        Ok(())
    }
}

impl Draft {
    /// Publishes the draft's `$LATEST`, unless that is what the last version is; the version's number.
    pub(super) fn publish(&mut self, description: Option<&str>) -> u64 {
        let digest = content_digest(&self.head.latest);
        if let Some(last) = &self.head.last_published
            && last.digest == digest
            && self.head.versions.contains(&last.version)
        {
            return last.version;
        }
        let number = self.head.next_version;
        let mut configuration = (*self.head.latest).clone();
        configuration.revision_id = new_id();
        if let Some(description) = description {
            configuration.description = description.to_owned();
        }
        self.head.latest = Arc::new(Configuration { revision_id: new_id(), ..(*self.head.latest).clone() });
        if configuration.snap_start() {
            self.announce.push(What::SnapStart(number));
        }
        self.head.next_version = number + 1;
        self.head.versions.push(number);
        self.head.last_published = Some(Published { version: number, digest });
        self.published = Some((number, Arc::new(configuration)));
        number
    }
}

/// Lambda's form of a package's digest.
fn code_sha256_base64(hex: &str) -> String {
    let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2).unwrap_or("00"), 16).unwrap_or(0);
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// What makes a version: the configuration and code without when and as which revision they were set.
fn content_digest(configuration: &Configuration) -> String {
    let mut content = configuration.clone();
    content.last_modified = Timestamp::default();
    content.revision_id = String::new();
    content.deployment_id = String::new();
    let digest = sha2::Sha256::digest(document(&content));
    base64::engine::general_purpose::STANDARD.encode(digest)
}
