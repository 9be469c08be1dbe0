//! The `reference` profile against the authors' own code: every candidate's energy, every path, losses,
//! gradients and parameters, from fixtures that their code made (tests/golden/README.md).
//!
//! Also runs on every folder inside `$BRILLM_GOLDEN_DIR`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use brillm::graph::{NodeId, TokenGraph};
use brillm::learn::adamw::{AdamMode, AdamW, Moments};
use brillm::learn::batch::{Batch, Candidates};
use brillm::learn::own::Own;
use brillm::learn::prior::Prior;
use brillm::model::{Metadata, Model, Verify, import};
use brillm::path::{GraphSession, Sampling, Session};
use brillm::signal::{Mechanism, PositionOffset, Profile, Start};
use serde_json::Value;

fn fixtures() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut folders = vec![own.join("tiny"), own.join("sparse")];
    if let Some(more) = std::env::var_os("BRILLM_GOLDEN_DIR") {
        let more = std::fs::read_dir(&more).expect("BRILLM_GOLDEN_DIR is a folder");
        folders.extend(
            more.map(|entry| entry.unwrap().path())
                .filter(|path| path.join("golden.json").exists()),
        );
    }
    folders
}

fn golden(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap()
}

fn frequency(folder: &Path) -> Option<PathBuf> {
    Some(folder.join("word_frequency.json")).filter(|path| path.exists())
}

fn imported(folder: &Path, weights: &str, offset: PositionOffset) -> Model {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("model.bril");
    import::import(
        &folder.join(weights),
        &folder.join("vocab.json"),
        frequency(folder).as_deref(),
        &out,
    )
    .unwrap();
    let model = Model::open(&out, Verify::Whole).unwrap();
    with_offset(&model, offset)
}

fn with_offset(model: &Model, offset: PositionOffset) -> Model {
    let mut profile = model.metadata().profile.clone();
    profile.offset = offset;
    let mechanism = model.mechanism();
    let mechanism = Mechanism::new(
        profile.clone(),
        mechanism.graph().clone(),
        mechanism.weights().clone(),
    )
    .unwrap();
    let tokenizer = brillm::text::Tokenizer::from_bytes(&model.tokenizer().to_bytes()).unwrap();
    let metadata = Metadata {
        profile,
        ..model.metadata().clone()
    };
    Model::new(metadata, tokenizer, mechanism).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_u64().unwrap() as u32)
        .collect()
}

/// Follows one golden trace; returns the largest relative error of an energy.
fn follow(model: &Model, prompt: &[u32], trace: &Value) -> f64 {
    let mechanism: &Arc<Mechanism> = model.mechanism();
    let mut session = GraphSession::begin(
        mechanism.clone(),
        prompt,
        &Start::Profile,
        Sampling::greedy(),
    )
    .unwrap();
    let mut worst = 0.0f64;
    for step in trace["steps"].as_array().unwrap() {
        assert_eq!(
            u64::from(session.flow().node),
            step["source"].as_u64().unwrap()
        );
        let (energies, _) = session.look().unwrap();
        let expected = numbers(&step["energies"]);
        for (&id, expected) in ids(&step["candidates"]).iter().zip(expected) {
            let error = (f64::from(energies[id as usize]) - expected).abs() / expected.abs();
            assert!(
                error < 1e-5,
                "energy of {id}: {} instead of {expected}",
                energies[id as usize]
            );
            worst = worst.max(error);
        }
        let chosen = session.step().unwrap().unwrap();
        assert_eq!(u64::from(chosen), step["best"].as_u64().unwrap());
    }
    worst
}

#[test]
fn every_energy_and_path_of_decoding() {
    for folder in fixtures() {
        let golden = golden(&folder);
        let model = imported(&folder, "model.bin", PositionOffset::Decode);
        let trained = with_offset(&model, PositionOffset::Train);
        let mut worst = 0.0f64;
        for trace in golden["decode"].as_array().unwrap() {
            let new = trace["new_tokens"].as_u64().unwrap() as usize;
            let all = ids(&trace["token_ids"]);
            let prompt = &all[..all.len() - new];
            worst = worst.max(follow(&model, prompt, trace));
            worst = worst.max(follow(&trained, prompt, &trace["train_convention"]));
            let mut session = GraphSession::begin(
                model.mechanism().clone(),
                prompt,
                &Start::Profile,
                Sampling::greedy(),
            )
            .unwrap();
            let path: Vec<u32> = (0..new).map(|_| session.step().unwrap().unwrap()).collect();
            assert_eq!(path, all[prompt.len()..]);
        }
        println!(
            "{}: largest relative error of an energy {worst:.1e}",
            folder.display()
        );
    }
}

