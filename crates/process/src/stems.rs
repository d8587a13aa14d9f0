//! Runtimes that are booted before anybody knows for which function: a stem is a sandbox in which an interpreter
//! has started and waits to be told who it is. A start then takes one, dresses its sandbox and gives it the
//! function's variables, instead of waiting for the interpreter.
//!
//! Stems are alike when everything that an interpreter looks at while it boots is: command line and certain
//! variables. No function's code has run in one, so a stem serves any function, once.

use crate::framed::Framed;
use crate::instance::Process;
use crate::output::Output;
use crate::sandbox::Sandbox;
use crate::spawner::{NotStarted, Program, Spawner};
use model::Time;
use policy::stock::{Stock, StockConfig};
use ports::{LogEvent, LogSink};
use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

/// Tells our bootstraps to wait for their variables.
const WAIT: &str = "BROOKLET_WAIT";

/// What one kind of stem is made from.
#[derive(Clone)]
pub struct Recipe {
    /// Program and arguments.
    pub argv: Vec<OsString>,
    /// Variables that matter while it boots.
    pub variables: Vec<(String, String)>,
    /// Any sandbox in which it can boot; it is not dressed.
    pub sandbox: Arc<Sandbox>,
}

/// What makes two stems alike: command line, variables, and whether the network is its own.
type Kind = (Vec<OsString>, Vec<(String, String)>, bool);

/// A booted runtime, or one that is still booting.
pub struct Stem {
    /// Its process; its lines go nowhere until it has a function.
    pub process: Process,
    /// The transport, over which it waits to be told.
    pub framed: Framed,
}

/// The stems of one server.
pub struct Stems {
    spawner: Arc<Spawner>,
    config: StockConfig,
    /// Of all kinds together, at most this many.
    most: usize,
    began: Instant,
    shelves: Mutex<HashMap<Kind, Shelf>>,
    used: AtomicU64,
}

struct Shelf {
    stock: Stock,
    ready: Vec<Stem>,
    making: usize,
}

/// How often it is looked for stems that nobody needs any more.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Stems {
    /// None yet. At most `most` will wait, each kind until it was not started for `keep`. Must be called within a
    /// tokio runtime.
    pub fn new(spawner: Arc<Spawner>, most: usize, keep: Duration) -> Arc<Stems> {
        let config =
            StockConfig { most: most.min(StockConfig::default().most), keep, ..StockConfig::default() };
        let stems = Arc::new(Stems {
            spawner,
            config,
            most,
            began: Instant::now(),
            shelves: Mutex::default(),
            used: AtomicU64::new(0),
        });
        tokio::spawn(forget_unused(Arc::downgrade(&stems)));
        stems
    }

    /// A stem of this kind, if one waits; and sees to it that there will be more.
    pub fn take(self: &Arc<Stems>, recipe: &Recipe) -> Option<Stem> {
        let (now, kind) = (self.now(), recipe.kind());
        let mut shelves = self.lock();
        let shelf = shelves.entry(kind.clone()).or_insert_with(|| Shelf::new(self.config));
        shelf.stock.started(now);
        let taken = loop {
            match shelf.ready.pop() {
                Some(stem) if stem.process.child.try_exit().is_some() => {}
                taken => break taken,
            }
        };
        self.restock(shelves, kind, recipe);
        taken
    }

    /// How many wait, and how many have become instances.
    pub fn count(&self) -> (usize, u64) {
        let ready = self.lock().values().map(|shelf| shelf.ready.len()).sum();
        (ready, self.used.load(Ordering::Relaxed))
    }

    /// A stem has become an instance.
    pub fn used(&self) {
        self.used.fetch_add(1, Ordering::Relaxed);
    }

    fn restock(
        self: &Arc<Stems>,
        mut shelves: MutexGuard<'_, HashMap<Kind, Shelf>>,
        kind: Kind,
        recipe: &Recipe,
    ) {
        let all: usize = shelves.values().map(|shelf| shelf.ready.len() + shelf.making).sum();
        let Some(shelf) = shelves.get_mut(&kind) else { return };
        // One of a kind at a time: whoever needs the processor now comes first.
        if shelf.making > 0 || shelf.ready.len() >= shelf.stock.wanted(self.now()) {
            return;
        }
        let evicted = if all < self.most { None } else { evict(&mut shelves, &kind) };
        if all >= self.most && evicted.is_none() {
            return;
        }
        if let Some(shelf) = shelves.get_mut(&kind) {
            shelf.making += 1;
        }
        drop(shelves);
        drop(evicted);
        tokio::spawn(make(Arc::downgrade(self), self.spawner.clone(), kind, recipe.clone()));
    }

    fn put(self: &Arc<Stems>, kind: Kind, made: Result<Stem, NotStarted>, recipe: &Recipe) {
        let mut shelves = self.lock();
        let Some(shelf) = shelves.get_mut(&kind) else { return };
        shelf.making -= 1;
        match made {
            Ok(stem) => shelf.ready.push(stem),
            // The next start of this kind tries again.
            Err(error) => return tracing::warn!(%error, "no runtime could be booted ahead of need"),
        }
        self.restock(shelves, kind, recipe);
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, Shelf>> {
        self.shelves.lock().expect("no panic while held")
    }
}

