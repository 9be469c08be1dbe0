//! The trace says what happened: contributions add up, interventions do what they predict, documents come back.

use std::path::Path;
use std::sync::Arc;

use brillm::graph::{NodeId, TokenGraph};
use brillm::hook::Hooks;
use brillm::kernel::random::Random;
use brillm::kernel::table::Table;
use brillm::model::{Metadata, Model};
use brillm::path::{GraphSession, Sampling, Session, SessionOptions};
use brillm::run::Engine;
use brillm::run::trace::{
    Comparison, EdgeKind, EntryKind, FanLook, FanRequest, Intervention, SCHEMA, Theme, Trace,
    TraceFinish, TraceFormat, TraceRequest, Tracing,
};
use brillm::signal::{
    BlendKind, ContributionSource, EdgeForm, EnergyKind, Mechanism, PositionOffset, Profile, Start,
    Weights,
};
use brillm::text::Tokenizer;
use serde_json::Value;

const NODES: usize = 40;

/// A profile with random weights over a random graph, half of whose edges own parameters.
fn mechanism(profile: Profile, seed: u64) -> Arc<Mechanism> {
    let mut random = Random::new(seed);
    let edges: Vec<(u32, u32, u32)> = (0..NODES as u32)
        .flat_map(|source| {
            (0..12).map(move |place| (source, (source * 7 + place * 3) % NODES as u32))
        })
        .map(|(source, target)| (source, target, 1 + random.below(4) as u32))
        .collect();
    let mut graph = TokenGraph::from_edges(NODES, &edges).unwrap();
    graph.set_own_minimum(3);
    let weights = Weights::gather(&profile, NODES, graph.own_edges(), |shape| {
        let scale = match shape.name {
            "scalars" => 0.1,
            "edge.arena" => 0.3,
            _ => 0.5,
        };
        let values: Vec<f32> = (0..shape.rows * shape.columns)
            .map(|_| (scale * random.normal()) as f32)
            .collect();
        Ok(Some(Table::of(&values, shape.rows, shape.columns)))
    })
    .unwrap();
    Arc::new(Mechanism::new(profile, graph, weights).unwrap())
}

fn profiles() -> Vec<(&'static str, Profile)> {
    let sifu = || Profile::sifu(8);
    let own = || Profile::sifu_own(8);
    vec![
        ("reference", Profile::reference(8)),
        (
            "reference, training's offset",
            Profile {
                offset: PositionOffset::Train,
                ..Profile::reference(8)
            },
        ),
        ("sifu", sifu()),
        ("sifu, low rank", Profile { rank: 3, ..sifu() }),
        (
            "sifu, residual",
            Profile {
                rank: 2,
                residual: Some(3),
                ..sifu()
            },
        ),
        (
            "sifu, residual bias",
            Profile {
                residual: Some(0),
                ..sifu()
            },
        ),
        (
            "sifu, decay",
            Profile {
                blend: BlendKind::Decay,
                ..sifu()
            },
        ),
        (
            "sifu, position",
            Profile {
                blend: BlendKind::Position,
                banks: 1,
                ..sifu()
            },
        ),
        ("own, gated", own()),
        (
            "own, decay, norm",
            Profile {
                blend: BlendKind::Decay,
                energy: EnergyKind::Norm,
                ..own()
            },
        ),
    ]
}

fn gelu(x: f64) -> f64 {
    brillm::kernel::activation::reference(x).0
}

