//! Builds what is in `init/`, which the executor carries and lays out for itself: the sandboxes' first process, and the
//! libraries that make an interpreter a zygote and a JVM an instance.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=init");
    build("init", "main.rs", "--crate-type=bin -Crelocation-model=static -Clink-arg=-static");
    build("zygote.so", "zygote.rs", "--crate-type=cdylib");
    build("jvm.so", "jvm.rs", "--crate-type=cdylib");
}

fn build(name: &str, root: &str, options: &str) {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let output = PathBuf::from(variable("OUT_DIR")).join(name);
    // Whatever the profile: without optimisation they would need parts of a runtime that they do not have.
    let common = "--edition=2024 --crate-name=init -Copt-level=s -Clto=fat -Cpanic=abort -Cstrip=symbols \
                  -Clink-arg=-nostartfiles -Clink-arg=-nostdlib";
    // For another architecture cargo knows which one links, if the user has told it.
    let linker = std::env::var("RUSTC_LINKER").map(|linker| format!("-Clinker={linker}"));
    let status = Command::new(variable("RUSTC"))
        .args(linker)
        .args(common.split_whitespace().chain(options.split_whitespace()))
        .args(["--target", &variable("TARGET")])
        .arg(PathBuf::from("init").join(root))
        .arg("-o")
        .arg(&output)
        .status()
        .expect("rustc can be started");
    assert!(status.success(), "{name} could not be built");
}
