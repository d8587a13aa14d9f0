//! Whether a Node.js function is started once more, without an event, to keep what V8 makes of its modules.
//!
//! A compile cache saves a fifth to a third of the time in which a function loads, and costs a start and some disk. A
//! single small module even takes 0.1 ms longer with one.

use std::time::Duration;

/// Loading that takes less than this is left as it is.
pub const FROM: Duration = Duration::from_millis(10);

/// Whether it pays for a function whose code took so long to load.
pub fn pays(loading: Duration) -> bool {
    loading >= FROM
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_functions_are_left_alone() {
        assert!(!pays(Duration::from_micros(9_999)) && pays(FROM));
    }
}