#[test]
fn contributions_add_up_to_every_edges_preactivation() {
    let mut worst: f64 = 0.0;
    for (name, profile) in profiles() {
        let mechanism = mechanism(profile.clone(), 11);
        let mut random = Random::new(5);
        let options = SessionOptions {
            attribution: true,
            ..SessionOptions::default()
        };
        let mut session = GraphSession::begin_with(
            mechanism.clone(),
            &[3],
            &Start::Profile,
            Sampling::greedy(),
            options,
        )
        .unwrap();
        let mut path = vec![3u32];
        let (mut own, mut shared) = (0, 0);
        for step in 0..40 {
            let energies = session.look().unwrap().0.to_vec();
            let source = session.flow().node;
            // All edges: those with parameters of their own, those walked, those never walked.
            for target in 0..NODES as u32 {
                let edge = mechanism.graph().edge(NodeId(source), NodeId(target));
                match edge.is_some_and(|edge| mechanism.graph().edge_rows()[edge.index()] > 0) {
                    true => own += 1,
                    false => shared += 1,
                }
                let split = session.split(target).unwrap();
                let norm = split.norm();
                let scale = norm.max(1.0);
                for (place, &z) in split.preactivation.iter().enumerate() {
                    let sum: f64 = split
                        .contributions
                        .iter()
                        .map(|term| term.vector[place])
                        .sum();
                    let off = (sum - f64::from(z)).abs() / scale;
                    worst = worst.max(off);
                    assert!(
                        off < 1e-5,
                        "{name}, step {step}, target {target}: {sum} for {z}"
                    );
                }
                let values: f64 = split.values().iter().sum();
                assert!(
                    (values - norm).abs() < 1e-5 * scale,
                    "{name}: {values} for {norm}"
                );
                // What was split is what the energy is made of.
                let z = split.preactivation.iter().map(|&z| f64::from(z));
                let square: f64 = match profile.form {
                    EdgeForm::Own => z.map(|z| gelu(z).powi(2)).sum(),
                    EdgeForm::Composed => z.map(|z| z * z).sum(),
                };
                let energy = match profile.energy {
                    EnergyKind::Norm => square.sqrt(),
                    EnergyKind::Squared => square,
                };
                let found = f64::from(energies[target as usize]);
                assert!(
                    (energy - found).abs() < 1e-4 * energy.max(1.0),
                    "{name}, step {step}, target {target}: energy {found}, not {energy}"
                );
                // Every contribution names a token of the path, at its position.
                for contribution in &split.contributions {
                    if let ContributionSource::Token { position, node } = contribution.source {
                        assert_eq!(path[position], node, "{name}, step {step}");
                    }
                }
            }
            let next = random.below(NODES as u64) as u32;
            session.force(next).unwrap();
            path.push(next);
        }
        assert!(
            own > 100 && shared > 100,
            "{name}: {own} own, {shared} shared"
        );
    }
    println!("largest distance of a sum from its pre-activation: {worst:.1e}");
}

/// Where gates do not depend on content, taking the last token's signal away takes exactly its contribution away.
#[test]
fn a_muted_signal_is_missed_by_its_contribution() {
    for (name, profile) in profiles() {
        if profile.blend == BlendKind::Gated {
            continue;
        }
        let mechanism = mechanism(profile, 23);
        let path = [5u32, 9, 1, 9, 30];
        let begin = |gain: f32| {
            let options = SessionOptions {
                attribution: true,
                gains: [(4, gain)].into(),
                ..SessionOptions::default()
            };
            let start = Start::Profile;
            let sampling = Sampling::greedy();
            GraphSession::begin_with(mechanism.clone(), &path, &start, sampling, options).unwrap()
        };
        let (whole, muted) = (begin(1.0), begin(0.0));
        for target in [0u32, 3, 17, 30] {
            let (whole, muted) = (whole.split(target).unwrap(), muted.split(target).unwrap());
            let last = whole
                .contributions
                .iter()
                .find(|term| matches!(term.source, ContributionSource::Token { position: 4, .. }))
                .unwrap();
            for (place, part) in last.vector.iter().enumerate() {
                let missed =
                    f64::from(whole.preactivation[place]) - f64::from(muted.preactivation[place]);
                assert!(
                    (missed - part).abs() < 1e-5 * whole.norm().max(1.0),
                    "{name}, target {target}: {missed} is missed of {part}"
                );
            }
        }
    }
}

fn english() -> Engine {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/english.bril");
    Engine::open(&path, Default::default()).unwrap()
}

fn chinese() -> Engine {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/chinese.bril");
    Engine::open(&path, Default::default()).unwrap()
}

fn transformer() -> Engine {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/stories260K");
    Engine::open(&path, Default::default()).unwrap()
}

fn traced(engine: &Engine, text: &str, change: impl FnOnce(TraceRequest) -> TraceRequest) -> Trace {
    let request = change(TraceRequest::new(engine.encode(text).unwrap()).tokens(6));
    Tracing::begin(engine, request, &Hooks::default())
        .unwrap()
        .collect()
        .unwrap()
}

