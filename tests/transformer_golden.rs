//! Transformers against the outputs of Hugging Face's implementation, in the folders of `tests/golden/transformer` and
//! those of `$BRILLM_GOLDEN_TRANSFORMER_DIR` if set.
#![cfg(feature = "transformer")]

mod support;

use std::path::Path;
use std::sync::{Arc, Mutex};

use brillm::Result;
use brillm::hook::{
    Activations, Call, ColumnSum, Eviction, HeadReduction, Keep, KeepNeeds, KeepQuestion, Phase,
    Probe, Tap,
};
use brillm::path::{Sampling, Session};
use brillm::transformer::{
    Architecture, Cache, EvictionPolicy, LogitsFor, Network, Taps, TokenBatch, Transformer,
    TransformerSession, cross_entropy, evaluate_documents,
};
use support::transformer::{
    GOLDEN, expectations, floats, full_plan, golden_folders, ids, near, network, prefill, stories,
};

#[test]
fn causal_models_agree_with_hugging_face() {
    let mut cases = 0;
    for folder in golden_folders() {
        let golden = expectations(&folder);
        let Some(list) = golden["cases"].as_array() else {
            continue;
        };
        let name = folder.display().to_string();
        let model = Transformer::open(&folder).unwrap();
        let network = network(&model);
        for case in list {
            let prompt = ids(&case["prompt"]);
            let (_, output) = prefill(network, &full_plan(network), &prompt, LogitsFor::All);
            let last = output.row(prompt.len() - 1);
            near(
                last,
                &floats(&case["last_logits"]),
                1e-4,
                &format!("{name}: last"),
            );
            near(
                output.row(0),
                &floats(&case["first_logits"]),
                1e-4,
                &format!("{name}: first"),
            );

            // The forward pass over whole sequences returns the same.
            let input = TokenBatch {
                tokens: prompt.clone(),
                length: prompt.len(),
                ..TokenBatch::default()
            };
            let logits = network
                .logits(&network.forward(&input, None, None).unwrap())
                .unwrap();
            let forward: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
            near(&forward, &output.logits, 1e-4, &format!("{name}: dense"));
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
struct Norms(Mutex<Vec<((Tap, usize), f32)>>);

impl Probe for Norms {
    fn wants(&self, tap: Tap) -> bool {
        matches!(tap, Tap::Hidden | Tap::Final)
    }

    fn see(&self, _: &Call, activations: &Activations) -> Result<()> {
        let squares = activations
            .values
            .iter()
            .map(|&x| f64::from(x) * f64::from(x));
        let norm = squares.sum::<f64>().sqrt() as f32;
        let tap = (activations.tap, activations.layer);
        self.0.lock().unwrap().push((tap, norm));
        Ok(())
    }
}

/// Keeps all tokens and records the column sums it receives.
#[derive(Default)]
struct Watching(Mutex<Vec<Vec<f32>>>);

impl Keep for Watching {
    fn begin(&self, _: &Call, prompt: usize) -> Result<KeepNeeds> {
        Ok(KeepNeeds {
            column: Some(ColumnSum {
                window: prompt,
                oldest: 1.0,
                newest: 1.0,
                heads: HeadReduction::All,
            }),
            ..KeepNeeds::default()
        })
    }

    fn keep(&self, _: &Call, question: &KeepQuestion) -> Result<Option<Eviction>> {
        self.0.lock().unwrap().push(question.column.to_vec());
        Ok(None)
    }
}

#[test]
fn activations_at_taps_agree_with_hugging_face() {
    let mut compared = 0;
    for folder in golden_folders() {
        let golden = expectations(&folder);
        let Some(list) = golden["cases"].as_array() else {
            continue;
        };
        let model = Transformer::open(&folder).unwrap();
        let network = network(&model);
        for case in list {
            let prompt = ids(&case["prompt"]);
            let (norms, watching) = (Norms::default(), Arc::new(Watching::default()));
            let mut eviction = EvictionPolicy::new(watching.clone(), 0, 0);
            let mut cache = Cache::new(network.configuration(), full_plan(network), 1).unwrap();
            let mut taps = Taps {
                eviction: Some(&mut eviction),
                probe: Some(&norms),
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
            let found: Vec<f32> = (norms.0.lock().unwrap())
                .iter()
                .filter(|(tap, _)| *tap != (Tap::Hidden, layers))
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
                near(
                    &watching.0.lock().unwrap()[layers - 1],
                    &expected,
                    1e-4,
                    "column sums",
                );
                compared += 1;
            }
        }
    }
    assert!(compared >= 7, "{compared} cases");
}

#[test]
fn tokenizers_agree_with_hugging_face() {
    let mut compared = 0;
    for folder in golden_folders() {
        let golden = expectations(&folder);
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
fn perplexity_of_twelve_stories_agrees_with_hugging_face() {
    let text = std::fs::read_to_string(Path::new(GOLDEN).join("tinystories_12.json")).unwrap();
    let texts: Vec<String> = serde_json::from_str(&text).unwrap();
    let model = stories();
    let documents: Vec<Vec<u32>> = texts
        .iter()
        .map(|text| model.encode(text).unwrap())
        .collect();
    let measured = evaluate_documents(&model, &documents).unwrap();
    let golden = expectations(&Path::new(GOLDEN).join("stories260K"));
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
fn masked_models_agree_with_hugging_face_in_loss_and_gradients() {
    let mut compared = 0;
    for folder in golden_folders() {
        let golden = expectations(&folder);
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
        let (mut positions, mut targets) = (Vec::new(), Vec::new());
        for (position, label) in rows("labels")
            .iter()
            .flat_map(|row| row.as_array().unwrap().clone())
            .enumerate()
        {
            if label.as_i64().unwrap() >= 0 {
                positions.push(position as u32);
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
        let positions =
            candle_core::Tensor::from_vec(positions, targets.len(), x.device()).unwrap();
        let chosen = logits.index_select(&positions, 0).unwrap();
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
            // The keys' biases have no gradient but rounding: softmax does not depend on a shift of all logits.
            assert!(
                (norm - expected).abs() <= 1e-4 * expected + 1e-6,
                "{name}: {norm}, {expected} expected"
            );
        }
        compared += 1;
    }
    assert!(compared >= 1);
}
