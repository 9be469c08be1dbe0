//! The run file: every setting of a training run, in TOML.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::in_words;
use crate::graph::{PathGraph, PathSettings};
pub use crate::learn::data_recipe::{Data, TokenKind};
pub use crate::learn::network_recipe::{Kind, MaskDraw, NetworkRecipe, Style};
use crate::learn::preferences::Preferences;
pub use crate::learn::train_recipe::{NegativeKind, Reduction, Schedule, Train};
use crate::signal::{EdgeForm, Profile};
use crate::text::ReadingDirection;
use crate::{Error, ErrorKind, Result};

/// The contents of a run file. Unknown keys are errors.
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
    /// Description of the model and its data; stored in the model file.
    #[serde(default)]
    pub about: String,
    /// Seed of all random streams.
    #[serde(default = "one")]
    pub seed: u64,
    /// Kind of model that is trained.
    #[serde(default, skip_serializing_if = "Kind::is_graph")]
    pub kind: Kind,
    /// A trained or grown model with whose weights training starts, relative to the run file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    /// Sources of text, and their tokens.
    pub data: Data,
    /// Shape of a gpt, bert or lstm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkRecipe>,
    /// How the graph is built.
    #[serde(default)]
    pub graph: GraphRecipe,
    /// Switches of the [`Profile`] by name, and its `preset`.
    #[serde(default)]
    pub profile: toml::Table,
    /// Settings of the training loop.
    #[serde(default)]
    pub train: Train,
    /// Preferences that the model of `initial` learns; `data` then serves only to validate it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferences: Option<Preferences>,
    /// Plugins, each with `name`, `options`, `sha256` and `on-error`.
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
    /// Edges and targets of longer walks with a lower count are left out.
    pub minimum_count: u32,
    /// Order of the static resistances: 2 for those of edges, up to 5 to estimate them from longer walks too.
    #[serde(skip_serializing_if = "is_two")]
    pub order: usize,
    /// Least gain of a target of a longer walk, its discounted count times its lift: in nats over the whole text.
    #[serde(skip_serializing_if = "is_default_prune")]
    pub prune: f64,
    /// Edges of a fan at most.
    pub maximum_fan: Option<usize>,
    /// Edges with at least this count have a matrix (own form) or a residual (composed form) of their own.
    pub own_minimum_count: u32,
    /// A forward model of own edges, relative to the run file: each edge (v, u) of this backward graph has the
    /// transposed matrix of the model's edge (u, v). Matrices and biases of edges are then not trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transpose_of: Option<String>,
}

/// Default of [`GraphRecipe::prune`].
const PRUNE: f64 = 0.1;

fn is_two(order: &usize) -> bool {
    *order == 2
}

fn is_default_prune(prune: &f64) -> bool {
    *prune == PRUNE
}

impl GraphRecipe {
    /// How the path graph is estimated; `None` for static resistances of edges only.
    pub fn paths(&self) -> Option<PathSettings> {
        (self.order > 2).then_some(PathSettings {
            order: self.order,
            minimum_count: self.minimum_count,
            prune: self.prune,
            exact: false,
        })
    }
}

impl Default for GraphRecipe {
    fn default() -> Self {
        Self {
            minimum_count: 1,
            order: 2,
            prune: PRUNE,
            maximum_fan: None,
            own_minimum_count: 1,
            transpose_of: None,
        }
    }
}

impl Recipe {
    /// Create a recipe of default settings, with those that suit layered edges if they are `layered`.
    pub(super) fn with_defaults(name: &str, sources: Vec<String>, layered: bool) -> Self {
        let data = toml::Table::from_iter([("train".into(), toml::Value::from(sources))]);
        let preset = if layered { "layered" } else { "sifu" };
        let profile = toml::Table::from_iter([("preset".into(), preset.into())]);
        let table = toml::Table::from_iter([
            ("name".into(), name.into()),
            ("data".into(), data.into()),
            ("profile".into(), profile.into()),
        ]);
        let mut recipe: Self = table.try_into().expect("all other keys have defaults");
        if layered {
            (recipe.graph.order, recipe.graph.prune) = (5, 0.25);
            recipe.train.carry = true;
            recipe.train.average = 0.998;
            recipe.train.dropout_memory = 0.1;
        }
        recipe
    }

    /// Read a run file and apply `key=value` changes, each a TOML value at a dotted key.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Configuration`] with the line of a mistake.
    pub fn open(path: &Path, changes: &[String]) -> Result<Self> {
        let text = crate::text::read_text(path)?;
        Self::parse(&text, changes).map_err(|error| error.at(path.display()))
    }

