//! Images and sounds in a graph: corpora, codebooks, model files, generation from and to files.
#![cfg(all(feature = "cli", feature = "modality"))]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use brillm::modality::{Codecs, Image, ImageSettings, MediaFile, Modality, Sound};
use brillm::model::{Model, Verify};
use brillm::text::{Corpus, CorpusOptions, Tokenizer};

mod support;
use support::*;

/// An image of 4 × 4 pixels, the left half of one brightness and the right half of another.
fn halves(left: u8, right: u8) -> Image {
    Image {
        width: 4,
        height: 4,
        pixels: [left, left, right, right].repeat(4),
    }
}

/// A tone of a quarter of a second.
fn tone(frequency: f32) -> Sound {
    let turn = std::f32::consts::TAU * frequency / 8000.0;
    Sound {
        rate: 8000,
        samples: (0..2000).map(|at| 0.5 * (turn * at as f32).sin()).collect(),
    }
}

const RECIPE: &str = r#"
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
const WORDS: [(&str, u8, u8, f32); 2] = [("left", 255, 0, 400.0), ("right", 0, 255, 1600.0)];

/// Write the corpus of pairs into a folder.
fn write_pairs(folder: &Path) {
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
fn trained_pairs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        made_once("modalities", |folder| {
            write_pairs(folder);
            std::fs::write(folder.join("pairs.toml"), RECIPE).unwrap();
            let (recipe, out) = (path(folder, "pairs.toml"), path(folder, "run"));
            succeeds(&["train", &recipe, "--out", &out, "--quiet"]);
        })
    })
}

fn media(folder: &Path, modality: Modality, names: &[&str]) -> Vec<MediaFile> {
    let file = |name: &&str| MediaFile {
        modality,
        path: folder.join(name),
        location: "pairs.jsonl line 1".into(),
    };
    names.iter().map(file).collect()
}

