//! What `brillm generate` does with two directions and with several samples: gaps, reranking, best of n.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::json;

use super::prompt::PromptArguments;
use crate::hook::Hooks;
use crate::run::{Engine, GapSearch, Grown, Reader, Request, fill_gap, rerank};
use crate::text::Tokenizer;
use crate::{Error, ErrorKind, Result};

/// Where the gap is.
const GAP: &str = "___";

/// Two directions, several samples.
#[derive(Args)]
pub(super) struct SamplingArguments {
    /// Fills the gap of a text, written ___, with up to --tokens tokens (4 without it); a bert fills a token a gap.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["prompt", "prompt_ids", "rerank", "best_of", "to_left", "beam"])]
    fill: Option<String>,
    /// Fewest tokens that fill a gap.
    #[arg(long, default_value_t = 1, value_name = "N", requires = "fill")]
    fill_least: usize,
    /// Paths searched from each side of a gap.
    #[arg(long, default_value_t = 8, value_name = "B", requires = "fill")]
    fill_width: usize,
    /// A model that reads backward, over the same tokens.
    #[arg(long, value_name = "PATH")]
    backward: Option<PathBuf>,
    /// The weight of the backward model's ln p.
    #[arg(
        long,
        default_value_t = 1.0,
        value_name = "ALPHA",
        requires = "backward"
    )]
    backward_weight: f64,
    /// Draws N samples and keeps the one with the best forward plus weighted backward likelihood.
    #[arg(long, value_name = "N", requires = "backward", conflicts_with_all = ["best_of", "beam"])]
    rerank: Option<usize>,
    /// Extends to the left with a model that reads both ways; a backward model always does.
    #[arg(long)]
    pub(super) to_left: bool,
    /// Draws N samples and keeps the one that --judge or --scores rates highest; without them, lists all.
    #[arg(long, value_name = "N", conflicts_with = "beam")]
    best_of: Option<usize>,
    /// A program, with its arguments, that reads {"prompt", "text"} lines and writes a number for each.
    #[arg(
        long,
        value_name = "COMMAND",
        requires = "best_of",
        conflicts_with = "scores"
    )]
    judge: Option<String>,
    /// A file with a number for each sample, one a line; the same seed draws the same samples.
    #[arg(long, value_name = "FILE", requires = "best_of")]
    scores: Option<PathBuf>,
    /// Adds the best and the worst sample to a file of {"prompt", "chosen", "rejected"} lines, for [preferences].
    #[arg(long, value_name = "FILE", requires = "best_of")]
    preferences: Option<PathBuf>,
}

impl SamplingArguments {
    /// Whether this is another command than a plain generation.
    pub(super) fn is_plain(&self) -> bool {
        self.fill.is_none() && self.rerank.is_none() && self.best_of.is_none()
    }

    /// The text with a gap, where one is to be filled.
    pub(super) fn gap(&self) -> Option<&str> {
        self.fill.as_deref()
    }

    /// The backward model, where one is named.
    pub(super) fn reader(&self) -> Result<Option<Reader>> {
        self.backward
            .as_ref()
            .map(|path| Reader::new(super::open_engine(Some(path))?, true))
            .transpose()
    }

