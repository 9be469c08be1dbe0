//! The trait of everything that the training loop trains.

use std::ops::Range;
use std::path::Path;

use serde_json::Value;

use crate::Result;
use crate::learn::adamw::Moments;
use crate::learn::batch::{Batch, Loss};
use crate::learn::parameter::Parameter;
#[cfg(feature = "gpu")]
use crate::{Error, ErrorKind};

/// Rows of a block of which this rank holds a part.
pub struct HeldRows<'a> {
    /// Name of the block.
    pub name: &'static str,
    /// Numbers of a row.
    pub columns: usize,
    /// The rows, by their numbers in the whole block, ascending.
    pub rows: Vec<Range<usize>>,
    /// Values, moments and averages of these rows, by the suffix of their names. `[rows, columns]`
    pub arrays: Vec<(&'static str, &'a mut Vec<f32>)>,
}

/// A model that the training loop trains: a graph, or a network of the comparison path.
pub trait Trainable {
    /// Take one step, numbered from 1, with the settings the model was created with.
    ///
    /// Returns the loss before the step, and the norm of the gradient where it is known.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when the loss is no longer finite.
    fn learn(&mut self, batch: &mut Batch, step: u64) -> Result<(Loss, Option<f64>)>;

    /// Compute the loss on held-out text, without gradients.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when arithmetic fails.
    fn loss(&mut self, batch: &Batch) -> Result<Loss>;

    /// Return all parameters and their moments, in the same order.
    fn state(&mut self) -> (Vec<&mut Parameter<f32>>, &mut [Moments<f32>]);

    /// Return the rows that this rank holds of a model that no rank holds whole. All ranks then call [`Self::loss`] and
    /// [`Self::save`] together, and [`Self::state`] has the other parameters. `None` where every rank holds all.
    fn held(&mut self) -> Option<HeldRows<'_>> {
        None
    }

    /// Number of trained parameters on all ranks.
    fn parameters(&mut self) -> usize {
        let (parameters, _) = self.state();
        parameters.iter().map(|one| one.value.len()).sum()
    }

    /// Return further numbers that a checkpoint stores, by name.
    fn buffers(&mut self) -> Vec<(String, &mut Vec<f32>)> {
        Vec::new()
    }

    /// Return what a checkpoint stores besides parameters and moments.
    ///
    /// # Errors
    /// Those of a hook.
    fn notes(&self) -> Result<Value> {
        Ok(Value::Null)
    }

    /// Resume from the parameters that a checkpoint has put into [`Self::state`], and from its notes.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when the notes belong to another model.
    fn restore(&mut self, notes: &Value) -> Result<()> {
        let _ = notes;
        Ok(())
    }

    /// Train on a device from now on; unless `forced`, training continues on the processor when it fails.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where a model cannot train on a device; [`ErrorKind::Resource`] when it does not fit.
    #[cfg(feature = "gpu")]
    fn use_device(&mut self, device: &crate::kernel::gpu::Device, forced: bool) -> Result<()> {
        let _ = (device, forced);
        Err(Error::new(
            ErrorKind::Unsupported,
            "transformers and recurrent networks train on the CPU only",
        )
        .advice("use --backend cpu or auto"))
    }

    /// Whether a device failed and the processor may take over.
    #[cfg(feature = "gpu")]
    fn device_failed(&self) -> bool {
        false
    }

    /// Leave the device; parameters and moments are those of the start of the run.
    #[cfg(feature = "gpu")]
    fn leave_device(&mut self) {}

    /// Copy the parameters and moments from the device, so that [`Self::state`] holds them.
    ///
    /// # Errors
    /// Those of the device.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Collect on rank 0 what is spread over ranks, so that [`Self::state`] and [`Self::buffers`] hold it; all ranks call
    /// this together.
    ///
    /// # Errors
    /// Those of an exchange.
    fn collect(&mut self) -> Result<()> {
        Ok(())
    }

    /// Write the model; `training` is the record of its training.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when a parameter is not finite; [`ErrorKind::Io`] or [`ErrorKind::Resource`].
    fn save(&mut self, path: &Path, training: Value) -> Result<()>;

    /// Return the name of the file or folder that a model of the given stem is saved to, `best.bril` for example.
    fn file(&self, stem: &str) -> String;

    /// Describe its size in a few words.
    fn about(&self) -> String;

    /// Number of targets of a prediction, `V`.
    fn candidates(&self) -> usize;

    /// Whether the result is the model of least validation loss; else it is the last one.
    fn keeps_best(&self) -> bool {
        true
    }
}
