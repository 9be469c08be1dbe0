//! Commands that measure, inspect and convert models.
#![cfg(feature = "cli")]

use std::path::Path;

use brillm::kernel::random::Random;

mod support;
use support::*;

fn tiny(name: &str) -> String {
    path(
        Path::new(env!("CARGO_MANIFEST_DIR")),
        &format!("tests/golden/tiny/{name}"),
    )
}

#[test]
fn eval_and_baseline_report_perplexities() {
    let (folder, model) = trained();
    let own = tempfile::tempdir().unwrap();
    let ids = path(own.path(), "ids.u16");
    let mut random = Random::new(4);
    let walk: Vec<u16> = (0..4000).map(|_| 1 + random.below(40) as u16).collect();
    write_ids(&ids, &walk);
    let report = json(&[
        "eval",
        "--model",
        model,
        "--ids",
        &ids,
        "--windows",
        "31,40",
        "--json",
    ]);
    keys(
        &report,
        &["perplexity", "nats_per_token", "tokens", "candidates"],
    );
    assert_eq!(report["tokens"], 40 * 30);
    let nats = report["nats_per_token"].as_f64().unwrap();
    assert!((report["perplexity"].as_f64().unwrap().ln() - nats).abs() < 1e-9);
    let text = path(folder, "held-out.txt");
    let report = json(&["eval", "--model", model, &text, "--json"]);
    assert!(report["bits_per_byte"].as_f64().unwrap() > 0.0);
    let line = succeeds(&["eval", "--model", model, &text]);
    assert!(
        line.contains("perplexity") && line.contains("bits per byte"),
        "{line}"
    );
    let report = json(&[
        "baseline",
        "--train",
        &ids,
        "--test",
        &ids,
        "--order",
        "5",
        "--windows",
        "31,40",
        "--json",
    ]);
    for order in ["2", "3", "4", "5"] {
        assert!(report["orders"][order].as_f64().unwrap() > 1.0, "{report}");
    }
    assert!(
        succeeds(&["baseline", "--train", &ids, "--test", &ids, "--order", "2"])
            .contains("Kneser-Ney 2")
    );
    // Ids that the model does not have are said.
    write_ids(&ids, &[1, 2, 60_000]);
    assert!(fails(&["eval", "--model", model, "--ids", &ids]).contains("60000"));
}

#[test]
fn inspect_export_quantize_and_plot_read_a_trained_model() {
    let (folder, model) = trained();
    let own = tempfile::tempdir().unwrap();
    let out = |name: &str| path(own.path(), name);
    let walked = json(&[
        "generate", "the cat", "--model", model, "--tokens", "1", "--json",
    ]);
    let walked = format!("#{}", walked["prompt_ids"][0]);
    let report = json(&["inspect", model, "--json"]);
    keys(
        &report,
        &["model", "parameters", "graph", "components", "page_rank"],
    );
    let node = json(&[
        "inspect", model, "--node", &walked, "--to", &walked, "--json",
    ]);
    keys(
        &node,
        &["node", "reach", "reached_by", "page_rank", "paths"],
    );
    assert!(succeeds(&["inspect", model]).contains("PageRank"));
    assert!(fails(&["inspect", model, "--node", "no such token"]).contains("no such token"));
    for name in ["a.graphml", "a.gexf", "a.dot", "a.csv", "a.safetensors"] {
        succeeds(&["export", "--model", model, "--nodes", &walked, &out(name)]);
        assert!(std::fs::metadata(out(name)).unwrap().len() > 100, "{name}");
    }
    assert!(fails(&["export", "--model", model, &out("a.xyz")]).contains("a.xyz"));
    let mut sizes = Vec::new();
    for element in ["f32", "f16", "i8"] {
        let small = out(&format!("{element}.bril"));
        let report = json(&[
            "quantize",
            model,
            "--element",
            element,
            "--out",
            &small,
            "--json",
        ]);
        sizes.push(report["bytes"].as_u64().unwrap());
        json(&[
            "generate", "the cat", "--model", &small, "--tokens", "3", "--json",
        ]);
    }
    assert!(sizes[0] > sizes[1] && sizes[1] > sizes[2], "{sizes:?}");
    let (run, picture) = (path(folder, "run"), out("plot.svg"));
    succeeds(&["plot", &run, "--out", &picture]);
    assert!(std::fs::read_to_string(&picture).unwrap().contains("<svg"));
}

