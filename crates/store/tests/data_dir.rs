//! What a data directory refuses, in which words, and what it finds again.

use bytes::Bytes;
use ports::store::Expect;
use ports::{Blobs, Store};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use store::{DataDir, EmbeddedStore, FileBlobs, OpenError};

const ONE: &str = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";

/// Opens the directory and its documents; the error's text with the directory as `DIR`.
fn check(dir: &Path) -> Result<(), String> {
    let opened = DataDir::open(dir).and_then(|opened| EmbeddedStore::open(&opened));
    opened.map(drop).map_err(|error| error.to_string().replace(dir.to_str().unwrap(), "DIR"))
}

#[test]
fn a_missing_directory_is_made_for_this_user_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    check(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read_to_string(path.join("format")).unwrap(), "1\n");
}

#[test]
fn a_second_server_is_refused_until_the_first_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let first = DataDir::open(dir.path()).unwrap();
    let error = DataDir::open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { holder: Some(pid), .. } if pid == std::process::id()));
    assert_eq!(
        check(dir.path()).unwrap_err(),
        format!(
            "another server (process {}) is using the data directory DIR; stop it first, or choose another \
             directory with --data-dir",
            std::process::id()
        )
    );
    drop(first);
    DataDir::open(dir.path()).unwrap();
}

#[test]
fn a_store_keeps_its_directory_locked() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = FileBlobs::new(&DataDir::open(dir.path()).unwrap());
    assert!(matches!(DataDir::open(dir.path()), Err(OpenError::InUse { .. })));
    drop(blobs);
    DataDir::open(dir.path()).unwrap();
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    check(dir.path()).unwrap();
    std::fs::write(dir.path().join("format"), "2\n").unwrap();
    assert_eq!(
        check(dir.path()).unwrap_err(),
        "the data directory DIR has format 2, which a newer Brooklet wrote; this one knows formats up to 1. \
         Start the newer version, or choose another directory with --data-dir"
    );
    assert_eq!(std::fs::read_to_string(dir.path().join("format")).unwrap(), "2\n");
}

#[test]
fn damage_is_named_with_its_file() {
    let remedy = "restore the data directory from a backup, or choose another with --data-dir";
    for (file, content, expected) in [
        ("format", "one\n", "DIR/format is damaged: it should hold a number, not \"one\\n\""),
        ("format", "", "DIR/format is damaged: it should hold a number, not \"\""),
        ("format", "0", "DIR/format is damaged: it should hold a number, not \"0\""),
        (
            "store.db",
            "this is no database, but it is long enough",
            "DIR/store.db is damaged: file is not a database",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(file), content).unwrap();
        assert_eq!(check(dir.path()).unwrap_err(), format!("{expected}; {remedy}"));
    }
}

#[test]
fn a_place_that_cannot_be_a_directory_is_refused_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for place in [file.clone(), file.join("below")] {
        let error = DataDir::open(&place).unwrap_err();
        assert!(matches!(error, OpenError::Unusable { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("cannot use the data directory {}: ", place.display())), "{text}");
        assert!(text.ends_with("or choose another with --data-dir"), "{text}");
    }
}

#[tokio::test]
async fn everything_is_found_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let revision = {
        let opened = DataDir::open(dir.path()).unwrap();
        let (store, blobs) = (EmbeddedStore::open(&opened).unwrap(), FileBlobs::new(&opened));
        blobs.put(ONE, Bytes::from_static(b"one")).await.unwrap();
        store.put("gone", "x".into(), Expect::Absent).await.unwrap();
        store.put("kept", "y".into(), Expect::Absent).await.unwrap();
        let revision = store.put("gone", "z".into(), Expect::Any).await.unwrap();
        store.delete("gone", Expect::Revision(revision)).await.unwrap();
        revision
    };
    let opened = DataDir::open(dir.path()).unwrap();
    let (store, blobs) = (EmbeddedStore::open(&opened).unwrap(), FileBlobs::new(&opened));
    assert_eq!(blobs.get(ONE).await.unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(store.get("kept").await.unwrap().unwrap().value, "y");
    assert_eq!(store.get("gone").await.unwrap(), None);
    let again = store.put("gone", "x".into(), Expect::Absent).await.unwrap();
    assert!(again > revision, "{again:?} may have been seen before the restart (last was {revision:?})");
}

#[test]
fn what_was_being_written_at_a_crash_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    check(dir.path()).unwrap();
    let half = dir.path().join("tmp/blob-7");
    std::fs::write(&half, "half").unwrap();
    drop(DataDir::open(dir.path()).unwrap());
    assert!(!half.exists());
}
