//! Sockets that were opened inside a sandbox's network, made into what they are for. The server may do so from
//! outside: it is root, or whom the sandbox's user namespace belongs to.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// The family of an address, as sockets are opened with.
pub fn family(address: SocketAddr) -> i32 {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

/// Receiving fails after this long.
pub fn give_up_after(socket: &OwnedFd, patience: Duration) -> io::Result<()> {
    let limit = libc::timeval { tv_sec: patience.as_secs() as libc::time_t, tv_usec: 0 };
    set(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, limit)
}

/// What receiving failed with, where it [gives up](give_up_after). The kernel's own number for that says in other places that
/// the machine has no room for another process.
pub fn waited_in_vain(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "no answer came in time"),
        _ => error,
    }
}

/// Binds to an address that the sandbox has, or that its routes call local.
pub fn bind(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    if !address.ip().is_loopback() {
        transparent(socket, address.is_ipv6())?;
    }
    set(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    bind_to(socket, address)
}

/// Listens.
pub fn listen(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: listen takes a descriptor that is open and touches no memory.
    check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })
}

/// Binds a socket so that it takes what the packet rules hand it; one of IPv6 takes it of both versions.
pub fn bind_door(socket: &OwnedFd, port: u16, ipv6: bool) -> io::Result<()> {
    transparent(socket, ipv6)?;
    if ipv6 {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
        return bind_to(socket, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    }
    bind_to(socket, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
}

/// Has each datagram tell where it was meant to go.
pub fn tell_destinations(socket: &OwnedFd, ipv6: bool) -> io::Result<()> {
    set(socket, libc::SOL_IP, libc::IP_RECVORIGDSTADDR, 1)?;
    if ipv6 { set(socket, libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR, 1) } else { Ok(()) }
}

fn transparent(socket: &OwnedFd, ipv6: bool) -> io::Result<()> {
    match ipv6 {
        true => set(socket, libc::SOL_IPV6, libc::IPV6_TRANSPARENT, 1),
        false => set(socket, libc::SOL_IP, libc::IP_TRANSPARENT, 1),
    }
}

/// For tokio. Must be called within its runtime, as the next ones.
pub fn listener(socket: OwnedFd) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// To wait for connections without accepting them. Must be called within tokio's runtime.
pub fn watched(socket: OwnedFd) -> io::Result<AsyncFd<std::net::TcpListener>> {
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    // SAFETY: the listener owns its descriptor, which stays registered exactly as long as it is open.
    Ok(unsafe { AsyncFd::register(listener)? })
}

/// For tokio.
pub fn datagrams(socket: OwnedFd) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::from(socket);
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// For tokio: not connected yet.
pub fn unconnected(socket: OwnedFd) -> io::Result<TcpSocket> {
    let stream = std::net::TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    // SAFETY: the descriptor is open and given away.
    Ok(unsafe { TcpSocket::from_raw_fd(OwnedFd::from(stream).into_raw_fd()) })
}

/// A datagram from a socket that [tells destinations](tell_destinations): its length, whence, and where to.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, SocketAddr)> {
    socket.try_io(tokio::io::Interest::READABLE, || receive_now(socket.as_raw_fd(), buffer))
}

fn receive_now(socket: i32, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, SocketAddr)> {
    // Room for one `cmsghdr` with an address of either version.
    #[repr(C)]
    struct Ancillary {
        head: libc::cmsghdr,
        address: libc::sockaddr_in6,
        more: [u64; 8],
    }
    let mut from = MaybeUninit::<libc::sockaddr_in6>::zeroed();
    let mut ancillary = MaybeUninit::<Ancillary>::zeroed();
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: pointers and numbers, for which all zeros is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = from.as_mut_ptr().cast();
    message.msg_namelen = size_of::<libc::sockaddr_in6>() as u32;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = ancillary.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Ancillary>() as _;
    // SAFETY: everything that the message points to lives on this stack or is the caller's buffer.
    let length = unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: all zeros is valid for both, and the kernel has written over some.
    let (from, ancillary) = unsafe { (from.assume_init(), ancillary.assume_init()) };
    let to = match (ancillary.head.cmsg_level, ancillary.head.cmsg_type) {
        _ if message.msg_controllen == 0 => None,
        (libc::SOL_IP, libc::IP_ORIGDSTADDR) | (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR) => {
            Some(address(&ancillary.address))
        }
        _ => None,
    };
    let to = to.ok_or_else(|| io::Error::other("a datagram did not tell where it was meant to go"))?;
    Ok((length, plain(address(&from)), plain(to)))
}

fn address(raw: &libc::sockaddr_in6) -> SocketAddr {
    if i32::from(raw.sin6_family) == libc::AF_INET {
        // SAFETY: it is a `sockaddr_in`, which is smaller and of the same alignment.
        let v4 = unsafe { *(&raw const *raw).cast::<libc::sockaddr_in>() };
        return SocketAddr::from((
            Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)),
            u16::from_be(v4.sin_port),
        ));
    }
    SocketAddr::from((Ipv6Addr::from(raw.sin6_addr.s6_addr), u16::from_be(raw.sin6_port)))
}

/// IPv4 as IPv4, where a socket of IPv6 has it mapped.
pub fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn bind_to(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    match address.ip() {
        IpAddr::V4(ip) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(ip).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: the address lives on this stack and has the length that is told.
            check(unsafe { libc::bind(fd, (&raw const raw).cast(), size_of_val(&raw) as u32) })
        }
        IpAddr::V6(ip) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: ip.octets() },
                sin6_scope_id: 0,
            };
            // SAFETY: the address lives on this stack and has the length that is told.
            check(unsafe { libc::bind(fd, (&raw const raw).cast(), size_of_val(&raw) as u32) })
        }
    }
}

fn set<T>(socket: &OwnedFd, level: i32, option: i32, value: T) -> io::Result<()> {
    let (pointer, length) = ((&raw const value).cast(), size_of::<T>() as u32);
    // SAFETY: the value lives on this stack and has the length that is told.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, pointer, length) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
