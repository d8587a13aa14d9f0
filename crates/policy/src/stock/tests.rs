use super::*;
use std::collections::VecDeque;

const A: Kind = Kind(1);
const B: Kind = Kind(2);

fn at(seconds: u64) -> Time {
    Time(seconds * 1_000_000_000)
}

/// A stock whose commands are carried out at once.
struct Owner {
    stock: Stock,
    /// All commands there were.
    told: Vec<Command>,
    /// Of these kinds nothing can be booted.
    broken: Vec<Kind>,
    waiting: BTreeMap<Kind, usize>,
}

impl Owner {
    fn new(config: StockConfig) -> Owner {
        Owner { stock: Stock::new(config), told: Vec::new(), broken: Vec::new(), waiting: BTreeMap::new() }
    }

    fn tell(&mut self, now: u64, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut commands = Vec::new();
            self.stock.step(at(now), event, &mut commands);
            for command in commands {
                self.told.push(command);
                match command {
                    Command::Make(kind) => events.push_back(Event::Made(kind)),
                    Command::Boot(kind) if self.broken.contains(&kind) => {
                        events.push_back(Event::NoZygote(kind));
                    }
                    Command::Boot(kind) => events.push_back(Event::Booted(kind)),
                    Command::Discard(kind) => *self.waiting.get_mut(&kind).expect("one waits") -= 1,
                    Command::Forget(kind) => _ = self.waiting.remove(&kind),
                }
            }
            if let Some(Event::Made(kind)) = events.front()
                && self.stock.shelves.contains_key(kind)
            {
                *self.waiting.entry(*kind).or_default() += 1;
            }
        }
        let waiting: usize = self.waiting.values().sum();
        assert_eq!(waiting, self.stock.count().0, "owner and stock agree");
        assert!(waiting <= self.stock.config.most);
        assert!(self.stock.shelves.len() <= self.stock.config.kinds.max(1));
    }

    fn start(&mut self, now: u64, kind: Kind, forks: bool) {
        self.tell(now, Event::Started { kind, forks });
    }

    /// Takes one that waits, as a start does; whether there was one.
    fn take(&mut self, now: u64, kind: Kind) -> bool {
        let Some(waiting) = self.waiting.get_mut(&kind).filter(|waiting| **waiting > 0) else { return false };
        *waiting -= 1;
        self.tell(now, Event::Taken(kind));
        true
    }

    fn waits(&self, kind: Kind) -> usize {
        self.waiting.get(&kind).copied().unwrap_or(0)
    }
}

/// How many wait at `now` after starts at these seconds.
#[track_caller]
fn check(starts: &[u64], now: u64, expected: usize) {
    let mut owner = Owner::new(StockConfig::default());
    starts.iter().for_each(|&start| owner.start(start, A, false));
    owner.tell(now, Event::Wake { used: MiB(1) });
    assert_eq!(owner.waits(A), expected);
}

#[test]
fn nothing_waits_for_what_was_never_started() {
    check(&[], 5, 0);
}

#[test]
fn one_waits_while_its_kind_is_in_use() {
    check(&[0], 0, 1);
    check(&[0, 100, 200], 799, 1);
    check(&[0, 100, 200], 800, 0);
}

#[test]
fn as_many_wait_as_the_last_burst_started_up_to_the_limit() {
    check(&[100, 101, 102], 300, 3);
    check(&[100; 50], 101, 4);
}

#[test]
fn a_limit_of_zero_is_kept() {
    let mut owner = Owner::new(StockConfig { most: 0, ..StockConfig::default() });
    (0..10).for_each(|_| owner.start(1, A, true));
    assert_eq!(owner.told, []);
}

#[test]
fn one_of_a_kind_is_made_at_a_time() {
    let mut stock = Stock::new(StockConfig::default());
    let mut commands = Vec::new();
    (0..3).for_each(|_| stock.step(at(1), Event::Started { kind: A, forks: false }, &mut commands));
    assert_eq!(commands, [Command::Make(A)]);
    stock.step(at(1), Event::Made(A), &mut commands);
    assert_eq!(commands, [Command::Make(A), Command::Make(A)]);
    stock.step(at(1), Event::NotMade(A), &mut commands);
    assert_eq!(commands.len(), 2, "what failed is not tried at once");
}

