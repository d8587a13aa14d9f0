//! How long a warm invocation takes inside the server, without HTTP in front of it.
//!
//! `cargo run --release -p node --example warm -- <runtime> <handler> <code folder> [callers] [invocations]`
//! prints invocations per second and the p50 and p99 of one, in microseconds.

use bytes::Bytes;
use model::{Account, Code, Configuration, Logging, MiB, RequestId, Timestamp, Version};
use node::control::{Target, UnpackedCode};
use node::invoke::{InvokeRequest, Reply};
use node::logs::Logs;
use node::{Node, NodeConfig};
use ports::Payload;
use process::{Isolation, ProcessExecutor, Settings};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [runtime, handler, code, rest @ ..] = &arguments[..] else {
        eprintln!("usage: warm <runtime> <handler> <code folder> [callers] [invocations]");
        std::process::exit(2);
    };
    let number = |at: usize, default: usize| rest.get(at).and_then(|n| n.parse().ok()).unwrap_or(default);
    let (callers, invocations) = (number(0, 1), number(1, 20_000));
    let dir = tempfile::tempdir().expect("a folder");
    let settings = Settings {
        run_dir: dir.path().join("run"),
        runtimes_dir: dir.path().join("runtimes"),
        isolation: Isolation::Root,
    };
    let executor = ProcessExecutor::new(settings).expect("an executor");
    let logs = Logs::open(dir.path()).expect("logs");
    let config = NodeConfig {
        account: Account { id: "000000000000".into(), region: "us-east-1".into() },
        concurrency_limit: 1_000,
        memory: MiB(8192),
        keep_alive: Duration::from_secs(60),
        init_timeout: Duration::from_secs(10),
    };
    let node = Node::new(config, Arc::new(executor), logs);
    let target = target(runtime, handler, code);
    run(&node, &target, callers, invocations / 10).await; // warm up
    let began = Instant::now();
    let mut times = run(&node, &target, callers, invocations).await;
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_micros();
    println!("{runtime} callers {callers}: {rate:.0}/s p50 {} µs p99 {} µs", at(0.5), at(0.99));
    node.shut_down(Duration::from_secs(1)).await;
}

async fn run(node: &Arc<Node>, target: &Target, callers: usize, invocations: usize) -> Vec<Duration> {
    let mut tasks = Vec::new();
    for _ in 0..callers {
        let (node, target) = (node.clone(), target.clone());
        tasks.push(tokio::spawn(async move {
            let mut times = Vec::with_capacity(invocations / callers);
            for _ in 0..invocations / callers {
                let request = InvokeRequest {
                    request_id: RequestId(uuid::Uuid::new_v4()),
                    payload: Payload::Event(Bytes::from_static(br#"{"hello":"world","n":1}"#)),
                    qualifier: None,
                    trace_id: None,
                    client_context: None,
                    tail: false,
                };
                let began = Instant::now();
                match node.invoke(target.clone(), request).await {
                    Ok(invoked) if matches!(invoked.reply, Reply::Answer(_)) => times.push(began.elapsed()),
                    Ok(_) => panic!("the function failed"),
                    Err(refusal) => panic!("{refusal}"),
                }
            }
            times
        }));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("no panic"));
    }
    times
}

fn target(runtime: &str, handler: &str, code: &str) -> Target {
    let logging = Logging {
        format: "Text".into(),
        application_level: None,
        system_level: None,
        group: "/aws/lambda/warm".into(),
    };
    let configuration = Configuration {
        runtime: runtime.into(),
        handler: handler.into(),
        role: String::new(),
        description: String::new(),
        timeout_s: 30,
        memory: MiB(256),
        ephemeral_storage: MiB(512),
        environment: Default::default(),
        architectures: vec!["x86_64".into()],
        layers: vec![],
        tracing: "PassThrough".into(),
        logging,
        instance_concurrency: 1,
        code: Code { sha256: String::new(), size: 0 },
        last_modified: Timestamp(0),
        revision_id: "1".into(),
        deployment_id: "1".into(),
        echoed: Default::default(),
    };
    Target {
        name: "warm".into(),
        uid: "warm".into(),
        version: Version::Latest,
        configuration: Arc::new(configuration),
        code: Arc::new(UnpackedCode::at(code.into())),
    }
}
