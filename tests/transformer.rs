//! The comparison path against Hugging Face's outputs, and its cache against itself.
//!
//! Runs on the folders in `tests/golden/transformer`, and on every folder of that layout inside
//! `$BRILLM_GOLDEN_TRANSFORMER_DIR` when that is set.
#![cfg(feature = "transformer")]

use std::path::{Path, PathBuf};

use brillm::Result;
use brillm::path::{Sampling, Session};
use brillm::transformer::{
    Architecture, Axis, Body, Cache, CacheView, Codec, Eviction, EvictionPolicy, ForwardOutput,
    HeadReduction, LogitsFor, Network, Phase, Plan, Probe, Row, SessionOptions, Statistics,
    Storage, Tap, Taps, TokenBatch, Transformer, TransformerSession, cross_entropy,
    evaluate_documents,
};
use serde_json::Value;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/transformer");

/// Folders with a config.json and a golden.json.
fn folders() -> Vec<PathBuf> {
    let mut roots = vec![PathBuf::from(GOLDEN)];
    if let Some(more) = std::env::var_os("BRILLM_GOLDEN_TRANSFORMER_DIR") {
        roots.push(PathBuf::from(more));
    }
    let mut found = Vec::new();
    for root in roots {
        let entries =
            std::fs::read_dir(&root).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
        let before = found.len();
        for entry in entries {
            let path = entry.unwrap().path();
            if path.join("config.json").exists() && path.join("golden.json").exists() {
                found.push(path);
            }
        }
        assert!(
            found.len() > before,
            "{} holds no golden folder",
            root.display()
        );
    }
    found.sort();
    found
}

/// The expectations of a folder. Python writes NaN, which is no JSON, where a mean has no member.
fn golden(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("golden.json")).unwrap();
    serde_json::from_str(&text.replace("NaN", "null")).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("a list of ids");
    list.iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    let list = value.as_array().expect("a list of numbers");
    list.iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

#[track_caller]
fn near(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let worst = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(worst <= tolerance, "{what}: off by {worst}");
}

fn stories() -> Transformer {
    Transformer::open(&Path::new(GOLDEN).join("stories260K")).unwrap()
}

fn network(model: &Transformer) -> &Network {
    model.network().expect("a network of attention layers")
}

/// The prompt at once.
fn prefill(
    network: &Network,
    plan: &Plan,
    prompt: &[u32],
    logits_for: LogitsFor,
) -> (Cache, ForwardOutput) {
    let mut cache = Cache::new(network.configuration(), plan.clone(), 1).unwrap();
    let network = network.for_plan(plan).unwrap();
    let passed = network
        .advance(
            &mut cache,
            &[prompt],
            Phase::Prefill,
            logits_for,
            &mut Taps::default(),
        )
        .unwrap();
    (cache, passed)
}

fn whole(network: &Network) -> Plan {
    Plan::full(network.configuration().layers)
}

#[test]
fn causal_models_agree_with_hugging_face() {
    let mut cases = 0;
    for folder in folders() {
        let golden = golden(&folder);
        let Some(list) = golden["cases"].as_array() else {
            continue;
        };
        let name = folder.display().to_string();
        let model = Transformer::open(&folder).unwrap();
        let network = network(&model);
        for case in list {
            let prompt = ids(&case["prompt"]);
            let (_, passed) = prefill(network, &whole(network), &prompt, LogitsFor::All);
            let last = passed.row(prompt.len() - 1);
            near(
                last,
                &floats(&case["last_logits"]),
                1e-4,
                &format!("{name}: last"),
            );
            near(
                passed.row(0),
                &floats(&case["first_logits"]),
                1e-4,
                &format!("{name}: first"),
            );

            // The dense pass, which training and evaluation take, says the same.
            let input = TokenBatch {
                tokens: prompt.clone(),
                length: prompt.len(),
                ..TokenBatch::default()
            };
            let logits = network
                .logits(&network.forward(&input, None, None).unwrap())
                .unwrap();
            let forward: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
            near(&forward, &passed.logits, 1e-4, &format!("{name}: dense"));
            if let Some(expected) = case["mean_loss"].as_f64() {
                let count = prompt.len() - 1;
                let losses =
                    cross_entropy(&logits.narrow(0, 0, count).unwrap(), &prompt[1..]).unwrap();
                let losses: Vec<f32> = losses.to_vec1().unwrap();
                let mean = losses.iter().map(|&x| f64::from(x)).sum::<f64>() / count as f64;
                assert!(
                    (mean - expected).abs() < 1e-4,
                    "{name}: loss {mean}, {expected} expected"
                );
            }

            let mut session =
                TransformerSession::begin(&model, &prompt, Sampling::greedy()).unwrap();
            let expected = ids(&case["greedy"]);
            let mut path = prompt.clone();
            while path.len() < expected.len() {
                path.push(session.step().unwrap().unwrap());
            }
            assert_eq!(path, expected, "{name}: greedy");
            cases += 1;
        }
    }
    assert!(cases >= 7, "{cases} cases");
}

