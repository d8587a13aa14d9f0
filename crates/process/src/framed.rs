//! The transport of our own bootstraps: length-prefixed frames over two pipes, events in at the function's
//! descriptor 3, answers out at its descriptor 4.
//!
//! Pipes and not one socket: whoever sleeps in a read of a socket is also woken when the other end has read what
//! it wrote (`unix_write_space` in the kernel), which was a wake-up of the function for nothing with every event.
//!
//! A frame is a head of 12 bytes (kind, whether it is the process's last, two zero bytes, length of the meta
//! text, length of the body, both little-endian `u32`), then the two parts. One invocation is one frame each way: one
//! wake-up in the function and one here, because the task that holds the request does the writing and the reading
//! itself.
//!
//! Between two invocations nobody waits for an answer, and what the function logs then is heard by a [listener](Line::listen).

use crate::chunks::Chunks;
use crate::instance::{MAX_ANSWER, Process, Transport, take, write_together};
use crate::output::{Output, Paced};
use bytes::{Buf, Bytes, BytesMut};
use ports::{Exit, Invocation, InvokeResult, Payload, StartFailure, StreamSink};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

const HEAD: usize = 12;
/// No frame is larger: an answer of 6 MiB and its meta text, or Lambda's largest streamed write.
const MAX_FRAME: usize = 32 * 1024 * 1024;

/// So many bytes of log events are taken at once between two invocations, the next of which must not wait for more.
const MAX_HEARD: u64 = 1 << 20;

/// What a frame from the function means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ready,
    InitError,
    Answer,
    Error,
    StreamStart,
    Chunk,
    StreamEnd,
    StreamError,
    Log,
    Imports,
    Loading,
    Waits,
}

struct Frame {
    kind: Kind,
    /// The process ends after it.
    last: bool,
    meta: Bytes,
    body: Bytes,
}

struct Conversation {
    events: pipe::Sender,
    answers: Arc<pipe::Receiver>,
    buffer: BytesMut,
}

/// Our ends of the pipes.
pub struct Framed {
    line: Arc<Line>,
}

/// What a runtime that waited was told, and may have ended without reading.
pub struct Introduction {
    pipe: OwnedFd,
}

struct Line {
    answers: Arc<pipe::Receiver>,
    desk: Mutex<Desk>,
    /// It was put back while somebody waited for that.
    back: Notify,
}

struct Desk {
    /// Taken for the length of an invocation.
    conversation: Option<Conversation>,
    /// How often it was.
    taken: u64,
    /// Whether the listener waits for it to come back.
    is_awaited: bool,
}

