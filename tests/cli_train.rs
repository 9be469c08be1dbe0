//! `brillm train`: run files, interruptions, resuming.
#![cfg(feature = "cli")]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use brillm::kernel::random::Random;
use serde_json::Value;

mod support;
use support::*;

#[test]
fn a_mistake_in_a_run_file_is_reported_with_its_line() {
    let folder = recipe_folder();
    let recipe = path(folder.path(), "run.toml");
    let out = path(folder.path(), "run");
    for (right, wrong, line) in [
        ("batch = 4", "batchsize = 4", "line 16"),
        ("width = 8", "widht = 8", "line 12"),
        ("tokens = \"bpe\"", "tokens = \"letters\"", "line 8"),
        ("[data]", "[dater]", "line 5"),
        ("seed = 3", "seed = -3", "line 3"),
        ("width = 8", "width = 8\nblend = \"blurred\"", "line 13"),
        ("batch = 4", "batch = 4\nbatch = 5", "line 17"),
    ] {
        std::fs::write(&recipe, RECIPE.replace(right, wrong)).unwrap();
        let said = fails(&["train", &recipe, "--out", &out, "--quiet"]);
        assert!(
            said.contains(line) && said.contains("run.toml"),
            "{wrong}: {said}"
        );
    }
    std::fs::write(&recipe, RECIPE).unwrap();
    let said = fails(&[
        "train",
        &recipe,
        "--out",
        &out,
        "--set",
        "train.batchsize=4",
    ]);
    assert!(said.contains("batchsize"), "{said}");
    assert!(!Path::new(&out).exists(), "a mistake leaves no folder");
}

/// What a run leaves: its model, its last checkpoint and its log without the times of day.
fn outcome(out: &Path) -> (Vec<u8>, Vec<u8>, Vec<Value>) {
    let mut checkpoints: Vec<PathBuf> = std::fs::read_dir(out)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|ending| ending == "checkpoint")
        })
        .collect();
    checkpoints.sort();
    let log = std::fs::read_to_string(out.join("log.jsonl"))
        .unwrap()
        .lines()
        .map(|line| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            record
                .as_object_mut()
                .unwrap()
                .retain(|key, _| !key.starts_with("wall_"));
            record
        })
        .collect();
    (
        std::fs::read(out.join("model.bril")).unwrap(),
        std::fs::read(checkpoints.last().unwrap()).unwrap(),
        log,
    )
}

/// A run long enough to be stopped in its middle, and what it leaves when nothing stops it.
fn long_run() -> (tempfile::TempDir, Vec<String>) {
    let folder = recipe_folder();
    let arguments = [
        "train",
        &path(folder.path(), "run.toml"),
        "--quiet",
        "--set",
        "train.tokens=64000",
    ]
    .map(String::from)
    .to_vec();
    (folder, arguments)
}

