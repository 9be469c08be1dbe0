//! Images and sounds in a graph: corpora, codebooks, model files, generation from and to files.
#![cfg(all(feature = "cli", feature = "modality"))]

use std::path::Path;

use brillm::modality::{Codecs, Image, ImageSettings, MediaFile, Modality, Sound};
use brillm::model::{Model, Verify};
use brillm::text::{Corpus, CorpusOptions, Tokenizer};

mod support;
use support::pairs::*;
use support::*;

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
            // Exporters write null for what a record does not have.
            (r#"{"image": null, "text": "a"}"#, "a".to_string()),
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

/// The tokens of a run, one list for each document.
fn documents_of(run: &Path, name: &str, end: u32) -> Vec<Vec<u32>> {
    let bytes = std::fs::read(run.join(name)).unwrap();
    let ids = bytes
        .chunks_exact(4)
        .map(|id| u32::from_le_bytes(id.try_into().unwrap()));
    let ids: Vec<u32> = ids.collect();
    let documents = ids.split_inclusive(|&id| id == end);
    documents.map(<[u32]>::to_vec).collect()
}

#[test]
fn a_few_records_are_held_out_whole() {
    let folder = tempfile::tempdir().unwrap();
    write_pairs(folder.path());
    let records = std::fs::read_to_string(folder.path().join("pairs.jsonl")).unwrap();
    let few: String = records.split_inclusive('\n').take(30).collect();
    std::fs::write(folder.path().join("pairs.jsonl"), few).unwrap();
    let recipe = PAIRS_RECIPE
        .replace("validation = \"pairs.jsonl\"\n", "")
        .replace("tokens = 60_000", "tokens = 400")
        .replace("steps = 24", "steps = 4");
    std::fs::write(folder.path().join("pairs.toml"), recipe).unwrap();
    let (recipe, out) = (
        path(folder.path(), "pairs.toml"),
        path(folder.path(), "run"),
    );
    succeeds(&["train", &recipe, "--out", &out, "--quiet"]);
    let run = folder.path().join("run");
    let model = Model::open(&run.join("model.bril"), Verify::Whole).unwrap();
    let tokenizer = model.tokenizer();
    let end = tokenizer.vocabulary().stop().unwrap();
    let [train, held_out] =
        ["train.tokens", "validation.tokens"].map(|name| documents_of(&run, name, end));
    assert_eq!(train.len() + held_out.len(), 30);
    assert!(!held_out.is_empty());
    let marks = Modality::ALL.map(|modality| {
        let tokens = tokenizer.modality_tokens(modality).unwrap();
        (tokens.begin, tokens.end)
    });
    for document in train.iter().chain(&held_out) {
        let whole =
            |&(begin, end): &(u32, u32)| document.contains(&begin) && document.contains(&end);
        assert!(marks.iter().any(whole), "{document:?}");
    }
}

#[test]
fn text_that_looks_like_an_image_is_split_as_any_text() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "A thirsty crow found a jug of water.\n".repeat(1500);
    std::fs::write(
        folder.path().join("pairs.txt"),
        lines + "Use the <audio> element.\n",
    )
    .unwrap();
    let recipe = "name = \"text\"\nlicense = \"CC0-1.0\"\n[data]\ntrain = \"pairs.txt\"\ntokens = \"characters\"\nvocabulary = 300\n\
                  [profile]\npreset = \"layered\"\nwidth = 8\nlayers = 1\n[train]\ntokens = 400\nbatch = 4\nsteps = 16\n";
    std::fs::write(folder.path().join("text.toml"), recipe).unwrap();
    let (recipe, out) = (path(folder.path(), "text.toml"), path(folder.path(), "run"));
    succeeds(&["train", &recipe, "--out", &out, "--quiet"]);
    let run = folder.path().join("run");
    let model = Model::open(&run.join("model.bril"), Verify::Whole).unwrap();
    let end = model.tokenizer().vocabulary().stop().unwrap();
    assert!(documents_of(&run, "train.tokens", end).len() > 3);
}

#[test]
fn hostile_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    tone(400.0).save(&folder.path().join("a.wav")).unwrap();
    let whole = std::fs::read(folder.path().join("a.wav")).unwrap();
    let mut slow = whole.clone();
    // The sampling rate of the header, and the bytes per second of 16-bit samples.
    slow[24..28].copy_from_slice(&1u32.to_le_bytes());
    slow[28..32].copy_from_slice(&2u32.to_le_bytes());
    let error = Sound::from_bytes(&slow, Some(48_000))
        .unwrap_err()
        .to_string();
    assert!(error.contains("invalid sampling rate 1"), "{error}");
    let error = Sound::from_bytes(&whole[..60], None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("cut short"), "{error}");
    let error = Image::open(folder.path(), None).unwrap_err().to_string();
    assert!(error.contains("regular file"), "{error}");
    #[cfg(unix)]
    for error in [
        Image::open("/dev/zero".as_ref(), None).unwrap_err(),
        Sound::open("/dev/zero".as_ref(), None).unwrap_err(),
    ] {
        assert!(error.to_string().contains("regular file"), "{error}");
    }
}

