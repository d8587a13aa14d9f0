//! How the network inside a sandbox is laid out.
//!
//! It has one link, the loopback, and on it an address of its own. A function with the policy `internet` has a default
//! route on which every address of the world is local: what is sent there comes back in on the loopback, where a
//! packet rule hands it to one of two sockets that the server holds (the kernel's transparent proxying). So a
//! connection to anywhere is a connection to the server, which knows from the socket where it was meant to go.
//!
//! Sources: `rtnetlink(7)`; kernel documentation `networking/tproxy.rst`; `linux/netfilter/nf_tables.h`.

use super::netlink::{APPEND, CREATE, Messages};
use super::outside::Endpoint;
use policy::reach::BARRED;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An instance's own address: the dummy of RFC 7600, which is no host's.
pub const OWN_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
/// … and in IPv6, of a unique local prefix (RFC 4193) that exists in instances only.
pub const OWN_V6: Ipv6Addr = Ipv6Addr::new(0xfd62, 0x726f, 0x6f6b, 0, 0, 0, 0, 1);
/// Where an instance finds its name server, which is the server: of the block that RFC 6890 keeps for protocols.
pub const NAMESERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 53);
/// Where the sockets are that take what is meant for other hosts. Nobody needs to know it.
pub const DOOR: u16 = 61_001;

/// In every new network the first link is the loopback.
const LOOPBACK: u32 = 1;

/// The loopback, with an address of the sandbox's own.
pub fn links(ipv6: bool) -> Messages {
    const UP: u32 = 1;
    const NO_DETECTION_OF_DUPLICATES: u8 = 2;
    let mut messages = Messages::default();
    let mut link = vec![0u8; 4];
    link.extend([LOOPBACK, UP, UP].iter().flat_map(|n| n.to_ne_bytes()));
    messages.begin(libc::RTM_NEWLINK, 0, &link);
    let mut address = |address: IpAddr, flags: u8| {
        let (family, bytes) = parts(address);
        let [a, b, c, d] = LOOPBACK.to_ne_bytes();
        let fixed = [family, 8 * bytes.len() as u8, flags, 0, a, b, c, d];
        messages.begin(libc::RTM_NEWADDR, CREATE, &fixed);
        messages.attribute(libc::IFA_LOCAL, &bytes).attribute(libc::IFA_ADDRESS, &bytes);
    };
    address(OWN_V4.into(), 0);
    if ipv6 {
        address(OWN_V6.into(), NO_DETECTION_OF_DUPLICATES);
    }
    messages
}

/// Makes single addresses of other hosts local, so that the server can listen there.
pub fn endpoints(addresses: impl Iterator<Item = IpAddr>) -> Messages {
    let mut messages = Messages::default();
    addresses.for_each(|address| {
        let whole = 8 * parts(address).1.len() as u8;
        local(&mut messages, address, whole);
    });
    messages
}

/// Makes all addresses local but those that are refused anyhow: they are unreachable at once, and not only when the
/// server is asked.
pub fn everywhere(ipv6: bool) -> Messages {
    let mut messages = Messages::default();
    local(&mut messages, Ipv4Addr::UNSPECIFIED.into(), 0);
    local(&mut messages, NAMESERVER.into(), 32);
    if ipv6 {
        local(&mut messages, Ipv6Addr::UNSPECIFIED.into(), 0);
    }
    for (address, length, _) in BARRED {
        let own = address.is_loopback() || address.is_unspecified();
        if !own && (ipv6 || address.is_ipv4()) {
            route(&mut messages, libc::RTN_UNREACHABLE, address, length);
        }
    }
    messages
}

/// Makes the machine's addresses unreachable, but for those where an endpoint is.
pub fn unreachable(machine: &[IpAddr], ipv6: bool, endpoints: &[Endpoint]) -> Messages {
    let endpoint = |address: &IpAddr| endpoints.iter().any(|endpoint| endpoint.inside.ip() == *address);
    let known = |address: &IpAddr| BARRED.iter().any(|(barred, ..)| barred == address);
    let single: BTreeSet<&IpAddr> = machine
        .iter()
        .filter(|address| (ipv6 || address.is_ipv4()) && !address.is_loopback())
        .filter(|address| !endpoint(address) && !known(address))
        .collect();
    let mut messages = Messages::default();
    for address in single {
        route(&mut messages, libc::RTN_UNREACHABLE, *address, 8 * parts(*address).1.len() as u8);
    }
    messages
}

fn local(messages: &mut Messages, address: IpAddr, length: u8) {
    route(messages, libc::RTN_LOCAL, address, length);
    let own = if address.is_ipv4() { IpAddr::V4(OWN_V4) } else { OWN_V6.into() };
    messages.attribute(libc::RTA_OIF, &LOOPBACK.to_ne_bytes()).attribute(libc::RTA_PREFSRC, &parts(own).1);
}

fn route(messages: &mut Messages, kind: u8, address: IpAddr, length: u8) {
    let (family, bytes) = parts(address);
    let scope = if kind == libc::RTN_LOCAL { libc::RT_SCOPE_HOST } else { libc::RT_SCOPE_UNIVERSE };
    let fixed = [family, length, 0, 0, libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, scope, kind, 0, 0, 0, 0];
    messages.begin(libc::RTM_NEWROUTE, CREATE, &fixed);
    if length > 0 {
        messages.attribute(libc::RTA_DST, &bytes);
    }
}

