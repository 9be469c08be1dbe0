//! The exact softmax over all V targets of a batch, and its gradient, for forms whose energies are `‖h + β_t‖²`;
//! `learn::readout` is the same on the CPU.

use super::lists::{Groups, LOGITS};
use super::product::Product;
use super::stage::{SOFTMAX, Stage};
use crate::Result;
use crate::kernel::gpu::path_composed::Batch;
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{Size, softmax_composed};

/// What the targets of a batch are scored with; offsets count numbers.
pub(super) struct Readout {
    /// Of this the parameters of the logits, the tokens, `kept`, `logits`, `rows` and `d_output`.
    pub at: Batch,
    /// Where the targets of longer walks begin for each row.
    pub walks: u32,
    /// Rows whose logits are stored at once.
    pub chunk: usize,
    /// Rows of the whole batch, over which the loss is averaged.
    pub total: usize,
    /// Whether edges have own residuals.
    pub residual: bool,
}

impl Stage {
    /// Sizes, and offsets of the parameters that logits are formed of.
    pub fn readout_at(&self, steps: usize) -> Batch {
        let block = |name: &str| self.blocks.at(name);
        Batch {
            steps: steps as u32,
            nodes_count: self.nodes as u32,
            edges_count: self.edges as u32,
            uses_prior: u32::from(self.profile.static_resistance),
            beta: block("node.target"),
            scalars: block("scalars"),
            bias: block("node.bias"),
            prior_weight: block("node.trust"),
            lifts: self.lifts,
            ..Batch::default()
        }
    }

    /// Rows of a batch whose logits are stored at once.
    pub fn softmax_rows(&self, rows: usize) -> usize {
        let most = self.device.workgroups() as usize;
        (LOGITS / self.nodes).min(most).clamp(1, rows)
    }

    /// Record the logits of all targets, their softmax and its gradients, a run of rows at a time.
    pub fn softmax(&mut self, readout: &Readout, rows: usize, learn: bool) -> Result<()> {
        let (v, wide) = (self.nodes, padded(self.profile.width));
        let (at, columns) = (readout.at, wide as u32);
        let constants = [
            ("WORKGROUP", self.device.wide_workgroup()),
            ("ROW_LOGITS", self.device.row_logits(v)),
            ("RESIDUAL", u32::from(readout.residual)),
        ];
        for first in (0..rows).step_by(readout.chunk) {
            let count = readout.chunk.min(rows - first);
            let start = first as u32 * columns;
            // kept βᵀ
            self.multiply(&Product {
                shape: [count, v, wide],
                a: [at.kept + start, columns, 1],
                b: [at.beta, 1, columns],
                b_in_values: true,
                c: [at.logits, v as u32],
                c_in_gradients: false,
                alpha: None,
            })?;
            let parameters = softmax_composed::Parameters {
                at,
                first: first as u32,
                learn: u32::from(learn),
                walks: readout.walks,
                weight: 1.0 / readout.total as f32,
            };
            let size = Size::Direct(count as u32, 1, 1);
            let kernel = &softmax_composed::TARGETS;
            self.run(kernel, &constants, &parameters, &SOFTMAX, size)?;
            if learn {
                self.softmax_back(readout, first, count)?;
            }
        }
        Ok(())
    }

    /// Record gradients of the logits of `count` rows from `first` on, into kept h, β and the target biases.
    fn softmax_back(&mut self, readout: &Readout, first: usize, count: usize) -> Result<()> {
        let (v, wide) = (self.nodes, padded(self.profile.width));
        let (at, columns, start) = (readout.at, wide as u32, (first * wide) as u32);
        // d kept = 2 α d_logits β, d β = 2 α d_logitsᵀ kept
        self.multiply(&Product {
            shape: [count, wide, v],
            a: [at.logits, v as u32, 1],
            b: [at.beta, columns, 1],
            b_in_values: true,
            c: [at.d_output + start, columns],
            c_in_gradients: false,
            alpha: Some(at.scalars),
        })?;
        self.multiply(&Product {
            shape: [v, wide, count],
            a: [at.logits, 1, v as u32],
            b: [at.kept + start, columns, 1],
            b_in_values: false,
            c: [at.beta, columns],
            c_in_gradients: true,
            alpha: Some(at.scalars),
        })?;
        if self.profile.target_bias {
            self.column_sums(count, v, at.logits, at.bias)?;
        }
        Ok(())
    }

    /// Record the sums of the rows' gradients of prior weights and scalars.
    pub fn gather_readout(
        &mut self,
        at: &Batch,
        nodes: &Groups,
        pieces: &[Groups; 2],
        scratch: u32,
    ) -> Result<()> {
        // Four numbers for each row: the gradients of ln α, of its prior weight and of κ, and its nats.
        if self.profile.static_resistance {
            self.collect(nodes, 1, (at.rows + 1, 4), None, at.prior_weight)?;
        }
        self.sum(pieces, 3, (at.rows, 4), None, scratch, at.scalars)
    }
}
