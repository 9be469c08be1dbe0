//! `.bril` files and saved sessions.

use std::sync::{Arc, OnceLock};

use brillm::graph::{NodeId, PathGraph, PathSettings, TokenGraph};
use brillm::kernel::bytes::Bytes;
use brillm::learn::edge_trainer::EdgeTrainer;
use brillm::model::{Metadata, Model};
use brillm::path::{GraphSession, Sampling, Session, SessionOptions, SessionState};
use brillm::signal::{Mechanism, Profile, Start};
use brillm::text::Tokenizer;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

/// Nodes of the models that targets share.
pub const NODES: usize = 12;

/// Make a model of few nodes with random weights.
pub fn small_model(profile: &Profile) -> Model {
    let edges: Vec<(u32, u32, u32)> = (0..40u32)
        .map(|i| (i * 7 % 12, (i * 5 + i / 3) % 12, 1 + i % 4))
        .collect();
    let mut graph = TokenGraph::from_edges(NODES, &edges).expect("edges of the graph");
    graph.set_own_minimum(2);
    let text: Vec<u32> = (0..200u32).map(|i| (i * i / 7 + i) % 12).collect();
    let paths = PathGraph::estimate(&graph, &text, &PathSettings::whole(4)).expect("walks");
    let graph = graph.with_paths(Some(paths));
    let mut trainer = EdgeTrainer::new(profile, &graph, 0.0, 3);
    for (seed, parameter) in trainer.parameters().into_iter().enumerate() {
        for (index, value) in parameter.value.iter_mut().enumerate() {
            *value += 0.2 * ((index * 37 + seed * 101) as f32).sin();
        }
    }
    let weights = trainer
        .weights(profile, &graph)
        .expect("weights of the profile");
    let metadata = Metadata {
        name: "small".into(),
        license: "none".into(),
        profile: profile.clone(),
        own_minimum: 2,
        direction: Default::default(),
        charges: None,
        recall: None,
        training: Value::Null,
    };
    let tokens = [
        "a", "b", "c", "<unk>", "e", " ", "f", "g", "<end>", "h", "é", "\n",
    ];
    let tokenizer = Tokenizer::characters(tokens.map(String::from).to_vec()).expect("a tokenizer");
    let mechanism = Mechanism::new(profile.clone(), graph, weights).expect("a mechanism");
    Model::new(metadata, tokenizer, mechanism).expect("a model")
}

/// A model of the default profile.
pub fn sifu() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| small_model(&Profile::sifu(4)))
}

fn walk(bytes: &[u8]) -> brillm::Result<()> {
    let model = Model::from_bytes(Bytes::copy_of(bytes))?;
    let mechanism = model.mechanism();
    let graph = mechanism.graph();
    for node in 0..graph.nodes() as u32 {
        let fan = graph.fan(NodeId(node));
        for &target in fan.targets {
            assert!(
                fan.position(target).is_some(),
                "a target of the fan is not found in it"
            );
        }
    }
    let prompt = model.tokenizer().encode("abc")?;
    let first = prompt.first().copied().unwrap_or(0);
    for (start, sampling) in [
        (Start::Profile, Sampling::greedy()),
        (Start::Ones, Sampling::default().temperature(1.0).top_p(0.9)),
    ] {
        let mut session = GraphSession::begin(mechanism.clone(), &[first], &start, sampling)?;
        session.walk(&prompt)?;
        for _ in 0..3 {
            session.step()?;
        }
        model.tokenizer().decode(&[session.flow().node]);
        session.resistance(0)?;
    }
    if let Ok(charges) = model.charges("") {
        let mut session = GraphSession::begin(
            mechanism.clone(),
            &[first],
            &Start::Profile,
            Sampling::greedy(),
        )?;
        session.set_charges(charges.charges());
        session.step()?;
        session.step()?;
    }
    if let Ok(recall) = model.recall("") {
        let options = SessionOptions {
            recall: Some(recall),
            ..SessionOptions::default()
        };
        let mut session = GraphSession::begin_with(
            mechanism.clone(),
            &prompt,
            &Start::Profile,
            Sampling::greedy(),
            options,
        )?;
        session.step()?;
    }
    Ok(())
}

/// Open the bytes as a `.bril` file, read every fan and generate a few tokens.
pub fn bril(data: &[u8]) {
    let _ = walk(data);
}

