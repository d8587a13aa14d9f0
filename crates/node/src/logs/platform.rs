//! The platform's own entries in Lambda's words.
//!
//! Source: AWS Lambda developer guide, "Log formats" and the Telemetry API's event schema (`platform.start`,
//! `platform.initReport`, `platform.report`, `platform.logsDropped`).

use super::EntryKind;
use crate::clock::iso;
use model::{ColdStart, MadeAhead, MeterRecord, RequestId, Status, Timestamp};
use serde_json::{Map, Value, json};

/// Plain text.
pub fn text(id: Option<RequestId>, kind: &EntryKind) -> String {
    let id = id.map(|id| id.to_string()).unwrap_or_default();
    match kind {
        EntryKind::Line(text) => text.clone(),
        EntryKind::Start(version) => format!("START RequestId: {id} Version: {version}"),
        EntryKind::InitReport { duration_us, error_type, cold_start, .. } => {
            let mut status = match error_type {
                Some(kind) => format!("Status: error\tError Type: {kind}"),
                None => "Status: timeout".into(),
            };
            if let Some(cold_start) = cold_start {
                status.push_str(&format!("\t{}", phases(cold_start)));
            }
            format!("INIT_REPORT Init Duration: {} ms\tPhase: init\t{status}", millis(*duration_us))
        }
        EntryKind::InitStart { runtime, .. } => format!("INIT_START Runtime Version: {runtime}"),
        EntryKind::InitDone { duration_us, cold_start } => format!(
            "INIT_REPORT Init Duration: {} ms\tPhase: init\tStatus: success\t{}",
            millis(*duration_us),
            phases(cold_start)
        ),
        EntryKind::StartedAhead { duration_us, initialization, cold_start } => {
            let why = match initialization.as_str() {
                "provisioned-concurrency" => "Provisioned concurrency",
                "snap-start" => "SnapStart",
                _ => "Started ahead of a request",
            };
            let why = format!("{why}\t{}", phases(cold_start));
            format!(
                "INIT_REPORT Init Duration: {} ms\tPhase: init\tStatus: success\t{why}",
                millis(*duration_us)
            )
        }
        EntryKind::Report(record) => format!("END RequestId: {id}\n{}", report(record)),
        EntryKind::Dropped { entries, bytes } => {
            format!("LOGS DROPPED: {entries} lines of {bytes} bytes came faster than they could be written")
        }
    }
}

/// One JSON document.
pub fn json(at: Timestamp, id: Option<RequestId>, kind: &EntryKind) -> String {
    let mut record = Map::new();
    if let Some(id) = id {
        record.insert("requestId".into(), json!(id));
    }
    let kind = match kind {
        EntryKind::Line(text) => return text.clone(),
        EntryKind::Start(version) => {
            record.insert("version".into(), json!(version));
            "platform.start"
        }
        EntryKind::InitReport { duration_us, error_type, initialization, cold_start } => {
            cold_start.as_ref().map(|cold| record.insert("coldStart".into(), json_phases(cold)));
            record.insert("initializationType".into(), json!(initialization));
            record.insert("phase".into(), json!("init"));
            record.insert("status".into(), json!(if error_type.is_some() { "error" } else { "timeout" }));
            error_type.as_ref().map(|kind| record.insert("errorType".into(), json!(kind)));
            record.insert("metrics".into(), json!({ "durationMs": number(*duration_us) }));
            "platform.initReport"
        }
        EntryKind::InitStart { version, runtime, initialization } => {
            record.insert("initializationType".into(), json!(initialization));
            record.insert("phase".into(), json!("init"));
            record.insert("functionVersion".into(), json!(version));
            record.insert("runtimeVersion".into(), json!(runtime));
            "platform.initStart"
        }
        EntryKind::InitDone { duration_us, cold_start } => {
            let done = json!({ "initializationType": "on-demand", "phase": "init", "status": "success" });
            let mut report = done.clone();
            report["metrics"] = json!({ "durationMs": number(*duration_us) });
            report["coldStart"] = json_phases(cold_start);
            let line = |kind, record| json!({ "time": iso(at), "type": kind, "record": record }).to_string();
            return [line("platform.initRuntimeDone", done), line("platform.initReport", report)].join("\n");
        }
        EntryKind::StartedAhead { duration_us, initialization, cold_start } => {
            record.insert("coldStart".into(), json_phases(cold_start));
            record.insert("initializationType".into(), json!(initialization));
            record.insert("phase".into(), json!("init"));
            record.insert("status".into(), json!("success"));
            record.insert("metrics".into(), json!({ "durationMs": number(*duration_us) }));
            "platform.initReport"
        }
        EntryKind::Report(report) => {
            record.insert("metrics".into(), metrics(report));
            record.insert("status".into(), json!(status(report.status)));
            report.error_type.as_ref().map(|kind| record.insert("errorType".into(), json!(kind)));
            report.cold_start.as_ref().map(|cold| record.insert("coldStart".into(), json_phases(cold)));
            "platform.report"
        }
        EntryKind::Dropped { entries, bytes } => {
            record.insert("reason".into(), json!("The lines came faster than they could be written."));
            record.insert("droppedRecords".into(), json!(entries));
            record.insert("droppedBytes".into(), json!(bytes));
            "platform.logsDropped"
        }
    };
    json!({ "time": iso(at), "type": kind, "record": record }).to_string()
}

