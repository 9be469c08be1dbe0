//! Properties of arbitrary inputs: what is written is read back, sampling and charges follow their definitions.

use std::collections::BTreeMap;

use brillm::Engine;
use brillm::graph::export::{Export, ExportFormat};
use brillm::graph::{Subgraph, TokenGraph};
use brillm::hook::Hooks;
use brillm::kernel::element::Element;
use brillm::kernel::random::Random;
use brillm::kernel::table::Table;
use brillm::model::{Metadata, Model, Verify};
use brillm::path::{Charges, History, Sampling};
use brillm::run::trace::{Theme, Trace, TraceFormat, TraceRequest, Tracing};
use brillm::signal::{BlendKind, Mechanism, Profile, Weights, blocks};
use brillm::text::{Tokenizer, read_ids, write_ids};
use proptest::collection::vec;
use proptest::prelude::*;

/// Failures print their smallest case, which becomes a test; no files are written.
fn settings(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Edges of a graph of `nodes` nodes.
type Edges = Vec<(u32, u32, u32)>;

fn edges() -> impl Strategy<Value = (usize, Edges)> {
    (1usize..10).prop_flat_map(|nodes| {
        let node = 0..nodes as u32;
        let count = prop_oneof![1u32..5, Just(70_000), Just(u32::MAX)];
        (Just(nodes), vec((node.clone(), node, count), 0..30))
    })
}

fn profile() -> impl Strategy<Value = Profile> {
    let blend = prop_oneof![
        Just(BlendKind::Gated),
        Just(BlendKind::Decay),
        Just(BlendKind::Position)
    ];
    let ranks = (0usize..3, proptest::option::of(0usize..3));
    (1usize..6, 0usize..4, blend, 1usize..3, ranks).prop_map(
        |(width, form, blend, banks, ranks)| {
            let mut profile = match form {
                0 => Profile::reference(width),
                1 => Profile::sifu_own(width),
                2 => Profile::layered(width),
                _ => Profile::sifu(width),
            };
            // Layered edges are always gated.
            let blend = match form {
                2 => BlendKind::Gated,
                _ => blend,
            };
            profile.blend = blend;
            profile.banks = if blend == BlendKind::Position {
                1
            } else {
                banks
            };
            profile.positions = 9;
            if form == 3 {
                (profile.rank, profile.residual) = ranks;
            }
            profile
        },
    )
}

/// A model with random weights, its rows stored as `element`.
fn model(profile: &Profile, nodes: usize, edges: &Edges, element: Element, seed: u64) -> Model {
    let mut graph = TokenGraph::from_edges(nodes, edges).unwrap();
    graph.set_own_minimum(2);
    let mut random = Random::new(seed);
    let weights = Weights::gather(profile, nodes, graph.own_edges(), |shape| {
        let count = shape.rows * shape.columns;
        let values: Vec<f32> = (0..count).map(|_| 0.3 * random.normal() as f32).collect();
        Ok(Some(Table::of(&values, shape.rows, shape.columns)))
    });
    let metadata = Metadata {
        name: "arbitrary".into(),
        license: "none".into(),
        profile: profile.clone(),
        own_minimum: 2,
        direction: Default::default(),
        charges: (seed % 2 == 0).then(|| "0.9,0.5,0.25,1".parse().unwrap()),
        recall: (seed % 3 == 0).then(|| "40,12,0.25,0.5".parse().unwrap()),
        training: serde_json::json!({ "seed": seed }),
    };
    let tokens = (0..nodes).map(|node| char::from(b'a' + node as u8).to_string());
    let tokenizer = Tokenizer::characters(tokens.collect()).unwrap();
    let mechanism = Mechanism::new(profile.clone(), graph, weights.unwrap()).unwrap();
    let model = Model::new(metadata, tokenizer, mechanism).unwrap();
    model.quantized(element).unwrap()
}

proptest! {
    #![proptest_config(settings(48))]

    #[test]
    fn a_model_file_is_read_as_it_was_written(
        profile in profile(),
        (nodes, edges) in edges(),
        element in prop_oneof![Just(Element::F32), Just(Element::F16), Just(Element::I8)],
        seed in any::<u64>(),
    ) {
        let model = model(&profile, nodes, &edges, element, seed);
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a.bril"), folder.path().join("b.bril"));
        model.save(&first).unwrap();
        for verify in [Verify::Lazy, Verify::Touched, Verify::Whole] {
            let read = Model::open(&first, verify).unwrap();
            prop_assert_eq!(read.metadata(), model.metadata());
            prop_assert_eq!(read.tokenizer().to_bytes(), model.tokenizer().to_bytes());
            let (ours, theirs) = (model.mechanism(), read.mechanism());
            prop_assert_eq!(ours.graph().rows(), theirs.graph().rows());
            prop_assert_eq!(ours.graph().targets(), theirs.graph().targets());
            prop_assert_eq!(ours.graph().counts(), theirs.graph().counts());
            prop_assert_eq!(ours.graph().edge_rows(), theirs.graph().edge_rows());
            for shape in blocks(&profile, nodes, ours.graph().own_edges()) {
                if shape.narrows {
                    let (ours, theirs) = (ours.weights().table(shape.name), theirs.weights().table(shape.name));
                    prop_assert_eq!(&ours.bytes()[..], &theirs.bytes()[..], "block {}", shape.name);
                    prop_assert_eq!(ours.to_vec(), theirs.to_vec(), "block {}", shape.name);
                } else {
                    let (ours, theirs) = (ours.weights().values(shape.name), theirs.weights().values(shape.name));
                    prop_assert_eq!(ours, theirs, "block {}", shape.name);
                }
            }
            read.save(&second).unwrap();
            prop_assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
        }
    }

    #[test]
    fn a_trace_is_read_as_it_was_written(
        (nodes, edges) in edges(),
        prompt in vec(any::<u32>(), 1..5),
        tokens in 0usize..4,
        candidates in 1usize..6,
        temperature in prop_oneof![Just(0.0f32), 0.1f32..3.0],
        title in any::<String>(),
    ) {
        let model = model(&Profile::sifu(3), nodes, &edges, Element::F32, 4);
        let prompt = prompt.iter().map(|token| token % nodes as u32).collect();
        let request = TraceRequest::new(prompt)
            .tokens(tokens)
            .candidates(candidates)
            .sampling(Sampling::default().temperature(temperature).seed(3));
        let mut trace = Tracing::begin(&Engine::from(&model), request, &Hooks::default()).unwrap().collect().unwrap();
        trace.annotations.title = title;
        for format in [TraceFormat::Json, TraceFormat::Svg] {
            let written = trace.export(format, Theme::Light).unwrap();
            prop_assert_eq!(&Trace::read(&written).unwrap(), &trace, "{:?}", format);
        }
    }
}

/// What an XML parser finds for text whose control characters were made visible.
fn shown(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\t' | '\n' | '\r' => character.to_string(),
            '\0'..='\u{1f}' => char::from_u32(0x2400 + character as u32)
                .unwrap()
                .to_string(),
            '\u{7f}' => "\u{2421}".to_string(),
            '\u{80}'..='\u{9f}' | '\u{fdd0}'..='\u{fdef}' => {
                format!("\\u{{{:x}}}", character as u32)
            }
            // The last two of every plane.
            _ if character as u32 & 0xfffe == 0xfffe => format!("\\u{{{:x}}}", character as u32),
            _ => character.to_string(),
        })
        .collect()
}

