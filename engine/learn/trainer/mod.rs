//! The training loop: batches, steps, validation, checkpoints, and going on where it stopped.

#[cfg(feature = "gpu")]
mod place;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::graph::{GraphBuilder, NodeId, TokenGraph};
use crate::kernel::random::Random;
use crate::learn::batch::{Batch, Candidates, Order, Sampler};
use crate::learn::charges::{self, FittedCharges};
use crate::learn::checkpoint::{self, Progress};
use crate::learn::composed::Loss;
use crate::learn::data::TokenData;
use crate::learn::learner::Learner;
use crate::learn::log::{Record, RunLog, Training, Validation};
use crate::learn::prior::Prior;
use crate::learn::recipe::{NegativeKind, Recipe};
use crate::measure::Perplexity;
use crate::model::{Metadata, Model, Verify};
use crate::signal::{Mechanism, Profile};
use crate::{Error, ErrorKind, Result};

/// Windows validated together.
const WINDOWS: usize = 32;

/// What a run tells while it goes.
pub trait Watcher {
    /// A phase begins, for example "encoding the text".
    fn note(&mut self, _text: &str) {}
    /// A step was taken, of so many.
    fn step(&mut self, _step: u64, _of: u64, _loss: f64, _tokens: u64) {}
    /// Something went otherwise than was asked.
    fn warn(&mut self, _text: &str) {}
    /// A record was written to the log.
    fn record(&mut self, _record: &Record) {}
}

/// Watches nothing.
impl Watcher for () {}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The model file.
    pub model: PathBuf,
    /// Steps taken.
    pub steps: u64,
    /// Learned numbers.
    pub parameters: usize,
    /// The charges that were fitted, where the recipe asks for them.
    pub charges: Option<FittedCharges>,
    /// The best validation perplexity, if there was validation text.
    pub validation_perplexity: Option<f64>,
    /// Whether it was cancelled: a checkpoint was saved, and `resume` goes on.
    pub cancelled: bool,
}

/// A run, ready to go.
pub struct Trainer {
    recipe: Recipe,
    profile: Profile,
    folder: PathBuf,
    data: TokenData,
    graph: TokenGraph,
    prior: Prior<f32>,
    sampler: Sampler,
    learner: Learner,
    #[cfg(feature = "gpu")]
    place: Option<place::Place>,
    progress: Progress,
    log: RunLog,
    begun: Instant,
}

impl Trainer {
    /// Prepares a run in `folder`. `base` is the folder of the run file, from which its paths start.
    ///
    /// A folder that holds checkpoints is only taken with `resume`, and then goes on from the newest.
    ///
    /// # Errors
    /// Whatever is wrong with the recipe, its data or the folder.
    pub fn prepare(
        recipe: Recipe,
        base: &Path,
        folder: &Path,
        resume: bool,
        watcher: &mut dyn Watcher,
    ) -> Result<Self> {
        let profile = recipe.profile()?;
        std::fs::create_dir_all(folder).map_err(|error| Error::io(error, folder.display()))?;
        let stored = folder.join("run.json");
        let own = serde_json::to_string_pretty(&recipe).map_err(|error| {
            Error::new(ErrorKind::Configuration, "the recipe cannot be kept").because(error)
        })?;
        if stored.exists() {
            if !resume {
                return Err(Error::new(ErrorKind::Configuration, "holds a run already")
                    .at(folder.display())
                    .advice("give --resume to go on with it, or another --out"));
            }
            let kept = std::fs::read_to_string(&stored)
                .map_err(|error| Error::io(error, stored.display()))?;
            if kept != own {
                return Err(Error::new(
                    ErrorKind::Configuration,
                    "the run began with another recipe",
                )
                .at(stored.display())
                .advice("resume with the run file and the --set options it began with"));
            }
        } else {
            checkpoint::write_whole(&stored, own.as_bytes())?;
        }
        let data = TokenData::prepare(&recipe, base, folder, &mut |text| watcher.note(text))?;
        watcher.note("building the graph");
        let mut builder = GraphBuilder::new(data.tokenizer.vocabulary().len())
            .minimum_count(recipe.graph.minimum_count);
        if let Some(fan) = recipe.graph.maximum_fan {
            builder = builder.maximum_fan(fan);
        }
        builder.walk(data.train().iter().copied())?;
        let mut graph = builder.build()?;
        let owns = profile.form == crate::signal::EdgeForm::Own || profile.residual.is_some();
        graph.set_own_minimum(if owns {
            recipe.graph.own_minimum_count
        } else {
            u32::MAX
        });
        let train = &recipe.train;
        let folds = if profile.static_resistance {
            train.folds
        } else {
            0
        };
        let sampler = Sampler::new(
            recipe.seed,
            data.train().len(),
            train.steps,
            train.batch,
            train.block,
            folds,
        );
        let prior = Prior::new(&graph, &sampler.held_out(&graph, data.train()));
        let mut learner = Learner::new(&profile, &graph, train.dropout, recipe.seed);
        let progress = match resume {
            true => checkpoint::load(folder, &mut learner)?.unwrap_or_default(),
            false => Progress::default(),
        };
        let logged = folder.join(crate::learn::log::JSON_FILE).exists();
        let log = if logged {
            RunLog::resume(folder, progress.step)?
        } else {
            RunLog::create(folder)?
        };
        let folder = folder.to_path_buf();
        Ok(Self {
            recipe,
            profile,
            folder,
            data,
            graph,
            prior,
            sampler,
            learner,
            #[cfg(feature = "gpu")]
            place: None,
            progress,
            log,
            begun: Instant::now(),
        })
    }

