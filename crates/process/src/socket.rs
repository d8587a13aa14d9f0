//! The server's end of the socket to a sandbox's first process: one message each way at a time, with
//! descriptors.

use crate::kernel::unless_cut_off;
use crate::network::sockets::{give_up_after, waited_in_vain};
use crate::script::ops;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::time::Duration;

/// A first process that takes longer than this for a row of operations is stuck (a dead network mount, say).
const PATIENCE: Duration = Duration::from_secs(10);

/// The server's end. Whoever asks waits for the answer before the next may.
pub struct Control {
    socket: OwnedFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Rows that were sent and whose answers have not been read.
    unanswered: u32,
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
            Ok((Control { socket: ours, state: Mutex::default() }, theirs))
        }
    }

    /// Sends a row of operations with at most [`ops::MAX_FDS`] descriptors; its answer is read by the next
    /// [`Control::answer`].
    pub fn send(&self, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
        let mut state = self.state();
        self.transmit(bytes, fds)?;
        state.unanswered += 1;
        Ok(())
    }

    /// Sends a row whose outcome nobody asks for. What was answered to such rows meanwhile is taken away, so that answers
    /// never fill the socket.
    ///
    /// # Errors
    /// When the program has ended or the first process has gone.
    pub fn post(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        while state.unanswered > 0 {
            match self.receive(false) {
                Ok(reply) if reply.end().is_some() => {
                    state.ended = reply.end();
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(_) => state.unanswered -= 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.transmit(bytes, &[])?;
        state.unanswered += 1;
        Ok(())
    }

    /// The answer to the row that was sent last. Blocks until it comes.
    ///
    /// # Errors
    /// `UnexpectedEof` when the program has ended or the first process has gone; `TimedOut` when nothing came for
    /// 10 seconds.
    pub fn answer(&self) -> io::Result<Reply> {
        self.read_answer(&mut self.state())
    }

    /// Sends a row of operations and waits for its answer, as [`Control::answer`] does.
    pub fn ask(&self, bytes: &[u8], fds: &[RawFd]) -> io::Result<Reply> {
        let mut state = self.state();
        self.transmit(bytes, fds)?;
        state.unanswered += 1;
        self.read_answer(&mut state)
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

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    fn read_answer(&self, state: &mut State) -> io::Result<Reply> {
        loop {
            let reply = self.receive(true).map_err(waited_in_vain)?;
            if let Some(end) = reply.end() {
                state.ended = Some(end);
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            state.unanswered = state.unanswered.saturating_sub(1);
            if state.unanswered == 0 {
                return Ok(reply);
            }
        }
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
        match length {
            12 => Ok(Reply { errno: words[0], place: words[1], number: words[2], descriptors }),
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

    #[test]
    fn the_answer_is_that_to_the_last_row_and_the_end_is_remembered() {
        let (control, theirs) = Control::pair().expect("a pair");
        let theirs = Control { socket: theirs, state: Mutex::default() };
        let words = |words: [u32; 3]| words.map(u32::to_le_bytes).concat();
        control.send(&[1], &[]).expect("sent");
        for place in [1, 2] {
            theirs.transmit(&words([0, place, 0]), &[]).expect("sent");
        }
        theirs.transmit(&words([ops::ENDED, 9, 2048]), &[]).expect("sent");
        assert_eq!(control.ask(&[2], &[]).expect("an answer").place, 2);
        assert_eq!(kind(control.ask(&[3], &[])), io::ErrorKind::UnexpectedEof);
        drop(theirs);
        assert_eq!(control.last_word(), Some(End { status: 9, max_resident_kib: 2048 }));
    }

    #[test]
    fn who_waits_in_vain_is_not_told_that_the_machine_has_no_room() {
        let (control, _theirs) = Control::pair().expect("a pair");
        give_up_after(&control.socket, Duration::from_secs(1)).expect("set");
        let error = control.ask(&[1], &[]).map(|_| ()).expect_err("nobody answers");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(crate::launch::no_room(&error).is_none(), "{error}");
    }

    #[test]
    fn replies_bring_descriptors() {
        let (control, theirs) = Control::pair().expect("a pair");
        let theirs = Control { socket: theirs, state: Mutex::default() };
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
