//! What the server's file descriptors are for: how many connections it may accept and how many instances it may
//! hold, so that neither ever takes what the other, or a file of the server's own, needs.

/// Descriptors for what the server opens for itself: the database, log segments, pipes to a child that is
/// being started, files of a deployment.
pub const OWN: u32 = 128;

/// The least with which a server can run: one handful of connections, one handful of instances.
pub const MIN_TOTAL: u32 = OWN + 32;

/// The most connections at once, however many descriptors there are: each costs memory as well.
const MAX_CONNECTIONS: u32 = 8192;

/// How the descriptors of a server are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Connections that may be accepted at once. Each costs up to two: itself, and the file or program that it
    /// is about.
    pub connections: u32,
    /// Connections that instances may have to elsewhere, all together: each costs two, inside and outside.
    pub relays: u32,
    /// Descriptors for all instances together.
    pub instances: u32,
}

/// Shares out `total` descriptors: of what the server does not need itself, a quarter is for connections, up to
/// 8,192 of them, an eighth for what instances connect to, up to 8,192 as well, and the rest for instances. So there
/// are more connections than instances with their ten descriptors or so, and whoever finds no room for an instance can
/// still be told. `None`: fewer than [`MIN_TOTAL`].
pub fn share(total: u64) -> Option<Share> {
    let total = u32::try_from(total).unwrap_or(u32::MAX);
    let rest = total.checked_sub(OWN).filter(|_| total >= MIN_TOTAL)?;
    let connections = (rest / 8).clamp(8, MAX_CONNECTIONS);
    let relays = (rest / 16).clamp(2, MAX_CONNECTIONS);
    Some(Share { connections, relays, instances: rest - 2 * (connections + relays) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(total: u64, connections: u32, relays: u32, instances: u32) {
        assert_eq!(share(total), Some(Share { connections, relays, instances }));
    }

    #[test]
    fn what_is_shared_out_is_never_more_than_there_is() {
        for total in (160..100_000).chain([1 << 20, 1 << 30]) {
            let Share { connections, relays, instances } = share(total).unwrap();
            assert!(u64::from(OWN + 2 * (connections + relays) + instances) <= total, "{total}");
        }
    }

    #[test]
    fn common_limits_are_shared_out_like_this() {
        check(160, 8, 2, 12); //            the least
        check(1024, 112, 56, 560); //       a shell's hard limit that was lowered
        check(4096, 496, 248, 2480); //     older systems
        check(20_000, 2484, 1242, 12_420); // containers
        check(1 << 20, 8192, 8192, 1_015_680); // systemd
    }

    #[test]
    fn a_limit_that_is_too_low_to_run_with_is_told() {
        assert_eq!(share(159), None);
        assert_eq!(share(0), None);
    }

    #[test]
    fn no_limit_at_all_is_fine_too() {
        assert_eq!(share(u64::MAX).map(|share| share.connections), Some(8192));
    }
}
