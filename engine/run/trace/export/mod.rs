//! A trace written for other programs: JSON, SVG, DOT, GraphML, GEXF and CSV.
//!
//! As a graph, a candidate of a step is a node (`step.id`), and each of them has an edge from what was chosen
//! before it. The same trace gives the same bytes, whoever asks.

mod csv;
mod dot;
mod gexf;
mod graphml;
mod svg;

use std::str::FromStr;

use super::Trace;
use crate::{Error, ErrorKind, Result};

/// A format that a trace can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TraceFormat {
    /// The document itself.
    Json,
    /// A picture of the path, which carries the document and can be opened again.
    Svg,
    /// The DOT language of graphviz.
    Dot,
    /// GraphML.
    GraphMl,
    /// GEXF 1.2.
    Gexf,
    /// One line a candidate (RFC 4180).
    Csv,
}

/// The colours of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// On white.
    #[default]
    Light,
    /// On near black.
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

    /// Its name, which is how files of it end.
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

    /// What the web calls it.
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
            Error::new(
                ErrorKind::Input,
                format!("{name:?} is not a format a trace can be written in"),
            )
            .advice(format!("one of {}", Self::ALL.map(Self::name).join(", ")))
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
                Error::new(ErrorKind::Input, format!("{name:?} is no theme"))
                    .advice("light or dark"),
            ),
        }
    }
}

impl Trace {
    /// Writes the trace in a format.
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
    /// [`ErrorKind::Numeric`] when a number in it is none that JSON has.
    pub fn export(&self, format: TraceFormat, theme: Theme) -> Result<String> {
        Ok(match format {
            TraceFormat::Json => self.to_json()? + "\n",
            TraceFormat::Svg => svg::write(self, theme)?,
            TraceFormat::Dot => dot::write(self),
            TraceFormat::GraphMl => graphml::write(self),
            TraceFormat::Gexf => gexf::write(self),
            TraceFormat::Csv => csv::write(self),
        })
    }
}

/// A node of the picture: a candidate of a step, or the last token of the prompt (step `None`).
struct Place<'a> {
    /// Unique in the document.
    name: String,
    step: Option<usize>,
    id: u32,
    display: &'a str,
    chosen: bool,
    candidate: Option<&'a super::Candidate>,
}

/// Every node, step by step.
fn places(trace: &Trace) -> Vec<Place<'_>> {
    let mut places = Vec::new();
    if let Some(token) = trace.prompt_tokens.checked_sub(1) {
        let token = &trace.tokens[token];
        places.push(Place {
            name: "prompt".into(),
            step: None,
            id: token.id,
            display: &token.display,
            chosen: true,
            candidate: None,
        });
    }
    for step in &trace.steps {
        places.extend(step.candidates.iter().map(|candidate| Place {
            name: format!("{}.{}", step.index, candidate.id),
            step: Some(step.index),
            id: candidate.id,
            display: &candidate.display,
            chosen: candidate.id == step.chosen,
            candidate: Some(candidate),
        }));
    }
    places
}

/// The name of the node that a step leaves from.
fn source(trace: &Trace, step: usize) -> String {
    match step.checked_sub(1) {
        Some(before) => format!("{before}.{}", trace.steps[before].chosen),
        None => "prompt".into(),
    }
}

/// `own`, `seen`, `shared`, or nothing.
fn kind(candidate: &super::Candidate) -> &'static str {
    match candidate.edge {
        Some(super::EdgeKind::Own) => "own",
        Some(super::EdgeKind::Seen) => "seen",
        Some(super::EdgeKind::Shared) => "shared",
        None => "",
    }
}
