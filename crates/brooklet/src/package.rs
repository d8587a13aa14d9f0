//! Deployment packages: which files go in, and a zip that is the same whenever the files are the same.

use crate::error::{Doing, Error, Result};
use crate::exit::Exit;
use crate::units::show_size;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use node::control::Limits;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;

/// The file that names what stays out, with the rules of `.gitignore`.
pub const IGNORE_FILE: &str = ".brookletignore";

/// What never belongs into a package, in the notation of `.gitignore`.
const NEVER: &str = "
.git/
.hg/
.svn/
.jj/
__pycache__/
*.pyc
.venv/
venv/
.pytest_cache/
.mypy_cache/
.ruff_cache/
node_modules/.cache/
.DS_Store
/brooklet.toml
/.brookletignore
";

/// More files than any package of 250 MB holds; past it the folder is probably not the right one.
const MAX_FILES: usize = 200_000;

/// What helps against packages that are too large.
const LEAVE_OUT: &str =
    "check that it is the right folder; name what the function does not need in .brookletignore";

/// `ELOOP`: following a link has no end.
const LOOP: i32 = rustix::io::Errno::LOOP.raw_os_error();

/// A file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where its bytes are.
    pub source: PathBuf,
    /// Whether it can be executed.
    pub executable: bool,
    /// Where it points, for a link within the package.
    pub link: Option<PathBuf>,
}

/// Path inside the package (with `/`) → file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// In the order in which the zip has them.
    pub files: BTreeMap<String, File>,
}

impl Package {
    /// The files of `root` but those that are ignored: by [`NEVER`], by `.brookletignore` and by `ignored`
    /// (more lines of the same notation).
    pub fn of(root: &Path, ignored: &str) -> Result<Package> {
        let rules = rules(root, ignored)?;
        let mut package = Package::default();
        package.walk(root, "", &rules)?;
        Ok(package)
    }

    /// All files of `root`, nothing ignored: for what a build made.
    pub fn all(root: &Path) -> Result<Package> {
        let mut package = Package::default();
        package.walk(root, "", &Gitignore::empty())?;
        Ok(package)
    }

    /// Adds the files of `other` that this package does not have.
    pub fn add(&mut self, other: Package) {
        for (path, file) in other.files {
            self.files.entry(path).or_insert(file);
        }
    }

    /// Bytes and digest of the zip.
    pub fn zip(&self) -> Result<Zip> {
        if self.files.is_empty() {
            return Err(Error::new(Exit::Mistakes, "the package is empty")
                .fix("check the folder, and what .brookletignore leaves out"));
        }
        self.refuse_too_large()?;
        let mut writer = zip::ZipWriter::new(Cursor::new(vec![]));
        for (path, file) in &self.files {
            let mode = match file {
                File { link: Some(_), .. } => 0o777,
                File { executable: true, .. } => 0o755,
                _ => 0o644,
            };
            // The default time of an entry is 1980-01-01: fixed, so that equal files make an equal zip.
            let options = SimpleFileOptions::DEFAULT.unix_permissions(mode);
            let cannot = || format!("pack {}", file.source.display());
            match &file.link {
                Some(target) => {
                    writer.add_symlink(path, target.to_string_lossy(), options).doing(cannot)?;
                }
                None => {
                    writer.start_file(path, options).doing(cannot)?;
                    writer.write_all(&std::fs::read(&file.source).doing(cannot)?).doing(cannot)?;
                }
            }
        }
        Zip::new(writer.finish().doing(|| "finish the zip".into())?.into_inner())
    }

