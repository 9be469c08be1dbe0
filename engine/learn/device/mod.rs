//! Training on a device, with the batches, formulas and updates of training on the CPU.
//!
//! The host knows the tokens, so it makes the schedule of a batch: which rows are at which node, which edges are
//! scored. The device does all arithmetic, from the dropout masks to the optimiser; a step returns the loss of every
//! row and the norm of the gradient. Parameters are read back when a model or a checkpoint is saved.

mod blocks;
mod composed;
mod composed_schedule;
mod edge_weights;
mod layered;
mod layered_schedule;
mod lists;
mod matrix;
mod optimiser;
mod own;
mod own_gradients;
mod product;
mod readout;
mod schedule;
mod stage;

use blocks::Blocks;
use composed::DeviceComposed;
use edge_weights::EdgeWeights;
use layered::DeviceLayered;
use own::DeviceOwn;
use stage::Stage;

use crate::graph::TokenGraph;
use crate::kernel::gpu::Device;
use crate::learn::adamw::AdamMode;
use crate::learn::batch::Batch;
use crate::learn::batch::Loss;
use crate::learn::edge_trainer::{EdgeTrainer, finite};
use crate::learn::prior::Prior;
use crate::learn::recipe::Train;
use crate::signal::{EdgeForm, Profile};
use crate::{Error, ErrorKind, Result};

/// Name of the shared edge among the blocks; own edges have their own buffers.
const SHARED_EDGE: &str = "edge.shared";

/// Trains edges on a device, which holds their parameters and moments.
pub struct DeviceTrainer {
    form: Form,
}

enum Form {
    Composed(Box<DeviceComposed>),
    Own(Box<DeviceOwn>),
    Layered(Box<DeviceLayered>),
}

impl std::fmt::Debug for DeviceTrainer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "DeviceTrainer({:?})", self.stage().device)
    }
}

impl DeviceTrainer {
    /// Upload parameters and moments.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when it does not fit;
    /// [`ErrorKind::Unsupported`] for own edges with walks longer than an edge or with averaged weights.
    pub fn new(
        device: &Device,
        profile: &Profile,
        graph: &TokenGraph,
        prior: &Prior<f32>,
        edge_trainer: &mut EdgeTrainer,
        train: &Train,
        seed: u64,
    ) -> Result<Self> {
        let (d, own) = (profile.width, profile.form == EdgeForm::Own);
        if own && prior.order() > 2 {
            let what = "own edges with walks longer than an edge train on the CPU only";
            return Err(Error::new(ErrorKind::Unsupported, what)
                .advice("use --backend cpu, or graph.order = 2"));
        }
        if own && train.average > 0.0 {
            let what = "averaged weights of own edges are computed on the CPU only";
            return Err(Error::new(ErrorKind::Unsupported, what)
                .advice("use --backend cpu or auto, or train.average = 0"));
        }
        let shapes: Vec<_> = edge_trainer
            .parameters()
            .iter()
            .map(|parameter| match &*parameter.name {
                "edge.arena" => (SHARED_EDGE.into(), [1, d * d + d], parameter.decays),
                _ => (parameter.name.clone(), parameter.shape, parameter.decays),
            })
            .collect();
        let blocks = Blocks::new(device, d, &shapes, train.average > 0.0)?;
        let stage = Stage::new(device, profile, graph, prior, blocks)?;
        let dropout = train.dropout;
        let form = match profile.form {
            EdgeForm::Own => {
                let dense = train.optimiser == AdamMode::Dense;
                Form::Own(Box::new(DeviceOwn {
                    edge_weights: EdgeWeights::new(device, d, graph, dense)?,
                    stage,
                    dropout,
                    seed,
                }))
            }
            EdgeForm::Composed => {
                let composed = DeviceComposed::new(stage, dropout, seed, graph);
                Form::Composed(Box::new(composed))
            }
            EdgeForm::Layered => {
                let layered = DeviceLayered::new(stage, train.rates(), seed)?;
                Form::Layered(Box::new(layered))
            }
        };
        let mut device = Self { form };
        device.upload(edge_trainer)?;
        Ok(device)
    }

    fn stage(&self) -> &Stage {
        match &self.form {
            Form::Composed(edge_trainer) => &edge_trainer.stage,
            Form::Own(edge_trainer) => &edge_trainer.stage,
            Form::Layered(edge_trainer) => &edge_trainer.stage,
        }
    }

    /// Parts in which the last batch was computed, because it did not fit as a whole: of its sequences, or of the nodes whose own
    /// edges are scored.
    pub fn parts(&self) -> usize {
        self.stage().parts
    }

    fn stage_mut(&mut self) -> &mut Stage {
        match &mut self.form {
            Form::Composed(edge_trainer) => &mut edge_trainer.stage,
            Form::Own(edge_trainer) => &mut edge_trainer.stage,
            Form::Layered(edge_trainer) => &mut edge_trainer.stage,
        }
    }

