//! What the machine's own network is like: its addresses, and where its routing sends what is for others.

use super::netlink::Netlink;
use super::rules;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Addresses come and go seldom; what a connection is for is asked anew each time.
const FRESH: Duration = Duration::from_secs(1);

/// The machine's network, or that of the container in which the server is.
pub struct Machine {
    kernel: Mutex<Netlink>,
    seen: Mutex<Option<(Instant, Vec<IpAddr>, bool)>>,
}

impl Machine {
    /// The network of this process.
    pub fn here() -> io::Result<Machine> {
        Ok(Machine { kernel: Mutex::new(Netlink::here()?), seen: Mutex::new(None) })
    }

    /// Whether something sent to this address would not leave the machine, or has no way at all.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.route(address) != Some(libc::RTN_UNICAST)
    }

    /// Whether its kernel has IPv6 at all.
    pub fn knows_ipv6(&self) -> bool {
        std::path::Path::new("/proc/net/if_inet6").exists()
    }

    /// Whether there is a way into the world for IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.look().1
    }

    /// Its addresses, as they were a second ago or later.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.look().0
    }

    fn look(&self) -> (Vec<IpAddr>, bool) {
        let mut seen = self.seen.lock().expect("no panic while held");
        match &*seen {
            Some((at, addresses, ipv6)) if at.elapsed() < FRESH => (addresses.clone(), *ipv6),
            _ => {
                // Any address of the public network.
                let far = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1);
                let (addresses, ipv6) = (own_addresses(), self.route(far.into()) == Some(libc::RTN_UNICAST));
                *seen = Some((Instant::now(), addresses.clone(), ipv6));
                (addresses, ipv6)
            }
        }
    }

    /// The kind of route (`RTN_…`) to an address; `None` when there is none.
    fn route(&self, address: IpAddr) -> Option<u8> {
        let kernel = self.kernel.lock().expect("no panic while held");
        match kernel.ask(rules::question(address)) {
            Ok((libc::RTM_NEWROUTE, answer)) => rules::kind_of_route(&answer),
            _ => None,
        }
    }

    /// The name servers that the machine asks, in order. Source: `resolv.conf(5)`.
    pub fn name_servers(&self) -> Vec<SocketAddr> {
        name_servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
    }
}

fn name_servers(text: &str) -> Vec<SocketAddr> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let named = text.lines().map(words).filter_map(|words| match &*words {
        [key, address, ..] if key == "nameserver" => Some(SocketAddr::new(address.parse().ok()?, 53)),
        _ => None,
    });
    let named: Vec<_> = named.take(3).collect();
    // What the C library asks when nothing is configured.
    if named.is_empty() { vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 53))] } else { named }
}

/// The configuration of names in a sandbox: the server is asked, and asks the machine's name servers as they are then.
/// What the machine says of search lists and options holds inside too.
pub fn resolv_conf(machine: &str) -> String {
    let kept = machine.lines().filter(|line| {
        matches!(line.split_whitespace().next(), Some("search" | "domain" | "options" | "sortlist"))
    });
    let lines = std::iter::once(format!("nameserver {}", rules::NAMESERVER)).chain(kept.map(str::to_owned));
    lines.map(|line| line + "\n").collect()
}

/// The addresses of all links.
fn own_addresses() -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the C library makes the list, which is read and freed here and nowhere else; the family says what an
    // address is.
    unsafe {
        if libc::getifaddrs(&raw mut list) < 0 {
            return found;
        }
        let mut entry = list;
        while let Some(link) = entry.as_ref() {
            if let Some(address) = link.ifa_addr.as_ref() {
                match i32::from(address.sa_family) {
                    libc::AF_INET => {
                        let v4 = link.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned();
                        found.push(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into());
                    }
                    libc::AF_INET6 => {
                        let v6 = link.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned();
                        found.push(Ipv6Addr::from(v6.sin6_addr.s6_addr).into());
                    }
                    _ => {}
                }
            }
            entry = link.ifa_next;
        }
        libc::freeifaddrs(list);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_addresses_are_local() {
        let machine = Machine::here().expect("a network");
        assert!(machine.is_local(Ipv4Addr::LOCALHOST.into()));
        assert!(machine.addresses().contains(&Ipv4Addr::LOCALHOST.into()));
        assert!(machine.addresses().into_iter().all(|own| machine.is_local(own)));
    }

    #[test]
    fn name_servers_are_read_as_the_c_library_reads_them() {
        let text = "# mine\nnameserver 127.0.0.53\n nameserver\t10.0.0.2 # other\nsearch lan\nnameserver fe80::1%eth0\n\
                    nameserver ::1\nnameserver 9.9.9.9\n";
        let expected =
            ["127.0.0.53:53", "10.0.0.2:53", "[::1]:53"].map(|text| text.parse().expect("an address"));
        assert_eq!(name_servers(text), expected);
        assert_eq!(name_servers(""), ["127.0.0.1:53".parse().expect("an address")]);
    }

    #[test]
    fn inside_the_server_is_asked_for_names() {
        let text = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan example.org\n";
        assert_eq!(
            resolv_conf(text),
            "nameserver 192.0.0.53\noptions edns0 trust-ad\nsearch lan example.org\n"
        );
    }
}
