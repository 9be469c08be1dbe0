//! Continual learning: a finished model takes in a text. Counts of the text are added to the graph, and the rows of weights
//! that belong to its nodes and edges are trained; everything else keeps its bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::graph::{AddedText, PathGraph, TokenGraph};
use crate::kernel::table::Table;
use crate::learn::batch::{BatchSampler, Order};
use crate::learn::dropout::Rates;
use crate::learn::edge_trainer::EdgeTrainer;
use crate::learn::prior::Prior;
use crate::learn::recipe::Train;
use crate::learn::warm_start::copy_weights;
use crate::model::{
    BasePaths, LearnedRecord, LearnedText, Model, SavedRows, keyed_rows, rearranged, row_of,
    with_rows,
};
use crate::signal::{BlockShape, EdgeForm, Mechanism, RowsOf, Weights, blocks};
use crate::text::{NewToken, ReadingDirection, Tokenizer};
use crate::{Error, ErrorKind, Result};

/// Sequences of a step.
const BATCH: usize = 8;
/// Predictions of a sequence.
const STEPS: usize = 32;
/// Folds of the text for cross-fitted static resistances.
const FOLDS: usize = 4;
/// One of this many steps is on other text, where some is given.
const REPLAY: u64 = 10;

/// How a text is learned.
#[derive(Clone, Debug, PartialEq)]
pub struct ContinualSettings {
    /// How often each transition of the text counts.
    pub weight: u32,
    /// Passes of training over the text; 0 for counts alone.
    pub passes: u32,
    /// Highest learning rate.
    pub rate: f64,
    /// Most nodes to add for words of the text.
    pub new_nodes: usize,
    /// Seed of the order of batches.
    pub seed: u64,
}

impl Default for ContinualSettings {
    fn default() -> Self {
        Self {
            weight: 1,
            passes: 1,
            rate: 2e-3,
            new_nodes: 0,
            seed: 0,
        }
    }
}

impl ContinualSettings {
    fn check(&self) -> Result<()> {
        let invalid = |what: String| Err(Error::new(ErrorKind::Input, what));
        if !(self.rate > 0.0 && self.rate <= 1.0) {
            return invalid(format!(
                "invalid rate {}: expected a number above 0, at most 1",
                self.rate
            ));
        }
        if self.weight == 0 {
            return invalid("invalid weight 0: expected a whole number of at least 1".into());
        }
        Ok(())
    }
}

/// Text that a model learns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewText {
    /// Name of its record.
    pub name: String,
    /// Where it came from, for the record.
    pub sources: Vec<String>,
    /// Its documents.
    pub documents: Vec<String>,
    /// Token ids instead of documents, for models without text.
    pub ids: Vec<u32>,
    /// Documents of the model's old text: a tenth of the steps trains on them, and their counts are not added.
    pub replay: Vec<String>,
}

/// Progress of learning a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContinualProgress {
    /// Steps taken.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Nats per token before the last step.
    pub nats: f64,
}

/// Result of learning a text.
#[derive(Clone, Debug)]
pub struct Lesson {
    /// The model that has learned it.
    pub model: Model,
    /// The record, which the model keeps.
    pub record: LearnedRecord,
    /// Nodes that were added.
    pub new_nodes: Vec<NewToken>,
    /// Rows of weights that were trained.
    pub trained_rows: usize,
    /// Nats per token in the first and in the last pass, each predicted before it was trained on, without the counts of the
    /// text; none without passes, and for a text of at most 256 tokens whose counts cannot be left out.
    pub nats: Option<[f64; 2]>,
}

