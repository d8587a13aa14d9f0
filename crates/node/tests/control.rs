//! The control plane over in-memory stores: what callers may rely on, and what the data plane is told.

mod world;

use bytes::Bytes;
use model::{Cors, InvokeMode, LATEST, Version};
use node::control::*;
use ports::store::{Document, Expect, Revision, StoreError};
use ports::{BoxFuture, MemoryStore, Store};
use std::collections::BTreeMap;
use std::sync::Arc;
use world::{World, alias, create, page, refusal, settings, update, zip};

/// A store in which what deletes a reservation's index waits.
struct Hesitant {
    store: MemoryStore,
    go_on: tokio::sync::Semaphore,
}

impl Store for Hesitant {
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Document>, StoreError>> {
        self.store.get(key)
    }

    fn put(&self, key: &str, value: Bytes, expect: Expect) -> BoxFuture<'_, Result<Revision, StoreError>> {
        self.store.put(key, value, expect)
    }

    fn delete(&self, key: &str, expect: Expect) -> BoxFuture<'_, Result<bool, StoreError>> {
        let (delete, waits) = (self.store.delete(key, expect), key.starts_with("reserved/"));
        Box::pin(async move {
            if waits {
                let _turn = self.go_on.acquire().await;
            }
            delete.await
        })
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Document>, StoreError>> {
        self.store.list(prefix, after, limit)
    }
}

#[tokio::test]
async fn a_reservation_that_is_made_while_another_is_given_back_is_known_after_a_restart() {
    let store = Arc::new(Hesitant { store: MemoryStore::new(), go_on: tokio::sync::Semaphore::new(0) });
    let world = World::over(store.clone(), Limits::default());
    world.create("f").await;
    world.registry.put_concurrency("f", 7).await.unwrap();
    let registry = world.registry.clone();
    let given_back = tokio::spawn(async move { registry.delete_concurrency("f").await });
    while world.registry.concurrency("f").await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    world.registry.put_concurrency("f", 5).await.unwrap();
    store.go_on.add_permits(1);
    given_back.await.unwrap().unwrap();
    let known = world.registry.reservations().await.unwrap();
    assert_eq!(known.iter().map(|reservation| reservation.limit).collect::<Vec<_>>(), [5]);
    world.registry.delete_concurrency("f").await.unwrap();
    assert_eq!(world.registry.reservations().await.unwrap(), []);
    assert_eq!(world.registry.sweep().await.unwrap().documents, 1, "its index goes with the next sweep");
}

const F: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";

#[tokio::test]
async fn a_created_function_resolves_to_its_unpacked_code_until_it_is_deleted() {
    let world = World::new();
    world.create("f").await;
    let target = world.resolve("f", None).await.unwrap();
    assert_eq!(std::fs::read_to_string(target.code.path().join("app.py")).unwrap(), "one");
    world.registry.delete_function("f", None).await.unwrap();
    assert_eq!(refusal(world.resolve("f", None).await), format!("not found: Function not found: {F}"));
    assert_eq!(world.changes(), ["f deleted"]);
}

#[tokio::test]
async fn a_function_has_lambdas_defaults() {
    let world = World::new();
    let made = world.create("f").await;
    assert_eq!((made.qualifier, made.version), (None, Version::Latest));
    let c = made.configuration;
    assert_eq!((c.timeout_s, c.memory.0, c.ephemeral_storage.0, c.instance_concurrency), (3, 128, 512, 1));
    assert_eq!((c.tracing.as_str(), c.description.as_str(), c.architectures.len()), ("PassThrough", "", 1));
    assert_eq!((c.logging.format.as_str(), c.logging.group.as_str()), ("Text", "/aws/lambda/f"));
    assert_eq!((c.code.sha256.len(), c.architectures[0].as_str()), (64, "x86_64"));
}

