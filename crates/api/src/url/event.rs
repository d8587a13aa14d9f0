//! An HTTP request as the event of payload format 2.0, written straight into one buffer.
//!
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-request-payload>.

use crate::json::{push_escaped, push_string};
use base64::Engine;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use model::Timestamp;
use std::borrow::Cow;
use std::io::Write;
use std::net::IpAddr;

/// What an event is made of.
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as it was sent (not decoded), beginning with `/`.
    pub path: &'a str,
    /// The query as it was sent, without `?`; empty when there is none.
    pub query: &'a str,
    /// `HTTP/1.1`.
    pub protocol: &'a str,
    /// The headers as they came.
    pub headers: &'a HeaderMap,
    /// Headers that the server adds or puts in the place of the caller's: lower-case name, value.
    pub added: &'a [(HeaderName, String)],
    /// The body.
    pub body: &'a [u8],
    /// Who is calling.
    pub source: IpAddr,
    /// The function URL's id.
    pub api_id: &'a str,
    /// The host name that was called, without a port.
    pub domain: &'a str,
    /// The invocation's id.
    pub request_id: model::RequestId,
    /// When the request came.
    pub at: Timestamp,
    /// The caller's access key, if the request was signed; the event then names the caller.
    pub caller: Option<Caller<'a>>,
}

/// Who signed the request.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// The access key id.
    pub access_key: &'a str,
    /// The server's account id.
    pub account: &'a str,
}

/// Headers that concern one connection only: the event does not have them.
pub const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The event's JSON.
pub fn event(request: &Request<'_>) -> Vec<u8> {
    let out = &mut Vec::with_capacity(1024 + request.body.len() * 4 / 3);
    out.extend_from_slice(br#"{"version":"2.0","routeKey":"$default","rawPath":"#);
    push_string(out, request.path);
    out.extend_from_slice(br#","rawQueryString":"#);
    push_string(out, request.query);
    push_cookies(out, request.headers);
    push_headers(out, request);
    push_query(out, request.query);
    push_context(out, request);
    push_body(out, request);
    out.push(b'}');
    std::mem::take(out)
}

/// `cookies`: all that the `Cookie` headers hold, one by one; absent when there are none.
fn push_cookies(out: &mut Vec<u8>, headers: &HeaderMap) {
    let mut sep: &[u8] = br#","cookies":["#;
    for value in headers.get_all(header::COOKIE) {
        let value = text(value);
        for cookie in value.split(';').map(str::trim).filter(|cookie| !cookie.is_empty()) {
            out.extend_from_slice(sep);
            push_string(out, cookie);
            sep = b",";
        }
    }
    if sep == b"," {
        out.push(b']');
    }
}

/// `headers`: names in lower case, several values of one name joined with commas; without cookies.
fn push_headers(out: &mut Vec<u8>, request: &Request<'_>) {
    out.extend_from_slice(br#","headers":{"#);
    let mut sep: &[u8] = b"";
    for name in request.headers.keys() {
        let added = request.added.iter().any(|(added, _)| added == name);
        if added || *name == header::COOKIE || HOP_BY_HOP.contains(name) {
            continue;
        }
        out.extend_from_slice(sep);
        push_string(out, name.as_str());
        out.extend_from_slice(b":\"");
        for (index, value) in request.headers.get_all(name).iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            push_escaped(out, &text(value));
        }
        out.push(b'"');
        sep = b",";
    }
    for (name, value) in request.added {
        out.extend_from_slice(sep);
        push_string(out, name.as_str());
        out.push(b':');
        push_string(out, value);
        sep = b",";
    }
    out.push(b'}');
}

/// `queryStringParameters`: decoded, several values of one name joined with commas; absent without a query.
fn push_query(out: &mut Vec<u8>, query: &str) {
    let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_form(name), decode_form(value))
        })
        .collect();
    if pairs.is_empty() {
        return;
    }
    pairs.sort_by(|(a, _), (b, _)| a.cmp(b)); // stable: values of one name keep their order
    out.extend_from_slice(br#","queryStringParameters":{"#);
    for (index, group) in pairs.chunk_by(|(a, _), (b, _)| a == b).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_string(out, &group[0].0);
        out.extend_from_slice(b":\"");
        for (index, (_, value)) in group.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            push_escaped(out, value);
        }
        out.push(b'"');
    }
    out.push(b'}');
}

/// Decodes `%xx` and `+`.
fn decode_form(text: &str) -> Cow<'_, str> {
    let spaced = match text.contains('+') {
        true => Cow::Owned(text.replace('+', " ")),
        false => Cow::Borrowed(text),
    };
    match spaced {
        Cow::Borrowed(text) => percent_encoding::percent_decode_str(text).decode_utf8_lossy(),
        Cow::Owned(text) => {
            percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned().into()
        }
    }
}

