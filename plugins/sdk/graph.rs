//! Hooks of the graph: [`EdgeHook`], [`SignalHook`], [`PathHook`], and shaders.

use brillm_abi as abi;

use crate::entry::{HookTables, hook_functions, status_of, table};
use crate::{Answer, Fan, Hop, Host, Plugin, Result};

/// `edge/1`: rewrites resistances.
pub trait EdgeHook: Plugin {
    /// Rewrite the resistance of every edge in place. `resistance [V]`
    ///
    /// Resistances are initialised to nats above the easiest edge. Only differences count: the next node is drawn from
    /// the softmax of their negatives.
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn resist(
        &mut self,
        host: &mut Host<'_>,
        fan: &Fan<'_>,
        resistance: &mut [f32],
    ) -> Result<Answer>;
}

/// `signal/1`: sets the initial signal.
pub trait SignalHook: Plugin {
    /// Write the initial signal, which holds the run's default. `signal [D]`
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn start(&mut self, host: &mut Host<'_>, prompt: &[u32], signal: &mut [f32]) -> Result<Answer>;
}

/// `path/1`: observes every hop.
pub trait PathHook: Plugin {
    /// Whether rank, resistance and runners-up are needed, which cost the engine a pass over all nodes.
    const RANK: bool = true;

    /// Observe a hop.
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn hop(&mut self, host: &mut Host<'_>, hop: &Hop<'_>) -> Result<()>;
}

hook_functions! {
    fn resist<T: EdgeHook>(
        fan: *const abi::brl_fan,
        resistance: abi::brl_f32s,
    ) = |plugin, host| {
        // SAFETY: the host's table and buffer, valid and the plugin's for this call.
        let (raw, resistance) = unsafe { (table(fan)?, resistance.slice_mut()) };
        (host.sequence, host.step) = (raw.sequence, raw.step);
        // SAFETY: the host's views, valid for this call.
        plugin.resist(host, &unsafe { raw.fan() }, resistance).map(status_of)
    }

    fn start<T: SignalHook>(
        start: *const abi::brl_start,
        signal: abi::brl_f32s,
    ) = |plugin, host| {
        // SAFETY: the host's table and buffer, valid and the plugin's for this call.
        let (raw, signal) = unsafe { (table(start)?, signal.slice_mut()) };
        host.sequence = raw.sequence;
        // SAFETY: the host's view, valid for this call.
        plugin.start(host, unsafe { raw.prompt.slice() }, signal).map(status_of)
    }

    fn hop<T: PathHook>(hop: *const abi::brl_hop) = |plugin, host| {
        // SAFETY: the host's table, valid for this call.
        let raw = unsafe { table(hop)? };
        (host.sequence, host.step) = (raw.sequence, raw.step);
        // SAFETY: the host's views, valid for this call.
        plugin.hop(host, &unsafe { raw.hop() }).map(|()| abi::BRL_OK)
    }
}

impl<T: EdgeHook> HookTables<T> {
    /// The table of `edge/1`.
    pub const EDGE: abi::brl_edge = abi::brl_edge {
        struct_size: size_of::<abi::brl_edge>() as u64,
        needs: 0,
        resist: Some(resist::<T>),
    };
}

impl<T: SignalHook> HookTables<T> {
    /// The table of `signal/1`.
    pub const SIGNAL: abi::brl_signal = abi::brl_signal {
        struct_size: size_of::<abi::brl_signal>() as u64,
        needs: 0,
        start: Some(start::<T>),
    };
}

impl<T: PathHook> HookTables<T> {
    /// The table of `path/1`.
    pub const PATH: abi::brl_path = abi::brl_path {
        struct_size: size_of::<abi::brl_path>() as u64,
        needs: if T::RANK { abi::BRL_NEED_RANK } else { 0 },
        hop: Some(hop::<T>),
    };
}

/// The function of a hook as a WGSL module.
///
/// Bindings of `wgsl/1:edge/1`, all in group 0: 0 `array<f32>` energies, read `[V]`; 1 `array<u32>` counts, read
/// `[V]`; 2 `array<f32>` resistance, read and write `[V]`; 3 uniform `vec4<u32>`: source, step, V, 0.
#[derive(Clone, Copy, Debug)]
pub struct ShaderSource {
    /// `wgsl/1:` and the hook, for example `wgsl/1:edge/1`.
    pub id: &'static str,
    /// The WGSL source.
    pub source: &'static str,
    /// Compute entry point.
    pub entry_point: &'static str,
    /// Workgroup size.
    pub workgroup: u32,
}

impl ShaderSource {
    #[doc(hidden)]
    pub const fn table(&self) -> abi::brl_wgsl {
        abi::brl_wgsl {
            struct_size: size_of::<abi::brl_wgsl>() as u64,
            source: abi::brl_str::new(self.source),
            entry_point: abi::brl_str::new(self.entry_point),
            workgroup: self.workgroup as u64,
        }
    }
}
