//! GEXF 1.2, Gephi's format; the probability is the weight of an edge, which layouts use as its attraction.

use std::io::{Result, Write};

use super::Xml;
use super::table::{Column, Row, Tables};

/// Write the declarations, then `nodes`, then `edges`; an edge without an id is numbered.
pub(crate) fn write(
    tables: &Tables,
    nodes: impl Iterator<Item = Row>,
    edges: impl Iterator<Item = Row>,
    out: &mut impl Write,
) -> Result<()> {
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    // Older releases of networkx and Gephi do not read version 1.3.
    writeln!(
        out,
        r#"<gexf xmlns="http://www.gexf.net/1.2draft" version="1.2">"#
    )?;
    writeln!(out, r#"  <meta><creator>brillm</creator></meta>"#)?;
    writeln!(out, r#"  <graph defaultedgetype="directed" mode="static">"#)?;
    for (class, columns) in [("node", &tables.nodes), ("edge", &tables.edges)] {
        writeln!(out, r#"    <attributes class="{class}" mode="static">"#)?;
        for (name, kind) in columns {
            writeln!(
                out,
                r#"      <attribute id="{name}" title="{name}" type="{}"/>"#,
                kind.1
            )?;
        }
        writeln!(out, "    </attributes>")?;
    }
    writeln!(out, "    <nodes>")?;
    for node in nodes {
        let (id, label) = (node.id.as_deref(), node.value("label"));
        let (id, label) = (id.unwrap_or_default(), label.unwrap_or_default());
        write!(out, r#"      <node id="{id}" label="{}">"#, Xml(label))?;
        values(out, &node, &tables.nodes)?;
        writeln!(out, "</node>")?;
    }
    writeln!(out, "    </nodes>\n    <edges>")?;
    for (number, edge) in edges.enumerate() {
        let id = edge.id.clone().unwrap_or_else(|| number.to_string());
        let (source, target) = edge.ends.clone().unwrap_or_default();
        let weight = edge.value("probability").unwrap_or_default();
        write!(
            out,
            r#"      <edge id="{id}" source="{source}" target="{target}" weight="{weight}">"#
        )?;
        values(out, &edge, &tables.edges)?;
        writeln!(out, "</edge>")?;
    }
    writeln!(out, "    </edges>\n  </graph>\n</gexf>")
}

fn values(out: &mut impl Write, row: &Row, columns: &[Column]) -> Result<()> {
    write!(out, "<attvalues>")?;
    for (name, _) in columns {
        if let Some(value) = row.value(name) {
            write!(out, r#"<attvalue for="{name}" value="{}"/>"#, Xml(value))?;
        }
    }
    write!(out, "</attvalues>")
}
