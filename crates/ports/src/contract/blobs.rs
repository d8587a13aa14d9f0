use crate::Blobs;
use crate::blobs::Blob;
use bytes::Bytes;

/// `sha256("one")` and so on: the suite needs real digests, and `ports` has no hash of its own.
const ONE: &str = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
const TWO: &str = "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Checks an implementation of [`Blobs`].
pub async fn blobs<B: Blobs>(make: impl Fn() -> B) {
    what_was_put_is_given_back(make()).await;
    the_same_bytes_twice_are_one_blob(make()).await;
    deleting_forgets_and_may_be_repeated(make()).await;
    what_is_never_polled_never_happens(make()).await;
    concurrent_puts_of_one_blob_all_succeed(make()).await;
}

async fn what_was_put_is_given_back(blobs: impl Blobs) {
    assert_eq!(blobs.get(ONE).await.unwrap(), None, "a blob is there before it was put");
    blobs.put(ONE, Bytes::from_static(b"one")).await.unwrap();
    blobs.put(EMPTY, Bytes::new()).await.unwrap();
    assert_eq!(blobs.get(ONE).await.unwrap().as_deref(), Some(&b"one"[..]), "other bytes came back");
    assert_eq!(blobs.get(EMPTY).await.unwrap().as_deref(), Some(&b""[..]), "an empty blob is a blob");
    assert_eq!(blobs.get(TWO).await.unwrap(), None, "a blob that was never put is given");
    let contained = [ONE, EMPTY, TWO].map(|sha256| blobs.contains(sha256));
    for (contained, expected) in contained.into_iter().zip([true, true, false]) {
        assert_eq!(contained.await.unwrap(), expected, "`contains` and `get` disagree");
    }
    for odd in ["", "x", "../../etc/passwd", &ONE.to_uppercase()] {
        assert_eq!(blobs.get(odd).await.unwrap(), None, "{odd:?} is no digest, so nothing was put under it");
    }
}

async fn the_same_bytes_twice_are_one_blob(blobs: impl Blobs) {
    for _ in 0..2 {
        blobs.put(ONE, Bytes::from_static(b"one")).await.unwrap();
    }
    blobs.put(TWO, Bytes::from_static(b"two")).await.unwrap();
    let mut list = blobs.list().await.unwrap();
    list.sort();
    let expected = [TWO, ONE].map(|sha256| Blob { sha256: sha256.to_owned(), size: 3 });
    assert_eq!(list, expected, "the list is not what was put");
}

async fn deleting_forgets_and_may_be_repeated(blobs: impl Blobs) {
    blobs.put(ONE, Bytes::from_static(b"one")).await.unwrap();
    blobs.delete(ONE).await.unwrap();
    blobs.delete(ONE).await.unwrap();
    assert_eq!(blobs.get(ONE).await.unwrap(), None, "a deleted blob is given");
    assert_eq!(blobs.list().await.unwrap(), [], "a deleted blob is listed");
    blobs.put(ONE, Bytes::from_static(b"one")).await.unwrap();
    assert!(blobs.get(ONE).await.unwrap().is_some(), "a blob put again after deletion is missing");
}

async fn what_is_never_polled_never_happens(blobs: impl Blobs) {
    blobs.put(ONE, Bytes::from_static(b"one")).await.unwrap();
    drop(blobs.delete(ONE));
    drop(blobs.put(TWO, Bytes::from_static(b"two")));
    assert!(blobs.contains(ONE).await.unwrap(), "a dropped deletion was made");
    assert!(!blobs.contains(TWO).await.unwrap(), "a dropped change was made");
}

async fn concurrent_puts_of_one_blob_all_succeed(blobs: impl Blobs) {
    let blobs = std::sync::Arc::new(blobs);
    let puts: Vec<_> = (0..8)
        .map(|_| {
            let blobs = blobs.clone();
            tokio::spawn(async move { blobs.put(ONE, Bytes::from_static(b"one")).await })
        })
        .collect();
    for put in puts {
        put.await.unwrap().unwrap();
    }
    assert_eq!(blobs.list().await.unwrap().len(), 1, "one blob put at once by many is one blob");
    assert_eq!(blobs.get(ONE).await.unwrap().as_deref(), Some(&b"one"[..]));
}
