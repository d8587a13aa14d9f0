//! The threads that start sandboxes. They live as long as the server, because the kernel kills a process with
//! `PR_SET_PDEATHSIG` when the *thread* that made it ends, and because making a sandbox takes milliseconds
//! that no async worker has.

use crate::ahead::Ahead;
use crate::cgroup::{Group, Groups, Resources};
use crate::child::Child;
use crate::network::{self, Outside, Wires};
use crate::sandbox::Sandbox;
use crate::script::ops;
use crate::socket::Control;
use crate::users::{User, Users};
use model::Network;
use std::ffi::{CString, OsString};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A program to start.
pub struct Program {
    /// The view it runs in.
    pub sandbox: Arc<Sandbox>,
    /// Program and arguments, as seen inside.
    pub argv: Vec<OsString>,
    /// All its variables.
    pub environment: Vec<(String, String)>,
    /// Given to it as descriptors 3 and 4.
    pub transport: Option<[OwnedFd; 2]>,
    /// Where a socket is to listen in its own network, if it has one, for the Runtime API.
    pub runtime_api: Option<SocketAddr>,
    /// Given to it as stdout and stderr.
    pub output: OwnedFd,
    /// Whether it is started before its sandbox is dressed for a function.
    pub waits: bool,
}

/// Why a program was not started. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// The sandbox could not be made.
    #[error("{step}: {error}")]
    Sandbox {
        /// What could not be done.
        step: String,
        /// As the operating system says.
        error: io::Error,
    },
    /// The sandbox is fine, the program cannot be executed.
    #[error(transparent)]
    Program(io::Error),
}

impl NotStarted {
    /// The sandbox could not be made because this step failed.
    pub fn at(step: impl Into<String>) -> impl FnOnce(io::Error) -> NotStarted {
        |error| NotStarted::Sandbox { step: step.into(), error }
    }

    /// Whether the first process had ended before it was told everything.
    fn was_ended(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        let NotStarted::Sandbox { error, .. } = self else { return false };
        matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
    }
}

/// Something to be done on one of the threads.
type Job = Box<dyn FnOnce(&Shared) + Send>;

/// Starts programs on its own threads.
pub struct Spawner {
    /// `None` when it is being dropped.
    jobs: Option<std::sync::mpsc::Sender<Job>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// What all starts share.
pub struct Shared {
    /// The sandboxes' first process, as a file.
    pub init: CString,
    /// Where each gets a group of its own.
    pub groups: Groups,
    /// What sandboxes with a network of their own reach.
    pub outside: Arc<Outside>,
    /// Who instances are on the machine.
    users: Arc<Users>,
    ahead: Ahead,
    /// For what is watched.
    pub runtime: tokio::runtime::Handle,
}

impl Spawner {
    /// `threads` starts can be under way at once. `init` is the program of the sandboxes' first process, `outside`
    /// what sandboxes with a network of their own reach, `ahead` where some of them wait. Must be called within a tokio
    /// runtime. `users` is who instances are on the machine.
    pub fn new(
        threads: usize,
        init: &Path,
        groups: Groups,
        outside: Arc<Outside>,
        users: Arc<Users>,
        ahead: Ahead,
    ) -> io::Result<Spawner> {
        let init = CString::new(init.canonicalize()?.as_os_str().as_bytes())?;
        let runtime = tokio::runtime::Handle::current();
        let shared = Arc::new(Shared { init, groups, outside, users, ahead, runtime });
        let (jobs, queue) = std::sync::mpsc::channel::<Job>();
        let queue = Arc::new(std::sync::Mutex::new(queue));
        let mut spawner = Spawner { jobs: Some(jobs), threads: Vec::new(), shared: shared.clone() };
        for n in 0..threads {
            let (queue, shared) = (queue.clone(), shared.clone());
            let run = move || {
                block_signals();
                // What is started is watched.
                let _runtime = shared.runtime.enter();
                loop {
                    let job = queue.lock().expect("a spawner never panics").recv();
                    let Ok(job) = job else { return };
                    job(&shared);
                }
            };
            spawner.threads.push(std::thread::Builder::new().name(format!("spawner-{n}")).spawn(run)?);
        }
        let run = move || {
            block_signals();
            let _runtime = shared.runtime.enter();
            shared.ahead.keep_ready(|sandbox, resources| shared.make_ahead(sandbox, resources));
        };
        spawner.threads.push(std::thread::Builder::new().name("ahead".into()).spawn(run)?);
        Ok(spawner)
    }

    /// How many sandboxes wait for a program.
    pub fn waiting(&self) -> usize {
        self.shared.ahead.count()
    }

