//! The threads that fork. They live as long as the server, because the kernel kills a child with
//! `PR_SET_PDEATHSIG` when the *thread* that forked it ends, and because a fork takes up to milliseconds that no
//! async worker has.

use crate::sandbox::{Sandbox, TRANSPORT_FD};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio::sync::oneshot;

/// A program to start.
pub struct Program {
    /// The view it runs in.
    pub sandbox: Arc<Sandbox>,
    /// Program and arguments, as seen inside.
    pub argv: Vec<std::ffi::OsString>,
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

fn spawn(program: Program) -> io::Result<u32> {
    let Program { sandbox, argv, environment, transport, output } = program;
    let mut command = Command::new(PathBuf::from(&argv[0]));
    command
        .args(&argv[1..])
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let transport_fd = transport.as_ref().map(AsRawFd::as_raw_fd);
    let enter = move || {
        if let Some(fd) = transport_fd {
            // SAFETY: dup2 is async-signal-safe; `transport` is open until after `spawn` returns.
            if unsafe { libc::dup2(fd, TRANSPORT_FD) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        sandbox.enter()
    };
    // SAFETY: `enter` allocates nothing and takes no lock.
    unsafe { command.pre_exec(enter) };
    let child = command.spawn()?;
    drop(transport);
    Ok(child.id())
}
