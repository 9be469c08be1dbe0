//! A model: a mechanism with its tokenizer and metadata.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::graph::TokenGraph;
use crate::kernel::bytes::Bytes;
use crate::kernel::element::Element;
use crate::kernel::table::Table;
use crate::model::container::{Block, Container, Verify};
use crate::model::learned::{Learned, LearnedRecord};
use crate::model::path_blocks::read_paths;
use crate::model::save::{write_model, write_table};
use crate::path::{Charges, RecallSettings};
use crate::signal::{FanVerifier, Mechanism, Profile, Weights};
use crate::text::{ReadingDirection, Tokenizer};
use crate::{Error, ErrorKind, Result};

/// Metadata of a model file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// A short name.
    pub name: String,
    /// The license of the weights.
    #[serde(alias = "licence")]
    pub license: String,
    /// The profile of the mechanism.
    pub profile: Profile,
    /// The count from which an edge is an own edge; 4294967295 for none.
    pub own_minimum: u32,
    /// Reading direction; a backward model extends text to the left.
    #[serde(default, skip_serializing_if = "ReadingDirection::is_forward")]
    pub direction: ReadingDirection,
    /// Charges fitted on held-out text, which streams may enable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charges: Option<ChargeSettings>,
    /// Recall fitted on held-out text, which streams may enable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<RecallSettings>,
    /// Record of the training: recipe, data and their checksums, seed, steps, figures.
    #[serde(default)]
    pub training: serde_json::Value,
}

/// Constants of [`Charges`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ChargeSettings {
    /// Factor of a charge per step.
    pub decay: f64,
    /// Strength of node charges.
    pub node_strength: f32,
    /// Strength of edge charges.
    pub edge_strength: f32,
    /// Charge at which the effect begins to saturate.
    pub scale: f32,
}

impl std::str::FromStr for ChargeSettings {
    type Err = Error;

    /// Parse `DECAY,NODE,EDGE,SCALE`.
    fn from_str(text: &str) -> Result<Self> {
        let numbers: Option<Vec<f64>> = text
            .split(',')
            .map(|number| number.trim().parse().ok())
            .collect();
        let invalid = |what: &str| {
            let what = format!("invalid charges {text:?}: {what}");
            Err(Error::new(ErrorKind::Input, what))
        };
        let Some(&[decay, node, edge, scale]) = numbers.as_deref() else {
            return invalid("expected DECAY,NODE,EDGE,SCALE");
        };
        if !(0.0..=1.0).contains(&decay) {
            return invalid("DECAY must be 0 to 1");
        }
        if !(node.abs() <= Self::STRONGEST && edge.abs() <= Self::STRONGEST) {
            return invalid("NODE and EDGE must be −1000 to 1000");
        }
        if !(scale > 0.0 && (scale as f32).is_normal()) {
            return invalid("SCALE must be above 0");
        }
        Ok(Self {
            decay,
            node_strength: node as f32,
            edge_strength: edge as f32,
            scale: scale as f32,
        })
    }
}

impl std::fmt::Display for ChargeSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            decay,
            node_strength,
            edge_strength,
            scale,
        } = self;
        write!(formatter, "{decay},{node_strength},{edge_strength},{scale}")
    }
}

impl ChargeSettings {
    /// The strongest charges that are read from text: more would overflow logits.
    const STRONGEST: f64 = 1000.0;

    /// Create empty charges with these constants.
    pub fn charges(&self) -> Charges {
        Charges::new(
            self.decay,
            self.node_strength,
            self.edge_strength,
            self.scale,
        )
    }
}

/// A graph model: a mechanism, its tokenizer and its metadata.
///
/// Cheap to clone; `Send + Sync`. Sessions decode with [`Self::mechanism`].
///
/// ```
/// let model = brillm::Model::open("models/english.bril".as_ref(), Default::default())?;
/// assert_eq!(model.tokenizer().vocabulary().len(), model.mechanism().nodes());
/// println!("{}: {}", model.metadata().name, model.metadata().license);
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Model {
    metadata: Arc<Metadata>,
    tokenizer: Arc<Tokenizer>,
    mechanism: Arc<Mechanism>,
    learned: Arc<Learned>,
}

