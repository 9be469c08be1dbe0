//! Arithmetic: one file a kernel, forward and backward side by side.
//!
//! In: slices of numbers. Out: slices of numbers. Everything above (`signal`, `path`, `learn`) computes
//! through this room. Dimension letters, the same everywhere: `V` nodes, `E` own edges, `D` signal width,
//! `F` fan, `T` steps, `B` batch, `K` decay banks, `N` any length.

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod blend;
pub mod bytes;
pub mod element;
pub mod energy;
pub mod fan;
pub mod gate;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod norm;
pub mod pages;
pub mod position;
pub mod random;
pub mod real;
pub mod simd;
pub mod softmax;
pub mod table;
pub mod vector;
