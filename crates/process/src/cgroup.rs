//! Control groups: what an instance may use of the machine, and what it has used.
//!
//! One interface over what machines have: cgroup v2 with its controllers, v1 hierarchies, both beside each
//! other, or nothing that this user may write to. An instance gets a group of its own in each hierarchy that
//! limits something. It is never *moved* there by this server (`cgroup.procs` takes 10 ms on an idle
//! machine): in v2 it is cloned into its group, in v1 its first process writes itself into `tasks`.
//!
//! Source: kernel documentation, `admin-guide/cgroup-v2.rst` and `admin-guide/cgroup-v1/`.

use crate::kernel;
use crate::memory::Watch;
use crate::script::{Script, ops};
use crate::spawner::NotStarted;
use crate::standing::{Busy, Files, Member, Quota, Standing, Together};
use model::MiB;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// What one instance may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Memory.
    pub memory: MiB,
    /// What it may write to `/tmp`, which is memory too. Zero where it cannot write there.
    pub tmp: MiB,
    /// Its part of the processor when there is not enough for all: 1,769 MiB weigh as much as one Lambda vCPU.
    pub weight: MiB,
    /// Processes and threads.
    pub tasks: u32,
}

/// What groups enforce on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enforced {
    /// Memory.
    pub memory: bool,
    /// Share of the processor.
    pub cpu: bool,
    /// Number of processes.
    pub tasks: bool,
    /// Which processors are used.
    pub processors: bool,
    /// That nothing in a group runs while it is frozen. In v2 alone: what a frozen v1 group holds does not die of a
    /// signal either, and would outlive a server that was killed.
    pub freezing: bool,
}

/// The server's groups, under which every instance has its own.
pub struct Groups {
    hierarchies: Vec<Arc<Hierarchy>>,
    next: AtomicU64,
    emptied: std::sync::mpsc::Sender<PathBuf>,
    standing: Arc<Standing>,
}

/// A tree of groups that the server may make children in.
#[derive(Debug)]
struct Hierarchy {
    dir: PathBuf,
    kind: Kind,
    enforced: Enforced,
    /// The group that the server was in, and the one below it that it is in now, if it stood in its own way.
    left: Option<(PathBuf, PathBuf)>,
}

/// Which kind of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A hierarchy for each controller.
    V1,
    /// One for all.
    V2,
}

impl Kind {
    /// The file that says how much of the processor a group has beside others.
    fn weight(self) -> &'static str {
        match self {
            Kind::V1 => "cpu.shares",
            Kind::V2 => "cpu.weight",
        }
    }
}

/// The file that says on which processors a group runs.
const PROCESSORS: &str = "cpuset.cpus";

