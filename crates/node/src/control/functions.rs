//! Create, get, list, update, delete.

use super::package::{UnpackedCode, blocking};
use super::registry::version_key;
use super::registry::{
    Draft, FUNCTIONS, Registry, VERSIONS, head_key, new_id, now, parse, provisioned_key, reserved_key,
    url_key,
};
use super::{
    AccountUsage, ControlError, CreateFunction, Function, ListFunctions, Page, Settings, UpdateCode,
    UpdateConfiguration, What, validate,
};
use bytes::Bytes;
use model::{Code, Configuration, FunctionHead, LATEST, Logging, MiB, Timestamp, Version};
use ports::store::{Expect, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Functions in a page, at most: Lambda's number.
const PAGE: usize = 50;

impl Registry {
    /// Makes a function; the answer is `$LATEST`, or version 1 when it is published at once.
    pub async fn create_function(&self, request: CreateFunction) -> Result<Function, ControlError> {
        validate::create(&request)?;
        let CreateFunction { name, package, settings, architectures, tags, publish } = request;
        // Before the package is unpacked, so that a runtime that is not to be had costs nothing.
        self.check_runtime(settings.runtime.as_deref(), None).await?;
        self.refuse_missing_layers(settings.layers.as_deref())?;
        if self.read_head(&name).await?.is_some() {
            return Err(already_exists(&name));
        }
        let staged = self.packages.stage(package).await?;
        self.check_runtime(settings.runtime.as_deref(), Some(&staged.unpacked)).await?;
        let latest = new_configuration(&name, settings, architectures, staged.code.clone(), now());
        let head = FunctionHead {
            uid: uuid::Uuid::new_v4().to_string(),
            latest: Arc::new(latest),
            next_version: 1,
            last_published: None,
            versions: Vec::new(),
            aliases: BTreeMap::new(),
            urls: BTreeMap::new(),
            provisioned: BTreeMap::new(),
            reserved_concurrency: None,
            tags,
            policies: BTreeMap::new(),
            name,
        };
        let mut draft = Draft { head, published: None, announce: Vec::new() };
        let version = if publish { Version::Number(draft.publish(None)) } else { Version::Latest };
        let name = draft.head.name.clone();
        let mut turn = self.turn(&name).await;
        turn.hold(staged.pin);
        let (_, written) = self.ledger.write(turn, draft, Expect::Absent).await;
        let head = written.map_err(|error| match error {
            StoreError::Conflict { .. } => already_exists(&name),
            other => other.into(),
        })?;
        // Lambda answers with version 1 under the function's own ARN.
        self.described(head, version, None).await
    }

    /// One version of a function: `$LATEST` without a qualifier, else a version or what an alias points at.
    pub async fn function(&self, name: &str, qualifier: Option<&str>) -> Result<Function, ControlError> {
        validate::function(name)?;
        let entry = self.entry(name).await.map_err(|error| self.qualified(error, name, qualifier))?;
        let version = entry.main_version(qualifier).ok_or_else(|| self.no_function(name, qualifier))?;
        self.described(entry.head.clone(), version, qualifier.map(str::to_owned)).await
    }

    /// The zip of one version, as it was uploaded.
    pub async fn package(&self, name: &str, qualifier: Option<&str>) -> Result<Bytes, ControlError> {
        let function = self.function(name, qualifier).await?;
        self.packages.zip(&function.configuration.code.sha256).await
    }

    /// Functions by name; with all versions, each function's `$LATEST` is followed by its versions.
    pub async fn list_functions(&self, request: ListFunctions) -> Result<Page<Function>, ControlError> {
        let limit = validate::page_size(request.max_items, PAGE)?;
        let marker = request.marker.as_deref().map(Marker::parse).transpose()?;
        let mut items = Vec::new();
        // The function that the page before ended in comes first: it may have versions left.
        let mut after = match &marker {
            Some(Marker { name, version: Some(version) }) => {
                if let Some((head, _)) = self.read_head(name).await? {
                    self.list_versions_after(Arc::new(head), *version, limit + 1, &mut items).await?;
                }
                Some(name.clone())
            }
            Some(Marker { name, version: None }) => Some(name.clone()),
            None => None,
        };
        while items.len() <= limit {
            let from = after.as_deref().map(head_key);
            let documents = self.store.list(FUNCTIONS, from.as_deref(), limit + 1 - items.len()).await?;
            let Some(last) = documents.last() else { break };
            after = Some(last.key[FUNCTIONS.len()..].to_owned());
            for document in &documents {
                let head: Arc<FunctionHead> = Arc::new(parse(document)?);
                let configuration = head.latest.clone();
                let qualifier = request.all_versions.then(|| LATEST.to_owned());
                items.push(Function {
                    head: head.clone(),
                    qualifier,
                    version: Version::Latest,
                    configuration,
                });
                if request.all_versions {
                    self.list_versions_after(head, Version::Latest, limit + 1, &mut items).await?;
                }
            }
        }
        let more = items.len() > limit;
        items.truncate(limit);
        let next_marker = match items.last() {
            Some(last) if more => Some(Marker::after(last, request.all_versions).to_string()),
            _ => None,
        };
        Ok(Page { items, next_marker })
    }

    /// Replaces the code of `$LATEST`, and what else the request sets.
    pub async fn update_code(&self, request: UpdateCode) -> Result<Function, ControlError> {
        validate::update_code(&request)?;
        let UpdateCode { name, package, architectures, settings, publish, dry_run, revision_id } = request;
        self.check_runtime(settings.runtime.as_deref(), None).await?;
        self.refuse_missing_layers(settings.layers.as_deref())?;
        // Before the package is unpacked, so that a wrong name costs nothing.
        let entry = self.entry(&name).await?;
        precondition(&entry.head.latest.revision_id, revision_id.as_deref())?;
        let staged = self.packages.stage(package).await?;
        let runtime = settings.runtime.as_deref().unwrap_or(&entry.head.latest.runtime);
        self.check_runtime(Some(runtime), Some(&staged.unpacked)).await?;
        let decide = |draft: &mut Draft| {
            precondition(&draft.head.latest.revision_id, revision_id.as_deref())?;
            let mut latest = (*draft.head.latest).clone();
            latest.code = staged.code.clone();
            latest.architectures = architectures.clone().unwrap_or(latest.architectures);
            apply(&mut latest, settings.clone(), &name);
            validate::configuration(&latest, settings.handler.is_some())?;
            draft.set_latest(latest, now());
            Ok(if publish { Version::Number(draft.publish(None)) } else { Version::Latest })
        };
        if dry_run {
            let mut draft = Draft { head: (*entry.head).clone(), published: None, announce: Vec::new() };
            let version = decide(&mut draft)?;
            let (head, configuration) =
                (Arc::new(draft.head), draft.published.map(|(_, published)| published));
            let configuration = configuration.unwrap_or_else(|| head.latest.clone());
            return Ok(Function { head, qualifier: version_qualifier(version), version, configuration });
        }
        let mut turn = self.turn(&name).await;
        turn.hold(staged.pin);
        let (head, version) = self.change_in_turn(turn, &name, decide).await?;
        self.left_behind.notify_one();
        self.described(head, version, version_qualifier(version)).await
    }

    /// Changes the configuration of `$LATEST`.
    pub async fn update_configuration(&self, request: UpdateConfiguration) -> Result<Function, ControlError> {
        validate::update_configuration(&request)?;
        let UpdateConfiguration { name, settings, revision_id } = request;
        if settings.runtime.is_some() {
            let sha256 = self.entry(&name).await?.head.latest.code.sha256.clone();
            let unpacked = self.packages.unpacked(&sha256).await?;
            self.check_runtime(settings.runtime.as_deref(), Some(&unpacked)).await?;
        }
        self.refuse_missing_layers(settings.layers.as_deref())?;
        let decide = |draft: &mut Draft| {
            precondition(&draft.head.latest.revision_id, revision_id.as_deref())?;
            let mut latest = (*draft.head.latest).clone();
            apply(&mut latest, settings.clone(), &name);
            validate::configuration(&latest, settings.handler.is_some())?;
            draft.set_latest(latest, now());
            Ok(())
        };
        let (head, ()) = self.change(&name, decide).await?;
        self.described(head, Version::Latest, None).await
    }

    /// Deletes a function with everything that belongs to it, or, with a qualifier, one published version.
    pub async fn delete_function(&self, name: &str, qualifier: Option<&str>) -> Result<(), ControlError> {
        validate::function(name)?;
        match qualifier {
            None => self.delete_whole(name).await,
            Some(qualifier) => self.delete_version(name, qualifier).await,
        }
    }

    async fn delete_whole(&self, name: &str) -> Result<(), ControlError> {
        let mut turn = self.turn(name).await;
        let (head, _turn) = loop {
            let (head, revision) = self.read_head(name).await?.ok_or_else(|| self.no_function(name, None))?;
            let head = Arc::new(head);
            turn = match self.ledger.delete(turn, head.clone(), revision).await {
                (turn, Ok(())) => break (head, turn),
                (Some(turn), Err(StoreError::Conflict { .. })) => turn,
                (_, Err(error)) => return Err(error.into()),
            }
        };
        // The function is gone with its head; what is left of it here is invisible, and the sweep finds what a
        // crash leaves.
        let urls = head.urls.values().map(|url| url_key(&url.id));
        let versions = head.versions.iter().map(|number| version_key(&head.uid, *number));
        for key in urls.chain(versions).chain([reserved_key(name), provisioned_key(name)]) {
            if let Err(error) = self.store.delete(&key, Expect::Any).await {
                tracing::warn!(%key, %error, "left to the next sweep");
            }
        }
        self.left_behind.notify_one();
        Ok(())
    }

    /// What the account has and uses. Counted anew each time: a running total would be one more thing that every
    /// change has to keep right, for an answer that is seldom asked for.
    pub async fn account_usage(&self) -> Result<AccountUsage, ControlError> {
        let (mut functions, mut code_bytes) = (0, 0);
        self.scan(FUNCTIONS, |document| {
            functions += 1;
            code_bytes += parse::<SizedHead>(document)?.latest.code.size;
            Ok(())
        })
        .await?;
        self.scan(VERSIONS, |document| {
            code_bytes += parse::<SizedVersion>(document)?.code.size;
            Ok(())
        })
        .await?;
        let limits = &self.options.limits;
        let set_aside = self.set_aside(None).await?;
        Ok(AccountUsage {
            functions,
            code_bytes,
            code_bytes_limit: limits.code_storage_bytes,
            concurrency: limits.account_concurrency,
            unreserved_concurrency: limits.account_concurrency.saturating_sub(set_aside),
        })
    }

    async fn check_runtime(
        &self,
        runtime: Option<&str>,
        package: Option<&Arc<UnpackedCode>>,
    ) -> Result<(), ControlError> {
        let Some(runtime) = runtime.map(str::to_owned) else { return Ok(()) };
        let (check, package) = (self.options.check_runtime.clone(), package.cloned());
        let checked = blocking(move || check(&runtime, package.as_deref().map(UnpackedCode::path))).await?;
        checked.map_err(|message| {
            // The package, if it is kept already.
            self.left_behind.notify_one();
            ControlError::invalid("Runtime", message)
        })
    }

    fn refuse_missing_layers(&self, layers: Option<&[String]>) -> Result<(), ControlError> {
        let Some(layer) = layers.and_then(<[String]>::first) else { return Ok(()) };
        Err(ControlError::invalid(
            "Layers",
            format!(
                "Layer version {layer} does not exist. Brooklet does not keep layers yet: put what the layer \
                 holds into the deployment package."
            ),
        ))
    }

    /// A missing function was asked for with a qualifier: the message carries it.
    pub(super) fn qualified(&self, error: ControlError, name: &str, qualifier: Option<&str>) -> ControlError {
        match error {
            ControlError::NotFound { .. } => self.no_function(name, qualifier),
            other => other,
        }
    }

    pub(super) async fn described(
        &self,
        head: Arc<FunctionHead>,
        version: Version,
        qualifier: Option<String>,
    ) -> Result<Function, ControlError> {
        let configuration = self.configuration(&head, version, qualifier.as_deref()).await?;
        Ok(Function { head, qualifier, version, configuration })
    }

    /// The configuration of one version of a function.
    pub(super) async fn configuration(
        &self,
        head: &FunctionHead,
        version: Version,
        qualifier: Option<&str>,
    ) -> Result<Arc<Configuration>, ControlError> {
        let Version::Number(number) = version else { return Ok(head.latest.clone()) };
        let mut configuration = self.published(head, number, qualifier).await?;
        // A published version never changes, its policy does: that is a new revision all the same.
        if let Some(policy) = head.policies.get(&number.to_string()) {
            configuration.revision_id.clone_from(&policy.revision_id);
        }
        Ok(Arc::new(configuration))
    }

    /// A version as it was published.
    pub(super) async fn published(
        &self,
        head: &FunctionHead,
        number: u64,
        qualifier: Option<&str>,
    ) -> Result<Configuration, ControlError> {
        let document = self.store.get(&version_key(&head.uid, number)).await?;
        // Gone between reading the head and this: deleted by someone else.
        parse(&document.ok_or_else(|| self.no_function(&head.name, qualifier))?)
    }
}

impl Draft {
    /// Makes `latest` the function's `$LATEST`, as a new revision.
    fn set_latest(&mut self, mut latest: Configuration, now: Timestamp) {
        latest.last_modified = now;
        latest.revision_id = new_id();
        latest.deployment_id = new_id();
        self.announce.push(What::Latest { deployment_id: latest.deployment_id.clone() });
        self.head.latest = Arc::new(latest);
    }
}

/// The caller's view of the revision must be the current one, when it gives one.
pub(super) fn precondition(current: &str, expected: Option<&str>) -> Result<(), ControlError> {
    match expected {
        Some(expected) if expected != current => {
            Err(ControlError::PreconditionFailed { api: "GetFunction/GetAlias" })
        }
        _ => Ok(()),
    }
}

fn already_exists(name: &str) -> ControlError {
    ControlError::conflict(format!("Function already exist: {name}"))
}

fn version_qualifier(version: Version) -> Option<String> {
    match version {
        Version::Latest => None,
        Version::Number(number) => Some(number.to_string()),
    }
}

fn new_configuration(
    name: &str,
    settings: Settings,
    architectures: Option<Vec<String>>,
    code: Code,
    now: Timestamp,
) -> Configuration {
    let mut configuration = Configuration {
        runtime: String::new(),
        handler: String::new(),
        role: String::new(),
        description: String::new(),
        timeout_s: 3,
        memory: MiB(128),
        ephemeral_storage: MiB(512),
        environment: BTreeMap::new(),
        architectures: architectures.unwrap_or_else(|| vec!["x86_64".to_owned()]),
        layers: Vec::new(),
        tracing: "PassThrough".to_owned(),
        logging: Logging {
            format: "Text".to_owned(),
            application_level: None,
            system_level: None,
            group: default_log_group(name),
        },
        network: None,
        instance_concurrency: 1,
        code,
        last_modified: now,
        revision_id: new_id(),
        deployment_id: new_id(),
        echoed: BTreeMap::new(),
    };
    apply(&mut configuration, settings, name);
    configuration
}

fn default_log_group(name: &str) -> String {
    format!("/aws/lambda/{name}")
}

/// Carries settings, already validated, into a configuration.
fn apply(configuration: &mut Configuration, settings: Settings, name: &str) {
    fn set<T>(place: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *place = value;
        }
    }
    // Ranges were checked: nothing is cut off here.
    let number = |value: i64| value as u32;
    set(&mut configuration.runtime, settings.runtime);
    set(&mut configuration.handler, settings.handler);
    set(&mut configuration.role, settings.role);
    set(&mut configuration.description, settings.description);
    set(&mut configuration.timeout_s, settings.timeout_s.map(number));
    set(&mut configuration.memory, settings.memory_mib.map(|mib| MiB(number(mib))));
    set(&mut configuration.ephemeral_storage, settings.ephemeral_storage_mib.map(|mib| MiB(number(mib))));
    set(&mut configuration.environment, settings.environment);
    set(&mut configuration.layers, settings.layers);
    set(&mut configuration.tracing, settings.tracing);
    set(&mut configuration.network, settings.network);
    set(&mut configuration.instance_concurrency, settings.instance_concurrency.map(number));
    if let Some(logging) = settings.logging {
        let format = logging.format.unwrap_or_else(|| "Text".to_owned());
        let level =
            |given: Option<String>| (format == "JSON").then(|| given.unwrap_or_else(|| "INFO".to_owned()));
        configuration.logging = Logging {
            application_level: level(logging.application_level),
            system_level: level(logging.system_level),
            group: logging.group.unwrap_or_else(|| default_log_group(name)),
            format,
        };
    }
    for (member, value) in settings.echoed {
        match value.is_null() {
            true => configuration.echoed.remove(&member),
            false => configuration.echoed.insert(member, value),
        };
    }
}