#[tokio::test]
async fn a_name_is_taken_once_and_free_again_after_deletion() {
    let world = World::new();
    let first = world.create("f").await;
    let again = world.registry.create_function(create("f")).await;
    assert_eq!(refusal(again), "conflict: Function already exist: f");
    world.registry.delete_function("f", None).await.unwrap();
    let second = world.create("f").await;
    assert_ne!(first.head.uid, second.head.uid, "namesakes must share nothing");
    let twice = world.registry.delete_function("g", None).await;
    assert_eq!(
        refusal(twice),
        "not found: Function not found: arn:aws:lambda:us-east-1:000000000000:function:g"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_creators_of_one_name_one_succeeds() {
    let world = World::new();
    let tries = (0..8).map(|_| {
        let registry = world.registry.clone();
        tokio::spawn(async move { registry.create_function(create("f")).await.is_ok() })
    });
    let mut made = 0;
    for done in tries.collect::<Vec<_>>() {
        made += u32::from(done.await.unwrap());
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_leaves_the_rest() {
    let world = World::new();
    let before = world.create("f").await.configuration;
    let mut change = update("f");
    change.settings.timeout_s = Some(900);
    change.settings.environment = Some([("A_B".to_owned(), "1".to_owned())].into());
    change.settings.echoed =
        [("KMSKeyArn".to_owned(), "x".into()), ("VpcConfig".to_owned(), "y".into())].into();
    let after = world.registry.update_configuration(change).await.unwrap().configuration;
    assert_eq!((after.timeout_s, after.environment.len(), after.echoed.len()), (900, 1, 2));
    assert_eq!((&after.handler, &after.memory, &after.code), (&before.handler, &before.memory, &before.code));
    assert_ne!(after.revision_id, before.revision_id);
    let mut change = update("f");
    change.settings.echoed = [("VpcConfig".to_owned(), serde_json::Value::Null)].into();
    let after = world.registry.update_configuration(change).await.unwrap().configuration;
    assert_eq!(after.echoed.keys().collect::<Vec<_>>(), ["KMSKeyArn"], "null removes one");
    let latest = world.resolve("f", None).await.unwrap();
    assert_eq!(latest.configuration, after, "the read path sees the change at once");
    assert_eq!(world.changes().len(), 2);
}

#[tokio::test]
async fn new_code_is_what_the_next_request_runs() {
    let world = World::new();
    let old = {
        world.create("f").await;
        world.resolve("f", None).await.unwrap()
    };
    world.update_code("f", "two", false).await.unwrap();
    let new = world.resolve("f", None).await.unwrap();
    assert_eq!(std::fs::read_to_string(new.code.path().join("app.py")).unwrap(), "two");
    assert_eq!(std::fs::read_to_string(old.code.path().join("app.py")).unwrap(), "one", "running ones go on");
    assert_ne!(new.configuration.deployment_id, old.configuration.deployment_id);
}

#[tokio::test]
async fn a_dry_run_answers_as_if_and_changes_nothing() {
    let world = World::new();
    let before = world.create("f").await;
    let request = UpdateCode { dry_run: true, ..world::code("f", "two", true) };
    let answer = world.registry.update_code(request).await.unwrap();
    assert_eq!(answer.version, Version::Number(1));
    assert_ne!(answer.configuration.code, before.configuration.code);
    let after = world.registry.function("f", None).await.unwrap();
    assert_eq!((after.configuration, after.head), (before.configuration, before.head));
    assert!(world.changes().is_empty());
}

#[tokio::test]
async fn code_and_settings_change_in_one_revision() {
    let world = World::new();
    world.create("f").await;
    let settings = Settings { timeout_s: Some(9), handler: Some("b.run".into()), ..Settings::default() };
    let update = |settings| UpdateCode { settings, ..world::code("f", "two", true) };
    let published = world.registry.update_code(update(settings)).await.unwrap();
    let expected = ("b.run".to_owned(), 9);
    let seen =
        |function: &Function| (function.configuration.handler.clone(), function.configuration.timeout_s);
    assert_eq!((published.version, seen(&published)), (Version::Number(1), expected.clone()));
    let latest = world.registry.function("f", None).await.unwrap();
    assert_eq!((seen(&latest), &latest.configuration.code), (expected, &published.configuration.code));
    assert_eq!(world.changes(), ["f latest"], "one deployment");
    let wrong = Settings { timeout_s: Some(901), ..Settings::default() };
    assert!(refusal(world.registry.update_code(update(wrong)).await).starts_with("violations: "));
    let wrong = Settings { instance_concurrency: Some(2), ..Settings::default() };
    assert!(refusal(world.registry.update_code(update(wrong)).await).starts_with("InstanceConcurrency: "));
}

#[tokio::test]
async fn a_revision_id_that_is_not_current_stops_every_change_that_names_it() {
    let world = World::new();
    let old = world.create("f").await.configuration.revision_id.clone();
    let current = world.update_code("f", "two", false).await.unwrap().configuration.revision_id.clone();
    let precondition = "precondition: The Revision Id provided does not match the latest Revision Id. Call the \
                        GetFunction/GetAlias API to retrieve the latest Revision Id";
    for (revision_id, expected) in [(old, Some(precondition)), (current, None)] {
        let revision_id = Some(revision_id);
        let publish =
            PublishVersion { name: "f".into(), revision_id: revision_id.clone(), ..Default::default() };
        let code = UpdateCode { revision_id: revision_id.clone(), ..world::code("f", "three", false) };
        match expected {
            Some(expected) => {
                let configure = UpdateConfiguration { revision_id, ..update("f") };
                assert_eq!(refusal(world.registry.update_configuration(configure).await), expected);
                assert_eq!(refusal(world.registry.update_code(code).await), expected);
                assert_eq!(refusal(world.registry.publish_version(publish).await), expected);
            }
            None => drop(world.registry.update_code(code).await.unwrap()),
        }
    }
}

#[tokio::test]
async fn publishing_freezes_latest_under_the_next_number_once() {
    let world = World::new();
    world.create("f").await;
    let one = world.publish("f", Some("first")).await.unwrap();
    assert_eq!((one.version, one.qualifier.as_deref()), (Version::Number(1), Some("1")));
    assert_eq!(one.configuration.description, "first");
    let same = world.publish("f", Some("another description")).await.unwrap();
    assert_eq!(same.version, Version::Number(1), "nothing changed since");
    assert_eq!(same.configuration, one.configuration);
    // The description of $LATEST is part of what is published.
    let mut change = update("f");
    change.settings.description = Some("new".into());
    world.registry.update_configuration(change).await.unwrap();
    assert_eq!(world.publish("f", None).await.unwrap().configuration.description, "new");
    world.update_code("f", "two", false).await.unwrap();
    assert_eq!(world.publish("f", None).await.unwrap().version, Version::Number(3));
    let frozen = world.resolve("f", Some("1")).await.unwrap();
    assert_eq!(std::fs::read_to_string(frozen.code.path().join("app.py")).unwrap(), "one");
    assert_eq!(page(world.registry.list_versions("f", None, None).await), "$LATEST 1 2 3");
}

#[tokio::test]
async fn publishing_gives_latest_a_new_revision_but_lets_its_instances_live() {
    let world = World::new();
    let before = world.create("f").await.configuration;
    world.publish("f", None).await.unwrap();
    let after = world.registry.function("f", None).await.unwrap().configuration;
    assert_ne!(after.revision_id, before.revision_id);
    assert_eq!(after.deployment_id, before.deployment_id);
    assert!(world.changes().is_empty(), "the data plane has nothing to do");
}

#[tokio::test]
async fn a_version_number_is_never_used_again() {
    let world = World::new();
    world.create("f").await;
    world.publish("f", None).await.unwrap();
    world.registry.delete_function("f", Some("1")).await.unwrap();
    let next = world.publish("f", None).await.unwrap();
    assert_eq!(next.version, Version::Number(2), "the same content again, under a new number");
    assert_eq!(world.changes(), ["f version 1 deleted"]);
    world.registry.delete_function("f", Some("1")).await.unwrap();
    assert_eq!(world.changes().len(), 1, "deleting a missing version is done already");
}

#[tokio::test]
async fn create_and_update_publish_at_once_when_asked_to() {
    let world = World::new();
    let made = world.registry.create_function(CreateFunction { publish: true, ..create("f") }).await.unwrap();
    assert_eq!((made.version, made.qualifier), (Version::Number(1), None));
    let updated = world.update_code("f", "two", true).await.unwrap();
    assert_eq!((updated.version, updated.qualifier.as_deref()), (Version::Number(2), Some("2")));
    assert_eq!(page(world.registry.list_versions("f", None, None).await), "$LATEST 1 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_publishers_of_changes_get_numbers_without_gaps() {
    let world = World::new();
    world.create("f").await;
    let publishers = (0..12).map(|n| {
        let registry = world.registry.clone();
        tokio::spawn(
            async move { registry.update_code(world::code("f", &n.to_string(), true)).await.unwrap() },
        )
    });
    let mut published = Vec::new();
    for publisher in publishers.collect::<Vec<_>>() {
        published.push(publisher.await.unwrap());
    }
    published.sort_by_key(|function| function.version);
    for (n, function) in published.iter().enumerate() {
        assert_eq!(function.version, Version::Number(n as u64 + 1));
        let found = world.registry.function("f", Some(&function.version.to_string())).await.unwrap();
        assert_eq!(found.configuration, function.configuration, "each got the version that it published");
    }
}

#[tokio::test]
async fn a_version_that_an_alias_uses_cannot_be_deleted() {
    let world = World::new();
    world.create("f").await;
    world.publish("f", None).await.unwrap();
    world.update_code("f", "two", true).await.unwrap();
    world
        .registry
        .create_alias(PutAlias { weights: Some([("2".into(), 0.5)].into()), ..alias("f", "live", "1") })
        .await
        .unwrap();
    for number in ["1", "2"] {
        let text = format!(
            "conflict: Version {number} of function f is referenced by alias live. Point the alias elsewhere or \
             delete it first."
        );
        assert_eq!(refusal(world.registry.delete_function("f", Some(number)).await), text);
    }
    world.registry.delete_alias("f", "live").await.unwrap();
    world.registry.delete_function("f", Some("1")).await.unwrap();
    assert_eq!(refusal(world.resolve("f", Some("1")).await), format!("not found: Function not found: {F}:1"));
}

#[tokio::test]
async fn an_alias_resolves_to_its_versions_by_their_weights() {
    let world = World::new();
    world.create("f").await;
    world.publish("f", None).await.unwrap();
    world.update_code("f", "two", true).await.unwrap();
    let made = world.registry.create_alias(alias("f", "live", "1")).await.unwrap();
    let resolve =
        async |random| world.registry.resolve("f", Some("live"), random).await.unwrap().version.to_string();
    assert_eq!((resolve(0.0).await.as_str(), resolve(0.99).await.as_str()), ("1", "1"));
    let weigh = PutAlias { weights: Some([("2".to_owned(), 0.25)].into()), ..alias("f", "live", "1") };
    let weighed = world.registry.update_alias(weigh).await.unwrap();
    assert_ne!(weighed.alias.revision_id, made.alias.revision_id);
    assert_eq!((resolve(0.24).await.as_str(), resolve(0.25).await.as_str()), ("2", "1"));
    let described = world.registry.function("f", Some("live")).await.unwrap();
    assert_eq!((described.version, described.qualifier.as_deref()), (Version::Number(1), Some("live")));
    let plain = PutAlias { weights: Some(BTreeMap::new()), version: None, ..alias("f", "live", "1") };
    assert!(world.registry.update_alias(plain).await.unwrap().alias.weights.is_empty());
    assert_eq!(resolve(0.0).await, "1");
}

#[tokio::test]
async fn an_alias_update_leaves_what_it_does_not_name_and_heeds_the_revision() {
    let world = World::new();
    world.create("f").await;
    let first = world
        .registry
        .create_alias(PutAlias { description: Some("d".into()), ..alias("f", "a", LATEST) })
        .await
        .unwrap();
    let touch = PutAlias {
        function: "f".into(),
        name: "a".into(),
        revision_id: Some(first.alias.revision_id.clone()),
        ..Default::default()
    };
    let second = world.registry.update_alias(touch.clone()).await.unwrap();
    assert_eq!((second.alias.version, second.alias.description.as_str()), (Version::Latest, "d"));
    assert!(refusal(world.registry.update_alias(touch).await).starts_with("precondition: "));
}

#[tokio::test]
async fn aliases_are_listed_by_name_and_by_the_version_they_use() {
    let world = World::new();
    world.create("f").await;
    world.publish("f", None).await.unwrap();
    for (name, version) in [("b", "1"), ("a", LATEST), ("c", "1")] {
        world.registry.create_alias(alias("f", name, version)).await.unwrap();
    }
    let list = async |version, marker: Option<&str>, max| {
        let page = world.registry.list_aliases("f", version, marker, max).await.unwrap();
        let names: Vec<String> = page.items.iter().map(|alias| alias.name.clone()).collect();
        (names.join(" "), page.next_marker)
    };
    assert_eq!(list(None, None, None).await, ("a b c".into(), None));
    assert_eq!(list(Some("1"), None, None).await, ("b c".into(), None));
    assert_eq!(list(None, None, Some(2)).await, ("a b".into(), Some("b".into())));
    assert_eq!(list(None, Some("b"), Some(2)).await, ("c".into(), None));
}

#[tokio::test]
async fn functions_are_listed_by_name_in_pages() {
    let world = World::new();
    for name in ["d", "b", "a", "c"] {
        world.create(name).await;
    }
    for name in ["a", "c"] {
        world.publish(name, None).await.unwrap();
        world.update_code(name, "two", true).await.unwrap();
    }
    for (all_versions, whole) in [(false, "a b c d"), (true, "a a:1 a:2 b c c:1 c:2 d")] {
        for size in 1..=9 {
            let (mut joined, mut marker) = (Vec::new(), None);
            loop {
                let request = ListFunctions { all_versions, marker, max_items: Some(size) };
                let page = world.registry.list_functions(request).await.unwrap();
                assert!(
                    page.items.len() <= size as usize
                        && (page.next_marker.is_none() || page.items.len() == size as usize)
                );
                joined.extend(page.items.iter().map(|function| match function.version {
                    Version::Latest => function.head.name.clone(),
                    version => format!("{}:{version}", function.head.name),
                }));
                marker = page.next_marker;
                if marker.is_none() {
                    break;
                }
            }
            assert_eq!(joined.join(" "), whole, "pages of {size}");
        }
    }
    for marker in ["a b", "a:x", "", "a:1:2"] {
        let request = ListFunctions { marker: Some(marker.into()), ..Default::default() };
        let text = refusal(world.registry.list_functions(request).await);
        assert_eq!(text, "Marker: Invalid Marker: give the NextMarker of the page before as it came.");
    }
    for (max_items, constraint) in
        [(0, "greater than or equal to 1"), (10_001, "less than or equal to 10000")]
    {
        let request = ListFunctions { max_items: Some(max_items), ..Default::default() };
        let expected = format!(
            "violations: 1 validation error detected: Value '{max_items}' at 'maxItems' failed to satisfy constraint: Member must have value {constraint}"
        );
        assert_eq!(refusal(world.registry.list_functions(request).await), expected);
    }
}

#[tokio::test]
async fn a_function_url_leads_to_its_function_while_it_exists() {
    let world = World::new();
    world.create("f").await;
    world.registry.create_alias(alias("f", "live", LATEST)).await.unwrap();
    let url = world.create_url("f", None).await.unwrap();
    let live = world.create_url("f", Some("live")).await.unwrap();
    assert!(
        url.url.id.len() == 32 && url.url.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    );
    assert_ne!(url.url.id, live.url.id);
    let found = world.registry.resolve_url(&live.url.id).await.unwrap();
    assert_eq!((&*found.function, &*found.qualifier), ("f", "live"));
    let taken = refusal(world.create_url("f", None).await);
    assert_eq!(
        taken,
        format!(
            "conflict: Failed to create function url config for [functionArn = {F}]. Error message:  FunctionUrlConfig exists for this Lambda function"
        )
    );
    let cors = Some(Cors { allow_origins: vec!["*".into()], ..Cors::default() });
    let change = PutUrl {
        function: "f".into(),
        cors,
        invoke_mode: Some(InvokeMode::ResponseStream),
        ..Default::default()
    };
    let changed = world.registry.update_url(change).await.unwrap().url;
    assert_eq!(
        (&changed.id, changed.auth_type.as_str(), changed.invoke_mode),
        (&url.url.id, "NONE", InvokeMode::ResponseStream)
    );
    assert_eq!(
        world.registry.resolve_url(&url.url.id).await.unwrap().url,
        changed,
        "the read path sees the change"
    );
    world.registry.delete_url("f", None).await.unwrap();
    let gone = |id: &str| format!("not found: There is no function URL {id}.");
    assert_eq!(refusal(world.registry.resolve_url(&url.url.id).await), gone(&url.url.id));
    world.registry.delete_alias("f", "live").await.unwrap();
    assert_eq!(
        refusal(world.registry.resolve_url(&live.url.id).await),
        gone(&live.url.id),
        "an alias takes its URL along"
    );
    let again = world.create_url("f", None).await.unwrap();
    assert_ne!(again.url.id, url.url.id);
    world.registry.delete_function("f", None).await.unwrap();
    world.create("f").await;
    assert_eq!(
        refusal(world.registry.resolve_url(&again.url.id).await),
        gone(&again.url.id),
        "a namesake gets nothing"
    );
    for odd in ["", "../../function/f", "x\0", &"y".repeat(1_000)] {
        assert_eq!(refusal(world.registry.resolve_url(odd).await), gone(odd));
    }
}

#[tokio::test]
async fn reservations_leave_a_hundred_to_the_others() {
    let world = World::new();
    world.create("f").await;
    world.create("g").await;
    let below = "ReservedConcurrentExecutions: Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].";
    assert_eq!(refusal(world.registry.put_concurrency("f", 901).await), below);
    assert_eq!(world.registry.put_concurrency("f", 900).await.unwrap(), 900);
    assert_eq!(refusal(world.registry.put_concurrency("g", 1).await), below);
    assert_eq!(world.registry.put_concurrency("g", 0).await.unwrap(), 0, "stopping a function takes nothing");
    assert_eq!(
        world.registry.put_concurrency("f", 800).await.unwrap(),
        800,
        "its own reservation does not count twice"
    );
    assert_eq!(world.registry.concurrency("f").await.unwrap(), Some(800));
    let reserved = world.registry.reservations().await.unwrap();
    assert_eq!(reserved.iter().map(|r| (&*r.name, r.limit)).collect::<Vec<_>>(), [("f", 800), ("g", 0)]);
    assert_eq!(world.registry.account_usage().await.unwrap().unreserved_concurrency, 200);
    world.registry.delete_concurrency("f").await.unwrap();
    world.registry.delete_function("g", None).await.unwrap();
    assert_eq!(world.registry.concurrency("f").await.unwrap(), None);
    assert!(world.registry.reservations().await.unwrap().is_empty());
    assert_eq!(
        world.changes(),
        [
            "f reserved Some(900)",
            "g reserved Some(0)",
            "f reserved Some(800)",
            "f reserved None",
            "g deleted"
        ]
    );
    let missing = refusal(world.registry.put_concurrency("h", 1).await);
    assert_eq!(
        missing,
        "not found: Function not found: arn:aws:lambda:us-east-1:000000000000:function:h:$LATEST"
    );
    let negative = refusal(world.registry.put_concurrency("f", -1).await);
    assert_eq!(
        negative,
        "violations: 1 validation error detected: Value '-1' at 'reservedConcurrentExecutions' failed to satisfy constraint: Member must have value greater than or equal to 0"
    );
    assert_eq!(refusal(world.registry.put_concurrency("f", i64::MAX).await), below);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reservations_made_at_once_do_not_exceed_the_account() {
    let world = World::new();
    for n in 0..10 {
        world.create(&format!("f{n}")).await;
    }
    let tries = (0..10).map(|n| {
        let registry = world.registry.clone();
        tokio::spawn(async move { registry.put_concurrency(&format!("f{n}"), 300).await.is_ok() })
    });
    let mut made = 0;
    for done in tries.collect::<Vec<_>>() {
        made += u32::from(done.await.unwrap());
    }
    assert_eq!(made, 3);
}

#[tokio::test]
async fn tags_are_added_changed_taken_away_and_limited() {
    let world = World::new();
    world.create("f").await;
    let tags = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>()
    };
    world.registry.tag("f", tags(&[("a", "1"), ("b", "2")])).await.unwrap();
    world.registry.tag("f", tags(&[("b", "3")])).await.unwrap();
    world.registry.untag("f", &["a".into(), "unknown".into()]).await.unwrap();
    assert_eq!(world.registry.tags("f").await.unwrap(), tags(&[("b", "3")]));
    let many: BTreeMap<String, String> = (0..50).map(|n| (format!("t{n}"), String::new())).collect();
    assert_eq!(
        refusal(world.registry.tag("f", many).await),
        "Tags: Number of tags exceeds resource tag limit."
    );
    let reserved = refusal(world.registry.tag("f", tags(&[("aws:x", "1")])).await);
    assert_eq!(reserved, "Tags: Tag keys starting with 'aws:' are reserved for system use: aws:x");
    assert!(
        refusal(world.registry.tag("f", tags(&[])).await)
            .starts_with("Tags: An error occurred and the request cannot be processed.")
    );
    assert_eq!(world.registry.tags("f").await.unwrap().len(), 1, "what is refused changes nothing");
    assert!(refusal(world.registry.tags("g").await).starts_with("not found: Function not found: "));
}

#[tokio::test]
async fn the_http_runtime_takes_a_command_line_and_concurrency() {
    let world = World::new();
    let mut request = create("web");
    request.settings = Settings {
        runtime: Some("http".into()),
        handler: Some("python -m app --fast".into()),
        instance_concurrency: Some(80),
        ..settings()
    };
    assert_eq!(world.registry.create_function(request).await.unwrap().configuration.instance_concurrency, 80);
    let mut change = update("web");
    change.settings.handler = Some("gunicorn app:app".into());
    world.registry.update_configuration(change).await.unwrap();
    let mut change = update("web");
    change.settings.handler = Some(String::new());
    world.registry.update_configuration(change).await.unwrap();
    let mut change = update("web");
    change.settings.runtime = Some("python3.12".into());
    let handler = refusal(world.registry.update_configuration(change.clone()).await);
    assert_eq!(
        handler,
        "violations: 1 validation error detected: Value '' at 'handler' failed to satisfy constraint: Member must satisfy regular expression pattern: [^\\s]+"
    );
    change.settings.handler = Some("app.handler".into());
    let concurrency = refusal(world.registry.update_configuration(change).await);
    assert_eq!(
        concurrency,
        "InstanceConcurrency: Instances of the runtime python3.12 run one request at a time; InstanceConcurrency 80 needs the runtime http."
    );
    let mut bootstrap = create("bare");
    bootstrap.settings = Settings { runtime: Some("http".into()), handler: None, ..settings() };
    assert_eq!(world.registry.create_function(bootstrap).await.unwrap().configuration.handler, "");
}

#[tokio::test]
async fn a_sweep_removes_what_updates_left_and_nothing_else() {
    let world = World::new();
    world.create("f").await;
    world.publish("f", None).await.unwrap();
    world.update_code("f", "two", false).await.unwrap();
    world.update_code("f", "three", false).await.unwrap();
    world.create_url("f", None).await.unwrap();
    world.registry.put_concurrency("f", 5).await.unwrap();
    world.leave_orphans().await;
    let swept = world.registry.sweep().await.unwrap();
    assert_eq!(swept, Swept { documents: 3, packages: 2, folders: 2 });
    assert_eq!(world.registry.sweep().await.unwrap(), Swept::default());
    for (qualifier, content) in [(None, "three"), (Some("1"), "one")] {
        let target = world.resolve("f", qualifier).await.unwrap();
        assert_eq!(std::fs::read_to_string(target.code.path().join("app.py")).unwrap(), content);
        assert!(world.registry.package("f", qualifier).await.is_ok());
    }
    assert_eq!(world.registry.concurrency("f").await.unwrap(), Some(5));
    assert_eq!(world.registry.list_urls("f", None, None).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_sweep_leaves_code_that_somebody_holds() {
    let world = World::new();
    world.create("f").await;
    let held = world.resolve("f", None).await.unwrap();
    world.update_code("f", "two", false).await.unwrap();
    world.registry.sweep().await.unwrap();
    assert_eq!(
        std::fs::read_to_string(held.code.path().join("app.py")).unwrap(),
        "one",
        "an instance reads it"
    );
    let path = held.code.path().to_owned();
    drop(held);
    world.registry.sweep().await.unwrap();
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sweeps_beside_changes_lose_nothing() {
    let world = World::new();
    let changers = (0..4).map(|n| {
        let registry = world.registry.clone();
        tokio::spawn(async move {
            let name = format!("f{n}");
            for round in 0..15 {
                registry
                    .create_function(CreateFunction { publish: round % 2 == 0, ..create(&name) })
                    .await
                    .unwrap();
                registry.update_code(world::code(&name, &format!("{n} {round}"), true)).await.unwrap();
                registry
                    .create_url(PutUrl {
                        function: name.clone(),
                        auth_type: Some("NONE".into()),
                        ..Default::default()
                    })
                    .await
                    .unwrap();
                let last = registry.list_versions(&name, None, None).await.unwrap().items.pop().unwrap();
                let target = registry.resolve(&name, last.qualifier.as_deref(), 0.0).await.unwrap();
                assert_eq!(
                    std::fs::read_to_string(target.code.path().join("app.py")).unwrap(),
                    format!("{n} {round}")
                );
                drop(target);
                let url = registry.url(&name, None).await.unwrap();
                registry.resolve_url(&url.url.id).await.unwrap();
                registry.delete_function(&name, None).await.unwrap();
            }
        })
    });
    let changers: Vec<_> = changers.collect();
    while !changers.iter().all(|changer| changer.is_finished()) {
        world.registry.sweep().await.unwrap();
        tokio::task::yield_now().await;
    }
    for changer in changers {
        changer.await.unwrap();
    }
    world.registry.sweep().await.unwrap();
    assert_eq!(world.registry.account_usage().await.unwrap().code_bytes, 0, "nothing is left of them");
}

#[tokio::test]
async fn unpacked_code_that_is_missing_is_made_again() {
    let world = World::new();
    world.create("f").await;
    world.forget_unpacked_code();
    world.update_configuration_of("f").await; // the read path forgets what it knew
    let target = world.resolve("f", None).await.unwrap();
    assert_eq!(std::fs::read_to_string(target.code.path().join("app.py")).unwrap(), "one");
}

#[tokio::test]
async fn a_small_cache_serves_many_functions() {
    let world = World::with(Limits { cached_functions: 1, ..Limits::default() });
    for n in 0..100 {
        world.create(&format!("f{n}")).await;
    }
    for round in 0..2 {
        for n in 0..100 {
            let name = format!("f{n}");
            assert_eq!(&*world.resolve(&name, None).await.unwrap().name, name, "round {round}");
        }
    }
    world.registry.delete_function("f7", None).await.unwrap();
    assert!(world.resolve("f7", None).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_beside_writers_never_see_an_older_state_after_a_newer() {
    let world = World::with(Limits { cached_functions: 1, ..Limits::default() });
    world.create("f").await;
    let done = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let (registry, count) = (world.registry.clone(), done.clone());
    let writer = tokio::spawn(async move {
        for n in 1..=200 {
            let mut change = update("f");
            change.settings.description = Some(n.to_string());
            registry.update_configuration(change).await.unwrap();
            count.store(n, std::sync::atomic::Ordering::SeqCst);
        }
    });
    while !writer.is_finished() {
        let acknowledged = done.load(std::sync::atomic::Ordering::SeqCst);
        let seen: u32 =
            world.resolve("f", None).await.unwrap().configuration.description.parse().unwrap_or(0);
        assert!(seen >= acknowledged, "{acknowledged} was acknowledged and {seen} was seen");
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

#[tokio::test]
async fn packages_are_given_back_as_they_came() {
    let world = World::new();
    world.create("f").await;
    let Package::Zip(sent) = zip(&[("app.py", "one")]) else { unreachable!() };
    assert_eq!(world.registry.package("f", None).await.unwrap(), sent);
}