/// Norms of hidden states, and column sums of the last layer's attention.
#[derive(Default)]
struct Norms(Vec<(Tap, f32)>);

impl Probe for Norms {
    fn wants(&self, tap: Tap) -> bool {
        matches!(tap, Tap::Embedding | Tap::Hidden(_) | Tap::Final)
    }

    fn see(&mut self, tap: Tap, _: &[Row], values: &[f32]) -> brillm::Result<()> {
        let square: f64 = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        self.0.push((tap, square.sqrt() as f32));
        Ok(())
    }
}

/// Keeps all, and remembers the column sums it was shown.
#[derive(Default)]
struct Watching(Vec<Vec<f32>>);

impl EvictionPolicy for Watching {
    fn begin(&mut self, _: usize, prompt: usize) -> brillm::Result<Statistics> {
        Ok(Statistics {
            window: prompt,
            weights: (1.0, 1.0),
            ..Statistics::default()
        })
    }

    fn decide(&mut self, view: &CacheView) -> Result<Eviction> {
        self.0.push(view.head_groups[0].column_sums.clone());
        Ok(Eviction::default())
    }
}

#[test]
fn taps_show_what_hugging_face_shows() {
    let mut compared = 0;
    for folder in folders() {
        let golden = golden(&folder);
        let Some(list) = golden["cases"].as_array() else {
            continue;
        };
        let model = Transformer::open(&folder).unwrap();
        let network = network(&model);
        for case in list {
            let prompt = ids(&case["prompt"]);
            let (mut norms, mut watching) = (Norms::default(), Watching::default());
            let mut cache = Cache::new(network.configuration(), whole(network), 1).unwrap();
            let mut taps = Taps {
                eviction: Some(&mut watching),
                probe: Some(&mut norms),
            };
            network
                .advance(
                    &mut cache,
                    &[&prompt],
                    Phase::Prefill,
                    LogitsFor::Last,
                    &mut taps,
                )
                .unwrap();
            let layers = network.configuration().layers;
            // Hugging Face's last hidden state comes after the last norm.
            let found: Vec<f32> = norms
                .0
                .iter()
                .filter(|(tap, _)| *tap != Tap::Hidden(layers - 1))
                .map(|&(_, norm)| norm)
                .collect();
            let expected = floats(&case["hidden_norms"]);
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    (found - expected).abs() < 1e-4 * expected.max(1.0),
                    "{found} {expected}"
                );
            }
            assert_eq!(found.len(), expected.len());
            if !case["attention_column_sums_last_layer"].is_null() {
                let expected = floats(&case["attention_column_sums_last_layer"]);
                near(&watching.0[layers - 1], &expected, 1e-4, "column sums");
                compared += 1;
            }
        }
    }
    assert!(compared >= 7, "{compared} cases");
}

#[test]
fn the_tokenizer_of_llama2c_gives_the_same_ids() {
    let mut compared = 0;
    for folder in folders() {
        let golden = golden(&folder);
        let Some(list) = golden["tokenizer"].as_array() else {
            continue;
        };
        let model = Transformer::open(&folder).unwrap();
        for case in list {
            let text = case["text"].as_str().unwrap();
            let found = model.encode(text).unwrap();
            assert_eq!(found, ids(&case["ids"]), "{text:?}");
            assert_eq!(model.tokenizer().decode(&found), text);
            compared += 1;
        }
    }
    assert!(compared >= 4, "{compared} texts");
}

