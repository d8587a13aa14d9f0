//! A running sandbox and its program: when it ends, how to end it, how much memory it uses.

use crate::cgroup::Group;
use crate::network::{self, Wires};
use crate::sandbox::Sandbox;
use crate::script::{Script, ops};
use crate::socket::{Control, Reply};
use crate::spawner::NotStarted;
use crate::users::User;
use model::{MiB, Network};
use ports::Exit;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, TcpStream};

/// A sandbox's first process, and the program that it started.
pub struct Child {
    /// Of the first process: readable when it has ended, and with it everything else there.
    pidfd: AsyncFd<OwnedFd>,
    control: Arc<Control>,
    group: Group,
    /// Whether everything in the sandbox ends with its first process, whatever that is doing.
    walled: bool,
    /// Who it is on the machine, when nobody else is.
    user: Option<User>,
    /// Its network, when that is its own.
    wires: Mutex<Option<Wires>>,
    /// The program, as the server sees it; 0 before it was started.
    program: u32,
    /// Whether it shares memory with what it was forked from.
    shares: bool,
    frozen: AtomicBool,
    exit: Mutex<Option<Exit>>,
    peak_mib: AtomicU32,
}

impl Child {
    /// Takes charge of a freshly made first process; it will be reaped here and nowhere else, at once if it cannot be
    /// watched. Must be called within a tokio runtime.
    pub fn adopt(pidfd: OwnedFd, control: Control, group: Group, walled: bool) -> io::Result<Child> {
        // SAFETY: `pidfd` owns its descriptor, which stays registered exactly as long as it is open.
        let pidfd = unsafe { AsyncFd::register(pidfd) }.map_err(|unwatched| {
            let (pidfd, error) = unwatched.into_parts();
            // Without a process namespace it ends what is there first, when its socket closes.
            if walled {
                signal(&pidfd, libc::SIGKILL);
            }
            control.close();
            reap_when_ended(&pidfd);
            error
        })?;
        let (control, wires) = (Arc::new(control), Mutex::default());
        let (exit, peak_mib, frozen) = (Mutex::default(), AtomicU32::new(0), AtomicBool::new(false));
        Ok(Child {
            pidfd,
            control,
            group,
            walled,
            user: None,
            wires,
            program: 0,
            shares: false,
            frozen,
            exit,
            peak_mib,
        })
    }

    /// Its control group.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Lays out its network and keeps it.
    pub fn wire(&self, mut wires: Wires) -> Result<(), NotStarted> {
        wires.lay_out()?;
        *self.wires() = Some(wires);
        Ok(())
    }

    /// Lets it reach what functions of this policy may. Must be called within a tokio runtime.
    pub fn open_network(&self, network: Network) -> Result<(), NotStarted> {
        match &mut *self.wires() {
            Some(wires) => wires.open(network, &self.control),
            None => Ok(()),
        }
    }

    /// The socket that was made for its Runtime API. Must be called within a tokio runtime.
    pub fn runtime_api(&self) -> Option<io::Result<TcpListener>> {
        Some(network::listener(self.wires().as_mut()?.runtime_api()?))
    }

    /// Nobody will listen for its Runtime API.
    pub fn no_runtime_api(&self) {
        if let Some(wires) = &mut *self.wires() {
            drop(wires.runtime_api());
        }
    }

