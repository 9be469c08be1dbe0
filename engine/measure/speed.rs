//! Speed: memory bandwidth, evaluation of fans, and training.
//!
//! Each figure comes with the bandwidth measured in the same run, so that ratios are comparable on a noisy machine.

use std::time::Instant;

use rayon::prelude::*;

use crate::kernel::element::Element;
use crate::kernel::energy::read_at;
use crate::kernel::random::Random;
use crate::kernel::simd::Level;
use crate::kernel::table::Table;
use crate::{Error, ErrorKind, Result};

/// A row of the decoding table.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct DecodeSpeed {
    /// `f32`, `f16` or `i8`.
    pub storage: &'static str,
    /// Number of threads.
    pub threads: usize,
    /// Own edges of each fan.
    pub edges: usize,
    /// Milliseconds per fan.
    pub ms_per_token: f64,
    /// Bytes of edges read per second.
    pub gb_per_s: f64,
    /// Fraction of the best memory read by as many threads in the same run.
    pub fraction_of_memory: f64,
}

/// Random edge weights, `sources` fans of `edges` each, and a thread pool.
pub struct DecodeBench {
    width: usize,
    edges: usize,
    sources: usize,
    edge_weights: Vec<f32>,
}

impl DecodeBench {
    /// Create at least `mebibytes` of random f32 edges of `width`.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for less than one fan.
    pub fn new(width: usize, edges: usize, mebibytes: usize) -> Result<Self> {
        let columns = width * width + width;
        let sources = ((mebibytes << 20) / (edges * columns * 4)).max(1) + 1;
        if edges == 0 || width == 0 {
            return Err(Error::new(
                ErrorKind::Input,
                "a fan needs edges and a width",
            ));
        }
        let mut edge_weights = vec![0.0f32; sources * edges * columns];
        edge_weights
            .par_chunks_mut(edges * columns)
            .enumerate()
            .for_each(|(source, fan)| {
                let mut random = Random::stream(1, 0x6265_6e63, source as u64);
                for pair in fan.chunks_mut(2) {
                    let bits = random.bits();
                    for (value, half) in pair.iter_mut().zip([bits as u32, (bits >> 32) as u32]) {
                        *value = half as f32 / u32::MAX as f32 - 0.5;
                    }
                }
            });
        Ok(Self {
            width,
            edges,
            sources,
            edge_weights,
        })
    }

    /// Measure the best read of all edge weights, in gigabytes per second.
    pub fn read_speed(&self, threads: usize, passes: usize) -> f64 {
        let level = Level::current();
        let piece = self.edge_weights.len().div_ceil(threads);
        let best = (0..passes.max(1))
            .map(|_| {
                let begun = Instant::now();
                let sum: f32 = if threads == 1 {
                    read_at(level, &self.edge_weights)
                } else {
                    self.edge_weights
                        .par_chunks(piece)
                        .map(|piece| read_at(level, piece))
                        .sum()
                };
                std::hint::black_box(sum);
                begun.elapsed().as_secs_f64()
            })
            .fold(f64::INFINITY, f64::min);
        (self.edge_weights.len() * 4) as f64 / best / 1e9
    }

    /// Convert the edge weights to an element type.
    ///
    /// # Errors
    /// As [`Table::converted`].
    pub fn table(&self, element: Element) -> Result<Table> {
        let columns = self.width * self.width + self.width;
        Table::of(&self.edge_weights, self.sources * self.edges, columns).converted(element)
    }

    /// Evaluate fans of random sources for about `seconds`; the best of five intervals is reported, each next to a memory
    /// read by the same threads.
    pub fn decode(&self, table: &Table, threads: usize, seconds: f64) -> DecodeSpeed {
        let mut random = Random::new(7);
        let signal: Vec<f32> = (0..self.width).map(|_| random.normal() as f32).collect();
        let base = vec![0.0; self.width];
        let mut energies = vec![0.0; self.edges];
        let columns = self.width * self.width + self.width;
        let bytes = self.edges
            * (columns * table.element().size() + if table.scales().is_some() { 4 } else { 0 });
        let (mut best, mut memory) = (f64::INFINITY, 0.0f64);
        for _ in 0..5 {
            memory = memory.max(self.read_speed(threads, 1));
            let begun = Instant::now();
            let mut tokens = 0u32;
            while tokens < 3 || begun.elapsed().as_secs_f64() < seconds / 5.0 {
                let source = random.below(self.sources as u64) as usize;
                table.energies(source * self.edges, &signal, &base, false, &mut energies);
                std::hint::black_box(&energies);
                tokens += 1;
            }
            best = best.min(begun.elapsed().as_secs_f64() / f64::from(tokens));
        }
        let speed = bytes as f64 / best / 1e9;
        DecodeSpeed {
            storage: table.element().name(),
            threads,
            edges: self.edges,
            ms_per_token: best * 1e3,
            gb_per_s: speed,
            fraction_of_memory: speed / memory,
        }
    }
}