#[test]
fn the_kind_that_was_not_started_for_the_longest_time_gives_way() {
    let mut owner = Owner::new(StockConfig { most: 4, ..StockConfig::default() });
    (0..4).for_each(|_| owner.start(1, A, false));
    owner.start(2, B, false);
    assert_eq!((owner.waits(A), owner.waits(B)), (3, 1));
    owner.tell(3, Event::Wake { used: MiB(1) });
    assert_eq!((owner.waits(A), owner.waits(B)), (3, 1), "and does not take it back");
}

#[test]
fn kinds_that_are_started_in_turns_share_the_places_and_always_find_one() {
    let mut owner = Owner::new(StockConfig::default());
    let kinds = [Kind(1), Kind(2), Kind(3)];
    for turn in 0..30 {
        for kind in kinds {
            let found = owner.take(turn, kind);
            assert!(found || turn < 2, "{kind:?} in turn {turn}");
            owner.start(turn, kind, false);
        }
    }
    let mut shares = kinds.map(|kind| owner.waits(kind));
    shares.sort();
    assert_eq!(shares, [2, 3, 3]);
}

#[test]
fn nothing_is_made_and_ended_again_for_kinds_that_are_started_in_turns() {
    for kinds in 2..=8 {
        let mut owner = Owner::new(StockConfig::default());
        let (mut settled, turns) = (0, 40);
        for turn in 0..turns {
            for kind in (0..kinds).map(Kind) {
                let found = owner.take(turn, kind);
                assert!(found || turn < 2, "{kind:?} of {kinds} in turn {turn}");
                owner.start(turn, kind, kind.0 % 2 == 0);
            }
            if turn == 9 {
                settled = owner.told.len();
            }
        }
        let told = &owner.told[settled..];
        assert!(told.iter().all(|told| matches!(told, Command::Make(_))), "{kinds} kinds: {told:?}");
        assert_eq!(told.len() as u64, kinds * (turns - 10), "one for each start");
    }
}

#[test]
fn kinds_have_a_limit_and_the_oldest_is_forgotten() {
    let mut owner = Owner::new(StockConfig { kinds: 2, ..StockConfig::default() });
    (0..100).for_each(|n| owner.start(n, Kind(n), n % 2 == 0));
    assert_eq!(owner.told.iter().filter(|told| matches!(told, Command::Forget(_))).count(), 98);
    assert!(owner.waits(Kind(99)) == 1 && owner.waits(Kind(98)) == 1);
}

#[test]
fn a_kind_that_forks_has_a_zygote_before_anything_waits() {
    let mut owner = Owner::new(StockConfig::default());
    owner.start(1, A, true);
    assert_eq!(owner.told, [Command::Boot(A), Command::Make(A)]);
    assert_eq!(owner.stock.count(), (1, 1));
}

#[test]
fn without_its_zygote_a_kind_is_booted_and_the_zygote_is_tried_again_later() {
    let mut owner = Owner::new(StockConfig::default());
    owner.broken.push(A);
    owner.start(1, A, true);
    assert_eq!(owner.told, [Command::Boot(A), Command::Make(A)]);
    owner.tell(2, Event::Wake { used: MiB(1) });
    assert_eq!(owner.told.len(), 2);
    owner.broken.clear();
    owner.tell(11, Event::Wake { used: MiB(1) });
    assert_eq!(owner.told[2..], [Command::Boot(A)]);
    assert_eq!(owner.stock.count(), (1, 1));
    owner.tell(12, Event::NoZygote(A));
    owner.tell(22, Event::Wake { used: MiB(1) });
    assert_eq!(owner.told[3..], [Command::Boot(A)], "one that has died is booted again");
}

