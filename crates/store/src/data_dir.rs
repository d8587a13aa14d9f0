//! The data directory: one server at a time, and only of a format that it understands.

use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The format that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// Why a data directory cannot be used: what happened, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be made, read or written.
    #[error(
        "cannot use the data directory {}: {source}; make it readable and writable for this user, or choose \
         another with --data-dir", path.display()
    )]
    Unusable {
        /// What could not be used.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another server has it open.
    #[error(
        "another server{} is using the data directory {}; stop it first, or choose another directory with \
         --data-dir", holder.map_or_else(String::new, |pid| format!(" (process {pid})")), path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process that has it open, as far as it said so.
        holder: Option<u32>,
    },
    /// A newer version of Brooklet wrote it.
    #[error(
        "the data directory {} has format {found}, which a newer Brooklet wrote; this one knows formats up to \
         {FORMAT}. Start the newer version, or choose another directory with --data-dir", path.display()
    )]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Something in it is not what Brooklet wrote.
    #[error(
        "{} is damaged: {reason}; restore the data directory from a backup, or choose another with --data-dir",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// An open data directory. It stays locked as long as this, a clone of it, or a store in it lives; the lock ends
/// with the process however that ends.
#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
    _lock: Arc<File>,
}

impl DataDir {
    /// Opens the directory, making it (for this user only: it holds environment variables) if it is missing.
    pub fn open(root: &Path) -> Result<DataDir, OpenError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Unusable { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(unusable(root))?;
        let root = fs::canonicalize(root).map_err(unusable(root))?;
        let lock = lock(&root)?;
        check_format(&root)?;
        for name in ["blobs", "code", "tmp"] {
            let path = root.join(name);
            fs::create_dir_all(&path).map_err(unusable(&path))?;
        }
        empty(&root.join("tmp")).map_err(unusable(&root))?;
        Ok(DataDir { root, _lock: Arc::new(lock) })
    }

    /// The directory itself, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where packages are unpacked.
    pub fn code(&self) -> PathBuf {
        self.root.join("code")
    }

    /// Where packages are kept.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Where files are made before they get their place; emptied at every start.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The documents.
    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("store.db")
    }
}

fn lock(root: &Path) -> Result<File, OpenError> {
    let path = root.join("lock");
    let unusable = |source| OpenError::Unusable { path: path.clone(), source };
    let mut options = File::options();
    let mut file = options.read(true).write(true).create(true).mode(0o600).open(&path).map_err(unusable)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            return Err(OpenError::InUse { path: root.to_owned(), holder: holder.trim().parse().ok() });
        }
        Err(error) => return Err(unusable(error.into())),
    }
    // Only for the message above: no need to sync it.
    let write =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    write.map_err(unusable)?;
    Ok(file)
}

fn check_format(root: &Path) -> Result<(), OpenError> {
    let path = root.join("format");
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(found) if found > FORMAT => Err(OpenError::NewerFormat { path: root.to_owned(), found }),
            Ok(1..=FORMAT) => Ok(()),
            _ => Err(OpenError::Damaged { path, reason: format!("it should hold a number, not {text:?}") }),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            write_durably(&path, format!("{FORMAT}\n").as_bytes(), &root.join("format.new"))
                .map_err(|source| OpenError::Unusable { path, source })
        }
        Err(source) => Err(OpenError::Unusable { path, source }),
    }
}

/// Writes a file that is there whole or not at all, and on the disk when this returns.
pub(crate) fn write_durably(path: &Path, bytes: &[u8], temporary: &Path) -> io::Result<()> {
    let done = (|| {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
        file.write_all(bytes)?;
        move_durably(temporary, path)
    })();
    if done.is_err() {
        let _ = fs::remove_file(temporary);
    }
    done
}

/// Gives a file that was written its place, with its content on the disk first.
pub(crate) fn move_durably(from: &Path, to: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    fs::rename(from, to)?;
    sync_parent(to)
}

/// Makes the coming or going of a file durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}
