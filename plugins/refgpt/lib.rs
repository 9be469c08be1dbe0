//! Reference texts become dialogues that say what the references say.
//!
//! After RefGPT (Yang et al., "RefGPT: Dialogue Generation of GPT, by GPT, and for GPT", EMNLP 2023 Findings): a plan of
//! rounds, word counts and manners is drawn, a reference is cut to the words that the plan needs, and a model writes the
//! dialogue, which is read, checked and scored against the reference. The host brings the model and keeps its key; without
//! one, an extractive generator runs anywhere.

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
use serde_json::json;

use dialogue::Turn;
use language::Language;
use plan::{Plan, Settings};
use style::Kind;

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Generator {
    /// Sentences of the reference under questions from templates.
    Extract,
    /// The model answers questions from templates, turn by turn: the plan's grammar cannot break.
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
    /// Whether it was said that a reference is too short for its plan.
    told: bool,
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
                "rounds needs weights of 1, 2, … rounds, one above 0",
            ));
        }
        if options.generator == Generator::Extract && (options.restrict || options.gain > 0.0) {
            return Err(PluginError::option(
                "gain and restrict steer a model: generator=turns or generator=chat",
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
            told: false,
        })
    }
}

/// FNV-1a: names a record by all that it is made of.
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

/// Why there is no dialogue.
enum Failed {
    /// Another attempt may do better.
    Again(String),
    /// None would.
    Never(String),
}

/// A dialogue, and the shares of grounded hops of the turns that the model took hop by hop.
struct Said {
    turns: Vec<Turn>,
    shares: Vec<Option<f64>>,
}

impl Said {
    fn untold(turns: Vec<Turn>) -> Self {
        let shares = vec![None; turns.len()];
        Self { turns, shares }
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

    /// One attempt at a dialogue.
    fn attempt(
        &self,
        reference: &HostReference,
        plan: &Plan,
        cut: &str,
    ) -> Result<std::result::Result<Said, Failed>> {
        let keeps =
            |turns: &[Turn]| dialogue::keeps(turns, plan, plan.language, self.options.slack);
        match self.options.generator {
            Generator::Extract => Ok(extract::dialogue(plan, cut)
                .ok_or_else(|| NO_PIECES.to_string())
                .and_then(|turns| {
                    // Of code, an answer is as long as its lines are.
                    if !plan.kind.is_code() {
                        keeps(&turns)?;
                    }
                    Ok(Said::untold(turns))
                })
                .map_err(Failed::Never)),
            Generator::Turns => {
                let Some(said) = self.turns(reference, plan, cut)? else {
                    return Ok(Err(Failed::Never(NO_PIECES.into())));
                };
                Ok(if plan.kind.is_code() {
                    Ok(said)
                } else {
                    keeps(&said.turns).map(|()| said).map_err(Failed::Again)
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
                    Err(Failed::Again("it was cut".into()))
                } else {
                    dialogue::read(&spoken.text)
                        .and_then(|turns| {
                            keeps(&turns)?;
                            Ok(Said::untold(turns))
                        })
                        .map_err(Failed::Again)
                })
            }
        }
    }

    /// Turn by turn: the model continues the reference and what was said so far. `None` where the reference has too few
    /// pieces to ask about.
    fn turns(&self, reference: &HostReference, plan: &Plan, cut: &str) -> Result<Option<Said>> {
        let mut whole = Said::untold(Vec::new());
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
            whole.shares.extend([None, spoken.grounded]);
        }
        Ok(Some(whole))
    }
}

/// Why some references give no dialogue.
const NO_PIECES: &str = "the reference has too few sentences or lines, or no line to break";

/// What a chat model is asked for.
fn prompt(plan: &Plan, cut: &str) -> String {
    style::prompt(
        plan.kind,
        plan.language,
        cut,
        &plan.text(),
        plan.rounds.len(),
    )
}

/// The sentences of a text until they have so many words, without a last one that has no end where one before it has.
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