/// Processors, as groups are told them.
pub fn list(processors: &[usize]) -> String {
    processors.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// The groups of one instance; removed when dropped, as soon as they are empty.
pub struct Group {
    places: Vec<(Arc<Hierarchy>, PathBuf)>,
    /// What is set.
    limits: Mutex<Option<Resources>>,
    emptied: std::sync::mpsc::Sender<PathBuf>,
    /// What is used of the memory that it may use, where the kernel's limit is more.
    watch: Mutex<(MiB, Option<Watch>)>,
    /// How it stands beside others, once it is a function's.
    member: OnceLock<Arc<Member>>,
    standing: Arc<Standing>,
}

impl Groups {
    /// Looks for hierarchies in which this process may make groups, and makes one called `name` in each. What
    /// an earlier server left under that name is ended.
    pub fn open(name: &str) -> Groups {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mounts = mounts(&read("/proc/self/mountinfo"));
        let own = memberships(&read("/proc/self/cgroup"));
        let hierarchies: Vec<_> =
            mounts.iter().filter_map(|mount| mount.settle(&own, name).map(Arc::new)).collect();
        let together = hierarchies.iter().find_map(|hierarchy| hierarchy.together());
        Groups {
            hierarchies,
            next: AtomicU64::new(1),
            emptied: sweeper(),
            standing: Arc::new(Standing::begin(together)),
        }
    }

    /// No groups: nothing is limited.
    pub fn none() -> Groups {
        Groups {
            hierarchies: Vec::new(),
            next: AtomicU64::new(1),
            emptied: sweeper(),
            standing: Arc::new(Standing::begin(None)),
        }
    }

    /// What is enforced here.
    pub fn enforced(&self) -> Enforced {
        self.hierarchies.iter().fold(Enforced::default(), |all, hierarchy| all.or(hierarchy.enforced))
    }

    /// A new group in every hierarchy.
    pub fn make(&self, resources: &Resources) -> Result<Group, NotStarted> {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let (places, limits, watch) = (Vec::new(), Mutex::default(), Mutex::default());
        let (emptied, member, standing) = (self.emptied.clone(), OnceLock::new(), self.standing.clone());
        let mut group = Group { places, limits, emptied, watch, member, standing };
        for hierarchy in &self.hierarchies {
            let dir = hierarchy.dir.join(&name);
            std::fs::create_dir(&dir).map_err(NotStarted::at(format!("make {}", dir.display())))?;
            group.places.push((hierarchy.clone(), dir));
        }
        group.limit(resources)?;
        Ok(group)
    }
}

impl Drop for Groups {
    /// At once: the server is about to end, and its threads with it.
    fn drop(&mut self) {
        for hierarchy in &self.hierarchies {
            empty(&hierarchy.dir);
            remove(&hierarchy.dir);
            if let Some((before, own)) = &hierarchy.left {
                give_children(before, '-');
                let _ = std::fs::write(before.join("cgroup.procs"), "0");
                let _ = std::fs::remove_dir(own);
            }
        }
    }
}

impl Group {
    /// Sets other limits. Where there is a `/tmp`, it must be called within a tokio runtime.
    pub fn limit(&self, resources: &Resources) -> Result<(), NotStarted> {
        let before = self.limits.lock().expect("no panic while held").replace(*resources);
        self.places.iter().try_for_each(|(hierarchy, dir)| hierarchy.limit(dir, resources, before))?;
        let place = self.places.iter().find(|(hierarchy, _)| hierarchy.enforced.memory);
        let watched = place.filter(|_| resources.tmp > MiB(0));
        let mut watch = self.watch.lock().expect("no panic while held");
        // To set an alarm takes a while.
        if (watch.0, watch.1.is_some()) != (resources.memory, watched.is_some()) {
            let begin = |(hierarchy, dir): &(Arc<Hierarchy>, PathBuf)| {
                Watch::begin(hierarchy.kind, dir.clone(), resources.memory)
            };
            *watch = (resources.memory, watched.map(begin));
        }
        Ok(())
    }

    /// It is an instance of `function` from now on, which may have so much of the processors that it stands back behind
    /// others. Nothing where the kernel cannot do that, or does not count what a group uses.
    pub fn belong_to(&self, function: Arc<str>) {
        let weight = self.limits.lock().expect("no panic while held").map_or(MiB(0), |limits| limits.weight);
        if let Some(files) = self.standing_files(weight) {
            let _ = self.member.set(self.standing.watch(files, function, weight));
        }
    }

    fn standing_files(&self, weight: MiB) -> Option<Files> {
        let (hierarchy, dir) = self.places.iter().find(|(hierarchy, _)| hierarchy.enforced.cpu)?;
        let used = self.places.iter().find_map(|(hierarchy, dir)| match hierarchy.kind {
            // Whether it has the controller or not.
            Kind::V2 => Some(dir.join("cpu.stat")),
            Kind::V1 => Some(dir.join("cpuacct.usage")).filter(|file| file.exists()),
        })?;
        let idle = Some(dir.join("cpu.idle")).filter(|file| file.exists())?;
        let weight = (dir.join(hierarchy.kind.weight()), share(weight, hierarchy.kind).to_string());
        let processors = self.places.iter().find(|(hierarchy, _)| hierarchy.enforced.processors);
        let processors = processors.map(|(_, dir)| dir.join(PROCESSORS));
        let quota = match hierarchy.kind {
            Kind::V1 => {
                Quota::V1 { period: dir.join("cpu.cfs_period_us"), quota: dir.join("cpu.cfs_quota_us") }
            }
            Kind::V2 => Quota::V2 { max: dir.join("cpu.max") },
        };
        Some(Files { used, idle, weight, quota, processors })
    }

    /// It has an event, until what is returned is dropped.
    pub fn busy(&self) -> Option<Busy<'_>> {
        self.member.get().map(|member| member.busy())
    }

    /// The v2 group, opened for `CLONE_INTO_CGROUP`; `None` without v2.
    pub fn unified(&self) -> io::Result<Option<File>> {
        let place = self.places.iter().find(|(hierarchy, _)| hierarchy.kind == Kind::V2);
        place.map(|(_, dir)| File::open(dir)).transpose()
    }

    /// What a process does to be in the other groups; before it loses sight of them. `seen` says where it finds a
    /// path of the machine.
    pub fn join_script(&self, seen: impl Fn(&Path) -> PathBuf) -> Script {
        let mut script = Script::default();
        for (_, dir) in self.places.iter().filter(|(hierarchy, _)| hierarchy.kind == Kind::V1) {
            script.add(ops::WRITE, &[seen(&dir.join("tasks")).as_os_str(), "0".as_ref()]);
        }
        script
    }

    /// The most memory that everything here has used together, files it read included; `None` where that is
    /// not counted.
    pub fn peak(&self) -> Option<MiB> {
        let (hierarchy, dir) = self.places.iter().find(|(hierarchy, _)| hierarchy.enforced.memory)?;
        let file = match hierarchy.kind {
            Kind::V1 => "memory.max_usage_in_bytes",
            Kind::V2 => "memory.peak",
        };
        let bytes = std::fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()?;
        Some(MiB::from_bytes_ceil(bytes))
    }

    /// The memory that is this group's alone, files that it read not included: what processes here have written to, in
    /// memory or in `/tmp`. `None` where that is not counted.
    pub fn own_memory(&self) -> Option<MiB> {
        let (_, dir) = self.places.iter().find(|(hierarchy, _)| hierarchy.enforced.memory)?;
        let stat = std::fs::read_to_string(dir.join("memory.stat")).ok()?;
        let fields = stat.lines().filter_map(|line| line.split_once(' '));
        // v1 calls it `rss`, v2 `anon`; both have `shmem`.
        let own = fields.filter(|(name, _)| matches!(*name, "rss" | "anon" | "shmem"));
        Some(MiB::from_bytes_ceil(own.filter_map(|(_, bytes)| bytes.parse::<u64>().ok()).sum()))
    }

    /// Stops everything here, or lets it go on; `None` where groups cannot do that. What is frozen still dies of SIGKILL.
    pub fn freeze(&self, frozen: bool) -> Option<io::Result<()>> {
        let (_, dir) = self.places.iter().find(|(hierarchy, _)| hierarchy.enforced.freezing)?;
        Some(std::fs::write(dir.join("cgroup.freeze"), if frozen { "1" } else { "0" }))
    }

    /// What pushes the memory of this group out to swap, as far as the kernel finds it worth while; it takes
    /// milliseconds.
    pub fn page_out(&self) -> impl FnOnce() + Send + use<> {
        let place = self.places.iter().find(|(hierarchy, _)| hierarchy.enforced.memory);
        let place = place.map(|(hierarchy, dir)| (hierarchy.kind, dir.clone()));
        move || {
            let Some((kind, dir)) = place else { return };
            let set = |file: &str, value: &str| std::fs::write(dir.join(file), value);
            // An error means that not everything could be reclaimed.
            let _ = match kind {
                Kind::V1 => set("memory.force_empty", "0"),
                Kind::V2 => {
                    let used = std::fs::read_to_string(dir.join("memory.current")).unwrap_or_default();
                    // Otherwise an instance may not swap: its memory is limited, and swap would be more of it.
                    let _ = set("memory.swap.max", "max");
                    let _ = set("memory.reclaim", used.trim());
                    set("memory.swap.max", "0")
                }
            };
        }
    }

    /// How much memory it had of its own, when it was ended because that was too much; `None` when it was not.
    pub fn ran_out_of_memory(&self) -> Option<MiB> {
        let (limit, ended) = {
            let watch = self.watch.lock().expect("no panic while held");
            (watch.0, watch.1.as_ref().and_then(Watch::ended))
        };
        // The kernel has counted `/tmp` as well.
        let by_the_kernel = || self.killed_by_the_kernel().then(|| self.peak().unwrap_or(limit).min(limit));
        ended.or_else(by_the_kernel)
    }

    /// Whether the kernel has killed something here because its limit of memory was reached.
    fn killed_by_the_kernel(&self) -> bool {
        self.places.iter().filter(|(hierarchy, _)| hierarchy.enforced.memory).any(|(hierarchy, dir)| {
            let file = match hierarchy.kind {
                Kind::V1 => "memory.oom_control",
                Kind::V2 => "memory.events",
            };
            let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
            text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count != "0"))
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for (_, dir) in self.places.drain(..) {
            let _ = self.emptied.send(dir);
        }
    }
}

