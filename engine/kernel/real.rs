//! The number type of the kernels: f32 in use, f64 for gradient checks.

use crate::kernel::adamw::Update;
use crate::kernel::fan::FanArithmetic;
use crate::kernel::{activation, adamw, product, softmax, vector};
use ndarray::NdFloat;

/// f32 (vectorised kernels) or f64 (the reference of gradient checks).
pub trait Real: NdFloat + FanArithmetic + Default + bytemuck::Pod + std::iter::Sum {
    /// Round from f64.
    fn of(value: f64) -> Self;
    /// Widen to f64.
    fn wide(self) -> f64;
    /// `output = GELU(input)`.
    fn gelu(input: &[Self], output: &mut [Self]);
    /// `gradient *= GELU'(input)`.
    fn gelu_backward(input: &[Self], gradient: &mut [Self]);
    /// Turn logits into probabilities in place; returns ln Σ exp(logit).
    fn softmax(logits: &mut [Self]) -> f64;
    /// `c [m, columns] += a [m, inner] · b [inner, columns]`.
    fn product(a: &[Self], b: &[Self], columns: usize, c: &mut [Self]);
    /// Σ a b.
    fn dot(a: &[Self], b: &[Self]) -> Self;
    /// `sum += factor · values`.
    fn add_scaled(factor: Self, values: &[Self], sum: &mut [Self]);
    /// `values *= factor`.
    fn scale(factor: Self, values: &mut [Self]);
    /// Move `value` and its moments by `gradient` times `scale`.
    fn adamw(
        update: &Update<Self>,
        value: &mut [Self],
        first: &mut [Self],
        second: &mut [Self],
        gradient: &[Self],
        scale: Self,
    );
}

impl Real for f32 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value as f32
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn gelu(input: &[Self], output: &mut [Self]) {
        activation::forward(input, output);
    }
    fn gelu_backward(input: &[Self], gradient: &mut [Self]) {
        activation::backward(input, gradient);
    }
    fn softmax(logits: &mut [Self]) -> f64 {
        softmax::softmax(logits)
    }
    fn product(a: &[Self], b: &[Self], columns: usize, c: &mut [Self]) {
        product::add(a, b, columns, c);
    }
    fn dot(a: &[Self], b: &[Self]) -> Self {
        vector::dot(a, b)
    }
    fn add_scaled(factor: Self, values: &[Self], sum: &mut [Self]) {
        vector::add_scaled(factor, values, sum);
    }
    fn scale(factor: Self, values: &mut [Self]) {
        vector::scale(factor, values);
    }
    fn adamw(
        update: &Update<Self>,
        value: &mut [Self],
        first: &mut [Self],
        second: &mut [Self],
        gradient: &[Self],
        scale: Self,
    ) {
        adamw::apply(update, value, first, second, gradient, scale);
    }
}

impl Real for f64 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
    fn gelu(input: &[Self], output: &mut [Self]) {
        for (output, &input) in output.iter_mut().zip(input) {
            *output = activation::reference(input).0;
        }
    }
    fn gelu_backward(input: &[Self], gradient: &mut [Self]) {
        for (gradient, &input) in gradient.iter_mut().zip(input) {
            *gradient *= activation::reference(input).1;
        }
    }
    fn softmax(logits: &mut [Self]) -> f64 {
        let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut total = 0.0;
        for logit in logits.iter_mut() {
            *logit = (*logit - top).exp();
            total += *logit;
        }
        for logit in logits.iter_mut() {
            *logit /= total;
        }
        top + total.ln()
    }
    fn product(a: &[Self], b: &[Self], columns: usize, c: &mut [Self]) {
        product::add_reference(a, b, columns, c);
    }
    fn dot(a: &[Self], b: &[Self]) -> Self {
        a.iter().zip(b).map(|(&a, &b)| a * b).sum()
    }
    fn add_scaled(factor: Self, values: &[Self], sum: &mut [Self]) {
        for (sum, &value) in sum.iter_mut().zip(values) {
            *sum += factor * value;
        }
    }
    fn scale(factor: Self, values: &mut [Self]) {
        for value in values {
            *value *= factor;
        }
    }
    fn adamw(
        update: &Update<Self>,
        value: &mut [Self],
        first: &mut [Self],
        second: &mut [Self],
        gradient: &[Self],
        scale: Self,
    ) {
        adamw::reference(update, value, first, second, gradient, scale);
    }
}
