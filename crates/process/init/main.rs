//! The first process of every sandbox: builds it from inside as the server says, starts the function's
//! program, buries whatever dies there, tells how the program ended, and goes.
//!
//! It is a program of its own, a few pages large and without a C library, because one lives in every sandbox:
//! a copy of the server would bring the server's memory with it. As process 1 of a process namespace it takes
//! everything else in the sandbox along when it ends; without a namespace it adopts what its children leave
//! behind and ends that first. It ends when the program does, when the server closes the socket, and with
//! the server.

#![no_std]
#![no_main]

mod ops;
mod sys;

use ops::*;
use sys::sys;

core::arch::global_asm!(".globl _start", "_start:", sys::start!(), main = sym main);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    end(101)
}

/// Where a program that is given a transport writes; it reads at [`CONTROL_FD`]. Taken by this process's own signals
/// until then, so nothing that came with a message is there.
const ANSWERS_FD: i32 = 4;

const EINVAL: i32 = 22;
const EINTR: isize = -4;
const SIGKILL: usize = 9;
const SIGCHLD: usize = 17;
const AT_FDCWD: isize = -100;
const O_WRONLY: usize = 0o1;
const O_CREAT: usize = 0o100;
const O_CLOEXEC: usize = 0o2000000;
const MS_NOSUID: usize = 2;
const MS_NODEV: usize = 4;
const MS_BIND: usize = 0x1000;
const MS_REC: usize = 0x4000;
const MS_PRIVATE: usize = 1 << 18;
const MNT_DETACH: usize = 2;
const AT_RECURSIVE: usize = 0x8000;
const SCHED_BATCH: usize = 3;
const PR_SET_PDEATHSIG: usize = 1;
const PR_SET_DUMPABLE: usize = 4;
const PR_CAPBSET_DROP: usize = 24;
const PR_SET_CHILD_SUBREAPER: usize = 36;
const PR_SET_NO_NEW_PRIVS: usize = 38;

/// Memory that the kernel gives page by page, when it is used.
#[repr(transparent)]
struct Reserved<T>(core::cell::UnsafeCell<T>);

// SAFETY: this process has one thread.
unsafe impl<T> Sync for Reserved<T> {}

static BUFFER: Reserved<[u8; MAX_MESSAGE]> = Reserved(core::cell::UnsafeCell::new([0; MAX_MESSAGE]));

/// Arguments and variables of the program, at most this many of each.
const MAX_WORDS: usize = 2048;
/// The program's filter of system calls, which comes in an earlier message than the program.
static FILTER_KEPT: Reserved<[u8; MAX_FILTER]> = Reserved(core::cell::UnsafeCell::new([0; MAX_FILTER]));
const MAX_FILTER: usize = 8192;
static WORDS: Reserved<[[usize; MAX_WORDS]; 2]> = Reserved(core::cell::UnsafeCell::new([[0; MAX_WORDS]; 2]));

/// A NUL-terminated text, and its length without the NUL.
#[derive(Clone, Copy)]
struct Text(*const u8, usize);

/// What the program will be, collected from the operations before `RUN`.
struct Plan {
    identity: Option<(u32, u32)>,
    limits: [(u32, u32); 16],
    limit_count: usize,
    filter: (*const u8, u32),
    program: i32,
}

/// What came with a message.
struct Message<'a> {
    rest: &'a [u8],
    fds: [i32; MAX_FDS],
}

type Step<T> = Result<T, i32>;

fn main() -> ! {
    // A server that dies takes this process along, and this process everything else here.
    sys!(PRCTL, PR_SET_PDEATHSIG, SIGKILL);
    sys!(PRCTL, PR_SET_CHILD_SUBREAPER, 1);
    let children: u64 = 1 << (SIGCHLD - 1);
    sys!(RT_SIGPROCMASK, 0, &raw const children, 0, 8);
    let signals = sys!(SIGNALFD4, -1isize, &raw const children, 8, O_CLOEXEC);
    let mut plan =
        Plan { identity: None, limits: [(0, 0); 16], limit_count: 0, filter: (core::ptr::null(), 0), program: 0 };
    // SAFETY: this process has one thread and comes here once.
    let buffer = unsafe { &mut *BUFFER.0.get() };
    loop {
        let mut ready = [Poll::readable(CONTROL_FD), Poll::readable(signals as i32)];
        sys!(PPOLL, ready.as_mut_ptr(), 2, 0, 0, 8);
        if ready[1].happened != 0 {
            let mut skipped = [0u8; 128];
            sys!(READ, signals, skipped.as_mut_ptr(), skipped.len());
            bury(&plan);
        }
        if ready[0].happened != 0 {
            let Some(message) = receive(buffer) else { end(0) };
            answer(&mut plan, message);
        }
    }
}

