//! Tells when files of a folder change (inotify), with the burst of changes that one save makes taken as one.

use crate::error::{Doing, Error, Result};
use crate::exit::Exit;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a folder must be quiet before a change is reported: an editor's save is several changes within a
/// few milliseconds.
const QUIET: Duration = Duration::from_millis(20);
/// A folder that is never quiet is reported after this time all the same.
const PATIENCE: Duration = Duration::from_millis(500);
/// Folders that builds and tools write to, and that no package contains or that are installed anew.
const IGNORED: [&str; 11] = [
    ".git",
    ".hg",
    ".svn",
    ".jj",
    "node_modules",
    "target",
    "__pycache__",
    ".venv",
    "venv",
    ".pytest_cache",
    ".mypy_cache",
];

/// A folder being watched. The watching thread ends with the program.
pub struct Watch {
    changes: mpsc::Receiver<()>,
}

impl Watch {
    /// Starts watching `root` and all folders below it.
    pub fn new(root: &Path) -> Result<Watch> {
        let mut tree = Tree {
            fd: inotify::init(CreateFlags::CLOEXEC).doing(|| "watch files (inotify)".into())?,
            folders: HashMap::new(),
        };
        tree.add(root)?;
        // One place: more changes than have been looked at are still one change.
        let (sender, changes) = mpsc::channel(1);
        std::thread::Builder::new()
            .name("watch".to_string())
            .spawn(move || tree.read(&sender))
            .doing(|| "start the watching thread".into())?;
        Ok(Watch { changes })
    }

    /// Waits until something has changed and the folder has been quiet for a moment.
    pub async fn changed(&mut self) -> Result<()> {
        let ended = || Error::new(Exit::Failure, "files are no longer watched: inotify ended");
        self.changes.recv().await.ok_or_else(ended)?;
        let patience = tokio::time::Instant::now() + PATIENCE;
        while let Ok(Some(())) = tokio::time::timeout(QUIET, self.changes.recv()).await {
            if tokio::time::Instant::now() >= patience {
                break;
            }
        }
        Ok(())
    }

    /// Forgets changes that have not been looked at: those that a build made itself.
    pub fn forget(&mut self) {
        while self.changes.try_recv().is_ok() {}
    }
}

struct Tree {
    fd: OwnedFd,
    /// Watch descriptor → folder.
    folders: HashMap<i32, PathBuf>,
}

impl Tree {
    fn add(&mut self, dir: &Path) -> Result<()> {
        let what = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR;
        let number = inotify::add_watch(&self.fd, dir, what).map_err(|error| {
            let failed = Error::new(Exit::Failure, format!("cannot watch {}", dir.display())).because(error);
            match error {
                rustix::io::Errno::NOSPC => {
                    failed.fix("raise the limit: sysctl fs.inotify.max_user_watches=524288")
                }
                _ => failed,
            }
        })?;
        self.folders.insert(number, dir.to_path_buf());
        for entry in dir.read_dir().into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && !is_ignored(&entry.file_name().to_string_lossy()) {
                self.add(&entry.path())?;
            }
        }
        Ok(())
    }

    fn read(mut self, sender: &mpsc::Sender<()>) {
        let Ok(fd) = self.fd.try_clone() else { return };
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = inotify::Reader::new(fd, &mut buffer);
        loop {
            let (folder, name, events) = match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
                    (self.folders.get(&event.wd()).cloned(), name.unwrap_or_default(), event.events())
                }
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
            };
            if is_ignored(&name) || events.contains(ReadFlags::IGNORED) {
                continue;
            }
            if events.contains(ReadFlags::ISDIR)
                && events.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO)
                && let Some(folder) = folder
            {
                // A folder that has gone again needs no watch.
                let _ = self.add(&folder.join(&name));
            }
            match sender.try_send(()) {
                Err(mpsc::error::TrySendError::Closed(())) => return,
                Ok(()) | Err(mpsc::error::TrySendError::Full(())) => {}
            }
        }
    }
}

/// Folders above, and what editors write beside a file while they save it.
fn is_ignored(name: &str) -> bool {
    IGNORED.contains(&name)
        || name.ends_with('~')
        || name.starts_with(".#")
        || [".swp", ".swx", ".pyc"].iter().any(|end| name.ends_with(end))
        || name == "4913"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_folder::Folder;

    /// Whether writing `name` is reported; waits at most for `limit`.
    async fn is_reported(folder: &Folder, watch: &mut Watch, name: &str, limit: Duration) -> bool {
        folder.write(name, "changed");
        tokio::time::timeout(limit, watch.changed()).await.is_ok_and(|result| result.is_ok())
    }

    #[tokio::test]
    async fn a_changed_file_is_reported_also_in_a_new_folder() {
        let long = Duration::from_secs(20);
        let folder = Folder::of(&[("app.py", ""), ("lib/x.py", "")]);
        let mut watch = Watch::new(folder.path()).expect("watches");
        for name in ["app.py", "lib/x.py", "new/folder/y.py", "new/folder/y.py"] {
            assert!(is_reported(&folder, &mut watch, name, long).await, "{name}");
            watch.forget();
        }
    }

    #[tokio::test]
    async fn what_tools_write_is_not_reported() {
        let short = Duration::from_millis(100);
        let folder = Folder::of(&[("node_modules/a.js", ""), ("__pycache__/b.pyc", "")]);
        let mut watch = Watch::new(folder.path()).expect("watches");
        for name in ["node_modules/a.js", "__pycache__/b.pyc", "app.py~", ".app.py.swp"] {
            assert!(!is_reported(&folder, &mut watch, name, short).await, "{name}");
        }
    }
}
