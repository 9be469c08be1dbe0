//! `brillm compare` on tiny run files: graphs, transformers, n-grams, seeds, plugins, tasks.
#![cfg(all(feature = "cli", feature = "plugin", feature = "transformer"))]

use std::path::Path;

use serde_json::Value;

mod support;
use support::*;

/// A transformer over the same tokens as the graph of [`RECIPE`].
fn transformer_recipe() -> String {
    RECIPE
        .replace("name = \"small\"", "name = \"gpt\"\nkind = \"gpt\"")
        .replace(
            "[profile]\nwidth = 8",
            "[network]\nwidth = 16\nlayers = 1\nheads = 2\ncontext = 32",
        )
        .replace("tokens = 16000", "tokens = 3200")
        .replace("folds = 2\n", "folds = 0\n")
}

/// A folder with two run files, and `brillm compare` on files of it.
struct Comparison(tempfile::TempDir);

impl Comparison {
    fn new() -> Self {
        let folder = recipe_folder();
        std::fs::write(folder.path().join("gpt.toml"), transformer_recipe()).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        path(self.0.path(), name)
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let out = self.path("runs");
        let common = [
            "compare",
            "--out",
            &out,
            "--quiet",
            "--windows",
            "11,20",
            "--seconds",
            "0.05",
        ];
        let all = common.iter().chain(more);
        all.map(|argument| argument.to_string()).collect()
    }

    fn report(&self, more: &[&str]) -> Value {
        let arguments = self.arguments(more);
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        arguments.push("--json");
        json(&arguments)
    }
}

#[test]
fn a_quiet_comparison_prints_only_its_result() {
    let all = Comparison::new();
    let graph = all.path("run.toml");
    let output = run(&all.arguments(&[
        &graph,
        "--set",
        "train.validate-every=2",
        "--kneser-ney",
        "0",
    ]));
    let table = stdout_of(&output, "compare");
    assert!(table.lines().all(|line| line.starts_with('|')), "{table}");
    assert_eq!(text_of(&output.stderr), "");
}

