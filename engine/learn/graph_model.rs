//! A graph model in training: parameters, graph and static resistances.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::graph::{GraphBuilder, NodeId, PathGraph, TokenGraph};
use crate::kernel::element::Element;
use crate::kernel::random::Random;
use crate::learn::adamw::Moments;
use crate::learn::batch::Loss;
use crate::learn::batch::{Batch, BatchSampler, Candidates};
use crate::learn::data::TokenData;
use crate::learn::edge_trainer::EdgeTrainer;
use crate::learn::parameter::Parameter;
use crate::learn::prior::Prior;
use crate::learn::recipe::{NegativeKind, Recipe, Reduction};
use crate::learn::trainable::{HeldRows, Trainable};
use crate::learn::warm_start::WarmStart;
use crate::model::{Metadata, Model, edge_parts, write_model};
use crate::ranks::{OneProcess, Ranks};
use crate::signal::{EdgeForm, Mechanism, Profile, blocks};
use crate::text::Tokenizer;
use crate::{Error, ErrorKind, Result};

/// Training on a device instead of the processor.
#[cfg(feature = "gpu")]
struct OnDevice {
    trainer: crate::learn::device::DeviceTrainer,
    forced: bool,
    failed: bool,
}

#[cfg(feature = "gpu")]
impl OnDevice {
    /// Record whether the device failed.
    fn note<T>(&mut self, outcome: Result<T>) -> Result<T> {
        self.failed |= outcome.is_err();
        outcome
    }
}

/// A graph model in training.
pub struct GraphModel {
    recipe: Recipe,
    profile: Profile,
    tokenizer: Tokenizer,
    graph: TokenGraph,
    prior: Prior<f32>,
    edge_trainer: EdgeTrainer,
    #[cfg(feature = "gpu")]
    warm_start: Option<WarmStart>,
    #[cfg(feature = "gpu")]
    on_device: Option<OnDevice>,
}

impl GraphModel {
    /// Build the graph of a recipe's text, with fresh parameters or those of its warm start; paths of models are
    /// relative to `base`.
    ///
    /// # Errors
    /// As [`Recipe::profile`], [`GraphBuilder::walk`] and [`GraphBuilder::build`]; [`crate::ErrorKind::Configuration`]
    /// for a warm start that does not fit.
    pub fn new(
        recipe: &Recipe,
        data: &TokenData,
        sampler: &BatchSampler,
        base: &Path,
    ) -> Result<Self> {
        Self::over(&(Arc::new(OneProcess) as _), recipe, data, sampler, base)
    }

    /// As [`Self::new`], on every rank: each computes its share of a batch, and of the counts.
    ///
    /// # Errors
    /// As [`Self::new`], and those of an exchange.
    pub fn over(
        ranks: &Arc<dyn Ranks>,
        recipe: &Recipe,
        data: &TokenData,
        sampler: &BatchSampler,
        base: &Path,
    ) -> Result<Self> {
        let profile = recipe.profile()?;
        let graph = counted_graph(&**ranks, recipe, &profile, data)?;
        let (graph, prior) = resistances(&**ranks, recipe, graph, sampler, data.train())?;
        let (recipe, warm_start) = match WarmStart::of(recipe, base)? {
            Some((warm_start, rate)) => {
                let mut recipe = recipe.clone();
                recipe.train.edge_rate = rate;
                warm_start.check(&profile, &graph)?;
                (recipe, Some(warm_start))
            }
            None => (recipe.clone(), None),
        };
        let mut edge_trainer = match recipe.train.reduction {
            Reduction::Float => {
                EdgeTrainer::new(&profile, &graph, recipe.train.rates(), recipe.seed)
            }
            Reduction::Exact => {
                let (train, seed) = (&recipe.train, recipe.seed);
                EdgeTrainer::exact(ranks, &profile, &graph, train, seed, data.train())?
            }
        };
        if let Some(warm_start) = &warm_start {
            warm_start.put(&mut edge_trainer, &graph)?;
        }
        Ok(Self {
            prior,
            edge_trainer,
            #[cfg(feature = "gpu")]
            warm_start,
            recipe,
            tokenizer: data.tokenizer.clone(),
            profile,
            graph,
            #[cfg(feature = "gpu")]
            on_device: None,
        })
    }

