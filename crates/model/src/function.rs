//! What a function is: its configuration, versions, aliases, URL and limits.
//!
//! A *function* is a name with a `$LATEST` configuration, numbered immutable *versions* and *aliases* that
//! point at versions. All of a function but its published versions is one document, [`FunctionHead`], so
//! that every change is one atomic write; each published version is a document of its own.

use crate::{MiB, Network, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The version that updates change. It is the only one whose configuration is mutable.
pub const LATEST: &str = "$LATEST";

/// How the names of variables begin that are orders to Brooklet's own bootstraps, and so nobody else's.
pub const RESERVED_PREFIX: &str = "BROOKLET_";

/// A published version number (1, 2, …) or `$LATEST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// The mutable head.
    Latest,
    /// An immutable published version, counted from 1 and never reused.
    Number(u64),
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Version::Latest => f.write_str(LATEST),
            Version::Number(n) => write!(f, "{n}"),
        }
    }
}

impl std::str::FromStr for Version {
    type Err = ();

    /// `$LATEST` or decimal digits; anything else (an alias name) is `Err`.
    fn from_str(text: &str) -> Result<Version, ()> {
        if text == LATEST {
            return Ok(Version::Latest);
        }
        match text.bytes().all(|b| b.is_ascii_digit()) {
            true => text.parse().map(Version::Number).map_err(|_| ()),
            false => Err(()),
        }
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|()| serde::de::Error::custom("a version is $LATEST or a number"))
    }
}

/// Whose functions these are and where: the two parts of every ARN that the server is configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Twelve digits.
    pub id: String,
    /// For example `us-east-1`.
    pub region: String,
}

impl Account {
    /// `arn:aws:lambda:<region>:<account>:function:<name>[:<qualifier>]`.
    pub fn function_arn(&self, name: &str, qualifier: Option<&str>) -> String {
        let (sep, qualifier) = qualifier.map_or(("", ""), |q| (":", q));
        format!("arn:aws:lambda:{}:{}:function:{name}{sep}{qualifier}", self.region, self.id)
    }
}

/// A deployment package: the zip as uploaded, known by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// SHA-256 of the zip, lower-case hexadecimal (64 characters). Lambda's `CodeSha256` is its base64.
    pub sha256: String,
    /// Length of the zip in bytes.
    pub size: u64,
}

/// How many requests an instance may run at once and how it is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Contract {
    /// Lambda's Runtime API (or our bootstraps' private transport with the same meaning).
    #[default]
    Lambda,
    /// Any program that listens on `$PORT`.
    Http,
}

/// `AWS_LAMBDA_LOG_FORMAT` and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logging {
    /// `Text` or `JSON`.
    pub format: String,
    /// TRACE … FATAL; only with JSON.
    pub application_level: Option<String>,
    /// DEBUG, INFO or WARN; only with JSON.
    pub system_level: Option<String>,
    /// `/aws/lambda/<name>` unless the user chose another.
    pub group: String,
}

/// Everything that a version freezes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    /// Lambda's runtime identifier (`python3.12`, `nodejs20.x`, `provided.al2023`, …), or `http` for the
    /// HTTP contract.
    pub runtime: String,
    /// What the runtime calls: `module.function`, a class, `Assembly::Type::Method`; for `http` the command
    /// that is run, empty for an executable called `bootstrap`.
    pub handler: String,
    /// Kept and echoed; Brooklet has no IAM.
    pub role: String,
    /// At most 256 characters.
    pub description: String,
    /// 1 to 900 seconds.
    pub timeout_s: u32,
    /// 128 to 10,240 MiB.
    pub memory: MiB,
    /// Size of `/tmp`: 512 to 10,240 MiB.
    pub ephemeral_storage: MiB,
    /// At most 4 KiB in all; reserved names are refused when set.
    pub environment: BTreeMap<String, String>,
    /// `x86_64` or `arm64`.
    pub architectures: Vec<String>,
    /// Layer version ARNs, applied in this order.
    pub layers: Vec<String>,
    /// `Active` or `PassThrough`.
    pub tracing: String,
    /// Log format, levels and group.
    pub logging: Logging,
    /// What instances reach over the network; `None`: what the server's configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Requests that one instance runs at once: 1 for Lambda style; 1 to 1,000 for the HTTP contract.
    pub instance_concurrency: u32,
    /// The deployment package.
    pub code: Code,
    /// When this configuration or its code last changed.
    pub last_modified: Timestamp,
    /// A new UUID with every change, and of `$LATEST` also when a version is published; callers may make their
    /// change conditional on it.
    pub revision_id: String,
    /// A new UUID with every change of configuration or code: instances are kept under it, so that publishing a
    /// version stops none.
    #[serde(default)]
    pub deployment_id: String,
    /// Members of Lambda's API that mean nothing here but must be given back as they came (`VpcConfig`,
    /// `DeadLetterConfig`, `FileSystemConfigs`, `KMSKeyArn`, `SnapStart`, …), in Lambda's own JSON.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub echoed: BTreeMap<String, serde_json::Value>,
}

