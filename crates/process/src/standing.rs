//! Has instances that use more of the processors than is theirs stand back behind the others: `policy::allowance` says
//! which, here it is looked and done. A group that stands back is *idle* for the kernel (`cpu.idle`, Linux 5.15, v1 and
//! v2): whichever other instance wakes takes the processor from it at once, and it has what others leave. The server is no
//! instance, it competes with all of them together; while one that stands back runs they weigh less (`policy::allowance::together`).
//! Those that hinder others all the same get a quota, and run on processors on which these are seldom met.
//!
//! One thread looks at all instances, each when its turn comes; at one that rests, every ten seconds. On the path of an
//! event there is a counter, and a message to the thread when the instance had rested.
//!
//! Source: kernel documentation, `admin-guide/cgroup-v2.rst`, "CPU Interface Files".

use crate::beat::Beat;
use crate::{cgroup, kernel};
use model::{MiB, Time};
use policy::allowance::{Allowance, LATEST_BUSY, PERIOD, Seen, together, together_on};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// At most of so many functions it is known what their last instance left.
const FUNCTIONS: usize = 4096;

/// Whether anybody wants the processors is looked at again after so long: it takes a look at all.
const WANTED_EVERY: Duration = Duration::from_millis(20);

/// When nothing else is to be looked at.
const IDLY: Duration = Duration::from_secs(3600);

/// Where it is seen what a group uses of the processors, and said how it stands.
#[derive(Debug)]
pub struct Files {
    /// `cpu.stat` of v2, or `cpuacct.usage` of v1.
    pub used: PathBuf,
    /// `cpu.idle`.
    pub idle: PathBuf,
    /// `cpu.shares` of v1, `cpu.weight` of v2, and what is to be there: the kernel forgets it when a group becomes idle.
    pub weight: (PathBuf, String),
    /// Where it is said how much of the processors the group may use.
    pub quota: Quota,
    /// `cpuset.cpus`, and what is there as long as the group may run on all processors of this server.
    pub processors: Option<(PathBuf, String)>,
}

/// Files that limit a group's processor time.
#[derive(Debug)]
pub enum Quota {
    /// Two, each with a number of microseconds.
    V1 {
        /// `cpu.cfs_period_us`.
        period: PathBuf,
        /// `cpu.cfs_quota_us`.
        quota: PathBuf,
    },
    /// One with both.
    V2 {
        /// `cpu.max`.
        max: PathBuf,
    },
}

/// Where it is said what all functions together weigh against the server and the rest of the machine.
#[derive(Debug)]
pub struct Together {
    /// `cpu.shares` of v1 or `cpu.weight` of v2.
    pub file: PathBuf,
    /// What a process weighs there.
    pub process: u64,
    /// The most that can be said.
    pub most: u64,
}

/// An instance that is looked at until this is dropped.
pub struct Member {
    id: u64,
    files: Files,
    function: Arc<str>,
    memory: MiB,
    /// That it was given, and that it has answered.
    events: [AtomicU64; 2],
    /// Whether it may be long until it is looked at.
    rests: AtomicBool,
    tell: Sender<Message>,
}

/// An event that an instance has.
pub struct Busy<'a>(&'a Member);

enum Message {
    Began(Weak<Member>),
    /// It has an event after a rest.
    Woke(u64),
    Ended(u64),
}

/// The thread that looks. It ends with the last of these and of the members.
pub struct Standing {
    tell: Sender<Message>,
    next: AtomicU64,
}

impl Standing {
    /// Starts the thread.
    pub fn begin(together: Option<Together>) -> Standing {
        let (tell, told) = channel();
        let looker = Looker::new(together);
        looker.weigh();
        let run = move || {
            // Those that it has to find may leave nobody else a processor.
            kernel::come_before_all();
            looker.run(&told);
        };
        std::thread::Builder::new()
            .name("standing".into())
            .spawn(run)
            .expect("the machine can start a thread");
        Standing { tell, next: AtomicU64::new(0) }
    }

