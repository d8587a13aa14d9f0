//! Has instances that use more of the processors than is theirs stand back behind the others: `policy::allowance` says
//! which, here it is looked and done. A group that stands back is *idle* for the kernel (`cpu.idle`, Linux 5.15, v1 and
//! v2): whichever other instance wakes takes the processor from it at once, and it has what others leave. The server is no
//! instance, it competes with all of them together; while one that stands back runs they weigh less (`policy::allowance::together`).
//!
//! One thread looks at all instances, each when its turn comes; at one that rests, every ten seconds. On the path of an
//! event there is a counter, and a message to the thread when the instance had rested.
//!
//! Source: kernel documentation, `admin-guide/cgroup-v2.rst`, "CPU Interface Files".

use model::{MiB, Time};
use policy::allowance::{Allowance, LATEST_BUSY, Seen, together};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// At most of so many functions it is known what their last instance left.
const FUNCTIONS: usize = 4096;

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
        let run = move || looker.run(&told);
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
    members: BTreeMap<u64, Known>,
    /// When who is to be looked at.
    due: BTreeSet<(Time, u64)>,
    /// What a function's last instance left.
    left: BTreeMap<Arc<str>, Allowance>,
    together: Option<Together>,
    /// How many press.
    pressing: usize,
}

struct Known {
    member: Weak<Member>,
    function: Arc<str>,
    allowance: Allowance,
    /// Whether it was told to.
    back: bool,
    presses: bool,
    due: Time,
}

impl Looker {
    fn new(together: Option<Together>) -> Looker {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Looker {
            began: Instant::now(),
            cores,
            members: BTreeMap::new(),
            due: BTreeSet::new(),
            left: BTreeMap::new(),
            together,
            pressing: 0,
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
                let Some(used) = used(&new.files.used) else { return };
                let mut allowance = Allowance::new(now, new.memory, self.cores, used);
                if let Some(left) = self.left.get(&new.function) {
                    allowance.inherit(now, left);
                }
                let function = new.function.clone();
                self.members.insert(
                    new.id,
                    Known { member, function, allowance, back: false, presses: false, due: now },
                );
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
            self.turned(before, after);
        }
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
        let seen = Seen { used: used(&member.files.used)?, events, busy: events > answered };
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
}

/// The processor time that a group has used.
fn used(file: &Path) -> Option<Duration> {
    let text = std::fs::read_to_string(file).ok()?;
    match text.lines().find_map(|line| line.strip_prefix("usage_usec ")) {
        Some(micros) => micros.parse().ok().map(Duration::from_micros),
        None => text.trim().parse().ok().map(Duration::from_nanos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_read_as_either_kind_of_group_tells_it() {
        let check = |text: &str| {
            let file = tempfile::NamedTempFile::new().expect("a file can be made");
            std::fs::write(file.path(), text).expect("it can be written to");
            used(file.path())
        };
        assert_eq!(check("usage_usec 1500\nuser_usec 1000\n"), Some(Duration::from_micros(1500)));
        assert_eq!(check("1500000\n"), Some(Duration::from_micros(1500)));
        assert_eq!(check("\n"), None);
    }
}
