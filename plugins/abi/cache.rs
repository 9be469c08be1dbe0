//! The KV cache of a transformer: `kv.plan/1`, `kv.keep/1`, `kv.codec/1`.
//!
//! Statistics arrive reduced by the host; attention matrices and copies of keys and values never cross.

use core::ffi::c_void;

use brillm_hook::{
    CodecAxis, CodecFormat, CodecQuestion, CodecSide, ColumnSum, Distance, Eviction, HeadReduction,
    KeepNeeds, KeepQuestion, KvShape, Phase,
};

use crate::value::{brl_call, brl_ids, brl_self, brl_status, brl_tensor, brl_u32s, codes, size};

/// `brl_kv_plan.needs`: the plugin calls `distances` and `similarity`.
pub const BRL_NEED_TRIAL: u64 = 1;
/// `brl_keep_needs.needs`: attention summed over all queries so far.
pub const BRL_NEED_ACCUMULATED: u64 = 2;
/// `brl_keep_needs.needs`: the norm of each key.
pub const BRL_NEED_KEY_NORM: u64 = 4;

/// Distance of two layers: mean over heads and positions of the Euclidean distance along the head's width.
pub const BRL_DISTANCE_MEAN_OF_NORMS: u64 = 0;
/// Euclidean distance of all numbers as one vector.
pub const BRL_DISTANCE_FLATTENED: u64 = 1;
/// 1 − cosine of all numbers as one vector.
pub const BRL_DISTANCE_COSINE: u64 = 2;
/// Euclidean distance of all numbers as one vector, each scaled to length 1.
pub const BRL_DISTANCE_NORMALISED: u64 = 3;

/// The input of `kv.plan/1`. `L` layers.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_plan_in {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Layers, L.
    pub layers: u64,
    /// Maximum context length.
    pub context: u64,
    /// Query heads of each layer. [L]
    pub query_heads: brl_ids,
    /// Key and value heads of each layer. [L]
    pub kv_heads: brl_ids,
    /// Width of a head in each layer. [L]
    pub head_width: brl_ids,
    /// Context of the two functions below.
    pub trial_ctx: *mut c_void,
    /// Distances of the layers' mean keys and values over the calibration text, `BRL_DISTANCE_*`; null without
    /// such text. keys [L, L], values [L, L] [instance]
    pub distances: Option<
        unsafe extern "C" fn(
            trial_ctx: *mut c_void,
            measure: u64,
            keys: *mut f64,
            values: *mut f64,
        ) -> brl_status,
    >,
    /// Mean cosine between the final hidden states under a map and under the identity; null without such
    /// text. source [L] [instance]
    pub similarity: Option<
        unsafe extern "C" fn(
            trial_ctx: *mut c_void,
            source: *const u32,
            layers: u64,
            similarity: *mut f64,
        ) -> brl_status,
    >,
}

/// `kv.plan/1`: whose keys and values each layer reads (KVSharer). Called once, before a cache is allocated.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_kv_plan {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// `BRL_NEED_TRIAL`, or 0.
    pub needs: u64,
    /// source [L] is initialised to the identity: source[l] ≤ l, source[source[l]] = source[l]. storage [L] is initialised to 0:
    /// bits per number in the layer's cache, 32, 16, or 0 for the run's setting. [instance]
    pub plan: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            question: *const brl_plan_in,
            source: brl_u32s,
            storage: brl_u32s,
        ) -> brl_status,
    >,
}

/// Rows of `column`: the mean over all query heads, one row.
pub const BRL_HEADS_ALL: u64 = 0;
/// The mean over the query heads of each key-value head.
pub const BRL_HEADS_GROUP_MEAN: u64 = 1;
/// The maximum over the query heads of each key-value head.
pub const BRL_HEADS_GROUP_MAXIMUM: u64 = 2;

/// The statistics that `kv.keep/1` needs for a prompt.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_keep_needs {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// `BRL_NEED_ACCUMULATED`, `BRL_NEED_KEY_NORM`.
    pub needs: u64,
    /// Number of last queries over whose attention `column` is the weighted mean; 0 for no `column`.
    pub column_window: u64,
    /// Weight of the oldest query; weights change linearly to the newest.
    pub column_oldest: f64,
    /// Weight of the newest query.
    pub column_newest: f64,
    /// `BRL_HEADS_*`.
    pub column_heads: u64,
}

/// `brl_keep_in.phase`: the layer has processed the prompt.
pub const BRL_PHASE_PREFILL: u64 = 0;
/// The layer has processed a new token, and holds more slots than `next_check`.
pub const BRL_PHASE_DECODE: u64 = 1;