#[test]
fn a_trace_is_the_generation_looked_at() {
    for engine in [english(), transformer()] {
        let sampling = Sampling::default().temperature(0.8).top_p(0.95).seed(7);
        let trace = traced(&engine, "Once upon a time", |request| {
            request.sampling(sampling.clone()).ignore_eos(true)
        });
        trace.check().unwrap();
        let request = brillm::Request::ids(trace.ids()[..trace.prompt_tokens].to_vec())
            .tokens(6)
            .ignore_eos(true)
            .sampling(sampling);
        let ids = engine.start(request).unwrap().collect_text().unwrap().1;
        assert_eq!(trace.ids()[trace.prompt_tokens..], ids);
        assert_eq!(trace.finish, Some(TraceFinish::Length));
        assert_eq!(trace.steps.len(), 6);
        for (step, pair) in trace
            .steps
            .iter()
            .zip(trace.ids()[trace.prompt_tokens - 1..].windows(2))
        {
            assert_eq!([step.source, step.chosen], [pair[0], pair[1]]);
            let ranks: Vec<usize> = step.candidates.iter().map(|one| one.rank).collect();
            assert_eq!(ranks[..24], (1..=24).collect::<Vec<_>>()[..]);
            let listed: f64 = step
                .candidates
                .iter()
                .map(|one| f64::from(one.probability))
                .sum();
            assert!((listed + step.rest.probability - 1.0).abs() < 1e-5);
            assert_eq!(
                step.candidates.len() + step.rest.count,
                trace.model.vocabulary
            );
            let (first, second) = (&step.candidates[0], &step.candidates[1]);
            let margin = f64::from(first.probability / second.probability).ln();
            assert!((step.margin.unwrap() - margin).abs() < 1e-3);
            let chosen = step.candidates.iter().find(|one| one.id == step.chosen);
            let resistance = -f64::from(chosen.unwrap().probability).ln();
            assert!((step.resistance.unwrap() - resistance).abs() < 1e-3);
            match &engine {
                Engine::Graph(_) => {
                    let split = step.contributions.as_ref().unwrap();
                    let sum: f64 = split.entries.iter().map(|entry| entry.value).sum();
                    assert!((sum - split.norm).abs() < 1e-5 * split.norm.max(1.0));
                    let tokens = split.entries.iter().filter(|e| e.kind == EntryKind::Token);
                    assert_eq!(tokens.count(), step.position);
                    assert!(step.candidates[0].edge.is_some() && step.attention.is_none());
                }
                Engine::Transformer(model) => {
                    let attention = step.attention.as_ref().unwrap();
                    assert_eq!(attention.len(), model.configuration().layers);
                    for layer in attention {
                        assert_eq!(layer.weights.len(), step.position);
                        let sum: f32 = layer.weights.iter().flatten().sum();
                        assert!((sum - 1.0).abs() < 1e-4, "{sum}");
                    }
                    let cache = step.cache.as_ref().unwrap();
                    assert_eq!(cache, &vec![step.position; attention.len()]);
                    assert!(step.contributions.is_none());
                }
            }
        }
    }
}

/// Entropy by the definition, over all candidates.
#[test]
fn entropy_is_that_of_the_whole_distribution() {
    let trace = traced(&english(), "Once", |request| {
        request.tokens(2).candidates(usize::MAX)
    });
    for step in &trace.steps {
        let entropy: f64 = step
            .candidates
            .iter()
            .map(|one| f64::from(one.probability))
            .filter(|&p| p > 0.0)
            .map(|p| -p * p.ln())
            .sum();
        assert!((entropy - step.entropy).abs() < 1e-4 * entropy);
        assert_eq!(step.rest.count, 0);
    }
}

