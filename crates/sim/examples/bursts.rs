//! What bursts cost: `cargo run --release -p sim --example bursts`.
//!
//! Simulated time on a machine of two cores, which starts and requests share as far as they compute. "Unused":
//! instances that never ran a request.

use sim::scenario::{Function, Workload};
use sim::{Scenario, run};
use std::time::Duration;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn main() {
    println!(
        "{:<40} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}",
        "", "p50 ms", "p90 ms", "p99 ms", "last ms", "instances", "unused"
    );
    let kinds = [
        ("0.1 ms, computing", Duration::from_micros(100), 1.0),
        ("1 ms, waiting", ms(1), 0.05),
        ("5 ms, computing", ms(5), 1.0),
        ("20 ms, waiting", ms(20), 0.05),
        ("1 s, waiting", ms(1_000), 0.001),
    ];
    for (name, service, service_work) in kinds {
        for size in [128, 1_000] {
            let function = Function { service_work, ..Function::burst(size, service, ms(30)) };
            show(&format!("{size} at once, {name}"), function);
        }
        for callers in [128, 512] {
            let workload = Workload::Closed(callers, Duration::from_micros(20));
            let requests = (12_000_000 / service.as_micros() as u64).clamp(4_000, 60_000);
            let function =
                Function { service_work, workload, requests, ..Function::burst(0, service, ms(30)) };
            show(&format!("{callers} callers, {name}"), function);
        }
    }
    for (init, start_work) in [("waits", 0.01), ("computes", 1.0)] {
        for (name, service) in [("0.1 ms", Duration::from_micros(100)), ("1 s", ms(1_000))] {
            let function = Function { start_work, ..Function::burst(100, service, ms(2_000)) };
            show(&format!("100 at once, {name}, init {init} 2 s"), function);
        }
    }
}

fn show(name: &str, function: Function) {
    match run(&Scenario::quiet(vec![function], 2)) {
        Err(failure) => println!("{name:<40} {}", failure.rule),
        Ok(report) => {
            let [p50, p90, p99, last] =
                [0.5, 0.9, 0.99, 1.0].map(|share| report.response(share).as_secs_f64() * 1e3);
            let (starts, unused) = (report.starts, report.unused);
            println!("{name:<40} {p50:>9.1} {p90:>9.1} {p99:>9.1} {last:>9.1} {starts:>9} {unused:>7}");
        }
    }
}
