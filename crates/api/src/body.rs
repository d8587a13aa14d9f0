//! Bodies: the answer's, and the request's collected within its limits.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBodyTrait, Frame, SizeHint};
use ports::{BoxError, HttpBody};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// The body of an answer: whole, or streamed. Only streams are boxed, so that a buffered answer costs nothing.
pub enum Body {
    /// All of it; `None` when it has been sent or is empty.
    Full(Option<Bytes>),
    /// As it comes.
    Stream(HttpBody),
}

impl Body {
    /// No body.
    pub const EMPTY: Body = Body::Full(None);

    /// A streamed body.
    pub fn stream<B>(body: B) -> Body
    where
        B: HttpBodyTrait<Data = Bytes, Error = BoxError> + Send + 'static,
    {
        Body::Stream(body.boxed_unsync())
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Body {
        let bytes = bytes.into();
        Body::Full((!bytes.is_empty()).then_some(bytes))
    }
}

impl HttpBodyTrait for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Body::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::Stream(stream) => Pin::new(stream).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Full(bytes) => bytes.is_none(),
            Body::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::Stream(stream) => stream.size_hint(),
        }
    }
}

/// Why a request's body could not be had.
#[derive(Debug, PartialEq, Eq)]
pub enum CollectError {
    /// Longer than the limit; the rest has not been read. Its length, if it was declared.
    TooLarge(Option<u64>),
    /// The client sends too slowly.
    TooSlow,
    /// The connection broke or the framing is wrong: what the HTTP engine says.
    Broken(String),
}

/// The slowest client that is waited for: bytes per second, after [`GRACE`].
const SLOWEST: u64 = 64 * 1024;

/// What any body may take, however short it is.
const GRACE: Duration = Duration::from_secs(30);

/// How long a client may send nothing at all in the middle of its body.
const PAUSE: Duration = Duration::from_secs(30);

/// Reads the body, at most `limit` bytes.
///
/// A body that is declared longer is refused before anything of it is read (a client that sent
/// `Expect: 100-continue` then never sends it); one that arrives in one piece is not copied.
pub async fn collect<B>(body: B, limit: usize) -> Result<Bytes, CollectError>
where
    B: HttpBodyTrait<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let declared = body.size_hint().lower();
    if declared > limit as u64 {
        return Err(CollectError::TooLarge(Some(declared)));
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    // A short body has no reason to take as long as the longest that would be allowed.
    let length = body.size_hint().exact().unwrap_or(limit as u64);
    let patience = GRACE + Duration::from_secs(length / SLOWEST);
    let whole = join(body, limit, PAUSE);
    tokio::time::timeout(patience, whole).await.unwrap_or(Err(CollectError::TooSlow))
}

/// As [`collect`], however long it takes and whatever it declares.
pub async fn read<B>(body: B, limit: usize) -> Result<Bytes, CollectError>
where
    B: HttpBodyTrait<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    join(body, limit, Duration::MAX).await
}

/// Joins a body's pieces, at most `limit` bytes; between two of them `pause` may pass.
async fn join<B>(mut body: B, limit: usize, pause: Duration) -> Result<Bytes, CollectError>
where
    B: HttpBodyTrait<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let declared = body.size_hint().exact().unwrap_or(0) as usize;
    let Some(first) = next(&mut body, pause).await? else { return Ok(Bytes::new()) };
    if first.len() > limit {
        return Err(CollectError::TooLarge(None));
    }
    if body.is_end_stream() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(declared.max(first.len() * 2));
    whole.extend_from_slice(&first);
    drop(first);
    while let Some(chunk) = next(&mut body, pause).await? {
        if whole.len() + chunk.len() > limit {
            return Err(CollectError::TooLarge(None));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// The next chunk of data, unless it takes longer than `pause`; trailers are passed over.
async fn next<B>(body: &mut B, pause: Duration) -> Result<Option<Bytes>, CollectError>
where
    B: HttpBodyTrait<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    while let Some(frame) =
        tokio::time::timeout(pause, body.frame()).await.map_err(|_| CollectError::TooSlow)?
    {
        let frame = frame.map_err(|error| CollectError::Broken(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    /// A body without a declared length that arrives in these pieces and then, if `hangs`, never ends.
    struct Chunked {
        pieces: Vec<&'static str>,
        hangs: bool,
    }

    fn chunked(pieces: &[&'static str], hangs: bool) -> Chunked {
        Chunked { pieces: pieces.iter().rev().copied().collect(), hangs }
    }

    impl HttpBodyTrait for Chunked {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            match self.pieces.pop() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece.as_bytes()))))),
                None if self.hangs => Poll::Pending,
                None => Poll::Ready(None),
            }
        }
    }

    #[tokio::test]
    async fn a_body_in_one_piece_is_not_copied() {
        let bytes = Bytes::from_static(b"whole");
        let collected = collect(Full::new(bytes.clone()), 5).await.unwrap();
        assert_eq!(collected.as_ptr(), bytes.as_ptr());
    }

    #[tokio::test]
    async fn pieces_are_joined_up_to_the_limit_and_not_beyond() {
        assert_eq!(collect(chunked(&["ab", "cd", "e"], false), 5).await.unwrap(), "abcde");
        assert_eq!(collect(chunked(&["ab", "cd", "ef"], false), 5).await, Err(CollectError::TooLarge(None)));
        assert_eq!(collect(chunked(&[], false), 5).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_declared_length_over_the_limit_is_refused_unread() {
        assert_eq!(
            collect(Full::new(Bytes::from_static(b"123456")), 5).await,
            Err(CollectError::TooLarge(Some(6)))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_sending_is_given_up_however_much_it_might_send() {
        for (pieces, limit) in [(&["ab"][..], 5), (&["ab"], 64 << 20), (&[], 64 << 20)] {
            let began = tokio::time::Instant::now();
            assert_eq!(collect(chunked(pieces, true), limit).await, Err(CollectError::TooSlow));
            assert!(began.elapsed() <= GRACE.max(PAUSE), "{limit}: {:?}", began.elapsed());
        }
    }
}
