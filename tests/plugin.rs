//! Plugins, end to end: what is built, found, asked, refused, and what becomes of those that misbehave.
#![cfg(all(feature = "plugin", feature = "cli"))]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use brillm::ErrorKind;
use brillm::hook::{
    Answer, Call, CodecAxis, CodecQuestion, CodecSide, Distance, Fan, HeadReduction, Hooks,
    KeepQuestion, KvShape, MaskMoment, MaskOutcome, MaskTokens, Phase, Planned, Trial,
};
use brillm::kernel::random::Random;
use brillm::measure::Windows;
use brillm::path::{BeamOptions, GraphSession, HookRunner, Sampling, Session, beam};
use brillm::plugin::{Finder, Loader, Manifest, OnError, Plugins, Selection, build};
use brillm::run::{evaluate_windows, grow};
use brillm::signal::{Mechanism, Profile, Start};
use brillm::text::Tokenizer;
use serde_json::{Value, json};

mod support;
use support::{build_plugins, kept_folder, root, save_small_model, small_mechanism, with_plugins};

const NODES: usize = 12;

/// The test plugins and `recent`, built once.
static FOLDER: LazyLock<String> =
    LazyLock::new(|| build_plugins("plugins", &["tests/plugins", "recent"]));

fn finder() -> Finder {
    Finder::standard([PathBuf::from(&*FOLDER)])
}

fn load(named: &[&str]) -> Plugins {
    let selections: Vec<Selection> = named.iter().map(|name| name.parse().unwrap()).collect();
    Plugins::load(&selections, &finder()).unwrap()
}

fn mechanism() -> Arc<Mechanism> {
    Arc::new(small_mechanism(&Profile::sifu(8), u32::MAX))
}

fn session(
    mechanism: &Arc<Mechanism>,
    sampling: Sampling,
    hooks: &Hooks,
) -> brillm::Result<GraphSession> {
    let hook_runner = HookRunner::new(hooks, 0);
    GraphSession::begin_with_hooks(
        mechanism.clone(),
        &[3, 4],
        &Start::Profile,
        sampling,
        hook_runner,
    )
}

fn walk(mechanism: &Arc<Mechanism>, sampling: Sampling, hooks: &Hooks) -> brillm::Result<Vec<u32>> {
    let mut session = session(mechanism, sampling, hooks)?;
    (0..20).map(|_| Ok(session.step()?.unwrap())).collect()
}

fn brillm(arguments: &[&str]) -> Output {
    support::run(&with_plugins(arguments, &FOLDER, &[]))
}

fn report(arguments: &[&str]) -> Value {
    support::json(&with_plugins(arguments, &FOLDER, &[]))
}

/// The small graph as a file.
static MODEL: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = kept_folder("plugin").join("small.bril");
    save_small_model(&path, u32::MAX, Tokenizer::ids(NODES).unwrap());
    path
});

fn generate(more: &[&str]) -> Output {
    let model = MODEL.display().to_string();
    let mut arguments = vec![
        "generate",
        "--model",
        &model,
        "--prompt-ids",
        "3,4",
        "--tokens",
        "8",
        "--json",
    ];
    arguments.extend(more);
    brillm(&arguments)
}

#[test]
fn no_opinion_changes_nothing() {
    let mechanism = mechanism();
    let hooks = load(&["decline"]).hooks().clone();
    assert!(!hooks.is_empty());
    for sampling in [
        Sampling::greedy(),
        Sampling::default().temperature(0.9).top_p(0.9).seed(5),
    ] {
        assert_eq!(
            walk(&mechanism, sampling.clone(), &hooks).unwrap(),
            walk(&mechanism, sampling, &Hooks::default()).unwrap()
        );
    }
    let (mut with, mut without) = (
        session(&mechanism, Sampling::greedy(), &hooks).unwrap(),
        session(&mechanism, Sampling::greedy(), &Hooks::default()).unwrap(),
    );
    assert_eq!(with.look().unwrap(), without.look().unwrap());
    assert_eq!(
        with.resistance(5).unwrap().to_bits(),
        without.resistance(5).unwrap().to_bits()
    );
    let of = |hooks: &Hooks| {
        let tokens: Vec<u32> = (0..60).map(|place| place * 5 % 12).collect();
        evaluate_windows(&mechanism, &tokens, &Windows::new(11, 5), hooks).unwrap()
    };
    assert_eq!(of(&hooks), of(&Hooks::default()));
    let of = |hooks: &Hooks| {
        beam(
            &mechanism,
            &[3],
            &Start::Profile,
            &BeamOptions::new(4, 5),
            hooks,
        )
        .unwrap()
    };
    assert_eq!(of(&hooks), of(&Hooks::default()));
}

