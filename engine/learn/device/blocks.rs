//! Parameters in training on a device: all blocks in one buffer; gradients and moments in buffers of the same layout.

use std::borrow::Cow;

use crate::Result;
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{Buffer, Device, Purpose};

/// One block of parameters.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub name: Cow<'static, str>,
    /// Offset in every buffer; counts numbers.
    pub offset: u32,
    /// Rows and columns on the device, where runs of D numbers are padded.
    pub rows: usize,
    pub columns: usize,
    /// Rows and columns on the host.
    host: [usize; 2],
    pub decays: bool,
}

/// All blocks.
pub(super) struct Blocks {
    device: Device,
    width: usize,
    pub list: Vec<Block>,
    /// Length of each buffer.
    pub numbers: usize,
    pub values: Buffer,
    pub gradients: Buffer,
    pub first: Buffer,
    pub second: Buffer,
    /// Running averages of the values, where they are kept.
    pub averages: Option<Buffer>,
}

/// Whether the rows, and the columns, of a block are runs of D numbers.
fn runs(name: &str) -> (bool, bool) {
    match name {
        "edge.mix" => (true, true),
        "edge.low_in" | "edge.residual_in" => (true, false),
        "blend.positions" | "node.bias" | "node.trust" | "scalars" | "node.low_scale" => {
            (false, false)
        }
        // Products read the matrices of layers at any distance of rows.
        _ if name.starts_with("layer.") || name.starts_with("read.") => (false, false),
        _ => (false, true),
    }
}

impl Blocks {
    /// Allocate blocks of these names and shapes; the flag says whether they decay. `averages` allocates averages too.
    pub fn new(
        device: &Device,
        width: usize,
        shapes: &[(Cow<'static, str>, [usize; 2], bool)],
        averages: bool,
    ) -> Result<Self> {
        let wide = |count: usize, run: bool| {
            if run {
                count / width * padded(width)
            } else {
                count
            }
        };
        let mut end = 0usize;
        let list = shapes
            .iter()
            .map(|(name, host, decays)| {
                let (host, decays) = (*host, *decays);
                let (rows_run, columns_run) = runs(name);
                let (rows, columns) = (wide(host[0], rows_run), wide(host[1], columns_run));
                let offset = end as u32;
                end += (rows * columns).next_multiple_of(4);
                Block {
                    name: name.clone(),
                    offset,
                    rows,
                    columns,
                    host,
                    decays,
                }
            })
            .collect();
        let buffer = |what| device.buffer((end * 4) as u64, Purpose::Storage, what);
        Ok(Self {
            values: buffer("parameters")?,
            gradients: buffer("gradients")?,
            first: buffer("first moments")?,
            second: buffer("second moments")?,
            averages: averages.then(|| buffer("averages")).transpose()?,
            device: device.clone(),
            width,
            list,
            numbers: end,
        })
    }

    /// Offset of a block; 0 for one that the profile does not have.
    pub fn at(&self, name: &str) -> u32 {
        let found = self.list.iter().find(|block| block.name == name);
        found.map_or(0, |block| block.offset)
    }

    /// Index on the device, within the block, of each number on the host.
    fn padded_indices(&self, block: &Block) -> Vec<usize> {
        // Runs of D numbers are padded to W, so number i of a run is at ⌊i / D⌋ W + i mod D.
        let (rows_run, columns_run) = runs(&block.name);
        let wide = |index: usize, run: bool| {
            if run {
                index / self.width * padded(self.width) + index % self.width
            } else {
                index
            }
        };
        let [rows, columns] = block.host;
        let columns: Vec<usize> = (0..columns)
            .map(|column| wide(column, columns_run))
            .collect();
        (0..rows)
            .flat_map(|row| {
                let start = wide(row, rows_run) * block.columns;
                columns.iter().map(move |column| start + column)
            })
            .collect()
    }

    /// Write the numbers of one block to one of the buffers.
    pub fn write(&self, block: &Block, buffer: &Buffer, values: &[f32]) {
        let offset = u64::from(block.offset) * 4;
        if block.rows * block.columns == values.len() {
            return self.device.write(buffer, offset, values);
        }
        let mut all = vec![0.0f32; block.rows * block.columns];
        for (&index, &value) in self.padded_indices(block).iter().zip(values) {
            all[index] = value;
        }
        self.device.write(buffer, offset, &all);
    }

    /// Read the numbers of one block from one of the buffers.
    pub fn read(&self, block: &Block, buffer: &Buffer) -> Result<Vec<f32>> {
        let count = block.rows * block.columns;
        if count == 0 {
            return Ok(Vec::new());
        }
        let offset = u64::from(block.offset) * 4;
        let all: Vec<f32> = self.device.read(buffer, offset, count)?;
        if count == block.host[0] * block.host[1] {
            return Ok(all);
        }
        let indices = self.padded_indices(block);
        Ok(indices.iter().map(|&index| all[index]).collect())
    }
}
