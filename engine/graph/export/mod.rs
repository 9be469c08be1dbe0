//! Export of a sub-graph as GraphML, GEXF, DOT or CSV.
//!
//! An [`Export`] takes a [`Subgraph`] and a label for each node, and streams text to any [`Write`]. networkx,
//! Gephi and yEd read GraphML and GEXF, graphviz reads DOT, spreadsheets and scripts read CSV. Node ids are token
//! ids in every format, so that files can be joined with each other and with the vocabulary. The writers of each
//! format also serve traces ([`crate::run::trace`]).

pub(crate) mod csv;
pub(crate) mod dot;
mod escape;
pub(crate) mod gexf;
pub(crate) mod graphml;
pub(crate) mod table;

pub(crate) use escape::{CsvField, DotLabel, Xml, XmlJson};

use std::fmt::Display;
use std::io::{BufWriter, Write};
use std::str::FromStr;

use self::table::{Row, Tables, Type};
use crate::graph::{EdgeId, NodeId, Subgraph};
use crate::{Error, ErrorKind, Result};

/// A format that a sub-graph can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExportFormat {
    /// GraphML, XML with typed attributes: networkx, yEd, igraph.
    GraphMl,
    /// GEXF 1.2, XML: Gephi, networkx.
    Gexf,
    /// The DOT language of graphviz.
    Dot,
    /// Comma-separated values (RFC 4180), one line an edge.
    CsvEdges,
    /// Comma-separated values (RFC 4180), one line a node.
    CsvNodes,
}

impl ExportFormat {
    /// Every format.
    pub const ALL: [Self; 5] = [
        Self::GraphMl,
        Self::Gexf,
        Self::Dot,
        Self::CsvEdges,
        Self::CsvNodes,
    ];

    /// The name of the format, as [`FromStr`] reads it.
    pub fn name(self) -> &'static str {
        match self {
            Self::GraphMl => "graphml",
            Self::Gexf => "gexf",
            Self::Dot => "dot",
            Self::CsvEdges => "csv",
            Self::CsvNodes => "csv-nodes",
        }
    }

    /// Usual extension of a file of the format, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::CsvNodes => "csv",
            other => other.name(),
        }
    }
}

impl FromStr for ExportFormat {
    type Err = Error;

    /// Read a name of a format, in capitals or not; also `gv` for DOT and `csv-edges` for CSV.
    fn from_str(name: &str) -> Result<Self> {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "gv" => return Ok(Self::Dot),
            "csv-edges" => return Ok(Self::CsvEdges),
            _ => {}
        }
        let mut all = Self::ALL.into_iter();
        all.find(|format| format.name() == lower).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::new(ErrorKind::Input, format!("invalid graph format {name:?}"))
                .advice(format!("use {names}"))
        })
    }
}

/// A sub-graph to export, with a label for each node.
///
/// ```
/// use brillm::graph::export::{Export, ExportFormat};
/// use brillm::graph::{Subgraph, TokenGraph};
/// let graph = TokenGraph::from_edges(2, &[(0, 1, 3)])?;
/// let part = Subgraph::whole(&graph);
/// let words = ["good", "\"day\""];
/// let label = |node: u32| words[node as usize].to_string();
/// let mut file = Vec::new();
/// Export::new(&part, &label).write(ExportFormat::Dot, &mut file)?;
/// assert!(String::from_utf8_lossy(&file).contains(r#"[label="\"day\"""#));
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Export<'a> {
    part: &'a Subgraph<'a>,
    label: &'a dyn Fn(u32) -> String,
    text: Option<&'a dyn Fn(u32) -> String>,
    ranks: Option<&'a [f64]>,
}

impl std::fmt::Debug for Export<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Export")
            .field("part", &self.part)
            .field("text", &self.text.is_some())
            .field("ranks", &self.ranks.is_some())
            .finish_non_exhaustive()
    }
}

impl<'a> Export<'a> {
    /// An export of `part`, whose nodes `label` names.
    pub fn new(part: &'a Subgraph<'a>, label: &'a dyn Fn(u32) -> String) -> Self {
        Self {
            part,
            label,
            text: None,
            ranks: None,
        }
    }

    /// Also write the exact text of each token; labels may show control characters as pictures.
    #[must_use]
    pub fn text(mut self, text: &'a dyn Fn(u32) -> String) -> Self {
        self.text = Some(text);
        self
    }

