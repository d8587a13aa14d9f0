//! What a process does to itself before it is a function's program.

use crate::message::*;
use crate::ops::*;
use crate::sys::sys;

/// Where a program that is given a transport writes; it reads at [`CONTROL_FD`]. Of the processes that come here one has
/// its own signals there, the other what it does not need any more: nothing that came with a message and is to stay.
const ANSWERS_FD: i32 = 4;

pub const SIGKILL: usize = 9;
pub const AT_FDCWD: isize = -100;
pub const PR_SET_PDEATHSIG: usize = 1;
pub const PR_SET_DUMPABLE: usize = 4;
/// The shortest slice that the kernel gives.
const SLICE_NS: u64 = 100_000;
const PR_CAPBSET_DROP: usize = 24;
const PR_SET_NO_NEW_PRIVS: usize = 38;

/// The filter of system calls: it may come in an earlier message than the program.
static FILTER_KEPT: Reserved<[u8; MAX_FILTER]> = Reserved(core::cell::UnsafeCell::new([0; MAX_FILTER]));
const MAX_FILTER: usize = 8192;

/// What the program will be, collected from the operations before the one that starts it.
pub struct Plan {
    identity: Option<(u32, u32)>,
    limits: [(u32, u32); 16],
    limit_count: usize,
    filter: (*const u8, u32),
}

impl Plan {
    pub const EMPTY: Plan =
        Plan { identity: None, limits: [(0, 0); 16], limit_count: 0, filter: (core::ptr::null(), 0) };

    /// Takes note of an operation that is about the program; false when it is about something else.
    pub fn note(&mut self, operation: u8, message: &mut Message<'_>) -> Step<bool> {
        match operation {
            IDENTITY => self.identity = Some((message.number()?, message.number()?)),
            LIMIT => {
                let limit = (message.number()?, message.number()?);
                *self.limits.get_mut(self.limit_count).ok_or(EINVAL)? = limit;
                self.limit_count += 1;
            }
            FILTER => {
                let count = message.number()?;
                let filter = message.take(8 * count as usize)?;
                // SAFETY: one thread, and nothing else writes there.
                let kept = unsafe { &mut *FILTER_KEPT.0.get() };
                kept.get_mut(..filter.len()).ok_or(EINVAL)?.copy_from_slice(filter);
                self.filter = (kept.as_ptr(), count);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Becomes what a program is from its first instruction: of a session of its own, with these descriptors and no
/// others, limited, without privileges, behind its filter. `close_rest` says how `close_range` treats the others.
pub fn settle(plan: &Plan, output: i32, transport: [i32; 2], cwd: *const u8, close_rest: usize) -> Step<()> {
    let mut first_other = CONTROL_FD + 1;
    check(sys!(SETSID))?;
    sys!(UMASK, 0o022);
    let null = sys!(OPENAT, AT_FDCWD, c"/dev/null".as_ptr(), 0, 0);
    check(null)?;
    check(sys!(DUP3, null, 0, 0))?;
    check(sys!(DUP3, output, 1, 0))?;
    check(sys!(DUP3, output, 2, 0))?;
    match transport {
        [-1, _] => close(CONTROL_FD),
        [events, answers] => {
            check(sys!(DUP3, events, CONTROL_FD, 0))?;
            check(sys!(DUP3, answers, ANSWERS_FD, 0))?;
            first_other = ANSWERS_FD + 1;
        }
    }
    check(sys!(CLOSE_RANGE, first_other, u32::MAX, close_rest))?;
    for &(resource, value) in &plan.limits[..plan.limit_count] {
        limit(resource, value)?;
    }
    // Not before everything else, as the server's own. With short slices, so that who is woken with an event does not
    // wait until those who never sleep have had their long ones. Refused, or an older kernel: it goes without.
    let normal = SchedAttr { size: 48, policy: 0, flags: 0, nice: 0, priority: 0, slice: SLICE_NS, rest: [0; 2] };
    sys!(SCHED_SETATTR, 0, &raw const normal, 0);
    check(sys!(CHDIR, cwd))?;
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
    Ok(())
}

/// `struct sched_attr`, of sched_setattr(2).
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    slice: u64,
    rest: [u64; 2],
}

#[repr(C)]
struct SockFprog {
    length: u16,
    filter: *const u8,
}

/// Becomes the function's user and gives up every capability. The first process does so too: it needs none
/// any more, and as the same user it may still signal the program.
pub fn drop_privileges(plan: &Plan) -> Step<()> {
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

