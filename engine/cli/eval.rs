//! `brillm eval`: perplexity on held-out text or token ids.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::held_out::HeldOutArguments;
use super::ranks::RankArguments;
use crate::hook::Hooks;
use crate::learn::DynamicSettings;
use crate::measure::{Continuations, Windows};
use crate::ranks::{Ranks, agree};
use crate::run::{
    ContextEvaluation, ContinuationReport, Engine, Evaluation, HookedEngine, Reader, SequenceRanks,
    Shuffle, StreamOptions, evaluate_documents_over, evaluate_stream_over, evaluate_windows_over,
};
use crate::text::ReadingDirection;
use crate::{Error, ErrorKind, Result};

/// Measure the perplexity of a model over its full vocabulary.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Model: a .bril or .gguf file, or a folder with config.json [default: the built-in English model].
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    #[command(flatten)]
    held_out: HeldOutArguments,
    /// Measure COUNT windows of LENGTH tokens, each from a fresh state [default: the whole text as one stream].
    #[arg(long, value_name = "LENGTH,COUNT")]
    windows: Option<Windows>,
    /// Index of the first window to measure, from 0.
    #[arg(long, default_value_t = 0, value_name = "W")]
    first_window: usize,
    /// With --windows: keep the state from window to window.
    #[arg(long, requires = "windows")]
    stream: bool,
    /// Measure each document from a fresh state, cut to the context of a transformer.
    #[arg(long, conflicts_with_all = ["ids", "windows", "charges", "recall", "dynamic", "contexts"])]
    documents: bool,
    /// Measure NEW tokens after each of COUNT prompts of PROMPT tokens, while plugins manage the KV cache [default COUNT:
    /// as many as fit].
    #[arg(long, value_name = "PROMPT,NEW[,COUNT]", conflicts_with_all = ["windows", "charges", "recall", "dynamic", "contexts", "documents"])]
    continuation: Option<Continuations>,
    /// Measure from right to left with a model trained in both directions; a backward model always does.
    #[arg(long, conflicts_with_all = ["continuation", "documents", "charges", "recall", "dynamic", "contexts"])]
    backward: bool,
    /// Also run the unmodified model and report KL divergence and top-1 agreement (transformers).
    #[arg(long, requires = "continuation")]
    divergence: bool,
    /// Raise the probability of recently visited tokens and edges (a cache language model) by the fitted charges of the
    /// model, or by DECAY,NODE,EDGE,SCALE.
    #[arg(long, num_args = 0..=1, default_missing_value = "", require_equals = true, value_name = "DECAY,NODE,EDGE,SCALE")]
    charges: Option<String>,
    /// Raise the probability of tokens that followed similar signals before (a continuous cache) by the fitted recall of
    /// the model, or by WINDOW,THETA,MU[,SLOPE].
    #[arg(long, num_args = 0..=1, default_missing_value = "", require_equals = true, value_name = "WINDOW,THETA,MU[,SLOPE]")]
    recall: Option<String>,
    /// Learn from the stream (dynamic evaluation): after each 32 predictions, take a step of gradient descent at RATE,
    /// and go back to the trained weights by the fraction PULL.
    #[arg(long, value_name = "RATE[,PULL]")]
    dynamic: Option<DynamicSettings>,
    /// Measure the same tokens after contexts of N tokens, one perplexity per N.
    #[arg(long, value_delimiter = ',', value_name = "N,…", conflicts_with_all = ["windows", "dynamic"])]
    contexts: Vec<usize>,
    /// With --contexts: shuffle all but the last N tokens of each context.
    #[arg(long, value_name = "N", requires = "contexts")]
    shuffle_prefix: Option<usize>,
    /// Random seed of --shuffle-prefix and of plugins.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    #[command(flatten)]
    order: super::order::OrderArgument,
    #[command(flatten)]
    backend: super::backend::BackendArguments,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    // Last: its heading is that of all options after it.
    #[command(flatten)]
    ranks: RankArguments,
}

