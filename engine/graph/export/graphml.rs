//! GraphML: XML in which every attribute has a type, as networkx, yEd and igraph read it.

use std::io::{Result, Write};

use super::Xml;
use super::table::{Column, Row, Tables};

const NAMESPACE: &str = "http://graphml.graphdrawing.org/xmlns";

/// Write the declarations, then `nodes`, then `edges`.
pub(crate) fn write(
    tables: &Tables,
    nodes: impl Iterator<Item = Row>,
    edges: impl Iterator<Item = Row>,
    out: &mut impl Write,
) -> Result<()> {
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    write!(out, r#"<graphml xmlns="{NAMESPACE}""#)?;
    if tables.schema {
        write!(
            out,
            r#" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="{NAMESPACE} {NAMESPACE}/1.0/graphml.xsd""#
        )?;
    }
    writeln!(out, ">")?;
    for (element, columns) in [("node", &tables.nodes), ("edge", &tables.edges)] {
        for (name, kind) in columns {
            writeln!(
                out,
                r#"  <key id="{name}" for="{element}" attr.name="{name}" attr.type="{}"/>"#,
                kind.0
            )?;
        }
    }
    writeln!(
        out,
        r#"  <graph id="{}" edgedefault="directed">"#,
        tables.name
    )?;
    for node in nodes {
        element(out, "node", &node, &tables.nodes)?;
    }
    for edge in edges {
        element(out, "edge", &edge, &tables.edges)?;
    }
    writeln!(out, "  </graph>\n</graphml>")
}

fn element(out: &mut impl Write, name: &str, row: &Row, columns: &[Column]) -> Result<()> {
    write!(out, "    <{name}")?;
    if let Some(id) = &row.id {
        write!(out, r#" id="{id}""#)?;
    }
    if let Some((source, target)) = &row.ends {
        write!(out, r#" source="{source}" target="{target}""#)?;
    }
    write!(out, ">")?;
    for (key, _) in columns {
        if let Some(value) = row.value(key) {
            write!(out, r#"<data key="{key}">{}</data>"#, Xml(value))?;
        }
    }
    writeln!(out, "</{name}>")
}
