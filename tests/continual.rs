//! Continual learning: a text changes the rows that it touches and nothing else, and can be taken back.
#![cfg(all(feature = "cli", feature = "transformer"))]

use std::path::Path;

use brillm::graph::{AddedText, GraphBuilder, NodeId, PathGraph, PathSettings, TokenGraph};
use brillm::kernel::element::Element;
use brillm::learn::{ContinualSettings, Lesson, NewText, learn_text};
use brillm::model::{Model, Verify};
use brillm::signal::{Mechanism, Profile, Weights, blocks};
use brillm::text::Tokenizer;
use serde_json::Value;

mod support;
use support::{cases, fails, json as report, metadata, path, run, small_mechanism, succeeds};

/// A text of 12 nodes with edges that are rare or missing in that of [`small_mechanism`].
fn text(shift: u32) -> Vec<u32> {
    (0..60).map(|step| (step * step + shift) % 9).collect()
}

fn new_text(name: &str, ids: Vec<u32>) -> NewText {
    NewText {
        name: name.into(),
        ids,
        ..NewText::default()
    }
}

fn learn(model: &Model, name: &str, ids: Vec<u32>, settings: &ContinualSettings) -> Lesson {
    learn_text(model, &new_text(name, ids), settings, &mut |_| true).unwrap()
}

/// Forms of edges, with and without edges of their own and longer walks.
const FORMS: [&str; 6] = [
    "reference",
    "own",
    "composed",
    "composed, residual",
    "layered",
    "layered, order 5",
];

/// A small model of one of [`FORMS`].
fn model_of(form: &str) -> Model {
    let residual = Profile {
        residual: Some(2),
        rank: 2,
        ..Profile::sifu(6)
    };
    let (profile, own_minimum) = match form {
        "reference" => (Profile::reference(4), 3),
        "own" => (Profile::sifu_own(4), 3),
        "composed" => (Profile::sifu(6), u32::MAX),
        "composed, residual" => (residual, 3),
        _ => (Profile::layered(8), u32::MAX),
    };
    let mut mechanism = small_mechanism(&profile, own_minimum);
    if form == "layered, order 5" {
        mechanism = with_paths(&mechanism, 5);
    }
    let tokenizer = Tokenizer::ids(mechanism.nodes()).unwrap();
    Model::new(metadata(&profile, own_minimum), tokenizer, mechanism).unwrap()
}

/// The mechanism with longer walks, of a text that its graph lists.
fn with_paths(mechanism: &Mechanism, order: usize) -> Mechanism {
    let graph = mechanism.graph();
    let mut walk = vec![0u32];
    for step in 0..400 {
        let fan = graph.fan(NodeId(walk[walk.len() - 1]));
        walk.push(fan.targets[step * 7 % fan.len()]);
    }
    let settings = PathSettings::whole(order);
    let paths = PathGraph::estimate(graph, &walk, &settings).unwrap();
    let graph = graph.clone().with_paths(Some(paths));
    Mechanism::new(
        mechanism.profile().clone(),
        graph,
        mechanism.weights().clone(),
    )
    .unwrap()
}

/// The bytes of a saved model.
fn bytes(model: &Model) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.bril");
    model.save(&file).unwrap();
    std::fs::read(file).unwrap()
}

fn reopened(model: &Model) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.bril");
    model.save(&file).unwrap();
    Model::open(&file, Verify::Whole).unwrap()
}

/// The rows of a block that belong to nodes, by node.
fn row(weights: &Weights, name: &str, narrows: bool, columns: usize, row: usize) -> Vec<f32> {
    if !narrows {
        return weights.values(name)[row * columns..(row + 1) * columns].to_vec();
    }
    let mut values = vec![0.0; columns];
    weights.table(name).read_row(row, &mut values);
    values
}

