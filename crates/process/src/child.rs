//! A running process: when it ends, how to end it, how much memory it uses.

use model::MiB;
use ports::Exit;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// A process that leads its own group.
pub struct Child {
    pid: u32,
    pidfd: AsyncFd<OwnedFd>,
    exit: Mutex<Option<Exit>>,
    peak_mib: AtomicU32,
}

impl Child {
    /// Takes charge of a freshly started process; it will be reaped here and nowhere else.
    pub fn adopt(pid: u32) -> io::Result<Child> {
        // SAFETY: pidfd_open takes a pid and flags and returns a descriptor that we own from here on.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, libc::PIDFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is open and owned by nobody else; it stays registered exactly as long as it is open.
        let pidfd = unsafe { AsyncFd::register(OwnedFd::from_raw_fd(fd as i32))? };
        Ok(Child { pid, pidfd, exit: Mutex::new(None), peak_mib: AtomicU32::new(0) })
    }

    /// Resolves when the process has ended and is reaped; any number of callers.
    pub async fn exited(&self) -> Exit {
        loop {
            // Whoever reaped it has left its word; else the descriptor tells, and the kernel need not be asked.
            if let Some(exit) = self.exit.lock().expect("no panic while held").clone() {
                return exit;
            }
            match self.pidfd.readable().await {
                Ok(mut ready) if self.try_exit().is_none() => ready.clear_ready(),
                Ok(_) => {}
                Err(_) => return Exit::Unknown,
            }
        }
    }

    /// How it ended, if it has.
    pub fn try_exit(&self) -> Option<Exit> {
        let mut exit = self.exit.lock().expect("no panic while held");
        if exit.is_none() {
            *exit = self.reap();
        }
        exit.clone()
    }

    /// Ends what is left of the group while its dead leader still holds the group's number, then reaps.
    fn reap(&self) -> Option<Exit> {
        let exit = self.wait(libc::WNOWAIT)?;
        self.signal(libc::SIGKILL);
        self.wait(0);
        Some(exit)
    }

    fn wait(&self, options: i32) -> Option<Exit> {
        // SAFETY: siginfo_t is plain data for which all zeros is valid.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let id = self.pidfd.get_ref().as_raw_fd() as libc::id_t;
        let options = options | libc::WEXITED | libc::WNOHANG;
        // SAFETY: `info` lives on this stack; the pidfd is open.
        if unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, options) } < 0 {
            return Some(Exit::Unknown);
        }
        // SAFETY: waitid succeeded, so the child fields are set (pid 0: still running).
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        match (pid, info.si_code) {
            (0, _) => None,
            (_, libc::CLD_EXITED) => Some(Exit::Status(status)),
            (_, _) => Some(Exit::Signal(status)),
        }
    }

    /// Kills the whole process group at once; nothing when it has already been reaped.
    pub fn kill(&self) {
        if self.try_exit().is_none() {
            self.signal(libc::SIGKILL);
        }
    }

    fn signal(&self, signal: i32) {
        // SAFETY: kill touches no memory. The leader is unreaped, so the group's number is still its own.
        unsafe { libc::kill(-(self.pid as i32), signal) };
    }

    /// Asks the group to end, kills it after `grace`, and waits until the leader is gone.
    pub async fn stop(&self, grace: Duration) {
        if !grace.is_zero() && self.try_exit().is_none() {
            self.signal(libc::SIGTERM);
            let _ = tokio::time::timeout(grace, self.exited()).await;
        }
        self.kill();
        self.exited().await;
    }

    /// Resident memory now, in MiB rounded up; `None` when the process is gone.
    pub fn memory(&self) -> Option<MiB> {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid)).ok()?;
        let mut fields = statm.split(' ').map(|f| f.parse::<u64>().unwrap_or(0));
        let (resident, shared) = (fields.nth(1)?, fields.next()?);
        let peak = MiB::from_bytes_ceil(resident * PAGE);
        self.peak_mib.fetch_max(peak.0, Ordering::Relaxed);
        // Pages of files (the interpreter, libraries) are shared between instances: count each instance's own.
        Some(MiB::from_bytes_ceil(resident.saturating_sub(shared) * PAGE))
    }

    /// The most resident memory that has been seen.
    pub fn peak(&self) -> MiB {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kib) = peak.and_then(|p| p.trim().trim_end_matches(" kB").parse::<u64>().ok()) {
            self.peak_mib.fetch_max(MiB::from_bytes_ceil(kib << 10).0, Ordering::Relaxed);
        }
        self.last_peak()
    }

    /// As [`Child::peak`], without asking the machine again.
    pub fn last_peak(&self) -> MiB {
        MiB(self.peak_mib.load(Ordering::Relaxed))
    }
}

/// x86-64 and most arm64 kernels; a wrong guess only scales the budget's observation.
const PAGE: u64 = 4096;

impl Drop for Child {
    /// Nothing of an instance outlives it. Killing takes the kernel a moment, so a thread waits for the rest.
    fn drop(&mut self) {
        if self.try_exit().is_some() {
            return;
        }
        self.signal(libc::SIGKILL);
        let Ok(pidfd) = self.pidfd.get_ref().try_clone() else { return };
        std::thread::spawn(move || {
            // SAFETY: the descriptor is owned by this closure; both structures live on its stack.
            unsafe {
                let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                libc::poll(&raw mut poll, 1, 10_000);
                let mut info: libc::siginfo_t = std::mem::zeroed();
                let id = pidfd.as_raw_fd() as libc::id_t;
                libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED | libc::WNOHANG);
            }
        });
    }
}