    /// Draw the negatives of every prediction, where the recipe samples them.
    fn add_candidates(&self, batch: &mut Batch) {
        let train = &self.recipe.train;
        if train.negatives == 0 {
            return;
        }
        // Sampled softmax: the true target against some others instead of all V.
        let count = train.negatives.min(self.graph.nodes() - 1);
        let mut targets = Vec::with_capacity(batch.sequences() * batch.steps * (count + 1));
        for sequence in 0..batch.sequences() {
            for (step, pair) in batch.sequence(sequence).windows(2).enumerate() {
                let (source, next) = (pair[0], pair[1]);
                targets.push(next);
                match train.negative_kind {
                    NegativeKind::Frequent => {
                        frequent(&self.graph, source, next, count, &mut targets)
                    }
                    NegativeKind::Uniform => {
                        // A stream for each prediction, so that its negatives do not depend on the others.
                        let row = (sequence * batch.steps + step) as u64;
                        let seed = self.recipe.seed ^ 0x6e65_6761;
                        let mut random = Random::stream(seed, batch.index, row);
                        // Without repetition; a set in order gives the same targets in every run.
                        let mut drawn = std::collections::BTreeSet::new();
                        while drawn.len() < count {
                            let node = random.below(self.graph.nodes() as u64) as u32;
                            if node != next {
                                drawn.insert(node);
                            }
                        }
                        targets.extend(drawn);
                    }
                }
            }
        }
        let count = count + 1;
        batch.candidates = Some(Candidates { targets, count });
    }
}

impl GraphModel {
    /// Write a model of which ranks hold parts: rank 0 creates the file, and each rank writes the edges that it holds.
    fn save_divided(&mut self, path: &Path, metadata: &Metadata) -> Result<()> {
        let Self {
            edge_trainer,
            graph,
            tokenizer,
            ..
        } = self;
        edge_trainer.collect_nodes()?;
        edge_trainer.check_finite()?;
        if !edge_trainer.leads() {
            return edge_trainer.write_edges(graph, None).map(drop);
        }
        let about = (metadata, &*tokenizer, &*graph);
        let writer = write_model(path, about, &mut |writer, shape| {
            let dimensions = [shape.rows, shape.columns];
            let (name, is_edges) = (shape.name, shape.name == "edge.arena");
            let parts = match is_edges {
                true => edge_parts(graph, shape.columns * 4),
                false => Vec::new(),
            };
            if is_edges && edge_trainer.is_over_ranks() {
                return writer.block_by_many(name, Element::F32, &dimensions, &parts, |location| {
                    edge_trainer.write_edges(graph, Some(location))
                });
            }
            let parameters = edge_trainer.parameters();
            let of_block = parameters.iter().find(|one| one.name == name);
            let values = of_block.map_or(&[][..], |one| &one.value);
            if is_edges {
                return writer.block_in_parts(name, Element::F32, &dimensions, &parts, |put| {
                    put(bytemuck::cast_slice(values))
                });
            }
            writer.values(name, Element::F32, &dimensions, values)
        })?;
        writer.finish()
    }
}

impl Trainable for GraphModel {
    fn learn(&mut self, batch: &mut Batch, step: u64) -> Result<(Loss, Option<f64>)> {
        self.add_candidates(batch);
        let train = &self.recipe.train;
        #[cfg(feature = "gpu")]
        if let Some(device) = &mut self.on_device {
            let learned = device.trainer.learn(&self.graph, batch, train, step);
            return device.note(learned);
        }
        self.edge_trainer
            .learn(&self.graph, &self.prior, batch, train, step)
    }