/// As [`bril`], after making all checksums right, so that what lies behind them is reached.
pub fn bril_repaired(data: &[u8]) {
    if let Some(bytes) = repaired(data) {
        let _ = walk(&bytes);
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let eight = bytes.get(at..at + 8)?;
    usize::try_from(u64::from_le_bytes(eight.try_into().ok()?)).ok()
}

/// Make the checksums of a `.bril` file those of its bytes. The header is what lies behind the offset in the
/// prologue, whatever its stated length.
pub fn repaired(data: &[u8]) -> Option<Vec<u8>> {
    let offset = number(data, 16)?;
    if data.len() < 64 || offset < 64 {
        return None;
    }
    let mut out = data.get(..offset)?.to_vec();
    let mut header: Value = serde_json::from_slice(data.get(offset..)?).ok()?;
    let blocks = header.get("blocks")?.as_array()?.clone();
    let range = |block: &Value| {
        let start = usize::try_from(block["offset"].as_u64()?).ok()?;
        let end = start.checked_add(usize::try_from(block["length"].as_u64()?).ok()?)?;
        (end <= offset).then_some(start..end)
    };
    let named = |name: &str| {
        blocks
            .iter()
            .find(|block| block["name"] == name)
            .and_then(range)
    };
    // Checksums of parts are a block of their own, which the block's checksum covers in turn.
    for block in blocks.iter().filter(|block| !block["parts"].is_null()) {
        let name = block["name"].as_str()?;
        let (Some(whole), Some(parts), Some(sums)) = (
            range(block),
            named(&format!("{name}.parts")),
            named(&format!("{name}.checksums")),
        ) else {
            continue;
        };
        let limits: Vec<usize> = (parts.start..parts.end / 8 * 8)
            .step_by(8)
            .map_while(|at| number(&out, at))
            .collect();
        for (index, pair) in limits.windows(2).enumerate() {
            let part = whole.start.checked_add(pair[0])..whole.start.checked_add(pair[1]);
            let (Some(start), Some(end)) = (part.start, part.end) else {
                break;
            };
            let target = sums.start + 8 * index;
            if start > end || end > whole.end || target + 8 > sums.end {
                break;
            }
            let sum = xxh3_64(&out[start..end]);
            out[target..target + 8].copy_from_slice(&sum.to_le_bytes());
        }
    }
    for block in header.get_mut("blocks")?.as_array_mut()? {
        if let Some(range) = range(block) {
            block["checksum"] = xxh3_64(&out[range]).into();
        }
    }
    let header = serde_json::to_vec(&header).ok()?;
    out.extend_from_slice(&header);
    out[..8].copy_from_slice(b"\x89BRIL\r\n\x1a");
    out[8..12].copy_from_slice(&1u32.to_le_bytes());
    out[12..16].fill(0);
    out[24..32].copy_from_slice(&(header.len() as u64).to_le_bytes());
    out[32..40].copy_from_slice(&xxh3_64(&header).to_le_bytes());
    let sum = xxh3_64(&out[..40]);
    out[40..48].copy_from_slice(&sum.to_le_bytes());
    out[48..64].fill(0);
    Some(out)
}

/// Read the bytes as a saved session and continue it. The first byte chooses the model.
pub fn session(data: &[u8]) {
    static MODELS: OnceLock<[Arc<Mechanism>; 4]> = OnceLock::new();
    let models = MODELS.get_or_init(|| {
        let residual = Profile {
            residual: Some(2),
            rank: 2,
            ..Profile::sifu(4)
        };
        let charged = Profile::sifu_own(4);
        [Profile::sifu(4), Profile::reference(4), residual, charged]
            .map(|profile| small_model(&profile).mechanism().clone())
    });
    let Some((&first, json)) = data.split_first() else {
        return;
    };
    let Ok(state) = SessionState::from_bytes(json) else {
        return;
    };
    let mechanism = models[usize::from(first) % 4].clone();
    let run = || -> brillm::Result<()> {
        let sampling = Sampling::default()
            .temperature(0.8)
            .repetition_penalty(1.2, 8);
        let mut session = GraphSession::restore(mechanism, state, sampling)?;
        // A session may be asked before it goes on.
        if first & 4 == 0 {
            session.look()?;
        } else {
            session.force(1)?;
        }
        for _ in 0..2 {
            session.step()?;
        }
        session.resistance(3)?;
        let written = session.state().to_bytes()?;
        let again = SessionState::from_bytes(&written).expect("a written session is read back");
        assert_eq!(again, session.state());
        Ok(())
    };
    let _ = run();
}
