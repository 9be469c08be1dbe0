//! The DOT language: left to right, one rank a step, the chosen path bold, shared edges dashed.

use std::fmt::Write;

use super::super::Trace;
use crate::graph::export::DotLabel;

pub(super) fn write(trace: &Trace) -> String {
    let mut out = String::from(
        "digraph path {\n  charset=\"UTF-8\";\n  rankdir=LR;\n  node [shape=box, style=rounded];\n",
    );
    let places = super::places(trace);
    for place in &places {
        let _ = write!(
            out,
            "  \"{}\" [label={}, token={}",
            place.name,
            DotLabel(place.display),
            place.id
        );
        if let Some(one) = place.candidate {
            let _ = write!(
                out,
                ", energy=\"{}\", probability=\"{:e}\", rank_of_step={}",
                one.energy, one.probability, one.rank
            );
        }
        out.push_str(if place.chosen {
            ", penwidth=2];\n"
        } else {
            "];\n"
        });
    }
    for step in &trace.steps {
        let names: Vec<String> = step
            .candidates
            .iter()
            .map(|one| format!("\"{}.{}\"", step.index, one.id))
            .collect();
        let _ = writeln!(out, "  {{ rank=same; {}; }}", names.join("; "));
        for one in &step.candidates {
            let _ = write!(
                out,
                "  \"{}\" -> \"{}.{}\" [probability=\"{:e}\", penwidth={:.2}",
                super::source(trace, step.index),
                step.index,
                one.id,
                one.probability,
                0.5 + 4.0 * one.probability
            );
            match super::kind(one) {
                "seen" => out.push_str(", style=dashed"),
                "shared" => out.push_str(", style=dotted"),
                _ => {}
            }
            out.push_str("];\n");
        }
    }
    out.push_str("}\n");
    out
}
