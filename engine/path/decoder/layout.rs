//! Where the state of a decoder's sequences lies in its two buffers.

use crate::kernel::gpu::energy;
use crate::kernel::gpu::sequences::{EARLIER, Sequences};
use crate::kernel::gpu::table::padded;
use crate::path::Sampling;
use crate::signal::{BlendKind, DeviceMechanism, EdgeForm, Profile};
use crate::{Error, ErrorKind, Result};

/// Numbers before the arrays of integers: `HALTED`, `INVALID` and two unused ones.
const FLAGS: usize = 4;

/// Sizes of a decoder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub sequences: usize,
    /// Hops of a submission at most.
    pub capacity: usize,
    /// Nodes that end a sequence.
    pub stops: usize,
    /// Nodes of a list.
    pub list: usize,
}

/// What a layer of layered edges computes with, relative to the record of a sequence.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scratch {
    /// n of the node, then of the one before it. `[2 W]`
    pub normals: u32,
    /// `[c; 2 m]`, each run padded. `[X]`
    pub memory: u32,
    /// Products with A, or with R. `[W]`
    pub mixed: u32,
}

/// Columns of one bank: D, or w for layered edges.
pub(super) fn bank_width(profile: &Profile) -> usize {
    profile.memory() / (profile.banks * profile.layers.max(1))
}

/// Index of a number where runs of `run` numbers are padded.
pub(super) fn padded_index(index: usize, run: usize) -> usize {
    index / run * padded(run) + index % run
}

/// Hands out consecutive regions, each aligned to four numbers.
struct Regions {
    end: usize,
}

impl Regions {
    fn take(&mut self, count: usize) -> u32 {
        let offset = self.end;
        // Saturating, so that the caller checks the total once.
        self.end = self.end.saturating_add(count).saturating_add(3) / 4 * 4;
        offset as u32
    }

    fn take_if(&mut self, condition: bool, count: usize) -> u32 {
        self.take(if condition { count } else { 0 })
    }
}

/// Lay out a decoder; returns the scratch of layers, and the lengths of its floats and of its integers too.
///
/// # Errors
/// [`ErrorKind::Resource`] when they are more than 32-bit offsets reach.
pub(super) fn layout(
    mechanism: &DeviceMechanism,
    size: Size,
    sampling: &Sampling,
) -> Result<(Sequences, Scratch, [u32; 2])> {
    let (host, fans) = (mechanism.mechanism(), mechanism.fans());
    let (profile, v) = (host.profile(), host.nodes());
    let across = match (&fans, profile.form) {
        (Some(fans), EdgeForm::Own) => {
            energy::pipeline(mechanism.device(), profile.width, size.sequences, fans)?.across
        }
        _ => 1,
    };
    let (b, wide) = (size.sequences, padded(profile.width));
    let own = profile.form == EdgeForm::Own;
    let layered = profile.form == EdgeForm::Layered;
    let bank = bank_width(profile);
    let position = profile.blend == BlendKind::Position;
    let records = mechanism.records.as_ref();
    // One record for each sequence, in floats.
    let mut record = Regions { end: 0 };
    let mut at = Sequences {
        count: b as u32,
        nodes_count: v as u32,
        width: wide as u32,
        signal: record.take(wide),
        banks: record.take(profile.memory() / bank * padded(bank)),
        output: record.take(wide),
        blended: record.take(profile.carried() / profile.width * wide),
        base: record.take_if(own, wide),
        preactivation: record.take(match profile.form {
            EdgeForm::Own => wide,
            EdgeForm::Composed => 0,
            EdgeForm::Layered => profile.widths().edge(),
        }),
        low: record.take(profile.rank),
        projected: record.take(profile.residual.unwrap_or(0)),
        gathered: record.take(records.map_or(0, |records| records.columns)),
        // The energy of the shared edge, then those of the widest fan.
        energies_stride: fans.as_ref().map_or(1, |fans| 1 + fans.widest()) as u32,
        across,
        edges_count: host.graph().edges() as u32,
        edge_targets: mechanism.graph_at[0],
        walks: mechanism.graph_at[1],
        capacity: size.capacity as u32,
        window: window(sampling),
        banned_count: sampling.banned.len() as u32,
        stops_count: size.stops as u32,
        ..Sequences::default()
    };
    let scratch = Scratch {
        normals: record.take_if(layered, 2 * wide),
        memory: record.take_if(layered, (1 + profile.banks) * padded(bank)),
        mixed: record.take_if(layered, wide),
    };
    at.stride = record.end as u32;

    // Arrays after the records, in floats.
    let mut floats = Regions {
        end: record.end.saturating_mul(b),
    };
    at.energies = floats.take(b * at.energies_stride as usize);
    at.dots = floats.take_if(!own, b * v);
    at.logits = floats.take(b * v);
    at.normalisers = floats.take(b);
    at.listed_logits = floats.take(b * size.list);
    at.lambda = floats.take_if(position, b * size.capacity);
    at.table = floats.take_if(own && profile.position_table, b * size.capacity * wide);
    at.tops = floats.take(b * across as usize);

    let integers = lay_integers(&mut at, size, sampling.banned.len());
    // Kernels compute offsets in 32 bits, and the size of a buffer in bytes has to fit them too.
    if floats.end.max(integers) > (u32::MAX / 4) as usize {
        return Err(Error::new(
            ErrorKind::Resource,
            format!("{b} sequences over {v} nodes are more than a device buffer holds"),
        )
        .advice("decode fewer prompts together"));
    }
    Ok((at, scratch, [floats.end as u32, integers as u32]))
}

/// Lay out the integers of a decoder; returns their number.
fn lay_integers(at: &mut Sequences, size: Size, banned: usize) -> usize {
    let b = size.sequences;
    // Integers. The host writes nodes, steps and `done` as one array.
    let mut integers = Regions { end: FLAGS };
    at.nodes = integers.take(3 * b);
    at.steps = at.nodes + b as u32;
    at.done = at.steps + b as u32;
    at.emitted = integers.take(b);
    at.next = integers.take(b);
    at.emitted_tokens = integers.take(b * size.capacity);
    at.random = integers.take(2 * b);
    at.top_nodes = integers.take(b * at.across as usize);
    at.recent = integers.take(b * (1 + at.window as usize));
    at.banned = integers.take(banned);
    at.banned_bits = integers.take((at.nodes_count as usize).div_ceil(32));
    at.stops = integers.take(size.stops);
    at.listed = integers.take(b * size.list);
    at.earlier = integers.take(b * EARLIER);
    integers.end
}

/// Nodes of the penalty window.
fn window(sampling: &Sampling) -> u32 {
    if sampling.repetition_penalty == 1.0 {
        0
    } else {
        sampling.penalty_window as u32
    }
}