/// Shown below `brillm eval --help`.
const EXAMPLES: &str = "\
Examples:
  brillm eval story.txt
  brillm eval --ids test.u16 --windows 31,400 --json
  brillm eval --ids test.u16 --model models/stories260K --continuation 256,64 --divergence \\
      --plugin kv-snap:budget=64";

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        self.backend.check()?;
        #[cfg(feature = "gpu")]
        if self.backend.choice().is_forced()
            && (self.stream || self.windows.is_none() || !self.contexts.is_empty())
        {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "only independent windows can be measured on a GPU",
            )
            .advice("pass --windows without --stream, or use --backend cpu"));
        }
        let ranks = self.ranks.start()?;
        RankArguments::agree(&*ranks)?;
        if ranks.size() > 1 && self.held_out.reads_standard_input() {
            let what = "ranks cannot read texts from standard input, which one of them has";
            return Err(
                Error::new(ErrorKind::Unsupported, what).advice("write the text into a file")
            );
        }
        let engine = super::open_over(&*ranks, self.model.as_deref())?;
        let engine = engine.with_order(self.order.order)?;
        self.backend.check_model(&engine)?;
        let hooks = super::plugin_options::hooks()?;
        let options = self.options(&engine)?;
        let mut documents = Vec::new();
        // The bytes of windows are not known: they are some of the tokens of a text.
        let whole = self.windows.is_none();
        let backward = self.backward || !engine.direction().reads_forward();
        let (mut tokens, mut bytes) = (Vec::new(), 0);
        if self.documents {
            for document in self.held_out.corpus(&engine)? {
                documents.push(engine.encode(&document?)?);
            }
        } else {
            (tokens, bytes) = self.held_out.tokens(&engine)?;
            bytes *= usize::from(whole);
        }
        // A backward model reads from right to left in any case; --backward selects the direction of a model for both.
        if ranks.size() == 1
            && (engine.direction() == ReadingDirection::Both
                || self.backward && engine.direction().is_forward())
        {
            return self.marked(engine, &tokens);
        }
        if backward {
            tokens.reverse();
            documents.iter_mut().for_each(|document| document.reverse());
        }
        if ranks.size() > 1 {
            let held_out = (&*tokens, &*documents);
            let measured = self.over(&ranks, &engine, &hooks, held_out, &options)?;
            return match ranks.rank() {
                0 => self.report_stream(&measured, bytes, engine.order(), &options),
                _ => Ok(()),
            };
        }
        let hooked = super::plugin_options::hooked(&engine, &hooks, self.seed)?;
        if let Some(texts) = &self.continuation {
            let measured = hooked.continuations(&tokens, texts, self.divergence)?;
            return if measured.retained.is_empty() {
                self.report(&measured.evaluation(engine.vocabulary()), 0, engine.order())
            } else {
                self.continued(&measured)
            };
        }
        if self.documents {
            return self.report(&hooked.documents(&documents)?, bytes, engine.order());
        }
        if !self.contexts.is_empty() {
            let shuffle = self.shuffle_prefix.map(|kept| Shuffle {
                kept,
                seed: self.seed,
            });
            let measured = hooked.contexts(&tokens, &self.contexts, shuffle, &options)?;
            return self.report_contexts(&measured, engine.vocabulary(), engine.order(), &options);
        }
        let measured = match self.windows {
            Some(windows) if !self.stream => {
                let windows = windows.starting_at(self.first_window);
                self.windows(&hooked, &tokens, &windows)?
            }
            _ => {
                let (from, to) = self.span(tokens.len());
                hooked.stream(&tokens[..to], from, &options)?
            }
        };
        self.report_stream(&measured, bytes, engine.order(), &options)
    }

    /// Measure windows or documents over several ranks; of a model that they hold in parts, a stream too.
    fn over(
        &self,
        ranks: &Arc<dyn Ranks>,
        engine: &Engine,
        hooks: &Hooks,
        held_out: (&[u32], &[Vec<u32>]),
        options: &StreamOptions,
    ) -> Result<Evaluation> {
        let (tokens, documents) = held_out;
        let (sequences, model) = SequenceRanks::new(ranks.clone(), &engine.clone().graph()?)?;
        let windows = self.windows.as_ref().filter(|_| !self.stream);
        let divides = self.documents || windows.is_some() || sequences.are_divided();
        let other = self.backward
            || engine.direction() == ReadingDirection::Both
            || !self.contexts.is_empty()
            || self.continuation.is_some();
        if !divides || other || !hooks.is_empty() || !self.backend.allows_cpu() {
            let what = "ranks measure windows or documents of a graph, on the CPU, in one direction and without plugins";
            return Err(Error::new(ErrorKind::Unsupported, what)
                .advice("pass --windows LENGTH,COUNT or --documents, or start one process"));
        }
        let text = serde_json::to_vec(&(tokens, documents)).unwrap_or_default();
        let properties = [
            (
                "the model",
                super::fingerprint_over(&sequences, self.model.as_deref(), &model)?,
            ),
            ("the text", format!("{:016x}", xxh3_64(&text))),
        ];
        agree(&**ranks, &properties)?;
        let mechanism = model.mechanism();
        if self.documents {
            return evaluate_documents_over(&sequences, mechanism, documents, hooks);
        }
        match windows {
            Some(windows) => {
                let windows = windows.starting_at(self.first_window);
                evaluate_windows_over(&sequences, mechanism, tokens, &windows, hooks)
            }
            None => {
                let (from, to) = self.span(tokens.len());
                evaluate_stream_over(&sequences, mechanism, &tokens[..to], from, options)
            }
        }
    }

    /// Return what changes the predictions of a stream.
    fn options(&self, engine: &Engine) -> Result<StreamOptions> {
        let mut options = StreamOptions {
            dynamic: self.dynamic,
            ..StreamOptions::default()
        };
        if self.charges.is_none() && self.recall.is_none() && self.dynamic.is_none() {
            return Ok(options);
        }
        if self.windows.is_some() && !self.stream {
            return Err(Error::new(
                ErrorKind::Input,
                "--charges, --recall and --dynamic need a context that continues",
            )
            .advice("add --stream, or leave out --windows"));
        }
        let model = engine.clone().graph()?;
        if let Some(text) = &self.charges {
            options.charges = Some(model.charges(text)?);
        }
        if let Some(text) = &self.recall {
            options.recall = Some(model.recall(text)?);
        }
        Ok(options)
    }

    /// Measure a model for both directions on windows whose first token is the mark of the direction.
    fn marked(&self, engine: Engine, tokens: &[u32]) -> Result<()> {
        if self.documents || self.stream || !self.contexts.is_empty() || self.continuation.is_some()
        {
            let what = "a model for both directions is measured on a text or on its windows";
            return Err(Error::new(ErrorKind::Unsupported, what)
                .advice("leave out --documents, --stream, --contexts and --continuation"));
        }
        let mut sum = crate::measure::Perplexity::new(engine.vocabulary() as u64);
        let order = engine.order();
        let reader = Reader::new(engine, self.backward)?;
        let (length, windows) = match &self.windows {
            Some(windows) if !self.stream => (
                windows.length.max(2),
                self.first_window..self.first_window + windows.count,
            ),
            _ => (tokens.len().max(2), 0..1),
        };
        let texts: Vec<Vec<u32>> = windows
            .filter_map(|window| tokens.get(window * (length - 1)..window * (length - 1) + length))
            .map(|text| {
                if self.backward {
                    text[..length - 1].to_vec()
                } else {
                    text[1..].to_vec()
                }
            })
            .collect();
        for (text, ln_probability) in texts.iter().zip(reader.likelihoods(&[], &texts)?) {
            sum.add_sum(-ln_probability, text.len() as u64);
        }
        if sum.tokens() == 0 {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "{} tokens are too few for a window of {length}",
                    tokens.len()
                ),
            ));
        }
        self.report(&sum.into(), 0, order)
    }

    fn windows(
        &self,
        hooked: &HookedEngine,
        tokens: &[u32],
        windows: &Windows,
    ) -> Result<Evaluation> {
        #[cfg(feature = "gpu")]
        if let Some(device) = self.backend.upload(hooked.engine(), hooked.hooks())? {
            return crate::run::evaluate_windows_on(&device, tokens, windows);
        }
        hooked.windows(tokens, windows)
    }

    /// The tokens predicted in streaming: those of the windows, or all.
    fn span(&self, tokens: usize) -> (usize, usize) {
        match &self.windows {
            Some(windows) => {
                let stride = windows.length.saturating_sub(1).max(1);
                let to = ((self.first_window + windows.count) * stride + 1).min(tokens);
                (self.first_window * stride + 1, to)
            }
            None => (1, tokens),
        }
    }

    fn report_contexts(
        &self,
        measured: &ContextEvaluation,
        candidates: usize,
        order: Option<usize>,
        options: &StreamOptions,
    ) -> Result<()> {
        if self.json {
            let mut report = json!(measured);
            report["candidates"] = candidates.into();
            report["order"] = json!(order);
            report["shuffle_prefix"] = json!(self.shuffle_prefix);
            extend(&mut report, options);
            super::plugin_options::note(&mut report, self.seed)?;
            return super::say_json(&report);
        }
        let conditions = conditions(order, options);
        for row in &measured.contexts {
            super::say(format!(
                "context {:5}: perplexity {:.2} over {} predictions{conditions}",
                row.context, row.perplexity, measured.tokens
            ))?;
        }
        super::plugin_options::say_reports(self.seed)
    }

    fn continued(&self, continued: &ContinuationReport) -> Result<()> {
        if self.json {
            let mut report = json!(continued);
            super::plugin_options::note(&mut report, self.seed)?;
            return super::say_json(&report);
        }
        let layers = |lengths: &[f64]| {
            let lengths: Vec<String> = lengths.iter().map(|n| format!("{n:.1}")).collect();
            lengths.join(" ")
        };
        super::say(format!(
            "perplexity {:.3} ({:.4} nats per token) of {} tokens in {} texts; {:.0} bytes of keys and values\n\
             tokens kept after the prompt, by layer: {}\n\
             tokens kept at the end, by layer:       {}\n\
             prompt tokens computed, by layer:       {}",
            continued.perplexity,
            continued.nats_per_token,
            continued.tokens,
            continued.texts,
            continued.kv_live_bytes,
            layers(&continued.retained_after_prompt),
            layers(&continued.retained),
            layers(&continued.computed),
        ))?;
        if let (Some(divergence), Some(agreement)) = (continued.divergence, continued.agreement) {
            super::say(format!(
                "against the unmodified model: KL divergence {divergence:.5} nats, top-1 agreement {:.1} %",
                100.0 * agreement
            ))?;
        }
        super::plugin_options::say_reports(self.seed)
    }

    /// Report a perplexity, with the order of the static resistances of a graph.
    fn report(&self, result: &Evaluation, bytes: usize, order: Option<usize>) -> Result<()> {
        self.report_stream(result, bytes, order, &StreamOptions::default())
    }

    /// Report a perplexity, with what changed the predictions of a stream.
    fn report_stream(
        &self,
        result: &Evaluation,
        bytes: usize,
        order: Option<usize>,
        options: &StreamOptions,
    ) -> Result<()> {
        let bits = (bytes > 0).then(|| {
            result.nats_per_token * result.tokens as f64 / std::f64::consts::LN_2 / bytes as f64
        });
        if self.json {
            let mut report = json!({
                "perplexity": result.perplexity,
                "nats_per_token": result.nats_per_token,
                "tokens": result.tokens,
                "candidates": result.candidates,
                "bits_per_byte": bits,
                "order": order,
            });
            extend(&mut report, options);
            super::plugin_options::note(&mut report, self.seed)?;
            return super::say_json(&report);
        }
        super::say(format!(
            "perplexity {:.2} ({:.4} nats per token) over {} predictions among {} tokens{}{}",
            result.perplexity,
            result.nats_per_token,
            result.tokens,
            result.candidates,
            bits.map_or(String::new(), |bits| format!(", {bits:.3} bits per byte")),
            conditions(order, options),
        ))?;
        super::plugin_options::say_reports(self.seed)
    }
}

/// Add what changed the predictions to a report.
fn extend(report: &mut Value, options: &StreamOptions) {
    if let (Some(report), Value::Object(options)) = (report.as_object_mut(), json!(options)) {
        report.extend(options);
    }
}

/// Show the order of static resistances, and what changed the predictions.
fn conditions(order: Option<usize>, options: &StreamOptions) -> String {
    let shown = [
        order.map(|order| format!(", order {order}")),
        options
            .charges
            .map(|charges| format!(", charges {charges}")),
        options.recall.map(|recall| format!(", recall {recall}")),
        options
            .dynamic
            .map(|dynamic| format!(", dynamic {dynamic}")),
    ];
    shown.into_iter().flatten().collect()
}
