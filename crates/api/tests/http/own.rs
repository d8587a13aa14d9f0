use crate::rig::{Rig, parse, zip};
use model::{RequestId, Timestamp, Version};
use node::logs::EntryKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn health_and_readiness_are_told() {
    let rig = Rig::echo().await;
    assert_eq!(rig.send("GET /healthz").await.status, 200);
    assert_eq!(rig.send("GET /readyz").await.status, 200);
}

#[tokio::test]
async fn the_server_says_what_it_is() {
    let rig = Rig::echo().await;
    let info = rig.send("GET /_brooklet/v1/info").await.json();
    assert_eq!((&info["version"], &info["account"]), (&"0.0.0-test".into(), &"123456789012".into()));
    assert!(info["uptime_s"].is_u64());
}

#[tokio::test]
async fn a_package_is_downloaded_with_the_link_that_get_function_gives() {
    let rig = Rig::echo().await;
    rig.create("f").await;
    let location =
        rig.send("GET /2015-03-31/functions/f").await.json()["Code"]["Location"].as_str().unwrap().to_owned();
    let target = location.strip_prefix(&format!("http://{}", rig.address)).expect(&location);
    let answer = rig.send(&format!("GET {target}")).await;
    assert_eq!(answer.header("content-type").unwrap(), "application/zip");
    assert_eq!(answer.body, zip());
    let forged = target.replace("functions/f/", "functions/g/");
    assert_eq!(rig.send(&format!("GET {forged}")).await.status, 403);
}

fn write(rig: &Rig, at: u64, text: &str) {
    let log = rig.logs.function("f", false);
    log.add(
        Timestamp(at),
        &"stream-1".into(),
        Some(RequestId(uuid::Uuid::nil())),
        EntryKind::Line(text.to_owned()),
    );
}

#[tokio::test]
async fn a_log_is_one_json_object_a_line() {
    let rig = Rig::echo().await;
    rig.create("f").await;
    let log = rig.logs.function("f", false);
    log.add(
        Timestamp(1),
        &"stream-1".into(),
        Some(RequestId(uuid::Uuid::nil())),
        EntryKind::Start(Version::Latest),
    );
    write(&rig, 2, "hello");
    write(&rig, 3, "bye");
    let answer = rig.send("GET /_brooklet/v1/functions/f/logs?since_ms=2").await;
    assert_eq!(answer.header("content-type").unwrap(), "application/x-ndjson");
    let id = "00000000-0000-0000-0000-000000000000";
    assert_eq!(
        answer.text(),
        format!(
            "{{\"timestamp\":2,\"stream\":\"stream-1\",\"request_id\":\"{id}\",\"message\":\"hello\"}}\n\
             {{\"timestamp\":3,\"stream\":\"stream-1\",\"request_id\":\"{id}\",\"message\":\"bye\"}}\n"
        )
    );
    let none = rig.send("GET /_brooklet/v1/functions/f/logs?stream=other").await;
    assert_eq!((none.status, none.text()), (200, String::new()));
}

/// A function with a line in its log, and a connection on which that is followed; and when the line was written.
async fn following() -> (Rig, TcpStream, u64) {
    let rig = Rig::echo().await;
    rig.create("f").await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    write(&rig, now, "before");
    let mut stream = rig.connect().await;
    stream.write_all(&rig.wire("GET /_brooklet/v1/functions/f/logs?follow=true")).await.unwrap();
    (rig, stream, now)
}

#[tokio::test]
async fn a_follower_is_told_the_end_when_the_server_stops() {
    let (mut rig, mut stream, _) = following().await;
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).contains("before") {
        assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
    }
    // Much less than the time that requests in flight are given.
    tokio::time::timeout(Duration::from_secs(10), rig.stop()).await.expect("the follower does not hold it");
    stream.read_to_end(&mut received).await.unwrap();
    assert!(!parse(&received).text().contains("<broken off>"));
}

#[tokio::test]
async fn a_follower_sees_what_was_and_what_comes_each_once() {
    let (rig, mut stream, now) = following().await;
    let mut received = Vec::new();
    let mut wait_for = async |word: &str| {
        while !String::from_utf8_lossy(&received).contains(word) {
            assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
        }
        String::from_utf8_lossy(&received).matches("before").count()
    };
    wait_for("before").await;
    write(&rig, now + 1, "after");
    rig.logs.function("g", false).add(
        Timestamp(now),
        &"s".into(),
        None,
        EntryKind::Line("another function".to_owned()),
    );
    write(&rig, now + 2, "last");
    assert_eq!(wait_for("last").await, 1);
    let text = String::from_utf8_lossy(&received);
    assert!(text.contains("after") && !text.contains("another function"), "{text}");
}
