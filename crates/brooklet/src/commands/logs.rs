//! `logs`: lines of a function, by time, invocation and instance; with `-f` as they are written.

use crate::cli::{Lines, Logs, Output};
use crate::client::{Client, Request, segment};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output;
use bytes::BytesMut;
use http_body_util::BodyExt;
use serde_json::Value;

/// A line of the answer may be at most this long: a function's own line of 1 MiB, escaped.
const MAX_LINE: usize = 8 << 20;

/// Runs the command.
pub async fn run(args: Logs, client: &Client) -> Result<Exit> {
    let mut found = false;
    follow(&args.lines, client, &mut |event| {
        found = true;
        match args.output {
            Output::Json => output::line(event.to_string()),
            Output::Table => output::line(show(event)),
        }
    })
    .await?;
    if found { Ok(Exit::Success) } else { nothing(&args.lines) }
}

/// That a function has written nothing is an answer; that the named invocation or instance has no line is not.
fn nothing(lines: &Lines) -> Result<Exit> {
    let wanted = match (&lines.request_id, &lines.stream) {
        (Some(id), _) => format!("request {id}"),
        (None, Some(stream)) => format!("stream {stream}"),
        (None, None) => return Ok(Exit::Success),
    };
    let error = Error::new(Exit::NotFound, format!("the log of {} has no line of {wanted}", lines.name));
    Err(error.fix(format!("`brooklet logs {}` shows what is kept; the oldest lines go first", lines.name)))
}

/// Hands each log event to `sink` until the server ends the answer.
///
/// `GET /_brooklet/v1/functions/{name}/logs?since_ms=&request_id=&stream=&follow=true` answers one JSON object
/// a line: `timestamp` (milliseconds since 1970), `stream`, `request_id` (or null), `message`.
pub async fn follow(
    lines: &Lines,
    client: &Client,
    sink: &mut (dyn FnMut(&Value) -> Result<()> + Send),
) -> Result<()> {
    let since = lines.since.map(|since| {
        let now = jiff::Timestamp::now().as_millisecond();
        now.saturating_sub(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)).max(0).to_string()
    });
    let path = format!("/_brooklet/v1/functions/{}/logs", segment(&lines.name));
    let request = Request::new(http::Method::GET, path)
        .query_if("since_ms", since.as_deref())
        .query_if("request_id", lines.request_id.as_deref())
        .query_if("stream", lines.stream.as_deref())
        .query_if("follow", lines.follow.then_some("true"));
    let response = client.open(request).await.map_err(|error| match error.exit {
        Exit::NotFound => error.fix("`brooklet list` shows what there is"),
        _ => error,
    });
    let mut body = response?.into_body();
    let mut pending = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Error::new(Exit::Unreachable, "the server stopped sending logs").because(error)
        })?;
        pending.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
            emit(&pending.split_to(end + 1), sink)?;
        }
        if pending.len() > MAX_LINE {
            return Err(Error::new(Exit::Failure, "the server sent a log line of more than 8 MiB"));
        }
    }
    emit(&pending, sink)
}

fn emit(line: &[u8], sink: &mut (dyn FnMut(&Value) -> Result<()> + Send)) -> Result<()> {
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    let event = serde_json::from_slice(line).map_err(|error| {
        Error::new(Exit::Failure, "the server sent a log line that is not JSON").because(error)
    })?;
    sink(&event)
}

/// `2026-11-22T10:11:12.345Z  message`, one line for each of the message's.
pub fn show(event: &Value) -> String {
    let at = event["timestamp"].as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let at = at.map(|at| at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()).unwrap_or_default();
    let message = event["message"].as_str().unwrap_or_default().trim_end();
    message.split('\n').map(|line| format!("{at}  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_line_shows_when_and_what() {
        let event = json!({"timestamp": 1_795_000_000_123u64, "message": "END x\nREPORT x\n"});
        let at = "2026-11-18T11:06:40.123Z";
        assert_eq!(super::show(&event), format!("{at}  END x\n{at}  REPORT x"));
    }
}
