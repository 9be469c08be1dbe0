//! Files of images and sounds in commands: limits, checksums, and what is refused or reported.
#![cfg(all(feature = "cli", feature = "modality"))]

use std::path::Path;

use brillm::modality::{Codecs, Modality, Sound};
use brillm::model::sha256::sha256;
use brillm::model::{Model, Verify};

mod support;
use support::pairs::*;
use support::*;

/// A WAV file of 16 bits whose header names more samples than there are.
fn wav(rate: u32, named: u32, samples: usize) -> Vec<u8> {
    let bytes = 2 * named;
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + bytes).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend(rate.to_le_bytes());
    wav.extend((2 * rate).to_le_bytes());
    wav.extend(b"\x02\0\x10\0data");
    wav.extend(bytes.to_le_bytes());
    wav.resize(wav.len() + 2 * samples, 1);
    wav
}

/// Warnings of a command that succeeds.
fn warnings(arguments: &[&str]) -> String {
    let output = run(arguments);
    stdout_of(&output, &format!("{arguments:?}"));
    text_of(&output.stderr)
}

/// Train on the pairs with another recipe; returns the folder, and the model's path.
fn trained_as(recipe: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    write_pairs(folder.path());
    std::fs::write(folder.path().join("pairs.toml"), recipe).unwrap();
    let (file, out) = (
        path(folder.path(), "pairs.toml"),
        path(folder.path(), "run"),
    );
    succeeds(&["train", &file, "--out", &out, "--quiet"]);
    let model = path(folder.path(), "run/model.bril");
    (folder, model)
}

/// The recipe of the pairs, cut short.
fn short_recipe() -> String {
    PAIRS_RECIPE.replace("tokens = 60_000", "tokens = 2_000")
}

#[test]
fn sounds_that_are_too_long_are_refused_before_they_are_read() {
    let folder = trained_pairs();
    let file = folder.join("long.wav");
    // 4,096 frames of 128 samples, 8,000 a second, are 65,536 samples at 1,000 a second.
    let encoded = |named: u32, samples: usize| {
        std::fs::write(&file, wav(1000, named, samples)).unwrap();
        let model = Model::open(&folder.join("run/model.bril"), Verify::Whole).unwrap();
        let found = model.tokenizer().encode_file(Modality::Audio, &file);
        found.unwrap_err().to_string()
    };
    // The samples are missing: what reads them first says so.
    let error = encoded(1_000_000, 10);
    assert!(
        error.contains("62500 frames") && error.contains("4096") && error.contains("long.wav"),
        "{error}"
    );
    assert!(encoded(65_537, 10).contains("4097 frames"));
    assert!(encoded(65_536, 10).contains("cut short"));
    let error = fails(&[
        "generate",
        "--model",
        &path(folder, "run/model.bril"),
        "--audio",
        file.to_str().unwrap(),
    ]);
    assert!(error.contains("cut short"), "{error}");
}

#[test]
fn sounds_in_memory_are_as_long_as_those_of_files() {
    let model = path(trained_pairs(), "run/model.bril");
    let model = Model::open(model.as_ref(), Verify::Whole).unwrap();
    let codec = model.tokenizer().codecs().unwrap().require_audio().unwrap();
    let encoded = |samples: usize| {
        let mut sound = tone(400.0);
        sound.samples.resize(samples, 0.0);
        codec.encode(&sound)
    };
    let error = encoded(4096 * 128 + 1).unwrap_err().to_string();
    assert!(error.contains("4097 frames"), "{error}");
    assert!(encoded(4096 * 128).unwrap().len() < 30);
    let silence = Sound {
        rate: 8000,
        samples: vec![0.0; 9000],
    };
    let error = codec.encode(&silence).unwrap_err().to_string();
    assert!(error.contains("silent"), "{error}");
}

#[test]
fn backward_models_make_no_files() {
    let recipe = short_recipe().replace("[data]", "[data]\ndirection = \"backward\"");
    let (folder, model) = trained_as(&recipe);
    for (option, name) in [("--out-image", "a.png"), ("--out-audio", "a.wav")] {
        let file = path(folder.path(), name);
        let error = fails(&["generate", "left", "--model", &model, option, &file]);
        assert!(error.contains("backward model"), "{error}");
        assert!(!Path::new(&file).exists());
    }
}

#[test]
fn files_are_made_of_one_sample_only() {
    for option in ["--rerank=3", "--best-of=3", "--beam=2"] {
        let others = ["--out-image", "a.png", "--backward-model", "b.bril"];
        let output = run(&[&["generate", "a", option][..], &others].concat());
        assert_eq!(output.status.code(), Some(2), "{option}");
        assert!(text_of(&output.stderr).contains("cannot be used with"));
    }
}

#[test]
fn bits_per_byte_are_those_of_text_alone() {
    let folder = trained_pairs();
    let model = path(folder, "run/model.bril");
    let bits = |name: &str, record: &str| {
        let file = folder.join(name);
        std::fs::write(&file, record).unwrap();
        let report = json(&["eval", "--model", &model, file.to_str().unwrap(), "--json"]);
        report["bits_per_byte"].as_f64()
    };
    assert!(bits("text.jsonl", "{\"text\": \"left right\"}\n").unwrap() > 0.0);
    let pair = "{\"text\": \"left right\", \"audio\": \"left.wav\"}\n";
    assert_eq!(bits("coded.jsonl", pair), None);
}

