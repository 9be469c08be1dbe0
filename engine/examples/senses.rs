//! Measures a graph of images, words and sounds of digits, with rivals on the same data.
//!
//!     models/recipes/senses/prepare senses-data
//!     brillm train models/recipes/senses.toml --data senses-data
//!     cargo run --release --example senses -- runs/senses/model.bril senses-data [SHUFFLED.bril] [PICTURE.png]
//!
//! SHUFFLED is a model of data prepared with `--shuffle-words`: its sounds have words drawn at random. Printed is a table
//! in Markdown; intervals are 95 % (Wilson). PICTURE gets generated digits, one row for each word.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use brillm::hook::Hooks;
use brillm::measure::KneserNey;
use brillm::modality::{Image, Modality};
use brillm::run::score_tokens;
use brillm::{Engine, Error, ErrorKind, Request, Result};

#[path = "senses/digits.rs"]
mod digits;

use digits::{Neighbours, WORDS, draw, drawn, grid, pixels};

/// Images and sounds generated for each digit.
const EACH: u64 = 20;

/// A file of the data and the digit that its word names.
struct Example {
    path: PathBuf,
    digit: usize,
}

/// Read the records of a modality in which the file comes first: each pair is in the data in both orders.
fn examples(data: &Path, name: &str, modality: Modality) -> Result<Vec<Example>> {
    let path = data.join(name);
    let file = std::fs::File::open(&path).map_err(|error| Error::io(error, path.display()))?;
    let mut found = Vec::new();
    for line in std::io::BufReader::new(file).lines() {
        let line = line.map_err(|error| Error::io(error, path.display()))?;
        if !line.starts_with(&format!("{{\"{}\"", modality.name())) {
            continue;
        }
        let invalid = || Error::new(ErrorKind::Format, "not a pair of a file and a digit's word");
        let record: serde_json::Value = serde_json::from_str(&line).map_err(|_| invalid())?;
        let text = record["text"].as_str().unwrap_or_default();
        let digit = WORDS.iter().position(|word| text == format!("a {word}"));
        let file = record[modality.name()].as_str();
        found.push(Example {
            path: data.join(file.ok_or_else(invalid)?),
            digit: digit.ok_or_else(invalid)?,
        });
    }
    Ok(found)
}

/// The spectra of the codes of a sound, stretched to 16 frames of equal length.
fn outline(engine: &Engine, ids: &[u32]) -> Result<Vec<f32>> {
    let missing = || {
        Error::new(
            ErrorKind::Unsupported,
            "the model was trained without sounds",
        )
    };
    let codec = engine.tokenizer().codecs().ok_or_else(missing)?;
    let codebook = codec.require_audio()?.codebook();
    let codes = engine.tokenizer().codes_of(Modality::Audio, ids);
    let frame = |at: usize| {
        codes
            .get(at * codes.len() / 16)
            .map_or(&[][..], |&code| codebook.row(code))
    };
    Ok((0..16).flat_map(|at| frame(at).to_vec()).collect())
}

/// The digit that the model names after a prompt, by its likeliest tokens.
fn named(engine: &Engine, ids: &[u32]) -> Result<Option<usize>> {
    let request = Request::ids(ids.to_vec()).tokens(12);
    let (text, _) = engine.start(request)?.collect_text()?;
    Ok(WORDS.iter().position(|word| text == format!("a {word}")))
}

/// Format a rate with its 95 % interval (Wilson 1927).
fn rate(right: usize, of: usize) -> String {
    let (n, p, z) = (of.max(1) as f64, right as f64 / of.max(1) as f64, 1.96);
    let middle = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let [low, high] = [middle - half, middle + half].map(|one| 100.0 * one);
    format!("{:.1} % ({low:.1} to {high:.1}, n = {of})", 100.0 * p)
}

fn row(what: &str, value: &str) {
    println!("| {what} | {value} |");
}

/// Measure how often the model names the digit of a file.
fn naming(engine: &Engine, files: &[Example], modality: Modality) -> Result<String> {
    let mut right = 0;
    for file in files {
        let ids = engine.tokenizer().prompt_of_file(modality, &file.path)?;
        right += usize::from(named(engine, &ids)? == Some(file.digit));
    }
    Ok(rate(right, files.len()))
}

/// Perplexity of the codes of images, each among all tokens: the model's, and that of Kneser-Ney n-grams which are
/// estimated from the codes of the training images alone.
fn perplexities(engine: &Engine, train: &[Example], test: &[Example]) -> Result<(f64, f64, usize)> {
    let encode = |file: &Example| engine.tokenizer().encode_file(Modality::Image, &file.path);
    let mut stream = Vec::new();
    for file in train {
        stream.extend(encode(file)?);
    }
    let size = engine.vocabulary();
    let counts: Vec<KneserNey> = (2..=5)
        .map(|order| KneserNey::train(&stream, size, order))
        .collect::<Result<_>>()?;
    let (mut graph, mut n) = (0.0, 0usize);
    let mut grams = [0.0; 4];
    for file in test {
        let ids = encode(file)?;
        let codes = &ids[..ids.len() - 1];
        // As in training, an end token comes before the image.
        let before = engine.tokenizer().vocabulary().stop();
        let before: Vec<u32> = before.into_iter().collect();
        let context = [&before[..], codes].concat();
        let scores = score_tokens(engine, &context, 0, &Hooks::default(), None)?;
        graph -= scores[before.len() + 1..]
            .iter()
            .filter_map(|score| score.ln_probability)
            .sum::<f64>();
        n += codes.len() - 1;
        for (sum, model) in grams.iter_mut().zip(&counts) {
            for at in 1..codes.len() {
                *sum -= model.probability(&codes[..at], codes[at]).ln();
            }
        }
    }
    let best = (0..4)
        .min_by(|&a, &b| grams[a].total_cmp(&grams[b]))
        .unwrap_or(0);
    let perplexity = |sum: f64| (sum / n.max(1) as f64).exp();
    Ok((perplexity(graph), perplexity(grams[best]), best + 2))
}

