//! `brillm trace`: every step of a generation with its candidates.

use clap::Args;
use serde_json::{Value, json};

use super::prompt::PromptArguments;
use crate::Result;
use crate::graph::NodeId;
use crate::model::Model;
use crate::path::{Asking, Session};
use crate::run::Engine;
use crate::text::Tokenizer;

/// Candidates shown for each step without --all.
const SHOWN: usize = 24;

/// Shows each step of a path: the candidates, their energies and probabilities.
#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    prompt: PromptArguments,
    /// Every candidate of each step, not only the likeliest.
    #[arg(long)]
    all: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let (engine, ids) = self.prompt.open()?;
        match engine {
            Engine::Graph(model) => self.graph(&model, ids),
            #[cfg(feature = "transformer")]
            Engine::Transformer(model) => self.transformer(&model, ids),
        }
    }

    fn graph(&self, model: &Model, ids: Vec<u32>) -> Result<()> {
        let mechanism = model.mechanism().clone();
        let hooks = super::plugins::hooks()?;
        let mut session = Session::begin_asking(
            mechanism.clone(),
            &ids,
            &self.prompt.start,
            self.prompt.sampling(0.0),
            Asking::new(&hooks, 0),
        )?;
        #[cfg(feature = "gpu")]
        if let Some(device) = self.prompt.backend.put(model, &hooks)? {
            // The device chooses; what is shown beside each choice is the processor's.
            let forced = self.prompt.backend.choice().is_forced();
            session.use_device(device, self.prompt.tokens.clamp(1, 32), forced)?;
        }
        let (mut path, mut steps) = (ids.clone(), Vec::new());
        for _ in 0..self.prompt.tokens {
            let source = session.flow().node;
            let (energies, scores) = session.look()?;
            let energies = energies.to_vec();
            let mut probabilities = scores.to_vec();
            crate::kernel::softmax::softmax(&mut probabilities);
            let Some(chosen) = session.step()? else { break };
            path.push(chosen);
            let fan = mechanism.graph().fan(NodeId(source));
            let order: Vec<u32> = (0..probabilities.len() as u32)
                .filter(|&id| id != source || mechanism.profile().self_loops)
                .collect();
            let own =
                |id: u32| Value::Bool(fan.position(id).is_some_and(|place| fan.slots[place] > 0));
            steps.push(self.step(
                model.tokenizer(),
                (source, chosen),
                order,
                &energies,
                &probabilities,
                &own,
            )?);
        }
        if self.prompt.json {
            return super::say_json(&json!({
                "model": model.metadata().name,
                "profile": model.metadata().profile.name,
                "seed": self.prompt.seed,
                "path": path,
                "steps": steps,
            }));
        }
        Ok(())
    }

    /// One step with its candidates, the likeliest first; said at once where no JSON is wanted.
    fn step(
        &self,
        tokenizer: &Tokenizer,
        (source, chosen): (u32, u32),
        mut order: Vec<u32>,
        energies: &[f32],
        probabilities: &[f32],
        own: &dyn Fn(u32) -> Value,
    ) -> Result<Value> {
        let likelier = |&a: &u32, &b: &u32| {
            probabilities[b as usize]
                .total_cmp(&probabilities[a as usize])
                .then(a.cmp(&b))
        };
        order.sort_unstable_by(likelier);
        if !self.all {
            order.truncate(SHOWN);
        }
        let name = |id: u32| tokenizer.vocabulary().display(id);
        if !self.prompt.json {
            super::say(format!("{} → {}", name(source), name(chosen)))?;
            let shown = if self.all { usize::MAX } else { 8 };
            for &id in order.iter().take(shown) {
                super::say(format!(
                    "    {:6.2} %  energy {:8.4}  {} {}",
                    100.0 * probabilities[id as usize],
                    energies[id as usize],
                    match own(id) {
                        Value::Bool(true) => "own   ",
                        Value::Bool(false) => "shared",
                        _ => "",
                    },
                    name(id)
                ))?;
            }
        }
        let candidates: Vec<Value> = order
            .iter()
            .map(|&id| {
                json!({
                    "id": id,
                    "text": name(id),
                    "energy": energies[id as usize],
                    "probability": probabilities[id as usize],
                    "own": own(id),
                })
            })
            .collect();
        Ok(json!({"source": source, "chosen": chosen, "candidates": candidates}))
    }

    /// The same on a transformer: energies are its scores, and no candidate has an edge.
    #[cfg(feature = "transformer")]
    fn transformer(&self, model: &crate::transformer::Transformer, ids: Vec<u32>) -> Result<()> {
        use crate::path::Walk;
        use crate::transformer::Architecture;
        let hooks = super::plugins::hooks()?;
        let (mut path, mut steps) = (ids.clone(), Vec::new());
        let mut add = |source: u32, chosen: u32, scores: &[f32]| -> Result<()> {
            let mut probabilities = scores.to_vec();
            crate::kernel::softmax::softmax(&mut probabilities);
            steps.push(self.step(
                model.tokenizer(),
                (source, chosen),
                (0..scores.len() as u32).collect(),
                scores,
                &probabilities,
                &|_| Value::Null,
            )?);
            Ok(())
        };
        if model.configuration().architecture == Architecture::Bert {
            let sampling = self.prompt.sampling(0.0);
            let (text, filled) =
                super::prompt::fill(model, &ids, self.prompt.tokens, &sampling, &hooks)?;
            for filled in &filled {
                let source = filled
                    .place
                    .checked_sub(1)
                    .map_or(filled.token, |at| text[at]);
                add(source, filled.token, &filled.scores)?;
            }
            path = text;
        } else {
            let sampling = self.prompt.sampling(0.0);
            let asked = super::plugins::asked(model, &hooks, self.prompt.seed)?;
            let options = asked.options(model.configuration(), 0, ids.len())?;
            let mut session =
                crate::transformer::Session::begin_with(model, &ids, sampling, options)?;
            for _ in 0..self.prompt.tokens {
                if session.is_full() {
                    break;
                }
                let (source, scores) = (session.token(), session.scores().to_vec());
                let Some(chosen) = session.step()? else { break };
                path.push(chosen);
                add(source, chosen, &scores)?;
            }
        }
        if self.prompt.json {
            let mut report = json!({
                "model": model.name(),
                "profile": model.configuration().json["model_type"],
                "seed": self.prompt.seed,
                "path": path,
                "steps": steps,
            });
            super::plugins::note(&mut report, self.prompt.seed)?;
            return super::say_json(&report);
        }
        super::plugins::say_reports(self.prompt.seed)
    }
}
