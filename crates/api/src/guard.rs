//! Keeps web pages from using a browser on this machine to call a server without access keys.
//!
//! Any page may send requests to `127.0.0.1`; one that creates a function would run code here. Two signs give a
//! page away: browsers name the page's site in `Origin` (or say `Sec-Fetch-Site: cross-site`), and a name that
//! was made to point here (DNS rebinding) shows in `Host`. Clients that are not browsers have neither.

use crate::error::{ApiError, Kind, Result};
use http::request::Parts;
use http::{HeaderMap, header};
use std::net::IpAddr;

/// Refuses a request that a browser sends for another site's page.
pub fn check(head: &Parts) -> Result<()> {
    let host = host(head).unwrap_or_default();
    if !is_local_name(host_name(host)) {
        return refuse(format!(
            "A server without access keys that listens on this machine only answers to localhost and IP addresses, \
             not to the host name '{host}'. Configure access keys to use it under another name."
        ));
    }
    let cross_site = text(&head.headers, "sec-fetch-site") == Some("cross-site");
    let origin = text(&head.headers, header::ORIGIN.as_str());
    let foreign = origin.is_some_and(|origin| origin.split_once("://").is_none_or(|(_, site)| site != host));
    if cross_site || foreign {
        return refuse(format!(
            "A server without access keys takes no requests from pages of other sites ({}). Configure access keys, \
             or use a function URL with CORS.",
            origin.unwrap_or("cross-site")
        ));
    }
    Ok(())
}

/// The host that was called, with its port if it was said.
pub fn host(head: &Parts) -> Option<&str> {
    match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => text(&head.headers, header::HOST.as_str()),
    }
}

/// A host without its port.
pub fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Names that nobody else can make point here: addresses, `localhost`, names without a dot (which only the own
/// network's administrator gives) and those below `.internal`, which the public DNS does not have (containers know
/// this machine as `host.docker.internal`).
fn is_local_name(name: &str) -> bool {
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let name = name.to_ascii_lowercase();
    address.parse::<IpAddr>().is_ok()
        || !name.contains('.')
        || name.ends_with(".localhost")
        || name.ends_with(".internal")
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn refuse(message: String) -> Result<()> {
    Err(ApiError::new(Kind::AccessDeniedException, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(headers: &[(&str, &str)]) -> bool {
        let mut request = http::Request::builder().uri("/2015-03-31/functions");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap().into_parts().0).is_ok()
    }

    #[test]
    fn clients_and_pages_of_the_server_itself_may_call() {
        assert!(allowed(&[("host", "127.0.0.1:9170")]));
        assert!(allowed(&[("host", "[::1]:9170")]));
        assert!(allowed(&[("host", "localhost:9170"), ("origin", "http://localhost:9170")]));
        assert!(allowed(&[("host", "brooklet:9170")]));
        assert!(allowed(&[("host", "console.localhost")]));
        assert!(allowed(&[("host", "host.docker.internal:9170")]));
    }

    #[test]
    fn pages_of_other_sites_may_not() {
        assert!(!allowed(&[("host", "127.0.0.1:9170"), ("origin", "https://evil.example")]));
        assert!(!allowed(&[("host", "127.0.0.1:9170"), ("origin", "null")]));
        assert!(!allowed(&[("host", "127.0.0.1:9170"), ("sec-fetch-site", "cross-site")]));
        assert!(!allowed(&[("host", "localhost:9170"), ("origin", "http://localhost:3000")]));
    }

    #[test]
    fn a_name_that_was_made_to_point_here_may_not() {
        assert!(!allowed(&[("host", "evil.example:9170"), ("origin", "http://evil.example:9170")]));
        assert!(!allowed(&[("host", "evil.example")]));
        assert!(!allowed(&[("host", "127.0.0.1.evil.example")]));
    }
}
