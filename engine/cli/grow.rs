//! `brillm grow`: widen or deepen a model without changing its outputs, and check that before it is written.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::kernel::random::Random;
use crate::model::Model;
use crate::signal::Start;
use crate::{Error, ErrorKind, Result};

/// Largest allowed difference of an energy or logit before noise is added.
const TOLERANCE: f64 = 1e-4;
/// Random prompts that growth is checked on.
const PROMPTS: usize = 8;
/// Tokens of a prompt.
const LENGTH: usize = 24;
/// Random stream of the prompts.
const CHECKING: u64 = 0x6368_6563;

/// Widen or deepen a model without changing its outputs.
///
/// To continue training, set `initial` in a run file to the grown model.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm grow models/english.bril --width 192 --out wide.bril
  brillm grow models/stories260K --width 96 --layers 7 --out larger")]
pub(super) struct Arguments {
    /// Model: a .bril or .gguf file, or a folder with config.json.
    model: PathBuf,
    /// New width of the signal, or of the residual stream.
    #[arg(long, value_name = "N")]
    width: Option<usize>,
    /// New number of layers (transformers only).
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// New number of query heads (transformers only).
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// Noise added to new weights so that training can separate them, after the outputs were compared; for a transformer
    /// relative to the size of each weight. 0 for none.
    #[arg(long, default_value_t = 1e-3, value_name = "X")]
    noise: f32,
    /// Random seed of new weights, noise and prompts.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Grown model to write: a .bril file, or a folder for a transformer.
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Sizes before and after, and differences of the outputs.
struct Outcome {
    before: usize,
    after: usize,
    difference: f64,
    noisy: f64,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.noise) {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "invalid --noise {}: expected a number from 0 to 1",
                    self.noise
                ),
            ));
        }
        let engine = super::open_whole(&self.model)?;
        #[cfg(feature = "transformer")]
        let outcome = match engine.as_graph() {
            Some(model) => self.graph(model)?,
            None => self.transformer(&self.model)?,
        };
        #[cfg(not(feature = "transformer"))]
        let outcome = self.graph(&engine.graph()?)?;
        if self.json {
            return super::say_json(&json!({
                "model": self.out.display().to_string(),
                "parameters_before": outcome.before,
                "parameters": outcome.after,
                "difference": outcome.difference,
                "difference_with_noise": outcome.noisy,
                "prompts": PROMPTS,
            }));
        }
        super::say(format!(
            "{}: {} parameters (was {});  outputs differ by at most {:.1e}, {:.1e} with noise",
            self.out.display(),
            outcome.after,
            outcome.before,
            outcome.difference,
            outcome.noisy
        ))
    }

    fn check(&self, difference: f64) -> Result<()> {
        if difference <= TOLERANCE {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Numeric,
            format!("the grown model's outputs differ by {difference:.1e}"),
        )
        .at(self.model.display())
        .advice("nothing was written; try another width or number of heads"))
    }

    fn graph(&self, model: &Model) -> Result<Outcome> {
        if self.layers.is_some() || self.heads.is_some() {
            return Err(Error::new(
                ErrorKind::Input,
                "only the width of a graph can grow, and it has no heads",
            )
            .advice("pass --width, or train with another profile.layers"));
        }
        let from = model.metadata().profile.width;
        let width = self.width.ok_or_else(|| {
            Error::new(ErrorKind::Input, "no new size is given").advice("pass --width")
        })?;
        let grown = model.widened(width)?;
        let difference = self.differ(model, &grown)?;
        self.check(difference)?;
        let noisy = grown.stirred(from, self.noise, self.seed)?;
        let outcome = Outcome {
            before: model.mechanism().weights().parameters(),
            after: noisy.mechanism().weights().parameters(),
            difference,
            noisy: self.differ(model, &noisy)?,
        };
        let record = json!({"width_from": from, "noise": self.noise, "seed": self.seed,
            "difference": difference});
        noisy
            .described(|metadata| match metadata.training.as_object_mut() {
                Some(training) => {
                    training.insert("growth".into(), record);
                }
                None => metadata.training = json!({ "growth": record }),
            })
            .save(&self.out)?;
        Ok(outcome)
    }

    /// Measure the largest difference of any energy on random prompts, relative to energies above 1.
    fn differ(&self, one: &Model, other: &Model) -> Result<f64> {
        let nodes = one.mechanism().nodes();
        let mut random = Random::stream(self.seed, CHECKING, 0);
        let (mut a, mut b) = (vec![0.0; nodes], vec![0.0; nodes]);
        let mut worst = 0.0f64;
        for _ in 0..PROMPTS {
            let first = random.below(nodes as u64) as u32;
            let mut flow = one.mechanism().begin(first, &Start::Profile)?;
            let mut grown = other.mechanism().begin(first, &Start::Profile)?;
            for _ in 0..LENGTH {
                one.mechanism().energies(&flow, &mut a)?;
                other.mechanism().energies(&grown, &mut b)?;
                for (&a, &b) in a.iter().zip(&b) {
                    let gap = f64::from((a - b).abs()) / f64::from(a.abs()).max(1.0);
                    // A difference that is not a number counts as the largest.
                    worst = if gap <= worst { worst } else { gap };
                }
                let next = random.below(nodes as u64) as u32;
                one.mechanism().hop(&mut flow, next)?;
                other.mechanism().hop(&mut grown, next)?;
            }
        }
        Ok(worst)
    }

    #[cfg(feature = "transformer")]
    fn transformer(&self, path: &std::path::Path) -> Result<Outcome> {
        let growth = crate::transformer::Growth {
            width: self.width,
            layers: self.layers,
            heads: self.heads,
            seed: self.seed,
        };
        let before = crate::transformer::Transformer::open(path)?
            .body()
            .parameters();
        let mut grown = crate::transformer::GrownModel::new(path, &growth)?;
        let difference = grown.difference(PROMPTS, self.seed)?;
        self.check(difference)?;
        grown.add_noise(self.noise, self.seed);
        let noisy = grown.difference(PROMPTS, self.seed)?;
        let record = json!({"width": self.width, "layers": self.layers, "heads": self.heads,
            "noise": self.noise, "seed": self.seed, "difference": difference});
        grown.save(&self.out, record)?;
        Ok(Outcome {
            before,
            after: grown.parameters(),
            difference,
            noisy,
        })
    }
}
