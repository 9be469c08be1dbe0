//! Texts that a finished model has learned: their records in its file, and what it takes to forget them.
//!
//! A file with records has, besides the blocks of every model, `learned.records` (JSON), for each record N its tokens
//! (`learned.N.tokens`) and the rows of weights that it moved, as they were before (`learned.N.BLOCK`, with the nodes or edges they
//! belong to in `learned.N.BLOCK.keys`), and the path graph before the first record (`learned.path.*`).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::graph::{AddedText, LEVEL_BLOCKS, NodeId, PathGraph, TokenGraph};
use crate::kernel::bytes::Bytes;
use crate::kernel::element::Element;
use crate::kernel::table::Table;
use crate::model::container::Container;
use crate::model::model::{read_matrix, whole_numbers};
use crate::model::path_blocks::{read_paths, write_paths};
use crate::model::save::write_matrix;
use crate::model::writer::Writer;
use crate::signal::{BlockShape, Mechanism, Profile, RowsOf, Weights, blocks};
use crate::{Error, ErrorKind, Result};

/// Prefix of the blocks of records.
const PREFIX: &str = "learned.";

/// What a model has learned from a text after its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnedRecord {
    /// Its name.
    pub name: String,
    /// Where the text came from.
    pub sources: Vec<String>,
    /// Tokens of the text.
    pub tokens: usize,
    /// How often each of its transitions counts.
    pub weight: u32,
    /// Nodes that were added for its words; those of a record that was forgotten before a later one are the later one's.
    pub new_nodes: usize,
    /// Edges that were added.
    pub new_edges: usize,
    /// Settings and figures of the training of touched rows; null for counts alone.
    pub training: Value,
}

/// A record with the arrays that forgetting needs.
#[derive(Clone, Debug)]
pub(crate) struct LearnedText {
    pub(crate) record: LearnedRecord,
    pub(crate) tokens: Vec<u32>,
    pub(crate) rows: Vec<SavedRows>,
}

/// Rows of a block as they were before a text was learned.
#[derive(Clone, Debug)]
pub(crate) struct SavedRows {
    pub(crate) block: String,
    /// The node of each row, or source · 2³² + target of its edge.
    pub(crate) keys: Vec<u64>,
    pub(crate) table: Table,
}

/// All that a model has learned since its training.
#[derive(Clone, Debug, Default)]
pub(crate) struct Learned {
    /// In the order in which they were learned.
    pub(crate) texts: Vec<LearnedText>,
    /// The path graph before the first text.
    pub(crate) paths: BasePaths,
}

/// The path graph of a model before it learned texts.
#[derive(Clone, Debug, Default)]
pub(crate) enum BasePaths {
    #[default]
    None,
    /// As its blocks, which are checked when they are needed.
    Stored(Container),
    Read(PathGraph),
}

