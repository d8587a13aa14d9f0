//! A function's answer as an HTTP response: payload format 2.0 and the rules for answers that do not follow it.
//!
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-response-payload>.

use crate::json::{Structure, Text, Value};
use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Why an answer cannot be made a response; the caller gets 502, this goes to the server's log.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

/// The members of an answer, none of them looked at yet.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, rename = "statusCode")]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    headers: Option<&'a RawValue>,
    #[serde(borrow)]
    cookies: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow, rename = "isBase64Encoded")]
    base64: Option<&'a RawValue>,
}

/// Reads a buffered answer. JSON without a `statusCode` is itself the body of a 200 (a string without its quotes);
/// what is no JSON is malformed.
pub fn response(answer: Bytes) -> Result<Response<Bytes>, Malformed> {
    let parsed: Answer<'_> = match serde_json::from_slice(&answer) {
        Ok(parsed) => parsed,
        Err(_) => return inferred(answer),
    };
    let Some(status) = parsed.status.filter(|status| status.get() != "null") else { return inferred(answer) };
    let head = Head { status, headers: parsed.headers, cookies: parsed.cookies };
    let encoded = parsed.base64.is_some_and(|raw| raw.get() == "true");
    let body = match parsed.body {
        Some(raw) => body(&answer, raw, encoded)?,
        None => Bytes::new(),
    };
    let mut response = head.response(HeaderValue::from_static("application/json"))?;
    *response.body_mut() = body;
    Ok(response)
}

/// Reads the head of a streamed answer: the prelude's JSON, where everything is optional.
pub fn prelude(json: &[u8]) -> Result<Response<()>, Malformed> {
    let parsed: Answer<'_> =
        serde_json::from_slice(json).map_err(|error| malformed("the prelude of the stream", error))?;
    let status = parsed.status.unwrap_or_else(|| serde_json::from_str("200").expect("a number is JSON"));
    let head = Head { status, headers: parsed.headers, cookies: parsed.cookies };
    Ok(head.response(HeaderValue::from_static("application/octet-stream"))?.map(drop))
}

/// An answer that says nothing about HTTP: 200, `application/json`, itself.
fn inferred(answer: Bytes) -> Result<Response<Bytes>, Malformed> {
    let raw: &RawValue = serde_json::from_slice(&answer).map_err(|error| malformed("the answer", error))?;
    let body = match raw.get().starts_with('"') {
        true => body(&answer, raw, false)?,
        false => answer.clone(),
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The body: a string as it is (not copied if it has no escapes) or decoded; other JSON as its text.
fn body(answer: &Bytes, raw: &RawValue, encoded: bool) -> Result<Bytes, Malformed> {
    let json = raw.get();
    if json == "null" {
        return Ok(Bytes::new());
    }
    if !json.starts_with('"') {
        return Ok(answer.slice_ref(json.as_bytes()));
    }
    let Text(text) = serde_json::from_str(json).map_err(|error| malformed("body", error))?;
    if encoded {
        let decoded = base64::engine::general_purpose::STANDARD.decode(text.as_bytes());
        return decoded.map(Bytes::from).map_err(|error| malformed("body, which isBase64Encoded,", error));
    }
    Ok(match text {
        Cow::Borrowed(text) => answer.slice_ref(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    })
}

/// Status, headers and cookies, not looked at yet.
struct Head<'a> {
    status: &'a RawValue,
    headers: Option<&'a RawValue>,
    cookies: Option<&'a RawValue>,
}

impl Head<'_> {
    fn response(&self, default_type: HeaderValue) -> Result<Response<Bytes>, Malformed> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = status(self.status.get())?;
        if let Some(raw) = self.headers {
            put_headers(response.headers_mut(), raw.get())?;
        }
        if let Some(raw) = self.cookies {
            put_cookies(response.headers_mut(), raw.get())?;
        }
        response.headers_mut().entry(header::CONTENT_TYPE).or_insert(default_type);
        Ok(response)
    }
}