impl Model {
    /// Create a model from its mechanism, tokenizer and metadata.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when the tokenizer and the graph have different sizes.
    pub fn new(metadata: Metadata, tokenizer: Tokenizer, mechanism: Mechanism) -> Result<Self> {
        if tokenizer.vocabulary().len() != mechanism.nodes() {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "{} tokens for a graph of {} nodes",
                    tokenizer.vocabulary().len(),
                    mechanism.nodes()
                ),
            ));
        }
        Ok(Self {
            metadata: Arc::new(metadata),
            tokenizer: Arc::new(tokenizer),
            mechanism: Arc::new(mechanism),
            learned: Arc::default(),
        })
    }

    /// Open a `.bril` file; see [`Container::open`].
    ///
    /// # Errors
    /// As [`Container::open`]; [`ErrorKind::Format`] for a block that is missing or has a wrong shape.
    pub fn open(path: &Path, verify: Verify) -> Result<Self> {
        Self::from_container(&Container::open(path, verify)?)
            .map_err(|error| error.at(path.display()))
    }

    /// Open a model in memory, for example the built-in model.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(bytes: Bytes) -> Result<Self> {
        Self::from_container(&Container::from_bytes(bytes, Verify::Lazy)?)
    }

    fn from_container(container: &Container) -> Result<Self> {
        let metadata: Metadata =
            serde_json::from_value(container.metadata().clone()).map_err(|error| {
                Error::new(
                    ErrorKind::Format,
                    format!("the metadata cannot be read: {error}"),
                )
            })?;
        metadata.profile.check()?;
        let rows = container.require("graph.rows")?.typed::<u32>()?.to_vec();
        let vocabulary = container.require("vocabulary")?.bytes();
        let tokenizer = Tokenizer::from_bytes_for(vocabulary, rows.len().saturating_sub(1))
            .map_err(|error| error.at("block vocabulary"))?;
        let targets = whole_numbers(container.require("graph.targets")?)?;
        let counts = whole_numbers(container.require("graph.counts")?)?;
        let mut graph = TokenGraph::from_rows(rows, targets, counts)?;
        graph.set_own_minimum(metadata.own_minimum);
        let paths = read_paths(container, &graph)?;
        let graph = graph.with_paths(paths);
        let weights = Weights::gather(
            &metadata.profile,
            graph.nodes(),
            graph.own_edges(),
            |shape| read_matrix(container, shape.name),
        )?;
        let parts = container
            .block("edge.arena")
            .and_then(|block| block.parts().cloned());
        let mut mechanism = Mechanism::new(metadata.profile.clone(), graph, weights)?;
        if let Some(parts) = parts {
            mechanism = mechanism.with_verifier(FanVerifier(Arc::new(move |node| {
                parts.verify(0)?;
                node.map_or(Ok(()), |node| parts.verify(node as usize + 1))
            })));
        }
        let learned = Learned::read(container, &mechanism)?;
        Ok(Self::new(metadata, tokenizer, mechanism)?.with_learned(learned))
    }

    /// Write the model to a file; equal models give equal bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::Resource`]; an existing file is then unchanged.
    pub fn save(&self, path: &Path) -> Result<()> {
        let (graph, weights) = (self.mechanism.graph(), self.mechanism.weights());
        let about = (&*self.metadata, &*self.tokenizer, graph);
        let mut writer = write_model(path, about, &mut |writer, shape| {
            if shape.narrows {
                return write_table(writer, graph, shape.name, weights.table(shape.name));
            }
            let values = weights.values(shape.name);
            writer.values(
                shape.name,
                Element::F32,
                &[shape.rows, shape.columns],
                values,
            )
        })?;
        self.learned.write(&mut writer)?;
        writer.finish()
    }

    /// Convert the rows of nodes and edges to `element` (f32, f16 or int8).
    ///
    /// # Errors
    /// As [`Weights::converted`].
    pub fn quantized(&self, element: Element) -> Result<Self> {
        let weights = self.mechanism.weights().converted(element)?;
        Ok(Self {
            mechanism: Arc::new(self.mechanism.with_weights(weights)?),
            learned: Arc::new(
                Learned::clone(&self.learned).converted(&self.metadata.profile, element)?,
            ),
            ..self.clone()
        })
    }

    /// Use static resistances of a lower order than those of the model; see [`Mechanism::with_order`]. Saving keeps all
    /// orders.
    ///
    /// # Errors
    /// As [`Mechanism::with_order`].
    pub fn with_order(&self, order: usize) -> Result<Self> {
        let mechanism = Mechanism::clone(&self.mechanism).with_order(order)?;
        Ok(self.with_mechanism(Arc::new(mechanism)))
    }

    /// Replace the mechanism with one of the same graph.
    pub(crate) fn with_mechanism(&self, mechanism: Arc<Mechanism>) -> Self {
        Self {
            mechanism,
            ..self.clone()
        }
    }

    /// Replace the records of what the model has learned since its training.
    pub(crate) fn with_learned(self, learned: Learned) -> Self {
        Self {
            learned: Arc::new(learned),
            ..self
        }
    }

    /// What the model has learned since its training, with what forgetting needs.
    pub(crate) fn learned(&self) -> &Learned {
        &self.learned
    }

    /// Iterate over the records of the texts that the model has learned since its training, in that order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = &LearnedRecord> {
        self.learned.texts.iter().map(|text| &text.record)
    }

    /// Choose a name for a new record: `stem`, after `text-` if it is a number, which would name a record by its place, and
    /// numbered if a record has that name.
    pub fn record_name(&self, stem: &str) -> String {
        let stem = match stem.bytes().all(|byte| byte.is_ascii_digit()) {
            true => format!("text-{stem}"),
            false => stem.to_string(),
        };
        let taken = |name: &str| self.records().any(|record| record.name == name);
        let mut name = stem.clone();
        let mut number = 1;
        while taken(&name) {
            number += 1;
            name = format!("{stem}-{number}");
        }
        name
    }

    /// Change the metadata.
    #[must_use]
    pub fn described(mut self, change: impl FnOnce(&mut Metadata)) -> Self {
        change(Arc::make_mut(&mut self.metadata));
        self
    }

    /// Create charges from `text` (`DECAY,NODE,EDGE,SCALE`), or from the model's own settings where it is empty.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a model without charges, or for invalid text.
    pub fn charges(&self, text: &str) -> Result<ChargeSettings> {
        if !text.is_empty() {
            return text.parse();
        }
        self.metadata.charges.ok_or_else(|| {
            Error::new(ErrorKind::Input, "the model has no fitted charges")
                .advice("pass --charges=DECAY,NODE,EDGE,SCALE, or fit them with `brillm fit`")
        })
    }

    /// Read the constants of recall from `text` (`WINDOW,THETA,MU[,SLOPE]`), or the model's own where it is empty.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a model without recall, or for invalid text.
    pub fn recall(&self, text: &str) -> Result<RecallSettings> {
        if !text.is_empty() {
            return text.parse();
        }
        self.metadata.recall.ok_or_else(|| {
            Error::new(ErrorKind::Input, "the model has no fitted recall")
                .advice("pass --recall=WINDOW,THETA,MU, or fit it with `brillm fit`")
        })
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokenizer, shared.
    pub fn shared_tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The mechanism: the graph with its weights.
    pub fn mechanism(&self) -> &Arc<Mechanism> {
        &self.mechanism
    }
}

