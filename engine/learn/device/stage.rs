//! State and kernels that training shares for both forms of edges: graph, blocks and workspace on a device.

use super::blocks::Blocks;
use super::lists::{Groups, Lists, NONE};
use super::product::partial_numbers;
use crate::Result;
use crate::graph::TokenGraph;
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{
    Buffer, Device, Kernel, Program, Purpose, Size, collect, dropout, position, spread,
};
use crate::kernel::random::Random;
use crate::learn::batch::{Batch, SHARD};
use crate::learn::prior::{Prior, Walks};
use crate::signal::Profile;

/// Dispatches of a program at most; a batch of long sequences needs a few for each step.
const DISPATCHES: usize = 16384;
/// Threads of a workgroup where threads do not wait for each other.
pub(super) const THREADS: u32 = 64;

/// What training needs on a device, apart from the edges.
pub(super) struct Stage {
    pub device: Device,
    pub profile: Profile,
    pub blocks: Blocks,
    /// First edge of each node `[V + 1]`, then targets `[E]`.
    graph: Buffer,
    /// Edge rows. `[E]`
    edge_rows: Buffer,
    /// −ln p1(v) of each fold `[1 + folds, V]`, then lifts `[1 + folds, E]`.
    prior: Buffer,
    /// Offset of the lifts.
    pub lifts: u32,
    /// Walks longer than an edge, by fold.
    pub walks: Walks,
    pub nodes: usize,
    pub edges: usize,
    pub program: Program,
    pub floats: Buffer,
    /// Where the pieces of a product lie in the workspace, after everything else.
    pub partials: u32,
    integers: Buffer,
    /// Whether a step has set the running averages.
    pub averaged: bool,
    /// Whether the batch is a training step; a loss is that of the averages, where they are kept.
    learns: bool,
    /// Sequences of a part of a batch at most, and sequences that are known to fit on the device.
    pub together: [usize; 2],
    /// Parts in which the last batch was computed.
    pub parts: usize,
}

/// A part of a batch, whose gradients are added to those of the parts before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Number of its first sequence.
    pub first: usize,
    /// Whether it is the last one, which ends the step.
    pub last: bool,
    /// Rows of the whole batch.
    pub rows: usize,
}

/// A buffer that a kernel binds.
#[derive(Clone, Copy)]
pub(super) enum Bound<'a> {
    Integers,
    Values,
    Gradients,
    FirstMoments,
    SecondMoments,
    Graph,
    EdgeRows,
    Prior,
    /// A buffer of one form of edges: own edges, or the state that sequences continue from.
    Other(&'a Buffer),
}

/// What the softmax kernels bind after the workspace.
pub(super) const SOFTMAX: [Bound<'static>; 5] = [
    Bound::Integers,
    Bound::Values,
    Bound::Graph,
    Bound::EdgeRows,
    Bound::Prior,
];

/// A dropout mask in the workspace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mask {
    pub at: u32,
    /// Numbers of a row; rows are padded.
    pub width: usize,
    /// Sequences, and rows of each.
    pub rows: [usize; 2],
    /// Rows of the batch before these.
    pub first: usize,
    /// The CPU numbers the rows of so many sequences step by step; 0 for sequence by sequence.
    pub shard: usize,
}

/// Rows of the workspace: offset and distance.
pub(super) type Rows = (u32, usize);

/// Divide a batch into parts whose workspace fits on a device; `floats` is the length of that of a batch, `together` the
/// sequences of a part at most, which becomes less where they do not fit, and those known to fit.
///
/// A part has whole shards: their rows are dropped as in the whole batch.
pub(super) fn parts(
    device: &Device,
    [together, fitting]: &mut [usize; 2],
    batch: &Batch,
    floats: impl Fn(&Batch) -> usize,
) -> Vec<(Part, Batch)> {
    let sequences = batch.sequences();
    let mut each = sequences.min(*together);
    // Measured once: a batch of as many sequences takes about as much.
    while each > SHARD && each > *fitting {
        let numbers = floats(&batch.part(0..each)) + partial_numbers(device);
        if (numbers * 4) as u64 <= device.workspace_bytes() {
            *fitting = each;
        } else {
            each = (each / 2).next_multiple_of(SHARD);
            *together = each;
        }
    }
    let part = |first: usize| {
        let range = first..(first + each).min(sequences);
        let part = Part {
            first,
            last: range.end == sequences,
            rows: sequences * batch.steps,
        };
        (part, batch.part(range))
    };
    (0..sequences).step_by(each.max(1)).map(part).collect()
}

