//! `show`: one function, all that there is to know.

use crate::cli::{Output, Show};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::lambda::Lambda;
use crate::{output, units};
use serde_json::Value;

/// Runs the command.
pub async fn run(args: Show, lambda: &Lambda) -> Result<Exit> {
    let Some(mut function) = lambda.get(&args.name, args.qualifier.as_deref()).await? else {
        let qualified =
            args.qualifier.map(|q| format!(" with a version or an alias {q}")).unwrap_or_default();
        return Err(Error::new(Exit::NotFound, format!("there is no function {}{qualified}", args.name))
            .fix("`brooklet list` shows what there is"));
    };
    let name = function["Configuration"]["FunctionName"].as_str().unwrap_or(&args.name).to_string();
    function["Versions"] = Value::Array(lambda.versions(&name).await?);
    function["Aliases"] = Value::Array(lambda.aliases(&name).await?);
    function["ProvisionedConcurrency"] = Value::Array(lambda.provisioned(&name).await?);
    function["Url"] = lambda.url(&name).await?.unwrap_or(Value::Null);
    match args.output {
        Output::Json => output::json(&function)?,
        Output::Table => output::line(describe(&function))?,
    }
    Ok(Exit::Success)
}

/// One fact a line; facts that are absent or empty are left out.
fn describe(function: &Value) -> String {
    let configuration = &function["Configuration"];
    let rows = [
        ("name", text(&configuration["FunctionName"])),
        ("arn", text(&configuration["FunctionArn"])),
        ("description", text(&configuration["Description"])),
        ("runtime", text(&configuration["Runtime"])),
        ("handler", text(&configuration["Handler"])),
        ("memory", with_unit(&configuration["MemorySize"], "MiB")),
        ("timeout", with_unit(&configuration["Timeout"], "s")),
        ("tmp", with_unit(&configuration["EphemeralStorage"]["Size"], "MiB")),
        ("code", configuration["CodeSize"].as_u64().map(units::show_size).unwrap_or_default()),
        ("code sha256", text(&configuration["CodeSha256"])),
        ("version", text(&configuration["Version"])),
        ("modified", text(&configuration["LastModified"])),
        ("state", state(configuration)),
        ("network", network(&configuration["Brooklet"]["Network"])),
        ("requests", instances(&configuration["Brooklet"]["InstanceConcurrency"])),
        ("environment", names(&configuration["Environment"]["Variables"])),
        ("concurrency", text(&function["Concurrency"]["ReservedConcurrentExecutions"])),
        ("tags", pairs(&function["Tags"])),
        ("versions", list(&function["Versions"], |version| text(&version["Version"]))),
        (
            "aliases",
            list(&function["Aliases"], |a| format!("{} → {}", text(&a["Name"]), text(&a["FunctionVersion"]))),
        ),
        ("provisioned", list(&function["ProvisionedConcurrency"], provisioned)),
        ("url", text(&function["Url"]["FunctionUrl"])),
    ];
    let line = |(name, value): (&str, String)| format!("{name:<12} {value}");
    rows.into_iter().filter(|(_, value)| !value.is_empty()).map(line).collect::<Vec<_>>().join("\n")
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn with_unit(value: &Value, unit: &str) -> String {
    if value.is_null() { String::new() } else { format!("{value} {unit}") }
}

fn network(policy: &Value) -> String {
    match policy.as_str() {
        Some("default") => "as the server's configuration says".to_string(),
        _ => text(policy),
    }
}

/// `live: 3 of 5 ready`, and why there are not more.
fn provisioned(config: &Value) -> String {
    let count = |what: &str| text(&config[format!("{what}ProvisionedConcurrentExecutions")]);
    let qualifier = text(&config["FunctionArn"]).rsplit(':').next().unwrap_or_default().to_owned();
    let reason = match config["StatusReason"].as_str() {
        Some(reason) => format!(" ({reason})"),
        None => String::new(),
    };
    format!("{qualifier}: {} of {} ready{reason}", count("Available"), count("Requested"))
}

/// Only said when it is not the usual 1.
fn instances(concurrency: &Value) -> String {
    match concurrency.as_u64() {
        None | Some(1) => String::new(),
        Some(count) => format!("{count} at once in an instance"),
    }
}

fn state(configuration: &Value) -> String {
    let (state, update) = (text(&configuration["State"]), text(&configuration["LastUpdateStatus"]));
    let reasons = ["StateReason", "LastUpdateStatusReason"].map(|key| text(&configuration[key]));
    [state, update].into_iter().chain(reasons).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// Names only: values of environment variables are often secrets; `--output json` has them.
fn names(table: &Value) -> String {
    table.as_object().map(|table| table.keys().cloned().collect::<Vec<_>>().join(", ")).unwrap_or_default()
}

fn pairs(table: &Value) -> String {
    let pairs = table.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={}", text(value)));
    pairs.collect::<Vec<_>>().join(", ")
}

fn list(values: &Value, show: impl Fn(&Value) -> String) -> String {
    let shown = values.as_array().into_iter().flatten().map(show).filter(|shown| shown != "$LATEST");
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_absent_is_left_out_and_secrets_are_not_shown() {
        let function = json!({
            "Configuration": {
                "FunctionName": "hello", "Runtime": "python3.12", "MemorySize": 128, "Timeout": 3,
                "State": "Active", "LastUpdateStatus": "Successful", "Description": "",
                "Environment": {"Variables": {"TOKEN": "secret"}},
            },
            "Tags": {"team": "shop"},
            "Versions": [{"Version": "$LATEST"}, {"Version": "1"}],
            "Aliases": [{"Name": "live", "FunctionVersion": "1"}],
            "ProvisionedConcurrency": [{
                "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:hello:live",
                "RequestedProvisionedConcurrentExecutions": 5, "AvailableProvisionedConcurrentExecutions": 3,
                "Status": "IN_PROGRESS",
            }],
            "Url": null,
        });
        insta::assert_snapshot!(describe(&function), @r"
        name         hello
        runtime      python3.12
        memory       128 MiB
        timeout      3 s
        state        Active, Successful
        environment  TOKEN
        tags         team=shop
        versions     1
        aliases      live → 1
        provisioned  live: 3 of 5 ready
        ");
    }
}