#[test]
fn what_a_text_does_not_touch_keeps_its_bits() {
    cases(FORMS, |&name| {
        let model = &model_of(name);
        let learned = learn(model, "text", text(0), &ContinualSettings::default()).model;
        let (old, new) = (model.mechanism(), learned.mechanism());
        let touched = text(0);
        let mut moved = 0;
        for block in blocks(old.profile(), old.nodes(), old.graph().own_edges()) {
            let of_nodes = block.name.starts_with("node.") && block.name != "node.gain"
                || block.name == "blend.gate";
            let of_edges = block.name == "edge.arena" || block.name == "edge.residual";
            if block.columns == 0 || of_edges {
                continue;
            }
            for index in 0..block.rows {
                let of = |weights| row(weights, block.name, block.narrows, block.columns, index);
                let same = of(old.weights()) == of(new.weights());
                let may_move = of_nodes && touched.contains(&(index as u32));
                assert!(same || may_move, "{name}: {} row {index}", block.name);
                moved += usize::from(!same);
            }
        }
        assert!(moved > 0, "{name}: no row was trained");
        let pairs: Vec<_> = touched.windows(2).map(|pair| (pair[0], pair[1])).collect();
        for source in 0..old.nodes() as u32 {
            let fan = old.graph().fan(NodeId(source));
            for (at, &target) in fan.targets.iter().enumerate() {
                let (node, other) = (NodeId(source), NodeId(target));
                let times = pairs
                    .iter()
                    .filter(|&&pair| pair == (source, target))
                    .count();
                let edge = new.graph().edge(node, other).unwrap();
                let count = new.graph().counts()[edge.index()];
                assert_eq!(
                    count,
                    fan.counts[at] + times as u32,
                    "{name}: {source} -> {target}"
                );
                let (before, after) = (fan.edge_rows[at], new.graph().edge_row(node, other));
                if old.profile().form == brillm::signal::EdgeForm::Own && before > 0 && times == 0 {
                    let columns = old.weights().table("edge.arena").columns();
                    let of = |weights, at| row(weights, "edge.arena", true, columns, at as usize);
                    let (before, after) = (of(old.weights(), before), of(new.weights(), after));
                    assert_eq!(before, after, "{name}: edge {source} -> {target}");
                }
            }
        }
    });
}

#[test]
fn a_forgotten_text_leaves_the_bytes_of_before() {
    cases(FORMS, |&name| {
        let model = &model_of(name);
        for element in [Element::F32, Element::F16, Element::I8] {
            let model = model.quantized(element).unwrap();
            let settings = ContinualSettings {
                weight: 2,
                ..ContinualSettings::default()
            };
            let once = reopened(&learn(&model, "one", text(0), &settings).model);
            let twice = reopened(&learn(&once, "two", text(4), &settings).model);
            let (last_first, what) = twice.forget(1).unwrap();
            assert_eq!(what.subtracted, 0, "{name} {element}");
            assert!(what.restored > 0, "{name} {element}");
            assert!(
                bytes(&last_first) == bytes(&once),
                "{name} {element}: the first remains"
            );
            let none = reopened(&last_first).forget(0).unwrap().0;
            assert!(
                bytes(&none) == bytes(&model),
                "{name} {element}: last first"
            );
            let (first_first, what) = twice.forget(0).unwrap();
            assert!(what.subtracted > 0, "{name} {element}");
            let none = reopened(&first_first).forget(0).unwrap().0;
            assert!(
                bytes(&none) == bytes(&model),
                "{name} {element}: first first"
            );
        }
    });
}

#[test]
fn shipped_models_have_their_bytes_again() {
    for (name, sentence) in [
        ("english", "a zebra sat on a star"),
        ("chinese", "天地玄黄"),
    ] {
        let file = support::root().join(format!("models/{name}.bril"));
        let model = Model::open(&file, Verify::Whole).unwrap();
        let text = NewText {
            name: "text".into(),
            documents: vec![sentence.into()],
            ..NewText::default()
        };
        let learned = learn_text(&model, &text, &ContinualSettings::default(), &mut |_| true);
        let forgotten = learned.unwrap().model.forget(0).unwrap().0;
        assert!(bytes(&forgotten) == std::fs::read(&file).unwrap(), "{name}");
    }
}