    /// The graph that was built.
    pub fn graph(&self) -> &TokenGraph {
        &self.graph
    }

    /// Trains to the end, or until `cancel` is set; then a checkpoint is saved.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when training diverges, [`ErrorKind::Io`] or [`ErrorKind::Resource`] when
    /// something cannot be saved; the last checkpoint is whole in any case.
    pub fn run(&mut self, cancel: &AtomicBool, watcher: &mut dyn Watcher) -> Result<Outcome> {
        let outcome = self.run_where_it_is(cancel, watcher);
        #[cfg(feature = "gpu")]
        if let Err(error) = &outcome
            && self.device_failed()
        {
            self.take_over(error, watcher)?;
            return self.run_where_it_is(cancel, watcher);
        }
        outcome
    }

    fn run_where_it_is(
        &mut self,
        cancel: &AtomicBool,
        watcher: &mut dyn Watcher,
    ) -> Result<Outcome> {
        let train = self.recipe.train.clone();
        let total = train.total_steps();
        let validate_every = match train.validate_every {
            0 => self.sampler.steps_per_epoch(),
            every => every,
        };
        let per_step = (train.batch * train.steps) as u64;
        let mut order = Order::default();
        let begun = self.begun;
        let mut logged = (begun, self.progress.step);
        let mut cancelled = false;
        while self.progress.step < total {
            let mut batch = self
                .sampler
                .batch(self.data.train(), self.progress.step, &mut order);
            self.add_candidates(&mut batch);
            let step = self.progress.step + 1;
            let (loss, norm) = self.learn(&batch, step)?;
            self.progress.step = step;
            self.progress.nats += loss.nats;
            self.progress.tokens += loss.tokens as u64;
            watcher.step(step, total, loss.mean(), step * per_step);
            if step % train.log_every == 0 || step == total {
                let now = Instant::now();
                let seconds = now.duration_since(logged.0).as_secs_f64();
                let record = Record::Training(Training {
                    step,
                    tokens: step * per_step,
                    loss: self.progress.nats / self.progress.tokens as f64,
                    rate: train.rate_at(step - 1),
                    gradient_norm: norm,
                    wall_tokens_per_second: ((step - logged.1) * per_step) as f64
                        / seconds.max(1e-9),
                    wall_seconds: now.duration_since(begun).as_secs_f64(),
                    wall_time: crate::learn::log::wall_time(),
                });
                logged = (now, step);
                (self.progress.nats, self.progress.tokens) = (0.0, 0);
                self.log.add(&record)?;
                watcher.record(&record);
            }
            let mut stop = false;
            if (step % validate_every == 0 || step == total) && !self.windows().is_empty() {
                stop = self.validate(step, per_step, watcher)?;
            }
            cancelled = cancel.load(Ordering::Relaxed);
            if step % train.checkpoint_every == 0 || step == total || stop || cancelled {
                // The log first: a checkpoint is never ahead of it.
                self.log.sync()?;
                self.bring_back()?;
                checkpoint::save(
                    &self.folder,
                    &self.progress,
                    &mut self.learner,
                    train.checkpoints,
                )?;
            }
            if stop || cancelled {
                break;
            }
        }
        let best = self.folder.join("best.bril");
        let model = self.folder.join("model.bril");
        // With validation the best model is the result; without, the last one.
        if self.progress.best.is_some() && best.exists() {
            let bytes = std::fs::read(&best).map_err(|error| Error::io(error, best.display()))?;
            checkpoint::write_whole(&model, &bytes)?;
        } else {
            self.model()?.save(&model)?;
        }
        let charges = match train.charges && !cancelled {
            true => Some(self.fit_charges(&model, watcher)?),
            false => None,
        };
        let parameters = self.learner.parameters();
        let parameters = parameters.iter().map(|one| one.value.len()).sum();
        Ok(Outcome {
            model,
            steps: self.progress.step,
            parameters,
            charges,
            validation_perplexity: self.progress.best.map(|(perplexity, _)| perplexity),
            cancelled,
        })
    }

