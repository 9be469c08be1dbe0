//! Hooks of a transformer's KV cache: [`PlanHook`], [`KeepHook`], [`CodecHook`].

use std::ffi::c_void;

use brillm_abi as abi;

use crate::entry::{HookTables, hook_functions, status_of, table, write};
use crate::{
    Answer, CodecFormat, CodecQuestion, Distance, Eviction, Host, KeepNeeds, KeepQuestion, KvShape,
    Planned, Plugin, PluginError, Result,
};

/// The run's model on the run's calibration text, for trying cache plans.
pub struct HostTrial<'a> {
    question: &'a abi::brl_plan_in,
}

impl HostTrial<'_> {
    /// Measure the distances between layers: keys `[L, L]`, values `[L, L]`.
    ///
    /// # Errors
    /// A failure to run the model.
    pub fn distances(&mut self, measure: Distance) -> Result<(Vec<f64>, Vec<f64>)> {
        let Some(distances) = self.question.distances else {
            return Err(PluginError::new("the engine cannot measure distances"));
        };
        let layers = self.question.layers as usize;
        let (mut keys, mut values) = (vec![0.0; layers * layers], vec![0.0; layers * layers]);
        let (keys_out, values_out) = (keys.as_mut_ptr(), values.as_mut_ptr());
        let context: *mut c_void = self.question.trial_ctx;
        // SAFETY: the context is the host's for this call, the buffers hold L·L numbers.
        let status =
            unsafe { distances(context, abi::distance_code(measure), keys_out, values_out) };
        PluginError::check(status, "distances").map(|()| (keys, values))
    }

    /// Measure the mean cosine between the final hidden states under a map and under the identity. `source [L]`
    ///
    /// # Errors
    /// An invalid map; a failure to run the model.
    pub fn similarity(&mut self, source: &[u32]) -> Result<f64> {
        let Some(similarity) = self.question.similarity else {
            return Err(PluginError::new("the engine cannot try maps"));
        };
        if source.len() as u64 != self.question.layers {
            return Err(PluginError::new("a map has one entry per layer"));
        }
        let mut cosine = 0.0;
        let (context, layers) = (self.question.trial_ctx, source.len() as u64);
        // SAFETY: the context is the host's for this call, the map has L entries.
        let status = unsafe { similarity(context, source.as_ptr(), layers, &raw mut cosine) };
        PluginError::check(status, "similarity").map(|()| cosine)
    }
}

/// `kv.plan/1`: decides whose keys and values each layer reads.
pub trait PlanHook: Plugin {
    /// Whether the plugin tries plans on the model.
    const TRIAL: bool = false;

    /// Write the plan. `trial` is `None` if the run has no calibration text.
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn plan(
        &mut self,
        host: &mut Host<'_>,
        shape: &KvShape<'_>,
        trial: Option<HostTrial<'_>>,
        planned: Planned<'_>,
    ) -> Result<Answer>;
}

/// `kv.keep/1`: decides which cache slots and rows of the residual stream are kept.
pub trait KeepHook: Plugin {
    /// Begin a sequence with a prompt of this length and return the statistics needed. Discard the state of an earlier
    /// sequence with the same number.
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn begin(&mut self, _host: &mut Host<'_>, _prompt: usize) -> Result<KeepNeeds> {
        Ok(KeepNeeds::default())
    }

    /// Decide what a layer keeps; `None` keeps everything.
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn keep(
        &mut self,
        host: &mut Host<'_>,
        question: &KeepQuestion<'_>,
    ) -> Result<Option<Eviction>>;
}

/// `kv.codec/1`: decides in how many bits a cache stores its numbers.
pub trait CodecHook: Plugin {
    /// Choose the format of a layer's keys or values; `None` keeps the run's setting.
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn plan(
        &mut self,
        host: &mut Host<'_>,
        question: &CodecQuestion,
    ) -> Result<Option<CodecFormat>>;
}

hook_functions! {
    fn plan<T: PlanHook>(
        question: *const abi::brl_plan_in,
        source: abi::brl_u32s,
        storage: abi::brl_u32s,
    ) = |plugin, host| {
        // SAFETY: the host's table, views and buffers, valid and the plugin's for this call.
        let (raw, planned) = unsafe {
            (table(question)?, Planned { source: source.slice_mut(), storage: storage.slice_mut() })
        };
        let trial = raw.similarity.map(|_| HostTrial { question: &raw });
        // SAFETY: the host's views, valid for this call.
        let shape = unsafe { raw.shape() };
        plugin.plan(host, &shape, trial, planned).map(status_of)
    }

    fn begin<T: KeepHook>(
        sequence: u64,
        prompt: u64,
        needs: *mut abi::brl_keep_needs,
    ) = |plugin, host| {
        host.sequence = sequence;
        let answer = plugin.begin(host, prompt as usize)?;
        // SAFETY: the host's table to be written.
        Ok(unsafe { write(needs, &abi::brl_keep_needs::new(&answer)) })
    }

    fn keep<T: KeepHook>(
        question: *const abi::brl_keep_in,
        eviction: *mut abi::brl_eviction,
    ) = |plugin, host| {
        // SAFETY: the host's tables and views, valid for this call.
        let (raw, mut out) = unsafe { (table(question)?, table(eviction.cast_const())?) };
        (host.sequence, host.step) = (raw.sequence, raw.step);
        // SAFETY: as above.
        let Some(answer) = plugin.keep(host, &unsafe { raw.question() })? else {
            return Ok(abi::BRL_DECLINED);
        };
        // SAFETY: the host's table and buffers, the plugin's for this call.
        unsafe {
            out.write(&answer)?;
            Ok(write(eviction, &out))
        }
    }

    fn codec<T: CodecHook>(
        question: *const abi::brl_codec_in,
        format: *mut abi::brl_codec_format,
    ) = |plugin, host| {
        // SAFETY: the host's table, valid for this call.
        let question = unsafe { table(question)? }.question();
        Ok(match plugin.plan(host, &question)? {
            // SAFETY: the host's table to be written.
            Some(answer) => unsafe { write(format, &abi::brl_codec_format::new(&answer)) },
            None => abi::BRL_DECLINED,
        })
    }
}

impl<T: PlanHook> HookTables<T> {
    /// The table of `kv.plan/1`.
    pub const PLAN: abi::brl_kv_plan = abi::brl_kv_plan {
        struct_size: size_of::<abi::brl_kv_plan>() as u64,
        needs: if T::TRIAL { abi::BRL_NEED_TRIAL } else { 0 },
        plan: Some(plan::<T>),
    };
}

impl<T: KeepHook> HookTables<T> {
    /// The table of `kv.keep/1`.
    pub const KEEP: abi::brl_kv_keep = abi::brl_kv_keep {
        struct_size: size_of::<abi::brl_kv_keep>() as u64,
        needs: 0,
        begin: Some(begin::<T>),
        keep: Some(keep::<T>),
    };
}

impl<T: CodecHook> HookTables<T> {
    /// The table of `kv.codec/1`.
    pub const CODEC: abi::brl_kv_codec = abi::brl_kv_codec {
        struct_size: size_of::<abi::brl_kv_codec>() as u64,
        needs: 0,
        plan: Some(codec::<T>),
    };
}
