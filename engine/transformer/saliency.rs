//! Explanations of a transformer's choice that its field uses: attention, attention rollout, gradient × input and
//! integrated gradients. None of them is exact; [`crate::run::explain`] measures how faithful they are.

use candle_core::{Tensor, Var};

use crate::path::{Sampling, Session};
use crate::transformer::matrix::{Matrix, rows};
use crate::transformer::{Network, SessionOptions, TokenBatch, Transformer, TransformerSession};
use crate::{Error, ErrorKind, Result};

/// Steps of the integral of integrated gradients.
const STEPS: usize = 16;

/// What each token of a text means for the margin of one next token over another, by each method. `[T]` each
#[derive(Clone, Debug, PartialEq)]
pub struct Saliency {
    /// Attention of the last row, averaged over heads and layers.
    pub attention: Vec<f64>,
    /// Attention rollout (Abnar and Zuidema 2020): the product over layers of `(A + I) / 2`, the last row.
    pub rollout: Vec<f64>,
    /// Gradient of the margin by the token's embedding, times the embedding.
    pub gradient_input: Vec<f64>,
    /// Integrated gradients (Sundararajan et al. 2017) from embeddings of zero, 16 steps.
    pub integrated: Vec<f64>,
}

/// Explain the margin of the token `chosen` over `alternative` after `ids` by each method.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a recurrent network, or one with attention in both directions; else as
/// [`TransformerSession::begin`].
///
/// # Complexity
/// T passes for attention, and `STEPS + 1` forward and backward passes over T rows.
pub fn saliency(
    model: &Transformer,
    ids: &[u32],
    (chosen, alternative): (u32, u32),
) -> Result<Saliency> {
    let network = model.network().filter(|network| network.shape.causal());
    let network = network.ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            "attention and gradients of a causal transformer are needed",
        )
        .at(model.name())
    })?;
    crate::measure::check_ids(&[chosen, alternative], network.shape.vocabulary)?;
    let (attention, rollout) = attention(model, ids)?;
    let embedded = network.embedding.tokens.rows(ids)?;
    let gradient = |scale: f64| gradient(network, &(&embedded * scale)?, chosen, alternative);
    let along = |gradient: &Tensor| -> Result<Vec<f64>> {
        let products = (gradient * &embedded)?.sum(1)?;
        let products = products.to_vec1::<f32>()?;
        Ok(products.into_iter().map(f64::from).collect())
    };
    let mut sum = embedded.zeros_like()?;
    for step in 0..STEPS {
        // The midpoint rule.
        sum = (sum + gradient((step as f64 + 0.5) / STEPS as f64)?)?;
    }
    Ok(Saliency {
        attention,
        rollout,
        gradient_input: along(&gradient(1.0)?)?,
        integrated: along(&(sum / STEPS as f64)?)?,
    })
}

/// Compute the gradient of the margin after the last token by every token's embedding. `[T, D]` → `[T, D]`
fn gradient(network: &Network, embedded: &Tensor, chosen: u32, alternative: u32) -> Result<Tensor> {
    let length = embedded.dim(0)?;
    let variable = Var::from_tensor(embedded)?;
    // A table with a row for each position: a token that occurs twice has two gradients.
    let mut network = network.clone();
    network.embedding.tokens = Matrix::Tensor(variable.as_tensor().clone());
    network.shape.vocabulary = network.shape.vocabulary.max(length);
    let batch = TokenBatch::new((0..length as u32).collect(), length);
    let hidden = network.forward(&batch, None, None)?;
    let logits = network.logits(&rows(&hidden, &[length as u32 - 1])?)?;
    let logit = |token: u32| logits.narrow(1, token as usize, 1);
    let margin = (logit(chosen)? - logit(alternative)?)?.sum_all()?;
    let gradients = margin.backward()?;
    gradients.get(&variable).cloned().ok_or_else(|| {
        Error::new(
            ErrorKind::Numeric,
            "the margin has no gradient by the embeddings",
        )
    })
}

/// Compute mean attention and rollout of the last row. `[T]`, `[T]`
fn attention(model: &Transformer, ids: &[u32]) -> Result<(Vec<f64>, Vec<f64>)> {
    let (first, others) = ids.split_first().ok_or_else(|| {
        Error::new(ErrorKind::Input, "the text is empty").advice("pass at least one token")
    })?;
    let options = SessionOptions {
        attention: true,
        ..SessionOptions::default()
    };
    // Token by token: a pass records the attention of its last row.
    let mut session =
        TransformerSession::begin_with(model, &[*first], Sampling::greedy(), options)?;
    let read = |session: &TransformerSession| -> Vec<Vec<f64>> {
        let layers = session.attention().unwrap_or_default().iter();
        layers
            .map(|row| row.iter().map(|&a| f64::from(a)).collect())
            .collect()
    };
    let mut steps = vec![read(&session)];
    for &token in others {
        session.force(token)?;
        steps.push(read(&session));
    }
    let (length, layers) = (ids.len(), steps[0].len());
    let last = &steps[length - 1];
    let mean = |column: usize| last.iter().map(|row| row[column]).sum::<f64>() / layers as f64;
    // R ← (A + I)/2 · R, from the identity. `[T][T]`
    let mut rolled: Vec<Vec<f64>> = (0..length).map(|row| unit(row, length)).collect();
    for layer in 0..layers {
        rolled = (0..length)
            .map(|row| {
                let mut sum: Vec<f64> = rolled[row].iter().map(|value| value / 2.0).collect();
                for (column, attention) in steps[row][layer].iter().enumerate() {
                    for (sum, value) in sum.iter_mut().zip(&rolled[column]) {
                        *sum += attention / 2.0 * value;
                    }
                }
                sum
            })
            .collect();
    }
    Ok((
        (0..length).map(mean).collect(),
        rolled.swap_remove(length - 1),
    ))
}

fn unit(index: usize, length: usize) -> Vec<f64> {
    let mut unit = vec![0.0; length];
    unit[index] = 1.0;
    unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_equal_central_differences() {
        let model = Transformer::open("models/stories260K".as_ref()).unwrap();
        let network = model.network().unwrap();
        let ids = [1, 403, 407, 261, 378];
        let embedded = network.embedding.tokens.rows(&ids).unwrap();
        let (chosen, alternative) = (300, 310);
        let exact = gradient(network, &embedded, chosen, alternative).unwrap();
        let exact = exact.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let values = embedded.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let margin = |values: Vec<f32>| {
            let mut network = network.clone();
            let values = Tensor::from_vec(values, embedded.shape(), embedded.device()).unwrap();
            network.embedding.tokens = Matrix::Tensor(values);
            let batch = TokenBatch::new((0..ids.len() as u32).collect(), ids.len());
            let hidden = network.forward(&batch, None, None).unwrap();
            let logits = network.logits(&rows(&hidden, &[4]).unwrap()).unwrap();
            let logits = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            f64::from(logits[chosen as usize]) - f64::from(logits[alternative as usize])
        };
        for index in (0..values.len()).step_by(37) {
            let shifted = |by: f32| {
                let mut values = values.clone();
                values[index] += by;
                margin(values)
            };
            let difference = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
            let error = (difference - f64::from(exact[index])).abs();
            assert!(
                error < 0.02 * difference.abs().max(1.0),
                "{index}: {difference} {}",
                exact[index]
            );
        }
    }
}
