//! Sums side by side: a dot product is added up in as many lanes as the widest vectors have, whatever the processor.
//!
//! Arrays by value: with slices the compiler makes scalar code of some conversions.

use crate::kernel::simd::Arithmetic;

/// Lanes of a sum.
pub(super) const LANES: usize = 16;

/// Add products, lane by lane, to sums.
#[inline(always)]
pub(super) fn add<A: Arithmetic>(
    weights: &[f32; LANES],
    x: &[f32; LANES],
    mut sums: [f32; LANES],
) -> [f32; LANES] {
    for lane in 0..LANES {
        sums[lane] = A::multiply_add(weights[lane], x[lane], sums[lane]);
    }
    sums
}

/// Add lanes up, in pairs.
#[inline(always)]
pub(super) fn total(lanes: [f32; LANES]) -> f32 {
    let (mut eight, mut four) = ([0.0; 8], [0.0; 4]);
    for i in 0..8 {
        eight[i] = lanes[i] + lanes[i + 8];
    }
    for i in 0..4 {
        four[i] = eight[i] + eight[i + 4];
    }
    (four[0] + four[2]) + (four[1] + four[3])
}
