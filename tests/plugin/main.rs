//! Plugins, end to end: what is built, found, asked, refused, and what becomes of those that misbehave.
#![cfg(all(feature = "plugin", feature = "cli"))]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use brillm::ErrorKind;
use brillm::hook::{
    Answer, Call, CodecAxis, CodecQuestion, CodecSide, Distance, Fan, HeadReduction, Hooks,
    KeepQuestion, KvShape, MaskMoment, MaskOutcome, MaskTokens, Phase, Planned, Trial,
};
use brillm::kernel::random::Random;
use brillm::measure::Windows;
use brillm::path::{BeamOptions, GraphSession, HookRunner, Sampling, Session, beam};
use brillm::plugin::{Finder, Loader, Manifest, OnError, Plugins, Selection, build};
use brillm::run::{evaluate_windows, grow};
use brillm::signal::{Mechanism, Profile, Start};
use brillm::text::Tokenizer;
use serde_json::{Value, json};

#[path = "../support/mod.rs"]
mod support;
use support::{build_plugins, kept_folder, root, save_small_model, small_mechanism, with_plugins};

mod commands;
mod hooks;
mod loading;

const NODES: usize = 12;

/// The test plugins and `recent`, built once.
static FOLDER: LazyLock<String> =
    LazyLock::new(|| build_plugins("plugins", &["tests/plugins", "recent"]));

fn finder() -> Finder {
    Finder::standard([PathBuf::from(&*FOLDER)])
}

fn load(named: &[&str]) -> Plugins {
    let selections: Vec<Selection> = named.iter().map(|name| name.parse().unwrap()).collect();
    Plugins::load(&selections, &finder()).unwrap()
}

fn mechanism() -> Arc<Mechanism> {
    Arc::new(small_mechanism(&Profile::sifu(8), u32::MAX))
}

fn session(
    mechanism: &Arc<Mechanism>,
    sampling: Sampling,
    hooks: &Hooks,
) -> brillm::Result<GraphSession> {
    let hook_runner = HookRunner::new(hooks, 0);
    GraphSession::begin_with_hooks(
        mechanism.clone(),
        &[3, 4],
        &Start::Profile,
        sampling,
        hook_runner,
    )
}

fn walk(mechanism: &Arc<Mechanism>, sampling: Sampling, hooks: &Hooks) -> brillm::Result<Vec<u32>> {
    let mut session = session(mechanism, sampling, hooks)?;
    (0..20).map(|_| Ok(session.step()?.unwrap())).collect()
}

fn brillm(arguments: &[&str]) -> Output {
    support::run(&with_plugins(arguments, &FOLDER, &[]))
}

fn report(arguments: &[&str]) -> Value {
    support::json(&with_plugins(arguments, &FOLDER, &[]))
}

fn fault(number: u32, folder: &Path) -> PathBuf {
    compile("faults.c", &format!("fault{number}"), number, folder)
}

/// Compiles a file of `tests/plugins/c` into a library.
fn compile(source: &str, name: &str, fault: u32, folder: &Path) -> PathBuf {
    let library = folder.join(format!("lib{name}{}", std::env::consts::DLL_SUFFIX));
    let output = Command::new("cc")
        .args([
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-pedantic",
            "-Werror",
            "-fPIC",
            "-shared",
            "-I",
        ])
        .arg(root().join("plugins"))
        .arg(format!("-DFAULT={fault}"))
        .arg("-o")
        .arg(&library)
        .arg(root().join("tests/plugins/c").join(source))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    library
}
