//! The server's end of the socket to a sandbox's first process: messages each way, with descriptors. Rows of operations
//! are answered in the order in which they were sent, so each reader keeps what others wait for.

use crate::kernel::unless_cut_off;
use crate::network::sockets::{give_up_after, waited_in_vain};
use crate::script::ops;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// A first process that takes longer than this for a row of operations is stuck (a dead network mount, say).
const PATIENCE: Duration = Duration::from_secs(10);

/// The server's end.
pub struct Control {
    socket: OwnedFd,
    state: Mutex<State>,
    /// Held by the task that asks.
    turn: tokio::sync::Mutex<()>,
    /// Somebody else has read what it waits for.
    kept: Notify,
}

#[derive(Default)]
struct State {
    /// Rows that were sent, and those of them whose answers have been read. Rows are called by their number.
    sent: u64,
    read: u64,
    /// Rows whose answers are waited for, and those that are there: at most that of a thread and that of a task.
    wanted: BTreeMap<u64, Option<Reply>>,
    of_thread: u64,
    of_task: u64,
    /// What was told of the program's end.
    ended: Option<End>,
}

/// What a sandbox's first process tells of its program's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// A wait status.
    pub status: u32,
    /// The most resident memory that the program had, in KiB (`ru_maxrss` of getrusage(2)).
    pub max_resident_kib: u32,
}

/// What the first process answers to a row of operations.
pub struct Reply {
    /// What failed: an errno, 0 for nothing.
    pub errno: u32,
    /// Which operation that was.
    pub place: u32,
    /// A number that it gave.
    number: u32,
    /// What came with it, in order.
    pub descriptors: Vec<OwnedFd>,
}

/// The ancillary part of a message: a `cmsghdr` and its descriptors.
#[repr(C)]
struct Ancillary {
    head: libc::cmsghdr,
    fds: [RawFd; ops::MAX_GIVEN],
}