impl Hierarchy {
    /// Where it is said what all functions together weigh, if here.
    fn together(&self) -> Option<Together> {
        let (process, most) = match self.kind {
            Kind::V1 => (1024, 100 * 1024),
            Kind::V2 => (100, 10_000),
        };
        self.enforced.cpu.then(|| Together { file: self.dir.join(self.kind.weight()), process, most })
    }

    /// Writes what is other than `before`; each file costs some tens of microseconds.
    fn limit(&self, dir: &Path, resources: &Resources, before: Option<Resources>) -> Result<(), NotStarted> {
        let set = |file: &str, value: String| {
            let path = dir.join(file);
            std::fs::write(&path, &value)
                .map_err(NotStarted::at(format!("write {value} to {}", path.display())))
        };
        let Enforced { memory, cpu, tasks, .. } = self.enforced;
        let bytes = (u64::from(resources.memory.0) + u64::from(resources.tmp.0)) << 20;
        if memory && before.is_none_or(|was| (was.memory, was.tmp) != (resources.memory, resources.tmp)) {
            // With swap is never less than without, so the former makes way first. Not every kernel counts it.
            let _ = match (self.kind, before) {
                (Kind::V1, Some(_)) => set("memory.memsw.limit_in_bytes", "-1".into()),
                (Kind::V2, None) => set("memory.swap.max", "0".into()),
                _ => Ok(()),
            };
            match self.kind {
                Kind::V1 => set("memory.limit_in_bytes", bytes.to_string())?,
                Kind::V2 => set("memory.max", bytes.to_string())?,
            }
            if self.kind == Kind::V1 {
                let _ = set("memory.memsw.limit_in_bytes", bytes.to_string());
            }
        }
        if cpu && before.is_none_or(|before| before.weight != resources.weight) {
            set(self.kind.weight(), share(resources.weight, self.kind).to_string())?;
        }
        if tasks && before.is_none_or(|before| before.tasks != resources.tasks) {
            set("pids.max", resources.tasks.to_string())?;
        }
        Ok(())
    }
}

