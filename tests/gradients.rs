//! Central differences in f64 over every parameter of a five-node graph, for every edge form and blend.

use brillm::graph::TokenGraph;
use brillm::kernel::random::Random;
use brillm::learn::batch::Batch;
use brillm::learn::composed::Composed;
use brillm::learn::prior::Prior;
use brillm::signal::{BlendKind, Profile};

fn five_nodes() -> TokenGraph {
    let mut graph = TokenGraph::from_edges(
        5,
        &[
            (0, 1, 5),
            (0, 2, 2),
            (1, 2, 4),
            (2, 0, 1),
            (2, 2, 2),
            (3, 4, 3),
            (4, 0, 1),
            (1, 4, 1),
        ],
    )
    .unwrap();
    graph.set_own_minimum(2);
    graph
}

fn batch() -> Batch {
    Batch {
        tokens: vec![0, 1, 2, 2, 0, 2, 3, 4, 0, 1, 4, 2, 2, 2, 3, 1, 1, 2],
        steps: 5,
        folds: vec![0, 1, 2],
        index: 3,
    }
}

fn check(name: &str, profile: &Profile, dropout: f64) {
    let graph = five_nodes();
    let held: Vec<Vec<u32>> = vec![vec![1, 0, 1, 0, 1, 1, 0, 0], vec![0, 1, 1, 1, 0, 0, 0, 1]];
    let prior = Prior::new(&graph, &held);
    let batch = batch();
    let mut learner = Composed::<f64>::new(profile, &graph, 7);
    learner.dropout = dropout;
    // Leave the symmetric start behind, so that every path of the gradient carries something.
    let mut random = Random::new(11);
    for parameter in learner.parameters() {
        for value in &mut parameter.value {
            *value += 0.3 * random.normal();
        }
    }
    let loss = learner.gradients(&graph, &prior, &batch).mean();
    assert!(loss.is_finite());
    let gradients: Vec<Vec<f64>> = learner
        .parameters()
        .iter()
        .map(|p| p.gradient.clone())
        .collect();
    let mut largest = 0.0f64;
    for (index, gradient) in gradients.iter().enumerate() {
        let label = learner.parameters()[index].name;
        let used = gradient.iter().any(|g| *g != 0.0);
        assert!(
            used || gradient.is_empty(),
            "{name}: {label} has no gradient"
        );
        for (place, &expected) in gradient.iter().enumerate() {
            let step = 1e-4;
            let mut at = |offset: f64| {
                learner.parameters()[index].value[place] += offset;
                let loss = learner.gradients(&graph, &prior, &batch).mean();
                learner.parameters()[index].value[place] -= offset;
                loss
            };
            let difference =
                (8.0 * (at(step) - at(-step)) - (at(2.0 * step) - at(-2.0 * step))) / (12.0 * step);
            let error = (difference - expected).abs() / (1e-3 + expected.abs());
            largest = largest.max(error);
            assert!(
                error < 1e-6,
                "{name}: {label}[{place}]: by formula {expected}, by differences {difference}"
            );
        }
    }
    println!("{name}: largest relative error {largest:.1e}");
}

#[test]
fn composed_edges() {
    for blend in [BlendKind::Position, BlendKind::Decay, BlendKind::Gated] {
        for (rank, residual) in [(0, None), (2, None), (0, Some(0)), (2, Some(2))] {
            let mut profile = Profile::sifu(4);
            profile.blend = blend;
            profile.banks = if blend == BlendKind::Position { 1 } else { 2 };
            profile.positions = 4;
            profile.rank = rank;
            profile.residual = residual;
            check(
                &format!("{blend:?} rank {rank} residual {residual:?}"),
                &profile,
                0.0,
            );
        }
    }
    check("dropout", &Profile::sifu(4), 0.25);
}
