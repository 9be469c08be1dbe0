//! `brillm generate` and `brillm trace`: reports, sessions, prompts, pipes.
#![cfg(feature = "cli")]

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

mod support;
use support::*;

#[test]
fn generate_reports_ids_text_and_beam_paths() {
    let (_, model) = trained();
    let report = json(&[
        "generate",
        "the cat",
        "--model",
        model,
        "--tokens",
        "12",
        "--seed",
        "5",
        "--temperature",
        "0.9",
        "--backend",
        "cpu",
        "--json",
    ]);
    keys(
        &report,
        &["model", "prompt_ids", "ids", "text", "tokens_per_second"],
    );
    let ids: Vec<String> = report["prompt_ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(Value::to_string)
        .collect();
    assert!(report["ids"].as_array().unwrap().len() <= 12);
    // The same by its ids, and the same text streams out behind the prompt.
    let by_ids = json(&[
        "generate",
        "--prompt-ids",
        &ids.join(","),
        "--model",
        model,
        "--tokens",
        "12",
        "--seed",
        "5",
        "--temperature",
        "0.9",
        "--json",
    ]);
    assert_eq!(report["ids"], by_ids["ids"]);
    assert_eq!(report["text"], by_ids["text"]);
    let streamed = succeeds(&[
        "generate",
        "the cat",
        "--model",
        model,
        "--tokens",
        "12",
        "--seed",
        "5",
        "--temperature",
        "0.9",
        "--backend",
        "auto",
        "--threads",
        "1",
    ]);
    assert_eq!(
        streamed,
        format!("the cat{}\n", report["text"].as_str().unwrap())
    );
    // Greedy is not the default, a beam has totals in order.
    let beam = json(&[
        "generate", "the cat", "--model", model, "--beam", "3", "--tokens", "4", "--json",
    ]);
    let totals: Vec<f64> = beam["paths"]
        .as_array()
        .unwrap()
        .iter()
        .map(|path| path["resistance"].as_f64().unwrap())
        .collect();
    assert_eq!(totals.len(), 3);
    assert!(
        totals.windows(2).all(|pair| pair[0] <= pair[1]),
        "{totals:?}"
    );
}

#[test]
fn a_saved_session_continues_in_another_command() {
    let (_, model) = trained();
    let folder = tempfile::tempdir().unwrap();
    let state = path(folder.path(), "session.json");
    let options = [
        "--model",
        model,
        "--temperature",
        "0",
        "--ignore-eos",
        "--json",
    ];
    let with = |more: &[&str]| {
        let mut arguments = vec!["generate"];
        arguments.extend(more);
        arguments.extend(options);
        json(&arguments)["ids"].as_array().unwrap().clone()
    };
    let whole = with(&["the dog", "--tokens", "20"]);
    let mut parts = with(&["the dog", "--tokens", "9", "--save-session", &state]);
    let last = parts.pop().unwrap().to_string();
    // The state stands on its last token; walking nothing new is a prompt of the token that follows.
    let next = whole[9].to_string();
    let rest = with(&[
        "--prompt-ids",
        &next,
        "--tokens",
        "10",
        "--load-session",
        &state,
    ]);
    assert_eq!(last, whole[8].to_string());
    assert_eq!(rest, whole[10..]);
}

#[test]
fn trace_reports_every_step_and_exports_it() {
    let (_, model) = trained();
    let report = json(&[
        "trace", "a dog", "--model", model, "--tokens", "3", "--json",
    ]);
    keys(
        &report,
        &[
            "schema", "model", "seed", "sampling", "tokens", "steps", "finish",
        ],
    );
    let ids: Vec<&Value> = report["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| &token["id"])
        .collect();
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 3);
    for (step, pair) in steps.iter().zip(ids[ids.len() - 4..].windows(2)) {
        keys(step, &["source", "chosen", "candidates"]);
        assert_eq!((&step["source"], &step["chosen"]), (pair[0], pair[1]));
        let candidates = step["candidates"].as_array().unwrap();
        candidates
            .iter()
            .for_each(|candidate| keys(candidate, &["id", "energy", "probability", "edge"]));
        let probabilities: Vec<f64> = candidates
            .iter()
            .map(|candidate| candidate["probability"].as_f64().unwrap())
            .collect();
        assert!(probabilities.windows(2).all(|pair| pair[0] >= pair[1]));
        // Greedy by default: the first is taken.
        assert_eq!(candidates[0]["id"], step["chosen"]);
    }
    let all = json(&[
        "trace",
        "--prompt-ids",
        "5",
        "--model",
        model,
        "--tokens",
        "1",
        "--all",
        "--json",
    ]);
    let candidates = all["steps"][0]["candidates"].as_array().unwrap();
    let sum: f64 = candidates
        .iter()
        .map(|candidate| candidate["probability"].as_f64().unwrap())
        .sum();
    assert!((sum - 1.0).abs() < 1e-4, "{sum} over {}", candidates.len());
    let folder = tempfile::tempdir().unwrap();
    let (svg, dot) = (path(folder.path(), "p.svg"), path(folder.path(), "p.dot"));
    let said = succeeds(&[
        "trace", "a dog", "--model", model, "--tokens", "2", "--export", &svg, "--export", &dot,
    ]);
    assert!(said.contains('→') && said.contains("pushed:"));
    assert_eq!(succeeds(&["trace", "--open", &svg]), said);
    assert!(
        std::fs::read_to_string(&dot)
            .unwrap()
            .starts_with("digraph")
    );
    let wrong = fails(&["trace", "a dog", "--model", model, "--export", "path.png"]);
    assert!(wrong.contains("png") && wrong.contains("graphml"));
}

#[test]
fn a_closed_pipe_ends_a_command_without_an_error() {
    let (_, model) = trained();
    for arguments in [
        &[
            "generate",
            "the cat",
            "--model",
            model,
            "--tokens",
            "200000",
            "--ignore-eos",
        ][..],
        &[
            "trace", "the cat", "--model", model, "--tokens", "300", "--all",
        ],
        &["inspect", model, "--limit", "300"],
    ] {
        let mut child = brillm(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0u8; 8];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        // The reader has gone.
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {:?}",
            output.status
        );
        assert_eq!(text_of(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn prompts_may_be_short_strange_or_huge_but_not_empty() {
    let (_, model) = trained();
    let own = tempfile::tempdir().unwrap();
    for arguments in [
        &["generate", "", "--model", model][..],
        &["trace", "", "--model", model],
        &["generate", "-", "--model", model],
        &["generate", "", "--model", model, "--beam", "2"],
    ] {
        assert!(fails(arguments).contains("the prompt is empty"));
    }
    let one = json(&[
        "generate",
        "--prompt-ids",
        "9",
        "--model",
        model,
        "--tokens",
        "1",
        "--json",
    ]);
    assert_eq!(one["prompt_ids"], serde_json::json!([9]));
    let strange = "日本 ☃ \u{0}\u{feff}é🦀";
    let out = succeeds(&[
        "generate",
        strange.replace('\0', "").as_str(),
        "--model",
        model,
        "--tokens",
        "2",
    ]);
    assert!(out.starts_with(&strange.replace('\0', "")), "{out:?}");
    let outside = fails(&["generate", "--prompt-ids", "4000000", "--model", model]);
    assert!(outside.contains("4000000"), "{outside}");

    // Ten megabytes through standard input.
    let huge = sentences(3, 320_000);
    assert!(huge.len() > 10 << 20);
    let begun = Instant::now();
    let mut child = brillm(&["generate", "-", "--model", model, "--tokens", "3", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || pipe.write_all(huge.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    println!(
        "a prompt of ten megabytes, {} tokens: {:.1} s",
        report["prompt_ids"].as_array().unwrap().len(),
        begun.elapsed().as_secs_f64()
    );
    // Text that is no text is said.
    let bad = own.path().join("bad.txt");
    std::fs::write(&bad, [0xff, 0xfe, 0x41, 0x80]).unwrap();
    let mut child = brillm(&["generate", "-", "--model", model]);
    child.stdin(std::fs::File::open(&bad).unwrap());
    let said = error_of(&child.output().unwrap(), "bytes that are not text");
    assert!(
        said.contains("UTF-8") && said.contains("standard input"),
        "{said}"
    );
}
