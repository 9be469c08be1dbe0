//! Training of gpt, bert and lstm: gradients, resume, and what a trained folder gives back.
#![cfg(feature = "transformer")]

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use brillm::hook::{self, Answer, Call, Hooks, MaskMoment, MaskOutcome, MaskTokens};
use brillm::kernel::random::Random;
use brillm::learn::batch::Batch;
use brillm::learn::data::TokenData;
use brillm::learn::log::Record;
use brillm::learn::recipe::MaskDraw;
use brillm::learn::{ProgressObserver, Recipe, Trainable};
use brillm::measure::Windows;
use brillm::run::{Engine, prepare_training};
use brillm::transformer::{Masking, NetworkModel, TokenBatch, evaluate_windows, mask_tokens};

/// Text with words that follow from the one before, so that there is something to learn.
fn corpus(folder: &Path) {
    let words = ["sun", "moon", "star", "sky", "sea", "stone", "tree", "leaf"];
    let mut text = String::new();
    let mut state = 7u32;
    for _ in 0..6000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let jump = if state >> 28 == 0 { 3 } else { 1 };
        let at = (text.len() + jump) % words.len();
        text.push_str(words[at]);
        text.push(if state >> 27 == 5 { '\n' } else { ' ' });
    }
    std::fs::write(folder.join("text.txt"), text).unwrap();
}

fn recipe(kind: &str, network: &str) -> Recipe {
    let text = format!(
        r#"
name = "{kind}-test"
kind = "{kind}"
[data]
train = ["text.txt"]
validation-fraction = 0.4
tokens = "bpe"
vocabulary = 280
[network]
width = 16
layers = 2
heads = 2
{network}
[train]
batch = 4
steps = 12
tokens = 1440
rate = 5e-3
warmup = 5
dropout = 0.1
log-every = 1
validate-every = 10
checkpoint-every = 10
"#
    );
    Recipe::parse(&text, &[]).unwrap()
}

const KINDS: [(&str, &str); 6] = [
    ("gpt", "kv-heads = 1"),
    ("gpt", "style = \"llama\"\ntied = false"),
    ("gpt", "style = \"gpt2\""),
    ("gpt", "style = \"gpt2\"\ntied = false\ncontext = 20"),
    ("bert", ""),
    ("lstm", ""),
];

/// A learner with a batch of its text.
fn model_of(recipe: &Recipe) -> (NetworkModel, Batch, tempfile::TempDir) {
    model_with_hooks(recipe, &Hooks::default())
}

fn model_with_hooks(recipe: &Recipe, hooks: &Hooks) -> (NetworkModel, Batch, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    corpus(folder.path());
    let data = TokenData::prepare(recipe, folder.path(), folder.path(), &mut |_| {}).unwrap();
    let (batch, steps) = (recipe.train.batch, recipe.train.steps);
    let tokens = (0..batch)
        .flat_map(|index| &data.train()[index * 97..index * 97 + steps + 1])
        .copied()
        .collect();
    let batch = Batch {
        tokens,
        steps,
        folds: vec![0; batch],
        before: 0,
        continued: Vec::new(),
        candidates: None,
        index: 0,
    };
    let learner_of = NetworkModel::new(recipe, &data, folder.path(), hooks).unwrap();
    (learner_of, batch, folder)
}