    /// Read a run file from a string, as [`Self::open`] does.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] with the line of a mistake.
    pub fn parse(text: &str, changes: &[String]) -> Result<Self> {
        let recipe = Self::read(text, changes)?;
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

    /// Read a run file without the checks of its values.
    pub(super) fn read(text: &str, changes: &[String]) -> Result<Self> {
        let broken = |error: toml::de::Error, text: &str| {
            let line = error
                .span()
                .map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let what = Error::new(ErrorKind::Configuration, in_words(error.message()));
            match line {
                Some(line) => what.at(format!("line {line}")),
                None => what,
            }
        };
        // The whole file first, so that a mistake is reported with its line.
        let recipe: Self = toml::from_str(text).map_err(|error| broken(error, text))?;
        if changes.is_empty() {
            Ok(recipe)
        } else {
            let mut table: toml::Table = text.parse().map_err(|error| broken(error, text))?;
            let mut first = None;
            for change in changes {
                set(&mut table, change)?;
                let parsed: std::result::Result<Self, _> = table.clone().try_into();
                first = match parsed {
                    Ok(_) => None,
                    // A later change may complete a section; report the first after which the table stays invalid.
                    Err(error) => first.or_else(|| {
                        let what = in_words(error.message());
                        Some(
                            Error::new(ErrorKind::Configuration, what)
                                .at(format!("--set {change}")),
                        )
                    }),
                };
            }
            if let Some(error) = first {
                return Err(error);
            }
            table.try_into().map_err(|error| broken(error, text))
        }
    }

    /// The first switch of the profile that does not exist or has a value of the wrong type.
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

    /// Build the profile: the preset, changed by the switches of the run file.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for a switch that does not exist or has a wrong type.
    pub fn profile(&self) -> Result<Profile> {
        let invalid = |what: &str| Error::new(ErrorKind::Configuration, what).at("[profile]");
        let mut switches = self.profile.clone();
        let width = match switches.get("width") {
            Some(toml::Value::Integer(width)) => usize::try_from(*width).unwrap_or(0),
            Some(_) => return Err(invalid("width must be a whole number")),
            None => 128,
        };
        let preset = match switches.remove("preset") {
            None => Profile::sifu(width),
            Some(toml::Value::String(name)) => match name.as_str() {
                "layered" => Profile::layered(width),
                "sifu" => Profile::sifu(width),
                "sifu-own" => Profile::sifu_own(width),
                "reference" => Profile::reference(width),
                other => {
                    return Err(invalid(&format!("unknown preset {other:?}"))
                        .advice("choose layered, sifu, sifu-own or reference"));
                }
            },
            Some(_) => return Err(invalid("preset must be a string")),
        };
        let mut table =
            toml::Table::try_from(&preset).map_err(|error| invalid(&error.to_string()))?;
        let mut profile = preset;
        // One at a time: an error of a whole table does not name the key.
        for (key, value) in switches {
            table.insert(key.clone(), value);
            profile = table.clone().try_into().map_err(|error: toml::de::Error| {
                // `preset` is not a field of the profile, but a key of this table.
                let one_of = "expected one of ";
                let what =
                    in_words(error.message()).replace(one_of, &format!("{one_of}`preset`, "));
                match what.contains(&format!("`{key}`")) {
                    true => invalid(&what),
                    false => invalid(&format!("{key}: {what}")),
                }
            })?;
        }
        profile.check()?;
        Ok(profile)
    }

    fn check(&self) -> Result<()> {
        let invalid = |what: &str| Err(Error::new(ErrorKind::Configuration, what));
        if self.data.train.is_empty() {
            return invalid("data.train is empty: expected files, folders or globs");
        }
        if !(0.0..0.5).contains(&self.data.validation_fraction) {
            return invalid("data.validation-fraction must be at least 0 and below 0.5");
        }
        self.train.check()?;
        if let Some(preferences) = &self.preferences {
            preferences.check()?;
            let suitable = matches!(self.kind, Kind::Gpt | Kind::Lstm)
                && self.data.direction == ReadingDirection::Forward;
            if !suitable || self.initial.is_none() {
                return invalid(
                    "[preferences] needs a gpt or lstm that reads forward, and `initial`",
                );
            }
        }
        if self.kind == Kind::Graph {
            self.check_graph()
        } else {
            self.check_network()
        }
    }

    fn check_network(&self) -> Result<()> {
        let invalid = |what: &str| Err(Error::new(ErrorKind::Configuration, what));
        if !self.profile.is_empty() {
            return invalid(
                "[profile] applies to graphs only: a gpt, bert or lstm is configured in [network]",
            );
        }
        if self.graph.transpose_of.is_some() {
            return invalid("graph.transpose-of needs a graph");
        }
        if self.kind == Kind::Bert && self.data.direction != ReadingDirection::Forward {
            return invalid(
                "data.direction does not apply to a bert, which attends in both directions",
            );
        }
        if self.data.image.is_some() || self.data.audio.is_some() {
            return invalid("[data.image] and [data.audio] apply to graphs only");
        }
        if self.train.carry || self.train.average > 0.0 {
            return invalid("train.carry and train.average apply to graphs only");
        }
        if self.train.reduction == Reduction::Exact {
            return invalid("train.reduction = \"exact\" applies to graphs only");
        }
        let network = self.network.clone().unwrap_or_default();
        network.check(self.kind, &self.train)
    }

    fn check_graph(&self) -> Result<()> {
        let invalid = |what: &str| Err(Error::new(ErrorKind::Configuration, what));
        let profile = self.profile()?;
        let form = profile.form;
        if !(2..=PathGraph::MAXIMUM_ORDER).contains(&self.graph.order) {
            return invalid("graph.order must be 2 to 5");
        }
        if self.graph.minimum_count == 0 || self.graph.maximum_fan == Some(0) {
            return invalid("graph.minimum-count and graph.maximum-fan must be at least 1");
        }
        if !self.graph.prune.is_finite() || self.graph.prune < 0.0 {
            return invalid("graph.prune must be 0 or more nats");
        }
        if self.graph.order > 2 && !profile.static_resistance {
            return invalid("graph.order above 2 needs profile.static-resistance = true");
        }
        if self.data.direction == ReadingDirection::Both {
            return invalid(
                "a graph reads in one direction: train one forward and one backward, or a gpt on both",
            );
        }
        if self.graph.transpose_of.is_some()
            && (self.data.direction != ReadingDirection::Backward
                || self.initial.is_some()
                || form != EdgeForm::Own)
        {
            return invalid(
                "graph.transpose-of needs own edges, data.direction = \"backward\" and no `initial`",
            );
        }
        let train = &self.train;
        let of_layers = [
            train.dropout_memory,
            train.dropout_input,
            train.dropout_node,
        ];
        if form != EdgeForm::Layered && (train.carry || of_layers != [0.0; 3]) {
            return invalid(
                "train.carry, dropout-memory, dropout-input and dropout-node need layered edges (profile.preset = \"layered\")",
            );
        }
        if self.network.is_some() {
            return invalid("[network] requires kind = \"gpt\", \"bert\" or \"lstm\"");
        }
        if self.train.negatives > 0 && form != EdgeForm::Own {
            return invalid(
                "sampled negatives need own edges: other forms compute all V logits at the same cost",
            );
        }
        Ok(())
    }

    /// Resolve a path of the run file against the folder `base`; `-` stays standard input.
    pub fn resolve(base: &Path, path: &str) -> PathBuf {
        if path == "-" {
            PathBuf::from(path)
        } else {
            base.join(path)
        }
    }
}

/// Find the line of a run file that sets a switch of the profile.
fn line_of_switch(text: &str, key: &str) -> Option<usize> {
    #[derive(Deserialize)]
    struct Switches {
        profile: std::collections::BTreeMap<String, toml::Spanned<toml::Value>>,
    }
    let switches: Switches = toml::from_str(text).ok()?;
    let start = switches.profile.get(key)?.span().start;
    Some(text[..start].matches('\n').count() + 1)
}

/// Sections of a key at most.
const DEEPEST: usize = 16;

/// Keys whose values are paths.
const PATHS: [&str; 8] = [
    "initial",
    "data.train",
    "data.validation",
    "data.simplify",
    "data.tokenizer",
    "graph.transpose-of",
    "network.mask-tags",
    "preferences.file",
];

/// Replace each path in a change `key=value` by what `path` returns for it.
///
/// # Errors
/// [`ErrorKind::Configuration`] for a change that is not of this form; those of `path`.
pub fn map_paths(change: &str, path: &dyn Fn(&Path) -> Result<String>) -> Result<String> {
    let (key, mut value) = key_and_value(change)?;
    for name in PATHS {
        // The change sets the path itself, or the section that contains it.
        let found = match name.strip_prefix(key) {
            Some("") => Some(&mut value),
            Some(rest) => rest.strip_prefix('.').and_then(|rest| value.get_mut(rest)),
            None => None,
        };
        let texts = match found {
            Some(toml::Value::Array(values)) => &mut values[..],
            Some(value) => std::slice::from_mut(value),
            None => continue,
        };
        for text in texts {
            // `-` is standard input.
            if let toml::Value::String(text) = text
                && text != "-"
            {
                *text = path(Path::new(&*text))?;
            }
        }
    }
    Ok(format!("{key}={value}"))
}

fn wrong_change(change: &str, what: String) -> Error {
    Error::new(ErrorKind::Configuration, what).at(format!("--set {change}"))
}

/// Split a change into its dotted key and its value.
pub(super) fn key_and_value(change: &str) -> Result<(&str, toml::Value)> {
    let (key, value) = change
        .split_once('=')
        .ok_or_else(|| wrong_change(change, "expected key=value".into()))?;
    let value = format!("value = {}", value.trim())
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        // Anything else than a TOML value is a string.
        .unwrap_or_else(|| toml::Value::String(value.trim().to_string()));
    Ok((key.trim(), value))
}

fn set(table: &mut toml::Table, change: &str) -> Result<()> {
    let invalid = |what: String| wrong_change(change, what);
    let (key, value) = key_and_value(change)?;
    let mut sections: Vec<&str> = key.split('.').collect();
    let last = sections.pop().unwrap_or_default();
    // Tables are read and dropped recursively: deep ones would exhaust the stack.
    if sections.len() > DEEPEST {
        return Err(invalid(format!("the key has more than {DEEPEST} sections")));
    }
    let mut entry = table;
    for section in sections {
        entry = entry
            .entry(section)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| invalid(format!("{section} is not a section")))?;
    }
    entry.insert(last.to_string(), value);
    Ok(())
}
