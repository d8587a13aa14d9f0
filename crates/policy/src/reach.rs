//! Whether an instance may be connected to an address outside of it.
//!
//! Instances have no way to the network of their own: the server makes every connection for them, after asking here.

use model::Network;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an instance is not connected to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its function has no network.
    NoNetwork,
    /// It is the machine, or another that only the machine itself may speak to.
    Machine,
    /// It is a link's own address, or one where clouds tell secrets to machines.
    LinkLocal,
    /// It is nobody's: a multicast, broadcast or reserved address.
    NoHost,
}

/// Networks that no instance reaches, as address, length of the prefix, and why. What a machine's own routing calls
/// local is refused besides.
///
/// Sources: RFC 6890 (special-purpose addresses); the metadata services of AWS (`169.254.169.254`,
/// `fd00:ec2::254`), Azure (`168.63.129.16`), Alibaba (`100.100.100.200`) and Oracle (`192.0.0.192`).
pub const BARRED: [(IpAddr, u8, Refused); 14] = [
    (v4(0, 0, 0, 0), 8, Refused::Machine),
    (v4(127, 0, 0, 0), 8, Refused::Machine),
    (v4(169, 254, 0, 0), 16, Refused::LinkLocal),
    (v4(168, 63, 129, 16), 32, Refused::LinkLocal),
    (v4(100, 100, 100, 200), 32, Refused::LinkLocal),
    (v4(192, 0, 0, 0), 24, Refused::LinkLocal),
    (v4(224, 0, 0, 0), 4, Refused::NoHost),
    (v4(240, 0, 0, 0), 4, Refused::NoHost),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128, Refused::Machine),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128, Refused::Machine),
    (v6(0xfe80, 0), 10, Refused::LinkLocal),
    (v6(0xfd00, 0x0ec2), 32, Refused::LinkLocal),
    (v6(0xfec0, 0), 10, Refused::LinkLocal),
    (v6(0xff00, 0), 8, Refused::NoHost),
];

/// Whether an instance of a function with this `network` may be connected to `address`. `local` says whether the
/// machine's routing delivers it to the machine itself.
///
/// # Errors
/// Why not.
pub fn may_reach(network: Network, address: IpAddr, local: impl Fn(IpAddr) -> bool) -> Result<(), Refused> {
    match network {
        Network::Host => return Ok(()),
        Network::None => return Err(Refused::NoNetwork),
        Network::Internet => {}
    }
    // As it is written, too: the machine's own may be one of those that stand for another.
    let both = [address.to_canonical(), behind(address)];
    let is_barred =
        |address: IpAddr| BARRED.iter().find(|(prefix, length, _)| within(address, *prefix, *length));
    match both.into_iter().find_map(is_barred) {
        Some((_, _, why)) => Err(*why),
        None if both.into_iter().any(local) => Err(Refused::Machine),
        None => Ok(()),
    }
}

/// The address that is meant: IPv4 is written within IPv6 in more than one way, and translated by gateways.
/// Sources: RFC 4291, 2.5.5 (mapped, compatible), RFC 6052 (`64:ff9b::/96`), RFC 3056 (`2002::/16`).
pub fn behind(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let s = v6.segments();
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        _ => address,
    }
}

fn within(address: IpAddr, prefix: IpAddr, length: u8) -> bool {
    match (address, prefix) {
        (IpAddr::V4(address), IpAddr::V4(prefix)) => {
            (u32::from(address) ^ u32::from(prefix)).checked_shr(32 - u32::from(length)).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(prefix)) => {
            (u128::from(address) ^ u128::from(prefix)).checked_shr(128 - u32::from(length)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(first: u16, second: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0))
}

/// The most connections that one instance has at once, however many are free.
pub const MOST_CONNECTIONS: usize = 512;

/// Whether an instance that has `own` connections gets one more while `free` are left for all. It may have up to a
/// sixteenth of what is free: so one that takes all it gets leaves most, and many of them still leave some for the next.
/// Source: A. K. Choudhury, E. L. Hahne, "Dynamic queue length thresholds for shared-memory packet switches"
/// (IEEE/ACM Transactions on Networking 6, 1998).
pub fn may_connect(own: usize, free: usize) -> bool {
    free > 0 && own < MOST_CONNECTIONS && own <= free / 16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(network: Network, address: &str) -> Result<(), Refused> {
        let own = ["192.0.2.2", "fd00::2", "2002:cb00:7101::2", "64:ff9b::cb00:7101"];
        let own = |address: IpAddr| own.iter().any(|own| own.parse() == Ok(address));
        may_reach(network, address.parse().expect("an address"), own)
    }

    #[test]
    fn the_internet_is_every_host_but_the_machine_and_its_links() {
        for address in
            ["1.1.1.1", "10.0.0.7", "192.168.1.20", "172.17.0.3", "192.0.2.3", "2606:4700::1111", "fd00::3"]
        {
            assert_eq!(check(Network::Internet, address), Ok(()), "{address}");
        }
        for (address, why) in [
            ("127.0.0.1", Refused::Machine),
            ("127.8.9.10", Refused::Machine),
            ("0.0.0.0", Refused::Machine),
            ("::1", Refused::Machine),
            ("::", Refused::Machine),
            ("192.0.2.2", Refused::Machine),
            ("fd00::2", Refused::Machine),
            ("169.254.169.254", Refused::LinkLocal),
            ("168.63.129.16", Refused::LinkLocal),
            ("fe80::1", Refused::LinkLocal),
            ("fd00:ec2::254", Refused::LinkLocal),
            ("224.0.0.251", Refused::NoHost),
            ("255.255.255.255", Refused::NoHost),
            ("ff02::1", Refused::NoHost),
        ] {
            assert_eq!(check(Network::Internet, address), Err(why), "{address}");
        }
    }

    #[test]
    fn an_address_is_refused_in_every_dress() {
        for address in [
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:192.0.2.2",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "2002:7f00:1::",
            // The machine's own, of a network behind a relay or of its own translator.
            "2002:cb00:7101::2",
            "64:ff9b::cb00:7101",
        ] {
            assert!(check(Network::Internet, address).is_err(), "{address}");
        }
        for address in ["64:ff9b::1.1.1.1", "2002:cb00:7101::3", "::ffff:1.1.1.1"] {
            assert_eq!(check(Network::Internet, address), Ok(()), "{address}");
        }
    }

    #[test]
    fn none_is_nobody_and_host_is_everybody() {
        for address in ["1.1.1.1", "127.0.0.1", "169.254.169.254", "fe80::1"] {
            assert_eq!(check(Network::None, address), Err(Refused::NoNetwork));
            assert_eq!(check(Network::Host, address), Ok(()));
        }
    }

    #[test]
    fn who_takes_all_it_gets_leaves_most() {
        let (total, mut free) = (1_000, 1_000);
        let mut taken = Vec::new();
        for _ in 0..64 {
            let mut own = 0;
            while may_connect(own, free) {
                (own, free) = (own + 1, free - 1);
            }
            taken.push(own);
        }
        assert!(taken[0] <= total / 16, "{taken:?}");
        assert!(taken.iter().all(|own| *own > 0), "the sixty-fourth still gets one: {taken:?}");
        assert!(!may_connect(0, 0));
        assert!(!may_connect(MOST_CONNECTIONS, 1_000_000));
    }
}
