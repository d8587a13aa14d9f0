//! What a deployment has to change: compares what is wanted with what the server has. Pure.

mod fields; // settings that are compared and set alike

use crate::manifest::{Cors, Settings, Url};
use crate::units::show_size;
use fields::{fields, or_none};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The tag that says which project a function belongs to.
pub const PROJECT_TAG: &str = "brooklet:project";
/// `CreateFunction` demands a role; Brooklet has no IAM and only echoes it.
const ROLE: &str = "arn:aws:iam::000000000000:role/brooklet";

/// What a function shall be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its runtime.
    pub runtime: String,
    /// Its handler.
    pub handler: String,
    /// Everything else; `None` leaves what is there.
    pub settings: Settings,
    /// Lambda's `CodeSha256` of the package.
    pub code_sha256: String,
    /// Bytes of the package.
    pub code_size: u64,
    /// The project.
    pub project: String,
}

/// What the server has, in Lambda's own JSON.
#[derive(Clone, Debug, Default)]
pub struct Actual {
    /// `GetFunction`.
    pub function: Value,
    /// `GetFunctionUrlConfig`; `Null` without a URL.
    pub url: Value,
}

/// What is done with a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It is new.
    Create,
    /// Something changed.
    Update,
    /// Nothing changed.
    Unchanged,
    /// It is no longer declared.
    Remove,
}

impl Verb {
    /// `create`, `update`, …
    pub fn word(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Unchanged => "unchanged",
            Verb::Remove => "remove",
        }
    }

    /// `created`, `updated`, …
    pub fn done(self) -> &'static str {
        match self {
            Verb::Create => "created",
            Verb::Update => "updated",
            Verb::Unchanged => "unchanged",
            Verb::Remove => "removed",
        }
    }
}

/// One call of the API.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// `CreateFunction`; the code is added when it is sent.
    Create(Value),
    /// `UpdateFunctionCode`, with the configuration when that changes too: in two calls, a request in between
    /// would run the new code with the old settings.
    UpdateCode(Option<Value>),
    /// `UpdateFunctionConfiguration`.
    UpdateConfiguration(Value),
    /// `PutFunctionConcurrency`.
    Reserve(u64),
    /// `DeleteFunctionConcurrency`.
    Unreserve,
    /// `CreateFunctionUrlConfig`.
    CreateUrl(Value),
    /// `UpdateFunctionUrlConfig`.
    UpdateUrl(Value),
    /// `DeleteFunctionUrlConfig`.
    DeleteUrl,
    /// `TagResource`.
    Tag(BTreeMap<String, String>),
    /// `DeleteFunction`.
    Delete,
}

/// The plan for one function.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The function.
    pub name: String,
    /// What is done.
    pub verb: Verb,
    /// What changes, for people.
    pub changes: Vec<String>,
    /// The calls, in order.
    pub steps: Vec<Step>,
}

impl Item {
    /// Whether something is lost that a later deployment cannot bring back (a URL's address, a function).
    pub fn is_destructive(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Delete | Step::DeleteUrl))
    }

    /// The plan to remove a function.
    pub fn remove(name: &str) -> Item {
        let changes = vec!["no longer declared".to_string()];
        Item { name: name.to_string(), verb: Verb::Remove, changes, steps: vec![Step::Delete] }
    }
}

/// Compares. `actual` is `None` when there is no such function.
pub fn plan(wanted: &Wanted, actual: Option<&Actual>) -> Item {
    let mut steps = vec![];
    let mut changes = vec![];
    let nothing = Actual::default();
    match actual {
        None => {
            changes.push(format!("{}, {}", wanted.runtime, show_size(wanted.code_size)));
            steps.push(Step::Create(create(wanted)));
        }
        Some(actual) => update(wanted, actual, &mut steps, &mut changes),
    }
    concurrency(wanted, actual.unwrap_or(&nothing), &mut steps, &mut changes);
    url(wanted, actual.unwrap_or(&nothing), &mut steps, &mut changes);
    let verb = match (actual, steps.is_empty()) {
        (None, _) => Verb::Create,
        (_, true) => Verb::Unchanged,
        _ => Verb::Update,
    };
    Item { name: wanted.name.clone(), verb, changes, steps }
}

