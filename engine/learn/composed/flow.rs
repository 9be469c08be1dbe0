//! What forward leaves for backward, whole and cut into shards.

use super::SHARD;
use crate::kernel::real::Real;

/// What forward leaves for backward; rows ordered shard, step, sequence.
#[derive(Default)]
pub(super) struct Flow<R> {
    pub(super) preactivation: Vec<R>,
    pub(super) inverse_rms: Vec<R>,
    pub(super) before: Vec<R>,
    pub(super) signal: Vec<R>,
    pub(super) blended: Vec<R>,
    pub(super) lambda: Vec<R>,
    pub(super) mixed: Vec<R>,
    pub(super) low: Vec<R>,
    pub(super) output: Vec<R>,
    pub(super) kept: Vec<R>,
    pub(super) mask_node: Vec<R>,
    pub(super) mask_out: Vec<R>,
    pub(super) probabilities: Vec<R>,
    pub(super) d_leaving: Vec<R>,
    pub(super) d_mixed: Vec<R>,
    pub(super) d_low: Vec<R>,
    pub(super) d_gate: Vec<R>,
    pub(super) d_target: Vec<R>,
    pub(super) d_arrival: Vec<R>,
    pub(super) d_before: Vec<R>,
}

/// One shard's rows of a [`Flow`].
pub(super) struct Shard<'a, R> {
    pub(super) preactivation: &'a mut [R],
    pub(super) inverse_rms: &'a mut [R],
    pub(super) before: &'a mut [R],
    pub(super) signal: &'a mut [R],
    pub(super) blended: &'a mut [R],
    pub(super) lambda: &'a mut [R],
    pub(super) mixed: &'a mut [R],
    pub(super) low: &'a mut [R],
    pub(super) output: &'a mut [R],
    pub(super) kept: &'a mut [R],
    pub(super) mask_node: &'a mut [R],
    pub(super) mask_out: &'a mut [R],
    pub(super) d_leaving: &'a mut [R],
    pub(super) d_mixed: &'a mut [R],
    pub(super) d_low: &'a mut [R],
    pub(super) d_gate: &'a mut [R],
    pub(super) d_target: &'a mut [R],
    pub(super) d_arrival: &'a mut [R],
    pub(super) d_before: &'a mut [R],
}

impl<R: Real> Flow<R> {
    pub(super) fn resize(&mut self, rows: usize, d: usize, k: usize, rank: usize) {
        let sized = |buffer: &mut Vec<R>, columns: usize| buffer.resize(rows * columns, R::zero());
        for buffer in [
            &mut self.preactivation,
            &mut self.before,
            &mut self.signal,
            &mut self.mixed,
            &mut self.output,
            &mut self.kept,
            &mut self.mask_node,
            &mut self.mask_out,
            &mut self.d_leaving,
            &mut self.d_mixed,
            &mut self.d_target,
            &mut self.d_arrival,
            &mut self.d_before,
        ] {
            sized(buffer, d);
        }
        sized(&mut self.inverse_rms, 1);
        sized(&mut self.blended, (1 + k) * d);
        sized(&mut self.lambda, k * d);
        sized(&mut self.d_gate, k * d);
        sized(&mut self.low, rank);
        sized(&mut self.d_low, rank);
    }

    pub(super) fn draw_masks(&mut self, d: usize, dropout: f64, seed: u64, index: u64) {
        crate::learn::dropout::draw(&mut self.mask_node, d, dropout, seed ^ 0x6e6f_6465, index);
        crate::learn::dropout::draw(&mut self.mask_out, d, dropout, seed ^ 0x6f75_7400, index);
    }

    pub(super) fn shards(
        &mut self,
        steps: usize,
        d: usize,
        k: usize,
        rank: usize,
    ) -> Vec<Shard<'_, R>> {
        fn cut<'a, R>(
            buffer: &'a mut [R],
            rows: usize,
            columns: usize,
        ) -> std::slice::ChunksMut<'a, R> {
            buffer.chunks_mut((rows * columns).max(1))
        }
        let rows = SHARD * steps;
        let count = self.inverse_rms.len().div_ceil(rows);
        let mut preactivation = cut(&mut self.preactivation, rows, d);
        let mut inverse_rms = cut(&mut self.inverse_rms, rows, 1);
        let mut before = cut(&mut self.before, rows, d);
        let mut signal = cut(&mut self.signal, rows, d);
        let mut blended = cut(&mut self.blended, rows, (1 + k) * d);
        let mut lambda = cut(&mut self.lambda, rows, k * d);
        let mut mixed = cut(&mut self.mixed, rows, d);
        let mut low = cut(&mut self.low, rows, rank);
        let mut output = cut(&mut self.output, rows, d);
        let mut kept = cut(&mut self.kept, rows, d);
        let mut mask_node = cut(&mut self.mask_node, rows, d);
        let mut mask_out = cut(&mut self.mask_out, rows, d);
        let mut d_leaving = cut(&mut self.d_leaving, rows, d);
        let mut d_mixed = cut(&mut self.d_mixed, rows, d);
        let mut d_low = cut(&mut self.d_low, rows, rank);
        let mut d_gate = cut(&mut self.d_gate, rows, k * d);
        let mut d_target = cut(&mut self.d_target, rows, d);
        let mut d_arrival = cut(&mut self.d_arrival, rows, d);
        let mut d_before = cut(&mut self.d_before, rows, d);
        (0..count)
            .map(|_| Shard {
                preactivation: preactivation.next().unwrap_or_default(),
                inverse_rms: inverse_rms.next().unwrap_or_default(),
                before: before.next().unwrap_or_default(),
                signal: signal.next().unwrap_or_default(),
                blended: blended.next().unwrap_or_default(),
                lambda: lambda.next().unwrap_or_default(),
                mixed: mixed.next().unwrap_or_default(),
                low: low.next().unwrap_or_default(),
                output: output.next().unwrap_or_default(),
                kept: kept.next().unwrap_or_default(),
                mask_node: mask_node.next().unwrap_or_default(),
                mask_out: mask_out.next().unwrap_or_default(),
                d_leaving: d_leaving.next().unwrap_or_default(),
                d_mixed: d_mixed.next().unwrap_or_default(),
                d_low: d_low.next().unwrap_or_default(),
                d_gate: d_gate.next().unwrap_or_default(),
                d_target: d_target.next().unwrap_or_default(),
                d_arrival: d_arrival.next().unwrap_or_default(),
                d_before: d_before.next().unwrap_or_default(),
            })
            .collect()
    }
}