#[test]
fn counts_after_forgetting_are_those_of_a_model_that_never_learned_the_text() {
    cases(FORMS, |&name| {
        let model = &model_of(name);
        let counts_alone = ContinualSettings {
            passes: 0,
            ..ContinualSettings::default()
        };
        let one = learn(model, "one", text(0), &counts_alone).model;
        let both = learn(&one, "two", text(4), &counts_alone).model;
        let two = learn(model, "two", text(4), &counts_alone).model;
        // The fingerprint covers edges, counts, longer walks and weights.
        let left = both.forget(0).unwrap().0.mechanism().fingerprint();
        assert_eq!(left, two.mechanism().fingerprint(), "{name}");
    });
}

#[test]
fn added_counts_are_those_of_both_texts() {
    let (first, second) = (text(1), text(5));
    let of = |texts: &[&[u32]]| -> TokenGraph {
        let mut builder = GraphBuilder::new(12);
        for text in texts {
            builder.walk(text.iter().copied()).unwrap();
        }
        builder.build().unwrap()
    };
    let added = AddedText {
        tokens: &second,
        weight: 1,
    };
    let (one, both) = (of(&[&first]), of(&[&first, &second]));
    let merged = one.with_texts(&[added], 12).unwrap();
    assert_eq!(
        (merged.rows(), merged.targets()),
        (both.rows(), both.targets())
    );
    assert_eq!(merged.counts(), both.counts());
    assert_eq!(merged.resistance().seen(), both.resistance().seen());
    let back = merged.without_texts(&[added], 12).unwrap();
    assert_eq!((back.rows(), back.counts()), (one.rows(), one.counts()));
    assert!(one.without_texts(&[added], 12).is_err());
    let outside = one.with_texts(&[added], 3).unwrap_err();
    assert!(outside.to_string().contains("outside a graph"), "{outside}");
}

#[test]
fn walks_of_a_text_become_likelier_and_others_keep_their_lifts() {
    let model = model_of("layered, order 5");
    let settings = ContinualSettings {
        passes: 0,
        ..ContinualSettings::default()
    };
    let ids = text(2);
    let learned = learn(&model, "text", ids.clone(), &settings).model;
    let (old, new) = (model.mechanism().graph(), learned.mechanism().graph());
    let p = |graph: &TokenGraph, walk: &[u32], target: u32| -> f64 {
        let (&last, earlier) = walk.split_last().unwrap();
        let mut logits: Vec<f64> = graph
            .resistance_within(5)
            .target()
            .iter()
            .map(|&r| f64::from(-r))
            .collect();
        for (target, lift) in graph.lifts(last, earlier, 5) {
            logits[target as usize] += f64::from(lift);
        }
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        logits[target as usize].exp() / sum
    };
    let nats = |graph: &TokenGraph| -> f64 {
        ids.windows(5)
            .map(|gram| -p(graph, &gram[..4], gram[4]).ln())
            .sum()
    };
    assert!(nats(new) < 0.5 * nats(old), "{} {}", nats(new), nats(old));
    let (old, new) = (old.paths().unwrap(), new.paths().unwrap());
    let mut untouched = 0;
    for first in 0..12 {
        for second in 0..12 {
            let earlier = [first];
            let Some(walk) = old.walks(second, &earlier, 3).next() else {
                continue;
            };
            if ids.windows(2).any(|pair| pair == [first, second]) {
                continue;
            }
            untouched += 1;
            let now = new.walks(second, &earlier, 3).next().unwrap();
            assert!(walk.lifts().eq(now.lifts()), "{first} {second}");
        }
    }
    assert!(untouched > 0);
}