/// Teach a model a text. `observe` is called after each step; learning ends when it returns false.
///
/// # Errors
/// [`ErrorKind::Input`] for settings out of range, a name that a record has already, an empty one or a number, or a text
/// without a transition;
/// [`ErrorKind::Cancelled`] when `observe` ended it; [`ErrorKind::Numeric`] when training diverges; those of
/// [`Tokenizer::with_words`], [`TokenGraph::with_texts`] and [`Tokenizer::encode`].
pub fn learn_text(
    model: &Model,
    text: &NewText,
    settings: &ContinualSettings,
    observe: &mut dyn FnMut(ContinualProgress) -> bool,
) -> Result<Lesson> {
    settings.check()?;
    check_name(model, &text.name)?;
    let (tokenizer, new_nodes) = match settings.new_nodes {
        0 => (model.tokenizer().clone(), Vec::new()),
        count => model.tokenizer().with_words(&text.documents, count)?,
    };
    let backward = model.metadata().direction == ReadingDirection::Backward;
    let mut tokens = encode(&tokenizer, &text.documents, backward)?;
    let ids = text.ids.iter().copied();
    match backward {
        true => tokens.extend(ids.rev()),
        false => tokens.extend(ids),
    }
    let replay = encode(&tokenizer, &text.replay, backward)?;
    if tokens.len() < 2 {
        let what = "the text is too short: it has no two tokens";
        return Err(Error::new(ErrorKind::Input, what).advice("pass a longer text"));
    }
    let old = model.mechanism().graph();
    let mut learned = model.learned().clone();
    let base = learned.base(old)?;
    if learned.texts.is_empty() {
        learned.paths = old
            .paths()
            .cloned()
            .map_or(BasePaths::None, BasePaths::Read);
    }
    let added = AddedText {
        tokens: &tokens,
        weight: settings.weight,
    };
    let nodes = tokenizer.vocabulary().len();
    let earlier = learned.added();
    let graph = base.with_texts(&[&earlier[..], &[added]].concat(), nodes)?;
    let weights = grown(model, &graph, &new_nodes)?;
    let mechanism = Mechanism::new(model.metadata().profile.clone(), graph, weights)?;
    let training = Training {
        base: &base,
        earlier: &earlier,
        added,
        replay: &replay,
        settings,
        rows: touched_rows(&mechanism, &tokens),
    };
    let trained = match settings.passes {
        0 => None,
        _ => Some(training.run(&mechanism, observe)?),
    };
    let nats = trained.as_ref().and_then(|(_, nats)| *nats);
    let (mechanism, rows, trained_rows) = match trained {
        Some((weights, _)) => {
            let rows = saved_rows(&mechanism, &training.rows)?;
            let count = training.rows.values().map(Vec::len).sum();
            (mechanism.with_weights(weights)?, rows, count)
        }
        None => (mechanism, Vec::new(), 0),
    };
    let record = LearnedRecord {
        name: text.name.clone(),
        sources: text.sources.clone(),
        tokens: tokens.len(),
        weight: settings.weight,
        new_nodes: new_nodes.len(),
        new_edges: mechanism.graph().edges() - old.edges(),
        training: described(settings, replay.len(), trained_rows, nats),
    };
    learned.texts.push(LearnedText {
        record: record.clone(),
        tokens,
        rows,
    });
    let model = Model::new(model.metadata().clone(), tokenizer, mechanism)?.with_learned(learned);
    Ok(Lesson {
        model,
        record,
        new_nodes,
        trained_rows,
        nats,
    })
}

/// Check that a record of `model` may have this name.
fn check_name(model: &Model, name: &str) -> Result<()> {
    if name.trim().is_empty() {
        let what = format!("invalid name {name:?}: the name of a record is empty");
        return Err(Error::new(ErrorKind::Input, what)
            .advice("pass a name with a letter, for example \"book\""));
    }
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        let what = format!("invalid name {name:?}: numbers count records");
        return Err(Error::new(ErrorKind::Input, what)
            .advice("pass a name with a letter, for example \"book\""));
    }
    if model.records().any(|record| record.name == name) {
        let what = format!("the model already has a record named {name:?}");
        return Err(Error::new(ErrorKind::Input, what)
            .advice("pass another --name, or forget that record first"));
    }
    Ok(())
}

/// Describe the training of a text for its record.
fn described(
    settings: &ContinualSettings,
    replayed_tokens: usize,
    rows: usize,
    nats: Option<[f64; 2]>,
) -> serde_json::Value {
    if settings.passes == 0 {
        return serde_json::Value::Null;
    }
    json!({
        "passes": settings.passes,
        "rate": settings.rate,
        "seed": settings.seed,
        "replayed_tokens": replayed_tokens,
        "rows": rows,
        "nats_per_token_first_pass": nats.map(|[first, _]| first),
        "nats_per_token_last_pass": nats.map(|[_, last]| last),
    })
}

/// Encode documents as one text, each with its end token, as training does.
fn encode(tokenizer: &Tokenizer, documents: &[String], backward: bool) -> Result<Vec<u32>> {
    let mut tokens = Vec::new();
    for document in documents {
        let mut ids = tokenizer.encode(document)?;
        if backward {
            ids.reverse();
        }
        tokens.extend(ids);
        tokens.extend(tokenizer.vocabulary().stop());
    }
    Ok(tokens)
}