    /// Connects to a program in it.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        if self.wires().is_none() {
            return TcpStream::connect(address).await;
        }
        let socket = network::open_inside(&self.control, libc::AF_INET, libc::SOCK_STREAM).await?;
        network::unconnected(socket)?.connect(address).await
    }

    fn wires(&self) -> MutexGuard<'_, Option<Wires>> {
        self.wires.lock().expect("no panic while held")
    }

    /// Has the first process carry out a row that starts the program. Blocks for as long as that takes:
    /// milliseconds.
    pub fn run(&mut self, script: &Script, fds: &[RawFd]) -> Result<(), NotStarted> {
        let nothing = || NotStarted::at("start the program")(io::Error::other("nothing was started"));
        let pidfd = self.tell(script, fds)?.pop().ok_or_else(nothing)?;
        self.program = number(&pidfd).map_err(NotStarted::at("find the program"))?.unwrap_or(0);
        Ok(())
    }

    /// Its program is to be this user; the row that says so.
    pub fn belong_to(&mut self, user: Option<User>) -> Script {
        self.user = user;
        self.user.as_ref().map(User::script).unwrap_or_default()
    }

    /// The program is a copy of another process, which is in another group.
    pub fn is_a_copy(&mut self) {
        self.shares = true;
    }

    /// The first process itself becomes the program.
    pub fn is_the_program(&mut self) -> io::Result<()> {
        self.program = number(self.pidfd.get_ref())?.unwrap_or(0);
        Ok(())
    }

    /// The program, as the server sees it; 0 before it was started.
    pub fn program(&self) -> u32 {
        self.program
    }

    /// Makes the sandbox, in which a program waits, one function's. Blocks for as long as that takes: a fraction
    /// of a millisecond.
    pub fn dress(&self, sandbox: &Sandbox) -> Result<(), NotStarted> {
        self.group.limit(&sandbox.resources())?;
        let mut script = sandbox.dress().clone();
        script.add(ops::CLOSE, &[]);
        self.tell(&script, &[]).map(drop)
    }

    /// Has the first process carry out a row; the descriptors that it gave.
    fn tell(&self, script: &Script, fds: &[RawFd]) -> Result<Vec<OwnedFd>, NotStarted> {
        self.begin(script, fds)?;
        self.outcome(script)
    }

    /// Has the first process begin with a row, whose outcome is to be asked for before the next.
    pub fn begin(&self, script: &Script, fds: &[RawFd]) -> Result<(), NotStarted> {
        let sent = script.bytes().and_then(|bytes| self.control.send(bytes, fds));
        sent.map_err(NotStarted::at("tell the first process what to do"))
    }

    /// Waits until the row that was begun has been carried out; the descriptors that it gave.
    pub fn outcome(&self, script: &Script) -> Result<Vec<OwnedFd>, NotStarted> {
        let reply = self.hear()?;
        match reply.errno {
            0 => Ok(reply.descriptors),
            _ => Err(failure(script, &reply)),
        }
    }

    /// Waits for what the first process answers to the row that was begun.
    pub fn hear(&self) -> Result<Reply, NotStarted> {
        let reply = self.control.answer().map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it has ended"),
            _ => error,
        });
        reply.map_err(NotStarted::at("hear of the first process"))
    }

    /// Resolves when the sandbox has ended and is reaped; any number of callers.
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

    /// How the program ended, if the sandbox has.
    pub fn try_exit(&self) -> Option<Exit> {
        let mut exit = self.exit.lock().expect("no panic while held");
        if exit.is_none() && reap(self.pidfd.get_ref()) {
            *exit = Some(self.verdict());
        }
        exit.clone()
    }

    /// What the first process told before it went. When it told nothing it was killed, and all with it.
    fn verdict(&self) -> Exit {
        let end = self.control.last_word();
        if let Some(end) = end {
            self.saw(u64::from(end.max_resident_kib) << 10);
        }
        let status = std::process::ExitStatus::from_raw(end.map_or(libc::SIGKILL, |end| end.status as i32));
        match (status.code(), status.signal()) {
            (_, Some(libc::SIGKILL)) if let Some(had) = self.group.ran_out_of_memory() => {
                // The process is no longer there to be asked.
                self.peak_mib.fetch_max(had.0, Ordering::Relaxed);
                Exit::OutOfMemory
            }
            (_, Some(signal)) => Exit::Signal(signal),
            (Some(code), _) => Exit::Status(code),
            _ => Exit::Unknown,
        }
    }

    /// Ends everything in the sandbox; nothing when that has already happened.
    pub fn kill(&self) {
        if self.try_exit().is_some() {
            return;
        }
        match self.walled {
            true => signal(self.pidfd.get_ref(), libc::SIGKILL),
            // Killed, it would leave its children to the machine; told so, it ends them first.
            false => self.control.close(),
        }
    }

    /// Lets nothing in the sandbox run any more: its control group is frozen, with the first process; where there is none,
    /// the first process stops all others with a signal.
    pub fn freeze(&self) -> io::Result<()> {
        self.frozen.store(true, Ordering::Relaxed);
        self.let_run(false)
    }

    /// Lets it go on; nothing when it was not frozen.
    pub fn thaw(&self) -> io::Result<()> {
        if self.try_exit().is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match self.frozen.swap(false, Ordering::Relaxed) {
            true => self.let_run(true).or_else(|error| match error.kind() {
                io::ErrorKind::Unsupported => Ok(()),
                _ => Err(error),
            }),
            false => Ok(()),
        }
    }

    fn let_run(&self, run: bool) -> io::Result<()> {
        if let Some(done) = self.group.freeze(!run) {
            return done;
        }
        // Without a process namespace nobody knows all of its processes.
        match self.walled {
            true => self.signal_all(if run { libc::SIGCONT } else { libc::SIGSTOP }),
            false => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Sends a signal to everything in the sandbox but its first process, a moment later.
    fn signal_all(&self, signal: i32) -> io::Result<()> {
        let mut script = Script::default();
        script.add(ops::SIGNAL, &[]).number(signal as u32);
        self.control.post(script.bytes()?)
    }

    /// Asks the program to end, kills everything after `grace`, and waits until it is gone.
    pub async fn stop(&self, grace: Duration) {
        let tell = || self.signal_all(libc::SIGTERM).and_then(|()| self.thaw());
        if !grace.is_zero() && self.try_exit().is_none() && tell().is_ok() {
            let _ = tokio::time::timeout(grace, self.exited()).await;
        }
        self.kill();
        self.exited().await;
    }

    /// Memory now that is its own, in MiB rounded up; `None` when the process is gone.
    pub fn memory(&self) -> Option<MiB> {
        let statm = self.of_program("statm")?;
        let mut fields = statm.split(' ').map(|f| f.parse::<u64>().unwrap_or(0));
        let (resident, shared) = (fields.nth(1)?, fields.next()?);
        self.saw(resident * PAGE);
        if self.shares
            && let Some(own) = self.group.own_memory()
        {
            return Some(own);
        }
        // Pages of files (the interpreter, libraries) are shared between instances: count each instance's own.
        Some(MiB::from_bytes_ceil(resident.saturating_sub(shared) * PAGE))
    }

    /// The most resident memory that the program had: as the kernel counts it while it lives, as its first process
    /// told when it had ended. Of one that was killed with its first process, what was seen before, or what its
    /// control group has counted.
    pub fn peak(&self) -> MiB {
        let status = self.of_program("status").unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kib) = peak.and_then(|p| p.trim().trim_end_matches(" kB").parse::<u64>().ok()) {
            self.saw(kib << 10);
        } else if self.try_exit().is_none() || self.last_peak() == MiB(0) {
            self.peak_mib.fetch_max(self.group.peak().unwrap_or_default().0, Ordering::Relaxed);
        }
        self.last_peak()
    }

    /// A file that `/proc` has of the program; `None` when the sandbox has ended, since by then its number may be another's.
    fn of_program(&self, file: &str) -> Option<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.program)).ok()?;
        self.try_exit().is_none().then_some(text)
    }

    fn saw(&self, resident: u64) {
        self.peak_mib.fetch_max(MiB::from_bytes_ceil(resident).0, Ordering::Relaxed);
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
        self.kill();
        if self.try_exit().is_some() {
            return;
        }
        // Until then nobody else is its user.
        let user = Arc::new(self.user.take());
        let waiting = self.pidfd.get_ref().try_clone().and_then(|pidfd| {
            let user = user.clone();
            let wait = move || {
                reap_when_ended(&pidfd);
                drop(user);
            };
            std::thread::Builder::new().name("reaper".into()).spawn(wait)
        });
        if waiting.is_err() {
            // The machine has no room for a thread: as long as that takes, then.
            reap_when_ended(self.pidfd.get_ref());
        }
    }
}

