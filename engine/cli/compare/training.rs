//! What `brillm compare` trains or opens, and how it measures one model.

use std::path::{Path, PathBuf};

use cpu_time::ProcessTime;

use super::row::{Measured, Row};
use super::{Arguments, is_recipe};
use crate::cli::train::Bar;
use crate::hook::Hooks;
use crate::learn::{ProgressObserver, Recipe};
use crate::run::{Engine, EngineKind, prepare_training};
use crate::{Error, ErrorKind, Result};

/// An entry of the command line: a recipe or a model, with the plugins of its own.
pub(super) struct Source {
    pub(super) path: PathBuf,
    name: String,
    plugins: crate::cli::plugin_options::Plugins,
}

impl Source {
    pub(super) fn new(entry: &str) -> Result<Self> {
        let (path, plugins) = crate::cli::plugin_options::entry(entry)?;
        let techniques = entry
            .strip_prefix(&*path.to_string_lossy())
            .unwrap_or_default();
        Ok(Self {
            name: techniques.to_string(),
            path,
            plugins,
        })
    }

    /// The entry's own plugins, else those of the command line.
    fn hooks(&self) -> Result<Hooks> {
        if self.name.is_empty() {
            crate::cli::plugin_options::hooks()
        } else {
            Ok(self.plugins.hooks().clone())
        }
    }
}

/// A trained recipe.
pub(super) struct Trained {
    name: String,
    seed: u64,
    model: PathBuf,
    tokens: u64,
    cpu_seconds: f64,
    pub(super) train: Vec<u32>,
    pub(super) validation: Vec<u32>,
    pub(super) vocabulary: usize,
}

impl Arguments {
    /// Trains a recipe with every seed; nothing for a model.
    pub(super) fn train_all(&self, source: &Source) -> Result<Vec<Trained>> {
        if !is_recipe(&source.path) {
            return Ok(Vec::new());
        }
        let recipe = Recipe::open(&source.path, &self.changes)?;
        let seeds = if self.seeds.is_empty() {
            vec![recipe.seed]
        } else {
            self.seeds.clone()
        };
        seeds
            .into_iter()
            .map(|seed| {
                let mut recipe = recipe.clone();
                recipe.seed = seed;
                self.train(source, recipe)
            })
            .collect()
    }

    /// Trains a recipe in its own folder of the comparison.
    fn train(&self, source: &Source, mut recipe: Recipe) -> Result<Trained> {
        let own = source.path.parent().unwrap_or(Path::new("")).to_path_buf();
        let base = self.data.clone().unwrap_or(own);
        let name = format!("{}{}", recipe.name, source.name);
        let mut folder: String = name
            .chars()
            .map(|letter| {
                if letter.is_alphanumeric() || letter == '.' {
                    letter
                } else {
                    '-'
                }
            })
            .collect();
        if !self.seeds.is_empty() {
            folder += &format!("-seed-{}", recipe.seed);
        }
        let mut bar = Bar::new(self.quiet);
        let hooks = source.hooks()?;
        bar.note(&name);
        if let Some(budget) = self.cpu_seconds {
            let scratch = self.out.join(format!("{folder}-pace"));
            let mut trainer =
                prepare_training(recipe.clone(), &base, &scratch, true, &hooks, &mut bar)?;
            let begun = ProcessTime::now();
            let mut tokens = 0;
            // The first steps touch fresh memory: they are taken, but not counted.
            trainer.take_steps(2)?;
            let first = begun.elapsed().as_secs_f64();
            while begun.elapsed().as_secs_f64() - first < budget * 0.02 {
                tokens += trainer.take_steps(2)?;
            }
            let spent = begun.elapsed().as_secs_f64() - first;
            let per_step = (recipe.train.batch * recipe.train.steps) as f64;
            let steps = (budget * tokens as f64 / spent.max(1e-9) / per_step)
                .floor()
                .max(1.0);
            recipe.train.tokens = (steps * per_step) as u64;
            // A handful of validations: their time is not training's.
            recipe.train.validate_every = (steps as u64 / 8).max(1);
            drop(trainer);
            drop(std::fs::remove_dir_all(&scratch));
        }
        let folder = self.out.join(folder);
        let mut trainer = prepare_training(
            recipe.clone(),
            &base,
            &folder,
            folder.exists(),
            &hooks,
            &mut bar,
        )?;
        let begun = ProcessTime::now();
        let outcome = trainer.run(crate::cli::interrupted(), &mut bar)?;
        let cpu_seconds = begun.elapsed().as_secs_f64();
        bar.finish();
        if outcome.cancelled {
            return Err(Error::new(ErrorKind::Cancelled, "stopped").at(&recipe.name));
        }
        let data = trainer.data();
        Ok(Trained {
            name,
            seed: recipe.seed,
            model: outcome.model,
            tokens: outcome.steps * (recipe.train.batch * recipe.train.steps) as u64,
            cpu_seconds,
            train: data.train().to_vec(),
            validation: data.validation().to_vec(),
            vocabulary: data.tokenizer.vocabulary().len(),
        })
    }