fn metrics(record: &MeterRecord) -> Value {
    let mut metrics = json!({
        "durationMs": number(record.duration_us),
        "billedDurationMs": record.billed_ms,
        "memorySizeMB": record.memory.0,
        "maxMemoryUsedMB": record.max_memory.0,
    });
    if let Some(init) = record.init_us {
        metrics["initDurationMs"] = number(init);
    }
    metrics
}

fn report(record: &MeterRecord) -> String {
    let mut line = format!(
        "REPORT RequestId: {}\tDuration: {} ms\tBilled Duration: {} ms\tMemory Size: {} MB\tMax Memory Used: {} MB\t",
        record.request_id,
        millis(record.duration_us),
        record.billed_ms,
        record.memory.0,
        record.max_memory.0,
    );
    if let Some(init) = record.init_us {
        line.push_str(&format!("Init Duration: {} ms\t", millis(init)));
    }
    match (status(record.status), &record.error_type) {
        ("success", _) => {}
        ("timeout", _) => line.push_str("Status: timeout"),
        (status, Some(kind)) => line.push_str(&format!("Status: {status}\tError Type: {kind}")),
        // A function that answered with an error of its own has succeeded as far as the platform goes.
        (_, None) => {}
    }
    // Lambda's fields come first: what reads them need not know of this one.
    if let Some(cold_start) = &record.cold_start {
        let sep = if line.ends_with('\t') { "" } else { "\t" };
        line.push_str(&format!("{sep}{}\t", phases(cold_start)));
    }
    line
}

/// `Cold Start: queue 0.05 ms, code 0.00 ms, sandbox 1.20 ms, runtime 0.00 ms (forked), init 2.10 ms`.
fn phases(cold_start: &ColdStart) -> String {
    let ColdStart { queue_us, code_us, sandbox_us, runtime_us, init_us, used } = *cold_start;
    let used = match used {
        Some(MadeAhead::Runtime) => " (waited)",
        Some(MadeAhead::Fork) => " (forked)",
        None => "",
    };
    let runtime = runtime_us.map_or(String::new(), |us| format!(", runtime {} ms{used}", millis(us)));
    let init = init_us.map_or(String::new(), |us| format!(", init {} ms", millis(us)));
    format!(
        "Cold Start: queue {} ms, code {} ms, sandbox {} ms{runtime}{init}",
        millis(queue_us),
        millis(code_us),
        millis(sandbox_us),
    )
}

fn json_phases(cold_start: &ColdStart) -> Value {
    let ColdStart { queue_us, code_us, sandbox_us, runtime_us, init_us, used } = *cold_start;
    let mut phases = json!({
        "queueMs": number(queue_us),
        "codeMs": number(code_us),
        "sandboxMs": number(sandbox_us),
    });
    for (phase, us) in [("runtimeMs", runtime_us), ("initMs", init_us)] {
        if let Some(us) = us {
            phases[phase] = number(us);
        }
    }
    if let Some(used) = used {
        phases["used"] = json!(used);
    }
    phases
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Success => "success",
        Status::Timeout => "timeout",
        Status::Error | Status::Crash | Status::InitError => "error",
    }
}

/// Milliseconds with two digits, as Lambda prints them.
fn millis(us: u64) -> String {
    format!("{}.{:02}", us / 1000, us % 1000 / 10)
}

fn number(us: u64) -> Value {
    json!(us as f64 / 1000.0)
}