#[test]
fn every_layout_of_a_checkpoint_gives_the_same_model() {
    for folder in fixtures() {
        let reference = imported(&folder, "model.safetensors", PositionOffset::Decode);
        let edge_weights = |model: &Model| model.mechanism().weights().table("edge.arena").to_vec();
        let expected = edge_weights(&reference);
        for (name, tolerance) in [
            ("model.bin", 0.0),
            ("model_legacy_pickle.bin", 0.0),
            ("model_f16.bin", 1e-3),
            ("model_bf16.safetensors", 8e-3),
        ] {
            if !folder.join(name).exists() {
                continue;
            }
            let found = edge_weights(&imported(&folder, name, PositionOffset::Decode));
            assert_eq!(found.len(), expected.len());
            for (a, b) in found.iter().zip(&expected) {
                assert!(
                    (a - b).abs() <= tolerance * (1.0 + b.abs()),
                    "{name}: {a} {b}"
                );
            }
        }
        if folder.join("checkpoint_train_style.bin").exists() {
            imported(
                &folder,
                "checkpoint_train_style.bin",
                PositionOffset::Decode,
            );
        }
    }
}

/// The divisors, and every value of the table that the fixtures list, bit for bit. The polynomial was inferred
/// from these values, so this holds it in place rather than proving it; `sha256_of_f32le_512xd`, the checksum of
/// all 512 rows, is not reached.
#[test]
fn the_listed_values_of_the_position_table_are_the_authors_bit_for_bit() {
    let mut seen = 0;
    for folder in fixtures() {
        let golden = golden(&folder);
        let width = golden["hidden_size"].as_u64().unwrap() as usize;
        for (pair, bits) in golden["pe"]["div_term_bits"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
        {
            let divisor = brillm::kernel::position::divisor(pair, width);
            assert_eq!(format!("{:08x}", divisor.to_bits()), bits.as_str().unwrap());
        }
        let mut row = vec![0.0f32; width];
        for (position, expected) in golden["pe"]["rows"].as_object().unwrap() {
            brillm::kernel::position::row(position.parse().unwrap(), &mut row);
            for (column, (value, expected)) in row.iter().zip(numbers(expected)).enumerate() {
                assert_eq!(
                    value.to_bits(),
                    (expected as f32).to_bits(),
                    "{}: position {position}, column {column}: {value} {expected}",
                    folder.display()
                );
                seen += 1;
            }
        }
    }
    assert!(seen >= 400, "{seen} values");
}

/// The learner with a checkpoint's parameters.
fn learner(folder: &Path, file: &str, golden: &Value) -> (Own<f32>, TokenGraph) {
    let model = imported(folder, "model.safetensors", PositionOffset::Train);
    let graph = model.mechanism().graph().clone();
    let mut profile: Profile = model.metadata().profile.clone();
    profile.offset = PositionOffset::Train;
    let mut learner = Own::new(&profile, &graph, 0);
    let values = parameters(&folder.join(file));
    for (parameter, value) in learner.parameters().into_iter().zip(values) {
        assert_eq!(parameter.value.len(), value.len(), "{}", parameter.name);
        parameter.value = value;
    }
    assert_eq!(graph.nodes() as u64, golden["vocab_size"].as_u64().unwrap());
    (learner, graph)
}

/// Arena, start, positions, then the blocks the reference profile leaves empty.
fn parameters(file: &Path) -> Vec<Vec<f32>> {
    let checkpoint = import::Checkpoint::open(file).unwrap();
    let read = |name: &str| {
        let length = checkpoint.require(name).unwrap().shape.iter().product();
        let mut values = vec![0.0f32; length];
        checkpoint.read(name, 0, &mut values).unwrap();
        values
    };
    let (weights, biases) = (read("weights"), read("biases"));
    let width = checkpoint.require("weights").unwrap().shape[1];
    let edge_weights = weights
        .chunks_exact(width * width)
        .zip(biases.chunks_exact(width))
        .flat_map(|(matrix, bias)| matrix.iter().chain(bias).copied().collect::<Vec<_>>())
        .collect();
    let mut all = vec![edge_weights, read("node_bias"), read("positions")];
    all.resize(10, Vec::new());
    all
}

fn batches(golden: &Value) -> Vec<Batch> {
    let train = &golden["train"];
    let size = train["batch_size"].as_u64().unwrap() as usize;
    let sequences = train["neighbor_ids"].as_array().unwrap();
    sequences
        .chunks(size)
        .enumerate()
        .map(|(index, group)| {
            let (mut tokens, mut targets) = (Vec::new(), Vec::new());
            let mut count = 0;
            // The last edge of the array is never used by the authors' loss.
            let steps = group[0].as_array().unwrap().len() - 1;
            for sequence in group {
                for (step, edges) in sequence.as_array().unwrap()[..steps].iter().enumerate() {
                    let edges: Vec<Vec<u32>> = edges.as_array().unwrap().iter().map(ids).collect();
                    if step == 0 {
                        tokens.push(edges[0][0]);
                    }
                    tokens.push(edges[0][1]);
                    targets.extend(edges.iter().map(|edge| edge[1]));
                    count = edges.len();
                }
            }
            let folds = vec![0; group.len()];
            Batch {
                tokens,
                steps,
                folds,
                before: 0,
                continued: Vec::new(),
                candidates: Some(Candidates { targets, count }),
                index: index as u64,
            }
        })
        .collect()
}

#[test]
fn losses_gradients_and_three_dense_steps() {
    for folder in fixtures() {
        let golden = golden(&folder);
        let (mut learner, graph) = learner(&folder, "model.safetensors", &golden);
        let prior = Prior::new(&graph, &[]);
        let batches = batches(&golden);
        let expected_gradients = parameters(&folder.join("grad_step0.safetensors"));
        let adam = AdamW {
            mode: AdamMode::Dense,
            beta1: golden["train"]["betas"][0].as_f64().unwrap(),
            beta2: golden["train"]["betas"][1].as_f64().unwrap(),
            epsilon: golden["train"]["eps"].as_f64().unwrap(),
            weight_decay: golden["train"]["weight_decay"].as_f64().unwrap(),
        };
        let rate = golden["train"]["lr"].as_f64().unwrap();
        let mut moments: Vec<Moments<f32>> = (0..10).map(|_| Moments::default()).collect();
        for (step, (batch, expected)) in batches
            .iter()
            .zip(numbers(&golden["train"]["losses"]))
            .enumerate()
        {
            let loss = learner.gradients(&graph, &prior, batch).mean();
            // After the first step Adam's division by tiny roots has spread the rounding of the gradients.
            let tolerance = if step == 0 { 1e-6 } else { 2e-5 };
            assert!(
                (loss - expected).abs() < tolerance * expected,
                "loss {step}: {loss} instead of {expected}"
            );
            if step == 0 {
                for (parameter, expected) in learner.parameters().iter().zip(&expected_gradients) {
                    let scale = expected
                        .iter()
                        .fold(0.0f32, |top, value| top.max(value.abs()));
                    for (place, (a, b)) in parameter.gradient.iter().zip(expected).enumerate() {
                        let error = (a - b).abs();
                        assert!(
                            error <= 1e-5 * (b.abs() + scale),
                            "{}[{place}]: {a} {b}",
                            parameter.name
                        );
                    }
                }
            }
            for (parameter, moments) in learner.parameters().into_iter().zip(&mut moments) {
                adam.step(parameter, moments, step as u64 + 1, rate, 1.0);
            }
        }
        let after = parameters(&folder.join("after3.safetensors"));
        let mut worst = 0.0f32;
        for (parameter, expected) in learner.parameters().iter().zip(&after) {
            for (place, (a, b)) in parameter.value.iter().zip(expected).enumerate() {
                assert!(
                    (a - b).abs() <= 5e-4,
                    "{}[{place}]: {a} {b}",
                    parameter.name
                );
                worst = worst.max((a - b).abs());
            }
        }
        let last = learner.loss(&graph, &prior, &batches[0]).mean();
        let expected = golden["train"]["loss_batch0_after3"].as_f64().unwrap();
        assert!(
            (last - expected).abs() < 1e-4 * expected,
            "{last} instead of {expected}"
        );
        println!(
            "{}: largest difference after three steps {worst:.1e}",
            folder.display()
        );
    }
}

#[test]
fn shared_edges_tie_to_the_lowest_id_and_loops_are_left_out() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sparse");
    let model = imported(&folder, "model.bin", PositionOffset::Decode);
    let mut session = GraphSession::begin(
        model.mechanism().clone(),
        &[13, 14, 15],
        &Start::Profile,
        Sampling::greedy(),
    )
    .unwrap();
    let own = model.mechanism().graph().fan(NodeId(15)).len();
    let (energies, _) = session.look().unwrap();
    let top = energies.iter().copied().fold(f32::MIN, f32::max);
    assert!(energies.iter().filter(|&&energy| energy == top).count() > 1 || own > 0);
    assert_ne!(session.step().unwrap(), Some(15));
}
