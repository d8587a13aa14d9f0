//! The network of an instance: its own, with nothing in it but itself and what the server lets in.
//!
//! There is no wire between an instance's network and the machine's. The sandbox's first process opens sockets inside
//! and gives them to the server, which listens on them and makes every connection that the function's policy
//! (`policy::reach`) allows, from outside, in its own name. So it needs no root, no tool and no address, and changes
//! nothing of the machine; two instances share nothing, and when the last socket closes the network is gone.

mod datagrams; // UDP: flows to other hosts, and names
mod machine; //   what the machine's own network is like
mod netlink; //   messages to the kernel
mod outside; //   what instances of this server reach
mod rules; //     addresses, routes and packet rules inside
pub mod sockets; // sockets that were opened inside
mod streams; //   TCP: the server in the middle

pub use machine::resolv_conf;
pub use outside::{Outside, Permit, Visitor};
pub use sockets::{listener, unconnected};

use crate::child::Child;
use crate::script::{Script, ops};
use crate::socket::Control;
use crate::spawner::NotStarted;
use model::Network;
use netlink::Netlink;
use outside::Endpoint;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Where an instance finds its Runtime API, as on Lambda.
pub const RUNTIME_API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9001);
/// Where an instance's web program listens.
pub const WEB_PROGRAM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// One instance's network, from outside. What is served in it ends with this.
pub struct Wires {
    outside: Arc<Outside>,
    route: Option<Netlink>,
    doors: Option<Doors>,
    endpoints: Vec<(OwnedFd, Endpoint)>,
    runtime_api: Option<(OwnedFd, SocketAddr)>,
    tasks: JoinSet<()>,
}

/// What is meant for other hosts comes in here.
struct Doors {
    rules: Option<Netlink>,
    streams: OwnedFd,
    datagrams: OwnedFd,
}

