//! Masked training: `mask/1`.

use brillm_hook::{MaskMoment, MaskOutcome, MaskTokens};

use crate::value::{
    brl_call, brl_f32s, brl_ids, brl_self, brl_sink, brl_status, brl_str, brl_tensor, size,
};

/// The progress of a training run.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_mask_moment {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Steps completed.
    pub step: u64,
    /// Total steps.
    pub steps: u64,
    /// Passes over the data so far.
    pub epoch: f64,
}

/// In `tags`: a token without a tag.
pub const BRL_UNTAGGED: u32 = 0xFFFF_FFFF;

/// The tokens of a sequence that may be masked.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_mask_tokens {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// The optimiser step.
    pub step: u64,
    /// Number of the sequence within the step.
    pub sequence: u64,
    /// Masking ratio of this step.
    pub ratio: f64,
    /// The tokens. [T]
    pub tokens: brl_ids,
    /// Their tags, `BRL_UNTAGGED` for none. [T], or empty if the run has none
    pub tags: brl_ids,
    /// Index of each token's word. [T], or empty
    pub words: brl_ids,
    /// 1 if a token may be masked. u8 [T]
    pub allowed: brl_tensor,
}

/// The losses of the tokens that a step masked.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_mask_outcome {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// The optimiser step.
    pub step: u64,
    /// The true tokens. [M]
    pub tokens: brl_ids,
    /// Their tags. [M], or empty
    pub tags: brl_ids,
    /// −ln p of each, not reduced. [M]
    pub losses: brl_tensor,
}

/// `mask/1`: which tokens masked training hides (masking ratio decay, weighted masking). The host draws, so runs replay.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_mask {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// 0.
    pub needs: u64,
    /// Return the fraction of tokens to mask, 0 to 1. May be null. [instance]
    pub ratio: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            moment: *const brl_mask_moment,
            ratio: *mut f64,
        ) -> brl_status,
    >,
    /// Write the relative probability of each token, 0 or more, initialised to 1. weights [T]. May be null. [instance]
    pub weigh: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            tokens: *const brl_mask_tokens,
            weights: brl_f32s,
        ) -> brl_status,
    >,
    /// Observe the losses of a step. May be null. [instance]
    pub learn: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            outcome: *const brl_mask_outcome,
        ) -> brl_status,
    >,
    /// Write the state for a checkpoint, in one record. May be null if there is none. [instance]
    pub save: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            state: *const brl_sink,
        ) -> brl_status,
    >,
    /// Restore the state of a checkpoint. Null if and only if `save` is. [instance]
    pub restore: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            state: brl_str,
        ) -> brl_status,
    >,
}

impl brl_mask_moment {
    /// Convert a moment.
    pub fn new(moment: &MaskMoment) -> Self {
        Self {
            struct_size: size::<Self>(),
            step: moment.step,
            steps: moment.steps,
            epoch: moment.epoch,
        }
    }

    /// Convert back.
    pub fn moment(&self) -> MaskMoment {
        MaskMoment {
            step: self.step,
            steps: self.steps,
            epoch: self.epoch,
        }
    }
}

impl brl_mask_tokens {
    /// Lend the tokens of a sequence.
    pub fn new(sequence: u64, step: u64, tokens: &MaskTokens<'_>) -> Self {
        let allowed = tokens.allowed;
        // SAFETY: a `bool` is one byte, 0 or 1, and the slice is valid as long as `tokens`.
        let allowed =
            unsafe { core::slice::from_raw_parts(allowed.as_ptr().cast(), allowed.len()) };
        Self {
            struct_size: size::<Self>(),
            step,
            sequence,
            ratio: tokens.ratio,
            tokens: brl_ids::new(tokens.tokens),
            tags: brl_ids::new(tokens.tags),
            words: brl_ids::new(tokens.words),
            allowed: brl_tensor::bytes(allowed),
        }
    }

    /// Convert back; `None` if `allowed` holds other bytes than 0 and 1.
    ///
    /// # Safety
    /// The views are valid for `'a`.
    pub unsafe fn data<'a>(&self) -> Option<MaskTokens<'a>> {
        // SAFETY: as the caller promises.
        unsafe {
            let allowed = self.allowed.as_bytes();
            if allowed.iter().any(|&byte| byte > 1) {
                return None;
            }
            Some(MaskTokens {
                tokens: self.tokens.slice(),
                tags: self.tags.slice(),
                words: self.words.slice(),
                // Bytes of 0 and 1 are values of `bool`.
                allowed: core::slice::from_raw_parts(allowed.as_ptr().cast(), allowed.len()),
                ratio: self.ratio,
            })
        }
    }
}

impl brl_mask_outcome {
    /// Lend the losses of a step.
    pub fn new(step: u64, outcome: &MaskOutcome<'_>) -> Self {
        Self {
            struct_size: size::<Self>(),
            step,
            tokens: brl_ids::new(outcome.tokens),
            tags: brl_ids::new(outcome.tags),
            losses: brl_tensor::vector(outcome.losses),
        }
    }

    /// # Safety
    /// The views are valid for `'a`.
    pub unsafe fn outcome<'a>(&self) -> MaskOutcome<'a> {
        // SAFETY: as the caller promises.
        unsafe {
            MaskOutcome {
                tokens: self.tokens.slice(),
                tags: self.tags.slice(),
                losses: self.losses.as_floats(),
            }
        }
    }
}
