//! A recurrent network of LSTM layers (Hochreiter and Schmidhuber 1997, with forget gates): a baseline whose state,
//! like the graph's, does not grow with the text.
//!
//! ```text
//! i, f, o = σ(…), g = tanh(…) of W x + U h + b
//! c ← f c + i g
//! h ← o tanh(c)
//! ```

use candle_core::{Device, Shape, Tensor};

use crate::Result;
use crate::transformer::Configuration;
use crate::transformer::batch::{Dropout, TokenBatch};
use crate::transformer::matrix::{self, Matrix};
use crate::transformer::operation::{Operation, apply2, to_vec};
use crate::transformer::weights::{Linear, Weights};

/// A network of LSTM layers with its weights.
#[derive(Clone, Debug)]
pub struct Recurrent {
    pub(super) shape: Configuration,
    tokens: Tensor,
    layers: Vec<Layer>,
    head: Linear,
}

#[derive(Clone, Debug)]
struct Layer {
    /// W and b. `[D]` → `[4D]`
    input: Linear,
    /// U. `[4D, D]`
    recurrent: Tensor,
}

/// State of one text: h and c of each layer. `[L][2][D]`
#[derive(Clone, Debug, PartialEq)]
pub struct RecurrentState {
    layers: Vec<(Vec<f32>, Vec<f32>)>,
}

impl RecurrentState {
    /// Return the size in bytes.
    pub fn bytes(&self) -> usize {
        let layers = self.layers.iter();
        layers.map(|(h, c)| (h.len() + c.len()) * 4).sum()
    }
}

impl Recurrent {
    /// Build the network of a configuration from its weights.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Format`] naming a tensor that is missing or has another shape.
    pub fn new(shape: Configuration, weights: &Weights) -> Result<Self> {
        let d = shape.width;
        let tokens = weights.get("embedding.weight", &[shape.vocabulary, d])?;
        let layer = |layer: usize| {
            let recurrent = format!("layers.{layer}.recurrent.weight");
            Ok(Layer {
                input: Linear::read(weights, &format!("layers.{layer}.input"), d, 4 * d)?,
                recurrent: weights.get(&recurrent, &[4 * d, d])?,
            })
        };
        let layers = (0..shape.layers).map(layer).collect::<Result<_>>()?;
        let head = if shape.tied {
            let bias = weights.get("head.bias", &[shape.vocabulary])?;
            Linear::new(Matrix::Tensor(tokens.clone()), Some(bias))
        } else {
            Linear::read(weights, "head", d, shape.vocabulary)?
        };
        Ok(Self {
            shape,
            tokens,
            layers,
            head,
        })
    }

    /// Create the state before the first token, all zeros.
    pub fn initial_state(&self) -> RecurrentState {
        let zeros = || vec![0.0; self.shape.width];
        RecurrentState {
            layers: self.layers.iter().map(|_| (zeros(), zeros())).collect(),
        }
    }

    /// Return the number of parameters; a tied matrix counts once.
    pub fn parameters(&self) -> usize {
        let layers = self.layers.iter();
        let shared = if self.shape.tied {
            self.tokens.elem_count()
        } else {
            0
        };
        self.tokens.elem_count()
            + layers
                .map(|layer| layer.input.count() + layer.recurrent.elem_count())
                .sum::<usize>()
            + self.head.count()
            - shared
    }

    /// Return the bytes of weights that decoding one token reads.
    pub fn bytes_per_token(&self) -> usize {
        // A tied embedding is read whole, as the output matrix.
        let unread = if self.shape.tied {
            0
        } else {
            self.tokens.elem_count() - self.shape.width
        };
        (self.parameters() - unread) * 4
    }

    fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        crate::measure::check_ids(tokens, self.shape.vocabulary)?;
        matrix::rows(&self.tokens, tokens)
    }

    /// Add one token to the state and compute the logits of the next. `[V]`
    ///
    /// # Errors
    /// [`crate::ErrorKind::Input`] for a token outside the vocabulary.
    pub fn step(&self, state: &mut RecurrentState, token: u32) -> Result<Vec<f32>> {
        let mut x = self.embed(&[token])?;
        let d = self.shape.width;
        for (layer, (h, c)) in self.layers.iter().zip(&mut state.layers) {
            let before = Tensor::from_slice(h, (1, d), &Device::Cpu)?;
            // W x + b + U h.
            let gates = (layer.input.forward(&x)? + before.matmul(&layer.recurrent.t()?)?)?;
            cell(&mut to_vec(&gates)?, c, h);
            x = Tensor::from_slice(h, (1, d), &Device::Cpu)?;
        }
        Ok(to_vec(&self.head.forward(&x)?)?)
    }

    /// Compute the rows after the last layer for every position; each sequence begins with a zero state. `[B · T, D]`
    ///
    /// # Errors
    /// As [`crate::transformer::Network::forward`].
    pub fn forward(&self, batch: &TokenBatch, dropout: Option<Dropout>) -> Result<Tensor> {
        let drop = |x: Tensor, site: u64| match &dropout {
            Some(dropout) => dropout.apply(x, site),
            None => Ok(x),
        };
        let mut x = drop(self.embed(&batch.tokens)?, 0)?;
        for (layer, site) in self.layers.iter().zip(1..) {
            // W x + b of all positions is one product; only U h is sequential.
            let lstm = Lstm {
                sequences: batch.sequences(),
                length: batch.length,
                width: self.shape.width,
            };
            let inputs = layer.input.forward(&x)?;
            x = drop(apply2(&inputs, &layer.recurrent, lstm)?, site)?;
        }
        Ok(x)
    }

    /// Compute the logits of all V tokens. `[N, D]` → `[N, V]`
    ///
    /// # Errors
    /// [`crate::ErrorKind::Numeric`] when tensor arithmetic fails.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        self.head.forward(x)
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Compute one step of one cell: activate the gates `[4D]` (i, f, g, o) in place and update c and h `[D]`.
fn cell(gates: &mut [f32], c: &mut [f32], h: &mut [f32]) {
    let d = c.len();
    for k in 0..d {
        let (i, f) = (sigmoid(gates[k]), sigmoid(gates[d + k]));
        let (g, o) = (gates[2 * d + k].tanh(), sigmoid(gates[3 * d + k]));
        c[k] = f * c[k] + i * g;
        h[k] = o * c[k].tanh();
        (gates[k], gates[d + k], gates[2 * d + k], gates[3 * d + k]) = (i, f, g, o);
    }
}

/// LSTM over whole sequences: `[W x + b, U]`, `[B · T, 4D]` and `[4D, D]` → h `[B · T, D]`.
///
/// One operation instead of some ten for each step keeps candle's graph small; the gradients are those of
/// backpropagation through time.
struct Lstm {
    sequences: usize,
    length: usize,
    width: usize,
}

/// States and activated gates of all positions.
struct Trace {
    h: Vec<f32>,
    c: Vec<f32>,
    gates: Vec<f32>,
}

impl Lstm {
    fn matrix(&self, recurrent: &[f32]) -> candle_core::Result<Tensor> {
        Tensor::from_slice(recurrent, (4 * self.width, self.width), &Device::Cpu)
    }

    fn run(&self, inputs: &[f32], recurrent: &Tensor) -> candle_core::Result<Trace> {
        let (b, t, d) = (self.sequences, self.length, self.width);
        let transposed = recurrent.t()?;
        let (mut h, mut c) = (vec![0.0f32; b * d], vec![0.0f32; b * d]);
        let mut trace = Trace {
            h: vec![0.0; b * t * d],
            c: vec![0.0; b * t * d],
            gates: vec![0.0; b * t * 4 * d],
        };
        for step in 0..t {
            // U h of all sequences is one product; the rest is element-wise.
            let state = Tensor::from_slice(&h, (b, d), &Device::Cpu)?;
            let products = to_vec(&state.matmul(&transposed)?)?;
            for (sequence, products) in products.chunks_exact(4 * d).enumerate() {
                let row = sequence * t + step;
                let gates = &mut trace.gates[row * 4 * d..(row + 1) * 4 * d];
                let inputs = &inputs[row * 4 * d..(row + 1) * 4 * d];
                for (gate, (input, product)) in gates.iter_mut().zip(inputs.iter().zip(products)) {
                    *gate = input + product;
                }
                let span = sequence * d..(sequence + 1) * d;
                cell(gates, &mut c[span.clone()], &mut h[span.clone()]);
                trace.h[row * d..(row + 1) * d].copy_from_slice(&h[span.clone()]);
                trace.c[row * d..(row + 1) * d].copy_from_slice(&c[span]);
            }
        }
        Ok(trace)
    }

