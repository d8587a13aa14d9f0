use crate::Store;
use crate::store::{Document, Expect, MAX_KEY_BYTES, Revision, StoreError};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Checks an implementation of [`Store`].
pub async fn store<S: Store>(make: impl Fn() -> S) {
    a_document_is_given_back_as_it_was_put(make()).await;
    a_change_happens_only_if_the_key_is_as_expected(make()).await;
    a_deletion_happens_only_if_the_key_is_as_expected(make()).await;
    what_is_never_polled_never_happens(make()).await;
    a_revision_is_never_used_again(make()).await;
    a_list_is_the_prefix_in_byte_order(make()).await;
    pages_join_to_the_whole_list(make()).await;
    keys_and_values_have_their_full_range(make()).await;
    of_concurrent_changes_to_one_key_each_revision_has_one_winner(make()).await;
    concurrent_changes_to_many_keys_are_all_kept(make()).await;
}

async fn a_document_is_given_back_as_it_was_put(store: impl Store) {
    assert_eq!(store.get("function/a").await.unwrap(), None, "a key exists before it was put");
    let revision = put(&store, "function/a", "one", Expect::Any).await;
    let document = store.get("function/a").await.unwrap().expect("what was put is there");
    assert_eq!(document, doc("function/a", "one", revision));
    let second = put(&store, "function/a", "two", Expect::Any).await;
    assert!(second > revision, "a revision must grow with every change");
    assert_eq!(store.get("function/a").await.unwrap(), Some(doc("function/a", "two", second)));
}

async fn a_change_happens_only_if_the_key_is_as_expected(store: impl Store) {
    expect_conflict(store.put("k", "x".into(), Expect::Revision(Revision(1))).await, "k");
    let first = put(&store, "k", "one", Expect::Absent).await;
    expect_conflict(store.put("k", "x".into(), Expect::Absent).await, "k");
    let second = put(&store, "k", "two", Expect::Revision(first)).await;
    expect_conflict(store.put("k", "x".into(), Expect::Revision(first)).await, "k");
    assert_eq!(
        store.get("k").await.unwrap(),
        Some(doc("k", "two", second)),
        "a conflict changed the document"
    );
}

async fn a_deletion_happens_only_if_the_key_is_as_expected(store: impl Store) {
    assert!(!store.delete("k", Expect::Any).await.unwrap(), "deleting nothing says so");
    assert!(!store.delete("k", Expect::Absent).await.unwrap());
    expect_conflict(store.delete("k", Expect::Revision(Revision(1))).await, "k");
    let first = put(&store, "k", "one", Expect::Any).await;
    expect_conflict(store.delete("k", Expect::Absent).await, "k");
    let second = put(&store, "k", "two", Expect::Any).await;
    expect_conflict(store.delete("k", Expect::Revision(first)).await, "k");
    assert!(store.get("k").await.unwrap().is_some(), "a conflict deleted the document");
    assert!(store.delete("k", Expect::Revision(second)).await.unwrap(), "the deletion was not reported");
    assert_eq!(store.get("k").await.unwrap(), None, "a deleted document is given");
}

/// Callers make a change's future and then decide whether to run it.
async fn what_is_never_polled_never_happens(store: impl Store) {
    let first = put(&store, "k", "one", Expect::Any).await;
    drop(store.put("k", "two".into(), Expect::Any));
    drop(store.delete("k", Expect::Any));
    put(&store, "other", "x", Expect::Any).await;
    assert_eq!(store.get("k").await.unwrap(), Some(doc("k", "one", first)), "a dropped change was made");
}

async fn a_revision_is_never_used_again(store: impl Store) {
    let mut seen = BTreeSet::new();
    for round in 0..10 {
        for expect in [Expect::Absent, Expect::Any] {
            let revision = put(&store, "k", &round.to_string(), expect).await;
            assert!(seen.insert(revision), "revision {revision:?} was given out twice");
            assert_eq!(seen.last(), Some(&revision), "a key made again must get a higher revision");
        }
        assert!(store.delete("k", Expect::Any).await.unwrap());
    }
}

/// Keys around a prefix's edges: separators, letter case, multi-byte characters, SQL's and glob's wildcards,
/// the highest character.
const ODD_KEYS: &[&str] = &[
    "a",
    "a%",
    "a%b",
    "a*",
    "a-",
    "a.",
    "a/",
    "a/%",
    "a/A",
    "a/_",
    "a/a",
    "a/a'b\"c",
    "a/a\\b",
    "a/a/b",
    "a/b",
    "a/é",
    "a/ü",
    "a/\u{10ffff}",
    "a/\u{10ffff}x",
    "a0",
    "aa",
    "b",
    "\u{10ffff}",
    "\u{10ffff}\u{10ffff}",
];

