//! `probe/1`, and the run's model as its functions query it.

use std::ffi::c_void;

use brillm_abi as abi;

use super::{Lent, PluginHook, collector, put};
use crate::Result;
use crate::hook::{Activations, Call, Probe, Subject, Tap};
use crate::plugin::instance::invalid_answer;
use crate::plugin::library::text;

impl Probe for PluginHook<abi::brl_probe> {
    fn wants(&self, tap: Tap) -> bool {
        match self.table.taps {
            Some(taps) => {
                let wanted = self.instance.look(|instance| {
                    // SAFETY: the instance is the plugin's, and no other call is in it.
                    unsafe { taps(instance) }
                });
                wanted & abi::tap_code(tap) != 0
            }
            None => false,
        }
    }

    fn see(&self, call: &Call<'_>, activations: &Activations<'_>) -> Result<()> {
        let Some(see) = self.table.see else {
            return Ok(());
        };
        let question = abi::brl_activations::new(call.sequence, call.step, activations);
        // SAFETY: the instance is the plugin's; question and frame live until the call returns.
        self.call(call, |instance, frame| unsafe {
            see(instance, frame, &raw const question)
        })?;
        Ok(())
    }

    fn report(&self, call: &Call<'_>) -> Result<Option<serde_json::Value>> {
        let Some(report) = self.table.report else {
            return Ok(None);
        };
        let mut records = Vec::new();
        let sink = collector(&mut records);
        // SAFETY: the instance is the plugin's; frame and sink live until the call returns.
        let answer = self.call(call, |instance, frame| unsafe {
            report(instance, frame, &raw const sink)
        })?;
        let read = |()| {
            serde_json::from_slice(&records.concat())
                .map_err(|error| invalid_answer(format!("its report is not JSON: {error}")))
        };
        answer.map(read).transpose()
    }

    fn asks(&self) -> bool {
        self.table.ask.is_some()
    }

    fn ask(&self, call: &Call<'_>, subject: &mut dyn Subject) -> Result<()> {
        let Some(ask) = self.table.ask else {
            return Ok(());
        };
        let shape = subject.shape();
        let mut lent = Lent::new(subject, &self.instance);
        let question = abi::brl_subject {
            struct_size: size_of::<abi::brl_subject>() as u64,
            kind: abi::subject_code(shape.kind),
            layers: shape.layers as u64,
            width: shape.width as u64,
            nodes: shape.nodes as u64,
            ctx: lent.pointer(),
            tokens: Some(tokens),
            resist: Some(resist),
            states: Some(states),
            untrained: Some(untrained),
            shift: Some(shift),
        };
        // SAFETY: the instance is the plugin's; frame, table and its context live until the call returns.
        let answer = self.call(call, |instance, frame| unsafe {
            ask(instance, frame, &raw const question)
        });
        match lent.failure("probe/1") {
            Some(error) => Err(error),
            None => answer.map(|_| ()),
        }
    }
}

type LentSubject<'a> = Lent<'a, &'a mut dyn Subject>;

/// Write numbers as one record.
///
/// # Safety
/// As [`put`].
unsafe fn put_numbers<T: bytemuck::NoUninit>(
    sink: *const abi::brl_sink,
    values: &[T],
) -> Result<abi::brl_status> {
    // SAFETY: as the caller promises.
    unsafe { put(sink, abi::brl_str::from_bytes(bytemuck::cast_slice(values))) }
}

unsafe extern "C" fn tokens(
    context: *mut c_void,
    words: abi::brl_str,
    out: *const abi::brl_sink,
) -> abi::brl_status {
    // SAFETY: the context is the one `ask` lends for its call; the plugin's text and sink are valid for this one.
    unsafe {
        LentSubject::run(context, |subject| {
            put_numbers(out, &subject.tokens(&text(words))?)
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
        LentSubject::run(context, |subject| {
            put_numbers(out, &subject.resist(&text(prompt), &text(reply))?)
        })
    }
}

unsafe extern "C" fn states(
    context: *mut c_void,
    state: u64,
    words: abi::brl_str,
    out: *const abi::brl_sink,
) -> abi::brl_status {
    let Some(state) = abi::state(state) else {
        return abi::BRL_E_ARG;
    };
    // SAFETY: as for `tokens`.
    unsafe {
        LentSubject::run(context, |subject| {
            put_numbers(out, &subject.states(state, &text(words))?)
        })
    }
}

unsafe extern "C" fn untrained(context: *mut c_void, seed: u64) -> abi::brl_status {
    let seed = (seed != 0).then_some(seed);
    // SAFETY: as for `tokens`.
    unsafe {
        LentSubject::run(context, |subject| {
            subject.untrained(seed).map(|()| abi::BRL_OK)
        })
    }
}

unsafe extern "C" fn shift(
    context: *mut c_void,
    node: u64,
    delta: abi::brl_tensor,
) -> abi::brl_status {
    // SAFETY: the plugin's numbers are valid for this call.
    let values = unsafe { delta.as_floats() };
    let (Ok(node), Ok(length)) = (u32::try_from(node), usize::try_from(delta.shape[0])) else {
        return abi::BRL_E_ARG;
    };
    if delta.rank != 1 || delta.dtype != abi::BRL_F32 || values.len() != length {
        return abi::BRL_E_ARG;
    }
    // SAFETY: as for `tokens`.
    unsafe {
        LentSubject::run(context, |subject| {
            subject.shift(node, values).map(|()| abi::BRL_OK)
        })
    }
}