impl Configuration {
    /// Whether versions of it are published with Lambda's SnapStart.
    pub fn snap_start(&self) -> bool {
        self.echoed.get("SnapStart").is_some_and(|snap| snap["ApplyOn"] == "PublishedVersions")
    }

    /// Which contract the runtime speaks.
    pub fn contract(&self) -> Contract {
        if self.runtime == "http" { Contract::Http } else { Contract::Lambda }
    }
}

/// A name for a version, with an optional second version that takes a share of the requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alias {
    /// The version that takes the rest.
    pub version: Version,
    /// At most one entry: version → share of requests, 0.0 to 1.0.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<Version, f64>,
    /// At most 256 characters.
    pub description: String,
    /// A new UUID with every change.
    pub revision_id: String,
}

/// How a function URL answers browsers of other origins (Lambda's `Cors`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    /// Whether cookies and credentials may be sent.
    pub allow_credentials: bool,
    /// Request headers that may be sent; `*` for all.
    pub allow_headers: Vec<String>,
    /// Methods that may be used; `*` for all.
    pub allow_methods: Vec<String>,
    /// Origins that may call; `*` for all.
    pub allow_origins: Vec<String>,
    /// Response headers that a page may read.
    pub expose_headers: Vec<String>,
    /// Seconds that a browser may keep the preflight answer: 0 to 86,400.
    pub max_age_s: u32,
}

/// Whether a function URL's answer is buffered or flushed as it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InvokeMode {
    /// The whole answer at once, at most 6 MiB.
    #[default]
    Buffered,
    /// Each write is flushed to the caller.
    ResponseStream,
}

/// A function URL: of `$LATEST` or of an alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Url {
    /// The first label of the host name: 32 lower-case letters and digits.
    pub id: String,
    /// `NONE` or `AWS_IAM`.
    pub auth_type: String,
    /// Absent: no CORS headers are added.
    pub cors: Option<Cors>,
    /// Buffered or streamed.
    pub invoke_mode: InvokeMode,
    /// When it was made.
    pub created: Timestamp,
    /// When it last changed.
    pub modified: Timestamp,
}

/// What others may do with `$LATEST`, a version or an alias (Lambda's resource-based policy).
///
/// Kept and given back, not enforced: Brooklet has no IAM. Who may call is decided by the server's access keys and
/// by the `AuthType` of a function URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// A new UUID with every change; also the revision of what the policy belongs to.
    pub revision_id: String,
    /// In the order in which they were added; their ids differ. About 20 KiB in all.
    pub statements: Vec<Statement>,
}

/// One permission of a [`Policy`], as it was asked for (Lambda's `AddPermission`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Statement {
    /// `Sid`: 1 to 100 letters, digits, `-` and `_`.
    pub id: String,
    /// For example `lambda:InvokeFunction`.
    pub action: String,
    /// A service (`s3.amazonaws.com`), an account's twelve digits, an ARN, or `*`.
    pub principal: String,
    /// Only requests on behalf of this resource: an ARN, maybe with `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_arn: Option<String>,
    /// Only requests on behalf of resources of this account: twelve digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_account: Option<String>,
    /// Only requests with this token (Alexa skills): at most 256 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_source_token: Option<String>,
    /// Only principals of this organisation: `o-` and 10 to 32 letters and digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal_org_id: Option<String>,
    /// Only through function URLs of this kind: `NONE` or `AWS_IAM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function_url_auth_type: Option<String>,
    /// Whether only requests through a function URL are meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invoked_via_function_url: Option<bool>,
}

/// Instances that are kept ready for a version or an alias (Lambda's provisioned concurrency).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provisioned {
    /// Requests that they run at once, all together; at least 1.
    pub requested: u32,
    /// When that last changed.
    pub modified: Timestamp,
}

/// The last published version and what it was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Its number.
    pub version: u64,
    /// Digest of the `$LATEST` configuration and code that it froze.
    pub digest: String,
}

