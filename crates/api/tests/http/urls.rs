use crate::rig::{Answer, Rig, Setup, chunks, parse};
use bytes::Bytes;
use node::invoke::{Refusal, Reply, Throttle};
use ports::{Payload, StreamReply};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

const PRELUDE: &str = "application/vnd.awslambda.http-integration-response";

/// The answer of a function's own URL.
async fn call(rig: &Rig, settings: serde_json::Value, request: &str) -> Answer {
    rig.create("f").await;
    let host = rig.create_url("f", settings).await;
    let (line, rest) = request.split_once('\n').unwrap_or((request, ""));
    rig.send(&format!("{line}\nHost: {host}\n{rest}")).await
}

fn open() -> serde_json::Value {
    json!({ "AuthType": "NONE" })
}

fn streaming() -> serde_json::Value {
    json!({ "AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM" })
}

#[tokio::test]
async fn a_request_reaches_the_function_as_an_event() {
    let rig = Rig::echo().await;
    let request = "POST /a%20b/c?x=1&x=2\nContent-Type: text/plain\nCookie: k=v\nX-Own: 1\n\nhello";
    let answer = call(&rig, open(), request).await;
    let event = answer.json();
    assert_eq!(event["version"], "2.0");
    assert_eq!((&event["rawPath"], &event["rawQueryString"]), (&json!("/a%20b/c"), &json!("x=1&x=2")));
    assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("hello"), &json!(false)));
    assert_eq!(event["cookies"], json!(["k=v"]));
    assert_eq!(event["headers"]["x-own"], "1");
    assert_eq!(event["headers"]["x-forwarded-for"], "127.0.0.1");
    assert_eq!(event["headers"]["x-forwarded-proto"], "http");
    assert_eq!(event["headers"]["x-forwarded-port"], rig.address.port().to_string());
    assert!(event["headers"]["x-amzn-trace-id"].as_str().unwrap().starts_with("Root=1-"));
    let context = &event["requestContext"];
    assert_eq!(context["http"]["sourceIp"], "127.0.0.1");
    assert_eq!(context["domainPrefix"], context["apiId"]);
    assert_eq!(context["requestId"], answer.header("x-amzn-requestid").unwrap());
    assert!(context["domainName"].as_str().unwrap().ends_with(".lambda-url.us-east-1.localhost"));
}

#[tokio::test]
async fn a_function_answers_at_its_path_too() {
    let rig = Rig::echo().await;
    rig.create("f").await;
    rig.json("POST /2015-03-31/functions/f/versions", json!({})).await;
    let event = rig.send("GET /fn/f/a/b?c=d").await.json();
    assert_eq!((&event["rawPath"], &event["rawQueryString"]), (&json!("/a/b"), &json!("c=d")));
    assert_eq!(event["headers"]["x-forwarded-prefix"], "/fn/f");
    assert_eq!(rig.send("GET /fn/f:1").await.json()["rawPath"], "/");
    assert_eq!(rig.send("GET /fn/f:$LATEST/").await.json()["rawPath"], "/");
    assert_eq!(rig.send("GET /fn/g").await.status, 404);
    assert_eq!(rig.send("GET /fn/f:2").await.status, 404);
}

#[tokio::test]
async fn a_function_that_was_deleted_or_changed_while_a_body_came_runs_no_more_as_it_was() {
    let setup = Setup::new(|target, _| async move {
        Ok(Reply::Answer(Bytes::from(format!("\"{}\"", target.configuration.timeout_s))))
    });
    let rig = setup.start().await;
    rig.create("f").await;
    let asked = || async {
        let mut socket = rig.connect().await;
        let head = "POST /fn/f HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\n\
                    Content-Length: 2\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut invited = [0; 25];
        socket.read_exact(&mut invited).await.unwrap();
        assert_eq!(&invited, b"HTTP/1.1 100 Continue\r\n\r\n");
        socket
    };
    let answered = |mut socket: tokio::net::TcpStream| async move {
        socket.write_all(b"{}").await.unwrap();
        let mut received = Vec::new();
        socket.read_to_end(&mut received).await.unwrap();
        parse(&received)
    };
    let waiting = asked().await;
    let change = json!({ "Timeout": 77 });
    rig.json("PUT /2015-03-31/functions/f/configuration", change).await;
    assert_eq!(answered(waiting).await.text(), "77");
    let waiting = asked().await;
    assert_eq!(rig.send("DELETE /2015-03-31/functions/f").await.status, 204);
    assert_eq!(answered(waiting).await.status, 404);
}

#[tokio::test]
async fn an_answer_with_a_status_is_the_response() {
    let rig = Rig::answering(
        r#"{"statusCode":201,"headers":{"X-A":"1","Content-Length":"7"},"cookies":["a=1","b=2"],"body":"aGk=","isBase64Encoded":true}"#,
    )
    .await;
    let answer = call(&rig, open(), "GET /").await;
    assert_eq!((answer.status, answer.text()), (201, "hi".into()));
    assert_eq!(answer.header("x-a").unwrap(), "1");
    assert_eq!(answer.header("set-cookie").unwrap(), "a=1|b=2");
    assert_eq!(answer.header("content-type").unwrap(), "application/json");
    assert_eq!(answer.header("content-length").unwrap(), "2");
    assert_eq!(answer.header("x-amzn-remapped-content-length").unwrap(), "7");
}

