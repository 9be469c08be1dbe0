//! A mechanism on a device: its weights as the kernels read them, shared by everything that decodes there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Result;
use crate::graph::NodeId;
use crate::hook::Hooks;
use crate::kernel::element::Element;
use crate::kernel::gpu::fans::{FanRows, Fans, PageCounts};
use crate::kernel::gpu::sequences::Blocks;
use crate::kernel::gpu::table::{DeviceTable, NodeRecords, padded};
use crate::kernel::gpu::{Buffer, Device};
use crate::kernel::table::Table;
use crate::signal::edge_shaders::EdgeShaders;
use crate::signal::{BlendKind, EdgeForm, Mechanism, Profile};

/// The constants of kernels that a profile's sizes decide.
pub(crate) fn size_constants(profile: &Profile) -> [(&'static str, u32); 4] {
    let blend = match profile.blend {
        BlendKind::Position => 0,
        BlendKind::Decay => 1,
        BlendKind::Gated => 2,
    };
    [
        ("BLEND", blend),
        ("D", profile.width as u32),
        ("W", padded(profile.width) as u32),
        ("BANKS", profile.banks as u32),
    ]
}

/// A [`Mechanism`] whose weights lie on a device.
///
/// Node tables stay whole; fans stay where they fit, else they are brought in as paths reach them.
pub struct DeviceMechanism {
    mechanism: Arc<Mechanism>,
    device: Device,
    /// Own matrices, or own residuals of composed edges.
    fans: Option<Mutex<Fans>>,
    /// β of all nodes, for composed edges.
    pub(crate) targets: Option<DeviceTable>,
    /// What a node needs when a signal reaches it.
    pub(crate) records: Option<NodeRecords>,
    /// Offsets of the fans `[V + 1]`, then targets `[E]`.
    pub(crate) graph: Buffer,
    /// Own slots. `[E]`
    pub(crate) edge_rows: Buffer,
    /// Lift and own rest of each edge. `[E, 2]`
    pub(crate) lifts: Buffer,
    /// Numbers of nodes and small blocks of parameters.
    pub(crate) values: Buffer,
    /// Offsets in `values`.
    pub(crate) blocks: Blocks,
    /// What rewrites resistances before a choice.
    edge_shaders: Option<EdgeShaders>,
}

impl std::fmt::Debug for DeviceMechanism {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "DeviceMechanism({:?})", self.device)
    }
}

impl DeviceMechanism {
    /// Puts a mechanism on a device.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`](crate::ErrorKind::Resource) when node tables or a single fan do not fit;
    /// a checksum error of a fan.
    pub fn upload(device: &Device, mechanism: Arc<Mechanism>) -> Result<Self> {
        let (profile, graph, weights) =
            (mechanism.profile(), mechanism.graph(), mechanism.weights());
        let (v, d) = (graph.nodes(), profile.width);
        let own_rows = match profile.form {
            EdgeForm::Own => Some((weights.table("edge.arena"), 0)),
            EdgeForm::Composed if profile.residual.is_some() && graph.own_edges() > 0 => {
                Some((weights.table("edge.residual"), 1))
            }
            EdgeForm::Composed => None,
        };
        let fans = own_rows
            .map(|(table, first_row)| {
                let rows = FanRows {
                    table: table.clone(),
                    first_row,
                    width: d,
                    edge_rows: (0..v as u32)
                        .map(|node| graph.own_slots(NodeId(node)))
                        .collect(),
                };
                Fans::upload(device, rows, &|node| mechanism.check_node(node))
            })
            .transpose()?;
        let gated = profile.blend == BlendKind::Gated;
        let (targets, records) = match profile.form {
            EdgeForm::Own => {
                let gate = gated.then(|| (weights.table("blend.gate"), d));
                let records = gate
                    .map(|gate| NodeRecords::upload(device, &[gate], v))
                    .transpose()?;
                (None, records)
            }
            EdgeForm::Composed => {
                let target = weights.table("node.target");
                let mut tables = vec![
                    (target, d),
                    (weights.table("node.scale"), d),
                    (weights.table("node.offset"), d),
                ];
                if gated {
                    tables.push((weights.table("blend.gate"), d));
                }
                if profile.rank > 0 {
                    tables.push((weights.table("node.low_scale"), profile.rank));
                }
                let records = NodeRecords::upload(device, &tables, v)?;
                (
                    Some(DeviceTable::upload(device, target, d, "targets")?),
                    Some(records),
                )
            }
        };
        let offsets: Vec<u32> = graph
            .rows()
            .iter()
            .chain(graph.targets())
            .copied()
            .collect();
        let (values, blocks) = gather_values(&mechanism)?;
        Ok(Self {
            fans: fans.map(Mutex::new),
            targets,
            records,
            graph: device.upload(&offsets, "the graph")?,
            edge_rows: device.upload(graph.edge_rows(), "own slots")?,
            lifts: device.upload(&lifts(&mechanism), "resistances of edges")?,
            values: device.upload(&values, "numbers of nodes")?,
            blocks,
            edge_shaders: None,
            device: device.clone(),
            mechanism,
        })
    }

