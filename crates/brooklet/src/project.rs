//! What `deploy` was pointed at: a folder with a manifest, a folder without one, or a zip.

use crate::detect::{Detected, Tree, Unclear, detect};
use crate::document::{Mistake, Source, fail};
use crate::error::{Doing, Error, Result};
use crate::exit::Exit;
use crate::machine;
use crate::manifest::{self, Build, Function, Settings};
use crate::package::Package;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What the user said on the command line, for folders and zips without a manifest.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// `--name`.
    pub name: Option<String>,
    /// `--runtime`.
    pub runtime: Option<String>,
    /// `--handler`.
    pub handler: Option<String>,
}

/// A project.
#[derive(Debug)]
pub struct Project {
    /// Its name, which marks its functions.
    pub name: String,
    /// The folder, or the zip.
    pub path: PathBuf,
    /// Whether `path` is a zip.
    pub is_zip: bool,
    /// Its functions.
    pub functions: Vec<Function>,
}

/// More bytes of one file than detection needs to look at.
const MAX_TEXT: u64 = 1 << 20;

impl Project {
    /// Reads what is at `path`.
    pub fn open(path: &Path, said: &Said) -> Result<Project> {
        let shown = path.display().to_string();
        let meta = std::fs::metadata(path).map_err(|error| {
            Error::new(Exit::Usage, format!("cannot deploy {shown}"))
                .because(error)
                .fix("name a folder or a zip")
        })?;
        let full = path.canonicalize().doing(|| format!("find {shown}"))?;
        let file = full.join(manifest::FILE);
        if !meta.is_dir() || !file.is_file() {
            return Project::undeclared(full, !meta.is_dir(), said);
        }
        if said.name.is_some() || said.runtime.is_some() || said.handler.is_some() {
            return Err(Error::new(
                Exit::Usage,
                "--name, --runtime and --handler are for folders without a manifest",
            )
            .because(format!("{} declares the functions", path.join(manifest::FILE).display()))
            .fix("change the manifest"));
        }
        let text = std::fs::read_to_string(&file).map_err(|error| {
            Error::new(Exit::Mistakes, format!("cannot read {}", file.display()))
                .because(error)
                .fix("a manifest is a text file in UTF-8 that this user may read")
        })?;
        let shown = path.join(manifest::FILE).display().to_string();
        let shown = shown.strip_prefix("./").unwrap_or(&shown);
        let parsed = manifest::parse(Source { name: shown, text: &text })?;
        let name = parsed.project.unwrap_or_else(|| name_of(&full));
        let project = Project { name, path: full, is_zip: false, functions: parsed.functions };
        project.refuse_missing_folders(shown)?;
        Ok(project)
    }

    fn refuse_missing_folders(&self, manifest: &str) -> Result<()> {
        let missing = self.functions.iter().filter(|function| !self.dir(function).is_dir());
        let mistake = |function: &Function| Mistake {
            place: manifest.to_string(),
            what: format!(
                "function.{}.path: there is no folder `{}` beside the manifest",
                function.name, function.path
            ),
        };
        let mistakes: Vec<Mistake> = missing.map(mistake).collect();
        if mistakes.is_empty() { Ok(()) } else { Err(fail(mistakes)) }
    }

    fn undeclared(path: PathBuf, is_zip: bool, said: &Said) -> Result<Project> {
        let usage = |what: String| Error::new(Exit::Usage, what);
        let name = match &said.name {
            Some(name) => manifest::name(name).map_err(usage)?,
            None => name_of(&path),
        };
        let runtime = said.runtime.as_deref().map(manifest::runtime).transpose().map_err(usage)?;
        let function = Function {
            name: name.clone(),
            path: ".".to_string(),
            runtime,
            handler: said.handler.clone(),
            build: if is_zip { Build::Skip } else { Build::Detect },
            package: None,
            settings: Settings::default(),
        };
        Ok(Project { name, path, is_zip, functions: vec![function] })
    }

    /// The folder of a function's code.
    pub fn dir(&self, function: &Function) -> PathBuf {
        if function.path == "." { self.path.clone() } else { self.path.join(&function.path) }
    }

    /// Says what a function is, as far as the manifest does not.
    pub fn detect(&self, function: &Function) -> Result<Detected> {
        let tree = match self.is_zip {
            true => zip_tree(&self.path)?,
            false => folder_tree(&self.dir(function))?,
        };
        let (runtime, handler) = (function.runtime.as_deref(), function.handler.as_deref());
        detect(&tree, runtime, handler, &|| machine::available().clone())
            .map_err(|Unclear { what, fix }| Error::new(Exit::Mistakes, what).fix(fix))
    }

    /// An event to try a function with, when the project has one.
    pub fn test_event(&self, function: &Function) -> Option<PathBuf> {
        let names = ["event.json", "events/test.json", "test-event.json"];
        names.iter().map(|name| self.dir(function).join(name)).find(|path| path.is_file())
    }
}

