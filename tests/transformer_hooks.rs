//! Hooks on the comparison path: what is asked, what is done with the answer, and that nothing else changes.
#![cfg(feature = "transformer")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use brillm::Result;
use brillm::hook::{
    self, Activations, Answer, Call, CodecAxis, CodecFormat, CodecQuestion, ColumnSum, Distance,
    Eviction, HeadReduction, Hooks, KeepNeeds, KeepQuestion, KvShape, Phase, Planned, Prompt,
    Sample, SampleNeeds, Setting, Step, Tap, Trial,
};
use brillm::measure::{Continuations, Windows};
use brillm::path::{Sampling, Session};
use brillm::run::Engine;
use brillm::transformer::{CalibrationText, HookAdapter, Transformer, TransformerSession};

const LAYERS: usize = 5;

fn stories() -> Transformer {
    Transformer::open(Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/models/stories260K"
    )))
    .unwrap()
}

fn text(model: &Transformer, tokens: usize) -> Vec<u32> {
    let story = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. \
        One day, she saw a big, red ball. She wanted to play with it, but it was too high. Lily's mom said, \
        \"Lily, let's go to the park.\" Lily was sad and didn't know what to do. She said, \"I want to play with \
        your ball, but I can't find it.\" Her mom looked at her and smiled. They went home together, and ";
    let ids = model.encode(&story.repeat(8)).unwrap();
    ids[..tokens].to_vec()
}

fn session(model: &Transformer, hooks: &Hooks, prompt: &[u32]) -> Result<TransformerSession> {
    let asked = HookAdapter::new(model, hooks, 1, None)?;
    let options = asked.options(model.configuration(), 0, prompt.len())?;
    TransformerSession::begin_with(model, prompt, Sampling::greedy(), options)
}

fn walk(session: &mut TransformerSession, tokens: usize) -> Vec<u32> {
    (0..tokens)
        .map(|_| session.step().unwrap().unwrap())
        .collect()
}

/// Keeps the first tokens and the latest, for all heads the same or for each its own, and notes what it saw.
struct Window {
    needs: KeepNeeds,
    sinks: usize,
    latest: usize,
    stream: bool,
    seen: Mutex<Vec<(usize, usize, usize, usize)>>,
}

impl Window {
    fn new(needs: KeepNeeds, sinks: usize, latest: usize, stream: bool) -> Arc<Self> {
        Arc::new(Self {
            needs,
            sinks,
            latest,
            stream,
            seen: Mutex::default(),
        })
    }
}

impl hook::Keep for Window {
    fn begin(&self, _: &Call<'_>, _: usize) -> Result<KeepNeeds> {
        Ok(self.needs)
    }

    fn keep(&self, _: &Call<'_>, question: &KeepQuestion<'_>) -> Result<Option<Eviction>> {
        let slots = question.positions.len() / question.heads;
        let rows = question.accumulated.len() / slots;
        let column = question.column.len() / slots;
        self.seen
            .lock()
            .unwrap()
            .push((question.heads, slots, rows, column));
        let list: Vec<u32> = (0..slots)
            .filter(|&slot| slot < self.sinks || slot + self.latest >= slots)
            .map(|slot| slot as u32)
            .collect();
        let stream = (self.stream && question.phase == Phase::Prefill).then(|| {
            let rows = question.stream.len();
            (0..rows)
                .filter(|&row| row < self.sinks || row + self.latest >= rows)
                .map(|row| row as u32)
                .collect()
        });
        Ok(Some(Eviction {
            slots: Some(vec![list; question.heads]),
            stream,
            next_check: Some((self.sinks + self.latest) as u64),
        }))
    }
}

#[test]
fn hooks_decide_which_tokens_layers_and_heads_keep() {
    let model = stories();
    let prompt = text(&model, 60);
    let accumulated = KeepNeeds {
        accumulated: true,
        ..KeepNeeds::default()
    };
    let column = |window, heads| KeepNeeds {
        column: Some(ColumnSum {
            window,
            oldest: 1.0,
            newest: 2.0,
            heads,
        }),
        ..KeepNeeds::default()
    };
    for (needs, heads, rows, sums) in [
        (KeepNeeds::default(), 1, 0, 0),
        (accumulated, 4, 4, 0),
        (column(8, HeadReduction::All), 1, 0, 1),
        (column(8, HeadReduction::GroupMean), 4, 0, 4),
        // A plugin may ask for a window longer than any text.
        (column(usize::MAX, HeadReduction::All), 1, 0, 1),
    ] {
        let window = Window::new(needs, 4, 16, false);
        let mut hooks = Hooks::default();
        hooks.keep = Some(window.clone());
        let mut session = session(&model, &hooks, &prompt).unwrap();
        assert_eq!(session.report().retained, [20; LAYERS]);
        assert_eq!(session.report().computed, [60; LAYERS]);
        walk(&mut session, 40);
        assert_eq!(session.report().retained, [20; LAYERS]);
        let seen = window.seen.lock().unwrap();
        // After the prompt each layer holds all of it; in decoding one slot too many, each step.
        assert_eq!(seen[..LAYERS], [(heads, 60, rows, sums); LAYERS]);
        assert_eq!(seen.len(), LAYERS * 41);
        assert!(
            seen[LAYERS..]
                .iter()
                .all(|one| *one == (heads, 21, rows, sums))
        );
        // The last two sequences of positions: sinks, and the newest.
        for head_group in session.cache().unwrap().positions(0, 2) {
            assert_eq!(head_group[..4], [0, 1, 2, 3]);
            assert_eq!(*head_group.last().unwrap(), 99);
        }
    }
}

