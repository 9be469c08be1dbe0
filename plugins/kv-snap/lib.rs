//! SnapKV (Li et al. 2024, arXiv 2404.14469): after the prompt, each key-value head keeps the tokens with the most
//! attention from the prompt's last queries, pooled over neighbours, and the window of these queries. Decided once per
//! prompt; all generated tokens stay.

use brillm_plugin::{
    Amount, ColumnSum, Eviction, HeadReduction, Host, KeepHook, KeepNeeds, KeepQuestion, Phase,
    Plugin, PluginError, RankingOrder, Result, export,
};

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Pooling {
    Average,
    Maximum,
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reduction {
    Mean,
    Maximum,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    budget: Amount,
    window: usize,
    kernel: usize,
    pooling: Pooling,
    heads: Reduction,
    order: RankingOrder,
}

struct Snap(Options);

impl Plugin for Snap {
    type Options = Options;

    fn create(options: Options) -> Result<Self> {
        if options.kernel % 2 == 0 {
            return Err(PluginError::option(
                "kernel must be odd: pooling is centred on a token",
            ));
        }
        if options.budget.0 >= 1.0 && options.budget.0 as usize <= options.window {
            return Err(PluginError::option(format!(
                "a budget of {} tokens must exceed the window of {}",
                options.budget.0, options.window
            )));
        }
        Ok(Self(options))
    }
}

/// Pool each score with its neighbours, `kernel` scores in all; positions beyond the ends count as 0.
fn pool(scores: &[f32], kernel: usize, pooling: Pooling) -> Vec<f32> {
    let reach = kernel / 2;
    (0..scores.len())
        .map(|at| {
            let near = &scores[at.saturating_sub(reach)..(at + reach + 1).min(scores.len())];
            match pooling {
                Pooling::Average => near.iter().sum::<f32>() / kernel as f32,
                Pooling::Maximum => near.iter().fold(f32::NEG_INFINITY, |most, &x| most.max(x)),
            }
        })
        .collect()
}

impl KeepHook for Snap {
    fn begin(&mut self, _: &mut Host, _: usize) -> Result<KeepNeeds> {
        Ok(KeepNeeds {
            column: Some(ColumnSum {
                window: self.0.window,
                oldest: 1.0,
                newest: 1.0,
                heads: match self.0.heads {
                    Reduction::Mean => HeadReduction::GroupMean,
                    Reduction::Maximum => HeadReduction::GroupMaximum,
                },
            }),
            ..KeepNeeds::default()
        })
    }

    fn keep(&mut self, host: &mut Host, question: &KeepQuestion) -> Result<Option<Eviction>> {
        let options = &self.0;
        let slots = question.slots();
        let budget = options.budget.of(question.prompt).max(options.window);
        if question.phase == Phase::Decode || slots <= budget {
            return Ok(None);
        }
        let older = slots - options.window;
        let seed = host.random();
        let lists = (0..question.heads.max(1)).map(|head| {
            let scores = question.row(question.column, head)?;
            let scores = pool(&scores[..older], options.kernel, options.pooling);
            // One random stream for each layer and head.
            let index = (question.layer * question.heads + head) as u64;
            let seed = seed.wrapping_add(index);
            let count = budget - options.window;
            let mut eviction = options.order.choose(seed, &scores, count);
            eviction.extend(older as u32..slots as u32);
            Ok(eviction)
        });
        Ok(Some(Eviction {
            slots: Some(lists.collect::<Result<_>>()?),
            ..Eviction::default()
        }))
    }
}

export! {
    Snap {
        id: "org.brillm.kv-snap",
        about: "Keep the tokens that the prompt's last queries attend to, chosen once per head (SnapKV).",
        license: "MIT OR Apache-2.0",
        schema: r#"{"type": "object", "additionalProperties": false, "properties": {
            "budget": {"type": "number", "exclusiveMinimum": 0, "default": 0.5,
                "description": "prompt tokens kept, window included: a fraction of the prompt below 1, else a number of tokens"},
            "window": {"type": "integer", "minimum": 1, "maximum": 1000000, "default": 32,
                "description": "last tokens of the prompt, whose queries choose; always kept"},
            "kernel": {"type": "integer", "minimum": 1, "maximum": 1001, "default": 5,
                "description": "width of the pooling over neighbours; odd, 1 disables it"},
            "pooling": {"enum": ["average", "maximum"], "default": "average", "description": "kind of pooling"},
            "heads": {"enum": ["mean", "maximum"], "default": "mean",
                "description": "reduction over the query heads of a key-value head"},
            "order": {"enum": ["attention", "reversed", "random", "recency"], "default": "attention",
                "description": "criterion for tokens; all but attention are controls"}}}"#,
        hooks: [KeepHook],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_pooled_with_their_neighbours() {
        let scores = [0.0, 3.0, 0.0, 0.0, 6.0];
        assert_eq!(
            pool(&scores, 3, Pooling::Average),
            [1.0, 1.0, 1.0, 2.0, 2.0]
        );
        assert_eq!(
            pool(&scores, 3, Pooling::Maximum),
            [3.0, 3.0, 3.0, 6.0, 6.0]
        );
        assert_eq!(pool(&scores, 1, Pooling::Maximum), scores);
        assert!(pool(&[], 5, Pooling::Average).is_empty());
    }
}
