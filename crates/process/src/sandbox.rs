//! What a function's process may see and who it is: a minimal read-only root assembled from bind mounts, its
//! package at `/var/task`, layers at `/opt`, a private size-limited `/tmp`, Lambda's user, and limits.
//!
//! The plan is made once per function version, before any fork; the child only walks it with system calls
//! that are safe between `fork` and `exec` (no allocation, no locks).

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The user that functions run as, with Lambda's numbers (`sbx_user1051`).
pub const UID: u32 = 993;
/// Its group.
pub const GID: u32 = 990;
/// Files that a function may have open, or as many as the server itself may. Source: "Lambda quotas", file
/// descriptors.
const MAX_OPEN_FILES: u64 = 1024;
/// Descriptor on which a bootstrap finds its framed socket.
pub const TRANSPORT_FD: i32 = 3;

/// How strongly instances are separated from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// A mount namespace made as root; the process then becomes [`UID`].
    Root,
    /// A user and a mount namespace made as an ordinary user, who appears inside as [`UID`].
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

/// One step that the child takes on its way to `exec`.
enum Step {
    Mkdir {
        path: CString,
    },
    Touch {
        path: CString,
    },
    Symlink {
        target: CString,
        path: CString,
    },
    Bind {
        source: CString,
        target: CString,
        recursive: bool,
    },
    Tmpfs {
        target: CString,
        options: CString,
    },
    /// Makes everything mounted so far read-only.
    Seal {
        root: CString,
    },
}

/// Everything the child does between `fork` and `exec`.
pub struct Sandbox {
    isolation: Isolation,
    root: CString,
    steps: Vec<Step>,
    working_dir: CString,
    uid_map: Vec<u8>,
    gid_map: Vec<u8>,
    open_files: u64,
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
    /// Anything else: interpreters, bootstraps, SDKs.
    pub binds: &'a [Bind],
    /// Size of `/tmp` in MiB.
    pub tmp_mib: u32,
}

/// Parts of the machine that every function sees, when they exist.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc"];
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

impl Sandbox {
    /// Plans the view. Reads the machine's file system, so call it off the request path.
    pub fn plan(view: &View<'_>) -> io::Result<Sandbox> {
        let mut plan = Planner { root: view.root, steps: Vec::new(), made: Default::default() };
        if view.isolation != Isolation::None {
            plan.assemble(view)?;
        }
        let working_dir = match view.isolation {
            Isolation::None => c_path(view.code)?,
            _ => c"/var/task".to_owned(),
        };
        // SAFETY: getuid and getgid always succeed and touch no memory.
        let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
        Ok(Sandbox {
            isolation: view.isolation,
            root: c_path(view.root)?,
            steps: plan.steps,
            working_dir,
            uid_map: format!("{UID} {uid} 1").into_bytes(),
            gid_map: format!("{GID} {gid} 1").into_bytes(),
            open_files: MAX_OPEN_FILES.min(crate::kernel::open_files()?.1),
        })
    }