/// Arrange the weights of a model for a graph with more nodes and own edges.
///
/// A new node predicts as the last of its parts, is predicted as the first, and has the mean of both as its target vector. A
/// new own edge begins with the weights of the shared edge, which it had before; a new residual is 0.
fn grown(model: &Model, graph: &TokenGraph, new_nodes: &[NewToken]) -> Result<Weights> {
    let (old, weights) = (model.mechanism().graph(), model.mechanism().weights());
    let profile = &model.metadata().profile;
    let row = |shape: &BlockShape, node: u32| -> Vec<f32> {
        let table = weights.block(&BlockShape {
            rows: old.nodes(),
            ..*shape
        });
        let mut values = vec![0.0; shape.columns];
        table.read_row(node as usize, &mut values);
        values
    };
    // A part may be a new node itself; its own first or last part is an old one in the end.
    let oldest = |mut node: u32, last: bool| -> u32 {
        while let Some(new) = (node as usize).checked_sub(old.nodes()) {
            let parts = &new_nodes[new].parts;
            node = *if last { parts.last() } else { parts.first() }.unwrap_or(&0);
        }
        node
    };
    let fresh = |shape: &BlockShape, key: u64| -> Vec<f32> {
        match (shape.rows_of(), shape.name) {
            (RowsOf::Nodes, name) => {
                let (first, last) = (oldest(key as u32, false), oldest(key as u32, true));
                match name {
                    "node.bias" => row(shape, first),
                    "node.target" => std::iter::zip(row(shape, first), row(shape, last))
                        .map(|(first, last)| (first + last) / 2.0)
                        .collect(),
                    _ => row(shape, last),
                }
            }
            (_, "edge.arena") => weights.row(shape.name, 0),
            _ => vec![0.0; shape.columns],
        }
    };
    rearranged(profile, weights, old, graph, &fresh)
}

/// The rows of each block that belong to nodes of a text, or to its transitions, ascending.
type Rows = BTreeMap<&'static str, Vec<u32>>;

fn touched_rows(mechanism: &Mechanism, tokens: &[u32]) -> Rows {
    let graph = mechanism.graph();
    let nodes: BTreeSet<u64> = tokens.iter().map(|&token| u64::from(token)).collect();
    let edges = tokens.windows(2);
    let edges = edges.map(|pair| u64::from(pair[0]) << 32 | u64::from(pair[1]));
    let edges: BTreeSet<u64> = edges.collect();
    let shapes = blocks(mechanism.profile(), graph.nodes(), graph.own_edges());
    let of_block = shapes.iter().filter(|shape| shape.rows * shape.columns > 0);
    of_block
        .map(|shape| {
            let keys = match shape.rows_of() {
                RowsOf::Nodes => &nodes,
                _ => &edges,
            };
            let rows = keys.iter().filter_map(|&key| row_of(shape, graph, key));
            (shape.name, rows.map(|row| row as u32).collect())
        })
        .filter(|(_, rows): &(_, Vec<u32>)| !rows.is_empty())
        .collect()
}

/// Copy the rows that are about to change: those of new nodes and new own edges too, which a later text may keep.
fn saved_rows(mechanism: &Mechanism, rows: &Rows) -> Result<Vec<SavedRows>> {
    let graph = mechanism.graph();
    let mut saved = Vec::new();
    for shape in blocks(mechanism.profile(), graph.nodes(), graph.own_edges()) {
        let Some(rows) = rows.get(shape.name) else {
            continue;
        };
        let table = mechanism.weights().block(&shape);
        let keys = keyed_rows(&shape, graph).into_iter();
        let touched: Vec<(u64, usize)> = keys
            .filter(|&(_, row)| rows.binary_search(&(row as u32)).is_ok())
            .collect();
        let all = touched.iter().map(|&(_, row)| (&table, row));
        saved.push(SavedRows {
            block: shape.name.to_string(),
            table: Table::gather(shape.columns, table.element(), all)?,
            keys: touched.iter().map(|&(key, _)| key).collect(),
        });
    }
    Ok(saved)
}

/// Training of the rows that a text touches.
struct Training<'a> {
    /// The graph before any learned text, and the texts learned before.
    base: &'a TokenGraph,
    earlier: &'a [AddedText<'a>],
    added: AddedText<'a>,
    replay: &'a [u32],
    settings: &'a ContinualSettings,
    rows: Rows,
}

