//! Which sessions are this server's, written down so that a server that was killed leaves nothing behind.
//!
//! The kernel kills each instance's first process with the server (`PR_SET_PDEATHSIG`), but not what that
//! process started. All of it is in one session, whose number is the first process's. One empty file per
//! session is enough to find it again: its name is `<pid>.<start time>`, and the start time tells a process
//! from a later one with the same number.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The folder of session marks.
pub struct Sessions {
    dir: PathBuf,
}

/// A session that is marked as long as this lives.
pub struct Mark {
    path: PathBuf,
}

impl Sessions {
    /// Opens the folder and ends every session that an earlier server left; their number.
    pub fn open(dir: PathBuf) -> io::Result<(Sessions, usize)> {
        std::fs::create_dir_all(&dir)?;
        let mut left = Vec::new();
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            if let Some(mark) = parse(&entry.file_name().to_string_lossy()) {
                left.push(mark);
            }
            let _ = std::fs::remove_file(entry.path());
        }
        let ended = if left.is_empty() { 0 } else { end(&left) };
        Ok((Sessions { dir }, ended))
    }

    /// Marks the session that `pid` leads. Without a mark it would only not be found after a `kill -9`.
    pub fn mark(&self, pid: u32) -> io::Result<Mark> {
        let start = stat(pid).map(|stat| stat.start).unwrap_or(0);
        let path = self.dir.join(format!("{pid}.{start}"));
        File::create(&path)?;
        Ok(Mark { path })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Kills every process that sees `runtime` (a folder of this server's own) at `/var/runtime`; their number.
pub fn end_all_that_see(runtime: &Path) -> usize {
    let Ok(ours) = runtime.metadata() else { return 0 };
    let sees = |pid: u32| {
        let there = std::fs::metadata(format!("/proc/{pid}/root/var/runtime"));
        there.is_ok_and(|seen| (seen.dev(), seen.ino()) == (ours.dev(), ours.ino()))
    };
    processes().filter(|&pid| sees(pid) && kill(pid)).count()
}

/// Ends processes that left their instance's session, once the instance is gone. They are found by the mount
/// namespace they share with nobody else; all that ended meanwhile are looked for in one walk over `/proc`.
pub struct Stragglers {
    gone: std::sync::mpsc::Sender<File>,
}

impl Stragglers {
    /// Starts the thread that looks for them.
    pub fn new() -> Stragglers {
        let (gone, queue) = std::sync::mpsc::channel::<File>();
        let walk = move || {
            while let Ok(first) = queue.recv() {
                // Open until the walk is over, so that no new instance can get the number of one that is gone.
                let held: Vec<File> = std::iter::once(first).chain(queue.try_iter()).collect();
                let spaces: Vec<u64> =
                    held.iter().filter_map(|file| Some(file.metadata().ok()?.ino())).collect();
                let left = |pid: u32| mount_namespace(pid).is_some_and(|space| spaces.contains(&space));
                for pid in processes().filter(|&pid| left(pid)) {
                    kill(pid);
                }
            }
        };
        std::thread::Builder::new()
            .name("stragglers".into())
            .spawn(walk)
            .expect("the machine can start a thread");
        Stragglers { gone }
    }

    /// What is to be ended once `pid`, which has just been started, is gone; `None` when it has no mount
    /// namespace of its own to be known by.
    pub fn of(&self, pid: u32) -> Option<Straggling> {
        let space = File::open(format!("/proc/{pid}/ns/mnt")).ok()?;
        let own = space.metadata().ok()?.ino() != mount_namespace(std::process::id())?;
        own.then(|| Straggling { space: Some(space), gone: self.gone.clone() })
    }
}

/// An instance's mount namespace; when dropped, whoever is left in it is ended.
pub struct Straggling {
    space: Option<File>,
    gone: std::sync::mpsc::Sender<File>,
}

impl Drop for Straggling {
    fn drop(&mut self) {
        if let Some(space) = self.space.take() {
            let _ = self.gone.send(space);
        }
    }
}

fn mount_namespace(pid: u32) -> Option<u64> {
    Some(std::fs::metadata(format!("/proc/{pid}/ns/mnt")).ok()?.ino())
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn kill(pid: u32) -> bool {
    // SAFETY: kill touches no memory; the caller has just seen that the process is one of ours.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) == 0 }
}

/// What `/proc/<pid>/stat` says that matters here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    session: u32,
    start: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?)
}

/// Fields 6 (session) and 22 (start time); the command name before them may hold anything but ends at the
/// last parenthesis.
fn parse_stat(text: &str) -> Option<Stat> {
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let session = fields.nth(3)?.parse().ok()?;
    let start = fields.nth(15)?.parse().ok()?;
    Some(Stat { session, start })
}

fn parse(name: &str) -> Option<(u32, u64)> {
    let (pid, start) = name.split_once('.')?;
    Some((pid.parse().ok()?, start.parse().ok()?))
}

/// Kills the members of these sessions. A session whose leader's number has gone to another process since is
/// not touched.
fn end(left: &[(u32, u64)]) -> usize {
    let ours = |session: u32| {
        left.iter().any(|&(pid, start)| {
            pid == session && stat(pid).is_none_or(|leader| leader.start == start || start == 0)
        })
    };
    processes().filter(|&pid| stat(pid).is_some_and(|stat| ours(stat.session)) && kill(pid)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_does_not_confuse_the_fields() {
        let text = "42 (a) b (c)) S 1 42 40 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0";
        assert_eq!(parse_stat(text), Some(Stat { session: 40, start: 777 }));
    }

    #[test]
    fn a_session_left_by_an_earlier_server_is_ended() {
        use std::os::unix::process::CommandExt;
        let dir = tempfile::tempdir().expect("a folder");
        let (sessions, none) = Sessions::open(dir.path().join("sessions")).expect("opened");
        assert_eq!(none, 0);
        let mut command = std::process::Command::new("sleep");
        command.arg("600");
        // SAFETY: setsid is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                Ok(())
            })
        };
        let mut child = command.spawn().expect("started");
        std::mem::forget(sessions.mark(child.id()).expect("marked"));
        let (_, ended) = Sessions::open(dir.path().join("sessions")).expect("opened");
        assert_eq!(ended, 1);
        assert!(!child.wait().expect("reaped").success());
    }
}