async fn a_list_is_the_prefix_in_byte_order(store: impl Store) {
    for key in ODD_KEYS.iter().rev() {
        put(&store, key, key, Expect::Absent).await;
    }
    for prefix in
        ["", "a", "a/", "a/a", "a%", "a/%", "a/_", "a/é", "a/\u{10ffff}", "\u{10ffff}", "x", "a/a'b"]
    {
        let mut expected: Vec<&str> =
            ODD_KEYS.iter().copied().filter(|key| key.starts_with(prefix)).collect();
        expected.sort_unstable();
        assert_eq!(keys(&store, prefix, None, 100).await, expected, "the list of prefix {prefix:?}");
    }
}

async fn pages_join_to_the_whole_list(store: impl Store) {
    for key in ODD_KEYS {
        put(&store, key, key, Expect::Absent).await;
    }
    let whole = keys(&store, "a/", None, 100).await;
    for size in 1..=whole.len() + 1 {
        let (mut joined, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = keys(&store, "a/", after.as_deref(), size).await;
            assert!(page.len() <= size, "a page of {size} has {} documents", page.len());
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            joined.extend(page);
        }
        assert_eq!(joined, whole, "pages of {size}");
    }
    assert_eq!(keys(&store, "a/", Some("a/aa"), 1).await, ["a/b"], "`after` need not exist");
    assert_eq!(
        keys(&store, "a/", Some("a"), 1).await,
        [whole[0].clone()],
        "`after` may lie before the prefix"
    );
    assert!(keys(&store, "a/", Some("b"), 9).await.is_empty(), "`after` may lie behind the prefix");
    assert!(keys(&store, "a/", None, 0).await.is_empty(), "a page of none");
}

async fn keys_and_values_have_their_full_range(store: impl Store) {
    let longest = "k".repeat(MAX_KEY_BYTES);
    let any_bytes: Bytes = (0..=255u8).cycle().take(300_000).collect();
    let revision = store.put(&longest, any_bytes.clone(), Expect::Any).await.unwrap();
    let found = store.get(&longest).await.unwrap();
    assert_eq!(found, Some(Document { key: longest.clone(), value: any_bytes, revision }));
    put(&store, "empty", "", Expect::Any).await;
    assert_eq!(store.get("empty").await.unwrap().unwrap().value, Bytes::new());
    for refused in [String::new(), longest + "k"] {
        let result = store.put(&refused, "x".into(), Expect::Any).await;
        assert!(matches!(result, Err(StoreError::Failed(_))), "a key of {} bytes was taken", refused.len());
    }
}

async fn of_concurrent_changes_to_one_key_each_revision_has_one_winner(store: impl Store) {
    const WRITERS: usize = 8;
    const EACH: usize = 10;
    let store = Arc::new(store);
    put(&*store, "counter", "0", Expect::Any).await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..EACH {
                    increment(&*store, "counter").await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let end = store.get("counter").await.unwrap().unwrap().value;
    assert_eq!(end, (WRITERS * EACH).to_string(), "increments were lost or doubled");
}

async fn increment(store: &impl Store, key: &str) {
    loop {
        let document = store.get(key).await.unwrap().unwrap();
        let count: usize = std::str::from_utf8(&document.value).unwrap().parse().unwrap();
        match store.put(key, (count + 1).to_string().into(), Expect::Revision(document.revision)).await {
            Ok(_) => return,
            Err(StoreError::Conflict { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn concurrent_changes_to_many_keys_are_all_kept(store: impl Store) {
    let store = Arc::new(store);
    let writers: Vec<_> = (0..64)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                put(&*store, &format!("many/{n:02}"), &n.to_string(), Expect::Absent).await
            })
        })
        .collect();
    let mut revisions = BTreeSet::new();
    for writer in writers {
        revisions.insert(writer.await.unwrap());
    }
    assert_eq!(revisions.len(), 64, "two changes share a revision");
    let expected: Vec<String> = (0..64).map(|n| format!("many/{n:02}")).collect();
    assert_eq!(keys(&*store, "many/", None, 100).await, expected);
}

fn doc(key: &str, value: &str, revision: Revision) -> Document {
    Document { key: key.to_owned(), value: value.to_owned().into(), revision }
}

async fn put(store: &impl Store, key: &str, value: &str, expect: Expect) -> Revision {
    store.put(key, value.to_owned().into(), expect).await.unwrap()
}

async fn keys(store: &impl Store, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let documents = store.list(prefix, after, limit).await.unwrap();
    documents.into_iter().map(|document| document.key).collect()
}

#[track_caller]
fn expect_conflict<T: std::fmt::Debug>(result: Result<T, StoreError>, key: &str) {
    match result {
        Err(StoreError::Conflict { key: named }) => assert_eq!(named, key, "the conflict names another key"),
        other => panic!("expected a conflict on {key}, got {other:?}"),
    }
}
