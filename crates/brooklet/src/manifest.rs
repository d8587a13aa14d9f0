//! `brooklet.toml`: what a project declares. The doc comments here are the reference (docs/manifest.md shows
//! them to users).

use crate::document::{Found, Mistake, Source, Table, fail, nearest};
use crate::error::Result;
use crate::units;
use node::control::RUNTIMES;
use std::collections::BTreeMap;

/// The file's name, beside the code.
pub const FILE: &str = "brooklet.toml";

/// A whole manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Marks the functions as this project's, so that `--prune` knows which ones are. 1 to 64 letters,
    /// digits, `-` and `_`. Default: the folder's name.
    pub project: Option<String>,
    /// One table `[function.NAME]` each, by name.
    pub functions: Vec<Function>,
}

/// One function: where its code is and how it is built and run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// 1 to 64 letters, digits, `-` and `_`.
    pub name: String,
    /// The folder of the code, relative to the manifest. Default `.`.
    pub path: String,
    /// Lambda's runtime identifier (`python3.12`, `nodejs20.x`, `java21`, `dotnet8`, `provided.al2023`) or
    /// `http` for a program that listens on `$PORT`. Default: detected.
    pub runtime: Option<String>,
    /// What the runtime calls: `module.function`, a class, `Assembly::Type::Method`; for `http` the command
    /// line. Default: detected.
    pub handler: Option<String>,
    /// How the package is made. Default: as the language needs it.
    pub build: Build,
    /// The folder that becomes the package after `build`, relative to `path`. Default: `path` itself.
    pub package: Option<String>,
    /// Everything else.
    pub settings: Settings,
}

/// How the package is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Build {
    /// As the detected language needs it.
    Detect,
    /// `build = false`: the folder is packaged as it is.
    Skip,
    /// `build = "command"`: run by `sh -c` in the folder.
    Command(String),
}

/// What can be set without touching the code. `None` leaves the function as it is (and takes the API's
/// default when it is new); a manifest sets everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// At most 256 characters. Default empty.
    pub description: Option<String>,
    /// MiB, 128 to 10,240. Default 128MiB.
    pub memory_mib: Option<u64>,
    /// Seconds, 1 to 900. Default 3s.
    pub timeout_s: Option<u64>,
    /// Size of `/tmp` in MiB, 512 to 10,240. Default 512MiB.
    pub ephemeral_storage_mib: Option<u64>,
    /// Environment variables, at most 4 KiB in all as JSON. Default none.
    pub environment: Option<BTreeMap<String, String>>,
    /// Layer version ARNs, in order. Default none.
    pub layers: Option<Vec<String>>,
    /// `Text` or `JSON`. Default `Text`.
    pub log_format: Option<String>,
    /// What it reaches over the network: `none`, `internet`, `host`, or `default`, which the server's configuration says.
    /// Default `default`.
    pub network: Option<String>,
    /// Requests that one instance runs at once: 1 to 1,000; more than 1 needs the runtime `http`. Default 1.
    pub instance_concurrency: Option<u64>,
    /// Reserved concurrency; 0 stops the function. Default: none, it shares the account's.
    pub concurrency: Option<Option<u64>>,
    /// The function's URL. Default: it has none.
    pub url: Option<Option<Url>>,
    /// At most 50. Default none.
    pub tags: BTreeMap<String, String>,
}

/// `url = true` or a table `url = { … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// `NONE`: anyone may call; `AWS_IAM`: requests must be signed. Default `NONE`.
    pub auth: String,
    /// Whether each write of the function is flushed to the caller. Default `false`.
    pub stream: bool,
    /// Answers to browsers of other origins. Default: no CORS headers.
    pub cors: Option<Cors>,
}

/// `cors = { … }` of a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Origins that may call; `*` for all.
    pub origins: Vec<String>,
    /// Methods that may be used; `*` for all.
    pub methods: Vec<String>,
    /// Request headers that may be sent; `*` for all.
    pub headers: Vec<String>,
    /// Response headers that a page may read.
    pub expose: Vec<String>,
    /// Whether cookies may be sent. Default `false`.
    pub credentials: bool,
    /// How long a browser may keep the preflight answer: 0s to 24h, in seconds. Default 0s.
    pub max_age_s: u64,
}

