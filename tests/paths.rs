//! Path graphs: static resistances from the counts of walks longer than an edge.

use std::path::Path;
use std::sync::Arc;

use brillm::graph::{GraphBuilder, PathGraph, PathSettings, TokenGraph};
use brillm::kernel::element::Element;
use brillm::kernel::random::Random;
use brillm::kernel::table::Table;
use brillm::learn::batch::{Batch, BatchSampler};
use brillm::learn::edge_trainer::EdgeTrainer;
use brillm::learn::prior::Prior;
use brillm::measure::{KneserNey, Windows};
use brillm::model::{Container, Model, Writer};
use brillm::path::{BeamOptions, GraphSession, Sampling, Session, SessionState, beam};
use brillm::run::trace::{TraceRequest, Tracing};
use brillm::signal::{Mechanism, Profile, Start, Weights};
use brillm::text::Tokenizer;
use brillm::{Engine, ErrorKind, hook::Hooks};

mod support;
use support::metadata;

const NODES: usize = 20;

/// A text in which the next token depends on the last four.
fn text(seed: u64, length: usize) -> Vec<u32> {
    let mut random = Random::new(seed);
    let mut tokens = vec![3, 1, 4, 1];
    while tokens.len() < length {
        let [.., a, b, c, d] = tokens[..] else {
            unreachable!()
        };
        let habit = if random.uniform() < 0.5 {
            a + 3 * b + 5 * c + 7 * d
        } else {
            2 * c + d
        };
        let step = (random.uniform() * random.uniform() * random.uniform() * 20.0) as u32;
        tokens.push((habit + step) % NODES as u32);
    }
    tokens
}

fn graph_of(text: &[u32]) -> TokenGraph {
    let mut builder = GraphBuilder::new(NODES);
    builder.walk(text.iter().copied()).unwrap();
    builder.build().unwrap()
}

fn with_paths(text: &[u32], settings: &PathSettings) -> TokenGraph {
    let mut graph = graph_of(text);
    graph.set_own_minimum(u32::MAX);
    let paths = PathGraph::estimate(&graph, text, settings).unwrap();
    graph.with_paths(Some(paths))
}

/// A mechanism that has learned nothing: its logits are the static resistances.
fn untrained(graph: TokenGraph) -> Mechanism {
    let profile = Profile::sifu(4);
    let weights = Weights::gather(&profile, graph.nodes(), graph.own_edges(), |block| {
        let mut values = vec![0.0; block.rows * block.columns];
        if block.name == "scalars" {
            values[1] = 1.0;
        }
        Ok(Some(Table::of(&values, block.rows, block.columns)))
    });
    Mechanism::new(profile, graph, weights.unwrap()).unwrap()
}

fn model_of(mechanism: Mechanism) -> Model {
    let metadata = metadata(mechanism.profile(), mechanism.graph().own_minimum());
    Model::new(metadata, Tokenizer::ids(NODES).unwrap(), mechanism).unwrap()
}

/// The distribution of the next node after a walk, from static resistances alone.
fn distribution(graph: &TokenGraph, walk: &[u32], order: usize) -> Vec<f64> {
    let resistance = graph.resistance_within(order).target();
    let mut logits: Vec<f64> = resistance.iter().map(|&r| -f64::from(r)).collect();
    let (&node, earlier) = walk.split_last().unwrap();
    for (target, lift) in graph.lifts(node, earlier, order) {
        logits[target as usize] += f64::from(lift);
    }
    let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
    logits.iter().map(|logit| logit.exp() / total).collect()
}

