//! Own edges over ranks: each holds the fans of the nodes it owns, and the results have the bits of one process.
#![cfg(feature = "mpi")]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use brillm::learn::checkpoint;

mod support;
use support::ranks::*;
use support::*;

/// A folder with a text and a run file of own edges: dropout, clipping, validation, early stopping.
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
preset = \"sifu-own\"
width = 8
[train]
tokens = 5760
batch = 72
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
        for &size in sizes() {
            let out = format!("{name}-{size}");
            succeed(&mut training(folder.path(), size, &out, changes), name);
            let found = outcome(&folder.path().join(out));
            assert_eq!(found.1, expected.1, "{name}: log on {size} ranks");
            assert!(found.0 == expected.0, "{name}: model on {size} ranks");
        }
    });
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
    let wide = ["--set", "profile.width=16", "--set", "train.patience=0"];
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
        // The headers, with a checksum for each fan and array.
        let beside = 12_000.0;
        assert!(
            fullest <= 1.1 * whole / size as f64 + beside,
            "{size}: {newest:?} of {whole}"
        );
    }
}

#[test]
fn a_killed_run_resumes_on_another_number_of_ranks() {
    let folder = folder();
    let longer = [
        "--set",
        "train.tokens=34560",
        "--set",
        "train.patience=0",
        "--set",
        "train.average=0.9",
    ];
    succeed(&mut training(folder.path(), 1, "whole", &longer), "whole");
    let expected = outcome(&folder.path().join("whole"));
    let out = folder.path().join("killed");
    let again = [&longer[..], &["--resume"]].concat();
    // Killed on one number, resumed and killed on the next.
    let most = sizes().len() - 1;
    for (start, lines) in [(most, 4), (most - 1, 9), (0, 14)] {
        let arguments = if lines == 4 { &longer[..] } else { &again };
        let mut command = training(folder.path(), sizes()[start], "killed", arguments);
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
    let longer = ["--set", "train.tokens=8640", "--set", "train.patience=0"];
    let short = ["--set", "train.tokens=4032", "--set", "train.patience=0"];
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
