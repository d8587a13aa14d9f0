//! Which instances stand back when there is not enough of the processors for all: those that use more of them than Lambda
//! would give to their memory size (1,769 MiB: one core). They lose nothing as long as nobody else wants to run.
//!
//! An instance may use some time at once, and what it has used grows back at that rate, and with every event a little: one
//! that answers many events quickly is not what others have to be kept from. Once it has used up more it stands back, until half of it is there again: one that computes all the time where others leave it no more than its
//! rate comes first again after a while, so that it gets that rate in the long run.

use model::{MiB, Time};
use std::time::Duration;

/// Nanoseconds that may be used at once.
const BURST: i64 = 100_000_000;
/// Nanoseconds that come with each event.
const OF_AN_EVENT: u64 = 1_000_000;
/// What was used beyond is remembered up to this, so that one that had an idle machine to itself for an hour does not stand
/// back for one afterwards.
const DEBT: i64 = -BURST;
/// Memory that goes with one core, on Lambda.
const OF_A_CORE: u64 = 1769;

/// Less than so many nanoseconds between two looks is not noticed by others.
const NOTICED: i64 = 1_000_000;

/// Looking takes some ten microseconds.
const SOONEST: Duration = Duration::from_millis(20);
/// One that has an event may begin to compute at any time.
pub const LATEST_BUSY: Duration = Duration::from_millis(100);
/// One without has hardly anything running; most are frozen.
const LATEST: Duration = Duration::from_secs(10);

/// What all functions together weigh on each core, in eighths of a process, while so many of them [press](Verdict). Against
/// each other idle ones weigh next to nothing, but against the server all functions are one. With none it is best that
/// the server does not take the processor from a function that is about to answer; from one that computes it must, or the
/// requests of all others wait until the clock ticks.
pub fn together(pressing: usize) -> u64 {
    if pressing == 0 { 32 } else { 2 }
}

/// What was seen of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Processor time that it has used since it began.
    pub used: Duration,
    /// Events that it has been given.
    pub events: u64,
    /// Whether it has one to answer.
    pub busy: bool,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it stands back behind others.
    pub back: bool,
    /// Whether it does and has run all the same: then others may have had to wait for it.
    pub presses: bool,
    /// To be looked at again after this time.
    pub again: Duration,
}

/// How much of the processors one instance may use before it stands back.
#[derive(Clone, Debug)]
pub struct Allowance {
    /// Of a core.
    rate: f64,
    /// Cores that can be used at once.
    cores: u32,
    /// Nanoseconds.
    left: i64,
    back: bool,
    at: Time,
    used: Duration,
    events: u64,
    pause: Duration,
}

impl Allowance {
    /// The whole of it, for an instance with this memory size on a machine with so many cores, that had `used` this much
    /// when it became this function's.
    pub fn new(now: Time, memory: MiB, cores: usize, used: Duration) -> Allowance {
        let rate = f64::from(memory.0) / OF_A_CORE as f64;
        let cores = u32::try_from(cores).unwrap_or(u32::MAX).max(1);
        Allowance { rate, cores, left: BURST, back: false, at: now, used, events: 0, pause: SOONEST }
    }

    /// As little as another instance of the same function has left: a new one each time would have a new one each time.
    pub fn inherit(&mut self, now: Time, of: &Allowance) {
        self.left = of.left_at(now).min(self.left);
        self.back = of.back && self.left < BURST / 2;
    }

    /// Whether all of it is there.
    pub fn is_full(&self, now: Time) -> bool {
        self.left_at(now) == BURST
    }

    fn left_at(&self, now: Time) -> i64 {
        self.left.saturating_add(self.grown(now)).min(BURST)
    }

    fn grown(&self, now: Time) -> i64 {
        (now.since(self.at).as_nanos() as f64 * self.rate) as i64
    }

    /// It has an event after a rest: when to look at it.
    pub fn woke(&mut self) -> Duration {
        self.pause = SOONEST;
        self.change().clamp(SOONEST, LATEST_BUSY)
    }

    /// It cannot have used up what it has, or have back what it needs, before this time.
    fn change(&self) -> Duration {
        let until = |left: i64, rate: f64| Duration::from_nanos((left.max(0) as f64 / rate) as u64);
        match self.back {
            true => until(BURST / 2 - self.left, self.rate),
            false => until(self.left, f64::from(self.cores)),
        }
    }

