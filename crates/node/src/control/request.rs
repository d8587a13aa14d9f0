//! What callers ask of the control plane, as typed values that are not yet validated, and what they get back.

use super::UnpackedCode;
use bytes::Bytes;
use model::{Alias, Configuration, Cors, FunctionHead, InvokeMode, Network, Statement, Url, Version};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a deployment package comes from.
#[derive(Clone, Debug)]
pub enum Package {
    /// The zip itself.
    Zip(Bytes),
    /// An object in S3; not supported yet, and refused with what to do instead.
    S3 {
        /// `S3Bucket`.
        bucket: String,
        /// `S3Key`.
        key: String,
    },
    /// A container image; not supported.
    Image(String),
}

/// The members of a function's configuration that a caller may set; `None` leaves the default (create) or the
/// present value (update). Numbers are as sent, so that a refusal can name them.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Runtime identifier.
    pub runtime: Option<String>,
    /// At most 128 characters without spaces; for the `http` runtime a command line.
    pub handler: Option<String>,
    /// An IAM role's ARN; kept and given back.
    pub role: Option<String>,
    /// At most 256 characters.
    pub description: Option<String>,
    /// 1 to 900 seconds; 3 by default.
    pub timeout_s: Option<i64>,
    /// 128 to 10,240 MiB; 128 by default.
    pub memory_mib: Option<i64>,
    /// 512 to 10,240 MiB; 512 by default.
    pub ephemeral_storage_mib: Option<i64>,
    /// All variables, at most 4 KiB; an update replaces them all.
    pub environment: Option<BTreeMap<String, String>>,
    /// Layer version ARNs, at most 5; an update replaces them all.
    pub layers: Option<Vec<String>>,
    /// `Active` or `PassThrough` (the default).
    pub tracing: Option<String>,
    /// Log settings; a member left out takes its default.
    pub logging: Option<LoggingSettings>,
    /// What instances reach over the network; `Some(None)`: what the server's configuration says, the default.
    pub network: Option<Option<Network>>,
    /// Requests that one instance runs at once; for the `http` runtime 1 to 1,000, otherwise 1.
    pub instance_concurrency: Option<i64>,
    /// Members that are kept and given back as they came, in Lambda's own JSON; an update replaces those that it
    /// names and `null` removes one.
    pub echoed: BTreeMap<String, serde_json::Value>,
}

/// `LoggingConfig`.
#[derive(Clone, Debug, Default)]
pub struct LoggingSettings {
    /// `Text` (the default) or `JSON`.
    pub format: Option<String>,
    /// TRACE … FATAL; only with JSON, where INFO is the default.
    pub application_level: Option<String>,
    /// DEBUG, INFO or WARN; only with JSON, where INFO is the default.
    pub system_level: Option<String>,
    /// `/aws/lambda/<name>` by default.
    pub group: Option<String>,
}

/// `CreateFunction`.
#[derive(Clone, Debug)]
pub struct CreateFunction {
    /// 1 to 64 letters, digits, `-` and `_`.
    pub name: String,
    /// The code.
    pub package: Package,
    /// `role` and, for a zip, `runtime` and `handler` are required.
    pub settings: Settings,
    /// `x86_64` (the default) or `arm64`, exactly one.
    pub architectures: Option<Vec<String>>,
    /// At most 50.
    pub tags: BTreeMap<String, String>,
    /// Whether version 1 is published at once; the answer is then that version.
    pub publish: bool,
}

/// `UpdateFunctionCode`.
#[derive(Clone, Debug)]
pub struct UpdateCode {
    /// The function.
    pub name: String,
    /// The new code.
    pub package: Package,
    /// Unchanged when absent.
    pub architectures: Option<Vec<String>>,
    /// Settings that change in the same revision, so that no request runs the new code with the old ones.
    pub settings: Settings,
    /// Whether a version is published of it at once; the answer is then that version.
    pub publish: bool,
    /// Validate, change nothing, answer as if changed.
    pub dry_run: bool,
    /// Change only if `$LATEST` is at this revision.
    pub revision_id: Option<String>,
}

/// `UpdateFunctionConfiguration`.
#[derive(Clone, Debug, Default)]
pub struct UpdateConfiguration {
    /// The function.
    pub name: String,
    /// What changes.
    pub settings: Settings,
    /// Change only if `$LATEST` is at this revision.
    pub revision_id: Option<String>,
}

/// `PublishVersion`.
#[derive(Clone, Debug, Default)]
pub struct PublishVersion {
    /// The function.
    pub name: String,
    /// Publish only if `$LATEST` has this code: base64 of the zip's SHA-256.
    pub code_sha256: Option<String>,
    /// The version's description; `$LATEST`'s when absent.
    pub description: Option<String>,
    /// Publish only if `$LATEST` is at this revision.
    pub revision_id: Option<String>,
}

