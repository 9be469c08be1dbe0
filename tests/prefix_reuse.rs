//! Sessions that continue what finished ones computed.
#![cfg(feature = "transformer")]

mod support;

use std::path::{Path, PathBuf};

use brillm::path::{Sampling, Session};
use brillm::transformer::{Plan, SessionOptions, Transformer, TransformerSession};
use serde_json::Value;
use support::transformer::{near, stories, text, write_folder};

const MIB: usize = 1 << 20;

fn begin(model: &Transformer, prompt: &[u32], seed: u64) -> TransformerSession {
    let sampling = Sampling::default().seed(seed);
    TransformerSession::begin(model, prompt, sampling).unwrap()
}

/// Draw tokens from a session. Returns them and the logits after them.
fn run(session: &mut TransformerSession, tokens: usize) -> (Vec<u32>, Vec<f32>) {
    let drawn: Vec<u32> = (0..tokens)
        .map(|_| session.step().unwrap().unwrap())
        .collect();
    (drawn, session.look().unwrap().1.to_vec())
}

/// Read a prompt, and return how many of its tokens were reused.
fn reused(model: &Transformer, prompt: &[u32]) -> usize {
    let mut session = begin(model, prompt, 0);
    session.look().unwrap();
    session.reused()
}

/// Check that a prompt reuses `reused` tokens, and that everything but rounding is as in a session of its own.
#[track_caller]
fn check(model: &Transformer, prompt: &[u32], seed: u64, reused: usize) {
    let mut session = begin(model, prompt, seed);
    let mut expected = begin(&stories(), prompt, seed);
    assert_eq!(session.reused(), reused);
    same(&mut session, &mut expected, 20);
    assert_eq!(session.length(), expected.length());
    assert_eq!(session.state_bytes(), expected.state_bytes());
    let computed = session.report().computed;
    assert!(computed.iter().all(|&rows| rows == prompt.len() - reused));
}

/// Check that two sessions draw the same tokens, from logits that differ by rounding at most.
#[track_caller]
fn same(session: &mut TransformerSession, expected: &mut TransformerSession, tokens: usize) {
    for step in 0..tokens {
        let what = format!("step {step}");
        near(
            session.look().unwrap().1,
            expected.look().unwrap().1,
            2e-5,
            &what,
        );
        assert_eq!(session.step().unwrap(), expected.step().unwrap(), "{what}");
    }
    // The last token is read when the logits after it are.
    session.look().unwrap();
}

fn reusing(bytes: usize) -> Transformer {
    stories().batched_with(bytes).unwrap()
}

#[test]
fn a_conversation_is_continued() {
    let (model, text) = (reusing(MIB), text(200));
    check(&model, &text[..70], 1, 0);
    // The prompt of the first session with its answer.
    let mut longer = text[..70].to_vec();
    longer.extend(run(&mut begin(&stories(), &text[..70], 1), 20).0);
    longer.extend(&text[100..140]);
    check(&model, &longer, 2, 90);
    // Another end of the same beginning, the same text again, a shorter one, two others.
    let fork = [&longer[..100], &text[3..20]].concat();
    check(&model, &fork, 3, 100);
    check(&model, &longer, 2, longer.len() - 1);
    check(&model, &text[..65], 4, 64);
    check(&model, &[&[7], &text[1..40]].concat(), 1, 0);
    check(&model, &text[..1], 1, 0);
    // Greedy decoding too, and a penalty that counts the tokens of the prompt.
    for sampling in [
        Sampling::greedy(),
        Sampling::default().repetition_penalty(1.8, 300).seed(5),
    ] {
        let session = |model| TransformerSession::begin(model, &fork, sampling.clone()).unwrap();
        let mut continued = session(&model);
        assert_eq!(continued.reused(), fork.len() - 1);
        same(&mut continued, &mut session(&stories()), 30);
    }
}

#[test]
fn forks_leave_what_each_has_read() {
    let (model, text) = (reusing(MIB), text(60));
    let mut session = begin(&model, &text[..30], 1);
    session.look().unwrap();
    let mut fork = session.fork().unwrap();
    for (index, &token) in text[30..40].iter().enumerate() {
        session.force(token).unwrap();
        fork.force(text[59 - index]).unwrap();
    }
    session.look().unwrap();
    fork.look().unwrap();
    drop((session, fork));
    check(&model, &text, 2, 40);
    let other: Vec<u32> = text[50..].iter().rev().copied().collect();
    check(&model, &[&text[..30], &other, &[5]].concat(), 2, 40);
}

#[test]
fn sessions_on_threads_reuse_a_common_beginning() {
    let (alone, model, text) = (stories(), reusing(MIB), text(200));
    assert_eq!(reused(&model, &text[..100]), 0);
    std::thread::scope(|scope| {
        for seed in 0..16usize {
            let (model, alone, text) = (&model, &alone, &text);
            scope.spawn(move || {
                let prompt = [&text[..60 + seed], &text[seed * 3..seed * 3 + 40]].concat();
                let mut session = begin(model, &prompt, seed as u64);
                assert!(session.reused() >= 60);
                let mut expected = begin(alone, &prompt, seed as u64);
                same(&mut session, &mut expected, 12);
            });
        }
    });
}

