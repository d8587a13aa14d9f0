//! How keep-alive policies compare on traces of several shapes: `cargo run --release -p sim --example keepalive [TRACE …]`.
//!
//! For each policy: cold starts, idle memory, and how many cold starts there are for each one that a fixed timeout would have
//! cost with the same idle memory (between the fixed ones that were played: a straight line on a logarithmic scale).

use policy::keepalive::Policy;
use sim::tally::{Tally, relative};
use sim::trace::{Assumed, Shape, Synthetic, Trace};
use std::path::Path;

fn main() {
    let named = std::env::args().skip(1).map(|path| {
        let trace = Trace::at(Path::new(&path)).unwrap_or_else(|error| panic!("{error}"));
        (path, trace)
    });
    let mut traces: Vec<(String, Trace)> = named.collect();
    if traces.is_empty() {
        let shapes = [
            ("as published, a day", Shape::Paper, 24),
            ("as published, a week", Shape::Paper, 168),
            ("mostly timers", Shape::Timers, 48),
            ("all at random", Shape::Random, 48),
            ("all in bursts", Shape::Bursty, 48),
            ("a tenth as often, a week", Shape::Rare, 168),
            ("changing halfway", Shape::Changing, 96),
        ];
        traces = Vec::from(shapes.map(|(name, shape, hours)| {
            let seed = 1_000 + u64::from(hours);
            (name.to_string(), Trace::Synthetic(Synthetic { functions: 200, hours, seed, shape }))
        }));
    }
    let policies = sim::replay::policies();
    for (name, trace) in traces {
        let tallies =
            sim::study(&trace, &Assumed::default(), &policies).unwrap_or_else(|error| panic!("{error}"));
        println!("\n{name}: {} invocations", tallies[0].total.invocations);
        let fixed: Vec<Tally> = policies
            .iter()
            .zip(&tallies)
            .filter(|(config, _)| config.policy == Policy::Fixed)
            .map(|(_, tally)| tally.clone())
            .collect();
        for (config, tally) in policies.iter().zip(&tallies) {
            let minutes = config.timeout.as_secs() / 60;
            println!(
                "  {:<8}{minutes:>4} min {:>7} cold {:>6.1} % of functions {:>6.0} k GB-s idle {:>6} ahead {:>6} used  × {:.2}",
                format!("{:?}", config.policy),
                tally.total.cold,
                tally.cold_share(0.75) * 100.0,
                tally.idle_gb_s / 1e3,
                tally.total.ahead,
                tally.total.ahead_used,
                relative(&fixed, tally),
            );
        }
    }
}