#[test]
fn transparent_images_are_shown_on_white() {
    // A PNG of grey and alpha, 2 x 1: transparent black, then opaque black.
    let png = [
        0x89, 0x50, 0x4e, 0x47, 0xd, 0xa, 0x1a, 0xa, 0, 0, 0, 0xd, 0x49, 0x48, 0x44, 0x52, 0, 0, 0,
        2, 0, 0, 0, 1, 8, 4, 0, 0, 0, 0x5e, 0x2b, 0xb7, 1, 0, 0, 0, 0xd, 0x49, 0x44, 0x41, 0x54,
        0x78, 0x9c, 0x63, 0x60, 0x60, 0x60, 0xf8, 0xf, 0, 1, 4, 1, 0, 0x5f, 0xe5, 0xc3, 0x4b, 0, 0,
        0, 0, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
    ];
    let image = Image::from_bytes(&png, None).unwrap();
    assert_eq!((image.width, image.height), (2, 1));
    assert_eq!(image.pixels, [255, 0]);
}

#[test]
fn networks_do_not_train_on_images() {
    let folder = tempfile::tempdir().unwrap();
    write_pairs(folder.path());
    let profile = PAIRS_RECIPE.find("[profile]").unwrap()..PAIRS_RECIPE.find("[train]").unwrap();
    let mut recipe = PAIRS_RECIPE.to_string();
    recipe.replace_range(profile, "");
    let recipe = recipe.replace("seed = 3", "seed = 3\nkind = \"gpt\"");
    std::fs::write(folder.path().join("pairs.toml"), recipe).unwrap();
    let error = fails(&["train", &path(folder.path(), "pairs.toml"), "--quiet"]);
    assert!(error.contains("apply to graphs only"), "{error}");
}

#[test]
fn new_words_are_not_names_of_codes() {
    let folder = trained_pairs();
    let model = Model::open(&folder.join("run/model.bril"), Verify::Whole).unwrap();
    let tokenizer = model.tokenizer();
    let left = Codecs::spell(Modality::Image, &[0, 1]).repeat(4);
    let (_, new) = tokenizer
        .with_words(&[format!("zebra {left} zebra")], 99)
        .unwrap();
    assert!(new.iter().any(|token| token.text == "z"), "{new:?}");
    assert!(
        new.iter().all(|token| !"<>:/".contains(&token.text)),
        "{new:?}"
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
    std::fs::write(folder.path().join("pairs.toml"), PAIRS_RECIPE).unwrap();
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

/// The pictures of codes in an SVG: for each, the fills and heights of its rectangles without the frame.
fn tiles(svg: &str) -> Vec<Vec<(String, f32)>> {
    let document = roxmltree::Document::parse(svg).unwrap();
    let is_tile = |node: &roxmltree::Node| node.attribute("class") == Some("code");
    let tiles = document.descendants().filter(is_tile);
    let rects = |tile: roxmltree::Node| {
        let rects = tile.children().filter(|node| node.has_tag_name("rect"));
        let filled = rects.filter(|rect| rect.attribute("fill") != Some("none"));
        filled
            .map(|rect| {
                let height = rect.attribute("height").unwrap().parse().unwrap();
                (rect.attribute("fill").unwrap().to_string(), height)
            })
            .collect()
    };
    tiles.map(rects).collect()
}

#[test]
fn an_exported_trace_shows_patches_and_spectra() {
    let folder = trained_pairs();
    let (model, svg) = (path(folder, "run/model.bril"), path(folder, "trace.svg"));
    let exported = |theme: &str, option: &str, file: &str| {
        let file = path(folder, file);
        let trace = json(&[
            "trace", "left", "--model", &model, option, &file, "--tokens", "1", "--export", &svg,
            "--theme", theme, "--json",
        ]);
        let picture = std::fs::read_to_string(&svg).unwrap();
        // The picture can be opened again, with the codes of candidates.
        assert_eq!(json(&["trace", "--open", &svg, "--json"]), trace);
        (trace, tiles(&picture))
    };
    for theme in ["light", "dark"] {
        for (option, file) in [("--image", "left.png"), ("--audio", "left.wav")] {
            let (trace, tiles) = exported(theme, option, file);
            let candidates = trace["steps"][0]["candidates"].as_array().unwrap();
            let last = &trace["tokens"][trace["prompt_tokens"].as_u64().unwrap() as usize - 1];
            let shown = std::iter::once(last).chain(candidates);
            let codes: Vec<_> = shown.filter_map(|token| token.get("code")).collect();
            assert!(codes.len() > 3, "{option}");
            assert_eq!(tiles.len(), codes.len(), "{option}");
            for (tile, code) in tiles.iter().zip(codes) {
                let values: Vec<u8> = serde_json::from_value(code["values"].clone()).unwrap();
                if code["modality"] == "image" {
                    // Every patch of the test images has one brightness: a rectangle for each of its rows.
                    let fill = format!("rgb({0},{0},{0})", values[0]);
                    assert_eq!(tile, &vec![(fill, 8.0); 2], "{values:?}");
                } else {
                    assert_eq!(tile.len(), 32);
                    for ((_, height), value) in tile.iter().zip(values) {
                        assert!((height - 16.0 * f32::from(value) / 255.0).abs() < 0.006);
                    }
                }
            }
        }
    }
}

#[test]
fn a_trace_of_text_has_no_pictures_of_codes() {
    let folder = tempfile::tempdir().unwrap();
    let svg = path(folder.path(), "trace.svg");
    succeeds(&["trace", "Once", "--tokens", "1", "--export", &svg]);
    let picture = std::fs::read_to_string(&svg).unwrap();
    assert!(picture.contains("<svg") && tiles(&picture).is_empty());
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
