//! How long a warm invocation takes inside the server, without HTTP in front of it.
//!
//! `cargo run --release -p node --example warm -- <runtime> <handler> <code folder> [callers] [invocations]`
//! prints invocations per second and the p50 and p99 of one, in microseconds.

#[path = "../tests/processes/mod.rs"]
mod processes;

use model::MiB;
use node::Node;
use node::control::Target;
use node::invoke::Reply;
use processes::{World, configuration, request, target};
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
    let world = World::new();
    let mut configuration = configuration(runtime, handler);
    configuration.timeout_s = 30;
    configuration.memory = MiB(256);
    let target = target("warm", code.into(), configuration);
    let node = &world.node;
    run(node, &target, callers, invocations / 10).await; // warm up
    let began = Instant::now();
    let mut times = run(node, &target, callers, invocations).await;
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
                let request = request(r#"{"hello":"world","n":1}"#);
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
