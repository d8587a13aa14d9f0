use super::*;
use crate::auth::AccessKeys;
use http::Request;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::process::Command;

/// A request that botocore signed.
#[derive(Clone, Deserialize)]
struct Vector {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: String,
    access_key: String,
    secret: String,
    region: String,
    now_s: u64,
}

impl Vector {
    fn head(&self) -> Parts {
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.target);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn keys(&self) -> AccessKeys {
        [(self.access_key.clone(), self.secret.clone())].into_iter().collect()
    }

    fn verify(&self) -> Result<String> {
        let now = Timestamp(self.now_s * 1000);
        verify(&self.keys(), &self.head(), self.body.as_bytes(), &self.region, now)
    }
}

fn verify(keys: &AccessKeys, head: &Parts, body: &[u8], region: &str, now: Timestamp) -> Result<String> {
    keys.begin(head, "CreateFunction", region, now)?.finish(head, body)
}

fn recorded() -> Vec<Vector> {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

#[test]
fn what_botocore_signed_is_accepted() {
    for vector in recorded() {
        assert_eq!(vector.verify(), Ok(vector.access_key.clone()), "{} {}", vector.method, vector.target);
    }
}

#[test]
fn what_botocore_signs_now_is_accepted() {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/auth/sigv4/vectors.py");
    let output = Command::new("python3").arg(script).arg(seed.to_string()).output();
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        eprintln!("skipped: no python3 with botocore here");
        return;
    };
    for vector in serde_json::from_slice::<Vec<Vector>>(&output.stdout).unwrap() {
        assert_eq!(vector.verify(), Ok(vector.access_key.clone()), "seed {seed}: {}", vector.target);
    }
}

type Change = fn(&mut Vector);

#[test]
fn any_change_to_what_was_signed_is_noticed() {
    const MISMATCH: &str = "The request signature we calculated does not match";
    for vector in recorded() {
        let changed: [(&str, Change); 5] = [
            ("method", |v| v.method = "PATCH".into()),
            ("path", |v| v.target = v.target.replacen("functions", "function", 1)),
            ("query", |v| v.target += if v.target.contains('?') { "&a=b" } else { "?a=b" }),
            ("body", |v| v.body += " "),
            ("secret", |v| v.secret += "x"),
        ];
        for (what, change) in changed {
            let mut vector = vector.clone();
            change(&mut vector);
            let error = vector.verify().expect_err(what);
            assert!(error.message.starts_with(MISMATCH), "{what}: {}", error.message);
        }
    }
}

/// The headers that sign a request with this access key at this time: `x-amz-date` and `authorization`.
///
/// `head` must hold all headers that are sent (at least `host`); all of them are signed.
fn sign(
    head: &Parts,
    body: &[u8],
    key: (&str, &str),
    region: &str,
    at: Timestamp,
) -> [(&'static str, String); 2] {
    let date = amz_date((at.as_millis() / 1000) as i64);
    let scope = format!("{}/{region}/{SERVICE}/{TERMINATOR}", &date[..8]);
    let mut dated = head.clone();
    dated.headers.insert("x-amz-date", date.parse().expect("a date is a header value"));
    let mut names: Vec<String> = dated.headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    let payload = hex(&Sha256::digest(body));
    let canonical =
        canonical_request(&dated, &names, &payload).expect("every name is a header that is there");
    let signature = hex(&signature(key.1, &date, &scope, &canonical).finalize().into_bytes());
    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
        key.0,
        names.join(";")
    );
    [("x-amz-date", date), ("authorization", authorization)]
}

#[test]
fn functions_call_functions_and_nothing_else() {
    let keys: AccessKeys = [("AKID".to_owned(), "secret".to_owned())].into_iter().collect();
    let own = keys.sessions().issue("arn:aws:lambda:r:000000000000:function:a");
    let call = |operation: &str, token: Option<&str>, secret: &str| {
        let mut request = Request::builder().method("POST").uri("/x").header("host", "localhost");
        if let Some(token) = token {
            request = request.header("x-amz-security-token", token);
        }
        let mut head = request.body(()).unwrap().into_parts().0;
        for (name, value) in sign(&head, b"{}", (&own.access_key_id, secret), "r", NOW) {
            head.headers.insert(name, value.parse().unwrap());
        }
        let signed = keys.begin(&head, operation, "r", NOW).and_then(|signed| signed.finish(&head, b"{}"));
        signed.map_err(|error| error.kind)
    };
    let (token, secret) = (own.session_token.as_deref(), own.secret_access_key.as_str());
    for operation in ["InvokeFunction", "InvokeWithResponseStream", "InvokeFunctionUrl"] {
        assert_eq!(call(operation, token, secret), Ok(own.access_key_id.clone()));
    }
    for operation in ["CreateFunction", "GetFunction", "Logs", "AddPermission"] {
        assert_eq!(call(operation, token, secret), Err(Kind::AccessDeniedException), "{operation}");
    }
    let other = Some("arn:aws:lambda:r:000000000000:function:b");
    assert_eq!(call("InvokeFunction", other, secret), Err(Kind::UnrecognizedClientException));
    assert_eq!(call("InvokeFunction", None, secret), Err(Kind::UnrecognizedClientException));
    assert_eq!(call("InvokeFunction", token, "guessed"), Err(Kind::InvalidSignatureException));
    assert_eq!(call("CreateFunction", token, "guessed"), Err(Kind::InvalidSignatureException));
}

