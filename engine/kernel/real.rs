//! The number a kernel computes with: f32 to work, f64 to check.

use crate::kernel::adamw::Update;
use crate::kernel::fan::FanArithmetic;
use crate::kernel::{activation, adamw, softmax, vector};
use ndarray::{ArrayView2, ArrayViewMut2, NdFloat, ShapeBuilder};

/// f32 (vectorised kernels) or f64 (the reference that gradient checks trust).
pub trait Real: NdFloat + FanArithmetic + Default + bytemuck::Pod + std::iter::Sum {
    /// The nearest value to `value`.
    fn of(value: f64) -> Self;
    /// The value as f64.
    fn wide(self) -> f64;
    /// `output = GELU(input)`.
    fn gelu(input: &[Self], output: &mut [Self]);
    /// `gradient *= GELU'(input)`.
    fn gelu_backward(input: &[Self], gradient: &mut [Self]);
    /// Scores become probabilities; returns ln Σ exp(score).
    fn softmax(logits: &mut [Self]) -> f64;
    /// Σ a b.
    fn dot(a: &[Self], b: &[Self]) -> Self;
    /// `sum += factor · values`.
    fn add_scaled(factor: Self, values: &[Self], sum: &mut [Self]);
    /// `values *= factor`.
    fn scale(factor: Self, values: &mut [Self]);
    /// Moves `value` and its moments by `gradient` times `scale`.
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

/// A matrix as it lies in a slice, read along its rows or, transposed, along its columns.
#[derive(Clone, Copy)]
pub struct Operand<'a, R> {
    data: &'a [R],
    rows: usize,
    columns: usize,
    stride: usize,
    transposed: bool,
}

impl<'a, R: Real> Operand<'a, R> {
    /// A row-major matrix `[rows, columns]`.
    pub fn new(data: &'a [R], rows: usize, columns: usize) -> Self {
        Self {
            data,
            rows,
            columns,
            stride: columns,
            transposed: false,
        }
    }

    /// A matrix `[rows, columns]` whose rows begin `stride` elements apart.
    pub fn strided(data: &'a [R], rows: usize, columns: usize, stride: usize) -> Self {
        Self {
            data,
            rows,
            columns,
            stride,
            transposed: false,
        }
    }

    /// The same matrix, read as `[columns, rows]`.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            transposed: !self.transposed,
            ..self
        }
    }

    fn view(&self) -> ArrayView2<'a, R> {
        let shape = (self.rows, self.columns).strides((self.stride, 1));
        let view = ArrayView2::from_shape(shape, self.data).expect("a matrix fits its slice");
        if self.transposed {
            view.reversed_axes()
        } else {
            view
        }
    }
}

/// `c = alpha · a · b + beta · c`, with `c [rows of a, columns of b]` row-major.
///
/// # Panics
/// When the shapes do not fit together.
pub fn multiply<R: Real>(alpha: R, a: Operand<'_, R>, b: Operand<'_, R>, beta: R, c: &mut [R]) {
    let (a, b) = (a.view(), b.view());
    let mut c =
        ArrayViewMut2::from_shape((a.nrows(), b.ncols()), c).expect("the product fits its slice");
    ndarray::linalg::general_mat_mul(alpha, &a, &b, beta, &mut c);
}
