//! Export of a trace as JSON, SVG, DOT, GraphML, GEXF or CSV.
//!
//! As a graph, each candidate of a step is a node (`step.id`) with an edge from the token chosen before it. The same
//! trace gives the same bytes.

mod svg;

use std::io::Write;
use std::str::FromStr;

use super::{Candidate, EdgeKind, Trace};
use crate::graph::export::table::{Row, Tables, Type};
use crate::graph::export::{CsvField, DotLabel, csv, dot, gexf, graphml};
use crate::{Error, ErrorKind, Result};

/// A format that a trace can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TraceFormat {
    /// The document `brillm-trace/1`.
    Json,
    /// A picture of the path; its metadata hold the document, so that it can be opened again.
    Svg,
    /// The DOT language of graphviz.
    Dot,
    /// GraphML.
    GraphMl,
    /// GEXF 1.2.
    Gexf,
    /// One record per candidate (RFC 4180).
    Csv,
}

/// Colours of the SVG picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// Dark on white.
    #[default]
    Light,
    /// Light on near black.
    Dark,
}

impl TraceFormat {
    /// Every format.
    pub const ALL: [Self; 6] = [
        Self::Json,
        Self::Svg,
        Self::Dot,
        Self::GraphMl,
        Self::Gexf,
        Self::Csv,
    ];

    /// The name of the format, which is also its file extension.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Svg => "svg",
            Self::Dot => "dot",
            Self::GraphMl => "graphml",
            Self::Gexf => "gexf",
            Self::Csv => "csv",
        }
    }

    /// The media type (MIME) of the format.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Svg => "image/svg+xml",
            Self::Dot => "text/vnd.graphviz; charset=utf-8",
            Self::GraphMl | Self::Gexf => "application/xml",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }
}

impl FromStr for TraceFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let lower = name.to_ascii_lowercase();
        let mut all = Self::ALL.into_iter();
        all.find(|format| format.name() == lower).ok_or_else(|| {
            Error::new(ErrorKind::Input, format!("invalid trace format {name:?}")).advice(format!(
                "use one of {}",
                Self::ALL.map(Self::name).join(", ")
            ))
        })
    }
}

impl FromStr for Theme {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "light" => Ok(Self::Light),
            "dark" => Ok(Self::Dark),
            _ => Err(
                Error::new(ErrorKind::Input, format!("invalid theme {name:?}"))
                    .advice("use light or dark"),
            ),
        }
    }
}

impl Trace {
    /// Write the trace in a format.
    ///
    /// ```no_run
    /// use brillm::run::trace::{Theme, Trace, TraceFormat};
    /// # fn main() -> brillm::Result<()> {
    /// let trace = Trace::open("path.svg".as_ref())?;
    /// std::fs::write("path.dot", trace.export(TraceFormat::Dot, Theme::Light)?).unwrap();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when a number in it has no form in JSON.
    pub fn export(&self, format: TraceFormat, theme: Theme) -> Result<String> {
        let mut out = Vec::new();
        let tables = self.tables(format);
        match format {
            TraceFormat::Json => return Ok(self.to_json()? + "\n"),
            TraceFormat::Svg => return svg::write(self, theme),
            TraceFormat::Dot => self.write_dot(&mut out),
            TraceFormat::GraphMl => {
                graphml::write(&tables, self.node_rows(), self.edge_rows(), &mut out)
            }
            TraceFormat::Gexf => gexf::write(&tables, self.node_rows(), self.edge_rows(), &mut out),
            TraceFormat::Csv => self.write_csv(&mut out),
        }
        .map_err(|error| Error::io(error, format!("{} export", format.name())))?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}

impl Trace {
    /// What GraphML and GEXF declare.
    fn tables(&self, format: TraceFormat) -> Tables {
        let mut nodes = vec![
            ("token", Type::INTEGER),
            ("step", Type::INTEGER),
            ("chosen", Type::BOOLEAN),
            ("energy", Type::REAL),
        ];
        let mut edges = vec![("rank", Type::INTEGER), ("edge", Type::TEXT)];
        // GEXF has the label and the weight as attributes of the elements themselves.
        if format == TraceFormat::GraphMl {
            nodes.insert(0, ("label", Type::TEXT));
            edges.insert(0, ("probability", Type::REAL));
        }
        Tables {
            name: "path",
            schema: false,
            nodes,
            edges,
        }
    }

    fn node_rows(&self) -> impl Iterator<Item = Row> + '_ {
        nodes(self).map(|node| {
            let row = Row::node(&node.name)
                .with("label", node.display)
                .with("token", node.id)
                .with("step", node.step.map_or(-1, |step| step as i64))
                .with("chosen", node.chosen);
            match node.candidate {
                Some(candidate) => row.with("energy", candidate.energy),
                None => row,
            }
        })
    }