#[test]
fn twelve_stories_cost_what_they_cost_in_hugging_face() {
    let text = std::fs::read_to_string(Path::new(GOLDEN).join("tinystories_12.json")).unwrap();
    let texts: Vec<String> = serde_json::from_str(&text).unwrap();
    let model = stories();
    let documents: Vec<Vec<u32>> = texts
        .iter()
        .map(|text| model.encode(text).unwrap())
        .collect();
    let measured = evaluate_documents(&model, &documents).unwrap();
    let golden = golden(&Path::new(GOLDEN).join("stories260K"));
    let expected = &golden["tinystories_first12"];
    assert_eq!(measured.tokens(), expected["tokens"].as_u64().unwrap());
    let nats = expected["nats_per_token"].as_f64().unwrap();
    assert!(
        (measured.nats_per_token() - nats).abs() < 1e-4,
        "{}",
        measured.nats_per_token()
    );
}

#[test]
fn masked_models_agree_with_hugging_face_forward_and_back() {
    let mut compared = 0;
    for folder in folders() {
        let golden = golden(&folder);
        if golden["input_ids"].is_null() {
            continue;
        }
        let rows = |key: &str| golden[key].as_array().unwrap().clone();
        let tokens: Vec<u32> = rows("input_ids").iter().flat_map(ids).collect();
        let valid: Vec<usize> = rows("attention_mask")
            .iter()
            .map(|row| ids(row).iter().filter(|&&bit| bit == 1).count())
            .collect();
        let length = tokens.len() / valid.len();
        let (mut places, mut targets) = (Vec::new(), Vec::new());
        for (place, label) in rows("labels")
            .iter()
            .flat_map(|row| row.as_array().unwrap().clone())
            .enumerate()
        {
            if label.as_i64().unwrap() >= 0 {
                places.push(place as u32);
                targets.push(label.as_u64().unwrap() as u32);
            }
        }
        let shape = brillm::transformer::folder::read_configuration(&folder).unwrap();
        assert_eq!(shape.architecture, Architecture::Bert);
        let read = brillm::transformer::folder::read_weights(&folder).unwrap();
        let variables: Vec<(String, candle_core::Var)> = read
            .iter()
            .map(|(name, tensor)| {
                (
                    name.to_string(),
                    candle_core::Var::from_tensor(tensor).unwrap(),
                )
            })
            .collect();
        let weights = brillm::transformer::Weights::new(
            variables
                .iter()
                .map(|(name, var)| (name.clone(), var.as_tensor().clone())),
        )
        .unwrap();
        let network = Network::new(shape, &weights).unwrap();
        let input = TokenBatch {
            tokens,
            length,
            valid,
            types: Vec::new(),
        };
        let x = network.forward(&input, None, None).unwrap();
        let logits = network.logits(&x).unwrap();
        let first: Vec<f32> = logits
            .narrow(0, 0, length)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        near(&first, &floats(&golden["logits_0"]), 1e-4, "logits");
        let places = candle_core::Tensor::from_vec(places, targets.len(), x.device()).unwrap();
        let chosen = logits.index_select(&places, 0).unwrap();
        let loss = cross_entropy(&chosen, &targets)
            .unwrap()
            .mean_all()
            .unwrap();
        let found = loss.to_scalar::<f32>().unwrap();
        let expected = golden["loss"].as_f64().unwrap() as f32;
        assert!(
            (found - expected).abs() < 1e-5,
            "loss {found}, {expected} expected"
        );

        let gradients = loss.backward().unwrap();
        for (name, expected) in golden["grad_norms"].as_object().unwrap() {
            let (_, variable) = variables
                .iter()
                .find(|(found, _)| found == name)
                .unwrap_or_else(|| panic!("{name} is missing"));
            let gradient = gradients
                .get(variable.as_tensor())
                .unwrap_or_else(|| panic!("{name} has no gradient"));
            let norm = gradient
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
                .sqrt();
            let expected = expected.as_f64().unwrap() as f32;
            // The keys' biases have no gradient but rounding: softmax does not see a shift of all scores.
            assert!(
                (norm - expected).abs() <= 1e-4 * expected + 1e-6,
                "{name}: {norm}, {expected} expected"
            );
        }
        compared += 1;
    }
    assert!(compared >= 1);
}

/// Prompts of the stories model, from its own greedy text.
fn text(length: usize) -> Vec<u32> {
    let model = stories();
    let mut session =
        TransformerSession::begin(&model, &[1, 403, 407], Sampling::greedy()).unwrap();
    let mut text = vec![1, 403, 407];
    while text.len() < length {
        text.push(session.step().unwrap().unwrap());
    }
    text
}

