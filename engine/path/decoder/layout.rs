//! Where everything lies in the two buffers of a decoder.

use crate::kernel::gpu::table::padded;
use crate::path::Sampling;
use crate::signal::{BlendKind, DeviceMechanism, EdgeForm};
use crate::{Error, ErrorKind, Result};

/// Where everything lies in the two buffers of a decoder; counts of numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Layout {
    // A lane's record in floats; the fields are offsets within it.
    pub sequence: u32,
    pub signal: u32,
    pub banks: u32,
    pub output: u32,
    pub blended: u32,
    pub base: u32,
    pub preactivation: u32,
    pub low: u32,
    pub projected: u32,
    pub gathered: u32,
    // Floats after the records.
    pub energies: u32,
    pub stride: u32,
    pub dots: u32,
    pub logits: u32,
    pub normalisers: u32,
    pub listed_logits: u32,
    pub lambda: u32,
    pub table: u32,
    pub floats: u32,
    // Integers. `halted` is 0.
    pub nodes: u32,
    pub steps: u32,
    pub done: u32,
    pub emitted: u32,
    pub next: u32,
    pub emitted_tokens: u32,
    pub random: u32,
    pub order: u32,
    pub groups: u32,
    pub members: u32,
    pub recent: u32,
    pub banned: u32,
    pub stops: u32,
    pub listed: u32,
    pub integers: u32,
}

impl Layout {
    /// The places for so many lanes.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when they are more than 32-bit numbers reach.
    #[allow(
        clippy::field_reassign_with_default,
        reason = "each place begins where the one before it ends"
    )]
    pub fn of(
        mechanism: &DeviceMechanism,
        sequences: usize,
        capacity: usize,
        sampling: &Sampling,
        stops: usize,
        list: usize,
    ) -> Result<Self> {
        let host = mechanism.mechanism();
        let (profile, v) = (host.profile(), host.nodes());
        let wide = padded(profile.width);
        let fans = mechanism.fans();
        let buffers = fans.as_ref().map_or(1, |fans| fans.buffers.len());
        let own = profile.form == EdgeForm::Own;
        let position = profile.blend == BlendKind::Position;
        let table = own && profile.position_table;
        let when = |condition: bool, count: usize| if condition { count } else { 0 };
        let mut end = 0usize;
        let mut overflow = false;
        let mut take = |end: &mut usize, count: usize| -> u32 {
            let place = *end;
            *end = end.saturating_add(count).saturating_add(3) / 4 * 4;
            overflow |= *end > (u32::MAX / 4) as usize;
            place as u32
        };
        let mut at = Self::default();
        at.signal = take(&mut end, wide);
        at.banks = take(&mut end, profile.banks * wide);
        at.output = take(&mut end, wide);
        at.blended = take(&mut end, when(!own, (1 + profile.banks) * wide));
        at.base = take(&mut end, when(own, wide));
        at.preactivation = take(&mut end, when(own, wide));
        at.low = take(&mut end, profile.rank);
        at.projected = take(&mut end, profile.residual.unwrap_or(0));
        let columns = mechanism
            .records
            .as_ref()
            .map_or(0, |records| records.columns);
        at.gathered = take(&mut end, columns);
        at.sequence = end as u32;
        end *= sequences;
        at.stride = fans.as_ref().map_or(1, |fans| 1 + fans.widest()) as u32;
        at.energies = take(&mut end, sequences * at.stride as usize);
        at.dots = take(&mut end, when(!own, sequences * v));
        at.logits = take(&mut end, sequences * v);
        at.normalisers = take(&mut end, sequences);
        at.listed_logits = take(&mut end, sequences * list);
        at.lambda = take(&mut end, when(position, sequences * capacity));
        at.table = take(&mut end, when(table, sequences * capacity * wide));
        at.floats = end as u32;
        end = 4;
        at.nodes = take(&mut end, 0);
        end += 3 * sequences;
        at.steps = at.nodes + sequences as u32;
        at.done = at.steps + sequences as u32;
        at.emitted = take(&mut end, sequences);
        at.next = take(&mut end, sequences);
        at.emitted_tokens = take(&mut end, sequences * capacity);
        at.random = take(&mut end, 2 * sequences);
        at.order = take(&mut end, sequences);
        at.groups = take(&mut end, buffers * sequences * 2);
        at.members = take(&mut end, buffers * sequences);
        at.recent = take(&mut end, sequences * (1 + window(sampling) as usize));
        at.banned = take(&mut end, sampling.banned.len());
        at.stops = take(&mut end, stops);
        at.listed = take(&mut end, sequences * list);
        at.integers = end as u32;
        if overflow {
            return Err(Error::new(
                ErrorKind::Resource,
                format!("{sequences} lanes over {v} nodes are more than a device buffer holds"),
            )
            .advice("decode fewer prompts together"));
        }
        Ok(at)
    }
}

/// Nodes of the penalty window that are kept.
pub(super) fn window(sampling: &Sampling) -> u32 {
    match sampling.repetition_penalty == 1.0 {
        true => 0,
        false => sampling.penalty_window as u32,
    }
}
