//! Sessions: the learner's formulas step by step, replay, save and restore, beams, memory, threads.

use std::sync::Arc;

use brillm::ErrorKind;
use brillm::graph::{GraphBuilder, TokenGraph};
use brillm::kernel::element::Element;
use brillm::kernel::random::Random;
use brillm::kernel::table::Table;
use brillm::learn::batch::Batch;
use brillm::learn::edge_trainer::EdgeTrainer;
use brillm::learn::prior::Prior;
use brillm::learn::recipe::Train;
use brillm::model::{Metadata, Model, Verify};
use brillm::path::{
    BeamOptions, Charges, GraphSession, Sampling, Session, SessionState, beam, likeliest,
};
use brillm::signal::{BlendKind, EnergyKind, Mechanism, Profile, Start, Weights};
use brillm::text::Tokenizer;

const NODES: usize = 12;

fn text() -> Vec<u32> {
    let mut random = Random::new(4);
    let mut node = 0u32;
    (0..400)
        .map(|_| {
            node = if random.uniform() < 0.7 {
                (node * 5 + 1) % 12
            } else {
                random.below(12) as u32
            };
            node
        })
        .collect()
}

fn graph(own_minimum: u32) -> TokenGraph {
    let mut builder = GraphBuilder::new(NODES);
    builder.walk(text()).unwrap();
    let mut graph = builder.build().unwrap();
    graph.set_own_minimum(own_minimum);
    graph
}

/// Every mechanism there is, small.
fn profiles() -> Vec<(String, Profile)> {
    let mut all = vec![(
        "reference".to_string(),
        Profile {
            positions: 512,
            ..Profile::reference(8)
        },
    )];
    for blend in [BlendKind::Position, BlendKind::Decay, BlendKind::Gated] {
        let banks = if blend == BlendKind::Position { 1 } else { 2 };
        for energy in [EnergyKind::Norm, EnergyKind::Squared] {
            let profile = Profile {
                blend,
                banks,
                energy,
                ..Profile::sifu_own(8)
            };
            all.push((format!("own {blend:?} {energy:?}"), profile));
        }
        for (rank, residual) in [(0, None), (2, None), (0, Some(0)), (0, Some(2))] {
            let profile = Profile {
                blend,
                banks,
                rank,
                residual,
                ..Profile::sifu(8)
            };
            all.push((
                format!("composed {blend:?} rank {rank} residual {residual:?}"),
                profile,
            ));
        }
    }
    for layers in [1, 2] {
        let profile = Profile {
            layers,
            ..Profile::layered(8)
        };
        all.push((format!("layered {layers}"), profile));
    }
    all
}

/// A learner that has left its symmetric start, and the mechanism with its weights.
fn learned(profile: &Profile) -> (EdgeTrainer, TokenGraph, Arc<Mechanism>) {
    let graph = graph(2);
    let mut learner = EdgeTrainer::new(profile, &graph, 0.0, 3);
    let mut random = Random::new(8);
    for parameter in learner.parameters() {
        for value in &mut parameter.value {
            *value += 0.2 * random.normal() as f32;
        }
    }
    let weights = learner.weights(profile, &graph).unwrap();
    let mechanism = Arc::new(Mechanism::new(profile.clone(), graph.clone(), weights).unwrap());
    (learner, graph, mechanism)
}

fn model(profile: &Profile) -> Model {
    let (_, _, mechanism) = learned(profile);
    let metadata = Metadata {
        name: "small".into(),
        license: "none".into(),
        profile: profile.clone(),
        own_minimum: 2,
        direction: Default::default(),
        charges: None,
        recall: None,
        training: serde_json::Value::Null,
    };
    Model::new(
        metadata,
        Tokenizer::ids(NODES).unwrap(),
        Arc::try_unwrap(mechanism).unwrap(),
    )
    .unwrap()
}

fn session(mechanism: &Arc<Mechanism>, sampling: Sampling) -> GraphSession {
    GraphSession::begin(mechanism.clone(), &[3], &Start::Profile, sampling).unwrap()
}

