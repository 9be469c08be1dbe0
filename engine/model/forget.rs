//! Forgetting: a text's counts are taken back, and the rows of weights that it moved go back.

use std::collections::BTreeMap;

use crate::graph::TokenGraph;
use crate::kernel::table::Table;
use crate::model::Model;
use crate::model::learned::{
    Learned, LearnedRecord, LearnedText, SavedRows, rearranged, row_of, with_rows,
};
use crate::signal::{BlockShape, Mechanism, blocks};
use crate::{Error, ErrorKind, Result};

/// What forgetting a text changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Forgotten {
    /// The record of the text.
    pub record: LearnedRecord,
    /// Rows of weights that have the bytes of before the text again.
    pub restored: usize,
    /// Rows that a later text has moved as well: the difference that this text made was subtracted.
    pub subtracted: usize,
    /// Nodes that were removed.
    pub removed_nodes: usize,
    /// Nodes of the text that stay, since a later text uses them or has nodes after them; the next record has them now.
    pub kept_nodes: usize,
    /// Edges that were removed.
    pub removed_edges: usize,
}

/// Rows that take the place of others, by the name of their block and their key.
type Replaced = BTreeMap<(String, u64), Table>;

impl Model {
    /// Find a learned text by its number, from 1, or by its name.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a model without it.
    pub fn record_index(&self, record: &str) -> Result<usize> {
        let count = self.records().len();
        // A name may begin with a sign, which a number may too.
        let digits = record.bytes().all(|byte| byte.is_ascii_digit());
        let by_number = record.parse::<usize>().ok().filter(|_| digits);
        let by_number = by_number.filter(|number| (1..=count).contains(number));
        let by_name = || self.records().position(|one| one.name == record);
        by_number
            .map(|number| number - 1)
            .or_else(by_name)
            .ok_or_else(|| {
                let what = match count {
                    0 => "the model has learned no text".to_string(),
                    _ => format!("the model has no record {record:?}"),
                };
                // Quoted: a name may have control characters.
                let names: Vec<String> = self
                    .records()
                    .map(|record| format!("{:?}", record.name))
                    .collect();
                let advice = match count {
                    0 => "learn one with `brillm learn`".to_string(),
                    _ => format!(
                        "pass a number from 1 to {count} or a name: {}",
                        names.join(", ")
                    ),
                };
                Error::new(ErrorKind::Input, what).advice(advice)
            })
    }

    /// Forget the learned text with an index.
    ///
    /// Counts, edges and longer walks are exactly those of a model that has not learned the text. Rows of weights that it moved
    /// get their old bytes, or, where a later text moved them too, are changed by the difference that the text made. Its nodes are
    /// removed if no later text uses them or has nodes after them.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an index without a record; [`ErrorKind::Format`] when the records contradict the model.
    pub fn forget(&self, index: usize) -> Result<(Self, Forgotten)> {
        let mut learned = self.learned().clone();
        if index >= learned.texts.len() {
            self.record_index(&(index + 1).to_string())?;
        }
        let old = self.mechanism().graph();
        let base = learned.base(old)?;
        let text = learned.texts.remove(index);
        let nodes_of_text = text.record.new_nodes;
        let later = &mut learned.texts[index..];
        let removed_nodes = unused_nodes(old.nodes(), nodes_of_text, later);
        if let Some(next) = later.first_mut() {
            next.record.new_nodes += nodes_of_text - removed_nodes;
        }
        let graph = match learned.texts.is_empty() {
            true => base,
            false => base.with_texts(&learned.added(), old.nodes() - removed_nodes)?,
        };
        let profile = &self.metadata().profile;
        let weights = self.mechanism().weights();
        // Forgetting adds no rows.
        let no_row = |shape: &BlockShape, _| vec![0.0; shape.columns];
        let weights = rearranged(profile, weights, old, &graph, &no_row)?;
        let shapes = blocks(profile, graph.nodes(), graph.own_edges());
        let (mut replaced, mut restored, mut subtracted) = (Replaced::new(), 0, 0);
        let mut moves = Moved::new();
        for rows in &text.rows {
            let Some(shape) = shapes.iter().find(|shape| shape.name == rows.block) else {
                continue;
            };
            let current = weights.block(shape);
            for (at, &key) in rows.keys.iter().enumerate() {
                let before = one_row(&rows.table, at)?;
                let later = &learned.texts[index..];
                let difference = take_back(later, &rows.block, key, &before, &mut moves)?;
                let Some(row) = row_of(shape, &graph, key) else {
                    continue;
                };
                let new = match difference {
                    None => {
                        restored += 1;
                        before
                    }
                    Some(difference) => {
                        subtracted += 1;
                        moved(&one_row(&current, row)?, &difference)?
                    }
                };
                replaced.insert((rows.block.clone(), key), new);
            }
        }
        put_back(&mut learned.texts[index..], &moves)?;
        let weights = put_rows(self, &graph, &weights, &replaced)?;
        let forgotten = Forgotten {
            restored,
            subtracted,
            removed_nodes,
            kept_nodes: nodes_of_text - removed_nodes,
            removed_edges: old.edges() - graph.edges(),
            record: text.record,
        };
        if learned.texts.is_empty() {
            learned = Learned::default();
        }
        let mechanism = Mechanism::new(profile.clone(), graph, weights)?;
        let tokenizer = self.tokenizer().without_last(removed_nodes)?;
        let model = Self::new(self.metadata().clone(), tokenizer, mechanism)?;
        Ok((model.with_learned(learned), forgotten))
    }
}

