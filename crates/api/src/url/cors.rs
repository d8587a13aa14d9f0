//! How a function URL answers pages of other origins: the preflight by itself, and headers on every answer.
//!
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html#urls-cors>. What the URL's
//! configuration says takes the place of what the function says.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use model::Cors;

/// Whether the request asks for permission only; it then never reaches the function.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The headers that answer a preflight; none but `Vary` when the origin or the method is not allowed.
pub fn preflight(cors: &Cors, request: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    vary(&mut headers, cors);
    let Some(origin) = allowed_origin(cors, request) else { return headers };
    let method = request.get(header::ACCESS_CONTROL_REQUEST_METHOD);
    let wanted = method.and_then(|method| method.to_str().ok()).unwrap_or_default();
    if !cors.allow_methods.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(wanted)) {
        return headers;
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    put_list(&mut headers, header::ACCESS_CONTROL_ALLOW_METHODS, &cors.allow_methods, method);
    let wanted = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    put_list(&mut headers, header::ACCESS_CONTROL_ALLOW_HEADERS, &cors.allow_headers, wanted);
    put_credentials(&mut headers, cors);
    if cors.max_age_s > 0 {
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, cors.max_age_s.into());
    }
    headers
}

/// Puts the headers of the configuration on an answer in place of the function's own.
pub fn decorate(cors: &Cors, request: &HeaderMap, response: &mut HeaderMap) {
    const OWN: [HeaderName; 6] = [
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        header::ACCESS_CONTROL_ALLOW_METHODS,
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        header::ACCESS_CONTROL_MAX_AGE,
    ];
    for name in OWN {
        response.remove(name);
    }
    vary(response, cors);
    let Some(origin) = allowed_origin(cors, request) else { return };
    response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    put_list(response, header::ACCESS_CONTROL_EXPOSE_HEADERS, &cors.expose_headers, None);
    put_credentials(response, cors);
}

/// What the origin is told: itself, or `*` where all may call and no credentials are involved.
fn allowed_origin(cors: &Cors, request: &HeaderMap) -> Option<HeaderValue> {
    let origin = request.get(header::ORIGIN)?;
    let all = cors.allow_origins.iter().any(|allowed| allowed == "*");
    if all && !cors.allow_credentials {
        return Some(HeaderValue::from_static("*"));
    }
    let listed = |allowed: &String| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes());
    (all || cors.allow_origins.iter().any(listed)).then(|| origin.clone())
}

/// A list of the configuration. With credentials browsers take `*` literally, so what was asked for is said.
fn put_list(headers: &mut HeaderMap, name: HeaderName, list: &[String], asked: Option<&HeaderValue>) {
    let value = match (list.iter().any(|item| item == "*"), asked) {
        (true, Some(asked)) => Some(asked.clone()),
        _ if list.is_empty() => None,
        _ => HeaderValue::from_str(&list.join(",")).ok(),
    };
    if let Some(value) = value {
        headers.insert(name, value);
    }
}

fn put_credentials(headers: &mut HeaderMap, cors: &Cors) {
    if cors.allow_credentials {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

/// Caches must keep answers apart unless every origin gets the same one.
fn vary(headers: &mut HeaderMap, cors: &Cors) {
    if cors.allow_credentials || !cors.allow_origins.iter().any(|allowed| allowed == "*") {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> HeaderMap {
        let pairs = text.lines().filter_map(|line| line.trim().split_once(": "));
        pairs
            .map(|(name, value)| (HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn text(headers: &HeaderMap) -> String {
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines.join("\n").replace("access-control-", "ac-")
    }

    fn cors(origins: &[&str], methods: &[&str], names: &[&str], credentials: bool) -> Cors {
        let strings = |list: &[&str]| list.iter().map(|item| item.to_string()).collect();
        Cors {
            allow_credentials: credentials,
            allow_headers: strings(names),
            allow_methods: strings(methods),
            allow_origins: strings(origins),
            expose_headers: strings(&["X-Total"]),
            max_age_s: 300,
        }
    }

    const ASKED: &str = "Origin: https://a.example
        Access-Control-Request-Method: PUT
        Access-Control-Request-Headers: x-one,x-two";

    #[test]
    fn a_preflight_is_a_request_for_permission() {
        assert!(is_preflight(&Method::OPTIONS, &headers(ASKED)));
        assert!(!is_preflight(&Method::OPTIONS, &headers("Origin: https://a.example")));
        assert!(!is_preflight(&Method::PUT, &headers(ASKED)));
    }

    #[test]
    fn a_preflight_gets_what_is_allowed() {
        let listed = cors(&["https://a.example"], &["GET", "PUT"], &["X-One"], false);
        assert_eq!(
            text(&preflight(&listed, &headers(ASKED))),
            "ac-allow-headers: X-One\nac-allow-methods: GET,PUT\nac-allow-origin: https://a.example\nac-max-age: 300\nvary: Origin"
        );
        let all = cors(&["*"], &["*"], &["*"], false);
        assert_eq!(
            text(&preflight(&all, &headers(ASKED))),
            "ac-allow-headers: x-one,x-two\nac-allow-methods: PUT\nac-allow-origin: *\nac-max-age: 300"
        );
    }

    #[test]
    fn another_origin_or_method_gets_nothing() {
        let other = cors(&["https://b.example"], &["*"], &["*"], false);
        assert_eq!(text(&preflight(&other, &headers(ASKED))), "vary: Origin");
        let get_only = cors(&["*"], &["GET"], &[], false);
        assert_eq!(text(&preflight(&get_only, &headers(ASKED))), "");
    }

    #[test]
    fn the_configuration_takes_the_place_of_the_functions_headers() {
        let mut response = headers("Access-Control-Allow-Origin: https://evil.example\nX-Own: 1");
        decorate(&cors(&["*"], &["*"], &[], true), &headers("Origin: https://a.example"), &mut response);
        assert_eq!(
            text(&response),
            "ac-allow-credentials: true\nac-allow-origin: https://a.example\nac-expose-headers: X-Total\nvary: Origin\nx-own: 1"
        );
        let mut response = headers("X-Own: 1");
        decorate(&cors(&["*"], &["*"], &[], false), &headers(""), &mut response);
        assert_eq!(text(&response), "x-own: 1");
    }
}
