//! Trace ids: the caller's, or new ones.

use http::{HeaderMap, HeaderName, HeaderValue};
use model::RequestId;

/// The header of the trace id, in requests, events and answers.
pub const HEADER: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// The caller's trace id, or a new one: `Root=1-<seconds in hexadecimal>-<24 hexadecimal digits>;Parent=<16>;Sampled=0`.
///
/// With parent and decision even though nobody collects it: the X-Ray SDKs log an error in each invocation that has
/// only a root.
pub fn id(headers: &HeaderMap, request_id: RequestId) -> String {
    if let Some(given) = headers.get(HEADER).and_then(|value| value.to_str().ok()) {
        return given.to_owned();
    }
    let id = request_id.0.simple().to_string();
    let (root, parent) = (&id[..24], &id[16..]);
    format!("Root=1-{:08x}-{root};Parent={parent};Sampled=0", crate::time::now().as_millis() / 1000)
}

/// Puts it on an answer.
pub fn put(headers: &mut HeaderMap, id: Option<&str>) {
    if let Some(id) = id.and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert(HEADER, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_kept_or_made() {
        let mut headers = HeaderMap::new();
        let request_id = RequestId(uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        let made = id(&headers, request_id);
        let rest = "-0123456789abcdef01234567;Parent=0123456789abcdef;Sampled=0";
        assert!(made.starts_with("Root=1-") && made.ends_with(rest), "{made}");
        put(&mut headers, Some("Root=1-a-b;Sampled=1"));
        assert_eq!(id(&headers, request_id), "Root=1-a-b;Sampled=1");
    }
}
