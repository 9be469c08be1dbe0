//! Validation during a run, and the fit of charges and recall after it.

use std::path::Path;

use super::{ProgressObserver, Trainer};
use crate::learn::batch::Batch;
use crate::learn::batch::Loss;
use crate::learn::charges::{self, FittedCharges};
use crate::learn::log::{Record, Validation};
use crate::learn::recall::{self, FittedRecall};
use crate::learn::recipe::Train;
use crate::measure::Perplexity;
use crate::model::{Model, Verify};
use crate::{Error, ErrorKind, Result};

/// Windows per validation batch.
const WINDOWS: usize = 32;

impl Trainer {
    /// Fit the charges and the recall that the recipe wants on the validation text, as one stream, and add them to the
    /// finished model.
    pub(super) fn fit_caches(
        &self,
        path: &Path,
        train: &Train,
        observer: &mut dyn ProgressObserver,
    ) -> Result<(Option<FittedCharges>, Option<FittedRecall>)> {
        if !train.charges && train.recall == 0 {
            return Ok((None, None));
        }
        let windows = self.windows();
        let (Some(&first), Some(&last)) = (windows.first(), windows.last()) else {
            return Err(Error::new(
                ErrorKind::Configuration,
                "train.charges and train.recall need validation text",
            ));
        };
        let model = Model::open(path, Verify::Whole)?;
        // All windows as one stream: charges and recall last across windows.
        let stream = &self.data.validation()[first..=last + train.steps];
        let (mut fitted_charges, mut fitted_recall) = (None, None);
        if train.charges {
            observer.note("fitting charges");
            fitted_charges = Some(charges::fit(model.mechanism(), stream)?);
        }
        if train.recall > 0 {
            observer.note("fitting recall");
            fitted_recall = Some(recall::fit(model.mechanism(), stream, train.recall)?);
        }
        model
            .described(|metadata| {
                metadata.charges = fitted_charges.map(|fitted| fitted.settings);
                metadata.recall = fitted_recall.map(|fitted| fitted.settings);
            })
            .save(path)?;
        Ok((fitted_charges, fitted_recall))
    }

    /// Measure the validation loss, save the best model, and return whether patience has run out.
    pub(super) fn validate(
        &mut self,
        step: u64,
        tokens: u64,
        observer: &mut dyn ProgressObserver,
    ) -> Result<bool> {
        let loss = self.validation_loss()?;
        let perplexity = loss.mean().exp();
        let mut measured = Perplexity::new(self.trainable.candidates() as u64);
        measured.add_sum(loss.nats, loss.tokens as u64);
        let seconds = self.started.elapsed().as_secs_f64();
        let record = Record::Validation(Validation::new(step, tokens, &measured, seconds));
        self.add_record(&record, observer)?;
        if self.progress.best.is_none_or(|(best, _)| perplexity < best) {
            self.progress.best = Some((perplexity, step));
            self.progress.stale = 0;
            let best = self.folder.join(self.trainable.file("best"));
            self.save(&best)?;
        } else {
            self.progress.stale += 1;
        }
        let patience = self.recipe.train.patience;
        Ok(patience > 0 && self.progress.stale >= patience)
    }

    /// Offsets of the validation windows.
    pub(super) fn windows(&self) -> Vec<usize> {
        let steps = self.recipe.train.steps;
        // T predictions take T + 1 tokens: the last one of a window is the first of the next.
        let all = self.data.validation().len().saturating_sub(1) / steps;
        let range = match self.recipe.data.validation_windows {
            Some([first, count]) => first..(first + count).min(all),
            None => 0..all,
        };
        range.map(|window| window * steps).collect()
    }

    /// Compute the loss on the validation text; the state is reset at each window. Ranks take turns at the batches, or
    /// compute each together where they hold parts of the model.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] for a value that is not finite; errors of the device, where one is used.
    pub fn validation_loss(&mut self) -> Result<Loss> {
        let steps = self.recipe.train.steps;
        let windows = self.windows();
        let (mut rank, mut size) = (self.ranks.rank(), self.ranks.size());
        let together = self.trainable.held().is_some();
        if together {
            (rank, size) = (0, 1);
        }
        // The bits of each batch's loss, 0 where another rank has it: the sum over ranks is the bits themselves.
        let mut counted = 0;
        let mut bits = vec![0i64; windows.len().div_ceil(WINDOWS)];
        for (index, group) in windows.chunks(WINDOWS).enumerate() {
            if index % size != rank {
                continue;
            }
            let validation = self.data.validation();
            let tokens = group
                .iter()
                .flat_map(|&start| validation[start..=start + steps].iter().copied())
                .collect();
            let batch = Batch {
                tokens,
                steps,
                // Fold 0: the counts of the whole training text, which does not contain the validation text.
                folds: vec![0; group.len()],
                before: 0,
                continued: Vec::new(),
                candidates: None,
                index: index as u64,
            };
            let loss = self.trainable.loss(&batch)?;
            counted += loss.tokens as i64;
            bits[index] = loss.nats.to_bits() as i64;
        }
        let mut counted = [counted];
        if !together {
            self.ranks.sum("validation".into(), &mut bits)?;
            self.ranks.sum("validation".into(), &mut counted)?;
        }
        Ok(Loss {
            nats: bits
                .iter()
                .fold(0.0, |sum, &bits| sum + f64::from_bits(bits as u64)),
            tokens: counted[0] as usize,
        })
    }
}