/// Reads a manifest; every mistake at once.
pub fn parse(source: Source<'_>) -> Result<Manifest> {
    let mut mistakes = vec![];
    let mut root = Table::parse(source);
    let project = root.parsed("project", name).map(|found| found.value);
    let mut functions = vec![];
    match root.table("function") {
        Some(mut tables) => {
            for key in tables.keys() {
                if let Some(table) = tables.named_table(&key) {
                    functions.push(function(key, table, &mut mistakes));
                }
            }
            tables.finish(&mut mistakes);
        }
        None if root.mistakes.is_empty() => {
            let what = "no function is declared: add a table such as [function.hello]";
            mistakes.push(Mistake { place: source.place(0), what: what.to_string() });
        }
        None => {}
    }
    root.finish(&mut mistakes);
    if mistakes.is_empty() { Ok(Manifest { project, functions }) } else { Err(fail(mistakes)) }
}

fn function(name_text: String, mut table: Table<'_>, mistakes: &mut Vec<Mistake>) -> Function {
    if let Err(what) = name(&name_text) {
        mistakes.push(Mistake { place: table.place(), what });
    }
    let runtime = table.parsed("runtime", runtime);
    let instance_concurrency = table.parsed("instance-concurrency", |text| range(text, 1, 1_000));
    if let (Some(Found { value: 2.., place }), Some(runtime)) = (&instance_concurrency, &runtime)
        && runtime.value != "http"
    {
        let place = place.clone();
        table.mistake(&place, "instance-concurrency above 1 needs runtime = \"http\"");
    }
    let function = Function {
        name: name_text,
        path: value(table.parsed("path", inside)).unwrap_or_else(|| ".".to_string()),
        handler: value(table.string("handler")),
        build: build(&mut table),
        package: value(table.parsed("package", inside)),
        settings: Settings {
            description: Some(value(table.parsed("description", description)).unwrap_or_default()),
            memory_mib: Some(value(table.parsed("memory", |text| mib(text, 128, 10_240))).unwrap_or(128)),
            timeout_s: Some(value(table.parsed("timeout", |text| seconds(text, 1, 900))).unwrap_or(3)),
            ephemeral_storage_mib: Some(
                value(table.parsed("ephemeral-storage", |text| mib(text, 512, 10_240))).unwrap_or(512),
            ),
            environment: Some(environment(&mut table)),
            layers: Some(value(table.strings("layers")).unwrap_or_default()),
            log_format: Some(
                value(table.parsed("log-format", |text| one_of(text, &["Text", "JSON"])))
                    .unwrap_or_else(|| "Text".to_string()),
            ),
            network: Some(
                value(table.parsed("network", |text| one_of(text, &["default", "none", "internet", "host"])))
                    .unwrap_or_else(|| "default".to_string()),
            ),
            instance_concurrency: Some(value(instance_concurrency).unwrap_or(1)),
            concurrency: Some(value(table.parsed("concurrency", |text| range(text, 0, 100_000)))),
            url: Some(url(&mut table, mistakes)),
            tags: value(table.texts("tags")).unwrap_or_default(),
        },
        runtime: value(runtime),
    };
    table.finish(mistakes);
    function
}

fn build(table: &mut Table<'_>) -> Build {
    if !table.is_boolean("build") {
        return value(table.string("build")).map_or(Build::Detect, Build::Command);
    }
    match table.boolean("build") {
        Some(Found { value: false, .. }) => Build::Skip,
        _ => Build::Detect,
    }
}

fn environment(table: &mut Table<'_>) -> BTreeMap<String, String> {
    let Some(Found { value, place }) = table.texts("environment") else { return BTreeMap::new() };
    for key in value.keys().filter(|key| !is_variable(key)) {
        table.mistake(
            &place,
            format!(
                "environment: `{key}` is not a variable name: a letter, then one or more letters, digits, _"
            ),
        );
    }
    // Measured as the service does.
    let size = serde_json::to_string(&value).unwrap_or_default().len();
    if size > 4096 {
        table.mistake(
            &place,
            format!("environment: {size} bytes (as JSON) are more than the 4096 that Lambda allows"),
        );
    }
    value
}

fn url(table: &mut Table<'_>, mistakes: &mut Vec<Mistake>) -> Option<Url> {
    if !table.is_table("url") {
        let plain = Url { auth: "NONE".to_string(), stream: false, cors: None };
        return value(table.boolean("url")).unwrap_or(false).then_some(plain);
    }
    let mut inner = table.table("url")?;
    let url = Url {
        auth: value(inner.parsed("auth", |text| one_of(text, &["NONE", "AWS_IAM"])))
            .unwrap_or_else(|| "NONE".to_string()),
        stream: value(inner.boolean("stream")).unwrap_or(false),
        cors: inner.table("cors").map(|table| cors(table, mistakes)),
    };
    inner.finish(mistakes);
    Some(url)
}

