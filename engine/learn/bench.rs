//! Criterion benches of a training step, for each edge form: `cargo bench --bench learn`.
//!
//! `brillm bench` reports tokens per CPU-second on a graph of the paper's size; this one is smaller.

use brillm::graph::GraphBuilder;
use brillm::kernel::random::Random;
use brillm::learn::batch::{BatchSampler, Order};
use brillm::learn::edge_trainer::EdgeTrainer;
use brillm::learn::prior::Prior;
use brillm::learn::recipe::Train;
use brillm::signal::Profile;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const NODES: usize = 1000;

fn step(criterion: &mut Criterion) {
    let mut random = Random::new(3);
    // Squared uniform numbers: few tokens are frequent, many rare.
    let text: Vec<u32> = (0..60_000)
        .map(|_| (random.uniform().powi(2) * NODES as f64) as u32)
        .collect();
    let mut builder = GraphBuilder::new(NODES);
    builder.walk(text.iter().copied()).expect("ids below NODES");
    let graph = builder.build().expect("a graph");
    let train = Train {
        batch: 32,
        steps: 30,
        ..Train::default()
    };
    let mut group = criterion.benchmark_group("training step");
    group.sample_size(10);
    group.throughput(Throughput::Elements((train.batch * train.steps) as u64));
    for profile in [
        Profile::layered(64),
        Profile::sifu(64),
        Profile::sifu_own(32),
        Profile::reference(32),
    ] {
        let sampler = BatchSampler::new(1, text.len(), train.steps, train.batch, train.block, 0);
        let prior = Prior::new(&graph, &[]);
        let mut edge_trainer = EdgeTrainer::new(&profile, &graph, train.dropout, 1);
        let (mut order, mut taken) = (Order::default(), 0);
        let name = format!(
            "{} {:?} width {}",
            profile.name, profile.form, profile.width
        );
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                let batch = sampler.batch(&text, taken, &mut order);
                taken += 1;
                edge_trainer
                    .learn(&graph, &prior, &batch, &train, taken)
                    .expect("a step")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, step);
criterion_main!(benches);
