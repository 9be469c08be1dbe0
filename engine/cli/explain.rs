//! `brillm explain`: why one token and not another, and how faithful the answer is.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use serde::Serialize;

use crate::run::explain::{
    Explanation, Faithfulness, FixedKind, Interval, Term, TermKind, explain, faithfulness,
};
use crate::run::trace::{EntryKind, ShownToken};
use crate::text::{Corpus, CorpusOptions, Tokenizer};
use crate::{Error, ErrorKind, Result};

/// Tokens that the text output lists for a step.
const PRINTED: usize = 12;

/// Explain why a graph chooses a token and not another, or test explanations on held-out text.
///
/// The margin between two tokens, ln of the ratio of their probabilities, is split into what every earlier token,
/// the biases and the counts of the training text add. With composed edges, and layered edges of one layer, a part is
/// exactly what the margin loses without that token's signal at this step, given the gates; with more layers only the last
/// is split, and the rest is one part, `layers`.
///
/// --test removes tokens from texts and compares what happens with what explanations predict, for graphs and, by the
/// methods usual there, for transformers.
#[derive(Args)]
#[command(group(ArgGroup::new("what").required(true).multiple(false).args(["prompt", "prompts", "test"])))]
#[command(after_long_help = "\
Examples:
  brillm explain \"Once upon a time, there was a little\"
  brillm explain \"Once upon a time, there was a little\" --alternative \" boy\" --tokens 3
  brillm explain --test held-out.txt --model graph.bril --model models/stories260K")]
pub(super) struct Arguments {
    /// Text whose next token is explained; `-` reads standard input.
    #[arg(allow_hyphen_values = false)]
    prompt: Option<String>,
    /// File with a prompt on each line.
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Model: a .bril file; with --test also folders with config.json, and several [default: the built-in English
    /// model].
    #[arg(long, value_name = "PATH")]
    model: Vec<PathBuf>,
    /// Text of the token that the chosen one is compared with [default: the next likeliest].
    #[arg(long, value_name = "TEXT", conflicts_with = "test")]
    alternative: Option<String>,
    /// Number of tokens to choose and explain, one after the other.
    #[arg(
        long,
        default_value_t = 1,
        value_name = "N",
        conflicts_with = "test",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    tokens: u32,
    /// Held-out texts to test explanations on: files, folders or globs.
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    test: Vec<PathBuf>,
    /// Number of pieces of the held-out texts.
    #[arg(
        long,
        default_value_t = 100,
        value_name = "N",
        requires = "test",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    texts: u32,
    /// Number of words in a piece.
    #[arg(
        long,
        default_value_t = 20,
        value_name = "N",
        requires = "test",
        value_parser = clap::value_parser!(u32).range(2..=512)
    )]
    length: u32,
    /// Seed of the random order and of the resampling of intervals.
    #[arg(long, default_value_t = 0, value_name = "N", requires = "test")]
    seed: u64,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// A prompt with its explanations, as JSON.
