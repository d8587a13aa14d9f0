//! One binary: commands, configuration, wiring.
fn main() {}
