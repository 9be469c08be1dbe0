//! What the forward pass keeps for the backward pass, whole and by shard.

use crate::kernel::real::Real;
use crate::learn::buffers::buffers;
use crate::learn::dropout;
use crate::signal::Profile;

/// Columns of the buffers of a profile.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    /// Signal width D.
    pub(super) d: usize,
    /// Banks K·D.
    pub(super) g: usize,
    /// Blended signal X = D + K·D.
    pub(super) x: usize,
    /// Rank of the low-rank part R.
    pub(super) rank: usize,
}

impl Columns {
    pub(super) fn of(profile: &Profile) -> Self {
        Self {
            d: profile.width,
            g: profile.banks * profile.width,
            x: profile.blended(),
            rank: profile.rank,
        }
    }
}

buffers! {
    /// Buffers of a batch; rows ordered shard, step, sequence.
    Flow,
    /// One shard's rows of a [`Flow`].
    Shard,
    columns: Columns,
    /// z.
    preactivation [columns.d],
    /// 1 / rms(z).
    inverse_rms [1],
    /// y, before the activation.
    before [columns.d],
    /// c.
    signal [columns.d],
    /// m.
    banks [columns.g],
    /// x = [c; 2 m].
    blended [columns.x],
    /// λ.
    lambda [columns.g],
    /// x A.
    mixed [columns.d],
    /// x B.
    low [columns.rank],
    /// h.
    output [columns.d],
    /// h with dropout applied, as the energies see it.
    kept [columns.d],
    /// Dropout mask on β in the activation.
    mask_node [columns.d],
    /// Dropout mask on h.
    mask_out [columns.d],
    /// Gradient of kept h on return of the loss, then of h.
    d_output [columns.d],
    d_mixed [columns.d],
    d_low [columns.rank],
    /// Gradient of the logits of λ.
    d_gate [columns.g],
    /// Gradient of β of the node reached.
    d_target [columns.d],
    /// Gradient of z, and so of the previous h.
    d_preactivation [columns.d],
    d_before [columns.d],
}

impl<R: Real> Flow<R> {
    /// Draw the masks of all rows, the first of which is row `first` of its training step.
    pub(super) fn draw_masks(
        &mut self,
        first: usize,
        d: usize,
        dropout: f64,
        seed: u64,
        index: u64,
    ) {
        // "node" and "out" in ASCII: two independent streams under one seed.
        let (node, out) = (seed ^ 0x6e6f_6465, seed ^ 0x6f75_7400);
        dropout::draw(&mut self.mask_node, first, d, dropout, node, index);
        dropout::draw(&mut self.mask_out, first, d, dropout, out, index);
    }
}

/// The rows of one step of a [`Shard`] as kernel paths; a macro, so that its gradients can be borrowed beside them.
macro_rules! paths {
    ($flow:ident, $rows:expr, $columns:ident) => {{
        let span = |count: usize| $rows.start * count..$rows.end * count;
        $crate::kernel::composed::Paths {
            preactivation: &mut $flow.preactivation[span($columns.d)],
            inverse_rms: &mut $flow.inverse_rms[$rows.clone()],
            before: &mut $flow.before[span($columns.d)],
            mask: &$flow.mask_node[span($columns.d)],
            signal: &mut $flow.signal[span($columns.d)],
            lambda: &mut $flow.lambda[span($columns.g)],
            banks: &mut $flow.banks[span($columns.g)],
            blended: &mut $flow.blended[span($columns.x)],
            mixed: &mut $flow.mixed[span($columns.d)],
            low: &mut $flow.low[span($columns.rank)],
            output: &mut $flow.output[span($columns.d)],
        }
    }};
}
pub(super) use paths;
