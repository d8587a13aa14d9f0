//! Which modules are imported before anybody asks for them: what functions were seen to import up to their first
//! answer, where that pays.
//!
//! It pays when the time that a function's starts save in an hour is worth the memory that a zygote with these modules
//! takes up. A function is only ever given a zygote all of whose modules it imports itself, so it never sees one
//! that it would not have. Functions that import nearly the same share one zygote, with what they have in common.
//!
//! What a function says of itself is its own affair: at worst it makes a zygote for itself.

use model::{MiB, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A version of a function, named by the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionKey(pub u64);

/// A group of functions that share their modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct GroupKey(u64);

/// When it pays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImportsConfig {
    /// Functions that are remembered, at most (default 1,000): that which was not started for the longest time is
    /// forgotten.
    pub functions: usize,
    /// Modules that are remembered of one, at most (default 1,500); of one that imports more, the first.
    pub modules: usize,
    /// What a zygote is expected to take up without any module (default 8 MiB).
    pub base: MiB,
    /// … and for every sixteen modules (default 1 MiB).
    pub sixteen: MiB,
    /// Starts in an hour must save this much time for each MiB that it costs (default 1 ms).
    pub price: Duration,
    /// A start that would save less than this is not worth a process, however many there are (default 0.5 ms).
    pub least: Duration,
    /// Functions share a zygote if what they have in common is at least this part of each one's modules, in percent
    /// (default 80).
    pub alike: u32,
}

impl Default for ImportsConfig {
    fn default() -> ImportsConfig {
        ImportsConfig {
            functions: 1_000,
            modules: 1_500,
            base: MiB(8),
            sixteen: MiB(1),
            price: Duration::from_millis(1),
            least: Duration::from_micros(500),
            alike: 80,
        }
    }
}

/// What a start is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice<'a> {
    /// Nothing is known of this function: have it tell what it imports.
    Learn,
    /// It would not pay.
    Nothing,
    /// These are to have been imported, in this order.
    Import(&'a [String]),
}

/// What is known of functions' imports.
#[derive(Clone, Debug)]
pub struct Imports {
    config: ImportsConfig,
    functions: BTreeMap<FunctionKey, Function>,
    groups: BTreeMap<GroupKey, Group>,
    next: u64,
}

#[derive(Clone, Debug)]
struct Function {
    group: GroupKey,
    /// What a start saves.
    saves: Duration,
    /// Starts, each an hour after it counts half as much, and so on; as of the last one.
    starts: f64,
    last: Time,
}

#[derive(Clone, Debug)]
struct Group {
    /// What all of its functions import, in an order in which one of them did.
    modules: Vec<String>,
    functions: usize,
}

impl Imports {
    /// Nothing is known yet.
    pub fn new(config: ImportsConfig) -> Imports {
        Imports { config, functions: BTreeMap::new(), groups: BTreeMap::new(), next: 0 }
    }

    /// A function is about to be started.
    pub fn started(&mut self, now: Time, function: FunctionKey) -> Advice<'_> {
        let config = self.config;
        let Some(known) = self.functions.get_mut(&function) else { return Advice::Learn };
        let hours = now.since(known.last).as_secs_f64() / 3600.0;
        known.starts = known.starts * 0.5_f64.powf(hours) + 1.0;
        known.last = now;
        let Some(group) = self.groups.get(&known.group) else { return Advice::Nothing };
        match known.pays(group.modules.len(), &config) {
            true => Advice::Import(&group.modules),
            false => Advice::Nothing,
        }
    }

    /// A function that was started with [`Advice::Learn`] has imported `modules`, in this order, and a start would be
    /// shorter by `saves` without that.
    pub fn learned(&mut self, now: Time, function: FunctionKey, mut modules: Vec<String>, saves: Duration) {
        self.forget(function);
        while self.functions.len() >= self.config.functions.max(1)
            && let Some(oldest) =
                self.functions.iter().min_by_key(|(_, known)| known.last).map(|(key, _)| *key)
        {
            self.forget(oldest);
        }
        modules.truncate(self.config.modules);
        let group = self.join(modules);
        self.functions.insert(function, Function { group, saves, starts: 1.0, last: now });
    }

    /// How many functions are known, and how many groups they form.
    pub fn count(&self) -> (usize, usize) {
        (self.functions.len(), self.groups.len())
    }

    fn forget(&mut self, function: FunctionKey) {
        let Some(Function { group, .. }) = self.functions.remove(&function) else { return };
        if let Some(shared) = self.groups.get_mut(&group) {
            shared.functions -= 1;
            if shared.functions == 0 {
                self.groups.remove(&group);
            }
        }
    }

    /// The group that is most like these modules, reduced to what they have in common, or a new one.
    fn join(&mut self, modules: Vec<String>) -> GroupKey {
        let own: BTreeSet<&String> = modules.iter().collect();
        let alike = u64::from(self.config.alike);
        let common = |group: &Group| group.modules.iter().filter(|name| own.contains(name)).count();
        let enough = |common: usize, all: usize| common as u64 * 100 >= all as u64 * alike;
        let candidates = self.groups.iter().map(|(key, group)| (common(group), *key, group.modules.len()));
        let best = candidates
            .filter(|&(common, _, theirs)| enough(common, own.len()) && enough(common, theirs))
            .max_by_key(|&(common, key, _)| (common, std::cmp::Reverse(key)));
        match best.and_then(|(_, key, _)| Some((key, self.groups.get_mut(&key)?))) {
            Some((key, group)) => {
                group.modules.retain(|name| own.contains(name));
                group.functions += 1;
                key
            }
            None => {
                let key = GroupKey(self.next);
                self.next += 1;
                self.groups.insert(key, Group { modules, functions: 1 });
                key
            }
        }
    }
}

