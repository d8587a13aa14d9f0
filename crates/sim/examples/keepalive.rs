use policy::keepalive::Config;
use sim::trace::{Assumed, Shape, Synthetic, Trace};

fn main() {
    let paper = |functions, hours, seed, shape| Trace::Synthetic(Synthetic { functions, hours, seed, shape });
    let mut traces = vec![];
    for path in std::env::args().skip(1) {
        traces.push((
            path.clone(),
            Trace::at(std::path::Path::new(&path)).unwrap_or_else(|error| panic!("{error}")),
        ));
    }
    if traces.is_empty() {
        for (name, shape, hours) in [
            ("paper", Shape::Paper, 24),
            ("paper", Shape::Paper, 168),
            ("timers", Shape::Timers, 48),
            ("random", Shape::Random, 48),
            ("bursty", Shape::Bursty, 48),
            ("rare", Shape::Rare, 168),
            ("changing", Shape::Changing, 96),
        ] {
            traces.push((format!("{name} {hours}h"), paper(150, hours, 7 + hours as u64, shape)));
        }
    }
    let policies: Vec<Config> = sim::replay::policies();
    for (name, trace) in traces {
        let began = std::time::Instant::now();
        let tallies =
            sim::study(&trace, &Assumed::default(), &policies).unwrap_or_else(|error| panic!("{error}"));
        if std::env::var("K_SCORE").is_ok() {
            let pts = |p: policy::keepalive::Policy| {
                policies
                    .iter()
                    .zip(&tallies)
                    .filter(|(c, _)| c.policy == p)
                    .map(|(_, t)| (t.idle_gb_s.ln(), (t.total.cold as f64).ln()))
                    .collect::<Vec<_>>()
            };
            let fixed = pts(policy::keepalive::Policy::Fixed);
            print!("{name:>14}:");
            for (idle, cold) in pts(policy::keepalive::Policy::Learned) {
                let k = (1..fixed.len() - 1).find(|&k| fixed[k].0 >= idle).unwrap_or(fixed.len() - 1);
                let (a, b) = (fixed[k - 1], fixed[k]);
                let at = a.1 + (b.1 - a.1) * (idle - a.0) / (b.0 - a.0);
                print!(" {:.2}", (cold - at).exp());
            }
            println!();
            continue;
        }
        println!("{name}: {} invocations, {:?}", tallies[0].total.invocations, began.elapsed());
        for (config, tally) in policies.iter().zip(&tallies) {
            println!(
                "  {:<8} {:>4} min  cold {:>7} {:>7.3} %  p75 {:>5.1} %  idle {:>9.0} GB-s  ahead {:>6}/{:<6} p99 {:?}",
                format!("{:?}", config.policy),
                config.timeout.as_secs() / 60,
                tally.total.cold,
                tally.total.cold as f64 / tally.total.invocations as f64 * 100.0,
                tally.cold_share(0.75) * 100.0,
                tally.idle_gb_s,
                tally.total.ahead_used,
                tally.total.ahead,
                tally.latency.percentile(0.99),
            );
        }
    }
}