    /// Starts a program in a sandbox of its own. Where somebody ends that while it is being made (the kernel, for want of
    /// memory, or the operator), another is made, once.
    pub async fn spawn(&self, program: Program) -> Result<Child, NotStarted> {
        let start = move |shared: &Shared| match shared.start(&program, false) {
            Err(error) if error.was_ended() => {
                tracing::warn!(%error, "a sandbox was ended while it was made; making another");
                shared.start(&program, true)
            }
            started => started,
        };
        self.run(start).await
    }

    /// As [`Spawner::spawn`], for a trial: no sandbox is made for the next.
    pub async fn try_out(&self, program: Program) -> Result<Child, NotStarted> {
        self.run(move |shared| shared.start(&program, true)).await
    }

    /// Has one of the threads do something that may block for milliseconds.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, NotStarted> + Send + 'static,
    ) -> Result<T, NotStarted> {
        let stopped = || NotStarted::at("start a program")(io::Error::other("the server is stopping"));
        let (reply, answer) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(Box::new(move |shared| _ = reply.send(work(shared)))).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Spawner {
    /// With the last thread the control groups are removed, which must not be cut off by the server's end.
    fn drop(&mut self) {
        drop(self.jobs.take());
        self.shared.ahead.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn start(&self, program: &Program, alone: bool) -> Result<Child, NotStarted> {
        let Program { sandbox, argv, environment, transport, output, .. } = program;
        let Program { runtime_api, waits, .. } = *program;
        // What waits for its function itself need not have a sandbox that waited, nor a trial.
        let ahead = (sandbox.is_walled() && !waits && !alone).then(|| self.ahead.take(sandbox)).flatten();
        // From here on the child is taken down again if anything fails.
        let mut child = match ahead {
            Some(child) => {
                child.group().limit(&sandbox.resources())?;
                child
            }
            None => self.make(sandbox, &sandbox.resources(), runtime_api)?,
        };
        if runtime_api.is_none() {
            child.no_runtime_api();
        }
        let mut script = child.belong_to(self.user_for(sandbox)?);
        if !waits {
            script.then(sandbox.dress().clone());
        }
        script.add(ops::RUN, &[sandbox.working_dir()]);
        script.program(argv, environment);
        if !waits {
            script.add(ops::CLOSE, &[]);
        }
        let mut fds = vec![output.as_raw_fd()];
        fds.extend(transport.iter().flatten().map(AsRawFd::as_raw_fd));
        child.run(&script, &fds)?;
        Ok(child)
    }

    /// Who its program is on the machine, if nobody else is to be.
    pub fn user_for(&self, sandbox: &Sandbox) -> Result<Option<User>, NotStarted> {
        match sandbox.has_own_user() {
            true => self.users.take().map_err(NotStarted::at("choose its user")),
            false => Ok(None),
        }
    }

    /// A sandbox for any function, ahead of need.
    fn make_ahead(&self, sandbox: &Sandbox, resources: &Resources) -> Result<Child, NotStarted> {
        self.make(sandbox, resources, Some(self.outside.inside(network::RUNTIME_API)))
    }

    /// A sandbox that is like this one, for any function; `runtime_api` is where a socket is to listen in its own
    /// network, if it has one. Must be called within a tokio runtime.
    fn make(
        &self,
        sandbox: &Sandbox,
        resources: &Resources,
        runtime_api: Option<SocketAddr>,
    ) -> Result<Child, NotStarted> {
        let child = self.first_process(sandbox.namespaces(), resources)?;
        let network = sandbox.network();
        let wires = match sandbox.has_own_network() {
            true => Some(Wires::take(&child, &self.outside, network == Network::Internet, runtime_api)?),
            false => None,
        };
        let mut base = child.group().join_script(Path::to_owned);
        base.then(sandbox.base().script().clone());
        child.begin(&base, &[])?;
        // While the first process, on another processor, makes the sandbox.
        if let Some(wires) = wires {
            child.wire(wires)?;
            child.open_network(network)?;
        }
        child.outcome(&base)?;
        Ok(child)
    }

    /// The first process of a new sandbox, which has not been told anything yet.
    pub fn first_process(&self, namespaces: i32, resources: &Resources) -> Result<Child, NotStarted> {
        let group = self.groups.make(resources)?;
        let (control, theirs) = Control::pair().map_err(NotStarted::at("make a socket"))?;
        let pidfd = self
            .clone_into(namespaces, &group, theirs.as_raw_fd())
            .map_err(NotStarted::at("clone a process into namespaces"))?;
        Child::adopt(pidfd, control, group, namespaces != 0).map_err(NotStarted::at("watch the process"))
    }

    /// Clones this thread into new namespaces, as the program `init`, with `control` as its descriptor 3; a
    /// pidfd of it.
    fn clone_into(&self, namespaces: i32, group: &Group, control: RawFd) -> io::Result<OwnedFd> {
        let unprivileged = namespaces & libc::CLONE_NEWUSER != 0;
        let start = Start { init: self.init.as_ptr(), control, unprivileged };
        let mut pidfd: RawFd = -1;
        let mut stack = vec![0u8; STACK];
        let mut arguments: libc::clone_args = no_arguments();
        // Until it has become another program the child shares the server's memory and the server's thread
        // waits, so nothing is copied, however large the server is.
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | namespaces;
        arguments.flags = flags as u64;
        arguments.pidfd = (&raw mut pidfd) as u64;
        arguments.exit_signal = libc::SIGCHLD as u64;
        arguments.stack = stack.as_mut_ptr() as u64;
        arguments.stack_size = STACK as u64;
        let unified = group.unified()?;
        if let Some(group) = &unified {
            arguments.flags |= CLONE_INTO_CGROUP;
            arguments.cgroup = group.as_raw_fd() as u64;
        }
        // SAFETY: `arguments`, the stack and `start` outlive the call, which returns when the child has
        // executed another program or ended; `enter` uses nothing else of this process's memory.
        let pid = unsafe { clone3(&arguments, enter, &raw const start) };
        match pid {
            // SAFETY: the kernel has just given us this descriptor.
            1.. => Ok(unsafe { OwnedFd::from_raw_fd(pidfd) }),
            errno => Err(io::Error::from_raw_os_error(-errno as i32)),
        }
    }
}

/// Not what `libc` has, which does not hold 64 bits.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Enough for a few system calls.
const STACK: usize = 16 * 1024;

/// What the child needs on its way to `execve`.
struct Start {
    init: *const libc::c_char,
    control: RawFd,
    /// Whether what it may do in its user namespace would be lost with `execve`, since it is not root there.
    unprivileged: bool,
}

/// The child, on a stack of its own, in the server's memory.
extern "C" fn enter(start: *const Start) -> ! {
    // SAFETY: async-signal-safe system calls; `start` is on the stack of the thread that waits for us.
    unsafe {
        let Start { init, control, unprivileged } = *start;
        // The server ignores it, and what is ignored stays so in the program.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        if unprivileged {
            keep_capabilities();
        }
        let placed = match control == ops::CONTROL_FD {
            true => libc::fcntl(control, libc::F_SETFD, 0),
            false => libc::dup2(control, ops::CONTROL_FD),
        };
        if placed >= 0 {
            let (arguments, variables) = ([init, std::ptr::null()], [std::ptr::null()]);
            libc::execve(init, arguments.as_ptr(), variables.as_ptr());
        }
        libc::_exit(127)
    }
}

/// Makes all capabilities ambient, so that they outlive `execve`. Source: `capabilities(7)`.
///
/// # Safety
/// Async-signal-safe.
unsafe fn keep_capabilities() {
    const VERSION_3: u32 = 0x2008_0522;
    // `struct __user_cap_header_struct`, and twice `struct __user_cap_data_struct`: effective, permitted,
    // inheritable. The kernel gives no more than there is.
    let header = [VERSION_3, 0];
    let mut sets = [0u32; 6];
    // SAFETY: both arrays live on this stack.
    unsafe {
        libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr());
        (sets[2], sets[5]) = (sets[1], sets[4]);
        libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr());
        for capability in 0..64 {
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0);
        }
    }
}