/// How often it is looked whether a function that answers events all the time still does, until when it is not listened to
/// it between them; so that much later than it was written a line may be logged.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Framed {
    /// Our ends, and those that the process gets: where it reads events, and where it writes answers.
    pub fn pair() -> io::Result<(Framed, [OwnedFd; 2])> {
        let ((their_events, events), (answers, their_answers)) = (io::pipe()?, io::pipe()?);
        let answers = Arc::new(pipe::Receiver::from_owned_fd(answers.into())?);
        let conversation = Conversation {
            events: pipe::Sender::from_owned_fd(events.into())?,
            answers: answers.clone(),
            buffer: BytesMut::with_capacity(4096),
        };
        let desk = Mutex::new(Desk { conversation: Some(conversation), taken: 0, is_awaited: false });
        let line = Arc::new(Line { answers, desk, back: Notify::new() });
        Ok((Framed { line }, [their_events.into(), their_answers.into()]))
    }

    /// Tells a runtime that waits for its function the variables of that, and a JVM its class path.
    pub async fn introduce(
        &mut self,
        variables: &[(String, String)],
        class_path: &str,
    ) -> io::Result<Introduction> {
        let body: String = variables.iter().map(|(key, value)| format!("{key}={value}\0")).collect();
        let conversation = self.untaken();
        let pipe = conversation.events.as_fd().try_clone_to_owned()?;
        conversation.write(b'B', class_path.as_bytes(), body.as_bytes()).await?;
        Ok(Introduction { pipe })
    }

    /// Waits until a runtime says that it waits.
    pub async fn waits(&mut self, process: &Process) -> io::Result<()> {
        match self.untaken().read(process).await?.kind {
            Kind::Waits => Ok(()),
            kind => Err(out_of_turn(kind)),
        }
    }

    /// Tells such a bootstrap what means nothing, so that it has read something before it is told who it is.
    pub async fn rehearse(&mut self) -> io::Result<()> {
        self.untaken().write(b'B', b"rehearsal", b"A=a\0").await
    }

    /// Waits until the bootstrap says that it has loaded the function, or why it could not. Broken off and called
    /// again, it goes on.
    ///
    /// # Errors
    /// The socket was closed, or something else was said.
    pub async fn first_word(&mut self, process: &Process) -> io::Result<Result<(), StartFailure>> {
        let frame = self.untaken().read(process).await?;
        Ok(match frame.kind {
            Kind::Ready => Ok(()),
            Kind::InitError => Err(StartFailure::Init(frame.body)),
            _ => Err(StartFailure::Machine("the bootstrap spoke out of turn".into())),
        })
    }

    /// Before anybody listens.
    fn untaken(&mut self) -> &mut Conversation {
        let line = Arc::get_mut(&mut self.line).expect("nobody listens yet");
        let desk = line.desk.get_mut().expect("no panic while held");
        desk.conversation.as_mut().expect("nobody has taken it yet")
    }
}

impl Line {
    fn take(&self) -> Option<Conversation> {
        let mut desk = self.desk();
        desk.taken += 1;
        desk.conversation.take()
    }

    fn put_back(&self, conversation: Conversation) {
        let mut desk = self.desk();
        desk.conversation = Some(conversation);
        if std::mem::take(&mut desk.is_awaited) {
            self.back.notify_one();
        }
    }

    /// Hears what the function logs while no invocation does. So that the server is not woken twice by each answer, a
    /// function that answers one event after the other is listened to only when it has paused.
    async fn listen(self: Arc<Line>, output: Arc<Output>) {
        let mut pace = Paced::new();
        loop {
            let taken = self.pause().await;
            loop {
                if self.answers.readable().await.is_err() {
                    return;
                }
                match self.hear(&output, Some(taken)) {
                    Heard::Something(bytes) => pace.took(bytes, Duration::ZERO).await,
                    Heard::Invocation => break,
                    Heard::End => return,
                }
            }
        }
    }

    /// Waits until there was no invocation for a moment; how many there were before.
    async fn pause(&self) -> u64 {
        let mut before = self.desk().taken;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let is_long = {
                let mut desk = self.desk();
                let same = std::mem::replace(&mut before, desk.taken) == desk.taken;
                if same && desk.conversation.is_some() {
                    return desk.taken;
                }
                desk.is_awaited = same;
                same
            };
            if is_long {
                self.back.notified().await;
            }
        }
    }

    /// Takes what was logged, unless an invocation is under way, which does so itself, or there were others than these.
    fn hear(&self, output: &Output, taken: Option<u64>) -> Heard {
        let mut desk = self.desk();
        if taken.is_some_and(|taken| taken != desk.taken) {
            return Heard::Invocation;
        }
        let Some(conversation) = &mut desk.conversation else { return Heard::Invocation };
        let mut taken = 0;
        loop {
            match conversation.parse_log() {
                Ok(Parsed::Log(message)) => output.record(message),
                Ok(Parsed::Other) | Err(_) => return Heard::End,
                Ok(Parsed::Part) if taken >= MAX_HEARD => return Heard::Something(taken),
                Ok(Parsed::Part) => match conversation.answers.try_read_buf(&mut conversation.buffer) {
                    Ok(0) => return Heard::End,
                    Ok(bytes) => taken += bytes as u64,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Heard::Something(taken);
                    }
                    Err(_) => return Heard::End,
                },
            }
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("no panic while held")
    }
}

