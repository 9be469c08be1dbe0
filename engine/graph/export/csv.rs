//! Comma-separated values after RFC 4180: a table of edges, and one of nodes.

use std::io::{Result, Write};

use super::Export;
use super::readable::CsvField;

/// Writes one line an edge; a program that wants the graph needs no other file.
pub(super) fn write_edges(export: &Export<'_>, out: &mut impl Write) -> Result<()> {
    write!(out, "source,target,source_label,target_label,")?;
    write!(out, "count,probability,resistance,own\r\n")?;
    for edge in export.edges() {
        write!(
            out,
            "{},{},{},{},{},{:e},{},{}\r\n",
            edge.source,
            edge.target,
            CsvField(&(export.label)(edge.source.0)),
            CsvField(&(export.label)(edge.target.0)),
            edge.count,
            edge.probability,
            edge.resistance,
            edge.own
        )?;
    }
    Ok(())
}

/// Writes one line a node.
pub(super) fn write_nodes(export: &Export<'_>, out: &mut impl Write) -> Result<()> {
    write!(out, "id,label,out_degree,in_degree")?;
    if export.text.is_some() {
        write!(out, ",text")?;
    }
    if export.ranks.is_some() {
        write!(out, ",pagerank")?;
    }
    write!(out, "\r\n")?;
    for node in export.nodes() {
        write!(
            out,
            "{},{},{},{}",
            node.id,
            CsvField(&node.label),
            node.out_degree,
            node.in_degree
        )?;
        if let Some(text) = &node.text {
            write!(out, ",{}", CsvField(text))?;
        }
        if let Some(rank) = node.rank {
            write!(out, ",{rank:e}")?;
        }
        write!(out, "\r\n")?;
    }
    Ok(())
}