impl Training<'_> {
    /// Train; returns the weights, and nats per token of the first and the last pass where the counts of the text, which
    /// would tell what follows, could be left out.
    fn run(
        &self,
        mechanism: &Mechanism,
        observe: &mut dyn FnMut(ContinualProgress) -> bool,
    ) -> Result<(Weights, Option<[f64; 2]>)> {
        let (profile, graph) = (mechanism.profile(), mechanism.graph());
        let text = self.added.tokens;
        let length = text.len();
        let steps = STEPS.min(length - 1);
        let sequences = (length / steps / 2).clamp(1, BATCH);
        let block = (length / (4 * FOLDS)).max(4 * STEPS);
        let folds = match profile.static_resistance && length > 2 * block {
            true => FOLDS,
            false => 0,
        };
        let seed = self.settings.seed;
        let mut sampler = BatchSampler::new(seed, length, steps, sequences, block, folds);
        if profile.form == EdgeForm::Layered && self.replay.is_empty() {
            sampler = sampler.streams(0.0);
        }
        let prior = self.prior(graph, &sampler);
        let per_pass = sampler.steps_per_epoch();
        let total = per_pass * u64::from(self.settings.passes);
        let train = Train {
            tokens: total * (sequences * steps) as u64,
            batch: sequences,
            steps,
            rate: self.settings.rate,
            warmup: (total / 10).clamp(1, 20),
            weight_decay: 0.0,
            ..Train::default()
        };
        let mut trainer = EdgeTrainer::new(profile, graph, Rates::default(), seed);
        copy_weights(mechanism, &mut trainer);
        let mut replay = Replay::new(self.replay, seed, sequences);
        let (mut order, mut sums) = (Order::default(), [(0.0, 0usize); 2]);
        for index in 0..total {
            if let Some(batch) = replay.as_mut().and_then(|replay| replay.due(index)) {
                trainer.learn_rows(graph, &prior, &batch, &train, index + 1, &self.rows)?;
            }
            let batch = sampler.batch(text, index, &mut order);
            let loss = trainer.learn_rows(graph, &prior, &batch, &train, index + 1, &self.rows)?;
            for (pass, sum) in [0, total / per_pass - 1].into_iter().zip(&mut sums) {
                if index / per_pass == pass {
                    *sum = (sum.0 + loss.nats, sum.1 + loss.tokens);
                }
            }
            let progress = ContinualProgress {
                step: index + 1,
                steps: total,
                nats: loss.mean(),
            };
            if !observe(progress) {
                return Err(Error::new(ErrorKind::Cancelled, "learning was interrupted"));
            }
        }
        let trained = trainer.weights(profile, graph)?;
        let old = mechanism.weights();
        // Only the touched rows are taken, in the element type of their block.
        let shapes = blocks(profile, graph.nodes(), graph.own_edges());
        let mut tables = BTreeMap::new();
        for shape in &shapes {
            if self.rows.contains_key(shape.name) {
                let element = old.block(shape).element();
                let table = trained.block(shape).converted(element);
                tables.insert(shape.name, table.map_err(|error| error.at(shape.name))?);
            }
        }
        let weights = with_rows(profile, graph, old, &|shape, row| {
            let rows = self.rows.get(shape.name)?;
            rows.binary_search(&(row as u32)).ok()?;
            Some((tables.get(shape.name)?, row))
        })?;
        let honest = folds > 0 || !profile.static_resistance;
        let nats = sums.map(|(nats, tokens)| nats / tokens.max(1) as f64);
        Ok((weights, honest.then_some(nats)))
    }

    /// The static resistances of all texts, and those without each fold of the text that is learned.
    fn prior(&self, graph: &TokenGraph, sampler: &BatchSampler) -> Prior<f32> {
        let whole = graph.resistance_within(graph.order()).clone();
        let mut all = vec![(whole, graph.paths().cloned())];
        for fold in 1..=sampler.folds() {
            let others = sampler.others(self.added.tokens, fold);
            let others = AddedText {
                tokens: &others,
                ..self.added
            };
            let texts = [self.earlier, &[others]].concat();
            let (resistance, paths) = self.base.resistances_with(&texts, graph);
            all.push((resistance, paths.map(PathGraph::without_counts)));
        }
        Prior::of_resistances(graph, all)
    }
}

/// Batches of other text between those of the text that is learned.
struct Replay<'a> {
    text: &'a [u32],
    sampler: BatchSampler,
    order: Order,
    taken: u64,
}

impl<'a> Replay<'a> {
    /// Create the batches of a text; none of one without a transition.
    fn new(text: &'a [u32], seed: u64, sequences: usize) -> Option<Self> {
        let steps = STEPS.min(text.len().checked_sub(1)?);
        (steps > 0).then(|| Self {
            text,
            sampler: BatchSampler::new(seed, text.len(), steps, sequences, text.len(), 0),
            order: Order::default(),
            taken: 0,
        })
    }

    /// Return the batch that is due before step `index` of the learned text.
    fn due(&mut self, index: u64) -> Option<crate::learn::batch::Batch> {
        if index % (REPLAY - 1) != 0 {
            return None;
        }
        self.taken += 1;
        Some(
            self.sampler
                .batch(self.text, self.taken - 1, &mut self.order),
        )
    }
}