#[test]
fn a_session_walks_what_the_learner_learned() {
    for (name, mut profile) in profiles() {
        // Learner and session must use the same position offset.
        profile.offset = brillm::signal::PositionOffset::Train;
        let (mut learner, graph, mechanism) = learned(&profile);
        let tokens: Vec<u32> = text()[..11].to_vec();
        let batch = Batch {
            tokens: tokens.clone(),
            steps: 10,
            folds: vec![0],
            before: 0,
            continued: Vec::new(),
            candidates: None,
            index: 0,
        };
        let loss = learner
            .loss(&graph, &Prior::new(&graph, &[]), &batch)
            .unwrap()
            .nats;
        let mut session =
            GraphSession::begin(mechanism, &tokens[..1], &Start::Profile, Sampling::greedy())
                .unwrap();
        let mut walked = 0.0;
        for &next in &tokens[1..] {
            walked += session.resistance(next).unwrap();
            session.force(next).unwrap();
        }
        assert!(
            (walked - loss).abs() < 1e-4 * loss,
            "{name}: session {walked}, learner {loss}"
        );
    }
}

#[test]
fn a_continued_sequence_is_that_of_one_batch() {
    let (mut learner, graph, _) = learned(&Profile::layered(8));
    let prior = Prior::new(&graph, &[]);
    let batch = |tokens: &[u32], continued: &[bool]| Batch {
        tokens: tokens.to_vec(),
        steps: tokens.len() - 1,
        folds: vec![0],
        before: 0,
        continued: continued.to_vec(),
        candidates: None,
        index: 0,
    };
    let tokens = &text()[..31];
    let whole = learner
        .loss(&graph, &prior, &batch(tokens, &[]))
        .unwrap()
        .nats;
    // A rate of almost zero: the parameters stay as they are.
    let train = Train {
        rate: 1e-30,
        weight_decay: 0.0,
        ..Train::default()
    };
    let mut learn = |tokens: &[u32], continued: bool, step| {
        let batch = batch(tokens, &[continued]);
        let (loss, _) = learner.learn(&graph, &prior, &batch, &train, step).unwrap();
        loss.nats
    };
    let halves = learn(&tokens[..16], false, 1) + learn(&tokens[15..], true, 2);
    assert!((whole - halves).abs() < 1e-4 * whole, "{whole}, {halves}");
    let anew = learn(&tokens[15..], false, 3);
    assert!((whole - halves).abs() < (halves - learn(&tokens[..16], false, 4) - anew).abs());
}

#[test]
fn probabilities_over_all_nodes_sum_to_one() {
    for (name, profile) in profiles() {
        let (_, _, mechanism) = learned(&profile);
        let mut session = session(&mechanism, Sampling::greedy());
        for node in [1, 4, 4, 0] {
            let total: f64 = (0..NODES as u32)
                .map(|node| (-session.resistance(node).unwrap()).exp())
                .sum();
            assert!((total - 1.0).abs() < 1e-5, "{name}: {total}");
            session.force(node).unwrap();
        }
    }
}

#[test]
fn a_seed_replays_and_threads_do_not_matter() {
    for (name, profile) in profiles() {
        let (_, _, mechanism) = learned(&profile);
        let walk = |threads: usize| -> Vec<u32> {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let mut session = session(&mechanism, Sampling::default().temperature(0.9).seed(5));
                (0..50).map(|_| session.step().unwrap().unwrap()).collect()
            })
        };
        let one = walk(1);
        assert_eq!(one, walk(2), "{name}");
        assert_eq!(one, walk(4), "{name}");
    }
}