#[test]
fn a_zygote_is_replaced_after_so_many_forks() {
    let mut owner = Owner::new(StockConfig { forks: 3, ..StockConfig::default() });
    owner.start(1, A, true);
    (0..2).for_each(|_| owner.tell(2, Event::Forked(A)));
    assert_eq!(owner.told.len(), 2);
    owner.tell(3, Event::Forked(A));
    assert_eq!(owner.told[2..], [Command::Boot(A)]);
    owner.tell(3, Event::Forked(A));
    assert_eq!(owner.told.len(), 3, "the new one has forked once");
}

#[test]
fn when_memory_is_short_what_waits_goes_first_and_zygotes_go_last() {
    let mut owner = Owner::new(StockConfig::default());
    owner.start(1, A, true);
    owner.start(2, B, false);
    owner.told.clear();
    (0..5).for_each(|_| owner.tell(3, Event::Short));
    let (discard, forget) = (Command::Discard, Command::Forget);
    assert_eq!(owner.told, [discard(A), discard(B), forget(A), forget(B)]);
    owner.start(12, A, true);
    assert_eq!(owner.told.len(), 4, "and nothing is made while that is so");
    owner.tell(13, Event::Wake { used: MiB(0) });
    assert_eq!(owner.told[4..], [Command::Boot(A), Command::Make(A)]);
}

#[test]
fn what_waits_has_a_memory_limit() {
    let mut owner = Owner::new(StockConfig::default());
    owner.start(1, A, true);
    owner.told.clear();
    owner.tell(2, Event::Wake { used: MiB(256) });
    assert_eq!(owner.told, []);
    owner.tell(2, Event::Wake { used: MiB(257) });
    owner.tell(2, Event::Wake { used: MiB(257) });
    assert_eq!(owner.told, [Command::Discard(A), Command::Forget(A)]);
}

#[test]
fn of_what_needs_much_memory_only_so_many_wait_as_fit() {
    let mut owner = Owner::new(StockConfig::default());
    let each = MiB(100);
    owner.start(0, A, false);
    assert_eq!(owner.waits(A), 1, "it is not known yet what one needs");
    owner.tell(1, Event::Weighs { kind: A, each });
    owner.tell(1, Event::Wake { used: each });
    (0..4).for_each(|_| owner.start(2, A, false));
    assert_eq!(owner.waits(A), 2, "a burst of four would need 400 MiB");
    owner.tell(3, Event::Wake { used: MiB(200) });
    owner.start(4, B, false);
    assert_eq!((owner.waits(A), owner.waits(B)), (2, 1), "what needs little still fits");
    assert!(owner.take(5, A));
    assert_eq!(owner.waits(A), 2, "the place is filled again");
}

#[test]
fn what_could_not_be_made_is_tried_again_with_the_next_start() {
    let mut stock = Stock::new(StockConfig::default());
    let mut step = |seconds: u64, event: Event| {
        let mut commands = Vec::new();
        stock.step(at(seconds), event, &mut commands);
        commands
    };
    let started = Event::Started { kind: A, forks: false };
    assert_eq!(step(0, started), [Command::Make(A)]);
    assert_eq!(step(1, Event::NotMade(A)), []);
    assert_eq!(step(2, Event::Wake { used: MiB(0) }), []);
    assert_eq!(step(3, started), [Command::Make(A)]);
}

#[test]
fn whatever_happens_the_limits_are_kept() {
    for seed in 1..200u64 {
        let config = StockConfig { most: 5, most_of_kind: 3, kinds: 4, forks: 5, ..StockConfig::default() };
        let (mut owner, mut random, mut now) = (Owner::new(config), seed, 0);
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..300 {
            now += [0, 0, 1, 30, 700][next(5) as usize];
            let kind = Kind(next(7));
            match next(6) {
                0 | 1 => owner.start(now, kind, next(2) == 0),
                2 if owner.waits(kind) > 0 => {
                    *owner.waiting.get_mut(&kind).expect("one waits") -= 1;
                    owner.tell(now, Event::Taken(kind));
                }
                3 => owner.tell(now, Event::Forked(kind)),
                4 => owner.tell(now, Event::NoZygote(kind)),
                5 => owner.tell(now, Event::Short),
                _ => owner.tell(now, Event::Wake { used: MiB(1) }),
            }
        }
        println!("seed {seed} kept the limits");
    }
}