proptest! {
    #![proptest_config(settings(200))]

    #[test]
    fn graphml_holds_the_graph(
        (nodes, edges) in edges(),
        labels in vec(any::<String>(), 10),
    ) {
        let graph = TokenGraph::from_edges(nodes, &edges).unwrap();
        let whole = Subgraph::whole(&graph);
        let label = |node: u32| labels[node as usize].clone();
        let mut file = Vec::new();
        Export::new(&whole, &label).write(ExportFormat::GraphMl, &mut file).unwrap();
        let file = String::from_utf8(file).unwrap();
        let document = roxmltree::Document::parse(&file).unwrap();
        let of = |name: &'static str| document.descendants().filter(move |node| node.has_tag_name(name));
        let data = |node: roxmltree::Node<'_, '_>, key: &str| {
            let mut all = node.children().filter(|child| child.attribute("key") == Some(key));
            all.next().map(|data| data.text().unwrap_or_default().to_string())
        };
        let found: Vec<Option<String>> = of("node").map(|node| data(node, "label")).collect();
        let expected: Vec<Option<String>> = labels[..nodes].iter().map(|label| Some(shown(label))).collect();
        prop_assert_eq!(found, expected);
        let found: BTreeMap<(String, String), String> = of("edge")
            .map(|edge| {
                let end = |name| edge.attribute(name).unwrap().to_string();
                ((end("source"), end("target")), data(edge, "count").unwrap())
            })
            .collect();
        let expected: BTreeMap<(String, String), String> = whole
            .walk()
            .map(|(edge, source, target)| {
                ((source.to_string(), target.to_string()), graph.counts()[edge.index()].to_string())
            })
            .collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn ids_are_read_as_they_were_written(ids in vec(any::<u32>(), 0..50), vocabulary in 1usize..100_000) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write_ids(&path("wide.u32"), &ids).unwrap();
        prop_assert_eq!(&read_ids(&path("wide.u32"), None).unwrap(), &ids);
        let within = ids.iter().all(|&id| (id as usize) < vocabulary);
        prop_assert_eq!(read_ids(&path("wide.u32"), Some(vocabulary)).is_ok(), within);
        let narrow: Vec<u32> = ids.iter().map(|id| id % 65_536).collect();
        write_ids(&path("narrow.u16"), &narrow).unwrap();
        prop_assert_eq!(&read_ids(&path("narrow.u16"), None).unwrap(), &narrow);
        prop_assert_eq!(write_ids(&path("ids.u16"), &ids).is_ok(), narrow == ids);
    }

    #[test]
    fn sampling_draws_from_its_definition(
        mut logits in vec(prop_oneof![5 => -6.0f32..6.0, 1 => Just(f32::NEG_INFINITY), 1 => Just(1.5f32)], 1..40),
        temperature in 0.1f32..4.0,
        top_k in 0usize..45,
        top_p in prop_oneof![Just(1.0f32), 0.01f32..1.0],
        min_p in prop_oneof![Just(0.0f32), 0.0f32..1.0],
        banned in vec(0u32..50, 0..4),
        recent in vec(0u32..40, 0..4),
        penalty in prop_oneof![Just(1.0f32), 0.5f32..3.0],
        seed in any::<u64>(),
    ) {
        let nodes = logits.len();
        let recent: Vec<u32> = recent.into_iter().filter(|&node| (node as usize) < nodes).collect();
        let sampling = Sampling::default().temperature(temperature).top_k(top_k).top_p(top_p).min_p(min_p)
            .repetition_penalty(penalty, 9).banned(banned.clone()).seed(seed);
        sampling.check().unwrap();
        // Penalties, then the softmax at the temperature, in f64.
        let logit = |node: usize| {
            let penalised = recent.contains(&(node as u32));
            let logit = f64::from(logits[node]) - if penalised { f64::from(penalty).ln() } else { 0.0 };
            if banned.contains(&(node as u32)) { f64::NEG_INFINITY } else { logit }
        };
        let scaled: Vec<f64> = (0..nodes).map(|node| logit(node) / f64::from(temperature)).collect();
        let top = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scaled.iter().map(|logit| (logit - top).exp()).sum();
        let p: Vec<f64> = scaled.iter().map(|logit| (logit - top).exp() / sum).collect();
        let history = History { recent: &recent, ..History::default() };
        let chosen = sampling.choose(&mut logits, &history, &mut Random::new(seed));
        if top == f64::NEG_INFINITY {
            prop_assert!(!matches!(chosen, Ok(Some(_))), "{chosen:?} of nothing");
            return Ok(());
        }
        let chosen = chosen.unwrap().unwrap() as usize;
        let kept: Vec<usize> = (0..nodes).filter(|&node| logits[node] > 0.0).collect();
        prop_assert!(kept.contains(&chosen));
        let (best, near) = (p.iter().copied().fold(0.0, f64::max), 1e-4);
        let least = kept.iter().map(|&node| p[node]).fold(f64::INFINITY, f64::min);
        for node in 0..nodes {
            if kept.contains(&node) {
                // Truncation does not change the probabilities of what it keeps.
                prop_assert!((f64::from(logits[node]) - p[node]).abs() < near);
            } else {
                // No excluded token is more probable than a kept one.
                prop_assert!(p[node] <= least + near, "{} is left out, {least} is kept", p[node]);
            }
        }
        prop_assert!(least >= best * f64::from(min_p) - near);
        prop_assert!(top_k == 0 || kept.len() <= top_k);
        // Top-p counts in what top-k and min-p leave.
        let mut left: Vec<f64> = p.iter().copied().filter(|&p| p > 0.0 && p >= best * f64::from(min_p) - near * 1e-2).collect();
        left.sort_by(|a, b| b.total_cmp(a));
        left.truncate(if top_k == 0 { nodes } else { top_k });
        let wanted = f64::from(top_p) * left.iter().sum::<f64>();
        let mass: f64 = kept.iter().map(|&node| p[node]).sum();
        prop_assert!(mass >= wanted - 1e-3, "{mass} is kept of {wanted}");
        prop_assert!(mass - least <= wanted + 1e-3 || kept.len() == 1, "{mass} is more than needed for {wanted}");
    }

    #[test]
    fn charges_are_sums_of_decayed_visits(
        decay in 0.01f64..0.99,
        strengths in (-2.0f32..2.0, -2.0f32..2.0),
        scale in 0.1f32..3.0,
        hops in vec(0u32..6, 1..60),
    ) {
        let mut charges = Charges::new(decay, strengths.0, strengths.1, scale);
        for hop in hops.windows(2) {
            charges.visit(hop[0], hop[1]);
        }
        let source = hops[hops.len() - 1];
        let mut logits = vec![0.0; 6];
        charges.apply(source, &mut logits);
        let charge = |fits: &dyn Fn(&[u32]) -> bool| -> f64 {
            let visits = hops.windows(2).rev().enumerate();
            visits.filter(|(_, hop)| fits(hop)).map(|(age, _)| decay.powi(age as i32)).sum()
        };
        for (node, found) in logits.iter().enumerate() {
            let node = node as u32;
            let pull = |charge: f64| (charge / f64::from(scale)).ln_1p();
            let of_node = pull(charge(&|hop| hop[1] == node));
            let of_edge = pull(charge(&|hop| hop == [source, node]));
            let expected = f64::from(strengths.0) * of_node + f64::from(strengths.1) * of_edge;
            prop_assert!((f64::from(*found) - expected).abs() < 1e-4, "{found}, not {expected}");
        }
    }
}
