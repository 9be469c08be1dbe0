//! Looking: [`Probe`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use brillm_abi as abi;

use crate::door::{Tables, enter};
use crate::{Call, Plugin, Result, Subject, view};

/// A place where there is something to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tap {
    /// The signal that arrived at a node, on the graph. `[1, D]`
    Signal,
    /// The energies of all next nodes, on the graph. `[1, V]`
    Energy,
    /// The hidden stream after a layer of a transformer; layer 0 is the embedding. `[R, D]`
    Hidden,
    /// A transformer's logits. `[R, V]`
    Logits,
}

impl Tap {
    const ALL: [(Self, u64); 4] = [
        (Self::Signal, abi::BRL_TAP_SIGNAL),
        (Self::Energy, abi::BRL_TAP_ENERGY),
        (Self::Hidden, abi::BRL_TAP_HIDDEN),
        (Self::Logits, abi::BRL_TAP_LOGITS),
    ];
}

/// What there is to see at a tap.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    /// The sequence, unique within the run.
    pub sequence: u64,
    /// Hops or tokens of the sequence.
    pub step: u64,
    /// Where.
    pub tap: Tap,
    /// The layer; 0 on the graph.
    pub layer: usize,
    /// Layers; 1 on the graph.
    pub layers: usize,
    /// The token of each row. `[R]`
    pub tokens: &'a [u32],
    /// The rows, one after the other. `[R, width]`
    pub values: &'a [f32],
    /// Numbers in a row.
    pub width: usize,
}

/// `probe/1`: looks, reports, and never changes the run.
pub trait Probe: Plugin {
    /// The taps to look at.
    fn taps(&self) -> Vec<Tap>;

    /// Looks.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn see(&mut self, call: &mut Call<'_>, activations: &Activations<'_>) -> Result<()>;

    /// What it saw, as one JSON value; `None` when it has nothing to say.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn report(&mut self, call: &mut Call<'_>) -> Result<Option<serde_json::Value>>;

    /// Whether it implements [`Probe::ask`].
    const ASKS: bool = false;

    /// Asks the model itself, about texts of its own; `brillm probe` without texts runs it, then the report.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn ask(&mut self, _call: &mut Call<'_>, _subject: &mut Subject<'_>) -> Result<()> {
        Ok(())
    }
}

unsafe extern "C" fn taps<T: Probe>(instance: *mut abi::brl_self) -> u64 {
    // SAFETY: the host passes what `create` made, one call at a time.
    let Some(instance) = (unsafe { instance.cast::<crate::door::Instance<T>>().as_ref() }) else {
        return 0;
    };
    let wanted = catch_unwind(AssertUnwindSafe(|| instance.plugin().taps())).unwrap_or_default();
    Tap::ALL
        .iter()
        .filter(|(tap, _)| wanted.contains(tap))
        .map(|(_, bit)| bit)
        .sum()
}

unsafe extern "C" fn see<T: Probe>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    activations: *const abi::brl_activations,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        // SAFETY: the host's table, valid for this call.
        let raw = unsafe { view::read(activations) }.ok_or("there is no sight")?;
        let Some(&(tap, _)) = Tap::ALL.iter().find(|(_, bit)| *bit == raw.tap) else {
            return Ok(abi::BRL_DECLINED);
        };
        let activations = Activations {
            sequence: raw.sequence,
            step: raw.step,
            tap,
            layer: raw.layer as usize,
            layers: raw.layers as usize,
            // SAFETY: the host's views, valid for this call.
            tokens: unsafe { view::ids(raw.tokens) },
            // SAFETY: as above.
            values: unsafe { view::floats(&raw.values) },
            width: raw.values.shape[1] as usize,
        };
        plugin.see(call, &activations).map(|()| abi::BRL_OK)
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

unsafe extern "C" fn report<T: Probe>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    json: *const abi::brl_sink,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        let Some(report) = plugin.report(call)? else {
            return Ok(abi::BRL_DECLINED);
        };
        let text = report.to_string();
        // SAFETY: the host's sink, valid for this call.
        unsafe { crate::corpus::put(json, text.as_bytes()) }.map(|()| abi::BRL_OK)
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

unsafe extern "C" fn ask<T: Probe>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    subject: *const abi::brl_subject,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        // SAFETY: the host's table, valid for this call.
        let raw = unsafe { view::read(subject) }.ok_or("there is no subject")?;
        plugin
            .ask(call, &mut Subject::new(&raw))
            .map(|()| abi::BRL_OK)
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

impl<T: Probe> Tables<T> {
    /// The table of `probe/1`.
    pub const PROBE: abi::brl_probe = abi::brl_probe {
        struct_size: size_of::<abi::brl_probe>() as u64,
        needs: 0,
        taps: Some(taps::<T>),
        see: Some(see::<T>),
        report: Some(report::<T>),
        ask: if T::ASKS { Some(ask::<T>) } else { None },
    };
}