impl Stage {
    pub fn new(
        device: &Device,
        profile: &Profile,
        graph: &TokenGraph,
        prior: &Prior<f32>,
        blocks: Blocks,
    ) -> Result<Self> {
        let offsets = [graph.rows(), graph.targets()].concat();
        let folds = 0..=prior.folds();
        let mut resistances: Vec<f32> = folds
            .clone()
            .flat_map(|fold| prior.target(fold))
            .copied()
            .collect();
        let lifts = resistances.len() as u32;
        resistances.extend(folds.flat_map(|fold| prior.lift(fold)));
        Ok(Self {
            graph: device.upload(&offsets, "the graph")?,
            edge_rows: device.upload(graph.edge_rows(), "edge rows")?,
            prior: device.upload(&resistances, "static resistances")?,
            lifts,
            walks: prior.walks().clone(),
            nodes: graph.nodes(),
            edges: graph.edges(),
            program: Program::new(device, DISPATCHES)?,
            floats: device.buffer(16, Purpose::Storage, "the workspace")?,
            partials: 0,
            integers: device.buffer(16, Purpose::Storage, "lists")?,
            averaged: false,
            learns: true,
            together: [usize::MAX, 0],
            parts: 0,
            device: device.clone(),
            profile: profile.clone(),
            blocks,
        })
    }

    /// Allocate the workspace of a part of a batch, upload its lists, and start a new program, the first one with gradients
    /// of zero.
    pub fn begin(&mut self, floats: usize, lists: &Lists, learns: bool, part: Part) -> Result<()> {
        self.learns = learns;
        self.partials = floats as u32;
        let bytes = ((floats + partial_numbers(&self.device)) * 4) as u64;
        if self.floats.bytes() < bytes {
            self.floats =
                self.device
                    .buffer(bytes, Purpose::Storage, "the workspace of a batch")?;
            // Bind groups of the old program keep the old buffer alive: begin with an empty one.
            self.program = Program::new(&self.device, DISPATCHES)?;
        }
        let bytes = (lists.all.len() * 4) as u64;
        if self.integers.bytes() < bytes {
            // Larger than needed, so that the next batch fits too.
            let roomy = (bytes + bytes / 2)
                .min(self.device.binding_bytes())
                .max(bytes);
            self.integers = self
                .device
                .buffer(roomy, Purpose::Storage, "lists of a batch")?;
            self.program = Program::new(&self.device, DISPATCHES)?;
        }
        self.device.write(&self.integers, 0, &lists.all);
        self.program.clear();
        if part.first == 0 {
            self.program.zero(&self.blocks.gradients);
        }
        Ok(())
    }

    /// Record a kernel; it binds the workspace before `buffers`.
    pub fn run<P: bytemuck::NoUninit>(
        &mut self,
        kernel: &Kernel,
        constants: &[(&str, u32)],
        parameters: &P,
        buffers: &[Bound],
        size: Size,
    ) -> Result<()> {
        let pipeline = self.device.pipeline(kernel, constants)?;
        let mut all = vec![&self.floats];
        all.extend(buffers.iter().map(|bound| match bound {
            Bound::Integers => &self.integers,
            Bound::Values => match &self.blocks.averages {
                Some(averages) if self.averaged && !self.learns => averages,
                _ => &self.blocks.values,
            },
            Bound::Gradients => &self.blocks.gradients,
            Bound::FirstMoments => &self.blocks.first,
            Bound::SecondMoments => &self.blocks.second,
            Bound::Graph => &self.graph,
            Bound::EdgeRows => &self.edge_rows,
            Bound::Prior => &self.prior,
            Bound::Other(buffer) => buffer,
        }));
        self.program.dispatch(&pipeline, parameters, &all, size)
    }

    /// Record sums of rows by group, times the rows of `b` where given, into `result`: added to the gradients, or
    /// written to the workspace.
    pub fn sum_groups(
        &mut self,
        groups: &Groups,
        columns: usize,
        a: Rows,
        b: Option<Rows>,
        result: u32,
        in_gradients: bool,
    ) -> Result<()> {
        let parameters = collect::Parameters {
            columns: columns as u32,
            groups: groups.count as u32,
            bounds: groups.bounds,
            members: groups.members,
            a: a.0,
            a_stride: a.1 as u32,
            b: b.map_or(NONE, |b| b.0),
            b_stride: b.map_or(0, |b| b.1 as u32),
            result,
            result_stride: columns as u32,
            targets: groups.targets,
            in_gradients: u32::from(in_gradients),
            add: u32::from(in_gradients),
        };
        let size = spread(&self.device, groups.count * columns, THREADS);
        let buffers = [Bound::Integers, Bound::Gradients];
        let constants = [("WORKGROUP", THREADS)];
        self.run(&collect::COLLECT, &constants, &parameters, &buffers, size)
    }

