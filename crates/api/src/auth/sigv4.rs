//! AWS Signature Version 4: verifies requests signed in headers or in the query.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use crate::error::{ApiError, Kind, Result};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use http::request::Parts;
use model::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "lambda";
const TERMINATOR: &str = "aws4_request";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// How far a signer's clock may be from ours: five minutes.
const SKEW_S: i64 = 300;

/// A presigned link may be valid for at most seven days.
const LONGEST_EXPIRY_S: i64 = 604_800;

/// All that is escaped: everything but letters, digits and `-._~`.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// … and `/`, in paths.
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// A request's signature and what it says about itself.
#[derive(Debug)]
pub struct Signature {
    /// Whose it is.
    pub access_key: String,
    /// `20261122/us-east-1/lambda/aws4_request`.
    scope: String,
    signed_headers: Vec<String>,
    signature: Vec<u8>,
    /// `20261122T170000Z`.
    date: String,
    /// Seconds, of a presigned link.
    expires_s: Option<i64>,
}

impl Signature {
    /// The signature that a request carries; `None` when it carries none.
    pub fn of(head: &Parts) -> Result<Option<Signature>> {
        let query = head.uri.query().unwrap_or_default();
        match head.headers.get(http::header::AUTHORIZATION) {
            Some(value) => Signature::in_header(value.to_str().unwrap_or_default(), &head.headers).map(Some),
            None if query.contains("X-Amz-Signature=") => Signature::in_query(query).map(Some),
            None => Ok(None),
        }
    }

    fn in_header(authorization: &str, headers: &HeaderMap) -> Result<Signature> {
        let Some(rest) = authorization.strip_prefix(ALGORITHM) else {
            return Err(incomplete(format!(
                "Authorization must begin with '{ALGORITHM}'. Authorization={}",
                authorization.split(' ').next().unwrap_or_default()
            )));
        };
        let field = |name: &str| {
            let fields = rest.split(',').map(str::trim);
            fields.filter_map(|field| field.strip_prefix(name)?.strip_prefix('=')).next()
        };
        let required = |name: &str| {
            let missing = || incomplete(format!("Authorization header requires '{name}' parameter."));
            field(name).ok_or_else(missing)
        };
        let date = headers.get("x-amz-date").and_then(|date| date.to_str().ok());
        let Some(date) = date else {
            return Err(incomplete("Authorization header requires existence of an 'X-Amz-Date' header."));
        };
        Signature::assemble(
            required("Credential")?,
            required("SignedHeaders")?,
            required("Signature")?,
            date,
            None,
        )
    }