#[test]
fn learning_lowers_the_perplexity_of_a_text() {
    cases(FORMS, |&name| {
        let model = &model_of(name);
        let settings = ContinualSettings {
            passes: 20,
            rate: 1e-2,
            ..ContinualSettings::default()
        };
        let long = text(0).repeat(10);
        let nats = learn(model, "text", long, &settings).nats.unwrap();
        assert!(nats[1] < nats[0], "{name}: {nats:?}");
        // The counts of a short text cannot be left out of its predictions: those that have any report no perplexity.
        let short = learn(model, "text", text(0), &settings).nats;
        let counts = model.mechanism().profile().static_resistance;
        assert_eq!(short.is_none(), counts, "{name}: {short:?}");
    });
}

#[test]
fn forgetting_takes_back_what_a_text_trained_in_edges_that_a_later_text_keeps() {
    let model = &model_of("own");
    let settings = ContinualSettings {
        weight: 3,
        ..ContinualSettings::default()
    };
    let once = learn(model, "one", text(0), &settings).model;
    let twice = learn(&once, "two", text(0), &settings).model;
    let left = twice.forget(0).unwrap().0;
    let values = |model: &Model, source: u32, target: u32| -> Option<Vec<f32>> {
        let graph = model.mechanism().graph();
        let at = graph.edge_row(NodeId(source), NodeId(target)) as usize;
        let table = model.mechanism().weights().table("edge.arena");
        let mut values = vec![0.0; table.columns()];
        table.read_row(at, &mut values);
        (at > 0).then_some(values)
    };
    // An edge of its own begins with the weights of the shared edge.
    let mut begun = vec![0.0; model.mechanism().weights().table("edge.arena").columns()];
    let arena = model.mechanism().weights().table("edge.arena");
    arena.read_row(0, &mut begun);
    let mut new = 0;
    for pair in text(0).windows(2) {
        let (source, target) = (pair[0], pair[1]);
        if values(model, source, target).is_some() {
            continue;
        }
        new += 1;
        let of = |model| values(model, source, target).unwrap();
        let (once, twice, left) = (of(&once), of(&twice), of(&left));
        assert_ne!(once, begun, "{source} -> {target} was not trained");
        for (at, &value) in left.iter().enumerate() {
            let expected = begun[at] + twice[at] - once[at];
            assert!(
                (value - expected).abs() < 1e-6,
                "{source} -> {target}: {value}, expected {expected}"
            );
        }
    }
    assert!(new > 0);
}

#[test]
fn ids_of_a_backward_model_are_learned_from_their_end() {
    let model = &model_of("own");
    let backward = model.clone().described(|metadata| {
        metadata.direction = brillm::text::ReadingDirection::Backward;
    });
    let settings = ContinualSettings {
        passes: 0,
        ..ContinualSettings::default()
    };
    let mut reversed = text(0);
    reversed.reverse();
    let counts = |model: &Model, ids: Vec<u32>| {
        let learned = learn(model, "text", ids, &settings).model;
        learned.mechanism().graph().counts().to_vec()
    };
    assert_eq!(counts(&backward, text(0)), counts(model, reversed.clone()));
    assert_ne!(counts(&backward, text(0)), counts(model, text(0)));
}

#[test]
fn an_interrupted_lesson_is_an_error() {
    let model = model_of("own");
    let settings = ContinualSettings::default();
    let stopped = learn_text(&model, &new_text("text", text(0)), &settings, &mut |_| {
        false
    });
    assert_eq!(stopped.unwrap_err().kind(), brillm::ErrorKind::Cancelled);
}

/// A text whose words the vocabulary of the trained model splits.
const NEW: &str = "the zebra sees the garden today.\nthe zebra likes the moon again.\nthe zebra paints \
the zebra at night.\nthe cat follows the zebra in spring.\n";

