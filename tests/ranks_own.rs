//! Own edges over ranks: each holds the fans of the nodes it owns, and the results have the bits of one process.
#![cfg(feature = "mpi")]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use brillm::learn::checkpoint;
use brillm::model::{Container, Verify};

mod support;
use support::ranks::*;
use support::*;

/// A folder with a text and a run file of own edges: dropout, clipping, validation, early stopping.
fn folder() -> tempfile::TempDir {
    let folder = letters_folder();
    let recipe = "\
name = \"ranks\"
seed = 3
[data]
train = [\"text.txt\"]
validation = [\"held-out.txt\"]
vocabulary = 300
[profile]
preset = \"sifu-own\"
width = 8
[train]
tokens = 1920
batch = 24
steps = 8
dropout = 0.2
clip = 0.3
warmup = 10
folds = 2
log-every = 1
validate-every = 3
patience = 2
checkpoint-every = 2
";
    std::fs::write(folder.path().join("run.toml"), recipe).unwrap();
    folder
}

/// Train in one process, with the given way of summing gradients.
fn alone(folder: &Path, out: &str, reduction: &str, more: &[&str]) {
    let reduction = format!("train.reduction={reduction}");
    let mut arguments = vec!["train", "run.toml", "--quiet", "--out", out];
    arguments.extend(["--set", &reduction]);
    arguments.extend(more);
    succeed(brillm(&arguments).current_dir(folder), out);
}

#[test]
fn own_edges_have_the_same_bits_on_any_number_of_ranks() {
    let folder = folder();
    // Name, changes, and whether float sums end close to exact ones.
    let cases_of: [(&str, &[&str]); 5] = [
        ("gated", &[]),
        (
            "dense",
            &[
                "--set",
                "train.optimiser=dense",
                "--set",
                "profile.blend=\"decay\"",
            ],
        ),
        (
            "averaged",
            &[
                "--set",
                "train.average=0.9",
                "--set",
                "graph.own-minimum-count=4",
                "--set",
                "graph.order=3",
            ],
        ),
        (
            "unclipped",
            &["--set", "train.clip=0", "--set", "train.patience=0"],
        ),
        (
            "sampled",
            &[
                "--set",
                "train.negatives=20",
                "--set",
                "train.negative-kind=uniform",
            ],
        ),
    ];
    cases(cases_of, |(name, changes)| {
        let exact = format!("{name}-alone");
        alone(folder.path(), &exact, "exact", changes);
        let expected = outcome(&folder.path().join(&exact));
        let float = format!("{name}-float");
        alone(folder.path(), &float, "float", changes);
        let loss = |records: &[serde_json::Value]| {
            let losses = records.iter().rev().filter_map(|one| one["loss"].as_f64());
            losses.take(1).sum::<f64>()
        };
        let float = outcome(&folder.path().join(&float)).1;
        assert_eq!(float.len(), expected.1.len(), "{name}");
        let difference = (loss(&float) - loss(&expected.1)).abs();
        assert!(difference < 1e-3, "{name}: {difference}");
        // Whole fans, cut ones, and fans cut wherever they can be.
        for (&size, cut) in sizes().iter().zip(["0", "8", "1000"]) {
            let out = format!("{name}-{size}");
            let cut = format!("train.cut={cut}");
            let changes = [*changes, &["--set", &cut]].concat();
            succeed(&mut training(folder.path(), size, &out, &changes), name);
            let found = outcome(&folder.path().join(out));
            assert_eq!(found.1, expected.1, "{name}: log on {size} ranks");
            assert!(found.0 == expected.0, "{name}: model on {size} ranks");
        }
    });
}

/// The plan of the run of a folder.
fn plan(folder: &Path, more: &[&str]) -> serde_json::Value {
    let run_file = path(folder, "run.toml");
    json(&[&["plan", &run_file, "--json"], more].concat())
}

#[test]
fn a_plan_knows_the_owners_and_the_traffic_of_a_training() {
    let folder = folder();
    let size = sizes()[sizes().len() - 1];
    let ranks = size.to_string();
    for cut in ["0", "1000"] {
        let setting = format!("train.cut={cut}");
        let changes = ["--set", &setting, "--set", "train.patience=0"];
        let planned = plan(
            folder.path(),
            &[&changes[..], &["--ranks", &ranks, "--simulate"]].concat(),
        );
        let fans = planned["cut_fans"].as_array().unwrap();
        assert_eq!(fans.is_empty(), cut == "0", "{planned}");
        let mut command = training(folder.path(), size, cut, &changes);
        let report = stdout_of(&command.arg("--json").output().unwrap(), cut);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let found = report["exchanged_bytes_a_token"].as_f64().unwrap();
        let expected = planned["bytes_a_token"].as_f64().unwrap();
        println!(
            "cut {cut}: {found:.1} bytes a token between {size} ranks, {expected:.1} by the plan"
        );
        assert!(
            (found / expected - 1.0).abs() < 0.1,
            "{cut}: {found} bytes a token, not {expected}"
        );
        // The shards have the edges that the plan gives each rank.
        let edges = planned["ranks"].as_array().unwrap().iter();
        let edges = edges.map(|rank| rank["edges"].as_u64().unwrap());
        let last = shards(&folder.path().join(cut)).split_off(size);
        for (edges, shard) in edges.zip(&last) {
            let shard = Container::open(shard, Verify::Whole).unwrap();
            let rows = shard
                .require("rows")
                .unwrap()
                .typed::<u64>()
                .unwrap()
                .to_vec();
            let rows = rows.chunks(2).map(|ends| ends[1] - ends[0]);
            assert_eq!(rows.sum::<u64>(), edges + 1, "with the shared edge");
        }
    }
}

/// Shards in a folder, by name.
fn shards(out: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(out).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_shard = |path: &PathBuf| path.to_string_lossy().contains(".shard-");
    let mut shards: Vec<PathBuf> = paths.filter(is_shard).collect();
    shards.sort();
    shards
}

#[test]
fn a_rank_stores_its_share_of_the_edges() {
    let folder = folder();
    // Two of the checkpoints are kept.
    let wide = [
        "--set",
        "profile.width=16",
        "--set",
        "train.patience=0",
        "--set",
        "train.cut=1000",
    ];
    let length = |path: &PathBuf| path.metadata().unwrap().len() as f64;
    let mut whole = 0.0;
    for &size in sizes() {
        let out = format!("out-{size}");
        succeed(&mut training(folder.path(), size, &out, &wide), &out);
        let shards = shards(&folder.path().join(&out));
        assert_eq!(shards.len(), 2 * size, "{shards:?}");
        let newest: Vec<f64> = shards[size..].iter().map(length).collect();
        if size == 1 {
            whole = newest[0];
        }
        let fullest = newest.iter().copied().fold(0.0, f64::max);
        // With a checksum for each fan and array.
        let headers = 12_000.0;
        assert!(
            fullest <= 1.1 * whole / size as f64 + headers,
            "{size}: {newest:?} of {whole}"
        );
    }
}

#[test]
fn a_killed_run_resumes_on_another_number_of_ranks() {
    let folder = folder();
    let longer = [
        "--set",
        "train.tokens=6912",
        "--set",
        "train.patience=0",
        "--set",
        "train.average=0.9",
    ];
    succeed(&mut training(folder.path(), 1, "whole", &longer), "whole");
    let expected = outcome(&folder.path().join("whole"));
    let out = folder.path().join("killed");
    let again = [&longer[..], &["--resume"]].concat();
    // Killed on one number with fans cut, resumed and killed on the next with whole ones.
    let most = sizes().len() - 1;
    for (start, lines, cut) in [(most, 4, 1000), (most - 1, 9, 0), (0, 14, 8)] {
        let cut = format!("train.cut={cut}");
        let arguments = if lines == 4 { &longer[..] } else { &again };
        let arguments = [arguments, &["--set", &cut]].concat();
        let mut command = training(folder.path(), sizes()[start], "killed", &arguments);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        wait_for_log(&out, lines);
        signal(descendants(child.id(), "brillm")[0], "-KILL");
        fails_soon(child, "a killed rank");
        assert!(!out.join("model.bril").exists(), "killed before its end");
    }
    succeed(&mut training(folder.path(), 2, "killed", &again), "resumed");
    let found = outcome(&out);
    assert_eq!(found.1, expected.1, "log");
    assert!(found.0 == expected.0, "model");
    // No shard of another checkpoint is left.
    let kept = checkpoint::list(&out).unwrap();
    assert_eq!(shards(&out).len(), 2 * kept.len());
}

#[test]
fn a_damaged_shard_costs_its_checkpoint_alone() {
    let folder = folder();
    let longer = ["--set", "train.tokens=2880", "--set", "train.patience=0"];
    let short = ["--set", "train.tokens=1344", "--set", "train.patience=0"];
    succeed(&mut training(folder.path(), 2, "out", &short), "training");
    let out = folder.path().join("out");
    let (log, model) = outcome(&out);
    let newest = shards(&out).pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, &bytes).unwrap();
    // The run continues from the checkpoint before, with the same steps.
    let again = [&short[..], &["--resume"]].concat();
    succeed(&mut training(folder.path(), 1, "out", &again), "damaged");
    assert_eq!(outcome(&out), (log, model));
    // A shard of another checkpoint under this name is refused: the only other one is removed.
    let all = checkpoint::list(&out).unwrap();
    std::fs::remove_file(&all[0]).unwrap();
    let stale = shards(&out);
    std::fs::copy(&stale[0], stale.last().unwrap()).unwrap();
    let again = [&longer[..], &["--resume"]].concat();
    let mut command = training(folder.path(), 2, "out", &again);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let errors = fails_soon(child, "a stale shard");
    assert!(
        errors.contains("the one that its checkpoint names"),
        "{errors}"
    );
}

#[test]
fn training_starts_from_a_model_on_any_number_of_ranks() {
    let folder = folder();
    alone(folder.path(), "first", "float", &[]);
    let more = ["--set", "initial=first/model.bril"];
    alone(folder.path(), "alone", "exact", &more);
    let expected = outcome(&folder.path().join("alone"));
    succeed(&mut training(folder.path(), 2, "two", &more), "two ranks");
    assert!(outcome(&folder.path().join("two")) == expected);
}
