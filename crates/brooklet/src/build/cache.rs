//! Where builds happen: one folder for each function of each project, with a lock, and stamps that say what a
//! result was made from.

use super::Job;
use crate::config::cache_dir;
use crate::error::{Doing, Result};
use crate::package::Package;
use crate::sigv4::hex;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// The build folder of one function, locked while this lives.
pub struct Cache {
    root: PathBuf,
    _lock: fs::File,
}

impl Cache {
    /// Opens the folder, waiting while another build of the same function runs.
    pub fn open(job: &Job<'_>) -> Result<Cache> {
        let dir = job.dir.canonicalize().doing(|| format!("find the folder {}", job.dir.display()))?;
        let key = hex(&Sha256::digest(format!("{}\n{}", dir.display(), job.name)));
        let root = cache_dir().join("build").join(&key[..16]);
        let cannot = || format!("use the build folder {}", root.display());
        fs::create_dir_all(&root).doing(cannot)?;
        let lock = fs::File::create(root.join("lock")).doing(cannot)?;
        lock.lock().doing(cannot)?;
        if job.rebuild {
            for name in ["out", "deps", "src", "work"] {
                remove(&root.join(name))?;
                remove(&root.join(format!("{name}.stamp")))?;
            }
        }
        Ok(Cache { root, _lock: lock })
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Makes `name` (a folder) with `make`, unless it was made from the same `inputs` before. Returns the
    /// folder and whether it was there. A failed or interrupted `make` leaves no stamp.
    pub fn made(
        &self,
        name: &str,
        inputs: &[&[u8]],
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<(PathBuf, bool)> {
        let mut digest = Sha256::new();
        for input in inputs {
            digest.update((input.len() as u64).to_le_bytes());
            digest.update(input);
        }
        let digest = hex(&digest.finalize());
        let (dir, stamp) = (self.path(name), self.path(&format!("{name}.stamp")));
        if fs::read_to_string(&stamp).is_ok_and(|text| text == digest) && dir.is_dir() {
            return Ok((dir, true));
        }
        remove(&stamp)?;
        self.empty(name)?;
        make(&dir)?;
        fs::write(&stamp, digest).doing(|| format!("write {}", stamp.display()))?;
        Ok((dir, false))
    }

    /// An empty folder.
    pub fn empty(&self, name: &str) -> Result<PathBuf> {
        let dir = self.path(name);
        remove(&dir)?;
        fs::create_dir_all(&dir).doing(|| format!("make {}", dir.display()))?;
        Ok(dir)
    }

    /// Copies the files of `package` to the folder `name` and removes what is not among them, but for
    /// `keep`. Files that did not change keep their times, so that build tools see what did.
    pub fn mirror(&self, name: &str, package: &Package, keep: &[&str]) -> Result<PathBuf> {
        let dir = self.path(name);
        fs::create_dir_all(&dir).doing(|| format!("make {}", dir.display()))?;
        for path in Package::all(&dir)?.files.keys() {
            let kept = keep.iter().any(|kept| path.split('/').next() == Some(*kept));
            if !kept && !package.files.contains_key(path) {
                remove(&dir.join(path))?;
            }
        }
        for (path, file) in &package.files {
            let (target, cannot) = (dir.join(path), || format!("copy {}", file.source.display()));
            let bytes = fs::read(&file.source).doing(cannot)?;
            if fs::read(&target).is_ok_and(|old| old == bytes) {
                continue;
            }
            fs::create_dir_all(target.parent().unwrap_or(&dir)).doing(cannot)?;
            fs::copy(&file.source, &target).doing(cannot)?;
        }
        Ok(dir)
    }
}

/// A digest of all files: their paths and bytes.
pub fn digest(package: &Package) -> Result<Vec<u8>> {
    let mut digest = Sha256::new();
    for (path, file) in &package.files {
        let bytes = fs::read(&file.source).doing(|| format!("read {}", file.source.display()))?;
        digest.update(format!("{path}\n{}\n{}\n", file.executable, bytes.len()));
        digest.update(bytes);
    }
    Ok(digest.finalize().to_vec())
}

fn remove(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    result.doing(|| format!("remove {}", path.display()))
}
