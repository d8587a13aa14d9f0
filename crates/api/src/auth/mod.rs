//! Who may call: AWS Signature Version 4 against the configured access keys, and links that carry their own
//! permission. Without access keys everyone may.

pub mod link;
pub mod sigv4;

use crate::error::{ApiError, Kind, Result};
use http::request::Parts;
use model::Timestamp;
use sigv4::Signature;
use std::collections::BTreeMap;

/// Access key id → secret access key. Empty: requests are not checked at all.
#[derive(Clone, Default)]
pub struct AccessKeys(BTreeMap<String, String>);

impl FromIterator<(String, String)> for AccessKeys {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(keys: I) -> AccessKeys {
        AccessKeys(keys.into_iter().collect())
    }
}

/// Secrets must not reach logs.
impl std::fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl AccessKeys {
    /// Whether there are none, so that every request is accepted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks all of a signature that does not need the body: that it is there, whose it is, its scope and date.
    pub fn begin(&self, head: &Parts, region: &str, now: Timestamp) -> Result<Signed<'_>> {
        let Some(signature) = Signature::of(head)? else {
            return Err(ApiError::new(
                Kind::MissingAuthenticationTokenException,
                "Missing Authentication Token",
            ));
        };
        let Some(secret) = self.0.get(&signature.access_key) else {
            return Err(ApiError::new(
                Kind::UnrecognizedClientException,
                "The security token included in the request is invalid.",
            ));
        };
        signature.check(head, region, now)?;
        Ok(Signed { signature, secret })
    }
}

/// A signature that waits for the body.
#[must_use]
pub struct Signed<'a> {
    signature: Signature,
    secret: &'a str,
}

impl Signed<'_> {
    /// The access key id, if it signed this head and body.
    pub fn finish(self, head: &Parts, body: &[u8]) -> Result<String> {
        self.signature.verify(head, body, self.secret)?;
        Ok(self.signature.access_key)
    }
}