/// Without a limit: what was killed ends as soon as the kernel lets it run, which is never when an administrator has frozen
/// it, and whoever stopped waiting before would leave it in the process table for good.
fn reap_when_ended(pidfd: &OwnedFd) {
    while !reap(pidfd) {
        let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: `poll` lives on this stack; the descriptor is open as long as the caller holds it.
        unsafe { libc::poll(&raw mut poll, 1, -1) };
    }
}

/// What an answer says that is not a success.
pub fn failure(script: &Script, reply: &Reply) -> NotStarted {
    let error = io::Error::from_raw_os_error(reply.errno as i32);
    match script.is_run(reply.place as usize) {
        true => NotStarted::Program(error),
        false => NotStarted::at(script.describe(reply.place as usize))(error),
    }
}

/// Takes a process that has ended out of the process table; whether it had.
fn reap(pidfd: &OwnedFd) -> bool {
    wait(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t) != Some(0)
}

/// Takes all processes of a group that have ended out of the process table; whether others of it are left. Those that
/// somebody waits for may be among them: how they ended their first process has told, and not the process table.
pub fn reap_group(leader: u32) -> bool {
    loop {
        match wait(libc::P_PGID, leader) {
            Some(0) => return true,
            Some(_) => {}
            None => return false,
        }
    }
}

