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
    assert!(said.contains('→') && said.contains("exact contributions to a signal"));
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
    std::fs::write(&bad, [0x41, 0xff, 0x80]).unwrap();
    let mut child = brillm(&["generate", "-", "--model", model]);
    child.stdin(std::fs::File::open(&bad).unwrap());
    let said = error_of(&child.output().unwrap(), "bytes that are not text");
    assert!(
        said.contains("UTF-8") && said.contains("standard input"),
        "{said}"
    );
}

#[test]
fn a_session_belongs_to_one_model() {
    let (_, model) = trained();
    let folder = tempfile::tempdir().unwrap();
    let state = path(folder.path(), "session.json");
    let generate = |more: &[&str]| {
        let mut arguments = vec!["generate", "--temperature", "0", "--ignore-eos", "--json"];
        arguments.extend(more);
        json(&arguments)["ids"].as_array().unwrap().clone()
    };
    let whole = generate(&["the dog", "--tokens", "20", "--model", model]);
    let save = ["--tokens", "9", "--model", model, "--save-session", &state];
    let first = generate(&[&["the dog"][..], &save].concat());
    // No prompt, or an empty one, continues the session.
    let load = ["--tokens", "11", "--model", model, "--load-session", &state];
    for prompt in [&[][..], &[""]] {
        let rest = generate(&[prompt, &load].concat());
        assert_eq!([&first[..], &rest[..]].concat(), whole, "{prompt:?}");
    }
    // The same weights in another file are the same model; other weights of the same shape are not.
    let copy = path(folder.path(), "copy.bril");
    std::fs::copy(model, &copy).unwrap();
    generate(&["--model", &copy, "--load-session", &state]);
    let other = path(folder.path(), "other.bril");
    succeeds(&["quantize", model, "--element", "f16", "--out", &other]);
    let said = fails(&["generate", "--model", &other, "--load-session", &state]);
    assert!(said.contains("another model"), "{said}");
}

#[test]
fn damaged_sessions_are_refused() {
    let (_, model) = trained();
    let folder = tempfile::tempdir().unwrap();
    let state = path(folder.path(), "session.json");
    let charges = "--charges=0.9,1,1,1";
    succeeds(&[
        "generate",
        "the",
        "--model",
        model,
        charges,
        "--save-session",
        &state,
    ]);
    let text = std::fs::read_to_string(&state).unwrap();
    let saved: Value = serde_json::from_str(&text).unwrap();
    let with = |pointer: &str, value: Value| {
        let mut changed = saved.clone();
        *changed.pointer_mut(pointer).expect(pointer) = value;
        changed.to_string()
    };
    let mut old = saved.clone();
    old.as_object_mut()
        .unwrap()
        .retain(|key, _| key != "version" && key != "model");
    let huge = u64::MAX;
    let table = [
        (old.to_string(), "version 1"),
        (with("/version", 3.into()), "version 3"),
        (with("/model", "0".into()), "another model"),
        (with("/flow/step", huge.into()), "damaged"),
        (with("/flow/node", 4_000_000.into()), "damaged"),
        (with("/flow/signal", Value::Array(Vec::new())), "damaged"),
        (with("/flow/blended", Value::Array(Vec::new())), "damaged"),
        (with("/charges/nodes/0/0", 4_000_000.into()), "damaged"),
        (with("/charges/nodes/0/1/1", huge.into()), "damaged"),
        (with("/charges/step", huge.into()), "damaged"),
        (with("/charges/decay", 2.into()), "damaged"),
        (String::new(), "not a saved session"),
        ("{}".into(), "not a saved session"),
        ("[[[[".into(), "not a saved session"),
        ("null".into(), "not a saved session"),
        (text[..text.len() / 2].into(), "not a saved session"),
        ("[".repeat(100_000), "not a saved session"),
    ];
    cases(table, |(text, expected)| {
        std::fs::write(&state, text).unwrap();
        let said = fails(&["generate", "--model", model, "--load-session", &state]);
        assert!(
            said.contains(expected) && said.contains("session"),
            "{said}"
        );
    });
}