#[test]
fn edges_and_starts_are_steered() {
    let mechanism = mechanism();
    let walked = walk(&mechanism, Sampling::greedy(), &Hooks::default()).unwrap();
    let steered = load(&["steer:to=7,bonus=1000"]).hooks().clone();
    // Self-loops are allowed in this profile, so the free way is always taken.
    assert_eq!(
        walk(&mechanism, Sampling::greedy(), &steered).unwrap(),
        [7; 20]
    );
    assert_ne!(walked, [7; 20]);
    let paths = beam(
        &mechanism,
        &[3],
        &Start::Profile,
        &BeamOptions::new(1, 4),
        &steered,
    )
    .unwrap();
    assert_eq!(paths[0].nodes, [7; 4]);
    let mut one = session(&mechanism, Sampling::greedy(), &steered).unwrap();
    assert!(one.resistance(7).unwrap().abs() < 1e-6);
    // A chain is asked in the order of its names, and each sees what the one before it left.
    let ahead = |named: &[&str]| {
        let hooks = load(named).hooks().clone();
        let mut session = session(&mechanism, Sampling::greedy(), &hooks).unwrap();
        let (_, logits) = session.look().unwrap();
        f64::from(logits[7] - logits[2])
    };
    let plain = ahead(&["watch"]);
    for (named, expected) in [
        (["half", "steer:to=7,bonus=3"], 0.5 * plain + 3.0),
        (["steer:to=7,bonus=3", "half"], 0.5 * (plain + 3.0)),
    ] {
        assert!((ahead(&named) - expected).abs() < 1e-4, "{named:?}");
    }

    let ones = load(&["steer:start=1"]).hooks().clone();
    let asked = session(&mechanism, Sampling::greedy(), &ones).unwrap();
    let own =
        GraphSession::begin(mechanism.clone(), &[3, 4], &Start::Ones, Sampling::greedy()).unwrap();
    assert_eq!(asked.flow(), own.flow());
    let plain = session(&mechanism, Sampling::greedy(), &Hooks::default()).unwrap();
    assert_ne!(asked.flow(), plain.flow());
}

#[test]
fn only_one_may_give_the_start() {
    let two: Vec<Selection> = ["steer", "decline"]
        .iter()
        .map(|name| name.parse().unwrap())
        .collect();
    let error = Plugins::load(&two, &finder()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("signal/1"), "{error}");
}

#[test]
fn paths_and_taps_are_seen() {
    let mechanism = mechanism();
    let plugins = load(&["watch"]);
    let path = walk(
        &mechanism,
        Sampling::default().temperature(1.0).seed(2),
        plugins.hooks(),
    )
    .unwrap();
    let plain = walk(
        &mechanism,
        Sampling::default().temperature(1.0).seed(2),
        &Hooks::default(),
    )
    .unwrap();
    assert_eq!(path, plain, "a probe changes nothing");
    let seen = &plugins.reports(&Call::new(0, 0, 0)).unwrap()["org.brillm.test.watch"];
    let hops = seen["hops"].as_array().unwrap();
    assert_eq!(hops.len(), 21);
    assert_eq!(
        hops[0],
        json!([3, 4, null]),
        "hops of the prompt have no rank"
    );
    for (hop, node) in hops[1..].iter().zip(&path) {
        assert_eq!(hop[1], *node);
        assert!(hop[2].as_u64().unwrap() < NODES as u64);
    }
    assert_eq!(
        (&seen["signals"], &seen["energies"]),
        (&json!(22), &json!(20))
    );
    assert_eq!(seen["width"], NODES);
    assert!(seen["least_resistance"].as_f64().unwrap() > 0.0);
}

#[test]
fn samples_are_set_and_chosen() {
    let mechanism = mechanism();
    let hot = Sampling::default().temperature(2.0).seed(9);
    let cold = load(&["choose:temperature=0"]).hooks().clone();
    assert_eq!(
        walk(&mechanism, hot.clone(), &cold).unwrap(),
        walk(&mechanism, Sampling::greedy(), &Hooks::default()).unwrap()
    );
    let same = load(&["choose:temperature=0.7,hidden=true"])
        .hooks()
        .clone();
    assert_eq!(
        walk(&mechanism, hot.clone(), &same).unwrap(),
        walk(&mechanism, hot.clone().temperature(0.7), &Hooks::default()).unwrap()
    );
    let uniform = load(&["choose:uniform=true,temperature=1"]).hooks().clone();
    let (one, two) = (
        walk(&mechanism, hot.clone(), &uniform),
        walk(&mechanism, hot.clone(), &uniform),
    );
    let one = one.unwrap();
    assert_eq!(one, two.unwrap(), "random numbers of the host replay");
    assert_ne!(one, walk(&mechanism, hot.seed(10), &uniform).unwrap());
    let mut measured = session(&mechanism, Sampling::greedy(), &same).unwrap();
    let mut plain = session(&mechanism, Sampling::greedy(), &Hooks::default()).unwrap();
    let logits: Vec<f64> = plain
        .look()
        .unwrap()
        .1
        .iter()
        .map(|&score| f64::from(score) / 0.7)
        .collect();
    let top = logits.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = logits.iter().map(|score| (score - top).exp()).sum();
    let expected = top + sum.ln() - logits[5];
    assert!((measured.resistance(5).unwrap() - expected).abs() < 1e-4);
    assert!(
        session(&mechanism, Sampling::greedy(), &cold)
            .unwrap()
            .resistance(5)
            .is_err()
    );
}

