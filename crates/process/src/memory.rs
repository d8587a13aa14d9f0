//! Ends an instance that has more memory than its function may have. The kernel's own limit is that and the size of
//! `/tmp` together, since what lies there is memory that the same group is charged for; `policy::memory` tells the two
//! apart, and here it is looked.
//!
//! Nothing is read while an instance stays below its limit: the kernel raises an alarm. In v2 that is `memory.high`,
//! beyond which it also slows the group down, so the value is taken away while it is looked; in v1 a threshold of
//! `memory.usage_in_bytes`, which takes the kernel some 10 ms to set and is set beside the start.
//!
//! Source: kernel documentation, `admin-guide/cgroup-v2.rst` and `admin-guide/cgroup-v1/memory.rst`.

use crate::cgroup::{Kind, end_members, members};
use model::MiB;
use policy::memory::{MemoryWatch, Seen, TOLERANCE, Verdict};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

/// Thresholds of v1 that are being set at once: those set together share one wait of the kernel's.
static SETTING: Semaphore = Semaphore::const_new(16);

/// Without an alarm it is looked this often; and so often the members of a group are killed until none is left.
const WITHOUT_ALARM: Duration = Duration::from_millis(100);

/// The watch over one group. It ends when dropped.
pub struct Watch {
    task: tokio::task::AbortHandle,
    /// What it had when it was ended for it, in MiB; 0 while it was not.
    had: Arc<AtomicU32>,
}

impl Watch {
    /// Over the group `dir`, that may have `limit`. Must be called within a tokio runtime.
    pub fn begin(kind: Kind, dir: PathBuf, limit: MiB) -> Watch {
        let had = Arc::new(AtomicU32::new(0));
        let task = tokio::spawn(watch(kind, dir, u64::from(limit.0) << 20, had.clone())).abort_handle();
        Watch { task, had }
    }

    /// How much memory it had when it was ended for that.
    pub fn ended(&self) -> Option<MiB> {
        Some(MiB(self.had.load(Ordering::Relaxed))).filter(|had| had.0 > 0)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(kind: Kind, dir: PathBuf, limit: u64, had: Arc<AtomicU32>) {
    let alarm = Alarm::set(kind, &dir, limit).await;
    if let Err(error) = &alarm {
        tracing::debug!(%error, group = %dir.display(), "no alarm for memory; it is looked at instead");
    }
    let mut watch = MemoryWatch::new(limit);
    loop {
        let Some(seen) = look(kind, &dir, limit) else {
            // Not begun, or ending.
            tokio::time::sleep(WITHOUT_ALARM).await;
            continue;
        };
        match (watch.saw(seen), &alarm) {
            (Verdict::Rest, Ok(alarm)) => alarm.wait(&dir, limit).await,
            (Verdict::Rest, Err(_)) => tokio::time::sleep(WITHOUT_ALARM).await,
            (Verdict::LookAgain(pause), _) => tokio::time::sleep(pause).await,
            (Verdict::TooMuch, _) => break had.store((seen.own >> 20) as u32, Ordering::Relaxed),
        }
    }
    loop {
        end_members(&dir);
        tokio::time::sleep(WITHOUT_ALARM).await;
    }
}

/// What the kernel tells by itself.
struct Alarm {
    kind: Kind,
    told: AsyncFd<OwnedFd>,
}

impl Alarm {
    async fn set(kind: Kind, dir: &Path, limit: u64) -> io::Result<Alarm> {
        let (told, interest) = match kind {
            Kind::V1 => (threshold(dir.to_owned(), limit).await?, Interest::READABLE),
            Kind::V2 => (File::open(dir.join("memory.events"))?.into(), Interest::PRIORITY),
        };
        // SAFETY: `told` owns its descriptor, which stays registered exactly as long as it is open.
        let told = unsafe { AsyncFd::register_with_interest(told, interest)? };
        Ok(Alarm { kind, told })
    }

    /// Until the group has reached the limit, or may have.
    async fn wait(&self, dir: &Path, limit: u64) {
        let rearm = |value: String| _ = std::fs::write(dir.join("memory.high"), value);
        if self.kind == Kind::V2 {
            rearm(limit.to_string());
        }
        let interest = if self.kind == Kind::V2 { Interest::PRIORITY } else { Interest::READABLE };
        match self.told.ready(interest).await {
            Ok(mut told) => {
                // An eventfd has no positions; the file of events is told to be seen when it is read from its beginning.
                let file = told.get_inner().try_clone().map(File::from);
                let _ = file.and_then(|mut file| match self.kind {
                    Kind::V1 => file.read(&mut [0; 8]),
                    Kind::V2 => file.read_at(&mut [0; 256], 0),
                });
                told.clear_ready();
            }
            Err(_) => tokio::time::sleep(WITHOUT_ALARM).await,
        }
        if self.kind == Kind::V2 {
            rearm("max".to_owned());
        }
    }
}

/// An eventfd that is written to when usage crosses `limit`, up or down.
async fn threshold(dir: PathBuf, limit: u64) -> io::Result<OwnedFd> {
    let _turn = SETTING.acquire().await.map_err(io::Error::other)?;
    let set = move || {
        // SAFETY: without pointers.
        let told = match unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) } {
            -1 => return Err(io::Error::last_os_error()),
            // SAFETY: the kernel has just given us this descriptor.
            fd => unsafe { OwnedFd::from_raw_fd(fd) },
        };
        let usage = File::open(dir.join("memory.usage_in_bytes"))?;
        let line = format!("{} {} {limit}", told.as_raw_fd(), usage.as_raw_fd());
        std::fs::write(dir.join("cgroup.event_control"), line)?;
        Ok(told)
    };
    tokio::task::spawn_blocking(set).await.map_err(io::Error::other)?
}

/// What the group has; `None` when nobody is there to be asked, or it is gone.
fn look(kind: Kind, dir: &Path, limit: u64) -> Option<Seen> {
    let read = |file: &str| std::fs::read_to_string(dir.join(file)).ok();
    let usage = read(match kind {
        Kind::V1 => "memory.usage_in_bytes",
        Kind::V2 => "memory.current",
    })?;
    let usage: u64 = usage.trim().parse().ok()?;
    if usage < limit {
        return Some(Seen { counted: usage, own: usage });
    }
    let stat = read("memory.stat")?;
    let fields = stat.lines().filter_map(|line| line.split_once(' '));
    let cached = fields.filter(|(name, _)| matches!(*name, "active_file" | "inactive_file"));
    let unread = usage.saturating_sub(cached.filter_map(|(_, bytes)| bytes.parse::<u64>().ok()).sum());
    // In v2 the kernel drops what was read before it slows anybody down.
    let counted = if kind == Kind::V2 { unread } else { usage };
    if unread <= limit + TOLERANCE {
        return Some(Seen { counted, own: unread });
    }
    Some(Seen { counted, own: unread.saturating_sub(in_tmp(&members(dir))?) })
}

/// What lies in the `/tmp` that these processes see, in bytes.
fn in_tmp(members: &[i32]) -> Option<u64> {
    members.iter().find_map(|pid| {
        let path = std::ffi::CString::new(format!("/proc/{pid}/root/tmp")).ok()?;
        // SAFETY: plain numbers, for which all zeros is valid.
        let mut told: libc::statfs = unsafe { std::mem::zeroed() };
        // SAFETY: the path ends in NUL, and `told` lives on this stack.
        let found = unsafe { libc::statfs(path.as_ptr(), &raw mut told) } == 0;
        (found && told.f_type == libc::TMPFS_MAGIC)
            .then(|| (told.f_blocks - told.f_bfree) * told.f_bsize as u64)
    })
}