/// 200 to 599, a number or a string of one; informational statuses cannot end an exchange.
fn status(json: &str) -> Result<StatusCode, Malformed> {
    let number: Option<f64> = json.trim_matches('"').parse().ok();
    let whole = number.filter(|n| n.fract() == 0.0 && (200.0..600.0).contains(n)).map(|n| n as u16);
    let status = whole.and_then(|n| StatusCode::from_u16(n).ok());
    status.ok_or_else(|| Malformed(format!("statusCode must be a number from 200 to 599, not {json}")))
}

fn put_headers(headers: &mut HeaderMap, json: &str) -> Result<(), Malformed> {
    let members: Structure<'_> = match serde_json::from_str(json) {
        Ok(Value::Null) => return Ok(()),
        Ok(Value::Structure(members)) => members,
        _ => return Err(Malformed("headers must be an object of names and strings".into())),
    };
    for (name, value) in members {
        let value: Cow<'_, str> = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string().into(),
            Value::Boolean(boolean) => boolean.to_string().into(),
            Value::Null => continue,
            Value::List(_) | Value::Structure(_) => {
                let message =
                    format!("the header {name} must be a string; use cookies for several Set-Cookie");
                return Err(Malformed(message));
            }
        };
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            Malformed(format!("the header {name} has a value that HTTP does not allow: {value:?}"))
        })?;
        headers.try_insert(header_name(&name)?, value).map_err(too_many)?;
    }
    Ok(())
}

/// The name under which a function's header is sent: those that belong to the connection, which the server
/// itself answers for, are remapped as Lambda does.
fn header_name(name: &str) -> Result<HeaderName, Malformed> {
    let bad = |_| Malformed(format!("{name:?} is no name of a header"));
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(bad)?;
    let remapped = name == header::CONTENT_LENGTH || super::event::HOP_BY_HOP.contains(&name);
    match remapped {
        true => {
            HeaderName::try_from(format!("x-amzn-remapped-{name}")).map_err(|_| Malformed(name.to_string()))
        }
        false => Ok(name),
    }
}

fn too_many(_: header::MaxSizeReached) -> Malformed {
    Malformed("there are more headers than HTTP can carry".into())
}

fn put_cookies(headers: &mut HeaderMap, json: &str) -> Result<(), Malformed> {
    let cookies: Option<Vec<Text<'_>>> =
        serde_json::from_str(json).map_err(|_| Malformed("cookies must be a list of strings".into()))?;
    for Text(cookie) in cookies.unwrap_or_default() {
        let value = HeaderValue::from_bytes(cookie.as_bytes()).map_err(|_| {
            Malformed(format!("the cookie {cookie:?} has characters that HTTP does not allow"))
        })?;
        headers.try_append(header::SET_COOKIE, value).map_err(too_many)?;
    }
    Ok(())
}

