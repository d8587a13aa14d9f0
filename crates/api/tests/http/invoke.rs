use crate::rig::{Rig, Setup, chunks};
use bytes::Bytes;
use node::invoke::{Refusal, Reply, Throttle};
use ports::Payload;
use serde_json::json;

#[tokio::test]
async fn an_answer_comes_with_the_documented_headers() {
    let rig = Rig::echo().await;
    rig.create("f").await;
    let answer =
        rig.send("POST /2015-03-31/functions/f/invocations\nX-Amz-Log-Type: Tail\n\n{\"a\":1}").await;
    assert_eq!((answer.status, answer.text()), (200, "{\"a\":1}".into()));
    assert_eq!(answer.header("content-type").unwrap(), "application/json");
    assert_eq!(answer.header("x-amz-executed-version").unwrap(), "$LATEST");
    assert_eq!(answer.header("x-amz-log-result").unwrap(), "U1RBUlQKRU5ECg==");
    assert_eq!(answer.header("x-amzn-remapped-content-length").unwrap(), "0");
    assert_eq!(answer.header("x-amzn-requestid").unwrap().len(), 36);
    assert_eq!(answer.header("x-amz-function-error"), None);
}

#[tokio::test]
async fn every_form_of_a_name_reaches_the_function() {
    let rig = Rig::echo().await;
    rig.create("f").await;
    rig.json("POST /2015-03-31/functions/f/versions", json!({})).await;
    rig.json("POST /2015-03-31/functions/f/aliases", json!({ "Name": "prod", "FunctionVersion": "1" })).await;
    for (name, version) in [
        ("f", "$LATEST"),
        ("f:1", "1"),
        ("f%3Aprod", "1"),
        ("123456789012:function:f:prod", "1"),
        ("arn:aws:lambda:us-east-1:123456789012:function:f", "$LATEST"),
    ] {
        let answer = rig.send(&format!("POST /2015-03-31/functions/{name}/invocations")).await;
        assert_eq!((answer.status, answer.text()), (200, "{}".into()), "{name}");
        assert_eq!(answer.header("x-amz-executed-version").unwrap(), version, "{name}");
    }
    let answer = rig.send("POST /2015-03-31/functions/f/invocations?Qualifier=prod").await;
    assert_eq!(answer.header("x-amz-executed-version").unwrap(), "1");
}

#[tokio::test]
async fn the_function_is_told_what_the_caller_said() {
    let rig = Setup::new(|_, request| async move {
        let Payload::Event(event) = request.payload else { panic!("not an event") };
        let told = json!({
            "event": String::from_utf8_lossy(&event),
            "qualifier": request.qualifier,
            "trace_id": request.trace_id,
            "client_context": request.client_context,
        });
        Ok(Reply::Answer(Bytes::from(told.to_string())))
    });
    let rig = rig.start().await;
    rig.create("f").await;
    let request = "POST /2015-03-31/functions/f/invocations?Qualifier=%24LATEST\nX-Amzn-Trace-Id: Root=1-a-b\n\
                   X-Amz-Client-Context: eyJhIjoxfQ==\n\n[1]";
    let expected = json!({
        "event": "[1]", "qualifier": "$LATEST", "trace_id": "Root=1-a-b", "client_context": "{\"a\":1}"
    });
    assert_eq!(rig.send(request).await.json(), expected);
}

#[tokio::test]
async fn a_dry_run_is_204_and_runs_nothing() {
    let rig = Setup::new(|_, _| async { panic!("a dry run must not run anything") }).start().await;
    rig.create("f").await;
    let answer = rig.send("POST /2015-03-31/functions/f/invocations\nX-Amz-Invocation-Type: DryRun").await;
    assert_eq!((answer.status, answer.text()), (204, String::new()));
}