#[test]
fn a_text_grows_both_ways() {
    let mechanism = mechanism();
    let hooks = load(&["outward"]).hooks().clone();
    let sampling = Sampling::default().temperature(0.8).seed(1);
    let grown = grow(
        &mechanism,
        &[3, 4],
        &Start::Profile,
        &sampling,
        9,
        None,
        &hooks,
    )
    .unwrap();
    assert_eq!((grown.ids.len(), grown.before), (11, 5));
    assert_eq!(grown.ids[5..7], [3, 4]);
    for (step, placed) in grown.placed.iter().enumerate() {
        assert_eq!(placed.backward, step % 2 == 0);
        assert_eq!(grown.ids[(placed.position + 5) as usize], placed.token);
        assert!(placed.resistance >= 0.0);
    }
    // To the left only walked edges are taken.
    for pair in grown.ids[..6].windows(2) {
        let graph = mechanism.graph();
        assert!(
            graph
                .fan(brillm::graph::NodeId(pair[0]))
                .position(pair[1])
                .is_some(),
            "{pair:?}"
        );
    }
    let again = grow(
        &mechanism,
        &[3, 4],
        &Start::Profile,
        &sampling,
        9,
        None,
        &hooks,
    )
    .unwrap();
    assert_eq!(grown, again);
    // Nobody asked: it grows to the right, as a session does.
    let right = grow(
        &mechanism,
        &[3, 4],
        &Start::Profile,
        &sampling,
        20,
        None,
        &Hooks::default(),
    );
    assert_eq!(
        right.unwrap().ids[2..],
        walk(&mechanism, sampling, &Hooks::default()).unwrap()
    );
}

struct Imagined;

impl Trial for Imagined {
    fn distances(
        &mut self,
        _: Distance,
        keys: &mut [f64],
        values: &mut [f64],
    ) -> brillm::Result<()> {
        keys.copy_from_slice(&[0.0, 1.0, 5.0, 2.0].repeat(4));
        for (place, key) in keys.iter_mut().enumerate() {
            *key = [0.0, 1.0, 5.0, 2.0][place / 4];
        }
        values.fill(0.0);
        Ok(())
    }
    fn similarity(&mut self, source: &[u32]) -> brillm::Result<f64> {
        assert_eq!(source, [0, 1, 0, 3]);
        Ok(0.9)
    }
}

#[test]
fn caches_are_planned_and_kept() {
    let hooks = load(&["memory"]).hooks().clone();
    let call = Call::new(1, 0, 0);
    let plan = hooks.plan.as_ref().unwrap();
    assert!(plan.tries());
    let ones = [1; 4];
    let shape = KvShape {
        layers: 4,
        query_heads: &ones,
        kv_heads: &ones,
        head_width: &ones,
        context: 64,
    };
    let (mut source, mut storage) = ([0, 1, 2, 3], [0; 4]);
    let planned = Planned {
        source: &mut source,
        storage: &mut storage,
    };
    let mut trial = Imagined;
    assert_eq!(
        plan.plan(&call, &shape, Some(&mut trial), planned).unwrap(),
        Answer::Given
    );
    assert_eq!((source, storage), ([0, 1, 0, 3], [16; 4]));
    let planned = Planned {
        source: &mut source,
        storage: &mut storage,
    };
    assert_eq!(
        plan.plan(&call, &shape, None, planned).unwrap(),
        Answer::Declined
    );

    let keep = hooks.keep.as_ref().unwrap();
    let needs = keep.begin(&call, 40).unwrap();
    let column = needs.column.unwrap();
    assert_eq!(
        (column.window, column.heads),
        (10, HeadReduction::GroupMean)
    );
    assert!(needs.accumulated && !needs.key_norm && (column.newest - 1.2).abs() < 1e-6);
    let positions: Vec<u32> = (0..6).collect();
    let weights = [1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 9.0, 1.0, 8.0, 2.0, 7.0, 3.0];
    let question = KeepQuestion {
        phase: Phase::Prefill,
        layer: 0,
        layers: 2,
        heads: 2,
        prompt: 6,
        length: 6,
        positions: &positions.repeat(2),
        stream: &positions,
        column: &[],
        accumulated: &weights,
        key_norm: &[],
    };
    let kept = keep.keep(&call, &question).unwrap().unwrap();
    assert_eq!(kept.slots.unwrap(), [[1, 3, 5], [0, 2, 5]]);
    assert_eq!(
        (kept.stream, kept.next_check),
        (Some(vec![0, 2, 4, 5]), Some(11))
    );

    let format = |side| {
        let question = CodecQuestion {
            layer: 0,
            layers: 4,
            head_width: 8,
            side,
        };
        hooks
            .codec
            .as_ref()
            .unwrap()
            .plan(&call, &question)
            .unwrap()
            .unwrap()
    };
    assert_eq!(format(CodecSide::Key).axis, CodecAxis::Channel);
    assert_eq!(
        (format(CodecSide::Value).axis, format(CodecSide::Value).bits),
        (CodecAxis::Token, 4)
    );
}

