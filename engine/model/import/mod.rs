//! Import of the authors' checkpoints as models of the `reference` profile.
//!
//! Reads their weights (a PyTorch file of either layout, or safetensors), vocabulary and word frequencies, and
//! writes a `.bril` file as a stream, so that memory stays far below the size of the weights.

mod checkpoint;
mod frequency;
mod pickle;
mod torch;

use std::path::Path;

pub use checkpoint::{Checkpoint, CheckpointTensor};
pub use frequency::read_frequency;

use crate::graph::TokenGraph;
use crate::kernel::element::Element;
use crate::model::save::{edge_parts, write_graph};
use crate::model::{Metadata, Writer};
use crate::signal::Profile;
use crate::text::{Tokenizer, Vocabulary};
use crate::{Error, ErrorKind, Result};

/// Read the authors' files and write a `.bril` model.
///
/// Without `frequency` every edge has its own matrix, as in their first release. With it, only the edges it counts
/// have one, numbered row by row from 1; all others share edge row 0.
///
/// # Errors
/// [`ErrorKind::Format`] when weights, vocabulary and frequencies do not match; [`ErrorKind::Numeric`] for a weight
/// that is not finite.
pub fn import(
    weights: &Path,
    vocabulary: &Path,
    frequency: Option<&Path>,
    out: &Path,
) -> Result<()> {
    let json = crate::text::read_text(vocabulary)?;
    let tokenizer =
        Tokenizer::from_authors(json.as_bytes()).map_err(|error| error.at(vocabulary.display()))?;
    let nodes = tokenizer.vocabulary().len();
    let checkpoint = Checkpoint::open(weights)?;
    let locate = |error: Error| error.at(weights.display());
    let shape =
        |name: &str, expected: &[Option<usize>]| shape(&checkpoint, name, expected).map_err(locate);
    let positions = shape("positions", &[Some(1), None, Some(1)])?[1];
    let matrices = shape("weights", &[None, None, None])?;
    let (edge_rows, width) = (matrices[0], matrices[1]);
    shape("weights", &[Some(edge_rows), Some(width), Some(width)])?;
    shape("biases", &[Some(edge_rows), Some(1), Some(width)])?;
    shape("node_bias", &[Some(nodes), Some(1), Some(width)]).map_err(|error| {
        error.advice(format!(
            "the vocabulary {} has {nodes} tokens",
            vocabulary.display()
        ))
    })?;
    let graph = graph(tokenizer.vocabulary(), frequency, edge_rows, weights)?;

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
        recall: None,
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
                    .map_err(locate)?;
                checkpoint
                    .read("biases", edge_row * width, bias)
                    .map_err(locate)?;
                put(bytemuck::cast_slice(&edge))?;
            }
            Ok(())
        },
    )?;
    let mut small = |name: &str, tensor: &str, shape: [usize; 2]| -> Result<()> {
        let mut values = vec![0.0f32; shape[0] * shape[1]];
        checkpoint.read(tensor, 0, &mut values).map_err(locate)?;
        writer.values(name, Element::F32, &shape, &values)
    };
    small("node.start", "node_bias", [nodes, width])?;
    small("blend.positions", "positions", [1, positions])?;
    writer.finish()
}

/// Return the shape of a tensor, which must match `expected` (`None`: any size above 0).
fn shape(checkpoint: &Checkpoint, name: &str, expected: &[Option<usize>]) -> Result<Vec<usize>> {
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
        let what = format!("expected shape [{}], found {found:?}", wanted.join(", "));
        return Err(Error::new(ErrorKind::Format, what).at(format!("tensor {name}")));
    }
    Ok(found.clone())
}

/// Build the graph of the counted edges, or of all V² edges; the weights must have a row for each and for the
/// shared edge.
fn graph(
    vocabulary: &Vocabulary,
    frequency: Option<&Path>,
    edge_rows: usize,
    weights: &Path,
) -> Result<TokenGraph> {
    let nodes = vocabulary.len() as u32;
    let (edges, advice) = match frequency {
        Some(path) => (
            read_frequency(path, vocabulary)?,
            "pass the frequencies that the weights were trained with",
        ),
        None => (
            (0..nodes)
                .flat_map(|source| (0..nodes).map(move |target| (source, target, 1)))
                .collect(),
            "sparse weights need their word frequencies: pass --frequency FILE",
        ),
    };
    let graph = TokenGraph::from_edges(nodes as usize, &edges)?;
    let own = graph.own_edges();
    if own + 1 != edge_rows {
        let what =
            format!("{edge_rows} edge rows, but the graph has {own} own edges and the shared one");
        return Err(Error::new(ErrorKind::Format, what)
            .at(weights.display())
            .advice(advice));
    }
    Ok(graph)
}