    fn loss(&mut self, batch: &Batch) -> Result<Loss> {
        #[cfg(feature = "gpu")]
        if let Some(device) = &mut self.on_device {
            let loss = device.trainer.loss(&self.graph, batch);
            return device.note(loss);
        }
        self.edge_trainer.swap_averages();
        let loss = self.edge_trainer.loss(&self.graph, &self.prior, batch);
        self.edge_trainer.swap_averages();
        loss
    }

    fn collect(&mut self) -> Result<()> {
        self.edge_trainer.collect()
    }

    fn buffers(&mut self) -> Vec<(String, &mut Vec<f32>)> {
        self.edge_trainer.buffers(&self.recipe.train)
    }

    fn state(&mut self) -> (Vec<&mut Parameter<f32>>, &mut [Moments<f32>]) {
        let divided = self.edge_trainer.is_divided();
        let (mut parameters, mut moments) = self.edge_trainer.both();
        if divided {
            // The edge weights are the first: `held` has them.
            parameters.remove(0);
            moments = &mut moments[1..];
        }
        (parameters, moments)
    }

    fn held(&mut self) -> Option<HeldRows<'_>> {
        self.edge_trainer.held(self.recipe.train.average > 0.0)
    }

    fn parameters(&mut self) -> usize {
        let (profile, graph) = (&self.profile, &self.graph);
        let all = blocks(profile, graph.nodes(), graph.own_edges()).into_iter();
        all.map(|block| block.rows * block.columns).sum()
    }

    #[cfg(feature = "gpu")]
    fn use_device(&mut self, device: &crate::kernel::gpu::Device, forced: bool) -> Result<()> {
        if self.recipe.train.reduction == Reduction::Exact {
            return Err(crate::Error::new(
                crate::ErrorKind::Unsupported,
                "exact sums of gradients are computed on the CPU only",
            )
            .at("train.reduction")
            .advice("use --backend cpu or auto, or train.reduction = \"float\" in one process"));
        }
        if self.profile.grown_from.is_some() && self.profile.form == EdgeForm::Own {
            return Err(crate::Error::new(
                crate::ErrorKind::Unsupported,
                "widened models with own edges train on the CPU only",
            )
            .advice("use --backend cpu or auto"));
        }
        self.on_device = Some(OnDevice {
            trainer: crate::learn::device::DeviceTrainer::new(
                device,
                &self.profile,
                &self.graph,
                &self.prior,
                &mut self.edge_trainer,
                &self.recipe.train,
                self.recipe.seed,
            )?,
            forced,
            failed: false,
        });
        Ok(())
    }

    #[cfg(feature = "gpu")]
    fn device_failed(&self) -> bool {
        let on_device = self.on_device.as_ref();
        on_device.is_some_and(|device| device.failed && !device.forced)
    }

    #[cfg(feature = "gpu")]
    fn leave_device(&mut self) {
        self.on_device = None;
        // The host's parameters may be half downloaded: begin anew, and let the caller load a checkpoint.
        let (train, seed) = (&self.recipe.train, self.recipe.seed);
        self.edge_trainer = EdgeTrainer::new(&self.profile, &self.graph, train.rates(), seed);
        if let Some(warm_start) = &self.warm_start {
            // It was applied to the same graph before, so it cannot fail.
            let _ = warm_start.put(&mut self.edge_trainer, &self.graph);
        }
    }

    fn settle(&mut self) -> Result<()> {
        #[cfg(feature = "gpu")]
        if let Some(device) = &mut self.on_device {
            let brought = device.trainer.download(&mut self.edge_trainer);
            return device.note(brought);
        }
        Ok(())
    }

    fn save(&mut self, path: &Path, training: Value) -> Result<()> {
        self.settle()?;
        let metadata = Metadata {
            name: self.recipe.name.clone(),
            license: self.recipe.license.clone(),
            profile: self.profile.clone(),
            own_minimum: self.graph.own_minimum(),
            direction: self.recipe.data.direction,
            charges: None,
            recall: None,
            training,
        };
        if self.edge_trainer.is_divided() {
            self.edge_trainer.swap_averages();
            let saved = self.save_divided(path, &metadata);
            self.edge_trainer.swap_averages();
            return saved;
        }
        self.edge_trainer.swap_averages();
        let weights = self.edge_trainer.weights(&self.profile, &self.graph);
        self.edge_trainer.swap_averages();
        let mechanism = Mechanism::new(self.profile.clone(), self.graph.clone(), weights?)?;
        Model::new(metadata, self.tokenizer.clone(), mechanism)?.save(path)
    }

    fn file(&self, stem: &str) -> String {
        format!("{stem}.bril")
    }

    fn about(&self) -> String {
        let size = format!("{} nodes, {} edges", self.graph.nodes(), self.graph.edges());
        match self.graph.paths() {
            Some(paths) => format!("{size}, {} targets of longer walks", paths.entries()),
            None => size,
        }
    }

    fn candidates(&self) -> usize {
        self.graph.nodes()
    }
}