#[test]
fn interventions_do_what_they_predict() {
    for engine in [english(), transformer()] {
        let plain = traced(&engine, "Once upon a time", |request| request);
        let first = &plain.steps[0];
        let (best, second) = (&first.candidates[0], &first.candidates[1]);
        let with = |one: Intervention| {
            traced(&engine, "Once upon a time", |request| {
                request.intervene([one])
            })
        };
        let of = |trace: &Trace, id: u32| {
            let found = trace.steps[0].candidates.iter().find(|one| one.id == id);
            found.map_or(0.0, |one| f64::from(one.probability))
        };
        // A factor on odds: p' = f p / (1 + (f − 1) p).
        for factor in [0.25f32, 4.0] {
            let p = f64::from(second.probability);
            let expected = f64::from(factor) * p / (1.0 + (f64::from(factor) - 1.0) * p);
            let edge = with(Intervention::ScaleEdge {
                source: first.source,
                target: second.id,
                factor,
            });
            let node = with(Intervention::ScaleNode {
                node: second.id,
                factor,
            });
            for trace in [&edge, &node] {
                let found = of(trace, second.id);
                assert!((found - expected).abs() < 1e-4, "{found} for {expected}");
            }
        }
        let muted = with(Intervention::MuteNode { node: best.id });
        assert!(!muted.steps.iter().any(|step| step.chosen == best.id));
        assert_eq!(of(&muted, best.id), 0.0);
        assert_eq!(muted.steps[0].chosen, second.id);
        let closed = with(Intervention::MuteEdge {
            source: first.source,
            target: best.id,
        });
        assert_eq!(closed.steps[0].chosen, second.id);
        let forced = with(Intervention::Force {
            step: 2,
            node: second.id,
        });
        assert_eq!(
            forced.ids()[..plain.prompt_tokens + 2],
            plain.ids()[..plain.prompt_tokens + 2]
        );
        assert!(forced.steps[2].forced && forced.steps[2].chosen == second.id);
        let compared = Comparison::of(&plain, &forced);
        assert_eq!(compared.first_divergence, Some(2));
        assert!(
            compared.rows[2]
                .a_in_b
                .is_some_and(|standing| standing.rank == 1)
        );
        let lit = with(Intervention::Inject {
            step: 1,
            node: second.id,
            energy: 1e6,
        });
        assert_eq!(lit.steps[1].chosen, second.id);
        assert_eq!(lit.steps[0], plain.steps[0]);
        let silenced = Tracing::begin(
            &engine,
            TraceRequest::new(engine.encode("Once upon a time").unwrap())
                .intervene([Intervention::MuteSignal { position: 1 }]),
            &Hooks::default(),
        );
        match &engine {
            Engine::Graph(_) => {
                let silenced = silenced.unwrap().collect().unwrap();
                let split = silenced.steps[0].contributions.as_ref().unwrap();
                let part = split.entries.iter().find(|entry| entry.position == Some(1));
                assert_eq!((part.unwrap().value, part.unwrap().norm), (0.0, 0.0));
                assert_ne!(
                    silenced.steps[0].candidates[0].probability,
                    best.probability
                );
            }
            Engine::Transformer(_) => {
                assert!(silenced.is_err());
            }
        }
        for (wrong, said) in [
            (
                r#"{"kind":"mute_node","node":99999999}"#,
                "outside the vocabulary",
            ),
            (
                r#"{"kind":"scale_node","node":3,"factor":-1}"#,
                "cannot be multiplied",
            ),
        ] {
            let wrong: Intervention = serde_json::from_str(wrong).unwrap();
            let request = TraceRequest::new(vec![3]).intervene([wrong]);
            let error = Tracing::begin(&engine, request, &Hooks::default())
                .err()
                .unwrap();
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}

#[test]
fn any_candidates_contributions_are_those_of_its_step() {
    let engine = english();
    let trace = traced(&engine, "Once upon a time", |request| request);
    let step = &trace.steps[3];
    let look = FanLook::of(
        &engine,
        &FanRequest {
            tokens: trace.ids()[..step.position].to_vec(),
            prompt_tokens: Some(trace.prompt_tokens),
            candidates: 24,
            targets: vec![step.chosen, 2],
            vectors: true,
            ..FanRequest::default()
        },
        &Hooks::default(),
    )
    .unwrap();
    assert_eq!(look.candidates[..24], step.candidates[..24]);
    assert_eq!((look.source, look.entropy), (step.source, step.entropy));
    let (found, known) = (&look.contributions[0], step.contributions.as_ref().unwrap());
    assert_eq!(found.norm, known.norm);
    assert!(
        found
            .entries
            .iter()
            .zip(&known.entries)
            .all(|(a, b)| a.value == b.value)
    );
    let z = found.preactivation.as_ref().unwrap();
    for (place, &z) in z.iter().enumerate() {
        let parts = found
            .entries
            .iter()
            .map(|entry| entry.vector.as_ref().unwrap()[place]);
        assert!((parts.sum::<f64>() - f64::from(z)).abs() < 1e-5 * found.norm.max(1.0));
    }
    assert_eq!(look.contributions[1].target, 2);
    assert!(look.candidates.iter().any(|one| one.id == 2));
}

#[test]
fn documents_fit_their_schema() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let validate = |value: &Value| {
        let mut faults = Vec::new();
        validate(&schema, &schema, value, "", &mut faults);
        faults
    };
    let mut traces = vec![
        traced(&english(), "Once upon a time", |request| {
            request.intervene([
                Intervention::MuteNode { node: 40 },
                Intervention::ScaleSignal {
                    position: 1,
                    factor: 0.5,
                },
                Intervention::Inject {
                    step: 0,
                    node: 5,
                    energy: 0.5,
                },
            ])
        }),
        traced(&chinese(), "龙的☃", |request| request),
        traced(&transformer(), "Once", |request| request),
    ];
    // A model that fills in masks, given one to fill in.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/transformer/bert-random");
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        source.join("model.safetensors"),
        folder.path().join("model.safetensors"),
    )
    .unwrap();
    let json = std::fs::read_to_string(source.join("config.json")).unwrap();
    let mut shape: Value = serde_json::from_str(&json).unwrap();
    shape["mask_token_id"] = 4.into();
    std::fs::write(folder.path().join("config.json"), shape.to_string()).unwrap();
    let bert = Engine::open(folder.path(), Default::default()).unwrap();
    let request = TraceRequest::new(vec![5, 6, 7]).tokens(2);
    traces.push(
        Tracing::begin(&bert, request, &Hooks::default())
            .unwrap()
            .collect()
            .unwrap(),
    );
    traces[0].annotations = serde_json::from_str(
        r#"{"title":"t","notes":"n","pins":[{"step":0,"node":1}],"groups":[{"name":"g","members":[{"step":1,"node":2}]}]}"#,
    )
    .unwrap();
    for trace in &traces {
        let value: Value = serde_json::from_str(&trace.to_json().unwrap()).unwrap();
        let faults = validate(&value);
        assert!(faults.is_empty(), "{}: {faults:?}", trace.model.name);
    }
    // The schema is one that refuses.
    let whole: Value = serde_json::from_str(&traces[0].to_json().unwrap()).unwrap();
    for (place, value) in [
        ("/steps/0/candidates/0/rank", Value::from(0)),
        ("/steps/0/candidates/0/edge", "none".into()),
        ("/steps/0/entropy", "1".into()),
        ("/model/sha256", "xyz".into()),
        ("/schema", "brillm-trace/2".into()),
        ("/finish", "tired".into()),
        ("/steps/0/contributions/entries/0/kind", "other".into()),
        ("/annotations", serde_json::json!({"title": ""})),
        (
            "/tokens/0",
            serde_json::json!({"id": 1, "text": "", "bytes_hex": "", "display": "", "more": 1}),
        ),
    ] {
        let mut broken = whole.clone();
        *broken.pointer_mut(place).unwrap() = value;
        assert!(!validate(&broken).is_empty(), "{place}");
    }
}