    /// Looks from now on at an instance of `function` that has this memory size.
    pub fn watch(&self, files: Files, function: Arc<str>, memory: MiB) -> Arc<Member> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (events, rests, tell) = (Default::default(), AtomicBool::new(false), self.tell.clone());
        let member = Arc::new(Member { id, files, function, memory, events, rests, tell });
        let _ = self.tell.send(Message::Began(Arc::downgrade(&member)));
        member
    }
}

impl Member {
    /// It has an event, until what is returned is dropped.
    pub fn busy(&self) -> Busy<'_> {
        self.events[0].fetch_add(1, Ordering::SeqCst);
        if self.rests.load(Ordering::SeqCst) && self.rests.swap(false, Ordering::SeqCst) {
            let _ = self.tell.send(Message::Woke(self.id));
        }
        Busy(self)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.events[1].fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.tell.send(Message::Ended(self.id));
    }
}

/// What the thread knows.
struct Looker {
    began: Instant,
    cores: usize,
    processors: Vec<usize>,
    members: BTreeMap<u64, Known>,
    /// When who is to be looked at.
    due: BTreeSet<(Time, u64)>,
    /// What a function's last instance left.
    left: BTreeMap<Arc<str>, Allowance>,
    together: Option<Together>,
    /// How many press.
    pressing: usize,
    /// Whether anybody who does not stand back wants the processors, and when that was looked at.
    wanted: (Time, bool),
    beat: Beat,
}

struct Known {
    member: Weak<Member>,
    function: Arc<str>,
    allowance: Allowance,
    /// Whether it was told to.
    back: bool,
    presses: bool,
    quota: Option<Duration>,
    /// With a quota: on how many processors it runs.
    on: Option<usize>,
    due: Time,
}

impl Looker {
    fn new(together: Option<Together>) -> Looker {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Looker {
            began: Instant::now(),
            cores,
            processors: kernel::processors(),
            members: BTreeMap::new(),
            due: BTreeSet::new(),
            left: BTreeMap::new(),
            together,
            pressing: 0,
            wanted: (Time::ZERO, false),
            beat: Beat::default(),
        }
    }

