//! `corpus/1`.

use std::collections::HashSet;
use std::ffi::c_void;
use std::sync::Arc;

use brillm_abi as abi;

use super::{Asked, find, index, lacks, size};
use crate::hook::{Call, Corpus, Generate, Hooks, Reference, Speech};
use crate::plugin::instance::{Instance, nonsense};
use crate::plugin::library::{lend, text};
use crate::{Error, ErrorKind, Result};

const CORPUS: usize = index("corpus/1");

pub(super) fn install(
    instance: &Arc<Instance>,
    hooks: &mut Hooks,
    twice: &dyn Fn(&str) -> Error,
) -> Result<()> {
    if let Some(asked) = find::<abi::brl_corpus>(instance, "corpus/1") {
        if asked.table.write.is_none() {
            return Err(lacks(instance, "corpus/1", "write"));
        }
        if hooks.corpus.replace(Arc::new(asked)).is_some() {
            return Err(twice("corpus/1"));
        }
    }
    Ok(())
}

struct GenerateContext<'a> {
    generate: &'a mut dyn Generate,
    error: Option<Error>,
}

unsafe extern "C" fn generate(
    context: *mut c_void,
    prompt: abi::brl_str,
    tokens: u64,
    out: *const abi::brl_sink,
) -> abi::brl_status {
    // SAFETY: the context is the one `write` lends for its call.
    let Some(context) = (unsafe { context.cast::<GenerateContext<'_>>().as_mut() }) else {
        return abi::BRL_E_ARG;
    };
    // SAFETY: the plugin's text and sink hold for this call.
    let (prompt, sink) = unsafe { (text(prompt), out.as_ref()) };
    let Some((ctx, write)) = sink.and_then(|sink| Some((sink.ctx, sink.write?))) else {
        return abi::BRL_E_ARG;
    };
    let tokens = usize::try_from(tokens).unwrap_or(usize::MAX);
    match context.generate.generate(&prompt, tokens) {
        // SAFETY: the sink's own context; the text holds until the call returns.
        Ok(answer) => unsafe { write(ctx, lend(&answer)) },
        Err(error) => {
            let cancelled = error.kind() == ErrorKind::Cancelled;
            context.error.get_or_insert(error);
            if cancelled {
                abi::BRL_E_CANCELLED
            } else {
                abi::BRL_E_INTERNAL
            }
        }
    }
}

impl GenerateContext<'_> {
    fn failed(&mut self, error: Error) -> abi::brl_status {
        let cancelled = error.kind() == ErrorKind::Cancelled;
        self.error.get_or_insert(error);
        if cancelled {
            abi::BRL_E_CANCELLED
        } else {
            abi::BRL_E_INTERNAL
        }
    }
}

unsafe extern "C" fn speak(
    context: *mut c_void,
    speech: *const abi::brl_speech,
    out: *const abi::brl_sink,
) -> abi::brl_status {
    // SAFETY: the context is the one `write` lends for its call; the plugin's table and sink hold for this one.
    let (context, speech, sink) = unsafe {
        (
            context.cast::<GenerateContext<'_>>().as_mut(),
            crate::plugin::library::read(speech),
            out.as_ref(),
        )
    };
    let (Some(context), Some(speech)) = (context, speech) else {
        return abi::BRL_E_ARG;
    };
    let Some((ctx, write)) = sink.and_then(|sink| Some((sink.ctx, sink.write?))) else {
        return abi::BRL_E_ARG;
    };
    // SAFETY: the plugin's texts hold for this call.
    let (system, prompt, within) = unsafe {
        (
            text(speech.system),
            text(speech.prompt),
            text(speech.within),
        )
    };
    let asked = Speech {
        system: &system,
        prompt: &prompt,
        tokens: usize::try_from(speech.tokens).unwrap_or(usize::MAX),
        within: &within,
        gain: if speech.gain.is_nan() {
            0.0
        } else {
            speech.gain
        },
    };
    match context.generate.speak(&asked) {
        Ok(spoken) => {
            let end = if spoken.cut { "length" } else { "stop" };
            let share = spoken.grounded.map(|share| share.to_string());
            for said in [Some(spoken.text.as_str()), Some(end), share.as_deref()]
                .into_iter()
                .flatten()
            {
                // SAFETY: the sink's own context; the text holds until the call returns.
                match unsafe { write(ctx, lend(said)) } {
                    abi::BRL_OK => {}
                    status => return status,
                }
            }
            abi::BRL_OK
        }
        Err(error) => context.failed(error),
    }
}

