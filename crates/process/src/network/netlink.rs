//! Messages to the kernel's network configuration, and its answers: as much of netlink as a handful of fixed messages
//! needs. (The crates for it carry hundreds of kinds of messages, and none has both routes and packet rules.)
//!
//! Sources: `netlink(7)`, `rtnetlink(7)`, kernel documentation `userspace-api/netlink/intro.rst`.

use crate::kernel::unless_cut_off;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// `struct nlmsghdr`.
const HEAD: usize = 16;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
/// For what is made: it may be new, and goes after others.
pub const CREATE: u16 = 0x400;
pub const APPEND: u16 = 0x800;
/// An attribute that consists of attributes.
const NESTED: u16 = 0x8000;
const ERROR: u16 = 2;
/// The kernel answers while it is being asked; this is for one that does not.
const PATIENCE: Duration = Duration::from_secs(5);

/// Messages that go to the kernel together, in order.
#[derive(Default)]
pub struct Messages {
    bytes: Vec<u8>,
    begun: Option<usize>,
    count: u32,
    to_be_acknowledged: usize,
}

impl Messages {
    /// Begins a message with its fixed part. The kernel says what became of it.
    pub fn begin(&mut self, kind: u16, flags: u16, fixed: &[u8]) -> &mut Messages {
        self.to_be_acknowledged += 1;
        self.begin_unanswered(kind, flags | ACK, fixed)
    }

    /// Begins a message that the kernel answers in its own way, or not at all.
    pub fn begin_unanswered(&mut self, kind: u16, flags: u16, fixed: &[u8]) -> &mut Messages {
        self.end();
        self.begun = Some(self.bytes.len());
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend(0u32.to_ne_bytes());
        self.count += 1;
        self.pad(fixed)
    }

    /// Adds an attribute to the message.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Messages {
        self.bytes.extend((4 + value.len() as u16).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.pad(value)
    }

    /// Adds an attribute that consists of attributes.
    pub fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Messages)) -> &mut Messages {
        let start = self.bytes.len();
        self.bytes.extend(0u16.to_ne_bytes());
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        inner(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    fn pad(&mut self, value: &[u8]) -> &mut Messages {
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn end(&mut self) {
        if let Some(start) = self.begun.take() {
            let length = (self.bytes.len() - start) as u32;
            self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        }
    }
}

/// A socket to the kernel. What it configures is the network in which the socket was opened.
pub struct Netlink(OwnedFd);

impl Netlink {
    /// To the network that this process is in.
    pub fn here() -> io::Result<Netlink> {
        // SAFETY: the kernel gives a descriptor, which is ours from then on.
        unsafe {
            match libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) {
                fd @ 0.. => Netlink::over(OwnedFd::from_raw_fd(fd)),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }

    /// Over a socket of the family that was opened in another network.
    pub fn over(socket: OwnedFd) -> io::Result<Netlink> {
        super::sockets::give_up_after(&socket, PATIENCE)?;
        Ok(Netlink(socket))
    }

    /// Has the kernel carry out messages; the first failure is the result.
    pub fn carry_out(&self, mut messages: Messages) -> io::Result<()> {
        messages.end();
        if messages.count == 0 {
            return Ok(());
        }
        self.send(&messages.bytes)?;
        let mut left = messages.to_be_acknowledged;
        while left > 0 {
            for (kind, body) in parse(&self.receive()?) {
                match (kind, word(body, 0)) {
                    (ERROR, Some(0)) => left = left.saturating_sub(1),
                    (ERROR, Some(errno)) => return Err(io::Error::from_raw_os_error(-errno)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Asks the kernel one thing: the kind and body of its answer.
    pub fn ask(&self, mut message: Messages) -> io::Result<(u16, Vec<u8>)> {
        message.end();
        self.send(&message.bytes)?;
        let answer = self.receive()?;
        match parse(&answer).next() {
            Some((ERROR, body)) => Err(io::Error::from_raw_os_error(-word(body, 0).unwrap_or(-libc::EIO))),
            Some((kind, body)) => Ok((kind, body.to_vec())),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: the bytes outlive the call.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0u8; 8192];
        // SAFETY: the buffer outlives the call.
        let length = unless_cut_off(|| unsafe {
            libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0)
        });
        buffer.truncate(length.map_err(super::sockets::waited_in_vain)?);
        Ok(buffer)
    }
}

/// Kinds and bodies of the messages in a buffer.
fn parse(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = word(bytes, 0)? as usize;
        let message = bytes.get(..length).filter(|message| message.len() >= HEAD)?;
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, &message[HEAD..]))
    })
}

fn word(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..)?.first_chunk().map(|four| i32::from_ne_bytes(*four))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_attributes_are_measured_and_padded() {
        let mut messages = Messages::default();
        messages.begin(24, CREATE, &[1]).nest(3, |inner| _ = inner.attribute(7, b"abcde"));
        messages.begin(25, 0, &[]);
        messages.end();
        let found: Vec<_> = parse(&messages.bytes).collect();
        let nested = [16, 0, 3, 0x80, 9, 0, 7, 0, b'a', b'b', b'c', b'd', b'e', 0, 0, 0];
        assert_eq!(found, [(24, [&[1, 0, 0, 0][..], &nested].concat().as_slice()), (25, &[][..])]);
    }

    #[test]
    fn the_kernel_answers() {
        let kernel = Netlink::here().expect("a socket");
        let mut nonsense = Messages::default();
        nonsense.begin(16, 0, &[0; 16]);
        assert!(kernel.carry_out(nonsense).is_err(), "no link has index 0");
    }
}
