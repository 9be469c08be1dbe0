//! The graph's hooks: [`Edge`], [`Signal`], [`Path`], and shaders.

use brillm_abi as abi;

use crate::door::{Tables, answered, enter};
use crate::{Answer, Call, Plugin, Result, view};

/// The fan that a signal is about to leave through: V nodes, F edges that text has walked.
#[derive(Clone, Copy, Debug)]
pub struct Fan<'a> {
    /// The sequence, unique within the run.
    pub sequence: u64,
    /// Hops so far.
    pub step: u64,
    /// The node the signal leaves.
    pub source: u32,
    /// Energy with which it reaches every node. `[V]`
    pub energies: &'a [f32],
    /// Targets of the walked edges, ascending. `[F]`
    pub targets: &'a [u32],
    /// How often text walked each. `[F]`
    pub counts: &'a [u32],
}

/// `edge/1`: resistances.
pub trait Edge: Plugin {
    /// Rewrites the resistance of every edge in place. `resistance [V]`
    ///
    /// They arrive in nats above the easiest edge; only differences count, and the next node is drawn from the
    /// softmax of their negatives.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn resist(
        &mut self,
        call: &mut Call<'_>,
        fan: &Fan<'_>,
        resistance: &mut [f32],
    ) -> Result<Answer>;
}

unsafe extern "C" fn resist<T: Edge>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    fan: *const abi::brl_fan,
    resistance: abi::brl_f32s,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        // SAFETY: the host's table and buffers, valid and ours for this call.
        let (fan, resistance) = unsafe { (view::read(fan), view::floats_mut(resistance)) };
        let fan = fan.ok_or("there is no fan")?;
        // SAFETY: the host's views, valid for this call.
        let fan = unsafe {
            Fan {
                sequence: fan.sequence,
                step: fan.step,
                source: fan.source as u32,
                energies: view::floats(&fan.energies),
                targets: view::ids(fan.targets),
                counts: view::ids(fan.counts),
            }
        };
        plugin.resist(call, &fan, resistance).map(answered)
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

impl<T: Edge> Tables<T> {
    /// The table of `edge/1`.
    pub const EDGE: abi::brl_edge = abi::brl_edge {
        struct_size: size_of::<abi::brl_edge>() as u64,
        needs: 0,
        resist: Some(resist::<T>),
    };
}

/// A signal that is about to start.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The sequence, unique within the run.
    pub sequence: u64,
    /// The prompt.
    pub prompt: &'a [u32],
}

/// `signal/1`: the initial signal.
pub trait Signal: Plugin {
    /// Writes the start; it arrives holding what the run starts from. `signal [D]`
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn start(
        &mut self,
        call: &mut Call<'_>,
        start: &Start<'_>,
        signal: &mut [f32],
    ) -> Result<Answer>;
}

unsafe extern "C" fn start<T: Signal>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    start: *const abi::brl_start,
    signal: abi::brl_f32s,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        // SAFETY: the host's table and buffers, valid and ours for this call.
        let (start, signal) = unsafe { (view::read(start), view::floats_mut(signal)) };
        let start = start.ok_or("there is no start")?;
        let start = Start {
            sequence: start.sequence,
            // SAFETY: the host's view, valid for this call.
            prompt: unsafe { view::ids(start.prompt) },
        };
        plugin.start(call, &start, signal).map(answered)
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

impl<T: Signal> Tables<T> {
    /// The table of `signal/1`.
    pub const SIGNAL: abi::brl_signal = abi::brl_signal {
        struct_size: size_of::<abi::brl_signal>() as u64,
        needs: 0,
        start: Some(start::<T>),
    };
}

/// A hop that was taken.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The sequence, unique within the run.
    pub sequence: u64,
    /// Hops so far, this one included.
    pub step: u64,
    /// The node left.
    pub source: u32,
    /// The node reached.
    pub target: u32,
    /// Nodes that had less resistance; `None` for hops of the prompt, and without [`Path::RANK`].
    pub rank: Option<u64>,
    /// −ln p of the hop; not a number for hops of the prompt, and without [`Path::RANK`].
    pub resistance: f64,
    /// The nodes of least resistance besides the target, best first.
    pub runners_up: &'a [u32],
    /// The signal after the hop. `[D]`
    pub signal: &'a [f32],
}

/// `path/1`: told of every hop.
pub trait Path: Plugin {
    /// Wants rank, resistance and runners-up, which cost the engine a pass over all nodes.
    const RANK: bool = true;

    /// A hop was taken.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn hop(&mut self, call: &mut Call<'_>, hop: &Hop<'_>) -> Result<()>;
}

unsafe extern "C" fn hop<T: Path>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    hop: *const abi::brl_hop,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        // SAFETY: the host's table, valid for this call.
        let hop = unsafe { view::read(hop) }.ok_or("there is no hop")?;
        let hop = Hop {
            sequence: hop.sequence,
            step: hop.step,
            source: hop.source as u32,
            target: hop.target as u32,
            rank: (hop.rank != abi::BRL_UNRANKED).then_some(hop.rank),
            resistance: hop.resistance,
            // SAFETY: the host's views, valid for this call.
            runners_up: unsafe { view::ids(hop.runners_up) },
            // SAFETY: as above.
            signal: unsafe { view::floats(&hop.signal) },
        };
        plugin.hop(call, &hop).map(|()| abi::BRL_OK)
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

impl<T: Path> Tables<T> {
    /// The table of `path/1`.
    pub const PATH: abi::brl_path = abi::brl_path {
        struct_size: size_of::<abi::brl_path>() as u64,
        needs: if T::RANK { abi::BRL_NEED_RANK } else { 0 },
        hop: Some(hop::<T>),
    };
}

/// The function of a hook as a WGSL module.
///
/// The bindings of `wgsl/1:edge/1`, all in group 0: 0 `array<f32>` energies, read `[V]`; 1 `array<u32>` counts,
/// read `[V]`; 2 `array<f32>` resistance, read and write `[V]`; 3 uniform `vec4<u32>`: source, step, V, 0.
#[derive(Clone, Copy, Debug)]
pub struct Shader {
    /// `wgsl/1:` and the hook, for example `wgsl/1:edge/1`.
    pub id: &'static str,
    /// The module.
    pub source: &'static str,
    /// Its compute entry point.
    pub entry_point: &'static str,
    /// Invocations in a workgroup.
    pub workgroup: u32,
}

impl Shader {
    #[doc(hidden)]
    pub const fn table(&self) -> abi::brl_wgsl {
        abi::brl_wgsl {
            struct_size: size_of::<abi::brl_wgsl>() as u64,
            source: view::lend(self.source),
            entry_point: view::lend(self.entry_point),
            workgroup: self.workgroup as u64,
        }
    }
}
