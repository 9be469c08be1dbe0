//! Evaluation and generation over ranks: of own edges that no rank holds whole, and of models that each holds. The results
//! have the bits of one process.
#![cfg(feature = "mpi")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

mod support;
use support::ranks::*;
use support::*;

/// Models by name, with the profile of each.
const MODELS: [(&str, &str); 3] = [
    ("gated", "profile={preset=\"sifu-own\",width=8}"),
    ("position", "profile={preset=\"reference\",width=8}"),
    ("composed", "profile={preset=\"sifu\",width=8}"),
];

/// Lines of a file, one of them empty.
const PROMPTS: [&str; 6] = [
    "the cat",
    "a dog likes",
    "",
    "my sister",
    "the",
    "every day",
];

/// A folder with a model of each profile, trained for some steps, held-out text, and prompts.
fn folder() -> &'static Path {
    static FOLDER: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();
    FOLDER.get_or_init(|| made_once("ranks-decoding", make))
}

fn make(folder: &Path) {
    write_recipe(folder);
    for (name, profile) in MODELS {
        let mut command = brillm(&["train", "run.toml", "--quiet", "--out", name]);
        for change in [profile, "train.tokens=1280", "train.validate-every=0"] {
            command.args(["--set", change]);
        }
        succeed(command.current_dir(folder), name);
    }
    let prompts = PROMPTS.join("\n");
    std::fs::write(folder.join("prompts.txt"), prompts).unwrap();
    let objects = "{\"prompt\": \"the old man\", \"text\": \" was kind\"}\n{\"text\": \"a small\", \"id\": 3}\n";
    std::fs::write(folder.join("prompts.jsonl"), objects).unwrap();
}

/// Numbers of ranks above one.
fn many() -> &'static [usize] {
    &sizes()[1..]
}

/// Run a command in one process and on numbers of ranks; return the outputs, that of one process first.
fn outputs(sizes: &[usize], arguments: &[&str]) -> Vec<(usize, String)> {
    let what = arguments.join(" ");
    let run = |command: &mut Command| {
        let command = command.args(["--threads", "1"]).args(arguments);
        let output = command.current_dir(folder()).output().unwrap();
        stdout_of(&output, &what)
    };
    let alone = run(&mut brillm::<&str>(&[]));
    let over = sizes.iter().map(|&size| {
        let mut command = mpirun(size, env!("CARGO_BIN_EXE_brillm"));
        (size, run(&mut command))
    });
    std::iter::once((1, alone)).chain(over).collect()
}

/// Check that a command prints the same in one process and over ranks, and return what it prints.
fn same(sizes: &[usize], arguments: &[&str]) -> String {
    let mut outputs = outputs(sizes, arguments);
    let (_, alone) = outputs.remove(0);
    for (size, found) in outputs {
        assert_eq!(found, alone, "{arguments:?} on {size} ranks");
    }
    alone
}

#[test]
fn an_evaluation_of_divided_edges_has_the_bits_of_one_process() {
    let recall = "--recall=20,4,0.3";
    let cases_of: [(&str, &[&str]); 4] = [
        ("gated", &["--windows", "20,13"]),
        ("gated", &["--documents"]),
        ("gated", &[recall]),
        ("position", &["--windows", "20,13", "--first-window", "2"]),
    ];
    cases(cases_of, |(name, how)| {
        let model = format!("{name}/model.bril");
        let mut arguments = vec!["eval", "--json", "--model", &model, "held-out.txt"];
        arguments.extend(*how);
        let report: Value = serde_json::from_str(&same(many(), &arguments)).unwrap();
        assert!(number(&report["perplexity"]) > 1.0, "{report}");
    });
}

#[test]
fn texts_are_those_of_one_process() {
    let cases_of: [(&str, &str, usize, &[&str]); 4] = [
        (
            "gated",
            "prompts.txt",
            2,
            &["--temperature", "1.1", "--seed", "5"],
        ),
        (
            "gated",
            "prompts.jsonl",
            4,
            &["--temperature", "0", "--charges=0.9,0.5,0.5,1"],
        ),
        (
            "position",
            "prompts.txt",
            4,
            &["--temperature", "0.8", "--top-k", "9"],
        ),
        ("composed", "prompts.txt", 2, &["--recall=20,4,0.3"]),
    ];
    cases(cases_of, |(name, prompts, size, how)| {
        let model = format!("{name}/model.bril");
        let mut arguments = vec!["generate", "--model", &model, "--tokens", "12"];
        arguments.extend(["--prompts", prompts]);
        arguments.extend(*how);
        let size = *size.min(sizes().last().unwrap());
        let lines = same(&[size], &arguments);
        let lines: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), if prompts.ends_with('l') { 2 } else { 5 });
        // A line is what its prompt and seed give alone.
        let line = &lines[1];
        let seed = line["seed"].to_string();
        let prompt = line["prompt"].as_str().unwrap();
        let mut alone = vec!["generate", prompt, "--json", "--model", &model];
        alone.extend(["--tokens", "12", "--backend", "cpu"]);
        alone.extend(how.iter().filter(|one| !["--seed", "5"].contains(one)));
        alone.extend(["--seed", &seed]);
        let output = brillm(&alone).current_dir(folder()).output().unwrap();
        let alone: Value = serde_json::from_str(&stdout_of(&output, prompt)).unwrap();
        for key in ["prompt_ids", "ids", "text", "finish_reason"] {
            assert_eq!(line[key], alone[key], "{key}");
        }
    });
}

