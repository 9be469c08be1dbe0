//! `brillm generate`: continue a prompt, or many.

mod together;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use super::prompt::PromptArguments;
use super::ranks::RankArguments;
use crate::hook::Hooks;
use crate::model::Model;
use crate::path::{BeamOptions, BeamPath, SessionState};
use crate::run::{Engine, Finish, Generated, Reader, Request, SequenceRanks};
use crate::text::Tokenizer;
use crate::{Error, ErrorKind, Result};

/// Continue a prompt and stream the text.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
#[command(mut_arg("prompt", |prompt| prompt.required_unless_present_any(["prompt_ids", "prompts", "fill", "load_session", "image", "audio"])))]
#[command(mut_arg("temperature", |temperature| temperature.help("Sampling temperature; 0 always takes the most probable token [default: 0.7]")))]
pub(super) struct Arguments {
    #[command(flatten)]
    prompt: PromptArguments,
    #[command(flatten)]
    choosing: super::best_of::SamplingArguments,
    /// Continue each line of FILE, or `-`, and print a JSON object for each, in the same order. A line is a prompt; in a .jsonl
    /// file an object with "prompt" or "text". Prompt n, from 0 and without empty lines, uses the seed --seed + n.
    #[arg(long, value_name = "FILE", conflicts_with_all = together::OTHERS)]
    prompts: Option<PathBuf>,
    /// Stop at this text; may be repeated.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Continue past the model's stop tokens.
    #[arg(long)]
    ignore_eos: bool,
    /// Beam search: print the B paths of least resistance, each with its total resistance in nats.
    #[arg(long, value_name = "B", conflicts_with_all = ["temperature", "charges", "recall", "save_session", "load_session"])]
    beam: Option<usize>,
    /// Add ENERGY, in nats, to the logit of a token at a step [default: 0, the first]; may be repeated.
    #[arg(long, value_name = "ID=ENERGY[@STEP]", value_parser = parse_injection)]
    inject: Vec<(u32, f32, usize)>,
    /// Force a token at a step [default: 0, the first]; may be repeated.
    #[arg(long, value_name = "ID[@STEP]", value_parser = parse_forced)]
    force: Vec<(u32, usize)>,
    /// Raise the probability of recently visited tokens and edges (a cache language model) by the fitted charges of the
    /// model, or by DECAY,NODE,EDGE,SCALE.
    #[arg(long, num_args = 0..=1, default_missing_value = "", require_equals = true, value_name = "DECAY,NODE,EDGE,SCALE")]
    charges: Option<String>,
    /// Write the session to FILE at the end, for --load-session.
    #[arg(long, value_name = "FILE")]
    save_session: Option<PathBuf>,
    /// Continue a session written by --save-session.
    #[arg(long, value_name = "FILE")]
    load_session: Option<PathBuf>,
    #[command(flatten)]
    output: super::media::OutputArguments,
    /// Print on standard error why the text ended.
    #[arg(long)]
    verbose: bool,
    // Last: its heading is that of all options after it.
    #[command(flatten)]
    ranks: RankArguments,
}

/// Shown below `brillm generate --help`.
const EXAMPLES: &str = "\
Examples:
  brillm generate \"Once upon a time\"
  brillm generate \"The crow\" --temperature 0 --tokens 40 --json
  brillm generate --model senses.bril --image three.png
  brillm generate --model senses.bril \"a three\" --out-image three.png --out-audio three.wav
  brillm generate \"Lily\" --beam 3 --tokens 8
  brillm generate --prompts prompts.txt --tokens 40 > texts.jsonl
  mpirun -n 4 brillm generate --ranks 4 --model own.bril --prompts prompts.jsonl
  echo \"One day\" | brillm generate - --model models/stories260K --seed 7";

/// Splits `WHAT@STEP`; the step is 0 by default.
fn split_step(text: &str) -> std::result::Result<(&str, usize), String> {
    match text.split_once('@') {
        Some((what, step)) => Ok((
            what,
            step.parse()
                .map_err(|_| "invalid step: expected a whole number")?,
        )),
        None => Ok((text, 0)),
    }
}

fn parse_injection(text: &str) -> std::result::Result<(u32, f32, usize), String> {
    let (what, step) = split_step(text)?;
    let (id, energy) = what.split_once('=').ok_or("expected ID=ENERGY[@STEP]")?;
    Ok((
        id.parse()
            .map_err(|_| "invalid token id: expected a whole number")?,
        energy
            .parse()
            .ok()
            .filter(|energy: &f32| energy.is_finite())
            .ok_or("invalid energy: expected a finite number")?,
        step,
    ))
}

