//! The DOT language of graphviz: drawn as it is, thicker where more probable, dashed where not own.

use std::io::{Result, Write};

use super::Export;
use super::readable::DotLabel;

/// Writes the head, the nodes and the edges.
pub(super) fn write(export: &Export<'_>, out: &mut impl Write) -> Result<()> {
    writeln!(out, "digraph tokens {{")?;
    writeln!(out, r#"  charset="UTF-8";"#)?;
    writeln!(out, r#"  node [shape=box, style=rounded];"#)?;
    for node in export.nodes() {
        write!(out, "  {} [label={}", node.id, DotLabel(&node.label))?;
        if let Some(text) = &node.text {
            // An SVG made by graphviz shows the tooltip under the pointer.
            write!(out, ", text={0}, tooltip={0}", DotLabel(text))?;
        }
        write!(
            out,
            ", out_degree={}, in_degree={}",
            node.out_degree, node.in_degree
        )?;
        if let Some(rank) = node.rank {
            write!(out, r#", pagerank="{rank:e}""#)?;
        }
        writeln!(out, "];")?;
    }
    for edge in export.edges() {
        write!(
            out,
            r#"  {} -> {} [label="{:.3}", count={}, probability="{:e}", resistance="{}", own={}"#,
            edge.source,
            edge.target,
            edge.probability,
            edge.count,
            edge.probability,
            edge.resistance,
            edge.own
        )?;
        write!(out, ", penwidth={:.2}", 0.5 + 3.5 * edge.probability)?;
        if !edge.own {
            write!(out, ", style=dashed")?;
        }
        writeln!(out, "];")?;
    }
    writeln!(out, "}}")
}
