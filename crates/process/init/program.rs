//! What a process does to itself before it is a function's program.

use crate::message::*;
use crate::ops::*;
use crate::sched::SchedAttr;
use crate::sys::sys;

/// Where a program that is given a transport writes; it reads at [`CONTROL_FD`]. Of the processes that come here one has
/// its own signals there, the other what it does not need any more: nothing that came with a message and is to stay.
const ANSWERS_FD: i32 = 4;

pub const SIGKILL: usize = 9;
pub const AT_FDCWD: isize = -100;
pub const PR_SET_PDEATHSIG: usize = 1;
pub const PR_SET_DUMPABLE: usize = 4;
const O_WRONLY: usize = 0o1;
const O_CLOEXEC: usize = 0o2000000;
const SCHED_BATCH: u32 = 3;
const PR_CAPBSET_DROP: usize = 24;
const PR_SET_NO_NEW_PRIVS: usize = 38;

/// The filter of system calls: it may come in an earlier message than the program.
static FILTER_KEPT: Reserved<[u8; MAX_FILTER]> = Reserved(core::cell::UnsafeCell::new([0; MAX_FILTER]));
const MAX_FILTER: usize = 8192;

/// What the program will be, collected from the operations before the one that starts it.
pub struct Plan {
    identity: Option<(u32, u32)>,
    /// See [`USER`].
    user: u32,
    limits: [(u32, u32); 16],
    limit_count: usize,
    filter: (*const u8, u32),
    confinement: Option<Confinement>,
}

/// What is asked of Landlock; see [`CONFINE`].
struct Confinement {
    handled: u32,
    scoped: u32,
    flags: u32,
    allowed: [u32; 3],
}

impl Plan {
    pub const EMPTY: Plan = Plan {
        identity: None,
        user: 0,
        limits: [(0, 0); 16],
        limit_count: 0,
        filter: (core::ptr::null(), 0),
        confinement: None,
    };