/// As a number that this kind of group takes: 1,769 MiB weigh as much as sixteen processes. Among functions only how these
/// numbers compare counts, and with that of an idle group, which is always 3 of v1's: what that is owed for an event
/// of another's must be little, or it is before the next one. The most memory that a function may have fits in.
fn share(weight: MiB, kind: Kind) -> u64 {
    let of = |one: u64| (u64::from(weight.0) * 16 * one / 1769).max(2);
    match kind {
        Kind::V1 => of(1024),
        Kind::V2 => of(100).min(10_000),
    }
}

impl Enforced {
    fn or(self, other: Enforced) -> Enforced {
        Enforced {
            memory: self.memory || other.memory,
            cpu: self.cpu || other.cpu,
            tasks: self.tasks || other.tasks,
            processors: self.processors || other.processors,
            freezing: self.freezing || other.freezing,
        }
    }

    fn from_names<'a>(names: impl Iterator<Item = &'a str>) -> Enforced {
        let mut enforced = Enforced::default();
        for name in names {
            match name {
                "memory" => enforced.memory = true,
                "cpu" => enforced.cpu = true,
                "pids" => enforced.tasks = true,
                "cpuset" => enforced.processors = true,
                _ => {}
            }
        }
        enforced
    }

    fn is_any(self) -> bool {
        self != Enforced::default()
    }
}

