//! GGUF files: against the Python package gguf and Hugging Face, and damaged.
#![cfg(feature = "transformer")]

mod support;

use std::path::{Path, PathBuf};

use brillm::kernel::block_format::Format;
use brillm::kernel::bytes::Bytes;
use brillm::kernel::simd::Level;
use brillm::kernel::stored::Stored;
use brillm::transformer::{LogitsFor, TokenBatch, Transformer};
use brillm::{Engine, ErrorKind, Request};
use serde_json::Value;
use support::transformer::{decode, floats, full_plan, ids, near, network, prefill};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/gguf");

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(Path::new(GOLDEN).join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn tiny() -> PathBuf {
    Path::new(GOLDEN).join("tiny.gguf")
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

fn format_named(name: &str) -> Format {
    let mut numbers = (0..64).filter_map(Format::from_number);
    numbers.find(|format| format.name() == name).unwrap()
}

#[test]
fn blocks_are_read_as_by_the_python_package() {
    let cases = golden("blocks.json");
    let cases = cases.as_object().unwrap();
    for (name, case) in cases {
        let (format, expected) = (format_named(name), floats(&case["read"]));
        let bytes = Bytes::copy_of(&bytes_of(case["bytes"].as_str().unwrap()));
        let matrix = Stored::new(format, 1, expected.len(), bytes).unwrap();
        let mut found = vec![0.0; expected.len()];
        matrix.unpack(0..1, &mut found);
        near(&found, &expected, 1e-6, name);
        assert!(matrix.is_finite(), "{name}");
    }
    assert_eq!(
        cases.len() + 1,
        Format::names().count(),
        "all formats but F32"
    );
}

#[test]
fn blocks_are_written_as_by_the_python_package() {
    let cases = golden("blocks.json");
    let mut compared = 0;
    for name in ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1"] {
        let case = &cases[name];
        let mut found = Vec::new();
        let written = floats(&case["written"]);
        format_named(name).pack(&written, &mut found).unwrap();
        let expected = bytes_of(case["bytes"].as_str().unwrap());
        // Halves may be rounded to either side.
        let close = |(a, b): (&u8, &u8)| a.abs_diff(*b) <= 1;
        let different = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
        assert_eq!(found.len(), expected.len(), "{name}");
        assert!(found.iter().zip(&expected).all(close), "{name}");
        assert!(different <= 1, "{name}: {different} bytes differ");
        compared += 1;
    }
    assert_eq!(compared, 5);
    let error = Format::Q6K.pack(&[0.0; 256], &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("Q8_0"), "{error}");
}

#[test]
fn products_are_those_of_the_unpacked_matrix() {
    // Rows that are not whole blocks, few rows of x (dot products) and many (blocked products).
    let formats = [
        (Format::F32, 37),
        (Format::F16, 70),
        (Format::Bf16, 33),
        (Format::Q8_0, 64),
        (Format::Q4_0, 96),
        (Format::Q4_1, 32),
    ];
    let draw =
        |n: usize, step: f32| -> Vec<f32> { (0..n).map(|i| (i as f32 * step).sin()).collect() };
    for (format, columns) in formats {
        let rows = 41;
        let matrix = Stored::pack(format, &draw(rows * columns, 0.7), rows, columns).unwrap();
        let mut weights = vec![0.0; rows * columns];
        matrix.unpack(0..rows, &mut weights);
        for count in [1, 2, 5, 12, 40] {
            let x = draw(count * columns, 0.3);
            let found = matrix.product(&x);
            let mut expected = Vec::new();
            for x in x.chunks(columns) {
                let dot = |w: &[f32]| x.iter().zip(w).map(|(a, b)| a * b).sum::<f32>();
                expected.extend(weights.chunks(columns).map(dot));
            }
            near(
                &found,
                &expected,
                1e-4,
                &format!("{} x {count}", format.name()),
            );
        }
    }
    assert!(!Level::available().is_empty());
}

#[test]
fn a_matrix_of_another_size_is_refused() {
    let bytes = || Bytes::copy_of(&[0u8; 68]);
    assert!(Stored::new(Format::Q8_0, 2, 32, bytes()).is_ok());
    for (rows, columns) in [(2, 33), (3, 32), (1, 32), (usize::MAX, 32)] {
        let error = Stored::new(Format::Q8_0, rows, columns, bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format, "[{rows}, {columns}]");
    }
    let infinite = Stored::new(Format::F16, 1, 2, Bytes::copy_of(&[0x7c00u16, 0])).unwrap();
    assert!(!infinite.is_finite());
}

#[test]
fn a_file_agrees_with_hugging_face_on_its_weights() {
    let (model, golden) = (Transformer::open(&tiny()).unwrap(), golden("tiny.json"));
    let network = network(&model);
    let prompt = ids(&golden["ids"]);
    let (_, output) = prefill(network, &full_plan(network), &prompt, LogitsFor::All);
    near(output.row(0), &floats(&golden["first"]), 1e-4, "first");
    near(
        output.row(prompt.len() - 1),
        &floats(&golden["last"]),
        1e-4,
        "last",
    );
    // Token by token, and whole sequences.
    let (mut cache, _) = prefill(network, &full_plan(network), &prompt[..1], LogitsFor::Last);
    let mut row = Vec::new();
    for token in &prompt[1..] {
        row = decode(network, &mut cache, &[&[*token]]).logits;
    }
    near(&row, &floats(&golden["last"]), 1e-4, "decoded");
    let batch = TokenBatch::new(prompt.clone(), prompt.len());
    let x = network.forward(&batch, None, None).unwrap();
    let logits: Vec<f32> = network
        .logits(&x)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    near(&logits, &output.logits, 1e-4, "whole sequence");
    let greedy = ids(&golden["greedy"]);
    let request = Request::ids(prompt.clone())
        .tokens(greedy.len() - prompt.len())
        .ignore_eos(true);
    let (_, found) = Engine::from(&model)
        .start(request)
        .unwrap()
        .collect_text()
        .unwrap();
    assert_eq!(found, greedy[prompt.len()..]);
    // The tokenizer splits as that of SmolLM and knows the special tokens.
    let text = "the thing 12 in<|im_end|>";
    let encoded = model.encode(text).unwrap();
    assert_eq!(
        model.tokenizer().decode(&encoded),
        text.replace("<|im_end|>", "")
    );
    assert_eq!(encoded.last(), Some(&2));
    assert_eq!(model.stop_tokens(), [2]);
    assert_eq!(model.name(), "tiny");
}

#[test]
fn weights_stay_in_memory_as_they_are_stored() {
    let model = Transformer::open(&tiny()).unwrap();
    let network = network(&model);
    let (bytes, parameters) = (network.bytes_per_token(), network.parameters());
    assert!(
        bytes < parameters * 3,
        "{bytes} bytes for {parameters} parameters"
    );
}

/// Open a changed file; it must be an error that names the file, or a model.
fn open_changed(change: impl FnOnce(&mut Vec<u8>)) -> Option<brillm::Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.gguf");
    let mut bytes = std::fs::read(tiny()).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    let error = Engine::open(&path, Default::default()).err();
    if let Some(error) = &error {
        assert!(error.to_string().contains("changed.gguf"), "{error}");
    }
    error
}