    /// Before anything is read: a folder that was never meant to be deployed may hold gigabytes.
    fn refuse_too_large(&self) -> Result<()> {
        let most = Limits::default().unzipped_bytes;
        let size = |file: &File| file.source.symlink_metadata().map_or(0, |meta| meta.len());
        let mut sizes: Vec<(u64, &String)> =
            self.files.iter().map(|(path, file)| (size(file), path)).collect();
        let total: u64 = sizes.iter().map(|(size, _)| size).sum();
        if total <= most {
            return Ok(());
        }
        sizes.sort_by(|a, b| b.cmp(a));
        let largest = sizes.iter().take(3).map(|(size, path)| format!("{path} ({})", show_size(*size)));
        Err(Error::new(
            Exit::Mistakes,
            format!(
                "the package would hold {}, more than the {} that Lambda allows",
                show_size(total),
                show_size(most)
            ),
        )
        .because(format!("the largest files are {}", largest.collect::<Vec<_>>().join(", ")))
        .fix(LEAVE_OUT))
    }

    fn walk(&mut self, dir: &Path, prefix: &str, rules: &Gitignore) -> Result<()> {
        let cannot = || format!("read the folder {}", dir.display());
        for entry in std::fs::read_dir(dir).doing(cannot)? {
            let entry = entry.doing(cannot)?;
            let source = entry.path();
            let name = entry.file_name().into_string().map_err(|name| {
                Error::new(Exit::Mistakes, format!("{} has a name that is not UTF-8", name.display()))
                    .fix("rename it, or leave it out with .brookletignore")
            })?;
            let path = format!("{prefix}{name}");
            let kind = entry.file_type().doing(cannot)?;
            if rules.matched(&path, kind.is_dir()).is_ignore() {
                continue;
            }
            if kind.is_dir() {
                self.walk(&source, &format!("{path}/"), rules)?;
            } else if kind.is_symlink() {
                self.link(path, source)?;
            } else if kind.is_file() {
                let mode = entry.metadata().doing(cannot)?.permissions().mode();
                self.insert(path, File { source, executable: mode & 0o100 != 0, link: None })?;
            }
        }
        Ok(())
    }

    /// A relative link that stays within the package is kept; one to a file elsewhere becomes that file.
    fn link(&mut self, path: String, source: PathBuf) -> Result<()> {
        let target = std::fs::read_link(&source).doing(|| format!("read the link {}", source.display()))?;
        if stays_inside(&path, &target) {
            if std::fs::metadata(&source).is_err_and(|error| error.raw_os_error() == Some(LOOP)) {
                return Err(Error::new(Exit::Mistakes, format!("{path} is a link that leads to itself"))
                    .fix("remove it, or name it in .brookletignore"));
            }
            return self.insert(path, File { source, executable: false, link: Some(target) });
        }
        match std::fs::metadata(&source) {
            Ok(meta) if meta.is_file() => {
                let executable = meta.permissions().mode() & 0o100 != 0;
                self.insert(path, File { source, executable, link: None })
            }
            _ => Err(Error::new(Exit::Mistakes, format!("{path} is a link to {}", target.display()))
                .because("it points outside the folder, and not to a file")
                .fix("copy what it points to into the folder, or name the link in .brookletignore")),
        }
    }

    fn insert(&mut self, path: String, file: File) -> Result<()> {
        self.files.insert(path, file);
        match self.files.len() > MAX_FILES {
            true => Err(Error::new(Exit::Mistakes, format!("the folder has more than {MAX_FILES} files"))
                .fix("check that it is the right folder; .brookletignore leaves files out")),
            false => Ok(()),
        }
    }
}

/// A zip, ready to be deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zip {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Lambda's `CodeSha256`: base64 of the digest of the zip.
    pub sha256: String,
}

impl Zip {
    /// Reads a zip that was made elsewhere.
    pub fn read(path: &Path) -> Result<Zip> {
        let cannot = || format!("read {}", path.display());
        // Before it is in memory.
        refuse_too_large(std::fs::metadata(path).doing(cannot)?.len())?;
        Zip::new(std::fs::read(path).doing(cannot)?)
    }

