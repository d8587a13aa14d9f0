//! Builds the sandboxes' first process (`init/`), which the executor carries and lays out for itself.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=init");
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let program = PathBuf::from(variable("OUT_DIR")).join("init");
    // Whatever the profile: without optimisation it would need parts of a runtime that it does not have.
    let options = "--edition=2024 --crate-name=init -Copt-level=s -Clto=fat -Cpanic=abort -Cstrip=symbols \
                   -Crelocation-model=static -Clink-arg=-nostartfiles -Clink-arg=-nostdlib -Clink-arg=-static";
    let status = Command::new(variable("RUSTC"))
        .args(options.split_whitespace())
        .args(["--target", &variable("TARGET"), "init/main.rs", "-o"])
        .arg(&program)
        .status()
        .expect("rustc can be started");
    assert!(status.success(), "init could not be built");
}
