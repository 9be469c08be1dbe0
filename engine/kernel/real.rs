//! The number type of the kernels: f32 in use, f64 for gradient checks.

use ndarray::NdFloat;

use crate::kernel::adamw::Update;
use crate::kernel::{activation, adamw, fan, product, softmax, vector};

/// Defines [`Real`] from a table of kernels, each with its implementation for f32 and its reference for f64.
macro_rules! kernels {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $f32:path, $f64:path;)*) => {
        /// f32 (vectorised kernels) or f64 (the reference of gradient checks).
        pub trait Real: NdFloat + Default + bytemuck::Pod + std::iter::Sum {
            /// Round from f64.
            fn of(value: f64) -> Self;
            /// Widen to f64.
            fn wide(self) -> f64;
            $($(#[$doc])* fn $name($($argument: $type),*) $(-> $result)?;)*
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
            $(fn $name($($argument: $type),*) $(-> $result)? { $f32($($argument),*) })*
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
            $(fn $name($($argument: $type),*) $(-> $result)? { $f64($($argument),*) })*
        }
    };
}

kernels! {
    /// `output = GELU(input)`.
    fn gelu(input: &[Self], output: &mut [Self]) = activation::forward, activation::reference_forward;
    /// `gradient *= GELU'(input)`.
    fn gelu_backward(input: &[Self], gradient: &mut [Self])
        = activation::backward, activation::reference_backward;
    /// `output = σ(input)`.
    fn sigmoid(input: &[Self], output: &mut [Self]) = activation::sigmoid, activation::reference_sigmoid;
    /// Turn logits into probabilities in place; returns ln Σ exp(logit).
    fn softmax(logits: &mut [Self]) -> f64 = softmax::softmax, softmax::reference;
    /// `c [m, columns] += a [m, inner] · b [inner, columns]`.
    fn product(a: &[Self], b: &[Self], columns: usize, c: &mut [Self]) = product::add, product::reference;
    /// Σ a b.
    fn dot(a: &[Self], b: &[Self]) -> Self = vector::dot, vector::reference_dot;
    /// `sum += factor · values`.
    fn add_scaled(factor: Self, values: &[Self], sum: &mut [Self])
        = vector::add_scaled, vector::reference_add_scaled;
    /// `values *= factor`.
    fn scale(factor: Self, values: &mut [Self]) = vector::scale, vector::reference_scale;
    /// See [`fan::preactivations`].
    fn preactivations(signals: &[Self], base: &[Self], edge: &[Self], width: usize, z: &mut [Self])
        = fan::preactivations, fan::reference_preactivations;
    /// See [`fan::forward`].
    fn fan_forward(
        signals: &[Self], base: &[Self], edge: &[Self], squared: bool, slopes: &mut [Self], energies: &mut [Self],
    ) = fan::forward, fan::reference_forward;
    /// See [`fan::signals_backward`].
    fn fan_signals_backward(
        d_z: &[Self], edge: &[Self], scratch: &mut [Self], width: usize, d_signals: &mut [Self],
    ) = fan::signals_backward, fan::reference_signals_backward;
    /// See [`fan::edge_backward`].
    fn fan_edge_backward(signals: &[Self], d_z: &[Self], width: usize, d_edge: &mut [Self])
        = fan::edge_backward, fan::reference_edge_backward;
    /// Move `value` and its moments by `gradient` times `scale`.
    fn adamw(
        update: &Update<Self>, value: &mut [Self], first: &mut [Self], second: &mut [Self], gradient: &[Self],
        scale: Self,
    ) = adamw::apply, adamw::reference;
}
