//! Fine-tuning: labels that can be learned are learned, by every kind of network; a saved model says the same again.
#![cfg(feature = "transformer")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use brillm::hook::Hooks;
use brillm::learn::{ProgressObserver, Recipe};
use brillm::run::prepare_training;
use brillm::text::LabelledText;
use brillm::transformer::{Classifier, FineTuner, FineTuning, evaluate_classifier};

mod support;

struct Silent;

impl ProgressObserver for Silent {}

/// A network trained for a moment, as a folder.
fn network(folder: &Path, kind: &str, network: &str) -> PathBuf {
    let text = "the sun shone on the sea and the cat sat by the tree\na dog ran home\n".repeat(40);
    std::fs::write(folder.join("text.txt"), text).unwrap();
    let recipe = format!(
        "name = \"{kind}\"\nkind = \"{kind}\"\n[data]\ntrain = [\"text.txt\"]\nvalidation-fraction = 0.1\n\
         tokens = \"bpe\"\nvocabulary = 290\n[network]\nwidth = 32\nlayers = 2\nheads = 2\ncontext = 24\n{network}\n\
         [train]\nbatch = 4\nsteps = 12\ntokens = 480\nrate = 3e-3\n"
    );
    let recipe = Recipe::parse(&recipe, &[]).unwrap();
    let out = folder.join("run");
    let mut trainer =
        prepare_training(recipe, folder, &out, false, &Hooks::default(), &mut Silent).unwrap();
    trainer
        .run(&Arc::new(AtomicBool::new(false)), &mut Silent)
        .unwrap()
        .model
}

/// Texts of two animals in many places; the label is the animal, or whether a pair has the same one.
fn texts(pairs: bool) -> Vec<LabelledText> {
    let places = [
        "by the tree",
        "on the sea",
        "at home",
        "in the sun",
        "near a hut",
    ];
    let deeds = ["sat", "ran", "slept", "ate"];
    let mut texts = Vec::new();
    for (index, place) in places.iter().enumerate() {
        for deed in deeds {
            for animal in ["cat", "dog"] {
                let other = if index % 2 == 0 { "cat" } else { "dog" };
                texts.push(LabelledText {
                    text: format!("the {animal} {deed} {place}"),
                    pair: pairs.then(|| format!("a {other}")),
                    label: if pairs {
                        (animal == other).to_string()
                    } else {
                        animal.to_string()
                    },
                });
            }
        }
    }
    texts
}

fn tuning(epochs: usize) -> FineTuning {
    FineTuning {
        epochs,
        batch: 8,
        rate: 3e-3,
        dropout: 0.0,
        seed: 3,
        ..FineTuning::default()
    }
}

#[test]
fn every_kind_learns_labels_and_a_saved_model_says_the_same() {
    for (kind, network_keys) in [
        ("bert", ""),
        ("gpt", "kv-heads = 1"),
        ("gpt", "style = \"gpt2\""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let model = network(folder.path(), kind, network_keys);
        let texts = texts(false);
        // Every fourth text is held out.
        let (held, train): (Vec<_>, Vec<_>) = texts
            .iter()
            .cloned()
            .enumerate()
            .partition(|(index, _)| index / 2 % 4 == 1);
        let plain = |list: Vec<(usize, LabelledText)>| -> Vec<LabelledText> {
            list.into_iter().map(|(_, text)| text).collect()
        };
        let (held, train) = (plain(held), plain(train));
        let mut tuner = FineTuner::new(&model, &train, tuning(12)).unwrap();
        let before = evaluate_classifier(tuner.classifier(), &held).unwrap();
        tuner
            .run(&Arc::new(AtomicBool::new(false)), &mut |_, _| ())
            .unwrap();
        let after = evaluate_classifier(tuner.classifier(), &held).unwrap();
        assert!(after.accuracy >= 0.9, "{kind}: {before:?} {after:?}");
        let out = folder.path().join("tuned");
        tuner.save(&out).unwrap();
        let opened = Classifier::open(&out).unwrap();
        assert_eq!(opened.labels(), ["cat", "dog"]);
        assert_eq!(
            opened.predict(&held).unwrap(),
            tuner.classifier().predict(&held).unwrap(),
            "{kind}"
        );
        // It is a model of its kind still.
        brillm::transformer::Transformer::open(&out).unwrap();
    }
}

#[test]
fn pairs_are_told_apart_by_type_and_batches_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let model = network(folder.path(), "bert", "");
    let texts = texts(true);
    let mut tuner = FineTuner::new(&model, &texts, tuning(40)).unwrap();
    tuner
        .run(&Arc::new(AtomicBool::new(false)), &mut |_, _| ())
        .unwrap();
    let classifier = tuner.classifier();
    let figures = evaluate_classifier(classifier, &texts).unwrap();
    assert!(figures.accuracy > 0.95, "{figures:?}");
    // Texts of other lengths in a batch are padding to each other: each alone gets the same answer.
    let together = classifier.predict(&texts).unwrap();
    for (text, told) in texts.iter().zip(&together).step_by(7) {
        let alone = classifier.predict(std::slice::from_ref(text)).unwrap();
        for (a, b) in alone[0].probabilities.iter().zip(&told.probabilities) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
    // A text beyond the context is cut, not refused.
    let long = LabelledText {
        text: "the cat sat ".repeat(40),
        pair: Some("a dog ".repeat(40)),
        label: String::new(),
    };
    assert_eq!(classifier.predict(&[long]).unwrap().len(), 1);
}

#[test]
fn a_seed_repeats_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let model = network(folder.path(), "bert", "");
    let texts = texts(false);
    let told = || {
        let mut tuner = FineTuner::new(&model, &texts, tuning(2)).unwrap();
        tuner
            .run(&Arc::new(AtomicBool::new(false)), &mut |_, _| ())
            .unwrap();
        tuner.classifier().predict(&texts).unwrap()
    };
    assert_eq!(told(), told());
}

