//! `brillm generate --prompts FILE`, and generation over ranks: many texts that are generated together.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;
use xxhash_rust::xxh3::xxh3_64;

use super::Arguments;
use crate::cli::plugin_options::{hooked, hooks, note, say_reports_over};
use crate::hook::Hooks;
use crate::ranks::{Ranks, agree};
use crate::run::{Engine, Request, SequenceRanks, generate_over};
use crate::{Error, ErrorKind, Result};

/// Options that --prompts excludes.
pub(super) const OTHERS: [&str; 15] = [
    "prompt",
    "prompt_ids",
    "image",
    "audio",
    "fill",
    "rerank",
    "best_of",
    "backward_model",
    "to_left",
    "beam",
    "save_session",
    "load_session",
    "out_image",
    "out_audio",
    "verbose",
];

/// A prompt of a file, and its tokens.
struct Prompt {
    text: String,
    ids: Vec<u32>,
}

impl Arguments {
    /// Generate the texts of many prompts, or one text or several samples over ranks. Rank 0 prints.
    pub(super) fn together(&self, ranks: &Arc<dyn Ranks>) -> Result<()> {
        let hooks = hooks()?;
        self.check_together(ranks.size(), &hooks)?;
        let engine = self.prompt.open_over(&**ranks)?.forward()?;
        let (sequences, engine) = match engine.as_graph() {
            Some(model) => {
                let (sequences, model) = SequenceRanks::new(ranks.clone(), model)?;
                let cancel = crate::cli::interrupted().clone();
                (sequences.cancel(cancel), Engine::from(&model))
            }
            None if ranks.size() > 1 => {
                let what = "ranks generate with graphs; transformers run in one process";
                return Err(Error::new(ErrorKind::Unsupported, what)
                    .at(engine.name())
                    .advice("start it without a launcher"));
            }
            None => (SequenceRanks::one_process(), engine.batched()?),
        };
        let prompts = match &self.prompts {
            Some(path) => read(path, &engine)?,
            None => vec![Prompt {
                text: String::new(),
                ids: self.prompt.tokens_for(&engine)?,
            }],
        };
        self.agree_together(&sequences, &engine, &prompts)?;
        if self.prompts.is_some() {
            return self.lines(&sequences, &engine, &hooks, &prompts);
        }
        let ids = &prompts[0].ids;
        if !self.choosing.is_plain() {
            let request = |seed| self.seeded(&engine, ids, &hooks, seed);
            let given = (&**ids, &hooks);
            return self
                .choosing
                .choose(&self.prompt, &sequences, &engine, given, &request);
        }
        self.one(&sequences, &engine, &hooks, ids)
    }

    /// Refuse what is not generated together, before anything is read.
    fn check_together(&self, ranks: usize, hooks: &Hooks) -> Result<()> {
        let unsupported =
            |what: &str, advice: &str| Err(Error::new(ErrorKind::Unsupported, what).advice(advice));
        if hooks.order.is_some() {
            let what = "plugins that implement order/1 extend one text, in one process";
            return unsupported(what, "remove the plugin");
        }
        let others = self.choosing.needs_one_process()
            || self.beam.is_some()
            || self.load_session.is_some()
            || self.save_session.is_some()
            || self.output.is_used();
        if ranks > 1 && others {
            let what = "ranks do not support --fill, --rerank, --to-left, --backward-model, --beam, sessions, --out-image and --out-audio";
            return unsupported(what, "remove these options, or start one process");
        }
        let file = self.prompts.as_deref();
        let reads = file == Some("-".as_ref()) || self.prompt.reads_standard_input();
        if ranks > 1 && reads {
            let what = "ranks cannot read prompts from standard input, which one of them has";
            return unsupported(
                what,
                "write the prompts into a file, and pass --prompts FILE",
            );
        }
        Ok(())
    }

    /// Check that all ranks have the same model and prompts.
    fn agree_together(
        &self,
        sequences: &SequenceRanks,
        engine: &Engine,
        prompts: &[Prompt],
    ) -> Result<()> {
        let Some(model) = engine.as_graph().filter(|_| sequences.ranks().size() > 1) else {
            return Ok(());
        };
        let path = self.prompt.model.as_deref();
        let ids: Vec<&[u32]> = prompts.iter().map(|prompt| &*prompt.ids).collect();
        let ids = xxh3_64(&serde_json::to_vec(&ids).unwrap_or_default());
        let properties = [
            (
                "the model",
                crate::cli::fingerprint_over(sequences, path, model)?,
            ),
            ("the prompt", format!("{ids:016x}")),
        ];
        agree(sequences.ranks(), &properties)
    }

