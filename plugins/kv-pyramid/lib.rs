//! PyramidInfer (Yang, Han, Gao, Hu, Zhang, Zhao 2024, arXiv 2405.12532): deeper layers see fewer tokens of the
//! prompt. After a layer's prefill, the tokens that the prompt's last queries attend to least leave the residual stream,
//! so no later layer computes or caches them; in generation, tokens that leave the recent window are thinned out.

mod lengths;

use brillm_plugin::{
    Activations, ColumnSum, Eviction, HeadReduction, Host, KeepHook, KeepNeeds, KeepQuestion,
    LogLevel, Phase, Plugin, PluginError, ProbeHook, RankingOrder, Result, Tap, export,
};
use serde_json::{Value, json};

use lengths::{Curve, Lengths, tail};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Options {
    recent: f64,
    ratio: f64,
    retain: Option<f64>,
    curve: Curve,
    minimum: usize,
    clamp: bool,
    interval: usize,
    sinks: usize,
    weight: f64,
    every: usize,
    generation_ratio: f64,
    generation_fraction: f64,
    order: RankingOrder,
}

#[derive(Default)]
struct Seen {
    prompts: u64,
    /// Prompt tokens of each layer: offered, and held.
    layers: Vec<(u64, u64)>,
    /// Generated tokens that each layer dropped.
    dropped: Vec<u64>,
}

struct Pyramid {
    options: Options,
    /// The last rule, with the layers and the prompt length it was made for.
    rule: Option<(usize, usize, Lengths)>,
    /// Whether the warning about an unreachable `retain` was logged.
    warned: bool,
    seen: Seen,
}

impl Plugin for Pyramid {
    type Options = Options;

    fn create(options: Options) -> Result<Self> {
        if options.interval == 0 || options.every == 0 {
            return Err(PluginError::option("interval and every must be at least 1"));
        }
        Ok(Self {
            options,
            rule: None,
            warned: false,
            seen: Seen::default(),
        })
    }
}

impl Options {
    fn lengths(&self, layers: usize, prompt: usize) -> Lengths {
        let mut lengths = Lengths {
            recent: self.recent,
            ratio: self.ratio,
            curve: self.curve,
            minimum: self.minimum,
            clamp: self.clamp,
            interval: self.interval,
        };
        if let Some(retain) = self.retain {
            lengths.ratio = lengths.solve(layers, prompt, retain);
        }
        lengths
    }

    /// Select the rows of the stream that continue after a layer; `None` for all. `scores`: one per row.
    fn prune(
        &self,
        rule: &Lengths,
        seed: u64,
        layer: usize,
        layers: usize,
        prompt: usize,
        scores: &[f32],
    ) -> Option<Vec<u32>> {
        let rows = scores.len();
        let count = rule.after(layer, layers, prompt, rows);
        if count >= rows || layer + 1 >= layers {
            return None;
        }
        let tail = tail(self.recent, prompt);
        let context = rows - tail;
        let mut scores = scores[..context].to_vec();
        let keep = count - tail;
        let sinks = self.sinks.min(keep);
        let mut eviction: Vec<u32> = (0..sinks as u32).collect();
        let others = scores.split_off(sinks);
        let chosen = self.order.choose(seed, &others, keep - sinks);
        eviction.extend(chosen.iter().map(|&row| row + sinks as u32));
        eviction.extend(context as u32..rows as u32);
        Some(eviction)
    }

    /// Select the slots that a layer keeps in generation; `None` for all. `generated` is the first slot of a generated token.
    fn thin(
        &self,
        seed: u64,
        layer: usize,
        layers: usize,
        tail: usize,
        generated: usize,
        scores: &[f32],
    ) -> Option<Vec<u32>> {
        let slots = scores.len();
        let end = slots.saturating_sub(tail);
        // Prompt tokens, and generated tokens that an earlier check kept, are not examined again.
        let begin = end.saturating_sub(self.every).max(generated);
        if end < begin + self.every {
            return None;
        }
        let ratio = self.curve.ratio(self.generation_ratio, layer, layers);
        let count = ((self.every as f64 * self.generation_fraction * ratio) as usize).max(1);
        if count >= self.every {
            return None;
        }
        let chosen = self.order.choose(seed, &scores[begin..end], count);
        let mut eviction: Vec<u32> = (0..begin as u32).collect();
        eviction.extend(chosen.iter().map(|&slot| slot + begin as u32));
        eviction.extend(end as u32..slots as u32);
        Some(eviction)
    }
}

