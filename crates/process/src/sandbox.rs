//! What a function's program may see, use and do, and who it is: namespaces of its own, a minimal read-only
//! root assembled from bind mounts, its package at `/var/task`, layers at `/opt`, a private size-limited
//! `/tmp`, Lambda's user without capabilities, a filter of system calls, and limits.
//!
//! Here it is planned; the sandbox's first process (`init/`) carries it out.

use crate::cgroup::Resources;
use crate::landlock;
use crate::script::{Script, ops};
use crate::seccomp;
use model::{MiB, Network};
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The user that functions run as, with Lambda's numbers (`sbx_user1051`).
pub const UID: u32 = 993;
/// Its group.
pub const GID: u32 = 990;

/// How strongly instances are separated from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Namespaces made as root; the program then becomes [`UID`].
    Root,
    /// Namespaces within a user namespace, made as an ordinary user, who appears inside as [`UID`].
    UserNamespace,
    /// The machine allows neither: the function sees the machine's files with the server's rights.
    None,
}

/// A directory or file of the machine that the function sees, read-only.
#[derive(Clone, Debug)]
pub struct Bind {
    /// On the machine.
    pub source: PathBuf,
    /// Inside, absolute.
    pub target: PathBuf,
}

impl Bind {
    /// Seen at the same path as on the machine.
    pub fn same(path: impl Into<PathBuf>) -> Bind {
        let path = path.into();
        Bind { source: path.clone(), target: path }
    }
}

/// A plan of a sandbox. It is made in two steps, so that a program can wait in it before anybody knows for which
/// function: first what all functions see, then what one of them does.
#[derive(Clone)]
pub struct Sandbox {
    isolation: Isolation,
    view: Assembled,
    base: Base,
    /// The folder that it may write to.
    tmp: Script,
    /// Who the program is and what it may do.
    program: Script,
    dress: Script,
    working_dir: PathBuf,
    network: Network,
    resources: Resources,
}

/// What a sandbox is before it is a function's. Two that are equal are the same to any function.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Base {
    /// What the first process does first.
    script: Arc<Script>,
    /// The files and folders that are bound there, as device and number: by the same names there may be others
    /// later.
    files: Arc<[(u64, u64)]>,
    namespaces: i32,
    network: Network,
}

impl Base {
    /// What the first process does first.
    pub fn script(&self) -> &Script {
        &self.script
    }
}

/// The view that all functions have, in the steps that lead there.
#[derive(Clone, Default)]
struct Assembled {
    /// Who an ordinary user is in a user namespace of its own.
    own_user: Script,
    /// The tree, at the place where it is made.
    tree: Script,
    /// Its processes, before it is the root.
    proc: Script,
    /// The tree becomes the root.
    pivot: Script,
    /// What is bound in the tree.
    files: Vec<(u64, u64)>,
}

/// What [`Sandbox::plan`] needs to know.
pub struct View<'a> {
    /// How strong the walls are.
    pub isolation: Isolation,
    /// An empty directory that every child mounts its own root on.
    pub root: &'a Path,
    /// The package, for `/var/task`.
    pub code: &'a Path,
    /// Layers in order, for `/opt`; later ones win.
    pub layers: &'a [PathBuf],
    /// What its program needs, whichever function that runs: interpreters, bootstraps, SDKs.
    pub programs: &'a [Bind],
    /// What else the function sees, at one of [`MOUNT_POINTS`].
    pub binds: &'a [Bind],
    /// What it reaches over the network.
    pub network: Network,
    /// Size of `/tmp`.
    pub tmp: MiB,
    /// Memory for everything but `/tmp`.
    pub memory: MiB,
}

/// Parts of the machine that every function sees, when they exist.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc"];
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Empty folders in every sandbox, for what is mounted there when its function is known.
const MOUNT_POINTS: [&str; 10] = [
    "/var/task",
    "/opt",
    "/tmp",
    "/proc",
    "/var/sdk/site-packages",
    "/var/sdk/lib",
    "/var/sdk/jvm",
    "/var/sdk/v8",
    "/node_modules",
    "/var/node_modules",
];

/// Where the machine's files are until the sandbox is closed; see [`ops::PIVOT`].
const HOST: &str = "/.host";

/// Files that a function may have open. Source: "Lambda quotas".
const OPEN_FILES: u32 = 1024;
/// Processes and threads that an instance may have. Source: "Lambda quotas".
pub const TASKS: u32 = 1024;

