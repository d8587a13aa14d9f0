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
#![allow(dead_code)] // it shares its modules with zygotes

mod message; // what the server says, and what is answered
mod ops; //     in which words
mod program; // what a process does to itself before it is a function's program
mod sched; //   how it is scheduled
mod sys; //     system calls

use message::*;
use ops::*;
use program::*;
use sys::sys;

core::arch::global_asm!(".globl _start", "_start:", sys::start!(), main = sym main);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    end(101)
}

const SIGCHLD: usize = 17;
const O_WRONLY: usize = 0o1;
const O_CREAT: usize = 0o100;
const O_CLOEXEC: usize = 0o2000000;
const MS_BIND: usize = 0x1000;
const MS_REC: usize = 0x4000;
const MS_PRIVATE: usize = 1 << 18;
const MNT_DETACH: usize = 2;
const AT_RECURSIVE: usize = 0x8000;
const PR_SET_CHILD_SUBREAPER: usize = 36;
/// `struct rusage`: two times of two words each, then numbers, the first of which is the most resident memory in KiB.
const RUSAGE_WORDS: usize = 18;
const RUSAGE_MAXRSS: usize = 4;

static BUFFER: Reserved<[u8; MAX_MESSAGE]> = Reserved(core::cell::UnsafeCell::new([0; MAX_MESSAGE]));

/// Arguments and variables of the program, at most this many of each.
const MAX_WORDS: usize = 2048;
static WORDS: Reserved<[[usize; MAX_WORDS]; 2]> = Reserved(core::cell::UnsafeCell::new([[0; MAX_WORDS]; 2]));

fn main() -> ! {
    // A server that dies takes this process along, and this process everything else here.
    sys!(PRCTL, PR_SET_PDEATHSIG, SIGKILL);
    sys!(PRCTL, PR_SET_CHILD_SUBREAPER, 1);
    let children: u64 = 1 << (SIGCHLD - 1);
    sys!(RT_SIGPROCMASK, 0, &raw const children, 0, 8);
    let signals = sys!(SIGNALFD4, -1isize, &raw const children, 8, O_CLOEXEC);
    let (mut plan, mut program) = (Plan::EMPTY, 0);
    // SAFETY: this process has one thread and comes here once.
    let buffer = unsafe { &mut *BUFFER.0.get() };
    loop {
        let mut ready = [Poll::readable(CONTROL_FD), Poll::readable(signals as i32)];
        sys!(PPOLL, ready.as_mut_ptr(), 2, 0, 0, 8);
        if ready[1].happened != 0 {
            let mut skipped = [0u8; 128];
            sys!(READ, signals, skipped.as_mut_ptr(), skipped.len());
            bury(program);
        }
        if ready[0].happened != 0 {
            let Some(message) = receive(buffer) else { end(0) };
            answer(&mut plan, &mut program, message);
        }
    }
}

