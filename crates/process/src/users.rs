//! A user of its own for each instance, where the server is root. Inside it is Lambda's as ever: the program's last step
//! before it begins is into a user namespace with that one user, who is a stranger on the machine (`init/program.rs`).
//!
//! The kernel counts by user what no other namespace divides: inotify instances, pipes, pending signals, descriptors in
//! flight, watches of epoll. As one user, one function could take them from all.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// As many users as a server has.
const COUNT: u32 = 1 << 16;
/// Numbers that nobody gives to anything: between those that systemd has for containers and those for foreign images.
/// Source: systemd, "Users, Groups, UIDs and GIDs on systemd Systems".
const FIRST: u32 = 0x7000_0000;
const BLOCKS: u32 = 4094;

/// The users of one server.
pub struct Users {
    first: u32,
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
    /// Those of the server with this name: another has others, but for a great coincidence.
    pub fn of(name: &str) -> Arc<Users> {
        let hash = name.bytes().fold(5381_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
        let state = State { are_there: true, next: 0, taken: BTreeSet::new() };
        Arc::new(Users { first: FIRST + COUNT * (hash % BLOCKS), state: Mutex::new(state) })
    }

    /// Whether instances are given users of their own from now on.
    pub fn are_there(&self, are_there: bool) {
        self.state.lock().expect("no panic while held").are_there = are_there;
    }

    /// One that nobody is; `None` where instances have none of their own.
    pub fn take(self: &Arc<Users>) -> Option<User> {
        let mut state = self.state.lock().expect("no panic while held");
        if !state.are_there {
            return None;
        }
        // In turn: of whoever has just gone something may still be counted.
        let number = (0..COUNT).map(|n| (state.next + n) % COUNT).find(|n| !state.taken.contains(n))?;
        state.next = (number + 1) % COUNT;
        state.taken.insert(number);
        Some(User { number: self.first + number, users: self.clone() })
    }
}

impl User {
    /// On the machine.
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut state = self.users.state.lock().expect("no panic while held");
        state.taken.remove(&(self.number - self.users.first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_who_somebody_else_is_or_has_just_been() {
        let users = Users::of("a server");
        let first = users.take().expect("a user");
        let second = users.take().expect("a user").number();
        let third = users.take().expect("a user").number();
        assert_eq!([second, third], [first.number() + 1, first.number() + 2]);
        for _ in 0..COUNT {
            assert_ne!(users.take().expect("a user").number(), first.number());
        }
    }

    #[test]
    fn servers_have_different_users_below_those_of_images() {
        let of = |name: &str| Users::of(name).take().expect("a user").number();
        assert_ne!(of("brooklet-0123456789abcdef"), of("brooklet-0123456789abcdee"));
        for n in 0..1000 {
            assert!((FIRST..2_147_352_576 - COUNT + 1).contains(&of(&n.to_string())), "{n}");
        }
    }

    #[test]
    fn where_there_are_none_all_are_one() {
        let users = Users::of("a server");
        users.are_there(false);
        assert!(users.take().is_none());
    }
}
