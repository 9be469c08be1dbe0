//! Speed of decoding on a device, relative to the bandwidth of its memory.

use std::sync::Arc;
use std::time::Instant;

use crate::Result;
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::bytes::Bytes;
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
/// Rows of random weights, a prime number: fans begin at different ones.
const ROWS: usize = 997;
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
    /// Dispatches of a hop.
    pub dispatches: usize,
    /// Gigabytes of fans uploaded per second of decoding, where they do not fit on the device together.
    pub page_in_gb_per_s: Option<f64>,
}

/// A dense graph whose first nodes have own edges to all nodes.
pub struct DeviceDecodeBench {
    sources: usize,
    mechanism: Arc<Mechanism>,
    /// Weights of edges, which repeat: as fast as distinct ones on the device, and more of them than the host holds.
    edges: Table,
}

impl DeviceDecodeBench {
    /// Create random edges of at most `mebibytes` in `element`: 34 GB in f16 are the whole graph of the paper, 4,000² edges
    /// with 16.9 billion parameters.
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
                return zero_table(edges, columns, element).map(Some);
            }
            let values: Vec<f32> = (0..numbers).map(|_| random.normal() as f32 * 0.3).collect();
            Ok(Some(Table::of(&values, block.rows, block.columns)))
        })?;
        let mechanism = Arc::new(Mechanism::new(profile, graph, weights)?);
        let row: Vec<f32> = (0..columns * ROWS)
            .map(|_| random.uniform() as f32 - 0.5)
            .collect();
        Ok(Self {
            sources,
            mechanism,
            edges: Table::of(&row, ROWS, columns).converted(element)?,
        })
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
        let mechanism = self.mechanism.clone();
        let on_device = DeviceMechanism::with_edges(device, mechanism, Some(&self.edges))?;
        let on_device = Arc::new(on_device);
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
            let misses = || on_device.page_counts().map(|counts| counts.misses);
            let before = misses();
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
            let seconds = begun.elapsed().as_secs_f64();
            let paged = misses().zip(before);
            let paged = paged.map(|(after, before)| (after - before) as f64 * fan as f64);
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
                dispatches: decoder.dispatches()?,
                page_in_gb_per_s: paged.map(|bytes| bytes / seconds / 1e9),
            });
        }
        Ok(rows)
    }

    /// Own edges of each fan.
    pub fn edges(&self) -> usize {
        self.mechanism.graph().fan(NodeId(0)).len()
    }
}

/// Create rows of zeros that take no memory: the weights of the graph on the host, which nothing reads.
fn zero_table(rows: usize, columns: usize, element: Element) -> Result<Table> {
    let scales = (element == Element::I8).then(|| Bytes::zeros(rows * 4));
    let data = Bytes::zeros(rows * columns * element.size())?;
    Table::new(rows, columns, element, data, scales.transpose()?)
}