/// A mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The part of the hierarchy that is mounted.
    root: PathBuf,
    /// Where.
    point: PathBuf,
    kind: Kind,
    /// Controllers of a v1 hierarchy.
    controllers: Vec<String>,
}

impl Mount {
    /// Makes the server's own group as near to where the server is as may be.
    fn settle(&self, own: &[Membership], name: &str) -> Option<Hierarchy> {
        let membership = own.iter().find(|membership| match self.kind {
            Kind::V1 => membership.controllers.iter().any(|c| self.controllers.contains(c)),
            Kind::V2 => membership.controllers.is_empty(),
        })?;
        let inside = membership.path.strip_prefix(&self.root).unwrap_or(Path::new(""));
        let here = self.point.join(inside);
        match self.kind {
            Kind::V1 => {
                let enforced = Enforced::from_names(self.controllers.iter().map(String::as_str));
                let dir = here.join(name);
                if !enforced.is_any() || !make_anew(&dir) {
                    return None;
                }
                if enforced.processors && allow(&here, &dir).is_err() {
                    let _ = std::fs::remove_dir(dir);
                    return None;
                }
                Some(Hierarchy { dir, kind: Kind::V1, enforced, left: None })
            }
            Kind::V2 => self.settle_unified(&here, name),
        }
    }

    /// A v2 group that has processes gives its children no controllers, unless it is the root: so the
    /// server's own group is made beside the server's, or further up.
    fn settle_unified(&self, here: &Path, name: &str) -> Option<Hierarchy> {
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        let left = step_down(here, name);
        let mut without = None;
        for parent in here.ancestors().take_while(|dir| dir.starts_with(&self.point)) {
            give_children(parent, '+');
            let dir = parent.join(name);
            if !make_anew(&dir) {
                continue;
            }
            give_children(&dir, '+');
            let given = read(dir.join("cgroup.subtree_control"));
            let freezing = dir.join("cgroup.freeze").exists();
            let enforced = Enforced { freezing, ..Enforced::from_names(given.split_whitespace()) };
            let hierarchy = Hierarchy { dir, kind: Kind::V2, enforced, left: left.clone() };
            if enforced.memory {
                if let Some(Hierarchy { dir, .. }) = without {
                    let _ = std::fs::remove_dir(dir);
                }
                return Some(hierarchy);
            }
            match without {
                None => without = Some(hierarchy),
                Some(_) => _ = std::fs::remove_dir(hierarchy.dir),
            }
        }
        without.filter(|hierarchy| {
            let useful = hierarchy.enforced.is_any();
            if !useful {
                let _ = std::fs::remove_dir(&hierarchy.dir);
            }
            useful
        })
    }
}

/// What `/proc/self/cgroup` says about one hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Membership {
    /// Empty for v2.
    controllers: Vec<String>,
    path: PathBuf,
}

