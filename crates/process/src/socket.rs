//! The server's end of the socket to a sandbox's first process: one message each way at a time, with
//! descriptors.

use crate::script::ops;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A first process that takes longer than this for a row of operations is stuck (a dead network mount, say).
const PATIENCE_S: libc::time_t = 10;

/// The server's end.
pub struct Control(OwnedFd);

/// What the first process answers to a row of operations, or tells at the end.
pub struct Reply {
    /// What failed: an errno, 0 for nothing, [`ops::ENDED`] when the program has ended.
    pub errno: u32,
    /// Which operation that was; for [`ops::ENDED`] the wait status.
    pub place: u32,
    /// What came with it.
    pub descriptor: Option<OwnedFd>,
}

/// The ancillary part of a message: a `cmsghdr` and its descriptors.
#[repr(C)]
struct Ancillary {
    head: libc::cmsghdr,
    fds: [RawFd; ops::MAX_FDS],
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
            let limit = libc::timeval { tv_sec: PATIENCE_S, tv_usec: 0 };
            let (value, length) = ((&raw const limit).cast(), size_of::<libc::timeval>() as u32);
            libc::setsockopt(ours.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, value, length);
            Ok((Control(ours), theirs))
        }
    }

    /// Sends one message with at most [`ops::MAX_FDS`] descriptors.
    pub fn send(&self, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
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
        let sent = unsafe { libc::sendmsg(self.0.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next reply.
    ///
    /// # Errors
    /// `UnexpectedEof` when the first process has gone; `WouldBlock` when there is none: at once without `wait`,
    /// else after 10 seconds.
    pub fn receive(&self, wait: bool) -> io::Result<Reply> {
        let mut words = [0u32; 3];
        let mut ancillary = empty();
        let mut message = head();
        let mut iov = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(&words) };
        message.msg_iov = &raw mut iov;
        message.msg_control = (&raw mut ancillary).cast();
        message.msg_controllen = size_of::<Ancillary>() as _;
        let flags = libc::MSG_CMSG_CLOEXEC | if wait { 0 } else { libc::MSG_DONTWAIT };
        // SAFETY: everything that the message points to lives on this stack.
        let length = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, flags) };
        if length < 0 {
            // Nothing has been filled in, least of all a descriptor.
            return Err(io::Error::last_os_error());
        }
        let came = message.msg_controllen >= size_of::<libc::cmsghdr>() + size_of::<RawFd>();
        // SAFETY: the kernel has put an open descriptor there for us.
        let descriptor = came.then(|| unsafe { OwnedFd::from_raw_fd(ancillary.fds[0]) });
        match length {
            12 => Ok(Reply { errno: words[0], place: words[1], descriptor }),
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Err(io::Error::other("the sandbox's first process spoke out of turn")),
        }
    }

    /// Tells the first process to end everything and go.
    pub fn close(&self) {
        // SAFETY: shutdown takes a descriptor that we own and touches no memory.
        unsafe { libc::shutdown(self.0.as_raw_fd(), libc::SHUT_RDWR) };
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
    fn a_reply_brings_a_descriptor() {
        let (control, theirs) = Control::pair().expect("a pair");
        let theirs = Control(theirs);
        let (_reader, writer) = io::pipe().expect("a pipe");
        theirs.send(&[7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], &[writer.as_raw_fd()]).expect("sent");
        let reply = control.receive(true).expect("received");
        assert_eq!((reply.errno, reply.place, reply.descriptor.is_some()), (7, 1, true));
        theirs.send(&[0; 12], &[]).expect("sent");
        assert!(control.receive(true).expect("received").descriptor.is_none());
        theirs.send(&[0; 4], &[]).expect("sent");
        assert_eq!(kind(control.receive(true)), io::ErrorKind::Other);
    }
}
