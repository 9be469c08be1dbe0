//! Looking into a network while it runs, without changing it.

use crate::Result;

/// Where a probe looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tap {
    /// Rows as they enter the first layer. `[N, D]`
    Embedding,
    /// Queries of a layer, turned to their positions. `[N, H·d]`
    Query(usize),
    /// Keys of a layer, turned. `[N, Hkv·d]`
    Key(usize),
    /// Values of a layer. `[N, Hkv·d]`
    Value(usize),
    /// Attention of each sequence's last row, the mean of a layer's heads, over the positions of its text; not a
    /// number where a token is no longer kept. `[N, T]`, only of the rows that are given, of one sequence at a time
    Attention(usize),
    /// What a layer's heads took from the values. `[N, H·d]`
    Attended(usize),
    /// Rows as a layer leaves them. `[N, D]`
    Hidden(usize),
    /// Rows after the last norm. `[N, D]`
    Final,
    /// Scores of the rows that were asked for. `[R, V]`
    Logits,
}

/// One row of the hidden stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The sequence of the batch.
    pub sequence: usize,
    /// The position in it.
    pub position: u32,
    /// The token there.
    pub token: u32,
}

/// Sees what passes a tap.
pub trait Probe: Send {
    /// Whether it wants to see a tap; asked once for each pass, so nothing is copied for what nobody sees.
    fn wants(&self, tap: Tap) -> bool;

    /// Sees the numbers of a tap, row after row.
    ///
    /// # Errors
    /// Whatever the probe reports: the pass ends there.
    fn see(&mut self, tap: Tap, rows: &[Row], values: &[f32]) -> Result<()>;
}
