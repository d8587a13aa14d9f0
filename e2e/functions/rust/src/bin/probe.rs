//! The probe in Rust on the official runtime client; python/probe.py says what it answers.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

static COUNT: AtomicU64 = AtomicU64::new(0);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    match std::env::var("PROBE_INIT").as_deref() {
        Ok("exit") => std::process::exit(7),
        Ok("hang") => tokio::time::sleep(Duration::from_secs(600)).await,
        _ => {}
    }
    let instance = uuid::Uuid::new_v4().to_string();
    run(service_fn(|event| answer(event, &instance))).await
}

async fn answer(request: LambdaEvent<Value>, instance: &str) -> Result<Value, Error> {
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    let (event, context) = request.into_parts();
    Ok(match event["do"].as_str().unwrap_or_default() {
        "echo" => event["value"].clone(),
        "context" => json!({
            "request_id": context.request_id,
            "arn": context.invoked_function_arn,
            "function": context.env_config.function_name,
            "version": context.env_config.version,
            "memory": context.env_config.memory,
            "log_group": context.env_config.log_group,
            "log_stream": context.env_config.log_stream,
            "remaining_ms": context.deadline as i64 - now_ms(),
            "custom": context.client_context.map(|c| c.custom).filter(|c| !c.is_empty()),
        }),
        "env" => {
            let names = event["names"].as_array().cloned().unwrap_or_default();
            let find = |name: &Value| std::env::var(name.as_str().unwrap_or_default()).ok();
            names.iter().map(|n| (n.as_str().unwrap_or_default().to_owned(), json!(find(n)))).collect()
        }
        "fail" => return Err(event["message"].as_str().unwrap_or_default().into()),
        "panic" => panic!("{}", event["message"].as_str().unwrap_or_default()),
        "make" => Value::String("x".repeat(event["bytes"].as_u64().unwrap_or(0) as usize)),
        "measure" => json!({"length": event["value"].as_str().unwrap_or_default().len()}),
        "sleep" => {
            let ms = event["ms"].as_u64().unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            json!({"slept": ms, "id": instance})
        }
        "hold" => json!({"id": instance, "gate": fetch(event["url"].as_str().unwrap_or_default())?}),
        "exit" => std::process::exit(event["code"].as_i64().unwrap_or(0) as i32),
        "log" => {
            for line in event["lines"].as_array().into_iter().flatten() {
                println!("{}", line.as_str().unwrap_or_default());
            }
            Value::Null
        }
        "instance" => json!({"id": instance, "count": count}),
        other => return Err(format!("unknown action {other:?}").into()),
    })
}

/// The body of what is at an `http://` URL.
fn fetch(url: &str) -> std::io::Result<String> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host)?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}
