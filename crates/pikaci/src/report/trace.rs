//! A run in the trace-event format that Perfetto and `chrome://tracing` open: phases of the engine,
//! prepares and jobs, each on a lane of its own.
//!
//! ```json
//! { "traceEvents": [
//!     { "ph": "M", "name": "thread_name", "pid": 1, "tid": 3, "args": { "name": "test" } },
//!     { "ph": "X", "name": "test", "cat": "job", "pid": 1, "tid": 3, "ts": 1000, "dur": 250000,
//!       "args": { "verdict": "passed" } } ],
//!   "displayTimeUnit": "ms", "otherData": { "run_id": "20260401T120000Z-0a1b2c3d" } }
//! ```
//!
//! Times are microseconds from the start of the run.

use serde::Serialize;
use serde_json::{Value, json};

use super::recorded::Recorded;
use super::spans::{Span, spans};

/// The document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trace {
    trace_events: Vec<Value>,
    display_time_unit: &'static str,
    other_data: Value,
}

/// The trace of a run.
pub(crate) fn trace(recorded: &Recorded) -> Trace {
    let run = &recorded.run;
    let mut events = vec![json!({
        "ph": "M", "name": "process_name", "pid": 1, "tid": 0,
        "args": { "name": format!("{} {}", recorded.name(), run.run_id) },
    })];
    for (position, lane) in spans(recorded).iter().enumerate() {
        let tid = position + 1;
        events.push(json!({
            "ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": { "name": lane.name },
        }));
        events.push(json!({
            "ph": "M", "name": "thread_sort_index", "pid": 1, "tid": tid, "args": { "sort_index": tid },
        }));
        events.extend(lane.spans.iter().flat_map(|span| {
            let inner = span.parts.iter().map(move |part| event(part, tid));
            std::iter::once(event(span, tid)).chain(inner)
        }));
    }
    Trace {
        trace_events: events,
        display_time_unit: "ms",
        other_data: json!({
            "run_id": run.run_id, "target": run.target_id, "verdict": run.verdict.word(),
            "created_at": run.created_at.to_rfc3339(), "engine_version": run.engine_version,
        }),
    }
}

fn event(span: &Span, tid: usize) -> Value {
    let args = span.verdict.map_or_else(|| json!({}), |verdict| json!({ "verdict": verdict }));
    json!({
        "ph": "X", "name": span.name, "cat": span.kind, "pid": 1, "tid": tid,
        "ts": span.start_us, "dur": span.duration_us, "args": args,
    })
}
