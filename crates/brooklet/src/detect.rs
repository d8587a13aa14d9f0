//! Says what a folder without a manifest is: its language, the runtime and the handler. Pure: it sees a list
//! of files and their text.

use crate::manifest;
use std::collections::BTreeMap;

/// The files of a folder or zip: path → whether it is executable, and a way to read the text of one.
pub struct Tree<'a> {
    /// Path with `/` → whether it is executable.
    pub files: BTreeMap<String, bool>,
    /// The text of a file; `None` when it is not text.
    pub read: Box<Reader<'a>>,
}

/// Gives the text of a file of a [`Tree`].
pub type Reader<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// How a folder is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Files as they are, with requirements.
    Python,
    /// Files as they are, with dependencies.
    Node,
    /// Compiled to JavaScript.
    TypeScript,
    /// Compiled to `bootstrap`.
    Go,
    /// Compiled to `bootstrap`.
    Rust,
    /// Compiled to a jar with its dependencies in `lib`.
    Java,
    /// Compiled to an assembly.
    CSharp,
    /// Nothing to build: a `bootstrap`, or a program for the HTTP contract.
    Plain,
}

/// What a folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// How it is built.
    pub language: Language,
    /// The runtime to ask for.
    pub runtime: String,
    /// The handler to ask for.
    pub handler: String,
}

/// Newest version of each language on this machine, for folders that do not say which they want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Available {
    /// Such as `3.12`.
    pub python: Option<String>,
    /// Such as `20`.
    pub node: Option<String>,
    /// Such as `21`.
    pub java: Option<String>,
}

/// Why nothing could be detected: what is missing and what to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unclear {
    /// What was looked for and not found.
    pub what: String,
    /// What to do.
    pub fix: String,
}

type Result<T> = std::result::Result<T, Unclear>;

/// Says what `tree` is. `runtime` and `handler` are what the user said already; `available` is asked only when
/// a version has to be chosen.
pub fn detect(
    tree: &Tree<'_>,
    runtime: Option<&str>,
    handler: Option<&str>,
    available: &dyn Fn() -> Available,
) -> Result<Detected> {
    let language = language(tree, runtime)?;
    let start = tree.start_script();
    let runtime = match (runtime, language) {
        (Some(runtime), _) => runtime.to_string(),
        (None, Language::Node) if handler.is_none() && tree.js_handler().is_none() && start.is_some() => {
            "http".to_string()
        }
        (None, language) => default_runtime(language, &available()),
    };
    let handler = match (handler, language) {
        (Some(handler), _) => handler.to_string(),
        (None, _) if runtime == "http" => tree.http_command(start)?,
        (None, Language::Python) => tree.python_handler()?,
        (None, Language::Node | Language::TypeScript) => tree.js_handler().ok_or_else(no_js_handler)?,
        (None, Language::Java) => tree.java_handler()?,
        (None, Language::CSharp) => tree.csharp_handler()?,
        (None, Language::Go | Language::Rust | Language::Plain) => "bootstrap".to_string(),
    };
    Ok(Detected { language, runtime, handler })
}

fn language(tree: &Tree<'_>, runtime: Option<&str>) -> Result<Language> {
    let wants = |prefix: &str| runtime.is_none_or(|runtime| runtime.starts_with(prefix) || runtime == "http");
    let found = [
        (wants("provided") && tree.has("Cargo.toml"), Language::Rust),
        (wants("provided") && tree.has("go.mod"), Language::Go),
        (wants("java") && tree.has("pom.xml"), Language::Java),
        (
            wants("dotnet") && tree.any(|path| path.ends_with(".csproj") || path.ends_with(".cs")),
            Language::CSharp,
        ),
        (wants("provided") && tree.files.get("bootstrap") == Some(&true), Language::Plain),
        (wants("nodejs") && tree.is_typescript(), Language::TypeScript),
        (wants("nodejs") && tree.any(is_js), Language::Node),
        (wants("python") && tree.any(|path| path.ends_with(".py")), Language::Python),
    ];
    if let Some((_, language)) = found.into_iter().find(|(is, _)| *is) {
        return Ok(language);
    }
    match runtime {
        // A package that was built elsewhere: jars, assemblies, a program.
        Some(_) => Ok(Language::Plain),
        None => Err(Unclear {
            what: "no language was recognised: no brooklet.toml, package.json, requirements.txt, *.py, *.js, *.ts, \
                   go.mod, Cargo.toml, pom.xml, *.csproj, *.cs or executable bootstrap"
                .to_string(),
            fix: format!("name the runtime with --runtime, or write a {}", manifest::FILE),
        }),
    }
}

