//! The cases of the validator, each run in a process of its own.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::hook::{
    Call, Canvas, CodecQuestion, CodecSide, Distance, Fan, Generate, Hooks, Hop, KeepQuestion,
    KvShape, MaskMoment, MaskOutcome, MaskTokens, Phase, Planned, Prompt, Reference, Setting,
    Sight, Step, Tap, Trial,
};
use crate::kernel::random::Random;
use crate::plugin::check::Verdict;
use crate::plugin::instance::{self, Instance};
use crate::plugin::library::{self, Code};
use crate::plugin::manifest::Manifest;
use crate::plugin::schema::Schema;
use crate::plugin::selection::OnError;
use crate::plugin::{HOOKS, adapt, plugins};
use crate::{Error, ErrorKind, Result};

/// The library opens, its entry is pure and quick.
pub(crate) const ENTRY: &str = "entry";
/// The manifest beside it tells the truth.
pub(crate) const MANIFEST: &str = "manifest";

/// Cases of every plugin.
const PLAIN: [&str; 5] = [
    "schema",
    "config default",
    "config unknown",
    "config garbage",
    "future host",
];
/// Cases of every hook.
const INPUTS: [(&str, Input); 6] = [
    ("one", Input::plain(1)),
    ("many", Input::plain(257)),
    ("empty", Input::plain(0)),
    ("huge", Input::plain(1 << 16)),
    (
        "nan",
        Input {
            size: 64,
            strange: Some(f32::NAN),
        },
    ),
    (
        "infinite",
        Input {
            size: 64,
            strange: Some(f32::INFINITY),
        },
    ),
];
/// Cases of every hook, which look at the same question asked in different ways.
const WAYS: [&str; 4] = ["replay", "thread", "two instances", "cost"];

/// How a case ended, as the process prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub verdict: Verdict,
    pub detail: String,
}

/// What a question is made of.
#[derive(Clone, Copy, Debug)]
struct Input {
    size: usize,
    strange: Option<f32>,
}

impl Input {
    const fn plain(size: usize) -> Self {
        Self {
            size,
            strange: None,
        }
    }
}

/// The cases of a plugin with these hooks.
pub(crate) fn names(hooks: &[String]) -> Vec<String> {
    let mut names: Vec<String> = PLAIN.iter().map(ToString::to_string).collect();
    for hook in hooks {
        if hook.starts_with("wgsl/1:") {
            names.push(format!("{hook} valid"));
            continue;
        }
        let inputs = INPUTS.iter().map(|(name, _)| *name);
        names.extend(inputs.chain(WAYS).map(|name| format!("{hook} {name}")));
    }
    names
}

/// Runs a case.
pub(crate) fn run(
    path: &Path,
    plugin: Option<&str>,
    name: &str,
    options: &Map<String, Value>,
) -> Result<Outcome> {
    let judged = match name {
        ENTRY => entry(path),
        MANIFEST => manifest(path),
        _ => {
            let code = plugins::choose(library::open(path)?, plugin)?;
            match name {
                "schema" => Schema::from_value(&code.described.schema).map(|_| passed("")),
                "config default" => make(&code, options).map(|_| passed("")),
                "config unknown" => Ok(unknown_option(&code)),
                "config garbage" => Ok(garbage(&code)),
                "future host" => future_host(&code, options),
                _ => {
                    let (hook, way) = name.rsplit_once(' ').ok_or_else(|| absent(name))?;
                    let (hook, way) = match hook.strip_suffix(" two") {
                        Some(hook) => (hook, "two instances"),
                        None => (hook, way),
                    };
                    if let Some(hook) = hook.strip_prefix("wgsl/1:") {
                        shader(&code, hook)
                    } else if HOOKS.contains(&hook) {
                        asked(&code, options, hook, way)
                    } else {
                        return Err(absent(name));
                    }
                }
            }
        }
    };
    Ok(judged.unwrap_or_else(|error| Outcome {
        verdict: Verdict::Failed,
        detail: error.to_string(),
    }))
}

fn absent(name: &str) -> Error {
    Error::new(ErrorKind::Input, format!("there is no case {name:?}"))
}

fn passed(detail: impl Into<String>) -> Outcome {
    Outcome {
        verdict: Verdict::Passed,
        detail: detail.into(),
    }
}