impl Function {
    /// Whether its starts are worth a zygote with so many modules.
    fn pays(&self, modules: usize, config: &ImportsConfig) -> bool {
        if modules == 0 || self.saves < config.least {
            return false;
        }
        let sixteens = modules.div_ceil(16) as f64;
        let mib = f64::from(config.base.0) + f64::from(config.sixteen.0) * sixteens;
        self.saves.as_secs_f64() * self.starts >= config.price.as_secs_f64() * mib
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const F: FunctionKey = FunctionKey(1);
    const G: FunctionKey = FunctionKey(2);

    fn at(minutes: u64) -> Time {
        Time(minutes * 60_000_000_000)
    }

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn import(imports: &mut Imports, now: u64, function: FunctionKey) -> Option<String> {
        match imports.started(at(now), function) {
            Advice::Import(modules) => Some(modules.join(" ")),
            Advice::Learn | Advice::Nothing => None,
        }
    }

    #[test]
    fn what_is_not_known_is_learned() {
        let mut imports = Imports::new(ImportsConfig::default());
        assert_eq!(imports.started(at(0), F), Advice::Learn);
        imports.learned(at(0), F, names("json re"), Duration::from_millis(200));
        assert_eq!(import(&mut imports, 1, F).as_deref(), Some("json re"));
    }

    /// Whether modules that take so long are imported ahead for a function that is started every so often.
    #[track_caller]
    fn check(micros: u64, every_minutes: u64, expected: bool) {
        let mut imports = Imports::new(ImportsConfig::default());
        imports.learned(at(0), F, names("a b c d"), Duration::from_micros(micros));
        let mut seen = false;
        (1..20).for_each(|n| seen = import(&mut imports, n * every_minutes, F).is_some());
        assert_eq!(seen, expected, "{micros} µs every {every_minutes} minutes");
    }

    #[test]
    fn it_pays_when_starts_save_more_than_the_memory_is_worth() {
        check(200_000, 600, true);
        check(5_000, 10, true);
        check(5_000, 600, false);
        check(1_000, 1, true);
        check(1_000, 10, false);
        // However many there are.
        check(400, 0, false);
    }

    #[test]
    fn functions_that_import_nearly_the_same_share_what_they_have_in_common() {
        let mut imports = Imports::new(ImportsConfig::default());
        let long = Duration::from_millis(300);
        imports.learned(at(0), F, names("a b c d e f"), long);
        imports.learned(at(0), G, names("b a c d e g"), long);
        assert_eq!(import(&mut imports, 1, F).as_deref(), Some("a b c d e"));
        assert_eq!(import(&mut imports, 1, G).as_deref(), Some("a b c d e"));
        assert_eq!(imports.count(), (2, 1));
    }

    #[test]
    fn functions_that_import_other_modules_do_not_share() {
        let mut imports = Imports::new(ImportsConfig::default());
        let long = Duration::from_millis(300);
        imports.learned(at(0), F, names("a b c d e f"), long);
        imports.learned(at(0), G, names("a b"), long);
        assert_eq!(import(&mut imports, 1, G).as_deref(), Some("a b"));
        assert_eq!(import(&mut imports, 1, F).as_deref(), Some("a b c d e f"));
    }

    #[test]
    fn whatever_is_learned_the_limits_are_kept_and_no_function_gets_what_it_does_not_import() {
        for seed in 1..100u64 {
            println!("seed {seed}");
            let config = ImportsConfig { functions: 10, modules: 12, ..ImportsConfig::default() };
            let (mut imports, mut random) = (Imports::new(config), seed);
            let mut next = |below: u64| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) % below
            };
            let mut told: BTreeMap<FunctionKey, BTreeSet<String>> = BTreeMap::new();
            for now in 0..300 {
                let function = FunctionKey(next(20));
                match imports.started(at(now), function) {
                    Advice::Learn => {
                        let first = next(8);
                        let modules: Vec<String> =
                            (first..first + next(20)).map(|name| name.to_string()).collect();
                        told.insert(function, modules.iter().cloned().collect());
                        imports.learned(at(now), function, modules, Duration::from_millis(next(400)));
                    }
                    Advice::Import(modules) => {
                        assert!(modules.len() <= 12);
                        assert!(modules.iter().all(|name| told[&function].contains(name)));
                    }
                    Advice::Nothing => {}
                }
                let (functions, groups) = imports.count();
                assert!(functions <= 10 && groups <= functions);
            }
        }
    }
}