fn default_runtime(language: Language, available: &Available) -> String {
    let or = |version: &Option<String>, default: &str| version.clone().unwrap_or_else(|| default.to_string());
    match language {
        Language::Python => format!("python{}", or(&available.python, "3.12")),
        Language::Node | Language::TypeScript => format!("nodejs{}.x", or(&available.node, "22")),
        Language::Java => format!("java{}", or(&available.java, "21")),
        Language::CSharp => "dotnet8".to_string(),
        Language::Go | Language::Rust | Language::Plain => "provided.al2023".to_string(),
    }
}

impl Tree<'_> {
    fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    fn any(&self, is: impl Fn(&str) -> bool) -> bool {
        self.files.keys().any(|path| is(path))
    }

    fn text(&self, path: &str) -> String {
        if self.has(path) { (self.read)(path).unwrap_or_default() } else { String::new() }
    }

    fn package_json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text("package.json")).unwrap_or_default()
    }

    fn start_script(&self) -> Option<String> {
        self.package_json()["scripts"]["start"].as_str().map(str::to_string)
    }

    fn is_typescript(&self) -> bool {
        let is_source =
            |path: &str| is_ts(path) && !path.ends_with(".d.ts") && !path.contains("node_modules/");
        self.has("tsconfig.json") || self.any(is_source)
    }

    /// `module.function` of the first usual module that defines a handler; else of the only one that does.
    fn python_handler(&self) -> Result<String> {
        let modules =
            ["lambda_function", "app", "main", "handler", "index", "function", "src/app", "src/main"];
        let usual = modules.iter().map(|module| format!("{module}.py")).filter(|path| self.has(path));
        let top = self.files.keys().filter(|path| path.ends_with(".py") && !path.contains('/')).cloned();
        let found = usual.chain(top).find_map(|path| {
            let function = python_function(&self.text(&path))?;
            Some(format!("{}.{function}", path.trim_end_matches(".py").replace('/', ".")))
        });
        found.ok_or_else(|| Unclear {
            what: "no Python file defines lambda_handler(event, context) or handler(event, context)"
                .to_string(),
            fix: "name it with --handler MODULE.FUNCTION; a web server is deployed with --runtime http"
                .to_string(),
        })
    }

    /// `module.export` of the first usual module that exports a handler.
    fn js_handler(&self) -> Option<String> {
        let main = self.package_json()["main"].as_str().map(|main| main.trim_start_matches("./").to_string());
        let stems =
            ["index", "handler", "app", "lambda", "main", "src/index", "src/handler", "src/app", "src/main"];
        let usual = stems
            .iter()
            .flat_map(|stem| ["mjs", "js", "cjs", "ts", "mts"].map(|ext| format!("{stem}.{ext}")));
        main.into_iter().chain(usual).filter(|path| self.has(path)).find_map(|path| {
            let export = js_export(&self.text(&path))?;
            let (stem, _) = path.rsplit_once('.')?;
            Some(format!("{stem}.{export}"))
        })
    }

    /// `package.Class::handleRequest` of the first class that is a handler, or at least has a method like one.
    fn java_handler(&self) -> Result<String> {
        let sources = || self.files.keys().filter(|path| path.ends_with(".java"));
        let handler = |path: &String, is_handler: fn(&str) -> bool| {
            let text = self.text(path);
            let class = path.rsplit('/').next()?.trim_end_matches(".java");
            let package = text.lines().find_map(|line| line.trim().strip_prefix("package "));
            let package =
                package.map(|name| format!("{}.", name.trim_end_matches(';').trim())).unwrap_or_default();
            is_handler(&text).then(|| format!("{package}{class}::handleRequest"))
        };
        let found = sources().find_map(|path| handler(path, implements_a_handler));
        found.or_else(|| sources().find_map(|path| handler(path, has_a_handlers_method))).ok_or_else(|| Unclear {
            what: "no Java class implements RequestHandler or RequestStreamHandler, or has a public method handleRequest"
                .to_string(),
            fix: "name it with --handler PACKAGE.CLASS::METHOD".to_string(),
        })
    }

    /// `Assembly::Namespace.Class::Method` of the first public method of the first class whose name ends in
    /// `Function` or `Handler`.
    fn csharp_handler(&self) -> Result<String> {
        let project = self.files.keys().find(|path| path.ends_with(".csproj"));
        let assembly =
            project.and_then(|path| path.rsplit('/').next()).map(|name| name.trim_end_matches(".csproj"));
        let found = self.files.keys().filter(|path| path.ends_with(".cs")).find_map(|path| {
            let (class, method) = csharp_method(&self.text(path))?;
            let default = path.rsplit('/').next()?.trim_end_matches(".cs");
            Some(format!("{}::{class}::{method}", assembly.unwrap_or(default)))
        });
        found.ok_or_else(|| Unclear {
            what: "no C# class called …Function or …Handler has a public method".to_string(),
            fix: "name it with --handler ASSEMBLY::NAMESPACE.CLASS::METHOD".to_string(),
        })
    }

    fn http_command(&self, start: Option<String>) -> Result<String> {
        if self.files.get("bootstrap") == Some(&true) || self.has("go.mod") || self.has("Cargo.toml") {
            return Ok(String::new());
        }
        let usual = ["server.py", "app.py", "main.py", "wsgi.py"].iter().find(|path| self.has(path));
        let node =
            ["server.js", "server.mjs", "app.js", "index.js", "index.mjs"].iter().find(|path| self.has(path));
        start
            .or_else(|| node.map(|path| format!("node {path}")))
            .or_else(|| usual.map(|path| format!("python3 {path}")))
            .ok_or_else(|| Unclear {
                what:
                    "no program for the HTTP contract was found: an executable bootstrap, a start script in \
                       package.json, server.py or server.js"
                        .to_string(),
                fix: "name the command with --handler 'COMMAND LINE'".to_string(),
            })
    }
}