#[test]
fn decoding_equals_prefill_for_every_plan() {
    let model = stories();
    let network = network(&model);
    let prompt = text(90);
    let sources: [&[usize]; 6] = [
        &[0, 1, 2, 3, 4],
        &[0, 0, 2, 3, 4],
        &[0, 1, 2, 1, 4],
        &[0, 1, 2, 3, 2],
        &[0, 0, 0, 3, 3],
        &[0, 0, 0, 0, 0],
    ];
    for sources in sources {
        for per_head in [false, true] {
            let mut plan = whole(network).sources(sources);
            if per_head {
                plan = plan.per_head();
            }
            let (cache, once) = prefill(network, &plan, &prompt, LogitsFor::Last);
            for split in [1, 40, 89] {
                let (mut cache, _) = prefill(network, &plan, &prompt[..split], LogitsFor::Last);
                let for_plan = network.for_plan(&plan).unwrap();
                let mut last = Vec::new();
                for token in &prompt[split..] {
                    let passed = for_plan
                        .advance(
                            &mut cache,
                            &[&[*token]],
                            Phase::Decode,
                            LogitsFor::Last,
                            &mut Taps::default(),
                        )
                        .unwrap();
                    last = passed.logits;
                }
                near(
                    &last,
                    &once.logits,
                    1e-4,
                    &format!("{sources:?} from {split}"),
                );
            }
            // An aliased layer holds nothing, and the bytes say so.
            let report = cache.report();
            let owners = plan.owners();
            assert_eq!(report.live_bytes, owners * prompt.len() * 2 * 4 * 8 * 4);
            for (layer, retained) in report.retained.iter().enumerate() {
                let expected = if sources[layer] == layer {
                    prompt.len()
                } else {
                    0
                };
                assert_eq!(*retained, expected);
            }
            let saved = (5 - owners) * 2 * 32 * 64;
            assert_eq!(
                network.parameters() - network.for_plan(&plan).unwrap().parameters(),
                saved
            );
        }
    }
}

#[test]
fn ragged_batches_equal_their_sequences_alone() {
    let model = stories();
    let network = network(&model);
    let long = text(70);
    let prompts: [&[u32]; 4] = [&long[..1], &long[..33], &long, &long[..2]];
    let mut cache = Cache::new(network.configuration(), whole(network), 4).unwrap();
    let passed = network
        .advance(
            &mut cache,
            &prompts,
            Phase::Prefill,
            LogitsFor::Last,
            &mut Taps::default(),
        )
        .unwrap();
    assert_eq!(passed.rows.len(), 4);
    for (index, prompt) in prompts.iter().enumerate() {
        let (_, alone) = prefill(network, &whole(network), prompt, LogitsFor::Last);
        near(
            passed.row(index),
            &alone.logits,
            1e-5,
            &format!("sequence {index}"),
        );
    }
    // One sequence rests, one takes several tokens, two take one.
    let more: [&[u32]; 4] = [&[5], &[], &[403, 261, 378], &[7]];
    let passed = network
        .advance(
            &mut cache,
            &more,
            Phase::Decode,
            LogitsFor::Last,
            &mut Taps::default(),
        )
        .unwrap();
    assert_eq!(passed.rows.len(), 3);
    for (row, index) in [(0, 0), (1, 2), (2, 3)] {
        let all = [prompts[index], more[index]].concat();
        let (_, alone) = prefill(network, &whole(network), &all, LogitsFor::Last);
        near(
            passed.row(row),
            &alone.logits,
            1e-4,
            &format!("sequence {index}"),
        );
    }
    assert_eq!(cache.length(1), 33);
    cache.reset(2);
    assert_eq!(cache.length(2), 0);
    let fork = cache.fork(1).unwrap();
    assert_eq!(cache.positions(fork, 0), cache.positions(1, 0));
}

/// Keeps sinks and a recent window, in prefill and at every later length that is passed.
struct Recent {
    sinks: u32,
    window: usize,
}

impl EvictionPolicy for Recent {
    fn begin(&mut self, _: usize, _: usize) -> brillm::Result<Statistics> {
        Ok(Statistics::default())
    }

    fn decide(&mut self, view: &CacheView) -> Result<Eviction> {
        let keep = view
            .head_groups
            .iter()
            .map(|head_group| {
                let first = head_group.positions.len().saturating_sub(self.window);
                (0..head_group.positions.len() as u32)
                    .filter(|&index| {
                        head_group.positions[index as usize] < self.sinks || index as usize >= first
                    })
                    .collect()
            })
            .collect();
        Ok(Eviction {
            keep: view.owner.then_some(keep),
            stream: None,
            next_check: Some(self.sinks as usize + self.window + 4),
        })
    }
}

