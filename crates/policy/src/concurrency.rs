//! How many requests may be in flight: per function with a reservation, and for all others together.
//!
//! Lambda's rules (<https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html>): a reservation is
//! both a guarantee and a limit; functions without one share what is not reserved; at least 100 of the
//! account's limit always stay unreserved.

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
    reserved: u32,
    /// Requests in flight of functions without a reservation.
    sharing: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Function {
    in_flight: u32,
    reserved: Option<u32>,
}

impl Default for Concurrency {
    fn default() -> Concurrency {
        Concurrency::new(DEFAULT_LIMIT)
    }
}

impl Concurrency {
    /// Nothing in flight, nothing reserved. `limit`: requests in flight at once, over all functions.
    pub fn new(limit: u32) -> Concurrency {
        Concurrency { limit, functions: BTreeMap::new(), reserved: 0, sharing: 0 }
    }

    /// Lets one more request of a function in, or says which limit keeps it out. Each `Ok` is given back by
    /// one [`release`](Concurrency::release).
    pub fn admit(&mut self, function: u64) -> Result<(), Throttle> {
        let unreserved = self.unreserved();
        let entry = self.functions.entry(function).or_default();
        match entry.reserved {
            Some(reserved) if entry.in_flight >= reserved => return Err(Throttle::ReservedConcurrency),
            Some(_) => {}
            None if self.sharing >= unreserved => return Err(Throttle::AccountConcurrency),
            None => self.sharing += 1,
        }
        entry.in_flight += 1;
        Ok(())
    }

    /// A request that was admitted has ended. Ignored when the function has none in flight.
    pub fn release(&mut self, function: u64) {
        let Some(entry) = self.functions.get_mut(&function).filter(|entry| entry.in_flight > 0) else {
            return;
        };
        entry.in_flight -= 1;
        if entry.reserved.is_none() {
            self.sharing -= 1;
            if entry.in_flight == 0 && self.functions.len() > REMEMBERED {
                self.functions.remove(&function);
            }
        }
    }

    /// Sets, changes or (`None`) removes a function's reservation; 0 stops the function. Requests in flight
    /// stay, and count where the function now belongs: until enough of them have ended nothing more is
    /// admitted there.
    pub fn set_reserved(&mut self, function: u64, reserved: Option<u32>) -> Result<(), Overcommitted> {
        let entry = self.functions.get(&function).copied().unwrap_or_default();
        let others = self.reserved - entry.reserved.unwrap_or(0);
        let min_unreserved = MIN_UNRESERVED.min(self.limit);
        let available = (self.limit - min_unreserved).saturating_sub(others);
        if reserved.unwrap_or(0) > available {
            return Err(Overcommitted { min_unreserved, available });
        }
        match (entry.reserved, reserved) {
            (None, Some(_)) => self.sharing -= entry.in_flight,
            (Some(_), None) => self.sharing += entry.in_flight,
            _ => {}
        }
        self.reserved = others + reserved.unwrap_or(0);
        if entry.in_flight == 0 && reserved.is_none() {
            self.functions.remove(&function);
        } else {
            self.functions.insert(function, Function { reserved, ..entry });
        }
        Ok(())
    }

    /// The limit over all functions.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// What functions without a reservation share.
    pub fn unreserved(&self) -> u32 {
        self.limit - self.reserved
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
    /// became of it, `-a` releases one, `a=5` and `a=none` set its reservation.
    #[track_caller]
    fn check(limit: u32, script: &str, expected: &str) {
        let mut concurrency = Concurrency::new(limit);
        let verdicts: Vec<_> =
            script.split_whitespace().filter_map(|word| play(&mut concurrency, word)).collect();
        assert_eq!(verdicts.join(" "), expected);
    }

    fn play(concurrency: &mut Concurrency, word: &str) -> Option<String> {
        let key = |name: &str| u64::from(name.as_bytes()[0]);
        if let Some(name) = word.strip_prefix('-') {
            concurrency.release(key(name));
            return None;
        }
        if let Some((name, reserved)) = word.split_once('=') {
            let set = concurrency.set_reserved(key(name), reserved.parse().ok());
            return set.err().map(|Overcommitted { available, .. }| format!("at-most-{available}"));
        }
        Some(match concurrency.admit(key(word)) {
            Ok(()) => "ok".into(),
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
    fn a_release_without_a_request_is_ignored() {
        check(1, "-a a a", "ok account");
    }

    #[test]
    fn functions_that_are_no_longer_used_are_forgotten() {
        let mut concurrency = Concurrency::new(1);
        for function in 0..10_000 {
            assert_eq!(concurrency.admit(function), Ok(()));
            concurrency.release(function);
        }
        assert!(concurrency.functions.len() <= REMEMBERED);
    }
}