    /// Also write a rank for each node; `ranks` has one for every node of the whole graph. `[V]`
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when there are not as many ranks as nodes, or one is not finite.
    pub fn ranks(mut self, ranks: &'a [f64]) -> Result<Self> {
        let nodes = self.part.graph().nodes();
        if ranks.len() != nodes {
            let what = format!("{} ranks for {nodes} nodes", ranks.len());
            return Err(Error::new(ErrorKind::Input, what).at("export"));
        }
        if let Some(node) = ranks.iter().position(|rank| !rank.is_finite()) {
            let what = format!("the rank of node {node} is {}", ranks[node]);
            return Err(Error::new(ErrorKind::Input, what).at("export"));
        }
        self.ranks = Some(ranks);
        Ok(self)
    }

    /// Write the sub-graph. Degrees are those in the whole graph, probabilities too.
    ///
    /// Characters that XML 1.0 does not allow, and other control characters, are written in a readable form
    /// (`␀`, `\u{fffe}`) in every format; all other text is unchanged. The same sub-graph gives the same bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::Resource`] when `out` cannot be written.
    ///
    /// # Complexity
    /// O(nodes + edges log V) of the sub-graph, in constant memory.
    pub fn write(&self, format: ExportFormat, out: impl Write) -> Result<()> {
        let mut out = BufWriter::new(out);
        let written = match format {
            ExportFormat::GraphMl => graphml::write(
                &self.tables(format),
                self.node_rows(),
                self.edge_rows(),
                &mut out,
            ),
            ExportFormat::Gexf => gexf::write(
                &self.tables(format),
                self.node_rows(),
                self.edge_rows(),
                &mut out,
            ),
            ExportFormat::Dot => self.write_dot(&mut out),
            ExportFormat::CsvEdges => self.write_edge_table(&mut out),
            ExportFormat::CsvNodes => self.write_node_table(&mut out),
        };
        written
            .and_then(|()| out.flush())
            .map_err(|error| Error::io(error, format!("{} export", format.name())))
    }

    /// Return the attributes that GraphML and GEXF declare; each has its own order of a node's attributes.
    fn tables(&self, format: ExportFormat) -> Tables {
        let degrees = [("out_degree", Type::INTEGER), ("in_degree", Type::INTEGER)];
        let text = self.text.map(|_| ("text", Type::TEXT));
        let rank = self.ranks.map(|_| ("pagerank", Type::REAL));
        let mut nodes = Vec::new();
        if format == ExportFormat::GraphMl {
            nodes.push(("label", Type::TEXT));
            nodes.extend(text);
            nodes.extend(degrees);
        } else {
            nodes.extend(degrees);
            nodes.extend(text);
        }
        nodes.extend(rank);
        Tables {
            name: "tokens",
            schema: true,
            nodes,
            edges: vec![
                ("count", Type::LONG),
                ("probability", Type::REAL),
                ("resistance", Type::REAL),
                ("own", Type::BOOLEAN),
            ],
        }
    }