#[test]
fn exact_sums_of_a_run_are_kept_when_it_is_resumed() {
    let folder = recipe_folder();
    let (recipe, out) = (
        path(folder.path(), "run.toml"),
        path(folder.path(), "exact"),
    );
    let begin = ["train", &recipe, "--quiet", "--out", &out];
    succeeds(&with(&begin.map(String::from), &["--ranks", "1"]));
    let tokens = "train.tokens=20000";
    succeeds(&with(
        &begin.map(String::from),
        &["--resume", "--set", tokens],
    ));
    let record = std::fs::read(Path::new(&out).join("run.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["train"]["reduction"], "exact");
    assert_eq!(record["train"]["tokens"], 20000);
}

#[test]
fn networks_have_no_exact_sums() {
    let folder = recipe_folder();
    let recipe = path(folder.path(), "run.toml");
    let out = path(folder.path(), "network");
    let network = ["--set", "kind=lstm", "--set", "profile={}"];
    let exact = ["--set", "train.reduction=exact"];
    let begin = ["train", &recipe, "--quiet", "--out", &out];
    let error = fails(&[&begin[..], &network, &exact].concat());
    assert!(error.contains("train.reduction"), "{error}");
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_utf8_are_files() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.txt");
    let output = brillm(&["train"])
        .arg(folder.path().join(name))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = text_of(&output.stderr);
    assert!(
        error.contains(".txt") && !error.contains("panic"),
        "{error}"
    );
}

fn with<'a>(arguments: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    arguments
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect()
}

#[cfg(unix)]
#[test]
fn a_run_resumed_after_ctrl_c_equals_an_uninterrupted_run() {
    interrupt_and_resume(&[]);
    // Streams whose state runs on from batch to batch, and averaged weights.
    interrupt_and_resume(&[
        "--set",
        "profile.preset=layered",
        "--set",
        "train.carry=true",
        "--set",
        "train.average=0.9",
    ]);
}

#[cfg(unix)]
#[test]
fn a_generation_ended_by_ctrl_c_has_printed_its_text() {
    let (_, model) = trained();
    let mut child = brillm(&[
        "generate",
        "the cat",
        "--model",
        model,
        "--tokens",
        "100000000",
        "--ignore-eos",
    ])
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let mut first = [0u8; 64];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    let line = format!("kill -INT {}", child.id());
    Command::new("sh").args(["-c", &line]).status().unwrap();
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// Check that a run with more arguments leaves the same files after interrupts as without.
#[cfg(unix)]
fn interrupt_and_resume(more: &[&str]) {
    let (folder, mut arguments) = long_run();
    arguments.extend(more.iter().map(ToString::to_string));
    let (whole, stopped) = (path(folder.path(), "whole"), path(folder.path(), "stopped"));
    succeeds(&with(&arguments, &["--out", &whole]));
    let mut interrupts = 0;
    for round in 0..40 {
        let mut more = vec!["--out", stopped.as_str()];
        if round > 0 {
            more.push("--resume");
        }
        let child = brillm(&with(&arguments, &more))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // As soon as this start has logged something new.
        let before = lines(&stopped);
        let begun = Instant::now();
        while lines(&stopped) <= before.max(1) && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(2));
            if interrupts >= 3 {
                break;
            }
        }
        if interrupts < 3 {
            let line = format!("kill -INT {}", child.id());
            Command::new("sh").args(["-c", &line]).status().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        match output.status.code() {
            Some(130) => {
                interrupts += 1;
                assert!(text_of(&output.stdout).contains("--resume"), "{output:?}");
            }
            Some(0) => break,
            code => panic!("{code:?}: {}", text_of(&output.stderr)),
        }
    }
    assert!(
        interrupts > 0,
        "the run was over before it could be stopped"
    );
    let (a, b) = (outcome(whole.as_ref()), outcome(stopped.as_ref()));
    assert!(
        a.0 == b.0,
        "the models differ after {interrupts} interrupts"
    );
    assert!(a.1 == b.1, "the checkpoints differ");
    assert_eq!(a.2, b.2, "the logs differ");
}

fn lines(out: &str) -> usize {
    std::fs::read_to_string(Path::new(out).join("log.jsonl")).map_or(0, |text| text.lines().count())
}

#[cfg(unix)]
#[test]
fn a_run_resumed_after_being_killed_equals_an_uninterrupted_run() {
    let (folder, arguments) = long_run();
    let (whole, killed) = (path(folder.path(), "whole"), path(folder.path(), "killed"));
    let begun = Instant::now();
    succeeds(&with(&arguments, &["--out", &whole]));
    let length = begun.elapsed().as_millis() as u64;
    // Another moment in every run of the tests; it is printed, so that a failure can be looked at.
    let seed = std::process::id() as u64;
    println!("seed {seed}, a whole run takes {length} ms");
    let mut random = Random::new(seed);
    let mut kills = 0;
    let mut longest = length.max(40) * 2 / 3;
    for _ in 0..24 {
        let mut child = brillm(&with(&arguments, &["--out", &killed, "--resume"]))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(random.below(longest)));
        child.kill().unwrap();
        match child.wait().unwrap().code() {
            None => kills += 1,
            // The machine has become faster than when the run was timed: begin again, with less patience.
            Some(0) if kills == 0 => {
                std::fs::remove_dir_all(&killed).unwrap();
                longest = (longest / 2).max(1);
            }
            Some(0) => break,
            Some(code) => panic!("exit code {code} after {kills} kills"),
        }
    }
    assert!(kills > 0);
    succeeds(&with(&arguments, &["--out", &killed, "--resume"]));
    let (a, b) = (outcome(whole.as_ref()), outcome(killed.as_ref()));
    assert!(a.0 == b.0, "the models differ after {kills} kills");
    assert!(a.1 == b.1, "the checkpoints differ");
    assert_eq!(a.2, b.2, "the logs differ");
    // A folder that holds a run is not overwritten by another.
    let said = fails(&with(&arguments, &["--out", &killed]));
    assert!(
        said.contains("already contains a run") && said.contains("--resume"),
        "{said}"
    );
    let said = fails(&with(
        &arguments,
        &["--out", &killed, "--resume", "--set", "train.rate=0.5"],
    ));
    assert!(said.contains("a different run file"), "{said}");
}

