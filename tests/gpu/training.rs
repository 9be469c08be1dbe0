//! Training on a device and on the CPU: the same losses, step by step.

use std::collections::BTreeSet;

use brillm::graph::{PathGraph, PathSettings, TokenGraph};
use brillm::kernel::gpu::{DeviceOptions, KernelShape};
use brillm::kernel::random::Random;
use brillm::learn::adamw::AdamMode;
use brillm::learn::batch::{Batch, BatchSampler, Candidates, Order};
use brillm::learn::device::DeviceTrainer;
use brillm::learn::dropout::Rates;
use brillm::learn::edge_trainer::EdgeTrainer;
use brillm::learn::prior::Prior;
use brillm::learn::recipe::Train;
use brillm::signal::{EdgeForm, Profile};

use crate::decoding::{graph, layered_profiles, profiles, text};
use crate::{Bed, Test};

pub const TESTS: &[Test] = &[
    (
        "losses_of_100_steps_match_the_cpu",
        losses_of_100_steps_match_the_cpu,
    ),
    (
        "every_form_and_blend_trains_as_on_the_cpu",
        every_form_and_blend_trains_as_on_the_cpu,
    ),
    (
        "layered_edges_continue_across_batches_as_on_the_cpu",
        layered_edges_continue_across_batches_as_on_the_cpu,
    ),
    (
        "averages_of_own_edges_are_refused",
        averages_of_own_edges_are_refused,
    ),
    (
        "candidates_dense_steps_and_small_buffers_train_as_on_the_cpu",
        candidates_dense_steps_and_small_buffers_train_as_on_the_cpu,
    ),
    (
        "a_batch_in_parts_trains_as_a_whole_one",
        a_batch_in_parts_trains_as_a_whole_one,
    ),
    (
        "kernels_for_gpus_train_as_on_the_cpu",
        kernels_for_gpus_train_as_on_the_cpu,
    ),
    (
        "walks_longer_than_an_edge_train_as_on_the_cpu",
        walks_longer_than_an_edge_train_as_on_the_cpu,
    ),
];

struct Run {
    graph: TokenGraph,
    prior: Prior<f32>,
    sampler: BatchSampler,
    train: Train,
    candidates: bool,
}

impl Run {
    fn new(train: Train) -> Self {
        let graph = graph();
        let folds = if train.folds > 0 { train.folds } else { 0 };
        let mut sampler = BatchSampler::new(7, 400, train.steps, train.batch, 60, folds);
        if train.carry {
            sampler = sampler.streams(train.reset);
        }
        let prior = Prior::new(&graph, &sampler.held_out(&graph, &text()));
        Self {
            graph,
            prior,
            sampler,
            train,
            candidates: false,
        }
    }

    fn batch(&self, step: u64) -> Batch {
        let text = text();
        let mut batch = self.sampler.batch(&text, step, &mut Order::default());
        if self.candidates {
            let mut random = Random::stream(3, 5, step);
            let mut targets = Vec::new();
            for sequence in 0..batch.sequences() {
                for step in 0..batch.steps {
                    let next = batch.sequence(sequence)[step + 1];
                    targets.push(next);
                    targets.extend(
                        (0..4)
                            .map(|_| random.below(12) as u32)
                            .map(|node| if node == next { (node + 1) % 12 } else { node }),
                    );
                }
            }
            batch.candidates = Some(Candidates { targets, count: 5 });
        }
        batch
    }

    /// The loss on a tenth of the steps' batches, without dropout.
    fn probe(&self, learner: &mut EdgeTrainer) -> f64 {
        let mut losses = (0..10).map(|step| {
            learner
                .loss(&self.graph, &self.prior, &self.batch(10 * step))
                .unwrap()
                .mean()
        });
        losses.by_ref().sum::<f64>() / 10.0
    }