#[test]
fn the_reason_why_a_text_ended_is_reported() {
    let (_, model) = trained();
    let generate = |more: &[&str]| {
        let mut arguments = vec![
            "generate",
            "the cat",
            "--model",
            model,
            "--temperature",
            "0",
        ];
        arguments.extend(more);
        let output = run(&[&arguments[..], &["--verbose"]].concat());
        let ended = text_of(&output.stderr);
        arguments.push("--json");
        (json(&arguments)["finish_reason"].clone(), ended)
    };
    for (options, expected, words) in [
        (
            &["--tokens", "3", "--ignore-eos"][..],
            "length",
            "number of tokens",
        ),
        (
            &["--tokens", "50", "--ignore-eos", "--stop", "e"],
            "stop_text",
            "stop text",
        ),
    ] {
        let (reason, ended) = generate(options);
        assert_eq!(reason, expected, "{options:?}");
        assert!(ended.contains(words), "{options:?}: {ended}");
    }
    // GPT-2 has a table of 512 positions.
    let ids = vec!["7"; 510].join(",");
    let model = "tests/golden/transformer/capp-gpt2";
    let full = json(&[
        "generate",
        "--prompt-ids",
        &ids,
        "--model",
        model,
        "--tokens",
        "20",
        "--ignore-eos",
        "--json",
    ]);
    assert_eq!(full["finish_reason"], "context");
}

#[test]
fn a_gpu_is_refused_for_a_transformer() {
    let folder = tempfile::tempdir().unwrap();
    let text = path(folder.path(), "text.txt");
    std::fs::write(&text, "Once upon a time there was a cat.").unwrap();
    let model = ["--model", "models/stories260K"];
    for command in [
        &["generate", "Once"][..],
        &["trace", "Once"],
        &["eval", &text, "--windows", "8,2"],
    ] {
        for backend in [&["--backend", "gpu"][..], &["--adapter", "0"]] {
            let said = fails(&[command, &model, backend].concat());
            let known = said.contains("run on the CPU only") || said.contains("no GPU backend");
            assert!(known, "{command:?} {backend:?}: {said}");
        }
    }
}

#[cfg(unix)]
#[test]
fn the_number_of_threads_is_bounded() {
    let (_, model) = trained();
    let arguments = ["generate", "the", "--model", model, "--tokens", "1"];
    let mut by_option = brillm(&arguments);
    by_option.args(["--threads", "100000"]);
    let mut by_environment = brillm(&arguments);
    by_environment.env("RAYON_NUM_THREADS", "100000");
    for (mut command, name) in [
        (by_option, "--threads"),
        (by_environment, "RAYON_NUM_THREADS"),
    ] {
        let output = command.output().unwrap();
        stdout_of(&output, name);
        let warned = text_of(&output.stderr);
        assert!(
            warned.contains(name) && warned.contains("for each core"),
            "{warned}"
        );
    }
}

#[test]
fn logits_that_overflow_are_an_error() {
    use brillm::kernel::table::Table;
    use brillm::model::Model;
    use brillm::signal::{Profile, Weights};
    use brillm::text::Tokenizer;
    let folder = tempfile::tempdir().unwrap();
    let model = path(folder.path(), "m.bril");
    let profile = Profile::sifu(8);
    let mechanism = small_mechanism(&profile, u32::MAX);
    let (graph, weights) = (mechanism.graph(), mechanism.weights());
    let changed = Weights::gather(&profile, graph.nodes(), graph.own_edges(), |block| {
        let mut values = if block.narrows {
            weights.table(block.name).to_vec()
        } else {
            weights.values(block.name).to_vec()
        };
        if block.name == "scalars" {
            // ln α: every weight is finite, their products are not.
            values[0] = 100.0;
        }
        Ok(Some(Table::of(&values, block.rows, block.columns)))
    });
    let mechanism = mechanism.with_weights(changed.unwrap()).unwrap();
    let tokenizer = Tokenizer::ids(mechanism.nodes()).unwrap();
    Model::new(metadata(&profile, u32::MAX), tokenizer, mechanism)
        .unwrap()
        .save(model.as_ref())
        .unwrap();
    for more in [
        &["generate", "--temperature", "0"][..],
        &["generate", "--temperature", "1", "--json"],
        &["generate", "--beam", "2"],
        &["trace"],
    ] {
        let prompt = ["--prompt-ids", "1,2", "--model", &model, "--backend", "cpu"];
        let said = fails(&[more, &prompt].concat());
        assert!(
            said.contains("a probability is not a number"),
            "{more:?}: {said}"
        );
    }
}

