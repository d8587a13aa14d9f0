//! The data plane with real processes: what a caller gets, and what the logs and the meter keep.

mod processes;

use node::invoke::{InvokeRequest, Refusal, Reply, Throttle};
use node::logs::Filter;
use processes::{World, request, text};
use std::sync::Arc;
use std::time::Duration;

const SHELL: &str = r#"#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
while true; do
  event=$(curl -sS -D /tmp/head "$api/invocation/next")
  id=$(grep -i '^lambda-runtime-aws-request-id' /tmp/head | tr -d '\r' | cut -d' ' -f2)
  echo "shell got $event"
  case "$event" in
    '"exit"') exit 7 ;;
    '"fail"') curl -sS -d '{"errorType":"Mine","errorMessage":"no"}' "$api/invocation/$id/error" >/dev/null ;;
    *) curl -sS -d "{\"echo\":$event,\"in\":\"$(pwd)\",\"uid\":$(id -u)}" "$api/invocation/$id/response" >/dev/null ;;
  esac
done
"#;

#[tokio::test]
async fn a_shell_bootstrap_answers_through_the_runtime_api() {
    let world = World::new();
    let shell = world.function("shell", "provided.al2023", "unused", &[("bootstrap", SHELL)]);
    let answer = world.invoke(&shell, r#"{"n":1}"#).await.expect("it runs");
    assert_eq!(answer, r#"{"echo":{"n":1},"in":"/var/task","uid":993}"#);
    let failed = world.invoke(&shell, r#""fail""#).await.expect("it runs");
    assert_eq!(failed, r#"error {"errorType":"Mine","errorMessage":"no"}"#);
    let exited = world.invoke(&shell, r#""exit""#).await.expect("it runs");
    assert!(exited.contains("Runtime exited with error: exit status 7"), "{exited}");
    assert!(exited.contains("Runtime.ExitError"), "{exited}");
    let again = world.invoke(&shell, "2").await.expect("a new instance runs");
    assert!(again.starts_with(r#"{"echo":2"#), "{again}");
}

#[tokio::test]
async fn every_invocation_is_found_in_the_log_by_its_request_id() {
    let world = World::new();
    let shell = world.function("shell", "provided.al2023", "unused", &[("bootstrap", SHELL)]);
    let request = request("1");
    let id = request.request_id;
    world.node.invoke(shell.clone(), request).await.expect("it runs");
    world.invoke(&shell, "2").await.expect("it runs");
    let mut lines = Vec::new();
    let filter = Filter { request_id: Some(id), ..Filter::default() };
    world.node.logs().read("shell", &filter, |entry| {
        lines.push(entry.text());
        true
    });
    let lines = lines.join("\n");
    assert!(
        lines.starts_with(&format!("START RequestId: {id} Version: $LATEST\nshell got 1\nEND")),
        "{lines}"
    );
    assert!(lines.contains("Billed Duration: "), "{lines}");
}

#[tokio::test]
async fn the_tail_of_the_log_comes_with_the_answer() {
    let world = World::new();
    let shell = world.function("shell", "provided.al2023", "unused", &[("bootstrap", SHELL)]);
    let request = InvokeRequest { tail: true, ..request("1") };
    let invoked = world.node.invoke(shell, request).await.expect("it runs");
    let tail = text(&invoked.log_tail.expect("a tail"));
    assert!(tail.contains("shell got 1\nEND RequestId"), "{tail}");
}

#[tokio::test]
async fn a_function_that_takes_too_long_is_stopped() {
    let world = World::new();
    let mut slow = world.function(
        "slow",
        "python3.11",
        "f.handler",
        &[("f.py", "import time\ndef handler(event, context):\n    time.sleep(60)\n")],
    );
    let mut configuration = (*slow.configuration).clone();
    configuration.timeout_s = 1;
    slow.configuration = Arc::new(configuration);
    let answer = world.invoke(&slow, "{}").await.expect("it runs");
    assert!(answer.contains(r#""errorType":"Sandbox.Timedout""#), "{answer}");
    assert!(answer.contains("Error: Task timed out after 1.00 seconds"), "{answer}");
}

#[tokio::test]
async fn a_python_handler_answers_and_its_lines_are_kept() {
    let world = World::new();
    let code = "import os\nprint('loading')\ndef handler(event, context):\n    print('got', event)\n    return {'n': event['n'] + 1, 'task': os.environ['LAMBDA_TASK_ROOT'], 'cwd': os.getcwd()}\n";
    let python = world.function("python", "python3.11", "f.handler", &[("f.py", code)]);
    for n in 1..4 {
        let answer = world.invoke(&python, &format!(r#"{{"n":{n}}}"#)).await.expect("it runs");
        let wanted = format!(r#"{{"n": {}, "task": "/var/task", "cwd": "/var/task"}}"#, n + 1);
        assert_eq!(answer, wanted);
    }
    let mut lines = Vec::new();
    world.node.logs().read("python", &Filter::default(), |entry| {
        lines.push(entry.text());
        true
    });
    assert_eq!(lines.iter().filter(|line| *line == "loading").count(), 1, "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("got {'n'")).count(), 3, "{lines:?}");
}

#[tokio::test]
async fn a_web_program_is_spoken_to_in_http() {
    let world = World::new();
    let code = "import os, http.server\nclass H(http.server.BaseHTTPRequestHandler):\n    protocol_version='HTTP/1.1'\n    def do_POST(self):\n        body=self.rfile.read(int(self.headers['content-length']))\n        self.send_response(200); self.send_header('content-length', str(len(body))); self.end_headers(); self.wfile.write(body)\nhttp.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()\n";
    let web = world.function("web", "http", "python3 app.py", &[("app.py", code)]);
    assert_eq!(world.invoke(&web, r#"{"hello":1}"#).await.expect("it runs"), r#"{"hello":1}"#);
}

#[tokio::test]
async fn a_reservation_of_none_refuses_every_request() {
    let world = World::new();
    let shell = world.function("shell", "provided.al2023", "unused", &[("bootstrap", SHELL)]);
    world.node.reserve("shell", Some(0));
    match world.invoke(&shell, "1").await {
        Err(Refusal::Throttled(Throttle::ReservedConcurrency)) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn shutting_down_waits_for_what_runs() {
    let world = World::new();
    let code = "import time\ndef handler(event, context):\n    time.sleep(0.3)\n    return 'done'\n";
    let python = world.function("python", "python3.11", "f.handler", &[("f.py", code)]);
    world.invoke(&python, "{}").await.expect("it runs");
    let node = world.node.clone();
    let running = {
        let (node, target) = (node.clone(), python.clone());
        tokio::spawn(async move { node.invoke(target, request("{}")).await })
    };
    tokio::task::yield_now().await;
    node.shut_down(Duration::from_secs(5)).await;
    match running.await.expect("no panic").expect("it ran").reply {
        Reply::Answer(payload) => assert_eq!(text(&payload), "\"done\""),
        _ => panic!("it should have answered"),
    }
    assert!(matches!(world.invoke(&python, "{}").await, Err(Refusal::ShuttingDown)));
}
