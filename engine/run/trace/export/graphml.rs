//! GraphML, as networkx, yEd and igraph read it.

use std::fmt::Write;

use super::super::Trace;
use crate::graph::export::Xml;

pub(super) fn write(trace: &Trace) -> String {
    let mut out = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<graphml xmlns=\"http://graphml.graphdrawing.org/xmlns\">\n",
    );
    for (name, element, kind) in [
        ("label", "node", "string"),
        ("token", "node", "int"),
        ("step", "node", "int"),
        ("chosen", "node", "boolean"),
        ("energy", "node", "double"),
        ("probability", "edge", "double"),
        ("rank", "edge", "int"),
        ("edge", "edge", "string"),
    ] {
        let _ = writeln!(
            out,
            r#"  <key id="{name}" for="{element}" attr.name="{name}" attr.type="{kind}"/>"#
        );
    }
    out.push_str("  <graph id=\"path\" edgedefault=\"directed\">\n");
    for place in super::places(trace) {
        let step = place.step.map_or(-1, |step| step as i64);
        let _ = write!(
            out,
            r#"    <node id="{}"><data key="label">{}</data><data key="token">{}</data><data key="step">{step}</data><data key="chosen">{}</data>"#,
            place.name,
            Xml(place.display),
            place.id,
            place.chosen
        );
        if let Some(one) = place.candidate {
            let _ = write!(out, r#"<data key="energy">{}</data>"#, one.energy);
        }
        out.push_str("</node>\n");
    }
    for step in &trace.steps {
        for one in &step.candidates {
            let _ = writeln!(
                out,
                r#"    <edge source="{}" target="{}.{}"><data key="probability">{:e}</data><data key="rank">{}</data><data key="edge">{}</data></edge>"#,
                super::source(trace, step.index),
                step.index,
                one.id,
                one.probability,
                one.rank,
                super::kind(one)
            );
        }
    }
    out.push_str("  </graph>\n</graphml>\n");
    out
}
