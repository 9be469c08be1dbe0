//! Mechanisms on a device: weights laid out for the kernels, shared by all decoders.

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
use crate::signal::device_layers::DeviceLayers;
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
/// Node tables are uploaded whole; so are fans where they fit, otherwise they are paged as paths reach them.
pub struct DeviceMechanism {
    mechanism: Arc<Mechanism>,
    device: Device,
    /// Own matrices, or own residuals of composed edges.
    fans: Option<Mutex<Fans>>,
    /// Matrices of layered edges.
    pub(crate) layers: Option<DeviceLayers>,
    /// β of all nodes, for composed and layered edges.
    pub(crate) targets: Option<DeviceTable>,
    /// Rows of the tables that the update of a node reads.
    pub(crate) records: Option<NodeRecords>,
    /// The graph, as `fans.wgsl` describes it.
    pub(crate) graph: Buffer,
    /// Offsets in `graph`: the target of each edge row, and the walks longer than an edge.
    pub(crate) graph_at: [u32; 2],
    /// Numbers of nodes and small blocks of parameters.
    pub(crate) values: Buffer,
    /// Offsets in `values`.
    pub(crate) blocks: Blocks,
    /// Shaders of plugins that change resistances before a choice.
    edge_shaders: Option<EdgeShaders>,
}

impl std::fmt::Debug for DeviceMechanism {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "DeviceMechanism({:?})", self.device)
    }
}

impl DeviceMechanism {
    /// Upload a mechanism.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`](crate::ErrorKind::Resource) when node tables or a single fan do not fit;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where other processes hold some of the own edges; a
    /// checksum error of a fan.
    pub fn upload(device: &Device, mechanism: Arc<Mechanism>) -> Result<Self> {
        Self::with_edges(device, mechanism, None)
    }

