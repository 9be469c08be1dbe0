//! `brillm export`: weights as safetensors, a sub-graph for other programs.

use std::io::Write;
use std::path::{Path, PathBuf};

use brillm_file::OutputFile;
use clap::Args;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo, TensorView};

use crate::graph::export::{Export, ExportFormat};
use crate::graph::{Direction, NodeId, PageRank, Strength, Subgraph};
use crate::kernel::element::Element;
use crate::model::Model;
use crate::{Error, ErrorKind, Result};

/// Export the weights as safetensors, or a sub-graph as GraphML, GEXF, DOT or CSV.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm export weights.safetensors
  brillm export dog.graphml --nodes dog,cat --radius 2 --max-nodes 50
  brillm export strongest.dot --max-edges 300 --min-count 5")]
pub(super) struct Arguments {
    /// Model: a .bril file [default: the built-in English model].
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// File to write; the extension sets the format: .safetensors, .graphml, .gexf, .dot or .csv.
    #[arg(value_name = "FILE")]
    out: PathBuf,
    /// Format: graphml, gexf, dot, csv, csv-nodes or safetensors [default: by the extension].
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Nodes to start from: tokens or #ID [default: no nodes; export the strongest edges of the whole graph].
    #[arg(long, value_name = "TOKEN,…", value_delimiter = ',')]
    nodes: Vec<String>,
    /// Maximum number of hops from --nodes.
    #[arg(long, default_value_t = 1, value_name = "N")]
    radius: usize,
    /// With --nodes: maximum number of nodes.
    #[arg(long, default_value_t = 200, value_name = "N")]
    max_nodes: usize,
    /// Maximum number of edges; the strongest are kept.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    max_edges: usize,
    /// Minimum count of an edge in the training text.
    #[arg(long, default_value_t = 1, value_name = "N")]
    min_count: u32,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let model = super::open_model(self.model.as_deref())?;
        let ending = self
            .out
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or("")
            .to_string();
        let format = self.format.clone().unwrap_or(ending);
        if format.is_empty() {
            return Err(Error::new(
                ErrorKind::Input,
                "the file name has no extension that sets the format",
            )
            .at(self.out.display())
            .advice("use .safetensors, .graphml, .gexf, .dot or .csv, or pass --format"));
        }
        if format == "safetensors" {
            return weights(&model, &self.out);
        }
        let format: ExportFormat = format
            .parse()
            .map_err(|error: Error| error.at(self.out.display()))?;
        let graph = model.mechanism().graph();
        let part = if self.nodes.is_empty() {
            Subgraph::strongest(graph, self.max_edges, Strength::Count)
                .minimum_count(self.min_count)
        } else {
            let nodes: Vec<NodeId> = self
                .nodes
                .iter()
                .map(|node| super::inspect::find(&model, node))
                .collect::<Result<_>>()?;
            Subgraph::around(graph, &nodes, self.radius, self.max_nodes, Direction::Out)?
                .minimum_count(self.min_count)
                .keep_strongest(self.max_edges, Strength::Resistance)
        };
        let ranks = PageRank::default().of(graph)?.ranks;
        let label = |id: u32| model.tokenizer().vocabulary().display(id);
        let io_error = |error| Error::io(error, self.out.display());
        let mut file = OutputFile::create(&self.out).map_err(io_error)?;
        Export::new(&part, &label)
            .ranks(&ranks)?
            .write(format, &mut file)
            .map_err(|error| error.at(self.out.display()))?;
        file.finish().map_err(io_error)?;
        super::say(format!(
            "{}: {} nodes, {} edges",
            self.out.display(),
            part.nodes().len(),
            part.edges().len()
        ))
    }
}

/// Write all weight tables in their stored format: f32, f16, or int8 with a scale per row.
fn weights(model: &Model, out: &Path) -> Result<()> {
    let (graph, weights) = (model.mechanism().graph(), model.mechanism().weights());
    let mut views = Vec::new();
    let write_error = |error: safetensors::SafeTensorError| {
        Error::new(
            ErrorKind::Format,
            format!("the weights cannot be written: {error}"),
        )
        .at(out.display())
    };
    for block in crate::signal::blocks(&model.metadata().profile, graph.nodes(), graph.own_edges())
    {
        if block.rows * block.columns == 0 {
            continue;
        }
        let shape = vec![block.rows, block.columns];
        if !block.narrows {
            let bytes = bytemuck::cast_slice(weights.values(block.name));
            views.push((
                block.name.to_string(),
                TensorView::new(Dtype::F32, shape, bytes).map_err(write_error)?,
            ));
            continue;
        }
        let table = weights.table(block.name);
        let kind = match table.element() {
            Element::F16 => Dtype::F16,
            Element::I8 => Dtype::I8,
            _ => Dtype::F32,
        };
        views.push((
            block.name.to_string(),
            TensorView::new(kind, shape, table.bytes()).map_err(write_error)?,
        ));
        if let Some(scales) = table.scales() {
            let view =
                TensorView::new(Dtype::F32, vec![table.rows()], scales).map_err(write_error)?;
            views.push((format!("{}.scales", block.name), view));
        }
    }
    let count = views.len();
    write_tensors(views, out)?;
    super::say(format!("{}: {count} tensors", out.display()))
}

/// Write tensors as safetensors, one after another: length of the header, header in JSON, bytes.
///
/// As in `safetensors::serialize`, tensors of wide elements come first, so that all are aligned.
fn write_tensors(mut tensors: Vec<(String, TensorView<'_>)>, out: &Path) -> Result<()> {
    tensors.sort_by(|(name, tensor), (other_name, other)| {
        other
            .dtype()
            .cmp(&tensor.dtype())
            .then(name.cmp(other_name))
    });
    let mut end = 0;
    let entry = |(name, tensor): &(String, TensorView<'_>)| {
        let begin = end;
        end += tensor.data().len();
        let info = TensorInfo {
            dtype: tensor.dtype(),
            shape: tensor.shape().to_vec(),
            data_offsets: (begin, end),
        };
        (name.clone(), info)
    };
    let entries = tensors.iter().map(entry).collect();
    let invalid = |error: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::Format,
            format!("the weights cannot be written: {error}"),
        )
        .at(out.display())
    };
    let metadata = Metadata::new(None, entries).map_err(|error| invalid(&error))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| invalid(&error))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let write = || {
        let mut file = OutputFile::create(out)?;
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (_, tensor) in &tensors {
            file.write_all(tensor.data())?;
        }
        file.finish()
    };
    write().map_err(Error::io_at(out))
}
