//! AWS credentials.

/// What requests to AWS-like services are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: String,
    /// `AWS_SESSION_TOKEN`: only temporary credentials have one.
    pub session_token: Option<String>,
}

impl Credentials {
    /// That open nothing. SDKs insist on some, and Lambda's functions always have all three.
    pub fn placeholder() -> Credentials {
        let text = || "brooklet".to_owned();
        Credentials { access_key_id: text(), secret_access_key: text(), session_token: Some(text()) }
    }
}

/// Secrets must not reach logs.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Credentials").field(&self.access_key_id).finish()
    }
}