/// Carries out a row of operations and says how far it got.
fn answer(plan: &mut Plan, program: &mut i32, mut message: Message<'_>) {
    let (mut count, mut number) = (0, 0);
    let (mut given, mut given_count) = ([-1; MAX_GIVEN], 0);
    let mut failed = 0;
    while let [operation, rest @ ..] = message.rest {
        message.rest = rest;
        match perform(plan, program, *operation, &mut message) {
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
fn perform(
    plan: &mut Plan,
    program: &mut i32,
    operation: u8,
    message: &mut Message<'_>,
) -> Step<(u32, i32)> {
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
        MOUNT => mount(message)?,
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
        RUN => return run(plan, program, message),
        EXEC => execute(message)?,
        ADOPT => {
            let child = message.number()?;
            if plan.has_own_user() {
                // Its end, once the copy has made its user namespace.
                let mut nothing = 0u8;
                retry(|| sys!(READ, COPY_FD, &raw mut nothing, 1));
                close(COPY_FD);
                plan.introduce(child)?;
            }
            let pidfd = sys!(PIDFD_OPEN, child, 0);
            check(pidfd)?;
            *program = child as i32;
            return Ok((child, pidfd as i32));
        }
        SIGNAL => {
            let signal = message.number()? as usize;
            match sys!(GETPID) {
                // Every process of the namespace but this one.
                1 => _ = sys!(KILL, -1isize, signal),
                _ => each_child(|child| _ = sys!(KILL, -(child as isize), signal)),
            }
        }
        UNMOUNT => check(sys!(UMOUNT2, message.text()?.0, MNT_DETACH))?,
        CLOSE => drop_privileges(plan, false)?,
        SOCKET => {
            let (domain, kind, protocol) = (message.number()?, message.number()?, message.number()?);
            let socket = sys!(SOCKET, domain, kind as usize | O_CLOEXEC, protocol);
            check(socket)?;
            return Ok((0, socket as i32));
        }
        other if plan.note(other, message)? => {}
        _ => return Err(EINVAL),
    }
    Ok((0, -1))
}

/// Starts the program.
fn run(plan: &Plan, program: &mut i32, message: &mut Message<'_>) -> Step<(u32, i32)> {
    let cwd = message.text()?;
    // SAFETY: this process has one thread, and nothing else uses them.
    let [arguments, variables] = unsafe { &mut *WORDS.0.get() };
    message.texts(arguments)?;
    message.texts(variables)?;
    // Its writing end closes with the successful `execve`; before that it tells what went wrong.
    let mut pipe = [0i32; 2];
    check(sys!(PIPE2, pipe.as_mut_ptr(), O_CLOEXEC))?;
    // Where the program is told that it has been introduced.
    let mut go = [-1i32; 2];
    if plan.has_own_user() {
        check(sys!(PIPE2, go.as_mut_ptr(), O_CLOEXEC)).inspect_err(|_| pipe.into_iter().for_each(close))?;
    }
    let mut pidfd = -1i32;
    const CLONE_PIDFD: usize = 0x1000;
    // A plain fork: it copies a few pages. The third argument is where the kernel puts the pidfd.
    let child = sys!(CLONE, CLONE_PIDFD | SIGCHLD, 0, &raw mut pidfd);
    if child == 0 {
        close(go[1]);
        let errno = become_program(plan, cwd, &message.fds, [pipe[1], go[0]], arguments, variables);
        sys!(WRITE, pipe[1], &raw const errno, 4);
        end(127);
    }
    close(pipe[1]);
    close(go[0]);
    check(child).inspect_err(|_| [pipe[0], go[1]].into_iter().for_each(close))?;
    let mut errno = 0i32;
    let mut told = retry(|| sys!(READ, pipe[0], &raw mut errno, 4));
    let introduced = match (told, errno) {
        (4, 0) => plan.introduce(child as u32),
        _ => Ok(()),
    };
    if introduced.is_ok() && (told, errno) == (4, 0) {
        sys!(WRITE, go[1], c"".as_ptr(), 1);
        told = retry(|| sys!(READ, pipe[0], &raw mut errno, 4));
    }
    // If it was not introduced it hears so, and ends.
    close(go[1]);
    close(pipe[0]);
    if told == 4 || introduced.is_err() {
        close(pidfd);
        return Err(introduced.err().unwrap_or(errno));
    }
    *program = child as i32;
    Ok((child as u32, pidfd))
}

/// Never comes back unless something failed; the errno. `tell` is where it says that it can be introduced, if it is to
/// be, and where it hears that it was.
fn become_program(
    plan: &Plan,
    cwd: Text,
    fds: &[i32; MAX_FDS],
    tell: [i32; 2],
    arguments: &[usize],
    variables: &[usize],
) -> i32 {
    // Close-on-exec, so that the pipe that tells of a failure lives until the very end.
    const CLOSE_ON_EXEC: usize = 4;
    let settled = settle(plan, fds[0], [fds[1], fds[2]], cwd.0, CLOSE_ON_EXEC);
    let introduced = settled.and_then(|()| match plan.has_own_user() {
        true => {
            let (nothing, mut go) = (0i32, 0u8);
            check(sys!(WRITE, tell[0], &raw const nothing, 4))?;
            match retry(|| sys!(READ, tell[1], &raw mut go, 1)) {
                1 => Ok(()),
                _ => Err(EINVAL),
            }
        }
        false => Ok(()),
    });
    let done = introduced.and_then(|()| check(sys!(EXECVE, arguments[0], arguments.as_ptr(), variables.as_ptr())));
    done.err().unwrap_or(EINVAL)
}

/// Becomes a program, with every privilege and the socket to the server. Comes back only when that failed. It leads a
/// process group, in which its forks stay: by that the server knows those of whose start it never heard.
fn execute(message: &mut Message<'_>) -> Step<()> {
    // SAFETY: this process has one thread, and nothing else uses them.
    let [arguments, variables] = unsafe { &mut *WORDS.0.get() };
    message.texts(arguments)?;
    message.texts(variables)?;
    check(sys!(SETSID))?;
    let null = sys!(OPENAT, AT_FDCWD, c"/dev/null".as_ptr(), O_CLOEXEC, 0);
    check(null)?;
    check(sys!(DUP3, null, 0, 0))?;
    check(sys!(DUP3, message.fds[0], 1, 0))?;
    check(sys!(DUP3, message.fds[0], 2, 0))?;
    check(sys!(CLOSE_RANGE, 4, u32::MAX, 4))?;
    sys!(PRCTL, PR_SET_CHILD_SUBREAPER, 0);
    let none = 0u64;
    check(sys!(RT_SIGPROCMASK, 2, &raw const none, 0, 8))?;
    check(sys!(EXECVE, arguments[0], arguments.as_ptr(), variables.as_ptr()))
}

/// Takes the dead out of the process table; the program's own end is the sandbox's.
fn bury(program: i32) {
    loop {
        let (mut status, mut usage) = (0u32, [0u64; RUSAGE_WORDS]);
        let child = sys!(WAIT4, -1isize, &raw mut status, 1, usage.as_mut_ptr());
        if child <= 0 {
            return;
        }
        if child as i32 == program {
            reply([ENDED, status, usage[RUSAGE_MAXRSS] as u32], &[]);
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
