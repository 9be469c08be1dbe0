//! What both learners stand on: the graph and the blocks on a device, a workspace, and the kernels they share.

use super::blocks::Blocks;
use super::lists::{Groups, Lists, NONE};
use crate::Result;
use crate::graph::TokenGraph;
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{
    Buffer, Device, Kernel, Program, Purpose, Size, adamw, collect, dropout, multiply, norm,
    position, spread,
};
use crate::kernel::random::Random;
use crate::learn::prior::Prior;
use crate::learn::recipe::Train;
use crate::signal::{BlendKind, Profile};

/// Steps of a program at most; a batch of long sequences needs a few for each step.
const STEPS: usize = 16384;
/// Gradients whose squares one workgroup adds up.
const PIECE: usize = 8192;

/// A learner's surroundings on a device.
pub(super) struct Stage {
    pub device: Device,
    pub profile: Profile,
    pub blocks: Blocks,
    /// Offsets of the fans `[V + 1]`, then targets `[E]`.
    pub graph: Buffer,
    /// Own slots. `[E]`
    pub edge_rows: Buffer,
    /// −ln p1(v) of each fold `[1 + folds, V]`, then lifts `[1 + folds, E]`.
    pub prior: Buffer,
    /// Where the lifts begin.
    pub lifts: u32,
    pub nodes: usize,
    pub edges: usize,
    pub program: Program,
    pub floats: Buffer,
    pub integers: Buffer,
}

/// A matrix product: places, and distances between rows and columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    /// Rows, columns and inner dimension.
    pub shape: [usize; 3],
    /// A in the workspace: place, distances of rows and of columns.
    pub a: [u32; 3],
    /// B in the workspace or, see `b_in_values`, among the parameters.
    pub b: [u32; 3],
    pub b_in_values: bool,
    /// C in the workspace or, see `c_in_gradients`, among the gradients: place and distance of rows.
    pub c: [u32; 2],
    pub c_in_gradients: bool,
    pub add: bool,
    /// Place of ln α, where the product is times 2 α.
    pub alpha: Option<u32>,
}

/// Rows that are added up: place and distance.
pub(super) type Rows = (u32, usize);