/// Of a function's head, what its size is counted from; the rest is skipped.
#[derive(serde::Deserialize)]
struct SizedHead {
    latest: SizedVersion,
}

/// … and of a version.
#[derive(serde::Deserialize)]
struct SizedVersion {
    code: Code,
}

/// Where a list of functions goes on: after a function, or after one version of it. Written `name` or
/// `name:version`.
struct Marker {
    name: String,
    version: Option<Version>,
}

impl Marker {
    fn parse(text: &str) -> Result<Marker, ControlError> {
        let (name, version) = match text.split_once(':') {
            Some((name, version)) => (name, Some(version.parse())),
            None => (text, None),
        };
        match (validate::function(name), version) {
            (Ok(()), None) => Ok(Marker { name: name.to_owned(), version: None }),
            (Ok(()), Some(Ok(version))) => Ok(Marker { name: name.to_owned(), version: Some(version) }),
            _ => Err(ControlError::invalid(
                "Marker",
                "Invalid Marker: give the NextMarker of the page before as it came.",
            )),
        }
    }

    fn after(last: &Function, all_versions: bool) -> Marker {
        Marker { name: last.head.name.clone(), version: all_versions.then_some(last.version) }
    }
}

impl std::fmt::Display for Marker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}:{version}", self.name),
            None => f.write_str(&self.name),
        }
    }
}
