//! Runtimes that wait, booted, before anybody knows for which function: a stem is a sandbox in which an interpreter has
//! started and waits to be told who it is. A start then takes one, dresses its sandbox and gives it the function's
//! variables, instead of waiting for the interpreter.
//!
//! Stems are alike when everything that an interpreter looks at while it boots is: command line, certain variables,
//! its own files, and what it has imported ahead. No function's code has run in one, so a stem serves any
//! function, once. They are forked from a zygote where there is one of their kind, and else booted. How many wait, and
//! which zygotes there are, is decided by `policy::stock`; here it is done.

use crate::child::reap_group;
use crate::framed::{Framed, Introduction};
use crate::instance::Process;
use crate::learning::IMPORTS;
use crate::lull::Lull;
use crate::output::Output;
use crate::sandbox::Sandbox;
use crate::spawner::{NotStarted, Program, Spawner};
use crate::zygote::Zygote;
use model::{MadeAhead, MiB, Network, Time};
use policy::stock::{Command, Event, Kind, Stock, StockConfig};
use ports::{LogEvent, LogSink};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

/// Tells our bootstraps to wait for their variables.
const WAIT: &str = "BROOKLET_WAIT";

/// What one kind of stem is made from.
#[derive(Clone)]
pub struct Recipe {
    /// What makes two alike.
    pub likeness: Likeness,
    /// Any sandbox in which it can boot; it is not dressed. What it may use is what the next one will most likely.
    pub sandbox: Arc<Sandbox>,
    /// Whether its interpreter can be forked.
    pub forks: bool,
    /// Where its instance will find the Runtime API, if it will be spoken to over that. Such a runtime says when it waits,
    /// which is long after it was started.
    pub runtime_api: Option<SocketAddr>,
}

/// What makes two stems alike.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Likeness {
    /// Program and arguments.
    pub argv: Vec<OsString>,
    /// Variables that matter while it boots.
    pub variables: Vec<(String, String)>,
    /// The state of the files that it boots from: another after an upgrade.
    pub files: Vec<u64>,
    /// Modules that have been imported.
    pub imports: Arc<[String]>,
    /// What it reaches over its network, which is laid out and opened before it has a function.
    pub network: Network,
}

/// A booted runtime, or one that is still booting.
pub struct Stem {
    /// Its process; its lines go nowhere until it has a function.
    pub process: Process,
    /// The transport, over which it waits to be told.
    pub framed: Framed,
    /// Whether it waited, or was forked just now.
    pub made: MadeAhead,
}

/// The stems of one server.
pub struct Stems {
    spawner: Arc<Spawner>,
    lull: Arc<Lull>,
    began: Instant,
    state: Mutex<State>,
    used: AtomicU64,
    forked: AtomicU64,
    kept: AtomicU32,
}

struct State {
    stock: Stock,
    kinds: HashMap<Likeness, Kind>,
    shelves: HashMap<Kind, Shelf>,
    /// The process groups of zygotes that are gone, as long as there is something in them. One that was killed while it
    /// forked has left a process of which nobody knows.
    orphans: Vec<u32>,
    next: u64,
}

struct Shelf {
    recipe: Recipe,
    ready: Vec<Stem>,
    zygote: Option<Arc<Zygote>>,
}