fn implements_a_handler(java: &str) -> bool {
    let interfaces = java.split("implements").skip(1).map(|rest| rest.split('{').next().unwrap_or(""));
    interfaces
        .into_iter()
        .any(|list| list.contains("RequestHandler") || list.contains("RequestStreamHandler"))
}

fn has_a_handlers_method(java: &str) -> bool {
    java.lines().any(|line| line.trim_start().starts_with("public ") && line.contains(" handleRequest("))
}

fn no_js_handler() -> Unclear {
    Unclear {
        what: "no module exports a function called handler".to_string(),
        fix: "name it with --handler MODULE.EXPORT; a web server is deployed with --runtime http".to_string(),
    }
}

fn is_js(path: &str) -> bool {
    path == "package.json" || [".js", ".mjs", ".cjs"].iter().any(|ext| path.ends_with(ext))
}

fn is_ts(path: &str) -> bool {
    [".ts", ".mts", ".cts"].iter().any(|ext| path.ends_with(ext))
}

/// The first usual handler that the text defines at the top level.
fn python_function(text: &str) -> Option<&'static str> {
    ["lambda_handler", "handler", "main"].into_iter().find(|name| {
        text.lines().any(|line| {
            let line = line.strip_prefix("async ").unwrap_or(line);
            let defined = line
                .strip_prefix("def ")
                .is_some_and(|rest| rest.trim_start().starts_with(&format!("{name}(")));
            let two =
                line.split_once('(').is_some_and(|(_, rest)| *name != "main" || rest.starts_with("event"));
            (defined && two)
                || line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with("= "))
        })
    })
}