    fn edge_rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.steps.iter().flat_map(move |step| {
            let source = source(self, step.index);
            step.candidates.iter().map(move |candidate| {
                Row::edge(&source, format_args!("{}.{}", step.index, candidate.id))
                    .with("probability", format_args!("{:e}", candidate.probability))
                    .with("rank", candidate.rank)
                    .with("edge", kind(candidate))
            })
        })
    }

    /// Draw steps from left to right, the chosen path bold, seen edges dashed and shared ones dotted.
    fn write_dot(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        dot::begin(out, "path", &["rankdir=LR"])?;
        for node in nodes(self) {
            let mut attributes = vec![
                ("label", DotLabel(node.display).to_string()),
                ("token", node.id.to_string()),
            ];
            if let Some(candidate) = node.candidate {
                let probability = format_args!("{:e}", candidate.probability).to_string();
                attributes.extend([
                    ("energy", dot::quoted(candidate.energy)),
                    ("probability", dot::quoted(probability)),
                    ("rank_of_step", candidate.rank.to_string()),
                ]);
            }
            if node.chosen {
                attributes.push(("penwidth", "2".into()));
            }
            dot::statement(out, &dot::quoted(node.name), &attributes)?;
        }
        for step in &self.steps {
            let name = |candidate: &Candidate| {
                dot::quoted(format_args!("{}.{}", step.index, candidate.id))
            };
            let names: Vec<String> = step.candidates.iter().map(name).collect();
            writeln!(out, "  {{ rank=same; {}; }}", names.join("; "))?;
            let source = dot::quoted(source(self, step.index));
            for (candidate, target) in step.candidates.iter().zip(&names) {
                let probability = candidate.probability;
                let mut attributes = vec![
                    ("probability", dot::quoted(format_args!("{probability:e}"))),
                    ("penwidth", format!("{:.2}", 0.5 + 4.0 * probability)),
                ];
                let style = match candidate.edge {
                    Some(EdgeKind::Seen) => Some("dashed"),
                    Some(EdgeKind::Shared) => Some("dotted"),
                    _ => None,
                };
                attributes.extend(style.map(|style| ("style", style.to_string())));
                dot::statement(out, &format!("{source} -> {target}"), &attributes)?;
            }
        }
        dot::end(out)
    }

    fn write_csv(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let head =
            "step,position,source,id,display,bytes,energy,probability,rank,edge,count,chosen";
        csv::record(out, &[&head])?;
        for step in &self.steps {
            for candidate in &step.candidates {
                let count = candidate.count.map(|count| count.to_string());
                csv::record(
                    out,
                    &[
                        &step.index,
                        &step.position,
                        &step.source,
                        &candidate.id,
                        &CsvField(&candidate.display),
                        &candidate.bytes_hex,
                        &candidate.energy,
                        &format_args!("{:e}", candidate.probability),
                        &candidate.rank,
                        &kind(candidate),
                        &count.unwrap_or_default(),
                        &(candidate.id == step.chosen),
                    ],
                )?;
            }
        }
        Ok(())
    }
}

/// A node of the exported graph: a candidate of a step, or the last token of the prompt (step `None`).
struct Node<'a> {
    /// Unique in the document.
    name: String,
    step: Option<usize>,
    id: u32,
    display: &'a str,
    chosen: bool,
    candidate: Option<&'a Candidate>,
}

/// Every node, step by step.
fn nodes(trace: &Trace) -> impl Iterator<Item = Node<'_>> {
    let prompt = trace.prompt_tokens.checked_sub(1).map(|last| {
        let token = &trace.tokens[last];
        Node {
            name: "prompt".into(),
            step: None,
            id: token.id,
            display: &token.display,
            chosen: true,
            candidate: None,
        }
    });
    let candidates = trace.steps.iter().flat_map(|step| {
        step.candidates.iter().map(|candidate| Node {
            name: format!("{}.{}", step.index, candidate.id),
            step: Some(step.index),
            id: candidate.id,
            display: &candidate.display,
            chosen: candidate.id == step.chosen,
            candidate: Some(candidate),
        })
    });
    prompt.into_iter().chain(candidates)
}

/// The name of the node that the edges of a step leave.
fn source(trace: &Trace, step: usize) -> String {
    match step.checked_sub(1) {
        Some(before) => format!("{before}.{}", trace.steps[before].chosen),
        None => "prompt".into(),
    }
}

/// `own`, `seen`, `shared`, or nothing.
fn kind(candidate: &Candidate) -> &'static str {
    match candidate.edge {
        Some(EdgeKind::Own) => "own",
        Some(EdgeKind::Seen) => "seen",
        Some(EdgeKind::Shared) => "shared",
        None => "",
    }
}