/// The part of JSON Schema 2020-12 that the schema is written in; any other keyword is a fault of the schema.
fn validate(root: &Value, schema: &Value, value: &Value, place: &str, faults: &mut Vec<String>) {
    let mut fault = |what: String| faults.push(format!("{place}: {what}"));
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("type {other}"),
    };
    let known = schema.as_object().unwrap();
    for (keyword, given) in known {
        match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" => {}
            "type" => {
                let fits = match given {
                    Value::Array(names) => names.iter().any(|name| is(name.as_str().unwrap())),
                    name => is(name.as_str().unwrap()),
                };
                if !fits {
                    fault(format!("{value} is no {given}"));
                }
            }
            "const" if value != given => fault(format!("{value} is not {given}")),
            "enum" if !given.as_array().unwrap().contains(value) => {
                fault(format!("{value} is none of {given}"));
            }
            "minimum" if value.as_f64().is_some_and(|v| v < given.as_f64().unwrap()) => {
                fault(format!("{value} is less than {given}"));
            }
            "maximum" if value.as_f64().is_some_and(|v| v > given.as_f64().unwrap()) => {
                fault(format!("{value} is more than {given}"));
            }
            "pattern" => {
                let fits: fn(&str) -> bool = match given.as_str().unwrap() {
                    "^[0-9a-f]{64}$" => |text| {
                        text.len() == 64 && text.bytes().all(|b| b"0123456789abcdef".contains(&b))
                    },
                    "^([0-9A-F]{2}( [0-9A-F]{2})*)?$" => |text| {
                        let pair = |pair: &str| {
                            pair.len() == 2
                                && pair.bytes().all(|b| b"0123456789ABCDEF".contains(&b))
                        };
                        text.is_empty() || text.split(' ').all(pair)
                    },
                    other => panic!("pattern {other}"),
                };
                if value.as_str().is_some_and(|text| !fits(text)) {
                    fault(format!("{value} does not fit {given}"));
                }
            }
            "required" => {
                for name in given.as_array().unwrap() {
                    if value.is_object() && value.get(name.as_str().unwrap()).is_none() {
                        fault(format!("{name} is missing"));
                    }
                }
            }
            "additionalProperties" => {
                assert_eq!(given, false);
                for name in value.as_object().into_iter().flat_map(|all| all.keys()) {
                    if known["properties"].get(name).is_none() {
                        fault(format!("{name} is not known"));
                    }
                }
            }
            "const" | "enum" | "minimum" | "maximum" => {}
            "properties" | "items" | "$ref" | "anyOf" => {}
            other => panic!("keyword {other}"),
        }
    }
    if let (Some(Value::Object(properties)), Some(all)) =
        (known.get("properties"), value.as_object())
    {
        for (name, own) in properties {
            if let Some(value) = all.get(name) {
                validate(root, own, value, &format!("{place}/{name}"), faults);
            }
        }
    }
    if let (Some(items), Some(all)) = (known.get("items"), value.as_array()) {
        for (number, value) in all.iter().enumerate() {
            validate(root, items, value, &format!("{place}/{number}"), faults);
        }
    }
    if let Some(Value::String(reference)) = known.get("$ref") {
        let own = root.pointer(reference.strip_prefix('#').unwrap()).unwrap();
        validate(root, own, value, place, faults);
    }
    if let Some(Value::Array(any)) = known.get("anyOf") {
        let fits = |schema: &Value| {
            let mut own = Vec::new();
            validate(root, schema, value, place, &mut own);
            own.is_empty()
        };
        if !any.iter().any(fits) {
            let mut own = Vec::new();
            validate(root, any.last().unwrap(), value, place, &mut own);
            faults.append(&mut own);
        }
    }
}

