//! Making data: `corpus/1`.

use core::ffi::c_void;

use crate::value::{brl_call, brl_self, brl_sink, brl_status, brl_str};

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
