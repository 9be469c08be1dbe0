//! Layers on a device: the matrices of layered edges, and where their vectors lie.

use crate::Result;
use crate::kernel::gpu::Device;
use crate::kernel::gpu::table::DeviceTable;
use crate::signal::Mechanism;

/// Matrices of layered edges on a device, and offsets of their vectors in the values of the mechanism.
pub(crate) struct DeviceLayers {
    /// W of all layers. `[L·Z, 2 D]`
    pub edge: DeviceTable,
    /// A of all layers. `[L·D, X]`
    pub mix: DeviceTable,
    /// R. `[D, D]`
    pub read: DeviceTable,
    /// g of all layers. `[L, D]`
    pub gain: u32,
    /// b of all layers. `[L, Z]`
    pub edge_bias: u32,
    /// g' of the read-out. `[D]`
    pub read_gain: u32,
    /// a. `[D]`
    pub read_bias: u32,
}

impl DeviceLayers {
    /// Upload the matrices, and append the vectors to `values`.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn upload(device: &Device, mechanism: &Mechanism, values: &mut Vec<f32>) -> Result<Self> {
        let (profile, weights) = (mechanism.profile(), mechanism.weights());
        let mut put = |name: &str| {
            let offset = values.len() as u32;
            values.extend_from_slice(weights.values(name));
            offset
        };
        // Rows are runs of what a matrix multiplies: two signals, or c and each bank.
        let table = |name: &str, run: usize| {
            DeviceTable::upload(device, weights.table(name), run, "matrices of layers")
        };
        Ok(Self {
            gain: put("layer.gain"),
            edge_bias: put("layer.edge_bias"),
            read_gain: put("read.gain"),
            read_bias: put("read.bias"),
            edge: table("layer.edge", profile.width)?,
            mix: table("layer.mix", profile.inner)?,
            read: table("read.mix", profile.width)?,
        })
    }

    /// The matrices.
    pub fn tables(&self) -> [&DeviceTable; 3] {
        [&self.edge, &self.mix, &self.read]
    }
}
