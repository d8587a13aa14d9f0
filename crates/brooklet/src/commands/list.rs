//! `list`: every function, one line each.

use crate::cli::{List, Output};
use crate::error::Result;
use crate::exit::Exit;
use crate::lambda::Lambda;
use crate::{output, units};
use serde_json::Value;

/// Runs the command.
pub async fn run(args: List, lambda: &Lambda) -> Result<Exit> {
    let functions = lambda.list().await?;
    match args.output {
        Output::Json => output::json(&Value::Array(functions))?,
        Output::Table if functions.is_empty() => {
            output::note("no functions yet: `brooklet new python hello`, then `brooklet deploy hello`");
        }
        Output::Table => {
            let header = ["NAME", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "CODE", "MODIFIED"];
            output::line(output::table(&header, &functions.iter().map(row).collect::<Vec<_>>()))?;
        }
    }
    Ok(Exit::Success)
}

fn row(function: &Value) -> Vec<String> {
    let text = |key: &str| function[key].as_str().unwrap_or("-").to_string();
    vec![
        text("FunctionName"),
        text("Runtime"),
        text("Handler"),
        format!("{} MiB", function["MemorySize"]),
        format!("{} s", function["Timeout"]),
        units::show_size(function["CodeSize"].as_u64().unwrap_or(0)),
        text("LastModified").split('.').next().unwrap_or_default().replace('T', " "),
    ]
}
