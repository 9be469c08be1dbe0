//! Writing of a model's blocks.

use std::path::Path;

use crate::graph::{NodeId, TokenGraph};
use crate::kernel::element::Element;
use crate::kernel::table::Table;
use crate::model::model::Metadata;
use crate::model::path_blocks::write_paths;
use crate::model::writer::Writer;
use crate::signal::{BlockShape, blocks};
use crate::text::Tokenizer;
use crate::{Error, ErrorKind, Result};

/// Write all of a model but the records of what it has learned; `block` writes each block of its parameters. The caller
/// finishes the file.
///
/// # Errors
/// As [`crate::Model::save`], and those of `block`.
pub(crate) fn write_model(
    path: &Path,
    (metadata, tokenizer, graph): (&Metadata, &Tokenizer, &TokenGraph),
    block: &mut dyn FnMut(&mut Writer, &BlockShape) -> Result<()>,
) -> Result<Writer> {
    let json = serde_json::to_value(metadata).map_err(|error| {
        Error::new(ErrorKind::Format, "the metadata cannot be written").because(error)
    })?;
    let mut writer = Writer::create(path, json)?;
    let vocabulary = tokenizer.to_bytes();
    writer.values("vocabulary", Element::U8, &[vocabulary.len()], &vocabulary)?;
    write_graph(&mut writer, graph)?;
    if let Some(paths) = graph.paths() {
        write_paths(&mut writer, "", paths)?;
    }
    for shape in blocks(&metadata.profile, graph.nodes(), graph.own_edges()) {
        if shape.rows * shape.columns > 0 {
            block(&mut writer, &shape)?;
        }
    }
    Ok(writer)
}

/// Write row offsets in 32 bits; targets, and counts, in 16 bits where all of them fit.
pub(crate) fn write_graph(writer: &mut Writer, graph: &TokenGraph) -> Result<()> {
    writer.values(
        "graph.rows",
        Element::U32,
        &[graph.nodes() + 1],
        graph.rows(),
    )?;
    for (name, values) in [
        ("graph.targets", graph.targets()),
        ("graph.counts", graph.counts()),
    ] {
        if values.iter().all(|&value| value <= u32::from(u16::MAX)) {
            let narrow: Vec<u16> = values.iter().map(|&value| value as u16).collect();
            writer.values(name, Element::U16, &[values.len()], &narrow)?;
        } else {
            writer.values(name, Element::U32, &[values.len()], values)?;
        }
    }
    Ok(())
}

/// Byte boundaries of the parts of the edge weights: the shared edge, then the fan of each node.
pub(crate) fn edge_parts(graph: &TokenGraph, row: usize) -> Vec<u64> {
    let mut boundaries = vec![0, row as u64];
    let mut edge_rows = 1;
    for node in 0..graph.nodes() as u32 {
        edge_rows += graph.own_slots(NodeId(node)).len();
        boundaries.push((edge_rows * row) as u64);
    }
    boundaries
}

pub(super) fn write_table(
    writer: &mut Writer,
    graph: &TokenGraph,
    name: &str,
    table: &Table,
) -> Result<()> {
    if name != "edge.arena" {
        return write_matrix(writer, name, table);
    }
    let shape = [table.rows(), table.columns()];
    let parts = edge_parts(graph, table.columns() * table.element().size());
    writer.block_in_parts(name, table.element(), &shape, &parts, |put| {
        table.bytes().chunks(1 << 20).try_for_each(put)
    })?;
    write_scales(writer, name, table)
}

/// Write a table as a block, with the scales of its rows where it has some.
pub(super) fn write_matrix(writer: &mut Writer, name: &str, table: &Table) -> Result<()> {
    let shape = [table.rows(), table.columns()];
    writer.values(name, table.element(), &shape, table.bytes())?;
    write_scales(writer, name, table)
}

fn write_scales(writer: &mut Writer, name: &str, table: &Table) -> Result<()> {
    let Some(scales) = table.scales() else {
        return Ok(());
    };
    let (name, rows) = (format!("{name}.scales"), table.rows());
    writer.values(&name, Element::F32, &[rows], scales.typed::<f32>()?)
}
