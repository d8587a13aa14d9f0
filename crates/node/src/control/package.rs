//! Deployment packages: admitted, kept as blobs, unpacked, found again.
//!
//! The blob is the truth and durable before a change is acknowledged. What is unpacked is a cache of it: made in
//! a temporary folder, renamed into place whole, made again whenever it is missing. It is not synced to disk,
//! because that costs seconds on a busy disk; instead everything unpacked before the machine last started is
//! forgotten, for a power cut may have torn it. (A killed server tears nothing: the kernel keeps the pages.)

use super::pins::{Pin, Pins, Watch};
use super::registry::Limits;
use super::{ControlError, Package, archive};
use bytes::Bytes;
use model::Code;
use ports::Blobs;
use ports::blobs::Blob;
use sha2::Digest;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// An unpacked package. Its folder stays on disk at least as long as this lives.
#[derive(Debug)]
pub struct UnpackedCode {
    path: PathBuf,
    /// How long it took to unpack it for somebody who wanted to run it, until it is told: µs.
    unpacking_us: AtomicU64,
}

impl PartialEq for UnpackedCode {
    fn eq(&self, other: &UnpackedCode) -> bool {
        self.path == other.path
    }
}

impl UnpackedCode {
    /// A folder that nobody else manages.
    pub fn at(path: PathBuf) -> UnpackedCode {
        UnpackedCode { path, unpacking_us: AtomicU64::new(0) }
    }

    /// How long it took to unpack it when it was wanted for running; told once, and zero when it was there already.
    pub fn take_unpacking(&self) -> Duration {
        Duration::from_micros(self.unpacking_us.swap(0, Ordering::Relaxed))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What lies in the data directory of packages.
pub(super) struct OnDisk {
    blobs: Vec<Blob>,
    folders: Vec<String>,
}

/// The packages of all functions.
pub(super) struct Packages {
    blobs: Arc<dyn Blobs>,
    dir: PathBuf,
    /// Marks the temporary folders of this server.
    run: String,
    limits: Limits,
    /// Unpacking, or removing what is unpacked, takes turns per package.
    turns: Vec<tokio::sync::Mutex<()>>,
    hasher: RandomState,
    /// What is unpacked and in use, by digest.
    in_use: Mutex<HashMap<String, Weak<UnpackedCode>>>,
    /// Packages of changes that are under way, by digest.
    pub pins: Arc<Pins>,
    /// Bytes of all blobs; counted when first asked for.
    stored: OnceCell<AtomicU64>,
}

const STRIPES: usize = 64;
/// Marks a whole folder of packages that was set aside.
const TORN: &str = "torn";
/// Folders with this prefix are being made or removed; the sweep clears them.
const TEMPORARY: &str = ".tmp-";

/// A package that is kept and unpacked, and that no sweep removes while this lives: hold it until the function
/// that uses it is written.
pub(super) struct Staged {
    pub code: Code,
    /// Where it is unpacked.
    pub unpacked: Arc<UnpackedCode>,
    /// To be held until a function that uses the package is written.
    pub pin: Pin,
}

/// Bytes that are counted as stored, for as long as it is not clear whether they will be.
struct Reserved<'a> {
    stored: &'a AtomicU64,
    size: u64,
}

impl Reserved<'_> {
    fn keep(mut self) {
        self.size = 0;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        subtract(self.stored, self.size);
    }
}

/// A caller who is gone while a blob is written leaves it uncounted, so that its removal may take too much.
fn subtract(stored: &AtomicU64, size: u64) {
    stored.update(Ordering::Relaxed, Ordering::Relaxed, |bytes| bytes.saturating_sub(size));
}

impl Packages {
    /// Packages unpacked below `dir`, which is made if it is missing.
    pub fn open(blobs: Arc<dyn Blobs>, dir: PathBuf, limits: Limits) -> std::io::Result<Packages> {
        std::fs::create_dir_all(&dir)?;
        forget_what_a_power_cut_may_have_torn(&dir)?;
        take_in_what_was_left_beside(&dir)?;
        Ok(Packages {
            blobs,
            dir,
            run: uuid::Uuid::new_v4().simple().to_string(),
            limits,
            turns: (0..STRIPES).map(|_| tokio::sync::Mutex::new(())).collect(),
            hasher: RandomState::new(),
            in_use: Mutex::default(),
            pins: Arc::default(),
            stored: OnceCell::new(),
        })
    }

    /// Checks a package, unpacks it and keeps it.
    pub async fn stage(&self, package: Package) -> Result<Staged, ControlError> {
        let zip = self.admit(package)?;
        let sha256 = {
            let zip = zip.clone();
            &*blocking(move || hex(&sha2::Sha256::digest(&zip))).await?
        };
        let pin = self.pins.pin(sha256).await;
        let size = zip.len() as u64;
        let _turn = self.turn(sha256).await;
        let unpacked = if self.blobs.contains(sha256).await? {
            self.unpacked_in_turn(sha256, Some(zip)).await?
        } else {
            let storage = self.reserve(size).await?;
            let unpacked = self.unpacked_in_turn(sha256, Some(zip.clone())).await?;
            self.blobs.put(sha256, zip).await?;
            storage.keep();
            unpacked
        };
        Ok(Staged { code: Code { sha256: sha256.to_owned(), size }, unpacked, pin })
    }

