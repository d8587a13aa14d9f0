//! `bench coldstart`: what a function's cold starts consist of.

use crate::cli::{Coldstart, Output};
use crate::client::Answer;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::lambda::Lambda;
use crate::output;
use crate::project::{Project, Said};
use base64::Engine;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// The phases as REPORT names them, in the order in which they are shown.
const PHASES: [&str; 5] = ["queue", "code", "sandbox", "runtime", "init"];

/// A cold start: milliseconds of its phases, of all of it as its caller saw it, and what was used that had been made ahead.
struct Start {
    phases: [Option<f64>; PHASES.len()],
    caller: f64,
    used: Option<String>,
}

/// Runs the command.
pub async fn coldstart(args: Coldstart, lambda: &Lambda) -> Result<Exit> {
    let name = name(&args.name)?;
    if serde_json::from_str::<serde::de::IgnoredAny>(&args.data).is_err() {
        return Err(
            Error::new(Exit::Usage, "--data is not JSON").fix("text needs its quotes: --data '\"hello\"'")
        );
    }
    let progress = output::progress(format!("{} cold starts of {name}", args.count));
    let (mut starts, mut warm) = (Vec::new(), 0);
    for _ in 0..args.count {
        lambda.let_idle_go(&name, args.qualifier.as_deref()).await.map_err(|error| match error.exit {
            Exit::NotFound => error.fix(format!("deploy it first: brooklet deploy {}", args.name)),
            _ => error,
        })?;
        let began = Instant::now();
        let answer = lambda.invoke(&name, args.qualifier.as_deref(), args.data.clone().into(), true).await?;
        let caller = began.elapsed().as_secs_f64() * 1e3;
        if answer.header("x-amz-function-error").is_some() {
            return Err(Error::new(Exit::FunctionError, format!("{name} failed"))
                .because(String::from_utf8_lossy(&answer.body))
                .fix("give it an event that it answers: --data JSON"));
        }
        match start(&answer, caller) {
            Some(start) => starts.push(start),
            None => warm += 1,
        }
    }
    drop(progress);
    if starts.is_empty() {
        return Err(Error::new(Exit::Failure, "no start was cold")
            .because("an instance was there each time")
            .fix("measure a version without provisioned concurrency, while nobody else calls it"));
    }
    let rows = summary(&starts);
    match args.output {
        Output::Json => output::json(&json!({
            "function": name,
            "coldStarts": starts.len(),
            "warm": warm,
            "ms": rows.iter().map(|(phase, [p50, p90, max])| {
                ((*phase).to_owned(), json!({ "p50": p50, "p90": p90, "max": max }))
            }).collect::<serde_json::Map<_, _>>(),
            "used": used(&starts),
        }))?,
        Output::Table => {
            let cells = |(phase, times): &(&str, [f64; 3])| {
                let times = times.iter().map(|ms| format!("{ms:.2}"));
                std::iter::once((*phase).to_owned()).chain(times).collect::<Vec<_>>()
            };
            let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
            output::line(output::table(&["phase", "p50 ms", "p90 ms", "max ms"], &rows))?;
            let kinds = used(&starts);
            let kinds = ["forked", "waited", "booted"].map(|kind| format!("{} {kind}", kinds[kind]));
            output::note(format!(
                "{} cold starts, runtimes: {}; {warm} were not cold",
                starts.len(),
                kinds.join(", ")
            ));
        }
    }
    Ok(Exit::Success)
}

/// Of a folder, the one function that is declared there.
fn name(given: &str) -> Result<String> {
    let path = Path::new(given);
    if !path.is_dir() || !(given.contains('/') || given == ".") {
        return Ok(given.to_owned());
    }
    let project = Project::open(path, &Said { name: None, runtime: None, handler: None })?;
    match &project.functions[..] {
        [function] => Ok(function.name.clone()),
        functions => Err(Error::new(Exit::Usage, format!("{given} has {} functions", functions.len()))
            .fix("name one of them: brooklet bench coldstart NAME")),
    }
}