#[tokio::test]
async fn errors_of_the_function_are_a_502_that_says_nothing() {
    const BODY: &str = "502 InternalServerErrorException Internal Server Error";
    let rig = Rig::answering("not JSON").await;
    assert_eq!(call(&rig, open(), "GET /").await.error(), BODY);
    let failing =
        Setup::new(|_, _| async { Ok(Reply::FunctionError(Bytes::from_static(b"{\"secret\":1}"))) });
    assert_eq!(call(&failing.start().await, open(), "GET /").await.error(), BODY);
    let failing = Setup::new(|_, _| async { Ok(chunks(PRELUDE, vec![Ok("{\"status"), Err("{}")])) });
    assert_eq!(call(&failing.start().await, streaming(), "GET /").await.error(), BODY);
}

#[tokio::test]
async fn a_throttled_caller_gets_429() {
    let rig =
        Setup::new(|_, _| async { Err(Refusal::Throttled(Throttle::AccountConcurrency)) }).start().await;
    let answer = call(&rig, open(), "GET /").await;
    assert_eq!((answer.status, answer.header("retry-after").unwrap()), (429, "1".into()));
}

#[tokio::test]
async fn an_unknown_url_and_too_large_a_body_are_told() {
    let rig = Rig::echo().await;
    let unknown = rig.send("GET /\nHost: nobody.lambda-url.us-east-1.localhost").await;
    assert_eq!(
        unknown.error(),
        r#"403 AccessDeniedException {"Message":"There is no function URL with the id nobody. `brooklet show NAME` tells the URL of a function."}"#
    );
    let large = call(&rig, open(), "POST /\nContent-Length: 6291457\n\nx").await;
    assert_eq!(
        large.error(),
        r#"413 RequestEntityTooLargeException {"Type":"User","Message":"Request must be smaller than 6291456 bytes for the InvokeFunction operation"}"#
    );
}

#[tokio::test]
async fn a_stream_is_passed_on_with_its_prelude_as_the_head() {
    let reply = || {
        let head =
            "{\"statusCode\":206,\"headers\":{\"Content-Type\":\"text/html\"},\"cookies\":[\"a=1\"]}\0\0\0";
        chunks(PRELUDE, vec![Ok(head), Ok("\0\0\0\0\0<p>"), Ok("</p>")])
    };
    for settings in [streaming(), open()] {
        let rig = Setup::new(move |_, _| async move { Ok(reply()) }).start().await;
        let answer = call(&rig, settings, "GET /").await;
        assert_eq!((answer.status, answer.text()), (206, "<p></p>".into()));
        assert_eq!(answer.header("content-type").unwrap(), "text/html");
        assert_eq!(answer.header("set-cookie").unwrap(), "a=1");
    }
}

#[tokio::test]
async fn a_stream_without_prelude_is_200_with_the_runtimes_type() {
    let rig = Setup::new(|_, _| async { Ok(chunks("text/plain", vec![Ok("a"), Ok("b")])) }).start().await;
    let answer = call(&rig, streaming(), "GET /").await;
    assert_eq!((answer.status, answer.text()), (200, "ab".into()));
    assert_eq!(answer.header("content-type").unwrap(), "text/plain");
}

#[tokio::test]
async fn a_stream_that_fails_in_the_middle_is_broken_off() {
    let rig = Setup::new(|_, _| async { Ok(chunks("text/plain", vec![Ok("a"), Err("{}")])) }).start().await;
    assert_eq!(call(&rig, streaming(), "GET /").await.text(), "a<broken off>");
}

#[tokio::test]
async fn each_chunk_is_flushed_when_it_is_written() {
    let (sender, receiver) = mpsc::channel(1);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let rig = Setup::new(move |_, _| {
        let chunks = receiver.lock().unwrap().take().unwrap();
        async { Ok(Reply::Stream(StreamReply::Chunks { content_type: "text/plain".into(), chunks })) }
    });
    let rig = rig.start().await;
    rig.create("f").await;
    let host = rig.create_url("f", streaming()).await;
    let mut stream = rig.connect().await;
    stream.write_all(&rig.wire(&format!("GET /\nHost: {host}"))).await.unwrap();
    let mut received = Vec::new();
    for word in ["first", "second"] {
        sender.send(Ok(Bytes::from_static(word.as_bytes()))).await.unwrap();
        // The next chunk is only written when this one has arrived.
        while !String::from_utf8_lossy(&received).contains(word) {
            assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
        }
    }
    drop(sender);
    stream.read_to_end(&mut received).await.unwrap();
    assert_eq!(parse(&received).text(), "firstsecond");
}