impl Sandbox {
    /// Plans a sandbox. Reads the machine's file system, so call it off the request path.
    pub fn plan(view: &View<'_>) -> io::Result<Sandbox> {
        let walled = view.isolation != Isolation::None;
        let (mut assembled, mut tmp, mut program, mut dress) = Default::default();
        if walled {
            assembled = Planner::at(view.root).assemble(view)?;
            tmp = Planner::at(Path::new("/")).tmp(MiB(1), 0);
            program = identity();
            landlock::confine(&mut program);
            let filter = seccomp::filter();
            program.add(ops::FILTER, &[]).number((filter.len() / 8) as u32).raw(&filter);
            dress = Planner::at(Path::new("/")).dress(view)?;
        }
        if view.isolation == Isolation::UserNamespace {
            assembled.own_user = own_user();
        }
        for (resource, value) in [(libc::RLIMIT_CORE, 0), (libc::RLIMIT_NOFILE, OPEN_FILES)] {
            program.add(ops::LIMIT, &[]).number(resource).number(value);
        }
        let working_dir = match view.isolation {
            Isolation::None => view.code.to_owned(),
            _ => "/var/task".into(),
        };
        let resources = Resources { memory: view.memory, tmp: view.tmp, weight: view.memory, tasks: TASKS };
        let (isolation, network) = (view.isolation, view.network);
        let mut script = assembled.own_user.clone();
        if walled {
            script.then(own_groups()).then(own_name());
        }
        let Assembled { tree, proc, pivot, .. } = assembled.clone();
        script.then(tree).then(proc).then(pivot).then(tmp.clone()).then(program.clone());
        let files = std::mem::take(&mut assembled.files).into();
        let namespaces = namespaces(isolation, network);
        let base = Base { script: Arc::new(script), files, namespaces, network };
        Ok(Sandbox { isolation, view: assembled, base, tmp, program, dress, working_dir, network, resources })
    }

    /// What it is before it is a function's.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// What leads to a view from which sandboxes are forked: that of all functions, but for the processes, which each
    /// has of its own.
    pub fn template(&self) -> Script {
        let Assembled { mut own_user, tree, pivot, .. } = self.view.clone();
        own_user.then(own_name()).then(tree).then(pivot);
        own_user
    }

    /// In a sandbox that is being forked: what is done before the copy of the interpreter is made, and who that is.
    pub fn fork(&self) -> Script {
        let mut script = own_groups();
        script.then(self.tmp.clone()).then(self.program.clone());
        script
    }

    /// In a sandbox that was forked: what its first process does first. The program is process 2.
    pub fn after_fork(&self) -> Script {
        let mut planner = Planner::at(Path::new("/"));
        planner.proc();
        let mut script = planner.script;
        script.then(identity()).add(ops::ADOPT, &[]).number(2);
        script
    }

    /// The namespaces that a sandbox is forked into; the user namespace is the zygote's.
    pub fn namespaces_of_fork(&self) -> i32 {
        self.namespaces() & !libc::CLONE_NEWUSER
    }

    /// Those that a zygote is cloned into: it sees what functions see, but is among the server's processes.
    pub fn namespaces_of_zygote(&self) -> i32 {
        self.namespaces() & (libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWUSER)
    }

    /// What it does then, for one function, before that sees anything of it.
    pub fn dress(&self) -> &Script {
        &self.dress
    }

    /// Where the program starts, as seen inside.
    pub fn working_dir(&self) -> &OsStr {
        self.working_dir.as_os_str()
    }

    /// What it may use.
    pub fn resources(&self) -> Resources {
        self.resources
    }

    /// What it reaches over the network.
    pub fn network(&self) -> Network {
        self.network
    }

    /// The same for work that gives way to everybody's, with `memory` for itself.
    pub fn in_the_background(&self, memory: MiB) -> Sandbox {
        let resources = Resources { memory, weight: MiB(1), ..self.resources };
        Sandbox { resources, ..self.clone() }
    }

    /// Whether it has a network of its own, and not the machine's.
    pub fn has_own_network(&self) -> bool {
        self.is_walled() && self.network != Network::Host
    }

    /// The namespaces that the first process is cloned into: `CLONE_NEW…` flags.
    pub fn namespaces(&self) -> i32 {
        self.base.namespaces
    }

    /// Whether its program can be a user of the machine that nobody else is. An ordinary user's is that user.
    pub fn has_own_user(&self) -> bool {
        self.isolation == Isolation::Root
    }

    /// Whether everything in it ends with its first process.
    pub fn is_walled(&self) -> bool {
        self.isolation != Isolation::None
    }
}

fn namespaces(isolation: Isolation, network: Network) -> i32 {
    let network = if network == Network::Host { 0 } else { libc::CLONE_NEWNET };
    let all = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | network;
    match isolation {
        Isolation::Root => all,
        Isolation::UserNamespace => all | libc::CLONE_NEWUSER,
        Isolation::None => 0,
    }
}