#[test]
fn path_graphs_give_the_probabilities_of_kneser_ney() {
    let (train, held_out) = (text(1, 6000), text(2, 300));
    for order in 3..=5 {
        let exact = PathSettings {
            exact: true,
            ..PathSettings::whole(order)
        };
        let rival = KneserNey::train(&train, NODES, order).unwrap();
        for (settings, tolerance) in [(exact, 1e-4), (PathSettings::whole(order), 2e-2)] {
            let graph = with_paths(&train, &settings);
            assert_eq!(graph.order(), order);
            for end in 1..held_out.len() {
                // The first contexts are shorter than the order.
                let walk = &held_out[..end];
                let found = distribution(&graph, walk, order);
                for (target, (found, expected)) in
                    found.iter().zip(rival.distribution(walk)).enumerate()
                {
                    let difference = (found.ln() - expected.ln()).abs();
                    assert!(
                        difference < tolerance,
                        "order {order}, end {end}, target {target}: {found} for {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn lower_orders_of_a_path_graph_are_those_inside_kneser_ney() {
    let (train, held_out) = (text(1, 6000), text(2, 300));
    let exact = PathSettings {
        exact: true,
        ..PathSettings::whole(5)
    };
    let graph = with_paths(&train, &exact);
    let rival = KneserNey::train(&train, NODES, 5).unwrap();
    let edges = KneserNey::train(&train, NODES, 2).unwrap();
    for order in 2..=4 {
        for end in 5..held_out.len() {
            let found = distribution(&graph, &held_out[..end], order);
            let context = &held_out[end + 1 - order..end];
            // Order 2 is that of the graph's own edges, with occurrence counts.
            let rival = if order == 2 { &edges } else { &rival };
            for (found, expected) in found.iter().zip(rival.distribution(context)) {
                assert!(
                    (found.ln() - expected.ln()).abs() < 1e-4,
                    "order {order}, end {end}"
                );
            }
        }
    }
}

#[test]
fn an_untrained_model_has_the_perplexity_of_kneser_ney() {
    let (train, held_out) = (text(1, 6000), text(2, 1500));
    let model = model_of(untrained(with_paths(&train, &PathSettings::whole(5))));
    let windows: Windows = "31,40".parse().unwrap();
    for (order, rival_order) in [(2, 2), (5, 5)] {
        let engine = Engine::from(&model).with_order(Some(order)).unwrap();
        let hooked = engine.with_hooks(&Hooks::default(), 0).unwrap();
        let rival = KneserNey::train(&train, NODES, rival_order).unwrap();
        let expected = rival.evaluate(&held_out, &windows, rival_order).unwrap();
        let found = hooked.windows(&held_out, &windows).unwrap();
        let ratio = found.perplexity / expected.perplexity();
        assert!((ratio - 1.0).abs() < 1e-3, "order {order}: windows {ratio}");
        let streaming = windows.streaming(true);
        let expected = rival.evaluate(&held_out, &streaming, rival_order).unwrap();
        let end = 30 * 40 + 1;
        let found = hooked
            .stream(&held_out[..end], 1, &Default::default())
            .unwrap();
        let ratio = found.perplexity / expected.perplexity();
        assert!((ratio - 1.0).abs() < 1e-3, "order {order}: stream {ratio}");
    }
}

#[test]
fn pruning_keeps_the_targets_that_gain_most() {
    let train = text(1, 6000);
    let whole = with_paths(&train, &PathSettings::whole(5));
    let mut before: Vec<usize> = level_sizes(&whole);
    for (prune, minimum_count) in [(0.1, 1), (0.5, 1), (0.5, 4)] {
        let settings = PathSettings {
            prune,
            minimum_count,
            ..PathSettings::whole(5)
        };
        let pruned = with_paths(&train, &settings);
        let sizes = level_sizes(&pruned);
        assert!(
            sizes.iter().zip(&before).all(|(now, before)| now <= before) && sizes != before,
            "{sizes:?} after {before:?}"
        );
        before = sizes;
        for end in 5..300 {
            let walk = &train[..end];
            let (&node, earlier) = walk.split_last().unwrap();
            let paths = pruned.paths().unwrap();
            for walk in paths.walks(node, earlier, 5) {
                for target in 0..NODES as u32 {
                    if let Some((lift, count)) = walk.target(target) {
                        assert!(count >= minimum_count);
                        // A discounted count is at most the count.
                        assert!(f64::from(count) * f64::from(lift.abs()) > 0.99 * prune);
                    }
                }
            }
            let total: f64 = distribution(&pruned, walk, 5).iter().sum();
            assert!((total - 1.0).abs() < 1e-9);
        }
    }
    let none = PathSettings {
        prune: 1e9,
        ..PathSettings::whole(5)
    };
    let empty = with_paths(&train, &none);
    let paths = empty.paths().unwrap();
    assert_eq!((paths.entries(), paths.levels()[0].walks()), (0, 0));
}

/// Targets, then walks, of each order.
fn level_sizes(graph: &TokenGraph) -> Vec<usize> {
    let levels = graph.paths().unwrap().levels().iter();
    levels
        .flat_map(|level| [level.entries(), level.walks()])
        .collect()
}

#[test]
fn invalid_settings_are_refused_and_short_texts_have_no_walks() {
    let train = text(1, 400);
    let graph = graph_of(&train);
    for (order, prune) in [(2, 0.0), (6, 0.0), (3, -1.0), (3, f64::NAN)] {
        let settings = PathSettings {
            prune,
            ..PathSettings::whole(order)
        };
        let error = PathGraph::estimate(&graph, &train, &settings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{order}, {prune}");
    }
    let outside = [0, NODES as u32, 1, 2, 3];
    let error = PathGraph::estimate(&graph, &outside, &PathSettings::whole(3)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    for length in 0..5 {
        let paths = PathGraph::estimate(&graph, &train[..length], &PathSettings::whole(5)).unwrap();
        assert_eq!((paths.order(), paths.entries()), (5, 0), "{length} tokens");
    }
}

#[test]
fn sessions_keep_the_nodes_that_walks_need() {
    let train = text(1, 3000);
    let mechanism = Arc::new(untrained(with_paths(&train, &PathSettings::whole(4))));
    let begin = |mechanism: &Arc<Mechanism>| {
        let prompt = &train[..6];
        GraphSession::begin(
            mechanism.clone(),
            prompt,
            &Start::Profile,
            Sampling::default(),
        )
        .unwrap()
    };
    let mut session = begin(&mechanism);
    assert_eq!(session.flow().earlier, train[3..5]);
    let saved = session.state().to_bytes().unwrap();
    let state = SessionState::from_bytes(&saved).unwrap();
    let mut again = GraphSession::restore(mechanism.clone(), state, Sampling::default()).unwrap();
    assert_eq!(again.look().unwrap(), session.look().unwrap());
    for _ in 0..20 {
        assert_eq!(again.step().unwrap(), session.step().unwrap());
    }
    // A session cannot claim longer walks than the graph has, or unknown nodes.
    for earlier in ["[1,2,3]", "[99]"] {
        let text = String::from_utf8(saved.clone()).unwrap();
        let (first, rest) = text.split_once("\"earlier\":[").unwrap();
        let (_, rest) = rest.split_once(']').unwrap();
        let changed = format!("{first}\"earlier\":{earlier}{rest}");
        let state = SessionState::from_bytes(changed.as_bytes()).unwrap();
        let restored = GraphSession::restore(mechanism.clone(), state, Sampling::default());
        assert_eq!(restored.unwrap_err().kind(), ErrorKind::Format, "{earlier}");
    }
    // Without longer walks, a state is as before.
    let edges = Arc::new(untrained(graph_of(&train)));
    let saved = begin(&edges).state().to_bytes().unwrap();
    assert!(!String::from_utf8(saved).unwrap().contains("earlier"));
}

#[test]
fn orders_outside_the_model_are_refused() {
    let train = text(1, 3000);
    let mechanism = untrained(with_paths(&train, &PathSettings::whole(4)));
    for order in [0, 1, 5, 6] {
        let error = mechanism.clone().with_order(order).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "order {order}");
    }
    assert_eq!(mechanism.with_order(3).unwrap().order(), 3);
    let error = untrained(graph_of(&train)).with_order(3).unwrap_err();
    assert!(error.to_string().contains("order 2 only"), "{error}");
}

#[test]
fn beams_sum_the_resistances_of_sessions() {
    let train = text(1, 3000);
    let mechanism = Arc::new(untrained(with_paths(&train, &PathSettings::whole(5))));
    let prompt = &train[..7];
    let options = BeamOptions::new(3, 4);
    let paths = beam(
        &mechanism,
        prompt,
        &Start::Profile,
        &options,
        &Hooks::default(),
    )
    .unwrap();
    for path in paths {
        let mut session = GraphSession::begin(
            mechanism.clone(),
            prompt,
            &Start::Profile,
            Sampling::greedy(),
        )
        .unwrap();
        let mut total = 0.0;
        for &node in &path.nodes {
            total += session.resistance(node).unwrap();
            session.force(node).unwrap();
        }
        assert!((total - path.resistance).abs() < 1e-5);
    }
}

fn held_out_sampler(length: usize) -> BatchSampler {
    BatchSampler::new(1, length, 10, 2, 100, 3)
}

/// The resistances of a text and of its folds, as training makes them.
fn cross_fitted(text: &[u32], settings: &PathSettings) -> (TokenGraph, Prior<f32>) {
    let graph = with_paths(text, settings);
    let sampler = held_out_sampler(text.len());
    let paths = graph.paths().unwrap();
    let others = |fold| sampler.others(text, fold);
    let prior = Prior::with_paths(&graph, paths, settings, sampler.folds(), &others).unwrap();
    (graph, prior)
}

#[test]
fn walks_of_a_fold_do_not_predict_it() {
    let mut train = text(1, 600);
    // A walk that occurs in the second block only, which is fold 2.
    train[150..155].copy_from_slice(&[19, 18, 19, 17, 16]);
    let unique = &train[150..154];
    let occurs = train.windows(4).filter(|&walk| walk == unique).count();
    assert_eq!(occurs, 1, "the walk is unique");
    let (graph, prior) = cross_fitted(&train, &PathSettings::whole(5));
    let lifts = |fold| {
        let edges = graph.row(brillm::graph::NodeId(17)).len();
        prior.lifts(&graph, fold, unique).skip(edges).count()
    };
    assert!(
        lifts(0) > lifts(2),
        "all counts have the walk, those without fold 2 do not"
    );
    assert_eq!(lifts(0), lifts(1));
    let sampler = held_out_sampler(train.len());
    let others = sampler.others(&train, 2);
    assert_eq!(others.len(), 400);
    assert_eq!(others[..200], [&train[..100], &train[200..300]].concat());
}

#[test]
fn a_session_walks_what_a_learner_of_walks_learned() {
    let train = text(1, 2000);
    let (graph, prior) = cross_fitted(&train, &PathSettings::whole(5));
    for mut profile in [Profile::sifu(4), Profile::sifu_own(4)] {
        profile.offset = brillm::signal::PositionOffset::Train;
        let mut learner = EdgeTrainer::new(&profile, &graph, 0.0, 3);
        let weights = learner.weights(&profile, &graph).unwrap();
        let mechanism = Mechanism::new(profile.clone(), graph.clone(), weights).unwrap();
        let tokens = train[30..41].to_vec();
        let batch = Batch {
            tokens: tokens.clone(),
            steps: 10,
            folds: vec![0],
            before: 0,
            continued: Vec::new(),
            candidates: None,
            index: 0,
        };
        let loss = learner.loss(&graph, &prior, &batch).unwrap().nats;
        let mut session = GraphSession::begin(
            Arc::new(mechanism),
            &tokens[..1],
            &Start::Profile,
            Sampling::greedy(),
        )
        .unwrap();
        let mut walked = 0.0;
        for &next in &tokens[1..] {
            walked += session.resistance(next).unwrap();
            session.force(next).unwrap();
        }
        assert!(
            (loss - walked).abs() < 1e-3,
            "{:?}: {loss} for {walked}",
            profile.form
        );
    }
}

/// Copy a model file, with the values of one block changed.
fn rewrite(from: &Path, to: &Path, block: &str, change: &dyn Fn(&mut Vec<u32>)) {
    let container = Container::open(from, Default::default()).unwrap();
    let mut writer = Writer::create(to, container.metadata().clone()).unwrap();
    for stored in container.blocks() {
        if stored.name != block {
            let bytes: &[u8] = stored.bytes();
            writer
                .values(&stored.name, stored.element, &stored.shape, bytes)
                .unwrap();
            continue;
        }
        let mut values: Vec<u32> = match stored.element {
            Element::U32 => stored.typed::<u32>().unwrap().to_vec(),
            _ => stored
                .typed::<u16>()
                .unwrap()
                .iter()
                .map(|&v| u32::from(v))
                .collect(),
        };
        change(&mut values);
        if stored.element == Element::U32 {
            writer
                .values(block, Element::U32, &[values.len()], &values)
                .unwrap();
        } else {
            let narrow: Vec<u16> = values.iter().map(|&value| value as u16).collect();
            writer
                .values(block, stored.element, &[values.len()], &narrow)
                .unwrap();
        }
    }
    writer.finish().unwrap();
}

#[test]
fn files_keep_walks_and_refuse_damaged_ones() {
    let train = text(1, 3000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bril");
    let settings = PathSettings {
        prune: 2.0,
        ..PathSettings::whole(5)
    };
    let model = model_of(untrained(with_paths(&train, &settings)));
    model.save(&path).unwrap();
    let read = Model::open(&path, Default::default()).unwrap();
    let next = |model: &Model| {
        let prompt = &train[20..30];
        let mechanism = model.mechanism().clone();
        let mut session =
            GraphSession::begin(mechanism, prompt, &Start::Profile, Sampling::greedy()).unwrap();
        session.look().unwrap().1.to_vec()
    };
    assert_eq!(next(&read), next(&model));
    let copies = [
        ("reopened", read.clone()),
        ("quantized", read.quantized(Element::I8).unwrap()),
        ("widened", read.widened(6).unwrap()),
        ("of order 2", read.with_order(2).unwrap()),
    ];
    for (name, copy) in copies {
        let again = folder.path().join("again.bril");
        copy.save(&again).unwrap();
        let again = Model::open(&again, Default::default()).unwrap();
        assert_eq!(again.mechanism().order(), 5, "{name}");
        assert_eq!(next(&again), next(&model), "{name}");
    }
    assert_eq!(
        read.mechanism().fingerprint(),
        model.mechanism().fingerprint()
    );

    type Change = &'static dyn Fn(&mut Vec<u32>);
    let cases: [(&str, Change); 12] = [
        ("path.counts", &|values| values.truncate(3)),
        ("path.3.rows", &|values| values.truncate(3)),
        ("path.3.rows", &|values| values[1] = values[20] + 1),
        ("path.3.nodes", &|values| values[0] = NODES as u32),
        ("path.3.nodes", &|values| values.swap(0, 1)),
        ("path.3.fans", &|values| values[0] = 1),
        ("path.4.fans", &|values| *values.last_mut().unwrap() += 1),
        ("path.4.targets", &|values| values[0] = NODES as u32),
        ("path.5.targets", &|values| values.truncate(1)),
        ("path.5.lifts", &|values| values[0] = 0x7c00),
        ("path.5.lifts", &|values| values.truncate(1)),
        ("path.5.counts", &|values| values.truncate(1)),
    ];
    for (block, change) in cases {
        let damaged = folder.path().join("damaged.bril");
        rewrite(&path, &damaged, block, change);
        let error = Model::open(&damaged, Default::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format, "{block}: {error}");
        // A wrong number of targets shows where offsets end.
        let place = if block == "path.5.targets" {
            "path.5.fans"
        } else {
            block
        };
        assert!(error.to_string().contains(place), "{block}: {error}");
    }
    let container = Container::open(&path, Default::default()).unwrap();
    for missing in container
        .blocks()
        .iter()
        .filter(|block| block.name.starts_with("path."))
    {
        let damaged = folder.path().join("missing.bril");
        let mut writer = Writer::create(&damaged, container.metadata().clone()).unwrap();
        for stored in container
            .blocks()
            .iter()
            .filter(|block| block.name != missing.name)
        {
            let bytes: &[u8] = stored.bytes();
            writer
                .values(&stored.name, stored.element, &stored.shape, bytes)
                .unwrap();
        }
        writer.finish().unwrap();
        let error = Model::open(&damaged, Default::default()).unwrap_err();
        assert!(
            error.to_string().contains(&missing.name),
            "{}: {error}",
            missing.name
        );
    }
}

#[test]
fn models_without_walks_have_no_blocks_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bril");
    model_of(untrained(graph_of(&text(1, 500))))
        .save(&path)
        .unwrap();
    let container = Container::open(&path, Default::default()).unwrap();
    assert!(
        container
            .blocks()
            .iter()
            .all(|block| !block.name.starts_with("path."))
    );
}

#[test]
fn traces_name_the_walks_of_each_candidate() {
    let train = text(1, 3000);
    let model = model_of(untrained(with_paths(&train, &PathSettings::whole(4))));
    let engine = Engine::from(&model);
    let prompt = train[100..110].to_vec();
    let request = || {
        TraceRequest::new(prompt.clone())
            .tokens(3)
            .candidates(NODES)
    };
    let trace = Tracing::begin(&engine, request(), &Hooks::default())
        .unwrap()
        .collect()
        .unwrap();
    assert_eq!(trace.model.order, Some(4));
    let mut tokens = prompt.clone();
    let mut named = 0;
    for step in &trace.steps {
        for candidate in &step.candidates {
            for walk in &candidate.walks {
                assert!(tokens.ends_with(&walk.nodes), "{:?}", walk.nodes);
                let gram = [&walk.nodes[..], &[candidate.id]].concat();
                let count = train.windows(gram.len()).filter(|&one| one == gram).count();
                assert_eq!(walk.count as usize, count, "{gram:?}");
                named += 1;
            }
        }
        tokens.push(step.chosen);
    }
    assert!(named > 0, "no candidate has a walk");
    let engine = engine.with_order(Some(2)).unwrap();
    let trace = Tracing::begin(&engine, request(), &Hooks::default())
        .unwrap()
        .collect()
        .unwrap();
    let steps = trace.steps.iter();
    let mut candidates = steps.flat_map(|step| &step.candidates);
    assert!(candidates.all(|candidate| candidate.walks.is_empty()));
}

#[test]
fn the_walk_of_a_continued_sequence_runs_across_batches() {
    let text: Vec<u32> = (0..400).collect();
    for steps in [1, 2, 8] {
        let batch = |reset, index| {
            let sampler = BatchSampler::new(1, text.len(), steps, 4, 100, 3).streams(reset);
            sampler.batch(&text, index, &mut Default::default())
        };
        let (first, second, anew) = (batch(0.0, 0), batch(0.0, 1), batch(1.0, 1));
        // A sequence begins anew where a block of the text begins.
        assert!(second.continued.contains(&true), "{steps} steps");
        for stream in (0..4).filter(|&stream| second.continued[stream]) {
            let start = first.sequence(stream)[0];
            assert_eq!(first.walk(stream, 0), [start], "{steps} steps");
            // The second batch continues where the first ended, and knows up to three tokens before.
            let start = start + steps as u32;
            assert_eq!(second.sequence(stream)[0], start);
            let known = 3.min(steps as u32);
            let expected: Vec<u32> = (start - known..=start).collect();
            assert_eq!(second.walk(stream, 0), expected, "{steps} steps");
            assert_eq!(anew.walk(stream, 0), [start], "{steps} steps");
        }
    }
}
