//! A function URL handler that streams with the official client: "first", then waits for the test's gate
//! (`?gate=http://127.0.0.1:PORT/…`), then "last".

use lambda_runtime::streaming::{Response, channel};
use lambda_runtime::{Error, LambdaEvent, MetadataPrelude, run, service_fn};
use serde_json::Value;
use std::io::{Read, Write};

#[tokio::main]
async fn main() -> Result<(), Error> {
    run(service_fn(answer)).await
}

async fn answer(request: LambdaEvent<Value>) -> Result<Response<lambda_runtime::streaming::Body>, Error> {
    let gate = request.payload["queryStringParameters"]["gate"].as_str().map(str::to_owned);
    let (mut sender, body) = channel();
    tokio::spawn(async move {
        sender.send_data("first\n".into()).await?;
        if let Some(gate) = gate {
            tokio::task::spawn_blocking(move || wait_for(&gate)).await??;
        }
        sender.send_data("last\n".into()).await?;
        Ok::<(), Error>(())
    });
    let mut head = MetadataPrelude::default();
    head.status_code = axum::http::StatusCode::ACCEPTED;
    head.headers.insert("content-type", "text/plain".parse()?);
    head.headers.insert("x-probe", "rust".parse()?);
    Ok(Response { metadata_prelude: head, stream: body })
}

/// A GET by hand: the gate answers when the test opens it.
fn wait_for(gate: &str) -> std::io::Result<()> {
    let address = gate.trim_start_matches("http://");
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let mut socket = std::net::TcpStream::connect(host)?;
    write!(socket, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    socket.read_to_end(&mut Vec::new())?;
    Ok(())
}
