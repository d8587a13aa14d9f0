//! How many requests may be in flight: per function with a reservation, and for all others together.
//!
//! Lambda's rules (<https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html>): a reservation is
//! both a guarantee and a limit; functions without one share what is not reserved; at least 100 of the
//! account's limit always stay unreserved. What is provisioned for a version is for that version alone: it comes out of
//! its function's reservation, or out of what is unreserved.

use model::Version;
use std::collections::BTreeMap;

/// Lambda's default account limit.
pub const DEFAULT_LIMIT: u32 = 1_000;

/// How much of the account's limit cannot be reserved (all of it when the limit is smaller).
pub const MIN_UNRESERVED: u32 = 100;

/// Functions without a request and a reservation that are remembered all the same, so that admitting
/// requests of the same few functions does not allocate.
const REMEMBERED: usize = 1_024;

/// Which limit was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Throttle {
    /// The function's reservation is in use.
    ReservedConcurrency,
    /// All that is not reserved is in use.
    AccountConcurrency,
}

/// A reservation that would leave too little unreserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overcommitted {
    /// The least that must stay unreserved.
    pub min_unreserved: u32,
    /// The most that this function could reserve now.
    pub available: u32,
}

/// How many requests may be in flight, and are.
#[derive(Clone, Debug)]
pub struct Concurrency {
    limit: u32,
    functions: BTreeMap<u64, Function>,
    /// What versions have of their own.
    provisioned: BTreeMap<(u64, Version), Provisioned>,
    /// Out of the limit for functions with a reservation.
    reserved: u32,
    /// … and for provisioned versions of functions without one.
    set_aside: u32,
    /// Requests in flight of functions without a reservation, beyond what is provisioned.
    sharing: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Function {
    in_flight: u32,
    /// Those of them that no provisioned concurrency was there for.
    beyond: u32,
    reserved: Option<u32>,
    /// Of all its versions.
    provisioned: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Provisioned {
    limit: u32,
    in_flight: u32,
}

/// What a request was admitted on; to be given back when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// The provisioned concurrency of its version.
    Provisioned,
    /// What its function has beyond that.
    Beyond,
}

impl Default for Concurrency {
    fn default() -> Concurrency {
        Concurrency::new(DEFAULT_LIMIT)
    }
}

impl Concurrency {
    /// Nothing in flight, nothing reserved. `limit`: requests in flight at once, over all functions.
    pub fn new(limit: u32) -> Concurrency {
        let (functions, provisioned) = (BTreeMap::new(), BTreeMap::new());
        Concurrency { limit, functions, provisioned, reserved: 0, set_aside: 0, sharing: 0 }
    }

    /// Lets one more request of a function's version in, or says which limit keeps it out. Each `Ok` is given back by
    /// one [`release`](Concurrency::release).
    pub fn admit(&mut self, function: u64, version: Version) -> Result<Admitted, Throttle> {
        let unreserved = self.unreserved();
        let entry = self.functions.entry(function).or_default();
        if entry.provisioned > 0
            && let Some(own) = self.provisioned.get_mut(&(function, version))
            && own.in_flight < own.limit
        {
            own.in_flight += 1;
            entry.in_flight += 1;
            return Ok(Admitted::Provisioned);
        }
        match entry.reserved {
            // What is provisioned is kept for the versions that it was provisioned for.
            Some(reserved) if entry.beyond >= reserved.saturating_sub(entry.provisioned) => {
                return Err(Throttle::ReservedConcurrency);
            }
            Some(_) => {}
            None if self.sharing >= unreserved => return Err(Throttle::AccountConcurrency),
            None => self.sharing += 1,
        }
        entry.in_flight += 1;
        entry.beyond += 1;
        Ok(Admitted::Beyond)
    }

