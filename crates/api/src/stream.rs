//! Streamed answers of functions: collected whole, or passed on as they come.

use crate::body::CollectError;
use bytes::{Bytes, BytesMut};
use hyper::body::{Body as HttpBodyTrait, Frame};
use ports::{BoxError, StreamReply};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// A streamed answer that was collected.
#[derive(Debug, PartialEq, Eq)]
pub enum Collected {
    /// All of it.
    Whole(Bytes),
    /// The function failed in the middle: its error JSON.
    Failed(Bytes),
    /// Longer than the limit.
    TooLarge,
}

/// Collects a streamed answer, at most `limit` bytes.
pub async fn collect(stream: StreamReply, limit: usize) -> Collected {
    match stream {
        StreamReply::Chunks { chunks, .. } => collect_chunks(chunks, limit).await,
        StreamReply::Http(response) => match crate::body::read(response.into_body(), limit).await {
            Ok(whole) => Collected::Whole(whole),
            Err(CollectError::TooLarge(_)) => Collected::TooLarge,
            Err(CollectError::TooSlow) => unreachable!("no time limit was set"),
            Err(CollectError::Broken(error)) => {
                let message = format!("the answer broke off: {error}");
                let json = serde_json::json!({ "errorType": "Runtime.Truncated", "errorMessage": message });
                Collected::Failed(json.to_string().into())
            }
        },
    }
}

/// Collects chunks, at most `limit` bytes; a single one is not copied.
pub async fn collect_chunks(mut chunks: mpsc::Receiver<Result<Bytes, Bytes>>, limit: usize) -> Collected {
    let mut whole = match chunks.recv().await {
        None => return Collected::Whole(Bytes::new()),
        Some(Err(error)) => return Collected::Failed(error),
        Some(Ok(first)) => first,
    };
    let mut more = BytesMut::new();
    while let Some(chunk) = chunks.recv().await {
        match chunk {
            Err(error) => return Collected::Failed(error),
            Ok(chunk) => {
                if more.is_empty() {
                    more.reserve(whole.len() + chunk.len());
                    more.extend_from_slice(&whole);
                }
                more.extend_from_slice(&chunk);
            }
        }
        if more.len() > limit {
            return Collected::TooLarge;
        }
    }
    if !more.is_empty() {
        whole = more.freeze();
    }
    if whole.len() > limit { Collected::TooLarge } else { Collected::Whole(whole) }
}

/// Chunks as a body: each is flushed when it comes. An error of the function breaks the answer off, so that the
/// caller does not take it for whole.
pub struct Chunks {
    /// What came before the rest, if anything.
    first: Option<Bytes>,
    rest: mpsc::Receiver<Result<Bytes, Bytes>>,
    failed: bool,
}

impl Chunks {
    /// `first`, then the rest.
    pub fn new(first: Option<Bytes>, rest: mpsc::Receiver<Result<Bytes, Bytes>>) -> Chunks {
        Chunks { first, rest, failed: false }
    }
}

impl HttpBodyTrait for Chunks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if self.failed {
            return Poll::Ready(Some(Err("the function failed in the middle of its answer".into())));
        }
        match self.rest.poll_recv(context) {
            Poll::Ready(Some(Err(_))) => {
                // An error makes hyper drop what it has not sent; when it has to wait it sends it first.
                self.failed = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Some(Ok(chunk))) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Lines that another task writes, as a body.
pub struct Lines(pub mpsc::Receiver<Bytes>);

impl HttpBodyTrait for Lines {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collected(chunks: &[Result<&'static str, &'static str>], limit: usize) -> Collected {
        let (sender, receiver) = mpsc::channel(8);
        for chunk in chunks {
            let bytes = |text: &&'static str| Bytes::from_static(text.as_bytes());
            sender.send(chunk.as_ref().map(bytes).map_err(bytes)).await.unwrap();
        }
        drop(sender);
        collect_chunks(receiver, limit).await
    }

    #[tokio::test]
    async fn chunks_are_joined_up_to_the_limit() {
        assert_eq!(collected(&[], 4).await, Collected::Whole("".into()));
        assert_eq!(collected(&[Ok("ab")], 4).await, Collected::Whole("ab".into()));
        assert_eq!(collected(&[Ok("ab"), Ok("cd")], 4).await, Collected::Whole("abcd".into()));
        assert_eq!(collected(&[Ok("ab"), Ok("cd"), Ok("e")], 4).await, Collected::TooLarge);
        assert_eq!(collected(&[Ok("abcde")], 4).await, Collected::TooLarge);
    }

    #[tokio::test]
    async fn a_function_that_fails_in_the_middle_has_failed() {
        assert_eq!(collected(&[Ok("ab"), Err("{}")], 4).await, Collected::Failed("{}".into()));
    }
}
