//! Which system calls a function may make: all that this list's author knew, without those that change the
//! machine, look into other processes, make namespaces, or are doors to parts of the kernel that functions
//! have no use for. Calls that are newer than the list are not there (`ENOSYS`), so a new kernel opens no door.
//!
//! Source: `seccomp(2)`, kernel documentation `userspace-api/seccomp_filter.rst`; the list is in the spirit of
//! the default profiles of container engines, stricter about `ptrace` and user namespaces.

/// The newest call that was weighed (`mseal`, Linux 6.10). Numbers are shared by all architectures since 424.
const NEWEST: u32 = libc::SYS_mseal as u32;

/// Refused with `EPERM`.
const REFUSED: &[libc::c_long] = &[
    // Time, accounting, power, swap, quotas, the kernel's log.
    libc::SYS_acct,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    libc::SYS_reboot,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    // The kernel's code.
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_perf_event_open,
    // Keys belong to a user, and all functions are one.
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    // Mounts and namespaces.
    libc::SYS_chroot,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    // Files by number instead of by path; watching whole file systems.
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // Other processes.
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    // Favourites of exploits.
    libc::SYS_memfd_secret,
    libc::SYS_userfaultfd,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
];

/// As if the kernel did not have them: callers then fall back to what can be looked into. (`clone3` hides its
/// flags in memory, where a filter cannot look.)
const ABSENT: &[libc::c_long] =
    &[libc::SYS_clone3, libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_io_uring_setup];

/// Families of sockets that a function may have.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

const NEW_NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

