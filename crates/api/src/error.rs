//! The one error table: every error that a caller can be given, with its status and the shape of its body.
//!
//! Names, statuses and the spelling of the message member are those of Lambda's service model
//! (`service-2.json` of botocore; a test compares them); the rest are AWS's common errors.

use crate::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use node::control::ControlError;
use node::invoke::{Refusal, Throttle};

macro_rules! kinds {
    ($($name:ident $status:literal $message:literal $fault:ident;)*) => {
        /// What went wrong, by AWS's name for it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Kind { $($name),* }

        /// All rows, in the order of [`Kind`].
        pub(crate) const TABLE: &[Row] = &[
            $(Row { name: stringify!($name), status: $status, message: $message, fault: Fault::$fault }),*
        ];
    };
}

// Name                                status, message member, `Type` member (None: the body has none)
kinds! {
    AccessDeniedException               403 "Message" None;
    CodeStorageExceededException        400 "message" User;
    IncompleteSignatureException        403 "Message" None;
    InvalidParameterValueException      400 "message" User;
    InvalidRequestContentException      400 "message" User;
    InvalidSignatureException           403 "message" None;
    MissingAuthenticationTokenException 403 "message" None;
    NotImplementedException             501 "message" User;
    PolicyLengthExceededException       400 "message" User;
    PreconditionFailedException         412 "message" User;
    ProvisionedConcurrencyConfigNotFoundException 404 "message" User;
    RequestEntityTooLargeException      413 "Message" User;
    RequestTimeoutException             408 "message" User;
    ResourceConflictException           409 "message" User;
    ResourceNotFoundException           404 "Message" User;
    SerializationException              400 "Message" User;
    ServiceException                    500 "Message" Service;
    ServiceUnavailableException         503 "message" Service;
    TooManyRequestsException            429 "message" User;
    UnknownOperationException           404 "message" None;
    UnrecognizedClientException         403 "message" None;
    UnsupportedMediaTypeException       415 "message" User;
    ValidationException                 400 "message" None;
}

/// One row of the table.
pub(crate) struct Row {
    pub name: &'static str,
    pub status: u16,
    pub message: &'static str,
    pub fault: Fault,
}

/// The body's `Type` member.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    User,
    Service,
}

impl Kind {
    pub(crate) fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }
}

/// An error on its way to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Which row of the table.
    pub kind: Kind,
    /// What happened, because of what, and how to fix it.
    pub message: String,
    /// `Reason` of a `TooManyRequestsException`.
    pub reason: Option<&'static str>,
}

/// The answer of everything that can be refused.
pub type Result<T> = std::result::Result<T, ApiError>;

impl ApiError {
    /// An error of this kind with this message.
    pub fn new(kind: Kind, message: impl Into<String>) -> ApiError {
        ApiError { kind, message: message.into(), reason: None }
    }

