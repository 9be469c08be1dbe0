//! The training loop: batches, steps, validation, checkpoints and resuming.

mod folder;
mod training;
mod validation;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use self::folder::{keep_recipe, sums_exactly, write_recipe};
use xxhash_rust::xxh3::xxh3_64;

use crate::kernel::simd::Level;
use crate::learn::batch::{BatchSampler, Order};
use crate::learn::charges::FittedCharges;
use crate::learn::checkpoint::{self, Progress};
use crate::learn::data::TokenData;
use crate::learn::graph_model::GraphModel;
use crate::learn::log::{Record, RunLog};
use crate::learn::recall::FittedRecall;
use crate::learn::recipe::{Kind, Recipe, Reduction, Train};
use crate::learn::trainable::Trainable;
use crate::ranks::{OneProcess, Ranks, agree, leader_first};
use crate::{Error, ErrorKind, Result};

/// Progress callbacks of a run.
pub trait ProgressObserver {
    /// Called when a phase begins, for example "encoding the text".
    fn note(&mut self, _text: &str) {}
    /// Called after step `_step` of `_of`, with its mean loss and the training tokens so far.
    fn step(&mut self, _step: u64, _of: u64, _loss: f64, _tokens: u64) {}
    /// Called when the run deviates from its settings, for example after a device failed.
    fn warn(&mut self, _text: &str) {}
    /// Called after a record was written to the log.
    fn record(&mut self, _record: &Record) {}
}

/// Ignores all callbacks.
impl ProgressObserver for () {}

/// Result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Path of the model.
    pub model: PathBuf,
    /// Steps taken.
    pub steps: u64,
    /// Number of trained parameters.
    pub parameters: usize,
    /// The fitted charges, if the recipe enables them.
    pub charges: Option<FittedCharges>,
    /// The fitted recall, if the recipe enables it.
    pub recall: Option<FittedRecall>,
    /// The best validation perplexity, if there was validation text.
    pub validation_perplexity: Option<f64>,
    /// Bytes that crossed between ranks in the exchanges of this start's steps, for each of their tokens; those of sums over
    /// all ranks are not counted.
    pub exchanged_bytes_a_token: f64,
    /// Whether the run was cancelled; it then saved a checkpoint and can be resumed.
    pub cancelled: bool,
}

/// Constructor of the model that a recipe trains.
pub type Maker<'a> = &'a dyn Fn(&Recipe, &TokenData, &BatchSampler) -> Result<Box<dyn Trainable>>;

/// A prepared training run.
///
/// ```
/// use brillm::learn::{Recipe, Trainer};
/// use std::sync::atomic::AtomicBool;
/// # let folder = std::env::temp_dir().join(format!("brillm-trainer-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// std::fs::write(folder.join("crow.txt"), "A thirsty crow found a jug.\n".repeat(40)).unwrap();
/// let recipe = Recipe::parse(
///     "name = \"crow\"\n[data]\ntrain = [\"crow.txt\"]\nvalidation-fraction = 0\nvocabulary = 300\n\
///      [profile]\nwidth = 8\n[train]\ntokens = 800\nbatch = 2\nsteps = 16\nfolds = 0\n",
///     &[],
/// )?;
/// // `()` ignores progress; the flag cancels training from another thread.
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
    trainable: Box<dyn Trainable>,
    progress: Progress,
    ranks: Arc<dyn Ranks>,
    /// The log of the run, which rank 0 writes.
    log: Option<RunLog>,
    started: Instant,
    /// Steps of this start, and the bytes that this rank has sent in them.
    taken: (u64, u64),
}

impl Trainer {
    /// Prepare a run in `folder`. Paths of the recipe are relative to `base`, the folder of the run file.
    ///
    /// With `resume`, a run that `folder` already contains continues from its newest checkpoint.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for an invalid recipe or a folder that contains a run; errors of the data and of
    /// input and output.
    pub fn prepare(
        recipe: Recipe,
        base: &Path,
        folder: &Path,
        resume: bool,
        observer: &mut dyn ProgressObserver,
    ) -> Result<Self> {
        let ranks: Arc<dyn Ranks> = Arc::new(OneProcess);
        Self::prepare_over(ranks, recipe, base, folder, resume, observer)
    }

