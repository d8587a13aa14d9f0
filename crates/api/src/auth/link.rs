//! Links that carry their own permission: the download of a deployment package, as `GetFunction` gives it.

use hmac::{Hmac, KeyInit, Mac};
use model::Timestamp;
use sha2::Sha256;

/// How long a link works: as long as Lambda's own.
const LIFETIME_MS: u64 = 10 * 60 * 1000;

/// Makes and checks links. Its key lives as long as the server runs, so a restart ends all links.
pub struct Links([u8; 32]);

impl Links {
    /// With a new random key.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    pub fn new() -> Links {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        Links(key)
    }

    /// The query (`expires=…&signature=…`) that permits reading `what` for ten minutes from `now`.
    pub fn permit(&self, what: &str, now: Timestamp) -> String {
        let expires = now.as_millis() + LIFETIME_MS;
        let signature = self.mac(what, expires).finalize().into_bytes();
        format!("expires={expires}&signature={}", super::sigv4::hex(&signature))
    }

    /// Whether this query permits reading `what` at `now`.
    pub fn permits(&self, what: &str, query: &str, now: Timestamp) -> bool {
        let parameter = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
        };
        let expires = parameter("expires").and_then(|expires| expires.parse::<u64>().ok());
        let signature = parameter("signature").and_then(super::sigv4::unhex);
        match (expires, signature) {
            (Some(expires), Some(signature)) => {
                now.as_millis() <= expires && self.mac(what, expires).verify_slice(&signature).is_ok()
            }
            _ => false,
        }
    }

    fn mac(&self, what: &str, expires: u64) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(what.as_bytes());
        mac.update(&[0]);
        mac.update(&expires.to_be_bytes());
        mac
    }
}

impl Default for Links {
    fn default() -> Links {
        Links::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_works_for_its_own_file_until_it_expires() {
        let links = Links::new();
        let query = links.permit("abc", Timestamp(1000));
        assert!(links.permits("abc", &query, Timestamp(1000 + LIFETIME_MS)));
        assert!(!links.permits("abc", &query, Timestamp(1001 + LIFETIME_MS)));
        assert!(!links.permits("abd", &query, Timestamp(1000)));
        assert!(!links.permits("abc", &query.replace("expires=60", "expires=70"), Timestamp(1000)));
        assert!(!links.permits("abc", "", Timestamp(1000)));
        assert!(!Links::new().permits("abc", &query, Timestamp(1000)));
    }
}
