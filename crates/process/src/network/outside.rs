//! What the instances of one server reach, beyond what each function's policy says: Brooklet's own API and the
//! endpoints that the operator names; and how much of it they may have at once.

use super::machine::Machine;
use model::Network;
use policy::reach;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use tokio::sync::Notify;

/// The most addresses of endpoints: each is a socket in every instance.
const MOST_ENDPOINTS: usize = 16;
/// Variables with which AWS's SDKs find a service elsewhere. Source: AWS SDKs and tools reference guide,
/// "Service-specific endpoints".
const ANY_SERVICE: &str = "AWS_ENDPOINT_URL";
const LAMBDA: &str = "AWS_ENDPOINT_URL_LAMBDA";

/// What instances reach, and who they are told of it.
pub struct Outside {
    machine: Machine,
    /// Variable → URL.
    named: BTreeMap<String, String>,
    named_at: Vec<Endpoint>,
    api: OnceLock<SocketAddr>,
    doors: AtomicBool,
    connections: Arc<Connections>,
}

/// An address that instances find at the same place as the server does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where an instance connects to.
    pub inside: SocketAddr,
    /// Where the server then does: one name may have several addresses, of which not all answer.
    pub outside: Arc<[SocketAddr]>,
}

impl Outside {
    /// With the endpoints that the operator has named, as variable → URL, and this many connections for all instances
    /// together. Names are looked up once, here.
    pub fn new(named: BTreeMap<String, String>, connections: usize) -> io::Result<Outside> {
        let mut named_at: Vec<Endpoint> = Vec::new();
        for (variable, url) in &named {
            match addresses(url) {
                Ok(found) => named_at.extend(found),
                Err(error) => {
                    tracing::warn!(%variable, %url, %error, "functions will not reach this endpoint")
                }
            }
        }
        named_at.sort_by_key(|endpoint| endpoint.inside);
        named_at.dedup_by_key(|endpoint| endpoint.inside);
        if named_at.len() > MOST_ENDPOINTS {
            tracing::warn!(
                "the endpoints for functions have {} addresses, of which only {MOST_ENDPOINTS} are reachable",
                named_at.len()
            );
            named_at.truncate(MOST_ENDPOINTS);
        }
        Ok(Outside {
            machine: Machine::here()?,
            named,
            named_at,
            api: OnceLock::new(),
            doors: AtomicBool::new(true),
            connections: Arc::new(Connections { free: Mutex::new(connections), freed: Notify::new() }),
        })
    }

    /// Brooklet's API listens there; to be told before the first instance starts.
    pub fn api_listens_on(&self, address: SocketAddr) {
        let _ = self.api.set(reachable(address));
    }

    /// All endpoints.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let api = self.api.get().map(|&api| Endpoint { inside: api, outside: [api].into() });
        let others = self.named_at.iter().filter(|named| Some(named.inside) != self.api.get().copied());
        api.into_iter().chain(others.cloned()).collect()
    }

    /// An address in an instance's own network, with the usual port unless an endpoint has that.
    pub fn inside(&self, usual: SocketAddr) -> SocketAddr {
        SocketAddr::new(usual.ip(), free_port(&self.endpoints(), usual.port()))
    }

    /// Variables that tell a function of them, unless it has them from its own configuration, `own`. Lambda's clients
    /// find this server, if nobody says otherwise.
    pub fn variables(&self, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut all = self.named.clone();
        if let Some(api) = self.api.get().filter(|_| !own.contains_key(ANY_SERVICE)) {
            all.entry(LAMBDA.to_owned()).or_insert_with(|| format!("http://{api}"));
        }
        all
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Where the server is to connect when an instance of a function with the policy `internet` connects to `to`.
    ///
    /// # Errors
    /// Why it may not.
    pub fn way(&self, to: SocketAddr) -> Result<Arc<[SocketAddr]>, reach::Refused> {
        if let Some(endpoint) = self.endpoints().into_iter().find(|endpoint| endpoint.inside == to) {
            return Ok(endpoint.outside);
        }
        reach::may_reach(Network::Internet, to.ip(), |address| self.machine.is_local(address))?;
        Ok([to].into())
    }

    /// Whether sandboxes get doors, through which `internet` goes.
    pub fn has_doors(&self) -> bool {
        self.doors.load(Ordering::Relaxed)
    }

    /// Whether sandboxes get doors from now on: not every kernel can give them.
    pub fn give_doors(&self, given: bool) {
        self.doors.store(given, Ordering::Relaxed);
    }

    /// The account of one instance.
    pub fn visitor(&self) -> Visitor {
        Visitor { all: self.connections.clone(), own: Arc::default() }
    }
}

/// A port that no endpoint has, from `wanted` on.
fn free_port(endpoints: &[Endpoint], wanted: u16) -> u16 {
    let taken = |port: &u16| endpoints.iter().any(|endpoint| endpoint.inside.port() == *port);
    (wanted..=u16::MAX).find(|port| !taken(port)).unwrap_or(wanted)
}