impl Introduction {
    /// Whether it was read to its end: nothing of the function has run in a process that has not. To be asked before the
    /// process is given anything else to read.
    pub fn was_read(&self) -> bool {
        let mut unread: libc::c_int = 0;
        // SAFETY: `unread` lives on this stack; the descriptor is open as long as `self` is.
        let done = unsafe { libc::ioctl(self.pipe.as_raw_fd(), libc::FIONREAD, &raw mut unread) };
        done != 0 || unread == 0
    }
}

enum Heard {
    /// So many bytes, perhaps none.
    Something(u64),
    /// Nothing, because of an invocation.
    Invocation,
    /// The last that is a log event.
    End,
}

enum Parsed {
    /// A log event.
    Log(Bytes),
    /// The beginning of something, or nothing.
    Part,
    /// Something else, which is left where it is.
    Other,
}

impl Transport for Framed {
    /// Waits until the bootstrap has loaded the function.
    async fn ready(&mut self, process: &Process) -> Result<(), StartFailure> {
        match self.first_word(process).await {
            Ok(ready) => ready,
            Err(_) => Err(StartFailure::Exited(process.last_words().await)),
        }
    }

    async fn exchange(&self, process: &Process, invocation: Invocation, sink: StreamSink) -> InvokeResult {
        let Some(mut conversation) = self.line.take() else {
            // An earlier invocation was abandoned half-way; its answer could be taken for this one's.
            process.child.kill();
            return InvokeResult::Exited(Exit::Unknown);
        };
        match conversation.exchange(process, invocation, sink).await {
            Ok(result) => {
                self.line.put_back(conversation);
                result
            }
            Err(_) => InvokeResult::Exited(process.last_words().await),
        }
    }

    fn listen(&self, output: &Arc<Output>) -> Option<AbortHandle> {
        Some(tokio::spawn(self.line.clone().listen(output.clone())).abort_handle())
    }

    fn hear_rest(&self, output: &Output) {
        self.line.hear(output, None);
    }
}

impl Conversation {
    async fn exchange(
        &mut self,
        process: &Process,
        invocation: Invocation,
        sink: StreamSink,
    ) -> io::Result<InvokeResult> {
        let (meta, body) = event_frame(invocation);
        self.write(b'I', meta.as_bytes(), &body).await?;
        drop(body);
        let frame = self.read(process).await?;
        match frame.kind {
            Kind::Answer if frame.body.len() > MAX_ANSWER => {
                Ok(InvokeResult::ResponseTooLarge(frame.body.len() as u64))
            }
            Kind::Answer => Ok(InvokeResult::Answer(frame.body)),
            Kind::Error => {
                if frame.last {
                    process.ending();
                }
                Ok(InvokeResult::Error(frame.body))
            }
            Kind::StreamStart => self.relay(process, frame.meta, sink).await,
            kind => Err(out_of_turn(kind)),
        }
    }

    /// Passes chunks on as they come. A reader that has gone loses them; the function runs to its end.
    async fn relay(&mut self, process: &Process, meta: Bytes, sink: StreamSink) -> io::Result<InvokeResult> {
        let chunks = Chunks::open(sink, String::from_utf8_lossy(&meta).into_owned());
        let mut length = 0;
        loop {
            let frame = self.read(process).await?;
            match frame.kind {
                Kind::Chunk => {
                    length += frame.body.len() as u64;
                    chunks.send(frame.body).await;
                }
                Kind::StreamEnd => {
                    chunks.end();
                    return Ok(InvokeResult::Streamed(length));
                }
                Kind::StreamError => {
                    chunks.fail(frame.body);
                    return Ok(InvokeResult::StreamError);
                }
                kind => return Err(out_of_turn(kind)),
            }
        }
    }