fn push_context(out: &mut Vec<u8>, request: &Request<'_>) {
    let account = request.caller.map_or("anonymous", |caller| caller.account);
    out.extend_from_slice(br#","requestContext":{"accountId":"#);
    push_string(out, account);
    out.extend_from_slice(br#","apiId":"#);
    push_string(out, request.api_id);
    if let Some(Caller { access_key, account }) = request.caller {
        out.extend_from_slice(br#","authorizer":{"iam":{"accessKey":"#);
        push_string(out, access_key);
        out.extend_from_slice(br#","accountId":"#);
        push_string(out, account);
        out.extend_from_slice(br#","callerId":"#);
        push_string(out, access_key);
        out.extend_from_slice(br#","cognitoIdentity":null,"principalOrgId":null,"userArn":"arn:aws:iam::"#);
        push_escaped(out, account);
        out.extend_from_slice(br#":root","userId":"#);
        push_string(out, access_key);
        out.extend_from_slice(b"}}");
    }
    out.extend_from_slice(br#","domainName":"#);
    push_string(out, request.domain);
    out.extend_from_slice(br#","domainPrefix":"#);
    push_string(out, request.domain.split('.').next().unwrap_or_default());
    out.extend_from_slice(br#","http":{"method":"#);
    push_string(out, request.method.as_str());
    out.extend_from_slice(br#","path":"#);
    push_string(out, request.path);
    out.extend_from_slice(br#","protocol":"#);
    push_string(out, request.protocol);
    write!(out, r#","sourceIp":"{}""#, request.source).expect("writing to memory");
    if let Some(agent) = request.headers.get(header::USER_AGENT) {
        out.extend_from_slice(br#","userAgent":"#);
        push_string(out, &text(agent));
    }
    write!(
        out,
        r#"}},"requestId":"{}","routeKey":"$default","stage":"$default","time":"{}","timeEpoch":{}}}"#,
        request.request_id,
        ClfTime(request.at),
        request.at.as_millis()
    )
    .expect("writing to memory");
}

/// `body` and `isBase64Encoded`: text stays text, everything else (and what is no UTF-8) is base64.
fn push_body(out: &mut Vec<u8>, request: &Request<'_>) {
    if request.body.is_empty() {
        out.extend_from_slice(br#","isBase64Encoded":false"#);
        return;
    }
    out.extend_from_slice(br#","body":"#);
    let readable = is_text(request.headers).then(|| std::str::from_utf8(request.body).ok()).flatten();
    match readable {
        Some(text) => {
            push_string(out, text);
            out.extend_from_slice(br#","isBase64Encoded":false"#);
        }
        None => {
            out.push(b'"');
            let at = out.len();
            out.resize(at + request.body.len().div_ceil(3) * 4, 0);
            let written =
                base64::engine::general_purpose::STANDARD.encode_slice(request.body, &mut out[at..]);
            out.truncate(at + written.expect("the room is exactly what base64 takes"));
            out.extend_from_slice(br#"","isBase64Encoded":true"#);
        }
    }
}

/// Whether the content type is one whose bodies are handed on as text: `text/*`, JSON, XML and JavaScript with
/// their `+json` and `+xml` relatives. A body without a content type, a form and everything else is binary.
fn is_text(headers: &HeaderMap) -> bool {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return false;
    }
    let Some(content_type) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.starts_with("text/")
        || ["application/json", "application/xml", "application/javascript"].contains(&essence.as_str())
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
}

/// A header value as text; bytes that are no UTF-8 are read as Latin-1, as HTTP once meant them.
fn text(value: &HeaderValue) -> Cow<'_, str> {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.into(),
        Err(_) => value.as_bytes().iter().map(|&byte| char::from(byte)).collect::<String>().into(),
    }
}

/// `12/Mar/2020:19:03:58 +0000`.
struct ClfTime(Timestamp);

impl std::fmt::Display for ClfTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let at = crate::time::utc(self.0);
        let month = MONTHS[at.month() as usize - 1];
        write!(
            f,
            "{:02}/{month}/{}:{:02}:{:02}:{:02} +0000",
            at.day(),
            at.year(),
            at.hour(),
            at.minute(),
            at.second()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The event of a request written as text: request line, headers, empty line, body.
    fn event_of(request: &str, added: &[(HeaderName, String)], caller: Option<Caller<'_>>) -> Value {
        let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
        let mut lines = head.lines();
        let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(HeaderName::try_from(name).unwrap(), value);
        }
        let bytes = event(&Request {
            method: &method.parse().unwrap(),
            path,
            query,
            protocol: "HTTP/1.1",
            headers: &headers,
            added,
            body: body.as_bytes(),
            source: [10, 0, 0, 7].into(),
            api_id: "abc",
            domain: "abc.lambda-url.us-east-1.localhost",
            request_id: model::RequestId(uuid::Uuid::nil()),
            at: Timestamp(1_583_348_638_390),
            caller,
        });
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_request_becomes_the_documented_event() {
        let request = "POST /my/path%20x?parameter1=value1&parameter1=value2&parameter2=a+b%21\n\
                       Host: abc.lambda-url.us-east-1.localhost\nX-Header: value1\nX-Header: value2\n\
                       Cookie: cookie1; cookie2=x\nUser-Agent: agent\nConnection: keep-alive\n\
                       Content-Type: text/plain\n\nHello from \"client\"!";
        let expected = json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": "/my/path%20x",
            "rawQueryString": "parameter1=value1&parameter1=value2&parameter2=a+b%21",
            "cookies": ["cookie1", "cookie2=x"],
            "headers": {
                "host": "abc.lambda-url.us-east-1.localhost",
                "x-header": "value1,value2",
                "user-agent": "agent",
                "content-type": "text/plain",
                "x-forwarded-proto": "http"
            },
            "queryStringParameters": {"parameter1": "value1,value2", "parameter2": "a b!"},
            "requestContext": {
                "accountId": "anonymous",
                "apiId": "abc",
                "domainName": "abc.lambda-url.us-east-1.localhost",
                "domainPrefix": "abc",
                "http": {
                    "method": "POST",
                    "path": "/my/path%20x",
                    "protocol": "HTTP/1.1",
                    "sourceIp": "10.0.0.7",
                    "userAgent": "agent"
                },
                "requestId": "00000000-0000-0000-0000-000000000000",
                "routeKey": "$default",
                "stage": "$default",
                "time": "04/Mar/2020:19:03:58 +0000",
                "timeEpoch": 1583348638390u64
            },
            "body": "Hello from \"client\"!",
            "isBase64Encoded": false
        });
        let added = [(HeaderName::from_static("x-forwarded-proto"), "http".to_owned())];
        assert_eq!(event_of(request, &added, None), expected);
    }

    #[test]
    fn what_a_request_lacks_the_event_lacks() {
        let event = event_of("GET /", &[], None);
        for absent in ["cookies", "queryStringParameters", "body"] {
            assert!(event.get(absent).is_none(), "{absent}");
        }
        assert_eq!(event["rawQueryString"], "");
        assert_eq!(event["headers"], json!({}));
        assert_eq!(event["isBase64Encoded"], false);
    }

    /// The body as the event has it: text in quotes, or base64.
    fn check_body(headers: &str, body: &str, expected: &str) {
        let event = event_of(&format!("POST /{headers}\n\n{body}"), &[], None);
        let text = event["body"].as_str().unwrap();
        let actual =
            if event["isBase64Encoded"] == true { format!("base64 {text}") } else { format!("{text:?}") };
        assert_eq!(actual, expected, "{headers}");
    }

    #[test]
    fn a_body_is_text_only_if_its_content_type_says_so() {
        check_body("\nContent-Type: application/json; charset=utf-8", "{}", "\"{}\"");
        check_body("\nContent-Type: text/csv", "ä", "\"ä\"");
        check_body("\nContent-Type: application/problem+json", "{}", "\"{}\"");
        check_body("\nContent-Type: image/svg+xml", "<svg/>", "\"<svg/>\"");
        check_body("\nContent-Type: application/x-www-form-urlencoded", "a=b", "base64 YT1i");
        check_body("\nContent-Type: application/octet-stream", "a", "base64 YQ==");
        check_body("", "ab", "base64 YWI=");
        check_body("\nContent-Type: text/plain\nContent-Encoding: gzip", "abc", "base64 YWJj");
    }

    #[test]
    fn a_body_that_is_no_utf8_is_base64_whatever_its_type_says() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert("x-latin", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        let bytes = event(&Request {
            method: &Method::POST,
            path: "/",
            query: "",
            protocol: "HTTP/1.1",
            headers: &headers,
            added: &[],
            body: b"\xff\xfe",
            source: [127, 0, 0, 1].into(),
            api_id: "",
            domain: "",
            request_id: model::RequestId(uuid::Uuid::nil()),
            at: Timestamp(0),
            caller: None,
        });
        let event: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("//4="), &json!(true)));
        assert_eq!(event["headers"]["x-latin"], "café");
    }

    #[test]
    fn headers_that_the_server_adds_take_the_place_of_the_callers() {
        let added = [(HeaderName::from_static("x-forwarded-for"), "1.2.3.4, 10.0.0.7".to_owned())];
        let event = event_of("GET /\nX-Forwarded-For: 1.2.3.4", &added, None);
        assert_eq!(event["headers"], json!({"x-forwarded-for": "1.2.3.4, 10.0.0.7"}));
    }

    #[test]
    fn a_signed_request_names_its_caller() {
        let caller = Caller { access_key: "AKID", account: "123456789012" };
        let context = &event_of("GET /", &[], Some(caller))["requestContext"];
        assert_eq!(context["accountId"], "123456789012");
        assert_eq!(context["authorizer"]["iam"]["accessKey"], "AKID");
        assert_eq!(context["authorizer"]["iam"]["userArn"], "arn:aws:iam::123456789012:root");
    }
}
