//! Conformance inputs: calls each hook of a plugin with generated data of any size and records the answers as text.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::hook::{
    Activations, Call, Canvas, CodecQuestion, CodecSide, Distance, Fan, Generate, HeadReduction,
    Hooks, Hop, KeepQuestion, KvShape, MaskMoment, MaskOutcome, MaskTokens, Phase, Planned, Prompt,
    Reference, Setting, Speech, Spoken, Step, Tap, Trial,
};
use crate::kernel::random::Random;
use crate::plugin::library::Code;
use crate::plugin::{adapt, conformance};
use crate::{Error, ErrorKind, Result};

/// The size of generated data, and a value that replaces every seventh number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input {
    pub size: usize,
    pub special: Option<f32>,
}

impl Input {
    pub const fn plain(size: usize) -> Self {
        Self {
            size,
            special: None,
        }
    }
}

/// The answers of a hook, as text.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answers(pub String);

impl Answers {
    pub fn summary(&self) -> String {
        let short: String = self.0.chars().take(60).collect();
        if short.len() < self.0.len() {
            format!("{short}…")
        } else {
            short
        }
    }
}

/// The hooks of a new plugin instance.
pub(crate) struct Fresh {
    hooks: Hooks,
}

impl Fresh {
    pub fn new(code: &Code, options: &Map<String, Value>) -> Result<Self> {
        let mut hooks = Hooks::default();
        adapt::install(&conformance::make(code, options)?, &mut hooks)?;
        Ok(Self { hooks })
    }

    /// Call every function of a hook with generated data.
    pub fn ask(&self, hook: &str, input: Input, seed: u64) -> Result<Answers> {
        let Some((_, generate)) = GENERATORS.iter().find(|(id, _)| *id == hook) else {
            return Ok(Answers::default());
        };
        let mut data = Data::new(input, seed);
        generate(&self.hooks, &mut data)?;
        Ok(data.answers)
    }
}

/// A function that calls one hook.
type Generator = fn(&Hooks, &mut Data) -> Result<()>;

/// The generator of each hook.
const GENERATORS: [(&str, Generator); 11] = [
    ("kv.plan/1", plan),
    ("kv.keep/1", keep),
    ("kv.codec/1", codec),
    ("sample/1", sample),
    ("order/1", order),
    ("mask/1", mask),
    ("corpus/1", corpus),
    ("probe/1", probe),
    ("edge/1", edge),
    ("signal/1", signal),
    ("path/1", path),
];

/// Generated data and the answers so far.
struct Data {
    random: Random,
    input: Input,
    /// Number of tokens, nodes or slots.
    n: usize,
    call: Call<'static>,
    /// `n` tokens below `n`.
    tokens: Vec<u32>,
    /// 0 to `n`.
    ascending: Vec<u32>,
    answers: Answers,
}

impl Data {
    fn new(input: Input, seed: u64) -> Self {
        let n = input.size;
        Self {
            random: Random::new(seed),
            input,
            n,
            call: Call::new(seed, 0, 3),
            tokens: (0..n as u32)
                .map(|index| index * 7 % (n.max(1) as u32))
                .collect(),
            ascending: (0..n as u32).collect(),
            answers: Answers::default(),
        }
    }

    fn numbers(&mut self, count: usize) -> Vec<f32> {
        let mut all: Vec<f32> = (0..count).map(|_| self.random.normal() as f32).collect();
        if let Some(special) = self.input.special {
            all.iter_mut().step_by(7).for_each(|value| *value = special);
        }
        all
    }

    fn record(&mut self, answer: &dyn std::fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = write!(self.answers.0, "{answer:?};");
    }
}

fn plan(hooks: &Hooks, data: &mut Data) -> Result<()> {
    let Some(plan) = &hooks.plan else {
        return Ok(());
    };
    let layers = data.n.min(64);
    let ones = vec![1; layers];
    let shape = KvShape {
        layers,
        query_heads: &ones,
        kv_heads: &ones,
        head_width: &ones,
        context: 128,
    };
    let mut source: Vec<u32> = (0..layers as u32).collect();
    let mut storage = vec![0; layers];
    let mut trial = SyntheticTrial(layers);
    let planned = Planned {
        source: &mut source,
        storage: &mut storage,
    };
    data.record(&plan.plan(&data.call, &shape, Some(&mut trial), planned)?);
    data.record(&(source, storage));
    Ok(())
}

