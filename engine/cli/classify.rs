//! `brillm classify`: fine-tunes a transformer to tell labels of texts, measures it, and tells them.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::measure::Classification;
use crate::text::{Labelled, LabelledFields, read_labelled};
use crate::transformer::{Classifier, FineTuner, FineTuning, evaluate_classifier};
use crate::{Error, ErrorKind, Result};

/// Tells the labels of texts, after fine-tuning a transformer on labelled ones with --train.
///
/// Files are JSONL, or columns between tabs; --fields says what is read of them. Labelled files are measured; with
/// --tell their texts, one a line, are told and nothing needs a label.
#[derive(Args)]
pub(super) struct Arguments {
    /// The model: a folder with a config.json; with --train any transformer, else one that was fine-tuned.
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    /// Labelled texts to fine-tune on; may be given several times.
    #[arg(long, value_name = "FILE")]
    train: Vec<PathBuf>,
    /// Where the fine-tuned model goes.
    #[arg(long, value_name = "FOLDER", requires = "train")]
    out: Option<PathBuf>,
    /// Labelled texts to measure on.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Texts to tell, one a line; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    tell: Option<PathBuf>,
    /// What is read of each record: names, or numbers of columns from 1.
    #[arg(long, default_value = "label,text", value_name = "LABEL,TEXT[,TEXT]")]
    fields: LabelledFields,
    #[command(flatten)]
    tuning: TuningArguments,
    /// No progress bar.
    #[arg(long)]
    quiet: bool,
    /// Report as JSON.
    #[arg(long)]
    json: bool,
}

/// How a network is fine-tuned.
#[derive(Args, Clone, Copy)]
#[command(next_help_heading = "Fine-tuning")]
pub(super) struct TuningArguments {
    /// Passes over the training texts.
    #[arg(long, default_value_t = FineTuning::default().epochs, value_name = "N")]
    epochs: usize,
    /// Texts a step.
    #[arg(long = "texts-a-step", default_value_t = FineTuning::default().batch, value_name = "N")]
    batch: usize,
    /// The learning rate at its height.
    #[arg(long, default_value_t = FineTuning::default().rate)]
    rate: f64,
    /// Dropout.
    #[arg(long, default_value_t = FineTuning::default().dropout)]
    dropout: f64,
    /// The seed of the head, the order of texts and dropout.
    #[arg(long, default_value_t = 0)]
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

/// Fine-tunes with a bar.
pub(super) fn tune(tuner: &mut FineTuner, quiet: bool) -> Result<()> {
    let bar = match quiet {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(tuner.steps()),
    };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} < {eta}  {msg}")
    {
        bar.set_style(style);
    }
    let whole = tuner.run(super::interrupted(), &mut |step, loss| {
        bar.set_position(step);
        bar.set_message(format!("loss {loss:.3}"));
    })?;
    bar.finish_and_clear();
    match whole {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Cancelled,
            "stopped; nothing was written",
        )),
    }
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        if self.train.is_empty() && self.files.is_empty() && self.tell.is_none() {
            return Err(Error::new(ErrorKind::Input, "there is nothing to do")
                .advice("give --train FILE, labelled files to measure on, or --tell FILE"));
        }
        super::catch_interrupt()?;
        let measured: Vec<(String, Vec<Labelled>)> = self
            .files
            .iter()
            .map(|path| {
                Ok((
                    path.display().to_string(),
                    read_labelled(path, &self.fields)?,
                ))
            })
            .collect::<Result<_>>()?;
        let tuner = match self.train.is_empty() {
            true => None,
            false => {
                let mut texts = Vec::new();
                for path in &self.train {
                    texts.extend(read_labelled(path, &self.fields)?);
                }
                let mut tuner = FineTuner::new(&self.model, &texts, self.tuning.options())?;
                tune(&mut tuner, self.quiet)?;
                if let Some(folder) = &self.out {
                    tuner.save(folder)?;
                }
                Some(tuner)
            }
        };
        let opened = match tuner {
            Some(_) => None,
            None => Some(Classifier::open(&self.model)?),
        };
        let Some(classifier) = tuner
            .as_ref()
            .map(FineTuner::classifier)
            .or(opened.as_ref())
        else {
            return Ok(());
        };
        if let Some(path) = &self.tell {
            return self.tell(classifier, path);
        }
        let figures = measured
            .iter()
            .map(|(file, texts)| Ok((file, evaluate_classifier(classifier, texts)?)))
            .collect::<Result<Vec<_>>>()?;
        self.report(classifier, &figures)
    }

    fn tell(&self, classifier: &Classifier, path: &PathBuf) -> Result<()> {
        let place = path.display().to_string();
        let all = match path.as_os_str() == "-" {
            true => std::io::read_to_string(std::io::stdin()),
            false => std::fs::read_to_string(path),
        }
        .map_err(|error| Error::io(error, &place))?;
        let texts: Vec<Labelled> = all
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                // A tab parts the texts of a pair.
                let (text, pair) = match line.split_once('\t') {
                    Some((text, pair)) => (text, Some(pair.to_string())),
                    None => (line, None),
                };
                Labelled {
                    text: text.to_string(),
                    pair,
                    label: String::new(),
                }
            })
            .collect();
        for (text, told) in texts.iter().zip(classifier.predict(&texts)?) {
            let label = &classifier.labels()[told.label];
            match self.json {
                true => super::say_json_line(&json!({
                    "text": text.text,
                    "pair": text.pair,
                    "label": label,
                    "probabilities": told.probabilities,
                }))?,
                false => super::say(format!(
                    "{label}\t{:.3}\t{}",
                    told.probabilities[told.label], text.text
                ))?,
            }
        }
        Ok(())
    }

    fn report(&self, classifier: &Classifier, figures: &[(&String, Classification)]) -> Result<()> {
        if self.json {
            let rows: Vec<Value> = figures
                .iter()
                .map(|(file, figures)| json!({"file": file, "figures": figures}))
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
