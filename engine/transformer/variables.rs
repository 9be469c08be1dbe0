//! Weights in training: variables of candle for the forward and backward pass, parameters for the optimiser and
//! checkpoints.

use candle_core::{Device, Tensor, Var};

use crate::learn::adamw::{AdamMode, AdamW, Moments, gradient_norm};
use crate::learn::parameter::Parameter;
use crate::transformer::Weights;
use crate::transformer::operation::{to_vec, with_values};
use crate::{Error, ErrorKind, Result};

/// Name, shape and values of one weight, as it is stored.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// Weights in training.
pub(super) struct Variables {
    shapes: Vec<Vec<usize>>,
    variables: Vec<Var>,
    pub(super) parameters: Vec<Parameter<f32>>,
    pub(super) moments: Vec<Moments<f32>>,
}

impl Variables {
    /// Create variables, and the named tensors that a network is built from: they change with the variables.
    ///
    /// Weight decay applies to matrices, not to biases and norms.
    pub(super) fn new(
        weights: impl IntoIterator<Item = Weight>,
    ) -> Result<(Self, Vec<(String, Tensor)>)> {
        let mut variables = Self {
            shapes: Vec::new(),
            variables: Vec::new(),
            parameters: Vec::new(),
            moments: Vec::new(),
        };
        let mut named = Vec::new();
        for weight in weights {
            let shape = weight.shape.as_slice();
            let variable = Var::from_slice(&weight.values, shape, &Device::Cpu)?;
            // Shares the variable's storage, so that updates reach the network.
            named.push((weight.name.clone(), variable.as_tensor().clone()));
            // The optimiser works on rows and columns: leading axes are rows.
            let columns = shape.last().copied().unwrap_or(1);
            let rows = weight.values.len() / columns.max(1);
            variables.moments.push(Moments {
                first: vec![0.0; weight.values.len()],
                second: vec![0.0; weight.values.len()],
            });
            let mut values = weight.values.iter();
            let mut parameter = Parameter::new(weight.name.clone(), [rows, columns], || {
                f64::from(values.next().copied().unwrap_or(0.0))
            });
            parameter.decays = shape.len() == 2;
            variables.parameters.push(parameter);
            variables.variables.push(variable);
            variables.shapes.push(weight.shape);
        }
        Ok((variables, named))
    }

    /// Compute the gradients of the mean of `losses` and store them in the parameters.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] naming a weight without a gradient: an operation before it has no backward pass.
    pub(super) fn backward(&mut self, losses: &Tensor) -> Result<()> {
        // Gradients are of the mean, so that rates do not depend on the batch size.
        let gradients = losses.mean_all()?.backward()?;
        for (variable, parameter) in self.variables.iter().zip(&mut self.parameters) {
            let gradient = gradients.get(variable.as_tensor()).ok_or_else(|| {
                Error::new(ErrorKind::Numeric, "the weight has no gradient").at(&parameter.name)
            })?;
            with_values([gradient], |[values]| {
                parameter.gradient.copy_from_slice(values)
            })?;
        }
        Ok(())
    }

    /// Update all weights by their gradients, scaled to at most the norm `clip` (0: never). Returns the norm before.
    pub(super) fn step(&mut self, mut adam: AdamW, clip: f64, step: u64, rate: f64) -> Result<f64> {
        let mut parameters: Vec<&mut Parameter<f32>> = self.parameters.iter_mut().collect();
        let norm = gradient_norm(&parameters);
        // Clipping by the global norm keeps the direction of the gradient.
        let scale = if clip > 0.0 && norm > clip {
            clip / norm
        } else {
            1.0
        };
        // candle gives gradients of whole tensors: every row counts as touched.
        adam.mode = AdamMode::Dense;
        for (parameter, moments) in parameters.iter_mut().zip(&mut self.moments) {
            adam.step(parameter, moments, step, rate, scale);
        }
        self.publish()?;
        Ok(norm)
    }

    /// Copy the parameters into the network's variables.
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

    /// Copy the weights for saving.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] naming a weight that is not finite.
    pub(super) fn stored(&self) -> Result<Vec<Weight>> {
        self.parameters
            .iter()
            .zip(&self.shapes)
            .map(|(parameter, shape)| {
                if let Some(index) = parameter.value.iter().position(|value| !value.is_finite()) {
                    return Err(Error::new(
                        ErrorKind::Numeric,
                        format!("value {index} is not finite"),
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
    /// Copy the values of all weights, in the order of their names.
    pub(super) fn copies(&self) -> Result<Vec<Weight>> {
        self.iter()
            .map(|(name, tensor)| {
                Ok(Weight {
                    name: name.to_string(),
                    shape: tensor.dims().to_vec(),
                    values: to_vec(tensor)?,
                })
            })
            .collect()
    }
}
