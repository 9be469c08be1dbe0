//! `brillm compare --continuation`: techniques on one transformer, by what they keep and what it costs.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::Arguments;
use crate::measure::Continuations;
use crate::run::{ContinuationReport, Engine, HookedEngine, compare_continuations};
use crate::transformer::{BatchSpeed, batch_speed};
use crate::{Error, ErrorKind, Result};

/// One row: a model under a technique.
struct Row {
    name: String,
    continued: ContinuationReport,
    /// Bytes of weights that a decoded token reads: an aliased layer's key and value projections are not among them.
    bytes_per_token: usize,
    speeds: Vec<BatchSpeed>,
    plugins: Value,
}

/// An entry whose plugins have planned their cache.
struct Technique {
    name: String,
    path: PathBuf,
    hooked: HookedEngine,
    plugins: Value,
}

impl Arguments {
    pub(super) fn techniques(&self, texts: &Continuations) -> Result<()> {
        let mut techniques: Vec<Technique> = Vec::new();
        for entry in &self.entries {
            let (path, plugins) = crate::cli::plugin_options::entry(entry)?;
            let open = techniques.iter().find(|other| other.path == path);
            let engine = match open {
                Some(other) => other.hooked.engine().clone(),
                None => Engine::open(&path, Default::default())?,
            };
            techniques.push(Technique {
                name: entry.clone(),
                path,
                hooked: crate::cli::plugin_options::hooked(&engine, plugins.hooks(), 0)?,
                plugins: plugins.record(),
            });
        }
        let mut rows = Vec::new();
        for alike in techniques.chunk_by(|a, b| a.path == b.path) {
            rows.extend(self.rows(alike, texts)?);
        }
        self.say_techniques(texts, &rows)
    }

    /// Measure techniques on one model.
    fn rows(&self, techniques: &[Technique], texts: &Continuations) -> Result<Vec<Row>> {
        let Some(first) = techniques.first() else {
            return Ok(Vec::new());
        };
        let engine = first.hooked.engine();
        let network = engine.as_transformer().and_then(|model| model.network());
        let network = network.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the model has no KV cache")
                .at(&first.name)
                .advice("pass a transformer (a folder with config.json), or remove --continuation")
        })?;
        let hooked: Vec<&HookedEngine> = techniques.iter().map(|entry| &entry.hooked).collect();
        let continued = compare_continuations(&hooked, &self.measured(engine)?, texts)?;
        let row = |(technique, continued): (&Technique, ContinuationReport)| {
            let adapter = technique.hooked.adapter();
            let speed =
                |&batch: &usize| batch_speed(network, adapter, batch, texts.prompt, texts.new);
            Ok(Row {
                name: technique.name.clone(),
                continued,
                bytes_per_token: match adapter.plan() {
                    Some(plan) => network.for_plan(plan)?.bytes_per_token(),
                    None => network.bytes_per_token(),
                },
                speeds: self.batch.iter().map(speed).collect::<Result<_>>()?,
                plugins: technique.plugins.clone(),
            })
        };
        techniques.iter().zip(continued).map(row).collect()
    }

    /// Read the tokens to measure.
    fn measured(&self, engine: &Engine) -> Result<Vec<u32>> {
        match (&self.ids, &self.text) {
            (Some(path), _) => crate::text::read_ids(path, Some(engine.vocabulary())),
            (None, Some(path)) => engine.encode(&crate::text::read_text(path)?),
            (None, None) => Err(
                Error::new(ErrorKind::Input, "no tokens to measure are given")
                    .advice("pass --text FILE or --ids FILE"),
            ),
        }
    }

    fn say_techniques(&self, texts: &Continuations, rows: &[Row]) -> Result<()> {
        if self.json {
            let rows: Vec<Value> = rows
                .iter()
                .map(|row| {
                    json!({
                        "entry": row.name,
                        "plugins": row.plugins,
                        "continuation": row.continued,
                        "bytes_per_token": row.bytes_per_token,
                        "batches": row.speeds,
                    })
                })
                .collect();
            return crate::cli::say_json(&json!({"continuation": texts.to_string(), "rows": rows}));
        }
        let batches: String = self
            .batch
            .iter()
            .map(|batch| format!(" tokens/s × {batch} |"))
            .collect();
        crate::cli::say(format!(
            "| model + plugins | perplexity | KL divergence, nats | top-1 agreement | KV bytes | weights read, KB/token \
             | kept after the prompt, by layer | prompt computed |{batches}\n|---|---|---|---|---|---|---|---|{}",
            "---|".repeat(self.batch.len())
        ))?;
        for row in rows {
            let continued = &row.continued;
            let attribution: Vec<String> = continued
                .retained_after_prompt
                .iter()
                .map(|kept| format!("{:.2}", kept / texts.prompt as f64))
                .collect();
            let layers = continued.computed.len().max(1) as f64;
            let computed: f64 =
                continued.computed.iter().sum::<f64>() / layers / texts.prompt as f64;
            let speeds: String = row
                .speeds
                .iter()
                .map(|speed| format!(" {:.0} |", speed.tokens_per_second))
                .collect();
            crate::cli::say(format!(
                "| {} | {:.3} | {:.4} | {:.1} % | {:.0} | {:.1} | {} | {:.2} |{speeds}",
                row.name,
                continued.perplexity,
                continued.divergence.unwrap_or(f64::NAN),
                100.0 * continued.agreement.unwrap_or(f64::NAN),
                continued.kv_live_bytes,
                row.bytes_per_token as f64 / 1e3,
                attribution.join(" "),
                computed,
            ))?;
        }
        Ok(())
    }
}