    /// Train on both; returns the largest relative difference of a loss.
    fn compare(
        &self,
        bed: &Bed,
        options: DeviceOptions,
        name: &str,
        profile: &Profile,
        steps: u64,
    ) -> f64 {
        let device = if options.binding_bytes.is_some() || options.shape.is_some() {
            bed.with(options)
        } else {
            bed.device.clone()
        };
        let rates = Rates {
            output: self.train.dropout,
            memory: self.train.dropout_memory,
            input: self.train.dropout_input,
            node: self.train.dropout_node,
        };
        let mut learner = EdgeTrainer::new(profile, &self.graph, rates, 3);
        let mut mirror = EdgeTrainer::new(profile, &self.graph, rates, 3);
        // Away from the symmetric start, where whole blocks have no gradient yet.
        for learner in [&mut learner, &mut mirror] {
            let mut random = Random::new(8);
            for parameter in learner.parameters() {
                for value in &mut parameter.value {
                    *value += 0.05 * random.normal() as f32;
                }
            }
        }
        let before = self.probe(&mut learner);
        let (graph, prior, train) = (&self.graph, &self.prior, &self.train);
        let mut on_device =
            DeviceTrainer::new(&device, profile, graph, prior, &mut mirror, train, 3).unwrap();
        let mut worst = 0.0f64;
        for step in 0..steps {
            let batch = self.batch(step);
            let (expected, norm) = learner
                .learn(graph, prior, &batch, train, step + 1)
                .unwrap();
            let (found, device_norm) = on_device.learn(graph, &batch, train, step + 1).unwrap();
            assert_eq!(found.tokens, expected.tokens);
            let error = (found.nats - expected.nats).abs() / expected.nats;
            worst = worst.max(error);
            assert!(
                error < 1e-4,
                "{name}, step {step}: {} instead of {}",
                found.mean(),
                expected.mean()
            );
            assert_eq!(norm.is_some(), device_norm.is_some(), "{name}");
            if let (Some(a), Some(b)) = (device_norm, norm) {
                assert!(
                    (a - b).abs() < 2e-3 * b,
                    "{name}, step {step}: norm {a} instead of {b}"
                );
            }
        }
        if steps >= 100 {
            let after = self.probe(&mut learner);
            assert!(
                after < 0.99 * before,
                "{name} does not learn: {before} {after}"
            );
        }
        // The parameters read back, or their averages, give the same losses.
        on_device.download(&mut mirror).unwrap();
        let batch = self.batch(steps);
        learner.swap_averages();
        mirror.swap_averages();
        let expected = learner.loss(graph, prior, &batch).unwrap().nats;
        for found in [
            mirror.loss(graph, prior, &batch).unwrap().nats,
            on_device.loss(graph, &batch).unwrap().nats,
        ] {
            assert!(
                (found - expected).abs() < 1e-4 * expected,
                "{name}: {found} instead of {expected}"
            );
        }
        learner.swap_averages();
        mirror.swap_averages();
        // What was read back is the whole state: another device continues from it.
        let mut other =
            DeviceTrainer::new(&device, profile, graph, prior, &mut mirror, train, 3).unwrap();
        let (expected, _) = learner
            .learn(graph, prior, &batch, train, steps + 1)
            .unwrap();
        let (found, _) = other.learn(graph, &batch, train, steps + 1).unwrap();
        let error = (found.nats - expected.nats).abs() / expected.nats;
        assert!(error < 1e-4, "{name}: {found:?} instead of {expected:?}");
        worst.max(error)
    }
}

fn train() -> Train {
    Train {
        batch: 18,
        steps: 6,
        rate: 4e-3,
        warmup: 5,
        dropout: 0.2,
        folds: 3,
        ..Train::default()
    }
}

/// For adapters that do not train every form for 100 steps.
fn losses_of_100_steps_match_the_cpu(bed: &Bed) {
    for (name, profile) in profiles() {
        // The paper's mechanism, and the shipped one.
        if ["reference", "composed Gated rank 0 residual None"].contains(&name.as_str()) {
            let worst =
                Run::new(train()).compare(bed, DeviceOptions::default(), &name, &profile, 100);
            println!("  {name}: largest relative difference of a loss {worst:.1e}");
        }
    }
}

fn every_form_and_blend_trains_as_on_the_cpu(bed: &Bed) {
    let steps = if bed.is_thorough() { 100 } else { 6 };
    let mut worst = 0.0f64;
    for (name, profile) in profiles().into_iter().chain(layered_profiles()) {
        let found =
            Run::new(train()).compare(bed, DeviceOptions::default(), &name, &profile, steps);
        worst = worst.max(found);
    }
    println!("  largest relative difference of a loss {worst:.1e}");
}

