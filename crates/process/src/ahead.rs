//! Sandboxes that are made before anybody needs one: a first process in its namespaces, with a network laid out and the
//! view that all functions of a kind have. To make the namespaces and what is in them takes milliseconds, which no
//! start has to wait for then.
//!
//! Sandboxes are alike when their [`Base`] is. How many wait of which kind is `policy::stock`; nothing of a function is
//! in one before it is that function's.

use crate::cgroup::Resources;
use crate::child::Child;
use crate::lull::Lull;
use crate::sandbox::{Base, Sandbox};
use model::{MiB, Time};
use policy::stock::{Command, Event, Kind, Stock, StockConfig};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How often it is looked whether sandboxes are still wanted.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Kinds that are known at once.
const KINDS: usize = 8;

/// The sandboxes of one server that wait.
pub struct Ahead {
    began: Instant,
    most: usize,
    lull: Arc<Lull>,
    state: Mutex<State>,
    /// Something is to be made, or the server stops.
    changed: Condvar,
}

struct State {
    stock: Stock,
    kinds: HashMap<Base, Kind>,
    shelves: HashMap<Kind, Shelf>,
    /// What is to be made, oldest first: one of a kind at a time.
    wishes: VecDeque<Kind>,
    next: u64,
    closing: bool,
}

struct Shelf {
    /// That of the last start; what it may use is what the next one will most likely.
    sandbox: Arc<Sandbox>,
    ready: Vec<Child>,
}

impl Ahead {
    /// None yet. At most `most` will wait, each kind until none was needed for `keep`. They are made in a `lull`.
    pub fn new(most: usize, keep: Duration, lull: Arc<Lull>) -> Ahead {
        let stock = StockConfig { most, keep, kinds: KINDS, ..StockConfig::default() };
        let state = State {
            stock: Stock::new(stock),
            kinds: HashMap::new(),
            shelves: HashMap::new(),
            wishes: VecDeque::new(),
            next: 0,
            closing: false,
        };
        Ahead { began: Instant::now(), most, lull, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// One that is like `sandbox`, if one waits; and sees to it that there will be more.
    pub fn take(&self, sandbox: &Arc<Sandbox>) -> Option<Child> {
        if self.most == 0 {
            return None;
        }
        let mut state = self.lock();
        let kind = state.kind(sandbox);
        let mut events = Vec::new();
        let ready = &mut state.shelves.get_mut(&kind)?.ready;
        let taken = loop {
            match ready.pop() {
                Some(child) if child.try_exit().is_some() => events.push(Event::Gone(kind)),
                taken => break taken,
            }
        };
        events.extend(taken.as_ref().map(|_| Event::Taken(kind)));
        events.push(Event::Started { kind, forks: false });
        let gone = state.tell(self.now(), events);
        drop(state);
        drop(gone);
        self.changed.notify_one();
        taken
    }

    /// Makes sandboxes with `make`, which is told what they may use, as they are wanted, until [`Ahead::close`]: a
    /// thread's whole work. They end with the thread.
    pub fn keep_ready<E: std::fmt::Display>(&self, make: impl Fn(&Sandbox, &Resources) -> Result<Child, E>) {
        let mut state = self.lock();
        while !state.closing {
            let Some(kind) = state.wishes.pop_front() else {
                let waited = self
                    .changed
                    .wait_timeout_while(state, LOOK_EVERY, |state| !state.closing && state.wishes.is_empty());
                state = waited.expect("no panic while held").0;
                // Next to no memory: a first process is a few pages.
                let gone = state.tell(self.now(), [Event::Wake { used: MiB(0) }]);
                drop(state);
                drop(gone);
                state = self.lock();
                continue;
            };
            drop(state);
            self.lull.block();
            // Which by now may be another's.
            let sandbox = self.lock().shelves.get(&kind).map(|shelf| shelf.sandbox.clone());
            let made = sandbox.map(|sandbox| make(&sandbox, &sandbox.resources()));
            state = self.lock();
            let event = match (made, state.shelves.get_mut(&kind)) {
                (Some(Ok(child)), Some(shelf)) => {
                    shelf.ready.push(child);
                    Event::Made(kind)
                }
                (Some(Err(error)), _) => {
                    tracing::warn!(%error, "no sandbox could be made ahead of need");
                    Event::NotMade(kind)
                }
                _ => Event::NotMade(kind),
            };
            let gone = state.tell(self.now(), [event]);
            drop(state);
            drop(gone);
            state = self.lock();
        }
        let left: Vec<Child> = state.shelves.drain().flat_map(|(_, shelf)| shelf.ready).collect();
        drop(state);
        drop(left);
    }

    /// Ends [`Ahead::keep_ready`], and what it made.
    pub fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.lock().stock.count().0
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }
}

impl State {
    /// The name of this sandbox's kind. A kind that the stock forgets is forgotten here too.
    fn kind(&mut self, sandbox: &Arc<Sandbox>) -> Kind {
        let known = self.kinds.get(sandbox.base()).copied();
        let kind = known.unwrap_or_else(|| {
            self.next += 1;
            self.kinds.insert(sandbox.base().clone(), Kind(self.next));
            Kind(self.next)
        });
        let fresh = || Shelf { sandbox: sandbox.clone(), ready: Vec::new() };
        self.shelves.entry(kind).or_insert_with(fresh).sandbox = sandbox.clone();
        kind
    }

    /// Feeds the stock and carries out what it commands; what is to be ended when the lock is given back.
    #[must_use]
    fn tell(&mut self, now: Time, events: impl IntoIterator<Item = Event>) -> Vec<Child> {
        let (mut commands, mut gone) = (Vec::new(), Vec::new());
        events.into_iter().for_each(|event| self.stock.step(now, event, &mut commands));
        for command in commands {
            match command {
                Command::Make(kind) => self.wishes.push_back(kind),
                // Only what forks has one.
                Command::Boot(_) => {}
                Command::Discard(kind) => {
                    gone.extend(self.shelves.get_mut(&kind).and_then(|shelf| shelf.ready.pop()));
                }
                Command::Forget(kind) => {
                    self.kinds.retain(|_, other| *other != kind);
                    gone.extend(self.shelves.remove(&kind).into_iter().flat_map(|shelf| shelf.ready));
                }
            }
        }
        gone
    }
}
