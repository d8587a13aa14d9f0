//! When an instance stands back because there is not enough of the processors for all: once it uses more of them than Lambda
//! would give to their memory size (1,769 MiB: one core). It loses nothing as long as nobody else wants to run.
//!
//! An instance may use some time at once, and what it has used grows back at that rate, and with every event a little: one
//! that answers many events quickly is not what others have to be kept from. Once it has used up more it stands back, until half of it is there again: one that computes all the time where others leave it no more than its
//! rate comes first again after a while, so that it gets that rate in the long run.
//!
//! Who stands back gives way at once while it computes, but not while the kernel works for it: many kernels let nothing
//! interrupt them there, for milliseconds. One that does mostly that, forks or eats memory without end, hinders
//! others however far back it stands; while there are any, it gets no more than its rate. What follows for all instances
//! together: [`sharing`](crate::sharing).

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

/// An instance that does not stand back wants the processors for so long after it was last seen with an event.
const WANTS: Duration = Duration::from_secs(1);

/// So much of a core one that hinders others gets in any case. With a 50th and less of one, what it holds in the kernel
/// was not given back for half a second.
const LEAST: f64 = 0.1;
/// Its part of this time is what it may use in it. With 100 ms all those that hinder have theirs at once, at its beginning.
pub const PERIOD: Duration = Duration::from_millis(20);

/// What was seen of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Processor time that it has used since it began.
    pub used: Duration,
    /// How much of that the kernel has used for it.
    pub in_kernel: Duration,
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
    in_kernel: Duration,
    /// Whether it stands back and the kernel does most of its work, so that others have to wait all the same.
    hinders: bool,
    events: u64,
    /// When it was last seen with an event.
    asked: Option<Time>,
    pause: Duration,
}

impl Allowance {
    /// The whole of it, for an instance with this memory size on a machine with so many cores, that had `used` this much
    /// when it became this function's, `in_kernel` of it in the kernel.
    pub fn new(now: Time, memory: MiB, cores: usize, used: Duration, in_kernel: Duration) -> Allowance {
        let rate = f64::from(memory.0) / OF_A_CORE as f64;
        let cores = u32::try_from(cores).unwrap_or(u32::MAX).max(1);
        Allowance {
            rate,
            cores,
            left: BURST,
            back: false,
            at: now,
            used,
            in_kernel,
            hinders: false,
            events: 0,
            asked: None,
            pause: SOONEST,
        }
    }

    /// As little as another instance of the same function has left: a new one each time would have a new one each time.
    pub fn inherit(&mut self, now: Time, of: &Allowance) {
        self.left = of.left_at(now).min(self.left);
        self.back = of.back && self.left < BURST / 2;
        self.hinders = of.hinders && self.back;
    }

    /// Whether it wants the processors and may have them before others.
    pub fn wants(&self, now: Time) -> bool {
        !self.back && self.asked.is_some_and(|asked| now.since(asked) < WANTS)
    }