/// The number of a child that has ended and was taken out of the process table; 0 when all of those that are meant run;
/// `None` when there are none.
fn wait(which: libc::idtype_t, id: libc::id_t) -> Option<libc::pid_t> {
    // SAFETY: siginfo_t is plain data for which all zeros is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` lives on this stack.
    let result = unsafe { libc::waitid(which, id, &raw mut info, libc::WEXITED | libc::WNOHANG) };
    // SAFETY: waitid succeeded, so the process id is set; 0 when nothing has happened.
    (result == 0).then(|| unsafe { info.si_pid() })
}

fn signal(pidfd: &OwnedFd, signal: i32) {
    let (fd, info) = (pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: a pidfd that is open; without an info structure the kernel reads no memory.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) };
}

/// The process id behind a pidfd, in this process's namespace; `None` when it has ended.
fn number(pidfd: &OwnedFd) -> io::Result<Option<u32>> {
    /// `PIDFD_GET_INFO` of `linux/pidfd.h`, since Linux 6.13, for the first 64 bytes of `struct pidfd_info`: 64 bits of
    /// what is asked for, 64 of a control group, then numbers, the first of which is the process id.
    const GET_INFO: u64 = 0xC040_FF0B;
    const PID: u32 = 1;
    let mut info = [PID, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: the kernel fills as many bytes as the request says, which `info` has.
    match unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO as _, info.as_mut_ptr()) } {
        0 => return Ok(Some(info[4])),
        _ if io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        _ => {}
    }
    // A file to make and to print takes ten times as long.
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    Ok(text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{Groups, Resources};
    use crate::users::Users;
    use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd};
    use std::process::{Command, Stdio};

    const RESOURCES: Resources = Resources { memory: MiB(1), tmp: MiB(0), weight: MiB(1), tasks: 1 };

    /// A first process that ends when its input does, whatever it is told.
    #[allow(clippy::zombie_processes)] // who reaps it is what is tested
    fn child() -> (Child, std::process::ChildStdin) {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).spawn().expect("started");
        let input = cat.stdin.take().expect("piped");
        // SAFETY: without pointers; the kernel gives a descriptor, which is ours from then on.
        let pidfd = unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, cat.id(), 0);
            OwnedFd::from_raw_fd(RawFd::try_from(fd).expect("a descriptor"))
        };
        let (control, _) = Control::pair().expect("a pair");
        let group = Groups::none().make(&RESOURCES).expect("a group");
        (Child::adopt(pidfd, control, group, false).expect("adopted"), input)
    }

    #[tokio::test]
    async fn nobody_is_the_user_of_one_that_has_not_ended_yet() {
        let users = Users::new(2_000_000..2_000_001);
        let (mut child, input) = child();
        child.belong_to(users.take().expect("there is one"));
        drop(child);
        assert!(users.take().is_err());
        drop(input);
        while users.take().is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn of_one_that_cannot_be_watched_nothing_is_left() {
        let (child, _input) = child();
        let pid = number(child.pidfd.get_ref()).expect("told").expect("it runs");
        let pidfd = child.pidfd.get_ref().try_clone().expect("a descriptor").into_raw_fd();
        // SAFETY: it is open, and given away once; who has it in a list does nothing with it.
        let (_listed, twice) = unsafe {
            let listed = AsyncFd::register(BorrowedFd::borrow_raw(pidfd)).expect("registered");
            (listed, OwnedFd::from_raw_fd(pidfd))
        };
        let (control, _) = Control::pair().expect("a pair");
        let group = Groups::none().make(&RESOURCES).expect("a group");
        assert!(Child::adopt(twice, control, group, true).is_err());
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[tokio::test]
    async fn what_has_the_number_of_a_program_that_has_ended_is_not_taken_for_it() {
        let (mut child, input) = child();
        child.program = std::process::id();
        assert!(child.memory().is_some());
        drop(input);
        child.exited().await;
        child.peak_mib = AtomicU32::new(0);
        assert_eq!((child.memory(), child.peak()), (None, MiB(0)));
    }
}