/// Streams with resets, all kinds of dropout and averages; more sequences than a shard, and than the text has streams.
fn layered_edges_continue_across_batches_as_on_the_cpu(bed: &Bed) {
    let mut worst = 0.0f64;
    for (name, profile) in layered_profiles() {
        for batch in [5, 17, 90] {
            let run = Run::new(Train {
                batch,
                carry: true,
                reset: 0.2,
                average: 0.9,
                dropout_memory: 0.1,
                dropout_input: 0.1,
                dropout_node: 0.1,
                ..train()
            });
            let continues = (0..5).any(|step| run.batch(step).continues(0));
            assert_eq!(continues, batch < 90, "{batch} sequences");
            let steps = if bed.is_thorough() { 50 } else { 6 };
            let name = format!("{name}, {batch} sequences");
            let found = run.compare(bed, DeviceOptions::default(), &name, &profile, steps);
            assert!(found < 1e-6, "{name}: {found:.1e}");
            worst = worst.max(found);
        }
    }
    println!("  largest relative difference of a loss {worst:.1e}");
}

fn averages_of_own_edges_are_refused(bed: &Bed) {
    let run = Run::new(Train {
        average: 0.9,
        ..train()
    });
    let own = Profile::sifu_own(8);
    let mut learner = EdgeTrainer::new(&own, &run.graph, 0.0, 3);
    let (graph, prior) = (&run.graph, &run.prior);
    let refused = DeviceTrainer::new(&bed.device, &own, graph, prior, &mut learner, &run.train, 3);
    assert_eq!(refused.unwrap_err().kind(), brillm::ErrorKind::Unsupported);
    let composed = Profile::sifu(8);
    run.compare(bed, DeviceOptions::default(), "averages", &composed, 6);
}

/// A workspace that holds a part of the batch: the losses and, after six steps, the weights of the whole batch, with
/// dropout, clipping, averages and state that continues.
fn a_batch_in_parts_trains_as_a_whole_one(bed: &Bed) {
    let composed = Profile {
        rank: 3,
        residual: Some(2),
        ..Profile::sifu(8)
    };
    let position = Profile {
        blend: brillm::signal::BlendKind::Position,
        banks: 1,
        ..Profile::sifu(8)
    };
    let layered = layered_profiles().pop().unwrap().1;
    let of_edges = [
        (composed, false),
        (position, false),
        (layered, true),
        (Profile::sifu_own(8), false),
        (Profile::reference(8), false),
    ];
    for (profile, carry) in of_edges {
        let own = profile.form == EdgeForm::Own;
        let run = Run::new(Train {
            batch: 50,
            carry,
            clip: 0.5,
            average: if own { 0.0 } else { 0.9 },
            dropout_memory: 0.1,
            dropout_input: 0.1,
            dropout_node: 0.1,
            ..train()
        });
        let learn = |device: &brillm::kernel::gpu::Device| {
            let rates = Rates {
                output: 0.2,
                memory: 0.1,
                input: 0.1,
                node: 0.1,
            };
            let mut learner = EdgeTrainer::new(&profile, &run.graph, rates, 3);
            let (graph, prior, train) = (&run.graph, &run.prior, &run.train);
            let mut on_device =
                DeviceTrainer::new(device, &profile, graph, prior, &mut learner, train, 3).unwrap();
            let mut losses = Vec::new();
            for step in 0..6 {
                let (loss, norm) = on_device
                    .learn(graph, &run.batch(step), train, step + 1)
                    .unwrap();
                losses.push((loss.nats, loss.tokens, norm.unwrap()));
            }
            losses.push({
                let loss = on_device.loss(graph, &run.batch(6)).unwrap();
                (loss.nats, loss.tokens, 0.0)
            });
            on_device.download(&mut learner).unwrap();
            let weights: Vec<f32> = learner
                .parameters()
                .iter()
                .flat_map(|parameter| parameter.value.clone())
                .collect();
            (losses, weights, on_device.parts())
        };
        let (expected, whole, parts) = learn(&bed.device);
        assert_eq!(parts, 1, "the whole batch fits");
        // So few that one shard is all that is trained together, and one node all whose own edges are scored together.
        let small = bed.with(DeviceOptions {
            workspace_bytes: Some(1 << 10),
            ..DeviceOptions::default()
        });
        let (found, weights, parts) = learn(&small);
        let nodes = run
            .batch(6)
            .tokens
            .iter()
            .copied()
            .collect::<BTreeSet<u32>>();
        let most = if own { nodes.len() } else { 4 };
        assert!(
            parts > 1 && parts <= most,
            "{}: {parts} parts",
            profile.name
        );
        for (step, (a, b)) in found.iter().zip(&expected).enumerate() {
            let what = format!("{} step {step}: {a:?} instead of {b:?}", profile.name);
            assert_eq!(a.1, b.1, "{what}");
            assert!((a.0 - b.0).abs() < 1e-5 * b.0, "{what}");
            assert!((a.2 - b.2).abs() <= 1e-3 * b.2, "{what}");
        }
        let pairs = weights.iter().zip(&whole);
        let worst = pairs.fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(worst < 1e-4, "{}: weights differ by {worst}", profile.name);
        println!("  {}: weights within {worst:.1e}", profile.name);
    }
}