fn keep(hooks: &Hooks, data: &mut Data) -> Result<()> {
    let (Some(keep), n) = (&hooks.keep, data.n) else {
        return Ok(());
    };
    let needs = keep.begin(&data.call, n)?;
    data.record(&needs);
    let reduction = needs.column.map(|column| column.heads);
    let per_head = needs.accumulated
        || needs.key_norm
        || reduction.is_some_and(|heads| heads != HeadReduction::All);
    let heads = if per_head { 2 } else { 1 };
    let statistic = data.numbers(heads * n);
    let positions = data.ascending.repeat(heads);
    let supplied = |needed: bool| if needed { &statistic[..] } else { &[] };
    for (phase, layer) in [
        (Phase::Prefill, 0),
        (Phase::Prefill, 1),
        (Phase::Decode, 0),
        (Phase::Decode, 1),
    ] {
        let stream = match phase {
            Phase::Prefill => data.ascending.clone(),
            Phase::Decode => Vec::new(),
        };
        let question = KeepQuestion {
            phase,
            layer,
            layers: 2,
            heads,
            prompt: n,
            length: n + usize::from(phase == Phase::Decode),
            positions: &positions,
            stream: &stream,
            column: match reduction {
                Some(HeadReduction::All) => &statistic[..n],
                reduction => supplied(reduction.is_some()),
            },
            accumulated: supplied(needs.accumulated),
            key_norm: supplied(needs.key_norm),
        };
        data.record(&keep.keep(&data.call, &question)?);
    }
    Ok(())
}

fn codec(hooks: &Hooks, data: &mut Data) -> Result<()> {
    let Some(codec) = &hooks.codec else {
        return Ok(());
    };
    for side in [CodecSide::Key, CodecSide::Value] {
        let question = CodecQuestion {
            layer: 0,
            layers: data.n.max(1),
            head_width: data.n.max(1),
            side,
        };
        data.record(&codec.plan(&data.call, &question)?);
    }
    Ok(())
}

fn sample(hooks: &Hooks, data: &mut Data) -> Result<()> {
    for sample in &hooks.sample {
        let (pooled, hidden) = (data.numbers(32), data.numbers(32));
        let mut logits = data.numbers(data.n);
        let needs = sample.needs();
        let tokens = data.tokens.clone();
        let prompt = Prompt {
            tokens: &tokens,
            pooled: &pooled,
            hidden: &hidden,
            logits: &logits,
        };
        if needs.prompt {
            data.record(&sample.prompt(&data.call, &prompt)?);
        }
        let step = Step {
            generated: 1,
            token: 0,
            history: &tokens,
            hidden: &hidden,
        };
        if needs.step {
            let mut setting = Setting::default();
            data.record(&sample.step(&data.call, &step, &mut logits, &mut setting)?);
            data.record(&(&logits, setting));
        }
        if needs.choose {
            let even = vec![1.0 / data.n.max(1) as f32; data.n];
            data.record(&sample.choose(&data.call, &step, &even)?);
        }
    }
    Ok(())
}

fn order(hooks: &Hooks, data: &mut Data) -> Result<()> {
    let (Some(order), n) = (&hooks.order, data.n) else {
        return Ok(());
    };
    let mut tokens = vec![Canvas::EMPTY; 2 * n + 1];
    tokens[n] = 5;
    let canvas = Canvas {
        tokens: &tokens,
        left: n as u64,
        right: n as u64 + 1,
        left_resistance: f64::from(data.numbers(1)[0].abs()),
        right_resistance: 1.0,
    };
    if n > 0 {
        data.record(&order.next(&data.call, &canvas)?);
    }
    Ok(())
}

fn mask(hooks: &Hooks, data: &mut Data) -> Result<()> {
    let Some(mask) = &hooks.mask else {
        return Ok(());
    };
    let moment = MaskMoment {
        step: 1,
        steps: 10,
        epoch: 0.1,
    };
    let ratio = mask.ratio(&data.call, &moment)?;
    data.record(&ratio);
    let tokens = data.tokens.clone();
    let tags: Vec<u32> = tokens.iter().map(|token| token % 17).collect();
    let question = MaskTokens {
        tokens: &tokens,
        tags: &tags,
        words: &data.ascending,
        allowed: &vec![true; data.n],
        ratio: ratio.unwrap_or(0.15),
    };
    let mut weights = vec![1.0; data.n];
    let answer = mask.weigh(&data.call, &question, &mut weights)?;
    data.record(&answer);
    data.record(&weights);
    let losses = data.numbers(data.n);
    let outcome = MaskOutcome {
        tokens: &tokens,
        tags: &tags,
        losses: &losses,
    };
    mask.learn(&data.call, &outcome)?;
    let state = mask.save()?;
    mask.restore(&state)?;
    if mask.save()? != state {
        return Err(Error::new(
            ErrorKind::Plugin,
            "its state changes when it is restored",
        ));
    }
    data.record(&state);
    Ok(())
}

