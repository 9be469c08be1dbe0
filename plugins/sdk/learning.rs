//! The hook of masked training: [`MaskHook`].

use brillm_abi as abi;

use crate::entry::{HookTables, hook_functions, put, status_of, table};
use crate::{Answer, Host, MaskMoment, MaskOutcome, MaskTokens, Plugin, PluginError, Result};

/// `mask/1`: decides which tokens masked training hides.
pub trait MaskHook: Plugin {
    /// Return the fraction of tokens to mask, 0 to 1; `None` keeps the recipe's.
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn ratio(&mut self, _host: &mut Host<'_>, _moment: &MaskMoment) -> Result<Option<f64>> {
        Ok(None)
    }

    /// Write the relative probability of each token, 0 or more, initialised to 1. `weights [T]`
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn weigh(
        &mut self,
        _host: &mut Host<'_>,
        _tokens: &MaskTokens<'_>,
        _weights: &mut [f32],
    ) -> Result<Answer> {
        Ok(Answer::Declined)
    }

    /// Observe the losses of a step.
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn learn(&mut self, _host: &mut Host<'_>, _outcome: &MaskOutcome<'_>) -> Result<()> {
        Ok(())
    }

    /// Return the state for a checkpoint.
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn save(&mut self, _host: &mut Host<'_>) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    /// Restore the state of a checkpoint.
    ///
    /// # Errors
    /// [`PluginError::state`] for an invalid state.
    fn restore(&mut self, _host: &mut Host<'_>, state: &[u8]) -> Result<()> {
        if state.is_empty() {
            Ok(())
        } else {
            Err(PluginError::state("this plugin has no state"))
        }
    }
}

hook_functions! {
    fn ratio<T: MaskHook>(
        moment: *const abi::brl_mask_moment,
        ratio: *mut f64,
    ) = |plugin, host| {
        // SAFETY: the host's table, valid for this call.
        let moment = unsafe { table(moment)? }.moment();
        host.step = moment.step;
        match plugin.ratio(host, &moment)? {
            Some(answer) if !ratio.is_null() => {
                // SAFETY: not null, and the host's to be written.
                unsafe { ratio.write(answer) };
                Ok(abi::BRL_OK)
            }
            _ => Ok(abi::BRL_DECLINED),
        }
    }

    fn weigh<T: MaskHook>(
        tokens: *const abi::brl_mask_tokens,
        weights: abi::brl_f32s,
    ) = |plugin, host| {
        // SAFETY: the host's table and buffer, valid and the plugin's for this call.
        let (raw, weights) = unsafe { (table(tokens)?, weights.slice_mut()) };
        (host.sequence, host.step) = (raw.sequence, raw.step);
        // SAFETY: the host's views, valid for this call.
        let tokens = unsafe { raw.data() }.ok_or("allowed must be 0 or 1")?;
        plugin.weigh(host, &tokens, weights).map(status_of)
    }

    fn learn<T: MaskHook>(outcome: *const abi::brl_mask_outcome) = |plugin, host| {
        // SAFETY: the host's table, valid for this call.
        let raw = unsafe { table(outcome)? };
        host.step = raw.step;
        // SAFETY: the host's views, valid for this call.
        plugin.learn(host, &unsafe { raw.outcome() }).map(|()| abi::BRL_OK)
    }

    fn save<T: MaskHook>(state: *const abi::brl_sink) = |plugin, host| {
        let bytes = plugin.save(host)?;
        // SAFETY: the host's sink, valid for this call.
        unsafe { put(state, &bytes) }.map(|()| abi::BRL_OK)
    }

    fn restore<T: MaskHook>(state: abi::brl_str) = |plugin, host| {
        // SAFETY: the host's view, valid for this call.
        plugin.restore(host, unsafe { state.bytes() }).map(|()| abi::BRL_OK)
    }
}

impl<T: MaskHook> HookTables<T> {
    /// The table of `mask/1`.
    pub const MASK: abi::brl_mask = abi::brl_mask {
        struct_size: size_of::<abi::brl_mask>() as u64,
        needs: 0,
        ratio: Some(ratio::<T>),
        weigh: Some(weigh::<T>),
        learn: Some(learn::<T>),
        save: Some(save::<T>),
        restore: Some(restore::<T>),
    };
}
