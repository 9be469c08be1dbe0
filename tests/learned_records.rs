//! Records of learned texts in model files: damaged ones are refused; learning ends at an interrupt.
#![cfg(all(feature = "cli", feature = "transformer"))]

use std::path::Path;

use brillm::ErrorKind;
use brillm::graph::{NodeId, PathGraph, PathSettings};
use brillm::kernel::element::Element;
use brillm::learn::{ContinualSettings, NewText, learn_text};
use brillm::model::{Container, Model, Verify, Writer};
use brillm::signal::{Mechanism, Profile};
use brillm::text::Tokenizer;

mod support;
use support::{brillm, cases, metadata, path, small_mechanism};

/// A model that has learned two texts, and the path of its file: own edges, or layered edges with longer walks.
fn taught(folder: &Path, layered: bool) -> (Model, String) {
    let (profile, own_minimum) = match layered {
        true => (Profile::layered(8), u32::MAX),
        false => (Profile::reference(4), 3),
    };
    let mut mechanism = small_mechanism(&profile, own_minimum);
    if layered {
        let graph = mechanism.graph().clone();
        let mut walk = vec![0u32];
        for step in 0..400 {
            let fan = graph.fan(NodeId(walk[walk.len() - 1]));
            walk.push(fan.targets[step * 7 % fan.len()]);
        }
        let paths = PathGraph::estimate(&graph, &walk, &PathSettings::whole(4)).unwrap();
        let weights = mechanism.weights().clone();
        mechanism =
            Mechanism::new(profile.clone(), graph.with_paths(Some(paths)), weights).unwrap();
    }
    let tokenizer = Tokenizer::ids(mechanism.nodes()).unwrap();
    let mut model = Model::new(metadata(&profile, own_minimum), tokenizer, mechanism).unwrap();
    for name in ["one", "two"] {
        let shift = name.len() as u32;
        let text = NewText {
            name: name.into(),
            ids: (0..60).map(|step| (step * step + shift) % 9).collect(),
            ..NewText::default()
        };
        let lesson = learn_text(&model, &text, &ContinualSettings::default(), &mut |_| true);
        model = lesson.unwrap().model;
    }
    let file = path(folder, "taught.bril");
    model.save(file.as_ref()).unwrap();
    (model, file)
}

/// What becomes of the bytes of a block, by its name; `None` leaves it out.
type Change<'a> = dyn Fn(&str, &[u8]) -> Option<Vec<u8>> + 'a;

/// Write a model file again with changed blocks.
fn rewritten(from: &str, to: &Path, change: &Change<'_>) {
    let container = Container::open(from.as_ref(), Verify::Whole).unwrap();
    let mut writer = Writer::create(to, container.metadata().clone()).unwrap();
    for block in container.blocks() {
        let bytes: &[u8] = block.bytes();
        if let Some(bytes) = change(&block.name, bytes) {
            let stored = writer.values(&block.name, block.element, &block.shape, &bytes);
            stored.unwrap();
        }
    }
    writer.finish().unwrap();
}

/// The error of opening a file.
fn refused(file: &Path) -> String {
    let error = Model::open(file, Verify::Whole).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format, "{error}");
    error.to_string()
}

