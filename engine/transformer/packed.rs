//! Numbers packed into a few bits each, with a scale and an offset for every group.

use half::f16;

use crate::transformer::Codec;

/// A block of numbers, quantised in groups of neighbours.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    codes: Vec<u8>,
    /// Scale and offset of each group.
    groups: Vec<(f16, f16)>,
    bits: u8,
    /// Numbers in a run; groups do not cross the end of one.
    run: usize,
    group: usize,
    length: usize,
}

impl Packed {
    /// Packs runs of `run` numbers. Each number is off by half its group's scale at most, and by what f16
    /// rounds off the offset.
    pub(super) fn new(values: &[f32], run: usize, codec: Codec) -> Self {
        let group = codec.group.min(run).max(1);
        if codec.bits == 16 {
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
        let levels = f32::from((1u16 << codec.bits) - 1);
        let each = 8 / usize::from(codec.bits);
        let mut codes = vec![0u8; values.len().div_ceil(each)];
        let mut groups = Vec::with_capacity(values.len() / group + 1);
        let mut at = 0;
        for run in values.chunks(run) {
            for part in run.chunks(group) {
                let low = part.iter().copied().fold(f32::INFINITY, f32::min);
                let high = part.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let offset = f16::from_f32(low.clamp(-65504.0, 65504.0));
                let span = ((high - offset.to_f32()) / levels).clamp(0.0, 65504.0);
                let scale = f16::from_f32(span);
                let inverse = match scale.to_f32() {
                    0.0 => 0.0,
                    scale => 1.0 / scale,
                };
                for &value in part {
                    let code = ((value - offset.to_f32()) * inverse)
                        .round()
                        .clamp(0.0, levels);
                    let shift = (at % each) * usize::from(codec.bits);
                    codes[at / each] |= (code as u8) << shift;
                    at += 1;
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

    /// The numbers again.
    pub(super) fn unpack(&self) -> Vec<f32> {
        if self.bits == 16 {
            let pairs = self.codes.chunks_exact(2);
            return pairs
                .map(|pair| f16::from_le_bytes([pair[0], pair[1]]).to_f32())
                .collect();
        }
        let each = 8 / usize::from(self.bits);
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
                    let at = values.len();
                    let shift = (at % each) * usize::from(self.bits);
                    let code = (self.codes[at / each] >> shift) & mask;
                    values.push(f32::from(code) * scale + offset);
                }
            }
        }
        values
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        self.codes.len() + self.groups.len() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transformer::Axis;

    #[test]
    fn every_number_is_within_half_a_step() {
        let values: Vec<f32> = (0..300).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        for bits in [2, 4, 8] {
            for (run, group) in [(30, 8), (100, 100), (50, 32), (3, 8)] {
                let codec = Codec {
                    bits,
                    group,
                    axis: Axis::Token,
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
