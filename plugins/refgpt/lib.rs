//! Grounded dialogue data: dialogues generated from reference texts.
//!
//! After RefGPT (Yang et al., "RefGPT: Dialogue Generation of GPT, by GPT, and for GPT", EMNLP 2023 Findings): a plan of
//! rounds, word counts and styles is drawn, a reference is cut to the words that the plan needs, and a model writes the
//! dialogue, which is parsed, checked and scored against the reference. The engine provides the model and keeps its key;
//! an extractive generator needs no model.

mod dialogue;
mod extract;
mod grounding;
mod language;
mod plan;
mod style;

use brillm_plugin::{
    CorpusHook, Host, HostReference, LogLevel, Plugin, PluginError, RandomStream, Records, Result,
    Speech, export,
};
use serde_json::{Value, json};

use dialogue::Turn;
use grounding::Grounding;
use language::Language;
use plan::{Plan, Settings};
use style::Kind;

/// The author of the dialogues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Generator {
    /// Sentences of the reference under questions from templates.
    Extract,
    /// The model answers questions from templates, turn by turn; the form of the dialogue is always valid.
    Turns,
    /// The model writes the whole dialogue from the prompt.
    Chat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Tongue {
    Auto,
    En,
    Zh,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Options {
    kind: Kind,
    language: Tongue,
    generator: Generator,
    dialogues: usize,
    rounds: String,
    human_words: f64,
    assistant_words: f64,
    deviation: f64,
    step: usize,
    attempts: u32,
    slack: f64,
    gain: f64,
    restrict: bool,
    least_grounding: f64,
}

struct RefGpt {
    options: Options,
    settings: Settings,
    /// Whether the warning about too short references was logged.
    warned: bool,
}

impl Plugin for RefGpt {
    type Options = Options;

    fn create(options: Options) -> Result<Self> {
        let rounds: Vec<f64> = options
            .rounds
            .split_whitespace()
            .map(|weight| {
                weight
                    .parse()
                    .map_err(|_| PluginError::option(format!("invalid weight {weight:?}")))
            })
            .collect::<Result<_>>()?;
        let sum: f64 = rounds.iter().sum();
        if rounds.len() > 50
            || !(sum > 0.0 && sum.is_finite())
            || rounds.iter().any(|weight| *weight < 0.0)
        {
            return Err(PluginError::option(
                "rounds: expected up to 50 weights of 1, 2, … rounds, at least one above 0",
            ));
        }
        if options.generator == Generator::Extract && (options.restrict || options.gain > 0.0) {
            return Err(PluginError::option(
                "gain and restrict need a model: set generator=turns or generator=chat",
            ));
        }
        Ok(Self {
            settings: Settings {
                rounds,
                human_words: options.human_words,
                assistant_words: options.assistant_words,
                deviation: options.deviation,
                step: options.step,
            },
            options,
            warned: false,
        })
    }
}

/// Hash everything that determines a record (FNV-1a, 128 bits).
fn key(parts: &[&str]) -> String {
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash =
                (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
    format!("{hash:032x}")
}

/// Why an attempt gave no dialogue.
#[derive(Debug)]
enum Rejection {
    /// Another attempt may pass.
    Retry(String),
    /// No attempt can pass.
    Final(String),
}

/// A dialogue, and the fraction of grounded hops of each turn that was generated hop by hop.
struct Dialogue {
    turns: Vec<Turn>,
    grounded: Vec<Option<f64>>,
}

impl Dialogue {
    fn new(turns: Vec<Turn>) -> Self {
        let grounded = vec![None; turns.len()];
        Self { turns, grounded }
    }
}

impl RefGpt {
    fn gain(&self) -> f64 {
        if self.options.restrict {
            f64::INFINITY
        } else {
            self.options.gain
        }
    }

    /// Try once to generate a dialogue.
    fn attempt(
        &self,
        reference: &HostReference,
        plan: &Plan,
        cut: &str,
    ) -> Result<std::result::Result<Dialogue, Rejection>> {
        let keeps =
            |turns: &[Turn]| dialogue::keeps(turns, plan, plan.language, self.options.slack);
        match self.options.generator {
            Generator::Extract => Ok(extract::dialogue(plan, cut)
                .ok_or_else(|| NO_PIECES.to_string())
                .and_then(|turns| {
                    // The length of an answer of code is that of its lines.
                    if !plan.kind.is_code() {
                        keeps(&turns)?;
                    }
                    Ok(Dialogue::new(turns))
                })
                .map_err(Rejection::Final)),
            Generator::Turns => {
                let Some(said) = self.turns(reference, plan, cut)? else {
                    return Ok(Err(Rejection::Final(NO_PIECES.into())));
                };
                Ok(if plan.kind.is_code() {
                    Ok(said)
                } else {
                    keeps(&said.turns).map(|()| said).map_err(Rejection::Retry)
                })
            }
            Generator::Chat => {
                let prompt = prompt(plan, cut);
                let words: usize = plan
                    .rounds
                    .iter()
                    .map(|round| round.human + round.assistant)
                    .sum();
                let spoken = reference.speak(&Speech {
                    system: style::system(plan.language),
                    prompt: &prompt,
                    tokens: 3 * words + 256,
                    within: cut,
                    gain: self.gain(),
                })?;
                Ok(if spoken.cut {
                    Err(dialogue::cut_off(&spoken.text))
                } else {
                    dialogue::read(&spoken.text)
                        .and_then(|turns| {
                            keeps(&turns)?;
                            Ok(Dialogue::new(turns))
                        })
                        .map_err(Rejection::Retry)
                })
            }
        }
    }

    /// Generate turn by turn: the model continues the reference and the dialogue so far. `None` if the reference has too
    /// few sentences or lines.
    fn turns(&self, reference: &HostReference, plan: &Plan, cut: &str) -> Result<Option<Dialogue>> {
        let mut whole = Dialogue::new(Vec::new());
        let mut said = cut.to_string();
        for (at, round) in plan.rounds.iter().enumerate() {
            let Some(question) = extract::ask(plan, at, cut) else {
                return Ok(None);
            };
            said += &format!("\n{question}\n");
            let spoken = reference.speak(&Speech {
                system: "",
                prompt: &said,
                tokens: match plan.language {
                    Language::En => 2 * round.assistant,
                    Language::Zh => round.assistant,
                },
                within: cut,
                gain: self.gain(),
            })?;
            let answer = if plan.kind.is_code() {
                spoken.text.trim().to_string()
            } else {
                whole_sentences(spoken.text.trim(), plan.language, round.assistant)
            };
            said += &answer;
            whole.turns.push(Turn {
                speaker: "human",
                text: question,
            });
            whole.turns.push(Turn {
                speaker: "assistant",
                text: answer,
            });
            whole.grounded.extend([None, spoken.grounded]);
        }
        Ok(Some(whole))
    }
}

/// The rejection of references that give no dialogue.
const NO_PIECES: &str =
    "the reference has too few sentences or lines, or no line in which a bug can be planted";

/// Write the prompt for a chat model.
fn prompt(plan: &Plan, cut: &str) -> String {
    style::prompt(
        plan.kind,
        plan.language,
        cut,
        &plan.text(),
        plan.rounds.len(),
    )
}

/// Keep the sentences of a text up to `words` words; drop unfinished ones at the end unless nothing else is left.
fn whole_sentences(text: &str, language: Language, words: usize) -> String {
    let ends = |sentence: &str| sentence.ends_with(['.', '!', '?', '。', '！', '？', '"', '”']);
    let mut sentences = language.sentences(text);
    let mut before = 0;
    sentences.retain(|sentence| {
        let more = before < words;
        before += language.count(sentence);
        more
    });
    while sentences.len() > 1 && sentences.last().is_some_and(|last| !ends(last)) {
        sentences.pop();
    }
    match language {
        Language::En => sentences.join(" "),
        Language::Zh => sentences.concat(),
    }
}

/// A dialogue that passed all checks, with its scores.
struct Passed {
    dialogue: Dialogue,
    /// One per turn.
    scores: Vec<Grounding>,
    /// Mean overlap of the answers with the reference.
    grounding: f64,
}

/// A plan and what is written from it.
struct Task<'a> {
    reference: &'a HostReference<'a>,
    plan: Plan,
    /// The reference, cut to the plan's words.
    cut: String,
    key: String,
    seed: u64,
}

impl RefGpt {
    /// Draw a plan and cut the reference to it. `None` if the record exists, or the reference is too short.
    fn draw<'a>(
        &mut self,
        host: &Host,
        reference: &'a HostReference<'a>,
        seed: u64,
    ) -> Option<Task<'a>> {
        let options = &self.options;
        let language = match options.language {
            Tongue::Auto => Language::of(reference.text),
            Tongue::En => Language::En,
            Tongue::Zh => Language::Zh,
        };
        let mut random = RandomStream::new(seed);
        let step = self.settings.step;
        let words = language.count(reference.text);
        let plan = Plan::draw(options.kind, language, &self.settings, &mut random);
        let Some(plan) = plan.fitted(words, step) else {
            let what = format!("its {words} words are fewer than one step of {step}");
            self.skip(host, reference, &what);
            return None;
        };
        // The key covers the whole reference: how much of it is cut depends on the plan.
        let key = key(&[
            reference.text,
            &plan.text(),
            json!(options.kind).as_str().unwrap_or_default(),
            &json!(options.generator).to_string(),
            &self.gain().to_string(),
            &seed.to_string(),
        ]);
        if reference.written(&key) {
            return None;
        }
        let cut = if options.kind.is_code() {
            plan::cut_lines(reference.text, language, plan.budget())
        } else {
            plan::cut(reference.text, language, plan.budget())
        };
        let Some(cut) = cut else {
            let budget = plan.budget();
            let what = format!("its whole sentences do not fit the {budget} words of its plan");
            self.skip(host, reference, &what);
            return None;
        };
        Some(Task {
            reference,
            plan,
            cut,
            key,
            seed,
        })
    }

    /// Report a reference without a plan. One warning is enough: in a large corpus some references are always too short.
    fn skip(&mut self, host: &Host, reference: &HostReference, what: &str) {
        let level = if std::mem::replace(&mut self.warned, true) {
            LogLevel::Debug
        } else {
            LogLevel::Warn
        };
        let message = format!(
            "reference {}: {what}; skipped, as are others like it (give longer references, or lower step and assistant-words)",
            reference.id
        );
        host.log(level, &message);
    }

    /// Try until a dialogue passes. Returns the reasons of rejected attempts too.
    fn pass(&self, task: &Task) -> Result<(Option<Passed>, Vec<String>)> {
        let mut rejected = Vec::new();
        while (rejected.len() as u32) < self.options.attempts {
            match self.attempt(task.reference, &task.plan, &task.cut)? {
                Ok(dialogue) => {
                    let score =
                        |turn: &Turn| grounding::score(&turn.text, &task.cut, task.plan.language);
                    let scores: Vec<_> = dialogue.turns.iter().map(score).collect();
                    // Answers are every second turn.
                    let answers = scores.iter().skip(1).step_by(2);
                    let count = answers.len().max(1) as f64;
                    let grounding = answers.map(|score| score.overlap).sum::<f64>() / count;
                    if grounding >= self.options.least_grounding {
                        let passed = Passed {
                            dialogue,
                            scores,
                            grounding,
                        };
                        return Ok((Some(passed), rejected));
                    }
                    rejected.push(format!("its grounding is {grounding:.3}"));
                }
                Err(Rejection::Retry(why)) => rejected.push(why),
                Err(Rejection::Final(why)) => {
                    rejected.push(why);
                    break;
                }
            }
        }
        Ok((None, rejected))
    }

    /// Build the record of a dialogue.
    fn record(&self, task: &Task, passed: Passed, rejected: &[String]) -> Result<Value> {
        let Task { plan, cut, .. } = task;
        let mut turns = Vec::new();
        let mut edges = Vec::new();
        let Dialogue {
            turns: spoken,
            grounded,
        } = &passed.dialogue;
        for ((turn, score), fraction) in spoken.iter().zip(&passed.scores).zip(grounded) {
            let fraction = match fraction {
                Some(fraction) => Some(*fraction),
                None => task.reference.grounded(cut, &turn.text)?,
            };
            if turn.speaker == "assistant" {
                edges.extend(fraction);
            }
            turns.push(json!({
                "speaker": turn.speaker,
                "text": turn.text,
                "words": plan.language.count(&turn.text),
                "grounding": score,
                "grounded_edges": fraction,
            }));
        }
        let edges = (!edges.is_empty()).then(|| edges.iter().sum::<f64>() / edges.len() as f64);
        let rounds = plan.rounds.iter().enumerate();
        let styles: Vec<_> = rounds
            .map(|(at, round)| style::STYLES[round.style].describe(plan.language, at > 0))
            .collect();
        Ok(json!({
            "key": task.key,
            "reference_id": task.reference.id,
            "language": plan.language,
            "type": self.options.kind,
            "generator": self.options.generator,
            "rounds": plan.rounds.len(),
            "word_counts": {
                "human": plan.rounds.iter().map(|round| round.human).collect::<Vec<_>>(),
                "assistant": plan.rounds.iter().map(|round| round.assistant).collect::<Vec<_>>(),
            },
            "styles": styles,
            "plan": plan.text(),
            "reference": cut,
            "dialogue": dialogue::write(spoken),
            "turns": turns,
            "grounding": passed.grounding,
            "grounded_edges": edges,
            "prompt": (self.options.generator == Generator::Chat).then(|| prompt(plan, cut)),
            "refused": rejected,
            "seed": task.seed,
        }))
    }
}