#[test]
fn text_held_back_until_the_end_token_has_no_id_of_its_own() {
    let file = "models/english.bril";
    let model = brillm::open(file).unwrap();
    let ids = model.encode("Once upon").unwrap();
    let end = model.stop_tokens()[0];
    let new = *ids.last().unwrap();
    let text = model
        .tokenizer()
        .decode_after(&ids[..ids.len() - 1], &[new]);
    // The text of the new token begins the stop text, so it is held back until the text ends.
    let report = json(&[
        "generate",
        "Once",
        "--model",
        file,
        "--force",
        &format!("{new}@0"),
        "--force",
        &format!("{end}@1"),
        "--stop",
        &format!("{text}!"),
        "--json",
    ]);
    assert_eq!(
        (&report["ids"], &report["text"]),
        (&serde_json::json!([new]), &text.into())
    );
    assert_eq!(report["finish_reason"], "stop");
}

#[test]
fn many_prompts_are_continued_in_their_order() {
    let (_, model) = trained();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        path(folder.path(), name)
    };
    let lines = write("prompts.txt", "the cat\n\na dog likes\r\nmy sister\n");
    let objects = "{\"prompt\": \"the cat\"}\n{\"text\": \"a dog likes\"}\n{\"prompt\": \"my sister\", \"text\": \" is\"}\n";
    let objects = write("prompts.jsonl", objects);
    let with = |file: &str| {
        let given = ["generate", "--model", model, "--tokens", "6", "--seed", "4"];
        succeeds(&[&given[..], &["--temperature", "0.9", "--prompts", file]].concat())
    };
    let printed = with(&lines);
    assert_eq!(printed, with(&objects));
    let reports = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let reports: Vec<Value> = reports.collect();
    assert_eq!(reports.len(), 3);
    for (number, (prompt, report)) in ["the cat", "a dog likes", "my sister"]
        .iter()
        .zip(&reports)
        .enumerate()
    {
        assert_eq!(report["prompt"], *prompt);
        let seed = (4 + number).to_string();
        let alone = [prompt, "--model", model, "--tokens", "6", "--seed", &seed];
        let options = ["--temperature", "0.9", "--backend", "cpu", "--json"];
        let alone = json(&[&["generate"], &alone[..], &options].concat());
        for key in ["prompt_ids", "ids", "text", "finish_reason", "seed"] {
            assert_eq!(report[key], alone[key], "{prompt}: {key}");
        }
    }
    let empty = write("empty.txt", "\n \n");
    let invalid = write("invalid.jsonl", "{\"prompt\": \"a\"}\n{\"id\": 1}\n");
    let cases_of = [
        (vec!["--prompts", &empty], "the file has no prompts"),
        (
            vec!["--prompts", &invalid],
            "line 2: the object has neither",
        ),
        (vec!["--prompts", &lines, "--backend", "gpu"], "--backend"),
    ];
    cases(cases_of, |(options, expected)| {
        let errors = fails(&[&["generate", "--model", model][..], options].concat());
        assert!(errors.contains(expected), "{errors}");
    });
}