    async fn write(&mut self, kind: u8, meta: &[u8], body: &[u8]) -> io::Result<()> {
        let mut head = Vec::with_capacity(HEAD + meta.len());
        head.extend_from_slice(&[kind, 0, 0, 0]);
        head.extend_from_slice(&(meta.len() as u32).to_le_bytes());
        head.extend_from_slice(&(body.len() as u32).to_le_bytes());
        head.extend_from_slice(meta);
        let mut parts = [IoSlice::new(&head), IoSlice::new(body)];
        write_together(&mut self.events, &mut parts).await
    }

    /// The next frame that is neither a log record, which goes to the output as it comes, nor about imports.
    async fn read(&mut self, process: &Process) -> io::Result<Frame> {
        loop {
            match self.parse()? {
                Some(Frame { kind: Kind::Log, body, .. }) => process.output.record(body),
                Some(Frame { kind: Kind::Imports, body, .. }) => process.imported(&body),
                Some(Frame { kind: Kind::Loading, .. }) => process.loads(),
                Some(frame) => return Ok(frame),
                None => self.read_more().await?,
            }
        }
    }

    async fn read_more(&mut self) -> io::Result<()> {
        loop {
            self.answers.readable().await?;
            match self.answers.try_read_buf(&mut self.buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes a whole frame off the buffer, if it is a log event.
    fn parse_log(&mut self) -> io::Result<Parsed> {
        match self.buffer.first() {
            Some(byte) if kind(*byte)? != Kind::Log => Ok(Parsed::Other),
            _ => Ok(self.parse()?.map_or(Parsed::Part, |frame| Parsed::Log(frame.body))),
        }
    }

    /// Takes a whole frame off the buffer, or makes room for the rest of it.
    fn parse(&mut self) -> io::Result<Option<Frame>> {
        let Some(head) = self.buffer.first_chunk::<HEAD>() else {
            self.buffer.reserve(4096);
            return Ok(None);
        };
        let (kind, last) = (kind(head[0])?, head[1] != 0);
        let length =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let (meta, body) = (length(4), length(8));
        if meta + body > MAX_FRAME {
            return Err(io::Error::other("a frame is larger than any answer may be"));
        }
        let missing = (HEAD + meta + body).saturating_sub(self.buffer.len());
        if missing > 0 {
            self.buffer.reserve(missing);
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        let meta = take(&mut self.buffer, meta);
        let body = take(&mut self.buffer, body);
        Ok(Some(Frame { kind, last, meta, body }))
    }
}

/// Meta text and body of an event.
fn event_frame(invocation: Invocation) -> (String, Bytes) {
    let body = match invocation.payload {
        Payload::Event(event) => event,
        Payload::Http(_) => Bytes::from_static(b"null"), // refused before it gets here
    };
    // JSON text may be laid out over lines, the meta fields may not.
    let line = |json: Option<String>| json.unwrap_or_default().replace(['\n', '\r'], " ");
    let meta = format!(
        "{}\n{}\n{}\n{}\n{}\n{}",
        invocation.request_id,
        invocation.deadline.as_millis(),
        invocation.invoked_arn,
        invocation.trace_id,
        line(invocation.client_context),
        line(invocation.cognito_identity),
    );
    (meta, body)
}

fn kind(byte: u8) -> io::Result<Kind> {
    Ok(match byte {
        b'R' => Kind::Ready,
        b'M' => Kind::Imports,
        b'X' => Kind::InitError,
        b'A' => Kind::Answer,
        b'E' => Kind::Error,
        b'S' => Kind::StreamStart,
        b'C' => Kind::Chunk,
        b'Z' => Kind::StreamEnd,
        b'F' => Kind::StreamError,
        b'L' => Kind::Log,
        b'G' => Kind::Loading,
        b'W' => Kind::Waits,
        other => return Err(io::Error::other(format!("no frame begins with byte {other}"))),
    })
}

fn out_of_turn(kind: Kind) -> io::Error {
    io::Error::other(format!("{kind:?} is not an answer to an event"))
}
