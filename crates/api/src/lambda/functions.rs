//! Functions: create, get, list, update, delete.

use super::input::Input;
use super::{Answer, Request, name, shapes};
use crate::error::{ApiError, Result};
use crate::{guard, time};
use bytes::Bytes;
use model::Network;
use node::control::{
    CreateFunction, Function, ListFunctions, LoggingSettings, Package, Settings, UpdateCode,
    UpdateConfiguration,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

/// `CreateFunction`.
pub async fn create(request: &Request<'_>) -> Answer {
    let mut input = Input::parse(request.body)?;
    let named = input.string("FunctionName")?;
    let named = input.require("FunctionName", named);
    let package = input.structure("Code", package)?;
    let package = input.require("Code", package);
    refuse_unsupported(&mut input)?;
    let mut settings = settings(&mut input)?;
    settings.echoed.retain(|_, value| !value.is_null());
    let architectures = input.strings("Architectures")?;
    let tags = input.string_map("Tags")?.unwrap_or_default();
    let publish = input.boolean("Publish")?.unwrap_or_default();
    if settings.role.is_none() {
        input.require::<String>("Role", None);
    }
    input.finish()?;
    let Some(package) = package else { return Err(no_code()) };
    let name = name::parse(&named, request.app.account())?.name;
    let create = CreateFunction { name, package, settings, architectures, tags, publish };
    let function = request.app.registry.create_function(create).await?;
    Ok(shapes::configuration(&function, request.app.account()))
}

/// `GetFunction`.
pub async fn get(request: &Request<'_>) -> Answer {
    let (name, qualifier) = request.qualified()?;
    let function = request.app.registry.function(&name, qualifier.as_deref()).await?;
    let mut answer = json!({
        "Configuration": shapes::configuration(&function, request.app.account()),
        "Code": { "RepositoryType": "S3", "Location": location(request, &function) },
    });
    if !function.head.tags.is_empty() {
        answer["Tags"] = json!(function.head.tags);
    }
    if let Some(reserved) = function.head.reserved_concurrency {
        answer["Concurrency"] = json!({ "ReservedConcurrentExecutions": reserved });
    }
    Ok(answer)
}

/// A link to the deployment package that works for ten minutes, on the address that the caller used.
fn location(request: &Request<'_>, function: &Function) -> String {
    let host = guard::host(request.head).unwrap_or(&request.app.url_authority);
    let version = function.version.to_string();
    let permit = request.app.links.permit(&format!("{}:{version}", function.head.name), time::now());
    let version = utf8_percent_encode(&version, NON_ALPHANUMERIC);
    format!("http://{host}/_brooklet/v1/functions/{}/code?version={version}&{permit}", function.head.name)
}

/// `GetFunctionConfiguration`.
pub async fn get_configuration(request: &Request<'_>) -> Answer {
    let (name, qualifier) = request.qualified()?;
    let function = request.app.registry.function(&name, qualifier.as_deref()).await?;
    Ok(shapes::configuration(&function, request.app.account()))
}

/// `ListFunctions`.
pub async fn list(request: &Request<'_>) -> Answer {
    let all_versions = match request.query("FunctionVersion").as_deref() {
        None | Some("") => false,
        Some("ALL") => true,
        Some(other) => return Err(ApiError::not_in_enum("functionVersion", other, "ALL")),
    };
    let marker = request.query("Marker").filter(|marker| !marker.is_empty()).map(String::from);
    let list = ListFunctions { all_versions, marker, max_items: request.query_integer("MaxItems")? };
    let page = request.app.registry.list_functions(list).await?;
    Ok(shapes::page("Functions", &page, |function| {
        Value::Object(shapes::listed(function, request.app.account()))
    }))
}

/// `UpdateFunctionCode`. The member `Brooklet.Configuration`, which Lambda does not have, takes the members of
/// `UpdateFunctionConfiguration`: code and configuration then change at once.
pub async fn update_code(request: &Request<'_>) -> Answer {
    let mut input = Input::parse(request.body)?;
    let update = UpdateCode {
        name: request.function()?,
        package: package(&mut input)?.ok_or_else(no_code)?,
        architectures: input.strings("Architectures")?,
        settings: input.structure("Brooklet", with_code)?.flatten().unwrap_or_default(),
        publish: input.boolean("Publish")?.unwrap_or_default(),
        dry_run: input.boolean("DryRun")?.unwrap_or_default(),
        revision_id: input.string("RevisionId")?,
    };
    input.finish()?;
    let function = request.app.registry.update_code(update).await?;
    Ok(shapes::configuration(&function, request.app.account()))
}

fn with_code(brooklet: &mut Input<'_>) -> Result<Option<Settings>> {
    brooklet.structure("Configuration", |configuration| {
        refuse_unsupported(configuration)?;
        settings(configuration)
    })
}

/// `UpdateFunctionConfiguration`.
pub async fn update_configuration(request: &Request<'_>) -> Answer {
    let mut input = Input::parse(request.body)?;
    refuse_unsupported(&mut input)?;
    let update = UpdateConfiguration {
        name: request.function()?,
        settings: settings(&mut input)?,
        revision_id: input.string("RevisionId")?,
    };
    input.finish()?;
    let function = request.app.registry.update_configuration(update).await?;
    Ok(shapes::configuration(&function, request.app.account()))
}

/// `DeleteFunction`.
pub async fn delete(request: &Request<'_>) -> Answer {
    let (name, qualifier) = request.qualified()?;
    request.app.registry.delete_function(&name, qualifier.as_deref()).await?;
    Ok(Value::Null)
}

/// Where the code comes from; `None` when nothing says so.
fn package(code: &mut Input<'_>) -> Result<Option<Package>> {
    let zip = code.blob("ZipFile")?;
    let bucket = code.string("S3Bucket")?;
    let key = code.string("S3Key")?;
    let image = code.string("ImageUri")?;
    Ok(match (zip, bucket, image) {
        (Some(zip), None, None) => Some(Package::Zip(Bytes::from(zip))),
        (None, Some(bucket), None) => Some(Package::S3 { bucket, key: key.unwrap_or_default() }),
        (None, None, Some(image)) => Some(Package::Image(image)),
        (None, None, None) => None,
        _ => {
            return Err(ApiError::invalid(
                "Please do not provide other FunctionCode parameters when providing a ZipFile, S3 object or ImageUri.",
            ));
        }
    })
}

fn no_code() -> ApiError {
    ApiError::invalid("Please provide a source for function code.")
}

/// Members that would change what a function does, and that Brooklet does not have.
fn refuse_unsupported(input: &mut Input<'_>) -> Result<()> {
    for member in ["ImageConfig", "CapacityProviderConfig", "DurableConfig", "TenancyConfig"] {
        if input.echo(member)?.is_some_and(|value| value != json!({})) {
            return Err(ApiError::invalid(format!("{member} is not supported by Brooklet: leave it out.")));
        }
    }
    if input.string("CodeSigningConfigArn")?.is_some_and(|arn| !arn.is_empty()) {
        return Err(ApiError::invalid(
            "Code signing is not supported by Brooklet: leave out CodeSigningConfigArn.",
        ));
    }
    Ok(())
}

/// The members that create and update share.
fn settings(input: &mut Input<'_>) -> Result<Settings> {
    let (instance_concurrency, network) = input.structure("Brooklet", own_settings)?.unwrap_or_default();
    Ok(Settings {
        runtime: input.string("Runtime")?,
        handler: input.string("Handler")?,
        role: input.string("Role")?,
        description: input.string("Description")?,
        timeout_s: input.integer("Timeout")?,
        memory_mib: input.integer("MemorySize")?,
        ephemeral_storage_mib: ephemeral_storage(input)?,
        environment: input.structure("Environment", |environment| {
            Ok(environment.string_map("Variables")?.unwrap_or_default())
        })?,
        layers: input.strings("Layers")?,
        tracing: input.structure("TracingConfig", |tracing| tracing.string("Mode"))?.flatten(),
        logging: input.structure("LoggingConfig", logging)?,
        network,
        instance_concurrency,
        echoed: echoed(input)?,
    })
}

/// Of the member `Brooklet`, which Lambda does not have: `InstanceConcurrency` and `Network`.
#[allow(clippy::type_complexity)] // absent, or the server's default, or a policy
fn own_settings(brooklet: &mut Input<'_>) -> Result<(Option<i64>, Option<Option<Network>>)> {
    let network = brooklet.one_of("Network", &["default", "none", "internet", "host"])?;
    Ok((brooklet.integer("InstanceConcurrency")?, network.map(|name| name.parse().ok())))
}

fn ephemeral_storage(input: &mut Input<'_>) -> Result<Option<i64>> {
    input.structure("EphemeralStorage", |storage| {
        let size = storage.integer("Size")?;
        Ok(storage.require("Size", size))
    })
}

fn logging(logging: &mut Input<'_>) -> Result<LoggingSettings> {
    Ok(LoggingSettings {
        format: logging.one_of("LogFormat", &["JSON", "Text"])?.map(str::to_owned),
        application_level: logging
            .one_of("ApplicationLogLevel", &["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"])?
            .map(str::to_owned),
        system_level: logging.one_of("SystemLogLevel", &["DEBUG", "INFO", "WARN"])?.map(str::to_owned),
        group: logging.string("LogGroup")?,
    })
}

/// What `SnapStart.ApplyOn` may be.
const SNAP_START: [&str; 2] = ["PublishedVersions", "None"];

/// Members that are kept and given back. One that was emptied is `null`: it is to be forgotten.
fn echoed(input: &mut Input<'_>) -> Result<std::collections::BTreeMap<String, Value>> {
    let mut echoed = std::collections::BTreeMap::new();
    for member in ["VpcConfig", "DeadLetterConfig", "FileSystemConfigs", "SnapStart"] {
        if let Some(value) = input.echo(member)? {
            if member == "SnapStart"
                && let Some(wrong) = value["ApplyOn"].as_str().filter(|given| !SNAP_START.contains(given))
            {
                return Err(ApiError::not_in_enum("snapStart.applyOn", wrong, &SNAP_START.join(", ")));
            }
            let emptied = match member {
                "VpcConfig" => is_empty(&value["SubnetIds"]) && is_empty(&value["SecurityGroupIds"]),
                "DeadLetterConfig" => is_empty(&value["TargetArn"]),
                "SnapStart" => value["ApplyOn"] == "None" || is_empty(&value["ApplyOn"]),
                _ => is_empty(&value),
            };
            echoed.insert(member.to_owned(), if emptied { Value::Null } else { value });
        }
    }
    if let Some(key) = input.string("KMSKeyArn")? {
        echoed.insert("KMSKeyArn".to_owned(), if key.is_empty() { Value::Null } else { key.into() });
    }
    Ok(echoed)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}
