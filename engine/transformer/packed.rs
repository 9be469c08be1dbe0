//! Numbers quantised to 2, 4 or 8 bits with a scale and an offset for each group, or to half precision.
//!
//! `x ≈ offset + scale · code` with `offset = min x` and `scale = (max x − min x) / (2^bits − 1)` over a group.

use half::f16;

use crate::transformer::Codec;

/// Quantised numbers.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    codes: Vec<u8>,
    /// Scale and offset of each group.
    groups: Vec<(f16, f16)>,
    bits: u8,
    /// Numbers in a run; a group does not extend beyond its run.
    run: usize,
    group: usize,
    length: usize,
}

impl Packed {
    /// Quantise runs of `run` numbers. The error of a number is at most half its group's scale, plus the rounding of the
    /// offset to f16.
    pub(super) fn new(values: &[f32], run: usize, codec: Codec) -> Self {
        let group = codec.group.min(run).max(1);
        if codec.bits == 16 {
            // Half precision needs no scale: values beyond its range are clamped.
            let halves = values
                .iter()
                .map(|&value| f16::from_f32(value.clamp(-65504.0, 65504.0)));
            return Self {
                codes: halves.flat_map(f16::to_le_bytes).collect(),
                groups: Vec::new(),
                bits: 16,
                run,
                group,
                length: values.len(),
            };
        }
        // Codes are 0 … 2^bits − 1.
        let levels = f32::from((1u16 << codec.bits) - 1);
        let per_byte = 8 / usize::from(codec.bits);
        let mut codes = vec![0u8; values.len().div_ceil(per_byte)];
        let mut groups = Vec::with_capacity(values.len() / group + 1);
        let mut index = 0;
        for run in values.chunks(run) {
            for numbers in run.chunks(group) {
                // The smallest number of the group is code 0, the largest code 2^bits − 1.
                let low = numbers.iter().copied().fold(f32::INFINITY, f32::min);
                let high = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                // The offset is rounded first, and the scale computed from the rounded offset.
                let offset = f16::from_f32(low.clamp(-65504.0, 65504.0));
                let span = ((high - offset.to_f32()) / levels).clamp(0.0, 65504.0);
                let scale = f16::from_f32(span);
                // Dividing by the rounded scale keeps code · scale near the number. A constant group has scale 0.
                let inverse = match scale.to_f32() {
                    0.0 => 0.0,
                    scale => 1.0 / scale,
                };
                for &value in numbers {
                    let code = ((value - offset.to_f32()) * inverse)
                        .round()
                        .clamp(0.0, levels);
                    // Codes fill a byte from the low bits.
                    let shift = (index % per_byte) * usize::from(codec.bits);
                    codes[index / per_byte] |= (code as u8) << shift;
                    index += 1;
                }
                groups.push((scale, offset));
            }
        }
        Self {
            codes,
            groups,
            bits: codec.bits,
            run,
            group,
            length: values.len(),
        }
    }

    /// Return the approximated numbers.
    pub(super) fn unpack(&self) -> Vec<f32> {
        if self.bits == 16 {
            let pairs = self.codes.chunks_exact(2);
            return pairs
                .map(|pair| f16::from_le_bytes([pair[0], pair[1]]).to_f32())
                .collect();
        }
        let per_byte = 8 / usize::from(self.bits);
        let mask = ((1u16 << self.bits) - 1) as u8;
        let mut values = Vec::with_capacity(self.length);
        let mut groups = self.groups.iter();
        while values.len() < self.length {
            let run = self.run.min(self.length - values.len());
            for from in (0..run).step_by(self.group) {
                let (scale, offset) = groups.next().map_or((0.0, 0.0), |(scale, offset)| {
                    (scale.to_f32(), offset.to_f32())
                });
                for _ in from..(from + self.group).min(run) {
                    let index = values.len();
                    let shift = (index % per_byte) * usize::from(self.bits);
                    let code = (self.codes[index / per_byte] >> shift) & mask;
                    values.push(f32::from(code) * scale + offset);
                }
            }
        }
        values
    }

    /// Return the size in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.codes.len() + self.groups.len() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::CodecAxis;

    #[test]
    fn quantised_numbers_are_within_half_a_step() {
        let values: Vec<f32> = (0..300).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        for bits in [2, 4, 8] {
            for (run, group) in [(30, 8), (100, 100), (50, 32), (3, 8)] {
                let codec = Codec {
                    bits,
                    group,
                    axis: CodecAxis::Token,
                };
                let packed = Packed::new(&values, run, codec);
                let back = packed.unpack();
                assert_eq!(back.len(), values.len());
                let levels = f32::from((1u16 << bits) - 1);
                for (run_before, run_after) in values.chunks(run).zip(back.chunks(run)) {
                    for (part, found) in run_before.chunks(group).zip(run_after.chunks(group)) {
                        let low = part.iter().copied().fold(f32::INFINITY, f32::min);
                        let high = part.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                        let bound = 0.5 * (high - low) / levels + 0.004;
                        for (a, b) in part.iter().zip(found) {
                            assert!((a - b).abs() <= bound, "{bits} bits: {a} became {b}");
                        }
                    }
                }
                let codes = (300 * usize::from(bits)).div_ceil(8);
                assert!(packed.bytes() >= codes && packed.bytes() <= codes + 4 * 300);
            }
        }
    }
}
