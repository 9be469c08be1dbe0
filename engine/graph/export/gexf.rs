//! GEXF 1.2, Gephi's format; the probability is the weight of an edge, which layouts pull by.

use std::io::{Result, Write};

use super::Export;
use super::readable::Xml;

/// Writes the head, the nodes and the edges.
pub(super) fn write(export: &Export<'_>, out: &mut impl Write) -> Result<()> {
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    // Version 1.2 and not 1.3, because older networkx and Gephi know no later one.
    writeln!(
        out,
        r#"<gexf xmlns="http://www.gexf.net/1.2draft" version="1.2">"#
    )?;
    writeln!(out, r#"  <meta><creator>brillm</creator></meta>"#)?;
    writeln!(out, r#"  <graph defaultedgetype="directed" mode="static">"#)?;

    let mut of_nodes = vec![("out_degree", "integer"), ("in_degree", "integer")];
    if export.text.is_some() {
        of_nodes.push(("text", "string"));
    }
    if export.ranks.is_some() {
        of_nodes.push(("pagerank", "double"));
    }
    attributes(out, "node", &of_nodes)?;
    let of_edges = [
        ("count", "long"),
        ("probability", "double"),
        ("resistance", "double"),
        ("own", "boolean"),
    ];
    attributes(out, "edge", &of_edges)?;

    writeln!(out, "    <nodes>")?;
    for node in export.nodes() {
        write!(
            out,
            r#"      <node id="{}" label="{}"><attvalues>"#,
            node.id,
            Xml(&node.label)
        )?;
        value(out, "out_degree", node.out_degree)?;
        value(out, "in_degree", node.in_degree)?;
        if let Some(text) = &node.text {
            value(out, "text", Xml(text))?;
        }
        if let Some(rank) = node.rank {
            value(out, "pagerank", format_args!("{rank:e}"))?;
        }
        writeln!(out, "</attvalues></node>")?;
    }
    writeln!(out, "    </nodes>\n    <edges>")?;
    for edge in export.edges() {
        write!(
            out,
            r#"      <edge id="{}" source="{}" target="{}" weight="{:e}"><attvalues>"#,
            edge.id, edge.source, edge.target, edge.probability
        )?;
        value(out, "count", edge.count)?;
        value(out, "probability", format_args!("{:e}", edge.probability))?;
        value(out, "resistance", edge.resistance)?;
        value(out, "own", edge.own)?;
        writeln!(out, "</attvalues></edge>")?;
    }
    writeln!(out, "    </edges>\n  </graph>\n</gexf>")
}

/// Declares the attributes of nodes or of edges.
fn attributes(out: &mut impl Write, class: &str, all: &[(&str, &str)]) -> Result<()> {
    writeln!(out, r#"    <attributes class="{class}" mode="static">"#)?;
    for (name, kind) in all {
        writeln!(
            out,
            r#"      <attribute id="{name}" title="{name}" type="{kind}"/>"#
        )?;
    }
    writeln!(out, "    </attributes>")
}

/// Gives an attribute of the current element its value.
fn value(out: &mut impl Write, name: &str, value: impl std::fmt::Display) -> Result<()> {
    write!(out, r#"<attvalue for="{name}" value="{value}"/>"#)
}