    /// Enters the sandbox. Runs in the child between `fork` and `exec`.
    ///
    /// # Errors
    /// The first step that failed, as the operating system's error; the child then never runs.
    pub fn enter(&self) -> io::Result<()> {
        // SAFETY: only async-signal-safe system calls on memory prepared before the fork.
        unsafe {
            libc::setsid();
            libc::umask(0o022);
            limit(libc::RLIMIT_CORE, 0)?;
            match self.isolation {
                Isolation::None => {}
                Isolation::Root => {
                    check(libc::unshare(libc::CLONE_NEWNS))?;
                    self.mount_all()?;
                    check(libc::setgroups(0, std::ptr::null()))?;
                    check(libc::setresgid(GID, GID, GID))?;
                    check(libc::setresuid(UID, UID, UID))?;
                }
                Isolation::UserNamespace => {
                    check(libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS))?;
                    write_file(c"/proc/self/setgroups", b"deny")?;
                    write_file(c"/proc/self/uid_map", &self.uid_map)?;
                    write_file(c"/proc/self/gid_map", &self.gid_map)?;
                    self.mount_all()?;
                }
            }
            check(libc::chdir(self.working_dir.as_ptr()))?;
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            // After the change of user, which clears it. The forking thread lives as long as the server.
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            // Last: what is opened on the way here may have a higher number.
            limit(libc::RLIMIT_NOFILE, self.open_files)
        }
    }

    /// # Safety
    /// Only between `fork` and `exec`, in a mount namespace of the child's own.
    unsafe fn mount_all(&self) -> io::Result<()> {
        // SAFETY: every pointer is a NUL-terminated string that `self` owns.
        unsafe {
            // Nothing that is mounted here may reach the machine.
            mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None)?;
            for step in &self.steps {
                step.take()?;
            }
            check(libc::chdir(self.root.as_ptr()))?;
            check(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) as i32)?;
            check(libc::umount2(c".".as_ptr(), libc::MNT_DETACH))
        }
    }
}

impl Step {
    /// # Safety
    /// As [`Sandbox::mount_all`].
    unsafe fn take(&self) -> io::Result<()> {
        // SAFETY: every pointer is a NUL-terminated string owned by the step.
        unsafe {
            match self {
                Step::Mkdir { path } => check(libc::mkdir(path.as_ptr(), 0o755)),
                Step::Touch { path } => {
                    let fd =
                        libc::open(path.as_ptr(), libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC, 0o644);
                    check(fd)?;
                    check(libc::close(fd))
                }
                Step::Symlink { target, path } => check(libc::symlink(target.as_ptr(), path.as_ptr())),
                Step::Bind { source, target, recursive } => {
                    let depth = if *recursive { libc::MS_REC } else { 0 };
                    mount(Some(source), target, None, libc::MS_BIND | depth, None)
                }
                Step::Tmpfs { target, options } => {
                    let flags = libc::MS_NOSUID | libc::MS_NODEV;
                    mount(Some(c"tmpfs"), target, Some(c"tmpfs"), flags, Some(options))
                }
                Step::Seal { root } => seal(root),
            }
        }
    }
}

/// Collects steps, making each directory once.
struct Planner<'a> {
    root: &'a Path,
    steps: Vec<Step>,
    made: std::collections::BTreeSet<PathBuf>,
}