/// The state of a layer: N slots in use, R rows of the residual stream, G rows of heads.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_keep_in {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Number of the sequence, unique within the run.
    pub sequence: u64,
    /// Tokens of the sequence decoded so far.
    pub step: u64,
    /// `BRL_PHASE_*`.
    pub phase: u64,
    /// The layer.
    pub layer: u64,
    /// Layers, L.
    pub layers: u64,
    /// Key-value heads that may keep different slots: more than 1 only if a statistic per head was requested.
    pub heads: u64,
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Tokens of the sequence so far, including evicted ones.
    pub length: u64,
    /// Original position of each slot, ascending within a head: heads may hold different tokens. [heads, N]
    pub positions: brl_ids,
    /// Original position of each row of the residual stream, ascending; empty in decoding. [R]
    pub stream: brl_ids,
    /// As requested by `column_*`. [G, N]
    pub column: brl_tensor,
    /// As requested by `BRL_NEED_ACCUMULATED`. [H_kv, N]
    pub accumulated: brl_tensor,
    /// As requested by `BRL_NEED_KEY_NORM`. [H_kv, N]
    pub key_norm: brl_tensor,
}

/// A count in [`brl_eviction`] that means all, and a `next_check` that means never.
pub const BRL_ALL: u64 = 0xFFFF_FFFF_FFFF_FFFF;

/// The decision about a layer, which the plugin writes into the host's buffers.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_eviction {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Indices 0 to N into a head's row of `positions`, ascending, including the newest slot, one head after the
    /// other. Capacity heads · N.
    pub slots: brl_u32s,
    /// Number of entries written; initialised to `BRL_ALL`.
    pub slot_count: u64,
    /// Number of lists in `slots`: 1 (initial value), or the `heads` of the input, each with slot_count / heads entries.
    pub heads: u64,
    /// Indices into the input's `stream`, ascending, including the last row. Capacity R.
    pub stream: brl_u32s,
    /// Number of entries written; initialised to `BRL_ALL`.
    pub stream_count: u64,
    /// Number of slots above which the layer is checked again in decoding; initialised to `BRL_ALL`.
    pub next_check: u64,
}

/// `kv.keep/1`: which slots and which rows of the residual stream are kept (PyramidInfer, H2O, SnapKV,
/// StreamingLLM).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_kv_keep {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// 0.
    pub needs: u64,
    /// Begin a sequence with a prompt of this length; discard the state of an earlier sequence with this number. May be null. [instance]
    pub begin: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            sequence: u64,
            prompt: u64,
            wants: *mut brl_keep_needs,
        ) -> brl_status,
    >,
    /// Decide what a layer keeps. [instance]
    pub keep: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            question: *const brl_keep_in,
            kept: *mut brl_eviction,
        ) -> brl_status,
    >,
}

/// `brl_codec_in.side`: keys.
pub const BRL_SIDE_KEY: u64 = 0;
/// Values.
pub const BRL_SIDE_VALUE: u64 = 1;
/// `brl_codec_format.axis`: a group is one channel over several tokens.
pub const BRL_AXIS_CHANNEL: u64 = 0;
/// A group is one token over several channels.
pub const BRL_AXIS_TOKEN: u64 = 1;

/// A layer's keys or values whose format is to be chosen.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_codec_in {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// The layer.
    pub layer: u64,
    /// Layers, L.
    pub layers: u64,
    /// Width of a head.
    pub head_width: u64,
    /// `BRL_SIDE_*`.
    pub side: u64,
}

/// An affine group format: x ≈ zero + scale · q.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_codec_format {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Bits per number: 2, 4 or 8.
    pub bits: u64,
    /// Numbers per group.
    pub group: u64,
    /// `BRL_AXIS_*`.
    pub axis: u64,
    /// Minimum number of newest tokens that stay unquantised.
    pub residual: u64,
}

/// `kv.codec/1`: in how many bits a cache stores its numbers (KIVI). Called once per layer and side.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_kv_codec {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// 0.
    pub needs: u64,
    /// Choose the format of a layer's keys or values. [instance]
    pub plan: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            question: *const brl_codec_in,
            plan: *mut brl_codec_format,
        ) -> brl_status,
    >,
}

