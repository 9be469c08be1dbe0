//! Rotary position embedding (RoPE, Su et al. 2021) and its scalings to longer contexts.
//!
//! The component pair (i, i + d/2) of a query or key at position p is rotated by the angle `p · f_i` with
//! `f_i = θ^(−2i/d)`. Products of rotated queries and keys depend on the difference of their positions alone. A
//! scaling changes the frequencies `f_i`; some also change the length of the rotated vectors.

use std::f64::consts::TAU;

use rayon::prelude::*;

/// Rows that one task of the thread pool rotates at least.
const ROWS: usize = 16;

/// Change of the frequencies for longer contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Unchanged.
    None,
    /// All divided by a factor (position interpolation, Chen et al. 2023).
    Linear(f64),
    /// θ grows with the text once it is longer than the context (dynamic NTK).
    Dynamic(f64),
    /// Low frequencies divided, high ones kept, a linear ramp between them (Llama 3.1).
    Llama3 {
        /// Divisor of low frequencies.
        factor: f64,
        /// Wavelengths above the context divided by this are low frequencies.
        low: f64,
        /// Wavelengths below the context divided by this are high frequencies.
        high: f64,
        /// Context the model was first trained for.
        original: f64,
    },
    /// A ramp over components from unchanged to interpolated, with an attention temperature (Peng et al. 2023).
    Yarn {
        /// Divisor of interpolated frequencies.
        factor: f64,
        /// Rotations over the context from which a component is unchanged.
        fast: f64,
        /// Rotations over the context below which a component is interpolated.
        slow: f64,
        /// Context the model was first trained for.
        original: f64,
        /// Factor of rotated queries and keys.
        length: f64,
        /// Whether the ramp begins and ends at whole components.
        truncate: bool,
    },
    /// A divisor for each component, one list within the first context and one beyond it (LongRoPE, Ding et al. 2024).
    Long {
        /// Divisors within the first context. `[d / 2]`
        short: Vec<f64>,
        /// Divisors beyond it. `[d / 2]`
        long: Vec<f64>,
        /// Context the model was first trained for.
        original: usize,
        /// Factor of rotated queries and keys.
        length: f64,
    },
}

/// Rotary embedding of a model's queries and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    theta: f64,
    /// Components that are rotated; the rest of a head is unchanged.
    width: usize,
    context: usize,
    scaling: RopeScaling,
    /// Pairs are neighbours (2i, 2i + 1) instead of (i, i + d/2).
    neighbours: bool,
}

impl Rope {
    /// Create an embedding without scaling that rotates the first `width` components of each head.
    pub fn new(theta: f64, width: usize, context: usize) -> Self {
        Self {
            theta,
            width,
            context,
            scaling: RopeScaling::None,
            neighbours: false,
        }
    }

    /// Return θ, and how many components of a head are rotated.
    pub(super) fn base(&self) -> (f64, usize) {
        (self.theta, self.width)
    }

    /// Return the scaling.
    pub(super) fn scaling(&self) -> &RopeScaling {
        &self.scaling
    }

    /// Return whether the scaling serves texts beyond `max_position_embeddings`, which may be the context before it.
    pub fn extends_context(&self) -> bool {
        matches!(
            self.scaling,
            RopeScaling::Dynamic(_) | RopeScaling::Linear(_) | RopeScaling::Yarn { .. }
        )
    }

    /// Return the length of a text as far as its rotations depend on it: texts of equal ones are rotated alike.
    pub(super) fn length_class(&self, length: usize) -> usize {
        match &self.scaling {
            RopeScaling::Dynamic(_) => length.max(self.context),
            RopeScaling::Long { original, .. } => usize::from(length > *original),
            _ => 0,
        }
    }

    /// Rotate pairs of neighbouring components.
    #[must_use]
    pub fn with_neighbours(mut self, neighbours: bool) -> Self {
        self.neighbours = neighbours;
        self
    }

    /// Replace the scaling.
    #[must_use]
    pub fn with_scaling(mut self, scaling: RopeScaling) -> Self {
        self.scaling = scaling;
        self
    }

    /// Return θ^(2i/d) for each rotated pair i. `[width / 2]`
    ///
    /// Exponent, power and all that follows are rounded to f32 one by one, as in the code that trained the models:
    /// unless the head width is a power of two the exponent is inexact already.
    fn powers(&self, theta: f64) -> Vec<f32> {
        let theta = f64::from(theta as f32);
        (0..self.width / 2)
            .map(|i| theta.powf(f64::from((2 * i) as f32 / self.width as f32)) as f32)
            .collect()
    }

