//! What the forward pass keeps for the backward pass.

use crate::kernel::layered::Widths;
use crate::kernel::real::Real;
use crate::learn::buffers::buffers;
use crate::learn::dropout::{self, Rates};

buffers! {
    /// Buffers of one layer.
    Layer,
    /// One shard's rows of a [`Layer`].
    LayerShard,
    widths: Widths,
    /// s before the layer.
    signals [widths.signal],
    /// 1 / rms(s).
    inverse_rms [1],
    /// n of the node, then n of the one before it.
    nodes [2 * widths.signal],
    /// `[p | q | o]`.
    edge [widths.edge()],
    /// c.
    signal [widths.inner],
    /// λ.
    lambda [widths.memory()],
    /// m.
    banks [widths.memory()],
    /// `[c; 2 m]` with dropout applied.
    blended [widths.blended()],
    /// `A [c; 2 m]`.
    mixed [widths.signal],
    d_edge [widths.edge()],
    d_mixed [widths.signal],
}

buffers! {
    /// Buffers of the read-out.
    Read,
    /// One shard's rows of a [`Read`].
    ReadShard,
    widths: Widths,
    /// s after the last layer.
    signals [widths.signal],
    /// 1 / rms(s).
    inverse_rms [1],
    /// n.
    normal [widths.signal],
    /// h with dropout applied, as the energies see it.
    kept [widths.signal],
    /// Gradient of kept h on return of the loss, then of h.
    d_output [widths.signal],
    /// Gradient of s: after the last layer at first, at last that of s⁰.
    d_signals [widths.signal],
}

/// Buffers of a batch.
pub(super) struct Flow<R> {
    pub(super) layers: Vec<Layer<R>>,
    pub(super) read: Read<R>,
    pub(super) masks: Masks<R>,
}

/// Dropout masks of each sequence.
#[derive(Default)]
pub(super) struct Masks<R> {
    /// Of s⁰. `[B, D]`
    pub(super) input: Vec<R>,
    /// Of `[c; 2 m]` of each layer. `[L, B, X]`
    pub(super) memory: Vec<Vec<R>>,
    /// Of h. `[B, D]`
    pub(super) output: Vec<R>,
    /// Of nodes, the same for all sequences. `[V]`
    pub(super) node: Vec<R>,
}

/// One shard's rows of all buffers.
pub(super) struct Shard<'a, R> {
    pub(super) layers: Vec<LayerShard<'a, R>>,
    pub(super) read: ReadShard<'a, R>,
}

impl<R: Real> Flow<R> {
    pub(super) fn new(layers: usize) -> Self {
        Self {
            layers: (0..layers).map(|_| Layer::default()).collect(),
            read: Read::default(),
            masks: Masks::default(),
        }
    }

    pub(super) fn resize(&mut self, rows: usize, widths: Widths) {
        for layer in &mut self.layers {
            layer.resize(rows, widths);
        }
        self.read.resize(rows, widths);
    }

    /// Split the rows by shard, and lend the masks.
    pub(super) fn shards(
        &mut self,
        steps: usize,
        widths: Widths,
    ) -> (Vec<Shard<'_, R>>, &Masks<R>) {
        let read = self.read.shards(steps, widths).into_iter();
        let mut shards: Vec<_> = read
            .map(|read| Shard {
                layers: Vec::new(),
                read,
            })
            .collect();
        for layer in &mut self.layers {
            for (shard, rows) in shards.iter_mut().zip(layer.shards(steps, widths)) {
                shard.layers.push(rows);
            }
        }
        (shards, &self.masks)
    }
}

impl<R: Real> Masks<R> {
    /// Draw the masks of `sequences` sequences, from sequence `first` on, in the batch of training step `index`.
    pub(super) fn draw(
        &mut self,
        first: usize,
        (sequences, nodes, layers): (usize, usize, usize),
        widths: Widths,
        rates: Rates,
        seed: u64,
        index: u64,
    ) {
        let draw = |mask: &mut Vec<R>, columns: usize, rate, purpose: u64| {
            mask.resize(sequences * columns, R::zero());
            dropout::draw(mask, first, columns, rate, seed ^ purpose, index);
        };
        let d = widths.signal;
        draw(&mut self.input, d, rates.input, dropout::INPUT);
        draw(&mut self.output, d, rates.output, dropout::OUTPUT);
        self.node.resize(nodes, R::zero());
        let purpose = seed ^ dropout::NODE;
        dropout::draw(&mut self.node, 0, nodes, rates.node, purpose, index);
        self.memory.resize_with(layers, Vec::new);
        for (layer, mask) in self.memory.iter_mut().enumerate() {
            let purpose = dropout::MEMORY + layer as u64;
            draw(mask, widths.blended(), rates.memory, purpose);
        }
    }
}
