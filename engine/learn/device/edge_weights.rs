//! Weights of own edges in training: whole fans in buffers, each with its moments. The shared edge is a block.

use crate::graph::{NodeId, TokenGraph};
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{Buffer, Device, Purpose};
use crate::{Error, ErrorKind, Result};

/// One buffer of fans.
pub(super) struct Shard {
    /// Its edge rows, consecutive.
    edge_rows: std::ops::Range<usize>,
    pub value: Buffer,
    pub first: Buffer,
    pub second: Buffer,
    /// Gradients, where the optimiser is dense.
    pub gradient: Option<Buffer>,
}

impl Shard {
    /// Number of its edges.
    pub fn rows(&self) -> usize {
        self.edge_rows.len()
    }
}

/// All own edges.
pub(super) struct EdgeWeights {
    device: Device,
    width: usize,
    pub shards: Vec<Shard>,
    /// The shard of each node's fan, and the row of its first own edge there. `[V]`
    fans: Vec<(u32, u32)>,
    /// First edge row of each node. `[V]`
    first_rows: Vec<u32>,
}

impl EdgeWeights {
    pub fn new(device: &Device, width: usize, graph: &TokenGraph, dense: bool) -> Result<Self> {
        // A matrix of D rows and a bias, each padded to W numbers.
        let row_bytes = (width + 1) * padded(width) * 4;
        let capacity = device.binding_bytes() as usize / row_bytes;
        let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
        let (mut fans, mut first_rows) = (Vec::new(), Vec::new());
        for node in 0..graph.nodes() as u32 {
            let own = graph.own_slots(NodeId(node));
            first_rows.push(own.start as u32);
            if own.len() > capacity {
                return Err(Error::new(
                    ErrorKind::Resource,
                    format!(
                        "the fan of node {node} has {} own edges, and a buffer of this adapter holds {capacity}",
                        own.len()
                    ),
                )
                .advice("raise graph.own-minimum-count or set graph.maximum-fan, or use --backend cpu"));
            }
            if own.is_empty() {
                fans.push((u32::MAX, 0));
                continue;
            }
            // A fan never lies in two buffers: a new buffer begins where the next fan does not fit.
            match ranges.last_mut() {
                Some(range) if range.len() + own.len() <= capacity => range.end = own.end,
                _ => ranges.push(own.clone()),
            }
            let shard = ranges.len() - 1;
            fans.push((shard as u32, (own.start - ranges[shard].start) as u32));
        }
        let shards = ranges
            .into_iter()
            .map(|edge_rows| {
                let bytes = (edge_rows.len() * row_bytes) as u64;
                let buffer = |what| device.buffer(bytes, Purpose::Storage, what);
                Ok(Shard {
                    value: buffer("own edges")?,
                    first: buffer("first moments of own edges")?,
                    second: buffer("second moments of own edges")?,
                    gradient: dense
                        .then(|| buffer("gradients of own edges"))
                        .transpose()?,
                    edge_rows,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            device: device.clone(),
            width,
            shards,
            fans,
            first_rows,
        })
    }

    /// First edge row of a node.
    pub fn first_row(&self, node: u32) -> u32 {
        self.first_rows[node as usize]
    }

    /// The shard of a node's fan, and the row there of one of the node's edge rows.
    pub fn location(&self, node: u32, edge_row: u32) -> (u32, u32) {
        let (shard, row) = self.fans[node as usize];
        (shard, row + edge_row - self.first_rows[node as usize])
    }

    /// Number of the buffer with the shared edge: the one after the shards.
    pub fn shared(&self) -> u32 {
        self.shards.len() as u32
    }

    /// Write all own edges and their moments; slices have the shared edge first.
    pub fn upload(&self, value: &[f32], first: &[f32], second: &[f32]) {
        for shard in &self.shards {
            for (buffer, all) in [
                (&shard.value, value),
                (&shard.first, first),
                (&shard.second, second),
            ] {
                self.write(buffer, shard, all);
            }
        }
    }

    fn write(&self, buffer: &Buffer, shard: &Shard, all: &[f32]) {
        let (d, wide) = (self.width, padded(self.width));
        let columns = d * d + d;
        let rows = &all[shard.edge_rows.start * columns..shard.edge_rows.end * columns];
        if d == wide {
            return self.device.write(buffer, 0, rows);
        }
        // Each row of D numbers is padded to W.
        let mut wider = vec![0.0f32; rows.len() / d * wide];
        for (to, from) in wider.chunks_exact_mut(wide).zip(rows.chunks_exact(d)) {
            to[..d].copy_from_slice(from);
        }
        self.device.write(buffer, 0, &wider);
    }

    /// Read all own edges and their moments back, after the shared edge of each slice.
    pub fn download(&self, value: &mut [f32], first: &mut [f32], second: &mut [f32]) -> Result<()> {
        for shard in &self.shards {
            for (buffer, all) in [
                (&shard.value, &mut *value),
                (&shard.first, &mut *first),
                (&shard.second, &mut *second),
            ] {
                self.read(buffer, shard, all)?;
            }
        }
        Ok(())
    }

    fn read(&self, buffer: &Buffer, shard: &Shard, all: &mut [f32]) -> Result<()> {
        let (d, wide) = (self.width, padded(self.width));
        let columns = d * d + d;
        let rows = &mut all[shard.edge_rows.start * columns..shard.edge_rows.end * columns];
        // In pieces, so that the host does not hold a second copy of all edges.
        let piece = (16 << 20) / columns * columns;
        let mut done = 0;
        for chunk in rows.chunks_mut(piece.max(columns)) {
            let runs = chunk.len() / d;
            let found: Vec<f32> =
                self.device
                    .read(buffer, (done / d * wide * 4) as u64, runs * wide)?;
            for (to, from) in chunk.chunks_exact_mut(d).zip(found.chunks_exact(wide)) {
                to.copy_from_slice(&from[..d]);
            }
            done += chunk.len();
        }
        Ok(())
    }
}