/// Carries out a row of operations and says how far it got.
fn answer(plan: &mut Plan, mut message: Message<'_>) {
    let (mut count, mut number) = (0, 0);
    let (mut given, mut given_count) = ([-1; MAX_GIVEN], 0);
    let mut failed = 0;
    while let [operation, rest @ ..] = message.rest {
        message.rest = rest;
        match perform(plan, *operation, &mut message) {
            Ok((_, -1)) => {}
            Ok((n, fd)) if given_count < MAX_GIVEN => {
                (number, given[given_count]) = (n, fd);
                given_count += 1;
            }
            Ok((_, fd)) => {
                close(fd);
                failed = EINVAL;
                break;
            }
            Err(errno) => {
                failed = errno;
                break;
            }
        }
        count += 1;
    }
    reply([failed as u32, count, number], &given[..given_count]);
    given.into_iter().for_each(close);
    message.fds.into_iter().for_each(close);
}

/// One operation; the number and the descriptor that it gives, if it gives any.
fn perform(plan: &mut Plan, operation: u8, message: &mut Message<'_>) -> Step<(u32, i32)> {
    match operation {
        MKDIR => check(sys!(MKDIRAT, AT_FDCWD, message.text()?.0, 0o755))?,
        TOUCH => {
            let fd = sys!(OPENAT, AT_FDCWD, message.text()?.0, O_CREAT | O_WRONLY | O_CLOEXEC, 0o644);
            check(fd)?;
            close(fd as i32);
        }
        SYMLINK => {
            let (target, path) = (message.text()?, message.text()?);
            check(sys!(SYMLINKAT, target.0, AT_FDCWD, path.0))?;
        }
        BIND => {
            let (source, path) = (message.text()?, message.text()?);
            let depth = if message.number()? == 1 { MS_REC } else { 0 };
            check(sys!(MOUNT, source.0, path.0, 0, MS_BIND | depth, 0))?;
        }
        MOUNT => {
            let (kind, path) = (message.text()?, message.text()?);
            let (flags, options) = (message.number()? as usize, message.text()?);
            check(sys!(MOUNT, kind.0, path.0, kind.0, flags | MS_NOSUID | MS_NODEV, options.0))?;
        }
        SEAL => {
            // struct mount_attr: set MOUNT_ATTR_RDONLY and MOUNT_ATTR_NOSUID.
            let attributes: [u64; 4] = [1 | 2, 0, 0, 0];
            let path = message.text()?.0;
            check(sys!(MOUNT_SETATTR, AT_FDCWD, path, AT_RECURSIVE, attributes.as_ptr(), 32))?;
        }
        PRIVATE => check(sys!(MOUNT, 0, c"/".as_ptr(), 0, MS_REC | MS_PRIVATE, 0))?,
        PIVOT => {
            check(sys!(CHDIR, message.text()?.0))?;
            check(sys!(PIVOT_ROOT, c".".as_ptr(), c".host".as_ptr()))?;
            check(sys!(CHDIR, c"/".as_ptr()))?;
        }
        WRITE => {
            let (path, text) = (message.text()?, message.text()?);
            let fd = sys!(OPENAT, AT_FDCWD, path.0, O_WRONLY | O_CLOEXEC, 0);
            check(fd)?;
            let written = sys!(WRITE, fd, text.0, text.1);
            close(fd as i32);
            check(written)?;
        }
        UNSHARE => check(sys!(UNSHARE, message.number()?))?,
        HOSTNAME => {
            let name = message.text()?;
            check(sys!(SETHOSTNAME, name.0, name.1))?;
        }
        IDENTITY => plan.identity = Some((message.number()?, message.number()?)),
        LIMIT => {
            let limit = (message.number()?, message.number()?);
            *plan.limits.get_mut(plan.limit_count).ok_or(EINVAL)? = limit;
            plan.limit_count += 1;
        }
        FILTER => {
            let count = message.number()?;
            let filter = message.take(8 * count as usize)?;
            // SAFETY: this process has one thread, and nothing else writes there.
            let kept = unsafe { &mut *FILTER_KEPT.0.get() };
            kept.get_mut(..filter.len()).ok_or(EINVAL)?.copy_from_slice(filter);
            plan.filter = (kept.as_ptr(), count);
        }
        RUN => return run(plan, message),
        SIGNAL => {
            let signal = message.number()? as usize;
            each_child(|child| _ = sys!(KILL, -(child as isize), signal));
        }
        UNMOUNT => check(sys!(UMOUNT2, message.text()?.0, MNT_DETACH))?,
        CLOSE => drop_privileges(plan)?,
        SOCKET => {
            let (domain, kind, protocol) = (message.number()?, message.number()?, message.number()?);
            let socket = sys!(SOCKET, domain, kind as usize | O_CLOEXEC, protocol);
            check(socket)?;
            return Ok((0, socket as i32));
        }
        _ => return Err(EINVAL),
    }
    Ok((0, -1))
}

