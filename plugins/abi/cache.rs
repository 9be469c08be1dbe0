//! A transformer's memory: `kv.plan/1`, `kv.keep/1`, `kv.codec/1`.
//!
//! Statistics arrive reduced by the host; attention matrices and copies of keys and values never cross.

use core::ffi::c_void;

use crate::value::{brl_call, brl_ids, brl_self, brl_status, brl_tensor, brl_u32s};

/// `brl_kv_plan.needs`: the plugin wants `distances` and `similarity`.
pub const BRL_NEED_TRIAL: u64 = 1;
/// `brl_keep_wants.needs`: attention summed over all queries so far.
pub const BRL_NEED_ACCUMULATED: u64 = 2;
/// `brl_keep_wants.needs`: the norm of each key.
pub const BRL_NEED_KEY_NORM: u64 = 4;

/// Distance of two layers: mean over heads and positions of the Euclidean distance along the head's width.
pub const BRL_DISTANCE_MEAN_OF_NORMS: u64 = 0;
/// Euclidean distance of all numbers as one vector.
pub const BRL_DISTANCE_FLATTENED: u64 = 1;
/// 1 − cosine of all numbers as one vector.
pub const BRL_DISTANCE_COSINE: u64 = 2;
/// Euclidean distance of all numbers as one vector, each scaled to length 1.
pub const BRL_DISTANCE_NORMALISED: u64 = 3;

/// What `kv.plan/1` is asked about. `L` layers.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_plan_in {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Layers, L.
    pub layers: u64,
    /// Longest context.
    pub context: u64,
    /// Query heads of each layer. [L]
    pub query_heads: brl_ids,
    /// Key and value heads of each layer. [L]
    pub kv_heads: brl_ids,
    /// Width of a head in each layer. [L]
    pub head_width: brl_ids,
    /// The host's, for the two below.
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
    /// Mean cosine of the final hidden states under a map with those under the identity; null without such
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

/// `kv.plan/1`: whose keys and values each layer reads (KVSharer). Asked once, before a cache is allocated.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_kv_plan {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// `BRL_NEED_TRIAL`, or 0.
    pub needs: u64,
    /// source [L] arrives as identity: source[l] ≤ l, source[source[l]] = source[l]. storage [L] arrives as 0:
    /// bits of a number in the layer's cache, 32, 16, or 0 for the run's own. [instance]
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

/// What `kv.keep/1` wants to be given for a prompt.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_keep_wants {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// `BRL_NEED_ACCUMULATED`, `BRL_NEED_KEY_NORM`.
    pub needs: u64,
    /// Last queries over whose attention `column` is the weighted mean; 0 for no `column`.
    pub column_window: u64,
    /// Weight of the oldest of them; weights run linearly to the newest.
    pub column_oldest: f64,
    /// Weight of the newest.
    pub column_newest: f64,
    /// `BRL_HEADS_*`.
    pub column_heads: u64,
}

/// `brl_keep_in.phase`: the prompt has just passed through the layer.
pub const BRL_PHASE_PREFILL: u64 = 0;
/// A new token has, and the layer is longer than `next_check`.
pub const BRL_PHASE_DECODE: u64 = 1;

/// A layer to decide about: N slots in use, R rows of the hidden stream, G rows of heads.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_keep_in {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// The sequence, unique within the run.
    pub sequence: u64,
    /// Tokens of the sequence decoded so far.
    pub step: u64,
    /// `BRL_PHASE_*`.
    pub phase: u64,
    /// The layer.
    pub layer: u64,
    /// Layers, L.
    pub layers: u64,
    /// Key-value heads that may keep different slots: more than 1 only where a statistic by head was asked for.
    pub heads: u64,
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Tokens of the sequence so far, kept or not.
    pub length: u64,
    /// Original position of each slot, ascending within a head: heads may hold different tokens. [heads, N]
    pub positions: brl_ids,
    /// Original position of each row of the hidden stream, ascending; empty in decoding. [R]
    pub stream: brl_ids,
    /// As wanted by `column_*`. [G, N]
    pub column: brl_tensor,
    /// As wanted by `BRL_NEED_ACCUMULATED`. [H_kv, N]
    pub accumulated: brl_tensor,
    /// As wanted by `BRL_NEED_KEY_NORM`. [H_kv, N]
    pub key_norm: brl_tensor,
}

/// A count in [`brl_kept`] that means all, and a `next_check` that means never.
pub const BRL_ALL: u64 = 0xFFFF_FFFF_FFFF_FFFF;

/// The decision about a layer, written by the plugin into the host's buffers.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_kept {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Indices 0 to N into a head's row of `positions`, ascending, the newest slot among them, one head after the
    /// other. Room for heads · N.
    pub slots: brl_u32s,
    /// How many were written; arrives as `BRL_ALL`.
    pub slot_count: u64,
    /// Lists in `slots`: 1 (arrives so), or the question's `heads`, each of slot_count / heads.
    pub heads: u64,
    /// Indices into the question's `stream`, ascending, the last row among them. Room for R.
    pub stream: brl_u32s,
    /// How many were written; arrives as `BRL_ALL`.
    pub stream_count: u64,
    /// Slots beyond which the layer is asked about again in decoding; arrives as `BRL_ALL`.
    pub next_check: u64,
}

/// `kv.keep/1`: which slots stay and which rows of the hidden stream go on (PyramidInfer, H2O, SnapKV,
/// StreamingLLM).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_kv_keep {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// 0.
    pub needs: u64,
    /// A prompt of this length begins; state of an earlier sequence of this number ends. May be null. [instance]
    pub begin: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            sequence: u64,
            prompt: u64,
            wants: *mut brl_keep_wants,
        ) -> brl_status,
    >,
    /// Decides about a layer. [instance]
    pub keep: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            question: *const brl_keep_in,
            kept: *mut brl_kept,
        ) -> brl_status,
    >,
}

/// `brl_codec_in.side`: keys.
pub const BRL_SIDE_KEY: u64 = 0;
/// Values.
pub const BRL_SIDE_VALUE: u64 = 1;
/// `brl_codec_plan.axis`: a group is one channel over several tokens.
pub const BRL_AXIS_CHANNEL: u64 = 0;
/// A group is one token over several channels.
pub const BRL_AXIS_TOKEN: u64 = 1;

/// A layer's keys or values to plan.
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
pub struct brl_codec_plan {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Bits of q: 2, 4 or 8.
    pub bits: u64,
    /// Numbers in a group.
    pub group: u64,
    /// `BRL_AXIS_*`.
    pub axis: u64,
    /// The newest tokens that stay as they are, at least.
    pub residual: u64,
}

/// `kv.codec/1`: in how many bits a cache stores its numbers (KIVI). Asked once a layer and side.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_kv_codec {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// 0.
    pub needs: u64,
    /// The format of a layer's keys or values. [instance]
    pub plan: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            question: *const brl_codec_in,
            plan: *mut brl_codec_plan,
        ) -> brl_status,
    >,
}
