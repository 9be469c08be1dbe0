//! The run's model, as a probe behind the door asks it.

use std::ffi::c_void;

use brillm_abi as abi;

use super::size;
use crate::hook::{State, Subject, SubjectKind};
use crate::plugin::instance::Instance;
use crate::plugin::library::text;
use crate::{Error, ErrorKind, Result};

/// A subject as the door's functions are given it, and the first thing that went wrong in it.
pub(super) struct SubjectContext<'a> {
    subject: &'a mut dyn Subject,
    instance: &'a Instance,
    pub(super) error: Option<Error>,
}

impl<'a> SubjectContext<'a> {
    pub(super) fn new(subject: &'a mut dyn Subject, instance: &'a Instance) -> Self {
        Self {
            subject,
            instance,
            error: None,
        }
    }

    /// The table that a plugin is given; `self` must outlive its use.
    pub(super) fn table(&mut self) -> abi::brl_subject {
        let shape = self.subject.shape();
        abi::brl_subject {
            struct_size: size::<abi::brl_subject>(),
            kind: match shape.kind {
                SubjectKind::Graph => abi::BRL_SUBJECT_GRAPH,
                SubjectKind::Transformer => abi::BRL_SUBJECT_TRANSFORMER,
            },
            layers: shape.layers as u64,
            width: shape.width as u64,
            nodes: shape.nodes as u64,
            ctx: std::ptr::from_mut(self).cast(),
            tokens: Some(tokens),
            resist: Some(resist),
            states: Some(states),
            untrained: Some(untrained),
            shift: Some(shift),
        }
    }

    fn keep(&mut self, outcome: Result<()>) -> abi::brl_status {
        match outcome {
            Ok(()) => abi::BRL_OK,
            Err(error) => {
                let cancelled = error.kind() == ErrorKind::Cancelled;
                self.error.get_or_insert(error);
                match cancelled {
                    true => abi::BRL_E_CANCELLED,
                    false => abi::BRL_E_INTERNAL,
                }
            }
        }
    }
}

/// Runs a question on the subject behind a context.
///
/// # Safety
/// `context` is null or what [`SubjectContext::table`] gave out, alive and used by nobody else.
unsafe fn answer(
    context: *mut c_void,
    body: impl FnOnce(&mut dyn Subject) -> Result<()>,
) -> abi::brl_status {
    // SAFETY: as the caller promises.
    let Some(context) = (unsafe { context.cast::<SubjectContext<'_>>().as_mut() }) else {
        return abi::BRL_E_ARG;
    };
    let outcome = body(&mut *context.subject);
    context.instance.heard();
    context.keep(outcome)
}

/// Writes numbers as one record.
///
/// # Safety
/// `sink` is null or the plugin's, valid for this call.
unsafe fn write<T: bytemuck::NoUninit>(sink: *const abi::brl_sink, values: &[T]) -> Result<()> {
    let fault = |what: &str| Error::new(ErrorKind::Plugin, what.to_string());
    // SAFETY: as the caller promises.
    let sink = unsafe { sink.as_ref() }.ok_or_else(|| fault("it gave no sink"))?;
    let take = sink.write.ok_or_else(|| fault("its sink takes nothing"))?;
    let bytes: &[u8] = bytemuck::cast_slice(values);
    let record = abi::brl_str {
        ptr: bytes.as_ptr().cast(),
        len: bytes.len() as u64,
    };
    // SAFETY: the sink's own context; the bytes hold until the call returns.
    match unsafe { take(sink.ctx, record) } {
        abi::BRL_OK => Ok(()),
        status => Err(fault(&format!("its sink answered status {status}"))),
    }
}

unsafe extern "C" fn tokens(
    context: *mut c_void,
    words: abi::brl_str,
    out: *const abi::brl_sink,
) -> abi::brl_status {
    // SAFETY: the context is the one `ask` lends for its call; the plugin's text and sink hold for this one.
    unsafe {
        answer(context, |subject| {
            write(out, &subject.tokens(&text(words))?)
        })
    }
}

unsafe extern "C" fn resist(
    context: *mut c_void,
    prompt: abi::brl_str,
    reply: abi::brl_str,
    out: *const abi::brl_sink,
) -> abi::brl_status {
    // SAFETY: as for `tokens`.
    unsafe {
        answer(context, |subject| {
            write(out, &subject.resist(&text(prompt), &text(reply))?)
        })
    }
}

unsafe extern "C" fn states(
    context: *mut c_void,
    state: u64,
    words: abi::brl_str,
    out: *const abi::brl_sink,
) -> abi::brl_status {
    let state = match state {
        abi::BRL_STATE_NODE => State::Node,
        abi::BRL_STATE_SIGNAL => State::Signal,
        abi::BRL_STATE_ENERGY => State::Energy,
        abi::BRL_STATE_HIDDEN => State::Hidden,
        _ => return abi::BRL_E_ARG,
    };
    // SAFETY: as for `tokens`.
    unsafe {
        answer(context, |subject| {
            write(out, &subject.states(state, &text(words))?)
        })
    }
}

unsafe extern "C" fn untrained(context: *mut c_void, seed: u64) -> abi::brl_status {
    // SAFETY: as for `tokens`.
    unsafe {
        answer(context, |subject| {
            subject.untrained((seed != 0).then_some(seed))
        })
    }
}

unsafe extern "C" fn shift(
    context: *mut c_void,
    node: u64,
    delta: abi::brl_tensor,
) -> abi::brl_status {
    let (Ok(node), Ok(length)) = (u32::try_from(node), usize::try_from(delta.shape[0])) else {
        return abi::BRL_E_ARG;
    };
    if delta.dtype != abi::BRL_F32 || delta.rank != 1 || (length > 1 && delta.stride[0] != 1) {
        return abi::BRL_E_ARG;
    }
    let delta: &[f32] = match delta.ptr.is_null() || length == 0 {
        true => &[],
        // SAFETY: the plugin's numbers lie one after the other and hold for this call.
        false => unsafe { std::slice::from_raw_parts(delta.ptr.cast(), length) },
    };
    // SAFETY: as for `tokens`.
    unsafe { answer(context, |subject| subject.shift(node, delta)) }
}
