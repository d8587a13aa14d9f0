//! Wires the crates together and serves until told to stop.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::exit::Exit;

/// Serves until SIGTERM or SIGINT, then drains.
pub async fn run(config: Config) -> Result<()> {
    Err(Error::new(Exit::Failure, format!("no server was wired into this build for {}", config.listen)))
}
