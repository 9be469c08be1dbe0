//! The layers of layered edges in a hop: two products for each, with a kernel after either.

use super::Decoder;
use super::hop::Hop;
use crate::Result;
use crate::kernel::composed;
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{Kernel, node_layered};
use crate::signal::DeviceLayers;

impl Decoder {
    /// Number of dispatches of a hop for layers.
    pub(super) fn layer_dispatches(&self) -> usize {
        let layers = self.mechanism.mechanism().profile().layers;
        let tables = self.mechanism.layers.iter().flat_map(DeviceLayers::tables);
        let pieces: usize = tables.map(|table| table.pieces.len()).sum();
        // A layer's rows may end in one buffer and begin in another.
        pieces + 4 * layers + 3
    }
}

impl Hop<'_> {
    /// Run the chosen nodes through all layers.
    pub(super) fn layers(&mut self) -> Result<()> {
        let decoder = self.decoder;
        let Some(layers) = &decoder.mechanism.layers else {
            return Ok(());
        };
        let (at, scratch, profile) = (decoder.at, decoder.scratch, self.profile());
        let (d, z) = (profile.width, profile.widths().edge());
        let in_record = |offset: u32| (offset, at.stride);
        let weights = decoder.mechanism.mechanism().weights();
        let mut parameters = node_layered::Parameters {
            at,
            layer: 0,
            carries: 1,
            gain: layers.gain,
            bias: layers.edge_bias,
            normals: scratch.normals,
            memory: scratch.memory,
            mixed: scratch.mixed,
            kappa: composed::kappa(weights.values("scalars")[2]),
            epsilon: composed::EPSILON as f32,
        };
        self.run_layer(&node_layered::ENTER, &parameters)?;
        for layer in 0..profile.layers {
            let rows = layer * z..(layer + 1) * z;
            let columns = in_record(at.preactivation);
            self.multiply(&layers.edge, rows, scratch.normals, columns)?;
            self.run_layer(&node_layered::MEMORY, &parameters)?;
            let rows = layer * d..(layer + 1) * d;
            self.multiply(&layers.mix, rows, scratch.memory, in_record(scratch.mixed))?;
            // The sum is normalised for the next layer; after the last one for the read-out, which no edge reads.
            parameters.layer += 1;
            if layer + 1 < profile.layers {
                parameters.gain += d as u32;
            } else {
                (parameters.carries, parameters.gain) = (0, layers.read_gain);
            }
            self.run_layer(&node_layered::ADD, &parameters)?;
            parameters.bias += z as u32;
        }
        self.multiply(
            &layers.read,
            0..d,
            scratch.normals,
            in_record(scratch.mixed),
        )?;
        parameters.bias = layers.read_bias;
        self.run_layer(&node_layered::LEAVE, &parameters)
    }

    /// One of the kernels between the products.
    fn run_layer(&mut self, kernel: &Kernel, parameters: &node_layered::Parameters) -> Result<()> {
        let (decoder, profile) = (self.decoder, self.profile());
        let constants = [
            ("D", profile.width as u32),
            ("W", padded(profile.width) as u32),
            ("INNER", profile.inner as u32),
            ("INNER_WIDE", padded(profile.inner) as u32),
            ("BANKS", profile.banks as u32),
            ("WORKGROUP", self.device().workgroup()),
        ];
        let pipeline = self.device().pipeline(kernel, &constants)?;
        let values = &decoder.mechanism.values;
        let buffers = [&decoder.floats, &decoder.integers, values];
        let size = self.each_sequence();
        self.program.dispatch(&pipeline, parameters, &buffers, size)
    }
}