unsafe extern "C" fn grounded(
    context: *mut c_void,
    reference: abi::brl_str,
    said: abi::brl_str,
    share: *mut f64,
) -> abi::brl_status {
    // SAFETY: the context is the one `write` lends for its call.
    let Some(context) = (unsafe { context.cast::<GenerateContext<'_>>().as_mut() }) else {
        return abi::BRL_E_ARG;
    };
    if share.is_null() {
        return abi::BRL_E_ARG;
    }
    // SAFETY: the plugin's texts hold for this call.
    let (reference, said) = unsafe { (text(reference), text(said)) };
    match context.generate.grounded(&reference, &said) {
        Ok(Some(value)) => {
            // SAFETY: not null, and the plugin's to be written.
            unsafe { share.write(value) };
            abi::BRL_OK
        }
        Ok(None) => abi::BRL_DECLINED,
        Err(error) => context.failed(error),
    }
}

unsafe extern "C" fn written(context: *mut c_void, key: abi::brl_str) -> u64 {
    // SAFETY: the context is the set that `write` lends for its call; the plugin's text holds for this one.
    unsafe {
        match context.cast::<HashSet<String>>().as_ref() {
            Some(keys) => u64::from(keys.contains(&text(key))),
            None => 0,
        }
    }
}

struct RecordContext<'a> {
    record: &'a mut dyn FnMut(&str) -> Result<()>,
    error: Option<Error>,
}

unsafe extern "C" fn take(context: *mut c_void, record: abi::brl_str) -> abi::brl_status {
    // SAFETY: the context is the one `write` lends for its call.
    let Some(context) = (unsafe { context.cast::<RecordContext<'_>>().as_mut() }) else {
        return abi::BRL_E_ARG;
    };
    // SAFETY: the plugin's text holds for this call.
    let record = unsafe { text(record) };
    let outcome = match serde_json::from_str::<serde_json::Value>(&record) {
        Ok(value) if value.is_object() => (context.record)(&value.to_string()),
        _ => {
            let begin: String = record.chars().take(80).collect();
            Err(nonsense(format!("a record is not a JSON object: {begin}")))
        }
    };
    match outcome {
        Ok(()) => abi::BRL_OK,
        Err(error) => {
            context.error.get_or_insert(error);
            abi::BRL_E_ARG
        }
    }
}

impl Corpus for Asked<abi::brl_corpus> {
    fn write(
        &self,
        call: &Call<'_>,
        reference: &Reference<'_>,
        model: Option<&mut dyn Generate>,
        record: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let Some(write) = self.table.write else {
            return Ok(());
        };
        let mut model = model.map(|generate| GenerateContext {
            generate,
            error: None,
        });
        let mut records = RecordContext {
            record,
            error: None,
        };
        let generate_ctx: *mut c_void = model
            .as_mut()
            .map_or(std::ptr::null_mut(), |context| (&raw mut *context).cast());
        let question = abi::brl_reference {
            struct_size: size::<abi::brl_reference>(),
            sequence: call.sequence,
            id: lend(reference.id),
            text: lend(reference.text),
            generate_ctx,
            generate: if generate_ctx.is_null() {
                None
            } else {
                Some(generate)
            },
            run_ctx: std::ptr::from_ref(reference.written).cast_mut().cast(),
            written: Some(written),
            speak: if generate_ctx.is_null() {
                None
            } else {
                Some(speak)
            },
            grounded: if generate_ctx.is_null() {
                None
            } else {
                Some(grounded)
            },
        };
        let sink = abi::brl_sink {
            ctx: (&raw mut records).cast(),
            write: Some(take),
        };
        let answer = self.instance.ask(
            CORPUS,
            call,
            // SAFETY: the instance is the plugin's; question, frame and sink live until it returns.
            |instance, frame, _| unsafe {
                write(instance, frame, &raw const question, &raw const sink)
            },
            |_| Ok(()),
        );
        // What the host met says more than what the plugin made of it.
        let own = model.and_then(|context| context.error).or(records.error);
        match own {
            Some(error) => Err(error
                .at(format!("reference {}", reference.id))
                .at("corpus/1")
                .at(format!("plugin {}", self.instance.id()))),
            None => answer.map(|_| ()),
        }
    }
}
