//! Messages between the server and a process that it tells what to do.

use crate::ops::*;
use crate::sys::sys;

pub const EINVAL: i32 = 22;
const EINTR: isize = -4;

/// A NUL-terminated text, and its length without the NUL.
#[derive(Clone, Copy)]
pub struct Text(pub *const u8, pub usize);

/// What came with a message.
pub struct Message<'a> {
    pub rest: &'a [u8],
    pub fds: [i32; MAX_FDS],
}

/// Memory that the kernel gives page by page, when it is used.
#[repr(transparent)]
pub struct Reserved<T>(pub core::cell::UnsafeCell<T>);

// SAFETY: whoever uses it has one thread.
unsafe impl<T> Sync for Reserved<T> {}

/// Success, or an errno.
pub type Step<T> = Result<T, i32>;

#[repr(C)]
struct Iovec {
    base: *mut u8,
    length: usize,
}

#[repr(C)]
struct Msghdr {
    name: usize,
    name_length: u32,
    iov: *mut Iovec,
    iov_count: usize,
    control: *mut u8,
    control_length: usize,
    flags: i32,
}

/// A `cmsghdr` with room for `N` descriptors.
#[repr(C)]
struct Control<const N: usize> {
    length: usize,
    level: i32,
    kind: i32,
    fds: [i32; N],
}

const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const CONTROL_HEAD: usize = 16;

/// The next message; `None` when the server is gone or has let go.
pub fn receive(buffer: &mut [u8; MAX_MESSAGE]) -> Option<Message<'_>> {
    const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
    let mut control = Control::<MAX_FDS> { length: 0, level: 0, kind: 0, fds: [-1; MAX_FDS] };
    let mut iov = Iovec { base: buffer.as_mut_ptr(), length: buffer.len() };
    let mut head = Msghdr {
        name: 0,
        name_length: 0,
        iov: &raw mut iov,
        iov_count: 1,
        control: (&raw mut control).cast(),
        control_length: size_of::<Control<MAX_FDS>>(),
        flags: 0,
    };
    let length = retry(|| sys!(RECVMSG, CONTROL_FD, &raw mut head, MSG_CMSG_CLOEXEC));
    if length <= 0 {
        return None;
    }
    Some(Message { rest: &buffer[..length as usize], fds: control.fds })
}

pub fn reply(words: [u32; 3], given: &[i32]) {
    const MSG_NOSIGNAL: usize = 0x4000;
    let mut fds = [-1; MAX_GIVEN];
    for (place, fd) in fds.iter_mut().zip(given) {
        *place = *fd;
    }
    let length = CONTROL_HEAD + size_of_val(given);
    let mut control = Control { length, level: SOL_SOCKET, kind: SCM_RIGHTS, fds };
    let mut iov = Iovec { base: words.as_ptr().cast_mut().cast(), length: 12 };
    let head = Msghdr {
        name: 0,
        name_length: 0,
        iov: &raw mut iov,
        iov_count: 1,
        control: (&raw mut control).cast(),
        control_length: if given.is_empty() { 0 } else { length.next_multiple_of(8) },
        flags: 0,
    };
    retry(|| sys!(SENDMSG, CONTROL_FD, &raw const head, MSG_NOSIGNAL));
}

impl<'a> Message<'a> {
    pub fn text(&mut self) -> Step<Text> {
        let end = self.rest.iter().position(|&byte| byte == 0).ok_or(EINVAL)?;
        let text = Text(self.rest.as_ptr(), end);
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }

    pub fn number(&mut self) -> Step<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub fn take(&mut self, length: usize) -> Step<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(EINVAL)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A counted row of texts, as pointers with a null after the last.
    pub fn texts(&mut self, places: &mut [usize]) -> Step<()> {
        let count = self.number()? as usize;
        let places = places.get_mut(..count + 1).ok_or(EINVAL)?;
        for place in &mut places[..count] {
            *place = self.text()?.0 as usize;
        }
        places[count] = 0;
        Ok(())
    }
}

pub fn check(result: isize) -> Step<()> {
    if result < 0 { Err(-result as i32) } else { Ok(()) }
}

pub fn retry(mut call: impl FnMut() -> isize) -> isize {
    loop {
        match call() {
            EINTR => {}
            result => return result,
        }
    }
}

pub fn close(fd: i32) {
    if fd >= 0 {
        sys!(CLOSE, fd);
    }
}
