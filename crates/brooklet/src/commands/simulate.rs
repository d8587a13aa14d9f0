//! `brooklet simulate`: what keep-alive policies would have cost on a trace.

use crate::chart::{Chart, Series, short};
use crate::cli::{Output, Simulate};
use crate::error::{Doing, Error, Result};
use crate::exit::Exit;
use crate::output;
use crate::units::{KeepAlive, show_duration};
use policy::keepalive::{Config, Policy};
use serde_json::{Value, json};
use sim::Trace;
use sim::tally::Tally;
use sim::trace::{Assumed, Synthetic, TraceError};
use std::time::Duration;

/// Carries the command out.
pub fn run(args: Simulate) -> Result<Exit> {
    let trace = trace(&args)?;
    let policies: Vec<Config> = match args.policy.is_empty() {
        true => sim::replay::policies(),
        false => args.policy.iter().map(|KeepAlive(config)| Config { bin: args.bin, ..*config }).collect(),
    };
    let assumed = Assumed { start: args.start, ..Assumed::default() };
    let progress = output::progress("playing the trace");
    let tallies = sim::study(&trace, &assumed, &policies).map_err(not_read)?;
    drop(progress);
    let chart = chart(&policies, &tallies);
    if let Some(file) = &args.plot {
        std::fs::write(file, chart.svg()).doing(|| format!("write {}", file.display()))?;
    }
    match args.output {
        Output::Json => output::json(&json!(policies.iter().zip(&tallies).map(report).collect::<Vec<_>>()))?,
        Output::Table => {
            let total = &tallies[0].total;
            output::line(format!(
                "{} invocations of {} functions; {} GB-s of work",
                total.invocations,
                tallies[0].functions,
                short(tallies[0].busy_gb_s)
            ))?;
            output::line(format!("\n{}\n\n{}", table(&policies, &tallies), chart.text(64, 17)))?;
        }
    }
    if let Some(file) = &args.plot {
        output::note(format!("The plot is in {}.", file.display()));
    }
    Ok(Exit::Success)
}

fn trace(args: &Simulate) -> Result<Trace> {
    match (&args.trace, &args.data_dir, args.synthetic) {
        (Some(path), None, false) | (None, Some(path), false) => Trace::at(path).map_err(not_read),
        (None, None, true) => Ok(Trace::Synthetic(Synthetic {
            functions: args.functions,
            hours: args.hours,
            seed: args.seed,
            shape: args.shape.into(),
        })),
        _ => Err(Error::new(Exit::Usage, "there is nothing to simulate")
            .fix("name a trace (--trace), a server's data directory (--data-dir), or say --synthetic")),
    }
}

fn not_read(error: TraceError) -> Error {
    let exit = if error.place == (0, 0) { Exit::Failure } else { Exit::Mistakes };
    Error::new(exit, error.to_string())
        .fix("docs/keep-alive.md says what a trace looks like and how to name it")
}

/// `learned 10m`.
fn name(config: &Config) -> String {
    let policy = match config.policy {
        Policy::Fixed => "fixed",
        Policy::Hybrid => "hybrid",
        Policy::Learned => "learned",
    };
    let (seconds, whole) = (config.timeout.as_secs(), config.timeout.subsec_nanos() == 0);
    let span = match seconds {
        _ if !whole => format!("{}ms", config.timeout.as_millis()),
        _ if seconds >= 7_200 && seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        _ if seconds >= 60 && seconds % 60 == 0 => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    };
    format!("{policy} {span}")
}

fn table(policies: &[Config], tallies: &[Tally]) -> String {
    let row = |(config, tally): (&Config, &Tally)| {
        let percent = |share: f64| format!("{:.2} %", share * 100.0);
        let ahead = match tally.total.ahead {
            0 => "0".to_string(),
            count => format!("{count} ({:.0} % used)", tally.total.ahead_used as f64 / count as f64 * 100.0),
        };
        vec![
            name(config),
            tally.total.cold.to_string(),
            percent(cold_share(tally)),
            format!("{:.1} %", tally.cold_share(0.75) * 100.0),
            short(tally.idle_gb_s),
            format!("{} / {}", latency(tally.wait.percentile(0.99)), latency(tally.wait.percentile(0.999))),
            format!(
                "{} / {}",
                latency(tally.latency.percentile(0.5)),
                latency(tally.latency.percentile(0.99))
            ),
            ahead,
        ]
    };
    let rows: Vec<_> = policies.iter().zip(tallies).map(row).collect();
    let header = [
        "POLICY",
        "COLD STARTS",
        "SHARE",
        "OF 3 IN 4 FUNCTIONS",
        "IDLE GB-S",
        "WAIT P99 / P99.9",
        "LATENCY P50 / P99",
        "STARTED AHEAD",
    ];
    output::table(&header, &rows)
}

fn latency(span: Duration) -> String {
    if span < Duration::from_millis(10) {
        format!("{:.1} ms", span.as_secs_f64() * 1e3)
    } else {
        show_duration(span)
    }
}

fn cold_share(tally: &Tally) -> f64 {
    tally.total.cold as f64 / tally.total.invocations.max(1) as f64
}

/// One policy for scripts: counts, shares (0 to 1), GB-seconds, milliseconds.
fn report((config, tally): (&Config, &Tally)) -> Value {
    let percentiles = |latencies: &sim::tally::Latencies| {
        let ms = |share: f64| latencies.percentile(share).as_secs_f64() * 1e3;
        json!({ "p50": ms(0.5), "p75": ms(0.75), "p95": ms(0.95), "p99": ms(0.99), "p99.9": ms(0.999), "max": ms(1.0) })
    };
    json!({
        "policy": name(config),
        "functions": tally.functions,
        "invocations": tally.total.invocations,
        "coldStarts": tally.total.cold,
        "coldShare": cold_share(tally),
        "coldShareOfFunctions": {
            "p25": tally.cold_share(0.25), "p50": tally.cold_share(0.5), "p75": tally.cold_share(0.75), "p99": tally.cold_share(0.99),
        },
        "idleGbSeconds": tally.idle_gb_s,
        "busyGbSeconds": tally.busy_gb_s,
        "starts": tally.total.starts,
        "startedAhead": tally.total.ahead,
        "startedAheadUsed": tally.total.ahead_used,
        "waitMs": percentiles(&tally.wait),
        "latencyMs": percentiles(&tally.latency),
    })
}

fn chart(policies: &[Config], tallies: &[Tally]) -> Chart {
    let series = |policy, name, mark, colour| {
        let of = policies.iter().zip(tallies).filter(|(config, _)| config.policy == policy);
        let mut points: Vec<_> = of
            .map(|(config, tally)| (self::name(config), tally.idle_gb_s, tally.total.cold as f64))
            .collect();
        points.sort_by(|a, b| a.1.total_cmp(&b.1));
        Series { name, mark, colour, points }
    };
    Chart {
        title: "Keep-alive policies: cold starts against idle memory".into(),
        x: "idle memory, GB-s",
        y: "cold starts",
        series: vec![
            series(Policy::Fixed, "fixed", 'o', "#777777"),
            series(Policy::Hybrid, "hybrid", '+', "#1f6fb4"),
            series(Policy::Learned, "learned", '*', "#c2410c"),
        ],
    }
}
