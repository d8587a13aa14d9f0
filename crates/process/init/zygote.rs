//! What makes an interpreter a zygote: a library that it loads when it has imported what it is to import.
//!
//! A zygote waits for orders on descriptor 3. For each it clones a process into new namespaces, as a child of the
//! *server*; that one forks, and then executes the sandbox's first process, so that its child is a copy of
//! the interpreter in a sandbox of its own, with the usual first process above it. The copy gives up every
//! privilege at once and goes on in the interpreter. Between the clone and `execve` the memory is the zygote's own,
//! which waits, so that it is copied once and not twice.
//!
//! Like the first process it has no C library of its own; the interpreter's `fork` is used for what that library must
//! know of a fork.

#![no_std]
#![allow(dead_code, unused_imports, unused_macros)] // it shares its modules with the first process

mod message;
mod ops;
mod program;
mod sched;
mod sys;

use message::*;
use ops::*;
use program::*;
use sys::sys;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    end(101)
}

const CLONE_VM: u64 = 0x100;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_INTO_CGROUP: u64 = 1 << 33;
const EAGAIN: i32 = 11;
const O_WRONLY: usize = 0o1;
const O_CLOEXEC: usize = 0o2000000;
/// Actually close, at once.
const CLOSE: usize = 0;

static BUFFER: Reserved<[u8; MAX_MESSAGE]> = Reserved(core::cell::UnsafeCell::new([0; MAX_MESSAGE]));

/// An order, and what became of it. Shared by the zygote and the process that carries it out.
#[repr(C)]
struct Order<'a> {
    /// `struct clone_args`; first, because `branch` looks for it there.
    clone: [u64; 11],
    pidfd: i32,
    message: Message<'a>,
    /// What the copy is told: whether it has time to rehearse.
    rehearses: bool,
    /// The program of the sandbox's first process.
    init: *const u8,
    fork: extern "C" fn() -> i32,
    /// A pipe that ends for the first process when the copy is who it is to be.
    became: [i32; 2],
    /// The copy of the interpreter, as its sandbox counts processes.
    child: i32,
    errno: i32,
    /// Which operation that was about.
    place: u32,
}

/// Carries out orders until there are no more, which ends the process. Returns in every copy, with whether that is to
/// rehearse: 1 or 0.
#[unsafe(no_mangle)]
pub extern "C" fn serve(fork: extern "C" fn() -> i32) -> i32 {
    reply([0, 0, 0], &[]);
    loop {
        // SAFETY: one thread; the last message is no longer used.
        let Some(message) = receive(unsafe { &mut *BUFFER.0.get() }) else { end(0) };
        let fds = message.fds;
        let mut order = match Order::new(message, fork) {
            Ok(order) => order,
            Err(errno) => {
                reply([errno as u32, 0, 0], &[]);
                fds.into_iter().for_each(close);
                continue;
            }
        };
        order.clone[1] = (&raw mut order.pidfd) as u64;
        // SAFETY: the order outlives the call; what runs in the meantime touches nothing else.
        let cloned = unsafe { branch(&raw mut order) };
        if cloned == 0 {
            return order.rehearses.into();
        }
        if cloned < 0 {
            order.errno = -cloned as i32;
            // A clone that fails late, for want of a process in the control group, has left a number there that is none.
            order.pidfd = -1;
        }
        let given = [order.pidfd];
        let given = if order.pidfd < 0 { &[][..] } else { &given };
        reply([order.errno as u32, order.place, order.child as u32], given);
        close(order.pidfd);
        fds.into_iter().for_each(close);
    }
}