fn parse_forced(text: &str) -> std::result::Result<(u32, usize), String> {
    let (id, step) = split_step(text)?;
    Ok((
        id.parse()
            .map_err(|_| "invalid token id: expected a whole number")?,
        step,
    ))
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        super::catch_interrupt()?;
        let ranks = self.ranks.start()?;
        if ranks.size() > 1 || self.prompts.is_some() {
            RankArguments::agree(&*ranks)?;
            return self.together(&ranks);
        }
        if let Some(text) = self.choosing.gap() {
            return self.gap(text);
        }
        let (engine, ids) = match &self.load_session {
            Some(_) => self.prompt.open_to_continue()?,
            None => self.prompt.open()?,
        };
        let hooks = super::plugin_options::hooks()?;
        if !self.choosing.is_plain() {
            let engine = engine.forward()?;
            let request = |seed| {
                let sampling = self.prompt.sampling(0.7).seed(seed);
                Ok(self.request(&engine, &ids, &hooks)?.sampling(sampling))
            };
            let sequences = SequenceRanks::one_process();
            return self.choosing.choose(
                &self.prompt,
                &sequences,
                &engine,
                (&ids, &hooks),
                &request,
            );
        }
        if self.choosing.to_left || !engine.direction().reads_forward() {
            self.output.check_forward(&engine)?;
            return self.leftward(engine, &ids, &hooks);
        }
        if hooks.order.is_some()
            && let Some(backward) = self.choosing.reader()?
        {
            return self.both_ways(engine, &backward, &ids, &hooks);
        }
        if self.output.is_used() {
            let request = |ids: &[u32]| self.request(&engine, ids, &hooks);
            return self
                .output
                .write(&self.prompt, &engine, ids, &hooks, &request);
        }
        let name = self.name(&engine);
        if let Some(width) = self.beam {
            return self.beam(&engine, &ids, width, &hooks);
        }
        #[cfg(feature = "transformer")]
        if let Some(model) = engine.as_transformer().filter(|_| !engine.is_causal()) {
            return self.fill(&name, model, ids, &hooks);
        }
        if let Some(model) = engine.as_graph()
            && hooks.order.is_some()
        {
            return self.grow(model, &ids, &hooks);
        }
        self.stream(&name, &engine, &ids, &hooks)
    }

    /// The name of the model in reports.
    fn name(&self, engine: &Engine) -> String {
        let path = self.prompt.model.as_ref();
        path.map_or(engine.name().to_string(), |path| path.display().to_string())
    }

    /// Fills the gap of a text.
    fn gap(&self, text: &str) -> Result<()> {
        let engine = self.prompt.open_engine()?;
        #[cfg(feature = "transformer")]
        if let Some(model) = engine.as_transformer().filter(|_| !engine.is_causal()) {
            let ids = model.encode(&text.replace("___", "[MASK]"))?;
            return self.fill(model.name(), model, ids, &super::plugin_options::hooks()?);
        }
        let _ = text;
        self.choosing.fill_gap(&self.prompt, engine)
    }

    /// Extends a text to the left. What is new comes before what was there, so it is said when it is done.
    fn leftward(&self, engine: Engine, ids: &[u32], hooks: &Hooks) -> Result<()> {
        let others = self.beam.is_some()
            || self.load_session.is_some()
            || self.save_session.is_some()
            || self.charges.is_some()
            || self.prompt.recall.is_some()
            || !self.stop.is_empty()
            || hooks.order.is_some();
        if others {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "extending to the left does not support --beam, --stop, --charges, --recall, sessions or plugins that implement order/1",
            ));
        }
        let reader = Reader::new(engine, true)?;
        let request = self.request(reader.engine(), &reader.taken(ids), hooks)?;
        super::best_of::leftward(&self.prompt, &reader, ids, request, hooks)
    }

    fn request(&self, engine: &Engine, ids: &[u32], hooks: &Hooks) -> Result<Request> {
        let mut request: Request = self
            .prompt
            .request(ids.to_vec(), 0.7)
            .ignore_eos(self.ignore_eos)
            .hooks(hooks.clone())
            .cancel(super::interrupted().clone());
        if let Some(text) = &self.charges {
            request = request.charges(engine.clone().graph()?.charges(text)?);
        }
        if let Some(recall) = self.prompt.recall(engine)? {
            request = request.recall(recall);
        }
        for stop in &self.stop {
            request = request.stop(stop);
        }
        for &(token, energy, step) in &self.inject {
            request = request.inject(step, token, energy);
        }
        for &(token, step) in &self.force {
            request = request.force(step, token);
        }
        Ok(request)
    }

    /// A model that sees both sides fills in what is masked; without a mask, masks are put at the end.
    #[cfg(feature = "transformer")]
    fn fill(
        &self,
        name: &str,
        model: &crate::transformer::Transformer,
        ids: Vec<u32>,
        hooks: &Hooks,
    ) -> Result<()> {
        let begun = Instant::now();
        let sampling = self.prompt.sampling(0.0);
        let (text, filled) =
            crate::run::fill_text(model, &ids, self.prompt.length(), &sampling, hooks)?;
        let new: Vec<u32> = filled.iter().map(|filled| filled.token).collect();
        let whole = model.tokenizer().decode(&text);
        if !self.prompt.json {
            super::say(whole.trim_start())?;
            return super::plugin_options::say_reports(self.prompt.choice.seed);
        }
        let mut report = json!({
            "model": name,
            "prompt_ids": ids,
            "ids": new,
            "text": model.tokenizer().decode(&new),
            "filled": whole,
            "positions": filled.iter().map(|filled| filled.position).collect::<Vec<_>>(),
            "tokens_per_second": new.len() as f64 / begun.elapsed().as_secs_f64().max(1e-9),
            "seed": self.prompt.choice.seed,
        });
        super::plugin_options::note(&mut report, self.prompt.choice.seed)?;
        super::say_json(&report)
    }

    /// Generates one text and streams it, or reports it as JSON.
    fn stream(&self, name: &str, engine: &Engine, ids: &[u32], hooks: &Hooks) -> Result<()> {
        let mut request = self.request(engine, ids, hooks)?;
        if self.save_session.is_some() || self.load_session.is_some() {
            engine.clone().graph()?;
        }
        if let Some(path) = &self.load_session {
            let text = std::fs::read(path).map_err(|error| Error::io(error, path.display()))?;
            let state =
                SessionState::from_bytes(&text).map_err(|error| error.at(path.display()))?;
            request = request.resume(state);
        }
        #[cfg(feature = "gpu")]
        let device = self.prompt.backend.upload(engine, hooks)?;
        #[cfg(feature = "gpu")]
        if let Some(device) = device.clone() {
            request = request.device(device, self.prompt.backend.choice().is_forced());
        }
        let hooked = super::plugin_options::hooked(engine, hooks, self.prompt.choice.seed)?;
        let begun = Instant::now();
        let mut generation = hooked.start(request)?;
        if self.prompt.json {
            let (text, new) = generation.collect_text()?;
            let finish = generation.finish();
            let generated = Generated {
                text,
                ids: new,
                finish,
            };
            let mut report = self.report(name, ids, &generated, begun);
            if let Some(cache) = generation.session().cache() {
                report["cache"] = json!(cache);
            }
            #[cfg(feature = "gpu")]
            if let Some(device) = &device {
                report["adapter"] = json!(device.device().report().to_string());
                // Only where the fans do not all fit.
                if let Some(counts) = device.page_counts() {
                    report["pages"] = json!({
                        "hops": counts.hops,
                        "misses": counts.misses,
                        "hit_rate": counts.hit_rate(),
                    });
                }
            }
            super::plugin_options::note(&mut report, self.prompt.choice.seed)?;
            super::say_json(&report)?;
        } else {
            super::stream(&engine.tokenizer().decode(ids))?;
            for piece in &mut generation {
                // An error follows the text on a line of its own.
                let piece = piece.or_else(|error| super::say("").and(Err(error)))?;
                super::stream(&piece.text)?;
            }
            super::say("")?;
            super::plugin_options::say_reports(self.prompt.choice.seed)?;
        }
        self.say_finish(generation.finish());
        #[cfg(feature = "gpu")]
        if let Some(error) = generation.session().device_error() {
            super::warn(&crate::run::taken_over(error));
        }
        if let Some(path) = &self.save_session {
            // Only graphs get here, and their sessions can be saved.
            if let Some(state) = generation.session().snapshot() {
                brillm_file::write(path, state.to_bytes()?).map_err(Error::io_at(path))?;
            }
        }
        Ok(())
    }

    /// Make the report of a text that was generated since `begun`.
    fn report(&self, name: &str, ids: &[u32], generated: &Generated, begun: Instant) -> Value {
        let tokens = ids.len() + generated.ids.len();
        json!({
            "model": name,
            "prompt_ids": ids,
            "ids": generated.ids,
            "text": generated.text,
            "finish_reason": generated.finish,
            "tokens_per_second": tokens as f64 / begun.elapsed().as_secs_f64().max(1e-9),
            "seed": self.prompt.choice.seed,
        })
    }

    /// Print why a text ended, where that is wanted. One that ends early for want of positions is reported in any case.
    fn say_finish(&self, finish: Option<Finish>) {
        if let Some(finish) = finish
            && (self.verbose || finish == Finish::Context)
        {
            super::warn(&format!("ended: {}", finish.describe()));
        }
    }

    /// A text that grows both ways, where a plugin says, with a model for each.
    fn both_ways(
        &self,
        engine: Engine,
        backward: &Reader,
        ids: &[u32],
        hooks: &Hooks,
    ) -> Result<()> {
        self.check_growing()?;
        let forward = Reader::new(engine, false)?;
        let grown = crate::run::grow_both_ways(
            &forward,
            backward,
            ids,
            &self.prompt.sampling(0.7),
            self.prompt.length(),
            self.ignore_eos,
            hooks,
        )?;
        super::best_of::show_grown(&self.prompt, forward.engine().tokenizer(), ids, &grown)
    }

    /// Refuses what a text that grows both ways does not take.
    fn check_growing(&self) -> Result<()> {
        let others = self.load_session.is_some()
            || self.save_session.is_some()
            || self.charges.is_some()
            || self.prompt.recall.is_some()
            || !self.stop.is_empty()
            || !self.inject.is_empty()
            || !self.force.is_empty();
        if others {
            return Err(Error::new(
                ErrorKind::Configuration,
                "extending at both ends does not support --stop, --charges, --recall, --inject, --force or sessions",
            )
            .advice("remove these options, or the plugin that implements order/1"));
        }
        Ok(())
    }

    /// A text that grows both ways, where a plugin says, with a model that reads forward.
    fn grow(&self, model: &Model, ids: &[u32], hooks: &Hooks) -> Result<()> {
        self.check_growing()?;
        let end = if self.ignore_eos {
            None
        } else {
            model.tokenizer().vocabulary().stop()
        };
        let grown = crate::run::grow(
            model.mechanism(),
            ids,
            &self.prompt.start,
            &self.prompt.sampling(0.7),
            self.prompt.length(),
            end,
            hooks,
        )?;
        super::best_of::show_grown(&self.prompt, model.tokenizer(), ids, &grown)
    }

    fn beam(&self, engine: &Engine, ids: &[u32], width: usize, hooks: &Hooks) -> Result<()> {
        let options = BeamOptions {
            width,
            tokens: self.prompt.length(),
            stop: if self.ignore_eos {
                Vec::new()
            } else {
                engine.stop_tokens()
            },
            banned: self.prompt.choice.banned.clone(),
        };
        let start = &self.prompt.start;
        #[cfg(feature = "gpu")]
        if let Some(device) = self.prompt.backend.upload(engine, hooks)? {
            let paths = crate::path::beam_on(&device, ids, start, &options)?;
            return self.show_paths(engine.tokenizer(), ids, &paths);
        }
        let hooked = engine.with_hooks(hooks, self.prompt.choice.seed)?;
        let paths = hooked.beam(ids, start, &options)?;
        self.show_paths(engine.tokenizer(), ids, &paths)
    }

    fn show_paths(&self, tokenizer: &Tokenizer, ids: &[u32], paths: &[BeamPath]) -> Result<()> {
        if self.prompt.json {
            let paths: Vec<_> = paths
                .iter()
                .map(|path| {
                    json!({
                        "ids": path.nodes,
                        "text": tokenizer.decode_after(ids, &path.nodes),
                        "resistance": path.resistance,
                        "stopped": path.stopped,
                    })
                })
                .collect();
            let mut report = json!({"prompt_ids": ids, "paths": paths});
            super::plugin_options::note(&mut report, self.prompt.choice.seed)?;
            return super::say_json(&report);
        }
        let prompt = tokenizer.decode(ids);
        for path in paths {
            super::say(format!(
                "{:9.3}  {prompt}{}",
                path.resistance,
                tokenizer.decode_after(ids, &path.nodes)
            ))?;
        }
        Ok(())
    }
}
