//! The graph: `edge/1`, `signal/1`, `path/1`, and shaders, `wgsl/1:<hook>`.

use brillm_hook::{Fan, Hop};

use crate::value::{brl_call, brl_f32s, brl_ids, brl_self, brl_status, brl_str, brl_tensor, size};

/// The outgoing edges of a node: V targets, of which text has walked F.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_fan {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Number of the sequence, unique within the run.
    pub sequence: u64,
    /// Hops so far.
    pub step: u64,
    /// The node that the signal leaves.
    pub source: u64,
    /// Energy of the signal at every target. [V]
    pub energies: brl_tensor,
    /// Targets of the walked edges, ascending. [F]
    pub targets: brl_ids,
    /// How often text walked each of them. [F]
    pub counts: brl_ids,
}

/// `edge/1`: rewrites the resistance of every edge out of one node. Plugins form a chain.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_edge {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// 0.
    pub needs: u64,
    /// Rewrite resistances in place. They are initialised to nats above the easiest edge; only differences count:
    /// the next node is drawn from the softmax of their negatives. resistance [V] [instance]
    pub resist: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            fan: *const brl_fan,
            resistance: brl_f32s,
        ) -> brl_status,
    >,
}

/// The prompt of a signal.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_start {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Number of the sequence, unique within the run.
    pub sequence: u64,
    /// The prompt.
    pub prompt: brl_ids,
}

/// `signal/1`: sets the initial signal.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_signal {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// 0.
    pub needs: u64,
    /// Write the initial signal, which holds the run's default. signal [D] [instance]
    pub start: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            start: *const brl_start,
            signal: brl_f32s,
        ) -> brl_status,
    >,
}

/// `brl_hop.rank` of a hop of the prompt.
pub const BRL_UNRANKED: u64 = 0xFFFF_FFFF_FFFF_FFFF;

/// `brl_path.needs`: rank, resistance and runners-up of each hop, which cost the host a pass over all nodes.
pub const BRL_NEED_RANK: u64 = 32;

/// A hop from one node to the next.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_hop {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Number of the sequence, unique within the run.
    pub sequence: u64,
    /// Hops so far, this one included.
    pub step: u64,
    /// The node left.
    pub source: u64,
    /// The node reached.
    pub target: u64,
    /// Number of nodes with less resistance, or `BRL_UNRANKED`, also without `BRL_NEED_RANK`.
    pub rank: u64,
    /// −ln p of the hop; NaN for hops of the prompt, or without `BRL_NEED_RANK`.
    pub resistance: f64,
    /// The nodes of least resistance other than the target, best first; empty without `BRL_NEED_RANK`.
    pub runners_up: brl_ids,
    /// The signal after the hop. [D]
    pub signal: brl_tensor,
}

/// `path/1`: observes every hop.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_path {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// `BRL_NEED_RANK`, or 0.
    pub needs: u64,
    /// Observe a hop. [instance]
    pub hop: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            hop: *const brl_hop,
        ) -> brl_status,
    >,
}

/// `wgsl/1:<hook>`, for example `wgsl/1:edge/1`: the same function as a shader. The host validates the source,
/// owns the pipeline, and compares it with the hook's function before use.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_wgsl {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// The WGSL module.
    pub source: brl_str,
    /// Compute entry point.
    pub entry_point: brl_str,
    /// Workgroup size, as the module declares.
    pub workgroup: u64,
}

impl brl_fan {
    /// Lend a fan.
    pub fn new(sequence: u64, step: u64, fan: &Fan<'_>) -> Self {
        Self {
            struct_size: size::<Self>(),
            sequence,
            step,
            source: u64::from(fan.source),
            energies: brl_tensor::vector(fan.energies),
            targets: brl_ids::new(fan.targets),
            counts: brl_ids::new(fan.counts),
        }
    }

    /// # Safety
    /// The views are valid for `'a`.
    pub unsafe fn fan<'a>(&self) -> Fan<'a> {
        // SAFETY: as the caller promises.
        unsafe {
            Fan {
                source: self.source as u32,
                energies: self.energies.as_floats(),
                targets: self.targets.slice(),
                counts: self.counts.slice(),
            }
        }
    }
}

impl brl_start {
    /// Lend a prompt.
    pub fn new(sequence: u64, prompt: &[u32]) -> Self {
        Self {
            struct_size: size::<Self>(),
            sequence,
            prompt: brl_ids::new(prompt),
        }
    }
}

impl brl_hop {
    /// Lend a hop.
    pub fn new(sequence: u64, step: u64, hop: &Hop<'_>) -> Self {
        Self {
            struct_size: size::<Self>(),
            sequence,
            step,
            source: u64::from(hop.source),
            target: u64::from(hop.target),
            rank: hop.rank.unwrap_or(BRL_UNRANKED),
            resistance: hop.resistance,
            runners_up: brl_ids::new(hop.runners_up),
            signal: brl_tensor::vector(hop.signal),
        }
    }

    /// # Safety
    /// The views are valid for `'a`.
    pub unsafe fn hop<'a>(&self) -> Hop<'a> {
        // SAFETY: as the caller promises.
        unsafe {
            Hop {
                source: self.source as u32,
                target: self.target as u32,
                rank: (self.rank != BRL_UNRANKED).then_some(self.rank),
                resistance: self.resistance,
                runners_up: self.runners_up.slice(),
                signal: self.signal.as_floats(),
            }
        }
    }
}
