//! `brillm classify`: fine-tune a transformer on labelled texts, measure it, and predict labels.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::measure::Classification;
use crate::text::{LabelledFields, LabelledText, read_labelled};
use crate::transformer::{Classifier, FineTuner, FineTuning, evaluate_classifier};
use crate::{Error, ErrorKind, Result};

/// Classify texts: fine-tune a transformer (--train), measure its accuracy, or predict labels (--predict).
///
/// Labelled files are JSONL or tab-separated columns; --fields names the fields to read. Files given as arguments are
/// measured. --predict reads unlabelled texts, one per line.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm classify --model models/stories260K --train train.tsv --fields 1,2 --out tuned test.tsv
  brillm classify --model tuned --predict texts.txt")]
pub(super) struct Arguments {
    /// Model folder with config.json: any transformer with --train, otherwise one fine-tuned by this command.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Labelled texts to fine-tune on; may be repeated.
    #[arg(long, value_name = "FILE")]
    train: Vec<PathBuf>,
    /// With --train: folder to write the fine-tuned model to [default: the model is not saved].
    #[arg(long, value_name = "DIR", requires = "train")]
    out: Option<PathBuf>,
    /// Labelled texts to measure accuracy on.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Texts to predict labels for, one per line (a tab separates the texts of a pair); `-` reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    predict: Option<PathBuf>,
    /// Fields of a record: names, or column numbers from 1.
    #[arg(long, default_value = "label,text", value_name = "LABEL,TEXT[,TEXT]")]
    fields: LabelledFields,
    #[command(flatten)]
    tuning: TuningArguments,
    /// Print no progress.
    #[arg(long)]
    quiet: bool,
    /// Print the result as JSON; with --predict, one JSON object per line.
    #[arg(long)]
    json: bool,
}

/// Options of fine-tuning.
#[derive(Args, Clone, Copy)]
#[command(next_help_heading = "Fine-tuning")]
pub(super) struct TuningArguments {
    /// Passes over the training texts.
    #[arg(long, default_value_t = FineTuning::default().epochs, value_name = "N")]
    epochs: usize,
    /// Texts per training step.
    #[arg(long = "batch-size", default_value_t = FineTuning::default().batch, value_name = "N")]
    batch: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = FineTuning::default().rate, value_name = "R")]
    rate: f64,
    /// Dropout rate, at least 0 and below 1.
    #[arg(long, default_value_t = FineTuning::default().dropout, value_name = "P")]
    dropout: f64,
    /// Random seed of the new classification head, the order of texts and dropout.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

impl TuningArguments {
    pub(super) fn options(self) -> FineTuning {
        FineTuning {
            epochs: self.epochs,
            batch: self.batch,
            rate: self.rate,
            dropout: self.dropout,
            seed: self.seed,
            ..FineTuning::default()
        }
    }
}

/// Fine-tune with a progress bar.
pub(super) fn tune(tuner: &mut FineTuner, quiet: bool) -> Result<()> {
    let template = "{bar:30} {pos}/{len} {elapsed} < {eta}  {msg}";
    let bar = super::progress::bar(quiet, Some(tuner.steps()), template);
    let finished = tuner.run(super::interrupted(), &mut |step, loss| {
        bar.set_position(step);
        bar.set_message(format!("loss {loss:.3}"));
    })?;
    bar.finish_and_clear();
    if finished {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Cancelled,
        "interrupted; nothing was written",
    ))
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        if self.train.is_empty() && self.files.is_empty() && self.predict.is_none() {
            return Err(Error::new(ErrorKind::Input, "nothing to do")
                .advice("pass --train FILE, labelled files to measure on, or --predict FILE"));
        }
        super::catch_interrupt()?;
        let mut measured = Vec::new();
        for path in &self.files {
            measured.push((path, read_labelled(path, &self.fields)?));
        }
        let (tuner, opened);
        let classifier = if self.train.is_empty() {
            opened = Classifier::open(&self.model)?;
            &opened
        } else {
            tuner = self.train()?;
            tuner.classifier()
        };
        if let Some(path) = &self.predict {
            return self.print_predictions(classifier, path);
        }
        let figures = measured
            .iter()
            .map(|(file, texts)| Ok((file.display(), evaluate_classifier(classifier, texts)?)))
            .collect::<Result<Vec<_>>>()?;
        self.report(classifier, &figures)
    }

    /// Fine-tune the model, and save it where --out is given.
    fn train(&self) -> Result<FineTuner> {
        let mut texts = Vec::new();
        for path in &self.train {
            texts.extend(read_labelled(path, &self.fields)?);
        }
        let mut tuner = FineTuner::new(&self.model, &texts, self.tuning.options())?;
        tune(&mut tuner, self.quiet)?;
        if let Some(folder) = &self.out {
            tuner.save(folder)?;
        }
        Ok(tuner)
    }

    fn print_predictions(&self, classifier: &Classifier, path: &Path) -> Result<()> {
        let all = crate::text::read_text(path)?;
        let texts: Vec<LabelledText> = all
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                let (text, pair) = line.split_once('\t').unzip();
                LabelledText {
                    text: text.unwrap_or(line).to_string(),
                    pair: pair.map(str::to_string),
                    label: String::new(),
                }
            })
            .collect();
        for (text, found) in texts.iter().zip(classifier.predict(&texts)?) {
            let label = &classifier.labels()[found.label];
            if self.json {
                super::say_json_line(&json!({
                    "text": text.text,
                    "pair": text.pair,
                    "label": label,
                    "probabilities": found.probabilities,
                }))?;
            } else {
                let probability = found.probabilities[found.label];
                super::say(format!("{label}\t{probability:.3}\t{}", text.text))?;
            }
        }
        Ok(())
    }

    fn report<F: std::fmt::Display>(
        &self,
        classifier: &Classifier,
        figures: &[(F, Classification)],
    ) -> Result<()> {
        if self.json {
            let rows: Vec<Value> = figures
                .iter()
                .map(|(file, figures)| json!({"file": file.to_string(), "figures": figures}))
                .collect();
            return super::say_json(&json!({
                "model": classifier.transformer().name(),
                "labels": classifier.labels(),
                "tuning": (!self.train.is_empty()).then(|| self.tuning.options()),
                "measured": rows,
            }));
        }
        if figures.is_empty() {
            return super::say(format!("labels: {}", classifier.labels().join(", ")));
        }
        super::say(
            "| file | texts | accuracy | F1 | Matthews | most frequent label |\n|---|---|---|---|---|---|",
        )?;
        for (file, figures) in figures {
            super::say(format!(
                "| {file} | {} | {:.1} % | {:.3} | {:.3} | {:.1} % |",
                figures.texts,
                100.0 * figures.accuracy,
                figures.f1,
                figures.matthews,
                100.0 * figures.majority,
            ))?;
        }
        Ok(())
    }
}