    /// As [`Self::prepare`], on every rank. All work on one copy of the data and the model: `folder` is one that they
    /// share, in which rank 0 writes. With more than one rank, gradients are summed exactly.
    ///
    /// # Errors
    /// As [`Self::prepare`]; [`ErrorKind::Configuration`] when the ranks differ; those of an exchange.
    pub fn prepare_over(
        ranks: Arc<dyn Ranks>,
        mut recipe: Recipe,
        base: &Path,
        folder: &Path,
        resume: bool,
        observer: &mut dyn ProgressObserver,
    ) -> Result<Self> {
        if recipe.kind != Kind::Graph {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the run file trains a gpt, bert or lstm",
            )
            .at(&recipe.name)
            .advice("prepare it with brillm::run::prepare_training"));
        }
        if ranks.size() > 1 || resume && sums_exactly(folder) {
            recipe.train.reduction = Reduction::Exact;
        }
        let over = Arc::clone(&ranks);
        let make: Maker<'_> = &move |recipe, data, sampler| {
            let model = GraphModel::over(&over, recipe, data, sampler, base)?;
            Ok(Box::new(model) as Box<dyn Trainable>)
        };
        Self::prepare_parts(ranks, recipe, base, folder, resume, observer, make)
    }

    /// Prepare a run of the model that `make` constructs, as [`Self::prepare`] does for a graph.
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
        let ranks = Arc::new(OneProcess);
        Self::prepare_parts(ranks, recipe, base, folder, resume, observer, make)
    }

    fn prepare_parts(
        ranks: Arc<dyn Ranks>,
        recipe: Recipe,
        base: &Path,
        folder: &Path,
        resume: bool,
        observer: &mut dyn ProgressObserver,
        make: Maker<'_>,
    ) -> Result<Self> {
        let leads = ranks.rank() == 0;
        agree(&*ranks, &properties(&recipe))?;
        let mut earlier_tokens = None;
        let data = leader_first(&*ranks, "preparation of the data", || {
            if leads {
                earlier_tokens = keep_recipe(&recipe, folder, resume)?;
            }
            TokenData::prepare(&recipe, base, folder, &mut |text| observer.note(text))
        })?;
        observer.note("building the model");
        let train = &recipe.train;
        // Only static resistances are estimated from counts, and need cross-fitting.
        let folds = if recipe.kind == Kind::Graph && recipe.profile()?.static_resistance {
            train.folds
        } else {
            0
        };
        let mut sampler = BatchSampler::new(
            recipe.seed,
            data.train().len(),
            train.steps,
            train.batch,
            train.block,
            folds,
        );
        if train.carry {
            sampler = sampler.streams(train.reset);
        }
        let mut trainable = make(&recipe, &data, &sampler)?;
        let progress = if resume {
            checkpoint::load(&*ranks, folder, &mut *trainable)?.unwrap_or_default()
        } else {
            Progress::default()
        };
        let digest = |tokens: &[u32]| format!("{:016x}", xxh3_64(bytemuck::cast_slice(tokens)));
        agree(
            &*ranks,
            &[
                ("the training text", digest(data.train())),
                ("the validation text", digest(data.validation())),
                ("the step of the checkpoint", progress.step.to_string()),
            ],
        )?;
        let log = match leads {
            false => None,
            true if folder.join(crate::learn::log::JSON_FILE).exists() => {
                Some(RunLog::resume(folder, progress.step)?)
            }
            true => Some(RunLog::create(folder)?),
        };
        check_length(&recipe, progress.step, earlier_tokens, observer)?;
        if earlier_tokens.is_some() {
            write_recipe(&recipe, folder)?;
        }
        let folder = folder.to_path_buf();
        Ok(Self {
            recipe,
            folder,
            data,
            sampler,
            trainable,
            progress,
            ranks,
            log,
            started: Instant::now(),
            taken: (0, 0),
        })
    }

    /// Whether a folder contains a run that has begun to train.
    pub fn has_begun(folder: &Path) -> bool {
        folder::has_begun(folder)
    }

    /// Train on a device. Unless `forced`, training continues on the CPU from the newest checkpoint when the device
    /// fails.
    ///
    /// # Errors
    /// As [`Trainable::use_device`].
    #[cfg(feature = "gpu")]
    pub fn use_device(&mut self, device: &crate::kernel::gpu::Device, forced: bool) -> Result<()> {
        self.trainable.use_device(device, forced)
    }

    /// Return to the newest checkpoint, or to the beginning, and release the device.
    #[cfg(feature = "gpu")]
    fn fall_back_to_cpu(
        &mut self,
        error: &Error,
        observer: &mut dyn ProgressObserver,
    ) -> Result<()> {
        self.log.as_ref().map_or(Ok(()), RunLog::sync)?;
        self.trainable.leave_device();
        let progress = checkpoint::load(&*self.ranks, &self.folder, &mut *self.trainable)?;
        self.progress = progress.unwrap_or_default();
        self.log = Some(RunLog::resume(&self.folder, self.progress.step)?);
        observer.warn(&format!(
            "training continues on the CPU after step {}: {error}",
            self.progress.step
        ));
        Ok(())
    }

    /// Describe the size of the model in a few words.
    pub fn about(&self) -> String {
        self.trainable.about()
    }

    /// The tokens and the tokenizer of the run.
    pub fn data(&self) -> &TokenData {
        &self.data
    }

    /// The model in training.
    pub fn trainable(&mut self) -> &mut dyn Trainable {
        &mut *self.trainable
    }

    /// Take `steps` optimiser steps without log or checkpoints, to measure throughput, and return their tokens.
    /// Prepare the run again afterwards.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn take_steps(&mut self, steps: u64) -> Result<u64> {
        let train = self.recipe.train.clone();
        let mut order = Order::default();
        for _ in 0..steps {
            self.take_step(&train, &mut order, &mut ())?;
        }
        Ok(self.tokens_at(steps))
    }

    /// Train to the end, or until `cancel` is set; then save a checkpoint.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when training diverges, [`ErrorKind::Io`] or [`ErrorKind::Resource`] when
    /// a file cannot be written; the last checkpoint stays intact.
    pub fn run(
        &mut self,
        cancel: &AtomicBool,
        observer: &mut dyn ProgressObserver,
    ) -> Result<Outcome> {
        let outcome = self.run_on_device(cancel, observer);
        #[cfg(feature = "gpu")]
        if let Err(error) = &outcome
            && self.trainable.device_failed()
        {
            self.fall_back_to_cpu(error, observer)?;
            return self.run_on_device(cancel, observer);
        }
        outcome
    }
}