impl Control {
    /// Both ends.
    pub fn pair() -> io::Result<(Control, OwnedFd)> {
        let mut fds = [0; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        // SAFETY: the kernel fills two descriptors, which are ours from then on.
        unsafe {
            if libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) < 0 {
                return Err(io::Error::last_os_error());
            }
            let (ours, theirs) = (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]));
            give_up_after(&ours, PATIENCE)?;
            Ok((Control::over(ours), theirs))
        }
    }

    fn over(socket: OwnedFd) -> Control {
        Control { socket, state: Mutex::default(), turn: Default::default(), kept: Notify::new() }
    }

    /// Sends a row of operations with at most [`ops::MAX_FDS`] descriptors; its answer is read by the next
    /// [`Control::answer`].
    pub fn send(&self, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
        let mut state = self.state();
        let before = state.of_thread;
        state.of_thread = self.want(&mut state, before, bytes, fds)?;
        Ok(())
    }

    /// The answer to the row that was sent last. Blocks until it comes.
    ///
    /// # Errors
    /// `UnexpectedEof` when the program has ended or the first process has gone; `TimedOut` when nothing came for
    /// 10 seconds.
    pub fn answer(&self) -> io::Result<Reply> {
        let mut state = self.state();
        loop {
            let row = state.of_thread;
            if let Some(reply) = state.taken(row) {
                return Ok(reply);
            }
            self.read(&mut state, true).map_err(waited_in_vain)?;
        }
    }

    /// Sends a row of operations and waits for its answer, for as long as that takes: a sandbox that is frozen gives none.
    /// No thread waits, and nobody who posts; who asks next does. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `UnexpectedEof` when the program has ended or the first process has gone.
    pub async fn ask(&self, bytes: &[u8]) -> io::Result<Reply> {
        let _turn = self.turn.lock().await;
        let row = {
            let mut state = self.state();
            let before = state.of_task;
            state.of_task = self.want(&mut state, before, bytes, &[])?;
            state.of_task
        };
        // SAFETY: the socket is open as long as `self` is, and with the turn nobody else has it registered.
        let socket = unsafe { AsyncFd::register_with_interest(self.socket.as_fd(), Interest::READABLE)? };
        loop {
            if let Some(reply) = self.look_for(row)? {
                return Ok(reply);
            }
            tokio::select! {
                ready = socket.readable() => ready?.clear_ready(),
                () = self.kept.notified() => {}
            }
        }
    }

    /// Sends a row whose outcome nobody asks for. What was answered to such rows meanwhile is taken away, so that answers
    /// never fill the socket.
    ///
    /// # Errors
    /// When the program has ended or the first process has gone.
    pub fn post(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        self.read_all(&mut state)?;
        self.transmit(bytes, &[])?;
        state.sent += 1;
        Ok(())
    }

    /// What the first process told of the program's end before it went.
    pub fn last_word(&self) -> Option<End> {
        let mut state = self.state();
        while state.ended.is_none() {
            match self.receive(false) {
                Ok(reply) => state.ended = reply.end(),
                Err(_) => break,
            }
        }
        state.ended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// Sends a row whose answer is waited for, and no more that to the one `before`; its number.
    fn want(&self, state: &mut State, before: u64, bytes: &[u8], fds: &[RawFd]) -> io::Result<u64> {
        self.transmit(bytes, fds)?;
        state.sent += 1;
        state.wanted.remove(&before);
        state.wanted.insert(state.sent, None);
        Ok(state.sent)
    }

    /// The answer to a row that a task waits for, if it is there.
    fn look_for(&self, row: u64) -> io::Result<Option<Reply>> {
        let mut state = self.state();
        // What was read before the end is no less true after it.
        let read = self.read_all(&mut state);
        let reply = state.taken(row);
        if reply.is_none() { read.map(|()| None) } else { Ok(reply) }
    }

    /// Reads the answers that are there.
    fn read_all(&self, state: &mut State) -> io::Result<()> {
        loop {
            match self.read(state, false) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads one answer, and keeps it if somebody waits for it.
    fn read(&self, state: &mut State, wait: bool) -> io::Result<()> {
        let reply = self.receive(wait)?;
        if let Some(end) = reply.end() {
            state.ended = Some(end);
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        state.read += 1;
        if let Some(place) = state.wanted.get_mut(&state.read) {
            *place = Some(reply);
            self.kept.notify_one();
        }
        Ok(())
    }

    fn transmit(&self, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
        let mut ancillary = empty();
        let mut message = head();
        let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        message.msg_iov = &raw mut iov;
        if !fds.is_empty() {
            ancillary.fds[..fds.len()].copy_from_slice(fds);
            let length = size_of::<libc::cmsghdr>() + size_of_val(fds);
            ancillary.head.cmsg_level = libc::SOL_SOCKET;
            ancillary.head.cmsg_type = libc::SCM_RIGHTS;
            ancillary.head.cmsg_len = length as _;
            message.msg_control = (&raw mut ancillary).cast();
            message.msg_controllen = length as _;
        }
        // SAFETY: everything that the message points to lives on this stack or in `bytes`.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next reply. Without `wait` it is an error at once when there is none.
    fn receive(&self, wait: bool) -> io::Result<Reply> {
        let mut words = [0u32; 3];
        let mut ancillary = empty();
        let mut message = head();
        let mut iov = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(&words) };
        message.msg_iov = &raw mut iov;
        message.msg_control = (&raw mut ancillary).cast();
        message.msg_controllen = size_of::<Ancillary>() as _;
        let flags = libc::MSG_CMSG_CLOEXEC | if wait { 0 } else { libc::MSG_DONTWAIT };
        // SAFETY: everything that the message points to lives on this stack. After a failure nothing has been filled
        // in, least of all a descriptor.
        let length =
            unless_cut_off(|| unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, flags) })?;
        let came = match message.msg_controllen >= size_of::<libc::cmsghdr>() {
            true => (ancillary.head.cmsg_len - size_of::<libc::cmsghdr>()) / size_of::<RawFd>(),
            false => 0,
        };
        // SAFETY: the kernel has put that many open descriptors there for us.
        let own = |fd: &RawFd| unsafe { OwnedFd::from_raw_fd(*fd) };
        let descriptors = ancillary.fds[..came].iter().map(own).collect();
        // Where this process may have no more descriptors the kernel keeps the rest.
        let cut_off = words[0] == 0 && message.msg_flags & libc::MSG_CTRUNC != 0;
        let errno = if cut_off { libc::EMFILE as u32 } else { words[0] };
        match length {
            12 => Ok(Reply { errno, place: words[1], number: words[2], descriptors }),
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Err(io::Error::other("the sandbox's first process spoke out of turn")),
        }
    }

    /// Tells the first process to end everything and go.
    pub fn close(&self) {
        // SAFETY: shutdown takes a descriptor that we own and touches no memory.
        unsafe { libc::shutdown(self.socket.as_raw_fd(), libc::SHUT_RDWR) };
    }
}

impl State {
    /// The answer to a row, if it was read.
    fn taken(&mut self, row: u64) -> Option<Reply> {
        self.wanted.get(&row)?.as_ref()?;
        self.wanted.remove(&row).flatten()
    }
}

impl Reply {
    /// What it tells of the program's end, when it is no answer but that.
    fn end(&self) -> Option<End> {
        (self.errno == ops::ENDED).then_some(End { status: self.place, max_resident_kib: self.number })
    }
}

fn empty() -> Ancillary {
    // SAFETY: plain numbers, for which all zeros is valid.
    unsafe { std::mem::zeroed() }
}

fn head() -> libc::msghdr {
    // SAFETY: pointers and numbers, for which all zeros is valid; the caller fills in what it uses.
    let mut head: libc::msghdr = unsafe { std::mem::zeroed() };
    head.msg_iovlen = 1;
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_reply_whose_descriptors_did_not_all_arrive_says_so() {
        #[repr(C)]
        struct More(Ancillary, [RawFd; 8]);
        let (control, theirs) = Control::pair().expect("a pair");
        let (_reader, writer) = io::pipe().expect("a pipe");
        let mut more = More(empty(), [writer.as_raw_fd(); 8]);
        more.0.fds = [writer.as_raw_fd(); ops::MAX_GIVEN];
        let (level, kind) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        more.0.head = libc::cmsghdr { cmsg_len: size_of::<More>() as _, cmsg_level: level, cmsg_type: kind };
        let words = [0u8; 12];
        let mut iov = libc::iovec { iov_base: words.as_ptr().cast_mut().cast(), iov_len: words.len() };
        let mut message = head();
        (message.msg_iov, message.msg_control) = (&raw mut iov, (&raw mut more).cast());
        message.msg_controllen = size_of::<More>() as _;
        // SAFETY: everything that the message points to lives on this stack.
        assert_eq!(unsafe { libc::sendmsg(theirs.as_raw_fd(), &raw const message, 0) }, 12);
        let reply = control.receive(true).expect("received");
        assert_eq!((reply.errno, reply.descriptors.len()), (libc::EMFILE as u32, ops::MAX_GIVEN));
    }

    fn kind(result: io::Result<Reply>) -> io::ErrorKind {
        result.map(|_| ()).expect_err("an error").kind()
    }

    #[test]
    fn nothing_to_receive_closes_nothing() {
        let (control, theirs) = Control::pair().expect("a pair");
        let before = io::stdin().as_fd().try_clone_to_owned().is_ok();
        assert_eq!(kind(control.receive(false)), io::ErrorKind::WouldBlock);
        drop(theirs);
        assert_eq!(kind(control.receive(true)), io::ErrorKind::UnexpectedEof);
        assert_eq!(io::stdin().as_fd().try_clone_to_owned().is_ok(), before);
    }

    fn words(words: [u32; 3]) -> Vec<u8> {
        words.map(u32::to_le_bytes).concat()
    }

    #[test]
    fn the_answer_is_that_to_the_last_row_and_the_end_is_remembered() {
        let (control, theirs) = Control::pair().expect("a pair");
        let theirs = Control::over(theirs);
        control.send(&[1], &[]).expect("sent");
        control.send(&[2], &[]).expect("sent");
        for place in [1, 2] {
            theirs.transmit(&words([0, place, 0]), &[]).expect("sent");
        }
        theirs.transmit(&words([ops::ENDED, 9, 2048]), &[]).expect("sent");
        assert_eq!(control.answer().expect("an answer").place, 2);
        control.send(&[3], &[]).expect("sent");
        assert_eq!(kind(control.answer()), io::ErrorKind::UnexpectedEof);
        drop(theirs);
        assert_eq!(control.last_word(), Some(End { status: 9, max_resident_kib: 2048 }));
    }

    #[tokio::test]
    async fn who_asks_a_sandbox_that_is_frozen_holds_up_nobody_and_has_the_answer_when_it_is_thawed() {
        let (control, theirs) = Control::pair().expect("a pair");
        let theirs = Control::over(theirs);
        let mut asked: Vec<_> = [b"1", b"2"].into_iter().map(|row| Box::pin(control.ask(row))).collect();
        let poll = async |asked: &mut Vec<_>| {
            for ask in asked {
                let pending = std::future::poll_fn(|context| {
                    std::task::Poll::Ready(Future::poll(std::pin::Pin::as_mut(ask), context).is_pending())
                });
                assert!(pending.await);
            }
        };
        poll(&mut asked).await;
        let began = std::time::Instant::now();
        control.post(&[3]).expect("sent");
        assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
        // Whoever posts next reads what the first task waits for.
        theirs.transmit(&words([0, 1, 0]), &[]).expect("sent");
        theirs.transmit(&words([0, 3, 0]), &[]).expect("sent");
        control.post(&[4]).expect("sent");
        assert_eq!(asked.remove(0).await.expect("an answer").place, 1);
        poll(&mut asked).await;
        // And the second is not given the answer to what was posted.
        for place in [4, 2] {
            theirs.transmit(&words([0, place, 0]), &[]).expect("sent");
        }
        assert_eq!(asked.remove(0).await.expect("an answer").place, 2);
        control.send(&[5], &[]).expect("sent");
        theirs.transmit(&words([0, 5, 0]), &[]).expect("sent");
        assert_eq!(control.answer().expect("an answer").place, 5);
    }

    #[tokio::test]
    async fn who_asks_hears_of_the_end() {
        let (control, theirs) = Control::pair().expect("a pair");
        let theirs = Control::over(theirs);
        let ended = async {
            tokio::task::yield_now().await;
            theirs.close();
        };
        let (asked, ()) = tokio::join!(control.ask(&[1]), ended);
        assert_eq!(kind(asked), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn who_waits_in_vain_is_not_told_that_the_machine_has_no_room() {
        let (control, _theirs) = Control::pair().expect("a pair");
        give_up_after(&control.socket, Duration::from_secs(1)).expect("set");
        control.send(&[1], &[]).expect("sent");
        let error = control.answer().map(|_| ()).expect_err("nobody answers");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(crate::launch::no_room(&error).is_none(), "{error}");
    }

    #[test]
    fn replies_bring_descriptors() {
        let (control, theirs) = Control::pair().expect("a pair");
        let theirs = Control::over(theirs);
        let (_reader, writer) = io::pipe().expect("a pipe");
        theirs.transmit(&[7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], &[writer.as_raw_fd(); 3]).expect("sent");
        let reply = control.receive(true).expect("received");
        assert_eq!((reply.errno, reply.place, reply.descriptors.len()), (7, 1, 3));
        theirs.transmit(&[0; 12], &[]).expect("sent");
        assert!(control.receive(true).expect("received").descriptors.is_empty());
        theirs.transmit(&[0; 4], &[]).expect("sent");
        assert_eq!(kind(control.receive(true)), io::ErrorKind::Other);
    }
}