#[test]
fn pruned_rows_are_not_computed_and_a_wide_window_changes_nothing() {
    let model = stories();
    let prompt = text(&model, 60);
    let mut hooks = Hooks::default();
    hooks.keep = Some(Window::new(KeepNeeds::default(), 4, 16, true));
    let pruned = session(&model, &hooks, &prompt).unwrap();
    assert_eq!(pruned.report().computed, [60, 20, 20, 20, 20]);
    assert_eq!(pruned.report().retained, [20; LAYERS]);

    hooks.keep = Some(Window::new(KeepNeeds::default(), 0, 1000, true));
    let mut whole = session(&model, &hooks, &prompt).unwrap();
    let mut plain = session(&model, &Hooks::default(), &prompt).unwrap();
    assert_eq!(whole.logits(), plain.logits());
    assert_eq!(walk(&mut whole, 30), walk(&mut plain, 30));
}

/// Shares the caches of a map, trying it where it may.
struct Share {
    source: Vec<u32>,
    tries: bool,
    tried: Mutex<Vec<f64>>,
}

impl hook::Plan for Share {
    fn tries(&self) -> bool {
        self.tries
    }

    fn plan(
        &self,
        _: &Call<'_>,
        shape: &KvShape<'_>,
        trial: Option<&mut dyn Trial>,
        for_plan: Planned<'_>,
    ) -> Result<Answer> {
        assert_eq!(
            (shape.layers, shape.kv_heads[0], shape.query_heads[0]),
            (LAYERS, 4, 8)
        );
        if let Some(trial) = trial {
            let identity: Vec<u32> = (0..shape.layers as u32).collect();
            let mut tried = self.tried.lock().unwrap();
            tried.extend([
                trial.similarity(&identity)?,
                trial.similarity(&self.source)?,
            ]);
            let (mut keys, mut values) = (vec![0.0; 25], vec![0.0; 25]);
            for measure in [
                Distance::MeanOfNorms,
                Distance::Flattened,
                Distance::Cosine,
                Distance::Normalised,
            ] {
                trial.distances(measure, &mut keys, &mut values)?;
                for a in 0..LAYERS {
                    assert_eq!(keys[a * LAYERS + a], 0.0);
                    for b in 0..a {
                        assert!(keys[a * LAYERS + b] > 0.0 && values[a * LAYERS + b] > 0.0);
                        assert_eq!(keys[a * LAYERS + b], keys[b * LAYERS + a]);
                    }
                }
            }
            tried.push(keys[1]);
            assert!(
                trial.similarity(&[1, 1, 2, 3, 4]).is_err(),
                "a later source"
            );
        }
        for_plan.source.copy_from_slice(&self.source);
        Ok(Answer::Given)
    }
}

#[test]
fn layers_that_share_a_cache_have_no_projections_of_their_own() {
    let model = stories();
    let prompt = text(&model, 50);
    let share = Arc::new(Share {
        source: vec![0, 0, 2, 0, 4],
        tries: true,
        tried: Mutex::default(),
    });
    let mut hooks = Hooks::default();
    hooks.plan = Some(share.clone());
    let calibration = CalibrationText::cut(&text(&model, 600), 5, 64).unwrap();
    assert_eq!(calibration.len(), 5);
    let asked = HookAdapter::new(&model, &hooks, 1, Some(&calibration)).unwrap();
    {
        let tried = share.tried.lock().unwrap();
        assert!((tried[0] - 1.0).abs() < 1e-6, "{tried:?}");
        assert!(tried[1] < 0.999 && tried[1] > -1.0, "{tried:?}");
        // Vectors of length 1 lie at most 2 apart.
        assert!(tried[2] > 0.0 && tried[2] <= 2.0);
    }
    let options = asked
        .options(model.configuration(), 0, prompt.len())
        .unwrap();
    let shared =
        TransformerSession::begin_with(&model, &prompt, Sampling::greedy(), options).unwrap();
    let plain = session(&model, &Hooks::default(), &prompt).unwrap();
    // Three layers of five own a cache: three fifths of the bytes.
    assert_eq!(
        shared.report().live_bytes * 5,
        plain.report().live_bytes * 3
    );
    assert_eq!(shared.report().retained, [50, 0, 50, 0, 50]);
    assert_ne!(shared.logits(), plain.logits());

    // Without calibration the planner is asked all the same, and given nothing to try.
    let asked = HookAdapter::new(&model, &hooks, 1, None).unwrap();
    assert_eq!(asked.plan().unwrap().owners(), 3);
    assert_eq!(share.tried.lock().unwrap().len(), 3);
}