#[test]
fn import_writes_a_model_of_the_reference_profile() {
    let folder = tempfile::tempdir().unwrap();
    let out = path(folder.path(), "tiny.bril");
    let line = succeeds(&[
        "import",
        "--weights",
        &tiny("model.bin"),
        "--vocabulary",
        &tiny("vocab.json"),
        "--out",
        &out,
    ]);
    assert!(line.contains("12 nodes"), "{line}");
    let report = json(&["inspect", &out, "--json"]);
    assert_eq!(report["model"]["profile"]["name"], "reference");
    assert_eq!(report["model"]["profile"]["offset"], "decode");
    let missing = fails(&[
        "import",
        "--weights",
        &tiny("no.bin"),
        "--vocabulary",
        &tiny("vocab.json"),
        "--out",
        &out,
    ]);
    assert!(
        missing.contains("no.bin") && missing.contains("check the path"),
        "{missing}"
    );
    // A token outside their vocabulary is said, not guessed.
    let outside = fails(&["generate", "--prompt-ids", "99", "--model", &out]);
    assert!(
        outside.contains("99") && outside.contains("12"),
        "{outside}"
    );
}

#[test]
fn bench_reports_decoding_and_training() {
    // Without a text it makes one with fans as wide as the paper's: 4 GB and a minute, too much for a test.
    let folder = tempfile::tempdir().unwrap();
    let ids = path(folder.path(), "ids.u16");
    let mut random = Random::new(6);
    let walk: Vec<u16> = (0..60_000).map(|_| random.below(60) as u16).collect();
    write_ids(&ids, &walk);
    let report = json(&[
        "bench",
        "--train",
        &ids,
        "--edge-mib",
        "8",
        "--seconds",
        "0.05",
        "--json",
    ]);
    keys(&report, &["memory_gb_per_s", "decode", "train"]);
    let rows = report["decode"].as_array().unwrap();
    for storage in ["f32", "f16", "i8"] {
        assert!(rows.iter().any(|row| row["storage"] == storage), "{report}");
    }
    rows.iter().for_each(|row| {
        keys(
            row,
            &[
                "storage",
                "threads",
                "edges",
                "ms_per_token",
                "gb_per_s",
                "fraction_of_memory",
            ],
        );
    });
    let rows = report["train"].as_array().unwrap();
    for profile in ["reference", "sifu", "layered"] {
        assert!(rows.iter().any(|row| row["profile"] == profile), "{report}");
    }
    rows.iter()
        .for_each(|row| keys(row, &["profile", "batch", "tokens_per_cpu_second"]));
}

/// A model whose file is whole but whose weights hold a value that is not a number.
fn with_nan(folder: &Path) -> String {
    use brillm::kernel::table::Table;
    use brillm::model::{Metadata, Model};
    use brillm::signal::{Mechanism, Profile, Weights};
    let (_, model) = trained();
    let model = Model::open(model.as_ref(), Default::default()).unwrap();
    let profile: Profile = model.metadata().profile.clone();
    let graph = model.mechanism().graph().clone();
    let weights = Weights::gather(&profile, graph.nodes(), graph.own_edges(), |block| {
        let value = if block.name == "node.target" {
            f32::NAN
        } else {
            0.1
        };
        let values = vec![value; block.rows * block.columns];
        Ok(Some(Table::of(&values, block.rows, block.columns)))
    })
    .unwrap();
    let mechanism = Mechanism::new(profile, graph, weights).unwrap();
    let tokenizer = brillm::text::Tokenizer::from_bytes(&model.tokenizer().to_bytes()).unwrap();
    let metadata = Metadata {
        ..model.metadata().clone()
    };
    let out = folder.join("nan.bril");
    Model::new(metadata, tokenizer, mechanism)
        .unwrap()
        .save(&out)
        .unwrap();
    out.to_str().unwrap().to_string()
}

