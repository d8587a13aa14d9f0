//! How long it takes to find what a request runs, warm, with one function and with ten thousand, and what they
//! take in memory.
//!
//! `cargo run --release -p node --example resolve`

use model::{Account, LATEST};
use node::control::*;
use ports::{MemoryBlobs, MemoryStore};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

const FUNCTIONS: usize = 10_000;
const LOOKUPS: usize = 1_000_000;

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        account: Account { id: "000000000000".into(), region: "us-east-1".into() },
        code_dir: dir.path().join("code"),
        limits: Limits::default(),
        check_runtime: Arc::new(|_, _| Ok(())),
    };
    let store = Arc::new(MemoryStore::new());
    let registry = Arc::new(Registry::open(store, Arc::new(MemoryBlobs::new()), options).unwrap());
    let before = resident_bytes();
    let begin = Instant::now();
    for n in 0..FUNCTIONS {
        create(&registry, n).await;
    }
    println!(
        "created {FUNCTIONS} functions, {:.0} µs each",
        begin.elapsed().as_secs_f64() * 1e6 / FUNCTIONS as f64
    );
    let names: Vec<String> = (0..FUNCTIONS).map(name).collect();
    for name in &names {
        registry.resolve(name, None, 0.0).await.unwrap();
    }
    let each = (resident_bytes() - before) / FUNCTIONS;
    println!("memory: {each} bytes a function, of which the in-memory store holds a copy of the document");
    let url = PutUrl { function: name(0), auth_type: Some("NONE".into()), ..Default::default() };
    let url = registry.create_url(url).await.unwrap().url.id.clone();
    let live = PutAlias {
        function: name(0),
        name: "live".into(),
        version: Some(LATEST.into()),
        ..Default::default()
    };
    registry.create_alias(live).await.unwrap();

    measure("one function", async |_| drop(registry.resolve(&names[0], None, 0.5).await.unwrap())).await;
    measure("one function by alias", async |_| {
        drop(registry.resolve(&names[0], Some("live"), 0.5).await.unwrap())
    })
    .await;
    measure("ten thousand in turn", async |n| {
        drop(registry.resolve(&names[n * 7_919 % FUNCTIONS], None, 0.5).await.unwrap());
    })
    .await;
    measure("one URL", async |_| drop(registry.resolve_url(&url).await.unwrap())).await;
    let threads = (0..2).map(|thread| {
        let (registry, names) = (registry.clone(), names.clone());
        tokio::spawn(async move {
            let begin = Instant::now();
            for n in 0..LOOKUPS {
                registry.resolve(&names[(n * 7_919 + thread) % FUNCTIONS], None, 0.5).await.unwrap();
            }
            begin.elapsed().as_nanos() as f64 / LOOKUPS as f64
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        println!("{:<24}{:>6.0} ns", "… on two threads at once", thread.await.unwrap());
    }
}

async fn measure(what: &str, lookup: impl AsyncFn(usize)) {
    let begin = Instant::now();
    for n in 0..LOOKUPS {
        lookup(n).await;
    }
    println!("{what:<24}{:>6.0} ns", begin.elapsed().as_nanos() as f64 / LOOKUPS as f64);
}

fn name(n: usize) -> String {
    format!("function-{n:05}")
}

async fn create(registry: &Registry, n: usize) {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("app.py", zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(b"def handler(event, context): return event\n").unwrap();
    let environment =
        (0..10).map(|n| (format!("VARIABLE_{n}"), "a value of usual length".to_owned())).collect();
    let request = CreateFunction {
        name: name(n),
        package: Package::Zip(writer.finish().unwrap().into_inner().into()),
        settings: Settings {
            runtime: Some("python3.12".into()),
            handler: Some("app.handler".into()),
            role: Some("arn:aws:iam::000000000000:role/r".into()),
            environment: Some(environment),
            ..Settings::default()
        },
        architectures: None,
        tags: BTreeMap::new(),
        publish: false,
    };
    registry.create_function(request).await.unwrap();
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}