fn memberships(text: &str) -> Vec<Membership> {
    let parse = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?.split(',').filter(|c| !c.is_empty()).map(str::to_owned).collect();
        Some(Membership { controllers, path: fields.next()?.into() })
    };
    text.lines().filter_map(parse).collect()
}

fn mounts(text: &str) -> Vec<Mount> {
    let parse = |line: &str| {
        let (place, system) = line.split_once(" - ")?;
        let (mut place, mut system) = (place.split(' ').skip(3), system.split(' '));
        let (root, point) = (place.next()?.into(), place.next()?.into());
        let kind = match system.next()? {
            "cgroup" => Kind::V1,
            "cgroup2" => Kind::V2,
            _ => return None,
        };
        let controllers = match kind {
            Kind::V1 => system.nth(1)?.split(',').map(str::to_owned).collect(),
            Kind::V2 => Vec::new(),
        };
        Some(Mount { root, point, kind, controllers })
    };
    text.lines().filter_map(parse).collect()
}

/// Where this process is alone in its group, as the first one of a service or a container is, it is what keeps that from
/// giving its children controllers: it moves to a group below. That one, after the one that it left.
fn step_down(here: &Path, name: &str) -> Option<(PathBuf, PathBuf)> {
    let read = |file: &str| std::fs::read_to_string(here.join(file)).ok();
    let alone = read("cgroup.procs")?.trim() == std::process::id().to_string();
    let something_to_give = read("cgroup.controllers")?.contains("memory");
    // Only the root of all groups has no type; it may have both.
    if !alone || !something_to_give || !here.join("cgroup.type").exists() {
        return None;
    }
    // Takes some 10 ms.
    let own = here.join(format!("{name}.server"));
    let _ = std::fs::create_dir(&own);
    std::fs::write(own.join("cgroup.procs"), "0").ok()?;
    Some((here.to_owned(), own))
}

/// Gives a group's children the controllers that are wanted, or takes them away (`-`), as far as may be.
fn give_children(dir: &Path, sign: char) {
    for controller in ["memory", "cpu", "pids", "cpuset"] {
        let _ = std::fs::write(dir.join("cgroup.subtree_control"), format!("{sign}{controller}"));
    }
}

/// Has a v1 group and those that are made in it run on the processors and use the memory nodes that this process may: new
/// ones have none, and then nothing can be in them.
///
/// Source: kernel documentation, `admin-guide/cgroup-v1/cpusets.rst`.
fn allow(here: &Path, dir: &Path) -> io::Result<()> {
    let (mems, processors) =
        (std::fs::read_to_string(here.join("cpuset.mems"))?, list(&kernel::processors()));
    for (file, these) in [("cpuset.mems", mems.trim()), (PROCESSORS, &processors)] {
        if these.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        std::fs::write(dir.join(file), these)?;
    }
    std::fs::write(dir.join("cgroup.clone_children"), "1")
}

/// Makes a group in which this process can make others; whether that succeeded. One of this name is an earlier
/// server's: what is left in it is ended.
fn make_anew(dir: &Path) -> bool {
    empty(dir);
    let _ = std::fs::create_dir(dir);
    let probe = dir.join("0");
    std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe)).is_ok()
}

/// Kills everything in a group's children and removes those.
fn empty(dir: &Path) {
    for child in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if !child.is_dir() {
            continue;
        }
        end_members(&child);
        remove(&child);
    }
}

