//! The hook that observes models: [`ProbeHook`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use brillm_abi as abi;

use crate::entry::{HookTables, PluginInstance, collect, hook_functions, put, table};
use crate::{Activations, Host, Plugin, PluginError, Result, State, SubjectShape, Tap};

/// `probe/1`: observes and reports; never changes the run.
pub trait ProbeHook: Plugin {
    /// Return the taps to observe.
    fn taps(&self) -> Vec<Tap>;

    /// Observe activations.
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn see(&mut self, host: &mut Host<'_>, activations: &Activations<'_>) -> Result<()>;

    /// Report the observations as one JSON value; `None` for no report.
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn report(&mut self, host: &mut Host<'_>) -> Result<Option<serde_json::Value>>;

    /// Whether the plugin implements [`Self::ask`].
    const ASKS: bool = false;

    /// Query the model with the plugin's own texts. `brillm probe` without texts calls this, then [`Self::report`].
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn ask(&mut self, _host: &mut Host<'_>, _model: &mut HostModel<'_>) -> Result<()> {
        Ok(())
    }
}

/// The run's model. Every answer depends on the model and the question alone.
pub struct HostModel<'a> {
    raw: &'a abi::brl_subject,
}

/// Reads a record as numbers in the machine's byte order.
macro_rules! numbers {
    ($records:expr, $number:ty) => {
        $records
            .concat()
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| <$number>::from_ne_bytes(bytes))
            .collect()
    };
}

impl HostModel<'_> {
    /// Return kind and size of the model.
    pub fn shape(&self) -> SubjectShape {
        self.raw.shape()
    }

    /// Encode a text as tokens.
    ///
    /// # Errors
    /// A failure of the engine.
    pub fn tokens(&mut self, text: &str) -> Result<Vec<u32>> {
        let ask = self.raw.tokens.ok_or("the engine gives no tokens")?;
        // SAFETY: the context is the host's for this call; text and sink live until it returns.
        let records = collect("tokens", |sink| unsafe {
            ask(self.raw.ctx, abi::brl_str::new(text), sink)
        })?;
        Ok(numbers!(records, u32))
    }

    /// Compute −ln p of each token of `answer` after `prompt`. `[T]`
    ///
    /// # Errors
    /// A failure of the engine.
    pub fn resist(&mut self, prompt: &str, answer: &str) -> Result<Vec<f64>> {
        let ask = self.raw.resist.ok_or("the engine gives no resistances")?;
        let (prompt, answer) = (abi::brl_str::new(prompt), abi::brl_str::new(answer));
        // SAFETY: as above.
        let records = collect("resist", |sink| unsafe {
            ask(self.raw.ctx, prompt, answer, sink)
        })?;
        Ok(numbers!(records, f64))
    }

    /// Compute a state for a text, layer by layer, token by token.
    ///
    /// # Errors
    /// A failure of the engine; a state that this kind of model does not have.
    pub fn states(&mut self, state: State, text: &str) -> Result<Vec<f32>> {
        let ask = self.raw.states.ok_or("the engine gives no states")?;
        // SAFETY: as above.
        let records = collect("states", |sink| unsafe {
            ask(
                self.raw.ctx,
                abi::state_code(state),
                abi::brl_str::new(text),
                sink,
            )
        })?;
        Ok(numbers!(records, f32))
    }

    /// Use the weights that training with `seed` would begin with, or the model's own for `None`.
    ///
    /// # Errors
    /// A failure of the engine.
    pub fn untrained(&mut self, seed: Option<u64>) -> Result<()> {
        let ask = self
            .raw
            .untrained
            .ok_or("the engine has no untrained weights")?;
        let seed = seed.map_or(0, |seed| seed.max(1));
        // SAFETY: the context is the host's for this call.
        PluginError::check(unsafe { ask(self.raw.ctx, seed) }, "untrained")
    }

    /// Add `delta` to the bias of one node of the graph; an empty `delta` removes the shift. `delta [D]`
    ///
    /// # Errors
    /// A failure of the engine.
    pub fn shift(&mut self, node: u32, delta: &[f32]) -> Result<()> {
        let ask = self.raw.shift.ok_or("the engine cannot shift nodes")?;
        let delta = abi::brl_tensor::vector(delta);
        // SAFETY: the context is the host's for this call; the numbers live until it returns.
        let status = unsafe { ask(self.raw.ctx, u64::from(node), delta) };
        PluginError::check(status, "shift")
    }
}

unsafe extern "C" fn taps<T: ProbeHook>(instance: *mut abi::brl_self) -> u64 {
    // SAFETY: the host passes what `create` made, one call at a time.
    let Some(instance) = (unsafe { instance.cast::<PluginInstance<T>>().as_ref() }) else {
        return 0;
    };
    catch_unwind(AssertUnwindSafe(|| instance.plugin().taps()))
        .unwrap_or_default()
        .into_iter()
        .fold(0, |taps, tap| taps | abi::tap_code(tap))
}

hook_functions! {
    fn see<T: ProbeHook>(activations: *const abi::brl_activations) = |plugin, host| {
        // SAFETY: the host's table, valid for this call.
        let raw = unsafe { table(activations)? };
        (host.sequence, host.step) = (raw.sequence, raw.step);
        // SAFETY: the host's views, valid for this call.
        match unsafe { raw.activations() } {
            Some(activations) => plugin.see(host, &activations).map(|()| abi::BRL_OK),
            None => Ok(abi::BRL_DECLINED),
        }
    }

    fn report<T: ProbeHook>(json: *const abi::brl_sink) = |plugin, host| {
        let Some(report) = plugin.report(host)? else {
            return Ok(abi::BRL_DECLINED);
        };
        // SAFETY: the host's sink, valid for this call.
        unsafe { put(json, report.to_string().as_bytes()) }.map(|()| abi::BRL_OK)
    }

    fn ask<T: ProbeHook>(subject: *const abi::brl_subject) = |plugin, host| {
        // SAFETY: the host's table, valid for this call.
        let raw = unsafe { table(subject)? };
        plugin.ask(host, &mut HostModel { raw: &raw }).map(|()| abi::BRL_OK)
    }
}

impl<T: ProbeHook> HookTables<T> {
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
