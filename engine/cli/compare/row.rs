//! A row of `brillm compare`: the measurements of one entry, one for each seed.

use serde_json::{Value, json};

use crate::measure::Classification;

/// Measurements of one model.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    pub(super) seed: Option<u64>,
    pub(super) parameters: Option<usize>,
    pub(super) train_tokens: Option<u64>,
    pub(super) cpu_seconds: Option<f64>,
    pub(super) perplexity: f64,
    pub(super) streaming: Option<f64>,
    pub(super) bytes_per_token: Option<usize>,
    pub(super) state_bytes: Option<usize>,
    pub(super) tokens_per_second: Option<f64>,
    pub(super) tasks: Vec<(String, Classification)>,
}

/// One row of the table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) plugins: Value,
    pub(super) runs: Vec<Measured>,
}

/// Format the mean and, for several values, the standard deviation.
fn spread(values: &[f64], decimals: usize) -> String {
    if values.is_empty() {
        return "–".into();
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    if values.len() == 1 {
        return format!("{mean:.decimals$}");
    }
    let squares = values.iter().map(|value| (value - mean).powi(2));
    let deviation = (squares.sum::<f64>() / (count - 1.0)).sqrt();
    format!("{mean:.decimals$} ± {deviation:.decimals$}")
}

impl Row {
    fn all(&self, pick: impl Fn(&Measured) -> Option<f64>, decimals: usize) -> String {
        let values: Vec<f64> = self.runs.iter().filter_map(pick).collect();
        spread(&values, decimals)
    }

    /// Format the row of the table, with a column for each task.
    pub(super) fn line(&self, tasks: &[&str]) -> String {
        let task = |name: &str, pick: fn(&Classification) -> f64, decimals| {
            self.all(
                |run| {
                    let found = run.tasks.iter().find(|(own, _)| own == name);
                    found.map(|(_, figures)| pick(figures))
                },
                decimals,
            )
        };
        let tasks: String = tasks
            .iter()
            .map(|name| {
                format!(
                    " {} % ({}) |",
                    task(name, |figures| 100.0 * figures.accuracy, 1),
                    task(name, |figures| figures.matthews, 2)
                )
            })
            .collect();
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |{tasks}",
            self.name,
            self.kind,
            self.all(|run| run.parameters.map(|n| n as f64), 0),
            self.all(|run| run.train_tokens.map(|n| n as f64), 0),
            self.all(|run| run.cpu_seconds, 0),
            self.all(|run| Some(run.perplexity), 2),
            self.all(|run| Some(run.perplexity.ln()), 3),
            self.all(|run| run.streaming, 2),
            self.all(|run| run.bytes_per_token.map(|bytes| bytes as f64 / 1e3), 0),
            self.all(|run| run.state_bytes.map(|bytes| bytes as f64), 0),
            self.all(|run| run.tokens_per_second, 0),
        )
    }

    /// Convert the row to JSON, with every run and its seed.
    pub(super) fn json(&self) -> Value {
        let runs: Vec<Value> = self
            .runs
            .iter()
            .map(|run| {
                json!({
                    "seed": run.seed,
                    "parameters": run.parameters,
                    "train_tokens": run.train_tokens,
                    "train_cpu_seconds": run.cpu_seconds,
                    "perplexity": run.perplexity,
                    "streaming_perplexity": run.streaming,
                    "bytes_per_token": run.bytes_per_token,
                    "state_bytes": run.state_bytes,
                    "tokens_per_second": run.tokens_per_second,
                    "tasks": run.tasks.iter().map(|(name, figures)| json!({
                        "name": name, "figures": figures,
                    })).collect::<Vec<_>>(),
                })
            })
            .collect();
        json!({"model": self.name, "kind": self.kind, "plugins": self.plugins, "runs": runs})
    }
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn formats_the_deviation_of_several_values() {
        assert_eq!(spread(&[], 1), "–");
        assert_eq!(spread(&[2.0], 1), "2.0");
        assert_eq!(spread(&[1.0, 2.0, 3.0], 1), "2.0 ± 1.0");
    }
}