impl CorpusHook for RefGpt {
    fn write(
        &mut self,
        host: &mut Host,
        reference: &HostReference,
        records: &mut Records,
    ) -> Result<()> {
        let options = &self.options;
        let language = match options.language {
            Tongue::Auto => Language::of(reference.text),
            Tongue::En => Language::En,
            Tongue::Zh => Language::Zh,
        };
        for number in 0..options.dialogues {
            if host.cancelled() {
                return Err(PluginError::cancelled());
            }
            let seed = host.random();
            let plan = Plan::draw(
                options.kind,
                language,
                &self.settings,
                &mut RandomStream::new(seed),
            );
            // The whole reference names the record: what is cut off it may depend on the plan.
            let generator = json!(options.generator).to_string();
            let key = key(&[
                reference.text,
                &plan.text(),
                json!(options.kind).as_str().unwrap_or_default(),
                &generator,
                &self.gain().to_string(),
                &seed.to_string(),
            ]);
            if reference.written(&key) {
                continue;
            }
            let cut = if options.kind.is_code() {
                plan::cut_lines(reference.text, language, plan.budget())
            } else {
                plan::cut(reference.text, language, plan.budget())
            };
            let Some(cut) = cut else {
                // Once is enough: of a thousand references a part is always too short for its plan.
                let level = if self.told {
                    LogLevel::Debug
                } else {
                    LogLevel::Warn
                };
                self.told = true;
                host.log(
                    level,
                    &format!(
                        "reference {}: no {} words of whole sentences, which its plan asks for; it is left out, and so \
                         are others like it (longer references, or a smaller assistant-words=)",
                        reference.id,
                        plan.budget()
                    ),
                );
                continue;
            };
            let mut refused = Vec::new();
            let mut found = None;
            while found.is_none() && (refused.len() as u32) < options.attempts {
                match self.attempt(reference, &plan, &cut)? {
                    Ok(said) => {
                        let scores: Vec<_> = said
                            .turns
                            .iter()
                            .map(|turn| grounding::score(&turn.text, &cut, language))
                            .collect();
                        let answers: Vec<f64> = scores
                            .iter()
                            .skip(1)
                            .step_by(2)
                            .map(|score| score.overlap)
                            .collect();
                        let mean = answers.iter().sum::<f64>() / answers.len().max(1) as f64;
                        if mean >= options.least_grounding {
                            found = Some((said, scores, mean))
                        } else {
                            refused.push(format!("its grounding is {mean:.3}"))
                        }
                    }
                    Err(Failed::Again(why)) => refused.push(why),
                    Err(Failed::Never(why)) => {
                        refused.push(why);
                        break;
                    }
                }
            }
            let Some((Said { turns, shares }, scores, mean)) = found else {
                host.log(
                    LogLevel::Warn,
                    &format!(
                        "reference {}, dialogue {number}: none kept: {}",
                        reference.id,
                        refused.join("; ")
                    ),
                );
                continue;
            };
            let mut told = Vec::new();
            let mut edges = Vec::new();
            for ((turn, score), share) in turns.iter().zip(&scores).zip(shares) {
                let share = match share {
                    Some(share) => Some(share),
                    None => reference.grounded(&cut, &turn.text)?,
                };
                if turn.speaker == "assistant" {
                    edges.extend(share);
                }
                told.push(json!({
                    "speaker": turn.speaker,
                    "text": turn.text,
                    "words": language.count(&turn.text),
                    "grounding": score,
                    "grounded_edges": share,
                }));
            }
            let edges = (!edges.is_empty()).then(|| edges.iter().sum::<f64>() / edges.len() as f64);
            let styles: Vec<_> = plan
                .rounds
                .iter()
                .enumerate()
                .map(|(at, round)| style::STYLES[round.style].told(language, at > 0))
                .collect();
            records.add(&json!({
                "key": key,
                "reference_id": reference.id,
                "language": language,
                "type": options.kind,
                "generator": options.generator,
                "rounds": plan.rounds.len(),
                "word_counts": {
                    "human": plan.rounds.iter().map(|round| round.human).collect::<Vec<_>>(),
                    "assistant": plan.rounds.iter().map(|round| round.assistant).collect::<Vec<_>>(),
                },
                "styles": styles,
                "plan": plan.text(),
                "reference": cut,
                "dialogue": dialogue::write(&turns),
                "turns": told,
                "grounding": mean,
                "grounded_edges": edges,
                "prompt": (options.generator == Generator::Chat).then(|| prompt(&plan, &cut)),
                "refused": refused,
                "seed": seed,
            }))?;
        }
        Ok(())
    }
}

export! {
    RefGpt {
        id: "org.brillm.refgpt",
        about: "Reference texts become dialogues that are grounded in them: plans, cuts, checks and scores (RefGPT).",
        license: "MIT OR Apache-2.0",
        schema: r#"{"type": "object", "additionalProperties": false, "properties": {
            "kind": {"enum": ["fact", "code-discussion", "code-creation", "code-bug-fix"], "default": "fact", "description": "what the dialogues are for"},
            "language": {"enum": ["auto", "en", "zh"], "default": "auto", "description": "of references and dialogues; auto looks at the letters"},
            "generator": {"enum": ["extract", "turns", "chat"], "default": "extract",
                "description": "who writes: the reference's own sentences, the model turn by turn, or the model the whole dialogue"},
            "dialogues": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1, "description": "of each reference"},
            "rounds": {"type": "string", "default": "0 1 2 2 0", "description": "weights of 1, 2, … rounds"},
            "human-words": {"type": "number", "minimum": 1, "maximum": 100000, "default": 100, "description": "mean of a question's words"},
            "assistant-words": {"type": "number", "minimum": 1, "maximum": 100000, "default": 300, "description": "mean of an answer's words"},
            "deviation": {"type": "number", "minimum": 0, "maximum": 100000, "default": 50, "description": "of both"},
            "step": {"type": "integer", "minimum": 1, "maximum": 10000, "default": 50, "description": "word counts are whole multiples"},
            "attempts": {"type": "integer", "minimum": 1, "maximum": 100, "default": 5, "description": "at a dialogue that keeps to its plan"},
            "slack": {"type": "number", "minimum": 1, "maximum": 100, "default": 2, "description": "how many times more or fewer words than planned pass"},
            "gain": {"type": "number", "minimum": 0, "maximum": 1000, "default": 0, "description": "nats that a hop of the reference's own sub-graph gains"},
            "restrict": {"type": "boolean", "default": false, "description": "take hops of the reference's sub-graph alone"},
            "least-grounding": {"type": "number", "minimum": 0, "maximum": 1, "default": 0, "description": "mean overlap of the answers with the reference that passes"}}}"#,
        hooks: [CorpusHook],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_what_it_is_made_of() {
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
        // And what comes after the words that were planned.
        assert_eq!(
            whole_sentences("A b. C d. E f.", Language::En, 3),
            "A b. C d."
        );
    }
}
