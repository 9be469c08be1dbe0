//! The command as its users meet it: help, reports others script against, exit codes, pipes, broken input,
//! full disks, and runs that are stopped at any moment.
#![cfg(feature = "cli")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use brillm::kernel::random::Random;
use serde_json::Value;

mod support;
use support::*;

const COMMANDS: [&str; 13] = [
    "generate", "train", "eval", "baseline", "trace", "inspect", "export", "import", "quantize",
    "plot", "bench", "corpus", "serve",
];

fn tiny(name: &str) -> String {
    path(
        Path::new(env!("CARGO_MANIFEST_DIR")),
        &format!("tests/golden/tiny/{name}"),
    )
}

#[test]
fn every_command_explains_itself() {
    let all = succeeds(&["--help"]);
    for command in COMMANDS {
        assert!(all.contains(command), "--help leaves out {command}");
        let help = succeeds(&[command, "--help"]);
        assert!(
            help.contains("Usage: brillm") && help.contains(command) && help.lines().count() > 5,
            "{help}"
        );
        // Every option says what it is for.
        for line in help
            .lines()
            .filter(|line| line.trim_start().starts_with("--"))
        {
            let lonely = line.trim().split("  ").count() == 1;
            let next = help.lines().skip_while(|other| *other != line).nth(1);
            assert!(
                !lonely || next.is_some_and(|next| !next.trim().is_empty()),
                "{command}: {line}"
            );
        }
    }
    assert!(succeeds(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_is_not_understood_exits_with_2() {
    for arguments in [
        &["no-such-command"][..],
        &["generate"],
        &["trace"],
        &["generate", "a", "--no-such-option"],
        &["generate", "a", "--prompt-ids", "1"],
        &["generate", "--prompt-ids", "x"],
        &["generate", "a", "--temperature", "warm"],
        &["eval"],
        &[],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn generate_reports_what_was_agreed() {
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
fn a_session_saved_in_one_command_goes_on_in_another() {
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
fn trace_reports_every_step() {
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
fn eval_and_baseline_report_what_was_agreed() {
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
fn inspect_export_quantize_and_plot() {
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
fn import_gives_the_reference_profile() {
    let folder = tempfile::tempdir().unwrap();
    let out = path(folder.path(), "tiny.bril");
    let line = succeeds(&[
        "import",
        "--weights",
        &tiny("model.bin"),
        "--vocab",
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
        "--vocab",
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
fn bench_reports_what_was_agreed() {
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
        "--arena-mib",
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
    assert!(!rows.is_empty());
    rows.iter()
        .for_each(|row| keys(row, &["profile", "batch", "tokens_per_cpu_second"]));
}

#[test]
fn a_reader_that_has_enough_ends_a_command_quietly() {
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
fn prompts_that_are_empty_short_strange_or_huge() {
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
    let said = error_of(&child.output().unwrap(), "bytes that are no text");
    assert!(
        said.contains("UTF-8") && said.contains("standard input"),
        "{said}"
    );
}

/// A model whose file is whole but whose weights hold a value that is no number.
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
fn weights_that_are_no_numbers_are_said() {
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

#[test]
fn files_that_cannot_be_read_name_what_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let missing = path(folder.path(), "missing.bril");
    let here = folder.path().to_str().unwrap();
    for (arguments, words) in [
        (
            &["generate", "a", "--model", &missing][..],
            ["missing.bril", "check the path"],
        ),
        (&["inspect", &missing], ["missing.bril", "check the path"]),
        (&["train", &missing], ["missing.bril", "check the path"]),
        (&["generate", "a", "--model", here], [here, "config.json"]),
        (&["plot", here], [here, "log"]),
        (&["eval", &missing], ["missing.bril", "check the path"]),
    ] {
        let said = fails(arguments);
        for word in words {
            assert!(said.contains(word), "{arguments:?}: {said}");
        }
    }
    let text = path(folder.path(), "text.bril");
    std::fs::write(&text, "this is text").unwrap();
    assert!(fails(&["inspect", &text]).contains("not a .bril model"));
    std::fs::write(&text, "").unwrap();
    assert!(fails(&["inspect", &text]).contains("empty"));
    let adapter = fails(&["generate", "a", "--adapter", "no such adapter"]);
    assert!(adapter.contains("--backend cpu"), "{adapter}");
}

#[test]
fn an_unknown_key_is_an_error_with_its_line() {
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

#[test]
fn a_full_disk_loses_nothing() {
    let (_, model) = trained();
    let folder = tempfile::tempdir().unwrap();
    // Standard output that takes nothing.
    if Path::new("/dev/full").exists() {
        for arguments in [
            &["generate", "the cat", "--model", model][..],
            &["inspect", model, "--json"],
        ] {
            let full = std::fs::OpenOptions::new()
                .write(true)
                .open("/dev/full")
                .unwrap();
            let output = brillm(arguments).stdout(full).output().unwrap();
            let said = error_of(&output, "/dev/full");
            assert!(
                said.contains("standard output") && said.contains("space"),
                "{said}"
            );
        }
    }
    // A file system with no room: what was there before stays as it was.
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16k", "brillm-test"])
        .arg(&disk)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let limited = |arguments: &[&str]| -> Output {
        if mounted {
            return run(arguments);
        }
        // Without the right to mount: no file may grow past 16 KiB, which a write meets as an error as well.
        let line = "ulimit -f 32; trap '' XFSZ; exec \"$0\" \"$@\"";
        let mut shell = Command::new("sh");
        shell
            .args(["-c", line, env!("CARGO_BIN_EXE_brillm")])
            .args(arguments);
        shell.stdin(Stdio::null()).output().unwrap()
    };
    println!(
        "a full disk: {}",
        if mounted {
            "a file system of 16 KiB"
        } else {
            "a limit on the size of files"
        }
    );
    let outcome = std::panic::catch_unwind(|| {
        let target = path(&disk, "m.bril");
        std::fs::write(&target, "what was there").unwrap();
        for arguments in [
            &["quantize", model, "--element", "f32", "--out", &target][..],
            &["export", "--model", model, &path(&disk, "w.safetensors")],
        ] {
            let said = error_of(&limited(arguments), "full disk");
            assert!(said.contains(disk.to_str().unwrap()), "{said}");
        }
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "what was there");
        let left: Vec<String> = std::fs::read_dir(&disk)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".partial"))
            .collect();
        assert!(left.is_empty(), "{left:?} was left");
        // A training run says so too, and its folder stays usable.
        let (work, out) = (recipe_folder(), path(&disk, "run"));
        let recipe = path(work.path(), "run.toml");
        let said = error_of(
            &limited(&["train", &recipe, "--out", &out, "--quiet"]),
            "training",
        );
        assert!(said.contains(disk.to_str().unwrap()), "{said}");
    });
    if mounted {
        let unmounted = Command::new("umount").arg(&disk).status().unwrap();
        assert!(unmounted.success());
    }
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_written_is_said() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let (_, model) = trained();
    let folder = recipe_folder();
    let mode = |path: &Path, bits: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).unwrap();
    };
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    let program = folder.path().join("brillm");
    // Another process copies: a test that starts a program meanwhile would inherit our handle on the copy,
    // and a program that someone may still write cannot be run.
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_brillm"))
        .arg(&program)
        .status();
    assert!(copied.unwrap().success());
    let input = folder.path().join("m.bril");
    std::fs::copy(model, &input).unwrap();
    mode(folder.path(), 0o755);
    mode(&program, 0o755);
    mode(&input, 0o644);
    mode(&closed, 0o555);
    let root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    let run = |arguments: &[&str]| -> Output {
        let mut command = Command::new(&program);
        command.args(arguments).stdin(Stdio::null());
        if root {
            // Whoever is root may write everywhere: be nobody.
            command.uid(65534).gid(65534);
        }
        command.output().unwrap()
    };
    let (input, recipe) = (input.to_str().unwrap(), path(folder.path(), "run.toml"));
    for arguments in [
        &[
            "quantize",
            input,
            "--element",
            "f16",
            "--out",
            &path(&closed, "q.bril"),
        ][..],
        &["train", &recipe, "--out", &path(&closed, "run"), "--quiet"],
        &["export", "--model", input, &path(&closed, "w.safetensors")],
        &["export", "--model", input, &path(&closed, "g.dot")],
        &[
            "generate",
            "a",
            "--model",
            input,
            "--save-session",
            &path(&closed, "s.json"),
        ],
    ] {
        let said = error_of(&run(arguments), &format!("{arguments:?}"));
        assert!(
            said.contains("closed") && said.contains("ermission"),
            "{arguments:?}: {said}"
        );
    }
    mode(&closed, 0o755);
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

fn with<'a>(arguments: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    arguments
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect()
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_resuming_equals_the_run_that_was_not_stopped() {
    let (folder, arguments) = long_run();
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
    // A generation that is stopped leaves with 130 too, with what it had.
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

fn lines(out: &str) -> usize {
    std::fs::read_to_string(Path::new(out).join("log.jsonl")).map_or(0, |text| text.lines().count())
}

#[cfg(unix)]
#[test]
fn killed_at_any_moment_a_run_resumes_as_if_nothing_had_happened() {
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
    assert!(said.contains("another recipe"), "{said}");
}

#[test]
fn sampled_negatives_of_both_kinds_learn_and_replay() {
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
