//! Making data: `corpus/1`.

use core::ffi::c_void;

use brillm_hook::Speech;

use crate::value::{brl_call, brl_self, brl_sink, brl_status, brl_str, size};

/// What is to be said, and within which bounds.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_speech {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// What a chat model is told before the prompt.
    pub system: brl_str,
    /// What is continued, or answered.
    pub prompt: brl_str,
    /// New tokens at most.
    pub tokens: u64,
    /// A text whose sub-graph is preferred; empty for none.
    pub within: brl_str,
    /// What a hop of that sub-graph gains in nats; infinite, and no other is taken.
    pub gain: f64,
}

/// A text to make records of.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_reference {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Its place in the run, from 0.
    pub sequence: u64,
    /// Its name, unique within the run.
    pub id: brl_str,
    /// The text.
    pub text: brl_str,
    /// The host's, for `generate`.
    pub generate_ctx: *mut c_void,
    /// Lets the run's model continue a prompt by so many tokens at most; one record. Null without a model.
    /// [instance]
    pub generate: Option<
        unsafe extern "C" fn(
            generate_ctx: *mut c_void,
            prompt: brl_str,
            tokens: u64,
            out: *const brl_sink,
        ) -> brl_status,
    >,
    /// The host's, for `written`.
    pub run_ctx: *mut c_void,
    /// 1 where the run's output has a record whose field `key` is this one, else 0. [instance]
    pub written: Option<unsafe extern "C" fn(run_ctx: *mut c_void, key: brl_str) -> u64>,
    /// As `generate`, with bounds. Two records: the text, then `stop`, or `length` where it was cut; where `within` is given
    /// and the tokens are known, a third: the share of the text's hops that are its hops, in decimals. [instance]
    pub speak: Option<
        unsafe extern "C" fn(
            generate_ctx: *mut c_void,
            speech: *const brl_speech,
            out: *const brl_sink,
        ) -> brl_status,
    >,
    /// The share of the hops of `text` that are hops of `reference`; BRL_DECLINED where it is not known. Null without a
    /// model. [instance]
    pub grounded: Option<
        unsafe extern "C" fn(
            generate_ctx: *mut c_void,
            reference: brl_str,
            text: brl_str,
            share: *mut f64,
        ) -> brl_status,
    >,
}

/// `corpus/1`: reference texts become records (RefGPT).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_corpus {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// 0.
    pub needs: u64,
    /// Makes records; each is one JSON object. [instance]
    pub write: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            reference: *const brl_reference,
            records: *const brl_sink,
        ) -> brl_status,
    >,
}

impl brl_speech {
    /// Lend a request.
    pub fn new(speech: &Speech<'_>) -> Self {
        Self {
            struct_size: size::<Self>(),
            system: brl_str::new(speech.system),
            prompt: brl_str::new(speech.prompt),
            tokens: speech.tokens as u64,
            within: brl_str::new(speech.within),
            gain: speech.gain,
        }
    }
}
