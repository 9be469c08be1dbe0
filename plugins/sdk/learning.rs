//! Learning: [`Mask`].

use brillm_abi as abi;

use crate::door::{Tables, answered, enter};
use crate::{Answer, Call, Error, Plugin, Result, view};

/// Where in a training run a step is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskMoment {
    /// Steps taken.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Passes over the data so far.
    pub epoch: f64,
}

/// The tokens of a sequence that may be masked.
#[derive(Clone, Copy, Debug)]
pub struct MaskTokens<'a> {
    /// The optimiser step.
    pub step: u64,
    /// The sequence within the step.
    pub sequence: u64,
    /// The ratio that holds in this step.
    pub ratio: f64,
    /// The tokens. `[T]`
    pub tokens: &'a [u32],
    /// Their tags, [`Self::UNTAGGED`] for none. `[T]` or empty
    pub tags: &'a [u32],
    /// The word of each token, counted from 0. `[T]` or empty
    pub words: &'a [u32],
    /// 1 where a token may be masked. `[T]`
    pub allowed: &'a [u8],
}

impl MaskTokens<'_> {
    /// The tag of a token that has none.
    pub const UNTAGGED: u32 = abi::BRL_UNTAGGED;
}

/// What became of the tokens that a step masked.
#[derive(Clone, Copy, Debug)]
pub struct MaskOutcome<'a> {
    /// The optimiser step.
    pub step: u64,
    /// The true tokens. `[M]`
    pub tokens: &'a [u32],
    /// Their tags. `[M]` or empty
    pub tags: &'a [u32],
    /// −ln p of each, not reduced. `[M]`
    pub losses: &'a [f32],
}

/// `mask/1`: what masked training hides.
pub trait Mask: Plugin {
    /// The share of tokens to mask, 0 to 1; `None` keeps the recipe's.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn ratio(&mut self, _call: &mut Call<'_>, _moment: &MaskMoment) -> Result<Option<f64>> {
        Ok(None)
    }

    /// Relative chance of each token, 0 or more; all arrive as 1. `weights [T]`
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn weigh(
        &mut self,
        _call: &mut Call<'_>,
        _tokens: &MaskTokens<'_>,
        _weights: &mut [f32],
    ) -> Result<Answer> {
        Ok(Answer::Declined)
    }

    /// Told the losses of a step.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn learn(&mut self, _call: &mut Call<'_>, _outcome: &MaskOutcome<'_>) -> Result<()> {
        Ok(())
    }

    /// Its state, for a checkpoint.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn save(&mut self, _call: &mut Call<'_>) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    /// Takes the state of a checkpoint.
    ///
    /// # Errors
    /// [`Error::state`] for a state that is none of its own.
    fn restore(&mut self, _call: &mut Call<'_>, state: &[u8]) -> Result<()> {
        match state {
            [] => Ok(()),
            _ => Err(Error::state("this plugin keeps no state")),
        }
    }
}

unsafe extern "C" fn ratio<T: Mask>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    moment: *const abi::brl_mask_moment,
    ratio: *mut f64,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        // SAFETY: the host's table, valid for this call.
        let moment = unsafe { view::read(moment) }.ok_or("there is no moment")?;
        let moment = MaskMoment {
            step: moment.step,
            steps: moment.steps,
            epoch: moment.epoch,
        };
        match plugin.ratio(call, &moment)? {
            Some(answer) if !ratio.is_null() => {
                // SAFETY: not null, and the host's to be written.
                unsafe { ratio.write(answer) };
                Ok(abi::BRL_OK)
            }
            _ => Ok(abi::BRL_DECLINED),
        }
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

unsafe extern "C" fn weigh<T: Mask>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    tokens: *const abi::brl_mask_tokens,
    weights: abi::brl_f32s,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        // SAFETY: the host's table and buffer, valid and ours for this call.
        let (raw, weights) = unsafe { (view::read(tokens), view::floats_mut(weights)) };
        let raw = raw.ok_or("there are no tokens")?;
        // SAFETY: the host's views, valid for this call.
        let tokens = unsafe {
            MaskTokens {
                step: raw.step,
                sequence: raw.sequence,
                ratio: raw.ratio,
                tokens: view::ids(raw.tokens),
                tags: view::ids(raw.tags),
                words: view::ids(raw.words),
                allowed: view::dense(&raw.allowed, abi::BRL_U8),
            }
        };
        plugin.weigh(call, &tokens, weights).map(answered)
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

unsafe extern "C" fn learn<T: Mask>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    outcome: *const abi::brl_mask_outcome,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        // SAFETY: the host's table, valid for this call.
        let raw = unsafe { view::read(outcome) }.ok_or("there is no outcome")?;
        // SAFETY: the host's views, valid for this call.
        let outcome = unsafe {
            MaskOutcome {
                step: raw.step,
                tokens: view::ids(raw.tokens),
                tags: view::ids(raw.tags),
                losses: view::floats(&raw.losses),
            }
        };
        plugin.learn(call, &outcome).map(|()| abi::BRL_OK)
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

unsafe extern "C" fn save<T: Mask>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    state: *const abi::brl_sink,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        let bytes = plugin.save(call)?;
        // SAFETY: the host's sink, valid for this call.
        unsafe { crate::corpus::put(state, &bytes) }.map(|()| abi::BRL_OK)
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

unsafe extern "C" fn restore<T: Mask>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    state: abi::brl_str,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        // SAFETY: the host's view, valid for this call.
        let state = unsafe { view::bytes(state) };
        plugin.restore(call, state).map(|()| abi::BRL_OK)
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

impl<T: Mask> Tables<T> {
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
