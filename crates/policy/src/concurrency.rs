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