    /// `ResourceNotFoundException`.
    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::ResourceNotFoundException, message)
    }

    /// `InvalidParameterValueException`.
    pub fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::InvalidParameterValueException, message)
    }

    /// A `ValidationException` for one value that is not among `values`.
    pub fn not_in_enum(path: &str, value: &str, values: &str) -> ApiError {
        let constraint = format!("Member must satisfy enum value set: [{values}]");
        let violation = crate::lambda::input::violation(path, Some(value), &constraint);
        ApiError::new(Kind::ValidationException, format!("1 validation error detected: {violation}"))
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.row().status).expect("statuses of the table are valid")
    }

    /// The JSON body: `Type`, the message under the name the model has for it, `Reason`.
    pub fn body(&self) -> Vec<u8> {
        let row = self.kind.row();
        let mut members = serde_json::Map::new();
        if let Some(reason) = self.reason {
            members.insert("Reason".into(), reason.into());
        }
        match row.fault {
            Fault::None => {}
            Fault::User => drop(members.insert("Type".into(), "User".into())),
            Fault::Service => drop(members.insert("Type".into(), "Service".into())),
        }
        members.insert(row.message.into(), self.message.as_str().into());
        serde_json::Value::Object(members).to_string().into_bytes()
    }

    /// The whole answer, without the request id, which the server adds to every answer.
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("x-amzn-errortype", HeaderValue::from_static(self.kind.row().name));
        if self.kind == Kind::TooManyRequestsException {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> ApiError {
        let kind = match &error {
            ControlError::NotFound { .. } => Kind::ResourceNotFoundException,
            ControlError::NotProvisioned => Kind::ProvisionedConcurrencyConfigNotFoundException,
            ControlError::Conflict { .. } => Kind::ResourceConflictException,
            ControlError::PreconditionFailed { .. } => Kind::PreconditionFailedException,
            ControlError::Violations(_) => Kind::ValidationException,
            ControlError::Invalid { .. } | ControlError::Unsupported { .. } => {
                Kind::InvalidParameterValueException
            }
            ControlError::TooLarge { .. } => Kind::RequestEntityTooLargeException,
            ControlError::CodeStorageExceeded { .. } => Kind::CodeStorageExceededException,
            ControlError::PolicyTooLong { .. } => Kind::PolicyLengthExceededException,
            ControlError::Failed { message } => {
                tracing::error!(message, "the control plane failed");
                Kind::ServiceException
            }
        };
        ApiError::new(kind, error.to_string())
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        match refusal {
            Refusal::Throttled(throttle) => {
                let (reason, message) = match throttle {
                    Throttle::ReservedConcurrency => {
                        ("ReservedFunctionConcurrentInvocationLimitExceeded", "Rate Exceeded.")
                    }
                    Throttle::AccountConcurrency => ("ConcurrentInvocationLimitExceeded", "Rate Exceeded."),
                    Throttle::Memory => (
                        "ConcurrentInvocationLimitExceeded",
                        "Rate Exceeded. The server's memory budget is used up by running instances: try again, \
                         lower the functions' MemorySize, or give the server a larger budget.",
                    ),
                };
                let kind = Kind::TooManyRequestsException;
                ApiError { kind, message: message.into(), reason: Some(reason) }
            }
            Refusal::Full(what) => ApiError {
                kind: Kind::TooManyRequestsException,
                message: format!("Rate Exceeded. {what}"),
                reason: Some("ConcurrentInvocationLimitExceeded"),
            },
            Refusal::ShuttingDown => ApiError::new(
                Kind::ServiceUnavailableException,
                "The server is shutting down. Try again when it is back.",
            ),
            Refusal::Machine(message) => ApiError::new(Kind::ServiceException, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_the_members_that_the_model_names() {
        let error = ApiError::not_found("Function not found: f");
        assert_eq!(error.body(), br#"{"Type":"User","Message":"Function not found: f"}"#);
        let error = ApiError::from(Refusal::Throttled(Throttle::ReservedConcurrency));
        let expected = r#"{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}"#;
        assert_eq!(std::str::from_utf8(&error.body()).unwrap(), expected);
        let error = ApiError::new(Kind::ValidationException, "1 validation error detected: …");
        assert_eq!(error.body(), "{\"message\":\"1 validation error detected: …\"}".as_bytes());
    }

    #[test]
    fn statuses_and_message_members_are_those_of_the_service_model() {
        let Some(model) = crate::testing::service_model() else { return };
        let mut compared = 0;
        for row in TABLE {
            let shape = &model["shapes"][row.name];
            if shape.is_null() {
                continue; // one of AWS's common errors, which the model leaves out
            }
            compared += 1;
            assert_eq!(shape["error"]["httpStatusCode"], row.status, "{}", row.name);
            assert!(
                shape["members"].get(row.message).is_some(),
                "{} has no member {}",
                row.name,
                row.message
            );
            let expected = if shape["fault"] == true { Fault::Service } else { Fault::User };
            assert!(row.fault == expected, "{}", row.name);
        }
        assert!(compared >= 10, "only {compared} rows are in the model");
    }
}
