//! Credentials of functions. As on Lambda each function finds some in its environment; here they let it call functions
//! of this server, and nothing else.

use super::sigv4::hex;
use hmac::{Hmac, KeyInit, Mac};
use model::Credentials;
use sha2::Sha256;

/// What AWS's temporary access key ids begin with.
/// Source: IAM user guide, "Understanding unique ID prefixes".
const PREFIX: &str = "ASIA";

/// Issues credentials and knows them again. They are derived from a key that lives as long as the server runs, so none
/// has to be kept, and a restart ends all.
#[derive(Clone)]
pub struct Sessions([u8; 32]);

/// Who signs with credentials that were issued here.
pub struct Session {
    /// Their secret.
    pub secret: String,
    /// The function that they were issued to, as its unqualified ARN.
    pub function_arn: String,
}

impl Sessions {
    /// With a new random key.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    pub fn new() -> Sessions {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        Sessions(key)
    }

    /// Those of the function with this unqualified ARN: the same whenever they are asked for. The ARN itself is the
    /// session token.
    pub fn issue(&self, function_arn: &str) -> Credentials {
        Credentials {
            access_key_id: format!("{PREFIX}{}", self.derive("id", function_arn)[..16].to_ascii_uppercase()),
            secret_access_key: self.derive("secret", function_arn),
            session_token: Some(function_arn.to_owned()),
        }
    }

    /// Whose access key id this is, if it was issued here to whom the session token names.
    pub fn session(&self, access_key_id: &str, token: &str) -> Option<Session> {
        let Credentials { access_key_id: own, secret_access_key: secret, .. } = self.issue(token);
        // The id is no secret; that the secret is known is seen from the signature.
        (own == access_key_id).then(|| Session { secret, function_arn: token.to_owned() })
    }

    fn derive(&self, what: &str, function_arn: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(what.as_bytes());
        mac.update(&[0]);
        mac.update(function_arn.as_bytes());
        hex(&mac.finalize().into_bytes())
    }
}

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_again_by_the_server_that_issued_them_and_for_their_function_only() {
        let (sessions, arn) = (Sessions::new(), "arn:aws:lambda:us-east-1:000000000000:function:a");
        let issued = sessions.issue(arn);
        assert!(issued.access_key_id.starts_with("ASIA") && issued.access_key_id.len() == 20, "{issued:?}");
        let session = sessions.session(&issued.access_key_id, arn).expect("a session");
        assert_eq!((session.secret, session.function_arn.as_str()), (issued.secret_access_key.clone(), arn));
        assert!(sessions.session(&issued.access_key_id, &format!("{arn}b")).is_none());
        assert!(Sessions::new().session(&issued.access_key_id, arn).is_none());
        assert_ne!(sessions.issue(&format!("{arn}b")).secret_access_key, issued.secret_access_key);
        assert!(!format!("{issued:?}").contains(&issued.secret_access_key));
    }
}