#[test]
fn recent_keeps_sinks_and_a_window() {
    let hooks = load(&["recent:sinks=2,window=3"]).hooks().clone();
    let keep = hooks.keep.as_ref().unwrap();
    let call = Call::new(1, 0, 0);
    assert_eq!(keep.begin(&call, 9).unwrap(), Default::default());
    let ask = |positions: &[u32], length: usize| {
        let question = KeepQuestion {
            phase: Phase::Decode,
            layer: 0,
            layers: 1,
            heads: 1,
            prompt: 4,
            length,
            positions,
            stream: &[],
            column: &[],
            accumulated: &[],
            key_norm: &[],
        };
        keep.keep(&call, &question).unwrap().unwrap()
    };
    let nine: Vec<u32> = (0..9).collect();
    let kept = ask(&nine, 9);
    assert_eq!(
        (kept.slots, kept.next_check),
        (Some(vec![vec![0, 1, 6, 7, 8]]), Some(5))
    );
    // One token later the slots hold other positions.
    assert_eq!(
        ask(&[0, 1, 6, 7, 8, 9], 10).slots,
        Some(vec![vec![0, 1, 3, 4, 5]])
    );
    assert_eq!(ask(&[0, 1, 2, 3], 4).slots, None);
}

#[test]
fn masks_learn_and_are_saved() {
    let hooks = load(&["memory"]).hooks().clone();
    let mask = hooks.mask.as_ref().unwrap();
    let call = Call::new(1, 0, 5);
    let moment = MaskMoment {
        step: 5,
        steps: 10,
        epoch: 0.5,
    };
    assert!((mask.ratio(&call, &moment).unwrap().unwrap() - 0.15).abs() < 1e-12);
    let mut weights = [1.0; 3];
    let question = MaskTokens {
        tokens: &[0, 1, 3],
        tags: &[],
        words: &[],
        allowed: &[true; 3],
        ratio: 0.15,
    };
    assert_eq!(
        mask.weigh(&call, &question, &mut weights).unwrap(),
        Answer::Given
    );
    assert_eq!(weights, [1.0, 0.5, 0.25]);
    let outcome = MaskOutcome {
        tokens: &[0, 1],
        tags: &[],
        losses: &[0.5, 1.5],
    };
    mask.learn(&call, &outcome).unwrap();
    let state = mask.save().unwrap();
    assert_eq!(state, [2f64.to_le_bytes(), 2u64.to_le_bytes()].concat());
    let other = load(&["memory"]).hooks().clone();
    let other = other.mask.as_ref().unwrap();
    assert_ne!(other.save().unwrap(), state);
    other.restore(&state).unwrap();
    assert_eq!(other.save().unwrap(), state);
    assert!(
        other
            .restore(&[1, 2])
            .unwrap_err()
            .to_string()
            .contains("16 bytes")
    );
}

