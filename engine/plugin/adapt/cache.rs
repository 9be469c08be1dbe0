//! `kv.plan/1`, `kv.keep/1`, `kv.codec/1`.

use std::ffi::c_void;

use brillm_abi as abi;

use super::{Checked, Lent, PluginHook};
use crate::Result;
use crate::hook::{
    Answer, Call, Codec, CodecAxis, CodecFormat, CodecQuestion, Eviction, Keep, KeepNeeds,
    KeepQuestion, KvShape, Plan, Planned, Trial,
};

/// A trial as the plugin's functions access it.
struct TrialInput<'a> {
    trial: &'a mut dyn Trial,
    layers: usize,
}

type LentTrial<'a> = Lent<'a, TrialInput<'a>>;

unsafe extern "C" fn distances(
    context: *mut c_void,
    measure: u64,
    keys: *mut f64,
    values: *mut f64,
) -> abi::brl_status {
    let Some(measure) = abi::distance(measure) else {
        return abi::BRL_E_ARG;
    };
    if keys.is_null() || values.is_null() {
        return abi::BRL_E_ARG;
    }
    // SAFETY: the context is the one `plan` lends for its call; the plugin's buffers hold L·L numbers each.
    unsafe {
        LentTrial::run(context, |input| {
            let length = input.layers * input.layers;
            let keys = std::slice::from_raw_parts_mut(keys, length);
            let values = std::slice::from_raw_parts_mut(values, length);
            input.trial.distances(measure, keys, values)?;
            Ok(abi::BRL_OK)
        })
    }
}

unsafe extern "C" fn similarity(
    context: *mut c_void,
    source: *const u32,
    layers: u64,
    cosine: *mut f64,
) -> abi::brl_status {
    if source.is_null() || cosine.is_null() {
        return abi::BRL_E_ARG;
    }
    // SAFETY: the context is the one `plan` lends for its call; the plugin's map has L entries; the number is the
    // plugin's to be written.
    unsafe {
        LentTrial::run(context, |input| {
            if layers != input.layers as u64 {
                return Ok(abi::BRL_E_ARG);
            }
            let source = std::slice::from_raw_parts(source, input.layers);
            if check_map(source).is_err() {
                return Ok(abi::BRL_E_ARG);
            }
            cosine.write(input.trial.similarity(source)?);
            Ok(abi::BRL_OK)
        })
    }
}

/// Check that every layer reads itself, or an earlier layer that reads itself.
fn check_map(source: &[u32]) -> Checked<()> {
    for (layer, &from) in source.iter().enumerate() {
        if from as usize > layer || source[from as usize] != from {
            return Err(format!(
                "layer {layer} cannot read layer {from}: a source lies at or before its reader and reads itself"
            ));
        }
    }
    Ok(())
}

impl Plan for PluginHook<abi::brl_kv_plan> {
    fn tries(&self) -> bool {
        self.table.needs & abi::BRL_NEED_TRIAL != 0
    }

    fn plan(
        &self,
        call: &Call<'_>,
        shape: &KvShape<'_>,
        trial: Option<&mut dyn Trial>,
        planned: Planned<'_>,
    ) -> Result<Answer> {
        let Some(plan) = self.table.plan else {
            return Ok(Answer::Declined);
        };
        let layers = shape.layers;
        let mut lent = trial.map(|trial| Lent::new(TrialInput { trial, layers }, &self.instance));
        let mut question = abi::brl_plan_in::new(shape);
        if let Some(lent) = &mut lent {
            question.trial_ctx = lent.pointer();
            question.distances = Some(distances);
            question.similarity = Some(similarity);
        }
        let identity: Vec<u32> = (0..layers as u32).collect();
        let answer = self.answer(
            call,
            (),
            |instance, frame, _, scratch| {
                let source = abi::brl_u32s::new(scratch.first.load(&identity), layers);
                let storage = abi::brl_u32s::new(scratch.second.clear(layers), layers);
                // SAFETY: the instance is the plugin's; question, frame, trial and buffers live until the call returns.
                unsafe { plan(instance, frame, &raw const question, source, storage) }
            },
            |(), scratch| {
                let (source, storage) = (scratch.first.values(), scratch.second.values());
                check_map(source)?;
                match storage.iter().position(|bits| ![0, 16, 32].contains(bits)) {
                    Some(layer) => Err(format!(
                        "layer {layer} cannot be stored in {} bits",
                        storage[layer]
                    )),
                    None => Ok((source.to_vec(), storage.to_vec())),
                }
            },
        );
        // The plugin may continue after a failed trial; if it does not, the trial's error explains why.
        if answer.is_err()
            && let Some(error) = lent.and_then(|lent| lent.failure("kv.plan/1"))
        {
            return Err(error);
        }
        let Some((source, storage)) = answer? else {
            return Ok(Answer::Declined);
        };
        planned.source.copy_from_slice(&source);
        planned.storage.copy_from_slice(&storage);
        Ok(Answer::Given)
    }
}

impl Keep for PluginHook<abi::brl_kv_keep> {
    fn begin(&self, call: &Call<'_>, prompt: usize) -> Result<KeepNeeds> {
        let Some(begin) = self.table.begin else {
            return Ok(KeepNeeds::default());
        };
        let answer = self.answer(
            call,
            abi::brl_keep_needs::new(&KeepNeeds::default()),
            // SAFETY: the instance is the plugin's; frame and answer live until the call returns.
            |instance, frame, needs, _| unsafe {
                begin(instance, frame, call.sequence, prompt as u64, needs)
            },
            |needs, _| needs.needs(),
        )?;
        Ok(answer.unwrap_or_default())
    }

    fn keep(&self, call: &Call<'_>, question: &KeepQuestion<'_>) -> Result<Option<Eviction>> {
        let Some(keep) = self.table.keep else {
            return Ok(None);
        };
        let (slots, rows) = (question.positions.len(), question.stream.len());
        let raw = abi::brl_keep_in::new(call.sequence, call.step, question);
        let none = abi::brl_u32s::new(std::ptr::null_mut(), 0);
        self.answer(
            call,
            abi::brl_eviction::new(none, none),
            |instance, frame, eviction, scratch| {
                let first = abi::brl_u32s::new(scratch.first.clear(slots), slots);
                let second = abi::brl_u32s::new(scratch.second.clear(rows), rows);
                // SAFETY: the answer is the host's until the call; the instance is the plugin's; question, frame,
                // buffers and answer live until the call returns.
                unsafe {
                    eviction.write(abi::brl_eviction::new(first, second));
                    keep(instance, frame, &raw const raw, eviction)
                }
            },
            |eviction, scratch| {
                let eviction =
                    eviction.eviction(scratch.first.values(), scratch.second.values())?;
                eviction.check(question).map(|()| eviction)
            },
        )
    }
}

impl Codec for PluginHook<abi::brl_kv_codec> {
    fn plan(&self, call: &Call<'_>, question: &CodecQuestion) -> Result<Option<CodecFormat>> {
        let Some(plan) = self.table.plan else {
            return Ok(None);
        };
        let raw = abi::brl_codec_in::new(question);
        let initial = CodecFormat {
            bits: 0,
            group: 0,
            axis: CodecAxis::Token,
            residual: 0,
        };
        self.answer(
            call,
            abi::brl_codec_format::new(&initial),
            // SAFETY: the instance is the plugin's; question, frame and answer live until the call returns.
            |instance, frame, format, _| unsafe { plan(instance, frame, &raw const raw, format) },
            |format, _| format.format(),
        )
    }
}