#[test]
fn keys_that_do_not_ascend_or_have_no_node_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged.bril");
    for layered in [true, false] {
        let (_, file) = taught(folder.path(), layered);
        let container = Container::open(file.as_ref(), Verify::Whole).unwrap();
        let keys = container.blocks().iter();
        let keys = keys.filter(|block| block.name.ends_with(".keys"));
        let keys: Vec<&str> = keys.map(|block| block.name.as_str()).collect();
        assert!(keys.len() > 1, "{keys:?}");
        for name in keys {
            let with = |change: &dyn Fn(&mut Vec<u64>)| {
                rewritten(&file, &damaged, &|block, bytes| {
                    let mut values: Vec<u64> = match block == name {
                        true => bytes
                            .chunks_exact(8)
                            .map(|key| u64::from_le_bytes(key.try_into().unwrap()))
                            .collect(),
                        false => return Some(bytes.to_vec()),
                    };
                    change(&mut values);
                    Some(values.iter().flat_map(|key| key.to_le_bytes()).collect())
                });
                let error = refused(&damaged);
                assert!(error.contains(name), "{name}: {error}");
                error
            };
            assert!(with(&|keys| keys.swap(0, 1)).contains("follows key"));
            assert!(with(&|keys| keys[1] = keys[0]).contains("follows key"));
            let last = |key: u64| move |keys: &mut Vec<u64>| *keys.last_mut().unwrap() = key;
            // No node has such a number, neither alone nor as the target of an edge.
            assert!(with(&last(u64::MAX)).contains("outside a graph"));
            assert!(with(&last(u64::from(u32::MAX))).contains(name));
        }
    }
}

#[test]
fn a_path_graph_before_the_texts_that_lacks_blocks_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (model, file) = taught(folder.path(), true);
    assert!(model.forget(0).is_ok());
    let damaged = folder.path().join("damaged.bril");
    let without = [
        "learned.path.",
        "learned.path.counts",
        "learned.path.3.",
        "learned.path.4.",
    ];
    cases(without, |prefix| {
        rewritten(&file, &damaged, &|block, bytes| {
            (!block.starts_with(prefix)).then(|| bytes.to_vec())
        });
        let error = refused(&damaged);
        assert!(error.contains("learned.path"), "{prefix}: {error}");
    });
    // Nor may a model without longer walks have had some.
    let (_, plain) = taught(folder.path(), false);
    let container = Container::open(plain.as_ref(), Verify::Whole).unwrap();
    let mut writer = Writer::create(&damaged, container.metadata().clone()).unwrap();
    for block in container.blocks() {
        let bytes: &[u8] = block.bytes();
        let stored = writer.values(&block.name, block.element, &block.shape, bytes);
        stored.unwrap();
    }
    let counts = writer.values("learned.path.counts", Element::U32, &[1], &[1u32]);
    counts.unwrap();
    writer.finish().unwrap();
    assert!(refused(&damaged).contains("learned.path"));
}

const NEW: &str = "the zebra sees the garden today.\nthe cat follows the zebra in spring.\n";

#[cfg(unix)]
#[test]
fn an_interrupt_while_texts_are_read_is_seen() {
    use std::io::Write;
    let model = support::trained().1.as_str();
    let folder = tempfile::tempdir().unwrap();
    let out = path(folder.path(), "new.bril");
    let mut learn = brillm(&["learn", model, "-", "--out", &out, "--passes", "0"]);
    learn.stdin(std::process::Stdio::piped());
    let mut child = learn.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // More than a pipe holds: the program reads when all of it is written.
    stdin.write_all(&NEW.repeat(1000).into_bytes()).unwrap();
    let interrupt = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!Path::new(&out).exists());
}

#[cfg(unix)]
#[test]
fn the_picture_of_a_learned_text_is_that_of_its_command() {
    let folder = tempfile::tempdir().unwrap();
    let recipes = support::root().join("models/recipes/learn");
    let drawn = std::process::Command::new(recipes.join("picture"))
        .arg(folder.path())
        .env("BRILLM", env!("CARGO_BIN_EXE_brillm"))
        .output()
        .unwrap();
    support::stdout_of(&drawn, "picture");
    let chosen = |folder: &Path, name: &str| {
        let trace = support::json(&["trace", "--open", &path(folder, name), "--json"]);
        trace["text"].as_str().unwrap().to_string()
    };
    for name in ["before.svg", "after.svg"] {
        assert_eq!(
            chosen(folder.path(), name),
            chosen(&recipes, name),
            "{name}"
        );
    }
    assert_eq!(chosen(&recipes, "after.svg"), " eats leaves and");
}
