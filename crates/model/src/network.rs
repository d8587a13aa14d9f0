//! What a function may reach over the network.

use serde::{Deserialize, Serialize};

/// What the instances of a function reach. Whatever it is, they reach Brooklet's own API and the endpoints that the
/// server's configuration names for functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Nothing else.
    None,
    /// What the machine reaches: not the machine itself, not link-local addresses, not other instances.
    Internet,
    /// Everything: the machine's own network is shared.
    Host,
}

impl Network {
    /// All of them, as they are written.
    pub const NAMES: [&'static str; 3] = ["none", "internet", "host"];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Network::None => "none",
            Network::Internet => "internet",
            Network::Host => "host",
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Network, ()> {
        [Network::None, Network::Internet, Network::Host].into_iter().find(|one| one.name() == text).ok_or(())
    }
}
