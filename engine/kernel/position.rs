//! The position table, and the softmax over positions as a running average.
//!
//! Table (the authors' code, no parameter): `PE[p, 2j] = sin(p · div_j)`, `PE[p, 2j+1] = cos(p · div_j)`
//! with `div_j = 10000^(2j/D)`, a *product* where the usual form divides. The angle is formed in f32, as
//! theirs is: at 3 million radians one f32 step is a quarter turn, so only the rounded angle gives their values.

use std::f64::consts::FRAC_1_PI;

use crate::kernel::real::Real;

/// π in three parts of 33 bits and less: a multiple below 2^20 of the first two is exact.
const PI: [f64; 3] = [
    f64::from_bits(0x4009_21fb_5440_0000),
    f64::from_bits(0x3de0_b461_1a60_0000),
    f64::from_bits(0x3bb3_198a_2e03_7073),
];
/// x + x³(a + b x² + c x⁴ + d x⁶) nearest sin x on [−π/2, π/2] in relative error (6.1e-9, a tenth of a step).
const SINE: [f64; 4] = [
    -0.166_666_595_504_277_56,
    0.008_333_066_246_082_155,
    -0.000_198_096_029_019_379_5,
    2.605_780_637_968_037e-6,
];
/// Up to this angle the polynomial is used; beyond it every value in the fixtures is the nearest f32.
const POLYNOMIAL: f64 = 10_000.0;

/// Compute the divisor `10000^(2j/D)` of pair j at a width D.
///
/// The authors divide whole numbers, which gives an exponent rounded to f32 (inexact unless D is a power of
/// two), and the rounded exponent is what the power is taken of.
pub fn divisor(pair: usize, width: usize) -> f32 {
    let exponent = (2 * pair) as f32 / width as f32;
    10000f64.powf(f64::from(exponent)) as f32
}

/// Compute one row of the position table. `row [D]`
///
/// The angle is the authors' bit for bit. Their framework computes sine and cosine with the vector functions of Intel's
/// MKL, which round about one value of twenty up to 10,000 radians one step away from the nearest f32. Their source is
/// not public; this polynomial in double precision after one reduction by π was inferred from the 400 values of the
/// golden fixtures, and reproduces all of them. MKL's functions for AVX2 give the same table up to 10,000 radians, at
/// widths of 8 and 32; beyond, 1.2 % of their values are one step from the nearest f32, which this function returns. The
/// checksum of the authors' whole table is reached neither by this function nor by those.
pub fn row(position: usize, row: &mut [f32]) {
    let width = row.len();
    for (column, value) in row.iter_mut().enumerate() {
        let angle = f64::from(position as f32 * divisor(column / 2, width));
        *value = if angle <= POLYNOMIAL {
            sine(angle, if column % 2 == 0 { 0.0 } else { 0.5 }) as f32
        } else if column % 2 == 0 {
            libm::sin(angle) as f32
        } else {
            libm::cos(angle) as f32
        };
    }
}

/// Compute sin(x + π·half), where `half` is 0 or 1/2, for x in [0, [`POLYNOMIAL`]].
fn sine(x: f64, half: f64) -> f64 {
    // The nearest multiple of π, moved by a half for the cosine.
    let multiple = (x * FRAC_1_PI + half).round_ties_even();
    let whole = multiple - half;
    let reduced = ((x - whole * PI[0]) - whole * PI[1]) - whole * PI[2];
    let square = reduced * reduced;
    let series = SINE
        .iter()
        .rev()
        .fold(0.0, |sum, &coefficient| sum * square + coefficient);
    let sine = reduced + reduced * square * series;
    if multiple % 2.0 == 0.0 { sine } else { -sine }
}

/// Add position `position` to the softmax over positions and return its `λ = Z_before / Z_after`.
///
/// `normaliser` is `Z = Σ e^(r − top)` over the positions so far, `top` the largest of `logits`. Positions beyond
/// the last logit repeat it. With `B` of f64 a path of a million hops does not drift.
pub fn advance<R: Real, B: Real>(logits: &[R], top: R, position: usize, normaliser: &mut B) -> B {
    let before = *normaliser;
    let logit = logits[position.min(logits.len() - 1)];
    *normaliser += B::of((logit - top).wide()).exp();
    before / *normaliser
}

/// Return the largest of the position logits.
pub fn largest<R: Real>(logits: &[R]) -> R {
    logits.iter().copied().fold(R::neg_infinity(), R::max)
}

