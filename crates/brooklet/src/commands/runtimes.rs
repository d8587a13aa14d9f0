//! `runtimes`: what functions need beyond their own code.

use crate::build::{Tool, pip};
use crate::cli::{Language, Output, Runtimes};
use crate::config::{cache_dir, default_data_dir};
use crate::error::{Doing, Error, Result};
use crate::exit::Exit;
use crate::machine::{self, Interpreter};
use crate::output;
use node::control::RUNTIMES;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Clients of the AWS SDK that Lambda's Node carries and that functions import most (all of them together are
/// several hundred packages). `--with` adds another.
const NODE_CLIENTS: [&str; 20] = [
    "@aws-sdk/client-bedrock-runtime",
    "@aws-sdk/client-cloudwatch",
    "@aws-sdk/client-cloudwatch-logs",
    "@aws-sdk/client-cognito-identity-provider",
    "@aws-sdk/client-dynamodb",
    "@aws-sdk/client-eventbridge",
    "@aws-sdk/client-firehose",
    "@aws-sdk/client-kinesis",
    "@aws-sdk/client-kms",
    "@aws-sdk/client-lambda",
    "@aws-sdk/client-s3",
    "@aws-sdk/client-secrets-manager",
    "@aws-sdk/client-ses",
    "@aws-sdk/client-sfn",
    "@aws-sdk/client-sns",
    "@aws-sdk/client-sqs",
    "@aws-sdk/client-ssm",
    "@aws-sdk/client-sts",
    "@aws-sdk/lib-dynamodb",
    "@aws-sdk/s3-request-presigner",
];

/// What Lambda's Java carries: the runtime interface client and what handlers are written against.
const JAVA_ARTIFACTS: [(&str, &str); 4] = [
    ("aws-lambda-java-runtime-interface-client", "2.9.0"),
    ("aws-lambda-java-core", "1.4.0"),
    ("aws-lambda-java-events", "3.16.1"),
    ("aws-lambda-java-serialization", "1.2.0"),
];

/// Runs the command.
pub fn run(command: Runtimes) -> Result<Exit> {
    match command {
        Runtimes::List { output: format, data_dir } => list(format, &runtimes_dir(data_dir)),
        Runtimes::Install { mut language, with, data_dir } => {
            if language.contains(&Language::All) {
                language = vec![Language::Python, Language::Node, Language::Java];
            }
            language.sort();
            language.dedup();
            if !with.is_empty() && !language.contains(&Language::Node) {
                return Err(Error::new(
                    Exit::Usage,
                    "--with is for npm packages, and node is not to be installed",
                )
                .fix("write: brooklet runtimes install node --with …"));
            }
            let dir = runtimes_dir(data_dir);
            language
                .into_iter()
                .try_for_each(|language| install(language, &with, &dir))
                .map(|()| Exit::Success)
        }
    }
}

/// `<data-dir>/runtimes`, absolute: package managers are run in folders of their own.
pub fn runtimes_dir(data_dir: Option<String>) -> PathBuf {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let data_dir = data_dir.or_else(|| env("BROOKLET_DATA_DIR")).map(PathBuf::from);
    let dir = data_dir.unwrap_or_else(|| default_data_dir(&env)).join("runtimes");
    std::path::absolute(&dir).unwrap_or(dir)
}

/// The command that installs what runtimes lack here, but for the language: it works when it is copied.
pub fn install_command(data_dir: &Path) -> String {
    const COMMAND: &str = "brooklet runtimes install";
    let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    match data_dir == default_data_dir(&|name| std::env::var(name).ok()) {
        true => COMMAND.to_owned(),
        false => format!("{COMMAND} --data-dir {}", shell_word(&data_dir.to_string_lossy())),
    }
}

/// As a shell reads it back.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,".contains(c);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// What is installed for a language: `boto3 1.40.0`; `None` when nothing is.
pub fn installed(language: &str, dir: &Path) -> Option<String> {
    let named = |folder: PathBuf, prefix: &str, suffix: &str| {
        let names =
            folder.read_dir().ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter_map(|name| Some(name.strip_prefix(prefix)?.strip_suffix(suffix)?.to_string())).max()
    };
    match language {
        "python" => {
            let version = named(dir.join("python/site-packages"), "boto3-", ".dist-info")?;
            Some(format!("boto3 {version}"))
        }
        "node" => {
            let scope = dir.join("node/node_modules/@aws-sdk");
            let bytes = std::fs::read(scope.join("client-s3/package.json")).ok()?;
            let package: Value = serde_json::from_slice(&bytes).ok()?;
            Some(format!("@aws-sdk {}", package["version"].as_str()?))
        }
        "java" => {
            let version = named(dir.join("java/lib"), "aws-lambda-java-runtime-interface-client-", ".jar")?;
            Some(format!("runtime interface client {version}"))
        }
        _ => None,
    }
}

