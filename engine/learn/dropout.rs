//! Dropout masks (Srivastava et al. 2014).

use rayon::prelude::*;

use crate::kernel::random::Random;
use crate::kernel::real::Real;

/// Purpose of masks of the signals that reach nodes, "inpu" in ASCII: purposes are independent streams under one seed.
pub(super) const INPUT: u64 = 0x696e_7075;
/// Purpose of masks of outputs, "out" in ASCII.
pub(super) const OUTPUT: u64 = 0x6f75_7400;
/// Purpose of masks of nodes, "node" in ASCII.
pub(super) const NODE: u64 = 0x6e6f_6465;
/// Purpose of masks of what the first layer blends, "mem" in ASCII; those of the next layers follow.
pub(super) const MEMORY: u64 = 0x6d65_6d00;

/// Fill `mask [N, D]` with 0 (probability `dropout`) and 1/(1 − dropout).
///
/// Each row has a random stream of its own, so that the number of threads does not matter; that of the first is number
/// `first`.
pub fn draw<R: Real>(
    mask: &mut [R],
    first: usize,
    width: usize,
    dropout: f64,
    seed: u64,
    index: u64,
) {
    if dropout <= 0.0 {
        mask.fill(R::one());
        return;
    }
    // Kept numbers are scaled by 1 / (1 − p): their expected value is the same with and without dropout.
    let threshold = (dropout * 65536.0) as u64;
    let keep = R::of(1.0 / (1.0 - dropout));
    mask.par_chunks_mut(width)
        .enumerate()
        .for_each(|(row, mask)| {
            let mut random = Random::stream(seed, index, (first + row) as u64);
            // 16 bits decide one column: one draw serves four.
            for four in mask.chunks_mut(4) {
                let mut bits = random.bits();
                for value in four {
                    *value = if bits & 0xffff < threshold {
                        R::zero()
                    } else {
                        keep
                    };
                    bits >>= 16;
                }
            }
        });
}

/// Dropout probabilities; forms other than layered edges have `output` alone.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Of the output h, as the energies see it.
    pub output: f64,
    /// Of what a layer blends, `[c; 2 m]`.
    pub memory: f64,
    /// Of the signal s⁰ that reaches a node.
    pub input: f64,
    /// Of nodes: a dropped node has no signal s⁰ in any sequence of the batch (Gal and Ghahramani 2016, section 4.2).
    pub node: f64,
}

impl From<f64> for Rates {
    fn from(output: f64) -> Self {
        Self {
            output,
            ..Self::default()
        }
    }
}