/// One line a function, names in one column.
pub fn show(items: &[Item]) -> String {
    let width = items.iter().map(|item| item.name.chars().count()).max().unwrap_or(0);
    let line = |item: &Item| {
        let text = format!("{:<width$}  {:<9}  {}", item.name, item.verb.word(), item.changes.join(", "));
        text.trim_end().to_string()
    };
    items.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn create(wanted: &Wanted) -> Value {
    let mut body = Map::new();
    body.insert("FunctionName".into(), json!(wanted.name));
    body.insert("Runtime".into(), json!(wanted.runtime));
    body.insert("Handler".into(), json!(wanted.handler));
    body.insert("Role".into(), json!(ROLE));
    body.insert("Tags".into(), json!(tags(wanted)));
    fields(&wanted.settings).iter().for_each(|field| field.put(&mut body));
    Value::Object(body)
}

fn update(wanted: &Wanted, actual: &Actual, steps: &mut Vec<Step>, changes: &mut Vec<String>) {
    let configuration = &actual.function["Configuration"];
    let new_code = configuration["CodeSha256"] != wanted.code_sha256.as_str();
    if new_code {
        let old = configuration["CodeSize"].as_u64().unwrap_or(0);
        changes.push(match (show_size(old), show_size(wanted.code_size)) {
            (old, new) if old == new => format!("code {new}"),
            (old, new) => format!("code {old} → {new}"),
        });
    }
    let mut body = Map::new();
    let plain = [("Runtime", "runtime", &wanted.runtime), ("Handler", "handler", &wanted.handler)];
    for (member, label, value) in plain {
        let old = configuration[member].as_str().unwrap_or_default();
        if old != value {
            changes.push(format!("{label} {} → {}", or_none(old), or_none(value)));
            body.insert(member.to_string(), json!(value));
        }
    }
    for field in fields(&wanted.settings) {
        let old = field.old(configuration);
        if old != field.value {
            changes.push(field.describe(&old));
            field.put(&mut body);
        }
    }
    let body = (!body.is_empty()).then_some(Value::Object(body));
    match (new_code, body) {
        (true, body) => steps.push(Step::UpdateCode(body)),
        (false, Some(body)) => steps.push(Step::UpdateConfiguration(body)),
        (false, None) => {}
    }
    update_tags(wanted, actual, steps, changes);
}

/// Adds and changes tags; those that others gave the function stay.
fn update_tags(wanted: &Wanted, actual: &Actual, steps: &mut Vec<Step>, changes: &mut Vec<String>) {
    let old = &actual.function["Tags"];
    let mut new = tags(wanted);
    new.retain(|key, value| old[key] != value.as_str());
    if new.is_empty() {
        return;
    }
    if new.contains_key(PROJECT_TAG) {
        let owner = old[PROJECT_TAG].as_str().unwrap_or_default();
        changes.push(format!("project {} → {}", or_none(owner), wanted.project));
    }
    let others: Vec<&str> = new.keys().map(String::as_str).filter(|key| *key != PROJECT_TAG).collect();
    if !others.is_empty() {
        changes.push(format!("tags {}", others.join(" ")));
    }
    steps.push(Step::Tag(new));
}

fn concurrency(wanted: &Wanted, actual: &Actual, steps: &mut Vec<Step>, changes: &mut Vec<String>) {
    let Some(new) = wanted.settings.concurrency else { return };
    let old = actual.function["Concurrency"]["ReservedConcurrentExecutions"].as_u64();
    if old == new {
        return;
    }
    let show = |value: Option<u64>| value.map_or("none".to_string(), |number| number.to_string());
    changes.push(format!("concurrency {} → {}", show(old), show(new)));
    steps.push(new.map_or(Step::Unreserve, Step::Reserve));
}

fn url(wanted: &Wanted, actual: &Actual, steps: &mut Vec<Step>, changes: &mut Vec<String>) {
    let Some(new) = &wanted.settings.url else { return };
    match (actual.url.is_null(), new) {
        (true, None) => {}
        (true, Some(new)) => {
            changes.push("url".to_string());
            steps.push(Step::CreateUrl(url_body(new)));
        }
        (false, None) => {
            changes.push("url removed".to_string());
            steps.push(Step::DeleteUrl);
        }
        (false, Some(new)) => {
            let body = url_body(new);
            let old =
                |member: &str, default: &str| actual.url[member].as_str().unwrap_or(default).to_string();
            let same = old("AuthType", "NONE") == new.auth
                && old("InvokeMode", "BUFFERED") == body["InvokeMode"].as_str().unwrap_or_default()
                && cors_of(&actual.url["Cors"]) == cors_of(&body["Cors"]);
            if !same {
                changes.push("url settings".to_string());
                steps.push(Step::UpdateUrl(body));
            }
        }
    }
}

fn url_body(url: &Url) -> Value {
    let cors = |cors: &Cors| {
        json!({
            "AllowOrigins": cors.origins,
            "AllowMethods": cors.methods,
            "AllowHeaders": cors.headers,
            "ExposeHeaders": cors.expose,
            "AllowCredentials": cors.credentials,
            "MaxAge": cors.max_age_s,
        })
    };
    json!({
        "AuthType": url.auth,
        "InvokeMode": if url.stream { "RESPONSE_STREAM" } else { "BUFFERED" },
        // An empty object takes the CORS settings away; leaving the member out would keep them.
        "Cors": url.cors.as_ref().map_or_else(|| json!({}), cors),
    })
}

/// CORS settings without the members that only say their default.
fn cors_of(value: &Value) -> BTreeMap<String, Value> {
    let is_default = |value: &Value| match value {
        Value::Array(list) => list.is_empty(),
        other => *other == json!(false) || *other == json!(0) || other.is_null(),
    };
    let members = value.as_object().into_iter().flatten();
    members.filter(|(_, v)| !is_default(v)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn tags(wanted: &Wanted) -> BTreeMap<String, String> {
    let mut tags = wanted.settings.tags.clone();
    tags.insert(PROJECT_TAG.to_string(), wanted.project.clone());
    tags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Source;

    /// The function that a manifest with these lines in `[function.hello]` wants.
    fn wanted(lines: &str) -> Wanted {
        let text = format!("[function.hello]\n{lines}");
        let manifest = crate::manifest::parse(Source { name: "brooklet.toml", text: &text }).expect("parses");
        Wanted {
            name: "hello".into(),
            runtime: "python3.12".into(),
            handler: "app.handler".into(),
            settings: manifest.functions[0].settings.clone(),
            code_sha256: "sha-1".into(),
            code_size: 2_048,
            project: "shop".into(),
        }
    }

    /// What the server answers after `wanted` was created.
    fn deployed(wanted: &Wanted) -> Actual {
        let mut configuration = create(wanted);
        configuration["CodeSha256"] = json!(wanted.code_sha256);
        configuration["CodeSize"] = json!(wanted.code_size);
        let layers = wanted.settings.layers.iter().flatten().map(|arn| json!({"Arn": arn, "CodeSize": 1}));
        configuration["Layers"] = layers.collect();
        let concurrency = wanted.settings.concurrency.flatten();
        let function = json!({
            "Tags": configuration["Tags"],
            "Configuration": configuration,
            "Concurrency": {"ReservedConcurrentExecutions": concurrency},
        });
        let url = wanted.settings.url.as_ref().and_then(|url| Some(url_body(url.as_ref()?)));
        Actual { function, url: url.unwrap_or(Value::Null) }
    }

    /// The plan for going from one manifest to another, as people see it and as the calls that are made.
    fn check(before: Option<&str>, after: &str, shown: &str, calls: &[&str]) {
        let actual = before.map(|lines| deployed(&wanted(lines)));
        let item = plan(&wanted(after), actual.as_ref());
        let made: Vec<String> = item
            .steps
            .iter()
            .map(|step| match step {
                Step::UpdateConfiguration(body) => format!("UpdateConfiguration {body}"),
                Step::UpdateCode(Some(body)) => format!("UpdateCode {body}"),
                other => format!("{other:?}").split('(').next().unwrap_or_default().to_string(),
            })
            .collect();
        assert_eq!(
            (show(std::slice::from_ref(&item)).as_str(), made),
            (shown, calls.iter().map(|c| c.to_string()).collect())
        );
    }

    #[test]
    fn a_new_function_is_created_with_all_that_it_has() {
        check(
            None,
            "url = true\nconcurrency = 5",
            "hello  create     python3.12, 2 KiB, concurrency none → 5, url",
            &["Create", "Reserve", "CreateUrl"],
        );
    }

    #[test]
    fn what_is_as_declared_is_left_alone() {
        let everything = "memory = '256MiB'\nenvironment = {AA = '1'}\nlayers = ['arn:l:1']\nconcurrency = 2\n\
                          url = {cors = {origins = ['*'], max-age = '1h'}}\nlog-format = 'JSON'\ntags = {team = 'x'}";
        check(Some(everything), everything, "hello  unchanged", &[]);
        check(Some(""), "", "hello  unchanged", &[]);
    }

    #[test]
    fn only_what_changed_is_sent() {
        check(
            Some("memory = '256MiB'\nenvironment = {KEEP = '1', OLD = '1', SECRET = 'a'}"),
            "timeout = '10s'\nenvironment = {KEEP = '1', NEW = '1', SECRET = 'b'}",
            "hello  update     memory 256 MiB → 128 MiB, timeout 3 s → 10 s, environment +NEW -OLD ~SECRET",
            &[
                r#"UpdateConfiguration {"MemorySize":128,"Timeout":10,"Environment":{"Variables":{"KEEP":"1","NEW":"1","SECRET":"b"}}}"#,
            ],
        );
    }

    #[test]
    fn what_is_no_longer_declared_goes() {
        let before = "concurrency = 2\nurl = true\nlayers = ['arn:l:1']";
        check(
            Some(before),
            "",
            "hello  update     layers arn:l:1 → none, concurrency 2 → none, url removed",
            &[r#"UpdateConfiguration {"Layers":[]}"#, "Unreserve", "DeleteUrl"],
        );
        assert!(plan(&wanted(""), Some(&deployed(&wanted(before)))).is_destructive());
    }

    #[test]
    fn url_settings_are_compared_without_their_defaults() {
        check(Some("url = true"), "url = {stream = true}", "hello  update     url settings", &["UpdateUrl"]);
        check(Some("url = true"), "url = {cors = {}}", "hello  unchanged", &[]);
        check(
            Some("url = true"),
            "url = {cors = {origins = ['*']}}",
            "hello  update     url settings",
            &["UpdateUrl"],
        );
    }

    #[test]
    fn new_code_is_uploaded_together_with_the_configuration() {
        let mut actual = deployed(&wanted(""));
        actual.function["Configuration"]["CodeSha256"] = json!("sha-0");
        let item = plan(&wanted(""), Some(&actual));
        assert_eq!(
            (item.changes, item.steps),
            (vec!["code 2 KiB".to_string()], vec![Step::UpdateCode(None)])
        );
        let item = plan(&wanted("timeout = '9s'"), Some(&actual));
        assert_eq!(item.steps, [Step::UpdateCode(Some(json!({ "Timeout": 9 })))]);
    }

    #[test]
    fn a_function_of_another_project_is_said_to_change_hands() {
        let theirs = Wanted { project: "theirs".into(), ..wanted("tags = {team = 'x'}") };
        let item = plan(&wanted("tags = {team = 'y'}"), Some(&deployed(&theirs)));
        assert_eq!(item.changes, ["project theirs → shop", "tags team"]);
    }

    #[test]
    fn without_a_manifest_only_code_runtime_and_handler_matter() {
        let bare = Wanted { settings: Settings::default(), ..wanted("") };
        let rich =
            deployed(&wanted("memory = '1GiB'\nurl = true\nconcurrency = 3\nenvironment = {AA = '1'}"));
        assert_eq!(plan(&bare, Some(&rich)).verb, Verb::Unchanged);
        let moved = Wanted { handler: "other.handler".into(), ..bare };
        assert_eq!(plan(&moved, Some(&rich)).changes, ["handler app.handler → other.handler"]);
    }
}
