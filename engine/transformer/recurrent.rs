//! A recurrent net of LSTM layers (Hochreiter and Schmidhuber 1997, with forget gates): a rival whose state,
//! like the graph's, does not grow with the text.
//!
//! `i, f, o = σ(…)`, `g = tanh(…)` of `W x + U h + b`; `c ← f c + i g`, `h ← o tanh(c)`.

use candle_core::{CpuStorage, CustomOp2, Device, Layout, Shape, Tensor};

use crate::Result;
use crate::transformer::Configuration;
use crate::transformer::batch::{Dropout, TokenBatch};
use crate::transformer::operation::look;
use crate::transformer::weights::{Linear, Weights};

/// A net of LSTM layers with its weights.
#[derive(Clone, Debug)]
pub struct Recurrent {
    pub(super) shape: Configuration,
    tokens: Tensor,
    layers: Vec<Layer>,
    head: Linear,
}

#[derive(Clone, Debug)]
struct Layer {
    /// `W` and `b`: `[D]` → `[4D]`.
    input: Linear,
    /// `U`. `[4D, D]`
    recurrent: Tensor,
}

/// The state of one flow: for each layer, h and c. `[L][2][D]`
#[derive(Clone, Debug, PartialEq)]
pub struct RecurrentState {
    layers: Vec<(Vec<f32>, Vec<f32>)>,
}

impl RecurrentState {
    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.layers
            .iter()
            .map(|(h, c)| (h.len() + c.len()) * 4)
            .sum()
    }
}

impl Recurrent {
    /// Builds the net of a configuration from its weights.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Format`] naming a tensor that is missing or of another shape.
    pub fn new(shape: Configuration, weights: &Weights) -> Result<Self> {
        let d = shape.width;
        let tokens = weights.need("embedding.weight", &[shape.vocabulary, d])?;
        let layers = (0..shape.layers)
            .map(|layer| {
                Ok(Layer {
                    input: Linear::read(weights, &format!("layers.{layer}.input"), d, 4 * d)?,
                    recurrent: weights
                        .need(&format!("layers.{layer}.recurrent.weight"), &[4 * d, d])?,
                })
            })
            .collect::<Result<_>>()?;
        let head = match shape.tied {
            true => Linear::of(
                tokens.t()?,
                Some(weights.need("head.bias", &[shape.vocabulary])?),
            ),
            false => Linear::read(weights, "head", d, shape.vocabulary)?,
        };
        Ok(Self {
            shape,
            tokens,
            layers,
            head,
        })
    }

    /// An empty state.
    pub fn memory(&self) -> RecurrentState {
        let zeros = || vec![0.0; self.shape.width];
        RecurrentState {
            layers: self.layers.iter().map(|_| (zeros(), zeros())).collect(),
        }
    }

    /// Numbers in the weights.
    pub fn parameters(&self) -> usize {
        let head = match self.shape.tied {
            true => self.shape.vocabulary,
            false => self.head.count(),
        };
        let layers: usize = self
            .layers
            .iter()
            .map(|layer| layer.input.count() + layer.recurrent.elem_count())
            .sum();
        self.tokens.elem_count() + layers + head
    }

    /// Bytes of weights that one decoded token reads.
    pub fn bytes_per_token(&self) -> usize {
        let unread = match self.shape.tied {
            true => 0,
            false => self.tokens.elem_count() - self.shape.width,
        };
        (self.parameters() - unread) * 4
    }

    fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        crate::measure::check_ids(tokens, self.shape.vocabulary)?;
        let ids = Tensor::from_slice(tokens, tokens.len(), &Device::Cpu)?;
        Ok(self.tokens.index_select(&ids, 0)?)
    }

    /// Takes one token and scores what may follow. `[V]`
    ///
    /// # Errors
    /// [`crate::ErrorKind::Input`] for a token outside the vocabulary.
    pub fn step(&self, memory: &mut RecurrentState, token: u32) -> Result<Vec<f32>> {
        let mut x = self.embed(&[token])?;
        let d = self.shape.width;
        for (layer, (h, c)) in self.layers.iter().zip(&mut memory.layers) {
            let state = Tensor::from_slice(h, (1, d), &Device::Cpu)?;
            let gates = (layer.input.apply(&x)? + state.matmul(&layer.recurrent.t()?)?)?;
            let mut gates = look(&gates, <[f32]>::to_vec)?;
            cell(&mut gates, c, h);
            x = Tensor::from_slice(h, (1, d), &Device::Cpu)?;
        }
        Ok(look(&self.head.apply(&x)?, <[f32]>::to_vec)?)
    }

    /// Rows after the last layer, for every position; each sequence begins with an empty state. `[B · T, D]`
    ///
    /// # Errors
    /// As [`crate::transformer::Network::forward`].
    pub fn forward(&self, input: &TokenBatch, dropout: Option<Dropout>) -> Result<Tensor> {
        let change = |x: Tensor, place: u64| match &dropout {
            Some(dropout) => dropout.apply(x, place),
            None => Ok(x),
        };
        let mut x = change(self.embed(&input.tokens)?, 0)?;
        for (place, layer) in self.layers.iter().enumerate() {
            let gates = layer.input.apply(&x)?.contiguous()?;
            let recurrence = Recurrence {
                sequences: input.sequences(),
                length: input.length,
                width: self.shape.width,
            };
            x = change(
                gates.apply_op2(&layer.recurrent, recurrence)?,
                place as u64 + 1,
            )?;
        }
        Ok(x)
    }

    /// Scores of all V tokens. `[N, D]` → `[N, V]`
    ///
    /// # Errors
    /// [`crate::ErrorKind::Numeric`] when arithmetic fails.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        self.head.apply(x)
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// One step of one cell: gates `[4D]` (i, f, g, o) are activated in place; c and h `[D]` move on.
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