#[test]
fn samples_and_single_texts_are_those_of_one_process() {
    let model = ["--model", "gated/model.bril", "--tokens", "9"];
    let samples = ["generate", "the dog", "--best-of", "5", "--json"];
    let samples: Value =
        serde_json::from_str(&same(many(), &[&samples[..], &model].concat())).unwrap();
    assert_eq!(samples["samples"].as_array().unwrap().len(), 5);
    let text = [&["generate", "the dog", "--seed", "3"][..], &model].concat();
    assert!(same(&[2], &text).starts_with("the dog"));
    let report = [&["generate", "the dog", "--json"][..], &model].concat();
    let reports = outputs(&[2], &report).into_iter().map(|(_, report)| {
        let mut report: Value = serde_json::from_str(&report).unwrap();
        report.as_object_mut().unwrap().remove("tokens_per_second");
        report
    });
    let reports: Vec<Value> = reports.collect();
    assert!(reports.iter().all(|one| *one == reports[0]), "{reports:?}");
}

#[test]
fn a_rank_that_is_interrupted_ends_the_texts_of_all() {
    let mut command = mpirun(2, env!("CARGO_BIN_EXE_brillm"));
    let endless = [
        "--tokens",
        "100000000",
        "--ignore-eos",
        "--prompts",
        "prompts.txt",
    ];
    command
        .args(["generate", "--model", "gated/model.bril"])
        .args(endless);
    command.args(["--threads", "1"]).current_dir(folder());
    // A file: nobody reads a pipe while the job ends.
    let printed = folder().join("interrupted.jsonl");
    let output = std::fs::File::create(&printed).unwrap();
    let command = command.stdout(output).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // Both have begun when both have been running for a while.
    std::thread::sleep(Duration::from_secs(2));
    signal(descendants(child.id(), "brillm")[1], "-TERM");
    fails_soon(child, "an interrupted rank");
    let lines = std::fs::read_to_string(printed).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let finish = lines.iter().map(|line| line["finish_reason"].as_str());
    assert_eq!(
        finish.collect::<Vec<_>>(),
        [Some("cancelled"); PROMPTS.len() - 1],
        "{lines:?}"
    );
}

#[test]
fn what_ranks_cannot_do_is_reported_once_and_soon() {
    let own = ["--model", "gated/model.bril"];
    let text = std::fs::read(folder().join("gated/model.bril")).unwrap();
    let mut damaged = text.clone();
    // Most of the file are the weights of own edges.
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(folder().join("damaged.bril"), damaged).unwrap();
    let cases_of: [(&[&str], &str); 6] = [
        (
            &[
                "eval",
                "held-out.txt",
                "--windows",
                "20,13",
                "--model",
                "damaged.bril",
            ],
            "the file is damaged",
        ),
        (
            &["eval", "held-out.txt", "--contexts", "4"],
            "ranks measure windows",
        ),
        (
            &["eval", "held-out.txt", "--dynamic", "0.01"],
            "dynamic evaluation needs",
        ),
        (
            &["generate", "the cat", "--beam", "3"],
            "ranks do not support",
        ),
        (&["generate", "-"], "standard input"),
        (&["generate", "--prompts", "none.txt"], "none.txt"),
    ];
    cases(cases_of, |(arguments, expected)| {
        let mut command = mpirun(2, env!("CARGO_BIN_EXE_brillm"));
        command.args(*arguments).current_dir(folder());
        if !arguments.contains(&"--model") {
            command.args(own);
        }
        let errors = fails_soon(command.stderr(Stdio::piped()).spawn().unwrap(), expected);
        assert!(errors.contains(expected), "{errors}");
        assert_eq!(errors.matches("brillm: ").count(), 1, "{errors}");
    });
}
