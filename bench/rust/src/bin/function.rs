//! The measured function in Rust, on the official runtime client.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};

#[derive(serde::Deserialize)]
struct Event {
    name: Option<String>,
}

#[derive(serde::Serialize)]
struct Answer {
    hello: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(|event: LambdaEvent<Event>| async {
        Ok::<_, Error>(Answer { hello: event.payload.name.unwrap_or_else(|| "world".to_owned()) })
    }))
    .await
}