#[test]
fn what_is_kept_is_bounded() {
    let text = text(200);
    let bytes = begin(&stories(), &text[..64], 0).report().allocated_bytes;
    let start = |first: u32| [&[first], &text[1..64]].concat();
    // Nothing.
    let model = reusing(0);
    check(&model, &start(5), 1, 0);
    check(&model, &start(5), 1, 0);
    // Two texts, with their ids: the one used least recently goes first.
    let model = reusing(2 * (bytes + 256));
    for (first, reused) in [(5, 0), (6, 0), (5, 63), (7, 0), (5, 63), (6, 0), (7, 0)] {
        assert_eq!(self::reused(&model, &start(first)), reused, "{first}");
    }
    // The beginning of a text of two pages, where one fits.
    let model = reusing(bytes + 256);
    check(&model, &text[..128], 1, 0);
    check(&model, &text[..128], 1, 64);
    // Less than a page.
    let model = reusing(bytes / 2);
    check(&model, &text[..128], 1, 0);
    check(&model, &text[..128], 1, 0);
}

#[test]
fn sessions_with_plugins_share_nothing() {
    let text = text(100);
    let model = reusing(MIB);
    let managed = |options| {
        TransformerSession::begin_with(&model, &text, Sampling::greedy(), options).unwrap()
    };
    let options = || {
        let plan = Some(Plan::full(model.configuration().layers));
        [
            SessionOptions {
                attention: true,
                ..SessionOptions::default()
            },
            SessionOptions {
                plan,
                ..SessionOptions::default()
            },
        ]
    };
    for options in options() {
        assert_eq!(managed(options).reused(), 0);
    }
    assert_eq!(reused(&model, &text), 0);
    assert_eq!(reused(&model, &text), 99);
    for options in options() {
        assert_eq!(managed(options).reused(), 0);
    }
}

#[test]
fn errors_leave_nothing() {
    let text = text(60);
    let model = reusing(MIB);
    let wrong = [&text[..], &[1 << 20]].concat();
    assert!(TransformerSession::begin(&model, &wrong, Sampling::greedy()).is_err());
    assert_eq!(reused(&model, &text), 0);
    // A prompt that no pass has read yet.
    let model = reusing(MIB);
    drop(TransformerSession::begin(&model, &text, Sampling::greedy()).unwrap());
    check(&model, &text, 1, 0);
    check(&model, &text, 1, 59);
}

/// Open the random model of a golden file.
fn family(path: &Path, change: impl FnOnce(&mut Value)) -> (tempfile::TempDir, Transformer) {
    let mut golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    change(&mut golden);
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &golden);
    let model = Transformer::open(folder.path()).unwrap();
    (folder, model)
}

fn families() -> Vec<PathBuf> {
    let folder = support::root().join("tests/golden/families");
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect()
}

#[test]
fn every_family_says_the_same_with_and_without_reuse() {
    support::cases(families(), |path| {
        let (_folder, alone) = family(path, |_| ());
        let shape = alone.configuration();
        if !shape.causal() {
            return;
        }
        let count = shape.vocabulary as u32;
        let tokens: Vec<u32> = (0..60).map(|i| (i * i * 7 + i * 3 + 1) % count).collect();
        let length = shape.hard_context().unwrap_or(60).min(60) - 4;
        let model = alone.batched_with(MIB).unwrap();
        for (length, reused) in [(20, 0), (length, 20)] {
            let mut session = begin(&model, &tokens[..length], 3);
            // A dynamic rotation depends on the length of the text.
            let dynamic = path.ends_with("llama-dynamic.json");
            assert_eq!(session.reused(), if dynamic { 0 } else { reused });
            same(&mut session, &mut begin(&alone, &tokens[..length], 3), 4);
        }
    });
}

#[test]
fn texts_that_are_rotated_otherwise_share_neither_tokens_nor_passes() {
    let path = support::root().join("tests/golden/families/phi3.json");
    let (_folder, alone) = family(&path, |golden| {
        let width = golden["config"]["hidden_size"].as_u64().unwrap()
            / golden["config"]["num_attention_heads"].as_u64().unwrap();
        let factors =
            |by: f64| -> Vec<f64> { (0..width / 2).map(|i| 1.0 + by * i as f64).collect() };
        golden["config"]["original_max_position_embeddings"] = 30.into();
        golden["config"]["rope_parameters"] = serde_json::json!({"rope_type": "longrope", "rope_theta": 10000.0,
            "short_factor": factors(0.1), "long_factor": factors(0.7)});
    });
    let model = alone.batched_with(MIB).unwrap();
    let tokens: Vec<u32> = (0..60).map(|i| (i * i * 7 + i * 3 + 1) % 48).collect();
    for (length, reused) in [(15, 0), (24, 15), (40, 0), (56, 40), (28, 24)] {
        let mut session = begin(&model, &tokens[..length], 3);
        assert_eq!(session.reused(), reused, "{length}");
        same(&mut session, &mut begin(&alone, &tokens[..length], 3), 4);
    }
    // A short and a long text at once: before the first is read, the second waits for the same passes.
    let lengths = [20, 50, 29];
    let mut sessions = lengths.map(|length| begin(&model, &tokens[..length], 3));
    let mut expected = lengths.map(|length| begin(&alone, &tokens[..length], 3));
    for (session, expected) in sessions.iter_mut().zip(&mut expected) {
        // Each token is read in the passes that the next session's look runs.
        same(session, expected, 4);
    }
}