fn failed(detail: impl Into<String>) -> Outcome {
    Outcome {
        verdict: Verdict::Failed,
        detail: detail.into(),
    }
}

fn entry(path: &Path) -> Result<Outcome> {
    let begun = Instant::now();
    let first = library::open(path)?;
    let took = begun.elapsed();
    let second = library::open(path)?;
    let ids = |codes: &[Code]| {
        codes
            .iter()
            .map(|code| code.described.clone())
            .collect::<Vec<_>>()
    };
    if ids(&first) != ids(&second) {
        return Ok(failed("its entry gives another answer the second time"));
    }
    if took.as_millis() > 1000 {
        return Ok(failed(format!("opening it took {} ms", took.as_millis())));
    }
    let detail = serde_json::to_string(&ids(&first))
        .map_err(|error| Error::new(ErrorKind::Plugin, error.to_string()))?;
    Ok(passed(detail))
}

fn manifest(path: &Path) -> Result<Outcome> {
    let Some(manifest) = Manifest::beside(path)? else {
        return Ok(Outcome {
            verdict: Verdict::Warned,
            detail: "it has no manifest: `brillm plugin list` cannot see it".into(),
        });
    };
    library::verify(path, &manifest.sha256, "its manifest")?;
    library::compare(&manifest, &library::open(path)?)?;
    Ok(passed(""))
}

fn make(code: &Code, options: &Map<String, Value>) -> Result<Arc<Instance>> {
    let options = plugins::configure(code, options)?;
    Instance::create(code.clone(), options, OnError::Stop).map(Arc::new)
}

/// The host refuses an unknown option; the plugin must not take it either.
fn unknown_option(code: &Code) -> Outcome {
    let mut options = plugins::configure(code, &Map::new()).unwrap_or_default();
    options.insert("no-such-option".into(), Value::from(1));
    match Instance::create(code.clone(), options, OnError::Stop) {
        Err(_) => passed("it refuses an option it does not know"),
        Ok(_) => Outcome {
            verdict: Verdict::Warned,
            detail: "it takes an option it does not know; the engine never gives it one".into(),
        },
    }
}

/// Options that are no options: an error, or at least no crash.
fn garbage(code: &Code) -> Outcome {
    for text in ["", "{", "[]", "null", "{\"a\":", "\u{feff}{}", "\u{0}"] {
        let status = instance::create_from(code, text);
        if status == brillm_abi::BRL_E_PANIC {
            return failed(format!("it panics at the options {text:?}"));
        }
    }
    passed("")
}

/// A host whose table is longer than the plugin knows, with more behind it.
fn future_host(code: &Code, options: &Map<String, Value>) -> Result<Outcome> {
    #[repr(C)]
    struct Longer {
        known: brillm_abi::brl_host,
        more: [u64; 16],
    }
    let now = instance::host(&code.described.id);
    let mut known = *now;
    known.struct_size = size_of::<Longer>() as u64;
    known.abi += 7;
    let longer = Box::leak(Box::new(Longer {
        known,
        more: [u64::MAX; 16],
    }));
    let filled = plugins::configure(code, options)?;
    let host = (&raw const *longer).cast::<brillm_abi::brl_host>();
    let instance = Instance::create_with(code.clone(), filled, OnError::Stop, host)?;
    drop(instance);
    if longer.more != [u64::MAX; 16] {
        return Ok(failed("it wrote into the host's table"));
    }
    Ok(passed(""))
}

#[cfg(feature = "gpu")]
fn shader(code: &Code, _hook: &str) -> Result<Outcome> {
    // Installing an instance validates its shaders.
    let instance = make(code, &Map::new())?;
    adapt::install(&instance, &mut Hooks::default())?;
    Ok(passed("valid WGSL with the bindings of its hook"))
}

#[cfg(not(feature = "gpu"))]
fn shader(_code: &Code, hook: &str) -> Result<Outcome> {
    Ok(Outcome {
        verdict: Verdict::Warned,
        detail: format!("this build has no GPU backend: the shader of {hook} was not validated"),
    })
}

