//! A graph as the training loop sees it: learner, graph and static resistances together.

use std::path::Path;

use serde_json::Value;

use crate::Result;
use crate::graph::{GraphBuilder, NodeId, TokenGraph};
use crate::kernel::random::Random;
use crate::learn::adamw::Moments;
use crate::learn::batch::{Batch, BatchSampler, Candidates};
use crate::learn::composed::Loss;
use crate::learn::data::TokenData;
use crate::learn::edge_trainer::{EdgeTrainer, Trainable};
use crate::learn::parameter::Parameter;
use crate::learn::prior::Prior;
use crate::learn::recipe::{NegativeKind, Recipe};
use crate::learn::warm_start::WarmStart;
use crate::model::{Metadata, Model};
use crate::signal::{EdgeForm, Mechanism, Profile};
use crate::text::Tokenizer;

/// A device that learns in the processor's place.
#[cfg(feature = "gpu")]
struct OnDevice {
    edge_trainer: crate::learn::device::DeviceTrainer,
    forced: bool,
    failed: bool,
}

#[cfg(feature = "gpu")]
impl OnDevice {
    /// Remembers that the device failed.
    fn note<T>(&mut self, outcome: Result<T>) -> Result<T> {
        self.failed |= outcome.is_err();
        outcome
    }
}

/// A graph under training.
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
    place: Option<OnDevice>,
}

impl GraphModel {
    /// Builds the graph of a recipe's text, with fresh parameters or those it begins with; its models are relative
    /// to `base`.
    ///
    /// # Errors
    /// Whatever is wrong with the profile or the graph.
    pub fn new(
        recipe: &Recipe,
        data: &TokenData,
        sampler: &BatchSampler,
        base: &Path,
    ) -> Result<Self> {
        let profile = recipe.profile()?;
        let mut builder = GraphBuilder::new(data.tokenizer.vocabulary().len())
            .minimum_count(recipe.graph.minimum_count);
        if let Some(fan) = recipe.graph.maximum_fan {
            builder = builder.maximum_fan(fan);
        }
        builder.walk(data.train().iter().copied())?;
        let mut graph = builder.build()?;
        let owns = profile.form == EdgeForm::Own || profile.residual.is_some();
        graph.set_own_minimum(if owns {
            recipe.graph.own_minimum_count
        } else {
            u32::MAX
        });
        let (recipe, warm_start) = match WarmStart::of(recipe, base)? {
            Some((warm_start, rate)) => {
                let mut recipe = recipe.clone();
                recipe.train.edge_rate = rate;
                warm_start.check(&profile, &graph)?;
                (recipe, Some(warm_start))
            }
            None => (recipe.clone(), None),
        };
        let mut edge_trainer =
            EdgeTrainer::new(&profile, &graph, recipe.train.dropout, recipe.seed);
        if let Some(warm_start) = &warm_start {
            warm_start.put(&mut edge_trainer, &graph)?;
        }
        Ok(Self {
            prior: Prior::new(&graph, &sampler.held_out(&graph, data.train())),
            edge_trainer,
            #[cfg(feature = "gpu")]
            warm_start,
            recipe,
            tokenizer: data.tokenizer.clone(),
            profile,
            graph,
            #[cfg(feature = "gpu")]
            place: None,
        })
    }

    /// Draws the negatives of every prediction, where the recipe samples them.
    fn add_candidates(&self, batch: &mut Batch) {
        let train = &self.recipe.train;
        if train.negatives == 0 {
            return;
        }
        let count = train.negatives.min(self.graph.nodes() - 1);
        let mut targets = Vec::with_capacity(batch.sequences() * batch.steps * (count + 1));
        for sequence in 0..batch.sequences() {
            let tokens = batch.sequence(sequence);
            for step in 0..batch.steps {
                let row = (sequence * batch.steps + step) as u64;
                targets.push(tokens[step + 1]);
                match train.negative_kind {
                    NegativeKind::Frequent => frequent(
                        &self.graph,
                        tokens[step],
                        tokens[step + 1],
                        count,
                        &mut targets,
                    ),
                    NegativeKind::Uniform => {
                        let mut random =
                            Random::stream(self.recipe.seed ^ 0x6e65_6761, batch.index, row);
                        let nodes = self.graph.nodes() as u64;
                        let mut drawn = std::collections::BTreeSet::new();
                        while drawn.len() < count {
                            let node = random.below(nodes) as u32;
                            if node != tokens[step + 1] {
                                drawn.insert(node);
                            }
                        }
                        targets.extend(drawn);
                    }
                }
            }
        }
        batch.candidates = Some(Candidates {
            targets,
            count: count + 1,
        });
    }
}

