//! `corpus/1`.

use std::collections::HashSet;
use std::ffi::c_void;

use brillm_abi as abi;

use super::{Lent, PluginHook, put};
use crate::Result;
use crate::hook::{Call, Corpus, Generate, Reference, Speech};
use crate::plugin::instance::invalid_answer;
use crate::plugin::library::text;

type LentModel<'a> = Lent<'a, &'a mut dyn Generate>;
type LentRecords<'a> = Lent<'a, &'a mut dyn FnMut(&str) -> Result<()>>;

unsafe extern "C" fn generate(
    context: *mut c_void,
    prompt: abi::brl_str,
    tokens: u64,
    out: *const abi::brl_sink,
) -> abi::brl_status {
    let tokens = usize::try_from(tokens).unwrap_or(usize::MAX);
    // SAFETY: the context is the one `write` lends for its call; the plugin's text and sink are valid for this one.
    unsafe {
        LentModel::run(context, |model| {
            let answer = model.generate(&text(prompt), tokens)?;
            put(out, abi::brl_str::new(&answer))
        })
    }
}

unsafe extern "C" fn speak(
    context: *mut c_void,
    speech: *const abi::brl_speech,
    out: *const abi::brl_sink,
) -> abi::brl_status {
    // SAFETY: the plugin's table and texts are valid for this call.
    let (speech, [system, prompt, within]) = unsafe {
        let Some(speech) = abi::read(speech) else {
            return abi::BRL_E_ARG;
        };
        let texts = [speech.system, speech.prompt, speech.within].map(|view| text(view));
        (speech, texts)
    };
    let request = Speech {
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
    // SAFETY: the context is the one `write` lends for its call; the plugin's sink is valid for this one.
    unsafe {
        LentModel::run(context, |model| {
            let spoken = model.speak(&request)?;
            let end = if spoken.cut { "length" } else { "stop" };
            let fraction = spoken.grounded.map(|fraction| fraction.to_string());
            let records = [Some(spoken.text.as_str()), Some(end), fraction.as_deref()];
            for record in records.into_iter().flatten() {
                put(out, abi::brl_str::new(record))?;
            }
            Ok(abi::BRL_OK)
        })
    }
}

unsafe extern "C" fn grounded(
    context: *mut c_void,
    reference: abi::brl_str,
    said: abi::brl_str,
    fraction: *mut f64,
) -> abi::brl_status {
    if fraction.is_null() {
        return abi::BRL_E_ARG;
    }
    // SAFETY: the context is the one `write` lends for its call; the plugin's texts are valid for this one, and the
    // number, which is not null, is the plugin's to be written.
    unsafe {
        LentModel::run(context, |model| {
            let Some(value) = model.grounded(&text(reference), &text(said))? else {
                return Ok(abi::BRL_DECLINED);
            };
            fraction.write(value);
            Ok(abi::BRL_OK)
        })
    }
}

unsafe extern "C" fn written(context: *mut c_void, key: abi::brl_str) -> u64 {
    // SAFETY: the context is the set that `write` lends for its call; the plugin's text is valid for this one.
    unsafe {
        match context.cast::<HashSet<String>>().as_ref() {
            Some(keys) => u64::from(keys.contains(&text(key))),
            None => 0,
        }
    }
}

unsafe extern "C" fn take(context: *mut c_void, record: abi::brl_str) -> abi::brl_status {
    // SAFETY: the plugin's text is valid for this call.
    let record = unsafe { text(record) };
    let add = |records: &mut &mut dyn FnMut(&str) -> Result<()>| match serde_json::from_str::<
        serde_json::Value,
    >(&record)
    {
        Ok(value) if value.is_object() => records(&value.to_string()).map(|()| abi::BRL_OK),
        _ => {
            let begin: String = record.chars().take(80).collect();
            Err(invalid_answer(format!(
                "a record is not a JSON object: {begin}"
            )))
        }
    };
    // SAFETY: the context is the one `write` lends for its call.
    unsafe { LentRecords::run(context, add) }
}

impl Corpus for PluginHook<abi::brl_corpus> {
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
        let mut model = model.map(|model| Lent::new(model, &self.instance));
        let mut records = Lent::new(record, &self.instance);
        let generate_ctx = model.as_mut().map_or(std::ptr::null_mut(), Lent::pointer);
        let question = abi::brl_reference {
            struct_size: size_of::<abi::brl_reference>() as u64,
            sequence: call.sequence,
            id: abi::brl_str::new(reference.id),
            text: abi::brl_str::new(reference.text),
            generate_ctx,
            generate: model.as_ref().map(|_| generate as _),
            run_ctx: std::ptr::from_ref(reference.written).cast_mut().cast(),
            written: Some(written),
            speak: model.as_ref().map(|_| speak as _),
            grounded: model.as_ref().map(|_| grounded as _),
        };
        let sink = abi::brl_sink {
            ctx: records.pointer(),
            write: Some(take),
        };
        // SAFETY: the instance is the plugin's; question, frame and sink live until the call returns.
        let answer = self.call(call, |instance, frame| unsafe {
            write(instance, frame, &raw const question, &raw const sink)
        });
        let id = format!("reference {}", reference.id);
        let failure = model
            .and_then(|model| model.failure(&id))
            .or_else(|| records.failure(&id));
        match failure {
            Some(error) => Err(error.at("corpus/1")),
            None => answer.map(|_| ()),
        }
    }
}