    fn node_rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.nodes().map(|node| {
            let mut row = Row::node(node.id)
                .with("label", node.label)
                .with("out_degree", node.out_degree)
                .with("in_degree", node.in_degree);
            if let Some(text) = node.text {
                row = row.with("text", text);
            }
            if let Some(rank) = node.rank {
                row = row.with("pagerank", format_args!("{rank:e}"));
            }
            row
        })
    }

    fn edge_rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.edges().map(|edge| {
            let row = Row::edge(edge.source, edge.target)
                .with("count", edge.count)
                .with("probability", format_args!("{:e}", edge.probability))
                .with("resistance", edge.resistance)
                .with("own", edge.own);
            Row {
                id: Some(edge.id.to_string()),
                ..row
            }
        })
    }

    /// Draw edges wider where they are more probable, and dash those that use the shared edge.
    fn write_dot(&self, out: &mut impl Write) -> std::io::Result<()> {
        dot::begin(out, "tokens", &[])?;
        for node in self.nodes() {
            let mut attributes = vec![("label", DotLabel(&node.label).to_string())];
            if let Some(text) = &node.text {
                // graphviz turns the tooltip into the title of the SVG element.
                let text = DotLabel(text).to_string();
                attributes.extend([("text", text.clone()), ("tooltip", text)]);
            }
            attributes.push(("out_degree", node.out_degree.to_string()));
            attributes.push(("in_degree", node.in_degree.to_string()));
            let rank = node.rank.map(|rank| dot::quoted(format_args!("{rank:e}")));
            attributes.extend(rank.map(|rank| ("pagerank", rank)));
            dot::statement(out, &node.id.to_string(), &attributes)?;
        }
        for edge in self.edges() {
            let probability = edge.probability;
            let mut attributes = vec![
                ("label", dot::quoted(format_args!("{probability:.3}"))),
                ("count", edge.count.to_string()),
                ("probability", dot::quoted(format_args!("{probability:e}"))),
                ("resistance", dot::quoted(edge.resistance)),
                ("own", edge.own.to_string()),
                ("penwidth", format!("{:.2}", 0.5 + 3.5 * probability)),
            ];
            if !edge.own {
                attributes.push(("style", "dashed".into()));
            }
            let subject = format!("{} -> {}", edge.source, edge.target);
            dot::statement(out, &subject, &attributes)?;
        }
        dot::end(out)
    }

    fn write_edge_table(&self, out: &mut impl Write) -> std::io::Result<()> {
        let head = "source,target,source_label,target_label,count,probability,resistance,own";
        csv::record(out, &[&head])?;
        for edge in self.edges() {
            let [source, target] = [edge.source, edge.target].map(|node| (self.label)(node.0));
            csv::record(
                out,
                &[
                    &edge.source,
                    &edge.target,
                    &CsvField(&source),
                    &CsvField(&target),
                    &edge.count,
                    &format_args!("{:e}", edge.probability),
                    &edge.resistance,
                    &edge.own,
                ],
            )?;
        }
        Ok(())
    }

    fn write_node_table(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut head: Vec<&dyn Display> = vec![&"id", &"label", &"out_degree", &"in_degree"];
        head.extend(self.text.map(|_| &"text" as &dyn Display));
        head.extend(self.ranks.map(|_| &"pagerank" as &dyn Display));
        csv::record(out, &head)?;
        for node in self.nodes() {
            let (label, text) = (CsvField(&node.label), node.text.as_deref().map(CsvField));
            let rank = node.rank.map(|rank| format!("{rank:e}"));
            let mut fields: Vec<&dyn Display> =
                vec![&node.id, &label, &node.out_degree, &node.in_degree];
            fields.extend(text.as_ref().map(|text| text as &dyn Display));
            fields.extend(rank.as_ref().map(|rank| rank as &dyn Display));
            csv::record(out, &fields)?;
        }
        Ok(())
    }

    fn nodes(&self) -> impl Iterator<Item = Node> + '_ {
        self.part.nodes().iter().map(|&node| Node {
            id: node.0,
            label: (self.label)(node.0),
            text: self.text.map(|text| text(node.0)),
            out_degree: self.part.graph().row(node).len(),
            in_degree: self.part.graph().incoming().degree(node),
            rank: self.ranks.map(|ranks| ranks[node.index()]),
        })
    }

    fn edges(&self) -> impl Iterator<Item = Edge> + '_ {
        let graph = self.part.graph();
        self.part.walk().map(|(id, source, target)| {
            let resistance = graph.resistance().seen()[id.index()];
            Edge {
                id,
                source,
                target,
                count: graph.counts()[id.index()],
                probability: (-f64::from(resistance)).exp(),
                resistance,
                own: graph.edge_rows()[id.index()] > 0,
            }
        })
    }
}

/// The exported attributes of a node.
struct Node {
    id: u32,
    label: String,
    text: Option<String>,
    out_degree: usize,
    in_degree: usize,
    rank: Option<f64>,
}

/// The exported attributes of an edge.
struct Edge {
    id: EdgeId,
    source: NodeId,
    target: NodeId,
    count: u32,
    probability: f64,
    resistance: f32,
    own: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::TokenGraph;

    #[test]
    fn formats_are_read_by_name() {
        for format in ExportFormat::ALL {
            assert_eq!(format.name().parse::<ExportFormat>().unwrap(), format);
        }
        assert_eq!("GV".parse::<ExportFormat>().unwrap(), ExportFormat::Dot);
        let error = "png".parse::<ExportFormat>().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("graphml, gexf, dot, csv, csv-nodes")
        );
    }

    #[test]
    fn ranks_must_fit_the_graph() {
        let graph = TokenGraph::from_edges(2, &[(0, 1, 1)]).unwrap();
        let part = Subgraph::whole(&graph);
        let export = Export::new(&part, &|node| node.to_string());
        assert!(export.ranks(&[0.5]).is_err());
        assert!(export.ranks(&[0.5, f64::NAN]).is_err());
        assert!(export.ranks(&[0.5, 0.5]).is_ok());
    }

    #[test]
    fn a_full_disk_is_an_error_with_a_place() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let graph = TokenGraph::from_edges(2, &[(0, 1, 1)]).unwrap();
        let part = Subgraph::whole(&graph);
        for format in ExportFormat::ALL {
            let error = Export::new(&part, &|node| node.to_string()).write(format, Full);
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Resource);
            assert!(error.to_string().starts_with(format.name()));
        }
    }
}
