//! HTTP/1.1 as runtime clients speak it: keep-alive, lengths, chunks with trailers, `Expect: 100-continue`.
//!
//! Written for this one peer because two requests per invocation are the warm path: one buffer per connection,
//! bodies handed on without a copy, each answer one write.

use crate::instance::{take, write_together};
use bytes::{Buf, Bytes, BytesMut};
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 64;

/// How a request's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes.
    Length(usize),
    /// Chunks, then trailers.
    Chunked,
}

/// A request's head, as far as the Runtime API looks at it.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    pub method: String,
    pub path: String,
    pub framing: Framing,
    pub expects_continue: bool,
    pub close: bool,
    /// `Lambda-Runtime-Function-Response-Mode: streaming`.
    pub streaming: bool,
    pub content_type: Option<String>,
}

/// What follows the last chunk of a body; names in lower case.
pub type Trailers = Vec<(String, String)>;

/// A piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    Data(Bytes),
    /// The end.
    End(Trailers),
}

/// A connection and what has been read from it.
pub struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
    body: Body,
}

/// Where in a body the connection is.
enum Body {
    Length(usize),
    ChunkHead,
    /// Bytes left of this chunk; its line end follows.
    Chunk(usize),
    Done,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Wire {
        Wire { stream, buffer: BytesMut::with_capacity(8 * 1024), body: Body::Done }
    }

    /// The next request's head; `None` when the peer has closed between requests.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some((head, length)) = parse_head(&self.buffer)? {
                self.buffer.advance(length);
                self.body = match head.framing {
                    Framing::Length(length) => Body::Length(length),
                    Framing::Chunked => Body::ChunkHead,
                };
                if head.expects_continue {
                    self.write("HTTP/1.1 100 Continue\r\n\r\n", b"").await?;
                }
                return Ok(Some(head));
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(io::Error::other("a request head is longer than 64 KiB"));
            }
            self.buffer.reserve(8 * 1024);
            match self.stream.read_buf(&mut self.buffer).await? {
                0 if self.buffer.is_empty() => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
    }

    /// Acknowledges what has come at once. A client that leaves Nagle on holds its next small write back until
    /// then, and the kernel would take 40 ms. It forgets the wish soon, so it is told again for each piece.
    pub fn hurry(&self) {
        let (fd, on) = (self.stream.as_raw_fd(), 1_i32);
        // SAFETY: the descriptor is open and `on` lives on this stack. Failing only costs time.
        unsafe {
            let size = size_of_val(&on) as libc::socklen_t;
            libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_QUICKACK, (&raw const on).cast(), size);
        }
    }

    /// The next piece of the current request's body.
    pub async fn piece(&mut self) -> io::Result<Piece> {
        loop {
            if let Some(piece) = self.take_piece()? {
                return Ok(piece);
            }
            self.fill().await?;
        }
    }

    /// The whole body in one piece, or `Err(length)` when it is larger than `limit` (it is then read and
    /// thrown away, so that the connection stays usable).
    pub async fn whole(&mut self, limit: usize) -> io::Result<Result<(Bytes, Trailers), u64>> {
        if let Body::Length(length) = self.body
            && length <= limit
        {
            // The common case without a second buffer.
            self.buffer.reserve(length.saturating_sub(self.buffer.len()));
            while self.buffer.len() < length {
                self.fill().await?;
            }
            self.body = Body::Done;
            return Ok(Ok((take(&mut self.buffer, length), Vec::new())));
        }
        let (mut whole, mut total) = (BytesMut::new(), 0);
        loop {
            match self.piece().await? {
                Piece::Data(data) => {
                    total += data.len();
                    if total <= limit {
                        whole.extend_from_slice(&data);
                    }
                }
                Piece::End(_) if total > limit => return Ok(Err(total as u64)),
                Piece::End(trailers) => return Ok(Ok((whole.freeze(), trailers))),
            }
        }
    }

    /// Resolves only when the peer closes or speaks while it should wait.
    pub async fn interrupted(&mut self) {
        let _ = self.stream.read_buf(&mut self.buffer).await;
    }

    /// Writes an answer at once.
    pub async fn write(&mut self, head: &str, body: &[u8]) -> io::Result<()> {
        let mut parts = [IoSlice::new(head.as_bytes()), IoSlice::new(body)];
        write_together(&mut self.stream, &mut parts).await
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.buffer.reserve(8 * 1024);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn take_piece(&mut self) -> io::Result<Option<Piece>> {
        match self.body {
            Body::Done | Body::Length(0) => {
                self.body = Body::Done;
                Ok(Some(Piece::End(Vec::new())))
            }
            _ if self.buffer.is_empty() => Ok(None),
            Body::Length(left) => {
                let length = left.min(self.buffer.len());
                let data = take(&mut self.buffer, length);
                self.body = Body::Length(left - data.len());
                Ok(Some(Piece::Data(data)))
            }
            Body::Chunk(0) => match self.buffer.strip_prefix(b"\r\n") {
                Some(_) => {
                    self.buffer.advance(2);
                    self.body = Body::ChunkHead;
                    self.take_piece()
                }
                None if self.buffer.len() < 2 => Ok(None),
                None => Err(io::Error::other("a chunk is longer than it said")),
            },
            Body::Chunk(left) => {
                let length = left.min(self.buffer.len());
                let data = take(&mut self.buffer, length);
                self.body = Body::Chunk(left - data.len());
                Ok(Some(Piece::Data(data)))
            }
            Body::ChunkHead => self.take_chunk_head(),
        }
    }

    fn take_chunk_head(&mut self) -> io::Result<Option<Piece>> {
        match httparse::parse_chunk_size(&self.buffer) {
            Ok(httparse::Status::Complete((head, 0))) => {
                let Some((trailers, length)) = parse_trailers(&self.buffer[head..])? else { return Ok(None) };
                self.buffer.advance(head + length);
                self.body = Body::Done;
                Ok(Some(Piece::End(trailers)))
            }
            Ok(httparse::Status::Complete((head, length))) => {
                self.buffer.advance(head);
                self.body = Body::Chunk(length as usize);
                self.take_piece()
            }
            Ok(httparse::Status::Partial) if self.buffer.len() < 1024 => Ok(None),
            _ => Err(io::Error::other("a chunk begins without its size")),
        }
    }
}