    fn in_query(query: &str) -> Result<Signature> {
        let parameter = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let value = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next();
            let decode = |value| percent_decode_str(value).decode_utf8_lossy().into_owned();
            let missing = || {
                incomplete(format!(
                    "AWS query-string parameters must include '{name}'. Re-examine the query."
                ))
            };
            value.map(decode).ok_or_else(missing)
        };
        if parameter("X-Amz-Algorithm")? != ALGORITHM {
            return Err(incomplete(format!("X-Amz-Algorithm must be '{ALGORITHM}'.")));
        }
        let expires: i64 = parameter("X-Amz-Expires")?.parse().unwrap_or(-1);
        if !(1..=LONGEST_EXPIRY_S).contains(&expires) {
            return Err(incomplete(format!("X-Amz-Expires must be from 1 to {LONGEST_EXPIRY_S} seconds.")));
        }
        Signature::assemble(
            &parameter("X-Amz-Credential")?,
            &parameter("X-Amz-SignedHeaders")?,
            &parameter("X-Amz-Signature")?,
            &parameter("X-Amz-Date")?,
            Some(expires),
        )
    }

    fn assemble(
        credential: &str,
        signed_headers: &str,
        signature: &str,
        date: &str,
        expires_s: Option<i64>,
    ) -> Result<Signature> {
        // An access key id may hold slashes; the scope is the last four parts.
        let mut parts: Vec<&str> = credential.rsplitn(5, '/').collect();
        parts.reverse();
        let [access_key, scope @ ..] = parts.as_slice() else { unreachable!("a split has a first part") };
        if scope.len() != 4 || access_key.is_empty() {
            return Err(incomplete(format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. \
                 keyid/date/region/service/term, got '{credential}'"
            )));
        }
        Ok(Signature {
            access_key: access_key.to_string(),
            scope: scope.join("/"),
            signed_headers: signed_headers.split(';').map(str::to_ascii_lowercase).collect(),
            signature: unhex(signature).ok_or_else(|| incomplete("Signature must be hexadecimal."))?,
            date: date.to_owned(),
            expires_s,
        })
    }

    /// The session token that came with it, which only temporary credentials have.
    pub fn session_token(&self, head: &Parts) -> Option<String> {
        const HEADER: &str = "x-amz-security-token";
        if let Some(token) = head.headers.get(HEADER) {
            return token.to_str().ok().map(str::to_owned);
        }
        let mut pairs =
            head.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let (_, token) = pairs.find(|(key, _)| key.eq_ignore_ascii_case(HEADER))?;
        percent_decode_str(token).decode_utf8().ok().map(Cow::into_owned)
    }

    /// Whether it is for Lambda in `region`, was made lately, and covers the headers that it must.
    pub fn check(&self, head: &Parts, region: &str, now: Timestamp) -> Result<()> {
        self.check_scope(region)?;
        self.check_date(now)?;
        self.check_signed_headers(&head.headers)
    }

    /// Whether the request was signed with `secret`.
    pub fn verify(&self, head: &Parts, body: &[u8], secret: &str) -> Result<()> {
        let payload = payload_hash(&head.headers, body)?;
        let canonical = canonical_request(head, &self.signed_headers, &payload)?;
        let expected = signature(secret, &self.date, &self.scope, &canonical);
        // `verify_slice` compares in constant time.
        expected.verify_slice(&self.signature).map_err(|_| {
            invalid(
                "The request signature we calculated does not match the signature you provided. Check your AWS \
                 Secret Access Key and signing method. Consult the service documentation for details.",
            )
        })
    }

    fn check_scope(&self, region: &str) -> Result<()> {
        let parts: Vec<&str> = self.scope.split('/').collect();
        let [day, scope_region, service, terminator] = parts[..] else {
            unreachable!("assemble checked that there are four")
        };
        let problem = if scope_region != region {
            format!("Credential should be scoped to a valid region: this server's is '{region}'.")
        } else if service != SERVICE {
            format!("Credential should be scoped to correct service: '{SERVICE}'.")
        } else if terminator != TERMINATOR {
            format!("Credential should be scoped with a valid terminator: '{TERMINATOR}'.")
        } else if !self.date.starts_with(day) || day.len() != 8 {
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP".into()
        } else {
            return Ok(());
        };
        Err(invalid(problem))
    }

    fn check_date(&self, now: Timestamp) -> Result<()> {
        let Some(signed) = parse_date(&self.date) else {
            return Err(incomplete(format!(
                "Date must be in ISO-8601 'basic format'. Got '{}'. See http://en.wikipedia.org/wiki/ISO_8601",
                self.date
            )));
        };
        let now_s = (now.as_millis() / 1000) as i64;
        let (date, here) = (&self.date, amz_date(now_s));
        if signed > now_s + SKEW_S {
            let limit = amz_date(now_s + SKEW_S);
            return Err(invalid(format!(
                "Signature not yet current: {date} is still later than {limit} ({here} + 5 min.)"
            )));
        }
        let valid_s = self.expires_s.unwrap_or(SKEW_S);
        if signed + valid_s < now_s {
            let limit = amz_date(now_s - valid_s);
            let allowed = self.expires_s.map_or("5 min.".into(), |seconds| format!("{seconds} s"));
            return Err(invalid(format!(
                "Signature expired: {date} is now earlier than {limit} ({here} - {allowed})"
            )));
        }
        Ok(())
    }

    /// The host and every `x-amz-` header must be signed, or a third party could change what is meant.
    fn check_signed_headers(&self, headers: &HeaderMap) -> Result<()> {
        let signed = |name: &str| self.signed_headers.iter().any(|signed| signed == name);
        let must = |name: &str| name == "host" || name.starts_with("x-amz-");
        let unsigned: Vec<&str> =
            headers.keys().map(|name| name.as_str()).filter(|name| must(name) && !signed(name)).collect();
        match unsigned.is_empty() {
            true => Ok(()),
            false => Err(invalid(format!(
                "There were headers present in the request which were not signed: {}",
                unsigned.join(", ")
            ))),
        }
    }
}

