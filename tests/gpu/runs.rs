//! Run files on a device, and runs that lose their device.

use std::path::Path;

use brillm::kernel::gpu::{Device, DeviceOptions};
use brillm::learn::{ProgressObserver, Recipe, Trainer};
use brillm::model::{Model, Verify};
use serde_json::Value;

use crate::commands::{brillm, index_of};
use crate::decoding::text;
use crate::{Bed, Test};

pub const TESTS: &[Test] = &[
    (
        "a_run_file_trains_on_the_adapter",
        a_run_file_trains_on_the_adapter,
    ),
    (
        "a_run_continues_after_its_device_is_lost",
        a_run_continues_after_its_device_is_lost,
    ),
];

/// The losses in the log of a run.
fn losses(folder: &Path) -> Vec<f64> {
    let log = std::fs::read_to_string(folder.join(brillm::learn::log::JSON_FILE)).unwrap();
    log.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|record| record["loss"].as_f64())
        .collect()
}

/// Settings of training that layered edges have besides the others.
const LAYERED: &str = "carry = true\nreset = 0.1\naverage = 0.9\ndropout-memory = 0.1\n";

/// Writes a small run file of 40 steps, with further settings of training, and its text.
fn run_file(folder: &Path, preset: &str, train: &str) -> std::path::PathBuf {
    let ids: Vec<u8> = text()
        .iter()
        .flat_map(|&id| (id as u16).to_le_bytes())
        .collect();
    std::fs::write(folder.join("train.u16"), &ids).unwrap();
    std::fs::write(folder.join("held.u16"), &ids[..200]).unwrap();
    let recipe = folder.join("run.toml");
    std::fs::write(
        &recipe,
        format!(
            "name = \"small\"\nseed = 3\n[data]\ntrain = [\"train.u16\"]\nvalidation = [\"held.u16\"]\n\
             tokens = \"ids\"\nvocabulary = 12\n[profile]\npreset = \"{preset}\"\nwidth = 8\n\
             [train]\ntokens = 1200\nbatch = 5\nsteps = 6\nfolds = 3\nblock = 60\nlog-every = 5\n\
             warmup = 5\ncheckpoint-every = 20\ndropout = 0.2\n{train}",
        ),
    )
    .unwrap();
    recipe
}

/// Destroys a device after a step, and collects warnings.
struct DeviceDestroyer {
    device: Device,
    after: u64,
    warnings: Vec<String>,
}

impl ProgressObserver for DeviceDestroyer {
    fn step(&mut self, step: u64, _: u64, _: f64, _: u64) {
        if step == self.after {
            self.after = 0;
            self.device.destroy();
        }
    }

    fn warn(&mut self, text: &str) {
        self.warnings.push(text.to_string());
    }
}

/// A run that loses its device continues from its checkpoint; a forced device ends the run, which can be resumed.
fn a_run_continues_after_its_device_is_lost(bed: &Bed) {
    for (preset, train) in [("sifu-own", ""), ("layered", LAYERED)] {
        continues_after_its_device_is_lost(bed, preset, train);
    }
}

fn continues_after_its_device_is_lost(bed: &Bed, preset: &str, train: &str) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let recipe = run_file(folder.path(), preset, train);
    let never = std::sync::atomic::AtomicBool::new(false);
    let prepare = |name: &str, resume: bool| {
        let recipe = Recipe::open(&recipe, &[]).unwrap();
        Trainer::prepare(recipe, folder.path(), &at(name), resume, &mut ()).unwrap()
    };
    prepare("plain", false).run(&never, &mut ()).unwrap();
    for (name, after, forced) in [
        ("early", 3, false),
        ("late", 33, false),
        ("forced", 33, true),
    ] {
        let mut observer = DeviceDestroyer {
            device: bed.with(DeviceOptions::default()),
            after,
            warnings: Vec::new(),
        };
        let mut trainer = prepare(name, false);
        trainer.use_device(&observer.device, forced).unwrap();
        let outcome = trainer.run(&never, &mut observer);
        if forced {
            let error = outcome.unwrap_err().to_string();
            assert!(error.contains("--backend cpu"), "{error}");
            drop(trainer);
            prepare(name, true).run(&never, &mut ()).unwrap();
        } else {
            assert_eq!(outcome.unwrap().steps, 40);
            let kept = after / 20 * 20;
            let said = format!("continues on the CPU after step {kept}");
            assert!(
                observer.warnings[0].contains(&said),
                "{:?}",
                observer.warnings
            );
        }
        let (found, expected) = (losses(&at(name)), losses(&at("plain")));
        assert_eq!(found.len(), expected.len(), "{name}");
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() < 1e-4 * b, "{name}: loss {a} instead of {b}");
        }
    }
}

fn a_run_file_trains_on_the_adapter(bed: &Bed) {
    for (preset, train) in [("sifu", ""), ("layered", LAYERED)] {
        trains_on_the_adapter(bed, preset, train);
    }
}

fn trains_on_the_adapter(bed: &Bed, preset: &str, train: &str) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let recipe = run_file(folder.path(), preset, train);
    let index = index_of(bed);
    let train = |name: &str, more: &[&str]| {
        let (recipe, out) = (recipe.to_str().unwrap(), at(name));
        let base = [
            "train",
            recipe,
            "--quiet",
            "--json",
            "--out",
            out.to_str().unwrap(),
        ];
        let (code, text, error) = brillm(&[&base[..], more].concat());
        assert_eq!(code, Some(0), "{error}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let on_device = train("device", &["--adapter", &index]);
    let expected = train("processor", &["--backend", "cpu"]);
    let (found, all) = (losses(&at("device")), losses(&at("processor")));
    assert!(
        all.len() >= 8 && found.len() == all.len(),
        "{found:?} {all:?}"
    );
    for (a, b) in found.iter().zip(&all) {
        assert!((a - b).abs() < 1e-4 * b, "loss {a} instead of {b}");
    }
    let perplexity = |report: &Value| report["validation_perplexity"].as_f64().unwrap();
    let (a, b) = (perplexity(&on_device), perplexity(&expected));
    assert!((a - b).abs() < 1e-4 * b, "perplexity {a} instead of {b}");
    // The model trained on the device opens like any other.
    let model = Model::open(&at("device").join("model.bril"), Verify::Whole).unwrap();
    assert_eq!(model.mechanism().nodes(), 12);
}
