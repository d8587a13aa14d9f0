//! What the server tells a function about who called: `X-Forwarded-*` and the trace id.
//!
//! A proxy on this machine is believed (it terminates TLS for us); anyone else could write what they like, so
//! what they say is replaced, as Lambda's own front does.

use super::event::HOP_BY_HOP;
use crate::service::Call;
use crate::{guard, trace};
use http::{HeaderMap, HeaderName};
use std::net::IpAddr;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// The headers that are added to a request, in the place of the caller's.
pub fn headers(call: &Call<'_>, prefix: &str, trace_id: &str) -> Vec<(HeaderName, String)> {
    let (headers, peer) = (&call.head.headers, call.peer.ip());
    let said = |name: &HeaderName| trusted(peer).then(|| text(headers, name)).flatten();
    let port = guard::host(&call.head).and_then(|host| host.rsplit_once(':')).map(|(_, port)| port);
    let chain = match said(&FOR) {
        Some(before) => format!("{before}, {peer}"),
        None => peer.to_string(),
    };
    let mut added = vec![
        (FOR, chain),
        (PROTO, said(&PROTO).unwrap_or("http").to_owned()),
        (PORT, said(&PORT).or(port).unwrap_or("80").to_owned()),
        (trace::HEADER, trace_id.to_owned()),
    ];
    if !prefix.is_empty() {
        added.push((PREFIX, prefix.to_owned()));
    }
    added
}

/// Who is calling: the peer, or whom a proxy on this machine names.
pub fn source(headers: &HeaderMap, peer: IpAddr) -> IpAddr {
    let named = text(headers, &FOR).filter(|_| trusted(peer));
    // The last one is the one that the proxy itself saw.
    let last = named.and_then(|chain| chain.rsplit(',').next()?.trim().parse().ok());
    last.unwrap_or(peer)
}

/// Removes what concerns one connection only, also what `Connection` names.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(http::header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn trusted(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn only_a_proxy_on_this_machine_is_believed() {
        let mut headers = HeaderMap::new();
        headers.insert(FOR, HeaderValue::from_static("1.1.1.1, 2.2.2.2"));
        assert_eq!(source(&headers, [127, 0, 0, 1].into()).to_string(), "2.2.2.2");
        assert_eq!(source(&headers, [9, 9, 9, 9].into()).to_string(), "9.9.9.9");
        headers.insert(FOR, HeaderValue::from_static("unknown"));
        assert_eq!(source(&headers, [127, 0, 0, 1].into()).to_string(), "127.0.0.1");
    }

    #[test]
    fn headers_of_the_connection_stay_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "close, X-Hop"), ("x-hop", "1"), ("te", "trailers"), ("x-own", "2")]
        {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-own"]);
    }
}