fn keeping(eviction: impl EvictionPolicy + 'static) -> SessionOptions {
    SessionOptions {
        eviction: Some(Box::new(eviction)),
        ..SessionOptions::default()
    }
}

#[test]
fn freed_slots_are_used_again_and_their_order_does_not_matter() {
    let model = stories();
    let network = network(&model);
    for plan in [whole(network), whole(network).per_head()] {
        let eviction = Recent {
            sinks: 4,
            window: 20,
        };
        let mut session = TransformerSession::begin_with(
            &model,
            &text(60),
            Sampling::greedy(),
            SessionOptions {
                plan: Some(plan),
                eviction: Some(Box::new(eviction)),
                probe: None,
                ..SessionOptions::default()
            },
        )
        .unwrap();
        for _ in 0..300 {
            session.step().unwrap().unwrap();
        }
        let cache = session.cache().unwrap();
        let report = cache.report();
        for layer in 0..5 {
            for head_group in cache.positions(0, layer) {
                assert_eq!(&head_group[..4], &[0, 1, 2, 3], "sinks stay");
                assert!(
                    head_group.len() >= 24 && head_group.len() < 28,
                    "{}",
                    head_group.len()
                );
                assert_eq!(*head_group.last().unwrap(), 359);
                assert!(head_group.windows(2).all(|pair| pair[0] < pair[1]));
            }
            assert!(report.retained[layer] < 28);
        }
        // 360 tokens went through; one page (64 slots) of each layer was enough.
        assert!(
            report.allocated_bytes <= 5 * 64 * 2 * 4 * 8 * 4,
            "{report:?}"
        );
    }
}

#[test]
fn a_window_over_everything_changes_nothing() {
    let model = stories();
    let prompt = text(50);
    let mut plain = TransformerSession::begin(&model, &prompt, Sampling::greedy()).unwrap();
    let eviction = Recent {
        sinks: 0,
        window: 1000,
    };
    let mut kept =
        TransformerSession::begin_with(&model, &prompt, Sampling::greedy(), keeping(eviction))
            .unwrap();
    for _ in 0..40 {
        assert_eq!(plain.logits(), kept.logits());
        assert_eq!(plain.step().unwrap(), kept.step().unwrap());
    }
}

#[test]
fn dropping_a_token_equals_never_seeing_it() {
    // Attention that masks the dropped positions must equal attention over a cache without them: drop in all
    // layers after the prefill and compare with a second cache whose slots lie in another order.
    let model = stories();
    let network = network(&model);
    let prompt = text(80);
    let (mut cache, _) = prefill(network, &whole(network), &prompt, LogitsFor::Last);
    let dropped = |position: u32| position % 3 != 1;
    for layer in 0..5 {
        cache.retain(0, layer, dropped);
    }
    // The other one drops token by token, so that later tokens lie in slots of earlier ones.
    let mut other = Cache::new(network.configuration(), whole(network), 1).unwrap();
    for token in &prompt {
        network
            .advance(
                &mut other,
                &[&[*token]],
                Phase::Decode,
                LogitsFor::Last,
                &mut Taps::default(),
            )
            .unwrap();
    }
    for layer in 0..5 {
        other.retain(0, layer, |position| position % 3 != 1 || position > 40);
    }
    for layer in 0..5 {
        other.retain(0, layer, dropped);
    }
    for layer in 0..5 {
        assert_eq!(cache.positions(0, layer), other.positions(0, layer));
    }
    for token in [410, 261, 376, 298, 315] {
        let step = |cache: &mut Cache| {
            network
                .advance(
                    cache,
                    &[&[token]],
                    Phase::Decode,
                    LogitsFor::Last,
                    &mut Taps::default(),
                )
                .unwrap()
                .logits
        };
        near(&step(&mut cache), &step(&mut other), 1e-4, "order of slots");
    }
}

/// Sends on the last `tail` rows and every second of the others; asks for all statistics.
struct Halving {
    tail: usize,
    lengths: Vec<usize>,
    heads: HeadReduction,
}