/// From the start of a runtime that says when it waits until it does.
const BOOT: Duration = Duration::from_secs(60);
/// How often it is looked for what nobody needs any more, or has ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Stems {
    /// None yet; they are made in a `lull`. Must be called within a tokio runtime.
    pub fn new(spawner: Arc<Spawner>, config: StockConfig, lull: Arc<Lull>) -> Arc<Stems> {
        let (kinds, shelves, orphans) = Default::default();
        let state = State { stock: Stock::new(config), kinds, shelves, orphans, next: 0 };
        let stems = Arc::new(Stems {
            spawner,
            lull,
            began: Instant::now(),
            state: Mutex::new(state),
            used: AtomicU64::new(0),
            forked: AtomicU64::new(0),
            kept: AtomicU32::new(0),
        });
        tokio::spawn(look_after(Arc::downgrade(&stems)));
        stems
    }

    /// A stem of this kind: one that waits, or a copy of the zygote; `None` when there is neither. Sees to it that there
    /// will be more.
    pub async fn take(self: &Arc<Stems>, recipe: &Recipe) -> Option<Stem> {
        let (kind, taken, zygote) = self.pick(recipe);
        if taken.is_some() {
            return taken;
        }
        let stem = self.fork(kind, zygote?, recipe, false).await;
        let stem = stem.map(|stem| Stem { made: MadeAhead::Fork, ..stem });
        stem.inspect_err(|error| tracing::warn!(%error, "a runtime could not be forked; booting another"))
            .ok()
    }

    /// Sees to it that there will be some of this kind, as after a start.
    pub fn want(self: &Arc<Stems>, recipe: &Recipe) {
        let mut state = self.lock();
        let kind = state.kind(recipe);
        self.tell(state, [Event::Started { kind, forks: recipe.forks }]);
    }

    fn pick(self: &Arc<Stems>, recipe: &Recipe) -> (Kind, Option<Stem>, Option<Arc<Zygote>>) {
        let mut state = self.lock();
        let kind = state.kind(recipe);
        let mut gone = Vec::new();
        let Some(shelf) = state.shelves.get_mut(&kind) else { return (kind, None, None) };
        shelf.recipe.sandbox = recipe.sandbox.clone();
        let taken = loop {
            match shelf.ready.pop() {
                Some(stem) if stem.process.child.try_exit().is_some() => gone.push(stem),
                taken => break taken,
            }
        };
        let zygote = shelf.zygote.clone();
        let mut events: Vec<Event> = gone.iter().map(|_| Event::Gone(kind)).collect();
        events.extend(taken.as_ref().map(|_| Event::Taken(kind)));
        events.push(Event::Started { kind, forks: recipe.forks });
        self.tell(state, events);
        (kind, taken, zygote)
    }

    async fn fork(
        self: &Arc<Stems>,
        kind: Kind,
        zygote: Arc<Zygote>,
        recipe: &Recipe,
        waits: bool,
    ) -> Result<Stem, NotStarted> {
        let (sandbox, spawner) = (recipe.sandbox.clone(), self.spawner.clone());
        let forked = Stem::make(async |transport, output| {
            zygote.fork(&spawner, sandbox, waits, transport, output).await
        });
        let stem = forked.await;
        let event = match &stem {
            Ok(_) => Some(Event::Forked(kind)),
            Err(_) if !zygote.is_alive() => Some(Event::NoZygote(kind)),
            Err(_) => None,
        };
        self.forked.fetch_add(u64::from(stem.is_ok()), Ordering::Relaxed);
        let mut state = self.lock();
        if event == Some(Event::NoZygote(kind)) {
            state.bury(kind, &zygote);
        }
        self.tell(state, event);
        stem
    }

    /// How many wait, and how many have become instances.
    pub fn count(&self) -> (usize, u64) {
        (self.lock().stock.count().0, self.used.load(Ordering::Relaxed))
    }

    /// How many zygotes are up, and how many runtimes have been forked.
    pub fn forks(&self) -> (usize, u64) {
        (self.lock().stock.count().1, self.forked.load(Ordering::Relaxed))
    }

    /// A stem has become an instance.
    pub fn used(&self) {
        self.used.fetch_add(1, Ordering::Relaxed);
    }

    /// Memory of all that waits and of the zygotes, as of the last look.
    pub fn memory(&self) -> MiB {
        MiB(self.kept.load(Ordering::Relaxed))
    }

    /// Gives something of that back.
    pub fn give_up(self: &Arc<Stems>) {
        drop(self.decide(self.lock(), [Event::Short]));
        self.look();
    }

    /// Feeds the stock and carries out what it commands. What is to end does so when nobody waits for a start: it takes an
    /// interpreter milliseconds of a processor, in which the kernel lets nobody else have that.
    fn tell(self: &Arc<Stems>, state: MutexGuard<'_, State>, events: impl IntoIterator<Item = Event>) {
        let gone = self.decide(state, events);
        if !gone.is_empty() {
            let lull = self.lull.clone();
            tokio::spawn(async move {
                lull.come().await;
                drop(gone);
            });
        }
    }

    /// Feeds the stock and carries out what it commands, but for ending what is returned.
    #[must_use]
    fn decide(
        self: &Arc<Stems>,
        mut state: MutexGuard<'_, State>,
        events: impl IntoIterator<Item = Event>,
    ) -> Vec<Stem> {
        let (now, mut commands, mut gone) = (self.now(), Vec::new(), Vec::new());
        events.into_iter().for_each(|event| state.stock.step(now, event, &mut commands));
        for command in commands {
            match command {
                Command::Make(kind) => {
                    if let Some(Shelf { recipe, zygote, .. }) = state.shelves.get(&kind) {
                        tokio::spawn(make(Arc::downgrade(self), kind, recipe.clone(), zygote.clone()));
                    }
                }
                Command::Boot(kind) => {
                    if let Some(Shelf { recipe, .. }) = state.shelves.get(&kind) {
                        tokio::spawn(boot(Arc::downgrade(self), kind, recipe.clone()));
                    }
                }
                Command::Discard(kind) => {
                    let shelf = state.shelves.get_mut(&kind);
                    gone.extend(shelf.and_then(|shelf| shelf.ready.pop()));
                }
                Command::Forget(kind) => {
                    state.kinds.retain(|_, other| *other != kind);
                    if let Some(shelf) = state.shelves.remove(&kind) {
                        gone.extend(shelf.ready);
                        state.orphans.extend(shelf.zygote.and_then(|zygote| zygote.process_group()));
                    }
                }
            }
        }
        gone
    }

    /// Buries what has ended, and sees how much memory the rest uses.
    fn look(self: &Arc<Stems>) {
        let mut state = self.lock();
        let (mut gone, mut events, mut kept) = (Vec::new(), Vec::new(), MiB(0));
        let State { shelves, orphans, .. } = &mut *state;
        orphans.retain(|group| reap_group(*group));
        for (&kind, shelf) in shelves {
            let ended = shelf.ready.extract_if(.., |stem| stem.process.child.try_exit().is_some());
            gone.extend(ended.inspect(|_| events.push(Event::Gone(kind))));
            if let Some(zygote) = shelf.zygote.take_if(|zygote| !zygote.is_alive()) {
                orphans.extend(zygote.process_group());
                events.push(Event::NoZygote(kind));
            }
            let memory: Vec<MiB> =
                shelf.ready.iter().filter_map(|stem| stem.process.child.memory()).collect();
            events.extend(memory.iter().max().map(|&each| Event::Weighs { kind, each }));
            let zygote = shelf.zygote.as_ref().map(|zygote| zygote.memory());
            kept = memory.into_iter().chain(zygote).fold(kept, |sum, one| MiB(sum.0.saturating_add(one.0)));
        }
        self.kept.store(kept.0, Ordering::Relaxed);
        events.push(Event::Wake { used: kept });
        gone.extend(self.decide(state, events));
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }
}

