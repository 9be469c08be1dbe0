//! Where a run's parameters are: with the processor, or on a device that may fail.

use super::{Trainer, Watcher};
use crate::Result;
use crate::kernel::gpu::Device;
use crate::learn::batch::Batch;
use crate::learn::checkpoint;
use crate::learn::composed::Loss;
use crate::learn::device::DeviceLearner;
use crate::learn::learner::Learner;
use crate::learn::log::RunLog;

/// A device that learns.
pub(super) struct Place {
    learner: DeviceLearner,
    forced: bool,
    failed: bool,
}

impl Trainer {
    /// Trains on a device from here on. Unless `forced`, the processor takes over from the newest checkpoint
    /// when the device fails.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`](crate::ErrorKind::Resource) when the learner does not fit there.
    pub fn use_device(&mut self, device: &Device, forced: bool) -> Result<()> {
        let learner = DeviceLearner::new(
            device,
            &self.profile,
            &self.graph,
            &self.prior,
            &mut self.learner,
            &self.recipe.train,
            self.recipe.seed,
        )?;
        self.place = Some(Place {
            learner,
            forced,
            failed: false,
        });
        Ok(())
    }

    /// Whether a device failed that may be done without.
    pub(super) fn device_failed(&self) -> bool {
        let place = self.place.as_ref();
        place.is_some_and(|place| place.failed && !place.forced)
    }

    /// Goes back to the newest checkpoint, or to the beginning, and on without the device.
    pub(super) fn take_over(
        &mut self,
        error: &crate::Error,
        watcher: &mut dyn Watcher,
    ) -> Result<()> {
        self.place = None;
        self.log.sync()?;
        let (train, seed) = (&self.recipe.train, self.recipe.seed);
        self.learner = Learner::new(&self.profile, &self.graph, train.dropout, seed);
        let progress = checkpoint::load(&self.folder, &mut self.learner)?;
        self.progress = progress.unwrap_or_default();
        self.log = RunLog::resume(&self.folder, self.progress.step)?;
        watcher.warn(&format!(
            "the processor takes over after step {}: {error}",
            self.progress.step
        ));
        Ok(())
    }

    /// Takes one step where the parameters are.
    pub(super) fn learn(&mut self, batch: &Batch, step: u64) -> Result<(Loss, Option<f64>)> {
        let (graph, train) = (&self.graph, &self.recipe.train);
        match &mut self.place {
            Some(place) => {
                let learned = place.learner.learn(graph, batch, train, step);
                place.failed |= learned.is_err();
                learned
            }
            None => self.learner.learn(graph, &self.prior, batch, train, step),
        }
    }

    /// Brings the parameters back from where they are.
    pub(super) fn bring_back(&mut self) -> Result<()> {
        let Some(place) = &mut self.place else {
            return Ok(());
        };
        let brought = place.learner.download(&mut self.learner);
        place.failed |= brought.is_err();
        brought
    }

    /// The loss of a batch where the parameters are.
    pub(super) fn loss(&mut self, batch: &Batch) -> Result<Loss> {
        match &mut self.place {
            Some(place) => {
                let loss = place.learner.loss(&self.graph, batch);
                place.failed |= loss.is_err();
                loss
            }
            None => Ok(self.learner.loss(&self.graph, &self.prior, batch)),
        }
    }
}