    /// Record sums of rows by group, added to the gradients of the block at `gradient`.
    pub fn collect(
        &mut self,
        groups: &Groups,
        columns: usize,
        a: Rows,
        b: Option<Rows>,
        gradient: u32,
    ) -> Result<()> {
        self.sum_groups(groups, columns, a, b, gradient, true)
    }

    /// Record the sum of all rows, added to a gradient, by way of a scratch region of `pieces × columns`.
    pub fn sum(
        &mut self,
        pieces: &[Groups; 2],
        columns: usize,
        a: Rows,
        b: Option<Rows>,
        scratch: u32,
        gradient: u32,
    ) -> Result<()> {
        // In two passes, so that more than one thread works on a column; in a fixed order.
        self.sum_groups(&pieces[0], columns, a, b, scratch, false)?;
        self.collect(&pieces[1], columns, (scratch, columns), None, gradient)
    }

    /// Record the sum of `rows` rows, one thread a column, added to a gradient.
    pub fn column_sums(
        &mut self,
        rows: usize,
        columns: usize,
        a: u32,
        gradient: u32,
    ) -> Result<()> {
        let all = Groups::first(rows);
        self.collect(&all, columns, (a, columns), None, gradient)
    }

    /// Record the dropout mask of a batch, from the stream of `seed` and the number of the batch.
    pub fn dropout(&mut self, mask: Mask, rate: f64, seed: u64, index: u64) -> Result<()> {
        let wide = padded(mask.width);
        // The part of the stream that all rows share; the kernel adds the number of the row.
        let base = Random::base(seed, index);
        let [sequences, steps] = mask.rows;
        let drops = rate > 0.0;
        let parameters = dropout::Parameters {
            mask: mask.at,
            width: mask.width as u32,
            wide: wide as u32,
            steps: steps as u32,
            sequences: sequences as u32,
            first: mask.first as u32,
            shard: mask.shard as u32,
            base_low: base as u32,
            base_high: (base >> 32) as u32,
            // The kernel compares 16 random bits with the rate.
            threshold: if drops { (rate * 65536.0) as u32 } else { 0 },
            keep: if drops {
                (1.0 / (1.0 - rate)) as f32
            } else {
                1.0
            },
        };
        let size = spread(&self.device, sequences * steps * wide / 4, THREADS);
        let constants = [("WORKGROUP", THREADS)];
        self.run(&dropout::DROPOUT, &constants, &parameters, &[], size)
    }

    /// Record λ of the position blend for all steps.
    pub fn position_weights(&mut self, steps: usize, lambda: u32) -> Result<()> {
        let parameters = self.position(steps, lambda);
        self.run_position(&position::WEIGHTS, &parameters, 1)
    }

    /// Record the gradients of the position blend's logits from those of λ, `[B · T, columns]` at `gates`.
    ///
    /// `shift` is the first step that is blended, `d_lambda` a scratch region of T numbers.
    pub fn position_back(
        &mut self,
        batch: &Batch,
        lambda: u32,
        (gates, columns): Rows,
        shift: u32,
        d_lambda: u32,
    ) -> Result<()> {
        let parameters = position::Parameters {
            gates,
            columns: columns as u32,
            sequences: batch.sequences() as u32,
            shift,
            d_lambda,
            ..self.position(batch.steps, lambda)
        };
        self.run_position(&position::GATHER, &parameters, batch.steps)?;
        let groups = batch.steps.div_ceil(self.device.workgroup() as usize);
        self.run_position(&position::BACK, &parameters, groups)
    }

    fn position(&self, steps: usize, lambda: u32) -> position::Parameters {
        position::Parameters {
            logits: self.blocks.at("blend.positions"),
            count: self.profile.positions as u32,
            steps: steps as u32,
            lambda,
            ..position::Parameters::default()
        }
    }

    fn run_position(
        &mut self,
        kernel: &Kernel,
        parameters: &position::Parameters,
        groups: usize,
    ) -> Result<()> {
        let constants = [("WORKGROUP", self.device.workgroup())];
        let size = Size::Direct(groups as u32, 1, 1);
        let buffers = [Bound::Values, Bound::Gradients];
        self.run(kernel, &constants, parameters, &buffers, size)
    }

    /// Submit the program; returns (factor, 1 if the loss is finite, norm, unused) and the rows of four numbers.
    pub fn finish(&mut self, result: u32, rows: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        let offset = u64::from(result) * 4;
        let mut all: Vec<f32> =
            self.program
                .submit_and_read(1, &self.floats, offset, 4 + rows * 4)?;
        let rows = all.split_off(4);
        Ok((all, rows))
    }
}