#[test]
fn files_that_a_model_of_text_leaves_out_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let records = [
        r#"{"text": "a crow and a jug", "image": "none.png"}"#,
        r#"{"audio": "none.wav", "text": "a crow and a jug", "image": "none.png"}"#,
        r#"{"text": "an object is another field", "image": {"width": 7}}"#,
    ];
    std::fs::write(folder.path().join("a.jsonl"), records.join("\n")).unwrap();
    let (text, out) = (
        path(folder.path(), "a.jsonl"),
        path(folder.path(), "taught.bril"),
    );
    let english = "models/english.bril";
    let learn = ["learn", english, &text, "--out", &out, "--quiet"];
    let said = warnings(&learn);
    assert!(said.contains("3 images and sounds"), "{said}");
    // A model with codes of both learns them.
    let (pairs, out) = (trained_pairs(), path(trained_pairs(), "taught-all.bril"));
    let (model, text) = (path(pairs, "run/model.bril"), path(pairs, "pairs.jsonl"));
    let said = warnings(&["learn", &model, &text, "--out", &out, "--quiet"]);
    assert_eq!(said, "");
}

#[test]
fn a_corpus_of_images_alone_is_a_corpus() {
    let only_images = |recipe: &str, tokens: &str| {
        let recipe = recipe.replace("tokens = \"characters\"", &format!("tokens = \"{tokens}\""));
        let recipe = recipe.replace("[data.audio]\ncodes = 16\n", "");
        recipe.replace("pairs.jsonl", "images.jsonl")
    };
    cases(["characters", "bpe", "words"], |tokens| {
        let folder = tempfile::tempdir().unwrap();
        write_pairs(folder.path());
        let records = "{\"image\": \"left.png\"}\n{\"image\": \"right.png\"}\n".repeat(60);
        std::fs::write(folder.path().join("images.jsonl"), records).unwrap();
        let recipe = only_images(&short_recipe(), tokens);
        std::fs::write(folder.path().join("images.toml"), recipe).unwrap();
        let (recipe, out) = (
            path(folder.path(), "images.toml"),
            path(folder.path(), "run"),
        );
        succeeds(&["train", &recipe, "--out", &out, "--quiet"]);
        let model = path(folder.path(), "run/model.bril");
        let tokenizer = Model::open(model.as_ref(), Verify::Whole).unwrap();
        let codecs: Option<&Codecs> = tokenizer.tokenizer().codecs();
        assert_eq!(codecs.unwrap().codes(Modality::Image), Some(2));
    });
}

#[test]
fn checksums_include_the_files_of_records() {
    let folder = tempfile::tempdir().unwrap();
    write_pairs(folder.path());
    let lines = ["left.png", "right.png"].map(|name| {
        let sum = sha256(&folder.path().join(name)).unwrap();
        format!("{sum}  {name}\n")
    });
    // What `sha256sum *.png | sha256sum` prints.
    let listed = folder.path().join("listed");
    std::fs::write(&listed, lines.concat()).unwrap();
    let sum = sha256(&listed).unwrap();
    let train = |sum: &str, out: &str| {
        let section = format!("[data.sha256]\n\"image files\" = \"{sum}\"\n[profile]");
        let recipe = short_recipe().replace("[profile]", &section);
        std::fs::write(folder.path().join("pairs.toml"), recipe).unwrap();
        let (recipe, out) = (path(folder.path(), "pairs.toml"), path(folder.path(), out));
        run(&["train", &recipe, "--out", &out, "--quiet"])
    };
    stdout_of(&train(&sum, "first"), "the sum of both files");
    // A file changes, and the records that name it do not.
    halves(255, 9)
        .save(&folder.path().join("left.png"))
        .unwrap();
    let error = error_of(&train(&sum, "second"), "the sum of other files");
    assert!(
        error.contains("image files") && error.contains(&sum),
        "{error}"
    );
}

#[test]
fn a_sound_that_is_cut_is_reported() {
    let folder = trained_pairs();
    let (model, file) = (path(folder, "run/model.bril"), path(folder, "cut.wav"));
    let sound = [
        "generate",
        "left",
        "--model",
        &model,
        "--out-audio",
        &file,
        "--temperature",
        "0",
    ];
    let short = [&sound[..], &["--tokens", "3"]].concat();
    let said = warnings(&short);
    assert!(
        said.contains("cut after 3 codes") && said.contains("--tokens"),
        "{said}"
    );
    let finish = |arguments: &[&str]| {
        let report = json(&[arguments, &["--json"]].concat());
        report["audio"]["finish_reason"]
            .as_str()
            .unwrap()
            .to_string()
    };
    assert_eq!(finish(&short), "length");
    assert_eq!(warnings(&sound), "");
    assert_eq!(finish(&sound), "stop");
}

#[test]
fn a_sound_of_no_codes_is_refused() {
    let folder = trained_pairs();
    let (model, file) = (path(folder, "run/model.bril"), path(folder, "empty.wav"));
    let error = fails(&[
        "generate",
        "left",
        "--model",
        &model,
        "--out-audio",
        &file,
        "--tokens",
        "0",
    ]);
    assert!(
        error.contains("--tokens 0") && error.contains("raise --tokens"),
        "{error}"
    );
}

#[test]
fn byte_pairs_beside_codes_get_no_new_words() {
    let (folder, model) = trained_as(&short_recipe().replace("\"characters\"", "\"bpe\""));
    let text = path(folder.path(), "new.txt");
    std::fs::write(&text, "a numbat and a numbat and a numbat\n").unwrap();
    let out = path(folder.path(), "taught.bril");
    let learn = ["learn", &model, &text, "--out", &out, "--new-nodes", "5"];
    let error = fails(&learn);
    assert!(
        error.contains("images or sounds") && error.contains("--new-nodes"),
        "{error}"
    );
}