fn cors(mut table: Table<'_>, mistakes: &mut Vec<Mistake>) -> Cors {
    let cors = Cors {
        origins: value(table.strings("origins")).unwrap_or_default(),
        methods: value(table.strings("methods")).unwrap_or_default(),
        headers: value(table.strings("headers")).unwrap_or_default(),
        expose: value(table.strings("expose")).unwrap_or_default(),
        credentials: value(table.boolean("credentials")).unwrap_or(false),
        max_age_s: value(table.parsed("max-age", |text| seconds(text, 0, 86_400))).unwrap_or(0),
    };
    table.finish(mistakes);
    cors
}

fn value<T>(found: Option<Found<T>>) -> Option<T> {
    found.map(|found| found.value)
}

/// A function's or project's name: 1 to 64 letters, digits, `-` and `_` (API reference, CreateFunction).
pub fn name(text: &str) -> std::result::Result<String, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match (1..=64).contains(&text.len()) && text.bytes().all(fits) {
        true => Ok(text.to_string()),
        false => Err(format!("`{text}` is not a name: 1 to 64 letters, digits, - and _")),
    }
}

/// A runtime identifier that Brooklet could run; whether this machine has its interpreter, the server says.
pub fn runtime(text: &str) -> std::result::Result<String, String> {
    if RUNTIMES.contains(&text) {
        return Ok(text.to_string());
    }
    let hint = match nearest(text, RUNTIMES.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", RUNTIMES.join(", ")),
    };
    Err(format!("`{text}` is not a runtime that runs here: {hint}"))
}

/// A path that stays inside the folder of the manifest.
fn inside(text: &str) -> std::result::Result<String, String> {
    let outside = text.starts_with('/') || text.split('/').any(|part| part == "..");
    match text.is_empty() || outside {
        true => Err(format!("`{text}` is not a path inside the folder: relative and without ..")),
        false => Ok(text.trim_end_matches('/').to_string()),
    }
}

fn description(text: &str) -> std::result::Result<String, String> {
    match text.chars().count() {
        0..=256 => Ok(text.to_string()),
        n => Err(format!("{n} characters are more than 256")),
    }
}

fn mib(text: &str, least: u64, most: u64) -> std::result::Result<u64, String> {
    let bytes = units::size(text)?;
    match bytes % (1 << 20) == 0 && (least..=most).contains(&(bytes >> 20)) {
        true => Ok(bytes >> 20),
        false => Err(format!("`{text}` is outside {least}MiB to {most}MiB in whole MiB")),
    }
}

fn seconds(text: &str, least: u64, most: u64) -> std::result::Result<u64, String> {
    let millis = units::duration(text)?.as_millis() as u64;
    match millis.is_multiple_of(1_000) && (least..=most).contains(&(millis / 1_000)) {
        true => Ok(millis / 1_000),
        false => Err(format!("`{text}` is outside {least}s to {most}s in whole seconds")),
    }
}

fn range(text: &str, least: u64, most: u64) -> std::result::Result<u64, String> {
    let number = text.replace('_', "").parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("`{text}` is not a whole number from {least} to {most}"))
}

fn one_of(text: &str, choices: &[&str]) -> std::result::Result<String, String> {
    match choices.contains(&text) {
        true => Ok(text.to_string()),
        false => Err(format!("`{text}` is not one of {}", choices.join(", "))),
    }
}

