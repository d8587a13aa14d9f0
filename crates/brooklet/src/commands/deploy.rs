//! `deploy`: builds, compares, shows the plan, carries it out and says what to try next.

use crate::build::{self, Job};
use crate::cli::{Deploy, Output};
use crate::detect::Detected;
use crate::document::nearest;
use crate::error::{Doing, Error, Result};
use crate::exit::Exit;
use crate::lambda::Lambda;
use crate::manifest::Function;
use crate::package::Zip;
use crate::plan::{Actual, Item, PROJECT_TAG, Step, Verb, Wanted, plan, show};
use crate::project::{Project, Said};
use crate::{output, units};
use base64::Engine;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How long a change may take to become active before it is reported as stuck.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
const SETTLE_PAUSE: Duration = Duration::from_millis(100);

/// Runs the command.
pub async fn run(args: Deploy, lambda: &Lambda) -> Result<Exit> {
    let said = Said { name: args.name.clone(), runtime: args.runtime.clone(), handler: args.handler.clone() };
    let mut project = Project::open(&args.path, &said)?;
    choose(&mut project, &args.only)?;
    let quiet = args.output == Output::Json;
    let project = Arc::new(project);
    // A build may take minutes: not before it is known what to build, and that there is a server to deploy it to.
    for function in &project.functions {
        named(project.detect(function), &function.name)?;
    }
    if let Some(function) = project.functions.first() {
        actual(lambda, &function.name).await?;
    }
    let mut ready = vec![];
    for package in packages(&project, args.rebuild).await? {
        if !quiet {
            package.did.iter().for_each(|did| output::note(format!("{}: {did}", package.wanted.name)));
        }
        let actual = actual(lambda, &package.wanted.name).await?;
        let item = plan(&package.wanted, actual.as_ref());
        ready.push((item, Some(package)));
    }
    if args.prune {
        ready.extend(stale(lambda, &project).await?.into_iter().map(|item| (item, None)));
    }
    let items: Vec<Item> = ready.iter().map(|(item, _)| item.clone()).collect();
    if args.dry_run {
        return report_plan(&items, args.output);
    }
    if !quiet && items.iter().any(|item| item.verb != Verb::Unchanged) {
        output::note(show(&items));
    }
    if items.iter().any(Item::is_destructive) && !args.yes {
        output::confirm("What is removed cannot be brought back. Go ahead?")?;
    }
    let mut done = vec![];
    for (item, package) in &ready {
        let zip = package.as_ref().map(|package| &package.zip);
        carry_out(lambda, item, zip).await?;
        let result = result(lambda, item).await?;
        if !quiet {
            // At once: what was done is known also when a later function fails.
            output::line(tell(&result))?;
        }
        done.push(result);
    }
    match args.output {
        Output::Json => output::json(&json!({ "functions": done }))?,
        Output::Table => output::note(next_step(&lambda.client.url(), &project, &done)),
    }
    Ok(Exit::Success)
}

/// A built function.
pub struct Ready {
    /// What it shall be.
    pub wanted: Wanted,
    /// Its package.
    pub zip: Zip,
    /// What was done to make it.
    pub did: Vec<String>,
}

/// Builds all functions of a project, away from the event loop.
pub async fn packages(project: &Arc<Project>, rebuild: bool) -> Result<Vec<Ready>> {
    let project = project.clone();
    let build = move || {
        project
            .functions
            .iter()
            .map(|function| named(package(&project, function, rebuild), &function.name))
            .collect()
    };
    tokio::task::spawn_blocking(build).await.doing(|| "build".into())?
}

fn package(project: &Project, function: &Function, rebuild: bool) -> Result<Ready> {
    let detected = project.detect(function)?;
    let dir = project.dir(function);
    let (zip, did) = if project.is_zip {
        (Zip::read(&project.path)?, vec![])
    } else {
        let built = build::build(&Job {
            name: &function.name,
            dir: &dir,
            build: &function.build,
            package: function.package.as_deref(),
            detected: &detected,
            rebuild,
        })?;
        (built.package.zip()?, built.did)
    };
    Ok(Ready { wanted: wanted(project, function, detected, &zip), zip, did })
}

fn wanted(project: &Project, function: &Function, detected: Detected, zip: &Zip) -> Wanted {
    Wanted {
        name: function.name.clone(),
        runtime: detected.runtime,
        handler: detected.handler,
        settings: function.settings.clone(),
        code_sha256: zip.sha256.clone(),
        code_size: zip.bytes.len() as u64,
        project: project.name.clone(),
    }
}

/// What the server has under this name.
pub async fn actual(lambda: &Lambda, name: &str) -> Result<Option<Actual>> {
    match lambda.get(name, None).await? {
        Some(function) => Ok(Some(Actual { function, url: lambda.url(name).await?.unwrap_or_default() })),
        None => Ok(None),
    }
}

fn named<T>(result: Result<T>, function: &str) -> Result<T> {
    result.map_err(|error| error.of(function))
}

/// Makes the calls of one function's plan, in order.
pub async fn carry_out(lambda: &Lambda, item: &Item, zip: Option<&Zip>) -> Result<()> {
    named(call(lambda, item, zip).await, &item.name)
}