    /// Return the frequencies for a text of `length` tokens, and the factor of rotated vectors. `[width / 2]`
    pub fn frequencies(&self, length: usize) -> (Vec<f32>, f32) {
        let powers = self.powers(self.theta);
        let mut scale = 1.0;
        let inverse = |power: f32| 1.0 / power;
        let frequencies = match &self.scaling {
            RopeScaling::None => powers.into_iter().map(inverse).collect(),
            RopeScaling::Linear(factor) => {
                let by = *factor as f32;
                powers.into_iter().map(|p| inverse(p) / by).collect()
            }
            RopeScaling::Dynamic(factor) => {
                // θ' = θ (s n/L − (s − 1))^(d/(d − 2)): the lowest frequency is interpolated, the highest kept.
                let stretched = length.max(self.context) as f64 / self.context.max(1) as f64;
                let exponent = self.width as f64 / (self.width as f64 - 2.0).max(1e-9);
                let theta = self.theta * (factor * stretched - (factor - 1.0)).powf(exponent);
                self.powers(theta).into_iter().map(inverse).collect()
            }
            RopeScaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => {
                let (factor, long) = (*factor as f32, (original / low) as f32);
                let short = (original / high) as f32;
                let scaled = |power: f32| {
                    let f = inverse(power);
                    let wavelength = TAU as f32 / f;
                    if wavelength > long {
                        f / factor
                    } else if wavelength < short {
                        f
                    } else {
                        // 0 at the longest wavelength of the ramp, 1 at the shortest.
                        let position = *original as f32 / wavelength - *low as f32;
                        let smooth = position / (high - low) as f32;
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                };
                powers.into_iter().map(scaled).collect()
            }
            RopeScaling::Yarn { factor, length, .. } => {
                scale = *length;
                let (low, high) = self.yarn_ramp();
                let scaled = |(i, power): (usize, f32)| {
                    // Interpolating divides the frequency by the factor; the ramp mixes both.
                    let ramp = (i as f32 - low as f32) / (high - low) as f32;
                    let kept = 1.0 - ramp.clamp(0.0, 1.0);
                    inverse(*factor as f32 * power) * (1.0 - kept) + inverse(power) * kept
                };
                powers.into_iter().enumerate().map(scaled).collect()
            }
            RopeScaling::Long {
                short,
                long,
                original,
                length: factor,
            } => {
                scale = *factor;
                let divisors = if length > *original { long } else { short };
                let pairs = powers.iter().zip(divisors);
                pairs.map(|(&p, &by)| inverse(by as f32 * p)).collect()
            }
        };
        (frequencies, scale as f32)
    }

    /// Return the components between which YaRN's ramp rises from 0 (unchanged) to 1 (interpolated).
    fn yarn_ramp(&self) -> (f64, f64) {
        let RopeScaling::Yarn {
            fast,
            slow,
            original,
            truncate,
            ..
        } = self.scaling
        else {
            return (0.0, 1.0);
        };
        // The component that makes this many rotations over L positions: d ln(L / 2πr) / (2 ln θ).
        let component = |rotations: f64| {
            self.width as f64 * (original / (rotations * TAU)).ln() / (2.0 * self.theta.ln())
        };
        let (mut low, mut high) = (component(fast), component(slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0), high.min(self.width as f64 - 1.0));
        (low, if low == high { high + 0.001 } else { high })
    }

    /// Compute the rotations for texts of at most `length` tokens.
    pub fn table(&self, length: usize) -> RotaryTable {
        let (frequencies, scale) = self.frequencies(length);
        RotaryTable {
            frequencies,
            scale,
            neighbours: self.neighbours,
        }
    }
}

/// Frequencies of a text of known length.
#[derive(Clone, Debug)]
pub struct RotaryTable {
    frequencies: Vec<f32>,
    scale: f32,
    neighbours: bool,
}

impl RotaryTable {
    /// Rotate rows of heads to their positions, in place. `rows [N, heads · head_width]`, `positions [N]`
    ///
    /// The inverse rotates by the negative angle: it maps gradients of rotated vectors to gradients of the vectors.
    pub fn rotate(&self, rows: &mut [f32], positions: &[u32], head_width: usize, inverse: bool) {
        let width = rows.len() / positions.len().max(1);
        if width == 0 {
            return;
        }
        let rotate = |(row, &position): (&mut [f32], &u32)| {
            self.rotate_row(row, head_width, position, inverse);
        };
        // A decoding step has one row: the pool would cost more than the rotation.
        if positions.len() < 2 * ROWS {
            rows.chunks_mut(width).zip(positions).for_each(rotate);
        } else {
            let rows = rows.par_chunks_mut(width).with_min_len(ROWS);
            rows.zip(positions.par_iter()).for_each(rotate);
        }
    }

