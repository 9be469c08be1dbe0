//! Growth is exact: a larger model says what it said, and what is new in it can learn.
#![cfg(all(feature = "cli", feature = "transformer"))]

use std::path::Path;

use brillm::graph::GraphBuilder;
use brillm::kernel::random::Random;
use brillm::kernel::table::Table;
use brillm::model::{Metadata, Model, Verify};
use brillm::signal::{Mechanism, Profile, Start, Weights};
use brillm::text::Tokenizer;
use serde_json::Value;

mod support;
use support::{fails, json as report, path, root, succeeds};

const TOLERANCE: f64 = 1e-4;

/// A graph of a few nodes with random weights.
fn random_graph(profile: Profile) -> Model {
    let nodes = 20;
    let mut random = Random::new(3);
    let mut builder = GraphBuilder::new(nodes);
    builder
        .walk((0..400).map(|_| (random.below(nodes as u64)) as u32))
        .unwrap();
    let mut graph = builder.build().unwrap();
    graph.set_own_minimum(2);
    let weights = Weights::gather(&profile, nodes, graph.own_edges(), |block| {
        let values: Vec<f32> = (0..block.rows * block.columns)
            .map(|_| 0.4 * random.normal() as f32)
            .collect();
        Ok(Some(Table::of(&values, block.rows, block.columns)))
    })
    .unwrap();
    let mechanism = Mechanism::new(profile.clone(), graph, weights).unwrap();
    let metadata = Metadata {
        name: "random".into(),
        license: "CC0-1.0".into(),
        profile,
        own_minimum: 2,
        direction: Default::default(),
        charges: None,
        recall: None,
        training: Value::Null,
    };
    Model::new(metadata, Tokenizer::ids(nodes).unwrap(), mechanism).unwrap()
}

/// The largest difference of any energy along a path.
fn difference(one: &Model, other: &Model) -> f64 {
    let nodes = one.mechanism().nodes();
    let (mut a, mut b) = (vec![0.0; nodes], vec![0.0; nodes]);
    let mut first = one.mechanism().begin(1, &Start::Profile).unwrap();
    let mut second = other.mechanism().begin(1, &Start::Profile).unwrap();
    let mut worst = 0.0;
    for next in [3, 7, 7, 0, 19, 4, 11, 2, 3, 16] {
        one.mechanism().energies(&first, &mut a).unwrap();
        other.mechanism().energies(&second, &mut b).unwrap();
        for (&a, &b) in a.iter().zip(&b) {
            assert!(a.is_finite() && b.is_finite());
            worst = f64::max(
                worst,
                f64::from((a - b).abs()) / f64::from(a.abs()).max(1.0),
            );
        }
        one.mechanism().hop(&mut first, next).unwrap();
        other.mechanism().hop(&mut second, next).unwrap();
    }
    worst
}

#[test]
fn graphs_of_every_form_grow_exactly() {
    let composed = Profile {
        rank: 3,
        residual: Some(2),
        ..Profile::sifu(6)
    };
    let profiles = [
        Profile::reference(6),
        Profile::sifu(6),
        Profile::sifu_own(6),
        Profile::layered(6),
        composed,
    ];
    for profile in profiles {
        let model = random_graph(profile.clone());
        // Not a multiple, then once more.
        let grown = model.widened(10).unwrap();
        let twice = grown.widened(17).unwrap();
        for grown in [&grown, &twice] {
            let gap = difference(&model, grown);
            assert!(gap < TOLERANCE, "{}: {gap}", profile.name);
        }
        let stirred = grown.stirred(6, 1e-3, 0).unwrap();
        let gap = difference(&model, &stirred);
        assert!(gap > 0.0 && gap < 0.05, "{}: {gap}", profile.name);
        // Without the old table and level, or the smaller gain, it would say something else.
        let formed = &grown.metadata().profile;
        if profile.name == "reference" {
            assert_eq!(formed.grown_from, Some(6));
            let naive = Profile {
                grown_from: None,
                ..formed.clone()
            };
            let mechanism = Mechanism::new(
                naive.clone(),
                grown.mechanism().graph().clone(),
                grown.mechanism().weights().clone(),
            )
            .unwrap();
            let naive = Model::new(
                Metadata {
                    profile: naive,
                    ..grown.metadata().clone()
                },
                Tokenizer::ids(20).unwrap(),
                mechanism,
            )
            .unwrap();
            assert!(difference(&model, &naive) > 100.0 * TOLERANCE);
        }
        assert!(model.widened(6).is_err() && model.widened(5000).is_err());
    }
}