codes! {
    distance_code, distance: Distance {
        MeanOfNorms = BRL_DISTANCE_MEAN_OF_NORMS,
        Flattened = BRL_DISTANCE_FLATTENED,
        Cosine = BRL_DISTANCE_COSINE,
        Normalised = BRL_DISTANCE_NORMALISED,
    }
    heads_code, heads: HeadReduction {
        All = BRL_HEADS_ALL,
        GroupMean = BRL_HEADS_GROUP_MEAN,
        GroupMaximum = BRL_HEADS_GROUP_MAXIMUM,
    }
    phase_code, phase: Phase { Prefill = BRL_PHASE_PREFILL, Decode = BRL_PHASE_DECODE }
    side_code, side: CodecSide { Key = BRL_SIDE_KEY, Value = BRL_SIDE_VALUE }
    axis_code, axis: CodecAxis { Channel = BRL_AXIS_CHANNEL, Token = BRL_AXIS_TOKEN }
}

impl brl_plan_in {
    /// Lend a shape, without calibration text.
    pub fn new(shape: &KvShape<'_>) -> Self {
        Self {
            struct_size: size::<Self>(),
            layers: shape.layers as u64,
            context: shape.context as u64,
            query_heads: brl_ids::new(shape.query_heads),
            kv_heads: brl_ids::new(shape.kv_heads),
            head_width: brl_ids::new(shape.head_width),
            trial_ctx: core::ptr::null_mut(),
            distances: None,
            similarity: None,
        }
    }

    /// # Safety
    /// The views are valid for `'a`.
    pub unsafe fn shape<'a>(&self) -> KvShape<'a> {
        // SAFETY: as the caller promises.
        unsafe {
            KvShape {
                layers: self.layers as usize,
                context: self.context as usize,
                query_heads: self.query_heads.slice(),
                kv_heads: self.kv_heads.slice(),
                head_width: self.head_width.slice(),
            }
        }
    }
}

impl brl_keep_needs {
    /// Convert the needs of a hook.
    pub fn new(needs: &KeepNeeds) -> Self {
        let column = needs.column.unwrap_or(ColumnSum {
            window: 0,
            oldest: 1.0,
            newest: 1.0,
            heads: HeadReduction::All,
        });
        let flag = |needed, flag| if needed { flag } else { 0 };
        Self {
            struct_size: size::<Self>(),
            needs: flag(needs.accumulated, BRL_NEED_ACCUMULATED)
                | flag(needs.key_norm, BRL_NEED_KEY_NORM),
            column_window: column.window as u64,
            column_oldest: f64::from(column.oldest),
            column_newest: f64::from(column.newest),
            column_heads: heads_code(column.heads),
        }
    }

    /// Convert back; an error describes what is invalid.
    pub fn needs(&self) -> Result<KeepNeeds, String> {
        let weights = [self.column_oldest, self.column_newest];
        if weights
            .iter()
            .any(|weight| !weight.is_finite() || *weight < 0.0)
        {
            return Err(format!("the column weights are {weights:?}"));
        }
        let heads = heads(self.column_heads)
            .ok_or_else(|| format!("there is no head reduction {}", self.column_heads))?;
        Ok(KeepNeeds {
            column: (self.column_window > 0).then_some(ColumnSum {
                window: usize::try_from(self.column_window).unwrap_or(usize::MAX),
                oldest: self.column_oldest as f32,
                newest: self.column_newest as f32,
                heads,
            }),
            accumulated: self.needs & BRL_NEED_ACCUMULATED != 0,
            key_norm: self.needs & BRL_NEED_KEY_NORM != 0,
        })
    }
}

impl brl_keep_in {
    /// Lend the state of a layer.
    pub fn new(sequence: u64, step: u64, question: &KeepQuestion<'_>) -> Self {
        let slots = question.slots();
        let rows =
            |values: &[f32]| brl_tensor::floats(values, &[values.len() / slots.max(1), slots]);
        Self {
            struct_size: size::<Self>(),
            sequence,
            step,
            phase: phase_code(question.phase),
            layer: question.layer as u64,
            layers: question.layers as u64,
            heads: question.heads as u64,
            prompt: question.prompt as u64,
            length: question.length as u64,
            positions: brl_ids::new(question.positions),
            stream: brl_ids::new(question.stream),
            column: rows(question.column),
            accumulated: rows(question.accumulated),
            key_norm: rows(question.key_norm),
        }
    }

    /// # Safety
    /// The views are valid for `'a`.
    pub unsafe fn question<'a>(&self) -> KeepQuestion<'a> {
        // SAFETY: as the caller promises.
        unsafe {
            KeepQuestion {
                phase: phase(self.phase).unwrap_or(Phase::Decode),
                layer: self.layer as usize,
                layers: self.layers as usize,
                heads: self.heads as usize,
                prompt: self.prompt as usize,
                length: self.length as usize,
                positions: self.positions.slice(),
                stream: self.stream.slice(),
                column: self.column.as_floats(),
                accumulated: self.accumulated.as_floats(),
                key_norm: self.key_norm.as_floats(),
            }
        }
    }
}

