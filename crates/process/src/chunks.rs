//! A response stream on its way to the caller, which must never take a part for the whole.

use bytes::Bytes;
use ports::{StreamReply, StreamSink};
use tokio::sync::mpsc::{self, OwnedPermit, Sender};

/// Chunks that wait for a slow reader before the function is slowed down.
const IN_FLIGHT: usize = 16;

/// Where a function's chunks go. Dropped before it was ended (the instance died, or its time was up), it tells the
/// reader so.
pub struct Chunks {
    sender: Sender<Result<Bytes, Bytes>>,
    /// Room for the last word, however slow the reader is.
    last: Option<OwnedPermit<Result<Bytes, Bytes>>>,
}

impl Chunks {
    /// Gives the head of the answer to the caller.
    pub fn open(sink: StreamSink, content_type: String) -> Chunks {
        let (sender, chunks) = mpsc::channel(IN_FLIGHT + 1);
        let last = sender.clone().try_reserve_owned().ok();
        let _ = sink.send(StreamReply::Chunks { content_type, chunks });
        Chunks { sender, last }
    }

    /// Waits while the reader is slow. A reader that has gone loses it.
    pub async fn send(&self, data: Bytes) {
        let _ = self.sender.send(Ok(data)).await;
    }

    /// That was all.
    pub fn end(mut self) {
        self.last = None;
    }

    /// The function's own error (its JSON), after all.
    pub fn fail(mut self, error: Bytes) {
        if let Some(last) = self.last.take() {
            last.send(Err(error));
        }
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        if let Some(last) = self.last.take() {
            const BROKEN_OFF: &str = r#"{"errorType":"Runtime.Truncated","errorMessage":"The function ended, or its time was up, before its answer was complete. Its log says which."}"#;
            last.send(Err(Bytes::from_static(BROKEN_OFF.as_bytes())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    /// The words that a reader gets which comes when `write` has filled the stream, as text; errors begin with `!`.
    async fn check(write: impl AsyncFnOnce(Chunks)) -> Vec<String> {
        let (sink, head) = oneshot::channel();
        write(Chunks::open(sink, String::new())).await;
        let Ok(StreamReply::Chunks { mut chunks, .. }) = head.await else { panic!("no chunks") };
        let mut words = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            words.push(chunk.as_ref().map(text).unwrap_or_else(|error| format!("!{}", text(error))));
        }
        words
    }

    #[tokio::test]
    async fn a_stream_that_is_ended_is_whole() {
        let words = check(async |chunks| {
            chunks.send("a".into()).await;
            chunks.end();
        });
        assert_eq!(words.await, ["a"]);
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_says_so_even_to_a_reader_who_is_behind() {
        let words = check(async |chunks| {
            for _ in 0..IN_FLIGHT {
                chunks.send("a".into()).await;
            }
        });
        let words = words.await;
        assert_eq!(words.len(), IN_FLIGHT + 1);
        assert!(words[IN_FLIGHT].starts_with(r#"!{"errorType":"Runtime.Truncated""#), "{words:?}");
    }

    #[tokio::test]
    async fn a_function_that_fails_has_the_last_word() {
        let words = check(async |chunks| {
            chunks.send("a".into()).await;
            chunks.fail("{}".into());
        });
        assert_eq!(words.await, ["a", "!{}"]);
    }
}
