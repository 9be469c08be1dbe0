//! H2O (Zhang et al. 2023, arXiv 2306.14048): the cache keeps the tokens with the most attention accumulated over all
//! queries so far ("heavy hitters"), and the most recent ones. Each key-value head keeps its own tokens.

use brillm_plugin::{
    Amount, Eviction, Host, KeepHook, KeepNeeds, KeepQuestion, Plugin, PluginError, RankingOrder,
    Result, export,
};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    heavy: Amount,
    recent: Amount,
    slack: usize,
    order: RankingOrder,
}

struct Heavy(Options);

impl Plugin for Heavy {
    type Options = Options;

    fn create(options: Options) -> Result<Self> {
        if options.recent.0 <= 0.0 {
            return Err(PluginError::option(
                "recent must be above 0: the newest token is always kept",
            ));
        }
        Ok(Self(options))
    }
}

/// Select the slots that a head keeps: the last `recent`, and the `heavy` best of those before them.
fn chosen(order: RankingOrder, seed: u64, scores: &[f32], heavy: usize, recent: usize) -> Vec<u32> {
    let slots = scores.len();
    let older = slots.saturating_sub(recent);
    let mut eviction = order.choose(seed, &scores[..older], heavy);
    eviction.extend(older as u32..slots as u32);
    eviction
}

impl KeepHook for Heavy {
    fn begin(&mut self, _: &mut Host, _: usize) -> Result<KeepNeeds> {
        Ok(KeepNeeds {
            accumulated: true,
            ..KeepNeeds::default()
        })
    }

    fn keep(&mut self, host: &mut Host, question: &KeepQuestion) -> Result<Option<Eviction>> {
        let Options {
            heavy,
            recent,
            slack,
            order,
        } = self.0;
        let (heavy, recent) = (heavy.of(question.prompt), recent.of(question.prompt).max(1));
        let budget = heavy.saturating_add(recent);
        let mut eviction = Eviction {
            // The next check is due when a layer holds more slots than this.
            next_check: Some(budget.saturating_add(slack) as u64),
            ..Eviction::default()
        };
        if question.slots() > budget {
            let seed = host.random();
            let lists = (0..question.heads.max(1)).map(|head| {
                let scores = question.row(question.accumulated, head)?;
                // One random stream for each layer and head.
                let index = (question.layer * question.heads + head) as u64;
                let seed = seed.wrapping_add(index);
                Ok(chosen(order, seed, &scores, heavy, recent))
            });
            eviction.slots = Some(lists.collect::<Result<_>>()?);
        }
        Ok(Some(eviction))
    }
}

export! {
    Heavy {
        id: "org.brillm.kv-heavy",
        about: "Keep the tokens with the most accumulated attention, and the most recent ones (H2O).",
        license: "MIT OR Apache-2.0",
        schema: r#"{"type": "object", "additionalProperties": false, "properties": {
            "heavy": {"type": "number", "minimum": 0, "default": 0.25,
                "description": "heavy hitters kept: a fraction of the prompt below 1, else a number of tokens"},
            "recent": {"type": "number", "exclusiveMinimum": 0, "default": 0.25,
                "description": "most recent tokens kept: a fraction of the prompt below 1, else a number of tokens"},
            "slack": {"type": "integer", "minimum": 0, "maximum": 1000000, "default": 0,
                "description": "tokens above the budget before slots are freed"},
            "order": {"enum": ["attention", "reversed", "random", "recency"], "default": "attention",
                "description": "criterion for heavy tokens; all but attention are controls"}}}"#,
        hooks: [KeepHook],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heavy_and_recent_stay() {
        let scores = [5.0, 1.0, 4.0, 2.0, 9.0, 0.0, 0.5];
        let of = |order, heavy, recent| chosen(order, 7, &scores, heavy, recent);
        assert_eq!(of(RankingOrder::Attention, 2, 2), [0, 4, 5, 6]);
        assert_eq!(of(RankingOrder::Attention, 2, 3), [0, 2, 4, 5, 6]);
        assert_eq!(of(RankingOrder::Reversed, 2, 2), [1, 3, 5, 6]);
        assert_eq!(of(RankingOrder::Recency, 2, 2), [3, 4, 5, 6]);
        assert_eq!(of(RankingOrder::Random, 2, 2).len(), 4);
        assert_eq!(of(RankingOrder::Attention, 0, 1), [6]);
        assert_eq!(of(RankingOrder::Attention, 3, 9), [0, 1, 2, 3, 4, 5, 6]);
    }
}