#[test]
fn every_weight_has_a_correct_gradient() {
    for (kind, network) in KINDS {
        let mut recipe = recipe(kind, network);
        recipe.train.dropout = 0.0;
        let (mut learner_of, batch, _folder) = model_of(&recipe);
        // Weights away from their symmetric beginning, so that no gradient is zero by chance.
        {
            let (parameters, _) = learner_of.state();
            let mut wave = 0.0f32;
            for parameter in parameters {
                for value in &mut parameter.value {
                    wave += 1.0;
                    *value += 0.05 * (wave * 0.7).sin();
                }
            }
        }
        learner_of.restore(&serde_json::Value::Null).unwrap();
        let before = learner_of.gradients(&batch, 1).unwrap();
        let (parameters, _) = learner_of.state();
        let found: Vec<(String, Vec<f32>)> = parameters
            .iter()
            .map(|parameter| (parameter.name.to_string(), parameter.gradient.clone()))
            .collect();
        for (name, gradient) in &found {
            let norm: f32 = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
            // A shift of all scores is nothing to a softmax: the bias of keys has no gradient but rounding.
            if name.ends_with("attention.self.key.bias") {
                continue;
            }
            // A bert's learned positions beyond the text, and second token type, are not read.
            assert!(norm > 1e-6, "{kind} {network}: {name} has no gradient");
        }
        // Differences along the gradient of each weight: f32 arithmetic, so the step is not small.
        for (index, (name, gradient)) in found.iter().enumerate() {
            let norm: f64 = gradient
                .iter()
                .map(|&g| f64::from(g).powi(2))
                .sum::<f64>()
                .sqrt();
            if norm < 1e-3 {
                continue;
            }
            let step = 2e-3;
            let mut loss = |direction: f64| {
                let mut nudge = |by: f64| {
                    let (mut parameters, _) = learner_of.state();
                    for (value, &g) in parameters[index].value.iter_mut().zip(gradient) {
                        *value += (by * f64::from(g) / norm) as f32;
                    }
                };
                nudge(direction * step);
                learner_of.restore(&serde_json::Value::Null).unwrap();
                let loss = learner_of.gradients(&batch, 1).unwrap().mean();
                let (mut parameters, _) = learner_of.state();
                for (value, &g) in parameters[index].value.iter_mut().zip(gradient) {
                    *value -= (direction * step * f64::from(g) / norm) as f32;
                }
                loss
            };
            let slope = (loss(1.0) - loss(-1.0)) / (2.0 * step);
            assert!(
                (slope - norm).abs() < 0.03 * norm + 1e-3,
                "{kind} {network}: {name}: slope {slope}, gradient {norm}, loss {}",
                before.mean()
            );
        }
    }
}

/// Cancels at a step, and keeps the losses.
struct Stop<'a> {
    at: u64,
    flag: &'a AtomicBool,
    losses: Vec<(u64, String)>,
}

impl ProgressObserver for Stop<'_> {
    fn step(&mut self, step: u64, _: u64, _: f64, _: u64) {
        if step == self.at {
            self.flag.store(true, Ordering::Relaxed);
        }
    }

    fn record(&mut self, record: &Record) {
        let line = match record {
            Record::Training(training) => format!(
                "{} {:?} {:?}",
                training.loss.to_bits(),
                training.gradient_norm.map(f64::to_bits),
                training.rate
            ),
            Record::Validation(validation) => format!("validation {}", validation.loss.to_bits()),
        };
        self.losses.push((record.step(), line));
    }
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one_bit_for_bit() {
    for (kind, network) in KINDS {
        let recipe = recipe(kind, network);
        let folder = tempfile::tempdir().unwrap();
        corpus(folder.path());
        let run = |name: &str, stop: u64, resume: bool| {
            let flag = AtomicBool::new(false);
            let mut observer = Stop {
                at: stop,
                flag: &flag,
                losses: Vec::new(),
            };
            let mut trainer = prepare_training(
                recipe.clone(),
                folder.path(),
                &folder.path().join(name),
                resume,
                &Hooks::default(),
                &mut observer,
            )
            .unwrap();
            let outcome = trainer.run(&flag, &mut observer).unwrap();
            (observer.losses, outcome)
        };
        let (whole, outcome) = run("whole", 0, false);
        assert_eq!(outcome.steps, 30);
        let (mut halves, cancelled) = run("halves", 13, false);
        assert!(cancelled.cancelled && cancelled.steps == 13);
        halves.extend(run("halves", 0, true).0);
        assert_eq!(whole, halves, "{kind} {network}");
        let file = |name: &str| {
            std::fs::read(folder.path().join(name).join("model/model.safetensors")).unwrap()
        };
        assert_eq!(file("whole"), file("halves"), "{kind} {network}");

        // The folder opens again, and says what the run measured.
        let Engine::Transformer(model) = Engine::open(&outcome.model, Default::default()).unwrap()
        else {
            panic!("a folder opens as a transformer");
        };
        assert_eq!(model.name(), recipe.name);
        assert_eq!(model.record()["training"]["recipe"]["kind"], kind);
        assert_eq!(
            model.body().parameters(),
            outcome.parameters,
            "{kind} {network}"
        );
        if kind != "bert" {
            let data = TokenData::prepare(
                &recipe,
                folder.path(),
                &folder.path().join("whole"),
                &mut |_| {},
            )
            .unwrap();
            let measured =
                evaluate_windows(&model, data.validation(), &Windows::new(13, 10_000)).unwrap();
            let expected = outcome.validation_perplexity.unwrap();
            assert!(
                (measured.perplexity() / expected - 1.0).abs() < 1e-4,
                "{kind} {network}: {} and {expected}",
                measured.perplexity()
            );
        }
    }
}