impl Pyramid {
    /// Log once if no ratio retains the requested fraction.
    fn check(&mut self, host: &Host, rule: &Lengths, layers: usize, prompt: usize) {
        let held: usize = rule.all(layers, prompt).iter().sum();
        let held = held as f64 / (layers * prompt).max(1) as f64;
        if let Some(retain) = self.options.retain
            && (held - retain).abs() > 0.02
            && !std::mem::replace(&mut self.warned, true)
        {
            let message = format!(
                "no ratio makes {layers} layers hold {retain} of {prompt} tokens; the nearest is {held:.3}. The first \
                 layer always holds all tokens: try curve=constant, clamp=true, or a smaller minimum or recent"
            );
            host.log(LogLevel::Warn, &message);
        }
    }

    fn prefill(&mut self, host: &mut Host, question: &KeepQuestion) -> Result<Eviction> {
        let column = question.row(question.column, 0)?;
        // A layer that reads another's cache holds tokens that have left the stream: scores are found by position.
        let positions = question.head(0);
        let scores: Vec<f32> = question
            .stream
            .iter()
            .map(|position| {
                let slot = positions.binary_search(position);
                slot.map_or(f32::NEG_INFINITY, |slot| column[slot])
            })
            .collect();
        let seed = host.random().wrapping_add(question.layer as u64);
        let (layer, layers, prompt) = (question.layer, question.layers, question.prompt);
        let rule = match self.rule {
            Some((of, length, rule)) if (of, length) == (layers, prompt) => rule,
            _ => {
                let rule = self.options.lengths(layers, prompt);
                self.check(host, &rule, layers, prompt);
                rule
            }
        };
        self.rule = Some((layers, prompt, rule));
        let stream = self
            .options
            .prune(&rule, seed, layer, layers, prompt, &scores);
        let seen = &mut self.seen;
        seen.prompts += u64::from(layer == 0);
        if seen.layers.len() < layers {
            seen.layers.resize(layers, (0, 0));
            seen.dropped.resize(layers, 0);
        }
        seen.layers[layer].0 += prompt as u64;
        seen.layers[layer].1 += question.slots() as u64;
        Ok(Eviction {
            slots: None,
            stream,
            next_check: self.next_check(question, question.slots()),
        })
    }

    fn decode(&mut self, host: &mut Host, question: &KeepQuestion) -> Result<Eviction> {
        let scores = question.row(question.column, 0)?;
        let generated = question
            .head(0)
            .partition_point(|&position| (position as usize) < question.prompt);
        let seed = host.random().wrapping_add(question.layer as u64);
        let tail = tail(self.options.recent, question.prompt);
        let (layer, layers) = (question.layer, question.layers);
        let eviction = self
            .options
            .thin(seed, layer, layers, tail, generated, &scores);
        let left = eviction.as_ref().map_or(scores.len(), Vec::len);
        if let Some(dropped) = self.seen.dropped.get_mut(layer) {
            *dropped += (scores.len() - left) as u64;
        }
        Ok(Eviction {
            slots: eviction.map(|list| vec![list]),
            stream: None,
            next_check: self.next_check(question, left.saturating_sub(tail)),
        })
    }

    /// Schedule the next check for when `every` more tokens have left the recent window; `before` slots are outside it now.
    fn next_check(&self, question: &KeepQuestion, before: usize) -> Option<u64> {
        let tail = tail(self.options.recent, question.prompt);
        Some((before + tail + self.options.every - 1) as u64)
    }
}