#[test]
fn exports_carry_the_path_and_come_back() {
    for (engine, text) in [(english(), "Once upon a time"), (chinese(), "春眠不☃")] {
        let mut trace = traced(&engine, text, |request| request);
        trace.annotations.notes = "<&\"]]> \u{1} 春\r\n".into();
        for theme in [Theme::Light, Theme::Dark] {
            let svg = trace.export(TraceFormat::Svg, theme).unwrap();
            let document = roxmltree::Document::parse(&svg).unwrap();
            let chosen: Vec<u32> = document
                .descendants()
                .filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "g")))
                .filter(|node| {
                    node.children().any(|child| {
                        child.has_tag_name(("http://www.w3.org/2000/svg", "rect"))
                            && child.attribute("stroke").is_some()
                    })
                })
                .map(|node| node.attribute("data-id").unwrap().parse().unwrap())
                .collect();
            assert_eq!(chosen, trace.ids()[trace.prompt_tokens..]);
            let back = Trace::read(&svg).unwrap();
            assert_eq!(back.steps, trace.steps);
            assert_eq!(back.tokens, trace.tokens);
            assert_eq!(back.annotations.notes, trace.annotations.notes);
        }
        let json = trace.export(TraceFormat::Json, Theme::Light).unwrap();
        assert_eq!(Trace::read(&json).unwrap(), trace);
        let candidates: usize = trace.steps.iter().map(|step| step.candidates.len()).sum();
        for format in [TraceFormat::GraphMl, TraceFormat::Gexf] {
            let xml = trace.export(format, Theme::Light).unwrap();
            let document = roxmltree::Document::parse(&xml).unwrap();
            let count = |name: &str| {
                let all = document.descendants();
                all.filter(|node| node.tag_name().name() == name).count()
            };
            assert_eq!((count("node"), count("edge")), (candidates + 1, candidates));
            let names: std::collections::BTreeSet<&str> = document
                .descendants()
                .filter(|node| node.tag_name().name() == "node")
                .map(|node| node.attribute("id").unwrap())
                .collect();
            assert_eq!(names.len(), candidates + 1);
            for edge in document
                .descendants()
                .filter(|node| node.tag_name().name() == "edge")
            {
                assert!(names.contains(edge.attribute("source").unwrap()));
                assert!(names.contains(edge.attribute("target").unwrap()));
            }
        }
        let dot = trace.export(TraceFormat::Dot, Theme::Light).unwrap();
        assert_eq!(dot.matches(" -> ").count(), candidates);
        let csv = trace.export(TraceFormat::Csv, Theme::Light).unwrap();
        assert_eq!(csv.lines().count(), candidates + 1);
        assert_eq!(csv.matches(",true\r\n").count(), trace.steps.len());
    }
    for (broken, said) in [
        ("", "not a trace"),
        ("{}", "not a trace"),
        ("<svg/>", "carries no trace"),
        ("\u{feff}<svg", "carries no trace"),
    ] {
        let error = Trace::read(broken).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let mut other = traced(&english(), "Once", |request| request);
    other.schema = "brillm-trace/9".into();
    let error = Trace::read(&other.to_json().unwrap()).unwrap_err();
    assert_eq!(error.kind(), brillm::ErrorKind::Version);
}

