//! The loop over optimiser steps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::folder::copy;
use super::{Outcome, ProgressObserver, Trainer};
use crate::Result;
use crate::learn::batch::Order;
use crate::learn::checkpoint;
use crate::learn::log::{Record, Training};
use crate::learn::recipe::Train;

impl Trainer {
    /// Train on the current device.
    pub(super) fn run_on_device(
        &mut self,
        cancel: &AtomicBool,
        observer: &mut dyn ProgressObserver,
    ) -> Result<Outcome> {
        let train = self.recipe.train.clone();
        let total = train.total_steps();
        let validate_every = match train.validate_every {
            0 => self.sampler.steps_per_epoch(),
            every => every,
        };
        let mut order = Order::default();
        let mut logged = (self.started, self.progress.step);
        let mut cancelled = false;
        while self.progress.step < total {
            let norm = self.take_step(&train, &mut order, observer)?;
            let step = self.progress.step;
            let last = step == total;
            if step % train.log_every == 0 || last {
                self.log_training(&train, norm, &mut logged, observer)?;
            }
            let mut stop = false;
            if (step % validate_every == 0 || last) && !self.windows().is_empty() {
                stop = self.validate(step, self.tokens_at(step), observer)?;
            }
            cancelled = self.is_cancelled(cancel)?;
            // After the log and the validation of the step: a resumed run repeats neither.
            if step % train.checkpoint_every == 0 || last || stop || cancelled {
                self.save_checkpoint(train.checkpoints)?;
            }
            if stop || cancelled {
                break;
            }
        }
        let best = self.folder.join(self.trainable.file("best"));
        let model = self.folder.join(self.trainable.file("model"));
        let leads = self.ranks.rank() == 0;
        // With validation the best model is the result; without, the last one. Rank 0 decides: it writes the models.
        let validated = self.trainable.keeps_best() && self.progress.best.is_some();
        let mut copies = [i64::from(leads && validated && best.exists())];
        self.ranks.sum("choice of the model".into(), &mut copies)?;
        // What follows is the work of rank 0 alone, for which the others wait without a limit.
        let exchanged_bytes_a_token = self.exchanged_bytes_a_token()?;
        if copies == [0] {
            self.save(&model)?;
        } else if leads {
            copy(&best, &model)?;
        }
        let (charges, recall) = match cancelled {
            false if leads => self.fit_caches(&model, &train, observer)?,
            _ => (None, None),
        };
        let parameters = self.trainable.parameters();
        Ok(Outcome {
            model,
            steps: self.progress.step,
            parameters,
            charges,
            recall,
            validation_perplexity: self.progress.best.map(|(perplexity, _)| perplexity),
            exchanged_bytes_a_token,
            cancelled,
        })
    }

    /// Return the bytes that all ranks have sent one another in the exchanges of the steps of this start, for each token.
    fn exchanged_bytes_a_token(&self) -> Result<f64> {
        let (steps, sent) = self.taken;
        let mut all = [sent as i64];
        self.ranks.sum("bytes sent".into(), &mut all)?;
        Ok(all[0] as f64 / self.tokens_at(steps).max(1) as f64)
    }

    /// Whether the run is to stop after this step: on one rank, and so on all.
    fn is_cancelled(&self, cancel: &AtomicBool) -> Result<bool> {
        let mut flag = [i64::from(cancel.load(Ordering::Relaxed))];
        self.ranks.sum("cancellation".into(), &mut flag)?;
        Ok(flag != [0])
    }

    /// Training tokens seen after `step` steps.
    pub(super) fn tokens_at(&self, step: u64) -> u64 {
        step * (self.recipe.train.batch * self.recipe.train.steps) as u64
    }

    /// Take one optimiser step and return the norm of its gradient.
    pub(super) fn take_step(
        &mut self,
        train: &Train,
        order: &mut Order,
        observer: &mut dyn ProgressObserver,
    ) -> Result<Option<f64>> {
        let step = self.progress.step + 1;
        let mut batch = self.sampler.batch(self.data.train(), step - 1, order);
        let before = self.ranks.sent();
        let (loss, norm) = self.trainable.learn(&mut batch, step)?;
        self.taken.0 += 1;
        self.taken.1 += self.ranks.sent() - before;
        self.progress.step = step;
        self.progress.nats += loss.nats;
        self.progress.tokens += loss.tokens as u64;
        observer.step(step, train.total_steps(), loss.mean(), self.tokens_at(step));
        Ok(norm)
    }

    /// Log the mean of the steps since the last record, which was made at `logged`.
    fn log_training(
        &mut self,
        train: &Train,
        norm: Option<f64>,
        logged: &mut (Instant, u64),
        observer: &mut dyn ProgressObserver,
    ) -> Result<()> {
        let (step, now) = (self.progress.step, Instant::now());
        let seconds = now.duration_since(logged.0).as_secs_f64();
        let record = Record::Training(Training {
            step,
            tokens: self.tokens_at(step),
            loss: self.progress.nats / self.progress.tokens as f64,
            rate: train.rate_at(step - 1),
            gradient_norm: norm,
            wall_tokens_per_second: self.tokens_at(step - logged.1) as f64 / seconds.max(1e-9),
            wall_seconds: now.duration_since(self.started).as_secs_f64(),
            wall_time: crate::learn::log::wall_time(),
        });
        *logged = (now, step);
        (self.progress.nats, self.progress.tokens) = (0.0, 0);
        self.add_record(&record, observer)
    }

    /// Add a record to the log, on rank 0.
    pub(super) fn add_record(
        &mut self,
        record: &Record,
        observer: &mut dyn ProgressObserver,
    ) -> Result<()> {
        if let Some(log) = &mut self.log {
            log.add(record)?;
            observer.record(record);
        }
        Ok(())
    }

    fn save_checkpoint(&mut self, keep: usize) -> Result<()> {
        self.trainable.collect()?;
        // The log first: a checkpoint is never ahead of it.
        if let Some(log) = &self.log {
            log.sync()?;
            self.trainable.settle()?;
            self.progress.notes = self.trainable.notes()?;
        }
        let (ranks, progress) = (&*self.ranks, &mut self.progress);
        checkpoint::save(ranks, &self.folder, progress, &mut *self.trainable, keep)
    }
}