/// Kills everything in a group.
pub fn end_members(dir: &Path) {
    let _ = std::fs::write(dir.join("cgroup.kill"), "1");
    for pid in members(dir) {
        // SAFETY: kill touches no memory; the process is in a group of this server's own.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

/// The processes in a group.
pub fn members(dir: &Path) -> Vec<i32> {
    let members = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // Those that this server's namespace does not have are 0.
    members.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid > 0).collect()
}

/// Removes a group, for which its last process must have left: that takes the kernel a moment. Whether it is gone.
fn remove(dir: &Path) -> bool {
    let mut pause = Duration::from_micros(200);
    while !is_removed(dir) {
        if pause > Duration::from_millis(500) {
            tracing::warn!(group = %dir.display(), "a control group could not be removed yet");
            return false;
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
    true
}

fn is_removed(dir: &Path) -> bool {
    !std::fs::remove_dir(dir).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
}

/// A thread that removes groups; the removal of one can take milliseconds, and where a process is slow to end any time:
/// it is tried again every second. It ends with the last sender.
fn sweeper() -> std::sync::mpsc::Sender<PathBuf> {
    const AGAIN: Duration = Duration::from_secs(1);
    let (emptied, queue) = std::sync::mpsc::channel::<PathBuf>();
    let sweep = move || {
        let mut left: Vec<PathBuf> = Vec::new();
        loop {
            let next = match left.is_empty() {
                true => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => queue.recv_timeout(AGAIN),
            };
            left.retain(|dir| !is_removed(dir));
            match next {
                Ok(dir) if !remove(&dir) => left.push(dir),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    std::thread::Builder::new().name("cgroups".into()).spawn(sweep).expect("the machine can start a thread");
    emptied
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_group_goes_with_its_last_process_however_long_that_takes() {
        let groups = Groups::open("brooklet-test-of-a-late-end");
        let resources = Resources { memory: MiB(64), tmp: MiB(0), weight: MiB(64), tasks: 8 };
        let late = groups.make(&resources).expect("a group");
        let dirs: Vec<PathBuf> = late.places.iter().map(|(_, dir)| dir.clone()).collect();
        let mut cat = Command::new("cat").stdin(Stdio::piped()).spawn().expect("started");
        for dir in &dirs {
            std::fs::write(dir.join("cgroup.procs"), cat.id().to_string()).expect("moved");
        }
        drop(late);
        // Another that goes at once shows that nobody waits for the first one any more.
        for _ in 0..2 {
            let next = groups.make(&resources).expect("a group");
            let dirs: Vec<PathBuf> = next.places.iter().map(|(_, dir)| dir.clone()).collect();
            drop(next);
            until(|| dirs.iter().all(|dir| !dir.exists()));
        }
        assert!(dirs.iter().all(|dir| dir.exists()));
        drop(cat.stdin.take());
        cat.wait().expect("ended");
        until(|| dirs.iter().all(|dir| !dir.exists()));
    }

    fn until(condition: impl Fn() -> bool) {
        let began = std::time::Instant::now();
        while !condition() {
            assert!(began.elapsed() < Duration::from_secs(20), "waited 20 s in vain");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn processors_are_told_to_groups_as_a_list() {
        assert_eq!((&*list(&[0, 1, 7]), &*list(&[3]), &*list(&[])), ("0,1,7", "3", ""));
    }

    #[test]
    fn hierarchies_of_both_kinds_are_found_among_the_mounts() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                    35 31 0:32 /docker/a /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";
        let v1 = Mount {
            root: "/docker/a".into(),
            point: "/sys/fs/cgroup/memory".into(),
            kind: Kind::V1,
            controllers: vec!["rw".into(), "memory".into()],
        };
        let v2 = Mount {
            root: "/".into(),
            point: "/sys/fs/cgroup/unified".into(),
            kind: Kind::V2,
            controllers: vec![],
        };
        assert_eq!(mounts(text), [v1, v2]);
    }

    #[test]
    fn a_membership_names_controllers_and_a_path_that_may_hold_colons() {
        let told = memberships("4:memory:/a/b:c\n2:cpu,cpuacct:/\n0::/user.slice\n");
        let expected: [(&[&str], &str); 3] =
            [(&["memory"], "/a/b:c"), (&["cpu", "cpuacct"], "/"), (&[], "/user.slice")];
        let expected = expected.map(|(controllers, path)| Membership {
            controllers: controllers.iter().map(|c| c.to_string()).collect(),
            path: path.into(),
        });
        assert_eq!(told, expected);
    }
}
