//! Lambda's answers: every member that the real service gives for what there is.

use crate::auth::sigv4::{hex, unhex};
use crate::time::{iso, iso_z};
use base64::Engine;
use model::{Account, Cors, InvokeMode, LATEST, Network, Version};
use node::control::{Function, FunctionUrl, NamedAlias, Page};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// `FunctionConfiguration` as `GetFunction` gives it.
pub fn configuration(function: &Function, account: &Account) -> Value {
    let mut members = listed(function, account);
    let runtime = &function.configuration.runtime;
    // A version of the runtime that is always the same for the same runtime: nothing else is known of it.
    let version = hex(&Sha256::digest(runtime.as_bytes()));
    let arn = format!("arn:aws:lambda:{}::runtime:{version}", account.region);
    members.insert("RuntimeVersionConfig".into(), json!({ "RuntimeVersionArn": arn }));
    members.insert("State".into(), "Active".into());
    members.insert("LastUpdateStatus".into(), "Successful".into());
    Value::Object(members)
}

/// `FunctionConfiguration` as lists give it: without the state.
pub fn listed(function: &Function, account: &Account) -> Map<String, Value> {
    let configuration = &*function.configuration;
    let name = &function.head.name;
    let sha256 = unhex(&configuration.code.sha256).unwrap_or_default();
    let mut logging = json!({ "LogFormat": configuration.logging.format });
    if let Some(level) = &configuration.logging.application_level {
        logging["ApplicationLogLevel"] = level.as_str().into();
    }
    if let Some(level) = &configuration.logging.system_level {
        logging["SystemLogLevel"] = level.as_str().into();
    }
    logging["LogGroup"] = configuration.logging.group.as_str().into();
    let Value::Object(mut members) = json!({
        "FunctionName": name,
        "FunctionArn": account.function_arn(name, function.qualifier.as_deref()),
        "Runtime": configuration.runtime,
        "Role": configuration.role,
        "Handler": configuration.handler,
        "CodeSize": configuration.code.size,
        "Description": configuration.description,
        "Timeout": configuration.timeout_s,
        "MemorySize": configuration.memory.0,
        "LastModified": iso(configuration.last_modified),
        "CodeSha256": base64::engine::general_purpose::STANDARD.encode(sha256),
        "Version": function.version.to_string(),
        "TracingConfig": { "Mode": configuration.tracing },
        "RevisionId": configuration.revision_id,
        "PackageType": "Zip",
        "Architectures": configuration.architectures,
        "EphemeralStorage": { "Size": configuration.ephemeral_storage.0 },
        "SnapStart": { "ApplyOn": "None", "OptimizationStatus": "Off" },
        "LoggingConfig": logging,
        "Brooklet": {
            "InstanceConcurrency": configuration.instance_concurrency,
            "Network": configuration.network.map_or("default", Network::name),
        },
    }) else {
        unreachable!("an object was written")
    };
    if !configuration.environment.is_empty() {
        members.insert("Environment".into(), json!({ "Variables": configuration.environment }));
    }
    if !configuration.layers.is_empty() {
        let layers = configuration.layers.iter().map(|arn| json!({ "Arn": arn, "CodeSize": 0 }));
        members.insert("Layers".into(), layers.collect());
    }
    for (member, value) in &configuration.echoed {
        members.insert(member.clone(), echoed(member, value, function.version));
    }
    members
}

/// What is added to members that are only kept: the parts that the service itself fills in.
fn echoed(member: &str, value: &Value, version: Version) -> Value {
    let mut value = value.clone();
    match (member, &mut value) {
        ("VpcConfig", Value::Object(vpc)) => drop(vpc.entry("VpcId").or_insert("".into())),
        // No snapshot is taken: a version is initialised once when it is published (docs/lambda-api.md).
        ("SnapStart", Value::Object(snap)) => {
            let is_on =
                version != Version::Latest && snap.get("ApplyOn") == Some(&"PublishedVersions".into());
            snap.insert("OptimizationStatus".into(), if is_on { "On" } else { "Off" }.into());
        }
        _ => {}
    }
    value
}

/// `AliasConfiguration`.
pub fn alias(alias: &NamedAlias, account: &Account) -> Value {
    let NamedAlias { function, name, alias } = alias;
    let mut members = json!({
        "AliasArn": account.function_arn(function, Some(name)),
        "Name": name,
        "FunctionVersion": alias.version.to_string(),
        "Description": alias.description,
        "RevisionId": alias.revision_id,
    });
    if !alias.weights.is_empty() {
        let weights = alias.weights.iter().map(|(version, weight)| (version.to_string(), (*weight).into()));
        members["RoutingConfig"] = json!({ "AdditionalVersionWeights": weights.collect::<Map<_, _>>() });
    }
    members
}

/// `FunctionUrlConfig`.
pub fn url(url: &FunctionUrl, account: &Account, authority: &str) -> Value {
    let FunctionUrl { function, qualifier, url } = url;
    let qualifier = Some(&**qualifier).filter(|qualifier| *qualifier != LATEST);
    let mode = match url.invoke_mode {
        InvokeMode::Buffered => "BUFFERED",
        InvokeMode::ResponseStream => "RESPONSE_STREAM",
    };
    let mut members = json!({
        "FunctionUrl": format!("http://{}.lambda-url.{}.{authority}/", url.id, account.region),
        "FunctionArn": account.function_arn(function, qualifier),
        "AuthType": url.auth_type,
        "CreationTime": iso_z(url.created),
        "LastModifiedTime": iso_z(url.modified),
        "InvokeMode": mode,
    });
    if let Some(settings) = url.cors.as_ref().filter(|settings| **settings != Cors::default()) {
        members["Cors"] = cors(settings);
    }
    members
}

fn cors(cors: &Cors) -> Value {
    let mut members = Map::new();
    if cors.allow_credentials {
        members.insert("AllowCredentials".into(), true.into());
    }
    let lists = [
        ("AllowHeaders", &cors.allow_headers),
        ("AllowMethods", &cors.allow_methods),
        ("AllowOrigins", &cors.allow_origins),
        ("ExposeHeaders", &cors.expose_headers),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        members.insert(name.into(), json!(list));
    }
    if cors.max_age_s > 0 {
        members.insert("MaxAge".into(), cors.max_age_s.into());
    }
    Value::Object(members)
}

/// A list and where its next page begins.
pub fn page<T>(member: &str, page: &Page<T>, item: impl Fn(&T) -> Value) -> Value {
    let mut members = Map::new();
    members.insert(member.into(), page.items.iter().map(item).collect());
    if let Some(marker) = &page.next_marker {
        members.insert("NextMarker".into(), marker.as_str().into());
    }
    Value::Object(members)
}