#[test]
fn training_is_equal_on_any_number_of_threads() {
    for (name, profile) in profiles() {
        let train = Train {
            batch: 20,
            steps: 8,
            ..Train::default()
        };
        let learn = |threads: usize| -> Vec<Vec<f32>> {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let graph = graph(2);
                let mut learner = EdgeTrainer::new(&profile, &graph, 0.2, 3);
                let prior = Prior::new(&graph, &[]);
                for step in 0..3 {
                    let tokens = text()[step * 60..step * 60 + 180].to_vec();
                    let folds = vec![0; 20];
                    let batch = Batch {
                        tokens,
                        steps: 8,
                        folds,
                        before: 0,
                        continued: Vec::new(),
                        candidates: None,
                        index: step as u64,
                    };
                    learner
                        .learn(&graph, &prior, &batch, &train, step as u64 + 1)
                        .unwrap();
                }
                learner
                    .parameters()
                    .iter()
                    .map(|parameter| parameter.value.clone())
                    .collect()
            })
        };
        let one = learn(1);
        assert!(one == learn(2), "{name}: two threads");
        assert!(one == learn(4), "{name}: four threads");
    }
}

#[test]
fn a_saved_session_goes_on_as_if_it_had_not_stopped() {
    for (name, profile) in profiles() {
        let (_, _, mechanism) = learned(&profile);
        let sampling = Sampling::default()
            .temperature(1.1)
            .repetition_penalty(1.3, 7)
            .seed(2);
        let mut whole = session(&mechanism, sampling.clone());
        whole.set_charges(Charges::new(0.9, 0.4, 0.3, 1.0));
        for _ in 0..20 {
            whole.step().unwrap();
        }
        whole.inject(5, 2.5).unwrap();
        let saved = whole.state().to_bytes().unwrap();
        let state = SessionState::from_bytes(&saved).unwrap();
        let mut again = GraphSession::restore(mechanism.clone(), state, sampling).unwrap();
        for step in 0..40 {
            assert_eq!(
                whole.step().unwrap(),
                again.step().unwrap(),
                "{name}, step {step}"
            );
        }
        assert_eq!(whole.state(), again.state(), "{name}");
    }
    let (_, _, other) = learned(&Profile::sifu(4));
    let (_, _, mechanism) = learned(&Profile::sifu(8));
    let state = session(&mechanism, Sampling::greedy()).state();
    // Of another shape, and of the same shape with other weights.
    let changed = mechanism.weights().converted(Element::F16).unwrap();
    let changed = Arc::new(mechanism.with_weights(changed).unwrap());
    for other in [other, changed] {
        let error = GraphSession::restore(other, state.clone(), Sampling::greedy()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        assert!(error.to_string().contains("another model"), "{error}");
    }
    // The same weights once more are the same model.
    let weights = mechanism.weights().clone();
    let same = Arc::new(mechanism.with_weights(weights).unwrap());
    GraphSession::restore(same, state, Sampling::greedy()).unwrap();
}

#[test]
fn penalties_count_each_choice_once_and_no_given_token() {
    for (name, profile) in profiles() {
        let (_, _, mechanism) = learned(&profile);
        let sampling = Sampling::greedy().presence_and_frequency(1.5, 0.75);
        let mut penalised = session(&mechanism, sampling.clone());
        let mut plain = session(&mechanism, Sampling::greedy());
        let mut counts = [0u16; NODES];
        for step in 0..30 {
            if step % 7 == 3 {
                penalised.force(2).unwrap();
                plain.force(2).unwrap();
            }
            if step % 10 == 9 {
                let saved = penalised.state().to_bytes().unwrap();
                let state = SessionState::from_bytes(&saved).unwrap();
                penalised =
                    GraphSession::restore(mechanism.clone(), state, sampling.clone()).unwrap();
            }
            let mut logits = plain.look().unwrap().1.to_vec();
            for (logit, &count) in logits
                .iter_mut()
                .zip(&counts)
                .filter(|(_, count)| **count > 0)
            {
                *logit -= 1.5 + 0.75 * f32::from(count);
            }
            if !profile.self_loops {
                logits[plain.token() as usize] = f32::NEG_INFINITY;
            }
            let expected = likeliest(&logits).unwrap();
            assert_eq!(
                penalised.step().unwrap(),
                Some(expected),
                "{name} step {step}"
            );
            counts[expected as usize] += 1;
            plain.force(expected).unwrap();
        }
        assert!(counts.iter().any(|&count| count > 1), "{name}: {counts:?}");
    }
}

#[test]
fn a_session_with_a_number_that_is_not_finite_is_not_written() {
    let (_, _, mechanism) = learned(&Profile::sifu(8));
    let charges = |change: fn(&mut Charges)| {
        let mut charges = Charges::new(0.5, 1.0, 1.0, 1.0);
        change(&mut charges);
        charges
    };
    type Change = Box<dyn Fn(&mut GraphSession)>;
    let changes: [(&str, Change); 4] = [
        (
            "injected energies that overflow",
            Box::new(|session| {
                session.inject(3, f32::MAX).unwrap();
                session.inject(3, f32::MAX).unwrap();
            }),
        ),
        (
            "decay",
            Box::new(move |session| session.set_charges(charges(|one| one.decay = f64::NAN))),
        ),
        (
            "strength",
            Box::new(move |session| {
                session.set_charges(charges(|one| one.edge_strength = f32::INFINITY));
            }),
        ),
        (
            "scale",
            Box::new(move |session| session.set_charges(charges(|one| one.scale = f32::NAN))),
        ),
    ];
    for (name, change) in changes {
        let mut session = session(&mechanism, Sampling::greedy());
        session.state().to_bytes().unwrap();
        change(&mut session);
        let error = session.state().to_bytes().expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Numeric, "{name}: {error}");
    }
}