fn is_variable(name: &str) -> bool {
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Manifest> {
        parse(Source { name: FILE, text })
    }

    #[test]
    fn ranges_are_those_of_the_reference() {
        let long = |length: usize| format!("'{}'", "x".repeat(length));
        let variable = |length: usize| format!("{{ AB = '{}' }}", "x".repeat(length - r#"{"AB":""}"#.len()));
        let rows = [
            (
                "memory",
                ["'128MiB'", "'10240MiB'"].map(String::from),
                ["'127MiB'", "'10241MiB'"].map(String::from),
            ),
            ("timeout", ["'1s'", "'15m'"].map(String::from), ["'0s'", "'901s'"].map(String::from)),
            (
                "ephemeral-storage",
                ["'512MiB'", "'10240MiB'"].map(String::from),
                ["'511MiB'", "'10241MiB'"].map(String::from),
            ),
            ("concurrency", ["0", "100000"].map(String::from), ["-1", "100001"].map(String::from)),
            ("description", [long(0), long(256)], [long(257), long(1_000)]),
            ("environment", [variable(9), variable(4_096)], [variable(4_097), variable(9_000)]),
        ];
        for (key, fitting, others) in rows {
            let with = |value: &String| read(&format!("[function.a]\n{key} = {value}"));
            fitting.iter().for_each(|value| assert!(with(value).is_ok(), "{key} = {value}"));
            others.iter().for_each(|value| assert!(with(value).is_err(), "{key} = {value}"));
        }
        for (count, fits) in [(0, false), (1, true), (1_000, true), (1_001, false)] {
            let text = format!("[function.a]\nruntime = 'http'\ninstance-concurrency = {count}");
            assert_eq!(read(&text).is_ok(), fits, "{count}");
        }
        for (age, fits) in [("0s", true), ("24h", true), ("25h", false)] {
            let text = format!("[function.a]\nurl = {{ cors = {{ max-age = '{age}' }} }}");
            assert_eq!(read(&text).is_ok(), fits, "{age}");
        }
    }

    #[test]
    fn a_table_is_enough_and_everything_else_has_its_default() {
        let manifest = read("[function.hello]").expect("parses");
        let settings = Settings {
            description: Some(String::new()),
            memory_mib: Some(128),
            timeout_s: Some(3),
            ephemeral_storage_mib: Some(512),
            environment: Some(BTreeMap::new()),
            layers: Some(vec![]),
            log_format: Some("Text".into()),
            network: Some("default".into()),
            instance_concurrency: Some(1),
            concurrency: Some(None),
            url: Some(None),
            tags: BTreeMap::new(),
        };
        let hello = Function {
            name: "hello".into(),
            path: ".".into(),
            runtime: None,
            handler: None,
            build: Build::Detect,
            package: None,
            settings,
        };
        assert_eq!(manifest, Manifest { project: None, functions: vec![hello] });
    }

    #[test]
    fn every_key_is_understood() {
        let manifest = read(
            r#"
            project = "shop"
            [function.web]
            path = "web/"
            runtime = "http"
            handler = "node server.js"
            build = "make"
            package = "dist"
            description = "the shop"
            memory = "1GiB"
            timeout = "2m"
            ephemeral-storage = "1GiB"
            environment = { LEVEL = "debug", RETRIES = 3 }
            layers = ["arn:aws:lambda:us-east-1:000000000000:layer:a:1"]
            network = "none"
            log-format = "JSON"
            instance-concurrency = 50
            concurrency = 0
            tags = { team = "blue" }
            [function.web.url]
            auth = "AWS_IAM"
            stream = true
            cors = { origins = ["*"], methods = ["GET"], headers = [], expose = ["x-a"], credentials = true, max-age = "1h" }
            [function.worker]
            build = false
            url = true
            "#,
        )
        .expect("parses");
        insta::assert_debug_snapshot!(manifest);
    }

    #[test]
    fn all_mistakes_come_at_once_with_line_and_nearest_key() {
        let error = read(
            r#"projct = "shop"
[function."no spaces"]
[function.web]
runtime = "pyhton3.12"
memory = 128
timeout = "16m"
path = "../other"
handlr = "a.b"
environment = { "1A" = "x" }
instance-concurrency = 5
url = { auth = "PUBLIC", strem = true }
[function.worker]
runtime = "python3.12"
instance-concurrency = 5
layers = "arn"
"#,
        )
        .expect_err("has mistakes");
        insta::assert_snapshot!(error.to_string());
    }

    #[test]
    fn a_syntax_error_has_its_line() {
        let error = read("[function.a]\nmemory = \n").expect_err("does not parse");
        assert!(error.to_string().contains("brooklet.toml:2: "), "{error}");
    }

    #[test]
    fn an_empty_manifest_says_what_to_add() {
        let error = read("").expect_err("declares nothing");
        assert!(error.to_string().contains("[function.hello]"), "{error}");
    }

    #[test]
    fn the_reference_for_users_names_every_key() {
        let reference = include_str!("../../../docs/manifest.md");
        let keys = "project path runtime handler build package description memory timeout ephemeral-storage \
                    environment layers log-format instance-concurrency concurrency url tags auth stream cors \
                    origins methods headers expose credentials max-age";
        for key in keys.split_whitespace() {
            assert!(reference.contains(&format!("`{key}`")), "docs/manifest.md lacks {key}");
        }
    }
}