    async fn reserve(&self, size: u64) -> Result<Reserved<'_>, ControlError> {
        let stored = self.count().await?;
        let before = stored.fetch_add(size, Ordering::Relaxed);
        let reserved = Reserved { stored, size };
        match before + size <= self.limits.code_storage_bytes {
            true => Ok(reserved),
            false => Err(ControlError::CodeStorageExceeded {
                message: format!(
                    "Code storage limit exceeded: {before} of {} bytes are taken and this package has {size}. \
                     Delete functions or versions that are no longer needed.",
                    self.limits.code_storage_bytes
                ),
            }),
        }
    }

    fn admit(&self, package: Package) -> Result<Bytes, ControlError> {
        match package {
            Package::Zip(zip) if zip.len() as u64 > self.limits.zipped_bytes => Err(ControlError::TooLarge {
                message: format!("Zipped size must be smaller than {} bytes", self.limits.zipped_bytes),
            }),
            Package::Zip(zip) => Ok(zip),
            Package::S3 { bucket, key } => Err(ControlError::invalid(
                "S3Bucket",
                format!(
                    "Packages in S3 are not supported yet (s3://{bucket}/{key}). Download the object and send it \
                     as ZipFile (aws CLI: --zip-file fileb://package.zip)."
                ),
            )),
            Package::Image(image) => Err(ControlError::Unsupported {
                message: format!(
                    "Container images are not supported ({image}). Deploy a zip: a managed runtime, a \
                     provided.al2023 bootstrap, or any program that listens on $PORT with the runtime http."
                ),
            }),
        }
    }

    /// The zip as it was uploaded.
    pub async fn zip(&self, sha256: &str) -> Result<Bytes, ControlError> {
        self.blobs.get(sha256).await?.ok_or_else(|| {
            ControlError::failed(format!(
                "The deployment package {sha256} is missing from the data directory. Deploy the function again."
            ))
        })
    }

    /// The folder with the package's content, unpacked again from the blob if it is missing.
    pub async fn unpacked(&self, sha256: &str) -> Result<Arc<UnpackedCode>, ControlError> {
        let _turn = self.turn(sha256).await;
        self.unpacked_in_turn(sha256, None).await
    }

    async fn unpacked_in_turn(
        &self,
        sha256: &str,
        zip: Option<Bytes>,
    ) -> Result<Arc<UnpackedCode>, ControlError> {
        if let Some(code) = self.in_use().get(sha256).and_then(Weak::upgrade) {
            return Ok(code);
        }
        let path = self.dir.join(sha256);
        let (began, is_wanted) = (Instant::now(), zip.is_none());
        let mut unpacking = Duration::ZERO;
        if !tokio::fs::try_exists(&path).await.map_err(|error| unreadable(&path, &error))? {
            let zip = match zip {
                Some(zip) => zip,
                None => self.zip(sha256).await?,
            };
            let temporary = self.dir.join(temporary_name(&self.run));
            let (path, limits) = (path.clone(), self.limits.clone());
            blocking(move || unpack_into_place(&zip, &temporary, &path, &limits)).await??;
            unpacking = if is_wanted { began.elapsed() } else { Duration::ZERO };
        }
        let unpacking_us = AtomicU64::new(unpacking.as_micros() as u64);
        let code = Arc::new(UnpackedCode { path, unpacking_us });
        let mut in_use = self.in_use();
        if in_use.len() == in_use.capacity() {
            // Before it grows: so it stays in proportion to what is in use.
            in_use.retain(|_, code| code.strong_count() > 0);
        }
        in_use.insert(sha256.to_owned(), Arc::downgrade(&code));
        Ok(code)
    }

    /// Must be asked before a blob is put or deleted: then the first who asks counts what all others change.
    async fn count(&self) -> Result<&AtomicU64, ControlError> {
        let count = || async {
            let blobs = self.blobs.list().await?;
            Ok(AtomicU64::new(blobs.iter().map(|blob| blob.size).sum()))
        };
        self.stored.get_or_try_init(count).await
    }

    /// Digests of all blobs with their sizes, and the names of all folders.
    pub async fn everything_on_disk(&self) -> Result<OnDisk, ControlError> {
        let blobs = self.blobs.list().await?;
        let dir = self.dir.clone();
        let folders = blocking(move || -> std::io::Result<Vec<String>> {
            let names = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
            names.filter_map(Result::transpose).collect()
        });
        let folders = folders.await?.map_err(|error| unreadable(&self.dir, &error))?;
        Ok(OnDisk { blobs, folders })
    }

    /// Removes blobs and folders that are not `used`; how many of each.
    pub async fn remove_unused(
        &self,
        watch: &Watch<'_>,
        on_disk: OnDisk,
        used: &HashSet<String>,
    ) -> Result<(u64, u64), ControlError> {
        let (mut packages, mut folders) = (0, 0);
        let stored = self.count().await?;
        for blob in on_disk.blobs.iter().filter(|blob| !used.contains(&blob.sha256)) {
            if let Some(done) = watch.remove(&blob.sha256, self.blobs.delete(&blob.sha256)).await {
                done?;
                subtract(stored, blob.size);
                packages += 1;
            }
        }
        // What runtimes keep beside a package (`<digest>.<what>`) goes with it.
        let needed = |name: &String| used.contains(name.split('.').next().unwrap_or_default());
        for name in on_disk.folders.iter().filter(|name| !needed(name)) {
            let aside = match name.strip_prefix(TEMPORARY) {
                // Being made or removed right now; the others are of servers that are no more.
                Some(rest) if rest.starts_with(&self.run) => continue,
                Some(_) => Some(self.dir.join(name)),
                None if name.starts_with('.') => continue,
                None => watch.remove(name, self.set_aside(name)).await.transpose()?.flatten(),
            };
            if let Some(aside) = aside {
                blocking(move || std::fs::remove_dir_all(aside))
                    .await?
                    .map_err(|error| unreadable(&self.dir, &error))?;
                folders += 1;
            }
        }
        Ok((packages, folders))
    }

    /// Renames an unpacked package away, unless an instance may read it.
    async fn set_aside(&self, sha256: &str) -> Result<Option<PathBuf>, ControlError> {
        let _turn = self.turn(sha256).await;
        if self.in_use().get(sha256).is_some_and(|code| code.strong_count() > 0) {
            return Ok(None);
        }
        let (from, aside) = (self.dir.join(sha256), self.dir.join(temporary_name(&self.run)));
        tokio::fs::rename(&from, &aside).await.map_err(|error| unreadable(&from, &error))?;
        Ok(Some(aside))
    }

    fn in_use(&self) -> MutexGuard<'_, HashMap<String, Weak<UnpackedCode>>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn turn(&self, sha256: &str) -> tokio::sync::MutexGuard<'_, ()> {
        self.turns[self.hasher.hash_one(sha256) as usize % STRIPES].lock().await
    }
}

