//! The training loop: batches, steps, validation, checkpoints, and going on where it stopped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::learn::batch::{Batch, BatchSampler, Order};
use crate::learn::charges::{self, FittedCharges};
use crate::learn::checkpoint::{self, Progress};
use crate::learn::composed::Loss;
use crate::learn::data::TokenData;
use crate::learn::edge_trainer::Trainable;
use crate::learn::graph_model::GraphModel;
use crate::learn::log::{Record, RunLog, Training, Validation};
use crate::learn::recipe::{Kind, Recipe};
use crate::measure::Perplexity;
use crate::model::{Model, Verify};
use crate::{Error, ErrorKind, Result};

/// Windows validated together.
const WINDOWS: usize = 32;

/// What a run tells while it goes.
pub trait ProgressObserver {
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
impl ProgressObserver for () {}

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

/// Makes what a recipe trains, out of its text.
pub type Maker<'a> = &'a dyn Fn(&Recipe, &TokenData, &BatchSampler) -> Result<Box<dyn Trainable>>;

/// A run, ready to go.
///
/// ```
/// use brillm::learn::{Recipe, Trainer};
/// use std::sync::atomic::AtomicBool;
/// # let folder = std::env::temp_dir().join(format!("brillm-trainer-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// std::fs::write(folder.join("crow.txt"), "A thirsty crow found a jug.\n".repeat(40)).unwrap();
/// let recipe = Recipe::parse(
///     "name = \"crow\"\n[data]\ntrain = [\"crow.txt\"]\nvalidation-share = 0\nvocabulary = 300\n\
///      [profile]\nwidth = 8\n[train]\ntokens = 800\nbatch = 2\nsteps = 16\nfolds = 0\n",
///     &[],
/// )?;
/// // A observer is told of every step; `()` watches nothing. The flag ends training from another thread.
/// let mut trainer = Trainer::prepare(recipe, &folder, &folder.join("run"), false, &mut ())?;
/// let outcome = trainer.run(&AtomicBool::new(false), &mut ())?;
/// let model = brillm::open(&outcome.model)?;
/// assert_eq!(model.name(), "crow");
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), brillm::Error>(())
/// ```
pub struct Trainer {
    recipe: Recipe,
    folder: PathBuf,
    data: TokenData,
    sampler: BatchSampler,
    edge_trainer: Box<dyn Trainable>,
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
        observer: &mut dyn ProgressObserver,
    ) -> Result<Self> {
        if recipe.kind != Kind::Graph {
            return Err(
                Error::new(ErrorKind::Unsupported, "the recipe trains no graph")
                    .at(&recipe.name)
                    .advice("prepare it through the room `run`"),
            );
        }
        let make: Maker<'_> = &|recipe, data, sampler| {
            Ok(Box::new(GraphModel::new(recipe, data, sampler, base)?) as Box<dyn Trainable>)
        };
        Self::prepare_with(recipe, base, folder, resume, observer, make)
    }

    /// As [`Self::prepare`], for whatever `make` makes.
    ///
    /// # Errors
    /// As [`Self::prepare`], and those of `make`.
    pub fn prepare_with(
        recipe: Recipe,
        base: &Path,
        folder: &Path,
        resume: bool,
        observer: &mut dyn ProgressObserver,
        make: Maker<'_>,
    ) -> Result<Self> {
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
        let data = TokenData::prepare(&recipe, base, folder, &mut |text| observer.note(text))?;
        observer.note("building the model");
        let train = &recipe.train;
        let folds = match recipe.kind == Kind::Graph && recipe.profile()?.static_resistance {
            true => train.folds,
            false => 0,
        };
        let sampler = BatchSampler::new(
            recipe.seed,
            data.train().len(),
            train.steps,
            train.batch,
            train.block,
            folds,
        );
        let mut edge_trainer = make(&recipe, &data, &sampler)?;
        let progress = match resume {
            true => checkpoint::load(folder, &mut *edge_trainer)?.unwrap_or_default(),
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
            folder,
            data,
            sampler,
            edge_trainer,
            progress,
            log,
            begun: Instant::now(),
        })
    }

    /// Trains on a device from here on. Unless `forced`, the processor takes over from the newest checkpoint
    /// when the device fails.
    ///
    /// # Errors
    /// As [`Trainable::use_device`].
    #[cfg(feature = "gpu")]
    pub fn use_device(&mut self, device: &crate::kernel::gpu::Device, forced: bool) -> Result<()> {
        self.edge_trainer.use_device(device, forced)
    }

    /// Goes back to the newest checkpoint, or to the beginning, and on without the device.
    #[cfg(feature = "gpu")]
    fn take_over(&mut self, error: &Error, observer: &mut dyn ProgressObserver) -> Result<()> {
        self.log.sync()?;
        self.edge_trainer.leave_device();
        let progress = checkpoint::load(&self.folder, &mut *self.edge_trainer)?;
        self.progress = progress.unwrap_or_default();
        self.log = RunLog::resume(&self.folder, self.progress.step)?;
        observer.warn(&format!(
            "the processor takes over after step {}: {error}",
            self.progress.step
        ));
        Ok(())
    }

    /// How large what is trained is, in a few words.
    pub fn about(&self) -> String {
        self.edge_trainer.about()
    }

    /// The tokens of the run.
    pub fn data(&self) -> &TokenData {
        &self.data
    }

    /// What is trained.
    pub fn edge_trainer(&mut self) -> &mut dyn Trainable {
        &mut *self.edge_trainer
    }

    /// Takes so many steps to see how fast they are, and returns the tokens learned. What is learned is kept
    /// nowhere: prepare the run anew afterwards.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn pace(&mut self, steps: u64) -> Result<u64> {
        let train = self.recipe.train.clone();
        let mut order = Order::default();
        for _ in 0..steps {
            let mut batch = self
                .sampler
                .batch(self.data.train(), self.progress.step, &mut order);
            self.progress.step += 1;
            self.edge_trainer
                .learn(&mut batch, &train, self.progress.step)?;
        }
        Ok(steps * (train.batch * train.steps) as u64)
    }

    /// Trains to the end, or until `cancel` is set; then a checkpoint is saved.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when training diverges, [`ErrorKind::Io`] or [`ErrorKind::Resource`] when
    /// something cannot be saved; the last checkpoint is whole in any case.
    pub fn run(
        &mut self,
        cancel: &AtomicBool,
        observer: &mut dyn ProgressObserver,
    ) -> Result<Outcome> {
        let outcome = self.run_where_it_is(cancel, observer);
        #[cfg(feature = "gpu")]
        if let Err(error) = &outcome
            && self.edge_trainer.device_failed()
        {
            self.take_over(error, observer)?;
            return self.run_where_it_is(cancel, observer);
        }
        outcome
    }

    fn run_where_it_is(
        &mut self,
        cancel: &AtomicBool,
        observer: &mut dyn ProgressObserver,
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
            let step = self.progress.step + 1;
            let (loss, norm) = self.edge_trainer.learn(&mut batch, &train, step)?;
            self.progress.step = step;
            self.progress.nats += loss.nats;
            self.progress.tokens += loss.tokens as u64;
            observer.step(step, total, loss.mean(), step * per_step);
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
                observer.record(&record);
            }
            let mut stop = false;
            if (step % validate_every == 0 || step == total) && !self.windows().is_empty() {
                stop = self.validate(step, per_step, observer)?;
            }
            cancelled = cancel.load(Ordering::Relaxed);
            if step % train.checkpoint_every == 0 || step == total || stop || cancelled {
                // The log first: a checkpoint is never ahead of it.
                self.log.sync()?;
                self.edge_trainer.settle()?;
                self.progress.notes = self.edge_trainer.notes()?;
                checkpoint::save(
                    &self.folder,
                    &self.progress,
                    &mut *self.edge_trainer,
                    train.checkpoints,
                )?;
            }
            if stop || cancelled {
                break;
            }
        }
        let best = self.folder.join(self.edge_trainer.file("best"));
        let model = self.folder.join(self.edge_trainer.file("model"));
        // With validation the best model is the result; without, the last one.
        if self.edge_trainer.keeps_best() && self.progress.best.is_some() && best.exists() {
            copy(&best, &model)?;
        } else {
            self.save(&model)?;
        }
        let charges = match train.charges && !cancelled {
            true => Some(self.fit_charges(&model, observer)?),
            false => None,
        };
        let (parameters, _) = self.edge_trainer.state();
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
    fn fit_charges(
        &self,
        path: &Path,
        observer: &mut dyn ProgressObserver,
    ) -> Result<FittedCharges> {
        observer.note("fitting charges");
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
    fn validate(
        &mut self,
        step: u64,
        per_step: u64,
        observer: &mut dyn ProgressObserver,
    ) -> Result<bool> {
        let loss = self.validation_loss()?;
        let perplexity = loss.mean().exp();
        let mut measured = Perplexity::new(self.edge_trainer.candidates() as u64);
        measured.add_sum(loss.nats, loss.tokens as u64);
        let seconds = self.begun.elapsed().as_secs_f64();
        let record = Record::Validation(Validation::new(step, step * per_step, &measured, seconds));
        self.log.add(&record)?;
        observer.record(&record);
        if self.progress.best.is_none_or(|(best, _)| perplexity < best) {
            self.progress.best = Some((perplexity, step));
            self.progress.stale = 0;
            let best = self.folder.join(self.edge_trainer.file("best"));
            self.save(&best)?;
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
    /// [`ErrorKind::Numeric`] when arithmetic fails; those of a device, where one is used.
    pub fn validation_loss(&mut self) -> Result<Loss> {
        let steps = self.recipe.train.steps;
        let mut loss = Loss::default();
        for (index, group) in self.windows().chunks(WINDOWS).enumerate() {
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
                index: index as u64,
            };
            let part = self.edge_trainer.loss(&batch)?;
            loss.nats += part.nats;
            loss.tokens += part.tokens;
        }
        Ok(loss)
    }

    /// Writes the model as it is now.
    fn save(&mut self, path: &Path) -> Result<()> {
        let training = serde_json::json!({
            "about": self.recipe.about,
            "recipe": self.recipe,
            "sources": self.data.sources,
            "train_tokens": self.data.train().len(),
            "step": self.progress.step,
            "validation": self.progress.best.map(|(perplexity, step)| serde_json::json!({
                "perplexity": perplexity, "step": step, "tokens": self.data.validation().len(),
            })),
            "version": env!("CARGO_PKG_VERSION"),
        });
        self.edge_trainer.save(path, training)
    }
}

/// Copies a model: a file, or a folder of files with the one that makes it a model last.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let place = |error| Error::io(error, to.display());
    if !from.is_dir() {
        let bytes = std::fs::read(from).map_err(|error| Error::io(error, from.display()))?;
        return checkpoint::write_whole(to, &bytes);
    }
    std::fs::create_dir_all(to).map_err(place)?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(from)
        .map_err(place)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(place))
        .collect::<Result<_>>()?;
    files.sort_by_key(|path| path.ends_with("config.json"));
    for file in files {
        let bytes = std::fs::read(&file).map_err(|error| Error::io(error, file.display()))?;
        checkpoint::write_whole(&to.join(file.file_name().unwrap_or_default()), &bytes)?;
    }
    Ok(())
}