fn asked(code: &Code, options: &Map<String, Value>, hook: &str, way: &str) -> Result<Outcome> {
    if let Some((_, input)) = INPUTS.iter().find(|(name, _)| *name == way) {
        let answer = Fresh::new(code, options)?.ask(hook, *input, 1);
        return Ok(match answer {
            Ok(answer) => passed(answer.summary()),
            Err(error) if input.strange.is_some() && !error.to_string().contains("panicked") => {
                passed(format!("refused: {error}"))
            }
            Err(error) => failed(error.to_string()),
        });
    }
    let input = Input::plain(257);
    match way {
        "replay" => {
            let first = Fresh::new(code, options)?.ask(hook, input, 7)?;
            let second = Fresh::new(code, options)?.ask(hook, input, 7)?;
            Ok(if first.0 == second.0 {
                passed("")
            } else {
                failed(
                    "the same seed and question got another answer: random numbers come from the host only",
                )
            })
        }
        "thread" => {
            let here = Fresh::new(code, options)?.ask(hook, input, 7)?;
            let there = Fresh::new(code, options)?;
            let there =
                std::thread::scope(|scope| scope.spawn(move || there.ask(hook, input, 7)).join())
                    .map_err(|_| Error::new(ErrorKind::Plugin, "the thread ended early"))??;
            Ok(if here.0 == there.0 {
                passed("")
            } else {
                failed("another thread got another answer")
            })
        }
        "two instances" => {
            let (one, two) = (Fresh::new(code, options)?, Fresh::new(code, options)?);
            let alone = Fresh::new(code, options)?;
            let alone = [
                alone.ask(hook, input, 7)?.0,
                alone.ask(hook, Input::plain(31), 8)?.0,
            ];
            let first = one.ask(hook, input, 7)?.0;
            let _ = two.ask(hook, Input::plain(65), 9)?;
            let second = one.ask(hook, Input::plain(31), 8)?.0;
            Ok(if alone == [first, second] {
                passed("")
            } else {
                failed("one instance's answers depend on another's")
            })
        }
        "cost" => {
            let fresh = Fresh::new(code, options)?;
            let begun = Instant::now();
            let mut calls = 0;
            while calls < 20 && begun.elapsed().as_millis() < 500 {
                fresh.ask(hook, Input::plain(4000), calls)?;
                calls += 1;
            }
            let each = begun.elapsed().as_secs_f64() * 1e6 / calls.max(1) as f64;
            let verdict = if each > 50_000.0 {
                Verdict::Warned
            } else {
                Verdict::Passed
            };
            Ok(Outcome {
                verdict,
                detail: format!("{each:.0} µs for a round of questions of 4000 numbers"),
            })
        }
        _ => Err(absent(way)),
    }
}

/// A new instance and its hooks.
struct Fresh {
    hooks: Hooks,
}

/// Everything it answered, written out.
#[derive(Debug, PartialEq)]
struct Answers(String);

impl Answers {
    fn summary(&self) -> String {
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
    fn new(code: &Code, options: &Map<String, Value>) -> Result<Self> {
        let mut hooks = Hooks::default();
        adapt::install(&make(code, options)?, &mut hooks)?;
        Ok(Self { hooks })
    }

    /// Asks every question of a hook about `input.size` things.
    fn ask(&self, hook: &str, input: Input, seed: u64) -> Result<Answers> {
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
                    let sight = Sight {
                        tap,
                        layer: 0,
                        layers: 2,
                        tokens: &rows,
                        values: &values,
                        width: n,
                    };
                    probe.see(&call, &sight)?;
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
                    let mut scores = numbers(n);
                    let needs = sample.needs();
                    let prompt = Prompt {
                        tokens: &tokens,
                        pooled: &pooled,
                        hidden: &hidden,
                        scores: &scores,
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
                        say(&sample.step(&call, &step, &mut scores, &mut setting)?);
                        say(&(&scores, setting));
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
                    let heads = 2;
                    let statistic = numbers(heads * n);
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
                                positions: &ascending,
                                stream,
                                column: needs.column.map(|column| match column.heads {
                                    crate::hook::HeadReduction::All => &statistic[..n],
                                    _ => &statistic[..],
                                }),
                                accumulated: needs.accumulated.then_some(&statistic[..]),
                                key_norm: needs.key_norm.then_some(&statistic[..]),
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