async fn call(lambda: &Lambda, item: &Item, zip: Option<&Zip>) -> Result<()> {
    let encoded = || base64::engine::general_purpose::STANDARD.encode(zip.map_or(&[][..], |zip| &zip.bytes));
    let name = &item.name;
    for step in &item.steps {
        match step {
            Step::Create(body) => {
                let mut body = body.clone();
                body["Code"] = json!({ "ZipFile": encoded() });
                let _progress = output::progress(format!("creating {name}"));
                lambda.create(&body).await?;
                settle(lambda, name).await?;
            }
            Step::UpdateCode(configuration) => {
                let _progress = output::progress(format!("updating {name}"));
                lambda.update_code(name, &encoded(), configuration.as_ref()).await?;
                settle(lambda, name).await?;
            }
            Step::UpdateConfiguration(body) => {
                lambda.update_configuration(name, body).await?;
                settle(lambda, name).await?;
            }
            Step::Reserve(count) => drop(lambda.reserve(name, *count).await?),
            Step::Unreserve => lambda.unreserve(name).await?,
            Step::CreateUrl(body) => drop(lambda.create_url(name, body).await?),
            Step::UpdateUrl(body) => drop(lambda.update_url(name, body).await?),
            Step::DeleteUrl => lambda.delete_url(name).await?,
            Step::Tag(tags) => {
                let function = lambda.get(name, None).await?.unwrap_or_default();
                let arn = function["Configuration"]["FunctionArn"].as_str().unwrap_or(name).to_string();
                lambda.tag(&arn, &json!(tags)).await?;
            }
            Step::Delete => lambda.delete(name).await?,
        }
    }
    Ok(())
}

/// Waits until the last change is in force, as the SDKs' waiters do.
async fn settle(lambda: &Lambda, name: &str) -> Result<()> {
    let until = tokio::time::Instant::now() + SETTLE_TIMEOUT;
    loop {
        let function = lambda.get(name, None).await?.unwrap_or_default();
        let configuration = &function["Configuration"];
        let is = |member: &str, value: &str| configuration[member] == value;
        if is("State", "Failed") || is("LastUpdateStatus", "Failed") {
            let reason =
                ["LastUpdateStatusReason", "StateReason"].iter().find_map(|key| configuration[key].as_str());
            let error = Error::new(Exit::Failure, "it could not be made ready");
            return Err(error.because(reason.unwrap_or("the server gave no reason")));
        }
        if !is("State", "Pending") && !is("LastUpdateStatus", "InProgress") {
            return Ok(());
        }
        if tokio::time::Instant::now() >= until {
            return Err(Error::new(Exit::Failure, "it was not ready within 60 s")
                .fix(format!("look at it with `brooklet show {name}`")));
        }
        tokio::time::sleep(SETTLE_PAUSE).await;
    }
}

/// Keeps only the functions that were named.
fn choose(project: &mut Project, only: &[String]) -> Result<()> {
    let names: Vec<String> = project.functions.iter().map(|function| function.name.clone()).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(name)) {
        let near = nearest(unknown, names.iter().map(String::as_str));
        let error =
            Error::new(Exit::Usage, format!("--only {unknown}: there is no such function in the manifest"));
        return Err(error.fix(match near {
            Some(near) => format!("did you mean {near}?"),
            None => format!("it declares {}", names.join(", ")),
        }));
    }
    project.functions.retain(|function| only.is_empty() || only.contains(&function.name));
    Ok(())
}

/// Functions that carry the project's tag and are no longer declared.
async fn stale(lambda: &Lambda, project: &Project) -> Result<Vec<Item>> {
    let mut items = vec![];
    for function in lambda.list().await? {
        let name = function["FunctionName"].as_str().unwrap_or_default();
        if project.functions.iter().any(|declared| declared.name == name) {
            continue;
        }
        let function = lambda.get(name, None).await?.unwrap_or_default();
        if function["Tags"][PROJECT_TAG] == project.name.as_str() {
            items.push(Item::remove(name));
        }
    }
    Ok(items)
}

fn report_plan(items: &[Item], format: Output) -> Result<Exit> {
    let plain = |item: &Item| json!({"name": item.name, "action": item.verb.word(), "changes": item.changes});
    match format {
        Output::Json => output::json(&json!({ "plan": items.iter().map(plain).collect::<Vec<_>>() }))?,
        Output::Table => output::line(show(items))?,
    }
    Ok(Exit::Success)
}

/// What became of a function, for scripts.
async fn result(lambda: &Lambda, item: &Item) -> Result<Value> {
    let mut result = json!({"name": item.name, "action": item.verb.done(), "changes": item.changes});
    if item.verb != Verb::Remove {
        let actual = actual(lambda, &item.name).await?.unwrap_or_default();
        let configuration = &actual.function["Configuration"];
        result["arn"] = configuration["FunctionArn"].clone();
        result["codeSha256"] = configuration["CodeSha256"].clone();
        result["codeSize"] = configuration["CodeSize"].clone();
        result["url"] = actual.url["FunctionUrl"].clone();
    }
    Ok(result)
}

/// What became of a function, for people: `hello  created  python3.12, 1.2 KiB  http://…`.
fn tell(result: &Value) -> String {
    let text = |key: &str| result[key].as_str().unwrap_or_default();
    let size = result["codeSize"].as_u64().map(units::show_size).unwrap_or_default();
    let parts = [text("name"), text("action"), &size, text("url")];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}

/// The line to try next.
fn next_step(server: &str, project: &Project, done: &[Value]) -> String {
    let is_left = |result: &&Value| result["action"] != Verb::Remove.done();
    let Some(result) = done.iter().find(is_left) else { return String::new() };
    let name = result["name"].as_str().unwrap_or_default();
    if result["url"].is_string() {
        // The URL's own host name needs a resolver that knows *.localhost; this path works everywhere.
        return format!("try: curl {server}/fn/{name}/");
    }
    let event = project.functions.iter().find(|f| f.name == name).and_then(|f| project.test_event(f));
    match event {
        Some(event) => format!("try: brooklet invoke {name} --event {}", shorter(&event)),
        None => format!("try: brooklet invoke {name}"),
    }
}

/// Relative to the working directory when it is below it.
fn shorter(path: &std::path::Path) -> String {
    let here = std::env::current_dir().and_then(|dir| dir.canonicalize()).unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