impl Recipe {
    fn kind(&self) -> Kind {
        (self.argv.clone(), self.variables.clone(), self.sandbox.has_own_network())
    }
}

impl Shelf {
    fn new(config: StockConfig) -> Shelf {
        Shelf { stock: Stock::new(config), ready: Vec::new(), making: 0 }
    }
}

impl Stem {
    async fn make(spawner: &Spawner, recipe: &Recipe) -> Result<Stem, NotStarted> {
        let (output, lines) =
            Output::new(Arc::new(Nowhere), "".into()).map_err(NotStarted::at("make a pipe"))?;
        let (framed, pipes) = Framed::pair().map_err(NotStarted::at("make a pipe"))?;
        let mut environment = recipe.variables.clone();
        environment.push((WAIT.to_owned(), "1".to_owned()));
        let program = Program {
            sandbox: recipe.sandbox.clone(),
            argv: recipe.argv.clone(),
            environment,
            transport: Some(pipes),
            runtime_api: None,
            output: lines,
            waits: true,
        };
        Ok(Stem { process: Process::new(spawner.spawn(program).await?, output), framed })
    }

    /// Makes it an instance of a function: in `sandbox`, with these variables. It then loads the function, as
    /// one does that was started for it.
    pub async fn become_instance(
        mut self,
        sandbox: Arc<Sandbox>,
        variables: &[(String, String)],
    ) -> Result<Stem, NotStarted> {
        // Waits for another process, briefly.
        let dressed = tokio::task::spawn_blocking(move || {
            let dressed = self.process.child.dress(&sandbox);
            dressed.map(|()| self)
        });
        self = dressed
            .await
            .unwrap_or_else(|error| Err(NotStarted::at("dress")(std::io::Error::other(error))))?;
        self.framed.introduce(variables).await.map_err(NotStarted::at("tell the runtime who it is"))?;
        Ok(self)
    }
}

/// One stem of another kind, of that which was not started for the longest time.
fn evict(shelves: &mut HashMap<Kind, Shelf>, kind: &Kind) -> Option<Stem> {
    let others = shelves.iter_mut().filter(|(other, shelf)| *other != kind && !shelf.ready.is_empty());
    others.min_by_key(|(_, shelf)| shelf.stock.last())?.1.ready.pop()
}

async fn make(stems: Weak<Stems>, spawner: Arc<Spawner>, kind: Kind, recipe: Recipe) {
    let made = Stem::make(&spawner, &recipe).await;
    drop(spawner);
    if let Some(stems) = stems.upgrade() {
        stems.put(kind, made, &recipe);
    }
}

async fn forget_unused(stems: Weak<Stems>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(stems) = stems.upgrade() else { return };
        let now = stems.now();
        let mut gone = Vec::new();
        stems.lock().retain(|_, shelf| {
            let used = shelf.stock.wanted(now) > 0 || shelf.making > 0;
            if !used {
                gone.append(&mut shelf.ready);
            }
            used
        });
        drop(gone);
    }
}

/// Of what has no function yet.
struct Nowhere;

impl LogSink for Nowhere {
    fn write(&self, event: LogEvent) {
        tracing::debug!(line = %String::from_utf8_lossy(&event.message), "a waiting runtime wrote");
    }
}
