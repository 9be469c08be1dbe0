//! Writing of run files with the meaning of each key.

use crate::learn::recipe::Recipe;
use crate::{Error, ErrorKind, Result};

/// A key of the run file.
struct Key {
    /// Section; the empty one comes first.
    section: &'static str,
    name: &'static str,
    /// Value that is written as a comment where the recipe has none.
    example: &'static str,
    meaning: &'static str,
}

const fn key(
    section: &'static str,
    name: &'static str,
    example: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        section,
        name,
        example,
        meaning,
    }
}

/// The keys that are used often, in the order of the file.
const KEYS: [Key; 51] = [
    key("", "name", "", "name of the model"),
    key("", "license", "", "license of the weights"),
    key(
        "",
        "about",
        "",
        "description of the model and its data, stored in the model file",
    ),
    key(
        "",
        "seed",
        "",
        "seed of all random choices; the same seed gives the same model",
    ),
    key(
        "",
        "kind",
        "\"gpt\"",
        "kind of model: graph (default), gpt, bert or lstm",
    ),
    key(
        "",
        "initial",
        "\"model.bril\"",
        "model with whose weights training starts",
    ),
    key(
        "data",
        "train",
        "",
        "texts, folders or globs, relative to this file; .gz and .zst are read too",
    ),
    key(
        "data",
        "validation",
        "",
        "texts for validation; without any, a fraction of the training text",
    ),
    key(
        "data",
        "validation-fraction",
        "",
        "fraction of the training text held out for validation; 0 for none",
    ),
    key("data", "format", "", "auto, plain, jsonl, json or doc"),
    key(
        "data",
        "field",
        "\"text\"",
        "field of JSON records that holds the text",
    ),
    key(
        "data",
        "lossy",
        "",
        "replace bytes that are not UTF-8 instead of stopping",
    ),
    key(
        "data",
        "tokens",
        "",
        "unit of tokens: bpe (byte pairs), characters or ids",
    ),
    key("data", "vocabulary", "", "number of tokens"),
    key(
        "data",
        "tokenizer",
        "\"tokenizer.json\"",
        "tokenizer to use instead of training one",
    ),
    key(
        "data",
        "direction",
        "\"backward\"",
        "reading direction: forward (default) or backward; both for a gpt",
    ),
    key(
        "graph",
        "minimum-count",
        "",
        "edges seen less often are left out of the graph",
    ),
    key(
        "graph",
        "maximum-fan",
        "1000",
        "number of edges that leave a node at most",
    ),
    key(
        "graph",
        "order",
        "5",
        "order of the static resistances: 2 (default) for edges, up to 5 for longer walks",
    ),
    key(
        "graph",
        "prune",
        "0.25",
        "targets of longer walks that save fewer nats in the text are left out",
    ),
    key(
        "profile",
        "preset",
        "\"layered\"",
        "layered, sifu, sifu-own or reference: how a signal flows",
    ),
    key(
        "profile",
        "width",
        "128",
        "numbers in a signal: larger learns more and takes longer",
    ),
    key(
        "profile",
        "layers",
        "2",
        "layers that the signal of a node passes (layered edges)",
    ),
    key("profile", "banks", "2", "running sums of the past"),
    key(
        "train",
        "tokens",
        "",
        "length of training, in predicted tokens",
    ),
    key("train", "batch", "", "sequences in a batch"),
    key("train", "steps", "", "predictions in a sequence"),
    key("train", "rate", "", "highest learning rate"),
    key(
        "train",
        "warmup",
        "",
        "steps over which the rate rises from 0",
    ),
    key(
        "train",
        "schedule",
        "",
        "learning rate after the warm-up: cosine or constant",
    ),
    key(
        "train",
        "rate-floor",
        "",
        "final rate as a fraction of the highest (cosine)",
    ),
    key(
        "train",
        "clip",
        "",
        "largest norm of the gradient; 0 for no clipping",
    ),
    key(
        "train",
        "dropout",
        "",
        "dropout probability: higher for a small text",
    ),
    key(
        "train",
        "dropout-memory",
        "",
        "dropout probability of what a layer blends (layered edges)",
    ),
    key(
        "train",
        "dropout-input",
        "",
        "dropout probability of the signal that reaches a node (layered edges)",
    ),
    key(
        "train",
        "dropout-node",
        "",
        "probability that a node sends no signal (layered edges)",
    ),
    key(
        "train",
        "carry",
        "",
        "whether sequences continue where they ended in the batch before (layered edges)",
    ),
    key(
        "train",
        "average",
        "",
        "decay of the running average of the weights, which is validated and saved; 0 for none",
    ),
    key("train", "weight-decay", "", "weight decay of AdamW"),
    key("train", "beta1", "", "AdamW's decay of the first moment"),
    key("train", "beta2", "", "AdamW's decay of the second moment"),
    key(
        "train",
        "folds",
        "",
        "folds of the cross-fitted static resistances; 0 for none",
    ),
    key("train", "block", "", "tokens in a block of a fold"),
    key(
        "train",
        "cut",
        "0",
        "over ranks, divide own edges of a node that cost above 1/(N · ranks) of all work, 8 by default; 0 for none",
    ),
    key("train", "log-every", "", "steps between log records"),
    key(
        "train",
        "validate-every",
        "",
        "steps between validations; 0 for one in each pass",
    ),
    key(
        "train",
        "patience",
        "",
        "validations without improvement after which training stops; 0 for never",
    ),
    key("train", "checkpoint-every", "", "steps between checkpoints"),
    key(
        "train",
        "checkpoints",
        "",
        "number of checkpoints that are kept",
    ),
    key(
        "train",
        "charges",
        "",
        "fit charges (a cache of recent tokens) on the validation text at the end",
    ),
    key(
        "train",
        "recall",
        "",
        "fit recall of the last N signals on the validation text at the end; 0 for none",
    ),
];

