//! Small texts, recipes and models that take well under a second to make.

use std::path::{Path, PathBuf};

use brillm::graph::GraphBuilder;
use brillm::kernel::random::Random;
use brillm::learn::edge_trainer::EdgeTrainer;
use brillm::model::{Metadata, Model};
use brillm::signal::{Mechanism, Profile};
use brillm::text::Tokenizer;
use serde_json::Value;

/// A run file over `text.txt` and `held-out.txt`.
pub const RECIPE: &str = "\
name = \"small\"
license = \"none\"
seed = 3

[data]
train = [\"text.txt\"]
validation = [\"held-out.txt\"]
tokens = \"bpe\"
vocabulary = 300

[profile]
width = 8

[train]
tokens = 16000
batch = 4
steps = 8
warmup = 10
folds = 2
log-every = 10
validate-every = 100
checkpoint-every = 25
";

/// Make sentences of a small world, the same for a seed.
pub fn sentences(seed: u64, count: usize) -> String {
    let mut random = Random::new(seed);
    let mut pick = |words: &[&'static str]| words[random.below(words.len() as u64) as usize];
    let mut text = String::new();
    for _ in 0..count {
        let who = pick(&["the cat", "a dog", "the old man", "my sister", "the child"]);
        let does = pick(&["sees", "likes", "follows", "finds", "paints"]);
        let what = pick(&[
            "the river",
            "a red house",
            "the moon",
            "a small boat",
            "the garden",
        ]);
        let when = pick(&["today", "at night", "in spring", "again", "every day"]);
        text.push_str(&format!("{who} {does} {what} {when}.\n"));
    }
    text
}

/// Write a run file and its text into a folder.
pub fn write_recipe(folder: &Path) {
    std::fs::write(folder.join("run.toml"), RECIPE).unwrap();
    std::fs::write(folder.join("text.txt"), sentences(1, 600)).unwrap();
    std::fs::write(folder.join("held-out.txt"), sentences(2, 60)).unwrap();
}

/// Create a temporary folder with a run file and its text.
pub fn recipe_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_recipe(folder.path());
    folder
}

/// A text of letters at random, the first ones the most frequent: many different ones follow each of those, so that their
/// fans have several blocks.
fn letters(seed: u64, length: usize) -> String {
    let mut random = Random::stream(seed, 0, 0);
    let all: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').collect();
    let count = all.len() as u64;
    let mut draw = || random.below(count) * random.below(count) / count;
    (0..length).map(|_| all[draw() as usize]).collect()
}

/// As [`recipe_folder`], with texts of [`letters`].
pub fn letters_folder() -> tempfile::TempDir {
    let folder = recipe_folder();
    std::fs::write(folder.path().join("text.txt"), letters(1, 5000)).unwrap();
    std::fs::write(folder.path().join("held-out.txt"), letters(2, 500)).unwrap();
    folder
}

/// Train [`RECIPE`] once; return the folder (the run is in `run`) and the path of the model. Tests only read them.
#[cfg(feature = "cli")]
pub fn trained() -> &'static (PathBuf, String) {
    static TRAINED: std::sync::OnceLock<(PathBuf, String)> = std::sync::OnceLock::new();
    TRAINED.get_or_init(|| {
        let folder = super::made_once("trained", |folder| {
            write_recipe(folder);
            let (recipe, out) = (super::path(folder, "run.toml"), super::path(folder, "run"));
            let report = super::json(&["train", &recipe, "--out", &out, "--quiet", "--json"]);
            super::keys(&report, &["model", "steps", "validation_perplexity"]);
            assert_eq!(report["cancelled"], false);
        });
        let model = super::path(&folder, "run/model.bril");
        (folder, model)
    })
}

/// Make the metadata of a small model.
pub fn metadata(profile: &Profile, own_minimum: u32) -> Metadata {
    Metadata {
        name: "small".into(),
        license: "none".into(),
        profile: profile.clone(),
        own_minimum,
        direction: Default::default(),
        charges: None,
        recall: None,
        training: Value::Null,
    }
}

/// Make a mechanism over 12 nodes with random weights: a walk of 400 tokens in which one edge of each node is
/// frequent. Edges with fewer than `own_minimum` counts are shared.
pub fn small_mechanism(profile: &Profile, own_minimum: u32) -> Mechanism {
    let nodes = 12;
    let mut random = Random::new(4);
    let mut builder = GraphBuilder::new(nodes);
    let mut node = 0u32;
    let walk: Vec<u32> = (0..400)
        .map(|_| {
            node = if random.uniform() < 0.7 {
                (node * 5 + 1) % 12
            } else {
                random.below(12) as u32
            };
            node
        })
        .collect();
    builder.walk(walk).unwrap();
    let mut graph = builder.build().unwrap();
    graph.set_own_minimum(own_minimum);
    let mut trainer = EdgeTrainer::new(profile, &graph, 0.0, 3);
    // Moves the weights from their symmetric start.
    for parameter in trainer.parameters() {
        for value in &mut parameter.value {
            *value += 0.2 * random.normal() as f32;
        }
    }
    let weights = trainer.weights(profile, &graph).unwrap();
    Mechanism::new(profile.clone(), graph, weights).unwrap()
}

/// Save a small model with the given tokenizer.
pub fn save_small_model(path: &Path, own_minimum: u32, tokenizer: Tokenizer) {
    let profile = Profile::sifu(8);
    let mechanism = small_mechanism(&profile, own_minimum);
    Model::new(metadata(&profile, own_minimum), tokenizer, mechanism)
        .unwrap()
        .save(path)
        .unwrap();
}

/// Make a chat model in `folder`: the stories of `models/stories260K` with a chat template of plain text.
pub fn chat_model(folder: &Path) -> PathBuf {
    let chat = folder.join("chat");
    std::fs::create_dir(&chat).unwrap();
    for file in ["config.json", "model.safetensors", "tok512.bin"] {
        let from = super::root().join("models/stories260K").join(file);
        std::fs::copy(from, chat.join(file)).unwrap();
    }
    std::fs::write(chat.join("chat_template.jinja"), CHAT_TEMPLATE).unwrap();
    chat
}

/// The template of [`chat_model`]; it refuses an assistant's message at the beginning.
pub const CHAT_TEMPLATE: &str = "\
{% if messages[0].role == 'assistant' %}{{ raise_exception('the user speaks first') }}{% endif %}
{{ bos_token }}{% for message in messages %}
{{ message.role }}: {{ message.content }}
{% endfor %}
assistant: Once";
