//! `invoke`: the answer on standard output, everything else on standard error.

use crate::cli::{Invoke, InvokeOutput};
use crate::client::Answer;
use crate::error::{Doing, Error, Result};
use crate::exit::Exit;
use crate::lambda::Lambda;
use crate::{output, units};
use base64::Engine;
use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

/// The largest event, 6 MiB. A larger one is not sent: the server would refuse it while it is still being written.
const MAX_EVENT: u64 = api::lambda::MAX_PAYLOAD as u64;

/// Runs the command.
pub async fn run(args: Invoke, lambda: &Lambda) -> Result<Exit> {
    let event = event(&args)?;
    let started = Instant::now();
    let answer =
        lambda.invoke(&args.name, args.qualifier.as_deref(), event, args.tail).await.map_err(|error| {
            match error.exit {
                Exit::NotFound => error.fix("`brooklet list` shows what there is"),
                _ => error,
            }
        })?;
    let failed = answer.header("x-amz-function-error").is_some();
    let exit = if failed { Exit::FunctionError } else { Exit::Success };
    if args.output == InvokeOutput::Json {
        return output::json(&whole(&answer, started.elapsed())).map(|()| exit);
    }
    if let Some(tail) = answer.header("x-amz-log-result") {
        output::note(decode(tail).trim_end());
    }
    output::note(summary(&answer, started.elapsed()));
    if let (true, false, Some(id)) = (failed, args.tail, answer.header("x-amzn-requestid")) {
        output::note(format!("what it wrote: brooklet logs {} --request-id {id}", args.name));
    }
    // Last, so that it stands alone where both outputs go to one place, and byte for byte.
    output::print(&answer.body)?;
    if !answer.body.ends_with(b"\n") && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        output::print("\n")?;
    }
    Ok(exit)
}

/// The event's bytes. Anything that is not JSON is refused here: the server would only say so later.
fn event(args: &Invoke) -> Result<Vec<u8>> {
    let (name, bytes) = match (&args.event, args.data.as_deref()) {
        (Some(file), _) => (file.display().to_string(), read_file(file)?),
        (None, Some("-")) => ("standard input".to_string(), read(std::io::stdin(), "standard input")?),
        (None, Some(data)) => match data.strip_prefix('@') {
            Some(file) => (file.to_string(), read_file(Path::new(file))?),
            None => ("--data".to_string(), data.as_bytes().to_vec()),
        },
        (None, None) => ("the event".to_string(), b"{}".to_vec()),
    };
    match serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Error::new(Exit::Usage, format!("{name} is not JSON"))
            .because(error)
            .fix("text needs its quotes: --data '\"hello\"'; a file is named with --data @FILE")),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).map_err(|error| {
        Error::new(Exit::Usage, format!("cannot read the event from {name}")).because(error)
    })?;
    read(file, &name)
}

fn read(from: impl Read, name: &str) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    from.take(MAX_EVENT + 1).read_to_end(&mut bytes).doing(|| format!("read {name}"))?;
    match bytes.len() as u64 > MAX_EVENT {
        true => {
            Err(Error::new(Exit::Usage, format!("{name} is larger than the 6 MiB that an event may have"))
                .fix("put the data where the function can fetch it, and send where that is"))
        }
        false => Ok(bytes),
    }
}

fn decode(base64: &str) -> String {
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Everything about an invocation, for scripts. An answer that is not JSON is a text.
fn whole(answer: &Answer, waited: Duration) -> Value {
    let text = || String::from_utf8_lossy(&answer.body).into_owned();
    json!({
        "requestId": answer.header("x-amzn-requestid"),
        "executedVersion": answer.header("x-amz-executed-version"),
        "functionError": answer.header("x-amz-function-error"),
        "waitedMs": waited.as_millis() as u64,
        "log": answer.header("x-amz-log-result").map(decode),
        "payload": serde_json::from_slice(&answer.body).unwrap_or_else(|_| Value::String(text())),
    })
}

/// One line: how it ended, which version, how long the caller waited, the request id.
fn summary(answer: &Answer, waited: Duration) -> String {
    let outcome = match answer.header("x-amz-function-error") {
        Some(kind) => format!("failed ({kind})"),
        None => "ok".to_string(),
    };
    let version = answer.header("x-amz-executed-version").unwrap_or("?");
    let id = answer.header("x-amzn-requestid").unwrap_or("?");
    format!("{outcome} · version {version} · {} · request {id}", units::show_duration(waited))
}