// Windows keeps the name of a mapped file.
#[cfg(unix)]
#[test]
fn a_model_outlives_the_name_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.gguf");
    std::fs::copy(tiny(), &path).unwrap();
    // What follows the tensors is not read, and takes no space here.
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len((256 << 20) + 1).unwrap();
    let logits = |model: &Transformer| {
        let network = model.network().unwrap();
        let batch = TokenBatch::new(vec![1, 2, 3], 3);
        let x = network.forward(&batch, None, None).unwrap();
        let logits = network.logits(&x).unwrap().flatten_all().unwrap();
        logits.to_vec1::<f32>().unwrap()
    };
    let model = Transformer::open(&path).unwrap();
    // As a new file that is renamed over the old one does.
    let other = folder.path().join("other.gguf");
    std::fs::write(&other, "another file").unwrap();
    std::fs::rename(&other, &path).unwrap();
    assert_eq!(logits(&model), logits(&Transformer::open(&tiny()).unwrap()));
}

#[test]
fn a_truncated_file_is_refused() {
    let length = std::fs::read(tiny()).unwrap().len();
    let ends = (4..6000)
        .step_by(97)
        .chain((6000..length - 32).step_by(9973));
    for end in ends {
        let error = open_changed(|bytes| bytes.truncate(end));
        assert!(error.is_some(), "the first {end} bytes were opened");
    }
}