impl EvictionPolicy for Halving {
    fn begin(&mut self, _: usize, _: usize) -> brillm::Result<Statistics> {
        Ok(Statistics {
            window: self.tail,
            weights: (1.0, 1.2),
            accumulated: true,
            dependants: false,
            key_norms: true,
            heads: self.heads,
        })
    }

    fn decide(&mut self, view: &CacheView) -> Result<Eviction> {
        let head_group = &view.head_groups[0];
        assert_eq!(
            head_group.column_sums.len(),
            head_group.rows * head_group.positions.len()
        );
        assert_eq!(
            head_group.accumulated.len(),
            head_group.rows * head_group.positions.len()
        );
        assert_eq!(head_group.key_norms.len(), 4 * head_group.positions.len());
        assert!(head_group.key_norms.iter().all(|norm| *norm > 0.0));
        if self.heads != HeadReduction::GroupMax {
            // Each query spreads one unit over what it sees.
            let sum: f32 = head_group.accumulated.iter().sum();
            let queries = (view.stream.len() * head_group.rows) as f32;
            assert!((sum - queries).abs() < 1e-2, "{sum} of {queries}");
            let window = self.tail.min(view.stream.len());
            let weights: f32 = (0..window)
                .map(|i| 1.0 + 0.2 * i as f32 / (window.max(2) - 1) as f32)
                .sum();
            let sum: f32 = head_group.column_sums.iter().sum();
            assert!(
                (sum - weights * head_group.rows as f32).abs() < 1e-2,
                "{sum} of {weights}"
            );
        }
        self.lengths.push(view.stream.len());
        let context = view.stream.len().saturating_sub(self.tail);
        let stream = (0..view.stream.len() as u32)
            .filter(|&row| row as usize >= context || row % 2 == 0)
            .collect();
        Ok(Eviction {
            keep: None,
            stream: Some(stream),
            next_check: None,
        })
    }
}

#[test]
fn pruning_the_stream_saves_the_work_of_later_layers() {
    let model = stories();
    let network = network(&model);
    let prompt = text(90);
    for heads in [
        HeadReduction::Layer,
        HeadReduction::GroupMean,
        HeadReduction::GroupMax,
    ] {
        let mut eviction = Halving {
            tail: 10,
            lengths: Vec::new(),
            heads,
        };
        let mut cache = Cache::new(network.configuration(), whole(network), 1).unwrap();
        let mut taps = Taps {
            eviction: Some(&mut eviction),
            probe: None,
        };
        let passed = network
            .advance(
                &mut cache,
                &[&prompt],
                Phase::Prefill,
                LogitsFor::Last,
                &mut taps,
            )
            .unwrap();
        assert_eq!(passed.computed, [90, 50, 30, 20, 15]);
        assert_eq!(eviction.lengths, [90, 50, 30, 20, 15]);
        assert_eq!(cache.report().retained, [90, 50, 30, 20, 15]);
        assert!(cache.report().attention_bytes > 0);
        // Original positions survive, the tail is whole, and the next token goes at position 90.
        assert_eq!(
            &cache.positions(0, 4)[0][5..],
            &(80..90).collect::<Vec<u32>>()[..]
        );
        let passed = network
            .advance(
                &mut cache,
                &[&[261]],
                Phase::Decode,
                LogitsFor::Last,
                &mut Taps::default(),
            )
            .unwrap();
        assert_eq!(passed.rows[0].position, 90);
        assert!(passed.logits.iter().all(|score| score.is_finite()));
    }
}

/// Answers nonsense.
struct Wrong(Eviction);

impl EvictionPolicy for Wrong {
    fn begin(&mut self, _: usize, _: usize) -> brillm::Result<Statistics> {
        Ok(Statistics::default())
    }

    fn decide(&mut self, _: &CacheView) -> Result<Eviction> {
        Ok(self.0.clone())
    }
}