/// Who an ordinary user is in a user namespace.
fn own_user() -> Script {
    // SAFETY: getuid and getgid always succeed and touch no memory.
    let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
    let mut script = Script::default();
    for (file, line) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{UID} {uid} 1")),
        ("gid_map", format!("{GID} {gid} 1")),
    ] {
        let path = Path::new("/proc/self").join(file);
        script.add(ops::WRITE, &[path.as_os_str(), line.as_ref()]);
    }
    script
}

/// The groups that it has joined by now are all that it will see.
fn own_groups() -> Script {
    let mut script = Script::default();
    script.add(ops::UNSHARE, &[]).number(libc::CLONE_NEWCGROUP as u32);
    script
}

fn own_name() -> Script {
    let mut script = Script::default();
    script.add(ops::HOSTNAME, &["sandbox".as_ref()]);
    script
}

fn identity() -> Script {
    let mut script = Script::default();
    script.add(ops::IDENTITY, &[]).number(UID).number(GID);
    script
}

/// Collects steps, making each directory once.
struct Planner<'a> {
    root: &'a Path,
    script: Script,
    made: std::collections::BTreeSet<PathBuf>,
    /// Device and number of what was bound.
    files: Vec<(u64, u64)>,
}

impl<'a> Planner<'a> {
    /// For a tree that is at `root` when its steps are taken.
    fn at(root: &'a Path) -> Planner<'a> {
        Planner { root, script: Script::default(), made: Default::default(), files: Vec::new() }
    }

    /// What all functions see, and places for the rest. The machine's files stay within reach.
    fn assemble(mut self, view: &View<'_>) -> io::Result<Assembled> {
        self.script.add(ops::PRIVATE, &[]);
        self.mount("tmpfs", Path::new("/"), 0, "mode=755,size=1m");
        for path in SYSTEM.map(Path::new) {
            match path.symlink_metadata() {
                // Debian's /bin is a link into /usr: keep it one.
                Ok(meta) if meta.is_symlink() => self.symlink(path.read_link()?, path),
                // With what is mounted in it: in containers files of /etc are, and to leave them out would show what
                // they hide, which an ordinary user may not.
                Ok(_) => self.bind(&Bind::same(path), true),
                Err(_) => {}
            }
        }
        for device in DEVICES {
            self.bind(&Bind::same(device), false);
        }
        for (link, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
            self.symlink(format!("/proc/self/fd{target}").into(), &Path::new("/dev").join(link));
        }
        for bind in view.programs {
            self.bind(bind, true);
        }
        for folder in MOUNT_POINTS.into_iter().chain([HOST]) {
            self.directory(Path::new(folder));
        }
        self.seal(Path::new("/"));
        let tree = std::mem::take(&mut self.script);
        self.proc();
        let proc = std::mem::take(&mut self.script);
        self.script.add(ops::PIVOT, &[self.root.as_os_str()]);
        Ok(Assembled { own_user: Script::default(), tree, proc, pivot: self.script, files: self.files })
    }

    fn proc(&mut self) {
        self.mount("proc", Path::new("/proc"), libc::MS_NOEXEC as u32, "");
    }

    /// What one function sees; after it the machine's files are out of reach.
    fn dress(mut self, view: &View<'_>) -> io::Result<Script> {
        self.overlay(&Bind { source: view.code.into(), target: "/var/task".into() }, false)?;
        self.layers(view.layers)?;
        for bind in view.binds {
            self.overlay(bind, true)?;
        }
        self.script.add(ops::UNMOUNT, &[HOST.as_ref()]);
        self.script.then(Planner::at(Path::new("/")).tmp(view.tmp, libc::MS_REMOUNT as u32));
        Ok(self.script)
    }

    /// Its `/tmp`, or another size for that: it is mounted before a program is confined to it, which may be before its
    /// function is known.
    fn tmp(mut self, size: MiB, flags: u32) -> Script {
        let options = format!("mode=1777,size={}m,nr_inodes={}", size.0, 1024 * size.0.max(64));
        self.mount("tmpfs", Path::new("/tmp"), flags, &options);
        self.script
    }

    /// Binds something of the machine over an empty folder, read-only.
    fn overlay(&mut self, bind: &Bind, recursive: bool) -> io::Result<()> {
        let source = within_host(&bind.source)?;
        let (from, to) = (source.as_os_str(), bind.target.as_os_str());
        self.script.add(ops::BIND, &[from, to]).number(recursive.into());
        self.seal(&bind.target);
        Ok(())
    }

    fn seal(&mut self, path: &Path) {
        let path = self.inside(path);
        self.script.add(ops::SEAL, &[path.as_os_str()]);
    }

    fn mount(&mut self, kind: &str, target: &Path, flags: u32, options: &str) {
        let target = self.inside(target);
        let script = self.script.add(ops::MOUNT, &[kind.as_ref(), target.as_os_str()]);
        script.number(flags).operand(options.as_ref());
    }

    fn symlink(&mut self, target: PathBuf, path: &Path) {
        let path = self.inside(path);
        self.script.add(ops::SYMLINK, &[target.as_os_str(), path.as_os_str()]);
    }

    /// One layer is `/opt`; of several, their top-level entries are merged, the later layer winning.
    fn layers(&mut self, layers: &[PathBuf]) -> io::Result<()> {
        let many = match layers {
            [] => return Ok(()),
            [only] => return self.overlay(&Bind { source: only.clone(), target: "/opt".into() }, false),
            many => many,
        };
        self.mount("tmpfs", Path::new("/opt"), 0, "mode=755,size=1m");
        let mut entries = std::collections::BTreeMap::new();
        for layer in many {
            for entry in std::fs::read_dir(layer)? {
                let entry = entry?;
                entries.insert(Path::new("/opt").join(entry.file_name()), entry.path());
            }
        }
        self.made.insert("/opt".into());
        for (target, source) in entries {
            let entry_is_dir = source.is_dir();
            let source = within_host(&source)?;
            let operation = if entry_is_dir { ops::MKDIR } else { ops::TOUCH };
            self.script.add(operation, &[target.as_os_str()]);
            self.script.add(ops::BIND, &[source.as_os_str(), target.as_os_str()]).number(0);
        }
        self.seal(Path::new("/opt"));
        Ok(())
    }

    fn bind(&mut self, bind: &Bind, recursive: bool) {
        let Ok(meta) = bind.source.metadata() else { return };
        // Already there through a bind of one of its parents.
        if bind.source == bind.target && bind.target.starts_with("/usr") && bind.target != Path::new("/usr") {
            return;
        }
        if meta.is_dir() {
            self.directory(&bind.target);
        } else if !bind.target.starts_with("/etc") {
            self.directory(bind.target.parent().unwrap_or(Path::new("/")));
            let path = self.inside(&bind.target);
            self.script.add(ops::TOUCH, &[path.as_os_str()]);
        }
        self.files.push((meta.dev(), meta.ino()));
        let (source, target) = (bind.source.as_os_str(), self.inside(&bind.target));
        self.script.add(ops::BIND, &[source, target.as_os_str()]).number(recursive.into());
    }

    /// Makes `path` and its parents inside the new root.
    fn directory(&mut self, path: &Path) {
        let mut parents: Vec<&Path> = path.ancestors().filter(|p| *p != Path::new("/")).collect();
        parents.reverse();
        for parent in parents {
            if self.made.insert(parent.to_owned()) {
                let path = self.inside(parent);
                self.script.add(ops::MKDIR, &[path.as_os_str()]);
            }
        }
    }

    fn inside(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// A path of the machine, as the first process reaches it until the sandbox is closed. Links are followed here:
/// there an absolute one would lead into the sandbox.
fn within_host(path: &Path) -> io::Result<PathBuf> {
    Ok(on_host(&path.canonicalize()?))
}

/// As [`within_host`], of a path that has no links.
pub fn on_host(real: &Path) -> PathBuf {
    Path::new(HOST).join(real.strip_prefix("/").unwrap_or(real))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandboxes_are_alike_whatever_the_function_until_a_folder_in_them_is_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(&path).expect("made");
            path
        };
        let programs = [Bind { source: folder("sdk"), target: "/var/sdk/lib".into() }];
        let base = |code: PathBuf, network, memory| {
            let view = View {
                isolation: Isolation::Root,
                root: dir.path(),
                code: &code,
                layers: &[],
                programs: &programs,
                binds: &[],
                network,
                tmp: MiB(512),
                memory,
            };
            Sandbox::plan(&view).expect("planned").base
        };
        let first = base(folder("a"), Network::Internet, MiB(128));
        assert!(first == base(folder("b"), Network::Internet, MiB(256)), "another function");
        assert!(first != base(folder("a"), Network::None, MiB(128)), "another network");
        std::fs::rename(folder("sdk"), dir.path().join("old")).expect("renamed");
        folder("sdk");
        assert!(first != base(folder("a"), Network::Internet, MiB(128)), "what was installed since");
    }
}