#[test]
fn training_lowers_the_loss() {
    for (kind, network, goal) in [("gpt", "", 1.8), ("lstm", "", 1.8), ("bert", "", 3.2)] {
        let mut recipe = recipe(kind, network);
        (recipe.train.tokens, recipe.train.rate) = (12_000, 1e-2);
        let folder = tempfile::tempdir().unwrap();
        corpus(folder.path());
        let run = folder.path().join("run");
        let mut trainer = prepare_training(
            recipe,
            folder.path(),
            &run,
            false,
            &Hooks::default(),
            &mut (),
        )
        .unwrap();
        let first = trainer.validation_loss().unwrap().mean();
        trainer.run(&AtomicBool::new(false), &mut ()).unwrap();
        let last = trainer.validation_loss().unwrap().mean();
        assert!(first > 5.0 && last < goal, "{kind}: from {first} to {last}");
    }
}

/// A masking that decays, hears feedback, and remembers how often.
#[derive(Default)]
struct Decaying {
    heard: AtomicU64,
    counts: Mutex<Vec<usize>>,
}

impl hook::Mask for Decaying {
    fn ratio(&self, _: &Call<'_>, moment: &MaskMoment) -> brillm::Result<Option<f64>> {
        let ratio = 0.5 * (1.0 - (moment.step + 1) as f64 / (moment.steps + 1) as f64);
        Ok(Some(ratio))
    }

    fn weigh(
        &self,
        _: &Call<'_>,
        tokens: &MaskTokens<'_>,
        weights: &mut [f32],
    ) -> brillm::Result<Answer> {
        assert_eq!(tokens.tokens.len(), tokens.tags.len());
        for (weight, token) in weights.iter_mut().zip(tokens.tokens) {
            *weight = if token % 2 == 0 { 1e-6 } else { 1.0 };
        }
        Ok(Answer::Given)
    }

    fn learn(&self, _: &Call<'_>, outcome: &MaskOutcome<'_>) -> brillm::Result<()> {
        assert_eq!(outcome.tokens.len(), outcome.losses.len());
        assert_eq!(outcome.tokens.len(), outcome.tags.len());
        assert!(outcome.losses.iter().all(|loss| loss.is_finite()));
        self.heard.fetch_add(1, Relaxed);
        let odd = outcome.tokens.iter().filter(|&&token| token % 2 == 1);
        let mut counts = self.counts.lock().unwrap();
        counts.extend([outcome.tokens.len(), odd.count()]);
        Ok(())
    }

    fn save(&self) -> brillm::Result<Vec<u8>> {
        Ok(self.heard.load(Relaxed).to_le_bytes().to_vec())
    }

    fn restore(&self, state: &[u8]) -> brillm::Result<()> {
        let state = state.try_into().expect("eight bytes");
        self.heard.store(u64::from_le_bytes(state), Relaxed);
        Ok(())
    }
}

#[test]
fn mask_hooks_choose_tokens_and_receive_losses() {
    let mut recipe = recipe("bert", "mask-tags = \"deciles\"");
    recipe.train.tokens = 144_000;
    let decaying = Arc::new(Decaying::default());
    let mut hooks = Hooks::default();
    hooks.mask = Some(decaying.clone());
    let (mut learner_of, mut batch, _folder) = model_with_hooks(&recipe, &hooks);
    let total = recipe.train.total_steps();
    for step in [1, total / 2, total * 4 / 5] {
        learner_of.learn(&mut batch, step).unwrap();
    }
    let notes = learner_of.notes().unwrap();
    {
        let counts = decaying.counts.lock().unwrap();
        // 12 tokens in each of 4 sequences: half of them, a quarter, a tenth.
        assert_eq!([counts[0], counts[2], counts[4]], [24, 12, 4]);
        // Heavy tokens go first.
        let odd = batch.tokens.iter().filter(|&&token| token % 2 == 1).count();
        assert!(counts[5] == 4 || odd < 4, "{counts:?}");
    }
    // The state comes back with a checkpoint.
    decaying.heard.store(0, Relaxed);
    learner_of.restore(&notes).unwrap();
    assert_eq!(decaying.heard.load(Relaxed), 3);
}