const NOW: Timestamp = Timestamp(1_795_366_800_000); // 2026-11-22T17:00:00Z

/// A request signed by ourselves, then changed: the error, or "accepted".
fn check(change: impl FnOnce(&mut Parts), expected: &str) {
    let request =
        Request::builder().uri("/2015-03-31/functions/?MaxItems=1").header("host", "localhost:9170");
    let mut head = request.body(()).unwrap().into_parts().0;
    for (name, value) in sign(&head, b"", ("AKID", "secret"), "us-east-1", NOW) {
        head.headers.insert(name, value.parse().unwrap());
    }
    change(&mut head);
    let keys: AccessKeys = [("AKID".to_owned(), "secret".to_owned())].into_iter().collect();
    let actual = match verify(&keys, &head, b"", "us-east-1", NOW) {
        Ok(key) => format!("accepted: {key}"),
        Err(error) => format!("{:?}: {}", error.kind, error.message),
    };
    assert_eq!(actual, expected);
}

fn replace(head: &mut Parts, name: &'static str, from: &str, to: &str) {
    let value = head.headers[name].to_str().unwrap().replace(from, to);
    head.headers.insert(name, value.parse().unwrap());
}

#[test]
fn what_we_sign_is_accepted() {
    check(|_| {}, "accepted: AKID");
}

#[test]
fn every_mistake_has_its_own_message() {
    check(
        |head| drop(head.headers.remove("authorization")),
        "MissingAuthenticationTokenException: Missing Authentication Token",
    );
    check(
        |head| replace(head, "authorization", "AWS4-HMAC-SHA256", "Bearer"),
        "IncompleteSignatureException: Authorization must begin with 'AWS4-HMAC-SHA256'. Authorization=Bearer",
    );
    check(
        |head| replace(head, "authorization", "SignedHeaders", "Headers"),
        "IncompleteSignatureException: Authorization header requires 'SignedHeaders' parameter.",
    );
    check(
        |head| drop(head.headers.remove("x-amz-date")),
        "IncompleteSignatureException: Authorization header requires existence of an 'X-Amz-Date' header.",
    );
    check(
        |head| replace(head, "authorization", "AKID/", "AKID"),
        "IncompleteSignatureException: Credential must have exactly 5 slash-delimited elements, e.g. \
         keyid/date/region/service/term, got 'AKID20261122/us-east-1/lambda/aws4_request'",
    );
    check(
        |head| replace(head, "authorization", "AKID", "STRANGER"),
        "UnrecognizedClientException: The security token included in the request is invalid.",
    );
    check(
        |head| replace(head, "authorization", "us-east-1", "eu-west-1"),
        "InvalidSignatureException: Credential should be scoped to a valid region: this server's is 'us-east-1'.",
    );
    check(
        |head| replace(head, "authorization", "lambda", "s3"),
        "InvalidSignatureException: Credential should be scoped to correct service: 'lambda'.",
    );
    check(
        |head| replace(head, "authorization", "/20261122", "/20261121"),
        "InvalidSignatureException: Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date \
         from HTTP",
    );
    check(
        |head| drop(head.headers.insert("x-amz-log-type", "Tail".parse().unwrap())),
        "InvalidSignatureException: There were headers present in the request which were not signed: x-amz-log-type",
    );
    check(
        |head| drop(head.headers.insert("x-amz-date", "yesterday".parse().unwrap())),
        "InvalidSignatureException: Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date \
         from HTTP",
    );
}

#[test]
fn clocks_may_differ_by_five_minutes() {
    let request = Request::builder().uri("/").header("host", "h").body(()).unwrap();
    let mut head = request.into_parts().0;
    for (name, value) in sign(&head, b"", ("AKID", "secret"), "us-east-1", NOW) {
        head.headers.insert(name, value.parse().unwrap());
    }
    let keys: AccessKeys = [("AKID".to_owned(), "secret".to_owned())].into_iter().collect();
    let at = |minutes: i64| {
        let now = Timestamp(NOW.as_millis().saturating_add_signed(minutes * 60_000));
        verify(&keys, &head, b"", "us-east-1", now).map_err(|error| error.message)
    };
    assert!(at(5).is_ok() && at(-5).is_ok());
    assert_eq!(
        at(6).unwrap_err(),
        "Signature expired: 20261122T170000Z is now earlier than 20261122T170100Z (20261122T170600Z - 5 min.)"
    );
    assert_eq!(
        at(-6).unwrap_err(),
        "Signature not yet current: 20261122T170000Z is still later than 20261122T165900Z (20261122T165400Z + 5 min.)"
    );
}

#[test]
fn a_body_hash_that_is_declared_must_be_true_unless_it_says_unsigned() {
    let hash_of = |declared: &str, body: &[u8]| {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-content-sha256", declared.parse().unwrap());
        payload_hash(&headers, body).map_err(|error| error.message)
    };
    let empty = hex(&Sha256::digest(b""));
    assert_eq!(hash_of(&empty, b""), Ok(empty.clone()));
    assert_eq!(
        hash_of(&empty, b"x").unwrap_err(),
        "The provided 'x-amz-content-sha256' header does not match what was computed."
    );
    assert_eq!(hash_of(UNSIGNED, b"x"), Ok(UNSIGNED.into()));
    assert!(hash_of("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", b"").unwrap_err().contains("signed chunks"));
}
