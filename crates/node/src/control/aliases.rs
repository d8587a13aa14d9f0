//! Aliases: names for versions, with a second version that takes a share of the requests.

use super::functions::precondition;
use super::registry::{Draft, Registry, new_id};
use super::{ControlError, NamedAlias, Page, PutAlias, What, provisioned, validate};
use model::{Alias, FunctionHead, Version};
use std::collections::BTreeMap;

/// Aliases in a page, at most.
const PAGE: usize = 50;

impl Registry {
    /// Makes an alias.
    pub async fn create_alias(&self, request: PutAlias) -> Result<NamedAlias, ControlError> {
        validate::alias(&request, true)?;
        let decide = |draft: &mut Draft| {
            if draft.head.aliases.contains_key(&request.name) {
                let arn = self.account().function_arn(&request.function, Some(&request.name));
                return Err(ControlError::conflict(format!("Alias already exists: {arn}")));
            }
            let alias = Alias {
                version: Version::Latest,
                weights: BTreeMap::new(),
                description: String::new(),
                revision_id: String::new(),
            };
            self.set_alias(draft, alias, &request)
        };
        let version = request.version.as_deref();
        let missing = |error| self.qualified(error, &request.function, version);
        self.entry(&request.function).await.map_err(missing)?;
        let (_, alias) = self.change(&request.function, decide).await?;
        Ok(NamedAlias { function: request.function, name: request.name, alias })
    }

    /// Changes an alias; what the request leaves out stays.
    pub async fn update_alias(&self, request: PutAlias) -> Result<NamedAlias, ControlError> {
        validate::alias(&request, false)?;
        let decide = |draft: &mut Draft| {
            let found = draft.head.aliases.get(&request.name).cloned();
            let alias = found.ok_or_else(|| {
                let arn = self.account().function_arn(&request.function, Some(&request.name));
                ControlError::not_found(format!("Alias not found: {arn}"))
            })?;
            precondition(&alias.revision_id, request.revision_id.as_deref())?;
            self.set_alias(draft, alias, &request)
        };
        let (_, alias) = self.change(&request.function, decide).await?;
        Ok(NamedAlias { function: request.function, name: request.name, alias })
    }

    fn set_alias(
        &self,
        draft: &mut Draft,
        mut alias: Alias,
        request: &PutAlias,
    ) -> Result<Alias, ControlError> {
        let head = &mut draft.head;
        if let Some(version) = &request.version {
            alias.version = self.existing_version(head, version)?;
        }
        if let Some(description) = &request.description {
            alias.description.clone_from(description);
        }
        if let Some(weights) = &request.weights {
            let weigh =
                |(version, weight): (&String, &f64)| Ok((self.existing_version(head, version)?, *weight));
            alias.weights = weights.iter().map(weigh).collect::<Result<_, ControlError>>()?;
        }
        validate::routing(&alias)?;
        alias.revision_id = new_id();
        head.aliases.insert(request.name.clone(), alias.clone());
        if head.provisioned.contains_key(&request.name) {
            // What was provisioned follows the alias.
            provisioned::check_versions(head, &request.name)?;
            draft.announce.push(What::Provisioned);
        }
        Ok(alias)
    }

    fn existing_version(&self, head: &FunctionHead, text: &str) -> Result<Version, ControlError> {
        let unknown = || self.no_function(&head.name, Some(text));
        let version: Version = text.parse().map_err(|()| unknown())?;
        match version {
            Version::Number(number) if !head.versions.contains(&number) => Err(unknown()),
            version => Ok(version),
        }
    }

    /// One alias.
    pub async fn alias(&self, function: &str, name: &str) -> Result<NamedAlias, ControlError> {
        validate::function(function)?;
        let missing = || self.no_alias(function, name);
        let entry = self.entry(function).await.map_err(|error| match error {
            ControlError::NotFound { .. } => missing(),
            other => other,
        })?;
        let alias = entry.head.aliases.get(name).cloned().ok_or_else(missing)?;
        Ok(NamedAlias { function: function.to_owned(), name: name.to_owned(), alias })
    }

    /// A function's aliases by name; only those that point at `version`, if given.
    pub async fn list_aliases(
        &self,
        function: &str,
        version: Option<&str>,
        marker: Option<&str>,
        max_items: Option<i64>,
    ) -> Result<Page<NamedAlias>, ControlError> {
        validate::function(function)?;
        let limit = validate::page_size(max_items, PAGE)?;
        let entry = self.entry(function).await?;
        let version: Option<Version> = match version {
            None => None,
            Some(text) => Some(text.parse().map_err(|()| self.no_function(function, Some(text)))?),
        };
        let points_there = |alias: &Alias| {
            version.is_none_or(|version| alias.version == version || alias.weights.contains_key(&version))
        };
        let mut items: Vec<NamedAlias> = (entry.head.aliases.iter())
            .filter(|(name, alias)| marker.is_none_or(|marker| name.as_str() > marker) && points_there(alias))
            .take(limit + 1)
            .map(|(name, alias)| NamedAlias {
                function: function.to_owned(),
                name: name.clone(),
                alias: alias.clone(),
            })
            .collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next_marker = items.last().filter(|_| more).map(|last| last.name.clone());
        Ok(Page { items, next_marker })
    }

    /// Deletes an alias with its URL and policy; nothing happens when it does not exist.
    pub async fn delete_alias(&self, function: &str, name: &str) -> Result<(), ControlError> {
        validate::function(function)?;
        let decide = |draft: &mut Draft| match draft.head.aliases.remove(name) {
            Some(_) => {
                draft.head.policies.remove(name);
                if draft.head.provisioned.remove(name).is_some() {
                    draft.announce.push(What::Provisioned);
                }
                Ok(draft.head.urls.remove(name))
            }
            None => Ok(None),
        };
        let (_, url) = self.change(function, decide).await?;
        self.forget_url(url).await;
        Ok(())
    }

    pub(super) fn no_alias(&self, function: &str, name: &str) -> ControlError {
        let arn = self.account().function_arn(function, Some(name));
        ControlError::not_found(format!("Cannot find alias arn: {arn}"))
    }
}