#[test]
fn pieces_of_characters_are_shown_with_what_they_make() {
    let engine = chinese();
    let trace = traced(&engine, "☃🐉龙", |request| request.tokens(1));
    let shown: String = trace.tokens[..trace.prompt_tokens]
        .iter()
        .filter(|token| token.text.is_none())
        .map(|token| token.joined.clone().unwrap())
        .collect();
    assert_eq!(shown, "☃☃☃🐉🐉🐉🐉");
    assert!(
        trace
            .tokens
            .iter()
            .all(|token| !token.display.contains('\u{fffd}'))
    );
}

/// Edges say what they are made of, as the graph has it.
#[test]
fn edges_are_own_seen_or_shared() {
    let profile = Profile::reference(8);
    let mechanism = mechanism(profile.clone(), 3);
    let metadata = Metadata {
        name: "made here".into(),
        license: "MIT".into(),
        profile,
        own_minimum: 3,
        direction: Default::default(),
        charges: None,
        training: Value::Null,
    };
    let tokenizer = Tokenizer::ids(NODES).unwrap();
    let graph = mechanism.graph().clone();
    let model = Model::new(metadata, tokenizer, (*mechanism).clone()).unwrap();
    let request = TraceRequest::new(vec![4]).tokens(3).candidates(usize::MAX);
    let trace = Tracing::begin(&Engine::Graph(model), request, &Hooks::default())
        .unwrap()
        .collect()
        .unwrap();
    let mut kinds = std::collections::BTreeMap::new();
    for step in &trace.steps {
        // A node never follows itself in this profile.
        assert_eq!(step.candidates.len(), NODES - 1);
        for one in &step.candidates {
            let edge = graph.edge(NodeId(step.source), NodeId(one.id));
            let (kind, count) = match edge {
                None => (EdgeKind::Shared, None),
                Some(edge) if graph.counts()[edge.index()] >= 3 => {
                    (EdgeKind::Own, Some(graph.counts()[edge.index()]))
                }
                Some(edge) => (EdgeKind::Seen, Some(graph.counts()[edge.index()])),
            };
            assert_eq!((one.edge, one.count), (Some(kind), count));
            *kinds.entry(format!("{kind:?}")).or_insert(0) += 1;
        }
    }
    assert_eq!(kinds.len(), 3, "{kinds:?}");
}
