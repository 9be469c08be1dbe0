//! Data of the KV cache hooks `kv.plan/1`, `kv.keep/1` and `kv.codec/1`.

/// The geometry of a transformer's KV cache.
#[derive(Clone, Copy, Debug)]
pub struct KvShape<'a> {
    /// Layers, `L`.
    pub layers: usize,
    /// Query heads of each layer. `[L]`
    pub query_heads: &'a [u32],
    /// Key-value heads of each layer. `[L]`
    pub kv_heads: &'a [u32],
    /// Width of a head in each layer. `[L]`
    pub head_width: &'a [u32],
    /// Maximum context length.
    pub context: usize,
}

/// Distance measure between the mean keys (or values) of two layers over the calibration text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// Mean over heads and positions of the Euclidean distance along the head width (KVSharer's code).
    MeanOfNorms,
    /// Euclidean distance of all numbers as one vector (KVSharer's paper).
    Flattened,
    /// 1 − cosine of all numbers as one vector.
    Cosine,
    /// Euclidean distance of all numbers as one vector, each scaled to length 1.
    Normalised,
}

/// The answer of `kv.plan/1`. Initialised to the identity map and storage 0.
#[derive(Debug)]
pub struct Planned<'a> {
    /// Layer whose keys and values each layer reads: itself, or an earlier layer that reads its own. `[L]`
    pub source: &'a mut [u32],
    /// Bits per number in each layer's cache: 32, 16, or 0 for the run's setting. `[L]`
    pub storage: &'a mut [u32],
}

/// When `kv.keep/1` is called for a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// After the layer has processed the prompt.
    Prefill,
    /// After the layer has processed a new token, when it holds more slots than `next_check`.
    Decode,
}

/// How attention of several query heads becomes one row of a statistic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadReduction {
    /// Mean over all query heads: one row per layer.
    #[default]
    All,
    /// Mean over the query heads of each key-value head: `H_kv` rows.
    GroupMean,
    /// Maximum over the query heads of each key-value head: `H_kv` rows.
    GroupMaximum,
}

/// A weighted mean of attention over the last queries. Weights change linearly from the oldest query to the newest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColumnSum {
    /// Number of queries; all if there are fewer.
    pub window: usize,
    /// Weight of the oldest query.
    pub oldest: f32,
    /// Weight of the newest query.
    pub newest: f32,
    /// Head reduction.
    pub heads: HeadReduction,
}

/// The statistics that `kv.keep/1` needs. Others are not computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KeepNeeds {
    /// Mean attention of the last queries.
    pub column: Option<ColumnSum>,
    /// Attention summed over all queries so far, per key-value head (mean over its query heads).
    pub accumulated: bool,
    /// Euclidean norm of each key, per key-value head.
    pub key_norm: bool,
}

/// The state of a layer's cache: `N` slots per head, `R` rows of the residual stream.
///
/// `heads` is 1 unless a statistic per head was requested (a grouped column, accumulated attention, key norms) from a
/// model with several key-value heads. Then each head has its own row of `positions`, because heads may hold different
/// tokens after an eviction. Statistics that were not requested are empty.
#[derive(Clone, Copy, Debug)]
pub struct KeepQuestion<'a> {
    /// Phase of the run.
    pub phase: Phase,
    /// Index of the layer.
    pub layer: usize,
    /// Layers of the model, `L`.
    pub layers: usize,
    /// Key-value heads that may keep different slots; 1 if all heads of a layer keep the same.
    pub heads: usize,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of the sequence so far, including evicted ones.
    pub length: usize,
    /// Original position of each slot, ascending within a head. `[heads, N]`
    pub positions: &'a [u32],
    /// Original position of each row of the residual stream, ascending; empty in decoding. `[R]`
    pub stream: &'a [u32],
    /// See [`KeepNeeds::column`]; `G` is 1 or `heads`. `[G, N]`
    pub column: &'a [f32],
    /// See [`KeepNeeds::accumulated`]. `[H_kv, N]`
    pub accumulated: &'a [f32],
    /// See [`KeepNeeds::key_norm`]. `[H_kv, N]`
    pub key_norm: &'a [f32],
}

