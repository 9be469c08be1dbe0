//! Pairs of words with images and sounds, and a graph that is trained on them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use brillm::modality::{Image, Sound};

use super::*;

/// An image of 4 × 4 pixels, the left half of one brightness and the right half of another.
pub fn halves(left: u8, right: u8) -> Image {
    Image {
        width: 4,
        height: 4,
        pixels: [left, left, right, right].repeat(4),
    }
}

/// A tone of a quarter of a second.
pub fn tone(frequency: f32) -> Sound {
    let turn = std::f32::consts::TAU * frequency / 8000.0;
    Sound {
        rate: 8000,
        samples: (0..2000).map(|at| 0.5 * (turn * at as f32).sin()).collect(),
    }
}

/// The recipe of the model.
pub const PAIRS_RECIPE: &str = r#"
name = "pairs"
license = "CC0-1.0"
seed = 3
[data]
train = "pairs.jsonl"
validation = "pairs.jsonl"
tokens = "characters"
vocabulary = 264
[data.image]
codes = 8
[data.audio]
codes = 16
[profile]
preset = "layered"
width = 24
layers = 1
[train]
tokens = 60_000
batch = 8
steps = 24
rate = 1e-2
validate-every = 100
"#;

/// The images and sounds of the words of the test model.
pub const WORDS: [(&str, u8, u8, f32); 2] = [("left", 255, 0, 400.0), ("right", 0, 255, 1600.0)];

/// Write the corpus of pairs into a folder.
pub fn write_pairs(folder: &Path) {
    let mut records = String::new();
    for (word, left, right, frequency) in WORDS {
        let (image, audio) = (format!("{word}.png"), format!("{word}.wav"));
        halves(left, right).save(&folder.join(&image)).unwrap();
        tone(frequency).save(&folder.join(&audio)).unwrap();
        for (name, file) in [("image", image), ("audio", audio)] {
            records += &format!("{{\"{name}\": \"{file}\", \"text\": \"{word}\"}}\n");
            records += &format!("{{\"text\": \"{word}\", \"{name}\": \"{file}\"}}\n");
        }
    }
    std::fs::write(folder.join("pairs.jsonl"), records.repeat(20)).unwrap();
}

/// A folder with the pairs and a model trained on them, `run/model.bril`.
pub fn trained_pairs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        made_once("modalities", |folder| {
            write_pairs(folder);
            std::fs::write(folder.join("pairs.toml"), PAIRS_RECIPE).unwrap();
            let (recipe, out) = (path(folder, "pairs.toml"), path(folder, "run"));
            succeeds(&["train", &recipe, "--out", &out, "--quiet"]);
        })
    })
}
