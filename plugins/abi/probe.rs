//! Observing models: `probe/1`.

use core::ffi::c_void;

use brillm_hook::{Activations, State, SubjectKind, SubjectShape, Tap};

use crate::value::{
    brl_call, brl_ids, brl_self, brl_sink, brl_status, brl_str, brl_tensor, codes, size,
};

/// The signal received by a node: one row per hop. [1, D]
pub const BRL_TAP_SIGNAL: u64 = 1;
/// The energies of all next nodes: one row per step. [1, V]
pub const BRL_TAP_ENERGY: u64 = 2;
/// The residual stream after so many layers; 0 is the embedding. [R, D]
pub const BRL_TAP_HIDDEN: u64 = 4;
/// A transformer's logits. [R, V]
pub const BRL_TAP_LOGITS: u64 = 8;
/// Queries of a layer, after the rotary embedding. [R, H d]
pub const BRL_TAP_QUERY: u64 = 16;
/// Keys of a layer, after the rotary embedding. [R, H_kv d]
pub const BRL_TAP_KEY: u64 = 32;
/// Values of a layer. [R, H_kv d]
pub const BRL_TAP_VALUE: u64 = 64;
/// Attention of a sequence's last row, averaged over the heads of a layer, by position. [1, T]
pub const BRL_TAP_ATTENTION: u64 = 128;
/// The attention output of a layer. [R, H d]
pub const BRL_TAP_ATTENDED: u64 = 256;
/// The residual stream after the final norm. [R, D]
pub const BRL_TAP_FINAL: u64 = 512;

/// The activations at a tap.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_activations {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Number of the sequence, unique within the run.
    pub sequence: u64,
    /// Hops or tokens of the sequence.
    pub step: u64,
    /// One `BRL_TAP_*`.
    pub tap: u64,
    /// Layers passed, or the index of the layer; 0 on the graph.
    pub layer: u64,
    /// Layers; 1 on the graph.
    pub layers: u64,
    /// The token of each row. [R]
    pub tokens: brl_ids,
    /// The rows. [R, width]
    pub values: brl_tensor,
}

/// A signal over a graph.
pub const BRL_SUBJECT_GRAPH: u64 = 0;
/// Layers of attention.
pub const BRL_SUBJECT_TRANSFORMER: u64 = 1;

/// Graph: the own vector of each token's node. [1, T, D]
pub const BRL_STATE_NODE: u64 = 0;
/// Graph: the signal that each node sends. [1, T, D]
pub const BRL_STATE_SIGNAL: u64 = 1;
/// Graph: the energies of all next nodes at each node. [1, T, V]
pub const BRL_STATE_ENERGY: u64 = 2;
/// Transformer: the residual stream after each layer; layer 0 is the embedding. [L + 1, T, D]
pub const BRL_STATE_HIDDEN: u64 = 3;

/// The run's model. Sinks receive one record of numbers in the machine's byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_subject {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// One `BRL_SUBJECT_*`.
    pub kind: u64,
    /// Layers, without the embedding; 1 on the graph.
    pub layers: u64,
    /// `D`.
    pub width: u64,
    /// `V`.
    pub nodes: u64,
    /// Context of the functions.
    pub ctx: *mut c_void,
    /// Encode a text as tokens, uint32_t each. [instance]
    pub tokens: Option<
        unsafe extern "C" fn(ctx: *mut c_void, text: brl_str, ids: *const brl_sink) -> brl_status,
    >,
    /// Compute -ln p of each token of `answer` after `prompt`, double each. [instance]
    pub resist: Option<
        unsafe extern "C" fn(
            ctx: *mut c_void,
            prompt: brl_str,
            answer: brl_str,
            resistance: *const brl_sink,
        ) -> brl_status,
    >,
    /// Compute a state of a text, `BRL_STATE_*`, float each. [instance]
    pub states: Option<
        unsafe extern "C" fn(
            ctx: *mut c_void,
            state: u64,
            text: brl_str,
            values: *const brl_sink,
        ) -> brl_status,
    >,
    /// Use the weights that training with a seed would begin with; 0 for the model's own. [instance]
    pub untrained: Option<unsafe extern "C" fn(ctx: *mut c_void, seed: u64) -> brl_status>,
    /// Add `delta` [D] to the bias of a node of the graph; an empty `delta` removes the shift. [instance]
    pub shift:
        Option<unsafe extern "C" fn(ctx: *mut c_void, node: u64, delta: brl_tensor) -> brl_status>,
}

/// `probe/1`: observes, reports, and never changes the run (semantic size).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_probe {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// 0.
    pub needs: u64,
    /// Return the taps to observe, the sum of `BRL_TAP_*`. [instance]
    pub taps: Option<unsafe extern "C" fn(instance: *mut brl_self) -> u64>,
    /// Observe activations. [instance]
    pub see: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            activations: *const brl_activations,
        ) -> brl_status,
    >,
    /// Report as one record that is one JSON value. [instance]
    pub report: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            json: *const brl_sink,
        ) -> brl_status,
    >,
    /// Query the model with the plugin's own texts. May be null. [instance]
    pub ask: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            subject: *const brl_subject,
        ) -> brl_status,
    >,
}

codes! {
    tap_code, tap: Tap {
        Signal = BRL_TAP_SIGNAL,
        Energy = BRL_TAP_ENERGY,
        Hidden = BRL_TAP_HIDDEN,
        Query = BRL_TAP_QUERY,
        Key = BRL_TAP_KEY,
        Value = BRL_TAP_VALUE,
        Attention = BRL_TAP_ATTENTION,
        Attended = BRL_TAP_ATTENDED,
        Final = BRL_TAP_FINAL,
        Logits = BRL_TAP_LOGITS,
    }
    state_code, state: State {
        Node = BRL_STATE_NODE,
        Signal = BRL_STATE_SIGNAL,
        Energy = BRL_STATE_ENERGY,
        Hidden = BRL_STATE_HIDDEN,
    }
    subject_code, subject: SubjectKind {
        Graph = BRL_SUBJECT_GRAPH,
        Transformer = BRL_SUBJECT_TRANSFORMER,
    }
}

impl brl_activations {
    /// Lend activations.
    pub fn new(sequence: u64, step: u64, activations: &Activations<'_>) -> Self {
        let rows = activations.values.len() / activations.width.max(1);
        Self {
            struct_size: size::<Self>(),
            sequence,
            step,
            tap: tap_code(activations.tap),
            layer: activations.layer as u64,
            layers: activations.layers as u64,
            tokens: brl_ids::new(activations.tokens),
            values: brl_tensor::floats(activations.values, &[rows, activations.width]),
        }
    }

    /// Convert back; `None` for an unknown tap.
    ///
    /// # Safety
    /// The views are valid for `'a`.
    pub unsafe fn activations<'a>(&self) -> Option<Activations<'a>> {
        // SAFETY: as the caller promises.
        unsafe {
            Some(Activations {
                tap: tap(self.tap)?,
                layer: self.layer as usize,
                layers: self.layers as usize,
                tokens: self.tokens.slice(),
                values: self.values.as_floats(),
                width: self.values.shape[1] as usize,
            })
        }
    }
}

impl brl_subject {
    /// The shape of the model.
    pub fn shape(&self) -> SubjectShape {
        SubjectShape {
            kind: subject(self.kind).unwrap_or(SubjectKind::Transformer),
            layers: self.layers as usize,
            width: self.width as usize,
            nodes: self.nodes as usize,
        }
    }
}