impl Planner<'_> {
    fn assemble(&mut self, view: &View<'_>) -> io::Result<()> {
        self.steps.push(Step::Tmpfs { target: c_path(self.root)?, options: c"mode=755,size=1m".to_owned() });
        for path in SYSTEM.map(Path::new) {
            match path.symlink_metadata() {
                // Debian's /bin is a link into /usr: keep it one.
                Ok(meta) if meta.is_symlink() => {
                    let (target, path) = (c_path(&path.read_link()?)?, self.inside(path)?);
                    self.steps.push(Step::Symlink { target, path });
                }
                Ok(_) => self.bind(&Bind::same(path), false)?,
                Err(_) => {}
            }
        }
        for device in DEVICES {
            self.bind(&Bind::same(device), false)?;
        }
        for (link, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
            let target = c_string(format!("/proc/self/fd{target}"))?;
            let path = self.inside(&Path::new("/dev").join(link))?;
            self.steps.push(Step::Symlink { target, path });
        }
        self.bind(&Bind { source: view.code.into(), target: "/var/task".into() }, false)?;
        self.layers(view.layers)?;
        for bind in view.binds {
            self.bind(bind, true)?;
        }
        self.directory(Path::new("/proc"))?;
        self.directory(Path::new("/tmp"))?;
        self.steps.push(Step::Seal { root: c_path(self.root)? });
        let tmp = format!("mode=1777,size={}m,nr_inodes={}", view.tmp_mib, 1024 * view.tmp_mib.max(64));
        self.steps.push(Step::Tmpfs { target: self.inside(Path::new("/tmp"))?, options: c_string(tmp)? });
        let (source, target) = (c"/proc".to_owned(), self.inside(Path::new("/proc"))?);
        self.steps.push(Step::Bind { source, target, recursive: true });
        Ok(())
    }

    /// One layer is `/opt`; of several, their top-level entries are merged, the later layer winning.
    fn layers(&mut self, layers: &[PathBuf]) -> io::Result<()> {
        match layers {
            [] => self.directory(Path::new("/opt")),
            [only] => self.bind(&Bind { source: only.clone(), target: "/opt".into() }, false),
            many => {
                self.directory(Path::new("/opt"))?;
                let mut entries = std::collections::BTreeMap::new();
                for layer in many {
                    for entry in std::fs::read_dir(layer)? {
                        let entry = entry?;
                        entries.insert(Path::new("/opt").join(entry.file_name()), entry.path());
                    }
                }
                entries
                    .into_iter()
                    .try_for_each(|(target, source)| self.bind(&Bind { source, target }, false))
            }
        }
    }

    fn bind(&mut self, bind: &Bind, recursive: bool) -> io::Result<()> {
        let Ok(meta) = bind.source.metadata() else { return Ok(()) };
        // Already there through a bind of one of its parents.
        if bind.source == bind.target && bind.target.starts_with("/usr") && bind.target != Path::new("/usr") {
            return Ok(());
        }
        if meta.is_dir() {
            self.directory(&bind.target)?;
        } else if !bind.target.starts_with("/etc") {
            self.directory(bind.target.parent().unwrap_or(Path::new("/")))?;
            self.steps.push(Step::Touch { path: self.inside(&bind.target)? });
        }
        let (source, target) = (c_path(&bind.source)?, self.inside(&bind.target)?);
        self.steps.push(Step::Bind { source, target, recursive });
        Ok(())
    }

    /// Makes `path` and its parents inside the new root.
    fn directory(&mut self, path: &Path) -> io::Result<()> {
        let mut parents: Vec<&Path> = path.ancestors().filter(|p| *p != Path::new("/")).collect();
        parents.reverse();
        for parent in parents {
            if self.made.insert(parent.to_owned()) {
                self.steps.push(Step::Mkdir { path: self.inside(parent)? });
            }
        }
        Ok(())
    }

    fn inside(&self, path: &Path) -> io::Result<CString> {
        c_path(&self.root.join(path.strip_prefix("/").unwrap_or(path)))
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    c_string(path.as_os_str().as_bytes())
}

fn c_string(bytes: impl Into<Vec<u8>>) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path contains a NUL byte"))
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// # Safety
/// Async-signal-safe; the pointers come from live `CStr`s.
unsafe fn mount(
    source: Option<&std::ffi::CStr>,
    target: &std::ffi::CStr,
    kind: Option<&std::ffi::CStr>,
    flags: libc::c_ulong,
    data: Option<&std::ffi::CStr>,
) -> io::Result<()> {
    let pointer = |text: Option<&std::ffi::CStr>| text.map_or(std::ptr::null(), |t| t.as_ptr());
    // SAFETY: pointers are null or NUL-terminated strings that outlive the call.
    check(unsafe {
        libc::mount(pointer(source), target.as_ptr(), pointer(kind), flags, pointer(data).cast())
    })
}

/// # Safety
/// Async-signal-safe.
unsafe fn seal(root: &std::ffi::CStr) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: `attributes` lives on this stack for the call and its size is passed along.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            root.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result as i32)
}

/// # Safety
/// Async-signal-safe.
unsafe fn limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` lives on this stack for the call.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })
}

/// # Safety
/// Async-signal-safe.
unsafe fn write_file(path: &std::ffi::CStr, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: path and bytes outlive the calls; the descriptor is closed here.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        check(fd)?;
        let written = libc::write(fd, bytes.as_ptr().cast(), bytes.len());
        let result = check(written as i32);
        libc::close(fd);
        result
    }
}