impl State {
    /// The name of this recipe's kind. A kind that the stock forgets is forgotten here too.
    fn kind(&mut self, recipe: &Recipe) -> Kind {
        if let Some(&kind) = self.kinds.get(&recipe.likeness) {
            return kind;
        }
        let kind = Kind(self.next);
        self.next += 1;
        self.kinds.insert(recipe.likeness.clone(), kind);
        self.shelves.insert(kind, Shelf { recipe: recipe.clone(), ready: Vec::new(), zygote: None });
        kind
    }

    fn bury(&mut self, kind: Kind, dead: &Arc<Zygote>) {
        let shelf = self.shelves.get_mut(&kind);
        let zygote = shelf.and_then(|shelf| shelf.zygote.take_if(|zygote| Arc::ptr_eq(zygote, dead)));
        self.orphans.extend(zygote.and_then(|zygote| zygote.process_group()));
    }
}

impl Stem {
    /// Has `start` start it, given the transport and where its lines go.
    async fn make(
        start: impl AsyncFnOnce([OwnedFd; 2], OwnedFd) -> Result<crate::child::Child, NotStarted>,
    ) -> Result<Stem, NotStarted> {
        let (output, lines) =
            Output::new(Arc::new(Nowhere), "".into()).map_err(NotStarted::at("make a pipe"))?;
        let (framed, pipes) = Framed::pair().map_err(NotStarted::at("make a pipe"))?;
        let process = Process::new(start(pipes, lines).await?, output);
        Ok(Stem { process, framed, made: MadeAhead::Runtime })
    }

    /// Makes its sandbox that of a function, which is then to be introduced.
    pub async fn dress(self, spawner: &Spawner, sandbox: Arc<Sandbox>) -> Result<Stem, NotStarted> {
        // Waits for another process, briefly.
        spawner.run(move |_| self.process.child.dress(&sandbox).map(|()| self)).await
    }

