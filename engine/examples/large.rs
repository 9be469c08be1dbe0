//! Writes a model of random own edges as a stream, of any size: `large FILE GIGABYTES`.
//!
//! `tests/large.sh` decodes one of 8 GB within 2 GB of memory. Memory here stays at a few megabytes: blocks are
//! written as they are made.

use std::path::Path;

use brillm::kernel::element::Element;
use brillm::kernel::random::Random;
use brillm::model::{Metadata, Writer};
use brillm::signal::Profile;
use brillm::text::Tokenizer;
use brillm::{Error, ErrorKind, Result};

const NODES: usize = 4000;
const WIDTH: usize = 32;
/// An edge's matrix and bias.
const COLUMNS: usize = WIDTH * WIDTH + WIDTH;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = || Error::new(ErrorKind::Input, "usage: large FILE GIGABYTES");
    let [file, gigabytes] = arguments.as_slice() else {
        return Err(usage());
    };
    let gigabytes: f64 = gigabytes.parse().map_err(|_| usage())?;
    let edges = (gigabytes * 1e9 / (COLUMNS * 4) as f64) as usize;
    let fan = edges.div_ceil(NODES).min(NODES - 1);

    let profile = Profile {
        position_limit: false,
        ..Profile::reference(WIDTH)
    };
    let positions = profile.positions;
    let metadata = Metadata {
        name: "large".into(),
        license: "none".into(),
        profile,
        own_minimum: 1,
        direction: Default::default(),
        charges: None,
        recall: None,
        training: serde_json::json!({"random": true}),
    };
    let metadata = serde_json::to_value(&metadata).expect("plain data");
    let mut writer = Writer::create(Path::new(file), metadata)?;
    let vocabulary = Tokenizer::ids(NODES)?.to_bytes();
    writer.values("vocabulary", Element::U8, &[vocabulary.len()], &vocabulary)?;

    // Node s leads to the `fan` nodes after it, around the end to the beginning.
    let rows: Vec<u32> = (0..=NODES).map(|node| (node * fan) as u32).collect();
    let mut targets = Vec::with_capacity(NODES * fan);
    for node in 0..NODES {
        let mut row: Vec<u16> = (1..=fan)
            .map(|step| ((node + step) % NODES) as u16)
            .collect();
        row.sort_unstable();
        targets.extend(row);
    }
    writer.values("graph.rows", Element::U32, &[rows.len()], &rows)?;
    writer.values("graph.targets", Element::U16, &[targets.len()], &targets)?;
    let counts = vec![1u16; targets.len()];
    writer.values("graph.counts", Element::U16, &[counts.len()], &counts)?;

    // The shared edge, then one part a fan.
    let row_bytes = (COLUMNS * 4) as u64;
    let mut boundaries = vec![0];
    boundaries.extend((0..=NODES).map(|node| (1 + node * fan) as u64 * row_bytes));
    let mut random = Random::new(1);
    let edge_rows = 1 + NODES * fan;
    writer.block_in_parts(
        "edge.arena",
        Element::F32,
        &[edge_rows, COLUMNS],
        &boundaries,
        |put| {
            let mut edge = [0.0f32; COLUMNS];
            for _ in 0..edge_rows {
                for pair in edge.chunks_mut(2) {
                    // Two numbers of 24 bits from one draw, uniform in ±0.25.
                    let bits = random.bits();
                    for (value, bits) in pair.iter_mut().zip([bits >> 40, bits >> 8 & 0xff_ffff]) {
                        *value = bits as f32 / (1u64 << 25) as f32 - 0.25;
                    }
                }
                put(bytemuck::cast_slice(&edge))?;
            }
            Ok(())
        },
    )?;
    let start: Vec<f32> = (0..NODES * WIDTH)
        .map(|_| random.uniform() as f32 - 0.5)
        .collect();
    writer.values("node.start", Element::F32, &[NODES, WIDTH], &start)?;
    writer.values(
        "blend.positions",
        Element::F32,
        &[1, positions],
        &vec![1.0f32; positions],
    )?;
    writer.finish()?;
    println!(
        "{file}: {NODES} nodes, {} own edges, {} bytes of edge weights",
        edge_rows - 1,
        edge_rows as u64 * row_bytes
    );
    Ok(())
}
