//! Options of `brillm generate` for two directions and several samples: filling gaps, reranking, best of n.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::json;

use super::prompt::PromptArguments;
use crate::hook::Hooks;
use crate::run::{
    Engine, GapSearch, Grown, Reader, Request, SequenceRanks, fill_gap, generate_over, rerank,
};
use crate::text::Tokenizer;
use crate::{Error, ErrorKind, Result};

/// Marks the gap in a text.
const GAP: &str = "___";

#[derive(Args)]
pub(super) struct SamplingArguments {
    /// Fill the gap ___ in a text with up to --tokens tokens [default: 4]; a BERT model fills one token per gap.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["prompt", "prompt_ids", "image", "audio", "rerank", "best_of", "to_left", "beam"])]
    fill: Option<String>,
    /// Minimum number of tokens in the gap.
    #[arg(
        long,
        alias = "fill-least",
        default_value_t = 1,
        value_name = "N",
        requires = "fill"
    )]
    fill_min: usize,
    /// Number of paths searched from each side of the gap.
    #[arg(long, default_value_t = 8, value_name = "B", requires = "fill")]
    fill_width: usize,
    /// Backward model with the same vocabulary, for --fill, --rerank and plugins that extend a text at both ends.
    #[arg(long, alias = "backward", value_name = "PATH")]
    backward_model: Option<PathBuf>,
    /// Weight of the backward model's log-likelihood, relative to the forward model's.
    #[arg(
        long,
        default_value_t = 1.0,
        value_name = "ALPHA",
        requires = "backward_model"
    )]
    backward_weight: f64,
    /// Draw N samples and keep the one with the highest forward plus weighted backward log-likelihood.
    #[arg(long, value_name = "N", requires = "backward_model", conflicts_with_all = ["best_of", "beam"])]
    rerank: Option<usize>,
    /// Extend the text to the left with a model trained in both directions; a backward model always does.
    #[arg(long)]
    pub(super) to_left: bool,
    /// Draw N samples and keep the one with the highest score from --judge or --scores; without them, print all.
    #[arg(long, value_name = "N", conflicts_with = "beam")]
    best_of: Option<usize>,
    /// Program that reads a JSON object {"prompt", "text"} per line from standard input and prints one score per line.
    #[arg(
        long,
        value_name = "COMMAND",
        requires = "best_of",
        conflicts_with = "scores"
    )]
    judge: Option<String>,
    /// File with one score per line, in the order of the samples; the same --seed draws the same samples.
    #[arg(long, value_name = "FILE", requires = "best_of")]
    scores: Option<PathBuf>,
    /// Append the best and the worst sample to FILE as {"prompt", "chosen", "rejected"}, for [preferences] in a run file.
    #[arg(long, value_name = "FILE", requires = "best_of")]
    preferences: Option<PathBuf>,
    /// Append the samples to FILE as {"text"}, a corpus to train on.
    #[arg(long, value_name = "FILE", requires = "best_of")]
    samples: Option<PathBuf>,
}

impl SamplingArguments {
    /// Whether a single sample is wanted.
    pub(super) fn is_plain(&self) -> bool {
        self.fill.is_none() && self.rerank.is_none() && self.best_of.is_none()
    }

    /// Whether something is wanted that reads a model in one process: filling, ranking, or a second direction.
    pub(super) fn needs_one_process(&self) -> bool {
        self.fill.is_some()
            || self.rerank.is_some()
            || self.to_left
            || self.backward_model.is_some()
    }

    /// Return the text whose gap is to be filled.
    pub(super) fn gap(&self) -> Option<&str> {
        self.fill.as_deref()
    }

    /// Open the backward model, if any.
    pub(super) fn reader(&self) -> Result<Option<Reader>> {
        self.backward_model
            .as_ref()
            .map(|path| Reader::new(super::open_engine(Some(path))?, true))
            .transpose()
    }

    /// Fill the gap of a text with a forward model and, if given, a backward one.
    pub(super) fn fill_gap(&self, prompt: &PromptArguments, engine: Engine) -> Result<()> {
        let text = self.fill.as_deref().unwrap_or_default();
        let Some((left, right)) = text.split_once(GAP) else {
            return Err(
                Error::new(ErrorKind::Input, format!("the text {text:?} has no gap"))
                    .advice("mark the gap with ___"),
            );
        };
        if right.contains(GAP) {
            return Err(Error::new(ErrorKind::Input, "the text has several gaps")
                .advice("fill one gap at a time, or use a BERT model"));
        }
        let backward = self.reader()?;
        let forward = Reader::new(engine, false)?;
        let tokenizer = forward.engine().tokenizer().clone();
        // A space before the gap belongs to the first word in it.
        let left_ids = tokenizer.encode(left.trim_end())?;
        let right_ids = tokenizer.encode(right)?;
        let search = GapSearch {
            least: self.fill_min,
            most: prompt.tokens.unwrap_or(4).max(self.fill_min),
            width: self.fill_width,
            weight: self.backward_weight,
        };
        let fills = fill_gap(&forward, backward.as_ref(), &left_ids, &right_ids, &search)?;
        let whole = tokenizer.decode(
            &[&left_ids, &fills[0].ids, &right_ids]
                .map(Vec::as_slice)
                .concat(),
        );
        if !prompt.json {
            return super::say(whole);
        }
        let fills: Vec<_> = fills
            .iter()
            .take(10)
            .map(|fill| {
                json!({"text": tokenizer.decode_after(&left_ids, &fill.ids), "ids": fill.ids, "forward": fill.forward,
                    "backward": fill.backward, "score": fill.score})
            })
            .collect();
        super::say_json(&json!({
            "model": forward.engine().name(),
            "backward": backward.as_ref().map(|backward| backward.engine().name()),
            "text": whole,
            "fills": fills,
        }))
    }

