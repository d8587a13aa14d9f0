//! Provisioned concurrency: how many instances of a version are kept ready, for itself or for an alias.

use super::checks::Checks;
use super::registry::{Draft, PROVISIONED, Registry, document, now, provisioned_key};
use super::{ControlError, Page, Target, What, validate};
use model::{FunctionHead, LATEST, Provisioned, Version};
use ports::store::Expect;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Configurations in a page, at most: Lambda's number.
const PAGE: usize = 50;

/// What is provisioned for a version or an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisionedConfig {
    /// The function's name.
    pub function: String,
    /// The function's unique id.
    pub uid: String,
    /// The version's number or the alias.
    pub qualifier: String,
    /// How much, and since when.
    pub provisioned: Provisioned,
    /// … of which versions.
    pub shares: Vec<(Version, u32)>,
}

impl PartialEq for ToProvide {
    fn eq(&self, other: &ToProvide) -> bool {
        let counts = |all: &ToProvide| {
            all.versions.iter().map(|(target, count)| (target.version, *count)).collect::<Vec<_>>()
        };
        self.uid == other.uid && counts(self) == counts(other)
    }
}

/// What a function is to have ready. Two are equal that ask for the same numbers of the same versions.
#[derive(Clone, Debug)]
pub struct ToProvide {
    /// The function's unique id.
    pub uid: Arc<str>,
    /// Versions and how many requests at once their instances must be ready for; no version twice.
    pub versions: Vec<(Target, u32)>,
}

impl Registry {
    /// Provisions concurrency for a version or an alias, or changes how much.
    pub async fn put_provisioned(
        &self,
        name: &str,
        qualifier: Option<&str>,
        requested: i64,
    ) -> Result<ProvisionedConfig, ControlError> {
        validate::function(name)?;
        let mut checks = Checks::default();
        checks.least("provisionedConcurrentExecutions", requested, 1);
        if qualifier.is_none() {
            checks.null("qualifier");
        }
        checks.done()?;
        let qualifier = qualifier.unwrap_or_default();
        // More than any account has is refused by what it would leave to others.
        let requested = u32::try_from(requested).unwrap_or(u32::MAX);
        let reserving = self.reserving.clone().lock_owned().await;
        let entry = self.entry(name).await.map_err(|error| self.qualified(error, name, Some(qualifier)))?;
        self.refuse_snapshots(&entry.head, qualifier).await?;
        let others = self.set_aside(Some(name)).await?;
        let mut turn = self.turn(name).await;
        turn.hold(reserving);
        turn.hold(self.ledger.pins.pin(&provisioned_key(name)).await);
        let decide = |draft: &mut Draft| {
            let head = &mut draft.head;
            self.provisionable(head, qualifier)?;
            let provisioned = Provisioned { requested, modified: now() };
            head.provisioned.insert(qualifier.to_owned(), provisioned);
            check_versions(head, qualifier)?;
            self.check_room(head, others)?;
            draft.announce.push(What::Provisioned);
            Ok(())
        };
        // Refused before anything is written: the index names only functions that have something, or had.
        let mut draft = Draft { head: (*entry.head).clone(), published: None, announce: Vec::new() };
        decide(&mut draft)?;
        self.store.put(&provisioned_key(name), document(&true), Expect::Any).await?;
        let (head, ()) = self.change_in_turn(turn, name, decide).await?;
        self.config(&head, qualifier)
    }

    /// What is provisioned for a version or an alias.
    pub async fn provisioned(
        &self,
        name: &str,
        qualifier: Option<&str>,
    ) -> Result<ProvisionedConfig, ControlError> {
        validate::function(name)?;
        let head =
            self.entry(name).await.map_err(|error| self.qualified(error, name, qualifier))?.head.clone();
        let qualifier = required(qualifier)?;
        self.exists(&head, qualifier)?;
        self.config(&head, qualifier)
    }

    /// All that is provisioned of a function, by qualifier.
    pub async fn list_provisioned(
        &self,
        name: &str,
        marker: Option<&str>,
        max_items: Option<i64>,
    ) -> Result<Page<ProvisionedConfig>, ControlError> {
        validate::function(name)?;
        let limit = validate::page_size(max_items, PAGE)?;
        let head = self.entry(name).await?.head.clone();
        let after = head.provisioned.keys().filter(|key| marker.is_none_or(|marker| key.as_str() > marker));
        let mut keys: Vec<&String> = after.take(limit + 1).collect();
        let next_marker = (keys.len() > limit).then(|| keys[limit - 1].clone());
        keys.truncate(limit);
        let items = keys.into_iter().map(|key| self.config(&head, key)).collect::<Result<_, _>>()?;
        Ok(Page { items, next_marker })
    }

    /// Gives up what is provisioned; nothing happens when there is nothing.
    pub async fn delete_provisioned(&self, name: &str, qualifier: Option<&str>) -> Result<(), ControlError> {
        validate::function(name)?;
        let qualifier = required(qualifier)?;
        let decide = |draft: &mut Draft| {
            self.exists(&draft.head, qualifier)?;
            if draft.head.provisioned.remove(qualifier).is_some() {
                draft.announce.push(What::Provisioned);
            }
            Ok(())
        };
        let turn = self.turn(name).await;
        let changed = self.change_in_turn(turn, name, decide).await;
        changed.map_err(|error| self.qualified(error, name, Some(qualifier)))?;
        // The sweep takes the index's entry.
        self.left_behind.notify_one();
        Ok(())
    }