    /// Compute the gradients of one position's gates before their activation. `to_gates [4D]`
    ///
    /// `to_h` and `to_c` are the gradients of the states after the position; `to_c` becomes that of the state before it.
    fn cell_backward(
        &self,
        trace: &Trace,
        row: usize,
        to_h: impl Fn(usize) -> f32,
        to_c: &mut [f32],
        to_gates: &mut [f32],
    ) {
        let d = self.width;
        let first = row % self.length == 0;
        let gates = &trace.gates[row * 4 * d..(row + 1) * 4 * d];
        for k in 0..d {
            let (i, f, g, o) = (gates[k], gates[d + k], gates[2 * d + k], gates[3 * d + k]);
            let tanh = trace.c[row * d + k].tanh();
            let before = if first {
                0.0
            } else {
                trace.c[(row - 1) * d + k]
            };
            // h = o tanh(c) and c = f c' + i g, backwards.
            let dh = to_h(k);
            let dc = dh * o * (1.0 - tanh * tanh) + to_c[k];
            to_c[k] = dc * f;
            // σ' = σ (1 − σ), tanh' = 1 − tanh².
            to_gates[k] = dc * g * i * (1.0 - i);
            to_gates[d + k] = dc * before * f * (1.0 - f);
            to_gates[2 * d + k] = dc * i * (1.0 - g * g);
            to_gates[3 * d + k] = dh * tanh * o * (1.0 - o);
        }
    }
}

impl Operation<2> for Lstm {
    const NAME: &'static str = "lstm";

    fn forward(&self, [inputs, recurrent]: [&[f32]; 2]) -> candle_core::Result<Vec<f32>> {
        Ok(self.run(inputs, &self.matrix(recurrent)?)?.h)
    }

    fn backward(
        &self,
        [inputs, recurrent]: [&[f32]; 2],
        gradient: &[f32],
    ) -> candle_core::Result<[Vec<f32>; 2]> {
        let (b, t, d) = (self.sequences, self.length, self.width);
        let recurrent = self.matrix(recurrent)?;
        // candle keeps no intermediate values of an operation: states and gates are computed again.
        let trace = self.run(inputs, &recurrent)?;
        let mut to_inputs = vec![0.0f32; b * t * 4 * d];
        // Gradients of the states after the last step: only its output depends on them.
        let (mut to_h, mut to_c) = (vec![0.0f32; b * d], vec![0.0f32; b * d]);
        for step in (0..t).rev() {
            // Gradients of h reach a step from its output and from the next step's gates, through U.
            let mut to_gates = vec![0.0f32; b * 4 * d];
            for (sequence, to_gates) in to_gates.chunks_exact_mut(4 * d).enumerate() {
                let row = sequence * t + step;
                self.cell_backward(
                    &trace,
                    row,
                    |k| gradient[row * d + k] + to_h[sequence * d + k],
                    &mut to_c[sequence * d..(sequence + 1) * d],
                    to_gates,
                );
                to_inputs[row * 4 * d..(row + 1) * 4 * d].copy_from_slice(to_gates);
            }
            let to_gates = Tensor::from_vec(to_gates, (b, 4 * d), &Device::Cpu)?;
            // ∂L/∂h of the step before: the gates' gradients through U.
            to_h = to_vec(&to_gates.matmul(&recurrent)?)?;
        }
        // U multiplied the h of the position before: h shifted by one within each sequence, zero at first.
        let mut before = vec![0.0f32; b * t * d];
        for (before, h) in before
            .chunks_exact_mut(t * d)
            .zip(trace.h.chunks_exact(t * d))
        {
            before[d..].copy_from_slice(&h[..(t - 1) * d]);
        }
        let gates = Tensor::from_slice(&to_inputs, (b * t, 4 * d), &Device::Cpu)?;
        let before = Tensor::from_vec(before, (b * t, d), &Device::Cpu)?;
        // ∂L/∂U = Σ gates' gradients ⊗ h of the step before, as one product.
        let to_recurrent = to_vec(&gates.t()?.matmul(&before)?)?;
        Ok([to_inputs, to_recurrent])
    }

    fn shape(&self, _: [&Shape; 2]) -> Shape {
        (self.sequences * self.length, self.width).into()
    }
}
