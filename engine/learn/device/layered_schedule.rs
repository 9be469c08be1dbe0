//! The schedule of a batch of layered edges: its lists, and where everything lies in the workspace.

use super::layered::DeviceLayered;
use super::lists::{Groups, Lists, Regions, source};
use super::readout::Readout;
use super::stage::Part;
use crate::kernel::composed::{EPSILON, KAPPA};
use crate::kernel::gpu::path_composed;
use crate::kernel::gpu::path_layered::Parameters;
use crate::kernel::gpu::table::padded;
use crate::learn::batch::Batch;

/// Layout and lists of a batch; offsets count numbers.
pub(super) struct Plan {
    pub readout: Readout,
    /// Each layer, then the read-out. `[L + 1]`
    pub layers: Vec<Parameters>,
    pub scratch: u32,
    pub squares: u32,
    pub result: u32,
    /// Rows by node.
    pub nodes: Groups,
    pub pieces: [Groups; 2],
    /// Size of the workspace.
    pub floats: usize,
}

impl DeviceLayered {
    /// What all layers share: sizes, lists, masks, and the gradients, which a layer no longer needs when the next begins.
    fn shared(
        &self,
        batch: &Batch,
        part: Part,
        lists: &mut Lists,
        regions: &mut Regions,
    ) -> Parameters {
        let (stage, profile) = (&self.stage, &self.stage.profile);
        let (widths, wide) = (profile.widths(), padded(profile.width));
        let (d, x) = (profile.width, widths.blended());
        let sequences = batch.sequences();
        let rows = sequences * batch.steps;
        let tokens: Vec<u32> = (0..sequences)
            .flat_map(|sequence| batch.sequence(sequence).iter().copied())
            .collect();
        let continued: Vec<u32> = (0..sequences)
            .map(|sequence| {
                let kept = part.first + sequence < self.carried;
                u32::from(batch.continues(sequence) && kept)
            })
            .collect();
        Parameters {
            steps: batch.steps as u32,
            sequences: sequences as u32,
            first: part.first as u32,
            layers: profile.layers as u32,
            tokens: lists.put(&tokens),
            continued: lists.put(&continued),
            beta: stage.blocks.at("node.target"),
            scalars: stage.blocks.at("scalars"),
            mask_node: regions.take(stage.nodes),
            mask_input: regions.take(sequences * wide),
            mask_output: regions.take(sequences * wide),
            before: regions.take(sequences * self.state_columns()),
            kept: regions.take(rows * wide),
            d_output: regions.take(rows * wide),
            d_normals: regions.take(rows * 2 * d),
            d_signals: regions.take(rows * d),
            d_gain: regions.take(rows * d),
            d_mixed: regions.take(rows * d),
            d_blended: regions.take(rows * x),
            d_edge: regions.take(rows * widths.edge()),
            d_target: regions.take(rows * wide),
            kappa: KAPPA as f32,
            epsilon: EPSILON as f32,
            ..Parameters::default()
        }
    }

    /// Where one layer lies, or the read-out, above the layer `below`.
    fn layer(
        &self,
        index: usize,
        shared: Parameters,
        below: Option<&Parameters>,
        regions: &mut Regions,
    ) -> Parameters {
        let (stage, profile) = (&self.stage, &self.stage.profile);
        let (d, widths) = (profile.width, profile.widths());
        let (x, z) = (widths.blended(), widths.edge());
        let rows = (shared.sequences * shared.steps) as usize;
        let mut all = Parameters {
            layer: index as u32,
            below_signals: below.map_or(0, |below| below.signals),
            below_edge: below.map_or(0, |below| below.edge),
            below_mixed: below.map_or(0, |below| below.mixed),
            signals: regions.take(rows * d),
            inverse: regions.take(rows),
            normals: regions.take(rows * 2 * d),
            ..shared
        };
        if index == profile.layers {
            all.gain = stage.blocks.at("read.gain");
            all.bias = stage.blocks.at("read.bias");
            return all;
        }
        all.gain = stage.blocks.at("layer.gain") + (index * d) as u32;
        all.bias = stage.blocks.at("layer.edge_bias") + (index * z) as u32;
        all.mask_memory = regions.take(shared.sequences as usize * padded(x));
        all.edge = regions.take(rows * z);
        all.signal = regions.take(rows * widths.inner);
        all.banks = regions.take(rows * widths.memory());
        all.blended = regions.take(rows * x);
        all.mixed = regions.take(rows * d);
        all
    }

    /// Lay a part of a batch out: lists go into `lists`, everything else into regions of the workspace. `carries` keeps the state
    /// after the last step.
    pub(super) fn plan(&self, batch: &Batch, part: Part, carries: bool, lists: &mut Lists) -> Plan {
        let (stage, profile) = (&self.stage, &self.stage.profile);
        let rows = batch.sequences() * batch.steps;
        let nodes = lists.by_key((0..rows).map(|row| (source(batch, row), row as u32)));
        let pieces = lists.pieces(rows);
        let mut regions = Regions::default();
        // The rows follow the result: both are read back at once.
        let result = regions.take(4);
        let shared = Parameters {
            rows: regions.take(rows * 4),
            carries: u32::from(carries),
            ..self.shared(batch, part, lists, &mut regions)
        };
        let mut layers: Vec<Parameters> = Vec::new();
        for index in 0..=profile.layers {
            let layer = self.layer(index, shared, layers.last(), &mut regions);
            layers.push(layer);
        }
        // V logits a row: as many rows at once as the limit allows.
        let chunk = stage.softmax_rows(rows);
        let at = path_composed::Batch {
            tokens: shared.tokens,
            folds: lists.put(&batch.folds),
            kept: shared.kept,
            logits: regions.take(chunk * stage.nodes),
            rows: shared.rows,
            d_output: shared.d_output,
            ..stage.readout_at(batch.steps)
        };
        Plan {
            readout: Readout {
                at,
                walks: lists.walks(&stage.walks, batch),
                chunk,
                total: part.rows,
                residual: false,
            },
            layers,
            // Large enough for the widest sum over all rows.
            scratch: regions.take(pieces[0].count * profile.widths().edge().max(4)),
            squares: regions.take(stage.norm_pieces()),
            result,
            nodes,
            pieces,
            floats: regions.end,
        }
    }
}