#[test]
fn weights_that_are_not_numbers_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let model = with_nan(folder.path());
    let text = path(&trained().0, "held-out.txt");
    for arguments in [
        &["generate", "the cat", "--model", &model][..],
        &["generate", "the cat", "--model", &model, "--beam", "2"],
        &["trace", "the cat", "--model", &model, "--json"],
        &["eval", "--model", &model, &text],
    ] {
        let said = fails(arguments);
        assert!(
            said.contains("finite") || said.contains("not a number"),
            "{said}"
        );
    }
}

#[cfg(feature = "gpu")]
#[test]
fn devices_lists_adapters_or_reports_that_there_are_none() {
    let report = json(&["devices", "--json"]);
    assert!(report["adapters"].is_array(), "{report}");
    assert!(succeeds(&["devices"]).contains("--backend auto"));
}

#[test]
fn texts_of_words_are_trained_on_and_measured_as_one_stream() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, seed, count| {
        let text = sentences(seed, count)
            .replace('.', "")
            .replace('\n', " \n ");
        let name = path(folder.path(), name);
        std::fs::write(&name, &text).unwrap();
        (
            name,
            text.split(' ').filter(|word| !word.is_empty()).count(),
        )
    };
    let ((train, _), (test, tokens)) = (file("train.txt", 1, 300), file("test.txt", 2, 40));
    let windows = format!("{tokens},1");
    let baseline = [
        "baseline",
        "--words",
        "--train",
        &train,
        "--test",
        &test,
        "--windows",
        &windows,
        "--json",
    ];
    let report = json(&baseline);
    // 29 words, the line end and the unknown word.
    assert_eq!(report["candidates"], 31, "{report}");
    let expected = report["orders"]["2"].as_f64().unwrap();
    assert!(
        report["orders"]["5"].as_f64().unwrap() < expected && expected < 12.0,
        "{report}"
    );
    let small = json(&[&baseline[..], &["--vocabulary", "10"]].concat());
    assert_eq!(small["candidates"], 10);
    let run = path(folder.path(), "run.toml");
    let out = path(folder.path(), "run");
    let recipe = RECIPE
        .replace("text.txt", "train.txt")
        .replace("held-out.txt", "test.txt")
        .replace("bpe", "words")
        .replace("16000", "6400");
    std::fs::write(&run, recipe).unwrap();
    let model = json(&["train", &run, "--out", &out, "--quiet", "--json"])["model"].clone();
    let report = json(&["eval", "--model", model.as_str().unwrap(), &test, "--json"]);
    assert_eq!(
        (&report["tokens"], &report["candidates"]),
        (&(tokens - 1).into(), &31.into())
    );
    assert!(
        report["perplexity"].as_f64().unwrap() < expected,
        "{report}, Kneser-Ney 2: {expected}"
    );
}

#[test]
fn answers_are_counted_where_greedy_decoding_gives_them() {
    let folder = tempfile::tempdir().unwrap();
    let texts = path(folder.path(), "answers.jsonl");
    let prompt = "Once upon a time, there was a little";
    let record = |answer: &str, label: &str| {
        serde_json::json!({"prompt": prompt, "answer": answer, "label": label}).to_string()
    };
    let divided = serde_json::json!({
        "prompt": "Once upon a time, there was", "question": " a little", "answer": " girl named Lily", "label": "likeliest",
    });
    let records = [
        record(" girl named Lily", "likeliest"),
        divided.to_string(),
        record(" girl named Sam", "another end"),
        record(" cloud", "another end"),
    ];
    std::fs::write(&texts, records.join("\n")).unwrap();
    let model = "models/english.bril";
    let report = json(&["probe", &texts, "--model", model, "--quiet", "--json"]);
    let counts = |label: &str| {
        let answers = &report["answers"][label];
        (answers["correct"].as_u64(), answers["texts"].as_u64())
    };
    assert_eq!(counts("all"), (Some(2), Some(4)), "{report}");
    assert_eq!(counts("likeliest"), (Some(2), Some(2)));
    assert_eq!(counts("another end"), (Some(0), Some(2)));
    let lines = succeeds(&["probe", &texts, "--model", model, "--quiet"]);
    assert!(lines.contains("2 of 4 greedy answers correct"), "{lines}");
}