    /// Takes the bytes of a zip, unless it is larger than may be uploaded.
    pub fn new(bytes: Vec<u8>) -> Result<Zip> {
        use base64::Engine;
        refuse_too_large(bytes.len() as u64)?;
        let sha256 = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(&bytes));
        Ok(Zip { bytes, sha256 })
    }
}

fn refuse_too_large(size: u64) -> Result<()> {
    let most = Limits::default().zipped_bytes;
    if size <= most {
        return Ok(());
    }
    let what =
        format!("the zip has {}, more than the {} that Lambda allows", show_size(size), show_size(most));
    Err(Error::new(Exit::Mistakes, what).fix(LEAVE_OUT))
}

fn rules(root: &Path, ignored: &str) -> Result<Gitignore> {
    let mut builder = GitignoreBuilder::new("");
    let lines = NEVER.lines().chain(ignored.lines()).map(|line| (None, line.to_string()));
    let file = root.join(IGNORE_FILE);
    let own = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).doing(|| format!("read {}", file.display())),
    };
    let own = own.lines().enumerate().map(|(index, line)| (Some(index + 1), line.to_string()));
    for (number, line) in lines.chain(own.collect::<Vec<_>>()) {
        builder.add_line(None, &line).map_err(|error| {
            let place = number.map(|number| format!("{}:{number}", file.display())).unwrap_or_default();
            Error::new(Exit::Mistakes, format!("{place}: `{line}` is not a pattern")).because(error)
        })?;
    }
    builder.build().doing(|| format!("read {}", file.display()))
}