    /// A request that was admitted has ended. Ignored when the function has none in flight.
    pub fn release(&mut self, function: u64, version: Version, admitted: Admitted) {
        let Some(entry) = self.functions.get_mut(&function).filter(|entry| entry.in_flight > 0) else {
            return;
        };
        entry.in_flight -= 1;
        if admitted == Admitted::Provisioned {
            if let Some(own) = self.provisioned.get_mut(&(function, version)) {
                own.in_flight = own.in_flight.saturating_sub(1);
                if own.limit == 0 && own.in_flight == 0 {
                    self.provisioned.remove(&(function, version));
                }
            }
        } else {
            entry.beyond = entry.beyond.saturating_sub(1);
            self.sharing -= u32::from(entry.reserved.is_none());
        }
        let is_plain = entry.reserved.is_none() && entry.provisioned == 0 && entry.in_flight == 0;
        if is_plain && self.functions.len() > REMEMBERED {
            self.functions.remove(&function);
        }
    }

    /// Sets, changes or (`None`) removes a function's reservation; 0 stops the function. Requests in flight
    /// stay, and count where the function now belongs: until enough of them have ended nothing more is
    /// admitted there.
    pub fn set_reserved(&mut self, function: u64, reserved: Option<u32>) -> Result<(), Overcommitted> {
        let entry = self.functions.get(&function).copied().unwrap_or_default();
        let others = self.reserved - entry.reserved.unwrap_or(0);
        let min_unreserved = MIN_UNRESERVED.min(self.limit);
        let set_aside = self.set_aside - if entry.reserved.is_none() { entry.provisioned } else { 0 };
        let available = (self.limit - min_unreserved).saturating_sub(others + set_aside);
        if reserved.unwrap_or(0) > available {
            return Err(Overcommitted { min_unreserved, available });
        }
        match (entry.reserved, reserved) {
            (None, Some(_)) => self.sharing -= entry.beyond,
            (Some(_), None) => self.sharing += entry.beyond,
            _ => {}
        }
        self.set_aside = set_aside + if reserved.is_none() { entry.provisioned } else { 0 };
        self.reserved = others + reserved.unwrap_or(0);
        self.keep(function, Function { reserved, ..entry });
        Ok(())
    }

    /// Sets what of its own a version has: as many requests of it are let in whatever others do, out of the function's
    /// reservation if it has one. Zero, as at first: nothing. Requests in flight stay where they were admitted.
    pub fn set_provisioned(&mut self, function: u64, version: Version, limit: u32) {
        let mut entry = self.functions.get(&function).copied().unwrap_or_default();
        let own = self.provisioned.entry((function, version)).or_default();
        entry.provisioned = entry.provisioned - own.limit + limit;
        if entry.reserved.is_none() {
            self.set_aside = self.set_aside - own.limit + limit;
        }
        own.limit = limit;
        if limit == 0 && own.in_flight == 0 {
            self.provisioned.remove(&(function, version));
        }
        self.keep(function, entry);
    }

    /// Versions of a function that have something of their own.
    pub fn provisioned(&self, function: u64) -> Vec<Version> {
        let of_function = (function, Version::Latest)..=(function, Version::Number(u64::MAX));
        let own = self.provisioned.range(of_function).filter(|(_, own)| own.limit > 0);
        own.map(|(&(_, version), _)| version).collect()
    }

    fn keep(&mut self, function: u64, entry: Function) {
        if entry.in_flight == 0 && entry.reserved.is_none() && entry.provisioned == 0 {
            self.functions.remove(&function);
        } else {
            self.functions.insert(function, entry);
        }
    }

    /// The limit over all functions.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// What functions without a reservation share, beyond what is provisioned.
    pub fn unreserved(&self) -> u32 {
        self.limit.saturating_sub(self.reserved + self.set_aside)
    }

