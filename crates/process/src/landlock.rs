//! A second wall behind the mounts: Landlock allows a program to reach what lies below the root of its view, to write to
//! `/tmp` and to the few devices that it sees, and to signal and to find by abstract names its own processes only. It
//! holds where a mount should have been read-only and is not, where a descriptor leads out of the view, and in the
//! machine's network.
//!
//! Nobody's rules name `/proc`: nothing there can be written to.
//!
//! Source: kernel documentation, `userspace-api/landlock.rst`.

use crate::kernel;
use crate::script::{Script, ops};

/// The oldest ABI that is used (Linux 5.19). Before it nothing could be moved from one folder of `/tmp` to another.
pub const OLDEST: u32 = 2;

// What can be done to files: LANDLOCK_ACCESS_FS_…
const EXECUTE: u32 = 1;
const WRITE_FILE: u32 = 1 << 1;
const READ_FILE: u32 = 1 << 2;
const READ_DIR: u32 = 1 << 3;
const MAKE_CHAR: u32 = 1 << 6;
const MAKE_BLOCK: u32 = 1 << 11;
const TRUNCATE: u32 = 1 << 14;
const IOCTL_DEV: u32 = 1 << 15;
/// LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and LANDLOCK_SCOPE_SIGNAL.
const SCOPES: u32 = 1 | 1 << 1;
/// LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF: a function is not to fill the machine's audit log.
const QUIET: u32 = 1;

/// What a program's plan says of this wall; nothing where the kernel does not have it.
pub fn confine(script: &mut Script) {
    if let Some(abi) = kernel::landlock_abi().filter(|abi| *abi >= OLDEST) {
        script.add(ops::CONFINE, &[]);
        words(abi).into_iter().for_each(|word| _ = script.number(word));
    }
}

/// The operands of [`ops::CONFINE`] for a kernel of this ABI.
fn words(abi: u32) -> [u32; 6] {
    // Thirteen from the beginning, then moving between folders, cutting off, and what only devices understand.
    let handled: u32 = match abi {
        ..=1 => (1 << 13) - 1,
        2 => (1 << 14) - 1,
        3 | 4 => (1 << 15) - 1,
        5.. => (1 << 16) - 1,
    };
    let scoped = if abi >= 6 { SCOPES } else { 0 };
    let flags = if abi >= 7 { QUIET } else { 0 };
    let view = EXECUTE | READ_FILE | READ_DIR;
    let devices = WRITE_FILE | TRUNCATE | IOCTL_DEV;
    let tmp = !(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV);
    [handled, scoped, flags, view & handled, devices & handled, tmp & handled]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_asked_for_nothing_that_it_does_not_know() {
        assert_eq!(words(2), [0x3fff, 0, 0, 0b1101, 0b10, 0x37bf]);
        assert_eq!(words(3), [0x7fff, 0, 0, 0b1101, 0x4002, 0x77bf]);
        assert_eq!(words(5), [0xffff, 0, 0, 0b1101, 0xc002, 0x77bf]);
        assert_eq!(words(6)[1..3], [0b11, 0]);
        assert_eq!(words(9), [0xffff, 0b11, 1, 0b1101, 0xc002, 0x77bf]);
    }
}