/// Starts the program.
fn run(plan: &mut Plan, message: &mut Message<'_>) -> Step<(u32, i32)> {
    let cwd = message.text()?;
    // SAFETY: this process has one thread, and nothing else uses them.
    let [arguments, variables] = unsafe { &mut *WORDS.0.get() };
    message.texts(arguments)?;
    message.texts(variables)?;
    // Its writing end closes with the successful `execve`; before that it tells what went wrong.
    let mut pipe = [0i32; 2];
    check(sys!(PIPE2, pipe.as_mut_ptr(), O_CLOEXEC))?;
    let mut pidfd = -1i32;
    const CLONE_PIDFD: usize = 0x1000;
    // A plain fork: it copies a few pages. The third argument is where the kernel puts the pidfd.
    let child = sys!(CLONE, CLONE_PIDFD | SIGCHLD, 0, &raw mut pidfd);
    if child == 0 {
        let errno = become_program(plan, cwd, &message.fds, arguments[0], arguments, variables);
        sys!(WRITE, pipe[1], &raw const errno, 4);
        end(127);
    }
    close(pipe[1]);
    check(child).inspect_err(|_| close(pipe[0]))?;
    let mut errno = 0i32;
    let told = retry(|| sys!(READ, pipe[0], &raw mut errno, 4));
    close(pipe[0]);
    if told == 4 {
        close(pidfd);
        return Err(errno);
    }
    plan.program = child as i32;
    Ok((child as u32, pidfd))
}