#[cfg(feature = "cli")]
#[test]
fn the_command_tunes_measures_and_tells() {
    let folder = tempfile::tempdir().unwrap();
    let model = network(folder.path(), "bert", "");
    let path = |name: &str| folder.path().join(name);
    let lines: String = texts(false)
        .iter()
        .map(|text| format!("{}\t{}\n", text.label, text.text))
        .collect();
    std::fs::write(path("train.tsv"), lines).unwrap();
    let classify = |arguments: &[&str]| {
        let arguments = [&["classify"], arguments].concat();
        let output = support::brillm(&arguments)
            .current_dir(folder.path())
            .output();
        output.unwrap()
    };
    let good = |arguments: &[&str]| support::stdout_of(&classify(arguments), "classify");
    let bad = |arguments: &[&str]| support::error_of(&classify(arguments), "classify");
    let model = model.to_str().unwrap();
    let tune = [
        "--model",
        model,
        "--train",
        "train.tsv",
        "--out",
        "tuned",
        "--fields",
        "1,2",
        "--epochs",
        "8",
        "--rate",
        "3e-3",
        "--json",
        "train.tsv",
    ];
    let out = good(&tune);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let figures = &report["measured"][0]["figures"];
    assert!(figures["accuracy"].as_f64().unwrap() > 0.9, "{out}");
    assert_eq!(figures["texts"], 40);
    // The saved model gives the same figures, and tells bare texts.
    let out = good(&["--model", "tuned", "--fields", "1,2", "--json", "train.tsv"]);
    let again: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(&again["measured"][0]["figures"], figures);
    std::fs::write(
        path("bare.txt"),
        "the dog ran home\n\nthe cat sat at home\n",
    )
    .unwrap();
    let out = good(&["--model", "tuned", "--predict", "bare.txt"]);
    let labels: Vec<&str> = out
        .lines()
        .filter_map(|line| line.split('\t').next())
        .collect();
    assert_eq!(labels, ["dog", "cat"]);
    // Mistakes are named.
    let error = bad(&["--model", model, "--predict", "bare.txt"]);
    assert!(error.contains("--train"), "{error}");
    let error = bad(&["--model", "tuned", "--fields", "1,9", "train.tsv"]);
    assert!(error.contains("column 9"), "{error}");
}

/// A BertForSequenceClassification, which has no language-model head: `tests/golden/classifier/make.py` made it.
#[test]
fn a_classifier_of_hugging_face_predicts_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/classifier");
    let classifier = Classifier::open(&folder).unwrap();
    assert_eq!(classifier.labels(), ["bad", "good", "neither"]);
    let golden = std::fs::read_to_string(folder.join("golden.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&golden).unwrap();
    let rows = golden.as_array().unwrap();
    let texts: Vec<LabelledText> = rows
        .iter()
        .map(|row| LabelledText {
            text: row["text"].as_str().unwrap().into(),
            pair: row["pair"].as_str().map(str::to_string),
            label: String::new(),
        })
        .collect();
    let predictions = classifier.predict(&texts).unwrap();
    assert_eq!(predictions.len(), 3);
    for (row, found) in rows.iter().zip(&predictions) {
        let expected = support::transformer::floats(&row["probabilities"]);
        support::transformer::near(
            &found.probabilities,
            &expected,
            1e-5,
            &row["text"].to_string(),
        );
    }
}