/// Compute λ of every position below `steps`; see [`advance`]. `[T]`
pub fn weights<R: Real>(logits: &[R], steps: usize) -> Vec<R> {
    if logits.is_empty() {
        return Vec::new();
    }
    let top = largest(logits);
    let mut normaliser = R::zero();
    (0..steps)
        .map(|step| advance(logits, top, step, &mut normaliser))
        .collect()
}

/// Add the gradient of the logits, given that of each λ_t.
pub fn weights_backward<R: Real>(lambda: &[R], d_lambda: &[R], d_logits: &mut [R]) {
    let last = d_logits.len() - 1;
    // The softmax weight of position j at step t is (1 − λ_j) Π_{j<s≤t} λ_s.
    for (step, &slope) in d_lambda.iter().enumerate() {
        let mut weight = R::one();
        for j in (0..=step).rev() {
            let fraction = weight * (R::one() - lambda[j]);
            // λ_t = 1 − w_t with w the softmax weights, so ∂λ_t/∂r_j = w_j (w_t − [j = t]), and w_t = 1 − λ_t.
            let change = if j == step {
                -lambda[step]
            } else {
                R::one() - lambda[step]
            };
            d_logits[j.min(last)] += slope * fraction * change;
            weight *= lambda[j];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Combine the bits of numbers, in order.
    fn digest(values: impl IntoIterator<Item = f32>) -> u32 {
        let bits = values.into_iter().map(f32::to_bits);
        bits.fold(0, |sum: u32, bits| sum.wrapping_mul(31).wrapping_add(bits))
    }

    #[test]
    fn divisors_at_a_width_of_24_are_the_authors() {
        let expected = [
            0x3f80_0000,
            0x4009_e242,
            0x4094_87e6,
            0x4120_0000,
            0x41ac_5ad4,
            0x4239_a9de,
            0x42c8_0000,
            0x4357_7185,
            0x43e8_1459,
            0x447a_0000,
            0x4506_a6f3,
            0x4591_0cb8,
        ];
        let found: Vec<u32> = (0..12).map(|pair| divisor(pair, 24).to_bits()).collect();
        assert_eq!(found, expected);
    }

    /// Digests of the divisors, and of the angles at positions 1, 7, 100 and 511, by the authors' formula with NumPy's
    /// f32 division, f64 power and f32 product.
    #[test]
    fn divisors_and_angles_are_the_authors_at_every_width() {
        let table: [(usize, u32, u32); 13] = [
            (2, 0x3f80_0000, 0x7397_8000),
            (6, 0x9747_1405, 0x709d_1f07),
            (10, 0xaf89_a3ad, 0x7a0f_e866),
            (12, 0x6929_074c, 0xb0d7_1879),
            (20, 0x6afe_75a7, 0x1089_28b2),
            (24, 0x6880_98d7, 0xe1c8_8ea6),
            (36, 0x1414_e08e, 0x1eb9_0a53),
            (48, 0xb0ee_5e94, 0x3107_d46d),
            (96, 0x08ed_8958, 0xff83_11a5),
            (100, 0x312e_6cfc, 0x2648_905d),
            (384, 0x75c0_3666, 0x5db0_b390),
            (768, 0x88c6_41bd, 0xb37f_3d53),
            (1000, 0xd365_5353, 0x5635_6106),
        ];
        for (width, divisors, angles) in table {
            let all = || (0..width / 2).map(|pair| divisor(pair, width));
            assert_eq!(digest(all()), divisors, "width {width}");
            let rows = [1u16, 7, 100, 511].into_iter();
            let found = rows.flat_map(|p| all().map(move |divisor| f32::from(p) * divisor));
            assert_eq!(digest(found), angles, "width {width}");
        }
    }

    #[test]
    fn a_row_at_any_width_has_the_sines_of_its_angles() {
        for width in [6, 24, 36, 100] {
            let mut values = vec![0.0; width];
            for position in [0, 1, 33, 511] {
                row(position, &mut values);
                for (pair, value) in values.chunks_exact(2).enumerate() {
                    let angle = f64::from(position as f32 * divisor(pair, width));
                    let near = |a: f32, b: f64| (f64::from(a) - b).abs() < 1.2e-7;
                    assert!(near(value[0], angle.sin()) && near(value[1], angle.cos()));
                }
            }
        }
    }
}
