//! Signs requests with AWS Signature Version 4, for servers that demand access keys.
//!
//! Source: AWS General Reference, "Create a signed AWS API request". The signed headers are `host` and all that
//! begin with `x-amz-`.

use hmac::{Hmac, KeyInit, Mac};
use model::Secret;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Who signs.
#[derive(Clone, Debug)]
pub struct Keys {
    /// `AWS_ACCESS_KEY_ID`.
    pub id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret: Secret,
    /// `AWS_SESSION_TOKEN`.
    pub token: Option<Secret>,
    /// `AWS_REGION` or `AWS_DEFAULT_REGION`.
    pub region: String,
}

/// What is signed.
pub struct Request<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// Host and port as in the `Host` header.
    pub host: &'a str,
    /// The path as sent: each segment already percent-encoded once.
    pub path: &'a str,
    /// The query as sent, without `?`; may be empty.
    pub query: &'a str,
    /// Headers that are sent besides those that signing adds; names in lower case.
    pub headers: &'a [(&'static str, String)],
    /// The body.
    pub body: &'a [u8],
    /// `YYYYMMDDTHHMMSSZ`.
    pub date: &'a str,
}

/// The headers to add: `authorization`, `x-amz-date`, `x-amz-content-sha256` and, with a session token,
/// `x-amz-security-token`.
pub fn sign(keys: &Keys, service: &str, request: &Request<'_>) -> Vec<(&'static str, String)> {
    let body_hash = hex(&Sha256::digest(request.body));
    let mut headers = vec![
        ("host", request.host.to_string()),
        ("x-amz-content-sha256", body_hash.clone()),
        ("x-amz-date", request.date.to_string()),
    ];
    headers.extend(keys.token.as_ref().map(|token| ("x-amz-security-token", token.reveal().to_owned())));
    let added = headers.clone();
    headers.extend(request.headers.iter().filter(|(name, _)| name.starts_with("x-amz-")).cloned());
    headers.sort();
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{names}\n{body_hash}",
        request.method,
        canonical_path(request.path),
        canonical_query(request.query),
    );
    let day = request.date.get(..8).unwrap_or(request.date);
    let scope = format!("{day}/{}/{service}/aws4_request", keys.region);
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
        request.date,
        hex(&Sha256::digest(canonical.as_bytes()))
    );
    let key = [day, &keys.region, service, "aws4_request"]
        .iter()
        .fold(format!("AWS4{}", keys.secret.reveal()).into_bytes(), |key, part| mac(&key, part));
    let signature = hex(&mac(&key, &to_sign));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        keys.id
    );
    // The client sets `host` itself.
    added.into_iter().skip(1).chain([("authorization", authorization)]).collect()
}

/// Every service but S3 encodes the path a second time.
fn canonical_path(path: &str) -> String {
    path.replace('%', "%25")
}

fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| if pair.contains('=') { pair.to_string() } else { format!("{pair}=") })
        .collect();
    pairs.sort();
    pairs.join("&")
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all writes");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys {
            id: "AKIDEXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned().into(),
            token: None,
            region: "us-east-1".into(),
        }
    }

    /// The expected signature was computed with botocore's `SigV4Auth` for the same request.
    #[test]
    fn a_signature_is_the_one_that_botocore_makes() {
        let request = Request {
            method: "POST",
            host: "127.0.0.1:9170",
            path: "/2015-03-31/functions/a%3A1/invocations",
            query: "Qualifier=%24LATEST&A=b",
            headers: &[
                ("content-type", "application/json".to_string()),
                ("x-amz-log-type", "Tail".to_string()),
            ],
            body: b"{\"a\":1}",
            date: "20261122T101112Z",
        };
        let headers = sign(&keys(), "lambda", &request);
        let authorization = &headers.iter().find(|(name, _)| *name == "authorization").expect("signed").1;
        let signature = authorization.rsplit('=').next().expect("a signature");
        assert_eq!(signature, "0312ba36211cc5968e659252c43529020c7b63f1bc50c9f4b982d1f1758765ff");
    }
}
