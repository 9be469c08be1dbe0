//! GEXF 1.2, Gephi's format; the probability is the weight of an edge.

use std::fmt::Write;

use super::super::Trace;
use crate::graph::export::Xml;

pub(super) fn write(trace: &Trace) -> String {
    let mut out = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<gexf xmlns=\"http://www.gexf.net/1.2draft\" version=\"1.2\">\n  \
         <meta><creator>brillm</creator></meta>\n  <graph defaultedgetype=\"directed\" mode=\"static\">\n",
    );
    let declare = |out: &mut String, class: &str, all: &[(&str, &str)]| {
        let _ = writeln!(out, r#"    <attributes class="{class}" mode="static">"#);
        for (name, kind) in all {
            let _ = writeln!(
                out,
                r#"      <attribute id="{name}" title="{name}" type="{kind}"/>"#
            );
        }
        out.push_str("    </attributes>\n");
    };
    let of_nodes = [
        ("token", "integer"),
        ("step", "integer"),
        ("chosen", "boolean"),
        ("energy", "double"),
    ];
    declare(&mut out, "node", &of_nodes);
    declare(&mut out, "edge", &[("rank", "integer"), ("edge", "string")]);
    let value = |out: &mut String, name: &str, value: &dyn std::fmt::Display| {
        let _ = write!(out, r#"<attvalue for="{name}" value="{value}"/>"#);
    };
    out.push_str("    <nodes>\n");
    for place in super::places(trace) {
        let _ = write!(
            out,
            r#"      <node id="{}" label="{}"><attvalues>"#,
            place.name,
            Xml(place.display)
        );
        value(&mut out, "token", &place.id);
        value(&mut out, "step", &place.step.map_or(-1, |step| step as i64));
        value(&mut out, "chosen", &place.chosen);
        if let Some(one) = place.candidate {
            value(&mut out, "energy", &one.energy);
        }
        out.push_str("</attvalues></node>\n");
    }
    out.push_str("    </nodes>\n    <edges>\n");
    let mut number = 0;
    for step in &trace.steps {
        for one in &step.candidates {
            let _ = write!(
                out,
                r#"      <edge id="{number}" source="{}" target="{}.{}" weight="{:e}"><attvalues>"#,
                super::source(trace, step.index),
                step.index,
                one.id,
                one.probability
            );
            number += 1;
            value(&mut out, "rank", &one.rank);
            value(&mut out, "edge", &super::kind(one));
            out.push_str("</attvalues></edge>\n");
        }
    }
    out.push_str("    </edges>\n  </graph>\n</gexf>\n");
    out
}