/// KIVI's formats.
struct Formats(u32);

impl hook::Codec for Formats {
    fn plan(&self, _: &Call<'_>, question: &CodecQuestion) -> Result<Option<CodecFormat>> {
        assert_eq!((question.layers, question.head_width), (LAYERS, 8));
        let axis = match question.side {
            hook::CodecSide::Key => CodecAxis::Channel,
            hook::CodecSide::Value => CodecAxis::Token,
        };
        Ok(Some(CodecFormat {
            bits: self.0,
            group: 32,
            axis,
            residual: 32,
        }))
    }
}

#[test]
fn quantised_formats_shrink_the_cache_with_bounded_error() {
    let model = stories();
    let prompt = text(&model, 240);
    let next = text(&model, 241)[240];
    let mut plain = session(&model, &Hooks::default(), &prompt).unwrap();
    plain.force(next).unwrap();
    let mut last = (plain.report().live_bytes, f32::INFINITY);
    let mut errors = Vec::new();
    for bits in [8, 4, 2] {
        let mut hooks = Hooks::default();
        hooks.codec = Some(Arc::new(Formats(bits)));
        let mut coded = session(&model, &hooks, &prompt).unwrap();
        // The prompt sees itself as it is; what follows sees what the cache holds.
        coded.force(next).unwrap();
        let error = coded
            .logits()
            .iter()
            .zip(plain.logits())
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(coded.report().live_bytes < last.0, "{bits} bits");
        last.0 = coded.report().live_bytes;
        errors.push(error);
    }
    assert!(errors[0] < errors[1] && errors[1] < errors[2], "{errors:?}");
}

/// Takes a token away, sets the temperature of a prompt, and chooses the second best.
struct Second {
    prompts: Mutex<Vec<(usize, usize, usize)>>,
}

impl Sample for Second {
    fn needs(&self) -> SampleNeeds {
        SampleNeeds {
            prompt: true,
            step: true,
            choose: true,
            hidden: true,
            history: true,
        }
    }

    fn prompt(&self, _: &Call<'_>, prompt: &Prompt<'_>) -> Result<Setting> {
        self.prompts.lock().unwrap().push((
            prompt.tokens.len(),
            prompt.pooled.len(),
            prompt.logits.len(),
        ));
        // The mean is of states, none of which is the last alone.
        assert!(prompt.pooled != prompt.hidden && prompt.pooled.iter().all(|x| x.is_finite()));
        Ok(Setting {
            temperature: Some(1.0),
        })
    }

    fn step(
        &self,
        _: &Call<'_>,
        step: &Step<'_>,
        logits: &mut [f32],
        setting: &mut Setting,
    ) -> Result<Answer> {
        assert_eq!(setting.temperature, Some(1.0));
        assert_eq!(step.history.last(), Some(&step.token));
        logits[0] = f32::NEG_INFINITY;
        Ok(Answer::Given)
    }

    fn choose(&self, _: &Call<'_>, _: &Step<'_>, probabilities: &[f32]) -> Result<Option<u32>> {
        let mut order: Vec<u32> = (0..probabilities.len() as u32).collect();
        order.sort_by(|&a, &b| probabilities[b as usize].total_cmp(&probabilities[a as usize]));
        Ok(Some(order[1]))
    }
}

#[test]
fn sampling_hooks_see_the_prompt_and_choose_tokens() {
    let model = stories();
    let prompt = text(&model, 20);
    let second = Arc::new(Second {
        prompts: Mutex::default(),
    });
    let mut hooks = Hooks::default();
    hooks.sample.push(second.clone());
    let mut asked = session(&model, &hooks, &prompt).unwrap();
    let mut logits = asked.logits().to_vec();
    logits[0] = f32::NEG_INFINITY;
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
    assert_eq!(asked.step().unwrap(), Some(order[1]));
    walk(&mut asked, 3);
    assert_eq!(*second.prompts.lock().unwrap(), [(20, 64, 512)]);
}

