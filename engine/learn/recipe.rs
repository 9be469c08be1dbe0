//! The run file: everything that decides a training run, in TOML.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::learn::adamw::{AdamMode, AdamW};
pub use crate::learn::data_recipe::{Data, TokenKind};
pub use crate::learn::network_recipe::{Kind, MaskDraw, NetworkRecipe, Style};
use crate::learn::preferences::Preferences;
use crate::signal::{EdgeForm, Profile};
use crate::text::Reading;
use crate::{Error, ErrorKind, Result};

/// A run file. Unknown keys are errors.
///
/// ```
/// use brillm::learn::Recipe;
/// let file = "name = \"crow\"\n[data]\ntrain = [\"crow.txt\"]\n[train]\ntokens = 20_000\n";
/// let recipe = Recipe::parse(file, &["train.rate=0.002".into()])?; // as `--set` on the command line
/// assert_eq!((recipe.train.tokens, recipe.train.rate), (20_000, 0.002));
/// let mistake = Recipe::parse("name = \"crow\"\n[data]\ntrain = []\nvocabluary = 9\n", &[]).unwrap_err();
/// assert!(mistake.to_string().contains("vocabluary"));
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// Name of the model.
    pub name: String,
    /// License of the weights.
    #[serde(default)]
    pub license: String,
    /// What the model is and where its data comes from; kept in the model file.
    #[serde(default)]
    pub about: String,
    /// Seed of everything random.
    #[serde(default = "one")]
    pub seed: u64,
    /// What is trained.
    #[serde(default, skip_serializing_if = "Kind::is_graph")]
    pub kind: Kind,
    /// A model whose weights training begins with, relative to the run file: what was trained before, or grown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    /// The text.
    pub data: Data,
    /// The shape of a gpt, bert or lstm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkRecipe>,
    /// The graph.
    #[serde(default)]
    pub graph: GraphRecipe,
    /// The mechanism: `preset` and any switch of [`Profile`] by its name.
    #[serde(default)]
    pub profile: toml::Table,
    /// The training.
    #[serde(default)]
    pub train: Train,
    /// Preferences that the model of `initial` learns; `data` is then what its perplexity is watched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferences: Option<Preferences>,
    /// The plugins, each `name`, `options`, `sha256` and `on-error`; what the run loaded is kept in its record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugin: Vec<toml::Table>,
}

fn one() -> u64 {
    1
}

/// How the graph is built from counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct GraphRecipe {
    /// Edges walked fewer times are left out.
    pub minimum_count: u32,
    /// At most this many edges leave a node.
    pub maximum_fan: Option<usize>,
    /// Edges walked at least this often own a matrix (own form) or a residual (composed form).
    pub own_minimum_count: u32,
    /// A forward model of own edges, relative to the run file: each edge (v, u) of this backward graph holds the
    /// transpose of the model's edge (u, v), and keeps it. Biases of edges are learned by nobody then either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transpose_of: Option<String>,
}

impl Default for GraphRecipe {
    fn default() -> Self {
        Self {
            minimum_count: 1,
            maximum_fan: None,
            own_minimum_count: 1,
            transpose_of: None,
        }
    }
}

/// Which targets a prediction is scored against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NegativeKind {
    /// The source's most frequent successors, the same at every visit (the authors').
    #[default]
    Frequent,
    /// Uniformly drawn targets.
    Uniform,
}

/// The shape of the learning rate after its warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Falls along a half cosine to `rate-floor`.
    #[default]
    Cosine,
    /// Stays.
    Constant,
}

/// The training loop's numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Train {
    /// Predicted tokens in all.
    pub tokens: u64,
    /// Sequences learned together, `B`.
    pub batch: usize,
    /// Predictions in a sequence, `T`.
    pub steps: usize,
    /// The highest learning rate.
    pub rate: f64,
    /// Multiplies the rate for the edge arena of own edges.
    #[serde(alias = "arena-rate")]
    pub edge_rate: f64,
    /// Steps over which the rate rises from 0.
    pub warmup: u64,
    /// What the rate does then.
    pub schedule: Schedule,
    /// The last rate as a fraction of the highest (cosine).
    pub rate_floor: f64,
    /// Gradients are scaled to this norm at most; 0 for no clipping.
    pub clip: f64,
    /// Dropout on the signal.
    pub dropout: f64,
    /// Which rows the optimiser moves.
    pub optimiser: AdamMode,
    /// AdamW's β₁.
    pub beta1: f64,
    /// AdamW's β₂.
    pub beta2: f64,
    /// AdamW's ε.
    pub epsilon: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Sampled negatives; 0 for the exact softmax.
    pub negatives: usize,
    /// How negatives are chosen.
    pub negative_kind: NegativeKind,
    /// Folds of the cross-fitted static resistances; 0 uses the full counts.
    pub folds: usize,
    /// Tokens in a block: blocks are dealt to folds, and a sequence lies within one.
    pub block: usize,
    /// Steps between log records.
    pub log_every: u64,
    /// Steps between validations; 0 for one per epoch.
    pub validate_every: u64,
    /// Validations without improvement after which training stops; 0 never.
    pub patience: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Checkpoints kept besides the best model.
    pub checkpoints: usize,
    /// Fits charges on the validation text as one stream, when training is done.
    pub charges: bool,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            tokens: 2_000_000,
            batch: 32,
            steps: 32,
            rate: 8e-3,
            edge_rate: 1.0,
            warmup: 60,
            schedule: Schedule::Cosine,
            rate_floor: 0.03,
            clip: 1.0,
            dropout: 0.1,
            optimiser: AdamMode::Touched,
            beta1: 0.9,
            beta2: 0.98,
            epsilon: 1e-8,
            weight_decay: 0.05,
            negatives: 0,
            negative_kind: NegativeKind::Frequent,
            folds: 10,
            block: 1500,
            log_every: 20,
            validate_every: 0,
            patience: 0,
            checkpoint_every: 1000,
            checkpoints: 2,
            charges: false,
        }
    }
}

