//! GraphML: every attribute with its type, as networkx, yEd and igraph read it.

use std::io::{Result, Write};

use super::Export;
use super::readable::Xml;

/// Writes the head, the nodes and the edges.
pub(super) fn write(export: &Export<'_>, out: &mut impl Write) -> Result<()> {
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    write!(
        out,
        r#"<graphml xmlns="http://graphml.graphdrawing.org/xmlns""#
    )?;
    write!(
        out,
        r#" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance""#
    )?;
    write!(
        out,
        r#" xsi:schemaLocation="http://graphml.graphdrawing.org/xmlns"#
    )?;
    writeln!(
        out,
        r#" http://graphml.graphdrawing.org/xmlns/1.0/graphml.xsd">"#
    )?;
    let mut key = |name: &str, element: &str, kind: &str| {
        writeln!(
            out,
            r#"  <key id="{name}" for="{element}" attr.name="{name}" attr.type="{kind}"/>"#
        )
    };
    key("label", "node", "string")?;
    if export.text.is_some() {
        key("text", "node", "string")?;
    }
    key("out_degree", "node", "int")?;
    key("in_degree", "node", "int")?;
    if export.ranks.is_some() {
        key("pagerank", "node", "double")?;
    }
    key("count", "edge", "long")?;
    key("probability", "edge", "double")?;
    key("resistance", "edge", "double")?;
    key("own", "edge", "boolean")?;
    writeln!(out, r#"  <graph id="tokens" edgedefault="directed">"#)?;
    for node in export.nodes() {
        write!(out, r#"    <node id="{}">"#, node.id)?;
        write!(out, r#"<data key="label">{}</data>"#, Xml(&node.label))?;
        if let Some(text) = &node.text {
            write!(out, r#"<data key="text">{}</data>"#, Xml(text))?;
        }
        write!(out, r#"<data key="out_degree">{}</data>"#, node.out_degree)?;
        write!(out, r#"<data key="in_degree">{}</data>"#, node.in_degree)?;
        if let Some(rank) = node.rank {
            write!(out, r#"<data key="pagerank">{rank:e}</data>"#)?;
        }
        writeln!(out, "</node>")?;
    }
    for edge in export.edges() {
        write!(
            out,
            r#"    <edge id="{}" source="{}" target="{}">"#,
            edge.id, edge.source, edge.target
        )?;
        write!(out, r#"<data key="count">{}</data>"#, edge.count)?;
        write!(
            out,
            r#"<data key="probability">{:e}</data>"#,
            edge.probability
        )?;
        write!(out, r#"<data key="resistance">{}</data>"#, edge.resistance)?;
        writeln!(out, r#"<data key="own">{}</data></edge>"#, edge.own)?;
    }
    writeln!(out, "  </graph>\n</graphml>")
}