/// What REPORT, at the end of the log's tail, says of the start; `None` when it was not cold.
fn start(answer: &Answer, caller: f64) -> Option<Start> {
    let log = answer.header("x-amz-log-result")?;
    let log = base64::engine::general_purpose::STANDARD.decode(log).ok()?;
    phases(&String::from_utf8_lossy(&log)).map(|(phases, used)| Start { phases, caller, used })
}

fn phases(log: &str) -> Option<([Option<f64>; PHASES.len()], Option<String>)> {
    if let Some(report) = log.lines().rev().find(|line| line.starts_with("REPORT ")) {
        let said = report.split('\t').find_map(|field| field.strip_prefix("Cold Start: "))?;
        let of = |phase: &str| {
            let part = said.split(", ").find_map(|part| part.strip_prefix(phase)?.strip_prefix(' '))?;
            part.split(' ').next()?.parse().ok()
        };
        let used = ["forked", "waited"].into_iter().find(|used| said.contains(&format!("({used})")));
        return Some((PHASES.map(of), used.map(str::to_owned)));
    }
    let parsed = log.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let report = parsed.into_iter().find(|entry| entry["type"] == "platform.report")?;
    let cold = report["record"].get("coldStart")?;
    let used = match cold["used"].as_str() {
        Some("fork") => Some("forked".to_owned()),
        Some(_) => Some("waited".to_owned()),
        None => None,
    };
    Some((PHASES.map(|phase| cold[format!("{phase}Ms")].as_f64()), used))
}

/// Median, 90th percentile and most of each phase that is known, and of what the caller waited.
fn summary(starts: &[Start]) -> Vec<(&'static str, [f64; 3])> {
    let of = |times: Vec<f64>| {
        let mut times = times;
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
        (!times.is_empty()).then(|| [at(0.5), at(0.9), at(1.0)])
    };
    let phase = |index: usize| of(starts.iter().filter_map(|start| start.phases[index]).collect());
    let mut rows: Vec<_> =
        PHASES.iter().enumerate().filter_map(|(index, name)| Some((*name, phase(index)?))).collect();
    rows.extend(of(starts.iter().map(|start| start.caller).collect()).map(|times| ("caller", times)));
    rows
}

/// How many starts took which kind of runtime.
fn used(starts: &[Start]) -> Value {
    let count = |kind: Option<&str>| starts.iter().filter(|start| start.used.as_deref() == kind).count();
    json!({ "forked": count(Some("forked")), "waited": count(Some("waited")), "booted": count(None) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "8f5a0000-0000-4000-8000-000000000000";

    #[test]
    fn the_phases_are_read_from_the_report_of_either_format() {
        let text = format!(
            "START RequestId: {ID} Version: $LATEST\nEND RequestId: {ID}\nREPORT RequestId: {ID}\tDuration: 1.00 ms\t\
             Init Duration: 4.00 ms\tCold Start: queue 0.10 ms, code 0.00 ms, sandbox 1.50 ms, runtime 0.00 ms (forked), \
             init 2.40 ms\t\n"
        );
        let expected = [Some(0.1), Some(0.0), Some(1.5), Some(0.0), Some(2.4)];
        assert_eq!(phases(&text), Some((expected, Some("forked".into()))));
        let json = r#"{"type":"platform.report","record":{"coldStart":{"queueMs":0.1,"codeMs":0.0,"sandboxMs":1.5,"initMs":2.4}}}"#;
        assert_eq!(phases(json), Some(([Some(0.1), Some(0.0), Some(1.5), None, Some(2.4)], None)));
        assert_eq!(phases(&text.replace("Cold Start", "Other")), None);
    }

    #[test]
    fn a_summary_leaves_out_what_is_not_known() {
        let start = |sandbox| Start {
            phases: [Some(0.0), Some(0.0), Some(sandbox), None, Some(1.0)],
            caller: sandbox + 1.0,
            used: None,
        };
        let rows = summary(&(1..=10).map(|ms| start(f64::from(ms))).collect::<Vec<_>>());
        let names: Vec<_> = rows.iter().map(|row| row.0).collect();
        assert_eq!(names, ["queue", "code", "sandbox", "init", "caller"]);
        assert_eq!(rows[2].1, [6.0, 9.0, 10.0]);
    }
}