/// The recurrence of a layer over whole sequences: `W x + b [B · T, 4D]` and `U [4D, D]` → h `[B · T, D]`.
///
/// One operation instead of some ten a step: tape and memory stay small, and gradients are the textbook's.
struct Recurrence {
    sequences: usize,
    length: usize,
    width: usize,
}

/// What a forward pass leaves: all h, all c, all activated gates.
struct Trail {
    h: Vec<f32>,
    c: Vec<f32>,
    gates: Vec<f32>,
}

impl Recurrence {
    fn run(&self, inputs: &[f32], recurrent: &Tensor) -> candle_core::Result<Trail> {
        let (b, t, d) = (self.sequences, self.length, self.width);
        let turned = recurrent.t()?;
        let (mut h, mut c) = (vec![0.0f32; b * d], vec![0.0f32; b * d]);
        let mut trail = Trail {
            h: vec![0.0; b * t * d],
            c: vec![0.0; b * t * d],
            gates: vec![0.0; b * t * 4 * d],
        };
        for step in 0..t {
            let state = Tensor::from_slice(&h, (b, d), &Device::Cpu)?;
            look(&state.matmul(&turned)?, |add| {
                for sequence in 0..b {
                    let row = sequence * t + step;
                    let gates = &mut trail.gates[row * 4 * d..(row + 1) * 4 * d];
                    let inputs = &inputs[row * 4 * d..(row + 1) * 4 * d];
                    for (k, gate) in gates.iter_mut().enumerate() {
                        *gate = inputs[k] + add[sequence * 4 * d + k];
                    }
                    let span = sequence * d..(sequence + 1) * d;
                    cell(gates, &mut c[span.clone()], &mut h[span.clone()]);
                    trail.h[row * d..(row + 1) * d].copy_from_slice(&h[span.clone()]);
                    trail.c[row * d..(row + 1) * d].copy_from_slice(&c[span]);
                }
            })?;
        }
        Ok(trail)
    }
}

impl CustomOp2 for Recurrence {
    fn name(&self) -> &'static str {
        "lstm"
    }

    fn cpu_fwd(
        &self,
        inputs: &CpuStorage,
        li: &Layout,
        recurrent: &CpuStorage,
        lr: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let slice = |storage: &CpuStorage, layout: &Layout| match layout.contiguous_offsets() {
            Some((from, to)) => Ok(storage.as_slice::<f32>()?[from..to].to_vec()),
            None => candle_core::bail!("the operand is not contiguous"),
        };
        let recurrent = Tensor::from_vec(
            slice(recurrent, lr)?,
            (4 * self.width, self.width),
            &Device::Cpu,
        )?;
        let trail = self.run(&slice(inputs, li)?, &recurrent)?;
        Ok((
            CpuStorage::F32(trail.h),
            (self.sequences * self.length, self.width).into(),
        ))
    }

    fn bwd(
        &self,
        inputs: &Tensor,
        recurrent: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let (b, t, d) = (self.sequences, self.length, self.width);
        let recurrent = recurrent.detach();
        let trail = look(inputs, |inputs| self.run(inputs, &recurrent))??;
        let back = look(gradient, <[f32]>::to_vec)?;
        let mut slopes = vec![0.0f32; b * t * 4 * d];
        let (mut to_h, mut to_c) = (vec![0.0f32; b * d], vec![0.0f32; b * d]);
        for step in (0..t).rev() {
            let mut now = vec![0.0f32; b * 4 * d];
            for sequence in 0..b {
                let row = sequence * t + step;
                let gates = &trail.gates[row * 4 * d..(row + 1) * 4 * d];
                for k in 0..d {
                    let (i, f, g, o) = (gates[k], gates[d + k], gates[2 * d + k], gates[3 * d + k]);
                    let tanh = trail.c[row * d + k].tanh();
                    let before = match step {
                        0 => 0.0,
                        _ => trail.c[(row - 1) * d + k],
                    };
                    let at = sequence * d + k;
                    let dh = back[row * d + k] + to_h[at];
                    let dc = dh * o * (1.0 - tanh * tanh) + to_c[at];
                    to_c[at] = dc * f;
                    let place = sequence * 4 * d + k;
                    now[place] = dc * g * i * (1.0 - i);
                    now[place + d] = dc * before * f * (1.0 - f);
                    now[place + 2 * d] = dc * i * (1.0 - g * g);
                    now[place + 3 * d] = dh * tanh * o * (1.0 - o);
                }
                slopes[row * 4 * d..(row + 1) * 4 * d]
                    .copy_from_slice(&now[sequence * 4 * d..(sequence + 1) * 4 * d]);
            }
            let now = Tensor::from_vec(now, (b, 4 * d), &Device::Cpu)?;
            to_h = look(&now.matmul(&recurrent)?, <[f32]>::to_vec)?;
        }
        // U met the h of the step before: shift by one within each sequence.
        let mut before = vec![0.0f32; b * t * d];
        for sequence in 0..b {
            for step in 1..t {
                let row = sequence * t + step;
                before[row * d..(row + 1) * d].copy_from_slice(&trail.h[(row - 1) * d..row * d]);
            }
        }
        let slopes = Tensor::from_vec(slopes, (b * t, 4 * d), &Device::Cpu)?;
        let before = Tensor::from_vec(before, (b * t, d), &Device::Cpu)?;
        let to_recurrent = slopes.t()?.matmul(&before)?;
        Ok((Some(slopes), Some(to_recurrent)))
    }
}
