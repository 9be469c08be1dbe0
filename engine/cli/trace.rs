//! `brillm trace`: every step of a generation with its candidates.

use clap::Args;
use serde_json::{Value, json};

use super::prompt::PromptArguments;
use crate::Result;
use crate::graph::NodeId;
use crate::path::{Asking, Session};

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
        let (model, ids) = self.prompt.open()?;
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
        if let Some(device) = self.prompt.backend.put(&model, &hooks)? {
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
            let mut order: Vec<u32> = (0..probabilities.len() as u32)
                .filter(|&id| id != source || mechanism.profile().self_loops)
                .collect();
            let likelier = |&a: &u32, &b: &u32| {
                probabilities[b as usize]
                    .total_cmp(&probabilities[a as usize])
                    .then(a.cmp(&b))
            };
            order.sort_unstable_by(likelier);
            if !self.all {
                order.truncate(SHOWN);
            }
            let candidates: Vec<Value> = order
                .iter()
                .map(|&id| {
                    let own = fan.position(id).is_some_and(|place| fan.slots[place] > 0);
                    json!({
                        "id": id,
                        "text": model.tokenizer().vocabulary().display(id),
                        "energy": energies[id as usize],
                        "probability": probabilities[id as usize],
                        "own": own,
                    })
                })
                .collect();
            if !self.prompt.json {
                let name = |id: u32| model.tokenizer().vocabulary().display(id);
                super::say(format!("{} → {}", name(source), name(chosen)))?;
                for candidate in candidates
                    .iter()
                    .take(if self.all { usize::MAX } else { 8 })
                {
                    super::say(format!(
                        "    {:6.2} %  energy {:8.4}  {} {}",
                        100.0 * candidate["probability"].as_f64().unwrap_or(0.0),
                        candidate["energy"].as_f64().unwrap_or(0.0),
                        if candidate["own"] == true {
                            "own   "
                        } else {
                            "shared"
                        },
                        candidate["text"].as_str().unwrap_or("")
                    ))?;
                }
            }
            steps.push(json!({"source": source, "chosen": chosen, "candidates": candidates}));
        }
        if self.prompt.json {
            let mut report = json!({
                "model": model.metadata().name,
                "profile": model.metadata().profile.name,
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