    /// What follows from what was seen.
    pub fn saw(&mut self, now: Time, seen: Seen) -> Verdict {
        let used = i64::try_from(seen.used.saturating_sub(self.used).as_nanos()).unwrap_or(i64::MAX);
        let given = seen.events.saturating_sub(self.events).saturating_mul(OF_AN_EVENT);
        let given = i64::try_from(given).unwrap_or(i64::MAX).saturating_add(self.grown(now));
        self.left = self.left.saturating_add(given.saturating_sub(used)).clamp(DEBT, BURST);
        (self.at, self.used, self.events) = (now, seen.used, seen.events);
        self.back = self.left < if self.back { BURST / 2 } else { 0 };
        let presses = self.back && used >= NOTICED;
        let latest = if seen.busy || presses { LATEST_BUSY } else { LATEST };
        let change = self.change().max(SOONEST);
        self.pause = if used == 0 { self.pause * 2 } else { change }.clamp(SOONEST, latest);
        if self.back {
            self.pause = self.pause.min(change);
        }
        Verdict { back: self.back, presses, again: self.pause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    /// Instances of `memory` MiB on two cores, and what a machine would do with them: in each millisecond those that do not
    /// stand back go first. `wants` says how much of a core each wants in which millisecond.
    struct Machine {
        now: u64,
        instances: Vec<(Allowance, Duration, u64)>,
    }

    impl Machine {
        fn new(memory: &[u32]) -> Machine {
            let instance =
                |&memory: &u32| (Allowance::new(Time(0), MiB(memory), 2, Duration::ZERO), Duration::ZERO, 20);
            Machine { now: 0, instances: memory.iter().map(instance).collect() }
        }

        /// Milliseconds of processor that each got in so many milliseconds.
        fn run(&mut self, millis: u64, wants: impl Fn(usize, u64) -> f64) -> Vec<f64> {
            let before: Vec<_> = self.instances.iter().map(|(_, used, _)| *used).collect();
            for now in self.now..self.now + millis {
                let mut room = 2.0;
                for back in [false, true] {
                    let these: Vec<_> =
                        (0..self.instances.len()).filter(|&n| self.instances[n].0.back == back).collect();
                    let wanted: f64 = these.iter().map(|&n| wants(n, now)).sum();
                    let given = if wanted > room { room / wanted } else { 1.0 };
                    these.iter().for_each(|&n| {
                        self.instances[n].1 += Duration::from_secs_f64(wants(n, now) * given / 1e3)
                    });
                    room -= wanted * given;
                }
                for (n, (allowance, used, due)) in self.instances.iter_mut().enumerate() {
                    if *due <= now {
                        let seen = Seen { used: *used, events: 0, busy: wants(n, now) > 0.0 };
                        *due = now + allowance.saw(Time(now * MILLI), seen).again.as_millis() as u64;
                    }
                }
            }
            self.now += millis;
            let millis =
                |(before, (_, used, _)): (Duration, &(_, Duration, _))| (*used - before).as_secs_f64() * 1e3;
            before.into_iter().zip(&self.instances).map(millis).collect()
        }

        fn back(&self) -> Vec<bool> {
            self.instances.iter().map(|(allowance, ..)| allowance.back).collect()
        }
    }

    #[test]
    fn whoever_computes_without_end_stands_back_soon_and_one_that_answers_quickly_never_does() {
        let mut machine = Machine::new(&[256; 4]);
        // Three take all they can get; the fourth takes 0.2 ms in every fourth.
        let wants = |n: usize, now: u64| {
            if n < 3 {
                2.0
            } else if now.is_multiple_of(4) {
                0.2
            } else {
                0.0
            }
        };
        machine.run(300, wants);
        assert_eq!(machine.back(), [true, true, true, false]);
        let got = machine.run(10_000, wants);
        assert!((got[3] - 500.0).abs() < 1.0, "{got:?}");
        assert!(got.iter().sum::<f64>() > 19_999.0, "nothing is left unused: {got:?}");
    }

    #[test]
    fn whoever_stands_back_gets_its_rate_all_the_same_where_others_want_everything() {
        let mut machine = Machine::new(&[512, 512, 512, 512, 512, 512, 512, 512, 512, 1769]);
        // Nine that use what is theirs, 2.6 cores together, and one that wants a core of its own.
        let wants = |n: usize, _| if n < 9 { 0.285 } else { 1.0 };
        let got = machine.run(60_000, wants);
        assert!(got[9] > 0.2 * 60_000.0, "{got:?}");
        assert!(got[0] > 0.1 * 60_000.0, "{got:?}");
    }

    #[test]
    fn whoever_stands_back_presses_until_it_rests_and_that_is_seen_soon() {
        let mut allowance = Allowance::new(Time(0), MiB(128), 2, Duration::ZERO);
        let used = Duration::from_millis(300);
        let verdict = allowance.saw(Time(150 * MILLI), Seen { used, events: 1, busy: false });
        assert!(verdict.back && verdict.presses && verdict.again <= LATEST_BUSY, "{verdict:?}");
        let verdict = allowance.saw(Time(250 * MILLI), Seen { used, events: 1, busy: false });
        assert!(verdict.back && !verdict.presses, "{verdict:?}");
    }

    #[test]
    fn after_a_rest_it_comes_first_again() {
        let mut machine = Machine::new(&[256]);
        machine.run(3_600_000, |_, _| 2.0);
        assert_eq!(machine.back(), [true]);
        machine.run(1_200, |_, _| 0.0);
        assert_eq!(machine.back(), [false]);
    }

    #[test]
    fn while_anybody_presses_all_functions_weigh_less_than_a_process_on_each_core_and_otherwise_several() {
        assert!(together(0) >= 2 * 8);
        assert!(
            (1..100).all(|pressing| together(pressing) == together(1) && together(1) < 8 && together(1) > 0)
        );
    }

    #[test]
    fn the_next_instance_begins_with_what_the_last_one_left() {
        let mut first = Allowance::new(Time(0), MiB(256), 2, Duration::ZERO);
        let at = Time(50 * MILLI);
        assert!(first.saw(at, Seen { used: Duration::from_millis(300), events: 1, busy: true }).back);
        let mut second = Allowance::new(at, MiB(256), 2, Duration::from_millis(30));
        second.inherit(at, &first);
        assert!(second.saw(at, Seen { used: Duration::from_millis(30), events: 0, busy: true }).back);
        let later = Time(5_000 * MILLI);
        let mut third = Allowance::new(later, MiB(256), 2, Duration::ZERO);
        third.inherit(later, &first);
        assert!(third.is_full(later) && first.is_full(later));
    }

    #[test]
    fn one_that_rests_is_looked_at_ever_less_often_one_with_an_event_at_least_ten_times_a_second() {
        let mut allowance = Allowance::new(Time(0), MiB(256), 2, Duration::ZERO);
        let mut look = |busy| {
            (0..20)
                .map(|n| allowance.saw(Time(n * MILLI), Seen { used: Duration::ZERO, events: 0, busy }).again)
                .last()
        };
        assert_eq!(look(true), Some(LATEST_BUSY));
        assert_eq!(look(false), Some(LATEST));
        assert_eq!(look(true), Some(LATEST_BUSY));
    }

    #[test]
    fn one_that_answers_quickly_does_not_stand_back_however_many_events_it_has() {
        let check = |micros_each: u64| {
            let mut allowance = Allowance::new(Time(0), MiB(256), 2, Duration::ZERO);
            // It computes all the time.
            let look = |n: u64| {
                let used = Duration::from_millis(40 * n);
                Seen { used, events: 40_000 * n / micros_each, busy: true }
            };
            (1..100).any(|n| allowance.saw(Time(40 * n * MILLI), look(n)).back)
        };
        assert_eq!([check(100), check(1_000), check(2_000)], [false, false, true]);
    }

    #[test]
    fn it_is_looked_again_before_the_rest_can_be_used_up() {
        let mut allowance = Allowance::new(Time(0), MiB(256), 2, Duration::ZERO);
        let again =
            allowance.saw(Time(0), Seen { used: Duration::from_millis(20), events: 0, busy: true }).again;
        assert_eq!(again, Duration::from_millis(40));
    }
}