    /// Make the request of a text with a seed of its own.
    fn seeded(&self, engine: &Engine, ids: &[u32], hooks: &Hooks, seed: u64) -> Result<Request> {
        let sampling = self.prompt.sampling(0.7).seed(seed);
        Ok(self.request(engine, ids, hooks)?.sampling(sampling))
    }

    /// Generate the texts of the prompts of a file, and print them as JSON lines.
    fn lines(
        &self,
        sequences: &SequenceRanks,
        engine: &Engine,
        hooks: &Hooks,
        prompts: &[Prompt],
    ) -> Result<()> {
        let first = self.prompt.choice.seed;
        let seed = |number: usize| first.wrapping_add(number as u64);
        let request = |number: usize| {
            let request = self.seeded(engine, &prompts[number].ids, hooks, seed(number))?;
            Ok(request.sequence(number as u64))
        };
        let hooked = hooked(engine, hooks, first)?;
        let texts = generate_over(sequences, &hooked, prompts.len(), &request)?;
        let numbered = prompts.iter().zip(texts).enumerate();
        for (number, (prompt, generated)) in numbered.filter(|_| sequences.ranks().rank() == 0) {
            crate::cli::say_json_line(&json!({
                "prompt": prompt.text,
                "prompt_ids": prompt.ids,
                "ids": generated.ids,
                "text": generated.text,
                "finish_reason": generated.finish,
                "seed": seed(number),
            }))?;
        }
        say_reports_over(sequences.ranks(), first)
    }

    /// Generate one text, on rank 0 with the edges of all, and print it.
    fn one(
        &self,
        sequences: &SequenceRanks,
        engine: &Engine,
        hooks: &Hooks,
        ids: &[u32],
    ) -> Result<()> {
        let begun = Instant::now();
        let seed = self.prompt.choice.seed;
        let request = |_| self.request(engine, ids, hooks);
        let texts = generate_over(sequences, &hooked(engine, hooks, seed)?, 1, &request)?;
        let Some(generated) = texts.first().filter(|_| sequences.ranks().rank() == 0) else {
            return Ok(());
        };
        if self.prompt.json {
            let mut report = self.report(&self.name(engine), ids, generated, begun);
            note(&mut report, seed)?;
            crate::cli::say_json(&report)?;
        } else {
            let text = engine.tokenizer().decode(ids) + &generated.text;
            crate::cli::say(text)?;
            crate::cli::plugin_options::say_reports(seed)?;
        }
        self.say_finish(generated.finish);
        Ok(())
    }
}

/// Read the prompts of a file: lines, or in a .jsonl file objects. Empty lines are skipped.
///
/// # Errors
/// [`ErrorKind::Format`] for a line that is not such an object; [`ErrorKind::Input`] for a file without prompts.
fn read(path: &Path, engine: &Engine) -> Result<Vec<Prompt>> {
    #[derive(Deserialize)]
    struct Line {
        prompt: Option<String>,
        text: Option<String>,
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let objects = name.contains(".jsonl");
    let file = crate::text::read_text(path)?;
    let mut prompts = Vec::new();
    for (line, number) in file.lines().zip(1..) {
        let at = |error: Error| error.at(format!("{} line {number}", path.display()));
        if line.trim().is_empty() {
            continue;
        }
        let text = match objects {
            true => {
                let line: Line =
                    serde_json::from_str(line).map_err(|error| at(Error::json_line(error)))?;
                line.prompt.or(line.text).ok_or_else(|| {
                    let what = "the object has neither \"prompt\" nor \"text\"";
                    at(Error::new(ErrorKind::Format, what))
                })?
            }
            false => line.to_string(),
        };
        let ids = engine.encode(&text).map_err(at)?;
        if ids.is_empty() {
            return Err(at(Error::new(ErrorKind::Input, "the prompt is empty"))
                .advice("write at least one character, or remove the line"));
        }
        prompts.push(Prompt { text, ids });
    }
    if prompts.is_empty() {
        return Err(Error::new(ErrorKind::Input, "the file has no prompts")
            .at(path.display())
            .advice("write one prompt a line"));
    }
    Ok(prompts)
}
