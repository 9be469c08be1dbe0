//! `brillm inspect`: properties of a model or of one of its nodes.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::graph::{
    Components, Direction, EdgeSummary, GraphSummary, NodeId, NodeSummary, PageRank, PathGraph,
    RankWeight, Reachability, Strength, least_paths,
};
use crate::model::Model;
use crate::{Error, ErrorKind, Result};

/// Show the size, degrees, strongest edges, components and PageRank of a graph or a node.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm inspect
  brillm inspect model.bril --node dog --limit 5
  brillm inspect --node once --to time --json")]
pub(super) struct Arguments {
    /// Model: a .bril file [default: the built-in English model].
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Show one node: a token, its text, or #ID.
    #[arg(long, value_name = "TOKEN")]
    node: Option<String>,
    /// Show the paths of least resistance from --node to this node: a token, its text, or #ID.
    #[arg(long, value_name = "TOKEN", requires = "node")]
    to: Option<String>,
    /// Maximum length of each list.
    #[arg(long, default_value_t = 10, value_name = "N")]
    limit: usize,
    /// Sort edges by count instead of resistance.
    #[arg(long)]
    by_count: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Find a node by its token, its text or `#ID`.
pub(super) fn find(model: &Model, text: &str) -> Result<NodeId> {
    let by_number = text
        .strip_prefix('#')
        .and_then(|digits| digits.parse::<u32>().ok());
    by_number
        .filter(|&id| (id as usize) < model.mechanism().nodes())
        .or_else(|| model.tokenizer().vocabulary().find(text))
        .map(NodeId)
        .ok_or_else(|| {
            Error::new(ErrorKind::Vocabulary, format!("unknown token {text:?}"))
                .advice("write the token as in the vocabulary, as text, or as #ID")
        })
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let model = super::open_model(self.model.as_deref())?;
        let strength = if self.by_count {
            Strength::Count
        } else {
            Strength::Resistance
        };
        let display = |id: u32| model.tokenizer().vocabulary().display(id);
        match &self.node {
            Some(node) => self.node(&model, find(&model, node)?, strength, &display),
            None => self.whole(&model, strength, &display),
        }
    }

    fn whole(
        &self,
        model: &Model,
        strength: Strength,
        display: &dyn Fn(u32) -> String,
    ) -> Result<()> {
        let graph = model.mechanism().graph();
        let mut summary = GraphSummary::of(graph, self.limit, strength);
        summary.name(display);
        let components = Components::of(graph);
        let rank = PageRank {
            weight: RankWeight::Count,
            ..PageRank::default()
        };
        let ranking = rank.of(graph)?;
        let highest = ranking.highest(self.limit);
        let (metadata, weights) = (model.metadata(), model.mechanism().weights());
        if self.json {
            return super::say_json(&json!({
                "model": metadata,
                "parameters": weights.parameters(),
                "weight_bytes": weights.bytes(),
                "graph": summary,
                "order": graph.order(),
                "learned": model.records().collect::<Vec<_>>(),
                "walks": graph.paths().map(|paths| walks(paths).collect::<Vec<_>>()),
                "components": components,
                "page_rank": highest.iter().map(|&(node, rank)| json!({
                    "node": node.0, "text": display(node.0), "rank": rank,
                })).collect::<Vec<_>>(),
            }));
        }
        head(model)?;
        super::say(format!(
            "{} nodes, {} edges ({} own), {} transitions in the training text, {} self-loops, density {:.4}",
            summary.nodes,
            summary.edges,
            summary.own_edges,
            summary.walks,
            summary.loops,
            summary.density
        ))?;
        for walks in graph.paths().into_iter().flat_map(walks) {
            super::say(format!(
                "order {}: {} walks of {} nodes with {} targets, {} bytes",
                walks.order,
                walks.walks,
                walks.order - 1,
                walks.targets,
                walks.bytes
            ))?;
        }
        for (number, record) in (1..).zip(model.records()) {
            super::say(format!(
                "learned {number} {:?}: {} tokens × {}, {} new edges, {} new nodes",
                record.name, record.tokens, record.weight, record.new_edges, record.new_nodes
            ))?;
        }
        for (name, degree) in [("out", &summary.out_degree), ("in", &summary.in_degree)] {
            super::say(format!(
                "{name}-degree: mean {:.1}, median {}, 90th percentile {}, 99th percentile {}, maximum {}",
                degree.mean,
                degree.median,
                degree.tenth_highest,
                degree.hundredth_highest,
                degree.maximum
            ))?;
        }
        super::say(format!(
            "mean fan (outgoing edges of a token in the training text): {:.0} edges",
            summary.walked_fan
        ))?;
        super::say(format!(
            "{} strongly connected components, the largest of {} nodes; {} weakly connected",
            components.strong, components.largest_strong, components.weak
        ))?;
        edges("strongest edges", &summary.strongest)?;
        edges("weakest edges", &summary.weakest)?;
        super::say("highest PageRank (by counts)")?;
        for (node, rank) in highest {
            super::say(format!("  {rank:.5}  {}", display(node.0)))?;
        }
        Ok(())
    }