#[derive(Serialize)]
struct Explained<'a> {
    model: &'a str,
    prompt: &'a str,
    prompt_ids: &'a [u32],
    /// Text of every token that occurs.
    tokens: Vec<ShownToken>,
    explanations: &'a [Explanation],
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        if !self.test.is_empty() {
            return self.test();
        }
        if self.model.len() > 1 {
            return Err(
                Error::new(ErrorKind::Input, "a prompt is explained with one model")
                    .advice("pass --model once, or --test"),
            );
        }
        let engine = super::open_engine(self.model.first().map(PathBuf::as_path))?.forward()?;
        let name = engine.name().to_string();
        let model = engine.graph()?;
        let tokenizer = model.tokenizer();
        let alternative = self
            .alternative
            .as_deref()
            .map(|text| single(tokenizer, text))
            .transpose()?;
        let mut documents = Vec::new();
        for prompt in self.texts()? {
            let ids = tokenizer.encode(&prompt)?;
            let stop: Vec<u32> = tokenizer.vocabulary().stop().into_iter().collect();
            let steps = self.tokens as usize;
            let explanations = explain(model.mechanism(), &ids, steps, alternative, &stop)?;
            if self.json {
                documents.push(document(&name, tokenizer, &prompt, &ids, &explanations));
            } else {
                say(tokenizer, &explanations)?;
            }
        }
        if !self.json {
            return Ok(());
        }
        match (&documents[..], &self.prompts) {
            ([one], None) => super::say_json(one),
            _ => super::say_json(&documents),
        }
    }

    /// Read the prompts.
    fn texts(&self) -> Result<Vec<String>> {
        let Some(path) = &self.prompts else {
            let prompt = self.prompt.clone().unwrap_or_default();
            return Ok(vec![if prompt == "-" {
                crate::text::read_text("-".as_ref())?
            } else {
                prompt
            }]);
        };
        let text = crate::text::read_text(path)?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let prompts: Vec<String> = lines.map(str::to_string).collect();
        if prompts.is_empty() {
            return Err(Error::new(ErrorKind::Input, "the file has no prompt")
                .at(path.display())
                .advice("write one prompt per line"));
        }
        Ok(prompts)
    }

    /// Test explanations of every model on the same pieces of text.
    fn test(&self) -> Result<()> {
        super::catch_interrupt()?;
        let pieces = self.pieces()?;
        let paths = self.model.iter().map(|path| Some(path.as_path()));
        let paths = match self.model.is_empty() {
            true => vec![None],
            false => paths.collect(),
        };
        let mut measured = Vec::with_capacity(paths.len());
        for path in paths {
            let engine = super::open_engine(path)?.forward()?;
            let texts = pieces.iter().map(|piece| engine.encode(piece));
            let texts = texts.collect::<Result<Vec<_>>>()?;
            let bar = super::progress::bar(
                self.json,
                Some(texts.len() as u64),
                "{msg} {bar:40} {pos}/{len} texts, {eta} left",
            );
            bar.set_message(engine.name().to_string());
            let mut tick = || bar.inc(1);
            let stop = super::interrupted();
            let result = faithfulness(&engine, &texts, self.seed, &mut tick, stop)?;
            bar.finish_and_clear();
            if !self.json {
                say_faithfulness(&result)?;
            }
            measured.push(result);
        }
        match self.json {
            true => super::say_json(&measured),
            false => Ok(()),
        }
    }

    /// Cut the held-out texts into words and take pieces at even distances.
    fn pieces(&self) -> Result<Vec<String>> {
        let mut words = Vec::new();
        for document in Corpus::open(&self.test, CorpusOptions::default())? {
            words.extend(document?.split_whitespace().map(str::to_string));
        }
        let (texts, length) = (self.texts as usize, self.length as usize);
        let places = words.len() / length;
        if places < texts {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "{} words are too few for {texts} texts of {length} words",
                    words.len()
                ),
            )
            .advice("pass more text, or a smaller --texts or --length"));
        }
        let piece = |index: usize| {
            let start = index * places / texts * length;
            words[start..start + length].join(" ")
        };
        Ok((0..texts).map(piece).collect())
    }
}

/// Return the one token of a text.
fn single(tokenizer: &Tokenizer, text: &str) -> Result<u32> {
    match tokenizer.encode(text)?[..] {
        [token] => Ok(token),
        ref tokens => Err(Error::new(
            ErrorKind::Input,
            format!(
                "invalid alternative {text:?}: it has {} tokens, expected 1",
                tokens.len()
            ),
        )
        .advice("a word often begins with a space, for example \" boy\"")),
    }
}

fn document<'a>(
    model: &'a str,
    tokenizer: &Tokenizer,
    prompt: &'a str,
    ids: &'a [u32],
    explanations: &'a [Explanation],
) -> serde_json::Value {
    let steps = explanations
        .iter()
        .flat_map(|one| [one.chosen, one.alternative]);
    let mut all: Vec<u32> = ids.iter().copied().chain(steps).collect();
    all.sort_unstable();
    all.dedup();
    let vocabulary = tokenizer.vocabulary();
    serde_json::json!(Explained {
        model,
        prompt,
        prompt_ids: ids,
        tokens: all
            .iter()
            .map(|&id| ShownToken::of(vocabulary, id))
            .collect(),
        explanations,
    })
}