fn malformed(what: &str, error: impl std::fmt::Display) -> Malformed {
    Malformed(format!("{what} cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, headers one per line, empty line, body.
    fn check(answer: &str, expected: &str) {
        let actual = match response(Bytes::from(answer.to_owned())) {
            Ok(response) => {
                let mut lines = vec![response.status().as_u16().to_string()];
                let headers = response.headers().iter();
                lines.extend(headers.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())));
                lines[1..].sort();
                format!("{}\n\n{}", lines.join("\n"), String::from_utf8_lossy(response.body()))
            }
            Err(Malformed(why)) => why,
        };
        assert_eq!(actual, expected, "{answer}");
    }

    #[test]
    fn an_answer_without_a_status_is_itself_the_body() {
        check(r#""Hello, \"world\"!""#, "200\ncontent-type: application/json\n\nHello, \"world\"!");
        check(r#"{"message":"hi"}"#, "200\ncontent-type: application/json\n\n{\"message\":\"hi\"}");
        check(
            r#"{"body":1,"headers":[7]}"#,
            "200\ncontent-type: application/json\n\n{\"body\":1,\"headers\":[7]}",
        );
        check("[1,2]", "200\ncontent-type: application/json\n\n[1,2]");
        check("null", "200\ncontent-type: application/json\n\nnull");
        check(r#"{"statusCode":null}"#, "200\ncontent-type: application/json\n\n{\"statusCode\":null}");
    }

    #[test]
    fn an_answer_with_a_status_says_everything_itself() {
        check(
            r#"{"statusCode":201,"headers":{"Content-Type":"text/html","X-N":7,"X-B":true,"X-Null":null},"cookies":["a=1; Secure","b=2"],"body":"<p>\"hi\"</p>"}"#,
            "201\ncontent-type: text/html\nset-cookie: a=1; Secure\nset-cookie: b=2\nx-b: true\nx-n: 7\n\n<p>\"hi\"</p>",
        );
        check(r#"{"statusCode":"404"}"#, "404\ncontent-type: application/json\n\n");
        check(r#"{"statusCode":200.0,"body":null}"#, "200\ncontent-type: application/json\n\n");
        check(r#"{"statusCode":200,"body":{"a":[1]}}"#, "200\ncontent-type: application/json\n\n{\"a\":[1]}");
        check(
            r#"{"statusCode":200,"body":"aGk=","isBase64Encoded":true}"#,
            "200\ncontent-type: application/json\n\nhi",
        );
        check(
            r#"{"statusCode":200,"body":"aGk=","isBase64Encoded":false}"#,
            "200\ncontent-type: application/json\n\naGk=",
        );
        check(r#"{"statusCode":204,"extra":{}}"#, "204\ncontent-type: application/json\n\n");
    }

    #[test]
    fn headers_of_the_connection_are_remapped() {
        check(
            r#"{"statusCode":200,"headers":{"Content-Length":"99","Connection":"close","Transfer-Encoding":"chunked"}}"#,
            "200\ncontent-type: application/json\nx-amzn-remapped-connection: close\n\
             x-amzn-remapped-content-length: 99\nx-amzn-remapped-transfer-encoding: chunked\n\n",
        );
    }

    #[test]
    fn a_malformed_answer_says_what_is_wrong_with_it() {
        check("oops", "the answer cannot be read: expected value at line 1 column 1");
        check(r#"{"statusCode":99}"#, "statusCode must be a number from 200 to 599, not 99");
        check(r#"{"statusCode":"ok"}"#, "statusCode must be a number from 200 to 599, not \"ok\"");
        check(r#"{"statusCode":200,"headers":["a"]}"#, "headers must be an object of names and strings");
        check(
            r#"{"statusCode":200,"headers":{"a":["b"]}}"#,
            "the header a must be a string; use cookies for several Set-Cookie",
        );
        check(r#"{"statusCode":200,"headers":{"a b":"c"}}"#, "\"a b\" is no name of a header");
        check(
            r#"{"statusCode":200,"headers":{"a":"b\r\nc: d"}}"#,
            "the header a has a value that HTTP does not allow: \"b\\r\\nc: d\"",
        );
        check(r#"{"statusCode":200,"cookies":"a=1"}"#, "cookies must be a list of strings");
        check(
            r#"{"statusCode":200,"body":"%%","isBase64Encoded":true}"#,
            "body, which isBase64Encoded, cannot be read: Invalid symbol 37, offset 0.",
        );
    }

    #[test]
    fn a_body_without_escapes_is_not_copied() {
        let answer = Bytes::from_static(br#"{"statusCode":200,"body":"plain"}"#);
        let response = response(answer.clone()).unwrap();
        assert!(answer.as_ptr_range().contains(&response.body().as_ptr()));
    }

    #[test]
    fn a_prelude_needs_nothing() {
        assert_eq!(prelude(b"{}").unwrap().status(), 200);
        let response = prelude(br#"{"statusCode":418,"headers":{"a":"b"},"cookies":["c=d"]}"#).unwrap();
        assert_eq!(response.status(), 418);
        assert_eq!(response.headers()["set-cookie"], "c=d");
        assert_eq!(response.headers()["content-type"], "application/octet-stream");
        assert!(prelude(b"{").is_err());
    }
}
