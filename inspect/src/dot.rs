//! A graph for Graphviz: `dot -Tsvg`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::{EventLine, Graph, Node};

/// The graph as a DOT file: what an event follows by solid lines, with `auth` what it rests on by dashed
/// ones. Events that it names without having them, outside of
/// the picture or not stored, are dotted circles.
pub fn dot(graph: &Graph, auth: bool) -> String {
    let mut out = String::from(
        "digraph room {\n  rankdir=BT;\n  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\", fontsize=10];\n",
    );
    let shown: BTreeSet<&str> = graph
        .nodes
        .iter()
        .map(|node| node.line.event_id.as_str())
        .collect();
    for node in &graph.nodes {
        out.push_str(&node_line(node));
    }
    let mut absent: BTreeSet<&str> = BTreeSet::new();
    for node in &graph.nodes {
        let id = node.line.event_id.as_str();
        for prev in &node.prev_events {
            let _ = writeln!(out, "  {} -> {};", quoted(id), quoted(prev.as_str()));
            if !shown.contains(prev.as_str()) {
                absent.insert(prev.as_str());
            }
        }
        // Auth events that aren't part of the picture would draw the whole room into it.
        let within = node
            .auth_events
            .iter()
            .filter(|id| shown.contains(id.as_str()));
        for named in within.filter(|_| auth) {
            let _ = writeln!(
                out,
                "  {} -> {} [style=dashed, color=gray, constraint=false];",
                quoted(id),
                quoted(named.as_str())
            );
        }
    }
    for id in absent {
        let _ = writeln!(
            out,
            "  {} [label={}, shape=ellipse, style=dotted];",
            quoted(id),
            quoted(&short(id))
        );
    }
    out.push_str("}\n");
    out
}

fn node_line(node: &Node) -> String {
    let line = &node.line;
    let mut label = vec![
        title(line),
        line.sender.to_string(),
        short(line.event_id.as_str()),
    ];
    if line.status != "accepted" || line.placement == "outlier" {
        label.push(format!("{} {}", line.status, line.placement));
    }
    // Each line is escaped by itself: `\n` between them is Graphviz's.
    let label: Vec<String> = label.iter().map(|part| escaped(part)).collect();
    format!(
        "  {} [label=\"{}\", fillcolor={}, penwidth={}];\n",
        quoted(line.event_id.as_str()),
        label.join("\\n"),
        colour(line),
        if node.asked { 3 } else { 1 }
    )
}

fn title(line: &EventLine) -> String {
    match line.state_key.as_deref() {
        None => line.kind.clone(),
        Some("") => format!("{} (state)", line.kind),
        Some(key) => format!("{} [{key}]", line.kind),
    }
}

fn colour(line: &EventLine) -> &'static str {
    match (line.status, line.placement) {
        ("rejected", _) => "salmon",
        ("soft-failed", _) => "khaki",
        (_, "outlier") => "lightgray",
        (_, "backfilled") => "lightblue",
        _ => "palegreen",
    }
}

/// The beginning of an id, enough to tell it from others.
fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// Text from strangers within quotes: nothing in it ends them or means anything to Graphviz.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            char if char.is_control() => out.push('\u{fffd}'),
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_write_stays_within_its_quotes() {
        assert_eq!(quoted("a\"]; evil \\"), r#""a\"]; evil \\""#);
        assert_eq!(quoted("two\nlines\u{0}"), "\"two\u{fffd}lines\u{fffd}\"");
    }
}