impl KeepHook for Pyramid {
    fn begin(&mut self, _: &mut Host, prompt: usize) -> Result<KeepNeeds> {
        Ok(KeepNeeds {
            column: Some(ColumnSum {
                window: tail(self.options.recent, prompt),
                oldest: 1.0,
                newest: self.options.weight as f32,
                heads: HeadReduction::All,
            }),
            ..KeepNeeds::default()
        })
    }

    fn keep(&mut self, host: &mut Host, question: &KeepQuestion) -> Result<Option<Eviction>> {
        if question.slots() == 0 {
            return Ok(None);
        }
        match question.phase {
            Phase::Prefill => self.prefill(host, question),
            Phase::Decode => self.decode(host, question),
        }
        .map(Some)
    }
}

impl ProbeHook for Pyramid {
    fn taps(&self) -> Vec<Tap> {
        Vec::new()
    }

    fn see(&mut self, _: &mut Host, _: &Activations) -> Result<()> {
        Ok(())
    }

    fn report(&mut self, _: &mut Host) -> Result<Option<Value>> {
        let seen = &self.seen;
        if seen.prompts == 0 {
            return Ok(None);
        }
        let fraction = |(prompt, held): (u64, u64)| held as f64 / prompt.max(1) as f64;
        let fractions: Vec<f64> = seen.layers.iter().copied().map(fraction).collect();
        let all = seen
            .layers
            .iter()
            .fold((0, 0), |all, layer| (all.0 + layer.0, all.1 + layer.1));
        let mean = |(_, held): &(u64, u64)| *held as f64 / seen.prompts as f64;
        Ok(Some(json!({
            "prompts": seen.prompts,
            "retained": seen.layers.iter().map(mean).collect::<Vec<_>>(),
            "retained_fraction": fractions,
            "mean_retained_fraction": fraction(all),
            "dropped_in_generation": seen.dropped,
        })))
    }
}

export! {
    Pyramid {
        id: "org.brillm.kv-pyramid",
        about: "Let deeper layers see fewer tokens of the prompt (PyramidInfer).",
        license: "MIT OR Apache-2.0",
        schema: r#"{"type": "object", "additionalProperties": false, "properties": {
            "recent": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.2,
                "description": "last fraction of the prompt, whose queries choose; always kept"},
            "ratio": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.9,
                "description": "fraction of the context kept after the last layer"},
            "retain": {"type": "number", "exclusiveMinimum": 0, "maximum": 1,
                "description": "mean fraction of the prompt to hold over all layers; sets ratio"},
            "curve": {"enum": ["cosine", "linear", "constant"], "default": "cosine",
                "description": "how the kept fraction falls from 1 to ratio over the layers"},
            "minimum": {"type": "integer", "minimum": 0, "maximum": 1000000, "default": 64,
                "description": "context length below which nothing is pruned"},
            "clamp": {"type": "boolean", "default": false,
                "description": "where ratio leads below minimum: prune down to minimum instead of not pruning"},
            "interval": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1,
                "description": "prune after every N layers"},
            "sinks": {"type": "integer", "minimum": 0, "maximum": 1000000, "default": 4,
                "description": "first tokens of the prompt, always kept"},
            "weight": {"type": "number", "minimum": 0, "maximum": 1000, "default": 1.2,
                "description": "weight of the newest query's attention; the oldest recent query has weight 1"},
            "every": {"type": "integer", "minimum": 1, "maximum": 1000000, "default": 16,
                "description": "generated tokens thinned out in one check after they left the window"},
            "generation-ratio": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.1,
                "description": "fraction of them kept in the last layer"},
            "generation-fraction": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.9,
                "description": "fraction of them kept in the first layer"},
            "order": {"enum": ["attention", "reversed", "random", "recency"], "default": "attention",
                "description": "criterion for tokens; all but attention are controls"}}}"#,
        hooks: [KeepHook, ProbeHook],
    }
}

#[cfg(test)]
mod tests;