// `struct seccomp_data`: number, architecture, instruction pointer, six arguments (here: their low halves).
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const fn argument_at(n: u32) -> u32 {
    16 + 8 * n
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const fn error(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

/// The filter as the kernel takes it: instructions of 8 bytes.
pub fn filter() -> Vec<u8> {
    let mut program = Program::default();
    // Another instruction set has other numbers: nothing could be told apart.
    program.load(ARCHITECTURE_AT).unless(EQUAL, ARCHITECTURE, KILL).load(NUMBER_AT);
    program.when(GREATER, NEWEST, error(libc::ENOSYS));
    for &call in ABSENT {
        program.when(EQUAL, call as u32, error(libc::ENOSYS));
    }
    for &call in REFUSED {
        program.when(EQUAL, call as u32, error(libc::EPERM));
    }
    program.of(libc::SYS_clone, |program| {
        program.load(argument_at(0)).when(ANY_BIT, NEW_NAMESPACES as u32, error(libc::EPERM))
    });
    // To make a pair the kernel makes two sockets of any family, and only then asks it whether it has pairs.
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        program.of(call, |program| {
            program.load(argument_at(0));
            for family in FAMILIES {
                program.when(EQUAL, family as u32, ALLOW);
            }
            program.end(error(libc::EAFNOSUPPORT))
        });
    }
    // Huge pages that the administrator has set aside for somebody are counted as nobody's memory. Who finds none takes
    // ordinary ones.
    for (call, argument, huge) in [
        (libc::SYS_mmap, 3, libc::MAP_HUGETLB as u32),
        (libc::SYS_memfd_create, 1, libc::MFD_HUGETLB),
        (libc::SYS_shmget, 2, libc::SHM_HUGETLB as u32),
    ] {
        program
            .of(call, |program| program.load(argument_at(argument)).when(ANY_BIT, huge, error(libc::ENOMEM)));
    }
    program.of(libc::SYS_ioctl, |program| {
        program.load(argument_at(1));
        // Typing into somebody's terminal.
        program.when(EQUAL, libc::TIOCSTI as u32, error(libc::EPERM));
        program.when(EQUAL, libc::TIOCLINUX as u32, error(libc::EPERM))
    });
    program.end(ALLOW);
    program.instructions.concat()
}

/// Instructions in order. Every test looks at what was loaded last.
#[derive(Default)]
struct Program {
    instructions: Vec<[u8; 8]>,
}

impl Program {
    fn push(&mut self, code: u16, then: u8, otherwise: u8, value: u32) -> &mut Program {
        let [a, b] = code.to_ne_bytes();
        let [c, d, e, f] = value.to_ne_bytes();
        self.instructions.push([a, b, then, otherwise, c, d, e, f]);
        self
    }

    fn load(&mut self, offset: u32) -> &mut Program {
        self.push(LOAD, 0, 0, offset)
    }

    fn when(&mut self, test: u16, value: u32, verdict: u32) -> &mut Program {
        self.push(test, 0, 1, value).end(verdict)
    }

    fn unless(&mut self, test: u16, value: u32, verdict: u32) -> &mut Program {
        self.push(test, 1, 0, value).end(verdict)
    }

    fn end(&mut self, verdict: u32) -> &mut Program {
        self.push(RETURN, 0, 0, verdict)
    }

    /// Instructions for one call only; what they do not decide is allowed.
    fn of(&mut self, call: libc::c_long, rules: impl FnOnce(&mut Program) -> &mut Program) {
        let mut inner = Program::default();
        rules(&mut inner).end(ALLOW);
        let skip = u8::try_from(inner.instructions.len()).expect("a handful");
        self.push(EQUAL, 0, skip, call as u32);
        self.instructions.append(&mut inner.instructions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter says about a call, by walking it as the kernel does.
    fn verdict<const N: usize>(number: libc::c_long, arguments: [u32; N]) -> u32 {
        let field = |offset: u32| match offset {
            NUMBER_AT => number as u32,
            ARCHITECTURE_AT => ARCHITECTURE,
            at => arguments[(at - argument_at(0)) as usize / 8],
        };
        let (program, mut loaded, mut at) = (filter(), 0, 0);
        loop {
            let bytes = &program[8 * at..][..8];
            let code = u16::from_ne_bytes([bytes[0], bytes[1]]);
            let value = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            at += 1;
            let holds = match code {
                LOAD => {
                    loaded = field(value);
                    continue;
                }
                EQUAL => loaded == value,
                GREATER => loaded > value,
                ANY_BIT => loaded & value != 0,
                RETURN => return value,
                code => panic!("no such instruction: {code}"),
            };
            at += usize::from(if holds { bytes[2] } else { bytes[3] });
        }
    }

    #[test]
    fn everyday_calls_are_allowed() {
        for call in [libc::SYS_read, libc::SYS_openat, libc::SYS_execve, libc::SYS_futex] {
            assert_eq!(verdict(call, [0, 0]), ALLOW, "{call}");
        }
        assert_eq!(verdict(libc::SYS_socket, [libc::AF_INET as u32, 0]), ALLOW);
        assert_eq!(verdict(libc::SYS_socketpair, [libc::AF_UNIX as u32, 0]), ALLOW);
        assert_eq!(verdict(libc::SYS_clone, [libc::SIGCHLD as u32, 0]), ALLOW);
        assert_eq!(verdict(libc::SYS_ioctl, [0, libc::FIONREAD as u32]), ALLOW);
    }

    #[test]
    fn what_reaches_beyond_the_function_is_refused() {
        let refused = error(libc::EPERM);
        for call in [libc::SYS_mount, libc::SYS_ptrace, libc::SYS_unshare, libc::SYS_bpf, libc::SYS_keyctl] {
            assert_eq!(verdict(call, [0, 0]), refused, "{call}");
        }
        assert_eq!(verdict(libc::SYS_clone, [libc::CLONE_NEWUSER as u32, 0]), refused);
        assert_eq!(verdict(libc::SYS_ioctl, [0, libc::TIOCSTI as u32]), refused);
        for call in [libc::SYS_socket, libc::SYS_socketpair] {
            for family in [libc::AF_VSOCK, libc::AF_ALG, libc::AF_TIPC] {
                assert_eq!(verdict(call, [family as u32, 0]), error(libc::EAFNOSUPPORT), "{call} {family}");
            }
        }
    }

    #[test]
    fn memory_that_no_limit_counts_is_not_there() {
        let refused = error(libc::ENOMEM);
        let (map, anonymous) = (libc::SYS_mmap, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        assert_eq!(verdict(map, [0, 4096, 3, anonymous as u32]), ALLOW);
        assert_eq!(verdict(map, [0, 4096, 3, (anonymous | libc::MAP_HUGETLB) as u32]), refused);
        assert_eq!(verdict(libc::SYS_memfd_create, [0, libc::MFD_CLOEXEC]), ALLOW);
        assert_eq!(verdict(libc::SYS_memfd_create, [0, libc::MFD_HUGETLB]), refused);
        assert_eq!(verdict(libc::SYS_shmget, [0, 4096, 0o1600]), ALLOW);
        assert_eq!(verdict(libc::SYS_shmget, [0, 4096, 0o1600 | libc::SHM_HUGETLB as u32]), refused);
    }

    #[test]
    fn what_the_list_does_not_know_is_absent() {
        for call in [libc::c_long::from(NEWEST + 1), 0x4000_0000, libc::SYS_io_uring_setup, libc::SYS_clone3]
        {
            assert_eq!(verdict(call, [0, 0]), error(libc::ENOSYS), "{call}");
        }
    }
}
