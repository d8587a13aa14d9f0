use super::*;

const MILLI: u64 = 1_000_000;

/// Instances, what they use, and what was commanded.
struct Machine {
    now: u64,
    sharing: Sharing,
    processors: usize,
    instances: BTreeMap<Id, Instance>,
    weight: u64,
    beat: Option<Duration>,
    looks: u64,
}

/// What it does, and how it was told to stand.
#[derive(Clone, Copy, Debug, Default)]
struct Instance {
    function: u64,
    /// Thousandths of a core that it uses, of its own program's and of the kernel's time.
    uses: [u64; 2],
    /// Events that it gets in a second, and how many it has had.
    rate: u64,
    events: u64,
    /// Nanoseconds.
    used: [u64; 2],
    back: bool,
    quota: Option<Duration>,
    on: Option<usize>,
}

impl Machine {
    fn new(processors: usize) -> Machine {
        let sharing = Sharing::new(processors, processors);
        let Command::Weigh(weight) = sharing.begin() else { panic!("a weight") };
        Machine { now: 0, sharing, processors, instances: BTreeMap::new(), weight, beat: None, looks: 0 }
    }

    fn begin(&mut self, id: Id, instance: Instance) {
        self.instances.insert(id, instance);
        let function: Arc<str> = instance.function.to_string().into();
        let (used, in_kernel) = Default::default();
        self.step(Event::Began { id, function, memory: MiB(256), used, in_kernel });
    }

    fn end(&mut self, id: Id) {
        self.instances.remove(&id);
        self.step(Event::Ended(id));
    }

    fn step(&mut self, event: Event) {
        let mut commands = Vec::new();
        self.sharing.step(self.time(), event, &mut commands);
        self.carry_out(&commands);
    }

    fn time(&self) -> Time {
        Time(self.now * MILLI)
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now += 1;
            let (now, mut woken) = (self.time(), Vec::new());
            for (&id, instance) in &mut self.instances {
                for (used, uses) in instance.used.iter_mut().zip(instance.uses) {
                    *used += uses * MILLI / 1000;
                }
                if instance.rate > 0 && self.now.is_multiple_of(1000 / instance.rate) {
                    instance.events += 1;
                    if !self.sharing.is_watched(id) {
                        woken.push(id);
                    }
                }
            }
            woken.into_iter().for_each(|id| self.step(Event::Woke(id)));
            while let Some(id) = self.sharing.due(now) {
                self.looks += 1;
                let one = &self.instances[&id];
                let [own, in_kernel] = one.used.map(Duration::from_nanos);
                let seen = Seen {
                    used: own + in_kernel,
                    in_kernel,
                    events: one.events,
                    busy: one.uses.iter().sum::<u64>() > 0,
                };
                self.step(Event::Saw(id, Some(seen)));
            }
        }
    }

    /// Nothing is commanded that holds already.
    fn carry_out(&mut self, commands: &[Command]) {
        for command in commands {
            match *command {
                Command::StandBack(id, back) => {
                    assert_ne!(std::mem::replace(&mut self.one(id).back, back), back, "{command:?}");
                }
                Command::Limit(id, quota) => {
                    assert_ne!(std::mem::replace(&mut self.one(id).quota, quota), quota, "{command:?}");
                }
                Command::RunOn(id, on) => {
                    assert_ne!(std::mem::replace(&mut self.one(id).on, on), on, "{command:?}");
                }
                Command::Weigh(weight) => {
                    assert_ne!(std::mem::replace(&mut self.weight, weight), weight, "{command:?}");
                }
                Command::Beat(beat) => {
                    assert_ne!(std::mem::replace(&mut self.beat, beat), beat, "{command:?}");
                }
            }
        }
        if !commands.is_empty() {
            self.check();
        }
    }

    fn one(&mut self, id: Id) -> &mut Instance {
        self.instances.get_mut(&id).expect("a command for one that is there")
    }

    /// What holds whatever happens.
    fn check(&self) {
        let quotas = || self.instances.values().filter_map(|one| one.quota);
        let on = together_on(quotas(), self.processors);
        for (id, one) in &self.instances {
            assert!(one.back || one.quota.is_none(), "{id}: who does not stand back has no quota: {one:?}");
            assert_eq!(
                one.on,
                one.quota.map(|_| on),
                "{id}: as few as {:?} fill",
                quotas().collect::<Vec<_>>()
            );
        }
        let any_back = self.instances.values().any(|one| one.back);
        assert!(any_back || (self.weight == together(0) && self.beat.is_none()), "nobody stands back");
    }

    fn back(&self, id: Id) -> bool {
        self.instances[&id].back
    }
}

const QUICK: Instance = Instance {
    function: 1,
    uses: [10, 10],
    rate: 100,
    events: 0,
    used: [0; 2],
    back: false,
    quota: None,
    on: None,
};

fn computes(function: u64) -> Instance {
    Instance { function, uses: [1000, 0], rate: 0, ..QUICK }
}

fn forks(function: u64) -> Instance {
    Instance { function, uses: [100, 900], rate: 0, ..QUICK }
}

#[test]
fn beside_one_that_computes_the_kernel_looks_more_often_and_functions_weigh_less_until_it_ends() {
    let mut machine = Machine::new(2);
    machine.begin(1, QUICK);
    machine.begin(2, computes(2));
    machine.run(500);
    assert!(machine.back(2) && !machine.back(1));
    assert_eq!((machine.beat, machine.weight), (Some(BEAT), together(1)));
    assert_eq!((machine.instances[&2].quota, machine.instances[&2].on), (None, None), "it gives way at once");
    machine.end(2);
    assert_eq!((machine.beat, machine.weight), (None, together(0)));
}