/// `handler` (or `lambdaHandler`) when the text exports it, as CommonJS or as an ES module.
fn js_export(text: &str) -> Option<&'static str> {
    ["handler", "lambdaHandler"].into_iter().find(|name| {
        [
            format!("exports.{name} "),
            format!("exports.{name}="),
            format!("export const {name} "),
            format!("export const {name}:"),
            format!("export const {name}="),
            format!("export let {name} "),
            format!("export function {name}("),
            format!("export async function {name}("),
        ]
        .iter()
        .any(|form| text.contains(form))
            || exported_in_braces(text, name)
    })
}

/// `export { handler }`, `export { x as handler }` or `module.exports = { handler }`.
fn exported_in_braces(text: &str, name: &str) -> bool {
    ["export {", "module.exports = {"].iter().any(|start| {
        text.split(start).skip(1).any(|rest| {
            let inner = rest.split('}').next().unwrap_or("");
            inner.split(',').any(|part| {
                let part = part.trim();
                part == name
                    || part.ends_with(&format!(" as {name}"))
                    || part.starts_with(&format!("{name}:"))
            })
        })
    })
}

/// `Namespace.Class` and the first public method.
fn csharp_method(text: &str) -> Option<(String, String)> {
    let word = |rest: &str| -> String {
        rest.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '.').collect()
    };
    let namespace = text.split("namespace ").nth(1).map(word).filter(|name| !name.is_empty());
    let (class, body) = text.split("class ").skip(1).find_map(|rest| {
        let class = word(rest);
        (class.ends_with("Function") || class.ends_with("Handler")).then_some((class, rest))
    })?;
    let method = body.split("public ").skip(1).find_map(|rest| {
        let (before, _) = rest.split_once('(')?;
        let name = before.split_whitespace().next_back()?;
        (before.split_whitespace().count() > 1 && !before.contains(['=', '{', ';'])).then(|| word(name))
    })?;
    Some((namespace.map_or(class.clone(), |namespace| format!("{namespace}.{class}")), method))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree<'a>(files: &'a [(&'a str, &'a str)]) -> Tree<'a> {
        Tree {
            files: files.iter().map(|(path, _)| (path.to_string(), *path == "bootstrap")).collect(),
            read: Box::new(move |path| Some(files.iter().find(|(p, _)| *p == path)?.1.to_string())),
        }
    }

    /// `language runtime handler`, or what is unclear.
    fn check(files: &[(&str, &str)], expected: &str) {
        check_with(files, None, None, expected);
    }

    fn check_with(files: &[(&str, &str)], runtime: Option<&str>, handler: Option<&str>, expected: &str) {
        let available =
            || Available { python: Some("3.11".into()), node: Some("20".into()), java: Some("17".into()) };
        let got = match detect(&tree(files), runtime, handler, &available) {
            Ok(Detected { language, runtime, handler }) => format!("{language:?} {runtime} {handler}"),
            Err(unclear) => format!("unclear: {}", unclear.what),
        };
        assert!(got.starts_with(expected), "{got:?} is not {expected:?} for {files:?}");
    }

    const PY: &str = "import json\n\ndef lambda_handler(event, context):\n    return {}\n";

    #[test]
    fn python_is_known_by_its_handler() {
        check(&[("lambda_function.py", PY)], "Python python3.11 lambda_function.lambda_handler");
        check(
            &[("requirements.txt", "x"), ("odd.py", "async def handler(event, context): 1")],
            "Python python3.11 odd.handler",
        );
        check(&[("a.py", "x = 1"), ("main.py", "def handler (e, c):")], "unclear: no Python file");
        check(&[("main.py", "handler = Mangum(app)")], "Python python3.11 main.handler");
        check(&[("src/app.py", PY), ("src/__init__.py", "")], "Python python3.11 src.app.lambda_handler");
        check(&[("app.py", "def main():\n  pass")], "unclear: no Python file");
    }

    #[test]
    fn node_is_known_by_its_export() {
        check(&[("index.mjs", "export const handler = async () => 1")], "Node nodejs20.x index.handler");
        check(&[("index.js", "exports.handler = async () => 1")], "Node nodejs20.x index.handler");
        check(&[("app.js", "module.exports = { other, handler }")], "Node nodejs20.x app.handler");
        check(
            &[("package.json", r#"{"main":"./lib/x.js"}"#), ("lib/x.js", "export { f as handler }")],
            "Node nodejs20.x lib/x.handler",
        );
        check(&[("package.json", "{}"), ("index.js", "console.log(1)")], "unclear: no module exports");
    }

    #[test]
    fn a_node_project_with_a_start_script_and_no_handler_is_a_web_server() {
        let package = r#"{"scripts": {"start": "node server.js"}}"#;
        check(&[("package.json", package), ("server.js", "listen()")], "Node http node server.js");
    }

    #[test]
    fn typescript_is_known_by_its_sources() {
        check(
            &[("package.json", "{}"), ("src/index.ts", "export const handler: Handler = x")],
            "TypeScript nodejs20.x src/index.handler",
        );
        check(&[("index.js", "exports.handler = 1"), ("types.d.ts", "")], "Node nodejs20.x index.handler");
    }

    #[test]
    fn compiled_languages_are_known_by_their_project_file() {
        check(&[("go.mod", ""), ("main.go", "")], "Go provided.al2023 bootstrap");
        check(&[("Cargo.toml", ""), ("src/main.rs", "")], "Rust provided.al2023 bootstrap");
        check(&[("bootstrap", "#!/bin/sh")], "Plain provided.al2023 bootstrap");
        let java =
            "package com.shop;\npublic class Resize implements RequestHandler<Map<String, String>, String> {";
        check(
            &[("pom.xml", ""), ("src/main/java/com/shop/Resize.java", java)],
            "Java java17 com.shop.Resize::handleRequest",
        );
        let plain =
            "package com.shop;\npublic class App {\n    public void handleRequest(final Context context) {";
        check(
            &[("pom.xml", ""), ("A.java", "class A {}"), ("App.java", plain)],
            "Java java17 com.shop.App::handleRequest",
        );
        check(
            &[("pom.xml", ""), ("App.java", plain), ("Z.java", java)],
            "Java java17 com.shop.Z::handleRequest",
        );
        let cs = "namespace Shop {\n public class Function {\n public Function() {}\n public string Handle(string s) {";
        check(&[("Shop.csproj", ""), ("Function.cs", cs)], "CSharp dotnet8 Shop::Shop.Function::Handle");
        check(&[("Function.cs", cs)], "CSharp dotnet8 Function::Shop.Function::Handle");
    }

    #[test]
    fn what_the_user_says_wins() {
        check_with(&[("app.py", "")], Some("python3.9"), Some("app.run"), "Python python3.9 app.run");
        check_with(
            &[("app.py", ""), ("package.json", "{}")],
            Some("python3.9"),
            Some("a.b"),
            "Python python3.9 a.b",
        );
        check_with(&[("app.py", "app = Flask()")], Some("http"), None, "Python http python3 app.py");
        check_with(&[("lib/a.jar", "")], Some("java21"), Some("a.B"), "Plain java21 a.B");
        check_with(&[("bootstrap", "")], Some("http"), None, "Plain http ");
    }

    #[test]
    fn an_unknown_folder_says_what_was_looked_for() {
        check(&[("notes.txt", "")], "unclear: no language was recognised");
        check(&[], "unclear: no language was recognised");
    }
}
