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

mod attribution;
mod documents;
mod steps;

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

/// An engine of a mechanism whose tokens are numbers.
fn engine_of(mechanism: &Mechanism) -> Engine {
    let metadata = Metadata {
        name: "made here".into(),
        license: "MIT".into(),
        profile: mechanism.profile().clone(),
        own_minimum: 3,
        direction: Default::default(),
        charges: None,
        recall: None,
        training: Value::Null,
    };
    let tokenizer = Tokenizer::ids(NODES).unwrap();
    Engine::Graph(Model::new(metadata, tokenizer, mechanism.clone()).unwrap())
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
