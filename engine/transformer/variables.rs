//! Weights under training: variables for the way forward and back, parameters for the optimiser and checkpoints.

use candle_core::{Device, Tensor, Var};

use crate::learn::adamw::{AdamMode, AdamW, Moments, gradient_norm};
use crate::learn::parameter::Parameter;
use crate::transformer::Weights;
use crate::transformer::operation::look;
use crate::{Error, ErrorKind, Result};

/// One weight as it is before training, or as it is stored.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// Weights that learn.
pub(super) struct Variables {
    shapes: Vec<Vec<usize>>,
    variables: Vec<Var>,
    pub(super) parameters: Vec<Parameter<f32>>,
    pub(super) moments: Vec<Moments<f32>>,
}

impl Variables {
    /// Variables of weights, and the tensors by name that a network is built on: they move with training.
    /// Weight decay applies to matrices, not to biases and norms.
    pub(super) fn new(
        weights: impl IntoIterator<Item = Weight>,
    ) -> Result<(Self, Vec<(String, Tensor)>)> {
        let mut own = Self {
            shapes: Vec::new(),
            variables: Vec::new(),
            parameters: Vec::new(),
            moments: Vec::new(),
        };
        let mut named = Vec::new();
        for weight in weights {
            let shape = weight.shape.as_slice();
            let variable = Var::from_slice(&weight.values, shape, &Device::Cpu)?;
            named.push((weight.name.clone(), variable.as_tensor().clone()));
            let columns = shape.last().copied().unwrap_or(1);
            let rows = weight.values.len() / columns.max(1);
            own.moments.push(Moments {
                first: vec![0.0; weight.values.len()],
                second: vec![0.0; weight.values.len()],
            });
            let mut left = weight.values.iter();
            let mut parameter = Parameter::new(weight.name.clone(), [rows, columns], || {
                f64::from(left.next().copied().unwrap_or(0.0))
            });
            parameter.decays = shape.len() == 2;
            own.parameters.push(parameter);
            own.variables.push(variable);
            own.shapes.push(weight.shape);
        }
        Ok((own, named))
    }

    /// The gradients of the mean of `losses`.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] naming a weight that the loss does not reach: an operation without a way back.
    pub(super) fn gather(&mut self, losses: &Tensor) -> Result<()> {
        let gradients = losses.mean_all()?.backward()?;
        for (variable, parameter) in self.variables.iter().zip(&mut self.parameters) {
            let gradient = gradients.get(variable.as_tensor()).ok_or_else(|| {
                Error::new(ErrorKind::Numeric, "the loss does not reach this weight")
                    .at(&parameter.name)
            })?;
            look(gradient, |values| {
                parameter.gradient.copy_from_slice(values)
            })?;
        }
        Ok(())
    }

    /// Moves all weights by the gradients gathered, cut to the norm `clip` (0: never). Returns their norm before.
    pub(super) fn step(&mut self, mut adam: AdamW, clip: f64, step: u64, rate: f64) -> Result<f64> {
        let mut parameters: Vec<&mut Parameter<f32>> = self.parameters.iter_mut().collect();
        let norm = gradient_norm(&parameters);
        let scale = match clip > 0.0 && norm > clip {
            true => clip / norm,
            false => 1.0,
        };
        adam.mode = AdamMode::Dense;
        for (parameter, moments) in parameters.iter_mut().zip(&mut self.moments) {
            adam.step(parameter, moments, step, rate, scale);
        }
        self.publish()?;
        Ok(norm)
    }

    /// Puts the master weights into the network.
    pub(super) fn publish(&self) -> Result<()> {
        for ((variable, parameter), shape) in self
            .variables
            .iter()
            .zip(&self.parameters)
            .zip(&self.shapes)
        {
            variable.set(&Tensor::from_slice(
                &parameter.value,
                shape.as_slice(),
                &Device::Cpu,
            )?)?;
        }
        Ok(())
    }

    /// The weights as they are now, to be stored.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] naming a weight that is not finite.
    pub(super) fn stored(&self) -> Result<Vec<Weight>> {
        self.parameters
            .iter()
            .zip(&self.shapes)
            .map(|(parameter, shape)| {
                if let Some(place) = parameter.value.iter().position(|value| !value.is_finite()) {
                    return Err(Error::new(
                        ErrorKind::Numeric,
                        format!("value {place} is not finite"),
                    )
                    .at(&parameter.name)
                    .advice("training diverged: use a lower rate"));
                }
                Ok(Weight {
                    name: parameter.name.to_string(),
                    shape: shape.clone(),
                    values: parameter.value.clone(),
                })
            })
            .collect()
    }
}

impl Weights {
    /// Copies of all weights, by name.
    pub(super) fn copies(&self) -> Result<Vec<Weight>> {
        self.iter()
            .map(|(name, tensor)| {
                Ok(Weight {
                    name: name.to_string(),
                    shape: tensor.dims().to_vec(),
                    values: look(tensor, <[f32]>::to_vec)?,
                })
            })
            .collect()
    }
}
