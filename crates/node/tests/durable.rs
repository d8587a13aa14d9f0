//! The control plane over the embedded store: what was acknowledged is there after a restart, and changes made
//! at once are as orderly as on the in-memory store.

mod world;

use model::{Account, LATEST, Version};
use node::control::*;
use std::path::Path;
use std::sync::Arc;
use store::{DataDir, EmbeddedStore, FileBlobs};
use world::{alias, create, update};

fn open(path: &Path) -> Arc<Registry> {
    let dir = DataDir::open(path).unwrap();
    let options = Options {
        account: Account { id: "000000000000".into(), region: "us-east-1".into() },
        code_dir: dir.code(),
        limits: Limits::default(),
        check_runtime: Arc::new(|_, _| Ok(())),
    };
    let store = Arc::new(EmbeddedStore::open(&dir).unwrap());
    Arc::new(Registry::open(store, Arc::new(FileBlobs::new(&dir)), options).unwrap())
}

#[tokio::test]
async fn a_restart_finds_every_function_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (before, url_id) = {
        let registry = open(dir.path());
        for name in ["a", "b", "gone"] {
            registry.create_function(create(name)).await.unwrap();
        }
        registry.delete_function("gone", None).await.unwrap();
        registry.update_code(world::code("a", "two", true)).await.unwrap();
        registry.create_alias(alias("a", "live", "1")).await.unwrap();
        registry.put_concurrency("a", 7).await.unwrap();
        registry.tag("b", [("k".to_owned(), "v".to_owned())].into()).await.unwrap();
        let url = PutUrl { function: "a".into(), auth_type: Some("NONE".into()), ..Default::default() };
        let url = registry.create_url(url).await.unwrap();
        (everything(&registry).await, url.url.id.clone())
    };
    let registry = open(dir.path());
    assert_eq!(everything(&registry).await, before);
    let target = registry.resolve("a", Some("live"), 0.0).await.unwrap();
    assert_eq!(std::fs::read_to_string(target.code.path().join("app.py")).unwrap(), "two");
    assert_eq!(&*registry.resolve_url(&url_id).await.unwrap().function, "a");
    assert_eq!(registry.reservations().await.unwrap()[0].limit, 7);
    assert_eq!(registry.sweep().await.unwrap(), Swept { documents: 0, packages: 0, folders: 0 });
    registry.update_code(world::code("a", "three", true)).await.unwrap();
    assert_eq!(registry.function("a", Some("2")).await.unwrap().version, Version::Number(2));
}

async fn everything(registry: &Registry) -> String {
    let request = ListFunctions { all_versions: true, ..Default::default() };
    let page = registry.list_functions(request).await.unwrap();
    let described = page.items.iter().map(|f| format!("{:?} {} {:?}", f.head, f.version, f.configuration));
    described.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn what_was_unpacked_before_the_machine_restarted_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let torn = {
        let registry = open(dir.path());
        registry.create_function(create("f")).await.unwrap();
        registry.resolve("f", None, 0.0).await.unwrap().code.path().join("app.py")
    };
    std::fs::write(&torn, "torn").unwrap();
    let content = async || {
        let target = open(dir.path()).resolve("f", None, 0.0).await.unwrap();
        std::fs::read_to_string(target.code.path().join("app.py")).unwrap()
    };
    assert_eq!(content().await, "torn", "a restart of the server alone unpacks nothing again");
    std::fs::write(dir.path().join("code/.boot"), "another boot").unwrap();
    assert_eq!(content().await, "one");
}