/// Print the explanations of a prompt.
fn say(tokenizer: &Tokenizer, explanations: &[Explanation]) -> Result<()> {
    for one in explanations {
        let shown = |id: u32| tokenizer.vocabulary().display(id);
        super::say(format!(
            "{} → {} over {}: margin {:.3} ({:.2} % against {:.2} %)",
            shown(one.source),
            shown(one.chosen),
            shown(one.alternative),
            one.margin,
            100.0 * one.probabilities[0],
            100.0 * one.probabilities[1]
        ))?;
        let (mut tokens, others): (Vec<&Term>, Vec<&Term>) =
            one.terms.iter().partition(|term| term.position.is_some());
        tokens.sort_by(|a, b| b.value.abs().total_cmp(&a.value.abs()));
        for term in tokens.iter().take(PRINTED) {
            let (Some(position), Some(id)) = (term.position, term.id) else {
                continue;
            };
            super::say(format!(
                "  {:+8.3}  {position:4}  {}",
                term.value,
                shown(id)
            ))?;
        }
        if tokens.len() > PRINTED {
            let rest: f64 = tokens[PRINTED..].iter().map(|term| term.value).sum();
            let count = tokens.len() - PRINTED;
            super::say(format!("  {rest:+8.3}        {count} more tokens"))?;
        }
        for term in others {
            super::say(format!(
                "  {:+8.3}        {}",
                term.value,
                name_of(term.kind)
            ))?;
        }
        if !one.exact {
            super::say(
                "  the parts add up, but a margin without one of them differs from the rest",
            )?;
        }
    }
    Ok(())
}

fn name_of(kind: TermKind) -> &'static str {
    match kind {
        TermKind::Fixed(FixedKind::TargetBias) => "target biases",
        TermKind::Fixed(FixedKind::StaticResistance) => "static resistances (counts)",
        TermKind::Signal(EntryKind::Token) => "token",
        TermKind::Signal(EntryKind::Bias) => "bias of the signal",
        TermKind::Signal(EntryKind::Position) => "position table",
        TermKind::Signal(EntryKind::Source) => "offset of the source",
        TermKind::Signal(EntryKind::Target) => "factor of the target",
        TermKind::Signal(EntryKind::Layers) => {
            "layers before the last (approximate: not split by token)"
        }
    }
}

/// Print the test of one model's explanations.
fn say_faithfulness(measured: &Faithfulness) -> Result<()> {
    super::say(format!(
        "{}: {} texts, {} tokens, seed {}",
        measured.model, measured.texts, measured.tokens, measured.seed
    ))?;
    if let Some(muted) = &measured.muted {
        super::say(format!(
            "  signal removed at this step: {} removals, largest error {:.1e} nats ({:.1e} of the largest change); \
             {} of {} flips predicted, {} false",
            muted.removals,
            muted.largest_error,
            muted.relative_error,
            muted.predicted,
            muted.flips,
            muted.false_alarms
        ))?;
    }
    super::say(format!(
        "  removed from the text   {:>16} {:>6} {:>20} {:>20} {:>20} {:>20} {:>20}",
        "flips predicted",
        "false",
        "correlation",
        "comprehensiveness",
        "sufficiency",
        "deletion",
        "insertion"
    ))?;
    let interval = |one: &Interval| format!("{:.3} ({:.3}-{:.3})", one.mean, one.low, one.high);
    for row in &measured.methods {
        let share = 100.0 * row.predicted as f64 / row.flips.max(1) as f64;
        super::say(format!(
            "  {:<23} {:>16} {:>6} {:>20} {:>20} {:>20} {:>20} {:>20}",
            row.method,
            format!("{}/{} {share:.0} %", row.predicted, row.flips),
            row.false_alarms,
            interval(&row.correlation),
            interval(&row.comprehensiveness),
            interval(&row.sufficiency),
            interval(&row.deletion),
            interval(&row.insertion)
        ))?;
    }
    Ok(())
}