/// Where this machine's routing sends what is for an address.
pub fn question(address: IpAddr) -> Messages {
    let (family, bytes) = parts(address);
    let mut message = Messages::default();
    let fixed = [family, 8 * bytes.len() as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    message.begin_unanswered(libc::RTM_GETROUTE, 0, &fixed).attribute(libc::RTA_DST, &bytes);
    message
}

/// The kind of route (`RTN_…`) in the answer to a [`question`].
pub fn kind_of_route(answer: &[u8]) -> Option<u8> {
    answer.get(7).copied()
}

/// Address family and bytes.
fn parts(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
    }
}

/// The packet rules: what comes in on the loopback for others than the sandbox itself goes to the door.
pub fn doors() -> Messages {
    const BEGIN: u16 = 0x10;
    const END: u16 = 0x11;
    const NEW_TABLE: u16 = 10 << 8;
    const NEW_CHAIN: u16 = 10 << 8 | 3;
    // `struct nfgenmsg`: family, version, resource; the batch is for the subsystem of tables, number 10.
    const BATCH: [u8; 4] = [0, 0, 0, 10];
    let mut messages = Messages::default();
    messages.begin_unanswered(BEGIN, 0, &BATCH);
    messages.begin(NEW_TABLE, CREATE, &INET).attribute(1, TABLE);
    messages.begin(NEW_CHAIN, CREATE, &INET).attribute(1, TABLE).attribute(3, CHAIN);
    // Hook "prerouting" (0) with the priority that is usual for it.
    messages
        .nest(4, |hook| _ = hook.attribute(1, &0u32.to_be_bytes()).attribute(2, &(-150i32).to_be_bytes()));
    messages.attribute(7, b"filter\0");
    stays(&mut messages, libc::AF_INET, 16, &[127]);
    stays(&mut messages, libc::AF_INET, 16, &OWN_V4.octets());
    stays(&mut messages, libc::AF_INET6, 24, &Ipv6Addr::LOCALHOST.octets());
    stays(&mut messages, libc::AF_INET6, 24, &OWN_V6.octets());
    for protocol in [libc::IPPROTO_TCP, libc::IPPROTO_UDP] {
        rule(&mut messages, |list| {
            meta(list, META_PROTOCOL);
            equals(list, &[protocol as u8]);
            expression(list, b"immediate\0", |data| {
                data.attribute(1, &REGISTER).nest(2, |value| _ = value.attribute(1, &DOOR.to_be_bytes()));
            });
            expression(list, b"tproxy\0", |data| {
                data.attribute(1, &0u32.to_be_bytes()).attribute(3, &REGISTER);
            });
        });
    }
    messages.begin_unanswered(END, 0, &BATCH);
    messages
}

const INET: [u8; 4] = [1, 0, 0, 0];
const TABLE: &[u8] = b"brooklet\0";
const CHAIN: &[u8] = b"doors\0";
const REGISTER: [u8; 4] = 1u32.to_be_bytes();
const META_FAMILY: u32 = 15;
const META_PROTOCOL: u32 = 16;

/// A rule that lets packets alone whose destination, at `offset` of the header, begins with `address`.
fn stays(messages: &mut Messages, family: i32, offset: u32, address: &[u8]) {
    const NETWORK_HEADER: u32 = 1;
    const ACCEPT: u32 = 1;
    rule(messages, |list| {
        meta(list, META_FAMILY);
        equals(list, &[family as u8]);
        expression(list, b"payload\0", |data| {
            data.attribute(1, &REGISTER).attribute(2, &NETWORK_HEADER.to_be_bytes());
            data.attribute(3, &offset.to_be_bytes()).attribute(4, &(address.len() as u32).to_be_bytes());
        });
        equals(list, address);
        expression(list, b"immediate\0", |data| {
            data.attribute(1, &0u32.to_be_bytes());
            data.nest(2, |value| {
                value.nest(2, |verdict| _ = verdict.attribute(1, &ACCEPT.to_be_bytes()));
            });
        });
    });
}

fn rule(messages: &mut Messages, expressions: impl FnOnce(&mut Messages)) {
    const NEW_RULE: u16 = 10 << 8 | 6;
    messages.begin(NEW_RULE, CREATE | APPEND, &INET).attribute(1, TABLE).attribute(2, CHAIN);
    messages.nest(4, expressions);
}

fn expression(list: &mut Messages, name: &[u8], data: impl FnOnce(&mut Messages)) {
    list.nest(1, |one| _ = one.attribute(1, name).nest(2, data));
}

fn meta(list: &mut Messages, key: u32) {
    expression(list, b"meta\0", |data| _ = data.attribute(1, &REGISTER).attribute(2, &key.to_be_bytes()));
}

fn equals(list: &mut Messages, value: &[u8]) {
    expression(list, b"cmp\0", |data| {
        data.attribute(1, &REGISTER).attribute(2, &0u32.to_be_bytes());
        data.nest(3, |compared| _ = compared.attribute(1, value));
    });
}
