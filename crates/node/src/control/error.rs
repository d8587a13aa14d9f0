//! Why a change or a read was refused: one variant per thing that the caller does differently.

use ports::blobs::BlobError;
use ports::store::StoreError;

/// A refusal of the control plane. The texts are Lambda's where Lambda's are known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The function, version, alias or URL does not exist (`ResourceNotFoundException`).
    #[error("{message}")]
    NotFound {
        /// What does not exist.
        message: String,
    },
    /// Nothing is provisioned for this version or alias (`ProvisionedConcurrencyConfigNotFoundException`).
    #[error("No Provisioned Concurrency Config found for this function")]
    NotProvisioned,
    /// It exists already, is in use, or is being changed (`ResourceConflictException`).
    #[error("{message}")]
    Conflict {
        /// What is in the way.
        message: String,
    },
    /// The revision id given is not the current one (`PreconditionFailedException`): read again, decide again.
    #[error(
        "The Revision Id provided does not match the latest Revision Id. Call the {api} API to retrieve the latest \
         Revision Id"
    )]
    PreconditionFailed {
        /// The operation that tells it.
        api: &'static str,
    },
    /// Values outside the ranges, patterns or enumerations of the service model (`ValidationException`), all of
    /// them at once.
    #[error("{}", violations_text(.0))]
    Violations(Vec<Violation>),
    /// A value that is well formed but cannot be used (`InvalidParameterValueException`).
    #[error("{message}")]
    Invalid {
        /// The member's name in the request, as people know it: `Runtime`, `ZipFile`, …
        parameter: &'static str,
        /// What is wrong with it and what to do.
        message: String,
    },
    /// The package as sent is larger than may be sent (`RequestEntityTooLargeException`).
    #[error("{message}")]
    TooLarge {
        /// The limit and what to do.
        message: String,
    },
    /// All packages together would take more than is allowed (`CodeStorageExceededException`).
    #[error("{message}")]
    CodeStorageExceeded {
        /// The limit and what to do.
        message: String,
    },
    /// The policy would be longer than is allowed (`PolicyLengthExceededException`).
    #[error("{message}")]
    PolicyTooLong {
        /// How long it would be and the limit.
        message: String,
    },
    /// Something of Lambda's that Brooklet does not have: what to use instead
    /// (`InvalidParameterValueException`).
    #[error("{message}")]
    Unsupported {
        /// What it is and what to use instead.
        message: String,
    },
    /// The disk or the store failed (`ServiceException`); whether the change was made is unknown.
    #[error("{message}")]
    Failed {
        /// What failed.
        message: String,
    },
}

/// One value outside what the service model allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The member in lower camel case with its path: `memorySize`, `cors.maxAge`.
    pub member: String,
    /// The value as sent.
    pub value: String,
    /// The rule, in the service's words: `Member must have value less than or equal to 10240`.
    pub constraint: String,
}

impl ControlError {
    pub(crate) fn not_found(message: impl Into<String>) -> ControlError {
        ControlError::NotFound { message: message.into() }
    }

    pub(crate) fn conflict(message: impl Into<String>) -> ControlError {
        ControlError::Conflict { message: message.into() }
    }

    pub(crate) fn invalid(parameter: &'static str, message: impl Into<String>) -> ControlError {
        ControlError::Invalid { parameter, message: message.into() }
    }

    pub(crate) fn failed(message: impl Into<String>) -> ControlError {
        ControlError::Failed { message: message.into() }
    }
}

impl From<BlobError> for ControlError {
    fn from(error: BlobError) -> ControlError {
        ControlError::failed(error.to_string())
    }
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> ControlError {
        ControlError::failed(error.to_string())
    }
}

fn violations_text(violations: &[Violation]) -> String {
    let plural = if violations.len() == 1 { "" } else { "s" };
    let mut text = format!("{} validation error{plural} detected: ", violations.len());
    for (n, Violation { member, value, constraint }) in violations.iter().enumerate() {
        let sep = if n == 0 { "" } else { "; " };
        text += &format!("{sep}Value '{value}' at '{member}' failed to satisfy constraint: {constraint}");
    }
    text
}