    fn rotate_row(&self, row: &mut [f32], head_width: usize, position: u32, inverse: bool) {
        let half = self.frequencies.len();
        let position = position as f32;
        let pair = |i: usize| match self.neighbours {
            true => (2 * i, 2 * i + 1),
            false => (i, i + half),
        };
        // Frequencies outside, heads inside: sine and cosine are computed once for all heads.
        for (i, &frequency) in self.frequencies.iter().enumerate() {
            let (sine, cosine) = (position * frequency).sin_cos();
            // YaRN and LongRoPE lengthen rotated vectors, which scales the logits of attention.
            let (sine, cosine) = (sine * self.scale, cosine * self.scale);
            let sine = if inverse { -sine } else { sine };
            for head in row.chunks_exact_mut(head_width) {
                // (a, b) ← (a cos − b sin, b cos + a sin).
                let (first, second) = pair(i);
                let (a, b) = (head[first], head[second]);
                head[first] = a * cosine - b * sine;
                head[second] = b * cosine + a * sine;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn read(scaling: Value) -> Rope {
        let json = serde_json::json!({"rope_theta": 10000.0, "rope_scaling": scaling});
        Rope::read(json.as_object().unwrap(), "full_attention", 16, 64).unwrap()
    }

    #[test]
    fn scalings_change_frequencies_as_their_formulas_say() {
        let plain = Rope::new(10_000.0, 16, 64).frequencies(10).0;
        let linear = read(serde_json::json!({"rope_type": "linear", "factor": 4.0}));
        for (scaled, f) in linear.frequencies(10).0.iter().zip(&plain) {
            assert!((scaled * 4.0 - f).abs() < 1e-6);
        }
        let dynamic = read(serde_json::json!({"type": "dynamic", "factor": 2.0}));
        assert_eq!(dynamic.frequencies(64).0, plain);
        assert!(dynamic.frequencies(128).0[7] < plain[7]);
        let llama = read(
            serde_json::json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64}),
        );
        let found = llama.frequencies(10).0;
        assert_eq!(found[0], plain[0]);
        assert!((found[7] * 8.0 - plain[7]).abs() < 1e-9);
        let yarn = read(serde_json::json!({"rope_type": "yarn", "factor": 4.0,
            "original_max_position_embeddings": 16}));
        let (found, scale) = yarn.frequencies(10);
        assert!((f64::from(scale) - (0.1 * 4.0f64.ln() + 1.0)).abs() < 1e-6);
        assert!((found[7] * 4.0 - plain[7]).abs() < 1e-9 && found[0] == plain[0]);
    }

    #[test]
    fn linear_yarn_and_dynamic_scaling_extend_the_context() {
        for (scaling, extends) in [
            (Value::Null, false),
            (
                serde_json::json!({"rope_type": "linear", "factor": 4.0}),
                true,
            ),
            (serde_json::json!({"type": "dynamic", "factor": 2.0}), true),
            (
                serde_json::json!({"rope_type": "yarn", "factor": 4.0}),
                true,
            ),
        ] {
            let name = scaling.to_string();
            assert_eq!(read(scaling).extends_context(), extends, "{name}");
        }
    }

    /// Digests of 1 / θ^(2i/d) with exponent, power and quotient rounded to f32, made with NumPy.
    #[test]
    fn frequencies_are_rounded_as_in_training_at_every_head_width() {
        let table = [
            (6, 0x0512_e574),
            (24, 0x05e3_3ba6),
            (48, 0x41e2_2a8d),
            (80, 0xc924_84e3),
            (96, 0xd08c_00fd),
            (100, 0xad56_bf7b),
            (128, 0xda76_6388),
        ];
        for (width, expected) in table {
            let frequencies = Rope::new(10_000.0, width, 64).frequencies(10).0;
            let bits = frequencies.into_iter().map(f32::to_bits);
            let digest = bits.fold(0u32, |sum, bits| sum.wrapping_mul(31).wrapping_add(bits));
            assert_eq!(digest, expected, "width {width}");
        }
    }

    #[test]
    fn an_inverse_rotation_undoes_a_rotation() {
        let table = Rope::new(10_000.0, 8, 64).table(64);
        let row: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let mut rotated = row.clone();
        table.rotate(&mut rotated, &[37], 8, false);
        assert!((rotated[1] - row[1]).abs() > 0.1);
        table.rotate(&mut rotated, &[37], 8, true);
        for (a, b) in rotated.iter().zip(&row) {
            assert!((a - b).abs() < 1e-4);
        }
    }

    #[test]
    fn an_unknown_scaling_is_reported_by_name() {
        let json = serde_json::json!({"rope_scaling": {"rope_type": "spiral"}});
        let error = Rope::read(json.as_object().unwrap(), "full_attention", 16, 64).unwrap_err();
        assert!(error.to_string().contains("spiral"), "{error}");
    }
}