fn no_arguments() -> libc::clone_args {
    // SAFETY: plain numbers, for which all zeros is valid and means "not used".
    unsafe { std::mem::zeroed() }
}

/// No handler of the server's may run in a child that still shares its memory.
fn block_signals() {
    // SAFETY: the set lives on this stack; the calls only touch it and this thread's mask.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// `clone3(2)`: the child calls `entry(start)` on the stack that `arguments` names. The child's process id, or
/// a negative errno.
///
/// # Safety
/// With `CLONE_VM`, `entry` must not touch what another thread uses.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(
    arguments: &libc::clone_args,
    entry: extern "C" fn(*const Start) -> !,
    start: *const Start,
) -> isize {
    let result: isize;
    // SAFETY: see the caller; the child leaves this frame alone, it has a stack of its own.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") std::ptr::from_ref(arguments),
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") start,
            in("r13") entry as usize,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// As above.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(
    arguments: &libc::clone_args,
    entry: extern "C" fn(*const Start) -> !,
    start: *const Start,
) -> isize {
    let result: isize;
    // SAFETY: see the caller; the child leaves this frame alone, it has a stack of its own.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") std::ptr::from_ref(arguments) => result,
            in("x1") size_of::<libc::clone_args>(),
            in("x20") start,
            in("x21") entry as usize,
        );
    }
    result
}