fn folder_tree(dir: &Path) -> Result<Tree<'static>> {
    let package = Package::of(dir, "node_modules/\ntarget/\nbin/\nobj/\n")?;
    let files = package.files.iter().map(|(path, file)| (path.clone(), file.executable)).collect();
    let sources: BTreeMap<String, PathBuf> =
        package.files.into_iter().map(|(path, file)| (path, file.source)).collect();
    let read = move |path: &str| {
        let file = std::fs::File::open(sources.get(path)?).ok()?;
        text(file)
    };
    Ok(Tree { files, read: Box::new(read) })
}

fn zip_tree(path: &Path) -> Result<Tree<'static>> {
    let file = std::fs::File::open(path).doing(|| format!("read {}", path.display()))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| {
        let refused = Error::new(Exit::Usage, format!("{} is not a zip, or not a whole one", path.display()))
            .fix("name a folder or a zip");
        match error {
            // The library's words are about the format's inner parts.
            zip::result::ZipError::InvalidArchive(_) => refused,
            other => refused.because(other),
        }
    })?;
    let (mut files, mut texts) = (BTreeMap::new(), BTreeMap::new());
    for index in 0..archive.len() {
        let entry = archive.by_index(index).doing(|| format!("read {}", path.display()))?;
        let name = entry.name().doing(|| format!("read {}", path.display()))?.into_owned();
        if entry.is_file() && !name.contains("node_modules/") {
            files.insert(name.clone(), entry.unix_mode().is_none_or(|mode| mode & 0o100 != 0));
            let source =
                ["py", "js", "mjs", "cjs", "json"].iter().any(|end| name.ends_with(&format!(".{end}")));
            if source && name.matches('/').count() < 2 {
                texts.extend(text(entry).map(|text| (name, text)));
            }
        }
    }
    Ok(Tree { files, read: Box::new(move |path| texts.get(path).cloned()) })
}

fn text(from: impl Read) -> Option<String> {
    let mut bytes = vec![];
    from.take(MAX_TEXT).read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

/// A function's name from the name of a folder or zip: what a name cannot have becomes `-`.
fn name_of(path: &Path) -> String {
    let stem = if path.is_file() { path.file_stem() } else { path.file_name() };
    let stem = stem.map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    let name: String = stem.chars().map(fits).take(64).collect();
    if name.is_empty() { "function".to_string() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_folder::Folder;

    #[test]
    fn a_folder_without_a_manifest_is_one_function_of_its_name() {
        let folder = Folder::of(&[("my app/app.py", "def handler(event, context): pass")]);
        let project = Project::open(&folder.path().join("my app"), &Said::default()).expect("opens");
        assert_eq!((project.name.as_str(), project.functions[0].name.as_str()), ("my-app", "my-app"));
        assert_eq!(project.functions[0].settings, Settings::default());
        let detected = project.detect(&project.functions[0]).expect("is Python");
        assert_eq!(detected.handler, "app.handler");
    }

    #[test]
    fn folders_that_the_manifest_names_must_be_there() {
        let folder = Folder::of(&[
            (
                "brooklet.toml",
                "[function.a]\npath = 'lost'\n[function.b]\npath = 'b'\n[function.c]\npath = 'file'",
            ),
            ("b/app.py", ""),
            ("file", ""),
        ]);
        let error = Project::open(folder.path(), &Said::default()).expect_err("refuses");
        assert_eq!(error.exit, Exit::Mistakes);
        assert!(error.what.starts_with("2 mistakes:") && error.what.contains("no folder `lost`"), "{error}");
    }

    #[test]
    fn a_manifest_and_flags_for_folders_without_one_are_refused_together() {
        let folder = Folder::of(&[("brooklet.toml", "[function.a]")]);
        let said = Said { name: Some("b".into()), ..Said::default() };
        assert_eq!(Project::open(folder.path(), &said).expect_err("refuses").exit, Exit::Usage);
    }

    #[test]
    fn a_zip_is_looked_into() {
        let folder = Folder::of(&[("src/lambda_function.py", "def lambda_handler(event, context): pass")]);
        let zip = Package::of(&folder.path().join("src"), "").expect("packs").zip().expect("zips");
        let path = folder.path().join("resize.zip");
        std::fs::write(&path, zip.bytes).expect("writes");
        let project = Project::open(&path, &Said::default()).expect("opens");
        let detected = project.detect(&project.functions[0]).expect("is Python");
        assert_eq!(
            (project.name.as_str(), detected.handler.as_str()),
            ("resize", "lambda_function.lambda_handler")
        );
    }

    #[test]
    fn what_is_not_there_or_not_a_zip_is_said() {
        let folder = Folder::of(&[("a.txt", "no zip")]);
        let missing = Project::open(&folder.path().join("x"), &Said::default()).expect_err("is missing");
        assert_eq!(missing.exit, Exit::Usage);
        let project = Project::open(&folder.path().join("a.txt"), &Said::default()).expect("opens");
        let error = project.detect(&project.functions[0]).expect_err("is no zip");
        assert!(error.to_string().contains("is not a zip"), "{error}");
    }
}