/// The hash of the body that goes into the signature: declared by the client, and then true, or computed.
fn payload_hash(headers: &HeaderMap, body: &[u8]) -> Result<String> {
    let declared = headers.get("x-amz-content-sha256").map(|value| value.to_str().unwrap_or_default());
    match declared {
        Some(UNSIGNED) => Ok(UNSIGNED.into()),
        Some(streaming) if streaming.starts_with("STREAMING-") => Err(invalid(format!(
            "Bodies in signed chunks ({streaming}) are not part of Lambda's API: send the body whole with its \
             SHA-256, or {UNSIGNED}."
        ))),
        Some(declared) => match hex(&Sha256::digest(body)) == declared.to_ascii_lowercase() {
            true => Ok(declared.to_owned()),
            false => {
                Err(invalid("The provided 'x-amz-content-sha256' header does not match what was computed."))
            }
        },
        None => Ok(hex(&Sha256::digest(body))),
    }
}

/// Method, path, query, signed headers and payload hash in their one canonical form.
fn canonical_request(head: &Parts, signed_headers: &[String], payload: &str) -> Result<String> {
    let mut text = format!(
        "{}\n{}\n{}\n",
        head.method,
        canonical_path(head.uri.path()),
        canonical_query(head.uri.query().unwrap_or_default())
    );
    for name in signed_headers {
        let values: Vec<Cow<'_, str>> = head.headers.get_all(name).iter().map(canonical_value).collect();
        if values.is_empty() {
            return Err(invalid(format!("The signed header '{name}' is not in the request.")));
        }
        text += &format!("{name}:{}\n", values.join(","));
    }
    text += &format!("\n{}\n{payload}", signed_headers.join(";"));
    Ok(text)
}

/// Dot segments and doubled slashes removed, then escaped once more than it was sent (as all services but S3).
fn canonical_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let mut normal = format!("/{}", segments.join("/"));
    if !segments.is_empty() && path.ends_with('/') {
        normal.push('/');
    }
    utf8_percent_encode(&normal, PATH).to_string()
}

/// Escaped in one way and sorted; without the signature itself.
fn canonical_query(query: &str) -> String {
    let normal = |text: &str| {
        let text = text.replace('+', " ");
        let decoded: Vec<u8> = percent_decode_str(&text).collect();
        percent_encoding::percent_encode(&decoded, UNRESERVED).to_string()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(String, String)> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| *name != "X-Amz-Signature")
        .map(|(name, value)| (normal(name), normal(value)))
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Trimmed, with runs of spaces made one.
fn canonical_value(value: &http::HeaderValue) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(value.as_bytes());
    match text.contains("  ") || text.trim() != text {
        true => text.split_ascii_whitespace().collect::<Vec<_>>().join(" ").into(),
        false => text,
    }
}

/// The signature of a canonical request, not yet finished so that it can be compared in constant time.
fn signature(secret: &str, date: &str, scope: &str, canonical: &str) -> Hmac<Sha256> {
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/') {
        let mut mac = mac(&key);
        mac.update(part.as_bytes());
        key = mac.finalize().into_bytes().to_vec();
    }
    let mut mac = mac(&key);
    let digest = hex(&Sha256::digest(canonical.as_bytes()));
    mac.update(format!("{ALGORITHM}\n{date}\n{scope}\n{digest}").as_bytes());
    mac
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// `20261122T170000Z` of seconds since 1970.
fn amz_date(seconds: i64) -> String {
    let date = crate::time::utc(Timestamp(seconds.max(0) as u64 * 1000));
    date.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Seconds since 1970 of `20261122T170000Z`.
fn parse_date(text: &str) -> Option<i64> {
    let date = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(jiff::tz::Offset::UTC.to_timestamp(date).ok()?.as_second())
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to memory");
    }
    text
}

/// The bytes of hexadecimal text; `None` when it is not that.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let pair = |pair: &[u8]| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8);
    digits.len().is_multiple_of(2).then(|| digits.chunks_exact(2).map(pair).collect()).flatten()
}

fn incomplete(message: impl Into<String>) -> ApiError {
    ApiError::new(Kind::IncompleteSignatureException, message)
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(Kind::InvalidSignatureException, message)
}

#[cfg(test)]
mod tests;
