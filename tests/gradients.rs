//! Central differences in f64 over every parameter of a five-node graph, for every edge form and blend.

use brillm::graph::{NodeId, PathGraph, PathSettings, TokenGraph};
use brillm::kernel::random::Random;
use brillm::learn::batch::{Batch, Candidates};
use brillm::learn::composed::Composed;
use brillm::learn::dropout::Rates;
use brillm::learn::layered::Layered;
use brillm::learn::own::Own;
use brillm::learn::parameter::Parameter;
use brillm::learn::prior::Prior;
use brillm::signal::{BlendKind, EnergyKind, Profile};

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
        before: 0,
        continued: Vec::new(),
        candidates: None,
        index: 3,
    }
}

/// What all learners offer.
trait EdgeTrainer {
    fn parameters(&mut self) -> Vec<&mut Parameter<f64>>;
    fn gradients(&mut self, graph: &TokenGraph, prior: &Prior<f64>, batch: &Batch) -> f64;
}

impl EdgeTrainer for Composed<f64> {
    fn parameters(&mut self) -> Vec<&mut Parameter<f64>> {
        self.parameters()
    }
    fn gradients(&mut self, graph: &TokenGraph, prior: &Prior<f64>, batch: &Batch) -> f64 {
        self.gradients(graph, prior, batch).mean()
    }
}

impl EdgeTrainer for Own<f64> {
    fn parameters(&mut self) -> Vec<&mut Parameter<f64>> {
        self.parameters()
    }
    fn gradients(&mut self, graph: &TokenGraph, prior: &Prior<f64>, batch: &Batch) -> f64 {
        self.gradients(graph, prior, batch).mean()
    }
}

impl EdgeTrainer for Layered<f64> {
    fn parameters(&mut self) -> Vec<&mut Parameter<f64>> {
        self.parameters()
    }
    fn gradients(&mut self, graph: &TokenGraph, prior: &Prior<f64>, batch: &Batch) -> f64 {
        self.gradients(graph, prior, batch).mean()
    }
}

/// Layered edges whose sequences always continue from the same state.
struct Continued(Layered<f64>, Vec<f64>);

impl EdgeTrainer for Continued {
    fn parameters(&mut self) -> Vec<&mut Parameter<f64>> {
        self.0.parameters()
    }
    fn gradients(&mut self, graph: &TokenGraph, prior: &Prior<f64>, batch: &Batch) -> f64 {
        self.0.state().clone_from(&self.1);
        self.0.gradients(graph, prior, batch).mean()
    }
}

fn check(name: &str, learner: &mut dyn EdgeTrainer, batch: &Batch) {
    let held: Vec<Vec<u32>> = vec![vec![1, 0, 1, 0, 1, 1, 0, 0], vec![0, 1, 1, 1, 0, 0, 0, 1]];
    let prior = Prior::<f64>::new(&five_nodes(), &held);
    check_with(name, learner, batch, &prior);
}

