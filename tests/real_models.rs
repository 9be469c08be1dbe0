//! Real models against Hugging Face's transformers: SmolLM2 and Gemma 3 from GGUF files, MiniLM from a folder.
//!
//! `models/fetch FOLDER all` gets the models, which are not part of the project, and `tests/golden/real/make.py` made the golden files. The tests run on demand,
//! `BRILLM_MODELS=FOLDER cargo test --test real_models -- --ignored`, and in `tests/run` where FOLDER is there.
#![cfg(feature = "transformer")]

mod support;

use std::path::{Path, PathBuf};

use brillm::transformer::{Embedder, LogitsFor, TokenBatch, Transformer};
use serde_json::Value;
use support::transformer::{decode, full_plan, ids, near, network, prefill};

fn golden(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/real");
    let text = std::fs::read_to_string(folder.join(name).with_extension("json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn file_of(file: &str) -> PathBuf {
    let folder =
        std::env::var_os("BRILLM_MODELS").expect("BRILLM_MODELS names the folder of models/fetch");
    PathBuf::from(folder).join(file)
}

/// The rows of a golden file: each with columns and their numbers.
fn rows(golden: &Value) -> Vec<(usize, Vec<usize>, Vec<f32>)> {
    let rows = golden["rows"].as_object().unwrap();
    assert_eq!(rows.len(), 3);
    let row = |(row, numbers): (&String, &Value)| {
        let numbers = numbers.as_object().unwrap();
        let columns = numbers
            .keys()
            .map(|column| column.parse().unwrap())
            .collect();
        let values = numbers
            .values()
            .map(|value| value.as_f64().unwrap() as f32)
            .collect();
        (row.parse().unwrap(), columns, values)
    };
    rows.iter().map(row).collect()
}

fn decoder_agrees(file: &str, golden_name: &str) {
    let (model, golden) = (
        Transformer::open(&file_of(file)).unwrap(),
        golden(golden_name),
    );
    let tokens = ids(&golden["ids"]);
    assert_eq!(
        model.encode(golden["text"].as_str().unwrap()).unwrap(),
        tokens,
        "ids"
    );
    let network = network(&model);
    let vocabulary = network.configuration().vocabulary;
    let plan = full_plan(network);
    let (_, output) = prefill(network, &plan, &tokens, LogitsFor::All);
    for (row, columns, expected) in rows(&golden) {
        let logits = &output.logits[row * vocabulary..][..vocabulary];
        let found: Vec<f32> = columns.iter().map(|&column| logits[column]).collect();
        near(&found, &expected, 1e-4, &format!("row {row}"));
    }
    // Token by token: the same logits of the last one.
    let (mut cache, mut last) = prefill(network, &plan, &tokens[..1], LogitsFor::Last);
    for token in &tokens[1..] {
        last = decode(network, &mut cache, &[&[*token]]);
    }
    let end = &output.logits[(tokens.len() - 1) * vocabulary..];
    near(&last.logits, end, 1e-4, "token by token");
}

#[test]
#[ignore = "needs BRILLM_MODELS, see models/fetch"]
fn smollm2_agrees_with_hugging_face() {
    decoder_agrees("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2");
}

#[test]
#[ignore = "needs BRILLM_MODELS, see models/fetch"]
fn gemma3_agrees_with_hugging_face() {
    decoder_agrees("gemma-3-270m-q4_k_m.gguf", "gemma3");
}

#[test]
#[ignore = "needs BRILLM_MODELS, see models/fetch"]
fn minilm_agrees_with_hugging_face() {
    let (embedder, golden) = (
        Embedder::open(&file_of("all-MiniLM-L6-v2")).unwrap(),
        golden("minilm"),
    );
    let (model, tokens) = (embedder.transformer(), ids(&golden["ids"]));
    let text = golden["text"].as_str().unwrap();
    let (before, after) = model.tokenizer().frame();
    let own = [before, model.tokenizer().encode(text).unwrap(), after].concat();
    assert_eq!(own, tokens, "ids");
    let batch = TokenBatch::new(tokens.clone(), tokens.len());
    let hidden = network(model).forward(&batch, None, None).unwrap();
    let hidden: Vec<f32> = hidden.flatten_all().unwrap().to_vec1().unwrap();
    let width = embedder.width();
    for (row, columns, expected) in rows(&golden) {
        let states = &hidden[row * width..][..width];
        let found: Vec<f32> = columns.iter().map(|&column| states[column]).collect();
        near(&found, &expected, 1e-4, &format!("row {row}"));
    }
    // The mean of all rows, of length 1; texts in a batch do not change each other.
    let mut mean: Vec<f32> = (0..width)
        .map(|column| hidden.iter().skip(column).step_by(width).sum::<f32>())
        .collect();
    let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
    mean.iter_mut().for_each(|x| *x /= length);
    let vectors = embedder
        .embed(&["A dog.", text, "Somebody counts the steps of a lighthouse."])
        .unwrap();
    near(&vectors[1], &mean, 1e-5, "vector");
    let similar =
        |a: usize| -> f32 { vectors[1].iter().zip(&vectors[a]).map(|(x, y)| x * y).sum() };
    assert!(
        similar(2) > similar(0) + 0.2,
        "{} and {}",
        similar(2),
        similar(0)
    );
}
