//! What the kernel offers and allows this process.

#[path = "../init/sched.rs"]
mod sched;

use sched::SchedAttr;
use std::io;
use std::time::Duration;

/// The newest Landlock ABI that the kernel speaks; `None` without Landlock.
pub fn landlock_abi() -> Option<u32> {
    static ABI: std::sync::OnceLock<Option<u32>> = std::sync::OnceLock::new();
    *ABI.get_or_init(ask_landlock)
}

fn ask_landlock() -> Option<u32> {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_uint = 1;
    // SAFETY: with the version flag the kernel reads no attributes: the pointer must be null, the size zero.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(answer).ok().filter(|abi| *abi > 0)
}

/// How many descriptors this process may have open: now (the soft limit), and at most (the hard one).
pub fn open_files() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives on this stack for the call.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
        0 => Ok((limit.rlim_cur, limit.rlim_max)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Raises the soft limit of open descriptors to the hard one, which is the limit now. The soft one is kept low
/// for programs that use `select`, which this one does not.
pub fn raise_open_files() -> io::Result<u64> {
    let (_, hard) = open_files()?;
    let limit = libc::rlimit { rlim_cur: hard, rlim_max: hard };
    // SAFETY: `limit` lives on this stack for the call.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => Ok(hard),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes a call on a socket, again when it was cut off: one with a time limit is, without any signal's being handled, when
/// the process is stopped or frozen and goes on. Source: `signal(7)`.
pub fn unless_cut_off(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()).map_err(|_| io::Error::last_os_error()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Has this thread, and those that it starts from now on, come before what runs all the time: the server hands out the events
/// that functions wait for, and must not wait for a processor behind functions. With a short slice, which anybody
/// may ask for (Linux 6.12), and more weight, which takes a privilege; what the machine refuses it goes without.
/// Functions' programs take neither over (`init/program.rs`).
///
/// Source: `sched_setattr(2)`, kernel documentation `scheduler/sched-eevdf.rst`.
pub fn come_first() {
    weigh(-5);
}

/// Has this thread come before all others, for whatever takes it some microseconds: by a real-time policy, because the kernel
/// lets everybody else wait who has had more than is due, be it a thread of the most weight; where that may not be had,
/// with that. What it starts does not take it over.
pub fn come_before_all() {
    let first = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameters live on this stack for the call, which only reads them.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const first) }
        != 0
    {
        weigh(-20);
    }
}

fn weigh(nice: i32) {
    const SLICE_NS: u64 = 100_000;
    for nice in [nice, 0] {
        let attributes = SchedAttr::new(libc::SCHED_OTHER as u32, nice, SLICE_NS);
        // SAFETY: the attributes live on this stack for the call, which reads no more than their size.
        if unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } == 0 {
            return;
        }
    }
}

/// The processors that this process may run on.
pub fn processors() -> Vec<usize> {
    // SAFETY: all zeroes is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` lives on this stack for the call, which writes no more than its size.
    unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    // SAFETY: each is one that a set can have.
    (0..libc::CPU_SETSIZE as usize).filter(|&n| unsafe { libc::CPU_ISSET(n, &set) }).collect()
}

/// Has this thread run on that processor only.
pub fn stay_on(processor: usize) -> io::Result<()> {
    // SAFETY: all zeroes is an empty set; the processor is one that a set can have.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        set
    };
    // SAFETY: `set` lives on this stack for the call, which reads no more than its size.
    match unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How much processor time this process has used.
pub fn processor_time() -> Duration {
    let mut used = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `used` lives on this stack for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut used) };
    Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap_or(0))
}

/// Gives back to the machine what the heap holds and nobody uses. glibc keeps what a load took until the same thread needs
/// it again. May take milliseconds, in which other threads wait for the heap.
///
/// Source: `malloc_trim(3)`.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