impl<'a> Order<'a> {
    fn new(mut message: Message<'a>, fork: extern "C" fn() -> i32) -> Step<Order<'a>> {
        let [FORK, rest @ ..] = message.rest else { return Err(EINVAL) };
        message.rest = rest;
        let mut flags = u64::from(message.number()?) | CLONE_VM | CLONE_VFORK | CLONE_PARENT | CLONE_PIDFD;
        let rehearses = message.number()? == 1;
        let init = message.text()?.0;
        let group = message.fds[4];
        if group >= 0 {
            flags |= CLONE_INTO_CGROUP;
        }
        let mut clone = [0; 11];
        (clone[0], clone[10]) = (flags, group.max(0) as u64);
        Ok(Order { clone, pidfd: -1, message, rehearses, init, fork, became: [-1; 2], child: 0, errno: 0, place: 0 })
    }

    /// In the new namespaces, in the zygote's memory: up to the copy.
    fn carry_out(&mut self, plan: &mut Plan) -> Step<i32> {
        while let [operation, rest @ ..] = self.message.rest {
            self.message.rest = rest;
            self.place += 1;
            match *operation {
                WRITE => {
                    let (path, text) = (self.message.text()?, self.message.text()?);
                    let fd = sys!(OPENAT, AT_FDCWD, path.0, O_WRONLY | O_CLOEXEC, 0);
                    check(fd)?;
                    let written = sys!(WRITE, fd, text.0, text.1);
                    close(fd as i32);
                    check(written)?;
                }
                UNSHARE => check(sys!(UNSHARE, self.message.number()?))?,
                MOUNT => mount(&mut self.message)?,
                other if plan.note(other, &mut self.message)? => {}
                _ => return Err(EINVAL),
            }
        }
        self.place += 1;
        if plan.has_own_user() {
            check(sys!(PIPE2, self.became.as_mut_ptr(), O_CLOEXEC))?;
        }
        match (self.fork)() {
            -1 => Err(EAGAIN),
            child => Ok(child),
        }
    }
}

/// What the clone does. Returns in the copy of the interpreter only, with 0.
extern "C" fn begin(order: &mut Order<'_>) -> isize {
    let mut plan = Plan::EMPTY;
    let [control, output, events, answers, _] = order.message.fds;
    let executed = match order.carry_out(&mut plan) {
        Ok(0) => {
            let settled = settle(&plan, output, [events, answers], c"/".as_ptr().cast(), CLOSE);
            // The change of user has made `/proc/self` the administrator's; a program's own is its own.
            let own = settled.and_then(|()| check(sys!(PRCTL, PR_SET_DUMPABLE, 1)));
            match own {
                Ok(()) => return 0,
                Err(errno) => end(errno),
            }
        }
        Ok(child) => {
            order.child = child;
            let (arguments, variables) = ([order.init as usize, 0], [0usize]);
            // The zygote's own output is none of its business.
            let own = sys!(DUP3, 0, 1, 0).min(sys!(DUP3, 0, 2, 0)).min(sys!(DUP3, control, CONTROL_FD, 0));
            let waits = if plan.has_own_user() { sys!(DUP3, order.became[0], COPY_FD, 0) } else { 0 };
            check(own.min(waits))
                .and_then(|()| check(sys!(EXECVE, order.init, arguments.as_ptr(), variables.as_ptr())))
        }
        Err(errno) => Err(errno),
    };
    order.errno = executed.err().unwrap_or(EINVAL);
    end(127)
}

fn end(status: i32) -> ! {
    loop {
        sys!(EXIT_GROUP, status);
    }
}

unsafe extern "C" {
    /// `clone3` with the arguments that an order begins with. The clone calls [`begin`], on the same stack but
    /// below everything that the caller uses: of what is above, neither changes anything. A number as
    /// `clone3` gives it; 0 in the copy that the clone forks.
    fn branch(order: *mut Order<'_>) -> isize;
}

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".hidden branch",
    ".globl branch",
    "branch:",
    "push rbx",
    "mov rbx, rdi",
    "mov esi, 88",
    "mov eax, {clone3}",
    "syscall",
    "test rax, rax",
    "jnz 2f",
    "mov rdi, rbx",
    "call {begin}",
    "2:",
    "pop rbx",
    "ret",
    clone3 = const sys::CLONE3,
    begin = sym begin,
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".hidden branch",
    ".globl branch",
    "branch:",
    "stp x29, x30, [sp, #-32]!",
    "str x19, [sp, #16]",
    "mov x19, x0",
    "mov x1, #88",
    "mov x8, #{clone3}",
    "svc 0",
    "cbnz x0, 2f",
    "mov x0, x19",
    "bl {begin}",
    "2:",
    "ldr x19, [sp, #16]",
    "ldp x29, x30, [sp], #32",
    "ret",
    clone3 = const sys::CLONE3,
    begin = sym begin,
);
