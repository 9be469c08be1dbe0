//! The command line on a device, and sessions, beams and evaluations that use it.

use std::process::Command;
use std::sync::Arc;

use brillm::ErrorKind;
use brillm::hook::Hooks;
use brillm::kernel::element::Element;
use brillm::kernel::gpu::DeviceOptions;
use brillm::measure::Windows;
use brillm::path::{BeamOptions, Charges, Decoder, GraphSession, Sampling, Session, beam, beam_on};
use brillm::run::{BackendChoice, device_for, evaluate_windows, evaluate_windows_on};
use brillm::signal::{DeviceMechanism, Profile, Start};
use serde_json::Value;

use crate::decoding::{learned, text};
use crate::{Bed, Test};

pub const TESTS: &[Test] = &[
    (
        "a_session_on_a_device_keeps_the_state_of_the_cpu",
        a_session_on_a_device_keeps_the_state_of_the_cpu,
    ),
    (
        "beams_and_windows_match_the_cpu",
        beams_and_windows_match_the_cpu,
    ),
    ("commands_run_on_the_adapter", commands_run_on_the_adapter),
    (
        "a_lost_device_is_an_error_or_the_cpu_takes_over",
        a_lost_device_is_an_error_or_the_cpu_takes_over,
    ),
    (
        "the_times_of_kernels_are_printed_at_the_end",
        the_times_of_kernels_are_printed_at_the_end,
    ),
    (
        "the_bench_reports_the_adapter",
        the_bench_reports_the_adapter,
    ),
];

/// Injection, forced tokens, changed sampling and charges leave a session on a device in the state of one on the CPU.
fn a_session_on_a_device_keeps_the_state_of_the_cpu(bed: &Bed) {
    let profiles = [Profile::sifu(8), Profile::sifu_own(8), Profile::layered(8)];
    for profile in profiles {
        let mechanism = learned(&profile, Element::F32);
        let device = Arc::new(DeviceMechanism::upload(&bed.device, mechanism.clone()).unwrap());
        let sampling = Sampling::default()
            .temperature(0.8)
            .seed(4)
            .repetition_penalty(1.4, 6);
        let begin = || {
            GraphSession::begin(
                mechanism.clone(),
                &[3, 5],
                &Start::Profile,
                sampling.clone(),
            )
            .unwrap()
        };
        let (mut plain, mut ahead) = (begin(), begin());
        ahead.use_device(device.clone(), 7, true).unwrap();
        let both = |plain: &mut GraphSession, ahead: &mut GraphSession, steps: usize| {
            for _ in 0..steps {
                assert_eq!(plain.step().unwrap(), ahead.step().unwrap());
            }
            assert_eq!(plain.state(), ahead.state());
        };
        both(&mut plain, &mut ahead, 10);
        for session in [&mut plain, &mut ahead] {
            session.inject(7, 4.0).unwrap();
        }
        both(&mut plain, &mut ahead, 3);
        for session in [&mut plain, &mut ahead] {
            session.force(2).unwrap();
            session.sampling_mut().temperature = 0.3;
        }
        both(&mut plain, &mut ahead, 9);
        // The device has neither of these: the CPU chooses as long as they are set.
        for session in [&mut plain, &mut ahead] {
            session.sampling_mut().frequency_penalty = 1.5;
            session.sampling_mut().logit_bias = vec![(4, 2.0)];
        }
        both(&mut plain, &mut ahead, 9);
        for session in [&mut plain, &mut ahead] {
            session.sampling_mut().frequency_penalty = 0.0;
            session.sampling_mut().logit_bias.clear();
        }
        both(&mut plain, &mut ahead, 3);
        for session in [&mut plain, &mut ahead] {
            session.set_charges(Charges::new(0.9, 0.5, 0.5, 1.0));
        }
        both(&mut plain, &mut ahead, 9);
        for session in [&mut plain, &mut ahead] {
            session.set_charges(Charges::default());
            session.set_recall("8,4,0.4".parse().unwrap()).unwrap();
        }
        both(&mut plain, &mut ahead, 9);
        // What was set before the device is refused where it is forced.
        let said = plain.use_device(device.clone(), 7, true).unwrap_err();
        assert_eq!(said.kind(), ErrorKind::Unsupported);
        assert!(said.to_string().contains("recalled"), "{said}");
        plain.use_device(device.clone(), 7, false).unwrap();
        both(&mut plain, &mut ahead, 3);
        assert!(ahead.device_error().is_none());
        let biased = Sampling::greedy().logit_bias([(4, 2.0)]);
        let refused = Decoder::new(device.clone(), 1, 4, biased, &[], 0).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        let other = learned(&profile, Element::F32);
        let mut stranger =
            GraphSession::begin(other, &[3], &Start::Profile, Sampling::greedy()).unwrap();
        let error = stranger.use_device(device, 7, true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
    }
}

fn beams_and_windows_match_the_cpu(bed: &Bed) {
    let profiles = [Profile::sifu(8), Profile::reference(8), Profile::layered(8)];
    for profile in profiles {
        let mechanism = learned(&profile, Element::F32);
        let device = Arc::new(DeviceMechanism::upload(&bed.device, mechanism.clone()).unwrap());
        let options = BeamOptions {
            stop: vec![1],
            banned: vec![2],
            ..BeamOptions::new(4, 6)
        };
        let (prompt, start, hooks) = ([3, 5], Start::Profile, Hooks::default());
        let expected = beam(&mechanism, &prompt, &start, &options, &hooks).unwrap();
        let found = beam_on(&device, &prompt, &start, &options).unwrap();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(
                (&found.nodes, found.stopped),
                (&expected.nodes, expected.stopped)
            );
            assert!((found.resistance - expected.resistance).abs() < 1e-4);
        }
        let windows = Windows::new(9, 20);
        let expected = evaluate_windows(&mechanism, &text(), &windows, &hooks).unwrap();
        let found = evaluate_windows_on(&device, &text(), &windows).unwrap();
        assert_eq!(
            (found.tokens, found.candidates),
            (expected.tokens, expected.candidates)
        );
        assert!(
            (found.nats_per_token - expected.nats_per_token).abs() < 1e-5 * expected.nats_per_token
        );
    }
}

