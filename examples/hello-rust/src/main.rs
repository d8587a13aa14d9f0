//! Answers with a greeting.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Event {
    #[serde(default = "world")]
    name: String,
}

#[derive(Serialize)]
struct Greeting {
    message: String,
    request: String,
}

fn world() -> String {
    "world".to_string()
}

async fn handle(event: LambdaEvent<Event>) -> Result<Greeting, Error> {
    let name = event.payload.name;
    println!("greeting {name}");
    Ok(Greeting { message: format!("Hello, {name}!"), request: event.context.request_id })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(handle)).await
}
