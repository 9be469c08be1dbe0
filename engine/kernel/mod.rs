//! Arithmetic on slices: one kernel per file, its forward and backward pass together.
//!
//! The forward pass of a hop is [`own::forward`] for own edges, [`composed::forward`] for composed ones, and the
//! functions of [`layered`] for layered ones: `signal` runs them for one path, `learn` for the paths of a batch. Dimension letters, the same everywhere: `V` nodes, `E` own edges, `D` signal width,
//! `F` fan, `T` steps, `B` batch, `K` decay banks, `N` any length.

pub mod activation;
pub mod adamw;
pub mod allocator;
pub mod attention;
pub mod attention_product;
pub mod blend;
#[cfg(feature = "transformer")]
pub mod block_format;
#[cfg(feature = "transformer")]
mod block_product;
pub mod bytes;
pub mod composed;
pub mod element;
pub mod energy;
pub mod fan;
pub mod gate;
#[cfg(feature = "gpu")]
pub mod gpu;
mod lanes;
pub mod layered;
pub mod logits;
pub mod norm;
pub mod numbers;
pub mod own;
pub mod pages;
pub mod position;
pub mod product;
pub mod random;
pub mod real;
pub mod residual;
pub mod select;
pub mod simd;
pub mod softmax;
#[cfg(feature = "transformer")]
pub mod stored;
pub mod table;
pub mod vector;
