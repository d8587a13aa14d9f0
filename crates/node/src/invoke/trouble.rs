//! What a caller is told, and what the log says, when the function did not answer. Lambda's words.

use crate::clock::iso;
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
        InvokeResult::TimedOut => Some(timeout_line(id, timeout)),
        InvokeResult::Exited(exit) => {
            Some(format!("RequestId: {id} Error: {}\n{}", words(exit), exit_type(exit)))
        }
        _ => None,
    }
}

/// What kind of error the platform noticed. An error that the function reported is the function's business.
pub fn error_type(result: &InvokeResult) -> Option<String> {
    match result {
        InvokeResult::Exited(exit) => Some(exit_type(exit).into()),
        InvokeResult::ResponseTooLarge(_) => Some("Function.ResponseSizeTooLarge".into()),
        _ => None,
    }
}

/// The type of the error that kept an instance from being initialised.
pub fn init_error_type(failure: &StartFailure) -> String {
    let reported = match failure {
        StartFailure::Init(json) => serde_json::from_slice::<serde_json::Value>(json).ok(),
        StartFailure::Exited(exit) => return exit_type(exit).into(),
        StartFailure::TimedOut => return "Sandbox.Timedout".into(),
        StartFailure::Full(_) | StartFailure::Machine(_) => None,
    };
    let kind = reported.as_ref().and_then(|json| json.get("errorType")?.as_str());
    kind.unwrap_or("Runtime.Unknown").to_owned()
}

/// Why a provisioned instance could not be initialised: Lambda's reason and what is known beyond it.
pub fn init_words(failure: &StartFailure, timeout: Duration) -> String {
    let detail = match failure {
        StartFailure::Init(json) => {
            let json = serde_json::from_slice::<serde_json::Value>(json).unwrap_or_default();
            let message = json.get("errorMessage").and_then(|message| message.as_str()).unwrap_or_default();
            format!("{}: {message}", init_error_type(failure))
        }
        StartFailure::TimedOut => {
            format!("Sandbox.Timedout: no end after {:.2} seconds", timeout.as_secs_f64())
        }
        StartFailure::Exited(exit) => format!("{}: {}", exit_type(exit), words(exit)),
        StartFailure::Full(message) | StartFailure::Machine(message) => return message.clone(),
    };
    format!("FUNCTION_ERROR_INIT_FAILURE: {detail}")
}

/// The payload of an invocation whose instance could not be initialised.
pub fn init_payload(failure: StartFailure, id: RequestId, timeout: Duration) -> Bytes {
    match failure {
        StartFailure::Init(json) => json,
        StartFailure::TimedOut => timed_out(id, timeout),
        StartFailure::Exited(exit) => exited(&exit, id),
        StartFailure::Full(message) | StartFailure::Machine(message) => json("Runtime.Unavailable", &message),
    }
}

/// The line that the log gets when an instance could not be initialised; an error that the runtime reported is
/// there already, in the runtime's own words.
pub fn init_log_line(failure: &StartFailure, id: RequestId, timeout: Duration) -> Option<String> {
    match failure {
        StartFailure::Init(_) => None,
        StartFailure::TimedOut => Some(timeout_line(id, timeout)),
        StartFailure::Exited(exit) => {
            Some(format!("RequestId: {id} Error: {}\n{}", words(exit), exit_type(exit)))
        }
        StartFailure::Full(message) | StartFailure::Machine(message) => Some(message.clone()),
    }
}

fn timeout_line(id: RequestId, timeout: Duration) -> String {
    let at = iso(crate::clock::Clock::timestamp());
    format!("{at} {id} Task timed out after {:.2} seconds", timeout.as_secs_f64())
}

fn timed_out(id: RequestId, timeout: Duration) -> Bytes {
    let message = format!("RequestId: {id} Error: Task timed out after {:.2} seconds", timeout.as_secs_f64());
    json("Sandbox.Timedout", &message)
}

fn exited(exit: &Exit, id: RequestId) -> Bytes {
    json(exit_type(exit), &format!("RequestId: {id} Error: {}", words(exit)))
}

fn exit_type(exit: &Exit) -> &'static str {
    match exit {
        Exit::OutOfMemory => "Runtime.OutOfMemory",
        _ => "Runtime.ExitError",
    }
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