fn list(format: Output, dir: &Path) -> Result<Exit> {
    let all = deployable(machine::interpreters());
    match format {
        Output::Json => {
            let entry = |(runtime, one): &(&str, Option<&Interpreter>)| {
                json!({
                    "runtime": runtime,
                    "program": one.map(|one| &one.program),
                    "installed": one.and_then(|one| installed(one.language, dir)),
                })
            };
            output::json(&all.iter().map(entry).collect())?;
        }
        Output::Table => {
            let row = |(runtime, one): &(&str, Option<&Interpreter>)| {
                let own = "the package's own".to_string();
                let program = one.map_or(own, |one| one.program.display().to_string());
                let extra = one.and_then(|one| installed(one.language, dir));
                vec![runtime.to_string(), program, extra.unwrap_or_else(|| "-".to_string())]
            };
            let rows: Vec<Vec<String>> = all.iter().map(row).collect();
            output::line(output::table(&["RUNTIME", "PROGRAM", "INSTALLED"], &rows))?;
        }
    }
    Ok(Exit::Success)
}

/// The runtimes that functions can have on this machine, by language and version, each with the interpreter that it
/// runs on: of exactly its version, but for Java (that or the next newer) and .NET (any). Those without one run what
/// the package brings.
fn deployable(found: &[Interpreter]) -> Vec<(&'static str, Option<&Interpreter>)> {
    let of = |language: &'static str| found.iter().filter(move |one| one.language == language);
    let exactly = |language: &'static str, version: &str| of(language).find(|one| one.version == version);
    let interpreter = |runtime: &str| -> Option<Option<&Interpreter>> {
        let (language, version) =
            runtime.split_at(runtime.find(|c: char| c.is_ascii_digit()).unwrap_or(runtime.len()));
        match language {
            "python" => exactly("python", version).map(Some),
            "nodejs" => exactly("node", version.trim_end_matches(".x")).map(Some),
            "java" => {
                let least = numbers(version).first().copied();
                let fitting = of("java").filter(|one| numbers(&one.version).first().copied() >= least);
                fitting.min_by_key(|one| numbers(&one.version)).map(Some)
            }
            "dotnet" | "dotnetcore" => of("dotnet").chain(of("mono")).next().map(Some),
            _ => Some(None),
        }
    };
    let runnable = |runtime: &&'static str| interpreter(runtime).map(|one| (*runtime, one));
    let mut all: Vec<_> = RUNTIMES.iter().filter_map(runnable).collect();
    all.sort_by_key(|(runtime, one)| {
        let language = runtime.trim_end_matches(|c: char| !c.is_ascii_alphabetic());
        let place =
            ["python", "nodejs", "java", "dotnet"].iter().position(|known| language.starts_with(known));
        (place.unwrap_or(usize::MAX), one.is_none(), numbers(runtime))
    });
    all
}

/// The numbers in a text, in order: `python3.11` → 3, 11.
fn numbers(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

fn install(language: Language, with: &[String], dir: &Path) -> Result<()> {
    match language {
        Language::Python => replaced(dir, "python", python)?,
        Language::Node => {
            let package = std::fs::read(dir.join("node/package.json")).unwrap_or_default();
            let before = further(&serde_json::from_slice(&package).unwrap_or_default(), with);
            replaced(dir, "node", |new| node(new, before.iter().chain(with)))?;
        }
        Language::Java => replaced(dir, "java", java)?,
        Language::All => unreachable!("taken apart before"),
    }
    let name = format!("{language:?}").to_lowercase();
    let Some(what) = installed(&name, dir) else {
        return Err(Error::new(
            Exit::Build,
            format!("nothing for {name} is in {}", dir.join(&name).display()),
        )
        .because("the package manager said that it succeeded, but did not put there what was asked for")
        .fix("check its configuration (a mirror, another target folder), then try again"));
    };
    output::line(format!("installed {what} in {}", dir.join(&name).display()))
}

/// Installs beside what is there and then takes its place, so that a failed installation breaks nothing.
fn replaced(dir: &Path, name: &str, install: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let (place, new, old) =
        (dir.join(name), dir.join(format!("{name}.new")), dir.join(format!("{name}.old")));
    let remove = |path: &Path| match path.exists() {
        true => std::fs::remove_dir_all(path).doing(|| format!("remove {}", path.display())),
        false => Ok(()),
    };
    remove(&new)?;
    remove(&old)?;
    std::fs::create_dir_all(&new).doing(|| format!("make {}", new.display()))?;
    install(&new)?;
    if place.exists() {
        std::fs::rename(&place, &old).doing(|| format!("move {}", place.display()))?;
    }
    std::fs::rename(&new, &place).doing(|| format!("move {}", new.display()))?;
    remove(&old)
}

/// boto3 has no compiled parts: one copy serves all versions of Python.
fn python(dir: &Path) -> Result<()> {
    let usual = machine::available().python.as_deref();
    let found = usual.and_then(|version| machine::interpreter(machine::interpreters(), "python", version));
    let program = found.map_or(PathBuf::from("python3"), |found| found.program.clone());
    pip(&program)?.arg("--target").arg(dir.join("site-packages")).arg("boto3").run().map(drop)
}

/// The packages beyond the usual ones that a `package.json` of an earlier installation has, with their versions, but
/// for those that are asked for `now`.
fn further(package: &Value, now: &[String]) -> Vec<String> {
    let again = |name: &str| {
        now.iter().any(|asked| asked.rsplit_once('@').map_or("", |(name, _)| name) == name || asked == name)
    };
    let dependencies = package["dependencies"].as_object().into_iter().flatten();
    let kept = dependencies.filter(|(name, _)| !NODE_CLIENTS.contains(&name.as_str()) && !again(name));
    kept.filter_map(|(name, version)| Some(format!("{name}@{}", version.as_str()?))).collect()
}

fn node<'a>(dir: &Path, further: impl Iterator<Item = &'a String>) -> Result<()> {
    std::fs::write(dir.join("package.json"), "{\"private\": true}\n")
        .doing(|| "write package.json".into())?;
    let quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
    Tool::new("npm", "Node.js with npm")
        .arg("install")
        .args(quiet)
        .args(NODE_CLIENTS)
        .args(further)
        .dir(dir)
        .run()
        .map(drop)
}