fn temporary_name(run: &str) -> String {
    format!("{TEMPORARY}{run}-{}", uuid::Uuid::new_v4().simple())
}

fn unpack_into_place(zip: &[u8], temporary: &Path, path: &Path, limits: &Limits) -> Result<(), ControlError> {
    std::fs::create_dir(temporary).map_err(|error| unreadable(temporary, &error))?;
    let unpacked = archive::unpack(zip, temporary, limits);
    let moved = unpacked.and_then(|()| match std::fs::rename(temporary, path) {
        Ok(()) => Ok(true),
        // Somebody whose caller is gone was still at it, and faster. The content is the same.
        Err(_) if path.exists() => Ok(false),
        Err(error) => Err(unreadable(path, &error)),
    });
    if !matches!(moved, Ok(true)) {
        // What stays behind is the sweep's after the next start.
        let _ = std::fs::remove_dir_all(temporary);
    }
    moved.map(drop)
}

fn forget_what_a_power_cut_may_have_torn(dir: &Path) -> std::io::Result<()> {
    let marker = dir.join(".boot");
    // Where there is no boot id (not Linux), every start counts as one.
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_else(|_| uuid::Uuid::new_v4().to_string());
    if std::fs::read_to_string(&marker).is_ok_and(|known| known == boot) {
        return Ok(());
    }
    if std::fs::read_dir(dir)?.next().is_none() {
        return std::fs::write(marker, boot);
    }
    // Renamed as a whole, so that the start takes no longer with ten thousand packages; the sweep removes them.
    let aside = temporary_name(TORN);
    let beside = dir.with_file_name(&aside);
    std::fs::rename(dir, &beside)?;
    std::fs::create_dir(dir)?;
    std::fs::rename(beside, dir.join(aside))?;
    std::fs::write(marker, boot)
}

/// A start that was killed between the renames above left the old folder outside: it goes where the sweep looks.
fn take_in_what_was_left_beside(dir: &Path) -> std::io::Result<()> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    for entry in std::fs::read_dir(parent)? {
        let (name, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        if name.to_string_lossy().starts_with(&format!("{TEMPORARY}{TORN}-")) {
            std::fs::rename(path, dir.join(name))?;
        }
    }
    Ok(())
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ControlError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ControlError::failed(format!("A task that handles packages failed: {error}")))
}

fn unreadable(path: &Path, error: &std::io::Error) -> ControlError {
    ControlError::failed(format!("Cannot unpack the deployment package: {}: {error}", path.display()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
