//! Training over ranks: the program under `mpirun`, with 1, 2 and 4 ranks of Open MPI and 2 of MPICH, each run under a
//! time limit. `tests/run` builds with the feature for both.
#![cfg(feature = "mpi")]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use brillm::graph::{GraphBuilder, NodeId};
use brillm::ranks::{leader_first, library, start};
use serde_json::Value;

mod support;
use support::ranks::*;
use support::*;

/// A folder with a text and a run file: dropout, clipping, validation, early stopping, an odd last shard.
fn folder() -> tempfile::TempDir {
    let folder = recipe_folder();
    let recipe = "\
name = \"ranks\"
seed = 3
[data]
train = [\"text.txt\"]
validation = [\"held-out.txt\"]
vocabulary = 300
[profile]
preset = \"sifu\"
width = 8
[train]
tokens = 14400
batch = 72
steps = 8
dropout = 0.2
clip = 0.3
warmup = 10
folds = 2
log-every = 1
validate-every = 4
patience = 2
checkpoint-every = 3
";
    std::fs::write(folder.path().join("run.toml"), recipe).unwrap();
    folder
}

#[test]
fn a_run_has_the_same_bits_on_any_number_of_ranks() {
    let folder = folder();
    let layered = "profile={preset=\"layered\",width=8,layers=2}";
    cases(
        [
            ("composed", &[][..]),
            (
                "stopped early",
                &["--set", "train.rate=2.0", "--set", "train.validate-every=1"],
            ),
            (
                "layered",
                &[
                    "--set",
                    layered,
                    "--set",
                    "train.carry=true",
                    "--set",
                    "train.average=0.9",
                    "--set",
                    "train.dropout-memory=0.1",
                    "--set",
                    "train.dropout-input=0.1",
                    "--set",
                    "train.dropout-node=0.1",
                ],
            ),
            (
                "residual",
                &[
                    "--set",
                    "profile.residual=2",
                    "--set",
                    "graph.own-minimum-count=5",
                ],
            ),
            (
                "own",
                &[
                    "--set",
                    "profile={preset=\"reference\",width=8}",
                    "--set",
                    "train.rate=0.003",
                ],
            ),
            (
                "negatives",
                &[
                    "--set",
                    "profile={preset=\"reference\",width=8}",
                    "--set",
                    "train.rate=0.003",
                    "--set",
                    "train.negatives=20",
                    "--set",
                    "train.negative-kind=uniform",
                ],
            ),
        ],
        |(name, changes)| {
            let at = |kind: &str| format!("{}-{kind}", name.replace(' ', "-"));
            let mut alone = vec![
                "train",
                "run.toml",
                "--quiet",
                "--set",
                "train.reduction=exact",
            ];
            let out = at("alone");
            alone.extend(["--out", &out]);
            alone.extend(*changes);
            succeed(brillm(&alone).current_dir(folder.path()), name);
            let expected = outcome(&folder.path().join(&out));
            if *name == "stopped early" {
                let steps = expected.1.last().unwrap()["step"].as_u64().unwrap();
                assert!(steps < 25, "{steps} steps");
            }
            for &size in sizes() {
                let out = at(&size.to_string());
                succeed(&mut training(folder.path(), size, &out, changes), name);
                let found = outcome(&folder.path().join(out));
                assert_eq!(found.1, expected.1, "{name}: log on {size} ranks");
                assert!(found.0 == expected.0, "{name}: model on {size} ranks");
            }
        },
    );
}

#[test]
fn exact_sums_train_like_float_sums() {
    let folder = folder();
    let last = |out: &str, change: &str| {
        let given = [
            "train", "run.toml", "--quiet", "--out", out, "--set", change,
        ];
        succeed(brillm(&given).current_dir(folder.path()), change);
        let records = outcome(&folder.path().join(out)).1;
        records.last().unwrap()["loss"].as_f64().unwrap()
    };
    let float = last("float", "train.reduction=float");
    let exact = last("exact", "train.reduction=exact");
    assert!((float - exact).abs() < 1e-4, "{float} and {exact}");
}

#[test]
fn an_evaluation_has_the_same_bits_on_any_number_of_ranks() {
    let folder = folder();
    succeed(&mut training(folder.path(), 1, "out", &[]), "training");
    let model = ["--model", "out/model.bril", "held-out.txt"];
    let measured = |command: &mut Command, how: &[&str], what: &str| -> Value {
        let command = command.args(["--threads", "1", "eval", "--json"]);
        let command = command.args(how).args(model).current_dir(folder.path());
        serde_json::from_str(&stdout_of(&command.output().unwrap(), what)).unwrap()
    };
    for how in [&["--windows", "20,13"][..], &["--documents"]] {
        let alone = measured(&mut brillm::<&str>(&[]), how, "one process");
        for &size in sizes() {
            let mut command = mpirun(size, env!("CARGO_BIN_EXE_brillm"));
            let over = measured(&mut command, how, &format!("{size} ranks"));
            assert_eq!(over, alone, "{how:?} on {size} ranks");
        }
    }
    let mut whole = mpirun(2, env!("CARGO_BIN_EXE_brillm"));
    let whole = whole.arg("eval").args(model).current_dir(folder.path());
    let errors = fails_soon(whole.stderr(Stdio::piped()).spawn().unwrap(), "a stream");
    assert_eq!(
        errors.matches("ranks measure windows").count(),
        1,
        "{errors}"
    );
}

#[test]
fn a_killed_run_resumes_on_another_number_of_ranks_with_the_same_bits() {
    let folder = folder();
    let longer = ["--set", "train.tokens=57600", "--set", "train.patience=0"];
    succeed(
        &mut training(folder.path(), 1, "whole", &longer),
        "uninterrupted",
    );
    let expected = outcome(&folder.path().join("whole"));
    let most = *sizes().last().unwrap();
    // Killed at several moments, each time resumed on another number.
    for (index, (lines, victim)) in [(2, 0), (9, 1), (17, most - 1)].into_iter().enumerate() {
        let name = format!("killed-{index}");
        let out = folder.path().join(&name);
        let child = training(folder.path(), most, &name, &longer)
            .stderr(Stdio::piped())
            .spawn();
        let child = child.unwrap();
        wait_for_log(&out, lines);
        signal(descendants(child.id(), "brillm")[victim], "-KILL");
        fails_soon(child, "a killed rank");
        assert!(
            !out.join("model.bril").exists(),
            "the run was killed before its end"
        );
        let mut again = longer.to_vec();
        again.push("--resume");
        succeed(
            &mut training(folder.path(), sizes()[index % 2], &name, &again),
            "resumed",
        );
        let found = outcome(&out);
        assert_eq!(found.1, expected.1, "log after {lines} lines");
        assert!(found.0 == expected.0, "model after {lines} lines");
    }
}

#[test]
fn an_interrupted_run_is_saved_and_resumes() {
    let folder = folder();
    let longer = [
        "--set",
        "train.tokens=28800",
        "--set",
        "train.patience=0",
        "--set",
        "train.checkpoint-every=1000",
    ];
    let child = training(folder.path(), 2, "stopped", &longer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = folder.path().join("stopped");
    wait_for_log(&out, 3);
    // What a launcher passes to the ranks when it is interrupted; one is enough.
    signal(descendants(child.id(), "brillm")[1], "-TERM");
    fails_soon(child, "an interrupted run");
    let saved = brillm::learn::checkpoint::list(&out).unwrap();
    assert_eq!(saved.len(), 1, "the ranks stopped after the same step");
    succeed(
        &mut training(folder.path(), 1, "whole", &longer),
        "uninterrupted",
    );
    let mut again = longer.to_vec();
    again.push("--resume");
    succeed(
        &mut training(folder.path(), 1, "stopped", &again),
        "resumed",
    );
    assert_eq!(outcome(&out), outcome(&folder.path().join("whole")));
}

/// A rank that fails in a way that `BRILLM_TEST_FAULT` names.
#[test]
#[ignore = "other tests run it under mpirun"]
fn worker() {
    let fault = std::env::var("BRILLM_TEST_FAULT").unwrap();
    let timeout = Duration::from_secs(if fault == "stuck" { 1 } else { 30 });
    let ranks = start(None, timeout).unwrap();
    let parts = vec![&b"lane"[..]; ranks.size()];
    assert_eq!(ranks.exchange("first".into(), &parts).unwrap(), parts);
    if ranks.rank() == 1 {
        match &*fault {
            "panic" => panic!("a fault of the test"),
            "return" => return,
            "exit" => std::process::exit(0),
            "stuck" => std::thread::sleep(Duration::from_secs(60)),
            "other" => drop(ranks.exchange("another".into(), &parts).unwrap()),
            _ => {}
        }
    }
    if fault == "leader" {
        leader_first(&*ranks, "the file", || match ranks.rank() {
            0 => Err(brillm::Error::new(brillm::ErrorKind::Input, "no such file")),
            _ => Ok(()),
        })
        .unwrap();
    }
    let mut sums = vec![ranks.rank() as i64 + 1; 70_000];
    ranks.sum("second".into(), &mut sums).unwrap();
    let total = ranks.size() * (ranks.size() + 1) / 2;
    assert!(sums.iter().all(|&sum| sum == total as i64));
    // Parts of different lengths, some of them empty.
    let sent: Vec<Vec<u8>> = (0..ranks.size())
        .map(|to| vec![ranks.rank() as u8; to * 1000])
        .collect();
    let sent: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
    let received = ranks.exchange("third".into(), &sent).unwrap();
    for (from, received) in received.iter().enumerate() {
        assert_eq!(*received, vec![from as u8; ranks.rank() * 1000]);
    }
    // A part for each rank, some of them empty, and counts that are known already.
    for length in [0, 1, 2, 3, 5, 5000] {
        let tokens: Vec<u32> = (0..length).map(|index| index * index % 7 % 5).collect();
        let mut parts = GraphBuilder::new(5);
        parts.add(4, 3, u32::MAX - 1).unwrap();
        let mut whole = parts.clone();
        parts.walk_over(&*ranks, &tokens).unwrap();
        whole.walk(tokens.iter().copied()).unwrap();
        let [parts, whole] = [parts, whole].map(|counts| counts.build().unwrap());
        for node in 0..5 {
            let [parts, whole] = [&parts, &whole].map(|graph| graph.fan(NodeId(node)));
            assert_eq!(
                (parts.targets, parts.counts),
                (whole.targets, whole.counts),
                "{length}"
            );
        }
    }
    ranks.finish().unwrap();
    assert!(ranks.sum("after the end".into(), &mut [0]).is_err());
}

fn worker_with(fault: &str, size: usize) -> Child {
    let mut command = mpirun(size, std::env::current_exe().unwrap());
    command
        .args([
            "worker",
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("BRILLM_TEST_FAULT", fault)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn ranks_exchange_and_sum() {
    for &size in sizes() {
        let output = worker_with("none", size).wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{size}: {}",
            text_of(&output.stderr)
        );
    }
}

#[test]
fn a_rank_that_fails_ends_the_job() {
    let mut faults = vec![
        ("panic", "rank 1 of 2 panicked"),
        ("return", "rank 1 of 2 ended before the others"),
        ("stuck", "\"second\" has not ended for 1 s"),
        ("other", "makes another exchange"),
        ("leader", "no such file"),
    ];
    // MPICH's launcher takes the code 0 of a rank that ends before MPI_Finalize for success.
    if !is_mpich() {
        faults.push(("exit", ""));
    }
    cases(faults, |(fault, expected)| {
        let errors = fails_soon(worker_with(fault, 2), fault);
        assert!(errors.contains(expected), "{fault}: {errors}");
    });
}

#[test]
fn ranks_that_differ_are_refused_before_the_first_step() {
    let folder = folder();
    let program = env!("CARGO_BIN_EXE_brillm");
    let train = ["train", "run.toml", "--quiet", "--out", "out"];
    // Name, variables and arguments of the last rank, and the message.
    type Case = (
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static [&'static str],
        &'static str,
    );
    let cases_of: [Case; 3] = [
        (
            "instructions",
            &[("BRILLM_SIMD", "portable")],
            &[],
            "the SIMD level of rank 1",
        ),
        (
            "arguments",
            &[],
            &["--set", "seed=4"],
            "the command line of rank 1",
        ),
        (
            "ranks",
            &[],
            &["--ranks", "2"],
            "the command line of rank 1",
        ),
    ];
    for (name, variables, more, expected) in cases_of {
        if brillm::kernel::simd::Level::available().len() == 1 && name == "instructions" {
            continue;
        }
        let mut command = mpirun(1, program);
        command
            .args(train)
            .current_dir(folder.path())
            .args([":", "-n", "1", "env"]);
        command.args(
            variables
                .iter()
                .map(|(key, value)| format!("{key}={value}")),
        );
        command
            .arg(program)
            .args(train)
            .args(more)
            .stderr(Stdio::piped());
        let errors = fails_soon(command.spawn().unwrap(), name);
        assert!(errors.contains(expected), "{name}: {errors}");
        assert_eq!(errors.matches("brillm: ").count(), 1, "{name}: {errors}");
        assert!(!folder.path().join("out").exists(), "{name} left a folder");
    }
}

#[test]
fn mistakes_are_reported_once() {
    let folder = folder();
    let cases_of: [(&[&str], &str); 4] = [
        (&["train", "none.toml"], "none.toml"),
        (
            &[
                "train",
                "run.toml",
                "--set",
                "data.train=[\"absent.txt\"]",
                "--out",
                "a",
            ],
            "absent.txt",
        ),
        (
            &["train", "run.toml", "--ranks", "3", "--out", "b"],
            "3 ranks are wanted, and there are 2 ranks",
        ),
        (
            &["inspect", "model.bril"],
            "this command runs in one process",
        ),
    ];
    for (arguments, expected) in cases_of {
        let mut command = mpirun(2, env!("CARGO_BIN_EXE_brillm"));
        command
            .args(arguments)
            .current_dir(folder.path())
            .stderr(Stdio::piped());
        let errors = fails_soon(command.spawn().unwrap(), expected);
        assert!(errors.contains(expected), "{errors}");
        assert_eq!(errors.matches("brillm: ").count(), 1, "{errors}");
    }
    let alone = fails(&["train", "run.toml", "--ranks", "2"]);
    assert!(
        alone.contains("2 ranks are wanted, and this is one process"),
        "{alone}"
    );
}

#[test]
fn the_launcher_of_another_mpi_is_refused() {
    let folder = folder();
    let mut command = launch(!is_mpich(), 2, env!("CARGO_BIN_EXE_brillm"));
    command
        .args(["train", "run.toml", "--quiet", "--out", "out"])
        .current_dir(folder.path())
        .stderr(Stdio::piped());
    let errors = fails_soon(command.spawn().unwrap(), "another launcher");
    assert!(errors.contains("each would do the whole work"), "{errors}");
    assert!(errors.contains(&library().unwrap()), "{errors}");
    assert!(!folder.path().join("out").exists());
}
