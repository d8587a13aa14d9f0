//! How the kernel is told how a process is to be scheduled: in sandboxes, and in the server, which has this file too.

/// `struct sched_attr`, of sched_setattr(2).
#[repr(C)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    /// In nanoseconds; 0: the usual one.
    pub slice: u64,
    pub rest: [u64; 2],
}

impl SchedAttr {
    pub const fn new(policy: u32, nice: i32, slice: u64) -> SchedAttr {
        SchedAttr { size: 48, policy, flags: 0, nice, priority: 0, slice, rest: [0; 2] }
    }
}
