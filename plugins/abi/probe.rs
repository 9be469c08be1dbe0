//! Looking: `probe/1`.

use crate::value::{brl_call, brl_ids, brl_self, brl_sink, brl_status, brl_tensor};

/// The signal that arrived at a node: one row a hop. [1, D]
pub const BRL_TAP_SIGNAL: u64 = 1;
/// The energies of all next nodes: one row a step. [1, V]
pub const BRL_TAP_ENERGY: u64 = 2;
/// The hidden stream after a layer; layer 0 is the embedding. [R, D]
pub const BRL_TAP_HIDDEN: u64 = 4;
/// A transformer's logits. [R, V]
pub const BRL_TAP_LOGITS: u64 = 8;

/// What there is to see at a tap.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_sight {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// The sequence, unique within the run.
    pub sequence: u64,
    /// Hops or tokens of the sequence.
    pub step: u64,
    /// One `BRL_TAP_*`.
    pub tap: u64,
    /// The layer; 0 on the graph.
    pub layer: u64,
    /// Layers; 1 on the graph.
    pub layers: u64,
    /// The token of each row. [R]
    pub tokens: brl_ids,
    /// The rows. [R, width]
    pub values: brl_tensor,
}

/// `probe/1`: looks, reports, and never changes the run (semantic size).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_probe {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// 0.
    pub needs: u64,
    /// The taps it wants to look at, `BRL_TAP_*` added up. [instance]
    pub taps: Option<unsafe extern "C" fn(instance: *mut brl_self) -> u64>,
    /// Looks. [instance]
    pub see: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            sight: *const brl_sight,
        ) -> brl_status,
    >,
    /// What it saw, as one record that is one JSON value. [instance]
    pub report: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            json: *const brl_sink,
        ) -> brl_status,
    >,
}