    /// Functions of which something is, or was, provisioned: for the start of the data plane.
    pub async fn provisioned_functions(&self) -> Result<Vec<Arc<str>>, ControlError> {
        let mut names = Vec::new();
        self.scan(PROVISIONED, |document| {
            names.push(document.key[PROVISIONED.len()..].into());
            Ok(())
        })
        .await?;
        Ok(names)
    }

    /// What a function is to have ready now.
    pub async fn to_provide(&self, name: &str) -> Result<ToProvide, ControlError> {
        let entry = self.entry(name).await?;
        let mut wanted: BTreeMap<Version, u32> = BTreeMap::new();
        for (version, count) in entry.head.all_provisioned().into_iter().filter(|(_, count)| *count > 0) {
            *wanted.entry(version).or_default() += count;
        }
        let mut versions = Vec::new();
        for (version, count) in wanted {
            versions.push((self.resolve(name, Some(&version.to_string()), 0.0).await?, count));
        }
        Ok(ToProvide { uid: entry.uid.clone(), versions })
    }

    fn config(&self, head: &FunctionHead, qualifier: &str) -> Result<ProvisionedConfig, ControlError> {
        let provisioned = *head.provisioned.get(qualifier).ok_or(ControlError::NotProvisioned)?;
        Ok(ProvisionedConfig {
            function: head.name.clone(),
            uid: head.uid.clone(),
            qualifier: qualifier.to_owned(),
            provisioned,
            shares: head.provisioned_shares(qualifier),
        })
    }

    /// The version or the alias exists.
    fn exists(&self, head: &FunctionHead, qualifier: &str) -> Result<(), ControlError> {
        match qualifier.parse() {
            Ok(Version::Latest) => Ok(()),
            Ok(Version::Number(number)) if head.versions.contains(&number) => Ok(()),
            Ok(Version::Number(_)) => Err(self.no_function(&head.name, Some(qualifier))),
            Err(()) if head.aliases.contains_key(qualifier) => Ok(()),
            Err(()) => Err(self.no_alias(&head.name, qualifier)),
        }
    }

    /// It stands for published versions only, and is not shared out among several at this moment.
    fn provisionable(&self, head: &FunctionHead, qualifier: &str) -> Result<(), ControlError> {
        self.exists(head, qualifier)?;
        let alias = head.aliases.get(qualifier);
        if alias.is_some_and(|alias| !alias.weights.is_empty()) {
            return Err(invalid("Alias with weights can not be used with Provisioned Concurrency"));
        }
        if qualifier == LATEST || alias.is_some_and(|alias| alias.version == Version::Latest) {
            return Err(invalid(UNPUBLISHED));
        }
        Ok(())
    }

    /// As on Lambda, a version is either kept ready or made to start fast.
    async fn refuse_snapshots(&self, head: &FunctionHead, qualifier: &str) -> Result<(), ControlError> {
        let of_alias = head.aliases.get(qualifier).map(|alias| alias.version);
        let Some(version) = of_alias.or(qualifier.parse().ok()).filter(|version| *version != Version::Latest)
        else {
            return Ok(());
        };
        self.exists(head, qualifier)?;
        let configuration = self.configuration(head, version, Some(qualifier)).await?;
        match configuration.snap_start() {
            true => {
                Err(invalid("Provisioned Concurrency is not supported for function versions with SnapStart."))
            }
            false => Ok(()),
        }
    }

    /// The function's reservation holds it, or else what the account has left.
    fn check_room(&self, head: &FunctionHead, others: u32) -> Result<(), ControlError> {
        let limits = &self.options.limits;
        let total = head.total_provisioned();
        match head.reserved_concurrency {
            Some(reserved) if total > reserved => Err(invalid(
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
            )),
            None if u64::from(others) + u64::from(total) + u64::from(limits.unreserved_concurrency)
                > u64::from(limits.account_concurrency) =>
            {
                Err(invalid(format!(
                    "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [{}].",
                    limits.unreserved_concurrency
                )))
            }
            _ => Ok(()),
        }
    }
}

const UNPUBLISHED: &str =
    "Provisioned Concurrency Configs cannot be applied to unpublished function versions.";

/// No other version or alias has something provisioned for the same version.
pub(super) fn check_versions(head: &FunctionHead, qualifier: &str) -> Result<(), ControlError> {
    let is_alias = head.aliases.contains_key(qualifier);
    let own = head.provisioned_shares(qualifier);
    if own.iter().any(|(version, _)| *version == Version::Latest) {
        return Err(invalid(UNPUBLISHED));
    }
    let others = head.provisioned.keys().filter(|other| *other != qualifier);
    let mut others = others.flat_map(|other| head.provisioned_shares(other));
    match others.any(|(version, _)| own.iter().any(|(own, _)| *own == version)) {
        false => Ok(()),
        true if is_alias => Err(invalid(
            "Alias can not be used for Provisioned Concurrency configuration on an already provisioned version",
        )),
        true => Err(invalid("Version is pointed to by a Provisioned Concurrency alias")),
    }
}

fn required(qualifier: Option<&str>) -> Result<&str, ControlError> {
    let mut checks = Checks::default();
    if qualifier.is_none() {
        checks.null("qualifier");
    }
    checks.done()?;
    Ok(qualifier.unwrap_or_default())
}

fn invalid(message: impl Into<String>) -> ControlError {
    ControlError::invalid("ProvisionedConcurrentExecutions", message)
}