    /// Requests of a function that are in flight.
    pub fn in_flight(&self, function: u64) -> u32 {
        self.functions.get(&function).map_or(0, |entry| entry.in_flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a list of steps on an account with this limit: `a` admits a request of function a and says what
    /// became of it, `-a` releases one, `a=5` and `a=none` set its reservation. `a1` is a request of its version 1, `a1:2`
    /// provisions 2 for that.
    #[track_caller]
    fn check(limit: u32, script: &str, expected: &str) {
        let mut concurrency = Concurrency::new(limit);
        let verdicts: Vec<_> =
            script.split_whitespace().filter_map(|word| play(&mut concurrency, word)).collect();
        assert_eq!(verdicts.join(" "), expected);
    }

    fn play(concurrency: &mut Concurrency, word: &str) -> Option<String> {
        let key = |name: &str| u64::from(name.as_bytes()[0]);
        let version = |name: &str| name[1..].parse().map_or(Version::Latest, Version::Number);
        if let Some(name) = word.strip_prefix('-') {
            let own = concurrency.provisioned.get(&(key(name), version(name)));
            let admitted = match own.is_some_and(|own| own.in_flight > 0) {
                true => Admitted::Provisioned,
                false => Admitted::Beyond,
            };
            concurrency.release(key(name), version(name), admitted);
            return None;
        }
        if let Some((name, limit)) = word.split_once(':') {
            concurrency.set_provisioned(key(name), version(name), limit.parse().unwrap());
            return None;
        }
        if let Some((name, reserved)) = word.split_once('=') {
            let set = concurrency.set_reserved(key(name), reserved.parse().ok());
            return set.err().map(|Overcommitted { available, .. }| format!("at-most-{available}"));
        }
        Some(match concurrency.admit(key(word), version(word)) {
            Ok(Admitted::Provisioned) => "own".into(),
            Ok(Admitted::Beyond) => "ok".into(),
            Err(Throttle::ReservedConcurrency) => "reserved".into(),
            Err(Throttle::AccountConcurrency) => "account".into(),
        })
    }

    #[test]
    fn functions_without_a_reservation_share_the_account() {
        check(3, "a b a b a", "ok ok ok account account");
        check(3, "a b a b -a b", "ok ok ok account ok");
    }

    #[test]
    fn a_reservation_is_a_limit() {
        check(1000, "a=2 a a a -a a", "ok ok reserved ok");
        check(1000, "a=0 a", "reserved");
    }

    #[test]
    fn a_reservation_is_a_guarantee_that_others_cannot_use() {
        let full = "b ".repeat(100);
        check(101, &format!("a=1 {full} b a"), &format!("{}account ok", "ok ".repeat(100)));
    }

    #[test]
    fn at_least_a_hundred_stay_unreserved() {
        check(1000, "a=900", "");
        check(1000, "a=901", "at-most-900");
        check(1000, "a=500 b=401", "at-most-400");
        check(1000, "a=500 a=900 b=0", "");
        check(50, "a=1", "at-most-0");
    }

    #[test]
    fn requests_in_flight_count_where_the_function_now_belongs() {
        check(102, "a a a a=2 a -a a -a a", "ok ok ok reserved reserved ok");
        let full = "b ".repeat(99);
        check(101, &format!("a=1 a {full} a=none b b"), &format!("ok {}ok account", "ok ".repeat(99)));
    }

    #[test]
    fn what_is_provisioned_for_a_version_is_its_own_and_what_is_beyond_is_shared() {
        check(3, "a1:2 a1 a1 a1 a1 b", "own own ok account account");
        check(3, "a1:2 b b a1 a1 a1", "ok account own own account");
        check(3, "a1:2 a a a1", "ok account own");
        check(3, "a1:2 b a1:0 b b b", "ok ok ok account");
    }

    #[test]
    fn what_is_provisioned_comes_out_of_the_reservation() {
        check(1000, "a=3 a1:2 a1 a1 a1 a1", "own own ok reserved");
        check(1000, "a=2 a1:2 a a1 a1", "reserved own own");
        check(1000, "a1:700 b=201 b=200", "at-most-200");
        check(1000, "a=700 a1:700 b=201 b=200 a=none", "at-most-200");
        check(1000, "a1:700 a=900 a1:0 b=1", "at-most-0");
    }

    #[test]
    fn requests_in_flight_stay_where_they_were_admitted() {
        check(3, "a1:2 a1 a1 b a1:1 b b b", "own own ok ok account account");
        check(3, "a1:1 a1 a1:0 b b b b -a1 b", "own ok ok ok account account");
    }

    #[test]
    fn a_release_without_a_request_is_ignored() {
        check(1, "-a a a", "ok account");
    }

    #[test]
    fn functions_that_are_no_longer_used_are_forgotten() {
        let mut concurrency = Concurrency::new(1);
        for function in 0..10_000 {
            let admitted = concurrency.admit(function, Version::Latest).unwrap();
            concurrency.release(function, Version::Latest, admitted);
        }
        assert!(concurrency.functions.len() <= REMEMBERED);
    }
}