/// Where a server that listens on `address` is connected to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(ip, address.port())
}

/// The addresses of a URL's host; each leads to all of them.
fn addresses(url: &str) -> io::Result<Vec<Endpoint>> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let uri: http::Uri = url.parse().map_err(|_| invalid("it is no URL"))?;
    let host = uri.host().ok_or_else(|| invalid("it names no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let all: Arc<[SocketAddr]> = (host, uri.port_u16().unwrap_or(usual)).to_socket_addrs()?.collect();
    Ok(all.iter().map(|&inside| Endpoint { inside, outside: all.clone() }).collect())
}

/// The connections that all instances share.
struct Connections {
    free: Mutex<usize>,
    freed: Notify,
}

/// One instance's part of the connections.
#[derive(Clone)]
pub struct Visitor {
    all: Arc<Connections>,
    own: Arc<AtomicUsize>,
}

/// The right to one connection, until it is dropped.
pub struct Permit(Visitor);

impl Visitor {
    /// Waits until this instance may have one connection more.
    pub async fn permit(&self) -> Permit {
        loop {
            let freed = self.all.freed.notified();
            if let Some(permit) = self.try_permit() {
                return permit;
            }
            freed.await;
        }
    }

    /// One connection more, if this instance may have it now.
    pub fn try_permit(&self) -> Option<Permit> {
        let mut free = self.all.free.lock().expect("no panic while held");
        if !reach::may_connect(self.own.load(Ordering::Relaxed), *free) {
            return None;
        }
        *free -= 1;
        self.own.fetch_add(1, Ordering::Relaxed);
        Some(Permit(self.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Visitor { all, own } = &self.0;
        own.fetch_sub(1, Ordering::Relaxed);
        *all.free.lock().expect("no panic while held") += 1;
        all.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside(named: &[(&str, &str)]) -> Outside {
        let named = named.iter().map(|(key, url)| (key.to_string(), url.to_string())).collect();
        Outside::new(named, 8).expect("a network")
    }

    fn texts(endpoints: &[Endpoint]) -> Vec<String> {
        endpoints.iter().map(|endpoint| endpoint.inside.to_string()).collect()
    }

    #[test]
    fn endpoints_are_the_api_and_what_the_operator_names() {
        let outside = outside(&[
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:4566"),
            ("AWS_ENDPOINT_URL_S3", "https://10.1.2.3/path"),
            ("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:4566/again"),
            ("AWS_ENDPOINT_URL_SNS", "http://[::1]:99"),
        ]);
        outside.api_listens_on("0.0.0.0:9170".parse().expect("an address"));
        assert_eq!(
            texts(&outside.endpoints()),
            ["127.0.0.1:9170", "10.1.2.3:443", "127.0.0.1:4566", "[::1]:99"]
        );
    }

    #[test]
    fn a_function_is_told_of_this_server_unless_somebody_says_otherwise() {
        let told = |outside: &Outside, own: &[&str]| {
            let own = own.iter().map(|key| (key.to_string(), String::new())).collect();
            outside.variables(&own).get("AWS_ENDPOINT_URL_LAMBDA").cloned()
        };
        let address = "127.0.0.1:9170".parse().expect("an address");
        let plain = outside(&[("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")]);
        assert_eq!(told(&plain, &[]), None, "before it listens");
        plain.api_listens_on(address);
        assert_eq!(told(&plain, &[]).as_deref(), Some("http://127.0.0.1:9170"));
        assert_eq!(told(&plain, &["AWS_ENDPOINT_URL"]), None);
        let other = outside(&[("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:1")]);
        other.api_listens_on(address);
        assert_eq!(told(&other, &[]).as_deref(), Some("http://127.0.0.1:1"));
    }

    #[test]
    fn an_endpoint_is_reached_where_the_machine_is_not() {
        let outside = outside(&[("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")]);
        let way = |text: &str| outside.way(text.parse().expect("an address"));
        assert!(way("127.0.0.1:4566").is_ok());
        assert!(way("127.0.0.1:4567").is_err());
    }

    #[tokio::test]
    async fn a_connection_that_ends_makes_room_for_one_that_waits() {
        let outside = outside(&[]);
        let (one, two) = (outside.visitor(), outside.visitor());
        let held: Vec<_> = std::iter::from_fn(|| one.try_permit()).collect();
        assert_eq!(held.len(), 1, "a sixteenth of eight, rounded up");
        assert!(two.try_permit().is_some());
        let waiting = one.permit();
        tokio::pin!(waiting);
        assert!(
            std::future::poll_fn(|context| std::task::Poll::Ready(
                waiting.as_mut().poll(context).is_pending()
            ))
            .await
        );
        drop(held);
        waiting.await;
    }

    #[test]
    fn a_port_is_found_beside_the_endpoints() {
        let endpoints = addresses("http://127.0.0.1:8080").expect("an address");
        assert_eq!((free_port(&endpoints, 8080), free_port(&endpoints, 9001)), (8081, 9001));
    }
}
