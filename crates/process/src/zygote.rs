//! Interpreters that are forked instead of booted. A zygote has booted once, has imported what its copies will
//! need, and runs nothing of a function's, ever; each copy is the program of a sandbox of its own and waits there to be
//! told which function it is.
//!
//! A zygote sees what all functions see, and beside it the machine, at `/.host`. It is the server's own program: it
//! keeps the privileges to make namespaces, and is out of reach, because sandboxes have process namespaces of their
//! own. How it forks is in `init/zygote.rs`.

use crate::cgroup::Resources;
use crate::child::{Child, failure};
use crate::instance::Process;
use crate::network::Wires;
use crate::output::Output;
use crate::sandbox::{Sandbox, on_host};
use crate::script::{Script, ops};
use crate::socket::Control;
use crate::spawner::{NotStarted, Program, Shared, Spawner};
use crate::users::User;
use model::{MiB, Network};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Tells our bootstrap that it is one, and the library that makes it one.
const ZYGOTE: &str = "BROOKLET_ZYGOTE";

/// Room for an interpreter with an SDK. Its copies are counted elsewhere.
const RESOURCES: Resources = Resources { memory: MiB(512), tmp: MiB(0), weight: MiB(1769), tasks: 16 };

/// A zygote that is ready to fork.
pub struct Zygote {
    process: Process,
    /// Held from an order to its answer.
    turn: Mutex<()>,
}

impl Zygote {
    /// Boots `program`, which has to be one of our bootstraps, and waits until it has imported what it is told to.
    pub async fn boot(
        spawner: &Spawner,
        mut program: Program,
        output: Arc<Output>,
    ) -> Result<Zygote, NotStarted> {
        program.environment.push((ZYGOTE.to_owned(), "/var/runtime/zygote.so".to_owned()));
        let process = Process::new(spawner.run(move |shared| begin(shared, &program)).await?, output);
        // Seconds, with an SDK: not on a thread that starts of functions wait for.
        let ready = tokio::task::spawn_blocking(move || match process.child.hear()? {
            reply if reply.errno == 0 => Ok(process),
            reply => Err(NotStarted::Program(io::Error::from_raw_os_error(reply.errno as i32))),
        });
        let process =
            ready.await.unwrap_or_else(|error| Err(NotStarted::at("boot")(io::Error::other(error))))?;
        Ok(Zygote { process, turn: Mutex::new(()) })
    }

    /// Whether it can still fork.
    pub fn is_alive(&self) -> bool {
        self.process.child.try_exit().is_none()
    }

    /// The process group of all that it forked, until they are programs; `None` when it had ended before it was seen.
    pub fn process_group(&self) -> Option<u32> {
        // 0 would be the server's own group.
        Some(self.process.child.program()).filter(|leader| *leader != 0)
    }

    /// Its own memory.
    pub fn memory(&self) -> MiB {
        self.process.child.memory().unwrap_or_default()
    }

    /// A copy in a sandbox of its own, which is not dressed yet. `waits`: nobody waits for it, so that it rehearses first.
    pub async fn fork(
        self: &Arc<Zygote>,
        spawner: &Spawner,
        sandbox: Arc<Sandbox>,
        waits: bool,
        transport: [OwnedFd; 2],
        output: OwnedFd,
    ) -> Result<Child, NotStarted> {
        let zygote = self.clone();
        spawner.run(move |shared| zygote.fork_on(shared, &sandbox, waits, &transport, &output)).await
    }

    fn fork_on(
        &self,
        shared: &Shared,
        sandbox: &Sandbox,
        waits: bool,
        transport: &[OwnedFd; 2],
        output: &OwnedFd,
    ) -> Result<Child, NotStarted> {
        let group = shared.groups.make(&sandbox.resources())?;
        let (control, theirs) = Control::pair().map_err(NotStarted::at("make a socket"))?;
        let mut script = Script::default();
        script.add(ops::FORK, &[]).number(sandbox.namespaces_of_fork() as u32).number(waits.into());
        script.operand(on_host(Path::new(OsStr::from_bytes(shared.init.as_bytes()))).as_os_str());
        let user = shared.user_for(sandbox)?;
        script.then(user.as_ref().map(User::script).unwrap_or_default());
        script.then(group.join_script(on_host)).then(sandbox.fork());
        let unified = group.unified().map_err(NotStarted::at("open the control group"))?;
        let [events, answers] = transport;
        let mut fds = vec![theirs.as_raw_fd(), output.as_raw_fd(), events.as_raw_fd(), answers.as_raw_fd()];
        fds.extend(unified.as_ref().map(AsRawFd::as_raw_fd));
        let mut reply = {
            let _turn = self.turn.lock().expect("no panic while held");
            let answered = self.process.child.begin(&script, &fds).and_then(|()| self.process.child.hear());
            // What it answers later would be taken for the answer to something else.
            answered.inspect_err(|_| self.process.child.kill())?
        };
        drop(theirs);
        let refused = (reply.errno != 0).then(|| failure(&script, &reply));
        let Some(pidfd) = reply.descriptors.pop() else {
            let nothing = || NotStarted::at("fork")(io::Error::other("nothing was forked"));
            return Err(refused.unwrap_or_else(nothing));
        };
        // The process is the server's child, and is reaped even if it came to nothing.
        let mut child =
            Child::adopt(pidfd, control, group, true).map_err(NotStarted::at("watch the process"))?;
        child.is_a_copy();
        if refused.is_none() && sandbox.has_own_network() {
            let network = sandbox.network();
            child.wire(Wires::take(&child, &shared.outside, network == Network::Internet, None)?)?;
            child.open_network(network)?;
        }
        match refused {
            Some(error) => Err(error),
            None => {
                let mut script = child.belong_to(user);
                script.then(sandbox.after_fork());
                child.run(&script, &[]).map(|()| child)
            }
        }
    }
}

/// Has the process that is to be a zygote begin to boot.
fn begin(shared: &Shared, program: &Program) -> Result<Child, NotStarted> {
    let Program { sandbox, argv, environment, output, .. } = program;
    let mut child = shared.first_process(sandbox.namespaces_of_zygote(), &RESOURCES)?;
    child.is_the_program().map_err(NotStarted::at("find the program"))?;
    let mut script = child.group().join_script(Path::to_owned);
    script.then(sandbox.template());
    script.add(ops::EXEC, &[]).program(argv, environment);
    child.begin(&script, &[output.as_raw_fd()])?;
    Ok(child)
}
