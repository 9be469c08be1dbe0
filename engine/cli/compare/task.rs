//! A task that `brillm compare` fine-tunes transformers on.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::measure::Classification;
use crate::text::{LabelledFields, read_labelled};
use crate::transformer::{FineTuner, FineTuning, evaluate_classifier};
use crate::{Error, ErrorKind, Result};

/// Labelled texts to fine-tune on and to measure.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) name: String,
    train: PathBuf,
    test: PathBuf,
    fields: LabelledFields,
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || {
            Error::new(
                ErrorKind::Configuration,
                format!("invalid task {text:?}: expected NAME=TRAIN:TEST:FIELDS"),
            )
            .advice("for example cola=train.tsv:dev.tsv:2,4")
        };
        let (name, files) = text.split_once('=').ok_or_else(invalid)?;
        let parts: Vec<&str> = files.split(':').collect();
        let [train, test, fields] = parts.as_slice() else {
            return Err(invalid());
        };
        Ok(Self {
            name: name.into(),
            train: train.into(),
            test: test.into(),
            fields: fields.parse()?,
        })
    }
}

impl Task {
    /// Fine-tune the network in a folder with the defaults of `brillm classify` and measure it.
    pub(super) fn run(
        &self,
        model: &Path,
        seed: u64,
        epochs: usize,
        quiet: bool,
    ) -> Result<Classification> {
        let options = FineTuning {
            seed,
            epochs,
            ..FineTuning::default()
        };
        let mut tuner = FineTuner::new(model, &read_labelled(&self.train, &self.fields)?, options)?;
        crate::cli::classify::tune(&mut tuner, quiet)?;
        evaluate_classifier(
            tuner.classifier(),
            &read_labelled(&self.test, &self.fields)?,
        )
    }
}