/// Column of the comments.
const COLUMN: usize = 32;

impl Recipe {
    /// Write the run file of default settings for a text, with the meaning of each key.
    pub fn template() -> String {
        let recipe = Self::with_defaults("my-model", vec!["my.txt".into()], true);
        let heading = "A run file. Train with: brillm train FILE.toml\nThe values are those of a new recipe, lines with # are examples. A key that is left out has\nits default: preset \"sifu\", order 2, prune 0.1, dropout-memory 0, carry false, average 0, and otherwise the value below.";
        recipe
            .to_run_file(heading)
            .expect("the defaults have a TOML form")
    }

    /// Write the recipe as a run file with the meaning of each key. `heading` becomes the comment at the top.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for a number that TOML cannot represent.
    pub fn to_run_file(&self, heading: &str) -> Result<String> {
        let table = |recipe: &Self| {
            toml::Table::try_from(recipe).map_err(|error| {
                Error::new(
                    ErrorKind::Configuration,
                    format!("the recipe has no TOML form: {error}"),
                )
            })
        };
        let own = table(self)?;
        let default = table(&Self::with_defaults("", Vec::new(), true))?;
        let mut text: String = heading.lines().map(|line| format!("# {line}\n")).collect();
        for section in ["", "data", "graph", "profile", "train"] {
            let empty = toml::Table::new();
            let of = |recipe: &'_ toml::Table| match section {
                "" => recipe.clone(),
                _ => recipe[section].as_table().unwrap_or(&empty).clone(),
            };
            let (own, default) = (of(&own), of(&default));
            if !section.is_empty() {
                text.push_str(&format!("\n[{section}]\n"));
            }
            let listed = || KEYS.iter().filter(|key| key.section == section);
            for key in listed() {
                let line = match own.get(key.name) {
                    Some(value) => format!("{} = {value}", key.name),
                    None => format!("# {} = {}", key.name, key.example),
                };
                text.push_str(&format!("{line:COLUMN$}  # {}\n", key.meaning));
            }
            let others = own.iter().filter(|(name, value)| {
                !value.is_table()
                    && !is_tables(value)
                    && listed().all(|key| key.name != *name)
                    && default.get(*name) != Some(value)
            });
            for (name, value) in others {
                text.push_str(&format!("{name} = {value}\n"));
            }
        }
        // Tables that are not among the sections: [network], [preferences], [[plugin]], [data.sha256].
        let mut rest = own;
        for section in ["graph", "profile", "train"] {
            rest.remove(section);
        }
        rest.retain(|_, value| value.is_table() || is_tables(value));
        if let Some(data) = rest.get_mut("data").and_then(toml::Value::as_table_mut) {
            data.retain(|_, value| value.as_table().is_some_and(|table| !table.is_empty()));
        }
        rest.retain(|_, value| value.as_table().is_none_or(|table| !table.is_empty()));
        if !rest.is_empty() {
            text.push_str(&format!("\n{rest}"));
        }
        Ok(text)
    }
}

/// Whether a value is an array of tables.
fn is_tables(value: &toml::Value) -> bool {
    let array = value.as_array();
    array.is_some_and(|values| !values.is_empty() && values.iter().all(toml::Value::is_table))
}