/// Number of nodes that can be removed of the `count` that a forgotten text has added: the last ones, unless a later text uses
/// them or has nodes after them.
fn unused_nodes(nodes: usize, count: usize, later: &[LearnedText]) -> usize {
    if later.iter().any(|text| text.record.new_nodes > 0) {
        return 0;
    }
    let used = later.iter().flat_map(|text| &text.tokens).max();
    let used = used.map_or(0, |&last| last as usize + 1);
    nodes.saturating_sub(used).min(count)
}

/// Replace rows of weights by those of their keys.
fn put_rows(
    model: &Model,
    graph: &TokenGraph,
    weights: &crate::signal::Weights,
    replaced: &Replaced,
) -> Result<crate::signal::Weights> {
    let profile = &model.metadata().profile;
    let mut by_row: BTreeMap<(&str, usize), &Table> = BTreeMap::new();
    let shapes = blocks(profile, graph.nodes(), graph.own_edges());
    for ((block, key), table) in replaced {
        let shape = shapes.iter().find(|shape| shape.name == block);
        if let Some(row) = shape.and_then(|shape| row_of(shape, graph, *key)) {
            by_row.insert((block, row), table);
        }
    }
    with_rows(profile, graph, weights, &|shape, row| {
        by_row.get(&(shape.name, row)).map(|&table| (table, 0))
    })
}

/// Copy one row as a table.
fn one_row(table: &Table, row: usize) -> Result<Table> {
    Table::gather(
        table.columns(),
        table.element(),
        std::iter::once((table, row)),
    )
}

/// Add a difference to a row.
fn moved(row: &Table, difference: &[f32]) -> Result<Table> {
    let mut values = row.to_vec();
    values
        .iter_mut()
        .zip(difference)
        .for_each(|(value, change)| *value += change);
    Table::of(&values, 1, row.columns()).converted(row.element())
}

/// Rows that later texts get in place of saved ones, by text, its table, and row: each table is built again once.
type Moved = BTreeMap<(usize, usize), BTreeMap<usize, Table>>;

/// Give later texts that moved a row the row as it was `before`; returns by how much it changes, or `None` if none moved it.
fn take_back(
    later: &[LearnedText],
    block: &str,
    key: u64,
    before: &Table,
    moves: &mut Moved,
) -> Result<Option<Vec<f32>>> {
    let mut difference: Option<Vec<f32>> = None;
    for (index, text) in later.iter().enumerate() {
        for (table, rows) in text.rows.iter().enumerate() {
            let of_key = |rows: &SavedRows| rows.keys.binary_search(&key).ok();
            let Some(at) = of_key(rows).filter(|_| rows.block == block) else {
                continue;
            };
            let saved = one_row(&rows.table, at)?;
            let new = match &difference {
                // The first later text began with what the forgotten one left.
                None => {
                    let (old, new) = (saved.to_vec(), before.to_vec());
                    difference = Some(new.iter().zip(old).map(|(new, old)| new - old).collect());
                    before.clone()
                }
                Some(difference) => moved(&saved, difference)?,
            };
            moves.entry((index, table)).or_default().insert(at, new);
        }
    }
    Ok(difference)
}

/// Build the tables of later texts again with the rows that [`take_back`] has moved.
fn put_back(later: &mut [LearnedText], moves: &Moved) -> Result<()> {
    for (&(index, table), new) in moves {
        let saved = &mut later[index].rows[table].table;
        let all = (0..saved.rows()).map(|row| match new.get(&row) {
            Some(new) => (new, 0),
            None => (&*saved, row),
        });
        *saved = Table::gather(saved.columns(), saved.element(), all)?;
    }
    Ok(())
}
