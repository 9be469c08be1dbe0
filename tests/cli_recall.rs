//! Recall and dynamic evaluation in commands: fitted, stored, used, reported, refused.
#![cfg(feature = "cli")]

use serde_json::Value;

mod support;
use support::*;

fn number(report: &Value, pointer: &str) -> f64 {
    let value = report.pointer(pointer).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("{pointer} in {report}"))
}

#[test]
fn fitted_constants_are_printed_stored_and_used() {
    let (folder, model) = trained();
    let own = tempfile::tempdir().unwrap();
    let (text, other) = (path(own.path(), "text.txt"), path(own.path(), "other.bril"));
    std::fs::write(&text, sentences(2, 6)).unwrap();
    let fit = |more: &[&'static str]| [&["fit", "--model", model, &text][..], more].concat();
    let eval = |model: &str, more: &[&str]| {
        json(&[&["eval", "--json", "--model", model, &text], more].concat())
    };
    let stored = [
        &fit(&["--recall", "40", "--charges", "--json"])[..],
        &["--out", &other],
    ]
    .concat();
    let report = json(&stored);
    let plain = eval(model, &[]);
    keys(&plain, &["perplexity", "order"]);
    assert!(plain.get("recall").is_none(), "{plain}");
    for name in ["recall", "charges"] {
        let before = number(&report, &format!("/{name}/nats_per_token_before"));
        let after = number(&report, &format!("/{name}/nats_per_token"));
        assert!(
            (number(&plain, "/nats_per_token") - before).abs() < 1e-4,
            "{report}"
        );
        assert!(after <= before, "{report}");
        let used = eval(&other, &[&format!("--{name}")]);
        assert!(
            (number(&used, "/nats_per_token") - after).abs() < 1e-3,
            "{name}: {used}, {after}"
        );
        assert_eq!(used[name], report[name]["settings"]);
    }
    // What is printed can be passed on.
    let said = succeeds(&fit(&["--recall", "40"]));
    let printed = said
        .split_whitespace()
        .rfind(|word| word.starts_with("--recall="));
    let passed = eval(model, &[printed.expect(&said)]);
    let after = number(&report, "/recall/nats_per_token");
    assert!(
        (number(&passed, "/nats_per_token") - after).abs() < 1e-3,
        "{passed}, {after}"
    );
    let (recipe, run) = (path(folder, "run.toml"), path(own.path(), "run"));
    let train = ["train", &recipe, "--out", &run, "--quiet", "--json"];
    let few = ["--set", "train.recall=40", "--set", "train.tokens=640"];
    let trained = json(&[&train[..], &few].concat());
    let used = eval(trained["model"].as_str().unwrap(), &["--recall"]);
    assert_eq!(used["recall"], trained["recall"]["settings"]);
    assert_eq!(used["recall"]["window"], 40);
}

#[test]
fn fit_reads_the_windows_it_is_given() {
    let (_, model) = trained();
    let own = tempfile::tempdir().unwrap();
    let (all, part) = (path(own.path(), "all.u16"), path(own.path(), "part.u16"));
    let ids: Vec<u16> = (0..200).map(|index| 40 + index * 7 % 60).collect();
    write_ids(&all, &ids);
    write_ids(&part, &ids[24..=104]);
    let fit = |more: &[&str]| {
        json(&[&["fit", "--json", "--model", model, "--recall", "30"], more].concat())
    };
    let windows = fit(&["--ids", &all, "--windows", "9,10", "--first-window", "3"]);
    assert_eq!(windows, fit(&["--ids", &part]));
    assert_eq!(windows["tokens"], 80);
}

#[test]
fn options_of_a_stream_are_refused_where_they_have_no_effect() {
    let (folder, model) = trained();
    let text = path(folder, "held-out.txt");
    let transformer = format!("{}/models/stories260K", env!("CARGO_MANIFEST_DIR"));
    let eval = |more: &[&'static str]| [&["eval", "--model", model, &text], more].concat();
    let mut table = vec![
        (eval(&["--recall"]), "no fitted recall"),
        (eval(&["--charges"]), "no fitted charges"),
        (eval(&["--recall=5"]), "expected WINDOW,THETA,MU"),
        (eval(&["--recall=5,1,1"]), "mu 1"),
        (eval(&["--recall=70000,1,0.5"]), "window 70000"),
        (eval(&["--dynamic", "fast"]), "expected RATE"),
        (eval(&["--dynamic", "0.3,2"]), "PULL from 0 to 1"),
        (
            eval(&["--recall=5,1,0.5", "--windows", "9,3"]),
            "add --stream",
        ),
        (
            eval(&["--charges=0.9,1,1,1", "--windows", "9,3"]),
            "add --stream",
        ),
        (
            eval(&["--dynamic", "0.3", "--windows", "9,3"]),
            "add --stream",
        ),
        (
            eval(&["--dynamic", "0.3", "--contexts", "8"]),
            "cannot be used with",
        ),
        // Contexts are not those of windows.
        (
            eval(&["--contexts", "8", "--windows", "9,3"]),
            "cannot be used with",
        ),
        (
            eval(&["--recall=5,1,0.5", "--documents"]),
            "cannot be used with",
        ),
        (
            vec![
                "generate",
                "the",
                "--model",
                model,
                "--beam",
                "2",
                "--recall=5,1,0.5",
            ],
            "cannot be used with",
        ),
        (
            vec![
                "generate",
                "the",
                "--model",
                model,
                "--beam",
                "2",
                "--charges=0.9,1,1,1",
            ],
            "cannot be used with",
        ),
        (vec!["fit", "--model", model, &text], "required"),
        (
            vec!["fit", "--model", model, "--recall", "0", &text],
            "window of 0",
        ),
        (
            vec!["fit", "--model", model, "--recall", "70000", &text],
            "window 70000",
        ),
    ];
    for (charges, expected) in [
        ("--charges=2,1,1,1", "DECAY must be 0 to 1"),
        ("--charges=nan,1,1,1", "DECAY must be 0 to 1"),
        ("--charges=0.9,1e30,1,1", "NODE and EDGE must be"),
        ("--charges=0.9,inf,0,1", "NODE and EDGE must be"),
        ("--charges=0.9,1,1,0", "SCALE must be above 0"),
    ] {
        table.push((vec!["eval", "--model", model, &text, charges], expected));
    }
    if cfg!(feature = "transformer") {
        for more in ["--recall=5,1,0.5", "--charges=0.9,1,1,1", "--dynamic=0.3"] {
            table.push((vec!["eval", "--model", &transformer, &text, more], "graph"));
        }
        table.push((
            vec![
                "generate",
                "the",
                "--model",
                &transformer,
                "--recall=5,1,0.5",
            ],
            "graph",
        ));
        table.push((
            vec!["trace", "the", "--model", &transformer, "--recall=5,1,0.5"],
            "graph",
        ));
        table.push((
            vec!["fit", "--model", &transformer, "--recall", "5", &text],
            "graph",
        ));
    }
    cases(table, |(arguments, expected)| {
        let output = run(arguments);
        let said = text_of(&output.stderr);
        // Mistakes in arguments exit with 2, all others with 1.
        assert!(matches!(output.status.code(), Some(1 | 2)), "{said}");
        assert!(said.contains(expected), "{said}");
    });
}

#[test]
fn dynamic_evaluation_is_reported() {
    let (folder, model) = trained();
    let text = path(folder, "held-out.txt");
    let eval = |more: &[&str]| json(&[&["eval", "--json", "--model", model, &text], more].concat());
    let (fixed, learned) = (
        eval(&[]),
        eval(&["--dynamic", "0.1,0.002", "--recall=40,8,0.1"]),
    );
    assert_ne!(fixed["perplexity"], learned["perplexity"]);
    assert_eq!(
        learned["dynamic"],
        serde_json::json!({"rate": 0.1, "pull": 0.002})
    );
    assert_eq!(learned["recall"]["window"], 40);
    assert!(fixed.get("dynamic").is_none(), "{fixed}");
    let line = succeeds(&[
        "eval",
        "--model",
        model,
        &text,
        "--dynamic",
        "0.1",
        "--recall=40,8,0.5",
    ]);
    assert!(
        line.contains("recall 40,8,0.5") && line.contains("dynamic 0.1,0"),
        "{line}"
    );
}

#[test]
fn contexts_are_measured_with_what_they_charge_and_recall() {
    let (_, model) = trained();
    let own = tempfile::tempdir().unwrap();
    let ids = path(own.path(), "ids.u16");
    // The same five tokens again and again, which no text of the training has.
    let repeated: Vec<u16> = (0..80).map(|index| 70 + index % 5 * 3).collect();
    write_ids(&ids, &repeated);
    let eval = |more: &[&str]| {
        let contexts = [
            "eval",
            "--json",
            "--model",
            model,
            "--ids",
            &ids,
            "--contexts",
            "2,30",
        ];
        json(&[&contexts[..], more].concat())
    };
    let long = |report: &Value| number(report, "/contexts/1/perplexity");
    let fixed = eval(&[]);
    for option in ["--recall=30,10,0.5", "--charges=0.9,1,1,1"] {
        let measured = eval(&[option]);
        assert!(2.0 * long(&measured) < long(&fixed), "{measured}, {fixed}");
        let (name, settings) = option[2..].split_once('=').unwrap();
        assert!(measured[name].is_object(), "{measured}");
        let contexts = [
            "eval",
            "--model",
            model,
            "--ids",
            &ids,
            "--contexts",
            "2",
            option,
        ];
        let line = succeeds(&contexts);
        assert!(line.contains(&format!("{name} {settings}")), "{line}");
    }
}

#[test]
fn generated_text_charges_the_prompt() {
    let (_, model) = trained();
    let own = tempfile::tempdir().unwrap();
    let state = path(own.path(), "session.json");
    let charges = "--charges=0.9,1,1,1";
    let begin = [
        "generate",
        "the moon",
        "--model",
        model,
        "--tokens",
        "1",
        "--save-session",
        &state,
    ];
    let charged = || -> Value {
        let saved: Value = serde_json::from_str(&std::fs::read_to_string(&state).unwrap()).unwrap();
        saved["charges"].clone()
    };
    succeeds(&[&begin[..], &[charges]].concat());
    let first = charged();
    let hops = number(&first, "/step");
    assert!(hops > 1.0, "{first}");
    // A session that goes on keeps what it has charged, with other constants too.
    let again = [
        "generate",
        "--model",
        model,
        "--tokens",
        "1",
        "--load-session",
        &state,
    ];
    let saved = ["--save-session", &state, "--charges=0.8,1,1,1"];
    succeeds(&[&again[..], &saved].concat());
    let second = charged();
    assert_eq!(
        (number(&second, "/step"), number(&second, "/decay")),
        (hops + 1.0, 0.8)
    );
}

#[test]
fn generated_text_recalls_the_prompt_and_continues_from_a_saved_session() {
    let (_, model) = trained();
    let own = tempfile::tempdir().unwrap();
    let state = path(own.path(), "session.json");
    let prompt = "my sister paints the moon again.\nmy sister paints the moon again.\nmy sister";
    let generate = |more: &[&str]| {
        json(
            &[
                &["generate", "--json", "--model", model, "--temperature", "0"],
                more,
            ]
            .concat(),
        )
    };
    let recall = "--recall=60,20,0.9";
    let whole = generate(&[prompt, "--tokens", "8", recall]);
    assert_ne!(whole["ids"], generate(&[prompt, "--tokens", "8"])["ids"]);
    assert!(
        whole["text"].as_str().unwrap().contains("paints"),
        "{whole}"
    );
    let first = generate(&[prompt, "--tokens", "3", recall, "--save-session", &state]);
    // The session keeps its recall without the option.
    let second = generate(&["--tokens", "5", "--load-session", &state]);
    let joined = [
        first["ids"].as_array().unwrap().clone(),
        second["ids"].as_array().unwrap().clone(),
    ]
    .concat();
    assert_eq!(Value::Array(joined), whole["ids"]);
    let trace = json(&[
        "trace", prompt, "--json", "--model", model, "--tokens", "8", recall,
    ]);
    assert_eq!(trace["recall"]["window"], 60);
    let chosen: Vec<&Value> = trace["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| &step["chosen"])
        .collect();
    assert_eq!(
        chosen,
        whole["ids"].as_array().unwrap().iter().collect::<Vec<_>>()
    );
    let shown = succeeds(&["trace", prompt, "--model", model, "--tokens", "2", recall]);
    assert!(
        shown.contains("recall ") && shown.contains("(position "),
        "{shown}"
    );
}
