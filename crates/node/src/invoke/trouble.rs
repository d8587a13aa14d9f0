//! What a caller is told, and what the log says, when the function did not answer. Lambda's words.

use bytes::Bytes;
use model::RequestId;
use ports::{Exit, InvokeResult, StartFailure};
use std::time::Duration;

/// The payload of an invocation that ended without an answer.
pub fn payload(result: InvokeResult, id: RequestId, timeout: Duration) -> Bytes {
    match result {
        InvokeResult::Error(json) => json,
        InvokeResult::TimedOut => timed_out(id, timeout),
        InvokeResult::Exited(exit) => exited(&exit, id),
        InvokeResult::ResponseTooLarge(size) => json(
            "Function.ResponseSizeTooLarge",
            &format!(
                "Response payload size ({size} bytes) exceeded maximum allowed payload size (6291556 bytes)."
            ),
        ),
        InvokeResult::Answer(_) | InvokeResult::Streamed(_) | InvokeResult::StreamError => Bytes::new(),
    }
}

/// The line that the log gets between the function's own lines and END.
pub fn log_line(result: &InvokeResult, id: RequestId, timeout: Duration) -> Option<String> {
    match result {
        InvokeResult::TimedOut => {
            Some(format!("{id} Task timed out after {:.2} seconds", timeout.as_secs_f64()))
        }
        InvokeResult::Exited(exit) => {
            Some(format!("RequestId: {id} Error: {}\nRuntime.ExitError", words(exit)))
        }
        _ => None,
    }
}

/// The payload of an invocation whose instance could not be initialised.
pub fn init_payload(failure: StartFailure, id: RequestId, timeout: Duration) -> Bytes {
    match failure {
        StartFailure::Init(json) => json,
        StartFailure::TimedOut => timed_out(id, timeout),
        StartFailure::Exited(exit) => exited(&exit, id),
        StartFailure::Machine(message) => json("Runtime.Unavailable", &message),
    }
}

/// The line that the log gets when an instance could not be initialised.
pub fn init_log_line(failure: &StartFailure, id: RequestId, timeout: Duration) -> String {
    match failure {
        StartFailure::Init(json) => String::from_utf8_lossy(json).into_owned(),
        StartFailure::TimedOut => {
            format!("{id} Task timed out after {:.2} seconds (during initialisation)", timeout.as_secs_f64())
        }
        StartFailure::Exited(exit) => format!("RequestId: {id} Error: {}\nRuntime.ExitError", words(exit)),
        StartFailure::Machine(message) => message.clone(),
    }
}

fn timed_out(id: RequestId, timeout: Duration) -> Bytes {
    let message = format!("RequestId: {id} Error: Task timed out after {:.2} seconds", timeout.as_secs_f64());
    json("Sandbox.Timedout", &message)
}

fn exited(exit: &Exit, id: RequestId) -> Bytes {
    json("Runtime.ExitError", &format!("RequestId: {id} Error: {}", words(exit)))
}

fn words(exit: &Exit) -> String {
    match exit {
        Exit::Status(0) | Exit::Unknown => "Runtime exited without providing a reason".into(),
        exit => format!("Runtime exited with error: {exit}"),
    }
}

fn json(kind: &str, message: &str) -> Bytes {
    serde_json::json!({ "errorType": kind, "errorMessage": message }).to_string().into()
}