/// `CreateAlias` (where `version` is required) and `UpdateAlias` (where what is absent stays).
#[derive(Clone, Debug, Default)]
pub struct PutAlias {
    /// The function.
    pub function: String,
    /// The alias: 1 to 128 letters, digits, `-` and `_`, not digits only.
    pub name: String,
    /// `$LATEST` or a number.
    pub version: Option<String>,
    /// At most 256 characters.
    pub description: Option<String>,
    /// At most one version with its share of the requests, 0.0 to 1.0; empty removes the routing.
    pub weights: Option<BTreeMap<String, f64>>,
    /// Update only if the alias is at this revision.
    pub revision_id: Option<String>,
}

/// `CreateFunctionUrlConfig` (where `auth_type` is required) and `UpdateFunctionUrlConfig` (where what is absent
/// stays).
#[derive(Clone, Debug, Default)]
pub struct PutUrl {
    /// The function.
    pub function: String,
    /// An alias; `$LATEST` when absent.
    pub qualifier: Option<String>,
    /// `NONE` or `AWS_IAM`.
    pub auth_type: Option<String>,
    /// Replaces the CORS settings.
    pub cors: Option<Cors>,
    /// Buffered when a URL is created without it.
    pub invoke_mode: Option<InvokeMode>,
}

/// `AddPermission`.
#[derive(Clone, Debug, Default)]
pub struct AddPermission {
    /// The function.
    pub function: String,
    /// A version or an alias; the function itself when absent.
    pub qualifier: Option<String>,
    /// What is added.
    pub statement: Statement,
    /// Add only if what the policy belongs to is at this revision.
    pub revision_id: Option<String>,
}

/// `ListFunctions`.
#[derive(Clone, Debug, Default)]
pub struct ListFunctions {
    /// Published versions too, not only `$LATEST`.
    pub all_versions: bool,
    /// Where the page before ended.
    pub marker: Option<String>,
    /// 1 to 10,000, of which at most 50 are given; 50 when absent.
    pub max_items: Option<i64>,
}

/// Part of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// Where the next page begins; absent on the last one.
    pub next_marker: Option<String>,
}

/// One version of a function, as it is described to callers.
#[derive(Clone, Debug)]
pub struct Function {
    /// The function that it belongs to: name, tags, reserved concurrency.
    pub head: Arc<FunctionHead>,
    /// The qualifier by which it was asked for and which its ARN carries; `None` for the unqualified `$LATEST`.
    pub qualifier: Option<String>,
    /// `$LATEST` or a number.
    pub version: Version,
    /// Its configuration.
    pub configuration: Arc<Configuration>,
}

/// An alias with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedAlias {
    /// The function.
    pub function: String,
    /// The alias's name.
    pub name: String,
    /// What it points at.
    pub alias: Alias,
}

/// A function URL with what it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionUrl {
    /// The function's name.
    pub function: Arc<str>,
    /// The alias, or `$LATEST`.
    pub qualifier: Arc<str>,
    /// Its settings.
    pub url: Arc<Url>,
}

/// What the account has and uses (`GetAccountSettings`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountUsage {
    /// Number of functions.
    pub functions: u64,
    /// Bytes of the packages of all functions and versions; one that several share counts for each of them.
    pub code_bytes: u64,
    /// How much may be stored, where equal packages count once.
    pub code_bytes_limit: u64,
    /// Account concurrency.
    pub concurrency: u32,
    /// … less what is reserved by functions.
    pub unreserved_concurrency: u32,
}

/// What a qualified name resolved to: one version of one function, ready to run.
#[derive(Clone, Debug)]
pub struct Target {
    /// The function's name.
    pub name: Arc<str>,
    /// The function's unique id: pools are keyed by (uid, version, deployment id).
    pub uid: Arc<str>,
    /// The version that runs (after alias routing).
    pub version: Version,
    /// Its frozen configuration.
    pub configuration: Arc<Configuration>,
    /// Its unpacked package, which stays on disk as long as somebody holds this: to be held for as long as an
    /// instance may read its code.
    pub code: Arc<UnpackedCode>,
}

/// A change that the data plane must follow. Told after the change is durable and before it is acknowledged;
/// changes of one function are told in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The function's name.
    pub name: Arc<str>,
    /// The function's unique id.
    pub uid: Arc<str>,
    /// What changed.
    pub what: What,
}

/// What changed of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// `$LATEST` has new code or a new configuration: pools of its other deployments take no new requests.
    Latest {
        /// The deployment that is current now.
        deployment_id: String,
    },
    /// This published version is gone.
    VersionDeleted(u64),
    /// The function is gone with all its versions.
    Deleted,
    /// Reserved concurrency is now this; `None` shares the account's.
    Reserved(Option<u32>),
    /// This version was published with SnapStart.
    SnapStart(u64),
    /// What is provisioned has changed: [`super::Registry::to_provide`] says how it is now.
    Provisioned,
}