fn file_with(folder: &Path, name: &str, text: &str) -> String {
    let file = path(folder, name);
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn a_model_learns_new_words_and_forgets_them() {
    let model = &support::trained().1;
    let folder = tempfile::tempdir().unwrap();
    let (text, taught) = (
        file_with(folder.path(), "zoo.txt", NEW),
        path(folder.path(), "taught.bril"),
    );
    let said = report(&[
        "learn",
        model,
        &text,
        "--out",
        &taught,
        "--new-nodes",
        "8",
        "--quiet",
        "--json",
    ]);
    support::keys(
        &said,
        &[
            "model",
            "record",
            "new_nodes",
            "trained_rows",
            "cpu_seconds",
        ],
    );
    let words: Vec<&str> = said["new_nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    assert!(words.contains(&"␣zebra"), "{words:?}");
    let (old, new) = (open(model), open(&taught));
    for text in ["the old man sees a dog.\n", "my sister paints"] {
        let ids = old.tokenizer().encode(text).unwrap();
        assert_eq!(new.tokenizer().encode(text).unwrap(), ids, "{text:?}");
        assert_eq!(new.tokenizer().decode(&ids), text);
    }
    let ids = new.tokenizer().encode("the zebra").unwrap();
    assert_eq!(
        (ids.len(), new.tokenizer().decode(&ids)),
        (2, "the zebra".into())
    );
    assert!(ids[1] as usize >= old.mechanism().nodes(), "{ids:?}");
    let inspected = report(&["inspect", &taught, "--json"]);
    assert_eq!(inspected["learned"][0]["name"], "zoo");
    assert!(succeeds(&["inspect", &taught]).contains("learned 1 \"zoo\""));
    let again = report(&[
        "learn", &taught, &text, "--out", &taught, "--passes", "0", "--quiet", "--json",
    ]);
    assert_eq!(
        (&again["record"]["name"], &again["record"]["training"]),
        (&"zoo-2".into(), &Value::Null)
    );
    let forgotten = report(&["forget", &taught, "--record", "zoo", "--json"]);
    assert_eq!(forgotten["kept_nodes"], words.len(), "{forgotten}");
    let forgotten = report(&["forget", &taught, "--record", "1", "--json"]);
    assert_eq!(forgotten["removed_nodes"], words.len(), "{forgotten}");
    assert!(bytes(&open(&taught)) == bytes(&open(model)));
    // A later text that does not use the words does not keep them.
    let other = file_with(folder.path(), "other.txt", &support::sentences(1, 3));
    let words = ["--new-nodes", "8", "--quiet"];
    succeeds(&[&["learn", model, &text, "--out", &taught][..], &words].concat());
    succeeds(&["learn", &taught, &other, "--out", &taught, "--quiet"]);
    let forgotten = report(&["forget", &taught, "--record", "zoo", "--json"]);
    assert_eq!(forgotten["kept_nodes"], 0, "{forgotten}");
    assert_eq!(open(&taught).mechanism().nodes(), old.mechanism().nodes());
}

#[test]
fn byte_pairs_before_other_special_tokens_are_not_extended() {
    let folder = support::root().join("tests/golden/tokenizers/split-regex");
    let tokenizer = Tokenizer::open_folder(&folder).unwrap().unwrap();
    let error = tokenizer.with_words(&[NEW.into()], 4).unwrap_err();
    assert_eq!(error.kind(), brillm::ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("special tokens after"),
        "{error}"
    );
}

fn open(path: &str) -> Model {
    Model::open(path.as_ref(), Verify::Whole).unwrap()
}

#[test]
fn new_characters_become_nodes() {
    let tokenizer = Tokenizer::train_characters(["天地玄黄".to_string()].into_iter(), 300).unwrap();
    let texts = ["宇宙天地，宇宙".to_string()];
    let (extended, new) = tokenizer.with_words(&texts, 1).unwrap();
    assert_eq!((new.len(), new[0].parts.len()), (1, 3));
    assert_eq!(
        extended.encode("天地").unwrap(),
        tokenizer.encode("天地").unwrap()
    );
    assert_eq!(extended.decode(&extended.encode("宇宙").unwrap()), "宇宙");
    assert_eq!(
        extended.without_last(1).unwrap().to_bytes(),
        tokenizer.to_bytes()
    );
    let words = Tokenizer::train_words(["a b".to_string()].into_iter(), 10).unwrap();
    assert!(words.with_words(&texts, 1).is_err());
}

#[test]
fn refuses_what_cannot_be_learned_or_forgotten() {
    let model = support::trained().1.as_str();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| file_with(folder.path(), name, text);
    let (text, short) = (file("text.txt", NEW), file("short.txt", " "));
    let taught = path(folder.path(), "taught.bril");
    succeeds(&["learn", model, &text, "--out", &taught, "--passes", "0"]);
    let out = path(folder.path(), "new.bril");
    let deep = path(folder.path(), "none/new.bril");
    let odd = path(folder.path(), "odd.bril");
    let name = "bell\u{7}\u{1b}[31m";
    let learn_odd = ["learn", &taught, &text, "--out", &odd, "--name", name];
    succeeds(&[&learn_odd[..], &["--passes", "0"]].concat());
    let table: [(&[&str], &str); 16] = [
        (
            &["learn", "models/stories260K", &text, "--out", &out],
            "cannot learn texts by counts",
        ),
        (&["learn", model, &short, "--out", &out], "no"),
        (&["learn", model, "absent.txt", "--out", &out], "absent.txt"),
        (
            &["learn", model, &text, "--out", &out, "--rate", "-1"],
            "invalid rate",
        ),
        (
            &["learn", model, &text, "--out", &out, "--rate", "1e30"],
            "at most 1",
        ),
        (
            &["learn", model, &text, "--out", &out, "--name", "12"],
            "numbers count records",
        ),
        (
            &["learn", model, &text, "--out", &out, "--name", ""],
            "is empty",
        ),
        (
            &["learn", model, &text, "--out", &out, "--name", " \n"],
            "is empty",
        ),
        // Before the texts are read.
        (
            &["learn", model, "absent.txt", "--out", &deep],
            "does not exist",
        ),
        (
            &["forget", &taught, "--record", "1", "--out", &deep],
            "does not exist",
        ),
        (
            &["forget", &odd, "--record", "x"],
            r#"a name: "text", "bell\u{7}\u{1b}[31m""#,
        ),
        (
            &["learn", &taught, &text, "--out", &out, "--name", "text"],
            "already has a record",
        ),
        (&["forget", model, "--record", "1"], "has learned no text"),
        (&["forget", &taught, "--record", "+1"], "no record"),
        (
            &["forget", &taught, "--record", "2"],
            "pass a number from 1 to 1 or a name: \"text\"",
        ),
        (
            &["grow", &taught, "--width", "64", "--out", &out],
            "cannot be widened",
        ),
    ];
    cases(table, |(arguments, expected)| {
        let error = fails(arguments);
        assert!(error.contains(expected), "{error}");
        assert!(!Path::new(&out).exists());
    });
    let usage = run(&["learn", model, &text, "--out", &out, "--weight", "0"]);
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn replayed_text_is_trained_on_but_not_counted() {
    let model = support::trained().1.as_str();
    let folder = tempfile::tempdir().unwrap();
    let text = file_with(folder.path(), "text.txt", NEW);
    let old = file_with(folder.path(), "old.txt", &support::sentences(1, 30));
    let outs = ["plain.bril", "mixed.bril"].map(|name| path(folder.path(), name));
    succeeds(&["learn", model, &text, "--out", &outs[0], "--quiet"]);
    succeeds(&[
        "learn", model, &text, "--out", &outs[1], "--quiet", "--replay", &old,
    ]);
    let [plain, mixed] = outs.map(|out| open(&out));
    assert_eq!(
        plain.mechanism().graph().counts(),
        mixed.mechanism().graph().counts()
    );
    assert_ne!(
        plain.mechanism().fingerprint(),
        mixed.mechanism().fingerprint()
    );
}
