//! Has instances that use more of the processors than is theirs stand back behind the others: `policy::sharing` says
//! which and how, here it is looked and done. A group that stands back is *idle* for the kernel (`cpu.idle`, Linux 5.15, v1 and
//! v2): whichever other instance wakes takes the processor from it at once, and it has what others leave. The server is no
//! instance, it competes with all of them together; while one that stands back runs they weigh less.
//! Those that hinder others all the same get a quota, and run on processors on which these are seldom met.
//!
//! One thread looks at all instances, each when its turn comes; at one that rests, every ten seconds. On the path of an
//! event there is a counter, and a message to the thread when the instance had rested.
//!
//! Source: kernel documentation, `admin-guide/cgroup-v2.rst`, "CPU Interface Files".

use crate::beat::Beat;
use crate::{cgroup, kernel};
use model::{MiB, Time};
use policy::allowance::{PERIOD, Seen};
use policy::sharing::{Command, Event, Id, Sharing};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

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
    /// `cpuset.cpus`.
    pub processors: Option<PathBuf>,
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
    id: Id,
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
    Woke(Id),
    Ended(Id),
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
        let mut looker = Looker::new(together);
        looker.carry_out(&[looker.sharing.begin()]);
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
    sharing: Sharing,
    members: BTreeMap<Id, Weak<Member>>,
    together: Option<Together>,
    processors: Vec<usize>,
    beat: Beat,
}

impl Looker {
    fn new(together: Option<Together>) -> Looker {
        let processors = kernel::processors();
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let sharing = Sharing::new(cores, processors.len());
        let (began, members, beat) = (Instant::now(), BTreeMap::new(), Beat::default());
        Looker { began, cores, sharing, members, together, processors, beat }
    }

    fn run(mut self, told: &Receiver<Message>) {
        loop {
            let pause = self.sharing.next().map_or(IDLY, |due| due.since(self.now()));
            match told.recv_timeout(pause) {
                Ok(message) => self.hear(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.look();
        }
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Began(member) => {
                let Some(new) = member.upgrade() else { return };
                let Some((used, in_kernel)) = used(&new.files.used) else { return };
                let (id, function, memory) = (new.id, new.function.clone(), new.memory);
                self.members.insert(id, member);
                self.step(Event::Began { id, function, memory, used, in_kernel });
            }
            Message::Woke(id) => self.step(Event::Woke(id)),
            Message::Ended(id) => {
                self.members.remove(&id);
                self.step(Event::Ended(id));
            }
        }
    }

    fn step(&mut self, event: Event) {
        let mut commands = Vec::new();
        self.sharing.step(self.now(), event, &mut commands);
        self.carry_out(&commands);
    }

    /// Looks at all that are due by now.
    fn look(&mut self) {
        let until = self.now();
        while let Some(id) = self.sharing.due(until) {
            let member = self.members.get(&id).and_then(Weak::upgrade);
            let seen = member.as_deref().and_then(Member::see);
            self.step(Event::Saw(id, seen));
            if let Some(member) = member
                && self.sharing.is_watched(id)
            {
                member.rests.store(false, Ordering::SeqCst);
            }
        }
    }

    fn carry_out(&mut self, commands: &[Command]) {
        for command in commands {
            match *command {
                Command::StandBack(id, back) => self.say(id, |files| files.stand(back)),
                Command::Limit(id, quota) => self.say(id, |files| files.limit(quota)),
                Command::RunOn(id, some) => {
                    let these = self.last(some.unwrap_or(self.processors.len()));
                    self.say(id, |files| files.run_on(&these));
                }
                Command::Weigh(weight) => self.weigh(weight),
                Command::Beat(pause) => self.beat.turn(pause),
            }
        }
    }

    fn say(&self, id: Id, what: impl FnOnce(&Files)) {
        if let Some(member) = self.members.get(&id).and_then(Weak::upgrade) {
            what(&member.files);
        }
    }

    /// The last ones of this server's processors.
    fn last(&self, number: usize) -> String {
        cgroup::list(&self.processors[self.processors.len().saturating_sub(number)..])
    }

    /// Says what all functions together weigh on each core, in eighths of a process.
    fn weigh(&self, weight: u64) {
        if let Some(Together { file, process, most }) = &self.together {
            let weight = weight * self.cores as u64 * process / 8;
            let _ = std::fs::write(file, weight.min(*most).to_string());
        }
    }
}

impl Member {
    /// What there is to be seen of it. It tells from here on when it has an event.
    fn see(&self) -> Option<Seen> {
        // In this order: whoever has an event from here on tells, or is seen.
        self.rests.store(true, Ordering::SeqCst);
        let [answered, events] = [1, 0].map(|n: usize| self.events[n].load(Ordering::SeqCst));
        let (used, in_kernel) = used(&self.files.used)?;
        Some(Seen { used, in_kernel, events, busy: events > answered })
    }
}

impl Files {
    /// Whether the group is to stand back. It may be gone.
    fn stand(&self, back: bool) {
        let _ = std::fs::write(&self.idle, if back { "1" } else { "0" });
        if !back {
            let (file, weight) = &self.weight;
            let _ = std::fs::write(file, weight);
        }
    }

    /// The group runs on these processors. They are said also when they are all that there are: a group with processes in it
    /// may not go back to having said nothing.
    fn run_on(&self, these: &str) {
        if let Some(file) = &self.processors {
            let _ = std::fs::write(file, these);
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

    #[test]
    fn a_quota_is_said_as_either_kind_of_group_takes_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        let said = |quota, limit| {
            let weight = (at("weight"), "1".into());
            Files { used: at("used"), idle: at("idle"), weight, quota, processors: None }.limit(limit);
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
}