/// A function as it is stored: all but its published versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionHead {
    /// 1 to 64 letters, digits, `-` and `_`.
    pub name: String,
    /// A UUID made at creation, so that a function deleted and made again shares nothing with its namesake.
    pub uid: String,
    /// The `$LATEST` configuration; shared, because readers keep it while the head moves on.
    pub latest: Arc<Configuration>,
    /// The number that the next published version gets. Versions at or above it do not exist.
    pub next_version: u64,
    /// What `$LATEST` was when a version was last published from it: publishing the same again gives that
    /// version.
    #[serde(default)]
    pub last_published: Option<Published>,
    /// Published versions that have not been deleted, in order.
    #[serde(default)]
    pub versions: Vec<u64>,
    /// Alias name → alias.
    #[serde(default)]
    pub aliases: BTreeMap<String, Alias>,
    /// Function URLs by qualifier (`$LATEST` or an alias name).
    #[serde(default)]
    pub urls: BTreeMap<String, Url>,
    /// Provisioned concurrency by what it was asked for: a version's number or an alias name. No two of them are
    /// for the same version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provisioned: BTreeMap<String, Provisioned>,
    /// Reserved concurrency; `Some(0)` stops the function, `None` shares the account's.
    #[serde(default)]
    pub reserved_concurrency: Option<u32>,
    /// Tags, at most 50.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Policies by what they belong to: `$LATEST`, a version's number or an alias name. None is empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<String, Policy>,
}

impl FunctionHead {
    /// How the provisioned concurrency of this version or alias is shared out: while an alias has weights, each of its
    /// versions has its share. Empty when there is none.
    pub fn provisioned_shares(&self, qualifier: &str) -> Vec<(Version, u32)> {
        let Some(provisioned) = self.provisioned.get(qualifier) else { return Vec::new() };
        let requested = provisioned.requested;
        let Some(alias) = self.aliases.get(qualifier) else {
            return qualifier.parse().map(|version| (version, requested)).into_iter().collect();
        };
        let share = |weight: f64| (f64::from(requested) * weight).round() as u32;
        let mut shares: Vec<_> =
            alias.weights.iter().map(|(&version, &weight)| (version, share(weight))).collect();
        let rest = shares.iter().fold(requested, |rest, (_, share)| rest.saturating_sub(*share));
        shares.push((alias.version, rest));
        shares
    }

    /// All that is provisioned, by version.
    pub fn all_provisioned(&self) -> Vec<(Version, u32)> {
        self.provisioned.keys().flat_map(|qualifier| self.provisioned_shares(qualifier)).collect()
    }

    /// The sum of all provisioned concurrency.
    pub fn total_provisioned(&self) -> u32 {
        self.provisioned.values().fold(0, |sum, provisioned| sum.saturating_add(provisioned.requested))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provisioned_concurrency_of_an_alias_follows_its_weights() {
        let head = |weights: &[(u64, f64)]| {
            let weights: BTreeMap<_, _> =
                weights.iter().map(|&(number, weight)| (Version::Number(number), weight)).collect();
            let head = serde_json::json!({
                "name": "f", "uid": "u", "next_version": 4, "versions": [1, 2, 3],
                "latest": {
                    "runtime": "", "handler": "", "role": "", "description": "", "timeout_s": 3, "memory": 128,
                    "ephemeral_storage": 512, "environment": {}, "architectures": [], "layers": [], "tracing": "",
                    "logging": { "format": "Text", "application_level": null, "system_level": null, "group": "" },
                    "instance_concurrency": 1, "code": { "sha256": "", "size": 0 }, "last_modified": 0, "revision_id": "",
                },
                "aliases": { "live": { "version": "1", "description": "", "revision_id": "", "weights": weights } },
                "provisioned": {
                    "live": { "requested": 10, "modified": 0 },
                    "3": { "requested": 4, "modified": 0 },
                },
            });
            serde_json::from_value::<FunctionHead>(head).expect("a head")
        };
        let (one, two) = (Version::Number(1), Version::Number(2));
        assert_eq!(head(&[]).provisioned_shares("live"), [(one, 10)]);
        assert_eq!(head(&[(2, 0.25)]).provisioned_shares("live"), [(two, 3), (one, 7)]);
        assert_eq!(head(&[]).provisioned_shares("3"), [(Version::Number(3), 4)]);
        assert_eq!(head(&[]).provisioned_shares("2"), []);
        assert_eq!(head(&[]).total_provisioned(), 14);
    }
}