    fn node(
        &self,
        model: &Model,
        node: NodeId,
        strength: Strength,
        display: &dyn Fn(u32) -> String,
    ) -> Result<()> {
        let graph = model.mechanism().graph();
        let mut summary = NodeSummary::of(graph, node, self.limit, strength)?;
        summary.name(display);
        let reach = Reachability::from(graph, node, Direction::Out)?;
        let reached_by = Reachability::from(graph, node, Direction::In)?;
        let ranking = PageRank {
            weight: RankWeight::Count,
            ..PageRank::default()
        }
        .of(graph)?;
        let paths = match &self.to {
            Some(to) => least_paths(graph, node, find(model, to)?, self.limit)?,
            None => Vec::new(),
        };
        if self.json {
            return super::say_json(&json!({
                "node": summary,
                "reach": reach,
                "reached_by": reached_by,
                "page_rank": ranking.ranks[node.index()],
                "page_rank_position": ranking.position(node),
                "paths": paths.iter().map(|path| json!({
                    "nodes": path.nodes.iter().map(|node| node.0).collect::<Vec<_>>(),
                    "resistance": path.resistance,
                })).collect::<Vec<_>>(),
            }));
        }
        super::say(format!("#{} {}", node.0, display(node.0)))?;
        super::say(format!(
            "{} outgoing edges ({} own), {} incoming; left {} times, entered {} times in the training text",
            summary.out_degree,
            summary.own_edges,
            summary.in_degree,
            summary.walks_out,
            summary.walks_in
        ))?;
        super::say(format!(
            "reaches {} nodes; by number of hops: {}",
            reach.reached,
            reach
                .hops
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        ))?;
        super::say(format!("reached from {} nodes", reached_by.reached))?;
        super::say(format!(
            "PageRank {:.6}, rank {}",
            ranking.ranks[node.index()],
            ranking
                .position(node)
                .map_or("-".into(), |position| (position + 1).to_string())
        ))?;
        edges("strongest outgoing edges", &summary.strongest_out)?;
        edges("weakest outgoing edges", &summary.weakest_out)?;
        edges("strongest incoming edges", &summary.strongest_in)?;
        for path in paths {
            let nodes: Vec<String> = path.nodes.iter().map(|node| display(node.0)).collect();
            super::say(format!("  {:8.3}  {}", path.resistance, nodes.join(" → ")))?;
        }
        Ok(())
    }
}

/// The size of one order of a path graph.
#[derive(Serialize)]
struct OrderSize {
    order: usize,
    walks: usize,
    targets: usize,
    bytes: usize,
}

fn walks(paths: &PathGraph) -> impl Iterator<Item = OrderSize> + '_ {
    let levels = paths.levels().iter().zip(3..);
    levels.map(|(level, order)| OrderSize {
        order,
        walks: level.walks(),
        targets: level.entries(),
        bytes: level.bytes(),
    })
}

fn edges(title: &str, edges: &[EdgeSummary]) -> Result<()> {
    super::say(title)?;
    for edge in edges {
        let text =
            |text: &Option<String>, id: u32| text.clone().unwrap_or_else(|| format!("#{id}"));
        super::say(format!(
            "  {:8.4}  p {:.5}  {:>7} times  {} → {}",
            edge.resistance,
            edge.probability,
            edge.count,
            text(&edge.source_text, edge.source),
            text(&edge.target_text, edge.target)
        ))?;
    }
    Ok(())
}

/// Print the name, the license, and the sizes of the weights.
fn head(model: &Model) -> Result<()> {
    let (metadata, weights) = (model.metadata(), model.mechanism().weights());
    super::say(match &*metadata.license {
        "" => metadata.name.clone(),
        license => format!("{} ({license})", metadata.name),
    })?;
    super::say(format!(
        "profile {}: {} edges, width {}{}, {} blend of {} bank(s); {} parameters in {} bytes",
        metadata.profile.name,
        format!("{:?}", metadata.profile.form).to_lowercase(),
        metadata.profile.width,
        match metadata.profile.layers {
            0 => String::new(),
            layers => format!(
                ", {layers} layer(s) of inner width {}",
                metadata.profile.inner
            ),
        },
        format!("{:?}", metadata.profile.blend).to_lowercase(),
        metadata.profile.banks,
        weights.parameters(),
        weights.bytes()
    ))
}