impl brl_eviction {
    /// An empty answer for two buffers.
    pub fn new(slots: brl_u32s, stream: brl_u32s) -> Self {
        Self {
            struct_size: size::<Self>(),
            slots,
            slot_count: BRL_ALL,
            heads: 1,
            stream,
            stream_count: BRL_ALL,
            next_check: BRL_ALL,
        }
    }

    /// Write an answer; an error describes why it does not fit.
    ///
    /// # Safety
    /// The buffers are the caller's.
    pub unsafe fn write(&mut self, eviction: &Eviction) -> Result<(), &'static str> {
        let copy = |buffer: brl_u32s, list: &[u32], error| {
            // SAFETY: as the caller promises.
            let buffer = unsafe { buffer.slice_mut() };
            let target = buffer.get_mut(..list.len()).ok_or(error)?;
            target.copy_from_slice(list);
            Ok(list.len() as u64)
        };
        if let Some(lists) = &eviction.slots {
            if lists.iter().any(|list| list.len() != lists[0].len()) {
                return Err("the heads keep different numbers of slots");
            }
            self.slot_count = copy(
                self.slots,
                &lists.concat(),
                "it keeps more slots than there are",
            )?;
            self.heads = lists.len() as u64;
        }
        if let Some(rows) = &eviction.stream {
            self.stream_count = copy(self.stream, rows, "it keeps more rows than there are")?;
        }
        self.next_check = eviction.next_check.unwrap_or(BRL_ALL);
        Ok(())
    }

    /// Read an answer whose buffers hold `slots` and `rows`; an error describes what is invalid.
    pub fn eviction(&self, slots: &[u32], rows: &[u32]) -> Result<Eviction, String> {
        let list = |all: &[u32], count: u64, what: &str| match count {
            BRL_ALL => Ok(None),
            count => usize::try_from(count)
                .ok()
                .and_then(|count| all.get(..count))
                .map(|list| Some(list.to_vec()))
                .ok_or_else(|| format!("it keeps {count} of {} {what}", all.len())),
        };
        let lists = match list(slots, self.slot_count, "slots")? {
            None => None,
            Some(flat) => {
                let each = flat.len() as u64 / self.heads.max(1);
                if each == 0 || each.checked_mul(self.heads) != Some(flat.len() as u64) {
                    return Err(format!(
                        "{} slots cannot be divided among {} heads",
                        flat.len(),
                        self.heads
                    ));
                }
                Some(flat.chunks(each as usize).map(<[u32]>::to_vec).collect())
            }
        };
        Ok(Eviction {
            slots: lists,
            stream: list(rows, self.stream_count, "rows")?,
            next_check: (self.next_check != BRL_ALL).then_some(self.next_check),
        })
    }
}

impl brl_codec_in {
    /// Lend a question.
    pub fn new(question: &CodecQuestion) -> Self {
        Self {
            struct_size: size::<Self>(),
            layer: question.layer as u64,
            layers: question.layers as u64,
            head_width: question.head_width as u64,
            side: side_code(question.side),
        }
    }

    /// Convert back.
    pub fn question(&self) -> CodecQuestion {
        CodecQuestion {
            layer: self.layer as usize,
            layers: self.layers as usize,
            head_width: self.head_width as usize,
            side: side(self.side).unwrap_or(CodecSide::Value),
        }
    }
}

impl brl_codec_format {
    /// Convert a format.
    pub fn new(format: &CodecFormat) -> Self {
        Self {
            struct_size: size::<Self>(),
            bits: u64::from(format.bits),
            group: format.group as u64,
            axis: axis_code(format.axis),
            residual: format.residual as u64,
        }
    }

    /// Convert back; an error describes what is invalid.
    pub fn format(&self) -> Result<CodecFormat, String> {
        if ![2, 4, 8].contains(&self.bits) {
            return Err(format!("{} bits per number", self.bits));
        }
        if self.group == 0 || self.group > 1 << 20 || self.residual > 1 << 40 {
            return Err(format!(
                "groups of {} numbers, {} residual tokens",
                self.group, self.residual
            ));
        }
        let axis = axis(self.axis).ok_or_else(|| format!("there is no axis {}", self.axis))?;
        Ok(CodecFormat {
            bits: self.bits as u32,
            group: self.group as usize,
            axis,
            residual: self.residual as usize,
        })
    }
}
