//! A user of its own for each instance, where the server is root. Inside it is Lambda's as ever: the program's last step
//! before it begins is into a user namespace with that one user, who is a stranger on the machine (`init/program.rs`).
//!
//! The kernel counts by user what no other namespace divides: inotify instances, pipes, pending signals, descriptors in
//! flight, watches of epoll. As one user, one function could take them from all.

use crate::sandbox::TASKS;
use crate::script::{Script, ops};
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// As many users as a server has that was not told which.
const COUNT: u32 = 1 << 16;
/// Numbers that nobody gives to anything: between those that systemd has for containers and those for foreign images.
/// Source: systemd, "Users, Groups, UIDs and GIDs on systemd Systems".
const FIRST: u32 = 0x7000_0000;
const BLOCKS: u32 = 4094;

/// The users of one server.
pub struct Users {
    numbers: Range<u32>,
    state: Mutex<State>,
}

struct State {
    are_there: bool,
    next: u32,
    taken: BTreeSet<u32>,
}

/// One of them, until it is dropped. Its number is that of its group, too.
pub struct User {
    number: u32,
    users: Arc<Users>,
}

impl Users {
    /// With these numbers, and no others.
    pub fn new(numbers: Range<u32>) -> Arc<Users> {
        let state = State { are_there: true, next: numbers.start, taken: BTreeSet::new() };
        Arc::new(Users { numbers, state: Mutex::new(state) })
    }

    /// All of them, also those that somebody is.
    pub fn numbers(&self) -> &Range<u32> {
        &self.numbers
    }

    /// Whether instances are given users of their own from now on.
    pub fn are_there(&self, are_there: bool) {
        self.state.lock().expect("no panic while held").are_there = are_there;
    }

    /// One that nobody is; `None` where instances have none of their own.
    ///
    /// # Errors
    /// [`QuotaExceeded`](io::ErrorKind::QuotaExceeded) when each is somebody's.
    pub fn take(self: &Arc<Users>) -> io::Result<Option<User>> {
        let mut state = self.state.lock().expect("no panic while held");
        if !state.are_there {
            return Ok(None);
        }
        // In turn: of whoever has just gone something may still be counted.
        let in_turn = (state.next..self.numbers.end).chain(self.numbers.start..state.next);
        let number = in_turn.into_iter().find(|number| !state.taken.contains(number)).ok_or_else(|| {
            let all = format!("all {} users that instances may be are taken", self.numbers.len());
            io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!("{all}: try again, or give more with `users`"),
            )
        })?;
        state.next = number + 1;
        state.taken.insert(number);
        Ok(Some(User { number, users: self.clone() }))
    }
}

/// The numbers of the server with this name, when it was not told which: another has others, but for a great coincidence.
pub fn numbers_of(name: &str) -> Range<u32> {
    let hash = name.bytes().fold(5381_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
    let first = FIRST + COUNT * (hash % BLOCKS);
    first..first + COUNT
}

/// Who has some of these numbers already, by the texts of `/etc/passwd` (or `/etc/group`) and of `/etc/subuid` (or
/// `/etc/subgid`): the first of each. Lines that say something else are passed over.
pub fn holders(numbers: &Range<u32>, named: &str, subordinate: &str) -> Vec<String> {
    let holder = |line: &str| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        numbers.contains(&number).then(|| format!("{name} is {number}"))
    };
    let subordinates = |line: &str| {
        let mut fields = line.split(':');
        let (name, first, count) =
            (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        let end = u32::saturating_add(first, count);
        (first < numbers.end && numbers.start < end).then(|| format!("{name} may use {first} to {}", end - 1))
    };
    let (named, subordinate) = (named.lines().find_map(holder), subordinate.lines().find_map(subordinates));
    named.into_iter().chain(subordinate).collect()
}

impl User {
    /// What a process does to be this user. What it may make of processes is counted by user as well as by group: a fork is
    /// then refused before it has copied anything, and where there is no such group it is refused too.
    pub fn script(&self) -> Script {
        let mut script = Script::default();
        script.add(ops::USER, &[]).number(self.number);
        script.add(ops::LIMIT, &[]).number(libc::RLIMIT_NPROC).number(TASKS);
        script
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut state = self.users.state.lock().expect("no panic while held");
        state.taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_who_somebody_else_is_or_has_just_been() {
        let users = Users::new(2_000_000..2_001_000);
        let take = || users.take().map(|user| user.expect("users are there"));
        let first = take().expect("a user");
        let second = take().expect("a user").number;
        let third = take().expect("a user").number;
        assert_eq!([second, third], [first.number + 1, first.number + 2]);
        assert_eq!(first.number, 2_000_000);
        for _ in 0..2_000 {
            assert_ne!(take().expect("a user").number, first.number);
        }
        let rest: Vec<User> = std::iter::from_fn(|| take().ok()).collect();
        assert_eq!(rest.len(), 999, "all but the first");
        let refused = take().err().expect("none is left");
        assert_eq!(
            (refused.kind(), refused.to_string().as_str()),
            (
                io::ErrorKind::QuotaExceeded,
                "all 1000 users that instances may be are taken: try again, or give more with `users`"
            )
        );
        assert!(rest.iter().all(|user| (2_000_001..2_001_000).contains(&user.number)));
    }

    #[test]
    fn whoever_has_one_of_the_numbers_is_found() {
        let passwd = "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n\nodd line\nbob:x:2000000:1::/:/bin/sh\n";
        let subuid = "ada:100000:65536\nbob:1999000:1001\n";
        let check = |numbers: Range<u32>| holders(&numbers, passwd, subuid);
        assert_eq!(check(FIRST..FIRST + COUNT), Vec::<String>::new());
        assert_eq!(check(165_536..200_000), Vec::<String>::new());
        assert_eq!(check(165_535..200_000), ["ada may use 100000 to 165535"]);
        assert_eq!(check(2_000_000..2_001_024), ["bob is 2000000", "bob may use 1999000 to 2000000"]);
    }

    #[test]
    fn servers_have_different_users_below_those_of_images() {
        assert_ne!(numbers_of("brooklet-0123456789abcdef"), numbers_of("brooklet-0123456789abcdee"));
        for n in 0..1000 {
            let numbers = numbers_of(&n.to_string());
            assert!(
                numbers.start >= FIRST && numbers.end <= 2_147_352_576 && numbers.len() == COUNT as usize,
                "{n}"
            );
        }
    }

    #[test]
    fn where_there_are_none_all_are_one() {
        let users = Users::new(1..9);
        users.are_there(false);
        assert!(users.take().expect("no error").is_none());
    }
}