impl Trainable for GraphModel {
    fn learn(&mut self, batch: &mut Batch, step: u64) -> Result<(Loss, Option<f64>)> {
        self.add_candidates(batch);
        let train = &self.recipe.train;
        #[cfg(feature = "gpu")]
        if let Some(place) = &mut self.place {
            let learned = place.edge_trainer.learn(&self.graph, batch, train, step);
            return place.note(learned);
        }
        self.edge_trainer
            .learn(&self.graph, &self.prior, batch, train, step)
    }

    fn loss(&mut self, batch: &Batch) -> Result<Loss> {
        #[cfg(feature = "gpu")]
        if let Some(place) = &mut self.place {
            let loss = place.edge_trainer.loss(&self.graph, batch);
            return place.note(loss);
        }
        Ok(self.edge_trainer.loss(&self.graph, &self.prior, batch))
    }

    fn state(&mut self) -> (Vec<&mut Parameter<f32>>, &mut [Moments<f32>]) {
        self.edge_trainer.both()
    }

    #[cfg(feature = "gpu")]
    fn use_device(&mut self, device: &crate::kernel::gpu::Device, forced: bool) -> Result<()> {
        if self.profile.grown_from.is_some() && self.profile.form == EdgeForm::Own {
            return Err(crate::Error::new(
                crate::ErrorKind::Unsupported,
                "grown own edges train on the processor",
            )
            .advice("use --backend cpu or auto"));
        }
        self.place = Some(OnDevice {
            edge_trainer: crate::learn::device::DeviceTrainer::new(
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
        let place = self.place.as_ref();
        place.is_some_and(|place| place.failed && !place.forced)
    }

    #[cfg(feature = "gpu")]
    fn leave_device(&mut self) {
        self.place = None;
        let (train, seed) = (&self.recipe.train, self.recipe.seed);
        self.edge_trainer = EdgeTrainer::new(&self.profile, &self.graph, train.dropout, seed);
        if let Some(warm_start) = &self.warm_start {
            // It was put there before, so it fits.
            let _ = warm_start.put(&mut self.edge_trainer, &self.graph);
        }
    }

    fn settle(&mut self) -> Result<()> {
        #[cfg(feature = "gpu")]
        if let Some(place) = &mut self.place {
            let brought = place.edge_trainer.download(&mut self.edge_trainer);
            return place.note(brought);
        }
        Ok(())
    }

    fn save(&mut self, path: &Path, training: Value) -> Result<()> {
        self.settle()?;
        let weights = self.edge_trainer.weights(&self.profile, &self.graph)?;
        let mechanism = Mechanism::new(self.profile.clone(), self.graph.clone(), weights)?;
        let metadata = Metadata {
            name: self.recipe.name.clone(),
            license: self.recipe.license.clone(),
            profile: self.profile.clone(),
            own_minimum: self.graph.own_minimum(),
            direction: self.recipe.data.direction,
            charges: None,
            training,
        };
        Model::new(metadata, self.tokenizer.clone(), mechanism)?.save(path)
    }

    fn file(&self, stem: &str) -> String {
        format!("{stem}.bril")
    }

    fn about(&self) -> String {
        format!("{} nodes, {} edges", self.graph.nodes(), self.graph.edges())
    }

    fn candidates(&self) -> usize {
        self.graph.nodes()
    }
}

/// The most walked targets of `source` besides `true_target`, then the lowest ids: as the authors' table lists them.
fn frequent(
    graph: &TokenGraph,
    source: u32,
    true_target: u32,
    count: usize,
    targets: &mut Vec<u32>,
) {
    let fan = graph.fan(NodeId(source));
    let mut ranked: Vec<(u32, u32)> = fan
        .counts
        .iter()
        .zip(fan.targets)
        .map(|(&count, &target)| (count, target))
        .collect();
    ranked.sort_unstable_by_key(|&(count, target)| (std::cmp::Reverse(count), target));
    let mut left = count;
    for (_, target) in ranked
        .into_iter()
        .filter(|&(_, target)| target != true_target)
        .take(count)
    {
        targets.push(target);
        left -= 1;
    }
    let others = (0..graph.nodes() as u32)
        .filter(|&node| node != true_target && fan.position(node).is_none());
    targets.extend(others.take(left));
}