impl Learned {
    /// The texts, as they were added to the graph.
    pub(crate) fn added(&self) -> Vec<AddedText<'_>> {
        self.texts.iter().map(LearnedText::added).collect()
    }

    /// Create the graph before the first text from that after the last one.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when the graph has not counted the texts, or the stored path graph is damaged.
    pub(crate) fn base(&self, graph: &TokenGraph) -> Result<TokenGraph> {
        if self.texts.is_empty() {
            return Ok(graph.clone());
        }
        let new: usize = self.texts.iter().map(|text| text.record.new_nodes).sum();
        let base = graph.without_texts(&self.added(), graph.nodes().saturating_sub(new))?;
        let paths = match &self.paths {
            BasePaths::None => None,
            BasePaths::Read(paths) => Some(paths.clone()),
            BasePaths::Stored(blocks) => read_paths(blocks, &base)?,
        };
        Ok(base.with_paths(paths))
    }

    /// Convert saved rows to another element type, as [`Weights::converted`] converts the rows in use.
    pub(crate) fn converted(mut self, profile: &Profile, element: Element) -> Result<Self> {
        let wide = |name: &str| {
            let mut all = blocks(profile, 1, 1).into_iter();
            all.any(|block| block.name == name && block.narrows)
        };
        for rows in self.texts.iter_mut().flat_map(|text| &mut text.rows) {
            if wide(&rows.block) {
                rows.table = rows.table.converted(element)?;
            }
        }
        Ok(self)
    }

    /// Read the records of a model; none where it has none.
    ///
    /// # Errors
    /// [`ErrorKind::Format`], naming the block, for one that is missing or contradicts the model.
    pub(super) fn read(container: &Container, mechanism: &Mechanism) -> Result<Self> {
        let Some(block) = container.block("learned.records") else {
            return Ok(Self::default());
        };
        let records: Vec<LearnedRecord> =
            serde_json::from_slice(block.bytes()).map_err(|error| {
                Error::new(ErrorKind::Format, "the records cannot be read")
                    .at("block learned.records")
                    .because(error)
            })?;
        let graph = mechanism.graph();
        let new: usize = records
            .iter()
            .map(|record| record.new_nodes)
            .fold(0, usize::saturating_add);
        if new > graph.nodes() {
            let what = format!("{new} new nodes in a graph of {} nodes", graph.nodes());
            return Err(Error::new(ErrorKind::Format, what).at("block learned.records"));
        }
        let shapes = blocks(mechanism.profile(), graph.nodes(), graph.own_edges());
        let texts = records.into_iter().enumerate();
        let texts = texts.map(|(index, record)| {
            let name = format!("{PREFIX}{index}.tokens");
            let tokens = whole_numbers(container.require(&name)?)?;
            let invalid =
                |what| Err(Error::new(ErrorKind::Format, what).at(format!("block {name}")));
            if tokens.len() != record.tokens {
                let (found, expected) = (tokens.len(), record.tokens);
                return invalid(format!("{found} tokens, expected {expected}"));
            }
            if let Some(token) = tokens
                .iter()
                .find(|&&token| token as usize >= graph.nodes())
            {
                return invalid(format!("token {token} is not below {}", graph.nodes()));
            }
            let mut rows = Vec::new();
            for shape in &shapes {
                rows.extend(read_rows(
                    container,
                    index,
                    shape,
                    graph.nodes(),
                    mechanism.weights(),
                )?);
            }
            Ok(LearnedText {
                record,
                tokens,
                rows,
            })
        });
        let texts = texts.collect::<Result<_>>()?;
        let part = container.part(PREFIX);
        let paths = match check_paths(&part, graph)? {
            true => BasePaths::Stored(part),
            false => BasePaths::None,
        };
        Ok(Self { texts, paths })
    }

    /// Write the records, if there are any.
    pub(super) fn write(&self, writer: &mut Writer) -> Result<()> {
        if self.texts.is_empty() {
            return Ok(());
        }
        let records: Vec<_> = self.texts.iter().map(|text| &text.record).collect();
        let json = serde_json::to_vec(&records).map_err(|error| {
            Error::new(ErrorKind::Format, "the records have no JSON form").because(error)
        })?;
        writer.values("learned.records", Element::U8, &[json.len()], &json)?;
        for (index, text) in self.texts.iter().enumerate() {
            let name = format!("{PREFIX}{index}.tokens");
            writer.values(&name, Element::U32, &[text.tokens.len()], &text.tokens)?;
            for rows in &text.rows {
                let name = format!("{PREFIX}{index}.{}", rows.block);
                writer.values(
                    &format!("{name}.keys"),
                    Element::U64,
                    &[rows.keys.len()],
                    &rows.keys,
                )?;
                write_matrix(writer, &name, &rows.table)?;
            }
        }
        match &self.paths {
            BasePaths::None => Ok(()),
            BasePaths::Read(paths) => write_paths(writer, PREFIX, paths),
            BasePaths::Stored(part) => part
                .blocks()
                .iter()
                .filter(|block| block.name.starts_with("path."))
                .try_for_each(|block| {
                    let (name, bytes): (_, &Bytes) =
                        (format!("{PREFIX}{}", block.name), block.bytes());
                    writer.values(&name, block.element, &block.shape, bytes)
                }),
        }
    }
}

impl LearnedText {
    pub(crate) fn added(&self) -> AddedText<'_> {
        AddedText {
            tokens: &self.tokens,
            weight: self.record.weight,
        }
    }
}

/// Read the saved rows of a block of one record, if it has some.
fn read_rows(
    container: &Container,
    record: usize,
    shape: &BlockShape,
    nodes: usize,
    weights: &Weights,
) -> Result<Option<SavedRows>> {
    let name = format!("{PREFIX}{record}.{}", shape.name);
    let Some(table) = read_matrix(container, &name)? else {
        return Ok(None);
    };
    let keys = container
        .require(&format!("{name}.keys"))?
        .typed::<u64>()?
        .to_vec();
    check_keys(&keys, shape, nodes).map_err(|error| error.at(format!("block {name}.keys")))?;
    let own = weights.block(shape);
    if (table.rows(), table.columns(), table.element())
        != (keys.len(), own.columns(), own.element())
    {
        let what = "the saved rows do not match the rows of the model";
        return Err(Error::new(ErrorKind::Format, what).at(format!("block {name}")));
    }
    Ok(Some(SavedRows {
        block: shape.name.to_string(),
        keys,
        table,
    }))
}

/// Check that the path graph before the texts, without which none could be forgotten, has the orders of the one with them; returns
/// whether there is one.
fn check_paths(part: &Container, graph: &TokenGraph) -> Result<bool> {
    let stored = part.blocks().iter();
    let stored = stored.filter(|block| block.name.starts_with("path."));
    let expected = graph
        .paths()
        .map_or(0, |paths| 1 + paths.levels().len() * LEVEL_BLOCKS.len());
    let found = stored.count();
    if found == expected {
        return Ok(expected > 0);
    }
    let what = format!("{found} blocks of the path graph before the texts, expected {expected}");
    Err(Error::new(ErrorKind::Format, what).at("blocks learned.path.*"))
}