    /// Makes it an instance of a function, with these variables, and that class path if it is a JVM. It then loads the
    /// function, as one does that was started for it.
    pub async fn introduce(
        &mut self,
        variables: &[(String, String)],
        class_path: &str,
    ) -> Result<Introduction, NotStarted> {
        let told = self.framed.introduce(variables, class_path).await;
        told.map_err(NotStarted::at("tell the runtime who it is"))
    }

    /// Waits until it says that it waits.
    async fn until_it_waits(mut self) -> Result<Stem, NotStarted> {
        let waits = tokio::time::timeout(BOOT, self.framed.waits(&self.process)).await;
        let waits = waits.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
        waits.map_err(NotStarted::at("boot a runtime ahead of need")).map(|()| self)
    }
}

impl Recipe {
    /// The program that boots a stem, or a zygote.
    fn program(&self, transport: Option<[OwnedFd; 2]>, output: OwnedFd) -> Program {
        let mut environment = self.likeness.variables.clone();
        environment.push((WAIT.to_owned(), "1".to_owned()));
        if !self.likeness.imports.is_empty() {
            environment.push((IMPORTS.to_owned(), self.likeness.imports.join(",")));
        }
        let (sandbox, argv) = (self.sandbox.clone(), self.likeness.argv.clone());
        let runtime_api = self.runtime_api;
        Program { sandbox, argv, environment, transport, runtime_api, output, waits: true }
    }
}

async fn lull(stems: &Weak<Stems>) {
    let lull = stems.upgrade().map(|stems| stems.lull.clone());
    if let Some(lull) = lull {
        lull.come().await;
    }
}

async fn make(stems: Weak<Stems>, kind: Kind, recipe: Recipe, zygote: Option<Arc<Zygote>>) {
    lull(&stems).await;
    let Some(alive) = stems.upgrade() else { return };
    let spawner = alive.spawner.clone();
    let made = match zygote {
        Some(zygote) => alive.fork(kind, zygote, &recipe, true).await,
        None => {
            drop(alive);
            let start =
                async |transport, output| spawner.spawn(recipe.program(Some(transport), output)).await;
            match Stem::make(start).await {
                Ok(stem) if recipe.runtime_api.is_some() => stem.until_it_waits().await,
                Ok(mut stem) if !recipe.forks => {
                    // It fits into the pipe; a runtime that has ended by now is found out when it is needed.
                    let _ = stem.framed.rehearse().await;
                    Ok(stem)
                }
                made => made,
            }
        }
    };
    drop(spawner);
    let Some(stems) = stems.upgrade() else { return };
    let mut state = stems.lock();
    let event = match made {
        Ok(stem) => match state.shelves.get_mut(&kind) {
            Some(shelf) => {
                shelf.ready.push(stem);
                Event::Made(kind)
            }
            None => return drop((state, stem)),
        },
        Err(error) => {
            tracing::warn!(%error, "no runtime could be made ahead of need");
            Event::NotMade(kind)
        }
    };
    stems.tell(state, [event]);
}

async fn boot(stems: Weak<Stems>, kind: Kind, recipe: Recipe) {
    lull(&stems).await;
    let Some(spawner) = stems.upgrade().map(|stems| stems.spawner.clone()) else { return };
    let booted = async {
        let (output, lines) =
            Output::new(Arc::new(Nowhere), "".into()).map_err(NotStarted::at("make a pipe"))?;
        Zygote::boot(&spawner, recipe.program(None, lines), output).await
    };
    let booted = booted.await;
    drop(spawner);
    let Some(stems) = stems.upgrade() else { return };
    let mut state = stems.lock();
    let event = match booted {
        Ok(zygote) => match state.shelves.get_mut(&kind) {
            Some(shelf) => {
                shelf.zygote = Some(Arc::new(zygote));
                Event::Booted(kind)
            }
            None => return drop((state, zygote)),
        },
        Err(error) => {
            tracing::warn!(%error, "no zygote could be booted");
            Event::NoZygote(kind)
        }
    };
    stems.tell(state, [event]);
}

async fn look_after(stems: Weak<Stems>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(stems) = stems.upgrade() else { return };
        stems.look();
    }
}

/// Of what has no function yet.
struct Nowhere;

impl LogSink for Nowhere {
    fn write(&self, event: LogEvent) {
        tracing::debug!(line = %String::from_utf8_lossy(&event.message), "a waiting runtime wrote");
    }
}
