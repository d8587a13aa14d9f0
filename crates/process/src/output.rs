//! An instance's stdout and stderr, as log events.
//!
//! Two readers share the pipe: a task that follows it so that lines appear while a function runs, and the end
//! of each invocation, which empties it before the answer goes out. The function wrote its lines before its
//! answer, so they are in the pipe by then; which of the two takes them does not matter.

use bytes::{Bytes, BytesMut};
use model::{RequestId, Time, Timestamp};
use policy::pace::Pace;
use ports::{LogEvent, LogSink, MAX_MESSAGE};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// What the end of an invocation takes from the pipe at most: bytes. As much as a pipe holds, when the function has made
/// it as large as it may: who writes faster than this reads must not keep the answer.
const MAX_DRAIN: usize = 1 << 20;

/// What whoever follows takes at once, and the pause when there was more: while this thread takes in lines it answers no
/// request, and one that only gave way to other tasks would still be at it before the next event is looked for.
const TURN: usize = 16 << 10;
const PAUSE: Duration = Duration::from_millis(1);

/// Lines are followed at once up to this many bytes, and then at this many a second: to take in what functions write costs
/// processor time that their neighbours' requests need, and a pipe that is full costs its function's. The burst is a
/// quarter of what is kept of a log by default.
const BURST: u64 = 8 << 20;
const RATE: u64 = 4 << 20;

/// Whoever follows what a function writes takes it at this pace.
pub struct Paced {
    began: tokio::time::Instant,
    pace: Pace,
}

impl Paced {
    /// Nothing was taken yet.
    pub fn new() -> Paced {
        Paced { began: tokio::time::Instant::now(), pace: Pace::new(BURST, RATE) }
    }

    /// So many bytes were taken; resolves when more may be, and not before `least` has passed.
    pub async fn took(&mut self, bytes: u64, least: Duration) {
        let pause = self.pace.took(Time(self.began.elapsed().as_nanos() as u64), bytes).max(least);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Milliseconds since 1970.
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_millis() as u64)
}

/// The lines of one instance.
pub struct Output {
    pipe: AsyncFd<std::fs::File>,
    lines: Mutex<Lines>,
}

struct Lines {
    partial: BytesMut,
    request: Option<RequestId>,
    sink: Arc<dyn LogSink>,
    stream: Arc<str>,
}

impl Output {
    /// The reader, and the end that is given to the process.
    pub fn new(sink: Arc<dyn LogSink>, stream: Arc<str>) -> io::Result<(Arc<Output>, OwnedFd)> {
        let (reader, writer) = io::pipe()?;
        let file = std::fs::File::from(OwnedFd::from(reader));
        set_nonblocking(&file)?;
        // SAFETY: the file owns its descriptor, which stays registered exactly as long as it is open.
        let pipe = unsafe { AsyncFd::register(file)? };
        let lines = Mutex::new(Lines { partial: BytesMut::new(), request: None, sink, stream });
        Ok((Arc::new(Output { pipe, lines }), writer.into()))
    }

    /// Follows the pipe until its last writer is gone.
    pub async fn follow(self: Arc<Output>) {
        let mut pace = Paced::new();
        loop {
            let Ok(mut ready) = self.pipe.readable().await else { return };
            let (mut taken, mut least) = (0, Duration::ZERO);
            match self.drain(TURN, &mut taken) {
                Ok(Drained::Empty) => ready.clear_ready(),
                Ok(Drained::Partly) => least = PAUSE,
                Ok(Drained::Ended) | Err(_) => return self.flush(),
            }
            pace.took(taken, least).await;
        }
    }

    /// Lines from here on go to `sink`, as lines of `stream`: what is in the pipe, or has no end yet, was written before.
    pub fn belong_to(&self, sink: Arc<dyn LogSink>, stream: Arc<str>) {
        self.finish();
        let mut lines = self.lines.lock().expect("no panic while held");
        (lines.sink, lines.stream) = (sink, stream);
    }

    /// Lines from here on belong to `request`.
    pub fn begin(&self, request: Option<RequestId>) {
        self.lines.lock().expect("no panic while held").request = request;
    }

    /// Takes everything that is in the pipe now, including a last line without an end.
    pub fn finish(&self) {
        // After most invocations nothing is: no buffer is made ready for that.
        if pending(self.pipe.get_ref()) {
            let _ = self.drain(MAX_DRAIN, &mut 0);
        }
        self.flush();
    }

    /// A record that came over the transport, already whole.
    pub fn record(&self, mut message: Bytes) {
        let lines = self.lines.lock().expect("no panic while held");
        while message.len() > MAX_MESSAGE {
            lines.emit(message.split_to(MAX_MESSAGE));
        }
        lines.emit(message);
    }

