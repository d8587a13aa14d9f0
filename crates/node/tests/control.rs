//! The control plane over in-memory stores: what callers may rely on.

use model::Account;
use node::control::*;
use ports::{MemoryBlobs, MemoryStore};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

const ROLE: &str = "arn:aws:iam::000000000000:role/r";

struct World {
    registry: Registry,
    changes: Arc<Mutex<Vec<String>>>,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        World::with(Limits::default())
    }

    fn with(limits: Limits) -> World {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            account: Account { id: "000000000000".into(), region: "us-east-1".into() },
            code_dir: dir.path().join("code"),
            limits,
            check_runtime: Box::new(|runtime| match runtime {
                "java25" => Err("java25 needs Java 25; install openjdk-25-jre-headless".into()),
                _ => Ok(()),
            }),
        };
        let store = Arc::new(MemoryStore::new());
        let registry = Registry::open(store, Arc::new(MemoryBlobs::new()), options).unwrap();
        let changes = Arc::new(Mutex::new(Vec::new()));
        let seen = changes.clone();
        registry.subscribe(move |change| {
            let what = match &change.what {
                What::Latest { .. } => "latest".to_owned(),
                What::VersionDeleted(number) => format!("version {number} deleted"),
                What::Deleted => "deleted".to_owned(),
                What::Reserved(limit) => format!("reserved {limit:?}"),
            };
            seen.lock().unwrap().push(format!("{} {what}", change.name));
        });
        World { registry, changes, _dir: dir }
    }

    async fn create(&self, name: &str) -> Function {
        self.registry.create_function(create(name)).await.unwrap()
    }
}

fn zip(files: &[(&str, &str)]) -> Package {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    Package::Zip(writer.finish().unwrap().into_inner().into())
}

fn create(name: &str) -> CreateFunction {
    CreateFunction {
        name: name.into(),
        package: zip(&[("app.py", "one")]),
        settings: Settings {
            runtime: Some("python3.12".into()),
            handler: Some("app.handler".into()),
            role: Some(ROLE.into()),
            ..Settings::default()
        },
        architectures: None,
        tags: BTreeMap::new(),
        publish: false,
    }
}

#[tokio::test]
async fn a_created_function_resolves_to_its_unpacked_code_until_it_is_deleted() {
    let world = World::new();
    world.create("f").await;
    let target = world.registry.resolve("f", None, 0.5).await.unwrap();
    assert_eq!(std::fs::read_to_string(target.code.path().join("app.py")).unwrap(), "one");
    world.registry.delete_function("f", None).await.unwrap();
    let error = world.registry.resolve("f", None, 0.5).await.unwrap_err();
    assert_eq!(error.to_string(), "Function not found: arn:aws:lambda:us-east-1:000000000000:function:f");
    assert_eq!(*world.changes.lock().unwrap(), ["f deleted"]);
}