    /// Has the shaders of the hooks of `edge/1` rewrite resistances before each choice.
    ///
    /// Each is first compared with the function it stands for, on a few fans of this mechanism.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a hook of `edge/1` without a shader;
    /// [`ErrorKind::Plugin`](crate::ErrorKind::Plugin) for a shader that is another function than its hook's;
    /// those of the device.
    pub fn with_hooks(mut self, hooks: &Hooks) -> Result<Self> {
        self.edge_shaders = EdgeShaders::compile(&self.device, &self.mechanism, hooks)?;
        Ok(self)
    }

    /// What rewrites resistances before a choice.
    pub(crate) fn edge_shaders(&self) -> Option<&EdgeShaders> {
        self.edge_shaders.as_ref()
    }

    /// The mechanism.
    pub fn mechanism(&self) -> &Arc<Mechanism> {
        &self.mechanism
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The fans; one caller at a time.
    pub(crate) fn fans(&self) -> Option<MutexGuard<'_, Fans>> {
        let fans = self.fans.as_ref()?;
        Some(fans.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often a fan was on the device when a path reached it; `None` where all fit.
    pub fn page_counts(&self) -> Option<PageCounts> {
        self.fans()
            .filter(|fans| fans.paged())
            .map(|fans| fans.counts())
    }

    /// Buffers that the fans lie in.
    pub fn fan_buffers(&self) -> usize {
        self.fans().map_or(0, |fans| fans.buffers.len())
    }

    /// How the edges, or the node tables of composed ones, are stored.
    pub fn element(&self) -> Element {
        match (&self.targets, self.fans()) {
            (Some(targets), _) => targets.element,
            (None, Some(fans)) => fans.element(),
            (None, None) => Element::F32,
        }
    }

    /// Bytes of weights that one step from a node reads: its own edges and the shared one, or all targets.
    pub fn step_bytes(&self, node: u32) -> u64 {
        let fan = self.fans().map_or(0, |fans| fans.fan_bytes(node));
        let targets = self.targets.as_ref().map_or(0, |targets| {
            targets.pieces.iter().map(|piece| piece.words.bytes()).sum()
        });
        fan + targets
    }
}

/// Numbers with their runs of `width` columns, and of `width` rows, padded.
pub(crate) fn padded_block(
    values: &[f32],
    columns: usize,
    width: usize,
    rows_too: bool,
) -> Vec<f32> {
    if columns == 0 || values.is_empty() {
        return Vec::new();
    }
    let wide = padded(width);
    let columns_wide = if columns % width == 0 && columns > 0 {
        columns / width * wide
    } else {
        columns
    };
    let mut all = Vec::new();
    for (index, row) in values.chunks_exact(columns).enumerate() {
        let start = all.len();
        if columns_wide == columns {
            all.extend_from_slice(row);
        } else {
            for run in row.chunks(width) {
                all.extend_from_slice(run);
                all.resize(all.len() + wide - width, 0.0);
            }
        }
        debug_assert_eq!(all.len() - start, columns_wide);
        if rows_too && index % width == width - 1 {
            all.resize(all.len() + (wide - width) * columns_wide, 0.0);
        }
    }
    all
}

fn gather_values(mechanism: &Mechanism) -> Result<(Vec<f32>, Blocks)> {
    let (profile, weights) = (mechanism.profile(), mechanism.weights());
    let (d, v) = (profile.width, mechanism.nodes());
    let mut all: Vec<f32> = Vec::new();
    let mut put = |values: Vec<f32>| -> u32 {
        let place = all.len() as u32;
        all.extend(values);
        all.resize(all.len().next_multiple_of(4), 0.0);
        place
    };
    let scalars = weights.values("scalars");
    let gamma = scalars.get(1).copied().unwrap_or(1.0);
    let prior_weight = weights
        .values("node.trust")
        .iter()
        .map(|value| gamma + value);
    let block = |name: &str, columns: usize, rows_too: bool| {
        padded_block(weights.values(name), columns, d, rows_too)
    };
    // A rank may happen to be a multiple of the width; its columns are not padded.
    let ranked = |name: &str, columns: usize| -> Vec<f32> {
        let values = weights.values(name);
        if columns == 0 || values.is_empty() {
            return Vec::new();
        }
        let mut all = Vec::new();
        for (index, row) in values.chunks_exact(columns).enumerate() {
            all.extend_from_slice(row);
            if index % d == d - 1 {
                all.resize(all.len() + (padded(d) - d) * columns, 0.0);
            }
        }
        all
    };
    let own = profile.form == EdgeForm::Own;
    let banks = profile.banks * d;
    let residual = profile.residual.unwrap_or(0);
    let beta = match profile.residual {
        Some(_) => padded_block(&weights.table("node.target").to_vec(), d, d, false),
        None => Vec::new(),
    };
    let blocks = Blocks {
        bias: put(weights.values("node.bias").to_vec()),
        resistance: put(mechanism.graph().resistance().target()[..v].to_vec()),
        prior_weight: put(prior_weight.collect()),
        target_norm2: put(mechanism.target_norm2.clone()),
        gain: put(block("node.gain", d, false)),
        decay: put(block("blend.decay", banks, false)),
        gate_signal: put(block("blend.gate_signal", banks, false)),
        mix: put(block(if own { "blend.mix" } else { "edge.mix" }, d, !own)),
        low_in: put(ranked("edge.low_in", profile.rank)),
        low_out: put(block("edge.low_out", d, false)),
        residual_in: put(ranked("edge.residual_in", residual)),
        beta: put(beta),
    };
    Ok((all, blocks))
}

/// How far the log probability of each listed edge lies above an unlisted one's, and what the rest of an own
/// residual adds to ‖β‖². `[E, 2]`
fn lifts(mechanism: &Mechanism) -> Vec<f32> {
    let (graph, weights) = (mechanism.graph(), mechanism.weights());
    let resistance = graph.resistance();
    let d = mechanism.profile().width;
    let own: Option<(&Table, &Table)> = mechanism
        .profile()
        .residual
        .map(|_| (weights.table("node.target"), weights.table("edge.residual")));
    let mut beta = vec![0.0; d];
    let mut row = vec![0.0; own.map_or(0, |(_, residual)| residual.columns())];
    let mut all = Vec::with_capacity(2 * graph.edges());
    for node in 0..graph.nodes() as u32 {
        let source = resistance.source()[node as usize];
        let fan = graph.fan(NodeId(node));
        for ((&target, &edge_row), &seen) in
            fan.targets.iter().zip(fan.edge_rows).zip(fan.resistances)
        {
            all.push(source + resistance.target()[target as usize] - seen);
            let mut rest = 0.0;
            if let Some((targets, residual)) = own
                && edge_row > 0
            {
                targets.read_row(target as usize, &mut beta);
                residual.read_row(edge_row as usize - 1, &mut row);
                rest = beta
                    .iter()
                    .zip(&row)
                    .map(|(b, r)| 2.0 * b * r + r * r)
                    .sum();
            }
            all.push(rest);
        }
    }
    all
}