#[test]
fn the_english_model_grows_and_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let out = path(folder.path(), "wide.bril");
    let english = root().join("models/english.bril");
    let width = Model::open(&english, Verify::Lazy)
        .unwrap()
        .metadata()
        .profile
        .width
        + 8;
    let grown = report(&[
        "grow",
        "models/english.bril",
        "--width",
        &width.to_string(),
        "--out",
        &out,
        "--json",
    ]);
    assert!(grown["difference"].as_f64().unwrap() <= TOLERANCE);
    assert!(grown["parameters"].as_u64() > grown["parameters_before"].as_u64());
    let model = Model::open(Path::new(&out), Verify::Whole).unwrap();
    assert_eq!(model.metadata().profile.width, width);
    assert_eq!(model.metadata().training["growth"]["noise"], 1e-3f32);
    let say = |model: &str| {
        let arguments = [
            "generate",
            "Once upon a time",
            "--model",
            model,
            "--temperature",
            "0",
            "--tokens",
            "12",
        ];
        succeeds(&arguments)
    };
    assert_eq!(say(&out), say("models/english.bril"));
    let wrong = fails(&[
        "grow",
        "models/english.bril",
        "--layers",
        "3",
        "--out",
        &out,
    ]);
    assert!(wrong.contains("only the width of a graph"), "{wrong}");
}

#[test]
fn transformers_grow_exactly_and_wrong_sizes_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| path(folder.path(), name);
    let gpt2 = "tests/golden/transformer/capp-gpt2";
    let shape: Value =
        serde_json::from_slice(&std::fs::read(root().join(gpt2).join("config.json")).unwrap())
            .unwrap();
    let doubled = (2 * shape["n_embd"].as_u64().unwrap()).to_string();
    let deeper = (shape["n_layer"].as_u64().unwrap() + 2).to_string();
    let cases: [(&str, &str, Vec<&str>); 5] = [
        ("models/stories260K", "wide", vec!["--width", "100"]),
        ("models/stories260K", "deep", vec!["--layers", "8"]),
        ("models/stories260K", "heads", vec!["--heads", "12"]),
        (
            "models/stories260K",
            "all",
            vec!["--width", "96", "--layers", "7", "--heads", "10"],
        ),
        (gpt2, "gpt2", vec!["--width", &doubled, "--layers", &deeper]),
    ];
    for (model, name, sizes) in cases {
        let path = out(name);
        let mut arguments = vec!["grow", model, "--out", &path, "--json"];
        arguments.extend(sizes);
        let grown = report(&arguments);
        assert!(
            grown["difference"].as_f64().unwrap() <= TOLERANCE,
            "{grown}"
        );
        let stirred = grown["difference_with_noise"].as_f64().unwrap();
        // Layers and heads that give nothing stay silent; new components of the stream are heard.
        assert!(
            stirred < 0.2 && (stirred > 0.0 || ["deep", "heads"].contains(&name)),
            "{grown}"
        );
        let before = brillm::transformer::Transformer::open(&root().join(model)).unwrap();
        let after = brillm::transformer::Transformer::open(Path::new(&path)).unwrap();
        assert!(after.body().parameters() > before.body().parameters());
    }
    let path = out("no");
    for (model, sizes, said) in [
        ("models/stories260K", ["--width", "32"], "cannot shrink"),
        ("models/stories260K", ["--layers", "5"], "no size is larger"),
        ("models/stories260K", ["--heads", "9"], "groups"),
        (gpt2, ["--width", "1000001"], "multiple"),
        (
            "tests/golden/transformer/bert-random",
            ["--layers", "9"],
            "bert",
        ),
    ] {
        let wrong = fails(&["grow", model, sizes[0], sizes[1], "--out", &path]);
        assert!(wrong.contains(said), "{wrong}");
        assert!(!Path::new(&path).exists());
    }
}