    /// Upload a mechanism whose own edges have the weights of `edges` instead of its own, again and again: more edges than
    /// the memory of the host holds.
    ///
    /// # Errors
    /// As [`Self::upload`].
    pub fn with_edges(
        device: &Device,
        mechanism: Arc<Mechanism>,
        edges: Option<&Table>,
    ) -> Result<Self> {
        mechanism.check_whole("a graphics card")?;
        let (profile, graph, weights) =
            (mechanism.profile(), mechanism.graph(), mechanism.weights());
        let (v, d) = (graph.nodes(), profile.width);
        // The first edge row that a table holds: row 0 of own edges is the shared edge, and residuals have no such row.
        let own_rows = match profile.form {
            EdgeForm::Own => Some((edges.unwrap_or(weights.table("edge.arena")), 0)),
            EdgeForm::Composed if profile.residual.is_some() && graph.own_edges() > 0 => {
                Some((weights.table("edge.residual"), 1))
            }
            EdgeForm::Composed | EdgeForm::Layered => None,
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
        let (targets, records) = node_tables(device, &mechanism)?;
        let (numbers, graph_at) = graph_numbers(&mechanism);
        let (mut values, blocks) = gather_values(&mechanism)?;
        let layers = (profile.form == EdgeForm::Layered)
            .then(|| DeviceLayers::upload(device, &mechanism, &mut values))
            .transpose()?;
        Ok(Self {
            fans: fans.map(Mutex::new),
            layers,
            targets,
            records,
            graph: device.upload(&numbers, "the graph")?,
            graph_at,
            values: device.upload(&values, "numbers of nodes")?,
            blocks,
            edge_shaders: None,
            device: device.clone(),
            mechanism,
        })
    }

    /// Use the shaders of the hooks of `edge/1` to change resistances before each choice.
    ///
    /// Compares each shader with its hook's function first, on a few fans of this mechanism.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a hook of `edge/1` without a shader;
    /// [`ErrorKind::Plugin`](crate::ErrorKind::Plugin) for a shader whose results differ from its function's;
    /// errors of the device.
    pub fn with_hooks(mut self, hooks: &Hooks) -> Result<Self> {
        self.edge_shaders = EdgeShaders::compile(&self.device, &self.mechanism, hooks)?;
        Ok(self)
    }

    /// Shaders of plugins that change resistances before a choice.
    pub(crate) fn edge_shaders(&self) -> Option<&EdgeShaders> {
        self.edge_shaders.as_ref()
    }

    /// The mechanism on the host.
    pub fn mechanism(&self) -> &Arc<Mechanism> {
        &self.mechanism
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Lock the fans.
    pub(crate) fn fans(&self) -> Option<MutexGuard<'_, Fans>> {
        // The decoders of all sessions share the fans on the device, and paging moves fans: one decoder at a time.
        let fans = self.fans.as_ref()?;
        Some(fans.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts of paging; `None` where all fans are on the device.
    pub fn page_counts(&self) -> Option<PageCounts> {
        self.fans()
            .filter(|fans| fans.paged())
            .map(|fans| fans.counts())
    }

    /// Number of buffers of fans.
    pub fn fan_buffers(&self) -> usize {
        self.fans().map_or(0, |fans| fans.buffers.len())
    }

    /// Element in which edges, or the node tables of composed edges, are stored.
    pub fn element(&self) -> Element {
        match (&self.targets, self.fans()) {
            (Some(targets), _) => targets.element,
            (None, Some(fans)) => fans.element(),
            (None, None) => Element::F32,
        }
    }

    /// Bytes of weights that one hop from a node reads: its own edges, all targets and all layers.
    pub fn step_bytes(&self, node: u32) -> u64 {
        let fan = self.fans().map_or(0, |fans| fans.fan_bytes(node));
        let layers = self.layers.iter().flat_map(DeviceLayers::tables);
        let tables = self.targets.iter().chain(layers);
        fan + tables.map(DeviceTable::bytes).sum::<u64>()
    }
}

/// Upload β of all nodes, for composed and layered edges, and the rows that the update of a node reads.
fn node_tables(
    device: &Device,
    mechanism: &Mechanism,
) -> Result<(Option<DeviceTable>, Option<NodeRecords>)> {
    let (profile, weights, v) = (mechanism.profile(), mechanism.weights(), mechanism.nodes());
    let d = profile.width;
    // Rows that the update of a node reads, in the order in which the kernels read them.
    let gated = profile.blend == BlendKind::Gated;
    Ok(match profile.form {
        EdgeForm::Own => {
            let gate = gated.then(|| (weights.table("blend.gate"), d));
            let records = gate
                .map(|gate| NodeRecords::upload(device, &[gate], v))
                .transpose()?;
            (None, records)
        }
        EdgeForm::Composed | EdgeForm::Layered => {
            let target = weights.table("node.target");
            let mut tables = vec![(target, d)];
            if profile.form == EdgeForm::Composed {
                tables.push((weights.table("node.scale"), d));
                tables.push((weights.table("node.offset"), d));
                if gated {
                    tables.push((weights.table("blend.gate"), d));
                }
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
    })
}

/// Pad runs of `width` columns, and with `rows_too` of `width` rows, of a block.
pub(crate) fn padded_block(
    values: &[f32],
    columns: usize,
    width: usize,
    rows_too: bool,
) -> Vec<f32> {
    if columns == 0 || values.is_empty() {
        return Vec::new();
    }
    // Kernels read four numbers at a time: runs of D numbers are padded with zeros to W, a multiple of four.
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

/// Collect the numbers of nodes and small blocks, and their offsets.
fn gather_values(mechanism: &Mechanism) -> Result<(Vec<f32>, Blocks)> {
    let (profile, weights) = (mechanism.profile(), mechanism.weights());
    let (d, v) = (profile.width, mechanism.nodes());
    let mut all: Vec<f32> = Vec::new();
    // Every block begins at a multiple of four numbers.
    let mut put = |values: Vec<f32>| -> u32 {
        let offset = all.len() as u32;
        all.extend(values);
        all.resize(all.len().next_multiple_of(4), 0.0);
        offset
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
    // Edges with a residual need β itself: their energies are not linear in h·β.
    let beta = match profile.residual {
        Some(_) => padded_block(&weights.table("node.target").to_vec(), d, d, false),
        None => Vec::new(),
    };
    let blocks = Blocks {
        bias: put(weights.values("node.bias").to_vec()),
        resistance: put(mechanism
            .graph()
            .resistance_within(mechanism.order())
            .target()[..v]
            .to_vec()),
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

/// Collect the graph as kernels read it, and the offsets of the targets of edge rows and of the walks.
///
/// All in one buffer, since an adapter may bind eight in all.
fn graph_numbers(mechanism: &Mechanism) -> (Vec<u32>, [u32; 2]) {
    let graph = mechanism.graph();
    let mut numbers = [graph.rows(), graph.targets(), graph.edge_rows()].concat();
    numbers.extend(lifts(mechanism).iter().map(|lift| lift.to_bits()));
    let targets = numbers.len();
    numbers.resize(targets + 1 + graph.own_edges(), 0);
    for (&target, &edge_row) in graph.targets().iter().zip(graph.edge_rows()) {
        numbers[targets + edge_row as usize] = target;
    }
    let walks = numbers.len();
    add_walks(mechanism, &mut numbers);
    (numbers, [targets as u32, walks as u32])
}

/// Append the walks of the orders in use to the numbers of the graph: how many lengths they have, the offsets of five
/// arrays for each, then these.
fn add_walks(mechanism: &Mechanism, numbers: &mut Vec<u32>) {
    let levels = mechanism
        .graph()
        .paths()
        .map_or(&[][..], |paths| paths.levels());
    let levels = &levels[..levels.len().min(mechanism.order() - 2)];
    let header = numbers.len() + 1;
    numbers.push(levels.len() as u32);
    numbers.resize(header + 5 * levels.len(), 0);
    for (index, level) in levels.iter().enumerate() {
        for (array, values) in level.numbers().into_iter().enumerate() {
            numbers[header + 5 * index + array] = numbers.len() as u32;
            numbers.extend(values);
        }
    }
}

/// For each edge: how far its log probability lies above an unlisted edge's, and 2 β·r + ‖r‖², what the bias of its own
/// residual adds to ‖β‖². `[E, 2]`
fn lifts(mechanism: &Mechanism) -> Vec<f32> {
    let (graph, weights) = (mechanism.graph(), mechanism.weights());
    let resistance = graph.resistance_within(mechanism.order());
    let d = mechanism.profile().width;
    let own: Option<(&Table, &Table)> = mechanism
        .profile()
        .residual
        .map(|_| (weights.table("node.target"), weights.table("edge.residual")));
    let mut beta = vec![0.0; d];
    let mut row = vec![0.0; own.map_or(0, |(_, residual)| residual.columns())];
    let mut all = Vec::with_capacity(2 * graph.edges());
    for node in 0..graph.nodes() as u32 {
        for edge in graph.row(NodeId(node)) {
            let (target, edge_row) = (graph.targets()[edge], graph.edge_rows()[edge]);
            all.push(resistance.lift(node, target, edge));
            let mut rest = 0.0;
            // ‖β + r‖² − ‖β‖²
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