    /// Draw samples, over ranks, and keep the best; rank 0 chooses and prints.
    pub(super) fn choose(
        &self,
        prompt: &PromptArguments,
        sequences: &SequenceRanks,
        engine: &Engine,
        (ids, hooks): (&[u32], &Hooks),
        request: &(dyn Fn(u64) -> Result<Request> + Sync),
    ) -> Result<()> {
        let count = self.rerank.or(self.best_of).unwrap_or(1);
        if count == 0 {
            return Err(Error::new(
                ErrorKind::Input,
                "invalid number of samples 0: expected at least 1",
            ));
        }
        let seed = prompt.choice.seed;
        let hooked = super::plugin_options::hooked(&engine.batched()?, hooks, seed)?;
        let sample = |number: usize| request(seed.wrapping_add(number as u64));
        let samples = generate_over(sequences, &hooked, count, &sample)?;
        let samples: Vec<Vec<u32>> = samples.into_iter().map(|sample| sample.ids).collect();
        let probes = super::plugin_options::reports_over(sequences.ranks(), seed)?;
        if sequences.ranks().rank() > 0 {
            return Ok(());
        }
        let tokenizer = engine.tokenizer();
        self.keep_samples(tokenizer, ids, &samples)?;
        let mut report = json!({"model": engine.name(), "prompt_ids": ids, "seed": seed});
        let decoded = |new: &[u32]| tokenizer.decode_after(ids, new);
        let best = match self.reader()? {
            Some(backward) if self.rerank.is_some() => {
                let forward = Reader::new(engine.clone(), false)?;
                let text = forward.bare(ids);
                let ranked = rerank(&forward, &backward, &text, &samples, self.backward_weight)?;
                report["ranked"] = ranked
                    .iter()
                    .map(|one| {
                        let mut line = json!(one);
                        line["text"] = decoded(&one.ids).into();
                        line
                    })
                    .collect();
                Some(ranked[0].sample)
            }
            _ => {
                let scores = self.scored(ids, &samples, tokenizer)?;
                report["samples"] = samples
                    .iter()
                    .enumerate()
                    .map(|(sample, new)| {
                        json!({"text": decoded(new), "ids": new,
                            "score": scores.as_ref().map(|scores| scores[sample])})
                    })
                    .collect();
                scores
                    .map(|scores| {
                        let by = |worse: bool| {
                            (1..count).fold(0, |best, sample| {
                                if (scores[sample] > scores[best]) != worse
                                    && scores[sample] != scores[best]
                                {
                                    sample
                                } else {
                                    best
                                }
                            })
                        };
                        (by(false), by(true))
                    })
                    .map(|(best, worst)| {
                        self.keep_pair(tokenizer, ids, &samples[best], &samples[worst])
                            .map(|()| best)
                    })
                    .transpose()?
            }
        };
        if let Some(best) = best {
            report["sample"] = json!(best);
            report["ids"] = json!(samples[best]);
            report["text"] = json!(decoded(&samples[best]));
        }
        if prompt.json {
            super::plugin_options::note(&mut report, seed)?;
            if sequences.ranks().size() > 1 && !probes.is_empty() {
                report["probes"] = json!(probes);
            }
            return super::say_json(&report);
        }
        match best {
            Some(best) => super::say(tokenizer.decode(&[ids, &samples[best]].concat())),
            None => samples.iter().enumerate().try_for_each(|(sample, new)| {
                super::say(format!(
                    "{sample}: {}",
                    tokenizer.decode(&[ids, new].concat())
                ))
            }),
        }
    }