    /// Takes note of an operation that is about the program; false when it is about something else.
    pub fn note(&mut self, operation: u8, message: &mut Message<'_>) -> Step<bool> {
        match operation {
            IDENTITY => self.identity = Some((message.number()?, message.number()?)),
            USER => self.user = message.number()?,
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
            CONFINE => {
                let (handled, scoped, flags) = (message.number()?, message.number()?, message.number()?);
                let allowed = [message.number()?, message.number()?, message.number()?];
                self.confinement = Some(Confinement { handled, scoped, flags, allowed });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether the program is in a user namespace of its own, where it is nobody until [`Plan::introduce`].
    pub fn has_own_user(&self) -> bool {
        self.user != 0
    }

    /// Says who the program is in its user namespace. Only somebody else may, with privileges outside it.
    pub fn introduce(&self, child: u32) -> Step<()> {
        let Some((uid, gid)) = self.identity else { return Ok(()) };
        for (file, inside) in [(&b"/uid_map\0"[..], uid), (&b"/gid_map\0"[..], gid)] {
            let (mut path, mut line) = (Line::default(), Line::default());
            path.put(b"/proc/").number(child).put(file);
            line.number(inside).put(b" ").number(self.user).put(b" 1");
            let fd = sys!(OPENAT, AT_FDCWD, path.bytes.as_ptr(), O_WRONLY | O_CLOEXEC, 0);
            check(fd)?;
            let written = sys!(WRITE, fd, line.bytes.as_ptr(), line.length);
            close(fd as i32);
            check(written)?;
        }
        Ok(())
    }
}

/// A short text that is put together.
#[derive(Default)]
struct Line {
    bytes: [u8; 32],
    length: usize,
}

impl Line {
    fn put(&mut self, text: &[u8]) -> &mut Line {
        for &byte in text {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = byte;
                self.length += 1;
            }
        }
        self
    }

    fn number(&mut self, number: u32) -> &mut Line {
        let mut unit = 1_000_000_000;
        while unit > 0 {
            if number >= unit || unit == 1 {
                self.put(&[b'0' + (number / unit % 10) as u8]);
            }
            unit /= 10;
        }
        self
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
    for &(resource, value) in &plan.limits[..plan.limit_count] {
        limit(resource, value)?;
    }
    // Not before everything else, as the server's own threads are, and with the kernel's usual slice. Whoever the server
    // wakes with an event does not take the processor from it at once: it has more to hand out. A third more requests a
    // second where all processors are busy. Refused: it goes without.
    let usual = SchedAttr::new(SCHED_BATCH, 0, 0);
    sys!(SCHED_SETATTR, 0, &raw const usual, 0);
    check(sys!(CHDIR, cwd))?;
    if plan.has_own_user() {
        become_user(plan)?;
    }
    drop_privileges(plan, plan.has_own_user())?;
    // After the change of user: somebody may wait for the end of a pipe to know of it.
    check(sys!(CLOSE_RANGE, first_other, u32::MAX, close_rest))?;
    // This too, which it clears.
    check(sys!(PRCTL, PR_SET_PDEATHSIG, SIGKILL))?;
    check(sys!(PRCTL, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
    let none = 0u64;
    check(sys!(RT_SIGPROCMASK, 2, &raw const none, 0, 8))?;
    plan.confinement.as_ref().map_or(Ok(()), confine)?;
    if plan.filter.1 > 0 {
        let program = SockFprog { length: plan.filter.1 as u16, filter: plan.filter.0 };
        check(sys!(SECCOMP, 1, 0, &raw const program))?;
    }
    Ok(())
}

/// Confines this process to its view, for good. The folders are those that are there now: what is mounted over them
/// later is only below the root.
fn confine(wanted: &Confinement) -> Step<()> {
    const PATH_BENEATH: usize = 1;
    const O_PATH: usize = 0o10000000;
    // struct landlock_ruleset_attr: files, network (not handled), scopes.
    let attributes = [u64::from(wanted.handled), 0, u64::from(wanted.scoped)];
    // A kernel that has no scopes takes what is behind the files for something that it does not know, unless it is 0.
    let rules = sys!(LANDLOCK_CREATE_RULESET, attributes.as_ptr(), size_of_val(&attributes), 0);
    check(rules)?;
    for (folder, allowed) in [c"/", c"/dev", c"/tmp"].into_iter().zip(wanted.allowed) {
        let folder = sys!(OPENAT, AT_FDCWD, folder.as_ptr(), O_PATH | O_CLOEXEC, 0);
        check(folder)?;
        let rule = PathBeneath { allowed: allowed.into(), parent: folder as i32 };
        let added = sys!(LANDLOCK_ADD_RULE, rules, PATH_BENEATH, &raw const rule, 0);
        close(folder as i32);
        check(added)?;
    }
    check(sys!(LANDLOCK_RESTRICT_SELF, rules, wanted.flags))?;
    close(rules as i32);
    Ok(())
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// Mounts a new file system.
pub fn mount(message: &mut Message<'_>) -> Step<()> {
    const MS_NOSUID: usize = 2;
    const MS_NODEV: usize = 4;
    let (kind, path) = (message.text()?, message.text()?);
    let (flags, options) = (message.number()? as usize, message.text()?);
    check(sys!(MOUNT, kind.0, path.0, kind.0, flags | MS_NOSUID | MS_NODEV, options.0))
}

#[repr(C)]
struct SockFprog {
    length: u16,
    filter: *const u8,
}

/// Becomes a user of the machine that nobody else is, in a user namespace of that user's: what the kernel counts by
/// user is also counted for whoever made the namespace.
fn become_user(plan: &Plan) -> Step<()> {
    const PR_SET_KEEPCAPS: usize = 8;
    const CLONE_NEWUSER: usize = 0x1000_0000;
    const CAP_SYS_ADMIN: u32 = 1 << 21;
    let user = plan.user;
    check(sys!(SETGROUPS, 0, 0))?;
    check(sys!(SETRESGID, user, user, user))?;
    check(sys!(PRCTL, PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
    check(sys!(SETRESUID, user, user, user))?;
    // Some machines let nobody make one who has no privilege.
    set_capabilities(CAP_SYS_ADMIN)?;
    check(sys!(UNSHARE, CLONE_NEWUSER))
}

/// Becomes the function's user, unless the process `is` already, and gives up every capability. The first process does
/// so too: it needs none any more, and as the same user of the machine it may still signal the program.
pub fn drop_privileges(plan: &Plan, is: bool) -> Step<()> {
    let Some((mut uid, mut gid)) = plan.identity else { return Ok(()) };
    if plan.has_own_user() {
        (uid, gid) = (plan.user, plan.user);
    }
    // Those that the kernel does not have come last.
    for capability in 0..64usize {
        if sys!(PRCTL, PR_CAPBSET_DROP, capability, 0, 0, 0) == -(EINVAL as isize) {
            break;
        }
    }
    if !is {
        // Refused in a user namespace of an ordinary user, where there are none to begin with.
        sys!(SETGROUPS, 0, 0);
        check(sys!(SETRESGID, gid, gid, gid))?;
        check(sys!(SETRESUID, uid, uid, uid))?;
    }
    set_capabilities(0)?;
    sys!(PRCTL, PR_SET_DUMPABLE, 0);
    check(sys!(PRCTL, PR_SET_PDEATHSIG, SIGKILL))
}

/// These effective and permitted, of the first 32, and no others.
fn set_capabilities(these: u32) -> Step<()> {
    // struct __user_cap_header_struct (version 3, this process) and two __user_cap_data_struct: effective, permitted,
    // inheritable.
    let (header, data) = ([0x2008_0522u32, 0], [these, these, 0, 0, 0, 0]);
    check(sys!(CAPSET, header.as_ptr(), data.as_ptr()))
}

fn limit(resource: u32, value: u32) -> Step<()> {
    let mut now = [0u64; 2];
    check(sys!(PRLIMIT64, 0, resource, 0, now.as_mut_ptr()))?;
    let value = now[1].min(value.into());
    let new = [value, value];
    check(sys!(PRLIMIT64, 0, resource, new.as_ptr(), 0))
}

