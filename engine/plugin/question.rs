//! The questions that the validator asks: each hook, about things of any size, with answers written out.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::hook::{
    Activations, Call, Canvas, CodecQuestion, CodecSide, Distance, Fan, Generate, HeadReduction,
    Hooks, Hop, KeepQuestion, KvShape, MaskMoment, MaskOutcome, MaskTokens, Phase, Planned, Prompt,
    Reference, Setting, Step, Tap, Trial,
};
use crate::kernel::random::Random;
use crate::plugin::library::Code;
use crate::plugin::{adapt, case};
use crate::{Error, ErrorKind, Result};

/// What a question is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input {
    pub size: usize,
    pub strange: Option<f32>,
}

impl Input {
    pub const fn plain(size: usize) -> Self {
        Self {
            size,
            strange: None,
        }
    }
}

/// A new instance and its hooks.
pub(crate) struct Fresh {
    hooks: Hooks,
}

/// Everything it answered, written out.
#[derive(Debug, PartialEq)]
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

/// Distances and similarities of a model that does not exist, the same each time.
struct Imagined(usize);

impl Trial for Imagined {
    fn distances(&mut self, _: Distance, keys: &mut [f64], values: &mut [f64]) -> Result<()> {
        for (place, (key, value)) in keys.iter_mut().zip(values).enumerate() {
            let (i, j) = (place / self.0.max(1), place % self.0.max(1));
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

/// A model that says what it was asked.
struct Echo;

impl Generate for Echo {
    fn generate(&mut self, prompt: &str, tokens: usize) -> Result<String> {
        Ok(prompt.chars().take(tokens).collect())
    }
}

impl Fresh {
    pub fn new(code: &Code, options: &Map<String, Value>) -> Result<Self> {
        let mut hooks = Hooks::default();
        adapt::install(&case::make(code, options)?, &mut hooks)?;
        Ok(Self { hooks })
    }

    /// Asks every question of a hook about `input.size` things.
    pub fn ask(&self, hook: &str, input: Input, seed: u64) -> Result<Answers> {
        let mut random = Random::new(seed);
        let n = input.size;
        let mut numbers = |count: usize| -> Vec<f32> {
            let mut all: Vec<f32> = (0..count).map(|_| random.normal() as f32).collect();
            if let Some(strange) = input.strange {
                all.iter_mut().step_by(7).for_each(|value| *value = strange);
            }
            all
        };
        let tokens: Vec<u32> = (0..n as u32)
            .map(|place| place * 7 % (n.max(1) as u32))
            .collect();
        let ascending: Vec<u32> = (0..n as u32).collect();
        let call = Call::new(seed, 0, 3);
        let mut said = String::new();
        let mut say = |what: &dyn std::fmt::Debug| {
            // Writing to a string cannot fail.
            let _ = write!(said, "{what:?};");
        };
        let hooks = &self.hooks;
        for probe in &hooks.probe {
            if hook == "probe/1" {
                for tap in Tap::ALL.into_iter().filter(|&tap| probe.wants(tap)) {
                    let values = numbers(2 * n);
                    let kept = values.clone();
                    let rows = [1, 2];
                    let activations = Activations {
                        tap,
                        layer: 0,
                        layers: 2,
                        tokens: &rows,
                        values: &values,
                        width: n,
                    };
                    probe.see(&call, &activations)?;
                    if values
                        .iter()
                        .zip(&kept)
                        .any(|(a, b)| a.to_bits() != b.to_bits())
                    {
                        return Err(Error::new(
                            ErrorKind::Plugin,
                            "it changed what it was shown",
                        ));
                    }
                }
                say(&probe.report(&call)?);
            }
        }
        match hook {
            "edge/1" => {
                for edge in &hooks.edge {
                    let energies = numbers(n);
                    let mut resistance: Vec<f32> =
                        numbers(n).iter().map(|value| value.abs()).collect();
                    let counts = vec![3; n];
                    let fan = Fan {
                        source: 0,
                        energies: &energies,
                        targets: &ascending,
                        counts: &counts,
                    };
                    say(&edge.resist(&call, &fan, &mut resistance)?);
                    say(&resistance);
                }
            }
            "signal/1" => {
                if let Some(signal) = &hooks.signal {
                    let mut start = numbers(n);
                    say(&signal.start(&call, &tokens, &mut start)?);
                    say(&start);
                }
            }
            "path/1" => {
                for path in &hooks.path {
                    let signal = numbers(n);
                    for rank in [None, Some(2)] {
                        let runners_up = if rank.is_some() {
                            &ascending[..n.min(5)]
                        } else {
                            &[]
                        };
                        let resistance = if rank.is_some() { 1.5 } else { f64::NAN };
                        let hop = Hop {
                            source: 1,
                            target: 2,
                            rank,
                            resistance,
                            runners_up,
                            signal: &signal,
                        };
                        path.hop(&call, &hop)?;
                    }
                    say(&"told");
                }
            }
            "sample/1" => {
                for sample in &hooks.sample {
                    let (pooled, hidden) = (numbers(32), numbers(32));
                    let mut logits = numbers(n);
                    let needs = sample.needs();
                    let prompt = Prompt {
                        tokens: &tokens,
                        pooled: &pooled,
                        hidden: &hidden,
                        logits: &logits,
                    };
                    if needs.prompt {
                        say(&sample.prompt(&call, &prompt)?);
                    }
                    let step = Step {
                        generated: 1,
                        token: 0,
                        history: &tokens,
                        hidden: &hidden,
                    };
                    if needs.step {
                        let mut setting = Setting::default();
                        say(&sample.step(&call, &step, &mut logits, &mut setting)?);
                        say(&(&logits, setting));
                    }
                    if needs.choose {
                        let even = vec![1.0 / n.max(1) as f32; n];
                        say(&sample.choose(&call, &step, &even)?);
                    }
                }
            }
            "order/1" => {
                if let Some(order) = &hooks.order {
                    let mut canvas = vec![Canvas::EMPTY; 2 * n + 1];
                    canvas[n] = 5;
                    let left_resistance = f64::from(numbers(1)[0].abs());
                    let canvas = Canvas {
                        tokens: &canvas,
                        left: n as u64,
                        right: n as u64 + 1,
                        left_resistance,
                        right_resistance: 1.0,
                    };
                    if n > 0 {
                        say(&order.next(&call, &canvas)?);
                    }
                }
            }
            "mask/1" => {
                if let Some(mask) = &hooks.mask {
                    let ratio = mask.ratio(
                        &call,
                        &MaskMoment {
                            step: 1,
                            steps: 10,
                            epoch: 0.1,
                        },
                    )?;
                    say(&ratio);
                    let tags: Vec<u32> = tokens.iter().map(|token| token % 17).collect();
                    let allowed = vec![true; n];
                    let question = MaskTokens {
                        tokens: &tokens,
                        tags: &tags,
                        words: &ascending,
                        allowed: &allowed,
                        ratio: ratio.unwrap_or(0.15),
                    };
                    let mut weights = vec![1.0; n];
                    say(&mask.weigh(&call, &question, &mut weights)?);
                    say(&weights);
                    let losses = numbers(n);
                    let outcome = MaskOutcome {
                        tokens: &tokens,
                        tags: &tags,
                        losses: &losses,
                    };
                    mask.learn(&call, &outcome)?;
                    let state = mask.save()?;
                    mask.restore(&state)?;
                    if mask.save()? != state {
                        return Err(Error::new(
                            ErrorKind::Plugin,
                            "its state changes when it is restored",
                        ));
                    }
                    say(&state);
                }
            }
            "corpus/1" => {
                if let Some(corpus) = &hooks.corpus {
                    let text = "The sun is a star. ".repeat(n.min(2000));
                    let reference = Reference {
                        id: "case",
                        text: &text,
                        written: &std::collections::HashSet::new(),
                    };
                    let mut records = Vec::new();
                    corpus.write(&call, &reference, Some(&mut Echo), &mut |record| {
                        records.push(record.to_string());
                        Ok(())
                    })?;
                    say(&records);
                }
            }
            "kv.plan/1" => {
                if let Some(plan) = &hooks.plan {
                    let layers = n.min(64);
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
                    let mut imagined = Imagined(layers);
                    let planned = Planned {
                        source: &mut source,
                        storage: &mut storage,
                    };
                    say(&plan.plan(&call, &shape, Some(&mut imagined), planned)?);
                    say(&(source, storage));
                }
            }
            "kv.keep/1" => {
                if let Some(keep) = &hooks.keep {
                    let needs = keep.begin(&call, n)?;
                    say(&needs);
                    let by_head = needs.accumulated
                        || needs.key_norm
                        || needs
                            .column
                            .is_some_and(|column| column.heads != HeadReduction::All);
                    let heads = if by_head { 2 } else { 1 };
                    let statistic = numbers(heads * n);
                    let positions = ascending.repeat(heads);
                    for phase in [Phase::Prefill, Phase::Decode] {
                        for layer in 0..2 {
                            let stream: &[u32] = if phase == Phase::Prefill {
                                &ascending
                            } else {
                                &[]
                            };
                            let question = KeepQuestion {
                                phase,
                                layer,
                                layers: 2,
                                heads,
                                prompt: n,
                                length: n + usize::from(phase == Phase::Decode),
                                positions: &positions,
                                stream,
                                column: match needs.column.map(|column| column.heads) {
                                    Some(HeadReduction::All) => &statistic[..n],
                                    Some(_) => &statistic,
                                    None => &[],
                                },
                                accumulated: if needs.accumulated { &statistic } else { &[] },
                                key_norm: if needs.key_norm { &statistic } else { &[] },
                            };
                            say(&keep.keep(&call, &question)?);
                        }
                    }
                }
            }
            "kv.codec/1" => {
                if let Some(codec) = &hooks.codec {
                    for side in [CodecSide::Key, CodecSide::Value] {
                        let question = CodecQuestion {
                            layer: 0,
                            layers: n.max(1),
                            head_width: n.max(1),
                            side,
                        };
                        say(&codec.plan(&call, &question)?);
                    }
                }
            }
            _ => {}
        }
        Ok(Answers(said))
    }
}