#[test]
fn nothing_is_done_for_nobody() {
    let mut machine = Machine::new(2);
    machine.begin(2, forks(2));
    machine.run(500);
    assert!(machine.back(2) && machine.weight == together(1), "it costs nothing");
    assert!(machine.beat.is_none() && machine.instances[&2].quota.is_none());
}

#[test]
fn who_hinders_others_has_a_quota_and_a_processor_for_it_while_they_want_the_processors() {
    let mut machine = Machine::new(2);
    machine.begin(1, QUICK);
    machine.begin(2, forks(2));
    machine.run(500);
    let held = |machine: &Machine| (machine.instances[&2].quota.is_some(), machine.instances[&2].on);
    assert_eq!((held(&machine), machine.beat), ((true, Some(1)), Some(QUICK_BEAT)));
    (machine.one(1).rate, machine.one(1).uses) = (0, [0; 2]);
    machine.run(1_500);
    assert_eq!(held(&machine), (false, None), "nobody else has had an event for a second");
    assert!(machine.back(2) && machine.beat.is_none());
    (machine.one(1).rate, machine.one(1).uses) = (QUICK.rate, QUICK.uses);
    machine.run(200);
    assert_eq!(held(&machine), (true, Some(1)));
}

#[test]
fn those_that_hinder_share_as_few_processors_as_their_quotas_fill() {
    let mut machine = Machine::new(4);
    machine.begin(1, QUICK);
    let on = |machine: &Machine| (2..10).filter_map(|id| machine.instances.get(&id)?.on).collect::<Vec<_>>();
    // 256 MiB are 0.145 of a core.
    for id in 2..10 {
        machine.begin(id, forks(id));
    }
    machine.run(500);
    assert_eq!(on(&machine), [2; 8]);
    machine.end(5);
    machine.end(6);
    assert_eq!(on(&machine), [1; 6]);
}

#[test]
fn the_next_instance_of_a_function_goes_on_where_the_last_one_ended() {
    let mut machine = Machine::new(2);
    machine.begin(1, QUICK);
    machine.begin(2, forks(2));
    machine.run(500);
    machine.end(2);
    machine.begin(3, forks(2));
    machine.begin(4, forks(3));
    machine.run(1);
    assert!(machine.back(3) && machine.instances[&3].quota.is_some());
    assert!(!machine.back(4), "another function has all of its own");
}

#[test]
fn however_many_are_busy_looking_at_them_takes_a_part_of_a_core() {
    let looks = |instances: u64| {
        let mut machine = Machine::new(8);
        for id in 0..instances {
            machine.begin(id, Instance { uses: [1, 0], rate: 0, ..QUICK });
        }
        machine.run(2_000);
        let before = machine.looks;
        machine.run(1_000);
        machine.looks - before
    };
    assert_eq!(looks(10), 500, "each fifty times a second");
    assert!((9_000..=10_100).contains(&looks(1_000)), "ten thousand a second, not fifty");
}

#[test]
fn one_that_nothing_is_seen_of_is_looked_at_again() {
    let mut machine = Machine::new(2);
    machine.begin(1, QUICK);
    machine.step(Event::Saw(1, None));
    machine.step(Event::Saw(77, None));
    assert_eq!(machine.sharing.next(), Some(Time::ZERO + LATEST_BUSY));
}

#[test]
fn those_with_a_quota_run_on_as_few_processors_as_it_fills() {
    let on = |tenths: &[u32], processors| {
        together_on(tenths.iter().map(|&tenths| PERIOD * tenths / 10), processors)
    };
    assert_eq!(on(&[1, 1, 1], 2), 1);
    assert_eq!(on(&[5, 5], 4), 1, "to the last bit");
    assert_eq!(on(&[5, 6], 4), 2);
    assert_eq!(on(&[9, 9, 9, 9, 9], 4), 4, "there are no more");
    assert_eq!(on(&[60], 4), 4, "one that may use six");
    assert_eq!((on(&[1], 1), on(&[], 2), on(&[], 0)), (1, 1, 1), "never on none");
}

#[test]
fn while_anybody_presses_all_functions_weigh_less_than_a_process_on_each_core_and_otherwise_several() {
    assert!(together(0) >= 2 * 8);
    assert!((1..100).all(|pressing| together(pressing) == together(1) && together(1) < 8 && together(1) > 0));
}

#[test]
fn whatever_instances_do_the_commands_fit_together_and_nothing_holds_once_they_rest() {
    for seed in 1..60u64 {
        println!("seed {seed}");
        let mut random = seed;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let mut machine = Machine::new(1 + next(8) as usize);
        for id in 0..60 {
            match (next(3), machine.instances.keys().copied().nth(next(8) as usize)) {
                (0, Some(ended)) => machine.end(ended),
                (1, Some(changed)) => {
                    let one = machine.one(changed);
                    (one.uses, one.rate) =
                        ([next(2) * next(1500), next(2) * next(1500)], [0, 1, 100][next(3) as usize]);
                }
                _ => machine.begin(
                    id,
                    Instance { function: next(6), ..[QUICK, computes(0), forks(0)][next(3) as usize] },
                ),
            }
            machine.run(next(400));
        }
        for one in machine.instances.values_mut() {
            (one.uses, one.rate) = ([0; 2], 0);
        }
        machine.run(15_000);
        for (id, one) in &machine.instances {
            assert!(!one.back, "{id} has rested: {one:?}");
        }
        assert_eq!((machine.beat, machine.weight), (None, together(0)));
        assert!(machine.sharing.next().is_none_or(|due| due > machine.time()));
    }
}