#[tokio::test]
async fn a_functions_error_is_an_answer_that_says_so() {
    let rig = Setup::new(|_, _| async {
        Ok(Reply::FunctionError(Bytes::from_static(br#"{"errorType":"ValueError"}"#)))
    });
    let rig = rig.start().await;
    rig.create("f").await;
    let answer = rig.send("POST /2015-03-31/functions/f/invocations").await;
    assert_eq!((answer.status, answer.text()), (200, r#"{"errorType":"ValueError"}"#.into()));
    assert_eq!(answer.header("x-amz-function-error").unwrap(), "Unhandled");
}

#[tokio::test]
async fn a_refusal_says_which_limit_was_hit() {
    async fn check(refusal: fn() -> Refusal, expected: &str) {
        let rig = Setup::new(move |_, _| async move { Err(refusal()) }).start().await;
        rig.create("f").await;
        let answer = rig.send("POST /2015-03-31/functions/f/invocations").await;
        assert_eq!(answer.error(), expected);
        assert_eq!(answer.header("retry-after").is_some(), answer.status == 429);
    }
    check(
        || Refusal::Throttled(Throttle::ReservedConcurrency),
        r#"429 TooManyRequestsException {"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}"#,
    )
    .await;
    check(
        || Refusal::Throttled(Throttle::AccountConcurrency),
        r#"429 TooManyRequestsException {"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}"#,
    )
    .await;
    check(
        || Refusal::Machine("no room".into()),
        r#"500 ServiceException {"Type":"Service","Message":"no room"}"#,
    )
    .await;
    check(
        || Refusal::ShuttingDown,
        r#"503 ServiceUnavailableException {"Type":"Service","message":"The server is shutting down. Try again when it is back."}"#,
    )
    .await;
}

#[tokio::test]
async fn a_streamed_answer_is_whole_for_a_caller_that_does_not_stream() {
    let rig =
        Setup::new(|_, _| async { Ok(chunks("text/plain", vec![Ok("one "), Ok("two")])) }).start().await;
    rig.create("f").await;
    let answer = rig.send("POST /2015-03-31/functions/f/invocations").await;
    assert_eq!((answer.status, answer.text()), (200, "one two".into()));
}

#[tokio::test]
async fn a_caller_that_left_does_not_cancel_what_it_asked_for() {
    // The data plane's promise is that it goes on; ours is that nothing else is stopped: the server still answers.
    let (begun, mut beginnings) = tokio::sync::mpsc::unbounded_channel();
    let rig = Setup::new(move |_, _| {
        begun.send(()).unwrap();
        std::future::pending()
    });
    let rig = rig.start().await;
    rig.create("f").await;
    for _ in 0..3 {
        use tokio::io::AsyncWriteExt;
        let mut stream = rig.connect().await;
        stream.write_all(&rig.wire("POST /2015-03-31/functions/f/invocations")).await.unwrap();
        beginnings.recv().await.unwrap();
        drop(stream);
    }
    assert_eq!(rig.send("GET /healthz").await.status, 200);
}

/// Event type and payload of each message; the checksums are checked.
fn events(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let (total, headers_len) = (word(0), word(4));
        assert_eq!(word(8) as u32, crc32fast::hash(&bytes[..8]));
        assert_eq!(word(total - 4) as u32, crc32fast::hash(&bytes[..total - 4]));
        let mut headers = &bytes[12..12 + headers_len];
        let mut event_type = String::new();
        while !headers.is_empty() {
            let (name, rest) = headers[1..].split_at(headers[0] as usize);
            let length = u16::from_be_bytes([rest[1], rest[2]]) as usize;
            if name == b":event-type" {
                event_type = String::from_utf8_lossy(&rest[3..3 + length]).into_owned();
            }
            headers = &rest[3 + length..];
        }
        events.push((event_type, String::from_utf8_lossy(&bytes[12 + headers_len..total - 4]).into_owned()));
        bytes = &bytes[total..];
    }
    events
}

async fn check_stream(reply: fn() -> Reply, expected: &[(&str, &str)]) {
    let rig = Setup::new(move |_, _| async move { Ok(reply()) }).start().await;
    rig.create("f").await;
    let answer = rig.send("POST /2021-11-15/functions/f/response-streaming-invocations").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type").unwrap(), "application/vnd.amazon.eventstream");
    assert_eq!(answer.header("x-amz-executed-version").unwrap(), "$LATEST");
    let events = events(&answer.body);
    let events: Vec<(&str, &str)> = events.iter().map(|(kind, payload)| (&**kind, &**payload)).collect();
    assert_eq!(events, expected);
}

#[tokio::test]
async fn a_response_stream_has_an_event_for_each_chunk_and_one_at_the_end() {
    check_stream(
        || chunks("text/plain", vec![Ok("one"), Ok("two")]),
        &[("PayloadChunk", "one"), ("PayloadChunk", "two"), ("InvokeComplete", "{}")],
    )
    .await;
    check_stream(
        || Reply::Answer(Bytes::from_static(b"[1]")),
        &[("PayloadChunk", "[1]"), ("InvokeComplete", "{}")],
    )
    .await;
}

#[tokio::test]
async fn a_response_stream_tells_the_functions_error_at_its_end() {
    const COMPLETE: &str = r#"{"ErrorCode":"Unhandled","ErrorDetails":"{\"errorType\":\"E\"}"}"#;
    check_stream(
        || chunks("text/plain", vec![Ok("one"), Err(r#"{"errorType":"E"}"#)]),
        &[("PayloadChunk", "one"), ("InvokeComplete", COMPLETE)],
    )
    .await;
    check_stream(
        || Reply::FunctionError(Bytes::from_static(br#"{"errorType":"E"}"#)),
        &[("InvokeComplete", COMPLETE)],
    )
    .await;
}
