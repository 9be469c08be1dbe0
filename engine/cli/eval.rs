//! `brillm eval`: perplexity on held-out text or ids, over the full vocabulary.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::hook::Hooks;
use crate::measure::{Continuations, Windows};
use crate::run::{Engine, Evaluation, Reader, evaluate_stream, evaluate_windows};
use crate::text::{Corpus, CorpusOptions, ReadingDirection, read_ids};
use crate::{Error, ErrorKind, Result};

/// Measures perplexity over all V targets.
#[derive(Args)]
pub(super) struct Arguments {
    /// The model: a .bril file, or a folder with a config.json; the English one in the program by default.
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Text to measure on: files, folders, globs, or -.
    #[arg(required_unless_present = "ids", conflicts_with = "ids")]
    text: Vec<String>,
    /// Token ids to measure on, .u16 or .u32.
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Windows LENGTH,COUNT whose state is reset; without it the whole text is one stream.
    #[arg(long, value_name = "LENGTH,COUNT")]
    windows: Option<Windows>,
    /// The first window measured.
    #[arg(long, default_value_t = 0, value_name = "W")]
    first_window: usize,
    /// Measures the tokens of the windows, but with a context that runs on.
    #[arg(long, requires = "windows")]
    stream: bool,
    /// Measures each document from its own beginning, cut to a transformer's context.
    #[arg(long, conflicts_with_all = ["ids", "windows", "charges", "contexts"])]
    documents: bool,
    /// Predicts NEW tokens after each PROMPT tokens, one by one, with the memory as plugins leave it.
    #[arg(long, value_name = "PROMPT,NEW[,COUNT]", conflicts_with_all = ["windows", "charges", "contexts", "documents"])]
    continuation: Option<Continuations>,
    /// Measures a model that reads both ways from right to left; a backward model always is.
    #[arg(long, conflicts_with_all = ["continuation", "documents", "charges", "contexts"])]
    backward: bool,
    /// Measures the model as it is beside: divergence and agreement (transformers).
    #[arg(long, requires = "continuation")]
    beside: bool,
    /// Switches on charges: those the model was fitted with, or DECAY,NODE,EDGE,SCALE.
    #[arg(long, num_args = 0..=1, default_missing_value = "", require_equals = true, value_name = "DECAY,NODE,EDGE,SCALE")]
    charges: Option<String>,
    /// Perplexity of a window's last tokens after contexts of these lengths: how far the past reaches.
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    contexts: Vec<usize>,
    /// Shuffles all but the last N tokens of each context: what order beyond them is worth.
    #[arg(long, value_name = "N")]
    shuffle_prefix: Option<usize>,
    /// Seed of the shuffling.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    backend: super::backend::BackendArguments,
    /// Report as JSON.
    #[arg(long)]
    json: bool,
}

