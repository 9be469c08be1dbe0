//! Shaders of plugins for `edge/1`: run on the device after a comparison with their functions.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock};

use brillm::ErrorKind;
use brillm::hook::{Answer, Call, Edge, Fan, Hooks, Shader};
use brillm::kernel::element::Element;
use brillm::kernel::random::Random;
use brillm::measure::Windows;
use brillm::path::{
    BeamOptions, Decoder, GraphSession, HookRunner, Sampling, Session, beam, beam_on,
};
use brillm::run::{evaluate_windows, evaluate_windows_on};
use brillm::signal::{DeviceMechanism, Profile, Start};
use serde_json::Value;

use crate::commands::index_of;
use crate::decoding::{learned, text};
use crate::{Bed, Test};

pub const TESTS: &[Test] = &[
    (
        "edge_shaders_match_their_functions",
        edge_shaders_match_their_functions,
    ),
    (
        "a_shader_that_differs_from_its_function_is_refused",
        a_shader_that_differs_from_its_function_is_refused,
    ),
    (
        "a_plugin_with_a_shader_runs_on_the_adapter",
        a_plugin_with_a_shader_runs_on_the_adapter,
    ),
];

/// Uses all inputs of a shader: energies, counts, the node, the step, and V.
struct Twist;

impl Edge for Twist {
    fn resist(&self, call: &Call, fan: &Fan, resistance: &mut [f32]) -> brillm::Result<Answer> {
        let mut counts = vec![0u32; resistance.len()];
        for (&target, &count) in fan.targets.iter().zip(fan.counts) {
            counts[target as usize] = count;
        }
        let v = resistance.len();
        for (node, value) in resistance.iter_mut().enumerate() {
            let third = (node + fan.source as usize + call.step as usize) % 3;
            *value = 0.5 * *value + 1.5 * third as f32 - 0.02 * counts[node] as f32
                + 0.01 * fan.energies[node]
                + if node + 1 == v { 0.25 } else { 0.0 };
        }
        Ok(Answer::Given)
    }
}

/// Raises the resistances of even nodes.
struct Shift;

impl Edge for Shift {
    fn resist(&self, _: &Call, _: &Fan, resistance: &mut [f32]) -> brillm::Result<Answer> {
        resistance
            .iter_mut()
            .step_by(2)
            .for_each(|value| *value += 0.75);
        Ok(Answer::Given)
    }
}

/// A shader of `edge/1` with this statement for node `v`.
fn shader(statement: &str) -> Shader {
    Shader {
        hook: "edge/1".into(),
        source: format!(
            "@group(0) @binding(0) var<storage, read> energies: array<f32>;
             @group(0) @binding(1) var<storage, read> counts: array<u32>;
             @group(0) @binding(2) var<storage, read_write> resistance: array<f32>;
             @group(0) @binding(3) var<uniform> place: vec4<u32>;
             @compute @workgroup_size(8)
             fn resist(@builtin(global_invocation_id) id: vec3<u32>) {{
                 let v = id.x;
                 if v >= place.z {{ return; }}
                 {statement}
             }}"
        ),
        entry_point: "resist".into(),
        workgroup: 8,
    }
}

const TWIST: &str = "
    let third = (v + place.x + place.y) % 3u;
    resistance[v] = 0.5 * resistance[v] + 1.5 * f32(third) - 0.02 * f32(counts[v]) + 0.01 * energies[v]
        + select(0.0, 0.25, v + 1u == arrayLength(&resistance));";

fn hooks(pairs: Vec<(Arc<dyn Edge>, Shader)>) -> Hooks {
    let mut hooks = Hooks::default();
    for (edge, shader) in pairs {
        brillm::plugin::validate_shader(&shader).unwrap();
        hooks.edge.push(edge);
        hooks.shaders.push(shader);
    }
    hooks
}

fn both() -> Hooks {
    hooks(vec![
        (Arc::new(Twist), shader(TWIST)),
        (
            Arc::new(Shift),
            shader("if v % 2u == 0u { resistance[v] += 0.75; }"),
        ),
    ])
}

