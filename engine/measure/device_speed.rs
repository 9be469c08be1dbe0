//! Speed of decoding on a device, relative to the bandwidth of its memory.

use std::sync::Arc;
use std::time::Instant;

use crate::Result;
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::element::Element;
use crate::kernel::gpu::Device;
use crate::kernel::random::Random;
use crate::kernel::table::Table;
use crate::measure::Bandwidth;
use crate::path::{Decoder, Sampling};
use crate::signal::{BlendKind, DeviceMechanism, EnergyKind, Mechanism, Profile, Start, Weights};

/// Nodes of the dense graph, and edges of each of its fans.
const NODES: usize = 4000;
/// Width of its signals.
const WIDTH: usize = 32;
/// Hops of one submission, on a GPU and on a software adapter, where a hop of many prompts takes a second.
const HOPS: [usize; 2] = [64, 2];

/// One row of a device's decoding table.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct DeviceDecodeSpeed {
    /// `f32`, `f16` or `i8`.
    pub storage: &'static str,
    /// Prompts decoded together, at random nodes in every hop.
    pub batch: usize,
    /// Bytes of all edges on the device.
    pub edge_bytes: u64,
    /// Distinct fans of a hop, on average.
    pub distinct_fans: f64,
    /// Milliseconds for a hop of all prompts, many hops in a submission.
    pub ms_per_token: f64,
    /// Gigabytes of edges read per second; each distinct fan of a hop counts once.
    pub gb_per_s: f64,
    /// `gb_per_s` divided by what a kernel that only reads reached in the same run.
    pub fraction_of_read: f64,
}

/// A dense graph whose first nodes have own edges to all nodes.
pub struct DeviceDecodeBench {
    sources: usize,
    mechanism: Arc<Mechanism>,
}

impl DeviceDecodeBench {
    /// Create random edges of at most `mebibytes` in `element`.
    ///
    /// # Errors
    /// As [`Table::new`].
    pub fn new(element: Element, mebibytes: usize) -> Result<Self> {
        let columns = WIDTH * WIDTH + WIDTH;
        let fan = NODES * columns * element.size();
        let sources = ((mebibytes << 20) / fan).clamp(1, NODES);
        let mut rows = vec![0u32; NODES + 1];
        for (node, row) in rows.iter_mut().enumerate() {
            *row = (node.min(sources) * NODES) as u32;
        }
        let targets = (0..sources).flat_map(|_| 0..NODES as u32).collect();
        let graph = TokenGraph::from_rows(rows, targets, vec![1; sources * NODES])?;
        let profile = Profile {
            blend: BlendKind::Decay,
            banks: 1,
            energy: EnergyKind::Norm,
            static_resistance: false,
            target_bias: false,
            ..Profile::sifu_own(WIDTH)
        };
        let mut random = Random::new(1);
        let edges = 1 + sources * NODES;
        let weights = Weights::gather(&profile, NODES, graph.own_edges(), |block| {
            let numbers = block.rows * block.columns;
            if block.name == "edge.arena" {
                return random_table(&mut random, edges, columns, element).map(Some);
            }
            let values: Vec<f32> = (0..numbers).map(|_| random.normal() as f32 * 0.3).collect();
            Ok(Some(Table::of(&values, block.rows, block.columns)))
        })?;
        let mechanism = Arc::new(Mechanism::new(profile, graph, weights)?);
        Ok(Self { sources, mechanism })
    }

    /// Upload the graph and decode batches of prompts of these sizes, each for about `seconds`.
    ///
    /// Draws nodes uniformly among those with own edges, so that every hop reads random fans.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`](crate::ErrorKind::Resource) when the graph does not fit.
    pub fn run(
        &self,
        device: &Device,
        batches: &[usize],
        bandwidth: &Bandwidth,
        seconds: f64,
    ) -> Result<Vec<DeviceDecodeSpeed>> {
        let on_device = Arc::new(DeviceMechanism::upload(device, self.mechanism.clone())?);
        let fan = on_device.step_bytes(0);
        let sampling = Sampling::default()
            // So high that the draw is uniform.
            .temperature(1e6)
            .banned(self.sources as u32..NODES as u32);
        let hops_each = HOPS[usize::from(!device.report().kind.is_real())];
        let mut rows = Vec::new();
        for &batch in batches {
            let mut decoder = Decoder::new(
                on_device.clone(),
                batch,
                hops_each,
                sampling.clone(),
                &[],
                0,
            )?;
            for sequence in 0..batch {
                let mut random = Random::stream(7, 0x6c61_6e65, sequence as u64);
                let node = random.below(self.sources as u64) as u32;
                let flow = self.mechanism.begin(node, &Start::Profile)?;
                decoder.set(sequence, &flow, &random, &[])?;
            }
            decoder.decode(1)?;
            let (mut best, mut distinct, mut hops) = (f64::INFINITY, 0usize, 0usize);
            let begun = Instant::now();
            while hops == 0 || begun.elapsed().as_secs_f64() < seconds {
                let submitted = Instant::now();
                let paths = decoder.decode(hops_each)?;
                best = best.min(submitted.elapsed().as_secs_f64() / hops_each as f64);
                for hop in 0..hops_each {
                    let mut nodes: Vec<u32> = paths.iter().map(|path| path[hop]).collect();
                    nodes.sort_unstable();
                    nodes.dedup();
                    distinct += nodes.len();
                    hops += 1;
                }
            }
            let distinct = distinct as f64 / hops as f64;
            let speed = distinct * fan as f64 / best / 1e9;
            rows.push(DeviceDecodeSpeed {
                storage: on_device.element().name(),
                batch,
                edge_bytes: fan * self.sources as u64,
                distinct_fans: distinct,
                ms_per_token: best * 1e3,
                gb_per_s: speed,
                fraction_of_read: speed / bandwidth.read_gb_per_s,
            });
        }
        Ok(rows)
    }

    /// Own edges of each fan.
    pub fn edges(&self) -> usize {
        self.mechanism.graph().fan(NodeId(0)).len()
    }
}

/// Create rows of uniform random numbers in ±0.5.
fn random_table(
    random: &mut Random,
    rows: usize,
    columns: usize,
    element: Element,
) -> Result<Table> {
    let row: Vec<f32> = (0..columns * 997)
        .map(|_| random.uniform() as f32 - 0.5)
        .collect();
    // 997 random rows, repeated: as fast as distinct ones on the device, and quickly made.
    let few = Table::of(&row, 997, columns).converted(element)?;
    let size = columns * element.size();
    let mut bytes = Vec::with_capacity(rows * size);
    let mut scales = Vec::new();
    for index in 0..rows {
        let at = index % 997;
        bytes.extend_from_slice(&few.bytes()[at * size..(at + 1) * size]);
        if let Some(all) = few.scales() {
            scales.push(all.typed::<f32>()?[at]);
        }
    }
    use crate::kernel::bytes::Bytes;
    let scales = (element == Element::I8).then(|| Bytes::copy_of(&scales));
    Table::new(rows, columns, element, Bytes::copy_of(&bytes), scales)
}