#[test]
fn saving_and_opening_is_the_identity() {
    let folder = tempfile::tempdir().unwrap();
    for (name, profile) in profiles() {
        for element in [Element::F32, Element::F16, Element::I8] {
            let model = model(&profile).quantized(element).unwrap();
            let (first, second) = (folder.path().join("a.bril"), folder.path().join("b.bril"));
            model.save(&first).unwrap();
            let opened = Model::open(&first, Verify::Whole).unwrap();
            opened.save(&second).unwrap();
            assert!(
                std::fs::read(&first).unwrap() == std::fs::read(&second).unwrap(),
                "{name} {element}"
            );
            let mut before = session(model.mechanism(), Sampling::greedy());
            let mut after = session(opened.mechanism(), Sampling::greedy());
            for _ in 0..10 {
                assert_eq!(
                    before.look().unwrap(),
                    after.look().unwrap(),
                    "{name} {element}"
                );
                assert_eq!(before.step().unwrap(), after.step().unwrap());
            }
        }
    }
}

#[test]
fn a_beam_as_wide_as_the_graph_is_brute_force() {
    for (name, profile) in profiles() {
        let (_, _, mechanism) = learned(&profile);
        let found = beam(
            &mechanism,
            &[3],
            &Start::Profile,
            &BeamOptions::new(NODES * NODES * NODES, 3),
            &Default::default(),
        )
        .unwrap();
        let mut all = Vec::new();
        for path in 0..(NODES * NODES * NODES) as u32 {
            let nodes = vec![path / 144, path / 12 % 12, path % 12];
            let mut session = session(&mechanism, Sampling::greedy());
            let mut total = 0.0;
            let mut source = 3;
            let mut allowed = true;
            for &node in &nodes {
                allowed &= profile.self_loops || node != source;
                // Without self-loops, decoding's softmax is over the other nodes.
                let left_out = if profile.self_loops {
                    0.0
                } else {
                    (-session.resistance(source).unwrap()).exp()
                };
                total += session.resistance(node).unwrap() + (1.0 - left_out).ln();
                session.force(node).unwrap();
                source = node;
            }
            if allowed {
                all.push((total, nodes));
            }
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert_eq!(found.len(), all.len(), "{name}");
        for (path, (total, _)) in found.iter().zip(&all) {
            assert!(
                (path.resistance - total).abs() < 1e-4,
                "{name}: {} {total}",
                path.resistance
            );
        }
        assert_eq!(found[0].nodes, all[0].1, "{name}");
    }
}

#[test]
fn injected_energy_and_bans_and_starts_change_what_they_should() {
    let (_, _, mechanism) = learned(&Profile::sifu(8));
    let mut lit = session(&mechanism, Sampling::greedy());
    lit.inject(7, 1e6).unwrap();
    assert_eq!(lit.step().unwrap(), Some(7));
    assert!(lit.inject(NODES as u32, 1.0).is_err());
    assert!(lit.inject(1, f32::NAN).is_err());
    let mut banned = session(&mechanism, Sampling::greedy().banned(0..11));
    assert_eq!(banned.step().unwrap(), Some(11));
    let mut nothing = session(&mechanism, Sampling::greedy().banned(0..12));
    assert_eq!(nothing.step().unwrap(), None);
    let energies = |start: &Start| {
        let mut session =
            GraphSession::begin(mechanism.clone(), &[3], start, Sampling::greedy()).unwrap();
        session.look().unwrap().0.to_vec()
    };
    assert_ne!(energies(&Start::Profile), energies(&Start::Ones));
    assert_ne!(energies(&Start::Random(1)), energies(&Start::Random(2)));
    assert_eq!(
        energies(&Start::Vector(vec![1.0; 8])),
        energies(&Start::Ones)
    );
    let wrong = GraphSession::begin(
        mechanism.clone(),
        &[3],
        &Start::Vector(vec![1.0; 7]),
        Sampling::greedy(),
    );
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Input);
    let empty = GraphSession::begin(mechanism.clone(), &[], &Start::Profile, Sampling::greedy());
    assert!(empty.unwrap_err().to_string().contains("empty"));
    let outside = GraphSession::begin(mechanism, &[12], &Start::Profile, Sampling::greedy());
    assert!(
        outside
            .unwrap_err()
            .to_string()
            .contains("vocabulary of 12")
    );
}

