//! What nobody read of a request's body.
//!
//! Whoever is refused early (too large, not signed, no such operation) is often still writing. If the connection
//! were closed then, most clients would report that it broke and never look at the answer: the kernel throws away
//! what they have not read yet. So the rest is taken and thrown away for a while, as Lambda's own front and other
//! servers do.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Clients that stop sending for this long have seen the answer, or are waiting for something else.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest that a rest is taken.
const PATIENCE: Duration = Duration::from_secs(30);
/// As much as is taken, in bytes: more than the largest request that anybody has a reason to send.
const MOST: u64 = 128 << 20;

/// A request's body. What is left of it when this is dropped is thrown away.
pub struct Unread {
    body: Option<Incoming>,
    /// A client that asked first (`Expect: 100-continue`) sends nothing until somebody begins to read.
    waits: bool,
}

impl Unread {
    pub fn new(body: Incoming, asks_first: bool) -> Unread {
        Unread { body: Some(body), waits: asks_first }
    }

    fn body(&self) -> &Incoming {
        self.body.as_ref().expect("it is there until this is dropped")
    }
}

impl Body for Unread {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waits = false;
        Pin::new(self.body.as_mut().expect("it is there until this is dropped")).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body().size_hint()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !body.is_end_stream());
        if let Some(rest) = rest.filter(|_| !self.waits) {
            tokio::spawn(throw_away(rest));
        }
    }
}

/// Reads a body for nothing: to its end, or as long and as much as is sensible.
async fn throw_away<B: Body<Data = Bytes> + Unpin>(mut body: B) {
    let taken = async {
        let mut taken = 0;
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(PAUSE, body.frame()).await {
            taken += frame.data_ref().map_or(0, |data| data.len() as u64);
            if taken > MOST {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(PATIENCE, taken).await;
}