/// Counts what passes the taps.
struct Counting(Mutex<Vec<(Tap, usize, usize, usize)>>);

impl hook::Probe for Counting {
    fn wants(&self, tap: Tap) -> bool {
        matches!(tap, Tap::Hidden | Tap::Logits)
    }

    fn see(&self, _: &Call<'_>, activations: &Activations<'_>) -> Result<()> {
        assert_eq!(
            activations.values.len(),
            activations.tokens.len() * activations.width
        );
        self.0.lock().unwrap().push((
            activations.tap,
            activations.layer,
            activations.tokens.len(),
            activations.width,
        ));
        Ok(())
    }

    fn report(&self, _: &Call<'_>) -> Result<Option<serde_json::Value>> {
        Ok(None)
    }
}

#[test]
fn probes_see_activations_and_logits() {
    let model = stories();
    let prompt = text(&model, 12);
    let counting = Arc::new(Counting(Mutex::default()));
    let mut hooks = Hooks::default();
    hooks.probe.push(counting.clone());
    let mut watched = session(&model, &hooks, &prompt).unwrap();
    let plain = session(&model, &Hooks::default(), &prompt).unwrap();
    assert_eq!(watched.logits(), plain.logits());
    watched.step().unwrap();
    let seen = counting.0.lock().unwrap();
    let states: Vec<_> = (0..=LAYERS)
        .map(|layer| (Tap::Hidden, layer, 12, 64))
        .collect();
    assert_eq!(seen[..=LAYERS], states);
    assert_eq!(seen[LAYERS + 1], (Tap::Logits, LAYERS, 1, 512));
    assert_eq!(seen.len(), 2 * (LAYERS + 2));
}

/// Asks for one place.
struct Where(hook::Fill);

impl hook::Order for Where {
    fn next(&self, _: &Call<'_>, canvas: &hook::Canvas<'_>) -> Result<Option<hook::Fill>> {
        assert_eq!(canvas.right as usize, canvas.tokens.len());
        assert!(canvas.left_resistance.is_nan() && canvas.right_resistance > 0.0);
        Ok(Some(self.0))
    }
}

#[test]
fn causal_models_reject_positions_other_than_the_end() {
    let model = stories();
    let prompt = text(&model, 6);
    let place = |position, direction| {
        let mut hooks = Hooks::default();
        hooks.order = Some(Arc::new(Where(hook::Fill {
            position,
            direction,
        })));
        session(&model, &hooks, &prompt).unwrap().step()
    };
    assert!(place(6, hook::Direction::Forward).unwrap().is_some());
    let error = place(2, hook::Direction::Backward).unwrap_err().to_string();
    assert!(error.contains("position 2"), "{error}");
}

#[test]
fn continuations_measure_perplexity_and_divergence() {
    let model = stories();
    let tokens = text(&model, 400);
    let texts: Continuations = "96,32,4".parse().unwrap();
    let engine = Engine::from(&model);
    let measure = |hooks: &Hooks| {
        let hooked = engine.with_hooks(hooks, 1).unwrap();
        hooked.continuations(&tokens, &texts, true).unwrap()
    };
    let plain = measure(&Hooks::default());
    assert_eq!((plain.texts, plain.tokens), (3, 96));
    assert_eq!(plain.divergence, Some(0.0));
    assert_eq!(plain.agreement, Some(1.0));
    assert_eq!(plain.retained_after_prompt, [96.0; LAYERS]);
    let mut hooks = Hooks::default();
    hooks.keep = Some(Window::new(KeepNeeds::default(), 4, 12, true));
    let pruned = measure(&hooks);
    assert_eq!(pruned.retained_after_prompt, [16.0; LAYERS]);
    assert_eq!(pruned.computed, [96.0, 16.0, 16.0, 16.0, 16.0]);
    assert!(pruned.divergence.unwrap() > 0.0 && pruned.agreement.unwrap() < 1.0);
    assert!(pruned.kv_live_bytes * 5.0 < plain.kv_live_bytes);
    assert!(pruned.nats_per_token > plain.nats_per_token - 0.5);

    // Whole windows at once agree with token by token.
    let one = brillm::transformer::evaluate_windows(&model, &tokens[..128], &Windows::new(128, 1))
        .unwrap();
    let whole: Continuations = "1,127,1".parse().unwrap();
    let hooked = engine.with_hooks(&Hooks::default(), 0).unwrap();
    let stepped = hooked.continuations(&tokens, &whole, false).unwrap();
    let same = (one.nats() / one.tokens() as f64 - stepped.nats_per_token).abs();
    assert!(same < 1e-4, "{same}");
}
