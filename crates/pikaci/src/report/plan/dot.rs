//! A plan as a graph in the language of graphviz.

use std::fmt::Write as _;

use jerichoci::model::plan::PlanNodeRecord;

use super::PlanDocument;
use super::text::{limit, place, prepared};

/// The graph: a box for each node, dashed for what is prepared, an arrow to what waits for it.
pub(crate) fn dot(plan: &PlanDocument<'_>) -> String {
    let mut graph = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(graph, "digraph {} {{", quoted(plan.target_id));
    graph.push_str(
        "  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\", fontsize=11];\n",
    );
    if let Some(description) = plan.target_description {
        let _ = writeln!(graph, "  label={};\n  labelloc=t;", quoted(description));
    }
    for node in &plan.nodes {
        let (label, style) = match (node, plan.job_of(node)) {
            (PlanNodeRecord::Execute { .. }, Some(job)) => {
                (format!("{}\n{}\nat most {}", job.id, place(job), limit(job.timeout_secs)), "rounded")
            }
            _ => {
                let what = prepared(plan, node).map(|what| format!("\n{what}")).unwrap_or_default();
                (format!("{}{what}", node.id()), "\"rounded,dashed\"")
            }
        };
        let _ = writeln!(graph, "  {} [label={}, style={style}];", quoted(node.id()), quoted(&label));
    }
    for node in &plan.nodes {
        for need in node.depends_on() {
            let _ = writeln!(graph, "  {} -> {};", quoted(need), quoted(node.id()));
        }
    }
    graph.push_str("}\n");
    graph
}

/// A string of the language. In a label `\n` is a new line, and a backslash is written twice.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            control if control.is_control() => quoted.push('\u{fffd}'),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