/// Index of the adapter in the list of `brillm devices`.
pub fn index_of(bed: &Bed) -> String {
    let (_, out, _) = brillm(&["devices", "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    let own = bed.device.report();
    let mut all = report["adapters"].as_array().unwrap().iter();
    let listed = all.find(|one| one["name"] == own.name.as_str() && one["backend"] == own.backend);
    listed.expect("the adapter is listed")["index"].to_string()
}

pub fn brillm(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_brillm"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A row for each kernel, in a run that gives the tokens of one without a profile; or an error without timestamps.
fn the_times_of_kernels_are_printed_at_the_end(bed: &Bed) {
    let own = bed.device.report();
    let adapter = own.index.to_string();
    let generate = |more: &[&str]| {
        let base = [
            "generate",
            "Once upon a time",
            "--tokens",
            "9",
            "--temperature",
            "0",
            "--adapter",
        ];
        brillm(&[&base[..], &[&adapter], more].concat())
    };
    let (code, plain, error) = generate(&[]);
    assert_eq!(code, Some(0), "{error}");
    assert!(!error.contains("µs each"), "{error}");
    let (code, out, error) = generate(&["--profile"]);
    if code == Some(1) {
        assert!(
            error.contains("no timestamps") && own.backend == "gl",
            "{own:?}: {error}"
        );
        return;
    }
    assert_eq!((code, &out), (Some(0), &plain), "{error}");
    let table = error.split_once("µs each").expect("a table").1;
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    let (all, rows) = rows.split_last().unwrap();
    assert_eq!(all[2], "all");
    let number = |text: &str| text.trim_end_matches('%').parse::<f64>().unwrap();
    let sum = |column: usize| rows.iter().map(|row| number(row[column])).sum::<f64>();
    assert_eq!(sum(0), number(all[0]), "{table}");
    assert!((sum(4) - 100.0).abs() < 0.1 * rows.len() as f64, "{table}");
    // What a product reads is known, and so is what a choice reads of all nodes.
    for kernel in ["dots", "hop.hop"] {
        let mut of_kernel = rows.iter().filter(|row| row[5].starts_with(kernel));
        let known = of_kernel.any(|row| row[3].parse::<f64>().is_ok());
        assert!(known, "{kernel}: {table}");
    }
}

fn commands_run_on_the_adapter(bed: &Bed) {
    let (code, out, error) = brillm(&["devices", "--json"]);
    assert_eq!(code, Some(0), "{error}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let own = bed.device.report();
    let listed = report["adapters"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == own.name.as_str() && one["backend"] == own.backend)
        .expect("the adapter is listed");
    if bed.is_software() {
        assert_eq!(listed["kind"], "software");
        assert_eq!(listed["kernels"], "thread");
    }
    assert!(listed["refused"].is_null());
    let index = listed["index"].as_u64().unwrap().to_string();

    let generate = |more: &[&str]| {
        let base = [
            "generate",
            "Once upon a time",
            "--tokens",
            "12",
            "--seed",
            "3",
            "--json",
        ];
        let (code, out, error) = brillm(&[&base[..], more].concat());
        assert_eq!(code, Some(0), "{error}");
        serde_json::from_str::<Value>(&out).unwrap()
    };
    let expected = generate(&["--backend", "cpu"]);
    let found = generate(&["--adapter", &index]);
    assert_eq!(found["ids"], expected["ids"]);
    assert_eq!(found["adapter"], own.to_string());
    if own.pipeline_cache {
        // Compiled kernels are stored on disk, and broken files are replaced.
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            let status = Command::new(env!("CARGO_BIN_EXE_brillm"))
                .args([
                    "generate",
                    "Once",
                    "--tokens",
                    "2",
                    "--json",
                    "--adapter",
                    &index,
                ])
                .env("XDG_CACHE_HOME", folder.path())
                .output()
                .unwrap();
            assert!(status.status.success());
            let kept: Vec<_> = std::fs::read_dir(folder.path().join("brillm"))
                .unwrap()
                .flat_map(|version| std::fs::read_dir(version.unwrap().path()).unwrap())
                .map(|file| file.unwrap().path())
                .collect();
            assert_eq!(kept.len(), 1, "{kept:?}");
            std::fs::write(&kept[0], b"invalid").unwrap();
        }
    }
    let (code, _, error) = brillm(&["generate", "Once", "--adapter", "no such adapter"]);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("no such adapter") && error.contains("brillm devices"),
        "{error}"
    );
    // Both shapes of the kernels, by name.
    for shape in ["lanes", "thread"] {
        let found = generate(&["--adapter", &index, "--kernels", shape]);
        assert_eq!(found["ids"], expected["ids"], "{shape}");
    }
    let (code, _, error) = brillm(&["generate", "Once", "--backend", "cpu", "--adapter", &index]);
    assert_eq!(code, Some(1));
    assert!(error.contains("contradict"), "{error}");

    // Without a GPU, auto is the CPU, and gpu a software adapter with a warning.
    if report["automatic"].is_null() {
        assert!(
            device_for(&BackendChoice::Auto, DeviceOptions::default(), &mut |_| ())
                .unwrap()
                .is_none()
        );
        let (code, _, error) = brillm(&["generate", "Once", "--tokens", "1", "--backend", "gpu"]);
        assert_eq!(code, Some(0), "{error}");
        assert!(error.contains("slower than --backend cpu"), "{error}");
    }
}

fn a_lost_device_is_an_error_or_the_cpu_takes_over(bed: &Bed) {
    let mechanism = learned(&Profile::sifu(8), Element::F32);
    let begin = || {
        GraphSession::begin(mechanism.clone(), &[3], &Start::Profile, Sampling::greedy()).unwrap()
    };
    let mut plain = begin();
    let expected: Vec<_> = (0..20).map(|_| plain.step().unwrap()).collect();
    for forced in [false, true] {
        let device = bed.with(DeviceOptions::default());
        let on_device = Arc::new(DeviceMechanism::upload(&device, mechanism.clone()).unwrap());
        let mut session = begin();
        session.use_device(on_device, 4, forced).unwrap();
        for expected in &expected[..4] {
            assert_eq!(session.step().unwrap(), *expected);
        }
        device.destroy();
        if forced {
            let error = session.step().unwrap_err();
            assert!(error.to_string().contains("--backend cpu"), "{error}");
            continue;
        }
        for expected in &expected[4..] {
            assert_eq!(session.step().unwrap(), *expected);
        }
        assert!(session.device_error().is_some());
    }
}

fn the_bench_reports_the_adapter(bed: &Bed) {
    let index = index_of(bed);
    let quick = [
        "--edge-mib",
        "20",
        "--seconds",
        "0.01",
        "--skip-train",
        "--gpu-batch",
        "1,3",
        "--json",
    ];
    let (code, out, error) = brillm(&[&["bench", "--adapter", &index][..], &quick].concat());
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(
        error.contains("software adapter"),
        bed.is_software(),
        "{error}"
    );
    let report: Value = serde_json::from_str(&out).unwrap();
    for figure in ["read_gb_per_s", "copy_gb_per_s", "upload_gb_per_s"] {
        assert!(report[figure].as_f64().unwrap() > 0.0, "{report}");
    }
    // Memory for 12 of 24 fans: they are paged.
    let paged = [
        "--edge-mib",
        "200",
        "--device-memory",
        "100",
        "--storage",
        "f16",
    ];
    let all = [&["bench", "--adapter", &index][..], &paged, &quick[2..7]].concat();
    let (code, out, error) = brillm(&all);
    assert_eq!(code, Some(0), "{error}");
    let words = [
        "kernels read ",
        " GB/s and copy ",
        "the host writes ",
        "of read",
    ];
    for words in words.iter().chain(&["fans paged in at "]) {
        assert!(out.contains(words), "{words:?}: {out}");
    }
    assert!(!out.contains("f32"), "{out}");
    let rows = report["decode"].as_array().unwrap();
    assert_eq!(rows.len(), 6);
    for row in rows {
        for figure in [
            "ms_per_token",
            "gb_per_s",
            "fraction_of_read",
            "distinct_fans",
        ] {
            assert!(row[figure].as_f64().unwrap() > 0.0, "{row}");
        }
        assert!(row["dispatches"].as_u64().unwrap() >= 2, "{row}");
        assert!(row["page_in_gb_per_s"].is_null(), "{row}");
    }
    let storages: std::collections::BTreeSet<&str> = rows
        .iter()
        .map(|row| row["storage"].as_str().unwrap())
        .collect();
    assert_eq!(
        storages.into_iter().collect::<Vec<_>>(),
        ["f16", "f32", "i8"]
    );
}