/// Read a block of u16 or u32 as u32.
pub(super) fn whole_numbers(block: &Block) -> Result<Vec<u32>> {
    match block.element {
        Element::U16 => Ok(block
            .typed::<u16>()?
            .iter()
            .map(|&value| u32::from(value))
            .collect()),
        Element::U32 => Ok(block.typed::<u32>()?.to_vec()),
        other => Err(Error::new(
            ErrorKind::Format,
            format!("the block contains {other}, expected u16 or u32"),
        )
        .at(format!("block {}", block.name))),
    }
}

/// Read a block that is a matrix, with the scales of its rows where it has some; `None` where the file does not have it.
pub(super) fn read_matrix(container: &Container, name: &str) -> Result<Option<Table>> {
    let Some(block) = container.block(name) else {
        return Ok(None);
    };
    let locate = |error: Error| error.at(format!("block {name}"));
    let &[rows, columns] = block.shape.as_slice() else {
        return Err(locate(Error::new(
            ErrorKind::Format,
            "the block is not a matrix",
        )));
    };
    let scales = match block.element {
        Element::I8 => {
            let scales = container.require(&format!("{name}.scales"))?;
            Some(scales.bytes().clone())
        }
        _ => None,
    };
    Table::new(rows, columns, block.element, block.bytes().clone(), scales)
        .map(Some)
        .map_err(locate)
}
