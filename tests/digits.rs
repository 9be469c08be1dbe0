//! A graph that is trained on handwritten digits draws digits, by the code that makes the picture of
//! `models/recipes/senses`.
#![cfg(all(feature = "cli", feature = "modality"))]

use std::path::Path;

use brillm::Engine;
use brillm::modality::Image;

#[path = "../engine/examples/senses/digits.rs"]
mod digits;
mod support;

use digits::{Neighbours, WORDS, draw, grid, pixels};
use support::*;

/// Images of a word that are drawn.
const EACH: usize = 6;

/// Read the digits of a split of the recipe: white ink on black, as the recipe's `prepare` writes them.
fn handwritten(split: &str) -> Vec<(Image, usize)> {
    let file = root().join(format!("models/recipes/senses/digits-{split}.csv"));
    let text = std::fs::read_to_string(file).unwrap();
    let read = |line: &str| {
        let numbers: Vec<usize> = line.split(',').map(|n| n.parse().unwrap()).collect();
        let (digit, ink) = numbers.split_last().unwrap();
        let pixels = ink.iter().map(|ink| (16 * ink).min(255) as u8).collect();
        let image = Image {
            width: 8,
            height: 8,
            pixels,
        };
        (image, *digit)
    };
    text.lines().map(read).collect()
}

const RECIPE: &str = r#"
name = "digits"
license = "CC-BY-4.0"
seed = 1
[data]
train = "pairs.jsonl"
tokens = "words"
vocabulary = 16
validation-fraction = 0.0
[data.image]
codes = 64
[profile]
preset = "layered"
width = 32
layers = 1
[train]
tokens = 200_000
batch = 16
steps = 64
rate = 1e-2
"#;

/// Train on pairs of a word and an image of `images`.
fn trained(folder: &Path, images: &[(Image, usize)]) -> Engine {
    let mut records = String::new();
    for (at, (image, digit)) in images.iter().enumerate() {
        let (name, word) = (format!("{at}.pgm"), WORDS[*digit]);
        image.save(&folder.join(&name)).unwrap();
        records += &format!("{{\"text\": \"a {word}\", \"image\": \"{name}\"}}\n");
    }
    std::fs::write(folder.join("pairs.jsonl"), records).unwrap();
    std::fs::write(folder.join("digits.toml"), RECIPE).unwrap();
    let (recipe, out) = (path(folder, "digits.toml"), path(folder, "run"));
    succeeds(&["train", &recipe, "--out", &out, "--quiet"]);
    brillm::open(folder.join("run/model.bril")).unwrap()
}

#[test]
fn a_graph_draws_digits_that_neighbours_recognise() {
    let folder = tempfile::tempdir().unwrap();
    let train = handwritten("train");
    assert_eq!(train.len(), 1200);
    let engine = trained(folder.path(), &train);
    let images = draw(&engine, EACH as u64).unwrap();

    let known = train.iter().map(|(image, digit)| (pixels(image), *digit));
    let known = Neighbours(known.collect());
    // What judges is reliable: it names handwritten digits that it does not have.
    let test = handwritten("test");
    let right = test
        .iter()
        .filter(|(image, digit)| known.classify(&pixels(image)) == *digit);
    assert!(right.count() * 20 > test.len() * 19);
    // A tenth by chance: 6 of 60; 15 or more have a probability below 0.001.
    let right = known.recognised(&images);
    assert!(right >= 15, "{right} of {} are recognised", images.len());

    let file = folder.path().join("digits.png");
    grid(&images, EACH).save(&file).unwrap();
    let picture = Image::open(&file, None).unwrap();
    // Eight pixels, four times as large, and a line of two on each side.
    assert_eq!((picture.width, picture.height), (36 * EACH, 360));
    let rows: Vec<&[u8]> = picture.pixels.chunks_exact(36 * picture.width).collect();
    assert_eq!(rows.len(), WORDS.len());
    for (at, row) in rows.iter().enumerate() {
        let ink = row.iter().filter(|&&pixel| pixel > 128).count();
        assert!(ink > row.len() / 50, "row {at} is nearly blank");
        assert!(row.iter().filter(|&&pixel| pixel == 0).count() > row.len() / 50);
        assert!(rows[..at].iter().all(|other| other != row), "row {at}");
    }
}
