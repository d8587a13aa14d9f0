//! A secret word that permits one thing only: Prometheus, which cannot sign, reads the metrics with one.

use crate::error::{ApiError, Kind, Result};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, header};
use sha2::Sha256;

/// The token of the configuration (`metrics-token`).
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Secrets must not reach logs.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// Fewer characters could be guessed.
    pub const SHORTEST: usize = 16;
    /// More need not fit into a header.
    pub const LONGEST: usize = 512;

    /// One of [`SHORTEST`](Token::SHORTEST) to [`LONGEST`](Token::LONGEST) ASCII characters, none of which is blank.
    pub fn new(text: &str) -> Option<Token> {
        let fits = (Token::SHORTEST..=Token::LONGEST).contains(&text.len());
        (fits && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Token(text.to_owned()))
    }

    /// Whether this is it, in a time that does not tell how much of it is.
    fn is(&self, given: &str) -> bool {
        // What is compared, byte by byte in constant time, are digests.
        let mac = |key: &str| {
            Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length")
        };
        mac(&self.0).verify_slice(&mac(given).finalize().into_bytes()).is_ok()
    }
}

/// Whether a request brings `token`: false when it brings none, and is to be judged by other means.
///
/// # Errors
/// It brings another one, or the server has none.
pub fn permits(token: Option<&Token>, headers: &HeaderMap) -> Result<bool> {
    let Some(given) = given(headers) else { return Ok(false) };
    let refused = |message| Err(ApiError::new(Kind::UnrecognizedClientException, message));
    match token {
        Some(token) if token.is(given) => Ok(true),
        Some(_) => refused("The bearer token of the request is not the server's `metrics-token`."),
        None => refused(
            "The server takes no bearer token: its configuration has no `metrics-token`. Set it (or \
             BROOKLET_METRICS_TOKEN), or sign the request with an access key.",
        ),
    }
}

/// What `Authorization: Bearer …` says. Source: RFC 6750, section 2.1.
fn given(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
