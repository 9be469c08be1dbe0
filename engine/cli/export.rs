//! `brillm export`: weights as safetensors, a chosen sub-graph for other programs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::graph::export::{Export, ExportFormat};
use crate::graph::{Direction, NodeId, PageRank, Strength, Subgraph};
use crate::model::Model;
use crate::{Error, ErrorKind, Result};

/// Writes the weights as safetensors, or a sub-graph as GraphML, GEXF, DOT or CSV.
#[derive(Args)]
pub(super) struct Arguments {
    /// The model; the English one in the program by default.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// The file; its ending chooses the format: .safetensors, .graphml, .gexf, .dot or .csv.
    out: PathBuf,
    /// The format, where the ending does not say: graphml, gexf, dot, csv, csv-nodes, safetensors.
    #[arg(long)]
    format: Option<String>,
    /// Nodes to begin from: tokens, or #ID. Without, the strongest edges of the whole graph.
    #[arg(long, value_name = "TOKEN,…", value_delimiter = ',')]
    nodes: Vec<String>,
    /// Hops around the nodes.
    #[arg(long, default_value_t = 1)]
    radius: usize,
    /// Nodes at most.
    #[arg(long, default_value_t = 200)]
    maximum: usize,
    /// Edges at most, the strongest.
    #[arg(long, default_value_t = 1000)]
    edges: usize,
    /// Only edges walked at least so often.
    #[arg(long, default_value_t = 1)]
    minimum_count: u32,
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
        if format == "safetensors" {
            return weights(&model, &self.out);
        }
        let format: ExportFormat = format
            .parse()
            .map_err(|error: Error| error.at(self.out.display()))?;
        let graph = model.mechanism().graph();
        let part = if self.nodes.is_empty() {
            Subgraph::strongest(graph, self.edges, Strength::Count)
                .minimum_count(self.minimum_count)
        } else {
            let nodes: Vec<NodeId> = self
                .nodes
                .iter()
                .map(|node| super::inspect::find(&model, node))
                .collect::<Result<_>>()?;
            Subgraph::around(graph, &nodes, self.radius, self.maximum, Direction::Out)?
                .minimum_count(self.minimum_count)
                .keep_strongest(self.edges, Strength::Resistance)
        };
        let ranks = PageRank::default().of(graph)?.ranks;
        let label = |id: u32| model.tokenizer().vocabulary().display(id);
        let place = |error| Error::io(error, self.out.display());
        let mut file = BufWriter::new(File::create(&self.out).map_err(place)?);
        Export::new(&part, &label)
            .ranks(&ranks)?
            .write(format, &mut file)?;
        file.flush().map_err(place)?;
        super::say(format!(
            "{}: {} nodes, {} edges",
            self.out.display(),
            part.nodes().len(),
            part.edges().len()
        ))
    }
}

/// All blocks as f32, f16 or (int8 with scales) as they are stored.
fn weights(model: &Model, out: &Path) -> Result<()> {
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    use crate::kernel::element::Element;
    let (graph, weights) = (model.mechanism().graph(), model.mechanism().weights());
    let mut views = Vec::new();
    let fault = |error: safetensors::SafeTensorError| {
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
                TensorView::new(Dtype::F32, shape, bytes).map_err(fault)?,
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
            TensorView::new(kind, shape, table.bytes()).map_err(fault)?,
        ));
        if let Some(scales) = table.scales() {
            let view = TensorView::new(Dtype::F32, vec![table.rows()], scales).map_err(fault)?;
            views.push((format!("{}.scales", block.name), view));
        }
    }
    let count = views.len();
    safetensors::serialize_to_file(views, None, out).map_err(fault)?;
    super::say(format!("{}: {count} tensors", out.display()))
}