/// Never comes back unless something failed; the errno.
fn become_program(
    plan: &Plan,
    cwd: Text,
    fds: &[i32; MAX_FDS],
    path: usize,
    arguments: &[usize],
    variables: &[usize],
) -> i32 {
    let steps = || -> Step<()> {
        let mut first_other = CONTROL_FD + 1;
        check(sys!(SETSID))?;
        sys!(UMASK, 0o022);
        let null = sys!(OPENAT, AT_FDCWD, c"/dev/null".as_ptr(), 0, 0);
        check(null)?;
        check(sys!(DUP3, null, 0, 0).min(0))?;
        check(sys!(DUP3, fds[0], 1, 0))?;
        check(sys!(DUP3, fds[0], 2, 0))?;
        match fds[1] {
            -1 => close(CONTROL_FD),
            events => {
                check(sys!(DUP3, events, CONTROL_FD, 0))?;
                check(sys!(DUP3, fds[2], ANSWERS_FD, 0))?;
                first_other = ANSWERS_FD + 1;
            }
        }
        // Close-on-exec, so that the pipe that tells of a failure lives until the very end.
        check(sys!(CLOSE_RANGE, first_other, u32::MAX, 4))?;
        for &(resource, value) in &plan.limits[..plan.limit_count] {
            limit(resource, value)?;
        }
        // Whoever the server wakes with an event does not take the processor from it at once: it has more to hand out.
        // A quarter more requests a second where all processors are busy. Refused: it goes without.
        let priority = 0i32;
        sys!(SCHED_SETSCHEDULER, 0, SCHED_BATCH, &raw const priority);
        check(sys!(CHDIR, cwd.0))?;
        drop_privileges(plan)?;
        // After the change of user, which clears it.
        check(sys!(PRCTL, PR_SET_PDEATHSIG, SIGKILL))?;
        check(sys!(PRCTL, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        let none = 0u64;
        check(sys!(RT_SIGPROCMASK, 2, &raw const none, 0, 8))?;
        if plan.filter.1 > 0 {
            let program = SockFprog { length: plan.filter.1 as u16, filter: plan.filter.0 };
            check(sys!(SECCOMP, 1, 0, &raw const program))?;
        }
        check(sys!(EXECVE, path, arguments.as_ptr(), variables.as_ptr()))
    };
    steps().err().unwrap_or(EINVAL)
}

/// Becomes the function's user and gives up every capability. The first process does so too: it needs none
/// any more, and as the same user it may still signal the program.
fn drop_privileges(plan: &Plan) -> Step<()> {
    let Some((uid, gid)) = plan.identity else { return Ok(()) };
    for capability in 0..64usize {
        sys!(PRCTL, PR_CAPBSET_DROP, capability, 0, 0, 0);
    }
    // Refused in a user namespace of an ordinary user, where there are none to begin with.
    sys!(SETGROUPS, 0, 0);
    check(sys!(SETRESGID, gid, gid, gid))?;
    check(sys!(SETRESUID, uid, uid, uid))?;
    // struct __user_cap_header_struct (version 3, this process) and two empty __user_cap_data_struct.
    let (header, data) = ([0x2008_0522u32, 0], [0u32; 6]);
    check(sys!(CAPSET, header.as_ptr(), data.as_ptr()))?;
    sys!(PRCTL, PR_SET_DUMPABLE, 0);
    check(sys!(PRCTL, PR_SET_PDEATHSIG, SIGKILL))
}

fn limit(resource: u32, value: u32) -> Step<()> {
    let mut now = [0u64; 2];
    check(sys!(PRLIMIT64, 0, resource, 0, now.as_mut_ptr()))?;
    let value = now[1].min(value.into());
    let new = [value, value];
    check(sys!(PRLIMIT64, 0, resource, new.as_ptr(), 0))
}

/// Takes the dead out of the process table; the program's own end is the sandbox's.
fn bury(plan: &Plan) {
    loop {
        let mut status = 0u32;
        let child = sys!(WAIT4, -1isize, &raw mut status, 1, 0);
        if child <= 0 {
            return;
        }
        if child as i32 == plan.program {
            reply([ENDED, status, 0], &[]);
            end(0);
        }
    }
}

/// Ends this process, and before it everything that its children left behind. In a process namespace the
/// kernel would do the latter by itself.
fn end(status: i32) -> ! {
    let alone = sys!(GETPID) == 1;
    // A process that forks faster than it is killed is caught in the end: its children come here as well.
    for _ in 0..if alone { 0 } else { 10_000 } {
        let mut any = false;
        each_child(|child| {
            any = true;
            sys!(KILL, child, SIGKILL);
        });
        if !any {
            break;
        }
        let mut skipped = 0u32;
        sys!(WAIT4, -1isize, &raw mut skipped, 0, 0);
    }
    loop {
        sys!(EXIT_GROUP, status);
    }
}

/// Calls `each` with the process id of every child of this process.
fn each_child(mut each: impl FnMut(usize)) {
    let fd = sys!(OPENAT, AT_FDCWD, c"/proc/thread-self/children".as_ptr(), O_CLOEXEC, 0);
    if fd < 0 {
        return;
    }
    let mut text = [0u8; 4096];
    let length = sys!(READ, fd, text.as_mut_ptr(), text.len());
    close(fd as i32);
    let mut pid = 0usize;
    for &byte in &text[..length.max(0) as usize] {
        match byte {
            b'0'..=b'9' => pid = 10 * pid + usize::from(byte - b'0'),
            _ if pid > 0 => {
                each(pid);
                pid = 0;
            }
            _ => {}
        }
    }
}

#[repr(C)]
struct Poll {
    fd: i32,
    wanted: i16,
    happened: i16,
}

impl Poll {
    fn readable(fd: i32) -> Poll {
        Poll { fd, wanted: 1, happened: 0 }
    }
}

#[repr(C)]
struct SockFprog {
    length: u16,
    filter: *const u8,
}

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
fn receive(buffer: &mut [u8; MAX_MESSAGE]) -> Option<Message<'_>> {
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

fn reply(words: [u32; 3], given: &[i32]) {
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
    fn text(&mut self) -> Step<Text> {
        let end = self.rest.iter().position(|&byte| byte == 0).ok_or(EINVAL)?;
        let text = Text(self.rest.as_ptr(), end);
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }

    fn number(&mut self) -> Step<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn take(&mut self, length: usize) -> Step<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(EINVAL)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A counted row of texts, as pointers with a null after the last.
    fn texts(&mut self, places: &mut [usize]) -> Step<()> {
        let count = self.number()? as usize;
        let places = places.get_mut(..count + 1).ok_or(EINVAL)?;
        for place in &mut places[..count] {
            *place = self.text()?.0 as usize;
        }
        places[count] = 0;
        Ok(())
    }
}

fn check(result: isize) -> Step<()> {
    if result < 0 { Err(-result as i32) } else { Ok(()) }
}

fn retry(mut call: impl FnMut() -> isize) -> isize {
    loop {
        match call() {
            EINTR => {}
            result => return result,
        }
    }
}

fn close(fd: i32) {
    if fd >= 0 {
        sys!(CLOSE, fd);
    }
}