#[test]
fn parts_of_a_record_keep_their_order() {
    let folder = tempfile::tempdir().unwrap();
    write_pairs(folder.path());
    let files = media(folder.path(), Modality::Image, &["left.png", "right.png"]);
    let codecs = Codecs::learn(&files, Some(&ImageSettings::default()), None, 1).unwrap();
    let code = |path: &str| {
        let codes = codecs.encode_file(Modality::Image, &folder.path().join(path));
        Codecs::spell(Modality::Image, &codes.unwrap())
    };
    let (left, right) = (code("left.png"), code("right.png"));
    assert_ne!(left, right);
    cases(
        [
            (r#"{"image": "left.png", "text": "a"}"#, format!("{left}a")),
            (r#"{"text": "a", "image": "left.png"}"#, format!("a{left}")),
            (r#"{"image": "right.png"}"#, right),
            // Without a codec of sounds their field is another field.
            (r#"{"audio": "none.wav", "text": "a"}"#, "a".to_string()),
        ],
        |(record, expected)| {
            let file = folder.path().join("one.jsonl");
            std::fs::write(&file, record).unwrap();
            let corpus = Corpus::open(&[&file], CorpusOptions::default()).unwrap();
            let documents: Result<Vec<String>, _> = corpus.with_codecs(&codecs).collect();
            assert_eq!(documents.unwrap(), [expected.as_str()]);
        },
    );
}

#[test]
fn images_are_ignored_without_codecs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.jsonl");
    std::fs::write(
        &file,
        r#"{"image": "https://example.org/a.gif", "text": "a"}"#,
    )
    .unwrap();
    let corpus = Corpus::open(&[&file], CorpusOptions::default()).unwrap();
    assert_eq!(corpus.map(Result::unwrap).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn files_of_records_that_cannot_be_read_are_named_with_their_record() {
    let folder = tempfile::tempdir().unwrap();
    write_pairs(folder.path());
    std::fs::write(folder.path().join("text.png"), "not an image").unwrap();
    let files = media(folder.path(), Modality::Image, &["left.png"]);
    let codecs = Codecs::learn(&files, Some(&ImageSettings::default()), None, 1).unwrap();
    cases(
        [
            (r#"{"image": "missing.png"}"#, "missing.png"),
            (r#"{"image": "text.png"}"#, "not a PNG or PGM image"),
            (r#"{"image": "left.wav"}"#, "not a PNG or PGM image"),
            (r#"{"image": 7, "text": "a"}"#, "not the path of a file"),
        ],
        |(record, expected)| {
            let file = folder.path().join("one.jsonl");
            std::fs::write(&file, record).unwrap();
            let corpus = Corpus::open(&[&file], CorpusOptions::default()).unwrap();
            let documents: Result<Vec<String>, _> = corpus.with_codecs(&codecs).collect();
            let error = documents.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("one.jsonl line 1"), "{error}");
        },
    );
}

#[test]
fn every_kind_of_tokenizer_takes_the_tokens_of_codecs() {
    let folder = tempfile::tempdir().unwrap();
    write_pairs(folder.path());
    let image = folder.path().join("left.png");
    let files = media(folder.path(), Modality::Image, &["left.png", "right.png"]);
    let codecs = Codecs::learn(&files, Some(&ImageSettings::default()), None, 1).unwrap();
    let text = || ["left right".to_string()].into_iter();
    let pieces = br#"{"<end>": 0, "left": 1, " ": 2, "right": 3}"#;
    cases(
        [
            ("characters", Tokenizer::train_characters(text(), 300)),
            ("bpe", Tokenizer::train_bpe(text(), 260)),
            ("words", Tokenizer::train_words(text(), 10)),
            ("pieces", Tokenizer::from_authors(pieces)),
        ],
        |(name, tokenizer)| {
            let tokenizer = tokenizer.as_ref().unwrap().clone();
            let plain = tokenizer.encode("left").unwrap();
            let tokenizer = tokenizer.with_codecs(codecs.clone()).unwrap();
            let stored = Tokenizer::from_bytes(&tokenizer.to_bytes()).unwrap();
            assert_eq!(stored.codecs(), Some(&codecs), "{name}");
            let codes = stored.encode_file(Modality::Image, &image).unwrap();
            let spelled = Codecs::spell(Modality::Image, &stored.codes_of(Modality::Image, &codes));
            let expected = [codes.clone(), plain].concat();
            assert_eq!(stored.encode(&format!("{spelled}left")).unwrap(), expected);
            assert_eq!(
                stored.decode(&expected).trim(),
                "left",
                "codes are not text"
            );
            let decoded = stored.decode_image(&expected).unwrap();
            assert_eq!(decoded, halves(255, 0), "two kinds of patches are exact");
        },
    );
}

#[test]
fn damaged_codecs_of_a_vocabulary_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_pairs(folder.path());
    let files = media(folder.path(), Modality::Image, &["left.png", "right.png"]);
    let codecs = Codecs::learn(&files, Some(&ImageSettings::default()), None, 1).unwrap();
    let tokenizer = Tokenizer::train_characters(["a".to_string()].into_iter(), 300).unwrap();
    let json = String::from_utf8(tokenizer.with_codecs(codecs).unwrap().to_bytes()).unwrap();
    cases(
        [
            ("\"patch\":2", "\"patch\":0"),
            ("\"patch\":2", "\"patch\":3"),
            ("\"height\":4", "\"height\":99999999"),
            ("\"width\":4", "\"width\":0"),
            ("\"values\":[", "\"values\":[0.5,"),
            ("\"<image:1>\"", "\"<other>\""),
        ],
        |(from, to)| {
            assert!(json.contains(from), "{from}");
            let damaged = json.replacen(from, to, 1);
            assert!(Tokenizer::from_bytes(damaged.as_bytes()).is_err());
        },
    );
}

#[test]
fn a_graph_names_images_and_sounds_and_makes_them() {
    let folder = trained_pairs();
    let model = path(folder, "run/model.bril");
    for (word, left, right, _) in WORDS {
        for (option, file) in [("--image", "png"), ("--audio", "wav")] {
            let file = path(folder, &format!("{word}.{file}"));
            let report = json(&[
                "generate",
                "--model",
                &model,
                option,
                &file,
                "--temperature",
                "0",
                "--json",
            ]);
            assert_eq!(report["text"], word, "{option}");
        }
        let (png, wav) = (path(folder, "out.png"), path(folder, "out.wav"));
        succeeds(&[
            "generate",
            word,
            "--model",
            &model,
            "--temperature",
            "0",
            "--out-image",
            &png,
            "--out-audio",
            &wav,
        ]);
        let image = Image::open(png.as_ref(), None).unwrap();
        assert_eq!(image, halves(left, right));
        let sound = Sound::open(wav.as_ref(), None).unwrap();
        assert!((500..6000).contains(&sound.samples.len()));
    }
}

#[test]
fn an_image_leads_to_the_sound_of_its_word() {
    let folder = trained_pairs();
    let model_file = path(folder, "run/model.bril");
    let model = Model::open(model_file.as_ref(), Verify::Whole).unwrap();
    for (word, ..) in WORDS {
        let (image, out) = (
            path(folder, &format!("{word}.png")),
            path(folder, "through.wav"),
        );
        let report = json(&[
            "generate",
            "--model",
            &model_file,
            "--image",
            &image,
            "--temperature",
            "0",
            "--out-audio",
            &out,
            "--json",
        ]);
        assert_eq!(report["text"], word);
        let wanted = model
            .tokenizer()
            .encode_file(Modality::Audio, &folder.join(format!("{word}.wav")));
        let wanted = model
            .tokenizer()
            .codes_of(Modality::Audio, &wanted.unwrap());
        let ids: Vec<u32> = serde_json::from_value(report["audio"]["ids"].clone()).unwrap();
        let found = model.tokenizer().codes_of(Modality::Audio, &ids);
        assert_eq!(found[..4], wanted[..4], "{word}");
    }
}

#[test]
fn models_and_files_that_do_not_fit_are_refused() {
    let folder = trained_pairs();
    let model = path(folder, "run/model.bril");
    let (png, wav) = (path(folder, "left.png"), path(folder, "left.wav"));
    let none = path(folder, "none.png");
    let bad_ending = path(folder, "out.gif");
    let with = |more: &[&str]| -> Vec<String> {
        let start = ["generate", "--model", &model];
        start
            .iter()
            .chain(more)
            .map(|word| word.to_string())
            .collect()
    };
    let builtin = |more: &[&str]| more.iter().map(|word| word.to_string()).collect::<Vec<_>>();
    cases(
        [
            (with(&["--image", &none]), "none.png"),
            (with(&["--image", &wav]), "not a PNG or PGM image"),
            (with(&["--audio", &png]), "not a WAV sound"),
            (with(&["left", "--out-image", &bad_ending]), "known format"),
            (builtin(&["generate", "--image", &png]), "without images"),
            (
                builtin(&["generate", "a", "--out-audio", &wav]),
                "without sounds",
            ),
            (builtin(&["trace", "--audio", &wav]), "without sounds"),
        ],
        |(arguments, expected)| {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let error = fails(&arguments);
            assert!(error.contains(expected), "{error}");
        },
    );
}

#[test]
fn a_corpus_without_the_files_of_its_settings_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("pairs.jsonl"),
        "{\"text\": \"left\"}\n".repeat(90),
    )
    .unwrap();
    std::fs::write(folder.path().join("pairs.toml"), RECIPE).unwrap();
    let recipe = path(folder.path(), "pairs.toml");
    let error = fails(&[
        "train",
        &recipe,
        "--out",
        &path(folder.path(), "run"),
        "--quiet",
    ]);
    assert!(
        error.contains("field \"image\"") && error.contains("[data.image]"),
        "{error}"
    );
}

#[test]
fn a_trace_shows_the_patch_or_the_spectrum_of_a_code() {
    let folder = trained_pairs();
    let model = path(folder, "run/model.bril");
    let shown = |option: &str, file: &str| {
        let file = path(folder, file);
        let trace = json(&[
            "trace", "--model", &model, option, &file, "--tokens", "2", "--json",
        ]);
        let tokens = trace["tokens"].as_array().unwrap();
        tokens
            .iter()
            .find_map(|token| token.get("code").cloned())
            .unwrap()
    };
    let patch = shown("--image", "left.png");
    assert_eq!(patch["modality"], "image");
    assert_eq!(patch["columns"], 2);
    assert_eq!(patch["values"], serde_json::json!([255, 255, 255, 255]));
    let spectrum = shown("--audio", "left.wav");
    assert_eq!(spectrum["modality"], "audio");
    assert_eq!(spectrum["values"].as_array().unwrap().len(), 32);
    assert!(
        spectrum["values"]
            .as_array()
            .unwrap()
            .iter()
            .any(|level| level.as_u64() > Some(200))
    );
}

#[test]
fn an_image_is_not_searched_for_by_beams() {
    let output = run(&["generate", "a", "--out-image", "a.png", "--beam", "2"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text_of(&output.stderr).contains("cannot be used with"));
}

#[test]
fn images_of_a_text_are_learned_and_measured_with_it() {
    let folder = trained_pairs();
    let model = path(folder, "run/model.bril");
    let counted = |name: &str, record: &str| {
        let file = folder.join(name);
        std::fs::write(&file, record).unwrap();
        let (file, out) = (file.to_str().unwrap(), path(folder, "taught.bril"));
        let taught = json(&["learn", &model, file, "--out", &out, "--json", "--quiet"]);
        let measured = json(&["eval", "--model", &model, file, "--documents", "--json"]);
        [&taught["record"]["tokens"], &measured["tokens"]].map(|count| count.as_u64().unwrap())
    };
    let alone = counted("alone.jsonl", "{\"text\": \"left right\"}\n");
    let pair = counted(
        "pair.jsonl",
        "{\"image\": \"left.png\", \"text\": \"left right\"}\n",
    );
    // Begin and end of the image, and its four codes.
    let more: Vec<u64> = pair
        .iter()
        .zip(alone)
        .map(|(with, without)| with - without)
        .collect();
    assert_eq!(more, [6, 6]);
}