#[test]
fn wrong_answers_are_named() {
    let model = stories();
    let prompt = text(10);
    let keep = |list: Vec<u32>| Eviction {
        keep: Some(vec![list]),
        ..Eviction::default()
    };
    let stream = |list: Vec<u32>| Eviction {
        stream: Some(list),
        ..Eviction::default()
    };
    let answers = [
        (keep(vec![3, 2, 9]), "ascend"),
        (keep(vec![3, 3, 9]), "ascend"),
        (keep(vec![3, 10]), "ascend"),
        (keep(vec![3, 4]), "newest"),
        (keep(vec![]), "newest"),
        (stream(vec![0, 1]), "last row"),
        (stream(vec![9, 1]), "ascend"),
        (
            Eviction {
                keep: Some(vec![vec![9]; 3]),
                ..Eviction::default()
            },
            "3 lists",
        ),
    ];
    for (answer, word) in answers {
        let options = keeping(Wrong(answer.clone()));
        let error = TransformerSession::begin_with(&model, &prompt, Sampling::greedy(), options)
            .err()
            .unwrap_or_else(|| panic!("{answer:?} was taken"));
        assert!(error.to_string().contains(word), "{error}");
        assert!(error.to_string().contains("layer 0"), "{error}");
    }
    for sources in [[0, 2, 2, 3, 4], [0, 0, 1, 3, 4]] {
        let plan = Plan::full(5).sources(&sources);
        let error = Cache::new(model.configuration(), plan, 1).unwrap_err();
        assert!(error.to_string().contains("layer"), "{error}");
    }
}

#[test]
fn packed_caches_are_smaller_and_close() {
    let model = stories();
    let network = network(&model);
    let prompt = text(300);
    let (plain, expected) = prefill(network, &whole(network), &prompt, LogitsFor::Last);
    let next = |cache: &mut Cache| {
        network
            .advance(
                cache,
                &[&[261]],
                Phase::Decode,
                LogitsFor::Last,
                &mut Taps::default(),
            )
            .unwrap()
            .logits
    };
    let exact = next(&mut plain.clone());
    let mut worst = Vec::new();
    for bits in [8, 4, 2] {
        let codec = |axis| {
            Storage::Quantised(Codec {
                bits,
                group: 32,
                axis,
            })
        };
        let plan = whole(network).stored(codec(Axis::Channel), codec(Axis::Token), 32);
        let (mut cache, passed) = prefill(network, &plan, &prompt, LogitsFor::Last);
        // The prompt itself is seen as it is; it is packed afterwards.
        near(&passed.logits, &expected.logits, 1e-5, "prefill");
        let share = cache.report().live_bytes as f64 / plain.report().live_bytes as f64;
        assert!(
            share < [0.0, 0.0, 0.5, 0.0, 0.6, 0.0, 0.0, 0.0, 0.75][bits as usize],
            "{bits}: {share}"
        );
        let found = next(&mut cache);
        let off = found
            .iter()
            .zip(&exact)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        worst.push(off);
        // Dropped tokens of packed pages leave holes, and the cache goes on.
        for layer in 0..5 {
            cache.retain(0, layer, |position| position >= 128);
        }
        for _ in 0..40 {
            assert!(next(&mut cache).iter().all(|score| score.is_finite()));
        }
    }
    assert!(
        worst[0] < 0.1 && worst[0] < worst[1] && worst[1] < worst[2],
        "{worst:?}"
    );
    // All of it within the residual: nothing is packed.
    let codec = Storage::Quantised(Codec {
        bits: 2,
        group: 32,
        axis: Axis::Channel,
    });
    let plan = whole(network).stored(codec, codec, 1000);
    let (mut cache, _) = prefill(network, &plan, &prompt, LogitsFor::Last);
    assert_eq!(next(&mut cache), exact);
}

#[test]
fn sessions_replay_and_do_not_share_state() {
    let model = stories();
    let run = |seed: u64| {
        let sampling = Sampling::default().temperature(0.9).seed(seed);
        let mut session = TransformerSession::begin(&model, &[1, 403], sampling).unwrap();
        (0..30)
            .map(|_| session.step().unwrap().unwrap())
            .collect::<Vec<u32>>()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn a_learned_context_ends_and_says_so() {
    let model = Transformer::open(&Path::new(GOLDEN).join("capp-gpt2")).unwrap();
    let mut session = TransformerSession::begin(&model, &[1; 510], Sampling::greedy()).unwrap();
    session.step().unwrap().unwrap();
    session.step().unwrap().unwrap();
    assert!(session.is_full());
    let error = TransformerSession::begin(&model, &[1; 513], Sampling::greedy())
        .err()
        .unwrap();
    assert!(error.to_string().contains("512"), "{error}");
    assert!(matches!(&**model.body(), Body::Network(_)));
}

/// A folder like `stories260K` with its files changed.
fn changed(change: impl FnOnce(&Path)) -> (tempfile::TempDir, Result<Transformer>) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tok512.bin"] {
        std::fs::copy(
            Path::new(GOLDEN).join("stories260K").join(name),
            folder.path().join(name),
        )
        .unwrap();
    }
    change(folder.path());
    let opened = Transformer::open(folder.path());
    (folder, opened)
}

