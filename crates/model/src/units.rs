//! Sizes as types, so that a MiB is never taken for a byte.

use serde::{Deserialize, Serialize};

/// Mebibytes (2^20 bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MiB(pub u32);

impl MiB {
    /// The same size in bytes.
    pub const fn bytes(self) -> u64 {
        (self.0 as u64) << 20
    }

    /// The smallest number of MiB that holds `bytes`.
    pub const fn from_bytes_ceil(bytes: u64) -> MiB {
        MiB(bytes.div_ceil(1 << 20) as u32)
    }
}

impl std::fmt::Display for MiB {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} MiB", self.0)
    }
}