    /// The processor time that it gets of each [`PERIOD`], if it hinders others and any of them `wanted` the processors; else all
    /// that there is.
    pub fn quota(&self, wanted: bool) -> Option<Duration> {
        (self.hinders && wanted).then(|| PERIOD.mul_f64(self.rate.max(LEAST)))
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
        let in_kernel = seen.in_kernel.saturating_sub(self.in_kernel).as_nanos();
        if seen.busy || seen.events > self.events {
            self.asked = Some(now);
        }
        let given = seen.events.saturating_sub(self.events).saturating_mul(OF_AN_EVENT);
        let given = i64::try_from(given).unwrap_or(i64::MAX).saturating_add(self.grown(now));
        self.left = self.left.saturating_add(given.saturating_sub(used)).clamp(DEBT, BURST);
        (self.at, self.used, self.in_kernel, self.events) = (now, seen.used, seen.in_kernel, seen.events);
        self.back = self.left < if self.back { BURST / 2 } else { 0 };
        let presses = self.back && used >= NOTICED;
        // Of one that hardly ran nothing new is known.
        self.hinders = self.back && if presses { in_kernel * 2 > used as u128 } else { self.hinders };
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

    /// An allowance of which nothing has been used.
    fn fresh(now: Time, memory: MiB, cores: usize) -> Allowance {
        Allowance::new(now, memory, cores, Duration::ZERO, Duration::ZERO)
    }

    /// Whether it gets a quota after it was seen so, at this millisecond; never if nobody else wants the processors.
    fn hinders(allowance: &mut Allowance, at: u64, look: Seen) -> bool {
        allowance.saw(Time(at * MILLI), look);
        assert_eq!(allowance.quota(false), None);
        allowance.quota(true).is_some()
    }

    /// What is seen of one that computes.
    fn seen(used: Duration, events: u64, busy: bool) -> Seen {
        Seen { used, in_kernel: Duration::ZERO, events, busy }
    }

    /// Instances of `memory` MiB on two cores, and what a machine would do with them: in each millisecond those that do not
    /// stand back go first. `wants` says how much of a core each wants in which millisecond.
    struct Machine {
        now: u64,
        instances: Vec<(Allowance, Duration, u64)>,
    }

    impl Machine {
        fn new(memory: &[u32]) -> Machine {
            let instance = |&memory: &u32| (fresh(Time(0), MiB(memory), 2), Duration::ZERO, 20);
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
                        let seen = seen(*used, 0, wants(n, now) > 0.0);
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
        let mut allowance = fresh(Time(0), MiB(128), 2);
        let used = Duration::from_millis(300);
        let verdict = allowance.saw(Time(150 * MILLI), seen(used, 1, false));
        assert!(verdict.back && verdict.presses && verdict.again <= LATEST_BUSY, "{verdict:?}");
        let verdict = allowance.saw(Time(250 * MILLI), seen(used, 1, false));
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
    fn the_next_instance_begins_with_what_the_last_one_left() {
        let mut first = fresh(Time(0), MiB(256), 2);
        let at = Time(50 * MILLI);
        assert!(first.saw(at, seen(Duration::from_millis(300), 1, true)).back);
        let mut second = Allowance::new(at, MiB(256), 2, Duration::from_millis(30), Duration::ZERO);
        second.inherit(at, &first);
        assert!(second.saw(at, seen(Duration::from_millis(30), 0, true)).back);
        let later = Time(5_000 * MILLI);
        let mut third = fresh(later, MiB(256), 2);
        third.inherit(later, &first);
        assert!(third.is_full(later) && first.is_full(later));
    }

    #[test]
    fn one_that_rests_is_looked_at_ever_less_often_one_with_an_event_at_least_ten_times_a_second() {
        let mut allowance = fresh(Time(0), MiB(256), 2);
        let mut look = |busy| {
            (0..20).map(|n| allowance.saw(Time(n * MILLI), seen(Duration::ZERO, 0, busy)).again).last()
        };
        assert_eq!(look(true), Some(LATEST_BUSY));
        assert_eq!(look(false), Some(LATEST));
        assert_eq!(look(true), Some(LATEST_BUSY));
    }

    #[test]
    fn one_that_answers_quickly_does_not_stand_back_however_many_events_it_has() {
        let check = |micros_each: u64| {
            let mut allowance = fresh(Time(0), MiB(256), 2);
            // It computes all the time.
            let look = |n: u64| {
                let used = Duration::from_millis(40 * n);
                seen(used, 40_000 * n / micros_each, true)
            };
            (1..100).any(|n| allowance.saw(Time(40 * n * MILLI), look(n)).back)
        };
        assert_eq!([check(100), check(1_000), check(2_000)], [false, false, true]);
    }

    #[test]
    fn it_is_looked_again_before_the_rest_can_be_used_up() {
        let mut allowance = fresh(Time(0), MiB(256), 2);
        let again = allowance.saw(Time(0), seen(Duration::from_millis(20), 0, true)).again;
        assert_eq!(again, Duration::from_millis(40));
    }

    #[test]
    fn who_works_mostly_in_the_kernel_hinders_others_once_it_stands_back_and_who_computes_does_not() {
        let check = |in_kernel: u64| {
            let mut allowance = fresh(Time(0), MiB(256), 2);
            let look = |n: u64| Seen {
                used: Duration::from_millis(150 * n),
                in_kernel: Duration::from_millis(in_kernel * n),
                events: 1,
                busy: true,
            };
            [1, 2, 3].map(|n| hinders(&mut allowance, 100 * n, look(n)))
        };
        assert_eq!(check(10), [false; 3]);
        assert_eq!(check(140), [true; 3]);
        let mut within = fresh(Time(0), MiB(256), 2);
        let little = Duration::from_millis(20);
        let look = Seen { used: little, in_kernel: little, events: 1, busy: true };
        assert!(!hinders(&mut within, 100, look), "it has not used more than is its own");
    }

    #[test]
    fn one_that_hinders_does_so_until_it_comes_first_again_and_so_does_the_next_of_its_function() {
        let mut first = fresh(Time(0), MiB(256), 2);
        let used = Duration::from_millis(300);
        let look = Seen { used, in_kernel: used, events: 1, busy: true };
        assert!(hinders(&mut first, 150, look));
        assert!(hinders(&mut first, 250, look), "it did not run: nothing new is known");
        let mut next = fresh(Time(300 * MILLI), MiB(256), 2);
        next.inherit(Time(300 * MILLI), &first);
        assert!(hinders(&mut next, 310, seen(Duration::ZERO, 0, true)));
        assert!(!hinders(&mut first, 60_000, look));
    }

    #[test]
    fn who_had_an_event_a_moment_ago_wants_the_processors_unless_it_stands_back() {
        let mut quick = fresh(Time(0), MiB(256), 2);
        assert!(!quick.wants(Time(0)));
        quick.saw(Time(MILLI), seen(Duration::ZERO, 1, false));
        assert!(quick.wants(Time(500 * MILLI)) && !quick.wants(Time(1_100 * MILLI)));
        quick.saw(Time(2_000 * MILLI), seen(Duration::from_secs(1), 2, true));
        assert!(!quick.wants(Time(2_000 * MILLI)));
    }

    #[test]
    fn the_quota_is_what_lambda_would_give_and_never_next_to_nothing() {
        let quota = |memory| {
            let mut allowance = fresh(Time(0), MiB(memory), 2);
            let used = Duration::from_secs(60);
            allowance.saw(Time(MILLI), Seen { used, in_kernel: used, events: 0, busy: true });
            allowance.quota(true).expect("it hinders")
        };
        assert_eq!(quota(1769), PERIOD);
        assert_eq!(quota(3538), PERIOD * 2);
        assert_eq!(quota(128), PERIOD / 10);
    }
}