#[test]
fn run_files_are_trained_with_every_seed_and_measured_with_n_grams() {
    let all = Comparison::new();
    let (graph, gpt) = (all.path("run.toml"), all.path("gpt.toml"));
    let report = all.report(&[&graph, &gpt, "--seeds", "1,2", "--kneser-ney", "2"]);
    assert_eq!(report["windows"], "11,20");
    let rows = report["models"].as_array().unwrap();
    let names: Vec<&str> = rows
        .iter()
        .map(|row| row["model"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["small", "gpt", "Kneser-Ney 2"]);
    assert_eq!(
        (&rows[0]["kind"], &rows[2]["kind"]),
        (&"graph".into(), &"n-gram".into())
    );
    for row in &rows[..2] {
        let runs = row["runs"].as_array().unwrap();
        let seeds: Vec<&Value> = runs.iter().map(|run| &run["seed"]).collect();
        assert_eq!(seeds, [1, 2]);
        for run in runs {
            keys(
                run,
                &[
                    "parameters",
                    "train_tokens",
                    "train_cpu_seconds",
                    "bytes_per_token",
                    "state_bytes",
                ],
            );
            // Better than a uniform guess among 300 tokens.
            assert!(number(&run["perplexity"]) < 200.0, "{run}");
            assert!(number(&run["tokens_per_second"]) > 0.0, "{run}");
        }
        assert_ne!(runs[0]["perplexity"], runs[1]["perplexity"]);
    }
    // The runs stay, one folder for each seed, and are found again: nothing is trained twice.
    assert!(Path::new(&all.path("runs/small-seed-2/model.bril")).exists());
    let again = all.report(&[&graph, "--seeds", "1,2", "--kneser-ney", "0"]);
    let perplexity = |report: &Value| report["models"][0]["runs"][1]["perplexity"].clone();
    assert_eq!(perplexity(&again), perplexity(&report));
    // The table has a row for each, with deviations.
    let arguments = all.arguments(&[&graph, "--seeds", "1,2", "--kneser-ney", "2"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let table = succeeds(&arguments);
    assert!(
        table
            .lines()
            .nth(2)
            .unwrap()
            .starts_with("| small | graph |"),
        "{table}"
    );
    assert!(
        table.contains(" ± ") && table.contains("| Kneser-Ney 2 | n-gram |"),
        "{table}"
    );
}

#[test]
fn an_opened_model_has_the_perplexity_that_eval_reports() {
    let (_, model) = trained();
    let all = Comparison::new();
    let ids = all.path("ids.u16");
    let held: Vec<u16> = (0..400).map(|index| 1 + (index * 7 % 90) as u16).collect();
    write_ids(&ids, &held);
    let report = all.report(&[model, "--ids", &ids]);
    let run = &report["models"][0]["runs"][0];
    for (key, more) in [
        ("perplexity", &[][..]),
        ("streaming_perplexity", &["--stream"]),
    ] {
        let mut arguments = vec![
            "eval",
            "--model",
            model,
            "--ids",
            &ids,
            "--windows",
            "11,20",
            "--json",
        ];
        arguments.extend(more);
        let measured = json(&arguments);
        let difference = number(&measured["perplexity"]) / number(&run[key]) - 1.0;
        assert!(difference.abs() < 1e-6, "{key}: {measured} {run}");
    }
}

#[test]
fn a_cpu_budget_replaces_the_number_of_tokens() {
    let all = Comparison::new();
    let report = all.report(&[
        &all.path("run.toml"),
        "--cpu-seconds",
        "0.3",
        "--kneser-ney",
        "0",
    ]);
    let run = &report["models"][0]["runs"][0];
    assert_ne!(run["train_tokens"], 16_000);
    assert!(
        number(&run["train_tokens"]) > 0.0 && number(&run["train_cpu_seconds"]) < 20.0,
        "{run}"
    );
}

#[test]
fn plugins_are_compared_with_the_unmodified_transformer() {
    let plugins = build_plugins("compare", &["kv-quant"]);
    let all = Comparison::new();
    let model = "models/stories260K";
    let report = all.report(&[
        model,
        &format!("{model}+kv-quant:bits=4,residual=0"),
        "--continuation",
        "192,8,2",
        "--text",
        "tests/golden/transformer/tinystories_12.json",
        "--plugin-path",
        &plugins,
    ]);
    let rows = report["rows"].as_array().unwrap();
    let of = |row: &Value, key: &str| number(&row["continuation"][key]);
    assert!(
        of(&rows[0], "divergence").abs() < 1e-9 && of(&rows[0], "agreement") == 1.0,
        "{report}"
    );
    assert!(of(&rows[1], "divergence") > 0.0, "{report}");
    assert!(
        of(&rows[1], "kv_live_bytes") < of(&rows[0], "kv_live_bytes"),
        "{report}"
    );
    assert_eq!(rows[1]["plugins"][0]["id"], "org.brillm.kv-quant");
    // A graph has no cache.
    let error = fails(&[
        "compare",
        "models/english.bril",
        "--continuation",
        "8,2",
        "--text",
        &all.path("text.txt"),
    ]);
    assert!(error.contains("no KV cache"), "{error}");
}

#[test]
fn transformers_are_fine_tuned_on_tasks() {
    let all = Comparison::new();
    let texts: String = (0..24)
        .map(|index| match index % 2 {
            0 => "cat\tthe cat sees the river\n",
            _ => "dog\ta dog likes the moon\n",
        })
        .collect();
    std::fs::write(all.path("task.tsv"), texts).unwrap();
    let task = format!("animals={0}:{0}:1,2", all.path("task.tsv"));
    let report = all.report(&[
        &all.path("gpt.toml"),
        "--task",
        &task,
        "--epochs",
        "2",
        "--kneser-ney",
        "0",
    ]);
    let tasks = &report["models"][0]["runs"][0]["tasks"];
    assert_eq!(tasks[0]["name"], "animals");
    assert_eq!(tasks[0]["figures"]["texts"], 24);
}

#[test]
fn mistakes_are_reported() {
    let all = Comparison::new();
    let other = all.path("other.toml");
    std::fs::write(
        &other,
        RECIPE
            .replace("vocabulary = 300", "vocabulary = 290")
            .replace("name = \"small\"", "name = \"other\""),
    )
    .unwrap();
    let (graph, gpt) = (all.path("run.toml"), all.path("gpt.toml"));
    let (_, model) = trained();
    cases(
        [
            (vec![&*graph, &other], "different tokens"),
            (vec![model], "--ids FILE"),
            (vec![&gpt, "--set", "train.batchsize=3"], "batchsize"),
            (vec!["no-such.toml"], "check the path"),
        ],
        |(arguments, expected)| {
            let arguments = all.arguments(arguments);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let output = run(&arguments);
            let error = text_of(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{error}");
            assert!(error.contains(expected), "{error}");
        },
    );
    let usage = run(&["compare", &gpt, "--task", "cola"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(text_of(&usage.stderr).contains("NAME=TRAIN:TEST:FIELDS"));
}