impl CorpusHook for RefGpt {
    fn write(
        &mut self,
        host: &mut Host,
        reference: &HostReference,
        records: &mut Records,
    ) -> Result<()> {
        for number in 0..self.options.dialogues {
            if host.cancelled() {
                return Err(PluginError::cancelled());
            }
            let seed = host.random();
            let Some(task) = self.draw(host, reference, seed) else {
                continue;
            };
            match self.pass(&task)? {
                (Some(passed), rejected) => records.add(&self.record(&task, passed, &rejected)?)?,
                (None, rejected) => host.log(
                    LogLevel::Warn,
                    &format!(
                        "reference {}, dialogue {number}: no attempt passed: {}",
                        reference.id,
                        rejected.join("; ")
                    ),
                ),
            }
        }
        Ok(())
    }
}

export! {
    RefGpt {
        id: "org.brillm.refgpt",
        about: "Generate dialogues grounded in reference texts: plans, cuts, checks and scores (RefGPT).",
        license: "MIT OR Apache-2.0",
        schema: r#"{"type": "object", "additionalProperties": false, "properties": {
            "kind": {"enum": ["fact", "code-discussion", "code-creation", "code-bug-fix"], "default": "fact", "description": "kind of dialogues"},
            "language": {"enum": ["auto", "en", "zh"], "default": "auto", "description": "language of references and dialogues; auto: detected from the letters"},
            "generator": {"enum": ["extract", "turns", "chat"], "default": "extract",
                "description": "extract: sentences of the reference; turns: the model, turn by turn; chat: the model, the whole dialogue at once"},
            "dialogues": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1, "description": "dialogues per reference"},
            "rounds": {"type": "string", "default": "0 1 2 2 0", "description": "weights of 1, 2, … rounds"},
            "human-words": {"type": "number", "minimum": 1, "maximum": 100000, "default": 100, "description": "mean words per question"},
            "assistant-words": {"type": "number", "minimum": 1, "maximum": 100000, "default": 300, "description": "mean words per answer"},
            "deviation": {"type": "number", "minimum": 0, "maximum": 100000, "default": 50, "description": "standard deviation of both word counts"},
            "step": {"type": "integer", "minimum": 1, "maximum": 10000, "default": 50, "description": "word counts are multiples of this, unless the reference is short; references of fewer words are skipped"},
            "attempts": {"type": "integer", "minimum": 1, "maximum": 100, "default": 5, "description": "attempts per dialogue"},
            "slack": {"type": "number", "minimum": 1, "maximum": 100, "default": 2, "description": "accepted ratio of words to planned words, either way"},
            "gain": {"type": "number", "minimum": 0, "maximum": 1000, "default": 0, "description": "nats added to the logits of hops in the reference's sub-graph"},
            "restrict": {"type": "boolean", "default": false, "description": "allow only hops in the reference's sub-graph"},
            "least-grounding": {"type": "number", "minimum": 0, "maximum": 1, "default": 0, "description": "lowest accepted mean overlap of the answers with the reference"}}}"#,
        hooks: [CorpusHook],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_every_part() {
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
        assert_ne!(key(&["a", "b"]), key(&["ab", ""]));
        assert_eq!(key(&["a"]).len(), 32);
    }

    #[test]
    fn an_unfinished_sentence_is_left_out() {
        assert_eq!(
            whole_sentences("He ran. He was", Language::En, 9),
            "He ran."
        );
        assert_eq!(whole_sentences("He was", Language::En, 9), "He was");
        assert_eq!(whole_sentences("他跑了。他是", Language::Zh, 9), "他跑了。");
        // So is what follows the planned words.
        assert_eq!(
            whole_sentences("A b. C d. E f.", Language::En, 3),
            "A b. C d."
        );
    }
}