    /// Fills the gap of a text with what a forward model, and a backward one where it is named, think of it.
    pub(super) fn fill_gap(&self, prompt: &PromptArguments, engine: Engine) -> Result<()> {
        let text = self.fill.as_deref().unwrap_or_default();
        let Some((left, right)) = text.split_once(GAP) else {
            return Err(Error::new(ErrorKind::Input, format!("{text:?} has no gap"))
                .advice("write ___ where tokens are wanted"));
        };
        if right.contains(GAP) {
            return Err(Error::new(ErrorKind::Input, "there are several gaps")
                .advice("fill one at a time; a bert fills several"));
        }
        let backward = self.reader()?;
        let forward = Reader::new(engine, false)?;
        let tokenizer = forward.engine().tokenizer().clone();
        // A space before the gap belongs to the first word in it.
        let left_ids = tokenizer.encode(left.trim_end())?;
        let right_ids = tokenizer.encode(right)?;
        let search = GapSearch {
            least: self.fill_least,
            most: prompt.tokens.unwrap_or(4).max(self.fill_least),
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
                json!({"text": tokenizer.decode(&fill.ids), "ids": fill.ids, "forward": fill.forward,
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

    /// Draws samples and keeps the best.
    pub(super) fn choose(
        &self,
        prompt: &PromptArguments,
        engine: &Engine,
        ids: &[u32],
        hooks: &Hooks,
        request: &dyn Fn(u64) -> Result<Request>,
    ) -> Result<()> {
        let count = self.rerank.or(self.best_of).unwrap_or(1);
        if count == 0 {
            return Err(Error::new(ErrorKind::Input, "there is no sample to choose"));
        }
        let seed = prompt.seed;
        let hooked = super::plugins::hooked(engine, hooks, seed)?;
        let draw = |sample: usize| -> Result<Vec<u32>> {
            let request = request(seed.wrapping_add(sample as u64))?;
            Ok(hooked.start(request)?.collect_text()?.1)
        };
        let samples: Vec<Vec<u32>> = (0..count).map(draw).collect::<Result<_>>()?;
        let tokenizer = engine.tokenizer();
        let mut report = json!({"model": engine.name(), "prompt_ids": ids, "seed": seed});
        let decoded = |ids: &[u32]| tokenizer.decode(ids);
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
                let scores = self.scored(&tokenizer.decode(ids), &samples, tokenizer)?;
                report["samples"] = samples
                    .iter()
                    .enumerate()
                    .map(|(sample, ids)| {
                        json!({"text": tokenizer.decode(ids), "ids": ids,
                            "score": scores.as_ref().map(|scores| scores[sample])})
                    })
                    .collect();
                scores
                    .map(|scores| {
                        let by = |worse: bool| {
                            (1..count).fold(0, |best, sample| {
                                match (scores[sample] > scores[best]) != worse
                                    && scores[sample] != scores[best]
                                {
                                    true => sample,
                                    false => best,
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
            report["text"] = json!(tokenizer.decode(&samples[best]));
        }
        if prompt.json {
            super::plugins::note(&mut report, seed)?;
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

    /// A number for each sample, from whoever judges.
    fn scored(
        &self,
        prompt: &str,
        samples: &[Vec<u32>],
        tokenizer: &Tokenizer,
    ) -> Result<Option<Vec<f64>>> {
        let (text, place) = match (&self.judge, &self.scores) {
            (None, None) => return Ok(None),
            (_, Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Error::io(error, path.display()))?;
                (text, path.display().to_string())
            }
            (Some(command), None) => {
                let lines: String = samples
                    .iter()
                    .map(|ids| {
                        json!({"prompt": prompt, "text": tokenizer.decode(ids)}).to_string() + "\n"
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
                    Error::new(ErrorKind::Format, format!("{line:?} is no score")).at(&place)
                })
            })
            .collect::<Result<Vec<f64>>>()?;
        match scores.len() == samples.len() {
            true => Ok(Some(scores)),
            false => Err(Error::new(
                ErrorKind::Format,
                format!("{} scores for {} samples", scores.len(), samples.len()),
            )
            .at(place)
            .advice("write one number a line, one for each sample")),
        }
    }

    /// Adds a pair to the file of preferences.
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
        let line = json!({"prompt": tokenizer.decode(prompt), "chosen": tokenizer.decode(best),
            "rejected": tokenizer.decode(worst)});
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| writeln!(file, "{line}"))
            .map_err(|error| Error::io(error, path.display()))
    }
}

/// What a command answers to lines on its standard input.
fn ask(command: &str, lines: String) -> Result<String> {
    let fault = |error| Error::io(error, format!("--judge {command}"));
    let mut words = command.split_whitespace();
    let program = words
        .next()
        .ok_or_else(|| Error::new(ErrorKind::Input, "--judge names no program"))?;
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(fault)?;
    let input = child.stdin.take();
    // Written beside reading, so that neither side waits for the other's full pipe.
    let writer = std::thread::spawn(move || {
        input.map_or(Ok(()), |mut input| input.write_all(lines.as_bytes()))
    });
    let output = child.wait_with_output().map_err(fault)?;
    // A judge that ends without reading all has said what it had to.
    let _ = writer.join();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(Error::new(
            ErrorKind::Io,
            format!("the judge failed: {}", output.status),
        )
        .at(format!("--judge {command}"))),
    }
}

/// Draws what stands before a text, and says both.
pub(super) fn leftward(
    prompt: &PromptArguments,
    reader: &Reader,
    ids: &[u32],
    request: Request,
    hooks: &Hooks,
) -> Result<()> {
    let hooked = super::plugins::hooked(reader.engine(), hooks, prompt.seed)?;
    let new = hooked.start(request)?.collect_text()?.1;
    let new = reader.made(new);
    let tokenizer = reader.engine().tokenizer();
    if !prompt.json {
        super::say(tokenizer.decode(&[&new, ids].concat()))?;
        return super::plugins::say_reports(prompt.seed);
    }
    let mut report = json!({
        "model": reader.engine().name(),
        "direction": "backward",
        "prompt_ids": ids,
        "ids": new,
        "text": tokenizer.decode(&new),
        "seed": prompt.seed,
    });
    super::plugins::note(&mut report, prompt.seed)?;
    super::say_json(&report)
}

/// Says a text that has grown both ways.
pub(super) fn show_grown(
    prompt: &PromptArguments,
    tokenizer: &Tokenizer,
    ids: &[u32],
    grown: &Grown,
) -> Result<()> {
    let text = tokenizer.decode(&grown.ids);
    if !prompt.json {
        super::say(text)?;
        return super::plugins::say_reports(prompt.seed);
    }
    let mut report = json!({
        "prompt_ids": ids,
        "ids": grown.ids,
        "before": grown.before,
        "placed": grown.placed,
        "text": text,
        "seed": prompt.seed,
    });
    super::plugins::note(&mut report, prompt.seed)?;
    super::say_json(&report)
}
