//! What a plugin without opinions costs a step: alternating rounds in one run, then criterion's own figures.
//!
//! `cargo bench --bench plugin` prints the median ratio of time with the plugin to time without, over pairs of
//! rounds that follow each other, with a 95 % interval of the median; the goal is 1.01 at most.

use std::path::Path;
use std::time::{Duration, Instant};

use brillm::Model;
use brillm::hook::Hooks;
use brillm::path::{GraphSession, HookRunner, Sampling, Session};
use brillm::plugin::{Finder, Plugins, Selection, build};
use brillm::signal::Start;
use criterion::Criterion;

/// Steps of a round: each round walks the same path.
const STEPS: u64 = 400;
const PAIRS: usize = 60;

fn round(model: &Model, hooks: &Hooks) -> Duration {
    let sampling = Sampling::default().temperature(0.8).seed(3);
    let mechanism = model.mechanism().clone();
    let hook_runner = HookRunner::new(hooks, 0);
    let mut session =
        GraphSession::begin_with_hooks(mechanism, &[3], &Start::Profile, sampling, hook_runner)
            .expect("the model takes a prompt");
    let begun = Instant::now();
    for _ in 0..STEPS {
        let _ = std::hint::black_box(session.step().expect("a step"));
    }
    begun.elapsed()
}

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("target/bench-plugins");
    build(&root.join("tests/plugins"), &folder, true).expect("the test plugins build");
    let finder = Finder::standard([folder]);
    let model = Model::open(&root.join("models/english.bril"), Default::default())
        .expect("the English model opens");
    let of = |name: &str| {
        Plugins::load(&[Selection::named(name)], &finder)
            .expect("the plugin loads")
            .hooks()
            .clone()
    };
    let none = Hooks::default();
    for name in ["quiet", "decline"] {
        let hooks = of(name);
        let mut ratios: Vec<f64> = (0..PAIRS)
            .map(|pair| {
                // Which goes first changes from pair to pair, so that a drift cancels out.
                let (with, without) = if pair % 2 == 0 {
                    let with = round(&model, &hooks);
                    (with, round(&model, &none))
                } else {
                    let without = round(&model, &none);
                    (round(&model, &hooks), without)
                };
                with.as_secs_f64() / without.as_secs_f64()
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        // The binomial interval of a median: n/2 ± 0.98 √n.
        let half = (0.98 * (PAIRS as f64).sqrt()) as usize;
        println!(
            "{name}: time with / without, median of {PAIRS} pairs of {STEPS} steps: {:.4} (95 %: {:.4} to {:.4})",
            ratios[PAIRS / 2],
            ratios[PAIRS / 2 - half],
            ratios[PAIRS / 2 + half]
        );
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("400 steps");
    for (name, hooks) in [
        ("none", none.clone()),
        ("quiet", of("quiet")),
        ("decline", of("decline")),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| round(&model, &hooks)));
    }
    group.finish();
    criterion.final_summary();
}
