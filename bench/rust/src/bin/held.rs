//! Stays busy until the gate at a port opens; answers which instance it is.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use std::io::Read;
use std::net::TcpStream;

#[derive(serde::Deserialize)]
struct Event {
    gate: u16,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(|event: LambdaEvent<Event>| async move {
        // An instance has one request at a time, so it may block.
        let _ = TcpStream::connect(("127.0.0.1", event.payload.gate))?.read(&mut [0])?;
        Ok::<_, Error>(event.context.env_config.log_stream.clone())
    }))
    .await
}