fn java(dir: &Path) -> Result<()> {
    let dependency = |(artifact, version): (&str, &str)| {
        format!(
            "<dependency><groupId>com.amazonaws</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>"
        )
    };
    let pom = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>brooklet</groupId><artifactId>runtime</artifactId><version>1</version>\
         <packaging>pom</packaging><dependencies>{}</dependencies></project>",
        JAVA_ARTIFACTS.map(dependency).concat()
    );
    let work = cache_dir().join("runtimes-java");
    std::fs::create_dir_all(&work).doing(|| format!("make {}", work.display()))?;
    std::fs::write(work.join("pom.xml"), pom).doing(|| "write pom.xml".into())?;
    let mvn = Tool::new("mvn", "Apache Maven and a JDK").args([
        "--quiet",
        "--batch-mode",
        "dependency:copy-dependencies",
    ]);
    let target = format!("-DoutputDirectory={}", dir.join("lib").display());
    mvn.arg("-DincludeScope=runtime").arg(target).dir(&work).run().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_is_found_from_every_folder() {
        let dir = runtimes_dir(Some("data".into()));
        assert!(dir.is_absolute() && dir.ends_with("data/runtimes"), "{}", dir.display());
    }

    #[test]
    fn the_command_that_installs_names_a_data_directory_of_its_own() {
        let command = |dir: &str| install_command(Path::new(dir));
        assert_eq!(
            install_command(&default_data_dir(&|name| std::env::var(name).ok())),
            "brooklet runtimes install"
        );
        assert_eq!(command("/srv/data-1"), "brooklet runtimes install --data-dir /srv/data-1");
        assert_eq!(command("/a b/it's"), r"brooklet runtimes install --data-dir '/a b/it'\''s'");
    }

    #[test]
    fn what_was_added_for_node_stays_unless_it_is_asked_for_again() {
        let package = json!({"dependencies": {
            "@aws-sdk/client-s3": "^3.1.0", "@aws-sdk/client-ec2": "^3.2.0", "sharp": "0.33.5", "bare": "^1.0.0",
        }});
        let kept = |now: &[&str]| further(&package, &now.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(kept(&[]), ["@aws-sdk/client-ec2@^3.2.0", "sharp@0.33.5", "bare@^1.0.0"]);
        assert_eq!(kept(&["@aws-sdk/client-ec2", "sharp@1", "other"]), ["bare@^1.0.0"]);
        assert!(further(&Value::Null, &[]).is_empty());
    }

    #[test]
    fn what_is_listed_is_what_can_be_deployed() {
        let one = |language, version: &str| Interpreter {
            language,
            version: version.into(),
            program: format!("/{language}{version}").into(),
        };
        let found = [
            one("python", "3.7"),
            one("python", "3.9"),
            one("python", "3.11"),
            one("node", "20"),
            one("java", "17"),
            one("java", "25"),
            one("mono", "6.8.0"),
        ];
        let lines: Vec<String> = deployable(&found)
            .into_iter()
            .map(|(runtime, one)| {
                let program = one.map(|one| one.program.display().to_string());
                format!("{runtime} {}", program.unwrap_or_else(|| "-".into()))
            })
            .collect();
        let expected = [
            "python3.9 /python3.9",
            "python3.11 /python3.11",
            "nodejs20.x /node20",
            "java8.al2 /java17",
            "java11 /java17",
            "java17 /java17",
            "java21 /java25",
            "java25 /java25",
            "dotnetcore3.1 /mono6.8.0",
            "dotnet6 /mono6.8.0",
            "dotnet8 /mono6.8.0",
            "dotnet10 /mono6.8.0",
            "http -",
            "provided -",
            "provided.al2 -",
            "provided.al2023 -",
        ];
        assert_eq!(lines, expected);
        let bare: Vec<&str> = deployable(&[]).into_iter().map(|(runtime, _)| runtime).collect();
        assert_eq!(bare, ["http", "provided", "provided.al2", "provided.al2023"]);
    }
}