impl<'a> KeepQuestion<'a> {
    /// Slots used by each head, `N`.
    pub fn slots(&self) -> usize {
        self.positions.len() / self.heads.max(1)
    }

    /// Original positions of a head's slots, ascending. `[N]`
    pub fn head(&self, head: usize) -> &'a [u32] {
        let slots = self.slots();
        &self.positions[head * slots..(head + 1) * slots]
    }

    /// A statistic's row for a head: its own row if there is one per head, otherwise the mean of all rows. `[N]`
    ///
    /// # Errors
    /// A statistic that was not supplied.
    pub fn row(&self, statistic: &[f32], head: usize) -> Result<Vec<f32>, &'static str> {
        let slots = self.slots();
        let rows = statistic.len() / slots.max(1);
        if slots == 0 || rows == 0 {
            return Err("the engine did not supply the statistic");
        }
        if rows == self.heads {
            return Ok(statistic[head * slots..(head + 1) * slots].to_vec());
        }
        let mut mean = vec![0.0; slots];
        for row in statistic.chunks_exact(slots) {
            for (mean, value) in mean.iter_mut().zip(row) {
                *mean += value / rows as f32;
            }
        }
        Ok(mean)
    }
}

/// The answer of `kv.keep/1`: what a layer keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eviction {
    /// Slots kept: one ascending list of indices, 0 to `N`, into each head's row of `positions`, or one list per head,
    /// all of equal length. Lists must contain the newest slot. `None` keeps all.
    pub slots: Option<Vec<Vec<u32>>>,
    /// Rows of the residual stream that enter the next layer: ascending indices into `stream`, including the last
    /// row. `None` keeps all.
    pub stream: Option<Vec<u32>>,
    /// Number of slots above which the layer is checked again in decoding; `None` for never.
    pub next_check: Option<u64>,
}

/// Keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecSide {
    /// Keys.
    Key,
    /// Values.
    Value,
}

/// The axis along which numbers are grouped. A group shares a scale and a zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecAxis {
    /// One channel over several tokens (KIVI's keys).
    Channel,
    /// One token over several channels (KIVI's values).
    Token,
}

/// A layer's keys or values whose storage format is to be chosen.
#[derive(Clone, Copy, Debug)]
pub struct CodecQuestion {
    /// Index of the layer.
    pub layer: usize,
    /// Layers of the model, `L`.
    pub layers: usize,
    /// Width of a head.
    pub head_width: usize,
    /// Keys or values.
    pub side: CodecSide,
}

/// An affine group format: `x ≈ zero + scale · q`, `q` of `bits` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecFormat {
    /// Bits per number: 2, 4 or 8.
    pub bits: u32,
    /// Numbers per group.
    pub group: usize,
    /// Axis of the groups.
    pub axis: CodecAxis,
    /// Minimum number of newest tokens that stay unquantised.
    pub residual: usize,
}

impl Eviction {
    /// Check the lists against the state of the layer; an error describes what is invalid.
    ///
    /// # Errors
    /// A list that does not ascend, exceeds its range, lacks the newest slot or row, or differs in length from another;
    /// a number of lists that is neither 1 nor the number of heads.
    pub fn check(&self, question: &KeepQuestion<'_>) -> Result<(), String> {
        let check = |list: &[u32], length: usize, what: &str| {
            let ascends = list.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascends || list.last().is_some_and(|&last| last as usize >= length) {
                return Err(format!(
                    "the list of {what}s kept must ascend and be below {length}"
                ));
            }
            if list.last().map(|&last| last as usize) != length.checked_sub(1) {
                let newest = if what == "row" { "last" } else { "newest" };
                return Err(format!("the {newest} {what} must be kept"));
            }
            Ok(())
        };
        if let Some(lists) = &self.slots {
            let heads = question.heads.max(1);
            if lists.len() != 1 && lists.len() != heads {
                return Err(format!("{} lists of slots for {heads} heads", lists.len()));
            }
            for list in lists {
                check(list, question.slots(), "slot")?;
                if list.len() != lists[0].len() {
                    return Err("the heads keep different numbers of slots".into());
                }
            }
        }
        match &self.stream {
            Some(rows) => check(rows, question.stream.len(), "row"),
            None => Ok(()),
        }
    }
}