fn corpus(hooks: &Hooks, data: &mut Data) -> Result<()> {
    let Some(corpus) = &hooks.corpus else {
        return Ok(());
    };
    let reference = Reference {
        id: "case",
        text: &"The sun is a star. ".repeat(data.n.min(2000)),
        written: &std::collections::HashSet::new(),
    };
    let mut records = Vec::new();
    corpus.write(&data.call, &reference, Some(&mut Echo), &mut |record| {
        records.push(record.to_string());
        Ok(())
    })?;
    data.record(&records);
    Ok(())
}

fn probe(hooks: &Hooks, data: &mut Data) -> Result<()> {
    for probe in &hooks.probe {
        for tap in Tap::ALL.into_iter().filter(|&tap| probe.wants(tap)) {
            let values = data.numbers(2 * data.n);
            let before: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
            let activations = Activations {
                tap,
                layer: 0,
                layers: 2,
                tokens: &[1, 2],
                values: &values,
                width: data.n,
            };
            probe.see(&data.call, &activations)?;
            if !values.iter().map(|value| value.to_bits()).eq(before) {
                return Err(Error::new(
                    ErrorKind::Plugin,
                    "it changed the activations it observed",
                ));
            }
        }
        data.record(&probe.report(&data.call)?);
    }
    Ok(())
}

fn edge(hooks: &Hooks, data: &mut Data) -> Result<()> {
    for edge in &hooks.edge {
        let energies = data.numbers(data.n);
        let mut resistance: Vec<f32> = data.numbers(data.n).iter().map(|x| x.abs()).collect();
        let fan = Fan {
            source: 0,
            energies: &energies,
            targets: &data.ascending,
            counts: &vec![3; data.n],
        };
        let answer = edge.resist(&data.call, &fan, &mut resistance)?;
        data.record(&answer);
        data.record(&resistance);
    }
    Ok(())
}

fn signal(hooks: &Hooks, data: &mut Data) -> Result<()> {
    if let Some(signal) = &hooks.signal {
        let mut start = data.numbers(data.n);
        data.record(&signal.start(&data.call, &data.tokens, &mut start)?);
        data.record(&start);
    }
    Ok(())
}

fn path(hooks: &Hooks, data: &mut Data) -> Result<()> {
    for path in &hooks.path {
        let signal = data.numbers(data.n);
        // Hops of the prompt have neither rank nor resistance nor runners-up.
        for (rank, resistance, runners_up) in [(None, f64::NAN, 0), (Some(2), 1.5, data.n.min(5))] {
            let hop = Hop {
                source: 1,
                target: 2,
                rank,
                resistance,
                runners_up: &data.ascending[..runners_up],
                signal: &signal,
            };
            path.hop(&data.call, &hop)?;
        }
        data.record(&"observed");
    }
    Ok(())
}

/// Distances and similarities that depend on the layers' indices alone.
struct SyntheticTrial(usize);

impl Trial for SyntheticTrial {
    fn distances(&mut self, _: Distance, keys: &mut [f64], values: &mut [f64]) -> Result<()> {
        for (index, (key, value)) in keys.iter_mut().zip(values).enumerate() {
            let (i, j) = (index / self.0.max(1), index % self.0.max(1));
            *key = i.abs_diff(j) as f64;
            *value = 0.5 * *key;
        }
        Ok(())
    }

    fn similarity(&mut self, source: &[u32]) -> Result<f64> {
        let shared = source
            .iter()
            .enumerate()
            .filter(|(layer, from)| *layer != **from as usize)
            .count();
        Ok(1.0 - 0.1 * shared as f64)
    }
}

/// A model that repeats the prompt.
struct Echo;

impl Generate for Echo {
    fn speak(&mut self, speech: &Speech<'_>) -> Result<Spoken> {
        Ok(Spoken {
            text: speech.prompt.chars().take(speech.tokens).collect(),
            cut: false,
            grounded: None,
        })
    }
}
