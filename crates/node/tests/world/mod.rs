//! A registry over in-memory stores, and requests that are right but for what a test changes.

#![allow(dead_code)] // each test file uses its part

use model::Account;
use node::control::*;
use ports::store::Expect;
use ports::{Blobs, MemoryBlobs, MemoryStore, Store};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

pub const ROLE: &str = "arn:aws:iam::000000000000:role/r";

pub struct World {
    pub registry: Arc<Registry>,
    store: Arc<dyn Store>,
    blobs: Arc<MemoryBlobs>,
    changes: Arc<Mutex<Vec<String>>>,
    dir: tempfile::TempDir,
}

impl World {
    pub fn new() -> World {
        World::with(Limits::default())
    }

    pub fn with(limits: Limits) -> World {
        World::over(Arc::new(MemoryStore::new()), limits)
    }

    pub fn over(store: Arc<dyn Store>, limits: Limits) -> World {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            account: Account { id: "000000000000".into(), region: "us-east-1".into() },
            code_dir: dir.path().join("code"),
            limits,
            check_runtime: Arc::new(|runtime, package| match (runtime, package) {
                ("java25", _) => Err("java25 needs Java 25; install openjdk-25-jre-headless".into()),
                ("java17", Some(package)) if !package.join("client.jar").exists() => {
                    Err("no client in the package; install it".into())
                }
                _ => Ok(()),
            }),
        };
        let blobs = Arc::new(MemoryBlobs::new());
        let registry = Arc::new(Registry::open(store.clone(), blobs.clone(), options).unwrap());
        let changes = Arc::new(Mutex::new(Vec::new()));
        let seen = changes.clone();
        registry.subscribe(move |change| {
            let what = match &change.what {
                What::Latest { .. } => "latest".to_owned(),
                What::VersionDeleted(number) => format!("version {number} deleted"),
                What::Deleted => "deleted".to_owned(),
                What::Reserved(limit) => format!("reserved {limit:?}"),
                What::SnapStart(number) => format!("version {number} with SnapStart"),
                What::Provisioned => "provisioned".to_owned(),
            };
            seen.lock().unwrap().push(format!("{} {what}", change.name));
        });
        World { registry, store, blobs, changes, dir }
    }

    /// What the data plane was told, in order.
    pub fn changes(&self) -> Vec<String> {
        self.changes.lock().unwrap().clone()
    }

    pub async fn create(&self, name: &str) -> Function {
        self.registry.create_function(create(name)).await.unwrap()
    }

    pub async fn publish(&self, name: &str, description: Option<&str>) -> Result<Function, ControlError> {
        let description = description.map(str::to_owned);
        let request = PublishVersion { name: name.into(), description, ..Default::default() };
        self.registry.publish_version(request).await
    }

    pub async fn update_code(&self, name: &str, text: &str, publish: bool) -> Result<Function, ControlError> {
        self.registry.update_code(code(name, text, publish)).await
    }

    pub async fn update_configuration_of(&self, name: &str) {
        let mut change = update(name);
        change.settings.timeout_s = Some(7);
        self.registry.update_configuration(change).await.unwrap();
    }

    pub async fn create_url(
        &self,
        function: &str,
        qualifier: Option<&str>,
    ) -> Result<FunctionUrl, ControlError> {
        let (function, qualifier) = (function.into(), qualifier.map(str::to_owned));
        let request = PutUrl { function, qualifier, auth_type: Some("NONE".into()), ..Default::default() };
        self.registry.create_url(request).await
    }

    pub async fn resolve(&self, name: &str, qualifier: Option<&str>) -> Result<Target, ControlError> {
        self.registry.resolve(name, qualifier, 0.5).await
    }

    /// What killed servers leave: documents that no function knows, a package, folders half made.
    pub async fn leave_orphans(&self) {
        for key in ["version/no-such-uid/1", "url/nosuchid", "reserved/nobody"] {
            let document = match key.starts_with("version/") {
                true => self.some_version().await,
                false => "\"nobody\"".into(),
            };
            self.store.put(key, document, Expect::Absent).await.unwrap();
        }
        self.blobs.put(&"0".repeat(64), "orphan".into()).await.unwrap();
        let half = self.dir.path().join("code/.tmp-another-server/half");
        std::fs::create_dir_all(half).unwrap();
    }

    async fn some_version(&self) -> bytes::Bytes {
        self.store.list("version/", None, 1).await.unwrap().remove(0).value
    }

    /// As after a restart of the machine.
    pub fn forget_unpacked_code(&self) {
        for entry in std::fs::read_dir(self.dir.path().join("code")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                std::fs::remove_dir_all(path).unwrap();
            }
        }
    }
}

pub fn zip(files: &[(&str, &str)]) -> Package {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (name, text) in files {
        writer.start_file(*name, options.last_modified_time(zip::DateTime::default())).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    Package::Zip(writer.finish().unwrap().into_inner().into())
}

pub fn settings() -> Settings {
    Settings {
        runtime: Some("python3.12".into()),
        handler: Some("app.handler".into()),
        role: Some(ROLE.into()),
        ..Settings::default()
    }
}

pub fn create(name: &str) -> CreateFunction {
    CreateFunction {
        name: name.into(),
        package: zip(&[("app.py", "one")]),
        settings: settings(),
        architectures: None,
        tags: BTreeMap::new(),
        publish: false,
    }
}

pub fn update(name: &str) -> UpdateConfiguration {
    UpdateConfiguration { name: name.into(), ..Default::default() }
}

pub fn code(name: &str, text: &str, publish: bool) -> UpdateCode {
    UpdateCode {
        settings: Settings::default(),
        name: name.into(),
        package: zip(&[("app.py", text)]),
        architectures: None,
        publish,
        dry_run: false,
        revision_id: None,
    }
}

pub fn alias(function: &str, name: &str, version: &str) -> PutAlias {
    let (function, name, version) = (function.into(), name.into(), Some(version.into()));
    PutAlias { function, name, version, ..Default::default() }
}

/// The versions of a page.
pub fn page(outcome: Result<Page<Function>, ControlError>) -> String {
    let versions: Vec<String> =
        outcome.unwrap().items.iter().map(|function| function.version.to_string()).collect();
    versions.join(" ")
}

/// The text of a refusal, with its kind.
#[track_caller]
pub fn refusal<T: std::fmt::Debug>(outcome: Result<T, ControlError>) -> String {
    let error = outcome.expect_err("this is refused");
    let kind = match &error {
        ControlError::NotFound { .. } => "not found",
        ControlError::NotProvisioned => "not provisioned",
        ControlError::Conflict { .. } => "conflict",
        ControlError::PreconditionFailed { .. } => "precondition",
        ControlError::Violations(_) => "violations",
        ControlError::Invalid { parameter, .. } => parameter,
        ControlError::TooLarge { .. } => "too large",
        ControlError::CodeStorageExceeded { .. } => "code storage",
        ControlError::Unsupported { .. } => "unsupported",
        ControlError::PolicyTooLong { .. } => "policy too long",
        ControlError::Failed { .. } => "failed",
    };
    format!("{kind}: {error}")
}
