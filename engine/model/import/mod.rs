//! The authors' checkpoints become models of the `reference` profile.
//!
//! In: their weights (a PyTorch file of either layout, or safetensors), their vocabulary, their word
//! frequencies. Out: a `.bril` file, written as a stream: memory stays far below the weights' size.

mod checkpoint;
mod frequency;
mod pickle;
mod zip;

use std::path::Path;

pub use checkpoint::{Checkpoint, CheckpointTensor};
pub use frequency::read_frequency;

use crate::graph::TokenGraph;
use crate::kernel::element::Element;
use crate::model::model::{edge_parts, write_graph};
use crate::model::{Metadata, Writer};
use crate::signal::Profile;
use crate::text::Tokenizer;
use crate::{Error, ErrorKind, Result};

/// Reads the authors' files and writes a `.bril` model.
///
/// Without `frequency` every edge has its own matrix, as in their first release. With it, the edges it
/// counts have, numbered row by row from 1; all others share slot 0.
///
/// # Errors
/// [`ErrorKind::Format`] when weights, vocabulary and frequencies contradict each other, with what was
/// expected; [`ErrorKind::Numeric`] for a weight that is not finite.
pub fn import(
    weights: &Path,
    vocabulary: &Path,
    frequency: Option<&Path>,
    out: &Path,
) -> Result<()> {
    let json = std::fs::read(vocabulary).map_err(|error| Error::io(error, vocabulary.display()))?;
    let tokenizer =
        Tokenizer::from_authors(&json).map_err(|error| error.at(vocabulary.display()))?;
    let nodes = tokenizer.vocabulary().len();
    let checkpoint = Checkpoint::open(weights)?;
    let place = |error: Error| error.at(weights.display());
    let shape = |name: &str, expected: &[Option<usize>]| -> Result<Vec<usize>> {
        let found = &checkpoint.require(name)?.shape;
        let fits = found.len() == expected.len()
            && found
                .iter()
                .zip(expected)
                .all(|(&axis, wanted)| wanted.is_none_or(|wanted| wanted == axis));
        if !fits || found.contains(&0) {
            let wanted: Vec<String> = expected
                .iter()
                .map(|axis| axis.map_or("?".to_string(), |axis| axis.to_string()))
                .collect();
            return Err(Error::new(
                ErrorKind::Format,
                format!("shape {found:?} instead of [{}]", wanted.join(", ")),
            )
            .at(format!("tensor {name}")));
        }
        Ok(found.clone())
    };
    let positions = shape("positions", &[Some(1), None, Some(1)]).map_err(place)?[1];
    let matrices = shape("weights", &[None, None, None]).map_err(place)?;
    let (edge_rows, width) = (matrices[0], matrices[1]);
    shape("weights", &[Some(edge_rows), Some(width), Some(width)]).map_err(place)?;
    shape("biases", &[Some(edge_rows), Some(1), Some(width)]).map_err(place)?;
    shape("node_bias", &[Some(nodes), Some(1), Some(width)]).map_err(|error| {
        place(error).advice(format!(
            "the vocabulary {} has {nodes} tokens",
            vocabulary.display()
        ))
    })?;

    let edges: Vec<(u32, u32, u32)> = match frequency {
        Some(path) => read_frequency(path, tokenizer.vocabulary())?,
        None => (0..nodes as u32)
            .flat_map(|s| (0..nodes as u32).map(move |t| (s, t, 1)))
            .collect(),
    };
    let graph = TokenGraph::from_edges(nodes, &edges)?;
    if graph.own_edges() + 1 != edge_rows {
        let advice = match frequency {
            Some(_) => "the frequencies are not the ones these weights were trained with",
            None => "sparse weights need their word frequencies: give --frequency",
        };
        return Err(place(
            Error::new(
                ErrorKind::Format,
                format!(
                    "{edge_rows} slots, but the graph has {} own edges and the shared one",
                    graph.own_edges()
                ),
            )
            .advice(advice),
        ));
    }

    let mut profile = Profile::reference(width);
    profile.positions = positions;
    profile.check()?;
    let metadata = Metadata {
        name: out.file_stem().map_or("imported".into(), |name| {
            name.to_string_lossy().into_owned()
        }),
        license: "as the imported weights".into(),
        profile,
        own_minimum: 1,
        direction: Default::default(),
        charges: None,
        training: serde_json::json!({ "imported": weights.file_name().map(|name| name.to_string_lossy()) }),
    };
    let metadata = serde_json::to_value(&metadata).map_err(|error| {
        Error::new(ErrorKind::Format, "the metadata cannot be written").because(error)
    })?;
    let mut writer = Writer::create(out, metadata)?;
    let stored = tokenizer.to_bytes();
    writer.values("vocabulary", Element::U8, &[stored.len()], &stored)?;
    write_graph(&mut writer, &graph)?;
    let columns = width * width + width;
    let parts = edge_parts(&graph, columns * 4);
    writer.block_in_parts(
        "edge.arena",
        Element::F32,
        &[edge_rows, columns],
        &parts,
        |put| {
            let mut edge = vec![0.0f32; columns];
            for edge_row in 0..edge_rows {
                let (matrix, bias) = edge.split_at_mut(width * width);
                checkpoint
                    .read("weights", edge_row * width * width, matrix)
                    .map_err(place)?;
                checkpoint
                    .read("biases", edge_row * width, bias)
                    .map_err(place)?;
                put(bytemuck::cast_slice(&edge))?;
            }
            Ok(())
        },
    )?;
    let mut small = |name: &str, tensor: &str, shape: [usize; 2]| -> Result<()> {
        let mut values = vec![0.0f32; shape[0] * shape[1]];
        checkpoint.read(tensor, 0, &mut values).map_err(place)?;
        writer.values(name, Element::F32, &shape, &values)
    };
    small("node.start", "node_bias", [nodes, width])?;
    small("blend.positions", "positions", [1, positions])?;
    writer.finish()
}
