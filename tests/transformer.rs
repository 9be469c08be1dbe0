//! Sessions of transformers, and reading their folders.
#![cfg(feature = "transformer")]

mod support;

use std::path::Path;

use brillm::path::{Sampling, Session};
use brillm::transformer::{Body, LogitsFor, Plan, Transformer, TransformerSession};
use serde_json::Value;
use support::transformer::{GOLDEN, changed, edit, near, network, prefill, stories, text};

#[test]
fn sessions_are_reproducible_by_seed() {
    let model = stories();
    let run = |seed: u64| {
        let sampling = Sampling::default().temperature(0.9).seed(seed);
        let mut session = TransformerSession::begin(&model, &[1, 403], sampling).unwrap();
        (0..30)
            .map(|_| session.step().unwrap().unwrap())
            .collect::<Vec<u32>>()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn learned_positions_limit_the_context() {
    let model = Transformer::open(&Path::new(GOLDEN).join("capp-gpt2")).unwrap();
    let mut session = TransformerSession::begin(&model, &[1; 510], Sampling::greedy()).unwrap();
    session.step().unwrap().unwrap();
    session.step().unwrap().unwrap();
    assert!(session.is_full());
    let error = TransformerSession::begin(&model, &[1; 513], Sampling::greedy())
        .err()
        .unwrap();
    assert!(error.to_string().contains("512"), "{error}");
    assert!(matches!(&**model.body(), Body::Network(_)));
}

#[test]
fn damaged_folders_are_reported_with_their_cause() {
    let config = |key: &'static str, value: Value| {
        move |folder: &Path| edit(&folder.join("config.json"), key, value)
    };
    type Damage = Box<dyn FnOnce(&Path)>;
    let cases: Vec<(Damage, &str)> = vec![
        (Box::new(config("model_type", "mamba".into())), "mamba"),
        (Box::new(config("num_hidden_layers", 6.into())), "layers.5"),
        (
            Box::new(config("num_hidden_layers", u64::MAX.into())),
            "num_hidden_layers",
        ),
        (
            Box::new(config("num_hidden_layers", 2_000_000_000.into())),
            "layers.5",
        ),
        (Box::new(config("hidden_size", 63.into())), "embed_tokens"),
        (Box::new(config("vocab_size", 0.into())), "vocab_size"),
        (Box::new(config("num_attention_heads", 7.into())), "heads"),
        (
            Box::new(config("tie_word_embeddings", false.into())),
            "lm_head",
        ),
        (
            Box::new(config("hidden_act", "softplus".into())),
            "softplus",
        ),
        (
            Box::new(config(
                "rope_scaling",
                serde_json::json!({"rope_type": "spiral"}),
            )),
            "spiral",
        ),
        (
            Box::new(|folder: &Path| {
                std::fs::remove_file(folder.join("model.safetensors")).unwrap()
            }),
            "model.safetensors",
        ),
        (
            Box::new(|folder: &Path| {
                let path = folder.join("model.safetensors");
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            }),
            "safetensors",
        ),
        (
            Box::new(|folder: &Path| {
                let path = folder.join("tok512.bin");
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
            }),
            "tok512.bin",
        ),
        (
            Box::new(|folder: &Path| {
                std::fs::remove_file(folder.join("model.safetensors")).unwrap();
                let index = serde_json::json!({"weight_map": {"a": "../../elsewhere"}});
                std::fs::write(
                    folder.join("model.safetensors.index.json"),
                    index.to_string(),
                )
                .unwrap();
            }),
            "elsewhere",
        ),
    ];
    let mut failures = Vec::new();
    for (change, word) in cases {
        let (_folder, opened) = changed(change);
        match opened.err().map(|error| error.to_string()) {
            Some(error) if error.contains(word) => {}
            other => failures.push(format!("{word}: {other:?}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn shards_and_half_precision_can_be_read() {
    let weights =
        brillm::transformer::folder::read_weights(&Path::new(GOLDEN).join("stories260K")).unwrap();
    let expected = prefill(
        network(&stories()),
        &Plan::full(5),
        &text(20),
        LogitsFor::Last,
    )
    .1;
    for (dtype, tolerance) in [
        (candle_core::DType::F32, 0.0),
        (candle_core::DType::F16, 0.05),
        (candle_core::DType::BF16, 0.5),
    ] {
        let (_folder, opened) = changed(|folder| {
            std::fs::remove_file(folder.join("model.safetensors")).unwrap();
            let mut shards = [
                std::collections::HashMap::new(),
                std::collections::HashMap::new(),
            ];
            let mut map = serde_json::Map::new();
            for (index, (name, tensor)) in weights.iter().enumerate() {
                let shard = index % 2;
                shards[shard].insert(name.to_string(), tensor.to_dtype(dtype).unwrap());
                map.insert(name.into(), format!("model-{shard}.safetensors").into());
            }
            for (shard, tensors) in shards.iter().enumerate() {
                let path = folder.join(format!("model-{shard}.safetensors"));
                candle_core::safetensors::save(tensors, path).unwrap();
            }
            let index = serde_json::json!({"metadata": {}, "weight_map": map});
            std::fs::write(
                folder.join("model.safetensors.index.json"),
                index.to_string(),
            )
            .unwrap();
        });
        let model = opened.unwrap();
        let found = prefill(network(&model), &Plan::full(5), &text(20), LogitsFor::Last).1;
        near(
            &found.logits,
            &expected.logits,
            tolerance,
            &format!("{dtype:?}"),
        );
    }
}
