//! Criterion benches of decoding: one fan of 4000 own edges from f32, f16 and int8, and one hop along an edge.
//!
//! `cargo bench --bench decode`, to compare two states of the code. Reported figures come from `brillm bench`, which
//! compares them with the bandwidth of memory.

use std::hint::black_box;

use brillm::graph::TokenGraph;
use brillm::kernel::element::Element;
use brillm::kernel::random::Random;
use brillm::kernel::table::Table;
use brillm::signal::{Mechanism, Profile, Start, Weights};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const WIDTH: usize = 32;
const COLUMNS: usize = WIDTH * WIDTH + WIDTH;
const EDGES: usize = 4000;
/// Fans of edge weights: enough to exceed every cache.
const FANS: usize = 16;

fn decode(criterion: &mut Criterion) {
    let mut random = Random::new(1);
    let edge_weights: Vec<f32> = (0..FANS * EDGES * COLUMNS)
        .map(|_| random.uniform() as f32 - 0.5)
        .collect();
    let signal: Vec<f32> = (0..WIDTH).map(|_| random.normal() as f32).collect();
    let base = vec![0.0; WIDTH];
    let mut energies = vec![0.0; EDGES];
    let edge_weights = Table::of(&edge_weights, FANS * EDGES, COLUMNS);
    let mut group = criterion.benchmark_group("fan energies");
    for element in [Element::F32, Element::F16, Element::I8] {
        let table = edge_weights.converted(element).expect("finite numbers");
        group.throughput(Throughput::Bytes((EDGES * COLUMNS * element.size()) as u64));
        let mut fan = 0;
        group.bench_function(BenchmarkId::from_parameter(element.name()), |bencher| {
            bencher.iter(|| {
                fan = (fan + 1) % FANS;
                table.energies(fan * EDGES, &signal, &base, false, &mut energies);
                black_box(&energies);
            });
        });
    }
    group.finish();
}

fn hop(criterion: &mut Criterion) {
    let nodes = 400;
    let edges: Vec<(u32, u32, u32)> = (0..nodes as u32)
        .flat_map(|source| (1..20).map(move |step| (source, (source + step) % nodes as u32, step)))
        .collect();
    let graph = TokenGraph::from_edges(nodes, &edges).expect("a graph");
    let mut group = criterion.benchmark_group("hop");
    for profile in [
        Profile::sifu(128),
        Profile::sifu_own(WIDTH),
        Profile {
            position_limit: false,
            ..Profile::reference(WIDTH)
        },
    ] {
        let mut random = Random::new(2);
        let weights = Weights::gather(&profile, nodes, graph.own_edges(), |block| {
            let values: Vec<f32> = (0..block.rows * block.columns)
                .map(|_| 0.2 * random.normal() as f32)
                .collect();
            Ok(Some(Table::of(&values, block.rows, block.columns)))
        })
        .expect("weights");
        let mechanism =
            Mechanism::new(profile.clone(), graph.clone(), weights).expect("a mechanism");
        let mut flow = mechanism.begin(0, &Start::Profile).expect("a flow");
        let name = format!(
            "{} {:?} width {}",
            profile.name, profile.form, profile.width
        );
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                let next = (flow.node + 7) % nodes as u32;
                mechanism.hop(&mut flow, next).expect("a hop");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, hop);
criterion_main!(benches);
