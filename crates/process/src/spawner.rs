//! The threads that fork. They live as long as the server, because the kernel kills a child with
//! `PR_SET_PDEATHSIG` when the *thread* that forked it ends, and because a fork takes up to milliseconds that no
//! async worker has.
//!
//! The child first lets go of everything that the server has open: otherwise a connection that the server
//! closes meanwhile would stay open until the child is ready, and the child would inherit the server's lack of
//! descriptors. The standard library has no place for that between its `fork` and its `exec`, so both are here.

use crate::sandbox::{Sandbox, TRANSPORT_FD};
use std::ffi::{CString, OsString, c_char};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::{Arc, LazyLock};
use tokio::sync::oneshot;

/// A program to start.
pub struct Program {
    /// The view it runs in.
    pub sandbox: Arc<Sandbox>,
    /// Program, an absolute path, and arguments, as seen inside.
    pub argv: Vec<OsString>,
    /// All its variables.
    pub environment: Vec<(String, String)>,
    /// Given to it as descriptor 3.
    pub transport: Option<OwnedFd>,
    /// Given to it as stdout and stderr.
    pub output: OwnedFd,
}

struct Job {
    program: Program,
    reply: oneshot::Sender<io::Result<u32>>,
}

/// Starts programs on its own threads.
pub struct Spawner {
    jobs: std::sync::mpsc::Sender<Job>,
}

impl Spawner {
    /// `threads` forks can be under way at once.
    pub fn new(threads: usize) -> Spawner {
        let (jobs, queue) = std::sync::mpsc::channel::<Job>();
        let queue = Arc::new(std::sync::Mutex::new(queue));
        for n in 0..threads {
            let queue = queue.clone();
            let run = move || {
                loop {
                    let job = queue.lock().expect("a spawner never panics").recv();
                    let Ok(Job { program, reply }) = job else { return };
                    let _ = reply.send(spawn(program));
                }
            };
            std::thread::Builder::new()
                .name(format!("spawner-{n}"))
                .spawn(run)
                .expect("the machine can start a thread");
        }
        Spawner { jobs }
    }

    /// The new process's id. It leads a session and a process group of its own; the caller must reap it.
    pub async fn spawn(&self, program: Program) -> io::Result<u32> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job { program, reply }).map_err(|_| io::Error::other("the spawner has stopped"))?;
        answer.await.map_err(|_| io::Error::other("the spawner has stopped"))?
    }
}

/// Where the child finds the pipe that tells the server why it did not come to `exec`.
const FAILURE_FD: RawFd = TRANSPORT_FD + 1;

/// What every program reads as its input.
static NOTHING: LazyLock<io::Result<OwnedFd>> =
    LazyLock::new(|| clear_of_targets(File::open("/dev/null")?.into()));

fn spawn(program: Program) -> io::Result<u32> {
    let Program { sandbox, argv, environment, transport, output } = program;
    let nothing = NOTHING.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
    let (mut failure, writer) = io::pipe()?;
    let (writer, output) = (clear_of_targets(writer.into())?, clear_of_targets(output)?);
    let transport = transport.map(clear_of_targets).transpose()?;
    let argv = Strings::new(argv.into_iter().map(OsString::into_vec))?;
    let variables = environment.into_iter().map(|(key, value)| format!("{key}={value}").into_bytes());
    let prepared = Prepared {
        sandbox: &sandbox,
        argv,
        environment: Strings::new(variables)?,
        descriptors: [nothing.as_raw_fd(), output.as_raw_fd(), output.as_raw_fd()],
        transport: transport.as_ref().map(AsRawFd::as_raw_fd),
        failure: writer.as_raw_fd(),
    };
    // SAFETY: the child runs only `Prepared::run`, which is safe between `fork` and `exec`.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        // SAFETY: as above; this is the child.
        0 => unsafe { prepared.run() },
        pid => pid,
    };
    drop((writer, output, transport));
    let mut errno = [0; size_of::<i32>()];
    match failure.read_exact(&mut errno) {
        Ok(()) => {
            // SAFETY: waitpid with no status pointer touches no memory; the child is ours and ending.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
        }
        // Closed by `exec`.
        Err(_) => Ok(pid as u32),
    }
}

/// NUL-terminated strings and the array of pointers that `execve` wants.
struct Strings {
    pointers: Vec<*const c_char>,
    _owned: Vec<CString>,
}

impl Strings {
    fn new(texts: impl Iterator<Item = Vec<u8>>) -> io::Result<Strings> {
        let owned = texts.map(CString::new).collect::<Result<Vec<_>, _>>()?;
        let pointers = owned.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Ok(Strings { pointers, _owned: owned })
    }
}

/// All that the child needs, made before the fork.
struct Prepared<'a> {
    sandbox: &'a Sandbox,
    argv: Strings,
    environment: Strings,
    /// For its stdin, stdout and stderr.
    descriptors: [RawFd; 3],
    transport: Option<RawFd>,
    failure: RawFd,
}

impl Prepared<'_> {
    /// Becomes the program, or says why it could not.
    ///
    /// # Safety
    /// Only in the child of a fork: allocates nothing, takes no lock, never returns.
    unsafe fn run(&self) -> ! {
        // SAFETY: the caller promises to be the child.
        let error = unsafe { self.exec() }.err().and_then(|error| error.raw_os_error());
        let errno = error.unwrap_or(libc::EIO).to_ne_bytes();
        // SAFETY: `errno` lives on this stack; `_exit` runs no handlers of the server's.
        unsafe {
            libc::write(FAILURE_FD, errno.as_ptr().cast(), errno.len());
            libc::_exit(127)
        }
    }

    /// # Safety
    /// As [`Prepared::run`].
    unsafe fn exec(&self) -> io::Result<()> {
        // SAFETY: async-signal-safe system calls on memory that was prepared before the fork.
        unsafe {
            // First, so that whatever fails can be told. No source is among the targets.
            check(libc::dup3(self.failure, FAILURE_FD, libc::O_CLOEXEC))?;
            for (target, source) in (0..).zip(self.descriptors) {
                check(libc::dup2(source, target))?;
            }
            match self.transport {
                Some(transport) => check(libc::dup2(transport, TRANSPORT_FD))?,
                None => libc::close(TRANSPORT_FD),
            };
            // A kernel that lacks it (before 5.9) closes them at `exec`: all are close-on-exec.
            libc::syscall(libc::SYS_close_range, FAILURE_FD + 1, libc::c_uint::MAX, 0);
            self.sandbox.enter()?;
            // What the server does with signals is not the program's business.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            let (argv, environment) = (self.argv.pointers.as_ptr(), self.environment.pointers.as_ptr());
            libc::execve(*argv, argv, environment);
            Err(io::Error::last_os_error())
        }
    }
}

/// The same open file under a number that the child does not give to something else.
fn clear_of_targets(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > FAILURE_FD {
        return Ok(fd);
    }
    // SAFETY: fcntl on a descriptor that `fd` owns; the result is a new one that nobody else owns.
    unsafe {
        let copy = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, FAILURE_FD + 1);
        check(copy)?;
        Ok(OwnedFd::from_raw_fd(copy))
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
