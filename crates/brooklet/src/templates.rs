//! The projects that `new` makes: the repository's own examples, with the example's name replaced.

use crate::cli::Template;
use crate::detect::Available;

/// A file of a template.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// Relative to the project.
    pub path: &'static str,
    /// Its text.
    pub text: &'static str,
    /// Whether it can be executed.
    pub executable: bool,
}

/// Names an example and its files.
macro_rules! example {
    ($name:literal: $($path:literal),+ $(; executable $program:literal)?) => {
        ($name, &[
            $(File { path: $path, text: include_str!(concat!("../../../examples/", $name, "/", $path)), executable: false },)+
            $(File { path: $program, text: include_str!(concat!("../../../examples/", $name, "/", $program)), executable: true },)?
        ])
    };
}

/// The example that a template is, and its files.
pub fn example(template: Template) -> (&'static str, &'static [File]) {
    match template {
        Template::Python => example!("hello-python": "app.py", "brooklet.toml", "event.json", "README.md"),
        Template::Node => example!("hello-node": "index.mjs", "brooklet.toml", "event.json", "README.md"),
        Template::Typescript => {
            example!("hello-typescript": "src/index.ts", "tsconfig.json", "brooklet.toml", "event.json", "README.md")
        }
        Template::Go => {
            example!("hello-go": "main.go", "go.mod", "go.sum", "brooklet.toml", "event.json", "README.md")
        }
        Template::Rust => {
            example!("hello-rust": "src/main.rs", "Cargo.toml", "brooklet.toml", "event.json", "README.md")
        }
        Template::Java => {
            example!("hello-java": "src/main/java/example/Hello.java", "pom.xml", "brooklet.toml", "event.json", "README.md")
        }
        Template::Csharp => {
            example!("hello-csharp": "Function.cs", "Hello.csproj", "brooklet.toml", "event.json", "README.md")
        }
        Template::HttpPython => example!("http-python": "server.py", "brooklet.toml", "README.md"),
        Template::HttpNode => example!("http-node": "server.mjs", "brooklet.toml", "README.md"),
        Template::Shell => {
            example!("shell-bootstrap": "brooklet.toml", "event.json", "README.md"; executable "bootstrap")
        }
    }
}

/// The files of a project called `name`. Its manifest names the runtime that this machine has, so that the
/// project means the same tomorrow and elsewhere.
pub fn project(template: Template, name: &str, available: &Available) -> Vec<(File, String)> {
    let (example, files) = example(template);
    let runtime = match template {
        Template::Python => available.python.as_ref().map(|version| format!("python{version}")),
        Template::Node | Template::Typescript => {
            available.node.as_ref().map(|version| format!("nodejs{version}.x"))
        }
        Template::Java => available.java.as_ref().map(|version| format!("java{version}")),
        _ => None,
    };
    let header = format!("[function.{name}]\n");
    let render = |file: &File| {
        let text = file.text.replace(example, name);
        match &runtime {
            Some(runtime) if file.path == "brooklet.toml" => {
                text.replacen(&header, &format!("{header}runtime = \"{runtime}\"\n"), 1)
            }
            _ => text,
        }
    };
    files.iter().map(|file| (*file, render(file))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Source;
    use clap::ValueEnum;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_template_is_its_example_whole() {
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
        for template in Template::value_variants() {
            let (name, files) = example(*template);
            let root = std::path::Path::new(examples).join(name);
            let made = "node_modules/\ntarget/\nCargo.lock\n";
            let mut there: Vec<String> =
                crate::package::Package::of(&root, made).expect("reads").files.into_keys().collect();
            there.push("brooklet.toml".to_string());
            there.sort();
            let mut listed: Vec<&str> = files.iter().map(|file| file.path).collect();
            listed.sort();
            assert_eq!(listed, there, "{name}");
            for file in files {
                let mode = root.join(file.path).metadata().expect("is there").permissions().mode();
                assert_eq!(mode & 0o100 != 0, file.executable, "{name}/{}", file.path);
            }
        }
    }

    #[test]
    fn a_new_project_has_its_own_name_and_the_runtime_of_the_machine() {
        let available =
            Available { python: Some("3.11".into()), node: Some("20".into()), java: Some("17".into()) };
        for (template, runtime) in [
            (Template::Python, Some("python3.11")),
            (Template::Typescript, Some("nodejs20.x")),
            (Template::Go, None),
        ] {
            let files = project(template, "resize", &available);
            let (_, text) =
                files.iter().find(|(file, _)| file.path == "brooklet.toml").expect("has a manifest");
            let manifest = crate::manifest::parse(Source { name: "m", text }).expect("parses");
            let function = &manifest.functions[0];
            assert_eq!((function.name.as_str(), function.runtime.as_deref()), ("resize", runtime));
            assert!(files.iter().all(|(_, text)| !text.contains(example(template).0)), "{template:?}");
        }
    }
}