/// Measure sounds that follow images: through the named word, and directly.
fn crossing(engine: &Engine, images: &[Example], sounds: &Neighbours) -> Result<[String; 2]> {
    let mut right = [0; 2];
    for (seed, file) in images.iter().enumerate() {
        let image = engine
            .tokenizer()
            .prompt_of_file(Modality::Image, &file.path)?;
        let (_, word) = engine
            .start(Request::ids(image.clone()).tokens(12))?
            .collect_text()?;
        for (right, prompt) in right
            .iter_mut()
            .zip([[image.as_slice(), &word].concat(), image.clone()])
        {
            let codes = drawn(engine, &prompt, Modality::Audio, seed as u64)?;
            *right += usize::from(sounds.classify(&outline(engine, &codes)?) == file.digit);
        }
    }
    Ok(right.map(|right| rate(right, images.len())))
}

/// The training sounds as their outlines.
fn sound_neighbours(engine: &Engine, train: &[Example]) -> Result<Neighbours> {
    let mut vectors = Vec::new();
    for file in train {
        let ids = engine
            .tokenizer()
            .encode_file(Modality::Audio, &file.path)?;
        vectors.push((outline(engine, &ids)?, file.digit));
    }
    Ok(Neighbours(vectors))
}

/// Measure sounds that follow words, as their neighbours judge them.
fn speaking(engine: &Engine, spoken: &Neighbours) -> Result<String> {
    let mut right = 0;
    for (digit, word) in WORDS.iter().enumerate() {
        let prompt = engine.encode(&format!("a {word}"))?;
        for seed in 0..EACH {
            let sound = drawn(engine, &prompt, Modality::Audio, seed)?;
            right += usize::from(spoken.classify(&outline(engine, &sound)?) == digit);
        }
    }
    Ok(rate(right, WORDS.len() * EACH as usize))
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, more @ ..] = &arguments[..] else {
        return Err(Error::new(
            ErrorKind::Input,
            "expected MODEL DATA [SHUFFLED.bril] [PICTURE.png]",
        ));
    };
    let (engine, data) = (brillm::open(model)?, Path::new(data));
    let tokenizer = engine.tokenizer();
    let read = |name, modality| examples(data, name, modality);
    let images = read("train.jsonl", Modality::Image)?;
    let test_images = read("image-test.jsonl", Modality::Image)?;
    let sounds = read("train.jsonl", Modality::Audio)?;
    let test_sounds = read("audio-test.jsonl", Modality::Audio)?;

    let mut known = Vec::new();
    for file in &images {
        known.push((pixels(&Image::open(&file.path, None)?), file.digit));
    }
    let known = Neighbours(known);
    let (mut plain, mut coded) = (0, 0);
    for file in &test_images {
        let ids = tokenizer.encode_file(Modality::Image, &file.path)?;
        plain +=
            usize::from(known.classify(&pixels(&Image::open(&file.path, None)?)) == file.digit);
        coded += usize::from(known.classify(&pixels(&tokenizer.decode_image(&ids)?)) == file.digit);
    }
    println!("| measured | result |\n|---|---|");
    row(
        "image → word",
        &naming(&engine, &test_images, Modality::Image)?,
    );
    row(
        "nearest neighbours on pixels",
        &rate(plain, test_images.len()),
    );
    row(
        "nearest neighbours on decoded codes",
        &rate(coded, test_images.len()),
    );

    let spoken = sound_neighbours(&engine, &sounds)?;
    let mut right = 0;
    for file in &test_sounds {
        let ids = tokenizer.encode_file(Modality::Audio, &file.path)?;
        right += usize::from(spoken.classify(&outline(&engine, &ids)?) == file.digit);
    }
    row(
        "sound → word, unseen voices",
        &naming(&engine, &test_sounds, Modality::Audio)?,
    );
    row(
        "nearest neighbours on spectra",
        &rate(right, test_sounds.len()),
    );

    let made = draw(&engine, EACH)?;
    row(
        "word → image, judged by the neighbours on pixels",
        &rate(known.recognised(&made), made.len()),
    );
    row(
        "word → sound, judged by the neighbours on spectra",
        &speaking(&engine, &spoken)?,
    );
    if let Some(picture) = more.iter().find(|path| path.ends_with(".png")) {
        grid(&made, EACH as usize).save(picture.as_ref())?;
    }

    let (graph, grams, order) = perplexities(&engine, &images, &test_images)?;
    row("perplexity of image codes", &format!("{graph:.2}"));
    row(
        &format!("perplexity of the best n-gram (order {order})"),
        &format!("{grams:.2}"),
    );

    let [through, direct] = crossing(&engine, &test_images, &spoken)?;
    row("image → word → sound, no such pair in training", &through);
    row("image → sound without the word", &direct);
    if let Some(shuffled) = more.iter().find(|path| path.ends_with(".bril")) {
        let other = brillm::open(shuffled)?;
        // Its codebook is learned from the same files.
        let judge = sound_neighbours(&other, &sounds)?;
        let [through, direct] = crossing(&other, &test_images, &judge)?;
        row("the same, words of sounds shuffled", &through);
        row(
            "the same without the word, words of sounds shuffled",
            &direct,
        );
    }
    Ok(())
}