impl Wires {
    /// Has the first process of `child` open the sockets. `doors`: whether its function may have the policy `internet`;
    /// `runtime_api`: where that is to be listened for.
    pub fn take(
        child: &Child,
        outside: &Arc<Outside>,
        doors: bool,
        runtime_api: Option<SocketAddr>,
    ) -> Result<Wires, NotStarted> {
        let endpoints = outside.endpoints();
        let doors = doors && outside.has_doors();
        let mut script = Script::default();
        let mut socket = |domain: i32, kind: i32, protocol: i32| {
            script.add(ops::SOCKET, &[]).number(domain as u32).number(kind as u32).number(protocol as u32);
        };
        socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE);
        if doors {
            socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER);
            let family = if outside.machine().knows_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
            socket(family, libc::SOCK_STREAM, 0);
            socket(family, libc::SOCK_DGRAM, 0);
        }
        let listened = endpoints.iter().map(|endpoint| endpoint.inside).chain(runtime_api);
        listened.for_each(|address| socket(sockets::family(address), libc::SOCK_STREAM, 0));
        child.begin(&script, &[])?;
        let mut given = child.outcome(&script)?.into_iter();
        let mut wires = || -> Option<Wires> {
            Some(Wires {
                outside: outside.clone(),
                route: Some(Netlink::over(given.next()?).ok()?),
                doors: match doors {
                    true => Some(Doors {
                        rules: Some(Netlink::over(given.next()?).ok()?),
                        streams: given.next()?,
                        datagrams: given.next()?,
                    }),
                    false => None,
                },
                endpoints: endpoints
                    .iter()
                    .map(|endpoint| Some((given.next()?, endpoint.clone())))
                    .collect::<Option<_>>()?,
                runtime_api: match runtime_api {
                    Some(address) => Some((given.next()?, address)),
                    None => None,
                },
                tasks: JoinSet::new(),
            })
        };
        let wires = wires().ok_or_else(|| io::Error::other("sockets are missing"));
        wires.map_err(NotStarted::at("open sockets in the sandbox"))
    }

    /// Lays out the network for any function: its links, its packet rules, and the sockets that the server listens on.
    pub fn lay_out(&mut self) -> Result<(), NotStarted> {
        let ipv6 = self.outside.machine().has_ipv6();
        if let Some(route) = &self.route {
            let links = route.carry_out(rules::links(ipv6));
            links.map_err(NotStarted::at("set up the sandbox's loopback"))?;
            let far = self.endpoints.iter().map(|(_, endpoint)| endpoint.inside.ip());
            let far = rules::endpoints(far.filter(|address| !address.is_loopback()));
            route.carry_out(far).map_err(NotStarted::at("lead to the endpoints"))?;
        }
        for (socket, endpoint) in &self.endpoints {
            let step = || format!("listen on {} in the sandbox", endpoint.inside);
            sockets::bind(socket, endpoint.inside).map_err(NotStarted::at(step()))?;
            sockets::listen(socket).map_err(NotStarted::at(step()))?;
        }
        if let Some((socket, address)) = &self.runtime_api {
            let bound = sockets::bind(socket, *address).and_then(|()| sockets::listen(socket));
            bound.map_err(NotStarted::at("listen for the runtime in the sandbox"))?;
        }
        match &mut self.doors {
            Some(doors) => doors
                .set_up(self.outside.machine().knows_ipv6())
                .map_err(NotStarted::at("have connections handed to the server (nft_tproxy)")),
            None => Ok(()),
        }
    }

    /// Lets the instance reach what `network` allows; for a network that was set up for it.
    pub fn open(&mut self, network: Network, control: &Arc<Control>) -> Result<(), NotStarted> {
        let failed = NotStarted::at("open the sandbox's network");
        self.try_open(network, control).map_err(failed)
    }

    fn try_open(&mut self, network: Network, control: &Arc<Control>) -> io::Result<()> {
        let visitor = self.outside.visitor();
        for (socket, endpoint) in self.endpoints.drain(..) {
            let listener = sockets::watched(socket)?;
            self.tasks.spawn(streams::serve_endpoint(listener, endpoint, visitor.clone()));
        }
        let route = self.route.take();
        if let (Network::Internet, Some(doors), Some(route)) = (network, self.doors.take(), route) {
            let machine = self.outside.machine();
            route.carry_out(rules::everywhere(machine.has_ipv6()))?;
            let (ipv6, own) = (machine.has_ipv6(), machine.addresses());
            route.carry_out(rules::unreachable(&own, ipv6, &self.outside.endpoints()))?;
            let listener = sockets::watched(doors.streams)?;
            self.tasks.spawn(streams::serve_door(listener, self.outside.clone(), visitor.clone()));
            let socket = sockets::datagrams(doors.datagrams)?;
            let inside = datagrams::Inside::new(control.clone());
            self.tasks.spawn(datagrams::serve_door(socket, inside, self.outside.clone(), visitor));
        }
        self.doors = None;
        Ok(())
    }

    /// Where the runtime is listened for.
    pub fn runtime_api(&mut self) -> Option<OwnedFd> {
        Some(self.runtime_api.take()?.0)
    }
}

impl Doors {
    fn set_up(&mut self, ipv6: bool) -> io::Result<()> {
        sockets::bind_door(&self.streams, rules::DOOR, ipv6)?;
        sockets::listen(&self.streams)?;
        sockets::tell_destinations(&self.datagrams, ipv6)?;
        sockets::bind_door(&self.datagrams, rules::DOOR, ipv6)?;
        match self.rules.take() {
            Some(tables) => tables.carry_out(rules::doors()),
            None => Ok(()),
        }
    }
}

/// A socket in the network of `control`'s sandbox, not bound and not connected. Takes some 50 µs, or until the sandbox is
/// thawed.
pub async fn open_inside(control: &Control, domain: i32, kind: i32) -> io::Result<OwnedFd> {
    let mut script = Script::default();
    script.add(ops::SOCKET, &[]).number(domain as u32).number(kind as u32).number(0);
    let mut reply = control.ask(script.bytes()?).await?;
    match reply.errno {
        0 => reply.descriptors.pop().ok_or_else(|| io::Error::other("a socket is missing")),
        errno => Err(io::Error::from_raw_os_error(errno as i32)),
    }
}
