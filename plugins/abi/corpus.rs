//! Training data from reference texts: `corpus/1`.

use core::ffi::c_void;

use brillm_hook::Speech;

use crate::value::{brl_call, brl_self, brl_sink, brl_status, brl_str, size};

/// A request for generated text.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_speech {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// System message of a chat model.
    pub system: brl_str,
    /// Text to continue or to answer.
    pub prompt: brl_str,
    /// Maximum number of new tokens.
    pub tokens: u64,
    /// A text whose sub-graph is preferred; empty for none.
    pub within: brl_str,
    /// Bonus in nats for each hop of that sub-graph; infinity allows no other hop.
    pub gain: f64,
}

/// A text to make records of.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_reference {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Index of the text in the run, from 0.
    pub sequence: u64,
    /// Name of the text, unique within the run.
    pub id: brl_str,
    /// The text.
    pub text: brl_str,
    /// Context of `generate`, `speak` and `grounded`.
    pub generate_ctx: *mut c_void,
    /// Generate at most so many tokens after a prompt, with the run's model; one record. Null without a model.
    /// [instance]
    pub generate: Option<
        unsafe extern "C" fn(
            generate_ctx: *mut c_void,
            prompt: brl_str,
            tokens: u64,
            out: *const brl_sink,
        ) -> brl_status,
    >,
    /// Context of `written`.
    pub run_ctx: *mut c_void,
    /// Return 1 if the run's output contains a record with this `key`, otherwise 0. [instance]
    pub written: Option<unsafe extern "C" fn(run_ctx: *mut c_void, key: brl_str) -> u64>,
    /// As `generate`, within bounds. Two records: the text, then `stop`, or `length` if it was cut; if `within` is given
    /// and the tokens are known, a third: the fraction of the text's hops that are its hops, in decimals. [instance]
    pub speak: Option<
        unsafe extern "C" fn(
            generate_ctx: *mut c_void,
            speech: *const brl_speech,
            out: *const brl_sink,
        ) -> brl_status,
    >,
    /// Compute the fraction of the hops of `text` that are hops of `reference`; BRL_DECLINED if unknown. Null without a
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

/// `corpus/1`: makes records of reference texts (RefGPT).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_corpus {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// 0.
    pub needs: u64,
    /// Make records; each is one JSON object. [instance]
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
