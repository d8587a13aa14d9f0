//! Resource policies: kept, checked for form and given back. Nothing in Brooklet is decided by them: it has no IAM,
//! and of who may call only a function URL's `AuthType` and the server's access keys say something.

use super::functions::precondition;
use super::registry::{Draft, Registry, document, new_id};
use super::{AddPermission, ControlError, validate};
use model::{Configuration, FunctionHead, LATEST, Policy, Statement, Version};
use std::sync::Arc;

/// The longest policy, in bytes: Lambda's number, here of the policy as it is stored.
const MAX_POLICY: usize = 20_480;

impl Registry {
    /// Adds a statement to the policy of a function, version or alias.
    pub async fn add_permission(&self, request: AddPermission) -> Result<Statement, ControlError> {
        validate::permission(&request.function, &request.statement)?;
        let AddPermission { function, qualifier, statement, revision_id } = request;
        let qualifier = qualifier.as_deref();
        if qualifier == Some(LATEST) {
            let message = "We currently do not support adding policies for $LATEST.";
            return Err(ControlError::invalid("Qualifier", message));
        }
        let published = self.published_revision(&function, qualifier).await?;
        let decide = |draft: &mut Draft| {
            let owner = self.owner(&draft.head, qualifier)?;
            let current = revision(&draft.head, owner, &published);
            precondition(&current, revision_id.as_deref()).map_err(|error| {
                match draft.head.policies.contains_key(owner) {
                    true => error,
                    // Lambda names another operation before the first statement.
                    false => ControlError::PreconditionFailed { api: "GetPolicy" },
                }
            })?;
            let policy = draft.head.policies.entry(owner.to_owned()).or_default();
            if policy.statements.iter().any(|there| there.id == statement.id) {
                return Err(ControlError::conflict(format!(
                    "The statement id ({}) provided already exists. Please provide a new statement id, or remove \
                     the existing statement.",
                    statement.id
                )));
            }
            policy.statements.push(statement.clone());
            fits(policy)?;
            revise(&mut draft.head, owner);
            Ok(())
        };
        self.change(&function, decide).await?;
        Ok(statement)
    }

    /// The policy of a function, version or alias; `NotFound` when it has none.
    pub async fn policy(&self, function: &str, qualifier: Option<&str>) -> Result<Policy, ControlError> {
        validate::function(function)?;
        let none = || ControlError::not_found("The resource you requested does not exist.");
        let entry = self.entry(function).await.map_err(|error| match error {
            ControlError::NotFound { .. } => none(),
            other => other,
        })?;
        let owner = qualifier.unwrap_or(LATEST);
        let mut policy = entry.head.policies.get(owner).cloned().ok_or_else(none)?;
        policy.revision_id = revision(&entry.head, owner, "");
        Ok(policy)
    }

    /// Takes the statement with this id away.
    pub async fn remove_permission(
        &self,
        function: &str,
        qualifier: Option<&str>,
        id: &str,
        revision_id: Option<&str>,
    ) -> Result<(), ControlError> {
        validate::function(function)?;
        let decide = |draft: &mut Draft| {
            let owner = self.owner(&draft.head, qualifier)?;
            let current = revision(&draft.head, owner, "");
            let policy = draft.head.policies.get_mut(owner);
            let policy = policy
                .ok_or_else(|| ControlError::not_found("No policy is associated with the given resource."))?;
            let place = policy.statements.iter().position(|statement| statement.id == id);
            let place = place.ok_or_else(|| {
                ControlError::not_found(format!("Statement {id} is not found in resource policy."))
            })?;
            precondition(&current, revision_id)?;
            policy.statements.remove(place);
            revise(&mut draft.head, owner);
            Ok(())
        };
        if let Err(ControlError::NotFound { .. }) = self.entry(function).await {
            let arn = self.account().function_arn(function, qualifier);
            return Err(ControlError::not_found(format!("No policy found for: {arn}")));
        }
        self.change(function, decide).await.map(|_| ())
    }

    /// What a qualifier's policy is kept under, when what it names exists.
    fn owner<'a>(&self, head: &FunctionHead, qualifier: Option<&'a str>) -> Result<&'a str, ControlError> {
        let Some(qualifier) = qualifier else { return Ok(LATEST) };
        let there = match qualifier.parse() {
            Ok(Version::Latest) => true,
            Ok(Version::Number(number)) => head.versions.contains(&number),
            Err(()) => head.aliases.contains_key(qualifier),
        };
        match there {
            true => Ok(qualifier),
            false if validate::alias_name(qualifier) => Err(self.no_alias(&head.name, qualifier)),
            false => Err(self.no_function(&head.name, Some(qualifier))),
        }
    }

    /// The revision at which a version was published; empty for `$LATEST` and aliases, whose revision is in the head.
    async fn published_revision(
        &self,
        function: &str,
        qualifier: Option<&str>,
    ) -> Result<String, ControlError> {
        let Some(Ok(Version::Number(number))) = qualifier.map(str::parse) else { return Ok(String::new()) };
        let entry = self.entry(function).await?;
        self.owner(&entry.head, qualifier)?;
        Ok(self.published(&entry.head, number, qualifier).await?.revision_id)
    }
}

/// The revision of what a policy belongs to.
fn revision(head: &FunctionHead, owner: &str, published: &str) -> String {
    let policy = || head.policies.get(owner).map(|policy| policy.revision_id.as_str());
    let revision = match head.aliases.get(owner) {
        _ if owner == LATEST => &head.latest.revision_id,
        Some(alias) => alias.revision_id.as_str(),
        None => policy().unwrap_or(published),
    };
    revision.to_owned()
}

/// A new revision after a change of the policy, which goes when nothing is left in it. The deployment stays:
/// instances do not depend on policies.
fn revise(head: &mut FunctionHead, owner: &str) {
    let revision_id = new_id();
    if owner == LATEST {
        let latest = Configuration { revision_id: revision_id.clone(), ..(*head.latest).clone() };
        head.latest = Arc::new(latest);
    }
    if let Some(alias) = head.aliases.get_mut(owner) {
        alias.revision_id.clone_from(&revision_id);
    }
    if let Some(policy) = head.policies.get_mut(owner) {
        policy.revision_id = revision_id;
    }
    head.policies.retain(|_, policy| !policy.statements.is_empty());
}

fn fits(policy: &Policy) -> Result<(), ControlError> {
    let length = document(policy).len();
    match length <= MAX_POLICY {
        true => Ok(()),
        false => Err(ControlError::PolicyTooLong {
            message: format!("The final policy size ({length}) is bigger than the limit ({MAX_POLICY})."),
        }),
    }
}