/// Predictions measured for each context length, at most.
const PREDICTIONS: usize = 2000;

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        self.backend.check()?;
        #[cfg(feature = "gpu")]
        if self.backend.choice().is_forced()
            && (self.stream || self.windows.is_none() || !self.contexts.is_empty())
        {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "one context that runs on gives a device nothing to do side by side",
            )
            .advice("measure --windows there, or use --backend cpu"));
        }
        let engine = super::open_engine(self.model.as_deref())?;
        let hooks = super::plugins::hooks()?;
        let mut bytes = 0;
        let mut documents = Vec::new();
        let backward = self.backward || !engine.direction().reads_forward();
        let mut tokens = match &self.ids {
            Some(path) => read_ids(path, Some(engine.vocabulary()))?,
            None => {
                let mut tokens = engine.tokenizer().frame().0;
                for document in Corpus::open(&self.text, CorpusOptions::default())? {
                    let document = document?;
                    if self.documents {
                        documents.push(engine.encode(&document)?);
                        continue;
                    }
                    bytes += document.len();
                    tokens.extend(engine.tokenizer().encode(&document)?);
                    tokens.extend(engine.tokenizer().vocabulary().stop());
                }
                tokens
            }
        };
        // Of a model that reads backward anyway, nothing more was asked.
        if engine.direction() == ReadingDirection::Both
            || self.backward && engine.direction().is_forward()
        {
            return self.marked(engine, &tokens);
        }
        if backward {
            tokens.reverse();
            documents.iter_mut().for_each(|document| document.reverse());
        }
        let model = match engine {
            Engine::Graph(model) => model,
            #[cfg(feature = "transformer")]
            Engine::Transformer(model) => {
                return self.transformer(&model, &tokens, &documents, bytes, &hooks);
            }
        };
        let mechanism = model.mechanism();
        if let Some(texts) = &self.continuation {
            return self.continuations(mechanism, texts, &tokens, &hooks);
        }
        if self.documents {
            return self.documents(mechanism, &documents, &hooks);
        }
        if !self.contexts.is_empty() {
            return self.each_context(&tokens, mechanism.nodes(), &hooks, &|context, place| {
                let sampling = crate::path::Sampling::greedy();
                let start = crate::signal::Start::Profile;
                let mut session = crate::path::GraphSession::begin_with_hooks(
                    mechanism.clone(),
                    context,
                    &start,
                    sampling,
                    crate::path::HookRunner::new(&hooks, place as u64),
                )?;
                session.resistance(tokens[place])
            });
        }
        let result = match &self.windows {
            Some(windows) if !self.stream => {
                let range = self.first_window..self.first_window + windows.count;
                self.windows(&model, &tokens, windows.length, range, &hooks)?
            }
            _ => {
                let (from, to) = self.span(tokens.len());
                evaluate_stream(
                    mechanism,
                    &tokens[..to],
                    from,
                    match &self.charges {
                        Some(text) => Some(model.charges(text)?.charges()),
                        None => None,
                    },
                    &hooks,
                )?
            }
        };
        self.report(&result, bytes)
    }

    /// A model that is told which way a text is read: windows, each with its mark in the first token's place.
    fn marked(&self, engine: Engine, tokens: &[u32]) -> Result<()> {
        let mut sum = crate::measure::Perplexity::new(engine.vocabulary() as u64);
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
            .map(|text| match self.backward {
                true => text[..length - 1].to_vec(),
                false => text[1..].to_vec(),
            })
            .collect();
        for (text, ln_probability) in texts.iter().zip(reader.likelihoods(&[], &texts)?) {
            sum.add_sum(-ln_probability, text.len() as u64);
        }
        if sum.tokens() == 0 {
            return Err(Error::new(
                ErrorKind::Input,
                format!("{} tokens hold no window of {length}", tokens.len()),
            ));
        }
        self.report(&sum.into(), 0)
    }

    fn windows(
        &self,
        model: &crate::Model,
        tokens: &[u32],
        length: usize,
        range: std::ops::Range<usize>,
        hooks: &Hooks,
    ) -> Result<Evaluation> {
        #[cfg(feature = "gpu")]
        if let Some(device) = self.backend.put(model, hooks)? {
            return crate::run::evaluate_windows_on(&device, tokens, length, range);
        }
        evaluate_windows(model.mechanism(), tokens, length, range, hooks)
    }

    /// Continuations of prompts by the graph, whose state is all that it remembers.
    fn continuations(
        &self,
        mechanism: &std::sync::Arc<crate::signal::Mechanism>,
        texts: &Continuations,
        tokens: &[u32],
        hooks: &Hooks,
    ) -> Result<()> {
        let mut sum = crate::measure::Perplexity::new(mechanism.nodes() as u64);
        for (index, start) in texts.starts(tokens.len()).enumerate() {
            let (prompt, new) =
                tokens[start..start + texts.prompt + texts.new].split_at(texts.prompt);
            let mut session = crate::path::GraphSession::begin_with_hooks(
                mechanism.clone(),
                prompt,
                &crate::signal::Start::Profile,
                crate::path::Sampling::greedy(),
                crate::path::HookRunner::new(hooks, index as u64),
            )?;
            for &next in new {
                sum.add_sum(session.resistance(next)?, 1);
                session.force(next)?;
            }
        }
        if sum.tokens() == 0 {
            return Err(Error::new(
                ErrorKind::Input,
                format!("{} tokens hold no text of {texts}", tokens.len()),
            ));
        }
        self.report(&sum.into(), 0)
    }

    /// Each document a flow of its own.
    fn documents(
        &self,
        mechanism: &std::sync::Arc<crate::signal::Mechanism>,
        documents: &[Vec<u32>],
        hooks: &Hooks,
    ) -> Result<()> {
        let mut sum = crate::measure::Perplexity::new(mechanism.nodes() as u64);
        for document in documents.iter().filter(|document| document.len() > 1) {
            let part = evaluate_stream(mechanism, document, 1, None, hooks)?;
            sum.add_sum(part.nats_per_token * part.tokens as f64, part.tokens as u64);
        }
        if sum.tokens() == 0 {
            return Err(Error::new(ErrorKind::Input, "no text has two tokens"));
        }
        self.report(&sum.into(), 0)
    }

    #[cfg(feature = "transformer")]
    fn transformer(
        &self,
        model: &crate::transformer::Transformer,
        tokens: &[u32],
        documents: &[Vec<u32>],
        bytes: usize,
        hooks: &Hooks,
    ) -> Result<()> {
        use crate::transformer;
        if self.charges.is_some() {
            return Err(
                Error::new(ErrorKind::Unsupported, "charges belong to a graph")
                    .advice("leave them out, or use a .bril model"),
            );
        }
        let asked = super::plugins::asked(model, hooks, self.seed)?;
        if !self.contexts.is_empty() {
            let shape = model.configuration();
            return self.each_context(tokens, shape.vocabulary, hooks, &|context, place| {
                let sampling = crate::path::Sampling::greedy();
                let options = asked.options(shape, place as u64, context.len())?;
                let mut session =
                    transformer::TransformerSession::begin_with(model, context, sampling, options)?;
                session.resistance(tokens[place])
            });
        }
        if let Some(texts) = &self.continuation {
            let continued =
                transformer::evaluate_continuations(model, tokens, texts, &asked, self.beside)?;
            return self.continued(&continued);
        }
        if asked.decides() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "whole texts at once go through no cache that a technique could change",
            )
            .advice("measure with --continuation PROMPT,NEW"));
        }
        let measured = match &self.windows {
            _ if self.documents => transformer::evaluate_documents(model, documents)?,
            Some(windows) if !self.stream => {
                let range = self.first_window..self.first_window + windows.count;
                transformer::evaluate_windows(model, tokens, windows.length, range)?
            }
            _ => {
                let (from, to) = self.span(tokens.len());
                transformer::evaluate_stream(model, &tokens[..to], from)?
            }
        };
        self.report(&measured.into(), bytes)
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

    /// Predicts the same tokens after contexts of different lengths; `resistance` of the token at a place.
    fn each_context(
        &self,
        tokens: &[u32],
        candidates: usize,
        hooks: &Hooks,
        resistance: &(dyn Fn(&[u32], usize) -> Result<f64> + Sync),
    ) -> Result<()> {
        use rayon::prelude::*;
        let longest = self.contexts.iter().copied().max().unwrap_or(0);
        if longest == 0 || tokens.len() <= longest + 1 {
            return Err(Error::new(
                ErrorKind::Input,
                format!("{} tokens are too few for these contexts", tokens.len()),
            ));
        }
        let stride = ((tokens.len() - longest) / PREDICTIONS).max(1);
        let places: Vec<usize> = (longest..tokens.len())
            .step_by(stride)
            .take(PREDICTIONS)
            .collect();
        let mut rows = Vec::new();
        for &length in &self.contexts {
            let one = |&place: &usize| {
                let mut context = tokens[place - length..place].to_vec();
                if let Some(kept) = self.shuffle_prefix {
                    let shuffled = length.saturating_sub(kept);
                    let mut random =
                        crate::kernel::random::Random::stream(self.seed, 0x7368_7566, place as u64);
                    random.shuffle(&mut context[..shuffled]);
                }
                resistance(&context, place)
            };
            // Hooks keep state: they are asked in an order that replays.
            let nats: Vec<f64> = if hooks.is_empty() {
                places.par_iter().map(one).collect::<Result<_>>()?
            } else {
                places.iter().map(one).collect::<Result<_>>()?
            };
            let mean = nats.iter().sum::<f64>() / nats.len() as f64;
            rows.push((length, mean.exp(), mean));
        }
        if self.json {
            let rows: Vec<_> = rows
                .iter()
                .map(|&(length, perplexity, nats)| {
                    json!({"context": length, "perplexity": perplexity, "nats_per_token": nats})
                })
                .collect();
            let mut report = json!({
                "contexts": rows,
                "tokens": places.len(),
                "candidates": candidates,
                "shuffle_prefix": self.shuffle_prefix,
            });
            super::plugins::note(&mut report, self.seed)?;
            return super::say_json(&report);
        }
        for (length, perplexity, _) in rows {
            super::say(format!(
                "context {length:5}: perplexity {perplexity:.2} over {} predictions",
                places.len()
            ))?;
        }
        Ok(())
    }

    #[cfg(feature = "transformer")]
    fn continued(&self, continued: &crate::transformer::ContinuationReport) -> Result<()> {
        if self.json {
            let mut report = json!(continued);
            super::plugins::note(&mut report, self.seed)?;
            return super::say_json(&report);
        }
        let layers = |lengths: &[f64]| {
            let lengths: Vec<String> = lengths.iter().map(|n| format!("{n:.1}")).collect();
            lengths.join(" ")
        };
        super::say(format!(
            "perplexity {:.3} ({:.4} nats per token) of {} tokens in {} texts; {:.0} bytes of keys and values\n\
             kept after the prompt: {}\nkept at the end:       {}\nprompt rows computed:  {}",
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
                "against the model as it is: divergence {divergence:.5} nats, the same likeliest token in {:.1} %",
                100.0 * agreement
            ))?;
        }
        super::plugins::say_reports(self.seed)
    }

    fn report(&self, result: &Evaluation, bytes: usize) -> Result<()> {
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
            });
            super::plugins::note(&mut report, self.seed)?;
            return super::say_json(&report);
        }
        super::say(format!(
            "perplexity {:.2} ({:.4} nats per token) over {} predictions among {} tokens{}",
            result.perplexity,
            result.nats_per_token,
            result.tokens,
            result.candidates,
            bits.map_or(String::new(), |bits| format!(", {bits:.3} bits per byte"))
        ))?;
        super::plugins::say_reports(self.seed)
    }
}