/// Return the offset after the first occurrence of a text.
fn after(bytes: &[u8], text: &str) -> usize {
    let found = bytes
        .windows(text.len())
        .position(|window| window == text.as_bytes());
    found.unwrap() + text.len()
}

#[test]
fn lying_headers_are_refused() {
    type Change = fn(&mut Vec<u8>);
    let huge = u64::MAX.to_le_bytes();
    assert_eq!(huge, [255; 8]);
    let cases: [(&str, Change, &str); 14] = [
        ("version 1", |b| b[4] = 1, "version 1"),
        (
            "big-endian",
            |b| b[4..8].copy_from_slice(&[0, 0, 0, 3]),
            "big-endian",
        ),
        ("more tensors", |b| b[8..16].fill(255), "bytes are needed"),
        ("more values", |b| b[16..24].fill(255), "invalid GGUF"),
        ("a long key", |b| b[24..32].fill(255), "bytes are needed"),
        (
            "an unknown architecture",
            |b| {
                let at = after(b, "general.architecture") + 12;
                b[at] = b'x';
            },
            "supported: llama",
        ),
        (
            "a long list of tokens",
            |b| {
                let at = after(b, "tokenizer.ggml.tokens") + 8;
                b[at..at + 8].fill(255);
            },
            "invalid GGUF",
        ),
        (
            "a list of lists",
            |b| {
                let at = after(b, "tokenizer.ggml.tokens") + 4;
                b[at] = 9;
            },
            "an array of type 9",
        ),
        (
            "another type of value",
            |b| {
                let at = after(b, "llama.block_count");
                b[at] = 6;
            },
            "llama.block_count",
        ),
        (
            "no heads",
            |b| {
                let at = after(b, "llama.attention.head_count") + 4;
                b[at] = 0;
            },
            "num_attention_heads",
        ),
        (
            "more layers",
            |b| {
                let at = after(b, "llama.block_count") + 4;
                b[at] = 3;
            },
            "model.layers.2",
        ),
        (
            "an unknown format",
            |b| {
                let at = after(b, "blk.0.attn_q.weight") + 4 + 16;
                b[at] = 16;
            },
            "the GGML type 16",
        ),
        (
            "a large dimension",
            |b| {
                let at = after(b, "blk.0.attn_q.weight") + 4;
                b[at..at + 16].fill(255);
            },
            "whole blocks",
        ),
        (
            "an offset beyond the file",
            |b| {
                let at = after(b, "blk.0.attn_q.weight") + 4 + 20;
                b[at + 5] = 1;
            },
            "after the file",
        ),
    ];
    for (key, value) in [
        ("layer_norm_rms_epsilon", f32::NAN),
        ("layer_norm_rms_epsilon", 0.0),
        ("layer_norm_rms_epsilon", -1e-5),
        ("rope.freq_base", f32::INFINITY),
        ("rope.freq_base", f32::NAN),
        ("rope.freq_base", -1e4),
    ] {
        let error = open_changed(|bytes| {
            let at = after(bytes, key) + 4;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        });
        let error = error.unwrap_or_else(|| panic!("{key} {value}: opened"));
        assert_eq!(error.kind(), brillm::ErrorKind::Format, "{error}");
        let text = error.to_string();
        assert!(text.contains(key) && text.contains("above 0"), "{text}");
    }
    for (name, change, expected) in cases {
        match open_changed(change) {
            Some(error) => {
                let text = error.to_string();
                assert!(text.contains(expected), "{name}: {text}");
            }
            None => panic!("{name}: opened"),
        }
    }
}

#[test]
fn changed_bytes_are_an_error_or_another_model() {
    for at in (0..5500).step_by(23) {
        open_changed(|bytes| bytes[at] ^= 0x5a);
    }
}