#[test]
fn a_long_session_needs_what_a_short_one_needs() {
    let (_, _, mechanism) = learned(&Profile::sifu(8));
    let mut session = session(
        &mechanism,
        Sampling::default()
            .temperature(1.0)
            .repetition_penalty(1.1, 16),
    );
    session.set_charges(Charges::new(0.99, 0.2, 0.2, 1.0));
    let size = |session: &GraphSession| serde_json::to_vec(&session.state()).unwrap().len();
    for _ in 0..3_000 {
        session.step().unwrap();
    }
    let early = size(&session);
    for _ in 0..60_000 {
        session.step().unwrap();
    }
    assert!(
        size(&session) < early + 400,
        "{early} bytes, then {}",
        size(&session)
    );
}

#[test]
fn the_reference_path_ends_at_its_limit_and_weights_that_are_not_numbers_are_said() {
    let profile = Profile {
        positions: 20,
        ..Profile::reference(8)
    };
    let (_, _, mechanism) = learned(&profile);
    let mut session = session(&mechanism, Sampling::greedy());
    let mut hops = 0;
    let error = loop {
        match session.step() {
            Ok(_) => hops += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((hops, error.kind()), (20, ErrorKind::Unsupported));

    let graph = graph(2);
    for broken in ["node.target", "node.offset"] {
        let profile = Profile::sifu(8);
        let weights = Weights::gather(&profile, NODES, graph.own_edges(), |block| {
            let value = if block.name == broken { f32::NAN } else { 0.1 };
            Ok(Some(Table::of(
                &vec![value; block.rows * block.columns],
                block.rows,
                block.columns,
            )))
        })
        .unwrap();
        let mechanism = Arc::new(Mechanism::new(profile, graph.clone(), weights).unwrap());
        let outcome = GraphSession::begin(mechanism, &[3], &Start::Profile, Sampling::greedy())
            .and_then(|mut s| s.step());
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Numeric, "{broken}");
    }
}