/// Return what all ranks of a run must have in common before it touches a file.
fn properties(recipe: &Recipe) -> [(&'static str, String); 3] {
    let recipe = serde_json::to_vec(recipe).unwrap_or_default();
    [
        ("the version", env!("CARGO_PKG_VERSION").into()),
        // Other instructions round differently.
        ("the SIMD level", Level::current().name().into()),
        (
            "the run file with its changes",
            format!("{:016x}", xxh3_64(&recipe)),
        ),
    ]
}

/// Check the length of a resumed run. The learning rate of an extended run follows the schedule of its new length, as if
/// it had been started with it: it rises once, and falls again to the end.
fn check_length(
    recipe: &Recipe,
    step: u64,
    earlier_tokens: Option<u64>,
    observer: &mut dyn ProgressObserver,
) -> Result<()> {
    let train = &recipe.train;
    let total = train.total_steps();
    if step > total {
        let seen = step * (train.batch * train.steps) as u64;
        let what = format!(
            "train.tokens = {} is less than the {seen} tokens that the run has seen",
            train.tokens
        );
        return Err(Error::new(ErrorKind::Configuration, what)
            .at("--resume")
            .advice(format!(
                "pass --set train.tokens=N with a larger number{}",
                earlier_tokens.map_or(String::new(), |tokens| format!(
                    ", such as the earlier {tokens}"
                ))
            )));
    }
    if let Some(tokens) = earlier_tokens.filter(|&tokens| step > 0 && tokens != train.tokens) {
        let earlier = Train {
            tokens,
            ..train.clone()
        };
        let before = earlier.total_steps();
        observer.warn(&format!(
            "the run is now {total} steps long (was {before}); the learning rate at step {} is {:.2e} (was {:.2e})",
            step + 1,
            train.rate_at(step),
            earlier.rate_at(step.min(before - 1))
        ));
    }
    Ok(())
}