    /// Fits charges on the validation text, one stream, and writes them into the finished model.
    fn fit_charges(&self, path: &Path, watcher: &mut dyn Watcher) -> Result<FittedCharges> {
        watcher.note("fitting charges");
        let steps = self.recipe.train.steps;
        let windows = self.windows();
        let (Some(&first), Some(&last)) = (windows.first(), windows.last()) else {
            return Err(Error::new(
                ErrorKind::Configuration,
                "train.charges needs validation text",
            ));
        };
        let model = Model::open(path, Verify::Whole)?;
        let stream = &self.data.validation()[first..=last + steps];
        let fitted = charges::fit(model.mechanism(), stream)?;
        model
            .described(|metadata| metadata.charges = Some(fitted.settings))
            .save(path)?;
        Ok(fitted)
    }

    /// Measures the validation text, keeps the best model, and says whether patience has run out.
    fn validate(&mut self, step: u64, per_step: u64, watcher: &mut dyn Watcher) -> Result<bool> {
        let loss = self.validation_loss()?;
        let perplexity = loss.mean().exp();
        let mut measured = Perplexity::new(self.graph.nodes() as u64);
        measured.add_sum(loss.nats, loss.tokens as u64);
        let seconds = self.begun.elapsed().as_secs_f64();
        let record = Record::Validation(Validation::new(step, step * per_step, &measured, seconds));
        self.log.add(&record)?;
        watcher.record(&record);
        if self.progress.best.is_none_or(|(best, _)| perplexity < best) {
            self.progress.best = Some((perplexity, step));
            self.progress.stale = 0;
            self.model()?.save(&self.folder.join("best.bril"))?;
        } else {
            self.progress.stale += 1;
        }
        let patience = self.recipe.train.patience;
        Ok(patience > 0 && self.progress.stale >= patience)
    }

    /// First tokens of the validation windows.
    fn windows(&self) -> Vec<usize> {
        let steps = self.recipe.train.steps;
        let all = self.data.validation().len().saturating_sub(1) / steps;
        let range = match self.recipe.data.validation_windows {
            Some([first, count]) => first..(first + count).min(all),
            None => 0..all,
        };
        range.map(|window| window * steps).collect()
    }

    /// The loss on the validation text, state reset at each window.
    ///
    /// # Errors
    /// Those of a device, where one is used.
    pub fn validation_loss(&mut self) -> Result<Loss> {
        let steps = self.recipe.train.steps;
        let mut loss = Loss::default();
        for group in self.windows().chunks(WINDOWS) {
            let validation = self.data.validation();
            let tokens = group
                .iter()
                .flat_map(|&start| validation[start..=start + steps].iter().copied())
                .collect();
            let batch = Batch {
                tokens,
                steps,
                folds: vec![0; group.len()],
                candidates: None,
                index: 0,
            };
            let part = self.loss(&batch)?;
            loss.nats += part.nats;
            loss.tokens += part.tokens;
        }
        Ok(loss)
    }

    /// The model as it is now.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when a parameter is not finite.
    pub fn model(&mut self) -> Result<Model> {
        self.bring_back()?;
        let weights = self.learner.weights(&self.profile, &self.graph)?;
        let mechanism = Mechanism::new(self.profile.clone(), self.graph.clone(), weights)?;
        let metadata = Metadata {
            name: self.recipe.name.clone(),
            licence: self.recipe.licence.clone(),
            profile: self.profile.clone(),
            own_minimum: self.graph.own_minimum(),
            charges: None,
            training: serde_json::json!({
                "about": self.recipe.about,
                "recipe": self.recipe,
                "sources": self.data.sources,
                "train_tokens": self.data.train().len(),
                "step": self.progress.step,
                "validation": self.progress.best.map(|(perplexity, step)| serde_json::json!({
                    "perplexity": perplexity, "step": step, "tokens": self.data.validation().len(),
                })),
                "version": env!("CARGO_PKG_VERSION"),
            }),
        };
        Model::new(metadata, self.data.tokenizer.clone(), mechanism)
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

/// Without devices, the parameters are with the processor.
#[cfg(not(feature = "gpu"))]
impl Trainer {
    fn learn(&mut self, batch: &Batch, step: u64) -> Result<(Loss, Option<f64>)> {
        let train = &self.recipe.train;
        self.learner
            .learn(&self.graph, &self.prior, batch, train, step)
    }

    fn bring_back(&mut self) -> Result<()> {
        Ok(())
    }

    fn loss(&mut self, batch: &Batch) -> Result<Loss> {
        Ok(self.learner.loss(&self.graph, &self.prior, batch))
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
