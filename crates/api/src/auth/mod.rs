//! Who may call: AWS Signature Version 4 against the configured access keys, links that carry their own permission, and
//! a token for the metrics. Without access keys everyone may.

pub mod bearer;
pub mod link;
pub mod session;
pub mod sigv4;

use crate::error::{ApiError, Kind, Result};
use http::request::Parts;
use model::Timestamp;
use session::{Session, Sessions};
use sigv4::Signature;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Access key id → secret access key. Empty: requests are not checked at all. Otherwise functions may call with the
/// credentials of their sessions besides.
#[derive(Clone, Default)]
pub struct AccessKeys {
    keys: BTreeMap<String, String>,
    sessions: Sessions,
}

/// The operations that functions may call with the credentials that they find in their environment.
const OF_FUNCTIONS: [&str; 3] = ["InvokeFunction", "InvokeWithResponseStream", "InvokeFunctionUrl"];

impl FromIterator<(String, String)> for AccessKeys {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(keys: I) -> AccessKeys {
        AccessKeys { keys: keys.into_iter().collect(), ..AccessKeys::default() }
    }
}

/// Secrets must not reach logs.
impl std::fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

impl AccessKeys {
    /// Whether there are none, so that every request is accepted.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Who issues and knows the credentials of functions.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Checks all of a signature that does not need the body: that it is there, whose it is, its scope and date, and
    /// that whose it is may call `operation`.
    pub fn begin(&self, head: &Parts, operation: &str, region: &str, now: Timestamp) -> Result<Signed<'_>> {
        let Some(signature) = Signature::of(head)? else {
            return Err(ApiError::new(
                Kind::MissingAuthenticationTokenException,
                "Missing Authentication Token",
            ));
        };
        let (secret, function) = match self.keys.get(&signature.access_key) {
            Some(secret) => (Cow::Borrowed(secret.as_str()), None),
            None => match self.session(&signature, head) {
                Some(Session { secret, function_arn }) => (secret.into(), Some(function_arn)),
                None => {
                    return Err(ApiError::new(
                        Kind::UnrecognizedClientException,
                        "The security token included in the request is invalid.",
                    ));
                }
            },
        };
        signature.check(head, region, now)?;
        let forbidden = function.filter(|_| !OF_FUNCTIONS.contains(&operation)).map(|function| {
            ApiError::new(
                Kind::AccessDeniedException,
                format!(
                    "The function {function} is not authorized to perform: lambda:{operation}. With the credentials \
                     in their environment functions may call functions; for more, give the client access keys of the \
                     server."
                ),
            )
        });
        Ok(Signed { signature, secret, forbidden })
    }

    fn session(&self, signature: &Signature, head: &Parts) -> Option<Session> {
        self.sessions.session(&signature.access_key, &signature.session_token(head)?)
    }
}

/// A signature that waits for the body.
#[must_use]
pub struct Signed<'a> {
    signature: Signature,
    secret: Cow<'a, str>,
    /// What its caller is told once it has shown who it is.
    forbidden: Option<ApiError>,
}

impl Signed<'_> {
    /// The access key id, if it signed this head and body.
    pub fn finish(self, head: &Parts, body: &[u8]) -> Result<String> {
        self.signature.verify(head, body, &self.secret)?;
        match self.forbidden {
            None => Ok(self.signature.access_key),
            Some(error) => Err(error),
        }
    }
}