    /// Write parameters, moments, averages and the state that sequences continue from to the device.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when the state does not fit.
    pub fn upload(&mut self, edge_trainer: &mut EdgeTrainer) -> Result<()> {
        let blocks = &self.stage().blocks;
        let numbers: Vec<_> = edge_trainer
            .parameters()
            .iter()
            .map(|parameter| parameter.value.clone())
            .collect();
        for ((block, value), moments) in
            blocks.list.iter().zip(&numbers).zip(edge_trainer.moments())
        {
            let count = if block.name == SHARED_EDGE {
                let d = self.stage().profile.width;
                d * d + d
            } else {
                value.len()
            };
            blocks.write(block, &blocks.values, &value[..count]);
            blocks.write(block, &blocks.first, &moments.first[..count]);
            blocks.write(block, &blocks.second, &moments.second[..count]);
        }
        // The block of own edges holds the shared edge alone; the others are in buffers by fan.
        if let Form::Own(own) = &self.form {
            let moments = &edge_trainer.moments()[0];
            own.edge_weights
                .upload(&numbers[0], &moments.first, &moments.second);
        }
        let averages = edge_trainer.averages();
        let averaged = averages.iter().any(|average| !average.is_empty());
        if let Some(buffer) = blocks.averages.as_ref().filter(|_| averaged) {
            for (block, average) in blocks.list.iter().zip(averages) {
                blocks.write(block, buffer, average);
            }
            self.stage_mut().averaged = true;
        }
        if let (Form::Layered(layered), Some(state)) = (&mut self.form, edge_trainer.carried()) {
            layered.write_state(state)?;
        }
        Ok(())
    }

    /// Read parameters, moments, averages and the state that sequences continue from back.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when the device is lost.
    pub fn download(&self, edge_trainer: &mut EdgeTrainer) -> Result<()> {
        let blocks = &self.stage().blocks;
        for (index, block) in blocks.list.iter().enumerate() {
            let value = blocks.read(block, &blocks.values)?;
            let first = blocks.read(block, &blocks.first)?;
            let second = blocks.read(block, &blocks.second)?;
            edge_trainer.parameters()[index].value[..value.len()].copy_from_slice(&value);
            let moments = &mut edge_trainer.moments()[index];
            moments.first[..first.len()].copy_from_slice(&first);
            moments.second[..second.len()].copy_from_slice(&second);
        }
        if let Form::Own(own) = &self.form {
            // Taken out, so that values and moments can be borrowed at once.
            let mut value = std::mem::take(&mut edge_trainer.parameters()[0].value);
            let moments = &mut edge_trainer.moments()[0];
            let outcome =
                own.edge_weights
                    .download(&mut value, &mut moments.first, &mut moments.second);
            edge_trainer.parameters()[0].value = value;
            outcome?;
        }
        if let Some(buffer) = blocks.averages.as_ref().filter(|_| self.stage().averaged) {
            let averages = blocks.list.iter().map(|block| blocks.read(block, buffer));
            *edge_trainer.averages() = averages.collect::<Result<_>>()?;
        }
        if let (Form::Layered(layered), Some(state)) = (&self.form, edge_trainer.carried()) {
            *state = layered.read_state()?;
        }
        Ok(())
    }

    /// Compute the loss of a batch.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when the batch does not fit or the device is lost.
    pub fn loss(&mut self, graph: &TokenGraph, batch: &Batch) -> Result<Loss> {
        let (_, rows) = self.run(graph, batch, None)?;
        Ok(total(&rows))
    }

    /// Take one step, numbered from 1. Returns the loss before it, and the norm of the gradient if it was computed.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when the loss is not finite; parameters are unchanged
    /// then. [`ErrorKind::Resource`] as for [`Self::loss`].
    pub fn learn(
        &mut self,
        graph: &TokenGraph,
        batch: &Batch,
        train: &Train,
        step: u64,
    ) -> Result<(Loss, Option<f64>)> {
        let (result, rows) = self.run(graph, batch, Some((train, step)))?;
        let loss = finite(total(&rows), step)?;
        // Without clipping, touched mode needs no norm, and own edges' part of it is not computed.
        let touched = train.optimiser == AdamMode::Touched;
        let skips = touched && train.clip <= 0.0 && matches!(self.form, Form::Own(_));
        Ok((loss, (!skips).then(|| f64::from(result[2]))))
    }

    fn run(
        &mut self,
        graph: &TokenGraph,
        batch: &Batch,
        learn: Option<(&Train, u64)>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        match &mut self.form {
            Form::Composed(edge_trainer) => edge_trainer.run(graph, batch, learn),
            Form::Own(edge_trainer) => edge_trainer.run(graph, batch, learn),
            Form::Layered(edge_trainer) => edge_trainer.run(batch, learn),
        }
    }
}

/// Sum the nats of the rows.
fn total(rows: &[f32]) -> Loss {
    Loss {
        nats: rows.chunks_exact(4).map(|row| f64::from(row[3])).sum(),
        tokens: rows.len() / 4,
    }
}