fn parse_head(buffer: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(buffer).map_err(io::Error::other)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let mut head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        path: request.path.unwrap_or_default().to_owned(),
        framing: Framing::Length(0),
        expects_continue: false,
        close: request.version == Some(0),
        streaming: false,
        content_type: None,
    };
    for header in request.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
        match header.name.len() {
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                let length = value.parse().map_err(|_| io::Error::other("Content-Length is not a number"))?;
                head.framing = Framing::Length(length);
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding")
                && value.eq_ignore_ascii_case("chunked") =>
            {
                head.framing = Framing::Chunked;
            }
            6 if header.name.eq_ignore_ascii_case("expect") => head.expects_continue = true,
            10 if header.name.eq_ignore_ascii_case("connection") => {
                head.close |= value.eq_ignore_ascii_case("close");
            }
            12 if header.name.eq_ignore_ascii_case("content-type") => {
                head.content_type = Some(value.to_owned());
            }
            37 if header.name.eq_ignore_ascii_case("lambda-runtime-function-response-mode") => {
                head.streaming = value.eq_ignore_ascii_case("streaming");
            }
            _ => {}
        }
    }
    // aws-lambda-go does not send the mode, only this type.
    head.streaming |=
        head.content_type.as_deref() == Some("application/vnd.awslambda.http-integration-response");
    Ok(Some((head, length)))
}

/// Trailers and their length, blank line included; `None` when they are not all there.
fn parse_trailers(buffer: &[u8]) -> io::Result<Option<(Trailers, usize)>> {
    if buffer.starts_with(b"\r\n") {
        return Ok(Some((Vec::new(), 2)));
    }
    let mut headers = [httparse::EMPTY_HEADER; 16];
    match httparse::parse_headers(buffer, &mut headers).map_err(io::Error::other)? {
        httparse::Status::Complete((length, headers)) => {
            let text = |value: &[u8]| String::from_utf8_lossy(value).trim().to_owned();
            let trailers = headers.iter().map(|h| (h.name.to_ascii_lowercase(), text(h.value))).collect();
            Ok(Some((trailers, length)))
        }
        // An error body in a trailer may be large, but not without end.
        httparse::Status::Partial if buffer.len() < 8 * 1024 * 1024 => Ok(None),
        httparse::Status::Partial => Err(io::Error::other("trailers are longer than 8 MiB")),
    }
}
