use crate::rig::{Rig, Setup, parse};
use api::Limits;
use bytes::Bytes;
use node::invoke::Reply;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

fn limits() -> Limits {
    Limits { head: Duration::from_secs(1), stall: Duration::from_millis(500), ..Limits::default() }
}

async fn impatient() -> Rig {
    let large = || Reply::Answer(Bytes::from(format!("\"{}\"", "x".repeat(6_000_000))));
    Setup::new(move |_, _| async move { Ok(large()) }).limits(limits()).start().await
}

#[tokio::test]
async fn a_client_that_never_ends_its_head_is_given_up() {
    let rig = impatient().await;
    let mut stream = rig.connect().await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
    let mut received = Vec::new();
    // Ends: the server closes the connection.
    let _ = stream.read_to_end(&mut received).await;
    assert!(parse(&received).status != 200);
}

#[tokio::test]
async fn an_idle_connection_is_closed_before_and_after_its_first_request() {
    let rig = impatient().await;
    let mut silent = rig.connect().await;
    let mut served = rig.connect().await;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", rig.address);
    served.write_all(request.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    // Both end: the server closes the connections.
    let _ = silent.read_to_end(&mut Vec::new()).await;
    let _ = served.read_to_end(&mut received).await;
    assert_eq!(parse(&received).status, 200);
}

#[tokio::test]
async fn a_client_that_asks_first_is_refused_before_it_sends() {
    let rig = Rig::echo().await;
    let request = "POST /2015-03-31/functions\nExpect: 100-continue\nContent-Length: 80000000";
    assert_eq!(rig.send(request).await.status, 413);
    rig.create("f").await;
    let request = "POST /2015-03-31/functions/f/invocations\nExpect: 100-continue\n\n[1]";
    let answer = rig.send(request).await;
    assert_eq!(answer.status, 100);
    assert!(answer.text().starts_with("HTTP/1.1 200") && answer.text().ends_with("[1]"), "{}", answer.text());
}

#[tokio::test]
async fn a_client_that_is_refused_while_it_sends_still_gets_its_answer() {
    let rig = Rig::echo().await;
    rig.create("f").await;
    let body = vec![b'x'; 16 << 20];
    for (request, expected) in [
        ("POST /2015-03-31/functions/f/invocations", 413),
        ("POST /2015-03-31/functions/g/invocations", 413),
        ("POST /2015-03-31/nothing", 404),
        ("POST /fn/f/", 413),
    ] {
        let head = format!("{request}\nContent-Length: {}", body.len());
        let mut stream = rig.connect().await;
        stream.write_all(&rig.wire(&head)).await.unwrap();
        // As most clients do: everything is written before the answer is looked at.
        for piece in body.chunks(1 << 16) {
            stream.write_all(piece).await.unwrap_or_else(|error| panic!("{request}: {error}"));
        }
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap_or_else(|error| panic!("{request}: {error}"));
        assert_eq!(parse(&received).status, expected, "{request}");
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
    let mut rig = impatient().await;
    rig.create("f").await;
    let mut stream = rig.connect().await;
    stream.write_all(&rig.wire("POST /2015-03-31/functions/f/invocations")).await.unwrap();
    stream.readable().await.unwrap();
    // Nothing is read. The server ends only when all connections have ended, long before its patience does.
    tokio::time::timeout(Duration::from_secs(20), rig.stop())
        .await
        .expect("the stalled connection was closed");
}

#[tokio::test]
async fn a_half_closed_client_still_gets_its_answer() {
    let rig = Rig::echo().await;
    rig.create("f").await;
    let mut stream = rig.connect().await;
    stream.write_all(&rig.wire("POST /2015-03-31/functions/f/invocations\n\n[1]")).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    assert_eq!(parse(&received).text(), "[1]");
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let rig = Rig::echo().await;
    let mut stream = rig.connect().await;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", rig.address);
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"ok\n") {
            assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
        }
        assert_eq!(parse(&received).status, 200);
    }
}

#[tokio::test]
async fn too_long_a_head_is_refused() {
    let rig = Rig::echo().await;
    let answer = rig.send(&format!("GET /healthz\nX-Long: {}", "x".repeat(1_000_000))).await;
    assert!([431, 0].contains(&answer.status), "{}", answer.status);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_room() {
    let rig = Setup::new(|_, _| async { Ok(Reply::Answer(Bytes::new())) });
    let rig = rig.limits(Limits { connections: 1, ..Limits::default() }).start().await;
    let first = rig.connect().await;
    let waiting = rig.send("GET /healthz");
    let mut waiting = std::pin::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
    assert!(early.is_err(), "the second connection was served beside the first");
    drop(first);
    assert_eq!(waiting.await.status, 200);
}

#[tokio::test]
async fn when_others_wait_a_connection_is_not_kept_for_a_next_request() {
    let rig = Setup::new(|_, _| async { Ok(Reply::Answer(Bytes::new())) });
    let rig = rig.limits(Limits { connections: 1, ..Limits::default() }).start().await;
    let mut idle = rig.connect().await;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", rig.address);
    idle.write_all(request.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    while !received.ends_with(b"ok\n") {
        assert_ne!(idle.read_buf(&mut received).await.unwrap(), 0);
    }
    let served = tokio::time::timeout(Duration::from_secs(20), rig.send("GET /healthz")).await;
    assert_eq!(served.expect("the idle connection made room").status, 200);
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0, "the idle connection was closed in good order");
}

/// A server whose function answers when it is let go.
async fn gated(drain: Duration) -> (Rig, Arc<Semaphore>, Arc<Semaphore>) {
    let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (tell, wait) = (begun.clone(), gate.clone());
    let rig = Setup::new(move |_, _| {
        let (tell, wait) = (tell.clone(), wait.clone());
        async move {
            tell.add_permits(1);
            wait.acquire().await.unwrap().forget();
            Ok(Reply::Answer(Bytes::from_static(b"\"done\"")))
        }
    });
    (rig.limits(Limits { drain, ..Limits::default() }).start().await, begun, gate)
}

#[tokio::test]
async fn shutdown_lets_requests_in_flight_end() {
    let (mut rig, begun, gate) = gated(Duration::from_secs(60)).await;
    rig.create("f").await;
    let idle = rig.connect().await;
    let mut stream = rig.connect().await;
    stream.write_all(&rig.wire("POST /2015-03-31/functions/f/invocations")).await.unwrap();
    begun.acquire().await.unwrap().forget();
    rig.begin_stop();
    // No new connection is taken: what connects now is refused or closed unanswered.
    gate.add_permits(1);
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    assert_eq!(parse(&received).text(), "\"done\"");
    tokio::time::timeout(Duration::from_secs(20), rig.stop())
        .await
        .expect("an idle connection does not hold it");
    drop(idle);
}

#[tokio::test]
async fn shutdown_does_not_wait_longer_than_its_drain_time() {
    let (mut rig, begun, _gate) = gated(Duration::from_millis(100)).await;
    rig.create("f").await;
    let mut stream = rig.connect().await;
    stream.write_all(&rig.wire("POST /2015-03-31/functions/f/invocations")).await.unwrap();
    begun.acquire().await.unwrap().forget();
    tokio::time::timeout(Duration::from_secs(20), rig.stop()).await.expect("the server ended");
}