    /// Measures every run of an entry, or the model it names.
    pub(super) fn measure_all(
        &self,
        source: &Source,
        trained: &[Trained],
        tokens: &[u32],
    ) -> Result<Row> {
        let mut row = Row {
            name: String::new(),
            kind: String::new(),
            plugins: source.plugins.record(),
            runs: Vec::new(),
        };
        if trained.is_empty() {
            let (engine, kind, measured) = self.measure(&source.path, 0, tokens)?;
            row.name = format!("{}{}", engine.name(), source.name);
            row.kind = kind;
            row.runs.push(measured);
        }
        for run in trained {
            let (_, kind, measured) = self.measure(&run.model, run.seed, tokens)?;
            row.name = run.name.clone();
            row.kind = kind;
            row.runs.push(Measured {
                seed: Some(run.seed),
                train_tokens: Some(run.tokens),
                cpu_seconds: Some(run.cpu_seconds),
                ..measured
            });
        }
        Ok(row)
    }

    fn measure(
        &self,
        path: &Path,
        seed: u64,
        tokens: &[u32],
    ) -> Result<(Engine, String, Measured)> {
        let engine = Engine::open(path, Default::default())?;
        let windows = &self.windows;
        let end = (windows.count * (windows.length - 1) + 1).min(tokens.len());
        let summary = engine.summary();
        let kind = match summary.kind {
            EngineKind::Graph => match engine.order() {
                Some(order) if order > 2 => format!("graph of order {order}"),
                _ => "graph".to_string(),
            },
            EngineKind::Transformer => summary.profile.clone(),
        };
        let hooked = engine.with_hooks(&Hooks::default(), 0)?;
        let measured = hooked.windows(tokens, windows)?;
        // A transformer that was trained on windows knows no position beyond them, and a masked one has no order.
        let fits = |context| context == 0 || context >= windows.length;
        let streaming = if engine.is_causal() && summary.context.is_none_or(fits) {
            Some(hooked.stream(&tokens[..end], 1, &Default::default())?)
        } else {
            None
        };
        let speed = if engine.is_causal() {
            Some(engine.flow_speed(&tokens[..windows.length.min(8)], self.seconds)?)
        } else {
            None
        };
        #[cfg_attr(not(feature = "transformer"), allow(unused_mut))]
        let mut tasks = Vec::new();
        #[cfg(feature = "transformer")]
        if summary.kind == EngineKind::Transformer {
            for task in &self.tasks {
                let measured = task.run(path, seed, self.epochs, self.quiet)?;
                tasks.push((task.name.clone(), measured));
            }
        }
        let _ = seed;
        let measured = Measured {
            parameters: Some(engine.parameters()),
            perplexity: measured.perplexity,
            streaming: streaming.map(|streaming| streaming.perplexity),
            bytes_per_token: speed.map(|speed| speed.bytes_per_token),
            state_bytes: speed.map(|speed| speed.state_bytes),
            tokens_per_second: speed.map(|speed| speed.tokens_per_second),
            tasks,
            ..Measured::default()
        };
        Ok((engine, kind, measured))
    }
}