    fn run(mut self, told: &Receiver<Message>) {
        loop {
            let now = self.now();
            let pause = self.due.first().map_or(IDLY, |(due, _)| due.since(now));
            match told.recv_timeout(pause) {
                Ok(message) => self.hear(message),
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn hear(&mut self, message: Message) {
        let now = self.now();
        match message {
            Message::Began(member) => {
                let Some(new) = member.upgrade() else { return };
                let Some((used, in_kernel)) = used(&new.files.used) else { return };
                let mut allowance = Allowance::new(now, new.memory, self.cores, used, in_kernel);
                if let Some(left) = self.left.get(&new.function) {
                    allowance.inherit(now, left);
                }
                let function = new.function.clone();
                let (back, presses, quota, on) = Default::default();
                let known = Known { member, function, allowance, back, presses, quota, on, due: now };
                self.members.insert(new.id, known);
                self.due.insert((now, new.id));
                self.look();
            }
            Message::Woke(id) => {
                let Some(known) = self.members.get_mut(&id) else { return };
                self.due.remove(&(known.due, id));
                known.due = now + known.allowance.woke();
                self.due.insert((known.due, id));
            }
            Message::Ended(id) => {
                let Some(known) = self.members.remove(&id) else { return };
                self.due.remove(&(known.due, id));
                self.turned(known.presses, false);
                if known.quota.is_some() {
                    self.gather();
                }
                self.keep_the_beat(now);
                if self.left.len() >= FUNCTIONS {
                    self.left.retain(|_, left| !left.is_full(now));
                }
                if self.left.len() < FUNCTIONS && !known.allowance.is_full(now) {
                    self.left.insert(known.function, known.allowance);
                }
            }
        }
    }

    /// Looks at all that are due.
    fn look(&mut self) {
        let now = self.now();
        while let Some(&(due, id)) = self.due.first()
            && due <= now
        {
            self.due.pop_first();
            let Some(known) = self.members.get_mut(&id) else { continue };
            let before = known.presses;
            known.due = now + known.look(now).unwrap_or(LATEST_BUSY);
            self.due.insert((known.due, id));
            let after = known.presses;
            let may_change = known.quota.is_some() || known.allowance.quota(true).is_some();
            self.turned(before, after);
            if may_change {
                let wanted = self.is_wanted(now);
                if self.members.get_mut(&id).expect("it was just looked at").limit(wanted) {
                    self.gather();
                }
            }
        }
        self.keep_the_beat(now);
    }

    /// Whether anybody who does not stand back wants the processors.
    fn is_wanted(&mut self, now: Time) -> bool {
        if now.since(self.wanted.0) >= WANTED_EVERY {
            self.wanted = (now, self.members.values().any(|known| known.allowance.wants(now)));
        }
        self.wanted.1
    }

    /// Has those with a quota run on processors of their own, and whoever has none any more on all.
    fn gather(&mut self) {
        let on = together_on(self.members.values().filter_map(|known| known.quota), self.processors.len());
        let these = cgroup::list(&self.processors[self.processors.len().saturating_sub(on)..]);
        for known in self.members.values_mut() {
            known.run_on(known.quota.map(|_| (on, &*these)));
        }
    }

    fn keep_the_beat(&mut self, now: Time) {
        let on = self.pressing > 0 && self.is_wanted(now);
        self.beat.turn(on);
    }

    /// One pressed `before`, and does so `now` or does not.
    fn turned(&mut self, before: bool, now: bool) {
        let weight = together(self.pressing);
        self.pressing = self.pressing + usize::from(now) - usize::from(before);
        if together(self.pressing) != weight {
            self.weigh();
        }
    }

    /// Says what all functions together weigh.
    fn weigh(&self) {
        if let Some(Together { file, process, most }) = &self.together {
            let weight = together(self.pressing) * self.cores as u64 * process / 8;
            let _ = std::fs::write(file, weight.min(*most).to_string());
        }
    }
}

impl Known {
    /// Looks at it and says how it stands; when to look again. `None`: it is not there any more.
    fn look(&mut self, now: Time) -> Option<Duration> {
        let member = self.member.upgrade()?;
        // In this order: whoever has an event from here on tells, or is seen.
        member.rests.store(true, Ordering::SeqCst);
        let [answered, events] = [1, 0].map(|n: usize| member.events[n].load(Ordering::SeqCst));
        let (used, in_kernel) = used(&member.files.used)?;
        let seen = Seen { used, in_kernel, events, busy: events > answered };
        let verdict = self.allowance.saw(now, seen);
        if verdict.again <= LATEST_BUSY {
            member.rests.store(false, Ordering::SeqCst);
        }
        if verdict.back != self.back {
            member.files.say(verdict.back);
            self.back = verdict.back;
        }
        self.presses = verdict.presses;
        Some(verdict.again)
    }

    /// Gives it a quota when it hinders others and there are some, and takes it away when not.
    /// Whether that is something new.
    fn limit(&mut self, wanted: bool) -> bool {
        let quota = self.allowance.quota(wanted);
        if quota != self.quota
            && let Some(member) = self.member.upgrade()
        {
            member.files.limit(quota);
            self.quota = quota;
            return true;
        }
        false
    }

    /// Has it run on this number of processors, which are these; without, on all.
    fn run_on(&mut self, some: Option<(usize, &str)>) {
        let on = some.map(|(on, _)| on);
        if on != self.on
            && let Some(member) = self.member.upgrade()
        {
            member.files.run_on(some.map(|(_, these)| these));
            self.on = on;
        }
    }
}

impl Files {
    /// Whether the group is to stand back. It may be gone.
    fn say(&self, back: bool) {
        let _ = std::fs::write(&self.idle, if back { "1" } else { "0" });
        if !back {
            let (file, weight) = &self.weight;
            let _ = std::fs::write(file, weight);
        }
    }

    /// The group runs on these processors, or on all.
    fn run_on(&self, these: Option<&str>) {
        if let Some((file, all)) = &self.processors {
            let _ = std::fs::write(file, these.unwrap_or(all));
        }
    }

    /// The group may use so much of each [`PERIOD`], or what it likes. A kernel without quotas (`CONFIG_CFS_BANDWIDTH`) has
    /// no such files.
    fn limit(&self, quota: Option<Duration>) {
        let (period, quota) = (PERIOD.as_micros(), quota.map(|quota| quota.as_micros().to_string()));
        let _ = match &self.quota {
            Quota::V1 { period: file, quota: other } => std::fs::write(file, period.to_string())
                .and_then(|()| std::fs::write(other, quota.as_deref().unwrap_or("-1"))),
            Quota::V2 { max } => {
                std::fs::write(max, format!("{} {period}", quota.as_deref().unwrap_or("max")))
            }
        };
    }
}

/// The processor time that a group has used, and how much of it in the kernel.
fn used(file: &Path) -> Option<(Duration, Duration)> {
    let text = std::fs::read_to_string(file).ok()?;
    let micros = |name: &str| {
        let micros = text.lines().find_map(|line| line.strip_prefix(name))?;
        micros.trim().parse().ok().map(Duration::from_micros)
    };
    match micros("usage_usec ") {
        Some(used) => Some((used, micros("system_usec ").unwrap_or_default())),
        None => {
            let nanos = |text: &str| text.trim().parse().ok().map(Duration::from_nanos);
            let in_kernel = std::fs::read_to_string(file.with_extension("usage_sys"));
            Some((nanos(&text)?, in_kernel.ok().and_then(|text| nanos(&text)).unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_read_as_either_kind_of_group_tells_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let check = |name: &str, text: &str| {
            let file = dir.path().join(name);
            std::fs::write(&file, text).expect("it can be written to");
            used(&file).map(|(used, in_kernel)| (used.as_micros(), in_kernel.as_micros()))
        };
        assert_eq!(
            check("cpu.stat", "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n"),
            Some((1500, 500))
        );
        assert_eq!(check("cpuacct.usage", "1500000\n"), Some((1500, 0)), "an old kernel");
        std::fs::write(dir.path().join("cpuacct.usage_sys"), "500000\n").expect("it can be written to");
        assert_eq!(check("cpuacct.usage", "1500000\n"), Some((1500, 500)));
        assert_eq!(check("cpuacct.usage", "\n"), None);
    }

    /// Whose every file is in this folder.
    fn files(dir: &Path, quota: Quota) -> Files {
        let at = |name: &str| dir.join(name);
        let (weight, processors) = ((at("weight"), "1".into()), Some((at("processors"), "0,1".into())));
        Files { used: at("used"), idle: at("idle"), weight, quota, processors }
    }

    #[test]
    fn a_quota_is_said_as_either_kind_of_group_takes_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        let said = |quota, limit| {
            files(dir.path(), quota).limit(limit);
            let read = |name| std::fs::read_to_string(at(name)).unwrap_or_default();
            ["period", "quota", "max"].map(read)
        };
        let v1 = || Quota::V1 { period: at("period"), quota: at("quota") };
        let v2 = || Quota::V2 { max: at("max") };
        let some = Some(Duration::from_millis(2));
        assert_eq!(said(v1(), some), ["20000", "2000", ""]);
        assert_eq!(said(v1(), None), ["20000", "-1", ""]);
        assert_eq!(said(v2(), some)[2], "2000 20000");
        assert_eq!(said(v2(), None)[2], "max 20000");
    }

    #[test]
    fn a_group_runs_on_some_processors_or_on_all() {
        let dir = tempfile::tempdir().expect("a folder");
        let files = files(dir.path(), Quota::V2 { max: dir.path().join("max") });
        let said = |these| {
            files.run_on(these);
            std::fs::read_to_string(dir.path().join("processors")).expect("it was written")
        };
        assert_eq!((&*said(Some("1")), &*said(None)), ("1", "0,1"));
    }
}