impl Train {
    /// Steps in all.
    pub fn total_steps(&self) -> u64 {
        (self.tokens / (self.batch * self.steps) as u64).max(1)
    }

    /// The learning rate of step `index`, from 0.
    pub fn rate_at(&self, index: u64) -> f64 {
        let warm = ((index + 1) as f64 / self.warmup.max(1) as f64).min(1.0);
        let shape = match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Cosine => {
                let along = index as f64 / self.total_steps() as f64;
                self.rate_floor
                    + (1.0 - self.rate_floor) * 0.5 * (1.0 + (std::f64::consts::PI * along).cos())
            }
        };
        self.rate * warm * shape
    }

    /// The optimiser.
    pub fn adamw(&self) -> AdamW {
        AdamW {
            mode: self.optimiser,
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
        }
    }
}

impl Recipe {
    /// Reads a run file and applies `key=value` changes, each a TOML value at a dotted key.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Configuration`] with the line of a mistake.
    pub fn open(path: &Path, changes: &[String]) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).map_err(|error| Error::io(error, path.display()))?;
        Self::parse(&text, changes).map_err(|error| error.at(path.display()))
    }

    /// Reads a run file from a string, as [`Self::open`] does.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] with the line of a mistake.
    pub fn parse(text: &str, changes: &[String]) -> Result<Self> {
        let broken = |error: toml::de::Error, text: &str| {
            let line = error
                .span()
                .map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let what = Error::new(ErrorKind::Configuration, error.message().to_string());
            match line {
                Some(line) => what.at(format!("line {line}")),
                None => what,
            }
        };
        // The whole file first, so that a mistake is reported with its line.
        let recipe: Self = toml::from_str(text).map_err(|error| broken(error, text))?;
        let recipe = if changes.is_empty() {
            recipe
        } else {
            let mut table: toml::Table = text.parse().map_err(|error| broken(error, text))?;
            for change in changes {
                set(&mut table, change)?;
            }
            table.try_into().map_err(|error: toml::de::Error| {
                Error::new(ErrorKind::Configuration, error.message().to_string()).at("--set")
            })?
        };
        if let Err(error) = recipe.profile() {
            let line = recipe
                .wrong_switch()
                .and_then(|key| line_of_switch(text, key));
            return Err(match line {
                Some(line) => error.at(format!("line {line}")),
                None => error,
            });
        }
        recipe.check()?;
        Ok(recipe)
    }

    /// The first switch of the profile that does not exist or has no value of its kind.
    fn wrong_switch(&self) -> Option<&str> {
        self.profile.iter().find_map(|(key, value)| {
            let preset = self.profile.get_key_value("preset");
            let alone = preset.into_iter().chain([(key, value)]);
            let alone = alone
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            let recipe = Self {
                profile: alone,
                ..self.clone()
            };
            recipe.profile().is_err().then_some(key.as_str())
        })
    }

    /// The profile: the preset, with the switches the run file names.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for a switch that does not exist or does not fit.
    pub fn profile(&self) -> Result<Profile> {
        let mut switches = self.profile.clone();
        let place = |error: Error| error.at("[profile]");
        let width = match switches.get("width") {
            Some(toml::Value::Integer(width)) => usize::try_from(*width).unwrap_or(0),
            Some(_) => {
                return Err(place(Error::new(
                    ErrorKind::Configuration,
                    "width must be a whole number",
                )));
            }
            None => 128,
        };
        let preset = match switches.remove("preset") {
            None => Profile::sifu(width),
            Some(toml::Value::String(name)) => match name.as_str() {
                "sifu" => Profile::sifu(width),
                "sifu-own" => Profile::sifu_own(width),
                "reference" => Profile::reference(width),
                other => {
                    return Err(place(
                        Error::new(
                            ErrorKind::Configuration,
                            format!("no preset is named {other:?}"),
                        )
                        .advice("choose sifu, sifu-own or reference"),
                    ));
                }
            },
            Some(_) => {
                return Err(place(Error::new(
                    ErrorKind::Configuration,
                    "preset must be a string",
                )));
            }
        };
        let mut table = toml::Table::try_from(&preset)
            .map_err(|error| place(Error::new(ErrorKind::Configuration, error.to_string())))?;
        table.extend(switches);
        let profile: Profile = table.try_into().map_err(|error: toml::de::Error| {
            place(Error::new(
                ErrorKind::Configuration,
                error.message().to_string(),
            ))
        })?;
        profile.check()?;
        Ok(profile)
    }

    fn check(&self) -> Result<()> {
        let fault = |what: &str| Err(Error::new(ErrorKind::Configuration, what.to_string()));
        let train = &self.train;
        if self.data.train.is_empty() {
            return fault("data.train names no source");
        }
        if train.batch == 0 || train.steps == 0 || train.steps > 4096 || train.batch > 65536 {
            return fault("train.batch must lie in 1..=65536 and train.steps in 1..=4096");
        }
        if !(0.0..1.0).contains(&train.dropout) {
            return fault("train.dropout must lie in [0, 1)");
        }
        if !(train.rate > 0.0 && train.rate.is_finite()) {
            return fault("train.rate must be above 0");
        }
        if train.folds == 1 || train.folds > 64 {
            return fault("train.folds is 0, or 2 to 64");
        }
        if !(0.0..0.5).contains(&self.data.validation_share) {
            return fault("data.validation-share must lie in [0, 0.5)");
        }
        if train.log_every == 0 || train.checkpoint_every == 0 || train.checkpoints == 0 {
            return fault("train.log-every, checkpoint-every and checkpoints must be at least 1");
        }
        if let Some(preferences) = &self.preferences {
            preferences.check()?;
            let learns = matches!(self.kind, Kind::Gpt | Kind::Lstm)
                && self.data.direction == Reading::Forward;
            if !learns || self.initial.is_none() {
                return fault(
                    "[preferences] belongs to a gpt or lstm that reads forward and has `initial`",
                );
            }
        }
        if self.kind != Kind::Graph {
            if !self.profile.is_empty() {
                return fault("[profile] belongs to a graph; a gpt, bert or lstm has [network]");
            }
            let network = self.network.clone().unwrap_or_default();
            if self.graph.transpose_of.is_some() {
                return fault("graph.transpose-of belongs to a graph");
            }
            if self.kind == Kind::Bert && self.data.direction != Reading::Forward {
                return fault("a bert sees both sides already: it has no data.direction");
            }
            return network.check(self.kind, train);
        }
        if self.data.direction == Reading::Both {
            return fault(
                "a graph reads one way: train one forward and one backward, or a gpt on both",
            );
        }
        if self.graph.transpose_of.is_some()
            && (self.data.direction != Reading::Backward
                || self.initial.is_some()
                || self.profile()?.form != EdgeForm::Own)
        {
            return fault(
                "graph.transpose-of needs own edges, data.direction = \"backward\" and no `initial`",
            );
        }
        if self.network.is_some() {
            return fault("[network] belongs to kind = \"gpt\", \"bert\" or \"lstm\"");
        }
        if train.negatives > 0 && self.profile()?.form == EdgeForm::Composed {
            return fault(
                "sampled negatives belong to own edges: composed ones score all V at the same cost",
            );
        }
        self.profile().map(drop)
    }

    /// A path of the run file, relative to the folder `base`.
    pub fn resolve(base: &Path, path: &str) -> PathBuf {
        if path == "-" {
            PathBuf::from(path)
        } else {
            base.join(path)
        }
    }
}

/// The line of a run file on which a switch of the profile stands.
fn line_of_switch(text: &str, key: &str) -> Option<usize> {
    #[derive(Deserialize)]
    struct Switches {
        profile: std::collections::BTreeMap<String, toml::Spanned<toml::Value>>,
    }
    let switches: Switches = toml::from_str(text).ok()?;
    let start = switches.profile.get(key)?.span().start;
    Some(text[..start].matches('\n').count() + 1)
}

fn set(table: &mut toml::Table, change: &str) -> Result<()> {
    let fault =
        |what: String| Error::new(ErrorKind::Configuration, what).at(format!("--set {change}"));
    let (key, value) = change
        .split_once('=')
        .ok_or_else(|| fault("is not of the form key=value".into()))?;
    let value = format!("value = {}", value.trim())
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        // What is no TOML value is meant as a string.
        .unwrap_or_else(|| toml::Value::String(value.trim().to_string()));
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut place = table;
    for part in parts {
        place = place
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| fault(format!("{part} is not a section")))?;
    }
    place.insert(last.to_string(), value);
    Ok(())
}