/// Growth in the middle of training: the run goes on from what was grown, and the new numbers move.
#[test]
fn what_has_grown_learns() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| path(folder.path(), name);
    let text = "the crow finds a jug . the fox sees the crow . a jug is here . ".repeat(30);
    std::fs::write(folder.path().join("text.txt"), text).unwrap();
    let recipe = |extra: &str, body: &str| {
        format!(
            "name = \"small\"\n{extra}\n[data]\ntrain = [\"text.txt\"]\nvalidation-fraction = 0\nvocabulary = 280\n{body}\n\
             [train]\ntokens = 960\nbatch = 4\nsteps = 12\nfolds = 0\nwarmup = 1\n"
        )
    };
    for (kind, body, wider, file_of) in [
        (
            "",
            "[profile]\nwidth = 8",
            "[profile]\nwidth = 12",
            "model.bril",
        ),
        (
            "",
            "[profile]\npreset = \"reference\"\nwidth = 8",
            "[profile]\npreset = \"reference\"\nwidth = 12\ngrown-from = 8",
            "model.bril",
        ),
        (
            "kind = \"gpt\"",
            "[network]\nwidth = 8\nlayers = 1\nheads = 2",
            "",
            "model",
        ),
    ] {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let out =
            |folder: &tempfile::TempDir| folder.path().join("run").to_str().unwrap().to_string();
        std::fs::write(file("one.toml"), recipe(kind, body)).unwrap();
        report(&[
            "train",
            &file("one.toml"),
            "--quiet",
            "--json",
            "--out",
            &out(&first),
        ]);
        let trained = format!("{}/{file_of}", out(&first));
        let wide = first.path().join(file_of).to_str().unwrap().to_string();
        let mut grow = vec!["grow", &trained, "--width", "12", "--out", &wide, "--json"];
        if file_of == "model" {
            grow.extend(["--layers", "2"]);
        }
        report(&grow);
        let more = format!("{kind}\ninitial = {wide:?}");
        std::fs::write(file("two.toml"), recipe(&more, wider)).unwrap();
        let went_on = report(&[
            "train",
            &file("two.toml"),
            "--quiet",
            "--json",
            "--out",
            &out(&second),
        ]);
        assert_eq!(went_on["steps"], 20);
        let after = format!("{}/{file_of}", out(&second));
        if file_of == "model" {
            let read =
                |path: &str| brillm::transformer::folder::read_weights(Path::new(path)).unwrap();
            let (before, after) = (read(&wide), read(&after));
            let name = "model.layers.1.self_attn.o_proj.weight";
            let numbers = |weights: &brillm::transformer::Weights| -> Vec<f32> {
                let (_, tensor) = weights.iter().find(|(found, _)| *found == name).unwrap();
                tensor.flatten_all().unwrap().to_vec1().unwrap()
            };
            let moved = numbers(&before)
                .iter()
                .zip(numbers(&after))
                .filter(|(a, b)| *a != b)
                .count();
            assert_eq!(moved, numbers(&before).len());
        } else {
            let read = |path: &str| Model::open(Path::new(path), Verify::Whole).unwrap();
            let (before, after) = (read(&wide), read(&after));
            assert_eq!(after.metadata().profile, before.metadata().profile);
            assert!(difference_of_new(&before, &after) > 0.0);
        }
    }
}

/// How far the new columns of what nodes start with, or are reached with, have moved.
fn difference_of_new(before: &Model, after: &Model) -> f64 {
    let table = |model: &Model| {
        let name = match model.metadata().profile.form {
            brillm::signal::EdgeForm::Own => "node.start",
            brillm::signal::EdgeForm::Composed | brillm::signal::EdgeForm::Layered => "node.target",
        };
        model.mechanism().weights().table(name).to_vec()
    };
    table(before)
        .iter()
        .zip(table(after))
        .enumerate()
        .filter(|(at, _)| at % 12 >= 8)
        .map(|(_, (a, b))| f64::from((a - b).abs()))
        .sum()
}