#[test]
fn references_become_records() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.txt");
    std::fs::write(&text, "The sun is a star.\n").unwrap();
    let out = folder.path().join("records.jsonl");
    let (text, out) = (text.display().to_string(), out.display().to_string());
    let said = report(&[
        "corpus",
        &text,
        "--out",
        &out,
        "--no-model",
        "--plugin",
        "pairs",
        "--json",
    ]);
    assert_eq!(said["records"], 1);
    assert_eq!(said["plugins"][0]["id"], "org.brillm.test.pairs");
    let record: Value = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!(record["reference"], "0");
    assert_eq!(record["answer"], Value::Null);
    if cfg!(feature = "model") {
        let output = brillm(&["corpus", &text, "--plugin", "pairs", "--temperature", "0"]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let record: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(
            record["answer"]
                .as_str()
                .is_some_and(|answer| !answer.is_empty()),
            "{record}"
        );
    }
    let output = brillm(&["corpus", &text, "--no-model"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("corpus/1"));
}

#[test]
fn a_plugin_that_fails_is_named() {
    let mechanism = mechanism();
    let cases = [
        ("error", "does not feel like it"),
        ("panic", "the edges are too sharp"),
        ("nonsense", "node 0 is NaN"),
    ];
    for (mode, says) in cases {
        let named = format!("faulty:mode={mode},after=4");
        let hooks = load(&[&named]).hooks().clone();
        let error = walk(&mechanism, Sampling::greedy(), &hooks).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Plugin, "{text}");
        for part in ["org.brillm.test.faulty", "edge/1", "step 4", says] {
            assert!(text.contains(part), "{mode}: {text} lacks {part}");
        }
        // Asked again, a poisoned instance is not called any more; the others are.
        let again = walk(&mechanism, Sampling::greedy(), &hooks)
            .unwrap_err()
            .to_string();
        assert_eq!(
            again.contains("not called any more"),
            mode == "panic",
            "{again}"
        );
        // Skipping goes on as if it had no opinion.
        let hooks = load(&[&format!("{named},on-error=skip")]).hooks().clone();
        assert_eq!(
            walk(&mechanism, Sampling::greedy(), &hooks).unwrap(),
            walk(&mechanism, Sampling::greedy(), &Hooks::default()).unwrap(),
            "{mode}"
        );
    }
    for (mode, says) in [
        ("create", "never likes"),
        ("create-panic", "created in anger"),
    ] {
        let selection = Selection::named("faulty").option("mode", mode);
        let error = Plugins::load(&[selection], &finder())
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn options_are_checked_before_a_plugin_sees_them() {
    for (named, says) in [
        ("recent:window=0", "at least 1"),
        ("recent:widow=3", "no option widow"),
        ("recent:window=wide", "type \"integer\""),
        ("no-such", "no plugin is named"),
        ("recent:sha256=00", "sha256"),
    ] {
        let selection: Selection = named.parse().unwrap();
        let error = Plugins::load(&[selection], &finder())
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{named}: {error}");
    }
    let plugins = load(&["recent:window=32"]);
    let record = plugins.record();
    assert_eq!(
        record[0]["options"],
        json!({"sinks": 4, "window": 32, "slack": 0})
    );
    assert_eq!(record[0]["sha256"].as_str().unwrap().len(), 64);
    // What a run recorded loads again, checksum and all.
    let again = Plugins::load(&plugins.selections(), &finder()).unwrap();
    assert_eq!(again.record(), record);
    assert_eq!(plugins.selections()[0].on_error, OnError::Stop);
}

fn fault(number: u32, folder: &Path) -> PathBuf {
    compile("faults.c", &format!("fault{number}"), number, folder)
}

/// Compiles a file of `tests/plugins/c` into a library.
fn compile(source: &str, name: &str, fault: u32, folder: &Path) -> PathBuf {
    let library = folder.join(format!("lib{name}{}", std::env::consts::DLL_SUFFIX));
    let output = Command::new("cc")
        .args([
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-pedantic",
            "-Werror",
            "-fPIC",
            "-shared",
            "-I",
        ])
        .arg(root().join("plugins"))
        .arg(format!("-DFAULT={fault}"))
        .arg("-o")
        .arg(&library)
        .arg(root().join("tests/plugins/c").join(source))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    library
}

#[test]
fn libraries_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let load = |path: &Path| {
        let selection = Selection::named(path.display().to_string());
        Plugins::load(&[selection], &finder()).unwrap_err()
    };
    let text = folder.path().join("text.so");
    std::fs::write(&text, "not a library").unwrap();
    let error = load(&text);
    assert_eq!(error.kind(), ErrorKind::Plugin);
    assert!(error.to_string().contains("cannot be loaded"), "{error}");
    for (number, kind, says) in [
        (4, ErrorKind::Plugin, "no function resist"),
        (5, ErrorKind::Version, "version 2.3"),
        (6, ErrorKind::Plugin, "not one of brillm"),
        (7, ErrorKind::Plugin, "no function brl_plugin_entry"),
    ] {
        let error = load(&fault(number, folder.path()));
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let odd = fault(3, folder.path());
    let plugins = Plugins::load(&[Selection::named(odd.display().to_string())], &finder()).unwrap();
    let error = walk(&mechanism(), Sampling::greedy(), plugins.hooks()).unwrap_err();
    assert!(error.to_string().contains("unknown status 77"), "{error}");
}

#[test]
fn a_library_is_loaded_once_for_all_runs() {
    let folder = tempfile::tempdir().unwrap();
    let library = compile("counts.c", "counts", 0, folder.path());
    let selection = Selection::named(library.display().to_string());
    let loader = Loader::new(finder());
    let mut runs = Vec::new();
    for _request in 0..3 {
        let loaded = loader.load(std::slice::from_ref(&selection)).unwrap();
        for _choice in 0..2 {
            runs.push(loaded.instantiate().unwrap());
        }
    }
    let reports = runs[0].reports(&Call::new(0, 0, 0)).unwrap();
    assert_eq!(
        reports["org.brillm.test.counts"],
        json!({"entries": 1, "instances": 6, "hosts": 1})
    );
    // The checksum of the loaded file counts, not that of a file written over it since.
    let wrong = Selection {
        sha256: Some("00".into()),
        ..selection
    };
    let error = loader.load(&[wrong]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checksum, "{error}");
}

#[test]
fn a_manifest_that_lies_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let built = build(&root().join("plugins/recent"), folder.path(), false).unwrap();
    let load = || {
        let selection = Selection::named(built.library.display().to_string());
        Plugins::load(&[selection], &finder())
    };
    assert!(load().is_ok());
    let honest: Value = serde_json::from_slice(&std::fs::read(&built.manifest).unwrap()).unwrap();
    let lie = |change: &dyn Fn(&mut Value)| {
        let mut changed = honest.clone();
        change(&mut changed);
        std::fs::write(&built.manifest, changed.to_string()).unwrap();
        load().unwrap_err()
    };
    for (error, says) in [
        (
            lie(&|manifest| manifest["plugins"][0]["hooks"] = json!(["edge/1"])),
            "hooks is",
        ),
        (
            lie(&|manifest| manifest["plugins"][0]["id"] = json!("org.other")),
            "names org.other",
        ),
        (
            lie(&|manifest| manifest["plugins"][0]["version"] = json!("9.9.9")),
            "9.9.9",
        ),
        (
            lie(&|manifest| manifest["abi"] = json!("1.7")),
            "interface 1.7",
        ),
        (
            lie(&|manifest| manifest["sha256"] = json!("00")),
            "manifest says 00",
        ),
        (
            lie(&|manifest| manifest["more"] = json!(1)),
            "not a plugin's manifest",
        ),
    ] {
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn listing_runs_no_code() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = json!({"library": "nothing.so", "sha256": "00", "abi": "1.0", "plugins": [
        {"id": "org.example.ghost", "name": "ghost", "version": "1.0.0", "license": "MIT", "about": "Is not there.",
         "hooks": ["edge/1"], "schema": null}]});
    let path = folder.path().join(format!("ghost{}", Manifest::SUFFIX));
    std::fs::write(&path, manifest.to_string()).unwrap();
    std::fs::write(folder.path().join("broken.plugin.json"), "{").unwrap();
    let folder = folder.path().display().to_string();
    let listed = report(&["plugin", "list", "--json", "--plugin-path", &folder]);
    let ids: Vec<&str> = listed["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|plugin| plugin["id"].as_str())
        .collect();
    // The library of the first does not even exist.
    assert!(
        ids.contains(&"org.example.ghost") && ids.contains(&"org.brillm.recent"),
        "{ids:?}"
    );
    assert_eq!(listed["unreadable"].as_array().unwrap().len(), 1);
    let shown = report(&["plugin", "info", "recent", "--json"]);
    assert_eq!(shown["schema"]["properties"]["sinks"]["default"], 4);
    assert_eq!(shown["hooks"], json!(["kv.keep/1"]));
}

#[test]
fn commands_take_plugins_and_record_them() {
    let parse = |output: Output| -> Value {
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let said = parse(generate(&[
        "--plugin",
        "steer:to=7,bonus=1000",
        "--plugin",
        "watch",
    ]));
    assert_eq!(said["ids"], json!(vec![7; 8]));
    assert_eq!(
        said["plugins"][0]["options"],
        json!({"to": 7, "bonus": 1000})
    );
    assert_eq!(said["plugins"][1]["id"], "org.brillm.test.watch");
    assert_eq!(said["probes"]["org.brillm.test.watch"]["energies"], 8);
    assert!(parse(generate(&[]))["plugins"].is_null());
    let grown = parse(generate(&["--plugin", "outward", "--temperature", "0.8"]));
    assert_eq!(grown["before"], 4);
    let model = MODEL.display().to_string();
    let traced = report(&[
        "trace",
        "--model",
        &model,
        "--prompt-ids",
        "3",
        "--tokens",
        "3",
        "--json",
        "--plugin",
        "steer:to=7,bonus=1000",
    ]);
    let path: Vec<&Value> = traced["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| &token["id"])
        .collect();
    assert_eq!(json!(path), json!([3, 7, 7, 7]));
    assert!(
        traced["plugins"][0]["id"]
            .as_str()
            .unwrap()
            .ends_with("steer")
    );
    assert_eq!(traced["steps"][0]["candidates"][0]["probability"], 1.0);
    let beams = parse(generate(&[
        "--beam",
        "2",
        "--plugin",
        "steer:to=7,bonus=1000",
    ]));
    assert_eq!(beams["paths"][0]["ids"], json!(vec![7; 8]));
    let ids = tempfile::NamedTempFile::with_suffix(".u16").unwrap();
    let tokens: Vec<u8> = (0..200u16)
        .flat_map(|place| (place * 5 % 12).to_le_bytes())
        .collect();
    std::fs::write(ids.path(), tokens).unwrap();
    let ids = ids.path().display().to_string();
    let of = |more: &[&str]| {
        let mut all = vec![
            "eval",
            "--model",
            &model,
            "--ids",
            &ids,
            "--windows",
            "21,5",
            "--json",
        ];
        all.extend(more);
        report(&all)
    };
    let (plain, same, other) = (
        of(&[]),
        of(&["--plugin", "decline"]),
        of(&["--plugin", "half"]),
    );
    assert_eq!(plain["perplexity"], same["perplexity"]);
    assert_ne!(plain["perplexity"], other["perplexity"]);
    assert_eq!(other["plugins"][0]["id"], "org.brillm.test.half");
}

#[test]
fn run_files_pin_plugins() {
    let folder = tempfile::tempdir().unwrap();
    let ids = folder.path().join("text.u16");
    let mut random = Random::new(3);
    let tokens: Vec<u8> = (0..3000)
        .flat_map(|_| (random.below(12) as u16).to_le_bytes())
        .collect();
    std::fs::write(&ids, tokens).unwrap();
    let sum = load(&["recent"]).record()[0]["sha256"]
        .as_str()
        .unwrap()
        .to_string();
    let recipe = |sum: &str| {
        format!(
            "name = \"pinned\"\n[data]\ntrain = [\"text.u16\"]\ntokens = \"ids\"\nvocabulary = 12\n\
             validation-fraction = 0.0\n[profile]\nwidth = 8\n[train]\ntokens = 2000\nbatch = 4\nsteps = 10\nfolds = 0\n\
             [[plugin]]\nname = \"recent\"\nsha256 = \"{sum}\"\noptions = {{ window = 9 }}\n"
        )
    };
    let path = folder.path().join("run.toml");
    let out = folder.path().join("out").display().to_string();
    let run = |text: String| {
        std::fs::write(&path, text).unwrap();
        brillm(&[
            "train",
            &path.display().to_string(),
            "--out",
            &out,
            "--quiet",
            "--json",
        ])
    };
    let refused = run(recipe(&"0".repeat(64)));
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("sha256"));
    let output = run(recipe(&sum));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["plugins"][0]["options"]["window"], 9);
    let kept: Value =
        serde_json::from_slice(&std::fs::read(Path::new(&out).join("run.json")).unwrap()).unwrap();
    assert_eq!(kept["plugin"][0]["sha256"], sum);
    assert_eq!(
        kept["plugin"][0]["options"],
        json!({"sinks": 4, "window": 9, "slack": 0})
    );
}

fn check(library: &str, more: &[&str]) -> (bool, Vec<(String, String, String)>) {
    let mut arguments = vec!["plugin", "check", library, "--json"];
    arguments.extend(more);
    let output = brillm(&arguments);
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let cases = said["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| {
            let text = |key: &str| case[key].as_str().unwrap().to_string();
            (text("case"), text("verdict"), text("detail"))
        })
        .collect();
    assert_eq!(said["passed"] == true, output.status.success());
    (output.status.success(), cases)
}

#[test]
fn sound_plugins_pass_the_check() {
    for library in ["recent", "steer"] {
        let (passed, cases) = check(library, &[]);
        let bad: Vec<_> = cases
            .iter()
            .filter(|case| case.1 != "passed" && case.1 != "warned")
            .collect();
        assert!(passed && bad.is_empty(), "{library}: {bad:?}");
        assert!(cases.len() > 15);
    }
}

#[test]
fn faults_are_results_of_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let verdict = |library: &Path, case: &str| {
        let (passed, cases) = check(&library.display().to_string(), &["--timeout", "5"]);
        assert!(!passed);
        cases
            .into_iter()
            .find(|found| found.0 == case)
            .unwrap_or_else(|| panic!("no case {case}"))
    };
    let overrun = verdict(&fault(1, folder.path()), "edge/1 many");
    assert_eq!(overrun.1, "crashed");
    assert!(overrun.2.contains("beyond its buffer"), "{overrun:?}");
    assert_eq!(verdict(&fault(2, folder.path()), "edge/1 one").1, "crashed");
    let major = verdict(&fault(5, folder.path()), "entry");
    assert!(
        major.1 == "failed" && major.2.contains("version 2.3"),
        "{major:?}"
    );
    let text = folder.path().join("text.so");
    std::fs::write(&text, "not a library").unwrap();
    assert_eq!(verdict(&text, "entry").1, "failed");

    let faulty = Finder::standard([PathBuf::from(&*FOLDER)]);
    let library = faulty
        .manifests()
        .into_iter()
        .flatten()
        .find(|manifest| manifest.library.contains("brillm_test_plugins"))
        .unwrap()
        .library_path()
        .display()
        .to_string();
    // One case each, as the checker would run it.
    let one = |mode: &str, case: &str| {
        let output = brillm(&[
            "plugin",
            "check",
            &library,
            "--json",
            "--in-process",
            case,
            "--id",
            "org.brillm.test.faulty",
            "--option",
            &format!("mode={mode}"),
        ]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), said)
    };
    let (_, said) = one("panic", "edge/1 one");
    assert!(
        said.contains("failed") && said.contains("too sharp"),
        "{said}"
    );
    let (_, said) = one("nonsense", "edge/1 one");
    assert!(said.contains("invalid answer"), "{said}");
    let (_, said) = one("dice", "edge/1 replay");
    assert!(said.contains("failed"), "{said}");
    let (survived, _) = one("crash", "edge/1 one");
    assert!(!survived);
    let (_, said) = one("none", "edge/1 replay");
    assert!(said.contains("passed"), "{said}");
}