/// Check that keys ascend, as they are searched by halves, and that they belong to nodes or edges of a graph.
fn check_keys(keys: &[u64], shape: &BlockShape, nodes: usize) -> Result<()> {
    let invalid = |what: String| Err(Error::new(ErrorKind::Format, what));
    if let Some(pair) = keys.windows(2).find(|pair| pair[0] >= pair[1]) {
        return invalid(format!("key {} follows key {}", pair[1], pair[0]));
    }
    let known = |key: u64| match shape.rows_of() {
        RowsOf::Shared => false,
        RowsOf::Nodes => key < nodes as u64,
        RowsOf::OwnEdges(_) => (key >> 32).max(key & 0xffff_ffff) < nodes as u64,
    };
    match keys.iter().find(|&&key| !known(key)) {
        Some(key) => invalid(format!("key {key} is outside a graph of {nodes} nodes")),
        None => Ok(()),
    }
}

/// Return the key of each row of a block that belongs to a node or an own edge, with the row.
pub(crate) fn keyed_rows(shape: &BlockShape, graph: &TokenGraph) -> Vec<(u64, usize)> {
    match shape.rows_of() {
        RowsOf::Shared => Vec::new(),
        RowsOf::Nodes => (0..graph.nodes()).map(|node| (node as u64, node)).collect(),
        RowsOf::OwnEdges(shared) => (0..graph.nodes() as u32)
            .flat_map(|source| {
                let fan = graph.own_fan(NodeId(source));
                fan.map(move |(target, row)| {
                    let key = u64::from(source) << 32 | u64::from(target);
                    (key, row as usize - 1 + shared)
                })
            })
            .collect(),
    }
}

/// Find the row of a key in a block.
pub(crate) fn row_of(shape: &BlockShape, graph: &TokenGraph, key: u64) -> Option<usize> {
    match shape.rows_of() {
        RowsOf::Shared => None,
        RowsOf::Nodes => usize::try_from(key)
            .ok()
            .filter(|&node| node < graph.nodes()),
        RowsOf::OwnEdges(shared) => {
            let (source, target) = (key >> 32, key as u32);
            if source as usize >= graph.nodes() {
                return None;
            }
            match graph.edge_row(NodeId(source as u32), NodeId(target)) {
                0 => None,
                row => Some(row as usize - 1 + shared),
            }
        }
    }
}

/// Arrange the weights of one graph for another of the same profile. Rows of nodes and own edges that both have keep their
/// bytes; `fresh` returns the values of a row that only the new graph has, by its key.
///
/// # Errors
/// [`ErrorKind::Numeric`] for a fresh value that the element type of its block cannot hold.
pub(crate) fn rearranged(
    profile: &Profile,
    weights: &Weights,
    old: &TokenGraph,
    new: &TokenGraph,
    fresh: &dyn Fn(&BlockShape, u64) -> Vec<f32>,
) -> Result<Weights> {
    let before = blocks(profile, old.nodes(), old.own_edges());
    let before = |name| before.iter().find(|shape| shape.name == name).copied();
    Weights::gather(profile, new.nodes(), new.own_edges(), |shape| {
        let Some(from) = before(shape.name) else {
            return Ok(None);
        };
        // An old graph without own edges has no rows of them, whose table has no element type to keep.
        let table = weights.block(&from);
        if shape.rows_of() == RowsOf::Shared {
            return Ok(Some(table));
        }
        let keys = keyed_rows(shape, new);
        let shared = shape.rows - keys.len();
        let made: Vec<f32> = keys
            .iter()
            .filter(|&&(key, _)| row_of(&from, old, key).is_none())
            .flat_map(|&(key, _)| fresh(shape, key))
            .collect();
        let count = made.len() / shape.columns;
        let made = Table::of(&made, count, shape.columns).converted(table.element())?;
        let mut next = 0;
        let of_keys = keys.iter().map(|&(key, _)| match row_of(&from, old, key) {
            Some(row) => (&table, row),
            None => {
                next += 1;
                (&made, next - 1)
            }
        });
        let rows = (0..shared).map(|row| (&table, row)).chain(of_keys);
        Table::gather(shape.columns, table.element(), rows).map(Some)
    })
}

/// A table, and its row that takes the place of another.
type Row<'a> = (&'a Table, usize);

/// Replace rows of weights: `replaced` returns the table and its row that takes the place of a row, by block and row.
pub(crate) fn with_rows<'a>(
    profile: &Profile,
    graph: &TokenGraph,
    weights: &Weights,
    replaced: &dyn Fn(&BlockShape, usize) -> Option<Row<'a>>,
) -> Result<Weights> {
    Weights::gather(profile, graph.nodes(), graph.own_edges(), |shape| {
        let table = weights.block(shape);
        let rows = (0..shape.rows).map(|row| replaced(shape, row).unwrap_or((&table, row)));
        Table::gather(shape.columns, table.element(), rows).map(Some)
    })
}