#[tokio::test]
async fn packages_set_aside_by_a_start_that_was_killed_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).create_function(create("f")).await.unwrap();
    // The first start after a reboot renames the folder out, makes a new one, and renames the old one in: it was
    // killed before the second step, and another one before the third.
    let beside = [dir.path().join(".tmp-torn-1"), dir.path().join(".tmp-torn-2")];
    std::fs::rename(dir.path().join("code"), &beside[0]).unwrap();
    std::fs::create_dir_all(beside[1].join("package")).unwrap();
    let registry = open(dir.path());
    assert!(!beside.iter().any(|folder| folder.exists()));
    assert_eq!(registry.sweep().await.unwrap(), Swept { documents: 0, packages: 0, folders: 2 });
    let target = registry.resolve("f", None, 0.0).await.unwrap();
    assert_eq!(std::fs::read_to_string(target.code.path().join("app.py")).unwrap(), "one");
    drop(registry);
    let names = std::fs::read_dir(dir.path().join("code")).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    assert!(!names.iter().any(|name| name.contains("torn")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_of_one_function_at_once_are_all_made() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    registry.create_function(create("f")).await.unwrap();
    let changers = (0..24).map(|n| {
        let registry = registry.clone();
        tokio::spawn(async move {
            match n % 3 {
                0 => drop(registry.create_alias(alias("f", &format!("a{n}"), LATEST)).await.unwrap()),
                1 => registry.tag("f", [(format!("t{n}"), String::new())].into()).await.unwrap(),
                _ => drop(registry.update_code(world::code("f", &n.to_string(), true)).await.unwrap()),
            }
        })
    });
    for changer in changers.collect::<Vec<_>>() {
        changer.await.unwrap();
    }
    drop(registry);
    let head = open(dir.path()).function("f", None).await.unwrap().head;
    assert_eq!((head.aliases.len(), head.tags.len()), (8, 8));
    assert_eq!(head.versions, (1..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_change_whose_caller_is_gone_is_made_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    registry.create_function(create("f")).await.unwrap();
    registry.create_function(create("g")).await.unwrap();
    for round in 0..40 {
        let settings = Settings { description: Some(round.to_string()), ..Settings::default() };
        let change = registry.update_configuration(UpdateConfiguration { settings, ..update("f") });
        poll_and_give_up(change, round % 10, 50 * round).await;
        // The store makes changes in their order: when this one is made, so is the one before.
        registry.tag("g", [("n".to_owned(), round.to_string())].into()).await.unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let known = registry.resolve("f", None, 0.0).await.unwrap().configuration;
        let stored = registry.list_functions(ListFunctions::default()).await.unwrap().items.remove(0);
        assert_eq!(known, stored.configuration, "the read path and the store disagree");
    }
}

/// What a server does with the future of a request whose client hangs up after a while.
async fn poll_and_give_up<T>(future: impl Future<Output = T>, polls: usize, patience: usize) {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        let once = std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context)));
        if once.await.is_ready() {
            return;
        }
        // Long enough for the store to answer sometimes, and not always.
        for _ in 0..patience {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sweeps_beside_changes_lose_nothing_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let changers = (0..4).map(|n| {
        let registry = registry.clone();
        tokio::spawn(async move {
            let name = format!("f{n}");
            for round in 0..4 {
                let text = format!("{n} {round}");
                registry.create_function(CreateFunction { publish: true, ..create(&name) }).await.unwrap();
                registry.update_code(world::code(&name, &text, true)).await.unwrap();
                let target = registry.resolve(&name, Some("2"), 0.0).await.unwrap();
                assert_eq!(std::fs::read_to_string(target.code.path().join("app.py")).unwrap(), text);
                registry
                    .update_configuration(UpdateConfiguration {
                        settings: Settings { timeout_s: Some(9), ..Settings::default() },
                        ..update(&name)
                    })
                    .await
                    .unwrap();
                registry.resolve(&name, Some("1"), 0.0).await.unwrap();
                registry.delete_function(&name, None).await.unwrap();
            }
        })
    });
    let changers: Vec<_> = changers.collect();
    while !changers.iter().all(|changer| changer.is_finished()) {
        registry.sweep().await.unwrap();
    }
    for changer in changers {
        changer.await.unwrap();
    }
    registry.sweep().await.unwrap();
    for folder in ["blobs", "code", "tmp"] {
        let left =
            std::fs::read_dir(dir.path().join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| *name != ".boot").collect();
        assert!(left.is_empty(), "{folder} still holds {left:?}");
    }
}
