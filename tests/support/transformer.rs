//! Golden folders of transformers, and passes over the small stories model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use brillm::Result;
use brillm::hook::Phase;
use brillm::path::{Sampling, Session};
use brillm::transformer::{
    Cache, ForwardOutput, LogitsFor, Network, Plan, Taps, Transformer, TransformerSession,
};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

/// The folder of golden transformers.
pub const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/transformer");

/// List the folders with a config.json and a golden.json, also in `$BRILLM_GOLDEN_TRANSFORMER_DIR` if set.
pub fn golden_folders() -> Vec<PathBuf> {
    let mut roots = vec![PathBuf::from(GOLDEN)];
    if let Some(more) = std::env::var_os("BRILLM_GOLDEN_TRANSFORMER_DIR") {
        roots.push(PathBuf::from(more));
    }
    let mut found = Vec::new();
    for root in roots {
        let entries =
            std::fs::read_dir(&root).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
        let before = found.len();
        for entry in entries {
            let path = entry.unwrap().path();
            if path.join("config.json").exists() && path.join("golden.json").exists() {
                found.push(path);
            }
        }
        assert!(
            found.len() > before,
            "{} has no golden folder",
            root.display()
        );
    }
    found.sort();
    found
}

/// Read the expected values of a folder. Python writes NaN, which is invalid JSON, for the mean of nothing.
pub fn expectations(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("golden.json")).unwrap();
    serde_json::from_str(&text.replace("NaN", "null")).unwrap()
}

/// Read token ids.
pub fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("a list of ids");
    list.iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Read numbers.
pub fn floats(value: &Value) -> Vec<f32> {
    let list = value.as_array().expect("a list of numbers");
    list.iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// Check that two lists differ by at most a tolerance.
#[track_caller]
pub fn near(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let worst = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(worst <= tolerance, "{what}: off by {worst}");
}

/// Open the small stories model.
pub fn stories() -> Transformer {
    Transformer::open(&Path::new(GOLDEN).join("stories260K")).unwrap()
}

/// Return a model's network of attention layers.
pub fn network(model: &Transformer) -> &Network {
    model.network().expect("a network of attention layers")
}

/// Run a prompt through a network with a new cache.
pub fn prefill(
    network: &Network,
    plan: &Plan,
    prompt: &[u32],
    logits_for: LogitsFor,
) -> (Cache, ForwardOutput) {
    let mut cache = Cache::new(network.configuration(), plan.clone(), 1).unwrap();
    let network = network.for_plan(plan).unwrap();
    let (phase, mut taps) = (Phase::Prefill, Taps::default());
    let output = network.advance(&mut cache, &[prompt], phase, logits_for, &mut taps);
    (cache, output.unwrap())
}

/// Decode tokens of each sequence of a cache, without observers.
pub fn decode(network: &Network, cache: &mut Cache, tokens: &[&[u32]]) -> ForwardOutput {
    let (phase, mut taps) = (Phase::Decode, Taps::default());
    let output = network.advance(cache, tokens, phase, LogitsFor::Last, &mut taps);
    output.unwrap()
}

/// Create the plan in which every layer keeps everything.
pub fn full_plan(network: &Network) -> Plan {
    Plan::full(network.configuration().layers)
}

/// Generate a prompt with the stories model itself, greedily.
pub fn text(length: usize) -> Vec<u32> {
    let model = stories();
    let mut session =
        TransformerSession::begin(&model, &[1, 403, 407], Sampling::greedy()).unwrap();
    let mut text = vec![1, 403, 407];
    while text.len() < length {
        text.push(session.step().unwrap().unwrap());
    }
    text
}

/// Open a copy of `stories260K` with changed files.
pub fn changed(change: impl FnOnce(&Path)) -> (tempfile::TempDir, Result<Transformer>) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tok512.bin"] {
        std::fs::copy(
            Path::new(GOLDEN).join("stories260K").join(name),
            folder.path().join(name),
        )
        .unwrap();
    }
    change(folder.path());
    let opened = Transformer::open(folder.path());
    (folder, opened)
}

/// Set a key of a JSON file; a file that does not exist is created.
pub fn edit(path: &Path, key: &str, value: Value) {
    let text = std::fs::read(path).unwrap_or(b"{}".into());
    let mut json: Value = serde_json::from_slice(&text).unwrap();
    json[key] = value;
    std::fs::write(path, json.to_string()).unwrap();
}

/// Compute the numbers of a weight from its name: splitmix64 of an FNV-1a hash and the index.
pub fn weight(name: &str, shape: &[usize]) -> Vec<f32> {
    let hash = |seed: u64, byte: u8| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    let number = |index: u64| {
        let mut x = seed.wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        let u = (x >> 40) as f64 / f64::from(1 << 24) - 0.5;
        let last = *shape.last().unwrap() as f64;
        (if name.ends_with("bias") {
            0.2 * u
        } else if shape.len() == 1 {
            1.0 + 0.5 * u
        } else {
            u * 3.0 / last.sqrt()
        }) as f32
    };
    (0..shape.iter().product::<usize>() as u64)
        .map(number)
        .collect()
}

/// Write the model folder of a golden file of `tests/golden/families`.
pub fn write_folder(folder: &Path, golden: &Value) {
    let shapes: BTreeMap<String, Vec<usize>> =
        serde_json::from_value(golden["shapes"].clone()).unwrap();
    let stored: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let values = weight(&name, &shape);
            let bytes = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            (name, shape, bytes)
        })
        .collect();
    let views = stored.iter().map(|(name, shape, bytes)| {
        (
            name.as_str(),
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
    std::fs::write(folder.join("config.json"), golden["config"].to_string()).unwrap();
}