#[test]
fn training_with_sampled_negatives_learns_and_replays() {
    let folder = recipe_folder();
    let recipe = path(folder.path(), "run.toml");
    let mut models = Vec::new();
    for (name, kind) in [("a", "frequent"), ("b", "uniform"), ("c", "uniform")] {
        let (out, kind) = (
            path(folder.path(), name),
            format!("train.negative-kind={kind}"),
        );
        let report = json(&[
            "train",
            &recipe,
            "--out",
            &out,
            "--quiet",
            "--json",
            "--set",
            "profile.preset=sifu-own",
            "--set",
            "train.negatives=20",
            "--set",
            &kind,
        ]);
        // Measured over all 300 tokens, whatever was trained on: far better than any of them alike.
        let perplexity = report["validation_perplexity"].as_f64().unwrap();
        assert!(perplexity < 100.0, "{kind}: {perplexity}");
        models.push(std::fs::read(report["model"].as_str().unwrap()).unwrap());
    }
    assert!(
        models[0] != models[1],
        "the kind of negatives makes no difference"
    );
    assert!(
        models[1] == models[2],
        "the same seed draws other negatives"
    );
}

#[test]
fn walks_are_trained_stored_and_can_be_left_out() {
    let folder = recipe_folder();
    let (recipe, out) = (path(folder.path(), "run.toml"), path(folder.path(), "run"));
    let train = |more: &[&'static str]| {
        let arguments = ["train", &recipe, "--out", &out, "--quiet", "--json"];
        [&arguments[..], more].concat()
    };
    for (setting, what) in [
        ("graph.order=1", "graph.order must be 2 to 5"),
        ("graph.order=6", "graph.order must be 2 to 5"),
        ("graph.prune=-1", "graph.prune must be 0 or more"),
        ("graph.minimum-count=0", "must be at least 1"),
        ("graph.maximum-fan=0", "must be at least 1"),
        ("graph.minimum-count=100000", "no edges"),
        ("train.block=0", "train.block must be at least 1"),
        ("profile.layers=-1", "layers: invalid value"),
    ] {
        let said = fails(&train(&["--set", setting]));
        assert!(said.contains(what), "{setting}: {said}");
    }
    let reference = [
        "--set",
        "graph.order=3",
        "--set",
        "profile.preset=reference",
    ];
    let said = fails(&train(&reference));
    assert!(said.contains("static-resistance"), "{said}");

    let report = json(&train(&[
        "--set",
        "graph.order=4",
        "--set",
        "graph.prune=0.5",
    ]));
    let model = report["model"].as_str().unwrap();
    let held_out = path(folder.path(), "held-out.txt");
    let perplexity = |order: &[&'static str]| {
        let arguments = ["eval", "--model", model, &held_out, "--json"];
        let report = json(&[&arguments[..], order].concat());
        (
            report["order"].clone(),
            report["perplexity"].as_f64().unwrap(),
        )
    };
    let (order, with_walks) = perplexity(&[]);
    assert_eq!(order, 4);
    let (order, of_edges) = perplexity(&["--order", "2"]);
    assert_eq!(order, 2);
    assert!(
        with_walks < of_edges,
        "{with_walks} with walks, {of_edges} without"
    );
    let text = succeeds(&["eval", "--model", model, &held_out]);
    assert!(text.contains(", order 4"), "{text}");
    let text = succeeds(&["eval", "--model", model, "--order", "2", &held_out]);
    assert!(text.contains(", order 2"), "{text}");

    let inspected = json(&["inspect", model, "--json"]);
    assert_eq!(inspected["order"], 4);
    let sizes = inspected["walks"].as_array().unwrap();
    assert_eq!((sizes.len(), &sizes[0]["order"]), (2, &Value::from(3)));
    assert!(sizes[0]["targets"].as_u64().unwrap() > 0);

    let prompt = [
        "--model",
        model,
        "the cat sees",
        "--tokens",
        "4",
        "--backend",
        "cpu",
    ];
    let said = fails(&[&["generate"], &prompt[..], &["--order", "5"]].concat());
    assert!(said.contains("expected 2 to 4"), "{said}");
    let trace = |more: &[&'static str]| succeeds(&[&["trace"], &prompt[..], more].concat());
    assert!(trace(&[]).contains('×'), "no walk is shown");
    assert!(!trace(&["--order", "2"]).contains('×'));
    let document = json(&[&["trace"], &prompt[..], &["--json"]].concat());
    assert_eq!(document["model"]["order"], 4);
}