/// How often words and tokens are hidden, over many draws.
fn drawn(masking: &Masking<'_>, words: usize) -> (Vec<f64>, f64) {
    let input = TokenBatch {
        tokens: (10..10 + words as u32).collect(),
        length: words,
        ..TokenBatch::default()
    };
    let mut random = Random::new(5);
    let (mut counts, mut sum) = (vec![0.0; words], 0.0);
    for _ in 0..2000 {
        let masked = mask_tokens(&input, masking, 4, 300, &mut random);
        sum += masked.positions.len() as f64 / 2000.0;
        for place in masked.positions {
            counts[place as usize] += 1.0 / 2000.0;
        }
    }
    (counts, sum)
}

#[test]
fn single_pass_saturates_at_the_mean_weight_and_the_quota_does_not() {
    let weights: Vec<f32> = (0..40)
        .map(|place| if place < 20 { 0.25 } else { 0.75 })
        .collect();
    let mut masking = Masking {
        fraction: 0.7,
        weights: Some(&weights),
        draw: MaskDraw::SinglePass,
        ..Masking::default()
    };
    let (counts, all) = drawn(&masking, 40);
    // A target of 28 is not reached: each token is accepted with its weight, 20 in the mean.
    assert!((all - 20.0).abs() < 0.3, "{all}");
    assert!((counts[3] - 0.25).abs() < 0.05 && (counts[33] - 0.75).abs() < 0.05);
    masking.draw = MaskDraw::Quota;
    let (counts, all) = drawn(&masking, 40);
    assert!((all - 28.0).abs() < 1e-9, "{all}");
    assert!(counts[33] > counts[3] + 0.2);
}

#[test]
fn words_are_masked_whole() {
    let words = [0, 0, 1, 2, 2, 2, 3, 4, 4, 5];
    let masking = Masking {
        fraction: 0.3,
        words: Some(&words),
        ..Masking::default()
    };
    let input = TokenBatch {
        tokens: (10..20).collect(),
        length: 10,
        ..TokenBatch::default()
    };
    let mut random = Random::new(9);
    for _ in 0..200 {
        let masked = mask_tokens(&input, &masking, 4, 300, &mut random);
        assert!((1..=3).contains(&masked.positions.len()));
        for &place in &masked.positions {
            let word = words[place as usize];
            let all = (0..10u32).filter(|&other| words[other as usize] == word);
            assert!(
                all.into_iter()
                    .all(|other| masked.positions.contains(&other))
            );
        }
    }
}

#[test]
fn invalid_recipes_are_reported_by_key() {
    let with = |change: &str| {
        let text = format!("name = \"x\"\nkind = \"gpt\"\n[data]\ntrain = [\"a\"]\n{change}");
        Recipe::parse(&text, &[]).unwrap_err().to_string()
    };
    for (change, word) in [
        ("[network]\nheads = 3", "heads"),
        ("[network]\nlayers = 0", "layers"),
        ("[network]\nkv-heads = 3", "kv-heads"),
        ("[network]\ncontext = 3", "context"),
        ("[network]\nmask-fraction = 1.5", "mask-fraction"),
        ("[network]\nwidht = 4", "widht"),
        ("[profile]\npreset = \"sifu\"", "[profile]"),
        ("[train]\nnegatives = 5", "negatives"),
    ] {
        let error = with(change);
        assert!(error.contains(word), "{change}: {error}");
    }
    let graph = "name = \"x\"\n[data]\ntrain = [\"a\"]\n[network]\nwidth = 8";
    assert!(
        Recipe::parse(graph, &[])
            .unwrap_err()
            .to_string()
            .contains("[network]")
    );
}