fn edit(path: &Path, key: &str, value: Value) {
    let text = std::fs::read(path).unwrap();
    let mut json: Value = serde_json::from_slice(&text).unwrap();
    json[key] = value;
    std::fs::write(path, json.to_string()).unwrap();
}

#[test]
fn what_is_wrong_with_a_folder_is_named() {
    let config = |key: &'static str, value: Value| {
        move |folder: &Path| edit(&folder.join("config.json"), key, value)
    };
    type Damage = Box<dyn FnOnce(&Path)>;
    let cases: Vec<(Damage, &str)> = vec![
        (Box::new(config("model_type", "mamba".into())), "mamba"),
        (Box::new(config("num_hidden_layers", 6.into())), "layers.5"),
        (
            Box::new(config("num_hidden_layers", u64::MAX.into())),
            "num_hidden_layers",
        ),
        (
            Box::new(config("num_hidden_layers", 2_000_000_000.into())),
            "layers.5",
        ),
        (Box::new(config("hidden_size", 63.into())), "embed_tokens"),
        (Box::new(config("vocab_size", 0.into())), "vocab_size"),
        (Box::new(config("num_attention_heads", 7.into())), "heads"),
        (
            Box::new(config("tie_word_embeddings", false.into())),
            "lm_head",
        ),
        (
            Box::new(config("hidden_act", "softplus".into())),
            "softplus",
        ),
        (
            Box::new(config(
                "rope_scaling",
                serde_json::json!({"rope_type": "spiral"}),
            )),
            "spiral",
        ),
        (
            Box::new(|folder: &Path| {
                std::fs::remove_file(folder.join("model.safetensors")).unwrap()
            }),
            "model.safetensors",
        ),
        (
            Box::new(|folder: &Path| {
                let path = folder.join("model.safetensors");
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            }),
            "safetensors",
        ),
        (
            Box::new(|folder: &Path| {
                let path = folder.join("tok512.bin");
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
            }),
            "tok512.bin",
        ),
        (
            Box::new(|folder: &Path| {
                std::fs::remove_file(folder.join("model.safetensors")).unwrap();
                let index = serde_json::json!({"weight_map": {"a": "../../elsewhere"}});
                std::fs::write(
                    folder.join("model.safetensors.index.json"),
                    index.to_string(),
                )
                .unwrap();
            }),
            "elsewhere",
        ),
    ];
    for (change, word) in cases {
        let (_folder, opened) = changed(change);
        let error = opened.err().unwrap_or_else(|| panic!("{word}: it opened"));
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
}

#[test]
fn shards_and_half_floats_open_too() {
    let weights =
        brillm::transformer::folder::read_weights(&Path::new(GOLDEN).join("stories260K")).unwrap();
    let expected = prefill(
        network(&stories()),
        &Plan::full(5),
        &text(20),
        LogitsFor::Last,
    )
    .1;
    for (dtype, tolerance) in [
        (candle_core::DType::F32, 0.0),
        (candle_core::DType::F16, 0.05),
        (candle_core::DType::BF16, 0.5),
    ] {
        let (_folder, opened) = changed(|folder| {
            std::fs::remove_file(folder.join("model.safetensors")).unwrap();
            let mut shards = [
                std::collections::HashMap::new(),
                std::collections::HashMap::new(),
            ];
            let mut map = serde_json::Map::new();
            for (index, (name, tensor)) in weights.iter().enumerate() {
                let shard = index % 2;
                shards[shard].insert(name.to_string(), tensor.to_dtype(dtype).unwrap());
                map.insert(name.into(), format!("model-{shard}.safetensors").into());
            }
            for (shard, tensors) in shards.iter().enumerate() {
                let path = folder.join(format!("model-{shard}.safetensors"));
                candle_core::safetensors::save(tensors, path).unwrap();
            }
            let index = serde_json::json!({"metadata": {}, "weight_map": map});
            std::fs::write(
                folder.join("model.safetensors.index.json"),
                index.to_string(),
            )
            .unwrap();
        });
        let model = opened.unwrap();
        let found = prefill(network(&model), &Plan::full(5), &text(20), LogitsFor::Last).1;
        near(
            &found.logits,
            &expected.logits,
            tolerance,
            &format!("{dtype:?}"),
        );
    }
}