/// Whether a link at `path` to `target` ends within the package.
fn stays_inside(path: &str, target: &Path) -> bool {
    let mut depth = path.matches('/').count() as i64;
    for part in target.components() {
        match part {
            std::path::Component::Normal(_) => depth += 1,
            std::path::Component::ParentDir => depth -= 1,
            std::path::Component::CurDir => {}
            _ => return false,
        }
        if depth < 0 {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_folder::Folder;

    fn paths(folder: &Folder, ignored: &str) -> Vec<String> {
        Package::of(folder.path(), ignored).expect("packs").files.into_keys().collect()
    }

    #[test]
    fn what_never_belongs_into_a_package_stays_out() {
        let folder = Folder::of(&[
            ("app.py", ""),
            (".git/HEAD", ""),
            ("__pycache__/app.pyc", ""),
            ("lib/__pycache__/x.pyc", ""),
            ("lib/x.py", ""),
            ("brooklet.toml", ""),
            ("lib/brooklet.toml", ""),
            (".env", ""),
        ]);
        assert_eq!(paths(&folder, ""), [".env", "app.py", "lib/brooklet.toml", "lib/x.py"]);
    }

    #[test]
    fn the_reference_for_users_names_what_never_belongs_into_a_package() {
        let reference = include_str!("../../../docs/manifest.md");
        for line in NEVER.lines().filter(|line| !matches!(*line, "" | ".hg/" | ".svn/" | ".jj/")) {
            let name = line.trim_matches('/');
            assert!(reference.contains(&format!("`{name}`")), "docs/manifest.md lacks {name}");
        }
    }

    #[test]
    fn the_ignore_file_reads_like_gitignore() {
        let folder = Folder::of(&[
            (".brookletignore", "# tests stay home\ntests/\n*.md\n!KEEP.md\n"),
            ("app.py", ""),
            ("README.md", ""),
            ("KEEP.md", ""),
            ("tests/test_app.py", ""),
            ("src/tests/x.py", ""),
        ]);
        assert_eq!(paths(&folder, ""), ["KEEP.md", "app.py"]);
        assert_eq!(paths(&folder, "/app.py"), ["KEEP.md"]);
    }

    #[test]
    fn the_same_files_make_the_same_zip_whenever_they_were_written() {
        let files = [("b.py", "b"), ("a/x.py", "x"), ("a.py", "a")];
        let (first, second) = (Folder::of(&files), Folder::of(&[files[2], files[0], files[1]]));
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        std::fs::File::open(second.path().join("a.py")).expect("opens").set_modified(old).expect("is set");
        let zip = |folder: &Folder| Package::of(folder.path(), "").expect("packs").zip().expect("zips");
        assert_eq!(zip(&first), zip(&second));
    }

    #[test]
    fn the_executable_bit_is_kept_and_links_within_stay_links() {
        let folder = Folder::of(&[("bootstrap", "#!/bin/sh"), ("lib/a.so.1", "")]);
        let elsewhere = Folder::of(&[("host", "")]);
        folder.make_executable("bootstrap");
        std::os::unix::fs::symlink("a.so.1", folder.path().join("lib/a.so")).expect("links");
        std::os::unix::fs::symlink(elsewhere.path().join("host"), folder.path().join("host")).expect("links");
        let zip = Package::of(folder.path(), "").expect("packs").zip().expect("zips");
        let mut archive = zip::ZipArchive::new(Cursor::new(zip.bytes)).expect("reads");
        let mut mode = |name: &str| archive.by_name(name).expect("is there").unix_mode();
        assert_eq!(mode("bootstrap"), Some(0o100755));
        assert_eq!(mode("lib/a.so.1"), Some(0o100644));
        assert_eq!(mode("lib/a.so"), Some(0o120777));
        assert_eq!(mode("host"), Some(0o100644));
    }

    #[test]
    fn a_link_to_a_folder_elsewhere_is_refused_with_the_remedy() {
        let folder = Folder::of(&[("a", "")]);
        std::os::unix::fs::symlink("/etc", folder.path().join("etc")).expect("links");
        let error = Package::of(folder.path(), "").expect_err("refuses");
        assert!(error.to_string().contains(".brookletignore"), "{error}");
    }

    #[test]
    fn a_link_that_leads_to_itself_is_refused_and_one_that_leads_nowhere_is_kept() {
        let folder = Folder::of(&[("a", "")]);
        std::os::unix::fs::symlink("gone", folder.path().join("dangling")).expect("links");
        assert_eq!(paths(&folder, ""), ["a", "dangling"]);
        std::os::unix::fs::symlink("two", folder.path().join("one")).expect("links");
        std::os::unix::fs::symlink("one", folder.path().join("two")).expect("links");
        let error = Package::of(folder.path(), "").expect_err("refuses");
        assert!(error.what.ends_with("is a link that leads to itself"), "{error}");
    }

    #[test]
    fn a_folder_that_is_too_large_is_refused_before_it_is_read() {
        let folder = Folder::of(&[("app.py", ""), ("disk.img", "")]);
        let image = std::fs::OpenOptions::new().write(true).open(folder.path().join("disk.img"));
        image.expect("opens").set_len(1 << 40).expect("is sparse");
        let error = Package::of(folder.path(), "").expect("lists").zip().expect_err("refuses");
        assert_eq!(error.what, "the package would hold 1 TiB, more than the 250 MiB that Lambda allows");
        assert!(error.why.is_some_and(|why| why.contains("disk.img (1 TiB)")));
        let error = Zip::new(vec![0; (50 << 20) + 1]).expect_err("refuses");
        assert!(error.what.starts_with("the zip has 50 MiB"), "{error}");
        let error = Zip::read(&folder.path().join("disk.img")).expect_err("refuses");
        assert!(error.what.starts_with("the zip has 1 TiB"), "{error}");
    }

    #[test]
    fn a_link_stays_inside_when_its_way_never_leaves() {
        for (path, target, inside) in [
            ("a", "b", true),
            ("x/a", "../b", true),
            ("a", "../b", false),
            ("x/a", "../../b", false),
            ("a", "x/../../x/b", false),
            ("a", "/b", false),
        ] {
            assert_eq!(stays_inside(path, Path::new(target)), inside, "{path} → {target}");
        }
    }
}