#[tokio::test]
async fn a_function_that_does_not_stream_works_behind_a_streaming_url() {
    let rig = Rig::answering(r#"{"statusCode":404,"body":"none"}"#).await;
    let answer = call(&rig, streaming(), "GET /").await;
    // It did not declare an HTTP answer, so this is the body.
    assert_eq!((answer.status, answer.text()), (200, r#"{"statusCode":404,"body":"none"}"#.into()));
}

#[tokio::test]
async fn every_answer_names_the_trace_that_the_function_saw() {
    let rig = Rig::echo().await;
    let answer = call(&rig, open(), "GET /").await;
    assert_eq!(answer.json()["headers"]["x-amzn-trace-id"], answer.header("x-amzn-trace-id").unwrap());
}

#[tokio::test]
async fn a_url_for_signed_requests_demands_a_signature_even_when_there_are_no_keys() {
    let rig = Rig::echo().await;
    let unsigned = call(&rig, json!({ "AuthType": "AWS_IAM" }), "GET /").await;
    let forbidden = r#"403 AccessDeniedException {"Message":"Forbidden"}"#;
    assert_eq!(unsigned.error(), forbidden);
    assert_eq!(rig.send("GET /fn/f").await.error(), forbidden);
    assert_eq!(rig.send("GET /fn/f\nAuthorization: Bearer x").await.error(), forbidden);
    let signed = "GET /fn/f\nX-Amz-Date: 20261122T170000Z\nAuthorization: AWS4-HMAC-SHA256 \
                  Credential=AKIDEXAMPLE/20261122/us-east-1/lambda/aws4_request, \
                  SignedHeaders=host;x-amz-date, Signature=00";
    assert_eq!(rig.send(signed).await.status, 200);
}

#[tokio::test]
async fn a_preflight_is_answered_without_the_function() {
    let rig = Setup::new(|_, _| async { panic!("a preflight must not run anything") }).start().await;
    let cors = json!({
        "AllowOrigins": ["https://a.example"], "AllowMethods": ["GET"], "AllowHeaders": ["X-One"], "MaxAge": 60
    });
    let settings = json!({ "AuthType": "AWS_IAM", "Cors": cors });
    let request = "OPTIONS /\nOrigin: https://a.example\nAccess-Control-Request-Method: GET";
    let answer = call(&rig, settings, request).await;
    assert_eq!((answer.status, answer.text()), (200, String::new()));
    assert_eq!(answer.header("access-control-allow-origin").unwrap(), "https://a.example");
    assert_eq!(answer.header("access-control-allow-methods").unwrap(), "GET");
    assert_eq!(answer.header("access-control-max-age").unwrap(), "60");
}

#[tokio::test]
async fn every_answer_and_error_carries_the_cors_headers() {
    let settings = json!({ "AuthType": "NONE", "Cors": { "AllowOrigins": ["*"] } });
    let request = "GET /\nOrigin: https://a.example";
    let rig =
        Rig::answering(r#"{"statusCode":200,"headers":{"Access-Control-Allow-Origin":"https://own"}}"#).await;
    let answer = call(&rig, settings.clone(), request).await;
    assert_eq!(answer.header("access-control-allow-origin").unwrap(), "*");
    let rig =
        Setup::new(|_, _| async { Err(Refusal::Throttled(Throttle::AccountConcurrency)) }).start().await;
    let answer = call(&rig, settings, request).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin").unwrap()), (429, "*".into()));
}

/// A server with an HTTP program that tells what it was asked.
async fn http_program() -> Rig {
    let rig = Setup::new(|_, request| async move {
        let Payload::Http(request) = request.payload else { panic!("not a request") };
        let (head, body) = request.into_parts();
        let told = format!("{} {}", head.method, head.uri);
        let response = http::Response::builder()
            .status(418)
            .header("x-told", told)
            .header(
                "x-prefix",
                head.headers.get("x-forwarded-prefix").cloned().unwrap_or("none".parse().unwrap()),
            )
            .header("x-hops", head.headers.contains_key("keep-alive").to_string())
            .header("connection", "close, x-secret")
            .header("x-secret", "1")
            .body(body);
        Ok(Reply::Stream(StreamReply::Http(Box::new(response.unwrap()))))
    });
    let rig = rig.start().await;
    rig.create_with("web", "http").await;
    rig
}

#[tokio::test]
async fn an_http_program_gets_the_request_itself() {
    let rig = http_program().await;
    let answer = rig.send("PUT /fn/web/a/b?c=d\nKeep-Alive: timeout=5\n\nbody").await;
    assert_eq!((answer.status, answer.text()), (418, "body".into()));
    assert_eq!(answer.header("x-told").unwrap(), "PUT /a/b?c=d");
    assert_eq!(answer.header("x-prefix").unwrap(), "/fn/web");
    assert_eq!((answer.header("x-hops").unwrap(), answer.header("x-secret")), ("false".into(), None));
    assert!(answer.header("x-amzn-requestid").is_some());
}

#[tokio::test]
async fn an_http_program_at_its_own_host_sees_the_whole_path() {
    let rig = http_program().await;
    let host = rig.create_url("web", open()).await;
    let answer = rig.send(&format!("GET /fn/web?x\nHost: {host}")).await;
    assert_eq!(answer.header("x-told").unwrap(), "GET /fn/web?x");
    assert_eq!(answer.header("x-prefix").unwrap(), "none");
}