impl Stage {
    pub fn new(
        device: &Device,
        profile: &Profile,
        graph: &TokenGraph,
        prior: &Prior<f32>,
        blocks: Blocks,
    ) -> Result<Self> {
        let offsets: Vec<u32> = graph
            .rows()
            .iter()
            .chain(graph.targets())
            .copied()
            .collect();
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
            edge_rows: device.upload(graph.edge_rows(), "own slots")?,
            prior: device.upload(&resistances, "static resistances")?,
            lifts,
            nodes: graph.nodes(),
            edges: graph.edges(),
            program: Program::new(device, STEPS)?,
            floats: device.buffer(16, Purpose::Storage, "the workspace")?,
            integers: device.buffer(16, Purpose::Storage, "lists")?,
            device: device.clone(),
            profile: profile.clone(),
            blocks,
        })
    }

    /// Makes room for a batch, uploads its lists, and forgets the last program.
    pub fn begin(&mut self, floats: usize, lists: &Lists) -> Result<()> {
        let bytes = (floats * 4) as u64;
        if self.floats.bytes() < bytes {
            self.floats =
                self.device
                    .buffer(bytes, Purpose::Storage, "the workspace of a batch")?;
            self.program = Program::new(&self.device, STEPS)?;
        }
        let bytes = (lists.all.len() * 4) as u64;
        if self.integers.bytes() < bytes {
            // Some room, so that the next batch fits too.
            let roomy = (bytes + bytes / 2)
                .min(self.device.binding_bytes())
                .max(bytes);
            self.integers = self
                .device
                .buffer(roomy, Purpose::Storage, "lists of a batch")?;
            self.program = Program::new(&self.device, STEPS)?;
        }
        self.device.write(&self.integers, 0, &lists.all);
        self.program.clear();
        Ok(())
    }

    /// How kernels name the mechanism's sizes.
    pub fn sizes(&self) -> Vec<(&'static str, u32)> {
        let blend = match self.profile.blend {
            BlendKind::Position => 0,
            BlendKind::Decay => 1,
            BlendKind::Gated => 2,
        };
        vec![
            ("BLEND", blend),
            ("D", self.profile.width as u32),
            ("W", padded(self.profile.width) as u32),
            ("BANKS", self.profile.banks as u32),
        ]
    }

    /// Records a kernel with the workspace first among its buffers.
    pub fn run<P: bytemuck::NoUninit>(
        &mut self,
        kernel: &Kernel,
        constants: &[(&str, u32)],
        parameters: &P,
        buffers: &[&Buffer],
        size: Size,
    ) -> Result<()> {
        let pipeline = self.device.pipeline(kernel, constants)?;
        let mut all = vec![&self.floats];
        all.extend_from_slice(buffers);
        self.program.dispatch(&pipeline, parameters, &all, size)
    }

    /// Records a matrix product.
    pub fn multiply(&mut self, product: &Product) -> Result<()> {
        let [rows, columns, inner] = product.shape;
        if rows * columns * inner == 0 {
            return Ok(());
        }
        let side: u32 = if self.device.report().kind.is_real() {
            16
        } else {
            4
        };
        let parameters = multiply::Parameters {
            rows: rows as u32,
            columns: columns as u32,
            inner: inner as u32,
            a: product.a[0],
            a_row: product.a[1],
            a_column: product.a[2],
            b: product.b[0],
            b_row: product.b[1],
            b_column: product.b[2],
            b_in_values: u32::from(product.b_in_values),
            c: product.c[0],
            c_row: product.c[1],
            c_in_gradients: u32::from(product.c_in_gradients),
            add: u32::from(product.add),
            log_alpha: product.alpha.unwrap_or(NONE),
            factor: if product.alpha.is_some() { 2.0 } else { 1.0 },
        };
        let size = Size::Direct(
            (columns as u32).div_ceil(4 * side),
            (rows as u32).div_ceil(4 * side),
            1,
        );
        let constants = [("SIDE", side), ("TILE_NUMBERS", 4 * side * 8)];
        let (values, gradients) = (self.blocks.values.clone(), self.blocks.gradients.clone());
        self.run(
            &multiply::MULTIPLY,
            &constants,
            &parameters,
            &[&values, &gradients],
            size,
        )
    }

    /// Records sums of rows by group, times the rows of `b` where it is given.
    #[allow(clippy::too_many_arguments, reason = "each is one of the kernel's own")]
    pub fn collect(
        &mut self,
        groups: &Groups,
        columns: usize,
        a: Rows,
        b: Option<Rows>,
        result: (u32, usize),
        in_gradients: bool,
        add: bool,
    ) -> Result<()> {
        let parameters = collect::Parameters {
            columns: columns as u32,
            groups: groups.count as u32,
            bounds: groups.bounds,
            members: groups.members,
            a: a.0,
            a_row: a.1 as u32,
            b: b.map_or(NONE, |b| b.0),
            b_row: b.map_or(0, |b| b.1 as u32),
            result: result.0,
            result_row: result.1 as u32,
            targets: groups.targets,
            in_gradients: u32::from(in_gradients),
            add: u32::from(add),
        };
        let size = spread(&self.device, groups.count * columns, 64);
        let (integers, gradients) = (self.integers.clone(), self.blocks.gradients.clone());
        let constants = [("WORKGROUP", 64)];
        self.run(
            &collect::COLLECT,
            &constants,
            &parameters,
            &[&integers, &gradients],
            size,
        )
    }

    /// Records the sum of all rows, by way of a scratch region of `pieces × columns`.
    pub fn sum(
        &mut self,
        pieces: &[Groups; 2],
        columns: usize,
        a: Rows,
        b: Option<Rows>,
        scratch: u32,
        result: u32,
    ) -> Result<()> {
        self.collect(&pieces[0], columns, a, b, (scratch, columns), false, false)?;
        self.collect(
            &pieces[1],
            columns,
            (scratch, columns),
            None,
            (result, columns),
            true,
            true,
        )
    }

    /// Records sums of so many rows, one thread a column, into gradients.
    pub fn column_sums(&mut self, rows: usize, columns: usize, a: u32, result: u32) -> Result<()> {
        // Without bounds there is one group: the rows from 0 to `members`.
        let parameters = collect::Parameters {
            columns: columns as u32,
            groups: 1,
            bounds: NONE,
            members: rows as u32,
            a,
            a_row: columns as u32,
            b: NONE,
            b_row: 0,
            result,
            result_row: columns as u32,
            targets: NONE,
            in_gradients: 1,
            add: 1,
        };
        let size = spread(&self.device, columns, 64);
        let (integers, gradients) = (self.integers.clone(), self.blocks.gradients.clone());
        let constants = [("WORKGROUP", 64)];
        self.run(
            &collect::COLLECT,
            &constants,
            &parameters,
            &[&integers, &gradients],
            size,
        )
    }

    /// Records a dropout mask. `shard` is how the processor numbers rows; 0 for sequence by sequence.
    pub fn dropout(
        &mut self,
        mask: u32,
        batch: [usize; 2],
        rate: f64,
        seed: u64,
        index: u64,
        shard: usize,
    ) -> Result<()> {
        let wide = padded(self.profile.width);
        let base = Random::base(seed, index);
        let [sequences, steps] = batch;
        let drops = rate > 0.0;
        let parameters = dropout::Parameters {
            mask,
            width: self.profile.width as u32,
            wide: wide as u32,
            steps: steps as u32,
            sequences: sequences as u32,
            shard: shard as u32,
            base_low: base as u32,
            base_high: (base >> 32) as u32,
            threshold: if drops { (rate * 65536.0) as u32 } else { 0 },
            keep: if drops {
                (1.0 / (1.0 - rate)) as f32
            } else {
                1.0
            },
        };
        let size = spread(&self.device, sequences * steps * wide / 4, 64);
        self.run(&dropout::DRAW, &[("WORKGROUP", 64)], &parameters, &[], size)
    }

    /// The parameters of the position kernels.
    pub fn position(&self, steps: usize, lambda: u32) -> position::Parameters {
        position::Parameters {
            logits: self.blocks.at("blend.positions"),
            count: self.profile.positions as u32,
            steps: steps as u32,
            lambda,
            ..position::Parameters::default()
        }
    }

    /// Records one of the position kernels.
    pub fn run_position(
        &mut self,
        kernel: &Kernel,
        parameters: &position::Parameters,
        groups: usize,
    ) -> Result<()> {
        let workgroup = self.device.workgroup();
        let (values, gradients) = (self.blocks.values.clone(), self.blocks.gradients.clone());
        let size = Size::Direct(groups as u32, 1, 1);
        self.run(
            kernel,
            &[("WORKGROUP", workgroup)],
            parameters,
            &[&values, &gradients],
            size,
        )
    }

    /// Records the norm of all gradients and of so many edges, and what it makes of the update.
    pub fn norm(
        &mut self,
        edges: (u32, usize),
        rows: (u32, usize),
        train: &Train,
        parts: u32,
        result: u32,
    ) -> Result<()> {
        let pieces = self.norm_pieces();
        let parameters = norm::Parameters {
            numbers: self.blocks.numbers as u32,
            piece: PIECE as u32,
            parts,
            pieces: pieces as u32,
            edges: edges.0,
            edges_count: edges.1 as u32,
            // Nats stand last in a row of four.
            nats: rows.0 + 3,
            nats_row: 4,
            rows: rows.1 as u32,
            limit: train.clip.max(0.0) as f32,
            result,
        };
        let workgroup = self.device.wide_workgroup();
        let constants = [("WORKGROUP", workgroup)];
        let gradients = self.blocks.gradients.clone();
        let size = Size::Direct(pieces as u32, 1, 1);
        self.run(&norm::SQUARES, &constants, &parameters, &[&gradients], size)?;
        self.run(
            &norm::FINISH,
            &constants,
            &parameters,
            &[&gradients],
            Size::Direct(1, 1, 1),
        )
    }

    /// Pieces that the gradients are added up in.
    pub fn norm_pieces(&self) -> usize {
        self.blocks.numbers.div_ceil(PIECE)
    }

    /// Records the optimiser on every block; `touched` names the rows that move, where not all do.
    pub fn update(
        &mut self,
        train: &Train,
        step: u64,
        result: u32,
        touched: &[(&str, u32, usize)],
    ) -> Result<()> {
        let rate = train.rate_at(step - 1);
        for block in self.blocks.list.clone() {
            let rate = if block.name == super::SHARED_EDGE {
                rate * train.edge_rate
            } else {
                rate
            };
            let update = train.adamw().update::<f32>(step, rate, block.decays);
            let listed = touched.iter().find(|(name, ..)| *name == block.name);
            let rows = listed.map_or(block.rows, |&(_, _, count)| count);
            if rows * block.columns * block.rows == 0 {
                continue;
            }
            let parameters = adamw::Parameters {
                block: block.place,
                columns: block.columns as u32,
                rows: rows as u32,
                list: listed.map_or(NONE, |&(_, place, _)| place),
                beta1: update.beta1,
                beta2: update.beta2,
                rate: update.rate,
                correction: update.correction,
                epsilon: update.epsilon,
                shrink: update.shrink,
                scale: result,
            };
            let size = spread(&self.device, rows * block.columns, 64);
            let blocks = &self.blocks;
            let buffers = [
                self.integers.clone(),
                blocks.values.clone(),
                blocks.gradients.clone(),
                blocks.first.clone(),
                blocks.second.clone(),
            ];
            let buffers: Vec<&Buffer> = buffers.iter().collect();
            self.run(
                &adamw::UPDATE,
                &[("WORKGROUP", 64)],
                &parameters,
                &buffers,
                size,
            )?;
        }
        Ok(())
    }

    /// Submits the program; returns factor, whether the loss is finite, norm, and the rows of four.
    pub fn finish(&mut self, result: u32, rows: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        let mut all: Vec<f32> =
            self.program
                .submit_and_read(1, &self.floats, u64::from(result) * 4, 4 + rows * 4)?;
        let rows = all.split_off(4);
        Ok((all, rows))
    }
}