    /// Read a score for each sample from --scores or --judge.
    fn scored(
        &self,
        prompt: &[u32],
        samples: &[Vec<u32>],
        tokenizer: &Tokenizer,
    ) -> Result<Option<Vec<f64>>> {
        let (text, location) = match (&self.judge, &self.scores) {
            (None, None) => return Ok(None),
            (_, Some(path)) => {
                let text = crate::text::read_text(path)?;
                (text, path.display().to_string())
            }
            (Some(command), None) => {
                let lines: String = samples
                    .iter()
                    .map(|new| {
                        let text = tokenizer.decode_after(prompt, new);
                        json!({"prompt": tokenizer.decode(prompt), "text": text}).to_string() + "\n"
                    })
                    .collect();
                (ask(command, lines)?, format!("--judge {command}"))
            }
        };
        let scores = text
            .lines()
            .map(|line| {
                let score = line
                    .trim()
                    .parse::<f64>()
                    .ok()
                    .filter(|score| score.is_finite());
                score.ok_or_else(|| {
                    Error::new(
                        ErrorKind::Format,
                        format!("invalid score {line:?}: expected a number"),
                    )
                    .at(&location)
                })
            })
            .collect::<Result<Vec<f64>>>()?;
        if scores.len() == samples.len() {
            Ok(Some(scores))
        } else {
            Err(Error::new(
                ErrorKind::Format,
                format!("{} scores for {} samples", scores.len(), samples.len()),
            )
            .at(location)
            .advice("write one number per line, one for each sample"))
        }
    }

    /// Append all samples, with the prompt, to the file of --samples.
    fn keep_samples(
        &self,
        tokenizer: &Tokenizer,
        prompt: &[u32],
        samples: &[Vec<u32>],
    ) -> Result<()> {
        let Some(path) = &self.samples else {
            return Ok(());
        };
        let text = |sample: &Vec<u32>| tokenizer.decode(&[prompt, sample].concat());
        let lines: String = samples
            .iter()
            .map(|sample| json!({"text": text(sample)}).to_string() + "\n")
            .collect();
        append(path, &lines)
    }

    /// Append a pair to the preference file.
    fn keep_pair(
        &self,
        tokenizer: &Tokenizer,
        prompt: &[u32],
        best: &[u32],
        worst: &[u32],
    ) -> Result<()> {
        let Some(path) = &self.preferences else {
            return Ok(());
        };
        if best == worst {
            return Ok(());
        }
        let line = json!({"prompt": tokenizer.decode(prompt), "chosen": tokenizer.decode_after(prompt, best),
            "rejected": tokenizer.decode_after(prompt, worst)});
        append(path, &format!("{line}\n"))
    }
}

/// Append whole lines to a file.
fn append(path: &Path, lines: &str) -> Result<()> {
    brillm_file::append(path)
        .and_then(|mut file| file.write_all(lines.as_bytes()))
        .map_err(|error| Error::io(error, path.display()))
}

/// Run a command with lines on its standard input; return its output.
fn ask(command: &str, lines: String) -> Result<String> {
    let io_error = |error| Error::io(error, format!("--judge {command}"));
    let mut words = command.split_whitespace();
    let program = words
        .next()
        .ok_or_else(|| Error::new(ErrorKind::Input, "--judge is empty: expected a program"))?;
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(io_error)?;
    let input = child.stdin.take();
    // A thread writes while this one reads, so that neither process blocks on a full pipe.
    let writer = std::thread::spawn(move || {
        input.map_or(Ok(()), |mut input| input.write_all(lines.as_bytes()))
    });
    let output = child.wait_with_output().map_err(io_error)?;
    // A judge may exit before it reads all lines.
    let _ = writer.join();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(Error::new(
            ErrorKind::Io,
            format!("the judge failed with {}", output.status),
        )
        .at(format!("--judge {command}")))
    }
}

/// Extend a text to the left and print it.
pub(super) fn leftward(
    prompt: &PromptArguments,
    reader: &Reader,
    ids: &[u32],
    request: Request,
    hooks: &Hooks,
) -> Result<()> {
    let hooked = super::plugin_options::hooked(reader.engine(), hooks, prompt.choice.seed)?;
    let new = hooked.start(request)?.collect_text()?.1;
    let new = reader.made(new);
    let tokenizer = reader.engine().tokenizer();
    if !prompt.json {
        super::say(tokenizer.decode(&[&new, ids].concat()))?;
        return super::plugin_options::say_reports(prompt.choice.seed);
    }
    let mut report = json!({
        "model": reader.engine().name(),
        "direction": "backward",
        "prompt_ids": ids,
        "ids": new,
        "text": tokenizer.decode(&new),
        "seed": prompt.choice.seed,
    });
    super::plugin_options::note(&mut report, prompt.choice.seed)?;
    super::say_json(&report)
}

/// Print a text that was extended at both ends.
pub(super) fn show_grown(
    prompt: &PromptArguments,
    tokenizer: &Tokenizer,
    ids: &[u32],
    grown: &Grown,
) -> Result<()> {
    let text = tokenizer.decode(&grown.ids);
    if !prompt.json {
        super::say(text)?;
        return super::plugin_options::say_reports(prompt.choice.seed);
    }
    let mut report = json!({
        "prompt_ids": ids,
        "ids": grown.ids,
        "before": grown.before,
        "placed": grown.placed,
        "text": text,
        "seed": prompt.choice.seed,
    });
    super::plugin_options::note(&mut report, prompt.choice.seed)?;
    super::say_json(&report)
}
