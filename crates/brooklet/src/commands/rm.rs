//! `rm`: removes functions with all their versions.

use crate::cli::{Output, Rm};
use crate::error::Result;
use crate::exit::Exit;
use crate::lambda::Lambda;
use crate::output;
use serde_json::json;

/// Runs the command.
pub async fn run(args: Rm, lambda: &Lambda) -> Result<Exit> {
    if !args.yes {
        output::confirm(&format!("Remove {} with all versions?", args.names.join(", ")))?;
    }
    for name in &args.names {
        lambda.delete(name).await.map_err(|error| match error.exit {
            Exit::NotFound => error.fix("`brooklet list` shows what there is"),
            _ => error,
        })?;
        output::note(format!("removed {name}"));
    }
    if let Output::Json = args.output {
        output::json(&json!({ "removed": args.names }))?;
    }
    Ok(Exit::Success)
}