/// What software adapters do not use by themselves: rows of logits in workgroup memory, and products in pieces, which so many
/// rows have.
fn kernels_for_gpus_train_as_on_the_cpu(bed: &Bed) {
    let run = Run::new(Train {
        batch: 100,
        ..train()
    });
    let everything = Profile {
        rank: 3,
        residual: Some(2),
        ..Profile::sifu(6)
    };
    let layered = layered_profiles().pop().unwrap().1;
    for profile in [everything, layered, Profile::sifu_own(8)] {
        let options = DeviceOptions {
            shape: Some(KernelShape::Lanes),
            ..DeviceOptions::default()
        };
        let worst = run.compare(bed, options, &profile.name, &profile, 6);
        println!(
            "  {}: largest relative difference of a loss {worst:.1e}",
            profile.name
        );
    }
}

fn walks_longer_than_an_edge_train_as_on_the_cpu(bed: &Bed) {
    let mut run = Run::new(train());
    let settings = PathSettings::whole(5);
    let paths = PathGraph::estimate(&run.graph, &text(), &settings).unwrap();
    let others = |fold| run.sampler.others(&text(), fold);
    run.prior = Prior::with_paths(&run.graph, &paths, &settings, 3, &others).unwrap();
    let of_residual = |residual| Profile {
        residual,
        ..Profile::sifu(8)
    };
    for profile in [of_residual(None), of_residual(Some(2)), Profile::layered(8)] {
        let name = format!("order 5, {} residual {:?}", profile.name, profile.residual);
        let worst = run.compare(bed, DeviceOptions::default(), &name, &profile, 20);
        println!("  {name}: largest relative difference of a loss {worst:.1e}");
    }
    let own = Profile::sifu_own(8);
    let mut learner = EdgeTrainer::new(&own, &run.graph, 0.0, 3);
    let (graph, prior) = (&run.graph, &run.prior);
    let refused = DeviceTrainer::new(&bed.device, &own, graph, prior, &mut learner, &run.train, 3);
    assert_eq!(refused.unwrap_err().kind(), brillm::ErrorKind::Unsupported);
}

fn candidates_dense_steps_and_small_buffers_train_as_on_the_cpu(bed: &Bed) {
    let mut run = Run::new(Train {
        clip: 0.0,
        optimiser: AdamMode::Dense,
        edge_rate: 0.5,
        ..train()
    });
    for width in [8, 6] {
        let reference = Profile::reference(width);
        run.compare(bed, DeviceOptions::default(), "dense", &reference, 12);
        run.candidates = true;
        run.compare(
            bed,
            DeviceOptions::default(),
            "dense candidates",
            &reference,
            12,
        );
        run.candidates = false;
    }
    run.train.optimiser = AdamMode::Touched;
    run.candidates = true;
    let own = Profile::sifu_own(6);
    run.compare(
        bed,
        DeviceOptions::default(),
        "candidates with resistance and bias",
        &own,
        12,
    );
    run.candidates = false;
    // Buffers of a few fans each.
    let small = DeviceOptions {
        binding_bytes: Some(14 * 9 * 8 * 4),
        ..DeviceOptions::default()
    };
    run.compare(bed, small, "small buffers", &Profile::sifu_own(8), 12);
    // Widths that need padding, composed, with everything.
    let everything = Profile {
        rank: 3,
        residual: Some(2),
        ..Profile::sifu(6)
    };
    run.compare(bed, DeviceOptions::default(), "padded", &everything, 12);
}