fn check_with(name: &str, learner: &mut dyn EdgeTrainer, batch: &Batch, prior: &Prior<f64>) {
    let graph = five_nodes();
    // Leave the symmetric start behind, so that every path of the gradient carries something.
    let mut random = Random::new(11);
    for parameter in learner.parameters() {
        for value in &mut parameter.value {
            *value += 0.3 * random.normal();
        }
    }
    let loss = learner.gradients(&graph, prior, batch);
    assert!(loss.is_finite());
    let gradients: Vec<Vec<f64>> = learner
        .parameters()
        .iter()
        .map(|p| p.gradient.clone())
        .collect();
    let mut largest = 0.0f64;
    for (index, gradient) in gradients.iter().enumerate() {
        let label = learner.parameters()[index].name.clone();
        let used = gradient.iter().any(|g| *g != 0.0);
        assert!(
            used || gradient.is_empty(),
            "{name}: {label} has no gradient"
        );
        for (place, &expected) in gradient.iter().enumerate() {
            let step = 1e-4;
            let mut at = |offset: f64| {
                learner.parameters()[index].value[place] += offset;
                let loss = learner.gradients(&graph, prior, batch);
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

fn blend(profile: &mut Profile, blend: BlendKind) {
    profile.blend = blend;
    profile.banks = if blend == BlendKind::Position { 1 } else { 2 };
    profile.positions = 4;
}

#[test]
fn composed_edges() {
    for kind in [BlendKind::Position, BlendKind::Decay, BlendKind::Gated] {
        for (rank, residual) in [(0, None), (2, None), (0, Some(0)), (2, Some(2))] {
            let mut profile = Profile::sifu(4);
            blend(&mut profile, kind);
            profile.rank = rank;
            profile.residual = residual;
            let mut learner = Composed::new(&profile, &five_nodes(), 7);
            check(
                &format!("{kind:?} rank {rank} residual {residual:?}"),
                &mut learner,
                &batch(),
            );
        }
    }
    let mut learner = Composed::new(&Profile::sifu(4), &five_nodes(), 7);
    learner.dropout = 0.25;
    check("dropout", &mut learner, &batch());
}

fn layered(layers: usize, banks: usize) -> Profile {
    Profile {
        layers,
        banks,
        ..Profile::layered(4)
    }
}

#[test]
fn layered_edges() {
    for (layers, banks) in [(1, 1), (1, 2), (2, 2), (3, 1)] {
        let mut learner = Layered::new(&layered(layers, banks), &five_nodes(), 7);
        let name = format!("{layers} layers, {banks} banks");
        check(&name, &mut learner, &batch());
    }
    let mut learner = Layered::new(&layered(2, 2), &five_nodes(), 7);
    learner.dropout = Rates {
        output: 0.25,
        memory: 0.2,
        input: 0.3,
        node: 0.2,
    };
    check("layered dropout", &mut learner, &batch());
}

#[test]
fn continued_sequences() {
    let learner = Layered::new(&layered(2, 2), &five_nodes(), 7);
    let mut random = Random::new(3);
    // Three sequences, two layers, D = 4 and K·w = 12.
    let state = (0..3 * 2 * (4 + 12)).map(|_| random.normal()).collect();
    let batch = Batch {
        continued: vec![true, false, true],
        ..batch()
    };
    check("continued", &mut Continued(learner, state), &batch);
}

#[test]
fn own_edges() {
    let candidates = Candidates {
        targets: (0..15u32).flat_map(batch_targets).collect(),
        count: 3,
    };
    for kind in [BlendKind::Position, BlendKind::Decay, BlendKind::Gated] {
        for energy in [EnergyKind::Norm, EnergyKind::Squared] {
            for mended in [false, true] {
                for sampled in [false, true] {
                    let mut profile = if mended {
                        Profile::sifu_own(4)
                    } else {
                        Profile::reference(4)
                    };
                    blend(&mut profile, kind);
                    profile.energy = energy;
                    let mut learner = Own::new(&profile, &five_nodes(), 7);
                    let mut batch = batch();
                    batch.candidates = sampled.then(|| candidates.clone());
                    let name = format!("own {kind:?} {energy:?} mended {mended} sampled {sampled}");
                    check(&name, &mut learner, &batch);
                }
            }
        }
    }
    let mut learner = Own::new(&Profile::sifu_own(4), &five_nodes(), 7);
    learner.dropout = 0.25;
    check("own dropout", &mut learner, &batch());
}

/// Resistances of order 4 of a text and its two folds.
fn walks() -> Prior<f64> {
    let text: Vec<u32> = [0, 1, 2, 0, 1, 4, 0, 1, 2, 2, 3, 4, 0, 2].repeat(3);
    let (graph, settings) = (five_nodes(), PathSettings::whole(4));
    let paths = PathGraph::estimate(&graph, &text, &settings).unwrap();
    let others = |fold: usize| text[fold * 14..].to_vec();
    let prior = Prior::with_paths(&graph, &paths, &settings, 2, &others).unwrap();
    let batch = batch();
    let longer = (0..3).map(|fold| {
        let walk = batch.walk(fold, 4);
        let edges = graph.row(NodeId(walk[4])).len();
        prior.lifts(&graph, fold, walk).count() - edges
    });
    assert!(longer.sum::<usize>() > 0, "no walk of the batch has a lift");
    prior
}

#[test]
fn prior_weights_with_longer_walks() {
    let prior = walks();
    let mut composed = Composed::new(&Profile::sifu(4), &five_nodes(), 7);
    check_with("composed, order 4", &mut composed, &batch(), &prior);
    let candidates = Candidates {
        targets: (0..15u32).flat_map(batch_targets).collect(),
        count: 3,
    };
    for sampled in [None, Some(candidates)] {
        let mut own = Own::new(&Profile::sifu_own(4), &five_nodes(), 7);
        let mut batch = batch();
        batch.candidates = sampled;
        check_with("own, order 4", &mut own, &batch, &prior);
    }
}

/// The true target of a row of [`batch`], then two others.
fn batch_targets(row: u32) -> [u32; 3] {
    let batch = batch();
    let next = batch.sequence(row as usize / 5)[row as usize % 5 + 1];
    [next, (next + 1) % 5, (next + 3) % 5]
}