    /// Takes what is there, up to `most`, and adds to `taken` how many bytes that were.
    fn drain(&self, most: usize, taken: &mut u64) -> io::Result<Drained> {
        let mut lines = self.lines.lock().expect("no panic while held");
        let mut buffer = [0; TURN];
        for _ in 0..most / buffer.len() {
            match (&mut self.pipe.get_ref()).read(&mut buffer) {
                Ok(0) => return Ok(Drained::Ended),
                Ok(n) => {
                    let full = n == buffer.len();
                    *taken += n as u64;
                    lines.partial.extend_from_slice(&buffer[..n]);
                    lines.split();
                    if !full {
                        return Ok(Drained::Empty);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Drained::Empty),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Drained::Partly)
    }

    fn flush(&self) {
        let mut lines = self.lines.lock().expect("no panic while held");
        if !lines.partial.is_empty() {
            let rest = lines.partial.split().freeze();
            lines.emit(rest);
        }
    }
}

impl Lines {
    fn split(&mut self) {
        while let Some(end) = memchr::memchr(b'\n', &self.partial) {
            let mut line = self.partial.split_to(end + 1).freeze();
            line.truncate(end);
            while line.len() > MAX_MESSAGE {
                self.emit(line.split_to(MAX_MESSAGE));
            }
            self.emit(line);
        }
        while self.partial.len() > MAX_MESSAGE {
            let piece = self.partial.split_to(MAX_MESSAGE).freeze();
            self.emit(piece);
        }
    }

    fn emit(&self, message: Bytes) {
        let (request_id, stream) = (self.request, self.stream.clone());
        self.sink.write(LogEvent { at: now(), stream, request_id, message });
    }
}

enum Drained {
    Empty,
    /// There may be more.
    Partly,
    Ended,
}

/// Whether bytes wait in the pipe.
fn pending(pipe: &std::fs::File) -> bool {
    use std::os::fd::AsRawFd;
    let mut count: libc::c_int = 0;
    // SAFETY: `pipe` owns the descriptor; `count` lives on this stack for the call.
    let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    result != 0 || count != 0
}

fn set_nonblocking(file: &std::fs::File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: fcntl on a descriptor that `file` owns.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[derive(Default)]
    struct Lengths(Mutex<Vec<usize>>);

    impl LogSink for Lengths {
        fn write(&self, event: LogEvent) {
            self.0.lock().expect("no panic while held").push(event.message.len());
        }
    }

    impl Lengths {
        fn taken(&self) -> Vec<usize> {
            std::mem::take(&mut *self.0.lock().expect("no panic while held"))
        }
    }

    fn output() -> (Arc<Lengths>, Arc<Output>, std::fs::File) {
        let sink = Arc::new(Lengths::default());
        let (output, writer) = Output::new(sink.clone(), "s".into()).expect("a pipe");
        (sink, output, writer.into())
    }

    #[tokio::test]
    async fn no_event_is_longer_than_a_message_may_be() {
        let (sink, output, mut pipe) = output();
        output.record(vec![b'x'; 2 * MAX_MESSAGE + 1].into());
        assert_eq!(sink.taken(), [MAX_MESSAGE, MAX_MESSAGE, 1]);
        // A line without an end, and then its end, in pieces that a pipe holds.
        for _ in 0..9 {
            pipe.write_all(&[b'x'; 32 * 1024]).expect("written");
            output.drain(MAX_DRAIN, &mut 0).expect("read");
        }
        pipe.write_all(b"y\nshort\n").expect("written");
        output.finish();
        assert_eq!(sink.taken(), [MAX_MESSAGE, 32 * 1024 + 1, 5]);
    }

    #[tokio::test]
    async fn whoever_follows_a_flood_takes_it_in_turns_between_which_others_have_the_thread() {
        let (sink, output, mut pipe) = output();
        let flood = std::thread::spawn(move || while pipe.write_all(&[b'\n'; 4096]).is_ok() {});
        let follower = tokio::spawn(output.follow());
        let (mut most, mut all) = (0, 0);
        while all < 20 * TURN {
            // On the same thread.
            tokio::task::yield_now().await;
            let taken = sink.taken().len();
            (most, all) = (most.max(taken), all + taken);
        }
        assert!(most <= TURN, "{most} lines at once");
        follower.abort();
        assert!(follower.await.is_err_and(|error| error.is_cancelled()));
        flood.join().expect("it ended with its pipe");
    }

    #[tokio::test]
    async fn what_was_written_before_somebody_owned_it_is_not_theirs() {
        let (nobody, output, mut pipe) = output();
        let function = Arc::new(Lengths::default());
        pipe.write_all(b"a whole line\nand one without").expect("written");
        output.belong_to(function.clone(), "f".into());
        pipe.write_all(b"own\n").expect("written");
        output.finish();
        assert_eq!((nobody.taken(), function.taken()), (vec![12, 15], vec![3]));
    }

    #[tokio::test]
    async fn whoever_writes_without_end_does_not_hold_up_the_end_of_an_invocation() {
        let (sink, output, mut pipe) = output();
        let flood = std::thread::spawn(move || while pipe.write_all(&[b'\n'; 4096]).is_ok() {});
        for _ in 0..20 {
            output.finish();
        }
        drop(output);
        flood.join().expect("it ended with its pipe");
        assert!(sink.taken().len() <= 20 * (MAX_DRAIN + 1));
    }
}