/// Paths, batches, beams and perplexities with two shaders are those of their functions.
fn edge_shaders_match_their_functions(bed: &Bed) {
    let hooks = both();
    let residual = Profile {
        residual: Some(2),
        ..Profile::sifu(8)
    };
    let profiles = [
        Profile::sifu(8),
        Profile::sifu_own(8),
        Profile::layered(8),
        residual,
    ];
    for profile in profiles {
        let mechanism = learned(&profile, Element::F32);
        let on_device = DeviceMechanism::upload(&bed.device, mechanism.clone())
            .and_then(|on_device| on_device.with_hooks(&hooks))
            .unwrap();
        let on_device = Arc::new(on_device);
        for sampling in [
            Sampling::greedy(),
            Sampling::default().temperature(0.9).top_k(7).seed(5),
        ] {
            let begin = |hooks: &Hooks| {
                let (start, hook_runner) = (Start::Profile, HookRunner::new(hooks, 0));
                let mechanism = mechanism.clone();
                GraphSession::begin_with_hooks(
                    mechanism,
                    &[3, 5],
                    &start,
                    sampling.clone(),
                    hook_runner,
                )
                .unwrap()
            };
            let (mut plain, mut ahead, mut bare) =
                (begin(&hooks), begin(&hooks), begin(&Hooks::default()));
            ahead.use_device(on_device.clone(), 10, true).unwrap();
            // A session without the hooks is not affected.
            bare.use_device(on_device.clone(), 10, true).unwrap();
            let mut parted = false;
            for _ in 0..30 {
                let expected = plain.step().unwrap();
                assert_eq!(ahead.step().unwrap(), expected);
                parted |= bare.step().unwrap() != expected;
            }
            assert_eq!(plain.state(), ahead.state());
            assert!(parted, "the hooks have no effect");
        }
        // Several sequences in one submission.
        let mut decoder =
            Decoder::new(on_device.clone(), 3, 20, Sampling::greedy(), &[], 4).unwrap();
        for (sequence, node) in [3, 9, 3].into_iter().enumerate() {
            let flow = mechanism.begin(node, &Start::Profile).unwrap();
            decoder.set(sequence, &flow, &Random::new(0), &[]).unwrap();
        }
        let found = decoder.decode(20).unwrap();
        for (sequence, node) in [3, 9, 3].into_iter().enumerate() {
            let hook_runner = HookRunner::new(&hooks, 0);
            let sampling = Sampling::greedy();
            let mut session = GraphSession::begin_with_hooks(
                mechanism.clone(),
                &[node],
                &Start::Profile,
                sampling,
                hook_runner,
            )
            .unwrap();
            let path: Vec<u32> = (0..20).map(|_| session.step().unwrap().unwrap()).collect();
            assert_eq!(found[sequence], path, "sequence {sequence}");
        }
        let (prompt, start, options) = ([3, 5], Start::Profile, BeamOptions::new(3, 5));
        let expected = beam(&mechanism, &prompt, &start, &options, &hooks).unwrap();
        let found = beam_on(&on_device, &prompt, &start, &options).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.nodes, expected.nodes);
            assert!((found.resistance - expected.resistance).abs() < 1e-4);
        }
        let windows = Windows::new(9, 8);
        let expected = evaluate_windows(&mechanism, &text(), &windows, &hooks).unwrap();
        let found = evaluate_windows_on(&on_device, &text(), &windows).unwrap();
        assert!(
            (found.nats_per_token - expected.nats_per_token).abs() < 1e-5 * expected.nats_per_token
        );
    }
}

fn a_shader_that_differs_from_its_function_is_refused(bed: &Bed) {
    let mechanism = learned(&Profile::sifu(8), Element::F32);
    let refused = |hooks: &Hooks| {
        DeviceMechanism::upload(&bed.device, mechanism.clone())
            .and_then(|on_device| on_device.with_hooks(hooks))
            .map(drop)
            .unwrap_err()
    };
    // A correct one, and one that differs at a single node.
    let error = refused(&hooks(vec![
        (Arc::new(Twist), shader(TWIST)),
        (
            Arc::new(Shift),
            shader("if v % 2u == 0u { resistance[v] += select(0.75, 0.76, v == 8u); }"),
        ),
    ]));
    assert_eq!(error.kind(), ErrorKind::Plugin);
    let errors = error.to_string();
    assert!(
        errors.contains("to 8") && errors.contains("number 2"),
        "{errors}"
    );
    // No shader at all.
    let mut bare = Hooks::default();
    bare.edge.push(Arc::new(Shift));
    assert_eq!(refused(&bare).kind(), ErrorKind::Unsupported);
    // NaN ends the run: at step 5, which the comparison does not reach.
    let hooks = hooks(vec![(
        Arc::new(Shift),
        shader(
            "if v % 2u == 0u { resistance[v] += 0.75; }
             if place.y == 5u { resistance[v] = bitcast<f32>(0x7fc00000u + place.x); }",
        ),
    )]);
    let on_device = DeviceMechanism::upload(&bed.device, mechanism.clone())
        .and_then(|on_device| on_device.with_hooks(&hooks))
        .unwrap();
    let mut session = GraphSession::begin_with_hooks(
        mechanism.clone(),
        &[3],
        &Start::Profile,
        Sampling::greedy(),
        HookRunner::new(&hooks, 0),
    )
    .unwrap();
    session.use_device(Arc::new(on_device), 8, true).unwrap();
    let error = session.step().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Plugin, "{error}");
}

/// Built once: the test plugins.
static FOLDER: LazyLock<std::path::PathBuf> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gpu-plugins");
    brillm::plugin::build(&root.join("tests/plugins"), &folder, false).unwrap();
    folder
});

/// A plugin library with a shader, from the command line: the same text on the adapter and on the CPU.
fn a_plugin_with_a_shader_runs_on_the_adapter(bed: &Bed) {
    let index = index_of(bed);
    let generate = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_brillm"))
            .args([
                "generate",
                "Once upon a time",
                "--tokens",
                "16",
                "--seed",
                "3",
                "--temperature",
                "0.7",
                "--json",
                "--plugin-path",
            ])
            .arg(&*FOLDER)
            .args(more)
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), output.stdout, errors)
    };
    let report = |more: &[&str]| -> Value {
        let (code, out, errors) = generate(more);
        assert_eq!(code, Some(0), "{errors}");
        serde_json::from_slice(&out).unwrap()
    };
    let half = ["--plugin", "half"];
    let expected = report(&[&half[..], &["--backend", "cpu"]].concat());
    let found = report(&[&half[..], &["--adapter", &index]].concat());
    assert_eq!(found["ids"], expected["ids"]);
    assert_eq!(found["adapter"], bed.device.report().to_string());
    assert_ne!(report(&["--adapter", &index])["ids"], expected["ids"]);
    // A plugin without a shader runs on the CPU only; with a named adapter it is an error.
    let (code, _, errors) = generate(&["--plugin", "steer:to=5", "--adapter", &index]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("without shaders"), "{errors}");
}