/// Build the graph of a recipe's text, with own edges where its profile has them.
///
/// # Errors
/// As [`GraphBuilder::walk_over`] and [`GraphBuilder::build`].
pub(super) fn counted_graph(
    ranks: &dyn Ranks,
    recipe: &Recipe,
    profile: &Profile,
    data: &TokenData,
) -> Result<TokenGraph> {
    let mut builder = GraphBuilder::new(data.tokenizer.vocabulary().len())
        .minimum_count(recipe.graph.minimum_count);
    if let Some(fan) = recipe.graph.maximum_fan {
        builder = builder.maximum_fan(fan);
    }
    builder.walk_over(ranks, data.train())?;
    let mut graph = builder.build()?;
    if graph.edges() == 0 {
        let count = recipe.graph.minimum_count;
        return Err(Error::new(
            ErrorKind::Configuration,
            format!("the graph has no edges: no pair of tokens occurs {count} times"),
        )
        .at("graph.minimum-count")
        .advice("lower it, or train on more text"));
    }
    // Composed edges without residuals need no rows of their own.
    let owns = profile.form == EdgeForm::Own || profile.residual.is_some();
    graph.set_own_minimum(if owns {
        recipe.graph.own_minimum_count
    } else {
        u32::MAX
    });
    Ok(graph)
}

/// Estimate the static resistances of a graph's text and of its folds, and the path graph where the recipe has one.
fn resistances(
    ranks: &dyn Ranks,
    recipe: &Recipe,
    graph: TokenGraph,
    sampler: &BatchSampler,
    text: &[u32],
) -> Result<(TokenGraph, Prior<f32>)> {
    let Some(settings) = recipe.graph.paths() else {
        let prior = Prior::new(&graph, &sampler.held_out_over(ranks, &graph, text)?);
        return Ok((graph, prior));
    };
    let paths = PathGraph::estimate(&graph, text, &settings)?;
    let others = |fold| sampler.others(text, fold);
    let prior = Prior::with_paths(&graph, &paths, &settings, sampler.folds(), &others)?;
    Ok((graph.with_paths(Some(paths)), prior))
}

/// Add the most frequent targets of `source` besides `true_target`, then the lowest ids, as the authors do.
fn frequent(
    graph: &TokenGraph,
    source: u32,
    true_target: u32,
    count: usize,
    targets: &mut Vec<u32>,
) {
    let fan = graph.fan(NodeId(source));
    let mut ranked: Vec<(u32, u32)> = std::iter::zip(fan.counts, fan.targets)
        .map(|(&count, &target)| (count, target))
        .filter(|&(_, target)| target != true_target)
        .collect();
    ranked.sort_unstable_by_key(|&(count, target)| (std::cmp::Reverse(count), target));
    let others = (0..graph.nodes() as u32)
        .filter(|&node| node != true_target && fan.position(node).is_none());
    // Their table lists every target: uncounted ones follow in the order of ids.
    let ranked = ranked.into_iter().map(|(_, target)| target);
    targets.extend(ranked.chain(others).take(count));
}
