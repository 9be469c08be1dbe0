//! The authors' fixtures and the shipped models.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use brillm::kernel::random::Random;
use brillm::model::{Model, Verify, import};
use brillm::path::{GraphSession, Sampling, Session};
use brillm::signal::Start;
use serde_json::Value;

use crate::decoding::decoder;
use crate::{Bed, Test};

pub const TESTS: &[Test] = &[
    (
        "energies_and_paths_match_the_fixtures",
        energies_and_paths_match_the_fixtures,
    ),
    (
        "shipped_models_decode_as_on_the_cpu",
        shipped_models_decode_as_on_the_cpu,
    ),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

fn imported(folder: &Path) -> Model {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("model.bril");
    let frequency = Some(folder.join("word_frequency.json")).filter(|path| path.exists());
    import::import(
        &folder.join("model.safetensors"),
        &folder.join("vocab.json"),
        frequency.as_deref(),
        &out,
    )
    .unwrap();
    Model::open(&out, Verify::Whole).unwrap()
}

/// All energies and paths that the authors' code printed.
fn energies_and_paths_match_the_fixtures(bed: &Bed) {
    let mut worst = 0.0f64;
    for name in ["tiny", "sparse"] {
        let folder = root().join("tests/golden").join(name);
        let golden: Value =
            serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
        let model = imported(&folder);
        for trace in golden["decode"].as_array().unwrap() {
            let new = trace["new_tokens"].as_u64().unwrap() as usize;
            let all = ids(&trace["token_ids"]);
            let prompt = &all[..all.len() - new];
            let session = GraphSession::begin(
                model.mechanism().clone(),
                prompt,
                &Start::Profile,
                Sampling::greedy(),
            )
            .unwrap();
            let flows = [session.flow().clone()];
            let mut whole = decoder(&bed.device, model.mechanism(), &flows);
            let mut path = Vec::new();
            while path.len() < new {
                path.extend(whole.decode(new - path.len()).unwrap().swap_remove(0));
            }
            assert_eq!(path, all[prompt.len()..], "{name}");
            let mut single = decoder(&bed.device, model.mechanism(), &flows);
            for step in trace["steps"].as_array().unwrap() {
                let (energies, _) = single.look().unwrap();
                let expected = step["energies"].as_array().unwrap();
                for (&id, expected) in ids(&step["candidates"]).iter().zip(expected) {
                    let expected = expected.as_f64().unwrap();
                    let found = f64::from(energies[0][id as usize]);
                    let error = (found - expected).abs() / expected.abs();
                    assert!(
                        error < 1e-5,
                        "{name}: energy of {id}: {found} instead of {expected}"
                    );
                    worst = worst.max(error);
                }
                assert_eq!(single.decode(1).unwrap()[0].len(), 1);
            }
        }
    }
    println!("  largest relative error of an energy {worst:.1e}");
}

/// Twenty greedy paths of fifty tokens each, decoded together, and their first energies.
fn shipped_models_decode_as_on_the_cpu(bed: &Bed) {
    const SEQUENCES: usize = 20;
    const TOKENS: usize = 50;
    for name in ["english", "chinese"] {
        let path = root().join("models").join(name).with_extension("bril");
        let model = Model::open(&path, Verify::Lazy).unwrap();
        let mechanism = model.mechanism();
        let mut random = Random::new(11);
        let prompts: Vec<Vec<u32>> = (0..SEQUENCES)
            .map(|_| {
                (0..4)
                    .map(|_| random.below(mechanism.nodes() as u64) as u32)
                    .collect()
            })
            .collect();
        let mut sessions: Vec<GraphSession> = prompts
            .iter()
            .map(|prompt| {
                let start = Start::Profile;
                GraphSession::begin(mechanism.clone(), prompt, &start, Sampling::greedy()).unwrap()
            })
            .collect();
        let flows: Vec<_> = sessions
            .iter()
            .map(|session| session.flow().clone())
            .collect();
        let on_device =
            brillm::signal::DeviceMechanism::upload(&bed.device, mechanism.clone()).unwrap();
        let mut decoder = brillm::path::Decoder::new(
            Arc::new(on_device),
            SEQUENCES,
            TOKENS,
            Sampling::greedy(),
            &[],
            0,
        )
        .unwrap();
        for (sequence, flow) in flows.iter().enumerate() {
            decoder.set(sequence, flow, &Random::new(0), &[]).unwrap();
        }
        let (energies, _) = decoder.look().unwrap();
        let mut worst = 0.0f32;
        for (session, found) in sessions.iter_mut().zip(&energies) {
            for (a, b) in found.iter().zip(session.look().unwrap().0) {
                worst = worst.max((a - b).abs() / b.abs());
            }
        }
        assert!(worst < 1e-5, "{name}: an energy differs by {worst:.1e}");
        let found = decoder.decode(TOKENS).unwrap();
        let (mut parted, mut same) = (0, 0);
        for (session, path) in sessions.iter_mut().zip(&found) {
            assert_eq!(path.len(), TOKENS, "{name}");
            for &node in path {
                let source = session.flow().node;
                let mut logits = session.look().unwrap().1.to_vec();
                if !mechanism.profile().self_loops {
                    logits[source as usize] = f32::NEG_INFINITY;
                }
                let best = brillm::path::likeliest(&logits).unwrap();
                if best != node {
                    // Only where both are equal within rounding.
                    let (a, b) = (logits[best as usize], logits[node as usize]);
                    assert!(
                        (a - b).abs() <= 1e-5 * (1.0 + a.abs()),
                        "{name}: {node} ({b}) instead of {best} ({a})"
                    );
                    parted += 1;
                }
                same += usize::from(best == node);
                session.force(node).unwrap();
            }
        }
        println!(
            "  {name}: {same} tokens, {parted} of them different from the CPU; energies within {worst:.1e}"
        );
        assert_eq!(same + parted, SEQUENCES * TOKENS);
    }
}