#[test]
fn a_write_beyond_ends_the_run_with_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let library = fault(1, folder.path()).display().to_string();
    let output = generate(&["--plugin", &library]);
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    for part in ["org.brillm.test.fault", "edge/1", "wrote beyond its buffer"] {
        assert!(errors.contains(part), "{errors}");
    }
}

#[test]
fn a_plugin_that_does_not_return_is_named() {
    let model = MODEL.display().to_string();
    let arguments = [
        "generate",
        "--model",
        &model,
        "--prompt-ids",
        "3",
        "--tokens",
        "3",
        "--plugin-timeout",
        "0.5",
    ];
    let mut child = support::brillm(&with_plugins(&arguments, &FOLDER, &["faulty:mode=hang"]))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = child.stderr.take().unwrap();
    let begun = Instant::now();
    let mut said = Vec::new();
    let mut buffer = [0; 512];
    while !String::from_utf8_lossy(&said).contains("has not returned") {
        let read = std::io::Read::read(&mut errors, &mut buffer).unwrap();
        assert!(read > 0, "it ended: {}", String::from_utf8_lossy(&said));
        said.extend(&buffer[..read]);
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.contains("org.brillm.test.faulty: edge/1: step 0"),
        "{said}"
    );
}

#[test]
fn a_new_plugin_builds_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = support::brillm(arguments)
            .env("CARGO_NET_OFFLINE", "true")
            .env(
                "CARGO_TARGET_DIR",
                Path::new(env!("CARGO_TARGET_TMPDIR")).join("new"),
            )
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let (here, made) = (
        folder.path().display().to_string(),
        folder.path().join("warm-up"),
    );
    let out = folder.path().join("out").display().to_string();
    run(&["plugin", "new", "warm-up", "--out", &here]);
    // The versions this project is built with are there; newer ones might not be.
    std::fs::copy(root().join("Cargo.lock"), made.join("Cargo.lock")).unwrap();
    run(&[
        "plugin",
        "build",
        &made.display().to_string(),
        "--out",
        &out,
    ]);
    run(&["plugin", "check", "warm-up", "--plugin-path", &out]);
    run(&["plugin", "info", "warm-up", "--plugin-path", &out]);
}

#[test]
fn fans_of_every_size_come_back_whole() {
    let hooks = load(&["half"]).hooks().clone();
    let call = Call::new(0, 0, 0);
    for size in [1, 7, 4000] {
        let energies = vec![1.0; size];
        let mut resistance: Vec<f32> = (0..size).map(|place| place as f32).collect();
        let fan = Fan {
            source: 0,
            energies: &energies,
            targets: &[],
            counts: &[],
        };
        assert_eq!(
            hooks.edge[0].resist(&call, &fan, &mut resistance).unwrap(),
            Answer::Given
        );
        assert!(
            resistance
                .iter()
                .enumerate()
                .all(|(place, &value)| value == 0.5 * place as f32)
        );
    }
}
